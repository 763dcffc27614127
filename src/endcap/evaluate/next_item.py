"""The next-item protocol: does a person's list hold the item that the person turns to next? Full ranking.

One query a person of the test part: the first action there on an item that is new to the person and before which
anything is known of the person (people new to the shop are asked at their second item). The history is everything
before it, from the training part or the test part. Answers are cut to items outside the history, so that a system is
neither paid nor charged for repeating it. `repeats` counts and keeps them instead, for shops where people buy the same
again; `every` asks at every such action, not only at a person's first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap import metrics
from endcap.answers import History, Items, Request, Retriever
from endcap.errors import InputError
from endcap.evaluate.outcomes import Cases, Outcomes, sample
from endcap.progress import progress
from endcap.shop import Shop

LENGTHS = (5, 10, 20, 50)
QUERIES = 10_000


class NextItem:
    """The queries, made once, and the outcomes of every model on them."""

    name = "next-item"

    def __init__(
        self,
        train: Shop,
        test: Shop,
        *,
        want: str | None = None,
        lengths: Sequence[int] = LENGTHS,
        repeats: bool = False,
        every: bool = False,
        at_most: int = QUERIES,
        seed: int = 0,
    ) -> None:
        """
        Args:
            want: only actions of this interaction are to be foreseen; default: any, and systems with typed lists are
                asked for the weakest interaction, which the first contact with an item mostly is.
            at_most: queries; more than these are drawn by chance.

        Raises:
            InputError: if the test part holds no query.
        """
        self.lengths, self.repeats = sorted(set(lengths)), repeats
        self.life = _Life(train, test)
        wanted = None if want is None else train.interactions.code(want)
        self.want = int(train.positives.interaction.min()) if wanted is None else wanted
        rows = self.life.queries(wanted, repeats=repeats, every=every)
        if len(rows) == 0:
            raise InputError(
                "next-item: no person of the test part has a new item after a known one; use a longer --test"
            )
        if len(rows) > at_most:
            rows = np.sort(np.random.default_rng(seed).choice(rows, at_most, replace=False))
        self.rows = rows
        self.target = self.life.item[rows]
        self.user = self.life.user[rows]
        self.n_users = train.n_users
        self.known_by = _share_of_people(train)
        self.category = category_numbers(train)
        self.catalogue = sample(np.arange(train.n_items, dtype=np.int32), np.random.default_rng(seed))
        self.outcomes = Outcomes(queries=self.user, catalogue=self.catalogue)

    @property
    def cases(self) -> Cases:
        return Cases("queries", self.target, self.user, self.life.interaction[self.rows])

    @property
    def data(self) -> dict[str, Any]:
        return {"queries": len(self.rows), "people": len(np.unique(self.user)), "repeats": self.repeats}

    @property
    def headline(self) -> str:
        return "ndcg@10" if 10 in self.lengths else f"ndcg@{self.lengths[-1]}"

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print, table by table."""
        k = self.headline.partition("@")[2]
        others = ["coverage", "novelty", "diversity"] if (self.category >= 0).any() else ["coverage", "novelty"]
        return [[f"{metric}@{k}" for metric in ("hit_rate", "ndcg", "mrr")], [f"{metric}@{k}" for metric in others]]

    def measure(self, name: str, model: Retriever, *, show: bool = False) -> None:
        """Ask one model for every query's list and keep its outcomes.

        Raises:
            InputError: if the model answers no requests.
        """
        if not isinstance(model, Retriever):
            raise InputError(f"{name} answers no requests (it has no `candidates`)")
        lists = self._ask(name, model, show)
        hits = metrics.hit_matrix(lists, self.target, np.arange(len(self.target) + 1))
        one = np.ones(len(hits), np.int64)
        for k in self.lengths:
            self._add(name, f"hit_rate@{k}", metrics.hit_rate(hits, k))
            self._add(name, f"recall@{k}", metrics.recall(hits, one, k))
            self._add(name, f"ndcg@{k}", metrics.ndcg(hits, one, k))
            self._add(name, f"mrr@{k}", metrics.mrr(hits, k))
            self._add(name, f"novelty@{k}", metrics.novelty(lists[:, :k], self.known_by))
            if (self.category >= 0).any():
                self._add(name, f"diversity@{k}", metrics.diversity(lists[:, :k], self.category))
            self.outcomes.add("catalogue", name, f"coverage@{k}", metrics.covered(lists[:, :k], self.catalogue))
        self._add(name, "mrr", metrics.mrr(hits))

    def _add(self, name: str, metric: str, values: NDArray) -> None:
        self.outcomes.add("queries", name, metric, values)

    def _ask(self, name: str, model: Retriever, show: bool) -> Items:
        """(queries, longest) lists."""
        longest = self.lengths[-1]
        lists = np.full((len(self.rows), longest), -1, np.int32)
        with progress(f"asking {name}", len(self.rows), shown=show) as bar:
            for place, row in enumerate(self.rows):
                history = self.life.history(row)
                seen = np.empty(0, np.int32) if self.repeats else np.unique(history.items)
                user = int(self.user[place])
                request = Request(
                    k=longest + len(seen), user=user if user < self.n_users else None, history=history, want=self.want
                )
                answer = model.candidates(request).items
                answer = answer[~np.isin(answer, seen)][:longest]
                lists[place, : len(answer)] = answer
                bar.advance()
        return lists


class _Life:
    """What the people of the test part did, before and in it, sorted by person and time."""

    def __init__(self, train: Shop, test: Shop) -> None:
        past, later = train.positives, test.positives
        past = past.where(np.isin(past.user, later.user))
        user = np.concatenate([past.user, later.user])
        order = np.lexsort((np.concatenate([past.time, later.time]), user))
        self.user = user[order]
        self.item = np.concatenate([past.item, later.item])[order]
        self.interaction = np.concatenate([past.interaction, later.interaction])[order]
        self.time = np.concatenate([past.time, later.time])[order]
        self.is_test = order >= len(past)
        first = np.append(True, self.user[1:] != self.user[:-1]) if len(order) else np.empty(0, bool)
        self.begin = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))

    def queries(self, want: int | None, *, repeats: bool, every: bool) -> NDArray[np.int64]:
        """Rows of the actions to foresee."""
        chosen = self.is_test & (np.arange(len(self.user)) > self.begin)
        if want is not None:
            chosen &= self.interaction == want
        if not repeats:
            keys = self.user.astype(np.int64) * (int(self.item.max(initial=0)) + 1) + self.item
            _, first_contact = np.unique(keys, return_index=True)
            new = np.zeros(len(chosen), bool)
            new[first_contact] = True
            chosen &= new
        rows = np.flatnonzero(chosen)
        if every:
            return rows
        _, first = np.unique(self.user[rows], return_index=True)
        return rows[first]

    def history(self, row: int) -> History:
        """Everything the person did before a row."""
        before = slice(self.begin[row], row)
        return History(self.item[before], self.interaction[before], self.time[before])


def _share_of_people(train: Shop) -> NDArray[np.float64]:
    """(n_items,) the share of the training part's people who know each item, one imagined person added to each."""
    past = train.positives
    pairs = np.unique(past.user.astype(np.int64) * train.n_items + past.item)
    people = np.bincount(pairs % train.n_items, minlength=train.n_items)
    return (people + 1) / (len(np.unique(past.user)) + 1)


def category_numbers(shop: Shop) -> NDArray[np.int32]:
    """(n_items,) number of each item's whole category path, -1 where unknown."""
    if "category" not in shop.catalogue.column_names:
        return np.full(shop.n_items, -1, np.int32)
    codes = shop.catalogue["category"].combine_chunks().dictionary_encode()
    return codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32)
