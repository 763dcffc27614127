"""The daily loop: drains, trains what is due, gates, publishes, and goes on where one model cannot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from endcap.artefact import exclusive, read_manifest
from endcap.errors import EndcapError, InputError
from endcap.jobs.publish import publish
from endcap.jobs.refresh import WORKSHOP, refresh
from endcap.models.counts import CoOccurrence
from endcap.release import Release, live, releases
from endcap.serve.events import EVENT_COLUMNS
from endcap.serve.state import LiveState
from endcap.shop import Shop

DAY = 86_400_000_000


@pytest.fixture
def own_shop(shop_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shop_folder, tmp_path / "shop"))


@pytest.fixture(scope="module")
def published(shop_folder: Path, trained: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases, the live one a week old in training. Only for reading."""
    folder = tmp_path_factory.mktemp("published") / "releases"
    publish([trained["good"], trained["poor"]], shop_folder, folder)
    return folder


@pytest.fixture
def shelf(published: Path, tmp_path: Path) -> Path:
    """Releases of one's own."""
    return Path(shutil.copytree(published, tmp_path / "releases"))


def record(state: Path, user: str, items: list[str], start: int) -> None:
    """Record one click a minute."""
    with LiveState(state) as live_state:
        rows = []
        for number, item in enumerate(items):
            known = {"event_id": f"{user} {number}", "user": user, "item": item, "interaction": "click"}
            known |= {"time": start + number * 60_000_000}
            rows.append(tuple(known.get(name) for name in EVENT_COLUMNS))
        live_state.record(rows).result()


def opened(shelf: Path) -> Release:
    return Release.open(shelf / live(shelf))


def test_the_live_models_are_trained_again_with_their_own_settings(own_shop: Path, shelf: Path):
    before = opened(shelf)
    report = refresh(own_shop, shelf)
    after = opened(shelf)
    assert {name: row.action for name, row in report.models.items()} == {
        "co-occurrence": "trained",
        "popularity": "trained",
    }
    assert after.name == report.published.release != before.name
    end = int(Shop.open(own_shop).events.time.max()) + 1
    for name, row in after.manifest["models"].items():
        assert row["config"] == before.manifest["models"][name]["config"]
        assert before.manifest["models"][name]["trained_until"] < row["trained_until"] <= end - DAY
    assert list((shelf / WORKSHOP).iterdir()) == []
    assert {info.name for info in releases(shelf)} == {before.name, after.name}


def test_without_news_nothing_happens(own_shop: Path, shelf: Path):
    first = refresh(own_shop, shelf)
    second = refresh(own_shop, shelf)
    assert second.published is None
    assert {row.action for row in second.models.values()} == {"kept"}
    assert live(shelf) == first.published.release


def test_new_events_reach_histories_and_popularity_though_no_model_is_due(own_shop: Path, shelf: Path, tmp_path: Path):
    refresh(own_shop, shelf)
    shop = Shop.open(own_shop)
    favourite = shop.items[int(opened(shelf).popular(0)[-1])]
    record(tmp_path / "state.db", "late guest", [favourite] * 30, int(shop.events.time.max()) + 60_000_000)
    report = refresh(own_shop, shelf, from_live=tmp_path / "state.db")
    assert report.drained.rows_kept == 30
    assert {row.action for row in report.models.values()} == {"kept"}
    release = opened(shelf)
    assert len(release.history(release.users.number("late guest"))) == 30
    assert release.items[int(release.popular(0)[-1])] != favourite
    assert release.watermark == int(shop.events.time.max()) + 30 * 60_000_000


def test_a_model_is_due_when_the_log_has_moved_on(own_shop: Path, shelf: Path, tmp_path: Path):
    refresh(own_shop, shelf)
    shop = Shop.open(own_shop)
    record(tmp_path / "state.db", "guest", [shop.items[0]], int(shop.events.time.max()) + 2 * DAY)
    plan = {"models": {"co-occurrence": {"every": "30d"}, "popularity": {"every": "1d"}}}
    report = refresh(own_shop, shelf, from_live=tmp_path / "state.db", settings=plan)
    assert {name: row.action for name, row in report.models.items()} == {
        "co-occurrence": "kept",
        "popularity": "trained",
    }
    assert "not due" in report.models["co-occurrence"].why


def test_a_gap_in_the_log_makes_no_model_due_for_ever(own_shop: Path, shelf: Path, tmp_path: Path):
    """A year without events: what a model could be trained on has not grown."""
    shop = Shop.open(own_shop)
    record(tmp_path / "state.db", "guest", [shop.items[0]], int(shop.events.time.max()) + 365 * DAY)
    refresh(own_shop, shelf, from_live=tmp_path / "state.db")
    assert refresh(own_shop, shelf).published is None


def test_other_settings_make_a_model_due(own_shop: Path, shelf: Path):
    refresh(own_shop, shelf)
    plan = {"models": {"co-occurrence": {"settings": {"k": 50}}, "popularity": {}}}
    report = refresh(own_shop, shelf, settings=plan)
    assert {name: row.action for name, row in report.models.items()} == {
        "co-occurrence": "trained",
        "popularity": "kept",
    }


def test_a_plan_makes_the_first_release(own_shop: Path, tmp_path: Path):
    plan = {"models": {"weekly": {"system": "als", "settings": {"factors": 4}}}, "hold_out": "none"}
    refresh(own_shop, tmp_path / "releases", settings=plan)
    row = opened(tmp_path / "releases").manifest["models"]["weekly"]
    assert (row["system"], row["config"]["factors"]) == ("als", 4)
    assert row["trained_until"] == int(Shop.open(own_shop).events.time.max()) + 1


def test_relations_go_on_by_the_plan_or_their_loss_is_told(own_shop: Path, tmp_path: Path):
    pytest.importorskip("torch")
    items = Shop.open(own_shop).items
    (tmp_path / "links.csv").write_text(f"item,other,relation\n{items[0]},{items[1]},complement\n")
    quick = {"dim": 4, "epochs": 1, "batch_size": 4096, "text": "none", "complement": "none", "score_by": "network"}
    plan = {"system": "cross-sell", "settings": quick, "relations": str(tmp_path / "links.csv")}
    first = refresh(own_shop, tmp_path / "releases", settings={"models": {"x": plan}})
    assert (first.models["x"].action, first.models["x"].why) == ("trained", "")
    folder = opened(tmp_path / "releases").model_folders["x"]
    assert read_manifest(folder, kind="model")["learned"]["relations"] == 1
    other = plan | {"relations": "", "settings": quick | {"dim": 2}}
    lenient = {"margin": 1.0, "coverage": 0.0}
    second = refresh(own_shop, tmp_path / "releases", settings={"models": {"x": other}, "gate": lenient})
    assert second.models["x"].action == "trained"
    assert second.models["x"].why.startswith("without the 1 relations that the live one was given")
    with pytest.raises(InputError, match="relations: als learns from the log alone"):
        refresh(own_shop, tmp_path / "releases", settings={"models": {"x": plan | {"system": "als", "settings": {}}}})


def test_a_model_that_fails_stays_as_it_is_and_the_others_go_on(own_shop: Path, shelf: Path, monkeypatch):
    before = opened(shelf).manifest["models"]["co-occurrence"]

    def fail(self, shop, **options):
        raise EndcapError("out of counts")

    monkeypatch.setattr(CoOccurrence, "_fit", fail)
    report = refresh(own_shop, shelf)
    assert report.models["co-occurrence"].action == "failed"
    assert report.problems == ["co-occurrence: out of counts"]
    after = opened(shelf).manifest["models"]
    assert after["co-occurrence"] == before
    assert after["popularity"]["trained_until"] > before["trained_until"]


def test_a_model_that_the_gate_refuses_stays_as_it_is(own_shop: Path, tmp_path: Path, trained: dict[str, Path]):
    shelf = tmp_path / "releases"
    publish({"main": trained["good"]}, own_shop, shelf)
    plan = {"models": {"main": {"system": "popularity"}, "other": {"system": "popularity"}}}
    report = refresh(own_shop, shelf, settings=plan)
    assert {name: row.action for name, row in report.models.items()} == {"main": "refused", "other": "trained"}
    assert "worse" in report.models["main"].why
    found = opened(shelf).manifest["models"]
    assert (found["main"]["system"], found["other"]["system"]) == ("co-occurrence", "popularity")


def test_a_killed_refresh_leaves_the_live_release_and_the_next_one_cleans_up(own_shop, shelf, monkeypatch):
    before = live(shelf)

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("endcap.jobs.refresh.publish", killed)
    with pytest.raises(KeyboardInterrupt):
        refresh(own_shop, shelf)
    monkeypatch.undo()
    assert live(shelf) == before
    refresh(own_shop, shelf)
    assert live(shelf) != before
    assert list((shelf / WORKSHOP).iterdir()) == []


def test_a_second_refresh_gives_up(own_shop: Path, shelf: Path):
    with exclusive(shelf / WORKSHOP, "a refresh"), pytest.raises(EndcapError, match="another process"):
        refresh(own_shop, shelf)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modles": {}}, "did you mean 'models'"),
        ({"models": {"a": {"system": "magic"}}}, "no system 'magic'"),
        ({"models": {"als": {"settings": {"factor": 3}}}}, "did you mean 'factors'"),
        ({"models": {"../als": {"system": "als"}}}, "cannot be a name"),
        ({"models": {"als": {"evry": "1d"}}}, "evry"),
        ({"models": {"als": {"every": "often"}}}, "not a duration"),
        ({"models": {"als": {"relations": "no.csv"}}}, "relations no.csv: a Parquet or CSV file is needed"),
        ({"gate": {"margins": 0.1}}, "margins"),
        ({"hold_out": "some"}, "not a duration"),
        ({"keep": "many"}, "keep"),
        ({"keep": 0}, "keep"),
    ],
)
def test_a_setting_that_cannot_be_is_an_error_before_anything_is_done(own_shop, shelf, tmp_path, settings, message):
    before = live(shelf)
    record(tmp_path / "state.db", "guest", ["an item"], 1_760_000_000_000_000)
    with pytest.raises(InputError, match=message):
        refresh(own_shop, shelf, from_live=tmp_path / "state.db", settings=settings)
    assert live(shelf) == before
    with LiveState(tmp_path / "state.db") as state:
        assert len(state.pending_events()) == 1


def test_there_is_something_to_refresh_or_an_error(own_shop: Path, shelf: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"refresh\.toml"):
        refresh(own_shop, tmp_path / "empty")
    with pytest.raises(InputError, match="not a shop folder"):
        refresh(tmp_path / "nowhere", shelf)
