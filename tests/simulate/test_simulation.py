"""What `simulate` writes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from endcap.errors import InputError
from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.simulate import VERSION, ShopSettings, log, simulation
from endcap.simulate.simulation import FORMATS, Format, simulate, tables

SMALL = {"events": 3_000, "seed": 7, "best": 60}
DIRTY = {
    "bad_rows": 0.02,
    "duplicates": 0.02,
    "searches": 0.2,
    "domains": 2,
    "impressions": 2,
    "bots": 1,
    "bot_events": 100,
}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMATS)
def test_same_arguments_same_bytes(tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "BLOCK_ROWS", 2_000)
    for name in ("one", "two"):
        simulate(tmp_path / name, format=form, **SMALL, **DIRTY)
    one, two = content(tmp_path / "one"), content(tmp_path / "two")
    assert one == two
    assert {f"events.{form}", f"items.{form}", "summary.json", "manifest.json", "truth/best.json"} <= set(one)


@pytest.mark.parametrize("form", FORMATS)
def test_ingest_finds_exactly_what_the_summary_says(
    tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "BLOCK_ROWS", 2_000)
    said = simulate(tmp_path / "log", format=form, **SMALL, **DIRTY)
    report = ingest(
        [str(tmp_path / "log" / f"events.{form}")],
        items=[str(tmp_path / "log" / f"items.{form}")],
        shop=tmp_path / "shop",
    )
    assert report.rows_read == said.rows
    repeated = report.reasons.pop("duplicate event_id")
    assert repeated == said.duplicates > 0
    assert report.reasons == said.spoilt
    assert report.interactions == said.interactions
    assert report.items == said.items
    assert report.first_time[:19] == said.first_time[:19]
    assert report.last_time[:19] == said.last_time[:19]
    assert not report.unused_columns


def test_formats_hold_the_same_shop(tmp_path: Path) -> None:
    shops = []
    for form in FORMATS:
        simulate(tmp_path / form, format=form, **SMALL, searches=0.3)
        files = {name: str(tmp_path / form / f"{name}.{form}") for name in ("events", "items")}
        ingest([files["events"]], items=[files["items"]], shop=tmp_path / f"shop-{form}")
        shops.append(Shop.open(tmp_path / f"shop-{form}"))
    one, *others = shops
    for other in others:
        assert other.items.fingerprint() == one.items.fingerprint()
        for name in ("user", "item", "interaction", "time", "session"):
            assert (getattr(other.events, name) == getattr(one.events, name)).all()
        assert other.catalogue.select(["price", "in_stock", "category"]).equals(
            one.catalogue.select(["price", "in_stock", "category"])
        )


def test_tables_are_what_is_written(tmp_path: Path) -> None:
    summary = simulate(tmp_path / "log", **SMALL)
    here = tables(ShopSettings(**SMALL))
    assert pq.read_table(tmp_path / "log" / "events.parquet").equals(here.events)
    assert pq.read_table(tmp_path / "log" / "items.parquet").equals(here.items)
    for name, table in here.truth.items():
        assert pq.read_table(tmp_path / "log" / "truth" / f"{name}.parquet").equals(table)
    assert here.summary == summary
    assert json.loads((tmp_path / "log" / "summary.json").read_text())["version"] == VERSION
    assert json.loads((tmp_path / "log" / "truth" / "best.json").read_text()) == summary.best


def test_only_a_simulation_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    simulate(tmp_path / "empty", events=200, best=0)
    assert simulate(tmp_path / "empty", events=300, best=0).rows == 300
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for place in (mine, mine / "thesis.txt"):
        with pytest.raises(InputError, match="something else"):
            simulate(place, events=200)
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(simulation, "truth_tables", fail)
    with pytest.raises(OSError, match="disk full"):
        simulate(tmp_path / "log", events=200)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"evnts": 3}, "no setting 'evnts'; did you mean 'events'"),
        ({"bad_rows": 2.0}, "bad_rows"),
        ({"start": "soon"}, "start='soon': not a date"),
        ({"domains": 99}, "domains"),
        ({"format": "xlsx"}, "parquet, csv, jsonl"),
    ],
)
def test_wrong_settings_are_explained(tmp_path: Path, wrong: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        simulate(tmp_path / "log", **wrong)
    assert not (tmp_path / "log").exists()


def test_version_1_is_frozen() -> None:
    """Benchmarks name the version: what its defaults lead to must not change (see VERSION)."""
    made = tables(ShopSettings(events=2_000, best=0))
    digest = hashlib.sha256()
    for name in ("user", "item", "interaction"):
        digest.update("\n".join(made.events[name].to_pylist()).encode())
    assert (VERSION, digest.hexdigest()[:16]) == (1, "4a1bd2ea6a819ccc")
