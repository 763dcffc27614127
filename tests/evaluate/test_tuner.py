"""The tuner: it finds what is better, on validation alone, in its time, and goes on after any end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
import pytest
from msgspec import Meta
from rich.console import Console

from endcap import models
from endcap.artefact import exclusive, read_manifest
from endcap.errors import DiskFull, EndcapError, InputError
from endcap.evaluate import TuneReport, tune
from endcap.evaluate.tuner import MOST_TRIALS, Judge, Trial, propose
from endcap.models import Model
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.shop import Shop

from .shops import DAY, MINUTE, shop_of

N_ITEMS = 20
SECONDS = 10.0  # that the clock of these tests says a trial takes


class DialConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the dial."""

    at: Annotated[float, Meta(ge=0, le=1, description="best at 0.7")] = 0.0
    colour: Annotated[str, Meta(description="best in blue; red cannot be trained, green by accident")] = "white"
    cost: Annotated[int, Meta(ge=1, description="changes nothing")] = 1


class Dial(Model):
    """Answers so much of the truth as its settings are near to the best ones."""

    system = "dial"
    Config: ClassVar[type[msgspec.Struct]] = DialConfig
    config: DialConfig
    search_space: ClassVar[SearchSpace] = {"at": Range(0.0, 1.0), "colour": OneOf("white", "blue", "red")}
    trained: ClassVar[list[tuple[float, str, int]]] = []
    seen_until: ClassVar[list[int]] = []
    went_on_from: ClassVar[list[int]] = []
    stops_at: ClassVar[int | None] = None

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        if self.config.colour == "red":
            raise InputError("red is no colour to train in")
        if self.config.colour == "green":
            raise ZeroDivisionError("green diverges")
        Dial.went_on_from.append(self.checkpoint.load()[0])
        self.checkpoint.save(1, {"half": np.zeros(1)}, now=True)
        if len(Dial.trained) == Dial.stops_at:
            raise KeyboardInterrupt
        Dial.trained.append((self.config.at, self.config.colour, len(shop.events)))
        Dial.seen_until.append(int(shop.events.time.max()))

    def related_batch(self, items: Any, seen_as: int, want: int, k: int, allowed: Any = None) -> tuple[Any, Any]:
        """In the shop below, item i is followed by item i + 1: right for so many of ten items as the dial is right."""
        right = round(9 * (1 - abs(self.config.at - 0.7))) + (self.config.colour == "blue")
        found = np.full((len(items), k), -1, np.int32)
        found[:, 0] = np.where(items % 10 < right, (items + 1) % N_ITEMS, -1)
        return found, np.where(found >= 0, np.float32(1), np.float32(-np.inf))

    def _arrays(self) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def dial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "endcap.models.dial", SimpleNamespace(Dial=Dial))
    monkeypatch.setitem(models.SYSTEMS, "dial", models.System("dial:Dial", "related", "for the tests of the tuner"))
    monkeypatch.setattr(Dial, "stops_at", None)
    for kept in (Dial.trained, Dial.seen_until, Dial.went_on_from):
        kept.clear()


@pytest.fixture(scope="module")
def cycle() -> Shop:
    """Whoever clicks item i carts item i + 1; a visit an hour."""
    rows = [("u0", f"i{item:02}", "click", item) for item in range(N_ITEMS)]  # so that items have their numbers
    for visit in range(400):
        item, minute = visit % N_ITEMS, 60 * (visit + 1)
        rows += [(f"u{visit % 7}", f"i{item:02}", "click", minute)]
        rows += [(f"u{visit % 7}", f"i{(item + 1) % N_ITEMS:02}", "cart", minute + 1)]
    return shop_of(*rows)


def clock(*, seconds: Callable[[int], float] = lambda _: SECONDS) -> Callable[[], float]:
    """A clock by which trial n takes `seconds(n)`."""

    def ticks() -> Iterator[float]:
        now, number = 0.0, 0
        while True:
            yield now  # a trial begins
            now += seconds(number)
            number += 1
            yield now  # and ends

    return ticks().__next__


def tuned(shop: Shop, n_trials: int = 20, **how: Any) -> TuneReport:
    return tune("dial", shop, budget_s=n_trials * SECONDS, **{"clock": clock(), **how})


def summary(report: TuneReport) -> list[tuple[Any, ...]]:
    return [(trial.number, trial.settings, trial.value) for trial in report.trials]


def test_it_finds_a_clearly_better_setting_than_a_bad_start(cycle: Shop) -> None:
    report = tuned(cycle, 40)
    assert report.trials[0].settings == {}
    assert report.trials[0].value == pytest.approx(0.3, abs=0.05)
    assert report.best.value is not None
    assert report.best.value >= 0.9
    assert report.gain.value == pytest.approx(report.best.value - report.trials[0].value, abs=1e-12)
    assert 0 < report.gain.low < report.gain.value < report.gain.high
    assert report.settings["colour"] == "blue"
    assert report.settings["at"] == pytest.approx(0.7, abs=0.12)


def test_a_system_of_endcap_is_tuned_by_its_own_space() -> None:
    """A fashion lasts five days: a half-life of a week is too long."""
    rows = []
    for day in range(30):
        for visit in range(12):
            minute = day * DAY // MINUTE + visit * 60
            user, hot = f"u{day}-{visit}", [f"i{day // 5}-{n}" for n in range(12)]
            rows += [(user, hot[visit], "click", minute), (user, hot[(visit + 5) % 12], "cart", minute + 1)]
    report = tune("recent-popularity", shop_of(*rows), budget_s=1000, validation="2d", clock=clock())
    assert report.trials[0].settings == {}
    assert report.gain.value > 0.1
    assert report.settings["half_life"] in {"6h", "12h", "1d", "2d", "4d"}
    assert len(report.trials) == 9  # the nine of the space, the default among them, each once
    assert len({trial.settings.get("half_life", "7d") for trial in report.trials}) == 9


def test_the_settings_as_given_stand_where_nothing_is_better(cycle: Shop) -> None:
    report = tuned(cycle, 10, settings={"colour": "blue"}, space={"cost": Range(1, 1000)})
    assert len({trial.value for trial in report.trials}) == 1
    assert report.best.number == 0
    assert report.gain[:3] == (0, 0, 0)
    assert report.settings == {"colour": "blue"}


def test_given_settings_stay(cycle: Shop) -> None:
    report = tuned(cycle, 12, settings={"colour": "white", "cost": "3"})
    assert all(trial.settings.keys() <= {"at"} for trial in report.trials)
    assert {colour for _, colour, _ in Dial.trained} == {"white"}
    model = report.model()
    assert (model.config.colour, model.config.cost) == ("white", 3)
    assert model.config.at == report.best.settings["at"]


def test_only_the_part_before_the_cut_is_trained_on_and_nothing_after_the_view_is_seen(cycle: Shop) -> None:
    """Whatever the future holds, a view gives the same trials with the same values."""
    end = cycle.cut(0.2)
    report = tuned(cycle.until(end))
    assert max(Dial.seen_until) < cycle.until(end).cut(0.1)
    events = cycle.events
    item = np.where(events.time < end, events.item, 0).astype(np.int32)
    interaction = np.where(events.time < end, events.interaction, 0).astype(np.int8)
    altered = replace(cycle, events=replace(events, item=item, interaction=interaction))
    assert (altered.events.item != events.item).any()
    assert summary(tuned(altered.until(end))) == summary(report)


def test_a_trial_is_judged_by_the_mean_over_the_lengths_of_lists(cycle: Shop, shop: Shop) -> None:
    assert Judge(cycle, 0.1).lengths == [10]  # twenty items: longer lists tell nothing
    judge = Judge(shop, 0.1)
    assert judge.lengths == [10, 37]  # a twentieth of the items that are known by then
    assert judge.objective == "mean purchase intent click:cart at 10, 37"
    model = models.create("co-occurrence").fit(judge.before)
    from endcap.evaluate import evaluate

    report = evaluate(shop.split_by_time(0.1), {"m": model}, budgets=judge.lengths)
    expected = np.mean([report.models["m"][f"purchase_intent@{k}"].value for k in judge.lengths])
    assert judge.value(judge.found(model, threads=1)) == pytest.approx(expected, abs=1e-12)


def test_a_log_without_carts_is_judged_by_purchases() -> None:
    rows = []
    for visit in range(60):
        rows += [(f"u{visit}", "a", "click", 60 * visit), (f"u{visit}", "b", "purchase", 60 * visit + 1)]
    assert Judge(shop_of(*rows), 0.2).objective.startswith("mean purchase intent click:purchase")


def test_trials_that_fail_are_kept_with_their_reason(cycle: Shop) -> None:
    report = tuned(cycle, 30, space={"at": Range(0.0, 1.0), "colour": OneOf("white", "red", "green")})
    failures = {trial.settings["colour"]: trial.failure for trial in report.trials if trial.value is None}
    assert failures == {"red": "red is no colour to train in", "green": "green diverges"}
    assert len(report.trials) == 30
    assert report.settings["colour"] == "white"
    assert report.gain.value > 0


def test_a_full_disk_is_no_fault_of_the_settings(cycle: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned(cycle, 3, folder=tmp_path)

    def full(*_: Any, **__: Any) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(Dial, "fit", full)
        with pytest.raises(DiskFull):
            tuned(cycle, 6, folder=tmp_path)
    assert summary(tuned(cycle, 6, folder=tmp_path)) == summary(tuned(cycle, 6))


def test_settings_as_given_that_fail_are_an_error_and_leave_nothing(cycle: Shop, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no colour to train in"):
        tuned(cycle, settings={"colour": "red"}, folder=tmp_path / "t")
    assert not (tmp_path / "t").exists()


# -- time ------------------------------------------------------------------------------------------------------------


def test_no_trial_begins_that_would_outlast_the_budget(cycle: Shop) -> None:
    report = tune("dial", cycle, budget_s=95, clock=clock())
    assert len(report.trials) == 9
    assert [trial.seconds for trial in report.trials] == [10.0] * 9


def test_the_median_decides_and_not_one_slow_trial(cycle: Shop) -> None:
    report = tune("dial", cycle, budget_s=160, clock=clock(seconds=lambda number: 100.0 if number == 0 else 5.0))
    assert len(report.trials) == 13  # 100 + 12 * 5


def test_two_trials_are_made_whatever_they_take(cycle: Shop) -> None:
    assert len(tune("dial", cycle, budget_s=1, clock=clock()).trials) == 2


def test_a_quick_system_ends_before_its_time(cycle: Shop) -> None:
    assert len(tune("dial", cycle, budget_s=1e9, clock=clock()).trials) == MOST_TRIALS


def test_it_ends_when_everything_was_tried(cycle: Shop) -> None:
    report = tuned(cycle, 100, space={"colour": OneOf("white", "blue")})
    assert [trial.settings for trial in report.trials] == [{}, {"colour": "blue"}]


# -- the same again, and after a sudden end ----------------------------------------------------------------------------


def test_the_same_seed_tries_the_same_and_another_seed_something_else(cycle: Shop) -> None:
    first = summary(tuned(cycle, seed=3))
    assert summary(tuned(cycle, seed=3)) == first
    assert summary(tuned(cycle, seed=4))[1:] != first[1:]


def test_nothing_is_tried_twice(cycle: Shop) -> None:
    report = tuned(cycle, 60, space={"at": Range(0.0, 1.0), "cost": Range(1, 3)})
    effective = [json.dumps({"at": 0.0, "cost": 1} | trial.settings, sort_keys=True) for trial in report.trials]
    assert len(set(effective)) == len(effective)


def test_proposals_follow_from_the_trials_and_the_seed() -> None:
    space = {"x": Range(0.001, 1.0, log=True), "n": Range(1, 9), "kind": OneOf("a", "b", True)}
    trials = [
        Trial(
            number=n, settings={} if n == 0 else {"x": 0.01 * n, "n": n % 9 + 1, "kind": "a"}, value=n / 40, seconds=1
        )
        for n in range(30)
    ]
    start = {"x": 0.5, "n": 2, "kind": "auto"}  # which is not in the space
    proposed = propose(space, start, trials, 7)
    assert proposed is not None
    assert proposed == propose(space, start, trials, 7)
    assert all(space[name].holds(value) for name, value in proposed.items())
    assert isinstance(proposed["n"], int)
    assert proposed["x"] == float(f"{proposed['x']:.3g}")


@pytest.mark.parametrize("stops_at", [0, 1, 5, 14])
def test_a_tuning_that_was_stopped_goes_on_as_if_nothing_had_happened(
    cycle: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stops_at: int
) -> None:
    how: dict[str, Any] = {"space": {"at": Range(0.0, 1.0), "colour": OneOf("white", "blue")}}
    whole = tuned(cycle, 15, **how)
    Dial.trained.clear()
    Dial.went_on_from.clear()
    monkeypatch.setattr(Dial, "stops_at", stops_at)
    with pytest.raises(KeyboardInterrupt):
        tuned(cycle, 15, folder=tmp_path, **how)
    monkeypatch.setattr(Dial, "stops_at", None)
    assert summary(tuned(cycle, 15, folder=tmp_path, **how)) == summary(whole)
    assert len(Dial.trained) == 15  # none of them twice
    expected = [0] * (stops_at + 1) + [1] + [0] * (14 - stops_at)  # the stopped one from its checkpoint
    assert Dial.went_on_from == expected
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]


def test_a_finished_tuning_tries_nothing_more(cycle: Shop, tmp_path: Path) -> None:
    first = tuned(cycle, folder=tmp_path)
    Dial.trained.clear()
    assert summary(tuned(cycle, folder=tmp_path)) == summary(first)
    assert Dial.trained == []
    longer = tuned(cycle, 30, folder=tmp_path)
    assert summary(longer)[: len(first.trials)] == summary(first)
    assert len(longer.trials) == 30


@pytest.mark.parametrize("tear", [1, 10, 200])
@pytest.mark.parametrize("rubbish", [b"", b'{"number"', b"\x00\x00\x00\n", b'{"number":3}\n'])
def test_a_torn_journal_is_read_as_far_as_it_is_whole(cycle: Shop, tmp_path: Path, tear: int, rubbish: bytes) -> None:
    whole = tuned(cycle, folder=tmp_path)
    (journal,) = tmp_path.glob("*.jsonl")
    full = journal.read_bytes()
    journal.write_bytes(full[:-tear] + rubbish)
    assert summary(tuned(cycle, folder=tmp_path)) == summary(whole)
    assert journal.read_bytes().count(b"\n") == len(whole.trials)


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"settings": {"cost": 2}}, {"validation": 0.2}, {"space": {"at": Range(0.0, 0.5)}}]
)
def test_trials_of_another_question_are_not_taken_over(cycle: Shop, tmp_path: Path, other: dict[str, Any]) -> None:
    tuned(cycle, 5, folder=tmp_path)
    Dial.trained.clear()
    tuned(cycle, 5, folder=tmp_path, **other)
    assert Dial.trained
    Dial.trained.clear()
    tuned(cycle.until(cycle.cut(0.1)), 5, folder=tmp_path)
    assert Dial.trained


def test_two_processes_do_not_tune_in_one_folder(cycle: Shop, tmp_path: Path) -> None:
    with exclusive(tmp_path / "t", "a tuning"), pytest.raises(EndcapError, match="another process"):
        tuned(cycle, folder=tmp_path / "t")


KILLED = """
import os, signal, sys
from pathlib import Path
from endcap.evaluate import tuner
from endcap.shop import Shop
keep, left = tuner.Journal.add, int(sys.argv[3])
def add(journal, *trial):
    keep(journal, *trial)
    if len(journal.trials) == left:
        os.kill(os.getpid(), signal.SIGKILL)
tuner.Journal.add = add
tuner.tune("item-knn", Shop.open(sys.argv[1]), budget_s=1e6, folder=Path(sys.argv[2]),
           space={"shrink": tuner.Range(0.1, 300.0, log=True)}, settings={"k": 50})
"""


def test_a_killed_process_leaves_trials_to_go_on_from(shop_folder: Path, tmp_path: Path) -> None:
    """Killed by the system, with its lock and all."""
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, shop_folder, tmp_path / "t", "3"], check=False, env=os.environ
    )
    assert killed.returncode == -signal.SIGKILL
    how: dict[str, Any] = {"space": {"shrink": Range(0.1, 300.0, log=True)}, "settings": {"k": 50}, "clock": clock()}
    view = Shop.open(shop_folder)
    again = tune("item-knn", view, budget_s=30, folder=tmp_path / "t", **how)
    (journal,) = (tmp_path / "t").glob("*.jsonl")
    kept = [json.loads(line) for line in journal.read_bytes().splitlines()]
    assert [trial["number"] for trial in kept] == list(range(len(again.trials)))
    fresh = tune("item-knn", view, budget_s=1e9, **{**how, "clock": clock(seconds=lambda _: 1e9 / 5)})
    n = min(len(fresh.trials), len(again.trials))
    assert n >= 3
    assert summary(again)[:n] == summary(fresh)[:n]


# -- what is wrong, and what is said -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "how", "says"),
    [
        ("dail", {}, "no system 'dail'"),
        ("popularity", {}, "popularity has no settings worth tuning; these systems have: .*item-knn"),
        ("dial", {"budget_s": 0}, "some time is needed"),
        ("dial", {"budget_s": float("nan")}, "some time is needed"),
        ("dial", {"settings": {"ta": 1}}, "no setting 'ta'"),
        ("dial", {"settings": {"at": 0.5, "colour": "blue"}}, "nothing is left to tune, all of at, colour are given"),
        ("dial", {"space": {"ta": Range(0, 1)}}, "no setting 'ta'"),
        ("dial", {"space": {"at": Range(0.0, 2.0)}}, "<= 1.0"),
        ("dial", {"validation": "2"}, "2"),
        ("dial", {"validation": "9999d"}, "training part is empty"),
    ],
)
def test_a_mistake_is_named(cycle: Shop, system: str, how: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        tune(system, cycle, **{"budget_s": 10.0, **how})
    assert Dial.trained == []


def test_a_log_with_nothing_to_judge_by_is_refused() -> None:
    clicks = shop_of(*((f"u{minute}", "a", "click", 60 * minute) for minute in range(50)))
    with pytest.raises(InputError, match=r"no session in the last 0\.1 of the log has click:click"):
        tune("dial", clicks, budget_s=10)


def test_the_table_ranks_the_trials_and_says_what_was_chosen(cycle: Shop) -> None:
    report = tuned(cycle, 30, space={"at": Range(0.0, 1.0), "colour": OneOf("white", "blue", "red")})
    out = StringIO()
    report.print(Console(file=out))
    text = out.getvalue()
    assert "purchase intent click:cart at 10" in text
    assert "as given" in text
    failed = sum(trial.value is None for trial in report.trials)
    assert failed > 0
    assert f"{failed} of 30 trials failed, the last one because: red is no colour to train in" in text
    assert "more trials in the manifest" in text
    assert f"chosen: trial {report.best.number}, at=" in text
    assert f"{100 * report.gain.value:+.2f} points [" in text
    assert f"] on {report.targets} targets" in text
    assert "covers 0" not in text


def test_a_gain_that_may_be_chance_is_called_so(cycle: Shop) -> None:
    report = tuned(cycle, 8, space={"colour": OneOf("white", "blue")}, settings={"at": 0.7})
    assert report.gain.value > 0
    clear = StringIO()
    report.print(Console(file=clear))
    doubtful = StringIO()
    replace(report, gain=report.gain._replace(low=-0.01)).print(Console(file=doubtful))
    assert "no difference is shown" not in clear.getvalue()
    assert "the interval covers 0: no difference is shown" in doubtful.getvalue()


def test_the_model_folder_says_what_was_tuned(cycle: Shop, tmp_path: Path) -> None:
    report = tune("item-knn", cycle, budget_s=50, settings={"k": 30}, clock=clock())
    report.model().fit(cycle).save(tmp_path / "m")
    told = read_manifest(tmp_path / "m", kind="model")["tuning"]
    assert told == json.loads(json.dumps(report.to_dict()))
    assert told["fixed"] == {"k": 30}
    assert len(told["trials"]) == 5
    assert told["trials"][told["best"]]["value"] == told["best_value"]
    opened = models.open(tmp_path / "m")
    assert msgspec.to_builtins(opened.config).items() >= report.settings.items()
    opened.save(tmp_path / "copy")
    assert read_manifest(tmp_path / "copy", kind="model")["tuning"] == told


def test_a_model_that_was_not_tuned_says_so(cycle: Shop, tmp_path: Path) -> None:
    models.create("item-knn").fit(cycle).save(tmp_path)
    assert read_manifest(tmp_path, kind="model")["tuning"] is None
