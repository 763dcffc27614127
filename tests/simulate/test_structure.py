"""The planted structure is found in the log by who knows the truth tables, and only where it was planted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from endcap.simulate import ShopSettings, SimulatedShop, tables

SIZE = {"events": 40_000, "seed": 5, "best": 0}


def make(**given: object) -> SimulatedShop:
    return tables(ShopSettings(**{**SIZE, **given}))


@pytest.fixture(scope="module")
def planted() -> SimulatedShop:
    return make()


def events_with_truth(shop: SimulatedShop) -> pd.DataFrame:
    events = shop.events.to_pandas().sort_values(["session", "time"], kind="stable")
    return events.join(shop.truth["items"].to_pandas().set_index("item"), on="item")


def pairs_of(shop: SimulatedShop, kind: str) -> pd.DataFrame:
    """All pairs of different items that one session has in one interaction."""
    events = events_with_truth(shop)
    events = events[events.interaction == kind].drop_duplicates(["session", "item"])
    events = events[["session", "item", "leaf", "family", "band"]]
    pairs = events.merge(events, on="session", suffixes=("", "_2"))
    return pairs[pairs.item < pairs.item_2]


def complementary(shop: SimulatedShop, pairs: pd.DataFrame) -> np.ndarray:
    """Whether the leaves of each pair are different ones of one activity."""
    roles = shop.truth["activities"].to_pandas()[["activity", "leaf"]]
    related = roles.merge(roles, on="activity", suffixes=("", "_2"))
    related = set(zip(related.leaf, related.leaf_2, strict=True))
    here = np.array([pair in related for pair in zip(pairs.leaf, pairs.leaf_2, strict=True)])
    return here & (pairs.leaf != pairs.leaf_2).to_numpy()


def chance(shop: SimulatedShop, column: str) -> float:
    """How often two items drawn from the catalogue agree."""
    shares = shop.truth["items"].to_pandas()[column].value_counts(normalize=True)
    return float((shares**2).sum())


def test_clicks_lead_to_substitutes_and_carts_to_complements(planted: SimulatedShop) -> None:
    clicks = events_with_truth(planted).query("interaction == 'click'")
    after = clicks.groupby("session").leaf.shift(-1)
    same_leaf = (clicks.leaf == after)[after.notna()].mean()
    assert same_leaf > 0.6 > 10 * chance(planted, "leaf")
    carts = pairs_of(planted, "cart")
    assert complementary(planted, carts).mean() > 0.9
    assert (carts.leaf == carts.leaf_2).mean() < 0.1
    assert complementary(planted, pairs_of(planted, "click")).mean() < 0.5


def test_complements_fit_and_rivals_need_not(planted: SimulatedShop) -> None:
    def agree(pairs: pd.DataFrame) -> float:
        return float((pairs.family == pairs.family_2).mean())

    carts = pairs_of(planted, "cart")
    complements = carts[complementary(planted, carts)]
    clicks = pairs_of(planted, "click")
    rivals = clicks[clicks.leaf == clicks.leaf_2]
    by_chance = chance(planted, "family")
    assert agree(complements) > 2.5 * by_chance
    assert agree(complements) > 1.5 * agree(rivals)
    assert agree(make_pairs(compatibility=1.0, families=4)) > 0.9
    assert agree(make_pairs(compatibility=0.0)) == pytest.approx(by_chance, rel=0.25)


def make_pairs(**given: object) -> pd.DataFrame:
    """Complements carted together in a shop of these settings, without second thoughts."""
    shop = make(doubles=0.0, **given)
    pairs = pairs_of(shop, "cart")
    return pairs[complementary(shop, pairs)]


def test_looks_go_to_other_items_than_carts_and_above_them_in_price(planted: SimulatedShop) -> None:
    assert ranks_alike(planted) < -0.15
    assert ranks_alike(make(alike=1.0)) > 0.99
    events = events_with_truth(planted)
    band = events.groupby("interaction").band.mean()
    assert band["favourite"] > band["cart"] + 0.3
    assert events.query("interaction == 'cart'").price.notna().all()
    price = planted.items.to_pandas().set_index("item").price
    items = planted.truth["items"].to_pandas()
    by_band = items.assign(price=price[items.item].to_numpy()).groupby(["leaf", "band"]).price.mean().unstack()
    assert (by_band.diff(axis=1).iloc[:, 1:] > 0).to_numpy().mean() > 0.95


def ranks_alike(shop: SimulatedShop) -> float:
    ranks = shop.truth["items"].to_pandas().groupby("leaf")[["look", "cart"]].rank(pct=True)  # leaves differ in size
    return float(ranks.look.corr(ranks.cart))


def test_popularity_is_skewed_and_carts_are_thin(planted: SimulatedShop) -> None:
    events = events_with_truth(planted)
    n_items = len(planted.items)
    carts = events.query("interaction == 'cart'").item.value_counts()
    top_tenth = carts.head(n_items // 10).sum() / carts.sum()
    assert top_tenth > 0.4
    assert len(carts) < 0.6 * n_items, "most items are hardly ever carted"


def test_doubles_are_rivals_and_are_sent_back(planted: SimulatedShop) -> None:
    many = make(doubles=0.5)

    def rivals(shop: SimulatedShop) -> float:
        bought = pairs_of(shop, "purchase")
        return float((bought.leaf == bought.leaf_2).mean())

    def sent_back(shop: SimulatedShop) -> float:
        return shop.summary.interactions["return"] / shop.summary.interactions["purchase"]

    assert rivals(many) > 2 * rivals(planted) > 0
    assert sent_back(many) > 1.5 * sent_back(planted)


def test_activities_have_a_season() -> None:
    def spread(seasons: float) -> float:
        """How much more an activity is visited in the half year around its peak than in the other one."""
        shop = make(seasons=seasons, days=365, arrivals=0.0, cold=0.0)
        activities = shop.truth["activities"].to_pandas().drop_duplicates("leaf", keep=False)
        events = events_with_truth(shop).query("interaction == 'click'").merge(activities, on="leaf")
        away = np.abs(events.time.dt.dayofyear - events.peak) % 365
        near = np.minimum(away, 365 - away) < 91
        return float(near.mean())

    assert spread(0.9) > 0.56  # people have few activities, and do one of them out of season rather than none
    assert spread(0.0) == pytest.approx(0.5, abs=0.04)


def test_new_items_arrive_and_cold_ones_come_last(planted: SimulatedShop) -> None:
    items = planted.truth["items"].to_pandas()
    launched = planted.items.to_pandas().set_index("item").launched.dt.tz_localize(None)[items.item].to_numpy()
    assert items.cold.mean() == pytest.approx(0.05, abs=0.015)
    assert launched[items.cold].min() >= np.datetime64("2025-01-01") + np.timedelta64(108, "D")
    during = (launched >= np.datetime64("2025-01-01")) & ~items.cold.to_numpy()
    assert during.mean() == pytest.approx(0.25, abs=0.03)


def test_users_keep_to_their_activities_and_to_a_price_band(planted: SimulatedShop) -> None:
    users = planted.truth["users"].to_pandas().set_index("user")
    roles = planted.truth["activities"].to_pandas().groupby("leaf").activity.agg(set)
    carts = events_with_truth(planted).query("interaction == 'cart'")
    mine = users.loc[carts.user, "activities_market"]
    kept = [bool(set(theirs) & roles[leaf]) for theirs, leaf in zip(mine, carts.leaf, strict=True)]
    assert np.mean(kept) == 1.0
    bands = users.loc[carts.user, "band_market"].to_numpy()
    assert (carts.band.to_numpy() == bands).mean() > 0.6


@pytest.fixture(scope="module")
def several() -> SimulatedShop:
    return make(domains=3)


def test_flood_takes_most_of_the_histories_and_wants_the_opposite(several: SimulatedShop) -> None:
    events = events_with_truth(several)
    share = events.domain.value_counts(normalize=True)
    assert share.idxmax() == "flood"
    assert share["flood"] == pytest.approx(0.6, abs=0.05)
    carts = events[events.interaction == "cart"]
    band = carts.groupby(["user", "domain"]).band.mean().unstack()
    both = band.dropna()
    assert both.market.corr(both.outlet) > 0.4
    assert both.market.corr(both.flood) < -0.4
    users = several.truth["users"].to_pandas()
    family = carts.join(users.set_index("user").family.rename("home"), on="user")
    at_home = (family.family == family.home).groupby(family.domain).mean()
    assert min(at_home.market, at_home.outlet) > 3 * at_home.flood


def test_a_domain_is_a_shop_of_its_own(several: SimulatedShop) -> None:
    items = several.items.to_pandas().set_index("item")
    events = several.events.to_pandas()
    events = events[events.item.notna()]
    assert (items.domain[events.item].to_numpy() == events.domain.to_numpy()).all()
    assert events.dropna(subset="session").groupby("session").domain.nunique().max() == 1
    assert set(several.truth["activities"]["domain"].to_pylist()) == {"market", "flood", "outlet"}
    assert "domain" not in make().events.column_names


def test_the_catalogue_reads_like_one(planted: SimulatedShop) -> None:
    items = planted.items.to_pandas()
    assert items.item.is_unique
    assert items.category.str.count("/").eq(2).all()
    leaf = items.category.str.rsplit("/", n=1).str[1].str.replace("-", " ")
    assert all(name in title for name, title in zip(leaf, items.title, strict=True))
    assert leaf.nunique() == planted.summary.leaves
    assert items.price.gt(0).all()
    assert items.margin.between(0, 1).all()
    assert 0 < (~items.in_stock).mean() < 0.1
    assert items.groupby("seller").size().max() < 0.2 * len(items)


def test_the_table_of_complements_holds_what_is_carted_next(planted: SimulatedShop) -> None:
    listed = planted.truth["complements"].to_pandas()
    leaf = planted.truth["items"].to_pandas().set_index("item").leaf
    assert listed.groupby("item").size().max() == 10
    assert (leaf[listed["item"]].to_numpy() != leaf[listed.complement].to_numpy()).all()
    known = set(zip(listed["item"], listed.complement, strict=True))
    carts = pairs_of(planted, "cart")
    carts = carts[complementary(planted, carts)]
    found = np.mean([pair in known for pair in zip(carts.item, carts.item_2, strict=True)])
    shuffled = np.random.default_rng(0).permutation(carts.item_2.to_numpy())
    by_chance = np.mean([pair in known for pair in zip(carts.item, shuffled, strict=True)])
    assert found > 5 * by_chance
