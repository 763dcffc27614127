"""The second pass: features against plain loops, a shop whose right order is known, storing, and what it refuses."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import NOTHING, Candidates, History, Ranks, Request
from endcap.errors import DamagedArtefact, InputError
from endcap.models.ranker import Groups, Ranker, TwoPass, pool
from endcap.models.ranker_features import BACK, DAY_US, Facts, feature_names, features, pack
from endcap.models.trees import MODEL_FILE, Trees, sound_trees
from endcap.shop import Shop
from endcap.shop.searches import Searches

PER_SIDE = 12  # items of each category
START = 1_600_000_000
# One action looked back at: which item came how long ago would give the ring away without any source.
QUICK = {"history": 1, "min_rows": 5, "trees": 100, "learning_rate": 0.2, "leaves": 8, "queries": 1500, "columns": 1.0}
HALF = 3 * PER_SIDE  # steps of each person before the stretch


@cache
def ring_shop(category: bool = True) -> Shop:
    """Everybody walks from an item to the next one of its category, for ever: a0, a1 ... a11, a0; b0, b1 ...

    As many people set out from each item, all walk at the same pace and whole rounds: but for the category nothing
    tells an item of one ring from one of the other.
    """
    rows = [("u0", f"{side}{n}", START + n) for n in range(PER_SIDE) for side in "ab"]
    for person in range(4 * PER_SIDE):
        side, at = "ab"[person % 2], person // 2
        rows += [
            (f"u{person}", f"{side}{(at + step) % PER_SIDE}", START + 100 + step * 3600) for step in range(2 * HALF)
        ]
    names = sorted({item for _, item, _ in rows})
    users, items, times = zip(*rows, strict=True)
    table = pa.table({"user": users, "item": items, "interaction": ["click"] * len(rows), "time": times})
    categories = [f"{name[0] if category else 'all'}/things" for name in names]
    catalogue = pa.table({"item": names, "category": categories, "price": [1.0] * 24})
    return Shop.from_tables(table, catalogue)


def middle(shop: Shop) -> int:
    return (START + 100 + HALF * 3600) * 1_000_000


class Knows:
    """Puts the next item of one category first; of the other one it has no idea, and says so just as surely."""

    def __init__(self, side: str, shop: Shop, named: str) -> None:
        self.side, self.shop, self.named, self.asked = side, shop, named, list[Request]()

    def candidates(self, request: Request) -> Candidates:
        self.asked.append(request)
        last = self.shop.items[int(request.history.items[-1])] if len(request.history) else "a0"
        same = [name for name in self.shop.items.ids.to_pylist() if name[0] == last[0] and name != last]
        right = f"{last[0]}{(int(last[1:]) + 1) % PER_SIDE}"
        rng = np.random.default_rng([ord(self.side), len(request.history), int(last[1:])])  # each guesses by itself
        order = rng.permutation(same).tolist()
        if last[0] == self.side:
            order = [right, *(name for name in order if name != right)]
        items = self.shop.items.encode(order)[: request.k]
        return Candidates(items, np.linspace(1, 0.1, len(items), dtype=np.float32), [self.named] * len(items))


def sources() -> dict[str, Knows]:
    return {"for-a": Knows("a", ring_shop(), "for-a"), "for-b": Knows("b", ring_shop(), "for-b")}


@cache
def trained(category: bool = True) -> Ranker:
    """Fitted once; tests do not change it."""
    shop = ring_shop(category)
    return Ranker(**QUICK, repeats=True, next_actions=1).fit(shop, sources(), start=middle(shop))


def share_right(answers: Ranker | Knows, sides: str = "ab") -> float:
    """How often the first item of the list is the next one."""
    shop, right = ring_shop(), []
    for side in sides:
        for at in range(PER_SIDE):
            past = shop.items.encode([f"{side}{(at + step) % PER_SIDE}" for step in range(5)])
            history = History(past, np.zeros(5, np.int8), np.arange(5) * DAY_US)
            request = Request(k=20, history=history)
            model = TwoPass(answers, sources()) if isinstance(answers, Ranker) else answers
            right.append(shop.items[int(model.candidates(request).items[0])] == f"{side}{(at + 5) % PER_SIDE}")
    return float(np.mean(right))


# -- learning ----------------------------------------------------------------------------------------------------------


def test_it_learns_whom_to_trust_where() -> None:
    """The category says which source knows; without it half of the first places are right, and some by chance."""
    assert share_right(trained()) == 1.0
    assert share_right(trained(category=False)) < 0.75
    for source in sources().values():
        assert 0.5 <= share_right(source) < 0.75


def test_same_seed_same_trees() -> None:
    shop = ring_shop()
    again = Ranker(**QUICK, repeats=True, next_actions=1).fit(shop, sources(), start=middle(shop))
    assert again._grown().text == trained()._grown().text


def test_sources_are_asked_with_what_came_before_and_nothing_else() -> None:
    shop, asked = ring_shop(), sources()
    Ranker(**QUICK, repeats=True).fit(shop, asked, start=middle(shop))
    for request in asked["for-a"].asked:
        history = shop.history(request.user)
        n = len(request.history)
        np.testing.assert_array_equal(request.history.times, history.times[:n])
        assert history.times[n] >= middle(shop)


def test_sources_are_told_what_was_searched_for_before_and_nothing_later(shop: Shop) -> None:
    class Silent:
        def __init__(self) -> None:
            self.asked = list[Request]()

        def candidates(self, request: Request) -> Candidates:
            self.asked.append(request)
            return Candidates(NOTHING, np.empty(0, np.float32), [])

    start, source, searches = shop.cut("21d"), Silent(), Searches(shop.events)
    pools = Ranker(queries=500).know(shop.until(start)).ask(shop, {"it": source}, start, shop.end)
    for user, request in zip(pools.user.tolist(), source.asked, strict=True):
        asked_at = int(shop.history(user).times[len(request.history)])
        assert request.searches == searches.before(user, asked_at)
        assert all(time < asked_at for _, time in request.searches)
    assert sum(len(request.searches) for request in source.asked) > 10


def test_nothing_of_the_stretch_is_a_fact_and_nothing_after_it_is_reachable() -> None:
    shop, end = ring_shop(), middle(ring_shop()) + 20 * 3600 * 1_000_000
    times = shop.events.time
    before = Shop.from_tables(
        pa.table(
            {
                "user": shop.users.decode(shop.events.user[times < end]),
                "item": shop.items.decode(shop.events.item[times < end]),
                "interaction": ["click"] * int((times < end).sum()),
                "time": times[times < end] // 1_000_000,
            }
        ),
        shop.catalogue.select(["item", "category", "price"]),
    )
    settings = {**QUICK, "repeats": True}
    view = Ranker(**settings).fit(shop.until(end), sources(), start=middle(shop))
    ignorant = Ranker(**settings).fit(before, sources(), start=middle(shop))
    assert view._grown().text == ignorant._grown().text
    known = Facts.of(shop.until(middle(shop)), 7 * DAY_US)
    np.testing.assert_array_equal(view.facts.ever, known.ever)
    np.testing.assert_array_equal(view.facts.idle, known.idle)


def test_a_source_that_has_seen_the_stretch_is_refused() -> None:
    shop = ring_shop()
    full = models.create("popularity").fit(shop)
    with pytest.raises(InputError, match="popularity has seen the stretch"):
        Ranker().fit(shop, {"popularity": full}, start=middle(shop))


def test_new_items_alone_are_ranked_unless_repeats_are_wanted() -> None:
    shop = ring_shop()
    ranker = Ranker(**QUICK).know(shop.until(middle(shop)))
    pools = ranker.ask(shop, sources(), middle(shop), shop.end)
    assert (pools.wanted == 0).all()  # after so many rounds everybody knows all of their category
    assert (pools.candidates == -1).all()
    with pytest.raises(InputError, match="none of the candidates was acted on"):
        ranker.fit_on(ranker.groups(pools))


def test_people_of_one_half_only_are_asked() -> None:
    shop = ring_shop()
    ranker = Ranker(**QUICK, repeats=True).know(shop.until(middle(shop)))
    halves = [ranker.ask(shop, sources(), middle(shop), shop.end, parity=parity).user for parity in (0, 1)]
    assert [set((half % 2).tolist()) for half in halves] == [{0}, {1}]


def test_early_stop_keeps_fewer_trees() -> None:
    rng = np.random.default_rng(0)
    names = ["a: b", "c: d"]

    def groups(seed: int) -> Groups:
        rows = np.random.default_rng(seed).random((400, 2), np.float32)
        return Groups(names, rows, rng.integers(0, 2, 400), np.full(20, 20))

    ranker = Ranker(patience=3, trees=200, min_rows=2).fit_on(groups(1), groups(2))
    assert 0 < ranker.learned["trees"] < 200


# -- answers -----------------------------------------------------------------------------------------------------------


def request_of(*names: str, **more: object) -> Request:
    items = ring_shop().items.encode(names)
    return Request(k=20, history=History(items, np.zeros(len(items), np.int8), np.arange(len(items)) * DAY_US), **more)


def lists_of(request: Request) -> dict[str, Candidates]:
    return {name: source.candidates(request) for name, source in sources().items()}


def test_the_order_of_candidates_and_sources_does_not_matter() -> None:
    request = request_of("a3", "a4")
    found = lists_of(request)
    rng = np.random.default_rng(1)
    shuffled = {}
    for name in reversed(found):
        order = rng.permutation(len(found[name]))
        shuffled[name] = Candidates(found[name].items[order], found[name].scores[order], [name] * len(order))
    one, other = trained().rank(request, found), trained().rank(request, shuffled)
    np.testing.assert_array_equal(one.items, other.items)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert (np.diff(one.scores) <= 0).all()


def test_a_missing_source_an_empty_one_and_none_at_all() -> None:
    request = request_of("a3", "a4")
    found = lists_of(request)
    empty = Candidates(NOTHING, np.empty(0, np.float32), [])
    alone = trained().rank(request, {"for-a": found["for-a"]})
    assert sorted(alone.items) == sorted(found["for-a"].items)
    np.testing.assert_array_equal(alone.items, trained().rank(request, {"for-a": found["for-a"], "for-b": empty}).items)
    assert len(trained().rank(request, {"for-a": empty}).items) == len(trained().rank(request, {}).items) == 0


def test_a_person_without_history_and_items_that_nobody_knew() -> None:
    found = {"for-a": Candidates(np.array([3, 9_999], np.int32), np.ones(2, np.float32), ["for-a"] * 2)}
    ranking = trained().rank(Request(k=5), found)
    assert sorted(ranking.items.tolist()) == [3, 9_999]
    assert np.isfinite(ranking.scores).all()


def test_the_item_asked_about_counts_as_the_latest_action() -> None:
    asked = request_of("a3", item=int(ring_shop().items.number("a4")))
    done = request_of("a3", "a4")
    found = lists_of(done)
    names = trained().names
    column = names.index("item: actions ago")
    items, scores = pool(found)
    rows = [trained()._features(request, items, scores)[:, column] for request in (asked, done)]
    np.testing.assert_array_equal(*rows)


def test_reasons_are_the_strongest_and_say_what_is_true() -> None:
    ranking = trained().rank(request := request_of("a3", "a4"), lists_of(request))
    reasons = ranking.reasons(ranking.items[:2])
    assert len(reasons) == 2
    for mine in reasons:
        values = [abs(reason.value) for reason in mine]
        assert {reason.kind for reason in mine} == {"ranker"}
        assert 0 < len(mine) <= 3
        assert values == sorted(values, reverse=True)
    assert reasons[0][0].value > 0
    assert any(reason.note.endswith(" puts it high") for reason in reasons[0])
    assert TwoPass(trained(), sources()).explain(request, int(ranking.items[0])) == reasons[0]


def test_given_candidates_get_the_scores_of_their_ranking() -> None:
    request = request_of("b3", "b4")
    ranking = trained().rank(request, lists_of(request))
    given = TwoPass(trained(), sources()).score(request, ranking.items)
    np.testing.assert_allclose(given, ranking.scores)
    items, scores = pool(lists_of(request))
    packed = trained().score_many(
        pack([request.history]), np.append(items, -1)[None], {n: np.append(s, np.nan)[None] for n, s in scores.items()}
    )
    assert np.isneginf(packed[0, -1])
    np.testing.assert_allclose(packed[0, np.searchsorted(items, ranking.items)], ranking.scores)


def test_what_a_source_fell_back_to_does_not_count() -> None:
    found = {"m": Candidates(np.array([5, 2, 7], np.int32), np.array([3, 2, 9], np.float32), ["m", "m", "m/popular"])}
    items, scores = pool(found)
    assert items.tolist() == [2, 5]
    assert scores["m"].tolist() == [2, 3]


# -- features ----------------------------------------------------------------------------------------------------------


def random_facts(rng: np.random.Generator, n_items: int = 30) -> Facts:
    shop = ring_shop()
    names = shop.items.ids.to_pylist()
    links = pa.table(
        {
            "item": rng.choice(names, 60),
            "other": rng.choice(names, 60),
            "relation": rng.choice(["also", "instead"], 60),
        }
    )
    facts = Facts.of(shop, 7 * DAY_US, links)
    codes = rng.integers(-1, 4, (3, shop.n_items)).astype(np.int32)
    price = np.where(rng.random(shop.n_items) < 0.2, np.nan, rng.random(shop.n_items) * 50 + 1).astype(np.float32)
    return facts._replace(codes=codes, price=price)


@pytest.mark.parametrize("seed", range(3))
def test_features_are_what_plain_loops_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts = random_facts(rng)
    n, c, window = 6, 9, 7
    histories = []
    for length in rng.integers(0, 12, n).tolist():
        times = np.sort(rng.integers(0, 50 * DAY_US, length))
        histories.append(History(rng.integers(0, 27, length).astype(np.int32), np.zeros(length, np.int8), times))
    candidates = rng.integers(-1, 27, (n, c)).astype(np.int32)
    given = {"m": np.where(rng.random((n, c)) < 0.3, np.nan, rng.integers(0, 5, (n, c))).astype(np.float32)}
    found = features(facts, pack(histories), candidates, given, window)
    column = {name: place for place, name in enumerate(feature_names(facts, ["m"]))}
    assert found.shape == (n, c, len(column))
    linked = {
        (relation, item): set(facts.others[facts.offsets[r, item] : facts.offsets[r, item + 1]].tolist())
        for r, relation in enumerate(facts.relations)
        for item in range(facts.n_items)
    }
    for q, h in np.ndindex(n, c):
        item, past = int(candidates[q, h]), histories[q].last(window)
        if not 0 <= item < facts.n_items:
            continue
        latest = [(int(i), int(t)) for i, t in zip(past.items[::-1], past.times[::-1], strict=True)]
        known = [(ago, i, t) for ago, (i, t) in enumerate(latest) if i < facts.n_items]
        tests = {"item": lambda i, item=item: i == item}
        for row, name in enumerate(("category", "brand", "seller")):
            codes = facts.codes[row]
            tests[name] = lambda i, codes=codes, item=item: codes[item] >= 0 and codes[i] == codes[item]
        for relation in facts.relations:
            tests[f"relation {relation}"] = lambda i, relation=relation, item=item: item in linked[relation, i]
        for family, is_match in tests.items():
            agos = [(ago, t) for ago, i, t in known if is_match(i)]
            for span in (1, 5, 10):
                expected = sum(ago < span for ago, _ in agos)
                assert found[q, h, column[f"{family}: in the last {span}"]] == expected, family
            assert found[q, h, column[f"{family}: in all"]] == len(agos)
            ago, days = (agos[0][0] + 1, (latest[0][1] - agos[0][1]) / DAY_US) if agos else (np.nan, np.nan)
            np.testing.assert_equal(found[q, h, column[f"{family}: actions ago"]], np.float32(ago))
            np.testing.assert_allclose(found[q, h, column[f"{family}: days ago"]], days, rtol=1e-6)
        prices = [facts.price[i] for _, i, _ in known if not np.isnan(facts.price[i])]
        ratio = np.log(facts.price[item]) - np.median(np.log(prices)) if prices else np.nan
        np.testing.assert_allclose(found[q, h, column["price: beside the median of the history"]], ratio, atol=1e-5)
        mine, row_scores = given["m"][q, h], given["m"][q]
        place = np.nan if np.isnan(mine) else 1 + (row_scores > mine).sum()
        np.testing.assert_equal(found[q, h, column["source m: place"]], np.float32(place))
        assert found[q, h, column["source m: named"]] == (not np.isnan(mine))
        assert found[q, h, column["history: length"]] == len(known)


def test_relations_are_read_both_ways() -> None:
    shop = ring_shop()
    links = pa.table({"item": ["a0", "a0", "ghost"], "other": ["b5", "b5", "a0"], "relation": ["also"] * 3})
    facts = Facts.of(shop, DAY_US, links)
    assert facts.relations == ("also", "also" + BACK)
    a0, b5 = shop.items.number("a0"), shop.items.number("b5")
    assert facts.others[facts.offsets[0, a0] : facts.offsets[0, a0 + 1]].tolist() == [b5]
    assert facts.others[facts.offsets[1, b5] : facts.offsets[1, b5 + 1]].tolist() == [a0]
    assert len(facts.others) == 2
    assert Facts.of(shop, DAY_US, links, both_ways=False).relations == ("also",)


@pytest.mark.parametrize("both_ways", [True, False])
def test_the_relations_come_back_as_they_were_given(both_ways: bool) -> None:
    shop = ring_shop()
    links = pa.table({"item": ["a1", "a0", "a0"], "other": ["a0", "b5", "b4"], "relation": ["also", "instead", "also"]})
    strange = pa.table({"item": ["ghost"], "other": ["a0"], "relation": ["also"]})
    facts = Facts.of(shop, DAY_US, pa.concat_tables([links, strange]), both_ways=both_ways)
    told = facts.links(shop.items, both_ways=both_ways)
    assert sorted(map(str, told.to_pylist())) == sorted(map(str, links.to_pylist()))
    again = Facts.of(shop, DAY_US, told, both_ways=both_ways)
    assert again.relations == facts.relations
    np.testing.assert_array_equal(again.offsets, facts.offsets)
    np.testing.assert_array_equal(again.others, facts.others)
    assert Facts.of(shop, DAY_US).links(shop.items, both_ways=both_ways) is None


def test_popularity_counts_beside_the_mean_item() -> None:
    events = pa.table(
        {
            "user": ["u", "u", "v", "v"],
            "item": ["i0", "i0", "i0", "i1"],
            "interaction": ["click", "click", "click", "purchase"],
            "time": [START, START + 86400, START + 10 * 86400, START + 10 * 86400],
        }
    )
    facts = Facts.of(Shop.from_tables(events), 2 * DAY_US)
    assert facts.ever[0].tolist() == [2, 0]
    assert facts.lately[0].tolist() == [2, 0]
    assert facts.ever[3].tolist() == [0, 2]
    assert facts.idle[0, 0] == 0
    assert np.isnan(facts.idle[0, 1])


# -- storing -----------------------------------------------------------------------------------------------------------


def test_a_ranker_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    trained().save(tmp_path / "ranker")
    opened = models.open(tmp_path / "ranker")
    assert isinstance(opened, Ranker)
    assert isinstance(opened, Ranks)
    assert (opened.config, opened.sources, opened.names) == (trained().config, trained().sources, trained().names)
    request = request_of("a3", "a4")
    ours, theirs = (ranker.rank(request, lists_of(request)) for ranker in (trained(), opened))
    np.testing.assert_array_equal(ours.items, theirs.items)
    np.testing.assert_array_equal(ours.scores, theirs.scores)
    assert ours.reasons(ours.items[:3]) == theirs.reasons(theirs.items[:3])
    names = {path.suffix for path in (tmp_path / "ranker").iterdir()}
    assert names == {".json", ".parquet", ".npy", ".txt"}


def test_a_damaged_file_of_trees_is_refused(tmp_path: Path) -> None:
    trained().save(tmp_path / "ranker")
    path = tmp_path / "ranker" / MODEL_FILE
    path.write_text(path.read_text().replace("leaf_value=0", "leaf_value=1", 1))
    with pytest.raises(DamagedArtefact, match=MODEL_FILE):
        models.open(tmp_path / "ranker")
    manifest = json.loads((tmp_path / "ranker" / "manifest.json").read_text())
    path.write_text("tree\nversion=v4\n")
    with pytest.raises(DamagedArtefact, match="no trees of a ranker"):
        Ranker.load(tmp_path / "ranker", manifest)


def text_of_trees() -> str:
    return lightgbm.Booster(model_str=trained()._grown().text).model_to_string()


def test_sound_trees_pass_without_what_stands_around_them() -> None:
    text = text_of_trees()
    sound = sound_trees(text, len(trained().names))
    assert sound == sound_trees(sound, len(trained().names))
    assert "pandas_categorical" in text
    assert "pandas_categorical" not in sound
    last = lightgbm.Booster(model_str=sound)
    rows = np.random.default_rng(0).random((50, len(trained().names)), np.float32)
    np.testing.assert_array_equal(last.predict(rows), trained()._grown().sums(rows))


def test_a_few_wrong_letters_are_refused_or_harmless() -> None:
    """LightGBM ends the process, or reads beyond its arrays, over a text like most of these."""
    text, rng = list(text_of_trees()), np.random.default_rng(0)
    rows, refused = np.zeros((2, len(trained().names)), np.float32), 0
    for _ in range(150):
        spoilt = text.copy()
        for place in rng.integers(0, len(text), rng.integers(1, 4)).tolist():
            spoilt[place] = rng.choice(list("0123456789-. =\nabe"))
        try:
            sound = sound_trees("".join(spoilt), len(trained().names))
        except (ValueError, KeyError):
            refused += 1
        else:
            found = lightgbm.Booster(model_str=sound).predict(rows)
            assert np.isfinite(found).all()
            np.testing.assert_array_equal(Trees(sound, len(trained().names)).sums(rows), found)
    assert 0 < refused < 150


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"^tree$", "tre"),
        (r"^objective=lambdarank$", "objective=regression"),
        (r"^max_feature_idx=\d+$", "max_feature_idx=9999"),
        (r"^leaf_value=(-?[\d.e-]+)", lambda m: "leaf_value=" + "nan".ljust(len(m[1]), "n")),
        (r"^leaf_value=(-?[\d.e-]+)", lambda m: "leaf_value=" + "inf".ljust(len(m[1]))),
        (r"^threshold=(-?[\d.e-]+)", lambda m: "threshold=" + "nan".ljust(len(m[1]), "n")),
        (r"^num_leaves=\d", "num_leaves=9"),
        (r"^num_cat=0$", "num_cat=1"),
        (r"^left_child=(-?\d+)", lambda m: "left_child=" + "0".ljust(len(m[1]))),
        (r"^Tree=1$", "Tree=7"),
        (r"^tree_sizes=\d+", "tree_sizes=7"),
        (r"^num_cat=0$", "num_cat=0\nnum_cat=0"),
        (r"^end of trees(.|\n)*", ""),
        (r"^Tree=1(.|\n)*", ""),
    ],
)
def test_trees_that_cannot_be_are_refused(pattern: str, instead: object) -> None:
    text = re.sub(pattern, instead, text_of_trees(), count=1, flags=re.MULTILINE)
    assert text != text_of_trees()
    with pytest.raises((ValueError, KeyError)):
        sound_trees(text, len(trained().names))


def test_trees_over_features_that_do_not_exist_are_refused() -> None:
    text = re.sub(r"^max_feature_idx=\d+$", "max_feature_idx=0", text_of_trees(), flags=re.MULTILINE)
    with pytest.raises(ValueError, match="a split that cannot be"):
        sound_trees(text, 1)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused() -> None:
    facts, past = trained().facts, pack([History()])
    with pytest.raises(InputError, match=r"array \(1, c\)"):
        features(facts, past, np.zeros((2, 3), np.int32), {})
    with pytest.raises(InputError, match="scores of m"):
        features(facts, past, np.zeros((1, 3), np.int32), {"m": np.zeros((1, 2), np.float32)})
    rows = np.zeros((4, 1), np.float32)
    for groups, says in (
        (Groups(["x"], rows, np.array([0, 1, 0, 0]), np.array([3])), "3 rows in all"),
        (Groups(["x", "y"], rows, np.array([0, 1, 0, 0]), np.array([4])), "f names"),
        (Groups(["x"], rows, np.array([0, -1, 0, 0]), np.array([4])), "grades from 0"),
        (Groups(["x"], rows, np.array([0, 0, 0, 0]), np.array([4])), "none of the candidates"),
    ):
        with pytest.raises(InputError, match=says):
            Ranker().fit_on(groups)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"item": ["a0"], "other": ["a1"]}, "no column 'relation'"),
        ({"item": ["a0"], "other": ["a1"], "relation": [None]}, "0 different names"),
        ({"item": ["a0"] * 40, "other": ["a1"] * 40, "relation": [str(n) for n in range(40)]}, "40 different names"),
        ({"item": [["a0"]], "other": ["a1"], "relation": ["x"]}, "must be text"),
    ],
)
def test_relations_that_are_none_are_refused(table: dict[str, list], says: str) -> None:
    with pytest.raises(InputError, match=says):
        Facts.of(ring_shop(), DAY_US, pa.table(table))


def test_an_untrained_ranker_says_so(tmp_path: Path) -> None:
    for act in (
        lambda: Ranker().save(tmp_path / "x"),
        lambda: Ranker().rank(Request(k=3), lists_of(request_of("a1"))),
        lambda: TwoPass(Ranker(), {}),
    ):
        with pytest.raises(InputError, match="call fit"):
            act()
    with pytest.raises(InputError, match="for-b is missing"):
        TwoPass(trained(), {"for-a": sources()["for-a"]})
    with pytest.raises(InputError, match="no setting 'treees'; did you mean 'trees'"):
        Ranker(treees=3)
