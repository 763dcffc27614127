"""Releases: what is written comes back, what was touched is refused, one rename decides what is live."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from known_shop import CODES, DAY, ITEMS

from endcap.answers import Space
from endcap.artefact import exclusive
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.release import Part, Release, activate, live, prune, releases, rollback, verify_release, write_release
from endcap.shop import Shop

Shelf = Callable[[], Path]


def named(numbers) -> list[str]:
    return [ITEMS[number] for number in numbers]


def test_what_is_written_comes_back(shelf: Shelf, small_shop: Shop):
    release = Release.open(shelf())
    assert release.items.ids.equals(small_shop.items.ids)
    assert release.users.ids.equals(small_shop.users.ids)
    assert release.interactions == small_shop.interactions
    assert release.catalogue.equals(small_shop.catalogue.drop_columns(["vector_text"]))
    assert release.watermark == 107 * DAY
    assert release.trained_until == 107 * DAY
    assert named(release.history(0).items) == ["lamp", "desk", "desk", "pen"]
    assert release.history(0).interactions.tolist() == [0, 2, 3, 3]
    assert release.history(2).times.tolist() == [106 * DAY, 107 * DAY]
    assert named(release.bought(0)) == ["desk"]
    assert release.manifest["models"]["one"]["config"] == {"dim": 2}
    assert np.load(release.model_folders["one"] / "weights.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize("user", [-1, 1, 3, 10**9])
def test_nothing_is_known_of_a_stranger(shelf: Shelf, user: int):
    release = Release.open(shelf())
    assert len(release.history(user)) == 0
    assert len(release.bought(user)) == 0


def test_popular_overall_in_a_branch_and_of_a_seller(shelf: Shelf):
    release = Release.open(shelf())
    click, purchase = CODES["click"], CODES["purchase"]
    assert named(release.popular(click)) == ["ink", "lamp", "desk", "pen", "cup"]
    assert named(release.popular(click, category="home")) == ["lamp", "desk"]
    assert named(release.popular(purchase, category="home")) == ["desk", "lamp"]
    assert named(release.popular(click, category="home/light")) == ["lamp"]
    assert named(release.popular(click, category="office")) == ["ink", "pen"]
    assert named(release.popular(purchase, seller="ann")) == ["pen", "ink", "lamp"]
    assert len(release.popular(click, category="garden")) == 0
    assert len(release.popular(click, category="hom")) == 0
    assert len(release.popular(click, seller="office")) == 0


def test_age_is_counted_from_writing(shelf: Shelf):
    release = Release.open(shelf())
    assert release.age(now=release.manifest["created"] + 90_000_000) == pytest.approx(90)
    assert release.age(now=0) == 0.0


def test_searchers_are_those_of_the_models_spaces(tmp_path: Path, small_shop: Shop, make_part):
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    spaces = {"cart": Space(np.arange(5, dtype=np.int32), vectors), "none": Space(np.empty(0, np.int32), vectors[:0])}
    release = Release.open(write_release(tmp_path / "releases", small_shop, {"one": make_part(spaces=spaces)}))
    searchers = release.searchers("one")
    assert set(searchers) == {"cart", "none"}
    items, _ = searchers["cart"].search(vectors[2:3], 5)
    np.testing.assert_array_equal(items[0], np.argsort(-(vectors @ vectors[2])))
    assert searchers["none"].search(vectors[:1], 2)[0].tolist() == [[-1, -1]]
    assert release.searchers("one")["cart"] is searchers["cart"]
    with pytest.raises(InputError, match="it has one"):
        release.searchers("two")


def test_the_manifest_tells_the_recall_on_the_questions_that_were_given(tmp_path: Path, small_shop: Shop, make_part):
    vectors = np.random.default_rng(0).standard_normal((6000, 8)).astype(np.float32)
    space = Space(np.arange(6000, dtype=np.int32), vectors)
    part = Part(make_part().folder, {"cart": space}, {"cart": vectors[:20]}, "hnsw")
    release = Release.open(write_release(tmp_path / "releases", small_shop, {"one": part}))
    row = release.manifest["models"]["one"]["spaces"]["cart"]
    assert (row["index"], row["vectors"], row["dimensions"]) == ("hnsw", 6000, 8)
    assert 0.8 < row["recall@100"] <= 1
    assert row["bytes"] > vectors.nbytes


def test_a_release_outlives_the_model_folder_it_was_made_of(tmp_path: Path, shelf: Shelf):
    import shutil

    folder = shelf()
    shutil.rmtree(tmp_path / "trained")
    assert Release.open(folder).model_folders["one"].is_dir()


def test_models_are_copied_where_they_cannot_be_linked(monkeypatch, shelf: Shelf):
    def refuse(source: str, target: str) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    Release.open(shelf())


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b"])
def test_names_that_cannot_be_folders_are_refused(tmp_path: Path, small_shop: Shop, make_part, name: str):
    with pytest.raises(InputError, match="name in a release"):
        write_release(tmp_path / "releases", small_shop, {name: make_part()})


def test_a_failed_write_leaves_nothing(tmp_path: Path, small_shop: Shop, make_part):
    bad = Space(np.arange(5, dtype=np.int32), np.full((5, 2), np.nan, np.float32))
    with pytest.raises(InputError):
        write_release(tmp_path / "releases", small_shop, {"one": make_part(spaces={"cart": bad})})
    assert list((tmp_path / "releases").iterdir()) == []
    with pytest.raises(InputError, match="at least one model"):
        write_release(tmp_path / "releases", small_shop, {})


# -- edited by hand ------------------------------------------------------------------------------------------------


def edit_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["one"]["spaces"]["cart"]["recall@100"] = 0.99
    (folder / "manifest.json").write_text(json.dumps(manifest))


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "a byte of a model": lambda folder: flip_a_byte(folder / "models/one/weights.npy"),
    "a byte of an index": lambda folder: flip_a_byte(folder / "indexes/one/cart/vectors.npy"),
    "a truncated history": lambda folder: (folder / "histories/items.npy").write_bytes(b""),
    "a missing file": lambda folder: (folder / "users.parquet").unlink(),
    "a file too many": lambda folder: (folder / "models/one/more.npy").write_bytes(b"x"),
    "the manifest": edit_manifest,
    "no manifest text": lambda folder: (folder / "manifest.json").write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_release_edited_by_hand_is_refused(shelf: Shelf, damage: str):
    good, folder = shelf(), shelf()
    to = folder.parent
    activate(to, good.name)
    DAMAGES[damage](folder)
    with pytest.raises(DamagedArtefact):
        Release.open(folder)
    with pytest.raises(DamagedArtefact):
        activate(to, folder.name)
    with pytest.raises(DamagedArtefact):
        verify_release(to, folder.name)
    assert live(to) == good.name
    info = next(info for info in releases(to, check=True) if info.name == folder.name)
    assert info.damaged


def test_a_renamed_release_is_refused(shelf: Shelf):
    folder = shelf()
    folder.rename(folder.parent / "better-name")
    with pytest.raises(DamagedArtefact, match="renamed"):
        Release.open(folder.parent / "better-name")


def test_a_release_of_another_format_is_refused_and_says_so(shelf: Shelf, monkeypatch):
    folder = shelf()
    monkeypatch.setattr("endcap.release.release.FORMAT", 2)
    with pytest.raises(DamagedArtefact, match="of format 1, this endcap serves format 2; publish again"):
        Release.open(folder)


# -- live, back, away ----------------------------------------------------------------------------------------------


def test_rollback_goes_to_what_was_live_before_and_further(shelf: Shelf):
    first, second, third = shelf(), shelf(), shelf()
    to = first.parent
    for folder in (first, second, second, third):
        activate(to, folder.name)
    assert live(to) == third.name
    assert rollback(to) == second.name == live(to)
    assert rollback(to) == first.name == live(to)
    with pytest.raises(InputError, match="no earlier release"):
        rollback(to)
    assert live(to) == first.name


def test_rollback_passes_over_what_is_damaged_or_gone(shelf: Shelf):
    import shutil

    folders = [shelf() for _ in range(4)]
    to = folders[0].parent
    for folder in folders:
        activate(to, folder.name)
    flip_a_byte(folders[2] / "items.parquet")
    shutil.rmtree(folders[1])
    assert rollback(to) == folders[0].name


def test_after_a_rollback_a_new_activation_can_be_rolled_back(shelf: Shelf):
    first, second, third = shelf(), shelf(), shelf()
    to = first.parent
    activate(to, first.name)
    activate(to, second.name)
    rollback(to)
    activate(to, third.name)
    assert rollback(to) == first.name


def test_the_list_says_what_is_live_newest_first(shelf: Shelf):
    first, second = shelf(), shelf()
    to = first.parent
    activate(to, first.name)
    found = releases(to)
    assert [info.name for info in found] == [second.name, first.name]
    assert [info.live for info in found] == [False, True]
    assert found[0].models == ("one",)
    assert found[0].watermark == 107 * DAY
    assert 0 <= found[0].age < 3600


def test_prune_spares_the_live_one_the_one_before_and_the_newest(shelf: Shelf):
    folders = [shelf() for _ in range(6)]
    to = folders[0].parent
    activate(to, folders[0].name)
    activate(to, folders[2].name)
    (to / f".{folders[0].name}.abc.building").mkdir()
    gone = prune(to, keep=2)
    assert set(gone) == {folders[1].name, folders[3].name}
    assert {path.name for path in to.iterdir() if path.is_dir()} == {folders[place].name for place in (0, 2, 4, 5)}


def test_what_is_no_release_is_never_touched(shelf: Shelf):
    """Somebody publishes into a folder where shop and models lie, too."""
    folders = [shelf() for _ in range(3)]
    to = folders[0].parent
    others = {"shop", "models", ".models.x.building", "2026"}
    for name in others:
        (to / name).mkdir()
    assert len(releases(to)) == 3
    prune(to, keep=1)
    assert {path.name for path in to.iterdir()} == others | {folders[2].name}


def test_nothing_is_live_at_first(tmp_path: Path, shelf: Shelf):
    to = shelf().parent
    with pytest.raises(InputError, match="endcap publish"):
        live(to)
    with pytest.raises(InputError, match="no release 'yesterday'"):
        activate(to, "yesterday")
    with pytest.raises(InputError, match="there is no release"):
        activate(to, "../releases")
    with pytest.raises(InputError, match="no such folder"):
        releases(tmp_path / "elsewhere")


def test_two_writers_do_not_meet(shelf: Shelf):
    folder = shelf()
    with exclusive(folder.parent, "these releases"), pytest.raises(EndcapError, match="another process"):
        activate(folder.parent, folder.name)
    activate(folder.parent, folder.name)


def test_a_reader_sees_the_old_or_the_new_name_at_every_moment(shelf: Shelf):
    """Activation is one rename: a reader that polls as fast as it can never finds nothing, or half a name."""
    import threading

    folders = [shelf(), shelf()]
    to, names = folders[0].parent, {folder.name for folder in folders}
    activate(to, folders[0].name)
    seen: set[str] = set()
    done = threading.Event()

    def poll() -> None:
        while not done.is_set():
            seen.add(live(to))

    reader = threading.Thread(target=poll)
    reader.start()
    for turn in range(20):
        activate(to, folders[turn % 2].name)
    done.set()
    reader.join()
    assert seen <= names
