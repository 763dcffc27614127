"""The leave-one-out protocol: counted by hand, against naive loops, and that no model sees what it is asked about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import Candidates, Request
from endcap.errors import InputError
from endcap.evaluate import evaluate
from endcap.evaluate.leave_one_out import LeaveOneOut
from endcap.models.popularity import Popularity
from endcap.shop import Shop

from .shops import START, Alphabet, shop_of

LENGTHS = (1, 2, 3, 5)


def person(name: str, items: str, begin: int = 0) -> list[tuple[str, str, str, int]]:
    """Clicks on items named by one letter, a minute apart."""
    return [(name, item, "click", begin + minute) for minute, item in enumerate(items)]


@pytest.fixture(scope="module")
def small() -> Shop:
    """u ends on a new item, v on one known before, w has too few actions; t knows all."""
    return shop_of(*person("t", "fedcba"), *person("u", "abd"), *person("v", "abca"), *person("w", "ab"))


@pytest.fixture(scope="module")
def random_shop() -> Shop:
    """60 people with 1 to 12 actions on 25 items, in a log without order, some at the same time."""
    rng = np.random.default_rng(3)
    rows = [
        (f"u{user}", f"i{rng.integers(25)}", ("click", "cart")[rng.integers(2)], int(rng.integers(40)))
        for user in range(60)
        for _ in range(rng.integers(1, 13))
    ]
    return shop_of(*[rows[place] for place in rng.permutation(len(rows))])


class Hash:
    """Scores every item by what the person did last: no order that anybody could guess, and no two alike."""

    def __init__(self, shop: Shop) -> None:
        self.table = np.random.default_rng(0).permuted(
            np.tile(np.arange(shop.n_items, dtype=np.float32), (shop.n_items, 1)), axis=1
        )

    def all_scores(self, request: Request) -> np.ndarray:
        return self.table[request.history.items[-1]]

    def candidates(self, request: Request) -> Candidates:
        scores = self.all_scores(request)
        items = np.argsort(-scores).astype(np.int32)
        items = items if request.allowed is None else items[request.allowed[items]]
        items = items[: request.k]
        return Candidates(items, scores[items], ["hash"] * len(items))


class HashScorer(Hash):
    """The same with `score`."""

    def score(self, request: Request, items: np.ndarray) -> np.ndarray:
        return self.all_scores(request)[items]


class OnlyScores:
    """Answers scores and no lists."""

    def __init__(self, shop: Shop) -> None:
        self.score = HashScorer(shop).score


class Constant:
    """Every item is as good as every other one; NaN for the ones it does not know."""

    def __init__(self, unknown: tuple[int, ...] = ()) -> None:
        self.unknown = unknown

    def candidates(self, request: Request) -> Candidates:
        return Candidates(np.empty(0, np.int32), np.empty(0, np.float32), [])

    def score(self, request: Request, items: np.ndarray) -> np.ndarray:
        return np.where(np.isin(items, self.unknown), np.nan, 1.0)


def lives(shop: Shop) -> list[list[tuple[int, int]]]:
    """(item, interaction) of every person in order."""
    histories = [shop.history(user) for user in range(shop.n_users)]
    return [list(zip(past.items.tolist(), past.interactions.tolist(), strict=True)) for past in histories]


def values(report: object, model: str) -> dict[str, float]:
    return {metric: figure.value for metric, figure in report.models[model].items()}


def test_the_last_action_is_asked_about_and_everything_before_it_is_told(small: Shop) -> None:
    model = Alphabet(small)
    report = evaluate(small, {"abc": model}, protocol="leave-one-out", lengths=LENGTHS)
    asked = [(small.users[request.user], "".join(small.items.decode(request.history.items))) for request in model.asked]
    assert asked == [("t", "fedcb"), ("u", "ab")]  # v turns back to a, w has two actions
    assert report.data["queries"] == 2
    assert report.data["not_asked_known_item"] == 1
    # what t does not know yet is a alone; the list of u is c d e
    assert values(report, "abc")["hit_rate@1"] == 0.5
    assert values(report, "abc")["ndcg@2"] == pytest.approx((1 + 1 / np.log2(3)) / 2)
    assert values(report, "abc")["mrr"] == 0.75


def test_keep_asks_about_known_items_and_leaves_them_in_the_answers(small: Shop) -> None:
    model = Alphabet(small)
    report = evaluate(small, {"abc": model}, protocol="leave-one-out", lengths=LENGTHS, seen="keep")
    assert report.data["queries"] == 3  # v is asked about a, whose place is the first; so is that of t; d is the fourth
    assert values(report, "abc")["hit_rate@1"] == pytest.approx(2 / 3)
    assert values(report, "abc")["mrr"] == pytest.approx((1 + 1 + 1 / 4) / 3)


def test_zero_is_the_score_of_known_items_whatever_the_model_says() -> None:
    shop = shop_of(*person("u", "abc"), *person("v", "cde"))

    scores = np.array([9, 8, 1, -1, -2], np.float32)

    class Scores:
        def score(self, request: Request, items: np.ndarray) -> np.ndarray:
            return scores[items]

    class Lists:
        def candidates(self, request: Request) -> Candidates:
            return Candidates(np.arange(5, dtype=np.int32)[: request.k], scores[: request.k], ["list"] * 5)

    class Both(Scores, Lists):
        pass

    for model in (Scores(), Lists(), Both()):
        report = evaluate(shop, {"it": model}, protocol="leave-one-out", lengths=LENGTHS, seen="zero")
        # u knows a and b, c leads with 1; v knows c and d, before e with -2 come a, b, c and d with 0
        assert values(report, "it")["mrr"] == pytest.approx((1 + 1 / 5) / 2)
        assert values(report, "it")["hit_rate@3"] == 0.5


@pytest.mark.parametrize("make", [Hash, OnlyScores])
@pytest.mark.parametrize("seen", ["leave-out", "keep"])
def test_a_full_ranking_equals_a_naive_loop(random_shop: Shop, seen: str, make: type) -> None:
    found = evaluate(random_shop, {"it": make(random_shop)}, protocol="leave-one-out", lengths=LENGTHS, seen=seen)
    table, ranks = Hash(random_shop).table, []
    for life in lives(random_shop):
        history, target = {item for item, _ in life[:-1]}, life[-1][0]
        if len(life) < 3 or (seen == "leave-out" and target in history):
            continue
        scores = table[life[-2][0]]
        rivals = [item for item in range(random_shop.n_items) if seen == "keep" or item not in history]
        ranks.append(sum(scores[item] > scores[target] for item in rivals))
    ranks = np.array(ranks)
    assert found.data["queries"] == len(ranks) > 10
    for k in LENGTHS:
        assert values(found, "it")[f"hit_rate@{k}"] == pytest.approx((ranks < k).mean())
        assert values(found, "it")[f"ndcg@{k}"] == pytest.approx(np.where(ranks < k, 1 / np.log2(ranks + 2), 0).mean())
        assert values(found, "it")[f"mrr@{k}"] == pytest.approx(np.where(ranks < k, 1 / (ranks + 1), 0).mean())


@pytest.mark.parametrize("make", [Hash, HashScorer], ids=["by list", "by score"])
def test_a_ranking_among_given_negatives_equals_a_naive_loop(random_shop: Shop, make: type) -> None:
    rng = np.random.default_rng(1)
    targets = [life[-1][0] if life else -1 for life in lives(random_shop)]
    negatives = np.array([rng.permutation(np.delete(np.arange(25), target))[:9] for target in targets])
    negatives[::4, 7:] = -1  # pads never count
    found = evaluate(
        random_shop, {"it": make(random_shop)}, protocol="leave-one-out", lengths=LENGTHS, negatives=negatives,
        seen="keep",
    )  # fmt: skip
    table, ranks = Hash(random_shop).table, []
    for life, target, rivals in zip(lives(random_shop), targets, negatives, strict=True):
        if len(life) >= 3:
            scores = table[life[-2][0]]
            ranks.append(sum(scores[item] > scores[target] for item in rivals if item >= 0))
    ranks = np.array(ranks)
    for k in LENGTHS:
        assert values(found, "it")[f"hit_rate@{k}/given9"] == pytest.approx((ranks < k).mean())
        expected = np.where(ranks < k, 1 / np.log2(ranks + 2), 0).mean()
        assert values(found, "it")[f"ndcg@{k}/given9"] == pytest.approx(expected)
    assert values(found, "it")["mrr/given9"] == pytest.approx((1 / (ranks + 1)).mean())
    assert values(found, "it")["hit_rate@5/given9"] > values(found, "it")["hit_rate@5"]  # both are told, by their names


def test_a_negative_that_is_given_twice_counts_twice() -> None:
    shop = shop_of(*person("u", "abc"), *person("v", "de"))
    negatives = np.tile(shop.items.encode(["d", "d", "e"]), (2, 1))

    class DLeads:
        def score(self, request: Request, items: np.ndarray) -> np.ndarray:
            return (items == shop.items.number("d")) * 2.0 + (items == shop.items.number("c"))

    report = evaluate(shop, {"it": DLeads()}, protocol="leave-one-out", lengths=(2, 3), negatives=negatives)
    assert values(report, "it")["hit_rate@2/given3"] == 0
    assert values(report, "it")["hit_rate@3/given3"] == 1


def test_equal_scores_are_settled_by_chance_and_not_in_favour_of_the_target() -> None:
    shop = shop_of(*[row for user in range(400) for row in person(f"u{user}", "abcdefghijklmnopqrst"[user % 17 :][:3])])
    report = evaluate(shop, {"it": Constant()}, protocol="leave-one-out", lengths=(5,), negatives="uniform9")
    assert values(report, "it")["hit_rate@5/uniform9"] == pytest.approx(0.5, abs=0.1)


def test_a_target_that_a_model_cannot_judge_is_no_hit() -> None:
    shop = shop_of(*person("u", "abc"), *person("v", "bcd"))
    unknown = Constant(unknown=tuple(range(shop.n_items)))
    report = evaluate(shop, {"it": unknown}, protocol="leave-one-out", negatives="uniform1")
    assert values(report, "it")["hit_rate@50/uniform1"] == 0


@pytest.mark.parametrize("kind", ["uniform5", "popularity5"])
def test_sampled_negatives_are_new_to_the_person_and_drawn_by_seed(random_shop: Shop, kind: str) -> None:
    def drawn(seed: int) -> LeaveOneOut:
        return LeaveOneOut(random_shop.without_last(), random_shop, negatives=kind, seed=seed)

    contest = drawn(0)
    sets = contest.candidates.items
    assert sets.shape == (len(contest.rows), 6)
    assert (sets[:, 0] == contest.target).all()
    everything = lives(random_shop)
    for user, row in zip(contest.user, sets, strict=True):
        assert not {item for item, _ in everything[user]} & set(row[1:].tolist())
        assert len(set(row.tolist())) == 6
    assert (drawn(0).candidates.items == sets).all()
    assert not (drawn(1).candidates.items == sets).all()


def test_popular_negatives_are_popular() -> None:
    rows = [row for user in range(300) for row in person(f"u{user}", "ab" + "mnopqrstuvwxyz"[user % 14])]
    shop = shop_of(*rows, *[("t", "k", "click", minute) for minute in range(400)], ("t", "l", "click", 500))
    share = {
        kind: np.isin(
            LeaveOneOut(shop.without_last(), shop, negatives=kind).candidates.items[:, 1:], shop.items.encode(["k"])
        ).any(axis=1).mean()
        for kind in ("uniform1", "popularity1")
    }  # fmt: skip
    assert share["uniform1"] < 0.2
    assert share["popularity1"] > 0.9


def test_item_0_and_user_0_are_like_any_other() -> None:
    shop = shop_of(*person("z", "cbx"), *person("u", "xyc", 10))
    assert (shop.items.number("c"), shop.users.number("z")) == (0, 0)
    report = evaluate(shop, {"abc": Alphabet(shop)}, protocol="leave-one-out", lengths=(1, 2), negatives="uniform1")
    assert report.data["queries"] == 2
    assert values(report, "abc")["hit_rate@2"] == 1  # u: b, c of b c x y without x y; z: x of x y
    assert values(report, "abc")["hit_rate@2/uniform1"] == 1


def test_figures_do_not_depend_on_the_order_of_people(random_shop: Shop) -> None:
    rows = [
        (f"u{user}", f"i{item}", random_shop.interactions.name(kind), place)
        for user, life in enumerate(lives(random_shop))
        for place, (item, kind) in enumerate(life)
    ]
    found = []
    for renamed in (np.arange(60), np.random.default_rng(2).permutation(60)):
        shop = shop_of(*sorted(rows, key=lambda row: renamed[int(row[0][1:])]))
        found.append(values(evaluate(shop, {"abc": Alphabet(shop)}, protocol="leave-one-out"), "abc"))
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("held_back", [1, 2], ids=["test", "validation"])
def test_nothing_of_what_is_asked_about_reaches_a_model(
    random_shop: Shop, held_back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation action is asked about in the same way, on the shop without the test actions."""
    asked_of = random_shop if held_back == 1 else random_shop.without_last()
    whole, views, requests = lives(asked_of), [], []
    fit = Popularity.fit

    def spied_fit(self: Popularity, shop: Shop, **options: object) -> Popularity:
        views.append(shop)
        return fit(self, shop, **options)

    def spied_candidates(self: Popularity, request: Request) -> Candidates:
        requests.append(request)
        return Candidates(np.empty(0, np.int32), np.empty(0, np.float32), [])

    monkeypatch.setattr(Popularity, "fit", spied_fit)
    monkeypatch.setattr(Popularity, "candidates", spied_candidates)
    evaluate(asked_of, ["popularity"], protocol="leave-one-out", seen="keep", negatives="uniform3")
    (view,) = views
    cut = [life[:-1] if len(life) >= 3 else life for life in whole]
    assert lives(view) == cut
    assert len(requests) == 2 * sum(len(life) >= 3 for life in whole)
    for request in requests:
        told = zip(request.history.items.tolist(), request.history.interactions.tolist(), strict=True)
        assert list(told) == whole[request.user][:-1]


def test_actions_of_one_time_stand_in_the_order_of_the_log() -> None:
    rows = [("u", item, "click", 5) for item in "dcba"] + [("v", item, "click", 5) for item in "abcd"]
    shop = shop_of(*rows)
    model = Alphabet(shop)
    evaluate(shop, {"abc": model}, protocol="leave-one-out")
    assert ["".join(shop.items.decode(request.history.items)) for request in model.asked] == ["dcb", "abc"]
    train = shop.without_last()
    assert ["".join(shop.items.decode(train.history(user).items)) for user in (0, 1)] == ["dcb", "abc"]


def test_only_actions_of_the_wanted_kind_are_asked_about() -> None:
    shop = shop_of(*person("u", "abc"), *person("v", "ab"), ("v", "c", "cart", 9))
    model = Alphabet(shop)
    evaluate(shop, {"abc": model}, protocol="leave-one-out", want="cart")
    assert [(shop.users[request.user], request.want) for request in model.asked] == [
        ("v", shop.interactions.code("cart"))
    ]


def test_who_knows_the_truth_is_always_right_and_learning_finds_it() -> None:
    """Everybody walks around the same ring of 40 items from another place."""
    rng = np.random.default_rng(0)
    begin = rng.integers(0, 40, 300)
    rows = {"user": [], "item": [], "interaction": ["click"] * 2400, "time": []}
    for user in range(300):
        rows["user"] += [f"u{user}"] * 8
        rows["item"] += [f"i{(begin[user] + step) % 40}" for step in range(8)]
        rows["time"] += [START + 60 * step for step in range(8)]
    shop = Shop.from_tables(pa.table(rows))

    class Ring:
        def candidates(self, request: Request) -> Candidates:
            here = int(shop.items[request.history.items[-1]][1:])
            items = shop.items.encode([f"i{(here + step) % 40}" for step in range(1, 41)])
            items = items if request.allowed is None else items[request.allowed[items]]
            items = items[: request.k]
            return Candidates(items, -np.arange(len(items), dtype=np.float32), ["ring"] * len(items))

    contestants = {"truth": Ring(), "knn": "item-knn", "popularity": "popularity"}
    report = evaluate(shop, contestants, protocol="leave-one-out", negatives="popularity20", lengths=(1, 5, 10))
    assert values(report, "truth")["hit_rate@1"] == values(report, "truth")["hit_rate@1/popularity20"] == 1
    assert values(report, "knn")["hit_rate@5"] > 0.9
    assert values(report, "popularity")["hit_rate@5"] < 0.4
    assert report.best() == "truth"


class Interests:
    """One to three interests by the person's number."""

    def candidates(self, request: Request) -> Candidates:
        return Candidates(np.empty(0, np.int32), np.empty(0, np.float32), [])

    def queries(self, request: Request) -> np.ndarray:
        return np.array([[1, 0], [0, 2], [0, 1]], np.float32)[: 1 + request.user % 3]


def test_the_spread_of_interests_is_told_of_people_who_have_several() -> None:
    shop = shop_of(*person("a", "abc"), *person("b", "bcd"), *person("c", "cda"), *person("d", "dab"))
    report = evaluate(shop, {"it": Interests(), "other": "popularity"}, protocol="leave-one-out")
    figure = report.models["it"]["interest_spread"]
    assert figure.n == 2  # a and d have one interest each
    assert figure.value == pytest.approx((1 + (1 + 1 + 0) / 3) / 2)
    assert "interest_spread" not in report.models["other"]
    assert "interest_spread" in report.shown[1]
    assert not [row for row in report.paired if row.metric == "interest_spread"]


def test_segments_add_up_and_count_what_a_model_could_know(random_shop: Shop) -> None:
    report = evaluate(random_shop, ["popularity"], protocol="leave-one-out", by_segment=True)
    whole = report.models["popularity"]["ndcg@10"]
    for segment in ("item", "item actions", "history length", "interaction"):
        parts = [figures["popularity"]["ndcg@10"] for figures in report.segments[segment].values()]
        assert sum(part.n for part in parts) == whole.n
        assert sum(part.value * part.n for part in parts) == pytest.approx(whole.value * whole.n)
    assert set(report.segments["history length"]) == {"1-4", "5-19"}


def test_no_folder_takes_part_and_a_fitted_model_does(shop: Shop, tmp_path: Path) -> None:
    fitted = models.create("popularity").fit(shop.without_last())
    fitted.save(tmp_path / "early")
    with pytest.raises(InputError, match=r"no trained folder .* system's name \(popularity\)"):
        evaluate(shop, [tmp_path / "early"], protocol="leave-one-out")
    report = evaluate(shop, {"name": "popularity", "fitted": fitted}, protocol="leave-one-out")
    assert report.models["name"] == report.models["fitted"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"negatives": np.zeros((2, 3), np.int32)}, "one row of item numbers for each of the shop's 4 users"),
        ({"negatives": np.zeros((4, 3))}, "of float64"),
        ({"negatives": np.full((4, 2), 99)}, "from 0 to 5"),
        ({"negatives": np.full((4, 2), -1)}, "user t has none"),
        ({"negatives": np.tile(np.arange(6), (4, 1))}, "user t hold the target itself, item a"),
        ({"negatives": "uniform"}, "as in uniform99"),
        ({"negatives": "uniform99"}, "fewer than 99 items are left"),
        ({"seen": "hide"}, "choose one of: leave-out, keep, zero"),
        ({"at_most": 0}, "from 1 on"),
        ({"seed": -1}, "whole number from 0 on"),
        ({"want": "purchase"}, "nobody has 3 actions"),
        ({"protocol": "next-item", "negatives": "uniform9"}, "belong to the protocol leave-one-out"),
        ({"protocol": "next-item", "seen": "keep"}, "next-item has repeats"),
        ({"protocol": "purchase-intent", "at_most": 5}, "asked for one list"),
    ],
)
def test_mistakes_are_named(small: Shop, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        evaluate(small, ["popularity"], **{"protocol": "leave-one-out", **options})


def test_a_pair_of_shops_is_refused(small: Shop) -> None:
    with pytest.raises(InputError, match="one shop"):
        evaluate((small, small), ["popularity"], protocol="leave-one-out")


def test_a_model_that_answers_what_is_not_allowed_is_told(small: Shop) -> None:
    class Stubborn(Alphabet):
        def candidates(self, request: Request) -> Candidates:
            return super().candidates(Request(k=request.k))

    negatives = np.full((4, 1), small.items.number("f"))
    with pytest.raises(InputError, match="not allowed"):
        evaluate(small, {"it": Stubborn(small)}, protocol="leave-one-out", negatives=negatives)


def test_a_wrong_number_of_scores_is_told(small: Shop) -> None:
    class Short:
        def score(self, request: Request, items: np.ndarray) -> np.ndarray:
            return np.zeros(3)

    with pytest.raises(InputError, match="one for each is needed"):
        evaluate(small, {"it": Short()}, protocol="leave-one-out")
