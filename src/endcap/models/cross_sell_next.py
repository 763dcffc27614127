"""What somebody buys next, told by the last basket and all before it: evidence of pairs, of the person, of the season.

A basket is completed by what goes with it. The next one is another question: people buy again what they bought, and
what is bought lately. So beside the columns of `cross_sell_evidence`, with the last basket as what is asked with, there
are columns of how often and how long ago the person bought a product, where walks lead from everything that they
bought, and how often anybody bought it in the last weeks.

Lessons are people's next baskets, never the baskets' own: the log is cut at the last moments that leave a window, and
everything that a question knows, graph, person and season, is of before its cut. Products of the last basket are
neither asked for nor rivals. The head, its loss and its draws are those of the evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from endcap.answers import History, Items
from endcap.graph import Baskets
from endcap.kernels.evidence import EVEN1, WALK1
from endcap.models import cross_sell_evidence as pairs
from endcap.models.cross_sell_evidence import DRAWN, POOL, PairEvidence, Reached, under
from endcap.models.pair_head import Form, PairHead, learn

COLUMNS = (
    *pairs.COLUMNS, "bought by the asker", "the same, faded", "walk1 of all bought", "even walk1 of all bought",
    "sold in weeks", "sold in months", "products of the asker",
)  # fmt: skip
FORMS: list[Form] = [*pairs.FORMS, "log", "log", "log", "log", "log", "log", "plain"]
FADES = (15.0, 60.0)  # days after which a sale counts half, in weeks and in months; a person's own purchase, months
WINDOW, CUTS = 30.0, 3  # days of a lesson's next baskets, at most, and how many such windows
PER_PERSON = 5  # products asked for of a next basket
REMEMBERED = 200  # products of a person, the latest ones
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
        bought = history.last(len(history), kind)
        if len(bought) == 0:
            return cls(np.empty(0, np.int32), np.empty(0, np.float32))
        once = np.unique(np.stack([bought.times, bought.items.astype(np.int64)]), axis=1)
        return cls(once[1].astype(np.int32), ((once[0, -1] - once[0]) / DAY).astype(np.float32))


NOTHING_BOUGHT = Past(np.empty(0, np.int32), np.empty(0, np.float32))


class Question(NamedTuple):
    """What a person took into the next basket: targets, and what is no rival of them, the last basket with it."""

    asked: Items
    past: Past
    targets: Items
    out: Items


class NextWeigher(NamedTuple):
    """The evidence of a shop, how it sold lately (2, n_items), the head, and whom it answers.

    Attributes:
        kind: the interaction that is a purchase.
    """

    evidence: PairEvidence
    lately: Floats
    head: PairHead
    kind: int
    past: Past = NOTHING_BOUGHT

    @classmethod
    def fitted(
        cls, baskets: Baskets, category: NDArray[np.integer], kind: int, *, seed: int, threads: int
    ) -> Self | None:
        """Learn from the next baskets of the log's end; None where there are too few."""
        n_items, rng = len(category), np.random.default_rng([seed, 9])
        columns, log_q = list[Floats](), list[Floats]()
        for cut, end in _cuts(baskets):
            before = baskets.where(baskets.time < cut)
            known, lately = PairEvidence.of(before, category, threads), _sold(before, n_items)
            share = 0.5 / n_items + 0.5 * known.n_of / max(known.n_of.sum(), 1)
            for question in _questions(before, baskets.where((baskets.time >= cut) & (baskets.time < end)), rng):
                targets = question.targets[known.n_of[question.targets] > 0]
                drawn = (len(targets), DRAWN)
                by_sales = rng.choice(n_items, drawn, p=known.n_of / known.n_of.sum())
                wanted = np.concatenate([targets[:, None], rng.integers(0, n_items, drawn), by_sales], axis=1)
                chances = np.log(share * n_items)[wanted].astype(np.float32)
                chances[:, 1:][np.isin(wanted[:, 1:], question.out)] = np.inf
                found = _columns(known, lately, known.reach(question.asked), question.past, wanted.ravel())
                columns.append(found.reshape(*wanted.shape, len(COLUMNS)))
                log_q.append(chances)
        if sum(map(len, log_q)) < FEWEST:
            return None
        head = learn(np.concatenate(columns), np.concatenate(log_q), FORMS, seed, threads)
        return cls(PairEvidence.of(baskets, category, threads), _sold(baskets, n_items), head, kind)

    def knowing(self, history: History) -> Self:
        """The same for somebody with this history."""
        return self._replace(past=Past.of(history, self.kind))

    def score(self, asked: Items, items: Items) -> Floats:
        """(n,) the logarithm, but for a constant, of the chance that items are in the next basket, after `asked`."""
        columns = _columns(self.evidence, self.lately, self.evidence.reach(asked), self.past, items)
        with torch.inference_mode():
            return self.head(torch.from_numpy(columns)).numpy()

    def nearest(self, asked: Items, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """(at most k,) items in the order of their score: of what walks lead to, was bought before, and sells."""
        pool = max(POOL, k)
        reached = self.evidence.reach(asked)
        near = reached.items[np.argsort(-reached.sums[:, WALK1], kind="stable")[:pool]]
        sells = np.argsort(-self.lately[0], kind="stable")[:pool]
        items = np.unique(np.concatenate([near, self.past.items, sells[self.lately[0][sells] > 0]])).astype(np.int32)
        items = items[(items < self.evidence.n_items) & ~np.isin(items, asked)]
        if allowed is not None:
            items = items[allowed[items]]
        return items[np.lexsort((items, -self.score(asked, items)))[:k]]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        learnt = {f"head-{name}": value.numpy() for name, value in self.head.state_dict().items()}
        return {**self.evidence.arrays(), **learnt, "lately": self.lately, "kind": np.array([self.kind])}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        head = PairHead(FORMS)
        head.load_state_dict({name: torch.tensor(value) for name, value in under("head-", arrays).items()})
        return cls(PairEvidence.restored(arrays), arrays["lately"], head.eval(), int(arrays["kind"][0]))


def _columns(
    evidence: PairEvidence, lately: Floats, reached: Reached, past: Past, wanted: NDArray[np.integer]
) -> Floats:
    """(n, columns) of wanted items (n,) for somebody with this last basket and past."""
    columns = np.zeros((len(wanted), len(COLUMNS)), np.float32)
    n_pairs, n_items = len(pairs.COLUMNS), evidence.n_items
    columns[:, :n_pairs] = evidence.columns(reached, wanted)
    known = past.items < n_items
    items, days = past.items[known][-REMEMBERED:], past.days[known][-REMEMBERED:]
    if len(items):
        distinct = np.unique(items)
        columns[:, n_pairs] = np.bincount(items, minlength=n_items)[wanted]
        columns[:, n_pairs + 1] = np.bincount(items, np.exp2(-days / FADES[1]), n_items)[wanted]
        of_all = evidence.columns(evidence.reach(distinct), wanted)
        columns[:, n_pairs + 2 : n_pairs + 4] = of_all[:, [WALK1, EVEN1]]
        columns[:, n_pairs + 6] = np.log1p(len(distinct))
    columns[:, n_pairs + 4 : n_pairs + 6] = lately[:, wanted].T
    return columns


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


def _sold(baskets: Baskets, n_items: int) -> Floats:
    """(2, n_items) baskets of each item, each counting half after `FADES` days."""
    days = (baskets.time.max(initial=0) - baskets.time) / DAY
    return np.stack([
        np.bincount(baskets.items, np.repeat(np.exp2(-days / fade), baskets.sizes), n_items) for fade in FADES
    ]).astype(np.float32)  # fmt: skip
