"""Query parameters as structs: unknown names and repeated values are errors."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec

from endcap.errors import InputError
from endcap.serve.questions import K, Question
from endcap.serve.rules import Rules
from endcap.settings import make_settings

S = TypeVar("S", bound=msgspec.Struct)


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


def read_query(pairs: Iterable[tuple[str, str]]) -> RelatedQuery:
    """Query parameters of a related list, as (name, value) pairs; lists are given by repeating a name.

    Raises:
        InputError: for an unknown name (with the nearest known one), a value out of range, or a repeated single value.
    """
    return _read(RelatedQuery, pairs, "query")


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
