"""What is true in a simulated shop, as tables with external ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from endcap.simulate import catalogue
from endcap.simulate.oracle import Oracle
from endcap.simulate.visits import CART
from endcap.simulate.world import DOMAINS, LAST_TENTH, Truth, shares_of_leaf

PAIRS_UP_TO_ITEMS = 20_000
COMPLEMENTS_OF_AN_ITEM = 10


def truth_tables(truth: Truth) -> dict[str, pa.Table]:
    """The planted structure by name.

    `items`: item, leaf, family, band, look and cart (its share of what draws looks and carts in the leaf), cold.
        Items of one leaf are substitutes, the closer the nearer their bands.
    `activities`: activity, domain, role, leaf, peak (best day of the year). Leaves of one activity are complements;
        of their items those of one family fit together.
    `complements`: item, complement, expected: the ten of other leaves that are most carted after the item is carted;
        expected is relative to the item's best one. Written for shops of up to 20,000 items.
    `users`: user, joined, theme, family, and for each domain the price band and the activities, the first most often.
    `bots`: user.
    """
    settings = truth.settings
    tables = {
        "items": _items(truth),
        "activities": _activities(truth),
        "users": _users(truth),
        "bots": pa.table({"user": catalogue.user_ids(truth, settings.n_users + np.arange(settings.bots))}),
    }
    if settings.n_items <= PAIRS_UP_TO_ITEMS:
        tables["complements"] = _complements(truth)
    return tables


def _items(truth: Truth) -> pa.Table:
    world, settings = truth.world, truth.settings
    return pa.table(
        {
            "item": catalogue.item_ids(truth),
            "leaf": pa.array(catalogue.leaf_names(truth)).take(pa.array(truth.leaf)),
            "family": world.family,
            "band": world.band,
            "look": shares_of_leaf(world.look_sum, world.leaf_start),
            "cart": shares_of_leaf(world.cart_sum, world.leaf_start),
            "cold": world.launched >= settings.begins + LAST_TENTH * (settings.ends - settings.begins),
        }
    )


def _complements(truth: Truth) -> pa.Table:
    oracle, ids, start = Oracle(truth), catalogue.item_ids(truth), truth.world.leaf_start
    items, others, expected = [], [], []
    for leaf in range(truth.n_leaves):
        inside = np.arange(start[leaf], start[leaf + 1])
        candidates, values = oracle.expected(inside, CART, CART)
        elsewhere = truth.leaf[candidates] != leaf
        candidates, values = candidates[elsewhere], values[:, elsewhere]
        best = np.argsort(-values, axis=1, kind="stable")[:, :COMPLEMENTS_OF_AN_ITEM]
        top = np.take_along_axis(values, best, 1)
        shown = top > 0
        items.append(np.repeat(inside, best.shape[1])[shown.ravel()])
        others.append(candidates[best][shown])
        expected.append((top / top.max(axis=1, keepdims=True, initial=1e-30))[shown])
    columns = {
        "item": ids.take(pa.array(np.concatenate(items))),
        "complement": ids.take(pa.array(np.concatenate(others))),
        "expected": np.concatenate(expected).astype(np.float32),
    }
    return pa.table(columns)


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
