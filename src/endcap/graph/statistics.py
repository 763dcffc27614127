"""What a co-purchase graph looks like: degrees, clustering, communities, hubs."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.baskets import baskets_of
from endcap.graph.copurchase import co_purchase
from endcap.graph.edges import check_weights, hubs
from endcap.kernels.structure import move_nodes, triangles
from endcap.shop import Shop
from endcap.shop.describe import Spread

SUPPORTS = (1, 2, 3)  # of a pair: how much of the graph is chance shows in what is left when it must occur again
HUBS_SHOWN = 5
PARTNERS = 10_000  # of an item; nothing worth knowing of a hub lies beyond
LEAST_GAIN = 1e-6  # of modularity


class GraphStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A graph without directions in numbers.

    Attributes:
        nodes: that have an edge; edges: each pair once; local_clustering: mean, over the nodes with two neighbours or
        more, of the share of pairs of neighbours that are linked; local_clustering_of_all: where nodes with one
        neighbour count as 0; transitivity: the share of all such pairs that are linked. Hubs rule it: on real baskets
        it lies far below.
        communities: of two nodes or more, by Louvain's method; largest_community: its share of the nodes;
        hubs: how many nodes have a degree above the 99.9 % quantile; hub_edges: share of edges with such an end.
    """

    nodes: int
    edges: int
    degree: Spread
    local_clustering: float
    local_clustering_of_all: float
    transitivity: float
    communities: int
    modularity: float
    largest_community: float
    hubs: int
    hub_edges: float


class SupportedGraph(msgspec.Struct, frozen=True):
    """The pairs that occur so many times."""

    support: int
    graph: GraphStatistics


class Hub(msgspec.Struct, frozen=True):
    """A product that is bought with many others."""

    item: str
    partners: int
    baskets: int


class GraphDescription(msgspec.Struct, frozen=True, kw_only=True):
    """The co-purchase graph of a shop, pairs of one basket.

    Attributes:
        unit: what a basket is; with_pairs: baskets of two items or more; too_large: left out for their size;
        graphs: by how often a pair must occur; hubs: the products with the most partners.
    """

    unit: str
    baskets: int
    with_pairs: int
    too_large: int
    graphs: list[SupportedGraph]
    hubs: list[Hub]


def describe_graph(shop: Shop, *, threads: int = 1) -> GraphDescription:
    """Measure what is bought together in a shop.

    Raises:
        InputError: if nothing was bought together.
    """
    baskets = baskets_of(shop)
    with_pairs = int((baskets.sizes >= 2).sum())
    if not with_pairs:
        raise InputError(f"no graph: none of {len(baskets):,} {baskets.unit} holds two items")
    co = co_purchase(baskets, shop.n_items, per_item=PARTNERS, threads=threads)
    partners = np.diff(co.counts.indptr)
    first = np.argsort(-partners, kind="stable")[:HUBS_SHOWN]
    return GraphDescription(
        unit=baskets.unit,
        baskets=len(baskets),
        with_pairs=with_pairs,
        too_large=baskets.too_large,
        graphs=[
            SupportedGraph(support, statistics(_at_least(co.counts, support)))
            for support in SUPPORTS
            if (co.counts.data >= support).any()
        ],
        hubs=[Hub(shop.items[item], int(partners[item]), int(co.n_of[item])) for item in first if partners[item]],
    )


def statistics(graph: csr_array) -> GraphStatistics:
    """Measure a symmetric graph; its weights matter for the communities alone.

    Raises:
        InputError: if it is not square or not symmetric.
    """
    check_weights(graph, "statistics")
    graph = _undirected(graph)
    degree = np.diff(graph.indptr)
    linked = degree > 0
    local, transitivity = clustering(graph)
    community = communities(graph)
    sizes = np.bincount(community[linked])
    hub = hubs(graph)
    of_hub = np.repeat(hub, degree) | hub[graph.indices]
    return GraphStatistics(
        nodes=int(linked.sum()),
        edges=graph.nnz // 2,
        degree=Spread.of(degree[linked]),
        local_clustering=float(local[degree >= 2].mean()) if (degree >= 2).any() else 0.0,
        local_clustering_of_all=float(local[linked].mean()) if linked.any() else 0.0,
        transitivity=transitivity,
        communities=int((sizes >= 2).sum()),
        modularity=modularity(graph, community),
        largest_community=float(sizes.max(initial=0) / max(1, linked.sum())),
        hubs=int(hub.sum()),
        hub_edges=float(of_hub.mean()) if len(of_hub) else 0.0,
    )


def clustering(graph: csr_array) -> tuple[NDArray[np.float64], float]:
    """The local coefficient of each node (n,), 0 below two neighbours, and the transitivity of the whole.

    Raises:
        InputError: if the graph is not square or not symmetric.
    """
    graph = _undirected(graph)
    degree = np.diff(graph.indptr).astype(np.int64)
    place = np.empty(len(degree), np.int32)
    place[np.argsort(degree, kind="stable")] = np.arange(len(degree), dtype=np.int32)
    closed, pairs = triangles(graph.indptr, graph.indices, place), degree * (degree - 1) // 2
    local = np.divide(closed, pairs, out=np.zeros(len(degree)), where=pairs > 0)
    return local, float(closed.sum() / max(1, pairs.sum()))


def communities(graph: csr_array, *, resolution: float = 1.0) -> NDArray[np.int32]:
    """(n,): a community for each node, numbered by size, the largest 0; alone where a node has no edge.

    Blondel et al. 2008, "Fast unfolding of communities in large networks"; nodes in order of number, so the result
    does not change.

    Raises:
        InputError: if the graph is not square or not symmetric, has weights that are below 0 or no
        numbers, or resolution is not above 0.
    """
    if not 0 < resolution < np.inf:
        raise InputError(f"resolution={resolution}: a number above 0; above 1 for more communities")
    check_weights(graph, "communities")
    level = _undirected(graph).astype(np.float64)
    of_node = np.arange(graph.shape[0])
    total = float(level.sum())
    while total > 0:
        community = np.arange(level.shape[0])
        degree = np.asarray(level.sum(axis=1)).ravel()
        if not move_nodes(level.indptr, level.indices, level.data, degree, total, resolution, LEAST_GAIN, community):
            break
        names, community = np.unique(community, return_inverse=True)
        of_node = community[of_node]
        n = len(community)
        joined = csr_array((np.ones(n), community, np.arange(n + 1)), shape=(n, len(names)))
        level = csr_array(joined.T @ level @ joined)  # links inside become loops
    sizes = np.bincount(of_node)
    rank = np.empty(len(sizes), np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes), dtype=np.int32)
    return rank[of_node]


def modularity(graph: csr_array, community: NDArray[np.integer]) -> float:
    """How much more weight lies inside the communities than chance would put there.

    Raises:
        InputError: if not every node has a community.
    """
    if len(community) != graph.shape[0]:
        raise InputError(f"modularity: {graph.shape[0]} nodes and {len(community)} communities")
    total = float(graph.sum())
    if total == 0:
        return 0.0
    row = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    inside = float(graph.data[community[row] == community[graph.indices]].sum(dtype=np.float64))
    held = np.bincount(community, np.asarray(graph.sum(axis=1)).ravel())
    return inside / total - float(((held / total) ** 2).sum())


def _undirected(graph: csr_array) -> csr_array:
    """The graph without loops, once it is known to be symmetric."""
    if graph.shape[0] != graph.shape[1] or (graph != graph.T).nnz:
        raise InputError("statistics: a symmetric graph is needed, as counts of baskets are")
    if graph.diagonal().any():
        graph = graph.copy()
        graph.setdiag(0)
    if (graph.data == 0).any():
        graph = graph.copy()
        graph.eliminate_zeros()
    return graph


def _at_least(graph: csr_array, least: float) -> csr_array:
    found = csr_array((np.where(graph.data >= least, graph.data, 0), graph.indices, graph.indptr), shape=graph.shape)
    found = found.copy()  # what is dropped in place would be dropped from the arrays that others share
    found.eliminate_zeros()
    return found
