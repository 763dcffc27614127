"""How an item is linked with what is like another one: the pair's label, read off labels that are known.

Whoever sells a second brand of coffee knows what goes with it from what goes with the first. For items i and j, and
each kind of link (goes with, stands for, both at once), the sum over k that i is so linked with of

    likeness(k, j) = |N(k) & N(j)|^2 / (|N(k)| |N(j)|)

N being the neighbours in one of the two graphs, then these sums as shares of the three kinds: attention of the pair to
i's typed neighbours, its weights not learnt. The edge between i and j plays no part: j is no neighbour of i here, nor i
one of j's.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

KINDS = ("goes with", "stands for", "is both to")
BY = ("buyers", "lookers")  # likeness by who goes with both, and by who stands for both
SIDES = ("this", "that")
WIDTH = len(BY) * 2 * len(KINDS) + len(KINDS)  # columns of one side
ALIKE_NAMES = tuple(
    f"{one}: {column}"
    for one, other in (SIDES, SIDES[::-1])
    for column in (
        *(
            f"{what} {kind} what is like {other}, by {by}"
            for by in BY
            for what in ("sum of", "share of")
            for kind in KINDS
        ),
        *(f"{kind} so many" for kind in KINDS),
    )
)

Floats = NDArray[np.float32]


def alike_columns(
    offsets: NDArray[np.int64], others: NDArray[np.int32], left: NDArray[np.int32], right: NDArray[np.int32]
) -> Floats:
    """(pairs, len(ALIKE_NAMES)) of pairs of known items; the halves change places when the items do.

    Args:
        offsets, others: see `links.Links`.
    """
    out = np.empty((len(left), 2 * WIDTH), np.float32)
    order = np.lexsort((right, left))  # what is reached from an item is found once
    some = np.empty_like(out)
    _alike(np.asarray(offsets), np.asarray(others), left[order].astype(np.int64), right[order].astype(np.int64), some)
    out[order] = some
    return out


@numba.njit(nogil=True, cache=True)
def _alike(offsets, others, left, right, out):  # type: ignore[no-untyped-def]
    n = offsets.shape[1] - 1
    kind_of = np.full(n, -1, np.int8)  # how the left item is linked with each: 0 goes with, 1 stands for, 2 both
    shared = np.zeros((2, n), np.int32)  # neighbours of each that the left item has, too
    head = np.full((2, n), -1, np.int64)  # of each, the list of those of the left item's neighbours that are its own
    count, touched = np.zeros(n, np.int64), np.empty(n, np.int64)
    begin = 0
    while begin < len(left):
        i, last = left[begin], begin
        while last < len(left) and left[last] == i:
            last += 1
        of_left = np.zeros(3, np.int64)
        for graph in range(2):
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                k = others[place]
                kind_of[k] = graph if kind_of[k] < 0 else 2
                for near in range(offsets[graph, k], offsets[graph, k + 1]):
                    shared[graph, others[near]] += 1
        room = 0
        for graph in range(2):
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                k = others[place]
                if graph == 1 and kind_of[k] == 2:
                    continue  # met in the first graph
                of_left[kind_of[k]] += 1
                for by in range(2):
                    room += offsets[by, k + 1] - offsets[by, k]
        onward, owner = np.empty(room, np.int64), np.empty(room, np.int64)
        entry = 0
        for graph in range(2):
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                k = others[place]
                if graph == 1 and kind_of[k] == 2:
                    continue
                for by in range(2):
                    for near in range(offsets[by, k], offsets[by, k + 1]):
                        owner[entry], onward[entry] = k, head[by, others[near]]
                        head[by, others[near]] = entry
                        entry += 1
        for row in range(begin, last):
            j = right[row]
            out[row] = 0.0
            own = kind_of[j]
            for kind in range(3):
                out[row, 12 + kind] = of_left[kind] - (own == kind)
            for by in range(2):
                linked = own == by or own == 2
                first, end = offsets[by, j], offsets[by, j + 1]
                n_touched = 0
                for place in range(first, end):
                    at = head[by, others[place]] if others[place] != i else -1
                    while at >= 0:
                        k = owner[at]
                        if k != j:
                            if count[k] == 0:
                                touched[n_touched] = k
                                n_touched += 1
                            count[k] += 1
                        at = onward[at]
                for place in range(n_touched):
                    k = touched[place]
                    size = (offsets[by, k + 1] - offsets[by, k]) * (end - first - linked)
                    out[row, 6 * by + kind_of[k]] += count[k] * count[k] / size
                    count[k] = 0
                size_i = offsets[by, i + 1] - offsets[by, i] - linked
                a, b = offsets[0, j], offsets[1, j]
                end_a, end_b = offsets[0, j + 1], offsets[1, j + 1]
                while a < end_a or b < end_b:
                    if b >= end_b or (a < end_a and others[a] < others[b]):
                        k, kind = others[a], 0
                    elif a >= end_a or others[b] < others[a]:
                        k, kind = others[b], 1
                    else:
                        k, kind = others[a], 2
                    a += kind != 1
                    b += kind != 0
                    if k == i:
                        continue
                    if by == 0:
                        out[row, 27 + kind] += 1
                    common = shared[by, k] - (linked and (kind == by or kind == 2))
                    if common > 0:
                        out[row, 15 + 6 * by + kind] += (
                            common * common / ((offsets[by, k + 1] - offsets[by, k]) * size_i)
                        )
            for side in range(0, 30, 15):
                for by in range(2):
                    at = side + 6 * by
                    total = out[row, at] + out[row, at + 1] + out[row, at + 2]
                    for kind in range(3):
                        out[row, at + 3 + kind] = out[row, at + kind] / total if total > 0 else 0.0
        for graph in range(2):
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                k = others[place]
                kind_of[k] = -1
                for by in range(2):
                    for near in range(offsets[by, k], offsets[by, k + 1]):
                        head[by, others[near]] = -1
                        shared[by, others[near]] = 0
        begin = last
