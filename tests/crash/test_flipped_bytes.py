"""Any byte of a stored folder that is changed, cut off, added or swapped is found when the folder is opened.

`ENDCAP_FLIPS=2000 ENDCAP_KILL_SEED=7` draws as many positions of each file from another seed.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from endcap import models
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.models.checkpoint import Checkpoint
from endcap.release import Release, activate, live
from endcap.serve.events import ItemUpdate
from endcap.serve.state import LiveState
from endcap.shop import Shop
from endcap.shop.storage import read_rejected

from .harness import Lab
from .test_kills import SEED

FEW, MANY = 12, 300  # positions of each file; in a smaller file every byte
WHITESPACE = b" \t\r\n"

Open = Callable[[Path], object]


def open_release(folder: Path) -> None:
    release = Release.open(folder)
    for name, path in release.model_folders.items():
        models.open(path)
        release.searchers(name)


def open_checkpoint(folder: Path) -> None:
    """A training begins anew rather than from a damaged state."""
    if Checkpoint(folder, {"seed": 1}).load() == (0, {}):
        raise DamagedArtefact(f"{folder}: not used")


@pytest.fixture(scope="module")
def artefacts(lab: Lab) -> dict[str, tuple[Path, Open]]:
    """Folders and how each is opened. A test mends what it damages."""
    folder = lab.bases.copy("shelf", lab.folder / "flipped")
    done = lab.zygote.run(folder, ["train", "co-occurrence", "--shop", "shop", "--out", "models/counts"])
    assert done.code == 0, done.said
    shelf, names = folder / "releases", []
    for index in ("exact", "hnsw"):
        words = f"publish models/m --shop shop --to releases --force --index {index} --keep 9"
        assert lab.zygote.run(folder, words).code == 0
        names.append(live(shelf))
    checkpoint = folder / "checkpoint"
    Checkpoint(checkpoint, {"seed": 1}).save(3, {"inputs": np.arange(50.0), "outputs": np.zeros(7)}, now=True)
    return {
        "shop": (folder / "shop", lambda shop: (Shop.open(shop), read_rejected(shop))),
        "model": (folder / "models" / "m", models.open),
        "counts": (folder / "models" / "counts", models.open),
        "release": (shelf / names[0], open_release),
        "release-hnsw": (shelf / names[1], open_release),
        "checkpoint": (checkpoint, open_checkpoint),
    }


NAMES = ("shop", "model", "counts", "release", "release-hnsw", "checkpoint")


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def restored(path: Path) -> Iterator[bytes]:
    """The content, which is put back in a new file: others may hold links to the old one."""
    content = path.read_bytes()
    path.unlink()
    try:
        yield content
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(content)


def check_found(folder: Path, opened: Open, path: Path) -> None:
    with pytest.raises((DamagedArtefact, InputError)) as found:
        opened(folder)
    assert "\n" not in str(found.value)
    if folder.name != "checkpoint":
        assert path.name in str(found.value) or "manifest.json" in str(found.value)


def positions(size: int, count: int, draws: random.Random) -> list[int]:
    """Places in a file: all if it is small, else the ends and some between."""
    if size <= count:
        return list(range(size))
    return sorted({0, 1, size - 2, size - 1, *draws.sample(range(size), count)})


def flip(folder: Path, opened: Open, count: int) -> int:
    """Change one byte at a time; returns how many times."""
    opened(folder)
    draws, tried = random.Random(SEED), 0
    for path in files_of(folder):
        with restored(path) as content:
            for place in positions(len(content), count, draws):
                old = content[place]
                new = draws.choice([old ^ 1 << draws.randrange(8), old ^ 0xFF, old ^ 0x20, *(WHITESPACE * (old <= 32))])
                if new == old:
                    continue
                path.write_bytes(content[:place] + bytes([new]) + content[place + 1 :])
                try:
                    check_found(folder, opened, path)
                except BaseException:
                    print(f"{path}, byte {place}: {old} -> {new}, seed {SEED}")
                    raise
                tried += 1
    opened(folder)
    return tried


@pytest.mark.parametrize("name", NAMES)
def test_flipped_bytes_are_found(artefacts: dict[str, tuple[Path, Open]], name: str) -> None:
    assert flip(*artefacts[name], int(os.environ.get("ENDCAP_FLIPS", FEW))) > 30


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_many_flipped_bytes_are_found(artefacts: dict[str, tuple[Path, Open]], name: str) -> None:
    assert flip(*artefacts[name], MANY) > 500


def other_file(folder: Path, path: Path, content: bytes) -> bytes:
    """The content of the first other file of the folder that differs."""
    contents = (other.read_bytes() for other in files_of(folder) if other != path)
    return next(found for found in contents if found != content)


SPOILED: dict[str, Callable[[Path, Path, bytes], object]] = {
    "cut short": lambda folder, path, content: path.write_bytes(content[: len(content) // 2]),
    "last byte gone": lambda folder, path, content: path.write_bytes(content[:-1]),
    "emptied": lambda folder, path, content: path.write_bytes(b""),
    "a byte more": lambda folder, path, content: path.write_bytes(content + b"\n"),
    "gone": lambda folder, path, content: None,
    "a folder in its place": lambda folder, path, content: path.mkdir(),
    "another file in its place": lambda folder, path, content: path.write_bytes(other_file(folder, path, content)),
    "noughts": lambda folder, path, content: path.write_bytes(bytes(len(content))),
    "an empty object": lambda folder, path, content: path.write_bytes(b"{}\n"),
    "deeply nested": lambda folder, path, content: path.write_bytes(b"[" * 200_000),
    "a dangling link": lambda folder, path, content: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("how", SPOILED)
@pytest.mark.parametrize("name", NAMES)
def test_spoiled_files_are_found(artefacts: dict[str, tuple[Path, Open]], name: str, how: str) -> None:
    folder, opened = artefacts[name]
    for path in files_of(folder):
        with restored(path) as content:
            SPOILED[how](folder, path, content)
            check_found(folder, opened, path)
    opened(folder)


@pytest.mark.parametrize("name", NAMES)
def test_added_files_are_found(artefacts: dict[str, tuple[Path, Open]], name: str) -> None:
    folder, opened = artefacts[name]
    inside = next(folder.glob("generation-*")) if name == "shop" else folder
    for added in (inside / "sellers-thing.npy", inside / ".hidden"):
        added.write_bytes(b"\x93NUMPY")
        check_found(folder, opened, added)
        added.unlink()
    opened(folder)


def test_a_damaged_word_of_what_is_live_is_found_and_mended(artefacts: dict[str, tuple[Path, Open]]) -> None:
    shelf = artefacts["release"][0].parent
    with restored(shelf / "CURRENT") as content:
        name, draws = content.decode().splitlines()[-1].split()[0], random.Random(SEED)
        garbage = [b"", b"\n", content[:-1], content + b"\n", b"\xff" * 40, b"../elsewhere now\n", content[:-30]]
        for place in positions(len(content), FEW, draws):
            other = bytes([content[place] ^ 1 << draws.randrange(8)])
            garbage.append(content[:place] + other + content[place + 1 :])
        for spoiled in garbage:
            (shelf / "CURRENT").write_bytes(spoiled)
            with suppress(EndcapError):
                assert Release.open(shelf / live(shelf)).name == name
            activate(shelf, name)
            assert live(shelf) == name


def use(path: Path) -> None:
    """Everything that a server and a drain do with a live state."""
    with LiveState(path) as state:
        state.recent("u1")
        len(state.pending_events())
        state.live_items()
        row = ("new", "u1", "i1", "click", 1_800_000_000_000_000, *[None] * 9)
        state.record([row]).result()
        state.update_items([ItemUpdate(item="i2", price=2.0)]).result()
        state.acknowledge(3)


@pytest.mark.parametrize("count", [60, pytest.param(3_000, marks=pytest.mark.slow)])
def test_a_damaged_live_state_is_refused_or_read(lab: Lab, tmp_path: Path, count: int) -> None:
    """SQLite has no checksums: damage to its structure is found, a changed letter in a row cannot be."""
    folder = lab.bases.copy("live", tmp_path / "live")
    use(folder / "state.db")
    content = (folder / "state.db").read_bytes()
    draws, refused = random.Random(SEED), []
    for number, place in enumerate([*range(0, 100, 3), *(draws.randrange(len(content)) for _ in range(count))]):
        path = tmp_path / f"{number}.db"
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :])
        try:
            use(path)
        except (EndcapError, sqlite3.Error) as error:  # which a server answers with 503, and a command with one line
            refused.append(str(error))
        for left in tmp_path.glob(f"{number}.db*"):
            left.unlink()
    assert refused
    assert not [said for said in refused if "\n" in said]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_live_state_cut_short_is_refused(lab: Lab, tmp_path: Path, share: float) -> None:
    folder = lab.bases.copy("live", tmp_path / "live")
    content = (folder / "state.db").read_bytes()
    (folder / "state.db").write_bytes(content[: int(share * len(content))])
    with pytest.raises(EndcapError, match=r"state\.db: damaged"):
        LiveState(folder / "state.db")
    ended = lab.zygote.run(folder, ["ingest", "--from-live", "state.db", "--shop", "shop"])
    assert ended.code == 2
    assert ended.said.startswith("error: state.db: damaged")
    shutil.rmtree(folder)
