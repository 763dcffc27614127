"""What is taken out of the graph is gone, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.graph import Baskets
from endcap.models.cross_sell.hiding import DAY, HidingGraph
from endcap.models.cross_sell.settings import CrossSellConfig

N_ITEMS = 9
LISTS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=5), min_size=1, max_size=12)


def graph_of(lists: list[list[int]], days: list[int] | None = None) -> HidingGraph:
    made = Baskets.of_lists(lists)
    times = np.zeros(len(lists), np.int64) if days is None else np.array(days, np.int64) * DAY
    dated = Baskets(made.offsets, made.items, made.user, times)
    return HidingGraph(dated, N_ITEMS, CrossSellConfig(links=N_ITEMS, half_life_days=30.0, min_support=1), threads=1)


def dense(graph: HidingGraph, mass: np.ndarray) -> np.ndarray:
    found = np.zeros((N_ITEMS, N_ITEMS), np.float32)
    found[graph.adjacency.rows, graph.adjacency.columns] = mass
    return found


@settings(deadline=None, max_examples=60)
@given(LISTS, st.data())
def test_a_graph_without_baskets_is_the_graph_of_the_others(lists: list[list[int]], data: st.DataObject) -> None:
    hidden = data.draw(st.sets(st.integers(0, len(lists) - 1), max_size=len(lists) - 1))
    days = data.draw(st.lists(st.integers(0, 60), min_size=len(lists), max_size=len(lists)))
    days[data.draw(st.sampled_from([n for n in range(len(lists)) if n not in hidden]))] = 60  # the last one stays
    whole = graph_of(lists, days)
    others = [n for n in range(len(lists)) if n not in hidden]
    rest = graph_of([lists[n] for n in others], [days[n] for n in others])
    np.testing.assert_allclose(
        dense(whole, whole.without(np.array(sorted(hidden), np.int64))), dense(rest, rest.mass), rtol=1e-4, atol=2e-6
    )


def test_a_link_that_other_baskets_made_too_stays_thinner() -> None:
    graph = graph_of([[0, 1], [0, 1, 2], [3, 4]])
    left = dense(graph, graph.without(np.array([1])))
    assert left[0, 1] == left[1, 0] == 1
    assert left[0, 2] == left[2, 1] == 0
    assert left[3, 4] == 1


def test_an_old_basket_counts_half_after_its_half_life() -> None:
    graph = graph_of([[0, 1], [2, 3]], [0, 30])
    assert dense(graph, graph.mass)[0, 1] == pytest.approx(0.5)
    assert dense(graph, graph.mass)[2, 3] == pytest.approx(1)


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1.0), (1.0, None)])
def test_shares_of_the_mean_add_up_to_one_for_who_hears_and_of_the_giver_for_who_gives(
    power: float, expected: float | None
) -> None:
    graph = graph_of([[0, 1], [0, 2], [1, 2, 3], [0, 3]])
    assert (graph.quiet == 1).all()
    shares = dense(graph, graph.shares(graph.mass, power).numpy())
    sums = shares.sum(1) if expected else shares.sum(0)
    np.testing.assert_allclose(sums[:4], 1, rtol=1e-5)


def test_what_a_hub_says_is_divided_by_the_root_of_its_links() -> None:
    graph = graph_of([[0, 1], [0, 2], [0, 1, 3], [0, 4]])
    np.testing.assert_allclose(graph.quiet, [0.5, *[1] * (N_ITEMS - 1)])
    shares = dense(graph, graph.shares(graph.mass, 0.0).numpy())
    assert shares[3, 0] / shares[3, 1] == pytest.approx(0.5)
    np.testing.assert_allclose(shares.sum(1)[:5], 1, rtol=1e-5)


def test_the_symmetric_form_is_symmetric() -> None:
    graph = graph_of([[0, 1], [0, 2], [1, 2, 3], [0, 3]])
    shares = dense(graph, graph.shares(graph.mass, 0.5).numpy())
    np.testing.assert_allclose(shares, shares.T)


def test_no_baskets_no_links() -> None:
    graph = graph_of([[0], [1]])
    assert len(graph.mass) == 0
    assert len(graph.without(np.array([0]))) == 0
