"""The options of an ingest, checked once."""

from __future__ import annotations

import datetime
import zoneinfo
from pathlib import Path
from typing import Any

import msgspec

from endcap.errors import InputError
from endcap.settings import make_settings, read_toml
from endcap.shop.columns import parse_pairs
from endcap.shop.interactions import FURTHER_KINDS
from endcap.shop.shop import duration

DEFAULT_GAP = "30m"
DEFAULT_EARLIEST = "1990-01-01"
DAY = 86_400_000_000
IGNORE = "-"
TABLES = "[columns], [interactions], [items], [options]"
MAPPINGS = ("columns", "item_columns", "interactions")


class IngestOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be said about an event log besides where it is.

    Attributes:
        columns, item_columns, interactions: (theirs, ours) pairs; an interaction mapped to `-` is ignored.
        strength: the shop's own positive interactions, weak to strong; None: what the shop has, else the default.
        default_interaction: that of rows which have none.
        drop_duplicates: quarantine rows that repeat an earlier one in every column.
        keep_anonymous: keep rows without user but with a session, under the user `anonymous:<session>`.
        max_rejected: share of bad rows above which nothing is ingested.
        session_gap: a longer pause of a user starts a session, where the log has none; None: what the shop has.
        earliest, latest: ISO times outside of which an event's time is impossible; latest None: now and a day.
        timezone: of times that state none.
        delimiter: of CSV files; None: found out.
    """

    columns: tuple[tuple[str, str], ...] = ()
    item_columns: tuple[tuple[str, str], ...] = ()
    interactions: tuple[tuple[str, str], ...] = ()
    strength: tuple[str, ...] | None = None
    default_interaction: str | None = None
    drop_duplicates: bool = False
    keep_anonymous: bool = False
    max_rejected: float = 0.1
    session_gap: str | None = None
    earliest: str | None = None
    latest: str | None = None
    timezone: str = "UTC"
    delimiter: str | None = None

    def time_range(self) -> tuple[int, int]:
        """The first and the last possible time, microseconds since 1970 UTC."""
        now = int(datetime.datetime.now(datetime.UTC).timestamp()) * 1_000_000
        first = self.moment(self.earliest or DEFAULT_EARLIEST, "--earliest")
        last = self.moment(self.latest, "--latest") if self.latest else now + DAY
        if first > last:
            raise InputError(f"--earliest {self.earliest} lies after --latest {self.latest or '(now and a day)'}")
        return first, last

    def moment(self, text: str, option: str) -> int:
        """An ISO date or time in microseconds since 1970 UTC.

        Raises:
            InputError: if it is none.
        """
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise InputError(f"{option} {text!r}: not a date; write it as 2015-05-03 or 2015-05-03T12:00:00Z") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=zoneinfo.ZoneInfo(self.timezone))
        return (moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)


def make_options(mapping: str | Path | None = None, **values: Any) -> IngestOptions:
    """Options from what a person writes; mappings may be texts, lists or dictionaries.

    Args:
        mapping: a TOML file with tables `columns`, `interactions`, `items` (theirs = "ours") and `options`;
            `values` win.

    Raises:
        InputError: for an unknown option or a value that cannot be.
    """
    given = {name: value for name, value in values.items() if value is not None}
    in_file = _read_map(Path(mapping)) if mapping is not None else {}
    for option in MAPPINGS:
        ours = parse_pairs(given.get(option), "--" + option.replace("_", "-"))
        theirs = parse_pairs(in_file.get(option), f"{mapping} [{option}]")
        side = 0 if option == "interactions" else 1  # one meaning for each of their values, one source for each of ours
        taken = {pair[side] for pair in ours}
        given[option] = (*(pair for pair in theirs if pair[side] not in taken), *ours)
    given = {**in_file, **given}
    strength = given.get("strength")
    if strength is not None:
        names = strength.split(",") if isinstance(strength, str) else [str(name) for name in strength]
        given["strength"] = _check_strength(tuple(name.strip() for name in names))
    options = make_settings(IngestOptions, given, where="ingest")
    _check(options)
    return options


def _read_map(path: Path) -> dict[str, Any]:
    """A mapping file as options."""
    tables = read_toml(path, f"--map {path}")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"--map {path}: {name!r} stands outside of a table; there are {TABLES}")
    options = dict(tables.pop("options", {}))
    for table, option in (("columns", "columns"), ("interactions", "interactions"), ("items", "item_columns")):
        if table in tables:
            options[option] = tables.pop(table)
    if tables:
        raise InputError(f"--map {path}: there is no table [{next(iter(tables))}]; there are {TABLES}")
    return options


def _check(options: IngestOptions) -> None:
    if not 0 <= options.max_rejected <= 1:
        raise InputError(f"--max-rejected {options.max_rejected}: a share of the rows lies between 0 and 1")
    if options.session_gap is not None:
        duration(options.session_gap)
    if options.delimiter is not None and (len(options.delimiter) != 1 or options.delimiter in '"\r\n'):
        raise InputError(f"--delimiter {options.delimiter!r}: one character is needed, no quote or line end")
    try:
        zoneinfo.ZoneInfo(options.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"--timezone {options.timezone!r}: no such time zone; e.g. UTC or Europe/Berlin") from None
    options.time_range()


def _check_strength(names: tuple[str, ...]) -> tuple[str, ...]:
    taken = sorted(set(names) & {*FURTHER_KINDS, IGNORE, ""})
    if taken:
        raise InputError(f"--strength: {taken[0]!r} is no positive interaction; name only those, weak to strong")
    if len(set(names)) != len(names) or len(names) > max(FURTHER_KINDS.values(), default=100) - len(FURTHER_KINDS):
        raise InputError(f"--strength {','.join(names)}: each name once, and at most 99 of them")
    return names
