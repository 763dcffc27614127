"""Graph cross-sell on logs, catalogues, folders and questions that are not what they should be."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap import Shop, evaluate, models
from endcap.answers import History, Reason, Request
from endcap.errors import DamagedArtefact, InputError
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.score import FLOOR

from .shops import habits, simulated

QUICK = {"dim": 8, "epochs": 2, "batch_size": 128, "text_buckets": 256, "complement": "none", "score_by": "network"}
CLICK, PURCHASE = 0, 3
NUMBERS = st.integers(-3, 4_000) | st.integers(0, 50) | st.sampled_from([2**31 - 1, -(2**31)])
SOME = st.lists(NUMBERS, max_size=30).map(lambda numbers: np.array(numbers, np.int32))
HUGE = " ".join(f"x{number}" for number in range(10_000))


def shop_of(*orders: str, kind: str = "purchase", catalogue: pa.Table | None = None) -> Shop:
    """A shop of orders, one user and a day each; items are words."""
    days = [day for day, order in enumerate(orders) for _ in order.split()]
    events = pa.table({
        "user": [f"u{day}" for day in days],
        "item": [item for order in orders for item in order.split()],
        "interaction": [kind] * len(days),
        "time": [1_600_000_000 + 86_400 * day for day in days],
        "order": [f"o{day}" for day in days],
    })  # fmt: skip
    return Shop.from_tables(events, catalogue)


@cache
def groups() -> list[str]:
    """Orders of two or three products of one of six groups of four."""
    rng = np.random.default_rng(0)
    return [
        " ".join(f"g{group}i{item}" for item in rng.permutation(4)[: rng.integers(2, 4)])
        for group in rng.integers(0, 6, 150)
    ]


@cache
def trained() -> CrossSell:
    """With a classifier and evidence."""
    return CrossSell(**QUICK | {"complement": "boosting", "score_by": "evidence"}).fit(Shop.from_tables(*simulated()))


@cache
def of_habits() -> CrossSell:
    """What is bought next, by people who bought several times."""
    return CrossSell(**QUICK | {"score_by": "next"}).fit(habits())


def asked(model: CrossSell, item: str, k: int = 5) -> list[str]:
    ids = model.origin.items
    return ids.decode(model.candidates(Request(k=k, item=ids.number(item))).items)


def group_share(model: CrossSell) -> float:
    """How many of the first three are of the asked product's group; by chance 3 of 23."""
    names = [name for name in model.origin.items.ids.to_pylist() if name.startswith("g")]
    return float(np.mean([[other[:2] == name[:2] for other in asked(model, name, 3)] for name in names]))


# -- logs --------------------------------------------------------------------------------------------------------------


def test_without_purchases_the_strongest_interaction_stands_for_them() -> None:
    assert group_share(CrossSell(**QUICK | {"epochs": 20}).fit(shop_of(*groups(), kind="click"))) > 0.5


def test_without_a_basket_of_two_there_is_no_answer_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = CrossSell(**QUICK).fit(shop_of("a", "b", "a"))
    assert "no basket holds two products" in caplog.text
    assert len(model.candidates(Request(k=5, item=0))) == 0
    assert not model.score(Request(k=5, item=0), np.arange(2, dtype=np.int32)).any()


@pytest.mark.parametrize("score_by", ["auto", "network", "evidence", "walk"])
def test_one_basket(score_by: str) -> None:
    model = CrossSell(**QUICK | {"score_by": score_by}).fit(shop_of("a b c"))
    assert sorted(asked(model, "a")) == ["b", "c"]


@pytest.mark.parametrize("score_by", ["network", "evidence"])
def test_a_basket_of_ten_thousand_teaches_nothing_and_can_be_asked_with(score_by: str) -> None:
    model = CrossSell(**QUICK | {"score_by": score_by}).fit(shop_of(HUGE, *groups()))
    assert model._partners.nnz < 24 * 24
    assert all(name.startswith("g") for name in asked(model, "g0i0", 50))
    everything = np.arange(len(model.origin.items), dtype=np.int32)
    assert len(model.candidates(Request(k=5, basket=everything))) == 0
    assert len(model.candidates(Request(k=5, basket=everything[:-8]))) == 5  # the last came last, and are of groups
    assert np.isfinite(model.score(Request(k=5, basket=everything), everything)).all()


@pytest.mark.parametrize("largest", [0, 20_000])
def test_a_basket_of_ten_thousand_products_is_refused_where_it_is_not_left_out(largest: int) -> None:
    with pytest.raises(InputError, match=rf"^largest={largest}: a basket holds 10,000 products.*largest=50"):
        CrossSell(**QUICK, largest=largest).fit(shop_of(HUGE, *groups()))


def test_a_product_in_every_basket_is_not_listed_and_leaves_the_others_their_group() -> None:
    orders = [f"{order} bag" for order in groups()]
    model = CrossSell(**QUICK | {"epochs": 20}).fit(shop_of(*orders))
    answer = asked(model, "g0i0", 30)
    assert "bag" not in answer
    assert asked(model, "bag", 5)
    assert np.isfinite(model.candidates(Request(k=30, item=0)).scores).all()
    assert group_share(model) > 0.4


def test_lines_that_are_there_twice_change_nothing() -> None:
    once, twice = shop_of(*groups()), shop_of(*(f"{order} {order}" for order in groups()))
    assert len(twice.events) == 2 * len(once.events)
    a, b = (CrossSell(**QUICK).fit(log) for log in (once, twice))
    np.testing.assert_array_equal(a._source, b._source)
    np.testing.assert_array_equal(a._partners.toarray(), b._partners.toarray())
    assert not a._partners.diagonal().any()  # nothing goes with itself


# -- catalogues --------------------------------------------------------------------------------------------------------


def test_categories_with_circles_and_gaps_and_unknown_ones() -> None:
    names = sorted({name for order in groups() for name in order.split()})
    odd = ["a/b/a/b", "a/a", None, "", "/", "a//b", "b/a", "  "]
    table = pa.table({"item": names, "category": [odd[place % len(odd)] for place in range(len(names))]})
    model = CrossSell(**QUICK | {"complement": "boosting"}).fit(shop_of(*groups(), catalogue=table))
    answer = model.candidates(Request(k=5, item=0))
    assert len(answer)
    assert np.isfinite(answer.scores).all()


def test_prices_and_vectors_that_are_no_numbers_never_reach_the_network() -> None:
    """Not-a-number is an unknown price; a row whose vector holds one is kept aside with its line."""
    table = pa.table({"item": ["g0i0", "g0i1"], "price": [math.nan, 3.0], "vector_image": [[0.5, 1.0], [1.0, 0.5]]})
    model = CrossSell(**QUICK | {"text": "vector_image"}).fit(shop_of(*groups(), catalogue=table))
    assert np.isfinite(model._source).all()
    for number in (math.nan, math.inf):
        bad = table.set_column(2, "vector_image", pa.array([[0.5, number], [1.0, 0.5]]))
        with pytest.raises(InputError, match=r"not-a-number in vector \(e\.g\. .*line 1: item=g0i0"):
            shop_of(*groups(), catalogue=bad)


# -- questions ---------------------------------------------------------------------------------------------------------


def test_an_unknown_product_in_a_basket_changes_nothing() -> None:
    n = len(trained().origin.items)
    known, mixed = np.array([3, 7], np.int32), np.array([n + 5, 3, -1, 7, 2**31 - 1], np.int32)
    a, b = (trained().candidates(Request(k=8, basket=basket)) for basket in (known, mixed))
    np.testing.assert_array_equal(a.items, b.items)
    np.testing.assert_array_equal(a.scores, b.scores)


def test_what_no_link_leads_to_has_a_reason_too() -> None:
    """Whether such an item is listed hangs on the training's last bits; its reason does not."""
    catalogue = pa.table({"item": ["a1", "b1", "b2", "c2"], "category": ["a", "b", "b", "c"]})
    model = CrossSell(**QUICK).fit(shop_of(*["a1 b1", "b2 c2"] * 30, catalogue=catalogue))
    number = model.origin.items.number
    a1, b2, c2 = (number(item) for item in ("a1", "b2", "c2"))
    asked = Request(k=1, item=a1)
    assert model.explain(asked, b2) == [Reason("relation", item=a1, note="by category")]
    assert model.explain(asked, c2) == [Reason("relation", note="no basket links them closely: placed by network")]


@pytest.mark.parametrize("score_by", ["evidence", "next"])
@given(
    item=st.none() | NUMBERS,
    basket=SOME,
    past=SOME,
    items=SOME,
    k=st.integers(1, 300),
    seed=st.none() | st.integers(0, 9),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_whatever_is_asked_the_answer_is_a_list(
    score_by: str, item: int | None, basket: np.ndarray, past: np.ndarray, items: np.ndarray, k: int, seed: int | None
) -> None:
    model = trained() if score_by == "evidence" else of_habits()
    assert model._chosen == score_by
    n = len(model.origin.items)
    allowed = None if seed is None else np.random.default_rng(seed).random(n) < 0.5
    history = History(past, np.full(len(past), PURCHASE, np.int8), np.arange(len(past)))
    request = Request(k=k, item=item, basket=basket, history=history, allowed=allowed)
    answer = model.candidates(request)
    assert len(answer) <= k
    assert len(np.unique(answer.items)) == len(answer)
    assert ((answer.items >= 0) & (answer.items < n)).all()
    assert not np.isin(answer.items, basket).any()
    assert item not in answer.items
    assert allowed is None or allowed[answer.items].all()
    assert np.isfinite(answer.scores).all()
    assert (np.diff(answer.scores) <= 0).all()
    scores = model.score(request, items)
    assert scores.shape == items.shape
    assert np.isfinite(scores).all()
    for one in answer.items[:2].tolist():
        assert model.explain(request, one)
    known, asked_with = items[(items >= 0) & (items < n)], model._asked_of(request)
    parts = model.parts(asked_with, known, history) if len(asked_with) else ()
    for values, low in zip(parts, (0, 0, FLOOR) if parts else (), strict=True):
        assert ((values >= low - 1e-6) & (values <= 1 + 1e-6)).all()
    lists, list_scores = model.related_batch(items, CLICK, PURCHASE, k, allowed)
    assert lists.shape == list_scores.shape == (len(items), k)
    assert (np.isneginf(list_scores) == (lists < 0)).all()
    assert not (lists == items[:, None])[lists >= 0].any()


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["source.npy", "partners-indices.npy", "*-partner.npy", "complement/*"])
def test_a_folder_whose_files_were_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    file = max((tmp_path / "model").glob(name), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DamagedArtefact, match=rf"{file.name}: changed since it was written .* write this model again"):
        models.open(tmp_path / "model")


def test_a_model_of_another_shop_is_refused(tmp_path: Path) -> None:
    early, late = shop_of(*groups()).split_by_time("30d")
    CrossSell(**QUICK).fit(early).save(tmp_path / "model")
    others = [replace(part, items=shop_of("q r", *groups()).items) for part in (early, late)]
    with pytest.raises(InputError, match="another shop"):
        evaluate((others[0], others[1]), [str(tmp_path / "model")], protocol="cross-sell")
