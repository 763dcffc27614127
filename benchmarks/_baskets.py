"""Files of baskets, one a line, as shops: hyperedges of numbers (Cornell's sets, with labels of nodes), lists of names.

Such files have neither users nor times: every line is an order of a buyer of its own, a second after the line before.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from endcap import Shop
from endcap.errors import InputError

START = 1_300_000_000  # seconds: the first line


def basket_file(path: Path) -> Shop:
    """Products with commas between on each line; empty lines are none. Categories from labels of nodes beside it.

    Raises:
        InputError: for a file that is missing, is no text, or has a line with nothing between two commas.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; one basket on each line is needed") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: no text in UTF-8: {error}") from None
    baskets, items = [], []
    for number, line in enumerate(lines, 1):
        products = [product.strip() for product in line.split(",")] if line.strip() else []
        if not all(products):
            raise InputError(f"{path}, line {number}: a product's name is missing between commas")
        baskets += [number] * len(products)
        items += products
    if not items:
        raise InputError(f"{path}: one basket on each line is needed, products with commas between")
    buyers = [f"line {number}" for number in baskets]
    events = pa.table({
        "user": buyers,
        "order": buyers,
        "item": items,
        "interaction": pa.repeat("purchase", len(items)),
        "time": pa.array(START + np.array(baskets)).cast(pa.timestamp("s", tz="UTC")),
    })  # fmt: skip
    return Shop.from_tables(events, _departments(path))


def _departments(path: Path) -> pa.Table | None:
    """Of hyperedges-NAME.txt: the name of each node's label, from node-labels-NAME.txt and label-names-NAME.txt."""
    name = path.name.removeprefix("hyperedges-")
    labels, names = path.with_name(f"node-labels-{name}"), path.with_name(f"label-names-{name}")
    if name == path.name or not labels.is_file() or not names.is_file():
        return None
    label_of = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    codes = labels.read_text(encoding="utf-8").split()
    if not all(code.isdecimal() and 1 <= int(code) <= len(label_of) for code in codes):
        raise InputError(f"{labels}: a number from 1 to {len(label_of)} is needed on each line, for {names.name}")
    numbers = [str(number) for number in range(1, len(codes) + 1)]
    return pa.table({"item": numbers, "category": [label_of[int(code) - 1] for code in codes]})


def held_out(shop: Shop, n_baskets: int, *, seed: int) -> tuple[Shop, Shop]:
    """Views without and of `n_baskets` users' events, drawn by the seed; the second without items the first lacks.

    Raises:
        InputError: if there are no more users than that.
    """
    users = np.unique(shop.positives.user)
    if len(users) <= n_baskets:
        raise InputError(f"{n_baskets:,} baskets to hold out: there are {len(users):,} in all")
    is_test = np.isin(shop.events.user, np.random.default_rng(seed).choice(users, n_baskets, replace=False))
    train = replace(shop, events=shop.events.where(~is_test))
    is_known = np.isin(shop.events.item, train.positives.item)
    return train, replace(shop, events=shop.events.where(is_test & is_known))
