"""Columns against what they are called, lessons that hold nothing of their answers, popularity that can be traded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from endcap.graph import Baskets
from endcap.models.cross_sell_evidence import COLUMNS, PairEvidence, Weigher, lists_of

LISTS = [[0, 1, 2], [0, 1], [1, 3], [2, 3, 4], [0, 4]]
CATEGORY = np.array([0, 0, 1, 1, -1, 1])
N = len(CATEGORY)


def asking(*baskets: list[int]) -> csr_array:
    offsets = np.append(0, np.cumsum([len(basket) for basket in baskets]))
    return csr_array((np.ones(offsets[-1], np.float32), np.concatenate(baskets), offsets), (len(baskets), N))


@pytest.fixture
def columns() -> dict[str, np.ndarray]:
    """Of all items as candidates for {0} and for {1, 2}."""
    evidence = PairEvidence.of(Baskets.of_lists(LISTS), CATEGORY)
    (found,) = evidence.columns(asking([0], [1, 2]), np.tile(np.arange(N), (2, 1)))
    return {name: found[..., place] for place, name in enumerate(COLUMNS)}


def test_a_walk_of_one_step_goes_to_another_item_of_a_basket(columns: dict[str, np.ndarray]) -> None:
    """0 lies in three baskets: with 1 and 2, with 1, with 4."""
    np.testing.assert_allclose(columns["walk1"][0], [0, (0.5 + 1) / 3, 0.5 / 3, 0, 1 / 3, 0], rtol=1e-6)
    np.testing.assert_allclose(columns["walk1"][0].sum(), 1, rtol=1e-6)


def test_longer_walks_reach_further_and_lose_nothing_but_the_way_back(columns: dict[str, np.ndarray]) -> None:
    assert columns["walk1"][0, 3] == 0
    assert columns["walk2"][0, 3] > 0
    assert (columns["walk4"][0, :5] > 0).all()
    assert not columns["walk4"][:, 5].any()


def test_counts_cosine_and_jaccard(columns: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(columns["count"][0], [0, 2, 1, 0, 1, 0])
    np.testing.assert_array_equal(columns["count"][1], [3, 0, 0, 2, 1, 0])
    np.testing.assert_allclose(columns["cosine"][0, 1], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(columns["jaccard"][0, 1], 2 / 4, rtol=1e-6)
    np.testing.assert_allclose(columns["overlap"][1, 0], 2**2 / 2 + 1, rtol=1e-6)


def test_categories_and_counts(columns: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(columns["share in category"][1], [0.5, 0.5, 0.5, 0.5, 0, 0.5])
    np.testing.assert_allclose(columns["baskets"][0], np.log1p([3, 3, 2, 2, 2, 0]), rtol=1e-6)
    np.testing.assert_allclose(columns["asked"][:, 0], np.log([1, 2]), rtol=1e-6)


def test_columns_do_not_depend_on_who_else_is_asked() -> None:
    evidence = PairEvidence.of(Baskets.of_lists(LISTS), CATEGORY)
    everything = np.arange(N)[None]
    (alone,) = evidence.columns(asking([1, 2]), everything)
    (both,) = evidence.columns(asking([0], [1, 2]), np.tile(everything, (2, 1)))
    np.testing.assert_allclose(alone[0], both[1], rtol=1e-6)


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


def planted(n: int = 3_000, seed: int = 0) -> tuple[Baskets, np.ndarray]:
    """Baskets of two and three out of 40 groups of four; one item lies in half of all."""
    rng = np.random.default_rng(seed)
    made = []
    for group in rng.integers(0, 40, n):
        inside = (4 * group + rng.permutation(4)[: rng.integers(2, 4)]).tolist()
        made.append([*inside, 160] if rng.random() < 0.5 else inside)
    return Baskets.of_lists(made), np.arange(161) // 4 % 7


def weigher() -> Weigher:
    baskets, category = planted()
    return Weigher.fitted(baskets, category, at_most=600, per_basket=2, never=None, seed=0, threads=1)


def test_planted_groups_are_found_and_damping_lets_go_of_what_everybody_buys() -> None:
    found = weigher()
    everything = np.arange(161, dtype=np.int32)
    for item in (0, 57, 90):
        asked, group = np.array([item], np.int32), set(range(item // 4 * 4, item // 4 * 4 + 4)) - {item}
        plain = np.argsort(-found.score(asked, everything, damping=0, floor=1))
        assert group | {160} <= set(plain[:6].tolist()) | {item}
        damped = np.argsort(-found.score(asked, everything, damping=2, floor=1))
        assert group <= set(damped[:4].tolist())


def test_it_comes_back_from_its_arrays() -> None:
    found, asked, items = weigher(), np.array([3, 1], np.int32), np.arange(161, dtype=np.int32)
    again = Weigher.restored(found.arrays())
    np.testing.assert_array_equal(
        found.score(asked, items, damping=0.5, floor=10), again.score(asked, items, damping=0.5, floor=10)
    )
