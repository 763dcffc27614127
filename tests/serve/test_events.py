"""What an event or an item change may be."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from endcap.serve.events import Event, ItemUpdate, event_problem, event_row, id_problem, item_problem
from endcap.shop import Interactions

NOW = 1_795_000_000_000_000
WHEN = 1_794_000_000_123_000


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (None, NOW),
        (WHEN // 1_000_000, WHEN // 1_000_000 * 1_000_000),
        (WHEN / 1e6, WHEN),
        (WHEN // 1000, WHEN),
        (WHEN, WHEN),
        (WHEN * 1000, WHEN),
        (datetime.fromtimestamp(WHEN / 1e6, UTC), WHEN),
        (datetime.fromtimestamp(WHEN / 1e6, UTC).replace(tzinfo=None), WHEN),
    ],
)
def test_the_unit_of_a_time_is_told_by_its_size(time: datetime | float | None, expected: int) -> None:
    event = Event(user="u", item="i", interaction="click", time=time)
    assert event_problem(event, Interactions(), NOW) is None
    assert abs(event_row(event, NOW)[4] - expected) <= 1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"interaction": "clik"}, "unknown interaction 'clik'"),
        ({"item": None}, "needs an item"),
        ({"interaction": "search", "item": None}, "needs a query"),
        ({"interaction": "search", "item": None, "query": "a\nb"}, "control"),
        ({"user": ""}, "user is empty"),
        ({"item": "a\0b"}, "control character"),
        ({"item": "ä" * 300}, "600 bytes"),
        ({"user": "\ud800"}, "surrogate"),
        ({"session": "x" * 600}, "session"),
        ({"time": 5}, "impossible time"),
        ({"time": -1e30}, "impossible time"),
        ({"time": NOW + 2 * 86_400_000_000}, "impossible time"),
    ],
)
def test_wrong_events_are_refused_with_the_reason(fields: dict[str, object], problem: str) -> None:
    event = Event(**({"user": "u", "item": "i", "interaction": "click"} | fields))  # type: ignore[arg-type]
    assert problem in (event_problem(event, Interactions(), NOW) or "")


@pytest.mark.parametrize("kind", ["search", "impression", "dismiss", "return"])
def test_further_kinds_are_taken(kind: str) -> None:
    assert event_problem(Event(user="u", item="i", interaction=kind, query="q"), Interactions(), NOW) is None


def test_ids_of_512_bytes_are_fine() -> None:
    assert id_problem("x" * 512, "item") is None
    assert id_problem("日本/語 %20", "item") is None


@pytest.mark.parametrize("boost", [0, 1e-300, 1e-4, 1001])
def test_boosts_are_bounded_both_ways(boost: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="boost"):
        msgspec.convert({"item": "i", "boost": boost}, ItemUpdate)


def test_every_id_of_an_item_change_is_checked() -> None:
    for fields in ({"item": ""}, {"category": "\t"}, {"never_together": ["a", ""]}, {"pinned": ["\x01"]}):
        assert item_problem(msgspec.convert({"item": "i"} | fields, ItemUpdate)), fields
    assert item_problem(ItemUpdate(item="i", pinned=True, never_together=["a"], brand=None)) is None
