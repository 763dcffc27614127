"""Small logs written by hand, and models that answer by heart."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from endcap.answers import Candidates, Request
from endcap.shop import Shop

MINUTE, DAY = 60, 86_400
START = 1_600_000_000
CLICK, FAVOURITE, CART, PURCHASE = range(4)


def shop_of(*rows: tuple[str, str, str, int], items: dict[str, str] | None = None) -> Shop:
    """A shop of (user, item, interaction, minute) rows; `items` gives categories."""
    columns = list(zip(*rows, strict=True))
    table = {name: list(column) for name, column in zip(("user", "item", "interaction"), columns, strict=False)}
    events = pa.table(table | {"time": [START + MINUTE * minute for minute in columns[3]]})
    catalogue = None if items is None else pa.table({"item": list(items), "category": list(items.values())})
    return Shop.from_tables(events, catalogue)


class Memory:
    """Answers with the lists it was given: (item, seen as, want) -> items, by name."""

    def __init__(self, shop: Shop, lists: dict[tuple[str, str, str], str]) -> None:
        codes, number = shop.interactions.code, shop.items.number
        self.lists = {(number(i), codes(s), codes(w)): shop.items.encode(answer) for (i, s, w), answer in lists.items()}
        self.asked: list[Request] = []

    def related_batch(self, items: np.ndarray, seen_as: int, want: int, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = np.full((len(items), k), -1, np.int32)
        for row, item in enumerate(items):
            answer = self.lists.get((int(item), seen_as, want), np.empty(0, np.int32))[:k]
            found[row, : len(answer)] = answer
        return found, np.where(found >= 0, -np.arange(k, dtype=np.float32), -np.inf)


class Alphabet:
    """Answers every request with the items in the order of the alphabet, and remembers what it was asked."""

    def __init__(self, shop: Shop) -> None:
        self.order = shop.items.encode(sorted(shop.items.ids.to_pylist()))
        self.asked: list[Request] = []

    def candidates(self, request: Request) -> Candidates:
        self.asked.append(request)
        items = self.order if request.allowed is None else self.order[request.allowed[self.order]]
        items = items[: request.k]
        return Candidates(items, -np.arange(len(items), dtype=np.float32), ["alphabet"] * len(items))
