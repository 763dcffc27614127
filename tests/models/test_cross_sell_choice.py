"""What scores pairs is what does best on baskets that nothing learnt from; the rest is said, and comes back."""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap import Shop, models, simulate
from endcap.answers import History, Request
from endcap.errors import InputError
from endcap.graph import Baskets
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.choice import Likely, Network, best_of, figure_of, held_out, questions_of
from endcap.models.cross_sell.evidence import Trade
from endcap.simulate import ShopSettings

SMALL = {
    "dim": 8,
    "epochs": 1,
    "text": "none",
    "complement": "none",
    "layers": 1,
    "evidence_baskets": 60,
    "validation": 0.3,
}
BOUGHT = np.array([4, 3, 2, 2, 1, 0])


class Fixed(Likely):
    """The same scores whatever is asked; it counts what it weighs."""

    def __init__(self, scores: list[float], asked: np.ndarray | None = None) -> None:
        super().__init__(len(scores))
        self.scores, self.asked, self.weighed = scores, asked, 0

    def of(self, asked: np.ndarray, history: History | None = None) -> Fixed:
        return Fixed(self.scores, asked)

    def weigh(self, items: np.ndarray) -> np.ndarray:
        self.weighed += len(items)
        return np.array(self.scores, np.float32)[items]

    def nearest(self, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        order = np.argsort(-np.array(self.scores), kind="stable").astype(np.int32)
        return order[~np.isin(order, self.asked)][:k]


@cache
def shop(events: int = 6_000) -> Shop:
    made = simulate.tables(ShopSettings(events=events, items=80, users=600, seed=2, best=0, converts=0.8, checkout=0.9))
    return Shop.from_tables(made.events, made.items)


def test_questions_ask_for_known_products_by_known_ones() -> None:
    baskets = Baskets.of_lists([[0, 1, 5], [2, 5], [0, 2, 3, 4]])  # nobody bought 5 before
    found = questions_of(baskets, BOUGHT, None, 0)
    assert len(found.target) == 2
    for asked, target, left_out in zip(*found, strict=True):
        assert sorted([*asked, target]) in ([0, 1], [0, 2, 3, 4])
        assert set(left_out.tolist()) == {*asked.tolist(), int(target)}
    never = csr_array(np.eye(6, k=1, dtype=np.float32))  # each with the next one
    spared = questions_of(Baskets.of_lists([[0, 1]]), BOUGHT, never, 0)
    assert set(spared.left_out[0].tolist()) == {0, 1, int(spared.asked[0][0]) + 1}


def test_the_last_baskets_decide_and_chance_where_there_are_no_times() -> None:
    baskets = Baskets.of_lists([[0, 1]] * 5_000)
    by_chance = held_out(baskets, 5_000, 0.05, 0)
    assert len(by_chance) == 300  # no more than a tenth of 5,000
    assert 20 < np.count_nonzero(by_chance < 1_000) < 100
    baskets.time[:] = np.random.default_rng(0).permutation(5_000)
    last = held_out(baskets, 5_000, 0.1, 0)
    assert (np.diff(last) > 0).all()
    assert sorted(baskets.time[last]) == list(range(4_500, 5_000))
    assert len(held_out(baskets.where(np.arange(5_000) < 200), 5_000, 0.05, 0)) == 20


def test_what_relations_link_decides_no_more_than_its_share() -> None:
    """The first 3,000 are people's, the others are linked, which stand at the last moment."""
    baskets = Baskets.of_lists([[0, 1]] * 6_000)
    baskets.time[:] = np.minimum(np.arange(6_000), 3_000)
    held = held_out(baskets, 3_000, 0.1, 0)
    assert 200 < np.count_nonzero(held < 3_000) < 400
    assert held[held < 3_000].min() > 2_500


def test_figures_are_ranks_among_what_was_bought_with_ties_in_their_mean_order() -> None:
    questions = questions_of(Baskets.of_lists([[3, 4]]), BOUGHT, None, 0)
    target = int(questions.target[0])
    scores = [2.0, 0.0, 1.0, 1.0, 1.0, 9.0]  # one above, one equal; the last was never bought
    assert figure_of(Fixed(scores), questions, BOUGHT, "mrr@10") == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert figure_of(Fixed(scores), questions, BOUGHT, "hit_rate@2") == 0.5
    scores[target] = 3.0
    assert figure_of(Fixed(scores), questions, BOUGHT, "mrr@10") == 1


def test_the_best_is_chosen_and_all_figures_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    questions = questions_of(Baskets.of_lists([[3, 4]] * 9), BOUGHT, None, 0)
    good, bad = Fixed([0, 0, 0, 9, 9, 0]), Fixed([9, 9, 9, 0, 0, 0])
    with caplog.at_level(logging.INFO):
        chosen, figures = best_of({"bad": bad, "good": good, "as good": good}, questions, BOUGHT, "mrr@2", "shop")
    assert chosen == "good"
    assert figures == {"bad": 0, "good": 1, "as good": 1}
    assert "9 validation baskets" in caplog.text
    assert "good       1.0000  scores pairs" in caplog.text


def pairs_by_steps(n: int, seed: int) -> list[list[int]]:
    """Two products each, the second by one step from the first: of nothing else does the log know."""
    goes_to = np.random.default_rng(7).integers(0, 50, (50, 4))
    rng = np.random.default_rng(seed)
    first = (50 * rng.random(n) ** 2).astype(int)
    second = goes_to[first, rng.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])]
    return [[one, other] for one, other in zip(first.tolist(), second.tolist(), strict=True) if one != other]


def test_where_a_walk_is_right_what_is_served_is_no_worse() -> None:
    lists = pairs_by_steps(1_500, 0)
    events = {
        "user": [f"u{order}" for order, pair in enumerate(lists) for _ in pair],
        "item": [f"i{item}" for pair in lists for item in pair],
        "interaction": ["purchase"] * 2 * len(lists),
        "time": [1_600_000_000 + 3_600 * order for order, pair in enumerate(lists) for _ in pair],
    }
    shop = Shop.from_tables(pa.table(events))
    settings = {**SMALL, "evidence_baskets": 120, "validation": 0.1}
    auto, walk = (CrossSell(**settings, score_by=by).fit(shop) for by in ("auto", "walk"))
    fresh = [[shop.items.number(f"i{item}") for item in pair] for pair in pairs_by_steps(400, 1)]
    bought = np.bincount(shop.events.item, minlength=shop.n_items)
    questions = questions_of(Baskets.of_lists(fresh), bought, None, 0)
    served, walked = (figure_of(model._scorer, questions, bought, "mrr@10") for model in (auto, walk))
    assert walked > 0.3
    assert served > walked - 0.01


def test_similarity_is_one_for_the_likeliest_and_falls_with_the_score() -> None:
    question = Fixed([0, -1, -2, 3, -1, -1]).of(np.array([3], np.int32))
    np.testing.assert_allclose(question.similarity(np.array([0, 1, 2])), np.exp([0, -1, -2]), rtol=1e-6)
    source = np.array([[1, 0], [0, 1], [-1, 0]], np.float32)
    nothing = np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32)
    network = Network(source, source, np.zeros(3, np.float32), lambda *_: nothing)
    np.testing.assert_allclose(network.of(np.array([0])).similarity(np.arange(3)), [1, 0, 0])


def test_a_question_weighs_no_item_twice() -> None:
    question = Fixed([0, -1, -2, 3, -1, -1])
    first = question.score(np.array([0, 1, 2]))
    np.testing.assert_array_equal(question.score(np.array([2, 1, 4])), [first[2], first[1], -1])
    assert question.weighed == 4


@pytest.mark.parametrize("score_by", ["auto", "evidence", "walk", "jaccard", "pagerank"])
def test_what_was_chosen_makes_lists_scores_and_parts_and_comes_back(score_by: str, tmp_path: Path) -> None:
    model = CrossSell(**SMALL, score_by=score_by).fit(shop())
    chosen, figures = model._learned()["score_by"].values()
    if score_by == "auto":
        tried = {name: figures[name] for name in ("network", "evidence", "walk", "jaccard", "pagerank")}
        assert tried[chosen] == max(tried.values())
        assert figures.keys() - tried.keys() <= {f"{chosen}, newcomers placed"}
    else:
        assert (chosen, figures) == (score_by, {})
    model.save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    everything = np.arange(80, dtype=np.int32)
    for asked in ([3], [5, 9, 40]):
        request = Request(k=8, basket=np.array(asked, np.int32))
        ours, theirs = model.candidates(request), opened.candidates(request)
        np.testing.assert_array_equal(ours.items, theirs.items)
        np.testing.assert_array_equal(ours.scores, theirs.scores)
        np.testing.assert_array_equal(model.score(request, everything), opened.score(request, everything))
        assert not np.isin(ours.items, asked).any()
        assert (np.diff(ours.scores) <= 0).all()
        similarity = model.parts(np.array(asked), ours.items).similarity
        assert ((similarity >= 0) & (similarity <= 1)).all()
    lists, scores = model.related_batch(np.array([3, 90, 5], np.int32), 0, 0, 6)
    assert (lists[1] == -1).all()
    assert (np.diff(scores[0]) <= 0).all()
    assert not (lists[0] == 3).any()


def test_where_evidence_scores_a_list_has_its_order() -> None:
    model = CrossSell(**SMALL, score_by="evidence").fit(shop())
    asked = np.array([7], np.int32)
    answer = model.candidates(Request(k=8, item=7))
    parts = model.parts(asked, answer.items)
    everything = np.arange(80, dtype=np.int32)
    score = model.score(Request(k=1, item=7), everything)
    score[7] = -np.inf
    np.testing.assert_allclose(parts.similarity, np.exp(score[answer.items] - score.max()), rtol=1e-5)


def test_popularity_is_traded_without_another_training() -> None:
    model = CrossSell(**SMALL, score_by="evidence").fit(shop())
    traded = model.traded(Trade(0.8, 5, 1))
    assert (traded.config.damping, traded.config.floor, traded.config.particular) == (0.8, 5, 1)
    request, everything = Request(k=5, item=7), np.arange(80, dtype=np.int32)
    before, after = model.score(request, everything), traded.score(request, everything)
    assert not np.array_equal(np.argsort(before), np.argsort(after))
    np.testing.assert_array_equal(model.score(request, everything), before)
    bought = model._bought[np.argsort(-after)[:20]].sum()
    assert bought < model._bought[np.argsort(-before)[:20]].sum()
    with pytest.raises(InputError, match="train it with score_by=evidence"):
        CrossSell(**SMALL, score_by="network").fit(shop()).traded(Trade())


def test_a_shop_too_small_for_a_choice_gets_the_network_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        model = CrossSell(**SMALL).fit(shop(events=300))
    assert model._learned()["score_by"] == {"chosen": "network", "figures": {}}
    assert "too few" in caplog.text
