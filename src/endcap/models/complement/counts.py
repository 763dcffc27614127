"""What a log says about pairs of items: seen in one session, bought together, compared, returned. In bounded memory.

Only pairs that were seen in one session, bought within the window, or bought and then returned are counted; of each
item `per_item` partners at most are kept of either kind, the most frequent. Everything else is added up for those
pairs alone, so nothing grows with the square of a session or of a person's purchases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.graph.baskets import Baskets, baskets_of
from endcap.graph.copurchase import CoPurchase, co_purchase
from endcap.shop import Events, Shop
from endcap.shop.interactions import RETURN
from endcap.shop.purchases import Purchases, purchases_of, strongest

DAY_US = 86_400_000_000
LARGEST_VIEW = 100  # different items of a session: who looks at more compares nothing
MOST_PURCHASES = 200  # of a person, that lie between two which are still a pair
GAP_EDGES = np.array([0, 1 / 24, 0.25, 1, 2, 4, 7, 10, 14, 20, 30, 45, 60, 90, 180, 365.0])  # days
GAP_MIDDLES = np.concatenate([[0.0], (GAP_EDGES[:-1] + GAP_EDGES[1:]) / 2, [GAP_EDGES[-1]]])
# What is counted of a pair; low is the item of the lower number
VIEWED, IN_ROW, SWITCHES, LOW_VIEWED, HIGH_VIEWED, BOUGHT, TOGETHER, LOW_FIRST, GAP, LOW_BOUGHT, HIGH_BOUGHT = range(11)
N_COUNTS = 11

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PairCounts:
    """Counts of pairs of items low < high and of the items themselves.

    Attributes:
        keys: (m,) int64 ascending, low * n_items + high; counts: (m, N_COUNTS) float32, by column
            VIEWED sessions in which both were looked at; IN_ROW times one was looked at right after the other;
            SWITCHES times from one to the other and back; LOW_VIEWED sessions in which low was looked at and not
            bought, and high bought after it; HIGH_VIEWED the same with high looked at; BOUGHT occasions on which one
            person bought both within the window; TOGETHER those in one basket; LOW_FIRST those on which low came first,
            a basket counting half; GAP the median of the days between, NaN where never; LOW_BOUGHT returns of high
            within k days of buying low; HIGH_BOUGHT returns of low within k days of buying high;
        of_item: (4, n_items) float32, sessions it was looked at in, baskets, purchases (returned ones, too), returns;
        totals: (4,) float64, sessions, baskets, purchases and returns in all; 0 where the log has none.
        viewed, together: the graphs behind VIEWED and TOGETHER, symmetric.
    """

    keys: Ints
    counts: Floats
    of_item: Floats
    totals: NDArray[np.float64]
    viewed: csr_array
    together: csr_array


def count_pairs(shop: Shop, *, window_days: float, return_days: float, per_item: int, threads: int = 1) -> PairCounts:
    """Count what a view of a shop says of pairs.

    Args:
        window_days: one person buying both within so many days is an occasion; return_days: k of the returns;
        per_item: partners of an item that are kept, of those looked at and of those bought.
    """
    n = shop.n_items
    code = strongest(shop)
    views = _views(shop, code)
    seen = _sessions_of(views, n)
    viewed = _count(seen, n, 0, per_item, threads).together
    bought = _count(baskets_of(shop), n, window_days, per_item, threads)
    returned = _returned_after(shop, code, return_days)
    keys = np.unique(np.concatenate([_upper(viewed)[0], _upper(bought.counts)[0], _key(*returned, n)]))
    counts = np.zeros((len(keys), N_COUNTS), np.float32)
    for column, graph in ((VIEWED, viewed), (BOUGHT, bought.counts), (TOGETHER, bought.together)):
        found, values = _upper(graph)
        counts[np.searchsorted(keys, found), column] = values
    found, values = _upper(bought.forward)
    counts[np.searchsorted(keys, found), LOW_FIRST] = values
    _add(keys, counts, _in_row(views), n, IN_ROW)
    _add(keys, counts, _switches(views), n, SWITCHES)
    viewer, buyer = _bought_after_view(keys, shop, code, n)
    counts[:, LOW_VIEWED], counts[:, HIGH_VIEWED] = viewer, buyer
    counts[:, GAP] = _median_gaps(keys, counts[:, BOUGHT] > 0, purchases_of(shop), n, window_days)
    buys, back = returned
    _add(keys, counts, (buys[buys < back], back[buys < back]), n, LOW_BOUGHT)
    _add(keys, counts, (buys[buys > back], back[buys > back]), n, HIGH_BOUGHT)
    events = shop.events
    raw = events.item[(events.interaction == code) & (events.item >= 0)]
    sent = events.item[(events.interaction == RETURN) & (events.item >= 0)]
    of_item = np.stack([
        np.bincount(seen.items, minlength=n), bought.n_of, np.bincount(raw, minlength=n), np.bincount(sent, minlength=n)
    ]).astype(np.float32)  # fmt: skip
    totals = np.array([len(seen), bought.n_baskets, len(raw), len(sent)], np.float64)
    return PairCounts(keys, counts, of_item, totals, viewed, bought.together)


def _sessions_of(views: Events, n_items: int) -> Baskets:
    """Sessions as sets of what was looked at; those of more than LARGEST_VIEW items are left out."""
    session = np.cumsum(np.append(False, views.session[1:] != views.session[:-1])) if len(views) else views.session
    pairs = np.unique(session.astype(np.int64) * max(n_items, 1) + views.item)
    of, items = np.divmod(pairs, max(n_items, 1))
    n = int(of[-1]) + 1 if len(of) else 0
    first = np.searchsorted(session, np.arange(n))
    offsets = np.searchsorted(of, np.arange(n + 1)).astype(np.int64)
    sessions = Baskets(offsets, items.astype(np.int32), views.user[first], views.time[first], "sessions")
    return sessions.where(sessions.sizes <= LARGEST_VIEW)


def _views(shop: Shop, code: int) -> Events:
    past = shop.positives
    return past.where(past.interaction < min(code, *shop.interactions.intents))


def _count(baskets: Baskets, n_items: int, window_days: float, per_item: int, threads: int) -> CoPurchase:
    return co_purchase(
        baskets, n_items, window_days=window_days, half_life_days=np.inf, min_support=1, min_together=1,
        per_item=per_item, threads=threads,
    )  # fmt: skip


def _upper(graph: csr_array) -> tuple[Ints, Floats]:
    """Keys and values of a symmetric graph's edges, each once, ascending."""
    row = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    up = row < graph.indices
    return row[up].astype(np.int64) * graph.shape[1] + graph.indices[up], graph.data[up]


def _key(one: NDArray[np.integer], other: NDArray[np.integer], n_items: int) -> Ints:
    return np.minimum(one, other).astype(np.int64) * n_items + np.maximum(one, other)


def _add(keys: Ints, counts: Floats, pairs: tuple[NDArray, NDArray], n_items: int, column: int) -> None:
    """Count pairs that are among the keys into a column."""
    found, times = np.unique(_key(*pairs, n_items), return_counts=True)
    place = places(keys, found)
    counts[place[place >= 0], column] += times[place >= 0]


def places(keys: NDArray[np.integer], wanted: NDArray[np.integer]) -> Ints:
    """Where each wanted key stands among the ascending ones, -1 where it does not."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def _looks(views: Events) -> tuple[NDArray, NDArray]:
    """Items and sessions of the looks in a row, a look at the same item again being none."""
    order = np.lexsort((views.time, views.session))  # both sorts are stable
    item, session = views.item[order], views.session[order]
    fresh = np.ones(len(item), bool)
    fresh[1:] = (item[1:] != item[:-1]) | (session[1:] != session[:-1])
    return item[fresh], session[fresh]


def _in_row(views: Events) -> tuple[NDArray, NDArray]:
    item, session = _looks(views)
    same = session[1:] == session[:-1]
    return item[:-1][same], item[1:][same]


def _switches(views: Events) -> tuple[NDArray, NDArray]:
    item, session = _looks(views)
    back = (session[2:] == session[:-2]) & (item[2:] == item[:-2])
    return item[:-2][back], item[1:-1][back]


def _bought_after_view(keys: Ints, shop: Shop, code: int, n_items: int) -> tuple[Floats, Floats]:
    """(m,) each: sessions in which low, and in which high, was looked at but not bought, and the other bought later."""
    past, intents = shop.positives, min(code, *shop.interactions.intents)
    order = np.lexsort((past.time, past.session))
    item, session, kind = past.item[order], past.session[order], past.interaction[order]
    low, high = np.zeros(len(keys), np.float32), np.zeros(len(keys), np.float32)
    _count_after_view(
        keys, item.astype(np.int64), session, kind == code, kind < intents, n_items, LARGEST_VIEW * 10, low, high
    )
    return low, high


@numba.njit(nogil=True, cache=True)
def _count_after_view(keys, item, session, buys, looks, n_items, longest, low, high):  # type: ignore[no-untyped-def]
    bought = np.full(n_items, -1, np.int64)  # the session it was bought in last
    counted = np.full(n_items, -1, np.int64)  # the purchase it was counted before
    begin = 0
    while begin < len(item):
        end, any_bought = begin, False
        while end < len(item) and session[end] == session[begin]:
            any_bought |= buys[end]
            end += 1
        if any_bought and end - begin <= longest:
            for at in range(begin, end):
                if buys[at]:
                    bought[item[at]] = begin
            for at in range(begin, end):
                if not buys[at] or counted[item[at]] == -2 - begin:
                    continue
                counted[item[at]] = -2 - begin  # each item's first purchase alone
                for before in range(begin, at):
                    other = item[before]
                    if not looks[before] or bought[other] == begin or counted[other] == at:
                        continue
                    counted[other] = at
                    first, second = min(other, item[at]), max(other, item[at])
                    key = first * n_items + second
                    place = np.searchsorted(keys, key)
                    if place < len(keys) and keys[place] == key:
                        if other == first:
                            low[place] += 1
                        else:
                            high[place] += 1
        begin = end


def _median_gaps(keys: Ints, wanted: NDArray[np.bool_], bought: Purchases, n_items: int, window_days: float) -> Floats:
    """(m,) days between the purchases of a pair, to the middle of a class of GAP_EDGES; NaN where there are none."""
    rows = np.flatnonzero(wanted)
    times = np.zeros((len(rows), len(GAP_MIDDLES)), np.int32)
    order = np.lexsort((bought.time, bought.user))
    columns = (part[order] for part in (bought.user, bought.item.astype(np.int64), bought.time, bought.basket))
    _count_gaps(keys[rows], *columns, n_items, window_days * DAY_US, GAP_EDGES * DAY_US, MOST_PURCHASES, times)
    until = np.cumsum(times, axis=1)
    middle = np.argmax(2 * until >= until[:, -1:], axis=1)
    found = np.full(len(keys), np.nan, np.float32)
    found[rows] = np.where(until[:, -1] > 0, GAP_MIDDLES[middle], np.nan)
    return found


@numba.njit(nogil=True, cache=True)
def _count_gaps(keys, user, item, time, basket, n_items, window, edges, most, times):  # type: ignore[no-untyped-def]
    for at in range(len(item)):
        for later in range(at + 1, min(len(item), at + most + 1)):
            if user[later] != user[at]:
                break
            gap, one = time[later] - time[at], basket[later] == basket[at]
            if gap > window and not one:
                break
            if item[later] == item[at]:
                continue
            key = min(item[at], item[later]) * n_items + max(item[at], item[later])
            place = np.searchsorted(keys, key)
            if place < len(keys) and keys[place] == key:
                times[place, 0 if one else max(1, np.searchsorted(edges, gap))] += 1


def _returned_after(shop: Shop, code: int, return_days: float) -> tuple[NDArray, NDArray]:
    """Pairs (bought, returned): for each return of an item what else the person bought at most k days before it."""
    events = shop.events
    returns, buys = events.interaction == RETURN, events.interaction == code
    rows = np.flatnonzero((returns | buys) & (events.item >= 0))
    rows = rows[np.lexsort((events.time[rows], events.user[rows]))]
    columns = (events.user[rows], events.item[rows], events.time[rows], returns[rows])
    window = int(return_days * DAY_US)
    n = _pairs_of_returns(*columns, window, MOST_PURCHASES, np.empty((0, 2), np.int32))
    found = np.empty((n, 2), np.int32)
    _pairs_of_returns(*columns, window, MOST_PURCHASES, found)
    return found[:, 0], found[:, 1]


@numba.njit(nogil=True, cache=True)
def _pairs_of_returns(user, item, time, returned, window, most, found):  # type: ignore[no-untyped-def]
    """Fill `found` as far as it goes; how many there are. An item that was bought twice before counts once."""
    n = 0
    for at in range(len(item)):
        if not returned[at]:
            continue
        first = max(0, at - most)
        for before in range(at - 1, first - 1, -1):
            if user[before] != user[at] or time[at] - time[before] > window:
                break
            if returned[before] or item[before] == item[at]:
                continue
            again = False
            for between in range(before + 1, at):
                again |= not returned[between] and item[between] == item[before]
            if not again:
                if n < len(found):
                    found[n, 0], found[n, 1] = item[before], item[at]
                n += 1
    return n
