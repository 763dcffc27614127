"""Edges from a catalogue: what is alike, how they fade, and that they stay below purchases."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.attributes import Categories, PriceBands, category_path, log_prices
from endcap.graph.catalogue import Likeness, catalogue_edges, with_catalogue

ROWS = {  # item: title, category, brand, price
    "lens": ("Prime lens 50 mm", "photo/lenses", "Nova", 200.0),
    "zoom": ("Zoom lens 70-200 mm", "photo/lenses", "Nova", 900.0),
    "body": ("Mirrorless camera body", "photo/cameras", "Nova", 1500.0),
    "pan": ("Cast iron frying pan", "kitchen/pans", "Ferro", 40.0),
    "wok": ("Carbon steel wok pan", "kitchen/pans", None, None),
    "odd": (None, None, None, None),
    "new": ("Wide prime lens 24 mm", "photo/lenses", "Nova", 210.0),
}
NAMES = list(ROWS)


def catalogue() -> pa.Table:
    title, category, brand, price = zip(*ROWS.values(), strict=True)
    return pa.table({"item": NAMES, "title": title, "category": category, "brand": brand, "price": price})


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("a/b/c", ["a", "a/b", "a/b/c"]), (" a / b ", ["a", "a/b"]), ("a//b/", ["a", "a/b"]), ("/", []), ("", []),
        (None, []), ("a/b/a/c", ["a", "a/b", "a/b/c"]), ("a/a", ["a"]),
    ],
)  # fmt: skip
def test_paths_of_categories_with_gaps_and_circles(text, path):
    assert category_path(text) == path


def test_the_tree_of_categories_has_no_circle_whatever_the_paths():
    tree = Categories.of(["a/b", "b/a", "a/b/a", None, "c"])
    assert tree.names == ["a", "a/b", "b", "b/a", "c"]
    assert tree.parent.tolist() == [-1, 0, -1, 2, -1]
    assert tree.depth.tolist() == [1, 2, 1, 2, 1]
    assert tree.leaf.tolist() == [1, 3, 1, -1, 4]
    rows, found = tree.branch(tree.leaf)
    assert sorted(zip(rows.tolist(), found.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 2), (1, 3), (2, 0), (2, 1), (4, 4)
    ]  # fmt: skip


def test_prices_that_are_none():
    table = pa.table({"price": [1.0, None, float("nan"), float("inf"), 0.0]})
    assert np.isfinite(log_prices(table)).tolist() == [True, False, False, False, True]
    assert np.isnan(log_prices(pa.table({"item": ["a", "b"]}))).all()
    assert np.isnan(log_prices(pa.table({"price": pa.nulls(2)}))).all()


def test_price_bands_are_fifths_of_a_group():
    price, group = np.log1p(np.arange(20.0)), np.repeat([0, 1], 10)
    bands = PriceBands(price, group, 3)
    assert bands.of(price, group).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4] * 2
    assert bands.of(np.array([np.nan, 99.0, -1.0]), np.array([0, 2, -1])).tolist() == [-1, 4, 0]
    assert PriceBands(np.full(3, np.nan), np.zeros(3, int), 1).of(np.zeros(1), np.zeros(1, int)).tolist() == [-1]


def likeness(bought: list[float] | None = None) -> Likeness:
    return Likeness(catalogue(), np.array(bought or [9.0] * len(ROWS)))


def test_what_is_alike():
    found = likeness().of_known(np.arange(len(ROWS)), 10).toarray()
    new, lens, zoom, body, pan, wok, odd = (
        NAMES.index(name) for name in ("new", "lens", "zoom", "body", "pan", "wok", "odd")
    )
    assert found[new].argmax() == lens
    assert found[new, lens] > found[new, zoom] > found[new, body] > 0 == found[new, pan]
    assert found[pan, wok] > 0.25  # one leaf, and words of the title
    assert not found[odd].any()
    assert not found[:, odd].any()
    assert (np.diagonal(found) == 0).all()
    assert found.max() <= 1


def test_a_product_that_arrives_later_is_like_what_it_would_have_been_like():
    table = catalogue()
    known = Likeness(table.slice(0, 6), np.full(6, 9.0))
    late = known.of_new(table.slice(6, 1), 10).toarray()[0]
    assert np.argsort(-late)[:3].tolist() == [NAMES.index(name) for name in ("lens", "zoom", "body")]
    stranger = pa.table({"item": ["x"], "category": ["toys"], "brand": ["Z"], "title": ["?"], "price": [1.0]})
    assert known.of_new(stranger, 10).nnz == 0
    assert known.of_new(pa.table({"item": ["x"]}), 10).nnz == 0


def test_weights_fade_and_stay_below_purchases():
    n = len(ROWS)
    purchases = csr_array(([8.0, 2.0, 0.01], ([0, 0, 1], [1, 2, 3])), shape=(n, n)).astype(np.float32)
    bought = np.array([3.0, 1, 0, 100, 0, 0, 0])
    edges = catalogue_edges(catalogue(), bought, purchases, k=4)
    alike = Likeness(catalogue(), bought).of_known(np.arange(n), 4).toarray()
    w0 = 0.2 * 2.0
    dense = edges.toarray()
    np.testing.assert_allclose(dense[6], w0 * alike[6], rtol=1e-5)
    np.testing.assert_allclose(dense[0], w0 * np.exp(-3 / 5) * alike[0], rtol=1e-5)
    np.testing.assert_allclose(dense[1], 0.005 * np.exp(-1 / 5) * alike[1], rtol=1e-5)  # its own weakest purchase: .01
    assert not dense[3].any()
    both = with_catalogue(purchases, edges).toarray()
    assert both[0, 1] == 8
    np.testing.assert_allclose(both[6], dense[6])
    for row in range(n):
        bought_edges, others = purchases.toarray()[row], dense[row]
        assert not others.any() or not bought_edges.any() or others.max() < bought_edges[bought_edges > 0].min()


def test_a_shop_without_purchases_has_catalogue_edges_alone():
    n = len(ROWS)
    nothing = csr_array((n, n), dtype=np.float32)
    edges = catalogue_edges(catalogue(), np.zeros(n), nothing)
    assert edges.nnz > 0
    assert (with_catalogue(nothing, edges) != edges).nnz == 0


def test_a_catalogue_that_says_nothing():
    n = 3
    nothing = csr_array((n, n), dtype=np.float32)
    assert catalogue_edges(pa.table({"item": ["a", "b", "c"]}), np.zeros(n), nothing).nnz == 0


def test_large_categories_cost_no_more_than_their_most_bought_products():
    n = 20_000
    table = pa.table({"item": [str(i) for i in range(n)], "category": ["all"] * n, "title": ["thing"] * n})
    bought = np.zeros(n)
    bought[17] = 3
    edges = catalogue_edges(table, bought, csr_array((n, n), dtype=np.float32), k=5)
    assert edges.nnz == 5 * n
    assert (edges[[5, 19_999], [17, 17]] > 0).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="7 products and 2 counts"):
        Likeness(catalogue(), np.zeros(2))
    with pytest.raises(InputError, match="7 products and a graph of 2 x 2"):
        catalogue_edges(catalogue(), np.zeros(7), csr_array((2, 2), dtype=np.float32))
    with pytest.raises(InputError, match="k=0"):
        catalogue_edges(catalogue(), np.zeros(7), csr_array((7, 7), dtype=np.float32), k=0)
