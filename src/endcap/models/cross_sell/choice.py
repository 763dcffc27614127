"""What scores pairs for a shop: several ways, tried on baskets that none of them learnt from, and the best one serves.

A question is a validation basket without one of its products; all products of the training part are ranked, equal
scores in their mean order. Every way is asked the same questions, having learnt from the same baskets. Validation
baskets are the last ones, since what is served answers people who come after training.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap import metrics
from endcap.answers import History, Items, Scores
from endcap.graph import Baskets

HELD_OUT = 2_000  # baskets, at most
WANTED = 300  # baskets are held out where they are no more than a tenth
CHOSEN_BY = 1_000  # baskets, at most
FEWEST = 20  # baskets that decide anything
BASKET = 50  # of a basket the items put in last

Floats = NDArray[np.float32]
Allowed = NDArray[np.bool_] | None
Search = Callable[[Floats, int, Allowed], tuple[Items, Scores]]

log = logging.getLogger("endcap.models")


class Companions(Protocol):
    """How well items go with what one question asks with; what is worked out for one answer serves the next."""

    def score(self, items: Items) -> Floats:
        """(n,), higher is better; of one question they compare."""
        ...

    def nearest(self, k: int, allowed: Allowed = None) -> Items:
        """(at most k,) items in the order of their score, best first, without what was asked with."""
        ...

    def similarity(self, items: Items) -> Floats:
        """(n,) the score from 0 to 1, to be multiplied with the other parts."""
        ...


class PairScorer(Protocol):
    """Says how well items go with others."""

    def of(self, asked: Items, history: History | None = None) -> Companions:
        """What goes with distinct items (m,), all known to it, for somebody with this history."""
        ...


class Network:
    """The graph network's vectors: the mean of what is asked with times the item's, and the item's offset."""

    def __init__(self, source: Floats, target: Floats, offset: Floats, search: Search) -> None:
        """
        Args:
            source, target: (n_items, d); offset: (n_items,); search: of (q, d + 1), the last column 1.
        """
        self.source, self.target, self.offset, self.search = source, target, offset, search

    def of(self, asked: Items, history: History | None = None) -> Companions:
        """See `PairScorer`; a history makes no difference."""
        return _Near(self, asked)


class _Near:
    """One question to the network."""

    def __init__(self, network: Network, asked: Items) -> None:
        self._network, self._asked, self._query = network, asked, network.source[asked].mean(0)

    def score(self, items: Items) -> Floats:
        """See `Companions`."""
        return self._network.target[items] @ self._query + self._network.offset[items]

    def nearest(self, k: int, allowed: Allowed = None) -> Items:
        """See `Companions`."""
        query = np.append(self._query, np.float32(1))[None]
        found, _ = self._network.search(query, k + len(self._asked), allowed)
        return found[0][(found[0] >= 0) & ~np.isin(found[0], self._asked)][:k]

    def similarity(self, items: Items) -> Floats:
        """The cosine, and 0 below it."""
        target = self._network.target[items]
        length = np.linalg.norm(self._query) * np.linalg.norm(target, axis=1)
        return np.maximum(target @ self._query / np.maximum(length, 1e-12), 0)


class Likely(ABC):
    """One question to what gives logarithms of likelihoods. No item is weighed twice."""

    def __init__(self, n_items: int) -> None:
        self._weighed = np.full(n_items, np.nan, np.float32)

    @abstractmethod
    def weigh(self, items: Items) -> Floats:
        """(n,) the logarithm of how likely each is, but for a constant."""

    @abstractmethod
    def nearest(self, k: int, allowed: Allowed = None) -> Items:
        """See `Companions`."""

    def score(self, items: Items) -> Floats:
        """See `Companions`."""
        new = items[np.isnan(self._weighed[items])]
        if len(new):
            self._weighed[new] = self.weigh(new)
        return self._weighed[items]

    def similarity(self, items: Items) -> Floats:
        """How likely each is beside the likeliest of all: exp(score - the best item's score), at most 1."""
        return np.exp(np.minimum(self.score(items) - self._best, 0))

    @cached_property
    def _best(self) -> np.float32:
        first = self.nearest(1)
        return self.score(first)[0] if len(first) else np.float32(0)


class Questions(NamedTuple):
    """Products asked for by others of their baskets.

    Attributes:
        asked: q times (m,) items; target: (q,); left_out: q times items that are no rivals of the target, itself one.
    """

    asked: list[Items]
    target: Items
    left_out: list[Items]


def held_out(baskets: Baskets, n_users: int, share: float, seed: int) -> NDArray[np.int64]:
    """Rows, ascending, of the last baskets in time; chance says which those are among baskets of one time.

    What relations link, baskets of users from n_users on, has no time: chance decides there, too.
    """
    rng, n = np.random.default_rng([seed, 2]), len(baskets)
    time, told = baskets.time.copy(), baskets.user >= n_users
    if not told.all():
        time[told] = rng.choice(time[~told], np.count_nonzero(told))
    wanted = min(HELD_OUT, max(int(n * share), min(WANTED, n // 10)))
    return np.sort(np.lexsort((rng.random(n), time))[n - wanted :])


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
        scores = scorer.of(asked).score(seen)
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
