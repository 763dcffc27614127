"""A small simulated shop that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap import simulate
from endcap.shop import Shop
from endcap.simulate import ShopSettings, SimulatedShop

SMALL = {"events": 20_000, "items": 800, "seed": 1, "searches": 0.1, "best": 0}


@pytest.fixture(scope="session")
def shop_tables() -> SimulatedShop:
    """About 20,000 events on 800 items: `.events`, `.items`, `.truth`."""
    return simulate.tables(ShopSettings(**SMALL))


@pytest.fixture(scope="session")
def shop(shop_tables: SimulatedShop) -> Shop:
    """The same as a `Shop` in memory."""
    return Shop.from_tables(shop_tables.events, shop_tables.items)


@pytest.fixture(scope="session")
def shop_folder(shop_tables: SimulatedShop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, ingested into a folder. Only for reading."""
    import pyarrow.parquet as pq

    from endcap.shop.ingest import ingest

    folder = tmp_path_factory.mktemp("simulated")
    pq.write_table(shop_tables.events, folder / "events.parquet")
    pq.write_table(shop_tables.items, folder / "items.parquet")
    ingest([str(folder / "events.parquet")], items=[str(folder / "items.parquet")], shop=folder / "shop")
    return folder / "shop"
