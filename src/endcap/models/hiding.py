"""The co-purchase graph as a training sees it: what a step asks for is taken out of what messages pass along.

A basket that holds the tent and the stove is why the graph links them. If the model were asked for the stove while this
link stood, it would learn to look a link up; asked for a basket of tomorrow it would find none. So a step's baskets are
subtracted from the graph: a link that other baskets made, too, stays, thinner by theirs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import diags_array
from torch import Tensor

from endcap.graph import Baskets, co_purchase
from endcap.nn.propagate import Adjacency

DAY = 86_400_000_000  # microseconds
GONE = 1e-6  # what is left of a link by rounding


class LinkSettings(Protocol):
    """What a graph is made by.

    Attributes:
        links: the most partners of an item; min_support: baskets behind a link, at least;
        half_life_days: age at which a basket counts half.
    """

    @property
    def links(self) -> int: ...

    @property
    def min_support(self) -> int: ...

    @property
    def half_life_days(self) -> float: ...


class HidingGraph:
    """Items linked by their baskets: symmetric, each basket worth exp(-ln 2 * age / half-life), the last one 1.

    Attributes:
        counted: how the links came about; adjacency: the links;
        mass: (links,) float32, the worth of the baskets behind each.
    """

    def __init__(self, baskets: Baskets, n_items: int, config: LinkSettings, threads: int) -> None:
        self.n_items = n_items
        self.counted = co_purchase(
            baskets, n_items, half_life_days=config.half_life_days, per_item=config.links,
            min_support=config.min_support, min_together=config.min_support, threads=threads,
        )  # fmt: skip
        self.mass = self.counted.decayed.data.astype(np.float32)
        self.adjacency = Adjacency(self.counted.decayed)
        age = baskets.time.max(initial=0) - baskets.time
        self._worth = np.exp2(-age / (config.half_life_days * DAY)).astype(np.float32)
        self._contents = baskets.matrix(n_items)
        self._keys = self.adjacency.rows * n_items + self.adjacency.columns

    def without(self, baskets: NDArray[np.int64]) -> NDArray[np.float32]:
        """(links,) the mass that stays when these baskets are taken out."""
        if len(baskets) == 0 or len(self._keys) == 0:
            return self.mass
        held = self._contents[baskets]
        made = (held.T @ diags_array(self._worth[baskets]) @ held).tocoo()
        keys = made.row.astype(np.int64) * self.n_items + made.col
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        linked = self._keys[place] == keys
        left = self.mass.copy()
        left[place[linked]] -= made.data[linked]
        left[left < GONE] = 0
        return left

    def shares(self, mass: NDArray[np.float32], power: float) -> Tensor:
        """(links,) what a message along each link counts: mass_ij * m_i^(power - 1) * m_j^(-power), m the rows' sums.

        power 0 is the mean over the partners, 1/2 the symmetric form, 1 divides by the giver alone.
        """
        total = np.maximum(np.bincount(self.adjacency.rows, mass, self.n_items), 1e-12)
        towards = total ** (power - 1)
        return torch.from_numpy(
            (mass * towards[self.adjacency.rows] * (total**-power)[self.adjacency.columns]).astype(np.float32)
        )
