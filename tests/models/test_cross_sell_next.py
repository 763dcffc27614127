"""What is bought next: planted habits, lessons that hold nothing of their answers, a folder's way back."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import Shop, models
from endcap.answers import History, Request
from endcap.graph import Baskets
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.next import COLUMNS, DAY, Known, Past, _cuts, _lives, _questions

from .shops import habits

QUICK = {"dim": 4, "layers": 0, "epochs": 1, "text": "none", "complement": "none", "score_by": "next"}
N_ITEMS, PURCHASE = 60, 3


@cache
def shop() -> Shop:
    return habits(n_items=N_ITEMS)


@cache
def trained() -> CrossSell:
    return CrossSell(**QUICK).fit(shop())


def own(user: int) -> int:
    return shop().items.number(f"i{user % 12:02}")


def asked_by(user: int) -> Request:
    """With a basket that says nothing of the person, and with all that they bought."""
    history = shop().history(shop().users.number(f"u{user:03}"))
    basket = history.items[history.times == history.times[history.items != own(user)][-1]]
    return Request(k=5, basket=basket[basket != own(user)], history=history)


def test_what_a_person_buys_again_and_again_comes_first() -> None:
    first = [trained().candidates(asked_by(user)).items[0] == own(user) for user in range(60)]
    assert np.mean(first) > 0.8


def test_nobody_s_past_speaks_for_others() -> None:
    everything = np.arange(N_ITEMS, dtype=np.int32)
    request = asked_by(5)
    with_past = trained().score(request, everything)
    without = trained().score(Request(k=5, basket=request.basket), everything)
    assert with_past[own(5)] - without[own(5)] > 1
    strangers = trained().score(Request(k=5, basket=request.basket, history=asked_by(6).history), everything)
    assert strangers[own(5)] < with_past[own(5)]


def test_the_likeliest_item_is_in_the_list_and_the_measure_of_the_others() -> None:
    request = asked_by(17)
    scores = trained().score(request, np.arange(N_ITEMS, dtype=np.int32))
    scores[request.basket] = -np.inf
    answer = trained().candidates(request)
    assert scores.argmax() in answer.items
    similarity = answer.parts["similarity"]
    np.testing.assert_allclose(similarity, np.exp(scores[answer.items] - scores.max()), rtol=1e-4)


def test_it_comes_back_with_the_folder(tmp_path: Path) -> None:
    trained().save(tmp_path / "model")
    opened, everything = models.open(tmp_path / "model"), np.arange(N_ITEMS, dtype=np.int32)
    for user in (0, 33):
        np.testing.assert_array_equal(
            trained().score(asked_by(user), everything), opened.score(asked_by(user), everything)
        )


def test_people_with_one_basket_teach_nothing_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    events = {"user": list("aabbcc"), "item": list("xyxzyz"), "interaction": ["purchase"] * 6}
    with caplog.at_level(logging.WARNING):
        model = CrossSell(**QUICK).fit(Shop.from_tables(pa.table({**events, "time": [1_600_000_000] * 6})))
    assert "too few people have two baskets" in caplog.text
    assert len(model.candidates(Request(k=2, item=0)))


def baskets() -> Baskets:
    """Person 0: {0, 1}, {0, 2}, then {2, 3, 4}; person 1: {1, 5} alone; person 2: {3} after the cut alone."""
    offsets = np.array([0, 2, 4, 7, 9, 10])
    items = np.array([0, 1, 0, 2, 2, 3, 4, 1, 5, 3], np.int32)
    return Baskets(offsets, items, np.array([0, 0, 0, 1, 2], np.int32), np.array([0, 30, 60, 30, 60]) * DAY)


def test_a_lesson_asks_with_the_last_basket_for_what_the_next_one_adds() -> None:
    known, cut = baskets(), 50 * DAY
    (question,) = _questions(known.where(known.time < cut), known.where(known.time >= cut), np.random.default_rng(0))
    assert question.asked.tolist() == [0, 2]
    assert sorted(question.targets.tolist()) == [3, 4]
    assert question.out.tolist() == [0, 2, 3, 4]
    assert (question.past.items.tolist(), question.past.days.tolist()) == ([0, 1, 0, 2], [30, 30, 0, 0])


def test_columns_of_the_person_and_the_season() -> None:
    known = baskets().where(np.array([1, 1, 0, 1, 0], bool))
    past = Past(np.array([0, 1, 0, 2], np.int32), np.array([60, 60, 0, 0], np.float32))
    all_known = Known.of(known, np.full(6, -1))
    found = all_known.columns(all_known.walked(np.array([0, 2], np.int32), past), np.arange(6))
    columns = dict(zip(COLUMNS, found.T, strict=True))
    assert columns["bought by the asker"].tolist() == [2, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(columns["the same, faded"], [1.5, 0.5, 1, 0, 0, 0])
    np.testing.assert_allclose(columns["sold in weeks"], [1.25, 1.25, 1, 0, 0, 1])
    assert columns["walk1 of all bought"][5] > 0  # by way of 1, which is not in the last basket
    assert columns["walk1"][5] == 0
    assert columns["walk1 by people"][5] > columns["walk1 by people"][4] == 0


def test_windows_end_the_log_and_leave_half_of_it() -> None:
    cuts = list(_cuts(baskets()))
    assert cuts[0][1] == 60 * DAY + 1
    assert all(begin >= 30 * DAY for begin, _ in cuts)
    assert [begin for begin, _ in cuts[:-1]] == [end for _, end in cuts[1:]]


def test_a_history_counts_purchases_once_an_order() -> None:
    times = np.array([0, 0, 0, 86_400_000_000, 86_400_000_000])
    history = History(np.array([4, 4, 2, 4, 9], np.int32), np.array([3, 3, 3, 3, 0], np.int8), times)
    past = Past.of(history, PURCHASE)
    assert (past.items.tolist(), past.days.tolist()) == ([2, 4, 4], [1, 1, 0])


def test_a_life_holds_everything_once_and_wholesalers_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    lives = _lives(baskets())
    assert [part.tolist() for part in np.split(lives.items, lives.offsets[1:-1])] == [[0, 1, 2, 3, 4], [1, 5], [3]]
    monkeypatch.setattr("endcap.models.cross_sell.next.WHOLESALE", 4)
    assert _lives(baskets()).user.tolist() == [1, 2]
