"""Columns against what they are called, targets that never see their own link, planted groups found, odd tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap import Shop, models, simulate
from endcap.answers import Request
from endcap.graph import Baskets, graph_of
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.links import (
    RIDGE,
    VOUCHED,
    LinkEvidence,
    LinkWeigher,
    Told,
    both_ways,
    lessons,
    matching,
    solved,
)

GROUPS, OF_GROUP = 30, 6
N = GROUPS * OF_GROUP


def links(*pairs: tuple[int, int], n: int = 6) -> csr_array:
    one, other = np.array(pairs).T
    return graph_of(one, other, shape=(n, n))


def asking(n: int, *items: int) -> csr_array:
    return csr_array((np.ones(len(items), np.float32), (np.arange(len(items)), items)), (len(items), n))


def columns_of(evidence: LinkEvidence, *items: int) -> dict[str, np.ndarray]:
    """(items, all) of each column."""
    everything = np.tile(np.arange(evidence.n_items), (len(items), 1))
    found = np.concatenate(list(evidence.columns(asking(evidence.n_items, *items), everything)))
    return {name: found[..., place] for place, name in enumerate(evidence.forms)}


def planted(seed: int = 0, *, rivals: bool = True, people: bool = True) -> Told:
    """Groups that are linked inside, mostly from lower to higher; one item is linked with half of all."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, GROUPS, 500)
    one, other = np.sort(OF_GROUP * group[:, None] + rng.integers(0, OF_GROUP, (500, 2)), axis=1).T
    hub = rng.choice(N, N // 2, replace=False)
    goes = graph_of(np.append(one, np.full(len(hub), N)), np.append(other, hub), shape=(N + 1, N + 1))
    stands = graph_of(rng.integers(0, N, 200), rng.integers(0, N, 200), shape=goes.shape) if rivals else None
    took = csr_array((rng.random((60, N + 1)) < 0.05).astype(np.float32)) if people else None
    return Told(goes, stands, took)


def fitted(told: Told, **given: bool) -> LinkWeigher:
    settings = {"rivals_hidden": False} | given
    found = LinkWeigher.fitted(told, matchings=3, at_most=80, seed=0, threads=1, **settings)
    assert found is not None
    return found


def test_shared_neighbours_and_walks_by_hand() -> None:
    """0 -> 1, 2 -> 1, 1 -> 3, 3 -> 0: 0 and 2 share 1; 0 and 1 share 3; 4 -> 5 lies apart."""
    evidence = LinkEvidence(Told(links((0, 1), (2, 1), (1, 3), (3, 0), (4, 5))))
    found = columns_of(evidence, 0)
    np.testing.assert_allclose(found["common"][0], [2, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(found["adamic-adar"][0, 1:3], [1 / np.log(2 + 1.5), 1 / np.log(3 + 1.5)], rtol=1e-5)
    np.testing.assert_allclose(found["cosine"][0, 2], 1 / np.sqrt(2 * 1), rtol=1e-5)
    np.testing.assert_allclose(found["allocation"][0, 2], 1 / 3, rtol=1e-5)
    np.testing.assert_allclose(found["walk2"][0, 2], 1 / 2 * 1 / 3, rtol=1e-5)  # over the root of its one link
    np.testing.assert_allclose(found["to, from"][0, 2], 1 / 3, rtol=1e-5)  # 0 -> 1 <- 2
    np.testing.assert_allclose(found["to, to"][0, 3], 1 / 3, rtol=1e-5)  # 0 -> 1 -> 3
    np.testing.assert_allclose(found["from, from"][0, 1], 1 / 2, rtol=1e-5)  # 0 <- 3 <- 1
    np.testing.assert_allclose(found["from, to"][0, [1, 2]], 0)
    np.testing.assert_allclose(found["links"][0], np.log1p([2, 3, 1, 2, 1, 1]), rtol=1e-5)
    np.testing.assert_allclose(found["pagerank forwards"][0, 2], 0)
    assert found["pagerank"][0, 2] > 0 == found["pagerank"][0, 4]


def test_the_closed_form_is_the_solution_of_its_equations() -> None:
    evidence = LinkEvidence(planted())
    inverse = np.linalg.inv((evidence.halved @ evidence.halved).toarray() + RIDGE * np.eye(N + 1))
    found = columns_of(evidence, 3, N)
    np.testing.assert_allclose(found["weight"], -inverse[[3, N]], atol=2e-3)
    np.testing.assert_allclose(found["closed form"], -(evidence.halved @ inverse)[:, [3, N]].T, atol=5e-3)
    assert not solved(evidence.halved, np.zeros((N + 1, 2), np.float32)).any()


def test_people_lead_to_what_they_took_but_never_back() -> None:
    seen = csr_array(np.array([[1, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0]], np.float32))
    found = columns_of(LinkEvidence(Told(links((3, 0)), seen=seen)), 0, 3)
    np.testing.assert_allclose(found["people"][0], [0, 1 / 2 / np.sqrt(2), 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found["linked, then people"][1], [0, 1 / 2 / np.sqrt(2), 0, 0, 0, 0], atol=1e-6)


def test_a_basket_asks_with_the_mean_of_its_items() -> None:
    evidence = LinkEvidence(planted())
    each = columns_of(evidence, 3, 50)
    both = csr_array((np.ones(2, np.float32), ([0, 0], [3, 50])), (1, N + 1))
    (found,) = evidence.columns(both, np.arange(N + 1)[None])
    for place, name in enumerate(evidence.forms):
        if name in ("walk3", "pagerank", "common", "to, from", "people", "rivals", "links"):
            np.testing.assert_allclose(found[0, :, place], each[name].mean(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("hidden", [False, True])
def test_no_target_sees_its_own_link(hidden: bool) -> None:
    """With the pairs of a lesson in the table or not, its columns are the same; other links do make a difference."""
    told = planted()
    (lesson,) = lessons(told, 1, 40, 0)
    told = told._replace(stands_for=both_ways(told.stands_for + links(*lesson.pairs[:20].tolist(), n=N + 1)))
    bare = told.without(lesson.pairs, rivals=True)
    assert both_ways(told.goes_with).nnz == both_ways(bare.goes_with).nnz + 2 * len(lesson.pairs)
    of_whole, of_bare = (
        np.concatenate(
            list(LinkEvidence(one.without(lesson.pairs, rivals=hidden)).columns(lesson.asked, lesson.wanted))
        )
        for one in (told, bare)
    )
    flag = list(LinkEvidence(told).forms).index("rivals")
    if hidden:
        np.testing.assert_array_equal(of_whole, of_bare)
        assert not of_whole[:, 0, flag].any()
    else:  # only what substitutes say of the pair may differ
        known = [place for place, name in enumerate(LinkEvidence(told).forms) if "rival" not in name]
        np.testing.assert_array_equal(of_whole[..., known], of_bare[..., known])
        assert of_whole[:20, 0, flag].all()
    whole = np.concatenate(list(LinkEvidence(told).columns(lesson.asked, lesson.wanted)))
    assert not np.array_equal(whole[:, 0], of_whole[:, 0])


def test_lessons_are_matchings_without_a_common_link_and_draw_nothing_that_is_linked() -> None:
    told, seen = planted(), set[tuple[int, int]]()
    linked = both_ways(told.goes_with).toarray() > 0
    for lesson in lessons(told, 3, 50, 0):
        assert len(np.unique(lesson.pairs)) == lesson.pairs.size
        keys = {(min(pair), max(pair)) for pair in lesson.pairs.tolist()}
        assert linked[lesson.pairs[:, 0], lesson.pairs[:, 1]].all()
        assert not keys & seen
        seen |= keys
        in_vain = linked[lesson.pairs[:, :1], lesson.wanted] | (lesson.wanted == lesson.pairs[:, :1])
        np.testing.assert_array_equal(np.isinf(lesson.log_q[:, 1:]), in_vain[:, 1:])
        assert np.isfinite(lesson.log_q[:, 0]).all()


def test_a_matching_leaves_every_product_a_link() -> None:
    graph = both_ways(links((0, 1), (1, 2), (2, 3), (3, 1), n=5))
    pairs = matching(graph, np.random.default_rng(0), 10)
    assert {tuple(sorted(pair)) for pair in pairs.tolist()} <= {(1, 2), (2, 3), (1, 3)}
    assert len(pairs) == 1
    assert len(matching(graph, np.random.default_rng(0), 0)) == 0


def test_planted_groups_are_found_and_what_is_vouched_for_comes_first() -> None:
    told = planted()
    taken = matching(both_ways(told.goes_with), np.random.default_rng(5), 30)
    taken = taken[(taken < N).all(1)]
    found = fitted(told.without(taken, rivals=True))
    near = [other in found.of(np.array([one], np.int32)).nearest(8) for one, other in taken.tolist()]
    assert np.mean(near) > 0.9
    asked = np.array([7], np.int32)
    linked = found.evidence.links[[7]].indices
    scores = found.of(asked).score(np.arange(N + 1, dtype=np.int32))
    inferred = np.setdiff1d(np.arange(N), [*linked, *range(6, 12)])
    assert scores[linked].min() > scores[inferred].max()
    assert VOUCHED > 0


def test_nearest_is_in_the_order_of_score_and_keeps_to_what_is_allowed() -> None:
    found, asked = fitted(planted()), np.array([3, 40], np.int32)
    everything = np.arange(N + 1, dtype=np.int32)
    near = found.of(asked).nearest(10)
    assert not np.isin(near, asked).any()
    rest = np.setdiff1d(everything, asked)
    order = rest[np.argsort(-found.of(asked).score(rest), kind="stable")]
    np.testing.assert_array_equal(near, order[:10])
    allowed = everything % 2 == 0
    assert (found.of(asked).nearest(10, allowed) % 2 == 0).all()
    assert len(found.of(asked).nearest(10, np.zeros(N + 1, bool))) == 0


def test_it_comes_back_from_its_arrays() -> None:
    for told in (planted(), planted(rivals=False), planted(people=False), planted(rivals=False, people=False)):
        found = LinkWeigher.fitted(told, matchings=1, at_most=40, rivals_hidden=True, seed=0, threads=1)
        assert found is not None
        again = LinkWeigher.restored(found.arrays())
        asked, items = np.array([3, 1], np.int32), np.arange(N + 1, dtype=np.int32)
        np.testing.assert_array_equal(found.of(asked).score(items), again.of(asked).score(items))


def test_columns_do_not_depend_on_how_products_are_numbered() -> None:
    told = planted()
    new = np.random.default_rng(9).permutation(N + 1)
    old = np.argsort(new)
    moved = Told(*(None if graph is None else graph[:, old].tocsr() for graph in told))
    moved = moved._replace(goes_with=moved.goes_with[old], stands_for=moved.stands_for[old])
    here, there = columns_of(LinkEvidence(told), 3, 77), columns_of(LinkEvidence(moved), new[3], new[77])
    for name, column in here.items():
        np.testing.assert_allclose(column, there[name][:, new], rtol=2e-4, atol=1e-6, err_msg=name)


def test_too_few_links_teach_nothing() -> None:
    nothing = csr_array((4, 4), dtype=np.float32)
    for told in (Told(nothing), Told(links((0, 1), (2, 3)), links((0, 1))), Told(links((0, 1), (1, 2), (2, 0)))):
        assert LinkWeigher.fitted(told, matchings=3, at_most=9, rivals_hidden=True, seed=0, threads=1) is None


def a_shop() -> Shop:
    """Everybody looked at some items; nobody bought any."""
    rng = np.random.default_rng(1)
    events = pa.table({
        "user": [f"u{row % 40}" for row in range(400)],
        "item": [f"i{item}" for item in rng.integers(0, N, 400)],
        "interaction": ["click"] * 400,
        "time": pa.array(1_300_000_000 + 3600 * np.arange(400)).cast(pa.timestamp("s", tz="UTC")),
    })  # fmt: skip
    return Shop.from_tables(events, pa.table({"item": [f"i{item}" for item in range(N)]}))


def told_in_ids(n_links: int) -> pa.Table:
    """Links inside of groups, some of them of items that the shop does not know."""
    rng = np.random.default_rng(2)
    group = OF_GROUP * rng.integers(0, GROUPS, n_links)
    one, other = (group + rng.integers(0, OF_GROUP, n_links) for _ in range(2))
    item = [f"i{number}" for number in one] + ["gone", "i1", "i2", "i3"]
    others = [f"i{number}" for number in other] + ["i5", "gone", "i2", "i9"]
    return pa.table({"item": item, "other": others, "relation": ["complement"] * (n_links + 3) + ["looks nice"]})


SMALL = {"dim": 8, "epochs": 1, "text": "none", "complement": "none", "link_pairs": 80}


def test_a_model_given_links_lists_by_them_and_comes_back(tmp_path: Path) -> None:
    shop = a_shop()
    model = CrossSell(score_by="links", **SMALL).with_relations(told_in_ids(900)).fit(shop)
    listed = model.related("i7", k=4)
    assert {item for item, _ in listed} <= {f"i{number}" for number in range(6, 12)}
    assert all(score > 0 for _, score in listed)
    model.save(tmp_path / "model")
    again = models.open(tmp_path / "model")
    assert isinstance(again, CrossSell)
    everything = np.arange(shop.n_items, dtype=np.int32)
    request = Request(k=3, basket=np.array([3, 50], np.int32))
    np.testing.assert_array_equal(model.score(request, everything), again.score(request, everything))
    assert again.related("i7", k=4) == listed


def test_validation_may_choose_links_and_says_what_it_compared() -> None:
    model = CrossSell(score_by="auto", validation=0.2, **SMALL).with_relations(told_in_ids(900)).fit(a_shop())
    found = model._learned()["score_by"]
    assert set(found["figures"]) >= {"network", "evidence", "walk", "jaccard", "pagerank", "links"}
    assert found["figures"]["links"] > found["figures"]["network"]
    assert found["chosen"] == max(found["figures"], key=found["figures"].get)


def test_what_validation_asks_for_is_in_nothing_that_links_are_taught_by() -> None:
    told = Told(links((0, 1), (1, 0), (2, 3), (0, 4)), links((1, 0), (2, 4)), csr_array(np.ones((3, 6), np.float32)))
    left = told.without_baskets(Baskets.of_lists([[0, 1], [2, 3, 4]]))  # of buyers 0 and 1
    assert sorted(zip(*(ends.tolist() for ends in left.goes_with.nonzero()), strict=True)) == [(0, 4), (2, 3)]
    assert left.stands_for is not None
    assert left.seen is not None
    assert left.stands_for.nnz == 1
    assert np.diff(left.seen.indptr).tolist() == [0, 0, 6]


@pytest.mark.parametrize("given", [None, 0])
def test_without_links_the_network_scores(given: int | None, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop.from_tables(simulate.tables(simulate.ShopSettings(events=3000, items=60, best=0)).events)
    model = CrossSell(score_by="links", **SMALL)
    if given is not None:
        model.with_relations(told_in_ids(given))
    model.fit(shop)
    assert "links do not score pairs" in caplog.text
    assert model._learned()["score_by"]["chosen"] == "network"
    assert len(model.related(shop.items[0], k=3)) == 3
