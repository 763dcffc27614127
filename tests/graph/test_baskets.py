"""Baskets: orders, sessions, returns, sizes."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.graph import Baskets, baskets_of
from endcap.shop import Shop

from .shops import DAY, START, shop_of


def named(shop: Shop, baskets: Baskets) -> list[tuple[str, str]]:
    """(user, items) of each basket."""
    rows = zip(baskets.user, baskets.offsets[:-1], baskets.offsets[1:], strict=True)
    return [
        (shop.users[user], "".join(sorted(shop.items.decode(baskets.items[begin:end])))) for user, begin, end in rows
    ]


def test_orders_where_the_log_has_them():
    shop = shop_of(
        ("u", "a", "purchase", 0, "o1"), ("u", "b", "purchase", 9 * DAY, "o1"), ("u", "c", "purchase", DAY, "o2"),
        ("u", "c", "click", DAY, "o2"), ("v", "a", "purchase", 5, "o1"), ("v", "z", "purchase", 6, None),
        names="user,item,interaction,time,order",
    )  # fmt: skip
    baskets = baskets_of(shop)
    assert named(shop, baskets) == [("u", "ab"), ("u", "c"), ("v", "a")]  # an order belongs to one user
    assert (baskets.unit, baskets.without_order) == ("orders", 1)
    assert baskets.time.tolist() == [1_000_000 * (START + second) for second in (0, DAY, 5)]


def test_sessions_where_it_has_none_and_the_strongest_interaction_where_nobody_bought():
    rows = [("u", "a", "cart", 0), ("u", "b", "cart", 1), ("u", "b", "cart", 2), ("u", "c", "click", 3)]
    shop = shop_of(*rows)
    assert named(shop, baskets_of(shop)) == [("u", "ab")]
    assert baskets_of(shop).unit == "sessions of carts"
    shop = shop_of(*rows, ("u", "d", "purchase", DAY), ("u", "e", "purchase", DAY + 1))
    assert named(shop, baskets_of(shop)) == [("u", "de")]
    assert baskets_of(shop).unit == "sessions of purchases"


def test_a_return_undoes_the_latest_purchase_before_it():
    shop = shop_of(
        ("u", "a", "return", 0), ("u", "a", "purchase", DAY), ("u", "b", "purchase", DAY + 1),
        ("u", "a", "purchase", 5 * DAY), ("u", "b", "purchase", 5 * DAY), ("u", "a", "return", 6 * DAY),
        ("v", "a", "purchase", DAY), ("w", "b", "return", 7 * DAY), ("v", "c", "purchase", DAY),
        ("v", "c", "return", DAY), ("v", "c", "return", DAY + 5),
    )  # fmt: skip
    # u's first purchase of a stands: the return before it undoes nothing, the later one undoes the second
    assert named(shop, baskets_of(shop)) == [("u", "ab"), ("u", "b"), ("v", "a")]


def test_a_return_after_the_view_has_not_happened():
    shop = shop_of(("u", "a", "purchase", 0), ("u", "b", "purchase", 1), ("u", "a", "return", DAY))
    assert named(shop, baskets_of(shop)) == [("u", "b")]
    before = shop.until((START + DAY) * 1_000_000)
    assert named(before, baskets_of(before)) == [("u", "ab")]


def test_large_baskets_are_left_out_and_counted():
    rows = [("u", f"i{n}", "purchase", n) for n in range(60)] + [("v", "i1", "purchase", 0), ("v", "i2", "purchase", 1)]
    shop = shop_of(*rows)
    assert (baskets_of(shop).sizes.tolist(), baskets_of(shop).too_large) == ([2], 1)
    assert (baskets_of(shop, largest=60).too_large, baskets_of(shop, largest=0).sizes.tolist()) == (0, [60, 2])
    with pytest.raises(InputError, match="largest=-1"):
        baskets_of(shop, largest=-1)


def test_a_shop_without_purchases_has_no_baskets():
    shop = shop_of(("u", "a", "impression", 0))
    baskets = baskets_of(shop)
    assert (len(baskets), baskets.matrix(shop.n_items).shape) == (0, (0, 1))


def test_duplicate_lines_are_one_item():
    shop = shop_of(*[("u", "a", "purchase", 0)] * 5, ("u", "b", "purchase", 0))
    assert named(shop, baskets_of(shop)) == [("u", "ab")]


def test_matrix_and_where():
    baskets = Baskets.of_lists([[3, 1, 3], [], [0]])
    assert baskets.matrix(4).toarray().tolist() == [[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert baskets.where(np.array([False, True, True])).matrix(4).toarray().tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]
    with pytest.raises(InputError, match=r"items must be in 0 \.\. 2"):
        baskets.matrix(3)
    with pytest.raises(InputError, match="numbers from 0 on"):
        Baskets.of_lists([[1, -1]])
    with pytest.raises(InputError, match="numbers from 0 on"):
        Baskets.of_lists([["a"]])
