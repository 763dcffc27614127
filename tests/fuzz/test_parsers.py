"""Files and texts that are not what they should be: taken in whole, or refused in one line with nothing half-done."""

from __future__ import annotations

import copy
import gzip
import io
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from endcap import models
from endcap.artefact import MANIFEST
from endcap.errors import InputError
from endcap.jobs.refresh import RefreshSettings
from endcap.release import Release
from endcap.serve.state import LiveState
from endcap.serve.surfaces import read_surfaces
from endcap.settings import byte_count, make_settings, read_settings
from endcap.shop import Shop, duration
from endcap.shop.columns import parse_pairs
from endcap.shop.ingest import ingest
from endcap.shop.options import make_options

from .trying import DEPTHS, refusal, try_out

START = 1_600_000_000
HEADER = b"user,item,interaction,time\n"
GOOD = HEADER + b"".join(b"u%d,i%d,click,%d\n" % (n % 3, n % 5, START + n) for n in range(12))
GOOD_JSON = b"".join(
    json.dumps({"user": f"u{n}", "item": "i", "interaction": "cart", "time": START + n}).encode() + b"\n"
    for n in range(6)
)

# -- files -------------------------------------------------------------------------------------------------------------

PIECES = [
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x80",
    b"\xed\xa0\x80",
    b",",
    b";",
    b"\t",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[" * 3000,
    b'{"a":' * 2000,
    b"null",
    b"NaN",
    b"1e999",
    b"-0",
    b"9" * 400,
    b"x" * 70_000,
    b"user,item,interaction,time\n",
    b"u,i,click,1600000000\n",
    b'{"user":"u","item":1}',
    b"\x1f\x8b\x08",
    b"PAR1",
    b"\x28\xb5\x2f\xfd",
    b"\x1a",
    "\u2028\u202e\u0000🛒".encode(),
    b" ",
    b"-",
    b"#",
    b"'",
    b"=cmd()",
]
BLOBS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=12), max_size=20).map(b"".join)


@st.composite
def spoilt(draw: st.DrawFn, good: bytes) -> bytes:
    """A good file with stretches of it replaced, cut off or repeated."""
    data = good
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(data)))
        end = draw(st.integers(begin, min(len(data), begin + 40)))
        data = data[:begin] + draw(BLOBS) + data[end:]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def odd_tables() -> st.SearchStrategy[bytes]:
    """Parquet files whose columns have types that nobody expects."""
    values = st.sampled_from(
        [
            pa.array([1, None, 2**62]),
            pa.array([1.5, float("nan"), float("inf")]),
            pa.array(["a", "", None]),
            pa.array([True, False, None]),
            pa.array([b"a", b"\xff", None]),
            pa.array([[1], [], None]),
            pa.array([{"a": 1}, None, {"a": 2}]),
            pa.nulls(3),
            pa.array([2**63, 1, 2], pa.uint64()),
            pa.array([START, START + 1, START + 2]),
            pa.array(["click", "cart", "buy"]),
            pa.array([0, 2**40, None], pa.timestamp("s")),
            pa.array([1, 2, 3], pa.time32("s")),
            pa.array([1, -2, 3], pa.duration("s")),
            pa.array(["a", "b", "a"]).dictionary_encode(),
            pa.array(["x" * 100_000, "b", "c"]),
            pa.array([1, 2, 3], pa.date32()),
            pa.array([-(2**62), 0, 2**62], pa.timestamp("us", "America/New_York")),
        ]
    )
    names = st.sampled_from(
        ["user", "item", "interaction", "time", "session", "price", "event_id", "order", "", "U", "é"]
    )
    return st.dictionaries(names, values, max_size=7).map(lambda columns: parquet(**columns))


GOOD_PARQUET = parquet(user=["u", "v"], item=["i", "j"], interaction=["click"] * 2, time=[START, START + 1])
FILES = st.one_of(
    st.tuples(st.just(".csv"), BLOBS | spoilt(GOOD)),
    st.tuples(st.just(".jsonl"), BLOBS | spoilt(GOOD_JSON)),
    st.tuples(st.just(".csv.gz"), spoilt(gzip.compress(GOOD, mtime=0)) | spoilt(GOOD).map(gzip.compress) | BLOBS),
    st.tuples(st.just(".jsonl.zst"), BLOBS),
    st.tuples(st.just(".parquet"), spoilt(GOOD_PARQUET) | odd_tables() | BLOBS),
    st.tuples(
        st.sampled_from([".csv", ".jsonl", ".parquet", ".csv.gz", ".txt", ""]), st.sampled_from([GOOD, GOOD_PARQUET])
    ),
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "columns": st.sampled_from(
            ["a=user", "user=item,item=user", "user=-", "time=session", {"user": "user"}, "=,=", "x"]
        ),
        "interactions": st.sampled_from(["click=cart", "click=-", "*=click", "cart=search", "click=click,click=cart"]),
        "delimiter": st.sampled_from([",", ";", "\t", '"', "xx", "\0", "é"]),
        "max_rejected": st.sampled_from([0, 0.5, 1, -1, float("nan"), 7]),
        "keep_anonymous": st.booleans(),
        "drop_duplicates": st.booleans(),
        "session_gap": st.sampled_from(["30m", "1s", "0s", "9999999999w", "soon"]),
        "earliest": st.sampled_from(["1990-01-01", "0001-01-01", "9999-12-31", "x"]),
    },
)


def assert_taken_in_whole_or_refused(folder: Path, events: Path, options: dict[str, Any], before: int) -> None:
    shop = folder / "shop"
    report = None

    def run() -> None:
        nonlocal report
        report = ingest(events, shop=shop, **options)

    if refusal(run) is None:
        assert report is not None
        assert report.rows_read == report.rows_kept + report.rows_rejected
        assert sum(report.reasons.values()) == report.rows_rejected
        assert len(Shop.open(shop).events) == before + report.rows_kept
    elif before:
        assert len(Shop.open(shop).events) == before
    else:
        assert refusal(lambda: Shop.open(shop)) is not None or not len(Shop.open(shop).events)
    if shop.exists():
        assert not [path for path in shop.iterdir() if path.name.endswith(".building")]


@DEPTHS
@pytest.mark.parametrize("before", [0, 12])
def test_a_file_of_anything(depth: int, before: int, tmp_path: Path) -> None:
    if before:
        (tmp_path / "good.csv").write_bytes(GOOD)
        ingest(tmp_path / "good.csv", shop=tmp_path / "sound")

    def check(file: tuple[str, bytes], options: dict[str, Any]) -> None:
        folder = tmp_path / "try"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if before:
            shutil.copytree(tmp_path / "sound", folder / "shop")
        (folder / f"log{file[0]}").write_bytes(file[1])
        assert_taken_in_whole_or_refused(folder, folder / f"log{file[0]}", options, before)

    try_out(check, FILES, OPTIONS, examples=20 * depth)


@pytest.mark.parametrize("name", ["missing.csv", "", ".", "log.csv/deeper", "\0", "x" * 300, "*.parquet", "[", "~"])
def test_a_path_of_anything(name: str, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(GOOD)
    refusal(lambda: ingest(f"{tmp_path}/{name}", shop=tmp_path / "shop"))
    assert refusal(lambda: Shop.open(f"{tmp_path}/{name}")) is not None
    assert refusal(lambda: models.open(f"{tmp_path}/{name}")) is not None
    assert refusal(lambda: Release.open(f"{tmp_path}/{name}")) is not None


# -- settings, surfaces, mappings: TOML --------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        "sources",
        "rules",
        "k",
        "model",
        "budget",
        "fallback",
        "max_per_brand",
        "category",
        "surface",
        "options",
        "columns",
        "interactions",
        "items",
        "user",
        "time",
        "models",
        "gate",
        "hold_out",
        "every",
        "settings",
        "keep",
        "in_stock",
        "*",
    ]
)
SCALARS = st.one_of(
    st.sampled_from(
        [True, False, 0, -1, 1, 10**30, 1.5, float("nan"), float("inf"), "", "7d", "-", "click", "als", "x" * 999]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3), max_leaves=8
)


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, float):
        return str(value)
    return json.dumps(value, ensure_ascii=True).replace("\\ud8", "\\u00")


TABLES = st.dictionaries(WORDS | st.just("surface"), VALUES, max_size=4).map(
    lambda tables: "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in tables.items())
)
NAMED = st.tuples(
    st.sampled_from(["surface.home", "surface.x", "columns", "options", "models.als", "gate"]), TABLES
).map(lambda part: f"[{part[0]}]\n{part[1]}")
TEXTS = st.lists(NAMED | TABLES, max_size=2).map(lambda parts: "\n".join(parts).encode()) | BLOBS


@DEPTHS
def test_a_toml_file_of_anything(depth: int, tmp_path: Path) -> None:
    file = tmp_path / "any.toml"

    def check(text: bytes) -> None:
        file.write_bytes(text)
        refusal(lambda: read_surfaces(file))
        refusal(lambda: make_options(mapping=file))
        refusal(lambda: make_settings(RefreshSettings, read_settings(file, [])))
        refusal(lambda: models.create("als", read_settings(file, [])))

    try_out(check, TEXTS, examples=150 * depth)


# -- short texts -------------------------------------------------------------------------------------------------------

PHRASES = st.one_of(
    st.text(max_size=12),
    st.lists(
        st.sampled_from(
            ["1", "9" * 400, "0", "-", ".", "e9", "d", "m", "w", "MB", "GiB", "=", ",", " ", "a", "user", "٣", "\0"]
        ),
        max_size=5,
    ).map("".join),
)


@DEPTHS
def test_a_text_of_anything(depth: int) -> None:
    def check(text: str, other: str) -> None:
        if refusal(lambda: duration(text)) is None:
            assert duration(text) > 0
        if refusal(lambda: byte_count(text)) is None:
            assert byte_count(text) > 0
        if refusal(lambda: parse_pairs(text, "--columns")) is None:
            assert all(theirs and ours for theirs, ours in parse_pairs(text, "--columns"))
        refusal(lambda: read_settings(None, [text, other]))
        refusal(lambda: models.create(text, {other: text}))
        for option in (
            "columns",
            "interactions",
            "item_columns",
            "strength",
            "session_gap",
            "earliest",
            "latest",
            "timezone",
        ):
            refusal(lambda option=option: make_options(**{option: text}))
        refusal(lambda: make_options(max_rejected=text, delimiter=other))

    try_out(check, PHRASES, PHRASES, examples=150 * depth)


# -- manifests and the live state --------------------------------------------------------------------------------------

ODD = st.sampled_from([None, True, 0, -1, 10**40, 1.5, "", "x", [], {}, [[]], {"a": {}}, "../..", "\ud800", [0] * 50])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, one in inner for path in [(*at, key), *places(one, (*at, key))]]


@st.composite
def mutated(draw: st.DrawFn, manifest: dict[str, Any]) -> bytes:
    """A manifest with some values of another type, removed or added."""
    changed = copy.deepcopy(manifest)
    for _ in range(draw(st.integers(1, 3))):
        paths = places(changed)
        *way, last = draw(st.sampled_from(paths)) if paths else ("kind",)
        target = changed
        for key in way:
            target = target[key]
        if draw(st.booleans()) and isinstance(target, dict):
            del target[last]
        else:
            target[last] = copy.deepcopy(draw(ODD))
    text = json.dumps(changed, indent=1, sort_keys=True)
    return (text + "\n").encode() if draw(st.booleans()) else draw(spoilt(text.encode()))


def make_folders(folder: Path) -> dict[Path, Any]:
    """A shop, a model and a release, each with what opens it."""
    from endcap.jobs.publish import publish

    (folder / "good.csv").write_bytes(GOOD)
    ingest(folder / "good.csv", shop=folder / "shop")
    models.create("popularity").fit(Shop.open(folder / "shop")).save(folder / "model")
    name = publish([folder / "model"], folder / "shop", folder / "releases", force=True).release
    return {folder / "shop": Shop.open, folder / "model": models.open, folder / "releases" / str(name): Release.open}


@DEPTHS
def test_a_manifest_of_anything_is_refused(depth: int, tmp_path: Path) -> None:
    for folder, opens in make_folders(tmp_path).items():
        path = folder / MANIFEST
        original = path.read_bytes()

        def check(content: bytes, path: Path, original: bytes, opens: Any) -> None:
            path.write_bytes(content)
            refused = refusal(lambda: opens(path.parent))
            assert (refused is None) == (content == original)

        fixed = (st.just(one) for one in (path, original, opens))
        try_out(check, BLOBS | mutated(json.loads(original)), *fixed, examples=40 * depth)
        path.write_bytes(original)
        opens(folder)


@DEPTHS
def test_a_live_state_of_anything(depth: int, tmp_path: Path) -> None:
    with LiveState(tmp_path / "state.db"):
        pass
    sqlite3.connect(tmp_path / "state.db").execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
    sound = (tmp_path / "state.db").read_bytes()

    def check(content: bytes) -> None:
        for left in tmp_path.glob("state.db*"):
            left.unlink(missing_ok=True)
        (tmp_path / "state.db").write_bytes(content)

        def use() -> None:
            with LiveState(tmp_path / "state.db") as state:
                state.pending_events(10)
                state.live_items()

        refusal(use)

    try_out(check, BLOBS | spoilt(sound), examples=40 * depth)


def test_numbers_in_texts_mean_what_they_say() -> None:
    assert byte_count("512MB") == 512_000_000
    assert byte_count("1.5GiB") == 3 * 2**29
    assert byte_count(4096) == byte_count("4096") == byte_count("4096B") == 4096
    with pytest.raises(InputError):
        byte_count("0")
    assert duration("90s") == 90_000_000 == np.int64(90_000_000)
