"""The compiled columns of pairs against the same in numpy, one pair of arrays a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from endcap.models.complement.columns import FINE, N_COLUMNS, PER, SMOOTH
from endcap.models.complement.counts import (
    BOUGHT,
    GAP,
    HIGH_BOUGHT,
    HIGH_VIEWED,
    IN_ROW,
    LOW_BOUGHT,
    LOW_FIRST,
    LOW_VIEWED,
    N_COUNTS,
    SWITCHES,
    TOGETHER,
    VIEWED,
    places,
)
from endcap.models.complement.features import OF_GROUP, PairFacts, pair_features, turned

N, LEAVES, LEVELS = 40, 7, 8
Floats = NDArray[np.float32]
Items = NDArray[np.int32]


def facts(seed: int, totals: tuple[float, float, float, float]) -> PairFacts:
    """Of no shop: whatever the arrays allow, a third of it unknown."""
    rng = np.random.default_rng(seed)
    leaf = np.where(rng.random(N) < 0.3, -1, rng.integers(0, LEAVES, N)).astype(np.int32)
    depth = rng.integers(0, LEVELS + 1, N)
    levels = np.where(np.arange(LEVELS) < depth[:, None], rng.integers(0, 2, (N, LEVELS)), -1).astype(np.int32)
    low, high = np.triu_indices(N, 1)
    kept = rng.random(len(low)) < 0.5
    keys = (low[kept] * N + high[kept]).astype(np.int64)
    counts = rng.integers(0, 4, (len(keys), N_COUNTS)).astype(np.float32)
    counts[:, GAP] = np.where(counts[:, BOUGHT] > 0, counts[:, GAP] / 3, np.nan)
    of_leaves = rng.integers(0, 3, (2, LEAVES, LEAVES))
    of_leaves = (of_leaves + of_leaves.transpose(0, 2, 1)).reshape(2, -1).astype(np.float32)  # the same both ways
    leaf_keys = np.flatnonzero(of_leaves[0])
    return PairFacts(
        levels=levels,
        leaf=leaf,
        brand=np.where(rng.random(N) < 0.3, -1, rng.integers(0, 3, N)).astype(np.int32),
        price=np.where(rng.random(N) < 0.3, np.nan, rng.lognormal(size=N)).astype(np.float32),
        keys=keys,
        counts=counts,
        of_item=rng.integers(0, 5000, (4, N)).astype(np.float32) * (rng.random((4, N)) < 0.7).astype(np.float32),
        totals=np.array(totals),
        leaf_keys=leaf_keys,
        leaf_counts=of_leaves.T[leaf_keys],
        leaf_mass=rng.integers(0, 50, (2, LEAVES)) * np.array([[1.0], [totals[0] > 0]]),
        link_offsets=np.zeros((0, N + 1), np.int64),
        link_others=np.empty(0, np.int32),
    )


@pytest.mark.parametrize("totals", [(9e3, 2e3, 5e3, 30), (0, 2e3, 5e3, 0), (9e3, 0, 0, 0), (0, 0, 0, 0)])
def test_columns_are_those_of_numpy(totals: tuple[float, float, float, float]) -> None:
    known = facts(int(sum(totals)), totals)
    one, other = (part.ravel().astype(np.int32) for part in np.meshgrid(np.arange(N), np.arange(N)))
    found = pair_features(known, one, other)
    wanted = np.concatenate([*catalogue(known, one, other), *behaviour(known, one, other)], axis=1)
    names = [name for names in OF_GROUP.values() for name in names]
    assert found.shape[1] == N_COLUMNS == len(names)
    for place, name in enumerate(names):
        np.testing.assert_allclose(found[:, place], wanted[:, place], rtol=3e-7, atol=1e-7, err_msg=name)
    np.testing.assert_array_equal(turned(known, found), pair_features(known, other, one))


def catalogue(facts: PairFacts, one: Items, other: Items) -> list[Floats]:
    """Category, price and brand."""
    a, b = facts.leaf[one], facts.leaf[other]
    placed = (a >= 0) & (b >= 0)
    alike = (facts.levels[one] == facts.levels[other]) & (facts.levels[one] >= 0)
    shared = alike.sum(axis=1)
    deeper = np.maximum((facts.levels[one] >= 0).sum(axis=1), (facts.levels[other] >= 0).sum(axis=1))
    category = [a == b, shared, shared / np.maximum(deeper, 1), *beside_leaves(facts, a, b)]
    ratio = np.abs(np.log(facts.price[one]) - np.log(facts.price[other]))
    brands = facts.brand[one], facts.brand[other]
    branded = (brands[0] >= 0) & (brands[1] >= 0)
    same = np.where(branded, brands[0] == brands[1], np.nan)
    unknown = (brands[0] < 0).astype(np.float32) + (brands[1] < 0)
    return [
        block([np.where(placed, column, np.nan) for column in category]),
        block([ratio, np.exp(-ratio)]),
        block([same, np.where(placed, same * (a == b), np.nan), unknown]),
    ]


def beside_leaves(facts: PairFacts, a: NDArray[np.int32], b: NDArray[np.int32]) -> list[NDArray[np.floating]]:
    """Log of how much more often than by chance items of two leaves are bought, and viewed, together."""
    n_leaves = facts.leaf_mass.shape[1]
    place = places(facts.leaf_keys, a.astype(np.int64) * n_leaves + b)
    found_counts = facts.leaf_counts[place] if len(facts.leaf_counts) else np.zeros((len(place), 2))
    counts = np.where((place >= 0)[:, None], found_counts, 0)
    found = []
    for kind, mass in enumerate(np.append(facts.leaf_mass, np.zeros((2, 1)), axis=1)):
        total = mass.sum()
        expected = mass[a] * mass[b] / max(total, 1)
        found.append(log_ratio(counts[:, kind], expected) if total else np.full(len(a), np.nan))
    return found


def behaviour(facts: PairFacts, one: Items, other: Items) -> list[Floats]:
    """Temporal pattern and returns."""
    low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other)
    place = places(facts.keys, low * facts.n_items + high)
    nothing = np.zeros((1, N_COUNTS), np.float32)
    nothing[0, GAP] = np.nan
    counts = np.where((place >= 0)[:, None], facts.counts[place] if len(facts.counts) else nothing, nothing)
    counts = counts.astype(np.float64).T
    up = one < other

    def by_direction(if_low: int, if_high: int) -> tuple[NDArray, NDArray]:
        """Columns of low and high as those of one and other."""
        return np.where(up, counts[if_low], counts[if_high]), np.where(up, counts[if_high], counts[if_low])

    (sessions, baskets, purchases, returns), (seen, bought, buys, back) = facts.totals, facts.of_item
    if not sessions:
        counts[[VIEWED, IN_ROW, SWITCHES, LOW_VIEWED, HIGH_VIEWED]] = np.nan
    if not returns:
        counts[[LOW_BOUGHT, HIGH_BOUGHT]] = np.nan
    viewed, both = counts[VIEWED], counts[BOUGHT]
    after = by_direction(LOW_VIEWED, HIGH_VIEWED)
    first = np.where(up, counts[LOW_FIRST], counts[BOUGHT] - counts[LOW_FIRST])
    gone = by_direction(LOW_BOUGHT, HIGH_BOUGHT)  # that after this, this after that
    temporal = [
        np.log1p(PER * viewed / max(sessions, 1)),
        np.log1p(PER * both / max(baskets, 1)),
        log_ratio(viewed, seen[one] * seen[other] / max(sessions, 1)),
        log_ratio(both, bought[one] * bought[other] / max(baskets, 1)),
        np.where(np.nan_to_num(viewed) + both > 0, log_ratio(viewed, both), np.nan),
        share(counts[TOGETHER], both),
        np.log1p(counts[GAP]),
        share(counts[IN_ROW], viewed),
        share(counts[SWITCHES], viewed),
        share(after[0], seen[one]),
        share(after[1], seen[other]),
        np.round(share(first, both) / FINE) * FINE,
    ]
    returned = [
        share(gone[0], buys[one]),
        share(gone[1], buys[other]),
        log_ratio(gone[0], buys[one] * back[other] / max(purchases, 1)),
        log_ratio(gone[1], buys[other] * back[one] / max(purchases, 1)),
    ]
    unmet = (place < 0)[:, None]
    return [np.where(unmet, np.float32(np.nan), block(columns)) for columns in (temporal, returned)]


def log_ratio(count: NDArray[np.floating], expected: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.log((count + SMOOTH) / (expected + SMOOTH))


def share(part: NDArray[np.floating], whole: NDArray[np.floating]) -> NDArray[np.floating]:
    """NaN of nothing."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def block(columns: list[NDArray[Any]]) -> Floats:
    return np.stack(columns, axis=1).astype(np.float32)
