"""Where records end, whatever stands in a file, and that nothing is lost."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import InputError
from endcap.shop import records
from endcap.shop.records import LINES, Dialect, read_records

COMMAS = Dialect(ord(","), ord('"'), 3)


def all_records(path: Path, dialect: Dialect = COMMAS) -> list[tuple[int, bool, str]]:
    """(line, broken, text) of every record."""
    return [
        (int(part.lines[n]), bool(part.broken[n]), part.data[part.starts[n] : part.ends[n]].decode("utf-8", "replace"))
        for part in read_records(path, dialect)
        for n in range(len(part.lines))
    ]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "some.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


values = st.text(st.sampled_from('ab,"\n\r é;'), max_size=6)


@given(rows=st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=8), block=st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_what_the_csv_module_writes_is_read_back_whole_at_any_block_size(rows, block, tmp_path_factory):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    path = written(tmp_path_factory.mktemp("csv"), buffer.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", block)
        found = all_records(path)
    assert [broken for _, broken, _ in found] == [False] * len(rows)
    assert "".join(text for *_, text in found) == buffer.getvalue()
    heights = [1 + sum(value.count("\n") for value in row) for row in rows]
    assert [line for line, *_ in found] == [1 + sum(heights[:n]) for n in range(len(rows))]


@given(text=st.text(st.sampled_from('ab,"\n\r'), max_size=60), block=st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_no_byte_but_line_ends_is_lost_and_blocks_do_not_matter(text, block, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("garbage"), text)
    whole = all_records(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "BLOCK_BYTES", block)
        assert all_records(path) == whole
    assert "".join(record for *_, record in whole).replace("\n", "").replace("\r", "") == text.replace(
        "\n", ""
    ).replace("\r", "")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems(tmp_path, end):
    found = all_records(written(tmp_path, end.join(["a,b,c", "", "d,e,f"])))
    assert [(line, broken, text.strip()) for line, broken, text in found] == [(1, False, "a,b,c"), (3, False, "d,e,f")]


def test_a_stray_quote_costs_its_line_only(tmp_path):
    found = all_records(written(tmp_path, 'a,b,c\nd,"e,f\ng,h,i\nj,"k"l,m\nn,"o\np",q\n'))
    assert [(line, text) for line, broken, text in found if broken] == [(2, 'd,"e,f\n'), (4, 'j,"k"l,m\n')]
    assert [(line, text) for line, broken, text in found if not broken] == [
        (1, "a,b,c\n"),
        (3, "g,h,i\n"),
        (5, 'n,"o\np",q\n'),
    ]


def test_a_line_beyond_the_limit_is_one_broken_record(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "BLOCK_BYTES", 1 << 18)
    long = "x" * (3 * records.RECORD_LIMIT)
    found = all_records(written(tmp_path, f"a,b,c\nd,e,{long}\r\ng,h,i\n"))
    assert [(line, broken) for line, broken, _ in found] == [(1, False), (2, True), (3, False)]


def test_lines_know_no_quotes(tmp_path):
    found = all_records(written(tmp_path, '{"a": "\\""}\n\n"\n'), LINES)
    assert [(line, broken) for line, broken, _ in found] == [(1, False), (3, False)]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files(tmp_path, suffix):
    import pyarrow as pa

    path = tmp_path / f"some.csv{suffix}"
    kind = {".gz": "gzip", ".zst": "zstd"}[suffix]
    with pa.output_stream(str(path), compression=kind) as stream:
        stream.write(b"a,b,c\n" * 1000)
    assert len(all_records(path)) == 1000


def test_gzip_of_several_members_is_read_to_its_end(tmp_path):
    path = tmp_path / "some.csv.gz"
    path.write_bytes(gzip.compress(b"a,b,c\n") + gzip.compress(b"d,e,f\n"))
    assert [text for *_, text in all_records(path)] == ["a,b,c\n", "d,e,f\n"]


def test_a_truncated_compressed_file_is_an_error(tmp_path):
    path = tmp_path / "some.csv.gz"
    path.write_bytes(gzip.compress(bytes(range(256)) * 400)[:-300])
    with pytest.raises(InputError, match=r"some\.csv\.gz: cannot be read to its end"):
        all_records(path)
