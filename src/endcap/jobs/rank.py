"""Training a second pass: its sources on what came before its stretch of time, the ranker on the stretch, then a
comparison on people and days that decided nothing.

    | sources are trained | the ranker is fitted | validation: half of the people say when to stop, half compare |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from endcap import metrics
from endcap.errors import InputError
from endcap.evaluate import Report
from endcap.evaluate.entrants import enter
from endcap.evaluate.outcomes import Outcomes
from endcap.models.ranker import Pools, Ranker
from endcap.release.write import check_name
from endcap.shop import Shop

K = 10
STRETCH = "7d"
RANKED, IN_TURN = "ranker", "in turn"


class Trained(NamedTuple):
    """A fitted ranker, and how it did against each of its sources and against one of each in turn."""

    ranker: Ranker
    report: Report

    def verdict(self) -> str:
        """Whether the second pass is worth its place, in one line."""
        figures, metric = self.report.models, self.report.headline
        best = max((name for name in figures if name != RANKED), key=lambda name: figures[name][metric].value)
        row = next(row for row in self.report.paired if row.metric == metric and {row.a, row.b} == {RANKED, best})
        low, high = (row.low, row.high) if row.a == RANKED else (-row.high, -row.low)
        if low > 0:
            return f"the ranker is better than the best without it ({best})"
        if high < 0:
            return f"the ranker is worse than {best}: serve that instead"
        return f"no difference to {best} is shown: the ranker is not worth its place yet"


def train_ranker(
    shop: Shop,
    sources: Mapping[str, str] | Sequence[str],
    *,
    fit: str = STRETCH,
    validation: str = STRETCH,
    settings: Mapping[str, Any] | None = None,
    source_settings: Mapping[str, Mapping[str, Any]] | None = None,
    relations: pa.Table | None = None,
    seed: int = 0,
    threads: int = 1,
    show: bool = False,
) -> Trained:
    """Train sources and a ranker over them.

    Args:
        sources: systems, or folders of models trained until the stretch, by the names that they will have in a release.
        fit, validation: lengths of the two last stretches of the log, as `7d` or shares of the events.
        settings: of the ranker; source_settings: of sources, by name; relations: (item, other, relation).

    Raises:
        InputError: for what cannot be a source, or a stretch with nothing to learn from.
    """
    named = dict(sources) if isinstance(sources, Mapping) else {name: name for name in sources}
    for name in named:
        check_name(name)
    ranker = Ranker(**(settings or {}))
    middle = shop.cut(validation)
    start = shop.until(middle).cut(fit)
    before = shop.until(start)
    if len(before.positives) == 0:
        raise InputError(f"ranker: nothing lies before the stretch to fit on; the log covers {shop.span_text()}")
    entrants = enter(named, shop.since(start), source_settings)
    with threadpool_limits(threads, "blas"):
        models = {one.name: one.ready(before, seed=seed, threads=threads, show=show) for one in entrants}
        ranker.fit(
            shop, models, start=start, validation=middle, relations=relations, seed=seed, threads=threads, show=show
        )
        judged = ranker.ask(shop, models, middle, shop.end, parity=1, seed=seed, show=show)
    report = compare(
        ranker, judged, {"fitted_on": shop.until(middle).since(start).span_text(), "seed": seed}, seed=seed
    )
    ranker.learned["validation"] = {name: row[report.headline]._asdict() for name, row in report.models.items()}
    ranker.learned["stretches"] = {"fit": fit, "validation": validation}
    ranker.know(shop, relations, seed=seed)
    return Trained(ranker, report)


def train_again(
    ranker: Ranker,
    shop: Shop,
    sources: Mapping[str, str],
    *,
    settings: Mapping[str, Any] | None = None,
    source_settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    threads: int = 1,
    show: bool = False,
) -> Trained:
    """A ranker like one that is trained, from a log that has grown: the same stretches of its end, the same relations.

    Args:
        sources: systems by the names of the ranker's sources; the others as in `train_ranker`.

    Raises:
        InputError: as in `train_ranker`.
    """
    stretches = ranker.learned.get("stretches", {})  # folders of before there were any lack them
    return train_ranker(
        shop,
        {name: sources[name] for name in ranker.sources},
        **stretches,
        settings=settings,
        source_settings=source_settings,
        relations=ranker.links,
        seed=seed,
        threads=threads,
        show=show,
    )


def compare(ranker: Ranker, pools: Pools, data: Mapping[str, Any], *, seed: int = 0) -> Report:
    """The ranker, each source and one of each in turn on the same requests; items known before are in no list.

    Raises:
        InputError: if nothing came that was new to the person.
    """
    asked = np.flatnonzero(pools.wanted > 0)
    if len(asked) == 0:
        raise InputError("ranker: nobody turned to a new item in the validation stretch; take a longer one")
    lists = {
        RANKED: ranker.score_many(pools.past, pools.candidates, pools.scores),
        IN_TURN: _in_turn(list(pools.scores.values())),
        **pools.scores,
    }
    outcomes = Outcomes(requests=pools.user[asked])
    for name, scores in lists.items():
        hits = _hits(np.asarray(scores, np.float64), pools.labels)[asked]
        outcomes.add("requests", name, f"ndcg@{K}", metrics.ndcg(hits, pools.wanted[asked], K))
        outcomes.add("requests", name, f"hit_rate@{K}", metrics.hit_rate(hits, K))
    figures, paired = outcomes.summary(seed=seed)
    about = {**data, "requests": len(asked), "people": len(np.unique(pools.user[asked]))}
    shown = [[f"ndcg@{K}", f"hit_rate@{K}"]]
    return Report("ranker", about, figures, paired, headline=f"ndcg@{K}", shown=shown)


def _in_turn(scores: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """(n, c): minus the turn at which a candidate comes, one of each source in turn; NaN where nobody named it."""
    turns = []
    for number, given in enumerate(scores):
        place = np.argsort(np.argsort(-given, axis=1, kind="stable"), axis=1, kind="stable")
        turns.append(np.where(np.isnan(given), np.inf, place * len(scores) + number))
    first = np.min(turns, axis=0)
    return np.where(np.isfinite(first), -first, np.nan)


def _hits(scores: NDArray[np.float64], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(n, K) whether the candidates at the first places came; what was not named has no place."""
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    hits = (np.take_along_axis(labels, order, axis=1) > 0) & np.isfinite(np.take_along_axis(scores, order, axis=1))
    return np.pad(hits, ((0, 0), (0, K - hits.shape[1])))
