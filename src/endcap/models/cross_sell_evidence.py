"""Evidence that one product goes with others, read off the graph, and a small network that weighs it.

Columns of a basket R and a candidate c, all of them sums along the graph of baskets, none of them learnt: where a walk
from R is after one, two, three and four steps (item -> basket -> item), the same with popular items held down, shared
baskets as count, cosine and Jaccard; how categories go together; how often c and R are bought. A network of two layers
weighs them. It is inductive: a new product's columns need its baskets alone.

Its lessons are baskets that are taken out of the graph before any column is worked out, and the loss is a softmax over
drawn candidates, corrected for the draw, so that f is log P(c | R) but for a constant and popularity can be traded at
the end: score = f - damping * log max(n_c, floor). The floor lets one number serve everyday and rare products.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from endcap.graph import Baskets, co_purchase, weigh
from endcap.models.pair_head import Form, PairHead, learn

COLUMNS = (
    "walk1", "walk2", "walk3", "walk4", "walk2 without hubs", "even walk1", "even walk2", "count", "cosine", "jaccard",
    "overlap", "category, an item", "category, by popularity", "share in category", "items of the category",
    "baskets", "baskets of the asked", "asked",
)  # fmt: skip
LOGGED = 13  # the first so many columns are products along the graph, of which the logarithm is taken
TOGETHER = 64  # baskets whose walks are dense at the same time
PARTNERS = 200  # of an item, for Jaccard
CSR = ("data", "indices", "indptr")
DRAWN = 100  # candidates of a lesson of either kind, even and by popularity
FORMS: list[Form] = ["log" if place < LOGGED else "plain" for place in range(len(COLUMNS))]

Floats = NDArray[np.float32]


class PairEvidence:
    """The graph of some baskets, ready to give columns."""

    def __init__(self, contents: csr_array, jaccard: csr_array, category: NDArray[np.integer]) -> None:
        """
        Args:
            contents: (baskets, n_items) of ones; jaccard: (n_items, n_items).
        """
        self.contents, self.jaccard = contents, jaccard
        self.n_of = np.bincount(contents.indices, minlength=contents.shape[1]).astype(np.float32)
        size = np.maximum(np.diff(contents.indptr), 1).astype(np.float32)
        self.by_others = (1 / np.maximum(size - 1, 1)).astype(np.float32)
        self.by_size = (1 / size).astype(np.float32)
        self.holders = contents.T.tocsr()
        self._read_categories(category)

    @classmethod
    def of(cls, baskets: Baskets, category: NDArray[np.integer], threads: int = 1) -> Self:
        """From baskets, and the category (n_items,) of each item, -1 unknown."""
        counted = co_purchase(
            baskets, len(category), half_life_days=np.inf, min_support=1, per_item=PARTNERS, threads=threads
        )
        return cls(baskets.matrix(len(category)), weigh(counted, "jaccard"), category)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        parts = {"contents": self.contents, "jaccard": self.jaccard}
        stored = {f"{name}-{part}": getattr(graph, part) for name, graph in parts.items() for part in CSR}
        return {**stored, "category": self.category}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        n_items = len(arrays["category"])

        def graph(name: str, rows: int) -> csr_array:
            return csr_array(tuple(arrays[f"{name}-{part}"] for part in CSR), shape=(rows, n_items), copy=False)

        contents = graph("contents", len(arrays["contents-indptr"]) - 1)
        return cls(contents, graph("jaccard", n_items), arrays["category"])

    def _read_categories(self, category: NDArray[np.integer]) -> None:
        """How categories go together in baskets; unknown is one more category."""
        self.category = np.where(category < 0, category.max(initial=-1) + 1, category).astype(np.int64)
        n = int(self.category.max(initial=0)) + 1
        of_item = csr_array(
            (np.ones(len(category), np.float32), (np.arange(len(category)), self.category)), shape=(len(category), n)
        )
        inside = (self.contents @ of_item).tocsr()
        beside = (inside.T @ diags_array(self.by_others) @ inside).toarray()
        beside -= np.diag(np.asarray((diags_array(self.by_others) @ inside).sum(axis=0)).ravel())
        self.beside = (beside / np.maximum(beside.sum(axis=1, keepdims=True), 1e-9)).astype(np.float32)
        self.sold = np.maximum(np.bincount(self.category, self.n_of, n), 1).astype(np.float32)
        self.items_of = np.bincount(self.category, self.n_of > 0, n).astype(np.float32)

    def columns(self, asked: csr_array, candidates: NDArray[np.integer]) -> Iterator[Floats]:
        """(t, c, columns) of some rows of `asked` (q, n_items), ones where an item is asked with, and their candidates
        (q, c), a stretch of rows at a time.
        """
        for begin in range(0, asked.shape[0], TOGETHER):
            rows = slice(begin, begin + TOGETHER)
            yield self._columns(asked[rows].tocsr(), candidates[rows])

    def _columns(self, asked: csr_array, wanted: NDArray[np.integer]) -> Floats:
        place = np.arange(asked.shape[0])[:, None]
        many = np.maximum(np.diff(asked.indptr), 1).astype(np.float32)[:, None]
        even = (1 / np.sqrt(np.maximum(self.n_of, 1)))[:, None]
        start = asked.T.toarray().astype(np.float32)

        def at(found: NDArray) -> NDArray:
            return found[wanted, place]

        def step(vectors: NDArray, basket: Floats, power: float) -> NDArray:
            shared = self.contents @ (vectors / np.maximum(self.n_of, 1)[:, None] ** power)
            return self.holders @ (shared * basket[:, None])

        def away(found: NDArray) -> NDArray:
            """Nothing for what was asked with, which a walk of one step comes back to."""
            return np.where(start > 0, 0, found)

        one = away(step(start, self.by_others, 1))
        two = away(step(one, self.by_size, 1))
        three = step(two, self.by_size, 1)
        four = step(three, self.by_size, 1)
        quiet = step(one, self.by_size, 1.5)
        even_one = away(step(start, self.by_others, 0.5)) * even
        even_two = step(even_one, np.sqrt(self.by_size), 0.5) * even
        shared = self.contents @ start
        count = away(self.holders @ shared)
        cosine = away(self.holders @ (self.contents @ (start * even))) * even
        overlap = away(self.holders @ (shared * shared * self.by_others[:, None]))
        jaccard = (asked @ self.jaccard).toarray()
        leaf = self.category[wanted]
        asked_leaf = [self.category[row] for row in np.split(asked.indices, asked.indptr[1:-1])]
        in_leaf = np.stack([np.bincount(row, minlength=len(self.sold)) for row in asked_leaf]) / many
        goes = np.take_along_axis(in_leaf @ self.beside, leaf, 1)
        n_of = self.n_of[wanted]
        known = (asked @ np.log1p(self.n_of))[:, None] / many
        return np.stack(
            [
                at(one) / many, at(two) / many, at(three) / many, at(four) / many, at(quiet) / many,
                at(even_one), at(even_two) / many, at(count), at(cosine), jaccard[place, wanted], at(overlap),
                goes / np.maximum(self.items_of[leaf], 1), goes * n_of / self.sold[leaf],
                np.take_along_axis(in_leaf, leaf, 1), np.log1p(self.items_of[leaf]), np.log1p(n_of),
                np.broadcast_to(known, wanted.shape), np.broadcast_to(np.log(many), wanted.shape),
            ],
            axis=-1,
        ).astype(np.float32)  # fmt: skip


class Lists(NamedTuple):
    """Lessons: asked (q, n_items); wanted (q, 1 + drawn), the target first; log_q of the draws, of the same shape."""

    asked: csr_array
    wanted: NDArray[np.int64]
    log_q: Floats


def lists_of(
    baskets: Baskets, n_of: Floats, seed: int, *, per_basket: int, drawn: int = DRAWN, never: csr_array | None = None
) -> Lists:
    """One product asked for by the rest of its basket, for some products of each, among drawn ones.

    Args:
        n_of: (n_items,) baskets of each item in the graph; never: (n_items, n_items), what goes with what for sure and
            is no negative.
    """
    n_items, rng = len(n_of), np.random.default_rng([seed, 5])
    contents = baskets.matrix(n_items)
    share = 0.5 / n_items + 0.5 * n_of / max(n_of.sum(), 1)
    rows, targets = [], []
    for row in np.flatnonzero(np.diff(contents.indptr) >= 2):
        inside = contents.indices[contents.indptr[row] : contents.indptr[row + 1]]
        for item in rng.permutation(inside)[:per_basket]:
            rows.append(row)
            targets.append(item)
    target = np.array(targets, np.int64)
    held = contents[rows].tolil()
    held[np.arange(len(rows)), target] = 0
    asked = held.tocsr().astype(np.float32)
    asked.eliminate_zeros()
    by_sales = rng.choice(n_items, (len(rows), drawn), p=n_of / n_of.sum())
    wanted = np.concatenate([target[:, None], rng.integers(0, n_items, (len(rows), drawn)), by_sales], axis=1)
    log_q = np.log(share * n_items)[wanted].astype(np.float32)
    for place in range(len(rows)):  # what is asked with, wanted, or goes with it for sure is drawn in vain
        inside = asked.indices[asked.indptr[place] : asked.indptr[place + 1]]
        out = np.append(inside, target[place])
        if never is not None:
            out = np.append(out, never[inside].indices)
        log_q[place, 1:][np.isin(wanted[place, 1:], out)] = np.inf
    return Lists(asked, wanted, log_q)


class Weigher(NamedTuple):
    """The evidence of a shop and the head that weighs it."""

    evidence: PairEvidence
    head: PairHead

    @classmethod
    def fitted(
        cls,
        baskets: Baskets,
        category: NDArray[np.integer],
        *,
        at_most: int,
        per_basket: int,
        never: csr_array | None,
        seed: int,
        threads: int,
    ) -> Self:
        """Learn from products of some baskets, which leave the graph, and answer with all that are.

        Args:
            at_most: baskets to learn from, and no more than a third; per_basket: products of each; never: see
                `lists_of`.
        """
        taken = np.zeros(len(baskets), bool)
        wanted = min(at_most, len(baskets) // 3)
        taken[np.random.default_rng([seed, 6]).choice(len(baskets), wanted, replace=False)] = True
        known = PairEvidence.of(baskets.where(~taken), category, threads)
        lists = lists_of(baskets.where(taken), known.n_of, seed, per_basket=per_basket, never=never)
        columns = np.concatenate(list(known.columns(lists.asked, lists.wanted)))
        return cls(PairEvidence.of(baskets, category, threads), learn(columns, lists.log_q, FORMS, seed, threads))

    def score(self, asked: NDArray[np.int32], items: NDArray[np.int32], *, damping: float, floor: float) -> Floats:
        """(n,) f of items for somebody who has `asked` (m,) distinct ones, popularity damped."""
        row = np.ones(len(asked), np.float32), np.sort(asked), [0, len(asked)]
        (columns,) = self.evidence.columns(csr_array(row, (1, len(self.evidence.n_of))), items[None])
        with torch.inference_mode():
            found = self.head(torch.from_numpy(columns))[0].numpy()
        return found - np.float32(damping) * np.log(np.maximum(self.evidence.n_of[items], np.float32(floor)))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        learnt = {f"head-{name}": value.numpy() for name, value in self.head.state_dict().items()}
        return {**self.evidence.arrays(), **learnt}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        state = {name: torch.tensor(value) for name, value in under("head-", arrays).items()}
        head = PairHead(FORMS)
        head.load_state_dict(state)
        return cls(PairEvidence.restored(arrays), head.eval())


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
