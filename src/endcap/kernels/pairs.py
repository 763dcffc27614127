"""Counting which tokens follow which in sessions, row by row: no list of pairs is ever kept."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True)
def _first_places(tokens, offsets, n_tokens):  # type: ignore[no-untyped-def]
    """CSR by token of (session, first place of the token in it)."""
    seen_in = np.full(n_tokens, -1, np.int64)
    starts = np.zeros(n_tokens + 1, np.int64)
    for session in range(len(offsets) - 1):
        for place in range(offsets[session], offsets[session + 1]):
            if seen_in[tokens[place]] != session:
                seen_in[tokens[place]] = session
                starts[tokens[place] + 1] += 1
    starts = np.cumsum(starts)
    sessions = np.empty(starts[-1], np.int32)
    places = np.empty(starts[-1], np.int64)
    filled = starts[:-1].copy()
    seen_in[:] = -1
    for session in range(len(offsets) - 1):
        for place in range(offsets[session], offsets[session + 1]):
            token = tokens[place]
            if seen_in[token] != session:
                seen_in[token] = session
                sessions[filled[token]] = session
                places[filled[token]] = place
                filled[token] += 1
    return starts, sessions, places


@numba.njit(parallel=True, nogil=True, cache=True)
def _top_following(  # type: ignore[no-untyped-def]
    tokens, offsets, starts, sessions, places, group, item, k, min_count, same_item, reach, chunks, first, top, counts
):
    """Fill `top` and `counts`, whose row r belongs to token first + r."""
    n_tokens = len(starts) - 1
    for chunk in numba.prange(chunks):
        count = np.zeros(n_tokens, np.int32)
        seen_at = np.full(n_tokens, -1, np.int64)
        touched = np.empty(n_tokens, np.int32)
        filled = np.zeros(top.shape[1] // k, np.int64)
        for row_of_top in range(chunk, len(top), chunks):
            token = first + row_of_top
            n_touched = 0
            filled[:] = 0
            for row in range(starts[token], starts[token + 1]):
                end = offsets[sessions[row] + 1]
                for place in range(places[row] + 1, min(end, places[row] + 1 + reach)):
                    after = tokens[place]
                    if seen_at[after] == row:
                        continue
                    seen_at[after] = row
                    if after == token or (not same_item and item[after] == item[token]):
                        continue
                    if count[after] == 0:
                        touched[n_touched] = after
                        n_touched += 1
                    count[after] += 1
            for index in range(n_touched):
                after = touched[index]
                n = count[after]
                count[after] = 0
                if n < min_count:
                    continue
                # insertion into the k best of its group: higher count first, then lower token
                base = group[after] * k
                slot = filled[group[after]]
                while slot > 0:
                    held, times = top[row_of_top, base + slot - 1], counts[row_of_top, base + slot - 1]
                    if times > n or (times == n and held < after):
                        break
                    slot -= 1
                if slot < k:
                    last = min(filled[group[after]], k - 1)
                    filled[group[after]] = last + 1
                    for move in range(last, slot, -1):
                        top[row_of_top, base + move] = top[row_of_top, base + move - 1]
                        counts[row_of_top, base + move] = counts[row_of_top, base + move - 1]
                    top[row_of_top, base + slot] = after
                    counts[row_of_top, base + slot] = n


def top_following(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    group: NDArray[np.int32],
    item: NDArray[np.int32],
    *,
    k: int,
    min_count: int = 1,
    same_item: bool = False,
    reach: int = 1000,
    threads: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """For each token the k tokens of each group that most often follow it, counted once a session.

    Args:
        tokens: (m,) sessions in a row; offsets: (sessions + 1,).
        group, item: (n_tokens,) the group (0 .. G-1) and the item of each token.
        min_count: rarer pairs are left out; same_item: whether a token of the same item counts.
        reach: how many tokens after the first occurrence are looked at; bounds the work on machine-made sessions.

    Returns:
        top (n_tokens, G * k) int32, groups side by side, best first (higher count, then lower token), -1 pads;
        counts of the same shape, 0 pads. Independent of `threads`.
    """
    blocks = list(
        top_following_by_block(
            tokens,
            offsets,
            group,
            item,
            k=k,
            min_count=min_count,
            same_item=same_item,
            reach=reach,
            threads=threads,
            block=max(1, len(group)),
        )
    )
    return blocks[0] if blocks else (np.full((0, 0), -1, np.int32), np.zeros((0, 0), np.int32))


def top_following_by_block(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    group: NDArray[np.int32],
    item: NDArray[np.int32],
    *,
    k: int,
    min_count: int = 1,
    same_item: bool = False,
    reach: int = 1000,
    threads: int = 1,
    block: int,
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """`top_following` for `block` tokens at a time, in order: a long k in bounded memory."""
    n_tokens = len(group)
    n_groups = int(group.max()) + 1 if n_tokens else 0
    places = _first_places(tokens, offsets, n_tokens)
    for first in range(0, n_tokens, block):
        top = np.full((min(block, n_tokens - first), n_groups * k), -1, np.int32)
        counts = np.zeros(top.shape, np.int32)
        numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
        _top_following(
            tokens, offsets, *places, group, item, k, min_count, same_item, reach, max(1, threads), first, top, counts
        )
        yield top, counts
