"""Published tables: models trained once each on the training part, kept, and asked for the test part together.

A row that was trained is opened from `--work`; a training that was interrupted goes on from its checkpoint. So a table
can be made in several runs, and more rows be added to it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from _report import Row, arguments
from endcap import Shop, models
from endcap.artefact import write_atomically
from endcap.evaluate.report import Report
from endcap.models import Model

Rows = Mapping[str, tuple[str, Mapping[str, Any]]]
"""What a row is called -> the system and its settings."""


def table_arguments(description: str) -> argparse.ArgumentParser:
    """`arguments` with the options of a table."""
    parser = arguments(description)
    parser.add_argument("--work", type=Path, default=Path("benchmark-work"), help="keep trained models here")
    parser.add_argument("--only", help="rows of the table, with commas")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dev", action="store_true", help="train and print validation figures; leave the test alone")
    return parser


def chosen(rows: Rows, given: argparse.Namespace) -> Rows:
    """The rows of `--only`; with `--quick` a few epochs of little models."""
    names = given.only.split(",") if given.only else list(rows)
    unknown = set(names) - set(rows)
    if unknown:
        raise SystemExit(f"--only {given.only}: there is no row {min(unknown)!r}; there are: {', '.join(rows)}")
    found = {name: rows[name] for name in names}
    if given.quick:
        found = {
            name: (system, {**settings, "epochs": 1, "dim": 16} if "batch_size" in settings else settings)
            for name, (system, settings) in found.items()
        }
    return found


def trained(
    rows: Rows, shop: Shop, given: argparse.Namespace, name: str, *, hold_back: bool = True
) -> dict[str, Model]:
    """Every row's model, trained without each person's last two actions or opened from an earlier run.

    Models that stop by validation hold the second of the two back themselves. Where `hold_back` is false they are
    trained on the whole shop, which is the training part of another split.
    """
    found: dict[str, Model] = {}
    for row, (system, settings) in rows.items():
        quick = "-quick" if given.quick else ""
        folder = given.work / f"{name}{quick}" / f"{row.replace(' ', '-')}-{given.seed}"
        model = models.create(system, settings)
        train = shop.without_last(1 if "validation_people" in settings else 2) if hold_back else shop
        if folder.exists():
            opened = models.open(folder)
            assert isinstance(opened, Model)
            if opened.config != model.config or opened._trained().n_events != len(train.events):
                raise SystemExit(f"{folder}: trained with other settings or data; remove it to train again")
            model = opened
        else:
            began, cpu = time.perf_counter(), time.process_time()
            partial = folder.with_name(f".{folder.name}.training")
            model.fit(train, seed=given.seed, threads=given.threads, show=True, checkpoint=partial)
            model.save(folder)
            cost = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
            write_atomically(folder.with_name(f"{folder.name}.cost.json"), msgspec.json.encode(cost).decode())
        course = model._learned().get("course")
        if course is not None:
            epochs, best = course["epochs"], course["best_epoch"]
            print(
                f"{row}: best of {len(epochs)} epochs: {best}, validation {epochs[best - 1]['score']:.4f}", flush=True
            )
        found[row] = model
    return found


def cost_of(given: argparse.Namespace, name: str, row: str) -> str:
    """What a row's last training took, as far as it was not resumed."""
    path = given.work / name / f"{row.replace(' ', '-')}-{given.seed}.cost.json"
    if not path.is_file():
        return ""
    cost = msgspec.json.decode(path.read_bytes())
    return f"{cost['cpu_seconds']:.0f} CPU-s, {cost['seconds']:.0f} s"


def figure(report: Report, row: str, metric: str) -> str:
    """A figure with its interval."""
    found = report.models[row][metric]
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


def table_rows(
    report: Report,
    rows: Rows,
    metrics: Sequence[str],
    published: Mapping[str, tuple[str, Sequence[float]]],
    command: str,
    note: Mapping[str, str] | None = None,
) -> list[Row]:
    """A row of results for each model: the metrics, and the published figures it is held against.

    Args:
        published: row -> (what it is, the least figures to reach, one for each metric).
    """
    found = []
    for row in rows:
        what, least = published.get(row, ("", ()))
        values = [report.models[row][metric].value for metric in metrics]
        found.append(
            Row(
                what=f"{row}: {', '.join(metrics)}",
                ours="; ".join(figure(report, row, metric) for metric in metrics),
                reference=what,
                target=" / ".join(f"{value:.4f}" for value in least) or None,
                met=all(value >= goal for value, goal in zip(values, least, strict=False)) if least else None,
                command=command + (note or {}).get(row, ""),
            )
        )
    return found
