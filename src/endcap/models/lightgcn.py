"""LightGCN: askers and items pass their vectors along what was bought, and do nothing else to them.

    He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR '20.

    e_u^(k+1) = sum over i of u of e_i^(k) / sqrt(n_u n_i), and likewise for items        (eq. 3)
    e = (e^(0) + ... + e^(K)) / (K + 1)        score(u, i) = e_u . e_i                     (eq. 4, 5)
    loss = -ln sigmoid(score(u, i) - score(u, j)) + reg (|e_u^(0)|^2 + |e_i^(0)|^2 + |e_j^(0)|^2) / 2        (eq. 15)

for what u has (i) and what u has not (j, drawn evenly). An asker is a basket here, or a user (`of`), as in the paper.

The paper does not say how someone is answered who came after the training. Here such an asker's own vector e^(0) is 0,
and the rest of eq. 3 follows from the items: q = sum over i of f_i / sqrt(n_q) with f_i = (e_i^(0) + ... + e_i^(K-1)) /
sqrt(n_i) / (K + 1). Everybody is answered in this way, those who were trained on, too. Every batch takes a propagation,
so batches are larger here than the paper's 2048.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from endcap.answers import Items, Scores, Space
from endcap.graph import baskets_of
from endcap.graph.baskets import LARGEST
from endcap.index import Exact
from endcap.models.basket_model import BasketModel, LargestBasket, Voices, silence
from endcap.models.lists import without_own
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.nn.losses import Proposal
from endcap.nn.propagate import Adjacency, spread
from endcap.nn.training import TrainingSettings, device_of, train
from endcap.shop import Shop

SPREAD_OF_START = 0.1


class LightGCNConfig(TrainingSettings, frozen=True, kw_only=True):
    """Settings of LightGCN."""

    of: Annotated[Literal["baskets", "users"], Meta(description="who has items: each basket, or each user")] = "baskets"
    dim: Annotated[int, Meta(ge=1, le=1024, description="length of the vectors")] = 64
    layers: Annotated[int, Meta(ge=1, le=8, description="steps along the graph")] = 3
    regularization: Annotated[float, Meta(ge=0, description="of the vectors that a batch begins with")] = 1e-4
    largest: LargestBasket = LARGEST
    epochs: Annotated[int, Meta(ge=1, description="passes over all pairs")] = 40
    batch_size: Annotated[int, Meta(ge=1, description="pairs of a step, each of which takes a propagation")] = 16_384
    learning_rate: Annotated[float, Meta(gt=0, description="after the warm-up")] = 0.01
    weight_decay: Annotated[float, Meta(ge=0, description="AdamW's; the paper has `regularization` instead")] = 0.0


class _Propagation(nn.Module):
    """The vectors of askers and items, and what becomes of them along the graph (askers, items)."""

    def __init__(self, has: csr_array, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.askers = nn.Parameter(torch.randn(has.shape[0], dim) * SPREAD_OF_START)
        self.items = nn.Parameter(torch.randn(has.shape[1], dim) * SPREAD_OF_START)
        n_of = np.maximum(np.diff(has.indptr), 1), np.maximum(np.bincount(has.indices, minlength=has.shape[1]), 1)
        row = np.repeat(np.arange(has.shape[0]), np.diff(has.indptr))
        weights = (1 / np.sqrt(n_of[0][row] * n_of[1][has.indices])).astype(np.float32)
        graph = csr_array((weights, has.indices, has.indptr), shape=has.shape)
        self.of_askers, self.of_items = Adjacency(graph), Adjacency(graph.T.tocsr())

    def steps(self) -> tuple[list[Tensor], list[Tensor]]:
        """Vectors of askers and of items after 0, 1 ... steps (eq. 3)."""
        askers, items = [self.askers], [self.items]
        device = self.askers.device
        down, up = self.of_askers.weights.to(device), self.of_items.weights.to(device)
        for _ in range(self.layers):
            heard = spread(self.of_askers, down, items[-1])
            items.append(spread(self.of_items, up, askers[-1]))
            askers.append(heard)
        return askers, items


class LightGCN(BasketModel):
    """Vectors of items as askers, and as what is asked for; a basket asks with the sum of its items' vectors."""

    system = "lightgcn"
    Config: ClassVar[type[msgspec.Struct]] = LightGCNConfig
    config: LightGCNConfig
    search_space: ClassVar[SearchSpace] = {
        "dim": OneOf(32, 64, 128),
        "layers": OneOf(2, 3, 4),
        "learning_rate": Range(1e-3, 3e-2, log=True),
        "regularization": Range(1e-6, 1e-2, log=True),
    }

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        has, config = self._pairs(shop), self.config
        device = device_of(config)
        torch.manual_seed(seed)
        with threadpool_limits(threads, "blas"):
            graph = _Propagation(has, config.dim, config.layers).to(device)
            lesson = _Lesson(graph, has, config, seed)
            if has.nnz:
                train(
                    graph,
                    plan=lesson.plan,
                    loss=lesson.loss,
                    settings=config,
                    seed=seed,
                    keeper=self.checkpoint,
                    name=self.system,
                    threads=threads,
                    show=show,
                )
            with torch.no_grad():
                steps = torch.stack(graph.steps()[1]).cpu().numpy()
        n_of = np.bincount(has.indices, minlength=has.shape[1])
        self._known = np.flatnonzero(n_of).astype(np.int32)
        self._vectors, self._speaks = _as_answers(steps[:, self._known], n_of[self._known])
        self._prepare()

    def _pairs(self, shop: Shop) -> csr_array:
        """(askers, items) of ones."""
        if self.config.of == "baskets":
            return baskets_of(shop, largest=self.config.largest).matrix(shop.n_items)
        pairs = np.unique(shop.positives.user.astype(np.int64) * shop.n_items + shop.positives.item)
        _, user = np.unique(pairs // shop.n_items, return_inverse=True)
        cells = np.ones(len(pairs), np.float32), (user, pairs % shop.n_items)
        return csr_array(cells, shape=(int(user.max(initial=-1)) + 1, shop.n_items))

    def _prepare(self) -> None:
        """What follows from the vectors."""
        self._row_of = np.full(len(self._trained().items), -1, np.int64)
        self._row_of[self._known] = np.arange(len(self._known))
        self._search = Exact(Space(self._known, np.ascontiguousarray(self._vectors)))

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """What a basket of this item alone is answered."""
        items = np.asarray(items)
        found, scores = np.full((len(items), k), -1, np.int32), np.full((len(items), k), -np.inf, np.float32)
        inside = (items >= 0) & (items < len(self._row_of))
        rows = np.where(inside, self._row_of[np.where(inside, items, 0)], -1)
        asked = np.flatnonzero(rows >= 0)
        near = self._search.search(np.ascontiguousarray(self._speaks[rows[asked]]), k + 1, allowed)
        found[asked], scores[asked] = without_own(items[asked], *near)
        return found, scores

    def _voices(self, basket: Items) -> Voices:
        voices = silence(len(self._row_of))
        rows = self._row_of[basket]
        rows = rows[rows >= 0]
        if len(rows) == 0:
            return voices
        asker = self._speaks[rows].astype(np.float64).sum(axis=0) / np.sqrt(len(basket))
        voices.total[self._known] = self._vectors @ asker
        if len(rows) == 1:
            voices.because[self._known] = 0 if len(basket) == 1 else int(np.argmax(self._row_of[basket] >= 0))
        return voices._replace(named=self._known)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"known": self._known, "vectors": self._vectors, "speaks": self._speaks}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._known, self._vectors, self._speaks = arrays["known"], arrays["vectors"], arrays["speaks"]
        self._prepare()


def _as_answers(steps: NDArray[np.float32], n_of: NDArray[np.integer]) -> tuple[NDArray, NDArray]:
    """What items (n, d) are found by, and what they speak with for a new asker, from their vectors (K + 1, n, d)."""
    speaks = steps[:-1].sum(axis=0) / len(steps) / np.sqrt(n_of)[:, None]
    return steps.mean(axis=0), speaks.astype(np.float32)


class _Lesson:
    """Batches of pairs and their loss."""

    def __init__(self, graph: _Propagation, has: csr_array, config: LightGCNConfig, seed: int) -> None:
        self.graph, self.has, self.config, self.seed = graph, has, config, seed
        self.asker = np.repeat(np.arange(has.shape[0]), np.diff(has.indptr))
        self.negatives = Proposal(np.ones(has.shape[1], np.int64), shared=1, exponent=0.0)

    def plan(self, epoch: int) -> Sequence[NDArray[np.int64]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(self.has.nnz)
        return [order[first : first + self.config.batch_size] for first in range(0, len(order), self.config.batch_size)]

    def loss(self, pairs: NDArray[np.int64]) -> Tensor:
        asker, item = self.asker[pairs], self.has.indices[pairs].astype(np.int64)
        held = self.has[asker]
        own = np.repeat(np.arange(len(pairs)), np.diff(held.indptr)), held.indices
        other = self.negatives.draw_each(item, own, [self.seed, int(pairs[0]), len(pairs), int(pairs.sum())])
        askers, items = self.graph.steps()
        u, i, j = (torch.from_numpy(index).to(askers[0].device) for index in (asker, item, other))
        mine, theirs = torch.stack(askers).mean(dim=0)[u], torch.stack(items).mean(dim=0)
        gap = (mine * (theirs[i] - theirs[j])).sum(dim=1)
        begun = (askers[0][u].square() + items[0][i].square() + items[0][j].square()).sum(dim=1)
        return -functional.logsigmoid(gap).mean() + self.config.regularization * begun.mean() / 2
