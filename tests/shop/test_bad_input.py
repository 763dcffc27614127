"""Bad input, one test for each kind: a clear line, the right reason, nothing lost and nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap.errors import InputError
from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.shop.storage import read_rejected

from .logs import HEADER, START, csv, parquet, snapshot, table


def refused(tmp_path: Path, *given: object, **options: object) -> str:
    """The one line of the error; checks that the disk is as it was."""
    before = snapshot(tmp_path)
    with pytest.raises(InputError) as error:
        ingest(*given, shop=tmp_path / "shops" / "new", **options)
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "shops").exists()
    assert "\n" not in str(error.value)
    return str(error.value)


def reasons(tmp_path: Path, *lines: str, header: str = HEADER, **options: object) -> dict[int, str]:
    """Reason by line of a CSV with these lines behind a good one; checks that the counts add up."""
    file = csv(tmp_path / "log.csv", f"good,item,click,{START}", *lines, header=header)
    report = ingest(file, shop=tmp_path / "shop", max_rejected=1, **options)
    rejected = read_rejected(tmp_path / "shop")
    assert report.rows_kept + report.rows_rejected == report.rows_read == 1 + len(lines)
    assert report.rows_rejected == rejected.num_rows == sum(report.reasons.values())
    assert len(Shop.open(tmp_path / "shop").events) == report.rows_kept
    return dict(zip(rejected["line"].to_pylist(), rejected["reason"].to_pylist(), strict=True))


def test_an_empty_file(tmp_path):
    for name in ("log.csv", "log.parquet", "log.jsonl"):
        (tmp_path / name).write_bytes(b"")
        assert f"{name}: the file is empty" in refused(tmp_path, tmp_path / name)
    (tmp_path / "log.csv").write_text(" \n\n")
    assert "log.csv: the file is empty" in refused(tmp_path, tmp_path / "log.csv")


def test_what_is_neither_file_nor_folder(tmp_path):
    (tmp_path / "nowhere.csv").symlink_to("gone.csv")
    (tmp_path / "circle.csv").symlink_to("circle.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for given in ("nowhere.csv", "circle.csv", "pipe.csv", "now*.csv"):
        with pytest.raises(InputError, match="neither a file nor a directory"):
            ingest(tmp_path / given, shop=tmp_path / "shop")
    assert not (tmp_path / "shop").exists()


def test_numbers_that_their_column_cannot_hold(tmp_path):
    header = "user,item,interaction,time,quantity,position\n"
    lines = (f"u,i,purchase,{START},{values}" for values in ("1e39,1", "3e38,1", "1,3000000000", "inf,1", "1,-inf"))
    found = reasons(tmp_path, *lines, header=header)
    assert found == {2: "malformed row"} | dict.fromkeys((3, 5, 6, 7), "unparsable number")


def test_a_header_and_no_rows(tmp_path):
    assert "no event row is left to ingest, of 0 read" in refused(tmp_path, csv(tmp_path / "log.csv"))
    assert "no event row is left" in refused(tmp_path, _no_rows(tmp_path / "log.parquet"))


def _no_rows(path: Path) -> Path:
    pq.write_table(table(("a", "x", "click", 0)).slice(0, 0), path)
    return path


def test_wrong_columns(tmp_path):
    file = csv(tmp_path / "log.csv", "1,2,view,3", header="visitorid,itemid,event,timestamp\n")
    message = refused(tmp_path, file)
    assert "no column for user, item, interaction, time; it has visitorid, itemid, event, timestamp" in message
    assert "--columns visitorid=user,itemid=item,event=interaction,timestamp=time" in message


def test_a_duplicate_header(tmp_path):
    file = csv(tmp_path / "log.csv", "a,x,click,1,2", header="user,item,interaction,time,time\n")
    assert "the column 'time' stands twice in the header" in refused(tmp_path, file)


def test_a_directory_of_several_formats_or_none(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    assert "logs: a directory without event files" in refused(tmp_path, folder)
    csv(folder / "a.csv", f"a,x,click,{START}")
    (folder / "readme.md").write_text("hello")
    assert "files of one format" in refused(tmp_path, folder)
    parquet(tmp_path / "logs" / "b.parquet", ("a", "x", "click", 0))
    assert "logs/*.csv" not in refused(tmp_path, folder)


def test_files_that_are_not_there_or_of_no_known_format(tmp_path):
    assert "nowhere.csv: no such file" in refused(tmp_path, tmp_path / "nowhere.csv")
    (tmp_path / "log.xlsx").write_bytes(b"PK")
    assert "unknown format" in refused(tmp_path, tmp_path / "log.xlsx")
    assert "nothing to ingest" in refused(tmp_path, [])


@pytest.mark.parametrize("cut", [7, 300])
def test_a_truncated_parquet_file(tmp_path, cut):
    file = parquet(tmp_path / "log.parquet", *(("a", "x", "click", n) for n in range(2000)))
    file.write_bytes(file.read_bytes()[:-cut])
    assert "log.parquet: not a whole Parquet file" in refused(tmp_path, file)


def test_a_parquet_file_that_is_damaged_inside(tmp_path):
    file = parquet(tmp_path / "log.parquet", *((f"user {n}", f"item {n % 7}", "click", n) for n in range(5000)))
    content = bytearray(file.read_bytes())
    content[1000:9000] = bytes(8000)
    file.write_bytes(content)
    assert "log.parquet: cannot be read" in refused(tmp_path, file)


def test_a_truncated_compressed_file(tmp_path):
    import gzip
    import random

    rows = "".join(f"u{random.random()},x,click,{START}\n" for _ in range(3000))
    (tmp_path / "log.csv.gz").write_bytes(gzip.compress((HEADER + rows).encode())[:-2000])
    assert "log.csv.gz: cannot be read to its end" in refused(tmp_path, tmp_path / "log.csv.gz")


def test_a_line_of_100_megabytes(tmp_path):
    file = tmp_path / "log.csv"
    with file.open("wb") as stream:
        stream.write(f"{HEADER}a,x,click,{START}\nb,".encode())
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
        stream.write(f",click,{START}\nc,y,click,{START}\n".encode())
    report = ingest(file, shop=tmp_path / "shop", max_rejected=0.5)
    assert (report.rows_kept, report.reasons) == (2, {"malformed row": 1})
    rejected = read_rejected(tmp_path / "shop").to_pylist()
    assert rejected[0]["line"] == 3
    assert len(rejected[0]["raw"]) == 2000
    file.write_bytes(b"x" * 100_000_000)
    assert "the first line is no header" in refused(tmp_path, file)


def test_nul_bytes_and_other_control_characters(tmp_path):
    found = reasons(tmp_path, f"a\0,x,click,{START}", f"a,x\x1b,click,{START}", f"a,x,cl\0ick,{START}", "a,x,click,1\0")
    assert found == {
        3: "control character in id",
        4: "control character in id",
        5: "unknown interaction",
        6: "unparsable time",
    }


def test_bytes_that_are_no_utf8(tmp_path):
    file = tmp_path / "log.csv"
    file.write_bytes(HEADER.encode() + b"caf\xe9,x,click,1600000000\n" + "café,x,click,1600000000\n".encode())
    report = ingest(file, shop=tmp_path / "shop", max_rejected=0.5)
    assert report.reasons == {"malformed row": 1}
    assert Shop.open(tmp_path / "shop").users.ids.to_pylist() == ["café"]
    file.write_text(f"{HEADER}a,x,click,{START}\n", encoding="utf-16")
    assert "UTF-16 text; save it as UTF-8" in refused(tmp_path, file)


def test_rows_that_are_none(tmp_path):
    found = reasons(tmp_path, "a,x,click", f"a,x,click,{START},9", f'"a"b,x,click,{START}', f'a,"x,click,{START}')
    assert found == dict.fromkeys((3, 4, 5, 6), "malformed row")


def test_lines_are_counted_from_the_beginning_of_the_file(tmp_path):
    header = '\ufeff\n\n"user","item",interaction,time,"a\nname"\n'
    file = csv(tmp_path / "log.csv", f"a,x,click,{START},", f",x,click,{START},", header=header)
    ingest(file, shop=tmp_path / "shop", max_rejected=1)
    assert read_rejected(tmp_path / "shop")["line"].to_pylist() == [6]


def test_json_lines_that_are_no_objects(tmp_path):
    good = f'{{"user": "a", "item": "x", "interaction": "click", "time": {START}}}'
    bad = ["{", "[1]", "3", '"text"', "null", '{"user": "\\ud800"}', good[:-1] + ', "item": "x"']
    (tmp_path / "log.jsonl").write_text("\n".join([good, *bad, "", good]))
    report = ingest(tmp_path / "log.jsonl", shop=tmp_path / "shop", max_rejected=1)
    assert (report.rows_kept, report.reasons) == (2, {"malformed row": 7})
    (tmp_path / "array.json").write_text(f"[{good},\n{good}]")
    assert "no JSON object in the first lines" in refused(tmp_path, tmp_path / "array.json")


def test_missing_ids(tmp_path):
    found = reasons(tmp_path, f",x,click,{START}", f"a,,click,{START}", f"a,  ,click,{START}", f'a,"",click,{START}')
    assert found == {3: "missing user", 4: "missing item", 5: "missing item", 6: "missing item"}


def test_ids_that_are_long_unicode_or_numbers(tmp_path):
    longest, snowmen = "x" * 512, "☃" * 170
    lines = (f"a,{snowmen}☃,click,{START}", f"a,{longest}x,click,{START}", f"{'y' * 10_000},x,click,{START}")
    found = reasons(
        tmp_path, *lines, f"a,{longest},click,{START}", f"a,{snowmen},click,{START}", f"a,日本 語,click,{START}",
        f"a,007,click,{START}", f"a,12.0,click,{START}", f"a,1.50,click,{START}",
    )  # fmt: skip
    assert found == dict.fromkeys((3, 4, 5), "id too long")
    items = set(Shop.open(tmp_path / "shop").items.ids.to_pylist())
    assert items == {"item", longest, snowmen, "日本 語", "007", "12", "1.50"}


def test_prices_and_quantities(tmp_path):
    header = "user,item,interaction,time,price,quantity\n"
    file = csv(
        tmp_path / "log.csv",
        *(f"a,x,purchase,{START},{price},{quantity}" for price, quantity in
          (("1.5", "2"), ("", ""), ("0", "0"), ("-0.01", "1"), ("1", "-1"), ("abc", "1"), ("inf", "1"), ("nan", "1"))),
        header=header,
    )  # fmt: skip
    report = ingest(file, shop=tmp_path / "shop", max_rejected=1)
    assert report.reasons == {"unparsable number": 3, "negative price": 1, "negative quantity": 1}
    assert Shop.open(tmp_path / "shop").events.columns["price"].to_pylist() == [1.5, None, 0.0]


# -- times -------------------------------------------------------------------------------------------------------------

MOMENT = 1_599_999_999_123_456  # 2020-09-13T12:26:39.123456Z


WRITTEN = [
    ("1599999999", MOMENT // 1_000_000 * 1_000_000),
    ("1599999999.123456", MOMENT),
    ("1.599999999e9", MOMENT // 1_000_000 * 1_000_000),
    ("1599999999123", MOMENT // 1000 * 1000),
    ("1599999999123456", MOMENT),
    ("1599999999123456789", MOMENT),
    ("2020-09-13T12:26:39.123456Z", MOMENT),
    ("2020-09-13 12:26:39.123456", MOMENT),
    (" 2020-09-13 12:26:39.123456 ", MOMENT),
    ("2020-09-13T14:26:39.123456+02:00", MOMENT),
    ("2020-09-13T06:56:39.123456-0530", MOMENT),
    ("2020-09-13", 1_599_955_200_000_000),
    ("1970-01-02", "impossible time"),
    ("0", "impossible time"),
    ("86400", "impossible time"),
    ("2100-01-01T00:00:00Z", "impossible time"),
    ("4102444800", "impossible time"),
    ("-1", "impossible time"),
    ("9223372036854775807", "impossible time"),
    ("99999999999999999999999", "unparsable time"),
    ("1e300", "unparsable time"),
    ("", "unparsable time"),
    ("yesterday", "unparsable time"),
    ("infinity", "unparsable time"),
    ("-inf", "unparsable time"),
    ("nan", "unparsable time"),
    ("epoch", "unparsable time"),
    ("2020-13-01", "unparsable time"),
    ("2020-02-30T00:00:00", "unparsable time"),
    ("13/09/2020", "unparsable time"),
]


def test_times_as_text(tmp_path):
    lines = [f'{number},x,click,"{written}"' for number, (written, _) in enumerate(WRITTEN)]
    ingest(csv(tmp_path / "log.csv", *lines), shop=tmp_path / "shop", max_rejected=1)
    shop, rejected = Shop.open(tmp_path / "shop"), read_rejected(tmp_path / "shop")
    found: dict[int, object] = {
        int(shop.users[user]): int(time) for user, time in zip(shop.events.user, shop.events.time, strict=True)
    }
    found |= {
        line - 2: reason for line, reason in zip(*rejected.select(["line", "reason"]).to_pydict().values(), strict=True)
    }
    assert {WRITTEN[number][0]: found[number] for number in found} == dict(WRITTEN)


def test_times_of_every_type():
    second = MOMENT // 1_000_000
    columns = [
        pa.array([second], pa.int64()),
        pa.array([second], pa.int32()),
        pa.array([float(second)], pa.float64()),
        pa.array([second], pa.timestamp("s")),
        pa.array([second * 1000], pa.timestamp("ms", "UTC")),
        pa.array([second * 1_000_000], pa.timestamp("us", "America/New_York")),
        pa.array([second * 1_000_000_000], pa.timestamp("ns")),
    ]
    for column in columns:
        log = table(("a", "x", "click", 0)).set_column(3, "time", column)
        assert Shop.from_tables(log).events.time.tolist() == [second * 1_000_000], column.type


def test_days(tmp_path):
    log = table(("a", "x", "click", 0)).set_column(3, "time", pa.array([18_518], pa.date32()))
    assert Shop.from_tables(log).events.time.tolist() == [18_518 * 86_400_000_000]


def test_naive_times_are_those_of_the_time_zone_given():
    for column in (pa.array(["2020-07-01 12:00:00", "2020-07-01T12:00:00Z"]),):
        log = table(("a", "x", "click", 0), ("b", "x", "click", 0)).set_column(3, "time", column)
        shop = Shop.from_tables(log, timezone="Europe/Berlin")
        times = {shop.users[user]: int(time) for user, time in zip(shop.events.user, shop.events.time, strict=True)}
        assert times["b"] - times["a"] == 2 * 3_600_000_000
    naive = table(("a", "x", "click", 0)).set_column(3, "time", pa.array([0], pa.timestamp("s")))
    shop = Shop.from_tables(naive, timezone="Asia/Tokyo", earliest="1960-01-01")
    assert shop.events.time.tolist() == [-9 * 3_600_000_000]


def test_what_is_impossible_can_be_said():
    log = table(("a", "x", "click", -(10**9)), ("b", "x", "click", 0), ("c", "x", "click", 10**9))
    shop = Shop.from_tables(log, earliest="1980-01-01", latest="2020-12-31", max_rejected=0.5)
    assert (shop.n_users, shop.report.reasons) == (2, {"impossible time": 1})


# -- the share of bad rows ---------------------------------------------------------------------------------------------


def test_too_many_bad_rows_stop_everything_and_say_which(tmp_path):
    lines = [f"a,x,click,{START}"] * 6 + ["a,x,wink,1600000000"] * 3 + [f",x,click,{START}", f"a,,click,{START}"]
    file = csv(tmp_path / "log.csv", *lines)
    with pytest.raises(InputError) as error:
        ingest(file, shop=tmp_path / "shop", rejected=tmp_path / "rejected.parquet")
    message = str(error.value)
    assert "45.5% of the event rows are bad, more than --max-rejected 0.1" in message
    assert "3 x unknown interaction (e.g. " in message
    assert "log.csv line 8: user=a, item=x, interaction=wink, time=1600000000)" in message
    assert "1 x missing item" in message
    assert not (tmp_path / "shop").exists()
    assert pq.read_table(tmp_path / "rejected.parquet").num_rows == 5


def test_a_failed_append_leaves_the_shop_as_it_was(tmp_path):
    shop = tmp_path / "shop"
    ingest(csv(tmp_path / "good.csv", f"a,x,click,{START}"), shop=shop)
    before = snapshot(shop)
    for bad in (
        csv(tmp_path / "bad.csv", "a,x,wink,1600000000"),
        csv(tmp_path / "columns.csv", "1", header="other\n"),
        parquet(tmp_path / "log.parquet", ("a", "x", ["click"], 0)),
    ):
        with pytest.raises(InputError):
            ingest(bad, shop=shop)
        assert snapshot(shop) == before
    assert sorted(path.name for path in shop.iterdir()) == ["generation-000001", "manifest.json"]


def test_one_user_one_item_one_event(tmp_path):
    report = ingest(csv(tmp_path / "log.csv", f"a,x,purchase,{START}"), shop=tmp_path / "shop")
    assert (report.users, report.items, report.sessions, report.interactions) == (1, 1, 1, {"purchase": 1})
    shop = Shop.open(tmp_path / "shop")
    assert shop.history(0).items.tolist() == [0]
    assert shop.until(int(shop.events.time[0])).n_items == 0
    assert shop.until(int(shop.events.time[0]) + 1).n_items == 1


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.struct([("a", pa.string())])])
def test_ids_that_are_lists_or_structs(kind):
    value = ["x"] if pa.types.is_list(kind) else {"a": "x"}
    log = table(("a", "x", "click", 0)).set_column(1, "item", pa.array([value], kind))
    with pytest.raises(InputError, match=r"the column for item holds .* values; plain ids or texts are needed"):
        Shop.from_tables(log)


def test_what_is_no_table():
    with pytest.raises(InputError, match="events: not a table"):
        Shop.from_tables(3)
