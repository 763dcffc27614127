"""Whatever a log holds: every row is kept or refused, and a view is the shop that an earlier day would have seen."""

from __future__ import annotations

import csv
import io

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.shop.storage import read_rejected

from .logs import HEADER, START

garbage = st.text(max_size=8) | st.sampled_from(
    ["", " ", "-", "nan", '"', "\0", "1e999", "2100-01-01", "🛒", "\r", "a,b"]
)
ids = st.sampled_from(["a", "b", "c"]) | garbage
kinds = st.sampled_from(["click", "cart", "purchase", "search"]) | garbage
times = st.integers(START, START + 9).map(str) | garbage
FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@given(rows=st.lists(st.tuples(ids, ids, kinds, times), min_size=1, max_size=40), tail=st.text(max_size=30))
@FEW
def test_every_row_is_kept_or_refused(rows, tail, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    good = ("good", "item", "click", str(START))
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([good, *rows])
    (folder / "log.csv").write_bytes((HEADER + buffer.getvalue() + tail).encode("utf-8", "surrogatepass"))
    report = ingest(folder / "log.csv", shop=folder / "shop", max_rejected=1)
    rejected = read_rejected(folder / "shop")
    assert report.rows_read == report.rows_kept + report.rows_rejected
    assert len(rows) + 1 <= report.rows_read <= len(rows) + 1 + len(tail.splitlines())
    assert rejected.num_rows == report.rows_rejected == sum(report.reasons.values())
    assert len(set(rejected["line"].to_pylist())) == rejected.num_rows
    shop = Shop.open(folder / "shop")
    assert len(shop.events) == report.rows_kept >= 1
    assert (shop.events.item >= 0).all() or "search" in report.interactions


good_rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=40
)


def log_of(rows: list[tuple[int, int, int, int]]) -> pa.Table:
    """Rows as a log; a step of time is a quarter of an hour."""
    user, item, kind, step = np.array(rows).T
    names = np.array(["click", "favourite", "cart", "purchase"])
    columns = {"user": user, "item": item, "interaction": names[kind], "time": START + 900 * step}
    return pa.table(columns)


@given(rows=good_rows, step=st.integers(0, 13))
@FEW
def test_a_view_is_the_shop_that_never_saw_later_rows(rows, step):
    cut = (START + 900 * step) * 1_000_000
    view = Shop.from_tables(log_of(rows)).until(cut)
    early = [row for row in rows if row[3] < step]
    if not early:
        assert len(view.events) == view.n_items == view.n_users == 0
        return
    alone = Shop.from_tables(log_of(early))
    assert view.items.ids.to_pylist() == alone.items.ids.to_pylist()
    assert view.users.ids.to_pylist() == alone.users.ids.to_pylist()
    for name in ("user", "item", "interaction", "time"):
        assert np.array_equal(getattr(view.events, name), getattr(alone.events, name)), name
    _, cuts = np.unique(view.events.session, return_index=True)
    assert np.array_equal(cuts, np.unique(alone.events.session, return_index=True)[1])
    assert view.catalogue["item"].to_pylist() == view.items.ids.to_pylist()


@given(rows=good_rows, seed=st.integers(0, 5))
@FEW
def test_the_order_of_rows_decides_between_equal_moments_only(rows, seed):
    rows = list({(user, step): (user, item, kind, step) for user, item, kind, step in rows}.values())
    shuffled = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    one, other = Shop.from_tables(log_of(rows)), Shop.from_tables(log_of(shuffled))
    assert one.items.fingerprint() == other.items.fingerprint()
    for name in ("user", "item", "interaction", "time", "session"):
        assert np.array_equal(getattr(one.events, name), getattr(other.events, name)), name


@given(values=st.lists(garbage | st.none(), min_size=1, max_size=30), column=st.sampled_from(["user", "item", "time"]))
@FEW
def test_no_text_breaks_a_column(values, column):
    rows = {"user": ["a"], "item": ["x"], "interaction": ["click"], "time": [str(START)]}
    cells = {name: [value[0], *(values if name == column else value * len(values))] for name, value in rows.items()}
    table = pa.table(cells)
    shop = Shop.from_tables(table, max_rejected=1)
    assert shop.report.rows_read == 1 + len(values)
    assert len(shop.events) == shop.report.rows_kept
