"""Skip-gram with negative sampling: one pass over the sessions, lock-free over threads (Hogwild).

What made it fast: the dimension is a compile-time constant, so that the dot products unroll; the centre's input row
stays in cache while its window is walked; the sigmoid is a table; negatives are drawn once an epoch into a pool that
every chunk walks from a random place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numba
import numpy as np
from numpy.typing import NDArray

SIGMOID_RANGE = 6.0
SIGMOID_CELLS = 1024
_MIDDLES = (np.arange(SIGMOID_CELLS) + 0.5) / SIGMOID_CELLS * 2 * SIGMOID_RANGE - SIGMOID_RANGE
SIGMOID = (1 / (1 + np.exp(-_MIDDLES))).astype(np.float32)
MULTIPLIER = 2685821657736338717  # xorshift64*


@numba.njit(inline="always")
def _sigmoid(x):  # type: ignore[no-untyped-def]
    if x >= SIGMOID_RANGE:
        return np.float32(1)
    if x <= -SIGMOID_RANGE:
        return np.float32(0)
    # the factor stays a hair below cells / range, so that an x just under the end cannot round up past the table
    return SIGMOID[int((x + np.float32(SIGMOID_RANGE)) * np.float32((SIGMOID_CELLS - 0.01) / (2 * SIGMOID_RANGE)))]


@numba.njit(inline="always")
def _next_random(state):  # type: ignore[no-untyped-def]
    state ^= state << np.uint64(13)
    state ^= state >> np.uint64(7)
    state ^= state << np.uint64(17)
    return state


@lru_cache(maxsize=8)
def skipgram_pass(dim: int) -> Callable[..., None]:
    """The compiled pass for one dimension.

    Its arguments:
        inputs, outputs: (n, dim) float32, changed in place.
        tokens: (m,) int32, all sessions in a row; offsets: (sessions + 1,) int64.
        extra_offsets (n + 1,) int64, extra_targets int32, extra_weights float32: CSR of further positive targets of
            each token, visited at every occurrence of it; the weights scale their steps.
        negatives: (pool,) int32; n_negatives: drawn for each positive.
        keep: (n,) float32, probability that an occurrence is used (1 = no subsampling).
        window: largest distance; random_window: draw it uniformly from 1..window at every centre.
        rate_from, rate_to: learning rate at the first and after the last session of the pass.
        seed: of window, negatives and subsampling; chunks: pieces of work, one a thread (1: bit-equal results).
    """

    @numba.njit(parallel=True, fastmath=True, nogil=True, cache=True)
    def run(  # type: ignore[no-untyped-def]
        inputs,
        outputs,
        tokens,
        offsets,
        extra_offsets,
        extra_targets,
        extra_weights,
        negatives,
        n_negatives,
        keep,
        window,
        random_window,
        rate_from,
        rate_to,
        seed,
        chunks,
    ):
        n_sessions = offsets.shape[0] - 1
        pool = negatives.shape[0]
        for chunk in numba.prange(chunks):
            first = n_sessions * chunk // chunks
            last = n_sessions * (chunk + 1) // chunks
            random = _next_random(np.uint64(seed + 7919 * (chunk + 1)) * np.uint64(MULTIPLIER))
            place = np.int64(random % np.uint64(pool))
            gradient = np.empty(dim, np.float32)
            used = np.empty(64, np.int32)
            for session in range(first, last):
                rate = np.float32(rate_from + (rate_to - rate_from) * ((session - first) / (last - first)))
                begin, end = offsets[session], offsets[session + 1]
                if end - begin > used.shape[0]:
                    used = np.empty(2 * (end - begin), np.int32)
                n_used = 0
                for position in range(begin, end):
                    token = tokens[position]
                    if keep[token] < np.float32(1):
                        random = _next_random(random)
                        if np.float64(random >> np.uint64(11)) * (1.0 / 9007199254740992.0) >= keep[token]:
                            continue
                    used[n_used] = token
                    n_used += 1
                for position in range(n_used):
                    centre = used[position]
                    reach = np.int64(window)
                    if random_window:
                        random = _next_random(random)
                        reach = 1 + np.int64(random % np.uint64(window))
                    left = max(0, position - reach)
                    n_window = min(n_used, position + reach + 1) - left
                    extra_begin = extra_offsets[centre]
                    n_targets = n_window + extra_offsets[centre + 1] - extra_begin
                    x = inputs[centre]
                    for which in range(n_targets):
                        step = rate
                        if which < n_window:
                            if left + which == position:
                                continue
                            positive = used[left + which]
                        else:
                            positive = extra_targets[extra_begin + which - n_window]
                            step = rate * extra_weights[extra_begin + which - n_window]
                        for d in range(dim):
                            gradient[d] = 0
                        for draw in range(n_negatives + 1):
                            if draw == 0:
                                target = positive
                                label = np.float32(1)
                            else:
                                target = negatives[place]
                                place += 1
                                if place == pool:
                                    place = 0
                                if target == positive:
                                    continue
                                label = np.float32(0)
                            y = outputs[target]
                            score = np.float32(0)
                            for d in range(dim):
                                score += x[d] * y[d]
                            error = (label - _sigmoid(score)) * step
                            for d in range(dim):
                                gradient[d] += error * y[d]
                                y[d] += error * x[d]
                        for d in range(dim):
                            x[d] += gradient[d]

    return run


def negative_pool(weights: NDArray[np.integer], exponent: float, size: int, rng: np.random.Generator) -> NDArray:
    """`size` int32 tokens drawn with probability proportional to weights ** exponent; 0 is uniform (the paper's)."""
    if exponent == 0:
        return rng.integers(0, len(weights), size, dtype=np.int32)
    cumulated = np.cumsum(weights.astype(np.float64) ** exponent)
    return np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right").astype(np.int32)
