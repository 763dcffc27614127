"""Baselines that walk: from the products of a basket along what was bought together.

`random-walk` steps from a product to one of its baskets and from there to one of its products: P(i -> j) = (1 / n_i)
sum over baskets of both of 1 / size, so that large baskets say little. A second step from the strongest reached adds
what goes with what goes with the basket.

`pagerank` walks on and goes back to the basket by a chance of `restart` before every step (personalised PageRank, see
`endcap.graph.walks.PageRank`). Such a walk comes by what everybody buys wherever it began, so the chances are divided
by a power of the number of links.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Items
from endcap.graph import baskets_of, co_purchase, top_edges, weigh
from endcap.graph.baskets import LARGEST
from endcap.graph.copurchase import PER_ITEM, Weighting
from endcap.graph.walks import PageRank
from endcap.models.basket_model import AsksEachItem, LargestBasket, Voices, speak
from endcap.models.lists import Lists
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.shop import Shop

Partners = Annotated[
    int, Meta(ge=1, description="links kept of each item, the most frequent; one stays if either end keeps it")
]


class RandomWalkConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the item-basket-item walk."""

    second: Annotated[float, Meta(ge=0, description="weight of the second step; 0: one step alone")] = 0.3
    top: Annotated[int, Meta(ge=1, description="the second step starts from so many, the strongest reached")] = 500
    partners: Partners = PER_ITEM
    largest: LargestBasket = LARGEST


class RandomWalk(AsksEachItem):
    """Chances to reach an item from the basket's items, added up: one step, and `second` times two."""

    system = "random-walk"
    Config: ClassVar[type[msgspec.Struct]] = RandomWalkConfig
    config: RandomWalkConfig
    search_space: ClassVar[SearchSpace] = {"second": Range(0.01, 2.0, log=True), "top": OneOf(50, 100, 500)}

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        baskets = baskets_of(shop, largest=self.config.largest)
        counted = co_purchase(baskets, shop.n_items, per_item=self.config.partners, threads=threads)
        graph = weigh(counted, "walk")
        self._lists = Lists(graph.indptr.astype(np.int64), graph.indices, graph.data)

    def _voices(self, basket: Items) -> Voices:
        voices = super()._voices(basket)
        if self.config.second == 0:
            return voices
        reached = np.sort(voices.named)
        reached = reached[np.argsort(-voices.total[reached], kind="stable")[: self.config.top]]
        loudness = self.config.second * voices.total[reached]
        return speak(voices, self._lists, reached, loudness, voices.because[reached])


class PageRankConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of personalised PageRank."""

    weight: Annotated[Weighting, Meta(description="of a link, see `endcap.graph.weigh`")] = "support"
    links: Annotated[int, Meta(ge=1, description="links kept of each item, the heaviest")] = 100
    steps: Annotated[int, Meta(ge=1, le=1000, description="of the walk")] = 6
    restart: Annotated[float, Meta(gt=0, le=1, description="chance of going back to the basket before a step")] = 0.5
    degree_power: Annotated[
        float, Meta(ge=0, description="chances are divided by the number of links to this power; 0.5: its root")
    ] = 0.5
    largest: LargestBasket = LARGEST


class PageRankBaskets(AsksEachItem):
    """Where a walk is found that goes back to the basket now and then, over a power of the number of links."""

    system = "pagerank"
    Config: ClassVar[type[msgspec.Struct]] = PageRankConfig
    config: PageRankConfig
    search_space: ClassVar[SearchSpace] = {
        "weight": OneOf("support", "walk", "cosine"),
        "steps": OneOf(2, 3, 6),
        "restart": Range(0.05, 0.6),
        "degree_power": Range(0.0, 1.0),
    }

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        baskets = baskets_of(shop, largest=self.config.largest)
        graph = top_edges(
            weigh(co_purchase(baskets, shop.n_items, threads=threads), self.config.weight), self.config.links
        )
        self._keep(Lists(graph.indptr.astype(np.int64), graph.indices, graph.data))

    def _keep(self, links: Lists) -> None:
        n = len(links.offsets) - 1
        graph = csr_array((links.scores, links.items, links.offsets), shape=(n, n))
        degree = np.maximum(np.bincount(links.items, minlength=n), 1)
        self._lists, self._scale = links, degree**-self.config.degree_power
        self._walk = PageRank(graph, damping=1 - self.config.restart, steps=self.config.steps)

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        super()._restore(arrays, learned)
        self._keep(self._lists)

    def _voices(self, basket: Items) -> Voices:
        direct = super()._voices(basket)
        n = len(direct.total)
        start = csr_array((np.ones(len(basket), np.float32), (np.zeros(len(basket), np.int64), basket)), shape=(1, n))
        chances = self._walk.of(start)[0]
        named = np.flatnonzero(chances > 0).astype(np.int32)
        total = np.full(n, -np.inf)
        total[named] = chances[named] * self._scale[named]
        return direct._replace(named=named, total=total)
