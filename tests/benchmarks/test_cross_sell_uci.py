"""The questions about next baskets, on a log small enough to read, and who may answer them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cross_sell_uci import BoughtBefore, NextBaskets, products
from endcap import Shop
from endcap.answers import History, Request

START, DAY = 1_600_000_000, 86_400
# person, day, products: the split is before day 40
LOG = [("u", 0, "a b"), ("u", 10, "b c"), ("v", 5, "a d e"), ("w", 6, "e"), ("u", 41, "a b d"), ("u", 45, "e"),
       ("v", 42, "d e"), ("x", 43, "a c")]  # fmt: skip


@pytest.fixture
def parts() -> tuple[Shop, Shop]:
    rows = [
        {"user": user, "item": item, "interaction": "purchase", "order": f"{user}{day}", "time": START + DAY * day}
        for user, day, items in LOG
        for item in items.split()
    ]
    return Shop.from_tables(pa.Table.from_pylist(rows)).split_by_time("5d")


def test_asked_is_with_the_last_basket_for_what_the_next_one_adds(parts: tuple[Shop, Shop]) -> None:
    """v's next basket adds nothing; x has none before, w none after; u's second one after is not the next."""
    questions = NextBaskets(*parts, seed=0, at_most=10)
    names = parts[0].items.ids.to_pylist()
    assert questions.user == [parts[0].users.number("u")]
    assert [names[item] for item in questions.asked[0]] == ["b", "c"]
    assert sorted(names[item] for item in questions.target) == ["a", "d"]
    assert {names[target]: bool(new) for target, new in zip(questions.target, questions.new, strict=True)} == {
        "a": False, "d": True,
    }  # fmt: skip


def test_ranks_leave_out_both_baskets_and_for_what_is_new_the_past(parts: tuple[Shop, Shop]) -> None:
    class ByName:
        def score(self, request: Request, items: np.ndarray) -> np.ndarray:
            return -np.array([ord(parts[0].items[int(item)]) for item in items], np.float32)

    questions = NextBaskets(*parts, seed=0, at_most=10)
    ranks, covered = questions.ranks("by name", ByName())
    at = {parts[0].items[target]: row for row, target in enumerate(questions.target)}
    assert ranks["all"][0, at["a"]] == 0
    assert ranks["all"][0, at["d"]] == 0  # of a, b, c, d, e: a is in the next basket, b and c in the last
    assert ranks["new"][0, at["d"]] == 0
    assert {parts[0].items[item] for item in covered} == {"a", "d", "e"}


def test_what_was_bought_most_often_comes_first_and_then_the_latest() -> None:
    past = np.array([1, 2, 1, 3], np.int32)
    request = Request(k=1, history=History(past, np.full(4, 3, np.int8), np.arange(4)))
    scores = BoughtBefore().score(request, np.arange(5, dtype=np.int32))
    assert np.argsort(-scores, kind="stable").tolist()[:3] == [1, 3, 2]
    assert np.isneginf(scores[[0, 4]]).all()


def test_postage_is_no_product() -> None:
    rows = {"user": ["u"] * 3, "item": ["85123A", "POST", "22720"], "interaction": ["purchase"] * 3}
    kept = products(Shop.from_tables(pa.table({**rows, "time": [1_600_000_000] * 3})))
    assert sorted(kept.items.decode(kept.events.item)) == ["22720", "85123A"]
