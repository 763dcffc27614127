"""The typed graph of cross-sell: what a step asks for leaves every relation, and gates tell what counts."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import Shop, models, simulate
from endcap.answers import Request
from endcap.errors import InputError
from endcap.graph.typed import ASSOCIATED, BROWSES, CO_PURCHASED, FOLLOWED_BY, PURCHASES
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.hiding import DAY, learnt_baskets
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.models.cross_sell.typed import Common, TypedHiding, nearest_basket
from endcap.simulate import ShopSettings

QUICK = {"dim": 8, "epochs": 2, "batch_size": 256, "text_buckets": 1024, "complement": "none", "score_by": "network"}
TYPED = {**QUICK, "encoder": "typed", "directed": True}


@cache
def made() -> simulate.SimulatedShop:
    return simulate.tables(
        ShopSettings(events=6_000, items=60, users=250, seed=3, best=0, converts=0.8, checkout=0.9, days=200)
    )


@cache
def shop() -> Shop:
    return Shop.from_tables(made().events, made().items)


@cache
def common() -> Common:
    config = CrossSellConfig(encoder="typed", directed=True, links=60)
    return Common.of(shop(), learnt_baskets(shop(), None, 50), config, seed=0, threads=1)


@cache
def trained() -> CrossSell:
    return CrossSell(**TYPED).fit(shop())


def dense(graph: TypedHiding, mass: np.ndarray) -> dict[tuple, np.ndarray]:
    """Every relation that baskets make, as a matrix."""
    found = {}
    for relation, part in graph.masses(mass).items():
        adjacency = graph.adjacency if relation == CO_PURCHASED else graph.made[relation].adjacency
        found[relation] = np.zeros(adjacency.shape, np.float32)
        found[relation][adjacency.rows, adjacency.columns] = part
    return found


def test_a_step_hears_of_its_baskets_by_no_relation() -> None:
    n = len(common().baskets)
    hidden = np.random.default_rng(0).permutation(n - 1)[: n // 3]  # the last basket stays: ages are counted from it
    last = int(common().baskets.time.argmax())
    kept = np.ones(n, bool)
    kept[hidden[hidden != last]] = False
    whole, rest = common().graph(np.ones(n, bool), 1), common().graph(kept, 1)
    left = dense(whole, whole.without(np.flatnonzero(~kept)))
    everything = dense(whole, whole.mass)
    assert set(left) == {CO_PURCHASED, PURCHASES, BROWSES, ASSOCIATED, FOLLOWED_BY}
    for relation, others in dense(rest, rest.mass).items():
        assert left[relation].sum() < 0.9 * everything[relation].sum()
        np.testing.assert_allclose(left[relation], others, rtol=1e-3, atol=2e-5)


def test_the_tables_of_a_step_do_not_depend_on_its_products() -> None:
    """With a basket's products exchanged for others, a step that hides it sees the same graph."""
    baskets = common().baskets
    hidden, n = np.array([5]), len(baskets)
    other = baskets.items.copy()
    begin, end = baskets.offsets[5:7]
    other[begin:end] = (np.arange(end - begin) * 7 + 11) % shop().n_items
    changed = common()._replace(baskets=type(baskets)(baskets.offsets, other, baskets.user, baskets.time))
    keep = np.ones(n, bool)
    ours, theirs = common().graph(keep, 1), changed.graph(keep, 1)
    parts = dense(ours, ours.without(hidden)), dense(theirs, theirs.without(hidden))
    for relation in (CO_PURCHASED, PURCHASES, FOLLOWED_BY):
        assert np.abs(parts[0][relation] - parts[1][relation]).max() < 2e-5
        assert np.abs(dense(ours, ours.mass)[relation] - dense(theirs, theirs.mass)[relation]).max() > 1e-3


def test_what_was_looked_at_belongs_to_the_nearest_basket_of_a_day() -> None:
    baskets = learnt_baskets(shop(), None, 50)
    user, time = baskets.user[[4, 4, 4]], baskets.time[4] + np.array([0, DAY - 1, 40 * DAY])
    found = nearest_basket(user, time, baskets)
    assert found[0] == 4
    for place, when in zip(found, time, strict=True):
        own = np.flatnonzero(baskets.user == user[0])
        away = np.abs(baskets.time[own] - when)
        assert place == (own[away.argmin()] if away.min() <= DAY else -1)


def test_products_alone_are_what_sage_hears() -> None:
    alone = {**QUICK, "encoder": "typed", "types": "none"}
    ours = CrossSell(**alone).fit(shop())
    sage = CrossSell(**{**QUICK, "encoder": "sage", "catalogue_links": 0}).fit(shop())
    losses = [[epoch["loss"] for epoch in model._course["epochs"]] for model in (ours, sage)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.05)
    assert ours.gates()["layer 1, product"] == {"co-purchased": 1.0}
    assert sage.gates() == {}


@pytest.mark.parametrize("types", ["category", "brand,user", "occasion", "user,category,brand,occasion"])
def test_any_subset_of_types(types: str) -> None:
    model = CrossSell(**{**TYPED, "epochs": 1, "types": types}).fit(shop())
    heard = {name.split(", ")[1] for name in model.gates()}
    assert heard == {"product", *types.split(",")}
    for gates in model.gates().values():
        assert sum(gates.values()) == pytest.approx(1)


def test_what_the_log_cannot_feed_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"u{n}", f"i{n % 5}", n) for n in range(20)] + [(f"u{n}", f"i{(n + 1) % 5}", n) for n in range(20)]
    table = pa.table({
        "user": [user for user, _, _ in rows], "item": [item for _, item, _ in rows],
        "interaction": ["purchase"] * len(rows), "time": [1_600_000_000 + 1000 * second for *_, second in rows],
    })  # fmt: skip
    with caplog.at_level(logging.WARNING):
        model = CrossSell(**{**TYPED, "epochs": 1}).fit(Shop.from_tables(table))
    for what in (
        "category: no product",
        "brand: no product",
        "occasion: the purchases",
        "browse: the log",
        "directed: no",
    ):
        assert f"without {what}" in caplog.text
    assert set(model.gates()["layer 2, product"]) == {"co-purchased", "purchases"}
    assert len(model.candidates(Request(k=2, item=0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"types": "user"}, "encoder=typed, not hops"),
        ({"encoder": "sage", "directed": True}, "encoder=typed, not sage"),
        ({"encoder": "typed", "types": "brand,browse"}, "add user"),
        ({"encoder": "typed", "types": "brands"}, "types"),
        ({"hard_kinds": "category"}, "hard_negatives=6"),
        ({"in_batch": False, "negatives": 0}, "all items are negatives"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        CrossSell(**settings)


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    assert opened.gates() == trained().gates()
    for item in (0, 7, 30):
        ours, theirs = (model.candidates(Request(k=8, item=item)) for model in (trained(), opened))
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.scores, theirs.scores)


def lists(model: CrossSell) -> np.ndarray:
    return model.related_batch(np.arange(len(model._bought), dtype=np.int32), 0, 3, 10)[0]


def test_neither_the_order_of_rows_nor_what_comes_later_matters() -> None:
    events = made().events.sort_by("time")
    micros = events["time"].cast(pa.int64()).to_numpy() + np.arange(len(events))  # no two at one moment
    events = events.set_column(
        events.column_names.index("time"), "time", pa.array(micros).cast(pa.timestamp("us", "UTC"))
    )
    settings = {**TYPED, "epochs": 1}
    items = made().items
    whole = Shop.from_tables(events, items)
    shuffled = Shop.from_tables(events.take(np.random.default_rng(0).permutation(len(events))), items)
    np.testing.assert_array_equal(lists(CrossSell(**settings).fit(whole)), lists(CrossSell(**settings).fit(shuffled)))
    end = int(np.quantile(micros, 0.8))
    known = items.filter(pa.array(items["launched"].cast(pa.int64()).fill_null(0).to_numpy() < end))
    before = Shop.from_tables(events.filter(pa.array(micros < end)), known)
    view = whole.until(end)
    assert view.items.fingerprint() == before.items.fingerprint()
    np.testing.assert_array_equal(lists(CrossSell(**settings).fit(view)), lists(CrossSell(**settings).fit(before)))


def test_the_gates_favour_the_relation_that_tells() -> None:
    """Baskets are of one brand and of two categories; categories are drawn by chance and say nothing."""
    rng = np.random.default_rng(0)
    n_items, n_brands = 96, 12
    items = pa.table({
        "item": [f"i{n}" for n in range(n_items)], "brand": [f"b{n % n_brands}" for n in range(n_items)],
        "category": [f"c{n}" for n in rng.integers(0, 12, n_items)],
    })  # fmt: skip
    rows = []
    for order in range(900):
        brand = rng.integers(n_brands)
        pair = rng.choice(n_items // n_brands, 2, replace=False) * n_brands + brand
        rows += [(f"u{order}", f"i{item}", 1_600_000_000 + order) for item in pair]
    events = pa.table({
        "user": [u for u, _, _ in rows], "item": [i for _, i, _ in rows], "time": [t for *_, t in rows],
        "interaction": ["purchase"] * len(rows), "order": [u for u, _, _ in rows],
    })  # fmt: skip
    settings = {**QUICK, "encoder": "typed", "types": "category,brand", "epochs": 30, "learning_rate": 0.03}
    model = CrossSell(**settings, text="none", id_embedding=True, patience=30).fit(Shop.from_tables(events, items))
    gates = model.gates()["layer 1, product"]
    assert gates["reversed made by"] > gates["reversed belongs to"]
