"""Writing a simulated shop to a folder, in bounded memory, or making a small one in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from endcap.artefact import new_artefact, read_manifest
from endcap.errors import EndcapError, InputError
from endcap.progress import progress
from endcap.settings import make_settings
from endcap.simulate.catalogue import catalogue
from endcap.simulate.log import Scribe, Tally, times_as_text
from endcap.simulate.oracle import best_scores
from endcap.simulate.settings import VERSION, ShopSettings
from endcap.simulate.truth import truth_tables
from endcap.simulate.world import Truth, make_truth

Format = Literal["parquet", "csv", "jsonl"]
FORMATS: tuple[Format, ...] = ("parquet", "csv", "jsonl")
KIND = "simulation"


class Summary(msgspec.Struct, kw_only=True):
    """What a simulated shop is like.

    Attributes:
        version: of the simulator's defaults; settings: all of them.
        rows: rows of the log; rows_good + rows_spoilt = rows, repeated ones are good.
        interactions: good rows of each kind, without repeated ones.
        spoilt: spoilt rows by the reason that ingest gives; duplicates: repeated rows.
        best: the best reachable score, see `endcap.simulate.oracle`; empty where it was not asked for.
    """

    version: int
    settings: dict[str, Any]
    rows: int
    rows_good: int
    rows_spoilt: int
    interactions: dict[str, int]
    spoilt: dict[str, int]
    duplicates: int
    users: int
    items: int
    leaves: int
    activities: int
    first_time: str | None
    last_time: str | None
    best: dict[str, dict[str, float]]


@dataclass(frozen=True, eq=False)
class SimulatedShop:
    """A small shop in memory: the tables that `simulate` would write, and the truth tables by name."""

    events: pa.Table
    items: pa.Table
    truth: dict[str, pa.Table]
    summary: Summary


def tables(settings: ShopSettings) -> SimulatedShop:
    """Make a shop in memory."""
    truth = make_truth(settings)
    scribe = Scribe(truth)
    events = pa.concat_tables(list(scribe.tables()))
    return SimulatedShop(events, catalogue(truth), truth_tables(truth), _summary(truth, scribe.tally))


def simulate(
    out: str | Path,
    *,
    events: int = 1_000_000,
    seed: int = 0,
    format: Format = "parquet",  # noqa: A002
    show: bool = False,
    **settings: Any,
) -> Summary:
    """Write a shop with known truth: `events.*`, `items.*`, `truth/*.parquet`, `summary.json`.

    Same arguments, same bytes. The memory needed grows with items and users, not with events.

    Raises:
        InputError: for an unknown setting or value, or if `out` holds something else than a simulated shop.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format}: there are {', '.join(FORMATS)}")
    _check_replaceable(Path(out))
    chosen = make_settings(ShopSettings, {**settings, "events": events, "seed": seed}, where="simulate")
    truth = make_truth(chosen)
    scribe = Scribe(truth)
    manifest = {"kind": KIND, "version": VERSION, "settings": msgspec.to_builtins(chosen)}
    with new_artefact(Path(out), manifest) as folder, progress("simulating", events, shown=show) as bar:

        def log() -> Iterator[pa.Table]:
            for table in scribe.tables():
                yield table
                bar.advance(len(table))

        _write(log(), folder / f"events.{format}", format)
        _write(iter([catalogue(truth)]), folder / f"items.{format}", format)
        (folder / "truth").mkdir()
        for name, table in truth_tables(truth).items():
            pq.write_table(table, folder / "truth" / f"{name}.parquet")
        summary = _summary(truth, scribe.tally)
        _write_json(folder / "summary.json", summary)
        if summary.best:
            _write_json(folder / "truth" / "best.json", summary.best)
    return summary


def _check_replaceable(out: Path) -> None:
    """Only an empty folder or an earlier simulation may be written over."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not _is_simulation(out):
        raise InputError(f"{out}: holds something else than a simulated shop; name a new folder")


def _is_simulation(out: Path) -> bool:
    try:
        read_manifest(out, kind=KIND)
    except EndcapError:
        return False
    return True


def _summary(truth: Truth, tally: Tally) -> Summary:
    spoilt = sum(tally.spoilt.values())
    return Summary(
        version=VERSION,
        settings=msgspec.to_builtins(truth.settings),
        rows=tally.rows,
        rows_good=tally.rows - spoilt,
        rows_spoilt=spoilt,
        interactions=tally.interactions,
        spoilt=tally.spoilt,
        duplicates=tally.duplicates,
        users=truth.settings.n_users,
        items=truth.settings.n_items,
        leaves=truth.n_leaves,
        activities=truth.n_activities,
        first_time=_iso(tally.first_time),
        last_time=_iso(tally.last_time),
        best=best_scores(truth) if truth.settings.best else {},
    )


def _iso(moment: int | None) -> str | None:
    return None if moment is None else f"{np.datetime64(moment // 1000, 'ms')}Z"


def _write(blocks: Iterator[pa.Table], path: Path, form: Format) -> None:
    """Write tables of one schema, one after the other, to one file."""
    if form == "jsonl":
        _write_json_lines(blocks, path)
        return
    first = next(blocks)
    if form == "csv":
        first = times_as_text(first)
        with pa_csv.CSVWriter(path, first.schema, write_options=pa_csv.WriteOptions(quoting_style="needed")) as file:
            file.write_table(first)
            for table in blocks:
                file.write_table(times_as_text(table))
        return
    with pq.ParquetWriter(path, first.schema, compression="zstd") as file:
        file.write_table(first)
        for table in blocks:
            file.write_table(table)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(msgspec.to_builtins(content), indent=1) + "\n", encoding="utf-8")


def _write_json_lines(blocks: Iterator[pa.Table], path: Path) -> None:
    import duckdb

    with duckdb.connect(config={"threads": 1}) as engine:
        for place, table in enumerate(blocks):
            engine.register("block", times_as_text(table))
            part = path.with_suffix(f".{place}")
            quoted = str(part).replace("'", "''")
            engine.execute(f"copy block to '{quoted}' (format json)")
            with path.open("ab") as whole:
                whole.write(part.read_bytes())
            part.unlink()
