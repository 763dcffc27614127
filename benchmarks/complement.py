"""Complement or substitute: a classifier of pairs on relation files, and on a simulated shop whose truth is known.

    python benchmarks/complement.py --data DIR [--file FILE] [--json FILE] [--quick] [--only NAMES] [--splits N]

Node-disjoint: no item of a test pair is in a pair that was learnt from; test items keep their other edges in the
graphs. Edge-random: pairs are drawn. Either way the edges of all held-out pairs leave the graphs, and a pair's own edge
plays no part in its features. Figures are those of several splits together, test pairs alone, at the threshold one
half; intervals are over items. Boosting stops and all probabilities are calibrated on validation pairs. Relation files
are given structure alone: no category, price, brand or log. The simulated shop's catalogue lacks some values, as
catalogues do; facts are from the first half of its log and labels from what was done in the second; those from the
truth are of the same pairs, which it calls rivals or complements. Best reachable there: the label of each test pair
guessed from how often the truth has such a pair bought together, looked at in a row, and so on, counted on logs drawn
anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import coo_array

from _real import data_folder
from _report import Row, arguments, report, write_json
from endcap import Shop, simulate
from endcap.errors import InputError
from endcap.metrics import Interval, bootstrap_mean, paired_bootstrap
from endcap.models.complement import Complement
from endcap.models.complement.alike import ALIKE_NAMES
from endcap.models.complement.counts import BOUGHT, IN_ROW, count_pairs, places
from endcap.models.complement.features import Lesson, PairFacts
from endcap.models.complement.links import Links
from endcap.models.complement.measures import Judgement, judged
from endcap.models.complement.pairs import (
    Evidence,
    Pairs,
    Split,
    evidence_of,
    labelled_pairs,
    relation_links,
    some_pairs,
    split_pairs,
)
from endcap.shop import Events, Interactions, Vocabulary
from endcap.simulate import ShopSettings, catalogue
from endcap.simulate.log import KIND_NAMES, log_rows
from endcap.simulate.visits import ITEM, KIND, ORDER, PURCHASE, SESSION, TIME, USER
from endcap.simulate.world import Truth, make_truth

PLAIN = "boosting, without columns of likeness"
PARTS = ("relations", "all-pairs", "simulated", "unmet")
PER_LABEL, QUICK_PER_LABEL = 8_000, 1_000
NODE_SHARES = (0.5, 0.2, 0.3)  # of items: a part of the pairs is its square
PAPER = {"logistic": ".828, split unknown", "boosting": ".835, split unknown"}
SIMULATED = {"events": 500_000, "items": 2_000}
QUICK = {"events": 100_000, "items": 800}
SMALL = {"events": 60_000}  # and ten times as many items for each event
UNMET = 20_000  # pairs of either kind that nobody met
MISSING = {"category": 0.3, "brand": 0.2, "price": 0.1}  # share of items whose catalogue does not say
RULE = (1, 3, 2, 3.0)  # of labels from behaviour: min_bought, min_viewed, min_after, margin
REDRAWN = 5  # logs that the truth's rates are counted on
DRAWS = 200  # of counts from these rates

UNMET_NOTES = """Pairs that nobody looked at or bought both of, drawn by chance: of one leaf, which are rivals by the
truth, and of two leaves of an activity, which are complements. The classifier learns from behaviour alone, as
`Complement().fit(shop)` does. The catalogue of the shop with gaps lacks a category for three items of ten, which is
guessed from titles and from what was looked at in a row."""

Probabilities = NDArray[np.floating]


class Task(NamedTuple):
    """One split: what may be known, and the pairs of each part."""

    facts: PairFacts
    train: Pairs
    validation: Pairs
    test: Pairs
    seed: int


def by_method(method: str, without: Sequence[str] = ()) -> Callable[[Task], tuple[Probabilities, Probabilities]]:
    """Probabilities of the test pairs, raw and calibrated; trees see nothing of the columns `without`."""

    def ask(task: Task) -> tuple[Probabilities, Probabilities]:
        model = Complement(method=method).over(task.facts)
        gone = np.isin(model.names, [f"links: {name}" for name in without])
        lessons = (model.lesson(pairs) for pairs in (task.train, task.validation))
        train, validation = (_blank(lesson, gone) if without else lesson for lesson in lessons)
        model.fit_on(train, validation, seed=task.seed)
        return model.raw(task.test.left, task.test.right), model.probability(task.test.left, task.test.right)

    return ask


def _blank(lesson: Lesson, gone: NDArray[np.bool_]) -> Lesson:
    return lesson._replace(rows=np.where(gone, np.nan, lesson.rows), back=np.where(gone, np.nan, lesson.back))


METHODS: dict[str, Callable[[Task], tuple[Probabilities, Probabilities]]] = {
    "logistic": by_method("logistic"),
    PLAIN: by_method("boosting", ALIKE_NAMES),
    "boosting": by_method("boosting"),
    "gnn": by_method("gnn"),
}


class Outcome(NamedTuple):
    """Of all splits together: how good, with the interval of the accuracy; what was right; whose the pairs are."""

    judgement: Judgement
    accuracy: Interval
    right: NDArray[np.bool_]
    groups: NDArray[np.int32]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--file", type=Path, help="relations (item, other, relation), .parquet or .csv")
    parser.add_argument("--only", default=",".join(PARTS), help="parts of the table, with commas")
    parser.add_argument("--splits", type=int, default=3, help="so many splits, by seeds from 0")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        raise SystemExit(f"--only {given.only}: there is no part {min(unknown)!r}; there are: {', '.join(PARTS)}")
    notes = (__doc__ or "").split("\n\n", 2)[2].replace("\n", " ")
    rows, data = [], []
    for part, section in (("relations", "complement"), ("all-pairs", "complement_all_pairs")):
        if part in parts and not (given.quick and part == "all-pairs"):
            name, table = relations_of(given)
            data.append(name)
            found = relation_rows(table, given, all_pairs=part == "all-pairs")
            report(section, name, found, quick=given.quick, notes=notes)
            rows += found
    if "simulated" in parts:
        settings = ShopSettings(**(QUICK if given.quick else SIMULATED), best=0)
        data.append(f"simulated, version {simulate.VERSION}, {settings.events:,} events, {settings.items:,} items")
        found = simulated_rows(settings, given)
        report("complement_simulated", data[-1], found, quick=given.quick, notes=notes)
        rows += found
    if "unmet" in parts:
        shops = {"small": ShopSettings(**SMALL, best=0)}
        if not given.quick:
            shops["with gaps"] = ShopSettings(**SIMULATED, best=0)
        found = [row for name, settings in shops.items() for row in unmet_rows(name, settings, given)]
        data.append(f"simulated, version {simulate.VERSION}, {' and '.join(shops)}")
        report("complement_unmet", data[-1], found, quick=given.quick, notes=UNMET_NOTES)
        rows += found
    if given.json is not None:
        write_json(given.json, "complement", "; ".join(data), rows, quick=given.quick)


# -- relation files ----------------------------------------------------------------------------------------------------


def relations_of(given: argparse.Namespace) -> tuple[str, pa.Table]:
    """Name and (item, other, relation) of `--file`, else of amazon-grocery-relations."""
    path = given.file or data_folder(given.data, "amazon-grocery-relations") / "relations.parquet"
    table = pa_csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
    if table.num_columns < 3:
        raise InputError(f"{path}: three columns are needed: item, other, relation")
    table = table.select([0, 1, table.column_names.index("relation")]) if "relation" in table.column_names else table
    columns = [table.column(place).cast(pa.string()) for place in range(3)]
    return path.parent.name if given.file is None else path.stem, pa.table(
        dict(zip(("item", "other", "relation"), columns, strict=True))
    )


def relation_rows(table: pa.Table, given: argparse.Namespace, *, all_pairs: bool) -> list[Row]:
    """As many edges of either kind, as papers measure it, or all of them as they are."""
    shop = empty_shop(table)
    everything = labelled_pairs(shop, table)
    rows = []
    per_label = QUICK_PER_LABEL if given.quick else PER_LABEL
    kinds: list[tuple[Split, int | None]] = [("nodes", per_label), ("edges", per_label)]
    for how, n in [("nodes", None)] if all_pairs else kinds:

        def tasks(how: Split = how, n: int | None = n) -> Iterator[Task]:
            for seed in range(given.splits):
                parts = parts_of(everything, how, n, seed)
                links = relation_links(table, shop.items, parts[1:])
                yield Task(PairFacts.of(shop, links), *parts, seed)

        size = f"{n:,} + {n:,} pairs" if n else "all pairs"
        label = f"{'node-disjoint' if how == 'nodes' else 'edge-random'}, {size}"
        rows += rows_of(label, tasks, given, reference=PAPER if n == PER_LABEL else {})[0]
    return rows


def parts_of(pairs: Pairs, how: Split, n: int | None, seed: int) -> tuple[Pairs, Pairs, Pairs]:
    """A split; with n, of so many pairs of either label in all, or in node-disjoint splits as many as there are."""
    if how == "edges":
        return split_pairs(pairs if n is None else some_pairs(pairs, n, seed), how, seed)
    train, validation, test = split_pairs(pairs, how, seed, NODE_SHARES)
    if n is None:
        return train, validation, test
    sizes = [round(share * n) for share in (0.7, 0.15, 0.15)]
    train, validation, test = (
        some_pairs(part, min(size, int(part.label.sum()), int((~part.label).sum())), seed)
        for part, size in zip((train, validation, test), sizes, strict=True)
    )
    return train, validation, test


def empty_shop(table: pa.Table) -> Shop:
    """A shop that knows the items of a relation file and nothing of them."""
    ids = pc.unique(pa.chunked_array([*table["item"].chunks, *table["other"].chunks]))
    ids = ids.take(pc.array_sort_indices(ids))
    nothing = Events(*(np.empty(0, kind) for kind in (np.int32, np.int32, np.int8, np.int64, np.int32)))
    nobody = Vocabulary(pa.chunked_array([pa.array([], pa.string())]))
    return Shop(nothing, Vocabulary(pa.chunked_array([ids])), nobody, pa.table({"item": ids}), Interactions())


# -- a simulated shop --------------------------------------------------------------------------------------------------


def simulated_rows(settings: ShopSettings, given: argparse.Namespace) -> list[Row]:
    made = simulate.tables(settings)
    shop = Shop.from_tables(made.events, with_gaps(made.items, settings.seed))
    cut = shop.cut(0.5)
    before = shop.until(cut)
    later = shop.since(cut)
    known = labelled_pairs(later, **dict(zip(("min_bought", "min_viewed", "min_after", "margin"), RULE, strict=True)))
    known = known.where((known.left < before.n_items) & (known.right < before.n_items))
    leaf = dict(zip(*(made.truth["items"][name].to_pylist() for name in ("item", "leaf")), strict=True))
    state = states(known, [leaf[item] for item in before.items.ids.to_pylist()], made.truth["activities"])
    facts = PairFacts.of(before)
    with_links = facts.with_links(links_of_log(before))
    best = best_reachable(settings, cut, later, known, state)
    true = Pairs(known.left, known.right, state == GOES_WITH).where(state != NEITHER)
    rows = []
    for label, pairs, reachable in (("labels from behaviour", known, best), ("labels from the truth", true, None)):
        for what, of in (("", facts), (", with links of the log", with_links)):

            def tasks(pairs: Pairs = pairs, of: PairFacts = of) -> Iterator[Task]:
                for seed in range(given.splits):
                    yield Task(of, *split_pairs(pairs, "nodes", seed, NODE_SHARES), seed)

            rising = reachable is not None and not what  # where the paper's ladder stands: its features alone
            more, outcomes = rows_of(f"simulated, node-disjoint, {label}{what}", tasks, given, rising=rising)
            rows += more
            if rising and reachable is not None:
                rows += reachable_rows(f"simulated, node-disjoint, {label}", pairs, reachable, outcomes["gnn"], given)
        if reachable is None:
            rows.append(Row(what=f"simulated, node-disjoint, {label}: best reachable", ours="1, by construction"))
    return rows


def with_gaps(items: pa.Table, seed: int) -> pa.Table:
    """The catalogue without some of its values."""
    rng = np.random.default_rng([seed, 77])
    for name, share in MISSING.items():
        place = items.column_names.index(name)
        gone = pa.array(rng.random(len(items)) < share)
        items = items.set_column(place, name, pc.if_else(gone, None, items[name]))
    return items


SAME_LEAF, GOES_WITH, NEITHER = range(3)


def states(pairs: Pairs, leaf: Sequence[str], activities: pa.Table) -> NDArray[np.integer]:
    """(n,) what the truth says of pairs: of one leaf, of two leaves of an activity, or neither."""
    of: dict[int, set[str]] = {}
    for activity, name in zip(activities["activity"].to_pylist(), activities["leaf"].to_pylist(), strict=True):
        of.setdefault(activity, set()).add(name)
    together = {(one, other) for leaves in of.values() for one in leaves for other in leaves}
    found = np.full(len(pairs), NEITHER)
    for row, (left, right) in enumerate(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)):
        if leaf[left] == leaf[right]:
            found[row] = SAME_LEAF
        elif (leaf[left], leaf[right]) in together:
            found[row] = GOES_WITH
    return found


def links_of_log(shop: Shop) -> Links:
    """What was bought by one person within the window, and what was looked at in a row, as graphs."""
    found = count_pairs(shop, window_days=30, return_days=30, per_item=200)
    graphs = []
    for column in (BOUGHT, IN_ROW):
        low, high = np.divmod(found.keys[found.counts[:, column] > 0], shop.n_items)
        graphs.append(coo_array((np.ones(len(low)), (low, high)), shape=(shop.n_items, shop.n_items)).tocsr())
    return Links.of(*graphs)


def best_reachable(
    settings: ShopSettings, cut: int, later: Shop, pairs: Pairs, state: NDArray[np.integer]
) -> NDArray[np.floating]:
    """(n,) P(complement) of labelled pairs by someone who knows the truth's rates, but not what came of them.

    The rates of a pair are its mean counts in logs drawn anew, and those of pairs of its state as one log more; counts
    are drawn from them and labelled by the rule, each kind by itself.
    """
    truth = make_truth(settings)
    sums = np.zeros((3, len(pairs)))
    for number in range(REDRAWN):
        again = replace(truth, settings=msgspec.structs.replace(settings, seed=settings.seed + 1000 + number))
        drawn = redrawn(again, truth, cut)
        keys, found = evidence_of(drawn)
        theirs = drawn.items.encode(later.items.ids.to_pylist()).astype(np.int64)
        one, other = theirs[pairs.left], theirs[pairs.right]
        place = places(keys, np.minimum(one, other) * drawn.n_items + np.maximum(one, other))
        there = (place >= 0) & (one >= 0) & (other >= 0)
        for kind, count in enumerate(found[:3]):
            sums[kind, there] += count[place[there]]
    usual = np.stack([sums[:, state == one].mean(axis=1) if (state == one).any() else sums[:, 0] for one in range(3)])
    rates = (sums + usual[state].T / REDRAWN) / (REDRAWN + 1)
    keys, seen = evidence_of(later)
    place = places(keys, pairs.left.astype(np.int64) * later.n_items + pairs.right)
    rng = np.random.default_rng(settings.seed)
    times = np.zeros((2, len(pairs)))
    for _ in range(DRAWS):
        drawn_counts = Evidence(
            *rng.poisson(rates).astype(np.float64), seen.bought_by_chance[place], seen.compared_by_chance[place],
            seen.totals,
        )  # fmt: skip
        times += drawn_counts.labels(*RULE)
    return np.divide(times[0], times.sum(axis=0), out=np.full(len(pairs), 0.5), where=times.sum(axis=0) > 0)


def redrawn(again: Truth, truth: Truth, cut: int) -> Shop:
    """The log from `cut` on as it might have been."""
    rows = np.concatenate(list(log_rows(again)))
    rows = rows[(rows[:, TIME] >= cut) & (rows[:, KIND] <= PURCHASE)]
    ids = catalogue.item_ids(truth)
    return Shop.from_tables(
        pa.table({
            "user": pa.array(rows[:, USER]).cast(pa.string()),
            "item": ids.take(pa.array(rows[:, ITEM])),
            "interaction": pa.array([KIND_NAMES[kind] for kind in range(PURCHASE + 1)]).take(pa.array(rows[:, KIND])),
            "time": pa.array(rows[:, TIME], pa.timestamp("us", "UTC")),
            "session": pa.array(rows[:, SESSION]).cast(pa.string()),
            "order": pc.if_else(pa.array(rows[:, ORDER] >= 0), pa.array(rows[:, ORDER]).cast(pa.string()), None),
        })
    )  # fmt: skip


def unmet_rows(name: str, settings: ShopSettings, given: argparse.Namespace) -> list[Row]:
    """How many pairs that nobody met pass as complements, by the truth."""
    made = simulate.tables(settings)
    items = with_gaps(made.items, settings.seed) if settings.items else made.items
    shop = Shop.from_tables(made.events, items)
    of = dict(zip(*(made.truth["items"][column].to_pylist() for column in ("item", "leaf")), strict=True))
    leaf = [of[item] for item in shop.items.ids.to_pylist()]
    drawn = np.random.default_rng(settings.seed).integers(0, shop.n_items, (2, 100 * UNMET), dtype=np.int32)
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    facts = PairFacts.of(shop)
    unmet = (low < high) & (places(facts.keys, low.astype(np.int64) * shop.n_items + high) < 0)
    pairs = Pairs(low[unmet], high[unmet], np.zeros(unmet.sum(), bool))
    state = states(pairs, leaf, made.truth["activities"])
    said = np.asarray(shop.catalogue["category"].is_valid())
    told = said[pairs.left] & said[pairs.right]
    command = "python benchmarks/complement.py --only unmet"
    rows = []
    for method in ("logistic", "boosting", "gnn"):
        model = Complement(method=method).fit(shop)
        for what, kind, low_enough in (("of one leaf", SAME_LEAF, 0.1), ("of an activity", GOES_WITH, None)):
            for how, known in ((", categories known", told), (", a category lacking", ~told)):
                rows_of_kind = np.flatnonzero((state == kind) & known)[:UNMET]
                if not len(rows_of_kind):
                    continue
                asked = pairs.where(rows_of_kind)
                share = float((model.probability(asked.left, asked.right) > 0.5).mean())
                target = "< .1" if low_enough else "> .9"
                met = share < low_enough if low_enough else share > 0.9
                rows.append(
                    Row(
                        what=f"{name}, {method}: unmet pairs {what} that pass as complements{how}",
                        ours=f"{share:.3f}, n={len(asked):,}", target=target, met=met, command=command,
                    )
                )  # fmt: skip
                print(rows[-1].what, rows[-1].ours, flush=True)
    return rows


# -- rows --------------------------------------------------------------------------------------------------------------


def rows_of(
    label: str,
    tasks: Callable[[], Iterator[Task]],
    given: argparse.Namespace,
    *,
    reference: dict[str, str] | None = None,
    rising: bool = False,
) -> tuple[list[Row], dict[str, Outcome]]:
    """A row a method, and the differences of each to the one before it, which are to be above 0 where `rising`."""
    found: dict[str, list[tuple[Task, Probabilities, Probabilities]]] = {}
    for task in tasks():
        for name, ask in METHODS.items():
            if name == PLAIN and task.facts.links is None:
                continue  # the same as boosting
            found.setdefault(name, []).append((task, *ask(task)))
    outcomes = {name: outcome_of(parts) for name, parts in found.items()}
    command = f"python benchmarks/complement.py --data DIR --splits {given.splits}"
    rows = []
    for name, outcome in outcomes.items():
        rows.append(
            Row(
                what=f"{label}: {name}", ours=written(outcome), reference=(reference or {}).get(name, ""),
                target="ECE < .05", met=bool(outcome.judgement.ece < 0.05), command=command,
            )
        )  # fmt: skip
        print(rows[-1].what, rows[-1].ours, flush=True)
    beside = [(PLAIN, "gnn")] if PLAIN in outcomes else []
    for before, name in [*pairwise(outcomes), *beside]:
        a, b = outcomes[name], outcomes[before]
        gap = paired_bootstrap(a.right.astype(np.float64), b.right.astype(np.float64), a.groups)
        what = f"{label}: {name} less {before}, accuracy"
        target, met = ("interval above 0", bool(gap.low > 0)) if rising else (None, None)
        if reference and (before, name) in beside:
            target, met = ">= +0.02", bool(gap.value >= 0.02)
        rows.append(Row(what=what, ours=written_gap(gap), target=target, met=met, command=command))
    return rows, outcomes


def outcome_of(parts: Sequence[tuple[Task, Probabilities, Probabilities]]) -> Outcome:
    labels = np.concatenate([task.test.label for task, _, _ in parts])
    raw, honest = (np.concatenate([part[place] for part in parts]) for place in (1, 2))
    groups = np.concatenate([task.test.left for task, _, _ in parts])
    right = (honest > 0.5) == labels
    return Outcome(judged(labels, raw, honest), bootstrap_mean(right, groups), right, groups)


def written(outcome: Outcome) -> str:
    found, accuracy = outcome.judgement, outcome.accuracy
    return (
        f"accuracy {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}], AUC {found.auc:.4f}, "
        f"ECE {found.ece_raw:.3f} -> {found.ece:.3f}, majority {found.majority:.3f}, n={found.n:,}"
    )


def written_gap(gap: Interval) -> str:
    return f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"


def reachable_rows(
    label: str, pairs: Pairs, probability: NDArray[np.floating], network: Outcome, given: argparse.Namespace
) -> list[Row]:
    """The truth's guesses on the same test pairs, and how far the graph network is from them."""
    guess: dict[tuple[int, int], Any] = dict(
        zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), probability.tolist(), strict=True)
    )
    right, groups = [], []
    for seed in range(given.splits):
        test = split_pairs(pairs, "nodes", seed, NODE_SHARES)[2]
        p = np.array([guess[pair] for pair in zip(test.left.tolist(), test.right.tolist(), strict=True)])
        right.append((p > 0.5) == test.label)
        groups.append(test.left)
    best, of = np.concatenate(right), np.concatenate(groups)
    found = bootstrap_mean(best, of)
    gap = paired_bootstrap(network.right.astype(np.float64), best.astype(np.float64), of)
    command = f"python benchmarks/complement.py --data DIR --splits {given.splits}"
    row = Row(
        what=f"{label}: best reachable",
        ours=f"accuracy {found.value:.4f} [{found.low:.4f}, {found.high:.4f}], n={found.n:,}",
        command=command,
    )
    print(row.what, row.ours, flush=True)
    beside = Row(
        what=f"{label}: gnn less best reachable, accuracy", ours=written_gap(gap), target=">= -0.01",
        met=bool(gap.value >= -0.01), command=command,
    )  # fmt: skip
    return [row, beside]


if __name__ == "__main__":
    main()
