"""Links that somebody vouches for: a held-out one among 1,000 products that are not linked with what is asked about.

    python benchmarks/cross_sell_grocery.py --data DIR [--file FILE] [--log FILE] [--json FILE] [--only ROWS] [--dev]

DIR is amazon-grocery-relations, or holds it; `--file` takes any other table of item, other and relation (.parquet or
.csv), `--log` what people took (.csv: user, item, time). Held-out links are a matching: each product is in one of them
at most and keeps a link at least; both directions leave the graph, and either end is asked about. Negatives are any
products but those linked with it in either direction, held out or not. Settings were chosen on a second matching
(`--dev` prints its figures and leaves the test alone). Equal scores are in random order. Rows of one column are
not trained. The links row learns from matchings of the links that are left, and knows the log. Substitutes (A): known,
held-out links taken out of them, too; (B): all of them, so that what is a substitute is a hint that it is also linked.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from scipy.sparse import csr_array

from _real import data_folder
from _report import Row, report
from _tables import table_arguments
from complement import relations_of
from endcap import Shop, models
from endcap.answers import Items, Request
from endcap.artefact import write_atomically
from endcap.graph import graph_of
from endcap.metrics import bootstrap_mean, paired_bootstrap, tied_hit_rate, tied_mrr, tied_ndcg
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.links import LinkEvidence, Told, both_ways, matching
from endcap.shop.relations import COMPLEMENTS, SUBSTITUTES, Relations

HELD_OUT, NEGATIVES = 2_525, 1_000
QUICK = (200, 200)
K = 10
LOOKED = 1_300_000_000  # seconds: when everybody looked, where there is no log

COLUMNS = {
    "degree": "links", "common neighbours": "common", "Adamic-Adar": "adamic-adar",
    "resource allocation": "allocation", "neighbour cosine": "cosine", "three-step walk": "walk3",
    "PageRank over root degree": "pagerank", "closed form": "closed form", "people": "people",
}  # fmt: skip
"""What a row of one column is called -> the column."""
PLAIN = {"complement": "none", "text": "none", "epochs": 5, "negatives": 1024, "in_batch": False, "validation": 0.02}
NETWORKS: dict[str, dict[str, Any]] = {
    "network": {"score_by": "network"},
    "network, GraphSAGE": {"score_by": "network", "encoder": "sage"},
    "network, GAT": {"score_by": "network", "encoder": "gat"},
    "network, PinSage": {"score_by": "network", "encoder": "pinsage"},
}
LINKS: dict[str, Any] = {  # the network beside it is as small as it gets: here the links are what scores
    "score_by": "links", "layers": 0, "dim": 8, "epochs": 1, "negatives": 64, "questions": 64,
}  # fmt: skip
OURS = {"links": None, "links with substitutes (A)": "A", "links with substitutes (B)": "B"}
REFERENCE = {
    "degree": ".019 / .006 / .009", "common neighbours": ".613 / .376 / .433", "Adamic-Adar": ".649 / .410 / .467",
    "resource allocation": ".662 / .429 / .484", "neighbour cosine": ".662 / .443 / .496",
    "PageRank over root degree": ".696 / .463 / .519",
}  # fmt: skip
TARGET = (0.75, 0.51)


class Task(NamedTuple):
    """Questions and what may be known.

    Attributes:
        relations: without the complements among `held`, (h, 2) the links of this and earlier matchings;
        pairs: (n, 2) what is asked about, and what is to be found; negatives: (n, m).
    """

    shop: Shop
    relations: pa.Table
    held: NDArray[np.int64]
    pairs: NDArray[np.int64]
    negatives: Items

    @property
    def candidates(self) -> Items:
        """(n, 1 + m), the target first."""
        return np.column_stack([self.pairs[:, 1], self.negatives]).astype(np.int32)


def main() -> None:
    parser = table_arguments(__doc__ or "")
    parser.add_argument("--file", type=Path, help="another table of links: item, other, relation, .parquet or .csv")
    parser.add_argument("--log", type=Path, help="what people took, .csv: user, item, time; with --data its train.csv")
    given = parser.parse_args()
    rows = [*COLUMNS, *OURS, *NETWORKS]
    wanted = given.only.split(",") if given.only else rows
    if unknown := set(wanted) - set(rows):
        raise SystemExit(f"--only {given.only}: there is no row {min(unknown)!r}; there are: {', '.join(rows)}")
    name, relations = relations_of(given)
    log = given.log or (None if given.file else data_folder(given.data, "amazon-grocery-relations") / "train.csv")
    shop = shop_of(relations, log)
    task = task_of(shop, relations, given)
    print(f"{shop.n_items:,} products, {len(task.pairs):,} held-out links, {task.negatives.shape[1]:,} negatives")
    scores = column_scores(task, [row for row in wanted if row in COLUMNS])
    cost = dict[str, str]()
    for row in wanted:
        if row not in COLUMNS:
            model, cost[row] = trained(row, task, name, given)
            began = time.process_time()
            scores[row] = asked(model, task)
            cost[row] += f", {1000 * (time.process_time() - began) / len(task.pairs):.1f} CPU-ms a question"
        print(row, written(gains_of(scores[row])), cost.get(row, ""), flush=True)
    if given.dev:
        return
    gains = {row: gains_of(found) for row, found in scores.items()}
    command = f"python benchmarks/cross_sell_grocery.py --data DIR --seed {given.seed}"
    found = [result(row, gains.get(row), cost.get(row, ""), command, given) for row in rows]
    report(
        "cross_sell_grocery", name, [*found, *differences(gains, command)], given.json,
        quick=given.quick or bool(given.file), notes=(__doc__ or "").split("\n\n", 2)[2].replace("\n", " "),
    )  # fmt: skip


# -- what is known, and what is asked ----------------------------------------------------------------------------------


def shop_of(relations: pa.Table, log: Path | None) -> Shop:
    """A shop of all items of the links, with what people took; without a log everybody looked at one item."""
    linked = sorted(set(relations["item"].to_pylist()) | set(relations["other"].to_pylist()))
    n = len(linked)
    events = pa.table({"user": linked, "item": linked, "interaction": ["click"] * n, "time": [LOOKED] * n})
    if log is not None:
        table = pa_csv.read_csv(log)
        user, item, when = (table.column(place) for place in range(3))
        events = pa.table({
            "user": user.cast(pa.string()), "item": item.cast(pa.string()),
            "interaction": pa.repeat("purchase", len(table)), "time": when,
        })  # fmt: skip
    known = sorted({*linked, *events["item"].to_pylist()})
    seconds = events["time"].cast(pa.timestamp("s", tz="UTC"))
    return Shop.from_tables(events.set_column(3, "time", seconds), pa.table({"item": known}))


def task_of(shop: Shop, relations: pa.Table, given: argparse.Namespace) -> Task:
    """The test links, or with `--dev` those of a second matching, of a graph without the test links."""
    n_pairs, n_negatives = QUICK if given.quick else (HELD_OUT, NEGATIVES)
    known = both_ways(graph(shop, relations))
    if known.nnz == 0:
        raise SystemExit(f"no link is called {' or '.join(COMPLEMENTS)}: there is nothing to hold out")
    pairs = matching(known, np.random.default_rng([given.seed, 1]), n_pairs)
    held = pairs
    left = without(shop, relations, held, COMPLEMENTS)
    if given.dev:
        pairs = matching(both_ways(graph(shop, left)), np.random.default_rng([given.seed, 2]), n_pairs)
        held = np.concatenate([held, pairs])
        left = without(shop, relations, held, COMPLEMENTS)
    rng = np.random.default_rng([given.seed, 3])
    negatives = np.empty((len(pairs), n_negatives), np.int32)
    for row, asked_about in enumerate(pairs[:, 0].tolist()):
        clean = np.ones(shop.n_items, bool)
        clean[[asked_about, *known[[asked_about]].indices]] = False
        negatives[row] = rng.choice(np.flatnonzero(clean), n_negatives, replace=False)
    return Task(shop, left, held, pairs, negatives)


def graph(shop: Shop, relations: pa.Table) -> csr_array:
    """The complements, as they point."""
    rows = Relations.read(relations, shop.items)
    kind = rows.known & rows.named(COMPLEMENTS)
    return graph_of(rows.item[kind], rows.other[kind], shape=(shop.n_items, shop.n_items))


def without(shop: Shop, relations: pa.Table, pairs: NDArray[np.int64], names: tuple[str, ...]) -> pa.Table:
    """The table without the pairs (n, 2) under these names, in both directions."""
    rows, (low, high) = Relations.read(relations, shop.items), np.sort(pairs, axis=1).T
    keys = np.minimum(rows.item, rows.other) * shop.n_items + np.maximum(rows.item, rows.other)
    return relations.filter(pa.array(~(np.isin(keys, low * shop.n_items + high) & rows.named(names))))


# -- rows --------------------------------------------------------------------------------------------------------------


def column_scores(task: Task, rows: list[str]) -> dict[str, NDArray[np.floating]]:
    """(n, 1 + m) of each row of one column."""
    taken = task.shop.positives
    seen = graph_of(taken.user, taken.item, shape=(task.shop.n_users, task.shop.n_items), loops=True)
    evidence = LinkEvidence(Told(graph(task.shop, task.relations), seen=seen))
    place = [list(evidence.forms).index(COLUMNS[row]) for row in rows]
    n = len(task.pairs)
    row = np.ones(n, np.float32), task.pairs[:, 0], np.arange(n + 1)
    blocks = evidence.columns(csr_array(row, (n, task.shop.n_items)), task.candidates)
    found = np.concatenate([block[..., place] for block in blocks])
    return {row: found[..., column] for column, row in enumerate(rows)}


def trained(row: str, task: Task, name: str, given: argparse.Namespace) -> tuple[CrossSell, str]:
    """The model of a row, fitted and kept, or opened from an earlier run; and what fitting it took."""
    kind = f"{name}-links{'-dev' if given.dev else ''}{'-quick' if given.quick else ''}"
    folder = given.work / kind / f"{row.replace(' ', '-')}-{given.seed}"
    if not folder.exists():
        began = time.process_time()
        fitted(row, task, given).save(folder)
        taken = f"; {time.process_time() - began:.0f} CPU-s to fit"
        write_atomically(folder.with_name(f"{folder.name}.cost.txt"), taken)
    model = models.open(folder)
    assert isinstance(model, CrossSell)
    return model, folder.with_name(f"{folder.name}.cost.txt").read_text(encoding="utf-8")


def fitted(row: str, task: Task, given: argparse.Namespace) -> CrossSell:
    """The model of a row, as any shop would fit it."""
    table, with_substitutes = task.relations, OURS.get(row)
    settings = PLAIN | (NETWORKS[row] if row in NETWORKS else LINKS | {"rivals_hidden": with_substitutes == "A"})
    if with_substitutes == "A":
        table = without(task.shop, table, task.held, SUBSTITUTES)
    elif with_substitutes is None:
        table = table.filter(pa.array(Relations.read(table, task.shop.items).named(COMPLEMENTS)))
    if given.quick:
        settings |= {"epochs": 1, "dim": 8, "link_matchings": 1, "link_pairs": 300}
    return CrossSell(**settings).with_relations(table).fit(task.shop, seed=given.seed, threads=given.threads)


def asked(model: CrossSell, task: Task) -> NDArray[np.floating]:
    """(n, 1 + m) what the model says of the candidates."""
    return np.stack([
        model.score(Request(item=item, k=K), candidates)
        for item, candidates in zip(task.pairs[:, 0].tolist(), task.candidates, strict=True)
    ])  # fmt: skip


Gains = tuple[NDArray[np.floating], ...]


def gains_of(scores: NDArray[np.floating]) -> Gains:
    """HR@10, MRR@10 and NDCG@10 of each question, (n,)."""
    above, ties = (compared.sum(1) for compared in (scores[:, 1:] > scores[:, :1], scores[:, 1:] == scores[:, :1]))
    return tuple(metric(above, ties, K) for metric in (tied_hit_rate, tied_mrr, tied_ndcg))


def written(gains: Gains) -> str:
    return " / ".join(f"{gain.mean():.4f}" for gain in gains)


def result(row: str, gains: Gains | None, cost: str, command: str, given: argparse.Namespace) -> Row:
    """A row with intervals over held-out links."""
    of_file = given.file is None
    target = ".75 / .51" if row == "links" and of_file else None
    reference = REFERENCE.get(row) if of_file else None
    if gains is None:
        return Row(what=row, reference=reference, target=target)
    everyone = np.arange(len(gains[0]))
    intervals = [bootstrap_mean(gain, everyone) for gain in gains]
    return Row(
        what=f"{row}: HR@10 / MRR@10 / NDCG@10",
        ours=" / ".join(f"{one.value:.4f} [{one.low:.4f}, {one.high:.4f}]" for one in intervals) + cost,
        reference=reference, target=target,
        met=all(gain.mean() >= goal for gain, goal in zip(gains, TARGET, strict=False)) if target else None,
        command=command,
    )  # fmt: skip


def differences(gains: dict[str, Gains], command: str) -> list[Row]:
    """The links rows less the best row of one column, on the same questions."""
    simple = {row: found for row, found in gains.items() if row in COLUMNS}
    if not simple:
        return []
    found = []
    for row in (row for row in OURS if row in gains):
        ours = []
        best = [max(simple, key=lambda name, place=place: simple[name][place].mean()) for place in range(2)]
        for place, (metric, name) in enumerate(zip(("HR@10", "MRR@10"), best, strict=True)):
            gap = paired_bootstrap(gains[row][place], simple[name][place], np.arange(len(gains[row][place])))
            ours.append(f"{metric} {gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] to {name}")
        found.append(Row(what=f"{row} less the best row of one column", ours="; ".join(ours), command=command))
    return found


if __name__ == "__main__":
    main()
