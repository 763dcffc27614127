"""What somebody buys next, told by the last basket and all before it: evidence of pairs, of the person, of the season.

A basket is completed by what goes with it. The next one is another question: people buy again what they bought, and
what is bought lately. So beside the columns of `evidence`, with the last basket as what is asked with, there
are columns of how often and how long ago the person bought a product, where walks lead from everything that they
bought, by baskets and by all that other people bought, and how often anybody bought it in the last weeks.

Lessons are people's next baskets, never the baskets' own: the log is cut at the last moments that leave a window, and
everything that a question knows, graph, person and season, is of before its cut. Products of the last basket are
neither asked for nor rivals. The head, its loss and its draws are those of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from endcap.answers import History, Items
from endcap.graph import Baskets
from endcap.kernels.evidence import EVEN1, WALK1
from endcap.models.cross_sell import evidence as pairs
from endcap.models.cross_sell.choice import Likely
from endcap.models.cross_sell.evidence import DRAWN, POOL, PairEvidence, Reached, under
from endcap.models.cross_sell.pair_head import Form, PairHead, learn

COLUMNS = (
    *pairs.COLUMNS, "bought by the asker", "the same, faded", "walk1 of all bought", "even walk1 of all bought",
    "walk1 by people", "even walk1 by people", "sold in weeks", "sold in months", "products of the asker",
)  # fmt: skip
FORMS: list[Form] = [*pairs.FORMS, "log", "log", "log", "log", "log", "log", "log", "log", "plain"]
FADES = (15.0, 60.0)  # days after which a sale counts half, in weeks and in months; a person's own purchase, months
WINDOW, CUTS = 30.0, 3  # days of a lesson's next baskets, at most, and how many such windows
PER_PERSON = 2  # products asked for of a next basket: more people say more than more of each
REMEMBERED = 200  # products of a person, the latest ones
WHOLESALE = 500  # products of a person, above which their purchases in all say nothing of what goes with what
FEWEST = 100  # questions that anything is learnt from
DAY = 86_400_000_000

Floats = NDArray[np.float32]


class Past(NamedTuple):
    """What a person bought: items (p,), oldest first, and days (p,) before the last of it."""

    items: Items
    days: Floats

    @classmethod
    def of(cls, history: History, kind: int) -> Self:
        """The purchases, actions of one kind, of a history."""
        bought = (history.interactions == kind) & (history.items >= 0)
        if not bought.any():
            return cls(np.empty(0, np.int32), np.empty(0, np.float32))
        once = np.unique(np.stack([history.times[bought], history.items[bought].astype(np.int64)]), axis=1)
        return cls(once[1].astype(np.int32), ((once[0, -1] - once[0]) / DAY).astype(np.float32))


NOTHING_BOUGHT = Past(np.empty(0, np.int32), np.empty(0, np.float32))


class Question(NamedTuple):
    """What a person took into the next basket: targets, and what is no rival of them, the last basket with it."""

    asked: Items
    past: Past
    targets: Items
    out: Items


class Walked(NamedTuple):
    """Where walks lead for somebody: from the last basket, and from all they bought, by baskets and by people."""

    past: Past
    basket: Reached
    past_by: tuple[Reached, Reached] | None


class Known(NamedTuple):
    """What a shop's baskets say: evidence of baskets, of people's products in all, and sales lately (2, n_items)."""

    evidence: PairEvidence
    people: PairEvidence
    lately: Floats

    @classmethod
    def of(cls, baskets: Baskets, category: NDArray[np.integer], threads: int = 1) -> Self:
        """From baskets, and the category (n_items,) of each item, -1 unknown."""
        evidence, people = (PairEvidence.of(part, category, threads) for part in (baskets, _lives(baskets)))
        days = (baskets.time.max(initial=0) - baskets.time) / DAY
        sold = [np.bincount(baskets.items, np.repeat(np.exp2(-days / fade), baskets.sizes), len(category))
                for fade in FADES]  # fmt: skip
        return cls(evidence, people, np.stack(sold).astype(np.float32))

    def walked(self, asked: Items, past: Past) -> Walked:
        """Where walks lead for somebody with this last basket and past."""
        known = past.items < self.evidence.n_items
        past = Past(past.items[known][-REMEMBERED:], past.days[known][-REMEMBERED:])
        distinct = np.unique(past.items)
        by = (self.evidence.reach(distinct), self.people.reach(distinct)) if len(distinct) else None
        return Walked(past, self.evidence.reach(asked), by)

    def columns(self, walked: Walked, wanted: NDArray[np.integer]) -> Floats:
        """(n, columns) of wanted items (n,)."""
        columns = np.zeros((len(wanted), len(COLUMNS)), np.float32)
        own = columns[:, len(pairs.COLUMNS) :]
        columns[:, : len(pairs.COLUMNS)] = self.evidence.columns(walked.basket, wanted)
        if walked.past_by is not None:
            (items, days), n_items = walked.past, self.evidence.n_items
            own[:, 0] = np.bincount(items, minlength=n_items)[wanted]
            own[:, 1] = np.bincount(items, np.exp2(-days / FADES[1]), n_items)[wanted]
            for place, evidence, reached in zip((2, 4), (self.evidence, self.people), walked.past_by, strict=True):
                own[:, place : place + 2] = evidence.columns(reached, wanted)[:, [WALK1, EVEN1]]
            own[:, 8] = np.log1p(len(np.unique(items)))
        own[:, 6:8] = self.lately[:, wanted].T
        return columns


class NextWeigher(NamedTuple):
    """What a shop's baskets say, and the head that weighs it.

    Attributes:
        kind: the interaction that is a purchase.
    """

    known: Known
    head: PairHead
    kind: int

    @classmethod
    def fitted(
        cls, baskets: Baskets, category: NDArray[np.integer], kind: int, *, seed: int, threads: int
    ) -> Self | None:
        """Learn from the next baskets of the log's end; None where there are too few."""
        n_items, rng = len(category), np.random.default_rng([seed, 9])
        columns, log_q = list[Floats](), list[Floats]()
        for cut, end in _cuts(baskets):
            before = baskets.where(baskets.time < cut)
            known = Known.of(before, category, threads)
            n_of = known.evidence.n_of
            share = 0.5 / n_items + 0.5 * n_of / max(n_of.sum(), 1)
            for question in _questions(before, baskets.where((baskets.time >= cut) & (baskets.time < end)), rng):
                targets = question.targets[n_of[question.targets] > 0]
                drawn = (len(targets), DRAWN)
                by_sales = rng.choice(n_items, drawn, p=n_of / n_of.sum())
                wanted = np.concatenate([targets[:, None], rng.integers(0, n_items, drawn), by_sales], axis=1)
                chances = np.log(share * n_items)[wanted].astype(np.float32)
                chances[:, 1:][np.isin(wanted[:, 1:], question.out)] = np.inf
                found = known.columns(known.walked(question.asked, question.past), wanted.ravel())
                columns.append(found.reshape(*wanted.shape, len(COLUMNS)))
                log_q.append(chances)
        if sum(map(len, log_q)) < FEWEST:
            return None
        head = learn(np.concatenate(columns), np.concatenate(log_q), FORMS, seed, threads)
        return cls(Known.of(baskets, category, threads), head, kind)

    def of(self, asked: Items, history: History | None = None) -> Likely:
        """See `PairScorer`: `asked` is the last basket, and the history says what was bought before."""
        return _Following(self, asked, NOTHING_BOUGHT if history is None else Past.of(history, self.kind))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        learnt = {f"head-{name}": value for name, value in self.head.arrays().items()}
        known, people = ({f"{name}-{part}": array for part, array in getattr(self.known, name).arrays().items()}
                         for name in ("evidence", "people"))  # fmt: skip
        return {**known, **people, **learnt, "lately": self.known.lately, "kind": np.array([self.kind])}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        head = PairHead.restored(FORMS, under("head-", arrays))
        evidence, people = (PairEvidence.restored(under(f"{name}-", arrays)) for name in ("evidence", "people"))
        return cls(Known(evidence, people, arrays["lately"]), head, int(arrays["kind"][0]))


class _Following(Likely):
    """One question: what is in the next basket."""

    def __init__(self, weigher: NextWeigher, asked: Items, past: Past) -> None:
        super().__init__(weigher.known.evidence.n_items)
        self._weigher, self._known, self._asked, self._past = weigher, weigher.known, asked, past
        self._walked = weigher.known.walked(asked, past)

    def weigh(self, items: Items) -> Floats:
        """(n,) the logarithm, but for a constant, of the chance that items are in the next basket."""
        return self._weigher.head(self._known.columns(self._walked, items))

    def nearest(self, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """(at most k,) items in the order of their score: of what walks lead to, was bought before, and sells."""
        pool = max(POOL, k)
        reached, lately = self._walked.basket, self._known.lately[0]
        near = reached.items[np.argsort(-reached.sums[:, WALK1], kind="stable")[:pool]]
        sells = np.argsort(-lately, kind="stable")[:pool]
        items = np.unique(np.concatenate([near, self._past.items, sells[lately[sells] > 0]])).astype(np.int32)
        items = items[(items < len(lately)) & ~np.isin(items, self._asked)]
        if allowed is not None:
            items = items[allowed[items]]
        return items[np.lexsort((items, -self.score(items)))[:k]]


def _cuts(baskets: Baskets) -> Iterator[tuple[int, int]]:
    """The beginnings and ends of the last windows, none of which reaches into the first half of the log."""
    if len(baskets) == 0:
        return
    first, last = int(baskets.time.min()), int(baskets.time.max()) + 1
    window = int(min(WINDOW * DAY, (last - first) / (2 * CUTS)))
    for place in range(CUTS if window > 0 else 0):
        yield last - (place + 1) * window, last - place * window


def _questions(before: Baskets, later: Baskets, rng: np.random.Generator) -> Iterator[Question]:
    """For everybody with a basket before and one later: the last before, and what is new in the first later."""
    first = np.unique(later.user, return_index=True)
    for user, row in zip(*(part.tolist() for part in first), strict=True):
        begin, end = np.searchsorted(before.user, [user, user + 1]).tolist()
        if begin == end:
            continue
        asked = before.items[before.offsets[end - 1] : before.offsets[end]]
        inside = later.items[later.offsets[row] : later.offsets[row + 1]]
        targets = rng.permutation(np.setdiff1d(inside, asked))[:PER_PERSON]
        items = before.items[before.offsets[begin] : before.offsets[end]]
        days = ((before.time[end - 1] - before.time[begin:end]) / DAY).astype(np.float32)
        past = Past(items, np.repeat(days, before.sizes[begin:end]))
        yield Question(asked, past, targets, np.union1d(asked, inside))


def _lives(baskets: Baskets) -> Baskets:
    """All that each person bought as one basket, without people who bought the whole shop."""
    n_items = int(baskets.items.max(initial=0)) + 1
    bought = np.unique(np.repeat(baskets.user, baskets.sizes) * np.int64(n_items) + baskets.items)
    users, begin = np.unique(bought // n_items, return_index=True)
    offsets = np.append(begin, len(bought)).astype(np.int64)
    items = (bought % n_items).astype(np.int32)
    lives = Baskets(offsets, items, users.astype(np.int32), np.zeros(len(users), np.int64), "people")
    return lives.where(lives.sizes <= WHOLESALE)
