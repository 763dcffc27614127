"""The real logs that benchmarks run on, opened as shops; the sets are named in docs/real-data.md."""

from __future__ import annotations

import html
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap import Shop
from endcap.errors import InputError

BUYERS = {"user_id": "user", "item_id": "item", "event": "interaction", "ts": "time"}


def data_folder(given: Path | None, name: str) -> Path:
    """The folder of one set: `--data` or $ENDCAP_DATA, which may hold the set itself or all sets.

    Raises:
        InputError: if it is in neither.
    """
    base = given or (Path(os.environ["ENDCAP_DATA"]) if os.environ.get("ENDCAP_DATA") else None)
    if base is None:
        raise InputError("say where the data is: --data DIR, or the variable ENDCAP_DATA")
    folder = base / name if (base / name).is_dir() else base
    if folder.name != name:
        raise InputError(f"{base}: there is no {name} in it")
    return folder


def retailrocket(folder: Path) -> Shop:
    """Views, carts and purchases of 2,174 buyers."""
    return Shop.from_tables(pq.read_table(folder / "events.parquet"), columns=BUYERS, interactions={"view": "click"})


def jd(folder: Path) -> Shop:
    """A raw log of two and a half days with sessions, without carts; comments count as favourites."""
    return Shop.from_tables(
        pq.read_table(folder / "events.parquet"),
        pq.read_table(folder / "items.parquet"),
        columns={**BUYERS, "session_id": "session"},
        item_columns={"item_id": "item", "brand_id": "brand", "category_id": "category", "shop_id": "seller"},
        interactions={"view": "click", "comment": "favourite"},
    )


def uci(folder: Path) -> Shop:
    """Invoices as sessions, cancellations as returns; lines without a customer are kept as anonymous."""
    return Shop.from_tables(
        pq.read_table(folder / "lines.parquet"),
        columns={
            "user_id": "user", "item_id": "item", "ts": "time", "is_cancellation": "interaction",
            "invoice_id": "session", "unit_price": "price", "description": "title",
        },
        interactions={"false": "purchase", "true": "return"},
        keep_anonymous=True,
    )  # fmt: skip


def deezer(folder: Path) -> Shop:
    """Customer sequences without times: the place in the sequence stands for the second."""
    table = pq.read_table(folder / "sessions.parquet")
    start = pa.scalar(1_300_000_000, pa.int64())
    return Shop.from_tables(
        pa.table({
            "user": pc.cast(table["session_id"], pa.string()),
            "session": pc.cast(table["session_id"], pa.string()),
            "item": table["item_id"],
            "interaction": pa.repeat("purchase", len(table)),
            "time": pc.add(pc.cast(table["position"], pa.int64()), start),
        })
    )  # fmt: skip


def food_kitchen(folder: Path) -> Shop:
    """Reviews as purchases, by day, in two domains that the same people buy in; most items have titles."""
    items = pq.read_table(folder / "items.parquet")
    titles = [title and html.unescape(title) for title in items["title"].to_pylist()]
    return Shop.from_tables(
        pq.read_table(folder / "interactions.parquet"),
        items.set_column(items.column_names.index("title"), "title", pa.array(titles, pa.string())),
        columns={"user_id": "user", "item_id": "item", "day": "time"},
        item_columns={"item_id": "item"},
        default_interaction="purchase",
    )


SHOPS = {
    "retailrocket-dense": retailrocket,
    "jd-sessions": jd,
    "uci-online-retail": uci,
    "deezer-uci-sessions": deezer,
    "amazon-food-kitchen": food_kitchen,
}
