"""The cross-sell protocol on orders small enough to count by hand, and its draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import Candidates, Request
from endcap.errors import InputError
from endcap.evaluate import evaluate
from endcap.evaluate.cross_sell import NEGATIVES, CrossSell
from endcap.shop import Shop

DAY = 86_400
UNIFORM, POPULARITY = f"/uniform{NEGATIVES}", f"/popularity{NEGATIVES}"


def shop_of(*orders: tuple[str, int, str], kind: str = "purchase", others: list[dict] | None = None) -> Shop:
    """A shop of (user, day, items) orders, items being letters or a list with commas; and of other events."""
    rows = [
        {"user": user, "item": item, "interaction": kind, "time": 1_600_000_000 + DAY * day, "order": f"{user}{day}"}
        for user, day, items in orders
        for item in (items.split(",") if "," in items else items)
    ]
    return Shop.from_tables(pa.Table.from_pylist(rows + (others or [])))


EARLY = [("u", 0, "abcdefghij"), ("v", 1, "ab"), ("v", 2, "ab"), ("w", 3, "cd")]
LATE = [("u", 40, "abc"), ("v", 41, "cdz"), ("w", 42, "a"), ("x", 43, "zy"), ("x", 44, "ef")]


@pytest.fixture(scope="module")
def split() -> tuple[Shop, Shop]:
    return shop_of(*EARLY, *LATE).split_by_time("10d")


class Judge:
    """Scores items by a function of (basket, item number), and remembers what it was asked."""

    def __init__(self, worth: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.worth, self.asked = worth, list[Request]()

    def score(self, request: Request, items: np.ndarray) -> np.ndarray:
        self.asked.append(request)
        return self.worth(request.basket, items).astype(np.float32)


class Lister:
    """Gives lists and no scores."""

    def __init__(self, order: list[int]) -> None:
        self.order = np.array(order, np.int32)

    def candidates(self, request: Request) -> Candidates:
        items = self.order[: request.k]
        return Candidates(items, -np.arange(len(items), dtype=np.float32), ["lister"] * len(items))


def test_one_known_product_of_a_basket_is_held_out_and_the_rest_is_asked_with(split: tuple[Shop, Shop]) -> None:
    train, test = split
    contest = CrossSell(train, test, seed=3)
    names = train.items.ids.to_pylist()
    asked = {
        train.users[int(user)] if user < train.n_users else "new": place for place, user in enumerate(contest.user)
    }
    assert set(asked) == {"u", "v", "new"}  # w's order holds one product, x's first none that is known
    for who, whole in (("u", "abc"), ("v", "cd"), ("new", "ef")):
        request = contest.request(asked[who], 5)
        rest = [names[item] for item in request.basket]
        assert sorted([*rest, names[contest.target[asked[who]]]]) == list(whole)
        assert request.user == (None if who == "new" else train.users.number(who))
        assert len(request.history) == {"u": 10, "v": 4, "new": 0}[who]
    assert contest.bought_in.tolist() == [{"a": 3, "b": 3}.get(names[item], 2 if names[item] in "cd" else 1)
                                          for item in contest.target]  # fmt: skip


def test_every_known_product_of_a_basket_is_held_out_now_and_then(split: tuple[Shop, Shop]) -> None:
    held_out = [set(CrossSell(*split, seed=seed).target.tolist()) for seed in range(12)]
    assert set.union(*held_out) == set(range(6))  # a to f; z and y are not known
    assert held_out == [set(CrossSell(*split, seed=seed).target.tolist()) for seed in range(12)]


def test_rivals_are_drawn_outside_the_basket_evenly_and_by_baskets(split: tuple[Shop, Shop]) -> None:
    train, test = split
    contest = CrossSell(train, test, seed=1)
    for place, basket in enumerate(contest.baskets):
        for rivals in contest.rivals[place]:
            assert len(rivals) == NEGATIVES
            assert not set(rivals.tolist()) & set(basket.tolist())
            assert 0 <= rivals.min() <= rivals.max() < train.n_items
    last = [test.items[int(basket[-1])] for basket in contest.baskets].index("f")
    even, bought = (np.bincount(rivals, minlength=10) / NEGATIVES for rivals in contest.rivals[last])
    others = np.array([1, 1, 1, 1, 0, 0, 1, 1, 1, 1]) / 8
    weights = np.array([3, 3, 2, 2, 0, 0, 1, 1, 1, 1]) / 14
    np.testing.assert_allclose(even, others, atol=0.05)
    np.testing.assert_allclose(bought, weights, atol=0.05)


def test_figures_are_what_one_counts_by_hand(split: tuple[Shop, Shop]) -> None:
    train, test = split
    judge = Judge(lambda basket, items: -items)  # a before b before c ...
    report = evaluate((train, test), {"abc": judge}, protocol="cross-sell", lengths=(1, 3), seed=3)
    figures, contest = report.models["abc"], CrossSell(train, test, lengths=(1, 3), seed=3)
    ranks = [
        1 + sum(other not in basket for other in range(target))
        for target, basket in zip(contest.target.tolist(), [b.tolist() for b in contest.baskets], strict=True)
    ]
    assert figures["mrr"].value == pytest.approx(np.mean([1 / rank for rank in ranks]))
    assert figures["hit_rate@3"].value == pytest.approx(np.mean([rank <= 3 for rank in ranks]))
    assert figures["ndcg@3"].value == pytest.approx(np.mean([(rank <= 3) / np.log2(1 + rank) for rank in ranks]))
    assert figures["reached"].value == 1
    tops = {min(set(range(10)) - set(basket) | {target}) for target, basket in zip(contest.target.tolist(),
            [b.tolist() for b in contest.baskets], strict=True)}  # fmt: skip
    assert figures["coverage@1"].value == pytest.approx(len(tops) / 10)
    assert report.data["baskets"] == "orders"
    assert report.headline == "hit_rate@3"
    assert [len(request.basket) for request in judge.asked] == [len(rest) for rest in contest.rest]
    for column, drawn in ((UNIFORM, 0), (POPULARITY, 1)):
        above = (contest.rivals[:, drawn] < contest.target[:, None]).sum(1)
        assert figures[f"mrr{column}"].value == pytest.approx((1 / (1 + above)).mean())


def test_who_judges_all_alike_hits_by_chance(split: tuple[Shop, Shop]) -> None:
    same = {"zero": Judge(lambda _, items: np.zeros(len(items))), "cannot": Judge(lambda _, i: np.full(len(i), np.nan))}
    report = evaluate(split, same, protocol="cross-sell", lengths=(2,), seed=0)
    known = [len(basket[basket < 10]) for basket in CrossSell(*split, seed=0).baskets]
    for figures in report.models.values():
        assert figures["hit_rate@2"].value == pytest.approx(np.mean([2 / (11 - n) for n in known]))
        assert figures[f"hit_rate@2{UNIFORM}"].value == pytest.approx(2 / (NEGATIVES + 1))
    assert report.models["zero"]["reached"].value == 1
    assert report.models["cannot"]["reached"].value == report.models["cannot"]["coverage@2"].value == 0


def test_what_a_list_does_not_hold_is_one_tie_behind_it(split: tuple[Shop, Shop]) -> None:
    contest = CrossSell(*split, lengths=(2,), seed=0)
    order = [9, 8]  # in nobody's basket
    report = evaluate(split, {"list": Lister(order)}, protocol="cross-sell", lengths=(2,), seed=0)
    tied = [10 - len(basket[basket < 10]) - 2 for basket in contest.baskets]
    assert report.models["list"]["hit_rate@2"].value == 0
    harmonic = [sum(1 / place for place in range(3, 4 + ties)) / (1 + ties) for ties in tied]
    assert report.models["list"]["mrr"].value == pytest.approx(np.mean(harmonic))


def test_the_segments_are_bands_of_training_baskets(split: tuple[Shop, Shop]) -> None:
    report = evaluate(split, ["popularity"], protocol="cross-sell", by_segment=True, seed=0)
    for column in ("", UNIFORM, POPULARITY):
        groups = report.segments[f"training baskets{column}"]
        assert sum(figures["popularity"][f"hit_rate@10{column}"].n for figures in groups.values()) == 3
        assert set(groups) <= {"0", "1-5", "6-20", "21-100", "101+"}


def test_a_held_out_product_may_never_have_been_bought() -> None:
    click = {"user": "u", "item": "n", "interaction": "click", "time": 1_600_000_000, "order": None}
    train, test = shop_of(*EARLY, ("v", 40, "na"), others=[click]).split_by_time("10d")
    for seed in range(8):
        contest = CrossSell(train, test, seed=seed)
        if train.items[int(contest.target[0])] == "n":
            assert contest.bought_in.tolist() == [0]
            break
    else:
        pytest.fail("n was never held out")


def test_baskets_without_times_are_taken_as_given(split: tuple[Shop, Shop]) -> None:
    whole = shop_of(*[("abcdefgh"[n], 0, items) for n, items in enumerate(["ab", "bc", "abc", "cd", "abd", "bd"])])
    held_out = np.isin(whole.events.user, [whole.users.number(name) for name in "ef"])
    pair = tuple(replace(whole, events=whole.events.where(mask)) for mask in (~held_out, held_out))
    fitted = models.create("random-walk").fit(pair[0])
    report = evaluate(pair, {"fitted": fitted, "name": "random-walk"}, protocol="cross-sell")
    assert report.models["fitted"] == report.models["name"]
    assert report.data["queries"] == 2


def test_a_folder_that_may_have_seen_the_baskets_is_refused(tmp_path) -> None:
    whole = shop_of(*EARLY, *LATE)
    models.create("popularity").fit(whole).save(tmp_path / "all")
    with pytest.raises(InputError, match="has seen the test part"):
        evaluate(whole, [tmp_path / "all"], protocol="cross-sell", test="10d")
    with pytest.raises(InputError, match="can be shown not to have seen"):
        evaluate((whole, whole), [tmp_path / "all"], protocol="cross-sell")


@pytest.mark.parametrize(
    "late", [[("u", 40, "a")], [("u", 40, "ax")], [("u", 40, "xyz")], [("u", 40, "abcdefghij")]],
    ids=["one product", "one known", "none known", "nothing else was ever bought"],
)  # fmt: skip
def test_a_test_part_without_a_question_is_refused(late: list[tuple[str, int, str]]) -> None:
    with pytest.raises(InputError, match="no basket of the test part holds two products"):
        evaluate(shop_of(*EARLY, *late), ["popularity"], protocol="cross-sell", test="10d")


def test_clicks_alone_are_asked_about_by_session() -> None:
    report = evaluate(shop_of(*EARLY, *LATE, kind="click"), ["random-walk"], protocol="cross-sell", test="10d")
    assert report.data["baskets"] == "orders"
    assert report.data["queries"] == 3


def test_returned_products_and_duplicate_lines_are_in_no_basket() -> None:
    back = {"user": "u", "item": "c", "interaction": "return", "time": 1_600_000_000 + 45 * DAY, "order": None}
    twice = {"user": "u", "item": "a", "interaction": "purchase", "time": 1_600_000_000 + 40 * DAY, "order": "u40"}
    contest = CrossSell(*shop_of(*EARLY, *LATE, others=[back, twice]).split_by_time("10d"))
    mine = contest.baskets[contest.user.tolist().index(0)]
    assert mine.tolist() == [0, 1]


def test_a_basket_of_ten_thousand_is_asked_about() -> None:
    many = ",".join(f"i{number}" for number in range(10_000))
    train, test = shop_of(("u", 0, many + ",k,l"), ("v", 1, "k,l"), ("w", 40, many)).split_by_time("10d")
    report = evaluate((train, test), ["association-rules", "random-walk", "pagerank"], protocol="cross-sell")
    assert report.data["queries"] == 1
    assert report.models["random-walk"]["reached"].value == 0  # so large a basket is not learnt from


def test_at_most_so_many_baskets_are_asked_about(split: tuple[Shop, Shop]) -> None:
    assert len(CrossSell(*split, at_most=2).target) == 2
    with pytest.raises(InputError, match="at_most"):
        evaluate(split, ["popularity"], protocol="cross-sell", at_most=0)


def test_who_answers_nothing_is_refused(split: tuple[Shop, Shop]) -> None:
    with pytest.raises(InputError, match="it answers no requests"):
        evaluate(split, {"it": object()}, protocol="cross-sell")
    short = {"it": Judge(lambda _, items: items[1:])}
    with pytest.raises(InputError, match="one for each is needed"):
        evaluate(split, short, protocol="cross-sell")
