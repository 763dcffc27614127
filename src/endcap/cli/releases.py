"""Verbs about releases: publish, releases list / activate / rollback / verify, refresh."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endcap.cli import MOST_THREADS, app

if TYPE_CHECKING:
    from rich.table import Table

    from endcap.jobs.gate import Verdict
    from endcap.jobs.publish import PublishReport
    from endcap.jobs.refresh import RefreshReport

Shelf = Annotated[Path, typer.Argument(metavar="RELEASES", help="The folder of releases.")]
To = Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder of releases; made if need be.")]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON, too.")]
Threads = Annotated[int, typer.Option(min=1, max=MOST_THREADS, help="With one the result is the same every time.")]

releases_app = typer.Typer(no_args_is_help=True, help="Look at releases, choose the live one, go back.")
app.add_typer(releases_app, name="releases")


@app.command()
def publish(
    models: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]MODEL...", help="Model folders; a model's name is its system's unless given."),
    ],
    shop: Annotated[Path, typer.Option(metavar="DIR", help="The shop that they were trained on, as it is now.")],
    to: To,
    force: Annotated[bool, typer.Option("--force", help="Publish what the gate refuses; the release says so.")] = False,
    validate: Annotated[str, typer.Option(help="The end of the log to compare on: 7d, 12h, 0.1.")] = "7d",
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="A model may be worse by this share of the figure.")
    ] = 0.05,
    coverage: Annotated[float, typer.Option(min=0, max=1, help="Share of the live coverage that is needed.")] = 0.9,
    keep: Annotated[int, typer.Option(min=1, help="How many releases stay on the disk.")] = 5,
    index: Annotated[str, typer.Option(help="auto, exact or hnsw.")] = "auto",
    threads: Threads = 1,
    json: Json = None,
) -> None:
    """Make a release of trained models and make it live.

    Each model is asked some questions, then compared with the live model of the same name on the newest events. A
    model that is clearly worse, or covers less, is refused (exit code 1). The release is written whole, verified, tried
    out and activated by one rename; a running server switches to it by itself. The last line is the release's name.

    Example: endcap publish models/ii --shop shop/ --to releases/
    """
    from endcap.jobs import publish as job
    from endcap.jobs.gate import GateSettings

    gate = GateSettings(validate=validate, margin=margin, coverage=coverage)
    options: dict[str, Any] = {"force": force, "keep": keep, "gate": gate, "threads": threads, "show": True}
    try:
        report = job.publish(_model_folders(models), shop, to, index=_index_kind(index), **options)
    except job.GateRefused as refused:
        _print_publish(refused.report)
        _write_json(refused.report, json)
        raise
    _print_publish(report)
    _write_json(report, json)
    typer.echo(report.release)


@releases_app.command("list")
def list_releases(
    to: Shelf,
    check: Annotated[bool, typer.Option("--check", help="Compare every file with its checksum.")] = False,
    json: Json = None,
) -> None:
    """List releases, newest first: which is live, how old, with which models."""
    from rich.table import Table

    from endcap.release import releases

    found = releases(to, check=check)
    table = Table()
    for column in ("release", "", "age", "events until", "trained until", "models"):
        table.add_column(column)
    for info in found:
        if info.damaged:
            table.add_row(info.name, "damaged", "", "", "", info.damaged)
            continue
        times = (_age(info.age), _moment(info.watermark), _moment(info.trained_until))
        table.add_row(info.name, "live" if info.live else "", *times, ", ".join(info.models))
    _print(table)
    _write_json(found, json)


@releases_app.command()
def activate(to: Shelf, name: Annotated[str, typer.Argument(metavar="NAME", help="As in `releases list`.")]) -> None:
    """Verify a release and make it the live one."""
    from endcap import release

    release.activate(to, name)
    typer.echo(name)


@releases_app.command()
def rollback(to: Shelf) -> None:
    """Go back to the release that was live before; the last line is its name."""
    from endcap import release

    typer.echo(release.rollback(to))


@releases_app.command()
def verify(
    to: Shelf,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A release; without it the live one.")] = None,
) -> None:
    """Compare every file of a release with its checksum; exit code 2 and one line if it was changed."""
    from endcap import release

    name = name or release.live(to)
    release.verify_release(to, name)
    typer.echo(f"{name}: as it was written")


@app.command()
def refresh(
    shop: Annotated[Path, typer.Argument(metavar="SHOP", help="The shop's folder.")],
    to: To,
    from_live: Annotated[
        Path | None, typer.Option("--from-live", metavar="FILE", help="The server's state file, drained first.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="refresh.toml: which models, how often.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as in refresh.toml.")
    ] = None,
    json: Json = None,
) -> None:
    """The daily job: drain the live state into the shop, train what is due, gate, publish.

    Safe for cron: a second one gives up at once, and a killed one leaves nothing half-done. Without --config the models
    of the live release are trained again with their own settings once a day. Exit code 1 if a model failed or was
    refused; the live one stays in its place then, and the rest is published.

    Example: endcap refresh shop/ --from-live state.db --to releases/
    """
    from endcap.jobs import refresh as job
    from endcap.settings import read_settings

    report = job.refresh(shop, to, from_live=from_live, settings=read_settings(config, assignments or []), show=True)
    _print_refresh(report)
    _write_json(report, json)
    for problem in report.problems:
        typer.echo(f"error: {problem}", err=True)
    typer.echo(report.published.release if report.published else "nothing new")
    if report.problems:
        raise typer.Exit(1)


def _model_folders(models: list[str]) -> Any:
    """`NAME=FOLDER` by name; a plain list where no name is given.

    Raises:
        InputError: if only some have names.
    """
    from endcap.errors import InputError

    pairs = [model.partition("=") for model in models]
    if not any(equals for _, equals, _ in pairs):
        return models
    if not all(equals for _, equals, _ in pairs) or len({name for name, _, _ in pairs}) < len(pairs):
        raise InputError("give every model a name of its own (NAME=FOLDER), or none of them")
    return {name: folder for name, _, folder in pairs}


def _index_kind(text: str) -> Any:
    from endcap.errors import InputError

    if text not in ("auto", "exact", "hnsw"):
        raise InputError(f"--index {text}: there are auto, exact and hnsw")
    return text


def _print_publish(report: PublishReport) -> None:
    from rich.table import Table

    _print(_gate_table(report.gate))
    if report.models:
        table = Table(title="indexes", title_justify="left")
        for column in ("model", "space", "index", "vectors", "recall@100", "size"):
            table.add_column(column, justify="left" if column in ("model", "space", "index") else "right")
        for name, model in report.models.items():
            for space, row in model["spaces"].items():
                size = f"{row['bytes'] / 2**20:,.1f} MB"
                table.add_row(name, space, row["index"], f"{row['vectors']:,}", f"{row['recall@100']:.3f}", size)
        if table.row_count:
            _print(table)
    for warning in report.warnings:
        typer.echo(f"note: {warning}", err=True)


def _gate_table(verdict: Verdict) -> Table:
    from rich.table import Table

    table = Table(title="gate", title_justify="left")
    for column in ("model", "compared by", "n", "new", "live", "difference", "coverage", "verdict"):
        table.add_column(column, justify="left" if column in ("model", "compared by", "verdict") else "right")
    for row in verdict.models:
        difference = "" if row.difference is None else f"{row.difference:+.4f}"
        if row.low is not None and row.high is not None:
            difference += f" \\[{row.low:+.4f}, {row.high:+.4f}]"
        coverage = " / ".join(f"{share:.1%}" for share in (row.new_coverage, row.live_coverage) if share is not None)
        said = [f"refused: {row.problem}" if row.problem else "passed", row.note]
        figures = ("" if value is None else f"{value:.4f}" for value in (row.new, row.live))
        how = f"{row.metric} since {_moment(row.start)}" if row.metric else ""
        table.add_row(row.model, how, f"{row.n:,}", *figures, difference, coverage, "; ".join(filter(None, said)))
    return table


def _print_refresh(report: RefreshReport) -> None:
    from rich.table import Table

    if report.drained is not None:
        typer.echo(f"drained {report.drained.rows_kept:,} events, {report.drained.rows_rejected:,} refused")
    table = Table(title="models", title_justify="left")
    for column in ("model", "system", "action", "trained until", "seconds", "why"):
        table.add_column(column)
    for name, row in report.models.items():
        until = "" if row.trained_until is None else _moment(row.trained_until)
        table.add_row(name, row.system, row.action, until, f"{row.seconds:.1f}" if row.seconds else "", row.why)
    _print(table)
    if report.published is not None:
        _print_publish(report.published)


def _print(table: Table) -> None:
    """A table on stdout, not cut where nobody looks at a terminal."""
    from rich.console import Console

    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


def _write_json(report: Any, path: Path | None) -> None:
    if path is None:
        return
    import msgspec

    from endcap.artefact import write_atomically

    write_atomically(path, msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")


def _age(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds / 3_600:.1f} hours"


def _moment(microseconds: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%d %H:%M}"
