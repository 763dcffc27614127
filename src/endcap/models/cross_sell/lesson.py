"""What graph cross-sell is trained on: baskets, and one product of each asked for by the others (B3 of the notes)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional

from endcap.graph import Baskets
from endcap.graph.edges import row_normalised
from endcap.models.cross_sell.hiding import DAY, HidingGraph, later_baskets
from endcap.models.cross_sell.negatives import HardNegatives
from endcap.models.cross_sell.sampled import Sampler
from endcap.nn.losses import CandidateList, Proposal, softmax_loss
from endcap.nn.propagate import Adjacency, spread

if TYPE_CHECKING:
    from endcap.models.cross_sell.model import CrossSell

VALIDATED_TOGETHER = 256
NONE = -1e9  # the score of a hard negative that was not found; infinity would have no gradient
REMEMBERED = 10  # of a user's baskets those before one that foretell it

log = logging.getLogger("endcap.models")


class Questions(NamedTuple):
    """Products asked for by the rest of their baskets.

    Attributes:
        basket: (q,) row of the baskets; target: (q,) item.
    """

    basket: NDArray[np.int64]
    target: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Step:
    """Rows of baskets (b,), and how many hard negatives each question has at most."""

    baskets: NDArray[np.int64]
    hard: int = 0

    def __len__(self) -> int:
        return len(self.baskets)


class Lesson:
    """What the model is trained on: baskets, one product of each asked for by the others."""

    def __init__(
        self,
        model: CrossSell,
        baskets: Baskets,
        held: NDArray[np.int64],
        graphs: Callable[[NDArray[np.bool_]], HidingGraph],
        leaf: NDArray[np.integer],
        seed: int,
        threads: int,
    ) -> None:
        """
        Args:
            held: rows of the baskets that validation asks about; graphs: what makes the graph of some baskets (b,);
            leaf: (n_items,) category of each, -1 unknown.
        """
        config = model.config
        self.model, self.config, self.seed = model, config, seed
        self.n_items = len(model._bought)
        kept = np.ones(len(baskets), bool)
        kept[held] = False
        self.baskets, self.validation = baskets.where(kept), baskets.where(~kept)
        self.graph = graphs(kept)
        self.contents = self.baskets.matrix(self.n_items)
        counts = np.bincount(self.baskets.items, minlength=self.n_items)
        self.proposal = Proposal(counts, config.negatives, config.negatives_exponent, in_batch=config.in_batch)
        self.partners = self.graph.counted.counts
        self.sampler = Sampler(self.graph, config.drawn) if config.drawn else None
        self.unbought, self.arrived = counts == 0, model._arrived
        self.hard = None
        if config.hard_negatives:
            kinds = ["category", "pagerank"] if config.hard_kinds == "both" else [config.hard_kinds]
            links = self.graph.counted.decayed
            self.hard = HardNegatives(self.baskets, leaf, links, kinds, seed=seed, threads=threads)
        if config.next_weight:
            self.before = _before(self.baskets, config.half_life_days)
            if not self.before.nnz:
                log.warning("cross-sell: next_weight=%g, and no user has two baskets", config.next_weight)

    def plan(self, epoch: int) -> list[Step]:
        """Every basket once; hard negatives by PinSage's curriculum: none in the first epoch, one more in each."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.baskets))
        size = self.config.baskets_of_step(len(order))
        hard = min(epoch, self.config.hard_negatives)
        return [Step(order[begin : begin + size], hard) for begin in range(0, len(order), size)]

    def loss(self, step: Step) -> Tensor:
        """What each basket's other products say of one of them, the baskets being hidden from the graph."""
        seed = int(torch.randint(2**31, ()))  # torch was seeded for this step
        rng = np.random.default_rng(seed)
        questions = self._questions(step.baskets, rng)
        drawn = self.proposal.draw(questions.target, self._never(questions), [seed])
        hard = None
        if self.hard is not None and step.hard:
            hard = self.hard.draw(self._one_of_the_others(questions, rng), step.hard, rng)
        before = None
        parts = [self.contents[questions.basket].indices, drawn.items, *([] if hard is None else [hard.ravel()])]
        if self.config.next_weight:
            before = row_normalised(self.before[questions.basket] @ self.contents)
            parts.append(before.indices)
        needed = np.unique(np.concatenate(parts).astype(np.int64))
        needed = needed[needed >= 0]
        mass, towers = self.graph.without(step.baskets), self.model._towers
        if self.sampler is None:
            tables = towers.tables(mass, needed)
        else:
            tables = self.sampler.tables(towers, needed, mass, seed)
        value = self._told_apart(tables, self._asked_with(tables[0], self.contents, questions), questions, drawn, hard)
        if before is None or not (asks := np.diff(before.indptr) > 0).any():
            return value.mean()
        people = spread(Adjacency(before), torch.from_numpy(before.data).to(value.device), tables[0])
        later = self._told_apart(tables, people, questions, drawn, hard)
        return value.mean() + self.config.next_weight * later[torch.from_numpy(asks).to(value.device)].mean()

    def _told_apart(
        self,
        tables: tuple[Tensor, Tensor, Tensor],
        people: Tensor,
        questions: Questions,
        drawn: CandidateList,
        hard: NDArray[np.int64] | None,
    ) -> Tensor:
        """(q,) losses of the wanted products against the drawn ones, by what (q, d) is asked with.

        Args:
            hard: (q, h) negatives of each question's own, -1 none.
        """
        _, target, offset = tables
        others = torch.from_numpy(drawn.items).to(people.device)
        wanted = torch.from_numpy(questions.target).to(people.device)
        logits = torch.addmm(offset[others], people, target[others].T)
        logits = logits.masked_fill(torch.from_numpy(self._not_there(questions, drawn)).to(people.device), -torch.inf)
        own = (people * target[wanted]).sum(1) + offset[wanted]
        harder = None
        if hard is not None:
            rows = torch.from_numpy(hard).to(people.device)
            harder = (people[:, None] * target[rows]).sum(2) + offset[rows]
            harder = harder.masked_fill(rows < 0, NONE)
        return self._losses(logits, own, drawn, harder)

    def _not_there(self, questions: Questions, drawn: CandidateList) -> NDArray[np.bool_]:
        """(q, c) what nobody chose against: drawn products that none bought yet, or that came after the basket."""
        came = self.arrived[drawn.items] > self.baskets.time[questions.basket][:, None] + DAY
        if drawn.column is not None:
            came[np.arange(len(came)), drawn.column] = False
        return came | self.unbought[drawn.items]

    def _losses(self, logits: Tensor, own: Tensor, drawn: CandidateList, hard: Tensor | None) -> Tensor:
        """(q,) of drawn negatives (q, c), and hard ones (q, h), `NONE` for none."""
        if self.config.loss == "softmax":
            easy = softmax_loss(logits, own, drawn, self.config.logq)
            return easy if hard is None else torch.logaddexp(easy, (hard - own[:, None]).logsumexp(1))
        counted = logits.detach().isfinite().float().flatten()
        counted = counted.index_fill_(0, torch.from_numpy(drawn.hidden).to(counted.device), 0).view_as(logits)
        if drawn.column is not None:
            column = torch.from_numpy(drawn.column).to(counted.device)[:, None]
            counted = counted.scatter(1, column, 0)
        if hard is not None:
            logits, counted = torch.cat([logits, hard], 1), torch.cat([counted, (hard.detach() > NONE).float()], 1)
        apart = (logits - own[:, None]).masked_fill(counted == 0, 0)
        each = functional.softplus(apart) if self.config.loss == "bpr" else (apart + self.config.margin).clamp_min(0)
        return (each * counted).sum(1) / counted.sum(1).clamp_min(1)

    def _one_of_the_others(self, questions: Questions, rng: np.random.Generator) -> NDArray[np.int64]:
        """(q,) of each basket a product that is not asked for, drawn by chance."""
        begin, end = self.contents.indptr[questions.basket], self.contents.indptr[questions.basket + 1]
        place = begin + (rng.random(len(begin)) * (end - begin - 1)).astype(np.int64)
        drawn = self.contents.indices[place]
        return np.where(drawn == questions.target, self.contents.indices[end - 1], drawn).astype(np.int64)

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
            scores[:, self.unbought] = -np.inf
            scores[np.repeat(np.arange(len(wanted)), np.diff(held.indptr)), held.indices] = -np.inf
            if self.config.spare_partners:
                near = (held @ self.partners).tocsr()
                scores[np.repeat(np.arange(len(wanted)), np.diff(near.indptr)), near.indices] = -np.inf
            rank = (scores > own[:, None]).sum(1)
            found = rank < int(k)
            gains.append(found / (rank + 1) if metric == "mrr" else found.astype(float))
        return float(np.concatenate(gains).mean())


def _before(baskets: Baskets, half_life_days: float) -> csr_array:
    """(b, b) the last baskets of the same user before each, worth the less the longer ago they were."""
    first, second = later_baskets(baskets, REMEMBERED)
    age = baskets.time[second] - baskets.time[first]
    worth = np.exp2(-age / (half_life_days * DAY)).astype(np.float32)
    return csr_array((np.maximum(worth, 1e-6), (second, first)), shape=(len(baskets), len(baskets)))
