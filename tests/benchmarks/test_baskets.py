"""Files of baskets as shops, their split, and the known counts of Groceries where the file is there."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

import cross_sell_walmart
import groceries_rules
from _baskets import basket_file, held_out
from endcap.errors import InputError
from endcap.graph import baskets_of

DATA = os.environ.get("ENDCAP_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="ENDCAP_DATA names no folder of real data")


def write(folder: Path, text: str, name: str = "hyperedges-few.txt") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def contents(path: Path) -> list[list[str]]:
    shop = basket_file(path)
    baskets = baskets_of(shop, largest=0)
    assert baskets.unit == "orders"
    bounds = zip(baskets.offsets, baskets.offsets[1:], strict=False)
    return [sorted(shop.items[item] for item in baskets.items[begin:end]) for begin, end in bounds]


def test_every_line_is_an_order_of_its_own(tmp_path: Path) -> None:
    found = contents(write(tmp_path, "3,1,2\n1\n\n 2 , 2,3\n"))
    assert sorted(found) == sorted([["1", "2", "3"], ["1"], ["2", "3"]])
    assert contents(write(tmp_path, "whole milk,curd\r\ncurd,soda", "names.csv")) == [
        ["curd", "whole milk"],
        ["curd", "soda"],
    ]


def test_labels_of_nodes_are_categories(tmp_path: Path) -> None:
    path = write(tmp_path, "3,1\n2,3\n")
    write(tmp_path, "2\n1\n2\n", "node-labels-few.txt")
    write(tmp_path, "toys\nfood\n", "label-names-few.txt")
    shop = basket_file(path)
    category = dict(zip(shop.items.ids.to_pylist(), shop.catalogue["category"].to_pylist(), strict=True))
    assert category == {"1": "food", "2": "toys", "3": "food"}
    write(tmp_path, "2\n9\n2\n", "node-labels-few.txt")
    with pytest.raises(InputError, match="a number from 1 to 2"):
        basket_file(path)


@pytest.mark.parametrize(("text", "says"), [("1,,2\n", "line 1: a product's name"), ("", "one basket on each line")])
def test_what_is_no_file_of_baskets_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        basket_file(write(tmp_path, text))
    with pytest.raises(InputError, match="no such file"):
        basket_file(tmp_path / "nothing.txt")


def test_baskets_are_held_out_whole_and_without_what_the_others_lack(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [",".join(map(str, rng.choice(30, 3, replace=False))) for _ in range(40)]
    shop = basket_file(write(tmp_path, "\n".join([*lines, "0,only"])))
    for seed in range(6):
        train, test = held_out(shop, 10, seed=seed)
        assert not set(train.events.user) & set(test.events.user)
        assert set(test.events.item) <= set(train.events.item)
        assert len(set(train.events.user)) == 31
    with pytest.raises(InputError, match="41 in all"):
        held_out(shop, 41, seed=0)


def test_the_cross_sell_table_of_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    path = write(tmp_path, "\n".join(",".join(map(str, rng.integers(0, 20, 4))) for _ in range(150)))
    arguments = ["--file", path, "--json", tmp_path / "found.json", "--work", tmp_path / "work", "--quick"]
    only = ["--only", "popularity,rules support 2,two-step walk"]
    monkeypatch.setattr(sys, "argv", ["cross_sell_walmart", *map(str, [*arguments, *only])])
    cross_sell_walmart.main()
    rows = msgspec.json.decode((tmp_path / "found.json").read_bytes())["rows"]
    assert [row["what"].partition(",")[0] for row in rows] == ["popularity", "rules support 2", "two-step walk"]
    assert all(row["reference"] is None for row in rows)  # those are of another file
    cross_sell_walmart.main()  # from the models that are there
    assert msgspec.json.decode((tmp_path / "found.json").read_bytes())["rows"] == rows


@needs_data
def test_the_rules_of_groceries_are_those_that_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--data", DATA, "--quick", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr(sys, "argv", ["groceries_rules", *given])
    groceries_rules.main()
    rows = msgspec.json.decode((tmp_path / "found.json").read_bytes())["rows"]
    assert len(rows) == 10
    assert all(row["met"] for row in rows)
