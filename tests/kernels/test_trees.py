"""Our walk down boosted trees is LightGBM's, to the last bit."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest

from endcap.models.trees import RANKING, Trees

F = 6


def rows(n: int, *, holes: bool = True) -> np.ndarray:
    rng = np.random.default_rng(n)
    made = rng.normal(size=(n, F)).astype(np.float32).round(2)
    made[:, 1] = np.where(rng.random(n) < 0.5, 0, made[:, 1])
    if holes:
        made[rng.random(made.shape) < 0.2] = np.nan
    return made


def grown(*, holes: bool = True, leaves: int = 9, rounds: int = 20) -> Trees:
    x = rows(3_000, holes=holes)
    y = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1] * x[:, 2]) > 0
    settings = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "num_threads": 1, "seed": 0}
    text = lightgbm.train(settings, lightgbm.Dataset(x, y), rounds).model_to_string()
    return Trees(text, F, "binary sigmoid:1")


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 1_000])
def test_sums_are_those_of_lightgbm(n: int, holes: bool) -> None:
    trees = grown(holes=holes)
    asked = np.concatenate([rows(n), rows(n, holes=False)])
    asked[: n // 2, 3], asked[n // 2 : n, 4] = np.inf, -np.inf
    found = trees.sums(asked)
    assert found.shape == (2 * n,)
    if n:
        np.testing.assert_array_equal(found, lightgbm.Booster(model_str=trees.text).predict(asked, raw_score=True))
        assert n <= 5 or len(np.unique(found)) > 50


def test_trees_without_a_split_and_no_trees() -> None:
    x = rows(50)
    settings = {"objective": "lambdarank", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 100}
    data = lightgbm.Dataset(x, np.arange(50) % 2, group=[25, 25])
    text = lightgbm.train(settings, data, 3).model_to_string()
    trees = Trees(text, F, RANKING)
    np.testing.assert_array_equal(trees.sums(x), lightgbm.Booster(model_str=trees.text).predict(x))


def test_a_value_at_the_threshold_goes_the_same_way() -> None:
    trees = grown(holes=False, leaves=2, rounds=1)
    (at,) = trees._forest.threshold[:1]
    asked = np.zeros((3, F), np.float32)
    near = [np.nextafter(at, np.float32(-9)), at, np.nextafter(at, np.float32(9))]
    asked[:, trees._forest.feature[0]] = near
    found = trees.sums(asked)
    np.testing.assert_array_equal(found, lightgbm.Booster(model_str=trees.text).predict(asked, raw_score=True))
    assert found[0] == found[1] != found[2]
