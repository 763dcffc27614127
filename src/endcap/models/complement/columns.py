"""The columns of pairs of items from catalogue and log, compiled: a few pairs cost next to nothing, as answers need.

They are as `features.OF_GROUP` names them, in its order.
"""

from __future__ import annotations

import numba
import numpy as np

from endcap.models.complement.counts import (
    BOUGHT,
    GAP,
    HIGH_BOUGHT,
    HIGH_VIEWED,
    IN_ROW,
    LOW_BOUGHT,
    LOW_FIRST,
    LOW_VIEWED,
    SWITCHES,
    TOGETHER,
    VIEWED,
)

PER = 10_000  # sessions or baskets that counts are told by, so that they mean the same in a longer log
SMOOTH = 0.5  # occasions that every expectation is put beside: a lift of what hardly happened is near 1
FINE = 2.0**-20  # shares of an order are told by so much: then 1 less one is exact
BY_CATEGORY, BY_PRICE, BY_BRAND, BY_TIME, BY_RETURNS = 0, 5, 7, 10, 22  # where the columns of each group begin
N_COLUMNS = 26


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill_catalogue(levels, leaf, brand, price, leaf_keys, leaf_counts, leaf_mass, one, other, out):  # type: ignore[no-untyped-def]
    """Category, price and brand of pairs of known items, into `out` (n, N_COLUMNS)."""
    total = np.array([leaf_mass[0].sum(), leaf_mass[1].sum()])
    n_leaves = leaf_mass.shape[1]
    for row in range(len(one)):
        i, j = one[row], other[row]
        a, b = np.int64(leaf[i]), np.int64(leaf[j])
        placed = a >= 0 and b >= 0
        category = out[row, BY_CATEGORY:BY_PRICE]
        category[:] = np.nan
        if placed:
            shared = depth_i = depth_j = 0
            for level in range(levels.shape[1]):
                depth_i += levels[i, level] >= 0
                depth_j += levels[j, level] >= 0
                shared += levels[i, level] == levels[j, level] and levels[i, level] >= 0
            category[0], category[1] = a == b, shared
            category[2] = shared / max(depth_i, depth_j, 1)
            key = a * n_leaves + b
            place = np.searchsorted(leaf_keys, key)
            met = place < len(leaf_keys) and leaf_keys[place] == key
            for kind in range(2):
                if total[kind]:
                    expected = leaf_mass[kind, a] * leaf_mass[kind, b] / max(total[kind], 1)
                    category[3 + kind] = _log_ratio(leaf_counts[place, kind] if met else 0, expected)
        ratio = abs(np.log(price[i]) - np.log(price[j]))
        out[row, BY_PRICE], out[row, BY_PRICE + 1] = ratio, np.exp(-ratio)
        same = np.nan
        if brand[i] >= 0 and brand[j] >= 0:
            same = np.float64(brand[i] == brand[j])
        out[row, BY_BRAND] = same
        out[row, BY_BRAND + 1] = same * (a == b) if placed else np.nan
        out[row, BY_BRAND + 2] = np.float64(brand[i] < 0) + np.float64(brand[j] < 0)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def fill_behaviour(keys, counts, of_item, totals, one, other, out):  # type: ignore[no-untyped-def]
    """Temporal pattern and returns of pairs of known items, into `out` (n, N_COLUMNS); NaN where they never met."""
    n_items = of_item.shape[1]
    sessions, baskets, purchases = max(totals[0], 1), max(totals[1], 1), max(totals[2], 1)
    viewing, returning = totals[0] > 0, totals[3] > 0
    for row in range(len(one)):
        i, j = np.int64(one[row]), np.int64(other[row])
        key = min(i, j) * n_items + max(i, j)
        place = np.searchsorted(keys, key)
        time, returned = out[row, BY_TIME:BY_RETURNS], out[row, BY_RETURNS:N_COLUMNS]
        time[:], returned[:] = np.nan, np.nan
        if place == len(keys) or keys[place] != key:
            continue
        of = counts[place]
        seen_i, bought_i, buys_i, back_i = of_item[0, i], of_item[1, i], of_item[2, i], of_item[3, i]
        seen_j, bought_j, buys_j, back_j = of_item[0, j], of_item[1, j], of_item[2, j], of_item[3, j]
        both = np.float64(of[BOUGHT])
        time[1] = np.log1p(PER * both / baskets)
        time[3] = _log_ratio(both, bought_i * bought_j / baskets)
        time[5] = _share(of[TOGETHER], both)
        time[6] = np.log1p(np.float64(of[GAP]))
        first = of[LOW_FIRST] if i < j else both - of[LOW_FIRST]
        time[11] = np.rint(_share(first, both) / FINE) * FINE
        if viewing:
            viewed = np.float64(of[VIEWED])
            time[0] = np.log1p(PER * viewed / sessions)
            time[2] = _log_ratio(viewed, seen_i * seen_j / sessions)
            if viewed + both > 0:
                time[4] = _log_ratio(viewed, both)
            time[7], time[8] = _share(of[IN_ROW], viewed), _share(of[SWITCHES], viewed)
            time[9] = _share(of[LOW_VIEWED if i < j else HIGH_VIEWED], seen_i)
            time[10] = _share(of[HIGH_VIEWED if i < j else LOW_VIEWED], seen_j)
        if returning:
            after_i, after_j = of[LOW_BOUGHT if i < j else HIGH_BOUGHT], of[HIGH_BOUGHT if i < j else LOW_BOUGHT]
            returned[0], returned[1] = _share(after_i, buys_i), _share(after_j, buys_j)
            returned[2] = _log_ratio(after_i, buys_i * back_j / purchases)
            returned[3] = _log_ratio(after_j, buys_j * back_i / purchases)


@numba.njit(nogil=True, inline="always")
def _log_ratio(count, expected):  # type: ignore[no-untyped-def]
    return np.log((np.float64(count) + SMOOTH) / (expected + SMOOTH))


@numba.njit(nogil=True, inline="always")
def _share(part, whole):  # type: ignore[no-untyped-def]
    """NaN of nothing."""
    return np.float64(part) / np.float64(whole) if whole > 0 else np.nan
