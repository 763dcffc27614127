"""What an asker gets: from which source, why, and what helps out where that does not fill the list."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from endcap.answers import Candidates, Request
from endcap.errors import InputError
from endcap.serve.answerer import WEEK_US, answer
from endcap.serve.catalogue import LiveCatalogue
from endcap.serve.events import Event, ItemUpdate, event_row, now_us
from endcap.serve.masks import Masks
from endcap.serve.questions import Action, Answer, Question
from endcap.serve.rules import Rules
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface
from endcap.shop import Shop, Vocabulary

from .small import N_ITEMS, Ranking, with_models

UP = np.arange(N_ITEMS, dtype=np.float32)


def shown(given: Answer) -> list[str]:
    return [row.item for row in given.items]


def change(state: LiveState, **fields: object) -> None:
    state.update_items([msgspec.convert(fields, ItemUpdate)]).result()


def happen(state: LiveState, user: str, item: str, interaction: str, time: int | None = None) -> None:
    event = Event(user=user, item=item, interaction=interaction, time=time)
    state.record([event_row(event, now_us())]).result()


# -- sources -----------------------------------------------------------------------------------------------------------


def test_reasons_name_what_was_done_by_its_title(serving: Serving) -> None:
    first = answer(Question(item="i0", seen_as="click", want="cart", k=3), serving).items[0]
    assert first.source == "co-occurrence"
    assert first.reasons == ["because you clicked Thing 0, you may want to cart this"]
    assert first.title == f"Thing {first.item[1:]}"


def test_the_next_source_fills_what_the_first_leaves(serving: Serving) -> None:
    two = with_models(serving, Surface((Source("a"), Source("b"))), a=Ranking(UP[:2]), b=Ranking(UP, "b"))
    assert [(row.item, row.source) for row in answer(Question(surface="test", k=4), two).items] == [
        ("i1", "ranking"),
        ("i0", "ranking"),
        ("i58", "b"),
        ("i57", "b"),
    ]


def test_sources_can_take_turns(serving: Serving) -> None:
    surface = Surface((Source("a"), Source("b")), "interleave")
    two = with_models(serving, surface, a=Ranking(UP, "a"), b=Ranking(-UP, "b"))
    assert shown(answer(Question(surface="test", k=5), two)) == ["i58", "i0", "i57", "i1", "i56"]


def test_what_a_model_falls_back_to_waits_for_the_other_sources(serving: Serving) -> None:
    surface = Surface((Source("a"), Source("b")), fallback=())
    two = with_models(serving, surface, a=Ranking(UP, "a", fallback_from=3), b=Ranking(UP[:2], "b"))
    given = answer(Question(surface="test", k=6), two)
    assert [row.source for row in given.items] == ["a", "a", "b", "b", "a/popularity", "a/popularity"]
    assert given.fallback == "a/popularity"
    assert given.items[-1].reasons == ["popular in this shop lately"]


def test_a_model_of_an_older_vocabulary_is_asked_only_what_it_knows(serving: Serving, state: LiveState) -> None:
    change(state, item="brand-new", category="shop/c1")
    model = Ranking(UP[:30])
    old = with_models(serving, Surface(fallback=()), m=model)
    actions = (Action("i40"), Action("i3"), Action("brand-new"))
    assert shown(answer(Question(actions=actions, basket=("i50", "i2"), surface="test", k=2), old, state)) == [
        "i29",
        "i28",
    ]
    assert model.asked[0].history.items.tolist() == [3]
    assert model.asked[0].basket.tolist() == [2]
    assert shown(answer(Question(item="i40", surface="test"), old, state)) == []
    assert len(model.asked) == 1, "it was not asked about an item that it cannot know"


def test_a_model_that_fails_does_not_take_the_list_with_it(serving: Serving, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Ranking):
        def candidates(self, request: Request) -> Candidates:
            raise ZeroDivisionError

    failed: list[str] = []
    broken = with_models(serving, Surface((Source("a"), Source("b"))), a=Broken(UP), b=Ranking(UP, "b"))
    given = answer(Question(surface="test", k=2), broken, on_failure=failed.append)
    assert shown(given) == ["i58", "i57"]
    assert failed == ["a"]
    assert "ZeroDivisionError" in caplog.text


# -- people ------------------------------------------------------------------------------------------------------------


def test_an_unseen_user_gets_a_personal_list_from_the_first_event(serving: Serving, state: LiveState) -> None:
    before = answer(Question(user="stranger", k=3), serving, state)
    assert before.fallback == "recent-popularity"
    assert before.notes == ["user 'stranger' is unknown"]
    happen(state, "stranger", "i0", "click")
    after = answer(Question(user="stranger", k=3), serving, state)
    assert after.items[0].reasons == ["because you clicked Thing 0, you may want to cart this"]
    assert after.notes == []
    told = answer(Question(actions=(Action("i0"),), k=3), serving)
    assert shown(told) == shown(after)


def test_live_events_join_the_history_once(serving: Serving, state: LiveState) -> None:
    model = Ranking(UP)
    alone = with_models(serving, Surface(), m=model)
    past = serving.release.history(0)
    for item, code, time in zip(past.items, past.interactions, past.times, strict=True):  # drained, and live still
        happen(state, "u0", f"i{item}", serving.release.interactions.name(int(code)), int(time))
    happen(state, "u0", "i7", "click")
    answer(Question(user="u0", surface="test"), alone, state)
    seen = model.asked[0].history
    assert seen.items.tolist() == [*past.items.tolist(), 7]
    assert (np.diff(seen.times) >= 0).all()
    assert seen.items.dtype == np.int32
    assert seen.interactions.dtype == np.int8


def test_what_was_bought_stays_away_until_it_is_returned(serving: Serving, state: LiveState, small_shop: Shop) -> None:
    every = with_models(serving, Surface(rules=Rules(not_bought=True)), m=Ranking(UP))
    question = Question(user="u3", surface="test", k=60)
    bought = {f"i{item}" for item in serving.release.bought(3).tolist()}
    assert bought
    assert not bought & set(shown(answer(question, every, state)))
    happen(state, "u3", "i58", "purchase")
    assert "i58" not in shown(answer(question, every, state))
    happen(state, "u3", "i58", "return")
    assert shown(answer(question, every, state))[0] == "i58"


def test_what_was_dismissed_is_not_shown_again(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP))
    happen(state, "x", "i58", "dismiss")
    assert shown(answer(Question(user="x", surface="test", k=1), every, state)) == ["i57"]


def test_actions_without_times_are_in_order_and_after_the_history(serving: Serving) -> None:
    model = Ranking(UP)
    alone = with_models(serving, Surface(), m=model)
    answer(Question(user="u0", actions=(Action("i9"), Action("i2", "cart")), surface="test"), alone)
    assert model.asked[0].history.items.tolist()[-2:] == [9, 2]


# -- fallbacks ---------------------------------------------------------------------------------------------------------


def test_the_order_of_fallbacks_is_declared(serving: Serving) -> None:
    given = answer(Question(item="i0", seen_as="favourite", k=58), serving)
    steps = list(dict.fromkeys(row.source for row in given.items))
    assert steps[0].startswith("co-occurrence/"), "nobody favourites: asked as if it had been clicked"
    assert [step for step in steps if "/" not in step] == ["seller-popularity", "category-popularity"]
    assert given.fallback == "category-popularity", "every category here lies under `shop`"
    assert given.items[0].reasons == ["because you favourited Thing 0, you may want to cart this"]


def test_an_unknown_item_is_no_error(serving: Serving) -> None:
    given = answer(Question(item="never heard of", k=5), serving)
    assert len(given.items) == 5
    assert given.fallback == "recent-popularity"
    assert given.notes == ["item 'never heard of' is unknown"]


def test_a_list_that_the_rules_keep_short_says_so(serving: Serving) -> None:
    given = answer(Question(k=5, filters=Rules(items=("i1", "i2"))), serving)
    assert sorted(shown(given)) == ["i1", "i2"]
    assert given.notes == ["2 of 5 items: no others satisfy the rules"]


def test_a_basket_falls_back_by_its_items(serving: Serving) -> None:
    given = answer(Question(basket=("i0", "nowhere"), k=4), serving)
    assert "i0" not in shown(given)
    assert any("Thing 0" in reason for row in given.items for reason in row.reasons)
    assert "nowhere" in given.notes[0]


# -- live changes ------------------------------------------------------------------------------------------------------


def test_live_values_win_over_the_release_and_can_be_taken_back(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP))
    cheap = Question(surface="test", k=1, filters=Rules(max_price=1.0, brand=("b3",)))
    assert shown(answer(cheap, every, state)) == []
    change(state, item="i58", price=0.5)
    assert shown(answer(cheap, every, state)) == ["i58"]
    change(state, item="i58", in_stock=False)
    assert shown(answer(cheap, every, state)) == []
    change(state, item="i58", in_stock=None, category="new/aisle", title="Renamed")
    assert [(row.item, row.title) for row in answer(cheap, every, state).items] == [("i58", "Renamed")]
    assert shown(answer(Question(surface="test", filters=Rules(category=("new",))), every, state)) == ["i58"]
    change(state, item="i58", price=None, category=None)
    assert shown(answer(cheap, every, state)) == []


def test_a_suppressed_item_is_gone_even_when_pinned(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP))
    change(state, item="i3", pinned=["test"])
    assert shown(answer(Question(surface="test", k=2), every, state)) == ["i3", "i58"]
    assert shown(answer(Question(surface="home", k=1), every, state)) == ["i58"], "pinned elsewhere"
    change(state, item="i3", suppressed=True, pinned=True)
    assert "i3" not in shown(answer(Question(surface="test", k=60), every, state))
    change(state, item="i3", suppressed=False)
    assert shown(answer(Question(surface="home", k=1), every, state)) == ["i3"]


def test_boosts_lift_positive_and_negative_scores(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP - 56))  # scores of i58, i57, i56, i55, i54: 2, 1, 0, -1, -2
    change(state, item="i57", boost=4)
    change(state, item="i54", boost=8)
    given = answer(Question(surface="test", k=5), every, state)
    assert shown(given) == ["i57", "i58", "i56", "i54", "i55"]
    assert given.items[0].score == 4.0
    assert given.items[0].reasons[-1] == "boosted by the shop"


def test_never_together_holds_both_ways_and_for_baskets(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP))
    change(state, item="i58", never_together=["i57", "i1"])
    assert shown(answer(Question(item="i57", surface="test", k=1), every, state)) == ["i56"]
    assert shown(answer(Question(basket=("i2", "i58"), surface="test", k=1), every, state)) == ["i56"]
    change(state, item="i58", never_together=[])
    assert shown(answer(Question(item="i57", surface="test", k=1), every, state)) == ["i58"]


def test_never_together_holds_within_a_list_whoever_fills_it(serving: Serving, state: LiveState) -> None:
    every = with_models(serving, Surface(), m=Ranking(UP))
    change(state, item="i56", never_together=["i58", "i0"])
    assert shown(answer(Question(surface="test", k=3), every, state)) == ["i58", "i57", "i55"]
    change(state, item="i0", pinned=True)
    assert shown(answer(Question(surface="test", k=3), every, state)) == ["i0", "i58", "i57"]
    whole = shown(answer(Question(k=N_ITEMS), serving, state))
    assert {"i58", "i0"} <= set(whole)
    assert "i56" not in whole


def test_new_items_are_served_by_category_and_obey_the_rules(serving: Serving, state: LiveState) -> None:
    change(state, item="new", title="Just in", category="shop/c0", price=5.0, never_together=["i6"])
    given = answer(Question(item="i0", k=10), serving, state)
    assert given.items[[row.source for row in given.items].index("new-in-category")].title == "Just in"
    assert len(given.items) == 10
    about = answer(Question(item="new", k=50), serving, state)
    assert about.items[0].source == "category-popularity"
    assert about.items[0].reasons == ["popular in shop/c0"]
    assert {"i6", "new"}.isdisjoint(shown(about))
    assert about.notes == []
    assert shown(answer(Question(k=3, filters=Rules(items=("new",))), serving, state)) == ["new"]
    assert "new" not in shown(answer(Question(item="i1", k=10), serving, state)), "another category"
    change(state, item="new", in_stock=False)
    assert "new" not in shown(answer(Question(item="i0", k=50), serving, state))


def test_threads_may_ask_while_items_are_announced(serving: Serving, state: LiveState) -> None:
    def announce(n: int) -> None:
        change(state, item=f"new{n}", category="shop/c0", brand=f"b{n}")

    def ask(n: int) -> int:
        filters = Rules(not_brand=("b1",), max_per_brand=3) if n % 2 else Rules(max_per_category=4)
        return len(answer(Question(item="i0", k=12, filters=filters), serving, state).items)

    with ThreadPoolExecutor(4) as pool:
        announced = [pool.submit(announce, n) for n in range(30)]
        assert {job.result() for job in [pool.submit(ask, n) for n in range(60)]} == {12}
        for job in announced:
            job.result()


def test_few_places_have_none_for_new_items(serving: Serving, state: LiveState) -> None:
    change(state, item="new", category="shop/c0")
    assert "new" not in shown(answer(Question(item="i0", k=4), serving, state))


def test_a_catalogue_may_have_no_columns_but_ids() -> None:
    bare = LiveCatalogue(Vocabulary(["a", "b"]), pa.table({"item": ["a", "b"], "brand": pa.nulls(2)}))
    masks = Masks(bare)
    assert masks.allowed(Rules(), Rules()) is None
    assert bare.title(0) is None
    assert bare.name(1) == "b"
    found = masks.allowed(Rules(min_price=1.0), Rules())
    assert found is not None
    assert not found.any()


# -- the answer itself -------------------------------------------------------------------------------------------------


def test_staleness_is_told(serving: Serving) -> None:
    end = serving.release.trained_until
    assert not answer(Question(), serving, now=end + WEEK_US).stale
    assert answer(Question(), serving, now=end + WEEK_US + 1).stale


def test_unknown_surfaces_and_interactions_are_errors(serving: Serving) -> None:
    with pytest.raises(InputError, match="did you mean 'home'"):
        answer(Question(surface="hoem"), serving)
    with pytest.raises(InputError, match="unknown interaction 'buy'"):
        answer(Question(want="buy"), serving)
    with pytest.raises(InputError, match="unknown interaction 'look'"):
        answer(Question(actions=(Action("i1", "look"),)), serving)
    with pytest.raises(InputError, match="an item of the basket is empty"):
        answer(Question(basket=("",)), serving)
    for name in ("surface", "want", "seen_as"):
        with pytest.raises(InputError, match=f"{name} is empty"):
            answer(Question(**{name: ""}), serving)


def test_request_ids_differ(serving: Serving) -> None:
    assert answer(Question(), serving).request_id != answer(Question(), serving).request_id
