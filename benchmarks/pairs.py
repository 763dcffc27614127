"""Pair counting: the items that most often lie in a session with each item, ours against DuckDB's self-join.

    python benchmarks/pairs.py [--events 10000000] [--memory 512MB] [--json FILE] [--quick]

Both read the same Parquet file (session, item) and write the 20 best partners of each item with their counts, with two
threads, each in a process of its own. Clock and CPU run from reading to the written result, imports excluded; whole
processes stand in a line of their own. Another DuckDB counts the pairs and stops there, so that its choice of the best
does not decide.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _cost import Cost, cost_of
from _report import Row, arguments, report
from endcap.settings import byte_count

EVENTS, QUICK_EVENTS = 10_000_000, 500_000
EVENTS_A_SESSION, EVENTS_AN_ITEM, ITEMS_A_CLUSTER = 10, 50, 100
K = 20
TARGET_WALL, TARGET_CPU = 2.0, 3.0

CLOCK = """
import sys, time
from pathlib import Path
def taken(): return time.perf_counter(), time.process_time()
def note(begun, path):
    wall, cpu = taken()
    Path(path).write_text(f"{wall - begun[0]} {cpu - begun[1]}")
"""
READ = f"""{CLOCK}
import numpy as np, pyarrow.parquet as pq
from endcap.kernels.pairs import top_together
def column(path, name):
    file = pq.ParquetFile(path)
    values, filled = np.empty(file.metadata.num_rows, np.int32), 0
    for batch in file.iter_batches(1 << 20, columns=[name]):
        values[filled : filled + len(batch)] = batch[name]
        filled += len(batch)
    return values
def corpus(path):
    session = column(path, "session")
    offsets = np.flatnonzero(np.append(True, np.append(session[1:] != session[:-1], True)))
    del session
    return column(path, "item"), offsets
"""
OURS = f"""{READ}
path, n_items, memory, out = sys.argv[1:]
top_together(np.zeros(2, np.int32), np.array([0, 2]), 1, k=1)  # loads compiled code
begun = taken()
top, counts = top_together(*corpus(path), int(n_items), k={K}, threads=2, memory=memory)
np.save(out + ".top.npy", top)
np.save(out + ".counts.npy", counts)
note(begun, out + ".took")
"""
GROWTH = f"""{READ}
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024
path, n_items, memory, folder = sys.argv[1:]
item, offsets = corpus(path)
top_together(item[:0], offsets[:1], int(n_items), k={K})  # loads compiled code, which is no growth
Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
before = status("VmRSS")
top_together(item, offsets, int(n_items), k={K}, threads=2, memory=memory, spill=Path(folder))
Path(folder, "growth").write_text(str(status("VmHWM") - before))
"""
JOIN = (
    CLOCK
    + """
import duckdb
path, out = sys.argv[1:]
begun = taken()
con = duckdb.connect(config={"threads": 2, 'temp_directory': out + '.spill'})
con.execute('SET enable_progress_bar = false')
pairs = f'''WITH d AS (SELECT DISTINCT session, item FROM '{path}'),
    p AS (SELECT a.item AS i, b.item AS j, count(*) AS n FROM d AS a JOIN d AS b
          ON a.session = b.session AND a.item < b.item GROUP BY ALL)'''
"""
)
DUCKDB_TOP = f"""{JOIN}
con.execute(f'''COPY ({{pairs}}, q AS (SELECT i, j, n FROM p UNION ALL SELECT j, i, n FROM p)
    SELECT i, max(n * 2147483648 - j, {K}) AS best FROM q GROUP BY i) TO '{{out}}' (FORMAT parquet)''')
note(begun, out + '.took')
"""
DUCKDB_PAIRS = f"""{JOIN}
con.execute(pairs + ' SELECT count(*), sum(n) FROM p').fetchall()
note(begun, out + '.took')
"""


def make_sessions(path: Path, events: int, seed: int = 11) -> int:
    """Write sessions of items in clusters, some popular, with a fifth of strays; returns the number of items.

    A session has 2 + Poisson(8) events. Clusters are drawn by Zipf's law (exponent 0.6), items inside one by another
    (0.8), strays among all items by a third (1.0).
    """
    rng = np.random.default_rng(seed)
    n_items = max(ITEMS_A_CLUSTER, events // EVENTS_AN_ITEM // ITEMS_A_CLUSTER * ITEMS_A_CLUSTER)
    lengths = 2 + rng.poisson(EVENTS_A_SESSION - 2, events // EVENTS_A_SESSION)
    session = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    cluster = _zipf(rng, n_items // ITEMS_A_CLUSTER, 0.6, len(lengths))[session]
    place = cluster * ITEMS_A_CLUSTER + _zipf(rng, ITEMS_A_CLUSTER, 0.8, len(session))
    at_home, anywhere = rng.permutation(n_items), rng.permutation(n_items)
    stray = rng.random(len(session)) < 0.2
    item = np.where(stray, anywhere[_zipf(rng, n_items, 1.0, len(session))], at_home[place]).astype(np.int32)
    pq.write_table(pa.table({"session": session, "item": item}), path)
    return n_items


def _zipf(rng: np.random.Generator, n: int, exponent: float, size: int) -> np.ndarray:
    """(size,) ranks 0 .. n - 1, drawn in proportion to (rank + 1) ** -exponent."""
    weight = np.cumsum(np.arange(1, n + 1) ** -exponent)
    return np.searchsorted(weight, rng.random(size) * weight[-1])


class Took(NamedTuple):
    """What a program noted about itself, and what its whole process cost."""

    seconds: float
    cpu_seconds: float
    process: Cost


def run(program: str, *given: Path | str | int) -> Took:
    """Run one of the programs above, whose last argument is its result."""
    process = cost_of(program, *given)
    seconds, cpu_seconds = map(float, Path(f"{given[-1]}.took").read_text().split())
    return Took(seconds, cpu_seconds, process)


def assert_equal(ours: Path, theirs: Path) -> int:
    """Both found the same partners in the same order with the same counts; returns how many lists there are."""
    top, counts = (np.load(f"{ours}.{name}.npy").astype(np.int64) for name in ("top", "counts"))
    expected_top, expected_counts = np.full_like(top, -1), np.zeros_like(counts)
    table = pq.read_table(theirs)
    rows = table["i"].to_numpy()
    lists = table["best"].combine_chunks()
    best = lists.flatten().cast(pa.int64()).to_numpy()
    lengths = np.diff(lists.offsets.to_numpy())
    row = np.repeat(rows, lengths)
    place = np.arange(len(best)) - np.repeat(lists.offsets.to_numpy()[:-1], lengths)
    expected_counts[row, place] = -(-best // 2**31)  # best = count * 2**31 - partner
    expected_top[row, place] = expected_counts[row, place] * 2**31 - best
    if not (np.array_equal(top, expected_top) and np.array_equal(counts, expected_counts)):
        raise SystemExit("ours and DuckDB's lists differ")
    return len(rows)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--events", type=int, help=f"events (default {EVENTS:,})")
    parser.add_argument("--memory", default="512MB", help="the memory setting (default %(default)s)")
    given = parser.parse_args()
    if given.data:
        parser.error("--data: this benchmark makes its own sessions")
    events = given.events or (QUICK_EVENTS if given.quick else EVENTS)
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as name:
        folder = Path(name)
        sessions, small = folder / "sessions.parquet", folder / "small.parquet"
        # in another process: a child's peak counts what its parent held when it began
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            n_items, n_small = pool.starmap(make_sessions, [(sessions, events), (small, 1_000)])
        run(OURS, small, n_small, given.memory, folder / "small")  # compiles, once a machine
        ours = run(OURS, sessions, n_items, given.memory, folder / "ours")
        theirs = run(DUCKDB_TOP, sessions, folder / "theirs.parquet")
        pairs_only = run(DUCKDB_PAIRS, sessions, folder / "pairs")
        lists = assert_equal(folder / "ours", folder / "theirs.parquet")
        tight = tight_memory(events, n_items)
        cost_of(GROWTH, sessions, n_items, tight, folder)
        growth = int((folder / "growth").read_text())
    command = f"python benchmarks/pairs.py --events {events} --memory {given.memory}"
    rows = [
        *_against("the self-join with the best 20", ours, theirs, command),
        *_against("the self-join alone", ours, pairs_only, command),
        Row(
            what="CPU of the whole process, imports included, seconds",
            ours=round(ours.process.cpu_seconds, 1),
            reference=f"DuckDB {theirs.process.cpu_seconds:.1f}, alone {pairs_only.process.cpu_seconds:.1f}",
            command=command,
        ),
        Row(
            what=f"peak memory of the whole process under {given.memory}, MB",
            ours=round(ours.process.peak_gb * 1e3),
            reference=f"DuckDB {theirs.process.peak_gb * 1e3:.0f}, alone {pairs_only.process.peak_gb * 1e3:.0f}",
            target=f"<= {byte_count(given.memory) / 1e6:.0f}",
            met=ours.process.peak_gb * 1e9 <= byte_count(given.memory),
            command=command,
        ),
        Row(
            what="growth of the process while it counts under a tight setting, the lists spilled, MB",
            ours=round(growth / 1e6, 1),
            target=f"<= {tight / 1e6:.1f}",
            met=growth <= tight,
            command=command,
        ),
    ]
    notes = (
        f"The lists of {lists:,} items are equal, partner by partner and count by count. Clock and CPU run from reading"
        " the file to the written result, after imports and after compiled code was loaded; compiling, once a machine,"
        " came before."
    )
    data = f"{events / 1e6:.3g} M generated events, {n_items:,} items"
    report("pairs", data, rows, given.json, quick=given.quick, notes=notes)


def tight_memory(events: int, n_items: int) -> int:
    """Bytes in which the index and two threads fit, and not all lists."""
    from endcap.kernels.pairs import Sizes

    sizes = Sizes.of(events + events // 100, events // EVENTS_A_SESSION, n_items, K)
    return sizes.peak(2, n_items // 10)


def _against(what: str, ours: Took, theirs: Took, command: str) -> list[Row]:
    """Both ratios against one reference."""
    wall, cpu = theirs.seconds / ours.seconds, theirs.cpu_seconds / ours.cpu_seconds
    return [
        Row(
            what=f"{name}: times faster than {what}",
            ours=round(ratio, 2),
            reference=f"{ours_took:.2f} s, DuckDB {theirs_took:.2f} s",
            target=f">= {target:g}",
            met=ratio >= target,
            command=command,
        )
        for name, ratio, ours_took, theirs_took, target in (
            ("wall clock", wall, ours.seconds, theirs.seconds, TARGET_WALL),
            ("CPU", cpu, ours.cpu_seconds, theirs.cpu_seconds, TARGET_CPU),
        )
    ]


if __name__ == "__main__":
    main()
