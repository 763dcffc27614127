"""The folder of releases: which one is live, how it got there, and what may be thrown away."""

from __future__ import annotations

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.artefact import exclusive, read_manifest, remove_artefact, sweep, write_atomically
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.release.release import check_release

# One line per activation, the live release last: one rename changes what is live and how to get back.
CURRENT = "CURRENT"
ACTIVATIONS_KEPT = 50
NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
ANY_NAME = "????????T??????-??????"  # the same for `glob`
LINE = re.compile(rf"{NAME.pattern} \S+")
WHAT = "these releases"
MEND = "choose the live one anew with `endcap releases activate {} NAME`"


@dataclass(frozen=True)
class ReleaseInfo:
    """A release as it stands on the shelf; `damaged` says what is wrong with it, empty where nothing is.

    Attributes:
        created, watermark, trained_until: microseconds since 1970; age: seconds since it was written.
    """

    name: str
    live: bool
    created: int = 0
    age: float = 0.0
    watermark: int = 0
    trained_until: int = 0
    models: tuple[str, ...] = ()
    damaged: str = ""


def live(to: Path) -> str:
    """The name of the live release.

    Raises:
        InputError: if none was activated yet; DamagedArtefact: if what says so was changed by hand.
    """
    activations = _activations(to)
    if not activations:
        raise InputError(f"{to}: no release is live here; `endcap publish MODEL --shop SHOP --to {to}` makes one")
    return activations[-1]


def activate(to: Path, name: str) -> None:
    """Verify a release and make it the live one, by one rename.

    Raises:
        InputError: if there is no such release; DamagedArtefact: if it was changed since it was written.
    """
    with exclusive(to, WHAT):
        activate_held(to, name)


def activate_held(to: Path, name: str) -> None:
    """`activate` for who holds the shelf already."""
    verify_release(to, name)
    try:
        lines = _lines(to)
    except DamagedArtefact:
        lines = []  # choosing a release is how this is mended
    if not lines or _name(lines[-1]) != name:
        _write(to, [*lines, f"{name} {datetime.now(UTC).isoformat(timespec='seconds')}"])


def rollback(to: Path) -> str:
    """Make the release live that was live before, and say which; a damaged or removed one is passed over.

    Raises:
        InputError: if there is none to go back to.
    """
    with exclusive(to, WHAT):
        activations = _activations(to)
        for length in range(len(activations) - 1, 0, -1):
            name = activations[length - 1]
            if name == activations[-1]:
                continue
            try:
                verify_release(to, name)
            except EndcapError:
                continue
            _write(to, _lines(to)[:length])
            return name
        raise InputError(f"{to}: there is no earlier release to go back to")


def verify_release(to: Path, name: str) -> None:
    """Compare a release with its checksums.

    Raises:
        InputError: if there is no such release; DamagedArtefact: if it was changed since it was written.
    """
    folder = to / name
    if name not in _names(to):
        known = ", ".join(_names(to)[-5:]) or "none"
        raise InputError(f"{to}: there is no release {name!r}; the newest are: {known}")
    check_release(folder, read_manifest(folder, kind="release"))


def releases(to: Path, *, check: bool = False) -> list[ReleaseInfo]:
    """All releases, newest first; with `check` every file is compared with its checksum."""
    if not to.is_dir():
        raise InputError(f"{to}: no such folder of releases")
    current = _activations(to)[-1:]
    infos = [_info(to, name, name in current, check) for name in _names(to)]
    return sorted(infos, key=lambda info: (info.created, info.name), reverse=True)


def prune(to: Path, keep: int) -> list[str]:
    """Remove all but the newest `keep` releases, the live one and the one before it; returns what is gone."""
    with exclusive(to, WHAT):
        return prune_held(to, keep)


def prune_held(to: Path, keep: int) -> list[str]:
    """`prune` for who holds the shelf already. What an interrupted writer left is removed, too."""
    sweep_held(to)
    spared = {info.name for info in releases(to)[: max(keep, 1)]} | set(_activations(to)[-2:])
    gone = [name for name in _names(to) if name not in spared]
    for name in gone:
        remove_artefact(to / name)
    return gone


def discard_held(to: Path, name: str) -> None:
    """Remove a release that was written and could not be made live, from a shelf that is held."""
    if name not in _activations(to):
        remove_artefact(to / name)


def sweep_held(to: Path) -> None:
    """Remove what interrupted writers left on a shelf that is held."""
    for name in (ANY_NAME, CURRENT):
        sweep(to, name)


def holding(to: Path, user: str) -> list[str]:
    """The releases that know a user, oldest first; one that cannot be read may."""
    return [name for name in _names(to) if _may_know(to / name, user)]


def remove(to: Path, names: Collection[str]) -> None:
    """Remove releases for good, also from the way back; what an interrupted writer left goes, too.

    Raises:
        InputError: if one of them is live.
    """
    with exclusive(to, WHAT):
        if live_one := set(_activations(to)[-1:]) & set(names):
            raise InputError(f"{to}: {live_one.pop()} is live and cannot be removed; activate another one first")
        sweep_held(to)
        lines = _lines(to)
        stay = [line for line in lines if _name(line) not in names]
        if stay != lines:
            _write(to, stay)
        for name in set(_names(to)) & set(names):
            remove_artefact(to / name)


def _may_know(folder: Path, user: str) -> bool:
    try:
        users = pq.read_table(folder / "users.parquet", columns=["user"])["user"]
    except (OSError, pa.ArrowException):
        return True
    return pc.any(pc.equal(users, user)).as_py() or False


def _names(to: Path) -> list[str]:
    """Release folders by name, which is by time. Whatever else lies here is none of ours."""
    if not to.is_dir():
        return []
    return sorted(path.name for path in to.iterdir() if path.is_dir() and NAME.fullmatch(path.name))


def _info(to: Path, name: str, is_live: bool, check: bool) -> ReleaseInfo:
    try:
        manifest = read_manifest(to / name, kind="release")
        if check:
            check_release(to / name, manifest)
    except EndcapError as error:
        return ReleaseInfo(name, is_live, damaged=str(error))
    models = manifest["models"]
    return ReleaseInfo(
        name,
        is_live,
        manifest["created"],
        max(0.0, time.time() - manifest["created"] / 1e6),
        manifest["watermark"],
        min(model["trained_until"] for model in models.values()),
        tuple(manifest["order"]),
    )


def _activations(to: Path) -> list[str]:
    """Names in order of activation, the live one last."""
    return [_name(line) for line in _lines(to)]


def _name(line: str) -> str:
    return line.partition(" ")[0]


def _lines(to: Path) -> list[str]:
    """`name time`, one line an activation.

    Raises:
        DamagedArtefact: if anything else stands there.
    """
    try:
        lines = (to / CURRENT).read_bytes().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedArtefact(f"{to / CURRENT}: unreadable ({error.strerror}); {MEND.format(to)}") from None
    for number, line in enumerate(lines[:-1], 1):
        if not LINE.fullmatch(line):
            raise DamagedArtefact(f"{to / CURRENT}: line {number} names no release; {MEND.format(to)}")
    if lines[-1] or not lines[:-1]:
        raise DamagedArtefact(f"{to / CURRENT}: cut short; {MEND.format(to)}")
    return lines[:-1]


def _write(to: Path, lines: list[str]) -> None:
    write_atomically(to / CURRENT, "".join(f"{line}\n" for line in lines[-ACTIVATIONS_KEPT:]))
