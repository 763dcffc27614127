"""What the neighbours of two items in two graphs say of them: what goes together, and what stands for each other.

    common     |N(i) & N(j)|                         adamic-adar  sum over common k of 1 / log(1 + degree of k)
    allocation sum over common k of 1 / degree of k  jaccard      common / |N(i) | N(j)|
    three steps  sum over a in N(i), b in N(j), a - b linked, of 1 / sqrt(degree of a * degree of b)
    through a rival  the allocation of k that one has in the first graph and the other in the second, both ways

(Liben-Nowell and Kleinberg 2007; Zhou et al. 2009; Kovacs et al. 2019 for paths of three steps.) The edge between the
two items themselves plays no part in any of them: it is taken off the degrees, and no path goes along it.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError

GRAPHS = ("goes with", "stands for")
OF_GRAPH = ("common", "adamic-adar", "allocation", "jaccard", "three steps", "lower degree", "higher degree")
LINK_NAMES = (*(f"{graph}: {column}" for graph in GRAPHS for column in OF_GRAPH), "through a rival")

Floats = NDArray[np.float32]


class Links(NamedTuple):
    """Two undirected graphs over the items: what goes with what, and what stands for what.

    Attributes:
        offsets: (2, n_items + 1) int64; others: int32; item i is linked in graph g to
        others[offsets[g, i]:offsets[g, i + 1]], ascending.
    """

    offsets: NDArray[np.int64]
    others: NDArray[np.int32]

    @property
    def n_items(self) -> int:
        return self.offsets.shape[1] - 1

    @classmethod
    def of(cls, goes_with: csr_array, stands_for: csr_array) -> Self:
        """The links of two graphs (n, n), read both ways; weights do not count.

        Raises:
            InputError: if the graphs are not over the same items.
        """
        if goes_with.shape != stands_for.shape or goes_with.shape[0] != goes_with.shape[1]:
            raise InputError(f"links: two graphs over one shop's items are needed, not {goes_with.shape} and "
                             f"{stands_for.shape}")  # fmt: skip
        rows, columns = [], []
        n = goes_with.shape[0]
        for graph in (goes_with, stands_for):
            one, other = graph.tocoo().coords
            flat = np.unique(np.concatenate([one.astype(np.int64) * n + other, other.astype(np.int64) * n + one]))
            row, column = np.divmod(flat, max(n, 1))
            rows.append(row[row != column])
            columns.append(column[row != column])
        first = [0, len(rows[0])]
        offsets = np.stack([begin + np.searchsorted(row, np.arange(n + 1)) for begin, row in zip(first, rows,
                                                                                             strict=True)])  # fmt: skip
        return cls(offsets.astype(np.int64), np.concatenate(columns).astype(np.int32))

    def columns(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> Floats:
        """(pairs, len(LINK_NAMES)) float32 of pairs of known items; the same for (i, j) and (j, i)."""
        out = np.zeros((len(left), len(LINK_NAMES)), np.float32)
        order = np.lexsort((right, left))  # what is reached from an item is found once
        some = np.empty_like(out)
        _columns(np.asarray(self.offsets), np.asarray(self.others), left[order].astype(np.int64),
                 right[order].astype(np.int64), some)  # fmt: skip
        out[order] = some
        return out


@numba.njit(nogil=True, cache=True)
def _columns(offsets, others, left, right, out):  # type: ignore[no-untyped-def]
    n = offsets.shape[1] - 1
    reached = np.zeros(n)  # in two steps from the left item, those over a hub counting less
    for row in range(len(left)):
        i, j = left[row], right[row]
        out[row, 14] = 0
        for graph in range(2):
            at = graph * 7
            begin_i, end_i = offsets[graph, i], offsets[graph, i + 1]
            begin_j, end_j = offsets[graph, j], offsets[graph, j + 1]
            linked = False
            common, adamic, allocation = 0, 0.0, 0.0
            a, b = begin_i, begin_j
            while a < end_i and b < end_j:
                if others[a] < others[b]:
                    a += 1
                elif others[a] > others[b]:
                    b += 1
                else:
                    degree = offsets[graph, others[a] + 1] - offsets[graph, others[a]]
                    common += 1
                    adamic += 1.0 / np.log(1.0 + degree)
                    allocation += 1.0 / degree
                    a += 1
                    b += 1
            for place in range(begin_i, end_i):
                linked |= others[place] == j
            degree_i, degree_j = end_i - begin_i - linked, end_j - begin_j - linked
            out[row, at] = common
            out[row, at + 1] = adamic
            out[row, at + 2] = allocation
            out[row, at + 3] = common / max(1, degree_i + degree_j - common)
            out[row, at + 5] = min(degree_i, degree_j)
            out[row, at + 6] = max(degree_i, degree_j)
            # in the other graph: what i has here and j has there
            a, b = begin_i, offsets[1 - graph, j]
            while a < end_i and b < offsets[1 - graph, j + 1]:
                if others[a] < others[b]:
                    a += 1
                elif others[a] > others[b]:
                    b += 1
                else:
                    here = offsets[graph, others[a] + 1] - offsets[graph, others[a]]
                    there = offsets[1 - graph, others[a] + 1] - offsets[1 - graph, others[a]]
                    out[row, 14] += 1.0 / np.sqrt(here * there)
                    a += 1
                    b += 1
    for graph in range(2):
        at = graph * 7 + 4
        row = 0
        while row < len(left):
            i = left[row]
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                step = others[place]
                weight = 1.0 / np.sqrt(offsets[graph, step + 1] - offsets[graph, step])
                for near in range(offsets[graph, step], offsets[graph, step + 1]):
                    reached[others[near]] += weight
            last = row
            while last < len(left) and left[last] == i:
                j, total, linked = right[last], 0.0, False
                for place in range(offsets[graph, i], offsets[graph, i + 1]):
                    linked |= others[place] == j
                through_j = 1.0 / np.sqrt(max(1, offsets[graph, j + 1] - offsets[graph, j]))
                for place in range(offsets[graph, j], offsets[graph, j + 1]):
                    step = others[place]
                    if step != i:
                        weight = 1.0 / np.sqrt(offsets[graph, step + 1] - offsets[graph, step])
                        total += weight * (reached[step] - (through_j if linked else 0.0))
                out[last, at] = max(0.0, total)
                last += 1
            for place in range(offsets[graph, i], offsets[graph, i + 1]):
                step = others[place]
                for near in range(offsets[graph, step], offsets[graph, step + 1]):
                    reached[others[near]] = 0.0
            row = last
