"""Event and items files of any format, and tables in memory, as engine tables with line numbers."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from endcap.artefact import sha256
from endcap.errors import InputError
from endcap.shop.normalise import LINE

Paths = str | Path | Iterable[str | Path]
FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}


class Source:
    """One file or table.

    Attributes:
        name: what people call it; columns: names in their order; checksum: SHA-256 of the content, "" for a table.
    """

    name: str
    columns: list[str]
    checksum: str

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        """The taken columns, `LINE` and, for text, `MALFORMED` (the text of rows that are none)."""
        raise NotImplementedError


@dataclass
class TableSource(Source):
    """A table in memory: pandas, polars, Arrow, or anything with the Arrow stream interface."""

    name: str
    content: pa.Table
    checksum: str = ""

    @classmethod
    def of(cls, name: str, given: Any) -> TableSource:
        """Raises InputError for what is no table, or mixes types in a column."""
        try:
            if hasattr(given, "to_arrow") and not hasattr(given, "__arrow_c_stream__"):
                given = given.to_arrow()
            content = given if isinstance(given, pa.Table) else pa.table(given)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InputError(f"{name}: not a table that Arrow understands ({_first_line(error)})") from None
        index = [column for column in content.column_names if column.startswith("__index_level_")]
        return cls(name, content.drop_columns(index))

    @property
    def columns(self) -> list[str]:  # type: ignore[override]
        return list(self.content.column_names)

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        lines = pa.array(range(1, self.content.num_rows + 1), pa.int64())
        content = self.content.select(list(taken)).append_column(LINE, lines)
        con.con.register("source_table", content)
        return con.table("source_table")


@dataclass
class ParquetSource(Source):
    """A Parquet file; lines are row numbers from 1."""

    name: str
    path: Path
    columns: list[str]
    checksum: str

    @classmethod
    def of(cls, path: Path) -> ParquetSource:
        """Raises InputError for a truncated or foreign file."""
        try:
            columns = list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{path}: not a whole Parquet file ({_first_line(error)}); write or copy it again") from None
        return cls(str(path), path, columns, sha256(path))

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        columns = ", ".join(_quoted(name) for name in taken)
        path = glob.escape(str(self.path)).replace("'", "''")
        con.raw_sql(
            f"CREATE OR REPLACE TEMP VIEW source_table AS SELECT {columns}, file_row_number + 1 AS {LINE} "
            f"FROM read_parquet('{path}', file_row_number = true)"
        )
        return con.table("source_table")


def find_sources(paths: Paths) -> list[Source]:
    """The files that paths, globs and directories name, in a stable order.

    Raises:
        InputError: if there is none, or one cannot be read.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for path in given for file in _expand(Path(path))]
    return [_open(file) for file in dict.fromkeys(files)]


def _expand(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        return _of_one_format(path)
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    if not found:
        raise InputError(f"{path}: no such file")
    return [file for name in found for file in _expand(name)]


def _of_one_format(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    formats = {_format(file) for file in files}
    if not files:
        raise InputError(f"{folder}: a directory without event files; name the files to ingest")
    if len(formats) > 1 or None in formats:
        names = ", ".join(file.name for file in files[:5])
        raise InputError(
            f"{folder}: a directory must hold files of one format (Parquet, CSV or JSON lines), this one holds {names};"
            " name the files to ingest, or use a glob such as 'events/*.csv'"
        )
    return files


def _format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _open(path: Path) -> Source:
    kind = _format(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if kind == "parquet":
        return ParquetSource.of(path)
    raise InputError(f"{path}: unknown format; the name must end in .parquet, .csv, .tsv or .jsonl (or those and .gz, .zst)")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
