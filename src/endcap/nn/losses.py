"""Losses over sampled candidates: one list of candidates for a whole batch, corrected for how it was drawn."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

TRIES = 20  # draws for a negative that is not the person's own; who owns nearly everything keeps the last


class CandidateList(NamedTuple):
    """What a batch's targets are told apart from.

    Attributes:
        items: (C,) int64 ascending, each once;
        column: (B,) where each target stands among them; None: targets are none of them, but a column before theirs;
        log_q: (C,) float32, log of the chance to be in such a list;
        hidden: flat places b * C + c of what must not count as a negative: other items of the same person.
    """

    items: NDArray[np.int64]
    column: NDArray[np.int64] | None
    log_q: NDArray[np.float32]
    hidden: NDArray[np.int64]


class Proposal:
    """The one distribution that negatives come from: the batch's own targets, and `shared` further draws.

    Args:
        counts: (n,) how often each item is a target; shared: draws besides the batch's targets, 0: all items;
        exponent: the draws are by counts ** exponent, 0 draws evenly; in_batch: false leaves the targets out.
    """

    def __init__(self, counts: NDArray[np.integer], shared: int, exponent: float, *, in_batch: bool = True) -> None:
        self.n_items, self.shared, self.in_batch = len(counts), shared, in_batch
        self.target_share = counts / max(1, counts.sum())
        weights = np.maximum(counts, 0).astype(np.float64) ** exponent if exponent else np.ones(len(counts))
        self.draw_share = weights / weights.sum()
        self._cumulated = np.cumsum(self.draw_share)

    def draw(self, targets: NDArray[np.int64], own: tuple[NDArray, NDArray], seed: list[int]) -> CandidateList:
        """The candidates of one batch.

        Args:
            targets: (B,); own: (rows, items), items that person `row` of the batch has acted on, none of them a
                negative of theirs; seed: of this step.
        """
        if self.shared == 0:
            items = np.arange(self.n_items, dtype=np.int64)
            log_q = np.zeros(self.n_items, np.float32)
        else:
            points = np.random.default_rng(seed).random(self.shared)
            drawn = np.minimum(np.searchsorted(self._cumulated, points), self.n_items - 1)
            items = np.unique(np.concatenate([targets, drawn]) if self.in_batch else drawn)
            tries = len(targets) if self.in_batch else 0
            misses = tries * np.log1p(-np.minimum(self.target_share[items], 0.999999))
            misses += self.shared * np.log1p(-np.minimum(self.draw_share[items], 0.999999))
            log_q = np.log(np.maximum(-np.expm1(misses), 1e-12)).astype(np.float32)
        column = np.searchsorted(items, targets) if self.in_batch or self.shared == 0 else None
        rows, owned = own
        place = np.minimum(np.searchsorted(items, owned), len(items) - 1)
        among = items[place] == owned
        if column is not None:
            among &= owned != targets[rows]
        return CandidateList(items, column, log_q, rows[among] * len(items) + place[among])

    def draw_each(self, targets: NDArray[np.int64], own: tuple[NDArray, NDArray], seed: list[int]) -> NDArray[np.int64]:
        """One negative (B,) for each target, drawn anew where it is the person's own; arguments as in `draw`."""
        rng = np.random.default_rng(seed)
        drawn, (rows, owned) = np.empty(len(targets), np.int64), own
        keys = np.unique(rows * self.n_items + owned)
        open_ = np.arange(len(targets))
        for _ in range(TRIES):
            points = rng.random(len(open_))
            drawn[open_] = np.minimum(np.searchsorted(self._cumulated, points), self.n_items - 1)
            open_ = open_[np.isin(open_ * self.n_items + drawn[open_], keys)]
            if len(open_) == 0:
                break
        return drawn


def softmax_loss(logits: Tensor, target: Tensor, drawn: CandidateList, strength: float) -> Tensor:
    """Sampled softmax: -log softmax over {target} and negatives of logit - strength * log Q.

    Args:
        logits: (B, C), scores of all candidates, already divided by the temperature; target: (B,), of the targets.
        strength: 0 leaves the draw uncorrected (popular items are held down), 1 corrects it fully.

    Returns:
        (B,).
    """
    device = logits.device
    if strength:
        logits = logits - strength * torch.from_numpy(drawn.log_q).to(device)
    hidden = torch.from_numpy(drawn.hidden).to(device)
    logits = logits.reshape(-1).index_fill(0, hidden, float("-inf")).view_as(logits)
    if drawn.column is None:
        logits = torch.cat([target[:, None], logits], dim=1)
        return functional.cross_entropy(logits, torch.zeros_like(target, dtype=torch.long), reduction="none")
    return functional.cross_entropy(logits, torch.from_numpy(drawn.column).to(device), reduction="none")


def pairwise_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """BPR: -log sigmoid(positive - negative); all (B,)."""
    return functional.softplus(negative - positive)


def binary_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """Cross-entropy of one positive and one negative, SASRec's own; all (B,)."""
    return functional.softplus(-positive) + functional.softplus(negative)
