"""Memory of training CoActionGraphRec on long histories: T = 200, batch 256, d = 64, all edge features.

    python benchmarks/coaction_memory.py [--json FILE] [--quick]

A made-up shop of 20,000 items with titles, categories, brands and prices, and people of 250 actions. The figure is the
largest resident size of a process of its own, that of the interpreter with torch and the shop included. A dense form
would hold (B, T, T, d) numbers: 2.6 GB for each such tensor.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time

import msgspec
import numpy as np
import pyarrow as pa

from _report import Row, arguments, report
from endcap import Shop, models

LENGTH, BATCH, DIM, STEPS = 200, 256, 64, 5
TARGET_GB = 4.0


def made_up_shop(n_people: int, n_items: int = 20_000, seed: int = 0) -> Shop:
    """Everybody acts 250 times, ten minutes apart, with all four interactions."""
    rng = np.random.default_rng(seed)
    n = n_people * (LENGTH + 50)
    items = np.minimum(rng.zipf(1.2, n) - 1, n_items - 1)
    user = np.repeat(np.arange(n_people), LENGTH + 50)
    events = pa.table({
        "user": pa.array(user).cast(pa.string()),
        "item": pa.array(items).cast(pa.string()),
        "interaction": np.array(["click", "favourite", "cart", "purchase"])[rng.integers(0, 4, n)],
        "time": 1_600_000_000 + np.tile(np.arange(LENGTH + 50) * 600, n_people) + user,
    })  # fmt: skip
    names = [f"thing {i} of kind {i % 300} in colour {i % 11}" for i in range(n_items)]
    catalogue = pa.table({
        "item": [str(i) for i in range(n_items)], "title": names,
        "category": [f"c{i % 9}/c{i % 90}" for i in range(n_items)], "brand": [f"b{i % 500}" for i in range(n_items)],
        "price": rng.lognormal(3, 1, n_items),
    })  # fmt: skip
    return Shop.from_tables(events, catalogue)


def measure(n_people: int) -> dict[str, float]:
    """Train a few steps of full batches; peak resident size of this process in GB."""
    shop = made_up_shop(n_people)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    settings = {
        "dim": DIM,
        "longest": LENGTH,
        "batch_size": BATCH,
        "epochs": 1,
        "targets": "all",
        "validation_people": 64,
    }
    began = time.process_time()
    model = models.create("coaction-graph", settings).fit(shop, threads=2)
    assert model._learned()["course"]["epochs"][0]["instances"] >= BATCH * STEPS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"peak": peak / 1e6, "before": before / 1e6, "cpu_s": time.process_time() - began}


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    n_people = 8 if given.quick else 30
    code = f"import msgspec, coaction_memory as m; print(msgspec.json.encode(m.measure({n_people})).decode())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=__file__.rpartition("/")[0] or "."
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = msgspec.json.decode(done.stdout.splitlines()[-1])
    row = Row(
        what=f"largest resident size, T={LENGTH}, batch {BATCH}, d={DIM} (GB)",
        ours=found["peak"],
        reference="dense form: 2.6 a tensor",
        target=TARGET_GB,
        met=found["peak"] <= TARGET_GB,
        command="python benchmarks/coaction_memory.py",
    )
    notes = (
        f"Before the model there were {found['before']:.2f} GB; {found['cpu_s']:.0f} CPU-seconds for {n_people} people."
    )
    report("coaction_memory", "made up", [row], given.json, quick=given.quick, notes=notes)


if __name__ == "__main__":
    main()
