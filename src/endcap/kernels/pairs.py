"""Counting pairs of tokens in sessions, in bounded memory: for each token its most frequent partners.

Directed (`top_following`: b after a) or not (`top_together`: both in a session); a pair counts once a session. There is
never a list of all pairs: a thread counts one token at a time, walks the sessions that hold it, adds into a dense array
of counters, and keeps the k best of each group in a heap. Rows do not depend on each other, so the result is the same
whatever the threads and the memory.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.errors import EndcapError, InputError
from endcap.settings import byte_count

Top = tuple[NDArray[np.int32], NDArray[np.int32]]

LONGEST_REACH = 1000
ROWS_A_TURN = 256  # that a thread takes at a time: few enough that no thread waits long for the last one
BLOCK_BYTES = 1 << 26  # of a block of results; a larger one gains nothing
NARROW = (1 << 31) - 1  # the most events whose places fit into 32 bits


@dataclass(frozen=True)
class Plan:
    """How a count fits into its memory.

    Attributes:
        threads: at work; block: tokens counted before their lists are handed over.
        peak: bytes of all arrays at the worst moment, results included as far as they are held in memory, inputs not.
        spilled: whether the results go to files, block by block.
    """

    threads: int
    block: int
    peak: int
    spilled: bool = False


@dataclass(frozen=True)
class Sizes:
    """Bytes of the parts of a count over n_tokens tokens, each with `columns` places for its partners."""

    n_tokens: int
    index: int  # the sessions and, by token, the places in them
    scratch: int  # needed while the index is made
    worker: int  # of one thread
    row: int  # of the results of one token

    @classmethod
    def of(cls, n_events: int, n_sessions: int, n_tokens: int, columns: int) -> Sizes:
        """The sizes, as if no session repeated a token."""
        return cls(
            n_tokens=n_tokens,
            index=n_events * (4 + _place_type(n_events).itemsize) + 8 * (n_tokens + 1),
            scratch=16 * n_tokens + 8 * (n_sessions + 1),
            worker=16 * n_tokens + 12 * columns,
            row=8 * columns,
        )

    def peak(self, threads: int, block: int) -> int:
        return self.index + max(self.scratch, threads * self.worker + block * self.row)

    def plan(self, threads: int, memory: int | None, *, whole: bool, spill: bool) -> Plan:
        """As many threads, then as long blocks, as the memory holds.

        Args:
            whole: the results of all tokens are wanted at once; spill: they may go to files.

        Raises:
            InputError: if not even one thread fits, naming the least memory that would do.
        """
        everything, threads = max(1, self.n_tokens), max(1, threads)
        longest = max(1, min(everything, BLOCK_BYTES // max(1, self.row)))
        if whole and (memory is None or self.peak(1, everything) <= memory or not spill):
            longest, spill = everything, False
        least = self.peak(1, longest if whole and not spill else 1)
        if memory is None:
            return Plan(threads, longest, self.peak(threads, longest))
        if least > memory:
            hint = " (fewer with a folder to spill to)" if whole and not spill else ""
            raise InputError(f"counting pairs in {memory:,} bytes of memory: at least {least:,} are needed{hint}")
        shortest = longest if whole and not spill else 1
        while self.peak(threads, shortest) > memory:
            threads -= 1
        block = min(longest, (memory - self.index - threads * self.worker) // max(1, self.row))
        return Plan(threads, block, self.peak(threads, block), spilled=whole and spill)


def _place_type(n_events: int) -> np.dtype:
    return np.dtype(np.int32 if n_events <= NARROW else np.int64)


class _Worker(NamedTuple):
    """What one thread counts with."""

    times: NDArray[np.int32]  # (n_tokens,) of each partner, zero between rows
    partners: NDArray[np.int32]  # (n_tokens,) those found so far
    found_in: NDArray[np.int64]  # (n_tokens,) the row of the index that a partner was last found in
    heaps: NDArray[np.int64]  # (groups * k,) the best so far of each group, see `_key`
    held: NDArray[np.int32]  # (groups,) how many
    worst: NDArray[np.int64]  # (groups,) what a key must be above to enter

    @classmethod
    def new(cls, n_tokens: int, n_groups: int, k: int) -> _Worker:
        return cls(
            np.zeros(n_tokens, np.int32),
            np.empty(n_tokens, np.int32),
            np.full(n_tokens, -1, np.int64),
            np.empty(n_groups * k, np.int64),
            np.zeros(n_groups, np.int32),
            np.zeros(n_groups, np.int64),
        )


@numba.njit(nogil=True, cache=True)
def _distinct(tokens, offsets, n_tokens):  # type: ignore[no-untyped-def]
    """The sessions with each token once, at its first place: (tokens, offsets)."""
    seen_in = np.full(n_tokens, -1, np.int64)
    kept = np.empty(len(tokens), np.int32)
    new_offsets = np.zeros(len(offsets), np.int64)
    filled = 0
    for session in range(len(offsets) - 1):
        for place in range(offsets[session], offsets[session + 1]):
            token = tokens[place]
            if seen_in[token] != session:
                seen_in[token] = session
                kept[filled] = token
                filled += 1
        new_offsets[session + 1] = filled
    return kept[:filled], new_offsets


@numba.njit(nogil=True, cache=True)
def _index(tokens, offsets, n_tokens, places):  # type: ignore[no-untyped-def]
    """Fill `places`, by token, with its first place in each session; returns where each token's places start.

    Two marks spare the walk a look elsewhere: the last token of a session becomes ~token in `tokens`, and a place in
    a session that repeats a token becomes ~place.
    """
    seen_in = np.full(n_tokens, -1, np.int64)
    starts = np.zeros(n_tokens + 1, np.int64)
    for session in range(len(offsets) - 1):
        for place in range(offsets[session], offsets[session + 1]):
            token = tokens[place]
            if seen_in[token] != session:
                seen_in[token] = session
                starts[token + 1] += 1
    for token in range(n_tokens):
        starts[token + 1] += starts[token]
    filled = starts[:-1].copy()
    seen_in[:] = -1
    for session in range(len(offsets) - 1):
        begin, end = offsets[session], offsets[session + 1]
        repeats = False
        for place in range(begin, end):
            token = tokens[place]
            if seen_in[token] == session:
                repeats = True
            else:
                seen_in[token] = session
                places[filled[token]] = place
                filled[token] += 1
        if repeats:
            for place in range(begin, end):
                latest = filled[tokens[place]] - 1
                if places[latest] == place:
                    places[latest] = ~place
        if end > begin:
            tokens[end - 1] = ~tokens[end - 1]
    return starts


@numba.njit(nogil=True, cache=True)
def _sift_down(heap, base, size, key):  # type: ignore[no-untyped-def]
    """Put `key` in the place of the least of the heap heap[base:base + size]."""
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and heap[base + child + 1] < heap[base + child]:
            child += 1
        if heap[base + child] >= key:
            break
        heap[base + hole] = heap[base + child]
        hole = child
    heap[base + hole] = key


@numba.njit(nogil=True, cache=True)
def _sift_up(heap, base, size, key):  # type: ignore[no-untyped-def]
    """Add `key` to the heap heap[base:base + size]."""
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 1
        if heap[base + parent] <= key:
            break
        heap[base + hole] = heap[base + parent]
        hole = parent
    heap[base + hole] = key


@numba.njit(nogil=True, cache=True)
def _key(times, token):  # type: ignore[no-untyped-def]
    """Greater is better: counted more often, then the lower token."""
    return (np.int64(times) << 32) | np.int64(0x7FFFFFFF - token)


@numba.njit(nogil=True, cache=True)
def _count_rows(  # type: ignore[no-untyped-def]
    tokens, starts, places, group, item, k, min_count, same_item, itself, both_ways, reach,
    times, partners, found_in, heaps, held, worst, first, begin, stop, top, counts,
):  # fmt: skip
    """Lists of the tokens begin .. stop - 1, into the rows from begin - first of `top` and `counts`."""
    grouped = len(held) > 1
    for token in range(begin, stop):
        n_partners = 0
        for row in range(starts[token], starts[token + 1]):
            place = places[row]
            repeats = place < 0
            if repeats:
                place = ~place
            if both_ways:
                before, furthest = place - 1, max(-1, place - 1 - reach)
                while before > furthest:
                    partner = tokens[before]
                    if partner < 0:  # the end of the session before
                        break
                    # whether it is new is a matter of chance, so no branch: the processor would guess wrongly
                    partners[n_partners] = partner
                    n_partners += times[partner] == 0
                    times[partner] += 1
                    before -= 1
            last = tokens[place] < 0
            furthest = place + reach
            while not last and place < furthest:
                place += 1
                partner = tokens[place]
                if partner < 0:
                    partner = ~partner
                    last = True
                if repeats:
                    if found_in[partner] == row:
                        continue
                    found_in[partner] = row
                partners[n_partners] = partner
                n_partners += times[partner] == 0
                times[partner] += 1
        for index in range(n_partners):
            partner = partners[index]
            n = times[partner]
            times[partner] = 0
            kind = group[partner] if grouped else 0
            key = _key(n, partner)
            # most partners fall here, so it comes first and without a call
            if key <= worst[kind] or n < min_count or partner == token:
                continue
            if not same_item and item[partner] == item[token]:
                continue
            _keep(heaps, held, worst, kind, k, key)
        if itself:
            n = starts[token + 1] - starts[token]
            if n >= min_count and _key(n, token) > worst[group[token]]:
                _keep(heaps, held, worst, group[token], k, _key(n, token))
        for kind in range(len(held)):
            base = kind * k
            for slot in range(held[kind] - 1, -1, -1):
                key = heaps[base]
                _sift_down(heaps, base, slot, heaps[base + slot])
                top[token - first, base + slot] = 0x7FFFFFFF - (key & 0xFFFFFFFF)
                counts[token - first, base + slot] = key >> 32
            held[kind] = 0
            worst[kind] = 0


@numba.njit(nogil=True, cache=True)
def _keep(heaps, held, worst, kind, k, key):  # type: ignore[no-untyped-def]
    """Add a key above worst[kind] to a heap of at most k; `worst` is the least of a full heap, else 0."""
    base = kind * k
    if held[kind] < k:
        _sift_up(heaps, base, held[kind], key)
        held[kind] += 1
    else:
        _sift_down(heaps, base, k, key)
    if held[kind] == k:
        worst[kind] = heaps[base]


def top_following(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    group: NDArray[np.int32],
    item: NDArray[np.int32],
    *,
    k: int,
    min_count: int = 1,
    same_item: bool = False,
    reach: int = LONGEST_REACH,
    threads: int = 1,
    memory: int | str | None = None,
    spill: Path | None = None,
) -> Top:
    """For each token the k tokens of each group that most often follow it, counted once a session.

    Args:
        tokens: (m,) sessions in a row; offsets: (sessions + 1,).
        group, item: (n_tokens,) the group (0 .. G-1) and the item of each token.
        min_count: rarer pairs are left out; same_item: whether a token of the same item counts.
        reach: how many tokens after the first occurrence are looked at; bounds the work on machine-made sessions.
        threads: the most; fewer are used where the memory holds no more.
        memory: bound of all arrays made here, the result among them, in bytes or as "512MB"; None: no bound.
        spill: a folder for the result where the memory cannot hold it; its files vanish with the arrays.

    Returns:
        top (n_tokens, G * k) int32, groups side by side, best first (higher count, then lower token), -1 pads;
        counts of the same shape, 0 pads. Independent of `threads` and `memory`.

    Raises:
        InputError: for arrays that do not fit together, or too little memory, naming the least that would do.
    """
    return _Count(
        tokens, offsets, group, item, k, min_count=min_count, same_item=same_item, reach=reach
    ).whole(threads, memory, spill)  # fmt: skip


def top_following_by_block(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    group: NDArray[np.int32],
    item: NDArray[np.int32],
    *,
    k: int,
    min_count: int = 1,
    same_item: bool = False,
    reach: int = LONGEST_REACH,
    threads: int = 1,
    memory: int | str | None = None,
) -> Iterator[Top]:
    """`top_following` for a stretch of tokens at a time, in order: a long k in bounded memory.

    A block is overwritten by the next one: take out of it what is to stay.
    """
    return _Count(
        tokens, offsets, group, item, k, min_count=min_count, same_item=same_item, reach=reach
    ).blocks(threads, memory)  # fmt: skip


def top_together(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    n_tokens: int,
    *,
    k: int,
    min_count: int = 1,
    itself: bool = False,
    reach: int = LONGEST_REACH,
    threads: int = 1,
    memory: int | str | None = None,
    spill: Path | None = None,
) -> Top:
    """For each token the k tokens that most often lie in one session with it, in whatever order.

    Args:
        itself: whether a token is a partner of itself, in every session that holds it.
        reach: a pair counts if the first places of both are at most so many different tokens apart.

    The others, the result (here (n_tokens, k)) and the errors are those of `top_following`.
    """
    return _together(tokens, offsets, n_tokens, k, min_count, itself, reach).whole(threads, memory, spill)


def top_together_by_block(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    n_tokens: int,
    *,
    k: int,
    min_count: int = 1,
    itself: bool = False,
    reach: int = LONGEST_REACH,
    threads: int = 1,
    memory: int | str | None = None,
) -> Iterator[Top]:
    """`top_together` for a stretch of tokens at a time, see `top_following_by_block`."""
    return _together(tokens, offsets, n_tokens, k, min_count, itself, reach).blocks(threads, memory)


def _together(
    tokens: NDArray, offsets: NDArray, n_tokens: int, k: int, min_count: int, itself: bool, reach: int
) -> _Count:
    alike = np.zeros(n_tokens, np.int32)
    return _Count(
        tokens,
        offsets,
        alike,
        alike,
        k,
        min_count=min_count,
        same_item=True,
        itself=itself,
        both_ways=True,
        reach=reach,
    )


class _Count:
    """One count: its corpus and rules, and the ways to carry it out."""

    def __init__(
        self,
        tokens: NDArray[np.int32],
        offsets: NDArray[np.int64],
        group: NDArray[np.int32],
        item: NDArray[np.int32],
        k: int,
        *,
        min_count: int,
        same_item: bool = False,
        itself: bool = False,
        both_ways: bool = False,
        reach: int,
    ) -> None:
        self.tokens, self.offsets = np.asarray(tokens, np.int32), np.asarray(offsets, np.int64)
        self.group, self.item = np.asarray(group, np.int32), np.asarray(item, np.int32)
        self.n_tokens = len(self.group)
        _check(self.tokens, self.offsets, self.group, self.item, k=k, min_count=min_count, reach=reach)
        self.k, self.both_ways = k, both_ways
        self.n_groups = int(self.group.max()) + 1 if self.n_tokens else 0
        self.rules = (k, min_count, same_item, itself, both_ways, min(reach, len(self.tokens)))
        self.sizes = Sizes.of(len(self.tokens), len(self.offsets) - 1, self.n_tokens, self.n_groups * k)

    def whole(self, threads: int, memory: int | str | None, spill: Path | None) -> Top:
        plan = self.sizes.plan(threads, _bytes(memory), whole=True, spill=spill is not None)
        if spill is not None and plan.spilled:
            return self._spilled(plan, spill)
        return next(self._run(plan), (np.full((0, 0), -1, np.int32), np.zeros((0, 0), np.int32)))

    def blocks(self, threads: int, memory: int | str | None) -> Iterator[Top]:
        return self._run(self.sizes.plan(threads, _bytes(memory), whole=False, spill=False))

    def _spilled(self, plan: Plan, folder: Path) -> Top:
        """The result in two files without a name, mapped: the system frees them with the arrays."""
        shape = (self.n_tokens, self.n_groups * self.k)
        try:
            with tempfile.TemporaryFile(dir=folder) as tops, tempfile.TemporaryFile(dir=folder) as counts:
                for block in self._run(plan):
                    for file, part in zip((tops, counts), block, strict=True):
                        file.write(part.data)
                tops.flush()
                counts.flush()
                return np.memmap(tops, np.int32, "r", shape=shape), np.memmap(counts, np.int32, "r", shape=shape)
        except OSError as error:
            raise EndcapError(f"spilling pair counts to {folder}: {error.strerror or error}") from None

    def _run(self, plan: Plan) -> Iterator[Top]:
        if self.both_ways:
            tokens, offsets = _distinct(self.tokens, self.offsets, self.n_tokens)
        else:
            tokens, offsets = self.tokens.copy(), self.offsets
        places = np.empty(len(tokens), _place_type(len(tokens)))
        corpus = tokens, _index(tokens, offsets, self.n_tokens, places), places, self.group, self.item, *self.rules
        del offsets
        workers = [_Worker.new(self.n_tokens, self.n_groups, self.k) for _ in range(plan.threads)]
        top = np.empty((min(plan.block, self.n_tokens), self.n_groups * self.k), np.int32)
        counts = np.empty_like(top)
        for first in range(0, self.n_tokens, plan.block):
            n_rows = min(plan.block, self.n_tokens - first)
            block = top[:n_rows], counts[:n_rows]
            block[0].fill(-1)
            block[1].fill(0)
            _share_out(corpus, workers, first, block)
            yield block


def _share_out(corpus: tuple, workers: list[_Worker], first: int, block: Top) -> None:
    """Count the tokens from `first` on; each worker takes the next few rows when it is done with its last ones."""
    end = first + len(block[0])
    turns = deque(range(first, end, ROWS_A_TURN))

    def work(worker: _Worker) -> None:
        while True:
            try:
                begin = turns.popleft()
            except IndexError:
                return
            _count_rows(*corpus, *worker, first, begin, min(begin + ROWS_A_TURN, end), *block)

    if len(workers) == 1:
        return work(workers[0])
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            for done in [pool.submit(work, worker) for worker in workers]:
                done.result()
        finally:
            turns.clear()  # interrupted: the others stop after their turn


def _bytes(memory: int | str | None) -> int | None:
    return None if memory is None else byte_count(memory)


def _check(
    tokens: NDArray, offsets: NDArray, group: NDArray, item: NDArray, *, k: int, min_count: int, reach: int
) -> None:
    """Compiled loops check nothing: what would make them read beyond an array is refused here."""
    for name, value, least in (("k", k, 1), ("min_count", min_count, 1), ("reach", reach, 0)):
        if not isinstance(value, int | np.integer) or not least <= value <= np.iinfo(np.int32).max:
            raise InputError(f"{name}: a whole number from {least} on is needed, not {value!r}")
    if len(item) != len(group):
        raise InputError(f"group and item: one of each a token, not {len(group)} and {len(item)}")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(tokens) or (np.diff(offsets) < 0).any():
        raise InputError(f"offsets: must ascend from 0 to the number of events, {len(tokens)}")
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < len(group):
        raise InputError(f"tokens: must be in 0 .. {len(group) - 1}, not {tokens.min()} .. {tokens.max()}")
    if len(group) and group.min() < 0:
        raise InputError(f"group: {group.min()} is below 0")
