"""The cross-sell score: similarity x P(complement) x recency, each part for people to read (B4 of the notes).

The source multiplies and hides what is more likely a rival. Chosen here: similarity is a cosine, never below 0, where
the graph network scores pairs, and elsewhere how likely the item is beside the likeliest of all that could be answered;
P(complement) is calibrated; recency is a floor plus the rest times how fresh the purchases behind a pair are, so that a
pair bought in the last weeks has 1 and one bought long ago the floor. A pair never bought together takes the recency of
its two categories, and 1 where these were not bought together either.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Items
from endcap.graph import CoPurchase
from endcap.kernels.lookup import entries_of, likeliest_way
from endcap.models.complement.counts import places
from endcap.shop import Shop

if TYPE_CHECKING:
    from endcap.models.complement.model import Complement

FLOOR = 0.5  # of recency
RIVAL = 0.5  # below this P(complement) it is a substitute

Floats = NDArray[np.floating]


class Parts(NamedTuple):
    """What a score is made of, each (n,); `final` is their product."""

    similarity: Floats
    complement: Floats
    recency: Floats

    @property
    def final(self) -> Floats:
        """(n,)."""
        return np.maximum(self.similarity, 0) * self.complement * self.recency

    @property
    def rivals(self) -> NDArray[np.bool_]:
        """(n,) what is more likely a substitute."""
        return self.complement < RIVAL

    def named(self, rows: NDArray[np.integer]) -> dict[str, NDArray[np.float32]]:
        """Some rows of each part and of their product, by name."""
        parts = {**self._asdict(), "final": self.final}
        return {name: np.asarray(part[rows], np.float32) for name, part in parts.items()}


class Judge(NamedTuple):
    """Tells what goes with what is asked with from its rivals.

    Attributes:
        classifier: of pairs, if there is one; leaf: (n_items,) number of the category, -1 unknown.
    """

    classifier: Complement | None
    leaf: NDArray[np.int64]

    def goes_with(self, asked: Items, items: Items) -> NDArray[np.float32]:
        """(n,) P(complement) of each item; 1 where nothing tells."""
        if self.classifier is None or len(items) == 0:
            return np.ones(len(items), np.float32)
        each = self.classifier.probability(np.repeat(asked, len(items)), np.tile(items, len(asked)))
        each = each.reshape(len(asked), len(items))
        beside = (self.leaf[asked][:, None] == self.leaf[items]) & (self.leaf[items] >= 0)
        rival = np.where(beside, each, 1).min(0)
        return np.where(rival < RIVAL, rival, each.max(0))

    def rivals(self, asked: Items, items: Items) -> NDArray[np.bool_]:
        """(n,) of what shares its category with something that is asked with, or has none, what is a rival.

        What is merely unrelated, which the classifier takes for a substitute, is none.
        """
        rival = np.zeros(len(items), bool)
        if self.classifier is not None:
            one, other = np.nonzero((self.leaf[asked][:, None] == self.leaf[items]) | (self.leaf[items] < 0))
            rival[other[self.classifier.probability(asked[one], items[other]) < RIVAL]] = True
        return rival


@dataclass(frozen=True, eq=False)
class Freshness:
    """How fresh the purchases of pairs are: what was bought first in the rows.

    Attributes:
        offsets, items: the pairs in CSR form; mass, faded: how often the second was bought with or after the first, and
        the same with each time weighed by its age;
        leaf: (n_items,) number of the category, -1 unknown; leaf_keys, leaf_share: ascending first * categories +
        second, and the share of the mass that is left of such pairs.
    """

    offsets: NDArray[np.integer]
    items: NDArray[np.integer]
    mass: NDArray[np.float32]
    faded: NDArray[np.float32]
    leaf: NDArray[np.int64]
    leaf_keys: NDArray[np.int64]
    leaf_share: NDArray[np.float32]

    @classmethod
    def of(cls, counted: CoPurchase, shop: Shop) -> Self:
        """From counts and the categories of the shop."""
        forward, faded = counted.forward, counted.forward_decayed
        leaf = _leaves(shop.catalogue, counted.n_items)
        row = np.repeat(np.arange(counted.n_items), np.diff(forward.indptr))
        one, other = leaf[row], leaf[forward.indices]
        known = (one >= 0) & (other >= 0)
        n = int(leaf.max(initial=-1)) + 1
        keys, place = np.unique(one[known] * n + other[known], return_inverse=True)
        mass = np.bincount(place, forward.data[known], len(keys))
        left = np.bincount(place, faded.data[known], len(keys))
        share = np.divide(left, mass, out=np.ones(len(keys)), where=mass > 0).astype(np.float32)
        return cls(forward.indptr, forward.indices, forward.data, faded.data, leaf, keys, share)

    def recency(self, asked: Items, items: Items) -> Floats:
        """(n,) of items to follow what was asked with; several of these count by their mass."""
        mass, faded = (
            entries_of(self.offsets, self.items, part, asked, items).sum(0, dtype=np.float64)
            for part in (self.mass, self.faded)
        )
        share = np.divide(faded, mass, out=np.ones(len(items)), where=mass > 0)
        unmet = np.flatnonzero(mass <= 0)
        if len(unmet):
            share[unmet] = self._by_leaf(asked, items[unmet])
        return FLOOR + (1 - FLOOR) * share

    def _by_leaf(self, asked: Items, items: Items) -> Floats:
        """(n,) shares of what is left of the mass between the categories; the mean of all asked with whose is known."""
        of_asked, of_items = self.leaf[asked], self.leaf[items]
        of_asked = of_asked[of_asked >= 0]
        if len(of_asked) == 0:
            return np.ones(len(items))
        keys = np.where(of_items >= 0, of_asked[:, None] * self._n_leaves + of_items, -1)
        place = places(self.leaf_keys, keys.ravel()).reshape(keys.shape)
        shares = self.leaf_share[place] if len(self.leaf_share) else np.ones(keys.shape)
        return np.where(place >= 0, shares, 1.0).mean(0)

    @cached_property
    def _n_leaves(self) -> int:
        return int(self.leaf.max(initial=-1)) + 1

    def by_category(self, asked: Items, item: int) -> int | None:
        """Of what was asked with the first one after whose category that of an item was bought, if any was."""
        keys = self.leaf[asked] * self._n_leaves + self.leaf[item]
        known = (self.leaf[asked] >= 0) & (self.leaf[item] >= 0)
        found = asked[known & (places(self.leaf_keys, keys) >= 0)]
        return int(found[0]) if len(found) else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def links_of(graph: csr_array, asked: Items, items: Items) -> NDArray[np.float32]:
    """(m, n) the weight of the link from each that was asked with to each item, 0 where there is none."""
    return entries_of(graph.indptr, graph.indices, graph.data, asked, items)


def path_of(graph: csr_array, bought: NDArray[np.integer], asked: Items, item: int) -> tuple[int, int, float] | None:
    """Of the walks of two links from what was asked with to an item, the likeliest: where from, by way of, its chance.

    Args:
        graph: shared baskets, symmetric; bought: (n_items,) baskets of each.
    """
    begin, middle, chance = likeliest_way(graph, bought, asked, item)
    return None if begin < 0 else (begin, middle, chance)


def _leaves(catalogue: pa.Table, n_items: int) -> NDArray[np.int64]:
    if "category" not in catalogue.column_names:
        return np.full(n_items, -1, np.int64)
    codes = catalogue["category"].cast(pa.string()).combine_chunks().dictionary_encode()
    return codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
