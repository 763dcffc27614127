"""Walks from some items along what is bought together: a few hops, from the strongest places of each hop alone.

The rows of the graph lie by falling strength, so that a hop which reads the head of a row reads its strongest part. The
first hop reads whole rows; every further one starts from the `frontier` places where the hop before led most often and
reads `onward` partners of each. So a question costs the same in a shop of any size: with 200 places and 50 partners at
most 10,000 additions a hop. A thread needs 48 bytes an item, and the question's own places beside.
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
NOWHERE, ASKED = -1, -2  # of an item's place


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
    sums: NDArray[np.float32]  # (n_items, N_SUMS) at the places found so far, zero between questions
    where: NDArray[np.int32]  # (n_items,) the place of each item, `NOWHERE` between questions
    places: NDArray[np.int32]  # (n_items,) the item at each place


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
            where, places = np.full(n_items, NOWHERE, np.int32), np.empty(n_items, np.int32)
            scratch = _Scratch(np.zeros((n_items, N_SUMS), np.float32), where, places)
        found = _reach(*self.links, self._root, asked.astype(np.int32), self.frontier, self.onward, *scratch)
        self._free.append(scratch)
        return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill_columns(  # type: ignore[no-untyped-def]
    asked, wanted, at, sums, category, n_of, items_of, sold, logs, offsets, beside, chance, out
):
    """Sums and categories of wanted items (n,), into the first N_SUMS + 5 columns of `out`; zeros where `at` is -1.

    Of a category, beside the asked items' own ones: the chance that another item of a basket is of it, an item and by
    how often each is bought; how many of the asked items are of it; how many items it has. Then the item's baskets.

    Args:
        at: (n,) rows of sums (p, N_SUMS); category: (n_items,); items_of, sold: (categories,) items and baskets of each
        category; logs: log1p of items_of and of n_of; offsets, beside, chance: (categories, categories) by rows.
    """
    goes, own = np.zeros(len(sold), np.float32), np.zeros(len(sold), np.float32)
    for item in asked:
        own[category[item]] += 1
        for place in range(offsets[category[item]], offsets[category[item] + 1]):
            goes[beside[place]] += chance[place] / np.float32(len(asked))
    for row in range(len(wanted)):
        item = wanted[row]
        of = category[item]
        for place in range(N_SUMS):
            out[row, place] = sums[at[row], place] if at[row] >= 0 else 0
        out[row, N_SUMS] = goes[of] / max(items_of[of], np.float32(1))
        out[row, N_SUMS + 1] = goes[of] / sold[of] * n_of[item]
        out[row, N_SUMS + 2] = own[of] / len(asked)
        out[row, N_SUMS + 3], out[row, N_SUMS + 4] = logs[0][of], logs[1][item]


@numba.njit(nogil=True, cache=True)
def _reach(  # type: ignore[no-untyped-def]
    indptr, partner, shared, step, n_of, root, asked, frontier, onward, sums, where, places
):  # fmt: skip
    for item in asked:
        where[item] = ASKED  # nothing is added there
    n = 0
    share = np.float32(1) / np.float32(len(asked))
    for item in asked:
        for at in range(indptr[item], indptr[item + 1]):
            other = partner[at]
            if where[other] == ASKED:
                continue
            if where[other] == NOWHERE:
                where[other], places[n] = n, other
                n += 1
            row = sums[where[other]]
            both, ends = shared[at], root[item] * root[other]
            row[WALK1] += step[at] * share
            row[EVEN1] += step[at] * n_of[item] / ends
            row[COUNT] += both
            row[COSINE] += both / ends
            row[JACCARD] += both / (n_of[item] + n_of[other] - both)
    for hop in range(WALK1, WALK4):
        for begin, weight, even in _strongest(sums, hop, n, frontier):
            item = places[begin]
            for at in range(indptr[item], min(indptr[item + 1], indptr[item] + onward)):
                other = partner[at]
                if where[other] == ASKED:
                    continue
                if where[other] == NOWHERE:
                    where[other], places[n] = n, other
                    n += 1
                row = sums[where[other]]
                row[hop + 1] += weight * step[at]
                if hop == WALK1:
                    row[QUIET] += weight * step[at] / root[item]
                    row[EVEN2] += even * step[at] * root[item] / root[other] * share
    found, at_each = places[:n].copy(), sums[:n].copy()
    sums[:n] = 0
    for item in found:
        where[item] = NOWHERE
    for item in asked:
        where[item] = NOWHERE
    return found, at_each


@numba.njit(nogil=True, cache=True)
def _strongest(sums, hop, n, frontier):  # type: ignore[no-untyped-def]
    """The places with the largest sums of a hop, at most so many, each with this sum and its even walk."""
    weights = np.empty(n, np.float32)
    n_reached = 0
    for place in range(n):
        weight = sums[place, hop]
        if weight > 0:
            weights[n_reached] = weight
            n_reached += 1
    bar = np.float32(0)
    if n_reached > frontier:
        bar = np.partition(weights[:n_reached], n_reached - frontier)[n_reached - frontier]
    found = [(np.int64(0), np.float32(0), np.float32(0)) for _ in range(0)]
    for place in range(n):
        row = sums[place]
        if row[hop] > 0 and row[hop] >= bar and len(found) < frontier:
            found.append((place, row[hop], row[EVEN1]))
    return found
