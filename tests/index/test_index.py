"""Exact and HNSW search against brute force: ties, filters, more than there is, nothing at all."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from endcap.answers import Items, Scores, Space
from endcap.errors import DamagedArtefact, InputError
from endcap.index import EXACT_BELOW, Exact, Hnsw, Index, build, open_index, recall


def brute_force(
    space: Space, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
) -> tuple[Items, Scores]:
    """The definition, slow and obvious."""
    items, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    for row, query in enumerate(queries.astype(np.float64)):
        rated = [
            (-float(np.float32(vector.astype(np.float64) @ query)), int(item))
            for item, vector in zip(space.items, space.vectors, strict=True)
            if allowed is None or (item < len(allowed) and allowed[item])
        ]
        for place, (negative, item) in enumerate(sorted(rated)[:k]):
            items[row, place], scores[row, place] = item, -negative
    return items, scores


def random_space(n: int, dim: int, seed: int = 0) -> Space:
    """n unit vectors of items 0, 1, ..."""
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return Space(np.arange(n, dtype=np.int32), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@st.composite
def questions(draw: st.DrawFn) -> tuple[Space, NDArray[np.float32], int, NDArray[np.bool_] | None]:
    """Small whole-numbered vectors: every product is exact in float32, and many are equal."""
    n, dim = draw(st.integers(0, 40)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    space = Space(rng.permutation(60)[:n].astype(np.int32), rng.integers(-2, 3, (n, dim)).astype(np.float32))
    queries = rng.integers(-2, 3, (draw(st.integers(0, 4)), dim)).astype(np.float32)
    share = draw(st.sampled_from([None, 0.0, 0.1, 0.6, 1.0]))
    allowed = None if share is None else rng.random(draw(st.sampled_from([0, 30, 60]))) < share
    return space, queries, draw(st.integers(0, 50)), allowed


@given(questions())
@settings(max_examples=200, deadline=None)
def test_exact_search_is_brute_force_with_ties_by_item_number(question):
    space, queries, k, allowed = question
    items, scores = build(space, "exact").search(queries, k, allowed)
    expected_items, expected_scores = brute_force(space, queries, k, allowed)
    np.testing.assert_array_equal(items, expected_items)
    np.testing.assert_array_equal(scores, expected_scores)
    assert items.dtype == np.int32
    assert scores.dtype == np.float32


@given(questions())
@settings(max_examples=100, deadline=None)
def test_hnsw_on_a_small_space_is_exact_under_any_filter(question):
    space, queries, k, allowed = question
    items, scores = build(space, "hnsw").search(queries, k, allowed)
    expected_items, expected_scores = brute_force(space, queries, k, allowed)
    np.testing.assert_array_equal(items, expected_items)
    np.testing.assert_array_equal(scores, expected_scores)


def test_an_answer_does_not_depend_on_the_size_of_the_batch():
    """BLAS sums in another order for one query than for many; the scores must not show it."""
    space = random_space(3000, 37)
    exact = Exact(space)
    together = exact.search(space.vectors[:200], 25)
    for row in range(0, 200, 17):
        alone = exact.search(space.vectors[row : row + 1], 25)
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        np.testing.assert_array_equal(alone[1][0], together[1][row])


def test_equal_vectors_far_apart_come_in_order_of_number():
    vectors = np.tile(random_space(1, 33).vectors, (997, 1))
    items, scores = Exact(Space(np.arange(997, dtype=np.int32)[::-1].copy(), vectors)).search(vectors[:3], 10)
    assert items.tolist() == [list(range(10))] * 3
    assert len(np.unique(scores)) == 1


def test_more_scores_than_fit_in_one_block_give_the_same(monkeypatch):
    space = random_space(200, 8)
    whole = Exact(space).search(space.vectors, 5)
    monkeypatch.setattr("endcap.index.top.SCORES_AT_ONCE", 600)
    blocks = Exact(space).search(space.vectors, 5)
    np.testing.assert_array_equal(whole[0], blocks[0])
    np.testing.assert_array_equal(whole[1], blocks[1])


@pytest.fixture(scope="module")
def large() -> tuple[Space, Hnsw]:
    space = random_space(12_000, 16)
    index = build(space, "hnsw", threads=2)
    assert isinstance(index, Hnsw)
    return space, index


def test_the_graph_finds_nearly_all_and_says_so(large):
    space, index = large
    measured = recall(index, Exact(space), space.vectors[:100], 50)
    assert measured > 0.95
    assert recall(Exact(space), Exact(space), space.vectors[:20], 50) == 1.0


def test_recall_counts_what_is_missing(large):
    space, _ = large

    class Half:
        def search(self, queries, k, allowed=None):
            items, scores = Exact(space).search(queries, k)
            items[:, k // 2 :], scores[:, k // 2 :] = -1, -np.inf
            return items, scores

    assert recall(Half(), Exact(space), space.vectors[:10], 20) == pytest.approx(0.5)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.01, 0.0002])
def test_a_filter_acts_inside_retrieval(large, share):
    """As many answers as exist, all of them allowed, and nearly the best ones."""
    space, index = large
    allowed = np.random.default_rng(3).random(len(space.items)) < share
    items, scores = index.search(space.vectors[:40], 30, allowed)
    expected, _ = Exact(space).search(space.vectors[:40], 30, allowed)
    assert (items >= 0).sum() == (expected >= 0).sum()
    assert allowed[items[items >= 0]].all()
    assert np.isfinite(scores[items >= 0]).all()
    found = [np.isin(ours[ours >= 0], best).mean() for ours, best in zip(items, expected, strict=True)]
    assert np.mean(found) > 0.95


def test_a_filter_that_goes_against_the_query_loses_nothing(large, monkeypatch):
    """The allowed items are the farthest ones: the walk through the graph ends before it meets them."""
    monkeypatch.setattr("endcap.index.hnsw.EXACT_PER_VISIT", 0)
    space, index = large
    query = space.vectors[:1]
    allowed = (space.vectors @ query[0]) < -0.5
    items, _ = index.search(query, 30, allowed)
    assert (items >= 0).all()
    assert allowed[items].all()


def test_all_of_them_can_be_asked_for(large):
    space, index = large
    items, scores = index.search(space.vectors[:1], len(space.items) + 5)
    assert sorted(items[0, :-5]) == space.items.tolist()
    assert (items[0, -5:] == -1).all()
    assert (np.diff(scores[0, :-5]) <= 0).all()


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_opened_index_answers_as_the_one_that_was_saved(tmp_path: Path, large, kind):
    space, hnsw = large
    index: Index = hnsw if kind == "hnsw" else Exact(space)
    index.save(tmp_path / "index")
    opened = open_index(tmp_path / "index")
    allowed = np.random.default_rng(1).random(len(space.items)) < 0.02
    assert opened.kind == kind
    for mask in (None, allowed):
        for ours, theirs in zip(
            opened.search(space.vectors[:9], 12, mask), index.search(space.vectors[:9], 12, mask), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_threads_search_at_the_same_time(large):
    space, index = large
    expected = index.search(space.vectors[:64], 10)[0]
    found = np.empty_like(expected)

    def ask(first: int) -> None:
        for row in range(first, 64, 4):
            found[row] = index.search(space.vectors[row : row + 1], 10)[0][0]

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(found, expected)


def test_the_graph_is_the_same_every_time_with_one_thread():
    space = random_space(6000, 8)
    first, second = (Hnsw.build(space).search(space.vectors[:50], 10) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])


def test_auto_takes_the_graph_for_many_vectors_only(monkeypatch):
    monkeypatch.setattr("endcap.index.choice.EXACT_BELOW", 100)
    assert build(random_space(99, 4)).kind == "exact"
    assert build(random_space(100, 4)).kind == "hnsw"
    assert build(Space(np.empty(0, np.int32), np.empty((0, 4), np.float32)), "hnsw").kind == "exact"
    assert EXACT_BELOW == 50_000


def test_vectors_that_cannot_be_searched_are_refused():
    broken = random_space(5, 3)
    broken.vectors[2, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        build(broken)
    with pytest.raises(InputError, match="rows of vectors"):
        build(Space(np.arange(4, dtype=np.int32), np.zeros((3, 2), np.float32)))


@pytest.mark.parametrize("text", [None, "{}", "not json", '{"kind": "tree"}', '{"kind": "hnsw", "longest": 1}'])
def test_a_folder_that_is_no_index_is_refused(tmp_path: Path, text):
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(DamagedArtefact, match="publish again"):
        open_index(tmp_path)
