"""Cases by segment: how well known the target is, how long the person's history, what the person did."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from endcap.shop import Shop

HISTORY_BOUNDS = (1, 5, 20, 100)

Labels = tuple[NDArray[np.integer], dict[int, str]]
"""(n,) labels of the cases and the labels' names in order."""


def segments(
    train: Shop, item: NDArray[np.int32], user: NDArray[np.int32], interaction: NDArray[np.int8]
) -> dict[str, Labels]:
    """All segments of cases (n,) with these targets and people; everything is counted in the training part alone."""
    return {
        "item": cold_items(train, item),
        "popularity decile": popularity_deciles(train, item),
        "history length": history_lengths(train, user),
        "interaction": (interaction, dict(enumerate(train.interactions.names))),
    }


def cold_items(train: Shop, item: NDArray[np.int32]) -> Labels:
    """Items without any positive action in the training part, and the others."""
    return (_count(train.positives.item, item) == 0).astype(np.int8), {1: "cold", 0: "known"}


def popularity_deciles(train: Shop, item: NDArray[np.int32]) -> Labels:
    """Tenths of the training part's items by number of actions, 1 the most popular; cold items are left out (-1)."""
    counts = np.bincount(train.positives.item)
    known = np.flatnonzero(counts)
    decile = np.full(max(len(counts), int(item.max(initial=0)) + 1), -1)
    decile[known[np.argsort(-counts[known], kind="stable")]] = 1 + np.arange(len(known)) * 10 // max(1, len(known))
    return decile[item], {n: str(n) for n in range(1, 11)}


def history_lengths(train: Shop, user: NDArray[np.int32]) -> Labels:
    """Number of the person's actions in the training part, in bands."""
    bands = np.searchsorted(HISTORY_BOUNDS, _count(train.positives.user, user), side="right")
    names = ["0"] + [f"{low}-{high - 1}" for low, high in pairwise(HISTORY_BOUNDS)]
    return bands, dict(enumerate([*names, f"{HISTORY_BOUNDS[-1]}+"]))


def _count(column: NDArray[np.int32], asked: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often each of the asked numbers occurs in a column."""
    return np.bincount(column, minlength=int(asked.max(initial=0)) + 1)[asked]
