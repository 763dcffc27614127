"""Titles as sparse vectors, and which ones are near."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.graph.edges import top_edges
from endcap.shop.text import hashed_n_grams

BUCKETS = 1 << 18
GRAMS = 64  # of a text
RARE, COMMON = 30, 0.01  # an n-gram in more texts than either, a number and a share, says little and costs most
TELLING = 12  # n-grams of a text that near ones are looked up by
PRODUCTS_AT_ONCE = 1 << 22  # of a block of a sparse product


class TextVectors:
    """Titles as unit vectors of hashed n-grams, weighted by idf, without those that are everywhere."""

    def __init__(self, texts: Sequence[str | None]) -> None:
        offsets, grams = hashed_n_grams(texts, BUCKETS, GRAMS)
        seen = np.bincount(grams, minlength=BUCKETS)
        idf = np.log((1 + len(texts)) / (1 + seen))
        self._idf = np.where(seen <= max(RARE, COMMON * len(texts)), np.maximum(idf, 0), 0).astype(np.float32)
        self.vectors = self._unit(offsets, grams)
        self._by_gram = self.vectors.T.tocsr()

    def read(self, texts: Sequence[str | None]) -> csr_array:
        """(m, BUCKETS) unit rows, empty ones for texts of nothing known."""
        return self._unit(*hashed_n_grams(texts, BUCKETS, GRAMS))

    def _unit(self, offsets: NDArray[np.int64], grams: NDArray[np.int64]) -> csr_array:
        rows = csr_array((self._idf[grams], grams.astype(np.int32), offsets), shape=(len(offsets) - 1, BUCKETS))
        rows.eliminate_zeros()
        rows.sort_indices()
        length = np.sqrt((rows * rows).sum(axis=1))
        rows.data /= np.repeat(np.maximum(length, 1e-12), np.diff(rows.indptr)).astype(np.float32)
        return rows

    def nearest(self, rows: csr_array, k: int) -> NDArray[np.int64]:
        """(m, k) known texts with large cosines by the most telling n-grams of each row, -1 where there are fewer."""
        rows = top_edges(rows, TELLING)
        found = np.full((rows.shape[0], k), -1, np.int64)
        work = np.diff(self._by_gram.indptr)[rows.indices]
        done = np.append(0, np.cumsum(work, dtype=np.int64))[rows.indptr]
        first = 0
        while first < rows.shape[0]:
            last = int(np.searchsorted(done, done[first] + PRODUCTS_AT_ONCE, side="right")) - 1
            last = min(max(last, first + 1), rows.shape[0])
            product = csr_array(rows[first:last] @ self._by_gram)
            product.sort_indices()
            best = top_edges(product, k)
            row = np.repeat(np.arange(last - first), np.diff(best.indptr))
            found[first + row, np.arange(best.nnz) - best.indptr[row]] = best.indices
            first = last
        return found

    def folded(self, rows: csr_array, dims: int) -> NDArray[np.float32]:
        """(m, dims) the same rows folded into few numbers, each n-gram with a sign of its own."""
        grams = np.arange(BUCKETS)
        sign = np.where((grams // dims) * 0x9E3779B1 & 0x40000, 1, -1).astype(np.float32)
        fold = csr_array((sign, (grams % dims).astype(np.int32), np.arange(BUCKETS + 1)), shape=(BUCKETS, dims))
        return (rows @ fold).toarray()

    def cosines(self, rows: csr_array, at: NDArray[np.integer], other: NDArray[np.integer]) -> NDArray[np.float32]:
        """(m,) of a row and a known text."""
        return np.asarray((rows[at] * self.vectors[other]).sum(axis=1)).ravel()
