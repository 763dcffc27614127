"""Purchase intent on real logs: item-interaction embeddings against every baseline, one table a log.

    python benchmarks/purchase_intent.py --data DIR [--only retailrocket-dense] [--json FILE] [--quick]

Headline: lists of 200 for each item seen, a target is matched against the lists of other items only; intervals over
people. All choices of a model are made inside the training part; the test part is read once.
"""

from __future__ import annotations

from typing import Any

from _real import SHOPS, data_folder
from _report import Row, arguments, report
from endcap import evaluate

LOGS: dict[str, dict[str, Any]] = {
    "retailrocket-dense": {"test": "28d"},
    "jd-sessions": {"test": "1d"},
    "uci-online-retail": {"test": "28d"},
}
EMBEDDING = {"dim": 100, "epochs": 60}
LARGE = {"dim": 50, "epochs": 5}  # one kind of interaction, long sessions: 400,000 lines
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "item-interaction": ("item-interaction", {}),
    "item-interaction, reg. by share": ("item-interaction", {"reg_weighting": "share"}),
    "item-interaction, no reg.": ("item-interaction", {"reg_k": 0}),
    "untyped": ("sgns", {}),
    "untyped + reg.": ("sgns", {"reg_k": 3}),
    "co-occurrence": ("co-occurrence", {}),
    "co-purchase": ("co-purchase", {}),
    "item-knn": ("item-knn", {}),
    "als": ("als", {}),
    "als-typed": ("als-typed", {}),
    "popularity": ("popularity", {}),
    "recent-popularity": ("recent-popularity", {}),
}
OURS = "item-interaction"
RIVALS = ("co-occurrence", "untyped", "untyped + reg.", "item-interaction, no reg.", "item-knn")


def settings(quick: bool, embedding: dict[str, Any]) -> dict[str, dict[str, Any]]:
    embedding = embedding | ({"epochs": 3, "dim": 32} if quick else {})
    return {
        name: (embedding if system in ("item-interaction", "sgns") else {}) | given
        for name, (system, given) in MODELS.items()
    }


def rows_of(name: str, outcome: Any, command: str) -> list[Row]:
    headline = outcome.headline
    rows = []
    for model, figures in outcome.models.items():
        value = figures[headline]
        short = ", ".join(f"@{k} {figures[f'purchase_intent@{k}'].value:.4f}" for k in (10, 40))
        own = figures["purchase_intent_own@200"].value
        rows.append(
            Row(
                what=f"{name}: {model}",
                ours=f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}] n={value.n}",
                reference=f"{short}, own item counted {own:.4f}, items covered {figures['coverage_items'].value:.0%}",
                command=command,
            )
        )
    for difference in outcome.paired:
        a, b, sign = difference.a, difference.b, 1
        if difference.metric != headline or OURS not in (a, b):
            continue
        if b == OURS:
            a, b, sign = b, a, -1
        if b not in RIVALS:
            continue
        low, high = sorted((sign * difference.low, sign * difference.high))
        target = "above 0" if name == "retailrocket-dense" and b in ("co-occurrence", "untyped") else None
        rows.append(
            Row(
                what=f"{name}: {a} minus {b}",
                ours=f"{sign * difference.difference:+.4f} [{low:+.4f}, {high:+.4f}]",
                target=target,
                met=None if target is None else low > 0,
                command=command,
            )
        )
    return rows


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", choices=sorted(LOGS), action="append", help="one log; repeatable")
    given = parser.parse_args()
    for name in given.only or LOGS:
        shop = SHOPS[name](data_folder(given.data, name))
        outcome = evaluate(
            shop,
            {model: system for model, (system, _) in MODELS.items()},
            settings=settings(given.quick, LARGE if name == "uci-online-retail" else EMBEDDING),
            threads=2,
            show=True,
            **LOGS[name],
        )
        outcome.print()
        rows = rows_of(name, outcome, f"python benchmarks/purchase_intent.py --data DIR --only {name}")
        report(f"purchase_intent, {name}", name, rows, given.json, quick=given.quick)


if __name__ == "__main__":
    main()
