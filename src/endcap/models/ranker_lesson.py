"""What the second pass learns from: requests of a stretch of a log, what the sources named, and what came next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from endcap.answers import History, Items, Scores
from endcap.errors import InputError
from endcap.models.ranker_features import Floats, pack
from endcap.release.contents import Histories
from endcap.shop import Shop
from endcap.shop.searches import Searches

if TYPE_CHECKING:
    from endcap.models.ranker import RankerConfig

MOST_GRADES = 30


class Groups(NamedTuple):
    """What is learnt from: groups of candidates, one under the other.

    Attributes:
        names: of the f features; rows: (r, f) float32, NaN where not known; labels: (r,) grades from 0;
        sizes: (g,) rows of each group, in all r.
    """

    names: Sequence[str]
    rows: Floats
    labels: NDArray[np.integer]
    sizes: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Pools:
    """Requests of a stretch of a log, what the sources named, and what came next.

    Attributes:
        user: (n,); past: n histories; candidates: (n, c), -1 pads; scores: source -> (n, c), NaN where not named;
        labels: (n, c) grades, 0 for what did not come; wanted: (n,) how many different items came, named or not.
    """

    user: Items
    past: Histories
    candidates: Items
    scores: dict[str, Scores]
    labels: NDArray[np.int32]
    wanted: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.user)


class Queries:
    """Actions of a stretch to learn from: of people of whom something is known, a few of each, drawn by chance.

    Attributes:
        rows: of the log below, one a request: everything before it is its history, what comes from it on its answer;
        user, item, interaction, time: the log of the people of the stretch, by person and time;
        searches: of the whole log.
    """

    def __init__(self, view: Shop, start: int, config: RankerConfig, parity: int | None, seed: int) -> None:
        past, self.config, self.searches = view.positives, config, Searches(view.events)
        chosen = np.isin(past.user, past.user[past.time >= start])
        if parity is not None:
            chosen &= past.user % 2 == parity
        past = past.where(chosen)
        order = np.lexsort((past.time, past.user))
        self.user, self.item = past.user[order], past.item[order]
        self.interaction, self.time = past.interaction[order], past.time[order]
        places = np.arange(len(order))
        self.begin = np.searchsorted(self.user, self.user)
        self.end = np.searchsorted(self.user, self.user, side="right")
        rows = places[(self.time >= start) & (places > self.begin)]
        rng = np.random.default_rng(seed)
        rows = rng.permutation(rows)
        by_person = rows[np.argsort(self.user[rows], kind="stable")]
        first = np.searchsorted(self.user[by_person], self.user[by_person])
        rows = by_person[np.arange(len(by_person)) - first < config.per_person]
        self.rows = np.sort(rng.permutation(rows)[: config.queries])

    def history(self, row: int) -> History:
        before = slice(self.begin[row], row)
        return History(self.item[before], self.interaction[before], self.time[before])

    def searches_before(self, row: int) -> tuple[tuple[str, int], ...]:
        return self.searches.before(int(self.user[row]), int(self.time[row]))

    def next(self, row: int) -> dict[int, int]:
        """The items of the next actions, each with the grade of the strongest: 1 for the weakest interaction."""
        after = slice(row, min(row + self.config.next_actions, self.end[row]))
        known = set() if self.config.repeats else set(self.item[self.begin[row] : row].tolist())
        came: dict[int, int] = {}
        for item, kind in zip(self.item[after].tolist(), self.interaction[after].tolist(), strict=True):
            if item not in known:
                came[item] = max(came.get(item, 0), kind + 1)
        return came


def padded(rows: Sequence[NDArray[Any]], pad: float, kind: type) -> NDArray[Any]:
    """Rows of different lengths under each other."""
    table: NDArray[Any] = np.full((len(rows), max((len(row) for row in rows), default=0)), pad, kind)
    for place, row in enumerate(rows):
        table[place, : len(row)] = row
    return table


def some_of(past: Histories, which: NDArray[np.integer]) -> Histories:
    """Some of the histories, in the order of `which`."""
    ends = np.asarray(past.offsets)
    return pack(
        History(past.items[begin:end], past.interactions[begin:end], past.times[begin:end])
        for begin, end in zip(ends[which].tolist(), ends[which + 1].tolist(), strict=True)
    )


def check_groups(groups: Groups, what: str) -> None:
    rows, labels, sizes = np.shape(groups.rows), np.asarray(groups.labels), np.asarray(groups.sizes)
    fits = (
        np.asarray(groups.rows).dtype.kind in "fiu"
        and len(rows) == 2
        and labels.shape == rows[:1]
        and rows[1] == len(groups.names)
        and sizes.ndim == 1
    )
    if not fits or labels.dtype.kind not in "iu" or sizes.dtype.kind not in "iu" or (sizes < 0).any():
        raise InputError(f"{what}: rows (r, f), f names, r whole labels and the sizes of groups are needed")
    if sizes.sum() != rows[0]:
        raise InputError(f"{what}: the groups have {sizes.sum():,} rows in all, there are {rows[0]:,}")
    if labels.min(initial=0) < 0 or labels.max(initial=0) > MOST_GRADES:
        raise InputError(f"{what}: labels are grades from 0 to {MOST_GRADES}")
