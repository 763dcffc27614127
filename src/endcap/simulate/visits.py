"""Visits to a simulated shop, drawn one after the other: the loops that decide the speed.

A visit is a mission: a user after one of their activities, in one family and price band. They compare rivals in one
leaf by clicks, choose one (click, cart), perhaps go on to further leaves of the activity (few clicks, cart), and buy
what is in the cart, or not. What is looked at and what is chosen are independent given the mission, so the best
possible item-to-item list can be written down: see `endcap.simulate.oracle`.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.shop import Interactions
from endcap.shop.interactions import FURTHER_KINDS
from endcap.simulate.settings import DAY, ShopSettings
from endcap.simulate.world import World

CLICK, FAVOURITE, CART, PURCHASE = range(len(Interactions().names))
SEARCH, IMPRESSION, RETURN = (FURTHER_KINDS[name] for name in ("search", "impression", "return"))

# Columns of a row, int64; -1 where there is none. The last five are not written: they are how the row came about.
TIME, USER, ITEM, KIND, SESSION, ORDER, REQUEST, POSITION, WHY, LEAF, ACTIVITY, ROLE, MISSION = range(13)
N_COLUMNS = 13
COMPARED, CHOSEN, ELSEWHERE, CRAWLED = range(4)  # WHY

# Running numbers of a log, and how many rows may still be counted.
ROWS, LEFT, NEXT_SESSION, NEXT_ORDER, NEXT_REQUEST = range(5)

CLICKED_BEFORE_CART = 0.8
BOUGHT_AT_CHECKOUT = 0.9
MEAN_PAUSE_S, PAUSE_SPREAD, LONGEST_PAUSE_S = 25.0, 0.9, 600.0
TRIES = 200
NOT_SHOWN = (-1, -1, -1)
LONGEST_CART = 16


class Habits(NamedTuple):
    """The settings of a visit, as plain numbers for numba."""

    looks: float
    more_looks: float
    converts: float
    complements: float
    wandering: float
    favourites: float
    checkout: float
    doubles: float
    returns: float
    searches: float
    impressions: int
    seasons: float

    @classmethod
    def of(cls, settings: ShopSettings) -> Habits:
        return cls(*(getattr(settings, name) for name in cls._fields))


def draw_visits(
    rng: np.random.Generator,
    world: World,
    habits: Habits,
    first: int,
    last: int,
    counts: NDArray[np.int64],
    n_rows: int,
) -> NDArray[np.int64]:
    """Visits that begin in [first, last), until `n_rows` rows besides impressions and later returns are there.

    Args:
        counts: (5,) running numbers, moved on in place.

    Returns:
        (n, N_COLUMNS) int64, unsorted; returns may lie after `last`.
    """
    rows = np.empty((n_rows * (2 + habits.impressions) + habits.impressions, N_COLUMNS), np.int64)
    counts[ROWS], counts[LEFT] = 0, n_rows
    _visits(rng, world, habits, first, last, counts, rows)
    return rows[: counts[ROWS]]


@numba.njit(cache=True)
def _visits(rng, world, habits, first, last, counts, rows):  # type: ignore[no-untyped-def]
    while counts[LEFT] > 0:
        now = first + np.int64(rng.random() * (last - first))
        hour = (now % DAY) / DAY * 24
        if rng.random() >= 0.2 + 0.8 * max(0.0, np.sin(np.pi * (hour - 6) / 18)):
            continue
        n_joined = np.searchsorted(world.joined, now, side="right")
        user = _find(world.user_sum, 0, n_joined, rng.random() * world.user_sum[n_joined - 1])
        domain = _find(world.domain_sum, 0, len(world.domain_sum), rng.random())
        _visit(rng, world, habits, user, domain, now, last, counts, rows)
        counts[NEXT_SESSION] += 1


@numba.njit(cache=True)
def _visit(rng, world, habits, user, domain, now, last, counts, rows):  # type: ignore[no-untyped-def]
    interest = _interest(rng, world, habits.seasons, user, domain, now)
    activity = np.int64(world.activity[user, domain, interest])
    taste = (np.int64(world.mission_family[user, domain, interest]), np.int64(world.user_band[user, domain]))
    mission = taste[0] * len(world.band_look) + taste[1]
    first_role = world.role_start[activity]
    n_roles = world.role_start[activity + 1] - first_role
    converts = rng.random() < habits.converts
    cart = np.empty((LONGEST_CART, 4), np.int64)  # item, leaf, role, whether it is the rival of another
    in_cart = 0
    entered = 0
    for stage in range(n_roles):
        role = _next_role(rng, world.role_pull, n_roles, entered)
        entered |= 1 << role
        place = (world.role_leaf[first_role + role], activity, role, mission)
        if rng.random() < habits.searches:
            now = _add(rng, rows, counts, now, user, -1, SEARCH, NOT_SHOWN, COMPARED, place)
        for _ in range(1 + rng.poisson(habits.looks) if stage == 0 else rng.poisson(habits.more_looks)):
            item = _draw(rng, world, world.look_sum, world.fits_look, world.band_look, place[0], taste, now)
            now = _look(rng, world, habits, rows, counts, now, user, item, taste, COMPARED, place)
            if rng.random() < habits.favourites:
                now = _add(rng, rows, counts, now, user, item, FAVOURITE, NOT_SHOWN, COMPARED, place)
            now = _wander(rng, world, habits, rows, counts, now, user, domain, interest)
        if not converts:
            return
        for rival in range(1 + (rng.random() < habits.doubles)):
            item = _draw(rng, world, world.cart_sum, world.fits_cart, world.band_cart, place[0], taste, now)
            if rng.random() < CLICKED_BEFORE_CART:
                now = _look(rng, world, habits, rows, counts, now, user, item, taste, CHOSEN, place)
            now = _add(rng, rows, counts, now, user, item, CART, NOT_SHOWN, CHOSEN, place)
            if in_cart < LONGEST_CART:
                cart[in_cart, 0], cart[in_cart, 1], cart[in_cart, 2], cart[in_cart, 3] = item, place[0], role, rival
                in_cart += 1
            now = _wander(rng, world, habits, rows, counts, now, user, domain, interest)
        if rng.random() >= habits.complements:
            break
    if rng.random() < habits.checkout:
        _buy(rng, habits, rows, counts, now, user, activity, mission, cart[:in_cart], last)


@numba.njit(cache=True)
def _buy(rng, habits, rows, counts, now, user, activity, mission, cart, last):  # type: ignore[no-untyped-def]
    order = (counts[NEXT_ORDER], -1, -1)
    counts[NEXT_ORDER] += 1
    for line in range(len(cart)):
        item, leaf, role, rival = cart[line]
        place = (leaf, activity, role, mission)
        if rng.random() >= BOUGHT_AT_CHECKOUT:
            continue
        _add(rng, rows, counts, now, user, item, PURCHASE, order, CHOSEN, place)
        now += 1_000_000
        back = now + np.int64((2 + 19 * rng.random()) * DAY)
        if counts[LEFT] > 0 and rng.random() < min(0.9, habits.returns * (10 if rival else 1)):
            _add(rng, rows, counts, back, user, item, RETURN, order, CHOSEN, place)
            if back >= last:
                counts[LEFT] += 1  # counted where it falls


@numba.njit(cache=True)
def _wander(rng, world, habits, rows, counts, now, user, domain, interest):  # type: ignore[no-untyped-def]
    """Perhaps a click elsewhere: another interest of the user, or what everybody looks at."""
    if rng.random() >= habits.wandering:
        return now
    n_interests = len(world.interest_sum)
    if n_interests > 1 and rng.random() < 0.5:
        interest = (interest + rng.integers(1, n_interests)) % n_interests
        other = world.activity[user, domain, interest]
        leaf = world.role_leaf[rng.integers(world.role_start[other], world.role_start[other + 1])]
        taste = (np.int64(world.mission_family[user, domain, interest]), np.int64(world.user_band[user, domain]))
    else:
        n_leaves = len(world.leaf_sum) // len(world.domain_sum)
        first = domain * n_leaves
        below = world.leaf_sum[first - 1] if first > 0 else 0.0
        within = world.leaf_sum[first + n_leaves - 1] - below
        leaf = _find(world.leaf_sum, first, first + n_leaves, below + rng.random() * within)
        taste = (np.int64(-1), np.int64(-1))
    item = _draw(rng, world, world.look_sum, world.fits_look, world.band_look, leaf, taste, now)
    place = (leaf, np.int64(-1), np.int64(-1), np.int64(-1))
    return _look(rng, world, habits, rows, counts, now, user, item, taste, ELSEWHERE, place)


@numba.njit(cache=True)
def _look(rng, world, habits, rows, counts, now, user, item, taste, why, place):  # type: ignore[no-untyped-def]
    """A click, on one of several items shown where impressions are asked for."""
    if habits.impressions == 0:
        return _add(rng, rows, counts, now, user, item, CLICK, NOT_SHOWN, why, place)
    request, clicked = counts[NEXT_REQUEST], rng.integers(0, habits.impressions)
    counts[NEXT_REQUEST] += 1
    for position in range(habits.impressions):
        other = item
        if position != clicked:
            other = _draw(rng, world, world.look_sum, world.fits_look, world.band_look, place[0], taste, now)
        _add(rng, rows, counts, now, user, other, IMPRESSION, (-1, request, position), why, place)
    return _add(rng, rows, counts, now + 1_000_000, user, item, CLICK, (-1, request, clicked), why, place)


@numba.njit(cache=True)
def _add(rng, rows, counts, now, user, item, kind, shown, why, place):  # type: ignore[no-untyped-def]
    """Write a row while there is room for it; the time of the next one.

    `shown` is (order, request, position), `place` (leaf, activity, role, mission).
    """
    if counts[LEFT] > 0 and counts[ROWS] < len(rows):
        row = rows[counts[ROWS]]
        row[TIME], row[USER], row[ITEM], row[KIND], row[SESSION] = now, user, item, kind, counts[NEXT_SESSION]
        row[ORDER], row[REQUEST], row[POSITION], row[WHY] = shown[0], shown[1], shown[2], why
        row[LEAF], row[ACTIVITY], row[ROLE], row[MISSION] = place[0], place[1], place[2], place[3]
        counts[ROWS] += 1
        if kind != IMPRESSION:
            counts[LEFT] -= 1
    pause = min(LONGEST_PAUSE_S, MEAN_PAUSE_S * np.exp(PAUSE_SPREAD * rng.standard_normal() - 0.5 * PAUSE_SPREAD**2))
    return now + np.int64(pause * 1_000) * 1_000 + 1_000


@numba.njit(cache=True)
def _interest(rng, world, seasons, user, domain, now):  # type: ignore[no-untyped-def]
    """One of the user's interests, those in season more often."""
    year = now / (365.25 * DAY)
    for _ in range(TRIES):
        interest = _find(world.interest_sum, 0, len(world.interest_sum), rng.random())
        away = np.cos(2 * np.pi * (year - world.peak[world.activity[user, domain, interest]]))
        if rng.random() * (1 + seasons) < 1 + seasons * away:
            return interest
    return 0


@numba.njit(cache=True)
def _next_role(rng, pull, n_roles, entered):  # type: ignore[no-untyped-def]
    """A role that was not entered yet, by its pull; `entered` is a bit mask."""
    total = 0.0
    for role in range(n_roles):
        if not entered >> role & 1:
            total += pull[role]
    left = rng.random() * total
    chosen = -1
    for role in range(n_roles):
        if not entered >> role & 1:
            chosen = role
            left -= pull[role]
            if left < 0:
                break
    return chosen


@numba.njit(cache=True)
def _draw(rng, world, pull_sum, fits, near, leaf, taste, now):  # type: ignore[no-untyped-def]
    """An item of a leaf by its pull, if it is launched and by how it fits a taste, (family, band)."""
    family, band = taste
    begin, end = world.leaf_start[leaf], world.leaf_start[leaf + 1]
    for _ in range(TRIES):
        item = _find(pull_sum, begin, end, rng.random())
        if world.launched[item] > now:
            continue
        if family < 0 or rng.random() < fits[family, world.family[item]] * near[band, world.band[item]]:
            return item
    return world.oldest[leaf]


@numba.njit(cache=True)
def _find(running, begin, end, value):  # type: ignore[no-untyped-def]
    """The first place in running[begin:end] above the value, the last one at most."""
    low, high = begin, end - 1
    while low < high:
        middle = (low + high) // 2
        if running[middle] > value:
            high = middle
        else:
            low = middle + 1
    return low
