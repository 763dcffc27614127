"""The live state keeps what it acknowledged, once, for all processes that share it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.serve.events import Event, EventRow, ItemUpdate, event_row, now_us
from endcap.serve.state import LiveState

NOW = 1_795_000_000_000_000


def row(user: str, item: str, interaction: str = "click", time: int = NOW, event_id: str | None = None) -> EventRow:
    return event_row(Event(user=user, item=item, interaction=interaction, time=time, event_id=event_id), NOW)


def update(**fields: object) -> ItemUpdate:
    return msgspec.convert(fields, ItemUpdate)


def test_a_large_file_is_not_read_through_at_every_start(tmp_path: Path, monkeypatch, caplog) -> None:
    """A damaged index is found in a small one; a large one is opened, and that it was not checked is said."""
    with LiveState(tmp_path / "state.db") as state:
        state.record([row(f"u{n}", f"i{n}", event_id=f"e{n}") for n in range(500)]).result()
    content = bytearray((tmp_path / "state.db").read_bytes())
    content[-4096:] = bytes(4096)
    (tmp_path / "state.db").write_bytes(content)
    with pytest.raises(DamagedArtefact, match=r"state\.db: damaged"):
        LiveState(tmp_path / "state.db")
    assert not caplog.messages
    monkeypatch.setattr("endcap.serve.state.CHECKED_UP_TO", 1_000)
    LiveState(tmp_path / "state.db").close()
    assert "quick_check" in caplog.text


def test_a_row_of_another_type_is_damage(state: LiveState) -> None:
    state.record([row("u", "i")]).result()
    state._submit(lambda connection: connection.execute("UPDATE events SET quantity = 'many'")).result()
    with pytest.raises(DamagedArtefact, match=r"state\.db: a recorded event is damaged"):
        state.pending_events()


def test_damage_that_sqlite_cannot_even_quote_is_named(tmp_path: Path) -> None:
    """Its message holds the broken letters of the table's definition, which are no UTF-8."""
    LiveState(tmp_path / "state.db").close()
    content = (tmp_path / "state.db").read_bytes()
    (tmp_path / "state.db").write_bytes(content.replace(b"CREATE TABLE items (", b"CREATE TABLE items \xac"))
    with pytest.raises(DamagedArtefact, match=r"state\.db: damaged"):
        LiveState(tmp_path / "state.db")


def test_a_claim_stands_until_it_is_acknowledged(state: LiveState) -> None:
    state.record([row("u", f"i{n}") for n in range(3)]).result()
    assert state.claim() == (3, False)
    state.record([row("u", "later")]).result()
    assert state.claim() == (3, True)
    assert state.pending_events(up_to=3)["item"].to_pylist() == ["i0", "i1", "i2"]
    state.acknowledge(3)
    assert state.claim() == (4, False)
    state.acknowledge(4)
    assert state.claim() == (4, False)


def test_recent_events_come_back_in_order_of_time(state: LiveState) -> None:
    state.record(
        [row("u", "late", time=NOW + 2), row("u", "early", time=NOW), row("v", "other", time=NOW + 1)]
    ).result()
    assert [action.item for action in state.recent("u")] == ["early", "late"]


def test_recent_is_bounded_to_the_latest(state: LiveState) -> None:
    state.record([row("u", f"i{n}", time=NOW + n) for n in range(300)]).result()
    assert [action.item for action in state.recent("u", 2)] == ["i298", "i299"]
    assert len(state.recent("u")) == 200


def test_recent_searches_come_back_with_their_times(state: LiveState) -> None:
    asked = [
        event_row(Event(user=user, interaction="search", query=f"tent {n}", time=NOW + n), NOW)
        for user, n in (("u", 2), ("u", 1), ("v", 4), ("u", 3))
    ]
    state.record([row("u", "i0"), *asked]).result()
    assert state.searches("u") == (("tent 1", NOW + 1), ("tent 2", NOW + 2), ("tent 3", NOW + 3))
    assert state.searches("u", 1) == (("tent 3", NOW + 3),)
    assert state.searches("nobody") == ()
    state.forget("u", 0)
    assert state.searches("u") == ()


def test_an_event_id_counts_once(state: LiveState) -> None:
    assert state.record([row("u", "a", event_id="e1"), row("u", "b", event_id="e1")]).result() == 1
    assert state.record([row("u", "c", event_id="e1"), row("u", "d", event_id="e2")]).result() == 1
    assert [action.item for action in state.recent("u")] == ["a", "d"]


def test_acknowledged_events_survive_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    program = (
        "from endcap.serve.state import LiveState\n"
        "from endcap.serve.events import Event, event_row, now_us\n"
        f"state = LiveState({str(path)!r})\n"
        "for n in range(10**9):\n"
        "    event = Event(user='u', item=f'i{n}', interaction='click')\n"
        "    state.record([event_row(event, now_us())]).result(); print(n, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    acknowledged = -1
    while acknowledged < 20:
        acknowledged = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
    writer.wait()
    with LiveState(path) as state:
        assert state.pending_events()["item"].to_pylist()[: acknowledged + 1] == [
            f"i{n}" for n in range(acknowledged + 1)
        ]


def test_pending_events_are_drained_once(state: LiveState) -> None:
    state.record([row("u", f"i{n}") for n in range(5)]).result()
    first = state.pending_events(limit=3)
    assert first["item"].to_pylist() == ["i0", "i1", "i2"]
    assert first.schema.field("time").type == pa.timestamp("us", tz="UTC")
    assert first["time"].cast(pa.int64()).to_pylist() == [NOW] * 3
    state.acknowledge(first["seq"].to_pylist()[-1])
    assert state.pending_events()["item"].to_pylist() == ["i3", "i4"]
    state.acknowledge(1)  # an older acknowledgement takes nothing back
    assert len(state.pending_events()) == 2
    assert len(state.recent("u")) == 5, "drained events count until a release has them"


def test_no_pending_events_are_an_empty_table(state: LiveState) -> None:
    assert len(state.pending_events()) == 0
    assert "event_id" in state.pending_events().column_names


def test_drained_events_go_after_a_fortnight_by_their_arrival(
    state: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.record([row("u", "old")]).result()
    later = now_us() + 15 * 86_400_000_000
    monkeypatch.setattr("endcap.serve.state.now_us", lambda: later)
    state.record([row("u", "new")]).result()
    state.acknowledge(2)
    assert [action.item for action in state.recent("u")] == ["new"]


def test_two_processes_see_each_others_writes(tmp_path: Path) -> None:
    with LiveState(tmp_path / "s.db") as one, LiveState(tmp_path / "s.db") as other:
        one.record([row("u", "a")]).result()
        other.record([row("u", "b", time=NOW + 1)]).result()
        assert [action.item for action in one.recent("u")] == ["a", "b"]
        one.update_items([update(item="x", price=1.0)]).result()
        other.update_items([update(item="x", in_stock=False)]).result()
        changes, version = one.item_changes()
        assert changes == [update(item="x", price=1.0, in_stock=False)]
        assert one.item_changes(version) == ([], version)


def test_item_changes_merge_and_null_takes_back(state: LiveState) -> None:
    state.update_items([update(item="x", price=1.0, title="A"), update(item="y", in_stock=False)]).result()
    _, version = state.item_changes()
    state.update_items([update(item="x", price=None)]).result()
    changes, _ = state.item_changes(version)
    assert changes == [update(item="x", price=None, title="A")]
    assert state.live_items().select(["item", "title", "price", "in_stock"]).to_pylist() == [
        {"item": "y", "title": None, "price": None, "in_stock": False},
        {"item": "x", "title": "A", "price": None, "in_stock": None},
    ]


def test_many_threads_lose_nothing(state: LiveState) -> None:
    def post(thread: int) -> int:
        return sum(
            state.record([row(f"u{thread}", f"i{n}", event_id=f"{thread}-{n % 50}")]).result() for n in range(60)
        )

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(post, range(8))) == 8 * 50
    assert state.count_events() == 8 * 50


def test_a_failed_write_tells_and_undoes_only_itself(state: LiveState) -> None:
    broken = state.record([("e", None, "i", "click", NOW, *(None,) * 9)])  # a user is needed
    fine = state.record([row("u", "a")])
    assert fine.result() == 1
    with pytest.raises(Exception, match="NOT NULL"):
        broken.result()
    assert state.count_events() == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_nothing_is_acknowledged_once_the_file_is_gone(tmp_path: Path, replaced: bool) -> None:
    with LiveState(tmp_path / "state.db") as state:
        state.record([row("u", "kept")]).result()
        (tmp_path / "state.db").rename(tmp_path / "aside.db")
        if replaced:
            LiveState(tmp_path / "state.db").close()
        with pytest.raises(EndcapError, match=r"state\.db: not written \(the file was deleted or replaced"):
            state.record([row("u", "lost")]).result()
        if not replaced:
            (tmp_path / "aside.db").rename(tmp_path / "state.db")
            assert state.record([row("u", "again")]).result() == 1


def test_a_closed_state_refuses_to_write(tmp_path: Path) -> None:
    state = LiveState(tmp_path / "s.db")
    state.close()
    with pytest.raises(EndcapError, match="closed"):
        state.record([row("u", "a")])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_text("not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(InputError, match="live state"):
        LiveState(tmp_path / "s.db")
    with pytest.raises(InputError, match="live state"):
        LiveState(tmp_path / "no" / "folder" / "s.db")


def test_a_state_of_a_newer_endcap_is_refused(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "s.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="99"):
        LiveState(tmp_path / "s.db")
