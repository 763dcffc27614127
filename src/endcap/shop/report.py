"""What an ingest says about itself."""

from __future__ import annotations

import msgspec


class IngestReport(msgspec.Struct, kw_only=True):
    """What one ingest did. `rows_*` and `reasons` count this ingest's event rows, the rest describes the whole shop.

    Attributes:
        rows_read: rows of the event files, header and blank lines aside; always `rows_kept + rows_rejected`.
        reasons: rows rejected for each reason, most frequent first.
        interactions: events of each kind in the shop.
        first_time, last_time: ISO 8601 in UTC, None for a shop without events.
        items_read, items_rejected: rows of the items files; item_reasons: as `reasons`.
        sources: files that were taken; skipped: files whose content was already in the shop.
        unused_columns: source columns that were not taken.
        changed: whether the shop is another one than before.
    """

    rows_read: int = 0
    rows_kept: int = 0
    rows_rejected: int = 0
    reasons: dict[str, int] = {}
    users: int = 0
    items: int = 0
    interactions: dict[str, int] = {}
    first_time: str | None = None
    last_time: str | None = None
    sessions: int = 0
    items_read: int = 0
    items_rejected: int = 0
    item_reasons: dict[str, int] = {}
    sources: list[str] = []
    skipped: list[str] = []
    unused_columns: list[str] = []
    changed: bool = True
