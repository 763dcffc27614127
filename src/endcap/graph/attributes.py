"""What a catalogue says of its items, as numbers that graphs are made of. Gaps and nonsense are no errors here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

BANDS = 5  # of price, inside a leaf category


def category_path(text: str | None) -> list[str]:
    """`a/b/c` -> `a`, `a/b`, `a/b/c`: the categories that an item belongs to, the leaf last.

    A category is known by its whole path, so that a tree comes of any list of paths. Blank names on the way are left
    out, and one that comes again (`a/b/a`) is a circle: it counts where it first stands.
    """
    names = dict.fromkeys(name.strip() for name in (text or "").split("/"))
    names.pop("", None)
    parts = list(names)
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


@dataclass(frozen=True, eq=False)
class Categories:
    """A tree of categories, by name in order; -1 stands for none.

    Attributes:
        names: (c,) whole paths; parent: (c,) int32, -1 at the top; depth: (c,) int32, 1 at the top;
        leaf: (n,) int32, the category of each item.
    """

    names: list[str]
    parent: NDArray[np.int32]
    depth: NDArray[np.int32]
    leaf: NDArray[np.int32]

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Categories:
        path_of = {text: category_path(text) for text in set(texts)}
        paths = list(path_of.values())
        names = sorted({name for path in paths for name in path})
        number = {name: place for place, name in enumerate(names)}
        parent, depth = np.full(len(names), -1, np.int32), np.ones(len(names), np.int32)
        for path in paths:
            for level, name in enumerate(path):
                depth[number[name]] = level + 1
                if level:
                    parent[number[name]] = number[path[level - 1]]
        leaf_of = {text: number[path[-1]] if path else -1 for text, path in path_of.items()}
        leaf = np.array([leaf_of[text] for text in texts], np.int32).reshape(len(texts))
        return cls(names, parent, depth, leaf)

    def __len__(self) -> int:
        return len(self.names)

    def branch(self, category: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(row, category) of each of (m,) categories and all above them."""
        rows, found, at = [], [], np.asarray(category)
        row = np.arange(len(at))
        while (known := at >= 0).any():
            row, at = row[known], at[known]
            rows.append(row)
            found.append(at)
            at = self.parent[at]
        if not rows:
            return np.empty(0, np.int64), np.empty(0, np.int32)
        return np.concatenate(rows), np.concatenate(found).astype(np.int32)


def texts_of(table: pa.Table, name: str) -> list[str | None]:
    """A text column, None where the table has no such column or an item no value."""
    if name not in table.column_names:
        return [None] * table.num_rows
    return table[name].cast(pa.string()).to_pylist()


def codes_of(texts: Sequence[str | None]) -> tuple[list[str], NDArray[np.int32]]:
    """The distinct texts in order, and the number of each row's, -1 for none and for blank ones."""
    names = sorted({text for text in texts if text and text.strip()})
    number = {name: place for place, name in enumerate(names)}
    return names, np.array([number.get(text or "", -1) for text in texts], np.int32).reshape(len(texts))


def log_prices(table: pa.Table) -> NDArray[np.float64]:
    """(n,) log(1 + price), NaN where there is none, or one that is no price (below 0, not finite)."""
    if "price" not in table.column_names or pa.types.is_null(table["price"].type):
        return np.full(table.num_rows, np.nan)
    prices = np.asarray(table["price"].cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
    return np.log1p(np.where((prices >= 0) & np.isfinite(prices), prices, np.nan))


class PriceBands:
    """Fifths of the prices inside each group of products; those of all stand for a group without prices.

    Args:
        log_price, group: (n,) of the products the bands are made from, group -1 for none; n_groups: how many there are.
    """

    def __init__(self, log_price: NDArray[np.floating], group: NDArray[np.integer], n_groups: int) -> None:
        shares = np.linspace(0, 1, BANDS + 1)[1:-1]
        self.edges = np.full((n_groups + 1, BANDS - 1), np.nan)  # the last row: of all
        known = np.flatnonzero(np.isfinite(log_price))
        if len(known):
            self.edges[:] = np.quantile(log_price[known], shares)
        order = known[np.argsort(group[known], kind="stable")]
        begin = np.searchsorted(group[order], np.arange(n_groups + 1))
        for number in range(n_groups):
            if begin[number + 1] > begin[number]:
                self.edges[number] = np.quantile(log_price[order[begin[number] : begin[number + 1]]], shares)

    def of(self, log_price: NDArray[np.floating], group: NDArray[np.integer]) -> NDArray[np.int8]:
        """(m,) 0 to 4, cheapest first; -1 without a price."""
        edges = self.edges[np.where(group >= 0, group, len(self.edges) - 1)]
        band = (log_price[:, None] > edges).sum(axis=1).astype(np.int8)
        return np.where(np.isfinite(log_price) & np.isfinite(edges[:, 0]), band, np.int8(-1))
