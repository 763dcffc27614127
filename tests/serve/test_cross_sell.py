"""What goes with an item or a basket: never what lies in it, nor a rival of that, whoever fills the list."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient
from numpy.typing import NDArray

from endcap import models, simulate
from endcap.answers import Candidates, Evidence, Items, LeftOut, Reason, Request
from endcap.errors import InputError
from endcap.release import Part, activate, write_release
from endcap.serve.answerer import CAPPED, WEEK_US, answer
from endcap.serve.app import Server, create_app
from endcap.serve.events import ItemUpdate
from endcap.serve.questions import Answer, BasketQuestion, Question
from endcap.serve.reasons import sentence
from endcap.serve.rules import Rules
from endcap.serve.service import ServerSettings
from endcap.serve.serving import Loaded, Serving
from endcap.serve.state import LiveState
from endcap.shop import Events, Shop, Vocabulary
from endcap.simulate import ShopSettings

from .small import N_ITEMS, STEP, Ranking, make_shop
from .test_app import problem_of

UP = np.arange(N_ITEMS, dtype=np.float32)
RIVAL_P = 0.08


class GoesWith(Ranking):
    """Ranks by fixed scores; what is a multiple of `of` stands in the place of another such item, and is left out."""

    def __init__(self, scores: NDArray[np.float32], of: int = 6, fails: bool = False) -> None:
        super().__init__(scores, "goes")
        self.of, self.fails = of, fails

    def rivals(self, request: Request, items: Items) -> NDArray[np.bool_] | None:
        asked = request.basket if request.item is None else np.array([request.item])
        return np.isin(items % self.of, asked % self.of)

    def candidates(self, request: Request) -> Candidates:
        if self.fails:
            raise ZeroDivisionError
        found = super().candidates(replace(request, k=len(self.scores)))
        rival = self.rivals(request, found.items)
        assert rival is not None
        items = found.items[~rival][: request.k]
        n = len(items)
        scores = self.scores[items] / 100
        parts = {"similarity": scores * 2, "complement": np.full(n, 0.5, np.float32), "final": scores}
        because = Evidence(
            np.where(items % 2, 1, -1).astype(np.int32), np.zeros(n, np.int8), np.zeros(n, np.int8),
            np.where(items % 2, items, 0).astype(np.float32),
        )  # fmt: skip
        met = found.items[rival][: request.k]
        left_out = LeftOut(met, np.full(len(met), RIVAL_P, np.float32))
        return Candidates(items, scores, ["goes"] * n, because, parts, left_out)

    def explain(self, request: Request, item: int) -> list[Reason]:
        path = Reason("relation", items=(1, 2, item), note="by way of")
        return [path, Reason("strategy", note="features and catalogue links", value=1.0)]


def with_goes(serving: Serving, **others: tuple[str, Any]) -> Serving:
    """The small release with a model of the system cross-sell; `others` are (system, model) by name."""
    named = {"xsell": ("cross-sell", GoesWith(UP)), **others}
    loaded = {name: Loaded(model, N_ITEMS, None, system) for name, (system, model) in named.items() if model}
    return Serving(serving.release, loaded, serving.surfaces, serving.catalogue)


def shown(given: Answer) -> list[str]:
    return [row.item for row in given.items]


def about(item: str, **fields: Any) -> Question:
    return Question(item=item, surface="cross-sell", **fields)


def fresh(question: Question, serving: Serving, state: LiveState | None = None) -> Answer:
    return answer(question, serving, state, now=serving.release.trained_until)


def stale(question: Question, serving: Serving) -> Answer:
    return answer(question, serving, now=serving.release.trained_until + WEEK_US + 1)


# -- parts, reasons, rivals --------------------------------------------------------------------------------------------


def test_parts_and_rivals_come_when_they_are_asked_for(serving: Serving) -> None:
    both = with_goes(serving)
    plain = fresh(about("i0", k=2), both)
    assert shown(plain) == ["i58", "i57"]
    assert plain.left_out == []
    assert all(row.parts is None for row in plain.items)
    full = fresh(about("i0", k=2, parts=True, left_out=True), both)
    assert shown(full) == shown(plain)
    assert full.items[0].parts == {"similarity": 1.16, "complement": 0.5, "final": 0.58}
    assert [(row.item, row.reason, row.complement, row.title) for row in full.left_out] == [
        ("i54", "substitute", RIVAL_P, "Thing 54"),
        ("i48", "substitute", RIVAL_P, "Thing 48"),
    ]


def test_reasons_are_sentences_one_or_all(serving: Serving) -> None:
    both = with_goes(serving)
    first = [row.reasons for row in fresh(about("i0", k=2), both).items]
    assert first == [["Thing 1 -> Thing 2 -> Thing 58: by way of Thing 2"], ["bought together with Thing 1 57 times"]]
    everything = [row.reasons for row in fresh(about("i0", k=2, reasons=True), both).items]
    placed = "only in one order so far: placed by these and by products like it (features and catalogue links)"
    assert everything[1] == ["Thing 1 -> Thing 2 -> Thing 57: by way of Thing 2", placed]


def test_what_no_basket_links_closely_says_which_category_goes_with_which(serving: Serving) -> None:
    told = sentence(Reason("relation", item=1, note="by category"), serving.catalogue, serving.release.interactions)
    assert told == "of a category that is bought with that of Thing 1"


def test_where_caps_hold_a_few_times_the_list_is_asked_for_and_not_the_whole_budget(serving: Serving) -> None:
    asked = []

    class Counting(GoesWith):
        def candidates(self, request: Request) -> Candidates:
            asked.append(request.k)
            return super().candidates(request)

    both = with_goes(serving, xsell=("cross-sell", Counting(UP)))
    capped = fresh(about("i0", k=2, filters=Rules(max_per_category=1)), both)
    category = both.catalogue.category.codes
    first, second = (both.catalogue.number(item) for item in shown(capped))
    assert category[first] != category[second]
    assert 2 < asked[0] <= 2 * CAPPED


def test_nothing_of_the_basket_and_none_of_its_rivals(serving: Serving) -> None:
    both = with_goes(serving)
    basket = ("i1", "i2", "i2", "nowhere", "i1")
    given = fresh(BasketQuestion(basket=basket, k=40).question(), both)
    assert given.notes[0] == "unknown items in the question: 1, such as 'nowhere'"
    assert {int(item[1:]) % 6 for item in shown(given)} == {0, 3, 4, 5}
    large = tuple(f"i{n % 50}" if n % 3 else f"new{n}" for n in range(500))
    assert not set(shown(fresh(BasketQuestion(basket=large).question(), both))) & set(large)


def test_an_empty_basket_is_refused_and_one_of_strangers_gets_what_is_popular(serving: Serving) -> None:
    with pytest.raises(InputError, match="the basket is empty: name what lies in it"):
        BasketQuestion(basket=()).question()
    given = fresh(BasketQuestion(basket=("x", "y"), k=3).question(), with_goes(serving, xsell=("", None)))
    assert given.fallback == "recent-popularity"
    assert len(given.items) == 3


def test_rules_and_live_changes_hold(serving: Serving, state: LiveState) -> None:
    both = with_goes(serving)
    state.update_items([msgspec.convert({"item": "i58", "in_stock": False}, ItemUpdate)]).result()
    state.update_items([msgspec.convert({"item": "i57", "never_together": ["i0"]}, ItemUpdate)]).result()
    assert shown(fresh(about("i0", k=2), both, state)) == ["i56", "i55"]
    capped = fresh(about("i0", k=3, filters=Rules(max_per_category=1, not_category=("shop/c4",))), both, state)
    assert shown(capped) == ["i56", "i55", "i53"]


# -- who answers -------------------------------------------------------------------------------------------------------


def test_the_cross_sell_model_answers_wherever_it_stands(serving: Serving) -> None:
    both = with_goes(serving, xsell=("", None), a=("popularity", Ranking(-UP)), b=("cross-sell", GoesWith(UP)))
    given = fresh(about("i0", k=3), both)
    assert [row.source for row in given.items] == ["goes"] * 3
    assert given.notes == []


def test_without_one_the_other_models_answer_and_a_note_says_so(serving: Serving) -> None:
    other = with_goes(serving, xsell=("", None), a=("popularity", Ranking(UP)))
    given = fresh(about("i0", k=2), other)
    assert shown(given) == ["i58", "i57"]
    assert given.notes == ["the release has no cross-sell: its other models answer as they can"]


def test_a_stale_release_leans_on_what_was_counted(serving: Serving) -> None:
    counts = ("co-purchase", Ranking(-UP, "counts"))
    both = with_goes(serving, c=counts, d=("random-walk", Ranking(UP, "walk")))
    assert [row.source for row in fresh(about("i0", k=4), both).items] == ["goes"] * 4
    given = stale(about("i0", k=4), both)
    assert given.stale
    assert [(row.item, row.source) for row in given.items] == [
        ("i58", "goes"), ("i1", "counts"), ("i57", "goes"), ("i2", "counts"),
    ]  # fmt: skip
    assert given.notes == ["the release is older than it should be: c takes turns with its models"]
    alone = stale(about("i0", k=4), with_goes(serving))
    assert (alone.stale, alone.notes, len(alone.items)) == (True, [], 4)


def test_rivals_stay_away_whoever_names_them(serving: Serving) -> None:
    both = with_goes(serving, c=("co-purchase", Ranking(-UP, "counts")))
    given = stale(about("i0", k=30), both)
    assert {row.source for row in given.items} == {"goes", "counts"}
    assert all(int(item[1:]) % 6 for item in shown(given))


@pytest.mark.parametrize("age", [0, WEEK_US + 1])
def test_a_model_that_fails_leaves_no_empty_page(serving: Serving, age: int) -> None:
    failing = with_goes(serving, xsell=("cross-sell", GoesWith(UP, fails=True)))
    given = answer(about("i0", k=5), failing, now=serving.release.trained_until + age)
    assert len(given.items) == 5
    assert given.fallback is not None
    assert all(int(item[1:]) % 6 for item in shown(given)), "the model still tells rivals"


class Newcomer:
    """One new item, nearer than all others to whatever is asked."""

    def candidates(self, request: Request, k: int, allowed: object) -> Candidates:
        return Candidates(np.array([N_ITEMS], np.int32), np.full(1, 9, np.float32), ["goes"])

    def near(self, item: int, k: int, allowed: object) -> Candidates:
        raise AssertionError("what lies near a new item stands in its place")

    def learn(self, changed: Items) -> None:
        """Nothing to encode."""


def test_a_new_item_joins_where_it_is_no_rival_and_is_asked_about_by_its_category(
    serving: Serving, state: LiveState
) -> None:
    loaded = Loaded(GoesWith(UP), N_ITEMS, Newcomer(), "cross-sell")  # type: ignore[arg-type]
    both = Serving(serving.release, {"x": loaded}, serving.surfaces, serving.catalogue)
    state.update_items([msgspec.convert({"item": "new", "category": "shop/c0"}, ItemUpdate)]).result()
    beside = fresh(about("i1", k=2, parts=True), both, state)
    assert [(row.item, row.parts is None) for row in beside.items] == [("new", True), ("i58", False)]
    assert shown(fresh(about("i0", k=2), both, state)) == ["i58", "i57"]
    asked = fresh(about("new", k=60), both, state)
    assert {row.source for row in asked.items} == {"recent-popularity"}
    assert not [item for item in shown(asked) if int(item[1:]) % 6 == 0]


# -- categories that go together ---------------------------------------------------------------------------------------


def paired_shop() -> Shop:
    """As the small shop, but in each session a purchase of c0 (item 0 or 6) is followed by one of c1, then one of c2
    in every other session; nothing of the other categories was ever bought.
    """
    small, n = make_shop(), 90
    user, session = np.arange(n, dtype=np.int32) % 40, np.arange(n, dtype=np.int32) // 3
    category = np.tile(np.array([0, 1, 2, 0, 1, 0]), n // 6)
    item = (category + 6 * (np.arange(n) % 2)).astype(np.int32)
    time = small.events.time[-1] + 1 + np.arange(n) * STEP
    order = np.lexsort((time, session))
    bought = Events(user[session], item, np.full(n, 3, np.int8), time, session).where(order)
    return Shop(bought, Vocabulary([f"i{i}" for i in range(N_ITEMS)]), small.users, small.catalogue)


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paired")
    models.create("popularity").fit(paired_shop()).save(folder / "model")
    written = write_release(folder / "releases", paired_shop(), {"popularity": Part(folder / "model")})
    activate(folder / "releases", written.name)
    return written


def test_a_release_knows_which_categories_are_bought_together(paired: Path, serving: Serving) -> None:
    release = Serving.open(paired, serving.surfaces).release
    assert release.bought_with("shop/c0") == ["shop/c1", "shop/c2"]
    assert release.bought_with("shop/c1") == ["shop/c0", "shop/c2"]
    assert release.bought_with("shop/c5") == release.bought_with("no such") == []


def test_short_lists_are_filled_from_categories_that_go_with_it(paired: Path, serving: Serving) -> None:
    opened = Serving.open(paired, serving.surfaces)
    few = replace(opened, models={"x": Loaded(GoesWith(UP[:2]), 2, None, "cross-sell")})
    given = fresh(about("i0", k=5), few)
    assert [row.source for row in given.items] == ["goes", *["category-pair-popularity"] * 4]
    assert [int(item[1:]) % 6 for item in shown(given)] == [1, 2, 1, 2, 1]
    assert given.items[2].reasons == ["popular in shop/c1, which goes with Thing 0"]
    assert given.fallback == "category-pair-popularity"
    rest = fresh(about("i0", k=60), few)
    assert rest.items[-1].source == "recent-popularity"
    assert not [item for item in shown(rest) if int(item[1:]) % 6 == 0], "its own category is full of rivals"
    narrow = fresh(about("i0", k=5, filters=Rules(category=("shop/c2",), not_items=("i2",))), few)
    assert shown(narrow)[0] == "i8"


def test_an_older_release_has_no_pairs_of_categories_and_is_served(paired: Path, serving: Serving) -> None:
    opened = Serving.open(paired, serving.surfaces)
    opened.release.__dict__["_category_pairs"] = {}
    given = fresh(about("i0", k=5), replace(opened, models={"x": Loaded(GoesWith(UP[:2]), 2, None, "cross-sell")}))
    assert given.fallback == "recent-popularity"


# -- the routes --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(paired: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    state = tmp_path_factory.mktemp("state") / "state.db"
    with TestClient(create_app(ServerSettings(releases=str(paired.parent), state=str(state)))) as client:
        yield client


def test_the_routes_answer_with_the_contracts_fields(client: TestClient[Server]) -> None:
    given = client.get("/v1/items/i0/cross-sell?k=3&parts=true&reasons=true&left_out=true&max_per_brand=1").json()
    assert {"request_id", "release", "items"} <= given.keys()
    assert len(given["items"]) == 3
    basket = client.post("/v1/cross-sell", json={"basket": ["i0", "i1"], "k": 4, "filters": {"not_brand": ["b1"]}})
    assert basket.status_code == 200
    assert all(int(row["item"][1:]) % 5 != 1 for row in basket.json()["items"])
    assert basket.json()["notes"] == ["the release has no cross-sell: its other models answer as they can"]


@pytest.mark.parametrize("item", ["a/b", "a/related", "cross-sell", "%2F", "50% off?"])
def test_any_id_can_stand_in_the_path(client: TestClient[Server], item: str) -> None:
    told = {"item": item, "category": "shop/c0", "title": f"<{item}>"}
    assert client.put("/v1/items", json=told).status_code == 200
    given = client.get(f"/v1/items/{quote(item, safe='')}/cross-sell?k=2").json()
    assert [row["item"] for row in given["items"]] == ["i1", "i2"], "of the categories that go with that of a new item"
    assert given["items"][0]["reasons"] == [f"popular in shop/c1, which goes with <{item}>"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"basket": []}', "the basket is empty: name what lies in it"),
        (b"{}", "missing required field `basket`"),
        (b'{"basket": ["' + b'","'.join([b"i1"] * 501) + b'"]}', "500"),
        (b'{"basket": ["i1"], "item": "i2"}', "unknown field `item`"),
        (b'{"basket": [""]}', "an item of the basket is empty"),
        (b'{"basket": ["i1"], "parts": "yes"}', "bool"),
        (b'{"basket": ["i1"], "surface": "crss-sell"}', "did you mean 'cross-sell'"),
    ],
)
def test_wrong_baskets_are_refused_with_the_reason(client: TestClient[Server], body: bytes, says: str) -> None:
    refused = client.post("/v1/cross-sell", content=body, headers={"content-type": "application/json"})
    assert says in problem_of(refused, 400)["detail"]


def test_a_wrong_query_is_refused_with_the_reason(client: TestClient[Server]) -> None:
    assert "did you mean 'parts'" in problem_of(client.get("/v1/items/i0/cross-sell?part=true"), 400)["detail"]
    assert "bool" in problem_of(client.get("/v1/items/i0/cross-sell?parts=perhaps"), 400)["detail"]


def test_many_ask_at_once(client: TestClient[Server]) -> None:
    service = client.app.state.service
    basket = BasketQuestion(basket=("i0", "i8"), k=7, parts=True).question()
    with ThreadPoolExecutor(4) as pool:
        lists = [pool.submit(lambda: tuple(shown(service.answer(basket)))) for _ in range(40)]
        assert len({given.result() for given in lists}) == 1


# -- the real model ----------------------------------------------------------------------------------------------------


def test_a_trained_model_is_served_with_its_parts(tmp_path: Path, serving: Serving) -> None:
    made = simulate.tables(ShopSettings(events=8_000, items=100, seed=1, best=0, converts=0.8, checkout=0.9))
    shop = Shop.from_tables(made.events, made.items)
    settings = {"dim": 8, "epochs": 1, "batch_size": 512, "negatives": 64, "text": "none", "complement": "logistic"}
    settings["score_by"] = "network"
    model = models.create("cross-sell", settings).fit(shop)
    model.save(tmp_path / "model")
    written = write_release(tmp_path / "releases", shop, {"cross-sell": Part(tmp_path / "model", model.spaces())})
    opened = Serving.open(written, serving.surfaces)
    bought = int(np.argmax(np.bincount(shop.positives.item[shop.positives.interaction == 3])))
    given = fresh(about(shop.items[bought], k=5, parts=True, left_out=True), opened)
    assert given.fallback is None
    for row in given.items:
        parts = row.parts
        assert parts is not None
        assert (
            parts["final"]
            == pytest.approx(parts["similarity"] * parts["complement"] * parts["recency"], abs=3e-4)
            == pytest.approx(row.score, abs=1e-4)
        )
        assert parts["complement"] >= 0.5
    assert all(met.complement < 0.5 for met in given.left_out)
    assert not {row.item for row in given.left_out} & set(shown(given))
