"""Numbers of pairs on a log small enough to count by hand, and neighbours against dense matrices."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph import graph_of
from endcap.models.complement.columns import PER
from endcap.models.complement.counts import GAP_MIDDLES, count_pairs
from endcap.models.complement.features import (
    BEHAVIOUR,
    COPIES,
    LEAST_COPIES,
    Lesson,
    PairFacts,
    pair_features,
    pair_names,
    turned,
)
from endcap.models.complement.links import LINK_NAMES, Links
from endcap.shop import Shop

HOUR, DAY = 3_600, 86_400
START = 1_700_000_000
# cameras A and B are compared, the card C goes with either; D was never touched together with anything
EVENTS = [
    # user, item, interaction, seconds, session, order
    ("1", "A", "click", 0, "s1", None),
    ("1", "B", "click", 10, "s1", None),
    ("1", "A", "click", 20, "s1", None),
    ("1", "C", "click", 30, "s1", None),
    ("1", "A", "purchase", 40, "s1", "o1"),
    ("1", "C", "purchase", 41, "s1", "o1"),
    ("2", "B", "click", 5 * HOUR, "s2", None),
    ("2", "A", "click", 5 * HOUR + 9, "s2", None),
    ("2", "A", "purchase", 5 * HOUR + 20, "s2", "o2"),
    ("2", "C", "purchase", 5 * DAY, "s3", "o3"),
    ("2", "C", "return", 8 * DAY, None, None),
    ("2", "C", "return", 60 * DAY, None, None),
    ("3", "D", "click", 9 * DAY, "s4", None),
]
ITEMS = {
    "item": ["A", "B", "C", "D"],
    "category": ["photo/camera", "photo/camera", "photo/card", None],
    "brand": ["x", "y", "x", ""],
    "price": [100.0, 50.0, 10.0, None],
}


def shop_of(events=EVENTS, items=ITEMS) -> Shop:
    names = ("user", "item", "interaction", "time", "session", "order")
    columns = dict(zip(names, map(list, zip(*events, strict=True)), strict=True))
    columns["time"] = [START + second for second in columns["time"]]
    return Shop.from_tables(pa.table(columns), pa.table(items) if items else None)


@pytest.fixture(scope="module")
def shop() -> Shop:
    return shop_of()


@pytest.fixture(scope="module")
def facts(shop) -> PairFacts:
    return PairFacts.of(shop)


def of_pair(shop: Shop, facts: PairFacts, one: str, other: str) -> dict[str, float]:
    left, right = (np.array([shop.items.number(item)]) for item in (one, other))
    return dict(zip(pair_names(facts), pair_features(facts, left, right)[0].tolist(), strict=True))


def test_the_catalogue_is_compared(shop, facts):
    pair = of_pair(shop, facts, "A", "B")
    assert [pair[f"category: {name}"] for name in ("same leaf", "shared levels", "share of levels")] == [1, 2, 1]
    assert pair["price: log ratio"] == pytest.approx(np.log(2))
    assert pair["price: ratio"] == pytest.approx(0.5)
    assert (pair["brand: same"], pair["brand: same in one leaf"], pair["brand: unknown"]) == (0, 0, 0)
    other = of_pair(shop, facts, "A", "C")
    assert [other[f"category: {name}"] for name in ("same leaf", "shared levels", "share of levels")] == [0, 1, 0.5]
    assert (other["brand: same"], other["brand: same in one leaf"]) == (1, 0)
    # of two leaves one pair was bought together, of one leaf none; looked at together were both
    assert other["category: bought together"] > 0 > pair["category: bought together"]


def test_behaviour_is_counted(shop, facts):
    pair = of_pair(shop, facts, "A", "B")
    assert pair["temporal: viewed"] == pytest.approx(np.log1p(2 * PER / 3))  # of the sessions with looks
    assert pair["temporal: bought"] == 0
    assert pair["temporal: in a row"] == pytest.approx(3 / 2)  # A B, B A; B A
    assert pair["temporal: back and forth"] == pytest.approx(1 / 2)  # A B A
    assert pair["temporal: this bought after viewing that"] == pytest.approx(2 / 2)  # B was looked at and not bought
    assert pair["temporal: that bought after viewing this"] == 0
    assert np.isnan(pair["temporal: median gap"])
    pair = of_pair(shop, facts, "A", "C")
    # the first return took the purchase of 2 back: one occasion is left, in one basket
    assert pair["temporal: bought"] == pytest.approx(np.log1p(1 * PER / 2))
    assert pair["temporal: in one order"] == 1
    assert pair["temporal: median gap"] == 0
    assert pair["temporal: that after this"] == pytest.approx(0.5)
    # A was bought twice, and once C came back within 30 days of it; after 60 days it is too late
    assert pair["returns: that after this"] == pytest.approx(1 / 2)
    assert pair["returns: this after that"] == 0
    assert pair["returns: that after this beside chance"] == pytest.approx(np.log(1.5 / (2 * 2 / 4 + 0.5)))


def test_the_time_between_two_purchases_and_their_order():
    events = [
        *(("1", "A", "purchase", 0, "s1", "o1"), ("1", "B", "purchase", 3 * DAY, "s2", "o2")),
        *(("2", "A", "purchase", 0, "s3", "o3"), ("2", "B", "purchase", 3 * DAY, "s4", "o4")),
        *(("3", "B", "purchase", 0, "s5", "o5"), ("3", "A", "purchase", 40 * DAY, "s6", "o6")),
        *(("4", "B", "purchase", 0, "s7", "o7"), ("4", "A", "purchase", 20 * DAY, "s8", "o8")),
    ]
    shop = shop_of(events, None)
    facts = PairFacts.of(shop, window_days=30)
    pair = of_pair(shop, facts, "A", "B")
    assert pair["temporal: bought"] == pytest.approx(np.log1p(3 * PER / 8))  # 40 days are no pair
    assert pair["temporal: that after this"] == pytest.approx(2 / 3)
    assert of_pair(shop, facts, "B", "A")["temporal: that after this"] == pytest.approx(1 / 3)
    assert pair["temporal: in one order"] == 0
    gap = np.expm1(pair["temporal: median gap"])
    assert gap == pytest.approx(GAP_MIDDLES[np.abs(GAP_MIDDLES - 3).argmin()], rel=1e-6)
    for name in ("temporal: viewed", "temporal: in a row", "returns: that after this", "category: same leaf"):
        assert np.isnan(pair[name]), name  # the log and the catalogue have none


def linked(facts: PairFacts) -> PairFacts:
    graph = graph_of(np.array([0, 1, 2]), np.array([1, 2, 3]), shape=(4, 4))
    return facts.with_links(Links.of(graph, graph_of(np.array([0]), np.array([3]), shape=(4, 4))))


@pytest.mark.parametrize("links", [False, True])
def test_turned_rows_are_those_of_the_pair_the_other_way_round(facts, links):
    facts = linked(facts) if links else facts
    everything = np.array([(i, j) for i in range(4) for j in range(4)], np.int32)
    rows, back = pair_features(facts, *everything.T), pair_features(facts, *everything[:, ::-1].T)
    np.testing.assert_array_equal(turned(facts, rows), back)
    changed = {name for name, one, other in zip(pair_names(facts), rows.T, back.T, strict=True)
               if not np.array_equal(one, other, equal_nan=True)}  # fmt: skip
    assert changed
    assert all(re.search(r"\b(this|that)\b", name) for name in changed)


def test_a_pair_does_not_depend_on_what_else_is_asked(facts):
    left, right = np.divmod(np.arange(16, dtype=np.int32), 4)
    order = np.random.default_rng(0).permutation(16)
    rows = pair_features(facts, left, right)
    np.testing.assert_array_equal(pair_features(facts, left[order], right[order]), rows[order])
    np.testing.assert_array_equal(pair_features(facts, left[3:4], right[3:4]), rows[3:4])


def test_unknown_items_are_nan_and_unknown_values_too(shop, facts):
    rows = pair_features(facts, np.array([0, -1, 99, 2**40]), np.array([99, 0, 0, 0]))
    assert np.isnan(rows).all()
    pair = of_pair(shop, facts, "A", "D")
    assert np.isnan([pair["category: same leaf"], pair["price: ratio"], pair["brand: same"]]).all()
    assert pair["brand: unknown"] == 1


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 2), int), np.zeros(2), np.array(["a"]), np.zeros(3, int)],
    ids=["2-d", "float", "text", "long"],
)
def test_what_are_no_items_is_refused(facts, wrong):
    with pytest.raises(InputError, match=r"left|pairs"):
        pair_features(facts, wrong, np.zeros(2, int))


def test_paths_that_come_back_to_themselves_or_are_missing():
    items = {"item": ["A", "B", "C", "D"], "category": ["a/b/a", "a / b", "/", "b/a/" + "/".join("c" * 40)]}
    shop = shop_of(EVENTS, items)
    facts = PairFacts.of(shop)
    assert of_pair(shop, facts, "A", "B")["category: shared levels"] == 2
    assert of_pair(shop, facts, "A", "B")["category: same leaf"] == 0
    assert of_pair(shop, facts, "A", "D")["category: shared levels"] == 0  # a is elsewhere in the path
    assert np.isnan(of_pair(shop, facts, "A", "C")["category: shared levels"])
    assert of_pair(shop, facts, "D", "D")["category: same leaf"] == 1


@pytest.mark.parametrize("events", [EVENTS[:1], EVENTS[:4], EVENTS[4:6]], ids=["one click", "no purchases", "a basket"])
def test_little_or_nothing_happened(events):
    shop = shop_of(events)
    facts = PairFacts.of(shop)
    rows = pair_features(facts, np.zeros(shop.n_items, int), np.arange(shop.n_items))
    assert rows.shape == (shop.n_items, len(pair_names(facts)))
    assert not np.isinf(rows).any()


def test_prices_that_are_none_are_unknown():
    items = {**ITEMS, "price": [0.0, float("nan"), 10.0, 3.0]}
    shop = shop_of(EVENTS, items)
    facts = PairFacts.of(shop)
    assert np.isnan([of_pair(shop, facts, one, "C")["price: ratio"] for one in "AB"]).all()
    assert of_pair(shop, facts, "D", "C")["price: ratio"] == pytest.approx(0.3)


def test_long_sessions_and_large_baskets_cost_little():
    many = [("1", f"i{n}", kind, n, "s", "o" if kind == "purchase" else None) for n in range(2000) for kind in
            ("click", "purchase")]  # fmt: skip
    found = count_pairs(shop_of([*EVENTS, *many]), window_days=30, return_days=30, per_item=20)
    assert len(found.keys) < 2000  # neither two million pairs nor an error


def test_of_each_item_the_most_frequent_partners_are_counted():
    events = [("1", "A", "click", 0, "s0", None)]
    for place in range(30):
        session = f"s{place}"
        events += [(str(place), "A", "click", place * DAY, session, None)]
        events += [(str(place), f"b{n}", "click", place * DAY + n + 1, session, None) for n in range(place % 10, 10)]
    shop = shop_of(events, None)
    found = count_pairs(shop, window_days=30, return_days=30, per_item=3)
    a = shop.items.number("A")
    low, high = np.divmod(found.keys, shop.n_items)
    assert len(found.keys) < 11 * 10 / 2
    kept = {shop.items[int(x if y == a else y)] for x, y in zip(low, high, strict=True) if a in (x, y)}
    assert {"b9", "b8", "b7"} <= kept


# -- links -------------------------------------------------------------------------------------------------------------


def random_links(n: int = 30, seed: int = 0) -> tuple[Links, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    dense = []
    for share in (0.15, 0.1):
        upper = np.triu(rng.random((n, n)) < share, 1)
        dense.append((upper | upper.T).astype(float))
    return Links.of(*(csr_array(np.triu(graph)) for graph in dense)), dense


def test_neighbours_are_counted_as_on_dense_graphs_without_the_pairs_own_edge():
    links, dense = random_links()
    left, right = (part.astype(np.int32) for part in np.triu_indices(30, 1))
    found = dict(zip(LINK_NAMES, links.columns(left, right).T, strict=True))
    for place, (i, j) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        without = [graph.copy() for graph in dense]
        for graph in without:
            graph[i, j] = graph[j, i] = 0
        rival = 0.0
        for name, graph, other in (("goes with", *without), ("stands for", *without[::-1])):
            degree, here = graph.sum(axis=0), graph[i] * graph[j]
            common = np.flatnonzero(here)
            union = int((graph[i] + graph[j] > 0).sum())
            assert found[f"{name}: common"][place] == len(common)
            assert found[f"{name}: adamic-adar"][place] == pytest.approx((1 / np.log(1 + degree[common])).sum())
            assert found[f"{name}: allocation"][place] == pytest.approx((1 / degree[common]).sum())
            assert found[f"{name}: jaccard"][place] == pytest.approx(len(common) / max(union, 1))
            assert found[f"{name}: lower degree"][place] == min(degree[i], degree[j])
            assert found[f"{name}: higher degree"][place] == max(degree[i], degree[j])
            scale = 1 / np.sqrt(np.maximum(degree, 1))
            steps = (graph[i] * scale) @ graph @ (graph[j] * scale)
            assert found[f"{name}: three steps"][place] == pytest.approx(steps, rel=1e-5, abs=1e-6)
            between = np.flatnonzero(graph[i] * other[j])
            rival += (1 / np.sqrt(degree[between] * other.sum(axis=0)[between])).sum()
        assert found["through a rival"][place] == pytest.approx(rival, rel=1e-5)


def test_links_say_the_same_both_ways():
    links, _ = random_links()
    left, right = (part.astype(np.int32) for part in np.triu_indices(30, 1))
    np.testing.assert_allclose(links.columns(left, right), links.columns(right, left), rtol=1e-6, atol=1e-7)


def test_links_of_another_shop_or_of_one_graph_are_refused(facts):
    with pytest.raises(InputError, match="over 30 items, the shop has 4"):
        facts.with_links(random_links()[0])
    with pytest.raises(InputError, match="two graphs"):
        Links.of(csr_array((3, 3)), csr_array((4, 4)))


def test_loops_and_lines_given_twice_are_no_links():
    edges = csr_array((np.ones(5), ([0, 0, 1, 1, 2], [0, 1, 0, 2, 2])), shape=(3, 3))
    links = Links.of(edges, csr_array((3, 3)))
    assert links.others.tolist() == [1, 0, 2, 1]
    assert links.offsets.tolist() == [[0, 1, 3, 4], [4, 4, 4, 4]]


def test_of_pairs_that_never_met_all_behaviour_is_unknown(shop, facts):
    behaviour = np.isin(facts.groups_of_columns(), BEHAVIOUR)
    for one in "ABC":
        unmet = np.array(list(of_pair(shop, facts, one, "D").values()))
        assert np.isnan(unmet[behaviour]).all()
    met = np.array(list(of_pair(shop, facts, "A", "B").values()))
    assert not np.isnan(met[behaviour]).all()


def test_pairs_that_met_teach_once_more_as_if_they_had_not(facts):
    behaviour = np.isin(facts.groups_of_columns(), BEHAVIOUR)
    left, right = np.array([0, 0, 1, 0]), np.array([1, 2, 2, 3])
    rows = pair_features(facts, left, right)
    lesson = Lesson(rows, turned(facts, rows), np.array([False, True, True, False]), left, right)
    both = lesson.also_unmet(behaviour)
    np.testing.assert_array_equal(both.left, [0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(both.right, [1, 2, 2, 3, 1, 2, 2])
    np.testing.assert_array_equal(both.labels, [False, True, True, False, False, True, True])
    np.testing.assert_array_equal(both.rows[:4], rows)
    for part, again in ((lesson.rows, both.rows[4:]), (lesson.back, both.back[4:])):
        assert np.isnan(again[:, behaviour]).all()
        np.testing.assert_array_equal(again[:, ~behaviour], part[:3][:, ~behaviour])
    np.testing.assert_array_equal(both.weights, np.ones(7))
    for times, of_copy in ((20, LEAST_COPIES / 60), (2000, COPIES / 3)):
        more = Lesson(*(np.repeat(part, times, axis=0) for part in lesson[:5])).also_unmet(behaviour)
        np.testing.assert_allclose(np.unique(more.weights), [of_copy, 1])
