"""Entries of sparse rows, and the likeliest walk of two steps, against dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from endcap.kernels.lookup import entries_of, likeliest_way

N = 30


def graph(seed: int, density: float = 0.2) -> csr_array:
    """Symmetric, with no loops."""
    half = random_array((N, N), density=density, rng=np.random.default_rng(seed), dtype=np.float32).toarray()
    half = np.triu(half, 1)
    found = csr_array(half + half.T)
    found.sort_indices()
    return found


def test_entries_are_those_of_the_dense_matrix() -> None:
    of = graph(0)
    rows, columns = np.array([3, 0, 29, 3]), np.random.default_rng(1).permutation(N).astype(np.int32)
    found = entries_of(of.indptr, of.indices, of.data, rows, columns)
    np.testing.assert_array_equal(found, of.toarray()[np.ix_(rows, columns)])
    assert entries_of(of.indptr, of.indices, of.data, rows[:0], columns).shape == (0, N)
    assert entries_of(of.indptr, of.indices, of.data, rows, columns[:0]).shape == (4, 0)


@pytest.mark.parametrize("begin", [[4], [9, 2, 17]])
def test_the_likeliest_way_is_the_largest_product(begin: list[int]) -> None:
    """No way goes by way of what it might begin with; a size of 0 divides by 1."""
    of, size = graph(2), np.random.default_rng(3).integers(0, 9, N)
    dense, asked = of.toarray().astype(np.float64), np.array(begin, np.int32)
    share = dense / np.maximum(size, 1)[:, None]
    for end in range(N):
        chance = share[begin] * share[:, end]
        chance[:, begin] = 0
        one, middle = np.unravel_index(chance.argmax(), chance.shape)
        found = likeliest_way(of, size, asked, end)
        if chance.any():
            assert found[:2] == (begin[one], middle)
            assert found[2] == pytest.approx(chance[one, middle])
        else:
            assert found == (-1, -1, 0)


def test_where_no_way_leads_there_is_none() -> None:
    assert likeliest_way(csr_array((N, N), dtype=np.float32), np.ones(N), np.array([1]), 2) == (-1, -1, 0)
