"""Immutable folders with a manifest and checksums, written atomically: shops, models and releases are such folders."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, TypeVar

from endcap.errors import DamagedArtefact, DiskFull, EndcapError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST = "manifest.json"
UNFINISHED = ".building"  # how the names of hidden folders and files end that are being written, or removed
ASIDE = ".old"

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What the writers of numpy, faiss, DuckDB and SQLite say instead of an error number
NO_ROOM_SAYS = re.compile(
    r"no space left|disk is full|file too large|quota exceeded|max_temp_directory_size|\d+ requested and \d+ written",
    re.IGNORECASE,
)

# What the system says of a path at which nothing can be written, whatever room there is
IMPOSSIBLE = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)

T = TypeVar("T")


@contextmanager
def new_artefact(folder: Path, manifest: dict[str, Any]) -> Iterator[Path]:
    """Write a folder that appears whole or not at all.

    Yields a temporary folder beside the final one; on leaving, checksums of all its files go into its manifest, all is
    flushed to the disk and it takes the final name. An existing folder is replaced in one step. `manifest` may be
    filled while writing.

    Raises:
        InputError: if something else than such a folder is there; DiskFull: if there is no room for it. What is there
        stays.
    """
    folder = folder.resolve()
    with disk_full_named(folder), impossible_named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _put_back(folder)
        check_replaceable(folder, kind=manifest["kind"])
        with working_folder(folder.parent, folder.name) as building:
            building.chmod(0o755)
            yield building
            files = sorted(path for path in building.rglob("*") if path.is_file())
            checksums = {path.relative_to(building).as_posix(): sha256(path) for path in files}
            sealed = json.loads(json.dumps({**manifest, "files": checksums}))
            sealed["seal"] = seal(sealed)
            (building / MANIFEST).write_bytes(manifest_bytes(sealed))
            for path in [*building.rglob("*"), building]:
                _flush(path)
            _swap(building, folder)
            _flush(folder.parent)


def read_manifest(folder: Path, *, kind: str) -> dict[str, Any]:
    """The manifest of a folder of the given kind ("shop", "model", "release").

    Raises:
        InputError: if there is no such folder or it is of another kind; DamagedArtefact: if the manifest is unreadable
        or not as it was written.
    """
    path = Path(folder) / MANIFEST
    if not os.path.isfile(path):  # no error for a name that no file can have
        raise InputError(f"{folder}: not a {kind} folder (it has no {MANIFEST})")
    try:
        written = path.read_bytes()
        manifest = json.loads(written.decode("utf-8"))
        as_written = isinstance(manifest, dict) and manifest_bytes(manifest) == written
    except (ValueError, OSError, RecursionError) as error:
        raise DamagedArtefact(f"{path}: unreadable manifest ({error}); write this {kind} again") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != kind:
        found = manifest.get("kind") if isinstance(manifest, dict) else None
        raise InputError(f"{path}: a {kind} folder is needed here, this is a {found or 'folder of something else'}")
    if not as_written:
        raise DamagedArtefact(f"{path}: changed since it was written; write this {kind} again")
    return manifest


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every file with its checksum, and the manifest with its own.

    Raises:
        DamagedArtefact: naming the first file that is missing, differs or was added.
    """
    folder, kind = Path(folder), manifest.get("kind")
    if manifest.get("seal") != seal(manifest):
        raise DamagedArtefact(f"{folder / MANIFEST}: changed since it was written; write this {kind} again")
    for name, checksum in manifest["files"].items():
        path = folder / name
        try:
            found = sha256(path)
        except FileNotFoundError:
            raise DamagedArtefact(f"{path}: missing; this {kind} is incomplete, write it again") from None
        except OSError as error:
            raise DamagedArtefact(f"{path}: unreadable ({error.strerror}); write this {kind} again") from None
        if found != checksum:
            raise DamagedArtefact(f"{path}: changed since it was written (checksum); write this {kind} again")
    own = {MANIFEST, *manifest["files"]}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in own:
            raise DamagedArtefact(f"{path}: not part of this {kind}; remove the file, or write the {kind} again")


def read_verified(folder: Path, *, kind: str, read: Callable[[dict[str, Any]], T]) -> T:
    """What `read(manifest)` makes of a verified folder; begun anew where a newer one took its place meanwhile.

    Raises:
        InputError: if there is no such folder or it is of another kind; DamagedArtefact: if a file is missing or
        changed.
    """
    while True:
        manifest = read_manifest(folder, kind=kind)
        try:
            verify(folder, manifest)
            found = read(manifest)
        except Exception:  # a mixture of two folders fails in any way
            if _is_still(folder, manifest):
                raise
        else:
            if _is_still(folder, manifest):
                return found


def _is_still(folder: Path, manifest: dict[str, Any]) -> bool:
    """Whether a folder is the one that this manifest was read from."""
    return read_manifest(folder, kind=manifest["kind"]) == manifest


def manifest_bytes(manifest: dict[str, Any]) -> bytes:
    """The one way in which a manifest is written, so that not even a space of it changes unnoticed."""
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    return (text + "\n").encode("utf-8")


def seal(manifest: dict[str, Any]) -> str:
    """SHA-256 over all of a manifest but its own seal."""
    rest = {key: value for key, value in manifest.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_outside(folder: Path, what: str) -> None:
    """Refuse a place that is, or lies in, a folder of ours: files added to one make it a damaged one.

    Raises:
        InputError: naming the folder that is in the way.
    """
    for place in (folder.resolve(), *folder.resolve().parents):
        for kind in ("shop", "model", "release"):
            with suppress(EndcapError, OSError):
                read_manifest(place, kind=kind)
                break
        else:
            continue
        raise InputError(f"{folder}: {what} cannot stand in a {kind} folder, {place}; name another place")


@contextmanager
def exclusive(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder for one writer, making it if need be. The lock goes with the process, however that ends.

    Raises:
        InputError: if there can be no such folder; EndcapError: if another process is at it.
    """
    with impossible_named(folder):
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


@contextmanager
def workshop(folder: Path, what: str) -> Iterator[Path]:
    """Hold a folder to work in; what a killed process has left in it goes first, and all of it at the end.

    Raises:
        EndcapError: if another process is at it.
    """
    with exclusive(folder, what):
        _empty(folder)
        try:
            yield folder
        finally:
            _empty(folder)


@contextmanager
def working_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder to work in, removed at the end; what killed processes have left under this name goes first."""
    sweep(parent, glob.escape(name))
    folder, lock = _make_locked(lambda: tempfile.mkdtemp(prefix=f".{name}.", suffix=UNFINISHED, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_artefact(folder: Path) -> None:
    """Remove a folder so that nobody finds half of it: it loses its name first. Killed in between, `sweep` does it."""
    hidden = folder.with_name(f".{folder.name.removeprefix('.')}.removed{UNFINISHED}")
    shutil.rmtree(hidden, ignore_errors=True)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def sweep(parent: Path, name: str) -> None:
    """Remove what killed processes have left unfinished under a name; what a living one works on is locked and stays.

    Args:
        name: of the final file or folder, or a pattern of names.
    """
    for left in parent.glob(f".{name}.*{UNFINISHED}"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as `np.save` does, and fail where the disk is full.

    numpy does not look whether its last bytes have arrived, and the checksum would be that of half an array.

    Raises:
        OSError: if there is no room; ValueError: for an array of objects, which would need pickle.
    """
    import numpy as np

    if array.dtype.hasobject:
        raise ValueError(f"{path}: an array of objects cannot be stored")
    array = np.asarray(array, order="C")
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(array.reshape(-1).view(np.uint8).data)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new one, whole.

    A link stays one and its target is replaced; what is no file (a device, a pipe) is written to and never replaced.

    Raises:
        InputError: if there can be no such file; DiskFull: if there is no room for it. The old one stays.
    """
    if not path.name:
        raise InputError(f"{path}: a folder; name a file to write")
    where, path = path, Path(os.path.realpath(path))
    with disk_full_named(where), impossible_named(where):
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        sweep(path.parent, glob.escape(path.name))
        new, lock = _make_locked(lambda: _make_file(path))
        try:
            new.write_text(text, encoding="utf-8")
            _flush(new)
            os.replace(new, path)
            _flush(path.parent)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        finally:
            os.close(lock)


@contextmanager
def disk_full_named(where: Path) -> Iterator[None]:
    """Say in one line that the disk is full, and where, whichever library noticed it.

    Raises:
        DiskFull: in place of what was raised for want of room; anything else passes.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:
        if lacks_room(error):
            raise DiskFull(
                f"{place_of(error, where)}: the disk is full, or its quota used up; make room and run this again (what "
                "was there is unchanged)"
            ) from None
        raise


@contextmanager
def impossible_named(where: Path) -> Iterator[None]:
    """Say in one line that a path cannot be written to, and why.

    Raises:
        InputError: in place of the system's error; anything else passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in IMPOSSIBLE:
            raise
        raise InputError(f"{where}: cannot be written ({error.strerror}); name another place") from None


def check_replaceable(folder: Path, *, kind: str) -> None:
    """Look whether a folder of this kind may be written here: nothing is there, or an older one, sound or not.

    Raises:
        InputError: if something else is there.
    """
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        with suppress(DamagedArtefact):
            read_manifest(folder, kind=kind)


def lacks_room(error: BaseException | None) -> bool:
    """Whether an error, or the one that it came of, says that the disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            return True
        if NO_ROOM_SAYS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def place_of(error: Exception, where: object) -> object:
    """Where there was no room: `where`, unless it was numba, which keeps compiled functions and does not say so."""
    modules = {frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__)}
    return "the cache of compiled functions (NUMBA_CACHE_DIR moves it)" if "numba.core.caching" in modules else where


def _empty(folder: Path) -> None:
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def _make_file(path: Path) -> str:
    """A new hidden file beside `path`, which the umask opens to others as it does any file."""
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return str(name)


def _make_locked(make: Callable[[], str]) -> tuple[Path, int]:
    """Make a file or folder and lock it; anew where a sweeper came between the two."""
    while True:
        path = Path(make())
        with suppress(FileNotFoundError, BlockingIOError):
            lock = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.stat().st_ino == os.fstat(lock).st_ino:
                    return path, lock
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)


def _swap(building: Path, folder: Path) -> None:
    """Put the finished folder in place of what is there, which then stands where the finished one stood."""
    if not folder.exists():
        building.rename(folder)
    elif not _exchange(building, folder):
        aside = _aside(folder)
        folder.rename(aside)
        try:
            building.rename(folder)
        except OSError:
            aside.rename(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; false where the system or its disk cannot.

    There is no moment without a folder then. Linux has it, Python does not.
    """
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    at_cwd, exchange = -100, ctypes.c_uint(2)  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}{ASIDE}")


def _put_back(folder: Path) -> None:
    """Mend what a process left that was killed in the middle of `_swap` where names cannot be exchanged."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        aside.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
