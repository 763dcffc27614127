"""Items that a model was not trained with: found by what is said of them, from the next answer on, under all rules."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from litestar.testing import TestClient

from endcap import models
from endcap.answers import Candidates, Evidence, Reason
from endcap.release import Part, activate, write_release
from endcap.serve.answerer import answer
from endcap.serve.app import create_app
from endcap.serve.newcomers import joined
from endcap.serve.questions import Action, Answer, Question
from endcap.serve.reasons import sentence
from endcap.serve.rules import Rules
from endcap.serve.service import ServerSettings
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface
from endcap.shop import Shop, Vocabulary

from .interests import NAME, CategoryInterests, register
from .small import N_ITEMS
from .test_answerer import change, happen, shown

SURFACES = {"test": Surface((Source(NAME),), fallback=(), new_items=0), "home": Surface(), "item-page": Surface()}


def publish(to: Path, shop: Shop, trained_on: Shop | None = None) -> Path:
    """A release of the model of interests alone."""
    folder = to.parent / f"{to.name}-model"
    model = models.create(NAME).fit(trained_on or shop)
    model.save(folder)
    written = write_release(to, shop, {NAME: Part(folder, model.spaces())})  # type: ignore[attr-defined]
    activate(to, written.name)
    return written


@pytest.fixture(scope="module")
def interests_release(tmp_path_factory: pytest.TempPathFactory, small_shop: Shop) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        register(monkeypatch)
        yield publish(tmp_path_factory.mktemp("interests") / "releases", small_shop)


@pytest.fixture
def interested(interests_release: Path) -> Serving:
    return Serving.open(interests_release, SURFACES)


def model_of(serving: Serving) -> CategoryInterests:
    model = serving.models[NAME].model
    assert isinstance(model, CategoryInterests)
    model.encoded.clear()
    model.explained.clear()
    return model


def ask(k: int = 4, *items: str, **more: Any) -> Question:
    return Question(surface="test", k=k, actions=tuple(Action(item) for item in items or ("i0", "i7")), **more)


def test_an_announced_item_stands_in_the_next_list_by_what_is_said_of_it(interested: Serving, state: LiveState) -> None:
    before = shown(answer(ask(4), interested, state))
    change(state, item="new", title="Best tent", category="shop/c1", price=9.0)
    given = answer(ask(4), interested, state)
    assert shown(given) == ["new", *before[:3]]
    assert given.items[0].source == NAME
    assert given.items[0].score == 2.0
    assert given.items[0].reasons == ["new, and close to what you looked at"]
    assert "new" not in shown(answer(ask(9, "i2", "i3"), interested, state)), "nobody who likes other categories"


def test_an_item_is_encoded_once_and_again_when_what_is_said_of_it_changes(
    interested: Serving, state: LiveState
) -> None:
    model = model_of(interested)
    change(state, item="new", title="Tent", category="shop/c1")
    for _ in range(3):
        answer(ask(), interested, state)
    assert model.encoded == [["new"]]
    change(state, item="new", in_stock=True, boost=1.5)
    change(state, item="i3", title="Known to the model")
    answer(ask(), interested, state)
    assert model.encoded == [["new"]], "stock and boost say nothing of what it is"
    change(state, item="new", category="shop/c2")
    assert "new" not in shown(answer(ask(9), interested, state))
    assert shown(answer(ask(60, "i2"), interested, state))[0] == "new", "it is boosted"
    assert model.encoded == [["new"], ["new"]]
    change(state, item="new", title=None, category=None)
    assert "new" not in shown(answer(ask(60, "i2"), interested, state)), "nothing is said of it any more"


def test_the_page_of_a_new_item_shows_what_is_close_to_it(interested: Serving, state: LiveState) -> None:
    def page(**more: Any) -> Answer:
        return answer(Question(surface="test", item="new", k=5, **more), interested, state)

    assert shown(page()) == []
    change(state, item="new", title="Tent", category="shop/c1")
    change(state, item="other", title="Best stove", category="shop/c1")
    change(state, item="far", title="Best lamp", category="shop/c3")
    given = page()
    assert [(row.item, row.score) for row in given.items] == [("other", 2), *((f"i{n}", 1) for n in (1, 7, 13, 25))]
    assert {row.source for row in given.items} == {given.fallback} == {f"{NAME}/text"}
    assert given.items[1].reasons == ["close to what you look at, by what is said of both"]
    assert shown(page(filters=Rules(category=("shop/c3",)))) == []
    assert shown(page(filters=Rules(brand=("b0",)))) == ["i25", "i55"]
    change(state, item="new", title=None, category=None)
    assert shown(page()) == []


def test_the_page_of_a_new_item_outlives_a_search_that_fails(
    interested: Serving, state: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(state, item="new", title="Tent", category="shop/c1")
    question, failed = Question(surface="item-page", item="new", k=3), list[str]()
    assert {row.source for row in answer(question, interested, state).items} == {f"{NAME}/text"}
    monkeypatch.setattr(interested.models[NAME].newcomers, "near", lambda *_: 1 / 0)
    given = answer(question, interested, state, on_failure=failed.append)
    assert {row.source for row in given.items} == {"category-popularity"}
    assert failed == [NAME]


def test_rules_hold_for_new_items(interested: Serving, state: LiveState) -> None:
    change(state, item="new", title="Best tent", category="shop/c1", price=9.0, brand="fresh")
    change(state, item="late", title="Best stove", category="shop/c0", price=90.0, in_stock=False)
    assert shown(answer(ask(2), interested, state))[0] == "new"
    assert "late" not in shown(answer(ask(60), interested, state))
    for hidden in (Rules(max_price=5.0), Rules(not_brand=("fresh",)), Rules(category=("shop/c0",))):
        assert "new" not in shown(answer(ask(60, filters=hidden), interested, state))
    assert shown(answer(ask(5, filters=Rules(brand=("fresh",))), interested, state)) == ["new"]
    change(state, item="new", suppressed=True)
    change(state, item="late", in_stock=True, boost=3)
    assert shown(answer(ask(1), interested, state)) == ["late"]
    assert "new" not in shown(answer(ask(60), interested, state))
    assert "late" not in shown(answer(ask(60, basket=("late",)), interested, state))


def test_a_new_item_in_the_history_is_not_told_to_the_model(interested: Serving, state: LiveState) -> None:
    change(state, item="new", title="Best tent", category="shop/c1")
    assert shown(answer(ask(3, "i1", "new"), interested, state)) == ["new", "i1", "i7"]
    assert shown(answer(ask(3, "new"), interested, state)) == []


def grown(shop: Shop, *more: dict[str, Any]) -> Shop:
    """The shop with further items, which nobody has seen yet."""
    names = shop.catalogue.schema.names
    rows = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in more], shop.catalogue.schema)
    items = Vocabulary([*shop.items.ids.to_pylist(), *(row["item"] for row in more)])
    return Shop(shop.events, items, shop.users, pa.concat_tables([shop.catalogue, rows]))


def test_items_released_after_the_training_are_found_too(
    tmp_path: Path, small_shop: Shop, state: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    tent = {"item": "i60", "title": "Best tent", "category": "shop/c0"}
    longer = grown(small_shop, tent, {"item": "i61", "title": "Best stove", "category": "shop/c1"})
    serving = Serving.open(publish(tmp_path / "releases", longer, trained_on=small_shop), SURFACES)
    assert shown(answer(ask(3, "i1", "i0"), serving, state)) == ["i60", "i61", "i0"]
    change(state, item="i60", title="Not so good a tent")
    change(state, item="new", title="Best of all", category="shop/c1")
    assert shown(answer(ask(2, "i1", "i0"), serving, state)) == ["i61", "new"]


def test_vectors_of_items_released_after_the_training_come_with_the_release(
    tmp_path: Path, small_shop: Shop, state: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(monkeypatch)
    looks = pa.array([[0.5] * 6] * N_ITEMS, pa.list_(pa.float32(), 6))
    looking = Shop(
        small_shop.events, small_shop.items, small_shop.users, small_shop.catalogue.append_column("vector_look", looks)
    )
    longer = grown(looking, {"item": "i60", "vector_look": [0, 9, 0, 0, 0, 0]}, {"item": "i61", "category": "shop/c1"})
    serving = Serving.open(publish(tmp_path / "releases", longer, trained_on=looking), SURFACES)
    change(state, item="new", title="Best of all", category="shop/c1")
    given = answer(ask(4, "i1"), serving, state)
    assert [(row.item, row.score) for row in given.items] == [("i60", 9), ("new", 2), ("i61", 1), ("i0", 0.5)]
    assert len(serving.release.new_vectors) == 2
    assert Serving.open(publish(tmp_path / "known", longer), SURFACES).release.new_vectors is None


def test_the_place_of_a_new_item_that_came_by_its_score_is_not_lost(interested: Serving, state: LiveState) -> None:
    liked = Question(k=10, actions=(Action("i7"),))
    near = [f"i{n}" for n in range(1, 60, 6) if n != 19]
    change(state, item="best", title="Best tent", category="shop/c1")
    given = answer(liked, interested, state)
    assert [(row.item, row.source) for row in given.items] == [(item, NAME) for item in ["best", *near]]
    change(state, item="poor", title="Tent", category="shop/c1")
    given = answer(liked, interested, state)
    assert shown(given) == ["best", *near[:8], "poor"]
    assert given.items[-1].source == "new-in-category"


def test_what_cannot_be_encoded_is_served_by_category(
    interested: Serving, state: LiveState, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(table: pa.Table) -> np.ndarray:
        raise ZeroDivisionError(table["title"][0].as_py())

    change(state, item="good", title="Best tent", category="shop/c1")
    answer(ask(), interested, state)
    monkeypatch.setattr(interested.models[NAME].model, "encode_items", failing)
    change(state, item="bad", title="secret", category="shop/c1")
    given = answer(Question(k=10, actions=(Action("i7"),)), interested, state)
    assert (given.items[0].item, given.items[0].source) == ("good", NAME)
    assert (given.items[-1].item, given.items[-1].source) == ("bad", "new-in-category")
    assert given.items[-1].reasons == ["new in this category"]
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text
    for wrong in (np.full((1, 6), np.nan), np.ones((1, 5)), np.ones(6), np.ones((2, 6)), np.zeros((1, 6))):
        monkeypatch.setattr(interested.models[NAME].model, "encode_items", lambda table, wrong=wrong: wrong)
        change(state, item="bad", title=str(wrong))
        assert "bad" not in shown(answer(ask(30), interested, state))
    assert "good" in shown(answer(ask(30), interested, state))


def test_threads_may_ask_while_items_are_announced(interested: Serving, state: LiveState) -> None:
    def announce(n: int) -> None:
        change(state, item=f"new{n}", title="Best", category=f"shop/c{n % 2}")

    def asked(n: int) -> int:
        filters = Rules(not_brand=("b1",)) if n % 2 else Rules()
        return len(answer(ask(12, "i0", "i1", filters=filters), interested, state).items)

    with ThreadPoolExecutor(4) as pool:
        announced = [pool.submit(announce, n) for n in range(30)]
        assert {job.result() for job in [pool.submit(asked, n) for n in range(60)]} == {12}
        for job in announced:
            job.result()
    assert set(shown(answer(ask(30, "i0", "i1"), interested, state))) == {f"new{n}" for n in range(30)}


def test_a_new_user_is_served_from_the_first_event(interested: Serving, state: LiveState) -> None:
    question = Question(user="stranger", surface="test", k=3)
    assert shown(answer(question, interested, state)) == []
    happen(state, "stranger", "i2", "click")
    assert shown(answer(question, interested, state)) == ["i2", "i8", "i14"]
    happen(state, "stranger", "i5", "cart")
    assert shown(answer(question, interested, state)) == ["i2", "i5", "i8"]


def test_events_and_new_items_count_over_http(interests_release: Path, tmp_path: Path) -> None:
    settings = ServerSettings(releases=str(interests_release.parent), state=str(tmp_path / "state.db"))
    with TestClient(create_app(settings)) as client:
        client.post("/v1/events", json={"user": "stranger", "item": "i2", "interaction": "click"})
        given = client.post("/v1/recommend", json={"user": "stranger", "k": 2}).json()
        assert [(row["item"], row["source"]) for row in given["items"]] == [("i2", NAME), ("i8", NAME)]
        assert given["items"][0]["reasons"] == ["because of the Thing 2"]
        assert client.put("/v1/items", json={"item": "new", "title": "Best", "category": "shop/c2"}).status_code == 200
        given = client.post("/v1/recommend", json={"user": "stranger", "k": 2}).json()
        assert [(row["item"], row["source"]) for row in given["items"]] == [("new", NAME), ("i2", NAME)]


# -- reasons -----------------------------------------------------------------------------------------------------------


def test_reasons_are_asked_for_what_is_returned_only(interested: Serving) -> None:
    model = model_of(interested)
    given = answer(ask(3, "i0", "i6", "i1", filters=Rules(max_per_category=2)), interested)
    assert sorted(model.explained) == sorted(int(row.item[1:]) for row in given.items)
    assert len(model.explained) == 3
    assert {row.reasons[0] for row in given.items} == {
        "because of the Thing 1",
        "because of the Thing 6 and the Thing 0",
    }


def test_a_model_that_fails_to_explain_does_not_take_the_list_with_it(
    interested: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(interested.models[NAME].model, "explain", lambda request, item: 1 / 0)
    failed: list[str] = []
    given = answer(ask(2), interested, on_failure=failed.append)
    assert [row.reasons for row in given.items] == [[f"recommended by {NAME}"]] * 2
    assert failed == [NAME] * 2
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("items", "says"),
    [
        ((0,), "because of the tent"),
        ((0, 1), "because of the tent and the stove"),
        ((0, 3, 0, 1), "because of the tent and the stove"),
        ((0, 1, 2, 4), "because of the tent, the stove and the lamp"),
        ((5,), "because of the i5"),
        ((), "interest"),
    ],
)
def test_an_interest_is_told_by_titles(serving: Serving, state: LiveState, items: tuple[int, ...], says: str) -> None:
    for item, title in enumerate(["tent", "stove", "lamp", "tent", "rope", ""]):
        change(state, item=f"i{item}", title=title)
    serving.catch_up(state)
    assert sentence(Reason("interest", items=items), serving.catalogue, serving.release.interactions) == says


# -- lists -------------------------------------------------------------------------------------------------------------


def test_a_new_item_goes_before_what_a_model_falls_back_to() -> None:
    because = Evidence(*(np.array([5, 5, -1], kind) for kind in (np.int32, np.int8, np.int8)))
    found = Candidates(np.array([1, 2, 3], np.int32), np.array([3, 1, 9], np.float32), ["m", "m", "m/popular"], because)
    new = Candidates(np.array([8, 9], np.int32), np.array([2, 0.5], np.float32), ["m", "m"])
    both = joined(found, new, 4)
    assert both.items.tolist() == [1, 8, 2, 9, 3]
    assert both.scores.tolist() == [3, 2, 1, 0.5, 9]
    assert both.source == ["m", "m", "m", "m", "m/popular"]
    assert both.evidence is not None
    assert both.evidence.because.tolist() == [5, -1, 5, -1, -1]
    assert joined(found, new, 2).items.tolist() == [1, 8, 3]
    assert joined(found, Candidates(new.items[:0], new.scores[:0], []), 2) is found
