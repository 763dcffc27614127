"""Help that teaches, a quick start, and the doctor."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from endcap.cli import _add_verbs, app, main

_add_verbs()
ROOT = typer.main.get_command(app)
VERBS = sorted(name for name in ROOT.commands if name != "releases") + [
    f"releases {name}" for name in ROOT.commands["releases"].commands
]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_what_it_does(verb: str) -> None:
    said = CliRunner().invoke(app, [*verb.split(), "--help"])
    assert said.exit_code == 0
    assert "Usage" in said.output
    if not verb.startswith("releases"):
        assert "xample" in said.output or verb in {"doctor", "systems"}, (
            "an example teaches more than a list of options"
        )


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    heavy = {"numpy", "pyarrow", "numba", "duckdb", "ibis", "faiss", "litestar", "matplotlib", "torch"}
    program = (
        "import sys; from endcap.cli import _add_verbs; _add_verbs(); print(*{n.split('.')[0] for n in sys.modules})"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not heavy & {name.partition(".")[0] for name in loaded}


def test_ctrl_c_before_a_verb_begins_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("endcap.cli._add_verbs", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130


def test_the_doctor_finds_a_working_installation() -> None:
    said = CliRunner().invoke(app, ["doctor", "--json"])
    checks = {check["what"]: check for check in json.loads(said.output)}
    assert checks["kernels"]["value"] == "run"
    assert checks["numpy"]["ok"]
    assert said.exit_code == (0 if all(check["ok"] for check in checks.values()) else 1)


def test_the_doctor_reports_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.cli.doctor.PACKAGES", ("no-such-package",))
    said = CliRunner().invoke(app, ["doctor", "--json"])
    assert said.exit_code == 1
    assert {"what": "no-such-package", "value": "missing", "ok": False} in json.loads(said.output)


def test_the_demo_does_not_empty_a_folder_that_is_not_its_own(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years")
    said = subprocess.run(
        [sys.executable, "-c", "from endcap.cli import main; main()", "demo", "--folder", tmp_path, "--exit"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "holds files that no demo made" in said.stderr
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.slow
def test_the_demo_goes_the_whole_way(tmp_path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", "from endcap.cli import main; main()", "demo", "--folder", tmp_path / "d", "--exit",
         "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("$ curl") == 3
    assert said.stdout.count("because you") >= 3
    assert "endcap serves at http://127.0.0.1:" in said.stdout
