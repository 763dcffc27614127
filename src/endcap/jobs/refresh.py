"""The daily loop for cron: drain the live state, train what is due, gate, publish. One at a time, safe to kill."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from endcap import models
from endcap.artefact import read_manifest, workshop
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.jobs.drain import drain
from endcap.jobs.gate import GateSettings
from endcap.jobs.publish import KEEP, GateRefused, PublishReport, publish
from endcap.jobs.rank import train_again
from endcap.jobs.relations import give_relations, read_relations
from endcap.models import Model
from endcap.models.ranker import Ranker
from endcap.release import Release, live
from endcap.release.write import check_name, data_fingerprint
from endcap.settings import make_settings
from endcap.shop import Shop, duration
from endcap.shop.report import IngestReport

WORKSHOP = ".refresh"
ON_TIME = 0.9  # a job that starts a little earlier than yesterday's finds its models due all the same
NOTHING_HELD_OUT = "none"
EVERY_DAY, EVERY_WEEK = "1d", "7d"


class ModelPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to keep one model fresh.

    Attributes:
        system: a name of `endcap systems`, or `ranker` for a ranker that is live; empty: the model's own name.
        every: how much newer the log must be than the model before it is trained again; empty: 1d, and 7d for a
            ranker, for which its sources are trained once more.
        settings: the system's settings; relations: a file of links between items, as of `train --relations`.
    """

    system: str = ""
    every: str = ""
    settings: dict[str, Any] = {}
    relations: str = ""

    @property
    def is_ranker(self) -> bool:
        return self.system in models.RANKERS

    @property
    def due_after(self) -> str:
        return self.every or (EVERY_WEEK if self.is_ranker else EVERY_DAY)

    def untrained(self) -> Model | Ranker:
        """
        Raises:
            InputError: for an unknown system or setting, or relations that cannot be read or are not taken.
        """
        model = Ranker(**self.settings) if self.is_ranker else models.create(self.system, self.settings)
        if self.relations:
            give_relations(model, read_relations(Path(self.relations), "relations"), "relations")
        return model


class RefreshSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `refresh.toml` may say.

    Attributes:
        models: plans by the model's name; none: the models of the live release with their own settings. Live rankers
            over them need no plan.
        hold_out: the end of the log that is kept out of training, so that the gate compares on events that no model
            has seen; "none" trains on everything.
        gate: see `GateSettings`; keep: how many releases stay; seed, threads: of training and indexing.
    """

    models: dict[str, ModelPlan] = {}
    hold_out: str = "1d"
    gate: GateSettings = GateSettings()
    keep: Annotated[int, Meta(ge=1)] = KEEP
    seed: Annotated[int, Meta(ge=0)] = 0
    threads: Annotated[int, Meta(ge=1)] = 1


class ModelOutcome(msgspec.Struct, kw_only=True):
    """What became of one model: `trained` anew, `kept` as not due, `refused` by the gate, or `failed` in training.

    Refused and failed ones stay as they are live; `why` says more. trained_until: microseconds since 1970.
    """

    system: str
    action: Literal["trained", "kept", "refused", "failed"]
    trained_until: int | None = None
    seconds: float = 0.0
    why: str = ""


class RefreshReport(msgspec.Struct, kw_only=True):
    """What a refresh did; `published` is None where there was nothing new."""

    drained: IngestReport | None = None
    models: dict[str, ModelOutcome] = {}
    published: PublishReport | None = None
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        return [f"{name}: {row.why}" for name, row in self.models.items() if row.action in ("refused", "failed")]


def refresh(
    shop: str | Path,
    to: str | Path,
    *,
    from_live: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    show: bool = False,
) -> RefreshReport:
    """Bring the live release up to the newest events.

    A model that fails or is refused stays as it is live, and the others, histories and popularity go on. A ranker is
    due as models are, and trained again on the last stretches of the log with sources of before them; until then it
    goes on ranking what is trained anew.

    Args:
        shop: its folder; to: the folder of releases; from_live: the server's state file.
        settings: see `RefreshSettings`.

    Raises:
        InputError: for settings that cannot be, or if there is neither a plan nor a live release;
        EndcapError: if another refresh is running, or nothing could be published.
    """
    started, to = time.monotonic(), Path(to)
    chosen = make_settings(RefreshSettings, settings or {}, where="refresh")
    read_manifest(Path(shop), kind="shop")
    with workshop(to / WORKSHOP, "a refresh") as room:
        current = _open_live(to)
        plans = _plans(chosen, current)
        report = RefreshReport()
        if from_live is not None:
            report.drained = drain(from_live, shop, show=show)
        log = Shop.open(shop)
        trainer = _Trainer(log, chosen, plans, current, room, show)
        ready: dict[str, Path] = {}
        for name, plan in plans.items():
            report.models[name], folder = trainer.bring_up(name, plan)
            if folder is not None:
                ready[name] = folder
        if _is_news(report, current, log):
            report.published = _publish(ready, log, to, chosen, current, report, show)
    report.seconds = round(time.monotonic() - started, 2)
    return report


def _open_live(to: Path) -> Release | None:
    """The live release; a damaged one counts as none, since publishing a new one mends it."""
    try:
        return Release.open(to / live(to))
    except (InputError, DamagedArtefact):
        return None


def _plans(settings: RefreshSettings, current: Release | None) -> dict[str, ModelPlan]:
    """Plans by name, each with its system, rankers last; all settings are checked before anything is done.

    Raises:
        InputError: if there are none, or one names an unknown system, setting or duration, or a ranker that is not
            live or whose sources have no plan.
    """
    live_rankers = current.rankers if current is not None else {}
    if settings.models:
        plans = {
            name: msgspec.structs.replace(plan, system=plan.system or name) for name, plan in settings.models.items()
        }
    elif current is not None:
        plans = {name: _as_live(name, current) for name in current.model_folders if name not in live_rankers}
    else:
        raise InputError("no sound release is live: publish one, or name systems in refresh.toml ([models.NAME])")
    if settings.hold_out != NOTHING_HELD_OUT:
        duration(settings.hold_out)
    for name, sources in live_rankers.items():
        if current is not None and name not in plans and plans.keys() >= set(sources):
            plans[name] = _as_live(name, current)
    for name, plan in plans.items():
        check_name(name)
        duration(plan.due_after)
        plan.untrained()
        if plan.is_ranker and name not in live_rankers:
            raise InputError(f"{name}: no such ranker is live: `endcap train ranker` makes one, `publish` brings it in")
        if plan.is_ranker and (missing := [source for source in live_rankers[name] if source not in plans]):
            raise InputError(f"{name}: its source {missing[0]} has no plan: add [models.{missing[0]}]")
    return dict(sorted(plans.items(), key=lambda item: item[1].is_ranker))


def _as_live(name: str, current: Release) -> ModelPlan:
    """A live model's own system and settings."""
    known = current.manifest["models"][name]
    return ModelPlan(system=known["system"], settings=known["config"])


@dataclass(frozen=True, eq=False)
class _Trainer:
    """Trains what is due on the log up to what is held out, and leaves the rest as it is live."""

    log: Shop
    settings: RefreshSettings
    plans: Mapping[str, ModelPlan]
    current: Release | None
    workshop: Path
    show: bool

    @cached_property
    def until(self) -> int:
        """Where training ends (microseconds), exclusive; a log shorter than what is held out is used whole."""
        times = self.log.events.time
        if len(times) == 0:
            raise InputError("refresh: the shop has no events to learn from yet")
        first, end = int(times.min()), int(times.max()) + 1
        if self.settings.hold_out == NOTHING_HELD_OUT:
            return end
        until = end - duration(self.settings.hold_out)
        return until if until > first else end

    def bring_up(self, name: str, plan: ModelPlan) -> tuple[ModelOutcome, Path | None]:
        """What became of a model, and its folder for the next release: new, the live one, or none."""
        known = self.current.manifest["models"].get(name) if self.current else None
        standing = self.current.model_folders[name] if self.current and known else None
        outcome = ModelOutcome(system=plan.system, action="kept", trained_until=known and known["trained_until"])
        model = plan.untrained()
        if known and not self._is_due(model, plan.due_after, known):
            outcome.why = f"not due: less than {plan.due_after} of events since it was trained"
            return outcome, standing
        started = time.monotonic()
        how: dict[str, Any] = {"seed": self.settings.seed, "threads": self.settings.threads, "show": self.show}
        try:
            if isinstance(model, Ranker):
                model, outcome.why = self._trained_again(standing, plan, how)
            else:
                model.fit(self.log.until(self.until), **how)
                outcome.why = _without_links(standing, plan)
            model.save(self.workshop / name)
        except EndcapError as error:
            outcome.action, outcome.why = "failed", str(error)
            return outcome, standing
        outcome.action, outcome.seconds = "trained", round(time.monotonic() - started, 2)
        outcome.trained_until = model.origin.trained_until if model.origin else None
        return outcome, self.workshop / name

    def _trained_again(self, standing: Path | None, plan: ModelPlan, how: Mapping[str, Any]) -> tuple[Ranker, str]:
        """A live ranker's successor over sources of before its stretch, and what is to be said of it."""
        ranker = models.open(standing) if standing is not None else None
        assert isinstance(ranker, Ranker)
        sources = {name: self.plans[name] for name in ranker.sources}
        trained = train_again(
            ranker,
            self.log.until(self.until),
            {name: one.system for name, one in sources.items()},
            settings=plan.settings,
            source_settings={name: one.settings for name, one in sources.items()},
            **how,
        )
        return trained.ranker, trained.verdict()

    def _is_due(self, model: Model | Ranker, every: str, known: Mapping[str, Any]) -> bool:
        """Whether the log has moved on since the live model was trained, or other settings are wanted."""
        if (model.system, msgspec.to_builtins(model.config)) != (known["system"], known["config"]):
            return True
        times = self.log.events.time
        return int(times[times < self.until].max()) - known["trained_until"] >= ON_TIME * duration(every)


def _without_links(standing: Path | None, plan: ModelPlan) -> str:
    """What is to be said of a model that was given links once, and now is not."""
    told = 0 if standing is None else read_manifest(standing, kind="model")["learned"].get("relations", 0)
    if not told or plan.relations:
        return ""
    return f"without the {told:,} relations that the live one was given: name their file, relations = FILE"


def _is_news(report: RefreshReport, current: Release | None, log: Shop) -> bool:
    """Whether the next release would differ from the live one."""
    if current is None or any(row.action == "trained" for row in report.models.values()):
        return True
    return current.manifest["data_fingerprint"] != data_fingerprint(log)


def _publish(
    ready: dict[str, Path],
    log: Shop,
    to: Path,
    settings: RefreshSettings,
    current: Release | None,
    report: RefreshReport,
    show: bool,
) -> PublishReport:
    """Publish; where the gate refuses a model, publish again with the live one in its place.

    Raises:
        EndcapError: if no model is left.
    """
    if not ready:
        raise EndcapError(f"nothing to publish: {'; '.join(report.problems)}")
    try:
        return publish(ready, log, to, keep=settings.keep, gate=settings.gate, threads=settings.threads, show=show)
    except GateRefused as refused:
        standing = current.model_folders if current else {}
        for row in refused.report.gate.models:
            if row.problem:
                report.models[row.model].action, report.models[row.model].why = "refused", row.problem
                del ready[row.model]
                ready |= {row.model: standing[row.model]} if row.model in standing else {}
        return _publish(ready, log, to, settings, current, report, show)
