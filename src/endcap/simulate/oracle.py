"""The best item-to-item lists that the truth allows, and how far they, and anything, can get in purchase intent.

Given its mission (activity, family, price band) a visit draws every item on its own: P(item | leaf, family, band). So
with P(mission) from the users, and with T, how often an act at one role of an activity is followed by an act at
another, the expected acts on y after an act on x are a sum over missions,

    E(x, y) = sum_m P(m) sum_{r, r'} T(r, r') P(x | leaf of r, m) P(y | leaf of r', m),

and the oracle's list of x are the y with the largest E. Clicks elsewhere, while wandering, are taken to say nothing
about the mission. T is counted on visits drawn for the purpose, the same draws for all activities with as many roles.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, Scores
from endcap.metrics import intent_cases, purchase_intent
from endcap.shop import Vocabulary
from endcap.simulate import catalogue
from endcap.simulate.settings import DAY, ShopSettings
from endcap.simulate.visits import (
    ACTIVITY,
    CART,
    CHOSEN,
    CLICK,
    COMPARED,
    ELSEWHERE,
    FAVOURITE,
    ITEM,
    KIND,
    MISSION,
    PURCHASE,
    ROLE,
    SESSION,
    WHY,
    Habits,
    draw_visits,
)  # fmt: skip
from endcap.simulate.world import ROLES, Truth, make_truth, shares_of_leaf

BUDGETS = (10, 40, 200)
VISITS_FOR_T, ROWS_PER_VISIT = 25_000, 12
LEAVES_KEPT = 256
MOST_ROLES = ROLES[1] - 1

# Acts: what was done and why. Looks draw an item by its pull on looks, the others by its pull on carts.
ACTS = ((CLICK, COMPARED), (FAVOURITE, COMPARED), (CLICK, CHOSEN), (CART, CHOSEN), (PURCHASE, CHOSEN))
N_LOOKS = 2
SEEN_AS = {CLICK: (0, 2), FAVOURITE: (1,), CART: (3,), PURCHASE: (4,)}
WANTED = {CLICK: (0, 2), FAVOURITE: (1,), CART: (3, 4), PURCHASE: (4,)}  # a purchase is an intent to cart, too

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class Oracle:
    """Ranks by the truth at the end of the log; satisfies `endcap.answers.RelatesItems`.

    Items are the simulator's own numbers, or those of a shop made from its log: `Oracle.of(settings, shop.items)`.

    Where the lists of m sources are united, as in the purchase-intent rate, lists that repeat each other waste places.
    If every list takes y with chance p(y), its chance to be in the union is 1 - (1 - p)^m, and the p that maximise the
    expected hits are those of a ranking by E(x, y) (1 - u)^(m - 1), u uniform and drawn for each pair (x, y).

    `uniting(m)` gives that ranking; without it each list is the best by itself.
    """

    def __init__(self, truth: Truth, items: Vocabulary | None = None) -> None:
        self._truth, self._world, self._united = truth, truth.world, 1.0
        n = len(truth.leaf)
        ids = catalogue.item_ids(truth).to_pylist()
        self._theirs = np.arange(n) if items is None else items.encode(ids)
        self._ours = np.full(n if items is None else len(items), -1)
        self._ours[self._theirs[self._theirs >= 0]] = np.flatnonzero(self._theirs >= 0)
        there = (self._world.launched < truth.settings.ends) & (self._theirs >= 0)
        self._look = np.where(there, shares_of_leaf(self._world.look_sum, self._world.leaf_start), 0.0)
        self._cart = np.where(there, shares_of_leaf(self._world.cart_sum, self._world.leaf_start), 0.0)
        self._drawn_of: dict[int, tuple[Floats, Floats]] = {}
        self._missions = mission_shares(truth, truth.settings.ends).astype(np.float32)
        rows = visits_at_the_end(truth, VISITS_FOR_T, part=40)
        self._follows = _follows(rows, truth)
        self._wandered = _wandered(rows)
        self._role_activity = np.repeat(np.arange(truth.n_activities), np.diff(self._world.role_start))
        by_leaf = np.argsort(self._world.role_leaf, kind="stable")
        bounds = np.searchsorted(self._world.role_leaf[by_leaf], np.arange(1, truth.n_leaves))
        self._roles_of = np.split(by_leaf, bounds)
        self._popular = self._popularity()

    @classmethod
    def of(cls, settings: ShopSettings, items: Vocabulary) -> Oracle:
        """The oracle of a simulated shop, by the numbers that its items got when the log was ingested."""
        return cls(make_truth(settings), items)

    def uniting(self, lists: float) -> Oracle:
        """The same knowledge, for lists of which so many are united."""
        other = copy.copy(self)
        other._united = lists
        return other

    def related_batch(self, items: Items, seen_as: int, want: int, k: int) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`: scores are expected later acts, up to a factor for each list."""
        best = np.full((len(items), k), -1, np.int32)
        scores = np.full((len(items), k), -np.inf, np.float32)
        known = (items >= 0) & (items < len(self._ours))
        ours = np.where(known, self._ours[np.where(known, items, 0)], -1)
        leaf = np.where(ours >= 0, self._truth.leaf[ours], -1)
        order = np.argsort(leaf, kind="stable")
        order = order[leaf[order] >= 0]
        for rows in np.split(order, np.flatnonzero(np.diff(leaf[order])) + 1):
            if len(rows) == 0:
                continue
            candidates, expected = self.expected(ours[rows], seen_as, want, k)
            if self._united > 1:
                expected *= (1 - _noise(ours[rows], candidates)) ** np.float32(self._united - 1)
            width = min(k, len(candidates))
            top = np.argpartition(-expected, width - 1, axis=1)[:, :width]
            top = np.take_along_axis(top, np.argsort(-np.take_along_axis(expected, top, 1), axis=1, kind="stable"), 1)
            value = np.take_along_axis(expected, top, 1)
            possible = value > 0
            best[rows, :width] = np.where(possible, self._theirs[candidates[top]], -1)
            scores[rows, :width] = np.where(possible, value, -np.inf)
        return best, scores

    def expected(self, items: Ints, seen_as: int, want: int, n_popular: int = 0) -> tuple[Ints, Floats]:
        """E(x, y) for items x of one leaf (simulator's numbers).

        Returns:
            candidates (m,): the items of all activities that the leaf serves, and the most popular ones;
            expected (len(items), m), 0 for x itself.
        """
        leaf = self._truth.leaf[items[0]]
        blocks = list(self._by_role(items, leaf, SEEN_AS[seen_as], WANTED[want]))
        popular = self._popular_items[: n_popular + 1]
        candidates = np.unique(np.concatenate([*(inside for inside, _ in blocks), popular]))
        expected = np.zeros((len(items), len(candidates)), np.float32)
        for inside, values in blocks:
            expected[:, np.searchsorted(candidates, inside)] += values
        # What is left to say of a click while wandering: what anybody may cart. Never nothing, so that lists fill up.
        wandering = (seen_as == CLICK) * self._wandered * self._look[items] / len(self._roles_of)
        rate = np.maximum(wandering, 1e-6 * expected.max(axis=1, initial=0.0) + 1e-20)
        expected += rate[:, None].astype(np.float32) * self._popular[candidates].astype(np.float32)
        expected[candidates[None, :] == items[:, None]] = 0
        return candidates, expected

    def _by_role(
        self, items: Ints, leaf: int, sources: tuple[int, ...], targets: tuple[int, ...]
    ) -> Iterator[tuple[Ints, Floats]]:
        """For each role that may follow: the items of its leaf, and what it adds to E."""
        world, first = self._world, self._world.leaf_start[leaf]
        seen = [drawn[items - first] for drawn in self._drawn(leaf)]
        for place in self._roles_of[leaf]:
            activity = self._role_activity[place]
            begin, end = world.role_start[activity], world.role_start[activity + 1]
            follows = self._follows[end - begin, :, place - begin]
            for other in range(begin, end):
                next_leaf = world.role_leaf[other]
                inside = np.arange(world.leaf_start[next_leaf], world.leaf_start[next_leaf + 1])
                values = np.zeros((len(items), len(inside)), np.float32)
                for carted, drawn in enumerate(self._drawn(next_leaf)):
                    wanted = [target for target in targets if (target >= N_LOOKS) == carted]
                    if wanted:
                        rate = follows[:, wanted, other - begin].sum(axis=1)
                        expected = sum(np.float32(rate[act]) * seen[act >= N_LOOKS] for act in sources)
                        values += (self._missions[activity] * expected) @ drawn.T
                yield inside, values

    def _drawn(self, leaf: int) -> tuple[Floats, Floats]:
        """P(item | leaf, mission) for looks and for carts, (items of the leaf, F * B) float32 each."""
        if leaf not in self._drawn_of:
            if len(self._drawn_of) >= LEAVES_KEPT:
                self._drawn_of.clear()
            world = self._world
            self._drawn_of[leaf] = (
                self._draw_shares(leaf, self._look, world.fits_look, world.band_look),
                self._draw_shares(leaf, self._cart, world.fits_cart, world.band_cart),
            )
        return self._drawn_of[leaf]

    def _draw_shares(self, leaf: int, pull: Floats, fits: Floats, near: Floats) -> Floats:
        inside = slice(self._world.leaf_start[leaf], self._world.leaf_start[leaf + 1])
        family, band = self._world.family[inside], self._world.band[inside]
        weight = (pull[inside, None, None] * fits.T[family][:, :, None] * near.T[band][:, None, :]).astype(np.float32)
        total = weight.sum(axis=0, keepdims=True)
        return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0).reshape(len(family), -1)

    def chances(self, activity: int, mission: int, n_at_role: Ints) -> Floats:
        """Expected carts and purchases of each item of an activity in a visit with so many at each role (R,)."""
        leaves = self._world.role_leaf[self._world.role_start[activity] :][: len(n_at_role)]
        return np.concatenate([n * self._drawn(leaf)[1][:, mission] for leaf, n in zip(leaves, n_at_role, strict=True)])

    def _popularity(self) -> Floats:
        """(n,) expected carts and purchases of each item in a visit."""
        world = self._world
        popular = np.zeros(len(self._truth.leaf))
        for place, activity in enumerate(self._role_activity):
            leaf, begin = world.role_leaf[place], world.role_start[activity]
            n_roles = world.role_start[activity + 1] - begin
            rate = self._follows[n_roles, 0, :, :, place - begin][:, list(WANTED[CART])].sum()
            popular[world.leaf_start[leaf] : world.leaf_start[leaf + 1]] += rate * (
                self._drawn(leaf)[1] @ self._missions[activity]
            )
        self._popular_items = np.argsort(-popular, kind="stable")
        return popular


def best_scores(truth: Truth) -> dict[str, dict[str, float]]:
    """What is reachable in click-to-cart purchase intent, estimated on fresh visits at the end of the log.

    For each budget k, with n the number of targets:
        oracle   `Oracle` with as many lists united as a visit has sources: no better lists are known.
        single   `Oracle` with the best list for each source alone. United, such lists repeat each other.
        ceiling  the best set of as many items as all sources of the visit may name together, chosen by someone who
                 knows its mission, and how often each role is carted: no model passes it.
        random   k items at random for each source.
    """
    rows = visits_at_the_end(truth, truth.settings.best, part=41)
    cases = intent_cases(
        rows[:, SESSION], rows[:, ITEM].astype(np.int32), rows[:, KIND].astype(np.int8), CLICK, (CART, PURCHASE)
    )
    if len(cases.target_row) == 0:
        return {}
    n_sources = np.bincount(cases.occurrence_case, minlength=len(cases.case_offsets) - 1)
    rng = np.random.default_rng([truth.settings.seed, 42])
    n_items, widest = len(truth.leaf), max(BUDGETS)
    single = Oracle(truth)
    united = single.uniting(n_sources.mean())
    rates = {
        name: purchase_intent(cases, related, BUDGETS).mean(axis=0)
        for name, related in (
            ("oracle", lambda items, seen_as: united.related_batch(items, seen_as, CART, widest)[0]),
            ("single", lambda items, seen_as: single.related_batch(items, seen_as, CART, widest)[0]),
            ("random", lambda items, _: rng.integers(0, n_items, (len(items), widest), dtype=np.int32)),
        )
    }
    rates["ceiling"] = _ceiling(single, rows[cases.target_row], cases.target_case, n_sources)
    return {
        f"purchase_intent@{budget}": {
            **{name: round(float(rates[name][place]), 6) for name in ("oracle", "single", "ceiling", "random")},
            "n": len(cases.target_row),
        }
        for place, budget in enumerate(BUDGETS)
    }


def _ceiling(oracle: Oracle, targets: NDArray[np.int64], case: Ints, n_sources: Ints) -> Floats:
    """(budgets,) share of the targets' chances that the best sets hold, visit by visit."""
    held, total = np.zeros(len(BUDGETS)), 0.0
    for visit in np.split(np.arange(len(targets)), np.flatnonzero(np.diff(case)) + 1):
        rows = targets[visit]
        chances = oracle.chances(rows[0, ACTIVITY], rows[0, MISSION], np.bincount(rows[:, ROLE]))
        best_first = np.append(0.0, np.cumsum(np.sort(chances)[::-1]))
        held += best_first[np.minimum(n_sources[case[visit[0]]] * np.array(BUDGETS), len(chances))]
        total += best_first[-1]
    return held / total


def mission_shares(truth: Truth, moment: int) -> Floats:
    """(A, F * B) share of visits at a moment that have each mission."""
    world, settings = truth.world, truth.settings
    active = np.diff(world.user_sum, prepend=0.0) * (world.joined <= moment)
    year = moment / (365.25 * DAY)
    season = 1 + settings.seasons * np.cos(2 * np.pi * (year - world.peak))
    interest = np.diff(world.interest_sum, prepend=0.0) * season[world.activity]
    interest /= interest.sum(axis=2, keepdims=True)
    weight = active[:, None, None] * np.diff(world.domain_sum, prepend=0.0)[:, None] * interest
    mission = world.mission_family.astype(np.int64) * settings.bands + world.user_band[:, :, None]
    n_missions = settings.families * settings.bands
    flat = world.activity.astype(np.int64) * n_missions + mission
    shares = np.bincount(flat.ravel(), weight.ravel(), truth.n_activities * n_missions)
    return (shares / shares.sum()).reshape(truth.n_activities, n_missions)


def visits_at_the_end(truth: Truth, n_visits: int, part: int) -> NDArray[np.int64]:
    """Rows of about so many fresh visits on the last day of the log, positive ones, visit by visit."""
    settings = truth.settings
    end = settings.ends
    habits = Habits.of(settings)._replace(impressions=0)
    rng = np.random.default_rng([settings.seed, part])
    rows = draw_visits(rng, truth.world, habits, end - DAY, end, np.zeros(5, np.int64), n_visits * ROWS_PER_VISIT)
    return rows[rows[:, KIND] <= PURCHASE]


def _wandered(rows: NDArray[np.int64]) -> float:
    """Clicks elsewhere in a visit."""
    return float((rows[:, WHY] == ELSEWHERE).sum() / len(np.unique(rows[:, SESSION])))


def _follows(rows: NDArray[np.int64], truth: Truth) -> Floats:
    """T: (roles of the activity, act, role, later act, its role), expected pairs in a visit.

    The link of a choice with itself (click, cart, purchase of one item) is left out: only other items count.
    """
    rows = rows[(rows[:, WHY] == COMPARED) | (rows[:, WHY] == CHOSEN)]
    n_roles = np.diff(truth.world.role_start)[rows[:, ACTIVITY]]
    act = np.full(len(rows), -1)
    for place, (kind, why) in enumerate(ACTS):
        act[(rows[:, KIND] == kind) & (rows[:, WHY] == why)] = place
    pairs = np.zeros((MOST_ROLES + 1, len(ACTS), MOST_ROLES, len(ACTS), MOST_ROLES))
    visits = np.zeros(MOST_ROLES + 1)
    _count_pairs(rows[:, SESSION].copy(), rows[:, ITEM].copy(), act, rows[:, ROLE].copy(), n_roles, pairs, visits)
    return pairs / np.maximum(visits, 1)[:, None, None, None, None]


@numba.njit(cache=True)
def _count_pairs(session, item, act, role, n_roles, pairs, visits):  # type: ignore[no-untyped-def]
    for row in range(len(session)):
        if row == 0 or session[row] != session[row - 1]:
            visits[n_roles[row]] += 1
        later = row + 1
        while later < len(session) and session[later] == session[row]:
            itself = item[later] == item[row] and role[later] == role[row] and act[row] >= N_LOOKS
            if not itself:
                pairs[n_roles[row], act[row], role[row], act[later], role[later]] += 1
            later += 1


def _noise(rows: Ints, columns: Ints) -> NDArray[np.float32]:
    """(rows, columns) uniform numbers below 1 that depend on the pair only: splitmix64."""
    mixed = rows.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15) + columns.astype(np.uint64)[None, :]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return ((mixed >> np.uint64(40)) * 2.0**-24).astype(np.float32)
