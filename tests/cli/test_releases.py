"""The verbs about releases, as a person or a script uses them: output, exit codes, JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from endcap import cli, models
from endcap.shop import Shop

NAME = r"\d{8}T\d{6}-[0-9a-f]{6}"


class Said(NamedTuple):
    """What a verb did; `last` is the last line on stdout."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.strip().splitlines()[-1]


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `endcap` in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr("sys.argv", ["endcap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        return Said(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def good(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "good"
    models.create("co-occurrence").fit(shop.until(shop.cut("7d"))).save(folder)
    return folder


@pytest.fixture(scope="module")
def poor(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "poor"
    models.create("popularity").fit(shop.until(shop.cut("7d"))).save(folder)
    return folder


def test_publish_list_rollback_and_verify(run: Run, tmp_path: Path, shop_folder: Path, good: Path):
    to = tmp_path / "releases"
    first = run("publish", good, "--shop", shop_folder, "--to", to)
    assert first.code == 0
    assert re.fullmatch(NAME, first.last)
    second = run("publish", f"co-occurrence={good}", "--shop", shop_folder, "--to", to, "--json", tmp_path / "p.json")
    report = json.loads((tmp_path / "p.json").read_text())
    assert (report["release"], report["previous"]) == (second.last, first.last)
    assert report["gate"]["models"][0]["difference"] == 0

    listed = run("releases", "list", to, "--json", tmp_path / "l.json")
    assert listed.out.index(second.last) < listed.out.index(first.last)
    rows = json.loads((tmp_path / "l.json").read_text())
    assert [(row["name"], row["live"]) for row in rows] == [(second.last, True), (first.last, False)]

    assert run("releases", "rollback", to).last == first.last
    assert run("releases", "activate", to, second.last).last == second.last
    assert run("releases", "verify", to).out == f"{second.last}: as it was written\n"
    (to / second.last / "users.parquet").write_bytes(b"edited")
    broken = run("releases", "verify", to)
    assert broken.code == 2
    assert "users.parquet: changed" in broken.err
    assert len(broken.err.splitlines()) == 1


def test_the_gate_refuses_with_figures_and_force_overrules(
    run: Run, tmp_path: Path, shop_folder: Path, good: Path, poor: Path
):
    to = tmp_path / "releases"
    first = run("publish", f"main={good}", "--shop", shop_folder, "--to", to)
    arguments = ("publish", f"main={poor}", "--shop", shop_folder, "--to", to, "--json", tmp_path / "p.json")
    refused = run(*arguments)
    assert refused.code == 1
    assert "purchase_intent@200" in refused.out
    assert "error: the gate refused: main:" in refused.err
    assert json.loads((tmp_path / "p.json").read_text())["release"] is None
    assert run("releases", "verify", to).last.startswith(first.last)
    assert run(*arguments, "--force").code == 0


def test_refresh_says_what_it_did(run: Run, tmp_path: Path, shop_folder: Path, good: Path):
    to = tmp_path / "releases"
    run("publish", good, "--shop", shop_folder, "--to", to)
    done = run("refresh", shop_folder, "--to", to, "--json", tmp_path / "r.json")
    assert done.code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["models"]["co-occurrence"]["action"] == "trained"
    assert done.last == report["published"]["release"]
    assert run("refresh", shop_folder, "--to", to).last == "nothing new"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publish", "{good}", "--shop", "{tmp}", "--to", "{tmp}/r"), "not a shop folder"),
        (("publish", "{tmp}", "--shop", "{shop}", "--to", "{tmp}/r"), "not a model folder"),
        (("publish", "a={good}", "{good}", "--shop", "{shop}", "--to", "{tmp}/r"), "a name of its own"),
        (("publish", "{good}", "--shop", "{shop}", "--to", "{tmp}/r", "--index", "tree"), "auto, exact and hnsw"),
        (("publish", "{good}", "--shop", "{shop}", "--to", "{tmp}/r", "--validate", "soon"), "not a duration"),
        (("releases", "list", "{tmp}/r"), "no such folder"),
        (("releases", "verify", "{tmp}"), "no release is live"),
        (("releases", "rollback", "{tmp}"), "no earlier release"),
        (("releases", "activate", "{tmp}", "never"), "no release 'never'"),
        (("refresh", "{shop}", "--to", "{tmp}/r"), "publish one, or name systems"),
        (("refresh", "{shop}", "--to", "{tmp}/r", "--set", "every=1d"), "no setting 'every'"),
        (("refresh", "{shop}", "--to", "{tmp}/r", "--config", "{tmp}/none.toml"), "none.toml"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(run, tmp_path, shop_folder, good, arguments, message):
    said = run(*(text.format(tmp=tmp_path, shop=shop_folder, good=good) for text in arguments))
    assert said.code == 2
    assert message in said.err
    assert said.err.startswith("error: ")
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "r").is_dir() or not [path for path in (tmp_path / "r").iterdir() if path.name[0] != "."]
