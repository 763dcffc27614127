"""CoActionGraphRec and its family on shops with known truth, and on bad input."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import History, Request
from endcap.errors import InputError
from endcap.index import Exact
from endcap.models.coaction_graph import CoActionGraph, Pairs
from endcap.nn.histories import Past
from endcap.nn.pair_codes import signed_distance
from endcap.shop import Shop

from .shops import checkerboard, quick, simulated

CLICK, PURCHASE = 0, 3
DEEP = ["sasrec", "gru4rec", "comirec", "coaction-graph"]
COLOURS, KINDS = ("red", "blue", "green"), ("tent", "stove", "boot", "lamp", "rope", "mug")


def two_interests(n_users: int = 150, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Titled items of three colours; each person likes two colours and acts on items of these."""
    rng = np.random.default_rng(seed)
    titles = {
        f"{colour}-{kind}-{n}": f"{colour} {kind} number {n}" for colour in COLOURS for kind in KINDS for n in range(3)
    }
    ids = list(titles)
    rows = []
    for user in range(n_users):
        liked = rng.choice(3, 2, replace=False)
        own = [ids[colour * 18 + place] for colour in liked for place in rng.permutation(18)[:7]]
        rng.shuffle(own)
        rows += [(f"u{user}", item, "click", 1_600_000_000 + 100 * place + user) for place, item in enumerate(own)]
    names = ("user", "item", "interaction", "time")
    events = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    return events, pa.table({"item": ids, "title": list(titles.values())})


@cache
def camp() -> Shop:
    return Shop.from_tables(*two_interests())


@cache
def board() -> Shop:
    return checkerboard(n_users=10)


@cache
def trained(system: str = "coaction-graph", **settings: object) -> models.Model:
    by_position = BY_POSITION if system in ("sasrec", "gru4rec") else {}
    return models.create(system, TRAINED | by_position | settings).fit(camp())


TRAINED = {
    "dim": 16,
    "epochs": 12,
    "learning_rate": 0.01,
    "batch_size": 256,
    "negatives": 0,
    "patience": 25,
    "longest": 14,
}
BY_POSITION = {"batch_size": 16, "epochs": 50}  # a person is one instance


def history(shop: Shop, *items: str, kind: int = CLICK) -> History:
    numbers = np.array([shop.items.number(item) for item in items], np.int32)
    return History(numbers, np.full(len(items), kind, np.int8), np.arange(len(items), dtype=np.int64) * 60_000_000)


def colours_of(shop: Shop, items: np.ndarray) -> list[str]:
    return [shop.items[int(item)].partition("-")[0] for item in items]


@pytest.mark.parametrize("system", DEEP)
def test_a_person_of_one_colour_is_shown_that_colour(system):
    shop, model = camp(), trained(system)
    past = history(shop, "red-tent-0", "red-stove-1", "red-boot-2", "red-mug-0")
    answer = model.candidates(Request(k=8, history=past))
    assert colours_of(shop, answer.items).count("red") >= 6


def test_several_interests_are_all_served():
    """All of a person's two colours stand before nearly all of the third."""
    shop, model = camp(), trained()
    past = history(shop, "red-tent-0", "blue-stove-1", "red-boot-2", "blue-mug-0", "red-rope-1", "blue-lamp-2")
    found = colours_of(shop, model.candidates(Request(k=24, history=past)).items)
    assert found.count("red") >= 5
    assert found.count("blue") >= 5
    assert found.count("green") <= 5  # nine by chance


def test_a_score_is_the_largest_product_and_lists_are_in_its_order():
    shop, model = camp(), trained()
    request = Request(k=shop.n_items, history=history(shop, "red-tent-0", "blue-stove-1"))
    queries, answer = model.queries(request), model.candidates(request)
    assert queries.shape == (4, 16)
    vectors = model.spaces()["items"].vectors
    np.testing.assert_allclose(answer.scores, (vectors @ queries.T).max(1)[answer.items], rtol=1e-4)
    np.testing.assert_allclose(model.score(request, answer.items), answer.scores, rtol=1e-4, atol=1e-5)
    assert len(set(answer.items.tolist())) == shop.n_items


def test_an_attached_index_is_searched_once_an_interest():
    shop, model = camp(), models.create("coaction-graph", {**TRAINED, "epochs": 1}).fit(camp())
    asked = []

    class Spy(Exact):
        def search(self, queries, k, allowed=None):
            asked.append(queries.shape)
            return super().search(queries, k, allowed)

    request = Request(k=5, history=history(shop, "red-tent-0", "blue-stove-1"))
    before = model.candidates(request)
    model.attach({"items": Spy(model.spaces()["items"])})
    after = model.candidates(request)
    assert asked == [(4, 16)]
    np.testing.assert_array_equal(before.items, after.items)


def test_reasons_name_the_past_items_behind_an_interest():
    shop, model = camp(), trained()
    past = history(shop, "red-tent-0", "red-stove-1", "blue-mug-0")
    request = Request(k=20, history=past)
    answer = model.candidates(request)
    for item, score in zip(answer.items, answer.scores, strict=True):
        (reason,) = model.explain(request, int(item))
        assert reason.kind == "interest"
        assert set(reason.items) <= set(past.items.tolist())
        assert reason.value == pytest.approx(float(score), rel=1e-4)
    red = next(item for item in answer.items if shop.items[int(item)].startswith("red"))
    (reason,) = model.explain(request, int(red))
    assert shop.items[reason.items[0]].startswith("red")
    assert model.explain(Request(k=5), int(red)) == []


def test_an_item_never_seen_is_found_by_its_title():
    """New red things are nearer to a person of red things than new blue ones, though nobody acted on any."""
    shop, model = camp(), trained()
    new = pa.table({"item": ["n1", "n2"], "title": ["red lamp number 9", "blue lamp number 9"]})
    red, blue = model.encode_items(new)
    queries = model.queries(Request(k=5, history=history(shop, "red-tent-0", "red-stove-1", "red-boot-2", "red-mug-0")))
    assert (queries @ red).max() > (queries @ blue).max() + 0.5


def test_a_new_item_gets_the_co_action_of_its_like(tmp_path):
    """By its text alone it is shorter than what it competes with; a twin stands where its like stands."""
    shop, model = camp(), trained()
    twins = pa.table({"item": [f"n{n}" for n in range(shop.n_items)], "title": shop.catalogue["title"]})
    vectors, alone = model.encode_items(twins), model._text_vectors(twins)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(models.open(tmp_path / "model").encode_items(twins), vectors)
    places = {"like": [], "alone": []}
    for user in range(40):
        request = Request(k=8, history=shop.history(user))
        queries, scores = model.queries(request), model.score(request, np.arange(shop.n_items, dtype=np.int32))
        for name, given in (("like", vectors), ("alone", alone)):
            own = (given[model.candidates(request).items] @ queries.T).max(1)
            places[name] += (scores > own[:, None]).sum(1).tolist()
    assert np.median(places["like"]) < 10
    assert np.median(places["alone"]) > 15
    plain = models.create("coaction-graph", {**TRAINED, "epochs": 1, "relations": "none"}).fit(shop)
    np.testing.assert_array_equal(plain.encode_items(twins), plain._text_vectors(twins))


def test_items_of_the_catalogue_that_nobody_acted_on_are_as_new_ones():
    events, items = two_interests(60)
    more = pa.table({"item": ["n1"], "title": ["red lamp number 9"]})
    shop = Shop.from_tables(events, pa.concat_tables([items, more]))
    model = models.create("coaction-graph", {**TRAINED, "epochs": 3}).fit(shop)
    np.testing.assert_array_equal(model._table[shop.items.number("n1")], model.encode_items(more)[0])


def test_encoding_needs_no_column_and_bears_any_text():
    model = trained()
    table = pa.table({"item": ["a", "b", "c", "d"], "title": ["", "x", "red tent " * 120_000, None]})
    vectors = model.encode_items(table)
    assert vectors.shape == (4, 16)
    assert np.isfinite(vectors).all()
    assert model.encode_items(pa.table({"item": ["a"]})).shape == (1, 16)
    assert model.encode_items(table.slice(0, 0)).shape == (0, 16)


def test_co_action_helps_and_shuffled_neighbours_do_not():
    """Items without text: what is left of the item tower is who was looked at together."""
    events, items = two_interests(60, seed=1)
    shop = Shop.from_tables(events, items.select(["item"]))
    settings = {**TRAINED, "epochs": 4, "text": "none", "validation_people": 60, "validation_metric": "recall@10"}
    real, shuffled = (
        models.create("coaction-graph", settings | {"shuffle_neighbours": changed}).fit(shop).best_score
        for changed in (False, True)
    )
    assert real > 1.15 * shuffled


def test_every_ablation_is_a_setting():
    for changed in (
        {"relations": "none"}, {"relations": "click"}, {"relations": "purchase"}, {"edges": []}, {"explicit": False},
        {"interests": 1}, {"dual_loss": 0.0}, {"dual_loss": 0.4}, {"logq": 0.0}, {"shuffle_neighbours": True},
        {"nodes": "e"}, {"gate": True}, {"extraction": "routing"}, {"extraction": "mind"}, {"extraction": "mean"},
        {"temperature": 0.07}, {"routing_penalty": 100.0}, {"text": "none"}, {"layers": 2},
        {"loss": "pairwise"}, {"loss": "binary"}, {"targets": "all"}, {"target_weights": {"click": 0.5}},
        {"validation": "0.2"}, {"negatives": 16, "negatives_exponent": 0.75},
    ):  # fmt: skip
        model = models.create("coaction-graph", {**TRAINED, "epochs": 1} | changed).fit(board())
        answer = model.candidates(Request(k=3, history=model_history(0)))
        assert len(answer) == 3, changed


def test_training_logs_the_cosine_of_items_and_the_codes_of_pairs():
    log = trained()._learned()["course"]["epochs"][-1]
    assert -0.2 < log["mean_cosine"] < 1
    shares = [value for name, value in log.items() if name.startswith("edge.position.")]
    assert sum(shares) == pytest.approx(1, abs=0.01)
    assert max(shares) < 1


# -- pairs of actions --------------------------------------------------------------------------------------------------


def test_codes_compare_the_second_action_with_the_first():
    attributes = {
        "brand": np.array([0, 0, 1, -1]),
        "price": np.array([10, 10, 30, np.nan], np.float32),
    }
    pairs = Pairs(attributes, ("brand", "price", "time", "position", "behaviour"), 4, 50)
    minute = 60_000_000
    past = Past(np.array([[0, 2, 3, 1]]), np.array([[0, 3, 0, 0]]), np.array([[0, 0, 5 * minute, 1500 * minute]]))
    codes = pairs.codes(past, "cpu")[0].numpy()
    names = list(pairs.tables)
    start = dict(zip(names, np.cumsum([0, *pairs.tables.values()])[:-1], strict=True))
    assert names == ["behaviour", "brand", "position", "price", "time"]

    def code(name: str, i: int, j: int) -> int:
        return int(codes[i, j, names.index(name)]) - start[name]

    assert [code("brand", 0, j) for j in range(4)] == [1, 0, 2, 1]
    assert [code("price", 0, j) for j in range(4)] == [4, 7, 9, 4]  # same, 1.04 dearer in logs, unknown
    assert code("price", 1, 0) == 1
    assert [code("position", 0, j) for j in range(4)] == [6, 7, 8, 9]
    assert [code("position", 3, j) for j in range(4)] == [3, 4, 5, 6]
    assert [code("time", 0, j) for j in range(4)] == [8, 8, 9, 13]
    assert code("time", 3, 0) == 3
    assert code("behaviour", 0, 1) == 3
    assert code("behaviour", 1, 0) == 12


def test_signed_buckets_are_mirrored():
    values, found = np.array([[0, 9, 3, 1, 0, -1, -3, -9]]), np.empty((1, 8, 8), np.uint8)
    signed_distance(values, np.array([0, 1, 4]), False, 10, found)
    assert found[0, 0].tolist() == [13, 16, 15, 14, 13, 12, 11, 10]
    signed_distance(values, np.array([1, 4]), True, 0, found)
    assert found[0, 0].tolist() == [2, 4, 3, 3, 2, 1, 1, 0]


# -- bad input ---------------------------------------------------------------------------------------------------------


def fitted_on(
    events: dict, items: dict | None = None, system: str = "coaction-graph", **settings: object
) -> models.Model:
    shop = Shop.from_tables(pa.table(events), None if items is None else pa.table(items))
    return quick(system, epochs=2, **settings).fit(shop)


@pytest.mark.parametrize("system", DEEP)
def test_one_action_a_person_leaves_nothing_to_foresee_and_breaks_nothing(system, caplog):
    n = 20
    model = fitted_on(
        {"user": [f"u{i}" for i in range(n)], "item": [f"i{i % 4}" for i in range(n)], "interaction": ["click"] * n,
         "time": list(range(1_600_000_000, 1_600_000_000 + n))}, system=system,
    )  # fmt: skip
    assert "nobody has one action after another" in caplog.text
    assert len(model.candidates(Request(k=3, history=model_history(0)))) == 3


def model_history(*items: int) -> History:
    return History(np.array(items, np.int32), np.zeros(len(items), np.int8), np.arange(len(items), dtype=np.int64))


@pytest.mark.parametrize("system", DEEP)
def test_empty_unknown_and_endless_histories(system):
    model = quick(system, epochs=2).fit(board())
    assert len(model.candidates(Request(k=3))) == 0
    assert len(model.candidates(Request(k=3, history=model_history(999, -1)))) == 0
    assert model.score(Request(k=3), np.array([0, 1], np.int32)).tolist() == [0, 0]
    endless = model_history(*(np.arange(10_000) % 12).tolist())
    assert len(model.candidates(Request(k=3, history=endless))) == 3
    alone = model.candidates(Request(k=3, history=model_history(5)))
    with_strangers = model.candidates(Request(k=3, history=model_history(999, 5, -1)))
    np.testing.assert_array_equal(alone.items, with_strangers.items)


@pytest.mark.parametrize("system", DEEP)
def test_a_log_with_one_person_of_ten_thousand_actions(system):
    n = 10_000
    rng = np.random.default_rng(0)
    model = fitted_on(
        {"user": ["u"] * n, "item": [f"i{i}" for i in rng.integers(0, 300, n)], "interaction": ["click"] * n,
         "time": list(range(1_600_000_000, 1_600_000_000 + n))}, system=system, longest=20,
    )  # fmt: skip
    assert len(model.candidates(Request(k=5, history=model_history(1, 2, 3)))) == 5


def test_everything_at_one_moment_and_one_interaction():
    n = 200
    rng = np.random.default_rng(0)
    model = fitted_on(
        {"user": [f"u{i // 10}" for i in range(n)], "item": [f"i{i}" for i in rng.integers(0, 30, n)],
         "interaction": ["purchase"] * n, "time": [1_600_000_000] * n},
    )  # fmt: skip
    assert np.isfinite(model._table).all()
    assert len(model._near) == 1


@pytest.mark.parametrize("titles", [[None] * 30, [""] * 30, ["x"] * 30, ["y" * 1_000_000] + [None] * 29])
def test_titles_that_say_nothing(titles):
    n = 200
    rng = np.random.default_rng(0)
    model = fitted_on(
        {"user": [f"u{i // 10}" for i in range(n)], "item": [f"i{i}" for i in rng.integers(0, 30, n)],
         "interaction": ["click"] * n, "time": list(range(1_600_000_000, 1_600_000_000 + n))},
        {"item": [f"i{i}" for i in range(30)], "title": pa.array(titles, pa.string())},
    )  # fmt: skip
    assert np.isfinite(model._table).all()
    assert len(model.candidates(Request(k=5, history=model_history(1, 2)))) == 5


def test_given_vectors_stand_in_for_the_text():
    events, items = two_interests(60)
    rng = np.random.default_rng(0)
    vectors = {colour: rng.normal(size=6) for colour in COLOURS}
    column = pa.array(
        [vectors[item.partition("-")[0]].tolist() for item in items["item"].to_pylist()], pa.list_(pa.float32(), 6)
    )
    shop = Shop.from_tables(events, items.append_column("vector_text", column))
    model = models.create("coaction-graph", TRAINED | {"text": "vector_text"}).fit(shop)
    new = pa.table({"item": ["n"], "vector_text": pa.array([vectors["red"].tolist()], pa.list_(pa.float32(), 6))})
    other = pa.table({"item": ["n"], "vector_text": pa.array([vectors["green"].tolist()], pa.list_(pa.float32(), 6))})
    queries = model.queries(Request(k=5, history=history(shop, "red-tent-0", "red-stove-1", "red-boot-2")))
    assert (queries @ model.encode_items(new)[0]).max() > (queries @ model.encode_items(other)[0]).max()
    with pytest.raises(InputError, match="text=vector_image: the shop's items have no such column; it has vector_text"):
        models.create("coaction-graph", {"text": "vector_image"}).fit(shop)


def test_any_function_of_texts_can_stand_in_for_the_n_grams(tmp_path, caplog):
    shop = Shop.from_tables(*two_interests(60))

    def colours(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(colour) for colour in COLOURS] for text in texts], float)

    model = models.create("coaction-graph", TRAINED | {"id_embedding": "no", "relations": "none"})
    model.with_encoder(colours).fit(shop)
    queries = model.queries(Request(k=5, history=history(shop, "red-tent-0", "red-stove-1", "red-boot-2")))
    red, green = model.encode_items(pa.table({"item": ["n", "m"], "title": ["a red one", "a green one"]}))
    assert (queries @ red).max() > (queries @ green).max()
    model.save(tmp_path / "m")
    again = models.open(tmp_path / "m")
    assert (again.encode_items(pa.table({"item": ["n"], "title": ["a red one"]})) == 0).all()
    assert "encoder" in caplog.text
    found = again.with_encoder(colours).encode_items(pa.table({"title": ["a red one"]}))[0]
    np.testing.assert_allclose(found, red, rtol=1e-5)
    with pytest.raises(InputError, match="not one row each"):
        quick("coaction-graph").with_encoder(lambda texts: np.zeros(3)).fit(shop)


def test_relations_from_outside_are_one_more_neighbourhood():
    """Nothing but links says which items belong together: z brings linked ones nearer."""
    shop = board()
    links = pa.table(
        {"item": ["i0", "i0", "nobody"], "other": ["i2", "i2", "i1"], "relation": ["also", "also", "also"]}
    )
    model = quick("coaction-graph", relations="none", epochs=1).with_relations(links, shop.items).fit(shop)
    number = shop.items.number
    assert model._near.shape == (1, shop.n_items, 10)
    assert model._near[0, number("i0")].tolist() == [number("i2")] + [-1] * 9
    assert (model._near[0, number("i1")] == -1).all()


def test_a_weight_of_an_interaction_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="klick"):
        quick("coaction-graph", target_weights={"klick": 2.0}).fit(board())
    with pytest.raises(InputError, match=r"target_weights.click=-1"):
        quick("coaction-graph", target_weights={"click": -1.0}).fit(board())


def test_nothing_of_what_validation_asks_is_learnt():
    """Co-action neighbours and counts come from what is left after the held-out actions."""
    shop = Shop.from_tables(*simulated())
    model = quick("coaction-graph", epochs=1, longest=5, validation_people=10_000).fit(shop)
    whole = quick("coaction-graph", epochs=1, longest=5, validation_people=1).fit(shop)
    assert model._counts.sum() < whole._counts.sum() <= len(shop.positives)


@pytest.mark.parametrize("nodes", ["z", "e"])
def test_what_is_opened_answers_as_what_was_saved(tmp_path, nodes):
    model = quick("coaction-graph", epochs=1, nodes=nodes).fit(board())
    model.save(tmp_path / "m")
    again = models.open(tmp_path / "m")
    assert isinstance(again, CoActionGraph)
    request = Request(k=5, history=model_history(3, 1))
    np.testing.assert_array_equal(again.queries(request), model.queries(request))
    np.testing.assert_array_equal(again.candidates(request).items, model.candidates(request).items)
    assert again.best_score == model.best_score


@pytest.mark.parametrize("system", ["sasrec", "coaction-graph"])
def test_heads_that_do_not_divide_the_vectors_are_refused(system):
    with pytest.raises(InputError, match="dim=16 is no multiple of heads=3"):
        quick(system, heads=3)


def test_items_that_nothing_tells_apart_are_refused():
    with pytest.raises(InputError, match="set id_embedding=yes"):
        quick("coaction-graph", id_embedding="no").fit(board())
    assert len(models.create("coaction-graph", TRAINED | {"id_embedding": "no", "epochs": 1}).fit(camp())._table) == 54
    with pytest.raises(InputError, match="nothing tells the items apart"):
        models.create("coaction-graph", TRAINED | {"id_embedding": "no", "text_titles": 55}).fit(camp())


def test_n_grams_that_are_left_out_in_training_count_in_answers():
    model = models.create("coaction-graph", TRAINED | {"epochs": 1, "text_dropout": 0.5}).fit(camp())
    assert model._towers.embedding.text_dropout == 0.5
    table = camp().catalogue.slice(0, 3)
    np.testing.assert_array_equal(model.encode_items(table), model.encode_items(table))


# -- searches ----------------------------------------------------------------------------------------------------------


def searching(n_users: int = 150, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """What a person looks at next is of the colour just searched for; what was looked at before says nothing of it."""
    rng = np.random.default_rng(seed)
    _, items = two_interests(1)
    ids = items["item"].to_pylist()
    rows, time = [], 1_600_000_000
    for user in range(n_users):
        for _ in range(8):
            colour = int(rng.integers(3))
            for item, interaction, query in (
                (None, "search", f"{COLOURS[colour].upper()}  things"),
                (ids[colour * 18 + int(rng.integers(18))], "click", None),
            ):
                rows.append((f"u{user}", item, interaction, time := time + 60, query))
    names = ("user", "item", "interaction", "time", "query")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), items


SEARCHING = TRAINED | {"relations": "none", "id_embedding": "no", "interests": 1}


@cache
def looked_for() -> tuple[Shop, CoActionGraph]:
    shop = Shop.from_tables(*searching())
    return shop, models.create("coaction-graph", SEARCHING).fit(shop)


def test_what_was_searched_for_is_found():
    """By somebody of whom nothing else is known, and against what was looked at before the search."""
    shop, model = looked_for()
    for colour in COLOURS:
        answer = model.candidates(Request(k=8, searches=((f"{colour} things", 60_000_000),)))
        assert colours_of(shop, answer.items).count(colour) >= 7
        assert model.explain(Request(k=8, searches=((colour, 1),)), int(answer.items[0])) == []
    past = history(shop, "blue-tent-0", "green-stove-1")
    later, earlier = (
        colours_of(shop, model.candidates(Request(k=8, history=past, searches=(("red things", time),))).items)
        for time in (120_000_000, -60_000_000)
    )
    assert later.count("red") >= 5
    assert later.count("red") > earlier.count("red")


def test_a_search_is_no_item():
    """It is neither answered, nor counted, nor anybody's neighbour, nor named as a reason."""
    shop, model = looked_for()
    past = history(shop, "blue-tent-0", "blue-stove-1")
    request = Request(k=shop.n_items, history=past, searches=(("red things", 120_000_000),))
    answer = model.candidates(request)
    assert sorted(answer.items.tolist()) == list(range(shop.n_items))
    assert model._counts.sum() <= len(shop.positives)
    for item in answer.items[:5].tolist():
        (reason,) = model.explain(request, item)
        assert set(reason.items) <= set(past.items.tolist())
    assert set(reason.items)


def test_the_order_in_which_searches_are_told_is_nothing():
    shop, model = looked_for()
    past = history(shop, "blue-tent-0", "green-stove-1", "red-mug-0")
    searches = (("red things", 30_000_000), ("green", 90_000_000), ("a blue mug", 200_000_000))
    one, other = (model.queries(Request(k=5, history=past, searches=told)) for told in (searches, searches[::-1]))
    np.testing.assert_array_equal(one, other)


def test_searches_that_say_nothing_change_nothing():
    shop, model = looked_for()
    past = history(shop, "blue-tent-0", "blue-stove-1")
    plain = model.queries(Request(k=5, history=past))
    for text in ("", "   ", "?!", "щщщщ", "\x00", "\ud800"):
        told = model.queries(Request(k=5, history=past, searches=((text, 120_000_000),)))
        np.testing.assert_array_equal(told, plain, err_msg=repr(text))
        assert len(model.candidates(Request(k=5, searches=((text, 0),)))) == 0
    asked_about = Request(k=5, item=int(past.items[0]))
    found = model.queries(Request(k=5, item=int(past.items[0]), searches=(("red", 0),)))
    np.testing.assert_array_equal(found, model.queries(asked_about))


def test_searches_of_any_length_and_number():
    shop, model = looked_for()
    endless = Request(k=5, searches=(("red things " * 100_000, 0),))
    assert colours_of(shop, model.candidates(endless).items).count("red") >= 4
    assert len(max(model._vector_of_text, key=len)) <= 2_000
    many = tuple((f"red things {n}", n) for n in range(5_000))
    np.testing.assert_array_equal(
        model.queries(Request(k=5, searches=many)), model.queries(Request(k=5, searches=many[-model.config.longest :]))
    )


def test_few_of_the_texts_are_kept(monkeypatch):
    monkeypatch.setattr("endcap.models.coaction_graph.TEXTS_KEPT", 2)
    _, model = looked_for()
    before = model.queries(Request(k=5, searches=(("red mug", 0),)))
    for text in ("red", "blue", "green"):
        model.queries(Request(k=5, searches=((text, 0),)))
    assert len(model._vector_of_text) <= 2
    np.testing.assert_array_equal(model.queries(Request(k=5, searches=(("red mug", 0),))), before)


@pytest.mark.parametrize("nodes", ["z", "e"])
def test_searches_stay_with_a_stored_model(tmp_path, nodes):
    shop = Shop.from_tables(*searching(20))
    model = models.create("coaction-graph", TRAINED | {"epochs": 1, "nodes": nodes}).fit(shop)
    model.save(tmp_path / "m")
    request = Request(k=5, history=history(shop, "blue-tent-0"), searches=(("red things", 1), ("green", 2)))
    np.testing.assert_array_equal(models.open(tmp_path / "m").queries(request), model.queries(request))
    assert not np.array_equal(model.queries(request), model.queries(Request(k=5, history=request.history)))


@pytest.mark.parametrize("without", ["searches=false", "text=none", "no titles", "other words"])
def test_a_log_with_searches_that_are_not_read_is_a_log_without(without):
    """To the bit: the same weights, the same answers; and a search told later is passed over."""
    events, items = searching(20)
    if without == "no titles":
        items = items.select(["item"])
    if without == "other words":
        events = events.set_column(
            4, "query", pa.array(["щщщ" if text else None for text in events["query"].to_pylist()])
        )
    changed = {"searches=false": {"searches": False}, "text=none": {"text": "none"}}.get(without, {})
    plain = events.filter(pa.array([item is not None for item in events["item"].to_pylist()])).drop_columns(["query"])
    settings = TRAINED | {"epochs": 1} | changed
    shop = Shop.from_tables(events, items)
    one = models.create("coaction-graph", settings).fit(shop)
    other = models.create("coaction-graph", settings).fit(Shop.from_tables(plain, items))
    np.testing.assert_array_equal(one._table, other._table)
    past = history(shop, "blue-tent-0", "green-stove-1")
    told = one.queries(Request(k=5, history=past, searches=(("red things", 120_000_000),)))
    np.testing.assert_array_equal(told, other.queries(Request(k=5, history=past)))


def test_an_encoder_reads_searches_too(tmp_path):
    def colours(texts: list[str]) -> np.ndarray:
        return np.array([[text.count(colour) for colour in COLOURS] for text in texts], float)

    shop = Shop.from_tables(*searching(60))
    model = models.create("coaction-graph", SEARCHING).with_encoder(colours).fit(shop)
    red = Request(k=8, searches=(("Red things", 0),))
    assert colours_of(shop, model.candidates(red).items).count("red") >= 7
    model.save(tmp_path / "m")
    again = models.open(tmp_path / "m")
    assert len(again.candidates(red)) == 0
    np.testing.assert_array_equal(again.with_encoder(colours).candidates(red).items, model.candidates(red).items)
