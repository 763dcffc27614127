"""Matrix factorisation: what it adds to the library it is made with."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.answers import History, Request, Space
from endcap.index import Exact
from endcap.models.als import Als, AlsTyped
from endcap.shop import Shop

from .shops import checkerboard, simulated

CLICK, CART = 0, 2


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.from_tables(*simulated())


@pytest.fixture(scope="module")
def typed(shop: Shop) -> AlsTyped:
    return AlsTyped(factors=8).fit(shop)


def history(*actions: tuple[int, int]) -> History:
    items, kinds = zip(*actions, strict=True)
    return History(np.array(items, np.int32), np.array(kinds, np.int8), np.arange(len(items)))


def test_typed_spaces_hold_the_items_seen_as_each_interaction(shop: Shop, typed: AlsTyped) -> None:
    past = shop.positives
    for name, space in typed.spaces().items():
        code = shop.interactions.code(name)
        np.testing.assert_array_equal(space.items, np.unique(past.item[past.interaction == code]))
        np.testing.assert_allclose(np.linalg.norm(space.vectors, axis=1), 1, rtol=1e-5)


def test_attached_searchers_are_used(shop: Shop) -> None:
    model = AlsTyped(factors=8).fit(shop)
    only = model.spaces()["cart"].items[:1]
    model.attach({"cart": Exact(Space(only, model.spaces()["cart"].vectors[:1]))})
    items, _ = model.related_batch(np.arange(shop.n_items), CLICK, CART, 3)
    assert set(np.unique(items)) == {-1, int(only[0])}


@pytest.mark.parametrize("alpha", [1.0, 8.0])
def test_a_known_person_is_folded_in_to_nearly_their_own_factor(alpha: float) -> None:
    shop = checkerboard()
    model = Als(factors=2, alpha=alpha, regularization=0.1).fit(shop)
    even = model.candidates(Request(k=4, history=history((0, CLICK), (2, CLICK)))).items
    assert (even % 2 == 0).all()
    scores = model.score(Request(k=1, history=history((1, CLICK), (3, CART))), np.arange(12, dtype=np.int32))
    assert scores[1::2].min() > scores[::2].max()


def test_score_agrees_with_the_order_of_candidates(shop: Shop, typed: AlsTyped) -> None:
    asked = Request(k=10, history=shop.history(1), want=CART)
    answer = typed.candidates(asked)
    np.testing.assert_allclose(typed.score(asked, answer.items), answer.scores, rtol=1e-4)
    assert typed.score(asked, np.array([-1, shop.n_items], np.int32)).tolist() == [0, 0]


def test_no_regularisation_and_more_factors_than_data_still_answer() -> None:
    model = Als(factors=32, regularization=0).fit(checkerboard(n_items=8, n_users=2))
    answer = model.candidates(Request(k=3, history=history((0, CLICK))))
    assert np.isfinite(answer.scores).all()


@pytest.mark.parametrize("alpha", [1.0, 5.0])
def test_folding_in_solves_the_equation_of_one_person(alpha: float) -> None:
    shop = checkerboard()
    model = Als(factors=3, alpha=alpha, regularization=0.5).fit(shop)
    factors = np.asarray(model._factors, np.float64)
    own = factors[[0, 2, 4]]
    left = factors.T @ factors + (alpha - 1) * own.T @ own + 0.5 * np.eye(3)
    expected = factors @ np.linalg.solve(left, alpha * own.sum(axis=0))
    asked = Request(k=1, history=history((0, CLICK), (2, CART), (4, CLICK), (0, CART)))
    np.testing.assert_allclose(model.score(asked, np.arange(12, dtype=np.int32)), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [Als, AlsTyped])
def test_what_lies_in_the_basket_counts_like_carts_just_now(shop: Shop, kind: type[Als]) -> None:
    model, items = kind(factors=8).fit(shop), np.arange(shop.n_items, dtype=np.int32)
    past = history((1, CLICK))
    carted = history((1, CLICK), (3, CART), (5, CART))
    asked = Request(k=1, history=past, basket=np.array([3, 5, shop.n_items], np.int32))
    np.testing.assert_allclose(model.score(asked, items), model.score(Request(k=1, history=carted), items), rtol=1e-5)
    assert not np.allclose(model.score(asked, items), model.score(Request(k=1, history=past), items))
