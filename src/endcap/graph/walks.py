"""What is near a node: random walks, PinSage's important neighbours, personalised PageRank, samples of neighbours."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.edges import check_number, check_weights, row_normalised, stacked, top_edges
from endcap.kernels import walks as kernel

NODES_A_TURN = 256
BLOCK_BYTES = 1 << 26  # of dense numbers at a time


def random_walks(
    graph: csr_array,
    starts: NDArray[np.integer],
    *,
    length: int,
    restart: float = 0.0,
    weighted: bool = True,
    seed: int = 0,
) -> NDArray[np.int32]:
    """(n, length + 1): one walk from each of `starts` (n,), itself first; -1 behind a node without edges.

    Args:
        restart: the chance, before each step, of going back to the start; weighted: edges in proportion to weight.

    Raises:
        InputError: for starts that are no nodes, or numbers out of their range.
    """
    starts = _nodes(graph, starts)
    check_number("length", length, 0)
    check_number("seed", seed, 0)
    if not 0 <= restart < 1:
        raise InputError(f"restart={restart}: a chance from 0 to below 1")
    paths = np.empty((len(starts), length + 1), np.int32)
    kernel.walk(graph.indptr, graph.indices, _reached(graph, weighted), starts, restart, seed, paths)
    return paths


def important_neighbours(
    graph: csr_array,
    *,
    k: int = 50,
    walks: int = 200,
    length: int = 3,
    weighted: bool = True,
    seed: int = 0,
    threads: int = 1,
) -> csr_array:
    """(n, n): of each node the k others that short walks from it meet most often; their shares add up to 1.

    Ying et al. 2018, "Graph Convolutional Neural Networks for Web-Scale Recommender Systems", section 3.1. The result
    is the same whatever the threads.

    Raises:
        InputError: for numbers out of their range.
    """
    n = _square(graph)
    check_number("k", k, 1)
    check_number("walks", walks, 1)
    check_number("length", length, 1)
    check_number("seed", seed, 0)
    check_number("threads", threads, 1)
    k = min(k, max(n, 1))
    corpus = (graph.indptr, graph.indices, _reached(graph, weighted), walks, length, k, seed)
    free = deque((np.zeros(n, np.int32), np.empty(walks * length, np.int32)) for _ in range(threads))

    def work(first: int) -> tuple[NDArray, NDArray, NDArray]:
        scratch, last = free.popleft(), min(n, first + NODES_A_TURN)
        lengths, found = np.empty(last - first, np.int64), np.empty((last - first) * k, np.int32)
        shares = np.empty(len(found), np.float32)
        filled = kernel.visit(*corpus, first, last, *scratch, lengths, found, shares)
        free.append(scratch)
        return lengths, found[:filled].copy(), shares[:filled].copy()

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(work, range(0, n, NODES_A_TURN)))
    if not parts:
        return csr_array((0, 0), dtype=np.float32)
    lengths, found, shares = (np.concatenate(part) for part in zip(*parts, strict=True))
    return csr_array((shares, found, np.append(0, np.cumsum(lengths)).astype(np.int32)), shape=(n, n))


class PageRank:
    """Where a walk is found that goes back to its source, by chance 1 - damping, before each step.

    It follows edges in proportion to their weight, and goes back from a node without edges. `steps` of the power
    iteration x <- (1 - d) e + d P^T x; few of them look at a small neighbourhood and are as good at finding what goes
    with a product (papers: 6 steps on Grocery).

    Raises:
        InputError: for numbers out of their range.
    """

    def __init__(self, graph: csr_array, *, damping: float = 0.85, steps: int = 20) -> None:
        self.n = _square(graph)
        check_number("steps", steps, 1)
        if not 0 <= damping < 1:
            raise InputError(f"damping={damping}: a chance from 0 to below 1")
        check_weights(graph, "PageRank")
        self.damping, self.steps = damping, steps
        self._onwards = row_normalised(graph).T.tocsr()
        self._ends = np.asarray(graph.sum(axis=1)).ravel() <= 0

    def of(self, sources: NDArray[np.integer] | csr_array) -> NDArray[np.float32]:
        """(b, n): the chances from each source, a node, or a row (b, n) of weights of several nodes."""
        if isinstance(sources, csr_array):
            if sources.shape[1] != self.n:
                raise InputError(f"PageRank: sources over {sources.shape[1]} nodes, the graph has {self.n}")
            begin = row_normalised(sources.astype(np.float32)).T.toarray()
        else:
            nodes = _nodes(self._onwards, sources)
            begin = np.zeros((self.n, len(nodes)), np.float32)
            begin[nodes, np.arange(len(nodes))] = 1
        d, at = np.float32(self.damping), begin
        for _ in range(self.steps):
            lost = at[self._ends].sum(axis=0)
            at = d * (self._onwards @ at) + ((1 - d) + d * lost) * begin
        return at.T

    def blocks(self, sources: NDArray[np.integer]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """`of` for a stretch of the sources at a time, so that the memory is bounded."""
        at_once = max(1, BLOCK_BYTES // (4 * max(self.n, 1)))
        for first in range(0, len(sources), at_once):
            part = slice(first, min(len(sources), first + at_once))
            yield part, self.of(sources[part])

    def edges(self, k: int, *, over_degree: NDArray[np.floating] | None = None, power: float = 0.5) -> csr_array:
        """(n, n): of each node the k others with the largest chance, over a power of a degree (n,) where given."""
        check_number("k", k, 1)
        scale = np.ones(self.n, np.float32)
        if over_degree is not None:
            scale = np.maximum(over_degree, 1).astype(np.float32) ** -np.float32(power)
        parts = [csr_array((0, self.n), dtype=np.float32)]
        for rows, chances in self.blocks(np.arange(self.n)):
            scores = chances * scale
            scores[np.arange(len(scores)), np.arange(rows.start, rows.stop)] = 0
            parts.append(top_edges(csr_array(scores), k))
        return stacked(parts)


class Layer(NamedTuple):
    """One step out of some nodes.

    Attributes:
        nodes: (m,) those asked about, in their order, then what the sample reaches beside them;
        edges: (asked about, m) the edges that were drawn, with their weights.
    """

    nodes: NDArray[np.int32]
    edges: csr_array


def sample_edges(
    graph: csr_array, nodes: NDArray[np.integer], fanout: int, *, weighted: bool = False, seed: int = 0
) -> csr_array:
    """(len(nodes), n): at most `fanout` different edges of each node, all of them where it has no more.

    Args:
        weighted: drawn in proportion to the weights; else all alike. A node's draw depends on it and the seed alone.

    Raises:
        InputError: for what is no node, or numbers out of their range.
    """
    nodes = _nodes(graph, nodes)
    check_number("fanout", fanout, 1)
    check_number("seed", seed, 0)
    degrees = np.diff(graph.indptr)
    places = np.empty((len(nodes), min(fanout, max(1, int(degrees.max(initial=1))))), np.int64)
    kernel.sample(graph.indptr, graph.data, nodes, places.shape[1], weighted, seed, places)
    kept = places >= 0
    at = places[kept]
    indptr = np.append(0, np.cumsum(kept.sum(axis=1))).astype(np.int32)
    return csr_array((graph.data[at], graph.indices[at], indptr), shape=(len(nodes), graph.shape[1]))


def neighbourhood(
    graph: csr_array,
    nodes: NDArray[np.integer],
    fanouts: Sequence[int] = (25, 10),
    *,
    weighted: bool = False,
    seed: int = 0,
) -> list[Layer]:
    """Samples step by step outwards, as an inductive network needs them: 25 neighbours, 10 of each of these.

    Raises:
        InputError: as `sample_edges` does, and for a node that is given twice.
    """
    asked = _nodes(graph, nodes)
    if len(np.unique(asked)) != len(asked):
        raise InputError("neighbourhood: a node is given twice")
    layers = []
    number = np.full(_square(graph), -1, np.int32)
    for step, fanout in enumerate(fanouts):
        edges = sample_edges(graph, asked, fanout, weighted=weighted, seed=seed + step)
        number[asked] = np.arange(len(asked), dtype=np.int32)
        further = np.unique(edges.indices)
        further = further[number[further] < 0]
        number[further] = len(asked) + np.arange(len(further), dtype=np.int32)
        reached = np.concatenate([asked, further])
        shape = (len(asked), len(reached))
        local = csr_array((edges.data, number[edges.indices], edges.indptr), shape=shape)
        local.sort_indices()
        layers.append(Layer(reached.astype(np.int32), local))
        number[reached] = -1
        asked = reached
    return layers


def _reached(graph: csr_array, weighted: bool) -> NDArray[np.float64]:
    if not weighted:
        return np.empty(0)
    check_weights(graph, "walks")
    if not (graph.data > 0).all():
        raise InputError("walks: an edge of weight 0; leave it out, or take all as alike, weighted=False")
    return kernel.sums_of_rows(graph.indptr, graph.data)


def _square(graph: csr_array) -> int:
    if graph.shape[0] != graph.shape[1]:
        raise InputError(f"a graph over one kind of nodes is needed, not {graph.shape[0]} x {graph.shape[1]}")
    return graph.shape[0]


def _nodes(graph: csr_array, nodes: NDArray[np.integer]) -> NDArray[np.int64]:
    nodes = np.asarray(nodes)
    if nodes.ndim != 1 or (len(nodes) and nodes.dtype.kind not in "iu"):
        raise InputError("nodes: a row of whole numbers is needed")
    if len(nodes) and not 0 <= nodes.min() <= nodes.max() < graph.shape[0]:
        raise InputError(f"nodes: must be in 0 .. {graph.shape[0] - 1}, not {nodes.min()} .. {nodes.max()}")
    return nodes.astype(np.int64)
