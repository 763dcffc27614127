"""Folders that appear whole or not at all, and are refused when damaged."""

from __future__ import annotations

import errno
import json
import os
import resource
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from endcap.artefact import (
    MANIFEST,
    disk_full_named,
    new_artefact,
    read_manifest,
    read_verified,
    save_array,
    verify,
    working_folder,
    write_atomically,
)
from endcap.errors import DamagedArtefact, DiskFull, InputError


def write(folder: Path, text: str = "one") -> Path:
    with new_artefact(folder, {"kind": "model"}) as building:
        (building / "deep").mkdir()
        (building / "deep" / "a.txt").write_text(text)
    return folder


def check(folder: Path) -> None:
    verify(folder, read_manifest(folder, kind="model"))


def test_what_was_written_is_verified_and_nothing_is_left_beside_it(tmp_path):
    check(write(tmp_path / "m"))
    check(write(tmp_path / "m", "two"))
    assert (tmp_path / "m" / "deep" / "a.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failure_while_writing_leaves_the_old_folder(tmp_path):
    write(tmp_path / "m")

    def fail() -> None:
        with new_artefact(tmp_path / "m", {"kind": "model"}) as building:
            (building / "half.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    check(tmp_path / "m")
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "deep" / "a.txt").write_text("onE"),
        lambda folder: (folder / "deep" / "a.txt").unlink(),
        lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("}", "", 1)),
        lambda folder: (folder / MANIFEST).write_text(
            json.dumps({**json.loads((folder / MANIFEST).read_text()), "trained_until": 0})
        ),
    ],
    ids=["changed", "missing", "broken manifest", "edited manifest"],
)
def test_damage_is_found(tmp_path, damage):
    damage(write(tmp_path / "m"))
    with pytest.raises(DamagedArtefact):
        check(tmp_path / "m")


def test_a_folder_of_another_kind_is_named(tmp_path):
    write(tmp_path / "m")
    with pytest.raises(InputError, match="a shop folder is needed here, this is a model"):
        read_manifest(tmp_path / "m", kind="shop")
    with pytest.raises(InputError, match="not a shop folder"):
        read_manifest(tmp_path, kind="shop")


def test_a_small_file_is_replaced_whole(tmp_path):
    path = tmp_path / "CURRENT"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["CURRENT"]


@pytest.mark.parametrize(
    "array",
    [np.arange(12.0).reshape(3, 4), np.arange(12, dtype=np.int32).reshape(3, 4).T, np.empty((0, 5), np.float32),
     np.array(["2026-01-01"], "datetime64[us]"), np.float32(1.5).reshape(())],
    ids=["plain", "transposed", "empty", "times", "no dimension"],
)  # fmt: skip
def test_arrays_are_stored_as_numpy_does(tmp_path, array):
    save_array(tmp_path / "ours.npy", array)
    np.testing.assert_array_equal(np.load(tmp_path / "ours.npy", allow_pickle=False), array)
    np.save(tmp_path / "theirs.npy", np.asarray(array, order="C"))
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_an_array_of_objects_is_refused(tmp_path):
    with pytest.raises(ValueError, match="objects"):
        save_array(tmp_path / "a.npy", np.array([{}], object))


@pytest.mark.parametrize(
    ("save", "left"),
    [
        (lambda folder: save_array(folder / "a.npy", np.zeros(200)), ["a.npy", "m"]),
        (lambda folder: write(folder / "m", 2000 * "x"), ["m"]),
        (lambda folder: write_atomically(folder / "CURRENT", 2000 * "x"), ["m"]),
    ],
    ids=["array", "artefact", "text"],
)
def test_a_full_disk_is_never_taken_for_done(tmp_path, save, left):
    """numpy's own `save` loses the last bytes without a word."""
    write(tmp_path / "m")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises((DiskFull, OSError)) as found:
            save(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    check(tmp_path / "m")
    assert isinstance(found.value, DiskFull) or left != ["m"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    """As root, a rename would put a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomically(tmp_path / "pipe", "said")
        assert os.read(reader, 100) == b"said"
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    write_atomically(tmp_path / "link", "one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "one"


@numba.njit(cache=True)
def doubled(number):
    return 2 * number


def test_a_compiler_without_room_for_its_cache_is_named(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numba.core.caching.open", full, raising=False)
    with pytest.raises(DiskFull, match=r"^the cache of compiled functions.*NUMBA_CACHE_DIR"), disk_full_named(tmp_path):
        doubled(2)
    with pytest.raises(DiskFull, match=f"^{tmp_path}: the disk is full"), disk_full_named(tmp_path):
        full()


def test_what_killed_writers_left_goes_and_what_living_ones_write_stays(tmp_path):
    left = tmp_path / ".m.dead.building"
    left.mkdir()
    (left / "half").write_text("x")
    with working_folder(tmp_path, "m") as alive:
        write(tmp_path / "m")
        assert alive.is_dir()
        assert not left.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_where_names_cannot_be_exchanged_a_kill_between_two_renames_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr("endcap.artefact._exchange", lambda one, other: False)
    check(write(write(tmp_path / "m"), "two"))
    (tmp_path / "m").rename(tmp_path / ".m.old")  # killed here

    def fail() -> None:
        with new_artefact(tmp_path / "m", {"kind": "model"}):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "m" / "deep" / "a.txt").read_text() == "two", "the old one is back"
    check(write(tmp_path / "m", "three"))
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_folder_replaced_while_it_is_read_is_read_again(tmp_path):
    write(tmp_path / "m", "old")
    reads = []

    def read(manifest: dict[str, Any]) -> str:
        reads.append(manifest["seal"])
        if len(reads) == 1:
            write(tmp_path / "m", "new")
        return (tmp_path / "m" / "deep" / "a.txt").read_text()

    assert read_verified(tmp_path / "m", kind="model", read=read) == "new"
    assert len(set(reads)) == 2
