"""The cross-sell protocol: one product of a basket is held out; does the rest of the basket lead to it?

One question a basket of the test part that holds two products or more of the training part's vocabulary: one of them is
drawn by chance and held out, the rest is `Request.basket`. Models are told who is asking, where that is a user of the
training part, and what that user did and searched for in it; nothing of the test part. Baskets are orders or sessions
of purchases, see `endcap.graph.baskets_of`, of any size; what was returned later is not in them.

The held-out product is ranked three times: among all products of the training part but the basket's own; among 1,000
products drawn evenly from these (`/uniform1000`); among 1,000 drawn by the number of their training baskets
(`/popularity1000`). Draws do not depend on each other, so a product may be drawn several times and counts as often: a
figure then says how much of the even or the purchased assortment is beaten, in a catalogue of any size. Evenly drawn
rivals are mostly products that hardly anybody buys, and popularity alone beats them: never read that column alone.

A product's rank follows from scores. Equal ones lie in random order, and figures are the mean over all orders (see
`endcap.metrics.tied_hit_rate`); so what a model cannot judge, -inf, is one large tie behind the rest. A model without
`score` is asked for as many candidates as there are products, each better than the next, and what its list does not
hold is that tie.

`coverage@k` is the share of the products that stand in at least one of the lists of the first 1,000 questions, among
the rivals of each column; every list is credited with 1 / (lists that hold it) of each product in it, and its interval
takes these credits as given. `reached` is the share of the held-out products that a model could judge at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap import metrics
from endcap.answers import Items, Request, Retriever, Scorer
from endcap.errors import InputError
from endcap.evaluate.lists import LENGTHS, scores_of
from endcap.evaluate.outcomes import Cases, Outcomes, chance, sample
from endcap.evaluate.report import Figures
from endcap.evaluate.segments import bands, counts_of
from endcap.graph import baskets_of
from endcap.progress import progress
from endcap.shop import Shop
from endcap.shop.purchases import strongest
from endcap.shop.searches import Searches

QUERIES = 4_000
NEGATIVES = 1_000
COVERED_BY = 1_000  # lists
COLUMNS = ("", f"/uniform{NEGATIVES}", f"/popularity{NEGATIVES}")
BASKET_BOUNDS = (1, 6, 21, 101)

Ints = NDArray[np.int64]
Values = NDArray[np.float64]


class CrossSell:
    """The questions, made once, and the outcomes of every model on them.

    Attributes:
        target: (q,) the held-out products; bought_in: (q,) training baskets of each; user: (q,) whose baskets.
    """

    name = "cross-sell"

    def __init__(
        self,
        train: Shop,
        test: Shop,
        *,
        want: str | None = None,
        lengths: Sequence[int] = LENGTHS,
        at_most: int = QUERIES,
        seed: int = 0,
    ) -> None:
        """
        Args:
            want: what systems with typed lists are asked for; default: purchases, or else the strongest interaction.
            at_most: baskets; more than these are drawn by chance.

        Raises:
            InputError: if no basket of the test part can be asked about.
        """
        self.train, self.lengths = train, sorted(set(lengths))
        self.want = strongest(train) if want is None else train.interactions.code(want)
        past, later = baskets_of(train, largest=0), baskets_of(test, largest=0)
        self.unit = later.unit
        weight = np.bincount(past.items, minlength=train.n_items)
        rows = _usable(later.items, later.offsets, weight)
        if len(rows) == 0:
            raise InputError(
                "cross-sell: no basket of the test part holds two products that the training part knows; purchases of "
                "several products in one order or session are needed: a longer --test, or another split"
            )
        rng = chance(seed)
        rows = sample(rows, rng, at_most)
        self.user, self.time = later.user[rows], later.time[rows]
        self.searches = Searches(train.events)
        self.baskets = [later.items[later.offsets[row] : later.offsets[row + 1]] for row in rows]
        known = [basket[basket < train.n_items] for basket in self.baskets]
        shuffled = [rng.permutation(basket) for basket in known]
        self.target = np.array([basket[0] for basket in shuffled], np.int32)
        self.rest = [basket[1:] for basket in shuffled]
        self.bought_in = weight[self.target]
        self.rivals = _drawn(known, np.stack([np.ones_like(weight), weight]), rng)
        self.outcomes = Outcomes(queries=self.user)

    @property
    def headline(self) -> str:
        return f"hit_rate@{10 if 10 in self.lengths else self.lengths[-1]}"

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print: a table for each column."""
        k = self.headline.partition("@")[2]
        names = [f"{metric}@{k}" for metric in ("hit_rate", "ndcg", "mrr", "coverage")]
        tables = [[name + column for name in names] for column in COLUMNS]
        return [[*tables[0], "reached"], *tables[1:]]

    @property
    def data(self) -> dict[str, Any]:
        return {"queries": len(self.target), "people": len(np.unique(self.user)), "baskets": self.unit}

    @property
    def cases(self) -> Cases:
        known = counts_of(self.train.positives.user, self.user)
        what = np.full(len(self.user), self.want, np.int8)
        return Cases("queries", self.headline, self.target, self.user, what, known)

    def by_training_baskets(self, *, seed: int) -> dict[str, dict[str, Figures]]:
        """The headline in each column, by the number of training baskets that hold the held-out product."""
        labels = bands(self.bought_in, BASKET_BOUNDS)
        return {
            f"training baskets{column}": self.outcomes.by_group("queries", self.headline + column, *labels, seed=seed)
            for column in COLUMNS
        }

    def request(self, place: int, k: int) -> Request:
        """A question as a model is asked it."""
        user = int(self.user[place])
        known = user if user < self.train.n_users else None
        history = self.train.history(-1 if known is None else user)
        searches = self.searches.before(user, int(self.time[place]))
        return Request(
            k=k, user=known, history=history, basket=self.rest[place], want=self.want, searches=searches
        )  # fmt: skip

    def measure(self, name: str, model: Any, *, show: bool = False) -> None:
        """Ask one model every question and keep its outcomes.

        Raises:
            InputError: if the model answers no requests.
        """
        if not isinstance(model, Retriever | Scorer):
            raise InputError(f"{name} answers no requests (it has neither `score` nor `candidates`)")
        n, n_items = len(self.target), self.train.n_items
        above, ties = np.zeros((len(COLUMNS), n), np.int64), np.zeros((len(COLUMNS), n), np.int64)
        reached = np.zeros(n, bool)
        lists = np.full((len(COLUMNS), min(n, COVERED_BY), self.lengths[-1]), -1, np.int32)
        everything = np.arange(n_items, dtype=np.int32)
        with progress(f"asking {name}", n, shown=show) as bar:
            for place, target in enumerate(self.target):
                scores = _scores(name, model, self.request(place, n_items), everything)
                own = scores[target]
                reached[place] = own > -np.inf
                basket = self.baskets[place]
                scores[basket[basket < n_items]] = np.nan  # neither above the target nor equal to it
                for column, theirs in enumerate((scores, *scores[self.rivals[place]])):
                    above[column, place] = np.count_nonzero(theirs > own)
                    ties[column, place] = np.count_nonzero(theirs == own)
                if place < COVERED_BY:
                    scores[target] = own
                    for column, rivals in enumerate((everything, *self.rivals[place])):
                        once = np.unique(np.append(rivals, target)) if column else rivals
                        best = _best(once, scores, self.lengths[-1])
                        lists[column, place, : len(best)] = best
                bar.advance()
        for column, among in enumerate(COLUMNS):
            self._add_ranks(name, above[column], ties[column], among)
            for k in self.lengths:
                shares = np.full(n, np.nan)
                shares[:COVERED_BY] = _credits(lists[column, :, :k], n_items)
                self._add(name, f"coverage@{k}{among}", shares)
        self._add(name, "reached", reached)

    def _add_ranks(self, name: str, above: Ints, ties: Ints, among: str) -> None:
        for k in self.lengths:
            self._add(name, f"hit_rate@{k}{among}", metrics.tied_hit_rate(above, ties, k))
            self._add(name, f"ndcg@{k}{among}", metrics.tied_ndcg(above, ties, k))
            self._add(name, f"mrr@{k}{among}", metrics.tied_mrr(above, ties, k))
        self._add(name, f"mrr{among}", metrics.tied_mrr(above, ties))

    def _add(self, name: str, metric: str, values: NDArray) -> None:
        self.outcomes.add("queries", name, metric, values)


def _usable(items: Items, offsets: Ints, weight: Ints) -> Ints:
    """Baskets of two known products or more beside which something else was bought in the training part."""
    bounds = np.stack([offsets[:-1], offsets[1:]])
    is_known = items < len(weight)
    known = np.append(0, np.cumsum(is_known))[bounds]
    taken = np.append(0, np.cumsum(np.where(is_known, weight[np.minimum(items, len(weight) - 1)], 0)))[bounds]
    return np.flatnonzero((known[1] - known[0] >= 2) & (weight.sum() > taken[1] - taken[0]))


def _drawn(baskets: Sequence[Items], weights: Ints, rng: np.random.Generator) -> NDArray[np.int32]:
    """(q, w, NEGATIVES) products outside each basket, drawn independently by each of the weights (w, n_items)."""
    found = np.empty((len(baskets), len(weights), NEGATIVES), np.int32)
    for place, basket in enumerate(baskets):
        for kind, weight in enumerate(weights):
            left = weight.copy()
            left[basket] = 0
            up_to = np.cumsum(left)
            found[place, kind] = np.searchsorted(up_to, rng.integers(up_to[-1], size=NEGATIVES), side="right")
    return found


def _scores(name: str, model: Retriever | Scorer, request: Request, items: Items) -> Values:
    """(n_items,) a model's scores; the places of its list, counted backwards, where it only gives lists."""
    if isinstance(model, Scorer):
        return scores_of(name, model, request, items)
    listed = model.candidates(replace(request, k=len(items))).items
    scores = np.full(len(items), -np.inf)
    scores[listed] = -np.arange(len(listed))
    return scores


def _best(items: Items, scores: Values, k: int) -> Items:
    """The k of some items, ascending, with the highest scores (n_items,), ties by number; none with -inf or NaN."""
    items = items[scores[items] > -np.inf]
    if len(items) > k:
        items = items[scores[items] >= np.partition(scores[items], -k)[-k]]
    return items[np.argsort(-scores[items], kind="stable")[:k]]


def _credits(lists: Items, n_items: int) -> Values:
    """(q,) shares of the lists (q, k) in the catalogue's coverage, which is their mean."""
    listed = lists >= 0
    times = np.bincount(lists[listed], minlength=n_items)
    credit = np.where(listed, 1 / np.maximum(times[np.maximum(lists, 0)], 1), 0)
    return credit.sum(axis=1) * len(lists) / n_items
