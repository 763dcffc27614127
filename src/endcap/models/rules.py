"""Association rules: who has these in the basket, has that, too (Agrawal and Srikant, VLDB '94).

    support(A -> b) = c(A + b) / T      confidence = c(A + b) / c(A)      lift = confidence T / c(b)

for c baskets that hold all of a set and T baskets in all. A rule has one product on its right. `rules` mines them from
baskets; the system `association-rules` answers with those whose left side lies in a basket whole. Rules of two products
with a support of 2 are the usual baseline of cross-sell; thresholds, not rules, are what makes it a weak one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numba
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from endcap.answers import Items
from endcap.errors import InputError
from endcap.graph import Baskets, baskets_of
from endcap.graph.baskets import LARGEST
from endcap.kernels.itemsets import Level, frequent_itemsets, sets_of
from endcap.models.basket_model import AsksEachItem, LargestBasket, Together, Voices, silence, speak
from endcap.models.lists import Lists
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.shop import Shop

MOST_ITEMSETS = 10_000_000
LONGEST = 20

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rules:
    """Rules by left side, then right side: rule r says that baskets with all of set given[r] hold then[r], too.

    Attributes:
        sets: the left sides in a row, of s products each ascending; offsets: (s + 1,) their bounds; given: (r,);
        then: (r,) int32; count: (r,) baskets that hold both sides; count_given, count_then: (r,) that hold each;
        n_baskets: of all.
    """

    sets: NDArray[np.int32]
    offsets: Ints
    given: Ints
    then: NDArray[np.int32]
    count: Ints
    count_given: Ints
    count_then: Ints
    n_baskets: int

    def __len__(self) -> int:
        return len(self.then)

    @property
    def size(self) -> Ints:
        """(r,) products of both sides."""
        return np.diff(self.offsets)[self.given] + 1

    @property
    def support(self) -> NDArray[np.float64]:
        return self.count / max(1, self.n_baskets)

    @property
    def confidence(self) -> NDArray[np.float64]:
        return self.count / self.count_given

    @property
    def lift(self) -> NDArray[np.float64]:
        return self.confidence * self.n_baskets / self.count_then


def rules(
    baskets: Baskets,
    *,
    min_support: float = 0.01,
    min_confidence: float = 0.0,
    longest: int = LONGEST,
    most: int = MOST_ITEMSETS,
) -> Rules:
    """All rules of 2 to `longest` products with so much support and confidence, exact.

    Args:
        min_support: a share of the baskets below 1, a number of baskets from 1 on.
        most: frequent itemsets that may be kept on the way.

    Raises:
        InputError: for settings out of their range, and where there are more itemsets than `most`.
    """
    if not 0 <= min_confidence <= 1:
        raise InputError(f"min_confidence={min_confidence}: a share from 0 to 1 is needed")
    if not isinstance(longest, int | np.integer) or not 2 <= longest <= LONGEST:
        raise InputError(f"longest={longest!r}: a rule has 2 to {LONGEST} products")
    levels = itemsets(baskets, min_support=min_support, longest=longest, most=most)
    if not levels:
        levels = [Level(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))]
    before = np.append(0, np.cumsum([len(level.item) for level in levels]))
    of_all = np.concatenate([level.times for level in levels])
    found: list[tuple[NDArray, ...]] = [(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))]
    for size in range(2, len(levels) + 1):
        rows, count = sets_of(levels, size), levels[size - 1].times
        for place in range(size):
            given = before[size - 2] + _numbers(levels, np.delete(rows, place, axis=1))
            kept = count / of_all[given] >= min_confidence
            found.append((given[kept], rows[kept, place], count[kept]))
    given, then, count = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((then, given))
    given, then, count = given[order], then[order], count[order]
    count_of = dict(zip(levels[0].item.tolist(), levels[0].times.tolist(), strict=True))
    used, number = np.unique(given, return_inverse=True)
    sides = [
        sets_of(levels, size)[used[(used >= before[size - 1]) & (used < before[size])] - before[size - 1]]
        for size in range(1, len(levels) + 1)
    ]
    sizes = np.concatenate([np.full(len(rows), rows.shape[1]) for rows in sides])
    return Rules(
        sets=np.concatenate([rows.ravel() for rows in sides]),
        offsets=np.append(0, np.cumsum(sizes)).astype(np.int64),
        given=number.astype(np.int64),
        then=then,
        count=count,
        count_given=of_all[given],
        count_then=np.array([count_of[item] for item in then.tolist()], np.int64),
        n_baskets=len(baskets),
    )


def itemsets(baskets: Baskets, *, min_support: float, longest: int = LONGEST, most: int = MOST_ITEMSETS) -> list[Level]:
    """All sets of 1 to `longest` products with so much support, by size; see `endcap.kernels.itemsets`.

    Raises:
        InputError: for a support that is none, and where there are more sets than `most`.
    """
    if not 0 < min_support < np.inf:
        raise InputError(f"min_support={min_support}: a share of the baskets below 1, or a number of baskets from 1 on")
    least = max(1, math.ceil(min_support * (len(baskets) if min_support < 1 else 1) - 1e-9))
    n_items = int(baskets.items.max(initial=-1)) + 1
    levels, is_cut = frequent_itemsets(
        baskets.items, baskets.offsets, n_items, min_count=least, longest=longest, most=most
    )  # fmt: skip
    if is_cut:
        raise InputError(
            f"more than {most:,} sets of {len(levels) + 1} products or fewer lie in {least:,} baskets: "
            "ask for more support, or for shorter rules"
        )
    return levels


def _numbers(levels: list[Level], rows: NDArray[np.int32]) -> Ints:
    """Where frequent sets (n, size) stand in their level."""
    width = int(levels[0].item[-1]) + 1
    at = np.searchsorted(levels[0].item, rows[:, 0])
    for level, item in zip(levels[1:], rows.T[1:], strict=False):
        at = np.searchsorted(level.parent * width + level.item, at * width + item)
    return at.astype(np.int64)


class AssociationRulesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of association rules."""

    measure: Annotated[
        Literal["confidence", "lift", "support"], Meta(description="of a rule: what it says of its right side")
    ] = "confidence"
    min_support: Annotated[
        float, Meta(gt=0, description="share of the baskets below 1, number of baskets from 1 on, that hold both sides")
    ] = 2.0
    min_confidence: Annotated[float, Meta(ge=0, le=1, description="rules with less are left out")] = 0.0
    longest: Annotated[int, Meta(ge=2, le=LONGEST, description="products of both sides of a rule")] = 2
    together: Together = "sum"
    largest: LargestBasket = LARGEST


class AssociationRules(AsksEachItem):
    """Every rule whose left side lies in the basket speaks for its right side."""

    system = "association-rules"
    Config: ClassVar[type[msgspec.Struct]] = AssociationRulesConfig
    config: AssociationRulesConfig
    search_space: ClassVar[SearchSpace] = {
        "measure": OneOf("confidence", "lift", "support"),
        "min_support": Range(1.0, 20.0, log=True),
        "together": OneOf("sum", "max"),
    }

    @property
    def _by_max(self) -> bool:
        return self.config.together == "max"

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        config = self.config
        found = rules(
            baskets_of(shop, largest=config.largest),
            min_support=config.min_support,
            min_confidence=config.min_confidence,
            longest=config.longest,
            most=MOST_ITEMSETS,
        )
        weight = getattr(found, config.measure)
        order = np.lexsort((found.then, -weight, found.given))
        offsets = np.searchsorted(found.given, np.arange(len(found.offsets)))
        self._lists = Lists(offsets.astype(np.int64), found.then[order], weight[order].astype(np.float32))
        self._sets, self._set_offsets = found.sets, found.offsets
        firsts = found.sets[found.offsets[:-1]]
        self._by_first = np.argsort(firsts, kind="stable").astype(np.int64)
        self._first_offsets = np.searchsorted(firsts[self._by_first], np.arange(shop.n_items + 1)).astype(np.int64)

    def _voices(self, basket: Items) -> Voices:
        voices = silence(len(self._trained().items))
        rows, because = _applicable(
            np.asarray(basket, np.int32), self._sets, self._set_offsets, self._by_first, self._first_offsets
        )
        return speak(voices, self._lists, rows, np.ones(len(rows)), because, by_max=self._by_max)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {
            **super()._arrays(),
            "sets": self._sets,
            "set_offsets": self._set_offsets,
            "by_first": self._by_first,
            "first_offsets": self._first_offsets,
        }

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        super()._restore(arrays, learned)
        self._sets, self._set_offsets = arrays["sets"], arrays["set_offsets"]
        self._by_first, self._first_offsets = arrays["by_first"], arrays["first_offsets"]


@numba.njit(nogil=True, cache=True)
def _applicable(basket, sets, set_offsets, by_first, first_offsets):  # type: ignore[no-untyped-def]
    """The sets that lie in a basket whole, it being ascending, and the place of the first product of each in it."""
    room = 0
    for item in basket:
        room += first_offsets[item + 1] - first_offsets[item]
    found, because, n = np.empty(room, np.int64), np.empty(room, np.int64), 0
    for place in range(len(basket)):
        for at in range(first_offsets[basket[place]], first_offsets[basket[place] + 1]):
            row = by_first[at]
            looked_at = place
            for of_set in range(set_offsets[row], set_offsets[row + 1]):
                while looked_at < len(basket) and basket[looked_at] < sets[of_set]:
                    looked_at += 1
                if looked_at == len(basket) or basket[looked_at] != sets[of_set]:
                    looked_at = -1
                    break
            if looked_at >= 0:
                found[n], because[n] = row, place
                n += 1
    return found[:n], because[:n]
