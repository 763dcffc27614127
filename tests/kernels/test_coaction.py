"""Co-action neighbours against a slow count, and what they must not depend on."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.kernels.coaction import coaction_neighbours, first_links

DAY = 86_400_000_000


def packed(people: list[list[int]], gap: int = DAY) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    items = np.array([item for person in people for item in person], np.int32)
    offsets = np.append(0, np.cumsum([len(person) for person in people])).astype(np.int64)
    times = np.concatenate([np.arange(len(person)) * gap for person in people] or [np.empty(0)]).astype(np.int64)
    return items, offsets, times


def slowly(people: list[list[int]], n_items: int, window: int, days: int) -> dict[tuple[int, int], tuple[float, int]]:
    """(item, other) -> its strength and how many people share it."""
    weight, shared, known = defaultdict(float), defaultdict(int), defaultdict(set)
    for who, person in enumerate(people):
        for item in person:
            known[item].add(who)
        pairs = {
            (one, other)
            for i, one in enumerate(person)
            for j, other in enumerate(person)
            if one != other and abs(i - j) <= min(window, days)
        }
        for pair in pairs:
            weight[pair] += 1 / np.log2(1 + len(person))
            shared[pair] += 1
    return {pair: (weight[pair] / np.sqrt(len(known[pair[0]]) * len(known[pair[1]])), shared[pair]) for pair in weight}


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.lists(st.integers(0, 7), max_size=12), max_size=8), st.integers(1, 4), st.integers(1, 4))
def test_it_is_the_slow_count(people, window, days):
    found, strength = coaction_neighbours(
        *packed(people), 8, k=8, window=window, reach=days * DAY, min_people=2, threads=2
    )
    expected = slowly(people, 8, window, days)
    for item in range(8):
        mine = {other: pair for (one, other), pair in expected.items() if one == item}
        strong = {other for other, (_, people_) in mine.items() if people_ >= 2}
        wanted = strong if len(strong) >= 5 else set(mine)
        got = found[item][found[item] >= 0]
        assert set(got.tolist()) == wanted
        np.testing.assert_allclose(strength[item][: len(got)], [mine[other][0] for other in got.tolist()], rtol=1e-5)
        assert (np.diff(strength[item][: len(got)]) <= 0).all()


def test_only_the_strongest_stay():
    people = [[0, 1], [0, 1], [0, 1], [0, 2], [0, 2], [0, 3]]
    found, _ = coaction_neighbours(*packed(people), 4, k=2, window=5, reach=9 * DAY)
    assert found[0].tolist() == [1, 2]


def test_the_order_of_people_and_the_threads_do_not_matter():
    rng = np.random.default_rng(0)
    people = [rng.integers(0, 30, rng.integers(2, 20)).tolist() for _ in range(60)]
    one = coaction_neighbours(*packed(people), 30, k=5, window=4, reach=9 * DAY, threads=1)
    two = coaction_neighbours(*packed(people[::-1]), 30, k=5, window=4, reach=9 * DAY, threads=2)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_allclose(one[1], two[1], rtol=1e-5)


def test_no_actions_give_no_neighbours():
    found, strength = coaction_neighbours(*packed([]), 3, k=4, window=5, reach=DAY)
    assert (found == -1).all()
    assert (strength == 0).all()


def test_first_links_keep_their_order_and_come_once():
    item, other = np.array([2, 0, 2, 2, 2, 1]), np.array([1, 2, 1, 0, 3, 1])
    found, strength = first_links(item.astype(np.int32), other.astype(np.int32), 4, 2)
    assert found.tolist() == [[2, -1], [-1, -1], [1, 0], [-1, -1]]
    assert strength.tolist() == [[1, 0], [0, 0], [1, 1], [0, 0]]
