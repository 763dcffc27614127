"""Counting what is bought together and one after the other, in bounded memory.

As in `endcap.kernels.pairs`, a thread counts one item at a time: it walks the baskets that hold the item, and those of
the same user nearby, adds into a row of numbers for each partner, and keeps the most frequent partners. There is never
a list of all pairs of a basket, rows do not depend on each other, and the result is the same whatever the threads.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

ROWS_A_TURN = 64
# What is added up for each partner: in one basket, the partner later, the partner earlier, the same faded by age, one
# over the size of each basket of both, and that faded
TOGETHER, AFTER, BEFORE, TOGETHER_FADED, AFTER_FADED, BEFORE_FADED, SHARED, SHARED_FADED = range(8)
N_SUMS = 8


class Rules(NamedTuple):
    """What counts: the partner within `window` (microseconds, 0: one basket only) and `most` baskets of one user.

    A pair stays if it occurs `min_support` times, or `min_together` times in one basket; of those of an item the
    `per_item` most frequent ones, then lower numbers.
    """

    window: int
    most: int
    min_support: int
    min_together: int
    per_item: int


class Pairs(NamedTuple):
    """Directed pairs by item, then by partner: item and partner (m,), and the sums (m, N_SUMS)."""

    item: NDArray[np.int32]
    partner: NDArray[np.int32]
    sums: NDArray[np.float32]
    cut: bool  # whether any item had more than `per_item` partners


class _Worker(NamedTuple):
    """What one thread counts with: by partner, and the results of one turn."""

    sums: NDArray[np.float64]  # (n_items, N_SUMS), zero between rows
    seen_at: NDArray[np.int64]  # (n_items,) the holder of the item that the partner was last counted for
    listed_for: NDArray[np.int32]  # (n_items,) the item that the partner was last listed for
    partners: NDArray[np.int32]  # (n_items,) those found so far
    lengths: NDArray[np.int64]
    found: NDArray[np.int32]
    totals: NDArray[np.float32]

    @classmethod
    def new(cls, n_items: int, per_item: int) -> _Worker:
        return cls(
            np.zeros((n_items, N_SUMS)),
            np.full(n_items, -1, np.int64),
            np.full(n_items, -1, np.int32),
            np.empty(n_items, np.int32),
            np.empty(ROWS_A_TURN, np.int64),
            np.empty(ROWS_A_TURN * per_item, np.int32),
            np.empty((ROWS_A_TURN * per_item, N_SUMS), np.float32),
        )


def count_pairs(
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    user: NDArray[np.int32],
    time: NDArray[np.int64],
    worth: NDArray[np.float64],
    n_items: int,
    rules: Rules,
    threads: int,
) -> Pairs:
    """All pairs of items by the rules.

    Args:
        items, offsets: baskets in a row, items distinct in each; user, time: of each, by user, then time;
        worth: (b,) what a pair counts for that was completed by this basket, after fading.
    """
    basket = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    order = np.argsort(items, kind="stable")
    holders, starts = basket[order], np.searchsorted(items[order], np.arange(n_items + 1))
    rules = rules._replace(per_item=max(1, min(rules.per_item, n_items)))
    corpus = (items, offsets, user, time, worth, holders, starts, *rules)

    free: deque[_Worker] = deque(_Worker.new(n_items, rules.per_item) for _ in range(max(1, threads)))

    def work(first: int) -> tuple[NDArray, NDArray, NDArray, bool]:
        mine, last = free.popleft(), min(n_items, first + ROWS_A_TURN)
        filled, cut = _count(*corpus, first, last, *mine)
        part = mine.lengths[: last - first].copy(), mine.found[:filled].copy(), mine.totals[:filled].copy(), cut
        free.append(mine)
        return part

    with ThreadPoolExecutor(len(free)) as pool:
        parts = list(pool.map(work, range(0, n_items, ROWS_A_TURN)))
    if not parts:
        return Pairs(np.empty(0, np.int32), np.empty(0, np.int32), np.empty((0, N_SUMS), np.float32), False)
    lengths, partners, sums, cuts = zip(*parts, strict=True)
    item = np.repeat(np.arange(n_items, dtype=np.int32), np.concatenate(lengths))
    return Pairs(item, np.concatenate(partners), np.concatenate(sums), any(cuts))


@numba.njit(nogil=True, cache=True)
def _count(  # type: ignore[no-untyped-def]
    items, offsets, user, time, worth, holders, starts, window, most, min_support, min_together, per_item,
    first, last, sums, seen_at, listed_for, partners, lengths, found, totals,
):  # fmt: skip
    """Pairs of the items first .. last - 1 into `found` and `totals`: how many, and whether an item had too many."""
    filled, cut = 0, False
    for item in range(first, last):
        n = 0
        for at in range(starts[item], starts[item + 1]):
            here = holders[at]
            share = 1.0 / (offsets[here + 1] - offsets[here])
            for place in range(offsets[here], offsets[here + 1]):
                other = items[place]
                seen_at[other] = at
                if other == item:
                    continue
                if listed_for[other] != item:
                    listed_for[other] = item
                    partners[n] = other
                    n += 1
                sums[other, TOGETHER] += 1
                sums[other, TOGETHER_FADED] += worth[here]
                sums[other, SHARED] += share
                sums[other, SHARED_FADED] += share * worth[here]
            if window == 0:
                continue
            # an earlier basket of the partner: each partner once for this basket, and none that is in it
            near, lowest = here - 1, max(0, here - most)
            while near >= lowest and user[near] == user[here] and time[here] - time[near] <= window:
                for place in range(offsets[near], offsets[near + 1]):
                    other = items[place]
                    if seen_at[other] != at:
                        seen_at[other] = at
                        if listed_for[other] != item:
                            listed_for[other] = item
                            partners[n] = other
                            n += 1
                        sums[other, BEFORE] += 1
                        sums[other, BEFORE_FADED] += worth[here]
                near -= 1
            # later baskets, up to the next one that holds the item: from there on that one is the nearer
            near, highest = here + 1, min(len(user) - 1, here + most)
            if at + 1 < starts[item + 1]:
                highest = min(highest, holders[at + 1] - 1)
            while near <= highest and user[near] == user[here] and time[near] - time[here] <= window:
                for place in range(offsets[near], offsets[near + 1]):
                    other = items[place]
                    if listed_for[other] != item:
                        listed_for[other] = item
                        partners[n] = other
                        n += 1
                    sums[other, AFTER] += 1
                    sums[other, AFTER_FADED] += worth[near]
                near += 1
        kept = 0
        keys = np.empty(n, np.int64)
        for index in range(n):
            other = partners[index]
            times = sums[other, TOGETHER] + sums[other, AFTER] + sums[other, BEFORE]
            if times >= min_support or sums[other, TOGETHER] >= min_together:
                keys[kept] = (np.int64(times) << 32) | np.int64(0x7FFFFFFF - other)
                kept += 1
        keys = keys[:kept]
        if kept > per_item:
            keys = np.partition(keys, kept - per_item)[kept - per_item :]
            cut = True
        chosen = np.sort(0x7FFFFFFF - (keys & 0xFFFFFFFF))
        for index in range(len(chosen)):
            other = chosen[index]
            found[filled] = other
            for column in range(N_SUMS):
                totals[filled, column] = sums[other, column]
            filled += 1
        lengths[item - first] = len(chosen)
        for index in range(n):
            sums[partners[index]] = 0
    return filled, cut
