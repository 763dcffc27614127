"""Source rows to canonical ones, each with the reason why it is refused or none: Ibis expressions, any engine.

Every rule of what a good row is stands here. No expression fails on a value: what cannot be read becomes a reason.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import numpy as np

from endcap.errors import InputError
from endcap.shop.columns import ATTRIBUTE_TEXTS, FOLDED, NUMBERS, TEXTS, VECTOR_PREFIX, Chosen
from endcap.shop.interactions import FURTHER_KINDS, RETURN, SEARCH, Interactions
from endcap.shop.options import IGNORE

# Columns that readers add to a source's own.
LINE, MALFORMED = "__line", "__malformed"

SAID = "__said_"  # before the names of source columns that are kept for the quarantine

MAX_ID_BYTES = 512
RAW_VALUE_CHARACTERS = 200
ANONYMOUS = "anonymous:"

IGNORED, DUPLICATE, DUPLICATE_EVENT = "ignored by mapping", "duplicate", "duplicate event_id"
NOT_BAD = (IGNORED, DUPLICATE, DUPLICATE_EVENT)  # rejected, and yet no sign of a bad file

CONTROL_CHARACTERS = r"[\x00-\x1f\x7f]"
# Seconds, milliseconds, microseconds: how many microseconds one has, and the first number that is no time in it.
UNITS = ((1_000_000, 10**11), (1_000, 10**14), (1, 10**17))

# The largest numbers that columns narrower than float64 can store.
LARGEST = {"quantity": float(np.finfo(np.float32).max), "position": np.iinfo(np.int32).max}

BOOLEANS = {"true": True, "t": True, "yes": True, "1": True, "false": False, "f": False, "no": False, "0": False}


@ibis.udf.scalar.builtin(name="strlen")
def _bytes(text: str) -> int:  # type: ignore[empty-body]
    """Length in UTF-8. (Spark: octet_length.)"""


@ibis.udf.scalar.builtin(name="epoch_us")
def microseconds_of(moment: dt.Timestamp(timezone="UTC")) -> int:  # type: ignore[empty-body,valid-type]
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


def event_cells(table: ir.Table, chosen: Chosen, rules: EventRules, source: int, wanted: Collection[str]) -> ir.Table:
    """The columns of one event source in canonical form, null where missing or unreadable, to be judged.

    `wanted` are the optional columns to have, those of all sources that go into one table.
    """
    cell = {ours: table[theirs] for ours, theirs in chosen.theirs.items()}
    texts = [name for name in dict.fromkeys((*TEXTS, *FOLDED)) if name in wanted and name not in ("session", "price")]
    numbers = {
        name: _number(cell[name], name) if name in cell else _null("float64") for name in NUMBERS if name in wanted
    }
    user, session = _id(cell["user"], "user"), _null("string")
    if "session" in cell:
        session = _id(cell["session"], "session")
        if rules.keep_anonymous:
            user = user.coalesce(ibis.literal(ANONYMOUS) + session)
    said = _text(cell["interaction"], "interaction") if "interaction" in cell else ibis.literal("").nullif("")
    return table.select(
        source=ibis.literal(source, "int32"),
        line=table[LINE].cast("int64"),
        user=user,
        item=_id(cell["item"], "item"),
        interaction=_code(said, rules),
        time=_time(cell["time"]),
        **({"session_id": session} if "session" in wanted else {}),
        **{name: _text(cell[name], name) if name in cell else _null("string") for name in texts},
        **numbers,
        ignored=said.isin(rules.ignored) if rules.ignored else ibis.literal(False),
        unreadable=_any([_unreadable(cell[name], numbers[name]) for name in numbers if name in cell]),
        malformed=_malformed(table),
        **_said(table, chosen),
    )


def judge_events(cells: ir.Table, rules: EventRules) -> ir.Table:
    """Event cells with `reason`, null for good rows, and `raw`, what the source said, null for good rows."""
    search = (cells.interaction == SEARCH).fill_null(False)
    branches = [
        (cells.malformed.notnull(), "malformed row"),
        (cells.ignored, IGNORED),
        (cells.user.isnull(), "missing user"),
        (cells.item.isnull() & ~search, "missing item"),
        (search & cells["query"].isnull() if "query" in cells.columns else search, "missing query"),
        (_has_control(cells.user) | _has_control(cells.item), "control character in id"),
        (_too_long(cells.user) | _too_long(cells.item), "id too long"),
        (cells.time.isnull(), "unparsable time"),
        (~cells.time.between(rules.first, rules.last), "impossible time"),
        (cells.interaction.isnull(), "unknown interaction"),
        (cells.unreadable, "unparsable number"),
    ]
    stored = {}
    if "price" in cells.columns:
        branches.append(((cells.price < 0).fill_null(False), "negative price"))
    if "quantity" in cells.columns:
        negative = (cells.quantity < 0) & (cells.interaction != RETURN)
        branches.append((negative.fill_null(False), "negative quantity"))
        stored["quantity"] = cells.quantity.abs().cast("float32")
    if "position" in cells.columns:
        stored["position"] = cells.position.try_cast("int32")
    return _with_reason(cells, ibis.cases(*branches)).mutate(**stored).drop("ignored")


def item_cells(table: ir.Table, chosen: Chosen, source: int) -> ir.Table:
    """The columns of one items source in canonical form, as `event_cells`; `vector_*` columns as float32 lists."""
    cell = {ours: table[theirs] for ours, theirs in chosen.theirs.items()}
    numbers = {name: _number(cell[name], name) if name in cell else _null("float64") for name in ("price", "margin")}
    launched = _time(cell["launched"]) if "launched" in cell else _null("int64")
    in_stock = _boolean(cell["in_stock"]) if "in_stock" in cell else _null("boolean")
    vectors = {name: _vector(column, name) for name, column in cell.items() if name.startswith(VECTOR_PREFIX)}
    unreadable = [_unreadable(cell[name], value) for name, value in (numbers | vectors).items() if name in cell]
    return table.select(
        source=ibis.literal(source, "int32"),
        line=table[LINE].cast("int64"),
        item=_id(cell["item"], "item"),
        **{name: _text(cell[name], name) if name in cell else _null("string") for name in ATTRIBUTE_TEXTS},
        **numbers,
        in_stock=in_stock,
        launched=launched,
        **vectors,
        unreadable=_any(unreadable),
        unbounded=_any([_not_finite(value) for value in vectors.values()]),
        unclear_stock=_unreadable(cell["in_stock"], in_stock) if "in_stock" in cell else ibis.literal(False),
        unclear_launch=_unreadable(cell["launched"], launched) if "launched" in cell else ibis.literal(False),
        malformed=_malformed(table),
        **_said(table, chosen),
    )


def judge_items(cells: ir.Table) -> ir.Table:
    """Item cells with `reason` and `raw`, as `judge_events`."""
    reason = ibis.cases(
        (cells.malformed.notnull(), "malformed row"),
        (cells.item.isnull(), "missing item"),
        (_has_control(cells.item), "control character in id"),
        (_too_long(cells.item), "id too long"),
        (cells.unreadable, "unparsable number"),
        (cells.unbounded, "not-a-number in vector"),
        (cells.unclear_stock, "unparsable in_stock"),
        (cells.unclear_launch, "unparsable time"),
        ((cells.price < 0).fill_null(False), "negative price"),
    )
    return _with_reason(cells, reason).drop("unbounded", "unclear_stock", "unclear_launch")


def _with_reason(cells: ir.Table, reason: ir.StringValue) -> ir.Table:
    """Add `reason` and `raw`: `theirs=value, ...` of a refused row, or its text where it is no record."""
    said = [name for name in cells.columns if name.startswith(SAID)]
    quoted = [
        ibis.literal(f"{name.removeprefix(SAID)}=") + cells[name].cast("string").substr(0, RAW_VALUE_CHARACTERS)
        for name in said
    ]
    raw = ibis.ifelse(reason.notnull(), cells.malformed.coalesce(ibis.literal(", ").join(quoted)), _null("string"))
    return cells.mutate(reason=reason, raw=raw).drop("malformed", "unreadable", *said)


def _null(kind: str) -> ir.Value:
    return ibis.null(kind)


def _any(conditions: list[ir.BooleanValue]) -> ir.BooleanValue:
    return reduce(ir.BooleanValue.__or__, conditions, ibis.literal(False))


def _malformed(table: ir.Table) -> ir.StringValue:
    return table[MALFORMED] if MALFORMED in table.columns else _null("string")


def _said(table: ir.Table, chosen: Chosen) -> dict[str, ir.Value]:
    """The source columns that are taken, each once, to be quoted in `raw`."""
    names = dict.fromkeys(theirs for ours, theirs in chosen.theirs.items() if not ours.startswith(VECTOR_PREFIX))
    return {f"{SAID}{name}": table[name] for name in names}


def _text(column: ir.Value, name: str) -> ir.StringValue:
    """Any scalar as text; blank is null; a whole number has no decimal point."""
    kind = column.type()
    if kind.is_string():
        text = column
    elif kind.is_floating() or kind.is_decimal():
        number = column.cast("float64")
        whole = number.try_cast("int64")
        text = ibis.ifelse(whole.cast("float64") == number, whole.cast("string"), column.cast("string"))
        text = ibis.ifelse(number.isnan(), _null("string"), text)
    elif kind.is_array() or kind.is_struct() or kind.is_map():
        raise InputError(f"the column for {name} holds {kind} values; plain ids or texts are needed")
    else:
        text = column.cast("string")
    return ibis.ifelse(_may_be_blank(text), ibis.ifelse(text.strip() == "", _null("string"), text), text)


def _may_be_blank(text: ir.StringValue) -> ir.BooleanValue:
    """Empty or beginning with white space: cheap, and false nearly everywhere."""
    return text < "!"


def _id(column: ir.Value, name: str) -> ir.StringValue:
    """An id as text. Text formats know no types, and tables with gaps write 123 as 123.0: it is 123 here, too."""
    text = _text(column, name)
    if not column.type().is_string():
        return text
    return ibis.ifelse(text.endswith(".0"), text.re_replace(r"^(-?\d+)\.0$", r"\1"), text)


def _has_control(text: ir.StringValue) -> ir.BooleanValue:
    return text.re_search(CONTROL_CHARACTERS).fill_null(False)


def _too_long(text: ir.StringValue) -> ir.BooleanValue:
    return (_bytes(text) > MAX_ID_BYTES).fill_null(False)


def _code(said: ir.StringValue, rules: EventRules) -> ir.IntegerValue:
    # int32 first: of a literal that is int8 already ibis makes no cast, and the engine takes it for int32
    branches = [(said == text, ibis.literal(code, "int32")) for text, code in rules.codes.items()]
    if rules.default is not None:
        branches.append((said.isnull(), ibis.literal(rules.default, "int32")))
    return ibis.cases(*branches).cast("int8")


def _number(column: ir.Value, name: str) -> ir.FloatingValue:
    """A number that can be stored, else null."""
    kind = column.type()
    if kind.is_array() or kind.is_struct() or kind.is_map() or kind.is_temporal():
        raise InputError(f"the column for {name} holds {kind} values; numbers are needed")
    number = (column.strip() if kind.is_string() else column).try_cast("float64")
    too_large = number.abs() > LARGEST.get(name, sys.float_info.max)
    return ibis.ifelse(number.isnan() | too_large, _null("float64"), number)


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


def _not_finite(vector: ir.ArrayValue) -> ir.BooleanValue:
    """Some number of a vector is none: missing, not-a-number or infinite."""
    odd = vector.filter(lambda number: number.isnull() | number.isnan() | number.isinf())
    return (odd.length() > 0).fill_null(False)


def _time(column: ir.Value) -> ir.IntegerValue:
    """Microseconds since 1970 UTC from numbers of any unit, timestamps, dates or ISO 8601; null where unreadable.

    A naive time is one of the engine session's time zone.
    """
    kind = column.type()
    if kind.is_integer():
        return _by_magnitude(column.try_cast("int64"))
    if kind.is_floating() or kind.is_decimal():
        return _by_magnitude(column.cast("float64"))
    if kind.is_timestamp() or kind.is_date() or _has_zone_and_nanoseconds(kind):
        return microseconds_of(column.cast(dt.Timestamp(timezone="UTC")))
    if not kind.is_string():
        raise InputError(f"the column for time holds {kind} values; numbers, timestamps or ISO 8601 are needed")
    text = ibis.ifelse(_may_be_blank(column), column.strip(), column)
    whole = text.re_search(r"^-?\d+$")
    # A four-digit year first: the engine's own words such as 'epoch' or 'infinity' are no times of a shop.
    return ibis.cases(
        (text.like("____-%"), microseconds_of(text.try_cast(dt.Timestamp(timezone="UTC")))),
        (whole, _by_magnitude(text.try_cast("int64"))),
        else_=_by_magnitude(text.try_cast("float64")),
    )


def _has_zone_and_nanoseconds(kind: dt.DataType) -> bool:
    """Timestamps as pandas writes them, a type of the engine that ibis has no name for."""
    return isinstance(kind, dt.Unknown) and "TIMESTAMPTZ_NS" in str(kind.raw_type)


def _by_magnitude(number: ir.NumericValue) -> ir.IntegerValue:
    """Seconds, milli-, micro- or nanoseconds since 1970: from 1990 to 5138 their ranges do not overlap."""

    # try_cast and never round or floor: ibis casts their results, and infinity has no int64
    nanoseconds = number / 1_000 if number.type().is_floating() else number // 1_000
    return ibis.cases(
        *(
            (number.between(1 - bound, bound - 1), (number * microseconds).try_cast("int64"))
            for microseconds, bound in UNITS
        ),
        else_=nanoseconds.try_cast("int64"),
    )
