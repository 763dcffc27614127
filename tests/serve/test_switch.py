"""A server takes up new releases, refuses bad ones, and drops nothing while it does."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from endcap import models, release
from endcap.serve.answerer import answer
from endcap.serve.app import Server, create_app
from endcap.serve.questions import Question
from endcap.serve.rules import Rules
from endcap.serve.service import ServerSettings
from endcap.serve.state import LiveState
from endcap.serve.surfaces import DEFAULT_SURFACES, Source, Surface
from endcap.serve.switch import Switch
from endcap.serve.telemetry import Telemetry
from endcap.shop import Shop

from .small import publish


@pytest.fixture
def switch(releases: Path, state: LiveState) -> Switch:
    return Switch(releases, DEFAULT_SURFACES, state, Telemetry())


def spoil(folder: Path) -> None:
    path = folder / "catalogue.parquet"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_new_release_is_taken_up_once(switch: Switch, releases: Path, small_shop: Shop) -> None:
    old = switch.current
    assert not switch.check()
    name = publish(releases, small_shop, "co-occurrence", "popularity")
    assert switch.check()
    assert switch.current.release.name == name
    assert list(switch.current.models) == ["co-occurrence", "popularity"]
    assert switch.previous is old
    assert not switch.check()


def test_a_release_before_the_last_is_let_go_at_once(switch: Switch, releases: Path, small_shop: Shop) -> None:
    """Without waiting for the garbage collector: nothing in it points back to what holds it."""
    first = switch.current
    answer(Question(item="i1", filters=Rules(category=("shop/c1",)), k=20), first)
    held = [weakref.ref(part) for part in (first, first.release, first.catalogue, first.models["co-occurrence"].model)]
    del first
    gc.disable()
    try:
        for _ in range(2):
            publish(releases, small_shop)
            switch.check()
        assert [part() for part in held] == [None] * len(held)
    finally:
        gc.enable()


def test_a_rollback_is_immediate(switch: Switch, releases: Path, small_shop: Shop) -> None:
    old = switch.current
    publish(releases, small_shop)
    switch.check()
    release.rollback(releases)
    assert switch.check()
    assert switch.current is old, "it was still open"


def test_a_damaged_release_is_refused_and_the_old_one_answers(
    switch: Switch, releases: Path, small_shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    old = switch.current
    name = publish(releases, small_shop)
    spoil(releases / name)
    for _ in range(3):
        assert not switch.check()
    assert switch.current is old
    assert switch.refusal is not None
    assert switch.refusal.name == name
    assert "catalogue.parquet" in switch.refusal.why
    assert len([record for record in caplog.records if "refused" in record.message]) == 1, "said once"
    assert switch.telemetry.registry.get_sample_value("endcap_release_refusals_total") == 1
    better = publish(releases, small_shop)
    assert switch.check()
    assert switch.current.release.name == better
    assert switch.refusal is None


def test_a_release_of_another_version_is_refused(
    switch: Switch, releases: Path, small_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole and sealed, but what it holds is not what this endcap reads."""
    old, name = switch.current, publish(releases, small_shop)
    monkeypatch.setattr(release.Release, "model_folders", property(lambda opened: opened.manifest["no such key"]))
    assert not switch.check()
    assert switch.current is old
    assert switch.refusal is not None
    assert f"{name}: this endcap cannot serve it" in switch.refusal.why


def test_a_release_without_a_surfaces_model_is_refused(releases: Path, small_shop: Shop, state: LiveState) -> None:
    with_popularity = publish(releases, small_shop, "co-occurrence", "popularity")
    surfaces = {"home": Surface((Source("popularity"),))}
    switch = Switch(releases, surfaces, state, Telemetry())
    publish(releases, small_shop, "co-occurrence")
    assert not switch.check()
    assert switch.current.release.name == with_popularity
    assert switch.refusal is not None
    assert "no model 'popularity'" in switch.refusal.why


def test_a_release_that_needs_torch_is_refused_where_there_is_none(
    switch: Switch, releases: Path, small_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(releases, small_shop, "popularity")
    monkeypatch.setitem(models.SYSTEMS, "popularity", models.SYSTEMS["coaction-graph"])
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "endcap.models.coaction_graph", raising=False)
    assert not switch.check()
    assert switch.refusal is not None
    assert switch.refusal.why == "popularity needs torch: pip install 'endcap[deep]'"


def test_a_missing_current_file_stops_nothing(switch: Switch, releases: Path) -> None:
    (releases / "CURRENT").rename(releases / "aside")
    assert not switch.check()
    assert switch.refusal is not None
    (releases / "aside").rename(releases / "CURRENT")
    assert not switch.check()
    assert switch.refusal is None


def test_live_changes_outlive_a_switch(switch: Switch, releases: Path, small_shop: Shop, state: LiveState) -> None:
    from endcap.serve.events import ItemUpdate

    state.update_items([ItemUpdate(item="i1", in_stock=False)]).result()
    publish(releases, small_shop)
    switch.check()
    assert not switch.current.catalogue.in_stock[1], "known before the first request"


@pytest.fixture
def switching_client(releases: Path, tmp_path: Path) -> Iterator[TestClient[Server]]:
    settings = ServerSettings(releases=str(releases), state=str(tmp_path / "state.db"), poll_s=0.05)
    with TestClient(create_app(settings)) as client:
        yield client


def test_reload_on_request(releases: Path, tmp_path: Path, small_shop: Shop) -> None:
    settings = ServerSettings(releases=str(releases), state=str(tmp_path / "state.db"), poll_s=3600)
    with TestClient(create_app(settings)) as client:
        name = publish(releases, small_shop)
        assert client.post("/v1/admin/reload").json() == {"release": name, "changed": True, "refused": None}
        spoiled = publish(releases, small_shop)
        spoil(releases / spoiled)
        answered = client.post("/v1/admin/reload").json()
        assert answered["release"] == name
        assert "catalogue.parquet" in answered["refused"]
        assert client.get("/readyz").json()["refused"]["release"] == spoiled
        assert "endcap_release_refused 1.0" in client.get("/metrics").text


def test_nothing_is_dropped_or_lost_while_releases_switch(
    switching_client: TestClient[Server], releases: Path, small_shop: Shop
) -> None:
    """Threads read, write events and change items over HTTP while releases come and go."""
    client, done, seen = switching_client, threading.Event(), set[str]()

    def read(thread: int) -> int:
        n = 0
        while not done.is_set():
            response = client.post("/v1/recommend", json={"user": f"u{thread}", "k": 20})
            assert response.status_code == 200, response.text
            assert len(response.json()["items"]) == 20
            seen.add(response.json()["release"])
            n += 1
        return n

    def write(thread: int) -> int:
        n = 0
        while not done.is_set():
            event = {"user": f"w{thread}", "item": f"i{n % 60}", "interaction": "click", "event_id": f"{thread}-{n}"}
            response = client.post("/v1/events", json=[event])
            assert response.json()["recorded"] == 1, response.text
            change: dict[str, Any] = {"item": f"new-{thread}-{n % 5}", "category": "shop/c0", "price": n}
            assert client.put("/v1/items", json=change).status_code == 200
            n += 1
        return n

    with ThreadPoolExecutor(4) as pool:
        readers, writers = [pool.submit(read, n) for n in range(2)], [pool.submit(write, n) for n in range(2)]
        names = [publish(releases, small_shop) for _ in range(2)]
        release.rollback(releases)
        deadline = threading.Event()
        while names[0] not in seen and not any(job.done() for job in [*readers, *writers]):
            deadline.wait(0.02)
        done.set()
        assert all(job.result() > 0 for job in readers)
        written = [job.result() for job in writers]
    assert client.app.state.service.state.count_events() == sum(written)
    for thread, n in enumerate(written):
        kept = client.app.state.service.state.recent(f"w{thread}", n)
        assert len(kept) == n


def test_settings_survive_the_way_through_the_environment(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from endcap.serve.app import SETTINGS_VARIABLE, from_environment

    settings = ServerSettings(releases=str(releases), state=str(tmp_path / "state.db"), stale_after="2w")
    monkeypatch.setenv(SETTINGS_VARIABLE, msgspec.json.encode(settings).decode())
    before = gc.get_freeze_count()
    with TestClient(from_environment()) as client:
        assert gc.get_freeze_count() > before  # garbage collections pass over what was opened
        assert client.app.state.service.settings == settings
        assert client.get("/readyz").json()["release"] == release.live(releases)
