"""The server under load: latencies, CPU a request, memory, and how much of the truth its index finds under filters.

    python benchmarks/serving.py [--only related,recall] [--work DIR] [--minutes 30] [--json FILE] [--quick]

A shop with planted clusters is published once (into DIR, which later runs use again) and served by `endcap serve` with
one worker in a process of its own. Scenarios:

    related     because somebody saw this: 80 % unfiltered, 20 % under filters that leave 1 %
    recommend   from 50 actions in the question, and for known users with 50 events
    mixed       both, and events, changes of items and a new release every few seconds
    recall      the top 100 of the index against exact search, under filters that leave 100 % to 0.1 %
    cross-sell  what goes with an item (70 %) or a basket (30 %), with score parts, half under filters
    interests   CoActionGraphRec with 4 interests, for histories of 50, without and with 1,000 new items; its recall
    soak        the mixed load for many minutes: does memory grow?

The server chooses its own port; nothing leaves this machine. `cross-sell` and `interests`, which train a little, and
the soak run only where `--only` names them.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec
import numpy as np
from numpy.typing import NDArray

from _load import CHECKED, CONNECTIONS, Ask, Check, Outcome, ServerProcess, Traffic, drive, wire
from _planted_release import (
    HISTORY,
    INTERESTS,
    KINDS,
    SHARES,
    Learn,
    Planted,
    learn_cross_sell,
    learn_interests,
    plant,
    plant_interaction,
    releases_of,
)
from _report import Row, arguments, report, write_json
from endcap import models
from endcap.answers import Items, Request, Scores, Searcher
from endcap.index import Exact
from endcap.index import recall as share_found
from endcap.jobs.probe import Recorder, attach
from endcap.release import Release, activate

ITEMS, QUICK_ITEMS = 100_000, 10_000
SECONDS, QUICK_SECONDS = 60.0, 10.0
K, DIFFERENT = 10, 2000  # items a list; different requests of a kind
SEED = 0
P99_RELATED, P99_RECOMMEND, P99_INTERESTS, P99_CROSS_SELL = 10.0, 15.0, 30.0, 15.0
RECALL, RECALL_MERGED, GROWTH = 0.99, 0.95, 0.05
SWITCH_EVERY_S = 5.0
SETTLED_S, SOAK_SETTLED_S = 5.0, 300.0
SWITCHES_SETTLED = 4  # from the second on, two releases are open and a third while it is opened
SUPPRESSED = 20
QUERIES = 200
NEW_ITEMS = 1000
WANTED = "cart"
SWITCHES = re.compile(rb"^endcap_release_switches_total (\S+)", re.MULTILINE)
ALLOWED_SHARES = (1.0, 0.1, 0.01, 0.001)
NOTES = f"""Latencies count from the moment at which a request should have left (open loop, Poisson); at most
{CONNECTIONS} requests are in flight, and one beyond counts as an error. One answer in {CHECKED} is read: {K} items of
the model itself, none twice, all within the filter, never a suppressed one. Nothing is sent before the clock runs."""


Filter = tuple[dict[str, list[str]], NDArray[np.bool_]]  # as in a query, and the items that it leaves


class Found(msgspec.Struct):
    item: str
    parts: dict[str, float] = {}


class Listed(msgspec.Struct):
    """What is checked of an answer."""

    items: list[Found]
    fallback: str | None = None


class Setting(NamedTuple):
    """What every scenario starts from."""

    planted: Planted
    folder: Path
    releases: list[str]
    seconds: float
    command: str

    @property
    def name(self) -> str:
        return f"{self.planted.n_items:,} items"


# -- requests ----------------------------------------------------------------------------------------------------------


def holds(allowed: NDArray[np.bool_], never: Collection[int] = ()) -> Check:
    """What is wrong with a list: its length, an item that comes twice, one that must not be there."""
    decoder = msgspec.json.Decoder(Listed)

    def check(body: bytes) -> str:
        answer = decoder.decode(body)
        numbers = [int(found.item[1:]) for found in answer.items]
        if len(set(numbers)) != K:
            return f"{len(set(numbers))} different items instead of {K}"
        if answer.fallback is not None:
            return f"filled up by {answer.fallback}"
        return "" if allowed[numbers].all() and not set(numbers) & set(never) else "an item that must not be there"

    return check


def stored(body: bytes) -> str:
    """What is wrong with the acknowledgement of one event or one change."""
    answer = json.loads(body)
    return "" if 1 in (answer.get("recorded"), answer.get("updated")) else f"not stored: {body!r}"


def narrow_filters(planted: Planted) -> Iterator[Filter]:
    """Filters that leave 1 %, with what they allow: each brand, and stretches of categories."""
    for brand in range(int(planted.brand.max()) + 1):
        yield {"brand": [f"b{brand}"]}, planted.brand == brand
    for allowed in clustered(planted, 0.01):
        yield {"category": [planted.path(category) for category in np.unique(planted.category[allowed])]}, allowed


def clustered(planted: Planted, share: float, n: int = 100, seed: int = SEED) -> Iterator[NDArray[np.bool_]]:
    """Whole categories drawn at random until at least this share of the items is in them."""
    rng = np.random.default_rng([seed, 4])
    sizes = np.bincount(planted.category)
    for _ in range(n):
        order = rng.permutation(len(sizes))
        enough = np.searchsorted(np.cumsum(sizes[order]), share * planted.n_items) + 1
        yield np.isin(planted.category, order[:enough])


def related_asks(planted: Planted, hidden: Collection[int] = ()) -> tuple[list[Ask], list[Ask]]:
    """Related items of popular ones: unfiltered, and under filters that leave 1 %."""
    anything: Filter = ({}, np.ones(planted.n_items, bool))
    filters = itertools.cycle(narrow_filters(planted))
    items = _popular(planted, 2 * DIFFERENT)
    return (
        [_related(item, anything, hidden) for item in items[:DIFFERENT]],
        [_related(item, next(filters), hidden) for item in items[DIFFERENT:]],
    )


def _related(item: int, chosen: Filter, hidden: Collection[int]) -> Ask:
    filters, allowed = chosen
    query = urlencode({"seen_as": "click", "want": "cart", "k": K, **filters}, doseq=True)
    return Ask(wire("GET", f"/v1/items/i{item}/related?{query}"), holds(allowed, {item, *hidden}))


def recommend_asks(planted: Planted, hidden: Collection[int] = (), n_new: int = 0) -> tuple[list[Ask], list[Ask]]:
    """Lists from 50 actions in the question, and for known users, who all have 50 events; `n_new`: announced items."""
    rng = np.random.default_rng([SEED, 6])
    allowed = np.ones(planted.n_items + n_new, bool)
    pasts = np.array(_popular(planted, DIFFERENT * HISTORY)).reshape(DIFFERENT, HISTORY)
    users = rng.permutation(planted.n_users)[:DIFFERENT].tolist()
    said = [[{"item": f"i{item}", "interaction": _some_kind(rng)} for item in past] for past in pasts.tolist()]
    questions = [{"actions": actions, "k": K} for actions in said], [{"user": f"u{user}", "k": K} for user in users]
    return tuple(  # type: ignore[return-value]
        [Ask(wire("POST", "/v1/recommend", msgspec.json.encode(one)), holds(allowed, hidden)) for one in kind]
        for kind in questions
    )


def cross_sell_asks(planted: Planted, hidden: Collection[int] = ()) -> dict[str, list[Ask]]:
    """What goes with popular items and with baskets of two to six, with parts; plain, and under filters."""
    rng = np.random.default_rng([SEED, 12])
    anything = np.ones(planted.n_items, bool)
    asks: dict[str, list[Ask]] = {}
    for kind, filters in (("plain", {}), ("filtered", {"min_price": 5.0, "not_brand": ["b3"], "max_per_brand": 2})):
        allowed = anything if not filters else planted.brand != 3
        query = urlencode({"k": K, "parts": "true", **filters}, doseq=True)
        asks[f"item, {kind}"] = [
            Ask(wire("GET", f"/v1/items/i{item}/cross-sell?{query}"), _goes_with(allowed, {item, *hidden}))
            for item in _popular(planted, DIFFERENT)
        ]
        baskets = [_popular(planted, DIFFERENT * 6)[n * 6 : n * 6 + rng.integers(2, 7)] for n in range(DIFFERENT)]
        ids = [[f"i{item}" for item in basket] for basket in baskets]
        body = {"k": K, "parts": True, "filters": filters}
        asks[f"basket, {kind}"] = [
            Ask(
                wire("POST", "/v1/cross-sell", msgspec.json.encode({**body, "basket": named})),
                _goes_with(allowed, {*basket, *hidden}),
            )
            for basket, named in zip(baskets, ids, strict=True)
        ]
    return asks


def _goes_with(allowed: NDArray[np.bool_], never: Collection[int]) -> Check:
    """`holds`, and every item has its parts and is no rival by them."""
    listed, decoder = holds(allowed, never), msgspec.json.Decoder(Listed)

    def check(body: bytes) -> str:
        parts = [found.parts for found in decoder.decode(body).items]
        if not all(part.get("complement", 0) >= 0.5 for part in parts):
            return "an item without parts, or a rival"
        return listed(body)

    return check


def event_asks(planted: Planted) -> list[Ask]:
    """Single events of known users."""
    rng = np.random.default_rng([SEED, 7])
    users, items = rng.integers(0, planted.n_users, DIFFERENT).tolist(), _popular(planted, DIFFERENT)
    events = (
        {"user": f"u{user}", "item": f"i{item}", "interaction": _some_kind(rng)}
        for user, item in zip(users, items, strict=True)
    )
    return [Ask(wire("POST", "/v1/events", msgspec.json.encode(event)), stored) for event in events]


def update_asks(planted: Planted) -> list[Ask]:
    """New prices and stocks of single items."""
    rng = np.random.default_rng([SEED, 8])
    changes = (
        {"item": f"i{item}", "price": round(float(rng.lognormal(3, 1)), 2), "in_stock": bool(rng.random() < 0.9)}
        for item in _popular(planted, DIFFERENT)
    )
    return [Ask(wire("PUT", "/v1/items", msgspec.json.encode(change)), stored) for change in changes]


def new_items(planted: Planted, n: int) -> list[dict[str, object]]:
    """Items to announce, after those of the shop, spread over its categories."""
    rng = np.random.default_rng([SEED, 11])
    alike = rng.integers(0, planted.n_items, n).tolist()
    return [
        {
            "item": f"i{planted.n_items + number}",
            "title": f"Thing number {planted.n_items + number}",
            "category": planted.path(int(planted.category[like])),
            "brand": f"b{planted.brand[like]}",
            "price": round(float(rng.lognormal(3, 1)), 2),
        }
        for number, like in enumerate(alike)
    ]


def _popular(planted: Planted, n: int) -> list[int]:
    return np.random.default_rng([SEED, n]).choice(planted.n_items, n, p=planted.popularity).tolist()


def _some_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(KINDS, p=SHARES))


# -- scenarios ---------------------------------------------------------------------------------------------------------


def related(setting: Setting) -> list[Row]:
    wide, narrow = related_asks(setting.planted)
    traffic = {"unfiltered": Traffic(160, wide), "filter leaves 1 %": Traffic(40, narrow)}
    what = f"related, {setting.name}, 200 requests/s for {setting.seconds:g} s, 20 % under a filter that leaves 1 %"
    return _load_rows(what, setting, _drive(setting, traffic), P99_RELATED, SETTLED_S)


def recommend(setting: Setting) -> list[Row]:
    rows = []
    for kind, asks in zip(
        ("50 actions in the question", "users with 50 events"), recommend_asks(setting.planted), strict=True
    ):
        what = f"recommend, {kind}, {setting.name}, 100 requests/s for {setting.seconds:g} s"
        rows += _load_rows(what, setting, _drive(setting, {kind: Traffic(100, asks)}), P99_RECOMMEND, SETTLED_S)
    return rows


def cross_sell(setting: Setting) -> list[Row]:
    planted = setting.planted
    hidden = np.argsort(-planted.popularity)[:SUPPRESSED].tolist()
    asks = cross_sell_asks(planted, hidden)
    rates = {"item, plain": 35, "item, filtered": 35, "basket, plain": 15, "basket, filtered": 15}
    with _serving(setting) as server:
        server.send("PUT", "/v1/items", [{"item": f"i{item}", "suppressed": True} for item in hidden])
        traffic = {kind: Traffic(rate, asks[kind]) for kind, rate in rates.items()}
        outcome = drive(server, traffic, setting.seconds, seed=SEED)
    what = f"cross-sell with parts, {setting.name}, 100 requests/s for {setting.seconds:g} s"
    return _load_rows(what, setting, outcome, P99_CROSS_SELL, SETTLED_S)


def mixed(setting: Setting) -> list[Row]:
    what = f"mixed, {setting.name}, 145 requests/s for {setting.seconds:g} s, a new release every {SWITCH_EVERY_S:g} s"
    return _mixed_rows(what, setting, min(SWITCHES_SETTLED * SWITCH_EVERY_S, setting.seconds / 2))


def soak(setting: Setting) -> list[Row]:
    what = f"soak, {setting.name}, mixed load for {setting.seconds / 60:g} minutes"
    return _mixed_rows(what, setting, min(SOAK_SETTLED_S, setting.seconds / 3))


def _drive(setting: Setting, traffic: Mapping[str, Traffic]) -> Outcome:
    with _serving(setting) as server:
        return drive(server, traffic, setting.seconds, seed=SEED)


@contextmanager
def _serving(setting: Setting) -> Iterator[ServerProcess]:
    """A server of its own, with an empty live state."""
    to = setting.folder / "releases"
    activate(to, setting.releases[0])
    with (
        tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as state,
        ServerProcess(to, Path(state) / "state.db") as server,
    ):
        yield server


def _mixed_rows(what: str, setting: Setting, settled_s: float) -> list[Row]:
    """Everything at once; the most popular items are suppressed before, and must not be seen again."""
    planted, to = setting.planted, setting.folder / "releases"
    hidden = np.argsort(-planted.popularity)[:SUPPRESSED].tolist()
    (wide, narrow), (said, known) = related_asks(planted, hidden), recommend_asks(planted, hidden)
    traffic = {
        "related": Traffic(64, wide),
        "related, filtered": Traffic(16, narrow),
        "recommend, actions": Traffic(20, said),
        "recommend, users": Traffic(20, known),
        "events": Traffic(20, event_asks(planted)),
        "item updates": Traffic(5, update_asks(planted)),
    }
    others = itertools.cycle([*setting.releases[1:], setting.releases[0]])
    with _serving(setting) as server:
        server.send("PUT", "/v1/items", [{"item": f"i{item}", "suppressed": True} for item in hidden])
        switching = {SWITCH_EVERY_S: lambda _: activate(to, next(others))}
        outcome = drive(server, traffic, setting.seconds, seed=SEED, every=switching)
        switches = float(SWITCHES.search(server.get("/metrics"))[1])  # type: ignore[index]
    expected = int(setting.seconds / SWITCH_EVERY_S) - 1  # the last may still be on its way
    return [
        *_load_rows(what, setting, outcome, None, settled_s),
        Row(
            what="releases gone live meanwhile",
            ours=int(switches),
            target=f">= {expected}",
            met=switches >= expected,
            command=setting.command,
        ),
    ]


def _load_rows(what: str, setting: Setting, outcome: Outcome, p99: float | None, settled_s: float) -> list[Row]:
    """The rows of one run."""
    rows = [_latency_row(what, outcome.all_ms, p99, setting.command)]
    if len(outcome.ms) > 1:
        rows += [_latency_row(f"of these {kind}", found, None, setting.command) for kind, found in outcome.ms.items()]
    errors = sum(outcome.errors.values())
    for what_failed, count in outcome.errors.most_common(10):
        print(f"{count} x {what_failed}")
    rows.append(
        Row(
            what=f"errors of {outcome.requests:,} requests",
            ours=errors,
            target="0",
            met=errors == 0,
            command=setting.command,
        )
    )
    rows.append(
        Row(
            what="CPU-ms a request, server",
            ours=round(outcome.cpu_ms, 3),
            reference=f"generator: {outcome.own_cpu_s / outcome.seconds:.0%} of a core, "
            f"p99 {np.percentile(outcome.late_ms, 99):.2f} ms late; "
            f"the server waited for {outcome.page_ins} pages from disk",
            command=setting.command,
        )
    )
    return rows + _growth_rows(outcome, settled_s, setting.command)


def _latency_row(what: str, ms: NDArray[np.float64], p99: float | None, command: str) -> Row:
    p50, p99_measured, most = np.percentile(ms, (50, 99, 100)).round(2).tolist() if len(ms) else [np.nan] * 3
    return Row(
        what=f"{what}: p99, ms",
        ours=p99_measured,
        reference=f"p50 {p50:g}, max {most:g}, n={len(ms)}",
        target=None if p99 is None else f"<= {p99:g}",
        met=None if p99 is None else p99_measured <= p99,
        command=command,
    )


def _growth_rows(outcome: Outcome, settled_s: float, command: str) -> list[Row]:
    """How much memory grew once the server had settled: medians of the first and the last tenth after that.

    A leak shows in what no file stands behind. Mapped files come into memory as they are touched, and need more than
    the settling of a short run.
    """
    moment, resident, anonymous = np.array(outcome.memory).T
    after = np.flatnonzero(moment >= settled_s)
    tenth = max(1, len(after) // 10)
    rows = []
    for what, held, has_target in (
        ("without mapped files", anonymous, True),
        ("resident", resident, settled_s >= SOAK_SETTLED_S),
    ):
        growth = float(np.median(held[after[-tenth:]]) / np.median(held[after[:tenth]]) - 1)
        rows.append(
            Row(
                what=f"growth of memory after the first {settled_s:g} s, {what}",
                ours=f"{growth:+.1%}",
                reference=f"{held[-1] / 1e9:.2f} GB at the end",
                target=f"<= {GROWTH:.0%}" if has_target else None,
                met=growth <= GROWTH if has_target else None,
                command=command,
            )
        )
    return rows


def _queries(planted: Planted, model_folder: Path) -> NDArray[np.float32]:
    """(q, d): what a model asks its index for related items of popular ones."""
    model = models.open(model_folder)
    recorders = {name: Recorder(space) for name, space in model.spaces().items()}
    attach(model, recorders)
    items = np.unique(_popular(planted, DIFFERENT))[:QUERIES].astype(np.int32)
    model.related_batch(items, KINDS.index("click"), KINDS.index(WANTED), 1)
    return recorders[WANTED].queries()


class Under(NamedTuple):
    """Search under one filter."""

    searcher: Searcher
    allowed: NDArray[np.bool_] | None

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `answers.Searcher`."""
        return self.searcher.search(queries, k, self.allowed)


def recall(setting: Setting) -> list[Row]:
    """Recall of what an item's related list is searched with."""
    release = Release.open(setting.folder / "releases" / setting.releases[0])
    (name, model_folder), *_ = release.model_folders.items()
    index, space = release.searchers(name)[WANTED], models.open(model_folder).spaces()[WANTED]
    queries = _queries(setting.planted, model_folder)
    exact, planted, rng = Exact(space), setting.planted, np.random.default_rng([SEED, 9])
    rows = []
    for share in ALLOWED_SHARES:
        masks: dict[str, NDArray[np.bool_] | None] = {"": None}
        if share < 1:
            masks = {" at random": rng.random(planted.n_items) < share, " by category": next(clustered(planted, share))}
        for kind, mask in masks.items():
            begun = time.perf_counter()
            for query in queries:
                index.search(query[None], 100, mask)
            ms = 1000 * (time.perf_counter() - begun) / len(queries)
            found = share_found(Under(index, mask), Under(exact, mask), queries, 100)
            rows.append(
                Row(
                    what=f"recall of the top 100, {setting.name}, {100 * share:g} % of them allowed{kind}",
                    ours=round(found, 4),
                    reference=f"{ms:.2f} ms a search",
                    target=f">= {RECALL}",
                    met=found >= RECALL,
                    command=setting.command,
                )
            )
    return rows


def interests(setting: Setting) -> list[Row]:
    """Lists from several interests: 50 requests/s, without new items and with some that the model encodes."""
    planted, rows = setting.planted, _merged_recall(setting)
    kinds = ("50 actions in the question", "users with 50 events")
    asks = recommend_asks(planted, n_new=NEW_ITEMS)
    traffic = {kind: Traffic(25, of_kind) for kind, of_kind in zip(kinds, asks, strict=True)}
    for n_new in (0, NEW_ITEMS):
        with _serving(setting) as server:
            if n_new:
                server.send("PUT", "/v1/items", new_items(planted, n_new))
                server.send("POST", "/v1/recommend", {"k": 1})  # who asks first lets the model encode them
            outcome = drive(server, traffic, setting.seconds, seed=SEED)
        what = f"{INTERESTS} interests, {setting.name}{f' and {n_new:,} new ones' if n_new else ''}, 50 requests/s"
        rows += _load_rows(f"{what} for {setting.seconds:g} s", setting, outcome, P99_INTERESTS, SETTLED_S)
    return rows


def _merged_recall(setting: Setting) -> list[Row]:
    """How much of the true top 100 of people the merged searches of their interests find."""
    release = Release.open(setting.folder / "releases" / setting.releases[0])
    (name, folder), *_ = release.model_folders.items()
    truth, found = models.open(folder), models.open(folder)
    attach(found, release.searchers(name))
    users = np.random.default_rng([SEED, 10]).permutation(setting.planted.n_users)[:QUERIES].tolist()
    shares, seconds = [], 0.0
    for request in (Request(k=100, history=release.history(user)) for user in users):
        begun = time.perf_counter()
        ours = found.candidates(request).items
        seconds += time.perf_counter() - begun
        shares.append(len(np.intersect1d(ours, truth.candidates(request).items)) / 100)
    return [
        Row(
            what=f"recall of the top 100 of {INTERESTS} interests, {setting.name}",
            ours=round(float(np.mean(shares)), 4),
            reference=f"{1000 * seconds / len(users):.2f} ms a list, user tower and searches",
            target=f">= {RECALL_MERGED}",
            met=bool(np.mean(shares) >= RECALL_MERGED),
            command=setting.command,
        )
    ]


SCENARIOS: dict[str, Callable[[Setting], list[Row]]] = {
    "related": related, "recommend": recommend, "mixed": mixed, "recall": recall, "cross-sell": cross_sell,
    "interests": interests, "soak": soak,
}  # fmt: skip
ONLY_WHEN_ASKED = ("cross-sell", "interests", "soak")
TRAINED: dict[str, Learn] = {"cross-sell": learn_cross_sell, "interests": learn_interests}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", help=f"some of {','.join(SCENARIOS)} (default: all but {', '.join(ONLY_WHEN_ASKED)})")
    parser.add_argument("--work", type=Path, help="folder that keeps the releases for the next run")
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the soak")
    parser.add_argument("--items", type=int, help=f"size of the shop (default {ITEMS:,})")
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else [name for name in SCENARIOS if name not in ONLY_WHEN_ASKED]
    if unknown := set(chosen) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    n_items = given.items or (QUICK_ITEMS if given.quick else ITEMS)
    planted = plant(n_items, SEED)
    rows = []
    with tempfile.TemporaryDirectory(prefix="endcap-benchmark-") as passing:
        for name in chosen:
            learn = TRAINED.get(name, plant_interaction)
            folder = (given.work or Path(passing)) / f"{name if name in TRAINED else 'planted'}-{n_items}"
            names = releases_of(planted, folder, learn, SEED)
            minutes = given.minutes if name == "soak" else SECONDS / 60
            seconds = QUICK_SECONDS if given.quick else 60 * minutes
            command = f"python benchmarks/serving.py --only {name}{f' --items {n_items}' if n_items != ITEMS else ''}"
            found = SCENARIOS[name](Setting(planted, folder, names, seconds, command))
            data = f"planted clusters, {n_items:,} items, {planted.n_users:,} users, seed {SEED}"
            report(f"serving-{name}", data, found, quick=given.quick, notes="" if name == "recall" else NOTES)
            rows += found
    if given.json:
        write_json(given.json, "serving", data, rows, quick=given.quick)


if __name__ == "__main__":
    main()
