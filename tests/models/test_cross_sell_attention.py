"""What an item of a GAT listens to, and a hub that may not be heard by all."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from endcap import Shop, models, simulate
from endcap.answers import Request
from endcap.errors import InputError
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.hiding import HidingGraph, learnt_baskets
from endcap.models.cross_sell.typed import Common
from endcap.simulate import ShopSettings

QUICK = {"dim": 8, "epochs": 8, "batch_size": 256, "text_buckets": 1024, "complement": "none", "score_by": "network"}
HUB = "I01"


@cache
def made() -> simulate.SimulatedShop:
    return simulate.tables(
        ShopSettings(events=12_000, items=80, users=500, seed=3, best=0, converts=0.8, checkout=0.9, days=200)
    )


def others() -> pa.Table:
    """The log without one product."""
    return made().events.filter(pc.not_equal(made().events["item"], HUB))


@cache
def shop() -> Shop:
    """A shop in which one product is never bought."""
    return Shop.from_tables(others(), made().items)


@cache
def trained(encoder: str, **settings: str) -> CrossSell:
    return CrossSell(**QUICK, encoder=encoder, **settings).fit(shop())


@pytest.mark.parametrize("encoder", ["gat", "gatv2"])
def test_attention_adds_up_to_one_and_stands_in_order(encoder: str) -> None:
    model = trained(encoder)
    asked = 0
    for item in range(shop().n_items):
        near, mean, heads = model.attention(item, 10_000)
        if len(near):
            asked += 1
            assert heads.shape == (len(near), model.config.heads)
            np.testing.assert_allclose(heads.sum(0), 1, rtol=1e-5)
            np.testing.assert_allclose(mean, heads.mean(1), rtol=1e-5)
            assert (np.diff(mean) <= 0).all()
            assert item not in near
            np.testing.assert_array_equal(model.attention(item, 3)[0], near[:3])
    assert asked > 50


def test_attention_is_stored_and_explains(tmp_path: Path) -> None:
    trained("gat").save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    item = int(trained("gat")._bought.argmax())
    near, mean, _ = opened.attention(item, 2)
    np.testing.assert_array_equal(near, trained("gat").attention(item, 2)[0])
    asked = Request(k=1, basket=near)
    heard = [reason for reason in opened.explain(asked, item) if reason.note == "attention"]
    assert {(reason.item, reason.value) for reason in heard} == set(zip(near.tolist(), mean.tolist(), strict=True))


def test_no_attention_no_answer() -> None:
    with pytest.raises(InputError, match="encoder=gat"):
        trained("sage").attention(0, 3)
    with pytest.raises(InputError, match="knows 80"):
        trained("gat").attention(80, 3)


def graphs_of(model: CrossSell, log: Shop) -> HidingGraph:
    baskets = learnt_baskets(log, None, 50)
    if model.config.encoder == "typed":
        return Common.of(log, baskets, model.config, seed=0, threads=1).graph(np.ones(len(baskets), bool), 1)
    return HidingGraph(baskets, log.n_items, model.config, 1)


def lists_of(model: CrossSell, graph: HidingGraph, hub: int) -> np.ndarray:
    """(asked, 10) of the products that are sold, the hub among neither."""
    model._towers.graph = graph
    with torch.no_grad():
        source, target, offset = (part.numpy() for part in model._towers.tables(graph.mass))
    scores = source @ target.T + offset
    np.fill_diagonal(scores, -np.inf)
    scores[:, model._bought == 0] = -np.inf
    assert model._bought[hub] == 0
    return np.argsort(-scores[model._bought > 0], axis=1)[:, :10]


@pytest.mark.parametrize("encoder", ["hops", "sage", "typed"])
def test_a_product_in_every_basket_changes_nobodys_list_by_more_than_a_tenth(encoder: str) -> None:
    """The network as it was trained, on the graph with and without what is then put into every basket."""
    log = shop()
    hub = log.items.ids.to_pylist().index(HUB)
    events = others()
    bought = events.filter(pc.and_(pc.is_valid(events["order"]), pc.equal(events["interaction"], "purchase")))
    row_of = {order: row for row, order in enumerate(bought["order"].to_pylist())}
    added = bought.take(pa.array(list(row_of.values())))
    added = added.set_column(added.column_names.index("item"), "item", pa.array([HUB] * len(added)))
    larger = Shop.from_tables(pa.concat_tables([events, added]).drop(["event_id"]), made().items)
    assert larger.items.ids.to_pylist() == log.items.ids.to_pylist()
    model = trained(encoder)
    before, after = graphs_of(model, log), graphs_of(model, larger)
    assert (after.quiet < 1).sum() == 1
    assert after.quiet.argmin() == hub
    ours, theirs = lists_of(model, before, hub), lists_of(model, after, hub)
    after.quiet[:] = 1
    loud = lists_of(model, after, hub)
    assert kept(ours, theirs) > 0.9
    assert kept(ours, loud) < kept(ours, theirs)


def kept(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The mean share of a list that stays."""
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(ours, theirs, strict=True)]))
