"""Histories, bought sets and popularity: small shops with a known answer, and the shop's own words for a large one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from known_shop import DAY, ITEMS, make_shop

from endcap.release.contents import bought, category_pairs, group_items, histories, popular_order
from endcap.shop import Events, Shop, Vocabulary


def named(order) -> list[str]:
    return [ITEMS[number] for number in order]


def test_histories_are_the_last_positive_actions_in_order_of_time(shop: Shop):
    kept = histories(shop, length=30)
    lengths = np.diff(kept.offsets)
    assert lengths.max() == 30
    for user in range(shop.n_users):
        rows = slice(kept.offsets[user], kept.offsets[user + 1])
        expected = shop.history(user).last(30)
        np.testing.assert_array_equal(kept.items[rows], expected.items)
        np.testing.assert_array_equal(kept.interactions[rows], expected.interactions)
        np.testing.assert_array_equal(kept.times[rows], expected.times)


def test_bought_is_what_was_not_given_back_since(small_shop: Shop):
    kept = bought(small_shop)
    assert kept.offsets.tolist() == [0, 1, 1, 1]
    assert named(kept.items) == ["desk"]


def test_an_item_bought_again_after_its_return_is_bought():
    shop = make_shop([(0, "pen", "purchase", 1), (0, "pen", "return", 2), (0, "pen", "purchase", 3)])
    assert named(bought(shop).items) == ["pen"]


def test_a_shop_without_purchases_has_nothing_bought(small_shop: Shop):
    from dataclasses import replace

    from endcap.shop import Interactions

    renamed = replace(small_shop, interactions=Interactions(("look", "like", "want", "take")))
    assert bought(renamed).offsets.tolist() == [0, 0, 0, 0]


def test_popularity_counts_lately_then_ever_then_any_action_then_the_number():
    shop = make_shop(
        [
            (0, "pen", "click", 0),
            (0, "pen", "click", 1),  # most clicks, but long ago
            (1, "cup", "click", 99),
            (1, "desk", "purchase", 99),
            (2, "cup", "return", 100),  # a return moves no window and counts for nothing
        ]
    )
    order = popular_order(shop, window=30 * DAY)
    assert named(order[0]) == ["cup", "pen", "desk", "lamp", "ink"]
    assert named(order[3]) == ["desk", "pen", "cup", "lamp", "ink"]
    assert named(order[1]) == ["pen", "desk", "cup", "lamp", "ink"]


def test_categories_of_one_branch_lie_together():
    catalogue = pa.table({"category": ["a b", "a/z", "a", "a/b", None, "b"]})
    groups = group_items(catalogue, "category")
    assert list(groups.names) == ["", "a", "a/b", "a/z", "a b", "b"]
    assert groups.items.tolist() == [4, 2, 3, 1, 0, 5]
    assert groups.offsets.tolist() == [0, 1, 2, 3, 4, 5, 6]


def test_a_column_that_the_catalogue_lacks_makes_no_groups():
    groups = group_items(pa.table({"item": ["a"]}), "seller")
    assert (list(groups.names), groups.items.tolist()) == ([], [])


def baskets_shop(baskets: list[list[int]], categories: list[str | None] | None) -> Shop:
    """Item n is of categories[n]; basket b is one session of purchases of user b."""
    n = max(item for basket in baskets for item in basket) + 1
    session = np.repeat(np.arange(len(baskets), dtype=np.int32), [len(basket) for basket in baskets])
    items = np.array([item for basket in baskets for item in basket], np.int32)
    kind = np.full(len(items), 3, np.int8)
    catalogue = {"item": [f"i{i}" for i in range(n)]} | ({} if categories is None else {"category": categories})
    return Shop(
        Events(session, items, kind, DAY * np.arange(len(items), dtype=np.int64), session),
        Vocabulary(catalogue["item"]),
        Vocabulary([f"u{user}" for user in range(len(baskets))]),
        pa.table(catalogue),
    )


def test_categories_that_are_bought_together_go_by_baskets_over_the_root_of_the_others():
    # tents with pegs in 2 of the 2 baskets that hold pegs, with bread in 3 of 16: 2 / 1.41 > 3 / 4
    baskets = [[0, 1, 2], [0, 1, 2], [0, 2, 3], *([[2]] * 13), [0, 3]]
    pairs = category_pairs(baskets_shop(baskets, ["tents", "pegs", "bread", None]))
    assert pairs == {"tents": ["pegs", "bread"], "pegs": ["tents", "bread"], "bread": ["tents", "pegs"]}


def test_one_basket_makes_no_pair_of_categories_and_a_huge_one_none_at_all():
    assert category_pairs(baskets_shop([[0, 1], [0, 2], [2, 0]], ["a", "b", "c"])) == {"a": ["c"], "c": ["a"]}
    wide = [list(range(60)), list(range(60))]
    assert category_pairs(baskets_shop(wide, [f"c{n}" for n in range(60)])) == {}
    assert category_pairs(baskets_shop([[0, 1], [1, 0]], ["a", "a"])) == {}


def test_without_categories_or_purchases_nothing_goes_together(small_shop: Shop):
    assert category_pairs(baskets_shop([[0, 1], [1, 0]], None)) == {}
    assert category_pairs(baskets_shop([[0, 1], [1, 0]], [None, None])) == {}
    assert category_pairs(small_shop.until(small_shop.start)) == {}
