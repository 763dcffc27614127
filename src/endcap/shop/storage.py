"""A shop on disk: immutable generations and one small manifest that names the current one.

    shop/manifest.json             which generation is current; replaced atomically, last
    shop/generation-000002/        an artefact: events, users, items, rejected .parquet and its own manifest

A reader sees the old generation or the new one, whole. The one before the current stays for readers that have it open.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import endcap
from endcap.artefact import (
    MANIFEST,
    manifest_bytes,
    new_artefact,
    read_manifest,
    remove_artefact,
    sha256,
    sweep,
    verify,
    write_atomically,
)
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.shop.interactions import FURTHER_KINDS, Interactions
from endcap.shop.shop import Events, Shop
from endcap.shop.vocabulary import Vocabulary

FORMAT = 1
EVENTS, USERS, ITEMS, REJECTED = "events.parquet", "users.parquet", "items.parquet", "rejected.parquet"
DENSE = ("user", "item", "interaction", "time", "session")
ON_DISK_ONLY = ("session_id", "event_id")  # needed to append, not to learn
GENERATIONS_KEPT = 2
STAGING = "staging"  # name of the engine's working folder
OURS = (".", "generation-")  # how names begin that may stand in a folder before it is a shop

T = TypeVar("T")


@dataclass(frozen=True)
class Generation:
    """One state of a shop on disk."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def interactions(self) -> Interactions:
        return Interactions(tuple(self.manifest["interactions"]))

    @property
    def number(self) -> int:
        return int(self.manifest["generation"])

    @property
    def about(self) -> dict[str, Any]:
        """The part of the ingest report that describes the whole shop; interactions from weak to strong."""
        about = self.manifest["about"]
        counts = about["interactions"]
        order = (*self.interactions.names, *FURTHER_KINDS)
        return {**about, "interactions": {name: counts[name] for name in order if name in counts}}

    def column_names(self) -> list[str]:
        """Names of the columns of the events file."""
        return list(pq.read_schema(self.folder / EVENTS).names)


def is_shop(folder: Path) -> bool:
    """Whether an ingest has ever finished in this folder."""
    return os.path.exists(folder / MANIFEST)


def current_generation(shop: Path) -> Generation:
    """The generation that a shop's manifest names, its files verified.

    Raises:
        InputError: if the folder holds no shop; DamagedArtefact: if a file is missing or was changed.
    """
    return _read_current(shop, lambda generation: generation)


def _read_current(shop: Path, read: Callable[[Generation], T]) -> T:
    """What `read` makes of the current generation; begun anew if ingests have removed it meanwhile."""
    while True:
        pointer = read_manifest(shop, kind="shop")
        try:
            return read(_verified(shop, pointer))
        except (EndcapError, OSError, pa.ArrowException):
            if read_manifest(shop, kind="shop") == pointer:
                raise


def _verified(shop: Path, pointer: dict[str, Any]) -> Generation:
    if (type(pointer.get("format")), pointer.get("format")) != (int, FORMAT):  # true equals 1
        raise InputError(
            f"{shop / MANIFEST}: written by another version of endcap (format {pointer.get('format')}); ingest it again"
        )
    folder = shop / str(pointer.get("generation"))
    if not os.path.isfile(folder / MANIFEST):
        raise DamagedArtefact(f"{folder}: missing, though {shop / MANIFEST} names it; ingest the shop again")
    if sha256(folder / MANIFEST) != pointer.get("checksum"):
        raise DamagedArtefact(f"{folder / MANIFEST}: changed since it was written (checksum); ingest the shop again")
    manifest = read_manifest(folder, kind="shop-generation")
    verify(folder, manifest)
    return Generation(folder, manifest)


def read_shop(folder: Path) -> Shop:
    """See `Shop.open`."""

    def read(generation: Generation) -> Shop:
        users, items = (pq.read_table(generation.folder / name) for name in (USERS, ITEMS))
        names = [name for name in generation.column_names() if name not in ON_DISK_ONLY]
        events = pq.read_table(generation.folder / EVENTS, columns=names)
        return make_shop(events, users, items, generation.interactions, folder=folder)

    return _read_current(folder, read)


def read_rejected(folder: str | Path) -> pa.Table:
    """Everything that was ever rejected: columns source, line, reason, raw.

    Raises:
        InputError: if the folder holds no shop.
    """
    return _read_current(Path(folder), lambda generation: pq.read_table(generation.folder / REJECTED))


def make_shop(
    events: pa.Table, users: pa.Table, items: pa.Table, interactions: Interactions, folder: Path | None = None
) -> Shop:
    """A shop from its stored tables: events in their order, users (user, known_from), items (catalogue, known_from)."""
    optional = [name for name in events.column_names if name not in (*DENSE, *ON_DISK_ONLY)]
    user, item, interaction, time, session = (_numpy(events[name]) for name in DENSE)
    return Shop(
        Events(user, item, interaction, time, session, events.select(optional)),
        Vocabulary(items["item"]),
        Vocabulary(users["user"]),
        items.drop_columns(["known_from"]),
        interactions,
        item_known_from=_numpy(items["known_from"]),
        user_known_from=_numpy(users["known_from"]),
        folder=folder,
    )


def write_generation(shop: Path, manifest: dict[str, Any], fill: Callable[[Path], None]) -> None:
    """Write a generation with `fill(folder)`, which may complete the manifest, and make it the current one."""
    name = f"generation-{manifest['generation']:06d}"
    manifest |= {"kind": "shop-generation", "format": FORMAT, "endcap": endcap.__version__}
    with new_artefact(shop / name, manifest) as building:
        fill(building)
    pointer = {"kind": "shop", "format": FORMAT, "generation": name, "checksum": sha256(shop / name / MANIFEST)}
    write_atomically(shop / MANIFEST, manifest_bytes(pointer).decode())
    for old in sorted(shop.glob("generation-*"))[:-GENERATIONS_KEPT]:
        remove_artefact(old)


def write_parquet(path: Path, parts: Iterable[pa.Table], schema: pa.Schema | None = None) -> int:
    """Write tables one behind the other and return the number of rows; `schema` is needed where there may be none.

    Raises:
        InputError: if the file cannot be written.
    """
    rows = 0
    parts = iter(parts)
    first = next(parts, None)
    schema = schema if first is None else first.schema
    try:
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part in itertools.chain([] if first is None else [first], parts):
                writer.write_table(part)
                rows += part.num_rows
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error})") from None
    return rows


def read_parts(path: Path) -> Iterator[pa.Table]:
    """A Parquet file piece by piece."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches():
            yield pa.Table.from_batches([batch])


@contextmanager
def only_writer(shop: Path) -> Iterator[None]:
    """Hold a shop's folder for writing, making it if need be; one that ends up without a shop is removed again.

    Raises:
        InputError: if another process is writing it, or the folder is something else.
    """
    if is_shop(shop):
        read_manifest(shop, kind="shop")
    elif shop.exists() and (not shop.is_dir() or any(not path.name.startswith(OURS) for path in shop.iterdir())):
        raise InputError(f"{shop}: neither a shop nor an empty folder; give another --shop")
    made = _missing_parents(shop)
    try:
        shop.mkdir(parents=True, exist_ok=True)
        handle = os.open(shop, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{shop}: cannot be made ({error.strerror}); give another --shop") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise InputError(f"{shop}: another ingest is writing this shop; try again when it has finished") from None
    try:
        _clear(shop)
        yield
    finally:
        if not is_shop(shop):
            _remove_empty(made)
        os.close(handle)


def _clear(shop: Path) -> None:
    """Remove what an ingest that was killed has left."""
    for name in (STAGING, "generation-*", MANIFEST):
        sweep(shop, name)
    if not is_shop(shop):
        for generation in shop.glob("generation-*"):
            remove_artefact(generation)


def _missing_parents(folder: Path) -> list[Path]:
    """The folder and those of its parents that do not exist yet, innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.ascontiguousarray(column.to_numpy())
