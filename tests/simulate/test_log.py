"""What stands in a simulated log: rows, times, ids, funnels, and what comes on request."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.simulate import ShopSettings, SimulatedShop, log, tables
from endcap.simulate.visits import IMPRESSION, ITEM, KIND, RETURN, SEARCH, SESSION, TIME, USER
from endcap.simulate.world import make_truth

DAY = 86_400_000_000


def make(**given: object) -> SimulatedShop:
    return tables(ShopSettings(**{"events": 5_000, "seed": 3, "best": 0, **given}))


def all_rows(**given: object) -> np.ndarray:
    return np.concatenate(list(log.log_rows(make_truth(ShopSettings(**{"seed": 3, **given})))))


def micros(column: pa.ChunkedArray) -> np.ndarray:
    return column.cast(pa.int64()).to_numpy()


small_shops = st.fixed_dictionaries(
    {
        "events": st.integers(1, 400),
        "seed": st.integers(0, 50),
        "items": st.sampled_from([0, 8, 9, 60]),
        "users": st.sampled_from([0, 1, 5]),
        "leaf_size": st.sampled_from([0, 1, 1000]),
        "families": st.sampled_from([1, 4]),
        "bands": st.sampled_from([1, 3]),
        "interests": st.integers(1, 3),
        "domains": st.integers(1, 4),
        "searches": st.sampled_from([0.0, 1.0]),
        "impressions": st.sampled_from([0, 3]),
        "converts": st.sampled_from([0.0, 1.0]),
        "doubles": st.sampled_from([0.0, 1.0]),
        "returns": st.sampled_from([0.0, 1.0]),
        "compatibility": st.sampled_from([0.0, 1.0]),
        "seasons": st.sampled_from([0.0, 1.0]),
        "days": st.sampled_from([1, 40]),
        "bots": st.sampled_from([0, 2]),
        "bot_events": st.just(7),
    }
)


@given(small_shops)
@settings(max_examples=40, deadline=None)
def test_any_shop_has_the_rows_asked_for_and_they_hold_together(chosen: dict) -> None:
    truth = make_truth(ShopSettings(**chosen))
    rows = np.concatenate(list(log.log_rows(truth)))
    counted = (rows[:, KIND] != IMPRESSION) & (rows[:, USER] < truth.settings.n_users)
    assert counted.sum() == chosen["events"]
    assert (np.diff(rows[:, TIME]) >= 0).all()
    assert ((rows[:, ITEM] >= 0) == (rows[:, KIND] != SEARCH)).all()
    assert rows[:, ITEM].max() < truth.settings.n_items
    in_visit = rows[:, KIND] != RETURN
    of_session = {}
    for session, user in rows[in_visit][:, [SESSION, USER]].tolist():
        assert of_session.setdefault(session, user) == user
    seen = rows[rows[:, ITEM] >= 0]
    assert (truth.world.launched[seen[:, ITEM]] <= seen[:, TIME]).all(), "acted on before it was launched"


def test_blocks_are_bounded_and_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BLOCK_ROWS", 1_000)
    blocks = list(log.log_rows(make_truth(ShopSettings(events=10_000, seed=1, returns=0.5))))
    assert len(blocks) == 10
    assert max(map(len, blocks)) < 1_200
    assert sum(map(len, blocks)) == 10_000
    starts = [rows[0, TIME] for rows in blocks]
    overhang = [before[-1, TIME] - after for before, after in zip(blocks, starts[1:], strict=False)]
    assert starts == sorted(starts)
    assert max(overhang) < DAY, "only visits may run over the end of a block"
    numbers = [np.unique(rows[rows[:, SESSION] >= 0, SESSION]) for rows in blocks]
    assert sum(map(len, numbers)) == len(np.unique(np.concatenate(numbers))), "a session number was given twice"


def test_every_block_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BLOCK_ROWS", 1_000)
    times = all_rows(events=10_000)[:, TIME]
    per_tenth = np.histogram(times, 10)[0]
    assert per_tenth.min() > 700


def test_same_seed_same_log_another_seed_another() -> None:
    one, same, other = make(), make(), make(seed=4)
    assert one.events.equals(same.events)
    assert one.items.equals(same.items)
    assert all(table.equals(same.truth[name]) for name, table in one.truth.items())
    assert not one.events["item"].equals(other.events["item"])


def test_the_funnel(shop_tables: SimulatedShop) -> None:
    counts = shop_tables.summary.interactions
    assert counts["click"] > 4 * counts["cart"] > 4 * counts["purchase"] > 40 * counts["return"] > 0
    events = shop_tables.events.to_pandas()
    carts = events[events.interaction == "cart"]
    bought = events[events.interaction == "purchase"]
    in_cart = set(zip(carts.session, carts.item, strict=True))
    assert set(zip(bought.session, bought.item, strict=True)) <= in_cart
    assert bought.order.notna().all()
    assert (bought.price > 0).all()
    assert events[events.interaction == "click"].price.isna().all()


def test_returns_send_back_what_was_bought_days_before() -> None:
    events = make(returns=0.3, doubles=0.3).events.to_pandas()
    bought = events[events.interaction == "purchase"].drop_duplicates(["order", "item"]).set_index(["order", "item"])
    back = events[events.interaction == "return"].set_index(["order", "item"])
    pairs = back.join(bought, lsuffix="_back", how="left")
    assert len(pairs) > 20
    assert (pairs.user == pairs.user_back).all()
    days = (pairs.time_back - pairs.time).dt.total_seconds() / 86_400
    assert days.between(2, 21.01).all()
    assert back.session.isna().all()


def test_settings_turn_things_off() -> None:
    plain = make(converts=0.0, favourites=0.0, wandering=0.0).summary.interactions
    assert set(plain) == {"click"}
    assert "return" not in make(returns=0.0).summary.interactions
    assert make(cold=0.0, arrivals=0.0).items["launched"].to_numpy().max() < np.datetime64("2025-01-01")


def test_searches_have_a_query_of_the_leaf_that_is_looked_at_next() -> None:
    events = make(searches=1.0, wandering=0.0).events.to_pandas().sort_values(["session", "time"])
    searches = events.interaction == "search"
    assert events[searches]["query"].notna().all()
    assert events[searches].item.isna().all()
    assert events[~searches]["query"].isna().all()
    first = events.groupby("session").head(2)
    query = first.groupby("session")["query"].first()
    clicked = first[first.interaction == "click"].set_index("session").item
    category = make(searches=1.0, wandering=0.0).items.to_pandas().set_index("item").category
    both = clicked.to_frame().join(query, how="inner")
    leaf = category[both.item].str.rsplit("/", n=1).str[1].str.replace("-", " ").to_numpy()
    assert len(both) > 100
    assert (leaf == both["query"].to_numpy()).all()


def test_impressions_stand_around_the_click_they_led_to() -> None:
    shop = make(events=1_000, impressions=5)
    events = shop.events.to_pandas()
    shown, clicked = events[events.interaction == "impression"], events[events.interaction == "click"]
    assert shop.summary.interactions["impression"] == 5 * shop.summary.interactions["click"]
    at_click = clicked.set_index(["request_id", "position"]).item
    at_place = shown.set_index(["request_id", "position"]).item
    assert at_place.index.is_unique
    assert (at_place.loc[at_click.index] == at_click).all()
    assert shown.groupby("request_id").time.max().le(clicked.set_index("request_id").time).all()


def test_bots_crawl_at_a_machines_pace() -> None:
    shop = make(bots=3, bot_events=400)
    is_bot = pc.is_in(shop.events["user"], shop.truth["bots"]["user"].combine_chunks())
    bots, people = (shop.events.filter(mask).to_pandas() for mask in (is_bot, pc.invert(is_bot)))
    assert len(people) == 5_000
    assert bots.groupby("user").size().tolist() == [400] * 3
    assert bots.session.nunique() == 3
    assert not set(bots.session) & set(people.session)
    assert bots.groupby("user").time.diff().dropna().dt.total_seconds().max() < 1


def test_spoilt_and_repeated_rows_are_told_exactly() -> None:
    shop = make(bad_rows=0.05, duplicates=0.05)
    events, said = shop.events, shop.summary
    assert set(said.spoilt) == set(log.SPOILT)
    assert min(said.spoilt.values()) > 10
    found = {
        "missing user": events["user"].null_count,
        "missing item": events["item"].null_count,
        "unparsable time": events["time"].null_count,
        "impossible time": pc.sum(pc.less(events["time"].cast(pa.int64()), DAY)).as_py(),
        "unknown interaction": pc.sum(pc.equal(events["interaction"], "teleport")).as_py(),
        "negative price": pc.sum(pc.less(events["price"], 0)).as_py(),
    }
    assert found == said.spoilt
    assert said.rows == len(events) == 5_000 + said.rows_spoilt + said.duplicates
    assert len(events) - pc.count_distinct(events["event_id"]).as_py() == said.duplicates > 100


@pytest.mark.parametrize(
    "wrong",
    [{"arrivals": 0.7, "cold": 0.4}, {"items": 3, "domains": 4}, {"start": "yesterday"}, {"start": "1066-10-14"}],
)
def test_settings_that_fit_no_shop_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="|".join(wrong)):
        ShopSettings(**wrong)
