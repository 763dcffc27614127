"""A process that has imported everything and started nothing: it forks a child for each command and kills it in time.

Forking costs milliseconds where starting Python and importing the engines costs seconds. It is safe because none of
these libraries has a thread before it is first used. Tasks come as JSON lines on stdin, outcomes go to stdout.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGING = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.chmod", "os.truncate"}
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "CREATE", "INSERT", "DELETE")
# Writers in other languages, which Python sees nothing of: what is done before and after them are two steps.
WRITERS = (
    "pyarrow.parquet:write_table",
    "pyarrow.parquet:ParquetWriter.write_table",
    "pyarrow.parquet:ParquetWriter.close",
    "faiss:write_index",
    "endcap.artefact:_exchange",
)


class Steps:
    """Counts the changes of the file system that this process is about to make, and dies before the n-th."""

    def __init__(self, folder: str, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.taken = folder, kill_at, 0

    def take(self) -> None:
        self.taken += 1
        if self.taken == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Count from now on, for the life of the process."""
        sys.addaudithook(self._audit)
        os.fsync = self._around(os.fsync, after=False)
        for name in WRITERS:
            module, _, path = name.partition(":")
            *holders, last = path.split(".")
            owner: Any = sys.modules[module]
            for holder in holders:
                owner = getattr(owner, holder)
            setattr(owner, last, self._around(getattr(owner, last)))
        self._count_statements()

    def _audit(self, event: str, details: tuple[Any, ...]) -> None:
        if event in CHANGING or (event == "open" and (details[2] or 0) & FOR_WRITING):
            path = details[0]
            if isinstance(path, int):
                return
            path = os.fsdecode(path)
            if not path.startswith("/") or path.startswith(self.folder):  # not the compiler's cache
                self.take()

    def _around(self, function: Callable[..., Any], *, after: bool = True) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.take()
            result = function(*arguments, **options)
            if after:
                self.take()
            return result

        return counted

    def _count_statements(self) -> None:
        take = self.take

        class Counted(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql.startswith(TRANSACTION):
                    take()
                    cursor = super().execute(sql, *parameters)
                    take()
                    return cursor
                return super().execute(sql, *parameters)

        connect = sqlite3.connect
        sqlite3.connect = lambda *arguments, **options: connect(*arguments, **{"factory": Counted} | options)  # type: ignore[assignment]


def _import_all() -> None:
    import importlib

    for name in (
        "duckdb", "faiss", "ibis.backends.duckdb", "pyarrow.parquet", "rich.table", "rich.console",
        "endcap.cli", "endcap.evaluate", "endcap.jobs.refresh", "endcap.models.item_interaction",
        "endcap.models.counts", "endcap.models.popularity", "endcap.release", "endcap.shop.ingest",
    ):  # fmt: skip
        importlib.import_module(name)


def _command(words: list[str]) -> int:
    """Run `endcap WORDS`, or `prune FOLDER KEEP`, which has no verb of its own."""
    from endcap.cli import main
    from endcap.models import checkpoint
    from endcap.release import prune

    checkpoint.SAVE_EVERY_S = 0.0
    if words[0] == "prune":
        prune(Path(words[1]), int(words[2]))
        return 0
    sys.argv = ["endcap", *words]
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _child(task: dict[str, Any], report: int, saying: int) -> None:
    """Never returns. What it says goes into a pipe, which holds 64 KB and knows no limit on files."""
    os.chdir(task["folder"])
    nowhere = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nowhere, 0), (nowhere, 1), (saying, 2)):
        os.dup2(source, target)
    steps = Steps(os.path.realpath(task["folder"]), task.get("kill_at"))
    code = 70
    try:
        steps.install()
        if task.get("largest_file"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (task["largest_file"], resource.RLIM_INFINITY))
        code = _command(task["words"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os.write(report, str(steps.taken).encode())
        os._exit(code)


def _run(task: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and kill after `kill_after` seconds if it is still there."""
    reading, report = os.pipe()
    hearing, saying = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(task, report, saying)
    os.close(report)
    os.close(saying)
    deadline = began + task.get("kill_after", 1e9)
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
            deadline = began + 1e9
        time.sleep(0.001)
    seconds = time.monotonic() - began
    steps = os.read(reading, 100).decode()
    said = os.read(hearing, 1 << 16).decode(errors="replace")
    os.close(reading)
    os.close(hearing)
    killed = os.WIFSIGNALED(status)
    return {
        "killed": killed,
        "code": None if killed else os.WEXITSTATUS(status),
        "signal": os.WTERMSIG(status) if killed else None,
        "steps": int(steps or 0),
        "seconds": seconds,
        "said": said,
    }


def main() -> None:
    """Serve until stdin ends."""
    _import_all()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
