"""Random walks and neighbour samples on a graph in CSR form.

Every walk and every node has random numbers of its own, which follow from the seed and its number: neither threads nor
what else is asked for change a result.
"""

from __future__ import annotations

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@numba.njit(nogil=True, cache=True, inline="always")
def _mix(z):  # type: ignore[no-untyped-def]
    """The output function of splitmix64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def _start(seed, number):  # type: ignore[no-untyped-def]
    """The state that the random numbers of one walk begin from."""
    return _mix(_mix(np.uint64(seed) + GOLDEN) + np.uint64(number) * GOLDEN)


@numba.njit(nogil=True, cache=True, inline="always")
def _below(z, n):  # type: ignore[no-untyped-def]
    """64 random bits as a number in 0 .. n - 1, n < 2^32."""
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@numba.njit(nogil=True, cache=True, inline="always")
def _unit(z):  # type: ignore[no-untyped-def]
    """64 random bits as a number in [0, 1)."""
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(nogil=True, cache=True)
def _step(indptr, indices, reached, node, z):  # type: ignore[no-untyped-def]
    """A neighbour of a node, -1 where it has none.

    `reached` holds the sum of the weights of a row up to each edge; empty: all edges are alike.
    """
    begin, end = indptr[node], indptr[node + 1]
    if begin == end:
        return -1
    if len(reached) == 0:
        return indices[begin + _below(z, end - begin)]
    aim = _unit(z) * reached[end - 1]
    low, high = begin, end - 1
    while low < high:
        middle = (low + high) >> 1
        if reached[middle] > aim:
            high = middle
        else:
            low = middle + 1
    return indices[low]


@numba.njit(nogil=True, cache=True)
def sums_of_rows(indptr, data):  # type: ignore[no-untyped-def]
    """(nnz,) the sum of each row up to each place."""
    sums = np.empty(len(data), np.float64)
    for row in range(len(indptr) - 1):
        total = 0.0
        for place in range(indptr[row], indptr[row + 1]):
            total += data[place]
            sums[place] = total
    return sums


@numba.njit(nogil=True, cache=True)
def walk(indptr, indices, reached, starts, restart, seed, paths):  # type: ignore[no-untyped-def]
    """Fill paths (n, length + 1) with walks from `starts` (n,); behind a dead end there is -1."""
    length = paths.shape[1] - 1
    for row in range(len(starts)):
        state = _start(seed, row)
        node = starts[row]
        paths[row, 0] = node
        for step in range(length):
            if restart > 0:
                state += GOLDEN
                if _unit(_mix(state)) < restart:
                    node = starts[row]
            state += GOLDEN
            if node >= 0:
                node = _step(indptr, indices, reached, node, _mix(state))
            paths[row, step + 1] = node


@numba.njit(nogil=True, cache=True)
def visit(  # type: ignore[no-untyped-def]
    indptr, indices, reached, walks, length, k, seed, first, last, visits, met, lengths, found, weights
):
    """Nodes that short walks from each of first .. last - 1 meet most often, with their share of the meetings.

    Args:
        visits: (n,) zeros, and again at the end; met: (walks * length,) scratch; lengths: (last - first,);
        found, weights: (last - first) * k, filled from the left.
    """
    filled = 0
    for node in range(first, last):
        state = _start(seed, node)
        n = 0
        for _ in range(walks):
            at = node
            for _ in range(length):
                state += GOLDEN
                at = _step(indptr, indices, reached, at, _mix(state))
                if at < 0:
                    break
                if at != node:
                    met[n] = at
                    n += visits[at] == 0
                    visits[at] += 1
        keys = np.empty(n, np.int64)
        for place in range(n):
            keys[place] = (np.int64(visits[met[place]]) << 32) | np.int64(0x7FFFFFFF - met[place])
        if n > k:
            keys = np.partition(keys, n - k)[n - k :]
        chosen = np.sort(0x7FFFFFFF - (keys & 0xFFFFFFFF))
        total = 0
        for place in range(len(chosen)):
            total += visits[chosen[place]]
        for place in range(len(chosen)):
            found[filled] = chosen[place]
            weights[filled] = visits[chosen[place]] / total
            filled += 1
        lengths[node - first] = len(chosen)
        for place in range(n):
            visits[met[place]] = 0
    return filled


@numba.njit(nogil=True, cache=True)
def sample(indptr, data, nodes, fanout, weighted, seed, places):  # type: ignore[no-untyped-def]
    """Fill places (n, fanout) with different edges of each node, ascending; all of them where it has no more, then -1.

    `weighted`: an edge is drawn in proportion to its weight, without putting it back (Efraimidis and Spirakis 2006).
    """
    for row in range(len(nodes)):
        node = nodes[row]
        begin, degree = indptr[node], indptr[node + 1] - indptr[node]
        places[row] = -1
        if degree <= fanout:
            for n in range(degree):
                places[row, n] = begin + n
            continue
        state = _start(seed, node)
        if weighted:
            keys = np.empty(degree, np.float64)
            for n in range(degree):
                state += GOLDEN
                keys[n] = -np.log(1.0 - _unit(_mix(state))) / max(data[begin + n], 1e-30)
            places[row] = begin + np.argsort(keys, kind="mergesort")[:fanout]
        else:
            for n in range(fanout):  # Floyd's: each of the last `fanout` in turn, or what was drawn below it
                last = degree - fanout + n
                state += GOLDEN
                drawn = begin + _below(_mix(state), last + 1)
                for earlier in range(n):
                    if places[row, earlier] == drawn:
                        drawn = begin + last
                        break
                places[row, n] = drawn
        places[row].sort()
