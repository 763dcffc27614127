"""What scores pairs for a shop: several ways, tried on baskets that none of them learnt from, and the best one serves.

A question is a validation basket without one of its products; all products of the training part are ranked, equal
scores in their mean order. Every way is asked the same questions, having learnt from the same baskets.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap import metrics
from endcap.answers import Items, Scores
from endcap.graph import Baskets

CHOSEN_BY = 1_000  # baskets, at most
FEWEST = 20  # baskets that decide anything
BASKET = 25  # of a basket the items put in last

Floats = NDArray[np.float32]
Allowed = NDArray[np.bool_] | None
Search = Callable[[Floats, int, Allowed], tuple[Items, Scores]]

log = logging.getLogger("endcap.models")


class PairScorer(Protocol):
    """Says how well items go with distinct items (m,) that somebody asks with, all known to it."""

    def score(self, asked: Items, items: Items) -> Floats:
        """(n,), higher is better; of one question they compare."""
        ...

    def nearest(self, asked: Items, k: int, allowed: Allowed = None) -> Items:
        """(at most k,) items in the order of their score, best first, without what was asked with."""
        ...

    def similarity(self, asked: Items, items: Items) -> Floats:
        """(n,) the score from 0 to 1, to be multiplied with the other parts."""
        ...


class Network:
    """The graph network's vectors: the mean of what is asked with times the item's, and the item's offset."""

    def __init__(self, source: Floats, target: Floats, offset: Floats, search: Search) -> None:
        """
        Args:
            source, target: (n_items, d); offset: (n_items,); search: of (q, d + 1), the last column 1.
        """
        self._source, self._target, self._offset, self._search = source, target, offset, search

    def query(self, asked: Items) -> Floats:
        """(d,)."""
        return self._source[asked].mean(0)

    def score(self, asked: Items, items: Items) -> Floats:
        """See `PairScorer`."""
        return self._target[items] @ self.query(asked) + self._offset[items]

    def nearest(self, asked: Items, k: int, allowed: Allowed = None) -> Items:
        """See `PairScorer`."""
        query = np.append(self.query(asked), np.float32(1))[None]
        found, _ = self._search(query, k + len(asked), allowed)
        return found[0][(found[0] >= 0) & ~np.isin(found[0], asked)][:k]

    def similarity(self, asked: Items, items: Items) -> Floats:
        """The cosine, and 0 below it."""
        query, target = self.query(asked), self._target[items]
        length = np.linalg.norm(query) * np.linalg.norm(target, axis=1)
        return np.maximum(target @ query / np.maximum(length, 1e-12), 0)


class Ranked(Protocol):
    """What gives the logarithm of a likelihood and lists by it."""

    def score(self, asked: Items, items: Items) -> Floats: ...

    def nearest(self, asked: Items, k: int, allowed: Allowed = None) -> Items: ...


class Likely:
    """A logarithm of a likelihood as a scorer: similarity is how likely an item is beside the likeliest of all."""

    def __init__(self, ranked: Ranked) -> None:
        self.ranked = ranked
        self._best: tuple[Items, float] = np.empty(0, np.int32), 0.0

    def score(self, asked: Items, items: Items) -> Floats:
        """See `PairScorer`."""
        return self.ranked.score(asked, items)

    def nearest(self, asked: Items, k: int, allowed: Allowed = None) -> Items:
        """See `PairScorer`."""
        return self.ranked.nearest(asked, k, allowed)

    def similarity(self, asked: Items, items: Items) -> Floats:
        """exp(score - the best item's score), at most 1."""
        before, best = self._best
        if not np.array_equal(before, asked):
            first = self.nearest(asked, 1)
            best = float(self.score(asked, first)[0]) if len(first) else 0.0
            self._best = asked, best
        return np.exp(np.minimum(self.score(asked, items) - np.float32(best), 0))


class Questions(NamedTuple):
    """Products asked for by others of their baskets.

    Attributes:
        asked: q times (m,) items; target: (q,); left_out: q times items that are no rivals of the target, itself one.
    """

    asked: list[Items]
    target: Items
    left_out: list[Items]


def questions_of(baskets: Baskets, bought: NDArray[np.integer], never: csr_array | None, seed: int) -> Questions:
    """One question of each basket that holds two products of the training part, as many as decide.

    Args:
        bought: (n_items,) training baskets of each; never: (n_items, n_items), what is no rival where it goes with what
            was asked with.
    """
    rng = np.random.default_rng([seed, 8])
    asked, target, left_out = list[Items](), list[int](), list[Items]()
    for row in rng.permutation(len(baskets)):
        inside = baskets.items[baskets.offsets[row] : baskets.offsets[row + 1]]
        known = rng.permutation(inside[bought[inside] > 0])
        if len(known) < 2 or len(target) == CHOSEN_BY:
            continue
        target.append(known[0])
        asked.append(np.sort(known[1 : 1 + BASKET]))
        out = known if never is None else np.append(known, never[asked[-1]].indices)
        left_out.append(np.unique(out).astype(np.int32))
    return Questions(asked, np.array(target, np.int32), left_out)


def figure_of(scorer: PairScorer, questions: Questions, bought: NDArray[np.integer], metric: str) -> float:
    """The validation metric, `mrr@k` or `hit_rate@k`, of a scorer that learnt from other baskets."""
    seen = np.flatnonzero(bought).astype(np.int32)
    place = np.full(len(bought), -1, np.int64)
    place[seen] = np.arange(len(seen))
    above, ties = np.zeros((2, len(questions.target)), np.int64)
    for row, (asked, target, out) in enumerate(zip(*questions, strict=True)):
        scores = scorer.score(asked, seen)
        own = scores[place[target]]
        there = place[out]
        scores[there[there >= 0]] = np.nan  # neither above nor equal
        above[row], ties[row] = np.count_nonzero(scores > own), np.count_nonzero(scores == own)
    name, _, k = metric.partition("@")
    tied = metrics.tied_mrr if name == "mrr" else metrics.tied_hit_rate
    return float(tied(above, ties, int(k)).mean())


def best_of(
    contenders: Mapping[str, PairScorer], questions: Questions, bought: NDArray[np.integer], metric: str, system: str
) -> tuple[str, dict[str, float]]:
    """The name of the contender that does best, the first of equal ones, and the figure of each; a line a contender."""
    figures = {name: figure_of(scorer, questions, bought, metric) for name, scorer in contenders.items()}
    chosen = max(figures, key=figures.__getitem__)
    log.info("%s: %s on %d validation baskets, all products ranked", system, metric, len(questions.target))
    for name, value in figures.items():
        log.info("%s:   %-10s %.4f%s", system, name, value, "  scores pairs" if name == chosen else "")
    return chosen, figures
