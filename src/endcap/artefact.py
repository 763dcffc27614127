"""Immutable folders with a manifest and checksums, written atomically: shops, models and releases are such folders."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from endcap.errors import DamagedArtefact, EndcapError, InputError

MANIFEST = "manifest.json"


@contextmanager
def new_artefact(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Write a folder that appears whole or not at all.

    Yields a temporary folder beside the final one; on leaving, checksums of all its files go into its manifest, all is
    flushed to the disk and it is renamed. An existing folder is replaced. `manifest` may be filled while writing.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".building", dir=folder.parent))
    building.chmod(0o755)
    try:
        yield building
        files = sorted(path for path in building.rglob("*") if path.is_file())
        checksums = {str(path.relative_to(building)): sha256(path) for path in files}
        sealed = json.loads(json.dumps({**manifest, "files": checksums}))
        sealed["seal"] = seal(sealed)
        text = json.dumps(sealed, indent=1, sort_keys=True, ensure_ascii=False)
        (building / MANIFEST).write_text(text + "\n", encoding="utf-8")
        for path in [*files, building / MANIFEST]:
            _flush(path)
        _flush(building)
        _swap(building, folder)
        _flush(folder.parent)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def read_manifest(folder: Path, *, kind: str) -> dict[str, Any]:
    """The manifest of a folder of the given kind ("shop", "model", "release").

    Raises:
        InputError: if there is no such folder or it is of another kind; DamagedArtefact: if the manifest is unreadable.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: not a {kind} folder (it has no {MANIFEST})")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DamagedArtefact(f"{path}: unreadable manifest ({error}); write this {kind} again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        raise InputError(f"{folder}: a {kind} folder is needed here, this is a {found or 'folder of something else'}")
    return manifest


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its checksum, and the manifest with its own.

    Raises:
        DamagedArtefact: naming the first file that is missing or differs.
    """
    if "seal" in manifest and manifest["seal"] != seal(manifest):
        raise DamagedArtefact(f"{folder / MANIFEST}: changed since it was written; write this {manifest['kind']} again")
    for name, checksum in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise DamagedArtefact(f"{path}: missing; this {manifest['kind']} is incomplete, write it again")
        if sha256(path) != checksum:
            raise DamagedArtefact(
                f"{path}: changed since it was written (checksum); write this {manifest['kind']} again"
            )


def seal(manifest: dict[str, Any]) -> str:
    """SHA-256 over all of a manifest but its own seal."""
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one writer, making it if need be. The lock goes with the process, however that ends.

    Raises:
        EndcapError: if another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EndcapError(f"{folder}: another process is at work on {what}; try again when it is done") from None
        yield
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new one, whole."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        _flush(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _swap(building: Path, folder: Path) -> None:
    """Put the finished folder in place; an old one is moved aside first and removed after."""
    if not folder.exists():
        building.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".old", dir=folder.parent))
    folder.rename(aside / folder.name)
    try:
        building.rename(folder)
    except OSError:
        (aside / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
