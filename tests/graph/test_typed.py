"""The typed graph: any subset of types, features that are finite and say what they should."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap.errors import DamagedArtefact, InputError
from endcap.graph.features import Nodes, Scale, nodes_of
from endcap.graph.occasions import find_occasions
from endcap.graph.typed import NODE_TYPES, Relation, TypedGraph, typed_graph
from endcap.shop import Shop

from .shops import DAY, START, shop_of


@pytest.fixture(scope="module")
def small(shop: Shop) -> TypedGraph:
    return typed_graph(shop, occasions=4)


def test_all_types_of_a_simulated_shop(shop, small):
    assert list(small.nodes) == list(NODE_TYPES)
    assert not small.absent
    assert small.counts()["product"] == shop.n_items
    assert small.counts()["user"] == shop.n_users
    assert {relation.name for relation in small.relations} == {
        "purchases", "browses", "belongs to", "part of", "made by", "co-purchased", "followed by", "associated with",
    }  # fmt: skip
    for relation, graph in small.relations.items():
        assert graph.dtype == np.float32, relation
        assert (graph.data > 0).all(), relation
        assert graph.has_canonical_format, relation
    for kind, nodes in small.nodes.items():
        assert np.isfinite(nodes.features).all(), kind
        assert nodes.features.std() > 0, kind
        assert max(last for _, last in nodes.groups.values()) == nodes.features.shape[1]
        assert len(nodes.names) == (0 if kind in ("product", "user") else len(nodes))


def test_what_happens_after_the_view_changes_nothing():
    rows = [(f"u{n % 5}", f"i{n * n % 7}", "purchase", n * 2 * DAY) for n in range(60)]
    later = [("u1", "i1", "purchase", 130 * DAY + n) for n in range(9)] + [("u2", "i4", "return", 140 * DAY)]
    whole, alone = shop_of(*rows, *later), shop_of(*rows)
    view = typed_graph(whole.until((START + 125 * DAY) * 1_000_000), occasions=3)
    graph = typed_graph(alone, occasions=3)
    assert view.trained_until == graph.trained_until
    for kind, nodes in graph.nodes.items():
        np.testing.assert_array_equal(view.nodes[kind].features, nodes.features)
    for relation, edges in graph.relations.items():
        assert (view.relations[relation] != edges).nnz == 0


@pytest.mark.parametrize("types", [(), ("brand",), ("category", "user"), ("occasion",)])
def test_any_subset(shop, types):
    graph = typed_graph(shop, types=types, occasions=3)
    assert set(graph.nodes) == {"product", *types}
    for relation in graph.relations:
        assert {relation.source, relation.target} <= set(graph.nodes)


def test_steps_of_an_ablation(small):
    step = small.only(["product", "brand"])
    assert {relation.name for relation in step.relations} == {"made by", "co-purchased", "followed by"}
    assert [relation.name for relation in small.only(relations=["purchases"]).relations] == ["purchases"]
    with pytest.raises(InputError, match="has no 'shop'"):
        small.only(["product", "shop"])
    with pytest.raises(InputError, match="has no 'sells'"):
        small.only(relations=["sells"])


def test_both_ways(small):
    both = small.both_ways()
    turned = both.relations[Relation("brand", "reversed made by", "product")]
    made_by = small.relations[Relation("product", "made by", "brand")]
    assert (turned != made_by.T).nnz == 0
    assert len(both.relations) == 2 * len(small.relations)


def test_a_log_that_feeds_products_alone():
    shop = shop_of(("u", "a", "click", 0), ("u", "b", "click", 5))
    graph = typed_graph(shop)
    assert set(graph.nodes) == {"product", "user"}
    assert graph.absent == {
        "category": "no product has a category",
        "brand": "no product has a brand",
        "occasion": "the purchases cover 1 weeks of the year, occasions need 8",
    }
    assert [relation.name for relation in graph.relations] == [
        "co-purchased",
        "purchases",
    ]  # clicks stand for purchases


def test_a_log_without_purchases_or_anything():
    shop = shop_of(("u", "a", "impression", 0))
    graph = typed_graph(shop)
    assert set(graph.nodes) == {"product"}
    assert not graph.relations
    assert graph.absent["co-purchased"] == "no two products were bought together"


def test_categories_with_circles_and_gaps_and_features_that_are_no_numbers():
    items = pa.table(
        {
            "item": ["a", "b", "c", "d"],
            "category": ["x/y/x", "y//x", None, "/"],
            "brand": ["", "Nova", None, "Nova"],
            "price": [1.0, None, float("nan"), 3.0],
            "title": ["red hat", "", None, "red hat"],
            "vector_image": [[1.0, 2.0], None, None, [0.0, 0.0]],
        }
    )
    rows = [(f"u{n % 3}", "abcd"[n % 4], "purchase", n * 3 * DAY) for n in range(40)]
    graph = typed_graph(shop_of(*rows, items=items), occasions=2)
    assert set(graph.nodes) == set(NODE_TYPES)
    assert graph.nodes["category"].names == ["x", "x/y", "y", "y/x"]
    for nodes in graph.nodes.values():
        assert np.isfinite(nodes.features).all()
    order = [shop_of(*rows, items=items).items.number(item) for item in "abcd"]
    vectors = graph.nodes["product"].group("vector_image")[order]
    np.testing.assert_allclose(vectors, [[1 / 5**0.5, 2 / 5**0.5], [0, 0], [0, 0], [0, 0]], atol=1e-6)


def test_features_say_what_they_are_named_after():
    items = pa.table(
        {
            "item": ["cheap", "dear", "old"], "price": [1.0, 100.0, 10.0], "brand": ["Low", "High", "Low"],
            "category": ["c/d", "c/d", "c/e"], "title": ["a b", "c d", "a b"],
        }
    )  # fmt: skip
    rows = [("u", "old", "purchase", 0)] + [("v", "cheap", "purchase", 100 * DAY + n * DAY) for n in range(5)]
    rows += [("w", "dear", "purchase", 104 * DAY)]
    shop = shop_of(*rows, items=items)
    graph = typed_graph(shop, types=("user", "brand", "category"))
    number = {name: shop.items.number(name) for name in ("cheap", "dear", "old")}
    sales = graph.nodes["product"].group("sales")
    assert sales[number["cheap"], 0] == sales[:, 0].max()  # ever
    assert sales[number["old"], 1] < sales[number["dear"], 1]  # in the last week
    assert sales[number["old"], 6] == sales[:, 6].max()  # days since the last
    price = graph.nodes["product"].group("price")
    assert price[number["dear"], 0] > price[number["old"], 0] > price[number["cheap"], 0]
    text = graph.nodes["product"].group("text")
    np.testing.assert_allclose(text[number["cheap"]], text[number["old"]])
    users = {name: shop.users.number(name) for name in "uvw"}
    assert graph.nodes["user"].group("habits")[users["v"], 0] == graph.nodes["user"].group("habits")[:, 0].max()
    assert graph.nodes["user"].group("tastes")[users["w"], 0] > graph.nodes["user"].group("tastes")[users["v"], 0]
    standing = graph.nodes["brand"].group("standing")
    assert graph.nodes["brand"].names == ["High", "Low"]
    assert standing[0, 2] > standing[1, 2]  # price tier
    assert graph.nodes["category"].group("size")[0, 3] < graph.nodes["category"].group("size")[1, 3]  # depth
    purchases = graph.relations[Relation("user", "purchases", "product")]
    assert purchases[[users["u"]], [number["old"]]] < purchases[[users["w"]], [number["dear"]]]


def test_new_products_have_features_in_the_same_columns(shop):
    from endcap.graph.features import ProductFeatures
    from endcap.shop.purchases import purchases_of

    products = ProductFeatures(shop.catalogue, purchases_of(shop), shop.end)
    late = products.new(shop.catalogue.slice(3, 2))
    assert late.shape == (2, products.known.features.shape[1])
    for group in set(products.known.groups) - {"sales"}:
        first, last = products.known.groups[group]
        np.testing.assert_allclose(late[:, first:last], products.known.features[3:5, first:last], atol=1e-6)
    assert np.isfinite(products.new(pa.table({"item": ["x"]}))).all()


def test_planted_seasons_become_occasions():
    """Twelve summer products, twelve winter products, six all the year."""
    rng = np.random.default_rng(0)
    week = {"summer": [24, 25, 26, 27, 28], "winter": [0, 1, 50, 51, 52], "always": range(53)}
    kinds = ["summer"] * 12 + ["winter"] * 12 + ["always"] * 6
    item, time = [], []
    for number, kind in enumerate(kinds):
        item += [number] * 60
        time += [int((rng.choice(list(week[kind])) + rng.random()) / 53 * 365.25 * DAY * 1_000_000) for _ in range(60)]
    found = find_occasions(np.array(item), np.array(time), 30, k=3)
    main = found.items.toarray().argmax(axis=1)
    assert len(set(main[:12])) == len(set(main[12:24])) == 1
    assert main[0] != main[12]
    assert found.weeks[main[0], 24:29].sum() > 0.5
    np.testing.assert_allclose(found.weeks.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(InputError, match="cover 1 weeks of the year, at least 8"):
        find_occasions(np.array(item), np.zeros(len(item), int), 30, k=3)
    with pytest.raises(InputError, match="occasions=0"):
        find_occasions(np.array(item), np.array(time), 30, k=0)


def test_unknown_types_and_relations_that_do_not_fit_are_refused(shop):
    with pytest.raises(InputError, match="no node type 'shop'"):
        typed_graph(shop, types=("shop",))
    products = nodes_of({"x": np.zeros((3, 1))})
    with pytest.raises(InputError, match="relation product made by brand"):
        TypedGraph({"product": products}, {Relation("product", "made by", "brand"): csr_array((3, 2))}, 0)
    with pytest.raises(InputError, match="different length"):
        nodes_of({"x": np.zeros((3, 1)), "y": np.zeros((2, 1))})
    with pytest.raises(InputError, match="no features 'y'; there are x"):
        products.group("y")


def test_scaling_has_no_opinion_on_what_is_unknown_or_all_alike():
    scale = Scale(np.array([[1.0, 5.0], [3.0, 5.0], [np.nan, 5.0]]))
    np.testing.assert_allclose(scale.of(np.array([[3.0, 9.0], [np.nan, 5.0], [1e9, 5.0]])), [[1, 0], [0, 0], [5, 0]])
    assert isinstance(nodes_of({"x": np.array([[np.inf]])}), Nodes)
    assert nodes_of({"x": np.array([[np.inf]])}).features.tolist() == [[0]]


def test_a_stored_typed_graph_comes_back_and_a_damaged_one_does_not(small, tmp_path):
    small.write(tmp_path)
    about = json.loads(json.dumps(small.about()))
    again = TypedGraph.read(tmp_path, about)
    assert again.counts() == small.counts()
    assert list(again.relations) == list(small.relations)
    for relation, graph in again.relations.items():
        assert (graph != small.relations[relation]).nnz == 0
    np.testing.assert_array_equal(again.nodes["brand"].group("standing"), small.nodes["brand"].group("standing"))
    assert not again.nodes["product"].features.flags.owndata
    file = tmp_path / "nodes-brand.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    with pytest.raises(DamagedArtefact, match="brand"):
        TypedGraph.read(tmp_path, about)
    file.write_bytes(whole)
    (tmp_path / "relation-0.data.npy").unlink()
    with pytest.raises(DamagedArtefact, match="relation-0"):
        TypedGraph.read(tmp_path, about)
