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

from endcap.errors import InputError
from endcap.evaluate.lists import LENGTHS, Life, ListContest, Questions
from endcap.evaluate.outcomes import Cases, chance, sample
from endcap.evaluate.segments import counts_of
from endcap.shop import Shop
from endcap.shop.searches import Searches

QUERIES = 10_000


class NextItem(ListContest):
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
        self.repeats, self.train = repeats, train
        past, later = train.positives, test.positives
        life = Life.of(past.where(np.isin(past.user, later.user)), later)
        wanted = None if want is None else train.interactions.code(want)
        rows = _rows(life, wanted, repeats=repeats, every=every)
        if len(rows) == 0:
            raise InputError(
                "next-item: no person of the test part has a new item after a known one; use a longer --test"
            )
        rows = sample(rows, chance(seed), at_most)
        super().__init__(
            train,
            Questions.of_one_target(life, rows),
            known_users=train.n_users,
            want=wanted,
            lengths=lengths,
            seen="keep" if repeats else "leave-out",
            searches=Searches(train.events, test.events),
            seed=seed,
        )

    @property
    def cases(self) -> Cases:
        return super().cases._replace(known=counts_of(self.train.positives.user, self.user))

    @property
    def data(self) -> dict[str, Any]:
        return {"queries": len(self.rows), "people": len(np.unique(self.user)), "repeats": self.repeats}


def _rows(life: Life, want: int | None, *, repeats: bool, every: bool) -> NDArray[np.int64]:
    """Rows of the actions to foresee."""
    chosen = (life.part == 1) & (np.arange(len(life.user)) > life.begin)
    if want is not None:
        chosen &= life.interaction == want
    if not repeats:
        chosen &= life.first_contact
    rows = np.flatnonzero(chosen)
    if every:
        return rows
    _, first = np.unique(life.user[rows], return_index=True)
    return rows[first]
