"""A new item in the lists of a trained CoActionGraphRec: it comes where its like stand, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from endcap import models, simulate
from endcap.answers import Request
from endcap.release import Part, activate, write_release
from endcap.serve.answerer import answer
from endcap.serve.questions import Question
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface
from endcap.shop import Shop
from endcap.simulate import ShopSettings

from .test_answerer import change, shown

SYSTEM, K, PEOPLE = "coaction-graph", 10, 12
SAID = ("title", "category", "brand", "seller", "price")
SURFACES = {"home": Surface((Source(SYSTEM),), fallback=(), new_items=0), "item-page": Surface()}


@pytest.fixture(scope="module")
def simulated() -> Shop:
    tables = simulate.tables(ShopSettings(events=4000, items=200, seed=1, best=0))
    return Shop.from_tables(tables.events, tables.items)


@pytest.fixture(scope="module")
def released(simulated: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose model knows items by what is said of them alone."""
    settings = {
        "dim": 16,
        "epochs": 3,
        "learning_rate": 0.005,
        "longest": 20,
        "relations": "none",
        "id_embedding": "no",
    }
    folder = tmp_path_factory.mktemp("twins")
    model = models.create(SYSTEM, settings).fit(simulated)
    model.save(folder / "model")
    written = write_release(folder / "releases", simulated, {SYSTEM: Part(folder / "model", model.spaces())})
    activate(folder / "releases", written.name)
    return written


def said_of(shop: Shop, item: int) -> dict[str, object]:
    """What is said of an item, its number in the title aside."""
    row = shop.catalogue.slice(item, 1).to_pylist()[0]
    return {name: row[name] for name in SAID} | {"title": row["title"].rpartition(" ")[0]}


def test_a_twin_comes_into_the_lists_that_hold_its_like(simulated: Shop, released: Path, state: LiveState) -> None:
    shop, serving = simulated, Serving.open(released, SURFACES)
    model = serving.models[SYSTEM].model
    people = np.argsort(-np.bincount(shop.positives.user, minlength=shop.n_users))[:PEOPLE].tolist()
    for user in people:
        question = Question(user=shop.users[user], k=K)
        before = answer(question, serving, state)
        liked = shop.items.number(before.items[2].item)
        request = Request(k=shop.n_items, history=shop.history(user))
        unlike = int(model.candidates(request).items[-1])
        change(state, item=f"twin of {user}", **said_of(shop, liked))
        change(state, item=f"stranger to {user}", **said_of(shop, unlike))
        change(state, item=f"nonsense {user}", title="qwxz vkjq", category="nowhere/else", brand="unheard of")
        given = answer(question, serving, state)
        assert f"twin of {user}" in shown(given)
        assert f"stranger to {user}" not in shown(given)
        assert f"nonsense {user}" not in shown(given)
        assert {row.source for row in given.items} == {SYSTEM}
        (row,) = [row for row in given.items if row.item == f"twin of {user}"]
        assert row.reasons == ["new, and close to what you looked at"]
        for name in ("twin of", "stranger to", "nonsense"):
            change(state, item=f"{name} {user}", suppressed=True)


def test_the_page_of_a_twin_is_like_that_of_its_like(simulated: Shop, released: Path, state: LiveState) -> None:
    shop, serving, shared = simulated, Serving.open(released, SURFACES), list[int]()
    for item in np.argsort(-np.bincount(shop.positives.item, minlength=shop.n_items))[:PEOPLE].tolist():
        change(state, item=f"twin of {item}", **said_of(shop, item))
        known, new = (
            answer(Question(surface="home", item=name, k=K), serving, state)
            for name in (shop.items[item], f"twin of {item}")
        )
        assert {row.source for row in new.items} == {f"{SYSTEM}/text"}
        shared.append(len(set(shown(known)) & set(shown(new))))
        change(state, item=f"twin of {item}", suppressed=True)
    assert np.mean(shared) > K / 2
