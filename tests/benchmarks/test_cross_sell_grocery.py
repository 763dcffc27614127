"""The split of the benchmark of links: what is held out is nowhere, negatives are clean, substitutes go where said."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import cross_sell_grocery
from cross_sell_grocery import Task, gains_of, graph, shop_of, task_of, without
from endcap.models.cross_sell.links import both_ways
from endcap.shop.relations import COMPLEMENTS, SUBSTITUTES


@pytest.fixture
def relations() -> pa.Table:
    rng = np.random.default_rng(0)
    item, other = rng.integers(0, 60, (2, 500)).astype(str)
    name = rng.choice(["also_bought", "complement", "substitute"], 500)
    return pa.table({"item": item, "other": other, "relation": name})


def task(relations: pa.Table, monkeypatch: pytest.MonkeyPatch, *, dev: bool) -> Task:
    monkeypatch.setattr(cross_sell_grocery, "HELD_OUT", 12)
    monkeypatch.setattr(cross_sell_grocery, "NEGATIVES", 20)
    given = argparse.Namespace(quick=False, dev=dev, seed=3)
    return task_of(shop_of(relations, None), relations, given)


@pytest.mark.parametrize("dev", [False, True])
def test_held_out_links_are_gone_both_ways_and_negatives_are_clean(
    relations: pa.Table, monkeypatch: pytest.MonkeyPatch, dev: bool
) -> None:
    found = task(relations, monkeypatch, dev=dev)
    known = both_ways(graph(found.shop, relations)).toarray() > 0
    left = both_ways(graph(found.shop, found.relations)).toarray() > 0
    asked, target = found.pairs.T
    assert len(np.unique(found.pairs)) == 2 * len(asked) == 24
    assert known[asked, target].all()
    assert not left[found.held[:, 0], found.held[:, 1]].any()
    assert left[asked].any(axis=1).all()
    assert left[target].any(axis=1).all()
    assert known.sum() == left.sum() + 2 * len(found.held) == left.sum() + (96 if dev else 48) / 2
    assert not known[asked[:, None], found.negatives].any()
    assert not (found.negatives == asked[:, None]).any()
    assert all(len(set(row)) == 20 for row in found.negatives.tolist())


def test_validation_links_are_not_those_of_the_test(relations: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    test, dev = (task(relations, monkeypatch, dev=dev) for dev in (False, True))
    np.testing.assert_array_equal(dev.held[: len(test.pairs)], test.pairs)
    pairs = [{tuple(sorted(pair)) for pair in found.pairs.tolist()} for found in (test, dev)]
    assert not pairs[0] & pairs[1]


def test_pairs_leave_the_relation_that_is_named(relations: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    found = task(relations, monkeypatch, dev=False)
    both = pa.concat_tables([relations, relations.set_column(2, "relation", pa.array(["substitute"] * 500))])
    left = without(found.shop, both, found.pairs, SUBSTITUTES)
    assert graph(found.shop, left).nnz == graph(found.shop, both).nnz
    gone = without(found.shop, left, found.pairs, COMPLEMENTS)
    ends = {tuple(sorted(pair)) for pair in found.pairs.tolist()}
    rows = zip(*(found.shop.items.encode(gone[name].to_pylist()).tolist() for name in ("item", "other")), strict=True)
    assert not ends & {tuple(sorted(row)) for row in rows}


def test_a_log_is_what_people_took(relations: pa.Table, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\n1,5,1300000000\n1,new,1300000001\n", encoding="utf-8")
    shop = shop_of(relations, tmp_path / "log.csv")
    assert shop.n_users == 1
    assert shop.items.number("new") >= 0
    assert len(shop.positives) == 2


def test_ties_are_halved() -> None:
    hit, reciprocal, _ = gains_of(np.array([[1.0, 0, 0], [0, 0, 1]]))
    np.testing.assert_allclose(reciprocal, [1, (1 / 2 + 1 / 3) / 2])
    np.testing.assert_allclose(hit, 1)
