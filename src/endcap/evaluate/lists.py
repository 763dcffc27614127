"""What the protocols that ask for one list a person share: lives, questions, how a model is asked, the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from endcap import metrics
from endcap.answers import NOTHING, History, Items, Request, Retriever, Scorer
from endcap.errors import InputError
from endcap.evaluate.outcomes import Cases, Outcomes, chance, sample
from endcap.progress import progress
from endcap.shop import Events, Shop
from endcap.shop.searches import Searches

LENGTHS = (5, 10, 20, 50)
Seen = Literal["leave-out", "keep", "zero"]
"""Items of the history: left out of lists and targets, kept in both, or kept with a score of 0, the rule of S3-Rec's
published tables."""


@runtime_checkable
class KnowsInterests(Protocol):
    """Has a vector for each interest of the asker: (K, d). `endcap.answers.EncodesItems` is one kind of these."""

    def queries(self, request: Request) -> NDArray[np.float32]: ...


@dataclass(frozen=True, eq=False)
class Life:
    """Positive actions of people, sorted by person and time; those of one time stand in the order of the log.

    Attributes:
        part: (n,) which of the logs it is made of an action comes from; begin: (n,) the first row of its person.
    """

    user: NDArray[np.int32]
    item: Items
    interaction: NDArray[np.int8]
    time: NDArray[np.int64]
    part: NDArray[np.integer]
    begin: NDArray[np.int64]

    @classmethod
    def of(cls, *logs: Events) -> Life:
        """One life from one or more logs, the earlier one first."""
        user, time = (np.concatenate([getattr(log, name) for log in logs]) for name in ("user", "time"))
        order = np.lexsort((time, user))
        user = user[order]
        return cls(
            user=user,
            item=np.concatenate([log.item for log in logs])[order],
            interaction=np.concatenate([log.interaction for log in logs])[order],
            time=time[order],
            part=np.repeat(np.arange(len(logs)), [len(log) for log in logs])[order],
            begin=np.searchsorted(user, user),
        )

    @property
    def first_contact(self) -> NDArray[np.bool_]:
        """(n,) whether the person had not acted on the item before."""
        keys = self.user.astype(np.int64) * (int(self.item.max(initial=0)) + 1) + self.item
        first = np.zeros(len(keys), bool)
        first[np.unique(keys, return_index=True)[1]] = True
        return first

    def history(self, row: int) -> History:
        """Everything the person did before a row."""
        before = slice(self.begin[row], row)
        return History(self.item[before], self.interaction[before], self.time[before])


@dataclass(frozen=True, eq=False)
class Questions:
    """Before each row of `rows` its person is asked for; the list is to hold the items at `targets` of a life.

    Attributes:
        rows: (q,) rows of the life; targets: rows of the life, those of all questions one after the other;
        offsets: (q + 1,) their bounds.
    """

    life: Life
    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    offsets: NDArray[np.int64]

    @classmethod
    def of_one_target(cls, life: Life, rows: NDArray[np.int64]) -> Questions:
        """Each row is its question's only target."""
        return cls(life, rows, rows, np.arange(len(rows) + 1))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def user(self) -> NDArray[np.int32]:
        """(q,) whom each question is about."""
        return self.life.user[self.rows]


class ListContest:
    """Questions, made once, and the outcomes of every model on them. A protocol says which questions."""

    name: ClassVar[str]
    headline_at: ClassVar[tuple[str, int]] = ("ndcg", 10)
    shown_hits: ClassVar[tuple[str, ...]] = ("hit_rate", "ndcg", "mrr")

    def __init__(
        self,
        train: Shop,
        questions: Questions,
        *,
        known_users: int,
        want: int | None,
        lengths: Sequence[int] = LENGTHS,
        seen: Seen = "leave-out",
        searches: Searches | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            known_users: models are told the numbers of users below this; the others are new to them.
            searches: of the logs that the questions come from; a question tells those before its moment.
            want: what systems with typed lists are asked for; default: the weakest interaction that occurs.
        """
        if seen not in get_args(Seen):
            raise InputError(f"seen={seen!r}: choose one of: {', '.join(get_args(Seen))}")
        self.questions, self.lengths, self.seen = questions, sorted(set(lengths)), seen
        self.life, self.rows, self.user = questions.life, questions.rows, questions.user
        self.known_users, self.searches = known_users, searches or Searches()
        self.want = int(train.positives.interaction.min()) if want is None else want
        self.known_by = _share_of_people(train)
        self.category = category_numbers(train)
        self.every_item = np.arange(train.n_items, dtype=np.int32)
        self.catalogue = sample(self.every_item, chance(seed))
        self.outcomes = Outcomes(queries=self.user, catalogue=self.catalogue)
        self.has_interests = False

    @property
    def target(self) -> Items:
        """The targets of all questions in a row."""
        return self.life.item[self.questions.targets]

    @property
    def cases(self) -> Cases:
        """One case a question: for protocols with one target each."""
        known = self.rows - self.life.begin[self.rows]
        interaction = self.life.interaction[self.rows]
        return Cases("queries", self.headline, self.target, self.user, interaction, known)

    @property
    def data(self) -> dict[str, Any]:
        return {"queries": len(self.rows), "people": len(np.unique(self.user)), "seen": self.seen}

    @property
    def headline(self) -> str:
        metric, k = self.headline_at
        return f"{metric}@{k if k in self.lengths else self.lengths[-1]}"

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print, table by table."""
        k = self.headline.partition("@")[2]
        others = ["coverage", "novelty", "diversity"] if (self.category >= 0).any() else ["coverage", "novelty"]
        about_lists = [f"{metric}@{k}" for metric in others] + ["interest_spread"] * self.has_interests
        return [[f"{metric}@{k}" for metric in self.shown_hits], about_lists]

    def measure(self, name: str, model: Any, *, show: bool = False) -> None:
        """Ask one model for every question's list and keep its outcomes.

        Raises:
            InputError: if the model answers no requests.
        """
        self.measure_lists(name, model, show)

    def measure_lists(self, name: str, model: Any, show: bool) -> Items:
        """(q, longest) the lists, after their outcomes are kept."""
        if not isinstance(model, Retriever | Scorer):
            raise InputError(f"{name} answers no requests (it has neither `candidates` nor `score`)")
        lists, spread = self._ask(name, model, show)
        hits = metrics.hit_matrix(lists, self.target, self.questions.offsets)
        self.add_hits(name, hits, np.diff(self.questions.offsets))
        for k in self.lengths:
            self._add(name, f"novelty@{k}", metrics.novelty(lists[:, :k], self.known_by))
            if (self.category >= 0).any():
                self._add(name, f"diversity@{k}", metrics.diversity(lists[:, :k], self.category))
            self.outcomes.add("catalogue", name, f"coverage@{k}", metrics.covered(lists[:, :k], self.catalogue))
        if isinstance(model, KnowsInterests):
            self.has_interests = True
            self._add(name, "interest_spread", spread)
        return lists

    def add_hits(self, name: str, hits: NDArray[np.bool_], n_targets: NDArray[np.integer], among: str = "") -> None:
        """Keep what follows from (q, n) hits; `among` goes behind the metrics' names where not all items competed."""
        for k in self.lengths:
            self._add(name, f"hit_rate@{k}{among}", metrics.hit_rate(hits, k))
            self._add(name, f"recall@{k}{among}", metrics.recall(hits, n_targets, k))
            self._add(name, f"ndcg@{k}{among}", metrics.ndcg(hits, n_targets, k))
            self._add(name, f"mrr@{k}{among}", metrics.mrr(hits, k))
        self._add(name, f"mrr{among}", metrics.mrr(hits))

    def request(self, place: int, k: int, allowed: NDArray[np.bool_] | None = None) -> Request:
        """A question as a model is asked it."""
        user, row = int(self.user[place]), self.rows[place]
        return Request(
            k=k,
            user=user if user < self.known_users else None,
            want=self.want,
            history=self.life.history(row),
            searches=self.searches.before(user, int(self.life.time[row])),
            allowed=allowed,
        )

    def _add(self, name: str, metric: str, values: NDArray) -> None:
        self.outcomes.add("queries", name, metric, values)

    def _ask(self, name: str, model: Any, show: bool) -> tuple[Items, NDArray[np.float64]]:
        """(q, longest) lists, and (q,) how far the interests of each person lie apart, NaN for models without."""
        longest = self.lengths[-1]
        lists = np.full((len(self.rows), longest), -1, np.int32)
        spread = np.full(len(self.rows), np.nan)
        interests = model if isinstance(model, KnowsInterests) else None
        with progress(f"asking {name}", len(lists), shown=show) as bar:
            for place in range(len(lists)):
                request = self.request(place, longest)
                answer = self._list(name, model, request)
                lists[place, : len(answer)] = answer
                if interests is not None:
                    spread[place] = metrics.interest_spread(interests.queries(request))
                bar.advance()
        return lists, spread

    def _list(self, name: str, model: Any, request: Request) -> Items:
        """The model's best k for a request by the rule for seen items."""
        seen = NOTHING if self.seen == "keep" else np.unique(request.history.items)
        if not isinstance(model, Retriever) or (self.seen == "zero" and isinstance(model, Scorer)):
            scores = scores_of(name, model, request, self.every_item)
            scores[seen[seen < len(scores)]] = 0 if self.seen == "zero" else -np.inf
            return _best(scores, request.k)
        answer = model.candidates(replace(request, k=request.k + len(seen)))
        new = ~np.isin(answer.items, seen)
        items = answer.items[new]
        if self.seen == "zero":
            above = np.count_nonzero(answer.scores[new] > 0)
            items = np.concatenate([items[:above], seen, items[above:]])
        return items[: request.k]


def scores_of(name: str, model: Scorer, request: Request, items: Items) -> NDArray[np.float64]:
    """(n,) a model's scores of items, -inf for those that it cannot judge.

    Raises:
        InputError: if it gives another number of scores.
    """
    scores = np.array(model.score(request, items), np.float64)
    if scores.shape != items.shape:
        raise InputError(f"{name}: `score` gave {scores.shape} scores for {len(items)} items; one for each is needed")
    scores[np.isnan(scores)] = -np.inf
    return scores


def _best(scores: NDArray[np.float64], k: int) -> Items:
    """The k items with the highest scores, the lower number first where they are equal; none with -inf."""
    least = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
    items = np.flatnonzero((scores >= least) & (scores > -np.inf))
    return items[np.argsort(-scores[items], kind="stable")][:k].astype(np.int32)


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
