"""The gate before a release: is the new model not worse than the live one, on events that neither has seen?

Where too few such events exist the models are compared on events that one or both were trained on. A model that has
seen more of them has an advantage there. So the new model may still be refused if it has seen at least as much as the
live one and is worse in spite of it; if the live one has seen more, its figure decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta

from endcap.answers import Candidates, Items, RelatesItems, Request, Scores
from endcap.errors import InputError
from endcap.evaluate import Report, evaluate
from endcap.metrics import events_to_judge_by
from endcap.models import Model
from endcap.models.ranker import TwoPass
from endcap.shop import Shop

PROTOCOLS = {"purchase-intent": "coverage_items", "next-item": "coverage@10"}
SHORT_LOG = 0.2  # the share of a log to compare on that is shorter than `validate`
LIVE, NEW = "live", "new"


class GateSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a model may replace the live one.

    Attributes:
        validate: the stretch at the end of the log to compare on, as `7d` or a share of the events.
        margin: a model is refused when it is clearly worse (the 95 % interval of the paired difference lies below 0)
            by more than this share of the live model's figure.
        coverage: a model is refused when it covers less than this share of what the live one covers.
        min_cases: below so many cases nothing is decided, and the gate says so.
    """

    validate: str = "7d"
    margin: Annotated[float, Meta(ge=0, le=1)] = 0.05
    coverage: Annotated[float, Meta(ge=0, le=1)] = 0.9
    min_cases: Annotated[int, Meta(ge=1)] = 50


class ModelVerdict(msgspec.Struct, kw_only=True):
    """One model at the gate.

    Attributes:
        protocol, metric: what was compared; n: cases; start: of the stretch, microseconds since 1970.
        seen_by: which of `new` and `live` was trained on a part of the stretch, so that its figure is flattered.
        new, live: figures; difference, low, high: new minus live with its 95 % interval; None where there is none.
        new_coverage, live_coverage: shares of the active items (or of the items that were answered).
        problem: why the model is refused, empty where it is not; note: what else a person should know.
    """

    model: str
    protocol: str = ""
    metric: str = ""
    n: int = 0
    start: int = 0
    seen_by: list[str] = []
    new: float | None = None
    live: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    new_coverage: float | None = None
    live_coverage: float | None = None
    problem: str = ""
    note: str = ""


class Verdict(msgspec.Struct, kw_only=True):
    """The gate's word on a release; `forced` where a person overruled it."""

    models: list[ModelVerdict] = []
    forced: bool = False

    @property
    def problems(self) -> list[str]:
        return [f"{row.model}: {row.problem}" for row in self.models if row.problem]


def judge(
    name: str, new: Model | TwoPass, live: Model | TwoPass | None, shop: Shop, settings: GateSettings
) -> ModelVerdict:
    """Compare a model with the live one of the same name on the newest events of the shop.

    The stretch is the last `validate` of the log. Where one of the two has been trained on a part of it, it shrinks to
    what came after; if too little is left of it, the whole stretch is used and the verdict says who has seen it.
    """
    models = {NEW: new} if live is None else {NEW: new, LIVE: live}
    trained = {side: model.origin.trained_until if model.origin else 0 for side, model in models.items()}
    relates = all(isinstance(model, RelatesItems) for model in models.values())
    for start in _starts(shop, max(trained.values()), settings):
        for protocol in PROTOCOLS if relates else ("next-item",):
            report = _compare(models, shop, start, protocol)
            if report is not None and report.models[NEW][report.headline].n >= settings.min_cases:
                return _decide(_figures(name, report, start, trained), trained, settings)
    return ModelVerdict(model=name, note=f"fewer than {settings.min_cases} cases to compare on; nothing was decided")


def _starts(shop: Shop, trained: int, settings: GateSettings) -> list[int]:
    """Where the stretch may begin (microseconds), the most honest first."""
    first, last = int(shop.events.time.min()), int(shop.events.time.max())
    start = shop.cut(settings.validate)
    if start <= first:
        start = shop.cut(SHORT_LOG)
    return [trained, start] if start < trained <= last else [start]


def _compare(models: Mapping[str, Model | TwoPass], shop: Shop, start: int, protocol: str) -> Report | None:
    """The report of one protocol, None where the stretch or the models do not allow it."""
    train = shop.until(start)
    test = shop.since(start).some_people(events_to_judge_by(train.n_items))
    if len(train.positives) == 0 or len(test.positives) == 0:
        return None
    try:
        known = {name: _Known(model, train.n_items) for name, model in models.items()}
        return evaluate((train, test), known, protocol=protocol)
    except InputError:
        return None


class _Known:
    """A model as the protocols see it: the gate itself decides which stretch is fair.

    Lists hold items known before the stretch only, whatever came later that the model was trained on.
    """

    def __init__(self, model: Model | TwoPass, n_items: int) -> None:
        self._model = model
        self._allowed = np.arange(len(model.origin.items) if model.origin else n_items) < n_items

    def related_batch(self, items: Items, seen_as: int, want: int, k: int) -> tuple[Items, Scores]:
        assert isinstance(self._model, RelatesItems)
        return self._model.related_batch(items, seen_as, want, k)

    def candidates(self, request: Request) -> Candidates:
        return self._model.candidates(replace(request, allowed=self._allowed))


def _figures(name: str, report: Report, start: int, trained: Mapping[str, int]) -> ModelVerdict:
    """What the report says, no decision yet."""
    metric, coverage = report.headline, PROTOCOLS[report.protocol]
    new = report.models[NEW]
    verdict = ModelVerdict(
        model=name,
        protocol=report.protocol,
        metric=metric,
        n=new[metric].n,
        start=start,
        seen_by=[side for side, until in trained.items() if until > start],
        new=new[metric].value,
        new_coverage=new[coverage].value,
    )
    if LIVE in report.models:
        live = report.models[LIVE]
        verdict.live, verdict.live_coverage = live[metric].value, live[coverage].value
        row = next(row for row in report.paired if row.metric == metric)
        low, high = (row.low, row.high) if row.a == NEW else (-row.high, -row.low)
        verdict.difference = new[metric].value - live[metric].value
        verdict.low, verdict.high = (None if math.isnan(bound) else bound for bound in (low, high))
    return verdict


def _decide(verdict: ModelVerdict, trained: Mapping[str, int], settings: GateSettings) -> ModelVerdict:
    """Add why the new model is refused, or what a person should know."""
    new, covered = verdict.new or 0.0, verdict.new_coverage or 0.0
    if verdict.seen_by:
        verdict.note = f"{' and '.join(verdict.seen_by)} trained on these events"
    if verdict.live is None:
        verdict.note = "; ".join(filter(None, ["no live model to compare with", verdict.note]))
        verdict.problem = "" if covered > 0 else "it has no answer for any item"
        return verdict
    is_fair = LIVE not in verdict.seen_by or trained[NEW] >= trained[LIVE]
    is_clear = verdict.high is not None and verdict.high < 0
    verdict.note += "" if is_fair else ": the figures decide nothing"
    if is_fair and is_clear and new < (1 - settings.margin) * verdict.live:
        verdict.problem = (
            f"{verdict.metric} {new:.4f} is worse than the live model's {verdict.live:.4f} by more than "
            f"{settings.margin:.0%}"
        )
    elif covered < settings.coverage * (verdict.live_coverage or 0.0):
        verdict.problem = f"it covers {covered:.1%} where the live model covers {verdict.live_coverage:.1%}"
    return verdict
