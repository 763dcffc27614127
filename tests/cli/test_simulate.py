"""`simulate`, as a person or a script uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from endcap import cli
from endcap.simulate import ShopSettings

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `endcap simulate` in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["endcap", "simulate", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        said = capsys.readouterr()
        return code if isinstance(code, int) else 0, said.out, said.err

    return call


def test_it_writes_a_shop_and_says_what_and_what_next(run: Run, tmp_path: Path) -> None:
    code, out, _ = run(
        tmp_path / "log", "--events", 2_000, "--seed", 3, "--format", "csv", "--set", "bad_rows=0.05",
        "--set", "best=50", "--json", tmp_path / "summary.json",
    )  # fmt: skip
    assert code == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rows_good"] == 2_000 < summary["rows"]
    assert summary["settings"]["seed"] == 3
    assert summary == json.loads((tmp_path / "log" / "summary.json").read_text())
    for text in ("unknown interaction", "purchase_intent@200", "endcap ingest", "events.csv"):
        assert text in out
    n_lines = sum(1 for _ in (tmp_path / "log" / "events.csv").open())
    assert n_lines == summary["rows"] + 1


def test_settings_come_from_a_file_and_from_the_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("events = 700\nitems = 90\nbest = 0\n")
    code, *_ = run(tmp_path / "log", "--config", tmp_path / "shop.toml", "--set", "items=80")
    summary = json.loads((tmp_path / "log" / "summary.json").read_text())
    assert code == 0
    assert (summary["rows"], summary["items"]) == (700, 80)


def test_all_settings_are_listed_with_words(run: Run) -> None:
    code, out, _ = run("--settings")
    assert code == 0
    fields = msgspec.structs.fields(ShopSettings)
    lines = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    for field in fields:
        assert lines[field.name][1] == str(field.default)
        assert len(lines[field.name]) > 2, f"{field.name} is not explained"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name the folder"),
        (["{}", "--set", "looks"], "key=value"),
        (["{}", "--set", "lookz=3"], "did you mean 'looks'"),
        (["{}", "--events", "0"], "events"),
        (["{}", "--format", "xml"], "parquet, csv, jsonl"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(run: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    code, _, err = run(*(argument.format(tmp_path / "log") for argument in arguments))
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not (tmp_path / "log").exists()
