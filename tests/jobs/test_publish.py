"""Publishing: checks, the probe, the gate, and that nothing half-done is ever live."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import Candidates, Request
from endcap.artefact import read_manifest
from endcap.errors import DamagedArtefact, EndcapError, InputError
from endcap.jobs.gate import GateSettings, judge
from endcap.jobs.probe import ask
from endcap.jobs.publish import GateRefused, open_models, publish
from endcap.models import Model
from endcap.models.popularity import Popularity
from endcap.release import Release, live, releases
from endcap.shop import Interactions, Shop, Vocabulary

Trained = dict[str, Path]


def test_a_published_model_answers_from_the_release_as_before(tmp_path: Path, shop: Shop, trained: Trained):
    report = publish([trained["als"], trained["good"]], shop, tmp_path)
    assert report.release == live(tmp_path)
    release = Release.open(tmp_path / live(tmp_path))
    opened = open_models(release)
    assert list(opened) == ["als", "co-occurrence"]
    for name, folder in (("als", trained["als"]), ("co-occurrence", trained["good"])):
        request = Request(k=10, item=int(release.popular(0)[0]), seen_as=0, want=2)
        expected = models.open(folder).candidates(request)
        np.testing.assert_array_equal(opened[name].candidates(request).items, expected.items)
        assert len(expected.items) == 10


def test_releases_are_not_written_into_a_shop_or_a_model(tmp_path: Path, shop: Shop, trained: Trained):
    for place in (trained["als"], trained["als"] / "releases"):
        with pytest.raises(InputError, match="cannot stand in a model folder"):
            publish([trained["good"]], shop, place)
    assert models.open(trained["als"]).system == "als"


def test_spaces_are_indexed_with_the_recall_of_the_models_own_questions(tmp_path: Path, shop: Shop, trained: Trained):
    report = publish([trained["als"]], shop, tmp_path, index="hnsw")
    spaces = report.models["als"]["spaces"]
    assert spaces
    for row in spaces.values():
        assert row["index"] == "hnsw"
        assert row["recall@100"] > 0.95


def test_an_index_that_finds_too_little_is_named(tmp_path: Path, shop: Shop, trained: Trained, monkeypatch):
    monkeypatch.setattr("endcap.release.write.recall", lambda *_: 0.5)
    report = publish([trained["als"]], shop, tmp_path, index="hnsw")
    assert "finds 50.0%" in report.warnings[0]


def test_a_worse_model_is_refused_and_the_live_one_stays(tmp_path: Path, shop: Shop, trained: Trained):
    first = publish({"main": trained["good"]}, shop, tmp_path)
    with pytest.raises(GateRefused, match="--force") as refused:
        publish({"main": trained["poor"]}, shop, tmp_path)
    (row,) = refused.value.report.gate.models
    assert row.new < row.live
    assert row.high < 0
    assert row.seen_by == []
    assert live(tmp_path) == first.release
    assert len(releases(tmp_path)) == 1
    assert refused.value.exit_code == 1


def test_force_overrules_the_gate_and_the_release_says_so(tmp_path: Path, shop: Shop, trained: Trained):
    publish({"main": trained["good"]}, shop, tmp_path)
    report = publish({"main": trained["poor"]}, shop, tmp_path, force=True)
    assert live(tmp_path) == report.release
    gate = Release.open(tmp_path / live(tmp_path)).manifest["notes"]["gate"]
    assert gate["forced"] is True
    assert "worse" in gate["models"][0]["problem"]


def test_a_better_model_passes_and_the_old_one_can_come_back(tmp_path: Path, shop: Shop, trained: Trained):
    first = publish({"main": trained["poor"]}, shop, tmp_path)
    second = publish({"main": trained["good"]}, shop, tmp_path)
    assert (second.previous, live(tmp_path)) == (first.release, second.release)
    assert second.gate.models[0].difference > 0
    assert second.gate.problems == []


def test_who_has_seen_the_events_is_said(shop: Shop, trained: Trained):
    good, full = models.open(trained["good"]), models.open(trained["full"])
    settings = GateSettings()
    flattered = judge("main", full, good, shop, settings)
    assert flattered.seen_by == ["new"]
    handicapped = judge("main", good, full, shop, settings)
    assert handicapped.seen_by == ["live"]
    assert handicapped.high < 0  # it looks far worse
    assert handicapped.problem == ""  # and that decides nothing
    assert "decide nothing" in handicapped.note
    assert "new trained on these events" in judge("main", full, None, shop, settings).note
    assert judge("main", good, good, shop, settings).difference == 0


def test_a_worse_model_with_the_advantage_is_refused(shop: Shop, trained: Trained):
    poor = Popularity().fit(shop)
    verdict = judge("main", poor, models.open(trained["good"]), shop, GateSettings())
    assert verdict.seen_by == ["new"]
    assert "worse" in verdict.problem


def test_the_stretch_is_what_neither_has_seen_where_that_is_enough(shop: Shop, trained: Trained):
    good = models.open(trained["good"])
    newer = models.create("co-occurrence").fit(shop.until(shop.cut("5d")))
    verdict = judge("main", newer, good, shop, GateSettings(min_cases=20))
    assert verdict.seen_by == []
    assert verdict.start == newer.origin.trained_until > shop.cut("7d")


def test_too_few_cases_decide_nothing_and_say_so(shop: Shop, trained: Trained):
    good, poor = models.open(trained["good"]), models.open(trained["poor"])
    verdict = judge("main", poor, good, shop, GateSettings(min_cases=10**6))
    assert verdict.problem == ""
    assert "nothing was decided" in verdict.note


def test_a_model_that_covers_less_is_refused(shop: Shop, trained: Trained, monkeypatch):
    good, narrow = models.open(trained["good"]), models.open(trained["good"])
    whole = narrow.related_batch

    def half(items, seen_as, want, k, allowed=None):
        found, scores = whole(items, seen_as, want, k, allowed)
        found[items % 2 == 0], scores[items % 2 == 0] = -1, -np.inf
        return found, scores

    monkeypatch.setattr(narrow, "related_batch", half)
    verdict = judge("main", narrow, good, shop, GateSettings(margin=1.0))
    assert "covers" in verdict.problem


def test_a_model_without_any_answer_is_refused_though_there_is_nothing_to_compare(tmp_path, shop, monkeypatch):
    def none(self, items, seen_as, want, k, allowed=None):
        return np.full((len(items), k), -1, np.int32), np.full((len(items), k), -np.inf, np.float32)

    models.create("popularity").fit(shop).save(tmp_path / "model")
    monkeypatch.setattr(Popularity, "related_batch", none)
    monkeypatch.setattr(Popularity, "candidates", Model.candidates)
    with pytest.raises(GateRefused, match="no answer to any question"):
        publish([tmp_path / "model"], shop, tmp_path / "releases", gate=GateSettings(min_cases=10**6))


def test_a_release_has_what_was_named_and_warns_of_what_is_gone(tmp_path: Path, shop: Shop, trained: Trained):
    publish([trained["good"], trained["poor"]], shop, tmp_path)
    report = publish([trained["good"]], shop, tmp_path)
    assert list(report.models) == ["co-occurrence"]
    assert report.warnings == ["the live release has popularity, this one does not"]


def test_two_models_of_one_system_need_names(tmp_path: Path, shop: Shop, trained: Trained):
    with pytest.raises(InputError, match="both co-occurrence"):
        publish([trained["good"], trained["full"]], shop, tmp_path)
    report = publish({"weekly": trained["good"], "daily": trained["full"]}, shop, tmp_path)
    assert list(report.models) == ["weekly", "daily"]
    assert list(Release.open(tmp_path / live(tmp_path)).model_folders) == ["weekly", "daily"]


def test_an_older_vocabulary_with_the_same_beginning_is_accepted(tmp_path: Path, shop: Shop):
    early = shop.until(shop.cut("100d"))
    assert early.n_items < shop.n_items
    models.create("co-occurrence").fit(early).save(tmp_path / "model")
    report = publish([tmp_path / "model"], shop, tmp_path / "releases")
    assert report.models["co-occurrence"]["n_items"] == early.n_items


def test_a_model_of_another_shop_is_refused(tmp_path: Path, shop: Shop, trained: Trained):
    from dataclasses import replace

    names = [f"other {number}" for number in range(shop.n_items)]
    with pytest.raises(InputError, match="another shop"):
        publish([trained["good"]], replace(shop, items=Vocabulary(names)), tmp_path)
    other = replace(shop, interactions=Interactions(("look", "like", "basket", "purchase")))
    with pytest.raises(InputError, match="its interactions are"):
        publish([trained["good"]], other, tmp_path)
    with pytest.raises(InputError, match="no positive events"):
        publish([trained["good"]], shop.since(shop.end), tmp_path)
    with pytest.raises(InputError, match="not a model folder"):
        publish([tmp_path], shop, tmp_path)


def test_a_damaged_model_is_refused(tmp_path: Path, shop: Shop, trained: Trained):
    shutil.copytree(trained["good"], tmp_path / "model")
    array = next((tmp_path / "model").glob("*.npy"))
    array.write_bytes(array.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedArtefact):
        publish([tmp_path / "model"], shop, tmp_path / "releases")
    assert not (tmp_path / "releases").exists()


def test_a_damaged_live_release_does_not_hinder_a_sound_one(tmp_path: Path, shop: Shop, trained: Trained):
    first = publish([trained["good"]], shop, tmp_path)
    (tmp_path / str(first.release) / "items.parquet").write_bytes(b"")
    second = publish([trained["good"]], shop, tmp_path)
    assert live(tmp_path) == second.release
    assert "not compared" in second.warnings[0]


@pytest.mark.parametrize("step", ["write_release", "_try_out", "activate_held"])
def test_killed_between_two_steps_the_old_release_stays_live(tmp_path, shop, trained, monkeypatch, step):
    first = publish([trained["poor"]], shop, tmp_path)

    def killed(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"endcap.jobs.publish.{step}", killed)
    with pytest.raises(KeyboardInterrupt):
        publish([trained["poor"]], shop, tmp_path)
    monkeypatch.undo()
    assert live(tmp_path) == first.release
    assert not any(info.damaged for info in releases(tmp_path, check=True))
    publish([trained["poor"]], shop, tmp_path)  # the lock went with the killed one


def test_killed_while_writing_nothing_is_left_for_good(tmp_path: Path, shop: Shop, trained: Trained):
    """SIGKILL leaves a hidden folder, which is no release and is gone after the next publish."""
    publish([trained["poor"]], shop, tmp_path)
    (tmp_path / ".20990101T000000-abcdef.x_y.building").mkdir()
    (tmp_path / ".20990101T000000-abcdef.x_y.building" / "items.parquet").write_bytes(b"half")
    assert len(releases(tmp_path)) == 1
    publish([trained["poor"]], shop, tmp_path)
    assert not list(tmp_path.glob(".*.building"))


def test_only_so_many_releases_stay(tmp_path: Path, shop: Shop, trained: Trained):
    names = [publish([trained["poor"]], shop, tmp_path, keep=2).release for _ in range(4)]
    assert [info.name for info in releases(tmp_path)] == [names[3], names[2]]


class Broken(Popularity):
    """Fails, or answers with what it must not."""

    fault = "raise"

    def related_batch(self, items, seen_as, want, k, allowed=None):
        found, scores = super().related_batch(items, seen_as, want, k, allowed)
        if self.fault == "raise":
            raise ZeroDivisionError("no vectors")
        if self.fault == "twice":
            found[:, 1] = found[:, 0]
        if self.fault == "unknown":
            found[:, 0] = 10**6
        if self.fault == "forbidden":
            found, scores = super().related_batch(items, seen_as, want, k, None)
        return found, scores


@pytest.mark.parametrize(
    ("fault", "message"),
    [("raise", "no vectors"), ("twice", "twice"), ("unknown", "does not have"), ("forbidden", "not allowed")],
)
def test_a_model_that_answers_wrongly_is_found_out(shop: Shop, fault: str, message: str):
    model = Broken().fit(shop)
    assert ask("sound", Popularity().fit(shop), shop) > 0
    model.fault = fault
    with pytest.raises(EndcapError, match=message):
        ask("broken", model, shop)


def test_the_gate_judges_a_log_of_clicks_whose_last_week_brings_new_items() -> None:
    """Without carts it asks for the next item; what a model knows from later must stay out of its lists."""
    users = np.repeat(np.arange(8), 3)
    days = np.tile([1, 2, 19], 8)
    items = np.tile([0, 1, 2], 8) + 3 * (users % 3) * (days == 19)
    frame = pa.table(
        {
            "user": users.astype(str),
            "item": items.astype(str),
            "interaction": ["click"] * len(users),
            "time": [f"2026-01-{day:02d}T10:00:00Z" for day in days],
        }
    )
    shop = Shop.from_tables(frame)
    verdict = judge("main", Popularity().fit(shop), None, shop, GateSettings(min_cases=1))
    assert verdict.protocol == "next-item"


def test_the_probe_and_the_gate_tell_a_model_what_people_searched_for(shop: Shop, trained: Trained) -> None:
    class Told(Popularity):
        searches = 0

        def candidates(self, request: Request) -> Candidates:
            self.searches += len(request.searches)
            return super().candidates(request)

    model = Told.load(trained["poor"], read_manifest(trained["poor"], kind="model"))
    assert ask("told", model, shop) > 0
    of_probe, model.searches = model.searches, 0
    assert judge("main", Asked(model), None, shop, GateSettings(min_cases=1)).n > 0
    assert min(of_probe, model.searches) > 0


class Asked:
    """A model that is asked for people's lists alone."""

    def __init__(self, model: Model) -> None:
        self.origin, self.candidates = model.origin, model.candidates
