"""Graph cross-sell on a simulated shop whose complements and rivals are known."""

from __future__ import annotations

import gc
import logging
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from endcap import Shop, models, simulate
from endcap.answers import NOTHING, Request
from endcap.errors import InputError
from endcap.graph import Baskets, CoPurchase
from endcap.models.complement import Complement
from endcap.models.cross_sell import CrossSell, hiding
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.models.cross_sell.towers import Towers
from endcap.simulate import ShopSettings

SETTINGS = {
    "dim": 16, "epochs": 15, "batch_size": 512, "negatives": 0, "learning_rate": 0.02, "text_buckets": 4096,
    "score_by": "network",
}  # fmt: skip
N_ITEMS = 150


@cache
def made() -> simulate.Simulation:
    return simulate.tables(
        ShopSettings(events=20_000, items=N_ITEMS, users=1_500, seed=1, best=0, converts=0.8, checkout=0.9)
    )


@cache
def shop() -> Shop:
    return Shop.from_tables(made().events, made().items)


@cache
def trained() -> CrossSell:
    return CrossSell(**SETTINGS).fit(shop())


@cache
def truth() -> tuple[dict[str, set[str]], dict[str, str]]:
    """The planted complements of each item, and its leaf, whose items are rivals."""
    complements: dict[str, set[str]] = {}
    for item, other in zip(*(made().truth["complements"][n].to_pylist() for n in ("item", "complement")), strict=True):
        complements.setdefault(item, set()).add(other)
    items = made().truth["items"]
    return complements, dict(zip(items["item"].to_pylist(), items["leaf"].to_pylist(), strict=True))


def share_of_complements(model: CrossSell) -> float:
    ids, (complements, _) = shop().items.ids.to_pylist(), truth()
    lists, _ = model.related_batch(np.arange(N_ITEMS, dtype=np.int32), 0, 3, 10)
    return (
        float(
            np.mean(
                [len({ids[i] for i in row if i >= 0} & complements.get(ids[n], set())) for n, row in enumerate(lists)]
            )
        )
        / 10
    )


def test_planted_complements_are_found_far_above_chance() -> None:
    assert share_of_complements(trained()) > 3 * 10 / N_ITEMS


@pytest.mark.parametrize("encoder", ["sage", "sage-pool", "gat", "gatv2", "pinsage"])
def test_every_encoder_learns(encoder: str) -> None:
    model = CrossSell(**SETTINGS, encoder=encoder, complement="none").fit(shop())
    losses = [epoch["loss"] for epoch in model._course["epochs"]]
    assert losses[-1] < losses[0]
    assert share_of_complements(model) > 1.2 * 10 / N_ITEMS


def test_a_rival_never_comes_first_and_hardly_ever_at_all() -> None:
    ids, (_, leaf) = shop().items.ids.to_pylist(), truth()
    rivals = []
    for item in range(N_ITEMS):
        answer = trained().candidates(Request(k=5, item=item))
        assert item not in answer.items
        rivals.append([leaf[ids[other]] == leaf[ids[item]] for other in answer.items])
    assert not any(row[0] for row in rivals if row)
    without = CrossSell(**SETTINGS, complement="none").fit(shop())
    lists, _ = without.related_batch(np.arange(N_ITEMS, dtype=np.int32), 0, 3, 5)
    among_all = np.mean([leaf[ids[b]] == leaf[ids[a]] for a, row in enumerate(lists) for b in row])
    assert np.mean(np.concatenate(rivals)) < 0.2 * among_all


def test_the_score_is_the_product_of_its_parts_and_falls() -> None:
    answer = trained().candidates(Request(k=5, item=3))
    parts = trained().parts(np.array([3], np.int32), answer.items)
    np.testing.assert_allclose(answer.scores, parts.final, rtol=1e-6)
    assert (np.diff(answer.scores) <= 0).all()
    assert not parts.rivals.any()


def test_reasons_name_what_was_bought_with_it_and_parts_come_with_the_answer() -> None:
    request = Request(k=10, item=3)
    answer = trained().candidates(request)
    linked = answer.items[(answer.evidence.because >= 0) & (trained()._bought[answer.items] > 20)]
    reasons = trained().explain(request, int(linked[0]))
    assert [reason.note for reason in reasons] == ["bought together", "by way of"]
    assert reasons[0].value == trained()._partners[[3], [int(linked[0])]]
    parts = answer.parts
    np.testing.assert_allclose(parts["similarity"] * parts["complement"] * parts["recency"], answer.scores, rtol=1e-5)


def test_a_basket_is_answered_without_what_is_in_it() -> None:
    basket = np.array([1, 2, 3], np.int32)
    answer = trained().candidates(Request(k=10, basket=basket))
    assert len(answer)
    assert not np.isin(answer.items, basket).any()


def test_a_very_large_basket_and_one_of_unknown_items() -> None:
    large = np.random.default_rng(0).integers(0, N_ITEMS, 10_000).astype(np.int32)
    assert len(trained().candidates(Request(k=5, basket=large))) == 0  # it holds everything there is
    half = trained().candidates(Request(k=5, basket=large[large < N_ITEMS // 2]))
    assert len(half)
    assert (half.items >= N_ITEMS // 2).all()
    assert len(trained().candidates(Request(k=5, basket=np.array([10**6, -1], np.int32)))) == 0
    mixed = trained().candidates(Request(k=5, basket=np.array([10**6, 3], np.int32)))
    np.testing.assert_array_equal(mixed.items, trained().candidates(Request(k=5, basket=np.array([3], np.int32))).items)


def test_it_comes_back_with_its_classifier(tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    for item in (0, 7, 90):
        ours, theirs = (model.candidates(Request(k=8, item=item)) for model in (trained(), opened))
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.scores, theirs.scores)


def test_without_examples_of_both_kinds_nothing_is_left_out_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = made().events.filter(pa.compute.equal(made().events["interaction"], "purchase"))
    with caplog.at_level(logging.WARNING):
        model = CrossSell(**SETTINGS | {"epochs": 1}).fit(Shop.from_tables(events, made().items))
    assert "no rivals are left out" in caplog.text
    assert len(model.candidates(Request(k=3, item=0)))


def test_relations_are_links_like_baskets() -> None:
    """Items 0 and 1 are linked by word alone; the next question for one of them finds the other."""
    clicks = {"user": ["a", "b"], "item": ["x", "y"], "interaction": ["click"] * 2, "time": [1_600_000_000] * 2}
    items = pa.table({"item": [f"i{n}" for n in range(8)]})
    catalogued = Shop.from_tables(pa.table(clicks), items)
    pairs = [("i0", "i1"), ("i0", "i1"), ("i2", "i3"), ("i4", "i5"), ("i4", "i4"), ("i6", "nobody")]
    table = pa.table({"item": [a for a, _ in pairs], "other": [b for _, b in pairs], "relation": ["also_bought"] * 6})
    model = CrossSell(**SETTINGS | {"epochs": 40}, complement="none").with_relations(table).fit(catalogued)
    assert model.related("i0", k=1)[0][0] == "i1"
    assert model._partners.nnz == 6


def test_every_step_hides_its_baskets(monkeypatch: pytest.MonkeyPatch) -> None:
    real, thinner = Towers.tables, []

    def watched(self: Towers, mass: np.ndarray, items: np.ndarray | None = None) -> tuple:
        if self.training:
            thinner.append(mass.sum() < self.graph.mass.sum())
        return real(self, mass, items)

    monkeypatch.setattr(Towers, "tables", watched)
    CrossSell(**SETTINGS | {"epochs": 2}, complement="none").fit(shop())
    assert thinner
    assert all(thinner)


def test_pairs_are_counted_once_of_all_baskets_and_once_of_those_that_are_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, of = hiding.co_purchase, []

    def watched(baskets: Baskets, *given: Any, **settings: Any) -> CoPurchase:
        of.append(len(baskets))
        return real(baskets, *given, **settings)

    monkeypatch.setattr(hiding, "co_purchase", watched)
    CrossSell(**SETTINGS | {"epochs": 1}, complement="none").fit(shop())
    learnt, everything = sorted(of)
    assert learnt < everything


def test_a_checkpoint_goes_with_the_relations_that_were_given(tmp_path: Path) -> None:
    def key(*pairs: tuple[str, str]) -> str:
        table = {"item": [a for a, _ in pairs], "other": [b for _, b in pairs], "relation": ["complement"] * len(pairs)}
        model = CrossSell(**SETTINGS | {"epochs": 1}, complement="none").with_relations(pa.table(table))
        return model.fit(shop(), checkpoint=tmp_path / "c").checkpoint.key

    assert key(("I001", "I002")) == key(("I001", "I002")) != key(("I001", "I003"))


def test_damping_without_evidence_is_refused() -> None:
    with pytest.raises(InputError, match="set score_by=evidence"):
        CrossSell(damping=0.5, score_by="network")


def test_with_evidence_the_scores_are_its_own_and_come_back(tmp_path: Path) -> None:
    model = CrossSell(**SETTINGS | {"epochs": 1, "score_by": "evidence"}, complement="none").fit(shop())
    request, items = Request(k=1, basket=np.array([3, 7], np.int32)), np.arange(N_ITEMS, dtype=np.int32)
    model.save(tmp_path / "model")
    ours = model.score(request, items)
    np.testing.assert_array_equal(ours, models.open(tmp_path / "model").score(request, items))
    ids, (complements, _) = shop().items.ids.to_pylist(), truth()
    found = []
    for item in np.flatnonzero(model._bought):
        best = np.argsort(-model.score(Request(k=1, item=int(item)), items))[:10]
        found.append(len({ids[other] for other in best} & complements.get(ids[item], set())))
    assert np.mean(found) / 10 > 3 * 10 / N_ITEMS


def test_nobody_is_asked_for_nothing() -> None:
    assert len(trained().candidates(Request(k=5, basket=NOTHING))) == 0


def test_rivals_are_left_out_of_lists_of_any_length() -> None:
    n_left_out = 0
    for item in range(0, N_ITEMS, 10):
        answer = trained().candidates(Request(k=N_ITEMS, item=item))
        parts = trained().parts(np.array([item], np.int32), answer.items)
        assert not parts.rivals.any()
        assert not set(answer.items.tolist()) & set(answer.left_out.items.tolist())
        n_left_out += len(answer.left_out.items)
    assert n_left_out > 0


def test_rivals_are_told_among_what_shares_a_category() -> None:
    _, (_, leaf) = shop(), truth()
    ids = shop().items.ids.to_pylist()
    everything = np.arange(N_ITEMS, dtype=np.int32)
    told = [trained().rivals(Request(k=1, item=item), everything) for item in range(0, N_ITEMS, 10)]
    same = [np.array([leaf[name] == leaf[ids[item]] for name in ids]) for item in range(0, N_ITEMS, 10)]
    told, same = np.stack(told), np.stack(same)
    assert told[same].mean() > 0.8
    assert not told[~same].any()
    assert (
        CrossSell(**SETTINGS | {"epochs": 1}, complement="none").fit(shop()).rivals(Request(k=1, item=3), everything)
        is None
    )


def test_a_list_is_that_of_all_parts_though_few_are_worked_out() -> None:
    model, asked = trained(), np.array([3, 7], np.int32)
    request = Request(k=5, basket=asked)
    found = model.candidates(request)
    items = model._companions(asked).nearest(200)
    parts = model.parts(asked, items)
    order = np.argsort(-parts.final, kind="stable")
    best = order[~parts.rivals[order]][:5]
    np.testing.assert_array_equal(found.items, items[best])
    np.testing.assert_allclose(found.scores, parts.final[best], rtol=1e-5)
    assert found.parts is not None
    np.testing.assert_allclose(found.parts["complement"], parts.complement[best], rtol=1e-5)


def test_nothing_is_told_twice_in_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a list looks at more than it did first, only what is new is asked about."""
    model, asked = trained(), np.array([3], np.int32)
    companions, told, seen = model._companions(asked), dict[int, float](), list[int]()
    wanted, probability = model.parts(asked, companions.nearest(100)), Complement.probability

    def recorded(self: Complement, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        seen.extend(right.tolist())
        return probability(self, left, right)

    monkeypatch.setattr(Complement, "probability", recorded)
    model._parts_of_best(companions, asked, companions.nearest(40), 30, told)
    n_first = len(seen)
    found = model._parts_of_best(companions, asked, companions.nearest(100), 60, told)
    assert 30 <= n_first < len(seen) == len(set(seen)) == len(told)
    known = ~np.isnan(found.complement)
    assert known.sum() >= 60
    np.testing.assert_array_equal(found.complement[known], wanted.complement[known])


def test_a_model_is_let_go_at_once(tmp_path: Path) -> None:
    """Without waiting for the garbage collector, which a server tells to pass over what it opened first."""
    trained().save(tmp_path / "model")
    models.open(tmp_path / "model").candidates(Request(k=3, item=3))  # compiling leaves frames behind
    gc.collect()
    gc.disable()
    try:
        model = models.open(tmp_path / "model")
        model.candidates(Request(k=3, item=3))
        gone = weakref.ref(model)
        del model
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(("baskets", "size"), [(10, 64), (4_000, 125), (1_000_000, 4_096)])
def test_a_step_takes_a_share_of_the_baskets_unless_it_is_told_how_many(baskets: int, size: int) -> None:
    assert CrossSellConfig().baskets_of_step(baskets) == size
    assert CrossSellConfig(batch_size=7).baskets_of_step(baskets) == 7
