"""Forgetting: no byte of a person is left anywhere, nobody else loses anything, and it may be stopped at any point."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap import cli, models
from endcap.artefact import exclusive
from endcap.errors import EndcapError, InputError
from endcap.jobs.drain import DRAINING, drain
from endcap.jobs.forget import ForgetReport, forget
from endcap.jobs.publish import publish
from endcap.jobs.refresh import WORKSHOP
from endcap.models.checkpoint import Checkpoint
from endcap.release import Release, live, releases
from endcap.release.shelf import WHAT
from endcap.serve.answerer import answer
from endcap.serve.events import EVENT_COLUMNS
from endcap.serve.questions import Question
from endcap.serve.serving import Serving
from endcap.serve.state import SCRUB, LiveState
from endcap.serve.surfaces import DEFAULT_SURFACES
from endcap.shop import Shop
from endcap.shop.ingest import ingest
from endcap.shop.storage import EVENTS, current_generation, only_writer, read_parts, read_rejected

PERSON = "Zoë Person-4f1c9a7e"
MARK = "4f1c9a7e"  # in the person's id, and in all that they did
START, MINUTE = 1_790_000_000_000_000, 60_000_000
N_USERS, N_ITEMS = 30, 53
SYSTEMS = {"popularity": {}, "als": {"factors": 4}, "item-interaction": {"dim": 8, "epochs": 2}}


def log() -> list[dict[str, object]]:
    """Clicks, carts and purchases of 30 people, and of one in the middle whose every text is marked."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for number in range(N_USERS):
        user = PERSON if number == 10 else f"user {number}"
        tag = MARK if number == 10 else f"{number}"
        for step, item in enumerate(rng.integers(0, N_ITEMS, 12).tolist()):
            rows.append(
                {
                    "user": user,
                    "item": f"item {item}",
                    "interaction": ("click", "click", "cart", "purchase")[step % 4],
                    "time": START + (number * 40 + step) * MINUTE,
                    "session": f"session-{tag}-{step // 6}",
                    "order": f"order-{tag}" if step % 4 == 3 else None,
                    "event_id": f"event-{tag}-{step}",
                    "query": None,
                    "request_id": f"request-{tag}",
                }
            )
        search = {"interaction": "search", "item": None, "query": f"query-{tag}", "event_id": f"event-{tag}-s"}
        rows.append(rows[-1] | search)
    return rows


def rejected_rows(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows that cannot be kept: two that name the person, one that names a session of theirs only, one of another."""
    mine = next(row for row in rows if row["user"] == PERSON)
    other = next(row for row in rows if row["user"] == "user 3")
    changes = [{"time": 1}, {"interaction": "look"}, {"user": None}]
    return [*({**mine, "event_id": None, **change} for change in changes), {**other, "event_id": None, "time": 1}]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder: a shop of two generations with rejects, models and their checkpoints, two releases, and a live
    state of which half is drained. The sources lie elsewhere: they are not endcap's.
    """
    sources, folder = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("work")
    rows = log()
    for number, part in enumerate((rows, rejected_rows(rows))):
        pq.write_table(pa.Table.from_pylist(part, pa.Table.from_pylist(rows).schema), sources / f"{number}.parquet")
    (sources / "2.csv").write_text(
        f'user,item,interaction,time\n"{PERSON}",item 1,"click\nuser 4,item 1,click,1790000000\n'
    )
    ingest([str(sources / "0.parquet")], shop=folder / "shop")
    ingest([str(path) for path in sorted(sources.glob("[12].*"))], shop=folder / "shop", max_rejected=1.0)
    shop = Shop.open(folder / "shop")
    for name, settings in SYSTEMS.items():
        model = models.create(name, settings).fit(shop)
        model.save(folder / "models" / name)
        Checkpoint(folder / "models" / f".{name}.training", {}).save(1, model._arrays(), now=True)
    for _ in range(2):
        publish([folder / "models" / "popularity", folder / "models" / "als"], folder / "shop", folder / "releases")
    with LiveState(folder / "state.db") as state:
        state.record([recorded(f"first-{number}", number) for number in range(40)]).result()
        drain(folder / "state.db", folder / "shop")
        state.record([recorded(f"second-{number}", number) for number in range(40)]).result()
    leave_behind(folder)
    return folder


def recorded(name: str, number: int) -> tuple:
    """An event as the server takes it; every fourth is the person's."""
    mine = number % 4 == 0
    tag = MARK if mine else f"{number}"
    known = {
        "event_id": f"live-{tag}-{name}",
        "user": PERSON if mine else f"user {number}",
        "item": f"item {number % N_ITEMS}",
        "interaction": "click",
        "time": START + (2000 + number) * MINUTE,
        "session": f"live-session-{tag}",
        "request_id": f"live-request-{tag}",
        "query": f"live-query-{tag}" * 20,
    }
    return tuple(known.get(column) for column in EVENT_COLUMNS)


def leave_behind(folder: Path) -> None:
    """What killed jobs leave: a drain, an ingest, a publish, a refresh."""
    for left in (f"shop/{DRAINING}", "shop/.staging.x.building", f"releases/{WORKSHOP}/als",
                 "releases/.20260101T000000-abcdef.x.building"):  # fmt: skip
        (folder / left).mkdir(parents=True, exist_ok=True)
        (folder / left / "left").write_text(PERSON, encoding="utf-8")


@pytest.fixture(autouse=True)
def plain_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some builds of SQLite overwrite what is deleted, some do not: here none does."""
    connect = LiveState._connect

    def plainly(self: LiveState) -> sqlite3.Connection:
        connection = connect(self)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(LiveState, "_connect", plainly)


@pytest.fixture
def work(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "work"))


@pytest.fixture
def server_state(work: Path) -> Iterator[LiveState]:
    """The live state as a running server holds it open."""
    with LiveState(work / "state.db") as state:
        state.recent(PERSON)
        yield state


def forget_all(work: Path) -> ForgetReport:
    return forget(PERSON, work / "shop", state=work / "state.db", to=work / "releases")


def found_in(folder: Path) -> set[str]:
    """Files that hold a text of the person: in their bytes, or in what a Parquet file says when it is read."""
    marks = [text.encode(code) for text in (MARK, PERSON) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    holding = set()
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        said = path.read_bytes()
        if path.suffix == ".parquet":
            said += repr(pq.read_table(path).to_pylist()).encode()
        if any(mark in said for mark in marks):
            holding.add(str(path.relative_to(folder)))
    return holding


def test_the_search_finds_the_person_everywhere_before(work: Path, server_state: LiveState) -> None:
    found = found_in(work)
    for part in ("events", "users", "rejected"):
        assert sum(name.startswith("shop/generation-") and name.endswith(f"{part}.parquet") for name in found) >= 1
    assert sum(name.startswith("releases/2") and name.endswith("users.parquet") for name in found) == 2
    assert "state.db" in found
    assert {"shop/.draining/left", "shop/.staging.x.building/left", "releases/.refresh/als/left"} <= found
    assert not [name for name in found if "models" in name], "no model holds a person"


def test_no_byte_of_a_person_is_left_while_a_server_runs(work: Path, server_state: LiveState) -> None:
    report = forget_all(work)
    assert found_in(work) == set()
    assert (report.events, report.recorded, len(report.releases)) == (13 + 10, 20, 2)
    assert report.rejected == 4
    assert report.published == live(work / "releases")
    assert [info.name for info in releases(work / "releases", check=True)] == [report.published]
    assert server_state.recent(PERSON) == []


def also_slow(*steps: str) -> list[object]:
    """Steps of which others tell nearly the same: run with the slow tests."""
    return [pytest.param(step, marks=pytest.mark.slow) for step in steps]


LEFT_OUT = [
    "endcap.jobs.forget._forget_live",
    "endcap.serve.state.LiveState.scrub",
    "endcap.jobs.forget.forget_in_shop",
    "endcap.shop.forget.remove_old_generations",
    "endcap.shop.forget.blank_rejected",
    "endcap.shop.forget._with_tombstone",
    "endcap.shop.forget._events_without",
    "endcap.jobs.forget._forget_releases",
    "endcap.jobs.forget.remove",
    "endcap.artefact._empty",
    "VACUUM",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    *also_slow("endcap.shop.forget._write_without", "endcap.release.shelf.sweep", "endcap.shop.storage._clear"),
]


@pytest.mark.parametrize("step", LEFT_OUT)
def test_each_step_is_needed(work: Path, server_state: LiveState, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search must find the person again where any one step is left out: else it would prove nothing."""
    instead = {
        "blank_rejected": lambda rows, names: rows,
        "_with_tombstone": lambda users, number: users,
        "_events_without": lambda old, *_: read_parts(old.folder / EVENTS),
    }
    if step in SCRUB:
        monkeypatch.setattr("endcap.serve.state.SCRUB", tuple(other for other in SCRUB if other != step))
    else:
        monkeypatch.setattr(step, instead.get(step.rpartition(".")[2], lambda *_, **__: None))
    with suppress(EndcapError):  # some steps notice that the one before them did nothing
        forget_all(work)
    assert found_in(work)


# -- nobody else loses anything ----------------------------------------------------------------------------------------


def test_everybody_else_keeps_number_events_and_answers(work: Path, server_state: LiveState) -> None:
    before, old_release = Shop.open(work / "shop"), live(work / "releases")
    ask = [Question(user=f"user {number}", k=10) for number in (0, 9, 11, 29)]
    answers = [answer(one, Serving.open(work / "releases" / old_release, DEFAULT_SURFACES)).items for one in ask]
    forget_all(work)
    after = Shop.open(work / "shop")
    number = before.users.number(PERSON)
    assert (after.n_users, after.n_items) == (before.n_users, before.n_items)
    assert after.users.number(PERSON) == -1
    for other in range(before.n_users):
        if other != number:
            assert after.users[other] == before.users[other]
            for name in ("items", "interactions", "times"):
                np.testing.assert_array_equal(getattr(after.history(other), name), getattr(before.history(other), name))
    mask = before.events.user != number
    assert len(after.history(number)) == 0
    assert len(after.events) == mask.sum()
    assert after.events.columns.equals(before.events.columns.filter(pa.array(mask)))
    same_session = before.events.session[mask]
    assert len(np.unique(np.stack([after.events.session, same_session]), axis=1)[0]) == len(np.unique(same_session))
    np.testing.assert_array_equal(np.unique(after.events.session), np.arange(len(np.unique(same_session))))
    assert after.catalogue.equals(before.catalogue)
    new = Serving.open(work / "releases" / live(work / "releases"), DEFAULT_SURFACES)
    assert [answer(one, new).items for one in ask] == answers


def test_the_shop_says_what_it_holds_now(work: Path) -> None:
    forget_all(work)
    shop, about = Shop.open(work / "shop"), current_generation(work / "shop").about
    assert about["users"] == shop.n_users - 1
    assert about["sessions"] == int(shop.events.session.max()) + 1
    assert sum(about["interactions"].values()) == len(shop.events)
    assert about["interactions"]["purchase"] == 29 * 3
    rejected = read_rejected(work / "shop").to_pylist()
    assert sum(row["raw"] is None for row in rejected) == 4
    assert any("user 3" in (row["raw"] or "") for row in rejected), "others' rows keep their text"
    assert all(row["reason"] and row["line"] for row in rejected)
    report = ingest_again(work, "after")
    assert report.users == shop.n_users, "one is new, one is forgotten"


def ingest_again(work: Path, name: str, user: str = "somebody new"):
    row = {"user": user, "item": "item 1", "interaction": "click", "time": START + 9000 * MINUTE}
    pq.write_table(pa.Table.from_pylist([row]), work.parent / f"{name}.parquet")
    return ingest([str(work.parent / f"{name}.parquet")], shop=work / "shop", max_rejected=1.0)


def test_who_comes_back_is_somebody_new(work: Path, server_state: LiveState) -> None:
    old_number = Shop.open(work / "shop").users.number(PERSON)
    forget_all(work)
    server_state.record([recorded("back", 0)]).result()
    drain(work / "state.db", work / "shop")
    shop = Shop.open(work / "shop")
    number = shop.users.number(PERSON)
    assert number == shop.n_users - 1 > old_number
    assert len(shop.history(number)) == 1
    publish([work / "models" / "popularity"], work / "shop", work / "releases")
    serving = Serving.open(work / "releases" / live(work / "releases"), DEFAULT_SURFACES)
    assert not answer(Question(user=PERSON), serving, server_state).notes, "and known again once a release has them"
    forget_all(work)
    assert found_in(work) == set()


def test_nobody_can_be_the_tombstone(work: Path) -> None:
    forget_all(work)
    shop = Shop.open(work / "shop")
    (stone,) = (user for user in shop.users.ids.to_pylist() if "forgotten" in user)
    assert stone not in {PERSON, "forgotten 10"}
    report = ingest_again(work, "stone", stone)
    assert report.reasons == {"control character in id": 1}
    with pytest.raises(InputError, match="control character"):
        Question(user=stone).check()
    with pytest.raises(InputError, match="control character"):
        forget(stone, work / "shop")


def test_draining_goes_on_exactly_once(work: Path, server_state: LiveState, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a drain was killed after it had written the shop and before it had said so."""

    def killed(self: LiveState, up_to: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LiveState, "acknowledge", killed)
    with pytest.raises(KeyboardInterrupt):
        drain(work / "state.db", work / "shop")
    monkeypatch.undo()
    forget_all(work)
    report = drain(work / "state.db", work / "shop")
    assert report.rows_kept == 0
    assert set(report.reasons) <= {"duplicate event_id"}
    live_clicks = Shop.open(work / "shop").events.time >= START + 2000 * MINUTE
    assert live_clicks.sum() == 60
    assert found_in(work) == set()


def test_trained_models_go_on_with_the_shop(work: Path) -> None:
    forget_all(work)
    report = publish([work / "models" / name for name in SYSTEMS], work / "shop", work / "releases")
    assert report.release == live(work / "releases")


@pytest.mark.slow
def test_models_of_all_systems_hold_nobody(tmp_path: Path, template: Path) -> None:
    shop = Shop.open(template / "shop")
    for name in models.SYSTEMS:
        settings = SYSTEMS.get(name, {})
        models.create(name, settings).fit(shop).save(tmp_path / name)
        for path in (tmp_path / name).glob("*.npy"):
            shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
            assert not {shop.n_users, shop.n_users + 1} & {*shape}, f"{path}: a row a user?"
    assert found_in(tmp_path) == set()


# -- stopped, repeated, refused ----------------------------------------------------------------------------------------

STOPS = [
    "endcap.serve.state.LiveState.scrub",
    "endcap.shop.forget.write_generation",
    "endcap.shop.forget.remove_artefact",
    "endcap.jobs.publish.activate_held",
    "endcap.release.shelf.remove_artefact",
    *also_slow(
        "endcap.serve.state.LiveState.forget",
        "endcap.jobs.forget.forget_in_shop",
        "endcap.shop.forget.remove_old_generations",
        "endcap.jobs.forget.publish",
    ),
]


@pytest.mark.parametrize("step", STOPS)
def test_stopped_at_any_step_it_goes_on(
    work: Path, server_state: LiveState, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(step, killed)
    with pytest.raises(KeyboardInterrupt):
        forget_all(work)
    monkeypatch.undo()
    Shop.open(work / "shop")
    Release.open(work / "releases" / live(work / "releases"))
    forget_all(work)
    assert found_in(work) == set()


def test_once_more_there_is_nothing_left(work: Path) -> None:
    forget_all(work)
    name = live(work / "releases")
    again = forget_all(work)
    assert again.notes == ["forgotten before; nothing is left"]
    assert (again.events, again.recorded, again.releases, again.published) == (0, 0, [], None)
    assert live(work / "releases") == name
    with pytest.raises(InputError, match="unknown, or forgotten before"):
        forget(PERSON, work / "shop")


def test_an_unknown_person_changes_nothing(work: Path) -> None:
    before = {path: path.read_bytes() for path in work.rglob("*.parquet")}
    for unknown in ("nobody", "user", "user 3 or so"):
        with pytest.raises(InputError, match="not in"):
            forget(unknown, work / "shop", state=work / "state.db", to=work / "releases")
    with pytest.raises(InputError, match="is empty"):
        forget("", work / "shop")
    assert {path: path.read_bytes() for path in work.rglob("*.parquet")} == before


def test_a_dry_run_only_looks(work: Path) -> None:
    before = found_in(work)
    plan = forget(PERSON, work / "shop", state=work / "state.db", to=work / "releases", dry_run=True)
    assert plan.dry_run
    assert found_in(work) == before
    done = forget_all(work)
    for name in ("events", "sessions", "rejected", "recorded", "releases"):
        assert getattr(plan, name) == getattr(done, name)


def test_what_was_not_named_is_spoken_of(work: Path) -> None:
    report = forget(PERSON, work / "shop")
    assert any("--state" in note for note in report.notes)
    assert any("--to" in note for note in report.notes)
    rest = forget(PERSON, work / "shop", state=work / "state.db", to=work / "releases")
    assert (rest.events, rest.recorded, len(rest.releases)) == (0, 20, 2)
    assert found_in(work) == set()


def test_a_release_without_the_person_stays_for_a_rollback(work: Path) -> None:
    newcomer = "latecomer-77"
    ingest_again(work, "late", newcomer)
    older = live(work / "releases")
    publish([work / "models" / "popularity"], work / "shop", work / "releases")
    report = forget(newcomer, work / "shop", state=work / "state.db", to=work / "releases")
    assert len(report.releases) == 1
    assert older in {info.name for info in releases(work / "releases")}


def test_a_release_that_cannot_be_read_is_taken_to_hold_everybody(work: Path) -> None:
    (older,) = (info.name for info in releases(work / "releases") if not info.live)
    (work / "releases" / older / "users.parquet").write_bytes(b"PAR1 damaged")
    assert older in forget_all(work).releases


def test_others_at_work_are_waited_for(work: Path) -> None:
    before = found_in(work)
    holds = [
        exclusive(work / "shop" / DRAINING, "x"),
        exclusive(work / "releases" / WORKSHOP, "x"),
        exclusive(work / "releases", WHAT),
        only_writer(work / "shop"),
    ]
    for hold in holds:
        with hold, pytest.raises(EndcapError, match="another"):
            forget_all(work)
    assert {name for name in before if "left" not in name} <= found_in(work), "nothing was begun"
    with exclusive(work / "shop" / DRAINING, "x"), pytest.raises(EndcapError, match="another"):
        drain(work / "state.db", work / "shop")


def test_wrong_places_are_refused(work: Path) -> None:
    with pytest.raises(InputError, match="no live state"):
        forget(PERSON, work / "shop", state=work / "none.db")
    with pytest.raises(InputError, match="no such folder"):
        forget(PERSON, work / "shop", to=work / "none")
    with pytest.raises(InputError, match="not a shop folder"):
        forget(PERSON, work / "none")
    assert not (work / "none.db").exists()
    assert not (work / "none").exists()


# -- as a person does it -----------------------------------------------------------------------------------------------


def command(work: Path, *arguments: str, user: str = PERSON) -> str:
    """Run `endcap forget` in this process and return what it printed.

    Raises:
        EndcapError: as it does.
    """
    cli._add_verbs()
    said = io.StringIO()
    with redirect_stdout(said):
        cli.app(["forget", user, "--shop", str(work / "shop"), *arguments], standalone_mode=False)
    return said.getvalue()


def test_the_command_says_what_went_and_writes_no_id(work: Path, tmp_path: Path) -> None:
    places = [
        "--state",
        str(work / "state.db"),
        "--to",
        str(work / "releases"),
        "--json",
        str(tmp_path / "report.json"),
    ]
    assert "would be removed" in command(work, *places, "--dry-run")
    assert found_in(work)
    said = command(work, *places, "--yes")
    assert f"live now: {live(work / 'releases')}" in said
    assert found_in(tmp_path) == set(), "not in the report, either"
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["events"], report["recorded"], report["dry_run"]) == (23, 20, False)


def test_releases_are_not_removed_unasked(work: Path) -> None:
    with pytest.raises(InputError, match="--yes"):
        command(work, "--to", str(work / "releases"))
    assert PERSON in Shop.open(work / "shop").users


def test_an_unknown_person_is_one_line_and_exit_code_2(work: Path) -> None:
    with pytest.raises(InputError, match="unknown, or forgotten before") as refused:
        command(work, user="nobody")
    assert refused.value.exit_code == 2
    assert "\n" not in str(refused.value)
