"""People's actions as packed arrays, and batches of (what came before, what came next) cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BATCHES_TOGETHER = 50  # instances of so many batches are sorted by length before they are cut: little padding


@dataclass(frozen=True, eq=False)
class Histories:
    """Actions of people in order of time: person p has rows offsets[p]:offsets[p + 1].

    Attributes:
        offsets: (n + 1,) int64; items: int32; kinds: int8, the interaction; times: int64, microseconds.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    kinds: NDArray[np.int8]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def person(self) -> NDArray[np.int64]:
        """Whose action each row is."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def where(self, kept: NDArray[np.bool_]) -> Histories:
        """The actions that a mask keeps, of the same people."""
        before = np.append(0, np.cumsum(kept))
        return Histories(before[self.offsets], self.items[kept], self.kinds[kept], self.times[kept])

    def new_to_person(self) -> NDArray[np.bool_]:
        """True where a person acts on an item for the first time."""
        order = np.lexsort((np.arange(len(self.items)), self.items, person := self.person))
        first = np.ones(len(order), bool)
        first[1:] = (person[order[1:]] != person[order[:-1]]) | (self.items[order[1:]] != self.items[order[:-1]])
        new = np.empty(len(order), bool)
        new[order] = first
        return new


class Past(NamedTuple):
    """What B people did, oldest first, the last action in the last column; shorter pasts are padded on the left.

    items (B, T) int64, -1 pads; kinds (B, T) int64; times (B, T) int64, microseconds.
    """

    items: NDArray[np.int64]
    kinds: NDArray[np.int64]
    times: NDArray[np.int64]


class Cuts(NamedTuple):
    """Instances for training: row `target` of the histories is to be foreseen from the rows `begin`:`target`."""

    begin: NDArray[np.int64]
    target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.target)

    def take(self, which: NDArray[np.integer]) -> Cuts:
        return Cuts(self.begin[which], self.target[which])


def all_cuts(histories: Histories, longest: int, targets: NDArray[np.bool_]) -> Cuts:
    """An instance for every action that `targets` marks and that something comes before; pasts of at most `longest`."""
    start = np.repeat(histories.offsets[:-1], histories.lengths)
    rows = np.flatnonzero(targets & (np.arange(len(histories.items)) > start))
    return Cuts(np.maximum(start[rows], rows - longest), rows)


def past_of(histories: Histories, cuts: Cuts) -> Past:
    """The pasts of some instances."""
    longest = int((cuts.target - cuts.begin).max(initial=1))
    rows = cuts.target[:, None] - np.arange(longest, 0, -1)
    known = rows >= cuts.begin[:, None]
    rows = np.where(known, rows, 0)
    if len(histories.items) == 0:
        nothing = np.zeros(rows.shape, np.int64)
        return Past(nothing - 1, nothing, nothing)
    return Past(
        np.where(known, histories.items[rows], -1).astype(np.int64),
        np.where(known, histories.kinds[rows], 0).astype(np.int64),
        np.where(known, histories.times[rows], 0),
    )


def batches(lengths: NDArray[np.integer], size: int, seed: int | Sequence[int]) -> list[NDArray[np.int64]]:
    """A random order of all instances in batches of about equal length, so that little is padded.

    Args:
        lengths: (n,) of the instances' pasts; size: instances of a batch; seed: of this epoch.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    block, cut = size * BATCHES_TOGETHER, list[NDArray[np.int64]]()
    for begin in range(0, len(order), block):
        part = order[begin : begin + block]
        part = part[np.argsort(lengths[part], kind="stable")]
        cut += [part[at : at + size] for at in range(0, len(part), size)]
    return [cut[place] for place in rng.permutation(len(cut))]
