"""From the live state into the shop: every recorded event once, however often and wherever this is interrupted."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from endcap.artefact import disk_full_named, read_manifest, workshop
from endcap.errors import EndcapError, InputError
from endcap.serve.state import LiveState
from endcap.shop.ingest import ingest
from endcap.shop.report import IngestReport
from endcap.shop.storage import current_generation

PAGE = 200_000
DRAINING = ".draining"  # held inside the shop while events are on their way, and while somebody is forgotten


def drain(state: str | Path, shop: str | Path, *, page: int = PAGE, show: bool = False) -> IngestReport:
    """Append what the server recorded, and what it was told about items, to the shop.

    Events are claimed before and acknowledged after they are in the shop. If it stops between the two, the next drain
    begins with what was claimed: files that the shop knows already, so that not even a refused event is listed twice.

    Args:
        state: the server's state file; shop: an existing shop; page: events read at a time.

    Raises:
        InputError: if there is no such file or shop; DiskFull: if there is no room;
        EndcapError: if another drain is at work, or somebody is being forgotten.
    """
    state, shop = Path(state), Path(shop)
    if not state.is_file():
        raise InputError(f"{state}: no live state here; it is the file that `endcap serve --state` names")
    read_manifest(shop, kind="shop")
    with (
        disk_full_named(shop),
        workshop(shop / DRAINING, "recorded events of this shop") as folder,
        LiveState(state) as live,
    ):
        report, more = IngestReport(changed=False), True
        while more:
            claimed, more = live.claim()
            try:
                events, described = _written(live, folder, page, claimed)
            except sqlite3.Error as error:
                raise EndcapError(f"{state}: cannot be read ({error}); nothing was drained") from None
            report = _joined(report, _append(events, described, shop, show))
            live.acknowledge(claimed)
    return report


def _append(events: list[Path], described: list[Path], shop: Path, show: bool) -> IngestReport:
    if not events and not described:
        return IngestReport(changed=False, **current_generation(shop).manifest["about"])
    # The server has checked these events already; an odd one goes to quarantine and must not hold up the others.
    return ingest(events, items=described, shop=shop, max_rejected=1.0, show=show)


def _joined(first: IngestReport, then: IngestReport) -> IngestReport:
    """One report of both: the events of each, and the shop as the second left it."""
    for name in ("rows_read", "rows_kept", "rows_rejected", "sources", "skipped"):
        setattr(then, name, getattr(first, name) + getattr(then, name))
    then.reasons = dict((Counter(first.reasons) + Counter(then.reasons)).most_common())
    then.changed = then.changed or first.changed
    return then


def _written(live: LiveState, folder: Path, page: int, up_to: int) -> tuple[list[Path], list[Path]]:
    """Files of the pending events up to a number, and of what is known of items."""
    events = [
        _write(table.drop_columns(["seq"]), folder / f"live-{number:06d}.parquet")
        for number, table in enumerate(_pages(live, page, up_to))
    ]
    items = _described(live.live_items())
    return events, [_write(items, folder / "live-items.parquet")] if len(items) else []


def _pages(live: LiveState, page: int, up_to: int) -> Iterator[pa.Table]:
    """Pending events in order, some at a time."""
    table = live.pending_events(page, up_to=up_to)
    while len(table):
        yield table
        table = live.pending_events(page, after=table["seq"][-1].as_py(), up_to=up_to)


def _write(table: pa.Table, path: Path) -> Path:
    """Write what is known: a column without any value says nothing."""
    pq.write_table(table.select([name for name in table.column_names if table[name].null_count < len(table)]), path)
    return path


def _described(items: pa.Table) -> pa.Table:
    """Items of which an attribute is known; a pin or a suppression alone describes nothing."""
    known = [pc.is_valid(items[name]) for name in items.column_names if name != "item"]
    mask = known[0]
    for column in known[1:]:
        mask = pc.or_(mask, column)
    return items.filter(mask)
