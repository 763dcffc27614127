"""The verb `demo`: the whole way, each step the very command a user would type."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from endcap.cli import app

EVENTS = 60_000
MODELS = "item-interaction,co-occurrence,popularity"
DEEP = ("coaction-graph", "--set", "epochs=4", "--set", "longest=20", "--set", "batch_size=512")
SURFACES = """[surface.home]
sources = [{ model = "coaction-graph" }, { model = "item-interaction" }]
rules = { not_bought = true }
"""


@app.command()
def demo(
    events: Annotated[
        list[str] | None, typer.Option(help="Your event log (file, glob or directory) instead of a sample shop.")
    ] = None,
    items: Annotated[str | None, typer.Option(help="Your items file.")] = None,
    columns: Annotated[str | None, typer.Option(help="theirs=ours, as for `ingest`.")] = None,
    interactions: Annotated[str | None, typer.Option(help="theirs=ours, as for `ingest`.")] = None,
    folder: Annotated[Path, typer.Option(help="Everything goes here; it is emptied first.")] = Path("demo-shop"),
    test: Annotated[str, typer.Option(help="Length of the test part: 7d, or a share of the events.")] = "0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the server.")] = 8000,
    leave: Annotated[bool, typer.Option("--exit", help="Stop after the example requests.")] = False,
) -> None:
    """From a log to live answers in a few minutes: simulate, ingest, describe, evaluate, train, publish, serve.

    Where torch is installed, the home surface is served by coaction-graph, which trains for a few epochs only. Prints
    each command before it runs it. Without --events it makes a sample shop.

    Example: endcap demo --events log.parquet --columns visitorid=user,itemid=item --interactions view=click
    """
    shop, model, releases = folder / "shop", folder / "models" / "item-interaction", folder / "releases"
    _empty(folder)
    if not events:
        _run("simulate", folder / "log", "--events", EVENTS)
        events, items = [str(folder / "log" / "events.parquet")], str(folder / "log" / "items.parquet")
    options = {"--items": items, "--columns": columns, "--interactions": interactions}
    given = [word for option, value in options.items() if value for word in (option, value)]
    _run("ingest", *events, *given, "--shop", shop)
    _run("describe", shop, "--plot", folder / "shop.png")
    _run("evaluate", "--shop", shop, "--models", MODELS, "--test", test, "--json", folder / "report.json")
    _run("train", "item-interaction", "--shop", shop, "--out", model)
    models, surfaces = [model], []
    if find_spec("torch"):
        models.append(folder / "models" / "coaction-graph")
        _run("train", *DEEP, "--shop", shop, "--out", models[-1])
        (folder / "surfaces.toml").write_text(SURFACES)
        surfaces = ["--surfaces", folder / "surfaces.toml"]
    _run("publish", *models, "--shop", shop, "--to", releases)
    _serve(shop, releases, folder / "state.db", surfaces, port, leave)


def _empty(folder: Path) -> None:
    """Remove an earlier demo, and nothing that is not one."""
    import shutil

    from endcap.errors import InputError

    mark = folder / ".endcap-demo"
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise InputError(f"--folder {folder}: holds files that no demo made; name another folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mark.touch()


def _command(*words: object) -> list[str]:
    import sys

    return [sys.executable, "-c", "from endcap.cli import main; main()", *map(str, words)]


def _say(*words: object) -> None:
    import shlex

    typer.secho(f"\n$ endcap {shlex.join(map(str, words))}", bold=True)


def _run(*words: object) -> None:
    import subprocess

    _say(*words)
    done = subprocess.run(_command(*words), check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)


def _serve(shop: Path, releases: Path, state: Path, surfaces: list[object], port: int, leave: bool) -> None:
    """Start the server, ask it three things, then wait for Ctrl-C."""
    import contextlib
    import subprocess

    from endcap.errors import EndcapError

    port = port if _is_free(port) else 0
    port = port or _free_port()
    words = ("serve", releases, *surfaces, "--state", state, "--port", port, "--stale-after", "5000w")
    _say(*words)
    server = subprocess.Popen(_command(*words), stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        if not _ready(server, address):
            raise EndcapError("the server did not start; its message stands above")
        for question in _questions(shop, address):
            _ask(*question)
        typer.secho(f"\nendcap serves at {address} (a page to look at: {address}/, all questions: {address}/schema)")
        if not leave:
            typer.echo("Ctrl-C stops it.")
            with contextlib.suppress(KeyboardInterrupt):
                server.wait()
    finally:
        server.terminate()
        server.wait(30)


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return port != 0 and probe.connect_ex(("127.0.0.1", port)) != 0


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(server: object, address: str) -> bool:
    """Wait until the server answers; False once it has stopped."""
    import subprocess
    import time
    import urllib.error
    import urllib.request

    assert isinstance(server, subprocess.Popen)
    while server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False


def _questions(shop: Path, address: str) -> list[tuple[str, str, dict[str, object] | None]]:
    """What follows from the most clicked item; a list for somebody never seen; the same after they carted something."""
    from urllib.parse import quote

    import numpy as np

    from endcap.shop import Shop

    opened = Shop.open(shop)
    popular = np.argsort(-np.bincount(opened.positives.item, minlength=opened.n_items), kind="stable")
    first, second = opened.items[popular[0]], opened.items[popular[min(1, len(popular) - 1)]]
    occurring = np.bincount(opened.positives.interaction, minlength=len(opened.interactions))
    names = [name for name, count in zip(opened.interactions.names, occurring, strict=True) if count]
    looked = {"item": first, "interaction": names[0]}
    return [
        ("GET", f"{address}/v1/items/{quote(first, safe='')}/related?seen_as={names[0]}&k=5", None),
        ("POST", f"{address}/v1/recommend", {"actions": [looked], "k": 5}),
        ("POST", f"{address}/v1/recommend", {"actions": [looked, {"item": second, "interaction": names[-1]}], "k": 5}),
    ]


def _ask(method: str, url: str, body: dict[str, object] | None) -> None:
    """Print a request as a curl command, and its answer."""
    import json
    import urllib.request

    content = None if body is None else json.dumps(body)
    shown = f"curl '{url}'" if content is None else f"curl {url} -H 'content-type: application/json' -d '{content}'"
    typer.secho(f"\n$ {shown}", bold=True)
    request = urllib.request.Request(url, method=method, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, None if content is None else content.encode(), timeout=60) as answer:
        typer.echo(json.dumps(json.load(answer), indent=1, ensure_ascii=False))
