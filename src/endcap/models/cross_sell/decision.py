"""Learns what scores pairs for a shop: what the settings name, or, of all there is, what validates best."""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.graph import Baskets, baskets_of
from endcap.models.cross_sell.choice import (
    FEWEST,
    Network,
    PairScorer,
    Questions,
    best_of,
    figure_of,
    questions_of,
)
from endcap.models.cross_sell.evidence import MEASURES, PairEvidence, Trade, Weigher
from endcap.models.cross_sell.lately import Lately
from endcap.models.cross_sell.lesson import Lesson
from endcap.models.cross_sell.links import LinkEvidence, LinkWeigher, Told, both_ways
from endcap.models.cross_sell.next import NextWeigher
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.shop import Shop
from endcap.shop.purchases import strongest

NEW_MAY_COST = 0.02  # of the figure, placing what came lately; validation asks for little of it
MOST_LINKS = 2_000_000  # of relations, that a choice tries: a lesson and an answer take time in proportion to them

log = logging.getLogger("endcap.models")


class Decision(NamedTuple):
    """What scores pairs, the validation figure of everything that was tried, and the weigher, if one scores."""

    chosen: str
    figures: dict[str, float]
    weigher: Weigher | Lately | LinkWeigher | NextWeigher | None


class Decider(NamedTuple):
    """What a decision is made from.

    Attributes:
        relations: what somebody vouches for; taught: the network on the graph of the lesson's baskets, without those
            that it held out; baskets: all of them; leaf: (n_items,) category, -1 unknown.
    """

    config: CrossSellConfig
    shop: Shop
    relations: pa.Table | None
    taught: Network
    lesson: Lesson
    baskets: Baskets
    leaf: NDArray[np.int64]
    system: str
    seed: int
    threads: int

    def decide(self) -> Decision:
        """Learn what scores pairs; the network where there is too little for anything else, which the log says."""
        chosen = self.config.score_by
        if chosen == "network":
            return Decision(chosen, {}, None)
        if chosen == "next":
            following = NextWeigher.fitted(
                baskets_of(self.shop, largest=self.config.largest), self.leaf, strongest(self.shop),
                seed=self.seed, threads=self.threads,
            )  # fmt: skip
            if following is None:
                log.warning("%s: too few people have two baskets: the graph network scores pairs", self.system)
            return Decision(chosen if following else "network", {}, following)
        told = Told.of(self.relations, self.shop) if self.relations is not None else None
        if chosen == "links":
            linked = self._linked(told)
            return Decision(chosen if linked else "network", {}, linked)
        if told is not None and told.goes_with.nnz > MOST_LINKS:
            log.warning("%s: %d links are too many to try; score_by=links takes them", self.system, told.goes_with.nnz)
            told = None
        return self._by_baskets(told)

    def _by_baskets(self, told: Told | None) -> Decision:
        """What is learnt from the lesson's baskets, and where that is asked for, tried on those that it held out."""
        config, lesson, chosen = self.config, self.lesson, self.config.score_by
        bought = np.bincount(lesson.baskets.items, minlength=len(self.leaf))
        never = lesson.partners if config.spare_partners else None
        before = None if told is None else told.without_baskets(lesson.validation)
        if before is not None:  # what somebody vouches for is right, too
            never = both_ways(before.goes_with if never is None else before.goes_with + never)
        questions = questions_of(lesson.validation, bought, never, self.seed)
        if len(lesson.baskets) < 3 or (chosen == "auto" and len(questions.target) < FEWEST):
            log.warning(
                "%s: the graph network scores pairs: there are %d baskets to learn from and %d to choose by, too few "
                "for anything else", self.system, len(lesson.baskets), len(questions.target),
            )  # fmt: skip
            return Decision("network", {}, None)
        trade = Trade(config.damping, config.floor, config.particular)
        if chosen in MEASURES:
            return Decision(chosen, {}, self._knowing_new(self._measure(chosen, trade), self.baskets))
        if chosen == "evidence":
            return Decision(chosen, {}, self._knowing_new(self._evidence(self.baskets, never, trade), self.baskets))
        weigher = self._evidence(lesson.baskets, never, trade)
        of_pairs: dict[str, Weigher] = {name: Weigher(weigher.evidence, name, trade) for name in MEASURES}
        of_pairs = {"evidence": weigher} | of_pairs
        contenders: dict[str, PairScorer] = {"network": self.taught, **of_pairs}
        linked = None if before is None else self._linked(before)
        if linked is not None:
            contenders["links"] = linked
        best, figures = best_of(contenders, questions, bought, config.validation_metric, self.system)
        if best == "network":
            return Decision(best, figures, None)
        if best == "links" and told is not None and linked is not None:
            return Decision(best, figures, linked._replace(evidence=LinkEvidence(told)))
        figures, wanted = self._newcomers_tried(of_pairs[best], best, figures, questions, bought)
        # evidence is learnt again, of all baskets: a denser graph wants a head of its own
        whole = best == "evidence"
        served = self._evidence(self.baskets, never, trade) if whole else self._measure(best, trade)
        return Decision(best, figures, self._knowing_new(served, self.baskets) if wanted else served)

    def _newcomers_tried(
        self, weigher: Weigher, best: str, figures: dict[str, float], questions: Questions, bought: NDArray[np.integer]
    ) -> tuple[dict[str, float], bool]:
        """The figures with that of the best one where it places what came lately, and whether that costs too much."""
        new = self._knowing_new(weigher, self.lesson.baskets)
        if new is weigher:
            return figures, True
        figure = figure_of(new, questions, bought, self.config.validation_metric)
        wanted = figure >= (1 - NEW_MAY_COST) * figures[best]
        log.info("%s:   %s, with what came lately placed by what is like it, %.4f: %s", self.system, best, figure,
                 "served" if wanted else "not served, it costs too much")  # fmt: skip
        return {**figures, f"{best}, newcomers placed": figure}, wanted

    def _knowing_new(self, weigher: Weigher, baskets: Baskets) -> Weigher | Lately:
        return Lately.fitted(weigher, baskets, self.shop, self.config, self.seed, self.threads)

    def _evidence(self, baskets: Baskets, never: csr_array | None, trade: Trade) -> Weigher:
        return Weigher.fitted(
            baskets, self.leaf, at_most=self.config.evidence_baskets, per_basket=self.config.evidence_products,
            never=never, trade=trade, seed=self.seed, threads=self.threads,
        )  # fmt: skip

    def _measure(self, name: str, trade: Trade) -> Weigher:
        measure = next(measure for measure in MEASURES if measure == name)
        return Weigher(PairEvidence.of(self.baskets, self.leaf, self.threads), measure, trade)

    def _linked(self, told: Told | None) -> LinkWeigher | None:
        """What weighs links that somebody vouches for; None where there are too few."""
        config, found = self.config, None
        if told is not None:
            found = LinkWeigher.fitted(
                told, matchings=config.link_matchings, at_most=config.link_pairs, rivals_hidden=config.rivals_hidden,
                seed=self.seed, threads=self.threads,
            )  # fmt: skip
        if found is None:
            log.warning("%s: links do not score pairs: relations hold too few to learn from", self.system)
        return found
