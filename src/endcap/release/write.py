"""Writing a release: one new folder beside the old ones, whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import endcap
from endcap.answers import Space
from endcap.artefact import new_artefact, read_manifest, save_array
from endcap.errors import InputError
from endcap.index import Exact, Kind, build, recall
from endcap.release.contents import (
    CATEGORY_PAIRS,
    FORMAT,
    NEW_VECTORS,
    bought,
    category_pairs,
    group_items,
    histories,
    popular_order,
)
from endcap.shop import Shop
from endcap.shop.columns import VECTOR_PREFIX

RECALL_AT = 100
RECALL_QUERIES = 200


@dataclass(frozen=True, eq=False)
class Part:
    """One model of a release.

    Attributes:
        folder: the trained model's folder; its files are linked into the release where the disk can, else copied.
        spaces: what to index, by name.
        queries: (q, d) for some spaces, real questions to measure recall with; a space's own vectors stand in.
        index: which kind of index to build.
    """

    folder: Path
    spaces: Mapping[str, Space] = field(default_factory=dict)
    queries: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    index: Kind = "auto"


def write_release(
    to: Path, shop: Shop, parts: Mapping[str, Part], *, notes: Mapping[str, Any] | None = None, threads: int = 1
) -> Path:
    """Write `to/<name>/`, which nobody serves before it is activated.

    Args:
        parts: by the model's name in the release, the most important first.
        notes: what else the manifest should say (the gate's verdict).
        threads: for building indexes; with one the release is the same every time, but for its name and time.

    Returns:
        The new folder.

    Raises:
        InputError: if there is no model, or a name cannot be a folder's.
    """
    if not parts:
        raise InputError("a release needs at least one model")
    for name in parts:
        check_name(name)
    created = time.time_ns() // 1000
    name = _new_name(created)
    manifest: dict[str, Any] = {
        "kind": "release",
        "format": FORMAT,
        "name": name,
        "endcap": endcap.__version__,
        "created": created,
        "order": list(parts),
        "notes": dict(notes or {}),
        **_about_shop(shop),
    }
    with new_artefact(to / name, manifest) as folder:
        _write_shop(folder, shop)
        manifest["models"] = {
            model: _write_part(part, folder / "models" / model, folder / "indexes" / model, threads)
            for model, part in parts.items()
        }
        _write_new_vectors(folder, shop, min(about["n_items"] for about in manifest["models"].values()))
    return to / name


def _about_shop(shop: Shop) -> dict[str, Any]:
    times = shop.events.time
    return {
        "n_items": shop.n_items,
        "n_users": shop.n_users,
        "n_events": len(shop.events),
        "interactions": list(shop.interactions.names),
        "watermark": int(times.max()) if len(times) else 0,
        "items_fingerprint": shop.items.fingerprint(),
        "users_fingerprint": shop.users.fingerprint(),
        "data_fingerprint": data_fingerprint(shop),
    }


def data_fingerprint(shop: Shop) -> str:
    """SHA-256 over a shop's events and what a release keeps of its catalogue."""
    return shop.fingerprint(vectors=False)


def _write_shop(folder: Path, shop: Shop) -> None:
    """Vocabularies, catalogue, histories, popularity, and which categories go together."""
    pq.write_table(pa.table({"item": shop.items.ids}), folder / "items.parquet")
    pq.write_table(pa.table({"user": shop.users.ids}), folder / "users.parquet")
    pq.write_table(shop.plain_catalogue(), folder / "catalogue.parquet")
    for name, arrays in (("histories", histories(shop)), ("bought", bought(shop))):
        (folder / name).mkdir()
        for column, array in arrays._asdict().items():
            _save(folder / name / column, array)
    (folder / "popular").mkdir()
    _save(folder / "popular" / "order", popular_order(shop))
    (folder / "popular" / CATEGORY_PAIRS).write_text(json.dumps(category_pairs(shop)), encoding="utf-8")
    for column in ("category", "seller"):
        groups = group_items(shop.catalogue, column)
        (folder / "popular" / f"{column}.json").write_text(json.dumps(groups.names), encoding="utf-8")
        _save(folder / "popular" / f"{column}_offsets", groups.offsets)
        _save(folder / "popular" / f"{column}_items", groups.items)


def _write_new_vectors(folder: Path, shop: Shop, n_known: int) -> None:
    """The `vector_*` of the items that some model was not trained with, by which it may encode them."""
    names = [name for name in shop.catalogue.column_names if name.startswith(VECTOR_PREFIX)]
    if names and n_known < shop.n_items:
        pq.write_table(shop.catalogue.select(names).slice(n_known, shop.n_items - n_known), folder / NEW_VECTORS)


def _save(path: Path, array: NDArray[Any]) -> None:
    save_array(path.with_suffix(".npy"), array)


def _write_part(part: Part, models: Path, indexes: Path, threads: int) -> dict[str, Any]:
    """The model's folder and its indexes; returns what the manifest says of them."""
    about = read_manifest(part.folder, kind="model")
    shutil.copytree(part.folder, models, copy_function=_link)
    spaces = {
        name: _write_index(space, part.index, part.queries.get(name), indexes / name, threads)
        for name, space in part.spaces.items()
        if check_name(name)
    }
    return {
        "system": about["system"],
        "trained_until": about["trained_until"],
        "n_items": about["n_items"],
        "config": about["config"],
        "spaces": spaces,
        **({"sources": about["sources"]} if "sources" in about else {}),
    }


def _write_index(
    space: Space, kind: Kind, queries: NDArray[np.float32] | None, folder: Path, threads: int
) -> dict[str, Any]:
    index = build(space, kind, threads=threads)
    index.save(folder)
    if queries is None or len(queries) == 0:
        rows = np.random.default_rng(0).permutation(len(index))[:RECALL_QUERIES]
        queries = np.asarray(space.vectors, np.float32)[np.sort(rows)]
    measured = 1.0 if isinstance(index, Exact) else recall(index, Exact(space), queries, RECALL_AT)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "index": index.kind,
        "vectors": len(index),
        "dimensions": int(space.vectors.shape[1]),
        f"recall@{RECALL_AT}": round(measured, 4),
        "bytes": size,
    }


def _link(source: str, target: str) -> str:
    """A hard link (model folders are never written in place), or a copy where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    return target


def _new_name(created: int) -> str:
    moment = datetime.fromtimestamp(created / 1e6, UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def check_name(name: str) -> bool:
    """Names of models and spaces become folders, and stand in surfaces.toml.

    Raises:
        InputError: unless it is made of letters, digits, `-`, `_` and `.`, and does not begin with a dot.
    """
    if not name or name.startswith(".") or not all(letter.isalnum() or letter in "-_." for letter in name):
        raise InputError(f"{name!r} cannot be a name in a release: use letters, digits, '-', '_' and '.'")
    return True
