"""`systems`, `train`, `evaluate`, `related`, as a person or a script uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from endcap import cli, models
from endcap.artefact import read_manifest
from endcap.evaluate.tuner import KEPT_OF_A_TRIAL, Journal, Trial
from endcap.models.ranker import Ranker
from endcap.shop import Shop


class Said(NamedTuple):
    """What a verb did."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        return self.out.strip().splitlines()[-1]


Run = Callable[..., Said]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `endcap` in this process."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr("sys.argv", ["endcap", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        return Said(code if isinstance(code, int) else 0, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def counts(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, trained before the last two weeks."""
    folder = tmp_path_factory.mktemp("models") / "counts"
    models.create("co-occurrence").fit(shop.until(shop.cut("14d"))).save(folder)
    return folder


def test_systems_lists_all_with_what_they_answer(run: Run) -> None:
    said = run("systems", "--json")
    assert [row["name"] for row in json.loads(said.out)] == list(models.SYSTEMS)
    assert all(row["answers"] and row["about"] for row in json.loads(said.out))
    assert "item-knn" in run("systems").out


@pytest.mark.parametrize("system", sorted(models.SYSTEMS))
def test_every_setting_is_explained(run: Run, system: str) -> None:
    rows = json.loads(run("systems", system, "--json").out)
    assert {row["setting"] for row in rows} == set(type(models.create(system).config).__struct_fields__)
    assert all(row["type"] and row["meaning"] and row["default"] is not None for row in rows)


def test_settings_show_ranges_and_choices(run: Run) -> None:
    out = run("systems", "co-purchase").out
    assert "session | user" in out
    assert "integer >= 1" in out
    assert "10 to 500 (log)" in out  # what a tuning tries
    assert "no settings" in run("systems", "popularity").out


def test_train_prints_the_model_folder_last(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "knn.toml"
    config.write_text("k = 7\nshrink = 1.5\n")
    out = tmp_path / "deep" / "knn"
    said = run(
        "train", "item-knn", "--shop", shop_folder, "--out", out, "--config", config, "--set", "k=9", "--seed", 4
    )
    assert said.code == 0
    assert said.last == str(out)
    opened = models.open(out)
    assert (opened.config.k, opened.config.shrink, opened.origin.seed) == (9, 1.5, 4)
    assert list(out.parent.iterdir()) == [out]  # no checkpoint is left behind


def test_train_until_sees_nothing_later(run: Run, shop: Shop, shop_folder: Path, tmp_path: Path) -> None:
    said = run("train", "popularity", "--shop", shop_folder, "--out", tmp_path / "m", "--until", "2025-02-01")
    assert said.code == 0
    opened = models.open(tmp_path / "m")
    until = 1_738_368_000_000_000  # 2025-02-01T00:00:00Z
    assert opened.origin.trained_until <= until
    assert opened.origin.n_events == (shop.events.time < until).sum()
    assert "log ends before" not in said.err
    assert (
        "log ends before"
        in run("train", "popularity", "--shop", shop_folder, "--out", tmp_path / "m", "--until", "2026-01-01").err
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["popularty"], "there is no system 'popularty'"),
        (["item-knn", "--set", "shrimp=1"], "did you mean 'shrink'"),
        (["item-knn", "--set", "k"], "key=value"),
        (["item-knn", "--set", "k=0"], ">= 1"),
        (["item-knn", "--config", "no-such.toml"], "no-such.toml"),
        (["item-knn", "--until", "yesterday"], "not a date"),
        (["item-knn", "--until", "1999-01-01"], "no positive events"),
        (["item-knn", "--until", "1999-01-01", "--tune", "1m"], "no events"),
        (["item-knn", "--tune", "soon"], "--tune: not a duration: 'soon'"),
        (["popularity", "--tune", "1m"], "no settings worth tuning"),
        (["recent-popularity", "--tune", "1m", "--set", "half_life=3d"], "nothing is left to tune"),
    ],
)
def test_train_names_the_mistake_and_writes_nothing(
    run: Run, shop_folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    said = run("train", *arguments, "--shop", shop_folder, "--out", tmp_path / "m")
    assert said.code == 2
    assert says in said.err
    assert said.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--threads", "0"], ["--threads", "100000"]])
def test_numbers_that_libraries_would_choke_on_are_refused(run: Run, shop_folder: Path, tmp_path: Path, wrong) -> None:
    said = run("train", "item-knn", "--shop", shop_folder, "--out", tmp_path / "m", *wrong)
    assert said.code == 2
    assert wrong[0] in said.err


def test_a_model_is_not_written_into_a_shop(run: Run, shop_folder: Path) -> None:
    said = run("train", "popularity", "--shop", shop_folder, "--out", shop_folder / "models" / "m")
    assert said.code == 2
    assert "cannot stand in a shop folder" in said.err
    assert not (shop_folder / "models").exists()


def test_train_searches_for_settings_first(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    said = run("train", "recent-popularity", "--shop", shop_folder, "--out", tmp_path / "m", "--tune", "1h")
    assert said.code == 0
    assert said.last == str(tmp_path / "m")
    assert "purchase intent click:cart" in said.out
    assert "half_life=30d" in said.out
    assert "chosen: " in said.out
    tuning = read_manifest(tmp_path / "m", kind="model")["tuning"]
    assert len(tuning["trials"]) == 9  # as many as the space holds, so that the hour was not needed
    assert models.open(tmp_path / "m").config.half_life == tuning["settings"].get("half_life", "7d")
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]  # nothing of the tuning is left behind


def test_settings_that_are_given_are_not_searched(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("reach = 7\n")
    said = run(
        "train", "co-occurrence", "--shop", shop_folder, "--out", tmp_path / "m", "--tune", "1h", "--config", config,
        "--set", "typed=false",
    )  # fmt: skip
    assert said.code == 0
    tuning = read_manifest(tmp_path / "m", kind="model")["tuning"]
    assert tuning["fixed"] == {"reach": 7, "typed": False}
    assert [sorted(trial["settings"]) for trial in tuning["trials"]] == [[], *[["min_count"]] * 4]
    opened = models.open(tmp_path / "m")
    assert (opened.config.reach, opened.config.typed) == (7, False)


def test_a_tuning_that_is_stopped_says_how_to_go_on_and_does(
    run: Run, shop_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ("train", "recent-popularity", "--shop", shop_folder, "--out", tmp_path / "m", "--tune", "1h")
    add = Journal.add

    def stop(journal: Journal, trial: Trial) -> None:
        add(journal, trial)
        if len(journal.trials) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "add", stop)
        said = run(*train)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "the same command goes on" in said.err
    assert [path.name for path in tmp_path.iterdir()] == [".m.tuning"]
    (journal,) = (tmp_path / ".m.tuning").glob("*.jsonl")
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(kept) == 4
    assert run(*train).code == 0
    assert read_manifest(tmp_path / "m", kind="model")["tuning"]["trials"][:4] == [
        {name: trial[name] for name in KEPT_OF_A_TRIAL} for trial in kept
    ]
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_train_does_not_replace_what_is_no_model(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    said = run("train", "popularity", "--shop", shop_folder, "--out", tmp_path / "photos")
    assert said.code == 2
    assert "no model folder" in said.err


def test_evaluate_writes_the_report_that_scripts_rely_on(
    run: Run, shop_folder: Path, counts: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    said = run(
        "evaluate", "--shop", shop_folder, "--models", f"{counts},item-knn", "--test", "14d", "--json", report,
        "--set", "item-knn.k=50", "--pairs", "any:cart,cart:cart", "--segments", "--budgets", "5,20",
    )  # fmt: skip
    assert said.code == 0
    found = json.loads(report.read_text())
    assert list(found["models"]) == [str(counts), "item-knn"]
    assert list(found["pairs"]) == ["click:cart", "any:cart", "cart:cart"]
    assert found["models"]["item-knn"]["purchase_intent@20"]["n"] > 100
    assert "purchase_intent@20" in said.out
    assert said.err == ""


def test_evaluate_by_next_item(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    said = run(
        "evaluate", "--shop", shop_folder, "--models", "popularity", "--protocol", "next-item", "--test", "0.1",
        "--json", report, "-k", "3,7",
    )  # fmt: skip
    assert said.code == 0
    assert {"hit_rate@3", "ndcg@7", "recall@7", "mrr", "novelty@3", "coverage@7"} <= set(
        json.loads(report.read_text())["models"]["popularity"]
    )


def test_evaluate_by_person(run: Run, shop_folder: Path, counts: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    ask = ("evaluate", "--shop", shop_folder, "--json", report, "-k", "5,20", "--models")
    said = run(*ask, "popularity", "--protocol", "leave-one-out", "--negatives", "uniform9", "--seen", "keep",
               "--at-most", "50")  # fmt: skip
    assert said.code == 0
    assert "ndcg@20/uniform9" in said.out
    found = json.loads(report.read_text())["models"]["popularity"]
    assert found["hit_rate@5"]["n"] == found["hit_rate@5/uniform9"]["n"] == 50
    assert run(*ask, "popularity", "--protocol", "by-user", "--segments").code == 0
    assert {"recall@20", "ndcg@20", "hit_rate@20"} <= set(json.loads(report.read_text())["models"]["popularity"])
    said = run(*ask, counts, "--protocol", "leave-one-out")
    assert said.code == 2
    assert "no trained folder" in said.err


def test_evaluate_refuses_a_model_that_has_seen_the_test_part(run: Run, shop_folder: Path, counts: Path) -> None:
    said = run("evaluate", "--shop", shop_folder, "--models", counts, "--test", "21d")
    assert said.code == 2
    assert "has seen the test part" in said.err
    assert "--until" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--models", "nothing-like-it"], "neither a system"),
        (["--models", ","], "name at least one"),
        (["--models", "popularity", "--protocol", "guess"], "choose one of"),
        (["--models", "popularity", "--budgets", "ten"], "whole numbers"),
        (["--models", "popularity", "-k", "1000000000"], "--k"),
        (["--models", "popularity", "--set", "popularity=1"], "name.key=value"),
        (["--models", "popularity", "--json", "no/such/folder/report.json"], "there is no folder"),
    ],
)
def test_evaluate_names_the_mistake(run: Run, shop_folder: Path, arguments: list[str], says: str) -> None:
    said = run("evaluate", "--shop", shop_folder, *arguments)
    assert said.code == 2
    assert says in said.err
    assert said.err.count("\n") == 1


def test_related_answers_with_items_and_titles(run: Run, shop: Shop, shop_folder: Path, counts: Path) -> None:
    model = models.open(counts)
    item = next(i for i in shop.items.ids.to_pylist() if len(model.related(i, k=3)) == 3)
    said = run(
        "related", item, "--model", counts, "--seen-as", "click", "--want", "cart", "-k", 3, "--shop", shop_folder
    )
    assert said.code == 0
    titles = dict(zip(shop.catalogue["item"].to_pylist(), shop.catalogue["title"].to_pylist(), strict=True))
    for other, _ in model.related(item, k=3):
        assert other in said.out
        assert titles[other] in said.out


def test_related_as_json_has_the_fields_of_the_http_answer(run: Run, shop: Shop, counts: Path) -> None:
    model = models.open(counts)
    item = next(i for i in shop.items.ids.to_pylist() if len(model.related(i, k=2)) == 2)
    found = json.loads(run("related", item, "--model", counts, "-k", 2, "--json").out)
    assert set(found) == {"request_id", "release", "items"}
    assert [row["item"] for row in found["items"]] == [other for other, _ in model.related(item, k=2)]
    reason = found["items"][0]["reasons"][0]
    assert (reason["kind"], reason["item"], reason["seen_as"], reason["want"]) == ("because", item, "click", "cart")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-item"], "unknown item 'no-such-item'"),
        (["{item}", "--seen-as", "glance"], "unknown interaction 'glance'"),
        (["{item}", "-k", "0"], "at least one"),
    ],
)
def test_related_names_the_mistake(run: Run, shop: Shop, counts: Path, arguments: list[str], says: str) -> None:
    said = run("related", *[part.format(item=shop.items[0]) for part in arguments], "--model", counts)
    assert said.code == 2
    assert says in said.err


def test_related_takes_any_k(run: Run, shop: Shop, counts: Path) -> None:
    said = run("related", shop.items[0], "--model", counts, "-k", 10**9, "--json")
    assert said.code == 0


def test_related_without_an_answer_says_so(run: Run, shop: Shop, counts: Path) -> None:
    model = models.open(counts)
    lonely = next(
        i for i in shop.items.ids.to_pylist()[: len(model.origin.items)] if not model.related(i, want="favourite")
    )
    said = run("related", lonely, "--model", counts, "--want", "favourite")
    assert said.code == 0
    assert "no item is related" in said.out


# -- the second pass --------------------------------------------------------------------------------------------------

RANKER = ("--fit", "14d", "--validation", "14d", "--set", "queries=200", "--set", "trees=10")


def train_ranker(folder: Path, out: Path, *more: object) -> tuple[object, ...]:
    return ("train", "ranker", "--shop", folder, "--out", out, *RANKER, *more)


def test_a_ranker_trains_compares_and_ends_with_the_folder(
    run: Run, shop_folder: Path, shop: Shop, tmp_path: Path
) -> None:
    names = shop.items.ids.to_pylist()
    pq.write_table(
        pa.table({"item": names[:50], "other": names[50:100], "relation": ["x"] * 50}), tmp_path / "r.parquet"
    )
    more = ("--relations", tmp_path / "r.parquet", "--set", "knn.shrink=5")
    said = run(*train_ranker(shop_folder, tmp_path / "rank", "--sources", "knn=item-knn,popularity", *more))
    assert said.code == 0, said.err
    assert said.last == str(tmp_path / "rank")
    assert "in turn" in said.out
    assert "the ranker is" in said.out or "no difference" in said.out
    opened = models.open(tmp_path / "rank")
    assert isinstance(opened, Ranker)
    assert opened.sources == ("knn", "popularity")
    assert opened.facts is not None
    assert opened.facts.relations == ("x", "x (back)")
    asked = run("related", names[0], "--model", tmp_path / "rank")
    assert (asked.code, asked.out) == (2, "")
    assert "relates no items" in asked.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--sources item-knn,co-occurrence"),
        (("--sources", "a=als,a=als"), "a name of its own"),
        (("--sources", "nonsense"), "neither a system"),
        (("--sources", "als", "--tune", "1m"), "--tune: a ranker is not tuned"),
        (("--sources", "als", "--set", "als.factrs=3"), "did you mean 'factors'"),
        (("--sources", "als", "--set", "treees=3"), "did you mean 'trees'"),
        (("--sources", "als", "--relations", "nowhere.parquet"), "--relations nowhere.parquet"),
    ],
)
def test_mistakes_about_a_ranker_are_one_line(
    run: Run,
    shop_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    said = run(*train_ranker(shop_folder, tmp_path / "rank", *arguments))
    assert said.code == 2
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "rank").exists()


def test_options_of_a_ranker_are_refused_for_others(run: Run, shop_folder: Path, tmp_path: Path) -> None:
    said = run("train", "popularity", "--shop", shop_folder, "--out", tmp_path / "x", "--sources", "als")
    assert (said.code, "only `train ranker` has it" in said.err) == (2, True)


def test_the_settings_of_a_ranker_are_shown(run: Run) -> None:
    assert "budget" in run("systems", "ranker").out
