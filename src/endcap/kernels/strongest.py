"""The strongest entries of each row of a sparse matrix."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


def strongest_of_rows(
    indptr: NDArray[np.integer], data: NDArray[np.floating], k: int, *, least: float = -np.inf
) -> NDArray[np.bool_]:
    """(nnz,) true for the k largest values of each row, ties by the earlier place; none below `least`, and no NaN.

    Args:
        indptr: (n + 1,) where rows begin, in order of column so that a tie goes to the lower one; data: (nnz,).
    """
    kept = np.zeros(len(data), np.bool_)
    _mark(indptr, data, k, least, kept)
    return kept


@numba.njit(nogil=True, cache=True)
def _mark(indptr, data, k, least, kept):  # type: ignore[no-untyped-def]
    for row in range(len(indptr) - 1):
        begin, end = indptr[row], indptr[row + 1]
        n = 0
        for place in range(begin, end):
            n += data[place] >= least
        if n <= k:
            for place in range(begin, end):
                kept[place] = data[place] >= least
            continue
        values = data[begin:end]
        usable = values[values >= least]
        bar = np.partition(usable, n - k)[n - k]
        left = k
        for place in range(begin, end):
            if data[place] > bar:
                kept[place] = True
                left -= 1
        for place in range(begin, end):
            if left and data[place] == bar:
                kept[place] = True
                left -= 1
