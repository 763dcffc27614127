"""From trained models to a live release: check, probe, gate, write, verify, activate."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from endcap import models
from endcap.answers import Indexed, Space
from endcap.artefact import check_outside, exclusive, read_manifest
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.index import Kind
from endcap.jobs.gate import GateSettings, ModelVerdict, Verdict, judge
from endcap.jobs.probe import ask, attach, recorded_queries
from endcap.models import Model
from endcap.models.ranker import Ranker, TwoPass
from endcap.progress import progress
from endcap.release import Part, Release, live, write_release
from endcap.release.shelf import WHAT, activate_held, discard_held, prune_held, sweep_held
from endcap.shop import Shop

KEEP = 5
POOR_RECALL = 0.9


class PublishReport(msgspec.Struct, kw_only=True):
    """What a publish did.

    Attributes:
        release: the new live release; None where the gate refused it. previous: the one that was live before.
        models: what the release's manifest says of each model: system, trained_until, spaces with recall and bytes.
        removed: old releases that were thrown away; warnings: what a person should look at.
    """

    release: str | None = None
    previous: str | None = None
    gate: Verdict
    models: dict[str, Any] = {}
    removed: list[str] = []
    warnings: list[str] = []
    seconds: float = 0.0


class GateRefused(EndcapError):
    """The gate refused a model; `report` holds the figures."""

    def __init__(self, report: PublishReport) -> None:
        super().__init__(f"the gate refused: {'; '.join(report.gate.problems)}; --force publishes all the same")
        self.report = report


def publish(
    model_folders: Mapping[str, str | Path] | Sequence[str | Path],
    shop: Shop | str | Path,
    to: str | Path,
    *,
    force: bool = False,
    keep: int = KEEP,
    gate: GateSettings | None = None,
    index: Kind = "auto",
    threads: int = 1,
    show: bool = False,
) -> PublishReport:
    """Make a release of trained models and the shop as it is now, and make it the live one.

    Args:
        model_folders: by their names in the release; a list takes the names of their systems.
        to: the folder of releases; force: publish what the gate refuses; keep: how many releases stay.
        threads: for building indexes.

    Raises:
        InputError: if a folder is no model, or a model of another shop; DamagedArtefact: if one was changed;
        GateRefused: if a model is worse than the live one; EndcapError: if a model fails to answer; DiskFull: if there
        is no room. The live release stays in all these cases, and nothing of the new one is left.
    """
    started, to = time.monotonic(), Path(to)
    check_outside(to, "releases")
    folders = _named(model_folders)
    opened = _over_sources({name: models.open(folder) for name, folder in folders.items()})
    if not isinstance(shop, Shop):
        read_manifest(Path(shop), kind="shop")
    with exclusive(to, WHAT), progress("publishing", 2 * len(opened) + 2, shown=show) as bar:
        shop = shop if isinstance(shop, Shop) else Shop.open(shop)  # here, so that who is forgotten cannot slip in
        if len(shop.positives) == 0:
            raise InputError("the shop has no positive events: there is nothing to recommend from")
        for name, model in opened.items():
            _check_shop(name, model, shop)
        sweep_held(to)
        report = PublishReport(gate=Verdict(forced=force), previous=_live_or_none(to))
        current = _open_live(to, report)
        parts = {}
        for name, model in opened.items():
            spaces: Mapping[str, Space] = model.spaces() if isinstance(model, Indexed) else {}
            queries, answered = recorded_queries(name, model, spaces, shop)
            parts[name] = Part(folders[name], spaces, queries, index)
            bar.advance(1, f"{name} asked")
            verdict = _judge(name, folders[name], model, current, shop, gate or GateSettings())
            if not answered and not verdict.problem:
                verdict.problem = "it has no answer to any question"
            report.gate.models.append(verdict)
            bar.advance(1, f"{name} judged")
        report.warnings += [f"the live release has {name}, this one does not" for name in current if name not in opened]
        if report.gate.problems and not force:
            raise GateRefused(report)
        folder = write_release(to, shop, parts, notes={"gate": msgspec.to_builtins(report.gate)}, threads=threads)
        bar.advance(1, "written")
        try:
            about = _try_out(folder, shop).manifest["models"]
            activate_held(to, folder.name)
        except BaseException:
            discard_held(to, folder.name)
            raise
        report.models = {name: about[name] for name in opened}
        report.warnings += _poor_indexes(report.models)
        bar.advance(1, "live")
        report.release = folder.name
        report.removed = prune_held(to, keep)
    report.seconds = round(time.monotonic() - started, 2)
    return report


def open_models(release: Release) -> dict[str, Model | TwoPass]:
    """The models of a release, ready to answer, searching its indexes; rankers over the models that they rank."""
    opened = _over_sources({name: models.open(folder) for name, folder in release.model_folders.items()})
    for name, model in opened.items():
        attach(model, release.searchers(name))
    return opened


def _over_sources(opened: Mapping[str, Model | Ranker]) -> dict[str, Model | TwoPass]:
    """The same, with rankers over their sources: they have no answers of their own.

    Raises:
        InputError: if a source of a ranker is not among them.
    """
    return {name: TwoPass(it, opened) if isinstance(it, Ranker) else it for name, it in opened.items()}


def _named(folders: Mapping[str, str | Path] | Sequence[str | Path]) -> dict[str, Path]:
    """Model folders by name.

    Raises:
        InputError: if two would have the same name.
    """
    if isinstance(folders, Mapping):
        return {name: Path(folder) for name, folder in folders.items()}
    named: dict[str, Path] = {}
    for folder in map(Path, folders):
        name = read_manifest(folder, kind="model")["system"]
        if name in named:
            raise InputError(f"{named[name]} and {folder} are both {name}: give them names, as in one={folder}")
        named[name] = folder
    return named


def _check_shop(name: str, model: Model | TwoPass, shop: Shop) -> None:
    """Refuse a model of another shop.

    Raises:
        InputError: if its items are not how this shop's begin, or its interactions are not this shop's.
    """
    origin = model.origin
    if origin is None:
        raise InputError(f"{name}: not trained yet")
    origin.check_against(shop.items, name)
    if origin.interactions != shop.interactions:
        ours, theirs = ", ".join(shop.interactions.names), ", ".join(origin.interactions.names)
        raise InputError(f"{name} was trained on another shop: its interactions are {theirs}, this shop's are {ours}")


def _live_or_none(to: Path) -> str | None:
    try:
        return live(to)
    except (InputError, DamagedArtefact):
        return None


def _open_live(to: Path, report: PublishReport) -> dict[str, tuple[Path, Model | TwoPass]]:
    """Folder and model of what is live; a live release that is damaged is no reason not to publish a sound one."""
    if report.previous is None:
        return {}
    try:
        release = Release.open(to / report.previous)
        return {name: (release.model_folders[name], model) for name, model in open_models(release).items()}
    except (DamagedArtefact, InputError) as error:
        report.warnings.append(f"not compared with the live release: {error}")
        return {}


def _judge(
    name: str,
    folder: Path,
    model: Model | TwoPass,
    current: Mapping[str, tuple[Path, Model | TwoPass]],
    shop: Shop,
    gate: GateSettings,
) -> ModelVerdict:
    """The gate's word on one model; the live model itself needs none."""
    if name not in current:
        return judge(name, model, None, shop, gate)
    live_folder, live_model = current[name]
    if folder.resolve() == live_folder.resolve():
        return ModelVerdict(model=name, note="the live model, unchanged")
    return judge(name, model, live_model, shop, gate)


def _poor_indexes(about: Mapping[str, Any]) -> list[str]:
    """Spaces of which the index finds too little."""
    return [
        f"the index over {name}/{space} finds {row['recall@100']:.1%} of the 100 nearest; try --index exact"
        for name, model in about.items()
        for space, row in model["spaces"].items()
        if row["recall@100"] < POOR_RECALL
    ]


def _try_out(folder: Path, shop: Shop) -> Release:
    """Open a release as the server will and ask its models.

    Raises:
        EndcapError: if one fails.
    """
    release = Release.open(folder)
    for name, model in open_models(release).items():
        ask(name, model, shop)
    return release
