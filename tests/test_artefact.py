"""Folders that appear whole or not at all, and are refused when damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from endcap.artefact import MANIFEST, new_artefact, read_manifest, verify, write_atomically
from endcap.errors import DamagedArtefact, InputError


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
