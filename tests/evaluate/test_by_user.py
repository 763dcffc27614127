"""The by-user protocol: by hand, against an independent library, and that nobody who is asked was learnt from."""

from __future__ import annotations

from dataclasses import replace

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from endcap import models
from endcap.answers import Candidates, Request
from endcap.errors import InputError
from endcap.evaluate import evaluate, split_people
from endcap.models.popularity import Popularity
from endcap.shop import Shop

from .shops import Alphabet, shop_of


def person(name: str, items: str) -> list[tuple[str, str, str, int]]:
    """Clicks on items named by one letter, a minute apart."""
    return [(name, item, "click", minute) for minute, item in enumerate(items)]


@pytest.fixture(scope="module")
def by_hand() -> tuple[Shop, Shop]:
    """t is learnt from. After 80 %: u turns to a again and to k, v twice to a, y to j, k, b; w and x to nothing new."""
    shop = shop_of(
        *person("t", "abcdefghijk"),
        *person("u", "abcdefhak"),
        *person("v", "hgfedcbhaa"),
        *person("w", "a"),
        *person("x", "abcda"),
        *person("y", "bcdefghiajkb"),
    )
    is_learnt = shop.events.user == shop.users.number("t")
    train, test = (replace(shop, events=shop.events.where(mask)) for mask in (is_learnt, ~is_learnt))
    return train, test


@pytest.fixture(scope="module")
def many() -> Shop:
    """200 people with 1 to 30 actions on 40 items."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u{user}", f"i{rng.integers(40)}", ("click", "cart")[int(rng.random() < 0.2)], minute)
        for user in range(200)
        for minute in range(rng.integers(1, 31))
    ]
    return shop_of(*rows)


class Hash:
    """Orders all items by what the person did last: no order that anybody could guess."""

    def __init__(self, shop: Shop) -> None:
        self.table = np.random.default_rng(0).permuted(np.tile(np.arange(shop.n_items), (shop.n_items, 1)), axis=1)

    def candidates(self, request: Request) -> Candidates:
        items = self.table[request.history.items[-1]][: request.k].astype(np.int32)
        return Candidates(items, -np.arange(len(items), dtype=np.float32), ["hash"] * len(items))


def values(report: object, model: str) -> dict[str, float]:
    return {metric: figure.value for metric, figure in report.models[model].items()}


def test_the_first_80_percent_are_told_and_the_rest_is_asked_about(by_hand: tuple[Shop, Shop]) -> None:
    model = Alphabet(by_hand[0])
    report = evaluate(by_hand, {"abc": model}, protocol="by-user", lengths=(1, 2, 5))
    told = ["".join(by_hand[0].items.decode(request.history.items)) for request in model.asked]
    assert told == ["abcdefh", "hgfedcbh", "bcdefghia"]
    assert [request.user for request in model.asked] == [None] * 3  # a model knows nothing of them
    assert (report.data["people"], report.data["targets"]) == (3, 4)
    found = values(report, "abc")  # u: k in g i j k; v: a in a i j k; y: j and k in j k
    assert found["recall@1"] == pytest.approx((0 + 1 + 1 / 2) / 3)
    assert found["recall@2"] == pytest.approx((0 + 1 + 1) / 3)
    assert found["ndcg@1"] == pytest.approx((0 + 1 + 1) / 3)  # the best that a list of one can do is one hit
    assert found["ndcg@5"] == pytest.approx((1 / np.log2(5) + 1 + 1) / 3)
    assert found["hit_rate@1"] == pytest.approx(2 / 3)
    assert found["target_recall@2"] == pytest.approx(3 / 4)
    assert report.headline == "recall@5"


def test_keep_asks_about_known_items_too(by_hand: tuple[Shop, Shop]) -> None:
    report = evaluate(by_hand, {"abc": Alphabet(by_hand[0])}, protocol="by-user", lengths=(1, 2), seen="keep")
    assert (report.data["people"], report.data["targets"]) == (4, 7)  # u: a k; v: a; x: a; y: b j k
    assert values(report, "abc")["recall@1"] == pytest.approx((1 / 2 + 1 + 1 + 0) / 4)
    assert values(report, "abc")["recall@2"] == pytest.approx((1 / 2 + 1 + 1 + 1 / 3) / 4)


@pytest.mark.parametrize("want", [None, "cart"])
@pytest.mark.parametrize("seen", ["leave-out", "keep"])
def test_figures_agree_with_ir_measures(many: Shop, seen: str, want: str | None) -> None:
    train, _, test = split_people(many)
    report = evaluate((train, test), {"it": Hash(many)}, protocol="by-user", seen=seen, want=want, lengths=(5, 20))
    qrels, run = [], []
    for user in np.unique(test.positives.user):
        past = test.history(user)
        cut = int(0.8 * len(past))
        known = set() if seen == "keep" else set(past.items[:cut].tolist())
        wanted = [want is None or many.interactions.name(kind) == want for kind in past.interactions[cut:]]
        targets = set(past.items[cut:][wanted].tolist()) - known
        if cut and targets:
            qrels += [ir_measures.Qrel(str(user), str(item), 1) for item in targets]
            answer = [item for item in Hash(many).table[past.items[cut - 1]] if item not in known]
            run += [ir_measures.ScoredDoc(str(user), str(i), -float(place)) for place, i in enumerate(answer[:20])]
    for k in (5, 20):
        theirs = ir_measures.calc_aggregate([nDCG @ k, R @ k, Success @ k, RR @ k], qrels, run)
        for name, measure in {"ndcg": nDCG @ k, "recall": R @ k, "hit_rate": Success @ k, "mrr": RR @ k}.items():
            assert report.models["it"][f"{name}@{k}"].value == pytest.approx(theirs[measure])
    assert report.models["it"]["recall@20"].n == len({qrel.query_id for qrel in qrels})


def test_nobody_who_is_asked_was_learnt_from(many: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    views, requests = [], []
    fit = Popularity.fit

    def spied_fit(self: Popularity, shop: Shop, **options: object) -> Popularity:
        views.append(shop)
        return fit(self, shop, **options)

    def spied_candidates(self: Popularity, request: Request) -> Candidates:
        requests.append(request)
        return Candidates(np.empty(0, np.int32), np.empty(0, np.float32), [])

    monkeypatch.setattr(Popularity, "fit", spied_fit)
    monkeypatch.setattr(Popularity, "candidates", spied_candidates)
    evaluate(many, ["popularity"], protocol="by-user", seed=4, seen="keep")
    _, _, test = split_people(many, seed=4)
    asked = [user for user in np.unique(test.positives.user) if len(test.history(user)) > 1]
    assert not set(views[0].events.user.tolist()) & set(test.events.user.tolist())
    assert len(requests) == len(asked) > 10
    for user, request in zip(asked, requests, strict=True):
        past = test.history(user).items
        assert request.history.items.tolist() == past[: int(0.8 * len(past))].tolist()


def test_people_are_split_by_seed_with_all_they_did(many: Shop) -> None:
    parts = split_people(many, seed=1)
    assert [len(np.unique(part.positives.user)) for part in parts] == [160, 20, 20]
    assert sum(len(part.events) for part in parts) == len(many.events)
    assert all(part.n_items == many.n_items for part in parts)
    assert (split_people(many, seed=1)[2].events.user == parts[2].events.user).all()
    assert set(split_people(many, seed=2)[2].events.user) != set(parts[2].events.user)


def test_segments_are_of_targets_and_add_up(many: Shop) -> None:
    report = evaluate(many, ["popularity"], protocol="by-user", by_segment=True)
    whole = report.models["popularity"]["target_recall@20"]
    assert whole.n == report.data["targets"]
    for segment in ("item", "item actions", "history length", "interaction"):
        parts = [figures["popularity"]["target_recall@20"] for figures in report.segments[segment].values()]
        assert sum(part.n for part in parts) == whole.n
        assert sum(part.value * part.n for part in parts) == pytest.approx(whole.value * whole.n)
    assert "0" not in report.segments["history length"]


def test_at_most_so_many_people_are_asked(many: Shop) -> None:
    report = evaluate(many, ["popularity"], protocol="by-user", at_most=7)
    assert report.data["people"] == report.models["popularity"]["recall@20"].n == 7
    assert report.models["popularity"]["target_recall@20"].n == report.data["targets"]


def test_a_fitted_model_and_a_name_give_the_same_figures(many: Shop) -> None:
    train, _, test = split_people(many)
    fitted = models.create("popularity").fit(train)
    report = evaluate((train, test), {"name": "popularity", "fitted": fitted}, protocol="by-user")
    assert report.models["name"] == report.models["fitted"]


def test_parts_that_share_people_are_refused(many: Shop) -> None:
    with pytest.raises(InputError, match="in the training part, too"):
        evaluate((many, many), ["popularity"], protocol="by-user")


def test_too_few_people_are_told() -> None:
    with pytest.raises(InputError, match="3 people with actions are too few"):
        evaluate(
            shop_of(*person("u", "ab"), *person("v", "ab"), *person("w", "ab")), ["popularity"], protocol="by-user"
        )
    same = shop_of(*[row for user in range(10) for row in person(f"u{user}", "aaaaa")])
    with pytest.raises(InputError, match="seen=keep"):
        evaluate(same, ["popularity"], protocol="by-user")
