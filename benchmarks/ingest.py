"""Ingest of a large CSV: time, peak memory, and the ratio to DuckDB's own CSV-to-Parquet copy of the same file.

    python benchmarks/ingest.py [--events 10000000] [--data DIR] [--json FILE] [--quick]

DIR holds `events.csv` with our column names; without it the simulator makes one.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from _cost import cost_of
from _report import Row, arguments, report

TARGET_SECONDS, TARGET_GB = 90.0, 4.0
EVENTS, QUICK_EVENTS = 10_000_000, 300_000

INGEST = "import sys; from endcap.shop.ingest import ingest; ingest(sys.argv[1], shop=sys.argv[2])"
COPY = (
    "import sys, duckdb; con = duckdb.connect(config={'threads': 2, 'memory_limit': '2GB'}); "
    "con.execute('SET enable_progress_bar = false'); "
    'con.execute("COPY (SELECT * FROM read_csv(\'" + sys.argv[1] + "\')) TO \'" + sys.argv[2] + "\' (FORMAT parquet)")'
)


def make_events(folder: Path, events: int) -> Path:
    """A simulated log as CSV."""
    from endcap.simulate import simulate

    simulate(folder / "simulated", events=events, seed=0, format="csv", show=True)
    return folder / "simulated" / "events.csv"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--events", type=int, help=f"events to simulate (default {EVENTS:,})")
    given = parser.parse_args()
    events = given.events or (QUICK_EVENTS if given.quick else EVENTS)
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as name:
        folder = Path(name)
        log = given.data / "events.csv" if given.data else make_events(folder, events)
        copy = cost_of(COPY, log, folder / "copy.parquet")
        cost = cost_of(INGEST, log, folder / "shop")
        from endcap.shop import Shop

        begun = time.perf_counter()
        shop = Shop.open(folder / "shop")
        opened = time.perf_counter() - begun
        size = log.stat().st_size / 1e9
    n = len(shop.events)
    command = f"python benchmarks/ingest.py {'--data DIR' if given.data else f'--events {events}'}"
    rows = [
        Row(
            what=f"ingest of {n / 1e6:.3g} M events, {size:.2f} GB of CSV: seconds",
            ours=round(cost.seconds, 1),
            reference=f"{copy.seconds:.1f} (DuckDB COPY)",
            target=f"<= {TARGET_SECONDS:g}",
            met=cost.seconds <= TARGET_SECONDS,
            command=command,
        ),
        Row(
            what="peak memory of the process, GB",
            ours=round(cost.peak_gb, 2),
            reference=f"{copy.peak_gb:.2f} (DuckDB COPY)",
            target=f"<= {TARGET_GB:g}",
            met=cost.peak_gb <= TARGET_GB,
            command=command,
        ),
        Row(
            what="seconds, ratio to DuckDB COPY of the file",
            ours=round(cost.seconds / copy.seconds, 2),
            command=command,
        ),
        Row(what="CPU-seconds", ours=round(cost.cpu_seconds, 1), reference=round(copy.cpu_seconds, 1), command=command),
        Row(what="Shop.open, with checksums: seconds", ours=round(opened, 2), command=command),
    ]
    notes = (
        "The copy only parses and writes; ingest validates, numbers ids, drops repeated events, cuts sessions, sorts."
    )
    data = given.data.name if given.data else "simulated shop"
    report("ingest", data, rows, given.json, quick=given.quick, notes=notes)


if __name__ == "__main__":
    main()
