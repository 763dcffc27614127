"""Small shops for the tests of models, and settings that make training quick."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from endcap import models, simulate
from endcap.models import Model
from endcap.shop import Shop
from endcap.simulate import ShopSettings

QUICK = {"dim": 8, "factors": 8, "epochs": 3}
QUICK_DEEP = {"dim": 16, "epochs": 12, "learning_rate": 0.03, "batch_size": 512, "negatives": 256}


def quick(system: str, **settings: object) -> Model:
    """An untrained model that trains in no time."""
    known = type(models.create(system).config).__struct_fields__
    usual = QUICK_DEEP if "batch_size" in known else QUICK
    return models.create(system, {key: value for key, value in usual.items() if key in known} | settings)


def simulated(events: int = 3_000, seed: int = 2) -> tuple[pa.Table, pa.Table]:
    """Events and items of a simulated shop; no two events share a time, so their order is theirs alone."""
    shop = simulate.tables(ShopSettings(events=events, seed=seed, best=0))
    order = shop.events.sort_by("time")
    microseconds = order["time"].cast(pa.int64()).to_numpy() + np.arange(len(order))
    times = pa.array(microseconds).cast(pa.timestamp("us", "UTC"))
    return order.set_column(order.column_names.index("time"), "time", times), shop.items


def checkerboard(n_items: int = 12, n_users: int = 40, seed: int = 0) -> Shop:
    """Even people like even items, odd people odd ones: what is related to an item has its parity.

    Every session clicks four items of the user's colour, carts two of these and buys one, so that every kind of list
    has something to learn from. Item and user numbers are those in the ids.
    """
    rng = np.random.default_rng(seed)
    rows = [(f"u{number % 2}", f"i{number}", "click", number) for number in range(n_items)]
    second = n_items
    for visit in range(3):
        for user in range(n_users):
            liked = rng.permutation(np.arange(user % 2, n_items, 2))
            actions = [("click", 0), ("click", 1), ("cart", 0), ("click", 2), ("click", 3), ("cart", 2)]
            for interaction, which in [*actions, ("purchase", 0), ("purchase", 2)]:
                second += 1
                rows.append((f"u{user}", f"i{liked[which]}", interaction, second))
            second += 3600 * (visit + 1)
    names = ("user", "item", "interaction", "time")
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    return Shop.from_tables(
        table.set_column(3, "time", pa.array(np.array(rows)[:, 3].astype(np.int64) + 1_600_000_000))
    )


def habits(n_people: int = 120, n_items: int = 60) -> Shop:
    """Ten weekly baskets of each: two products by chance, and every second week item (person mod 12)."""
    rng = np.random.default_rng(0)
    users, items, times = [], [], []
    for user in range(n_people):
        for week in range(10):
            inside = {*rng.integers(0, n_items, 2).tolist(), *([user % 12] if week % 2 else [])}
            items += [f"i{item:02}" for item in sorted(inside)]
            users += [f"u{user:03}"] * len(inside)
            times += [1_600_000_000 + 86_400 * 7 * week + 60 * user] * len(inside)
    table = {"user": users, "item": items, "interaction": ["purchase"] * len(items), "time": times}
    return Shop.from_tables(pa.table(table))
