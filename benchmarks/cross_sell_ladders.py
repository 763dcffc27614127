"""Two ladders of graph cross-sell: what every further kind of node or edge adds, and every further kind of network.

    python benchmarks/cross_sell_ladders.py [--data DIR] [--json FILE] [--quick] [--only ROWS] [--seed N] [--work DIR]

Without `--data` on a simulated shop of a year; DIR is uci-online-retail, or holds it. UCI has neither categories nor
brands nor visits: the rungs that would add these are left out. The last 60 days are the test part, asked by the
protocol cross-sell; `--dev` asks about the 60 days before them and leaves these alone. A difference is that to the rung
below, on the same questions. Every rung has the same settings, the defaults but for `NETWORK`, and is trained once: an
interval is over baskets and says nothing of another seed of the training. What the catalogue says of a product is among
the features of every network: the rung of categories and brands adds the products that messages come from.
"""

from __future__ import annotations

from typing import Any

from _real import data_folder, uci
from _report import Row, report
from _tables import Rows, chosen, cost_of, figure, table_arguments, trained
from endcap import Shop, evaluate, simulate
from endcap.evaluate.report import Report
from endcap.simulate import ShopSettings

TEST = "60d"
SIMULATED = ShopSettings(
    events=300_000, items=2_000, users=10_000, seed=5, days=365, converts=0.8, checkout=0.9, best=0
)  # fmt: skip
NETWORK: dict[str, Any] = {  # catalogue links are off: they are what categories and brands add
    "score_by": "network", "complement": "none", "catalogue_links": 0, "dim": 32, "epochs": 30, "patience": 5,
}  # fmt: skip


def typed(types: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    return "cross-sell", {**NETWORK, "encoder": "typed", "types": types, **settings}


ROWS: Rows = {
    "rules": ("association-rules", {}),
    "factorisation": ("als", {"factors": 64}),
    "sage": ("cross-sell", {**NETWORK, "encoder": "sage"}),
    "gat": ("cross-sell", {**NETWORK, "encoder": "gat"}),
    "pinsage": ("cross-sell", {**NETWORK, "encoder": "pinsage"}),
    "homogeneous": typed("none"),
    "+ category and brand": typed("category,brand"),
    "+ user": typed("category,brand,user"),
    "+ browse": typed("category,brand,user,browse"),
    "+ occasion": typed("all"),
    "+ temporal": typed("all", directed=True, next_weight=0.5),
}
LADDERS = (
    ("homogeneous", "+ category and brand", "+ user", "+ browse", "+ occasion", "+ temporal"),
    ("rules", "factorisation", "sage", "gat", "+ occasion", "+ temporal", "pinsage"),
)
NOT_ON_UCI = {"+ category and brand", "+ browse"}
HIT, FAIR = "hit_rate@10", "hit_rate@10/popularity1000"
METRICS = (HIT, "mrr", "hit_rate@10/uniform1000", FAIR)


def main() -> None:
    given = table_arguments(__doc__ or "").parse_args()
    name = "simulated" if given.data is None else "uci-online-retail"
    train, test = _log(given).split_by_time(TEST)
    if given.dev:
        train, test = train.split_by_time(TEST)
        name += "-dev"
    possible = {row: of for row, of in ROWS.items() if given.data is None or row not in NOT_ON_UCI}
    rows = chosen(possible, given)
    models = trained(rows, train, given, f"cross_sell_ladders-{name}", hold_back=False)
    outcome = evaluate(
        (train, test), models, protocol="cross-sell", lengths=(10,), at_most=300 if given.quick else None,
        seed=given.seed, threads=given.threads, show=True,
    )  # fmt: skip
    outcome.print()
    for row, model in models.items():
        for layer, gates in (model.gates() if hasattr(model, "gates") else {}).items():
            if layer.endswith("product"):
                print(f"{row}, {layer}: " + ", ".join(f"{relation} {gate:.3f}" for relation, gate in gates.items()))
    if given.dev:
        return
    found = []
    for title, ladder in zip(("nodes and edges", "networks"), LADDERS, strict=True):
        rungs = [row for row in ladder if row in rows]
        below = dict(zip(rungs[1:], rungs, strict=False))
        found += [_row(outcome, title, row, below.get(row), given, f"cross_sell_ladders-{name}") for row in rungs]
    report(
        f"cross_sell_ladders_{name.partition('-')[0]}", name, found, given.json, quick=given.quick,
        notes=f"{outcome.data['queries']:,} baskets of the last {TEST}, {train.n_items:,} products. `+ occasion` and "
        "`+ temporal` of the first ladder are the typed and the temporal network of the second.",
    )  # fmt: skip


def _log(given: Any) -> Shop:
    if given.data is not None:
        return uci(data_folder(given.data, "uci-online-retail"))
    settings = SIMULATED
    if given.quick:
        settings = ShopSettings(events=20_000, items=300, users=1_500, days=365, converts=0.8, checkout=0.9, best=0)
    made = simulate.tables(settings)
    return Shop.from_tables(made.events, made.items)


def _row(outcome: Report, ladder: str, row: str, below: str | None, given: Any, folder: str) -> Row:
    against = (
        [] if below is None else [f"{_difference(outcome, row, below, metric)} ({metric})" for metric in (HIT, FAIR)]
    )
    data = "" if given.data is None else " --data DIR"
    return Row(
        what=f"{ladder}: {row}",
        ours="; ".join(f"{metric} {figure(outcome, row, metric)}" for metric in METRICS),
        reference=f"over {below}: " + "; ".join(against) if below else None,
        command=f"python benchmarks/cross_sell_ladders.py{data} --seed {given.seed}, {cost_of(given, folder, row)}",
    )


def _difference(outcome: Report, a: str, b: str, metric: str) -> str:
    for found in outcome.paired:
        if found.metric == metric and {found.a, found.b} == {a, b}:
            sign = 1 if found.a == a else -1
            low, high = sorted((sign * found.low, sign * found.high))
            return f"{sign * found.difference + 0.0:+.4f} [{low + 0.0:+.4f}, {high + 0.0:+.4f}]"
    raise ValueError(f"{a} and {b} were not compared")


if __name__ == "__main__":
    main()
