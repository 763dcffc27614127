"""Our walk down boosted trees beside LightGBM's own, by rows of a question: CPU time, and whether both say the same.

    python benchmarks/trees.py [--json FILE] [--quick]

200 trees of 31 leaves over 40 columns, a tenth of them NaN: what a classifier of complements or a ranker asks with tens
to hundreds of rows.
"""

from __future__ import annotations

import lightgbm
import numpy as np

from _cost import cpu_ms
from _report import Row, arguments, report
from endcap.models.trees import Trees

COLUMNS, TREES, LEAVES, LEARNT_FROM = 40, 200, 31, 20_000
ROWS = (20, 50, 200, 1200)
ROUNDS = 200
COMMAND = "python benchmarks/trees.py"
TIMES = 1.5  # of LightGBM's CPU time


def main() -> None:
    given = arguments(__doc__).parse_args()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(LEARNT_FROM, COLUMNS)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    labels = np.nan_to_num(rows[:, 0]) + np.nan_to_num(rows[:, 1] * rows[:, 2]) > 0
    settings = {"objective": "binary", "num_leaves": LEAVES, "verbose": -1, "num_threads": 1, "seed": 0}
    grown = lightgbm.train(settings, lightgbm.Dataset(rows, labels), TREES)
    ours = Trees(grown.model_to_string(), COLUMNS, "binary sigmoid:1")
    theirs = lightgbm.Booster(model_str=ours.text)
    rounds, found = ROUNDS // 10 if given.quick else ROUNDS, []
    for n in ROWS:
        asked = np.ascontiguousarray(rows[:n])
        same = bool((ours.sums(asked) == theirs.predict(asked, raw_score=True)).all())
        own = cpu_ms(lambda asked=asked: ours.sums(asked), rounds)
        peer = cpu_ms(
            lambda asked=asked: theirs.predict(asked, raw_score=True, num_threads=1, validate_features=False), rounds
        )
        times = peer / own
        found.append(
            Row(
                what=f"{n:,} rows: LightGBM's CPU time over ours",
                ours=times,
                reference=f"{own:.3f} CPU-ms against {peer:.3f}",
                target=f">= {TIMES:g}",
                met=times >= TIMES and same,
                command=COMMAND,
            )
        )
        found.append(Row(what=f"{n:,} rows: the same to the last bit", ours=str(same), met=same, command=COMMAND))
    report("trees", "made rows", found, given.json, quick=given.quick)


if __name__ == "__main__":
    main()
