"""Metrics against ir-measures, against slow obvious references, and at their edges."""

from __future__ import annotations

from collections import defaultdict

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from endcap import metrics
from endcap.errors import InputError
from endcap.metrics import NEVER

LISTS = np.array([[3, 0, 7, 1], [0, 2, -1, -1], [-1, -1, -1, -1], [5, 6, 4, 2]], np.int32)
RELEVANT = np.array([0, 1, 2, 0, 0, 5, 3, 2])
OFFSETS = np.array([0, 2, 4, 5, 8])


@pytest.fixture(scope="module")
def judged() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random lists (q, k) with pads, relevant items and their offsets."""
    rng = np.random.default_rng(0)
    lists = np.array([rng.permutation(40)[:20] for _ in range(60)], np.int32)
    for row in range(0, 60, 5):
        lists[row, rng.integers(0, 20) :] = -1
    lengths = rng.integers(1, 9, 60)
    relevant = np.concatenate([rng.permutation(40)[:n] for n in lengths])
    return lists, relevant, np.append(0, np.cumsum(lengths))


@pytest.mark.parametrize("k", [1, 5, 20, 30])
def test_ranking_metrics_agree_with_ir_measures(judged: tuple, k: int) -> None:
    lists, relevant, offsets = judged
    qrels = [
        ir_measures.Qrel(str(q), str(item), 1) for q in range(60) for item in relevant[offsets[q] : offsets[q + 1]]
    ]
    run = [
        ir_measures.ScoredDoc(str(q), str(item), -float(place))
        for q in range(60)
        for place, item in enumerate(lists[q])
        if item >= 0
    ]
    theirs = {measure: np.zeros(60) for measure in (nDCG @ k, R @ k, Success @ k, RR @ k)}
    for row in ir_measures.iter_calc(list(theirs), qrels, run):
        theirs[row.measure][int(row.query_id)] = row.value

    hits, n_relevant = metrics.hit_matrix(lists, relevant, offsets), np.diff(offsets)
    np.testing.assert_allclose(metrics.ndcg(hits, n_relevant, k), theirs[nDCG @ k], atol=1e-9)
    np.testing.assert_allclose(metrics.recall(hits, n_relevant, k), theirs[R @ k], atol=1e-9)
    np.testing.assert_allclose(metrics.hit_rate(hits, k), theirs[Success @ k], atol=1e-9)
    np.testing.assert_allclose(metrics.mrr(hits, k), theirs[RR @ k], atol=1e-9)


def test_pads_never_hit_and_item_0_does() -> None:
    hits = metrics.hit_matrix(LISTS, RELEVANT, OFFSETS)
    assert hits.tolist() == [
        [False, True, False, True],
        [True, True, False, False],
        [False] * 4,
        [True, False, False, True],
    ]


def test_a_relevant_item_of_one_query_is_no_hit_for_the_next() -> None:
    lists = np.array([[1], [1]], np.int32)
    assert metrics.hit_matrix(lists, np.array([2, 1]), np.array([0, 1, 2])).tolist() == [[False], [True]]


def test_a_query_without_relevant_items_has_no_recall() -> None:
    hits = np.zeros((1, 3), bool)
    assert np.isnan(metrics.recall(hits, np.array([0]), 3)).all()
    assert np.isnan(metrics.ndcg(hits, np.array([0]), 3)).all()


def test_covered_counts_items_once_and_no_pads() -> None:
    assert metrics.covered(LISTS[1:3], np.array([0, 1, 2])).tolist() == [True, False, True]


def test_novelty_is_the_mean_surprise_of_what_is_listed() -> None:
    share = np.array([0.5, 0.25, 1.0])
    found = metrics.novelty(np.array([[0, 1], [2, -1], [-1, -1]], np.int32), share)
    np.testing.assert_allclose(found, [1.5, 0.0, np.nan])


def test_diversity_counts_pairs_of_known_categories() -> None:
    category = np.array([0, 0, 1, -1], np.int32)
    lists = np.array([[0, 1, 2], [0, 1, -1], [0, 3, 2], [3, 0, -1]], np.int32)
    np.testing.assert_allclose(metrics.diversity(lists, category), [2 / 3, 0.0, 1.0, np.nan])


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_interests_spread_from_0_for_one_direction_to_2_for_opposite_ones() -> None:
    assert metrics.interest_spread(np.array([[1.0, 2], [2, 4]], np.float32)) == pytest.approx(0)
    assert metrics.interest_spread(np.array([[1.0, 0], [-3, 0]])) == pytest.approx(2)
    assert metrics.interest_spread(np.array([[1.0, 0], [0, 1], [1, 0]])) == pytest.approx(2 / 3)
    assert np.isnan(metrics.interest_spread(np.ones((1, 4))))


def test_the_interval_of_independent_values_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(0).normal(2, 1, 4_000)
    found = metrics.bootstrap_mean(values, np.arange(4_000))
    error = 1.96 * values.std() / np.sqrt(4_000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - error, abs=error / 8)
    assert found.high == pytest.approx(values.mean() + error, abs=error / 8)


def test_equal_values_of_one_person_widen_the_interval() -> None:
    people = np.random.default_rng(0).normal(0, 1, 200)
    values, group = np.repeat(people, 50), np.repeat(np.arange(200), 50)
    as_people = metrics.bootstrap_mean(values, group)
    as_if_independent = metrics.bootstrap_mean(values, np.arange(len(values)))
    ratio = (as_people.high - as_people.low) / (as_if_independent.high - as_if_independent.low)
    assert ratio == pytest.approx(np.sqrt(50), rel=0.15)


def test_groups_count_by_their_size() -> None:
    found = metrics.bootstrap_mean(np.array([1.0, 0, 0, 0]), np.array([7, 9, 9, 9]))
    assert (found.value, found.low, found.high, found.n) == (0.25, 0.0, 1.0, 4)


def test_the_paired_interval_is_narrow_where_models_agree() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(1_000)
    b = a + 0.1
    difference = metrics.paired_bootstrap(b, a, np.arange(1_000))
    assert difference.low == pytest.approx(0.1)
    assert difference.high == pytest.approx(0.1)


def test_nan_values_are_left_out_and_counted_so() -> None:
    found = metrics.bootstrap_mean(np.array([1.0, np.nan, 3.0]), np.arange(3))
    assert (found.value, found.n) == (2.0, 2)


@pytest.mark.parametrize(("values", "groups"), [([0.5, 0.7], [1, 1]), ([], [])])
def test_one_person_or_none_gives_no_interval(values: list, groups: list) -> None:
    found = metrics.bootstrap_mean(np.array(values), np.array(groups, int))
    assert np.isnan([found.low, found.high]).all()


# -- purchase intent ---------------------------------------------------------------------------------------------------

K = 4


def slow_ranks(
    sessions: list[list[tuple[int, int]]], source: int | None, intents: set[int], lists: dict
) -> list[tuple]:
    """(session, item, own, union, causal) of every target, written down as the definition reads."""
    answer = []
    for number, session in enumerate(sessions):
        sources = [place for place, (_, kind) in enumerate(session) if source is None or kind == source]
        for place, (item, kind) in enumerate(session):
            if kind not in intents or not sources or place <= sources[0]:
                continue
            others = [p for p in sources if session[p][0] != item]
            ranks = {p: lists[session[p]].index(item) for p in others if item in lists[session[p]]}
            own = any(session[p][0] == item and p != place for p in sources)
            union = min(ranks.values(), default=NEVER)
            causal = min((rank for p, rank in ranks.items() if p < place), default=NEVER)
            answer.append((number, item, own, union, causal))
    return answer


events = st.tuples(st.integers(0, 5), st.integers(0, 2))
logs = st.lists(st.lists(events, min_size=1, max_size=8), max_size=6)


@settings(max_examples=150, deadline=None)
@given(log=logs, source=st.sampled_from([0, 1, None]), intents=st.sampled_from([(1, 2), (2,)]), seed=st.integers(0, 9))
def test_intent_ranks_equal_the_slow_reference(log: list, source: int | None, intents: tuple, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.array([[rng.permutation(6)[:K] for _ in range(6)] for _ in range(3)], np.int32)
    table[rng.random(table.shape) < 0.3] = -1
    session = np.repeat(np.arange(len(log)) * 3, [len(s) for s in log])  # numbers of sessions may have gaps
    flat = np.array([event for s in log for event in s], np.int64).reshape(-1, 2)
    item, kind = flat[:, 0].astype(np.int32), flat[:, 1].astype(np.int8)

    cases = metrics.intent_cases(session, item, kind, source, intents)
    found = metrics.intent_ranks(cases, lambda items, seen_as: table[seen_as, items], block=2)

    lists = {(i, t): table[t, i].tolist() for i in range(6) for t in range(3)}
    expected = slow_ranks(log, source, set(intents), lists)
    assert session[cases.target_row].tolist() == [3 * row[0] for row in expected]
    assert cases.target_item.tolist() == [row[1] for row in expected]
    assert cases.own.tolist() == [row[2] for row in expected]
    assert found.union.tolist() == [row[3] for row in expected]
    assert found.causal.tolist() == [row[4] for row in expected]


def slow_recent(lives: list[list[tuple[int, int, bool]]], source: int | None, intents: set[int], n: int) -> list[tuple]:
    answer = []
    for user, life in enumerate(lives):
        for place, (item, kind, is_test) in enumerate(life):
            past = [(i, t) for i, t, _ in life[:place] if source is None or t == source]
            last = list(dict.fromkeys(past[::-1]))[:n]
            if is_test and kind in intents and last:
                answer.append((user, item, sorted(last)))
    return answer


@settings(max_examples=150, deadline=None)
@given(
    lives=st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.booleans()), max_size=9), max_size=4),
    source=st.sampled_from([0, None]),
    n=st.integers(1, 4),
)
def test_recent_cases_equal_the_slow_reference(lives: list, source: int | None, n: int) -> None:
    user = np.repeat(np.arange(len(lives)), [len(life) for life in lives])
    flat = np.array([event for life in lives for event in life], np.int64).reshape(-1, 3)
    item, kind, is_test = flat[:, 0].astype(np.int32), flat[:, 1].astype(np.int8), flat[:, 2].astype(bool)

    cases = metrics.recent_cases(user, item, kind, is_test, source, (1, 2), n)

    sources = defaultdict(list)
    for place in range(len(cases.source_item)):
        for case in cases.occurrence_case[cases.source_offsets[place] : cases.source_offsets[place + 1]]:
            sources[case].append((int(cases.source_item[place]), int(cases.source_seen_as[place])))
    found = [
        (int(user[row]), int(cases.target_item[case]), sorted(sources[case]))
        for case, row in enumerate(cases.target_row)
    ]
    assert found == slow_recent(lives, source, {1, 2}, n)


def test_purchase_intent_cuts_lists_at_each_budget() -> None:
    session, kind = np.zeros(3, int), np.array([0, 1, 2], np.int8)
    cases = metrics.intent_cases(session, np.array([4, 0, 4], np.int32), kind, 0, (1, 2))
    hits = metrics.purchase_intent(cases, lambda items, seen_as: np.array([[4, 3, 0]], np.int32), [2, 3])
    # item 0 stands third in the list of item 4; item 4 is not matched by its own list, though it stands in it
    assert hits.tolist() == [[False, True], [False, False]]
    assert cases.own.tolist() == [False, True]
    assert metrics.mean_by_case(cases, hits[:, 1]).tolist() == [0.5]


def test_a_carted_item_is_not_its_own_evidence() -> None:
    session, kind = np.zeros(2, int), np.ones(2, np.int8)
    cases = metrics.intent_cases(session, np.array([1, 2], np.int32), kind, 1, (1,))
    assert cases.target_item.tolist() == [2]
    assert cases.own.tolist() == [False]


def test_lists_are_asked_for_once_and_in_blocks() -> None:
    asked: list[list[int]] = []
    n = 10
    session = np.repeat(np.arange(n), 2)
    item = np.stack([np.arange(n) % 5, np.full(n, 7)], 1).ravel().astype(np.int32)
    cases = metrics.intent_cases(session, item, np.tile(np.array([0, 1], np.int8), n), 0, (1,))

    def related(items: np.ndarray, seen_as: int) -> np.ndarray:
        asked.append(items.tolist())
        return np.full((len(items), 1), 7, np.int32)

    assert (metrics.intent_ranks(cases, related, block=2).union == 0).all()
    assert asked == [[0, 1], [2, 3], [4]]


# -- ties --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 10])
def test_tied_metrics_are_the_mean_over_all_orders_of_equal_scores(k: int) -> None:
    rng = np.random.default_rng(0)
    others = rng.integers(0, 4, (50, 12)).astype(float)
    others[:10, :5] = -np.inf
    own = rng.integers(-1, 4, 50).astype(float)
    own[own < 0] = -np.inf  # what cannot be judged ties with what cannot be judged
    above, ties = (others > own[:, None]).sum(1), (others == own[:, None]).sum(1)
    found = metrics.tied_hit_rate(above, ties, k), metrics.tied_mrr(above, ties, k), metrics.tied_ndcg(above, ties, k)
    for row in range(50):
        places = above[row] + 1 + np.arange(ties[row] + 1)  # one for each number of tied others that come before
        inside = places <= k
        assert found[0][row] == pytest.approx(inside.mean())
        assert found[1][row] == pytest.approx((inside / places).mean())
        assert found[2][row] == pytest.approx((inside / np.log2(1 + places)).mean())


def test_shuffling_equal_scores_gives_the_tied_figures_on_average() -> None:
    rng = np.random.default_rng(1)
    scores = np.array([2.0, 1, 1, 1, 1, 0, 0])  # the first of the ones is the target
    places = []
    for _ in range(20_000):
        order = np.lexsort((rng.random(7), -scores))
        places.append(1 + np.flatnonzero(order == 1)[0])
    above, ties = np.array([1]), np.array([3])
    drawn = np.array(places)
    assert metrics.tied_hit_rate(above, ties, 3)[0] == pytest.approx((drawn <= 3).mean(), abs=0.02)
    assert metrics.tied_mrr(above, ties)[0] == pytest.approx((1 / drawn).mean(), abs=0.01)


def test_without_ties_a_place_is_a_place() -> None:
    above, none = np.array([0, 4, 10]), np.zeros(3, np.int64)
    assert metrics.tied_hit_rate(above, none, 5).tolist() == [1, 1, 0]
    assert metrics.tied_mrr(above, none).tolist() == pytest.approx([1, 1 / 5, 1 / 11])
    assert metrics.tied_mrr(above, none, 10).tolist() == pytest.approx([1, 1 / 5, 0])
    assert len(metrics.tied_ndcg(above[:0], none[:0], 10)) == 0


@pytest.mark.parametrize(
    ("above", "ties", "k"), [([-1], [0], 5), ([0], [0, 1], 5), ([0.5], [0], 5), ([0], [0], 0), ([0], [0], True)]
)
def test_places_that_cannot_be_are_refused(above: list, ties: list, k: int) -> None:
    with pytest.raises(InputError):
        metrics.tied_hit_rate(np.array(above), np.array(ties), k)
