"""Draining: every recorded event reaches the shop once, whatever interrupts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from endcap.errors import InputError
from endcap.jobs.drain import drain
from endcap.serve.events import EVENT_COLUMNS, ItemUpdate
from endcap.serve.state import LiveState
from endcap.shop import Shop
from endcap.shop.storage import read_rejected

NEWEST = 1_760_000_000_000_000


def row(number: int, **known: object) -> tuple:
    """One recorded event."""
    values = {
        "event_id": f"live {number}",
        "user": f"new user {number % 3}",
        "item": f"new item {number % 5}",
        "interaction": "click",
        "time": NEWEST + number * 1_000_000,
        **known,
    }
    return tuple(values.get(name) for name in EVENT_COLUMNS)


@pytest.fixture
def own_shop(shop_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_folder, tmp_path / "shop"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    with LiveState(path) as live:
        live.record([row(number) for number in range(20)]).result()
    return path


def test_recorded_events_are_in_the_shop_once(own_shop: Path, state: Path):
    before = Shop.open(own_shop)
    report = drain(state, own_shop, page=7)
    after = Shop.open(own_shop)
    assert (report.rows_read, report.rows_kept) == (20, 20)
    assert len(after.events) == len(before.events) + 20
    user = after.users.number("new user 1")
    assert user >= before.n_users
    assert after.items.decode(after.history(user).items) == [f"new item {number % 5}" for number in range(1, 20, 3)]
    assert after.history(user).times.tolist() == [NEWEST + number * 1_000_000 for number in range(1, 20, 3)]
    again = drain(state, own_shop)
    assert again.changed is False
    assert again.users == after.n_users
    assert len(Shop.open(own_shop).events) == len(after.events)


def test_killed_before_the_acknowledgement_nothing_comes_twice(own_shop: Path, state: Path, monkeypatch):
    """Neither an event that the shop holds nor one that it refused, though others have come since."""
    before = len(Shop.open(own_shop).events)
    with LiveState(state) as live:
        live.record([row(98, interaction="teleport")]).result()

    def killed(self: LiveState, up_to: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveState, "acknowledge", killed)
    with pytest.raises(KeyboardInterrupt):
        drain(state, own_shop)
    monkeypatch.undo()
    with LiveState(state) as live:
        live.record([row(20), row(99, interaction="teleport")]).result()
    report = drain(state, own_shop)
    assert (report.rows_read, report.rows_kept, report.changed) == (2, 1, True)
    assert len(Shop.open(own_shop).events) == before + 21
    refused = [text for text in read_rejected(own_shop)["raw"].to_pylist() if "teleport" in text]
    assert len(refused) == 2
    assert drain(state, own_shop).rows_read == 0


def test_killed_before_the_shop_is_written_nothing_is_lost(own_shop: Path, state: Path, monkeypatch):
    before = len(Shop.open(own_shop).events)

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("endcap.jobs.drain.ingest", killed)
    with pytest.raises(KeyboardInterrupt):
        drain(state, own_shop)
    monkeypatch.undo()
    with LiveState(state) as live:
        live.record([row(20), row(21, interaction="teleport")]).result()
    report = drain(state, own_shop)
    assert (report.rows_read, report.rows_kept, report.rows_rejected) == (22, 21, 1), "what was begun, and the others"
    assert sum(report.reasons.values()) == 1
    assert len(Shop.open(own_shop).events) == before + 21


def test_an_odd_event_is_quarantined_and_holds_up_nobody(own_shop: Path, tmp_path: Path):
    with LiveState(tmp_path / "odd.db") as live:
        live.record([row(0, interaction="teleport"), row(1)]).result()
    report = drain(tmp_path / "odd.db", own_shop)
    assert (report.rows_kept, report.rows_rejected) == (1, 1)
    assert drain(tmp_path / "odd.db", own_shop).rows_read == 0


def test_what_the_server_knows_of_items_is_folded_in(own_shop: Path, tmp_path: Path):
    known = Shop.open(own_shop)
    old_title = known.catalogue["title"][0].as_py()
    with LiveState(tmp_path / "items.db") as live:
        updates = [
            ItemUpdate(item="brand-new", title="A new lamp", category="home/light", price=9.5),
            ItemUpdate(item=known.items[0], price=1.25),
            ItemUpdate(item="only pinned", pinned=True),
        ]
        live.update_items(updates).result()
    drain(tmp_path / "items.db", own_shop)
    shop = Shop.open(own_shop)
    new = shop.catalogue.slice(shop.items.number("brand-new"), 1).to_pylist()[0]
    assert (new["title"], new["category"], new["price"]) == ("A new lamp", "home/light", 9.5)
    old = shop.catalogue.slice(0, 1).to_pylist()[0]
    assert (old["title"], old["price"]) == (old_title, 1.25)
    assert "only pinned" not in shop.items
    assert drain(tmp_path / "items.db", own_shop).changed is False


def test_a_state_that_is_not_there_is_not_made(own_shop: Path, tmp_path: Path, state: Path):
    with pytest.raises(InputError, match="no live state"):
        drain(tmp_path / "nowhere.db", own_shop)
    assert not (tmp_path / "nowhere.db").exists()
    with pytest.raises(InputError, match="not a shop folder"):
        drain(state, tmp_path / "no-shop")
    assert not (tmp_path / "no-shop").exists()
