"""Small shops for the tests of graphs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from endcap.shop import Shop

START = 1_600_000_000
DAY = 86_400


def shop_of(*rows: tuple[Any, ...], names: str = "user,item,interaction,time", items: Any = None) -> Shop:
    """A shop of these events, with times in seconds after `START`."""
    columns = dict(zip(names.split(","), map(list, zip(*rows, strict=True)), strict=True))
    columns["time"] = [START + second for second in columns["time"]]
    return Shop.from_tables(pa.table(columns), items)
