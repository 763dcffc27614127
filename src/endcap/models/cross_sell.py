"""Graph cross-sell: what goes with a product, from a graph neural network on the co-purchase graph.

    Hamilton et al., NIPS '17 (GraphSAGE); Velickovic et al., ICLR '18 (GAT); Ying et al., KDD '18 (PinSage);
    Wu et al., ICML '19 (SGC) and He et al., SIGIR '20 (LightGCN), for propagation without maps between the hops.

A product's vector h is made of what is known of it and of what it was bought with (B2 of the notes). Two maps of h
make "goes with" another question than "looks like": score(q, c) = (W_src h_q) . (W_dst h_c) + b_c, and a basket asks
with the mean of its products. Training hides baskets from the graph and asks for their products by the others (B3).

What the source leaves open and is chosen here: the whole graph is worked on in every step; a step's baskets are
subtracted from it (see `hiding`); the loss is one softmax for all encoders unless `loss` says otherwise.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Candidates, Evidence, Items, Reason, Request, Scores, Searcher, Space
from endcap.errors import InputError
from endcap.graph import Baskets, baskets_of
from endcap.index import Exact
from endcap.models.base import NO_CANDIDATES, Model
from endcap.models.complement import Complement
from endcap.models.cross_sell_evidence import Weigher, under
from endcap.models.cross_sell_lesson import Lesson
from endcap.models.cross_sell_score import RIVAL, Freshness, Parts, links_of
from endcap.models.cross_sell_settings import CrossSellConfig
from endcap.models.cross_sell_towers import Towers
from endcap.models.hiding import HidingGraph
from endcap.models.item_features import FeatureReader
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.nn.training import device_of, train
from endcap.shop import Shop

SPACE = "items"
CATEGORY_LEVELS = 4
VALIDATION_BASKETS = 2_000
ASKED_TOGETHER = 256
BASKET = 10  # of a basket the items put in last: those before them say little more
CLASSIFIER = "complement"  # the folder of what tells complements from substitutes
COMPLEMENTS = ("complement", "also_bought")

log = logging.getLogger("endcap.models")


class CrossSell(Model):
    """Graph cross-sell; see the module's docstring."""

    system = "cross-sell"
    Config = CrossSellConfig
    config: CrossSellConfig
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Range(1e-3, 2e-2, log=True),
        "dropout": Range(0.0, 0.5),
        "layers": OneOf(1, 2, 3),
        "power": OneOf(0.0, 0.5),
    }

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._searcher: Searcher | None = None
        self._relations: pa.Table | None = None
        self._complement: Complement | None = None
        self._weigher: Weigher | None = None

    def with_relations(self, table: pa.Table) -> Self:
        """What goes with what by somebody's word: rows of item, other and relation, as ids. Call it before `fit`.

        Complements (relation `complement` or `also_bought`) count as baskets of two from the log's last day, beside the
        shop's own; with substitutes (`substitute`, `also_viewed`) they teach to tell the two apart. Links may know the
        future, which an evaluation should say.
        """
        self._relations = table
        return self

    def _given(self) -> str:
        told = "" if self._relations is None else repr(self._relations.to_pydict())
        return hashlib.sha256(told.encode()).hexdigest()

    # -- fitting -----------------------------------------------------------------------------------------------------

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        config = self.config
        baskets = self._baskets(shop)
        if len(baskets) == 0:
            log.warning("%s: no basket holds two products: there is nothing to learn, and no answer", self.system)
        device = device_of(config)
        torch.set_num_threads(max(1, threads))
        self._reader = FeatureReader.of(
            shop.catalogue, text=config.text, buckets=config.text_buckets, at_most=config.text_features,
            levels=CATEGORY_LEVELS, ids=config.id_embedding, where=self.system,
        )  # fmt: skip
        self._features = self._reader.read(shop.catalogue, own_ids=True)
        self._bought = np.bincount(baskets.items, minlength=shop.n_items).astype(np.int64)
        torch.manual_seed(seed)
        held = _drawn(len(baskets), config.validation, seed)
        lesson = Lesson(self, baskets, held, seed, threads)
        self._towers = Towers(self, lesson.graph).to(device)
        course = train(
            self._towers,
            plan=lesson.plan,
            loss=lesson.loss,
            validate=lesson.validate if len(held) else None,
            watch=self._towers.watch,
            settings=config,
            seed=seed,
            keeper=self.checkpoint.stage("training"),
            name=self.system,
            threads=threads,
            show=show,
        )
        whole = HidingGraph(baskets, shop.n_items, config, threads)
        self._towers.graph = whole
        self._course = course.summary()
        with torch.no_grad():
            source, target, offset = (part.cpu().numpy() for part in self._towers.tables(whole.mass))
        self._source, self._target = source, target
        self._offset = offset + config.popularity * np.log1p(self._bought).astype(np.float32)
        self._partners, self._freshness = whole.counted.counts, Freshness.of(whole.counted, shop)
        self._complement = self._classifier(shop, seed, threads)
        self._weigher = None
        if config.evidence and len(baskets) >= 3:
            self._weigher = Weigher.fitted(
                baskets, self._freshness.leaf, at_most=config.evidence_baskets, per_basket=config.evidence_products,
                never=self._partners if config.spare_partners else None, seed=seed, threads=threads,
            )  # fmt: skip
        self._towers = self._towers.cpu()
        self._searcher = None

    def _baskets(self, shop: Shop) -> Baskets:
        """The shop's baskets of two products and more, and what relations link."""
        bought = baskets_of(shop, largest=self.config.largest)
        bought = bought.where(bought.sizes >= 2)
        if self._relations is None:
            return bought
        names = np.array(self._relations["relation"].to_pylist(), object)
        told = self._relations.filter(pa.array(np.isin(names, COMPLEMENTS)))
        pair = np.sort([shop.items.encode(told[name].to_pylist()) for name in ("item", "other")], axis=0)
        linked = np.unique(pair.T[(pair[0] >= 0) & (pair[0] != pair[1])], axis=0).astype(np.int32)
        n = len(linked)
        last = bought.time.max(initial=0)
        return Baskets(
            np.append(bought.offsets, bought.offsets[-1] + 2 * np.arange(1, n + 1)),
            np.append(bought.items, linked.ravel()),
            np.append(bought.user, int(bought.user.max(initial=-1)) + 1 + np.arange(n, dtype=np.int32)),
            np.append(bought.time, np.full(n, last)),
            bought.unit,
        )

    def _classifier(self, shop: Shop, seed: int, threads: int) -> Complement | None:
        """What tells complements from substitutes; None where the shop gives too few examples of either."""
        if self.config.complement == "none":
            return None
        classifier = Complement(method=self.config.complement)
        try:
            return classifier.fit(shop, self._relations, seed=seed, threads=threads)
        except InputError as error:
            log.warning("%s: no rivals are left out: %s", self.system, error)
            return None

    # -- storing -----------------------------------------------------------------------------------------------------

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {
            "source": self._source,
            "target": self._target,
            "offset": self._offset,
            "bought": self._bought,
            "partners-indptr": self._partners.indptr,
            "partners-indices": self._partners.indices,
            "partners-data": self._partners.data,
            **{f"fresh-{name}": array for name, array in self._freshness.arrays().items()},
            **self._reader.arrays(),
            **{f"evidence-{name}": array for name, array in (self._weigher.arrays() if self._weigher else {}).items()},
        }

    def _learned(self) -> dict[str, Any]:
        classifier = None if self._complement is None else self._complement.about()
        return {"course": self._course, "features": self._reader.learned(), "complement": classifier}

    def _write(self, folder: Path) -> None:
        if self._complement is not None:
            (folder / CLASSIFIER).mkdir()
            self._complement.write(folder / CLASSIFIER)

    def _read(self, folder: Path) -> None:
        if self._classified is not None:
            self._complement = Complement.read(folder / CLASSIFIER, self._classified)

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._source, self._target, self._offset = arrays["source"], arrays["target"], arrays["offset"]
        self._bought = arrays["bought"]
        n = len(self._bought)
        parts = (arrays[f"partners-{part}"] for part in ("data", "indices", "indptr"))
        self._partners = csr_array(tuple(parts), shape=(n, n), copy=False)
        self._freshness = Freshness(**under("fresh-", arrays))
        evidence = under("evidence-", arrays)
        self._weigher = Weigher.restored(evidence) if evidence else None
        self._reader = FeatureReader.restored(learned["features"], arrays)
        self._course, self._classified = learned["course"], learned["complement"]

    # -- answers -----------------------------------------------------------------------------------------------------

    def spaces(self) -> dict[str, Space]:
        known = np.flatnonzero(self._bought).astype(np.int32)
        if len(known) == 0:
            return {}
        return {SPACE: Space(known, np.column_stack([self._target[known], self._offset[known]]))}

    def attach(self, searchers: Mapping[str, Searcher]) -> None:
        """Search with this instead of exactly."""
        self._searcher = searchers.get(SPACE, self._searcher)

    def query(self, request: Request) -> NDArray[np.float32]:
        """(q, d + 1): what the item, the basket or the last action asks with; q is 0 where none of them is known."""
        asked = self._asked_of(request)
        if len(asked) == 0:
            return np.empty((0, self._source.shape[1] + 1), np.float32)
        return np.append(self._source[asked].mean(0), np.float32(1))[None]

    def _asked_of(self, request: Request) -> Items:
        """The known items that a request asks with: the one it names, its basket's last ones, or the last action's."""
        if request.item is not None:
            asked = np.array([request.item], np.int32)
        elif len(request.basket):
            asked = request.basket[-BASKET:]
        else:
            asked = request.history.items[-1:]
        return np.unique(asked[(asked >= 0) & (asked < len(self._bought))])

    def candidates(self, request: Request) -> Candidates:
        """What goes with the item, the basket or the last action; nothing that was asked with, and no rival of it.

        The nearest items are taken, rivals left out, and the others put in the order of the cross-sell score; where too
        few are left, twice as many are looked at, once.
        """
        query, asked = self.query(request), self._asked_of(request)
        if len(query) == 0:
            return NO_CANDIDATES
        looked_at = max(self.config.looked_at, 2 * request.k) + len(asked)
        for wanted in (looked_at, 2 * looked_at):
            items = self._search(query, min(wanted, len(self._bought)), request.allowed)[0][0]
            items = items[(items >= 0) & ~np.isin(items, asked) & ~np.isin(items, request.basket)]
            parts = self.parts(asked, items)
            kept = np.flatnonzero(~parts.rivals)
            if len(kept) >= request.k or wanted >= len(self._bought):
                break
        kept = kept[np.argsort(-parts.final[kept], kind="stable")][: request.k]
        items, scores = items[kept], parts.final[kept].astype(np.float32)
        because, strength = self._strongest_link(asked, items)
        intent = self._trained().intent
        evidence = Evidence(
            because, np.where(strength > 0, intent, -1).astype(np.int8), np.full(len(items), intent, np.int8)
        )
        return Candidates(items, scores, [self.system] * len(items), evidence)

    def parts(self, asked: Items, items: Items) -> Parts:
        """What the score of each item (n,) is made of, for somebody who has `asked` (m,); all known to the model.

        A basket's similarity is that of its mean, and P(complement) that of what the item goes with best; but what
        shares its category with something in the basket and does not go with that is a rival, whatever else lies there.
        """
        if len(items) == 0:
            return Parts(*(np.zeros(0, np.float32) for _ in range(3)))
        query, target = self._source[asked].mean(0), self._target[items]
        length = np.linalg.norm(query) * np.linalg.norm(target, axis=1)
        similarity = target @ query / np.maximum(length, 1e-12)
        probability = np.ones(len(items), np.float32)
        if self._complement is not None:
            each = self._complement.probability(np.repeat(asked, len(items)), np.tile(items, len(asked)))
            each, leaf = each.reshape(len(asked), len(items)), self._freshness.leaf
            beside = (leaf[asked][:, None] == leaf[items]) & (leaf[items] >= 0)
            rival = np.where(beside, each, 1).min(0)
            probability = np.where(rival < RIVAL, rival, each.max(0))
        return Parts(similarity, probability, self._freshness.recency(asked, items))

    def score(self, request: Request, items: Items) -> Scores:
        """Scores of any items; those that were in no basket come last."""
        query, asked = self.query(request), self._asked_of(request)
        scores = np.zeros(len(items), np.float32)
        known = (items >= 0) & (items < len(self._bought))
        known[known] = self._bought[items[known]] > 0
        if len(query) and known.any():
            scores[known] = (
                self._target[items[known]] @ query[0, :-1] + self._offset[items[known]]
                if self._weigher is None
                else self._weigher.score(asked, items[known], damping=self.config.damping, floor=self.config.floor)
            )
            scores[~known] = scores[known].min() - 1
        return scores

    def explain(self, request: Request, item: int) -> list[Reason]:
        """How often it was bought with what was asked with, then the parts of its score."""
        asked = self._asked_of(request)
        if len(asked) == 0 or not 0 <= item < len(self._bought):
            return []
        because, strength = self._strongest_link(asked, np.array([item], np.int32))
        reasons = []
        if strength[0] > 0:
            reasons.append(Reason("relation", item=int(because[0]), value=float(strength[0]), note="bought together"))
        parts = self.parts(asked, np.array([item], np.int32))
        return [*reasons, *(Reason("part", note=name, value=float(v[0])) for name, v in parts._asdict().items())]

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`; interactions make no difference."""
        found = np.full((len(items), k), -1, np.int32)
        scores = np.full((len(items), k), -np.inf, np.float32)
        known = np.flatnonzero((items >= 0) & (items < len(self._source)))
        for begin in range(0, len(known) if k > 0 else 0, ASKED_TOGETHER):
            block = known[begin : begin + ASKED_TOGETHER]
            queries = np.column_stack([self._source[items[block]], np.ones(len(block), np.float32)])
            near, near_scores = self._search(queries, k + 1, allowed)
            near_scores = np.where(near == items[block, None], -np.inf, near_scores)
            order = np.argsort(-near_scores, axis=1, kind="stable")[:, :k]
            scores[block, : order.shape[1]] = np.take_along_axis(near_scores, order, 1)
            found[block, : order.shape[1]] = np.take_along_axis(near, order, 1)
        found[np.isneginf(scores)] = -1
        return found, scores

    def _search(self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> tuple[Items, Scores]:
        if not self._bought.any():
            return np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
        if self._searcher is None:
            self._searcher = Exact(self.spaces()[SPACE])
        return self._searcher.search(np.ascontiguousarray(queries, np.float32), k, allowed)

    def _strongest_link(self, asked: Items, items: Items) -> tuple[Items, NDArray[np.float32]]:
        """(n,) of what was asked with the item that each was most often bought with (-1: none), and how often."""
        if len(asked) == 0 or len(items) == 0:
            return np.full(len(items), -1, np.int32), np.zeros(len(items), np.float32)
        times = links_of(self._partners, asked, items)
        best = times.argmax(0)
        strength = times[best, np.arange(len(items))]
        return np.where(strength > 0, asked[best], -1).astype(np.int32), strength


def _drawn(n: int, share: float, seed: int) -> NDArray[np.int64]:
    """Baskets that are held out, in order."""
    wanted = min(VALIDATION_BASKETS, int(n * share))
    return np.sort(np.random.default_rng([seed, 2]).choice(n, wanted, replace=False))
