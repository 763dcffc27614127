"""A surface whose sources a ranker puts in order: what is asked, what is said, and what happens when it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from endcap.answers import Candidates, Items, Ranking, Reason, Request
from endcap.errors import InputError
from endcap.serve.answerer import answer
from endcap.serve.events import ItemUpdate
from endcap.serve.questions import Action, Question
from endcap.serve.rules import Rules
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface, check_surfaces
from endcap.shop import Interactions

from .small import N_ITEMS, with_models
from .small import Ranking as Fixed

UP = np.arange(N_ITEMS, dtype=np.float32)
SURFACE = Surface((Source("a", budget=4), Source("b", budget=4)), ranker="rank", fallback=())


class LowFirst:
    """Puts low numbers first, whoever names them."""

    sources: Sequence[str] = ("a", "b")

    def __init__(self) -> None:
        self.given: dict[str, Candidates] = {}
        self.request = Request(k=0)
        self.explained: list[int] = []

    def rank(self, request: Request, found: Mapping[str, Candidates]) -> Ranking:
        self.request, self.given = request, dict(found)
        items = np.unique(np.concatenate([one.items for one in found.values()]))
        return Ranking(items, 100 - items.astype(np.float32), self.reasons)

    def reasons(self, items: Items) -> list[list[Reason]]:
        self.explained += items.tolist()
        return [
            [Reason("ranker", want=3, note="often", value=1.0), Reason("ranker", note="it is new to you", value=-0.5)]
            for _ in items
        ]


def ranked(serving: Serving, ranker: object, surface: Surface = SURFACE, **named: Fixed) -> Serving:
    return replace(with_models(serving, surface, **named), rankers={"rank": ranker})


def two(serving: Serving, ranker: object, surface: Surface = SURFACE) -> Serving:
    return ranked(serving, ranker, surface, a=Fixed(UP, "a"), b=Fixed(-UP, "b"))


def test_all_candidates_stand_in_the_rankers_order_with_the_source_that_named_them(serving: Serving) -> None:
    ranker = LowFirst()
    given = answer(Question(surface="test", k=6), two(serving, ranker))
    assert [(row.item, row.source) for row in given.items] == [
        *((f"i{n}", "b") for n in range(4)),
        *((f"i{n}", "a") for n in (55, 56)),
    ]
    assert {name: len(found) for name, found in ranker.given.items()} == {"a": 4, "b": 4}
    assert given.fallback is None


def test_reasons_say_what_moved_an_item_and_are_asked_for_what_is_returned(serving: Serving) -> None:
    ranker = LowFirst()
    given = answer(Question(surface="test", k=2), two(serving, ranker))
    assert given.items[0].reasons == [
        "recommended by b",
        "moved up: often bought lately",
        "moved down: it is new to you",
    ]
    assert ranker.explained == [0, 1]


def test_sources_fill_what_their_budgets_leave_open(serving: Serving) -> None:
    given = answer(Question(surface="test", k=12), two(serving, LowFirst()))
    assert len(given.items) == 12
    assert [row.item for row in given.items[:8]] == ["i0", "i1", "i2", "i3", "i55", "i56", "i57", "i58"]


def test_the_ranker_hears_the_whole_question(serving: Serving) -> None:
    ranker = LowFirst()
    question = Question(surface="test", k=2, item="i9", seen_as="cart", basket=("i3", "ghost"), actions=(Action("i7"),))
    answer(question, two(serving, ranker))
    asked = ranker.request
    assert (asked.item, asked.seen_as, asked.basket.tolist(), asked.history.items.tolist()) == (9, 2, [3], [7])
    answer(Question(surface="test", k=2, item="ghost"), two(serving, ranker))
    assert ranker.request.item is None


def test_rules_hold_for_what_is_ranked(serving: Serving) -> None:
    surface = msgspec.structs.replace(SURFACE, rules=Rules(not_category=("shop/c0",), max_per_brand=1))
    given = answer(Question(surface="test", k=3), two(serving, LowFirst(), surface))
    assert [row.item for row in given.items][:3] == ["i1", "i2", "i3"]


def test_a_boost_lifts_over_the_rankers_order(serving: Serving, state: LiveState) -> None:
    state.update_items([msgspec.convert({"item": "i58", "boost": 1000.0}, ItemUpdate)]).result()
    ranker = LowFirst()
    given = answer(Question(surface="test", k=3), two(serving, ranker), state)
    assert given.items[0].item == "i58"
    assert ranker.given["a"].scores[0] == 58, "the ranker sees the sources' own scores"


def test_a_ranker_that_fails_leaves_the_sources_taking_turns(
    serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(LowFirst):
        def rank(self, request: Request, found: Mapping[str, Candidates]) -> Ranking:
            raise ZeroDivisionError

    failed: list[str] = []
    given = answer(Question(surface="test", k=4), two(serving, Broken()), on_failure=failed.append)
    assert [row.item for row in given.items] == ["i58", "i0", "i57", "i1"]
    assert given.notes == ["the ranker 'rank' failed: the sources take turns instead"]
    assert failed == ["rank"]
    assert "ranker rank of release" in caplog.text


def test_a_ranker_that_cannot_explain_still_ranks(serving: Serving) -> None:
    class Silent(LowFirst):
        def reasons(self, items: Items) -> list[list[Reason]]:
            raise ZeroDivisionError

    failed: list[str] = []
    given = answer(Question(surface="test", k=2), two(serving, Silent()), on_failure=failed.append)
    assert [row.item for row in given.items] == ["i0", "i1"]
    assert given.notes == []
    assert failed == ["rank"]


def test_a_source_that_fails_leaves_the_other_to_be_ranked(serving: Serving) -> None:
    class Broken(Fixed):
        def candidates(self, request: Request) -> Candidates:
            raise ZeroDivisionError

    given = answer(Question(surface="test", k=2), ranked(serving, LowFirst(), a=Broken(UP, "a"), b=Fixed(-UP, "b")))
    assert [row.item for row in given.items] == ["i0", "i1"]


@pytest.mark.parametrize(
    ("surface", "says"),
    [
        (Surface(ranker="rnk"), "no ranker 'rnk'; did you mean 'rank'"),
        (Surface((Source("a"),), ranker="rank"), "fitted on a, b; 'b' is none of the sources here"),
        (Surface((Source("a"), Source("b"), Source("c")), ranker="rank"), "not on 'c'"),
        (Surface(ranker="rank"), "not on 'c'"),
        (Surface((Source("a"), Source("b"), Source("b")), ranker="rank"), "only once"),
        (Surface((Source("rank"),)), 'is a ranker and names nothing; write ranker = "rank"'),
    ],
)
def test_a_surface_must_fit_its_ranker(surface: Surface, says: str) -> None:
    with pytest.raises(InputError, match="surface 'x'") as refused:
        check_surfaces({"x": surface}, ["a", "b", "c"], Interactions(), {"rank": ["a", "b"]})
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_surface_that_fits_passes_and_a_release_without_rankers_says_so() -> None:
    fits = {"x": SURFACE, "y": Surface((Source("c"),))}
    check_surfaces(fits, ["a", "b", "c"], Interactions(), {"rank": ["a", "b"]})
    check_surfaces({"x": Surface(ranker="rank")}, ["a", "b"], Interactions(), {"rank": ["a", "b"]})
    with pytest.raises(InputError, match="none was published"):
        check_surfaces(fits, ["a", "b", "c"], Interactions())
