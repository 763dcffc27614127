"""Which settings of item-interaction win on several logs, not on one: what the defaults rest on.

    python benchmarks/defaults.py --data DIR [--json FILE] [--quick]

Variants of the paper's settings, one or two away, on four logs; the best over all of them is the default. Everything
happens inside the training parts of the other benchmarks: each variant trains on the first nine tenths of a training
part and is judged on the last, by the objective of `endcap train --tune`; no test part is read. A variant's figure is
its value relative to the best variant of the same log, averaged over the logs; `without` is the same with each log left
out in turn, so that one log alone cannot make a winner.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from _real import SHOPS, data_folder
from _report import Row, arguments, report
from endcap import ItemInteraction, Shop, simulate
from endcap.evaluate.tuner import Judge
from endcap.simulate import ShopSettings

COMMON = {"dim": 48, "session_filter": "none", "sellers": False, "ns_exponent": 0.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "the paper's settings": {},
    "learning_rate 0.05": {"learning_rate": 0.05},
    "learning_rate 0.025": {"learning_rate": 0.025},
    "epochs 15": {"epochs": 15},
    "epochs 30": {"epochs": 30},
    "learning_rate 0.05, epochs 30": {"learning_rate": 0.05, "epochs": 30},
    "ns_exponent 0.5": {"ns_exponent": 0.5},
    "window 10": {"window": 10},
    "no regulariser": {"reg_k": 0},
    "reg_k 10": {"reg_k": 10},
    "reg. by share": {"reg_weighting": "share"},
    "subsample 0.001": {"subsample": 0.001},
}
LAST_EVENTS = 40_000  # of a log, so that a variant takes seconds
COMMAND = "python benchmarks/defaults.py --data DIR"


def simulated() -> Shop:
    made = simulate.tables(ShopSettings(events=LAST_EVENTS, seed=1))
    return Shop.from_tables(made.events, made.items)


def training_part(shop: Shop, test: str) -> Shop:
    """The last events of what the other benchmarks train on."""
    train, _ = shop.split_by_time(test)
    times = np.sort(train.events.time)
    return train if len(times) <= LAST_EVENTS else train.since(int(times[-LAST_EVENTS]))


def main() -> None:
    parser = arguments(__doc__ or "")
    given = parser.parse_args()
    logs = {"simulated": training_part(simulated(), "7d")}
    if not given.quick:
        for name, test in (("retailrocket-dense", "28d"), ("jd-sessions", "1d"), ("uci-online-retail", "28d")):
            logs[name] = training_part(SHOPS[name](data_folder(given.data, name)), test)
    variants = dict(list(VARIANTS.items())[:3]) if given.quick else VARIANTS
    common = COMMON | ({"epochs": 5} if given.quick else {})
    values = np.zeros((len(variants), len(logs)))
    for column, (log, shop) in enumerate(logs.items()):
        judge = Judge(shop, "0.1")
        for row, (name, settings) in enumerate(variants.items()):
            begun = time.monotonic()
            model = ItemInteraction(**common | settings).fit(judge.before, threads=1)
            values[row, column] = judge.value(judge.found(model, threads=1))
            said = f"{log}: {name}: {values[row, column]:.4f}, {time.monotonic() - begun:.0f} s"
            print(said, file=sys.stderr, flush=True)
    relative = values / values.max(axis=0)
    order = np.argsort(-relative.mean(axis=1), kind="stable")
    rows = [
        Row(
            what=list(variants)[row],
            ours=f"{relative[row].mean():.4f}",
            reference=", ".join(f"{log} {value:.4f}" for log, value in zip(logs, values[row], strict=True)),
            command=COMMAND,
        )
        for row in order.tolist()
    ]
    report("defaults", ", ".join(logs), rows, given.json, quick=given.quick, notes=_notes(variants, logs, relative))


def _notes(variants: dict[str, Any], logs: dict[str, Shop], relative: np.ndarray) -> str:
    """Who wins with each log left out."""
    names = list(variants)
    winners = [
        f"without {log}: {names[int(np.delete(relative, column, axis=1).mean(axis=1).argmax())]}"
        for column, log in enumerate(logs)
        if len(logs) > 1
    ]
    return (
        "Validation parts inside the training parts; one seed; differences under one or two hundredths are noise. "
        f"The winner {'; '.join(winners)}."
    )


if __name__ == "__main__":
    main()
