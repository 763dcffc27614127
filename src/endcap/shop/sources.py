"""Event and items files of any format, and tables in memory, as engine tables with line numbers."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis.expr.types as ir
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from numpy.typing import NDArray

from endcap.artefact import sha256
from endcap.errors import InputError
from endcap.shop.normalise import LINE, MALFORMED
from endcap.shop.records import COMPRESSIONS, LINES, Dialect, Records, first_record, occurring, read_records, read_start

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
DELIMITERS = (",", "\t", ";", "|")
RAW_BYTES = 2000  # of a broken record are kept
KEYS_FROM_LINES = 10_000


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
            raise InputError(
                f"{path}: not a whole Parquet file ({_first_line(error)}); write or copy it again"
            ) from None
        return cls(str(path), path, columns, sha256(path))

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        columns = ", ".join(_quoted(name) for name in taken)
        path = glob.escape(str(self.path)).replace("'", "''")
        con.raw_sql(
            f"CREATE OR REPLACE TEMP VIEW source_table AS SELECT {columns}, file_row_number + 1 AS {LINE} "
            f"FROM read_parquet('{path}', file_row_number = true)"
        )
        return con.table("source_table")


class TextSource(Source):
    """A text file whose records are read once, in batches, by the engine.

    Attributes:
        error: what stopped the reading; the engine reports it in words of its own.
    """

    path: Path
    error: InputError | None = None

    def _stream(self, con: Backend, names: Sequence[str], batches: Iterator[pa.RecordBatch]) -> None:
        """Register batches of (LINE, MALFORMED, *names) as `source_text`."""
        schema = pa.schema([(LINE, pa.int64()), (MALFORMED, pa.string()), *((name, pa.string()) for name in names)])
        con.con.register("source_text", pa.RecordBatchReader.from_batches(schema, self._guarded(batches)))

    def _guarded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except InputError as error:
            self.error = error
            raise


@dataclass
class CsvSource(TextSource):
    """Delimited text with a header; every value is text, quoted or not."""

    name: str
    path: Path
    columns: list[str]
    checksum: str
    delimiter: str
    header: int  # its length in bytes
    first_line: int

    @classmethod
    def of(cls, path: Path, delimiter: str | None) -> CsvSource:
        """Raises InputError if the file does not begin with a header."""
        start = read_start(path)
        blank = len(start) - len(start.lstrip(b"\r\n"))
        delimiter = delimiter or _sniff(start[blank:])
        record = first_record(start[blank:], delimiter)
        if not start.strip() or record is None:
            what = "the file is empty" if not start.strip() else "the first line is no header, it does not end"
            raise InputError(f"{path}: {what}; a CSV file begins with a line of column names")
        try:
            text = record.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{path} line 1: not UTF-8 text; save the file as UTF-8") from None
        columns = [name.strip() for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))]
        header = start[: blank + len(record)]
        return cls(str(path), path, columns, sha256(path), delimiter, len(header), 1 + len(header.splitlines()))

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        self._stream(con, taken, self._batches(taken))
        return con.table("source_text")

    def _batches(self, taken: Sequence[str]) -> Iterator[pa.RecordBatch]:
        dialect = Dialect(ord(self.delimiter), ord('"'), len(self.columns))
        places = [str(self.columns.index(name)) for name in taken]
        for records in read_records(self.path, dialect, skip=self.header, first_line=self.first_line):
            broken = records.broken | not_utf8(records)
            yield from _broken_batch(records, broken, taken)
            text = _good_bytes(records, broken)
            if not text:
                continue
            table = pa_csv.read_csv(
                pa.BufferReader(text),
                pa_csv.ReadOptions(
                    column_names=[str(place) for place in range(len(self.columns))],
                    block_size=len(text) + 1,
                    use_threads=False,
                ),
                pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=records.spanning),
                pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(places, pa.string()),
                    include_columns=list(dict.fromkeys(places)),
                    null_values=[""],
                    strings_can_be_null=True,
                    check_utf8=False,  # `not_utf8` did
                ),
            )
            lines = records.lines[~broken]
            if table.num_rows != len(lines):
                raise InputError(f"{self.path}: {table.num_rows} rows parsed of {len(lines)} behind line {lines[0]}")
            yield _batch(lines, None, taken, [table[place].combine_chunks() for place in places])


@dataclass
class JsonLinesSource(TextSource):
    """One JSON object a line; every scalar is taken as text, nulls and absent keys are null."""

    name: str
    path: Path
    columns: list[str]
    checksum: str

    @classmethod
    def of(cls, path: Path, asked: Collection[str]) -> JsonLinesSource:
        """Raises InputError if no line at the beginning is an object.

        A key counts as a column if it stands in the first lines, or anywhere in the file where it is `asked` for.
        """
        objects = []
        for line in read_start(path).splitlines()[:KEYS_FROM_LINES]:
            with contextlib.suppress(ValueError, RecursionError):  # no JSON, no UTF-8, or nested too deeply
                objects.append(msgspec.json.decode(line))
        keys = dict.fromkeys(key for found in objects if isinstance(found, dict) for key in found)
        if not keys:
            raise InputError(f"{path}: no JSON object in the first lines; one object a line is needed")
        late = [name for name in asked if name not in keys]
        return cls(str(path), path, [*keys, *occurring(path, late)], sha256(path))

    def table(self, con: Backend, taken: Sequence[str]) -> ir.Table:
        self._stream(con, ["text"], self._batches())
        paths = ", ".join(f"'$.{_quoted(name)}'".replace("\\", "\\\\") for name in taken)
        values = ", ".join(f"cells[{place + 1}] AS {_quoted(name)}" for place, name in enumerate(taken))
        # The first CASE keeps the functions behind it from texts that are no JSON: these would be errors.
        con.raw_sql(
            f"CREATE OR REPLACE TEMP VIEW source_table AS SELECT {LINE}, {values}, CASE WHEN {MALFORMED} IS NOT NULL "
            f"THEN {MALFORMED} WHEN cells IS NULL THEN left(text, {RAW_BYTES}) END AS {MALFORMED} FROM (SELECT *, "
            f"CASE WHEN json_valid(text) THEN CASE WHEN json_type(text) = 'OBJECT' THEN "
            f"json_extract_string(text, [{paths}]) END END AS cells FROM source_text)"
        )
        return con.table("source_table")

    def _batches(self) -> Iterator[pa.RecordBatch]:
        for records in read_records(self.path, LINES):
            broken = records.broken | not_utf8(records)
            yield from _broken_batch(records, broken, ["text"])
            offsets = np.append(records.starts, records.ends[-1:]).astype(np.int32)
            whole = pa.StringArray.from_buffers(len(records.lines), pa.py_buffer(offsets), pa.py_buffer(records.data))
            yield _batch(records.lines[~broken], None, ["text"], [whole.filter(pa.array(~broken))])


def find_sources(paths: Paths, delimiter: str | None = None, asked: Collection[str] = ()) -> list[Source]:
    """The files that paths, globs and directories name, in a stable order.

    Args:
        delimiter: of CSV files, None: found out; asked: names of columns to look for in files without a header.

    Raises:
        InputError: if there is none, or one cannot be read.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for path in given for file in _expand(Path(path))]
    return [_open(file, delimiter, asked) for file in dict.fromkeys(files)]


def _expand(path: Path) -> list[Path]:
    if os.path.isfile(path):  # which knows that no file can have an impossible name
        return [path]
    if os.path.isdir(path):
        return _of_one_format(path)
    if os.path.lexists(path):
        raise InputError(f"{path}: neither a file nor a directory (a link that leads nowhere, or a pipe); name a file")
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


def _open(path: Path, delimiter: str | None, asked: Collection[str]) -> Source:
    kind = _format(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    if kind == "parquet":
        return ParquetSource.of(path)
    if kind == "csv":
        return CsvSource.of(path, delimiter)
    if kind == "jsonl":
        return JsonLinesSource.of(path, asked)
    raise InputError(
        f"{path}: unknown format; the name must end in .parquet, .csv, .tsv or .jsonl, the latter also in .gz or .zst"
    )


def not_utf8(records: Records) -> NDArray[np.bool_]:
    """(n,) true for records that are no UTF-8 text; nearly always all are, and one look is enough."""
    wrong = np.zeros(len(records.lines), np.bool_)
    if _is_utf8(records.data[records.starts[0] : records.ends[-1]]):
        return wrong
    for number, (start, end) in enumerate(zip(records.starts, records.ends, strict=True)):
        wrong[number] = not _is_utf8(records.data[start:end])
    return wrong


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _good_bytes(records: Records, broken: NDArray[np.bool_]) -> bytes:
    """The text of the whole records, one behind the other."""
    if not broken.any():
        return records.data[records.starts[0] : records.ends[-1]]
    edges = np.flatnonzero(np.diff(np.concatenate(([True], broken, [True])).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    return b"".join(records.data[records.starts[first] : records.ends[behind - 1]] for first, behind in runs)


def _broken_batch(records: Records, broken: NDArray[np.bool_], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    numbers = np.flatnonzero(broken)
    if len(numbers):
        texts = [records.text(int(number), RAW_BYTES) for number in numbers]
        yield _batch(records.lines[numbers], texts, names, [pa.nulls(len(numbers), pa.string())] * len(names))


def _batch(
    lines: NDArray[np.int64], texts: list[str] | None, names: Sequence[str], columns: Sequence[pa.Array]
) -> pa.RecordBatch:
    malformed = pa.nulls(len(lines), pa.string()) if texts is None else pa.array(texts, pa.string())
    return pa.RecordBatch.from_arrays([pa.array(lines), malformed, *columns], names=[LINE, MALFORMED, *names])


def _sniff(start: bytes) -> str:
    """The delimiter that stands most often in the first line, outside of quotes."""
    line = re.sub(rb'"[^"]*"', b"", start.splitlines()[0] if start else b"")
    return max(DELIMITERS, key=lambda delimiter: line.count(delimiter.encode()))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
