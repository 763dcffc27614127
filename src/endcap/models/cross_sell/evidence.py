"""Evidence that one product goes with others, read off the graph, and a small network that weighs it.

Columns of asked products R and a candidate c, all of them sums along the graph of what is bought together, none of them
learnt: where a walk from R is after one, two, three and four steps (item -> basket -> another item of it), the same
with popular items held down, shared baskets as count, cosine and Jaccard; how categories go together; how often c and R
are bought. A network of two layers weighs them. It is inductive: a new product's columns need its baskets alone.

The steps between items are worked out once, to the `PARTNERS` of an item that share most baskets with it, and walks go
on from their strongest places alone (see `endcap.kernels.evidence`). Lessons, validation and answers read the same
columns by the same code. It takes 12 bytes a link, and 48 bytes an item for each thread that asks.

Its lessons are baskets that are taken out of the graph before any column is worked out, a few at a time: a graph much
thinner than the one that answers teaches what does not hold there. The loss is a softmax over drawn candidates,
corrected for the draw, so that f is log P(c | R) but for a constant and popularity can be traded at the end:
score = f - damping * log max(n_c, floor). The floor lets one number serve everyday and rare products. Where
`particular` is above 0 this is one of two likelihoods that are added: beside it, with this weight, stands what goes
with R above all else, the likelihood squared with popularity taken off in full. It rules the first places of a list and
hardly any other, so lists reach further into the assortment than by damping that costs as many hits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from endcap.answers import History, Items
from endcap.graph import Baskets
from endcap.kernels import copurchase
from endcap.kernels.evidence import JACCARD, N_SUMS, WALK1, WALK2, WALK4, Links, Walker, fill_columns
from endcap.models.cross_sell.choice import Likely
from endcap.models.cross_sell.pair_head import Form, PairHead, learn

COLUMNS = (
    "walk1", "walk2", "walk3", "walk4", "walk2 without hubs", "even walk1", "even walk2", "count", "cosine", "jaccard",
    "category, an item", "category, by popularity", "share in category", "items of the category",
    "baskets", "baskets of the asked", "asked",
)  # fmt: skip
"""The first are the sums of `endcap.kernels.evidence`, in its order."""
BASKETS = COLUMNS.index("baskets")
LOGGED = 12  # the first so many columns are products along the graph, of which the logarithm is taken
FORMS: list[Form] = ["log" if place < LOGGED else "plain" for place in range(len(COLUMNS))]
PARTNERS = 1000  # of an item
FRONTIER, ONWARD = 200, 50  # places that a further hop starts from, and partners of each that it reads
POOL = 500  # places that are weighed for a list
OFF, SHARP = 1.2, 2.0  # of what goes together above all else: its damping, and the power of its likelihood
SECOND = 0.3  # what a second step counts beside a first where nothing is learnt
NOWHERE = np.float32(1e-9)  # the chance of what no walk reaches
HIDDEN = 0.05  # of all baskets that leave the graph at a time, at most
DRAWN = 100  # candidates of a lesson of either kind, even and by popularity
CSR = ("data", "indices", "indptr")

Floats = NDArray[np.float32]
Measure = Literal["walk", "jaccard", "pagerank"]


class Reached(NamedTuple):
    """Where walks lead from what was asked with (m,).

    Attributes:
        items: (p,); sums: (p, N_SUMS) at each; place: (n_items,) where each item stands among them, -1 nowhere.
    """

    asked: Items
    items: Items
    sums: Floats
    place: NDArray[np.int32]


class PairEvidence:
    """The graph of some baskets, ready to give columns."""

    def __init__(self, links: Links, category: NDArray[np.int64], beside: csr_array) -> None:
        """
        Args:
            category: (n_items,) from 0 on; beside: (categories, categories), the chance that another item of a basket
                is of the column's category.
        """
        self.links, self.category, self.beside = links, category, beside
        self.n_of, self.n_items = links.n_of, len(links.n_of)
        self._walker = Walker(links, frontier=FRONTIER, onward=ONWARD)
        n = beside.shape[0]
        self._sold = np.maximum(np.bincount(category, self.n_of, n), 1).astype(np.float32)
        self._items_of = np.bincount(category, self.n_of > 0, n).astype(np.float32)
        self._logs = np.log1p(self._items_of), np.log1p(self.n_of)
        # what no walk reaches differs by its category and its baskets alone
        baskets = self.n_of.astype(np.int64)
        _, self._example, self._kind = np.unique(
            category * (baskets.max(initial=0) + 1) + baskets, return_index=True, return_inverse=True
        )
        bought = np.flatnonzero(self.n_of).astype(np.int32)
        self._by_sales = bought[np.argsort(-self.n_of[bought], kind="stable")]

    @classmethod
    def of(cls, baskets: Baskets, category: NDArray[np.integer], threads: int = 1) -> Self:
        """From baskets, and the category (n_items,) of each item, -1 unknown, which is one more category."""
        known = np.where(category < 0, category.max(initial=-1) + 1, category).astype(np.int64)
        return cls(_links(baskets, len(known), threads), known, _beside(baskets, known))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        beside = {f"beside-{part}": getattr(self.beside, part) for part in CSR}
        return {**self.links._asdict(), **beside, "category": self.category}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        n = len(arrays["beside-indptr"]) - 1
        beside = csr_array(tuple(arrays[f"beside-{part}"] for part in CSR), shape=(n, n), copy=False)
        return cls(Links(*(arrays[name] for name in Links._fields)), arrays["category"], beside)

    def reach(self, asked: Items) -> Reached:
        """Where walks lead from distinct items (m,), one or more."""
        items, sums = self._walker.reach(asked)
        place = np.full(self.n_items, -1, np.int32)
        place[items] = np.arange(len(items), dtype=np.int32)
        return Reached(asked, items, sums, place)

    def columns(self, reached: Reached, wanted: NDArray[np.integer]) -> Floats:
        """(n, columns) of wanted items (n,)."""
        return self._columns(reached, wanted, reached.place[wanted])

    def _columns(self, reached: Reached, wanted: NDArray[np.integer], at: NDArray[np.int32]) -> Floats:
        """(n, columns) of wanted items that stand at some places among those reached, -1: what no walk reaches."""
        columns = np.empty((len(wanted), len(COLUMNS)), np.float32)
        columns[:, N_SUMS + 5] = self._logs[1][reached.asked].mean()
        columns[:, N_SUMS + 6] = np.log(len(reached.asked))
        fill_columns(
            reached.asked, wanted, at, reached.sums, self.category, self.n_of, self._items_of, self._sold,
            self._logs, self.beside.indptr, self.beside.indices, self.beside.data, columns,
        )  # fmt: skip
        return columns

    def of_all(self, weigh: Callable[[Floats], Floats], reached: Reached, wanted: NDArray[np.integer]) -> Floats:
        """(n,) what `weigh` makes of the columns of wanted items; what no walk reaches is weighed once a kind."""
        near = reached.place[wanted] >= 0
        found = np.empty(len(wanted), np.float32)
        found[near] = weigh(self.columns(reached, wanted[near]))
        if near.all():
            return found
        kind = self._kind[wanted[~near]]
        there = np.zeros(len(self._example), bool)
        there[kind] = True
        by_kind = np.empty(len(self._example), np.float32)
        examples = self._example[there]
        by_kind[there] = weigh(self._columns(reached, examples, np.full(len(examples), -1, np.int32)))
        found[~near] = by_kind[kind]
        return found

    def best_sellers(self, k: int, but: Items, allowed: NDArray[np.bool_] | None) -> Items:
        """(at most k,) items of the most baskets, but some."""
        items = self._by_sales if allowed is None else self._by_sales[allowed[self._by_sales]]
        items = items[: k + len(but)]
        return items[~np.isin(items, but)][:k]


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


class Trade(NamedTuple):
    """How popularity is traded for range, see the module's docstring."""

    damping: float = 0.0
    floor: float = 1.0
    particular: float = 0.0


class Weigher:
    """The evidence of a shop and what weighs it: a head, or a measure that nobody has to learn."""

    def __init__(self, evidence: PairEvidence, head: PairHead | Measure, trade: Trade) -> None:
        self.evidence, self.head, self.trade = evidence, head, trade
        n_of = np.maximum(evidence.n_of, 1)
        self.damped = np.float32(trade.damping) * np.log(np.maximum(n_of, np.float32(trade.floor)))
        self.off = np.float32(OFF) * np.log(n_of)
        self.shares = np.exp(-self.damped), np.exp(-self.off)

    @classmethod
    def fitted(
        cls,
        baskets: Baskets,
        category: NDArray[np.integer],
        *,
        at_most: int,
        per_basket: int,
        never: csr_array | None,
        trade: Trade,
        seed: int,
        threads: int,
    ) -> Self:
        """Learn from products of some baskets, which leave the graph by turns, and answer with all that are.

        Args:
            at_most: baskets to learn from, out of the latest third; per_basket: products of each; never: see
                `lists_of`.
        """
        columns, log_q = list[Floats](), list[Floats]()
        for turn, taken in enumerate(_turns(baskets, at_most, seed)):
            known = PairEvidence.of(baskets.where(~taken), category, threads)
            lists = lists_of(baskets.where(taken), known.n_of, seed + turn, per_basket=per_basket, never=never)
            asked = np.split(lists.asked.indices, lists.asked.indptr[1:-1])
            columns += [known.columns(known.reach(row), each) for row, each in zip(asked, lists.wanted, strict=True)]
            log_q.append(lists.log_q)
        head = learn(np.stack(columns), np.concatenate(log_q), FORMS, seed, threads)
        return cls(PairEvidence.of(baskets, category, threads), head, trade)

    def of(self, asked: Items, history: History | None = None) -> Weighed:
        """See `PairScorer`; a history makes no difference."""
        return Weighed(self, asked)

    def traded(self, trade: Trade) -> Self:
        """The same with another trade of popularity."""
        return type(self)(self.evidence, self.head, trade)

    def weighed(self, columns: Floats) -> Floats:
        """(n,) the logarithm of how likely items with such columns are, but for a constant."""
        if isinstance(self.head, str):
            return np.log(MEASURES[self.head](columns) + NOWHERE)
        return self.head(columns)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        if isinstance(self.head, str):
            return {**self.evidence.arrays(), "measure": np.array([list(MEASURES).index(self.head)])}
        return {**self.evidence.arrays(), **{f"head-{name}": value for name, value in self.head.arrays().items()}}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], trade: Trade) -> Self:
        """What `arrays` gave."""
        evidence = PairEvidence.restored(arrays)
        if "measure" in arrays:
            return cls(evidence, list(MEASURES)[int(arrays["measure"][0])], trade)
        return cls(evidence, PairHead.restored(FORMS, under("head-", arrays)), trade)


class Weighed(Likely):
    """One question to the evidence of a shop."""

    def __init__(self, weigher: Weigher, asked: Items) -> None:
        super().__init__(weigher.evidence.n_items)
        self._weigher, self._evidence, self._trade = weigher, weigher.evidence, weigher.trade
        self.reached = weigher.evidence.reach(asked)

    def weigh(self, items: Items) -> Floats:
        """(n,) the logarithm of the likelihood, popularity traded."""
        found = self._found(items)
        likely = found - self._weigher.damped[items]
        if not self._trade.particular:
            return likely
        of_likely, of_particular = self._totals
        particular = np.float32(SHARP) * (found - self._weigher.off[items]) - of_particular
        return np.logaddexp(likely - of_likely, particular + np.log(np.float32(self._trade.particular)))

    def nearest(self, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """(at most k,) items in the order of their score, out of the `POOL` that two steps lead to most often.

        Where walks reach fewer than k, what is bought most often follows.
        """
        items = self._pool_of_all[self._open_to(self._pool_of_all, allowed)]
        if len(items) < k:
            open_to = self._open_to(self.reached.items, allowed)
            items = self._pool(self.reached.items[open_to], two_steps(self.reached.sums)[open_to], max(POOL, k))
        if len(items) < k:
            but = np.append(items, self.reached.asked)
            items = np.append(items, self._evidence.best_sellers(k, but, allowed))
        score = self.score(items)
        return items[np.lexsort((items, -score))[:k]]

    @cached_property
    def _best(self) -> np.float32:
        pool = self._pool_of_all
        return self.score(pool).max() if len(pool) else super()._best

    @cached_property
    def _pool_of_all(self) -> Items:
        return self._pool(self.reached.items, two_steps(self.reached.sums), POOL)

    def _open_to(self, items: Items, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        return np.ones(len(items), bool) if allowed is None else allowed[items]

    @cached_property
    def _totals(self) -> tuple[np.float32, np.float32]:
        """The logarithms of both likelihoods' sums, each over the places that a list of it is made of."""
        pool = self._pool_of_all
        found = self._found(pool)
        return (
            _total(found - self._weigher.damped[pool]),
            _total(np.float32(SHARP) * (found - self._weigher.off[pool])),
        )

    def _found(self, items: Items) -> Floats:
        return self._evidence.of_all(self._weigher.weighed, self.reached, items)

    def _pool(self, items: Items, steps: Floats, n: int) -> Items:
        """Of items (p,), the n that two steps lead to most often, popularity damped, and the n where it is off."""
        if len(items) <= n:
            return items
        kept = np.zeros(len(items), bool)
        for share in self._weigher.shares if self._trade.particular else self._weigher.shares[:1]:
            kept[np.argpartition(steps * share[items], len(items) - n)[-n:]] = True
        return items[kept]


def _turns(baskets: Baskets, at_most: int, seed: int) -> list[NDArray[np.bool_]]:
    """Masks (b,) of the baskets that teach, out of the latest third, at most `HIDDEN` of all at a time.

    Where all are of one time, chance says which are the latest.
    """
    rng = np.random.default_rng([seed, 6])
    n = len(baskets)
    latest = np.lexsort((rng.random(n), baskets.time))[n - n // 3 :]
    taught = rng.permutation(latest)[:at_most]
    turns = np.array_split(taught, max(1, math.ceil(len(taught) / max(1, HIDDEN * n))))
    return [np.isin(np.arange(n), turn) for turn in turns]


def _total(logs: Floats) -> np.float32:
    """The logarithm of the sum; 0 of nothing."""
    return np.logaddexp.reduce(logs) if len(logs) else np.float32(0)


def two_steps(sums: Floats) -> Floats:
    """Where two steps lead, the second counting less."""
    return sums[:, WALK1] + np.float32(SECOND) * sums[:, WALK2]


def _jaccard(columns: Floats) -> Floats:
    return columns[:, JACCARD]


def _pagerank(columns: Floats) -> Floats:
    """Where a walk of four steps leads that stops before each by a half, over the root of the baskets."""
    chances = columns[:, WALK1 : WALK4 + 1] @ np.array([0.5, 0.25, 0.125, 0.0625], np.float32)
    return (chances / np.exp(columns[:, BASKETS] / 2)).astype(np.float32)


MEASURES: dict[Measure, Callable[[Floats], Floats]] = {
    "walk": two_steps, "jaccard": _jaccard, "pagerank": _pagerank,
}  # fmt: skip
"""What pairs can be scored by where nothing is learnt: what none of them finds is 0."""


def _links(baskets: Baskets, n_items: int, threads: int) -> Links:
    """The steps between items, the strongest of each first."""
    size = baskets.sizes
    others = size / np.maximum(size - 1, 1)  # a step goes to another item of the basket: 1 / size times this
    pairs = copurchase.count_pairs(
        baskets.items, baskets.offsets, baskets.user, baskets.time, others, n_items,
        copurchase.Rules(window=0, most=0, min_support=1, min_together=1, per_item=PARTNERS), threads,
    )  # fmt: skip
    n_of = np.bincount(baskets.items, minlength=n_items).astype(np.float32)
    step = (pairs.sums[:, copurchase.SHARED_FADED] / n_of[pairs.item]).astype(np.float32)
    order = np.lexsort((pairs.partner, -step, pairs.item))
    return Links(
        np.searchsorted(pairs.item, np.arange(n_items + 1)).astype(np.int64), pairs.partner[order],
        pairs.sums[order, copurchase.TOGETHER], step[order], n_of,
    )  # fmt: skip


def _beside(baskets: Baskets, category: NDArray[np.int64]) -> csr_array:
    """(categories, categories): of another item of a basket, the chance that it is of the column's category."""
    n_items, n = len(category), int(category.max(initial=0)) + 1
    of_item = csr_array((np.ones(n_items, np.float32), (np.arange(n_items), category)), shape=(n_items, n))
    inside = (baskets.matrix(n_items) @ of_item).tocsr()
    weighed = diags_array((1 / np.maximum(baskets.sizes - 1, 1)).astype(np.float32)) @ inside
    together = inside.T @ weighed - diags_array(np.asarray(weighed.sum(axis=0)).ravel())
    total = np.maximum(np.asarray(together.sum(axis=1)).ravel(), 1e-9)
    found = csr_array(diags_array(1 / total) @ together)
    return csr_array((found.data.astype(np.float32), found.indices, found.indptr), shape=(n, n))


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
