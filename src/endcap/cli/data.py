"""Verbs about the shop: `ingest`, `describe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endcap.cli import app

if TYPE_CHECKING:
    from rich.table import Table

    from endcap.graph.statistics import GraphDescription
    from endcap.shop.describe import Description
    from endcap.shop.report import IngestReport

MAPPING = "theirs=ours, with commas; repeatable"


@app.command()
def ingest(
    shop: Annotated[Path, typer.Option("--shop", help="Folder of the shop; made if need be.")],
    events: Annotated[
        list[str] | None,
        typer.Argument(help="Files, globs or a directory: Parquet, CSV, JSON lines; .gz, .zst."),
    ] = None,
    items: Annotated[list[str] | None, typer.Option(help="Items file; repeatable. Alone: updates attributes.")] = None,
    columns: Annotated[list[str] | None, typer.Option(help=f"Event columns, {MAPPING}: visitorid=user.")] = None,
    item_columns: Annotated[list[str] | None, typer.Option(help=f"Columns of the items file, {MAPPING}.")] = None,
    interactions: Annotated[
        list[str] | None, typer.Option(help=f"Values, {MAPPING}: view=click. To ignore rows: heartbeat=-.")
    ] = None,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="TOML file with [columns], [interactions], [items], [options].")
    ] = None,
    interaction: Annotated[str | None, typer.Option(help="The interaction of rows which state none.")] = None,
    strength: Annotated[
        str | None, typer.Option(help="The shop's own interactions, weak to strong: click,comment,cart,purchase.")
    ] = None,
    drop_duplicates: Annotated[
        bool | None, typer.Option("--drop-duplicates", help="Quarantine rows equal to an earlier one.")
    ] = None,
    keep_anonymous: Annotated[
        bool | None, typer.Option("--keep-anonymous", help="Keep rows without user, as user anonymous:SESSION.")
    ] = None,
    max_rejected: Annotated[
        float | None, typer.Option(help="Share of bad rows above which nothing is ingested.  [default: 0.1]")
    ] = None,
    session_gap: Annotated[
        str | None, typer.Option(help="A longer pause starts a session, where the log has none.  [default: 30m]")
    ] = None,
    earliest: Annotated[str | None, typer.Option(help="Earlier times are impossible.  [default: 1990-01-01]")] = None,
    latest: Annotated[str | None, typer.Option(help="Later times are impossible.  [default: now and a day]")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times that state none.  [default: UTC]")] = None,
    delimiter: Annotated[str | None, typer.Option(help="Of CSV files.  [default: found out]")] = None,
    rejected: Annotated[Path | None, typer.Option(help="Write the rows refused this time to this .parquet.")] = None,
    from_live: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of files: what a server recorded in its state file.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")] = None,
) -> None:
    """Validate an event log and append it to a shop; bad rows are kept aside with their reason and line.

    Nothing changes when the input is wrong. A file that the shop already holds changes nothing.

    Examples:

        endcap ingest events.parquet --items items.parquet --shop shop

        endcap ingest log.csv --shop shop --columns visitorid=user,itemid=item,event=interaction,timestamp=time
            --interactions view=click,addtocart=cart,transaction=purchase

        endcap ingest 'logs/*.jsonl.gz' --shop shop --map mapping.toml --json report.json

        endcap ingest --from-live state.db --shop shop
    """
    from endcap.shop.ingest import ingest as run

    options = {
        "mapping": map_file,
        "columns": columns,
        "item_columns": item_columns,
        "interactions": interactions,
        "default_interaction": interaction,
        "strength": strength,
        "drop_duplicates": drop_duplicates,
        "keep_anonymous": keep_anonymous,
        "max_rejected": max_rejected,
        "session_gap": session_gap,
        "earliest": earliest,
        "latest": latest,
        "timezone": timezone,
        "delimiter": delimiter,
    }
    if from_live is None:
        report = run(events or [], items=items or [], shop=shop, rejected=rejected, show=True, **options)
    else:
        report = _drain(from_live, shop, {"events": events, "items": items, "rejected": rejected, **options})
    if json_file is not None:
        _write_json(json_file, report)
    _print_ingest(report, shop)


@app.command()
def describe(
    shop: Annotated[Path, typer.Argument(help="The folder that `endcap ingest` wrote.")],
    plot: Annotated[Path | None, typer.Option(help="Draw popularity and purchase rates: .png, .svg or .pdf.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Also measure the graph of what is bought together.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="That count the graph.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Say what a shop's log holds and which systems it can feed, and why not the others.

    Examples:

        endcap describe shop

        endcap describe shop --plot shop.png --json shop.json

        endcap describe shop --graph
    """
    import msgspec

    from endcap.shop import Shop
    from endcap.shop import describe as measure

    opened = Shop.open(shop)
    description, bought = measure.describe(opened), None
    if graph:
        from endcap.graph.statistics import describe_graph

        bought = describe_graph(opened, threads=threads)
    if plot is not None:
        measure.plot(description, plot)
    if json_file is not None:
        figures = msgspec.to_builtins(description)
        _write_json(json_file, figures if bought is None else figures | {"graph": bought})
    _print_description(description)
    if bought is not None:
        _print_graph(bought)


def _drain(state: Path, shop: Path, others: dict[str, Any]) -> IngestReport:
    """What a server recorded needs no mapping: it was checked when it came in."""
    from endcap.errors import InputError
    from endcap.jobs.drain import drain

    given = [name for name, value in others.items() if value]
    if given:
        raise InputError(f"--from-live stands alone, without {', '.join(given)}")
    return drain(state, shop, show=True)


def _print_description(about: Description) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    span = f"{about.first_time[:10]} to {about.last_time[:10]}, {about.days:.1f} days"
    console.print(f"\n[bold]{about.events:,} events[/], {span}")
    console.print(_figures(about))
    console.print(_skew(about))
    console.print(_interactions(about))
    if about.purchase_rates:
        console.print(_rates(about))
    known = [f"{name} {share:.0%}" for name, share in about.attributes.items() if share > 0]
    console.print(f"[bold]Items are described by[/] {', '.join(known) or 'nothing but their id'}\n")
    console.print(_feeds(about))


def _figures(about: Description) -> Table:
    table = _plain_table("", "", "events: mean", "median", "90 %", "99 %", "max")
    for name, n, spread in (
        ("users", about.users, about.events_per_user),
        ("items", about.items_with_events, about.events_per_item),
        ("sessions", about.sessions, about.session_length),
    ):
        numbers = (spread.mean, spread.median, spread.p90, spread.p99, spread.max)
        table.add_row(name, f"{n:,}", *(f"{number:,.1f}".removesuffix(".0") for number in numbers))
    return table


def _skew(about: Description) -> Table:
    table = _plain_table("", "")
    table.show_header = False
    silent = about.items - about.items_with_events
    if silent:
        table.add_row("items without a positive event", f"{silent:,}")
    table.add_row("sessions of one event", f"{about.sessions_of_one:.0%}")
    table.add_row("density of users x items", f"{about.density:.3%}")
    table.add_row("Gini of the items' popularity", f"{about.popularity.gini:.2f}")
    table.add_row("events on the top 1 % of items", f"{about.popularity.top_percent_share:.0%}")
    return table


def _interactions(about: Description) -> Table:
    table = _plain_table("interaction", "events", "share")
    for name, n in about.interactions.items():
        table.add_row(name, f"{n:,}", f"{n / about.events:.1%}")
    return table


def _rates(about: Description) -> Table:
    headings = ("pairs", "rate", "median lag", "in 1 h", "1 day", "7 days")
    table = _plain_table(f"later {about.purchase_rates[0].want} after", *headings)
    for rate in about.purchase_rates:
        shares = (rate.within_hour, rate.within_day, rate.within_week)
        lag = "" if rate.median_lag_hours is None else _lag(rate.median_lag_hours)
        cells = ("" if share is None else f"{share:.0%}" for share in shares)
        table.add_row(rate.given, f"{rate.pairs:,}", f"{rate.rate:.1%}", lag, *cells)
    table.caption = "of the same item by the same user; pairs of user and item"
    table.caption_justify = "left"
    return table


def _lag(hours: float) -> str:
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def _feeds(about: Description) -> Table:
    table = _plain_table("feeds", "system", "why", right=False)
    for feed in about.feeds:
        table.add_row("[green]yes[/]" if feed.possible else "[red]no[/]", feed.system, feed.why)
    return table


def _print_graph(about: GraphDescription) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    left_out = f", {about.too_large:,} larger ones left out" if about.too_large else ""
    console.print(f"[bold]{about.with_pairs:,} of {about.baskets:,} {about.unit} hold two items or more[/]{left_out}")
    table = _plain_table("pairs that occur", *(f"{found.support}x or more" for found in about.graphs))
    graphs = [found.graph for found in about.graphs]
    for name, cells in (
        ("items", [f"{graph.nodes:,}" for graph in graphs]),
        ("pairs", [f"{graph.edges:,}" for graph in graphs]),
        ("partners: mean", [f"{graph.degree.mean:,.1f}" for graph in graphs]),
        ("median", [f"{graph.degree.median:,.0f}" for graph in graphs]),
        ("90 %", [f"{graph.degree.p90:,.0f}" for graph in graphs]),
        ("99 %", [f"{graph.degree.p99:,.0f}" for graph in graphs]),
        ("max", [f"{graph.degree.max:,.0f}" for graph in graphs]),
        ("clustering around an item", [f"{graph.local_clustering:.3f}" for graph in graphs]),
        ("clustering of the whole", [f"{graph.transitivity:.3f}" for graph in graphs]),
        ("communities", [f"{graph.communities:,}" for graph in graphs]),
        ("modularity", [f"{graph.modularity:.2f}" for graph in graphs]),
        ("items in the largest", [f"{graph.largest_community:.0%}" for graph in graphs]),
        ("hubs", [f"{graph.hubs:,}" for graph in graphs]),
        ("pairs with a hub", [f"{graph.hub_edges:.0%}" for graph in graphs]),
    ):
        table.add_row(name, *cells)
    console.print(table)
    hubs = _plain_table("most partners", "partners", about.unit)
    for hub in about.hubs:
        hubs.add_row(hub.item, f"{hub.partners:,}", f"{hub.baskets:,}")
    console.print(hubs)


def _plain_table(*headings: str, right: bool = True) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if right and place else "left")
    return table


def _print_ingest(report: IngestReport, shop: Path) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for name in report.skipped:
        console.print(f"already in the shop, nothing to do: {name}", markup=False)
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    if report.rows_read:
        share = f"{report.rows_rejected / report.rows_read:.2%} of the rows"
        table.add_row("rows read", f"{report.rows_read:,}")
        table.add_row("kept", f"{report.rows_kept:,}")
        table.add_row("rejected", f"{report.rows_rejected:,}", share if report.rows_rejected else "")
        for reason, n in report.reasons.items():
            table.add_row("", f"{n:,}", reason)
    if report.items_read:
        table.add_row("item rows read", f"{report.items_read:,}")
        for reason, n in report.item_reasons.items():
            table.add_row("", f"{n:,}", f"rejected: {reason}")
    table.add_section()
    table.add_row("users", f"{report.users:,}")
    table.add_row("items", f"{report.items:,}")
    table.add_row("sessions", f"{report.sessions:,}")
    for name, n in report.interactions.items():
        table.add_row(name, f"{n:,}")
    table.add_row("first event", "", _second(report.first_time))
    table.add_row("last event", "", _second(report.last_time))
    if report.unused_columns:
        table.add_row("unused columns", "", ", ".join(report.unused_columns))
    console.print(table)
    console.print(f"{'shop' if report.changed else 'shop, unchanged'}: {shop}", markup=False)


def _second(moment: str | None) -> str:
    return "" if moment is None else moment[:19].replace("T", " ")


def _write_json(path: Path, content: object) -> None:
    import msgspec

    from endcap.artefact import write_atomically

    write_atomically(path, msgspec.json.format(msgspec.json.encode(content), indent=1).decode() + "\n")
