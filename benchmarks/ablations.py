"""What each choice of the item-interaction paper is worth: one change at a time, with paired intervals.

    python benchmarks/ablations.py [--data DIR] [--only simulated] [--json FILE] [--quick]

The paper's setting (100 dimensions, for time) against the k of the regulariser, where negatives come from, window,
dimension, the three scorers, and our own options. Purchase intent, lists of 10, 40 and 200, own item off, intervals
over people, on the test parts of a simulated shop and of jd-sessions (both have categories and sellers). Nothing is
chosen by these tables: defaults come from benchmarks/defaults.py, which reads no test part.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from _real import SHOPS, data_folder
from _report import Row, arguments, report
from endcap import ItemInteraction, Shop, evaluate, simulate
from endcap.evaluate.report import Report
from endcap.simulate import ShopSettings

PAPER: dict[str, Any] = {
    "dim": 100, "window": 5, "negatives": 5, "ns_exponent": 0.0, "reg_k": 3, "reg_weighting": "equal",
    "scorer": "in_out_cos", "targets": "typed", "session_filter": "none", "sellers": False, "epochs": 30,
    "learning_rate": 0.1, "shared_negatives": 1, "subsample": 0.0,
}  # fmt: skip
BASE = "the paper's"
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "regulariser": {
        "none": {"reg_k": 0}, "k 1": {"reg_k": 1}, "k 5": {"reg_k": 5}, "k 10": {"reg_k": 10},
        "by share": {"reg_weighting": "share"}, "own item let in": {"reg_same_item": True},
    },
    "negatives": {
        "by frequency ** 0.5": {"ns_exponent": 0.5}, "by frequency": {"ns_exponent": 1.0},
        "of the same category": {"negatives_from": "category"}, "of the same seller": {"negatives_from": "seller"},
        "shared by 4": {"shared_negatives": 4}, "shared by all of a centre": {"shared_negatives": 100},
        "shared by all, half the learning rate": {"shared_negatives": 100, "learning_rate": 0.05},
    },
    "window": {"2": {"window": 2}, "10": {"window": 10}, "5, not drawn": {"random_window": False}},
    "dimension": {"50": {"dim": 50}, "200": {"dim": 200}},
    "scorer": {"in-in cosine": {"scorer": "in_in_cos"}, "in-out product": {"scorer": "in_out_ip"}},
    "targets": {"any interaction's vector": {"targets": "any"}},
}  # fmt: skip
METRICS = tuple(f"purchase_intent@{k}" for k in (10, 40, 200))
NOTES = """One seed and one thread. `ours` is the difference to the paper's setting at lists of 10 with its 95 %
interval; beside it the values at 10, 40 and 200. The paper's in-out cosine is the base; it does not say which scorer
it used."""


def simulated(quick: bool) -> tuple[Shop, str]:
    made = simulate.tables(ShopSettings(events=40_000 if quick else 200_000, seed=2))
    return Shop.from_tables(made.events, made.items), "7d"


def variants(quick: bool) -> dict[str, dict[str, Any]]:
    paper = PAPER | ({"epochs": 3, "dim": 32} if quick else {})
    groups = {"regulariser": ABLATIONS["regulariser"]} if quick else ABLATIONS
    changed = {f"{group}: {name}": paper | change for group, names in groups.items() for name, change in names.items()}
    return {BASE: paper, **changed}


def measure(shop: Shop, test: str, settings: dict[str, dict[str, Any]]) -> list[Report]:
    """A report for each variant, together with the paper's setting."""
    train, held_out = shop.split_by_time(test)
    fitted: dict[str, ItemInteraction] = {}
    reports = []
    for name, chosen in settings.items():
        begun = time.monotonic()
        fitted[name] = ItemInteraction(**chosen).fit(train)
        two = {BASE: fitted[BASE], name: fitted.pop(name) if name != BASE else fitted[BASE]}
        reports.append(evaluate((train, held_out), two, test=test))
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return reports


def row_of(log: str, name: str, outcome: Report, command: str) -> Row:
    figures = outcome.models[name]
    values = ", ".join(f"{figures[metric].value:.4f}" for metric in METRICS)
    ours = f"n={figures[METRICS[0]].n}"
    for pair in outcome.paired:
        if pair.metric == METRICS[0]:
            sign = 1 if pair.a == name else -1
            low, high = np.sort([sign * pair.low, sign * pair.high])
            ours = f"{sign * pair.difference:+.4f} [{low:+.4f}, {high:+.4f}]"
    return Row(what=f"{log}: {name}", ours=ours, reference=values, command=command)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=("simulated", "jd-sessions"), action="append", help="one log; repeatable")
    given = parser.parse_args()
    for log in given.only or (["simulated"] if given.quick else ["simulated", "jd-sessions"]):
        if log == "simulated":
            shop, test = simulated(given.quick)
        else:
            shop, test = SHOPS[log](data_folder(given.data, log)), "1d"
        settings = variants(given.quick)
        outcomes = measure(shop, test, settings)
        command = f"python benchmarks/ablations.py {'--data DIR ' if log != 'simulated' else ''}--only {log}"
        rows = [row_of(log, name, outcome, command) for name, outcome in zip(settings, outcomes, strict=True)]
        report(f"ablations, {log}", log, rows, given.json, quick=given.quick, notes=NOTES)


if __name__ == "__main__":
    main()
