"""Questions of the zero-shot benchmark, and what answers them beside the network."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from cross_sell_zero_shot import NEGATIVES, Asked, Bundles, Pairs, asked_of, beside, by_titles, shared_levels, tied

ONE = Asked(0, np.array([1, 2]), np.array([0, 3, 4]), 0)


def domain() -> Bundles:
    names = [f"d{number}" for number in range(40)]
    titles = [f"word{number} thing{number % 4}" for number in range(40)]
    catalogue = pa.table({"item": names, "title": titles, "category": ["a"] * 40})
    return Bundles(catalogue, {0: names[:6], 1: names[6:9]}, [(0, names[:3]), (1, names[6:8]), (1, names[8:9])])


def test_a_question_is_one_product_of_a_bundle_among_what_the_session_lacks() -> None:
    questions = asked_of(domain(), seed=1)
    assert [one.session for one in questions] == [0, 1]  # a bundle of one product asks nothing
    for one, bundle, session in zip(questions, (range(3), range(6, 8)), (range(6), range(6, 9)), strict=True):
        assert sorted([*one.rest, one.among[0]]) == list(bundle)
        assert len(one.among) == 1 + NEGATIVES
        assert not np.isin(one.among[1:], session).any()


def test_titles_beside_a_network_count_as_much_as_is_said_and_alone_at_infinity() -> None:
    def network(one: Asked) -> np.ndarray:
        return one.among.astype(float)

    titles = by_titles(domain())
    of_titles = titles(ONE)
    np.testing.assert_allclose(beside(network, titles, 8.0)(ONE), ONE.among + 8 * of_titles)
    np.testing.assert_array_equal(beside(network, titles, np.inf)(ONE), of_titles)


def test_equal_scores_share_their_places() -> None:
    assert tied(np.array([1.0, 0.0, 0.0])).tolist() == [1, 1]
    assert tied(np.zeros(21))[0] == pytest.approx(10 / 21)


def test_levels_are_shared_from_the_top_down() -> None:
    catalogue = pa.table({"category": ["a/b/c", "a/b/d", "x/b/c", None]})
    pairs = Pairs(np.zeros(4, int), np.array([0, 0, 0, 3]), np.array([0, 1, 2, 3]), np.zeros(4, bool))
    assert shared_levels(catalogue, pairs).tolist() == [3, 2, 0, 0]
