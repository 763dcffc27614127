"""The by-user protocol (strong generalisation, ComiRec, KDD '20): people that a model has never seen.

People are drawn by the seed into 80 % to learn from, 10 % to validate on and 10 % to be asked about. Of a person who is
asked, the first 80 % of the actions are the history, and the different items of all the rest the targets; people for
whom either is empty are not asked. Models are not told the numbers of these users.

Ours differs from ComiRec's evaluator in two rules: items of the history are taken out of answers and targets unless
`seen` is "keep" (or "zero", see `leave_one_out`), and the ideal of NDCG@k is that of min(targets, k) hits, not of as
many as there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from endcap.errors import InputError
from endcap.evaluate.lists import LENGTHS, Life, ListContest, Questions, Seen
from endcap.evaluate.outcomes import Cases, Domain, chance, sample
from endcap.shop import Shop
from endcap.shop.searches import Searches


class ByUser(ListContest):
    """The questions, made once, and the outcomes of every model on them."""

    name = "by-user"
    headline_at = ("recall", 20)
    shown_hits = ("recall", "ndcg", "hit_rate")

    def __init__(
        self,
        train: Shop,
        test: Shop,
        *,
        want: str | None = None,
        lengths: Sequence[int] = LENGTHS,
        seen: Seen = "leave-out",
        at_most: int | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            train, test: all events of some people, and all of some others; see `split_people`.
            want: only actions of this interaction are targets; default: all.
            at_most: people; more than these are drawn by chance; default: everybody.

        Raises:
            InputError: if nobody can be asked.
        """
        wanted = None if want is None else train.interactions.code(want)
        questions = _questions(Life.of(test.positives), wanted, seen, at_most, seed)
        if len(questions) == 0:
            raise InputError(
                "by-user: nobody of the test part does anything to ask about after the first 80 % of the actions; "
                "more people are needed, or seen=keep, which asks about known items, too"
            )
        super().__init__(
            train,
            questions,
            known_users=0,
            want=wanted,
            lengths=lengths,
            seen=seen,
            searches=Searches(test.events),
            seed=seed,
        )
        self.asked_at = np.repeat(np.arange(len(questions)), np.diff(questions.offsets))
        self.outcomes.domains["targets"] = Domain(self.user[self.asked_at])

    @property
    def cases(self) -> Cases:
        """One case a target, hit or not."""
        of_targets = self.life.interaction[self.questions.targets]
        known = (self.rows - self.life.begin[self.rows])[self.asked_at]
        k = self.headline.partition("@")[2]
        return Cases("targets", f"target_recall@{k}", self.target, self.user[self.asked_at], of_targets, known)

    @property
    def data(self) -> dict[str, Any]:
        return {**super().data, "targets": len(self.target)}

    @property
    def shown(self) -> list[list[str]]:
        """Metrics to print, table by table: the published three at the two longest lengths, then those about lists."""
        hits = [[f"{metric}@{k}" for metric in self.shown_hits] for k in self.lengths[-2:]]
        return hits + super().shown[1:]

    def measure(self, name: str, model: Any, *, show: bool = False) -> None:
        """Ask one model for every person's list; by person, and by target (`target_recall@k`) for the segments."""
        lists = self.measure_lists(name, model, show)
        for k in self.lengths:
            hit = (lists[self.asked_at, :k] == self.target[:, None]).any(axis=1)
            self.outcomes.add("targets", name, f"target_recall@{k}", hit)


def split_people(shop: Shop, *, seed: int = 0) -> tuple[Shop, Shop, Shop]:
    """Views of all events of 80 %, 10 % and 10 % of the people, drawn by the seed; vocabularies stay whole.

    Raises:
        InputError: if there are too few people for three parts.
    """
    people = chance(seed).permutation(np.unique(shop.positives.user))
    parts = np.split(people, [len(people) * 8 // 10, len(people) * 9 // 10])
    if not all(len(part) for part in parts):
        raise InputError(f"by-user: {len(people)} people with actions are too few to be split 80 : 10 : 10")
    train, validation, test = (replace(shop, events=shop.events.where(np.isin(shop.events.user, p))) for p in parts)
    return train, validation, test


def _questions(life: Life, want: int | None, seen: Seen, at_most: int | None, seed: int) -> Questions:
    """One question for each person with a history and a target."""
    row = np.arange(len(life.user))
    end = np.searchsorted(life.user, life.user, side="right")
    cut = life.begin + (end - life.begin) * 8 // 10
    key = life.user.astype(np.int64) * (int(life.item.max(initial=0)) + 1) + life.item
    wanted = (row >= cut) & (cut > life.begin)
    if want is not None:
        wanted &= life.interaction == want
    if seen == "leave-out":
        wanted &= ~np.isin(key, key[row < cut])
    targets = np.flatnonzero(wanted)
    targets = np.sort(targets[np.unique(key[targets], return_index=True)[1]])
    rows = np.unique(cut[targets])
    if at_most is not None:
        rows = sample(rows, chance(seed), at_most)
        targets = targets[np.isin(cut[targets], rows)]
    return Questions(life, rows, targets, np.append(0, np.searchsorted(cut[targets], rows, side="right")))
