"""The score's parts, on the source's own table and on purchases whose age is known."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap import Shop
from endcap.graph import Baskets, co_purchase
from endcap.models.cross_sell.score import Freshness, Parts, links_of

DAY = 86_400_000_000
# "Cross-Sell Is a Graph Problem": similarity, P(complement), recency, and the score that it prints, which is .91 for a
# product of .903.
TABLE = [
    ("lens", 0.94, 0.97, 0.99, 0.91),
    ("SD card", 0.89, 0.96, 0.98, 0.84),
    ("backpack", 0.82, 0.93, 0.97, 0.74),
    ("tripod", 0.78, 0.91, 0.96, 0.68),
    ("editing software", 0.61, 0.89, 0.95, 0.52),
    ("rival camera", 0.88, 0.08, 0.99, 0.07),
]


def test_the_six_rows_of_the_source() -> None:
    _, similarity, complement, recency, printed = zip(*TABLE, strict=True)
    parts = Parts(np.array(similarity), np.array(complement), np.array(recency))
    np.testing.assert_allclose(parts.final, printed, atol=0.01)
    assert parts.rivals.tolist() == [False] * 5 + [True]


def test_what_points_the_other_way_has_no_score() -> None:
    assert Parts(np.array([-0.5]), np.array([0.9]), np.array([1.0])).final.tolist() == [0]


@pytest.fixture
def shop() -> Shop:
    categories = ["a", "b", "b", "c", None]
    items = pa.table({"item": [f"i{n}" for n in range(5)], "category": categories})
    events = pa.table(
        {"user": ["u"] * 5, "item": [f"i{n}" for n in range(5)], "interaction": ["purchase"] * 5,
         "time": [1_600_000_000 + n for n in range(5)]}
    )  # fmt: skip
    return Shop.from_tables(events, items)


def freshness(shop: Shop) -> tuple[Freshness, Baskets]:
    """i0 and i1 together 60 days ago and today, i0 and i3 60 days ago; half-life 30 days."""
    made = Baskets.of_lists([[0, 1], [0, 1], [0, 3]])
    baskets = Baskets(made.offsets, made.items, made.user, np.array([0, 60 * DAY, 0]))
    return Freshness.of(co_purchase(baskets, shop.n_items, half_life_days=30), shop), baskets


def test_recency_is_the_share_of_the_purchases_that_is_left_above_a_floor(shop: Shop) -> None:
    fresh, _ = freshness(shop)
    asked = np.array([0], np.int32)
    found = fresh.recency(asked, np.array([1, 3], np.int32))
    np.testing.assert_allclose(found, [0.5 + 0.5 * (1 + 0.25) / 2, 0.5 + 0.5 * 0.25], rtol=1e-5)


def test_a_pair_never_bought_takes_the_recency_of_its_categories_else_one(shop: Shop) -> None:
    fresh, _ = freshness(shop)
    found = fresh.recency(np.array([0], np.int32), np.array([2, 4], np.int32))
    np.testing.assert_allclose(found, [0.5 + 0.5 * (1 + 0.25) / 2, 1], rtol=1e-5)
    assert fresh.recency(np.array([4], np.int32), np.array([0], np.int32)).tolist() == [1]


def test_a_basket_counts_by_what_was_bought_with_its_items(shop: Shop) -> None:
    fresh, _ = freshness(shop)
    found = fresh.recency(np.array([1, 3], np.int32), np.array([0], np.int32))
    np.testing.assert_allclose(found, [0.5 + 0.5 * (1 + 0.25 + 0.25) / 3], rtol=1e-5)


def test_links_are_those_of_the_graph(shop: Shop) -> None:
    _, baskets = freshness(shop)
    counts = co_purchase(baskets, shop.n_items).counts
    asked, items = np.array([0, 4], np.int32), np.array([3, 2, 1], np.int32)
    np.testing.assert_array_equal(links_of(counts, asked, items), counts.toarray()[np.ix_(asked, items)])


@pytest.mark.parametrize("asked", [[3], [0, 5, 9, 11]])
def test_recency_is_that_of_every_pair_looked_at_by_itself(asked: list[int]) -> None:
    """On counts of no shop, where a third of the pairs and of the categories is missing."""
    rng, n, leaves = np.random.default_rng(4), 20, 3
    mass = np.where(rng.random((n, n)) < 0.3, rng.integers(1, 9, (n, n)), 0).astype(np.float32)
    faded = (mass * rng.random((n, n))).astype(np.float32)
    leaf = rng.integers(-1, leaves, n)
    rows, columns = np.nonzero(mass)
    offsets = np.append(0, np.cumsum((mass > 0).sum(1)))
    keys, share = np.array([0, 2, 3, 7, 8]), rng.random(5).astype(np.float32)
    fresh = Freshness(offsets, columns.astype(np.int32), mass[rows, columns], faded[rows, columns], leaf, keys, share)
    of_keys = dict(zip(keys.tolist(), share.tolist(), strict=True))
    for item in range(n):
        total, left = mass[asked, item].sum(), faded[asked, item].sum()
        known = [one for one in leaf[asked].tolist() if one >= 0]
        of_pairs = [of_keys.get(one * leaves + leaf[item], 1.0) if leaf[item] >= 0 else 1.0 for one in known]
        wanted = left / total if total else np.mean(of_pairs or [1.0])
        found = fresh.recency(np.array(asked, np.int32), np.array([item, 1], np.int32))[0]
        assert found == pytest.approx(0.5 + 0.5 * wanted, rel=1e-6)
