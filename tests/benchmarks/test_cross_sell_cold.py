"""What a training is shown of products that arrive late, and how the ways of answering are counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cross_sell_cold import Questions, hits, learnt, shown, simple
from endcap import Shop
from endcap.answers import Request

START, DAY = 1_600_000_000, 86_400
NAMES = list("abcd")


@pytest.fixture
def shop() -> Shop:
    """a with b for six days, a with c for two, then d with c."""
    days = ["ab"] * 6 + ["ac"] * 2 + ["dc"]
    rows = [
        {"user": f"u{day}", "item": item, "interaction": "purchase", "order": f"o{day}", "time": START + DAY * day}
        for day, items in enumerate(days)
        for item in items
    ]
    items = pa.table({"item": NAMES, "title": [f"{name} thing" for name in NAMES], "category": ["x", "y", "y", "x"]})
    return Shop.from_tables(pa.Table.from_pylist(rows), items)


def numbers(shop: Shop) -> dict[str, int]:
    return {name: number for number, name in enumerate(shop.catalogue["item"].to_pylist())}


@pytest.mark.parametrize(("level", "left"), [(0, 0), (3, 3), (None, 6)])
def test_of_a_drawn_product_its_last_baskets_are_shown_and_nothing_else_changes(
    shop: Shop, level: int | None, left: int
) -> None:
    at = numbers(shop)
    view = shown(shop, np.array([at["b"]], np.int32), level)
    bought = np.bincount(view.events.item, minlength=4)
    assert bought[at["b"]] == left
    assert (bought[at["a"]], bought[at["c"]], bought[at["d"]]) == (8, 3, 1)
    assert view.item_known_from is not None
    if left and level is not None:  # it is known since the first of the baskets that are shown
        assert view.item_known_from[at["b"]] == view.events.time[view.events.item == at["b"]].min()
    assert np.bincount(learnt(view).items, minlength=4)[at["b"]] == left


def test_each_way_is_counted_among_the_drawn_and_among_all(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cross_sell_cold.K", 1)
    at = numbers(shop)
    asked, target = np.array([at["a"]], np.int32), np.array([at["c"]], np.int32)
    questions = Questions(target, [asked], np.array([[at["d"]] * 3]), np.zeros(1, np.int32))
    found = hits(simple(shop), questions, 4)
    drawn, whole = found["walk"]
    assert (drawn[0], whole[0]) == (1, 0)  # a goes with b first, and with d never

    def level(request: Request, items: np.ndarray) -> dict[str, np.ndarray]:
        assert request.basket.tolist() == asked.tolist()
        return {"level": np.zeros(len(items), np.float32)}

    drawn, whole = hits(level, questions, 4)["level"]
    assert drawn[0] == pytest.approx(1 / 4)  # three ties
    assert whole[0] == pytest.approx(1 / 3)
