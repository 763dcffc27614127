"""Columns against what they are called, lessons that hold nothing of their answers, popularity that can be traded."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.sparse import csr_array

from endcap.graph import Baskets
from endcap.models.cross_sell.evidence import (
    COLUMNS,
    HIDDEN,
    MEASURES,
    POOL,
    PairEvidence,
    Trade,
    Weigher,
    _turns,
    lists_of,
)

LISTS = [[0, 1, 2], [0, 1], [1, 3], [2, 3, 4], [0, 4]]
CATEGORY = np.array([0, 0, 1, 1, -1, 1])
N = len(CATEGORY)
SUMS = COLUMNS[:10]
EVERYTHING = np.arange(N, dtype=np.int32)


def columns_of(evidence: PairEvidence, *asked: int) -> dict[str, np.ndarray]:
    """Of all items as candidates."""
    found = evidence.columns(evidence.reach(np.array(asked, np.int32)), EVERYTHING)
    return {name: found[:, place] for place, name in enumerate(COLUMNS)}


@pytest.fixture
def evidence() -> PairEvidence:
    return PairEvidence.of(Baskets.of_lists(LISTS), CATEGORY)


def steps() -> np.ndarray:
    """(N, N) the chance of a step from an item to another one of a basket of its, by counting."""
    found = np.zeros((N, N))
    for basket in LISTS:
        for one in basket:
            for other in set(basket) - {one}:
                found[one, other] += 1 / (len(basket) - 1)
    return found / np.maximum(np.bincount(np.concatenate(LISTS), minlength=N), 1)[:, None]


def test_a_walk_of_one_step_goes_to_another_item_of_a_basket(evidence: PairEvidence) -> None:
    """0 lies in three baskets: with 1 and 2, with 1, with 4."""
    walk = columns_of(evidence, 0)["walk1"]
    np.testing.assert_allclose(walk, [0, (0.5 + 1) / 3, 0.5 / 3, 0, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(walk, steps()[0], rtol=1e-6)


@pytest.mark.parametrize("asked", [[0], [1, 2], [4, 0, 3]])
def test_longer_walks_are_powers_of_a_step_without_the_way_back(evidence: PairEvidence, asked: list[int]) -> None:
    found, step, n_of = columns_of(evidence, *asked), steps(), np.array([3, 3, 2, 2, 2, 0])
    walks = [step[asked].mean(0)]
    walks[0][asked] = 0
    for _ in range(3):
        walks.append(walks[-1] @ step)
        walks[-1][asked] = 0
    for hops, walk in enumerate(walks, 1):
        np.testing.assert_allclose(found[f"walk{hops}"], walk, rtol=1e-5)
    quiet = (walks[0] / np.sqrt(np.maximum(n_of, 1))) @ step
    quiet[asked] = 0
    np.testing.assert_allclose(found["walk2 without hubs"], quiet, rtol=1e-5)
    root = np.sqrt(np.maximum(n_of, 1))
    even = step * root[:, None] / root
    ends = even[asked].sum(0)
    ends[asked] = 0
    np.testing.assert_allclose(found["even walk1"], ends, rtol=1e-5)
    again = ends @ even / len(asked)
    again[asked] = 0
    np.testing.assert_allclose(found["even walk2"], again, rtol=1e-5)


def test_counts_cosine_and_jaccard(evidence: PairEvidence) -> None:
    alone, both = columns_of(evidence, 0), columns_of(evidence, 1, 2)
    np.testing.assert_array_equal(alone["count"], [0, 2, 1, 0, 1, 0])
    np.testing.assert_array_equal(both["count"], [3, 0, 0, 2, 1, 0])
    np.testing.assert_allclose(alone["cosine"][1], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(alone["jaccard"][1], 2 / 4, rtol=1e-6)


def test_categories_and_counts(evidence: PairEvidence) -> None:
    alone, both = columns_of(evidence, 0), columns_of(evidence, 1, 2)
    np.testing.assert_allclose(both["share in category"], [0.5, 0.5, 0.5, 0.5, 0, 0.5])
    np.testing.assert_allclose(alone["baskets"], np.log1p([3, 3, 2, 2, 2, 0]), rtol=1e-6)
    np.testing.assert_allclose([alone["asked"][0], both["asked"][0]], np.log([1, 2]), rtol=1e-6)
    # beside items of category 0 lie, in the baskets as listed: half of each other and half of 2; each other; 3; 4
    beside = np.array([0.5 + 0.5 + 1 + 1, 0.5 + 0.5 + 1, 1]) / 6
    np.testing.assert_allclose(alone["category, an item"] * [2, 2, 2, 2, 1, 2], beside[[0, 0, 1, 1, 2, 1]], rtol=1e-6)


def test_questions_leave_nothing_behind(evidence: PairEvidence) -> None:
    before = columns_of(evidence, 1, 2)
    columns_of(evidence, 0)
    after = columns_of(evidence, 1, 2)
    for name in COLUMNS:
        np.testing.assert_array_equal(before[name], after[name])


def test_what_no_walk_reaches_is_weighed_as_if_it_were_asked_for_alone() -> None:
    apart = Baskets.of_lists([*LISTS, [6, 7], [7, 8], [6, 9]])
    evidence = PairEvidence.of(apart, np.array([*CATEGORY, 0, 0, 1, 1]))
    asked, everything = np.array([0], np.int32), np.arange(10, dtype=np.int32)
    columns = evidence.columns(evidence.reach(asked), everything)
    assert not columns[6:, : len(SUMS)].any()
    for place, name in enumerate(COLUMNS):
        found = evidence.of_all(lambda columns, place=place: columns[:, place], evidence.reach(asked), everything)
        np.testing.assert_array_equal(found, columns[:, place], err_msg=name)


def test_renumbered_items_have_the_same_columns(evidence: PairEvidence) -> None:
    order = np.random.default_rng(0).permutation(N)
    category = np.empty(N, int)
    category[order] = CATEGORY
    renumbered = PairEvidence.of(Baskets.of_lists([order[basket].tolist() for basket in LISTS]), category)
    before, after = columns_of(evidence, 1, 2), columns_of(renumbered, *order[[1, 2]])
    for name in COLUMNS:
        np.testing.assert_allclose(after[name][order], before[name], rtol=1e-5, err_msg=name)


def test_lessons_ask_with_the_rest_and_draw_nothing_that_is_right() -> None:
    n_of = np.bincount(np.concatenate(LISTS), minlength=N).astype(np.float32)
    never = csr_array(np.eye(N, k=1, dtype=np.float32))
    lists = lists_of(Baskets.of_lists([*LISTS, [5]]), n_of, 0, per_basket=2, drawn=50, never=never)
    assert len(lists.wanted) == 10  # none of the basket of one
    for row, (target, *drawn) in enumerate(lists.wanted.tolist()):
        asked = lists.asked[[row]].indices.tolist()
        assert target not in asked
        assert sorted([*asked, target]) in [sorted(basket) for basket in LISTS]
        wrong = {*asked, target, *(item + 1 for item in asked)}
        in_vain = np.isinf(lists.log_q[row, 1:])
        np.testing.assert_array_equal(in_vain, np.isin(drawn, list(wrong)))
    assert np.isfinite(lists.log_q[:, 0]).all()


@pytest.mark.parametrize(("n", "at_most", "taught"), [(600, 5_000, 200), (600, 50, 50), (7, 10, 2), (3, 10, 1)])
def test_lessons_leave_the_graph_a_few_at_a_time_and_are_of_the_latest_third(n: int, at_most: int, taught: int) -> None:
    rng = np.random.default_rng(0)
    baskets = Baskets.of_lists([[0, 1]] * n)
    baskets.time[:] = rng.permutation(n)
    turns = np.stack(_turns(baskets, at_most, 0))
    assert turns.sum(0).max() == 1
    assert turns.sum() == taught
    assert turns.sum(1).max() <= max(1, HIDDEN * n)
    assert baskets.time[turns.any(0)].min() >= n - n // 3


def test_chance_draws_the_lessons_where_all_baskets_are_of_one_time() -> None:
    taught = np.any(_turns(Baskets.of_lists([[0, 1]] * 600), 5_000, 0), 0)
    assert 30 < taught[:200].sum() < 110


def planted(n: int = 3_000, seed: int = 0) -> tuple[Baskets, np.ndarray]:
    """Baskets of two and three out of 40 groups of four; one item lies in half of all."""
    rng = np.random.default_rng(seed)
    made = []
    for group in rng.integers(0, 40, n):
        inside = (4 * group + rng.permutation(4)[: rng.integers(2, 4)]).tolist()
        made.append([*inside, 160] if rng.random() < 0.5 else inside)
    return Baskets.of_lists(made), np.arange(161) // 4 % 7


@cache
def learnt() -> Weigher:
    baskets, category = planted()
    return Weigher.fitted(baskets, category, at_most=300, per_basket=2, never=None, trade=Trade(), seed=0, threads=1)


def weigher(*trade: float) -> Weigher:
    return Weigher(learnt().evidence, learnt().head, Trade(*trade))


def test_planted_groups_are_found_and_damping_lets_go_of_what_everybody_buys() -> None:
    plain, damped = weigher(), weigher(2)
    walk = Weigher(plain.evidence, "walk", Trade())
    for item in (0, 57, 90):
        asked, group = np.array([item], np.int32), set(range(item // 4 * 4, item // 4 * 4 + 4)) - {item}
        for scorer in (plain, walk):
            assert group | {160} == set(scorer.of(asked).nearest(4).tolist())
        assert group == set(damped.of(asked).nearest(3).tolist())


@pytest.mark.parametrize("trade", [(), (1.5,), (0.8, 30, 0.5)])
def test_lists_are_the_best_of_all_scores(trade: tuple[float, ...]) -> None:
    """The shop has fewer items than are weighed for a list."""
    scorer, everything = weigher(*trade), np.arange(161, dtype=np.int32)
    assert len(everything) < POOL
    allowed = np.random.default_rng(0).random(161) < 0.7
    for asked in (np.array([3], np.int32), np.array([3, 90, 160], np.int32)):
        reached = scorer.evidence.reach(asked).items
        for mask in (None, allowed):
            open_to = reached if mask is None else reached[mask[reached]]
            score = scorer.of(asked).score(everything)
            best = open_to[np.lexsort((open_to, -score[open_to]))]
            np.testing.assert_array_equal(scorer.of(asked).nearest(5, mask), best[:5])


def test_measures_are_what_they_are_called(evidence: PairEvidence) -> None:
    """3 lies in two baskets, with 1, and with 2 and 4."""
    asked, found = np.array([3], np.int32), columns_of(evidence, 3)
    scores = {m: np.exp(Weigher(evidence, m, Trade()).of(asked).score(EVERYTHING)) for m in MEASURES}
    np.testing.assert_allclose(scores["jaccard"][[1, 2]], [1 / 4, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(scores["walk"], found["walk1"] + 0.3 * found["walk2"], rtol=1e-4, atol=1e-8)
    steps_of_four = sum(found[f"walk{hops}"] / 2**hops for hops in range(1, 5))
    np.testing.assert_allclose(scores["pagerank"][:3], steps_of_four[:3] / np.sqrt([4, 4, 3]), rtol=1e-5)


def test_what_goes_together_above_all_else_comes_first_and_the_rest_keeps_its_order() -> None:
    """160 lies in half of all baskets, and so is likely beside everything and particular to nothing."""
    asked, everything = np.array([57], np.int32), np.arange(161, dtype=np.int32)
    plain, both = weigher(), weigher(0, 1, 3)
    before, after = plain.of(asked).score(everything), both.of(asked).score(everything)
    group = [56, 58, 59]
    assert (after[group] - after[160] > before[group] - before[160]).all()
    others = np.setdiff1d(np.flatnonzero(before < before[group].min()), asked)
    np.testing.assert_array_equal(np.argsort(-before[others])[20:], np.argsort(-after[others])[20:])
    for some in (everything[:90], everything[50:60]):  # a score does not depend on what else is scored
        np.testing.assert_allclose(both.of(asked).score(some), after[some], rtol=1e-4)


def test_where_walks_end_what_is_bought_most_follows() -> None:
    evidence = PairEvidence.of(Baskets.of_lists([[0, 1], [2, 3], [2, 4], [2, 5]]), np.full(7, -1))
    walk = Weigher(evidence, "walk", Trade())
    assert walk.of(np.array([0], np.int32)).nearest(3).tolist() == [1, 2, 3]
    assert walk.of(np.array([0], np.int32)).nearest(9).tolist() == [1, 2, 3, 4, 5]
    allowed = np.array([True, False, True, False, True, True, True])
    assert walk.of(np.array([0], np.int32)).nearest(2, allowed).tolist() == [2, 4]


def test_it_comes_back_from_its_arrays() -> None:
    found, asked, items = weigher(0.5, 10, 0.3), np.array([1, 3], np.int32), np.arange(161, dtype=np.int32)
    for scorer in (found, *(Weigher(found.evidence, measure, found.trade) for measure in MEASURES)):
        again = Weigher.restored(scorer.arrays(), found.trade)
        np.testing.assert_array_equal(scorer.of(asked).score(items), again.of(asked).score(items))
        np.testing.assert_array_equal(scorer.of(asked).nearest(9), again.of(asked).nearest(9))
