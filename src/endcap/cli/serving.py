"""Verbs that answer: serve over HTTP, recommend once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from endcap.cli import app
from endcap.errors import InputError

if TYPE_CHECKING:
    from endcap.serve.questions import Action, Answer
    from endcap.shop import Interactions

Surfaces = Annotated[Path | None, typer.Option("--surfaces", metavar="FILE", help="A surfaces.toml.")]


@app.command()
def serve(
    releases: Annotated[Path, typer.Argument(metavar="RELEASES", help="The folder that `publish` writes to.")],
    surfaces: Surfaces = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 for all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    state: Annotated[Path, typer.Option(metavar="FILE", help="The live state, a SQLite file; made if need be.")] = Path(
        "state.db"
    ),
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Requests must carry a key of these lines; else of ENDCAP_API_KEY."),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Requests a second of one client (key, else address).  [default: no limit]")
    ] = None,
    burst: Annotated[int | None, typer.Option(help="Requests of one client at once.  [default: 2 x --rate]")] = None,
    max_in_flight: Annotated[int, typer.Option(help="Requests answered at once by a worker; more get a 503.")] = 512,
    trusted_proxies: Annotated[
        str | None, typer.Option(metavar="ADDRESSES", help="Proxies whose X-Forwarded-For is believed, with commas.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
    poll: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between looks for a new release.")] = 1.0,
    stale_after: Annotated[str, typer.Option(help="Answers from older training data say so: 7d, 12h.")] = "7d",
) -> None:
    """Serve the live release over HTTP, with live events, item changes and rules.

    A newly activated release is taken up without dropping a request (also at once on SIGHUP); a damaged one is refused
    and the one before it goes on answering. SIGTERM and Ctrl-C finish what is in flight. Answers at /schema what can be
    asked, at / a page to look at lists.

    Example: endcap serve releases/ --surfaces surfaces.toml --port 8000 --state state.db
    """
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # read when numpy is imported, below
        os.environ.setdefault(variable, "1")  # a second thread never helped one query, and fights for the cores

    from endcap.serve.run import run
    from endcap.serve.service import ServerSettings
    from endcap.settings import make_settings

    values: dict[str, Any] = {
        "releases": str(releases),
        "state": str(state),
        "surfaces": None if surfaces is None else str(surfaces),
        "api_key_file": None if api_key_file is None else str(api_key_file),
        "rate": rate,
        "burst": burst,
        "max_in_flight": max_in_flight,
        "trusted_proxies": trusted_proxies,
        "poll_s": poll,
        "stale_after": stale_after,
    }
    settings = make_settings(ServerSettings, values, where="serve")
    run(settings, host=host, port=port, workers=workers, announce=_announce)


@app.command()
def recommend(
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A folder of releases: the live one.")] = None,
    release: Annotated[Path | None, typer.Option("--release", metavar="DIR", help="One release folder.")] = None,
    user: Annotated[str | None, typer.Option(help="A user's id.")] = None,
    action: Annotated[
        list[str] | None, typer.Option(metavar="ITEM[:INTERACTION]", help="What they did, oldest first; repeatable.")
    ] = None,
    basket: Annotated[list[str] | None, typer.Option(metavar="ITEM", help="In the cart now; repeatable.")] = None,
    item: Annotated[str | None, typer.Option(help="The item that is looked at.")] = None,
    seen_as: Annotated[str | None, typer.Option(help="Because you did this with it.")] = None,
    want: Annotated[str | None, typer.Option(help="You may want to do that.")] = None,
    surface: Annotated[str | None, typer.Option(help="item-page, cart-page, home or one of --surfaces.")] = None,
    surfaces: Surfaces = None,
    k: Annotated[int | None, typer.Option("-k", help="How many items.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="RULE=VALUE", help="A filter, as in category=a/b; repeatable.")
    ] = None,
    state: Annotated[Path | None, typer.Option(metavar="FILE", help="The live state of a server.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as the server gives it.")] = False,
) -> None:
    """Answer once, as the server would: for a user, recent actions, a basket or an item.

    Example: endcap recommend --to releases/ --action B00X --action B00Y:cart --want cart -k 5
    """
    import msgspec

    from endcap.serve.answerer import answer
    from endcap.serve.questions import Question
    from endcap.serve.serving import Serving
    from endcap.serve.state import LiveState
    from endcap.serve.surfaces import read_surfaces
    from endcap.settings import make_settings

    if state is not None and not state.is_file():
        raise InputError(f"--state {state}: there is no such file")
    serving = Serving.open(release_folder(to, release), read_surfaces(surfaces))
    asked: dict[str, Any] = {"user": user, "item": item, "seen_as": seen_as, "want": want, "surface": surface, "k": k}
    question = make_settings(
        Question,
        {
            **asked,
            "actions": [_action(text, serving.release.interactions) for text in action or []],
            "basket": basket or [],
            "filters": filters_of(where or []),
        },
        where="recommend",
    )
    if state is None:
        given = answer(question, serving)
    else:
        with LiveState(state) as live_state:
            given = answer(question, serving, live_state)
    if as_json:
        typer.echo(msgspec.json.encode(given).decode())
    else:
        print_answer(given, f"release {given.release}")


def _announce(address: str) -> None:
    """The address and three requests to try."""
    typer.echo(f"endcap serves at {address}\n")
    typer.echo(f"  curl '{address}/v1/items/ITEM/related?k=5'")
    typer.echo(
        f"  curl -X POST {address}/v1/recommend -H 'content-type: application/json' "
        """-d '{"actions": [{"item": "ITEM", "interaction": "click"}], "k": 5}'"""
    )
    typer.echo(
        f"  curl -X POST {address}/v1/events -H 'content-type: application/json' "
        """-d '{"user": "USER", "item": "ITEM", "interaction": "cart"}'"""
    )
    typer.echo(f"\n  {address}/ to look at lists, {address}/schema for all that can be asked")


def release_folder(to: Path | None, release: Path | None) -> Path:
    from endcap.release import live

    if (to is None) == (release is None):
        raise InputError("give either --to RELEASES or --release RELEASE")
    return to / live(to) if to is not None else Path(release or "")


def _action(text: str, interactions: Interactions) -> Action:
    """`ITEM` or `ITEM:INTERACTION`; an id may hold colons."""
    from endcap.serve.questions import Action

    item, colon, name = text.rpartition(":")
    return Action(item, name) if colon and name in interactions.names else Action(text)


def filters_of(assignments: list[str]) -> Any:
    """`RULE=VALUE` pairs as rules; lists are given by repeating a rule."""
    from endcap.serve.queries import read_filters

    pairs = [assignment.partition("=") for assignment in assignments]
    for assignment, (_, equals, _) in zip(assignments, pairs, strict=True):
        if not equals:
            raise InputError(f"--where {assignment}: write it as rule=value")
    return read_filters([(name, value) for name, _, value in pairs])


def print_answer(answer: Answer, title: str) -> None:
    """A table of the list, what its scores are made of where that was asked for; then the rivals met, and notes."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"{title}{', stale' if answer.stale else ''}")
    several = len({row.source for row in answer.items}) > 1
    for column in ("item", "title", "score", *(["source"] if several else []), "why"):
        table.add_column(column, overflow="fold")
    for row in answer.items:
        made_of = [f"{value:.2f} {name}" for name, value in (row.parts or {}).items() if name != "final"]
        why = [*([" x ".join(made_of)] if made_of else []), *row.reasons]
        source = [row.source] if several else []
        table.add_row(*map(Text, (row.item, row.title or "", f"{row.score:.4g}", *source, "\n".join(why))))
    console = Console()
    console.print(table)
    for met in answer.left_out:
        name = f"{met.item} {met.title}" if met.title else met.item
        console.print(f"left out as a {met.reason}, P(complement) {met.complement:.2f}: {name}", markup=False)
    for note in [*answer.notes, *([f"filled up by {answer.fallback}"] if answer.fallback else [])]:
        console.print(note, markup=False)
