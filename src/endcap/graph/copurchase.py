"""Co-purchase graphs: how often, how recently and in which order two items are bought, and what weight that has.

Weights, for c baskets with both, n of each and T in all (papers: "Cross-Sell Is a Graph Problem"; Dunning 1993):

    support c / T              confidence c / n_i           lift c T / (n_i n_j)
    jaccard c / (n_i+n_j-c)    cosine c / sqrt(n_i n_j)     damped c / (n_i n_j^a)
    pmi log lift               ppmi max(0, pmi)             npmi pmi / -log(c / T)
    walk (1/n_i) sum_b 1/size(b) over baskets of both       llr 2 sum k log(k / expected), 0 where lift <= 1

each times c / (c + shrink). Confidence, damped and walk are directed: row i says what goes with i.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.graph.baskets import Baskets, check_items
from endcap.graph.edges import check_number
from endcap.kernels import copurchase as kernel

Weighting = Literal[
    "support", "confidence", "lift", "jaccard", "cosine", "pmi", "ppmi", "npmi", "damped", "walk", "llr"
]  # fmt: skip
WEIGHTINGS: tuple[Weighting, ...] = get_args(Weighting)
DAY = 86_400_000_000  # microseconds
MOST_BASKETS = 50  # of one user that lie between two purchases which still count as a pair: robots cost little
PER_ITEM = 1000  # partners


@dataclass(frozen=True, eq=False)
class CoPurchase:
    """What is bought together: float32 graphs over the items, all with one pattern and nothing on the diagonal.

    An occasion is a basket that completes a pair: it holds both, or one, and the other lies in an earlier basket of the
    same user within the window. Fading weighs it by exp(-ln 2 * age / half-life), the last basket being of age 0.

    Attributes:
        counts: occasions, symmetric; decayed: the same, faded; together: those of one basket, symmetric;
        forward: of those, row i, column j: j was bought after i; one basket gives .5 to each direction, so that
        forward + forward.T = counts; forward_decayed: the same, faded;
        shared, shared_decayed: sum of 1 / size over the baskets of both, symmetric;
        n_of: (n_items,) baskets of each item; n_baskets: of all; n_of_decayed, n_decayed: the same, faded.
    """

    counts: csr_array
    decayed: csr_array
    together: csr_array
    forward: csr_array
    forward_decayed: csr_array
    shared: csr_array
    shared_decayed: csr_array
    n_of: NDArray[np.float64]
    n_of_decayed: NDArray[np.float64]
    n_baskets: int
    n_decayed: float

    @property
    def n_items(self) -> int:
        return len(self.n_of)


def co_purchase(
    baskets: Baskets,
    n_items: int,
    *,
    window_days: float = 0,
    half_life_days: float = 60,
    min_support: int = 2,
    min_together: int = 1,
    per_item: int = PER_ITEM,
    now: int | None = None,
    threads: int = 1,
) -> CoPurchase:
    """Count pairs in bounded memory: beside the result, 80 bytes an item and thread.

    Args:
        window_days: 0 counts baskets alone; else also what a user buys so many days later, at most 50 baskets on.
        half_life_days: of the fading, infinity for none.
        min_support: occasions that a pair needs, unless it has `min_together` in one basket: so a pair seen once stays
        where that was one order. Give both as 2 to drop what was seen once.
        per_item: the most partners of an item, the most frequent, then lower numbers; a pair stays if either keeps it.
        now: age is counted from here (microseconds), from the last basket if not given.

    Raises:
        InputError: for baskets of items from n_items on, or a setting out of its range.
    """
    _check(n_items, window_days, half_life_days, min_support, min_together, per_item)
    check_items(baskets, n_items)
    age = (baskets.time.max(initial=0) if now is None else now) - baskets.time
    worth = np.exp2(-np.maximum(age, 0) / (half_life_days * DAY))
    rules = kernel.Rules(int(window_days * DAY), MOST_BASKETS, min_support, min_together, per_item)
    pairs = kernel.count_pairs(
        baskets.items, baskets.offsets, baskets.user, baskets.time, worth, n_items, rules, threads
    )  # fmt: skip
    row, column, sums = _each_once(pairs, n_items)
    both = _Mirror(row, column, n_items)
    together, after, before, together_faded, after_faded, before_faded, shared, shared_faded = sums.T
    forward = both.graph(together / 2 + after, together / 2 + before)
    forward_decayed = both.graph(together_faded / 2 + after_faded, together_faded / 2 + before_faded)
    n_of = np.bincount(baskets.items, minlength=n_items).astype(np.float64)
    return CoPurchase(
        counts=both.graph(together + after + before),
        decayed=both.graph(together_faded + after_faded + before_faded),
        together=both.graph(together),
        forward=forward,
        forward_decayed=forward_decayed,
        shared=both.graph(shared),
        shared_decayed=both.graph(shared_faded),
        n_of=n_of,
        n_of_decayed=np.bincount(baskets.items, np.repeat(worth, baskets.sizes), n_items).astype(np.float64),
        n_baskets=len(baskets),
        n_decayed=float(worth.sum()),
    )


def weigh(
    co: CoPurchase, by: Weighting = "damped", *, damping: float = 0.5, shrink: float = 0.0, decayed: bool = False
) -> csr_array:
    """The graph with one of the weights of this module; pairs whose weight is 0 are no edges.

    Occasions beyond the baskets of the rarer item, which a window can give, do not count.

    Args:
        damping: a of "damped": 0 is confidence, 1 orders as lift does; shrink: distrust of small counts.
        decayed: everything faded: recent baskets alone make a strong edge.

    Raises:
        InputError: for a weighting that there is not, or a number below 0.
    """
    if by not in WEIGHTINGS:
        raise InputError(f"no weighting {by!r}; there are {', '.join(WEIGHTINGS)}")
    if not damping >= 0 or not shrink >= 0:
        raise InputError(f"damping={damping}, shrink={shrink}: neither may be below 0")
    graph, n_of, total = (co.decayed, co.n_of_decayed, co.n_decayed) if decayed else (
        co.counts, co.n_of, co.n_baskets)  # fmt: skip
    n_i = np.repeat(n_of, np.diff(graph.indptr))
    n_j = n_of[graph.indices]
    c = np.minimum(graph.data.astype(np.float64), np.minimum(n_i, n_j))
    if by == "walk":
        weight = (co.shared_decayed if decayed else co.shared).data / n_i
    else:
        weight = _FORMULAS[by](c, n_i, n_j, max(total, 1e-300), damping)
    if shrink:
        weight = weight * c / (c + shrink)
    found = csr_array((weight.astype(np.float32), graph.indices, graph.indptr), shape=graph.shape)
    if (found.data == 0).any():
        found = found.copy()
        found.eliminate_zeros()
    return found


Formula = Callable[[NDArray, NDArray, NDArray, float, float], NDArray]


def _pmi(c: NDArray, n_i: NDArray, n_j: NDArray, total: float, _: float = 0) -> NDArray:
    return np.log(c * total / (n_i * n_j))


def _npmi(c: NDArray, n_i: NDArray, n_j: NDArray, total: float, _: float) -> NDArray:
    """1 where both lie in every basket, which is the limit."""
    surprise = -np.log(c / total)
    return np.divide(_pmi(c, n_i, n_j, total), surprise, out=np.ones_like(c), where=surprise > 0)


def _llr(c: NDArray, n_i: NDArray, n_j: NDArray, total: float, _: float) -> NDArray:
    """Dunning's G2 of the table both, one, other, neither; 0 where they meet no more often than by chance."""
    neither = np.maximum(total - n_i - n_j + c, 0)
    seen = np.stack([c, n_i - c, n_j - c, neither])
    expected = np.stack([n_i * n_j, n_i * (total - n_j), (total - n_i) * n_j, (total - n_i) * (total - n_j)]) / total
    ratio = np.divide(seen, expected, out=np.ones_like(seen), where=(seen > 0) & (expected > 0))
    return np.where(c * total > n_i * n_j, np.maximum(2 * (seen * np.log(ratio)).sum(axis=0), 0), 0)


_FORMULAS: dict[str, Formula] = {
    "support": lambda c, n_i, n_j, total, a: c / total,
    "confidence": lambda c, n_i, n_j, total, a: c / n_i,
    "lift": lambda c, n_i, n_j, total, a: c * total / (n_i * n_j),
    "jaccard": lambda c, n_i, n_j, total, a: c / (n_i + n_j - c),
    "cosine": lambda c, n_i, n_j, total, a: c / np.sqrt(n_i * n_j),
    "pmi": _pmi,
    "ppmi": lambda c, n_i, n_j, total, a: np.maximum(_pmi(c, n_i, n_j, total), 0),
    "npmi": _npmi,
    "damped": lambda c, n_i, n_j, total, a: c / (n_i * n_j**a),
    "llr": _llr,
}


class _Mirror:
    """Values of pairs row < column as graphs with both directions."""

    def __init__(self, row: NDArray[np.int32], column: NDArray[np.int32], n: int) -> None:
        rows, columns = np.concatenate([row, column]), np.concatenate([column, row])
        self.order = np.lexsort((columns, rows))
        self.indices = columns[self.order].astype(np.int32)
        self.indptr = np.searchsorted(rows[self.order], np.arange(n + 1)).astype(np.int32)
        self.n = n

    def graph(self, up: NDArray, down: NDArray | None = None) -> csr_array:
        """(row, column) has `up`, (column, row) has `down`, or the same."""
        values = np.concatenate([up, up if down is None else down])[self.order].astype(np.float32)
        return csr_array((values, self.indices, self.indptr), shape=(self.n, self.n))


def _each_once(pairs: kernel.Pairs, n_items: int) -> tuple[NDArray, NDArray, NDArray]:
    """Pairs row < column with their sums, from whichever side kept them."""
    up = pairs.item < pairs.partner
    if not pairs.cut:
        return pairs.item[up], pairs.partner[up], pairs.sums[up]
    swapped = np.arange(kernel.N_SUMS)
    swapped[[kernel.AFTER, kernel.BEFORE]] = kernel.BEFORE, kernel.AFTER
    swapped[[kernel.AFTER_FADED, kernel.BEFORE_FADED]] = kernel.BEFORE_FADED, kernel.AFTER_FADED
    row = np.concatenate([pairs.item[up], pairs.partner[~up]])
    column = np.concatenate([pairs.partner[up], pairs.item[~up]])
    _, first = np.unique(row.astype(np.int64) * n_items + column, return_index=True)
    return row[first], column[first], np.concatenate([pairs.sums[up], pairs.sums[~up][:, swapped]])[first]


def _check(
    n_items: int, window_days: float, half_life_days: float, min_support: int, min_together: int, per_item: int
) -> None:
    if not 0 <= window_days <= 3650:
        raise InputError(f"window_days={window_days}: a number of days from 0 to 3650")
    if not half_life_days > 0:
        raise InputError(f"half_life_days={half_life_days}: a number of days above 0, or infinity")
    check_number("n_items", n_items, 0)
    check_number("min_support", min_support, 1)
    check_number("min_together", min_together, 1)
    check_number("per_item", per_item, 1)
