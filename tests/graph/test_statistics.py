"""What a graph looks like, against plain definitions and planted communities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.edges import graph_of
from endcap.graph.statistics import clustering, communities, describe_graph, modularity, statistics

from .shops import shop_of


def symmetric(edges: list[tuple[int, int]], n: int) -> csr_array:
    ends = np.array(edges, np.int64).reshape(-1, 2)
    return graph_of(np.append(ends[:, 0], ends[:, 1]), np.append(ends[:, 1], ends[:, 0]), shape=(n, n))


@given(edges=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=40))
@settings(max_examples=150, deadline=None)
def test_clustering_against_the_plain_definition(edges):
    graph = symmetric(edges, 9)
    dense = graph.toarray()
    degree, closed = dense.sum(axis=0), np.diagonal(dense @ dense @ dense) / 2
    pairs = degree * (degree - 1) / 2
    local, transitivity = clustering(graph)
    np.testing.assert_allclose(local, np.where(pairs > 0, closed / np.maximum(pairs, 1), 0))
    assert transitivity == pytest.approx(closed.sum() / max(pairs.sum(), 1))


def test_local_clustering_and_transitivity_differ_at_a_hub():
    """Twenty triangles around one node: each of their nodes sees only linked pairs, the hub hardly any."""
    edges = [(0, 1 + n) for n in range(40)] + [(1 + 2 * n, 2 + 2 * n) for n in range(20)]
    about = statistics(symmetric(edges, 42))
    assert (about.nodes, about.edges, about.degree.max) == (41, 60, 40)
    assert about.local_clustering == pytest.approx((40 + 20 / 780) / 41)
    assert about.transitivity == pytest.approx(60 / (40 + 780))
    assert (about.hubs, about.hub_edges) == (1, pytest.approx(2 / 3))


def planted(groups: int = 6, size: int = 20, seed: int = 0) -> tuple[csr_array, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), size)
    chance = np.where(group[:, None] == group, 0.5, 0.02)
    upper = np.triu(rng.random(chance.shape) < chance, 1)
    return csr_array((upper | upper.T).astype(np.float32)), group


def test_planted_communities_are_found():
    graph, group = planted()
    found = communities(graph)
    assert len({(a, b) for a, b in zip(found, group, strict=True)}) == 6
    assert modularity(graph, found) == pytest.approx(modularity(graph, group))
    assert (np.diff(np.bincount(found)) <= 0).all()
    assert (communities(graph) == found).all()


def test_modularity_against_its_definition():
    graph, group = planted(3, 5)
    dense = graph.toarray().astype(float)
    degree, total = dense.sum(axis=0), dense.sum()
    same = group[:, None] == group
    wanted = ((dense - np.outer(degree, degree) / total) * same).sum() / total
    assert modularity(graph, group) == pytest.approx(wanted)


def test_louvain_is_no_worse_than_another_implementation():
    networkx = pytest.importorskip("networkx")
    rng = np.random.default_rng(3)
    dense = np.triu(rng.integers(1, 9, (60, 60)) * (rng.random((60, 60)) < 0.08), 1).astype(np.float32)
    graph = csr_array(dense + dense.T)
    parts = networkx.community.louvain_communities(networkx.from_numpy_array(dense + dense.T), seed=1)
    theirs = np.empty(60, int)
    for number, part in enumerate(parts):
        theirs[list(part)] = number
    assert modularity(graph, communities(graph)) > modularity(graph, theirs) - 0.03


def test_more_communities_at_a_higher_resolution():
    graph, _ = planted()
    assert communities(graph, resolution=5).max() > communities(graph).max() > communities(graph, resolution=0.1).max()


def test_graphs_without_edges():
    for n in (0, 3):
        about = statistics(csr_array((n, n), dtype=np.float32))
        assert (about.nodes, about.edges, about.local_clustering, about.communities) == (0, 0, 0, 0)


def test_what_is_refused():
    one_way = csr_array(np.array([[0, 1], [0, 0]], np.float32))
    for call in (statistics, clustering, communities):
        with pytest.raises(InputError, match="symmetric"):
            call(one_way)
    with pytest.raises(InputError, match="resolution=0"):
        communities(one_way, resolution=0)
    with pytest.raises(InputError, match="below 0"):
        communities(csr_array(np.array([[0, -1], [-1, 0]], np.float32)))
    with pytest.raises(InputError, match="finite"):
        communities(csr_array(np.array([[0, np.inf], [np.inf, 0]], np.float32)))
    with pytest.raises(InputError, match="2 nodes and 3 communities"):
        modularity(one_way, np.zeros(3, int))


def test_a_shop_s_graph():
    rows = [(f"u{n}", item, "purchase", n) for n in range(3) for item in ("bag", f"a{n}")]
    rows += [("v", item, "purchase", 0) for item in ("a0", "bag")] + [("w", "solo", "purchase", 0)]
    about = describe_graph(shop_of(*rows))
    assert (about.baskets, about.with_pairs, about.unit) == (5, 4, "sessions of purchases")
    assert [(found.support, found.graph.nodes, found.graph.edges) for found in about.graphs] == [(1, 4, 3), (2, 2, 1)]
    assert (about.hubs[0].item, about.hubs[0].partners, about.hubs[0].baskets) == ("bag", 3, 4)


def test_a_shop_where_nothing_was_bought_together():
    with pytest.raises(InputError, match="no graph: none of 1 sessions of purchases holds two items"):
        describe_graph(shop_of(("u", "a", "purchase", 0)))
    with pytest.raises(InputError, match="no graph: none of 0"):
        describe_graph(shop_of(("u", "a", "impression", 0)))
