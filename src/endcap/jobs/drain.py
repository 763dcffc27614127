"""From the live state into the shop: every recorded event once, however often and wherever this is interrupted."""

from __future__ import annotations

import sqlite3
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

    Events are acknowledged after they are in the shop. If it stops between the two, they come again, and their
    `event_id` gives them away.

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
        try:
            events, described, last = _written(live, folder, page)
        except sqlite3.Error as error:
            raise EndcapError(f"{state}: cannot be read ({error}); nothing was drained") from None
        if not events and not described:
            return IngestReport(changed=False, **current_generation(shop).manifest["about"])
        # The server has checked these events already; an odd one goes to quarantine and must not hold up the others.
        report = ingest(events, items=described, shop=shop, max_rejected=1.0, show=show)
        if last is not None:
            live.acknowledge(last)
    return report


def _written(live: LiveState, folder: Path, page: int) -> tuple[list[Path], list[Path], int | None]:
    """Files of the pending events and of what is known of items, and the number of the last event."""
    events, last = [], None
    for number, table in enumerate(_pages(live, page)):
        events.append(_write(table.drop_columns(["seq"]), folder / f"live-{number:06d}.parquet"))
        last = table["seq"][-1].as_py()
    items = _described(live.live_items())
    return events, [_write(items, folder / "live-items.parquet")] if len(items) else [], last


def _pages(live: LiveState, page: int) -> Iterator[pa.Table]:
    """Pending events in order, some at a time."""
    table = live.pending_events(page)
    while len(table):
        yield table
        table = live.pending_events(page, after=table["seq"][-1].as_py())


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
