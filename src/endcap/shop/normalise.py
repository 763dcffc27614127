"""Source rows to canonical ones, each with the reason why it is refused or none: Ibis expressions, any engine.

Every rule of what a good row is stands here. An expression never fails on a value: what cannot be read becomes a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from endcap.errors import InputError
from endcap.shop.columns import ATTRIBUTE_TEXTS, FOLDED, NUMBERS, TEXTS, VECTOR_PREFIX, Chosen
from endcap.shop.interactions import FURTHER_KINDS, RETURN, SEARCH, Interactions
from endcap.shop.options import IGNORE

# Columns that readers add to a source's own.
LINE, MALFORMED = "__line", "__malformed"

MAX_ID_BYTES = 512
RAW_VALUE_CHARACTERS = 200
ANONYMOUS = "anonymous:"

IGNORED, DUPLICATE, DUPLICATE_EVENT = "ignored by mapping", "duplicate", "duplicate event_id"
NOT_BAD = (IGNORED, DUPLICATE, DUPLICATE_EVENT)  # rejected, and yet no sign of a bad file

CONTROL_CHARACTERS = r"[\x00-\x1f\x7f]"
MIDNIGHTS = {"seconds": 10**11, "milliseconds": 10**14, "microseconds": 10**17}  # first number of the next unit

BOOLEANS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


@ibis.udf.scalar.builtin(name="strlen")
def _bytes(text: str) -> int:  # type: ignore[empty-body]
    """Length in UTF-8. (Spark: octet_length.)"""


@ibis.udf.scalar.builtin(name="epoch_us")
def _microseconds(moment: dt.Timestamp(timezone="UTC")) -> int:  # type: ignore[empty-body,valid-type]
    """Microseconds since 1970 UTC. (Spark: unix_micros.)"""


@dataclass(frozen=True)
class EventRules:
    """What decides about an event row.

    Attributes:
        codes: the interaction's text in the source to its code; ignored: texts mapped to `-`.
        first, last: possible times, microseconds.
    """

    codes: Mapping[str, int]
    ignored: tuple[str, ...]
    default: int | None
    keep_anonymous: bool
    first: int
    last: int


def interaction_codes(
    interactions: Interactions, pairs: tuple[tuple[str, str], ...]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The code of every text that an interaction may have in the source, and the texts to ignore.

    Raises:
        InputError: if a mapping names an interaction that the shop does not have.
    """
    ours = {name: code for code, name in enumerate(interactions.names)} | FURTHER_KINDS
    codes = dict(ours)
    ignored = []
    for theirs, name in pairs:
        codes.pop(theirs, None)
        if name == IGNORE:
            ignored.append(theirs)
        elif name in ours:
            codes[theirs] = ours[name]
        else:
            raise InputError(
                f"--interactions {theirs}={name}: this shop has no interaction {name!r}; it has {', '.join(ours)}"
                " (for a list of your own, weak to strong: --strength a,b,c; to ignore rows: theirs=-)"
            )
    return codes, tuple(ignored)


def event_rows(table: ir.Table, chosen: Chosen, rules: EventRules, source: int) -> ir.Table:
    """Canonical event rows of one source: `reason` null for good ones, else `raw` holds what the source said."""
    cell = {ours: table[theirs] for ours, theirs in chosen.theirs.items()}
    texts = {name: _text(cell[name], name) if name in cell else _null("string") for name in (*TEXTS, *FOLDED)}
    numbers = {name: _number(cell[name], name) if name in cell else _null("float64") for name in NUMBERS}
    item = _id(cell["item"], "item")
    user = _id(cell["user"], "user")
    session = _id(cell["session"], "session") if "session" in cell else _null("string")
    if rules.keep_anonymous:
        user = user.coalesce(ibis.literal(ANONYMOUS) + session)
    time = _time(cell["time"])
    said = _text(cell["interaction"], "interaction") if "interaction" in cell else _null("string")
    code = _code(said, rules)
    search = (code == SEARCH).fill_null(False)
    unreadable = reduce(
        ir.BooleanValue.__or__,
        (_unreadable(cell[name], numbers[name]) for name in NUMBERS if name in cell),
        ibis.literal(False),
    )
    reason = ibis.cases(
        (_malformed(table).notnull(), "malformed row"),
        (said.isin(rules.ignored) if rules.ignored else ibis.literal(False), IGNORED),
        (user.isnull(), "missing user"),
        (item.isnull() & ~search, "missing item"),
        (search & texts["query"].isnull(), "missing query"),
        (_has_control(user) | _has_control(item), "control character in id"),
        ((_bytes(user) > MAX_ID_BYTES) | (_bytes(item) > MAX_ID_BYTES).fill_null(False), "id too long"),
        (time.isnull(), "unparsable time"),
        (~time.between(rules.first, rules.last), "impossible time"),
        (code.isnull(), "unknown interaction"),
        (unreadable, "unparsable number"),
        ((numbers["price"] < 0).fill_null(False), "negative price"),
        (((numbers["quantity"] < 0) & (code != RETURN)).fill_null(False), "negative quantity"),
    )
    return table.select(
        source=ibis.literal(source, "int32"),
        line=table[LINE].cast("int64"),
        user=user,
        item=item,
        interaction=code,
        time=time,
        session_id=session,
        **{name: texts[name] for name in (*TEXTS, *FOLDED) if name not in ("session", "price")},
        price=numbers["price"],
        quantity=numbers["quantity"].abs().cast("float32"),
        position=numbers["position"].try_cast("int32"),
        reason=reason,
        raw=ibis.ifelse(reason.notnull(), _malformed(table).coalesce(_raw(table, chosen)), _null("string")),
    )


def item_rows(table: ir.Table, chosen: Chosen, source: int) -> ir.Table:
    """Canonical item rows of one source, as `event_rows`; `vector_*` columns come as float32 lists."""
    cell = {ours: table[theirs] for ours, theirs in chosen.theirs.items()}
    item = _id(cell["item"], "item")
    numbers = {name: _number(cell[name], name) if name in cell else _null("float64") for name in ("price", "margin")}
    launched = _time(cell["launched"]) if "launched" in cell else _null("int64")
    in_stock = _boolean(cell["in_stock"]) if "in_stock" in cell else _null("boolean")
    vectors = {name: _vector(column, name) for name, column in cell.items() if name.startswith(VECTOR_PREFIX)}
    unreadable = [_unreadable(cell[name], numbers[name]) for name in numbers if name in cell]
    unreadable += [_unreadable(cell[name], vector) for name, vector in vectors.items()]
    reason = ibis.cases(
        (_malformed(table).notnull(), "malformed row"),
        (item.isnull(), "missing item"),
        (_has_control(item), "control character in id"),
        (_bytes(item) > MAX_ID_BYTES, "id too long"),
        (reduce(ir.BooleanValue.__or__, unreadable, ibis.literal(False)), "unparsable number"),
        (_unreadable(cell["in_stock"], in_stock) if "in_stock" in cell else ibis.literal(False), "unparsable in_stock"),
        (_unreadable(cell["launched"], launched) if "launched" in cell else ibis.literal(False), "unparsable time"),
        ((numbers["price"] < 0).fill_null(False), "negative price"),
    )
    return table.select(
        source=ibis.literal(source, "int32"),
        line=table[LINE].cast("int64"),
        item=item,
        **{name: _text(cell[name], name) if name in cell else _null("string") for name in ATTRIBUTE_TEXTS},
        **numbers,
        in_stock=in_stock,
        launched=launched,
        **vectors,
        reason=reason,
        raw=ibis.ifelse(reason.notnull(), _malformed(table).coalesce(_raw(table, chosen)), _null("string")),
    )


def _null(kind: str) -> ir.Value:
    return ibis.null(kind)


def _malformed(table: ir.Table) -> ir.StringValue:
    return table[MALFORMED] if MALFORMED in table.columns else _null("string")


def _raw(table: ir.Table, chosen: Chosen) -> ir.StringValue:
    """`theirs=value, ...` of the columns that are taken, each once."""
    names = dict.fromkeys(theirs for ours, theirs in chosen.theirs.items() if not ours.startswith(VECTOR_PREFIX))
    parts = [ibis.literal(f"{name}=") + table[name].cast("string").substr(0, RAW_VALUE_CHARACTERS) for name in names]
    return ibis.literal(", ").join(parts)


def _text(column: ir.Value, name: str) -> ir.StringValue:
    """Any scalar as text; blank is null; a whole number has no decimal point."""
    kind = column.type()
    if kind.is_string():
        text = column
    elif kind.is_floating() or kind.is_decimal():
        number = column.cast("float64")
        whole = (number == number.floor()) & number.between(-1e15, 1e15)
        text = ibis.ifelse(whole, number.try_cast("int64").cast("string"), column.cast("string"))
        text = ibis.ifelse(number.isnan(), _null("string"), text)
    elif kind.is_array() or kind.is_struct() or kind.is_map():
        raise InputError(f"the column for {name} holds {kind} values; plain ids or texts are needed")
    else:
        text = column.cast("string")
    return ibis.ifelse(text.strip() == "", _null("string"), text)


def _id(column: ir.Value, name: str) -> ir.StringValue:
    """An id as text. Text formats know no types, and tables with gaps write 123 as 123.0: it is 123 here, too."""
    text = _text(column, name)
    if not column.type().is_string():
        return text
    return ibis.ifelse(text.endswith(".0"), text.re_replace(r"^(-?\d+)\.0$", r"\1"), text)


def _has_control(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(CONTROL_CHARACTERS).fill_null(False)


def _code(said: ir.StringValue, rules: EventRules) -> ir.IntegerValue:
    branches = [(said == text, ibis.literal(code, "int8")) for text, code in rules.codes.items()]
    if rules.default is not None:
        branches.append((said.isnull(), ibis.literal(rules.default, "int8")))
    return ibis.cases(*branches)


def _number(column: ir.Value, name: str) -> ir.FloatingValue:
    """A finite number, else null."""
    kind = column.type()
    if kind.is_array() or kind.is_struct() or kind.is_map() or kind.is_temporal():
        raise InputError(f"the column for {name} holds {kind} values; numbers are needed")
    number = (column.strip() if kind.is_string() else column).try_cast("float64")
    return ibis.ifelse(number.isnan() | number.isinf(), _null("float64"), number)


def _unreadable(column: ir.Value, value: ir.Value) -> ir.BooleanValue:
    """Something stands in the source and could not be read. Not-a-number is how tables write nothing."""
    kind = column.type()
    if kind.is_string():
        stands = column.strip() != ""
    elif kind.is_floating():
        stands = ~column.isnan()
    else:
        stands = column.notnull()
    return (stands & value.isnull()).fill_null(False)


def _boolean(column: ir.Value) -> ir.BooleanValue:
    text = _text(column, "in_stock").lower().strip()
    return ibis.cases(*((text == word, ibis.literal(meaning)) for word, meaning in BOOLEANS.items()))


def _vector(column: ir.Value, name: str) -> ir.ArrayValue:
    kind = column.type()
    if not (kind.is_array() or kind.is_string()):
        raise InputError(f"the column for {name} holds {kind} values; lists of numbers are needed")
    return column.try_cast("array<float32>")


def _time(column: ir.Value) -> ir.IntegerValue:
    """Microseconds since 1970 UTC from numbers of any unit, timestamps, dates or ISO 8601; null where unreadable.

    A naive time is one of the engine session's time zone.
    """
    kind = column.type()
    if kind.is_integer():
        return _by_magnitude(column.try_cast("int64"))
    if kind.is_floating() or kind.is_decimal():
        return _by_magnitude(column.cast("float64"))
    if kind.is_timestamp() or kind.is_date():
        return _microseconds(column.cast(dt.Timestamp(timezone="UTC")))
    if not kind.is_string():
        raise InputError(f"the column for time holds {kind} values; numbers, timestamps or ISO 8601 are needed")
    fraction = column.contains(".") | column.lower().contains("e")
    number = ibis.ifelse(
        fraction, _by_magnitude(column.try_cast("float64")), _by_magnitude(column.try_cast("int64"))
    )
    # A four-digit year first: the engine's own words such as 'epoch' or 'infinity' are no times of a shop.
    written = column.strip().re_search(r"^\d{4}-")
    moment = ibis.ifelse(written, column, _null("string")).try_cast(dt.Timestamp(timezone="UTC"))
    return number.coalesce(_microseconds(moment))


def _by_magnitude(number: ir.NumericValue) -> ir.IntegerValue:
    """Seconds, milli-, micro- or nanoseconds since 1970: from 1990 to 5138 their ranges do not overlap."""

    def within(bound: int) -> ir.BooleanValue:
        return number.between(-bound, bound)

    return ibis.cases(
        (within(MIDNIGHTS["seconds"]), (number * 1_000_000).round().try_cast("int64")),
        (within(MIDNIGHTS["milliseconds"]), (number * 1_000).round().try_cast("int64")),
        (within(MIDNIGHTS["microseconds"]), number.round().try_cast("int64")),
        else_=(number / 1_000).floor().try_cast("int64")
        if number.type().is_floating()
        else (number // 1_000).try_cast("int64"),
    )
