"""Complements that people marked, by products' texts: bundles of shops never seen, and complement against substitute.

    python benchmarks/cross_sell_zero_shot.py --data DIR [--json FILE] [--quick] [--seed N]

DIR holds amazon-bundles and esci-subset.

Bundles: people put products of a shopping session into bundles with one intent. Of each bundle one product, drawn by
the seed, is held out and ranked by the others among 1,000 products of its domain that the session lacks. Zero-shot is
graph cross-sell trained on the sessions of the two other domains, which knows titles and categories of this one's
products, and neither a session nor a bundle of them. "with titles" adds to its score the mean cosine of titles, times a
weight; how much, nothing and everything among the choices, is chosen for each domain on the two others: learnt on the
sessions of one, asked about the bundles of the other, both ways, the mean hit rate decides. "trained here" learns from
the domain's sessions without those of every fifth bundle, which alone are asked about in that row; counts do the same.
It answers as it would be served, and so last of all with what nobody bought, which most products are; with titles it
takes every product as new, as zero-shot does. A bundle is a part of its session, so sessions that are asked about teach
nothing. Intervals are over sessions.

ESCI: people said of the products found for a query whether they are what was asked for, a substitute or a complement.
Pairs of an exact product and another of the same query: is the other a substitute or a complement? Five parts of
queries, each judged by what was learnt from the four others; a product that occurs in both is not learnt from. Figures
are of queries that have both kinds: the chance that a complement stands above a substitute (AUC) of a query, mean over
queries, and the share of products told right, by the mean over the query's exact products. Intervals are over queries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations, takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from _real import data_folder
from _report import Row, arguments, report
from endcap import Shop, metrics
from endcap.answers import Request
from endcap.graph.texts import TextVectors
from endcap.metrics import bootstrap_mean, paired_bootstrap
from endcap.models.complement import Complement
from endcap.models.complement.pairs import split_pairs
from endcap.models.cross_sell import CrossSell

DOMAINS, NEGATIVES, K, FOLDS, EXACT = ("electronic", "clothing", "food"), 1_000, 10, 5, 3
START, DAY = 1_300_000_000, 86_400
ZERO_SHOT, TRAINED, NEAREST = "cross-sell, zero-shot", "cross-sell, trained here", "nearest text"
WITH_TITLES, TAUGHT = "cross-sell, zero-shot, with titles", "cross-sell, trained here, with titles"
WEIGHTS = (0.0, 8.0, 16.0, 32.0, 64.0, np.inf)  # of a cosine of titles beside what a network says; infinity: alone
COMMAND = "python benchmarks/cross_sell_zero_shot.py --data DIR"
Values = NDArray[np.float64]


class Bundles(NamedTuple):
    """A domain's catalogue, the products of its sessions, and its bundles: (session, products)."""

    catalogue: pa.Table
    sessions: dict[int, list[str]]
    bundles: list[tuple[int, list[str]]]


def bundles_of(folder: Path, domain: str) -> Bundles:
    """Products are named by domain and number; a category is its first path."""

    def rows(name: str) -> list[dict[str, Any]]:
        return [row for row in pq.read_table(folder / f"{name}.parquet").to_pylist() if row["domain"] == domain]

    def named(row: dict[str, Any]) -> str:
        return f"{domain}{row['item_id']}"

    items = rows("items")
    catalogue = pa.table({
        "item": [named(row) for row in items],
        "title": [row["title"] for row in items],
        "category": ["/".join(re.split(r",(?! )", row["categories"].strip("[]").split("],[")[0])) for row in items],
    })  # fmt: skip
    sessions: dict[int, list[str]] = {}
    for row in rows("session_items"):
        sessions.setdefault(row["session_id"], []).append(named(row))
    inside: dict[int, list[str]] = {}
    for row in rows("bundle_items"):
        inside.setdefault(row["bundle_id"], []).append(named(row))
    of_session = {row["bundle_id"]: row["session_id"] for row in rows("session_bundles")}
    return Bundles(catalogue, sessions, [(of_session[bundle], items) for bundle, items in sorted(inside.items())])


def shop_of(parts: list[tuple[pa.Table, dict[int, list[str]]]]) -> Shop:
    """Sessions as orders of buyers of their own, a minute each, of catalogues put together."""
    orders = [(f"{place}-{number}", items) for place, (_, sessions) in enumerate(parts)
              for number, items in sorted(sessions.items())]  # fmt: skip
    names = [name for name, items in orders for _ in items]
    minutes = np.repeat(np.arange(len(orders)), [len(items) for _, items in orders]) * 60
    events = pa.table({
        "user": names, "order": names, "item": [item for _, items in orders for item in items],
        "interaction": pa.repeat("purchase", len(names)),
        "time": pa.array(START + minutes).cast(pa.timestamp("s", tz="UTC")),
    })  # fmt: skip
    return Shop.from_tables(events, pa.concat_tables([catalogue for catalogue, _ in parts]))


class Asked(NamedTuple):
    """A question: rows of the domain's catalogue.

    Attributes:
        among: the target first, then those it is ranked among; fold: of its session.
    """

    session: int
    rest: NDArray[np.int64]
    among: NDArray[np.int64]
    fold: int


def asked_of(domain: Bundles, seed: int) -> list[Asked]:
    rng = np.random.default_rng(seed)
    row_of = {name: row for row, name in enumerate(domain.catalogue["item"].to_pylist())}
    fold_of = {session: int(fold) for session, fold in
               zip(sorted(domain.sessions), rng.permutation(len(domain.sessions)) % FOLDS, strict=True)}  # fmt: skip
    found = []
    for session, items in domain.bundles:
        rows = rng.permutation(np.unique([row_of[item] for item in items]))
        met = [row_of[item] for item in domain.sessions.get(session, ()) if item in row_of]
        others = np.setdiff1d(np.arange(len(row_of)), np.append(rows, met))
        if len(rows) >= 2:
            among = np.append(rows[0], rng.choice(others, NEGATIVES))
            found.append(Asked(session, rows[1:], among, fold_of.get(session, 0)))
    return found


def tied(scores: NDArray) -> Values:
    """Of scores (n,), the target's first: hit rate and reciprocal rank."""
    above, ties = np.array([(scores[1:] > scores[0]).sum()]), np.array([(scores[1:] == scores[0]).sum()])
    return np.array([metrics.tied_hit_rate(above, ties, K)[0], metrics.tied_mrr(above, ties)[0]])


Score = Callable[[Asked], NDArray]


def questions_of(domain: Bundles, given: Any) -> list[Asked]:
    return asked_of(domain, given.seed)[: 200 if given.quick else None]


def by_titles(domain: Bundles) -> Score:
    """The mean cosine of titles."""
    text = TextVectors(domain.catalogue["title"].to_pylist()).vectors
    return lambda one: np.asarray((text[one.among] @ text[one.rest].T).mean(axis=1)).ravel()


def by_strangers(learnt: list[Bundles], domain: Bundles, settings: dict[str, Any]) -> Score:
    """What a network says of a domain that learnt from the sessions of others."""
    shop = shop_of([(domain.catalogue, {}), *((one.catalogue, one.sessions) for one in learnt)])
    return as_if_new(CrossSell(**settings).fit(shop, threads=2), domain)


def as_if_new(model: CrossSell, domain: Bundles) -> Score:
    """What a network says of products by title and category alone."""
    source, target = model.embed_new(domain.catalogue)
    return lambda one: target[one.among] @ source[one.rest].mean(0)


def beside(network: Score, titles: Score, weight: float) -> Score:
    """Both together."""
    return titles if np.isinf(weight) else lambda one: network(one) + weight * titles(one)


def hits(domains: dict[str, Bundles], settings: dict[str, Any], given: Any) -> dict[tuple[str, str], Values]:
    """(learnt on, asked about) -> hit rate by each of the weights."""
    found = {}
    for learnt, asked in permutations(domains, 2):
        domain = domains[asked]
        network, titles = by_strangers([domains[learnt]], domain, settings), by_titles(domain)
        found[learnt, asked] = np.array([
            np.mean([tied(beside(network, titles, weight)(one))[0] for one in questions_of(domain, given)])
            for weight in WEIGHTS
        ])  # fmt: skip
    return found


def bundle_rows(
    domains: dict[str, Bundles], name: str, weight: float, settings: dict[str, Any], given: Any
) -> list[Row]:
    """A domain's figures by every way, and the difference of graph cross-sell to the nearest text."""
    domain = domains[name]
    questions = questions_of(domain, given)
    leaf = np.unique(domain.catalogue["category"].to_pylist(), return_inverse=True)[1]
    titles = by_titles(domain)
    network = by_strangers([one for one in domains.values() if one is not domain], domain, settings)
    untaught = {one.session for one in questions if one.fold == 0}
    taught = {number: items for number, items in domain.sessions.items() if number not in untaught}
    shop = shop_of([(domain.catalogue, taught)])
    here = CrossSell(**settings).fit(shop, threads=2)
    number = shop.items.encode(domain.catalogue["item"].to_pylist()).astype(np.int32)
    bought = np.bincount(shop.events.item, minlength=shop.n_items)[number]
    ways: dict[str, Score] = {
        "popularity": lambda one: bought[one.among],
        "same category": lambda one: (leaf[one.rest][:, None] == leaf[one.among]).mean(0),
        NEAREST: titles,
        ZERO_SHOT: network,
        WITH_TITLES: beside(network, titles, weight),
        TAUGHT: beside(as_if_new(here, domain), titles, weight),
        TRAINED: lambda one: here.score(Request(k=K, basket=number[one.rest]), number[one.among]),
    }
    session, apart = np.array([one.session for one in questions]), np.array([one.fold == 0 for one in questions])
    everything = np.ones(len(apart), bool)
    figures, found = dict[str, Values](), []
    for way, score in ways.items():
        figures[way] = values = np.array([tied(np.asarray(score(one), float)) for one in questions])
        part = apart if way in (TRAINED, TAUGHT, "popularity") else everything
        hit, rank = (bootstrap_mean(column[part], session[part]) for column in values.T)
        ours = f"hit_rate@{K} {_text(hit)}; mrr {_text(rank)}; n {part.sum():,}"
        said = f" ({weight:g} x the cosine)" if way in (WITH_TITLES, TAUGHT) else ""
        found.append(Row(what=f"bundles, {name}: {way}{said}", ours=ours, command=COMMAND))
    for way, part in ((ZERO_SHOT, everything), (WITH_TITLES, everything), (TRAINED, apart), (TAUGHT, apart)):
        gain = paired_bootstrap(figures[way][part, 0], figures[NEAREST][part, 0], session[part])
        found.append(Row(what=f"bundles, {name}: {way} - {NEAREST}, hit_rate@{K}", ours=_text(gain), command=COMMAND))
    return found


def _text(figure: Any) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


class Pairs(NamedTuple):
    """Pairs (p,) of an exact product and another of its query: rows of the catalogue; whether it is a complement."""

    query: NDArray[np.int64]
    exact: NDArray[np.int64]
    other: NDArray[np.int64]
    goes_with: NDArray[np.bool_]


def esci(folder: Path, seed: int) -> tuple[pa.Table, list[str], Pairs]:
    """The catalogue, the queries' texts, and the pairs."""
    rng = np.random.default_rng(seed)
    items = pq.read_table(folder / "items.parquet")
    catalogue = pa.table({
        "item": items["item_id"], "title": items["title"], "brand": items["brand"], "price": items["price"],
        "category": ["/".join(part.replace("/", "-") for part in path or ()) or None
                     for path in items["category"].to_pylist()],
    })  # fmt: skip
    row_of = {name: row for row, name in enumerate(catalogue["item"].to_pylist())}
    by_query: dict[int, dict[str, list[int]]] = {}
    for row in pq.read_table(folder / "judgements.parquet").to_pylist():
        if row["item_id"] in row_of:
            by_query.setdefault(row["query_id"], {}).setdefault(row["label"], []).append(row_of[row["item_id"]])
    found = [
        (query, exact, other, label == "complement")
        for query, judged in sorted(by_query.items())
        for exact in rng.permutation(judged.get("exact", []))[:EXACT].tolist()
        for label in ("complement", "substitute")
        for other in judged.get(label, [])
    ]
    texts = pq.read_table(folder / "queries.parquet").sort_by("query_id")["query"].to_pylist()
    query, exact, other, goes_with = zip(*found, strict=True)
    return catalogue, texts, Pairs(np.array(query), np.array(exact), np.array(other), np.array(goes_with))


def out_of_fold(catalogue: pa.Table, pairs: Pairs, method: str, seed: int) -> Values:
    """(p,) P(complement) of each pair by a classifier that learnt from other queries and other products.

    Before calibration, which makes equal what is unlike.
    """
    names = np.array(catalogue["item"].to_pylist(), object)
    day = pa.array(START + DAY * np.arange(2)).cast(pa.timestamp("s", tz="UTC"))
    events = {"user": ["u", "v"], "item": names[:2].tolist(), "interaction": ["click"] * 2, "time": day}
    shop = Shop.from_tables(pa.table(events), catalogue)
    number = shop.items.encode(names.tolist()).astype(np.int32)
    fold = np.random.default_rng(seed).permutation(int(pairs.query.max()) + 1)[pairs.query] % FOLDS
    found = np.empty(len(fold))
    for part in range(FOLDS):
        asked = fold == part
        met = np.unique(np.concatenate([pairs.exact[asked], pairs.other[asked]]))
        learnt = ~asked & ~np.isin(pairs.exact, met) & ~np.isin(pairs.other, met)
        told = pa.table({
            "item": names[pairs.exact[learnt]].tolist(), "other": names[pairs.other[learnt]].tolist(),
            "relation": np.where(pairs.goes_with[learnt], "complement", "substitute").tolist(),
        })  # fmt: skip
        model = Complement(method=method).know(shop, seed=seed)  # and no links: what is asked about has none
        parts = split_pairs(model.labelled(shop, told), "edges", seed, (0.8, 0.2, 0.0))
        model.fit_on(*map(model.lesson, parts[:2]), seed=seed)
        found[asked] = model.raw(number[pairs.exact[asked]], number[pairs.other[asked]])
    return found


def shared_levels(catalogue: pa.Table, pairs: Pairs) -> Values:
    """(p,) levels of their categories that the products of each pair have in common; 0 where one has none."""
    paths = [category.split("/") if category else [] for category in catalogue["category"].to_pylist()]

    def shared(one: int, other: int) -> int:
        both = zip(paths[one], paths[other], strict=False)
        return sum(1 for _ in takewhile(lambda level: level[0] == level[1], both))

    return np.array([shared(one, other) for one, other in zip(pairs.exact, pairs.other, strict=True)], float)


def esci_rows(folder: Path, seed: int) -> list[Row]:
    """AUC and share told right of each way, by queries that have both kinds."""
    catalogue, queries, pairs = esci(folder, seed)
    texts = TextVectors(catalogue["title"].to_pylist())
    by_query = texts.cosines(texts.read(queries), pairs.query, pairs.other)
    ways = {  # how much each speaks for a complement
        "majority": (np.zeros(len(pairs.query)), np.inf),
        "title far from the query": (-by_query, np.nan),
        "title far from the exact product": (-texts.cosines(texts.vectors, pairs.exact, pairs.other), np.nan),
        "fewest levels of categories shared": (-shared_levels(catalogue, pairs), np.nan),
        "complement, logistic": (out_of_fold(catalogue, pairs, "logistic", seed), 0.5),
        "complement, boosting": (out_of_fold(catalogue, pairs, "boosting", seed), 0.5),
    }
    found = []
    for way, (scores, threshold) in ways.items():
        auc, right = list[float](), list[float]()
        for query in np.unique(pairs.query):
            mine = pairs.query == query
            other, row = np.unique(pairs.other[mine], return_inverse=True)
            mean = np.bincount(row, scores[mine]) / np.bincount(row)
            goes_with = np.zeros(len(other), bool)
            goes_with[row] = pairs.goes_with[mine]
            if goes_with.all() or not goes_with.any():
                continue
            apart = mean[goes_with][:, None] - mean[~goes_with]
            auc.append(float((apart > 0).mean() + (apart == 0).mean() / 2))
            right.append(float(((mean >= threshold) == goes_with).mean()))
        everyone = np.arange(len(auc))
        ours = f"auc {_text(bootstrap_mean(np.array(auc), everyone))}"
        if not np.isnan(threshold):
            ours += f"; told right {_text(bootstrap_mean(np.array(right), everyone))}"
        found.append(Row(what=f"esci, {len(auc)} queries: {way}", ours=ours, command=COMMAND))
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rows = esci_rows(data_folder(given.data, "esci-subset"), given.seed)
    domains = {name: bundles_of(data_folder(given.data, "amazon-bundles"), name) for name in DOMAINS}
    settings: dict[str, Any] = {
        "complement": "none",
        "score_by": "network",
        "id_embedding": False,
        "temperature": 0.1,
        **({"epochs": 2} if given.quick else {}),
    }
    learnt = hits(domains, settings, given)
    for name in DOMAINS:
        told = np.mean([of_each for pair, of_each in learnt.items() if name not in pair], axis=0)
        rows += bundle_rows(domains, name, WEIGHTS[int(told.argmax())], settings, given)
    notes = (
        "The temperature of the network was chosen on electronic and clothing, bundles of the one by sessions of the "
        "other, so food alone is a domain that no choice has seen."
    )
    report("cross_sell_zero_shot", "esci-subset, amazon-bundles", rows, given.json, quick=given.quick, notes=notes)


if __name__ == "__main__":
    main()
