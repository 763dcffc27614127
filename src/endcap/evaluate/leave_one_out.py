"""The leave-one-out protocol of published tables: is a person's last action foreseen from everything before it?

Each person's last positive action is the test, the one before it is there to validate on, everything before that is
there to learn from. Models that are trained here see the shop without each person's last action and may hold back the
last one of what is left, to stop by. At the test the history is everything before the last action. People with fewer
than three actions are learnt from and not asked. The parts of different people overlap in time, so this says less
about tomorrow than the protocols that split by time.

`seen` says what becomes of items of the history. "leave-out", the default: they are taken out of the answers, and a
person whose last action was on an item known before is not asked. "keep": both stay. "zero": both stay, and items of
the history get the score 0, whatever the model says: the rule of the published S3-Rec tables.

All items of the shop compete. With `negatives` the target is also ranked among them alone; see `negatives`. A model
with `score` is asked for the scores of these candidates, any other for its list of them. Equal scores are put in
an order drawn by the seed; a candidate that the model leaves out or cannot judge is never a hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap import metrics
from endcap.answers import Items, Retriever, Scorer
from endcap.errors import InputError
from endcap.evaluate.lists import LENGTHS, Life, ListContest, Questions, Seen, scores_of
from endcap.evaluate.negatives import CandidateSets, Negatives, candidates_of
from endcap.evaluate.outcomes import chance, sample
from endcap.progress import progress
from endcap.shop import Shop
from endcap.shop.searches import Searches
from endcap.shop.shop import LEAST_ACTIONS


class LeaveOneOut(ListContest):
    """The questions, made once, and the outcomes of every model on them."""

    name = "leave-one-out"

    def __init__(
        self,
        train: Shop,
        shop: Shop,
        *,
        want: str | None = None,
        lengths: Sequence[int] = LENGTHS,
        seen: Seen = "leave-out",
        negatives: Negatives | None = None,
        at_most: int | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            train: the shop without each person's last action, `shop.without_last()`.
            want: only people whose last action is this one are asked; default: all.
            at_most: people; more than these are drawn by chance; default: everybody.

        Raises:
            InputError: if nobody can be asked, or the negatives do not fit.
        """
        life = Life.of(shop.positives)
        end = np.searchsorted(life.user, life.user, side="right")
        last = np.flatnonzero((np.arange(len(end)) == end - 1) & (end - life.begin >= LEAST_ACTIONS))
        wanted = None if want is None else shop.interactions.code(want)
        if wanted is not None:
            last = last[life.interaction[last] == wanted]
        rows = last[life.first_contact[last]] if seen == "leave-out" else last
        if len(rows) == 0:
            raise InputError(
                f"leave-one-out: nobody has {LEAST_ACTIONS} actions of which the last one is on a new item"
                + ("" if want is None else f" and a {want}")
                + "; seen=keep asks about known items, too"
            )
        self.known_again = len(last) - len(rows)
        rows = rows if at_most is None else sample(rows, chance(seed), at_most)
        questions = Questions.of_one_target(life, rows)
        super().__init__(
            train,
            questions,
            known_users=train.n_users,
            want=wanted,
            lengths=lengths,
            seen=seen,
            searches=Searches(shop.events),
            seed=seed,
        )
        self.candidates = None if negatives is None else candidates_of(negatives, train, questions, seed=seed)
        self.lot = chance(seed).random(len(rows))  # settles which of equal scores comes first, alike for all

    @property
    def data(self) -> dict[str, Any]:
        not_asked = {"not_asked_known_item": self.known_again} if self.known_again else {}
        return super().data | not_asked

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print, table by table; those among sampled candidates stand apart."""
        tables = super().shown
        if self.candidates is not None:
            k = self.headline.partition("@")[2]
            tables.append([f"{metric}@{k}/{self.candidates.name}" for metric in self.shown_hits])
        return tables

    def measure(self, name: str, model: Any, *, show: bool = False) -> None:
        """Ask one model for every list, and for the order of the candidates where there are some."""
        self.measure_lists(name, model, show)
        if self.candidates is None:
            return
        places = self._places(name, model, self.candidates, show)
        hits = np.arange(self.candidates.items.shape[1]) == places[:, None]
        self.add_hits(name, hits, np.ones(len(hits), np.int64), f"/{self.candidates.name}")

    def _places(self, name: str, model: Any, candidates: CandidateSets, show: bool) -> NDArray[np.integer]:
        """(q,) the place of each target among its candidates from 0 on, NEVER where the model cannot judge it."""
        places = np.full(len(candidates.items), metrics.NEVER)
        scorer = model if isinstance(model, Scorer) else None
        with progress(f"asking {name} among {candidates.name}", len(places), shown=show) as bar:
            for place, row in enumerate(candidates.items):
                items = row[row >= 0]
                if scorer is not None:
                    scores = scores_of(name, scorer, self.request(place, len(items)), items)
                else:
                    scores = self._scores_by_place(name, model, place, items)
                if scores[0] > -np.inf:
                    equal = np.count_nonzero(scores[1:] == scores[0])
                    places[place] = np.count_nonzero(scores > scores[0]) + int(self.lot[place] * (equal + 1))
                bar.advance()
        return places

    def _scores_by_place(self, name: str, model: Retriever, place: int, items: Items) -> NDArray[np.float64]:
        """(n,) minus the place of each item in the list that a model makes of them, -inf for those it leaves out.

        Raises:
            InputError: if the list holds anything else.
        """
        allowed = np.zeros(len(self.every_item), np.bool_)
        allowed[items] = True
        scores = np.full(len(allowed), -np.inf)
        answer = model.candidates(self.request(place, len(items), allowed)).items
        if not allowed[answer].all():
            raise InputError(
                f"{name}: its `candidates` answers items that are not allowed; heed `request.allowed` or have `score`"
            )
        scores[answer] = -np.arange(len(answer))
        return scores[items]
