"""A list being filled: takes candidates in order and keeps the rules, whoever brings them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Candidates, Items, Reason
from endcap.serve.catalogue import Mask


class Pick(NamedTuple):
    """An item that has its place in the list.

    Attributes:
        further: what the model says beside the reason, and a ranker of the place; parts: what the score is made of.
    """

    item: int
    score: float
    source: str
    reason: Reason | None
    further: tuple[Reason, ...] = ()
    parts: Mapping[str, float] | None = None


class Cap:
    """At most `limit` items of one code (brand, category); items without a code (-1) are free."""

    def __init__(self, codes: NDArray[np.int32], limit: int) -> None:
        self.codes, self.limit = codes, limit
        self.count: Counter[int] = Counter()

    def has_room(self, item: int) -> bool:
        code = int(self.codes[item])
        return code < 0 or self.count[code] < self.limit

    def add(self, item: int) -> None:
        self.count[int(self.codes[item])] += 1

    def open(self) -> Mask:
        """(n_items,): items whose code still has room."""
        full = [code for code, count in self.count.items() if code >= 0 and count >= self.limit]
        room = np.ones(int(self.codes.max(initial=-1)) + 2, bool)
        room[full] = False
        return room[self.codes]  # code -1 finds the last entry


class Filling:
    """At most `k` items, each once, all of them allowed.

    Args:
        allowed: (n_items,) mask of the rules, None for all; excluded: items that this asker must not see here.
        n_items: how many items there are; rivals: the items that are never shown beside these;
        unwanted: (n,) which of some items do not belong here, though the rules allow them; None where all do.
    """

    def __init__(
        self,
        k: int,
        n_items: int,
        allowed: Mask | None,
        excluded: Iterable[int],
        caps: list[Cap],
        rivals: Callable[[Iterable[int]], set[int]],
        unwanted: Callable[[Items], Mask] | None = None,
    ) -> None:
        self.k, self.n_items, self.allowed, self.caps, self.rivals = k, n_items, allowed, caps, rivals
        self.unwanted = unwanted
        self.picks: list[Pick] = []
        self.gone = set(excluded)

    @property
    def missing(self) -> int:
        return self.k - len(self.picks)

    def may_take(self, item: int) -> bool:
        """Whether the rules leave room for an item."""
        if item in self.gone or not 0 <= item < self.n_items:
            return False
        return (self.allowed is None or bool(self.allowed[item])) and all(cap.has_room(item) for cap in self.caps)

    def add(self, pick: Pick) -> None:
        self.picks.append(pick)
        self.gone |= {pick.item} | self.rivals((pick.item,))
        for cap in self.caps:
            cap.add(pick.item)

    def take(self, found: Candidates, reason: Reason | None = None) -> int:
        """Take candidates in their order until the list is full; returns how many were taken."""
        before = len(self.picks)
        for row, item in enumerate(found.items.tolist()):
            if self.missing <= 0:
                break
            if self.may_take(item):
                why = reason if found.evidence is None else _because(found, row)
                self.add(Pick(item, float(found.scores[row]), found.source[row], why, parts=_parts(found, row)))
        return len(self.picks) - before

    def take_in_order(self, items: Items, source: str, reason: Reason) -> int:
        """Take items of an order that may be long, such as all items by popularity."""
        before, block, start = len(self.picks), 4 * self.k + 64, 0
        while self.missing > 0 and start < len(items):
            part = np.asarray(items[start : start + block])
            part = part[part < self.n_items]
            part = part if self.allowed is None else part[self.allowed[part]]
            part = part if self.unwanted is None or len(part) == 0 else part[~self.unwanted(part)]
            self.take(Candidates(part, np.zeros(len(part), np.float32), [source] * len(part)), reason)
            start, block = start + block, block * 4
        return len(self.picks) - before

    def open(self) -> Mask:
        """(n_items,): what may still be taken; a new array."""
        allowed = np.ones(self.n_items, bool) if self.allowed is None else self.allowed.copy()
        allowed[[item for item in self.gone if item < self.n_items]] = False
        for cap in self.caps:
            allowed &= cap.open()[: self.n_items]
        return allowed


def _because(found: Candidates, row: int) -> Reason | None:
    """The past action behind a candidate, if the model names one."""
    evidence = found.evidence
    if evidence is None or evidence.because[row] < 0:
        return None
    if evidence.together is not None and evidence.together[row] > 0:
        return Reason(
            "relation", item=int(evidence.because[row]), value=float(evidence.together[row]), note="bought together"
        )
    return Reason(
        "because",
        item=int(evidence.because[row]),
        seen_as=int(evidence.seen_as[row]),
        want=int(evidence.want[row]),
        value=float(found.scores[row]),
    )


def _parts(found: Candidates, row: int) -> dict[str, float] | None:
    """What a score is made of, if its model says so."""
    if found.parts is None:
        return None
    parts = {name: float(values[row]) for name, values in found.parts.items()}
    return parts if all(map(math.isfinite, parts.values())) else None
