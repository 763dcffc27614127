"""The verb `simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from endcap.cli import app

if TYPE_CHECKING:
    from rich.console import Console

    from endcap.simulate import Summary


@app.command()
def simulate(
    out: Annotated[Path | None, typer.Argument(help="Folder to write; made, or an earlier simulation.")] = None,
    events: Annotated[int, typer.Option(help="Rows of shoppers' actions.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Same seed and settings: same bytes.")] = 0,
    format: Annotated[str, typer.Option(help="parquet, csv or jsonl.")] = "parquet",  # noqa: A002
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    assignments: Annotated[list[str] | None, typer.Option("--set", help="key=value, a setting; repeatable.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the summary to this file.")] = None,
    settings: Annotated[bool, typer.Option("--settings", help="List the settings, and stop.")] = False,
) -> None:
    """Write a shop whose truth is known: events, items, truth tables, and the best reachable score.

    Clicks lead to substitutes, carts to complements; tastes, seasons, new items, returns and noise are as in real
    shops. Several services, searches, impressions, bots and spoilt rows come on request.

    Examples:

        endcap simulate sample --events 100000

        endcap simulate log --events 10000000 --format csv --seed 7

        endcap simulate dirty --set bad_rows=0.01 --set duplicates=0.01 --set bots=5 --json summary.json
    """
    from endcap.errors import InputError
    from endcap.settings import read_settings
    from endcap.simulate import simulate as run

    if settings:
        _print_settings()
        return
    if out is None:
        raise InputError("name the folder to write, as in: endcap simulate sample")
    chosen = read_settings(config, assignments or [])
    for key, value in (("events", events), ("seed", seed)):
        chosen.setdefault(key, value)
    summary = run(out, format=format, show=True, **chosen)  # type: ignore[arg-type]
    if json_file is not None:
        import msgspec

        from endcap.artefact import write_atomically

        write_atomically(json_file, msgspec.json.format(msgspec.json.encode(summary), indent=1).decode() + "\n")
    _print_summary(summary, out, format)


def _print_summary(summary: Summary, out: Path, form: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("rows", f"{summary.rows:,}")
    for name, n in summary.interactions.items():
        table.add_row("", f"{n:,}", name)
    if summary.duplicates:
        table.add_row("repeated", f"{summary.duplicates:,}")
    if summary.rows_spoilt:
        table.add_row("spoilt", f"{summary.rows_spoilt:,}")
        for reason, n in summary.spoilt.items():
            table.add_row("", f"{n:,}", reason)
    table.add_section()
    table.add_row("users", f"{summary.users:,}")
    table.add_row("items", f"{summary.items:,}", f"in {summary.leaves:,} leaves")
    table.add_row("activities", f"{summary.activities:,}")
    console = Console(highlight=False)
    console.print(table)
    if summary.best:
        _print_best(summary, console)
    console.print(
        f"next: endcap ingest {out / f'events.{form}'} --items {out / f'items.{form}'} --shop shop", markup=False,
        soft_wrap=True,
    )  # fmt: skip


def _print_best(summary: Summary, console: Console) -> None:
    from rich import box
    from rich.table import Table

    names = list(next(iter(summary.best.values())))
    table = Table("reachable, click to cart", *names, box=box.SIMPLE)
    for metric, values in summary.best.items():
        table.add_row(metric, *(f"{values[name]:,.0f}" if name == "n" else f"{values[name]:.3f}" for name in names))
    console.print(table)


def _print_settings() -> None:
    from typing import get_type_hints

    import msgspec
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from endcap.simulate import ShopSettings

    table = Table("setting", "default", "", box=box.SIMPLE)
    hints = get_type_hints(ShopSettings, include_extras=True)
    for field in msgspec.structs.fields(ShopSettings):
        about = [meta.description for meta in hints[field.name].__metadata__ if meta.description]
        table.add_row(field.name, str(field.default), " ".join(about))
    Console(highlight=False).print(table)
