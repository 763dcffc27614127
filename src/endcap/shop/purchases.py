"""What was bought and kept, and which basket each purchase lies in."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.shop.interactions import RETURN
from endcap.shop.shop import Events, Shop


@dataclass(frozen=True, eq=False)
class Purchases:
    """Purchases (m,) by user, then basket in order of its first purchase; returned ones are not among them.

    Attributes:
        user, item: int32; time: int64, microseconds; basket: int64, ascending from 0, never shared by two users;
        unit: what a basket is ("orders", "sessions of purchases"), or of the strongest interaction that occurs where
        nobody bought anything; without_order: purchases left out since others have an order and they have none.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    time: NDArray[np.int64]
    basket: NDArray[np.int64]
    unit: str
    without_order: int = 0

    def __len__(self) -> int:
        return len(self.item)


def purchases_of(shop: Shop) -> Purchases:
    """The purchases of a view, by order where the log has orders, else by session.

    A return undoes the latest purchase of the item by the same user until then that no other return has undone, whole,
    whatever its quantity. Where the log has no purchases, its strongest interaction stands for them.
    """
    code = strongest(shop)
    name = shop.interactions.name(code)
    events = _kept(shop.events, code)
    basket, unit, without_order = events.session.astype(np.int64), f"sessions of {name}s", 0
    columns = events.columns
    if "order" in columns.column_names and columns["order"].null_count < len(events):
        orders = columns["order"].combine_chunks().dictionary_encode()
        known = orders.indices.is_valid().to_numpy(zero_copy_only=False)
        number = orders.indices.fill_null(0).to_numpy().astype(np.int64)
        basket = (events.user.astype(np.int64) * len(orders.dictionary) + number)[known]
        events, unit, without_order = events.where(known), "orders", int((~known).sum())
    _, basket = np.unique(basket, return_inverse=True)
    n = int(basket.max(initial=-1)) + 1
    begins, user = np.full(n, np.iinfo(np.int64).max), np.empty(n, np.int32)
    np.minimum.at(begins, basket, events.time)
    user[basket] = events.user
    place = np.empty(n, np.int64)
    place[np.lexsort((begins, user))] = np.arange(n)
    basket = place[basket]
    order = np.argsort(basket, kind="stable")
    return Purchases(events.user[order], events.item[order], events.time[order], basket[order], unit, without_order)


def strongest(shop: Shop) -> int:
    """The code of purchases, or of the strongest interaction that occurs where there are none."""
    seen, names = shop.positives.interaction, shop.interactions.names
    if "purchase" in names and (seen == names.index("purchase")).any():
        return names.index("purchase")
    return int(seen.max()) if len(seen) else len(names) - 1


def _kept(events: Events, code: int) -> Events:
    """The events of one kind that no return undoes."""
    returned = events.interaction == RETURN
    wanted = (events.interaction == code) & (events.item >= 0)
    if returned.any():
        rows = np.flatnonzero((returned | wanted) & (events.item >= 0))
        # at one moment the return comes after the purchase
        rows = rows[np.lexsort((returned[rows], events.time[rows], events.item[rows], events.user[rows]))]
        wanted[_undone(events.user[rows], events.item[rows], returned[rows], rows)] = False
    return events.where(wanted)


@numba.njit(nogil=True, cache=True)
def _undone(user, item, returned, rows):  # type: ignore[no-untyped-def]
    """Those of `rows` that a later return takes back, events being in order of user, item, time."""
    found, waiting = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    n_found = n_waiting = 0
    for place in range(len(rows)):
        if place and (user[place] != user[place - 1] or item[place] != item[place - 1]):
            n_waiting = 0
        if not returned[place]:
            waiting[n_waiting] = rows[place]
            n_waiting += 1
        elif n_waiting:
            n_waiting -= 1
            found[n_found] = waiting[n_waiting]
            n_found += 1
    return found[:n_found]
