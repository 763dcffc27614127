"""What models of baskets share: everything that lies in a basket speaks, and the voices are put together.

A model holds rows of weights: row r gives items[offsets[r]:offsets[r + 1]] so much. Which rows speak for a basket, and
how loudly, a subclass says; mostly those of its items. An item that no row names is not judged: `score` gives it -inf
and no list holds it. An item asked about alone is a basket of one; without basket or item the asker's last actions are
the basket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import numba
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from endcap.answers import Candidates, Evidence, Items, Reason, Request, Scores
from endcap.models.base import NO_CANDIDATES, Model
from endcap.models.lists import Lists

Together = Annotated[
    Literal["sum", "max"], Meta(description="what the items of a basket say of another one is added up; or the largest")
]
LargestBasket = Annotated[
    int, Meta(ge=0, description="baskets of more different items are not learnt from: they say little; 0: all are")
]


class Voices(NamedTuple):
    """What a basket says of all items.

    Attributes:
        named: (m,) the items that anything is said of; total: (n_items,) float64, -inf for the others;
        because: (n_items,) place in the basket of whose voice is the loudest, -1 where it is nobody's alone;
        loudest: (n_items,) float64, how loud it is.
    """

    named: NDArray[np.int32]
    total: NDArray[np.float64]
    because: NDArray[np.int32]
    loudest: NDArray[np.float64]


class BasketModel(Model):
    """Answers from all of a basket; a subclass gives `_voices`, or keeps a row of `_lists` for each item."""

    _lists: Lists

    @property
    def _by_max(self) -> bool:
        """Whether the loudest voice alone counts, not the sum of all."""
        return False

    def _voices(self, basket: Items) -> Voices:
        """What a basket (m,) of different known items says."""
        voices = silence(len(self._trained().items))
        ones = np.ones(len(basket))
        return speak(voices, self._lists, basket, ones, np.arange(len(basket)), by_max=self._by_max)

    def candidates(self, request: Request) -> Candidates:
        """Because of the item asked about, else of all that lies in the basket, else of the last actions."""
        actions = self._actions(request)
        if not actions:
            return NO_CANDIDATES
        basket, voices = self._heard(actions)
        left_out = request.basket if request.item is None else np.append(request.basket, request.item)
        items, scores = strongest(voices, request.k, left_out, request.allowed)
        kinds = {-1: -1} | dict(reversed(actions))
        because = np.append(basket, np.int32(-1))[voices.because[items]]
        seen_as = np.array([kinds[item] for item in because.tolist()], np.int8)
        evidence = Evidence(because, seen_as, np.full(len(items), self._want(request), np.int8))
        return Candidates(items, scores, [self.system] * len(items), evidence)

    def score(self, request: Request, items: Items) -> Scores:
        """(n,) as in `candidates`, -inf for items of which nothing is said."""
        items = np.asarray(items)
        scores = np.full(len(items), -np.inf, np.float32)
        actions = self._actions(request)
        if actions:
            total = self._heard(actions)[1].total
            known = (items >= 0) & (items < len(total))
            scores[known] = total[items[known]]
        return scores

    def explain(self, request: Request, item: int) -> list[Reason]:
        """The basket's item that speaks for this one the loudest, or all of them where it is nobody's voice alone."""
        reasons = super().explain(request, item)
        if not any(reason.item == -1 for reason in reasons):
            return reasons
        basket = self._heard(self._actions(request))[0]
        return [Reason("interest", items=tuple(basket.tolist()), value=reason.value) for reason in reasons]

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`: each item's own row, at most as long as it was kept."""
        items = np.asarray(items)
        rows = np.where((items >= 0) & (items < len(self._lists.offsets) - 1), items, -1)
        return self._lists.gather(rows, k, allowed)

    def _actions(self, request: Request) -> list[tuple[int, int]]:
        """As everywhere, but all of the basket."""
        if request.item is not None or len(request.basket) == 0:
            return super()._actions(request)
        origin = self._trained()
        basket = np.unique(request.basket)
        return [(item, origin.intent) for item in basket[(basket >= 0) & (basket < len(origin.items))].tolist()]

    def _heard(self, actions: list[tuple[int, int]]) -> tuple[Items, Voices]:
        """The different items of actions, ascending, and what they say together."""
        basket = np.unique(np.array([item for item, _ in actions], np.int32))
        return basket, self._voices(basket)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return self._lists.arrays()

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._lists = Lists(arrays["offsets"], arrays["items"], arrays["scores"])


class AsksEachItem(BasketModel):
    """A basket model whose related items are not kept: each item is asked as a basket of one."""

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`."""
        found = np.full((len(items), k), -1, np.int32), np.full((len(items), k), -np.inf, np.float32)
        for place, item in enumerate(np.asarray(items).tolist()):
            if 0 <= item < len(self._trained().items):
                own = np.array([item], np.int32)
                best, scores = strongest(self._voices(own), k, own, allowed)
                found[0][place, : len(best)], found[1][place, : len(best)] = best, scores
        return found


def silence(n_items: int) -> Voices:
    """Nothing is said of n items."""
    total, because = np.full(n_items, -np.inf), np.full(n_items, -1, np.int32)
    return Voices(np.empty(0, np.int32), total, because, np.full(n_items, -np.inf))


def speak(
    voices: Voices,
    lists: Lists,
    rows: NDArray[np.integer],
    loudness: NDArray[np.floating],
    because: NDArray[np.integer],
    *,
    by_max: bool = False,
) -> Voices:
    """The voices and what rows (m,) of lists say, each so loud (m,), for the item at place because (m,) of the basket.

    The arrays over all items are those of the voices given, changed.
    """
    room = int((lists.offsets[np.asarray(rows) + 1] - lists.offsets[rows]).sum())
    named = np.empty(len(voices.named) + min(room, len(voices.total)), np.int32)
    named[: len(voices.named)] = voices.named
    n = _speak(
        lists.offsets, lists.items, lists.scores, np.asarray(rows, np.int64), np.asarray(loudness, np.float64),
        np.asarray(because, np.int32), by_max, voices.total, voices.because, voices.loudest, named, len(voices.named),
    )  # fmt: skip
    return voices._replace(named=named[:n])


@numba.njit(nogil=True, cache=True)
def _speak(  # type: ignore[no-untyped-def]
    offsets, items, scores, rows, loudness, because, by_max, total, total_because, loudest, named, n
):
    for place in range(len(rows)):
        for at in range(offsets[rows[place]], offsets[rows[place] + 1]):
            item = items[at]
            weight = loudness[place] * scores[at]
            if total[item] == -np.inf:
                named[n] = item
                n += 1
                if not by_max:
                    total[item] = 0.0
            if weight > loudest[item]:
                total_because[item] = because[place]
                loudest[item] = weight
            total[item] = max(total[item], weight) if by_max else total[item] + weight
    return n


def strongest(
    voices: Voices, k: int, left_out: Items, allowed: NDArray[np.bool_] | None = None
) -> tuple[Items, Scores]:
    """The k named items with the highest total, but some, the lower number first where they are equal."""
    items = np.sort(voices.named)
    items = items[~np.isin(items, left_out)]
    if allowed is not None:
        items = items[allowed[items]]
    scores = voices.total[items].astype(np.float32)
    if len(items) > k:
        among = scores >= np.partition(scores, -k)[-k]
        items, scores = items[among], scores[among]
    order = np.argsort(-scores, kind="stable")[:k]
    return items[order], scores[order]
