"""Small logs for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

START = 1_600_000_000
HEADER = "user,item,interaction,time\n"


def table(*rows: tuple[Any, ...], names: str = "user,item,interaction,time") -> pa.Table:
    """Rows as an Arrow table; times are seconds after `START`."""
    columns = dict(zip(names.split(","), map(list, zip(*rows, strict=True)), strict=True))
    columns["time"] = [START + second for second in columns["time"]]
    return pa.table(columns)


def parquet(path: Path, *rows: tuple[Any, ...], names: str = "user,item,interaction,time") -> Path:
    """The same as a file."""
    pq.write_table(table(*rows, names=names), path)
    return path


def csv(path: Path, *lines: str, header: str = HEADER) -> Path:
    """A CSV file of these lines."""
    path.write_text(header + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
