"""The table of relation files on a tiny folder whose people go from an item to its complement."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import grocery_relations as table

PEOPLE, ITEMS = 120, 150


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Everybody buys at random but for the last two: each is a complement of the one before, on a ring of items."""
    rng = np.random.default_rng(3)
    rows: dict[str, list[str]] = {"train": [], "dev": [], "test": []}
    for person in range(1, PEOPLE + 1):
        items = rng.permutation(ITEMS)[:4].tolist()
        items += [(items[-1] + 1) % ITEMS, (items[-1] + 2) % ITEMS]
        for place, (item, name) in enumerate(zip(items, ["train"] * 4 + ["dev", "test"], strict=True)):
            rows[name].append(f"{person},{item + 1},{100 + place}")
    for name, lines in rows.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["user_id,item_id,time", *lines]) + "\n")
    links = [f"{item + 1}\t[{(item + 1) % ITEMS + 1}]\t[{(item + 70) % ITEMS + 1}]" for item in range(ITEMS)]
    (tmp_path / "item_meta.csv").write_text("\n".join(["item_id\tr_complement\tr_substitute", *links]) + "\n")
    return tmp_path


def test_quick_learns_the_planted_complement_and_opens_what_it_trained(folder, monkeypatch, capsys):
    out = folder / "rows.json"
    command = f"x --quick --data {folder} --work {folder / 'work'} --json {out} --threads 1"
    monkeypatch.setattr(sys, "argv", command.split())
    table.main()
    rows = {row["what"].partition(":")[0]: row["ours"] for row in json.loads(out.read_text())["rows"]}
    hit_rate = {name: float(ours.split()[0]) for name, ours in rows.items()}
    assert hit_rate["second pass"] > 0.9
    assert hit_rate["second pass without relation files"] < 0.5
    assert hit_rate["second pass less second pass without relation files"] == pytest.approx(
        hit_rate["second pass"] - hit_rate["second pass without relation files"], abs=1e-3
    )
    stored = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.npy")}
    table.main()
    assert {row["what"].partition(":")[0]: row["ours"] for row in json.loads(out.read_text())["rows"]} == rows
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    assert "no result" in capsys.readouterr().out
    shutil.rmtree(next((folder / "work").rglob("coaction-graph-*-0")))
    with pytest.raises(SystemExit, match="second-pass-0: fitted on scores of a model that is gone"):
        table.main()


def test_equal_scores_are_settled_by_lot_and_what_is_not_named_comes_last():
    scores = np.zeros((4000, 100), np.float32)
    target = np.zeros(scores.shape, np.bool_)
    target[:, 0] = True
    hits, ndcg = table.gains_of(scores, target, 0)
    assert hits.mean() == pytest.approx(0.05, abs=0.015)
    assert ((ndcg > 0) == (hits > 0)).all()
    scores[:, 0] = np.nan
    assert not table.gains_of(scores, target, 0)[0].any()


def test_another_setting_than_that_of_the_stored_rankers_is_refused(folder, monkeypatch):
    rows = ["--only", "second pass without relation files", "--dev"]
    monkeypatch.setattr(sys, "argv", ["x", "--quick", "--data", str(folder), "--work", str(folder / "work"), *rows])
    table.main()
    monkeypatch.setattr(table, "RANKER", table.RANKER | {"leaves": 7})
    with pytest.raises(SystemExit, match="remove it to fit again"):
        table.main()


def test_a_row_that_is_none_is_named(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(folder), "--only", "third pass"])
    with pytest.raises(SystemExit, match="no row 'third pass'"):
        table.main()
