"""Walks from some items along what is bought together: a few hops, from the strongest places of each hop alone.

The rows of the graph lie by falling strength, so that a hop which reads the head of a row reads its strongest part. The
first hop reads whole rows; every further one starts from the `frontier` places where the hop before led most often and
reads `onward` partners of each. So a question costs the same in a shop of any size: with 200 places and 50 partners at
most 10,000 additions a hop. A thread needs 45 bytes an item, and the question's own places beside.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

# What is added up at each place: walks of one to four hops, of two hops where hubs count less, of one and two hops with
# both ends held down, shared baskets, and these over the root and over the union of both items' baskets
WALK1, WALK2, WALK3, WALK4, QUIET, EVEN1, EVEN2, COUNT, COSINE, JACCARD = range(10)
N_SUMS = 10


class Links(NamedTuple):
    """A graph by rows, the strongest partner first.

    Attributes:
        indptr: (n_items + 1,) int64; partner: (m,) int32; shared: (m,) float32, baskets of both;
        step: (m,) float32, the chance that a walk goes from the row's item to this partner;
        n_of: (n_items,) float32, baskets of each item.
    """

    indptr: NDArray[np.int64]
    partner: NDArray[np.int32]
    shared: NDArray[np.float32]
    step: NDArray[np.float32]
    n_of: NDArray[np.float32]


class _Scratch(NamedTuple):
    sums: NDArray[np.float32]  # (n_items, N_SUMS), zero between questions
    listed: NDArray[np.bool_]  # (n_items,) false between questions
    places: NDArray[np.int32]  # (n_items,) those found so far


class Walker:
    """Links, and what threads need to walk along them."""

    def __init__(self, links: Links, *, frontier: int, onward: int) -> None:
        self.links, self.frontier, self.onward = links, frontier, onward
        self._root = np.sqrt(np.maximum(links.n_of, 1)).astype(np.float32)
        self._free: deque[_Scratch] = deque()

    def reach(self, asked: NDArray[np.integer]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Where walks lead from distinct known items (m,): items (p,), and the sums (p, N_SUMS) at each.

        None of them is among those asked with.
        """
        n_items = len(self._root)
        try:
            scratch = self._free.pop()
        except IndexError:
            scratch = _Scratch(
                np.zeros((n_items, N_SUMS), np.float32), np.zeros(n_items, np.bool_), np.empty(n_items, np.int32)
            )
        found = _reach(*self.links, self._root, asked.astype(np.int32), self.frontier, self.onward, *scratch)
        self._free.append(scratch)
        return found


@numba.njit(nogil=True, cache=True)
def _reach(  # type: ignore[no-untyped-def]
    indptr, partner, shared, step, n_of, root, asked, frontier, onward, sums, listed, places
):  # fmt: skip
    for item in asked:
        listed[item] = True  # and in no place: nothing is added there
    n = 0
    share = np.float32(1) / np.float32(len(asked))
    for item in asked:
        for at in range(indptr[item], indptr[item + 1]):
            other = partner[at]
            if not listed[other]:
                listed[other] = True
                places[n] = other
                n += 1
            row = sums[other]
            both, ends = shared[at], root[item] * root[other]
            row[WALK1] += step[at] * share
            row[EVEN1] += step[at] * n_of[item] / ends
            row[COUNT] += both
            row[COSINE] += both / ends
            row[JACCARD] += both / (n_of[item] + n_of[other] - both)
    for item in asked:
        sums[item] = 0
    for hop in range(WALK1, WALK4):
        begin = _strongest(sums, hop, places, n, frontier)
        for item, weight, even in begin:
            for at in range(indptr[item], min(indptr[item + 1], indptr[item] + onward)):
                other = partner[at]
                if not listed[other]:
                    listed[other] = True
                    places[n] = other
                    n += 1
                row = sums[other]
                row[hop + 1] += weight * step[at]
                if hop == WALK1:
                    row[QUIET] += weight * step[at] / root[item]
                    row[EVEN2] += even * step[at] * root[item] / root[other] * share
        for item in asked:
            sums[item] = 0
    found = places[:n].copy()
    at_each = np.empty((n, N_SUMS), np.float32)
    for place in range(n):
        at_each[place] = sums[found[place]]
        sums[found[place]] = 0
        listed[found[place]] = False
    for item in asked:
        listed[item] = False
    return found, at_each


@numba.njit(nogil=True, cache=True)
def _strongest(sums, hop, places, n, frontier):  # type: ignore[no-untyped-def]
    """The places with the largest sums of a hop, at most so many, each with this sum and its even walk."""
    weights = np.empty(n, np.float32)
    n_reached = 0
    for place in range(n):
        weight = sums[places[place], hop]
        if weight > 0:
            weights[n_reached] = weight
            n_reached += 1
    bar = np.float32(0)
    if n_reached > frontier:
        bar = np.partition(weights[:n_reached], n_reached - frontier)[n_reached - frontier]
    found = [(np.int32(0), np.float32(0), np.float32(0)) for _ in range(0)]
    for place in range(n):
        row = sums[places[place]]
        if row[hop] > 0 and row[hop] >= bar and len(found) < frontier:
            found.append((places[place], row[hop], row[EVEN1]))
    return found
