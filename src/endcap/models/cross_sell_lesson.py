"""What graph cross-sell is trained on: baskets, and one product of each asked for by the others (B3 of the notes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from endcap.graph import Baskets
from endcap.models.hiding import HidingGraph
from endcap.nn.losses import CandidateList, Proposal, softmax_loss
from endcap.nn.propagate import Adjacency, spread

if TYPE_CHECKING:
    from endcap.models.cross_sell import CrossSell

VALIDATED_TOGETHER = 256


class Questions(NamedTuple):
    """Products asked for by the rest of their baskets.

    Attributes:
        basket: (q,) row of the baskets; target: (q,) item.
    """

    basket: NDArray[np.int64]
    target: NDArray[np.int64]


class Lesson:
    """What the model is trained on: baskets, one product of each asked for by the others."""

    def __init__(self, model: CrossSell, baskets: Baskets, held: NDArray[np.int64], seed: int, threads: int) -> None:
        config = model.config
        self.model, self.config, self.seed = model, config, seed
        self.n_items = len(model._bought)
        kept = np.ones(len(baskets), bool)
        kept[held] = False
        self.baskets, self.validation = baskets.where(kept), baskets.where(~kept)
        self.graph = HidingGraph(self.baskets, self.n_items, config, threads)
        self.contents = self.baskets.matrix(self.n_items)
        counts = np.bincount(self.baskets.items, minlength=self.n_items)
        self.proposal = Proposal(counts, config.negatives, config.negatives_exponent)
        self.partners = self.graph.counted.counts

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.baskets))
        return [order[begin : begin + self.config.batch_size] for begin in range(0, len(order), self.config.batch_size)]

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        """What each basket's other products say of one of them, the baskets being hidden from the graph."""
        seed = int(torch.randint(2**31, ()))  # torch was seeded for this step
        questions = self._questions(batch, np.random.default_rng(seed))
        towers = self.model._towers
        source, target, offset = towers.tables(self.graph.without(batch))
        people = self._asked_with(source, self.contents, questions)
        drawn = self.proposal.draw(questions.target, self._never(questions), [seed])
        others = torch.from_numpy(drawn.items).to(people.device)
        wanted = torch.from_numpy(questions.target).to(people.device)
        logits = people @ target[others].T + offset[others]
        own = (people * target[wanted]).sum(1) + offset[wanted]
        return self._losses(logits, own, drawn).mean()

    def _losses(self, logits: Tensor, own: Tensor, drawn: CandidateList) -> Tensor:
        if self.config.loss == "softmax":
            return softmax_loss(logits, own, drawn, self.config.logq)
        apart = logits - own[:, None]
        each = functional.softplus(apart) if self.config.loss == "bpr" else (apart + self.config.margin).clamp_min(0)
        counted = torch.ones(each.numel(), device=each.device).index_fill_(
            0, torch.from_numpy(drawn.hidden).to(each.device), 0
        )
        counted = counted.view_as(each)
        if drawn.column is not None:
            column = torch.from_numpy(drawn.column).to(each.device)[:, None]
            counted = counted.scatter(1, column, 0)
        return (each * counted).sum(1) / counted.sum(1).clamp_min(1)

    def _questions(self, baskets: NDArray[np.int64], rng: np.random.Generator) -> Questions:
        """Some products of the baskets, drawn by chance: a few of many rather than many of a few."""
        offsets = self.contents.indptr
        sizes = np.diff(offsets)[baskets]
        rows = np.repeat(np.arange(len(baskets)), sizes)
        flat = np.repeat(offsets[baskets] - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
        order = np.lexsort((rng.random(len(rows)), rows))
        place = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        taken = order[np.argsort(place, kind="stable")][: self.config.questions]
        return Questions(baskets[rows[taken]], self.contents.indices[flat[taken]].astype(np.int64))

    def _asked_with(self, source: Tensor, contents: csr_array, questions: Questions) -> Tensor:
        """(q, d): the mean of what the other products of each basket ask with."""
        rows, row_of = np.unique(questions.basket, return_inverse=True)
        held = contents[rows]
        sizes = torch.from_numpy(np.diff(held.indptr)[row_of].astype(np.float32)).to(source.device)
        sums = spread(Adjacency(held), torch.ones(held.nnz, device=source.device), source)[row_of]
        own = source[torch.from_numpy(questions.target).to(source.device)]
        return (sums - own) / (sizes - 1)[:, None]

    def _never(self, questions: Questions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(rows of the questions, items) that are no negatives: the basket's own, and partners where spared."""
        held = self.contents[questions.basket]
        rows, items = [np.repeat(np.arange(len(questions.basket)), np.diff(held.indptr))], [held.indices]
        if self.config.spare_partners:
            near = (held @ self.partners).tocsr()
            rows.append(np.repeat(np.arange(len(questions.basket)), np.diff(near.indptr)))
            items.append(near.indices)
        return np.concatenate(rows), np.concatenate(items).astype(np.int64)

    def validate(self) -> float:
        """The validation metric: a held-out basket's product among all items but the basket's (and its partners)."""
        metric, _, k = self.config.validation_metric.partition("@")
        contents = self.validation.matrix(self.n_items)
        rng = np.random.default_rng([self.seed, 1])
        offsets = contents.indptr
        picked = offsets[:-1] + (rng.random(len(self.validation)) * np.diff(offsets)).astype(np.int64)
        questions = Questions(np.arange(len(self.validation)), contents.indices[picked].astype(np.int64))
        source, target, offset = self.model._towers.tables(self.graph.mass)
        people = self._asked_with(source, contents, questions)
        gains = []
        for begin in range(0, len(people), VALIDATED_TOGETHER):
            block = slice(begin, begin + VALIDATED_TOGETHER)
            scores = (people[block] @ target.T + offset).cpu().numpy()
            wanted = questions.target[block]
            own = scores[np.arange(len(wanted)), wanted].copy()
            held = contents[questions.basket[block]]
            scores[np.repeat(np.arange(len(wanted)), np.diff(held.indptr)), held.indices] = -np.inf
            if self.config.spare_partners:
                near = (held @ self.partners).tocsr()
                scores[np.repeat(np.arange(len(wanted)), np.diff(near.indptr)), near.indices] = -np.inf
            rank = (scores > own[:, None]).sum(1)
            found = rank < int(k)
            gains.append(found / (rank + 1) if metric == "mrr" else found.astype(float))
        return float(np.concatenate(gains).mean())
