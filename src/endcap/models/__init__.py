"""Published systems and baselines, one file each. `create(name)` makes one, `open(folder)` opens a trained one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from endcap.artefact import read_verified
from endcap.errors import InputError
from endcap.models.base import Model


class System(NamedTuple):
    """Where a system lives and what it can answer."""

    path: str
    answers: str
    about: str


SYSTEMS: dict[str, System] = {
    "item-interaction": System(
        "item_interaction:ItemInteraction", "related, recommend, cart page", "because you X this, you may Y that (Etsy)"
    ),
    "popularity": System("popularity:Popularity", "related, recommend", "most positive actions"),
    "recent-popularity": System("popularity:RecentPopularity", "related, recommend", "most positive actions lately"),
    "co-occurrence": System("counts:CoOccurrence", "related, recommend", "what follows in a session, per type pair"),
    "co-purchase": System("counts:CoPurchase", "related, recommend", "cosine of sparse co-purchase vectors"),
    "item-knn": System("counts:ItemKNN", "related, recommend", "cosine of the items' users"),
    "als": System("als:Als", "related, recommend", "matrix factorisation, users x items (implicit)"),
    "als-typed": System("als:AlsTyped", "related, recommend", "matrix factorisation, users x (item, interaction)"),
    "sgns": System("item_interaction:Sgns", "related, recommend", "untyped skip-gram with negatives"),
}


def create(name: str, settings: Mapping[str, Any] | None = None) -> Model:
    """An untrained model by its name in `endcap systems`.

    Raises:
        InputError: for an unknown name, an unknown setting or a bad value.
    """
    return _class_of(name)(**(settings or {}))


def open(folder: str | Path) -> Model:  # noqa: A001 (`models.open` is its name in the design)
    """Open a trained model, ready to answer, read-only and memory-mapped.

    Raises:
        InputError: if the folder is no model; DamagedArtefact: if a file is missing or changed.
    """
    folder = Path(folder)
    return read_verified(
        folder, kind="model", read=lambda manifest: _class_of(manifest["system"]).load(folder, manifest)
    )


def _class_of(name: str) -> type[Model]:
    if name not in SYSTEMS:
        raise InputError(f"there is no system {name!r}; `endcap systems` lists: {', '.join(SYSTEMS)}")
    module, _, kind = SYSTEMS[name].path.partition(":")
    return getattr(importlib.import_module(f"endcap.models.{module}"), kind)
