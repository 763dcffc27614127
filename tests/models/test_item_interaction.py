"""Item-interaction embeddings: what is chosen, what is learnt, what is answered when something is missing."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import History, Request
from endcap.artefact import sweep
from endcap.errors import InputError
from endcap.index import Exact
from endcap.models.checkpoint import Checkpoint
from endcap.models.item_interaction import ItemInteraction
from endcap.shop import Shop

CLICK, CART, PURCHASE = 0, 2, 3
QUICK = {
    "dim": 16,
    "epochs": 30,
    "scorer": "in_out_cos",
    "session_filter": "none",
    "reg_weighting": "share",
    "targets": "typed",
}
N_PAIRS = 20  # camera c goes with card c and is compared with its two rivals


def planted_log(n_sessions: int = 600, seed: int = 0) -> pa.Table:
    """Who looks at camera c compares it with its rivals and carts card c with it; some looks are noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(n_sessions):
        c, other = rng.integers(N_PAIRS, size=2)
        looked = [f"rival{c}a", f"camera{c}", f"rival{c}b", f"camera{other}", f"camera{c}"]
        actions = [(item, "click") for item in looked] + [(f"camera{c}", "cart"), (f"card{c}", "cart")]
        start = 1_600_000_000 + session * 7200
        rows += [(f"u{session % 50}", item, kind, start + step) for step, (item, kind) in enumerate(actions)]
    return pa.table(dict(zip(("user", "item", "interaction", "time"), map(list, zip(*rows, strict=True)), strict=True)))


def planted_items() -> pa.Table:
    names = [f"{kind}{n}" for kind in ("camera", "card") for n in range(N_PAIRS)]
    return pa.table({
        "item": [*names, "new-card", "new-other"],
        "category": [*(["photo/cameras"] * N_PAIRS), *(["photo/cards"] * N_PAIRS), "photo/cards", "toys"],
        "seller": [*[f"s{n % 4}" for n in range(2 * N_PAIRS)], "s1", None],
    })  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.from_tables(planted_log(), planted_items())


@pytest.fixture(scope="module")
def model(shop: Shop) -> ItemInteraction:
    return ItemInteraction(**QUICK).fit(shop)


def test_carts_lead_to_complements_and_clicks_to_rivals(model):
    carts = sum(model.related(f"camera{c}", want="cart", k=1)[0][0] == f"card{c}" for c in range(N_PAIRS))
    assert carts >= N_PAIRS * 0.9
    rivals = [item for c in range(N_PAIRS) for item, _ in model.related(f"camera{c}", want="click", k=2)]
    assert sum(item.startswith("rival") for item in rivals) >= 2 * N_PAIRS * 0.9


def test_untyped_vectors_cannot_tell_the_two_apart(shop):
    untyped = models.create("sgns", QUICK).fit(shop)
    by_want = [untyped.related("camera3", want=want, k=5) for want in ("cart", "click")]
    assert by_want[0] == by_want[1]


def test_the_regulariser_reaches_beyond_the_window(shop):
    """With a window of 1 a camera's click never meets the card's cart; only R_c joins them."""
    hits = {}
    for reg_k in (0, 3):
        trained = ItemInteraction(**QUICK | {"window": 1, "reg_k": reg_k, "reg_same_item": False}).fit(shop)
        hits[reg_k] = sum(trained.related(f"camera{c}", want="cart", k=1)[0][0] == f"card{c}" for c in range(N_PAIRS))
    assert hits[3] > hits[0]
    assert hits[3] >= N_PAIRS * 0.8


def test_scorer_and_filter_are_chosen_on_the_end_of_the_training_log(shop):
    chosen = ItemInteraction(dim=8, epochs=5).fit(shop)._learned()
    assert {(t["session_filter"], t["scorer"], t["targets"]) for t in chosen["tried"]} == set(
        itertools.product(("none", "paper"), ("in_in_cos", "in_out_ip", "in_out_cos"), ("typed", "any"))
    )
    assert chosen["hit_rate"] == max(t["hit_rate"] for t in chosen["tried"])


def test_a_given_scorer_and_filter_are_used_without_a_trial(model):
    assert model._learned() == {
        "session_filter": "none", "scorer": "in_out_cos", "targets": "typed", "hit_rate": 0.0, "tried": []
    }  # fmt: skip


def test_the_papers_filter_keeps_sessions_of_four_tokens_with_a_purchase():
    rows = [("a", "x", "click"), ("a", "y", "click"), ("a", "z", "click"), ("a", "x", "purchase")]
    rows += [("b", "x", "click"), ("b", "y", "click"), ("b", "z", "click"), ("b", "w", "click")]
    rows += [("c", "v", "click"), ("c", "v", "purchase")]
    user, item, interaction = map(list, zip(*rows, strict=True))
    table = pa.table(
        {"user": user, "item": item, "interaction": interaction, "time": [1_600_000_000 + n for n in range(10)]}
    )
    shop = Shop.from_tables(table)
    model = ItemInteraction(**QUICK | {"session_filter": "paper", "epochs": 1}).fit(shop)
    assert {shop.items[n] for n in model.spaces()["click"].items} == {"x", "y", "z"}
    with pytest.raises(InputError, match="session_filter=none"):
        ItemInteraction(**QUICK | {"session_filter": "paper"}).fit(Shop.from_tables(table.slice(8)))


def sources(model: ItemInteraction, item: str, shop: Shop, **asked) -> list[str]:
    asked = {"seen_as": CLICK, "want": CART, "k": 8} | asked
    return list(model.candidates(Request(item=shop.items.number(item), **asked)).source)


def test_a_pair_without_a_vector_falls_back_to_the_items_other_interaction(model, shop):
    assert set(sources(model, "camera0", shop)) == {"item-interaction"}
    assert sources(model, "card0", shop, seen_as=CLICK)[0] == "item-interaction/cart"  # cards are never clicked


def test_an_item_without_any_vector_falls_back_to_its_seller_then_category_then_popularity(model, shop):
    steps = sources(model, "new-card", shop, k=40)
    assert steps[0] == "item-interaction/seller"
    order = [f"item-interaction/{step}" for step in ("seller", "category", "popularity")]
    assert steps == sorted(steps, key=order.index)
    other = model.candidates(Request(item=shop.items.number("new-other"), seen_as=CLICK, want=CART, k=5))
    assert other.source[0] in {"item-interaction/category", "item-interaction/popularity"}
    assert len(other) == 5


def test_an_answer_has_k_items_where_k_are_allowed(model, shop):
    allowed = np.zeros(shop.n_items, bool)
    allowed[[shop.items.number(f"card{n}") for n in range(7)]] = True
    answer = model.candidates(
        Request(item=shop.items.number("camera0"), seen_as=CLICK, want=CART, k=7, allowed=allowed)
    )
    assert sorted(answer.items) == sorted(np.flatnonzero(allowed))


def test_each_candidate_of_a_history_names_the_action_behind_it(model, shop):
    items = np.array(
        [shop.items.number(name) for name in ("camera2", "camera9", "camera15", "camera4", "camera7")], np.int32
    )
    past = History(items, np.zeros(5, np.int8), np.arange(5))
    answer = model.candidates(Request(history=past, want=CART, k=4))
    assert answer.evidence is not None
    names = {shop.items[i]: shop.items[b] for i, b in zip(answer.items, answer.evidence.because, strict=True)}
    assert all(because in {"camera9", "camera15", "camera4", "camera7"} for because in names.values()), "the last four"
    assert sum(item.removeprefix("card") == because.removeprefix("camera") for item, because in names.items()) >= 3
    assert (answer.evidence.want == CART).all()
    reason = model.explain(Request(history=past, want=CART, k=4), int(answer.items[0]))[0]
    assert (reason.kind, reason.item) == ("because", int(answer.evidence.because[0]))


def test_the_cart_page_asks_for_the_last_carted_item_and_never_answers_the_basket(model, shop):
    basket = np.array([shop.items.number("camera3"), shop.items.number("camera5")], np.int32)
    answer = model.candidates(Request(basket=basket, want=CART, k=5))
    assert shop.items[answer.items[0]] == "card5"
    assert not np.isin(answer.items, basket).any()


def test_targets_of_any_interaction_find_items_that_were_never_carted(shop):
    """Rivals are only clicked: a typed list of carts cannot hold them, one of any target does, and each item once."""
    asked = shop.items.encode(f"camera{c}" for c in range(N_PAIRS))
    held = {}
    for targets in ("typed", "any"):
        trained = ItemInteraction(**QUICK | {"targets": targets}).fit(shop)
        lists, scores = trained.related_batch(asked, CLICK, CART, 30)
        held[targets] = {shop.items[item][:5] for item in lists[lists >= 0]}
        assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in lists)
        assert not (lists == asked[:, None]).any()
        assert (np.diff(np.where(np.isinf(scores), -99, scores), axis=1) <= 0).all()
    assert "rival" not in held["typed"]
    assert {"rival", "card1"} <= held["any"]


def test_attached_indexes_are_searched(model, shop, tmp_path):
    model.save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    expected = opened.related("camera0", want="cart", k=3)

    class Upside(Exact):
        def search(self, queries, k, allowed=None):
            return super().search(-queries, k, allowed)

    opened.attach({"cart": Upside(opened.spaces()["cart"])})
    assert opened.related("camera0", want="cart", k=3) != expected


class Interrupted(Exception):
    pass


def test_an_interrupted_training_goes_on_and_ends_as_if_nothing_had_happened(shop, tmp_path, monkeypatch):
    settings = QUICK | {"epochs": 6, "sellers": False}
    whole = ItemInteraction(**settings).fit(shop, seed=5)
    monkeypatch.setattr("endcap.models.checkpoint.SAVE_EVERY_S", 0.0)
    save, saved = Checkpoint.save, []

    def interrupting(self, step, arrays, *, now=False):
        save(self, step, arrays, now=True)
        saved.append(step)
        if step == 3 and len(saved) == 3:
            raise Interrupted

    monkeypatch.setattr(Checkpoint, "save", interrupting)
    with pytest.raises(Interrupted):
        ItemInteraction(**settings).fit(shop, seed=5, checkpoint=tmp_path / "partial")
    resumed = ItemInteraction(**settings).fit(shop, seed=5, checkpoint=tmp_path / "partial")
    assert saved == [1, 2, 3, 4, 5, 6], "the second run began where the first one stopped"
    np.testing.assert_array_equal(resumed._vectors.queries, whole._vectors.queries)
    resumed.save(tmp_path / "model")
    assert not (tmp_path / "partial").exists()


def test_a_checkpoint_of_other_settings_is_not_used(shop, tmp_path):
    save = Checkpoint(tmp_path, {"seed": 1}).stage("items")
    save.save(4, {"inputs": np.zeros(3)}, now=True)
    assert Checkpoint(tmp_path, {"seed": 1}).stage("items").load()[0] == 4
    assert Checkpoint(tmp_path, {"seed": 2}).stage("items").load() == (0, {})


def test_a_checkpoint_of_other_events_is_not_used(tmp_path):
    """Not even where all counts, times and vocabularies are the same."""
    items = ["a", "b", "c", "d"]
    swapped = [items, ["a", "b", "d", "c"]]
    shops = [
        Shop.from_tables(
            {
                "user": ["u"] * 4 + ["v"] * 4,
                "item": [*items, *order],
                "interaction": ["click"] * 8,
                "time": [1_790_000_000 + 60 * step for step in range(8)],
            }
        )
        for order in swapped
    ]
    models = [ItemInteraction(dim=4, epochs=1, reg_k=1).fit(shop, checkpoint=tmp_path / "part") for shop in shops]
    assert models[0]._provenance() == models[1]._provenance()
    assert models[0].checkpoint.key != models[1].checkpoint.key


def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, caplog):
    Checkpoint(tmp_path / "part", {}).save(4, {"inputs": np.zeros(3)}, now=True)
    with (tmp_path / "part" / "inputs.npy").open("ab") as file:
        file.write(b"x")
    assert Checkpoint(tmp_path / "part", {}).load() == (0, {})
    assert len(caplog.messages) == 1
    assert "inputs.npy" in caplog.text
    assert "anew" in caplog.text


def test_a_checkpoint_goes_at_once(tmp_path, monkeypatch):
    """Killed while it is removed, nothing is found under its name, and what is left has one that writers sweep."""
    part = Checkpoint(tmp_path / ".m.training", {})
    part.stage("items").save(4, {"inputs": np.zeros(3)}, now=True)
    monkeypatch.setattr("endcap.artefact.shutil.rmtree", lambda *arguments, **options: None)
    part.remove()
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [".m.training.removed.building"]
    sweep(tmp_path, "m")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_no_checkpoint(tmp_path, shop):
    """And must not count as a log too short to choose on."""
    (tmp_path / "choose-none").mkdir()
    (tmp_path / "choose-none" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not a checkpoint folder"):
        ItemInteraction(dim=4, epochs=1).fit(shop, checkpoint=tmp_path)
    assert (tmp_path / "choose-none" / "mine.txt").read_text() == "mine"


def test_two_threads_stay_within_a_band_of_one(shop):
    hits = []
    for threads in (1, 2):
        trained = ItemInteraction(**QUICK).fit(shop, threads=threads)
        hits.append(sum(trained.related(f"camera{c}", want="cart", k=1)[0][0] == f"card{c}" for c in range(N_PAIRS)))
    assert abs(hits[0] - hits[1]) <= 3
