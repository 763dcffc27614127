"""Baskets: what was bought together, the corpus of all co-purchase graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.shop import Shop
from endcap.shop.purchases import Purchases, purchases_of

LARGEST = 50  # items of a basket that a graph learns from: what resellers order together does not go together


@dataclass(frozen=True, eq=False)
class Baskets:
    """Sets of items in a row: basket b holds items[offsets[b]:offsets[b + 1]].

    Attributes:
        offsets: (b + 1,) int64; items: int32, distinct and ascending in a basket;
        user: (b,) int32, ascending; time: (b,) int64, of the first purchase, microseconds, ascending for each user;
        unit: what a basket is, as in "orders" or "sessions of purchases";
        too_large: how many baskets were left out for their size; without_order: purchases left out for want of one.
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    user: NDArray[np.int32]
    time: NDArray[np.int64]
    unit: str = "baskets"
    too_large: int = 0
    without_order: int = 0

    def __len__(self) -> int:
        return len(self.user)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(b,): distinct items of each."""
        return np.diff(self.offsets)

    @classmethod
    def of_lists(cls, lists: Iterable[Sequence[int]], *, unit: str = "baskets") -> Baskets:
        """Baskets without users and times: each one its own user's, all at one time.

        Raises:
            InputError: for an item that is no whole number from 0 on.
        """
        sets = [sorted(set(basket)) for basket in lists]
        flat = np.array([item for basket in sets for item in basket] or np.empty(0, np.int64))
        if flat.dtype.kind not in "iu" or (len(flat) and not 0 <= flat.min() <= flat.max() <= np.iinfo(np.int32).max):
            raise InputError("baskets: items are numbers from 0 on, as a shop's vocabulary gives them")
        offsets = np.append(0, np.cumsum([len(basket) for basket in sets])).astype(np.int64)
        users = np.arange(len(sets), dtype=np.int32)
        return cls(offsets, flat.astype(np.int32), users, np.zeros(len(sets), np.int64), unit)

    def where(self, mask: NDArray[np.bool_]) -> Baskets:
        """The baskets that a (b,) mask keeps, in the same order."""
        mask = np.asarray(mask, bool)
        sizes = self.sizes
        return Baskets(
            np.append(0, np.cumsum(sizes[mask])).astype(np.int64),
            self.items[np.repeat(mask, sizes)],
            self.user[mask],
            self.time[mask],
            self.unit,
            self.too_large,
            self.without_order,
        )

    def matrix(self, n_items: int) -> csr_array:
        """(b, n_items) float32 of ones where an item lies in a basket.

        Raises:
            InputError: if an item has a number from n_items on.
        """
        check_items(self, n_items)
        return csr_array((np.ones(len(self.items), np.float32), self.items, self.offsets), shape=(len(self), n_items))


def baskets_of(shop: Shop, *, largest: int = LARGEST) -> Baskets:
    """What was bought together in a view of a shop, see `endcap.shop.purchases.purchases_of`.

    Args:
        largest: baskets of more distinct items are left out and counted; 0 keeps all.

    Raises:
        InputError: if `largest` is below 0.
    """
    if largest < 0:
        raise InputError(f"largest={largest}: a number of items, or 0 for baskets of any size")
    found = _of_purchases(purchases_of(shop), shop.n_items)
    if not largest or not len(found) or found.sizes.max() <= largest:
        return found
    small = found.sizes <= largest
    kept = found.where(small)
    return Baskets(
        kept.offsets, kept.items, kept.user, kept.time, kept.unit, int((~small).sum()), kept.without_order
    )  # fmt: skip


def _of_purchases(bought: Purchases, n_items: int) -> Baskets:
    pairs = np.unique(bought.basket * max(n_items, 1) + bought.item)
    basket = pairs // max(n_items, 1)
    n = int(bought.basket.max(initial=-1)) + 1
    user, time = np.empty(n, np.int32), np.full(n, np.iinfo(np.int64).max)
    user[bought.basket] = bought.user
    np.minimum.at(time, bought.basket, bought.time)
    return Baskets(
        np.searchsorted(basket, np.arange(n + 1)).astype(np.int64),
        (pairs % max(n_items, 1)).astype(np.int32),
        user,
        time,
        bought.unit,
        without_order=bought.without_order,
    )


def check_items(baskets: Baskets, n_items: int) -> None:
    """Refuse baskets that compiled loops would read beyond their arrays for."""
    offsets, items = baskets.offsets, baskets.items
    if len(offsets) != len(baskets) + 1 or len(baskets.time) != len(baskets):
        raise InputError("baskets: offsets are one more than users and times")
    if offsets[0] != 0 or offsets[-1] != len(items) or (np.diff(offsets) < 0).any():
        raise InputError(f"baskets: offsets must ascend from 0 to the number of items in all, {len(items)}")
    if len(items) and not 0 <= items.min() <= items.max() < n_items:
        raise InputError(f"baskets: items must be in 0 .. {n_items - 1}, not {items.min()} .. {items.max()}")
