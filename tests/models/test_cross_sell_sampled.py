"""Sampled neighbourhoods: the whole of one gives what the whole graph gives, and a part of it is enough to learn."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from endcap import Shop, simulate
from endcap.errors import InputError
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.sampled import Sampler
from endcap.simulate import ShopSettings

N_ITEMS = 150
SETTINGS = {
    "dim": 16, "epochs": 8, "batch_size": 512, "negatives": 0, "learning_rate": 0.02, "text_buckets": 4096,
    "score_by": "network", "complement": "none",
}  # fmt: skip


@cache
def shop() -> Shop:
    made = simulate.tables(
        ShopSettings(events=20_000, items=N_ITEMS, users=1_500, seed=1, best=0, converts=0.8, checkout=0.9)
    )
    return Shop.from_tables(made.events, made.items)


@cache
def trained(encoder: str, fanout: str = "") -> CrossSell:
    return CrossSell(**{**SETTINGS, "encoder": encoder, "fanout": fanout}).fit(shop())


@pytest.mark.parametrize("encoder", ["hops", "sage", "sage-pool", "gat", "gatv2"])
def test_the_whole_neighbourhood_gives_what_the_whole_graph_gives(encoder: str) -> None:
    towers = trained(encoder)._towers
    mass = towers.graph.without(np.arange(0, 400))
    items = np.random.default_rng(0).permutation(N_ITEMS)[:40]
    with torch.no_grad():
        whole = towers.tables(mass)
        sampled = Sampler(towers.graph, (N_ITEMS, N_ITEMS)).tables(towers, items, mass, seed=3)
        wanted = towers.tables(mass, items)
    for some in (sampled, wanted):
        for of_all, of_some in zip(whole[:2], some[:2], strict=True):
            np.testing.assert_allclose(of_some[items], of_all[items], atol=1e-5)
            others = np.setdiff1d(np.arange(N_ITEMS), items)
            assert not of_some[others].any()
        assert some[2] is towers.offset


def test_of_a_sample_the_mean_is_that_of_the_whole() -> None:
    towers = trained("hops")._towers
    items, mass = np.arange(N_ITEMS), towers.graph.mass
    sampler = Sampler(towers.graph, (5,) * towers.config.layers)
    with torch.no_grad():
        whole = towers.tables(mass)[0]
        drawn = [sampler.tables(towers, items, mass, seed)[0] for seed in range(60)]
    one, mean = (drawn[0] - whole).norm() / whole.norm(), (torch.stack(drawn).mean(0) - whole).norm() / whole.norm()
    assert mean < 0.5 * one


def test_what_a_step_hides_is_not_heard() -> None:
    towers = trained("sage")._towers
    graph, item = towers.graph, 7
    nothing = np.where(graph.adjacency.rows == item, np.float32(0), graph.mass)
    with torch.no_grad():
        sampled = Sampler(graph, (N_ITEMS, N_ITEMS)).tables(towers, np.array([item]), nothing, seed=0)[0][item]
        np.testing.assert_allclose(sampled, towers.tables(nothing)[0][item], atol=1e-5)
        assert (sampled - towers.tables(graph.mass)[0][item]).abs().max() > 1e-3


@pytest.mark.parametrize("encoder", ["hops", "sage"])
def test_it_learns_from_samples_as_from_the_whole(encoder: str) -> None:
    scores = [trained(encoder, fanout)._course for fanout in ("", "10,5")]
    best = [course["epochs"][course["best_epoch"] - 1]["score"] for course in scores]
    losses = [epoch["loss"] for epoch in scores[1]["epochs"]]
    assert losses[-1] < losses[0]
    assert best[1] > 0.7 * best[0]


def test_same_seed_same_model() -> None:
    again = CrossSell(**{**SETTINGS, "encoder": "sage", "fanout": "10,5"}).fit(shop())
    np.testing.assert_array_equal(again._target, trained("sage", "10,5")._target)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"fanout": "5"}, "a number for each layer"),
        ({"fanout": "5,5", "encoder": "pinsage"}, "trains on the whole graph"),
        ({"fanout": "5,5", "next_weight": 0.5}, "not sampled"),
        ({"fanout": "5,0"}, "fanout"),
    ],
)
def test_what_does_not_go_with_samples_is_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        CrossSell(**settings)
