"""Every public function with arguments that are not what they should be: a right result, or one line of InputError.

A TypeError passes where a Python type is plainly wrong. A new public name needs a case here, or a reason for none.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import strategies as st
from scipy.sparse import csr_array

import endcap
from endcap import evaluate as evaluate_package
from endcap import graph, index, metrics, models, release, shop, simulate
from endcap.answers import Candidates, History, Request, Space
from endcap.evaluate import evaluate, split_people, tune
from endcap.jobs.drain import drain
from endcap.jobs.forget import forget
from endcap.jobs.publish import publish
from endcap.jobs.refresh import refresh
from endcap.models import ranker, ranker_features
from endcap.models.rules import rules
from endcap.release import Part, Release
from endcap.serve.app import create_app
from endcap.serve.service import ServerSettings
from endcap.shop import Events, Interactions, Shop, Vocabulary, duration
from endcap.shop.describe import describe
from endcap.shop.ingest import ingest

from .places import PATHS, START, make_places
from .trying import DEPTHS, refusal, try_out

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = Callable[[Draw, Path], Any]
PACKAGES = (endcap, shop, index, evaluate_package, release, graph, simulate)
REFERENCE = Path(__file__).parents[2] / "docs" / "api.md"

WITHOUT: dict[str, str] = {
    **dict.fromkeys(
        ["endcap.__version__", "endcap.graph.WEIGHTINGS", "endcap.evaluate.PROTOCOLS", "endcap.index.EXACT_BELOW"],
        "a constant",
    ),
    **dict.fromkeys(["endcap.simulate.VERSION", "endcap.models.SYSTEMS", "endcap.index.Kind"], "a constant"),
    **dict.fromkeys(["endcap.index.Index", "endcap.index.mapped"], "what other names of the package are made of"),
    **dict.fromkeys([f"endcap.evaluate.{name}" for name in ("Report", "Difference", "TuneReport")], "a result"),
    **dict.fromkeys([f"endcap.simulate.{name}" for name in ("Summary", "SimulatedShop", "Oracle")], "a result"),
    **dict.fromkeys([f"endcap.metrics.{name}" for name in ("Interval", "IntentCases", "IntentRanks")], "a result"),
    "endcap.release.ReleaseInfo": "a result",
    "endcap.errors.InputError": "every other case raises it",
    **dict.fromkeys([f"endcap.answers.{name}" for name in ("Retriever", "RelatesItems")], "a protocol"),
    **dict.fromkeys([f"endcap.answers.{name}" for name in ("Explainer", "TellsRivals", "Indexed")], "a protocol"),
    **dict.fromkeys([f"endcap.metrics.{name}" for name in ("interval_of", "percentiles")], "steps of bootstrap_mean"),
}

CASES: dict[str, Case] = {}


def case(*names: str) -> Callable[[Case], Case]:
    """Declare how the public functions of these names are fuzzed."""

    def add(function: Case) -> Case:
        CASES.update(dict.fromkeys(names, function))
        return function

    return add


def public_names() -> set[str]:
    """All of `__all__`, the functions and classes of endcap.metrics, and the names of the reference."""
    listed = {f"{package.__name__}.{name}" for package in PACKAGES for name in package.__all__}
    listed |= {
        f"endcap.metrics.{name}"
        for name, value in vars(metrics).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == "endcap.metrics"
    }
    listed |= {f"endcap.models.{name}" for name in ("SYSTEMS", "create", "open")}
    return listed | set(re.findall(r"`(endcap(?:\.\w+)+)`", REFERENCE.read_text(encoding="utf-8")))


def test_every_public_name_has_a_case() -> None:
    same = {"endcap.Shop": "endcap.shop.Shop", "endcap.evaluate": "endcap.evaluate.evaluate"}
    missing = {same.get(name, name) for name in public_names()} - CASES.keys() - WITHOUT.keys()
    missing = {name for name in missing if name.rpartition(".")[0] not in CASES}  # methods are tried with their class
    assert not missing, "write a case in tests/fuzz/test_functions.py"


# -- what is given -----------------------------------------------------------------------------------------------------

NUMBERS = st.sampled_from([0, 1, 2, 3, 7, -1, -5, 10**30, 1.5, float("nan"), float("inf"), None, "2", True])
COUNTS = st.integers(1, 5) | NUMBERS
SMALL = st.sampled_from([0, 1, 2, 3, -1, 10**30, float("nan"), None, "x"])
NAMES = st.sampled_from(
    [
        "i0",
        "i1",
        "u0",
        "click",
        "cart",
        "purchase",
        "any",
        "all",
        "",
        "x",
        "\0",
        "\ud800",
        "é" * 999,
        "7d",
        "0.1",
        "popularity",
    ]
) | st.text(max_size=4)
TEXTS = NAMES | st.sampled_from([None, 3, b"x", 1.5, float("nan"), [], {}])


@st.composite
def arrays(draw: st.DrawFn, dims: int = 1, least: int = -2, most: int = 9) -> np.ndarray:
    """Arrays of small numbers: other types, empty, not contiguous, with a NaN, with huge numbers."""
    shape = tuple(draw(st.integers(0, 5)) for _ in range(draw(st.sampled_from([dims] * 6 + [1, 2, 0]))))
    size = int(np.prod(shape))
    values = np.array(draw(st.lists(st.integers(least, most), min_size=size, max_size=size)), np.int64).reshape(shape)
    spoilt = draw(st.sampled_from(["no"] * 8 + ["float", "nan", "huge", "bool", "strided", "readonly", "text"]))
    if spoilt in ("float", "nan"):
        values = values.astype(np.float64)
    if spoilt in ("nan", "huge") and size:
        values.flat[0] = np.nan if spoilt == "nan" else 2**40
    if spoilt == "text":
        return values.astype(str)
    if spoilt == "strided":
        return np.repeat(values, 2, axis=0)[::2] if values.ndim else values
    if spoilt == "readonly":
        values.flags.writeable = False
    return values.astype(bool) if spoilt == "bool" else values


@st.composite
def rows_of(draw: st.DrawFn, *ranges: tuple[int, int]) -> list[np.ndarray]:
    """Arrays that fit each other, or now and then one that does not."""
    n = draw(st.integers(0, 8))
    fitting = [np.array(draw(st.lists(st.integers(*span), min_size=n, max_size=n)), np.int64) for span in ranges]
    if draw(st.integers(0, 2)) == 0 and fitting:
        fitting[draw(st.integers(0, len(fitting) - 1))] = draw(arrays())
    return fitting


# -- metrics -----------------------------------------------------------------------------------------------------------


@case("endcap.metrics.hit_matrix")
def _(draw: Draw, _: Path) -> Any:
    lists, relevant = draw(arrays(2)), draw(arrays())
    offsets = draw(
        arrays(least=0)
        | st.just(np.linspace(0, len(np.atleast_1d(relevant)), len(np.atleast_1d(lists)) + 1).astype(int))
    )
    hits = metrics.hit_matrix(lists, relevant, offsets)
    for query, row in enumerate(lists):
        mine = set(relevant[offsets[query] : offsets[query + 1]].tolist())
        assert [item >= 0 and item in mine for item in row.tolist()] == hits[query].tolist()


@case("endcap.metrics.hit_rate", "endcap.metrics.mrr")
def _(draw: Draw, _: Path) -> Any:
    hits, k = draw(arrays(2, 0, 1)), draw(COUNTS)
    for metric in (metrics.hit_rate, metrics.mrr):
        if refusal_or_type_error(lambda metric=metric: metric(hits, k)) is None and k is not None:
            assert ((found := metric(hits, k)) >= 0).all()
            assert (found <= 1).all()


@case("endcap.metrics.recall", "endcap.metrics.ndcg")
def _(draw: Draw, _: Path) -> Any:
    hits, n, k = draw(arrays(2, 0, 1)), draw(arrays(least=-1)), draw(COUNTS)
    for metric in (metrics.recall, metrics.ndcg):
        if refusal_or_type_error(lambda metric=metric: metric(hits, n, k)) is None:
            assert len(metric(hits, n, k)) == len(hits)
            assert (np.nan_to_num(metric(hits, n, k)) >= 0).all()


@case("endcap.metrics.tied_hit_rate", "endcap.metrics.tied_mrr", "endcap.metrics.tied_ndcg")
def _(draw: Draw, _: Path) -> Any:
    (above, ties), k = draw(rows_of((0, 9), (0, 9))), draw(COUNTS)
    for metric in (metrics.tied_hit_rate, metrics.tied_mrr, metrics.tied_ndcg):
        if refusal_or_type_error(lambda metric=metric: metric(above, ties, k)) is None:
            assert len(found := metric(above, ties, k)) == len(above)
            assert ((found >= 0) & (found <= 1)).all()


@case("endcap.metrics.covered", "endcap.metrics.novelty", "endcap.metrics.diversity")
def _(draw: Draw, _: Path) -> Any:
    lists, of_items = draw(arrays(2)), draw(arrays(most=3))
    refusal_or_type_error(lambda: metrics.covered(lists, of_items))
    for metric, given in (
        ((metrics.novelty, of_items / 4), (metrics.diversity, of_items)) if of_items.dtype.kind != "U" else ()
    ):
        if refusal_or_type_error(lambda metric=metric, given=given: metric(lists, given)) is None:
            assert len(found := metric(lists, given)) == len(lists)
            assert (np.nan_to_num(found) >= 0).all()


@case("endcap.metrics.interest_spread")
def _(draw: Draw, _: Path) -> Any:
    vectors = draw(arrays(2))
    spread = metrics.interest_spread(vectors)
    assert np.isnan(spread) == (len(vectors) < 2 or np.isnan(vectors).any())
    assert not spread < -1e-9


@case("endcap.metrics.bootstrap_mean", "endcap.metrics.paired_bootstrap", "endcap.metrics.resampled_means")
def _(draw: Draw, _: Path) -> Any:
    a, b, groups = draw(rows_of((0, 3), (0, 3), (0, 4)))
    more = {"n_resamples": draw(st.just(20) | SMALL), "seed": draw(st.just(1) | SMALL)}
    refusal_or_type_error(lambda: metrics.resampled_means([a, b], groups, **more))
    refusal_or_type_error(lambda: metrics.paired_bootstrap(a, b, groups, **more))
    if refusal_or_type_error(lambda: metrics.bootstrap_mean(a, groups, **more)) is None:
        found = metrics.bootstrap_mean(a, groups, **more)
        assert found.n == np.count_nonzero(~np.isnan(a.astype(float)))


@case(
    "endcap.metrics.intent_cases",
    "endcap.metrics.recent_cases",
    "endcap.metrics.intent_ranks",
    "endcap.metrics.purchase_intent",
    "endcap.metrics.mean_by_case",
)
def _(draw: Draw, _: Path) -> Any:
    group, item, interaction, is_test = draw(rows_of((0, 3), (-1, 5), (0, 3), (0, 1)))
    group = np.sort(group) if draw(st.booleans()) else group
    source, intents = draw(st.sampled_from([None, 0, 3, 99])), draw(st.sampled_from([(), (2, 3), (99,)]))
    budgets = draw(st.sampled_from([[1, 3], [], [0], [-1], [10**9]]))
    made = [
        attempt(lambda: metrics.intent_cases(group, item, interaction, source, intents)),
        attempt(
            lambda: metrics.recent_cases(
                group, item, interaction, is_test > 0, source, intents, n=draw(st.integers(-1, 4))
            )
        ),
    ]

    def related(items: Any, seen_as: int, k: int) -> Any:
        return np.tile(np.arange(k, dtype=np.int32), (len(items), 1))

    for cases in made:
        if cases is not None:
            hits = attempt(lambda cases=cases: metrics.purchase_intent(cases, related, budgets))
            assert hits is None or hits.shape == (cases.n_targets, len(budgets))
            if hits is not None and len(budgets):
                assert len(metrics.mean_by_case(cases, hits[:, 0])) == cases.n_cases


@case("endcap.metrics.intent_lengths", "endcap.metrics.events_to_judge_by")
def _(draw: Draw, _: Path) -> Any:
    n_items = draw(st.integers(0, 10**9))
    assert all(length >= 1 for length in metrics.intent_lengths(n_items))
    assert 5_000 <= metrics.events_to_judge_by(n_items) <= 200_000


# -- index -------------------------------------------------------------------------------------------------------------


@case("endcap.index.build", "endcap.index.recall", "endcap.index.Exact", "endcap.index.Hnsw", "endcap.index.open_index")
def _(draw: Draw, folder: Path) -> Any:
    items, vectors = draw(st.just(np.arange(5)) | arrays()), draw(st.just(np.eye(5, 3)) | arrays(2))
    built = attempt(
        lambda: index.build(Space(items, vectors), draw(st.sampled_from(["auto", "exact", "hnsw", "x", None])))
    )
    refusal(lambda: index.open_index(Path(draw(st.sampled_from(PATHS)))))
    if built is None:
        return
    queries, k = draw(st.just(np.eye(2, 3, dtype=np.float32)) | arrays(2)), draw(COUNTS)
    allowed = draw(st.none() | arrays(most=1, least=0).map(lambda mask: mask.astype(bool)) | arrays())
    found = attempt(lambda: built.search(queries, k, allowed))
    if found is not None:
        assert found[0].shape == found[1].shape == (len(queries), k)
        assert set(found[0].ravel().tolist()) <= {-1, *items.tolist()}
        if allowed is not None:
            assert all(item < 0 or (item < len(allowed) and allowed[item]) for item in found[0].ravel())
        attempt(lambda: index.recall(built, built, queries, k))


# -- shops -------------------------------------------------------------------------------------------------------------


@case("endcap.shop.duration", "endcap.shop.Interactions")
def _(draw: Draw, _: Path) -> Any:
    text = draw(TEXTS)
    refusal_or_type_error(lambda: duration(text))
    refusal_or_type_error(lambda: Interactions().code(text))


@case("endcap.shop.Vocabulary")
def _(draw: Draw, _: Path) -> Any:
    vocabulary = Vocabulary(["a", "b", "é"])
    name, number = draw(TEXTS), draw(NUMBERS)
    refusal_or_type_error(lambda: vocabulary.number(name))
    refusal_or_type_error(lambda: vocabulary.encode([name, "a"]))
    with_index_error(lambda: vocabulary[number])


COLUMNS = st.sampled_from(
    [
        ["u0", "u1", "u0"],
        ["i0", None, "i1"],
        ["click", "cart", "buy"],
        [START, START + 1, START + 2],
        [1, 2, 3],
        [None, None, None],
        [1.5, float("nan"), 2.0],
        [True, False, True],
        [[1], [2], []],
        [b"a", b"\xff", b""],
        ["", " ", "\0"],
    ]
)
GOOD = {
    "user": ["u0", "u1", "u0"],
    "item": ["i0", "i1", "i1"],
    "interaction": ["click"] * 3,
    "time": [START, START + 1, START + 9],
}
TABLES = st.one_of(
    st.dictionaries(st.sampled_from([*GOOD, "session", "price", "x"]), COLUMNS, max_size=6).map(
        lambda some: GOOD | some
    ),
    st.dictionaries(st.sampled_from([*GOOD, "session"]), COLUMNS, max_size=4),
).map(pa.table)


@cache
def known_shop() -> Shop:
    rows = [
        (f"u{n % 7}", f"i{(n * n) % 11}", ("click", "cart", "purchase")[n % 3], START + 3_600 * n) for n in range(400)
    ]
    return Shop.from_tables(pa.table(dict(zip(GOOD, map(list, zip(*rows, strict=True)), strict=True))))


@case(
    "endcap.shop.Shop",
    "endcap.shop.Events",
    "endcap.graph.typed_sessions",
    "endcap.graph.TypedSessions",
    "endcap.shop.describe.describe",
)
def _(draw: Draw, _: Path) -> Any:
    events, items = draw(TABLES | st.sampled_from([None, 3, "x", {}, []])), draw(st.none() | TABLES)
    made = attempt(
        lambda: Shop.from_tables(events, items, max_rejected=draw(st.sampled_from([1.0, 0.0, 9, "x", None])))
    )
    some = known_shop() if made is None else made
    assert isinstance(some.events, Events)
    test, moment = (
        draw(st.sampled_from(["7d", "1h", 0.5, "0.1", 0, -1, 1, 2, "x", float("nan"), None, "1e400", [], "\ud800"])),
        draw(NUMBERS),
    )
    parts = attempt(lambda: some.split_by_time(test))
    if parts is not None:
        assert parts[0].events.time.max() < parts[1].events.time.min()
    refusal_or_type_error(lambda: some.until(moment))
    refusal_or_type_error(lambda: some.since(moment))
    some.history(moment if isinstance(moment, int) else -1)
    describe(some)
    corpus = graph.typed_sessions(some.positives, some.positives.item, some.n_items, len(some.interactions))
    attempt(lambda: corpus.following(draw(st.just(2) | SMALL), min_count=draw(SMALL), reach=draw(SMALL)))


def graphs(draw: Draw) -> csr_array:
    """Small graphs, symmetric or not, square or not, now and then with weights that are none."""
    rows, columns = draw(st.just((4, 4)) | st.tuples(st.integers(0, 4), st.integers(0, 4)))
    weight = st.sampled_from([0.0] * 9 + [1.0] * 9 + [0.5, 3.0] * 4 + [-1.0, float("nan"), float("inf")])
    dense = np.array(draw(st.lists(weight, min_size=rows * columns, max_size=rows * columns)), np.float32)
    dense = dense.reshape(rows, columns)
    return csr_array(np.maximum(dense, dense.T) if rows == columns and draw(st.booleans()) else dense)


@case(
    "endcap.graph.top_edges",
    "endcap.graph.quiet_hubs",
    "endcap.graph.statistics",
    "endcap.graph.communities",
    "endcap.graph.random_walks",
    "endcap.graph.important_neighbours",
    "endcap.graph.PageRank",
    "endcap.graph.sample_edges",
    "endcap.graph.neighbourhood",
    "endcap.graph.with_catalogue",
    "endcap.graph.graph_of",
)
def _(draw: Draw, _: Path) -> Any:
    one, nodes, number = graphs(draw), draw(st.just(np.array([0])) | arrays()), draw(COUNTS)
    kept = attempt(lambda: graph.top_edges(one, number))
    assert kept is None or np.diff(kept.indptr).max(initial=0) <= number
    assert graph.quiet_hubs(one).nnz == one.nnz
    refusal_or_type_error(lambda: graph.statistics(one))
    found = attempt(lambda: graph.communities(one, resolution=draw(st.just(1.0) | SMALL)))
    assert found is None or len(found) == one.shape[0]
    seed, few = draw(st.just(0) | SMALL), min(number, 99) if isinstance(number, int) else number
    refusal_or_type_error(lambda: graph.random_walks(one, nodes, length=few, restart=draw(SMALL), seed=seed))
    near = attempt(lambda: graph.important_neighbours(one, k=number, walks=few, seed=seed))
    assert near is None or np.isfinite(near.data).all()
    chances = attempt(lambda: graph.PageRank(one, damping=draw(st.just(0.85) | SMALL), steps=few).of(nodes))
    assert chances is None or np.isfinite(chances).all()
    refusal_or_type_error(lambda: graph.sample_edges(one, nodes, number, weighted=draw(st.booleans()), seed=seed))
    refusal_or_type_error(lambda: graph.neighbourhood(one, nodes, (number, 2), seed=seed))
    refusal_or_type_error(lambda: graph.with_catalogue(one, graphs(draw)))
    source, target, weight = draw(rows_of((0, 3), (0, 3), (1, 3)))
    made = attempt(lambda: graph.graph_of(source, target, weight, shape=(4, 4), loops=draw(st.booleans())))
    assert made is None or made.has_canonical_format


@case(
    "endcap.graph.Baskets",
    "endcap.graph.baskets_of",
    "endcap.graph.CoPurchase",
    "endcap.graph.co_purchase",
    "endcap.graph.weigh",
    "endcap.graph.seasonal",
    "endcap.graph.describe_graph",
    "endcap.graph.catalogue_edges",
    "endcap.graph.TypedGraph",
    "endcap.graph.typed_graph",
)
def _(draw: Draw, _: Path) -> Any:
    lists = draw(st.lists(st.lists(st.integers(-1, 5) | st.just(2**40), max_size=4), max_size=5) | st.just([["x"]]))
    some = attempt(lambda: graph.Baskets.of_lists(lists)) or graph.baskets_of(known_shop())
    n_items = draw(st.just(6) | st.just(known_shop().n_items) | SMALL)
    settings = {"window_days": SMALL, "half_life_days": SMALL, "min_support": COUNTS, "per_item": COUNTS}
    given = draw(st.fixed_dictionaries({}, optional=settings))
    co = attempt(lambda: graph.co_purchase(some, n_items, **given))
    if co is not None:
        by, more = (
            draw(st.sampled_from([*graph.WEIGHTINGS, "x", None])),
            {"damping": draw(SMALL), "shrink": draw(SMALL)},
        )
        weights = attempt(lambda: graph.weigh(co, by, **more))
        assert weights is None or np.isfinite(weights.data).all()
    refusal_or_type_error(lambda: graph.seasonal(some, n_items, delta_days=draw(st.just(30) | SMALL)))
    refusal_or_type_error(lambda: graph.baskets_of(known_shop(), largest=draw(SMALL)))
    events, items = draw(st.just(None) | TABLES), draw(st.none() | TABLES)
    log = attempt(lambda: Shop.from_tables(events, items, max_rejected=1.0)) or known_shop()
    refusal(lambda: graph.describe_graph(log))
    types = draw(st.sampled_from([("product",), ("user", "brand"), ("category", "occasion"), ("x",)]))
    typed = attempt(lambda: graph.typed_graph(log, types=types, k=draw(COUNTS), occasions=draw(COUNTS)))
    assert typed is None or all(np.isfinite(nodes.features).all() for nodes in typed.nodes.values())
    bought = draw(st.just(np.zeros(log.n_items)) | arrays())
    nothing = csr_array((log.n_items, log.n_items), dtype=np.float32)
    refusal_or_type_error(lambda: graph.catalogue_edges(log.catalogue, bought, nothing, k=draw(COUNTS)))


@case("endcap.shop.ingest.ingest")
def _(draw: Draw, folder: Path) -> Any:
    paths = st.sampled_from(PATHS).map(lambda name: folder / name)
    shutil.rmtree(folder / "again", ignore_errors=True)
    refusal_or_type_error(
        lambda: ingest(
            draw(paths),
            shop=draw(paths.filter(lambda path: path.name != "shop") | st.just(folder / "again")),
            items=draw(st.just(()) | paths),
            **{draw(st.sampled_from(["timezone", "max_rejected", "x"])): draw(TEXTS)},
        )
    )


@case("endcap.simulate.simulate", "endcap.simulate.tables", "endcap.simulate.ShopSettings")
def _(draw: Draw, folder: Path) -> Any:
    settings = draw(
        st.dictionaries(st.sampled_from(["items", "users", "days", "x", "categories"]), st.just(5) | TEXTS, max_size=2)
    )
    given = {"events": draw(st.just(40) | SMALL.filter(lambda n: n != 10**30)), "seed": draw(st.just(0) | SMALL)}
    refusal_or_type_error(lambda: simulate.tables(**given, settings=settings))
    refusal_or_type_error(lambda: simulate.simulate(folder / draw(st.sampled_from(PATHS)), **given, format=draw(NAMES)))


# -- models and evaluation ---------------------------------------------------------------------------------------------


@cache
def fitted() -> list[models.Model]:
    small = {"item-interaction": {"dim": 4, "epochs": 1}, "sgns": {"dim": 4, "epochs": 1}, "als": {"factors": 2}}
    return [models.create(name, small.get(name)).fit(known_shop()) for name in models.SYSTEMS]


@case(
    "endcap.models.create",
    "endcap.models.open",
    "endcap.ItemInteraction",
    "endcap.models.item_interaction.ItemInteraction",
)
def _(draw: Draw, folder: Path) -> Any:
    settings = draw(
        st.dictionaries(st.sampled_from(["dim", "epochs", "k", "memory", "x"]), NUMBERS | TEXTS, max_size=3)
    )
    name = draw(st.sampled_from([*models.SYSTEMS, "x", "", "\ud800"]))
    refusal_or_type_error(lambda: models.create(name, settings))
    refusal_or_type_error(lambda: endcap.ItemInteraction(**settings))
    refusal_or_type_error(lambda: models.open(folder / draw(st.sampled_from(PATHS))))


@cache
def known_facts() -> ranker_features.Facts:
    return ranker_features.Facts.of(known_shop(), 7 * 86_400_000_000)


@case("endcap.models.ranker_features.features", "endcap.models.ranker_features.Facts")
def _(draw: Draw, _: Path) -> Any:
    candidates, scores, length = draw(arrays(2)), draw(arrays(2)), draw(st.just(5) | SMALL)
    past = ranker_features.pack([known_shop().history(user) for user in range(len(np.atleast_1d(candidates)))])
    found = attempt(lambda: ranker_features.features(known_facts(), past, candidates, {"m": scores}, length))
    names = ranker_features.feature_names(known_facts(), ["m"])
    assert found is None or found.shape == (*candidates.shape, len(names))
    links = pa.table({name: draw(st.lists(NAMES, min_size=2, max_size=2)) for name in ("item", "other", "relation")})
    given = links.select(draw(st.sampled_from([["item"], links.column_names])))
    refusal_or_type_error(lambda: ranker_features.Facts.of(known_shop(), 1, given))


@case("endcap.models.ranker.Ranker")
def _(draw: Draw, folder: Path) -> Any:
    settings = draw(st.dictionaries(st.sampled_from(["trees", "budget", "recent", "x"]), NUMBERS | TEXTS, max_size=2))
    refusal_or_type_error(lambda: ranker.Ranker(**settings))
    labels, rows, sizes = draw(rows_of((0, 2), (0, 4), (1, 1)))
    groups = ranker.Groups(
        ["a: b"], rows.reshape(-1, 1).astype(float) if rows.dtype.kind != "U" else rows, labels, sizes
    )
    two = ranker.Ranker(trees=2, min_rows=1, queries=5)
    refusal_or_type_error(lambda: two.fit_on(groups))
    start = draw(st.integers(-5, 2**60))
    log, sources = known_shop(), {"popularity": fitted()[1]}
    refusal_or_type_error(lambda: two.fit(log, sources, start=start))
    refusal_or_type_error(lambda: two.save(folder / "ranker"))


@case("endcap.models.base.Model", "endcap.answers.Request", "endcap.answers.Candidates")
def _(draw: Draw, folder: Path) -> Any:
    model = draw(st.sampled_from(fitted()))
    n = known_shop().n_items
    k, seen_as, want = draw(COUNTS), draw(TEXTS), draw(TEXTS)
    pairs = attempt(lambda: model.related(draw(NAMES), seen_as=seen_as, want=want, k=k))
    assert pairs is None or len(pairs) <= k
    history = History(
        *(
            np.array(column)
            for column in zip(
                *draw(st.lists(st.tuples(st.integers(-1, n), st.integers(0, 3), st.just(0)), min_size=1, max_size=5)),
                strict=True,
            )
        )
    )
    allowed = draw(st.none() | st.lists(st.booleans(), min_size=n, max_size=n).map(np.array))
    request = Request(
        k=draw(st.integers(1, 20)),
        user=draw(st.none() | st.integers(-1, 9)),
        item=draw(st.none() | st.integers(-1, n + 1)),
        want=draw(st.none() | st.integers(0, 3)),
        history=history,
        allowed=allowed,
    )
    answer = model.candidates(request)
    assert isinstance(answer, Candidates)
    found = answer.items.tolist()
    assert len(found) == len(set(found)) <= request.k
    assert all(0 <= item < n and (allowed is None or allowed[item]) for item in found)
    assert request.item not in found
    refusal_or_type_error(
        lambda: model.save(folder / draw(st.sampled_from(["noise.bin", "shop", "missing/x", "x" * 300])))
    )
    assert len(Shop.open(folder / "shop").events)


@case("endcap.evaluate.evaluate")
def _(draw: Draw, folder: Path) -> Any:
    arguments = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "protocol": st.sampled_from([*evaluate_package.PROTOCOLS, "x", None]),
                "seen": st.sampled_from(["leave-out", "keep", "zero", "x", None]),
                "negatives": st.sampled_from(["uniform2", "popularity9", "uniform", "x", 3, None]) | arrays(2),
                "at_most": SMALL,
                "test": st.sampled_from(["2d", 0.2, "x", 7, None]),
                "source": TEXTS,
                "want": TEXTS,
                "budgets": st.sampled_from([[5], [], [0], [10**30], "x", None, [1.5]]),
                "pairs": st.sampled_from(["all", "x", ["click:cart"], [":"], 3]),
                "lengths": st.sampled_from([[5], [], [-1], ["x"], None]),
                "seed": SMALL,
                "threads": st.sampled_from([1, 0, -1, None]),
            },
        )
    )
    entrants = draw(
        st.sampled_from(
            [["popularity"], [], ["x"], "popularity", [3], {"a": "popularity"}, None, ["shop"], fitted()[:1]]
        )
    )
    refusal_or_type_error(lambda: evaluate(known_shop(), entrants, **arguments))


@case("endcap.models.rules.rules")
def _(draw: Draw, _: Path) -> Any:
    lists = draw(st.lists(st.lists(st.integers(-1, 5), max_size=4), max_size=5) | st.just([["x"]]))
    settings = {
        "min_support": st.sampled_from([1, 0.1, 0, -1, float("nan"), float("inf"), None, "x"]),
        "min_confidence": st.sampled_from([0, 0.5, 1, 2, -1, float("nan"), None]),
        "longest": SMALL,
        "most": COUNTS,
    }
    given = draw(st.fixed_dictionaries({}, optional=settings))
    baskets = attempt(lambda: graph.Baskets.of_lists(lists))
    if baskets is not None:
        found = attempt(lambda: rules(baskets, **given))
        assert found is None or (found.confidence <= 1).all()


@case("endcap.evaluate.split_people")
def _(draw: Draw, _: Path) -> Any:
    seed = draw(st.just(1) | SMALL)
    train, validation, test = split_people(known_shop().some_people(draw(st.integers(1, 400))), seed=seed)
    parts = [set(part.positives.user.tolist()) for part in (train, validation, test)]
    assert sum(map(len, parts)) == len(set.union(*parts))


@case("endcap.evaluate.tune")
def _(draw: Draw, folder: Path) -> Any:
    system = draw(st.sampled_from(["popularity", "co-occurrence", "x", "", None]))
    budget = draw(st.sampled_from([0.01, 0, -1, float("nan"), None, "x"]))
    refusal_or_type_error(
        lambda: tune(system, known_shop(), budget_s=budget, settings=draw(st.sampled_from([{}, {"x": 1}, {"k": 0}])))
    )


# -- releases, jobs, server --------------------------------------------------------------------------------------------


@case(
    "endcap.release.Release",
    "endcap.release.Part",
    "endcap.release.write_release",
    "endcap.release.live",
    "endcap.release.activate",
    "endcap.release.rollback",
    "endcap.release.releases",
    "endcap.release.prune",
    "endcap.release.verify_release",
    "endcap.jobs.publish.publish",
    "endcap.jobs.refresh.refresh",
    "endcap.jobs.drain.drain",
    "endcap.jobs.forget.forget",
    "endcap.serve.app.create_app",
)
def _(draw: Draw, folder: Path) -> Any:
    anywhere = st.sampled_from([folder / name for name in PATHS])
    path, other, name = draw(anywhere), draw(anywhere), draw(NAMES)
    elsewhere = draw(st.sampled_from([folder / name for name in ("empty", "missing/deeper", "state.db", "x" * 300)]))
    action = draw(
        st.sampled_from(
            [
                lambda: Release.open(path),
                lambda: release.live(path),
                lambda: release.activate(path, name),
                lambda: release.rollback(elsewhere),
                lambda: release.releases(path, check=True),
                lambda: release.prune(elsewhere, 1),
                lambda: release.verify_release(path, name),
                lambda: release.write_release(elsewhere, known_shop(), {name: Part(path)}),
                lambda: publish([path], other, elsewhere),
                lambda: publish({name: folder / "model"}, folder / "shop", elsewhere, keep=draw(SMALL), index=name),
                lambda: refresh(path, elsewhere, settings={name: other}),
                lambda: drain(path, other),
                lambda: forget(name, path, state=draw(st.none() | anywhere), to=other, dry_run=True),
                lambda: create_app(ServerSettings(releases=str(path), state=str(elsewhere))).state.service.close(),
            ]
        )
    )
    refusal_or_type_error(action)
    opened = Release.open(folder / "releases" / release.live(folder / "releases"))
    number = draw(st.integers(-5, 50))
    assert len(opened.history(number)) >= 0
    assert len(opened.bought(number)) >= 0
    assert len(opened.popular(0, category=draw(NAMES))) <= len(opened.items)


# -- trying ------------------------------------------------------------------------------------------------------------


def refusal_or_type_error(call: Callable[[], Any]) -> Exception | None:
    """What a call was refused with: one line of ours, or Python's own word that a type is wrong."""
    try:
        return refusal(call)
    except TypeError as error:
        return error


def with_index_error(call: Callable[[], Any]) -> None:
    """Sequences say IndexError."""
    with contextlib.suppress(IndexError, ValueError, OverflowError):
        refusal_or_type_error(call)


def attempt(call: Callable[[], Any]) -> Any:
    """The result of a call, None where it was refused."""
    result: list[Any] = []
    refusal_or_type_error(lambda: result.append(call()))
    return result[0] if result else None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("functions")
    make_places(folder)
    return folder


SLOW = {"endcap.evaluate.evaluate": 8, "endcap.evaluate.tune": 6, "endcap.simulate.simulate": 6, "endcap.shop.Shop": 8}


@DEPTHS
@pytest.mark.parametrize("name", {id(tried): name for name, tried in CASES.items()}.values())
def test_arguments_of_anything(depth: int, name: str, folder: Path) -> None:
    def check(data: st.DataObject) -> None:
        refusal_or_type_error(lambda: CASES[name](data.draw, folder))

    try_out(check, st.data(), examples=SLOW.get(name, 25) * depth)
