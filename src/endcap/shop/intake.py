"""Rows on their way into a shop: staged, judged, numbered, put in order. One engine session per ingest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from endcap.errors import InputError
from endcap.progress import Progress
from endcap.shop.catalogue import (
    catalogue,
    described_items,
    first_seen_items,
    first_seen_users,
    folded_attribute,
    number_ids,
)
from endcap.shop.columns import EVENT_COLUMNS, FOLDED, VECTOR_PREFIX, Chosen, choose_event_columns, choose_item_columns
from endcap.shop.duplicates import known_event_ids, quoted, repeated_event_ids, repeated_rows
from endcap.shop.interactions import FURTHER_KINDS, Interactions
from endcap.shop.normalise import (
    DUPLICATE,
    DUPLICATE_EVENT,
    NOT_BAD,
    EventRules,
    event_cells,
    interaction_codes,
    item_cells,
    judge_events,
    judge_items,
    microseconds_of,
)
from endcap.shop.options import DEFAULT_GAP, IngestOptions
from endcap.shop.report import IngestReport
from endcap.shop.sessions import in_order
from endcap.shop.shop import duration
from endcap.shop.sources import Source, TextSource
from endcap.shop.storage import EVENTS, ITEMS, USERS, Generation

MEMORY_LIMIT = "2GB"
THREADS = 2
BATCH_ROWS = 1 << 18
EXAMPLE_CHARACTERS = 120
STAGED_EVENTS = "staged_events"
# Optional columns of events as they are stored; `session` of the source is the text `session_id`.
OPTIONAL = ("session_id", *(name for name in EVENT_COLUMNS[4:] if name != "session"))
REFUSED = ("source", "line", "reason", "raw")
REJECTED_SCHEMA = pa.schema(
    [("source", pa.string()), ("line", pa.int64()), ("reason", pa.string()), ("raw", pa.string())]
)


class Intake:
    """One ingest: `add` sources, `judge`, `number`, then read off `users`, `items`, `events` and `rejected`.

    Args:
        options: checked options; old: what the shop holds; staging: a folder for the engine, None: in memory.

    Raises:
        InputError: if the options contradict what the shop holds or each other.
    """

    def __init__(self, options: IngestOptions, old: Generation | None, staging: Path | None) -> None:
        self.options, self.old = options, old
        self.interactions = _settle_interactions(options, old)
        self.session_gap = options.session_gap or (old.manifest["session_gap"] if old else DEFAULT_GAP)
        self.rules = _event_rules(options, self.interactions)
        self.con = _engine(staging, options.timezone)
        self.report = IngestReport()
        self.names: list[str] = []  # of sources, by number
        self.taken: set[str] = set()  # canonical event columns that some source has
        self.item_tables: list[ir.Table] = []
        self.described_by: set[str] = set()  # attributes that some items file has
        self.duplicates: ir.Table | None = None

    def close(self) -> None:
        """End the engine session."""
        self.con.disconnect()

    # -- staging ---------------------------------------------------------------------------------------------------

    def add(self, events: Sequence[Source], items: Sequence[Source], bar: Progress) -> None:
        """Stage the rows of sources, each row with its reason to be refused or none.

        Raises:
            InputError: if the columns of any source do not fit, before anything is read.
        """
        options, needs_interaction = self.options, self.options.default_interaction is None
        event_columns = [
            choose_event_columns(source.columns, options.columns, source.name, interaction_needed=needs_interaction)
            for source in events
        ]
        item_columns = [choose_item_columns(source.columns, options.item_columns, source.name) for source in items]
        self.taken = {ours for chosen in event_columns for ours in chosen.theirs}
        self.described_by = {ours for chosen in item_columns for ours in chosen.theirs if ours != "item"}
        for source, chosen in zip(events, event_columns, strict=True):
            bar.advance(0, source.name)
            table, number = self._open(source, chosen)
            self._stage_events(source, event_cells(table, chosen, self.rules, number, self.taken), first=number == 0)
            bar.advance(1)
        for source, chosen in zip(items, item_columns, strict=True):
            bar.advance(0, source.name)
            table, number = self._open(source, chosen)
            self._stage_items(source, item_cells(table, chosen, number), number)
            bar.advance(1)

    def _open(self, source: Source, chosen: Chosen) -> tuple[ir.Table, int]:
        """The columns of a source that are taken, and its number."""
        unused = [name for name in chosen.unused if name not in self.report.unused_columns]
        self.report.unused_columns.extend(unused)
        self.names.append(source.name)
        return source.table(self.con, list(dict.fromkeys(chosen.theirs.values()))), len(self.names) - 1

    def _stage_events(self, source: Source, cells: ir.Table, *, first: bool) -> None:
        rows = judge_events(self._apart(cells), self.rules)
        with _reading(source):
            if first:
                self.con.create_table(STAGED_EVENTS, rows)
            else:
                self.con.insert(STAGED_EVENTS, rows)

    def _stage_items(self, source: Source, cells: ir.Table, number: int) -> None:
        rows = judge_items(self._apart(cells))
        with _reading(source):  # a table per file: they may have different vector columns
            self.item_tables.append(self.con.create_table(f"staged_items_{number}", rows))

    def _apart(self, cells: ir.Table) -> ir.Table:
        """The same behind a view, so that the engine reads a cell once however often it is judged."""
        return self.con.create_view("cells", cells, overwrite=True)

    # -- judging ---------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Find duplicates, count what is kept and what is refused and why.

        Raises:
            InputError: if more than the set share of event rows, or of item rows, is bad.
        """
        report = self.report
        if self.taken:
            self._find_duplicates()
            report.rows_kept, report.reasons = self._verdict([self.staged], self.duplicates)
            report.rows_rejected = sum(report.reasons.values())
            report.rows_read = report.rows_kept + report.rows_rejected
            self._check_share(report.reasons, report.rows_read, "event", self._refused_events())
            if report.rows_kept == 0 and self.old is None:
                raise InputError(
                    f"{', '.join(self.names)}: no event row is left to ingest, of {report.rows_read:,} read"
                )
        if self.item_tables:
            kept, report.item_reasons = self._verdict(self.item_tables, None)
            report.items_rejected = sum(report.item_reasons.values())
            report.items_read = kept + report.items_rejected
            self._check_share(report.item_reasons, report.items_read, "item", self._refused_items())

    @cached_property
    def staged(self) -> ir.Table:
        """All event rows; to be asked for when all sources are in."""
        return self.con.table(STAGED_EVENTS)

    @cached_property
    def kept(self) -> ir.Table:
        """Event rows that go into the shop; to be asked for after `judge`."""
        good = self.staged.filter(self.staged.reason.isnull())
        return good if self.duplicates is None else good.anti_join(self.duplicates, ["source", "line"])

    def _find_duplicates(self) -> None:
        """Rows to refuse though nothing is wrong with them: (source, line, reason)."""
        good = self.staged.filter(self.staged.reason.isnull())
        parts = []
        if "event_id" in self.taken:
            repeated = repeated_event_ids(good)
            self._check_event_ids(good, repeated)
            known = known_event_ids(good, self._old_event_ids())
            twice = repeated if known is None else repeated.union(known, distinct=True)
            parts.append(twice.mutate(reason=ibis.literal(DUPLICATE_EVENT)))
        if self.options.drop_duplicates:
            columns = ["user", "item", "interaction", "time", *(name for name in OPTIONAL if name in good.columns)]
            rows = repeated_rows(good, self._old_rows(columns), columns)
            if parts:
                rows = rows.anti_join(parts[0], ["source", "line"])
            parts.append(rows.mutate(reason=ibis.literal(DUPLICATE)))
        if parts:
            self.duplicates = self.con.create_table("duplicates", _union(parts))

    def _check_event_ids(self, good: ir.Table, repeated: ir.Table) -> None:
        """An event_id that hardly tells events apart is none: refusing what repeats it would lose most of the log."""
        n_good, n_repeated = (self.con.to_pyarrow(rows.count()).as_py() for rows in (good, repeated))
        if n_repeated > n_good / 2:
            raise InputError(
                f"event_id: {n_repeated:,} of {n_good:,} rows repeat the event_id of another row, so it does not name "
                "events; leave it out with --columns event_id=-"
            )

    def _old_event_ids(self) -> ir.Table | None:
        events = self._old_events()
        return events if events is not None and "event_id" in events.columns else None

    def _old_rows(self, columns: Sequence[str]) -> ir.Table | None:
        """Events of the shop as text, as far as they have these columns."""
        events = self._old_events()
        if events is None:
            return None
        users, items = self._old_ids(USERS, "user"), self._old_ids(ITEMS, "item")
        assert users is not None
        assert items is not None
        named = events.left_join(users.select(user="number", user_id="id"), "user")
        named = named.left_join(items.select(item="number", item_id="id"), "item")
        named = named.mutate(user=named.user_id, item=named.item_id)
        return named.select(*(_column(named, name) for name in columns))

    def _verdict(self, tables: Sequence[ir.Table], duplicates: ir.Table | None) -> tuple[int, dict[str, int]]:
        """How many rows are good, and how many are refused for each reason, most frequent first."""
        counts: Counter[str | None] = Counter()
        for table in tables:
            counts.update(self._count_by_reason(table))
        if duplicates is not None:
            twice = self._count_by_reason(duplicates)
            counts[None] -= sum(twice.values())
            counts.update(twice)
        good = counts.pop(None, 0)
        refused = {str(reason): n for reason, n in counts.items()}
        return good, dict(sorted(refused.items(), key=lambda pair: (-pair[1], pair[0])))

    def _count_by_reason(self, table: ir.Table) -> dict[str | None, int]:
        found = self.con.to_pyarrow(table.group_by("reason").agg(n=ibis._.count()))
        return dict(zip(found["reason"].to_pylist(), found["n"].to_pylist(), strict=True))

    def _check_share(self, reasons: Mapping[str, int], read: int, what: str, refused: ir.Table) -> None:
        bad = {reason: n for reason, n in reasons.items() if reason not in NOT_BAD}
        share = sum(bad.values()) / read if read else 0.0
        if share <= self.options.max_rejected:
            return
        examples = [f"{n:,} x {reason} (e.g. {self._example(refused, reason)})" for reason, n in list(bad.items())[:3]]
        raise InputError(
            f"{share:.1%} of the {what} rows are bad, more than --max-rejected {self.options.max_rejected:g}: "
            f"{'; '.join(examples)}. Nothing was ingested; see all of them with --rejected FILE.parquet"
        )

    def _example(self, refused: ir.Table, reason: str) -> str:
        first = refused.filter(refused.reason == reason).order_by(["source", "line"]).limit(1)
        row = self.con.to_pyarrow(first).to_pylist()[0]
        raw = " ".join((row["raw"] or "").split())[:EXAMPLE_CHARACTERS]
        return f"{self.names[row['source']]} line {row['line']}: {raw}"

    def rejected(self) -> Iterator[pa.Table]:
        """The rows refused this time, in parts: source, line, reason, raw; by source and line."""
        if not self.names:
            return
        names = pa.array(self.names, pa.string())
        parts = [self._refused_events()] if self.taken else []
        parts += [self._refused_items()] if self.item_tables else []
        for batch in self._batches(_union(parts).order_by(["source", "line"])):
            part = pa.table(batch)
            yield part.set_column(0, "source", names.take(part["source"].combine_chunks())).cast(REJECTED_SCHEMA)

    def _refused_items(self) -> ir.Table:
        return _union([table.filter(table.reason.notnull()).select(*REFUSED) for table in self.item_tables])

    def _refused_events(self) -> ir.Table:
        bad = self.staged.filter(self.staged.reason.notnull()).select(*REFUSED)
        if self.duplicates is None:
            return bad
        twice = self.duplicates.inner_join(self.staged.drop("reason", "raw"), ["source", "line"])
        return bad.union(twice.select("source", "line", "reason", raw=quoted(twice, self.interactions)))

    def _batches(self, expression: ir.Table) -> pa.RecordBatchReader:
        # Not ibis' to_pyarrow_batches: it asks DuckDB 2 for a method that is gone.
        return self.con.con.sql(self.con.compile(expression)).fetch_arrow_reader(BATCH_ROWS)

    # -- the shop that comes out -----------------------------------------------------------------------------------

    def number(self) -> None:
        """Give numbers to the ids of kept rows and describe the items: (number, id, known_from), catalogue."""
        kept = self.kept if self.taken else None
        described = self._described()
        old_users, old_items = self._old_ids(USERS, "user"), self._old_ids(ITEMS, "item")
        seen = None if kept is None else first_seen_users(kept)
        self.user_ids = self._number("users", seen, old_users)
        self.item_ids = self._number("items", first_seen_items(kept, described), old_items)

        folded = [folded_attribute(kept, name) for name in FOLDED if name in self.taken] if kept is not None else []
        old = None if self.old is None else self._old_catalogue(self.old)
        self.catalogue = catalogue(self.item_ids, described, folded, old)

    def users(self) -> pa.Table:
        """(user, known_from) in order of number."""
        ids = self.user_ids.order_by("number")
        return self.con.to_pyarrow(ids.select("known_from", user="id")).select(["user", "known_from"])

    def items(self) -> pa.Table:
        """The catalogue in order of number, and known_from.

        Raises:
            InputError: if the vectors of a column differ in length.
        """
        table = self.con.to_pyarrow(self.catalogue.order_by("number")).drop_columns(["number"])
        for name in table.column_names:
            if name.startswith(VECTOR_PREFIX):
                table = table.set_column(table.column_names.index(name), name, _fixed_size(table[name], name))
        launched = table.column_names.index("launched")
        return table.set_column(launched, "launched", table["launched"].cast(pa.timestamp("us", "UTC")))

    def events(self) -> Iterator[pa.Table]:
        """All events of the shop in their order, as (user, item, interaction, time, session, optional columns) parts.

        Counts them into `report` while they pass.
        """
        events = [part for part in (self._old_events(), self._new_events()) if part is not None]
        optional = [name for name in OPTIONAL if any(name in part.columns for part in events)]
        parts = [
            part.select("user", "item", "interaction", "time", "arrival", *(_column(part, name) for name in optional))
            for part in events
        ]
        whole = _union([_with_session_id(part) for part in parts])
        ordered = in_order(whole, duration(self.session_gap), logged="session_id" in optional)
        ordered = ordered.select("user", "item", "interaction", "time", "begins", *optional)
        tally = Tally(self.report, self.interactions)
        for batch in self._batches(ordered):
            if batch.num_rows:
                yield tally.pass_on(batch)

    def _number(self, name: str, seen: ir.Table | None, old: ir.Table | None) -> ir.Table:
        if seen is None:
            numbered = old if old is not None else ibis.memtable(EMPTY_IDS.empty_table())
        else:
            numbered = number_ids(seen, old, 0 if self.old is None else self.old.manifest["counts"][name])
        return self.con.create_table(f"{name}_numbered", numbered)

    def _new_events(self) -> ir.Table | None:
        """Kept rows with numbers for ids, arrival after everything that the shop holds."""
        if not self.taken:
            return None
        kept = self.kept
        users = self.user_ids.select(user_number="number", user="id")
        items = self.item_ids.select(item_number="number", item="id")
        rows = kept.inner_join(users, "user").left_join(items, "item")
        optional = [name for name in OPTIONAL if name in kept.columns]
        return rows.select(
            "interaction",
            "time",
            *optional,
            user=rows.user_number,
            item=rows.item_number.coalesce(ibis.literal(-1, "int32")).cast("int32"),
            arrival=self._n_old_events() + rows.source.cast("int64") * 2**40 + rows.line,
        )

    def _old_catalogue(self, old: Generation) -> ir.Table:
        items = self.con.read_parquet(old.folder / ITEMS).drop("known_from")
        return items.mutate(launched=microseconds_of(items.launched))

    def _n_old_events(self) -> int:
        return 0 if self.old is None else int(self.old.manifest["counts"]["events"])

    def _old_events(self) -> ir.Table | None:
        """Events of the shop with their place as arrival."""
        if self.old is None or self._n_old_events() == 0:
            return None
        path = str(self.old.folder / EVENTS).replace("'", "''")
        self.con.raw_sql(
            "CREATE OR REPLACE TEMP VIEW old_events AS SELECT * EXCLUDE (file_row_number, session), "
            f"file_row_number AS arrival FROM read_parquet('{path}', file_row_number = true)"
        )
        return self.con.table("old_events")

    def _old_ids(self, file: str, column: str) -> ir.Table | None:
        """(number, id, known_from) of the shop's ids."""
        if self.old is None:
            return None
        table = pq.read_table(self.old.folder / file, columns=[column, "known_from"])
        numbers = pa.array(np.arange(table.num_rows, dtype=np.int32))
        ids = pa.table({"number": numbers, "id": table[column], "known_from": table["known_from"]})
        self.con.con.register(f"old_{column}_ids", ids)
        return self.con.table(f"old_{column}_ids")

    def _described(self) -> ir.Table | None:
        if not self.item_tables:
            return None
        names = {name: kind for table in self.item_tables for name, kind in table.schema().items()}
        same = [
            table.select(*(_column(table, name, kind) for name, kind in names.items())) for table in self.item_tables
        ]
        rows = _union(same)
        attributes = sorted(self.described_by)
        described = described_items(rows.filter(rows.reason.isnull()), attributes)
        return self.con.create_table("described_items", described)


class Tally:
    """Numbers sessions and counts events while they pass in order."""

    def __init__(self, report: IngestReport, interactions: Interactions) -> None:
        self.report, self.interactions = report, interactions

    def pass_on(self, batch: pa.RecordBatch) -> pa.Table:
        """The batch with dense session numbers in place of `begins`."""
        report, table = self.report, pa.table(batch)
        begins = table["begins"].to_numpy()
        session = (np.cumsum(begins) + (report.sessions - 1)).astype(np.int32)
        report.sessions += int(begins.sum())
        times = table["time"]
        first, last = _iso(pc.min(times).as_py()), _iso(pc.max(times).as_py())
        report.first_time = first if report.first_time is None else min(report.first_time, first)
        report.last_time = last if report.last_time is None else max(report.last_time, last)
        counts = np.bincount(table["interaction"].to_numpy())
        for code in np.flatnonzero(counts):
            name = self.interactions.name(int(code))
            report.interactions[name] = report.interactions.get(name, 0) + int(counts[code])
        return table.set_column(table.column_names.index("begins"), "session", pa.array(session))


def _settle_interactions(options: IngestOptions, old: Generation | None) -> Interactions:
    if old is None:
        return Interactions(options.strength) if options.strength else Interactions()
    if options.strength is not None and options.strength != old.interactions.names:
        raise InputError(
            f"--strength {','.join(options.strength)}: this shop was made with {','.join(old.interactions.names)}, "
            "which cannot change; ingest into a new shop"
        )
    return old.interactions


def _event_rules(options: IngestOptions, interactions: Interactions) -> EventRules:
    codes, ignored = interaction_codes(interactions, options.interactions)
    default = None
    if options.default_interaction is not None:
        known = {name: code for code, name in enumerate(interactions.names)} | FURTHER_KINDS
        if options.default_interaction not in known:
            raise InputError(
                f"--interaction {options.default_interaction}: no such interaction; this shop has {', '.join(known)}"
            )
        default = known[options.default_interaction]
    return EventRules(codes, ignored, default, options.keep_anonymous, *options.time_range())


@contextmanager
def _reading(source: Source) -> Iterator[None]:
    """Tell in our words why a source cannot be read."""
    try:
        yield
    except duckdb.Error as error:
        if isinstance(source, TextSource) and source.error is not None:
            raise source.error from None
        raise InputError(f"{source.name}: cannot be read ({str(error).splitlines()[0]})") from None


def _engine(staging: Path | None, timezone: str) -> Backend:
    if staging is None:
        con = ibis.duckdb.connect(threads=THREADS)
    else:
        con = ibis.duckdb.connect(
            staging / "engine.duckdb", threads=THREADS, memory_limit=MEMORY_LIMIT, temp_directory=str(staging / "spill")
        )
    con.raw_sql(f"SET TimeZone = '{timezone}'")
    con.raw_sql("SET preserve_insertion_order = false")  # every order that matters is asked for
    con.raw_sql("SET enable_progress_bar = false")
    return con


def _union(tables: Sequence[ir.Table]) -> ir.Table:
    return ibis.union(*tables) if len(tables) > 1 else tables[0]


def _column(table: ir.Table, name: str, kind: object = None) -> ir.Value:
    """A column, or nulls of that name where the table has none."""
    return table[name] if name in table.columns else ibis.null(kind or _KINDS.get(name, "string")).name(name)


_KINDS = {"price": "float64", "quantity": "float32", "position": "int32"}
EMPTY_IDS = pa.schema([("number", pa.int32()), ("id", pa.string()), ("known_from", pa.int64())])


def _with_session_id(part: ir.Table) -> ir.Table:
    return part if "session_id" in part.columns else part.mutate(session_id=ibis.null("string"))


def _fixed_size(column: pa.ChunkedArray, name: str) -> pa.FixedSizeListArray:
    """Lists of one length as (n, d) float32; a missing one stays null."""
    lists = column.combine_chunks()
    lengths = pc.unique(pc.drop_null(pc.list_value_length(lists))).to_pylist()
    if len(lengths) > 1:
        raise InputError(f"{name}: vectors of {len(lengths)} lengths ({sorted(lengths)[:3]}); all must have one length")
    return lists.cast(pa.list_(pa.float32(), lengths[0] if lengths else 1))


def _iso(microseconds: int) -> str:
    return f"{np.datetime64(microseconds, 'us')}Z".replace(".000000Z", "Z")
