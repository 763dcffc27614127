"""From files or tables to a shop: `ingest` appends to one on disk, `shop_from_tables` makes one in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from endcap.artefact import disk_full_named, working_folder
from endcap.errors import InputError
from endcap.progress import progress
from endcap.shop.columns import EVENT_COLUMNS, ITEM_COLUMNS, names_of_interest
from endcap.shop.intake import REJECTED_SCHEMA, Intake
from endcap.shop.options import make_options
from endcap.shop.report import IngestReport
from endcap.shop.shop import Shop
from endcap.shop.sources import Paths, Source, TableSource, find_sources
from endcap.shop.storage import (
    EVENTS,
    ITEMS,
    REJECTED,
    STAGING,
    USERS,
    Generation,
    current_generation,
    is_shop,
    make_shop,
    only_writer,
    read_parts,
    write_generation,
    write_parquet,
)
from endcap.shop.vocabulary import count_known

ABOUT_THE_SHOP = ("users", "items", "interactions", "first_time", "last_time", "sessions")


def ingest(
    events: Paths = (),
    *,
    shop: str | Path,
    items: Paths = (),
    rejected: str | Path | None = None,
    show: bool = False,
    **options: Any,
) -> IngestReport:
    """Validate event files and append them to a shop on disk; nothing changes if anything is wrong.

    Args:
        events, items: files, globs or directories; items alone update attributes.
        shop: its folder, made if need be; rejected: a Parquet file for the rows refused this time.
        options: see `IngestOptions`.

    Raises:
        InputError: for unreadable files, columns or options that do not fit, or more bad rows than `max_rejected`;
        DiskFull: if there is no room.
    """
    settings = make_options(**options)
    shop = Path(shop)
    event_sources = find_sources(events, settings.delimiter, names_of_interest(settings.columns, EVENT_COLUMNS))
    item_sources = find_sources(items, settings.delimiter, names_of_interest(settings.item_columns, ITEM_COLUMNS))
    if not event_sources and not (item_sources and is_shop(shop)):
        raise InputError("nothing to ingest: name event files, or for a shop that exists an items file with --items")
    with disk_full_named(shop), only_writer(shop), working_folder(shop, STAGING) as staging:
        old = current_generation(shop) if is_shop(shop) else None
        intake = Intake(settings, old, staging)
        try:
            new = _unknown(event_sources, old, intake.report)
            with progress("ingest", len(new) + len(item_sources) + 2, shown=show) as bar:
                intake.add(new, item_sources, bar)
                _judge(intake, rejected)
                bar.advance(0, "numbering")
                intake.number()
                bar.advance(1, "ordering")
                if _changes(intake):
                    _store(intake, shop, new, item_sources)
                bar.advance(1, "done")
        finally:
            intake.close()
    return intake.report


def shop_from_tables(events: Any, items: Any = None, **options: Any) -> Shop:
    """See `Shop.from_tables`.

    Raises:
        InputError: as `ingest`.
    """
    intake = Intake(make_options(**options), None, None)
    try:
        item_sources = [] if items is None else [TableSource.of("items", items)]
        with progress("ingest", shown=False) as bar:
            intake.add([TableSource.of("events", events)], item_sources, bar)
        intake.judge()
        intake.number()
        tables = list(intake.events())
        users, catalogue = intake.users(), intake.items()
        shop = make_shop(pa.concat_tables(tables), users, catalogue, intake.interactions)
    finally:
        intake.close()
    intake.report.users, intake.report.items = shop.n_users, shop.n_items
    return replace(shop, report=intake.report)


def _unknown(sources: Sequence[Source], old: Generation | None, report: IngestReport) -> list[Source]:
    """The sources whose content the shop does not hold yet, each content once."""
    seen = {source["sha256"] for source in old.manifest["sources"]} if old else set()
    new = []
    for source in sources:
        if source.checksum in seen:
            report.skipped.append(source.name)
        else:
            seen.add(source.checksum)
            new.append(source)
    return new


def _judge(intake: Intake, rejected: str | Path | None) -> None:
    try:
        intake.judge()
    finally:
        if rejected is not None:
            write_parquet(Path(rejected), intake.rejected(), REJECTED_SCHEMA)


def _changes(intake: Intake) -> bool:
    """Whether the shop would become another one; if not, the report tells what it is."""
    old = intake.old
    if old is None or intake.taken or intake.session_gap != old.manifest["session_gap"]:
        return True
    if intake.item_tables and not intake.items().equals(pq.read_table(old.folder / ITEMS)):
        return True
    intake.report.changed = False
    for name, value in old.about.items():
        setattr(intake.report, name, value)
    return False


def _store(intake: Intake, shop: Path, events: Sequence[Source], items: Sequence[Source]) -> None:
    """Write the new generation and make it the current one."""
    old, report = intake.old, intake.report
    report.sources = [source.name for source in (*events, *items)]
    manifest: dict[str, Any] = {
        "generation": 1 if old is None else old.number + 1,
        "interactions": list(intake.interactions.names),
        "session_gap": intake.session_gap,
        "sources": [*(old.manifest["sources"] if old else []), *_describe_sources(events, items)],
    }

    def fill(folder: Path) -> None:
        users, catalogue = intake.users(), intake.items()
        pq.write_table(users, folder / USERS)
        pq.write_table(catalogue, folder / ITEMS)
        n_events = write_parquet(folder / EVENTS, intake.events())
        earlier = read_parts(old.folder / REJECTED) if old else ()
        write_parquet(folder / REJECTED, itertools.chain(earlier, intake.rejected()), REJECTED_SCHEMA)
        report.users, report.items = count_known(users["user"]), catalogue.num_rows
        manifest["counts"] = {"events": n_events, "users": users.num_rows, "items": report.items}
        manifest["about"] = {name: getattr(report, name) for name in ABOUT_THE_SHOP}

    write_generation(shop, manifest, fill)


def _describe_sources(events: Sequence[Source], items: Sequence[Source]) -> list[dict[str, Any]]:
    return [
        {"name": source.name, "sha256": source.checksum, "kind": kind}
        for kind, sources in (("events", events), ("items", items))
        for source in sources
    ]
