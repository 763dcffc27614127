"""Layers of graph neural networks: each makes a node's vector of its own and of those it hears.

    Hamilton et al., "Inductive Representation Learning on Large Graphs", NIPS '17 (GraphSAGE);
    Velickovic et al., "Graph Attention Networks", ICLR '18 (GAT); Brody et al., ICLR '22 (GATv2);
    Ying et al., "Graph Convolutional Neural Networks for Web-Scale Recommender Systems", KDD '18 (PinSage);
    Schlichtkrull et al., "Modeling Relational Data with Graph Convolutional Networks", ESWC '18 (one map a relation).

A layer is asked `layer(own, heard, graph, weights)`: own (n_rows, d) and heard (n_columns, d) are the same vectors
where the whole graph is worked on, and different ones where a sampled neighbourhood is; it gives (n_rows, d_out).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from endcap.nn.propagate import Adjacency, softmax_of_rows, spread, strongest

LEAK = 0.2  # of LeakyReLU, as in GAT


class SageLayer(nn.Module):
    """h' = W [h ; pooled neighbours]; the mean by the edges' shares, or the entrywise largest of ReLU(W_p h + b).

    A node without neighbours hears 0. The map is W_own h + W_heard pooled; where it makes vectors shorter it comes
    before the mean, which gives the same and costs less.
    """

    def __init__(self, dim_in: int, dim_out: int, pool: Literal["mean", "max"] = "mean") -> None:
        super().__init__()
        self.own, self.heard = nn.Linear(dim_in, dim_out), nn.Linear(dim_in, dim_out, bias=False)
        self.before = nn.Linear(dim_in, dim_in) if pool == "max" else None

    def forward(self, own: Tensor, heard: Tensor, graph: Adjacency, weights: Tensor) -> Tensor:
        """weights (edges,): those of a row sum to 1 (see `Adjacency.shares`); not used by the largest."""
        if self.before is not None:
            return self.own(own) + self.heard(strongest(graph, functional.relu(self.before(heard))))
        if self.heard.out_features < self.heard.in_features:
            return self.own(own) + spread(graph, weights, self.heard(heard))
        return self.own(own) + self.heard(spread(graph, weights, heard))


class AttentionLayer(nn.Module):
    """GAT: h'_v = W_s h_v + sum_u a_vu W h_u, a_vu = softmax_u LeakyReLU(a . [W h_v ; W h_u]).

    GATv2 takes a . LeakyReLU(W h_v + W h_u) instead.
    Heads stand side by side; in the last layer their mean is taken. The logarithm of an edge's weight is added to its
    logit, times a learnt strength that begins at 0: at first all edges count alike, as published.
    """

    def __init__(self, dim_in: int, dim_out: int, heads: int, *, joined: bool = True, second: bool = False) -> None:
        super().__init__()
        if joined and dim_out % heads:
            raise ValueError(f"dim={dim_out} is no multiple of heads={heads}")
        self.heads, self.joined, self.second = heads, joined, second
        self.width = dim_out // heads if joined else dim_out
        self.map = nn.Linear(dim_in, heads * self.width, bias=False)
        self.own = nn.Linear(dim_in, dim_out)
        self.towards, self.source = (nn.Parameter(torch.randn(heads, self.width) * self.width**-0.5) for _ in range(2))
        self.strength = nn.Parameter(torch.zeros(heads))

    def forward(self, own: Tensor, heard: Tensor, graph: Adjacency, weights: Tensor) -> Tensor:
        """weights (edges,): 0 shuts an edge out."""
        given = self.map(heard)
        out = spread(graph, self.attention(own, heard, graph, weights), given)
        if not self.joined:
            out = out.unflatten(1, (self.heads, self.width)).mean(1)
        return self.own(own) + out

    def attention(self, own: Tensor, heard: Tensor, graph: Adjacency, weights: Tensor) -> Tensor:
        """(edges, heads); those of a row sum to 1, or are all 0 where all of its edges are shut out."""
        receiver = self.map(own).unflatten(1, (self.heads, self.width))
        giver = self.map(heard).unflatten(1, (self.heads, self.width))
        rows, columns = graph.ends(own.device)
        if self.second:
            both = functional.leaky_relu(receiver[rows] + giver[columns], LEAK)
            logits = (both * self.source).sum(-1)
        else:
            logits = (receiver * self.towards).sum(-1)[rows] + (giver * self.source).sum(-1)[columns]
            logits = functional.leaky_relu(logits, LEAK)
        logits = logits + self.strength * weights.clamp_min(1e-12).log()[:, None]
        shut = (weights <= 0)[:, None]
        return softmax_of_rows(graph, logits.masked_fill(shut, -1e9)).masked_fill(shut, 0)


class RelationsLayer(nn.Module):
    """h'_v = W_self h_v + sum_r gamma_r W_r sum_u w_vu h_u; gamma is a softmax over the relations that v may hear.

    Args:
        relations: their names; what a node hears through each is one adjacency.
    """

    def __init__(self, dim_in: int, dim_out: int, relations: tuple[str, ...]) -> None:
        super().__init__()
        self.relations = relations
        self.own = nn.Linear(dim_in, dim_out)
        self.heard = nn.ModuleList(nn.Linear(dim_in, dim_out, bias=False) for _ in relations)
        self.logits = nn.Parameter(torch.zeros(len(relations)))

    def gates(self) -> dict[str, float]:
        """gamma of each relation, for people to read."""
        return dict(zip(self.relations, torch.softmax(self.logits.detach(), 0).tolist(), strict=True))

    def forward(
        self,
        own: Tensor,
        heard: Mapping[str, Tensor],
        graphs: Mapping[str, Adjacency],
        weights: Mapping[str, Tensor],
    ) -> Tensor:
        """heard: relation -> (n_columns, d) vectors of its source type; weights: relation -> (edges,) shares."""
        out = self.own(own)
        gates = torch.softmax(self.logits, 0)
        for place, name in enumerate(self.relations):
            out = out + gates[place] * spread(graphs[name], weights[name], self.heard[place](heard[name]))
        return out


class ImportanceLayer(nn.Module):
    """PinSage's convolution: h' = W [h ; sum_u alpha_u ReLU(Q h_u + q)], alpha the shares of random walks' visits."""

    def __init__(self, dim_in: int, dim_out: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = dim_in if hidden is None else hidden
        self.before = nn.Linear(dim_in, hidden)
        self.own, self.heard = nn.Linear(dim_in, dim_out), nn.Linear(hidden, dim_out, bias=False)

    def forward(self, own: Tensor, heard: Tensor, graph: Adjacency, weights: Tensor) -> Tensor:
        """weights (edges,): alpha, which sum to 1 in a row."""
        return self.own(own) + self.heard(spread(graph, weights, functional.relu(self.before(heard))))
