"""Who may take part, and what the report says."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from endcap import models
from endcap.errors import InputError
from endcap.evaluate import Report, evaluate
from endcap.evaluate.contest import SPLIT_BY_TIME
from endcap.models import Model
from endcap.shop import Shop

from .shops import shop_of

KEYS = {"value", "low", "high", "n"}


@pytest.fixture(scope="module")
def split(shop: Shop) -> tuple[Shop, Shop]:
    return shop.split_by_time("14d")


@pytest.fixture(scope="module")
def reports(split: tuple[Shop, Shop]) -> dict[str, Report]:
    names = ["item-knn", "popularity", "co-occurrence"]
    return {protocol: evaluate(split, names, protocol=protocol, by_segment=True, seed=3) for protocol in SPLIT_BY_TIME}


def fitted(shop: Shop) -> Model:
    return models.create("popularity").fit(shop)


@pytest.mark.parametrize("protocol", SPLIT_BY_TIME)
def test_the_json_has_the_shape_that_scripts_rely_on(reports: dict, protocol: str, tmp_path: Path) -> None:
    reports[protocol].save(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert set(found) == {"protocol", "data", "models", "paired", "segments"}
    assert found["protocol"] == protocol
    assert list(found["models"]) == ["item-knn", "popularity", "co-occurrence"]
    wanted = {
        "purchase-intent": {"purchase_intent@200"},
        "next-item": {"hit_rate@10", "recall@20", "ndcg@10", "mrr"},
        "cross-sell": {"hit_rate@10", "hit_rate@10/uniform1000", "hit_rate@10/popularity1000", "ndcg@10", "mrr"},
    }
    for figures in found["models"].values():
        assert wanted[protocol] <= set(figures)
        assert all(set(figure) == KEYS for figure in figures.values())
    assert all(set(row) == {"a", "b", "metric", "difference", "low", "high"} for row in found["paired"])
    assert len(found["paired"]) == 3 * len(found["models"]["popularity"])


@pytest.mark.parametrize("protocol", SPLIT_BY_TIME)
def test_values_lie_in_their_intervals_and_differences_are_differences(reports: dict, protocol: str) -> None:
    report = reports[protocol]
    for figures in report.models.values():
        for figure in figures.values():
            assert figure.low - 1e-9 <= figure.value <= figure.high + 1e-9
    for row in report.paired:
        ours, theirs = report.models[row.a][row.metric], report.models[row.b][row.metric]
        assert row.difference == pytest.approx(ours.value - theirs.value)
        assert row.low - 1e-9 <= row.difference <= row.high + 1e-9


@pytest.mark.parametrize("protocol", SPLIT_BY_TIME)
def test_segments_add_up_to_the_whole(reports: dict, protocol: str) -> None:
    report = reports[protocol]
    for segment in ("item", "history length", "interaction"):
        parts = [figures["item-knn"][report.headline] for figures in report.segments[segment].values()]
        whole = report.models["item-knn"][report.headline]
        assert sum(part.n for part in parts) == whole.n
        assert sum(part.value * part.n for part in parts) == pytest.approx(whole.value * whole.n)


def test_a_better_model_is_seen_to_be_better(reports: dict) -> None:
    """The simulator plants structure that counts find and popularity cannot."""
    rows = {(row.a, row.b): row for row in reports["purchase-intent"].paired if row.metric == "purchase_intent@10"}
    assert rows["item-knn", "popularity"].low > 0


@pytest.mark.parametrize("protocol", SPLIT_BY_TIME)
def test_a_folder_a_fitted_model_and_a_name_give_the_same_figures(
    split: tuple[Shop, Shop], protocol: str, tmp_path: Path
) -> None:
    folder = tmp_path / "popularity-folder"
    fitted(split[0]).save(folder)
    report = evaluate(split, {"name": "popularity", "folder": folder, "fitted": fitted(split[0])}, protocol=protocol)
    assert report.models["name"] == report.models["folder"] == report.models["fitted"]
    assert all(row.difference == row.low == row.high == 0 for row in report.paired)
    assert list(evaluate(split, [str(folder)], protocol=protocol).models) == [str(folder)]


def test_the_same_seed_gives_the_same_report(split: tuple[Shop, Shop]) -> None:
    one, two = (evaluate(split, ["popularity"], seed=5).to_dict() for _ in range(2))
    assert one == two


def test_settings_reach_the_system_they_name(split: tuple[Shop, Shop]) -> None:
    contestants = {"short": "item-knn", "long": "item-knn"}
    report = evaluate(split, contestants, settings={"short": {"k": 1}})
    assert report.models["short"]["purchase_intent@200"].value < report.models["long"]["purchase_intent@200"].value


def test_a_model_that_has_seen_the_test_part_is_refused_and_told_how(shop: Shop, tmp_path: Path) -> None:
    fitted(shop).save(tmp_path / "late")
    with pytest.raises(InputError, match=r"has seen the test part.*--until 2\d\d\d-\d\d-\d\dT.*popularity"):
        evaluate(shop, [tmp_path / "late"], test="14d")


def test_a_model_trained_long_before_the_test_part_may_take_part(shop: Shop) -> None:
    early = fitted(shop.until(shop.cut("60d")))
    assert evaluate(shop, {"early": early}, test="14d").models["early"]


def test_models_of_another_shop_are_refused(shop: Shop) -> None:
    other = shop_of(("u", "a", "click", 0), ("u", "b", "cart", 1))
    with pytest.raises(InputError, match="another shop"):
        evaluate(shop, {"stranger": fitted(other)}, test="14d")


@pytest.mark.parametrize(
    ("contestants", "options", "says"),
    [
        ([], {}, "name at least one"),
        ([models.create("als"), models.create("als")], {}, "two models are called als"),
        (["popularty"], {}, "neither a system .* nor a model folder"),
        (["popularity"], {"protocol": "purchase-intend"}, "no protocol 'purchase-intend'"),
        (["popularity"], {"test": "7y"}, "not a duration"),
        (["popularity"], {"test": "900d"}, "training part is empty"),
        (["popularity"], {"test": 1.5}, "between 0 and 1"),
        (["popularity"], {"budgets": [0]}, "1 to 10,000"),
        (["popularity"], {"budgets": [10**9]}, "1 to 10,000"),
        (["popularity"], {"lengths": []}, "1 to 1,000"),
        (["popularity"], {"source": "look"}, "unknown interaction 'look'"),
        (["popularity"], {"pairs": ["click"]}, "source:want"),
        (["item-knn"], {"settings": {"item-knn": {"shrimp": 1}}}, "did you mean 'shrink'"),
        (["popularity"], {"settings": {"als": {"factors": 1}}}, "als does not take part"),
        ({"untrained": models.create("als")}, {}, "not trained yet"),
    ],
)
def test_mistakes_are_named(shop: Shop, contestants: object, options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        evaluate(shop, contestants, **options)


def test_a_training_part_that_reaches_into_the_test_part_is_refused(shop: Shop, split: tuple[Shop, Shop]) -> None:
    with pytest.raises(InputError, match="reaches into"):
        evaluate((shop, split[1]), ["popularity"])


def test_mistakes_are_found_before_anything_is_trained(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "fit", lambda *args, **options: pytest.fail("trained"))
    with pytest.raises(InputError, match="neither"):
        evaluate(shop, ["popularity", "no-such-model"])


def test_one_person_in_the_test_part_has_figures_without_intervals(tmp_path: Path) -> None:
    day = 24 * 60
    shop = shop_of(
        ("u", "a", "click", 0), ("u", "b", "cart", 1), ("u", "a", "click", 3 * day), ("u", "b", "cart", 3 * day + 1)
    )
    report = evaluate(shop, ["co-occurrence"], test="1d")
    figure = report.models["co-occurrence"]["purchase_intent@200"]
    assert (figure.value, figure.n) == (1.0, 1)
    assert math.isnan(figure.low)
    assert report.to_dict()["models"]["co-occurrence"]["purchase_intent@200"]["low"] is None
    json.loads(json.dumps(report.to_dict()), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def printed(report: Report) -> str:
    out = io.StringIO()
    report.print(Console(file=out))
    return out.getvalue()


def test_the_printed_report_says_when_nothing_is_shown(split: tuple[Shop, Shop], reports: dict) -> None:
    alike = evaluate(split, {"one": "popularity", "two": "popularity"})
    assert "the interval covers 0: no difference is shown" in printed(alike)
    text = printed(reports["purchase-intent"])
    best = reports["purchase-intent"].best()
    assert f"purchase_intent@200: {best} - popularity = +" in text
    assert "history length" in text
    assert f"n={reports['purchase-intent'].models[best]['purchase_intent@200'].n:,}" in text


def test_taxonomy_tells_within_from_across(split: tuple[Shop, Shop]) -> None:
    report = evaluate(split, {"als": "als-typed"}, settings={"als": {"factors": 8}}, taxonomy=True)
    for figures in report.taxonomy["als"].values():
        assert figures["within"].value > figures["across"].value
        assert figures["difference"].value == pytest.approx(figures["within"].value - figures["across"].value)
    assert set(report.to_dict()["taxonomy"]["als"]) <= set(split[0].interactions.names)
    assert np.isfinite(report.taxonomy["als"]["click"]["difference"].low)


def test_evaluate_is_a_function_of_the_package_whatever_was_imported_before(split: tuple[Shop, Shop]) -> None:
    from endcap import evaluate as from_the_top

    assert from_the_top(split, ["popularity"]).to_dict() == evaluate(split, ["popularity"]).to_dict()


def test_memory_grows_with_the_log_and_not_with_people_times_items():
    n_users, n_items = 4000, 6000
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(n_users), 4)
    log = {
        "user": [f"u{user}" for user in users],
        "item": [f"i{item}" for item in rng.integers(0, n_items, len(users))],
        "interaction": ["click", "click", "click", "cart"] * n_users,
        "time": 1_700_000_000 + 60 * np.arange(len(users)),
    }
    shop = Shop.from_tables(pa.table(log))
    train, test = shop.split_by_time(0.5)
    model = fitted(train)
    evaluate((train, test), {"compiled": model})
    tracemalloc.start()
    try:
        for protocol in ("purchase-intent", "next-item"):
            evaluate((train, test), {"popularity": model}, protocol=protocol)
        evaluate(shop, {"popularity": model}, protocol="leave-one-out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < n_users * n_items  # a byte for each pair would already be too much
