"""What somebody searched for, live: a model that reads searches is told of it, and no other is disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from litestar.testing import TestClient

from endcap import models
from endcap.release import Part, activate, write_release
from endcap.serve.answerer import answer
from endcap.serve.app import create_app
from endcap.serve.events import Event, event_row, now_us
from endcap.serve.questions import Action, Question
from endcap.serve.service import ServerSettings
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import DEFAULT_SURFACES
from endcap.shop import Shop

from .small import Ranking, with_models
from .test_answerer import happen, shown

COLOURS = ("red", "blue")
SYSTEM = "coaction-graph"


@pytest.fixture(scope="module")
def colourful(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose model has learnt that people look at things of the colour they searched for."""
    rng, rows, time = np.random.default_rng(0), [], 1_790_000_000
    for user in range(80):
        for _ in range(6):
            colour = COLOURS[int(rng.integers(2))]
            rows.append((f"u{user}", None, "search", colour, time := time + 60))
            rows.append((f"u{user}", f"{colour}{rng.integers(12)}", "click", None, time := time + 60))
    names = ("user", "item", "interaction", "query", "time")
    titles = {f"{colour}{n}": f"a {colour} thing" for colour in COLOURS for n in range(12)}
    shop = Shop.from_tables(
        pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))),
        pa.table({"item": list(titles), "title": list(titles.values())}),
    )
    settings = {
        "dim": 16, "epochs": 8, "learning_rate": 0.01, "negatives": 0, "interests": 1, "relations": "none",
        "longest": 12, "id_embedding": "no", "targets": "all",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("colourful")
    model = models.create(SYSTEM, settings).fit(shop)
    model.save(folder / "model")
    to = folder / "releases"
    written = write_release(to, shop, {SYSTEM: Part(folder / "model", model.spaces())})  # type: ignore[attr-defined]
    activate(to, written.name)
    return written


def search(state: LiveState, user: str, query: str, time: int | None = None) -> None:
    state.record([event_row(Event(user=user, interaction="search", query=query, time=time), now_us())]).result()


def are_all(colour: str, items: Sequence[str]) -> bool:
    return bool(items) and all(item.startswith(colour) for item in items)


def test_somebody_is_served_from_the_first_search(colourful: Path, state: LiveState) -> None:
    serving = Serving.open(colourful, DEFAULT_SURFACES)
    for colour in COLOURS:
        question = Question(user=f"stranger-{colour}", k=6)
        assert answer(question, serving, state).fallback == "recent-popularity"
        search(state, question.user or "", f"{colour.upper()} things, please")
        given = answer(question, serving, state)
        assert are_all(colour, shown(given))
        assert {row.source for row in given.items} == {SYSTEM}
        assert given.notes == []
    assert answer(Question(user="another", k=6), serving, state).fallback == "recent-popularity"


def test_a_search_counts_at_its_time_among_the_actions(colourful: Path, state: LiveState) -> None:
    serving, now = Serving.open(colourful, DEFAULT_SURFACES), now_us()
    happen(state, "u", "blue1", "click", now - 120_000_000)
    search(state, "u", "red", now - 60_000_000)
    given = answer(Question(user="u", k=6), serving, state)
    assert are_all("red", shown(given))
    said = answer(Question(user="u", k=6, actions=(Action("blue2"),)), serving, state)
    assert {reason for row in said.items for reason in row.reasons} <= {"because of the a blue thing"}
    state.forget("u", 0)
    assert answer(Question(user="u", k=6), serving, state).fallback == "recent-popularity"


def test_a_search_over_http_stands_in_the_next_list(colourful: Path, tmp_path: Path) -> None:
    settings = ServerSettings(releases=str(colourful.parent), state=str(tmp_path / "state.db"))
    with TestClient(create_app(settings)) as client:
        for query in ("red", "щщщ", "!"):
            event = {"user": "stranger", "interaction": "search", "query": query}
            assert client.post("/v1/events", json=event).status_code < 300
            given = client.post("/v1/recommend", json={"user": "stranger", "k": 4}).json()
            assert are_all("red", [row["item"] for row in given["items"]])
        rows = client.post("/v1/events", json={"user": "s", "interaction": "search", "query": "red " * 250_000})
        assert rows.status_code == 400


def test_a_model_is_told_the_searches_of_the_asker_alone(serving: Serving, state: LiveState) -> None:
    model = Ranking(np.arange(60, dtype=np.float32))
    asked = with_models(serving, ranking=model)
    search(state, "u1", "bag", 1_790_000_000)
    search(state, "u2", "hat", 1_790_000_000)
    for question in (Question(user="u1"), Question(user="u2"), Question(user="u3"), Question()):
        answer(question, asked, state)
    told = list(dict.fromkeys(request.searches for request in model.asked))
    assert told == [(("bag", 1_790_000_000_000_000),), (("hat", 1_790_000_000_000_000),), ()]
