"""Node features as a shop knew them at the end of a view: finite numbers, by group, so that a model can take some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.attributes import Categories, PriceBands, category_path, codes_of, log_prices, texts_of
from endcap.graph.occasions import WEEKS, week_of_year
from endcap.graph.texts import TextVectors
from endcap.shop.purchases import Purchases
from endcap.shop.text import hashed

DAY = 86_400_000_000  # microseconds
SIGNED = 16  # numbers that a name is folded into
TEXT = 64  # numbers that a title is folded into
FURTHEST = 5.0  # standard deviations
SPANS = (7, 30, 90)  # days back of a sales velocity
HARMONICS = 2  # of a year


@dataclass(frozen=True, eq=False)
class Nodes:
    """Nodes of one type.

    Attributes:
        features: (n, d) float32, finite; groups: the columns of each group of features, [first, last);
        names: (n,) of categories, brands and occasions; products and users have those of the shop's vocabularies.
    """

    features: NDArray[np.float32]
    groups: Mapping[str, tuple[int, int]]
    names: Sequence[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.features)

    def group(self, name: str) -> NDArray[np.float32]:
        """The features of one group.

        Raises:
            InputError: if there is no such group.
        """
        if name not in self.groups:
            raise InputError(f"no features {name!r}; there are {', '.join(self.groups) or 'none'}")
        return self.features[:, slice(*self.groups[name])]


def nodes_of(parts: Mapping[str, NDArray[np.floating]], names: Sequence[str] = ()) -> Nodes:
    """Nodes from groups of features (n, d); what is no finite number becomes 0.

    Raises:
        InputError: if the groups differ in length.
    """
    if len({len(part) for part in parts.values()}) != 1:
        raise InputError(f"features: groups of different length, {[len(part) for part in parts.values()]}")
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    groups = {name: (int(end) - part.shape[1], int(end)) for (name, part), end in zip(parts.items(), ends, strict=True)}
    found = np.hstack([np.asarray(part, np.float32) for part in parts.values()])
    return Nodes(np.where(np.isfinite(found), found, np.float32(0)), groups, list(names))


class Scale:
    """Columns brought to mean 0 and deviation 1 as they were where learnt; unknown (NaN) is 0, and so is no variety."""

    def __init__(self, columns: NDArray[np.floating]) -> None:
        known = np.where(np.isfinite(columns), columns, np.nan)
        n = np.maximum(np.isfinite(known).sum(axis=0), 1)
        self.mean = np.nansum(known, axis=0) / n
        self.deviation = np.sqrt(np.nansum((known - self.mean) ** 2, axis=0) / n)

    def of(self, columns: NDArray[np.floating]) -> NDArray[np.float32]:
        """(m, d), no further from 0 than five deviations."""
        varied = self.deviation > 1e-9
        scaled = (columns - self.mean) / np.where(varied, self.deviation, 1) * varied
        return np.clip(np.where(np.isfinite(scaled), scaled, 0), -FURTHEST, FURTHEST).astype(np.float32)


class ProductFeatures:
    """How products are described: learnt from the known ones, and read off a catalogue row for those that come later.

    Groups: `sales` (purchases ever and within 7, 30 and 90 days, trend, days since the first and the last), `price`
    (logarithm, band in its leaf, whether known), `category` and `brand` (folded names; depth), `text` (folded n-grams)
    and one for each `vector_*` of the catalogue (unit length).
    """

    def __init__(self, catalogue: pa.Table, bought: Purchases, until: int) -> None:
        """
        Args:
            until: sales are counted back from here, microseconds.
        """
        self.tree = Categories.of(texts_of(catalogue, "category"))
        self.brands, self.brand = codes_of(texts_of(catalogue, "brand"))
        self.log_price = log_prices(catalogue)
        self._bands = PriceBands(self.log_price, self.tree.leaf, len(self.tree))
        self.band = self._bands.of(self.log_price, self.tree.leaf)
        self._text = TextVectors(texts_of(catalogue, "title"))
        self._vectors = {name: _width(catalogue[name]) for name in catalogue.column_names if name[:7] == "vector_"}
        sales = _sales(bought.item, bought.time, catalogue.num_rows, until)
        self._scale, self._price_scale = Scale(sales), Scale(self.log_price[:, None])
        self._unsold = _sales(np.empty(0, np.int32), np.empty(0, np.int64), 1, until)
        has_text = self._text.vectors.nnz > 0
        self._groups = ["sales", *["price"] * bool(np.isfinite(self.log_price).any())]
        self._groups += [name for name, known in (("category", len(self.tree)), ("brand", len(self.brands))) if known]
        self._groups += [*["text"] * has_text, *(name for name, width in self._vectors.items() if width)]
        self.known = self._nodes(catalogue, sales, self.band, self._text.vectors)

    def new(self, table: pa.Table) -> NDArray[np.float32]:
        """(m, d): the features of products that nobody has bought yet, in the columns of `known`."""
        number = {name: place for place, name in enumerate(self.tree.names)}
        paths = [category_path(text) for text in texts_of(table, "category")]
        leaf = np.array([number.get(path[-1], -1) if path else -1 for path in paths], np.int32).reshape(len(paths))
        text = self._text.read(texts_of(table, "title"))
        sales = np.repeat(self._unsold, table.num_rows, axis=0)
        return self._nodes(table, sales, self._bands.of(log_prices(table), leaf), text).features

    def _nodes(self, table: pa.Table, sales: NDArray, band: NDArray[np.int8], text: csr_array) -> Nodes:
        log_price = log_prices(table)
        known = np.isfinite(log_price)
        parts: dict[str, NDArray] = {"sales": self._scale.of(sales)}
        for group in self._groups[1:]:
            if group == "price":
                scaled = self._price_scale.of(log_price[:, None])[:, 0]
                parts[group] = np.column_stack([scaled, np.where(band >= 0, band / 2.0 - 1, 0), known])
            elif group == "category":
                parts[group] = folded_paths(texts_of(table, "category"))
            elif group == "brand":
                parts[group] = _directions(texts_of(table, "brand"))
            elif group == "text":
                parts[group] = self._text.folded(text, TEXT)
            else:
                parts[group] = _unit_vectors(table, group, self._vectors[group])
        return nodes_of(parts)


def user_features(bought: Purchases, n_users: int, products: ProductFeatures, until: int) -> Nodes:
    """`habits` (baskets, items a basket, recency, time known, items each once), `tastes` (price, its spread, loyalty to
    a brand) and `categories` (share of purchases in each top category, folded).
    """
    user, item = bought.user, bought.item
    n = np.bincount(user, minlength=n_users).astype(float)
    first_of_basket = np.append(True, bought.basket[1:] != bought.basket[:-1])[: len(user)]
    baskets = np.bincount(user[first_of_basket], minlength=n_users)
    last, first = np.full(n_users, -np.inf), np.full(n_users, np.inf)
    np.maximum.at(last, user, bought.time)
    np.minimum.at(first, user, bought.time)
    some = n > 0
    different = np.bincount(np.unique(np.stack([user, item]), axis=1)[0], minlength=n_users)
    habits = np.column_stack(
        [
            np.log1p(baskets),
            _over(n, baskets),
            np.where(some, np.log1p(np.maximum(until - last, 0) / DAY), np.nan),
            np.where(some, np.log1p(np.maximum(until - first, 0) / DAY), np.nan),
            _over(different, n),
        ]
    )
    price = products.log_price[item]
    mean, spread = _mean_and_spread(price, user, n_users)
    tastes = np.column_stack([mean, spread, _loyalty(user, products.brand[item], n_users)])
    top = _top_category(products.tree)[products.tree.leaf[item]] if len(products.tree) else np.full(len(item), -1)
    folded = _directions(products.tree.names)
    affinity = np.zeros((n_users, SIGNED))
    np.add.at(affinity, user[top >= 0], folded[top[top >= 0]])
    return nodes_of(
        {
            "habits": Scale(habits).of(habits),
            "tastes": Scale(tastes).of(tastes),
            "categories": affinity / np.maximum(n, 1)[:, None],
        }
    )


def category_features(bought: Purchases, products: ProductFeatures) -> Nodes:
    """`size` (products, purchases, average price, depth) and `season`, of a category with all below it."""
    tree = products.tree
    rows, category = tree.branch(tree.leaf)
    of_sale, category_of_sale = tree.branch(tree.leaf[bought.item])
    price, _ = _mean_and_spread(products.log_price[rows], category, len(tree))
    size = np.column_stack(
        [
            np.log1p(np.bincount(category, minlength=len(tree))),
            np.log1p(np.bincount(category_of_sale, minlength=len(tree))),
            price,
            tree.depth.astype(float),
        ]
    )
    season = seasons(bought.time[of_sale], category_of_sale, len(tree), bought.time)
    names = folded_paths(tree.names)
    return nodes_of({"size": Scale(size).of(size), "season": season, "name": names}, tree.names)


def brand_features(bought: Purchases, products: ProductFeatures) -> Nodes:
    """`standing` (products, share of the purchases, price against the leaf's, price, loyalty of its buyers)."""
    n = len(products.brands)
    brand = products.brand[bought.item]
    held, sold = products.brand >= 0, brand >= 0
    banded = held & (products.band >= 0)
    tier, _ = _mean_and_spread(products.band[banded].astype(float), products.brand[banded], n)
    price, _ = _mean_and_spread(products.log_price[held], products.brand[held], n)
    again = np.unique(np.stack([brand[sold], bought.user[sold], bought.basket[sold]]), axis=1)
    pairs, times = np.unique(again[:2], axis=1, return_counts=True)
    buyers = np.bincount(pairs[0], minlength=n)
    standing = np.column_stack(
        [
            np.log1p(np.bincount(products.brand[held], minlength=n)),
            np.log1p(np.bincount(brand[sold], minlength=n)),
            tier,
            price,
            _over(np.bincount(pairs[0][times > 1], minlength=n), buyers),
        ]
    )
    names = _directions(products.brands)
    return nodes_of({"standing": Scale(standing).of(standing), "name": names}, products.brands)


def occasion_features(
    of_items: csr_array, weeks: NDArray[np.float32], bought: Purchases, products: ProductFeatures
) -> Nodes:
    """`season`, `categories` (mix of the top ones, folded) and `basket` (value of its products' baskets, products)."""
    n = of_items.shape[1]
    angle = 2 * np.pi * (np.arange(WEEKS) + 0.5) / WEEKS
    season = np.hstack(
        [weeks @ np.column_stack([np.cos(h * angle), np.sin(h * angle)]) for h in range(1, HARMONICS + 1)]
    )
    tree = products.tree
    folded = np.zeros((len(products.log_price), SIGNED))
    if len(tree):
        top = _top_category(tree)[tree.leaf]
        folded[top >= 0] = _directions(tree.names)[top[top >= 0]]
    held = np.maximum(np.asarray(of_items.sum(axis=0)).ravel(), 1e-9)
    price = np.where(np.isfinite(products.log_price), np.expm1(products.log_price), 0)
    value = np.bincount(bought.basket, price[bought.item])
    of_item = _over(
        np.bincount(bought.item, value[bought.basket], len(price)), np.bincount(bought.item, minlength=len(price))
    )
    basket = np.column_stack([np.log1p((of_items.T @ np.nan_to_num(of_item)) / held), np.log1p(held)])
    return nodes_of(
        {"season": season, "categories": (of_items.T @ folded) / held[:, None], "basket": Scale(basket).of(basket)},
        [f"occasion {number + 1}" for number in range(n)],
    )


def seasons(
    time: NDArray[np.int64], group: NDArray[np.integer], n: int, usual: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n, 4): yearly waves in the lift of each group's purchases, cosine and sine of one and of two a year.

    Args:
        time, group: of purchases; usual: the times of all, so that a log of half a year has no season of its own.
    """
    of_week = np.bincount(week_of_year(usual), minlength=WEEKS)
    share = of_week / max(of_week.sum(), 1)
    seen = np.zeros((n, WEEKS))
    np.add.at(seen, (group, week_of_year(time)), 1)
    lift = (seen + 10 * share) / (seen.sum(axis=1, keepdims=True) + 10) - share
    angle = 2 * np.pi * (np.arange(WEEKS) + 0.5) / WEEKS
    return np.column_stack([lift @ wave(h * angle) for h in range(1, HARMONICS + 1) for wave in (np.cos, np.sin)])


def signs(name: str | None) -> NDArray[np.float32]:
    """(16,) of length 1: a direction for a name, all zero for none."""
    if not name or not name.strip():
        return np.zeros(SIGNED, np.float32)
    bits = hashed(name)
    return np.array([1 if bits >> place & 1 else -1 for place in range(SIGNED)], np.float32) / np.sqrt(SIGNED)


def folded_paths(texts: Sequence[str | None]) -> NDArray[np.float32]:
    """(n, 17): the mean direction of a category and those above it, so that near ones are alike; and its depth."""
    names, row_of = _distinct(texts)
    found = np.zeros((len(names), SIGNED + 1), np.float32)
    for row, text in enumerate(names):
        path = category_path(text)
        found[row, :SIGNED] = sum((signs(name) for name in path), np.zeros(SIGNED, np.float32)) / max(len(path), 1)
        found[row, SIGNED] = len(path) / 4
    return found[row_of]


def _directions(texts: Sequence[str | None]) -> NDArray[np.float32]:
    """(n, 16): `signs` of each."""
    names, row_of = _distinct(texts)
    return np.array([signs(name) for name in names], np.float32).reshape(-1, SIGNED)[row_of]


def _distinct(texts: Sequence[str | None]) -> tuple[list[str | None], NDArray[np.int64]]:
    """The different texts, and which one each is."""
    number: dict[str | None, int] = {}
    row_of = np.array([number.setdefault(text, len(number)) for text in texts], np.int64)
    return list(number), row_of


def _sales(item: NDArray[np.integer], time: NDArray[np.int64], n_items: int, until: int) -> NDArray[np.float64]:
    age = (until - time) / DAY
    ever = np.bincount(item, minlength=n_items)
    recent = [np.bincount(item[age <= days], minlength=n_items) for days in SPANS]
    before = np.bincount(item[(age > SPANS[1]) & (age <= 2 * SPANS[1])], minlength=n_items)
    first, last = np.full(n_items, np.nan), np.full(n_items, np.nan)
    sold = ever > 0
    order = np.argsort(time, kind="stable")
    last[item[order]] = age[order]  # of several the last stays
    first[item[order[::-1]]] = age[order[::-1]]
    return np.column_stack(
        [
            np.log1p(ever),
            *(np.log1p(count) for count in recent),
            np.log((1 + recent[1]) / (1 + before)),
            np.log1p(np.maximum(first, 0)),
            np.log1p(np.maximum(last, 0)),
            sold,
        ]
    )


def _over(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    """a / b, NaN where b is 0."""
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _mean_and_spread(values: NDArray, group: NDArray[np.integer], n: int) -> tuple[NDArray, NDArray]:
    known = np.isfinite(values)
    values, group = values[known], group[known]
    count = np.bincount(group, minlength=n)
    mean = _over(np.bincount(group, values, n), count)
    square = _over(np.bincount(group, values**2, n), count)
    return mean, np.sqrt(np.maximum(square - mean**2, 0))


def _loyalty(user: NDArray[np.int32], brand: NDArray[np.int32], n_users: int) -> NDArray[np.float64]:
    """(n_users,) share of a user's purchases of known brands that go to the one bought most."""
    user, brand = user[brand >= 0], brand[brand >= 0]
    pairs, times = np.unique(np.stack([user, brand]), axis=1, return_counts=True)
    most = np.zeros(n_users)
    np.maximum.at(most, pairs[0], times)
    return _over(most, np.bincount(user, minlength=n_users))


def _top_category(tree: Categories) -> NDArray[np.int32]:
    """(c + 1,): the uppermost category above each; the last one, which -1 reaches, has none."""
    top = np.append(np.arange(len(tree), dtype=np.int32), np.int32(-1))
    for number in np.argsort(tree.depth, kind="stable"):
        if tree.parent[number] >= 0:
            top[number] = top[tree.parent[number]]
    return top


def _width(column: pa.ChunkedArray) -> int:
    return next((len(value) for value in column.to_pylist() if value is not None), 0)


def _unit_vectors(table: pa.Table, name: str, width: int) -> NDArray[np.float32]:
    """(n, width) of length 1; all zero where there is none, or one that holds no numbers."""
    found = np.zeros((table.num_rows, width), np.float32)
    for row, value in enumerate(table[name].to_pylist() if name in table.column_names else []):
        if value is not None and len(value) == width:
            vector = np.array(value, np.float64)
            length = np.linalg.norm(vector)
            if np.isfinite(length) and length > 0:
                found[row] = vector / length
    return found
