"""The union of the lists of several actions: short lists give what long ones would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.answers import History, Items, Request, Scores
from endcap.index.top import padded
from endcap.models.base import Model, Origin
from endcap.shop import Interactions, Vocabulary

N_ITEMS = 60


class NoSettings(msgspec.Struct, frozen=True):
    """Nothing to set."""


class Listed(Model):
    """A list for each item, as an exact search would give it: by score, then number, never the item itself."""

    system = "listed"
    Config = NoSettings
    PER_ACTION = 12

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__()
        self.scores = scores  # (n, n); -inf where an item is not in a list
        names = Vocabulary([f"i{number}" for number in range(len(scores))])
        self.origin = Origin(names, Interactions(("click", "cart")), 1, 1, (1, 1), 1, 0, "")
        self.asked_for: list[int] = []

    def ranked(self, item: int) -> list[int]:
        found = [other for other in range(N_ITEMS) if other != item and np.isfinite(self.scores[item, other])]
        return sorted(found, key=lambda other: (-self.scores[item, other], other))

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: np.ndarray | None = None
    ) -> tuple[Items, Scores]:
        self.asked_for.append(k)
        found, scores = padded(len(items), k)
        for row, item in enumerate(items.tolist()):
            ranked = self.ranked(item)[:k]
            found[row, : len(ranked)], scores[row, : len(ranked)] = ranked, self.scores[item, ranked]
        return found, scores

    def _restore(self, arrays: Mapping[str, Any], learned: Mapping[str, Any]) -> None:
        raise NotImplementedError


def plainly(model: Listed, actions: list[int], basket: list[int], k: int) -> list[int]:
    """The rule in words: first the union of the first PER_ACTION of each list, by score; then rank after rank."""
    near: dict[int, float] = {}
    far: dict[int, tuple[int, float]] = {}
    for item in actions:
        for rank, other in enumerate(model.ranked(item)):
            score = float(model.scores[item, other])
            if rank < model.PER_ACTION:
                near[other] = max(near.get(other, -np.inf), score)
            elif other not in far or (rank, -score) < (far[other][0], -far[other][1]):
                far[other] = rank, score
    order = sorted(near, key=lambda other: (-near[other], other))
    order += sorted((o for o in far if o not in near), key=lambda other: (far[other][0], -far[other][1], other))
    return [other for other in order if other not in basket][:k]


@st.composite
def unions(draw: st.DrawFn) -> tuple[Listed, list[int], list[int], int]:
    """Whole scores, so that many are equal; lists of all lengths."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scores = rng.integers(0, draw(st.sampled_from([3, 40])), (N_ITEMS, N_ITEMS)).astype(np.float32)
    scores[rng.random(scores.shape) < rng.choice([0.0, 0.5, 0.97], (N_ITEMS, 1))] = -np.inf
    actions = draw(st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=4, unique=True))
    return Listed(scores), actions, [], draw(st.integers(1, 50))


@pytest.fixture(autouse=True, scope="module")
def _few_an_action() -> Iterator[None]:
    """`unite` reads the number of the base class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "PER_ACTION", Listed.PER_ACTION)
        yield


@given(unions())
@settings(max_examples=300, deadline=None)
def test_a_union_is_what_the_rule_says_however_short_its_lists(question):
    model, actions, basket, k = question
    past = np.array(actions[::-1], np.int32)  # a history has the oldest first
    history = History(past, (past % 2).astype(np.int8), np.arange(len(past)))
    found = model.candidates(Request(k=k, history=history))
    assert found.items.tolist() == plainly(model, actions, basket, k)
    longest = max(k, model.PER_ACTION)
    assert max(model.asked_for) == (k if k <= model.PER_ACTION else min(2 * longest, N_ITEMS))


@given(unions(), st.lists(st.integers(0, N_ITEMS - 1), min_size=1, max_size=8, unique=True))
@settings(max_examples=150, deadline=None)
def test_what_lies_in_the_basket_takes_no_place(question, basket):
    model, _, _, k = question
    found = model.candidates(Request(k=k, basket=np.array(basket, np.int32)))
    assert found.items.tolist() == plainly(model, basket[-1:], basket, k)


@given(unions(), st.lists(st.integers(0, N_ITEMS - 1), max_size=8, unique=True))
@settings(max_examples=150, deadline=None)
def test_an_item_asked_about_with_a_full_basket_has_a_full_list(question, basket):
    model, (item, *_), _, k = question
    found = model.candidates(Request(k=k, item=item, basket=np.array(basket, np.int32)))
    assert found.items.tolist() == [other for other in model.ranked(item) if other not in basket][:k]
