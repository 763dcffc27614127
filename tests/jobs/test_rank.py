"""From named systems to a ranker that is published, served, and kept by the daily job."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def test_the_daily_job_keeps_the_ranker_over_what_it_trains_anew(
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
