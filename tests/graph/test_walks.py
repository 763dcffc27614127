"""Walks, important neighbours, PageRank and samples, against their definitions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph import co_purchase, quiet_hubs, weigh
from endcap.graph.walks import PageRank, important_neighbours, neighbourhood, random_walks, sample_edges

from .test_copurchase import planted


def random_graph(n: int = 40, share: float = 0.15, seed: int = 0) -> csr_array:
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n, n)) < share, rng.random((n, n)) + 0.1, 0).astype(np.float32)
    np.fill_diagonal(dense, 0)
    return csr_array(dense)


STAR = csr_array(np.array([[0, 1, 3, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], np.float32))


def test_walks_follow_edges_and_end_at_dead_ends():
    graph = random_graph()
    paths = random_walks(graph, np.arange(40), length=6)
    dense = graph.toarray()
    for path in paths:
        for here, there in pairwise(path):
            assert (dense[here, there] > 0) if there >= 0 else (here < 0 or not dense[here].any())
    assert random_walks(STAR, np.array([3]), length=2).tolist() == [[3, -1, -1]]


def test_steps_are_in_proportion_to_weight_or_alike():
    starts = np.zeros(20_000, np.int64)
    assert (random_walks(STAR, starts, length=1)[:, 1] == 2).mean() == pytest.approx(0.75, abs=0.02)
    assert (random_walks(STAR, starts, length=1, weighted=False)[:, 1] == 2).mean() == pytest.approx(0.5, abs=0.02)


def test_a_walk_goes_back_to_its_start():
    line = csr_array(np.eye(50, k=1, dtype=np.float32))
    ends = random_walks(line, np.zeros(5000, np.int64), length=20, restart=0.5)[:, -1]
    assert ends.mean() == pytest.approx(2, abs=0.1)  # a step, and as many more as there are no returns


def test_the_seed_decides_and_nothing_else():
    graph = random_graph()
    assert (random_walks(graph, np.arange(40), length=5) == random_walks(graph, np.arange(40), length=5)).all()
    assert (random_walks(graph, np.arange(40), length=5, seed=1) != random_walks(graph, np.arange(40), length=5)).any()
    large = random_graph(700, 0.02)
    one, four = important_neighbours(large, k=5), important_neighbours(large, k=5, threads=4)
    assert (one.indices == four.indices).all()
    assert (one.data == four.data).all()


def test_important_neighbours_are_those_that_walks_meet():
    near = important_neighbours(STAR, k=2, walks=2000, length=1)
    np.testing.assert_allclose(near.toarray()[0], [0, 0.25, 0.75, 0], atol=0.03)
    assert near.toarray()[3].tolist() == [0, 0, 0, 0]
    graph = random_graph()
    near = important_neighbours(graph, k=7, walks=50)
    assert (near.diagonal() == 0).all()
    assert np.diff(near.indptr).max() <= 7
    linked = np.diff(near.indptr) > 0
    np.testing.assert_allclose(near.sum(axis=1)[linked], 1, rtol=1e-5)
    assert near.has_canonical_format


def test_important_neighbours_keep_the_most_visited_and_then_the_lower():
    full = csr_array((1 - np.eye(30)).astype(np.float32))
    all_of_them, some = (important_neighbours(full, k=k, walks=20).toarray() for k in (30, 4))
    for row, kept in zip(all_of_them, some, strict=True):
        best = np.lexsort((np.arange(30), -row))[:4]
        assert set(np.flatnonzero(kept)) == set(best)


def test_page_rank_solves_its_equation():
    graph = random_graph(seed=3)
    graph = csr_array(graph.multiply((np.arange(40) != 5)[:, None]))  # 5 is a dead end
    dense = graph.toarray().astype(float)
    sums = dense.sum(axis=1, keepdims=True)
    step = np.divide(dense, sums, out=np.zeros_like(dense), where=sums > 0)
    found = PageRank(graph, damping=0.7, steps=80).of(np.array([0, 5, 9]))
    for source, row in zip([0, 5, 9], found, strict=True):
        home = np.eye(40)[source]
        back = step.copy()
        back[sums.ravel() == 0] = home
        np.testing.assert_allclose(row, np.linalg.solve(np.eye(40) - 0.7 * back.T, 0.3 * home), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_page_rank_of_several_sources_is_the_mean_of_each():
    ranks = PageRank(random_graph(seed=4))
    basket = csr_array(np.array([[1, 0, 0, 1] + [0] * 36], np.float32))
    np.testing.assert_allclose(ranks.of(basket)[0], ranks.of(np.array([0, 3])).mean(axis=0), atol=1e-6)


def test_the_edges_of_page_rank_are_its_largest_chances(monkeypatch):
    monkeypatch.setattr("endcap.graph.walks.BLOCK_BYTES", 4 * 40 * 7)  # seven sources at a time
    graph = random_graph(seed=5)
    degree = np.diff(graph.indptr)
    ranks = PageRank(graph, steps=5)
    chances = ranks.of(np.arange(40)) / np.sqrt(np.maximum(degree, 1))
    np.fill_diagonal(chances, 0)
    edges = ranks.edges(6, over_degree=degree).toarray()
    for row, kept in zip(chances, edges, strict=True):
        wanted = [item for item in np.lexsort((np.arange(40), -row))[:6] if row[item] > 0]
        np.testing.assert_allclose(kept[wanted], row[wanted], rtol=1e-4)
        assert (kept > 0).sum() == len(wanted)


def test_a_product_in_every_basket_leads_no_walk_astray():
    without, with_hub = (co_purchase(planted(hub), 301) for hub in (False, True))
    plain, loud, quiet = weigh(without), weigh(with_hub), quiet_hubs(weigh(with_hub))
    before = PageRank(plain, steps=6).edges(10)
    for graph in (loud, quiet):
        after = PageRank(graph, steps=6).edges(10)
        for item in range(300):
            lists = [set(found.indices[found.indptr[item] : found.indptr[item + 1]]) for found in (before, after)]
            assert len(lists[0] - lists[1]) <= 1
            assert 300 not in lists[1] or graph is loud


def test_a_small_node_keeps_its_whole_neighbourhood():
    graph = random_graph()
    nodes = np.array([7, 3, 7])
    whole = sample_edges(graph, nodes, 40)
    np.testing.assert_array_equal(whole.toarray(), graph.toarray()[nodes])


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_are_different_edges_with_their_weights(weighted):
    graph = random_graph(60, 0.5)
    some = sample_edges(graph, np.arange(60), 8, weighted=weighted)
    assert (np.diff(some.indptr) == 8).all()
    assert some.has_canonical_format
    dense = some.toarray()
    np.testing.assert_array_equal(dense[dense > 0], graph.toarray()[dense > 0])


@pytest.mark.parametrize("weighted", [False, True])
def test_samples_are_drawn_as_often_as_they_should(weighted):
    weights = np.array([[1, 2, 3, 4, 10]], np.float32)
    graph = csr_array(np.vstack([weights] * 5))
    drawn = np.mean([sample_edges(graph, np.array([0]), 1, weighted=weighted, seed=s).toarray()[0] > 0
                     for s in range(4000)], axis=0)  # fmt: skip
    np.testing.assert_allclose(drawn, weights[0] / 20 if weighted else [0.2] * 5, atol=0.03)
    two = np.mean([sample_edges(graph, np.array([0]), 2, weighted=weighted, seed=s).toarray()[0] > 0
                   for s in range(4000)], axis=0)  # fmt: skip
    p = weights[0] / 20
    second = [p[i] + sum(p[j] * p[i] / (1 - p[j]) for j in range(5) if j != i) for i in range(5)]
    np.testing.assert_allclose(two, second if weighted else [0.4] * 5, atol=0.03)


def test_a_neighbourhood_is_numbered_from_what_was_asked_about():
    graph = random_graph()
    layers = neighbourhood(graph, np.array([4, 2]), (3, 2))
    asked = np.array([4, 2])
    for layer, fanout in zip(layers, (3, 2), strict=True):
        assert layer.nodes[: len(asked)].tolist() == asked.tolist()
        assert len(np.unique(layer.nodes)) == len(layer.nodes)
        assert layer.edges.shape == (len(asked), len(layer.nodes))
        assert np.diff(layer.edges.indptr).max() <= fanout
        dense = layer.edges.toarray()
        np.testing.assert_array_equal(dense[dense > 0], graph.toarray()[asked][:, layer.nodes][dense > 0])
        asked = layer.nodes


def test_a_whole_neighbourhood_passes_the_messages_of_the_graph():
    graph, features = random_graph(), np.random.default_rng(1).normal(size=(40, 3))
    inner, outer = neighbourhood(graph, np.array([9, 30]), (40, 40))
    once = outer.edges @ features[outer.nodes]
    np.testing.assert_allclose(inner.edges @ once, (graph @ (graph @ features))[[9, 30]], rtol=1e-5)


def test_an_empty_graph():
    nothing = csr_array((0, 0), dtype=np.float32)
    assert important_neighbours(nothing).shape == (0, 0)
    assert PageRank(nothing).edges(3).shape == (0, 0)
    assert random_walks(nothing, np.empty(0, int), length=3).shape == (0, 4)
    unlinked = csr_array((3, 3), dtype=np.float32)
    assert PageRank(unlinked).of(np.array([1])).tolist() == [[0, 1, 0]]
    assert sample_edges(unlinked, np.array([0, 2]), 5).nnz == 0


def test_what_is_refused():
    graph = random_graph()
    for call, says in [
        (lambda: random_walks(graph, np.array([40]), length=3), r"must be in 0 \.\. 39"),
        (lambda: random_walks(graph, np.array([0.5]), length=3), "whole numbers"),
        (lambda: random_walks(graph, np.array([0]), length=3, restart=1), "restart=1"),
        (lambda: random_walks(-graph, np.array([0]), length=3), "finite weight"),
        (lambda: important_neighbours(graph, k=0), "k=0"),
        (lambda: important_neighbours(csr_array(graph[:5])), "5 x 40"),
        (lambda: PageRank(graph, damping=1.0), "damping=1.0"),
        (lambda: PageRank(-graph), "below 0"),
        (lambda: PageRank(csr_array(np.full((2, 2), np.nan))), "finite weight"),
        (lambda: important_neighbours(csr_array(([0.0], ([0], [1])), shape=(2, 2))), "weight 0"),
        (lambda: PageRank(graph).of(csr_array(np.ones((1, 3)))), "over 3 nodes"),
        (lambda: sample_edges(graph, np.array([0]), 0), "fanout=0"),
        (lambda: neighbourhood(graph, np.array([1, 1])), "given twice"),
    ]:
        with pytest.raises(InputError, match=says):
            call()
