"""Hard negatives of graph cross-sell: what seems to go with an item and was never bought with it (B3 of the notes).

    Ying et al., KDD '18 (PinSage), 3.3: negatives near by personalised PageRank, one more for each epoch.

Two kinds. `category`: of the same leaf as the asking item, its rivals. `pagerank`: by a walk from the asking item
ranked between 1 % and 5 % of all products (PinSage: 2,000 to 5,000 of 2 billion). What shared a basket with the asking
item is neither, and takes no rank: in a small shop partners alone would fill the band. That takes out the basket's own
products, too.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.graph import Baskets, PageRank, co_purchase

BAND = (0.01, 0.05)  # of the products by PageRank
POOL = 50  # of an item's band that is kept
WALKED = 5_000  # items that bands are worked out for, the most bought
STEPS = 6  # of PageRank
TRIES = 4  # draws for one that is no partner

log = logging.getLogger("endcap.models")


class HardNegatives:
    """Pools of hard negatives; each item has those of its kinds that its shop can feed.

    Attributes:
        kinds: those that there are.
    """

    def __init__(
        self,
        baskets: Baskets,
        leaf: NDArray[np.integer],
        links: csr_array,
        kinds: Collection[str],
        *,
        seed: int,
        threads: int = 1,
    ) -> None:
        """
        Args:
            leaf: (n_items,) category of each, -1 unknown; links: (n_items, n_items) that the walk follows;
            kinds: of `category` and `pagerank`.
        """
        self.n_items, self._leaf = len(leaf), np.asarray(leaf, np.int64)
        pairs = co_purchase(baskets, self.n_items, half_life_days=np.inf, min_support=1, threads=threads).counts
        self._together = np.repeat(np.arange(self.n_items), np.diff(pairs.indptr)) * self.n_items + pairs.indices
        bought = np.bincount(baskets.items, minlength=self.n_items)
        self._by_leaf = np.flatnonzero((bought > 0) & (self._leaf >= 0))
        self._by_leaf = self._by_leaf[np.argsort(self._leaf[self._by_leaf], kind="stable")]
        ends = np.cumsum(np.append(0, np.bincount(self._leaf[self._by_leaf], minlength=int(self._leaf.max()) + 1)))
        self._first, self._size = ends[:-1], np.diff(ends)
        self._pool, self._pooled = np.full((self.n_items, POOL), -1, np.int32), np.zeros(self.n_items, np.int64)
        if "pagerank" in kinds:
            self._fill(links, pairs, bought, np.random.default_rng([seed, 7]))
        usable = {"category": len(self._by_leaf) > 0, "pagerank": bool(self._pooled.any())}
        self.kinds = [kind for kind in ("category", "pagerank") if kind in kinds and usable[kind]]
        for kind in set(kinds) - set(self.kinds):
            why = "no product has a category" if kind == "category" else "no walk leads far enough"
            log.warning("cross-sell: no hard negatives by %s: %s", kind, why)

    def _fill(self, links: csr_array, pairs: csr_array, bought: NDArray[np.int64], rng: np.random.Generator) -> None:
        """Some of each item's band, first in its row."""
        n_sold = int((bought > 0).sum())
        first, last = max(1, int(np.ceil(BAND[0] * n_sold))), int(np.ceil(BAND[1] * n_sold))
        items = np.argsort(-bought, kind="stable")[: min(n_sold, WALKED)]
        if n_sold > WALKED:
            log.info("cross-sell: hard negatives by pagerank for the %d most bought of %d products", WALKED, n_sold)
        for rows, chances in PageRank(links, steps=STEPS).blocks(items):
            partners = pairs[items[rows]]
            chances = chances.copy()
            chances[np.arange(len(chances)), items[rows]] = 0
            chances[np.repeat(np.arange(len(chances)), np.diff(partners.indptr)), partners.indices] = 0
            best = np.argsort(-chances, axis=1, kind="stable")[:, first:last]
            near = np.take_along_axis(chances, best, axis=1) > 0
            order = np.argsort(~near + rng.random(near.shape), axis=1)[:, :POOL]
            self._pooled[items[rows]] = np.minimum(near.sum(1), POOL)
            self._pool[items[rows], : order.shape[1]] = np.take_along_axis(best, order, axis=1)

    def draw(self, asked: NDArray[np.int64], each: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """(q, each) hard negatives of what is asked with (q,), the kinds by turns; -1 where none was found."""
        found = np.full((len(asked), each), -1, np.int64)
        if not self.kinds:
            return found
        by_category = np.full(found.shape, self.kinds[0] == "category")
        if len(self.kinds) == 2:
            by_category = rng.random(found.shape) < 0.5
        for _ in range(TRIES):
            open_ = found < 0
            drawn = np.where(by_category, self._rivals(asked, each, rng), self._near(asked, each, rng))
            found[open_] = np.where(self._apart(asked[:, None], drawn), drawn, -1)[open_]
        return found

    def _rivals(self, asked: NDArray[np.int64], each: int, rng: np.random.Generator) -> NDArray[np.int64]:
        leaf = self._leaf[asked]
        size = np.where(leaf >= 0, self._size[leaf] if len(self._size) else 0, 0)
        place = (rng.random((len(asked), each)) * size[:, None]).astype(np.int64)
        known = size > 0
        rivals = np.full(place.shape, -1, np.int64)
        rivals[known] = self._by_leaf[self._first[leaf[known], None] + place[known]]
        return rivals

    def _near(self, asked: NDArray[np.int64], each: int, rng: np.random.Generator) -> NDArray[np.int64]:
        place = (rng.random((len(asked), each)) * self._pooled[asked][:, None]).astype(np.int64)
        near = self._pool[asked[:, None], place].astype(np.int64)
        return np.where(self._pooled[asked][:, None] > 0, near, -1)

    def _apart(self, asked: NDArray[np.int64], drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Of products drawn (q, each), -1 none: which shared no basket with the asking item (q, 1), nor are it."""
        wanted = asked * self.n_items + drawn
        if len(self._together) == 0:
            return (drawn >= 0) & (drawn != asked)
        place = np.minimum(np.searchsorted(self._together, wanted), len(self._together) - 1)
        return (drawn >= 0) & (drawn != asked) & (self._together[place] != wanted)
