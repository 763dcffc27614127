"""`evaluate`: models against models on the end of a log that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from endcap.answers import Indexed
from endcap.errors import InputError
from endcap.evaluate.entrants import Contestants, enter
from endcap.evaluate.next_item import LENGTHS, NextItem, category_numbers
from endcap.evaluate.purchase_intent import BUDGETS, PurchaseIntent, Question, question
from endcap.evaluate.report import Figures, Report
from endcap.evaluate.segments import segments
from endcap.evaluate.taxonomy import taxonomy_cosines
from endcap.shop import Shop
from endcap.shop.shop import END_OF_TIME

PROTOCOLS = ("purchase-intent", "next-item")
ALL_PAIRS = "all"
LONGEST_BUDGET = 10_000
LONGEST_LIST = 1_000


def evaluate(
    shop: Shop | tuple[Shop, Shop],
    models: Contestants,
    *,
    protocol: str = "purchase-intent",
    test: str | float = "7d",
    source: str | None = None,
    want: str | None = None,
    budgets: Sequence[int] = BUDGETS,
    pairs: Sequence[str] | Literal["all"] = (),
    lengths: Sequence[int] = LENGTHS,
    repeats: bool = False,
    every: bool = False,
    by_segment: bool = False,
    taxonomy: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    threads: int = 1,
    show: bool = False,
) -> Report:
    """Compare models on the last part of a shop's log, with intervals over people and paired differences.

    Args:
        shop: a shop, split at `test`, or a pair (train, test) as `Shop.split_by_time` gives it.
        models: names of systems (trained on the training part first), model folders, fitted models; a mapping gives
            them names of your own.
        protocol: "purchase-intent" or "next-item"; see the modules of these names.
        test: the last "7d" of the time, or 0.1 of the events.
        source, want: interactions; source "any" takes all. Default: from the weakest one to the weakest intent.
        budgets: lengths of the lists (purchase-intent); lengths: k of the ranking metrics (next-item).
        pairs: further questions as "click:cart", or "all" of them (purchase-intent).
        repeats, every: see `next_item`.
        by_segment: also by popularity, history, interaction and for cold items; taxonomy: also mean cosines.
        settings: name -> settings of systems that are trained here.

    Raises:
        InputError: for arguments that do not fit, a model that has seen the test part, or a test part with no case.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    _check_lengths("budgets", budgets, LONGEST_BUDGET)
    _check_lengths("k", lengths, LONGEST_LIST)
    train, held_out = shop if isinstance(shop, tuple) else shop.split_by_time(test)
    if train.events.time.max(initial=0) >= held_out.events.time.min(initial=END_OF_TIME):
        raise InputError("the training part reaches into the test part; split by time, as Shop.split_by_time does")
    entrants = enter(models, held_out, settings)
    contests: Sequence[PurchaseIntent] | Sequence[NextItem]
    if protocol == "next-item":
        contests = [NextItem(train, held_out, want=want, lengths=lengths, repeats=repeats, every=every, seed=seed)]
    else:
        contests = _purchase_intents(train, held_out, _questions(train, source, want, pairs), budgets, seed)
    cosines: dict[str, Figures] = {}
    with threadpool_limits(
        threads, "blas"
    ):  # many small questions: more threads than asked for only wait for each other
        for entrant in entrants:
            model = entrant.ready(train, seed=seed, threads=threads, show=show)
            for contest in contests:
                contest.measure(entrant.name, model, show=show)
            if taxonomy and isinstance(model, Indexed):
                cosines[entrant.name] = taxonomy_cosines(model, category_numbers(train), seed=seed)
    first = contests[0]
    figures, paired = first.outcomes.summary(seed=seed)
    return Report(
        protocol=protocol,
        data={**_data(train, held_out, test), **first.data, "seed": seed},
        models=figures,
        paired=paired,
        headline=first.headline,
        shown=first.shown,
        pairs={other.data["question"]: other.outcomes.summary(seed=seed)[0] for other in contests} if pairs else {},
        segments=_by_segment(train, first, seed) if by_segment else {},
        taxonomy=cosines,
    )


def _check_lengths(what: str, lengths: Sequence[int], longest: int) -> None:
    if not lengths or not all(1 <= k <= longest for k in lengths):
        raise InputError(f"{what} {', '.join(map(str, lengths))}: lists of 1 to {longest:,} items can be compared")


def _questions(train: Shop, source: str | None, want: str | None, pairs: Sequence[str]) -> list[Question]:
    """The headline's question first, then the others, each once."""
    asked = [question(train, source, want)]
    if pairs == ALL_PAIRS:
        names = [train.interactions.name(code) for code in np.unique(train.positives.interaction)]
        pairs = [f"{source}:{want}" for source in names for want in names]
    for pair in pairs:
        seen_as, colon, wanted = pair.partition(":")
        if not colon:
            raise InputError(f"pair {pair!r}: write it as source:want, for instance click:cart or any:cart")
        asked.append(question(train, seen_as, wanted))
    return list(dict.fromkeys(asked))


def _purchase_intents(
    train: Shop, held_out: Shop, asked: Sequence[Question], budgets: Sequence[int], seed: int
) -> list[PurchaseIntent]:
    """The first question must have targets; others that have none are left out of the report."""
    contests = [PurchaseIntent(train, held_out, asked[0], budgets=budgets, seed=seed)]
    for one in asked[1:]:
        with suppress(InputError):
            contests.append(PurchaseIntent(train, held_out, one, budgets=budgets, seed=seed))
    return contests


def _data(train: Shop, held_out: Shop, test: str | float) -> dict[str, Any]:
    return {
        "train": train.span_text(),
        "train_events": len(train.positives),
        "test": held_out.span_text(),
        "test_events": len(held_out.positives),
        "split": str(test),
        "items": train.n_items,
    }


def _by_segment(train: Shop, contest: PurchaseIntent | NextItem, seed: int) -> dict[str, dict[str, Figures]]:
    """The headline metric by segment."""
    cases = contest.cases
    return {
        name: contest.outcomes.by_group(cases.domain, contest.headline, *labels, seed=seed)
        for name, labels in segments(train, cases.item, cases.user, cases.interaction).items()
    }
