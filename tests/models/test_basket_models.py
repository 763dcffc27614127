"""Models that answer from all of a basket, against dense arithmetic on small orders."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import History, Request
from endcap.errors import InputError
from endcap.models import Model
from endcap.shop import Shop

N_ITEMS = 14
SYSTEMS = {
    "association-rules": {},
    "association-rules max": {"together": "max", "longest": 3},
    "co-purchase": {},
    "co-purchase max": {"together": "max", "weight": "damped", "basket": "session"},
    "random-walk": {},
    "pagerank": {},
}


@cache
def orders() -> np.ndarray:
    """(200, n_items) of 0 and 1; every product is in the first, nothing is ever bought with the last but there."""
    rng = np.random.default_rng(4)
    liked = np.append(rng.dirichlet(np.full(N_ITEMS - 1, 0.7)), 0)
    bought = np.zeros((200, N_ITEMS))
    for row in range(1, 200):
        bought[row, rng.choice(N_ITEMS, rng.integers(1, 7), p=liked)] = 1
    bought[0, : N_ITEMS - 1] = 1
    bought[1] = np.eye(N_ITEMS)[-1]
    return bought


def shop_of(bought: np.ndarray) -> Shop:
    """Item numbers are columns: all are named in the catalogue in order."""
    row, item = np.nonzero(bought)
    names = [f"i{number:03}" for number in range(bought.shape[1])]
    events = {
        "user": [f"u{number:03}" for number in row],
        "item": [names[number] for number in item],
        "interaction": ["purchase"] * len(row),
        "time": 1_600_000_000 + 7 * 86_400 * row,
    }
    launched = pa.array(np.arange(len(names)) + 1_500_000_000).cast(pa.timestamp("s"))
    return Shop.from_tables(pa.table(events), pa.table({"item": names, "launched": launched}))


@cache
def trained(name: str) -> Model:
    return models.create(name.split()[0], SYSTEMS[name]).fit(shop_of(orders()))


def scores(model: Model, *basket: int) -> np.ndarray:
    """(n_items,) of a basket, 0 where it says nothing."""
    found = model.score(Request(k=1, basket=np.array(basket, np.int32)), np.arange(N_ITEMS, dtype=np.int32))
    return np.where(np.isneginf(found), 0, found)


def together() -> tuple[np.ndarray, np.ndarray]:
    counts = orders().T @ orders()
    n_of = np.diag(counts).copy()
    np.fill_diagonal(counts, 0)
    return counts, n_of


def walk() -> np.ndarray:
    steps = (orders() / orders().sum(axis=1, keepdims=True)).T @ orders() / orders().sum(axis=0)[:, None]
    np.fill_diagonal(steps, 0)
    return steps


def test_the_walk_of_one_step_goes_from_items_to_baskets_to_items() -> None:
    model = models.create("random-walk", {"second": 0}).fit(shop_of(orders()))
    np.testing.assert_allclose(scores(model, 3), walk()[3], rtol=1e-5)
    np.testing.assert_allclose(scores(model, 3, 5), walk()[[3, 5]].sum(axis=0), rtol=1e-5)


@pytest.mark.parametrize("top", [2, 500])
def test_the_second_step_starts_from_the_strongest_reached(top: int) -> None:
    model = models.create("random-walk", {"top": top, "second": 0.3}).fit(shop_of(orders()))
    first = walk()[[3, 5]].sum(axis=0)
    from_these = np.where(first >= np.sort(first)[-min(top, N_ITEMS)], first, 0)
    np.testing.assert_allclose(scores(model, 3, 5), first + 0.3 * from_these @ walk(), rtol=1e-5)


@pytest.mark.parametrize(("weight", "power"), [("support", 0.0), ("cosine", 0.5)])
def test_pagerank_is_the_power_iteration_over_a_power_of_the_degree(weight: str, power: float) -> None:
    settings = {"weight": weight, "degree_power": power, "steps": 7, "restart": 0.2}
    model = models.create("pagerank", settings).fit(shop_of(orders()))
    counts, n_of = together()
    links = counts / np.sqrt(np.outer(n_of, n_of)) if weight == "cosine" else counts
    onwards = links / np.maximum(links.sum(axis=1, keepdims=True), 1e-12)
    begin = np.zeros(N_ITEMS)
    begin[[3, 5]] = 0.5
    at = begin
    for _ in range(7):
        at = 0.2 * begin + 0.8 * at @ onwards
    degree = (links > 0).sum(axis=0)
    np.testing.assert_allclose(scores(model, 3, 5), at / np.maximum(degree, 1) ** power, rtol=1e-4)


@pytest.mark.parametrize("put_together", ["sum", "max"])
@pytest.mark.parametrize("weight", ["confidence", "jaccard", "damped"])
def test_weighted_counts_of_a_basket_are_added_up_or_the_largest(weight: str, put_together: str) -> None:
    settings = {"weight": weight, "basket": "session", "together": put_together, "damping": 0.7, "shrink": 2.0}
    model = models.create("co-purchase", settings).fit(shop_of(orders()))
    counts, n_of = together()
    formula = {
        "confidence": counts / n_of[:, None],
        "jaccard": counts / (n_of[:, None] + n_of - counts),
        "damped": counts / (n_of[:, None] * n_of**0.7),
    }
    weights = formula[weight] * counts / (counts + 2)
    expected = getattr(weights[[3, 5, 8]], put_together)(axis=0)
    np.testing.assert_allclose(scores(model, 3, 5, 8), expected, rtol=1e-5)


def test_min_support_of_counts_drops_rare_pairs() -> None:
    model = models.create("co-purchase", {"weight": "support", "basket": "session", "min_support": 5})
    counts, _ = together()
    np.testing.assert_allclose(scores(model.fit(shop_of(orders())), 3), np.where(counts[3] >= 5, counts[3], 0) / 200)


@pytest.mark.parametrize("name", SYSTEMS)
def test_candidates_are_the_best_by_score_outside_the_basket(name: str) -> None:
    model, basket = trained(name), np.array([3, 5], np.int32)
    answer = model.candidates(Request(k=4, basket=basket))
    everything = scores(model, 3, 5)
    everything[basket] = -1
    assert answer.items.tolist() == np.argsort(-everything, kind="stable")[:4].tolist()
    np.testing.assert_array_equal(answer.scores, everything[answer.items].astype(np.float32))
    assert set(answer.evidence.because.tolist()) <= {3, 5, -1}
    allowed = np.zeros(N_ITEMS, bool)
    allowed[[3, 7, 9]] = True
    some = model.candidates(Request(k=4, basket=basket, allowed=allowed)).items
    assert set(some.tolist()) <= {7, 9}


@pytest.mark.parametrize("name", SYSTEMS)
def test_unknown_and_repeated_products_of_a_basket_change_nothing(name: str) -> None:
    model = trained(name)
    np.testing.assert_array_equal(scores(model, 3, 5), scores(model, 5, 3, 99, -1, 5))
    assert not scores(model, 99).any()
    assert len(model.candidates(Request(k=3, basket=np.array([99], np.int32)))) == 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_do_not_depend_on_what_else_is_scored(name: str) -> None:
    model, request = trained(name), Request(k=1, basket=np.array([2, 6], np.int32))
    whole = model.score(request, np.arange(N_ITEMS, dtype=np.int32))
    for items in ([7], [1, 0, 12], []):
        np.testing.assert_array_equal(model.score(request, np.array(items, np.int32)), whole[items])


@pytest.mark.parametrize("name", SYSTEMS)
def test_without_basket_or_item_the_last_actions_are_the_basket(name: str) -> None:
    model = trained(name)
    past = History(np.array([3, 5], np.int32), np.zeros(2, np.int8), np.arange(2))
    by_past, by_basket = (
        model.candidates(request) for request in (Request(k=3, history=past), Request(k=5, basket=past.items))
    )
    assert [item for item in by_past.items.tolist() if item not in (3, 5)][:1] == by_basket.items[:1].tolist()
    assert len(model.candidates(Request(k=3))) == 0


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_basket_of_everything_is_answered_with_nothing_and_quickly_scored(name: str) -> None:
    model, whole = trained(name), np.arange(10_000, dtype=np.int32)
    assert len(model.candidates(Request(k=3, basket=whole))) == 0
    assert len(model.score(Request(k=3, basket=whole), whole)) == 10_000


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_come_back_with_the_folder(name: str, tmp_path: Path) -> None:
    trained(name).save(tmp_path / "model")
    np.testing.assert_array_equal(scores(models.open(tmp_path / "model"), 3, 5), scores(trained(name), 3, 5))


def test_reasons_name_the_product_that_speaks_loudest_or_all_that_lead_there() -> None:
    apart = np.zeros((6, 5))
    apart[:2, :2] = apart[2:4, 1:3] = apart[4:, 3:] = 1  # 0 1, 1 2, 3 4
    walked = models.create("random-walk").fit(shop_of(apart))
    request = Request(k=3, basket=np.array([0, 3], np.int32))
    assert walked.candidates(request).items.tolist() == [1, 4, 2]
    assert [walked.explain(request, item)[0].item for item in (1, 4, 2)] == [0, 3, 0]
    ranked = models.create("pagerank").fit(shop_of(apart))
    direct, beyond = ranked.explain(request, 1)[0], ranked.explain(request, 2)[0]
    assert (direct.kind, direct.item) == ("because", 0)
    assert (beyond.kind, beyond.items) == ("interest", (0, 3))


@pytest.mark.parametrize("name", SYSTEMS)
@pytest.mark.parametrize("bought", [np.eye(3), np.ones((1, 3)), np.ones((1, 1))], ids=["singles", "one", "one of one"])
def test_logs_with_hardly_a_basket_can_be_learnt_from(name: str, bought: np.ndarray) -> None:
    model = models.create(name.split()[0], SYSTEMS[name]).fit(shop_of(bought))
    found = model.score(Request(k=1, basket=np.zeros(1, np.int32)), np.arange(3, dtype=np.int32))
    said_of_others = np.flatnonzero(found[1:] > -np.inf) + 1
    goes_together = bought[0].sum() == 3 and "rules" not in name  # of rules two baskets are asked for
    assert said_of_others.tolist() == ([1, 2] if goes_together else [])


def test_what_everybody_orders_whole_is_not_learnt_from() -> None:
    whole = np.ones((3, 60))
    for name in ("association-rules", "random-walk", "pagerank"):
        model = models.create(name).fit(shop_of(whole))
        assert len(model.candidates(Request(k=3, basket=np.zeros(1, np.int32)))) == 0
        allowed = models.create(name, {"largest": 0}).fit(shop_of(whole))
        assert len(allowed.candidates(Request(k=3, basket=np.zeros(1, np.int32)))) == 3


def test_pagerank_takes_no_weights_below_0() -> None:
    with pytest.raises(InputError, match="none may be below 0"):
        models.create("pagerank", {"weight": "pmi"}).fit(shop_of(orders()))
