"""The co-purchase graph as a training sees it: what a step asks for is taken out of what messages pass along.

A basket that holds the tent and the stove is why the graph links them. If the model were asked for the stove while this
link stood, it would learn to look a link up; asked for a basket of tomorrow it would find none. So a step's baskets are
subtracted from the graph: a link that other baskets made, too, stays, thinner by theirs.

What a hub says, a product linked to more others than nearly all are, is divided by the root of its degree: without
this, everything that was ever bought beside a carrier bag would look alike. Hubs stay where they are as candidates.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor

from endcap.errors import InputError
from endcap.graph import Baskets, CoPurchase, baskets_of, co_purchase, with_catalogue
from endcap.graph.edges import hubs
from endcap.nn.propagate import Adjacency
from endcap.shop import Shop
from endcap.shop.relations import COMPLEMENTS, Relations

DAY = 86_400_000_000  # microseconds
LARGEST = 2_000  # products of a basket that can be taken out of a graph: four million links, each with its number
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
        mass: (links,) float32, the worth of the baskets behind each; quiet: (n_items,) what messages of each count;
        extra: the numbers of the links that no basket made; lift: (n_items,) how many times more each would be bought,
        had it been there all the time: 1, as long as nobody says so.
    """

    def __init__(
        self,
        baskets: Baskets,
        n_items: int,
        config: LinkSettings,
        threads: int,
        extra: csr_array | None = None,
        lift: NDArray[np.floating] | None = None,
        counted: CoPurchase | None = None,
    ) -> None:
        """
        Args:
            extra: (n_items, n_items) links that no basket made and none takes away, where baskets made none;
            counted: what `counted_of` says of these baskets, where that was asked before.
        """
        self.n_items = n_items
        self.counted = counted_of(baskets, n_items, config, threads) if counted is None else counted
        links = self.counted.decayed if extra is None else with_catalogue(self.counted.decayed, extra)
        self.mass = links.data.astype(np.float32)
        self.adjacency = Adjacency(links)
        degree = np.bincount(self.adjacency.columns, minlength=n_items)
        self.quiet = np.where(hubs(self.counted.decayed), np.maximum(degree, 1) ** -0.5, 1).astype(np.float32)
        self._worth = worth_of(baskets.time, config.half_life_days)
        self._contents = baskets.matrix(n_items)
        self._keys = keys_of(self.adjacency)
        made = keys_of(Adjacency(self.counted.decayed)) if extra is not None else self._keys
        self.lift = np.ones(n_items) if lift is None else lift
        self.extra = np.flatnonzero(~np.isin(self._keys, made))

    def without(self, baskets: NDArray[np.int64]) -> NDArray[np.float32]:
        """(links,) the mass that stays when these baskets are taken out."""
        if len(baskets) == 0 or len(self._keys) == 0:
            return self.mass
        held = self._contents[baskets]
        mass = self.mass[: len(self._keys)]
        left = less(mass, self._keys, held.T @ diags_array(self._worth[baskets]) @ held)
        left[self.extra] = mass[self.extra]
        return left

    def shares(self, mass: NDArray[np.float32], power: float) -> Tensor:
        """(links,) what a message along each link counts, see `counts_of`."""
        total, (rows, columns) = self.total(mass), (self.adjacency.rows, self.adjacency.columns)
        own, given = total[rows], total[columns]
        return torch.from_numpy(counts_of(mass, own, given, self.quiet[columns], self.extra, power, self.lift[rows]))

    def extras(self) -> csr_array:
        """(n_items, n_items) the links that no basket made."""
        data = np.zeros_like(self.mass[: len(self.adjacency)])
        data[self.extra] = self.mass[self.extra]
        parts = data, self.adjacency.columns, self.adjacency.offsets
        found = csr_array(parts, shape=self.adjacency.shape, copy=True)
        found.eliminate_zeros()
        return found

    def total(self, mass: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n_items,) the mass of all that each hears, hubs made quiet."""
        heard = mass * self.quiet[self.adjacency.columns]
        return np.maximum(np.bincount(self.adjacency.rows, heard, self.n_items), 1e-12)


def counted_of(baskets: Baskets, n_items: int, config: LinkSettings, threads: int) -> CoPurchase:
    """How often items are bought together, as a `HidingGraph` has it."""
    return co_purchase(
        baskets, n_items, half_life_days=config.half_life_days, per_item=config.links,
        min_support=config.min_support, min_together=config.min_support, threads=threads,
    )  # fmt: skip


def counts_of(
    mass: NDArray[np.float32],
    own: NDArray[np.floating],
    given: NDArray[np.floating],
    quiet: NDArray[np.float32],
    extra: NDArray[np.integer],
    power: float,
    lift: NDArray[np.floating],
) -> NDArray[np.float32]:
    """(links,) what a message counts: mass_ij quiet_j m_i^(power - 1) (lift_i / m_j)^power, m what a product hears.

    power 0 is the mean over the partners, 1/2 the symmetric form, 1 divides by the giver alone. Of links that no basket
    made it is always the mean: they know nothing of how much is bought.

    Args:
        own, given, quiet: of each link, m of who hears and of who speaks, and how quiet that one is;
        extra: the links that no basket made; lift: of who hears, see `HidingGraph`.
    """
    counts = mass * own ** (power - 1) * (lift / given) ** power
    counts[extra] = mass[extra] / own[extra]
    return (counts * quiet).astype(np.float32)


def learnt_baskets(shop: Shop, relations: pa.Table | None, largest: int) -> Baskets:
    """The shop's baskets of two products and more, and what relations link: each a basket of one from n_users on.

    Raises:
        InputError: for a basket of more products than can be learnt from, unless `largest` leaves it out.
    """
    bought = baskets_of(shop, largest=largest)
    bought = bought.where(bought.sizes >= 2)
    if (most := int(bought.sizes.max(initial=0))) > LARGEST:
        raise InputError(
            f"largest={largest}: a basket holds {most:,} products, and each pair of them would be a link; leave such "
            f"baskets out with largest=50 (at most {LARGEST:,}), or part them"
        )
    if relations is None:
        return bought
    told = Relations.read(relations, shop.items)
    goes = told.known & told.named(COMPLEMENTS)
    pair = np.sort([told.item[goes], told.other[goes]], axis=0)
    linked = np.unique(pair.T[pair[0] != pair[1]], axis=0).astype(np.int32)
    n = len(linked)
    last = bought.time.max(initial=0)
    return Baskets(
        np.append(bought.offsets, bought.offsets[-1] + 2 * np.arange(1, n + 1)),
        np.append(bought.items, linked.ravel()),
        np.append(bought.user, shop.n_users + np.arange(n, dtype=np.int32)),
        np.append(bought.time, np.full(n, last)),
        bought.unit,
    )


def worth_of(time: NDArray[np.int64], half_life_days: float) -> NDArray[np.float32]:
    """(m,): exp(-ln 2 * age / half-life), the last moment being of age 0."""
    return np.exp2(-(time.max(initial=0) - time) / (half_life_days * DAY)).astype(np.float32)


def later_baskets(
    baskets: Baskets, at_most: int, window_days: float = np.inf
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (p,), (p,) of a basket and one of the next `at_most` of the same user, within so many days."""
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for ahead in range(1, at_most + 1):
        begin = np.arange(max(0, len(baskets) - ahead))
        end = begin + ahead
        near = baskets.time[end] - baskets.time[begin] <= window_days * DAY
        follows = near & (baskets.user[end] == baskets.user[begin])
        first.append(begin[follows])
        second.append(end[follows])
    return np.concatenate(first), np.concatenate(second)


def keys_of(adjacency: Adjacency) -> NDArray[np.int64]:
    """(edges,) ascending: row * columns + column."""
    return adjacency.rows * adjacency.shape[1] + adjacency.columns


def less(mass: NDArray[np.float32], keys: NDArray[np.int64], made: csr_array) -> NDArray[np.float32]:
    """(edges,) what is left of the mass of edges with these `keys` without what was `made` (rows, columns)."""
    taken = made.tocsr().tocoo()  # by rows, as the keys are: another order cost a third of a large step
    wanted = taken.row.astype(np.int64) * made.shape[1] + taken.col
    left = mass.copy()
    if len(keys) and len(wanted):
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        linked = keys[place] == wanted
        left[place[linked]] -= taken.data[linked]
        left[left < GONE] = 0
    return left
