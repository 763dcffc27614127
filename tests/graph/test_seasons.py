"""Blends of a year and of a month: planted seasons, the gates' gradient, and logs that can tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph import Baskets, co_purchase, top_edges, weigh
from endcap.graph.seasons import DAY, _Fold, _gates, blend, last_days, seasonal

ANCHORS, PARTNERS = 10, 5  # ten products with five partners in summer, five in winter, five in spring and autumn


def planted(last_day: int, a_day: int = 12, seed: int = 0) -> Baskets:
    """Two years of baskets up to a day of the second: an anchor and two of what goes with it now."""
    rng = np.random.default_rng(seed)
    days = np.sort(rng.integers(0, 365 + last_day, a_day * (365 + last_day)))
    lists = []
    for day in days:
        anchor, month = int(rng.integers(ANCHORS)), (day % 365) // 30.5
        season = 0 if 5 <= month < 8 else 1 if month in (11, 0, 1) else 2
        first = ANCHORS + (3 * anchor + season) * PARTNERS
        lists.append([anchor, *(first + rng.choice(PARTNERS, 2, replace=False)).tolist()])
    made = Baskets.of_lists(lists)
    return Baskets(made.offsets, made.items, made.user, days * DAY)


N = ANCHORS * (1 + 3 * PARTNERS)


def hits(graph: csr_array, baskets: Baskets) -> float:
    """Share of an anchor's partners in later baskets that are among its first five."""
    best = top_edges(graph, PARTNERS)
    found, n = 0, 0
    for begin in baskets.offsets[:-1]:
        anchor, *partners = baskets.items[begin : begin + 3]
        found += np.isin(partners, best.indices[best.indptr[anchor] : best.indptr[anchor + 1]]).sum()
        n += len(partners)
    return found / n


@pytest.mark.parametrize("day", [170, 181])
def test_in_season_a_blend_beats_the_year(day):
    """In June the year has seen more of spring and autumn than of summer."""
    baskets = planted(day + 14)
    end = (365 + day) * DAY
    before, after = baskets.where(baskets.time < end), baskets.where(baskets.time >= end)
    blended = seasonal(before, N)
    assert blended.kind != "base"
    assert hits(blended.graph, after) > hits(blended.base, after) + 0.2


def test_behind_the_season_a_blend_beats_ninety_days():
    """In late September the last ninety days are summer."""
    baskets = planted(283)
    end = 365 * DAY + 269 * DAY
    before, after = baskets.where(baskets.time < end), baskets.where(baskets.time >= end)
    ninety = weigh(co_purchase(last_days(before, 90), N), "damped")
    assert hits(seasonal(before, N).graph, after) > hits(ninety, after) + 0.2


def test_products_that_are_often_bought_trust_the_month_more():
    """Half of the products are bought forty times as often, and all of them change with the seasons."""
    rng = np.random.default_rng(2)
    lists, days = [], np.sort(rng.integers(0, 365 + 190, 12_000))
    for day in days:
        anchor = int(rng.integers(2)) if rng.random() < 0.95 else 2 + int(rng.integers(8))
        summer = 5 <= (day % 365) // 30.5 < 8
        lists.append([anchor, *(10 + (2 * anchor + summer) * 5 + rng.choice(5, 2, replace=False)).tolist()])
    made = Baskets.of_lists(lists)
    blended = seasonal(Baskets(made.offsets, made.items, made.user, days * DAY), 110)
    assert blended.kind == "gates"
    assert blended.loss["gates"] < min(blended.loss["one gate"], blended.loss["base"])
    assert blended.gates[:2].min() > blended.gates[2:10].max()


def test_groups_may_differ():
    """Group 0 changes with the seasons, group 1 never does, so that a month says less of it than a year."""
    rng = np.random.default_rng(3)
    lists, days = [], np.sort(rng.integers(0, 365 + 190, 12_000))
    for day in days:
        anchor = int(rng.integers(40))
        summer = (5 <= (day % 365) // 30.5 < 8) and anchor < 20
        first = 40 + (2 * anchor + summer) * 10
        lists.append([anchor, *(first + rng.choice(10, 2, replace=False)).tolist()])
    made = Baskets.of_lists(lists)
    n = 40 + 800
    group = np.where(np.arange(n) < 40, np.arange(n) >= 20, (np.arange(n) - 40) // 20 >= 20).astype(int)
    blended = seasonal(Baskets(made.offsets, made.items, made.user, days * DAY), n, group=group)
    assert blended.kind == "gates"
    assert blended.gates[:20].mean() > blended.gates[20:40].mean() + 0.2


def test_the_slope_of_the_loss():
    rng = np.random.default_rng(0)
    item, recent = np.repeat(np.arange(4), 3), rng.integers(0, 9, 4).astype(float)
    came = rng.integers(0, 3, 12).astype(float)
    fold = _Fold(item, rng.random(12), rng.random(12), came, np.full(12, 4.0), recent, 16.0)
    wrong = check_grad(lambda g: fold.loss(g)[0], lambda g: fold.loss(g, slope=True)[1], rng.uniform(0.2, 0.8, 12))
    assert wrong < 1e-5
    gates = _gates(np.array([0.5, 0.3, 1.0]), fold.recent, np.array([0, -1, 0, -1]))
    np.testing.assert_allclose(np.log(gates / (1 - gates)), 0.5 + 0.3 * np.log1p(fold.recent) + [1, 0, 1, 0])


def test_a_blend_is_a_mean_of_rows():
    base = csr_array(np.array([[0, 1, 0], [2, 0, 0], [0, 0, 0]], np.float32))
    delta = csr_array(np.array([[0, 3, 4], [0, 0, 5], [1, 0, 0]], np.float32))
    found = blend(base, delta, np.array([0.25, 0, 1]))
    np.testing.assert_allclose(found.toarray(), [[0, 1.5, 1], [2, 0, 0], [1, 0, 0]])
    assert found.has_canonical_format
    assert found.dtype == np.float32


@pytest.mark.parametrize("lists", [[], [[0]], [[0, 1]] * 30])
def test_logs_that_can_tell_nothing_keep_to_the_base(lists):
    blended = seasonal(Baskets.of_lists(lists), 2)
    assert (blended.kind, blended.loss) == ("base", {})
    assert (blended.graph != blended.base).nnz == 0


def test_what_is_refused():
    baskets, graph = Baskets.of_lists([[0, 1]]), csr_array((2, 2), dtype=np.float32)
    for call, says in [
        (lambda: seasonal(baskets, 2, delta_days=30, base_days=30), "0 < delta < base"),
        (lambda: seasonal(baskets, 2, delta_days=float("nan")), "0 < delta < base"),
        (lambda: seasonal(baskets, 1), r"must be in 0 \.\. 0"),
        (lambda: seasonal(baskets, 2, group=np.zeros(3, int)), "one for each of 2 items, not 3"),
        (lambda: blend(graph, graph, np.array([0.5])), "gates of"),
        (lambda: blend(graph, graph, np.array([0.5, 2])), "between 0 and 1"),
        (lambda: blend(graph, graph, np.array([0.5, np.nan])), "between 0 and 1"),
    ]:
        with pytest.raises(InputError, match=says):
            call()
