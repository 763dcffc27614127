"""The purchase-intent protocol on a log small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluate import evaluate
from endcap.evaluate.purchase_intent import question
from endcap.shop import Shop

from .shops import CART, CLICK, PURCHASE, Memory, shop_of

LATER = 3 * 24 * 60
LISTS = {("b", "click", "cart"): "xd", ("c", "click", "cart"): "ea", ("d", "click", "cart"): "cb"}


@pytest.fixture(scope="module")
def shop() -> Shop:
    """Past: all items are clicked, a by u. Test: u carts and buys d and carts c, v carts e, w looks at a."""
    return shop_of(
        *[("t", item, "click", minute) for minute, item in enumerate("abcdex")],
        ("u", "a", "click", 9),
        ("t", "x", "cart", 10),
        ("u", "b", "click", LATER),
        ("u", "c", "click", LATER + 1),
        ("u", "d", "cart", LATER + 2),
        ("u", "d", "click", LATER + 3),
        ("u", "d", "purchase", LATER + 4),
        ("u", "c", "cart", LATER + 5),
        ("v", "b", "click", LATER),
        ("v", "e", "cart", LATER + 1),
        ("v", "c", "click", LATER + 2),
        ("w", "a", "click", LATER),
    )


def figures(shop: Shop, lists: dict = LISTS, **options: object) -> dict[str, tuple[float, int]]:
    report = evaluate(shop, {"it": Memory(shop, lists)}, test="1d", **{"budgets": (1, 2)} | options)
    return {metric: (round(figure.value, 6), figure.n) for metric, figure in report.models["it"].items()}


def test_every_figure_is_what_one_counts_by_hand(shop: Shop) -> None:
    found = figures(shop)
    assert found["purchase_intent@1"] == (0.5, 4)  # c by d's list, e by c's
    assert found["purchase_intent@2"] == (1.0, 4)  # and d twice, second in b's list
    assert found["purchase_intent_causal@2"] == (0.75, 4)  # v looked at c only after e was in the cart
    assert found["purchase_intent_causal@1"] == (0.25, 4)
    assert found["purchase_intent_own@1"] == (1.0, 4)  # d and c were clicked, too
    assert found["purchase_intent_session@1"] == (round((1 / 3 + 1) / 2, 6), 2)
    assert found["purchase_intent_last4@2"] == (0.75, 4)
    assert found["coverage_items"] == (0.5, 6)
    assert found["coverage_traffic"] == (round(5 / 6, 6), 6)


def test_a_list_that_holds_its_own_item_gains_nothing(shop: Shop) -> None:
    cheat = {(item, "click", "cart"): item for item in "abcde"}
    found = figures(shop, cheat)
    assert found["purchase_intent@2"][0] == 0
    assert found["purchase_intent_last4@2"][0] == 0


def test_the_last_four_reach_back_into_the_training_part(shop: Shop) -> None:
    found = figures(shop, {("a", "click", "cart"): "d"})
    assert found["purchase_intent@1"][0] == 0
    assert found["purchase_intent_last4@1"] == (0.5, 4)


def test_any_source_asks_for_each_action_as_what_it_was(shop: Shop) -> None:
    lists = {("d", "cart", "cart"): "c", ("b", "click", "cart"): "e"}
    found = figures(shop, lists, source="any")
    assert found["purchase_intent@1"] == (0.5, 4)  # c by the cart of d, e by the click on b
    assert figures(shop, lists, source="cart")["purchase_intent@1"] == (0.5, 2)  # d's purchase and c after d's cart


def test_all_pairs_are_reported_where_they_have_targets(shop: Shop) -> None:
    report = evaluate(shop, {"it": Memory(shop, LISTS)}, test="1d", budgets=(1, 2), pairs="all")
    assert list(report.pairs) == ["click:cart", "click:click", "cart:click", "cart:cart"]
    assert report.pairs["click:cart"] == report.models
    assert report.pairs["click:click"]["it"]["purchase_intent@2"].value == 0
    assert report.to_dict()["pairs"]["cart:cart"]["it"]["purchase_intent@1"]["n"] == 2


def test_a_shop_without_carts_wants_purchases() -> None:
    shop = shop_of(("u", "a", "favourite", 0), ("u", "b", "purchase", 1))
    asked = question(shop)
    assert (asked.source, asked.want, asked.intents) == (1, PURCHASE, (CART, PURCHASE))
    asked = question(shop_of(("u", "a", "click", 0), ("u", "b", "cart", 1), ("u", "b", "purchase", 2)))
    assert (asked.source, asked.want, asked.intents) == (CLICK, CART, (CART, PURCHASE))


def test_a_shop_with_clicks_only_counts_clicks() -> None:
    shop = shop_of(("u", "a", "click", 0), ("u", "b", "click", LATER), ("u", "a", "click", LATER + 1))
    found = figures(shop, {("b", "click", "click"): "a"})
    assert found["purchase_intent@1"] == (1.0, 1)


def test_a_test_part_without_targets_says_what_to_do(shop: Shop) -> None:
    with pytest.raises(InputError, match="no test session has a target"):
        evaluate(shop, {"it": Memory(shop, LISTS)}, test="1d", source="favourite")


def test_a_model_without_lists_is_refused(shop: Shop) -> None:
    with pytest.raises(InputError, match="relates no items"):
        evaluate(shop, {"it": object()}, test="1d")


def test_large_catalogues_are_covered_by_sample(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.evaluate.outcomes.MOST_SAMPLED", 3)
    found = figures(shop)
    assert found["coverage_items"][1] == found["coverage_traffic"][1] == 3


def test_blocks_of_lists_do_not_change_the_figures(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = figures(shop)
    monkeypatch.setattr("endcap.evaluate.purchase_intent.CELLS_AT_ONCE", 2)
    assert figures(shop) == whole


def test_sessions_that_began_before_the_cut_are_in_neither_part() -> None:
    cut = LATER + 10 - 24 * 60
    shop = shop_of(
        ("u", "a", "click", 0),
        ("u", "b", "cart", 1),
        ("u", "a", "click", cut - 1),
        ("u", "b", "cart", cut + 1),
        ("v", "a", "click", LATER),
        ("v", "b", "cart", LATER + 9),
    )
    assert figures(shop, {("a", "click", "cart"): "b"})["purchase_intent@1"][1] == 1


def test_intervals_draw_people_not_targets(shop: Shop) -> None:
    report = evaluate(shop, {"it": Memory(shop, {("c", "click", "cart"): "e"})}, test="1d", budgets=(1,))
    figure = report.models["it"]["purchase_intent@1"]
    # v's one target hits, u's three do not: a draw of people holds u only, v only, or both
    assert (figure.low, figure.value, figure.high) == (0.0, 0.25, 1.0)


def test_item_0_is_a_target_and_a_source_like_any_other() -> None:
    shop = shop_of(
        ("t", "a", "click", 0),
        ("t", "b", "cart", 1),
        ("u", "a", "click", LATER),
        ("u", "b", "cart", LATER + 1),
        ("v", "b", "click", LATER),
        ("v", "a", "cart", LATER + 1),
    )
    assert shop.items[0] == "a"
    found = figures(shop, {("a", "click", "cart"): "b", ("b", "click", "cart"): "a"})
    assert found["purchase_intent@1"] == (1.0, 2)
    assert figures(shop, {})["purchase_intent@1"] == (0.0, 2)


def test_the_same_figures_from_a_pair_of_views(shop: Shop) -> None:
    whole = evaluate(shop, {"it": Memory(shop, LISTS)}, test="1d").models
    assert evaluate(shop.split_by_time("1d"), {"it": Memory(shop, LISTS)}).models == whole
    assert not np.isnan(whole["it"]["purchase_intent@200"].value)
