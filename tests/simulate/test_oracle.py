"""The oracle ranks by the truth: its expectations are what visits do, and nobody without luck does better."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.answers import RelatesItems
from endcap.metrics import intent_cases, purchase_intent
from endcap.shop import Shop
from endcap.simulate import Oracle, ShopSettings, SimulatedShop
from endcap.simulate.oracle import best_scores, mission_shares, visits_at_the_end
from endcap.simulate.visits import ACTIVITY, CART, CHOSEN, CLICK, COMPARED, ITEM, KIND, MISSION, PURCHASE, SESSION, WHY
from endcap.simulate.world import make_truth

TINY = {"events": 2_000, "items": 60, "users": 40, "leaf_size": 8, "families": 3, "wandering": 0.0, "best": 0}


@pytest.fixture(scope="module")
def truth():  # type: ignore[no-untyped-def]
    return make_truth(ShopSettings(**TINY))


@pytest.fixture(scope="module")
def rows(truth) -> np.ndarray:  # type: ignore[no-untyped-def]
    return visits_at_the_end(truth, 40_000, part=99)


def later_acts(rows: np.ndarray, source: np.ndarray, target: np.ndarray, n_items: int) -> np.ndarray:
    """(n, n) how many `target` rows follow `source` rows in visits, item by item, one item's own aside."""
    counts = np.zeros((n_items, n_items))
    for distance in range(1, 40):
        together = rows[distance:, SESSION] == rows[:-distance, SESSION]
        pair = together & source[:-distance] & target[distance:]
        np.add.at(counts, (rows[:-distance, ITEM][pair], rows[distance:, ITEM][pair]), 1)
    np.fill_diagonal(counts, 0)
    return counts


@pytest.mark.parametrize(("seen_as", "want"), [(CLICK, CART), (CART, CART), (CLICK, CLICK)])
def test_expectations_are_what_visits_do(truth, rows: np.ndarray, seen_as: int, want: int) -> None:  # type: ignore[no-untyped-def]
    mission = (rows[:, WHY] == COMPARED) | (rows[:, WHY] == CHOSEN)
    wanted = (rows[:, KIND] == want) | ((want == CART) & (rows[:, KIND] == PURCHASE))
    counted = later_acts(rows, mission & (rows[:, KIND] == seen_as), mission & wanted, 60)
    oracle = Oracle(truth)
    expected = np.zeros((60, 60))
    for leaf in np.unique(truth.leaf):
        inside = np.flatnonzero(truth.leaf == leaf)
        candidates, values = oracle.expected(inside, seen_as, want)
        expected[np.ix_(inside, candidates)] = values
    n_visits = len(np.unique(rows[:, SESSION]))
    often = counted > 100
    assert often.sum() > 50
    ratio = expected[often] * n_visits / counted[often]
    assert np.median(ratio) == pytest.approx(1.0, abs=0.05)
    assert np.quantile(np.abs(ratio - 1), 0.9) < 0.3


def test_missions_are_shared_out_as_they_are_drawn(truth, rows: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    shares = mission_shares(truth, truth.settings.ends)
    assert shares.sum() == pytest.approx(1)
    visits = rows[rows[:, ACTIVITY] >= 0]
    _, first = np.unique(visits[:, SESSION], return_index=True)
    visits = visits[first]
    counted = np.zeros_like(shares)
    np.add.at(counted, (visits[:, ACTIVITY], visits[:, MISSION]), 1 / len(visits))
    assert np.abs(counted - shares).max() < 0.01


def test_lists_are_sound(truth) -> None:  # type: ignore[no-untyped-def]
    oracle = Oracle(truth)
    assert isinstance(oracle, RelatesItems)
    asked = np.array([5, -1, 0, 59, 5, 1_000], np.int32)
    items, scores = oracle.related_batch(asked, CLICK, CART, 100)
    assert items.shape == scores.shape == (6, 100)
    assert (items[[1, 5]] == -1).all()
    assert (items[0] == items[4]).all()
    for row, item in zip(items[[0, 2, 3]], (5, 0, 59), strict=True):
        listed = row[row >= 0]
        assert len(listed) == len(set(listed)) > 10
        assert item not in listed
    assert (np.diff(np.where(items >= 0, scores, -np.inf)[[0, 2, 3]][:, :10]) <= 0).all()
    assert (scores[items < 0] == -np.inf).all()
    shorter = oracle.related_batch(asked, CLICK, CART, 7)[0]
    assert (shorter == items[:, :7]).all()
    other = oracle.uniting(8).related_batch(asked, CLICK, CART, 10)[0]
    assert (other[0] != items[0, :10]).any()


def test_the_oracle_speaks_the_numbers_of_the_shop(shop: Shop, shop_tables: SimulatedShop) -> None:
    oracle = Oracle.of(ShopSettings(**shop_tables.summary.settings), shop.items)
    truth = shop_tables.truth["items"].to_pandas().set_index("item")
    asked = np.arange(0, shop.n_items, 97, dtype=np.int32)
    lists = oracle.related_batch(asked, CART, CART, 5)[0]
    roles = shop_tables.truth["activities"].to_pandas().groupby("leaf").activity.agg(set)
    for item, row in zip(asked, lists, strict=True):
        mine = roles[truth.leaf[shop.items[item]]]
        assert all(mine & roles[truth.leaf[shop.items[other]]] for other in row)


def test_best_scores_are_in_order_and_hold_on_the_log(shop: Shop, shop_tables: SimulatedShop) -> None:
    settings = ShopSettings(**{**shop_tables.summary.settings, "best": 500})
    best = best_scores(make_truth(settings))
    for values in best.values():
        assert values["random"] < values["single"] < values["ceiling"] <= 1
        assert values["single"] < values["oracle"] <= values["ceiling"]
    positives = shop.since(shop.cut("20d")).positives
    cases = intent_cases(positives.session, positives.item, positives.interaction, CLICK, (CART, PURCHASE))
    oracle = Oracle.of(settings, shop.items)
    measured = purchase_intent(cases, lambda items, seen: oracle.related_batch(items, seen, CART, 40)[0], [10, 40])
    for k, rate in zip((10, 40), measured.mean(axis=0), strict=True):
        assert rate == pytest.approx(best[f"purchase_intent@{k}"]["single"], abs=0.09)


def test_no_visit_with_a_cart_no_best_score() -> None:
    assert best_scores(make_truth(ShopSettings(**{**TINY, "converts": 0.0, "best": 20}))) == {}
