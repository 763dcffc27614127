"""The networks of graph cross-sell: from what is known of items, and the graph, to what they ask and answer with."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from endcap.graph.walks import important_neighbours
from endcap.models.cross_sell.hiding import HidingGraph
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.models.cross_sell.typed import TypedEncoder, TypedHiding
from endcap.nn.graph_layers import AttentionLayer, ImportanceLayer, SageLayer
from endcap.nn.items import ItemEmbedding, ItemFeatures, ItemSizes
from endcap.nn.propagate import Adjacency, spread


class Towers(nn.Module):
    """From what is known of items, and the graph, to what they ask and answer with."""

    def __init__(self, config: CrossSellConfig, features: ItemFeatures, sizes: ItemSizes, graph: HidingGraph) -> None:
        """
        Args:
            features: of the items of the graph; sizes: of the tables that they are rows of.
        """
        super().__init__()
        self.config, self.graph, self.features = config, graph, features
        self.embedding = ItemEmbedding(config.dim, sizes, config.id_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.convolutions = nn.ModuleList(_layers(config))
        self.typed = None
        if isinstance(graph, TypedHiding):
            self.typed = TypedEncoder(graph, config.dim, config.layers, config.dropout)
        for part in (*self.convolutions, *(self.typed.layers if self.typed is not None else ())):
            _begin_alike(part, config.dim)
        wide = config.dim * (1 + config.layers) if config.readout == "all" else config.dim
        self.source = nn.Linear(wide, config.dim, bias=False)
        self.target = self.source if config.tied else nn.Linear(wide, config.dim, bias=False)
        for head in dict.fromkeys([self.source, self.target]):  # at first both are the mean of the hops, a little apart
            start = torch.eye(config.dim).repeat(1, wide // config.dim) * (config.dim / wide)
            head.weight.data = start + 0.01 * torch.randn_like(start)
        self.offset = nn.Parameter(torch.zeros(graph.n_items))
        self.log_scale = nn.Parameter(torch.tensor(-np.log(config.temperature or 1.0), dtype=torch.float32))

    def tables(
        self, mass: NDArray[np.float32], items: NDArray[np.integer] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What all items ask with (n, d), answer with (n, d), and their offsets (n,).

        Args:
            items: (m,) distinct ones whose rows are wanted, those of all others are 0; without it all are.
        """
        steps = self.steps(mass)
        if items is None:
            return (*self.heads(self.joined(steps)), self.offset)
        rows = torch.from_numpy(items.astype(np.int64)).to(steps[0].device)
        return self.tables_of(items, self.joined([step.index_select(0, rows) for step in steps]))

    def tables_of(self, items: NDArray[np.integer], nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `tables`, of items (m,) and the nodes (m, wide) that are theirs."""
        rows = torch.from_numpy(items.astype(np.int64)).to(nodes.device)
        source, target = (
            part.new_zeros(len(self.features), part.shape[1]).index_copy(0, rows, part) for part in self.heads(nodes)
        )
        return source, target, self.offset

    def heads(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """What nodes (m, wide) ask with (m, d), and answer with (m, d)."""
        nodes = self.dropout(nodes)
        source, target = self.source(nodes), self.target(nodes)
        if not self.config.temperature:
            return source, target
        return functional.normalize(source, dim=1) * self.log_scale.exp(), functional.normalize(target, dim=1)

    def steps(self, mass: NDArray[np.float32]) -> list[Tensor]:
        """Vectors (n, d) of all items before the first layer and after each."""
        found = [self.embedding(self.features, np.arange(len(self.features)))]
        if self.typed is not None and isinstance(self.graph, TypedHiding):
            return self.typed(found[0], self.graph, mass)
        graph, shares = self._heard(mass)
        shares = shares.to(found[0].device)
        for place in range(self.config.layers):
            vectors = self.dropped(found[-1])
            found.append(self.convolved(place, vectors, vectors, graph, shares))
        return found

    def joined(self, steps: list[Tensor]) -> Tensor:
        """(m, wide) of vectors (m, d) after each step: all side by side (Xu et al., ICML '18), or the last."""
        return torch.cat(steps, dim=1) if self.config.readout == "all" else steps[-1]

    def dropped(self, vectors: Tensor) -> Tensor:
        """What a layer is given in training; propagation alone is given everything."""
        return vectors if self.config.encoder == "hops" else self.dropout(vectors)

    def convolved(self, place: int, own: Tensor, heard: Tensor, graph: Adjacency, shares: Tensor) -> Tensor:
        """(rows, d) what layer `place` makes of vectors (rows, d) and those (columns, d) that they hear."""
        if self.config.encoder == "hops":
            return spread(graph, shares, heard)
        return functional.normalize(functional.relu(self.convolutions[place](own, heard, graph, shares)), dim=1)

    def _heard(self, mass: NDArray[np.float32]) -> tuple[Adjacency, Tensor]:
        """Whom each item hears and how much each counts: partners, or PinSage's important neighbours."""
        if self.config.encoder not in ("pinsage", "sage-pool"):
            power = self.config.power if self.config.encoder == "hops" else 0.0
            return self.graph.adjacency, self.graph.shares(mass, power)
        adjacency = self.graph.adjacency
        heard = mass * self.graph.quiet[adjacency.columns]
        left = csr_array((heard, adjacency.columns, adjacency.offsets), shape=adjacency.shape, copy=True)
        left.eliminate_zeros()
        if self.config.encoder == "sage-pool":  # the largest would hear a link however thin it is
            return (near := Adjacency(left)), near.weights
        near = Adjacency(important_neighbours(left, k=min(50, self.config.links)))
        return near, near.weights

    def attention(self) -> tuple[Adjacency, Tensor] | None:
        """Whom each item hears in the last layer, and how much (edges, heads); None for layers without attention."""
        last = self.convolutions[-1] if len(self.convolutions) else None
        if not isinstance(last, AttentionLayer):
            return None
        graph, shares = self._heard(self.graph.mass)
        vectors = self.steps(self.graph.mass)[-2]
        return graph, last.attention(vectors, vectors, graph, shares.to(vectors.device))

    def gates(self) -> dict[str, dict[str, float]]:
        """See `TypedEncoder.gates`; nothing for the other encoders."""
        return {} if self.typed is None else self.typed.gates()

    def watch(self) -> dict[str, float]:
        """The mean cosine of what items answer with: 1 would be over-smoothed."""
        vectors = functional.normalize(self.tables(self.graph.mass)[1], dim=1)
        n = max(2, len(vectors))
        return {"mean_cosine": float((vectors.sum(0) ** 2).sum() - n) / (n * (n - 1))}


def _begin_alike(layer: nn.Module, dim: int) -> None:
    """Maps between layers begin near the identity, as propagation: what is alike by its text is so from the start."""
    for part in layer.modules():
        if isinstance(part, nn.Linear) and part.in_features == dim and part.out_features % dim == 0:
            start = torch.eye(dim).repeat(part.out_features // dim, 1)
            part.weight.data = start + 0.01 * torch.randn_like(start)


def _layers(config: CrossSellConfig) -> list[nn.Module]:
    """The convolutions between the hops; none for plain propagation."""
    dim, last = config.dim, config.layers - 1
    if config.encoder in ("sage", "sage-pool"):
        return [SageLayer(dim, dim, "max" if config.encoder == "sage-pool" else "mean") for _ in range(config.layers)]
    if config.encoder in ("gat", "gatv2"):
        second = config.encoder == "gatv2"
        return [
            AttentionLayer(dim, dim, config.heads, joined=layer < last, second=second) for layer in range(config.layers)
        ]
    if config.encoder == "pinsage":
        return [ImportanceLayer(dim, dim) for _ in range(config.layers)]
    return []
