"""Cases by segment: how well known the target is, how long the person's history, what the person did."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from endcap.evaluate.outcomes import Cases
from endcap.shop import Shop

HISTORY_BOUNDS = (1, 5, 20, 100)
ITEM_BOUNDS = (1, 10, 51)

Labels = tuple[NDArray[np.integer], dict[int, str]]
"""(n,) labels of the cases and the labels' names in order."""


def segments(train: Shop, cases: Cases) -> dict[str, Labels]:
    """All segments of cases; items are counted in the training part alone."""
    return {
        "item": cold_items(train, cases.item),
        "item actions": bands(counts_of(train.positives.item, cases.item), ITEM_BOUNDS),
        "popularity decile": popularity_deciles(train, cases.item),
        "history length": bands(cases.known, HISTORY_BOUNDS),
        "interaction": (cases.interaction, dict(enumerate(train.interactions.names))),
    }


def cold_items(train: Shop, item: NDArray[np.int32]) -> Labels:
    """Items without any positive action in the training part, and the others."""
    return (counts_of(train.positives.item, item) == 0).astype(np.int8), {1: "cold", 0: "known"}


def popularity_deciles(train: Shop, item: NDArray[np.int32]) -> Labels:
    """Tenths of the training part's items by number of actions, 1 the most popular; cold items are left out (-1)."""
    counts = np.bincount(train.positives.item)
    known = np.flatnonzero(counts)
    decile = np.full(max(len(counts), int(item.max(initial=0)) + 1), -1)
    decile[known[np.argsort(-counts[known], kind="stable")]] = 1 + np.arange(len(known)) * 10 // max(1, len(known))
    return decile[item], {n: str(n) for n in range(1, 11)}


def bands(counts: NDArray[np.integer], bounds: tuple[int, ...]) -> Labels:
    """Counts by band: 0, then from each bound to the next."""
    names = ["0"] + [f"{low}-{high - 1}" for low, high in pairwise(bounds)]
    return np.searchsorted(bounds, counts, side="right"), dict(enumerate([*names, f"{bounds[-1]}+"]))


def counts_of(column: NDArray[np.int32], asked: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each of the asked numbers occurs in a column."""
    return np.bincount(column, minlength=int(asked.max(initial=0)) + 1)[asked]
