"""Hard negatives are near and never partners, and come by the curriculum; a second question asks by earlier baskets."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array

from endcap import Shop
from endcap.graph import Baskets, PageRank, co_purchase
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.hiding import DAY, HidingGraph
from endcap.models.cross_sell.lesson import NONE, Lesson, Questions
from endcap.models.cross_sell.negatives import HardNegatives
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.nn.losses import Proposal

N_ITEMS = 200
QUICK = {"dim": 8, "epochs": 3, "batch_size": 64, "text": "none", "complement": "none", "score_by": "network"}


def drawn_baskets(seed: int = 0) -> Baskets:
    rng = np.random.default_rng(seed)
    return Baskets.of_lists([rng.choice(N_ITEMS, 3, replace=False, p=np.arange(1, N_ITEMS + 1) / 20100).tolist()
                             for _ in range(400)])  # fmt: skip


def links_of(baskets: Baskets) -> csr_array:
    return co_purchase(baskets, N_ITEMS, half_life_days=np.inf, min_support=1).counts


@pytest.fixture(scope="module")
def baskets() -> Baskets:
    return drawn_baskets()


@pytest.fixture(scope="module")
def leaf() -> np.ndarray:
    leaf = np.arange(N_ITEMS) % 8
    leaf[:3] = -1
    return leaf


@pytest.mark.parametrize("kinds", [("category",), ("pagerank",), ("category", "pagerank")])
def test_they_are_never_partners_nor_the_asking_item(
    baskets: Baskets, leaf: np.ndarray, kinds: tuple[str, ...]
) -> None:
    hard = HardNegatives(baskets, leaf, links_of(baskets), kinds, seed=0)
    assert hard.kinds == list(kinds)
    asked = np.repeat(np.arange(N_ITEMS), 5)
    drawn = hard.draw(asked, 6, np.random.default_rng(0))
    assert drawn.shape == (1000, 6)
    assert (drawn >= 0).mean() > 0.5
    together = links_of(baskets).toarray() > 0
    row = np.broadcast_to(asked[:, None], drawn.shape)[drawn >= 0]
    assert not together[row, drawn[drawn >= 0]].any()
    assert (row != drawn[drawn >= 0]).all()
    if kinds == ("category",):
        assert (leaf[row] == leaf[drawn[drawn >= 0]]).all()
        assert (drawn[asked < 3] == -1).all()  # their leaf is not known


def test_the_band_lies_between_one_and_five_per_cent(baskets: Baskets, leaf: np.ndarray) -> None:
    links = links_of(baskets)
    hard = HardNegatives(baskets, leaf, links, ["pagerank"], seed=0)
    n_sold = len(np.unique(baskets.items))
    asked = np.array([50, 120, 199])
    drawn = hard.draw(asked, 40, np.random.default_rng(1))
    chances = PageRank(links, steps=6).of(asked)
    for place, item in enumerate(asked):
        chances[place, [item, *links[[item]].indices]] = 0
        rank = {other: n for n, other in enumerate(np.argsort(-chances[place], kind="stable").tolist())}
        ranks = [rank[other] for other in drawn[place].tolist()]
        assert min(ranks) == np.ceil(0.01 * n_sold)
        assert max(ranks) == np.ceil(0.05 * n_sold) - 1


def test_what_the_shop_cannot_feed_is_said(baskets: Baskets, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        hard = HardNegatives(baskets, np.full(N_ITEMS, -1), links_of(baskets), ["category"], seed=0)
    assert "no hard negatives by category: no product has a category" in caplog.text
    assert (hard.draw(np.arange(5), 3, np.random.default_rng(0)) == -1).all()


def lesson_of(**settings: object) -> Lesson:
    """Baskets of three users in a row of days, without a network."""
    model = CrossSell(**{**QUICK, "negatives": 0, **settings})
    lists = [[0, 1], [2, 3], [4, 5], [0, 2], [1, 6], [7, 8, 9]]
    made = Baskets.of_lists(lists)
    user, day = np.array([0, 0, 0, 1, 1, 2], np.int32), np.array([0, 30, 60, 0, 1, 5], np.int64)
    dated = Baskets(made.offsets, made.items, user, day * DAY)
    model._bought, model._arrived = np.bincount(made.items, minlength=10), np.zeros(10, np.int64)

    def graphs(kept: np.ndarray) -> HidingGraph:
        return HidingGraph(dated.where(kept), 10, model.config, 1)

    return Lesson(model, dated, np.empty(0, np.int64), graphs, np.arange(10) % 2, 0, 1)


def test_the_curriculum_adds_one_in_each_epoch() -> None:
    lesson = lesson_of(hard_negatives=6)
    assert [lesson.plan(epoch)[0].hard for epoch in range(9)] == [0, 1, 2, 3, 4, 5, 6, 6, 6]
    assert lesson_of().plan(5)[0].hard == 0
    assert sorted(np.concatenate([step.baskets for step in lesson.plan(2)])) == list(range(6))


def test_an_asker_is_in_the_basket_and_not_what_is_asked_for() -> None:
    lesson = lesson_of()
    questions = Questions(np.array([0, 1, 5, 5, 5]), np.array([1, 2, 7, 8, 9]))
    for seed in range(20):
        asked = lesson._one_of_the_others(questions, np.random.default_rng(seed))
        for basket, target, other in zip(questions.basket, questions.target, asked, strict=True):
            assert other != target
            assert lesson.contents[[basket], [other]] == 1


def test_earlier_baskets_of_the_same_user_fade() -> None:
    before = lesson_of(next_weight=0.5, half_life_days=30.0).before.toarray()
    np.testing.assert_allclose(before[2], [0.25, 0.5, 0, 0, 0, 0], rtol=1e-5)
    assert before[4, 3] == pytest.approx(2 ** (-1 / 30))
    assert not before[[0, 3, 5]].any()


@pytest.mark.parametrize("loss", ["softmax", "bpr", "margin"])
def test_a_hard_negative_that_scores_high_costs_and_none_costs_nothing(loss: str) -> None:
    lesson = lesson_of(loss=loss)
    drawn = Proposal(np.ones(10), 0, 0.0).draw(np.array([1, 2]), (np.empty(0, int), np.empty(0, int)), [0])
    logits, own = torch.zeros(2, 10), torch.zeros(2)
    plain = lesson._losses(logits, own, drawn, None)
    none = lesson._losses(logits, own, drawn, torch.full((2, 3), NONE))
    high = lesson._losses(logits, own, drawn, torch.tensor([[5.0, NONE], [NONE, NONE]]))
    torch.testing.assert_close(none, plain)
    assert high[0] > plain[0] + 0.1
    assert high[1] == pytest.approx(float(plain[1]))


def shop_of_two_weeks() -> Shop:
    """Who buys i and i + 1 in one week buys i + 10 and i + 11 in the next."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(300):
        item = int(rng.integers(9))
        for week, first in enumerate((item, item + 10)):
            rows += [(f"u{user}", f"{user} {week}", f"i{first + n}", 1_600_000_000 + 7 * 86_400 * week) for n in (0, 1)]
    user, order, item, time = zip(*rows, strict=True)
    table = {"user": user, "order": order, "item": item, "time": time, "interaction": ["purchase"] * len(rows)}
    return Shop.from_tables(pa.table({name: list(column) for name, column in table.items()}))


def test_the_second_question_teaches_what_is_bought_next() -> None:
    settings = {**QUICK, "epochs": 25, "learning_rate": 0.03, "patience": 25, "negatives": 0, "layers": 1}
    log = shop_of_two_weeks()
    number = {name: place for place, name in enumerate(log.items.ids.to_pylist())}
    first, later = (np.array([number[f"i{n + week}"] for n in range(9)]) for week in (0, 10))
    share = {}
    for weight in (0.0, 1.0):
        model = CrossSell(**settings, next_weight=weight).fit(log)
        scores = model._source[first] @ model._target.T + model._offset
        rank = (scores[:, later] > np.take_along_axis(scores, later[:, None], 1)).sum(1)
        share[weight] = rank.mean()
    assert share[1.0] < share[0.0] - 1


def test_nobody_with_two_baskets_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"u{n // 2}", f"i{n % 7}") for n in range(60)]
    table = pa.table({
        "user": [user for user, _ in rows], "item": [item for _, item in rows],
        "interaction": ["purchase"] * 60, "time": [1_600_000_000] * 60,
    })  # fmt: skip
    with caplog.at_level(logging.WARNING):
        CrossSell(**QUICK, next_weight=0.5).fit(Shop.from_tables(table))
    assert "no user has two baskets" in caplog.text


def test_a_training_with_everything_on_is_the_same_twice() -> None:
    settings = {**QUICK, "hard_negatives": 2, "hard_kinds": "pagerank", "next_weight": 0.5, "loss": "margin"}
    one, two = (CrossSell(**settings).fit(shop_of_two_weeks())._course for _ in range(2))
    assert one == two
    assert CrossSellConfig(hard_negatives=2).hard_kinds == "both"
