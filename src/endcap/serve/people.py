"""What is known of an asker: the release's history, recorded events since, and the actions in the question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from endcap.answers import History
from endcap.serve.catalogue import LiveCatalogue
from endcap.serve.events import microseconds
from endcap.serve.questions import Action, Question
from endcap.serve.serving import Serving
from endcap.serve.state import LiveAction, LiveState
from endcap.shop import Interactions

PURCHASE, RETURN, DISMISS = "purchase", "return", "dismiss"


@dataclass(frozen=True, eq=False)
class Person:
    """An asker.

    Attributes:
        number: in the release's vocabulary, None where it does not know the user; history: positive actions, oldest
            first; bought: bought and not returned; dismissed: refused lately; unknown: items named and not known;
        searches: recorded ones, texts and times, oldest first; a release keeps none.
    """

    number: int | None = None
    history: History = field(default_factory=History)
    bought: frozenset[int] = frozenset()
    dismissed: frozenset[int] = frozenset()
    unknown: tuple[str, ...] = ()
    searches: tuple[tuple[str, int], ...] = ()


def person(question: Question, serving: Serving, state: LiveState | None, now: int) -> Person:
    """Everything known of the asker at `now` (microseconds)."""
    searches: tuple[tuple[str, int], ...] = ()
    if question.user is None:
        number, past, bought, tail = -1, History(), frozenset[int](), []
    else:
        release = serving.release
        number = release.users.number(question.user)
        if state is not None and 0 <= number < state.forgotten_below(question.user):
            number = -1
        past, bought = release.history(number), frozenset(release.bought(number).tolist())
        tail = [] if state is None else state.recent(question.user)
        searches = () if state is None else state.searches(question.user)
    said = _said(question.actions, serving.release.interactions, now)
    live = [*tail, *said]
    if not live:
        return Person(None if number < 0 else number, past, bought, searches=searches)
    catalogue = serving.catalogue
    return Person(
        None if number < 0 else number,
        _join(past, live, catalogue, serving.release.interactions),
        _still_bought(bought, live, catalogue),
        frozenset(catalogue.numbers(action.item for action in live if action.interaction == DISMISS)),
        tuple(action.item for action in said if catalogue.number(action.item) < 0),
        searches,
    )


def _said(actions: Sequence[Action], interactions: Interactions, now: int) -> list[LiveAction]:
    """The actions in a question, oldest first; those without a time happened now.

    Raises:
        InputError: for an interaction that the shop does not have.
    """
    for action in actions:
        if action.interaction not in (RETURN, DISMISS):
            interactions.code(action.interaction)
    said = [LiveAction(action.item, action.interaction, microseconds(action.time, now) or now) for action in actions]
    return sorted(said, key=lambda action: action.time)


def _join(past: History, live: Sequence[LiveAction], catalogue: LiveCatalogue, interactions: Interactions) -> History:
    """The release's history and live actions in order of time, an action that both know once."""
    code_of = {name: code for code, name in enumerate(interactions.names)}
    actions = [
        (number, code_of[action.interaction], action.time)
        for action in live
        if action.interaction in code_of and (number := catalogue.number(action.item)) >= 0
    ]
    if len(past) and any(time <= past.times[-1] for _, _, time in actions):
        known = set(zip(past.items.tolist(), past.interactions.tolist(), past.times.tolist(), strict=True))
        actions = [action for action in actions if action not in known]
    if not actions:
        return past
    items, codes, times = (np.array(column) for column in zip(*actions, strict=True))
    times = np.append(past.times, times).astype(np.int64)
    order = np.argsort(times, kind="stable")
    return History(
        np.append(past.items, items).astype(np.int32)[order],
        np.append(past.interactions, codes).astype(np.int8)[order],
        times[order],
    )


def _still_bought(bought: frozenset[int], live: Sequence[LiveAction], catalogue: LiveCatalogue) -> frozenset[int]:
    """What was bought, after live purchases and returns in their order."""
    held = set(bought)
    for action in live:
        if action.interaction in (PURCHASE, RETURN):
            (held.add if action.interaction == PURCHASE else held.discard)(catalogue.number(action.item))
    return frozenset(held - {-1})
