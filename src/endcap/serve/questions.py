"""Questions and answers in the shop's own ids: what comes in over HTTP or the command line, and what goes out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from endcap.errors import InputError
from endcap.serve.events import id_problem
from endcap.serve.rules import NO_RULES, Rules

MAX_K = 500
MAX_BASKET = 500
CROSS_SELL = "cross-sell"  # the surface of what goes with an item or a basket
K = Annotated[int, Meta(ge=1, le=MAX_K, description="how many items; 1 to 500")]


class Action(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """Something the asker did just now: an item and an interaction; without times, the oldest first."""

    item: str
    interaction: str = "click"
    time: datetime | int | float | None = None


class Question(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, kw_only=True):
    """What is asked: about an item, for a basket, or for a person known by id, by recent actions, or both.

    `parts`: also what scores are made of; `reasons`: all that a model says of an item, not only the first of it;
    `left_out`: also the rivals that were kept out of the list.
    """

    user: str | None = None
    actions: Annotated[tuple[Action, ...], Meta(max_length=1000)] = ()
    basket: Annotated[tuple[str, ...], Meta(max_length=MAX_BASKET)] = ()
    item: str | None = None
    seen_as: str | None = None
    want: str | None = None
    surface: str | None = None
    k: K | None = None
    filters: Rules = NO_RULES
    parts: bool = False
    reasons: bool = False
    left_out: bool = False

    @property
    def default_surface(self) -> str:
        """The surface that such a question comes from, where none is named."""
        if self.item is not None:
            return "item-page"
        return "cart-page" if self.basket else "home"

    def check(self) -> None:
        """Refuse what cannot be an id, and names that are empty.

        Raises:
            InputError: naming the field.
        """
        named = (("seen_as", self.seen_as), ("want", self.want), ("surface", self.surface))
        for what, text in (*self._ids(), *((what, text) for what, text in named if text is not None)):
            if problem := id_problem(text, what):
                raise InputError(problem)

    def _ids(self) -> Iterator[tuple[str, str]]:
        if self.user is not None:
            yield "user", self.user
        if self.item is not None:
            yield "item", self.item
        yield from (("an item of the basket", item) for item in self.basket)
        yield from (("an item of the actions", action.item) for action in self.actions)


class BasketQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True, kw_only=True):
    """What goes with a basket, and maybe with what is known of the person who fills it; see `Question`."""

    basket: Annotated[tuple[str, ...], Meta(max_length=MAX_BASKET, description="the items that lie in it")]
    user: str | None = None
    actions: Annotated[tuple[Action, ...], Meta(max_length=1000)] = ()
    surface: str = CROSS_SELL
    k: K | None = None
    filters: Rules = NO_RULES
    parts: bool = False
    reasons: bool = False
    left_out: bool = False

    def question(self) -> Question:
        """
        Raises:
            InputError: for an empty basket.
        """
        if not self.basket:
            raise InputError(
                'the basket is empty: name what lies in it, as in {"basket": ["i1"]}; POST /v1/recommend needs none'
            )
        return Question(**{name: getattr(self, name) for name in self.__struct_fields__})


class AnsweredItem(msgspec.Struct, omit_defaults=True, frozen=True):
    """One recommended item, the step that found it, and why, in sentences.

    `parts`, where they were asked for and its source has them: `similarity` x `complement` (the probability that it
    goes with what was asked about) x `recency` is `final`, the score before boosts.
    """

    item: str
    score: float
    source: str
    reasons: list[str]
    title: str | None = None
    parts: dict[str, float] | None = None


class LeftOutItem(msgspec.Struct, omit_defaults=True, frozen=True):
    """An item that lay near and is more likely a rival: `complement` is the probability that it goes with the rest."""

    item: str
    reason: str
    complement: float
    title: str | None = None


class Answer(msgspec.Struct, omit_defaults=True, frozen=True):
    """A list, best first.

    `fallback` is the last step that had to help out, where the surface's own sources did not fill the list; `stale`
    that the release is older than it should be; `notes` what else the asker should know; `left_out` the rivals that
    were met, the nearest first and no more than `k`, where that was asked.
    """

    request_id: str
    release: str
    items: list[AnsweredItem]
    fallback: str | None = None
    stale: bool = False
    notes: list[str] = []
    left_out: list[LeftOutItem] = []
