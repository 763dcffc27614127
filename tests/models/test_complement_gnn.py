"""The graph network on planted links, whose labels nothing but the labels of other links tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from endcap.errors import DamagedArtefact, InputError
from endcap.graph.edges import graph_of
from endcap.models.complement import Complement
from endcap.models.complement.alike import ALIKE_NAMES, WIDTH, alike_columns
from endcap.models.complement.features import BEHAVIOUR, GROUPS, Lesson, PairFacts
from endcap.models.complement.gnn import KINDS, SIGNS, Heard
from endcap.models.complement.links import Links
from endcap.models.complement.measures import auc
from endcap.models.complement.pairs import Pairs, relation_links, split_pairs
from endcap.shop import Shop

QUICK = {"method": "gnn", "epochs": 6, "members": 1, "dim": 16}
TYPES, OF_TYPE = 8, 12


def bare_shop(n: int) -> Shop:
    """A shop that knows its items and nothing of them."""
    ids = [f"i{number:04}" for number in range(n)]
    rows = {"user": ["u"] * n, "item": ids, "interaction": ["click"] * n, "time": [1_700_000_000 + 9_999 * t for t in
                                                                                    range(n)]}  # fmt: skip
    shop = Shop.from_tables(pa.table(rows))
    assert shop.items.ids.to_pylist() == ids
    return shop


def table_of(pairs: Pairs) -> pa.Table:
    return pa.table({
        "item": [f"i{one:04}" for one in pairs.left],
        "other": [f"i{other:04}" for other in pairs.right],
        "relation": np.where(pairs.label, "complement", "substitute").tolist(),
    })  # fmt: skip


def planted(seed: int = 0) -> Pairs:
    """Items of hidden types; which types go with each other, and which stand for each other, is drawn by chance.

    So neither how many links an item has nor how many neighbours two share says the label: only what the items that
    are like the one are to the other.
    """
    rng = np.random.default_rng(seed)
    of = rng.permutation(np.repeat(np.arange(TYPES), OF_TYPE))
    rule = np.triu(rng.random((TYPES, TYPES)) < 0.5)
    rule = rule | np.triu(rule, 1).T
    left, right = np.triu_indices(len(of), 1)
    drawn = rng.random(len(left)) < 0.3
    left, right = left[drawn], right[drawn]
    return Pairs(left.astype(np.int32), right.astype(np.int32), rule[of[left], of[right]])


@pytest.fixture(scope="module")
def shop() -> Shop:
    return bare_shop(TYPES * OF_TYPE)


@pytest.fixture(scope="module")
def parts() -> tuple[Pairs, Pairs, Pairs]:
    return split_pairs(planted(), "edges", 0, (0.5, 0.2, 0.3))


@pytest.fixture(scope="module")
def facts(shop, parts) -> PairFacts:
    return PairFacts.of(shop, relation_links(table_of(planted()), shop.items, parts[1:]))


def fitted_on(facts: PairFacts, parts: tuple[Pairs, ...], **settings) -> Complement:
    model = Complement(**settings).over(facts)
    return model.fit_on(model.lesson(parts[0]), model.lesson(parts[1]))


@pytest.fixture(scope="module")
def fitted(facts, parts) -> Complement:
    return fitted_on(facts, parts, **QUICK)


def test_it_reads_labels_off_links_of_links(fitted, parts):
    test = parts[2]
    assert auc(test.label, fitted.raw(test.left, test.right)) > 0.85
    assert fitted.judge(test).accuracy > test.majority + 0.15


def test_two_hops_whose_meaning_hangs_on_each_other_are_read_where_logistic_regression_cannot():
    """A pair is a complement if it shares what goes with both or what stands for both, and not if it shares both."""
    n = 600
    left = np.arange(0, 2 * n, 2, dtype=np.int32)
    pairs = Pairs(left, left + 1, np.zeros(n, bool))
    shares = np.random.default_rng(2).random((2, n)) < 0.5
    graphs = []
    for graph, shared in enumerate(shares):
        middle = 2 * n + 2 * (np.arange(n) + n * graph)
        ends = np.stack([np.append(left, left + 1), np.append(middle, np.where(shared, middle, middle + 1))])
        graphs.append(graph_of(*ends, shape=(6 * n, 6 * n)))
    facts = PairFacts.of(bare_shop(6 * n), Links.of(*graphs))
    parts = split_pairs(replace(pairs, label=shares[0] ^ shares[1]), "edges", 0, (0.6, 0.2, 0.2))
    test = parts[2]
    found = {
        method: auc(test.label, fitted_on(facts, parts, method=method, **settings).raw(test.left, test.right))
        for method, settings in (("gnn", {"epochs": 30, "members": 1, "dim": 8}), ("logistic", {}))
    }
    assert found["gnn"] > 0.95
    assert found["logistic"] < 0.7


def test_labels_by_chance_cannot_be_foreseen(shop):
    """Whoever sees the edge of the pair, in any sum, is always right."""
    pairs = planted()
    pairs = replace(pairs, label=np.random.default_rng(3).random(len(pairs)) < 0.5)
    parts = split_pairs(pairs, "edges", 0, (0.5, 0.2, 0.3))
    facts = PairFacts.of(shop, relation_links(table_of(pairs), shop.items, parts[1:]))
    test = parts[2]
    found = auc(test.label, fitted_on(facts, parts, **QUICK).raw(test.left, test.right))
    assert abs(found - 0.5) < 4 * 0.5 / np.sqrt(min(test.label.sum(), (~test.label).sum()))


@pytest.mark.parametrize("kind", [(True,), (False,), (True, False)], ids=["goes with", "stands for", "both"])
def test_the_edge_of_the_asked_pair_says_nothing(shop, facts, parts, fitted, kind):
    test = parts[2].where(np.arange(len(parts[2])) < 20)
    known = parts[0]
    for row in range(20):
        one = test.where(np.array([row]))
        extra = [replace(one, label=np.array([label])) for label in kind]
        table = pa.concat_tables([table_of(known), *(table_of(pair) for pair in extra)])
        with_it, without = (PairFacts.of(shop, relation_links(given, shop.items)) for given in (table, table_of(known)))
        model = Complement(**QUICK)
        for part in ("names", "_network", "_scorer", "_calibration"):
            setattr(model, part, getattr(fitted, part))
        said = [model.over(given).raw(one.left, one.right)[0] for given in (with_it, without)]
        np.testing.assert_allclose(said[0], said[1], rtol=0, atol=1e-5)
        columns = [alike_columns(*given.links, one.left, one.right) for given in (with_it, without)]
        np.testing.assert_array_equal(*columns)
    fitted.over(facts)


def test_both_ways_it_says_the_same_to_the_last_bit(fitted, parts):
    left, right = parts[2].left, parts[2].right
    np.testing.assert_array_equal(fitted.raw(left, right), fitted.raw(right, left))
    assert fitted.raw(left[:0], right[:0]).shape == (0,)


def test_items_numbered_otherwise_are_told_apart_as_well(shop):
    pairs = planted()
    order = np.random.default_rng(5).permutation(TYPES * OF_TYPE).astype(np.int32)
    one, other = order[pairs.left], order[pairs.right]
    moved = Pairs(np.minimum(one, other), np.maximum(one, other), pairs.label)
    found = []
    for given in (pairs, moved):
        parts = split_pairs(given, "edges", 0, (0.5, 0.2, 0.3))
        facts = PairFacts.of(shop, relation_links(table_of(given), shop.items, parts[1:]))
        found.append(auc(parts[2].label, fitted_on(facts, parts, **QUICK).raw(parts[2].left, parts[2].right)))
    assert abs(found[0] - found[1]) < 0.05


def test_stored_and_opened_it_says_the_same(shop, tmp_path):
    table = table_of(planted())
    model = Complement(**QUICK).fit(shop, table)
    assert model.learned["judged"]["accuracy"] > model.learned["judged"]["majority"] + 0.15
    model.save(tmp_path / "model")
    opened = Complement.open(tmp_path / "model")
    left, right = np.arange(40, dtype=np.int32), np.arange(40, 80, dtype=np.int32)
    np.testing.assert_array_equal(opened.probability(left, right), model.probability(left, right))
    np.testing.assert_array_equal(opened.contributions(left, right), model.contributions(left, right))
    with pytest.raises(DamagedArtefact, match="train it again"):
        Complement.read(tmp_path / "model", opened.about() | {"config": {**opened.about()["config"], "dim": 8}})
    with pytest.raises(DamagedArtefact, match="train it again"):
        Complement.read(tmp_path / "model", opened.about() | {"config": {**opened.about()["config"], "members": 2}})
    with pytest.raises(InputError, match="fitted with links"):
        opened.know(shop)
    again = Complement(**QUICK).fit(shop, table)
    np.testing.assert_array_equal(again.probability(left, right), model.probability(left, right))


def test_what_is_lost_without_a_group_says_what_it_was_worth(fitted, parts):
    test = parts[2]
    lost = fitted.contributions(test.left, test.right)
    assert lost.shape == (len(test), len(GROUPS))
    by_links = lost[:, GROUPS.index("links")]
    assert by_links[test.label].mean() > by_links[~test.label].mean() + 0.5
    assert (lost[:, GROUPS.index("price")] == 0).all()


def test_without_relations_the_log_gives_the_links():
    rows = [
        (f"u{user}", f"{kind}{(user * 7 + step) % 10}", "purchase" if step % 2 else "click", 1_700_000_000 + place)
        for place, (user, step) in enumerate((user, step) for user in range(60) for step in range(6))
        for kind in "aabbab"[step]
    ]
    columns = dict(zip(("user", "item", "interaction", "time"), map(list, zip(*rows, strict=True)), strict=True))
    facts = PairFacts.of(Shop.from_tables(pa.table(columns)))
    assert facts.links is None
    links = facts.with_links_of_log().links
    assert links is not None
    assert (np.diff(links.offsets, axis=1).sum(axis=1) > 0).all()
    left, right = np.triu_indices(facts.n_items, 1)
    pairs = Pairs(left.astype(np.int32), right.astype(np.int32), (left + right) % 2 == 0)
    model = fitted_on(facts, (pairs, pairs), **QUICK)
    assert np.isfinite(model.raw(pairs.left, pairs.right)).all()
    met = model.lesson(pairs)
    behaviour = np.isin(facts.with_links_of_log().groups_of_columns(), BEHAVIOUR)
    unmet = met._replace(rows=np.where(behaviour, np.nan, met.rows), back=np.where(behaviour, np.nan, met.back))
    by_trees = [model._of_scorer(lesson) for lesson in (met, unmet)]
    assert (model._guessed(met) != by_trees[0]).any()
    np.testing.assert_array_equal(model._guessed(unmet), by_trees[1])


def test_unknown_items_and_items_without_links_get_an_answer(fitted):
    found = fitted.probability(np.array([0, 10**6, -1]), np.array([10**6, 0, -1]))
    assert ((found > 0) & (found < 1)).all()
    nothing = Links(np.zeros((2, 4), np.int64), np.empty(0, np.int32))
    heard = Heard(PairFacts.of(bare_shop(3), nothing))
    assert not heard.without(np.array([0, 5, -1]), np.array([1, 0, 2])).any()


def test_a_lesson_that_does_not_say_its_items_is_refused(facts, parts):
    model = Complement(**QUICK).over(facts)
    lesson = model.lesson(parts[0])
    with pytest.raises(InputError, match="needs the items of every pair"):
        model.fit_on(Lesson(lesson.rows, lesson.back, lesson.labels), model.lesson(parts[1]))
    with pytest.raises(InputError, match="needs the items of every pair"):
        model.fit_on(lesson._replace(left=lesson.left[:3]), model.lesson(parts[1]))
    with pytest.raises(InputError, match="call fit"):
        Complement(**QUICK).raw(parts[0].left, parts[0].right)
    with pytest.raises(InputError, match="dim"):
        Complement(method="gnn", dim=1)


# -- likeness ----------------------------------------------------------------------------------------------------------


def test_likeness_is_what_its_definition_says():
    rng = np.random.default_rng(1)
    n = 14
    graphs = [np.triu(rng.random((n, n)) < 0.4, 1) for _ in range(2)]
    graphs = [graph | graph.T for graph in graphs]
    offsets = np.stack([np.append(0, np.cumsum(graph.sum(1))) for graph in graphs])
    offsets[1] += offsets[0, -1]
    others = np.concatenate([np.nonzero(graph)[1] for graph in graphs]).astype(np.int32)
    left, right = (ends.astype(np.int32) for ends in np.triu_indices(n, 1))
    found = alike_columns(offsets, others, left, right)
    assert found.shape == (len(left), len(ALIKE_NAMES))
    turned = np.roll(found, WIDTH, axis=1)
    np.testing.assert_allclose(alike_columns(offsets, others, right, left), turned, rtol=1e-5)
    for row, (i, j) in enumerate(zip(left, right, strict=True)):
        cut = [graph.copy() for graph in graphs]
        for graph in cut:
            graph[i, j] = graph[j, i] = False
        kinds = [cut[0][i] & ~cut[1][i], cut[1][i] & ~cut[0][i], cut[0][i] & cut[1][i]]
        expected = []
        for graph in cut:
            likeness = np.array([(graph[k] & graph[j]).sum() ** 2 / max(1, graph[k].sum() * graph[j].sum()) for k in
                                 range(n)])  # fmt: skip
            sums = [likeness[kind].sum() for kind in kinds]
            expected += [*sums, *(one / sum(sums) if sum(sums) else 0 for one in sums)]
        np.testing.assert_allclose(found[row, :WIDTH], [*expected, *(kind.sum() for kind in kinds)], rtol=1e-5)


def test_what_a_node_hears_is_what_a_graph_without_the_edge_says(facts, shop, parts):
    known = parts[0]
    heard = Heard(facts)
    for row in range(5):
        rest = Heard(PairFacts.of(shop, relation_links(table_of(known), shop.items, [known.where(np.array([row]))])))
        i, j = known.left[row : row + 1].astype(np.int64), known.right[row : row + 1].astype(np.int64)
        full = Heard(PairFacts.of(shop, relation_links(table_of(known), shop.items)))
        np.testing.assert_allclose(full.without(i, j), rest.without(i, j), atol=1e-4)
        assert np.abs(heard.without(i, j) - heard.without(i, i)).max() > 1e-3
    assert heard.width == 2 + KINDS + (KINDS + KINDS**2) * SIGNS
