"""Frequent itemsets: sets of items that lie together in enough baskets, level by level, by occurrence deliver.

Every set keeps the places where its last item stands in baskets that hold it whole; what stands behind these places in
the same baskets are its extensions. So work and memory follow the occurrences, however many items there are: nothing is
intersected that never occurs together (Zaki's Eclat on sparse data; Uno's LCM).
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

NEVER = np.iinfo(np.int64).max

Ints = NDArray[np.int64]


class Level(NamedTuple):
    """Sets of one size, in ascending order of their items: set s is set `parent[s]` of the level before and `item[s]`.

    Attributes:
        parent: (n,) int64, 0 at the first level; item: (n,) int32, above all items of the parent;
        times: (n,) int64 baskets that hold the whole set.
    """

    parent: Ints
    item: NDArray[np.int32]
    times: Ints


def frequent_itemsets(
    items: NDArray[np.int32], offsets: Ints, n_items: int, *, min_count: int, longest: int, most: int
) -> tuple[list[Level], bool]:
    """All sets of at most `longest` items that at least `min_count` baskets hold.

    Args:
        items: those of basket b are items[offsets[b]:offsets[b + 1]], distinct and ascending.
        most: stop before a level with which more sets, or eight times as many occurrences, would be kept.

    Returns:
        the levels that are not empty, sizes 1, 2 ...; and whether `most` cut them short.
    """
    ends = np.repeat(offsets[1:], np.diff(offsets))
    levels: list[Level] = []
    places = np.argsort(items, kind="stable").astype(np.int64)
    count = np.bincount(items, minlength=n_items).astype(np.int64)
    frequent = np.flatnonzero(count >= min_count)
    places = places[np.repeat(count >= min_count, count)]
    found = Level(np.zeros(len(frequent), np.int64), frequent.astype(np.int32), count[frequent])
    kept = 0
    while len(found.item):
        levels.append(found)
        kept += len(found.item)
        if len(levels) == longest:
            break
        starts = np.append(0, np.cumsum(found.times))
        is_last = len(levels) + 1 == longest  # nobody asks for the places of the last one's sets
        most_places = NEVER if is_last else 8 * most
        n_sets, n_places = _count_extensions(items, ends, places, starts, min_count, most - kept, most_places, n_items)
        if n_sets > most - kept or n_places > most_places:
            return levels, True
        found = Level(np.empty(n_sets, np.int64), np.empty(n_sets, np.int32), np.empty(n_sets, np.int64))
        extended = np.empty(0 if is_last else n_places, np.int64)
        _extend(items, ends, places, starts, min_count, n_items, is_last, *found, extended)
        places = extended
    return levels, False


def sets_of(levels: list[Level], size: int) -> NDArray[np.int32]:
    """(n, size) the sets of one size, each row ascending, rows in ascending order."""
    rows = np.arange(len(levels[size - 1].item))
    columns = []
    for level in reversed(levels[:size]):
        columns.append(level.item[rows])
        rows = level.parent[rows]
    return np.column_stack(columns[::-1])


@numba.njit(nogil=True, cache=True)
def _count_extensions(  # type: ignore[no-untyped-def]
    items, ends, places, starts, min_count, most_sets, most_places, n_items
):
    """Number of frequent extensions of all sets, and of their occurrences; stops early beyond either bound."""
    count = np.zeros(n_items, np.int64)
    n_sets = n_places = 0
    for parent in range(len(starts) - 1):
        for at in range(starts[parent], starts[parent + 1]):
            place = places[at]
            for behind in range(place + 1, ends[place]):
                count[items[behind]] += 1
        for at in range(starts[parent], starts[parent + 1]):
            place = places[at]
            for behind in range(place + 1, ends[place]):
                item = items[behind]
                if count[item] >= min_count:
                    n_sets += 1
                    n_places += count[item]
                count[item] = 0
        if n_sets > most_sets or n_places > most_places:
            break
    return n_sets, n_places


@numba.njit(nogil=True, cache=True)
def _extend(  # type: ignore[no-untyped-def]
    items, ends, places, starts, min_count, n_items, is_last, found_parent, found_item, found_count, found_places
):
    count = np.zeros(n_items, np.int64)
    writes_at = np.zeros(n_items, np.int64)
    touched = np.empty(n_items, np.int32)
    n_sets = n_places = 0
    for parent in range(len(starts) - 1):
        n_touched = 0
        for at in range(starts[parent], starts[parent + 1]):
            place = places[at]
            for behind in range(place + 1, ends[place]):
                item = items[behind]
                if count[item] == 0:
                    touched[n_touched] = item
                    n_touched += 1
                count[item] += 1
        extensions = np.sort(touched[:n_touched])
        for item in extensions:
            if count[item] >= min_count:
                found_parent[n_sets] = parent
                found_item[n_sets] = item
                found_count[n_sets] = count[item]
                writes_at[item] = n_places
                n_sets += 1
                n_places += count[item]
        for at in range(starts[parent], starts[parent] if is_last else starts[parent + 1]):
            place = places[at]
            for behind in range(place + 1, ends[place]):
                item = items[behind]
                if count[item] >= min_count:
                    found_places[writes_at[item]] = behind
                    writes_at[item] += 1
        for item in extensions:
            count[item] = 0
