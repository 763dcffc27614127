"""Pair counting against a slow and obvious reference."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.kernels.pairs import top_following

SESSIONS = st.lists(st.lists(st.integers(0, 7), max_size=9), max_size=12)
GROUP = np.array([0, 0, 1, 1, 2, 2, 0, 1], np.int32)
ITEM = np.array([0, 1, 0, 1, 0, 1, 2, 2], np.int32)


def arrays(sessions: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array([token for session in sessions for token in session], np.int32)
    return tokens, np.append(0, np.cumsum([len(session) for session in sessions])).astype(np.int64)


def slowly(sessions: list[list[int]], k: int, min_count: int, same_item: bool, reach: int) -> dict:
    """{token: {group: [(after, count), ...]}} by the definition."""
    counts: Counter = Counter()
    for session in sessions:
        pairs = set()
        for token in set(session):
            first = session.index(token)
            pairs |= {(token, after) for after in session[first + 1 : first + 1 + reach] if after != token}
        counts.update(pairs)
    best: dict = {}
    for (token, after), count in counts.items():
        if count >= min_count and (same_item or ITEM[token] != ITEM[after]):
            best.setdefault((token, int(GROUP[after])), []).append((after, count))
    return {key: sorted(found, key=lambda pair: (-pair[1], pair[0]))[:k] for key, found in best.items()}


@settings(max_examples=60, deadline=None)
@given(SESSIONS, st.integers(1, 3), st.integers(1, 2), st.booleans(), st.integers(1, 9), st.integers(1, 2))
def test_counts_are_those_of_the_definition(sessions, k, min_count, same_item, reach, threads):
    top, counts = top_following(
        *arrays(sessions), GROUP, ITEM, k=k, min_count=min_count, same_item=same_item, reach=reach, threads=threads
    )
    expected = slowly(sessions, k, min_count, same_item, reach)
    for token in range(len(GROUP)):
        for group in range(3):
            cells = slice(group * k, (group + 1) * k)
            found = [(t, c) for t, c in zip(top[token, cells], counts[token, cells], strict=True) if t >= 0]
            assert found == expected.get((token, group), [])


def test_no_sessions_give_no_pairs():
    top, counts = top_following(*arrays([]), GROUP, ITEM, k=2)
    assert top.shape == (8, 6)
    assert (top == -1).all()
    assert (counts == 0).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_machine_made_session_is_bounded_by_reach(threads):
    session = list(np.tile(np.arange(8), 5_000))
    _, counts = top_following(*arrays([session]), GROUP, ITEM, k=3, reach=50, threads=threads)
    assert counts.max() == 1
