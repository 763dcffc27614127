"""A shop without one of its people: which rows name them, and shops where little is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import InputError
from endcap.shop import Shop
from endcap.shop.forget import blank_rejected, forget_in_shop, trace_in_shop
from endcap.shop.ingest import ingest
from endcap.shop.intake import REJECTED_SCHEMA
from endcap.shop.storage import current_generation, read_rejected
from endcap.shop.vocabulary import Vocabulary, count_known, tombstone

START = 1_790_000_000


def made(folder: Path, *people: str) -> Path:
    """A shop in which each of these people does three things; those named again do them later again."""
    rows = [
        {"user": user, "item": f"i{step}", "interaction": "click", "time": START + 86_400 * number + 60 * step}
        for number, user in enumerate(people)
        for step in range(3)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "log.parquet")
    ingest([str(folder / "log.parquet")], shop=folder / "shop")
    return folder / "shop"


@pytest.mark.parametrize("who", ["a", "b", "c"])
def test_first_last_and_middle(tmp_path: Path, who: str) -> None:
    folder = made(tmp_path, "a", "b", "c", "a", "b", "c")
    before = Shop.open(folder)
    trace = forget_in_shop(folder, who)
    assert (trace.number, trace.n_users, trace.events, trace.sessions) == (before.users.number(who), 3, 6, 2)
    shop = Shop.open(folder)
    assert len(shop.events) == 12
    assert shop.events.session.tolist() == np.repeat(range(4), 3).tolist()
    assert [user in shop.users for user in "abc"] == [user != who for user in "abc"]
    assert not forget_in_shop(folder, who)
    assert current_generation(folder).number == 2, "what changes nothing writes nothing"


def test_the_time_at_which_they_came_is_forgotten_too(tmp_path: Path) -> None:
    folder = made(tmp_path, "a", "b", "c")
    came = Shop.open(folder).user_known_from
    forget_in_shop(folder, "b")
    shop = Shop.open(folder)
    assert shop.user_known_from.tolist() == [came[0], came[0], came[2]]
    assert shop.until(int(came[1])).n_users == 2, "a tombstone among those who were known; nobody is missing"
    assert shop.until(int(came[2]) + 1).users[2] == "c"


def test_the_only_person(tmp_path: Path) -> None:
    folder = made(tmp_path, "a")
    forget_in_shop(folder, "a")
    shop = Shop.open(folder)
    assert (len(shop.events), shop.n_users, shop.n_items) == (0, 1, 3)
    about = current_generation(folder).about
    assert (about["users"], about["sessions"], about["interactions"], about["first_time"]) == (0, 0, {}, None)
    pq.write_table(
        pa.table({"user": ["z"], "item": ["i9"], "interaction": ["cart"], "time": [START]}), tmp_path / "n.parquet"
    )
    report = ingest([str(tmp_path / "n.parquet")], shop=folder)
    assert (report.users, report.sessions) == (1, 1)
    assert Shop.open(folder).users.number("z") == 1


def test_the_same_source_does_not_bring_them_back(tmp_path: Path) -> None:
    folder = made(tmp_path, "a", "b")
    forget_in_shop(folder, "b")
    report = ingest([str(tmp_path / "log.parquet")], shop=folder)
    assert report.changed is False
    assert "b" not in Shop.open(folder).users


def rejected(*raw: str | None, reason: str = "missing item") -> pa.Table:
    rows = [{"source": "s", "line": n, "reason": reason, "raw": text} for n, text in enumerate(raw)]
    return pa.Table.from_pylist(rows, REJECTED_SCHEMA)


def stay(rows: pa.Table, *names: str) -> list[bool]:
    return [raw is not None for raw in blank_rejected(rows, names)["raw"].to_pylist()]


def test_rows_that_name_somebody_lose_their_text() -> None:
    rows = rejected(
        "user=anna, item=", "user=annabel, item=", "user=bert, item=anna", "user=Anna, time=1", "anna", None
    )
    assert stay(rows, "anna") == [False, True, False, False, True, False]
    assert stay(rows, "bert", "annabel") == [True, False, False, True, True, False]
    assert stay(rejected("user=1.0, time=7", "user=12, time=7", "user= 1 ,"), "1") == [False, True, False]
    assert stay(rejected("user=a, b, item=x", "user=a, item=x"), "a, b") == [False, True]


@pytest.mark.parametrize(
    "name", ["o'brien", 'say "hi"', "a.b*c", "Zoë", "50%", "back\\slash", "tab\there", "日本", "(x|y)"]
)
def test_broken_lines_name_people_in_the_ways_of_their_formats(name: str) -> None:
    import csv
    import io
    import json

    line = io.StringIO()
    csv.writer(line).writerow([name, "item", "click"])
    rows = rejected(json.dumps({"user": name})[:-2], json.dumps({"user": name}, ensure_ascii=False), line.getvalue(),
                    "somebody,item,click", reason="malformed row")  # fmt: skip
    assert stay(rows, name) == [False, False, False, True]


def test_a_name_cut_off_by_the_quarantine_is_found(tmp_path: Path) -> None:
    name = "x" * 250
    rows = [{"user": name, "item": "i", "interaction": "click", "time": time} for time in (START, 1)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    ingest([str(tmp_path / "log.parquet")], shop=tmp_path / "shop", max_rejected=1.0)
    assert forget_in_shop(tmp_path / "shop", name).rejected == 1
    assert "xxx" not in str(read_rejected(tmp_path / "shop").to_pylist())


def test_somebody_with_very_many_orders(tmp_path: Path) -> None:
    names = [f"order/{n}/{'long' * 100}" for n in range(2_000)]
    rows = rejected(*(f"user=, order={names[n]}" for n in (0, 999, 1_999)), "user=, order=other")
    assert stay(rows, *names) == [False, False, False, True]


def test_somebody_who_is_in_quarantine_only(tmp_path: Path) -> None:
    rows = [
        {"user": user, "item": "i", "interaction": "click", "time": time} for user, time in (("a", START), ("q", 1))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    ingest([str(tmp_path / "log.parquet")], shop=tmp_path / "shop", max_rejected=1.0)
    trace = forget_in_shop(tmp_path / "shop", "q")
    assert (trace.number, trace.events, trace.rejected) == (None, 0, 1)
    assert len(Shop.open(tmp_path / "shop").events) == 1
    assert not trace_in_shop(tmp_path / "shop", "q")


def test_no_shop(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a shop folder"):
        forget_in_shop(tmp_path / "none", "a")
    assert not (tmp_path / "none").exists()


def test_tombstones_are_ids_of_nobody() -> None:
    users = Vocabulary(["a", tombstone(1), "c", tombstone(3)])
    assert count_known(users.ids) == 2
    assert count_known(pa.array([], pa.string())) == 0
    assert users.encode(["a", "forgotten 1", "c"]).tolist() == [0, -1, 2]
    assert len({*users.ids.to_pylist()}) == 4
