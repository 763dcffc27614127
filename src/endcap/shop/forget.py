"""Removing a person from a shop: a new generation without them, and none left that holds them.

The person's number stays taken by a tombstone that no id can be equal to, so that everybody else keeps theirs and
trained models stay valid.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.artefact import read_manifest, remove_artefact
from endcap.shop.ingest import ABOUT_THE_SHOP
from endcap.shop.intake import REJECTED_SCHEMA, Tally
from endcap.shop.normalise import RAW_VALUE_CHARACTERS
from endcap.shop.report import IngestReport
from endcap.shop.storage import (
    EVENTS,
    ITEMS,
    REJECTED,
    USERS,
    Generation,
    current_generation,
    only_writer,
    read_parts,
    write_generation,
    write_parquet,
)
from endcap.shop.vocabulary import Vocabulary, count_known, tombstone

# Columns of events whose values name one visit, order or delivery, and so the person.
NAMING = ("session_id", "event_id", "order", "request_id")
BROKEN = "malformed row"  # its raw text is a line of the source, not `theirs=value, ...`
NAMES_AT_ONCE = 100  # in one regular expression


class ShopTrace(msgspec.Struct, frozen=True, kw_only=True):
    """What a shop holds of a person.

    Attributes:
        number: theirs, None where the shop has no such user; n_users: of the vocabulary; events, sessions: theirs;
        rejected: rows in quarantine whose text names them; old_generations: folders kept for readers that hold them.
    """

    number: int | None
    n_users: int
    events: int
    sessions: int
    rejected: int
    old_generations: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.number is not None or self.rejected > 0 or bool(self.old_generations)


def trace_in_shop(shop: Path, user: str) -> ShopTrace:
    """Look for a person.

    Raises:
        InputError: if the folder holds no shop; DamagedArtefact: if it was changed.
    """
    return _trace(current_generation(shop), user)


def forget_in_shop(shop: Path, user: str) -> ShopTrace:
    """Remove a person's events, id and quarantined rows from a shop; returns what it held.

    Nothing is lost or half-done if this stops in between: called again it goes on.

    Raises:
        InputError: if the folder holds no shop, or another process is writing it; DamagedArtefact: if it was changed.
    """
    read_manifest(shop, kind="shop")
    with only_writer(shop):
        generation = current_generation(shop)
        trace = _trace(generation, user)
        if trace.number is not None or trace.rejected:
            _write_without(shop, generation, trace.number, user)
        if trace:
            remove_old_generations(shop)
    return trace


def remove_old_generations(shop: Path) -> None:
    """Remove all generations but the current one; who has an old one open has read it."""
    current = current_generation(shop).folder
    for folder in shop.glob("generation-*"):
        if folder.name != current.name:
            remove_artefact(folder)


def blank_rejected(rows: pa.Table, names: Iterable[str]) -> pa.Table:
    """Quarantined rows (source, line, reason, raw), without the raw text of those that hold one of these names."""
    column = rows.column_names.index("raw")
    return rows.set_column(column, "raw", pc.if_else(_naming(rows, names), None, rows["raw"]))


def _trace(generation: Generation, user: str) -> ShopTrace:
    users = Vocabulary(pq.read_table(generation.folder / USERS, columns=["user"])["user"])
    number = users.number(user) if user in users else None
    mine = _events_of(generation, number)
    names = _names(mine, user)
    named = sum(pc.sum(_naming(part, names)).as_py() or 0 for part in _rejected(generation.folder))
    others = (path for path in generation.folder.parent.glob("generation-*") if path.name != generation.folder.name)
    return ShopTrace(
        number=number,
        n_users=len(users),
        events=len(mine),
        sessions=len(pc.unique(mine["session"])),
        rejected=named,
        old_generations=tuple(sorted(path.name for path in others if _may_hold(path, user))),
    )


def _may_hold(folder: Path, user: str) -> bool:
    """Whether an old generation holds a person, or cannot be read."""
    try:
        known = user in Vocabulary(pq.read_table(folder / USERS, columns=["user"])["user"])
        return known or any(pc.any(_naming(part, [user])).as_py() for part in _rejected(folder))
    except (OSError, pa.ArrowException):
        return True


def _events_of(generation: Generation, number: int | None) -> pa.Table:
    """The events of one user: session, and those of the columns that name them which the shop has."""
    columns = ["session", *(name for name in NAMING if name in generation.column_names())]
    wanted = pc.field("user") == pa.scalar(-1 if number is None else number, pa.int32())
    return pq.read_table(generation.folder / EVENTS, columns=columns, filters=wanted)


def _names(events: pa.Table, user: str) -> list[str]:
    """The person's id, and those of their sessions, orders and events."""
    ids = {text for name in events.column_names if name != "session" for text in events[name].unique().to_pylist()}
    return [user, *sorted(ids - {None, user})]


def _rejected(folder: Path) -> Iterator[pa.Table]:
    return read_parts(folder / REJECTED)


def _naming(rows: pa.Table, names: Iterable[str]) -> pa.ChunkedArray:
    """(n,) bool: quarantined rows whose raw text holds one of the names, as a value or, in a broken row, as a word.

    Raw text knows no columns: rather too much is found than too little.
    """
    names = list(names)
    raw = pc.fill_null(rows["raw"], "")
    found = pc.and_(pc.equal(raw, ""), False)
    broken = pc.equal(rows["reason"], BROKEN)
    for start in range(0, len(names), NAMES_AT_ONCE):
        forms = "|".join(re.escape(form) for name in names[start : start + NAMES_AT_ONCE] for form in _forms(name))
        as_value = pc.match_substring_regex(raw, rf"(?is)=\s*({forms})(\.0)?\s*(,|$)")
        as_word = pc.match_substring_regex(raw, rf"(?is)(^|\W)({forms})(\W|$)")
        found = pc.or_(found, pc.or_(as_value, pc.and_(broken, as_word)))
    return found


def _forms(name: str) -> set[str]:
    """How a text may be written in a source: as it is, as in JSON, as in CSV, and cut off."""
    as_json = {json.dumps(name, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return {name, *as_json, name.replace('"', '""'), name[:RAW_VALUE_CHARACTERS]}


def _write_without(shop: Path, old: Generation, number: int | None, user: str) -> None:
    """Write the next generation, without a person, and make it the current one."""
    report = IngestReport()
    names = _names(_events_of(old, number), user)
    manifest = {key: old.manifest[key] for key in ("interactions", "session_gap", "sources")}
    manifest["generation"] = old.number + 1

    def fill(folder: Path) -> None:
        shutil.copyfile(old.folder / ITEMS, folder / ITEMS)
        users = _with_tombstone(pq.read_table(old.folder / USERS), number)
        pq.write_table(users, folder / USERS)
        schema = pq.read_schema(old.folder / EVENTS)
        n_events = write_parquet(folder / EVENTS, _events_without(old, number, Tally(report, old.interactions)), schema)
        blanked = (blank_rejected(part, names) for part in _rejected(old.folder))
        write_parquet(folder / REJECTED, blanked, REJECTED_SCHEMA)
        report.users, report.items = count_known(users["user"]), int(old.manifest["counts"]["items"])
        manifest["counts"] = {"events": n_events, "users": users.num_rows, "items": report.items}
        manifest["about"] = {name: getattr(report, name) for name in ABOUT_THE_SHOP}

    write_generation(shop, manifest, fill)


def _with_tombstone(users: pa.Table, number: int | None) -> pa.Table:
    """(user, known_from) with a tombstone in one place; it says when the one before it came, not when they did."""
    if number is None:
        return users
    ids, known_from = users["user"].to_pylist(), users["known_from"].to_pylist()
    ids[number] = tombstone(number)
    if len(ids) > 1:
        known_from[number] = known_from[number - 1 if number else 1]
    return pa.table([pa.array(ids, pa.string()), pa.array(known_from, pa.int64())], schema=users.schema)


def _events_without(old: Generation, number: int | None, tally: Tally) -> Iterator[pa.Table]:
    """The events of everybody else in their order, counted and with dense session numbers."""
    last = -1
    for part in read_parts(old.folder / EVENTS):
        others = part if number is None else part.filter(pc.not_equal(part["user"], number))
        if others.num_rows == 0:
            continue
        session = others["session"].combine_chunks().to_numpy()
        begins = session != np.append(last, session[:-1])
        last = session[-1]
        column = others.column_names.index("session")
        yield tally.pass_on(others.set_column(column, "begins", pa.array(begins)))
