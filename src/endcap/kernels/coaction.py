"""Co-action neighbours: for each item the items that the same people acted on nearby, by cosine of damped counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numpy.typing import NDArray

ROWS_A_TURN = 512
WANTED = 5  # an item with fewer neighbours than these also takes those of a single person


def coaction_neighbours(
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    times: NDArray[np.int64],
    n_items: int,
    *,
    k: int,
    window: int,
    reach: int,
    min_people: int = 2,
    threads: int = 1,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k neighbours of each item with the largest s(i, j) = w(i, j) / sqrt(n(i) n(j)).

    w adds 1 / log2(1 + length of the person's sequence) for every person who acted on both within `window` places and
    `reach` microseconds, once a person; n counts an item's people. There is never a list of all pairs.

    Args:
        items, times: actions of one kind, in order of time for each person: rows offsets[u]:offsets[u + 1].
        min_people: who must have acted on both; an item with fewer than 5 such neighbours takes single ones, too.

    Returns:
        (n_items, k) neighbours, best first, padded with -1, and their s, padded with 0.
    """
    found = np.full((n_items, k), -1, np.int32)
    strength = np.zeros((n_items, k), np.float32)
    if len(items) == 0 or k == 0:
        return found, strength
    lengths = np.diff(offsets)
    person = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    damp = (1 / np.log2(1 + np.maximum(lengths, 1))).astype(np.float32)
    by_item = np.argsort(items, kind="stable").astype(np.int64)
    starts = np.searchsorted(items[by_item], np.arange(n_items + 1)).astype(np.int64)
    pairs = np.unique(items.astype(np.int64) * len(lengths) + person)
    people = np.bincount(pairs // len(lengths), minlength=n_items).astype(np.float32)

    def work(first: int) -> None:
        last = min(n_items, first + ROWS_A_TURN)
        _neighbours(
            items, offsets, times, person, damp, by_item, starts, people, window, reach, min_people,
            first, last, found, strength,
        )  # fmt: skip

    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(work, range(0, n_items, ROWS_A_TURN)))
    return found, strength


def first_links(
    item: NDArray[np.int32], other: NDArray[np.int32], n_items: int, k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The first k partners of each item in a list of links (item, other), as `coaction_neighbours` gives them.

    All links are equally strong: 1, and 0 where it is padded.
    """
    pairs = np.column_stack([item, other])[item != other]
    _, first = np.unique(pairs, axis=0, return_index=True)
    pairs = pairs[np.sort(first)]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    place = np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0])
    pairs, place = pairs[place < k], place[place < k]
    found = np.full((n_items, k), -1, np.int32)
    found[pairs[:, 0], place] = pairs[:, 1]
    return found, (found >= 0).astype(np.float32)


@numba.njit(nogil=True, cache=True)
def _neighbours(  # type: ignore[no-untyped-def]
    items, offsets, times, person, damp, by_item, starts, people, window, reach, min_people,
    first, last, found, strength,
):  # fmt: skip
    """Rows first..last of the result; rows do not depend on each other."""
    weight = np.zeros(len(people), np.float32)
    shared = np.zeros(len(people), np.int32)
    seen_with = np.full(len(people), -1, np.int64)
    partners = np.empty(len(people), np.int32)
    for item in range(first, last):
        n = 0
        for at in range(starts[item], starts[item + 1]):
            place = by_item[at]
            who = person[place]
            lowest = max(offsets[who], place - window)
            highest = min(offsets[who + 1], place + window + 1)
            for near in range(lowest, highest):
                other = items[near]
                if other == item or abs(times[near] - times[place]) > reach:
                    continue
                if shared[other] == 0:
                    partners[n] = other
                    n += 1
                    seen_with[other] = -1
                if seen_with[other] != who:
                    seen_with[other] = who
                    shared[other] += 1
                    weight[other] += damp[who]
        strong = 0
        for at in range(n):
            strong += shared[partners[at]] >= min_people
        least = min_people if strong >= WANTED else 1
        held = 0
        k = found.shape[1]
        for at in range(n):
            other = partners[at]
            if shared[other] >= least:
                score = weight[other] / np.sqrt(people[item] * people[other])
                place = held if held < k else k - 1
                # equal scores: the lower number first, so that the result does not depend on the order of events
                if held < k or _before(score, other, strength[item, k - 1], found[item, k - 1]):
                    while place > 0 and _before(score, other, strength[item, place - 1], found[item, place - 1]):
                        strength[item, place] = strength[item, place - 1]
                        found[item, place] = found[item, place - 1]
                        place -= 1
                    strength[item, place], found[item, place] = score, other
                    held = min(held + 1, k)
            shared[other] = 0
            weight[other] = 0


@numba.njit(nogil=True, cache=True)
def _before(score, item, other_score, other_item):  # type: ignore[no-untyped-def]
    return score > other_score or (score == other_score and item < other_item)
