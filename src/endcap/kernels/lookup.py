"""Looking up entries of sparse rows: a few of them at a time, as one answer needs, at next to no cost a call."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array


def entries_of(
    offsets: NDArray[np.integer],
    indices: NDArray[np.integer],
    data: NDArray[np.float32],
    rows: NDArray[np.integer],
    columns: NDArray[np.integer],
) -> NDArray[np.float32]:
    """(m, n) the entries of rows (m,) at columns (n,), 0 where there are none.

    Args:
        offsets, indices, data: a matrix by rows, the columns of each ascending.
    """
    found = np.zeros((len(rows), len(columns)), np.float32)
    _look_up(offsets, indices, data, rows, columns, found)
    return found


def likeliest_way(
    graph: csr_array, size: NDArray[np.integer], begin: NDArray[np.integer], end: int
) -> tuple[int, int, float]:
    """Of the walks of two steps to `end`, the likeliest: where from, by way of, its chance; -1, -1 and 0 where none is.

    Args:
        graph: weights of links, symmetric, the columns of each row ascending; size: (n,) what the weight of a link is
            divided by for the chance of a step along it, 1 at least; begin: (m,) no walk goes by way of these.
    """
    return _likeliest_way(graph.indptr, graph.indices, graph.data, size, begin, end)


@numba.njit(nogil=True, cache=True)
def _look_up(offsets, indices, data, rows, columns, found):  # type: ignore[no-untyped-def]
    for place in range(len(rows)):
        first, end = offsets[rows[place]], offsets[rows[place] + 1]
        for column in range(len(columns)):
            low, high = first, end
            while low < high:
                middle = (low + high) // 2
                if indices[middle] < columns[column]:
                    low = middle + 1
                else:
                    high = middle
            if low < end and indices[low] == columns[column]:
                found[place, column] = data[low]


@numba.njit(nogil=True, cache=True)
def _likeliest_way(offsets, indices, data, size, begin, end):  # type: ignore[no-untyped-def]
    best, start, between = 0.0, -1, -1
    for first in begin:
        a, b = offsets[first], offsets[end]
        while a < offsets[first + 1] and b < offsets[end + 1]:
            if indices[a] < indices[b]:
                a += 1
            elif indices[b] < indices[a]:
                b += 1
            else:
                middle = indices[a]
                there, onward = np.float64(data[a]), np.float64(data[b])
                chance = there / max(size[first], 1) * (onward / max(size[middle], 1))
                if chance > best and not _is_among(middle, begin):
                    best, start, between = chance, first, middle
                a, b = a + 1, b + 1
    return start, between, best


@numba.njit(nogil=True, inline="always")
def _is_among(item, items):  # type: ignore[no-untyped-def]
    among = False
    for other in items:
        among |= other == item
    return among
