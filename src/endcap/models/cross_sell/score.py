"""The cross-sell score: similarity x P(complement) x recency, each part for people to read (B4 of the notes).

The source multiplies and hides what is more likely a rival. Chosen here: similarity is a cosine, never below 0, where
the graph network scores pairs, and elsewhere how likely the item is beside the likeliest of all that could be answered;
P(complement) is calibrated; recency is a floor plus the rest times how fresh the purchases behind a pair are, so that a
pair bought in the last weeks has 1 and one bought long ago the floor. A pair never bought together takes the recency of
its two categories, and 1 where these were not bought together either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Items
from endcap.graph import CoPurchase
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


class Freshness(NamedTuple):
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
        mass, faded = np.zeros(len(items)), np.zeros(len(items))
        for item in asked.tolist():
            row = slice(self.offsets[item], self.offsets[item + 1])
            place = places(self.items[row], items)
            linked = place >= 0
            mass[linked] += self.mass[row][place[linked]]
            faded[linked] += self.faded[row][place[linked]]
        by_leaf = np.ones(len(items))
        n = int(self.leaf.max(initial=-1)) + 1
        keys = np.concatenate([np.where(self.leaf[items] >= 0, self.leaf[item] * n + self.leaf[items], -1)
                               for item in asked.tolist() if self.leaf[item] >= 0]
                              or [np.empty(0, np.int64)])  # fmt: skip
        if len(keys):
            place = places(self.leaf_keys, keys)
            shares = np.ones(len(keys))
            shares[place >= 0] = self.leaf_share[place[place >= 0]]
            by_leaf = shares.reshape(len(keys) // len(items), len(items)).mean(0)
        share = np.divide(faded, mass, out=by_leaf, where=mass > 0)
        return FLOOR + (1 - FLOOR) * share

    def by_category(self, asked: Items, item: int) -> int | None:
        """Of what was asked with the first one after whose category that of an item was bought, if any was."""
        keys = self.leaf[asked] * (self.leaf.max(initial=-1) + 1) + self.leaf[item]
        known = (self.leaf[asked] >= 0) & (self.leaf[item] >= 0)
        found = asked[known & (places(self.leaf_keys, keys) >= 0)]
        return int(found[0]) if len(found) else None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name."""
        return self._asdict()


def links_of(graph: csr_array, asked: Items, items: Items) -> NDArray[np.float32]:
    """(m, n) the weight of the link from each that was asked with to each item, 0 where there is none."""
    weights = np.zeros((len(asked), len(items)), np.float32)
    for place, item in enumerate(asked.tolist()):
        row = slice(graph.indptr[item], graph.indptr[item + 1])
        where = places(graph.indices[row], items)
        weights[place, where >= 0] = graph.data[row][where[where >= 0]]
    return weights


def path_of(graph: csr_array, bought: NDArray[np.integer], asked: Items, item: int) -> tuple[int, int, float] | None:
    """Of the walks of two links from what was asked with to an item, the likeliest: where from, by way of, its chance.

    Args:
        graph: shared baskets, symmetric; bought: (n_items,) baskets of each.
    """
    row = slice(graph.indptr[item], graph.indptr[item + 1])
    between = graph.indices[row]
    onward = np.where(np.isin(between, asked), 0, graph.data[row] / np.maximum(bought[between], 1))
    chance = links_of(graph, asked, between) / np.maximum(bought[asked], 1)[:, None] * onward
    if not chance.any():
        return None
    begin, middle = np.unravel_index(chance.argmax(), chance.shape)
    return int(asked[begin]), int(between[middle]), float(chance[begin, middle])


def _leaves(catalogue: pa.Table, n_items: int) -> NDArray[np.int64]:
    if "category" not in catalogue.column_names:
        return np.full(n_items, -1, np.int64)
    codes = catalogue["category"].cast(pa.string()).combine_chunks().dictionary_encode()
    return codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
