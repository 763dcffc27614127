"""What is asked about items that nobody had acted on, on a log small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import cold_items
from endcap import Shop, models

DAY = 86_400_000_000
TITLES = {"a": "green tea", "b": "black tea", "c": "steel pan", "d": None, "e": "white tea", "f": "copper pan"}


@pytest.fixture
def shop() -> Shop:
    """1 buys teas, 2 pans; on day 3 the tea e and the pan f come, and d, which has no title."""
    rows = [("1", "a", 1), ("2", "c", 1), ("1", "b", 2), ("1", "e", 3), ("1", "d", 3), ("2", "f", 3), ("9", "f", 3)]
    user, item, day = zip(*rows, strict=True)
    events = {"user": user, "item": item, "interaction": ["purchase"] * 7, "time": [10**15 + d * DAY for d in day]}
    domain = ["food", "food", "kitchen", "food", "food", "kitchen"]
    items = {"item": list(TITLES), "title": list(TITLES.values()), "domain": domain}
    return Shop.from_tables(pa.table(events), pa.table(items))


def test_people_are_asked_for_new_titled_items_and_the_past_does_not_compete(shop):
    train, test = shop.split_by_time("1d")
    candidates = cold_items.candidates_of(shop, train)
    questions = cold_items.questions_of(train, test, candidates)
    assert [shop.users[person] for person in questions.person] == ["1", "2"]  # 9 has no past
    assert [shop.items[item] for item in questions.wanted] == ["e", "f"]
    competing = [
        [shop.items.decode(items) for items in readings]
        for _, _, readings in cold_items.competitors(questions, candidates, train)
    ]
    assert competing == [[["e"], ["e"]], [["f"], ["f"]]]


def test_titles_alike_are_found_by_tfidf_and_recall_counts_them(shop, monkeypatch):
    train, test = shop.split_by_time("1d")
    tfidf = cold_items.TfIdf(shop, train)
    buyer = shop.users.number("1")
    for scores in (tfidf.mean(buyer), tfidf.nearest(buyer)):
        assert scores[shop.items.number("e")] > scores[shop.items.number("f")] == 0
    monkeypatch.setattr(cold_items, "K", 1)
    candidates = cold_items.candidates_of(shop, train)._replace(domain=np.zeros(shop.n_items, np.int64))
    questions = cold_items.questions_of(train, test, candidates)
    np.testing.assert_array_equal(cold_items.recalls(questions, candidates, train, tfidf.nearest), np.ones((2, 2)))
    # 1 chooses among c, e, f; 2 among a, b, e, f; of new ones there are two
    np.testing.assert_allclose(cold_items.by_chance(questions, candidates, train), [[1 / 3, 1 / 4], [1 / 2, 1 / 2]])


def test_a_model_scores_known_items_as_it_searches_them_and_new_ones_as_it_encodes_them(shop):
    train, _ = shop.split_by_time("1d")
    model = models.create("coaction-graph", {"epochs": 1, "dim": 8, "temperature": 0.1, "validation_people": 1})
    score = cold_items.encoded(model.fit(train), shop, train)(shop.users.number("1"))
    assert shop.items.number("e") >= train.n_items
    assert np.isfinite(score[[shop.items.number(item) for item in "abef"]]).all()
    assert np.abs(score[np.isfinite(score)]).max() < 1.001  # cosines
