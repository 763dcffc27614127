"""What tells a complement from a substitute: numbers of a pair of items, in five groups, and its links where given.

Columns that name this and that have a direction and change places when the items do; all others are the same for (i, j)
and (j, i). NaN: not known. A shop without views, returns, categories or prices knows
less, and what it does not know is NaN, not 0. Of a pair that nobody looked at or bought both of, all behaviour is
unknown: of most pairs of a catalogue that says nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.edges import graph_of
from endcap.models.complement.alike import ALIKE_NAMES, WIDTH, alike_columns
from endcap.models.complement.columns import N_COLUMNS, fill_behaviour, fill_catalogue
from endcap.models.complement.counts import BOUGHT, IN_ROW, PairCounts, count_pairs
from endcap.models.complement.links import LINK_NAMES, Links
from endcap.models.complement.missing import leaves_with_guesses
from endcap.shop import Shop

MOST_LEVELS = 8  # of a category's path that are compared
PER_ITEM = 200
WINDOW_DAYS, RETURN_DAYS = 30.0, 30.0

OF_GROUP: dict[str, tuple[str, ...]] = {
    "category": ("same leaf", "shared levels", "share of levels", "bought together", "viewed together"),
    "price": ("log ratio", "ratio"),
    "brand": ("same", "same in one leaf", "unknown"),
    "temporal": (
        "viewed", "bought", "viewed beside chance", "bought beside chance", "viewed to bought", "in one order",
        "median gap", "in a row", "back and forth", "that bought after viewing this", "this bought after viewing that",
        "that after this",
    ),
    "returns": (
        "that after this", "this after that", "that after this beside chance", "this after that beside chance",
    ),
}  # fmt: skip
FIRST = "temporal: that after this"  # a share: the rest of it is this after that
OTHER = {"this": "that", "that": "this"}
LINKS = "links"
BEHAVIOUR = ("temporal", "returns")  # groups of which nothing is known of an unmet pair
COPIES = 0.25  # of pairs that met, taught as if they had not: weight beside those that did not meet
LEAST_COPIES = 10  # pairs
GROUPS = (*OF_GROUP, LINKS)

Floats = NDArray[np.float32]
Items = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class PairFacts:
    """What is known of items and pairs at the end of a view; arrays alone, so that they are stored as they are.

    Attributes:
        levels: (n_items, MOST_LEVELS) int32 numbers of the paths `a`, `a/b`, `a/b/c`, -1 behind the last;
        leaf: (n_items,) int32 number of the whole path, guessed where none is said and it is as good as sure (see
        `missing`); brand: (n_items,) int32; -1 where unknown;
        price: (n_items,) float32, NaN where unknown;
        keys, counts, of_item, totals: see `counts.PairCounts`;
        leaf_keys: (p,) ascending pairs of leaves, a * n_leaves + b, that occur; leaf_counts: (p, 2) how often items of
        them were bought together, and viewed together; leaf_mass: (2, n_leaves) the same of a leaf with any other;
        link_offsets, link_others: see `Links`; empty where no links are given.
    """

    levels: NDArray[np.int32]
    leaf: NDArray[np.int32]
    brand: NDArray[np.int32]
    price: Floats
    keys: NDArray[np.int64]
    counts: Floats
    of_item: Floats
    totals: NDArray[np.float64]
    leaf_keys: NDArray[np.int64]
    leaf_counts: Floats
    leaf_mass: NDArray[np.float64]
    link_offsets: NDArray[np.int64]
    link_others: Items

    @classmethod
    def of(
        cls,
        shop: Shop,
        links: Links | None = None,
        *,
        window_days: float = WINDOW_DAYS,
        return_days: float = RETURN_DAYS,
        per_item: int = PER_ITEM,
        threads: int = 1,
    ) -> Self:
        """The facts at the end of a view; see `count_pairs` for the numbers.

        Raises:
            InputError: if the links are of another shop.
        """
        pairs = count_pairs(
            shop, window_days=window_days, return_days=return_days, per_item=per_item, threads=threads
        )  # fmt: skip
        leaf, levels = _with_guesses(shop, *_paths(shop.catalogue), pairs)
        n_leaves = int(leaf.max(initial=-1)) + 1
        leaf_keys, leaf_counts, leaf_mass = _of_leaves(leaf, n_leaves, pairs.together, pairs.viewed)
        nothing = Links(np.zeros((0, shop.n_items + 1), np.int64), np.empty(0, np.int32))
        facts = cls(
            levels=levels,
            leaf=leaf,
            brand=_codes(shop.catalogue, "brand"),
            price=_prices(shop.catalogue),
            keys=pairs.keys,
            counts=pairs.counts,
            of_item=pairs.of_item,
            totals=pairs.totals,
            leaf_keys=leaf_keys,
            leaf_counts=leaf_counts,
            leaf_mass=leaf_mass,
            link_offsets=nothing.offsets,
            link_others=nothing.others,
        )
        return facts if links is None else facts.with_links(links)

    @property
    def n_items(self) -> int:
        return len(self.leaf)

    @property
    def links(self) -> Links | None:
        """None where none are given."""
        return Links(self.link_offsets, self.link_others) if len(self.link_offsets) else None

    def with_links(self, links: Links) -> Self:
        """The same with these links.

        Raises:
            InputError: if they are over other items.
        """
        if links.n_items != self.n_items:
            raise InputError(f"links: over {links.n_items:,} items, the shop has {self.n_items:,}")
        return replace(self, link_offsets=links.offsets, link_others=links.others)

    def with_links_of_log(self) -> Self:
        """The same with what one person bought within the window, and what was looked at in a row, as its links."""
        shape = (self.n_items, self.n_items)
        ends = [
            np.divmod(np.asarray(self.keys)[self.counts[:, column] > 0], max(self.n_items, 1))
            for column in (BOUGHT, IN_ROW)
        ]
        return self.with_links(Links.of(*(graph_of(low, high, shape=shape) for low, high in ends)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, to store."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def groups_of_columns(self) -> list[str]:
        """The group of each column of `pair_features`."""
        return [name.partition(": ")[0] for name in pair_names(self)]


class Lesson(NamedTuple):
    """What is learnt from: `pair_features` (n, f) of (i, j), those of (j, i), and labels (n,), true for complements.

    The labels have no direction, so both are learnt, and the answer is the mean of both. A graph network also needs
    left and right, the items (n,). `weights` (n,) say how much each pair counts; None: all the same.
    """

    rows: Floats
    back: Floats
    labels: NDArray[np.bool_]
    left: NDArray[np.integer] | None = None
    right: NDArray[np.integer] | None = None
    weights: NDArray[np.float64] | None = None

    @property
    def both(self) -> tuple[Floats, NDArray[np.bool_]]:
        """(2 n, f) and (2 n,): each pair both ways."""
        return np.concatenate([self.rows, self.back]), np.append(self.labels, self.labels)

    @property
    def both_weights(self) -> NDArray[np.float64]:
        """(2 n,)"""
        return np.tile(np.ones(len(self.labels)) if self.weights is None else self.weights, 2)

    def where(self, kept: NDArray[np.bool_]) -> Lesson:
        """The pairs of a mask."""
        return Lesson._make(part if part is None else part[kept] for part in self)

    def also_unmet(self, behaviour: NDArray[np.bool_]) -> Lesson:
        """Followed by each pair that met once more, as if it had not: what either kind looks like in a catalogue.

        Labels of behaviour prefer pairs that met, and rivals above all: few of the others teach what a rival is. The
        copies of all weigh COPIES as much as the pairs that did not meet, which know best how often they are
        complements, or as LEAST_COPIES pairs where those are few [C].

        Args:
            behaviour: (f,) the columns that are NaN where a pair did not meet.
        """
        met = np.asarray(~np.isnan(self.rows[:, behaviour]).all(axis=1))
        n_met, n_unmet = int(met.sum()), int((~met).sum())
        if not n_met:
            return self
        rows, back = (np.append(part, np.where(behaviour, np.float32(np.nan), part[met]), axis=0) for part in self[:2])
        left, right = (
            np.append(part, part[met]) if part is not None and len(part) == len(met) else part
            for part in (self.left, self.right)
        )
        of_copy = min(1.0, max(COPIES * n_unmet, LEAST_COPIES) / n_met)
        weights = np.repeat([1.0, of_copy], [len(met), n_met])
        return Lesson(rows, back, np.append(self.labels, self.labels[met]), left, right, weights)


def pair_names(facts: PairFacts) -> list[str]:
    """`group: column`, in the order of the columns of `pair_features`."""
    return _names(facts.links is not None)


def _names(linked: bool) -> list[str]:
    groups = {**OF_GROUP, LINKS: (*LINK_NAMES, *ALIKE_NAMES)} if linked else OF_GROUP
    return [f"{group}: {column}" for group, columns in groups.items() for column in columns]


def pair_features(facts: PairFacts, left: NDArray[np.integer], right: NDArray[np.integer]) -> Floats:
    """Numbers of the pairs (left, right), see `pair_names`; all NaN where either item is unknown.

    Raises:
        InputError: for arrays that are no item numbers of one length.
    """
    left, right = _items(left, "left"), _items(right, "right")
    if left.shape != right.shape:
        raise InputError(f"pairs: as many left items as right ones are needed, not {len(left)} and {len(right)}")
    n = facts.n_items
    known = (left >= 0) & (right >= 0) & (left < n) & (right < n)
    one, other = left[known].astype(np.int32), right[known].astype(np.int32)
    found = np.empty((len(one), N_COLUMNS), np.float32)
    fill_catalogue(
        facts.levels, facts.leaf, facts.brand, facts.price, facts.leaf_keys, facts.leaf_counts, facts.leaf_mass,
        one, other, found,
    )  # fmt: skip
    fill_behaviour(facts.keys, facts.counts, facts.of_item, facts.totals, one, other, found)
    if (links := facts.links) is not None:
        found = np.append(found, _of_links(links, one, other), axis=1)
    if known.all():
        return found
    out = np.full((len(left), found.shape[1]), np.nan, np.float32)
    out[known] = found
    return out


def turned(facts: PairFacts, rows: Floats) -> Floats:
    """The rows of pairs (left, right) as those of (right, left), to the last bit."""
    other_way, first = _other_way(facts.links is not None)
    back = rows[:, other_way]
    back[:, first] = 1 - back[:, first]
    return back


@cache
def _other_way(linked: bool) -> tuple[NDArray[np.intp], int]:
    """The columns that columns become when the items change places, and the one that is a share, of `FIRST`."""
    names = _names(linked)
    turned = (re.sub(r"\b(this|that)\b", lambda at: OTHER[at[0]], name) for name in names)
    first = names.index(FIRST)
    order = [first if place == first else names.index(name) for place, name in enumerate(turned)]
    return np.array(order), first


def _of_links(links: Links, one: Items, other: Items) -> Floats:
    """Found from the side of fewer items, since what is reached from an item is found once."""
    turned = len(np.unique(other)) < len(np.unique(one))
    begin, end = (other, one) if turned else (one, other)
    alike = alike_columns(links.offsets, links.others, begin, end)
    return np.concatenate([links.columns(begin, end), np.roll(alike, WIDTH, axis=1) if turned else alike], axis=1)


def _items(items: NDArray[np.integer], what: str) -> NDArray[np.integer]:
    items = np.asarray(items)
    if items.ndim != 1 or items.dtype.kind not in "iu":
        raise InputError(f"{what}: a row of item numbers is needed, not {items.dtype} of shape {items.shape}")
    return items


# -- from the catalogue ------------------------------------------------------------------------------------------------


def _of_leaves(
    leaf: NDArray[np.int32], n_leaves: int, together: csr_array, viewed: csr_array
) -> tuple[NDArray[np.int64], Floats, NDArray[np.float64]]:
    """What `PairFacts` keeps of pairs of leaves."""
    rows = np.flatnonzero(leaf >= 0)
    inside = csr_array((np.ones(len(rows)), (rows, leaf[rows])), shape=(len(leaf), n_leaves))
    sums = [(inside.T @ graph @ inside).tocoo() for graph in (together, viewed)]
    flat = [one.coords[0].astype(np.int64) * n_leaves + one.coords[1] for one in sums]
    keys = np.unique(np.concatenate(flat))
    counts, mass = np.zeros((len(keys), 2), np.float32), np.zeros((2, n_leaves))
    for kind, (one, where) in enumerate(zip(sums, flat, strict=True)):
        counts[np.searchsorted(keys, where), kind] = one.data
        mass[kind] = np.bincount(one.coords[0], one.data, n_leaves)
    return keys, counts, mass


def _paths(catalogue: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Leaf (n,) and levels (n, MOST_LEVELS); a path that comes back to itself, `a/b/a`, is a path like any other."""
    codes = _codes(catalogue, "category")
    levels = np.full((len(codes), MOST_LEVELS), -1, np.int32)
    if (codes < 0).all():
        return codes, levels
    texts = catalogue["category"].cast(pa.string()).combine_chunks().dictionary_encode().dictionary.to_pylist()
    leaves: dict[tuple[str, ...], int] = {}
    prefixes: dict[tuple[str, ...], int] = {}
    leaf_of = np.full(len(texts) + 1, -1, np.int32)
    levels_of = np.full((len(texts) + 1, MOST_LEVELS), -1, np.int32)
    for row, text in enumerate(texts):
        parts = tuple(part.strip() for part in text.split("/") if part.strip())
        if not parts:
            continue
        leaf_of[row] = leaves.setdefault(parts, len(leaves))
        for level in range(min(len(parts), MOST_LEVELS)):
            levels_of[row, level] = prefixes.setdefault(parts[: level + 1], len(prefixes))
    return leaf_of[codes], levels_of[codes]


def _with_guesses(shop: Shop, leaf: Items, levels: Items, pairs: PairCounts) -> tuple[Items, Items]:
    """Leaf and levels with the categories that `missing` reads off titles and looks."""
    low, high = np.divmod(pairs.keys, max(shop.n_items, 1))
    looked_at = graph_of(low, high, pairs.counts[:, IN_ROW], shape=(shop.n_items, shop.n_items))
    found = leaves_with_guesses(shop.catalogue, leaf, looked_at + looked_at.T)
    of_leaf = np.full((int(leaf.max(initial=-1)) + 1, MOST_LEVELS), -1, np.int32)
    of_leaf[leaf[leaf >= 0]] = levels[leaf >= 0]
    guessed = (leaf < 0) & (found >= 0)
    levels[guessed] = of_leaf[found[guessed]]
    return found, levels


def _codes(catalogue: pa.Table, column: str) -> NDArray[np.int32]:
    """(n,) a number for each different text, -1 where unknown or empty."""
    if column not in catalogue.column_names or pa.types.is_null(catalogue[column].type):
        return np.full(len(catalogue), -1, np.int32)
    texts = catalogue[column].cast(pa.string()).combine_chunks()
    encoded = pc.if_else(pc.equal(texts, ""), None, texts).dictionary_encode()
    return np.array(pc.fill_null(encoded.indices, -1), np.int32)


def _prices(catalogue: pa.Table) -> Floats:
    if "price" not in catalogue.column_names or pa.types.is_null(catalogue["price"].type):
        return np.full(len(catalogue), np.nan, np.float32)
    price = np.array(pc.fill_null(catalogue["price"].cast(pa.float64()), np.nan).combine_chunks(), np.float32)
    return np.where((price > 0) & np.isfinite(price), price, np.float32(np.nan))
