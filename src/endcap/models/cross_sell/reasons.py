"""Why an item goes with what was asked with, for people: links, ways of two links, categories, how it was placed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Items, Reason
from endcap.models.cross_sell.attention import Attention
from endcap.models.cross_sell.new import strategy
from endcap.models.cross_sell.score import Freshness, links_of, path_of


class Why(NamedTuple):
    """What reasons are read off.

    Attributes:
        partners: (n_items, n_items) shared baskets; bought: (n_items,) baskets; by_likes: (n_items,) what stands where
            products like it put it, as long as few have bought it; placed_by: what scores pairs.
    """

    partners: csr_array
    bought: NDArray[np.integer]
    by_likes: NDArray[np.bool_]
    freshness: Freshness
    attention: Attention | None
    placed_by: str

    def strongest_link(self, asked: Items, items: Items) -> tuple[Items, NDArray[np.float32]]:
        """(n,) of what was asked with the item that each was most often bought with (-1: none), and how often."""
        if len(asked) == 0 or len(items) == 0:
            return np.full(len(items), -1, np.int32), np.zeros(len(items), np.float32)
        times = links_of(self.partners, asked, items)
        best = times.argmax(0)
        strength = times[best, np.arange(len(items))]
        return np.where(strength > 0, asked[best], -1).astype(np.int32), strength

    def reasons(self, asked: Items, item: int) -> list[Reason]:
        """All there is to say, one at least: where nothing links them, their categories, or what placed the item."""
        because, strength = self.strongest_link(asked, np.array([item], np.int32))
        reasons = []
        if strength[0] > 0:
            reasons.append(Reason("relation", item=int(because[0]), value=float(strength[0]), note="bought together"))
        if self.attention is not None:
            reasons += self.attention.reasons(item, asked)
        path = path_of(self.partners, self.bought, asked, item)
        if path is not None:
            begin, between, chance = path
            reasons.append(Reason("relation", items=(begin, between, item), value=chance, note="by way of"))
        placed = strategy(int(self.bought[item]))
        if placed != "standard" and self.by_likes[item]:
            reasons.append(Reason("strategy", value=float(self.bought[item]), note=placed))
        return reasons or [self._without_a_link(asked, item)]

    def _without_a_link(self, asked: Items, item: int) -> Reason:
        """Why an item stands there that no way of one or two links leads to."""
        pair = self.freshness.by_category(asked, item)
        if pair is not None:
            return Reason("relation", item=pair, note="by category")
        return Reason("relation", note=f"no basket links them closely: placed by {self.placed_by}")
