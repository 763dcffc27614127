"""Text files as records with line numbers: the one place that knows where a record ends and which ones are broken.

A CSV record ends at a line end outside of quotes. One that cannot be a record (another number of fields, text after a
closing quote, a quote that never closes, a line beyond `RECORD_LIMIT`) costs its first line and no more: reading goes
on behind that line, so that a stray quote does not swallow the rest of the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.errors import InputError

BLOCK_BYTES = 1 << 23
RECORD_LIMIT = 1 << 20
RECORDS_PER_CALL = 1 << 17
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
NO_CHARACTER = 256  # a delimiter or quote that never occurs
NEWLINE, RETURN = 10, 13
UTF8_MARK, UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Dialect:
    """How a text file is divided: bytes of delimiter and quote, fields of every record."""

    delimiter: int
    quote: int
    fields: int


LINES = Dialect(NO_CHARACTER, NO_CHARACTER, 1)


@dataclass(frozen=True)
class Records:
    """Some records in a row.

    Attributes:
        data: bytes; starts, ends: (n,) where records lie in it, line ends included; lines: (n,) from 1;
        broken: (n,) true for what is no record; spanning: whether a value holds a line end.
    """

    data: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    lines: NDArray[np.int64]
    broken: NDArray[np.bool_]
    spanning: bool

    def text(self, number: int, limit: int) -> str:
        """The first bytes of a record, readable whatever they are."""
        start = self.starts[number]
        raw = self.data[start : min(self.ends[number], start + limit)]
        return raw.decode("utf-8", "replace").rstrip("\r\n")


@numba.njit(cache=True, nogil=True)
def _line_end(data, place, end):  # type: ignore[no-untyped-def]
    """Behind the next line end, or -1 where there is none."""
    while place < end:
        if data[place] == NEWLINE:
            return place + 1
        if data[place] == RETURN:
            if place + 1 < end and data[place + 1] == NEWLINE:
                return place + 2
            return place + 1
        place += 1
    return -1


@numba.njit(cache=True, nogil=True)
def _record(data, start, end, delimiter, quote, fields, last):  # type: ignore[no-untyped-def]
    """One record from `start`: (its end, or -1 where `data` ends first; whether it is broken; line ends inside)."""
    found, inside, place = 1, 0, start
    field_starts, quoted = True, False
    while place < end:
        if place - start > RECORD_LIMIT:
            return place, True, inside
        byte = data[place]
        if quoted:
            if byte == NEWLINE:
                inside += 1
            if byte == quote:
                if place + 1 >= end and not last:
                    return -1, False, inside
                if place + 1 < end and data[place + 1] == quote:
                    place += 1
                else:
                    quoted = False
                    behind = data[place + 1] if place + 1 < end else NEWLINE
                    if behind != delimiter and behind != NEWLINE and behind != RETURN:
                        return place, True, inside
        elif byte == delimiter:
            found += 1
            field_starts = True
            place += 1
            continue
        elif byte in (NEWLINE, RETURN):
            if byte == RETURN:
                if place + 1 >= end and not last:
                    return -1, False, inside
                if place + 1 < end and data[place + 1] == NEWLINE:
                    place += 1
            return place + 1, found != fields, inside
        elif field_starts and byte == quote:
            quoted = True
        field_starts = False
        place += 1
    if not last:
        return -1, False, inside
    return end, quoted or found != fields, inside


@numba.njit(cache=True, nogil=True)
def _scan(data, place, end, line, delimiter, quote, fields, last, starts, ends, lines, broken):  # type: ignore[no-untyped-def]
    """Fill the arrays with records: (how many, place and line reached, a value has a line end, stopped in a line)."""
    n, spanning = 0, False
    while place < end and n < len(starts):
        if data[place] == NEWLINE or data[place] == RETURN:  # a blank line
            if data[place] == RETURN and place + 1 >= end and not last:
                break
            place = _line_end(data, place, end)
            line += 1
            continue
        behind, bad, inside = _record(data, place, end, delimiter, quote, fields, last)
        if behind < 0:
            break
        cut = False
        if bad:
            behind, inside = _line_end(data, place, end), 0
            if behind < 0:
                if not last and end - place <= RECORD_LIMIT:
                    break
                cut = not last
                behind = end
        starts[n], ends[n], lines[n], broken[n] = place, behind, line, bad
        spanning = spanning or inside > 0
        n += 1
        place = behind
        if cut:
            return n, place, line, spanning, True
        line += 1 + inside
    return n, place, line, spanning, False


def read_records(path: Path, dialect: Dialect, *, skip: int = 0, first_line: int = 1) -> Iterator[Records]:
    """The records of a file, compressed or not, in order; blank lines are none.

    Args:
        skip: bytes to leave out at the beginning (a header); first_line: number of the line that follows them.

    Raises:
        InputError: if the file is damaged.
    """
    rest, line, in_line = b"", first_line, False
    for block, last in _blocks(path, skip):
        if in_line:
            cut = _behind_line(block)
            if cut < 0:
                continue
            block, line, in_line = block[cut:], line + 1, False
        data = rest + block
        array = np.frombuffer(data, np.uint8)
        place = 0
        while True:
            n = min(RECORDS_PER_CALL, len(data) // 2 + 1)
            starts, ends, lines = (np.empty(n, np.int64) for _ in range(3))
            broken = np.empty(n, np.bool_)
            n, place, line, spanning, in_line = _scan(
                array, place, len(data), line, dialect.delimiter, dialect.quote, dialect.fields, last,
                starts, ends, lines, broken,
            )  # fmt: skip
            if n:
                yield Records(data, starts[:n], ends[:n], lines[:n], broken[:n], spanning)
            if n == 0 or in_line:
                break
        rest = data[place:]


def first_record(data: bytes, delimiter: str) -> bytes | None:
    """The first record of a CSV file with its line end; None if it has none below `RECORD_LIMIT`."""
    array = np.frombuffer(data, np.uint8)
    behind, broken, _ = _record(array, 0, len(data), ord(delimiter), ord('"'), 0, len(data) < BLOCK_BYTES)
    found = behind > 0 and (behind < RECORD_LIMIT or not broken)
    return data[:behind] if found else None


def read_start(path: Path) -> bytes:
    """The first block of a file, without a byte order mark; may be empty.

    Raises:
        InputError: if the file is damaged or no UTF-8 text.
    """
    for block, _ in _blocks(path, 0):
        if block.startswith(UTF16_MARKS):
            raise InputError(f"{path}: UTF-16 text; save it as UTF-8")
        return block
    return b""


def occurring(path: Path, names: Collection[str]) -> list[str]:
    """Those names that stand in quotes somewhere in a file of JSON lines."""
    sought = {f'"{name}"'.encode(): name for name in names}
    found: set[bytes] = set()
    tail = b""
    for block, _ in _blocks(path, 0):
        text = tail + block
        found |= {quoted for quoted in sought.keys() - found if quoted in text}
        tail = block[-max(map(len, sought), default=0) :]
    return [name for quoted, name in sought.items() if quoted in found]


def compression_of(path: Path) -> str | None:
    """ "gzip", "zstd" or None, by the name."""
    return COMPRESSIONS.get(path.suffix.lower())


def _blocks(path: Path, skip: int) -> Iterator[tuple[bytes, bool]]:
    """Blocks of the decompressed file and whether each is the last one; a byte order mark is left out."""
    try:
        with pa.input_stream(str(path), compression=compression_of(path)) as stream:
            block = stream.read(BLOCK_BYTES)
            block = block.removeprefix(UTF8_MARK)[skip:]
            while True:
                following = stream.read(BLOCK_BYTES)
                yield block, not following
                if not following:
                    return
                block = following
    except (OSError, pa.ArrowException) as error:
        first = (str(error).splitlines() or ["unreadable"])[0]
        raise InputError(f"{path}: cannot be read to its end ({first}); write or copy it again") from None


def _behind_line(block: bytes) -> int:
    return int(_line_end(np.frombuffer(block, np.uint8), 0, len(block)))
