"""Popularity: what most people act on, whoever asks. The bar that every other system has to pass first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from endcap.answers import Candidates, Evidence, Items, Reason, Request, Scores
from endcap.models.base import Model
from endcap.models.lists import without_own
from endcap.models.search_space import OneOf, SearchSpace
from endcap.shop import Events, Shop, duration

ONE = 1 << 20  # weights are whole numbers of 1 / ONE, so that sums do not depend on the order of the events


class PopularityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Popularity has no settings."""


class RecentPopularityConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of recent popularity."""

    half_life: Annotated[str, Meta(description="an action this old counts half: 12h, 7d, 4w")] = "7d"

    def __post_init__(self) -> None:
        duration(self.half_life)


class Popularity(Model):
    """For each interaction, items by the number of such actions."""

    system = "popularity"
    Config: ClassVar[type[msgspec.Struct]] = PopularityConfig

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        past, n_items, n_kinds = shop.positives, shop.n_items, len(shop.interactions)
        flat = past.interaction.astype(np.int64) * n_items + past.item
        popularity = np.bincount(flat, self._weights(past), n_kinds * n_items).reshape(n_kinds, n_items)
        order = np.argsort(-popularity, axis=1, kind="stable").astype(np.int32)
        seen = (popularity > 0).sum(axis=1)
        self._offsets = np.append(0, np.cumsum(seen))
        self._items = np.concatenate([row[:n] for row, n in zip(order, seen, strict=True)])
        self._scores = popularity[np.repeat(np.arange(n_kinds), seen), self._items].astype(np.float32) / np.float32(ONE)

    def _weights(self, past: Events) -> NDArray[np.float64]:
        return np.full(len(past), ONE, np.float64)

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """The most popular items for the wanted interaction, the same for all but the item itself."""
        best, scores = self._most_popular(want, k + 1, allowed)
        shape = (len(items), k + 1)
        return without_own(np.asarray(items), np.broadcast_to(best, shape), np.broadcast_to(scores, shape))

    def _most_popular(
        self, want: int, k: int, allowed: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k most popular items, (k,), padded."""
        items, scores = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
        rows = np.arange(self._offsets[want], self._offsets[want + 1])
        if allowed is not None:
            rows = rows[allowed[self._items[rows]]]
        rows = rows[:k]
        items[: len(rows)], scores[: len(rows)] = self._items[rows], self._scores[rows]
        return items, scores

    def candidates(self, request: Request) -> Candidates:
        """The most popular items; what the asker did plays no part."""
        asked = np.array([-1 if request.item is None else request.item], np.int32)
        items, scores = self.related_batch(asked, 0, want := self._want(request), request.k, request.allowed)
        found = items[0] >= 0
        n = int(found.sum())
        unknown = np.full(n, -1)
        evidence = Evidence(unknown.astype(np.int32), unknown.astype(np.int8), np.full(n, want, np.int8))
        return Candidates(items[0][found], scores[0][found], [self.system] * n, evidence)

    def explain(self, request: Request, item: int) -> list[Reason]:
        """How many wanted actions the item has had."""
        want = self._want(request)
        rows = slice(self._offsets[want], self._offsets[want + 1])
        where = np.flatnonzero(self._items[rows] == item)
        return [Reason("popular", want=want, value=float(self._scores[rows][row])) for row in where]

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"offsets": self._offsets, "items": self._items, "scores": self._scores}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._offsets, self._items, self._scores = arrays["offsets"], arrays["items"], arrays["scores"]


class RecentPopularity(Popularity):
    """Popularity in which an action's weight halves with every `half_life` before the last event."""

    system = "recent-popularity"
    Config: ClassVar[type[msgspec.Struct]] = RecentPopularityConfig
    config: RecentPopularityConfig
    search_space: ClassVar[SearchSpace] = {"half_life": OneOf("6h", "12h", "1d", "2d", "4d", "7d", "14d", "30d", "90d")}

    def _weights(self, past: Events) -> NDArray[np.float64]:
        age = (past.time.max() - past.time) / duration(self.config.half_life)
        return np.round(ONE * np.exp2(-age))
