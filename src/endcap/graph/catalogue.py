"""Edges that a catalogue alone gives: same leaf category, brand and price band, near text. Products that nobody has
bought yet have no others; those fade as purchases come in.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.attributes import Categories, PriceBands, codes_of, log_prices, texts_of
from endcap.graph.edges import graph_of, stacked, top_edges
from endcap.graph.texts import TextVectors

FADING = 5.0  # baskets over which a catalogue edge loses all but 1/e of its weight
FAINT = 0.01  # what has faded to this is no edge
SHARE = 0.2  # of the median purchase edge that a catalogue edge weighs at the most
POOL = 30  # candidates of each kind
ROWS_AT_ONCE = 4096
TIE = 1e-3  # of the likeness: of products that are equally like, the most bought


class Likeness:
    """How like two products are by what a catalogue says: the mean of four shares, each 0 or 1 but the last.

    Same leaf category; same brand; same fifth of the prices of the leaf, where leaf or brand is the same; cosine of
    the titles' n-grams, weighted by idf. What is not known is not alike.
    """

    def __init__(self, catalogue: pa.Table, bought: NDArray[np.floating]) -> None:
        """
        Args:
            catalogue: of all known products, a row each; bought: (n,) baskets of each: the most bought of a category
            and of a brand stand for it.

        Raises:
            InputError: if the two are not of one length.
        """
        if len(bought) != catalogue.num_rows:
            raise InputError(f"catalogue edges: {catalogue.num_rows} products and {len(bought)} counts")
        self.n = catalogue.num_rows
        self._tree = Categories.of(texts_of(catalogue, "category"))
        self._brands, self._brand = codes_of(texts_of(catalogue, "brand"))
        self._leaf, price = self._tree.leaf, log_prices(catalogue)
        self._bands = PriceBands(price, self._leaf, len(self._tree))
        self._band = self._bands.of(price, self._leaf)
        self._known = np.asarray(bought, np.float64) / (np.asarray(bought, np.float64) + 10)
        self._text = TextVectors(texts_of(catalogue, "title"))
        self._of_leaf = _first_of_groups(self._leaf, len(self._tree), bought)
        self._of_brand = _first_of_groups(self._brand, len(self._brands), bought)

    def of_known(self, items: NDArray[np.integer], k: int) -> csr_array:
        """(m, n): the k known products that each of these is most like, itself left out."""
        items = np.asarray(items, np.int64)
        rows = self._text.vectors[items]
        return self._nearest(self._leaf[items], self._brand[items], self._band[items], rows, items, k)

    def of_new(self, table: pa.Table, k: int) -> csr_array:
        """(rows of the table, n): the k known products that each new one is most like."""
        number = {name: place for place, name in enumerate(self._tree.names)}
        paths = Categories.of(texts_of(table, "category"))
        leaf = np.array([number.get(paths.names[at], -1) if at >= 0 else -1 for at in paths.leaf], np.int32)
        brands = {name: place for place, name in enumerate(self._brands)}
        brand = np.array([brands.get(name or "", -1) for name in texts_of(table, "brand")], np.int32)
        band = self._bands.of(log_prices(table), leaf)
        rows = self._text.read(texts_of(table, "title"))
        return self._nearest(leaf, brand, band, rows, np.full(table.num_rows, -1), k)

    def _nearest(
        self, leaf: NDArray, brand: NDArray, band: NDArray, text: csr_array, own: NDArray, k: int
    ) -> csr_array:
        near_text = self._text.nearest(text, POOL)
        parts = [csr_array((0, self.n), dtype=np.float32)]
        for first in range(0, len(leaf), ROWS_AT_ONCE):
            rows = slice(first, first + ROWS_AT_ONCE)
            candidates = np.hstack([self._of_leaf[leaf[rows]], self._of_brand[brand[rows]], near_text[rows]])
            row, place = np.nonzero((candidates >= 0) & (candidates != own[rows, None]))
            other = candidates[row, place]
            at = first + row
            same_leaf = (leaf[at] >= 0) & (leaf[at] == self._leaf[other])
            same_brand = (brand[at] >= 0) & (brand[at] == self._brand[other])
            same_band = (same_leaf | same_brand) & (band[at] >= 0) & (band[at] == self._band[other])
            alike = self._text.cosines(text, at, other)
            likeness = (same_leaf * 1.0 + same_brand + same_band + alike) / 4
            likeness = likeness * (1 - TIE) + TIE * self._known[other] * (likeness > 0)
            n = len(leaf[rows])
            parts.append(top_edges(graph_of(row, other, likeness, shape=(n, self.n), loops=True), k))
        return stacked(parts)


def catalogue_edges(
    catalogue: pa.Table, bought: NDArray[np.floating], purchases: csr_array, *, k: int = 10
) -> csr_array:
    """(n, n): what products are like that few have bought, always below the purchase edges of the same row.

    The weight is w0 * exp(-n_i / 5) * likeness, with n_i baskets of the product and w0 a fifth of the median purchase
    edge, at most half of the product's own weakest one. Rows are products with fewer than 24 baskets; what has been
    bought more has nothing to learn here.

    Args:
        bought: (n,) baskets of each product; purchases: the graph that these edges are to be added to.

    Raises:
        InputError: if the three are not of one length, or k is below 1.
    """
    n = catalogue.num_rows
    if purchases.shape != (n, n):
        raise InputError(f"catalogue edges: {n} products and a graph of {purchases.shape[0]} x {purchases.shape[1]}")
    likeness = Likeness(catalogue, bought)
    fading = np.exp(-np.asarray(bought, np.float64) / FADING)
    cold = np.flatnonzero(fading > FAINT)
    found = likeness.of_known(cold, k)
    w0 = SHARE * float(np.median(purchases.data)) if purchases.nnz else SHARE
    weakest = np.full(n, np.inf)
    np.minimum.at(weakest, np.repeat(np.arange(n), np.diff(purchases.indptr)), purchases.data)
    row = np.repeat(cold, np.diff(found.indptr))
    weight = np.minimum(w0, weakest[row] / 2) * fading[row] * found.data
    return graph_of(row, found.indices, weight, shape=(n, n))


def with_catalogue(purchases: csr_array, edges: csr_array) -> csr_array:
    """Both kinds of edges in one graph; where there are two, the purchase counts.

    Raises:
        InputError: if the graphs are not of one shape.
    """
    if edges.shape != purchases.shape:
        raise InputError(f"with_catalogue: graphs of {purchases.shape} and {edges.shape}")
    only_new = edges.copy()
    only_new.data[_in_pattern(edges, purchases)] = 0
    only_new.eliminate_zeros()
    found = csr_array(purchases + only_new)
    found.sort_indices()
    return found.astype(np.float32)


def _in_pattern(edges: csr_array, other: csr_array) -> NDArray[np.bool_]:
    """(nnz,) whether each edge is one of another graph, too."""
    n = edges.shape[1]
    keys = [
        np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr)) * n + graph.indices.astype(np.int64)
        for graph in (edges, other)
    ]
    return np.isin(*keys)


def _first_of_groups(group: NDArray[np.int32], n_groups: int, bought: NDArray[np.floating]) -> NDArray[np.int64]:
    """(n_groups + 1, POOL): the most bought products of each, -1 where there are fewer, and in all of the last row."""
    order = np.lexsort((-np.asarray(bought, np.float64), group))
    order = order[group[order] >= 0]
    begin = np.searchsorted(group[order], np.arange(n_groups + 1))
    place = np.arange(len(order)) - begin[group[order]]
    found = np.full((n_groups + 1, POOL), -1, np.int64)
    first = place < POOL
    found[group[order][first], place[first]] = order[first]
    return found
