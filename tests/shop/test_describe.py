"""What describe counts, measured on logs whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import InputError
from endcap.shop import Events, Interactions, Shop, Vocabulary
from endcap.shop.describe import describe, plot, purchase_rates

from .logs import START, table

HOUR = 3600
CLICK, CART, PURCHASE = 0, 2, 3


def test_counts_and_shares():
    shop = Shop.from_tables(
        table(
            ("a", "x", "click", 0),
            ("a", "x", "click", 1),
            ("a", "y", "cart", 2),
            ("b", "x", "purchase", 10 * HOUR),
            ("b", "x", "return", 24 * HOUR),
        )
    )
    about = describe(shop)
    assert (about.events, about.users, about.items, about.sessions) == (5, 2, 2, 3)
    assert about.interactions == {"click": 2, "cart": 1, "purchase": 1, "return": 1}
    assert list(about.interactions) == ["click", "cart", "purchase", "return"]
    assert (about.first_time, about.days) == ("2020-09-13T12:26:40Z", 1.0)
    assert about.session_length.max == 3
    assert about.sessions_of_one == pytest.approx(2 / 3)
    assert about.density == pytest.approx(3 / 4)
    assert about.events_per_user.mean == 2


def test_popularity_of_equals_and_of_one():
    equal = describe(Shop.from_tables(table(*(("a", f"i{n}", "click", n) for n in range(100))))).popularity
    assert equal.gini == pytest.approx(0)
    assert equal.top_percent_share == pytest.approx(0.01)
    rows = [("a", f"i{n}", "click", n) for n in range(100)] + [("a", "i0", "click", n) for n in range(9900)]
    skewed = describe(Shop.from_tables(table(*rows))).popularity
    assert skewed.gini == pytest.approx(0.98, abs=0.01)
    assert skewed.top_percent_share == pytest.approx(0.9901)
    assert skewed.curve[-1] == (1.0, pytest.approx(1.0))


def test_purchase_rates_and_lags():
    shop = Shop.from_tables(
        table(
            ("a", "x", "click", 0),
            ("a", "x", "click", HOUR),
            ("a", "x", "cart", HOUR),
            ("a", "x", "purchase", 2 * HOUR),
            ("b", "x", "purchase", 0),
            ("b", "x", "click", HOUR),
            ("b", "y", "click", HOUR),
            ("c", "y", "click", 5),
            ("c", "y", "purchase", 5),
        )
    )
    click, cart = purchase_rates(shop)
    assert (click.given, click.want, click.pairs, click.rate) == ("click", "purchase", 4, 0.5)
    assert click.median_lag_hours == 1
    assert (click.within_hour, click.within_day) == (0.5, 1.0)
    assert (cart.pairs, cart.rate, cart.median_lag_hours) == (1, 1.0, 1.0)


rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.sampled_from([CLICK, CART, PURCHASE]), st.integers(0, 5))
)


def shop_of(log: list[tuple[int, int, int, int]]) -> Shop:
    user, item, kind, time = np.array(sorted(log, key=lambda row: (row[0], row[3])), np.int64).reshape(-1, 4).T
    events = Events(
        user.astype(np.int32),
        item.astype(np.int32),
        kind.astype(np.int8),
        time * HOUR * 1_000_000,
        user.astype(np.int32),
    )
    return Shop(events, Vocabulary(["x", "y", "z"]), Vocabulary(["a", "b", "c"]), None, Interactions())


@given(log=rows)
@settings(max_examples=150, deadline=None)
def test_purchase_rates_against_the_plain_definition(log):
    found = {rate.given: rate for rate in purchase_rates(shop_of(log))}
    for name, kind in (("click", CLICK), ("cart", CART)):
        first: dict[tuple[int, int], int] = {}
        for user, item, this, time in log:
            if this == kind:
                first[user, item] = min(time, first.get((user, item), 99))
        if not first:
            assert name not in found
            continue
        lags = []
        for (user, item), begun in first.items():
            bought = [t for u, i, k, t in log if (u, i, k) == (user, item, PURCHASE) and t >= begun]
            lags += [min(bought) - begun] if bought else []
        assert found[name].pairs == len(first)
        assert found[name].rate == pytest.approx(len(lags) / len(first))
        assert found[name].median_lag_hours == (pytest.approx(np.median(lags)) if lags else None)


def feeds(shop: Shop) -> dict[str, bool]:
    return {feed.system: feed.possible for feed in describe(shop).feeds}


def test_which_systems_a_log_can_feed():
    small = Shop.from_tables(table(("a", "x", "click", 0)))
    assert set(feeds(small).values()) == {False}
    session = [(0, "x", "click"), (1, "y", "click"), (2, "x", "cart"), (3, "y", "cart")]
    rows = [(f"u{n}", item, kind, second, "red") for n in range(100) for second, item, kind in session]
    rows += [(f"u{n}", None, "search", 9, "red") for n in range(100)]
    log = table(*rows, names="user,item,interaction,time,query")
    import pyarrow as pa

    items = pa.table({"item": ["x", "y"], "title": ["red shoes", None], "domain": ["shop", "market"]})
    assert set(feeds(Shop.from_tables(log, items)).values()) == {True}
    assert feeds(Shop.from_tables(log)) == {
        "item-interaction": True,
        "cross-sell": True,
        "coaction-graph": False,
        "syncrec": False,
        "magus": False,
    }


def test_every_system_that_cannot_be_fed_is_given_a_reason(shop):
    for feed in describe(shop).feeds:
        assert len(feed.why) > 10
        assert "only 0" not in feed.why


def test_orders_are_baskets_where_the_log_has_them():
    rows = [("a", f"i{n % 2}", "purchase", 3 * n, f"o{n // 2}") for n in range(300)]
    about = describe(Shop.from_tables(table(*rows, names="user,item,interaction,time,order")))
    assert next(feed.why for feed in about.feeds if feed.system == "cross-sell").startswith("150 orders")
    rows = [(*row[:4], None) for row in rows]
    about = describe(
        Shop.from_tables(table(("z", "z", "purchase", 0, "o"), *rows, names="user,item,interaction,time,order"))
    )
    assert next(feed.why for feed in about.feeds if feed.system == "cross-sell").startswith("0 orders")


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_picture(shop, tmp_path, suffix):
    plot(describe(shop), tmp_path / f"shop.{suffix}")
    content = (tmp_path / f"shop.{suffix}").read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    with pytest.raises(InputError, match="must end in"):
        plot(describe(shop), tmp_path / "shop.jpeg2000")


def test_a_shop_with_one_interaction_has_no_rates(tmp_path):
    about = describe(Shop.from_tables(table(("a", "x", "purchase", 0), ("a", "y", "purchase", START % 7))))
    assert about.purchase_rates == []
    plot(about, tmp_path / "shop.png")
