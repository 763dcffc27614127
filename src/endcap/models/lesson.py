"""What models of histories are trained on: instances out of people's histories, their batches, the loss of a batch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from endcap.errors import InputError
from endcap.models.base import Origin
from endcap.nn.histories import Cuts, Histories, Past, all_cuts, batches, past_of
from endcap.nn.items import ranges
from endcap.nn.losses import CandidateList, Proposal, binary_loss, pairwise_loss, softmax_loss

if TYPE_CHECKING:
    from endcap.models.history_model import HistoryModel

log = logging.getLogger("endcap.models")


class Lesson:
    """What a model is trained on: instances, their batches, and the loss of a batch."""

    def __init__(self, model: HistoryModel, histories: Histories, seed: int) -> None:
        self.model, self.config, self.histories, self.seed = model, model.config, histories, seed
        self.person = histories.person
        target = histories.new_to_person() if self.config.targets == "new" else np.ones(len(histories.items), bool)
        self.weight = _weights(self.config.target_weights, model._trained(), histories.kinds)
        n_items = len(model._has_vector)
        acted = histories.items < n_items
        target &= (self.weight > 0) & acted
        self.is_target = target
        if model.by_position:
            self.cuts = _windows(histories, self.config.longest, target)
        else:
            self.cuts = all_cuts(histories, self.config.longest, target)
        if len(self.cuts) == 0:
            log.warning("%s: nobody has one action after another: vectors stay as they began", model.system)
        foreseen = histories.items[
            target & (np.arange(len(target)) > np.repeat(histories.offsets[:-1], histories.lengths))
        ]
        counts = np.bincount(foreseen, minlength=n_items)
        self.proposal = Proposal(
            counts, self.config.negatives, self.config.negatives_exponent, in_batch=self.config.in_batch
        )
        keys = np.unique(self.person[acted] * n_items + histories.items[acted])
        self.own_items = keys % n_items
        self.own_offsets = np.searchsorted(keys // n_items, np.arange(len(histories) + 1))
        self.known = model._known_items()

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        return batches(self.cuts.target - self.cuts.begin, self.config.batch_size, [self.seed, epoch])

    def where(self, batch: NDArray[np.int64]) -> str:
        """Which people a batch is about."""
        people = np.unique(self.person[self.cuts.target[batch] - 1])
        return f"people number {', '.join(map(str, people[:5].tolist()))}{' ...' if len(people) > 5 else ''}"

    def loss(self, batch: NDArray[np.int64]) -> Tensor:
        """Sampled softmax of what came next, on cuts or at every position."""
        cuts = self.cuts.take(batch)
        past = past_of(self.histories, cuts)
        rows, places = self._foreseen(cuts, past)
        targets = self.histories.items[rows].astype(np.int64)
        own, seed = self._own(rows), [int(torch.randint(2**31, ()))]  # torch was seeded for this step
        drawn: CandidateList | None = None
        if self.config.loss == "softmax":
            drawn = self.proposal.draw(targets, own, seed)
            others = drawn.items
        else:
            others = self.proposal.draw_each(targets, own, seed)
        numbers = np.unique(np.concatenate([past.items[past.items >= 0], targets, others]))
        towers = self.model._towers
        vectors, second = towers.items(numbers)
        vectors, second = self.model.finished(vectors), None if second is None else self.model.finished(second)
        device = vectors.device

        def rows_of(items: NDArray[np.int64]) -> Tensor:
            return torch.from_numpy(np.searchsorted(numbers, items).clip(max=len(numbers) - 1)).to(device)

        known = torch.from_numpy(past.items >= 0).to(device)
        nodes = second if self.model.nodes_are_second and second is not None else vectors
        inputs = functional.embedding(rows_of(past.items), nodes) * known[..., None]
        penalty: Tensor | float = 0.0
        if self.model.by_position:
            people = self.model.finished(towers.states(inputs, past).flatten(0, 1)[torch.from_numpy(places).to(device)])
        else:
            interests = towers.users(inputs, past)
            each = self.model.finished(interests.vectors)
            best = (each @ vectors[rows_of(targets)][:, :, None])[..., 0].argmax(1)  # hard readout
            people = each[torch.arange(len(each), device=device), best]
            penalty = towers.penalty(interests, past)
        people = people * self._scale(towers)
        losses = self._losses(people, vectors, rows_of(targets), rows_of(others), drawn)
        share = getattr(self.config, "dual_loss", 0.0)
        if second is not None and share:
            raw = self._losses(people, second, rows_of(targets), rows_of(others), drawn)
            losses = (1 - share) * losses + share * raw
        weight = torch.from_numpy(self.weight[rows]).to(device)
        return (losses * weight).sum() / weight.sum() + penalty

    def _losses(
        self, people: Tensor, vectors: Tensor, targets: Tensor, others: Tensor, drawn: CandidateList | None
    ) -> Tensor:
        """people (B, d), vectors (n, d), targets (B,) and others: rows of vectors -> (B,)."""
        own = (people * vectors[targets]).sum(1)
        if drawn is not None:
            return softmax_loss(people @ vectors[others].T, own, drawn, self.config.logq)
        one_each = pairwise_loss if self.config.loss == "pairwise" else binary_loss
        return one_each(own, (people * vectors[others]).sum(1))

    def _scale(self, towers: nn.Module) -> Tensor | float:
        return towers.log_scale.exp() if self.config.temperature else 1.0

    def _foreseen(self, cuts: Cuts, past: Past) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of the histories that a batch foresees; by position also the flat places of `past` they come after."""
        if not self.model.by_position:
            return cuts.target, np.empty(0, np.int64)
        length = past.items.shape[1]
        rows = cuts.target[:, None] - np.arange(length, 0, -1) + 1  # what follows each action of the past
        wanted = (past.items >= 0) & self.is_target[np.minimum(rows, len(self.is_target) - 1)]
        return rows[wanted], np.flatnonzero(wanted)

    def _own(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each foreseen action everything its person acted on: (rows of the batch, items)."""
        people = self.person[rows]
        flat, _ = ranges(self.own_offsets, people)
        lengths = self.own_offsets[people + 1] - self.own_offsets[people]
        return np.repeat(np.arange(len(rows)), lengths), self.own_items[flat]


def _windows(histories: Histories, longest: int, is_target: NDArray[np.bool_]) -> Cuts:
    """Stretches of at most `longest` actions from the end backwards, each with the one after its last as a target."""
    begins, ends = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    end = histories.offsets[1:] - 1  # the last action is only ever a target
    start = histories.offsets[:-1]
    while (open_ := end > start).any():
        start, end = start[open_], end[open_]
        begin = np.maximum(start, end - longest)
        begins.append(begin)
        ends.append(end)
        end = begin
    if not begins:
        return Cuts(np.empty(0, np.int64), np.empty(0, np.int64))
    cuts = Cuts(np.concatenate(begins), np.concatenate(ends))
    counted = np.append(0, np.cumsum(is_target))
    return cuts.take(np.flatnonzero(counted[cuts.target + 1] > counted[cuts.begin + 1]))


def _weights(given: Mapping[str, float], origin: Origin, kinds: NDArray[np.int8]) -> NDArray[np.float32]:
    """The weight of each action as a target."""
    by_kind = np.ones(len(origin.interactions) + 1, np.float32)  # and what else stands in histories
    for name, weight in given.items():
        if not weight >= 0:
            raise InputError(f"target_weights.{name}={weight}: a weight of 0 or more is needed")
        by_kind[origin.interactions.code(name)] = weight
    return by_kind[kinds]
