"""Pair counting against a slow and obvious reference."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import EndcapError, InputError
from endcap.kernels import pairs
from endcap.kernels.pairs import (
    Sizes,
    top_following,
    top_following_by_block,
    top_together,
    top_together_by_block,
)

SESSIONS = st.lists(st.lists(st.integers(0, 7), max_size=9), max_size=12)
GROUP = np.array([0, 0, 1, 1, 2, 2, 0, 1], np.int32)
ITEM = np.array([0, 1, 0, 1, 0, 1, 2, 2], np.int32)
N_TOKENS = len(GROUP)


def arrays(sessions: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array([token for session in sessions for token in session], np.int32)
    return tokens, np.append(0, np.cumsum([len(session) for session in sessions])).astype(np.int64)


def best(counts: Counter, k: int, min_count: int, group) -> dict:
    """{(token, group): [(partner, count), ...]}, higher count first, then the lower partner."""
    found: dict = {}
    for (token, partner), count in counts.items():
        if count >= min_count:
            found.setdefault((token, int(group[partner])), []).append((partner, count))
    return {key: sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:k] for key, pairs in found.items()}


def slowly_following(sessions: list[list[int]], k: int, min_count: int, same_item: bool, reach: int) -> dict:
    counts: Counter = Counter()
    for session in sessions:
        counted = set()
        for token in set(session):
            first = session.index(token)
            counted |= {(token, after) for after in session[first + 1 : first + 1 + reach] if after != token}
        counts.update(pair for pair in counted if same_item or ITEM[pair[0]] != ITEM[pair[1]])
    return best(counts, k, min_count, GROUP)


def slowly_together(sessions: list[list[int]], k: int, min_count: int, itself: bool, reach: int) -> dict:
    counts: Counter = Counter()
    for session in sessions:
        different = list(dict.fromkeys(session))
        for place, token in enumerate(different):
            for other_place, partner in enumerate(different):
                if (token != partner and abs(place - other_place) <= reach) or (token == partner and itself):
                    counts[token, partner] += 1
    return best(counts, k, min_count, np.zeros(N_TOKENS, int))


def assert_lists_are(expected: dict, found: tuple[np.ndarray, np.ndarray], n_groups: int, k: int) -> None:
    top, counts = found
    assert top.shape == counts.shape == (N_TOKENS, n_groups * k)
    for token in range(N_TOKENS):
        for group in range(n_groups):
            cells = slice(group * k, (group + 1) * k)
            held = [(t, c) for t, c in zip(top[token, cells], counts[token, cells], strict=True) if t >= 0]
            assert held == expected.get((token, group), [])
            assert (top[token, cells][len(held) :] == -1).all()
            assert (counts[token, cells][len(held) :] == 0).all()


@settings(max_examples=150, deadline=None)
@given(SESSIONS, st.integers(1, 9), st.integers(1, 2), st.booleans(), st.integers(0, 9), st.integers(1, 3))
def test_followers_are_those_of_the_definition(sessions, k, min_count, same_item, reach, threads):
    rules = {"k": k, "min_count": min_count, "same_item": same_item, "reach": reach}
    found = top_following(*arrays(sessions), GROUP, ITEM, threads=threads, **rules)
    assert_lists_are(slowly_following(sessions, **rules), found, 3, k)


@settings(max_examples=150, deadline=None)
@given(SESSIONS, st.integers(1, 9), st.integers(1, 2), st.booleans(), st.integers(0, 9), st.integers(1, 3))
def test_partners_are_those_of_the_definition(sessions, k, min_count, itself, reach, threads):
    rules = {"k": k, "min_count": min_count, "itself": itself, "reach": reach}
    found = top_together(*arrays(sessions), N_TOKENS, threads=threads, **rules)
    assert_lists_are(slowly_together(sessions, **rules), found, 1, k)


@settings(max_examples=60, deadline=None)
@given(SESSIONS, st.integers(1, 9), st.integers(1, 3), st.integers(0, 2_000), st.booleans())
def test_the_memory_changes_nothing(tmp_path_factory, sessions, k, threads, spare, directed):
    tokens, offsets = arrays(sessions)
    given = (tokens, offsets, GROUP, ITEM) if directed else (tokens, offsets, N_TOKENS)
    count, by_block = (top_following, top_following_by_block) if directed else (top_together, top_together_by_block)
    whole = count(*given, k=k)
    memory = Sizes.of(len(tokens), len(offsets) - 1, N_TOKENS, whole[0].shape[1]).peak(1, 1) + spare
    spilled = count(*given, k=k, threads=threads, memory=memory, spill=tmp_path_factory.getbasetemp())
    blocks = [(top.copy(), counts.copy()) for top, counts in by_block(*given, k=k, threads=threads, memory=memory)]
    for part in (0, 1):
        np.testing.assert_array_equal(spilled[part], whole[part])
        np.testing.assert_array_equal(np.concatenate([block[part] for block in blocks]), whole[part])


def test_threads_share_more_rows_than_a_turn_holds():
    tokens = np.random.default_rng(1).integers(0, 3_000, 20_000).astype(np.int32)
    offsets = np.arange(0, 20_001, 10)
    one, three = (top_together(tokens, offsets, 3_000, k=5, threads=threads) for threads in (1, 3))
    np.testing.assert_array_equal(one[0], three[0])
    np.testing.assert_array_equal(one[1], three[1])


def test_places_beyond_32_bits_count_the_same(monkeypatch):
    sessions = [[0, 1, 0, 2], [1, 2, 3]]
    narrow = top_following(*arrays(sessions), GROUP, ITEM, k=2)
    monkeypatch.setattr(pairs, "NARROW", 3)
    wide = top_following(*arrays(sessions), GROUP, ITEM, k=2)
    np.testing.assert_array_equal(narrow[0], wide[0])


def test_a_plan_takes_fewer_threads_and_shorter_blocks_rather_than_more_memory():
    sizes = Sizes.of(n_events=10_000_000, n_sessions=1_000_000, n_tokens=200_000, columns=1_000)
    roomy = sizes.plan(4, None, whole=True, spill=False)
    assert (roomy.threads, roomy.block, roomy.spilled) == (4, 200_000, False)
    for memory in (1_500_000_000, 150_000_000, 110_000_000, 100_000_000):
        plan = sizes.plan(4, memory, whole=True, spill=True)
        assert plan.spilled
        assert plan.peak == sizes.peak(plan.threads, plan.block) <= memory
    assert sizes.plan(4, 110_000_000, whole=False, spill=False).threads == 4
    sizes = Sizes.of(n_events=10_000, n_sessions=1_000, n_tokens=200_000, columns=1_000)
    assert sizes.plan(4, sizes.peak(2, 1), whole=False, spill=False) == pairs.Plan(2, 1, sizes.peak(2, 1))


def test_too_little_memory_names_the_least_that_would_do(tmp_path):
    corpus = *arrays([[0, 1, 2]] * 50), N_TOKENS
    sizes = Sizes.of(150, 50, N_TOKENS, 40)
    whole, least = sizes.peak(1, N_TOKENS), sizes.peak(1, 1)
    with pytest.raises(InputError, match=rf"at least {whole:,} are needed \(fewer with a folder to spill to\)"):
        top_together(*corpus, k=40, memory=whole - 1)
    top_together(*corpus, k=40, memory=whole)
    with pytest.raises(InputError, match=rf"at least {least:,} are needed$"):
        top_together(*corpus, k=40, memory=least - 1, spill=tmp_path)
    assert isinstance(top_together(*corpus, k=40, memory=least, spill=tmp_path)[0], np.memmap)
    assert not list(tmp_path.iterdir())


def test_a_spill_folder_that_cannot_be_written_is_named(tmp_path):
    corpus = *arrays([[0, 1, 2]] * 50), N_TOKENS
    with pytest.raises(EndcapError, match=r"spilling pair counts to .*missing: No such file or directory"):
        top_together(*corpus, k=40, memory=Sizes.of(150, 50, N_TOKENS, 40).peak(1, 1), spill=tmp_path / "missing")


def test_no_sessions_give_no_pairs():
    top, counts = top_following(*arrays([]), GROUP, ITEM, k=2)
    assert top.shape == (8, 6)
    assert (top == -1).all()
    assert (counts == 0).all()
    assert top_together(*arrays([]), 0, k=2)[0].shape == (0, 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_machine_made_session_is_bounded_by_reach(threads):
    session = list(np.tile(np.arange(8), 5_000))
    _, counts = top_following(*arrays([session]), GROUP, ITEM, k=3, reach=50, threads=threads)
    assert counts.max() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: a whole number from 1 on is needed, not 0"),
        ({"min_count": 0}, "min_count: a whole number from 1 on"),
        ({"reach": -1}, "reach: a whole number from 0 on is needed, not -1"),
        ({"memory": "lots"}, "memory 'lots': write it as 512MB"),
        ({"tokens": np.array([0, 8, 1])}, r"tokens: must be in 0 .. 7, not 0 .. 8"),
        ({"tokens": np.array([0, -1, 1])}, r"tokens: must be in 0 .. 7, not -1 .. 1"),
        ({"offsets": np.array([0, 4])}, "offsets: must ascend from 0 to the number of events, 3"),
        ({"offsets": np.array([0, 3, 2, 3])}, "offsets: must ascend"),
        ({"offsets": np.array([], int)}, "offsets: must ascend"),
        ({"item": ITEM[:3]}, "group and item: one of each a token, not 8 and 3"),
        ({"group": GROUP - 1}, "group: -1 is below 0"),
    ],
)
def test_what_would_make_compiled_loops_read_beyond_an_array_is_refused(change, message):
    given = {"tokens": np.array([0, 1, 2]), "offsets": np.array([0, 3]), "group": GROUP, "item": ITEM, "k": 2, **change}
    with pytest.raises(InputError, match=message):
        top_following(**given)


MEASURE = """
import resource, sys, numpy as np
from endcap.kernels.pairs import top_together, top_together_by_block
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
rng = np.random.default_rng(0)
tokens, offsets = rng.integers(0, 50_000, 2_000_000).astype(np.int32), np.arange(0, 2_000_001, 10)
top_together(tokens[:100], offsets[:11], 50_000, k=200)
before = peak()
top, counts = top_together(tokens, offsets, 50_000, k=200, threads=2, memory=sys.argv[1], spill=sys.argv[2])
print(peak() - before, type(top).__name__)
"""


@pytest.mark.slow
def test_the_peak_memory_of_a_process_stays_under_the_setting(tmp_path: Path) -> None:
    program = [sys.executable, "-c", MEASURE, "60MB", str(tmp_path)]
    grown, kind = subprocess.run(program, check=True, capture_output=True, text=True).stdout.split()
    assert kind == "memmap"
    assert int(grown) <= 60_000_000
