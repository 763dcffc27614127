"""Products that came after training, or that few have bought: embedded beside the others, which stay as they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap import Shop, models, simulate
from endcap.answers import EncodesItems, Request
from endcap.errors import InputError
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.new import FEW, expected, filled, strategy
from endcap.simulate import ShopSettings

SETTINGS = {
    "dim": 16, "epochs": 6, "batch_size": 512, "negatives": 0, "learning_rate": 0.02, "text_buckets": 4096,
    "score_by": "network", "complement": "none",
}  # fmt: skip
N_ITEMS = 150
ENCODERS = ["hops", "sage", "sage-pool", "gat", "gatv2", "pinsage"]


@cache
def made() -> simulate.Simulation:
    settings = ShopSettings(events=20_000, items=N_ITEMS, users=1_500, seed=1, best=0, converts=0.8, checkout=0.9)
    return simulate.tables(settings)


@cache
def shop() -> Shop:
    return Shop.from_tables(made().events, made().items)


@cache
def trained(encoder: str = "hops", **settings: object) -> CrossSell:
    return CrossSell(**{**SETTINGS, "encoder": encoder, **settings}).fit(shop())


def whole_graph(model: CrossSell) -> csr_array:
    graph = model._towers.graph
    parts = graph.mass, graph.adjacency.columns, graph.adjacency.offsets
    return csr_array(parts, shape=graph.adjacency.shape, copy=True)


def links_of(model: CrossSell, items: np.ndarray) -> tuple[csr_array, csr_array]:
    """What known items hear in the graph of the model: what baskets made, and what the catalogue says."""
    like = model._towers.graph.extras()
    bought = csr_array(whole_graph(model) - like)
    bought.eliminate_zeros()
    return bought[items], like[items]


def seen_lately(model: CrossSell, items: np.ndarray) -> np.ndarray:
    return np.where(model._lately, model._bought, np.inf)[items]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_known_product_with_its_own_neighbours_is_what_training_made_of_it(encoder: str) -> None:
    model = trained(encoder, id_embedding=False)
    items = np.arange(0, N_ITEMS, 3)
    bought, like = links_of(model, items)
    if encoder == "pinsage":  # its walks follow catalogue links, too: of what is well known there are none
        known = np.diff(like.indptr) == 0
        items, like = items[known], None
        near, shares = model._towers._heard(model._towers.graph.mass)
        bought = csr_array((shares.numpy(), near.columns, near.offsets), shape=near.shape)[items]
    source, target = model.embed_new(
        shop().catalogue.take(items), bought, like, baskets=seen_lately(model, items), lift=model._lift[items]
    )
    np.testing.assert_allclose(source, model._source[items], atol=1e-5)
    np.testing.assert_allclose(target, model._target[items], atol=1e-5)
    assert np.abs(source).sum(1).min() > 0


def test_what_few_have_bought_is_embedded_as_if_it_were_new_though_others_have_rows_of_their_own() -> None:
    model = trained()
    few = np.flatnonzero(model._bought <= FEW)
    bought, like = links_of(model, few)
    found = model.embed_new(
        shop().catalogue.take(few), bought, like, baskets=seen_lately(model, few), lift=model._lift[few]
    )[1]
    np.testing.assert_allclose(found, model._target[few], atol=1e-5)
    many = np.flatnonzero(model._bought > FEW)
    theirs = model.embed_new(shop().catalogue.take(many), *links_of(model, many), lift=model._lift[many])[1]
    assert np.abs(theirs - model._target[many]).max() > 1e-2


@pytest.mark.parametrize("encoder", ENCODERS)
def test_without_neighbours_it_is_made_of_what_is_said_of_it_and_nothing_known_changes(encoder: str) -> None:
    model = trained(encoder, id_embedding=False)
    before = [table.copy() for table in (model._source, model._target, model._arrivals.hops)]
    source, target = model.embed_new(shop().catalogue.take([3, 3, 8]))
    assert np.isfinite(source).all()
    np.testing.assert_allclose(target[0], target[1], atol=1e-6)
    assert np.abs(target[0] - target[2]).max() > 1e-3
    for old, new in zip(before, (model._source, model._target, model._arrivals.hops), strict=True):
        np.testing.assert_array_equal(old, new)


def test_nothing_known_gives_zeros_and_no_rows_none() -> None:
    nothing = pa.table({"item": ["x"], "title": pa.array([None], pa.string())})
    assert not np.any(trained().embed_new(nothing))
    assert not trained().encode_items(nothing).any()
    assert trained().encode_items(nothing.slice(1)).shape == (0, 17)


def test_it_comes_back_and_embeds_the_same(tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    assert isinstance(opened, CrossSell)
    assert isinstance(opened, EncodesItems)
    rows = shop().catalogue.slice(0, 20)
    np.testing.assert_array_equal(opened.encode_items(rows), trained().encode_items(rows))
    request = Request(k=5, basket=np.array([3, 7], np.int32))
    np.testing.assert_array_equal(opened.queries(request), trained().queries(request))


def test_new_products_are_asked_for_as_what_they_are_like_is() -> None:
    """Twins of known products, by another name: what goes with a product goes with its twin, far above chance."""
    model = trained()
    known = np.flatnonzero(model._bought > FEW)
    twins = model.encode_items(shop().catalogue.take(known))
    np.testing.assert_allclose(np.linalg.norm(twins, axis=1), 1, rtol=1e-5)
    ranks = []
    for item in known:
        best = model.related_batch(np.array([item], np.int32), 0, 3, 1)[0][0, 0]
        scores = twins @ model.queries(Request(k=1, item=int(item)))[0]
        if best in known:
            ranks.append((scores > scores[known == best]).mean())
    assert np.mean(ranks) < 0.25


def test_what_came_lately_is_asked_with_and_answered_and_says_so() -> None:
    model = trained()
    unbought = np.flatnonzero((model._bought == 0) & model._lately)
    assert len(unbought)
    assert model._answerable[unbought].all()
    assert len(model.candidates(Request(k=5, item=int(unbought[0]))))
    everything = np.arange(N_ITEMS, dtype=np.int32)
    scores = model.score(Request(k=5, basket=np.array([3], np.int32)), everything)
    assert (scores[unbought] > scores.min()).all()
    reasons = model.explain(Request(k=5, item=3), int(unbought[0]))
    assert [reason.note for reason in reasons if reason.kind == "strategy"] == ["features and catalogue links"]
    without = CrossSell(**SETTINGS | {"epochs": 1}, unbought=False).fit(shop())
    assert not without._answerable[unbought].any()


def test_what_its_own_baskets_alone_place_is_not_said_to_be_placed_by_its_likes() -> None:
    model = CrossSell(**SETTINGS | {"epochs": 1, "score_by": "walk"}, catalogue_links=0).fit(shop())
    few = np.flatnonzero((model._bought > 0) & (model._bought <= FEW))
    assert len(few)
    assert all(reason.kind != "strategy" for item in few for reason in model.explain(Request(k=1, item=3), int(item)))
    network = CrossSell(**SETTINGS | {"epochs": 1}).fit(shop())
    assert any(reason.kind == "strategy" for reason in network.explain(Request(k=1, item=3), int(few[0])))


def test_what_nobody_wanted_all_the_time_is_not_answered() -> None:
    model = trained()
    unwanted = np.flatnonzero((model._bought == 0) & ~model._lately)
    assert len(unwanted)
    assert not model._answerable[unwanted].any()
    everything = np.arange(N_ITEMS, dtype=np.int32)
    scores = model.score(Request(k=5, basket=np.array([3], np.int32)), everything)
    assert (scores[unwanted] == scores.min()).all()


def test_strategy_by_baskets() -> None:
    names = [strategy(n) for n in (0, 1, FEW, FEW + 1)]
    assert names == ["features and catalogue links", *["inductive, with catalogue links"] * 2, "standard"]


def test_what_came_lately_is_foreseen_by_its_rate_and_by_what_is_like_it() -> None:
    like = csr_array((np.ones(4, np.float32), ([2, 3, 4, 5], [0, 0, 0, 0])), shape=(6, 6))
    bought = np.array([100, 100, 0, 0, 5, 5])
    time = np.array([1, 1, 1, 0.02, 1, 0.05])
    found = expected(bought, time, like)
    np.testing.assert_allclose(found[:2], 100)
    assert found[2] < 3  # nobody wanted it in all that time
    assert 40 < found[3] < 100  # it came yesterday
    assert found[4] < 8
    assert 80 < found[5] < 110
    np.testing.assert_array_equal(expected(np.zeros(2, int), np.ones(2), csr_array((2, 2))), 1)


def test_what_nobody_bought_gets_its_offset_from_the_baskets_that_are_foreseen() -> None:
    bought, foreseen = np.array([1, 10, 100, 0]), np.array([1, 10, 200, 50.0])
    offset = np.append(0.5 * np.log(foreseen[:3]), 7).astype(np.float32)
    np.testing.assert_allclose(filled(offset, bought, foreseen), 0.5 * np.log(foreseen), rtol=1e-5)
    np.testing.assert_array_equal(filled(offset, np.array([7, 7, 0, 0]), np.full(4, 7.0)), offset)


@pytest.mark.parametrize(
    ("neighbours", "says"),
    [
        (csr_array((1, 3)), "neighbours: \\(1, 3\\)"),
        (csr_array((np.array([-1.0]), ([0], [2])), shape=(1, N_ITEMS)), "above 0"),
        (csr_array((np.array([np.nan]), ([0], [2])), shape=(1, N_ITEMS)), "above 0"),
    ],
)
def test_links_that_do_not_fit_are_refused(neighbours: csr_array, says: str) -> None:
    with pytest.raises(InputError, match=says):
        trained().embed_new(shop().catalogue.slice(0, 1), neighbours)


def test_the_typed_encoder_says_that_it_cannot() -> None:
    model = CrossSell(**{**SETTINGS, "epochs": 1}, encoder="typed", types="none").fit(shop())
    with pytest.raises(InputError, match="encoder=typed embeds no product"):
        model.embed_new(shop().catalogue.slice(0, 1))
    assert not model.encode_items(shop().catalogue.slice(0, 2)).any()


def test_a_number_for_each_product_is_needed() -> None:
    with pytest.raises(InputError, match=r"baskets: .3,.; one number for each of 1"):
        trained().embed_new(shop().catalogue.slice(0, 1), baskets=np.ones(3))
