"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

PLAIN_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What long work reports to."""

    def advance(self, amount: float = 1.0, note: str = "") -> None: ...


class _Silent:
    def advance(self, amount: float = 1.0, note: str = "") -> None:
        pass


class _PlainLines:
    def __init__(self, what: str, total: float | None) -> None:
        self.what, self.total, self.done, self.said_at = what, total, 0.0, time.monotonic()

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.done += amount
        if time.monotonic() - self.said_at >= PLAIN_LINE_EVERY_S:
            self.said_at = time.monotonic()
            share = f"{self.done / self.total:.0%}" if self.total else f"{self.done:,.0f}"
            print(f"{self.what}: {share} {note}".rstrip(), file=sys.stderr, flush=True)


class _Bar:
    def __init__(self, bar: object, task: object) -> None:
        self.bar, self.task = bar, task

    def advance(self, amount: float = 1.0, note: str = "") -> None:
        self.bar.update(self.task, advance=amount, note=note)  # type: ignore[attr-defined]


@contextmanager
def progress(what: str, total: float | None = None, *, shown: bool = True) -> Iterator[Progress]:
    """Report long work: `with progress("training", epochs) as bar: bar.advance(1, "loss 0.3")`."""
    if not shown:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _PlainLines(what, total)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            yield _Bar(bar, bar.add_task(what, total=total, note=""))
