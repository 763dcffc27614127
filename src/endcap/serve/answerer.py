"""From a question to a list: the surface's models, its rules inside their retrieval, then declared fallbacks."""

from __future__ import annotations

import difflib
import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import chain, zip_longest

import numpy as np

from endcap.answers import NOTHING, Candidates, Explainer, Items, Reason, Request
from endcap.errors import InputError
from endcap.serve.events import now_us
from endcap.serve.filling import Cap, Filling, Pick
from endcap.serve.people import Person, person
from endcap.serve.questions import Answer, AnsweredItem, Question
from endcap.serve.reasons import of_source, sentence
from endcap.serve.rules import Mask, tightest
from endcap.serve.serving import Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface

WEEK_US = 7 * 86_400_000_000
LOOK_BACK = 3  # so many last items of a history stand for a person's categories and sellers
MAX_EXCLUDED = 200  # beyond that many, a search is told what to leave out rather than asked for more
PINNED = Reason("rule", note="pinned by the shop")
BOOSTED = Reason("rule", note="boosted by the shop")

log = logging.getLogger("endcap.serve")


def answer(
    question: Question,
    serving: Serving,
    state: LiveState | None = None,
    *,
    now: int | None = None,
    stale_after: int = WEEK_US,
    on_failure: Callable[[str], None] = lambda source: None,
) -> Answer:
    """Answer a question; an unknown user or item is no error.

    Args:
        now, stale_after: microseconds; on_failure: told the name of a model that raised an error.

    Raises:
        InputError: for an unknown surface or interaction, or what cannot be an id.
    """
    question.check()
    now = now_us() if now is None else now
    if state is not None:
        serving.catalogue.catch_up(state)
    asking = Asking(question, serving, person(question, serving, state, now), on_failure)
    picks = asking.fill()
    return Answer(
        request_id=uuid.uuid4().hex,
        release=serving.release.name,
        items=[_edge(pick, serving) for pick in picks],
        fallback=asking.helped_by,
        stale=now - serving.release.trained_until > stale_after,
        notes=asking.notes(),
    )


class Asking:
    """One question put to one release: the surface's sources, then what helps out, into one list."""

    def __init__(
        self, question: Question, serving: Serving, who: Person, on_failure: Callable[[str], None] = lambda source: None
    ) -> None:
        self.question, self.serving, self.who, self.on_failure = question, serving, who, on_failure
        self.surface_name, self.surface = _surface_of(question, serving)
        codes = serving.release.interactions
        self.seen_as = None if question.seen_as is None else codes.code(question.seen_as)
        self.want = None if question.want is None else codes.code(question.want)
        catalogue = serving.catalogue
        self.item = None if question.item is None else catalogue.number(question.item)
        self.basket = catalogue.numbers(question.basket)
        self.filling = self._empty_list()
        self.helped_by: str | None = None
        self._held: list[Candidates] = []

    def fill(self) -> list[Pick]:
        """Fill the list: pins, the sources' own answers, new items, fallbacks."""
        filling, k = self.filling, self.filling.k
        self._pin()
        new = self._new_items()
        filling.k = k - min(len(new), filling.missing)
        self._ask_sources()
        filling.k = k
        filling.take_in_order(new, "new-in-category", Reason("new"))
        self._fall_back()
        return filling.picks

    def notes(self) -> list[str]:
        """What the asker should know besides the list."""
        question, notes = self.question, []
        if self.item == -1:
            notes.append(f"item {question.item!r} is unknown")
        if question.user is not None and self.who.number is None and not len(self.who.history):
            notes.append(f"user {question.user!r} is unknown")
        strangers = [item for item in question.basket if self.serving.catalogue.number(item) < 0]
        if unknown := [*strangers, *self.who.unknown]:
            notes.append(f"{len(unknown)} items of the question are unknown, such as {unknown[0]!r}")
        if self.filling.missing:
            notes.append(f"{len(self.filling.picks)} of {self.filling.k} items: no others satisfy the rules")
        return notes

    # -- rules -----------------------------------------------------------------------------------------------------

    def _empty_list(self) -> Filling:
        """The list to fill, with the rules of surface and request."""
        catalogue, surface, filters = self.serving.catalogue, self.surface.rules, self.question.filters
        n_items = len(catalogue)
        limits = (
            (catalogue.category, tightest(surface.max_per_category, filters.max_per_category)),
            (catalogue.brand, tightest(surface.max_per_brand, filters.max_per_brand)),
        )
        caps = [Cap(column.codes, limit) for column, limit in limits if limit is not None]
        k = self.question.k or self.surface.k
        return Filling(k, n_items, catalogue.allowed(surface, filters), self._excluded(), caps)

    def _excluded(self) -> set[int]:
        """What this asker must not see here: what is asked about and its rivals, what was refused or bought."""
        asked_about = {*self.basket, *(() if self.item is None else (self.item,))}
        excluded = asked_about | self.serving.catalogue.rivals(asked_about) | self.who.dismissed
        if self.surface.rules.not_bought or self.question.filters.not_bought:
            excluded |= self.who.bought
        return excluded - {-1}

    def _pin(self) -> None:
        pins = self.serving.catalogue.pins(self.surface_name, self.surface.rules)
        for item in pins:
            if self.filling.missing and self.filling.may_take(item):
                self.filling.add(Pick(item, 0.0, "pin", (PINNED,)))

    # -- sources ---------------------------------------------------------------------------------------------------

    @property
    def _sources(self) -> Sequence[Source]:
        return self.surface.sources or [Source(model=name) for name in self.serving.models]

    def _ask_sources(self) -> None:
        """The models' own answers; what they fall back to themselves is held until all sources were asked."""
        if self.surface.merge == "interleave" and len(self._sources) > 1:
            own = [self._own(self._ask(source, source.budget, self.filling.allowed)) for source in self._sources]
            in_turn = chain.from_iterable(zip_longest(*(range(len(found)) for found in own)))
            del in_turn
            self._take(_interleave(own))
        for source in self._sources:
            self._fill_from(source)

    def _fill_from(self, source: Source, **changes: int | None) -> None:
        """Take a source's answers until the list is full or the source has no more of its own.

        First it is asked under the rules' own mask, which is shared and often None: the fastest search. Only if too
        many of its answers could not be taken is it asked again, without them.
        """
        filling, narrowed = self.filling, len(self.filling.gone) > MAX_EXCLUDED
        while filling.missing > 0:
            wanted = filling.missing + (0 if narrowed else len(filling.gone))
            if filling.caps or self.serving.catalogue.boosted:
                wanted = max(wanted, source.budget)
            found = self._ask(source, wanted, filling.open() if narrowed else filling.allowed, **changes)
            own = self._own(found)
            taken = self._take(own)
            if len(own) < min(wanted, len(found)) or len(found) < wanted or (narrowed and not taken):
                return
            narrowed = True
""" 
