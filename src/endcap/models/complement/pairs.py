"""Pairs of items that are known to be complements or substitutes: from relation tables, else from behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.errors import InputError
from endcap.graph.edges import graph_of
from endcap.models.complement.counts import (
    HIGH_VIEWED,
    IN_ROW,
    LOW_VIEWED,
    TOGETHER,
    count_pairs,
)
from endcap.models.complement.features import PairFacts
from endcap.models.complement.links import Links
from endcap.shop import Shop, Vocabulary
from endcap.shop.relations import COMPLEMENTS, SUBSTITUTES, Relations

SHARES = (0.7, 0.15, 0.15)  # of pairs, or of items, that are learnt from, chosen by and tested on
Split = Literal["nodes", "edges"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of items, each once, and what they are to each other.

    Attributes:
        left, right: (n,) int32, left < right; label: (n,) bool, true for complements, false for substitutes.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    label: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.left)

    def where(self, kept: NDArray[np.bool_] | NDArray[np.integer]) -> Pairs:
        """The pairs of a mask or of row numbers."""
        return Pairs(self.left[kept], self.right[kept], self.label[kept])

    @property
    def majority(self) -> float:
        """The accuracy of saying the same of all."""
        share = float(self.label.mean()) if len(self) else 0.0
        return max(share, 1 - share)


class Evidence(NamedTuple):
    """How often pairs were bought together, looked at in a row, and one bought in place of the other.

    Attributes:
        bought: (m,) baskets with both; compared: (m,) times looked at one right after the other; instead: (m,) sessions
        in which one was looked at and not bought, and the other bought later, the more frequent way; bought_by_chance,
        compared_by_chance: (m,) what the items' own frequencies would bring; totals: (3,) sums of the first three over
        all pairs.
    """

    bought: NDArray[np.floating]
    compared: NDArray[np.floating]
    instead: NDArray[np.floating]
    bought_by_chance: NDArray[np.floating]
    compared_by_chance: NDArray[np.floating]
    totals: NDArray[np.floating]

    def labels(
        self, min_bought: int, min_viewed: int, min_after: int, margin: float
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(m,) complements and (m,) substitutes; a pair may be neither.

        P-Companion calls complements what is bought together, but for what is viewed together or bought after viewing.
        In a long log every pair is viewed together at some time, and sets would be empty [C]: evidence counts if there
        are `min_*` occasions and `margin` times as many as by chance, and where a pair has both kinds, the one counts
        that is `margin` times as large a share of all of its kind.

        Raises:
            InputError: for a number of occasions that is none, or a margin below 1.
        """
        for name, value in (("min_bought", min_bought), ("min_viewed", min_viewed), ("min_after", min_after)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise InputError(f"{name}={value!r}: a whole number from 1 on")
        if not 1 <= margin < np.inf:
            raise InputError(f"margin={margin!r}: a number from 1 on")
        bought, compared, instead = (
            count / max(total, 1)
            for count, total in zip((self.bought, self.compared, self.instead), self.totals, strict=True)
        )
        goes = (self.bought >= min_bought) & (self.bought >= margin * self.bought_by_chance)
        goes &= (self.compared < min_viewed) | (bought > margin * compared)
        goes &= (self.instead < min_after) | (bought > instead)
        stands = (self.compared >= min_viewed) & (self.compared >= margin * self.compared_by_chance)
        return goes, stands & (compared > margin * bought)


def evidence_of(shop: Shop) -> tuple[NDArray[np.int64], Evidence]:
    """Keys low * n_items + high of the pairs of which anything is known, ascending, and what it is."""
    found = count_pairs(shop, window_days=0, return_days=0, per_item=1000)
    return found.keys, _told_by(found.keys, found.counts, shop.n_items)


def settled_pairs(facts: PairFacts, min_bought: int, min_viewed: int, min_after: int, margin: float) -> Pairs:
    """Pairs that what is known of a log calls complements already, by `Evidence.labels`.

    Raises:
        InputError: for a number of occasions that is none, or a margin below 1.
    """
    keys = np.asarray(facts.keys)
    goes, _ = _told_by(keys, facts.counts, facts.n_items).labels(min_bought, min_viewed, min_after, margin)
    low, high = np.divmod(keys[goes], max(facts.n_items, 1))
    return Pairs(low.astype(np.int32), high.astype(np.int32), np.ones(len(low), bool))


def _told_by(keys: NDArray[np.int64], counts: NDArray[np.float32], n_items: int) -> Evidence:
    """What `counts` found as evidence of labels."""
    bought, compared = counts[:, TOGETHER].astype(np.float64), counts[:, IN_ROW].astype(np.float64)
    instead = np.maximum(counts[:, LOW_VIEWED], counts[:, HIGH_VIEWED]).astype(np.float64)
    low, high = np.divmod(keys, max(n_items, 1))

    def by_chance(count: NDArray[np.float64]) -> NDArray[np.float64]:
        of_item = np.bincount(low, count, n_items) + np.bincount(high, count, n_items)
        return of_item[low] * of_item[high] / max(2 * count.sum(), 1)

    totals = np.array([bought.sum(), compared.sum(), instead.sum()])
    return Evidence(bought, compared, instead, by_chance(bought), by_chance(compared), totals)


def labelled_pairs(
    shop: Shop,
    relations: pa.Table | None = None,
    *,
    complements: Sequence[str] = COMPLEMENTS,
    substitutes: Sequence[str] = SUBSTITUTES,
    min_bought: int = 1,
    min_viewed: int = 3,
    min_after: int = 2,
    margin: float = 3.0,
) -> Pairs:
    """Pairs with one label, by number.

    With relations, what is linked by one kind alone; a pair with both kinds is dropped. Without, from behaviour, see
    `Evidence.labels`. Columns of such a stretch say the label outright: take facts from another stretch of the log.

    Args:
        relations: (item, other, relation), ids and names; links of unknown items and of other names are left out.

    Raises:
        InputError: if the table is none, or there are no pairs of one of the labels.
    """
    if relations is not None:
        goes_with, stands_for = _linked(relations, shop.items, complements, substitutes)
    else:
        keys, evidence = evidence_of(shop)
        goes, stands = evidence.labels(min_bought, min_viewed, min_after, margin)
        goes_with, stands_for = keys[goes], keys[stands]
    n = max(shop.n_items, 1)
    both = np.intersect1d(goes_with, stands_for)
    keys = np.concatenate([np.setdiff1d(goes_with, both), np.setdiff1d(stands_for, both)])
    label = np.arange(len(keys)) < len(goes_with) - len(both)
    order = np.argsort(keys)
    left, right = np.divmod(keys[order], n)
    pairs = Pairs(left.astype(np.int32), right.astype(np.int32), label[order])
    for name, there in (("complements", pairs.label.any()), ("substitutes", not pairs.label.all())):
        if not there:
            hint = "relations need links of both kinds" if relations is not None else (
                "give relations, a longer log, or ask for fewer occasions (min_bought, min_viewed)")  # fmt: skip
            raise InputError(f"complement: there are no pairs known as {name}; {hint}")
    return pairs


def split_pairs(
    pairs: Pairs, how: Split, seed: int = 0, shares: tuple[float, float, float] = SHARES
) -> tuple[Pairs, Pairs, Pairs]:
    """What is learnt from, chosen by and tested on.

    "edges" draws pairs. "nodes" draws items, and a pair belongs to a part if both its items do: pairs across parts
    belong to none, so that a test item is in no pair that was learnt from.

    Raises:
        InputError: for another way, or shares that do not add up to 1.
    """
    if how not in get_args(Split):
        raise InputError(f"split by {how!r}: there are nodes and edges")
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise InputError(f"shares {shares}: three that add up to 1")
    rng = np.random.default_rng(seed)
    bounds = np.cumsum(shares)[:2]
    if how == "edges":
        part = _parts(rng, len(pairs), bounds)
        return pairs.where(part == 0), pairs.where(part == 1), pairs.where(part == 2)
    nodes = np.unique(np.concatenate([pairs.left, pairs.right]))
    of_node = _parts(rng, len(nodes), bounds)
    left, right = of_node[np.searchsorted(nodes, pairs.left)], of_node[np.searchsorted(nodes, pairs.right)]
    train, validation, test = (pairs.where((left == part) & (right == part)) for part in range(3))
    return train, validation, test


def some_pairs(pairs: Pairs, n: int, seed: int = 0) -> Pairs:
    """At most n of each label, drawn by chance."""
    rng = np.random.default_rng(seed)
    kept = [rng.permutation(np.flatnonzero(pairs.label == label))[:n] for label in (True, False)]
    return pairs.where(np.sort(np.concatenate(kept)))


def relation_links(
    relations: pa.Table,
    items: Vocabulary,
    without: Sequence[Pairs] = (),
    *,
    complements: Sequence[str] = COMPLEMENTS,
    substitutes: Sequence[str] = SUBSTITUTES,
) -> Links:
    """All links of a table as graphs, but for those of some pairs, which are to be foreseen.

    Raises:
        InputError: if the table is none.
    """
    n = max(len(items), 1)
    hidden = np.concatenate([np.empty(0, np.int64), *(part.left.astype(np.int64) * n + part.right for part in without)])
    graphs = []
    for keys in _linked(relations, items, complements, substitutes):
        left, right = np.divmod(np.setdiff1d(keys, hidden), n)
        graphs.append(graph_of(left, right, shape=(len(items), len(items))))
    return Links.of(*graphs)


def _parts(rng: np.random.Generator, n: int, bounds: NDArray[np.floating]) -> NDArray[np.integer]:
    """(n,) 0, 1 or 2, in exact shares."""
    return np.searchsorted(np.round(bounds * n), rng.permutation(n), side="right")


def _linked(
    table: pa.Table, items: Vocabulary, complements: Sequence[str], substitutes: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Keys low * n_items + high of the known pairs of both kinds, ascending; links of an item to itself are none."""
    links = Relations.read(table, items)
    known = links.known & (links.item != links.other)
    keys = np.minimum(links.item, links.other) * max(len(items), 1) + np.maximum(links.item, links.other)
    found = [np.unique(keys[known & links.named(names)]) for names in (complements, substitutes)]
    return found[0], found[1]
