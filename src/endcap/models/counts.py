"""Baselines that count: directed co-occurrence in sessions, co-purchase, item-to-item nearest neighbours.

None of them learns anything, and on small logs they are hard to beat (papers/item_interaction.md, A7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numba
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Items, Scores
from endcap.graph import Baskets, co_purchase, typed_sessions, weigh
from endcap.graph.copurchase import PER_ITEM, Weighting
from endcap.kernels.pairs import top_following_by_block, top_together_by_block
from endcap.models.base import Model
from endcap.models.basket_model import BasketModel, Together
from endcap.models.lists import Lists
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.settings import BYTES_PATTERN
from endcap.shop import Events, Shop
from endcap.shop.purchases import Purchases, purchases_of

PRODUCTS_AT_ONCE = 1 << 22  # of a block of a sparse matrix product

ListLength = Annotated[int, Meta(ge=1, description="how many related items are kept for each item")]
PerUser = Annotated[int, Meta(ge=2, description="only a user's latest items count, so that robots cost nothing")]
Memory = Annotated[
    str,
    Meta(pattern=f"^{BYTES_PATTERN}$", description="bound of what the counting takes beside log and lists: 512MB, 4GB"),
]


class _ListModel(Model):
    """A model that is nothing but lists."""

    _lists: Lists

    def _rows(self, items: Items, seen_as: int, want: int) -> NDArray[np.integer]:
        """Where the lists of items (n,) are, -1 for items without one."""
        items = np.asarray(items)
        return np.where((items >= 0) & (items < len(self._lists.offsets) - 1), items, -1)

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`; at most as long as the lists that were kept."""
        return self._lists.gather(self._rows(items, seen_as, want), k, allowed)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return self._lists.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._lists = Lists(arrays["offsets"], arrays["items"], arrays["scores"])


class CoOccurrenceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of directed co-occurrence."""

    k: ListLength = 1000
    typed: Annotated[bool, Meta(description="count (item, interaction) pairs; false: items alone")] = True
    min_count: Annotated[int, Meta(ge=1, description="sessions that a pair must occur in")] = 1
    reach: Annotated[int, Meta(ge=1, description="how many actions later is still counted")] = 1000
    memory: Memory = "4GB"


class CoOccurrence(_ListModel):
    """How many sessions hold (b, want) somewhere after (a, seen as); ties by the lower item number."""

    system = "co-occurrence"
    Config: ClassVar[type[msgspec.Struct]] = CoOccurrenceConfig
    config: CoOccurrenceConfig
    search_space: ClassVar[SearchSpace] = {
        "typed": OneOf(True, False),
        "min_count": Range(1, 5),
        "reach": Range(1, 1000, log=True),
    }

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        kinds = len(shop.interactions) if self.config.typed else 1
        corpus = typed_sessions(shop.positives, shop.positives.item, shop.n_items, kinds)
        k = min(self.config.k, shop.n_items)
        blocks = top_following_by_block(
            corpus.tokens,
            corpus.offsets,
            corpus.kind,
            corpus.thing,
            k=k,
            min_count=self.config.min_count,
            reach=self.config.reach,
            threads=threads,
            memory=self.config.memory,
        )
        self._row_of = corpus.row_of
        self._lists = Lists.of_blocks(_lists_by_kind(blocks, k, kinds, corpus.thing))

    def _rows(self, items: Items, seen_as: int, want: int) -> NDArray[np.integer]:
        items, kinds = np.asarray(items), len(self._row_of)
        if not self.config.typed:
            seen_as = want = 0
        known = (items >= 0) & (items < self._row_of.shape[1])
        token = np.where(known, self._row_of[seen_as, np.where(known, items, 0)], -1)
        return np.where(token >= 0, token.astype(np.int64) * kinds + want, -1)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {**super()._arrays(), "row_of": self._row_of}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        super()._restore(arrays, learned)
        self._row_of = arrays["row_of"]


def _lists_by_kind(
    blocks: Iterator[tuple[NDArray, NDArray]], k: int, kinds: int, thing: Items
) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Rows (token, kind) without their pads; the strongest kinds may be missing from a block's columns."""
    for top, counts in blocks:
        lengths = np.zeros((len(top), kinds), np.int64)
        held = (top >= 0).reshape(len(top), -1, k).sum(axis=2)
        lengths[:, : held.shape[1]] = held
        yield lengths.ravel(), thing[top[top >= 0]], counts[top >= 0]


class ItemKNNConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of item-to-item nearest neighbours."""

    k: ListLength = 500
    shrink: Annotated[float, Meta(ge=0, description="added to the denominator: distrust of few users")] = 10.0
    max_per_user: PerUser = 1000


class ItemKNN(_ListModel):
    """Cosine of two items' users, n_ab / (sqrt(n_a n_b) + shrink); which interaction it was does not matter."""

    system = "item-knn"
    Config: ClassVar[type[msgspec.Struct]] = ItemKNNConfig
    config: ItemKNNConfig
    search_space: ClassVar[SearchSpace] = {
        "shrink": Range(0.1, 300.0, log=True),
        "max_per_user": Range(10, 1000, log=True),
    }

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        by_user = latest_items(shop.positives, shop.positives.user, shop.n_items, self.config.max_per_user)
        self._lists = cosine_lists(by_user.T.tocsr(), self.config.k, self.config.shrink)


class CoPurchaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of co-purchase."""

    k: ListLength = 500
    weight: Annotated[
        Literal["vectors", Weighting],
        Meta(description="of a pair: the cosine of both items' co-purchase vectors, or a function of its counts"),
    ] = "vectors"
    basket: Annotated[
        Literal["session", "user"], Meta(description="bought together: in one order or session, or ever by one user")
    ] = "user"
    together: Together = "sum"
    min_support: Annotated[int, Meta(ge=1, description="of counts: baskets that must hold both items")] = 1
    damping: Annotated[float, Meta(ge=0, description="of damped: power of the other item's count")] = 0.5
    shrink: Annotated[float, Meta(ge=0, description="of counts: distrust of few baskets, c / (c + shrink)")] = 0.0
    vector_length: Annotated[int, Meta(ge=1, description="of vectors: co-purchased items kept in one")] = 200
    max_per_user: PerUser = 1000
    memory: Memory = "4GB"


class CoPurchase(BasketModel):
    """What is bought together: vectors compare what two items were bought with, themselves included; counts the pair.

    Counts take orders, where the log has them, without what was returned, and sessions otherwise; see
    `endcap.graph.weigh` for their weights.
    """

    system = "co-purchase"
    Config: ClassVar[type[msgspec.Struct]] = CoPurchaseConfig
    config: CoPurchaseConfig
    search_space: ClassVar[SearchSpace] = {
        "weight": OneOf("vectors", "cosine", "jaccard", "damped", "walk"),
        "basket": OneOf("session", "user"),
        "vector_length": Range(10, 500, log=True),
        "max_per_user": Range(10, 1000, log=True),
    }

    @property
    def _by_max(self) -> bool:
        return self.config.together == "max"

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        config, bought = self.config, purchases_of(shop)
        basket = bought.user if config.basket == "user" else bought.basket
        by_basket = latest_items(bought, basket, shop.n_items, config.max_per_user)
        if config.weight == "vectors":
            vectors = co_counts(by_basket, config.vector_length, threads=threads, memory=config.memory)
            self._lists = cosine_lists(vectors, config.k, 0.0)
            return
        seen = {"min_support": config.min_support, "min_together": config.min_support}
        counted = co_purchase(
            baskets_of_rows(by_basket), shop.n_items, per_item=max(config.k, PER_ITEM), threads=threads, **seen
        )
        graph = weigh(counted, config.weight, damping=config.damping, shrink=config.shrink)
        self._lists = Lists.of_blocks(iter([_strongest(graph, config.k)]))


def baskets_of_rows(by_basket: csr_array) -> Baskets:
    """The rows of (baskets, n_items) as baskets without users and times."""
    by_basket.sort_indices()
    n = by_basket.shape[0]
    return Baskets(
        by_basket.indptr.astype(np.int64), by_basket.indices, np.arange(n, dtype=np.int32), np.zeros(n, np.int64)
    )


def latest_items(events: Events | Purchases, group: NDArray[np.integer], n_items: int, at_most: int) -> csr_array:
    """(groups, n_items) float32 of 0 and 1: each group's latest `at_most` different items."""
    order = np.lexsort((-events.item, events.time, group))[::-1]  # latest first, then the lower item
    group, item = group[order], events.item[order]
    _, first = np.unique(group.astype(np.int64) * n_items + item, return_index=True)
    first.sort()
    group, item = group[first], item[first]
    starts = np.flatnonzero(np.append(True, group[1:] != group[:-1]))
    lengths = np.diff(np.append(starts, len(group)))
    kept = np.arange(len(group)) - np.repeat(starts, lengths) < at_most
    _, row = np.unique(group[kept], return_inverse=True)
    cells = (np.ones(len(row), np.float32), (row, item[kept]))
    return csr_array(cells, shape=(int(row.max(initial=-1)) + 1, n_items))


def co_counts(by_basket: csr_array, per_item: int, *, threads: int = 1, memory: int | str | None = None) -> csr_array:
    """(n_items, n_items): in how many baskets two items lie; the `per_item` largest of each row and each column."""
    n_items = by_basket.shape[1]
    blocks = top_together_by_block(
        by_basket.indices,
        by_basket.indptr,
        n_items,
        k=max(1, min(per_item, n_items)),
        itself=True,
        reach=n_items,
        threads=threads,
        memory=memory,
    )
    held = Lists.of_blocks(((top >= 0).sum(axis=1), top[top >= 0], counts[top >= 0]) for top, counts in blocks)
    matrix = csr_array((held.scores, held.items, held.offsets), shape=(n_items, n_items))
    lengths, items, counts = _strongest(matrix.T.tocsr(), per_item)
    return csr_array((counts, items, np.append(0, np.cumsum(lengths))), shape=(n_items, n_items)).T.tocsr()


def cosine_lists(vectors: csr_array, k: int, shrink: float) -> Lists:
    """For each row of (n, m) the k rows with the largest cosine, itself left out, in blocks of bounded work."""
    transposed = vectors.T.tocsr()
    norm = np.sqrt((vectors * vectors).sum(axis=1)).astype(np.float32)

    def block(rows: slice) -> tuple[NDArray, NDArray, NDArray]:
        product = vectors[rows] @ transposed
        row = np.repeat(np.arange(rows.start, rows.stop), np.diff(product.indptr))
        product.data /= norm[row] * norm[product.indices] + np.float32(shrink)
        product.data[row == product.indices] = 0
        return _strongest(product, k)

    return Lists.of_blocks(block(rows) for rows in _blocks(vectors, transposed))


def _blocks(left: csr_array, right: csr_array) -> Iterator[slice]:
    """Rows of `left` such that no block of left @ right takes more than about PRODUCTS_AT_ONCE multiplications."""
    products = np.diff(right.indptr)[left.indices]
    done = np.append(0, np.cumsum(products, dtype=np.int64))[left.indptr]
    first = 0
    while first < left.shape[0]:
        last = int(np.searchsorted(done, done[first] + PRODUCTS_AT_ONCE, side="right")) - 1
        last = min(max(last, first + 1), left.shape[0])
        yield slice(first, last)
        first = last


def _strongest(matrix: csr_array, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """The k largest positive values of each row, best first, ties by the lower column: (lengths, columns, values)."""
    matrix.sort_indices()
    positive = np.diff(np.append(0, np.cumsum(matrix.data > 0))[matrix.indptr])
    lengths = np.minimum(positive, k).astype(np.int64)
    columns = np.empty(lengths.sum(), np.int32)
    values = np.empty(lengths.sum(), np.float32)
    _take_strongest(matrix.indptr, matrix.indices, matrix.data, lengths, columns, values)
    return lengths, columns, values


@numba.njit(nogil=True, cache=True)
def _take_strongest(indptr, indices, data, lengths, columns, values):  # type: ignore[no-untyped-def]
    filled = 0
    for row in range(len(lengths)):
        begin, end = indptr[row], indptr[row + 1]
        order = np.argsort(-data[begin:end], kind="mergesort")
        for place in range(lengths[row]):
            columns[filled] = indices[begin + order[place]]
            values[filled] = data[begin + order[place]]
            filled += 1
