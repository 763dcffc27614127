"""`endcap ingest` and `endcap describe` as a person and as a program would call them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from endcap.cli import app, data  # noqa: F401
from endcap.errors import InputError

HEADER = "visitorid,itemid,event,timestamp,device\n"
MAPPING = ["--columns", "visitorid=user,itemid=item", "--columns", "event=interaction,timestamp=time"]
NAMES = ["--interactions", "view=click,buy=purchase"]


def run(*arguments: object) -> str:
    """What a verb prints; an error of endcap is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.csv"
    path.write_text(
        HEADER + "1,10,view,1600000000,pc\n1,11,buy,1600000060,pc\n2,10,view,1600000000,pc\n,10,view,1,pc\n"
    )
    return path


def test_ingest_prints_and_writes_what_it_did(log, tmp_path):
    printed = run(
        "ingest",
        log,
        "--shop",
        tmp_path / "shop",
        *MAPPING,
        *NAMES,
        "--max-rejected",
        0.5,
        "--json",
        tmp_path / "r.json",
    )
    assert "missing user" in printed
    assert "unused columns" in printed
    report = json.loads((tmp_path / "r.json").read_text())
    contract = {
        "rows_read": 4,
        "rows_kept": 3,
        "rows_rejected": 1,
        "reasons": {"missing user": 1},
        "users": 2,
        "items": 2,
        "interactions": {"click": 2, "purchase": 1},
        "first_time": "2020-09-13T12:26:40Z",
        "last_time": "2020-09-13T12:27:40Z",
        "sessions": 2,
    }
    assert report.items() >= contract.items()
    assert report["unused_columns"] == ["device"]


def test_a_mapping_file_does_what_flags_do(log, tmp_path):
    (tmp_path / "map.toml").write_text(
        '[columns]\nvisitorid = "user"\nitemid = "item"\nevent = "interaction"\ntimestamp = "time"\n'
        '[interactions]\nview = "click"\nbuy = "purchase"\n[options]\nmax_rejected = 0.5\n'
    )
    run("ingest", log, "--shop", tmp_path / "shop", "--map", tmp_path / "map.toml", "--json", tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["rows_kept"] == 3
    assert "already in the shop" in run("ingest", log, "--shop", tmp_path / "shop")


def test_describe_prints_writes_and_draws(log, tmp_path):
    run("ingest", log, "--shop", tmp_path / "shop", *MAPPING, *NAMES, "--max-rejected", 0.5)
    printed = run("describe", tmp_path / "shop", "--json", tmp_path / "d.json", "--plot", tmp_path / "d.png")
    for word in ("3 events", "purchase", "item-interaction", "magus", "Gini"):
        assert word in printed
    assert json.loads((tmp_path / "d.json").read_text())["users"] == 2
    assert (tmp_path / "d.png").stat().st_size > 1000


def test_describe_measures_the_graph_of_what_is_bought_together(tmp_path):
    rows = [f"u{n},{item},purchase,{1_600_000_000 + n}" for n in range(3) for item in ("bag", "pen", f"i{n}")]
    (tmp_path / "log.csv").write_text("\n".join(["user,item,interaction,time", *rows]))
    run("ingest", tmp_path / "log.csv", "--shop", tmp_path / "shop")
    printed = run("describe", tmp_path / "shop", "--graph", "--json", tmp_path / "d.json")
    for word in ("3 of 3 sessions of purchases hold two items", "clustering of the whole", "modularity", "bag"):
        assert word in printed
    about = json.loads((tmp_path / "d.json").read_text())
    assert about["users"] == 3
    assert [(found["support"], found["graph"]["edges"]) for found in about["graph"]["graphs"]] == [
        (1, 7),
        (2, 1),
        (3, 1),
    ]


def test_wrong_input_is_one_line_and_exit_code_2(log, tmp_path):
    program = [sys.executable, "-c", "from endcap.cli import main; main()"]
    done = subprocess.run(
        [*program, "ingest", str(log), "--shop", str(tmp_path / "shop")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "--columns visitorid=user,itemid=item,event=interaction,timestamp=time" in done.stderr
    assert not (tmp_path / "shop").exists()


def test_describe_of_no_shop(tmp_path):
    with pytest.raises(InputError, match="not a shop folder"):
        run("describe", tmp_path)


def test_help_needs_no_heavy_import():
    program = (
        "import sys; from endcap.cli import app, data; from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['ingest', '--help']).exit_code == 0\n"
        "heavy = {'ibis', 'duckdb', 'pyarrow', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
