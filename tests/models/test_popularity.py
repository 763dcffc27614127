"""Popularity against plain counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap.answers import History, Request
from endcap.errors import InputError
from endcap.models.popularity import Popularity, RecentPopularity
from endcap.shop import Shop

CLICK, CART = 0, 2
DAY = 86_400


@pytest.fixture(scope="module")
def shop() -> Shop:
    """Clicks: a 3 (long ago), b 2 (lately), c 1; carts: c 2, b 1; the item d is only searched for and shown."""
    rows = (
        [("a", "click", 0)] * 3 + [("b", "click", 30)] * 2 + [("c", "click", 29), ("c", "cart", 30), ("c", "cart", 30)]
    )
    rows += [("b", "cart", 30), ("d", "impression", 30), ("d", "impression", 30), ("d", "impression", 30)]
    items, interactions, days = zip(*rows, strict=True)
    times = [1_600_000_000 + day * DAY + place for place, day in enumerate(days)]
    users = [f"u{place % 4}" for place in range(len(rows))]
    return Shop.from_tables(pa.table({"user": users, "item": items, "interaction": interactions, "time": times}))


def names(shop: Shop, items: np.ndarray) -> str:
    return "".join("-" if item < 0 else shop.items[int(item)] for item in items)


def test_each_interaction_has_its_own_order(shop: Shop) -> None:
    model = Popularity().fit(shop)
    asked = np.array([-1], np.int32)
    clicks, scores = model.related_batch(asked, CLICK, CLICK, 5)
    assert names(shop, clicks[0]) == "abc--"
    assert scores[0, :3].tolist() == [3, 2, 1]
    carts, _ = model.related_batch(asked, CLICK, CART, 5)
    assert names(shop, carts[0]) == "cb---"


def test_the_item_itself_makes_room_for_the_next(shop: Shop) -> None:
    asked = shop.items.encode(["a", "b", "c", "d"])
    items, _ = Popularity().fit(shop).related_batch(asked, CLICK, CLICK, 2)
    assert [names(shop, row) for row in items] == ["bc", "ac", "ab", "ab"]


def test_impressions_make_nothing_popular(shop: Shop) -> None:
    items, _ = Popularity().fit(shop).related_batch(np.array([-1], np.int32), CLICK, CLICK, 9)
    assert "d" not in names(shop, items[0])


def test_what_is_lately_popular_counts_more(shop: Shop) -> None:
    model = RecentPopularity(half_life="7d").fit(shop)
    items, scores = model.related_batch(np.array([-1], np.int32), CLICK, CLICK, 3)
    assert names(shop, items[0]) == "bca"
    assert scores[0].tolist() == pytest.approx([2, 2 ** (-1 / 7), 3 * 2 ** (-30 / 7)], rel=1e-3)


def test_people_get_the_list_of_the_wanted_interaction(shop: Shop) -> None:
    model = Popularity().fit(shop)
    history = History(np.array([0], np.int32), np.array([CLICK], np.int8), np.array([0], np.int64))
    assert names(shop, model.candidates(Request(k=9, history=history)).items) == "cb"
    assert names(shop, model.candidates(Request(k=2, history=history, want=CLICK)).items) == "ab"
    reason = model.explain(Request(k=2, want=CLICK), int(shop.items.number("a")))
    assert [(r.kind, r.value) for r in reason] == [("popular", 3.0)]


@pytest.mark.parametrize("half_life", ["7", "soon", "-3d"])
def test_a_half_life_that_is_no_duration_is_refused(half_life: str) -> None:
    with pytest.raises(InputError):
        RecentPopularity(half_life=half_life)
