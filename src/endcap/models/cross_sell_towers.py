"""The networks of graph cross-sell: from what is known of items, and the graph, to what they ask and answer with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from endcap.graph.walks import important_neighbours
from endcap.models.cross_sell_settings import CrossSellConfig
from endcap.models.hiding import HidingGraph
from endcap.nn.graph_layers import AttentionLayer, ImportanceLayer, SageLayer
from endcap.nn.items import ItemEmbedding
from endcap.nn.propagate import Adjacency, spread

if TYPE_CHECKING:
    from endcap.models.cross_sell import CrossSell


class Towers(nn.Module):
    """From what is known of items, and the graph, to what they ask and answer with."""

    def __init__(self, model: CrossSell, graph: HidingGraph) -> None:
        super().__init__()
        self.config = config = model.config
        self.graph, self.features = graph, model._features
        self.embedding = ItemEmbedding(config.dim, model._reader.sizes, config.id_dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.convolutions = nn.ModuleList(_layers(config))
        wide = config.dim * (1 + config.layers) if config.encoder == "hops" else config.dim
        self.source = nn.Linear(wide, config.dim, bias=False)
        self.target = self.source if config.tied else nn.Linear(wide, config.dim, bias=False)
        for head in dict.fromkeys([self.source, self.target]):  # at first both are the mean of the hops, a little apart
            start = torch.eye(config.dim).repeat(1, wide // config.dim) * (config.dim / wide)
            head.weight.data = start + 0.01 * torch.randn_like(start)
        self.offset = nn.Parameter(torch.zeros(len(model._bought)))
        self.log_scale = nn.Parameter(torch.tensor(-np.log(config.temperature or 1.0), dtype=torch.float32))

    def tables(self, mass: NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
        """What all items ask with (n, d), answer with (n, d), and their offsets (n,)."""
        nodes = self.dropout(self.nodes(mass))
        source, target = self.source(nodes), self.target(nodes)
        if not self.config.temperature:
            return source, target, self.offset
        return (
            functional.normalize(source, dim=1) * self.log_scale.exp(),
            functional.normalize(target, dim=1),
            self.offset,
        )

    def nodes(self, mass: NDArray[np.float32]) -> Tensor:
        """h (n, wide)."""
        config, graph = self.config, self.graph
        vectors = self.embedding(self.features, np.arange(len(self.features)))
        weights = graph.shares(mass, config.power).to(vectors.device)
        if config.encoder == "hops":
            hops = [vectors]
            for _ in range(config.layers):
                hops.append(spread(graph.adjacency, weights, hops[-1]))
            return torch.cat(hops, dim=1)
        heard, shares = self._heard(mass)
        shares = shares.to(vectors.device)
        for layer in self.convolutions:
            vectors = self.dropout(vectors)
            vectors = functional.normalize(functional.relu(layer(vectors, vectors, heard, shares)), dim=1)
        return vectors

    def _heard(self, mass: NDArray[np.float32]) -> tuple[Adjacency, Tensor]:
        """Whom each item hears and how much each counts: partners, or PinSage's important neighbours."""
        if self.config.encoder != "pinsage":
            return self.graph.adjacency, self.graph.shares(mass, 0.0)
        adjacency = self.graph.adjacency
        left = csr_array((mass, adjacency.columns, adjacency.offsets), shape=adjacency.shape, copy=True)
        left.eliminate_zeros()
        near = Adjacency(important_neighbours(left, k=min(50, self.config.links)))
        return near, near.weights

    def watch(self) -> dict[str, float]:
        """The mean cosine of what items answer with: 1 would be over-smoothed."""
        vectors = functional.normalize(self.tables(self.graph.mass)[1], dim=1)
        n = max(2, len(vectors))
        return {"mean_cosine": float((vectors.sum(0) ** 2).sum() - n) / (n * (n - 1))}


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
