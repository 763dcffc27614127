"""`endcap serve` and `endcap recommend`, as a person runs them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from endcap import models
from endcap.release import Part, activate, live, write_release
from endcap.shop import Shop

ENDCAP = [sys.executable, "-c", "from endcap.cli import main; main()"]


@pytest.fixture(scope="module")
def releases(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    models.create("co-occurrence").fit(shop).save(folder / "model")
    activate(folder / "releases", write_release(folder / "releases", shop, {"model": Part(folder / "model")}).name)
    return folder / "releases"


def endcap(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ENDCAP, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def server(*arguments: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on a free port: its address and process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*ENDCAP, "serve", *map(str, arguments), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert "http://" in first, first
        yield first.split()[-1], process
    finally:
        process.kill()
        process.wait()


def ask(address: str, path: str, body: Any = None, method: str | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address + path, data, method=method), timeout=30) as response:
        return json.load(response)


def test_an_acknowledged_event_outlives_the_server(releases: Path, shop: Shop, tmp_path: Path) -> None:
    item = shop.items[int(shop.positives.item[0])]
    state = tmp_path / "state.db"
    with server(releases, "--state", state) as (address, process):
        assert ask(address, "/v1/recommend", {"user": "newcomer"})["notes"] == ["user 'newcomer' is unknown"]
        assert ask(address, "/v1/events", {"user": "newcomer", "item": item, "interaction": "click"})["recorded"] == 1
        assert ask(address, "/v1/items", {"item": item, "title": "Renamed"}, "PUT") == {"updated": 1}
        before = ask(address, "/v1/recommend", {"user": "newcomer"})
        assert "because you clicked Renamed" in before["items"][0]["reasons"][0]
        os.kill(process.pid, signal.SIGKILL)
    with server(releases, "--state", state) as (address, process):
        after = ask(address, "/v1/recommend", {"user": "newcomer"})
        assert after["items"] == before["items"]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(20) == 0
    answered = endcap("recommend", "--to", releases, "--user", "newcomer", "--state", state, "--json")
    assert json.loads(answered.stdout)["items"] == before["items"]


def test_a_hangup_takes_up_a_new_release(releases: Path, shop: Shop, tmp_path: Path) -> None:
    with server(releases, "--state", tmp_path / "state.db", "--poll", 3600) as (address, process):
        before = ask(address, "/readyz")["release"]
        written = write_release(releases, shop, {"model": Part(releases.parent / "model")})
        activate(releases, written.name)
        os.kill(process.pid, signal.SIGHUP)
        until = time.monotonic() + 30
        while (now := ask(address, "/readyz")["release"]) == before and time.monotonic() < until:
            time.sleep(0.02)
        assert now == written.name
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.slow
def test_workers_share_events_and_figures(releases: Path, shop: Shop, tmp_path: Path) -> None:
    item = shop.items[int(shop.positives.item[0])]
    with server(releases, "--state", tmp_path / "state.db", "--workers", 2) as (address, process):
        for n in range(20):
            ask(address, "/v1/events", {"user": f"n{n}", "item": item, "interaction": "click"})
            assert "notes" not in ask(address, "/v1/recommend", {"user": f"n{n}"})
        with urllib.request.urlopen(f"{address}/metrics", timeout=30) as response:
            assert 'endcap_events_total{outcome="recorded"} 20.0' in response.read().decode()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_key_file_guards_the_server(releases: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with server(releases, "--state", tmp_path / "state.db", "--api-key-file", tmp_path / "key") as (address, _):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(address, "/v1/recommend", {})
        request = urllib.request.Request(f"{address}/v1/recommend", b"{}", {"x-api-key": "secret"})
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 200


def test_recommend_answers_with_the_fields_of_the_server(releases: Path, shop: Shop) -> None:
    a, b = (shop.items[int(item)] for item in shop.positives.item[:2])
    answered = endcap("recommend", "--to", releases, "--action", f"{a}:cart", "--action", b, "-k", 3, "--json")
    given = json.loads(answered.stdout)
    assert given["release"] == live(releases)
    assert len(given["items"]) == 3
    assert {"item", "score", "source", "reasons"} <= given["items"][0].keys()
    folder = releases / live(releases)
    table = endcap("recommend", "--release", folder, "--item", a, "--where", f"items={b}", "--where", "in_stock=false")
    assert b in table.stdout
    assert "1 of 10 items" in table.stdout


def test_the_page_shows_a_list_in_a_browser(releases: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with server(releases, "--state", tmp_path / "state.db") as (address, _):
        page = subprocess.run(
            [browser, "--headless", *quiet, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000",
             "--dump-dom", f"{address}/"],
            capture_output=True, text=True, timeout=120, check=True,
        ).stdout  # fmt: skip
    assert page.count('<li class="card">') == 12
    assert 'class="note bad"' not in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "NOWHERE"], "no release is live"),
        (["serve", "RELEASES", "--surfaces", "no.toml"], "no.toml"),
        (["serve", "RELEASES", "--stale-after", "soon"], "not a duration"),
        (["serve", "RELEASES", "--host", "256.1.1.1"], "--host"),
        (["serve", "RELEASES", "--state", "."], "--state"),
        (["recommend"], "--to"),
        (["recommend", "--to", "NOWHERE"], "no release is live"),
        (["recommend", "--to", "RELEASES", "-k", "0"], ">= 1"),
        (["recommend", "--to", "RELEASES", "--where", "brnd=x"], "did you mean 'brand'"),
        (["recommend", "--to", "RELEASES", "--where", "brand"], "rule=value"),
        (["recommend", "--to", "RELEASES", "--state", "no.db"], "no.db"),
        (["recommend", "--to", "RELEASES", "--surface", "hoem"], "did you mean 'home'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    releases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    from endcap import cli
    from endcap.errors import EndcapError

    monkeypatch.chdir(tmp_path)
    given = [str(releases) if word == "RELEASES" else word for word in arguments]
    cli._add_verbs()
    with pytest.raises(EndcapError) as refused:
        cli.app(given, standalone_mode=False)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.exit_code == 2
    assert not list(tmp_path.iterdir()), "nothing was made"
