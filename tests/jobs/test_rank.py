"""From named systems to a ranker that is published, served, and kept by the daily job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import History
from endcap.artefact import read_manifest
from endcap.errors import InputError
from endcap.jobs.gate import GateSettings, judge
from endcap.jobs.publish import open_models, publish
from endcap.jobs.rank import Trained, compare, train_ranker
from endcap.jobs.refresh import refresh
from endcap.models.ranker import Pools, Ranker, TwoPass
from endcap.models.ranker_features import pack
from endcap.release import Release, live
from endcap.serve.answerer import answer
from endcap.serve.questions import Question
from endcap.serve.serving import Serving
from endcap.serve.surfaces import Source, Surface
from endcap.shop import Shop

SOURCES = ("item-knn", "co-occurrence")
QUICK = {"trees": 20, "queries": 300, "min_rows": 20}


@pytest.fixture(scope="module")
def second_pass(shop: Shop) -> Trained:
    return train_ranker(shop, SOURCES, fit="14d", validation="14d", settings=QUICK)


@pytest.fixture(scope="module")
def folders(shop: Shop, second_pass: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The ranker and its sources, trained on all but the last week."""
    folder = tmp_path_factory.mktemp("ranked")
    for name in SOURCES:
        models.create(name).fit(shop.until(shop.cut("7d"))).save(folder / name)
    second_pass.ranker.save(folder / "ranker")
    return {name: folder / name for name in (*SOURCES, "ranker")}


def test_the_report_compares_with_every_source_and_with_turns(second_pass: Trained, shop: Shop) -> None:
    report, ranker = second_pass.report, second_pass.ranker
    assert set(report.models) == {"ranker", "in turn", *SOURCES}
    assert {(row.a, row.b) for row in report.paired if row.metric == "ndcg@10"} >= {("ranker", "in turn")}
    assert report.models["ranker"]["ndcg@10"].value > report.models["in turn"]["ndcg@10"].value
    assert ranker.sources == SOURCES
    assert ranker.learned["validation"]["ranker"]["n"] == report.data["requests"]
    assert ranker.origin.trained_until == int(shop.events.time.max()) + 1  # what it knows of items is of today
    assert second_pass.verdict()


def pools(labels: list[list[int]], **scores: list[list[float]]) -> Pools:
    given = {name: np.array(rows, np.float32) for name, rows in scores.items()}
    n, c = np.shape(labels)
    return Pools(
        np.arange(n, dtype=np.int32),
        pack([History()] * n),
        np.tile(np.arange(c, dtype=np.int32), (n, 1)),
        given,
        np.array(labels, np.int32),
        (np.array(labels) > 0).sum(axis=1),
    )


class Blind(Ranker):
    """Scores all alike."""

    def score_many(self, past, candidates, given):
        return np.zeros(candidates.shape, np.float32)


def test_figures_are_those_of_the_lists() -> None:
    nan = np.nan
    asked = pools([[0, 0, 2, 0]], good=[[0.1, nan, 0.9, nan]], poor=[[0.5, 0.9, nan, 0.4]])
    figures = compare(Blind(), asked, {}).models
    assert figures["good"]["ndcg@10"].value == 1.0
    assert figures["poor"]["ndcg@10"].value == 0.0  # what it does not name has no place in its list
    assert figures["in turn"]["ndcg@10"].value == 1.0
    assert figures["ranker"]["ndcg@10"].value == pytest.approx(1 / np.log2(4))
    later = pools([[0, 1, 0, 0]], good=[[0.1, nan, 0.9, nan]], poor=[[0.5, 0.9, nan, 0.4]])
    assert compare(Blind(), later, {}).models["in turn"]["ndcg@10"].value == pytest.approx(1 / np.log2(3))
    with pytest.raises(InputError, match="nobody turned to a new item"):
        compare(Blind(), pools([[0, 0]], good=[[1.0, 2.0]]), {})


def test_a_release_serves_what_the_ranker_makes_of_its_sources(
    tmp_path: Path, shop: Shop, folders: dict[str, Path]
) -> None:
    report = publish(list(folders.values()), shop, tmp_path)
    assert report.models["ranker"]["sources"] == list(SOURCES)
    (row,) = [row for row in report.gate.models if row.model == "ranker"]
    assert (row.metric, row.problem) == ("ndcg@10", "")
    release = Release.open(tmp_path / live(tmp_path))
    opened = open_models(release)
    assert isinstance(opened["ranker"], TwoPass)
    surface = Surface(tuple(Source(name) for name in SOURCES), ranker="ranker", fallback=())
    serving = Serving.open(release.folder, {"home": surface, "plain": Surface()})
    user = int(np.bincount(shop.positives.user).argmax())
    given = answer(Question(user=shop.users[user], k=5), serving)
    assert len(given.items) == 5
    assert {row.source for row in given.items} <= set(SOURCES)
    assert all(any(why.startswith("moved ") for why in row.reasons) for row in given.items)
    plain = answer(Question(user=shop.users[user], k=5, surface="plain"), serving)
    assert {row.source for row in plain.items} == {SOURCES[0]}


def test_a_ranker_without_its_sources_is_not_published(tmp_path: Path, shop: Shop, folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="co-occurrence is missing"):
        publish([folders["item-knn"], folders["ranker"]], shop, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_gate_refuses_a_ranker_that_turns_lists_around(
    shop: Shop, second_pass: Trained, folders: dict[str, Path]
) -> None:
    sources = {name: models.open(folders[name]) for name in SOURCES}
    good = TwoPass(second_pass.ranker, sources)

    class Around(Ranker):
        def _predict(self, rows):
            return -super()._predict(rows)

    around = Around.load(folders["ranker"], read_manifest(folders["ranker"], kind="model"))
    settings = GateSettings(validate="14d", min_cases=20)
    verdict = judge("ranker", TwoPass(around, sources), good, shop, settings)
    assert "is worse than the live model's" in verdict.problem
    assert judge("ranker", good, good, shop, settings).problem == ""


@pytest.fixture(scope="module")
def older(shop: Shop, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sources, and a ranker with relations from a log that ends nine days before this one."""
    before = shop.until(shop.cut("9d"))
    settings = {**QUICK, "both_ways": False}
    trained = train_ranker(before, SOURCES, fit="14d", validation="10d", settings=settings, relations=links(shop))
    folder = tmp_path_factory.mktemp("older") / "ranker"
    trained.ranker.save(folder)
    return {**folders, "ranker": folder}


def links(shop: Shop) -> pa.Table:
    names = shop.items.ids.to_pylist()
    return pa.table({"item": names[:20], "other": names[20:40], "relation": ["also"] * 20})


def test_the_daily_job_trains_a_ranker_again_as_it_was_trained(
    tmp_path: Path, shop_folder: Path, shop: Shop, older: dict[str, Path]
) -> None:
    publish(list(older.values()), shop, tmp_path)
    report = refresh(shop_folder, tmp_path, settings={"hold_out": "none"})
    outcome = report.models["ranker"]
    assert (outcome.system, outcome.action) == ("ranker", "trained")
    assert outcome.trained_until == int(shop.events.time.max()) + 1
    assert "the ranker" in outcome.why
    release = Release.open(tmp_path / live(tmp_path))
    assert release.rankers == {"ranker": list(SOURCES)}
    was, now = models.open(older["ranker"]), models.open(release.model_folders["ranker"])
    assert isinstance(was, Ranker)
    assert isinstance(now, Ranker)
    assert now.config == was.config
    assert now.learned["stretches"] == {"fit": "14d", "validation": "10d"}
    assert now.links.sort_by("item").equals(was.links.sort_by("item"))
    assert was.links.num_rows == 20
    again = train_ranker(
        shop, SOURCES, fit="14d", validation="10d", settings={**QUICK, "both_ways": False}, relations=links(shop)
    )
    assert now._grown().text == again.ranker._grown().text
    assert refresh(shop_folder, tmp_path, settings={"hold_out": "none"}).models["ranker"].action == "kept"


def test_a_ranker_that_cannot_be_trained_again_stays_as_it_is(
    tmp_path: Path, shop_folder: Path, shop: Shop, older: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_, **__):
        raise InputError("nothing to learn from")

    publish(list(older.values()), shop, tmp_path)
    before = Release.open(tmp_path / live(tmp_path)).manifest["models"]["ranker"]
    monkeypatch.setattr(Ranker, "fit_on", fail)
    report = refresh(shop_folder, tmp_path, settings={"hold_out": "none"})
    assert report.problems == ["ranker: nothing to learn from"]
    after = Release.open(tmp_path / live(tmp_path)).manifest["models"]
    assert after["ranker"] == before
    assert after["item-knn"]["trained_until"] > before["trained_until"]


def test_a_plan_says_when_a_ranker_is_due(
    tmp_path: Path, shop_folder: Path, shop: Shop, older: dict[str, Path]
) -> None:
    publish(list(older.values()), shop, tmp_path)
    sources = {name: {"every": "400d"} for name in SOURCES}
    own = {**QUICK, "both_ways": False}
    for plans, says in (
        ({**sources, "second": {"system": "ranker"}}, "no such ranker is live"),
        ({"item-knn": {}, "ranker": {}}, "its source co-occurrence has no plan"),
        ({**sources, "ranker": {"settings": {"tres": 3}}}, "did you mean 'trees'"),
        ({**sources, "ranker": {"every": "soon"}}, "not a duration"),
    ):
        with pytest.raises(InputError, match=says):
            refresh(shop_folder, tmp_path, settings={"models": plans})
    rarely = {**sources, "ranker": {"every": "30d", "settings": own}}
    report = refresh(shop_folder, tmp_path, settings={"models": rarely, "hold_out": "none"})
    assert {row.action for row in report.models.values()} == {"kept"}
    assert "less than 30d" in report.models["ranker"].why
    changed = {**sources, "ranker": {"settings": {**own, "trees": 5}}}
    easy = {"margin": 1.0, "coverage": 0.0}
    report = refresh(shop_folder, tmp_path, settings={"models": changed, "hold_out": "none", "gate": easy})
    assert {name: row.action for name, row in report.models.items()} == {
        **dict.fromkeys(SOURCES, "kept"),
        "ranker": "trained",
    }


def test_the_daily_job_keeps_a_ranker_that_is_not_due_over_what_it_trains_anew(
    tmp_path: Path, shop_folder: Path, shop: Shop, folders: dict[str, Path]
) -> None:
    publish(list(folders.values()), shop, tmp_path)
    report = refresh(shop_folder, tmp_path, settings={"hold_out": "none"})
    assert {name: row.action for name, row in report.models.items()} == {
        "item-knn": "trained",
        "co-occurrence": "trained",
        "ranker": "kept",
    }
    assert Release.open(tmp_path / live(tmp_path)).rankers == {"ranker": list(SOURCES)}


def test_a_source_trained_too_late_and_a_log_too_short_are_refused(
    shop: Shop, folders: dict[str, Path], tmp_path: Path
) -> None:
    models.create("popularity").fit(shop).save(tmp_path / "full")
    with pytest.raises(InputError, match="has seen the test part"):
        train_ranker(shop, {"full": str(tmp_path / "full")}, fit="14d", validation="14d", settings=QUICK)
    with pytest.raises(InputError, match="nothing lies before"):
        train_ranker(shop, SOURCES, fit="100w", validation="7d", settings=QUICK)
    with pytest.raises(InputError, match="cannot be a name"):
        train_ranker(shop, {"a/b": "popularity"}, settings=QUICK)
