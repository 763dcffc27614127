"""What changes faster than a release: recent events and item changes, kept in SQLite, durable once acknowledged."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec
import pyarrow as pa

from endcap.errors import EndcapError, InputError
from endcap.serve.events import EVENT_COLUMNS, EventRow, ItemUpdate, now_us

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
TAIL = 200  # as many actions of one person as a release keeps
KEEP_DRAINED_US = 14 * 86_400_000_000
BUSY_TIMEOUT_S = 15.0
MAX_JOBS_A_COMMIT = 256

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

    def pending_events(self, limit: int = 100_000, after: int | None = None) -> pa.Table:
        """Events not drained yet (or those after the given `seq`), oldest first: `seq` and `EVENT_COLUMNS`."""
        start = self._counter("drained_up_to") if after is None else after
        rows = (
            self._reader()
            .execute(f"SELECT seq, {_QUOTED} FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (start, limit))
            .fetchall()
        )
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(EVENT_SCHEMA)
        return pa.table(
            [pa.array(values, field.type) for values, field in zip(columns, EVENT_SCHEMA, strict=True)],
            schema=EVENT_SCHEMA,
        )

    def acknowledge(self, up_to: int) -> None:
        """Say that events up to `seq` are in the shop. They stay a fortnight, until a release has surely taken them."""

        def job(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO counters VALUES ('drained_up_to', :seq)"
                " ON CONFLICT (name) DO UPDATE SET value = max(value, :seq)",
                {"seq": up_to},
            )
            too_old = now_us() - KEEP_DRAINED_US
            connection.execute("DELETE FROM events WHERE seq <= ? AND received < ?", (up_to, too_old))

        self._submit(job).result()

    def count_events(self) -> int:
        """How many events are held now."""
        return self._reader().execute("SELECT count(*) FROM events").fetchone()[0]

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
        return [_ITEM.decode(attributes) for _, attributes in rows], rows[-1][0] if rows else after

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
            self._check_version(writer)
            writer.executescript(SCHEMA)
        except (sqlite3.Error, InputError) as error:
            if writer is not None:
                writer.close()
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: cannot be opened as a live state ({error}); give another --state") from None
        return writer

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # an acknowledged event survives a power cut
        return connection

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
        found = self._reader().execute("SELECT value FROM counters WHERE name = ?", (name,)).fetchone()
        return found[0] if found else 0

    def _submit(self, job: Job) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._thread.is_alive():
            raise EndcapError(f"{self.path}: the live state is closed")
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

    def _commit(self, connection: sqlite3.Connection, jobs: list[tuple[Job, Future[Any]]]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job, future in jobs:
                outcomes.append(_attempt(connection, job, future))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            failure = EndcapError(f"{self.path}: not written ({error})")
            outcomes = [lambda future=future: future.set_exception(failure) for _, future in jobs]  # type: ignore[misc]
        for tell in outcomes:
            tell()


def _attempt(connection: sqlite3.Connection, job: Job, future: Future[Any]) -> Callable[[], None]:
    """Run one job so that its failure undoes nothing but itself; returns how to tell its outcome."""
    connection.execute("SAVEPOINT job")
    try:
        result = job(connection)
    except sqlite3.OperationalError:
        raise  # the disk or the lock: it concerns the whole transaction
    except Exception as error:
        connection.execute("ROLLBACK TO job")
        failure = error
        return lambda: future.set_exception(failure)
    finally:
        if connection.in_transaction:
            connection.execute("RELEASE job")
    return lambda: future.set_result(result)


_ITEM = msgspec.json.Decoder(ItemUpdate)
