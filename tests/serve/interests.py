"""A model of several interests that can be computed by hand, with vectors for items that it never saw."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from endcap import models
from endcap.answers import Candidates, Reason, Request, Searcher, Space
from endcap.models import Model, System
from endcap.shop import Shop

N_CATEGORIES = 6
INTERESTS = 2
NAME = "planted-interests"


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing can be set."""


class CategoryInterests(Model):
    """An item is a unit vector for its category (shop/c0 ... shop/c5), twice as long where its title begins with
    "Best", or its vector_look where it has one; the asker's interests are the last two categories of the history.
    """

    system = NAME
    Config = NoSettings

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        self._restore({"vectors": self.encode_items(shop.catalogue)}, {})
        self.attach({})

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"vectors": self.vectors}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self.vectors = arrays["vectors"]
        self.encoded: list[list[str]] = []  # ids of what it was asked to encode
        self.explained: list[int] = []

    def spaces(self) -> Mapping[str, Space]:
        return {"items": Space(np.arange(len(self.vectors), dtype=np.int32), self.vectors)}

    def attach(self, searchers: Mapping[str, Searcher]) -> None:
        self.searcher = searchers.get("items")

    def encode_items(self, table: pa.Table) -> NDArray[np.float32]:
        self.encoded = [*getattr(self, "encoded", []), table["item"].to_pylist()]
        vectors = np.zeros((len(table), N_CATEGORIES), np.float32)
        for row, (title, category) in enumerate(
            zip(table["title"].to_pylist(), table["category"].to_pylist(), strict=True)
        ):
            if category is not None:
                vectors[row, int(category.removeprefix("shop/c"))] = 2 if (title or "").startswith("Best") else 1
        looks = table["vector_look"].to_pylist() if "vector_look" in table.column_names else []
        for row, look in enumerate(looks):
            vectors[row] = vectors[row] if look is None else look
        return vectors

    def queries(self, request: Request) -> NDArray[np.float32]:
        assert all(item < len(self.vectors) for item in request.history.items), "it must not be told of new items"
        liked = dict.fromkeys((request.history.items[::-1] % N_CATEGORIES).tolist())
        return np.eye(N_CATEGORIES, dtype=np.float32)[list(liked)[:INTERESTS]]

    def candidates(self, request: Request) -> Candidates:
        assert self.searcher is not None
        assert request.allowed is None or len(request.allowed) == len(self.vectors)
        items, scores = (
            array.ravel() for array in self.searcher.search(self.queries(request), request.k, request.allowed)
        )
        kept = np.flatnonzero((items >= 0) & (scores > 0))
        order = kept[np.lexsort((items[kept], -scores[kept]))][: request.k]
        return Candidates(items[order], scores[order], [NAME] * len(order))

    def explain(self, request: Request, item: int) -> list[Reason]:
        self.explained.append(item)
        past = request.history.items[::-1]
        return [Reason("interest", items=tuple(past[past % N_CATEGORIES == item % N_CATEGORIES].tolist()))]


def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it a system that can be created and opened by its name."""
    monkeypatch.setitem(models.SYSTEMS, NAME, System("interests:CategoryInterests", "recommend", "a test's model"))
    monkeypatch.setitem(sys.modules, "endcap.models.interests", sys.modules[__name__])
