"""Views that cannot see past their end, splits, histories, vocabularies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import InputError
from endcap.shop import Interactions, Shop, Vocabulary, duration

from .logs import START, table

DAY = 86_400
MICROSECOND = 1_000_000


@pytest.fixture(scope="module")
def week() -> Shop:
    """One event a day for a week, a session over the last midnight."""
    rows = [("a", f"i{day}", "click", day * DAY) for day in range(7)]
    rows += [("b", "i0", "cart", 6 * DAY - 60), ("b", "late", "purchase", 6 * DAY + 60), ("c", "i1", "search", 3 * DAY)]
    log = table(*rows)
    log = log.append_column("query", pa.array(["q" if row[2] == "search" else None for row in rows]))
    return Shop.from_tables(log)


def test_a_split_by_days_or_by_share(week):
    train, test = week.split_by_time("1d")
    cut = (START + 5 * DAY + 60) * MICROSECOND + 1
    assert week.cut("1d") == cut
    assert train.end == cut == test.start
    assert (train.events.time < cut).all()
    assert test.events.user.tolist() == [week.users.number("a"), *[week.users.number("b")] * 2]
    assert "late" not in train.items
    assert "late" in test.items
    share_train, share_test = week.split_by_time(0.2)
    assert len(share_train.events) + len(share_test.events) <= len(week.events)
    assert (share_test.events.time >= share_train.end).all()


def test_the_tail_of_a_session_that_began_before_the_cut_is_in_neither_part(week):
    midnight = (START + 6 * DAY) * MICROSECOND
    train, test = week.until(midnight), week.since(midnight)
    b = week.users.number("b")
    assert (train.events.user == b).sum() == 1
    assert test.events.user.tolist() == [week.users.number("a")]


@pytest.mark.parametrize("test", ["8d", "1000d", 1.5, 0, "0d", "soon", "-1d"])
def test_splits_that_cannot_be(week, test):
    with pytest.raises(InputError):
        week.split_by_time(test)


def test_histories_hold_positive_actions_in_order_of_time(week):
    history = week.history(week.users.number("b"))
    assert week.items.decode(history.items) == ["i0", "late"]
    assert [week.interactions.name(int(code)) for code in history.interactions] == ["cart", "purchase"]
    assert len(week.history(week.users.number("c"))) == 0
    assert history.last(1).items.tolist() == [week.items.number("late")]


@given(ids=st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=20), n=st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_a_vocabulary_is_there_and_back(ids, n):
    vocabulary = Vocabulary(pa.array(ids, pa.string()))
    numbers = vocabulary.encode([*ids, "no such id"])
    assert numbers.tolist() == [*range(len(ids)), -1]
    assert vocabulary.decode(numbers[:-1]) == ids
    prefix = vocabulary.prefix(min(n, len(ids)))
    assert prefix.fingerprint() == vocabulary.fingerprint(len(prefix))
    assert "no such id" not in vocabulary
    with pytest.raises(IndexError):
        vocabulary[-1]


def test_fingerprints_tell_orders_and_borders_apart():
    prints = {Vocabulary(ids).fingerprint() for ids in (["a", "b"], ["b", "a"], ["ab"], ["a"], [])}
    assert len(prints) == 5


def asked_for(*queries: str) -> Shop:
    """A click, then a search for each query."""
    log = table(("a", "i0", "click", 0), *(("a", "i0", "search", 60 * n) for n in range(1, len(queries) + 1)))
    return Shop.from_tables(log.append_column("query", pa.array([None, *queries])))


def test_what_was_searched_for_is_part_of_a_shops_fingerprint():
    prints = {asked_for(*queries).fingerprint() for queries in (("red", "tent"), ("tent", "red"), ("redt", "ent"))}
    assert len(prints) == 3
    assert asked_for("red", "tent").fingerprint() in prints


def test_a_fingerprint_is_of_what_is_there_and_not_of_the_bytes_around_it():
    shop, other = asked_for("red", "blue"), asked_for("red", "green")
    one, two = (replace(it, events=it.events.where(it.events.time < it.events.time.max())) for it in (shop, other))
    fresh = asked_for("red")
    columns = pa.table({"query": pa.array(["under a null", "red"], mask=np.array([True, False]))})
    hidden = replace(fresh, events=replace(fresh.events, columns=columns))
    sliced = replace(fresh, events=replace(fresh.events, columns=shop.events.columns.slice(0, 2)))
    assert {it.fingerprint() for it in (one, two, hidden, sliced)} == {fresh.fingerprint()}
    catalogue = pa.table({"item": ["i0", "i1"], "title": ["a tent", "a stove"]})
    cut, whole = (replace(fresh, catalogue=rows) for rows in (catalogue.slice(0, 1), catalogue.take([0])))
    assert cut.fingerprint() == whole.fingerprint()


def test_interactions_and_their_codes():
    ours = Interactions(("look", "cart", "purchase"))
    assert [ours.name(code) for code in (0, 2, 103)] == ["look", "purchase", "return"]
    assert ours.intents == (1, 2)
    assert Interactions(("look", "buy")).intents == (1,)
    with pytest.raises(InputError, match="this shop has look, cart, purchase"):
        ours.code("click")


def test_durations():
    assert [duration(text) for text in ("90s", "1.5h", "2w")] == [90_000_000, 5_400_000_000, 14 * DAY * MICROSECOND]
    for text in ("7", "d", "0s", "-1d", "1y", ""):
        with pytest.raises(InputError, match="not a duration"):
            duration(text)


def test_a_filter_keeps_columns_beside_their_events(week):
    searches = week.events.where(week.events.interaction == 100)
    assert searches.columns["query"].to_pylist() == ["q"]
    assert np.array_equal(searches.item >= 0, [True])


def test_some_people_are_there_with_all_their_events_and_drawn_alike(shop: Shop):
    some = shop.some_people(len(shop.events) // 4, seed=1)
    people = np.unique(some.events.user)
    assert len(some.events) == np.isin(shop.events.user, people).sum()
    assert 0.5 * len(shop.events) / 4 < len(some.events) < 2 * len(shop.events) / 4
    np.testing.assert_array_equal(shop.some_people(len(shop.events) // 4, seed=1).events.user, some.events.user)
    assert shop.some_people(len(shop.events)) is shop


def test_without_last_cuts_off_each_persons_last_actions_and_what_came_with_them():
    kinds = ["click", "search", "click", "impression", "cart", "impression", "click", "search"]
    rows = [("u", f"i{second}", kind, second) for second, kind in enumerate(kinds)]
    rows += [("v", "i0", "click", 0), ("v", "i2", "click", 0), ("v", "i4", "click", 0), ("v", "i6", "dismiss", 0)]
    rows += [("w", "i0", "click", 0), ("w", "i2", "click", 9)]
    log = table(*rows)
    shop = Shop.from_tables(log.append_column("query", pa.array(["q" if row[2] == "search" else None for row in rows])))

    def left(view: Shop, user: str) -> list[int]:
        """The numbers of the items of a user's events."""
        mine = view.events.user == shop.users.number(user)
        return [int(name[1:]) for name in shop.items.decode(view.events.item[mine])]

    one = shop.without_last()
    assert left(one, "u") == [0, 1, 2, 3, 4, 5]  # the search after the last click goes, too
    assert left(one, "v") == [0, 2]  # of one time the last in the log goes, and what is no action with it
    assert left(one, "w") == [0, 2]
    assert left(shop.without_last(2), "u") == [0, 1, 2, 3]
    assert left(shop.without_last(1, at_least=2), "w") == [0]
    assert (one.n_items, one.n_users) == (shop.n_items, shop.n_users)
