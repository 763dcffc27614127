"""Frequent itemsets against a look at every subset."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.kernels.itemsets import frequent_itemsets, sets_of


def arrays(baskets: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    rows = [sorted(basket) for basket in baskets]
    flat = np.array([item for row in rows for item in row], np.int32)
    return flat, np.append(0, np.cumsum([len(row) for row in rows])).astype(np.int64)


def slow(baskets: list[set[int]], min_count: int, longest: int) -> dict[tuple[int, ...], int]:
    sizes = range(1, longest + 1)
    seen = Counter(chosen for basket in baskets for size in sizes for chosen in combinations(sorted(basket), size))
    return {chosen: count for chosen, count in seen.items() if count >= min_count}


def mined(baskets: list[set[int]], min_count: int, longest: int, most: int = 10**6) -> dict[tuple[int, ...], int]:
    levels, is_cut = frequent_itemsets(*arrays(baskets), 9, min_count=min_count, longest=longest, most=most)
    assert not is_cut
    found: dict[tuple[int, ...], int] = {}
    for size, level in enumerate(levels, 1):
        rows = sets_of(levels, size).tolist()
        assert rows == sorted(rows)
        found |= dict(zip(map(tuple, rows), level.times.tolist(), strict=True))
    return found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 8), max_size=6), max_size=12), st.integers(1, 4), st.integers(1, 7))
def test_every_set_that_enough_baskets_hold_is_found(baskets: list[set[int]], min_count: int, longest: int) -> None:
    assert mined(baskets, min_count, longest) == slow(baskets, min_count, longest)


@pytest.mark.parametrize("longest", [2, 9])
def test_it_stops_before_it_keeps_more_sets_than_it_may(longest: int) -> None:
    baskets = [set(range(9))] * 2  # every one of 511 sets is frequent
    levels, is_cut = frequent_itemsets(*arrays(baskets), 9, min_count=2, longest=longest, most=30)
    assert is_cut
    assert [len(level.item) for level in levels] == [9]  # with the 36 pairs there were more


def test_a_giant_basket_alone_has_no_frequent_pair() -> None:
    baskets = [set(range(9)), {1, 2}, {1, 2, 3}]
    assert mined(baskets, 3, 5) == {(1,): 3, (2,): 3, (1, 2): 3}
