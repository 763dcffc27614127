"""Releases of a small shop, and a folder that passes for a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_shop import DAY, make_shop

from endcap.answers import Space
from endcap.artefact import new_artefact
from endcap.release import Part, write_release
from endcap.shop import Shop


@pytest.fixture
def small_shop() -> Shop:
    return make_shop(
        [
            (0, "lamp", "click", 100),
            (0, "desk", "cart", 101),
            (0, "desk", "purchase", 102),
            (0, "pen", "purchase", 103),
            (0, "pen", "return", 104),
            (0, "", "search", 105),
            (2, "ink", "click", 106),
            (2, "ink", "click", 107),
        ]
    )


@pytest.fixture
def make_part(tmp_path: Path) -> Callable[..., Part]:
    """A model folder that nobody opens, with one space."""

    def make(trained_until: int = 107 * DAY, spaces: dict[str, Space] | None = None) -> Part:
        folder = tmp_path / "trained" / str(trained_until)
        about = {"kind": "model", "system": "test", "trained_until": trained_until, "n_items": 5, "config": {"dim": 2}}
        with new_artefact(folder, about) as building:
            np.save(building / "weights.npy", np.arange(3))
        vectors = np.eye(5, 2, dtype=np.float32)
        return Part(folder, {"cart": Space(np.arange(5, dtype=np.int32), vectors)} if spaces is None else spaces)

    return make


@pytest.fixture
def shelf(tmp_path: Path, small_shop: Shop, make_part: Callable[..., Part]) -> Callable[[], Path]:
    """Call it to write one more release; returns its folder."""
    return lambda: write_release(tmp_path / "releases", small_shop, {"one": make_part()})
