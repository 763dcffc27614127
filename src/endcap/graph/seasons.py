"""Seasons: a base graph of a year and the graph of the last month, blended by a gate of each product.

    A = (1 - g_i) A_base + g_i A_delta,    g_i = sigmoid(a + b log(1 + n_i) + c of i's group)

with n_i the baskets of i in the last month. A month tells what goes together now, and tells it badly of what is seldom
bought; how far to trust it is learnt from weeks that followed. There the confidences of both graphs, blended, are read
as the chance that j lies in a basket with i, and the gates lower the logistic loss of the baskets that came.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.baskets import Baskets, check_items
from endcap.graph.copurchase import CoPurchase, Weighting, co_purchase, weigh
from endcap.graph.edges import check_number

DAY = 86_400_000_000  # microseconds
WEEK = 7 * DAY
FOLDS = 5  # weeks that followed: all but the last to learn from, the last to choose by
LEAST_CHANCE = 1e-4  # of a pair that neither graph knows
RIDGE = 1e-3  # times the squares of the gates' parameters
LEAST_BASKETS = 50  # of a fold: fewer teach nothing
STEPS = np.linspace(0, 1, 21)  # that a single gate is chosen from


class Seasonal(NamedTuple):
    """A blended graph.

    Attributes:
        graph: the blend; base, delta: what it is made of; gates: (n_items,) g_i; kind: "gates" where those did better
        on the last week, "one gate" where a single one did, "base" where no week could tell; loss: of each of these on
        that week, by name, lower is better.
    """

    graph: csr_array
    base: csr_array
    delta: csr_array
    gates: NDArray[np.float32]
    kind: str
    loss: dict[str, float]


def seasonal(
    baskets: Baskets,
    n_items: int,
    *,
    by: Weighting = "damped",
    damping: float = 0.5,
    shrink: float = 0.0,
    base_days: float = 365,
    delta_days: float = 30,
    group: NDArray[np.integer] | None = None,
    threads: int = 1,
) -> Seasonal:
    """Learn the gates from the weeks before the last basket, and blend the graphs at it.

    Args:
        by, damping, shrink: weights of both graphs, see `endcap.graph.weigh`.
        base_days, delta_days: how far back each graph looks.
        group: (n_items,) such as the top category of each product, -1 for none; without it c is left out.

    Raises:
        InputError: for baskets that do not fit, or days that are not 0 < delta < base.
    """
    check_number("n_items", n_items, 0)
    check_items(baskets, n_items)
    if not 0 < delta_days < base_days < np.inf:
        raise InputError(f"delta_days={delta_days}, base_days={base_days}: 0 < delta < base is needed")
    group = np.full(n_items, -1) if group is None else np.asarray(group)
    if len(group) != n_items:
        raise InputError(f"group: one for each of {n_items} items, not {len(group)}")
    end = int(baskets.time.max(initial=0)) + 1
    spans = int(base_days * DAY), int(delta_days * DAY)
    folds = []
    for back in range(FOLDS, 0, -1):
        fold = _fold(baskets, n_items, end - back * WEEK, spans, threads)
        if fold is not None:
            folds.append(fold)
    now = [_count(last_days(baskets, days, end), n_items, threads) for days in (base_days, delta_days)]
    gates, kind, loss = _choose(folds, group, now[1].n_of)
    base, delta = (weigh(co, by, damping=damping, shrink=shrink) for co in now)
    return Seasonal(blend(base, delta, gates), base, delta, gates, kind, loss)


def blend(base: csr_array, delta: csr_array, gates: NDArray[np.floating]) -> csr_array:
    """(1 - g_i) of a row of the base graph and g_i of that of the delta graph.

    Raises:
        InputError: if the three do not fit, or a gate lies outside of 0 to 1.
    """
    gates = np.asarray(gates, np.float32)
    if base.shape != delta.shape or gates.shape != (base.shape[0],):
        raise InputError(f"blend: graphs of {base.shape} and {delta.shape}, gates of {gates.shape}")
    if not ((gates >= 0) & (gates <= 1)).all():
        raise InputError("blend: gates lie between 0 and 1")
    found = csr_array(_rows_times(base, 1 - gates) + _rows_times(delta, gates))
    found.eliminate_zeros()
    found.sort_indices()
    return found


def last_days(baskets: Baskets, days: float, end: int | None = None) -> Baskets:
    """The baskets of the last days before `end` (microseconds), else before the last one: a window of 90 is the simple
    way to follow seasons.
    """
    end = int(baskets.time.max(initial=0)) + 1 if end is None else end
    return baskets.where((baskets.time < end) & (baskets.time >= end - int(days * DAY)))


class _Fold(NamedTuple):
    """Pairs that either graph knew before a week, or that the week brought, and what came of them."""

    item: NDArray[np.int64]  # (m,)
    base: NDArray[np.float64]  # (m,) confidences
    delta: NDArray[np.float64]
    came: NDArray[np.float64]  # (m,) baskets of the week with both
    asked: NDArray[np.float64]  # (m,) with the item
    recent: NDArray[np.float64]  # (n_items,) baskets of the last month
    size: float  # (basket, item) pairs of the week

    def loss(self, gate: NDArray[np.float64], *, slope: bool = False) -> tuple[float, NDArray[np.float64]]:
        """Logistic loss of gates (m,), for each item of a basket of the week, and its slope by each gate."""
        chance = (1 - gate) * self.base + gate * self.delta
        inside = (chance > LEAST_CHANCE) & (chance < 1 - LEAST_CHANCE)
        chance = np.clip(chance, LEAST_CHANCE, 1 - LEAST_CHANCE)
        value = -(self.came * np.log(chance) + (self.asked - self.came) * np.log1p(-chance)).sum() / self.size
        if not slope:
            return float(value), np.empty(0)
        by_chance = (self.asked - self.came) / (1 - chance) - self.came / chance
        return float(value), np.where(inside, by_chance * (self.delta - self.base), 0) / self.size


def _fold(baskets: Baskets, n_items: int, cut: int, spans: tuple[int, int], threads: int) -> _Fold | None:
    """What was known at `cut` and what the week behind it brought; None where either is too little."""
    week = baskets.where((baskets.time >= cut) & (baskets.time < cut + WEEK) & (baskets.sizes > 1))
    before = [baskets.where((baskets.time < cut) & (baskets.time >= cut - span)) for span in spans]
    if len(week) < LEAST_BASKETS or min(len(part) for part in before) < LEAST_BASKETS:
        return None
    base, delta, came = (_count(part, n_items, threads) for part in (*before, week))
    confidence = [weigh(co, "confidence").astype(np.float64) for co in (base, delta)]
    asked = came.n_of > 0
    pairs = csr_array(came.counts + base.counts + delta.counts)  # the pattern of all three
    row = np.repeat(np.arange(n_items), np.diff(pairs.indptr))
    kept = asked[row]
    row, column = row[kept], pairs.indices[kept]
    by_base, by_delta, both = (_at(graph, row, column) for graph in (*confidence, came.counts))
    return _Fold(row, by_base, by_delta, both, came.n_of[row], delta.n_of, float(came.n_of.sum()))


def _at(graph: csr_array, row: NDArray[np.integer], column: NDArray[np.integer]) -> NDArray[np.float64]:
    """(m,) the weights of some edges, 0 where there is none."""
    n = graph.shape[1]
    keys = np.repeat(np.arange(graph.shape[0], dtype=np.int64), np.diff(graph.indptr)) * n + graph.indices
    wanted = row.astype(np.int64) * n + column
    place = np.searchsorted(keys, wanted)
    known = place < len(keys)
    known[known] = keys[place[known]] == wanted[known]
    found = np.zeros(len(wanted))
    found[known] = graph.data[place[known]]
    return found


def _count(baskets: Baskets, n_items: int, threads: int) -> CoPurchase:
    return co_purchase(baskets, n_items, half_life_days=np.inf, threads=threads)


def _choose(
    folds: list[_Fold], group: NDArray[np.integer], recent: NDArray[np.float64]
) -> tuple[NDArray[np.float32], str, dict[str, float]]:
    """Gates of all products now, which kind did best on the last week, and the losses there."""
    n = len(recent)
    if not folds:
        return np.zeros(n, np.float32), "base", {}
    *earlier, last = folds
    groups, place = np.unique(group, return_inverse=True)
    place = np.where(group >= 0, place, -1)
    one = float(
        STEPS[np.argmin([sum(fold.loss(np.full(len(fold.item), g))[0] for fold in earlier or folds) for g in STEPS])]
    )
    loss = {"base": last.loss(np.zeros(len(last.item)))[0], "one gate": last.loss(np.full(len(last.item), one))[0]}
    found = {"base": np.zeros(n), "one gate": np.full(n, one)}
    if earlier:
        parameters = _learn(earlier, place, len(groups))
        loss["gates"] = last.loss(_gates(parameters, last.recent, place)[last.item])[0]
        found["gates"] = _gates(parameters, recent, place)
    kind = min(loss, key=lambda name: loss[name])
    return found[kind].astype(np.float32), kind, loss


def _gates(
    parameters: NDArray[np.float64], recent: NDArray[np.float64], place: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(n_items,): parameters are a, b, and c of each group."""
    c = np.where(place >= 0, parameters[2:][place], 0)
    return 1 / (1 + np.exp(-np.clip(parameters[0] + parameters[1] * np.log1p(recent) + c, -30, 30)))


def _learn(folds: list[_Fold], place: NDArray[np.integer], n_groups: int) -> NDArray[np.float64]:
    from scipy.optimize import minimize

    def cost(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value = RIDGE * float((parameters**2).sum())
        slope = 2 * RIDGE * parameters
        for fold in folds:
            gates = _gates(parameters, fold.recent, place)
            loss, by_gate = fold.loss(gates[fold.item], slope=True)
            by_logit = np.bincount(fold.item, by_gate, len(gates)) * gates * (1 - gates)
            value += loss / len(folds)
            slope[0] += by_logit.sum() / len(folds)
            slope[1] += (by_logit * np.log1p(fold.recent)).sum() / len(folds)
            held = place >= 0
            slope[2:] += np.bincount(place[held], by_logit[held], n_groups) / len(folds)
        return value, slope

    return minimize(cost, np.zeros(2 + n_groups), jac=True, method="L-BFGS-B").x


def _rows_times(graph: csr_array, by: NDArray[np.float32]) -> csr_array:
    data = graph.data * np.repeat(by, np.diff(graph.indptr))
    return csr_array((data, graph.indices, graph.indptr), shape=graph.shape)
