"""Query parameters as structs: unknown names and repeated values are errors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec

from endcap.errors import InputError
from endcap.serve.questions import CROSS_SELL, K, Question
from endcap.serve.rules import Rules
from endcap.settings import make_settings

S = TypeVar("S", bound=msgspec.Struct)
Q = TypeVar("Q", bound="RelatedQuery")


class RelatedQuery(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query parameters of a related list: how the item was seen, what is wanted, and filters."""

    seen_as: str | None = None
    want: str | None = None
    k: K | None = None
    surface: str | None = None
    user: str | None = None

    def question(self, item: str) -> Question:
        """The question about one item."""
        filters = Rules(**{name: getattr(self, name) for name in Rules.__struct_fields__})
        return Question(
            item=item,
            user=self.user,
            seen_as=self.seen_as,
            want=self.want,
            k=self.k,
            surface=self.surface,
            filters=filters,
        )


class CrossSellQuery(RelatedQuery, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The query parameters of what goes with an item: those of a related list, and how much is said of the answer."""

    parts: bool = False
    reasons: bool = False
    left_out: bool = False

    def question(self, item: str) -> Question:
        """The question about one item."""
        said = {"parts": self.parts, "reasons": self.reasons, "left_out": self.left_out}
        return msgspec.structs.replace(super().question(item), surface=self.surface or CROSS_SELL, **said)


def read_query(kind: type[Q], pairs: Iterable[tuple[str, str]]) -> Q:
    """Query parameters of a list about an item, as (name, value) pairs; lists are given by repeating a name.

    Raises:
        InputError: for an unknown name (with the nearest known one), a value out of range, or a repeated single value.
    """
    return _read(kind, pairs, "query")


def read_filters(pairs: Iterable[tuple[str, str]]) -> Rules:
    """Rules from (name, value) pairs, as in a query.

    Raises:
        InputError: as `read_query`.
    """
    return _read(Rules, pairs, "filters")


def _read(kind: type[S], pairs: Iterable[tuple[str, Any]], where: str) -> S:
    lists = _lists(kind)
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise InputError(f"{where}: {name} is given more than once")
        else:
            values[name] = value
    return make_settings(kind, values, where=where)


@cache
def _lists(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Fields that may be given more than once."""
    return frozenset(field.name for field in msgspec.structs.fields(kind) if isinstance(field.default, tuple))
