"""Training on sampled neighbourhoods, for graphs whose layers do not fit in memory (Hamilton et al., NIPS '17).

A step works out the vectors of the products that it asks with and for, from `fanout` neighbours of each, and of each of
these, outwards; the last ones hear nothing. What was left out is stood in for by what was drawn: an edge counts its
share of those drawn, times what all of them together count. So a sample that is the whole neighbourhood gives what the
whole graph gives. Validation and the stored vectors are of the whole graph, layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from endcap.graph import neighbourhood
from endcap.models.cross_sell.hiding import HidingGraph, counts_of
from endcap.models.cross_sell.towers import Towers
from endcap.nn.propagate import Adjacency


class Sampler:
    """Draws neighbourhoods in a graph.

    Args:
        fanout: neighbours of a product, of each of these, ...: one number for each layer, the last one's first.
    """

    def __init__(self, graph: HidingGraph, fanout: Sequence[int]) -> None:
        adjacency = graph.adjacency
        self.graph, self.fanout = graph, fanout
        number = np.arange(len(adjacency))  # of each edge: what is drawn says where its mass is found
        self._edges = csr_array((number, adjacency.columns, adjacency.offsets), shape=adjacency.shape)
        self._is_extra = np.isin(number, graph.extra)

    def tables(
        self, towers: Towers, items: NDArray[np.integer], mass: NDArray[np.float32], seed: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `Towers.tables`, for some items (m,) distinct ones; the rows of all others are 0."""
        layers = neighbourhood(self._edges, items, self.fanout, seed=seed)
        total = self.graph.total(mass)
        nodes = layers[-1].nodes if layers else items
        steps = [towers.embedding(towers.features, nodes.astype(np.int64))]
        for place, layer in enumerate(reversed(layers)):
            n_asked = layer.edges.shape[0]
            near, shares = self._links(layer.edges, layer.nodes, mass, total, towers)
            vectors = towers.dropped(steps[-1])
            heard = towers.convolved(place, vectors[:n_asked], vectors, near, shares.to(vectors.device))
            steps = [*(step[:n_asked] for step in steps), heard]
        return towers.tables_of(items, towers.joined(steps))

    def _links(
        self,
        drawn: csr_array,
        nodes: NDArray[np.integer],
        mass: NDArray[np.float32],
        total: NDArray[np.floating],
        towers: Towers,
    ) -> tuple[Adjacency, Tensor]:
        """What was drawn, without what a step hides, and what each message counts."""
        n_rows = drawn.shape[0]
        kept = mass[drawn.data] > 0
        row = np.repeat(np.arange(n_rows), np.diff(drawn.indptr))[kept]
        number, column = drawn.data[kept], drawn.indices[kept]
        weight = mass[number]
        offsets = np.append(0, np.cumsum(np.bincount(row, minlength=n_rows)))
        near = Adjacency(csr_array((weight, column, offsets), shape=drawn.shape))
        own = total[nodes[row]]
        power = towers.config.power if towers.config.encoder == "hops" else 0.0
        extra = np.flatnonzero(self._is_extra[number])
        quiet = self.graph.quiet[nodes[column]]
        counts = counts_of(weight, own, total[nodes[column]], quiet, extra, power, self.graph.lift[nodes[row]])
        stand_in = own / np.maximum(np.bincount(row, weight * quiet, n_rows), 1e-12)[row]
        return near, torch.from_numpy((counts * stand_in).astype(np.float32))
