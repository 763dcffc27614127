"""The next-item protocol on a log small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.evaluate import evaluate
from endcap.evaluate.next_item import NextItem
from endcap.shop import Shop

from .shops import CART, CLICK, Alphabet, shop_of

LATER = 3 * 24 * 60


@pytest.fixture(scope="module")
def shop() -> Shop:
    """u knows a and b and comes back for b, then c; v is new and sees d, then a; w sees one item; t stays away."""
    return shop_of(
        *[("t", item, "click", minute) for minute, item in enumerate("abcdef")],
        ("u", "a", "click", 10),
        ("u", "b", "click", 11),
        ("u", "b", "cart", LATER),
        ("u", "c", "click", LATER + 1),
        ("u", "c", "cart", LATER + 2),
        ("u", "d", "click", LATER + 3),
        ("v", "d", "click", LATER),
        ("v", "d", "cart", LATER + 1),
        ("v", "a", "click", LATER + 2),
        ("w", "f", "click", LATER),
        items=dict.fromkeys("abc", "x/y") | dict.fromkeys("de", "x/z"),
    )


def queries(shop: Shop, **options: object) -> list[tuple[str, str, str, int]]:
    """(user, history, target, interaction) of every query."""
    contest = NextItem(*shop.split_by_time("1d"), **options)
    return [
        (
            shop.users[contest.user[place]],
            "".join(shop.items[item] for item in contest.life.history(row).items),
            shop.items[contest.target[place]],
            int(contest.life.interaction[row]),
        )
        for place, row in enumerate(contest.rows)
    ]


def test_a_person_is_asked_at_the_first_new_item_after_a_known_one(shop: Shop) -> None:
    assert queries(shop) == [("u", "abb", "c", CLICK), ("v", "dd", "a", CLICK)]


def test_with_repeats_at_the_first_action_after_a_known_one(shop: Shop) -> None:
    assert queries(shop, repeats=True) == [("u", "ab", "b", CART), ("v", "d", "d", CART)]


def test_every_asks_at_each_new_item(shop: Shop) -> None:
    assert [(who, target) for who, _, target, _ in queries(shop, every=True)] == [("u", "c"), ("u", "d"), ("v", "a")]


def test_one_wanted_interaction_leaves_the_others_in_the_history(shop: Shop) -> None:
    assert queries(shop, want="cart", repeats=True) == [("u", "ab", "b", CART), ("v", "d", "d", CART)]
    with pytest.raises(InputError, match="next-item"):
        queries(shop, want="cart")  # whatever is carted was clicked before


def test_figures_are_what_one_counts_by_hand(shop: Shop) -> None:
    model = Alphabet(shop)
    report = evaluate(shop, {"abc": model}, protocol="next-item", test="1d", lengths=(1, 2, 3))
    found = {metric: figure.value for metric, figure in report.models["abc"].items()}
    # u has a and b behind, so the list is c d e ...; v has d behind, so it is a b c ...
    assert found["hit_rate@1"] == found["ndcg@1"] == found["mrr"] == found["recall@2"] == 1
    assert found["coverage@1"] == pytest.approx(2 / 6)
    assert found["diversity@2"] == pytest.approx(0.5)  # c d: two categories; a b: one
    assert [request.user for request in model.asked] == [shop.users.number("u"), None]  # v is new after the split
    assert report.models["abc"]["hit_rate@1"].n == 2


def test_novelty_counts_the_people_of_the_training_part(shop: Shop) -> None:
    report = evaluate(shop, {"abc": Alphabet(shop)}, protocol="next-item", test="1d", lengths=(1,))
    share_of_c, share_of_a = (1 + 1) / (2 + 1), (2 + 1) / (2 + 1)  # t knows all, u knows a; one more is imagined
    expected = np.mean([-np.log2(share_of_c), -np.log2(share_of_a)])
    assert report.models["abc"]["novelty@1"].value == pytest.approx(expected)


def test_with_repeats_answers_keep_what_the_person_knows(shop: Shop) -> None:
    report = evaluate(shop, {"abc": Alphabet(shop)}, protocol="next-item", test="1d", lengths=(2, 4), repeats=True)
    assert report.models["abc"]["hit_rate@2"].value == 0.5  # a b for both
    assert report.models["abc"]["mrr"].value == pytest.approx((1 / 2 + 1 / 4) / 2)


def test_more_queries_than_wanted_are_drawn_by_seed(shop: Shop) -> None:
    drawn = [queries(shop, every=True, at_most=2, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({str(sample) for sample in drawn}) > 1
    assert all(len(sample) == 2 for sample in drawn)


def test_nobody_to_ask_says_what_to_do() -> None:
    shop = shop_of(("u", "a", "click", 0), ("v", "a", "click", LATER))
    with pytest.raises(InputError, match="longer --test"):
        evaluate(shop, ["popularity"], protocol="next-item", test="1d")


def test_a_model_that_answers_no_requests_is_refused(shop: Shop) -> None:
    with pytest.raises(InputError, match="candidates"):
        evaluate(shop, {"it": object()}, protocol="next-item", test="1d")
