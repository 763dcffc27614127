"""CoActionGraphRec without one part at a time, on logs of shops: what each part is worth.

    python benchmarks/coaction_ablations.py --data DIR [--only LOGS] [--json FILE] [--quick] [--work DIR]

Every new item of the people of the test part (retailrocket-dense: last 14 days; jd-sessions: last tenth; UCI Online
Retail: last 14 days; a simulated shop with planted substitutes and complements: last 14 days), full ranking, recall@20
and ndcg@20, and the paired difference from the full model with its 95 % interval over people. All variants have the
same size, epochs at most, and early stop by validation inside the training part. So that a table takes an hour of one
core, larger logs are cut down to people with about 40,000 events, the simulated shop has 30,000, at most 3,000
questions are asked, and the variants of `MORE` are trained on jd-sessions alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from _real import SHOPS, data_folder
from _report import Row, report, write_json
from _tables import figure, table_arguments
from endcap import Shop, evaluate, models, simulate
from endcap.evaluate.report import Report
from endcap.models import Model
from endcap.simulate import ShopSettings

BASE: dict[str, Any] = {"batch_size": 512, "learning_rate": 2e-3, "epochs": 6, "patience": 2, "longest": 20}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no co-action": {"relations": "none"},
    "neighbours shuffled": {"shuffle_neighbours": True},
    "no edge features": {"edges": []},
    "one interest": {"interests": 1},
    "lambda 0": {"dual_loss": 0.0},
    "lambda .1": {"dual_loss": 0.1},
    "lambda .3": {"dual_loss": 0.3},
    "lambda .4": {"dual_loss": 0.4},
}
MORE: dict[str, dict[str, Any]] = {
    "co-click only": {"relations": "click"},
    "co-purchase only": {"relations": "purchase"},
    "no explicit interaction": {"explicit": False},
    "logQ off": {"logq": 0.0},
}
MORE_ON = "jd-sessions"
BY_REGIME = {"full": "lambda .2", **{name: name for name in VARIANTS if name.startswith("lambda")}}
AT_MOST, EVENTS = 3_000, 40_000
BASELINES = ("item-knn", "recent-popularity")
TESTS = {"retailrocket-dense": "14d", "jd-sessions": "0.1", "uci-online-retail": "14d", "simulated": "14d"}
METRICS = ("recall@20", "ndcg@20")


def simulated(quick: bool) -> Shop:
    made = simulate.tables(ShopSettings(events=10_000 if quick else 30_000, users=2_500, seed=0))
    return Shop.from_tables(made.events, made.items)


def some_of(name: str, data: Path | None) -> Shop:
    """A log, or the part of it that some of its people made."""
    return SHOPS[name](data_folder(data, name)).some_people(EVENTS)


def trained(folder: Path, train: Shop, settings: dict[str, Any], seed: int, threads: int) -> Model:
    """A variant, trained or opened from an earlier run."""
    if folder.exists():
        opened = models.open(folder)
        assert isinstance(opened, Model)
        return opened
    model = models.create("coaction-graph", settings)
    model.fit(train, seed=seed, threads=threads, show=True, checkpoint=folder.with_name(f".{folder.name}.training"))
    model.save(folder)
    return model


def ablate(log: str, shop: Shop, given: Any) -> list[Row]:
    """The rows of one log."""
    base = BASE | ({"epochs": 1, "dim": 16} if given.quick else {})
    train, test = shop.split_by_time(TESTS[log])
    entrants: dict[str, Any] = {name: name for name in BASELINES}
    for name, changed in {**VARIANTS, **(MORE if log == MORE_ON else {})}.items():
        folder = (
            given.work / f"ablations{'-quick' if given.quick else ''}" / log / f"{name.replace(' ', '-')}-{given.seed}"
        )
        entrants[name] = trained(folder, train, base | changed, given.seed, given.threads)
    outcome = evaluate(
        (train, test), entrants, protocol="next-item", lengths=(20, 50), seed=given.seed, threads=given.threads,
        every=True, at_most=AT_MOST, by_segment=True, show=True,
    )  # fmt: skip
    outcome.print()
    differences = {(d.a, d.b, d.metric): d for d in outcome.paired}
    rows = []
    for name in entrants:
        texts = []
        for metric in METRICS:
            pair = differences.get(("full", name, metric))
            if pair is not None:
                texts.append(f"{metric} {-pair.difference:+.4f} [{-pair.high:+.4f}, {-pair.low:+.4f}]")
        rows.append(
            Row(
                what=f"{log}: {name}: {', '.join(METRICS)}",
                ours="; ".join(figure(outcome, name, metric) for metric in METRICS),
                reference=("against full: " + "; ".join(texts)) if texts else "",
                command=f"python benchmarks/coaction_ablations.py --data DIR --only {log} --seed {given.seed}",
            )
        )
    return rows + regime_rows(log, outcome)


def regime_rows(log: str, outcome: Report) -> list[Row]:
    """The sweep of lambda by how often the wanted item was acted on in the training part."""

    def in_bands(name: str) -> str:
        figures = {band: found[name][outcome.headline] for band, found in by_item.items() if name in found}
        return "; ".join(f"{band}: {f.value:.4f} [{f.low:.4f}, {f.high:.4f}], n={f.n}" for band, f in figures.items())

    by_item = outcome.segments["item actions"]
    return [
        Row(
            what=f"{log}: {label}: {outcome.headline} by actions of the item",
            ours=in_bands(name),
            command=f"python benchmarks/coaction_ablations.py --data DIR --only {log}",
        )
        for name, label in sorted(BY_REGIME.items(), key=lambda pair: pair[1])
    ]


def main() -> None:
    given = table_arguments(__doc__ or "").parse_args()
    logs = given.only.split(",") if given.only else list(TESTS)
    rows: list[Row] = []
    makers: dict[str, Callable[[], Shop]] = {
        name: (lambda name=name: some_of(name, given.data)) for name in TESTS if name in SHOPS
    }
    makers["simulated"] = lambda: simulated(given.quick)
    for log in logs:
        found = ablate(log, makers[log](), given)
        report(f"coaction_ablations-{log}", log, found, None, quick=given.quick)
        rows += found
    if given.json is not None:
        write_json(given.json, "coaction_ablations", ", ".join(logs), rows, quick=given.quick)


if __name__ == "__main__":
    main()
