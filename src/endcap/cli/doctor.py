"""The verb `doctor`: is this installation able to work?"""

from __future__ import annotations

import typer

from endcap.cli import app

PACKAGES = (
    "numpy", "scipy", "numba", "pyarrow", "duckdb", "ibis-framework", "faiss-cpu", "implicit", "msgspec", "litestar",
    "uvicorn", "prometheus-client", "matplotlib", "optuna", "typer", "rich",
)  # fmt: skip
OPTIONAL = ("torch", "torch-geometric", "safetensors")
SMALLEST_DISK = 2 << 30


@app.command()
def doctor(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Check Python, packages, memory and disk, and that the compiled kernels run.

    Exit code 1 if something that endcap needs is missing. Paste the output into a bug report.
    """
    import json

    checks = _checks()
    if as_json:
        print(json.dumps(checks, indent=1))
    else:
        _print(checks)
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)


def _checks() -> list[dict[str, object]]:
    import os
    import platform
    import shutil
    import sys
    from importlib.metadata import PackageNotFoundError, version

    import endcap

    def found(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    def check(what: str, value: object, ok: bool = True) -> dict[str, object]:
        return {"what": what, "value": value, "ok": ok}

    free = shutil.disk_usage(".").free
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        check("endcap", endcap.__version__),
        check("python", platform.python_version(), sys.version_info >= (3, 11)),
        check("system", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        check("memory", f"{memory / 2**30:.1f} GiB"),
        check("free disk here", f"{free / 2**30:.1f} GiB", free >= SMALLEST_DISK),
        *(check(name, found(name) or "missing", found(name) is not None) for name in PACKAGES),
        *(check(name, found(name) or "not installed (extra: deep)") for name in OPTIONAL),
        check("kernels", *_kernels()),
    ]


def _kernels() -> tuple[str, bool]:
    """Count two sessions with the compiled pair counter."""
    import numpy as np

    from endcap.kernels.pairs import top_following

    tokens, offsets = np.array([0, 1, 0, 1], np.int32), np.array([0, 2, 4])
    try:
        top, counts = top_following(tokens, offsets, np.zeros(2, np.int32), np.arange(2, dtype=np.int32), k=1)
    except Exception as error:  # whatever is wrong with the compiler belongs in the report
        return f"do not run: {error}", False
    works = top[0, 0] == 1 and counts[0, 0] == 2
    return ("run" if works else "give wrong counts"), bool(works)


def _print(checks: list[dict[str, object]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for check in checks:
        table.add_row("[green]ok[/]" if check["ok"] else "[red]no[/]", str(check["what"]), str(check["value"]))
    Console().print(table)
