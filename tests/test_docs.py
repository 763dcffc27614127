"""The documentation works as printed: its blocks run, its links lead somewhere, what it names exists."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple

import click
import msgspec
import pytest
import typer

from endcap.cli import _add_verbs, app
from endcap.models.item_interaction import ItemInteractionConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|[\s$|&;(*])endcap[ \t]+([a-z][^\n|&;>)]*)", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DEVELOPERS_ONLY = ("pandas", "polars")  # a user's installation need not have them


class Block(NamedTuple):
    """One fenced block: what it is marked, its text, and the line it begins at."""

    kind: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(found["kind"].strip(), found["text"], text.count("\n", 0, found.start()) + 2)
        for found in FENCE.finditer(text)
    ]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(*kinds: str) -> list[Path]:
    return [page for page in PAGES if any(block.kind in kinds for block in blocks(page))]


def run(page: Path, kinds: tuple[str, ...], folder: Path, limit: float = 250) -> None:
    """Run the blocks of these kinds from top to bottom in one shell, as a reader does who pastes them."""
    scripts, shop, absent = folder / "scripts", folder / "work", folder / "absent"
    for made in (scripts, shop, absent):
        made.mkdir()
    for package in DEVELOPERS_ONLY:
        (absent / f"{package}.py").write_text(f"raise ModuleNotFoundError('{package} is no core package')\n")
    lines = []
    for block in blocks(page):
        if block.kind not in kinds:
            continue
        lines.append(f"echo '== {name(page)}, line {block.line}'")
        if block.kind == "python":
            script = scripts / f"line_{block.line}.py"
            script.write_text(block.text)
            lines.append(f"python {shlex.quote(str(script))}")
        else:
            lines.append(block.text)
    lines.append("jobs > /dev/null")  # the shell stays to the end and takes leave of a server that was stopped
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(absent),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }
    with (folder / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-e", "-c", "\n".join(lines)],
            cwd=shop,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait(limit)
        except subprocess.TimeoutExpired:
            end_group(shell.pid, patience=0)
            raise
        left = end_group(shell.pid)  # a server that the page started must not outlive it
        output.seek(0)
        said = output.read()
    assert status == 0, f"{name(page)} stops with {status}:\n{said[-4000:]}"
    assert not left, f"{name(page)} leaves a process behind"
    assert "Traceback" not in said, said[-4000:]


def end_group(group: int, patience: float = 5.0) -> bool:
    """Kill what is left of a process group after a moment to stop by itself; whether anything was."""
    deadline = time.monotonic() + patience
    try:
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("page", runnable("bash", "python"), ids=name)
def test_page_runs(page: Path, tmp_path: Path) -> None:
    run(page, ("bash", "python"), tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("page", runnable("bash data"), ids=name)
def test_page_runs_on_real_data(page: Path, tmp_path: Path) -> None:
    data = os.environ.get("ENDCAP_DATA", "")
    if not Path(data or "/nowhere").is_dir():
        pytest.skip("ENDCAP_DATA names no folder of real data")
    run(page, ("bash data",), tmp_path, limit=900)


def test_blocks_are_marked() -> None:
    """A block with a mark that nobody knows is one that silently does not run."""
    known = {"bash", "bash data", "python", "python-repl", "text", "toml", "json", "mermaid"}
    wrong = [f"{name(page)}:{block.line}: {block.kind!r}" for page in PAGES for block in blocks(page)
             if block.kind not in known]  # fmt: skip
    assert not wrong


def anchors(page: Path) -> set[str]:
    """The anchors that a heading gets on the usual forges."""
    headings = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT), f"{target}: leaves the repository"
        assert linked.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in anchors(linked), f"{target}: {name(linked)} has no such heading"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {target.partition("#")[0] for target in LINK.findall(prose(index))}
    assert linked >= {page.name for page in index.parent.glob("*.md")} - {index.name}


@cache
def verbs() -> dict[str, set[str]]:
    """The options of every verb; of `releases`, those of each of its own verbs."""
    _add_verbs()
    command = typer.main.get_command(app)

    def walk(prefix: str, group: click.Group) -> Iterator[tuple[str, set[str]]]:
        for verb, below in group.commands.items():
            options = {option for param in below.params for option in (*param.opts, *param.secondary_opts)}
            yield f"{prefix}{verb}", options | {"-h", "--help"}
            if hasattr(below, "commands"):
                yield from walk(f"{prefix}{verb} ", below)

    return dict(walk("", command))


def commands(page: Path) -> Iterator[str]:
    """What stands after `endcap` wherever the page writes a command."""
    shell = [block.text for block in blocks(page) if block.kind in ("bash", "bash data", "text")]
    for text in (*shell, *INLINE.findall(prose(page))):
        yield from COMMAND.findall(text.replace("\\\n", " "))


def options_in(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])(?![\w-])", text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    for command in commands(page):
        words = command.split()
        verb = " ".join(words[:2]) if words[0] == "releases" and " ".join(words[:2]) in verbs() else words[0]
        assert verb in verbs(), f"endcap {command}: there is no such verb"
        unknown = set(options_in(command)) - verbs()[verb]
        assert not unknown, f"endcap {command}: there is no {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_in_prose_exist(page: Path) -> None:
    known = set().union(*verbs().values())
    named = {option for code in INLINE.findall(prose(page)) if code.startswith("--") for option in options_in(code)}
    assert named <= known


def test_every_verb_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    missing = [verb for verb in verbs() if f"`endcap {verb}`" not in text]
    assert not missing


def test_every_route_is_in_the_reference() -> None:
    from litestar.handlers import HTTPRouteHandler

    from endcap.serve import app as server

    text = (ROOT / "docs" / "api.md").read_text()
    handlers = [value for value in vars(server).values() if isinstance(value, HTTPRouteHandler)]
    assert len(handlers) > 5
    paths = [path.replace(":str", "") for handler in handlers for path in handler.paths]
    missing = [path for path in paths if f"{path}`" not in text]
    assert not missing


def test_python_names_in_the_reference_exist() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    names = re.findall(r"`(endcap(?:\.\w+)+)", text)
    assert len(names) > 10
    for dotted in names:
        resolve_name(dotted)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_a_page_names_exist(page: Path) -> None:
    for file, test in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", page.read_text()):
        assert (ROOT / file).is_file(), f"{name(page)} names {file}"
        assert f"def {test}" in (ROOT / file).read_text(), f"{name(page)} names {file}::{test}"


def test_settings_of_item_interaction_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "item-interaction.md").read_text()
    stated = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    fields = msgspec.structs.fields(ItemInteractionConfig)
    assert stated == {field.name: str(field.default).lower() for field in fields}
