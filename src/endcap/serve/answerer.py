"""From a question to a list: the surface's models, its rules inside their retrieval, then declared fallbacks."""

from __future__ import annotations

import difflib
import logging
import math
import uuid
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from endcap.answers import NOTHING, Candidates, History, Items, Reason, Request, TellsRivals
from endcap.errors import InputError
from endcap.serve.catalogue import Coded, Mask
from endcap.serve.events import now_us
from endcap.serve.filling import Cap, Filling, Pick
from endcap.serve.logs import where
from endcap.serve.people import Person, person
from endcap.serve.questions import Answer, AnsweredItem, LeftOutItem, Question
from endcap.serve.reasons import sentence, usual_reason
from endcap.serve.rivals import Rivals, Teller
from endcap.serve.rows import as_ranked, in_turn, reordered, unexplained
from endcap.serve.rules import tightest
from endcap.serve.serving import Loaded, Serving
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Source, Surface

WEEK_US = 7 * 86_400_000_000
LOOK_BACK = 3  # so many last items of a history stand for a person's categories and sellers
PLACES = 4  # of numbers that people read
CAPPED = 4  # times what is missing is asked for at a time where caps hold
MAX_LEFT_OUT = 200  # beyond so many, a search is told what to leave out instead of being asked for more
NO_CANDIDATES = Candidates(NOTHING, np.empty(0, np.float32), [])
PINNED = Reason("rule", note="pinned by the shop")

OnFailure = Callable[[str], None]
log = logging.getLogger("endcap.serve")


def answer(
    question: Question,
    serving: Serving,
    state: LiveState | None = None,
    *,
    now: int | None = None,
    stale_after: int = WEEK_US,
    on_failure: OnFailure = lambda model: None,
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
        serving.catch_up(state)
    stale = now - serving.release.trained_until > stale_after
    asking = Asking(question, serving, person(question, serving, state, now), on_failure, stale=stale)
    picks, told = asking.fill(), dict[Hashable, str]()
    return Answer(
        request_id=uuid.uuid4().hex,
        release=serving.release.name,
        items=[_at_the_edge(pick, serving, told, with_parts=question.parts) for pick in picks],
        fallback=asking.helped_by,
        stale=stale,
        notes=asking.notes(),
        left_out=asking.left_out(),
    )


class Instead(NamedTuple):
    """A question put as if an item had been seen as `called`; `did` is the interaction that really happened."""

    item: int
    did: int
    called: str

    def label(self, found: Candidates) -> Candidates:
        """Candidates that say so: `model/called`, and a reason that stays true."""
        evidence = found.evidence
        if evidence is not None:
            did = np.where(evidence.because == self.item, self.did, evidence.seen_as).astype(np.int8)
            evidence = replace(evidence, seen_as=did)
        return replace(found, source=[f"{by}/{self.called}" for by in found.source], evidence=evidence)


class Asking:
    """One question put to one release.

    Attributes:
        item: number of the item asked about, None where none, -1 where it is unknown; basket: numbers;
        helped_by: the last fallback that put something into the list.
    """

    def __init__(
        self, question: Question, serving: Serving, who: Person, on_failure: OnFailure, *, stale: bool = False
    ) -> None:
        self.question, self.serving, self.who, self.on_failure = question, serving, who, on_failure
        self.surface_name = question.surface or question.default_surface
        self.surface = _surface(self.surface_name, serving)
        self.item = None if question.item is None else serving.catalogue.number(question.item)
        self.basket = serving.catalogue.numbers(question.basket)
        self.want = self._code(question.want)
        self._sources, self._in_turn = self._whom_to_ask(stale)
        self.filling = self._empty_list()
        self.helped_by: str | None = None
        self._held: list[Candidates] = []
        self._failed_ranker: str | None = None
        self._met: dict[int, float] = {}
        self._asked: dict[str, tuple[Loaded, Request]] = {}

    def fill(self) -> list[Pick]:
        """Fill the list: pins, the sources' own answers, new items, fallbacks."""
        filling, k = self.filling, self.filling.k
        self._pin()
        new = self._new_items()
        filling.k = k - min(len(new), filling.missing)
        self._ask_sources()
        filling.k = k
        earned = not {pick.item for pick in filling.picks}.isdisjoint(new.tolist())
        filling.take_in_order(new, "new-in-category", Reason("rule", note="new in this category"))
        if earned:  # a source has found one of them itself: the place that was kept for it is the sources'
            self._fill_from_all()
        self._fall_back()
        return [self._explained(pick) for pick in filling.picks]

    def notes(self) -> list[str]:
        """What the asker should know besides the list."""
        question, notes = self.question, []
        if self.item == -1:
            notes.append(f"item {question.item!r} is unknown")
        if question.user is not None and self.who.number is None and not (len(self.who.history) or self.who.searches):
            notes.append(f"user {question.user!r} is unknown")
        strangers = [item for item in question.basket if self.serving.catalogue.number(item) < 0]
        if unknown := [*strangers, *self.who.unknown]:
            notes.append(f"unknown items in the question: {len(unknown)}, such as {unknown[0]!r}")
        if (systems := self.surface.systems) and not self.surface.sources and not self._of(systems):
            notes.append(f"the release has no {' or '.join(systems)}: its other models answer as they can")
        if self._substitute is not None:
            notes.append(f"the release is older than it should be: {self._substitute} takes turns with its models")
        if self._failed_ranker is not None:
            notes.append(f"the ranker {self._failed_ranker!r} failed: the sources take turns instead")
        if self.filling.missing:
            notes.append(f"{len(self.filling.picks)} of {self.filling.k} items: no others satisfy the rules")
        return notes

    def left_out(self) -> list[LeftOutItem]:
        """The rivals that models met and kept out of the list, nearest first, at most as many as were asked for."""
        catalogue, gone = self.serving.catalogue, self.filling.gone
        return [
            LeftOutItem(catalogue.id(item), "substitute", round(complement, PLACES), catalogue.title(item))
            for item, complement in self._met.items()
            if item not in gone
        ][: self.filling.k]

    # -- rules -----------------------------------------------------------------------------------------------------

    def _empty_list(self) -> Filling:
        """The list to fill, with the rules of surface and request."""
        catalogue, surface, filters = self.serving.catalogue, self.surface.rules, self.question.filters
        allowed = self.serving.masks.allowed(surface, filters)
        n_items = len(catalogue) if allowed is None else len(allowed)
        limits = (
            (catalogue.category, tightest(surface.max_per_category, filters.max_per_category)),
            (catalogue.brand, tightest(surface.max_per_brand, filters.max_per_brand)),
        )
        caps = [Cap(column.codes, limit) for column, limit in limits if limit is not None]
        k = self.question.k or self.surface.k
        unwanted = self._unwanted_of_fallbacks if self.surface.goes_with else None
        return Filling(k, n_items, allowed, self._excluded(), caps, catalogue.rivals, unwanted)

    def _excluded(self) -> set[int]:
        """What this asker must not see here: what is asked about and its rivals, what was refused or bought."""
        asked_about = {*self.basket, *(() if self.item is None else (self.item,))}
        excluded = asked_about | self.serving.catalogue.rivals(asked_about) | self.who.dismissed
        if self.surface.rules.not_bought or self.question.filters.not_bought:
            excluded |= self.who.bought
        return excluded - {-1}

    def _pin(self) -> None:
        catalogue, declared = self.serving.catalogue, (*self.surface.rules.pins, *self.question.filters.pins)
        for item in [*catalogue.numbers(declared), *catalogue.pinned(self.surface_name)]:
            if self.filling.missing and self.filling.may_take(item):
                self.filling.add(Pick(item, 0.0, "pin", PINNED))

    def _new_items(self) -> Items:
        """Announced items of the categories that are looked at, as many as the surface has places for."""
        catalogue, places = self.serving.catalogue, min(self.surface.new_items, self.filling.k // 5)
        if places == 0 or len(catalogue) == catalogue.n_released:
            return NOTHING
        found = np.concatenate([NOTHING, *(catalogue.new_in(name) for name in self._names_around(catalogue.category))])
        return np.array([item for item in found.tolist() if self.filling.may_take(item)][:places], np.int32)

    # -- sources ---------------------------------------------------------------------------------------------------

    def _whom_to_ask(self, stale: bool) -> tuple[Sequence[Source], bool]:
        """The sources, and whether they take turns; `_substitute` is the one that joins them for a stale release."""
        surface, models = self.surface, self.serving.models
        sources = surface.sources or [Source(model=name) for name in self._of(surface.systems) or models]
        named = {self._name(source) for source in sources}
        joins = self._of(surface.when_stale) if stale and surface.ranker is None else []
        self._substitute = next((name for name in joins if name not in named), None)
        if self._substitute is not None:
            sources = [*sources, Source(model=self._substitute)]
        return sources, len(sources) > 1 and (self._substitute is not None or surface.merge == "interleave")

    def _of(self, systems: Sequence[str]) -> list[str]:
        """Names of the release's models of these systems, in the order of the systems."""
        return [name for system in systems for name, loaded in self.serving.models.items() if loaded.system == system]

    def _ask_sources(self) -> None:
        """The models' own answers; what they fall back to themselves is held until all were asked."""
        if self.surface.ranker is not None:
            self._take_ranked(self.surface.ranker)
        elif self._in_turn:
            lists = [self._ask_for_budget(source) for source in self._sources]
            self._take_in_turn([self._boosted(found) for found in lists])
        self._fill_from_all()

    def _fill_from_all(self) -> None:
        for source in self._sources:
            self._fill_from(source, self._seen_as(source))

    def _fill_from(self, source: Source, seen_as: int | None, instead: Instead | None = None) -> None:
        """Take a source's own answers until the list is full or the source has no more.

        It is asked first under the rules' own mask, which is shared and often None: the fastest search. Only if too
        many of its answers could not be taken is it asked again, without these and what has no room left.
        """
        filling, narrowed = self.filling, len(self.filling.gone) > MAX_LEFT_OUT
        while filling.missing > 0:
            wanted = filling.missing + (0 if narrowed else len(filling.gone))
            if self.serving.catalogue.boosted or self._is_sifted(self._loaded(source)):
                wanted = max(wanted, source.budget)
            elif filling.caps:  # in the model's own order: what a cap keeps out is asked for again
                wanted = max(wanted, min(source.budget, CAPPED * filling.missing))
            mask = filling.open() if narrowed else filling.allowed
            found = self._ask(source, wanted, mask, seen_as, instead)
            own = self._own(self._boosted(found))
            taken = filling.take(own if instead is None else instead.label(own))
            if len(own) < wanted or (narrowed and not taken):
                return
            narrowed = True

    def _ask_for_budget(self, source: Source) -> Candidates:
        """A source's own answers, not boosted."""
        return self._own(self._ask(source, source.budget, self.filling.allowed, self._seen_as(source)))

    def _take_ranked(self, name: str) -> None:
        """All sources' answers in the ranker's order; in turn where the ranker fails."""
        found = {self._name(source): self._ask_for_budget(source) for source in self._sources}
        try:
            ranking = self.serving.rankers[name].rank(self._asked_of_ranker(), found)
            ranked = as_ranked(ranking, list(found.values()))
        except Exception as error:  # the sources have answered: the page does not need the ranker
            self._has_failed("ranker", name, error)
            self._failed_ranker = name
            self._take_in_turn([self._boosted(own) for own in found.values()])
            return
        filling, before = self.filling, len(self.filling.picks)
        filling.take(self._boosted(ranked))
        taken = filling.picks[before:]
        try:
            moved = ranking.reasons(np.array([pick.item for pick in taken], np.int32)) if taken else []
            filling.picks[before:] = [pick._replace(further=tuple(why)) for pick, why in zip(taken, moved, strict=True)]
        except Exception as error:
            self._has_failed("ranker", name, error)

    def _has_failed(self, what: str, name: str, error: Exception) -> None:
        log.error("%s %s of release %s failed: %s", what, name, self.serving.release.name, where(error))
        self.on_failure(name)

    def _asked_of_ranker(self) -> Request:
        """The question in the numbers of the catalogue; a ranker passes over items that it does not know."""
        item = None if self.item == -1 else self.item
        return Request(
            k=self.filling.k,
            user=self.who.number,
            item=item,
            seen_as=self._code(self.question.seen_as),
            want=self.want,
            history=self.who.history,
            basket=np.array([item for item in self.basket if item >= 0], np.int32),
        )

    def _take_in_turn(self, lists: Sequence[Candidates]) -> None:
        """One item of each list in turn, the first list first; an item of several lists counts where it comes first."""
        for row in in_turn(lists):
            self.filling.take(row)

    def _ask(
        self, source: Source, wanted: int, allowed: Mask | None, seen_as: int | None, instead: Instead | None = None
    ) -> Candidates:
        """A model's candidates; none where it cannot answer. About an item that is new to it, what lies near."""
        loaded = self._loaded(source)
        item = self.item if instead is None else instead.item
        is_new = item is not None and not 0 <= item < loaded.n_items
        if is_new and instead is not None:  # what lies near it does not depend on how it was seen
            return NO_CANDIDATES
        request = self._request(source, item, loaded.n_items, wanted, allowed, seen_as)
        try:
            if is_new:  # what lies near it stands in its place
                return NO_CANDIDATES if self.surface.goes_with else loaded.near_new(request, wanted, allowed)
            found = loaded.candidates(request, wanted, allowed)
        except Exception as error:  # one broken model must not take the page down
            self._has_failed("model", self._name(source), error)
            return NO_CANDIDATES
        if self.question.reasons or unexplained(found):
            self._asked.update(dict.fromkeys(found.source, (loaded, request)))
        if found.left_out is not None and self.question.left_out:
            self._met.update(zip(found.left_out.items.tolist(), found.left_out.complement.tolist(), strict=True))
        return self._without_rivals(found, loaded)

    def _loaded(self, source: Source) -> Loaded:
        return self.serving.models[self._name(source)]

    def _name(self, source: Source) -> str:
        return source.model or next(iter(self.serving.models))

    def _request(
        self, source: Source, item: int | None, n_items: int, wanted: int, allowed: Mask | None, seen_as: int | None
    ) -> Request:
        """The question in the numbers of a model that knows the first `n_items` items."""
        past = self.who.history
        known = past.items < n_items
        if not known.all():
            past = History(past.items[known], past.interactions[known], past.times[known])
        domains = self.question.filters.domain
        return Request(
            k=min(wanted, n_items),
            user=self.who.number,
            item=item,
            seen_as=seen_as,
            want=self._code(source.want) if self.want is None else self.want,
            history=past,
            basket=np.array([item for item in self.basket if item < n_items], np.int32),
            searches=self.who.searches,
            domain=domains[0] if len(domains) == 1 else None,
            allowed=None if allowed is None else allowed[:n_items],
        )

    # -- rivals ----------------------------------------------------------------------------------------------------

    def _is_sifted(self, loaded: Loaded) -> bool:
        """Whether rivals are taken out of what a model names here, since it does not keep them away itself."""
        return self.surface.goes_with and not loaded.tells_rivals

    def _without_rivals(self, found: Candidates, loaded: Loaded) -> Candidates:
        """A model's answer without rivals; one that can tell them has left out its own, but not what is new to it."""
        if not self.surface.goes_with or len(found) == 0:
            return found
        own = loaded.tells_rivals
        unsure = np.flatnonzero(found.items >= loaded.n_items) if own else np.arange(len(found))
        rival = self._rivals.among(found.items[unsure], by_category=own) if len(unsure) else np.empty(0, bool)
        if not rival.any():
            return found
        kept = np.delete(np.arange(len(found)), unsure[rival])
        return reordered(found, found.scores, kept)

    def _unwanted_of_fallbacks(self, items: Items) -> Mask:
        return self._rivals.among(items, by_category=True)

    @cached_property
    def _rivals(self) -> Rivals:
        """Made when something has to be sifted: the first model that can tell is asked, be it a source or not."""
        asked = [*self.basket, *(() if self.item is None else (self.item,))]
        names = [*map(self._name, self._sources), *self.serving.models]
        for name in dict.fromkeys(names):
            loaded = self.serving.models[name]
            if isinstance(loaded.model, TellsRivals) and (self.item is None or 0 <= self.item < loaded.n_items):
                request = self._request(Source(model=name), self.item, loaded.n_items, self.filling.k, None, None)

                def failed(error: Exception, name: str = name) -> None:
                    self._has_failed("model", name, error)

                return Rivals(self.serving.catalogue, asked, Teller(loaded.model, request, loaded.n_items, failed))
        return Rivals(self.serving.catalogue, asked, None)

    def _boosted(self, found: Candidates) -> Candidates:
        """Candidates by boosted score; a boost above 1 lifts negative scores, too."""
        if not self.serving.catalogue.boosted or len(found) == 0:
            return found
        boost = self.serving.catalogue.boost[found.items]
        scores = np.where(found.scores > 0, found.scores * boost, found.scores / boost)
        return reordered(found, scores, np.argsort(-scores, kind="stable"))

    def _own(self, found: Candidates) -> Candidates:
        """What a model found itself; what it fell back to, named `model/step`, is held."""
        own = np.array(["/" not in by for by in found.source], bool)
        if own.all():
            return found
        self._held.append(reordered(found, found.scores, np.flatnonzero(~own)))
        return reordered(found, found.scores, np.flatnonzero(own))

    # -- fallbacks -------------------------------------------------------------------------------------------------

    def _fall_back(self) -> None:
        """What the models fell back to themselves, then the surface's steps, until the list is full."""
        steps = {
            "other-type": self._other_types,
            "seller": self._popular_with_seller,
            "category": self._popular_in_category,
            "category-pair": self._popular_in_pairs,
            "popular": self._popular,
        }
        for step in [self._take_held, *(steps[name] for name in self.surface.fallback)]:
            if self.filling.missing <= 0:
                return
            before = len(self.filling.picks)
            step()
            if len(self.filling.picks) > before:
                self.helped_by = self.filling.picks[-1].source

    def _take_held(self) -> None:
        for found in self._held:
            self.filling.take(found)

    def _other_types(self) -> None:
        """The same sources, asked as if what stands for the asker had been seen otherwise."""
        for item, did in self._around():
            for source in self._sources:
                for code, name in enumerate(self.serving.release.interactions.names):
                    if code != did and self.filling.missing > 0:
                        self._fill_from(source, code, Instead(item, did, name))

    def _popular_with_seller(self) -> None:
        for seller in self._names_around(self.serving.catalogue.seller):
            order = self.serving.release.popular(self._popular_want, seller=seller)
            self.filling.take_in_order(order, "seller-popularity", Reason("seller", note=seller))

    def _popular_in_category(self) -> None:
        """Popular in the category, new there, popular in the categories above."""
        for category in self._names_around(self.serving.catalogue.category):
            for path in _and_above(category):
                order = self.serving.release.popular(self._popular_want, category=path)
                reason = Reason("category", note=path)
                self.filling.take_in_order(order, "category-popularity", reason)
                self.filling.take_in_order(self.serving.catalogue.new_in(path), "new-in-category", reason)

    def _popular_in_pairs(self) -> None:
        """Popular in the categories that are bought with that of what stands for the asker, one of each in turn."""
        release, filling, asked = self.serving.release, self.filling, set[str]()
        for item, _ in self._around():
            category = self.serving.catalogue.category[item]
            if category is None or category in asked:
                continue
            asked.add(category)
            orders = []
            for other in release.bought_with(category):
                order = release.popular(self._popular_want, category=other)
                order = order if filling.allowed is None else order[filling.allowed[order]]
                orders.append([(number, other) for number in order[: filling.k].tolist()])
            found = dict(row for turn in zip_longest(*orders) for row in turn if row is not None)
            numbers = np.fromiter(found, np.int32, len(found))
            for number in numbers[~self._unwanted_of_fallbacks(numbers)].tolist():
                why = Reason("category", item=item, note=found[number])
                filling.take_in_order(np.array([number], np.int32), "category-pair-popularity", why)

    def _popular(self) -> None:
        """All items, popular ones first, new ones last: the list is full if the rules leave enough of them."""
        catalogue = self.serving.catalogue
        order = self.serving.release.popular(self._popular_want)
        self.filling.take_in_order(order, "recent-popularity", Reason("popular"))
        new = np.arange(len(catalogue) - 1, catalogue.n_released - 1, -1, dtype=np.int32)
        self.filling.take_in_order(new, "new", Reason("rule", note="new in this shop"))

    # -- small things ----------------------------------------------------------------------------------------------

    @property
    def _popular_want(self) -> int:
        return self.serving.default_want if self.want is None else self.want

    def _code(self, interaction: str | None) -> int | None:
        return None if interaction is None else self.serving.release.interactions.code(interaction)

    def _seen_as(self, source: Source) -> int | None:
        return self._code(self.question.seen_as or source.seen_as)

    def _around(self) -> list[tuple[int, int]]:
        """What stands for the asker, with what was done: the item, else the basket, else the last actions."""
        if self.item is not None:
            return [(self.item, self._code(self.question.seen_as) or 0)] if self.item >= 0 else []
        if self.basket:
            return [(item, self.serving.release.interactions.intents[0]) for item in self.basket[: -LOOK_BACK - 1 : -1]]
        past = self.who.history.last(LOOK_BACK)
        return list(zip(past.items[::-1].tolist(), past.interactions[::-1].tolist(), strict=True))

    def _names_around(self, column: Coded) -> list[str]:
        """The categories (or sellers) of what stands for the asker."""
        return list(dict.fromkeys(name for name in (column[item] for item, _ in self._around()) if name))

    def _explained(self, pick: Pick) -> Pick:
        """A pick with a reason, or all; the model is asked where that is wanted, or its candidates had no evidence."""
        if pick.reason is not None and not (self.question.reasons and pick.source in self._asked):
            return pick
        if pick.source in self._asked and "/" not in pick.source:
            loaded, request = self._asked[pick.source]
            try:
                if reasons := loaded.explain(request, pick.item):
                    others = tuple(reasons[1:]) if self.question.reasons else ()
                    return pick._replace(reason=reasons[0], further=(*others, *pick.further))
            except Exception as error:  # an item without its reason is still an item
                self._has_failed("model", pick.source, error)
        return pick._replace(reason=pick.reason or usual_reason(pick.source))


def _at_the_edge(pick: Pick, serving: Serving, told: dict[Hashable, str], *, with_parts: bool) -> AnsweredItem:
    """A pick in the shop's own ids, with its reasons in words; `told` keeps the sentences, of which many are equal."""
    catalogue, reasons = serving.catalogue, []
    for reason in (*(() if pick.reason is None else (pick.reason,)), *pick.further):
        value = reason.value if reason.kind == "relation" else reason.kind == "ranker" and (reason.value or 0) > 0
        key = reason.kind, reason.item, reason.seen_as, reason.want, reason.note, reason.items, value
        if key not in told:
            told[key] = sentence(reason, catalogue, serving.release.interactions)
        reasons.append(told[key])
    if catalogue.boosted and catalogue.boost[pick.item] != 1:
        reasons.append("boosted by the shop" if catalogue.boost[pick.item] > 1 else "held back by the shop")
    score = pick.score if math.isfinite(pick.score) else 0.0
    parts = None
    if with_parts and pick.parts is not None:
        parts = {name: round(value, PLACES) for name, value in pick.parts.items()}
    return AnsweredItem(catalogue.id(pick.item), score, pick.source, reasons, catalogue.title(pick.item), parts)


def _surface(name: str, serving: Serving) -> Surface:
    if name not in serving.surfaces:
        near = difflib.get_close_matches(name, serving.surfaces, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(serving.surfaces)}"
        raise InputError(f"unknown surface {name!r}; {hint}")
    return serving.surfaces[name]


def _and_above(path: str) -> list[str]:
    """`a/b/c` -> `a/b/c`, `a/b`, `a`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
