"""Occasions: what is bought at the same times of the year, by a factorisation of item x week-of-year lifts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.edges import graph_of

WEEKS = 53
YEAR = 365.25 * 86_400_000_000  # microseconds
LEAST_WEEKS = 8  # that the log must cover
LEAST_SALES = 5  # of an item that is told apart
PRIOR = 2.0  # purchases that an item is given beforehand, spread as all purchases are
LEARN_FROM = 20_000  # the most bought items
ROUNDS = 100
PER_ITEM = 3
LEAST_SHARE = 0.2  # of an item's occasions together, for an edge


class Occasions(NamedTuple):
    """items: (n_items, k) share of each occasion in an item's seasons; weeks: (k, 53) its profile, of sum 1."""

    items: csr_array
    weeks: NDArray[np.float32]


def week_of_year(time: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 .. 52, counted from the first of January of an average year."""
    return np.minimum((time % YEAR) / YEAR * WEEKS, WEEKS - 1).astype(np.int64)


def find_occasions(
    item: NDArray[np.integer], time: NDArray[np.int64], n_items: int, *, k: int = 16, seed: int = 0
) -> Occasions:
    """Non-negative factors (Lee and Seung 2001) of how much more often an item is bought in a week than all items are.

    Args:
        item, time: of each purchase.

    Raises:
        InputError: if the purchases cover less than eight weeks, or k is not above 0.
    """
    if not isinstance(k, int | np.integer) or not 1 <= k <= WEEKS:
        raise InputError(f"occasions={k!r}: a number from 1 to {WEEKS}")
    week = week_of_year(time)
    of_week = np.bincount(week, minlength=WEEKS)
    covered = np.flatnonzero(of_week)
    if len(covered) < LEAST_WEEKS:
        raise InputError(
            f"occasions: the purchases cover {len(covered)} weeks of the year, at least {LEAST_WEEKS} are needed"
        )
    usual = of_week[covered] / of_week.sum()
    column = np.searchsorted(covered, week)
    sales = np.bincount(item, minlength=n_items)
    known = np.flatnonzero(sales >= LEAST_SALES)
    place = np.full(n_items, -1)
    place[known] = np.arange(len(known))
    told = place[item] >= 0
    seen = np.bincount(place[item[told]] * len(covered) + column[told], minlength=len(known) * len(covered))
    seen = seen.reshape(len(known), len(covered))
    # a week counts as much as it sells: the lifts of quiet weeks are mostly chance
    lift = (seen + PRIOR * usual) / ((sales[known, None] + PRIOR) * usual) * np.sqrt(usual)
    rng = np.random.default_rng(seed)
    first = np.argsort(-sales[known], kind="stable")[:LEARN_FROM]
    profiles = rng.random((k, len(covered))) + 0.1
    _factorise(lift[first], rng.random((len(first), k)) + 0.1, profiles, learn=True)
    profiles /= np.maximum(np.linalg.norm(profiles, axis=1, keepdims=True), 1e-12)
    parts = np.full((len(known), k), lift.mean() / k if lift.size else 1.0)
    _factorise(lift, parts, profiles, learn=False)
    share = parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-12)
    best = np.argsort(-share, axis=1, kind="stable")[:, :PER_ITEM]
    row, rank = np.nonzero(np.take_along_axis(share, best, axis=1) >= LEAST_SHARE)
    occasion = best[row, rank]
    weeks = np.zeros((k, WEEKS), np.float32)
    weeks[:, covered] = profiles * np.sqrt(usual)
    weeks /= np.maximum(weeks.sum(axis=1, keepdims=True), 1e-12)
    return Occasions(graph_of(known[row], occasion, share[row, occasion], shape=(n_items, k), loops=True), weeks)


def _factorise(lift: NDArray, parts: NDArray, profiles: NDArray, *, learn: bool) -> None:
    """Multiplicative updates in place, so that parts @ profiles comes near lift."""
    for _ in range(ROUNDS):
        parts *= (lift @ profiles.T) / np.maximum(parts @ (profiles @ profiles.T), 1e-12)
        if learn:
            profiles *= (parts.T @ lift) / np.maximum((parts.T @ parts) @ profiles, 1e-12)
