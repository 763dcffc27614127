"""Events and item changes as they arrive over HTTP: their shape, what is refused, and the row that is stored."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from endcap.shop.interactions import FURTHER_KINDS, Interactions

MAX_ID_BYTES = 512
EARLIEST = 631_152_000_000_000  # 1990-01-01, microseconds
LATEST_AHEAD = 86_400_000_000  # a clock may run a day fast
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

EVENT_COLUMNS = (
    "event_id",
    "user",
    "item",
    "interaction",
    "time",
    "session",
    "order",
    "query",
    "domain",
    "price",
    "quantity",
    "request_id",
    "surface",
    "position",
)
EventRow = tuple[str | int | float | None, ...]

NonNegative = Annotated[float, Meta(ge=0, le=1e15)]


class Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Something that a person did.

    `time` is ISO 8601 (UTC where it has no zone) or a number of seconds, milliseconds, microseconds or nanoseconds
    since 1970; now, where it is missing. `event_id` makes a repeated delivery harmless.
    """

    user: str
    interaction: str
    item: str | None = None
    time: datetime | int | float | None = None
    event_id: str | None = None
    session: str | None = None
    order: str | None = None
    query: Annotated[str, Meta(max_length=2000)] | None = None
    domain: str | None = None
    price: NonNegative | None = None
    quantity: NonNegative | None = None
    request_id: str | None = None
    surface: str | None = None
    position: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class ItemUpdate(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What changed about an item. Fields left out stay as they are; null takes an earlier change back.

    `pinned` is true for every surface, or a list of surfaces; `boost` multiplies the score; `never_together` lists
    items that are never shown beside this one.
    """

    item: str
    in_stock: bool | UnsetType | None = UNSET
    price: NonNegative | UnsetType | None = UNSET
    margin: Annotated[float, Meta(ge=-1e15, le=1e15)] | UnsetType | None = UNSET
    suppressed: bool | UnsetType | None = UNSET
    pinned: bool | list[str] | UnsetType | None = UNSET
    boost: Annotated[float, Meta(ge=0.001, le=1000)] | UnsetType | None = UNSET
    never_together: Annotated[list[str], Meta(max_length=1000)] | UnsetType | None = UNSET
    title: Annotated[str, Meta(max_length=2000)] | UnsetType | None = UNSET
    category: str | UnsetType | None = UNSET
    brand: str | UnsetType | None = UNSET
    seller: str | UnsetType | None = UNSET
    domain: str | UnsetType | None = UNSET


def now_us() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


def id_problem(text: str, what: str) -> str | None:
    """Why a text cannot be an id, or None."""
    if not text:
        return f"{what} is empty"
    if CONTROL.search(text):
        return f"{what} holds a control character"
    try:
        length = len(text.encode("utf-8"))
    except UnicodeEncodeError:
        return f"{what} is not valid Unicode (a lone surrogate)"
    return f"{what} is {length:,} bytes long; ids have at most {MAX_ID_BYTES}" if length > MAX_ID_BYTES else None


def event_problem(event: Event, interactions: Interactions, now: int) -> str | None:
    """Why an event is refused, or None. `now` is in microseconds."""
    if event.interaction not in interactions.names and event.interaction not in FURTHER_KINDS:
        return f"unknown interaction {event.interaction!r}: this shop has {', '.join(_kinds(interactions))}"
    if event.interaction == "search":
        if not event.query:
            return "a search needs a query"
    elif event.item is None:
        return f"a {event.interaction} needs an item"
    for name in ("user", "item", "event_id", "session", "order", "domain", "request_id", "surface"):
        value = getattr(event, name)
        if value is not None and (problem := id_problem(value, name)):
            return problem
    if event.query is not None and not event.query.isprintable():
        return "query holds a control character"
    when = microseconds(event.time, now)
    if when is None or not EARLIEST <= when <= now + LATEST_AHEAD:
        return f"impossible time {event.time}: it lies before 1990 or more than a day ahead"
    return None


def item_problem(update: ItemUpdate) -> str | None:
    """Why a change of an item is refused, or None."""
    pins = update.pinned if isinstance(update.pinned, list) else []
    partners = update.never_together if isinstance(update.never_together, list) else []
    single = [
        (getattr(update, name), name)
        for name in ("item", "category", "brand", "seller", "domain")
        if isinstance(getattr(update, name), str)
    ]
    named = [*single, *((pin, "pinned") for pin in pins), *((partner, "never_together") for partner in partners)]
    problems = (id_problem(value, name) for value, name in named)
    return next((problem for problem in problems if problem), None)


def event_row(event: Event, now: int) -> EventRow:
    """A checked event as a row of `EVENT_COLUMNS`."""
    return (
        event.event_id or uuid.uuid4().hex,
        event.user,
        event.item,
        event.interaction,
        microseconds(event.time, now),
        event.session,
        event.order,
        event.query,
        event.domain,
        event.price,
        event.quantity,
        event.request_id,
        event.surface,
        event.position,
    )


def microseconds(moment: datetime | float | None, now: int) -> int | None:
    """A moment as microseconds since 1970; the unit of a number is told by its size; None where it cannot be one."""
    if moment is None:
        return now
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1_000_000)
    for below, factor in ((1e11, 1_000_000), (1e14, 1000), (1e17, 1), (1e20, 1e-3)):
        if abs(moment) < below:
            return int(moment * factor)
    return None


def _kinds(interactions: Interactions) -> Sequence[str]:
    return (*interactions.names, *FURTHER_KINDS)
