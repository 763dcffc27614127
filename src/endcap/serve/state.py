"""What changes faster than a release: recent events and item changes, kept in SQLite, durable once acknowledged."""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import pyarrow as pa

from endcap.artefact import lacks_room
from endcap.errors import DamagedArtefact, DiskFull, EndcapError, InputError
from endcap.serve.events import EVENT_COLUMNS, EventRow, ItemUpdate, now_us
from endcap.shop.searches import LAST_SEARCHES

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, user TEXT NOT NULL, item TEXT,
    interaction TEXT NOT NULL, time INTEGER NOT NULL, session TEXT, "order" TEXT, query TEXT, domain TEXT,
    price REAL, quantity REAL, request_id TEXT, surface TEXT, position INTEGER,
    received INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_user ON events (user, time);
CREATE TABLE IF NOT EXISTS items (item TEXT PRIMARY KEY, version INTEGER NOT NULL, attributes TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS items_by_version ON items (version);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS salts (name TEXT PRIMARY KEY, salt BLOB NOT NULL);
INSERT INTO salts VALUES ('forgotten', randomblob(16)) ON CONFLICT (name) DO NOTHING;
CREATE TABLE IF NOT EXISTS forgotten (person BLOB PRIMARY KEY, below INTEGER NOT NULL, time INTEGER NOT NULL);
"""
COLUMN_TYPES = {
    "time": pa.timestamp("us", tz="UTC"),
    "price": pa.float64(),
    "quantity": pa.float64(),
    "position": pa.int64(),
}
EVENT_SCHEMA = pa.schema(
    [("seq", pa.int64()), *((name, COLUMN_TYPES.get(name, pa.string())) for name in EVENT_COLUMNS)]
)
ITEM_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("item", "title", "category", "brand", "seller", "domain")]
    + [("price", pa.float64()), ("margin", pa.float64()), ("in_stock", pa.bool_())]
)
SCRUB = ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
TAIL = 200  # as many actions of one person as a release keeps
KEEP_DRAINED_US = 14 * 86_400_000_000
BUSY_TIMEOUT_S = 15.0
MAX_JOBS_A_COMMIT = 256
CHECKED_UP_TO = 256 << 20  # bytes; reading more, page by page from a cold disk, would hold up a start for too long
OF_THE_ROWS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)  # errors that only one job has

log = logging.getLogger("endcap.serve")

Job = Callable[[sqlite3.Connection], Any]
_QUOTED = ", ".join(f'"{name}"' for name in EVENT_COLUMNS)


class LiveAction(NamedTuple):
    """One recorded event of a person."""

    item: str
    interaction: str
    time: int


class LiveState:
    """The live state in one SQLite file; any number of processes may share it.

    Writes go through one thread that commits what has gathered in one transaction, so that many writers share one
    flush to the disk; a write's future is done after its commit, never before.

    Raises:
        InputError: if the file is no live state or was written by a newer endcap.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        writer = self._open()
        self._opened = self.path.stat()
        self._salt: bytes = writer.execute("SELECT salt FROM salts WHERE name = 'forgotten'").fetchone()[0]
        self._thread = threading.Thread(target=self._write, args=(writer,), name="live-state", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish all writes and let go of the file."""
        self._jobs.put(None)
        self._thread.join()
        for reader in self._readers:
            reader.close()

    # -- events ----------------------------------------------------------------------------------------------------

    def record(self, rows: Sequence[EventRow]) -> Future[int]:
        """Store rows of `EVENT_COLUMNS`, all or none; an `event_id` that is there already is left alone.

        Returns:
            A future that is done once the rows are safe on the disk: how many were new.
        """
        marks = ", ".join("?" * len(EVENT_COLUMNS))
        insert = (
            f"INSERT INTO events ({_QUOTED}, received) VALUES ({marks}, {now_us()}) ON CONFLICT (event_id) DO NOTHING"
        )

        def job(connection: sqlite3.Connection) -> int:
            before = connection.total_changes
            connection.executemany(insert, rows)
            return connection.total_changes - before

        return self._submit(job)

    def recent(self, user: str, n: int = TAIL) -> list[LiveAction]:
        """The last n recorded events of a user that concern an item, oldest first."""
        rows = self._reader().execute(
            "SELECT item, interaction, time FROM events WHERE user = ? AND item IS NOT NULL"
            " ORDER BY time DESC, seq DESC LIMIT ?",
            (user, n),
        )
        return [LiveAction(*row) for row in rows][::-1]

    def searches(self, user: str, n: int = LAST_SEARCHES) -> tuple[tuple[str, int], ...]:
        """The last n recorded searches of a user, oldest first: texts and times (microseconds)."""
        rows = self._reader().execute(
            "SELECT query, time FROM events WHERE user = ? AND interaction = 'search' AND query IS NOT NULL"
            " ORDER BY time DESC, seq DESC LIMIT ?",
            (user, n),
        )
        return tuple(rows)[::-1]

    def pending_events(self, limit: int = 100_000, after: int | None = None, up_to: int | None = None) -> pa.Table:
        """Events not drained yet (or those after the given `seq`), oldest first: `seq` and `EVENT_COLUMNS`."""
        start = self._counter("drained_up_to") if after is None else after
        end = -1 if up_to is None else up_to
        statement = f"SELECT seq, {_QUOTED} FROM events WHERE seq > ? AND (? < 0 OR seq <= ?) ORDER BY seq LIMIT ?"
        rows = self._reader().execute(statement, (start, end, end, limit)).fetchall()
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(EVENT_SCHEMA)
        try:
            arrays = [pa.array(values, field.type) for values, field in zip(columns, EVENT_SCHEMA, strict=True)]
        except (pa.ArrowException, OverflowError) as error:  # SQLite takes any type in any column
            raise DamagedArtefact(f"{self.path}: a recorded event is damaged ({error})") from None
        return pa.table(arrays, schema=EVENT_SCHEMA)

    def claim(self) -> tuple[int, bool]:
        """The `seq` up to which events are to be drained now, and whether others come after it.

        A claim stands until it is acknowledged, so that a drain that begins anew has the same events before it.
        """

        def job(connection: sqlite3.Connection) -> tuple[int, bool]:
            last = connection.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
            drained = _counted(connection, "drained_up_to")
            claimed = _counted(connection, "claimed_up_to")
            if claimed <= drained:
                claimed = max(last, drained)
                _count(connection, "claimed_up_to", claimed)
            return claimed, claimed < last

        return self._submit(job).result()

    def acknowledge(self, up_to: int) -> None:
        """Say that events up to `seq` are in the shop. They stay a fortnight, until a release has surely taken them."""

        def job(connection: sqlite3.Connection) -> None:
            _count(connection, "drained_up_to", up_to)
            too_old = now_us() - KEEP_DRAINED_US
            connection.execute("DELETE FROM events WHERE seq <= ? AND received < ?", (up_to, too_old))

        self._submit(job).result()

    def count_events(self) -> int:
        """How many events are held now."""
        return self._reader().execute("SELECT count(*) FROM events").fetchone()[0]

    # -- people who are forgotten ----------------------------------------------------------------------------------

    def forget(self, user: str, below: int) -> int:
        """Delete what is recorded of a user, and answer as if they were unknown from now on.

        Of the id only a salted hash is kept. What is recorded of the same id later is another person's.

        Args:
            below: numbers below this one, in any release, are of the past: how many users the shop has numbered.

        Returns:
            How many events are gone. `scrub` takes their bytes out of the file.
        """

        def job(connection: sqlite3.Connection) -> int:
            connection.execute(
                "INSERT INTO forgotten VALUES (?, ?, ?) ON CONFLICT (person) DO UPDATE"
                " SET below = max(below, excluded.below), time = excluded.time",
                (self._person(user), below, now_us()),
            )
            return connection.execute("DELETE FROM events WHERE user = ?", (user,)).rowcount

        return self._submit(job).result()

    def scrub(self) -> None:
        """Rewrite the file and empty its log, so that nothing deleted is left in either. Writers wait meanwhile.

        Deleting with `secure_delete` is not enough: SQLite leaves copies behind where it moves rows between pages.

        Raises:
            EndcapError: if the file stays busy; nothing is lost, and it can be done again.
        """
        try:
            with closing(self._connect()) as connection:
                answers = [connection.execute(statement).fetchone() for statement in SCRUB]
        except sqlite3.Error as error:
            raise EndcapError(f"{self.path}: what was deleted is still in the file ({error}); run this again") from None
        if any(answer is not None and answer[0] for answer in answers):  # the checkpoint says that it was hindered
            raise EndcapError(f"{self.path}: in use, and what was deleted still in its log; run this again")

    def forgotten_below(self, user: str) -> int:
        """A release's numbers below this one are not of this user, who was forgotten; 0 for everybody else."""
        found = self._reader().execute("SELECT below FROM forgotten WHERE person = ?", (self._person(user),)).fetchone()
        return found[0] if found else 0

    def count_events_of(self, user: str) -> int:
        """How many events of a user are held now."""
        return self._reader().execute("SELECT count(*) FROM events WHERE user = ?", (user,)).fetchone()[0]

    def _person(self, user: str) -> bytes:
        return hashlib.blake2b(user.encode("utf-8", "surrogatepass"), salt=self._salt, digest_size=16).digest()

    # -- items -----------------------------------------------------------------------------------------------------

    def update_items(self, updates: Sequence[ItemUpdate]) -> Future[int]:
        """Merge changes into what is known of the items, all or none; done once they are safe on the disk."""

        def job(connection: sqlite3.Connection) -> int:
            version = connection.execute(
                "INSERT INTO counters VALUES ('items', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
                " RETURNING value"
            ).fetchone()[0]
            for update in updates:
                found = connection.execute("SELECT attributes FROM items WHERE item = ?", (update.item,)).fetchone()
                merged = (msgspec.json.decode(found[0]) if found else {}) | msgspec.to_builtins(update)
                connection.execute(
                    "INSERT INTO items VALUES (?, ?, ?) ON CONFLICT (item) DO UPDATE"
                    " SET version = excluded.version, attributes = excluded.attributes",
                    (update.item, version, msgspec.json.encode(merged).decode()),
                )
            return len(updates)

        return self._submit(job)

    def item_changes(self, after: int = 0) -> tuple[list[ItemUpdate], int]:
        """The items changed after a version, each with all that is known live of it, and the version now."""
        rows = (
            self._reader()
            .execute("SELECT version, attributes FROM items WHERE version > ? ORDER BY version", (after,))
            .fetchall()
        )
        try:
            return [_ITEM.decode(attributes) for _, attributes in rows], rows[-1][0] if rows else after
        except msgspec.DecodeError as error:
            raise DamagedArtefact(f"{self.path}: what it says of an item is damaged ({error})") from None

    def live_items(self) -> pa.Table:
        """Live attributes as an items table that `ingest` can read: catalogue columns, null where unknown."""
        rows = [msgspec.to_builtins(update) for update in self.item_changes()[0]]
        return pa.Table.from_pylist([{name: row.get(name) for name in ITEM_SCHEMA.names} for row in rows], ITEM_SCHEMA)

    # -- SQLite ----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        """The writer's connection, to a file that is a live state from here on."""
        writer = None
        try:
            writer = self._connect()
            self._check_whole(writer)
            self._check_version(writer)
            writer.executescript(SCHEMA)
        except (sqlite3.Error, UnicodeDecodeError, EndcapError) as error:
            if writer is not None:
                writer.close()
            if isinstance(error, EndcapError):
                raise
            if lacks_room(error):
                raise DiskFull(f"{self.path}: the disk is full; make room and start again") from None
            if "malformed" in str(error) or isinstance(error, UnicodeDecodeError):  # it quotes what it cannot read
                raise self._damaged(str(error)) from None
            if "disk I/O" in str(error):
                raise EndcapError(f"{self.path}: the disk fails, or is full ({error})") from None
            raise InputError(f"{self.path}: cannot be opened as a live state ({error}); give another --state") from None
        return writer

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an acknowledged event survives a power cut
        return connection

    def _check_whole(self, connection: sqlite3.Connection) -> None:
        """Refuse a file whose tables and indexes do not hold together; what stands in a row SQLite cannot vouch for.

        A large file is not read through: it would keep a server from starting again after a crash.
        """
        if self.path.stat().st_size > CHECKED_UP_TO:
            log.warning("%s: too large to be checked at every start; PRAGMA quick_check in sqlite3 does it", self.path)
            return
        try:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            raise self._damaged(found)

    def _damaged(self, why: str) -> DamagedArtefact:
        return DamagedArtefact(
            f"{self.path}: damaged ({' '.join(why.split())}); put it aside and start with a copy, or without: "
            "what was drained is in the shop"
        )

    def _check_version(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, SCHEMA_VERSION):
            raise InputError(f"{self.path}: a live state of version {found}; this endcap reads {SCHEMA_VERSION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _reader(self) -> sqlite3.Connection:
        """This thread's own connection."""
        reader: sqlite3.Connection | None = getattr(self._local, "reader", None)
        if reader is None:
            reader = self._local.reader = self._connect()
            self._readers.append(reader)
        return reader

    def _counter(self, name: str) -> int:
        return _counted(self._reader(), name)

    def _submit(self, job: Job) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._thread.is_alive():
            raise EndcapError(f"{self.path}: the live state is closed")
        future.set_running_or_notify_cancel()  # who stops waiting must not be able to undo or upset a commit
        self._jobs.put((job, future))
        return future

    def _write(self, connection: sqlite3.Connection) -> None:
        """The writer: gather what waits, run it in one transaction, commit, and only then tell the waiting."""
        open_for_jobs = True
        while open_for_jobs:
            jobs = [self._jobs.get()]
            while len(jobs) < MAX_JOBS_A_COMMIT and not self._jobs.empty():
                jobs.append(self._jobs.get())
            open_for_jobs = None not in jobs
            self._commit(connection, [job for job in jobs if job is not None])
        connection.close()

    def _check_in_place(self) -> None:
        """Refuse to write into a file that nobody will find again, because it was deleted or replaced.

        Raises:
            sqlite3.OperationalError: which is told to all who wait for the commit.
        """
        with suppress(OSError):
            if os.path.samestat(self._opened, self.path.stat()):
                return
        raise sqlite3.OperationalError("the file was deleted or replaced while in use; start the server again")

    def _commit(self, connection: sqlite3.Connection, jobs: list[tuple[Job, Future[Any]]]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            self._check_in_place()
            connection.execute("BEGIN IMMEDIATE")
            for job, future in jobs:
                outcomes.append(_attempt(connection, job, future))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # where the disk failed, so may this; nothing is committed either way
                connection.execute("ROLLBACK")
            kind = DiskFull if lacks_room(error) else EndcapError
            failure = kind(f"{self.path}: not written ({error})")
            outcomes = [lambda future=future: future.set_exception(failure) for _, future in jobs]  # type: ignore[misc]
        for tell in outcomes:
            tell()


def _counted(connection: sqlite3.Connection, name: str) -> int:
    found = connection.execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
    return found[0] if found else 0


def _count(connection: sqlite3.Connection, name: str, value: int) -> None:
    """Set a counter, which never goes back."""
    connection.execute(
        "INSERT INTO counters VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = max(value, :value)",
        {"name": name, "value": value},
    )


def _attempt(connection: sqlite3.Connection, job: Job, future: Future[Any]) -> Callable[[], None]:
    """Run one job so that its failure undoes nothing but itself; returns how to tell its outcome."""
    connection.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and not isinstance(error, OF_THE_ROWS):
            raise  # the disk, the lock or the file: it concerns the whole transaction
        connection.execute("ROLLBACK TO job")
        failure = error
        return lambda: future.set_exception(failure)
    finally:
        if connection.in_transaction:
            connection.execute("RELEASE job")
    return lambda: future.set_result(result)


_ITEM = msgspec.json.Decoder(ItemUpdate)
