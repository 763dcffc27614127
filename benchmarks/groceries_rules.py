"""Frequent itemsets and association rules of the Groceries set, against the counts that are known of it.

    python benchmarks/groceries_rules.py --data DIR [--json FILE]

DIR is the folder of groceries.csv, or holds it. The reference counts are those that any exact miner gives for 9,835
baskets of 169 products; they must be met exactly.
"""

from __future__ import annotations

import numpy as np

from _baskets import basket_file
from _real import data_folder
from _report import Row, arguments, report
from endcap.graph import baskets_of
from endcap.models.rules import Rules, itemsets, rules
from endcap.shop import Vocabulary

COMMAND = "python benchmarks/groceries_rules.py --data DIR"
KNOWN = {  # (support, confidence): frequent itemsets, rules by size
    (0.006, 0.25): (747, {2: 150, 3: 297, 4: 16}),
    (0.001, 0.8): (13_492, {3: 29, 4: 229, 5: 140, 6: 12}),
    (0.001, 0.5): (13_492, 5_668),
    (0.01, 0.5): (333, 15),
}
LIFTS = {(0.006, 0.25): "mean 2.035, largest 3.956 (herbs -> root vegetables)", (0.001, 0.8): "largest 11.235"}


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    shop = basket_file(data_folder(given.data, "groceries") / "groceries.csv")
    baskets = baskets_of(shop, largest=0)
    rows = []
    for (support, confidence), (n_sets, known) in KNOWN.items():
        found = rules(baskets, min_support=support, min_confidence=confidence)
        sets = sum(len(level.item) for level in itemsets(baskets, min_support=support))
        sizes, counts = np.unique(found.size, return_counts=True)
        by_size = dict(zip(sizes.tolist(), counts.tolist(), strict=True))
        asked = f"support {support:g}, confidence {confidence:g}"
        rows.append(_row(f"itemsets, {asked}", sets, n_sets))
        rows.append(_row(f"rules, {asked}", by_size if isinstance(known, dict) else len(found), known))
        if (lifts := LIFTS.get((support, confidence))) is not None:
            rows.append(_row(f"lift, {asked}", _lifts(shop.items, found, lifts.startswith("mean")), lifts))
    report("groceries_rules", "groceries.csv, 9,835 baskets", rows, given.json, quick=given.quick)


def _lifts(names: Vocabulary, found: Rules, whole: bool) -> str:
    best = int(np.argmax(found.lift))
    if not whole:
        return f"largest {found.lift[best]:.3f}"
    sides = found.sets[found.offsets[found.given[best]] : found.offsets[found.given[best] + 1]]
    rule = f"{', '.join(names[item] for item in sides)} -> {names[found.then[best]]}"
    return f"mean {found.lift.mean():.3f}, largest {found.lift[best]:.3f} ({rule})"


def _row(what: str, ours: object, reference: object) -> Row:
    return Row(
        what=what, ours=str(ours), reference=str(reference), target=str(reference), met=ours == reference,
        command=COMMAND,
    )  # fmt: skip


if __name__ == "__main__":
    main()
