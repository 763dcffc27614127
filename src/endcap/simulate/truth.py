"""What is true in a simulated shop, as tables with external ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from endcap.simulate import catalogue
from endcap.simulate.world import DOMAINS, Truth


def truth_tables(truth: Truth) -> dict[str, pa.Table]:
    """The planted structure by name.

    `items`: item, leaf, family, band, look and cart (its share of a leaf's looks and carts), cold.
    `activities`: activity, domain, role, leaf, peak (best day of the year): leaves of one activity are complements.
    `substitutes`: item, leaf: items of one leaf are substitutes.
    `users`: user, joined, theme, family, and for each domain the band and the activities, the first one most often.
    """
    return {
        "items": _items(truth),
        "activities": _activities(truth),
        "users": _users(truth),
    }


def _items(truth: Truth) -> pa.Table:
    world, settings = truth.world, truth.settings
    last_tenth = settings.first_moment() + int(0.9 * settings.days * 86_400_000_000)
    return pa.table(
        {
            "item": catalogue.item_ids(truth),
            "leaf": pa.array(catalogue.leaf_names(truth)).take(pa.array(truth.leaf)),
            "family": world.family,
            "band": world.band,
            "look": _shares(world.look_sum, world.leaf_start),
            "cart": _shares(world.cart_sum, world.leaf_start),
            "cold": world.launched >= last_tenth,
        }
    )


def _shares(running: np.ndarray, leaf_start: np.ndarray) -> np.ndarray:
    shares = np.diff(running, prepend=0.0)
    shares[leaf_start[:-1]] = running[leaf_start[:-1]]
    return shares


def _activities(truth: Truth) -> pa.Table:
    world = truth.world
    n_roles = np.diff(world.role_start)
    activity = np.repeat(np.arange(truth.n_activities), n_roles)
    return pa.table(
        {
            "activity": activity,
            "domain": pa.array(DOMAINS).take(pa.array(truth.activity_domain[activity])),
            "role": np.arange(len(activity)) - world.role_start[activity],
            "leaf": pa.array(catalogue.leaf_names(truth)).take(pa.array(world.role_leaf)),
            "peak": (world.peak[activity] * 365.25).astype(np.int32),
        }
    )


def _users(truth: Truth) -> pa.Table:
    world, settings = truth.world, truth.settings
    n = settings.n_users
    columns = {
        "user": catalogue.user_ids(truth, np.arange(n)),
        "joined": pa.array(world.joined, pa.timestamp("us", "UTC")),
        "theme": pa.array(catalogue.DEPARTMENTS).take(pa.array(truth.persona)),
        "family": truth.home_family,
    }
    for place, domain in enumerate(truth.domain_names()):
        columns[f"band_{domain}"] = world.user_band[:, place]
        columns[f"activities_{domain}"] = pa.FixedSizeListArray.from_arrays(
            pa.array(world.activity[:, place].ravel()), settings.interests
        )
    return pa.table(columns)
