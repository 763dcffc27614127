"""The classifier on a shop whose truth is known: one leaf holds substitutes, leaves of one activity complements."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from endcap import simulate
from endcap.errors import DamagedArtefact, InputError
from endcap.models.complement import Complement
from endcap.models.complement.counts import BOUGHT, IN_ROW, TOGETHER
from endcap.models.complement.features import GROUPS, Lesson, PairFacts, pair_features, pair_names, turned
from endcap.models.complement.measures import auc
from endcap.models.complement.model import SETTLED, TREES_FILE
from endcap.models.complement.pairs import Pairs, labelled_pairs, relation_links, split_pairs
from endcap.shop import Shop
from endcap.simulate import ShopSettings

METHODS = ("logistic", "boosting")
QUICK = {"trees": 60, "learning_rate": 0.1, "min_rows": 5}


class Planted(NamedTuple):
    shop: Shop
    leaf: np.ndarray
    true: Pairs  # pairs of one leaf, and as many of two leaves of an activity


@pytest.fixture(scope="module")
def planted() -> Planted:
    return planted_of(ShopSettings(events=30_000, items=160, leaf_size=8, seed=4, best=0))


@pytest.fixture(scope="module")
def thin() -> Planted:
    """So many items that hardly any two of them meet."""
    return planted_of(ShopSettings(events=60_000, items=3_000, best=0))


def planted_of(settings: ShopSettings) -> Planted:
    made = simulate.tables(settings)
    shop = Shop.from_tables(made.events, made.items)
    of = dict(zip(*(made.truth["items"][name].to_pylist() for name in ("item", "leaf")), strict=True))
    leaf = np.array([of[item] for item in shop.items.ids.to_pylist()])
    names, number = np.unique(leaf, return_inverse=True)
    place = {name: row for row, name in enumerate(names.tolist())}
    activities: dict[int, list[int]] = {}
    for activity, name in zip(
        *(made.truth["activities"][name].to_pylist() for name in ("activity", "leaf")), strict=True
    ):
        activities.setdefault(activity, []).extend([place[name]] if name in place else [])
    together = np.zeros((len(names), len(names)), bool)
    for leaves in activities.values():
        together[np.ix_(leaves, leaves)] = True
    left, right = np.triu_indices(shop.n_items, 1)
    same = number[left] == number[right]
    label = together[number[left], number[right]] & ~same
    kept = label | same
    return Planted(shop, leaf, Pairs(left[kept].astype(np.int32), right[kept].astype(np.int32), label[kept]))


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, planted) -> Complement:
    return Complement(method=request.param, **QUICK).fit(planted.shop)


def test_a_share_and_the_rest_of_it_are_exact_however_the_pair_is_named(planted: Planted) -> None:
    facts = PairFacts.of(planted.shop)
    left, right = np.divmod(np.flatnonzero(~np.eye(facts.n_items, dtype=bool)), facts.n_items)
    rows, back = pair_features(facts, left, right), pair_features(facts, right, left)
    np.testing.assert_array_equal(turned(facts, rows), back)
    shares = rows[:, pair_names(facts).index("temporal: that after this")]
    assert len(np.unique(shares[~np.isnan(shares)])) > 9


def test_what_behaviour_taught_is_the_truth(planted, fitted):
    found = fitted.probability(planted.true.left, planted.true.right)
    assert auc(planted.true.label, found) > 0.95
    assert ((found > 0.5) == planted.true.label).mean() > 0.9
    assert fitted.learned["judged"]["accuracy"] > fitted.learned["judged"]["majority"] + 0.2
    assert fitted.learned["judged"]["ece"] < 0.1  # of some two hundred pairs


@pytest.mark.parametrize("method", [*METHODS, "gnn"])
def test_rivals_and_complements_that_nobody_met_are_told_by_the_catalogue(thin, method):
    model = Complement(method=method, epochs=2, members=1).fit(thin.shop)
    key = thin.true.left.astype(np.int64) * thin.shop.n_items + thin.true.right
    unmet = thin.true.where(~np.isin(key, model.facts.keys))
    for label in (False, True):
        assert (unmet.label == label).sum() > 10_000
        some = unmet.where(np.flatnonzero(unmet.label == label)[:10_000])
        passes = model.probability(some.left, some.right) > 0.5
        assert passes.mean() > 0.95 if label else passes.mean() < 0.1, label


@pytest.mark.parametrize("method", METHODS)
def test_baskets_that_settle_a_pair_outweigh_looks_at_both(planted, method):
    """Two rivals that were looked at together are bought in one basket, again and again."""
    model = Complement(method=method, **QUICK).fit(planted.shop)
    rivals = planted.true.where(~planted.true.label)
    key = rivals.left.astype(np.int64) * planted.shop.n_items + rivals.right
    looked = np.isin(key, model.facts.keys[model.facts.counts[:, IN_ROW] >= model.config.min_viewed])
    rival = rivals.where(looked).where(np.arange(1))
    assert model.probability(rival.left, rival.right)[0] < 0.1
    row = int(np.searchsorted(model.facts.keys, key[looked][0]))
    surest = model._calibration.shares[-1]
    for baskets, settled in ((SETTLED - 1, False), (SETTLED + 30, True)):
        counts = np.array(model.facts.counts)
        counts[row, [BOUGHT, TOGETHER]] = baskets
        model.over(replace(model.facts, counts=counts))
        found = model.probability(rival.left, rival.right)
        assert (found[0] == np.float32(surest)) == settled
        np.testing.assert_array_equal(model.probability(rival.right, rival.left), found)
    guessed = model._guessed(model.lesson(rival))
    told = model.contributions(rival.left, rival.right).sum() - model._calibration.scores[-1]
    model._settled = model._settled[:0]
    assert told == pytest.approx(model.contributions(rival.left, rival.right).sum() - guessed[0], abs=1e-3)


def test_the_answer_has_no_direction_and_no_order(planted, fitted):
    left, right = planted.true.left[:300], planted.true.right[:300]
    found = fitted.probability(left, right)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(fitted.probability(right, left), found)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(fitted.probability(left[order], right[order]), found[order])
    assert fitted.probability(left[:0], right[:0]).shape == (0,)


def test_contributions_add_up_to_the_log_odds(planted, fitted):
    left, right = planted.true.left[:200], planted.true.right[:200]
    parts = fitted.contributions(left, right)
    assert parts.shape == (200, len(GROUPS))
    raw = fitted.raw(left, right).astype(np.float64)
    rest = np.log(raw / (1 - raw)) - parts.sum(axis=1)
    known = (raw > 1e-4) & (raw < 1 - 1e-4)  # float32 says no more beyond
    assert np.ptp(rest[known]) < 1e-2
    assert (parts[:, GROUPS.index("links")] == 0).all()
    same = planted.leaf[left] == planted.leaf[right]
    of_category = parts[:, GROUPS.index("category")]
    assert of_category[same].mean() < 0 < of_category[~same].mean()


def test_unknown_items_get_an_answer(fitted):
    found = fitted.probability(np.array([0, 10**6, -1]), np.array([10**6, 0, -1]))
    assert ((found > 0) & (found < 1)).all()


def test_stored_and_opened_it_says_the_same(planted, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    opened = Complement.open(tmp_path / "model")
    left, right = planted.true.left, planted.true.right
    np.testing.assert_array_equal(opened.probability(left, right), fitted.probability(left, right))
    np.testing.assert_array_equal(opened.contributions(left, right), fitted.contributions(left, right))
    assert (opened.config, opened.learned, opened.names) == (fitted.config, fitted.learned, fitted.names)
    assert opened._known().items.fingerprint() == planted.shop.items.fingerprint()
    opened.save(tmp_path / "again")
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in files:
        assert (tmp_path / "model" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_answers(planted, method):
    first, again = (Complement(method=method, **QUICK).fit(planted.shop, seed=5) for _ in range(2))
    left, right = planted.true.left, planted.true.right
    np.testing.assert_array_equal(first.probability(left, right), again.probability(left, right))
    assert first.learned == again.learned


def test_a_changed_or_foreign_folder_is_refused(planted, fitted, tmp_path):
    fitted.save(tmp_path / "model")
    manifest = {**json.loads((tmp_path / "model" / "manifest.json").read_text())}
    manifest["features"] = manifest["features"][1:]
    with pytest.raises(DamagedArtefact, match="looks at other things"):
        Complement.read(tmp_path / "model", manifest)
    with pytest.raises(InputError, match="no classifier of complements"):
        Complement.load(tmp_path / "model", {**manifest, "system": "popularity"})
    victim = sorted((tmp_path / "model").glob("complement*"))[0]
    victim.write_bytes(victim.read_bytes()[:-3])
    with pytest.raises(DamagedArtefact):
        Complement.open(tmp_path / "model")


def test_trees_that_are_none_are_refused_before_lightgbm_reads_them(planted, tmp_path):
    model = Complement(**QUICK).fit(planted.shop)
    model.save(tmp_path / "model")
    text = (tmp_path / "model" / TREES_FILE).read_text()
    for spoilt in ("", text[: len(text) // 2], text.replace("objective=binary", "objective=lambdarank")):
        (tmp_path / "model" / TREES_FILE).write_text(spoilt)
        with pytest.raises(DamagedArtefact, match="train it again"):
            Complement.read(tmp_path / "model", model.about())


# -- relations ---------------------------------------------------------------------------------------------------------


def relations_of(planted: Planted, pairs: Pairs) -> pa.Table:
    ids = planted.shop.items.ids
    return pa.table({
        "item": ids.take(pa.array(pairs.left)),
        "other": ids.take(pa.array(pairs.right)),
        "relation": np.where(pairs.label, "also_bought", "also_viewed").tolist(),
    })  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_from_relations_and_knows_their_links(planted, method, tmp_path):
    some = planted.true.where(np.random.default_rng(0).random(len(planted.true)) < 0.5)
    table = relations_of(planted, some)
    bare = replace(planted.shop, catalogue=planted.shop.catalogue.select(["item"]))  # where the leaf is no column
    model = Complement(method=method, **QUICK).fit(bare, table)
    assert model.learned["judged"]["accuracy"] > 0.95
    assert {name.partition(": ")[0] for name in model.names} == set(GROUPS)
    parts = model.contributions(some.left, some.right)
    by_links = parts[:, GROUPS.index("links")]
    assert by_links[some.label].mean() > 0.5 > -0.5 > by_links[~some.label].mean()
    assert (parts[:, GROUPS.index("category")] == 0).all()
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        Complement.open(tmp_path / "model").probability(some.left, some.right), model.probability(some.left, some.right)
    )
    with pytest.raises(InputError, match="fitted with links"):
        model.know(bare)
    model.know(bare, table)
    assert "links" not in {name.partition(": ")[0] for name in model.fit(bare).names}  # learnt anew, without


@pytest.mark.parametrize("how", ["nodes", "edges"])
@pytest.mark.parametrize("method", METHODS)
def test_labels_that_nothing_but_their_own_edge_tells_cannot_be_foreseen(how, method):
    """Graphs drawn by chance with labels drawn by chance: whoever sees the edge of the pair is always right."""
    rng = np.random.default_rng(7)
    n = 400
    left, right = np.triu_indices(n, 1)
    drawn = rng.random(len(left)) < 0.06
    pairs = Pairs(left[drawn].astype(np.int32), right[drawn].astype(np.int32), rng.random(drawn.sum()) < 0.5)
    ids = [f"i{number:03}" for number in range(n)]
    events = {"user": ["u"] * n, "item": ids, "interaction": ["click"] * n, "time": [1_700_000_000 + 9_999 * t for t in
                                                                                     range(n)]}  # fmt: skip
    shop = Shop.from_tables(pa.table(events))
    assert shop.items.ids.to_pylist() == ids
    table = pa.table({
        "item": [ids[one] for one in pairs.left], "other": [ids[other] for other in pairs.right],
        "relation": np.where(pairs.label, "complement", "substitute").tolist(),
    })  # fmt: skip
    assert len(labelled_pairs(shop, table)) == len(pairs)
    parts = split_pairs(pairs, how, 0, (0.5, 0.2, 0.3))
    facts = PairFacts.of(shop, relation_links(table, shop.items, parts[1:]))
    model = Complement(method=method, **QUICK).over(facts)
    model.fit_on(model.lesson(parts[0]), model.lesson(parts[1]))
    test = parts[2]
    noise = 0.5 / np.sqrt(min(test.label.sum(), (~test.label).sum()))
    assert abs(auc(test.label, model.raw(test.left, test.right)) - 0.5) < 4 * noise
    assert model.judge(test).accuracy < 0.5 + 5 * noise


# -- what it is given --------------------------------------------------------------------------------------------------


def lesson(labels: list[bool], columns: int = 3) -> Lesson:
    rows = np.random.default_rng(0).random((len(labels), columns)).astype(np.float32)
    return Lesson(rows, rows, np.array(labels))


GOOD = lesson([True, False] * 30)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("train", "validation", "says"),
    [
        (lesson([True] * 9), GOOD, "none of the training pairs are substitutes"),
        (GOOD, lesson([False] * 9), "none of the held-out pairs are complements"),
        (lesson([]), GOOD, "label"),
        (GOOD._replace(labels=np.ones(3, bool)), GOOD, "a label"),
        (GOOD._replace(labels=np.ones(60)), GOOD, "a label"),
        (GOOD._replace(rows=np.full_like(GOOD.rows, np.inf)), GOOD, "infinite"),
        (GOOD._replace(rows=np.array(["a"])), GOOD, "rows"),
        (GOOD._replace(back=GOOD.back[:3]), GOOD, "the other way"),
    ],
)
def test_lessons_that_teach_nothing_are_refused(method, train, validation, says):
    with pytest.raises(InputError, match=says):
        Complement(method=method).fit_on(train, validation)


@pytest.mark.parametrize("method", METHODS)
def test_columns_of_nothing_but_nan_do_no_harm(method):
    rng = np.random.default_rng(3)
    labels = rng.random(600) < 0.5
    rows = np.stack([labels + rng.normal(0, 0.5, 600), np.full(600, np.nan), np.zeros(600)], axis=1).astype(np.float32)
    rows[rng.random(600) < 0.2, 0] = np.nan
    given = Lesson(rows, rows, labels)
    model = Complement(method=method, min_rows=5)
    model.fit_on(given, given)
    known = ~np.isnan(rows[:, 0])
    right = (model._scorer.log_odds(rows) > 0) == labels
    assert right[known].mean() > 0.75
    assert np.isfinite(model._scorer.log_odds(rows)).all()


def test_a_missing_value_that_tells_is_used():
    """Logistic regression has a weight for what is missing."""
    rng = np.random.default_rng(3)
    labels = rng.random(400) < 0.5
    rows = np.where(labels, np.nan, rng.normal(size=400)).astype(np.float32)[:, None]
    model = Complement(method="logistic").fit_on(Lesson(rows, rows, labels), Lesson(rows, rows, labels))
    assert ((model._scorer.log_odds(rows) > 0) == labels).all()


@pytest.mark.parametrize("ask", ["probability", "raw", "contributions"])
def test_an_untrained_one_says_so(planted, ask, tmp_path):
    with pytest.raises(InputError, match="call fit"):
        getattr(Complement(), ask)(np.zeros(1, int), np.zeros(1, int))
    knows = Complement().know(planted.shop)
    with pytest.raises(InputError, match="call fit first"):
        getattr(knows, ask)(np.zeros(1, int), np.zeros(1, int))
    for model in (Complement(), knows):
        with pytest.raises(InputError, match="call fit first"):
            model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_settings_are_checked():
    with pytest.raises(InputError, match="did you mean 'method'"):
        Complement(methods="logistic")
    with pytest.raises(InputError, match="complement"):
        Complement(method="guess")


def test_a_shop_that_teaches_nothing_is_refused():
    one = pa.table({"user": ["u"], "item": ["i"], "interaction": ["purchase"], "time": [1_700_000_000]})
    with pytest.raises(InputError, match="no pairs known as complements"):
        Complement().fit(Shop.from_tables(one))


def test_facts_of_a_shop_have_the_names_that_were_learnt(planted, fitted):
    assert fitted.facts is not None
    assert tuple(pair_names(fitted.facts)) == fitted.names
    assert fitted.facts.groups_of_columns()[0] == "category"
