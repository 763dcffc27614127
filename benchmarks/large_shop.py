"""A shop of a million items in three interactions, from log to answers: does it fit in 24 GB, how long does it take?

    python benchmarks/large_shop.py [--items 1000000] [--index exact] [--work DIR] [--json FILE] [--quick]

Every item is clicked, carted and bought in sessions that stay in one of 10,000 clusters, so that item-interaction
learns three million vectors of 128 dimensions. Each step runs in a process of its own, two threads; with DIR the steps
that are there already are not repeated.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from _cost import Cost, cost_of
from _load import Ask, ServerProcess, Traffic, drive, wire
from _report import Row, arguments, report
from endcap.release import Release, live

ITEMS, QUICK_ITEMS, CLUSTER, TRIPLES, ROUNDS = 1_000_000, 20_000, 100, 3, 3
LIMIT_GB = 24.0
EMBEDDING = {"dim": 128, "session_filter": "none", "scorer": "in_out_cos", "targets": "typed"}
ASKED, RATE, SECONDS = 2000, 50.0, 20.0
START_US, STEP_US = 1_760_000_000_000_000, 1_000_000

INGEST = "import sys; from endcap.shop.ingest import ingest; ingest(sys.argv[1], shop=sys.argv[2], show=True)"
TRAIN = (
    "import sys, json; from endcap import Shop, models; "
    "model = models.create('item-interaction', json.loads(sys.argv[3])); "
    "model.fit(Shop.open(sys.argv[1]), threads=2, show=True).save(sys.argv[2])"
)
PUBLISH = "import sys; from endcap.jobs.publish import publish; publish([sys.argv[1]], sys.argv[2], sys.argv[3], index=sys.argv[4], threads=2, show=True)"  # noqa: E501


def write_log(path: Path, items: int, seed: int = 0) -> int:
    """Sessions over three items of a cluster: each clicked, carted and bought; every item is in `ROUNDS` of them."""
    rng = np.random.default_rng(seed)
    clusters = rng.permutation(items - items % CLUSTER).reshape(-1, CLUSTER)
    rows = 0
    schema = pa.schema([
        ("user", pa.string()), ("item", pa.string()), ("interaction", pa.string()), ("time", pa.int64())
    ])  # fmt: skip
    kinds = np.repeat(["click", "cart", "purchase"], TRIPLES)
    with pq.ParquetWriter(path, schema) as writer:
        for turn in range(ROUNDS):
            shuffled = rng.permuted(clusters, axis=1)
            tail = rng.integers(0, CLUSTER, (len(clusters), -CLUSTER % TRIPLES))  # so that threes come out even
            filled = np.hstack([shuffled, np.take_along_axis(shuffled, tail, axis=1)])
            sessions = rng.permutation(filled.reshape(-1, TRIPLES))
            for part in np.array_split(sessions, 8):
                n = len(part) * len(kinds)
                users = rng.integers(0, items // 4, len(part)).repeat(len(kinds))
                times = START_US + STEP_US * (rows + np.arange(n))
                columns = [
                    np.char.add("u", users.astype(str)),
                    np.char.add("i", np.tile(part, 3).ravel().astype(str)),
                    np.tile(kinds, len(part)),
                    times,
                ]
                writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
                rows += n
            print(f"log: {turn + 1} of {ROUNDS} rounds")
    return rows


def step(done: Path, costs: Path, name: str, run: Callable[[], Cost]) -> Cost:
    """The cost of one step, from when it ran if its result is there."""
    kept = json.loads(costs.read_text()) if costs.exists() else {}
    if name not in kept or not done.exists():
        kept[name] = run()
        costs.write_text(json.dumps(kept))
    return Cost(*kept[name])


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--items", type=int, help=f"default {ITEMS:,}")
    parser.add_argument("--index", choices=("auto", "exact"), default="auto", help="exact: no graph is built")
    parser.add_argument("--work", type=Path, help="keep the log, shop, model and release here")
    given = parser.parse_args()
    items = given.items or (QUICK_ITEMS if given.quick else ITEMS)
    command = f"python benchmarks/large_shop.py --items {items} --index {given.index}"
    with _folder(given.work) as folder:
        log, shop, model, releases = (folder / name for name in ("log.parquet", "shop", "model", "releases"))
        if not log.exists():
            write_log(log, items)
        costs = folder / "costs.json"
        steps = {
            "ingest": step(shop, costs, "ingest", lambda: cost_of(INGEST, log, shop)),
            "train": step(model, costs, "train", lambda: cost_of(TRAIN, shop, model, json.dumps(EMBEDDING))),
            "publish": step(releases, costs, "publish", lambda: cost_of(PUBLISH, model, shop, releases, given.index)),
        }
        rows = [
            Row(
                what=f"{name}: seconds; peak memory, GB",
                ours=f"{cost.seconds:.0f}; {cost.peak_gb:.1f}",
                reference=f"{cost.cpu_seconds:.0f} CPU-s",
                target=f"<= {LIMIT_GB:g} GB",
                met=cost.peak_gb <= LIMIT_GB,
                command=command,
            )
            for name, cost in steps.items()
        ]
        rows += serve(folder, releases, items, command)
        events = pq.read_metadata(log).num_rows
        about = Release.open(releases / live(releases)).manifest
    spaces = about["models"]["item-interaction"]["spaces"]
    notes = "; ".join(
        f"{name}: {space['vectors']:,} vectors, {space['index']}, recall@100 {space['recall@100']:.3f}, "
        f"{space['bytes'] / 1e9:.2f} GB"
        for name, space in spaces.items()
    )
    report("large_shop", f"{items:,} items, {events:,} events", rows, given.json, quick=given.quick, notes=notes)


def serve(folder: Path, releases: Path, items: int, command: str) -> list[Row]:
    """Related items of `ASKED` items at a moderate rate."""
    rng = np.random.default_rng(1)
    asks = [
        Ask(wire("GET", f"/v1/items/{quote(f'i{item}')}/related?seen_as=click&want=cart&k=10"), _wrong)
        for item in rng.integers(0, items - items % CLUSTER, ASKED)
    ]
    with ServerProcess(releases, folder / "state.db") as server:
        outcome = drive(server, {"related": Traffic(RATE, asks)}, SECONDS)
        resident, anonymous = server.memory()
    latencies = outcome.all_ms
    return [
        Row(
            what=f"serve: related at {RATE:g} requests/s, p50 and p99, ms",
            ours=f"{np.percentile(latencies, 50):.1f}; {np.percentile(latencies, 99):.1f}",
            reference=f"n={len(latencies)}, errors {dict(outcome.errors) or 0}, {outcome.cpu_ms:.2f} CPU-ms each",
            command=command,
        ),
        Row(
            what="serve: resident memory, GB",
            ours=round(resident / 1e9, 2),
            reference=f"{anonymous / 1e9:.2f} of it not mapped from files",
            target=f"<= {LIMIT_GB:g}",
            met=resident / 1e9 <= LIMIT_GB,
            command=command,
        ),
    ]


def _wrong(body: bytes) -> str:
    """What is wrong with an answer."""
    found = json.loads(body)
    if len(found["items"]) != 10 or found.get("fallback"):
        return f"{len(found['items'])} items, fallback {found.get('fallback')}"
    return ""


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as name:
        yield Path(name)


if __name__ == "__main__":
    main()
