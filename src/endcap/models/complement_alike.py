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
        offsets, others: see `complement_links.Links`.
    """
    out = np.zeros((len(left), 2 * WIDTH), np.float32)
    one, other = left.astype(np.int64), right.astype(np.int64)
    graphs = np.asarray(offsets), np.asarray(others)
    _alike(*graphs, one, other, out[:, :WIDTH])
    _alike(*graphs, other, one, out[:, WIDTH:])
    return out


@numba.njit(nogil=True, cache=True)
def _alike(offsets, others, left, right, out):  # type: ignore[no-untyped-def]
    marked = np.zeros(offsets.shape[1] - 1, np.int8)  # bit g: it is a neighbour of the right item in graph g
    sums, size = np.zeros((2, 3)), np.zeros(2)
    for row in range(len(left)):
        i, j = left[row], right[row]
        sums[:] = 0.0
        for graph in range(2):
            size[graph] = 0
            for place in range(offsets[graph, j], offsets[graph, j + 1]):
                if others[place] != i:
                    marked[others[place]] |= 1 << graph
                    size[graph] += 1
        a, b = offsets[0, i], offsets[1, i]
        end_a, end_b = offsets[0, i + 1], offsets[1, i + 1]
        while a < end_a or b < end_b:
            if b >= end_b or (a < end_a and others[a] < others[b]):
                k, kind = others[a], 0
            elif a >= end_a or others[b] < others[a]:
                k, kind = others[b], 1
            else:
                k, kind = others[a], 2
            a += kind != 1
            b += kind != 0
            if k == j:
                continue
            out[row, 12 + kind] += 1
            for graph in range(2):
                begin, end = offsets[graph, k], offsets[graph, k + 1]
                common = 0
                for place in range(begin, end):
                    common += (marked[others[place]] >> graph) & 1
                if common:
                    sums[graph, kind] += common * common / ((end - begin) * size[graph])
        for graph in range(2):
            total = sums[graph, 0] + sums[graph, 1] + sums[graph, 2]
            for kind in range(3):
                out[row, 6 * graph + kind] = sums[graph, kind]
                out[row, 6 * graph + 3 + kind] = sums[graph, kind] / total if total > 0 else 0.0
            for place in range(offsets[graph, j], offsets[graph, j + 1]):
                marked[others[place]] = 0
