"""The one writer of benchmark results: a table on the screen, JSON for programs, a section of RESULTS.md."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from endcap.artefact import write_atomically

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADINGS = ("what", "ours", "reference", "target", "met", "command")
NO_RESULT = "--quick: a trial run on little data. This is no result and is not written to RESULTS.md."


class Row(msgspec.Struct, kw_only=True):
    """One measured figure. `ours` None: not run. `met` None: no target, or not run."""

    what: str
    ours: float | str | None = None
    reference: float | str | None = None
    target: float | str | None = None
    met: bool | None = None
    command: str = ""


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has: `--data`, `--json`, `--quick`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder of the data set (default: made by the simulator)")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--quick", action="store_true", help="little data, at most two minutes; no result")
    return parser


def report(
    name: str, data: str, rows: Sequence[Row], json_path: Path | None = None, *, quick: bool = False, notes: str = ""
) -> None:
    """Print the rows, write them as JSON and replace this benchmark's section of RESULTS.md (not with `quick`).

    Args:
        name: the benchmark's name, that of its file; data: name of the data set, never a path of this machine.
        notes: a paragraph in Markdown that stands under the table.
    """
    table = _markdown(rows)
    print(f"\n{name} on {data}\n\n{table}\n{notes}".rstrip())
    if json_path is not None:
        write_json(json_path, name, data, rows, quick=quick)
    if quick:
        print(f"\n{NO_RESULT}")
    else:
        _replace_section(name, f"## {name}\n\nData: {data}. {_machine()}\n\n{table}\n\n{notes}".rstrip())


def write_json(path: Path, name: str, data: str, rows: Sequence[Row], *, quick: bool = False) -> None:
    """The rows for programs."""
    content = {"name": name, "data": data, "rows": msgspec.to_builtins(list(rows)), "quick": quick}
    write_atomically(path, msgspec.json.format(msgspec.json.encode(content)).decode() + "\n")


def _markdown(rows: Sequence[Row]) -> str:
    cells = [[_text(getattr(row, heading), heading) for heading in HEADINGS] for row in rows]
    lines = [HEADINGS, ["---"] * len(HEADINGS), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _text(value: float | str | bool | None, heading: str) -> str:
    if value is None:
        return "not run" if heading == "ours" else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if heading == "command":
        return f"`{value}`" if value else ""
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def _machine() -> str:
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{today}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}."


def _replace_section(name: str, section: str) -> None:
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n\nWritten by the benchmarks.\n"
    whole = f"{start}\n{section}\n{end}"
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    text = pattern.sub(lambda _: whole, text) if pattern.search(text) else f"{text.rstrip()}\n\n{whole}\n"
    write_atomically(RESULTS, text)
