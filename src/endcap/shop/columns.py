"""Canonical columns of events and items, and the mapping `theirs=ours` from a shop's own names onto them."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from endcap.errors import InputError

REQUIRED = ("user", "item", "interaction", "time")
TEXTS = ("event_id", "session", "order", "query", "domain", "request_id", "surface")
NUMBERS = ("price", "quantity", "position")
EVENT_COLUMNS = (*REQUIRED, *TEXTS, *NUMBERS)

ATTRIBUTE_TEXTS = ("title", "category", "brand", "seller", "domain")
ATTRIBUTES = ("title", "category", "brand", "seller", "price", "domain", "in_stock", "margin", "launched")
ITEM_COLUMNS = ("item", *ATTRIBUTES)
FOLDED = ("title", "category", "brand", "seller", "price", "domain")  # attributes that an event log may carry
VECTOR_PREFIX = "vector_"
NOT_TAKEN = "-"  # theirs=- leaves a column out that has one of our names by chance

SYNONYMS = {
    "user": "user_id userid visitorid visitor_id customer_id customerid customer uid member_id",
    "item": "item_id itemid product_id productid product sku sku_id stockcode asin article_id",
    "interaction": "event event_type eventtype action action_type type behavior behaviour",
    "time": "timestamp ts event_time eventtime datetime date created_at invoicedate occurred_at",
}

Pairs = str | Sequence[str] | Mapping[str, str | Sequence[str]] | Iterable[tuple[str, str]]


def parse_pairs(given: Pairs | None, option: str) -> tuple[tuple[str, str], ...]:
    """`"a=b,c=d"`, `["a=b", "c=d,e=f"]`, `{"a": "b", "c": ["d", "e"]}` or pairs as (theirs, ours) pairs.

    Raises:
        InputError: for a part without `=`.
    """
    if given is None:
        return ()
    if isinstance(given, Mapping):
        parts: list[Any] = [
            (theirs, one)
            for theirs, ours in given.items()
            for one in (ours if isinstance(ours, list | tuple) else [ours])
        ]
    elif isinstance(given, str):
        parts = [given]
    elif isinstance(given, Iterable):
        parts = list(given)
    else:
        raise InputError(f"{option} {given!r}: give text, a list or a mapping, theirs to ours")
    pairs: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, str):
            pairs.extend(_parse_pair(text, option) for text in part.split(",") if text.strip())
        else:
            pairs.append(_checked_pair(part, option))
    return tuple(pairs)


def _checked_pair(pair: Any, option: str) -> tuple[str, str]:
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[1], str)):
        raise InputError(f"{option} {pair!r}: a pair of their name and ours is needed, as in ('visitorid', 'user')")
    return str(pair[0]), pair[1]


def _parse_pair(text: str, option: str) -> tuple[str, str]:
    theirs, equals, ours = text.rpartition("=")
    if not equals or not theirs.strip() or not ours.strip():
        raise InputError(f"{option} {text.strip()!r}: write it as theirs=ours, as in {_EXAMPLES.get(option, 'a=b')}")
    return theirs.strip(), ours.strip()


_EXAMPLES = {"--columns": "visitorid=user", "--item-columns": "product_id=item", "--interactions": "view=click"}


@dataclass(frozen=True)
class Chosen:
    """Which source column feeds which canonical one, and the source columns that feed none."""

    theirs: dict[str, str]
    unused: tuple[str, ...]

    def __contains__(self, ours: str) -> bool:
        return ours in self.theirs


def choose_event_columns(
    found: Sequence[str], pairs: Sequence[tuple[str, str]], where: str, *, interaction_needed: bool = True
) -> Chosen:
    """Settle which columns of an event file are taken, mapped or by their canonical names.

    Raises:
        InputError: for a mapping that names no such column or none of ours, or if a required one is missing.
    """
    chosen = _choose(found, pairs, {*EVENT_COLUMNS, *FOLDED}, where, "--columns")
    needed = [name for name in REQUIRED if interaction_needed or name != "interaction"]
    _check_required(chosen, needed, found, where, "--columns")
    return chosen


def choose_item_columns(found: Sequence[str], pairs: Sequence[tuple[str, str]], where: str) -> Chosen:
    """The same for an items file; `vector_*` columns keep their names.

    Raises:
        InputError: as above.
    """
    vectors = {name for name in (*found, *(ours for _, ours in pairs)) if name.startswith(VECTOR_PREFIX)}
    chosen = _choose(found, pairs, {*ITEM_COLUMNS, *vectors}, where, "--item-columns")
    _check_required(chosen, ["item"], found, where, "--item-columns")
    return chosen


def names_of_interest(pairs: Sequence[tuple[str, str]], canonical: Sequence[str]) -> list[str]:
    """Source columns that would be taken if they occur."""
    return list(dict.fromkeys([*(theirs for theirs, _ in pairs), *canonical]))


def _choose(found: Sequence[str], pairs: Sequence[tuple[str, str]], known: set[str], where: str, option: str) -> Chosen:
    twice = sorted(name for name, n in Counter(found).items() if n > 1 and name)
    if twice:
        raise InputError(f"{where}: the column {twice[0]!r} stands twice in the header; rename one of them")
    theirs_of: dict[str, str] = {}
    left_out = set()
    for theirs, ours in pairs:
        if theirs not in found:
            raise InputError(f"{option} {theirs}={ours}: {where} has no column {theirs!r}; it has {', '.join(found)}")
        if ours == NOT_TAKEN:
            left_out.add(theirs)
            continue
        if ours not in known:
            near = difflib.get_close_matches(ours, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"ours are {', '.join(sorted(known))}"
            raise InputError(f"{option} {theirs}={ours}: there is no column {ours!r} of ours; {hint}")
        if theirs_of.get(ours, theirs) != theirs:
            raise InputError(f"{option}: both {theirs_of[ours]!r} and {theirs!r} are mapped to {ours!r}; keep one")
        theirs_of[ours] = theirs
    settled = left_out | set(theirs_of.values())
    for name in found:
        if name in known and name not in settled:
            theirs_of.setdefault(name, name)
    unused = tuple(name for name in found if name not in theirs_of.values())
    _check_capitals(found, theirs_of, where)
    return Chosen(theirs_of, unused)


def _check_capitals(found: Sequence[str], theirs_of: Mapping[str, str], where: str) -> None:
    """Engines do not tell apart names that differ in capitals only."""
    for taken in theirs_of.values():
        twins = [name for name in found if name != taken and name.lower() == taken.lower()]
        if twins:
            raise InputError(
                f"{where}: the columns {twins[0]!r} and {taken!r} differ in capitals only; rename one of them"
            )


def _check_required(chosen: Chosen, needed: Sequence[str], found: Sequence[str], where: str, option: str) -> None:
    missing = [name for name in needed if name not in chosen]
    if not missing:
        return
    message = f"{where}: no column for {', '.join(missing)}; it has {', '.join(found) or 'no columns'}"
    suggestion = suggest(missing, chosen.unused)
    if suggestion:
        message += f"; perhaps {option} {suggestion}"
    elif missing == ["interaction"]:
        message += "; if all rows are of one kind, give e.g. --interaction purchase"
    else:
        message += f"; name it with {option} theirs={missing[0]}"
    raise InputError(message)


def suggest(missing: Sequence[str], found: Sequence[str]) -> str:
    """A mapping ready to paste for the missing columns whose usual other names are found."""
    by_lower = {name.lower(): name for name in reversed(found)}
    pairs = []
    for ours in missing:
        near = next((by_lower[name] for name in SYNONYMS.get(ours, "").split() if name in by_lower), None)
        if near is not None:
            pairs.append(f"{near}={ours}")
    return ",".join(pairs)
