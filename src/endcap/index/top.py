"""The k best of many scores: exact whatever the order of summation in BLAS, ties by the lower item number."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from endcap.answers import Items, Scores
from endcap.errors import InputError

LONGEST = 1_000_000  # list
SCORES_AT_ONCE = 1 << 24  # 64 MB of float32
ROUNDING = float(np.finfo(np.float32).eps)


def padded(n_queries: int, k: int) -> tuple[Items, Scores]:
    """An answer that holds nothing: (q, k) of -1 and of -inf."""
    return np.full((n_queries, k), -1, np.int32), np.full((n_queries, k), -np.inf, np.float32)


def check_question(queries: NDArray[np.float32], k: int, dim: int, allowed: NDArray[np.bool_] | None) -> None:
    """Refuse a question that compiled loops or faiss would stumble over.

    Raises:
        InputError: saying what does not fit.
    """
    if queries.ndim != 2 or queries.shape[1] != dim or not np.isfinite(queries).all():
        raise InputError(f"queries: finite numbers (q, {dim}) are needed, not shape {queries.shape}")
    if not isinstance(k, int | np.integer) or not 0 <= k <= LONGEST:
        raise InputError(f"k: a whole number from 0 to {LONGEST:,} is needed, not {k!r}")
    if allowed is not None and (allowed.ndim != 1 or allowed.dtype != np.bool_):
        raise InputError("allowed: (n_items,) bool is needed")


def exact_top(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    items: Items,
    k: int,
    longest: float,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[Items, Scores]:
    """The k items with the highest inner products, by blocks of queries.

    A matrix product in float32 finds who may be among the best; these are scored again in float64. So the answer does
    not depend on how many queries are asked at once, and equal vectors have equal scores.

    Args:
        queries: (q, d); vectors: (n, d); items: (n,); longest: the largest norm in `vectors`;
        allowed: (n,) bool by row of `vectors`, None for all.
    """
    found_items, found_scores = padded(len(queries), k)
    n, dim = vectors.shape
    if n == 0 or k == 0:
        return found_items, found_scores
    filtered = allowed is not None
    mask = allowed if allowed is not None else np.empty(0, np.bool_)
    # |computed - true| <= (d + 2) eps |q| |v|, for the k-th best and for who is compared with it
    slack = 2 * (dim + 2) * ROUNDING * longest * np.linalg.norm(queries.astype(np.float64), axis=1)
    block = max(1, SCORES_AT_ONCE // n)
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        approximate = queries[rows] @ vectors.T
        _rescored_top(
            approximate,
            queries[rows],
            vectors,
            items,
            mask,
            filtered,
            slack[rows].astype(np.float32),
            min(k, n),
            found_items[rows],
            found_scores[rows],
        )
    return found_items, found_scores


@njit(cache=True, nogil=True)
def _rescored_top(approximate, queries, vectors, items, allowed, filtered, slack, k, found_items, found_scores):  # type: ignore[no-untyped-def]
    """Fill found_* (q, k or more) with the k best of each row of `approximate` (q, n), scored again exactly."""
    n, dim = vectors.shape
    best = np.empty(k, np.float32)
    kept_items = np.empty(k, np.int32)
    kept_scores = np.empty(k, np.float32)
    for query in range(len(queries)):
        filled = 0
        for row in range(n):
            if filtered and not allowed[row]:
                continue
            score = approximate[query, row]
            if filled < k:
                best[filled] = score
                filled += 1
                if filled == k:
                    _heapify(best)
            elif score > best[0]:
                _replace_least(best, score)
        if filled == 0:
            continue
        least = -np.inf if filled < k else best[0] - slack[query]

        size = 0
        for row in range(n):
            if approximate[query, row] < least or (filtered and not allowed[row]):
                continue
            total = 0.0
            for column in range(dim):
                total += np.float64(queries[query, column]) * np.float64(vectors[row, column])
            score, item = np.float32(total), items[row]
            if size < k:
                _push(kept_scores, kept_items, size, score, item)
                size += 1
            elif _better(score, item, kept_scores[0], kept_items[0]):
                _sink(kept_scores, kept_items, size, score, item)
        for place in range(size - 1, -1, -1):
            found_scores[query, place], found_items[query, place] = kept_scores[0], kept_items[0]
            _sink(kept_scores, kept_items, place, kept_scores[place], kept_items[place])


@njit(cache=True, nogil=True)
def _better(score, item, other_score, other_item):  # type: ignore[no-untyped-def]
    return score > other_score or (score == other_score and item < other_item)


@njit(cache=True, nogil=True)
def _push(scores, items, size, score, item):  # type: ignore[no-untyped-def]
    """Add to a heap whose root is the worst."""
    place = size
    while place > 0:
        parent = (place - 1) // 2
        if not _better(scores[parent], items[parent], score, item):
            break
        scores[place], items[place] = scores[parent], items[parent]
        place = parent
    scores[place], items[place] = score, item


@njit(cache=True, nogil=True)
def _sink(scores, items, size, score, item):  # type: ignore[no-untyped-def]
    """Put a pair in the root's stead in a heap of `size` whose root is the worst."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _better(scores[child], items[child], scores[child + 1], items[child + 1]):
            child += 1
        if not _better(score, item, scores[child], items[child]):
            break
        scores[place], items[place] = scores[child], items[child]
        place = child
    scores[place], items[place] = score, item


@njit(cache=True, nogil=True)
def _heapify(heap):  # type: ignore[no-untyped-def]
    """A sorted array is a heap whose root is the least."""
    heap.sort()


@njit(cache=True, nogil=True)
def _replace_least(heap, score):  # type: ignore[no-untyped-def]
    place, size = 0, len(heap)
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if score <= heap[child]:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = score
