"""Rows of a catalogue as the numbers that item embeddings are made of; what was learnt there, new items are read by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.errors import InputError
from endcap.nn.items import ItemFeatures, ItemSizes
from endcap.shop.text import hashed_n_grams

PRICE_BUCKETS = 20


@dataclass(frozen=True, eq=False)
class FeatureReader:
    """How rows of a catalogue are read: which parts there are, and the row of each name in its table (0: unknown).

    Attributes:
        text: ngrams, none or the name of a vector column; grams: (n,) ascending hash buckets that occur, row r of the
        text table being grams[r]; idf: (n,) their weights; prices: edges of the price buckets; vector: length of the
        given vectors.
    """

    text: str
    buckets: int
    at_most: int
    levels: int
    n_ids: int
    grams: NDArray[np.int64]
    idf: NDArray[np.float32]
    categories: Mapping[str, int]
    brands: Mapping[str, int]
    prices: NDArray[np.float64]
    vector: int

    @classmethod
    def of(
        cls,
        table: pa.Table,
        *,
        text: str,
        buckets: int,
        at_most: int,
        levels: int,
        ids: bool,
        where: str,
        least: int = 1,
    ) -> FeatureReader:
        """What a catalogue has; n-grams that fewer than `least` of its titles have are left out.

        Raises:
            InputError: for a vector column that it lacks.
        """
        grams, counts = np.empty(0, np.int64), np.empty(0, np.int64)
        vector = 0
        if text == "ngrams":
            found = hashed_n_grams(_texts(table, "title"), buckets, at_most)[1]
            grams, counts = np.unique(found, return_counts=True)
            grams, counts = grams[counts >= least], counts[counts >= least]
        elif text != "none":
            if text not in table.column_names:
                given = [name for name in table.column_names if name.startswith("vector_")]
                has = f"it has {', '.join(given)}" if given else "it has no vector_ columns"
                raise InputError(f"{where}: text={text}: the shop's items have no such column; {has}")
            vector = _width(table[text])
        categories = sorted({path for texts in _levels(_texts(table, "category"), levels) for path in texts})
        brands = sorted({brand for brand in _texts(table, "brand") if brand})
        prices = _prices(table)
        known = prices[np.isfinite(prices)]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, PRICE_BUCKETS + 1)[1:-1])) if len(known) else known
        return cls(
            text, buckets, at_most, levels, table.num_rows if ids else 0,
            grams, (1 + np.log((1 + table.num_rows) / (1 + counts))).astype(np.float32),
            {name: row + 1 for row, name in enumerate(categories)}, {name: row + 1 for row, name in enumerate(brands)},
            edges, vector,
        )  # fmt: skip

    @property
    def sizes(self) -> ItemSizes:
        """Rows of the tables."""
        return ItemSizes(
            text=len(self.grams),
            category=len(self.categories) + 1 if self.categories else 0,
            brand=len(self.brands) + 1 if self.brands else 0,
            price=len(self.prices) + 2 if len(self.prices) else 0,
            vectors=self.vector,
            id=self.n_ids,
        )

    def read(self, table: pa.Table, *, own_ids: bool) -> ItemFeatures:
        """Features of the rows of a catalogue.

        Args:
            own_ids: the rows are the items that were learnt, in their order; else none has an id row.
        """
        n, sizes = table.num_rows, self.sizes
        offsets = text = weight = None
        if sizes.text:
            offsets, text, weight = self._text(_texts(table, "title"))
        category = brand = price = vectors = ids = None
        if sizes.category:
            category = np.zeros((n, self.levels), np.int64)
            for row, paths in enumerate(_levels(_texts(table, "category"), self.levels)):
                category[row, : len(paths)] = [self.categories.get(path, 0) for path in paths]
        if sizes.brand:
            brand = np.array([self.brands.get(name or "", 0) for name in _texts(table, "brand")], np.int64)
        if sizes.price:
            values = _prices(table)
            price = np.where(np.isfinite(values), np.searchsorted(self.prices, values) + 1, 0)
        if sizes.vectors:
            vectors = _vectors(table, self.text, self.vector)
        if sizes.id and own_ids:
            ids = np.arange(n)
        return ItemFeatures(n, offsets, text, weight, category, brand, price, vectors, ids)

    def _text(self, texts: Sequence[str | None]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Known n-grams of each text: offsets, rows of the table, and their weights, of length 1 for each text."""
        offsets, buckets = hashed_n_grams(texts, self.buckets, self.at_most)
        row = np.minimum(np.searchsorted(self.grams, buckets), len(self.grams) - 1)
        known = self.grams[row] == buckets
        offsets, row = np.append(0, np.cumsum(known))[offsets], row[known]
        weight = self.idf[row]
        of_text = np.repeat(np.arange(len(texts)), np.diff(offsets))
        length = np.sqrt(np.bincount(of_text, weight.astype(np.float64) ** 2, len(texts)))
        return offsets, row, (weight / length[of_text]).astype(np.float32)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learnt of texts, to store."""
        return {"text-grams": self.grams, "text-idf": self.idf}

    def learned(self) -> dict[str, Any]:
        """The rest, for the manifest."""
        return {
            "text": self.text, "buckets": self.buckets, "at_most": self.at_most, "levels": self.levels,
            "n_ids": self.n_ids, "categories": list(self.categories),
            "brands": list(self.brands), "prices": self.prices.tolist(), "vector": self.vector,
        }  # fmt: skip

    @classmethod
    def restored(cls, learned: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> FeatureReader:
        """What `learned` and `arrays` gave."""
        rows = {name: {key: row + 1 for row, key in enumerate(learned[name])} for name in ("categories", "brands")}
        return cls(
            **{
                **learned,
                **rows,
                "grams": arrays["text-grams"],
                "idf": arrays["text-idf"],
                "prices": np.array(learned["prices"], np.float64),
            }
        )


def _texts(table: pa.Table, name: str) -> list[str | None]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return table[name].cast(pa.string()).to_pylist()


def _levels(texts: Sequence[str | None], levels: int) -> list[list[str]]:
    """`a/b/c` -> the paths `a`, `a/b`, `a/b/c`, at most so many."""
    found = []
    for text in texts:
        parts = text.split("/")[:levels] if text else []
        found.append(["/".join(parts[: depth + 1]) for depth in range(len(parts))])
    return found


def _prices(table: pa.Table) -> NDArray[np.float64]:
    """log1p of the prices, NaN where unknown."""
    if "price" not in table.column_names or pa.types.is_null(table["price"].type):
        return np.full(table.num_rows, np.nan)
    prices = np.asarray(table["price"].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    return np.log1p(np.where(prices >= 0, prices, np.nan))


def _width(column: pa.ChunkedArray) -> int:
    return next((len(value) for value in column.to_pylist() if value is not None), 0)


def _vectors(table: pa.Table, name: str, width: int) -> NDArray[np.float32]:
    """(n, width), NaN rows where unknown."""
    found = np.full((table.num_rows, width), np.nan, np.float32)
    if name in table.column_names:
        for row, value in enumerate(table[name].to_pylist()):
            if value is not None and len(value) == width:
                found[row] = value
    return found
