"""Trained models of the small simulated shop, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from endcap import models
from endcap.shop import Shop


@pytest.fixture(scope="session")
def trained(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model folders: `good`, `poor` and `als` have not seen the last week, `full` has seen everything."""
    folder = tmp_path_factory.mktemp("models")
    before = shop.until(shop.cut("7d"))
    models.create("co-occurrence").fit(before).save(folder / "good")
    models.create("popularity").fit(before).save(folder / "poor")
    models.create("als", {"factors": 8}).fit(before).save(folder / "als")
    models.create("co-occurrence").fit(shop).save(folder / "full")
    return {name: folder / name for name in ("good", "poor", "als", "full")}
