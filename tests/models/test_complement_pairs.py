"""Which pairs are known to be what, and that what is tested cannot be seen while learning."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import InputError
from endcap.models.complement.links import LINK_NAMES
from endcap.models.complement.pairs import (
    Evidence,
    Pairs,
    labelled_pairs,
    relation_links,
    some_pairs,
    split_pairs,
)
from endcap.shop import Shop

LINES = [
    ("a", "b", "also_bought"),
    ("b", "a", "also_bought"),  # a pair, not two
    ("a", "b", "also_bought"),
    ("a", "c", "also_viewed"),
    ("c", "b", "complement"),
    ("d", "b", "also_bought"),
    ("b", "d", "also_viewed"),  # both labels: dropped
    ("a", "a", "also_viewed"),
    ("a", "nobody", "also_bought"),
    ("a", "d", "same_colour"),
    (None, "d", "also_bought"),
]


def table_of(lines) -> pa.Table:
    return pa.table(dict(zip(("item", "other", "relation"), map(list, zip(*lines, strict=True)), strict=True)))


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.from_tables(pa.table({
        "user": list("1234"), "item": list("abcd"), "interaction": ["click"] * 4, "time": [1_700_000_000 + n for n in
                                                                                           range(4)],
    }))  # fmt: skip


def said(shop: Shop, pairs: Pairs) -> set[tuple[str, str, bool]]:
    return set(zip(shop.items.decode(pairs.left), shop.items.decode(pairs.right), pairs.label.tolist(), strict=True))


def test_relations_are_read_once_each_and_what_has_both_labels_is_dropped(shop):
    wanted = {("a", "b", True), ("b", "c", True), ("a", "c", False)}
    assert said(shop, labelled_pairs(shop, table_of(LINES))) == wanted
    assert said(shop, labelled_pairs(shop, table_of(LINES[::-1]))) == wanted
    own = labelled_pairs(shop, table_of(LINES), complements=["complement"], substitutes=["same_colour"])
    assert said(shop, own) == {("b", "c", True), ("a", "d", False)}


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (table_of(LINES).drop_columns(["other"]), "no column 'other'"),
        (table_of(LINES[:3]), "no pairs known as substitutes"),
        (table_of(LINES[3:4]), "no pairs known as complements"),
        (table_of([("x", "y", "also_bought")]), "no pairs known as complements"),
        (pa.table({"item": [[1]], "other": ["a"], "relation": ["also_bought"]}), "must be text"),
    ],
    ids=["column", "no substitutes", "no complements", "strangers", "lists"],
)
def test_relations_of_no_use_are_refused_in_one_line(shop, table, says):
    with pytest.raises(InputError, match=says) as refused:
        labelled_pairs(shop, table)
    assert "\n" not in str(refused.value)


def visits(*sessions: str) -> Shop:
    """Sessions of looks (small letters) and purchases (large ones)."""
    rows = [
        (
            f"u{place}",
            action.lower(),
            "click" if action.islower() else "purchase",
            1_700_000_000 + place * 99_999 + step,
        )
        for place, session in enumerate(sessions)
        for step, action in enumerate(session)
    ]
    columns = dict(zip(("user", "item", "interaction", "time"), map(list, zip(*rows, strict=True)), strict=True))
    return Shop.from_tables(pa.table(columns))


def test_behaviour_says_what_was_compared_and_what_was_bought_together():
    shop = visits("abab", "acAC", "bcBC", "ba", "cxC", "e")
    wanted = {("a", "b", False), ("a", "c", True), ("b", "c", True)}
    assert said(shop, labelled_pairs(shop, margin=1)) == wanted
    with pytest.raises(InputError, match="no pairs known as substitutes"):
        labelled_pairs(shop, min_viewed=20, margin=1)
    with pytest.raises(InputError, match="no pairs known as complements"):
        labelled_pairs(shop, min_bought=2, margin=1)


def evidence(*rows: tuple[float, ...], totals: tuple[float, ...] = (100, 1000, 100)) -> Evidence:
    return Evidence(*np.array(rows, np.float64).T, np.array(totals, np.float64))


@pytest.mark.parametrize(
    ("row", "label"),
    [
        # bought, compared, instead, bought by chance, compared by chance
        ((1, 0, 0, 0.1, 0.1), "complement"),
        ((1, 0, 0, 0.5, 0.1), None),  # twice as often as by chance is not three times
        ((1, 2, 1, 0.1, 0.1), "complement"),  # too few looks to count
        ((1, 3, 0, 0.1, 0.1), "complement"),  # a hundredth of the baskets, three thousandths of the looks
        ((1, 5, 0, 0.1, 0.1), None),  # both kinds, neither three times the other
        ((1, 40, 0, 0.1, 0.1), "substitute"),
        ((0, 3, 0, 0.1, 0.1), "substitute"),
        ((0, 2, 0, 0.1, 0.1), None),
        ((0, 3, 0, 0.1, 1.5), None),
        ((1, 0, 1, 0.1, 0.1), "complement"),
        ((1, 0, 2, 0.1, 0.1), None),  # more often bought in its place
        ((3, 0, 2, 0.1, 0.1), "complement"),
    ],
)
def test_a_label_is_what_happened_clearly_more_often(row, label):
    goes, stands = evidence(row).labels(1, 3, 2, 3.0)
    assert (goes[0], stands[0]) == (label == "complement", label == "substitute")


def test_no_pair_is_both_and_a_log_ten_times_as_long_says_the_same():
    rng = np.random.default_rng(0)
    rows = rng.poisson((1, 6, 1), (500, 3)) + np.array([1, 3, 0])
    chance = rng.random((500, 2))
    short = evidence(*np.append(rows, chance, axis=1), totals=tuple(rows.sum(axis=0)))
    long = evidence(*(10 * np.append(rows, chance, axis=1)), totals=tuple(10 * rows.sum(axis=0)))
    labels = short.labels(1, 1, 1, 2.0)
    assert not (labels[0] & labels[1]).any()
    assert labels[0].any() and labels[1].any()  # noqa: PT018
    np.testing.assert_array_equal(labels, long.labels(1, 1, 1, 2.0))


def test_what_was_bought_instead_of_what_was_looked_at_is_no_complement():
    rest = ("yzyzyz", "yz")  # substitutes, so that there are some
    together, instead = ("AB", "ACB", "cC"), ("aB", "aB", "aB")
    shop = visits(*together, *rest)
    assert ("a", "b", True) in said(shop, labelled_pairs(shop, margin=1))
    shop = visits(*together, *instead, *rest)
    assert ("a", "b", True) not in said(shop, labelled_pairs(shop, margin=1))
    assert ("a", "b", True) in said(shop, labelled_pairs(shop, margin=1, min_after=4))


@pytest.mark.parametrize("sessions", [("a",), ("ab", "ab"), ("AB",)], ids=["one click", "no purchases", "one basket"])
def test_a_log_that_says_too_little_is_refused(sessions):
    with pytest.raises(InputError, match="no pairs known as"):
        labelled_pairs(visits(*sessions))


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("min_bought", "min_viewed", "min_after") for value in (0, 1.5)]
    + [("margin", value) for value in (0.5, float("nan"), float("inf"))],
)
def test_occasions_are_counted_from_one(name, value):
    with pytest.raises(InputError, match=name):
        labelled_pairs(visits("abab", "AC"), **{name: value})


# -- splits ------------------------------------------------------------------------------------------------------------


def many_pairs(n_items: int = 60, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    left, right = np.triu_indices(n_items, 1)
    kept = rng.random(len(left)) < 0.4
    return Pairs(left[kept].astype(np.int32), right[kept].astype(np.int32), rng.random(kept.sum()) < 0.5)


def keys(pairs: Pairs) -> set[tuple[int, int]]:
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def test_parts_are_disjoint_and_in_their_shares():
    pairs = many_pairs()
    parts = split_pairs(pairs, "edges", 3)
    assert sum(len(part) for part in parts) == len(pairs) == len(set.union(*map(keys, parts)))
    assert [len(part) for part in parts] == pytest.approx(
        [0.7 * len(pairs), 0.15 * len(pairs), 0.15 * len(pairs)], abs=1
    )


def test_items_of_a_part_are_in_no_pair_of_another():
    pairs = many_pairs()
    parts = split_pairs(pairs, "nodes", 3, (0.4, 0.3, 0.3))
    nodes = [set(part.left.tolist()) | set(part.right.tolist()) for part in parts]
    assert all(len(part) for part in parts)
    assert not nodes[0] & nodes[1] and not nodes[0] & nodes[2] and not nodes[1] & nodes[2]  # noqa: PT018
    for part, mine in zip(parts, nodes, strict=True):
        inside = {pair for pair in keys(pairs) if set(pair) <= mine}
        assert keys(part) == inside  # nothing is left out but what lies across


@pytest.mark.parametrize("how", ["edges", "nodes"])
def test_a_split_is_its_seeds_alone(how):
    pairs = many_pairs()
    first, again, other = (split_pairs(pairs, how, seed)[2] for seed in (1, 1, 2))
    assert keys(first) == keys(again) != keys(other)


def test_splits_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="nodes and edges"):
        split_pairs(many_pairs(), "time")
    with pytest.raises(InputError, match="add up to 1"):
        split_pairs(many_pairs(), "edges", 0, (0.5, 0.4, 0.3))


def test_some_pairs_are_as_many_of_either_label():
    some = some_pairs(many_pairs(), 50, 1)
    assert (int(some.label.sum()), len(some)) == (50, 100)
    assert some.majority == 0.5
    assert len(some_pairs(many_pairs(5), 1000)) == len(many_pairs(5))


def test_links_to_be_foreseen_leave_both_graphs(shop):
    table = table_of(LINES)
    everything = relation_links(table, shop.items)
    assert everything.others.tolist() == [1, 0, 2, 3, 1, 1, 2, 3, 0, 1]
    hidden = Pairs(np.array([1, 0], np.int32), np.array([3, 1], np.int32), np.array([True, True]))
    left = relation_links(table, shop.items, [hidden])
    assert left.others.tolist() == [2, 1, 2, 0]  # b and d had both kinds of link
    columns = dict(zip(LINK_NAMES, left.columns(np.array([0], np.int32), np.array([1], np.int32))[0], strict=True))
    assert columns["through a rival"] > 0  # c stands for a, and goes with b
