"""Triangles and communities of a graph without directions, in CSR form."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def triangles(indptr, indices, place):  # type: ignore[no-untyped-def]
    """(n,): of how many triangles each node is part.

    Args:
        indptr, indices: a symmetric graph without loops; place: (n,) order of the nodes by degree. Each triangle is
        found once, from its first node, so that a hub costs no more than its neighbours' degrees.
    """
    n = len(indptr) - 1
    found = np.zeros(n, np.int64)
    ahead = np.zeros(n + 1, np.int64)
    for node in range(n):
        count = 0
        for edge in range(indptr[node], indptr[node + 1]):
            count += place[indices[edge]] > place[node]
        ahead[node + 1] = ahead[node] + count
    onwards = np.empty(ahead[n], np.int32)
    for node in range(n):
        filled = ahead[node]
        for edge in range(indptr[node], indptr[node + 1]):
            if place[indices[edge]] > place[node]:
                onwards[filled] = indices[edge]
                filled += 1
    marked = np.full(n, -1, np.int32)
    for node in range(n):
        for edge in range(ahead[node], ahead[node + 1]):
            marked[onwards[edge]] = node
        for edge in range(ahead[node], ahead[node + 1]):
            second = onwards[edge]
            for further in range(ahead[second], ahead[second + 1]):
                third = onwards[further]
                if marked[third] == node:
                    found[node] += 1
                    found[second] += 1
                    found[third] += 1
    return found


@numba.njit(nogil=True, cache=True)
def move_nodes(indptr, indices, weights, degree, total, resolution, least, community):  # type: ignore[no-untyped-def]
    """Louvain's first phase: each node in turn joins the neighbours' community that gains most, until little is gained.

    Args:
        weights: of a symmetric graph, loops among them; degree: (n,) sums of rows; total: their sum; least: gain of
        modularity of a round that is worth another; community: (n,) the start, changed in place.

    Returns:
        Whether any node moved.
    """
    n = len(degree)
    held = np.zeros(n, np.float64)
    for node in range(n):
        held[community[node]] += degree[node]
    to = np.zeros(n, np.float64)
    near = np.empty(n, np.int64)
    moved = False
    while True:
        gained = 0.0
        for node in range(n):
            own = community[node]
            n_near = 0
            for edge in range(indptr[node], indptr[node + 1]):
                other = indices[edge]
                if other == node or weights[edge] == 0:
                    continue
                theirs = community[other]
                if to[theirs] == 0:
                    near[n_near] = theirs
                    n_near += 1
                to[theirs] += weights[edge]
            held[own] -= degree[node]
            share = resolution * degree[node] / total
            stays = to[own] - share * held[own]
            best, best_gain = own, stays
            for place in range(n_near):
                gain = to[near[place]] - share * held[near[place]]
                if gain > best_gain or (gain == best_gain and best != own and near[place] < best):
                    best, best_gain = near[place], gain
            for place in range(n_near):
                to[near[place]] = 0
            held[best] += degree[node]
            if best != own:
                community[node] = best
                gained += best_gain - stays
                moved = True
        if 2 * gained / total < least:
            return moved
