"""Skip-gram with negative sampling: one pass over the sessions, lock-free over threads (Hogwild).

What made it fast: the dimension is a compile-time constant, so that the dot products unroll; the centre's input row
stays in cache while its window is walked; the sigmoid is a table; negatives are drawn once an epoch into a pool, and
every chunk walks a stretch of it several times before the next, so that the rows of most negatives are in cache, too
(`rounds`; the draws stay what they were, only those of a few hundred centres repeat one another).

Positives of a centre may share a draw of negatives (Ji et al., 2016, "Parallelizing Word2Vec in Shared and Distributed
Memory"): n positives that share k negatives take n + k products instead of n (1 + k).
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
STRETCH = 512  # negatives: their output rows (400 kB for 200 dimensions) fit a core's second-level cache
ROUNDS = 16


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


@numba.njit(inline="always")
def _step(x, y, label, rate, gradient, dim):  # type: ignore[no-untyped-def]
    """One term of the loss: moves the output row y at once and adds to the gradient of the centre's row x.

    It stands out here because a compiled function inside the closure of another keeps that from being cached.
    """
    score = np.float32(0)
    for d in range(dim):
        score += x[d] * y[d]
    error = (label - _sigmoid(score)) * rate
    for d in range(dim):
        gradient[d] += error * y[d]
        y[d] += error * x[d]


@numba.njit(inline="always")
def _next_place(place, begin, rounds_left, rounds, pool):  # type: ignore[no-untyped-def]
    """Where in the pool the next negative stands: along the stretch from `begin`, `rounds` times, then the next one."""
    stretch = min(STRETCH, pool)
    place += 1
    if place == begin + stretch:
        rounds_left -= 1
        if rounds_left == 0:
            rounds_left = rounds
            begin = begin + stretch if begin + 2 * stretch <= pool else 0
        place = begin
    return place, begin, rounds_left


@lru_cache(maxsize=8)
def skipgram_pass(dim: int, share: int = 1) -> Callable[..., None]:
    """The compiled pass for one dimension; `share` positives of a centre at a time share one draw of negatives.

    1 is one pair at a time. With more, the gradients of these positives are those of one moment: a negative counts once
    for each positive that it is not, and the centre's own row moves at the end. That is another order of the same sum,
    in longer steps; benchmarks/skipgram.py shows what it costs.

    Its arguments:
        inputs, outputs: (n, dim) float32, changed in place.
        tokens: (m,) int32, all sessions in a row; offsets: (sessions + 1,) int64.
        extra_offsets (n + 1,) int64, extra_targets int32, extra_weights float32: CSR of further positive targets of
            each token, visited at every occurrence of it; the weights scale their steps.
        negatives: (pool,) int32; n_negatives: in a draw;
        rounds: how often each stretch of the pool is walked before the next.
        groups: (n,) int32, -1 for none; member_offsets (groups + 1,) int64, members int32: CSR of the tokens of each
            group. A centre in a group draws its negatives from that group alone, evenly; all -1: from the pool.
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
        rounds,
        groups,
        member_offsets,
        members,
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
        most_extras = 0
        for token in range(extra_offsets.shape[0] - 1):
            most_extras = max(most_extras, extra_offsets[token + 1] - extra_offsets[token])
        for chunk in numba.prange(chunks):
            first = n_sessions * chunk // chunks
            last = n_sessions * (chunk + 1) // chunks
            random = _next_random(np.uint64(seed + 7919 * (chunk + 1)) * np.uint64(MULTIPLIER))
            begin = np.int64(random % np.uint64(max(1, pool // STRETCH))) * STRETCH
            place, rounds_left = begin, np.int64(rounds)
            gradient = np.empty(dim, np.float32)
            used = np.empty(64, np.int32)
            positives = np.empty(2 * window + most_extras, np.int32)
            rates = np.empty(2 * window + most_extras, np.float32)
            for session in range(first, last):
                rate = np.float32(rate_from + (rate_to - rate_from) * ((session - first) / (last - first)))
                opening, end = offsets[session], offsets[session + 1]
                if end - opening > used.shape[0]:
                    used = np.empty(2 * (end - opening), np.int32)
                n_used = 0
                for position in range(opening, end):
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
                    n_positives = 0
                    for other in range(max(0, position - reach), min(n_used, position + reach + 1)):
                        if other != position:
                            positives[n_positives] = used[other]
                            rates[n_positives] = rate
                            n_positives += 1
                    for extra in range(extra_offsets[centre], extra_offsets[centre + 1]):
                        positives[n_positives] = extra_targets[extra]
                        rates[n_positives] = rate * extra_weights[extra]
                        n_positives += 1
                    group_begin, group_size = 0, 0
                    if groups[centre] >= 0:
                        group_begin = member_offsets[groups[centre]]
                        group_size = member_offsets[groups[centre] + 1] - group_begin
                    x = inputs[centre]
                    for start in range(0, n_positives, share):
                        stop = min(start + share, n_positives)
                        gradient[:] = 0
                        for which in range(start, stop):
                            _step(x, outputs[positives[which]], np.float32(1), rates[which], gradient, dim)
                        for _ in range(n_negatives):
                            negative = negatives[place]
                            place, begin, rounds_left = _next_place(place, begin, rounds_left, rounds, pool)
                            if group_size:
                                negative = members[group_begin + negative % group_size]
                            pushed = np.float32(0)
                            for which in range(start, stop):
                                if positives[which] != negative:
                                    pushed += rates[which]
                            if pushed > 0:
                                _step(x, outputs[negative], np.float32(0), pushed, gradient, dim)
                        for d in range(dim):
                            x[d] += gradient[d]

    return run


def negative_pool(weights: NDArray[np.integer], exponent: float, size: int, rng: np.random.Generator) -> NDArray:
    """`size` int32 tokens drawn with probability proportional to weights ** exponent; 0 is uniform (the paper's)."""
    if exponent == 0:
        return rng.integers(0, len(weights), size, dtype=np.int32)
    cumulated = np.cumsum(weights.astype(np.float64) ** exponent)
    return np.searchsorted(cumulated, rng.random(size) * cumulated[-1], side="right").astype(np.int32)
