"""The verb `forget`: remove a person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from endcap.cli import app
from endcap.errors import InputError

if TYPE_CHECKING:
    from endcap.jobs.forget import ForgetReport


@app.command()
def forget(
    user: Annotated[str, typer.Argument(metavar="USER", help="The person's id; after -- if it begins with a dash.")],
    shop: Annotated[Path, typer.Option(metavar="DIR", help="The shop's folder.")],
    state: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The server's state file; the server may go on running.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of releases: those that know the person are removed, and the way back to them is lost.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove releases without asking.")] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON, too.")] = None,
) -> None:
    """Remove a person from the shop, from a server's live state and from the releases.

    A running server stops using what it knew of them at once. With --to the live models are published again, as they
    are, over the shop without the person. What models have learnt from their events stays until the next training.
    Stopped half-way, the same command goes on. Exit code 2 if nobody has this id.

    Example: endcap forget u-4711 --shop shop/ --state state.db --to releases/ --yes
    """
    from endcap.jobs import forget as job

    if to is not None and not (yes or dry_run):
        _ask(job.forget(user, shop, state=state, to=to, dry_run=True))
    report = job.forget(user, shop, state=state, to=to, dry_run=dry_run, show=True)
    _print(report)
    if json is not None:
        import msgspec

        from endcap.artefact import write_atomically

        write_atomically(json, msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")


def _ask(plan: ForgetReport) -> None:
    """Let a person confirm that releases go.

    Raises:
        InputError: if nobody is there to ask; typer.Abort: if they say no.
    """
    if not plan.releases:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{len(plan.releases)} releases would be removed for good; add --yes, or look with --dry-run")
    _print(plan)
    typer.confirm("Remove all this for good?", abort=True)


def _print(report: ForgetReport) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, title="would be removed" if report.dry_run else "removed", title_justify="left")
    for column, justify in (("where", "left"), ("what", "left"), ("", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    table.add_row("shop", "events", f"{report.events:,}")
    table.add_row("", "sessions", f"{report.sessions:,}")
    table.add_row("", "texts of rejected rows", f"{report.rejected:,}")
    table.add_row("", "old generations", f"{len(report.old_generations):,}")
    table.add_row("live state", "recorded events", f"{report.recorded:,}")
    table.add_row("releases", "that know the person", f"{len(report.releases):,}")
    Console(highlight=False).print(table)
    if report.published is not None:
        typer.echo(f"live now: {report.published}")
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
