"""Sampled candidates: a person's target among a few items that the person never acted on.

Such figures are higher than those of a full ranking and order systems differently, so the metric's name says what it
was measured among: `hit_rate@10/uniform99`, `/popularity99`, and `/given99` for candidates that came with the data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items
from endcap.errors import InputError
from endcap.evaluate.lists import Questions
from endcap.evaluate.outcomes import chance
from endcap.shop import Shop

Negatives = NDArray[np.integer] | str
"""(n_users, n) items, row u for user number u of the shop, -1 pads; or "uniform99", "popularity99"."""


@dataclass(frozen=True, eq=False)
class CandidateSets:
    """(q, 1 + n) items for each question, the target first, padded with -1; `name` goes behind the metric's name."""

    name: str
    items: Items


def candidates_of(negatives: Negatives, train: Shop, questions: Questions, *, seed: int) -> CandidateSets:
    """The candidates of questions with one target each.

    Raises:
        InputError: for negatives that do not fit the shop or hold a target, or a sample larger than what is left.
    """
    target = questions.life.item[questions.targets]
    if isinstance(negatives, str):
        name, others = negatives, _sampled(negatives, train, questions, seed)
    else:
        others = _given(np.asarray(negatives), train, questions.user)
        name = f"given{others.shape[1]}"
        wrong = np.flatnonzero((others == target[:, None]).any(axis=1))
        if len(wrong):
            who = train.users[int(questions.user[wrong[0]])]
            raise InputError(
                f"negatives: those of user {who} hold the target itself, item {train.items[target[wrong[0]]]}"
            )
    return CandidateSets(name, np.column_stack([target, others]).astype(np.int32))


def _given(negatives: NDArray, train: Shop, users: NDArray[np.int32]) -> NDArray[np.integer]:
    """Rows of those who are asked."""
    if negatives.ndim != 2 or not np.issubdtype(negatives.dtype, np.integer) or len(negatives) != train.n_users:
        raise InputError(
            f"negatives: one row of item numbers for each of the shop's {train.n_users:,} users is needed, "
            f"not shape {negatives.shape} of {negatives.dtype}"
        )
    rows = negatives[users]
    if rows.min(initial=0) < -1 or rows.max(initial=-1) >= train.n_items:
        raise InputError(f"negatives: item numbers run from 0 to {train.n_items - 1:,}, -1 where there is none")
    alone = np.flatnonzero((rows < 0).all(axis=1))
    if len(alone):
        raise InputError(f"negatives: user {train.users[int(users[alone[0]])]} has none, and is to be asked")
    return rows


def _sampled(kind: str, train: Shop, questions: Questions, seed: int) -> NDArray[np.integer]:
    """(q, n) different items that the person never acted on, all alike or by their actions in the training part.

    The n smallest of exponential waiting times, at a rate of the item's weight, are n draws without replacement.
    """
    match = re.fullmatch(r"(uniform|popularity)([1-9]\d{0,5})", kind)
    if match is None:
        raise InputError(f"negatives={kind!r}: write uniform or popularity and a number, as in uniform99")
    n = int(match[2])
    weight = np.ones(train.n_items)
    if match[1] == "popularity":
        weight = np.bincount(train.positives.item, minlength=train.n_items).astype(np.float64)
    rng = chance(seed)
    found = np.empty((len(questions), n), np.int32)
    life = questions.life
    for place, (row, target) in enumerate(zip(questions.rows, questions.targets, strict=True)):
        with np.errstate(divide="ignore"):
            waiting = rng.standard_exponential(train.n_items) / weight
        waiting[life.item[life.begin[row] : row]] = np.inf
        waiting[life.item[target]] = np.inf
        if np.count_nonzero(waiting < np.inf) < n:
            who = train.users[int(life.user[row])]
            raise InputError(f"negatives={kind!r}: fewer than {n} items are left that user {who} never acted on")
        found[place] = np.argpartition(waiting, n - 1)[:n]
    return found
