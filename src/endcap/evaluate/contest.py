"""`evaluate`: models against models on a part of a log that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from endcap.answers import Indexed
from endcap.errors import InputError
from endcap.evaluate.by_user import ByUser, split_people
from endcap.evaluate.cross_sell import QUERIES as BASKETS
from endcap.evaluate.cross_sell import CrossSell
from endcap.evaluate.entrants import Contestants, enter
from endcap.evaluate.leave_one_out import LeaveOneOut
from endcap.evaluate.lists import LENGTHS, ListContest, Seen, category_numbers
from endcap.evaluate.negatives import Negatives
from endcap.evaluate.next_item import QUERIES, NextItem
from endcap.evaluate.purchase_intent import BUDGETS, PurchaseIntent, Question, question
from endcap.evaluate.report import Figures, Report
from endcap.evaluate.segments import segments
from endcap.evaluate.taxonomy import taxonomy_cosines
from endcap.shop import Shop
from endcap.shop.shop import END_OF_TIME

SPLIT_BY_TIME = ("purchase-intent", "next-item", "cross-sell")
SPLIT_BY_PERSON = ("leave-one-out", "by-user")
PROTOCOLS = SPLIT_BY_TIME + SPLIT_BY_PERSON
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
    seen: Seen = "leave-out",
    negatives: Negatives | None = None,
    at_most: int | None = None,
    by_segment: bool = False,
    taxonomy: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    threads: int = 1,
    show: bool = False,
) -> Report:
    """Compare models on actions of a shop's log that none of them has seen, with intervals and paired differences.

    Args:
        shop: a shop, split as the protocol says; or a pair (train, test) as `Shop.split_by_time` gives it, for by-user
            as `split_people` does; for cross-sell any pair, since baskets may come without times.
        models: names of systems (trained on the training part first), model folders (where the log is split by time),
            fitted models; a mapping gives them names of your own. Nothing shows whether a fitted model has seen the
            actions of a protocol that splits by person, or of a pair that time does not part: there you vouch for it.
        protocol: "purchase-intent", "next-item", "cross-sell", "leave-one-out" or "by-user"; see the modules of these
            names.
        test: the last "7d" of the time, or 0.1 of the events; for the protocols that split by time.
        source, want: interactions; source "any" takes all. Default: from the weakest one to the weakest intent.
        budgets: lengths of the lists (purchase-intent); lengths: k of the ranking metrics (the others).
        pairs: further questions as "click:cart", or "all" of them (purchase-intent).
        repeats, every: see `next_item`; seen: see `leave_one_out`, also for by-user.
        negatives: (n_users, n) items that each user's target is ranked among, too, or "uniform99" (leave-one-out).
        at_most: questions; more are drawn by chance. Default: 10,000 for next-item, 4,000 for cross-sell, else all.
        by_segment: also by popularity, history, interaction and for cold items, for cross-sell by training baskets;
            taxonomy: also mean cosines.
        settings: name -> settings of systems that are trained here.

    Raises:
        InputError: for arguments that do not fit, a model that has seen the test part, or a test part with no case.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"there is no protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}")
    _check_lengths("budgets", budgets, LONGEST_BUDGET)
    _check_lengths("k", lengths, LONGEST_LIST)
    _check_belongs(protocol, seen, negatives, at_most)
    train, held_out = _parts(shop, protocol, test, seed)
    vouched = protocol in SPLIT_BY_PERSON or _reaches_into(train, held_out)
    entrants = enter(models, held_out, settings, split_by_person=vouched)
    lists: dict[str, Any] = {"want": want, "lengths": lengths, "seed": seed}
    contests: Sequence[PurchaseIntent] | Sequence[ListContest] | Sequence[CrossSell]
    if protocol == "purchase-intent":
        contests = _purchase_intents(train, held_out, _questions(train, source, want, pairs), budgets, seed)
    elif protocol == "next-item":
        most = QUERIES if at_most is None else at_most
        contests = [NextItem(train, held_out, repeats=repeats, every=every, at_most=most, **lists)]
    elif protocol == "cross-sell":
        contests = [CrossSell(train, held_out, at_most=BASKETS if at_most is None else at_most, **lists)]
    elif protocol == "leave-one-out":
        contests = [LeaveOneOut(train, held_out, seen=seen, negatives=negatives, at_most=at_most, **lists)]
    else:
        contests = [ByUser(train, held_out, seen=seen, at_most=at_most, **lists)]
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
        data={**_data(train, held_out, test, protocol), **first.data, "seed": seed},
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


def _parts(shop: Shop | tuple[Shop, Shop], protocol: str, test: str | float, seed: int) -> tuple[Shop, Shop]:
    """What models are trained on, and what they are asked about.

    Raises:
        InputError: if the parts overlap.
    """
    if protocol == "leave-one-out":
        if isinstance(shop, tuple):
            raise InputError("leave-one-out holds back each person's last action itself: give it one shop, not a pair")
        return shop.without_last(), shop
    if protocol == "by-user":
        train, held_out = shop if isinstance(shop, tuple) else split_people(shop, seed=seed)[::2]
        if len(np.intersect1d(train.positives.user, held_out.positives.user)):
            raise InputError("people of the test part are in the training part, too; split them as split_people does")
        return train, held_out
    train, held_out = shop if isinstance(shop, tuple) else shop.split_by_time(test)
    if protocol != "cross-sell" and _reaches_into(train, held_out):
        raise InputError("the training part reaches into the test part; split by time, as Shop.split_by_time does")
    return train, held_out


def _reaches_into(train: Shop, held_out: Shop) -> bool:
    return bool(train.events.time.max(initial=0) >= held_out.events.time.min(initial=END_OF_TIME))


def _check_belongs(protocol: str, seen: str, negatives: Negatives | None, at_most: int | None) -> None:
    """Refuse what a protocol would silently leave aside."""
    if negatives is not None and protocol != "leave-one-out":
        raise InputError(f"negatives belong to the protocol leave-one-out, not to {protocol}")
    if seen != "leave-out" and protocol not in SPLIT_BY_PERSON:
        raise InputError(f"seen={seen} belongs to leave-one-out and by-user; next-item has repeats instead")
    if at_most is not None and (protocol == "purchase-intent" or not isinstance(at_most, int) or at_most < 1):
        raise InputError(f"at_most={at_most!r}: a number of people from 1 on, where each is asked for one list")


def _data(train: Shop, held_out: Shop, test: str | float, protocol: str) -> dict[str, Any]:
    data = {"train": train.span_text(), "train_events": len(train.positives)}
    if protocol in SPLIT_BY_TIME:
        data |= {"test": held_out.span_text(), "test_events": len(held_out.positives), "split": str(test)}
    return {**data, "items": train.n_items}


def _by_segment(
    train: Shop, contest: PurchaseIntent | ListContest | CrossSell, seed: int
) -> dict[str, dict[str, Figures]]:
    """One metric by segment: the headline, or the hit rate of targets where a person has several."""
    cases = contest.cases
    found = {
        name: contest.outcomes.by_group(cases.domain, cases.metric, *labels, seed=seed)
        for name, labels in segments(train, cases).items()
    }
    return contest.by_training_baskets(seed=seed) | found if isinstance(contest, CrossSell) else found
