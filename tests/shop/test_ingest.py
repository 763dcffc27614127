"""Ingest: what goes in comes out, in order, once; append, repeat, concurrency, damage."""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import DamagedArtefact, InputError
from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.shop.storage import read_rejected
from endcap.simulate import simulate

from .logs import START, csv, parquet, snapshot, table

MINUTE = 60


def as_rows(shop: Shop) -> list[tuple[str, str | None, str, int, int]]:
    """(user, item, interaction, second, session) of every event in order."""
    events = shop.events
    return [
        (
            shop.users[user],
            shop.items[item] if item >= 0 else None,
            shop.interactions.name(int(kind)),
            int(time // 1_000_000 - START),
            int(session),
        )
        for user, item, kind, time, session in zip(
            events.user, events.item, events.interaction, events.time, events.session, strict=True
        )
    ]


def test_events_are_ordered_numbered_and_cut_into_sessions():
    shop = Shop.from_tables(
        table(
            ("b", "y", "cart", 10),
            ("a", "x", "click", 31 * MINUTE + 1),
            ("a", "y", "purchase", 0),
            ("b", "z", "click", 5),
            ("a", "y", "click", 30 * MINUTE),
        )
    )
    assert as_rows(shop) == [
        ("a", "y", "purchase", 0, 0),
        ("a", "y", "click", 30 * MINUTE, 0),  # a pause of the gap itself does not end a session
        ("a", "x", "click", 31 * MINUTE + 1, 0),
        ("b", "z", "click", 5, 1),
        ("b", "y", "cart", 10, 1),
    ]
    assert shop.items.ids.to_pylist() == ["y", "z", "x"]
    assert shop.item_known_from.tolist() == [(START + s) * 1_000_000 for s in (0, 5, 31 * MINUTE + 1)]
    assert shop.events.session.dtype == np.int32
    assert shop.events.interaction.dtype == np.int8


def test_a_longer_pause_starts_a_session():
    log = table(("a", "x", "click", 0), ("a", "x", "click", 11), ("b", "x", "click", 11))
    assert Shop.from_tables(log, session_gap="10s").events.session.tolist() == [0, 1, 2]
    assert Shop.from_tables(log, session_gap="11s").events.session.tolist() == [0, 0, 1]


def test_sessions_of_the_log_are_a_users_own_and_stand_by_their_first_event():
    shop = Shop.from_tables(
        table(
            ("a", "p", "click", 0, "s2"),
            ("a", "q", "click", 5, "s1"),
            ("a", "r", "click", 9 * 3600, "s2"),
            ("b", "s", "click", 6, "s1"),
            ("a", "t", "click", 6, None),
            ("a", "u", "click", 7, None),
            ("a", "v", "click", 8 * 3600, None),
            names="user,item,interaction,time,session",
        )
    )
    sessions = [(user, item, session) for user, item, _, _, session in as_rows(shop)]
    assert sessions == [
        ("a", "p", 0), ("a", "r", 0), ("a", "q", 1), ("a", "t", 2), ("a", "u", 2), ("a", "v", 3), ("b", "s", 4),
    ]  # fmt: skip


def test_arrival_decides_between_events_of_one_moment():
    items = [f"i{n}" for n in range(50)]
    shop = Shop.from_tables(table(*(("a", item, "click", 0) for item in items)))
    assert [row[1] for row in as_rows(shop)] == items


def test_what_arrives_later_stands_later_among_events_of_one_moment(tmp_path):
    for number, items in enumerate(("dcb", "a", "zyx")):
        rows = [("a", item, "click", 0) for item in items]
        ingest(parquet(tmp_path / f"{number}.parquet", *rows), shop=tmp_path / "shop")
    assert [row[1] for row in as_rows(Shop.open(tmp_path / "shop"))] == list("dcbazyx")


def test_pandas_polars_and_arrow_make_one_shop():
    arrow = table(("a", "x", "click", 0), ("b", "y", "cart", 1))
    frame = arrow.to_pandas()
    frame.index = [7, 9]
    frame["user"] = frame["user"].astype("category")
    polars = pl.from_arrow(arrow).with_columns(pl.from_epoch("time", "s"))
    expected = as_rows(Shop.from_tables(arrow))
    assert as_rows(Shop.from_tables(frame)) == expected
    assert as_rows(Shop.from_tables(polars)) == expected
    assert Shop.from_tables(frame).report.unused_columns == []


def test_numbers_are_ids_in_plain_decimals():
    gaps = pd.DataFrame({"user": [1.0, None, 3.0], "item": [10, 11, 12], "interaction": "click", "time": [START] * 3})
    shop = Shop.from_tables(gaps, max_rejected=0.5)
    assert shop.users.ids.to_pylist() == ["1", "3"]
    assert shop.items.ids.to_pylist() == ["10", "12"]
    large = table((2**62 + 1, 1.5, "click", 0))
    assert Shop.from_tables(large).users.ids.to_pylist() == [str(2**62 + 1)]
    assert Shop.from_tables(large).items.ids.to_pylist() == ["1.5"]


def test_interactions_of_the_shop_its_names_and_ignored_ones():
    log = table(
        ("a", "x", "view", 0), ("a", "x", "look", 1), ("a", "x", "VIEW", 2), ("a", "x", "beat", 3), ("a", "x", "buy", 4)
    )
    shop = Shop.from_tables(
        log,
        interactions="view=click,look=click,buy=purchase,beat=-",
        strength="click,comment,purchase",
        max_rejected=0.2,
    )
    assert [row[2] for row in as_rows(shop)] == ["click", "click", "purchase"]
    assert shop.interactions.names == ("click", "comment", "purchase")
    assert shop.report.reasons == {"ignored by mapping": 1, "unknown interaction": 1}


def test_ignored_rows_are_no_bad_rows_whatever_else_is_wrong_with_them():
    log = table(("a", "x", "click", 0), (None, "x", "beat", 1), (None, None, "beat", 2))
    shop = Shop.from_tables(log, interactions="beat=-", max_rejected=0)
    assert shop.report.reasons == {"ignored by mapping": 2}


def test_booleans_are_mapped_as_words():
    log = table(("a", "x", False, 0), ("a", "x", True, 1))
    shop = Shop.from_tables(log, interactions="false=purchase,true=return")
    assert [row[2] for row in as_rows(shop)] == ["purchase", "return"]


def test_one_interaction_for_rows_that_state_none():
    log = table(("a", "x", 0), ("b", "x", 1), names="user,item,time")
    assert [row[2] for row in as_rows(Shop.from_tables(log, default_interaction="purchase"))] == ["purchase"] * 2
    with pytest.raises(InputError, match="--interaction sold: no such interaction"):
        Shop.from_tables(log, default_interaction="sold")
    with pytest.raises(InputError, match="no interaction 'sold'"):
        Shop.from_tables(log, default_interaction="purchase", interactions="x=sold")


def test_searches_have_a_query_and_no_item():
    log = table(
        ("a", None, "search", 0, "red shoes"),
        ("a", None, "search", 1, " "),
        ("a", "x", "click", 2, None),
        names="user,item,interaction,time,query",
    )
    shop = Shop.from_tables(log, max_rejected=0.5)
    assert shop.events.item.tolist() == [-1, 0]
    assert shop.events.columns["query"].to_pylist() == ["red shoes", None]
    assert len(shop.positives) == 1
    assert shop.report.reasons == {"missing query": 1}


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_timestamps_of_any_unit_and_zone(tmp_path, unit, zone):
    log = table(("a", "x", "click", 0), ("b", "y", "click", 1))
    times = log["time"].cast(pa.int64()).cast(pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    log = log.set_column(log.column_names.index("time"), "time", times)
    pq.write_table(log, tmp_path / "log.parquet")
    ingest(tmp_path / "log.parquet", shop=tmp_path / "shop")
    for shop in (Shop.open(tmp_path / "shop"), Shop.from_tables(log)):
        assert shop.events.time.tolist() == [START * 1_000_000, (START + 1) * 1_000_000]


def test_returns_have_a_positive_quantity_and_other_negative_quantities_are_refused():
    names = "user,item,interaction,time,quantity,price"
    log = table(("a", "x", "return", 0, -2, 5.0), ("a", "x", "purchase", 1, -1, 5.0), names=names)
    shop = Shop.from_tables(log, max_rejected=0.5)
    assert shop.events.columns["quantity"].to_pylist() == [2.0]
    assert shop.report.reasons == {"negative quantity": 1}


def test_people_without_a_name_keep_their_session():
    log = table(
        (None, "x", "click", 0, "s1"), (None, "x", "click", 1, None), names="user,item,interaction,time,session"
    )
    shop = Shop.from_tables(log, keep_anonymous=True, max_rejected=0.5)
    assert shop.users.ids.to_pylist() == ["anonymous:s1"]
    assert shop.report.reasons == {"missing user": 1}


def test_exact_duplicates_are_kept_unless_refused(tmp_path):
    rows = [("a", "x", "click", 0), ("a", "x", "click", 0), ("a", "x", "click", 1)]
    assert len(Shop.from_tables(table(*rows)).events) == 3
    report = ingest(
        parquet(tmp_path / "1.parquet", *rows), shop=tmp_path / "shop", drop_duplicates=True, max_rejected=0
    )
    assert report.reasons == {"duplicate": 1}
    more = parquet(tmp_path / "2.parquet", rows[0], ("a", "x", "click", 2))
    report = ingest(more, shop=tmp_path / "shop", drop_duplicates=True, max_rejected=0)
    assert (report.rows_kept, report.reasons) == (1, {"duplicate": 1})
    assert [row[3] for row in as_rows(Shop.open(tmp_path / "shop"))] == [0, 1, 2]
    rejected = read_rejected(tmp_path / "shop")
    assert rejected["line"].to_pylist() == [2, 1]
    assert rejected["raw"][0].as_py() == f"user=a, item=x, interaction=click, time={START}000000"


def test_an_event_id_comes_in_once(tmp_path):
    names = "event_id,user,item,interaction,time"
    first = parquet(tmp_path / "1.parquet", ("e1", "a", "x", "click", 0), ("e1", "a", "x", "click", 1), names=names)
    report = ingest(first, shop=tmp_path / "shop", max_rejected=0)
    assert report.reasons == {"duplicate event_id": 1}
    rows = [("e1", "b", "x", "click", 0), ("e2", "b", "x", "click", 0), (None, "b", "y", "click", 0)]
    report = ingest(parquet(tmp_path / "2.parquet", *rows, names=names), shop=tmp_path / "shop", max_rejected=0)
    assert (report.rows_kept, report.reasons) == (2, {"duplicate event_id": 1})
    plain = parquet(tmp_path / "3.parquet", ("c", "x", "click", 0))
    assert ingest(plain, shop=tmp_path / "shop").rows_kept == 1
    assert len(Shop.open(tmp_path / "shop").events) == 4


def test_an_event_id_that_names_no_events_is_an_error():
    names = "event_id,user,item,interaction,time"
    log = table(*((f"type {n % 2}", "a", "x", "click", n) for n in range(9)), names=names)
    with pytest.raises(InputError, match="event_id: 7 of 9 rows repeat the event_id of another row"):
        Shop.from_tables(log)
    assert len(Shop.from_tables(log, columns="event_id=-").events) == 9


# -- items -------------------------------------------------------------------------------------------------------------


def test_the_catalogue_follows_the_numbers_and_the_unseen_come_last():
    items = pa.table(
        {
            "item": ["never", "x", "launched", "y"],
            "category": ["c/d", "a/b", None, "a"],
            "launched": ["2037-01-01", None, "2020-09-13", None],
            "in_stock": ["yes", "no", None, "true"],
            "price": [1, 2, 3, 4],
            "vector_text": [[0.5, 1.0], None, [1, 2], [3, 4]],
        }
    )
    log = table(("a", "y", "click", 0), ("a", "x", "click", 1))
    shop = Shop.from_tables(log, items)
    assert shop.items.ids.to_pylist() == ["launched", "y", "x", "never"]
    assert shop.catalogue["item"].to_pylist() == shop.items.ids.to_pylist()
    assert shop.catalogue["in_stock"].to_pylist() == [None, True, False, True]
    assert shop.catalogue.schema.field("vector_text").type == pa.list_(pa.float32(), 2)
    assert shop.catalogue["vector_text"].to_pylist() == [[1, 2], [3, 4], None, [0.5, 1]]
    assert shop.until((START + 1) * 1_000_000).n_items == 2
    assert shop.until(shop.events.time.max() + 1).n_items == 3


def test_items_without_a_launch_exist_in_the_whole_shop_only():
    shop = Shop.from_tables(table(("a", "x", "click", 0)), pa.table({"item": ["x", "quiet"]}))
    assert shop.n_items == 2
    assert shop.until((START + 10**9) * 1_000_000).n_items == 1


def test_attributes_in_the_log_describe_items_the_latest_wins_and_the_items_file_before_all():
    names = "user,item,interaction,time,title,price"
    log = table(
        ("a", "x", "click", 0, "old", 1.0),
        ("b", "x", "click", 5, "new", 2.0),
        ("b", "x", "click", 9, None, None),
        ("b", "y", "click", 9, "why", 7.0),
        names=names,
    )
    shop = Shop.from_tables(log, pa.table({"item": ["y"], "price": [8.0]}))
    assert shop.catalogue.select(["item", "title", "price"]).to_pylist() == [
        {"item": "x", "title": "new", "price": 2.0},
        {"item": "y", "title": "why", "price": 8.0},
    ]


def test_what_is_known_of_items_stays_when_events_are_appended(tmp_path):
    items = pa.table(
        {
            "item": ["x", "y"],
            "launched": ["2020-01-01", None],
            "in_stock": [True, False],
            "vector_text": [[0.5, 1.0], None],
            "margin": [0.25, None],
        }
    )
    pq.write_table(items, tmp_path / "items.parquet")
    first = parquet(tmp_path / "1.parquet", ("a", "x", "click", 0), ("a", "y", "click", 1))
    ingest(first, items=tmp_path / "items.parquet", shop=tmp_path / "shop")
    before = Shop.open(tmp_path / "shop").catalogue
    assert before["launched"].to_pylist()[0].isoformat() == "2020-01-01T00:00:00+00:00"
    ingest(parquet(tmp_path / "2.parquet", ("a", "z", "click", 2)), shop=tmp_path / "shop")
    after = Shop.open(tmp_path / "shop").catalogue
    assert after.slice(0, 2).equals(before)
    assert after.schema == before.schema
    more = pa.table({"item": ["y"], "vector_text": [[2.0, 3.0]]})
    pq.write_table(more, tmp_path / "more.parquet")
    ingest(items=tmp_path / "more.parquet", shop=tmp_path / "shop")
    assert Shop.open(tmp_path / "shop").catalogue["vector_text"].to_pylist() == [[0.5, 1.0], [2.0, 3.0], None]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_spoilt_simulated_log_is_refused_row_by_row(tmp_path, kind):
    summary = simulate(tmp_path / "log", events=3000, seed=3, format=kind, bad_rows=0.05, duplicates=0.01, searches=0.1)
    items = tmp_path / "log" / f"items.{kind}"
    report = ingest(tmp_path / "log" / f"events.{kind}", items=items, shop=tmp_path / "shop")
    assert report.reasons.pop("duplicate event_id") == summary.duplicates > 0
    assert report.reasons == summary.spoilt
    assert report.interactions == summary.interactions
    assert report.item_reasons == {}


def test_items_alone_update_attributes_and_change_nothing_twice(tmp_path):
    shop = tmp_path / "shop"
    ingest(parquet(tmp_path / "e.parquet", ("a", "x", "click", 0)), shop=shop)
    events = Shop.open(shop).events
    items = csv(tmp_path / "items.csv", "x,A/B,9.5", "z,C,1", header="item,category,price\n")
    report = ingest(items=items, shop=shop)
    assert (report.changed, report.items, report.items_read, report.rows_read) == (True, 2, 2, 0)
    assert Shop.open(shop).catalogue["category"].to_pylist() == ["A/B", "C"]
    assert np.array_equal(Shop.open(shop).events.time, events.time)
    before = snapshot(shop)
    assert not ingest(items=items, shop=shop).changed
    assert snapshot(shop) == before
    ingest(items=csv(tmp_path / "items2.csv", "x,3", header="item,price\n"), shop=shop)
    assert Shop.open(shop).catalogue.select(["category", "price"]).to_pylist()[0] == {"category": "A/B", "price": 3.0}


def test_bad_item_rows_are_kept_aside(tmp_path):
    events = parquet(tmp_path / "e.parquet", ("a", "x", "click", 0))
    items = csv(tmp_path / "items.csv", "x,1,yes", ",1,no", "y,-1,no", "z,1,perhaps", header="item,price,in_stock\n")
    with pytest.raises(InputError, match=r"75.0% of the item rows are bad"):
        ingest(events, items=items, shop=tmp_path / "shop")
    report = ingest(events, items=items, shop=tmp_path / "shop", max_rejected=0.8)
    assert report.item_reasons == {"missing item": 1, "negative price": 1, "unparsable in_stock": 1}
    assert read_rejected(tmp_path / "shop")["line"].to_pylist() == [3, 4, 5]


def test_vectors_with_what_is_no_number_are_kept_aside(tmp_path):
    events = parquet(tmp_path / "e.parquet", ("a", "good", "click", 0))
    vectors = {"good": [0.5, 1.0], "none": None, "nan": [math.nan, 1.0], "inf": [1.0, -math.inf], "gap": [None, 1.0]}
    items = tmp_path / "items.parquet"
    pq.write_table(pa.table({"item": list(vectors), "vector_text": list(vectors.values())}), items)
    with pytest.raises(InputError, match=r"3 x not-a-number in vector .*items\.parquet line 3"):
        ingest(events, items=items, shop=tmp_path / "shop")
    report = ingest(events, items=items, shop=tmp_path / "shop", max_rejected=0.6)
    assert report.item_reasons == {"not-a-number in vector": 3}
    assert Shop.open(tmp_path / "shop").catalogue["vector_text"].to_pylist() == [[0.5, 1.0], None]


def test_vectors_of_two_lengths_are_an_error():
    items = pa.table({"item": ["x", "y"], "vector_text": [[1.0], [1.0, 2.0]]})
    with pytest.raises(InputError, match="vector_text: vectors of 2 lengths"):
        Shop.from_tables(table(("a", "x", "click", 0)), items)


# -- appending ---------------------------------------------------------------------------------------------------------


def test_two_halves_by_time_make_the_shop_of_the_whole(tmp_path):
    rng = np.random.default_rng(0)
    rows = sorted(
        ((f"u{rng.integers(6)}", f"i{rng.integers(9)}", "click", int(s)) for s in rng.integers(0, 40_000, 300)),
        key=lambda row: row[3],
    )
    ingest(parquet(tmp_path / "all.parquet", *rows), shop=tmp_path / "whole")
    for half in (rows[:150], rows[150:]):
        ingest(parquet(tmp_path / "half.parquet", *half), shop=tmp_path / "halves")
    whole, halves = Shop.open(tmp_path / "whole"), Shop.open(tmp_path / "halves")
    assert as_rows(whole) == as_rows(halves)
    assert whole.items.fingerprint() == halves.items.fingerprint()
    assert whole.users.fingerprint() == halves.users.fingerprint()
    assert np.array_equal(whole.item_known_from, halves.item_known_from)


def test_numbers_never_change_and_what_came_late_may_be_known_earlier(tmp_path):
    shop = tmp_path / "shop"
    ingest(parquet(tmp_path / "1.parquet", ("a", "x", "click", 100)), shop=shop)
    report = ingest(parquet(tmp_path / "2.parquet", ("b", "y", "click", 0), ("a", "x", "click", 50)), shop=shop)
    assert (report.rows_kept, report.users, report.items, report.interactions) == (2, 2, 2, {"click": 3})
    assert report.first_time == "2020-09-13T12:26:40Z"
    opened = Shop.open(shop)
    assert opened.items.ids.to_pylist() == ["x", "y"]
    assert opened.item_known_from.tolist() == [(START + 50) * 1_000_000, START * 1_000_000]
    assert as_rows(opened)[:2] == [("a", "x", "click", 50, 0), ("a", "x", "click", 100, 0)]


def test_a_session_goes_on_in_the_next_file(tmp_path):
    names = "user,item,interaction,time,session"
    for number, row in enumerate(
        [("a", "x", "click", 0, "s"), ("a", "y", "click", 9999, "s"), ("a", "z", "click", 1, "t")]
    ):
        ingest(parquet(tmp_path / f"{number}.parquet", row, names=names), shop=tmp_path / "logged")
    assert [(row[1], row[4]) for row in as_rows(Shop.open(tmp_path / "logged"))] == [("x", 0), ("y", 0), ("z", 1)]
    for second in (0, 20 * MINUTE, 40 * MINUTE):
        ingest(parquet(tmp_path / f"{second}.parquet", ("a", "x", "click", second)), shop=tmp_path / "gap")
    assert Shop.open(tmp_path / "gap").events.session.tolist() == [0, 0, 0]


def test_the_same_content_changes_nothing_under_any_name(tmp_path):
    shop = tmp_path / "shop"
    first = parquet(tmp_path / "1.parquet", ("a", "x", "click", 0), ("b", "y", "purchase", 1))
    report = ingest([first, first], shop=shop)
    before = snapshot(shop)
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(first.read_bytes())
    again = ingest(copy, shop=shop)
    assert snapshot(shop) == before
    assert (again.changed, again.rows_read, again.skipped) == (False, 0, [str(copy)])
    assert (again.users, again.items, again.sessions) == (report.users, report.items, report.sessions)
    assert again.interactions == report.interactions == {"click": 1, "purchase": 1}


def test_a_shop_keeps_its_interactions_and_its_gap(tmp_path):
    shop = tmp_path / "shop"
    ingest(parquet(tmp_path / "1.parquet", ("a", "x", "look", 0)), shop=shop, strength="look,buy", session_gap="1h")
    ingest(parquet(tmp_path / "2.parquet", ("a", "x", "buy", 3000)), shop=shop)
    assert Shop.open(shop).events.session.tolist() == [0, 0]
    with pytest.raises(InputError, match="this shop was made with look,buy, which cannot change"):
        ingest(parquet(tmp_path / "3.parquet", ("a", "x", "buy", 9)), shop=shop, strength="look,cart,buy")


def test_rejected_rows_add_up_over_ingests_and_can_be_written_apart(tmp_path):
    shop = tmp_path / "shop"
    for number in (1, 2):
        file = csv(tmp_path / f"{number}.csv", f"a,x,click,{START + number}", f",x,click,{START}")
        ingest(file, shop=shop, max_rejected=0.5, rejected=tmp_path / "rejected.parquet")
    found = read_rejected(shop).to_pylist()
    assert [(Path(row["source"]).name, row["line"], row["reason"]) for row in found] == [
        ("1.csv", 3, "missing user"),
        ("2.csv", 3, "missing user"),
    ]
    assert found[0]["raw"] == f"item=x, interaction=click, time={START}"
    assert pq.read_table(tmp_path / "rejected.parquet").num_rows == 1


# -- formats -----------------------------------------------------------------------------------------------------------


def test_every_format_says_the_same(tmp_path):
    arrow = table(("a", "ü", "click", 0, 1.5), ("b,b", "2", "cart", 1, None), names="user,item,interaction,time,price")
    frame = arrow.to_pandas()
    expected = as_rows(Shop.from_tables(arrow))
    frame.to_csv(tmp_path / "comma.csv", index=False)
    frame.to_csv(tmp_path / "tab.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semicolon.csv", index=False, sep=";")
    frame.to_csv(tmp_path / "packed.csv.gz", index=False)
    frame.to_csv(tmp_path / "mark.csv", index=False, encoding="utf-8-sig")
    frame.to_csv(tmp_path / "caret.csv", index=False, sep="^")
    frame.to_json(tmp_path / "lines.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "packed.jsonl.zst", orient="records", lines=True) if _has_zstd() else None
    pq.write_table(arrow, tmp_path / "all [1].parquet", row_group_size=1)
    for file in sorted(tmp_path.iterdir()):
        options = {"delimiter": "^"} if file.name == "caret.csv" else {}
        ingest(file, shop=tmp_path / "shops" / file.name, **options)
        shop = Shop.open(tmp_path / "shops" / file.name)
        assert as_rows(shop) == expected, file.name
        assert shop.events.columns["price"].to_pylist() == [1.5, None], file.name


def _has_zstd() -> bool:
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return False
    return True


def test_keys_of_json_lines_may_come_late(tmp_path, monkeypatch):
    monkeypatch.setattr("endcap.shop.sources.KEYS_FROM_LINES", 2)
    row = {"user": "a", "item": "x", "interaction": "click", "time": START}
    late = row | {"interaction": "search", "q": "shoes", "order": "o1"}
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, [row, row, late])))
    ingest(tmp_path / "log.jsonl", shop=tmp_path / "shop", columns="q=query")
    columns = Shop.open(tmp_path / "shop").events.columns
    assert columns["query"].to_pylist() == [None, None, "shoes"]
    assert columns["order"].to_pylist() == [None, None, "o1"]


def test_many_files_globs_and_directories(tmp_path):
    (tmp_path / "logs").mkdir()
    for day in range(3):
        csv(tmp_path / "logs" / f"{day}.csv", f"a,i{day},click,{START + day}")
    ingest(str(tmp_path / "logs" / "*.csv"), shop=tmp_path / "glob")
    ingest(tmp_path / "logs", shop=tmp_path / "folder")
    assert as_rows(Shop.open(tmp_path / "glob")) == as_rows(Shop.open(tmp_path / "folder"))
    assert len(Shop.open(tmp_path / "glob").events) == 3


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_second_ingest_at_the_same_time_is_refused(tmp_path):
    shop = tmp_path / "shop"
    file = parquet(tmp_path / "1.parquet", ("a", "x", "click", 0))
    ingest(file, shop=shop)
    handle = os.open(shop, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another ingest is writing this shop"):
            ingest(parquet(tmp_path / "2.parquet", ("b", "x", "click", 0)), shop=shop)
    finally:
        os.close(handle)
    assert ingest(tmp_path / "2.parquet", shop=shop).rows_kept == 1


def test_an_ingest_killed_at_any_point_leaves_the_old_shop(tmp_path):
    shop = tmp_path / "shop"
    ingest(parquet(tmp_path / "1.parquet", ("a", "x", "click", 0)), shop=shop)
    parquet(tmp_path / "2.parquet", ("b", "y", "click", 0))
    program = (
        "import os, sys, endcap.shop.ingest as i, endcap.shop.storage as s\n"
        "module = s if sys.argv[3] == 'write_atomically' else i\n"
        "setattr(module, sys.argv[3], lambda *a, **k: os._exit(9))\n"
        "i.ingest(sys.argv[1], shop=sys.argv[2])\n"
    )
    for place in ("_judge", "write_parquet", "write_atomically"):
        command = [sys.executable, "-c", program, str(tmp_path / "2.parquet"), str(shop), place]
        assert subprocess.run(command, check=False).returncode == 9
        assert len(Shop.open(shop).events) == 1
    assert ingest(tmp_path / "2.parquet", shop=shop).rows_kept == 1
    assert len(Shop.open(shop).events) == 2
    assert not list(shop.glob(".*"))


def test_a_first_ingest_killed_before_its_end_is_no_shop_and_in_nobodys_way(tmp_path):
    file = parquet(tmp_path / "1.parquet", ("a", "x", "click", 0))
    program = (
        "import os, sys, endcap.shop.ingest as i, endcap.shop.storage as s\n"
        "s.write_atomically = lambda *a: os._exit(9)\n"
        "i.ingest(sys.argv[1], shop=sys.argv[2])\n"
    )
    command = [sys.executable, "-c", program, str(file), str(tmp_path / "shop")]
    assert subprocess.run(command, check=False).returncode == 9
    with pytest.raises(InputError, match="not a shop folder"):
        Shop.open(tmp_path / "shop")
    ingest(file, shop=tmp_path / "shop")
    assert sorted(path.name for path in (tmp_path / "shop").iterdir()) == ["generation-000001", "manifest.json"]


def test_old_generations_go_but_the_last_stays_for_open_readers(tmp_path):
    shop = tmp_path / "shop"
    for number in range(4):
        ingest(parquet(tmp_path / f"{number}.parquet", ("a", "x", "click", number)), shop=shop)
    assert sorted(path.name for path in shop.iterdir()) == ["generation-000003", "generation-000004", "manifest.json"]


@pytest.mark.parametrize("name", ["events.parquet", "items.parquet", "users.parquet", "manifest.json"])
def test_a_shop_edited_by_hand_is_refused(tmp_path, name):
    shop = tmp_path / "shop"
    ingest(parquet(tmp_path / "1.parquet", ("a", "x", "click", 0)), shop=shop)
    file = shop / "generation-000001" / name
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DamagedArtefact, match=f"{name}: changed since it was written"):
        Shop.open(shop)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    file = parquet(tmp_path / "1.parquet", ("a", "x", "click", 0))
    with pytest.raises(InputError, match="neither a shop nor an empty folder"):
        ingest(file, shop=tmp_path / "notes")
    with pytest.raises(InputError, match="not a shop folder"):
        Shop.open(tmp_path / "notes")
    assert snapshot(tmp_path / "notes") == {"a.txt": b"mine"}
