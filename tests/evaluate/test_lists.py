"""What every protocol of lists tells a model of a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pytest

from endcap.evaluate import split_people
from endcap.evaluate.by_user import ByUser
from endcap.evaluate.leave_one_out import LeaveOneOut
from endcap.evaluate.lists import ListContest
from endcap.evaluate.next_item import NextItem
from endcap.shop import Events, Shop
from endcap.shop.interactions import SEARCH
from endcap.shop.searches import LAST_SEARCHES

from .shops import MINUTE, START


def by_time(shop: Shop) -> tuple[ListContest, tuple[Events, ...]]:
    train, test = shop.split_by_time("14d")
    return NextItem(train, test), (train.events, test.events)


def last_action(shop: Shop) -> tuple[ListContest, tuple[Events, ...]]:
    return LeaveOneOut(shop.without_last(), shop), (shop.events,)


def by_person(shop: Shop) -> tuple[ListContest, tuple[Events, ...]]:
    train, _, test = split_people(shop)
    return ByUser(train, test), (test.events,)


PROTOCOLS = [by_time, last_action, by_person]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_question_tells_the_searches_before_its_moment_and_no_other(
    shop: Shop, protocol: Callable[[Shop], tuple[ListContest, tuple[Events, ...]]]
) -> None:
    contest, logs = protocol(shop)
    known = {
        (int(user), text, int(time))
        for log in logs
        for user, kind, time, text in zip(
            log.user, log.interaction, log.time, log.columns["query"].to_pylist(), strict=True
        )
        if kind == SEARCH
    }
    told = 0
    for place, row in enumerate(contest.rows):
        user, asked_at = int(contest.user[place]), int(contest.life.time[row])
        expected = sorted((time, text) for who, text, time in known if who == user and time < asked_at)
        request = contest.request(place, 10)
        assert sorted((time, text) for text, time in request.searches) == expected[-LAST_SEARCHES:]
        assert [time for _, time in request.searches] == sorted(time for _, time in request.searches)
        told += len(request.searches)
        assert not len(request.history) or request.history.times[-1] <= asked_at
    assert told > 10


def test_a_search_of_the_asked_moment_is_not_told() -> None:
    """The action that is to be foreseen followed it: it came first at best, and it may have come after."""
    rows = [("click", "a", None, 0), ("click", "b", None, 1), ("search", "a", "before", 1)]
    rows += [("search", "a", "with it", 2), ("click", "c", None, 2), ("search", "a", "after", 3)]
    kinds, items, queries, minutes = zip(*rows, strict=True)
    times = [START + MINUTE * minute for minute in minutes]
    names = {"user": ["u"] * len(rows), "item": items, "interaction": kinds, "query": queries, "time": times}
    shop = Shop.from_tables(pa.table(names))
    contest = LeaveOneOut(shop.without_last(), shop)
    assert [text for text, _ in contest.request(0, 5).searches] == ["before"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_where_nobody_searches_nothing_is_told(
    shop: Shop, protocol: Callable[[Shop], tuple[ListContest, tuple[Events, ...]]]
) -> None:
    contest, _ = protocol(replace(shop, events=shop.positives))
    assert len(contest.searches) == 0
    assert not any(contest.request(place, 5).searches for place in range(len(contest.rows)))
