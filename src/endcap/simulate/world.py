"""The fixed truth of a simulated shop: items and what they fit, activities, users and their tastes. Numbers only.

A leaf holds substitutes. An activity (camera + card + tripod) is a set of leaves, its roles; what is carted for one
activity is complementary. Items come in families (a mount, a brand's system): complements must fit, so they keep to
one family, while comparing goes across families. Every item has two popularities, one for looks and one for carts.
Users have a price taste, a home family and a few activities; in the domain `flood` each of these is the opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from endcap.simulate.settings import DAY, ShopSettings

THEMES = 8
ROLES = (4, 9)  # an activity has 4 to 8 roles
FLOOD = 1  # the domain where tastes are the opposite
DOMAINS = ("market", "flood", "outlet", "food", "media", "travel", "home", "tools")
LAST_TENTH = 0.9  # of the log: when cold items begin to come
FEWEST_LEAVES = 40
LEAF_GROWTH = 0.62  # a leaf has this power of the number of items
HOME_FAMILY, HOME_THEME = 0.7, 0.8  # how often a user keeps to them
JOINED_BEFORE = 0.5  # share of users who are there when the log starts

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class World(NamedTuple):
    """What the visits are drawn from, as arrays for numba. Items of a leaf have consecutive numbers.

    Attributes:
        leaf_start: (L + 1,); look_sum, cart_sum: (n,) running sums of an item's pull inside its leaf, last one 1.
        family, band: (n,) int8; launched: (n,) microseconds; oldest: (L,) an item that is there from the start.
        leaf_sum: (L,) running sum of how much a leaf is visited.
        role_start: (A + 1,); role_leaf: leaves of all activities in a row; peak: (A,) best day as a share of the year.
        role_pull: (8,) weight of a role to be entered.
        fits_look, fits_cart: (F, F) chance that an item of a family is accepted on a mission in another;
        band_look, band_cart: (B, B) the same for price bands.
        user_sum: (U,) running sum of how active a user is; joined: (U,) ascending microseconds.
        activity, mission_family: (U, D, K) what a user is after in each domain; interest_sum: (K,); user_band: (U, D).
        domain_sum: (D,) running sum of the domains' shares of visits.
    """

    leaf_start: Ints
    look_sum: Floats
    cart_sum: Floats
    family: NDArray[np.int8]
    band: NDArray[np.int8]
    launched: Ints
    oldest: Ints
    leaf_sum: Floats
    role_start: Ints
    role_leaf: Ints
    role_pull: Floats
    peak: Floats
    fits_look: Floats
    fits_cart: Floats
    band_look: Floats
    band_cart: Floats
    user_sum: Floats
    joined: Ints
    activity: NDArray[np.int32]
    mission_family: NDArray[np.int8]
    interest_sum: Floats
    user_band: NDArray[np.int8]
    domain_sum: Floats


@dataclass(frozen=True, eq=False)
class Truth:
    """The world with what only the catalogue and the truth tables need.

    Attributes:
        leaf: (n,) leaf of each item; leaf_theme, leaf_domain: (L,); activity_theme, activity_domain, season: (A,).
        persona: (U,) home theme; home_family: (U,).
    """

    settings: ShopSettings
    world: World
    leaf: Ints
    leaf_theme: Ints
    leaf_domain: Ints
    activity_theme: Ints
    activity_domain: Ints
    persona: Ints
    home_family: Ints

    @property
    def n_leaves(self) -> int:
        return len(self.leaf_theme)

    @property
    def n_activities(self) -> int:
        return len(self.activity_theme)

    def domain_names(self) -> list[str]:
        return list(DOMAINS[: self.settings.domains])


def make_truth(settings: ShopSettings) -> Truth:
    """Draw the fixed truth of a shop from its seed."""
    items, activities, users = (np.random.default_rng([settings.seed, part]) for part in range(3))
    leaf_domain = _leaves(settings)
    n_leaves = len(leaf_domain)
    role_start, role_leaf, activity_domain = _activities(leaf_domain, activities)
    activity_theme = activities.integers(0, THEMES, len(activity_domain))
    leaf_theme = _leaf_themes(role_start, role_leaf, activity_theme, n_leaves, activities)
    leaf_start = np.append(0, np.cumsum(_leaf_sizes(settings.n_items, n_leaves, items)))
    leaf = np.repeat(np.arange(n_leaves), np.diff(leaf_start))
    look, cart = _pulls(settings, leaf_start, items)
    launched, oldest = _launches(settings, leaf_start, items)
    family_share = zipf(settings.families, 0.5)
    people = _users(settings, activity_domain, activity_theme, family_share, users)
    world = World(
        leaf_start=leaf_start,
        look_sum=look,
        cart_sum=cart,
        family=items.choice(settings.families, len(leaf), p=family_share).astype(np.int8),
        band=items.choice(settings.bands, len(leaf)).astype(np.int8),
        launched=launched,
        oldest=oldest,
        leaf_sum=running_share(activities.lognormal(0, 0.7, n_leaves)),
        role_start=role_start,
        role_leaf=role_leaf,
        role_pull=1 / np.arange(1, ROLES[1]) ** 0.5,
        peak=activities.random(len(activity_domain)),
        fits_look=_fits(settings.families, settings.comparison),
        fits_cart=_fits(settings.families, settings.compatibility),
        band_look=_near(settings.bands, settings.price_taste, settings.aspiration),
        band_cart=_near(settings.bands, settings.price_taste, 0),
        **people.arrays,
    )
    return Truth(
        settings, world, leaf, leaf_theme, leaf_domain, activity_theme, activity_domain, people.persona, people.family
    )


def zipf(n: int, exponent: float) -> Floats:
    """(n,) shares that fall as 1 / rank ** exponent."""
    weights = 1 / np.arange(1, n + 1) ** exponent
    return weights / weights.sum()


def running_share(weights: Floats) -> Floats:
    """Running sum that ends at 1, to be searched with a uniform number."""
    total = np.cumsum(weights)
    return total / total[-1]


def shares_of_leaf(running: Floats, leaf_start: Ints) -> Floats:
    """(n,) an item's share of its leaf, from running sums that begin anew in each leaf."""
    shares = np.diff(running, prepend=0.0)
    shares[leaf_start[:-1]] = running[leaf_start[:-1]]
    return shares


def _leaves(settings: ShopSettings) -> Ints:
    """The domain of every leaf."""
    size = settings.leaf_size or max(4.0, min(settings.n_items**LEAF_GROWTH, settings.n_items / FEWEST_LEAVES))
    per_domain = max(1, int(settings.n_items / size / settings.domains))
    return np.repeat(np.arange(settings.domains), per_domain)


def _leaf_sizes(n_items: int, n_leaves: int, rng: np.random.Generator) -> Ints:
    """Uneven sizes of at least one item that add up."""
    share = rng.lognormal(0, 0.4, n_leaves)
    bounds = np.round(np.cumsum(share) / share.sum() * (n_items - n_leaves)).astype(np.int64)
    return np.diff(bounds, prepend=0) + 1


def _activities(leaf_domain: Ints, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Role offsets, leaves of the roles, and domains. Every leaf has a role, some have two."""
    starts, leaves, domains = [0], [], []
    for domain in np.unique(leaf_domain):
        mine = np.flatnonzero(leaf_domain == domain)
        dealt = np.concatenate([rng.permutation(mine), rng.permutation(mine)[: len(mine) // 3]])
        while len(dealt):
            n_roles = int(rng.integers(*ROLES))
            hand, dealt = np.unique(dealt[:n_roles]), dealt[n_roles:]
            leaves.append(rng.permutation(hand))
            starts.append(starts[-1] + len(hand))
            domains.append(domain)
    return np.array(starts), np.concatenate(leaves), np.array(domains)


def _leaf_themes(
    role_start: Ints, role_leaf: Ints, activity_theme: Ints, n_leaves: int, rng: np.random.Generator
) -> Ints:
    """Most leaves stand in the department of an activity they serve; the others make activities cross departments."""
    theme = np.zeros(n_leaves, np.int64)
    theme[role_leaf] = np.repeat(activity_theme, np.diff(role_start))
    astray = rng.random(n_leaves) < 0.3
    theme[astray] = rng.integers(0, THEMES, astray.sum())
    return theme


def _pulls(settings: ShopSettings, leaf_start: Ints, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Running sums per leaf of how an item draws looks and carts: Zipf over two rankings that are somewhat alike."""
    n_items = leaf_start[-1]
    looked = rng.standard_normal(n_items)
    carted = settings.alike * looked + np.sqrt(1 - settings.alike**2) * rng.standard_normal(n_items)
    by_looks = _zipf_by_rank(looked, leaf_start, settings.look_skew)
    return by_looks, _zipf_by_rank(carted, leaf_start, settings.cart_skew)


def _zipf_by_rank(score: Floats, leaf_start: Ints, exponent: float) -> Floats:
    leaf = np.repeat(np.arange(len(leaf_start) - 1), np.diff(leaf_start))
    order = np.lexsort((-score, leaf))
    weight = np.empty(len(score))
    weight[order] = 1 / (np.arange(len(score)) - leaf_start[leaf] + 1.0) ** exponent
    total = np.concatenate([[0.0], np.cumsum(weight)])
    below, above = total[leaf_start[:-1]], total[leaf_start[1:]]
    share = (total[1:] - below[leaf]) / (above - below)[leaf]
    share[leaf_start[1:] - 1] = 1.0
    return share


def _launches(settings: ShopSettings, leaf_start: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """When each item came: most before the log, some while it runs, the cold ones near its end."""
    n_items, first, length = leaf_start[-1], settings.begins, settings.days * DAY
    kind, when = rng.random(n_items), rng.random(n_items)
    days_ago = 30 + 700 * when
    share_of_log = np.where(kind < settings.cold, LAST_TENTH + (1 - LAST_TENTH) * when, LAST_TENTH * when)
    came = first + (share_of_log * length).astype(np.int64)
    launched = np.where(kind < settings.cold + settings.arrivals, came, first - (days_ago * DAY).astype(np.int64))
    oldest = np.array([a + np.argmin(launched[a:b]) for a, b in pairwise(leaf_start.tolist())])
    launched[oldest] = np.minimum(launched[oldest], first - DAY)
    return launched, oldest


def _fits(families: int, strictness: float) -> Floats:
    """(F, F): 1 on the diagonal, 1 - strictness elsewhere."""
    return np.where(np.eye(families, dtype=bool), 1.0, 1.0 - strictness)


def _near(bands: int, strictness: float, above: float) -> Floats:
    """(taste, band): 1 where the band lies `above` the taste, falling with the distance from there."""
    band = np.arange(bands)
    middle = np.minimum(band + above, bands - 1)
    return (1.0 - strictness) ** np.abs(band[None, :] - middle[:, None])


class _People(NamedTuple):
    arrays: dict[str, NDArray]
    persona: Ints
    family: Ints


def _users(
    settings: ShopSettings, activity_domain: Ints, activity_theme: Ints, family_share: Floats, rng: np.random.Generator
) -> _People:
    n, domains, k = settings.n_users, settings.domains, settings.interests
    persona = rng.integers(0, THEMES, n)
    home = rng.choice(settings.families, n, p=family_share)
    taste = rng.integers(0, settings.bands, n)
    pull = rng.permutation(zipf(len(activity_domain), 0.5))
    activity = np.empty((n, domains, k), np.int32)
    family = np.where(rng.random((n, domains, k)) < HOME_FAMILY, home[:, None, None], -1)
    family = np.where(family < 0, rng.choice(settings.families, family.shape, p=family_share), family)
    band = np.repeat(taste[:, None], domains, axis=1)
    for domain in range(domains):
        liked = (persona + (THEMES // 2 if domain == FLOOD else 0)) % THEMES
        theme = np.where(rng.random((n, k)) < HOME_THEME, liked[:, None], -1)
        activity[:, domain] = _draw_activities(theme, domain, pull, activity_domain, activity_theme, rng)
    if domains > FLOOD:
        family[:, FLOOD] = settings.families - 1 - family[:, FLOOD]
        band[:, FLOOD] = settings.bands - 1 - band[:, FLOOD]
    joined = np.sort(np.maximum(0, (rng.random(n) - JOINED_BEFORE) / (1 - JOINED_BEFORE)))
    joined[0] = 0
    shares = np.full(domains, 1.0 if domains == 1 else (1 - settings.flood) / (domains - 1))
    if domains > FLOOD:
        shares[FLOOD] = settings.flood
    arrays: dict[str, NDArray] = {
        "user_sum": np.cumsum(rng.lognormal(0, 1.0, n)),
        "joined": settings.begins + (joined * settings.days * DAY).astype(np.int64),
        "activity": activity,
        "mission_family": family.astype(np.int8),
        "interest_sum": running_share(0.6 ** np.arange(k)),
        "user_band": band.astype(np.int8),
        "domain_sum": running_share(shares),
    }
    return _People(arrays, persona, home)


def _draw_activities(
    theme: Ints, domain: int, pull: Floats, activity_domain: Ints, activity_theme: Ints, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Activities of a domain by their pull, of the wanted theme where there is one; theme -1 is any."""
    drawn = np.empty(theme.shape, np.int32)
    where = rng.random(theme.shape)
    for wanted in range(-1, THEMES):
        inside = activity_domain == domain
        if (inside & (activity_theme == wanted)).any():
            inside &= activity_theme == wanted
        candidates = np.flatnonzero(inside)
        mask = theme == wanted
        drawn[mask] = candidates[np.searchsorted(running_share(pull[candidates]), where[mask])]
    return drawn
