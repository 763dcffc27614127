"""A small shop, model, release and live state on the disk, and paths that lead nowhere."""

from __future__ import annotations

import json
from pathlib import Path

from endcap import models
from endcap.jobs.publish import publish
from endcap.serve.state import LiveState
from endcap.shop import Shop
from endcap.shop.ingest import ingest

START = 1_600_000_000
KINDS = ("click", "cart", "purchase")


def make_places(folder: Path) -> None:
    """Write shop/, model/, counts/, releases/, state.db, log.csv, items.jsonl, any.toml, empty/ and noise.bin."""
    rows = [f"u{n % 7},i{(n * n) % 11},{KINDS[n % 3]},{START + 3_600 * n}" for n in range(300)]
    (folder / "log.csv").write_text("\n".join(["user,item,interaction,time", *rows]))
    items = [{"item": f"i{n}", "category": f"a/{n % 3}", "brand": f"b{n % 2}", "price": n} for n in range(11)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    ingest(folder / "log.csv", items=folder / "items.jsonl", shop=folder / "shop")
    shop = Shop.open(folder / "shop")
    models.create("popularity").fit(shop).save(folder / "model")
    models.create("co-occurrence").fit(shop).save(folder / "counts")
    for _ in range(2):
        publish([folder / "counts", folder / "model"], shop, folder / "releases", force=True)
    with LiveState(folder / "state.db"):
        pass
    (folder / "any.toml").write_text("k = 3\n")
    (folder / "empty").mkdir()
    (folder / "noise.bin").write_bytes(bytes(range(256)) * 8)


PATHS = [
    *("shop", "model", "counts", "releases", "state.db", "log.csv", "items.jsonl", "any.toml", "empty", "noise.bin"),
    *(
        "missing",
        "missing/deeper",
        "log.csv/deeper",
        "",
        ".",
        "x" * 300,
        "\udcff",
        "*.csv",
        "[",
        "/dev/null",
        "/proc/x",
    ),
]
