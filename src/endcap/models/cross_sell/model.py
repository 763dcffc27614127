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

import copy
import hashlib
import logging
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.answers import Candidates, Evidence, History, Items, LeftOut, Reason, Request, Scores, Searcher, Space
from endcap.errors import InputError
from endcap.graph import Baskets, CoPurchase, catalogue_edges
from endcap.graph.attributes import codes_of, texts_of
from endcap.graph.catalogue import Likeness
from endcap.index import Exact
from endcap.models.base import NO_CANDIDATES, Model
from endcap.models.complement import Complement
from endcap.models.cross_sell.attention import Attention
from endcap.models.cross_sell.choice import BASKET, Companions, Network, PairScorer, held_out
from endcap.models.cross_sell.decision import Decider
from endcap.models.cross_sell.evidence import Trade, Weigher, under
from endcap.models.cross_sell.hiding import HidingGraph, counted_of, learnt_baskets
from endcap.models.cross_sell.lately import Lately
from endcap.models.cross_sell.lesson import Lesson
from endcap.models.cross_sell.links import LinkWeigher
from endcap.models.cross_sell.new import (
    Arrivals,
    arrived_lately,
    checked,
    expected,
    filled,
    lift_of,
    said_of,
    share_of_time,
    trust_in_likeness,
    without_few,
)
from endcap.models.cross_sell.next import NextWeigher
from endcap.models.cross_sell.reasons import Why
from endcap.models.cross_sell.score import RIVAL, Freshness, Judge, Parts
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.models.cross_sell.towers import Towers
from endcap.models.cross_sell.typed import Common
from endcap.models.item_features import FeatureReader
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.nn.training import device_of, train
from endcap.shop import Shop

SPACE = "items"
CATEGORY_LEVELS = 4
ASKED_TOGETHER = 256
TOLD_TOGETHER = 16  # items that are told from rivals at a time
EVERYWHERE, ENOUGH = 0.5, 100  # share of so many baskets or more, in which a product goes with nothing in particular
WHOLE_BASKET = 200  # items of a basket that the next one follows from
SAID_FILE = "catalogue.parquet"  # what likeness is read off
CLASSIFIER = "complement"  # the folder of what tells complements from substitutes

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
        self._told = 0
        self._complement: Complement | None = None
        self._weigher: Weigher | Lately | LinkWeigher | NextWeigher | None = None
        self._arrivals: Arrivals | None = None
        self._likeness: Likeness | None = None

    def with_relations(self, table: pa.Table) -> Self:
        """What goes with what by somebody's word: rows of item, other and relation, as ids. Call it before `fit`.

        Complements (relation `complement` or `also_bought`) count as baskets of two from the log's last day, beside the
        shop's own; with substitutes (`substitute`, `also_viewed`) they teach to tell the two apart. Links may know the
        future, which an evaluation should say.
        """
        self._relations, self._told = table, len(table)
        return self

    def _given(self) -> str:
        told = "" if self._relations is None else repr(self._relations.to_pydict())
        return hashlib.sha256(told.encode()).hexdigest()

    # -- fitting -----------------------------------------------------------------------------------------------------

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        config = self.config
        baskets = learnt_baskets(shop, self._relations, config.largest)
        if len(baskets) == 0:
            log.warning("%s: no basket holds two products: there is nothing to learn, and no answer", self.system)
        device = device_of(config)
        torch.set_num_threads(max(1, threads))
        self._reader = FeatureReader.of(
            shop.catalogue, text=config.text, buckets=config.text_buckets, at_most=config.text_features,
            levels=CATEGORY_LEVELS, ids=config.id_embedding, where=self.system,
        )  # fmt: skip
        self._bought = np.bincount(baskets.items, minlength=shop.n_items).astype(np.int64)
        often = EVERYWHERE * len(baskets) if len(baskets) >= ENOUGH else np.inf
        self._everywhere = self._bought > often
        self._features = without_few(self._reader.read(shop.catalogue, own_ids=True), self._bought)
        torch.manual_seed(seed)
        held = held_out(baskets, shop.n_users, config.validation, seed)
        counted = None if config.encoder == "typed" else counted_of(baskets, shop.n_items, config, threads)
        like = self._likenesses(shop, counted)
        self._arrived = np.zeros(shop.n_items, np.int64)
        if shop.item_known_from is not None:
            self._arrived = shop.item_known_from[: shop.n_items]
        time = share_of_time(shop)
        self._foreseen = expected(self._bought, time, like)
        self._lately = arrived_lately(self._bought, self._foreseen, time)
        self._lift = lift_of(shop, baskets, config.half_life_days, like)
        told = self._features.described & (np.diff(like.indptr) > 0)
        self._answerable = (self._bought > 0) | (told & self._lately & config.unbought)
        graphs = self._graphs(shop, baskets, like, counted, seed, threads)
        _, leaf = codes_of(texts_of(shop.catalogue, "category"))
        lesson = Lesson(self, baskets, held, graphs, leaf, seed, threads)
        self._towers = Towers(config, self._features, self._reader.sizes, lesson.graph).to(device)
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
        self._course = course.summary()
        self._gates = self._towers.gates()
        for layer, gates in self._gates.items():
            log.info("%s: %s hears %s", self.system, layer, ", ".join(f"{name} {gates[name]:.2f}" for name in gates))
        taught = Network(*self._tables(lesson.graph), self._search)
        whole = graphs(np.ones(len(baskets), bool))
        self._source, self._target, self._offset = self._tables(whole)
        self._attention = Attention.of(self._towers)
        self._said = said_of(shop.catalogue)
        self._arrivals = Arrivals.of(self._towers) if config.encoder != "typed" else None
        self._take_for_new(shop, whole.extras())
        self._partners, self._freshness = whole.counted.counts, Freshness.of(whole.counted, shop)
        self._complement = self._classifier(shop, seed, threads)
        self._chosen, self._figures, self._weigher = Decider(
            config, shop, self._relations, taught, lesson, baskets, self._freshness.leaf, self.system, seed, threads
        ).decide()
        if isinstance(self._weigher, Lately):
            self._answerable |= self._weigher.lately & told
        self._towers = self._towers.cpu()
        self._searcher = None
        self._set_up()

    def _take_for_new(self, shop: Shop, like: csr_array) -> None:
        """Move what came lately, and few have bought, towards what it would be made of if it were new."""
        if self._arrivals is None:
            return
        few = np.flatnonzero((np.diff(like.indptr) > 0) & (self._bought > 0) & self._lately)
        share = trust_in_likeness(self._bought[few], like[few])
        features = self._reader.read(shop.catalogue.take(few), own_ids=False)
        nothing = csr_array((len(few), shop.n_items), dtype=np.float32)
        new = self._arrivals.embed(features, nothing, like[few], np.ones(len(few)), np.zeros(len(few)))
        for table, of_new in zip((self._source, self._target), new, strict=True):
            table[few] = (1 - share[:, None]) * table[few] + share[:, None] * of_new
        by_line = filled(self._offset, np.where(np.isin(np.arange(shop.n_items), few), 0, self._bought), self._foreseen)
        self._offset[few] = (1 - share) * self._offset[few] + share * by_line[few]

    def _tables(self, graph: HidingGraph) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What the network makes of all items on a graph: source and target (n_items, d), offset (n_items,)."""
        self._towers.graph = graph
        with torch.no_grad():
            source, target, offset = (part.cpu().numpy() for part in self._towers.tables(graph.mass))
        offset = filled(offset, self._bought, self._foreseen)
        return source, target, offset + self.config.popularity * np.log1p(self._foreseen).astype(np.float32)

    def _set_up(self) -> None:
        """What answers are made with, of what was learnt or stored."""
        own = weakref.ref(self)  # a release is let go at once: nothing in it points back to what holds it

        def search(queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None) -> tuple[Items, Scores]:
            model = own()
            assert model is not None
            return model._search(queries, k, allowed)

        self._network = Network(self._source, self._target, self._offset, search)
        self._scorer: PairScorer = self._network if self._weigher is None else self._weigher
        self._sells = bool(self._bought.any())
        self._particular = ~self._everywhere if self._everywhere.any() else None
        self._speaks = self._bought > 0  # the network alone knows what else is asked with
        # evidence without newcomers knows an item by its own baskets alone, however few
        by_likes = np.full(len(self._bought), self._weigher is None)
        if isinstance(self._weigher, Lately):
            by_likes = self._weigher.lately
            self._speaks = self._speaks | by_likes
        self._why = Why(self._partners, self._bought, by_likes, self._freshness, self._attention, self._chosen)

    def _graphs(
        self, shop: Shop, baskets: Baskets, like: csr_array, counted: CoPurchase | None, seed: int, threads: int
    ) -> Callable[[NDArray[np.bool_]], HidingGraph]:
        """What makes the graph of some of the baskets, given a mask (b,); all of them were counted before."""
        if self.config.encoder == "typed":
            common = Common.of(shop, baskets, self.config, seed=seed, threads=threads)
            return lambda kept: common.graph(kept, threads)
        return lambda kept: HidingGraph(
            baskets.where(kept), shop.n_items, self.config, threads, like, self._lift, counted if kept.all() else None
        )

    def _likenesses(self, shop: Shop, counted: CoPurchase | None) -> csr_array:
        """(n_items, n_items): what few have bought, and what the catalogue says that it is like."""
        if counted is None or not self.config.likenesses:
            return csr_array((shop.n_items, shop.n_items), dtype=np.float32)
        known = self._bought.astype(np.float64)
        return catalogue_edges(shop.catalogue, known, counted.decayed, k=self.config.likenesses)

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
        kept_as = {LinkWeigher: "links", NextWeigher: "next", Lately: "late"}.get(type(self._weigher), "evidence")
        return {
            "source": self._source,
            "target": self._target,
            "offset": self._offset,
            "bought": self._bought,
            "answerable": self._answerable,
            "lately": self._lately,
            "everywhere": self._everywhere,
            **{f"new-{name}": array for name, array in (self._arrivals.arrays() if self._arrivals else {}).items()},
            "partners-indptr": self._partners.indptr,
            "partners-indices": self._partners.indices,
            "partners-data": self._partners.data,
            **{f"fresh-{name}": array for name, array in self._freshness.arrays().items()},
            **{f"heard-{name}": array for name, array in (self._attention.arrays() if self._attention else {}).items()},
            **self._reader.arrays(),
            **{f"{kept_as}-{name}": array for name, array in (self._weigher.arrays() if self._weigher else {}).items()},
        }

    def _learned(self) -> dict[str, Any]:
        classifier = None if self._complement is None else self._complement.about()
        return {"course": self._course, "features": self._reader.learned(), "complement": classifier,
                "gates": self._gates, "score_by": {"chosen": self._chosen, "figures": self._figures},
                "relations": self._told}  # fmt: skip

    def _write(self, folder: Path) -> None:
        if self._complement is not None:
            (folder / CLASSIFIER).mkdir()
            self._complement.write(folder / CLASSIFIER)
        pq.write_table(self._said, folder / SAID_FILE)
        if self._arrivals is not None:
            self._arrivals.write(folder)

    def _read(self, folder: Path) -> None:
        if self._classified is not None:
            self._complement = Complement.read(folder / CLASSIFIER, self._classified)
        self._said = pq.read_table(folder / SAID_FILE)
        if self._new:
            self._arrivals = Arrivals.restored(self.config, self._reader, self._new, folder)

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._source, self._target, self._offset = arrays["source"], arrays["target"], arrays["offset"]
        self._everywhere = arrays["everywhere"]
        self._bought, self._answerable, self._lately = (arrays[name] for name in ("bought", "answerable", "lately"))
        self._new = under("new-", arrays)
        n = len(self._bought)
        parts = (arrays[f"partners-{part}"] for part in ("data", "indices", "indptr"))
        self._partners = csr_array(tuple(parts), shape=(n, n), copy=False)
        self._freshness = Freshness(**under("fresh-", arrays))
        evidence, linked = under("evidence-", arrays), under("links-", arrays)
        trade = Trade(self.config.damping, self.config.floor, self.config.particular)
        self._weigher = Weigher.restored(evidence, trade) if evidence else None
        if linked:
            self._weigher = LinkWeigher.restored(linked)
        if following := under("next-", arrays):
            self._weigher = NextWeigher.restored(following)
        if late := under("late-", arrays):
            self._weigher = Lately.restored(late, trade)
        self._chosen, self._figures = learned["score_by"]["chosen"], learned["score_by"]["figures"]
        self._reader = FeatureReader.restored(learned["features"], arrays)
        self._course, self._classified, self._told = learned["course"], learned["complement"], learned["relations"]
        self._gates, self._attention = learned["gates"], Attention.restored(under("heard-", arrays))
        self._set_up()

    # -- products that came after training -------------------------------------------------------------------------

    def embed_new(
        self,
        table: pa.Table,
        neighbours: csr_array | None = None,
        like: csr_array | None = None,
        *,
        baskets: NDArray[np.number] | None = None,
        lift: NDArray[np.floating] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What products ask with and answer with, (m, d) each, by rows of a catalogue; nothing else changes.

        Zeros where nothing is known of one. With the links that a known product has in the graph, it is what training
        made of that.

        Args:
            neighbours: (m, n_items) what each was bought with, weighed by how often; PinSage: important neighbours;
            like: (m, n_items) what the catalogue says that it is like;
            baskets: (m,) that hold each, if they came lately: how far such neighbours are trusted; else they are;
            lift: (m,) how many times more each would have been bought in all of the training's time; else once.

        Raises:
            InputError: for links that do not fit, or the typed encoder, which hears users and occasions, too.
        """
        self._trained()
        if self._arrivals is None:
            raise InputError(
                f"{self.system}: encoder={self.config.encoder} embeds no product that came after training; train "
                "with hops, sage, sage-pool, gat, gatv2 or pinsage"
            )
        shape = table.num_rows, len(self._bought)
        features = self._reader.read(table, own_ids=False)
        lift = np.ones(shape[0]) if lift is None else lift
        baskets = np.full(shape[0], np.inf) if baskets is None else baskets
        for name, given in (("lift", lift), ("baskets", baskets)):
            if given.shape != shape[:1]:
                raise InputError(f"{name}: {given.shape}; one number for each of {shape[0]} products is needed")
        return self._arrivals.embed(features, checked(neighbours, *shape), checked(like, *shape), lift, baskets)

    def encode_items(self, table: pa.Table) -> NDArray[np.float32]:
        """See `endcap.answers.EncodesItems`: (m, d + 1), of length 1, or 0 where nothing can be made of a product.

        Its product with `queries` is the similarity of the cross-sell score: a new product is taken as a complement,
        and as fresh. The last column, in which known ones have their offset, is 0.
        """
        found = np.zeros((table.num_rows, self._source.shape[1] + 1), np.float32)
        if self._arrivals is not None and table.num_rows:
            target = self.embed_new(table, like=self._like_new(table))[1]
            length = np.linalg.norm(target, axis=1, keepdims=True)
            found[:, :-1] = np.divide(target, length, out=np.zeros_like(target), where=length > 0)
        return found

    def queries(self, request: Request) -> NDArray[np.float32]:
        """See `endcap.answers.EncodesItems`: `query`, so long that what it asks with has length 1."""
        query = self.query(request)
        return query / np.maximum(np.linalg.norm(query[:, :-1], axis=1, keepdims=True), 1e-12)

    def _like_new(self, table: pa.Table) -> csr_array:
        """(m, n_items) catalogue links of new products."""
        assert self._arrivals is not None
        if not self.config.likenesses:
            return csr_array((table.num_rows, len(self._bought)), dtype=np.float32)
        if self._likeness is None:
            self._likeness = Likeness(self._said, self._bought.astype(np.float64))
        return self._likeness.of_new(table, self.config.likenesses) * np.float32(self._arrivals.weight)

    def traded(self, trade: Trade) -> Self:
        """The same model with popularity traded otherwise, which takes no training.

        Raises:
            InputError: if neither evidence nor a walk scores its pairs.
        """
        if not isinstance(self._weigher, Weigher | Lately):
            raise InputError(f"{self.system}: what scores pairs is {self._chosen}; train it with score_by=evidence")
        other = copy.copy(self)
        other.config = msgspec.structs.replace(self.config, **trade._asdict())
        other._weigher = self._weigher.traded(trade)
        other._set_up()
        return other

    # -- answers -----------------------------------------------------------------------------------------------------

    def spaces(self) -> dict[str, Space]:
        known = np.flatnonzero(self._answerable).astype(np.int32)
        if not self._bought.any():
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

    def _companions(self, asked: Items, history: History | None = None) -> Companions:
        """By what was chosen, but for what nobody has bought, of which only the network knows anything."""
        scorer = self._scorer if self._speaks[asked].any() else self._network
        return scorer.of(asked, history)

    def _asked_of(self, request: Request) -> Items:
        """The known items that a request asks with: the one it names, its basket's last ones, or the last action's."""
        if request.item is not None:
            asked = np.array([request.item], np.int32)
        elif len(request.basket):
            asked = request.basket[-BASKET if self._chosen != "next" else -WHOLE_BASKET :]
        else:
            asked = request.history.items[-1:]
        return np.unique(asked[(asked >= 0) & (asked < len(self._bought))])

    def candidates(self, request: Request) -> Candidates:
        """What goes with the item, the basket or the last action; nothing that was asked with, and no rival of it.

        The nearest items are taken, rivals left out, and the others put in the order of the cross-sell score; where too
        few are left, twice as many are looked at, once.
        """
        asked = self._asked_of(request)
        if len(asked) == 0 or not self._sells:
            return NO_CANDIDATES
        looked_at = max(self.config.looked_at, 2 * request.k) + len(asked)
        companions, allowed = self._companions(asked, request.history), self._telling(request.allowed)
        told: dict[int, float] = {}
        for wanted in (looked_at, 2 * looked_at):
            items = companions.nearest(min(wanted, len(self._bought)), allowed)
            items = items[~np.isin(items, request.basket)] if len(request.basket) else items
            parts = self._parts_of_best(companions, asked, items, request.k, told)
            kept = np.flatnonzero(parts.complement >= RIVAL)
            if len(kept) >= request.k or wanted >= len(self._bought):
                break
        kept = kept[np.argsort(-parts.final[kept], kind="stable")][: request.k]
        rivals = np.flatnonzero(parts.rivals)[: request.k]
        left_out = LeftOut(items[rivals], parts.complement[rivals].astype(np.float32))
        of_each = parts.named(kept)
        items = items[kept]
        because, strength = self._why.strongest_link(asked, items)
        intent = self._trained().intent
        evidence = Evidence(
            because, np.where(strength > 0, intent, -1).astype(np.int8), np.full(len(items), intent, np.int8), strength
        )
        return Candidates(items, of_each["final"], [self.system] * len(items), evidence, of_each, left_out)

    def _telling(self, allowed: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """What may be listed: not what lies in most baskets, such as bags, which goes with nothing in particular."""
        if self._particular is None:
            return allowed
        return self._particular if allowed is None else allowed & self._particular

    def rivals(self, request: Request, items: Items) -> NDArray[np.bool_] | None:
        """See `endcap.answers.TellsRivals` and `Judge.rivals`; without a classifier it cannot tell."""
        asked = self._asked_of(request)
        return None if self._complement is None or len(asked) == 0 else self._judge.rivals(asked, items)

    @property
    def _judge(self) -> Judge:
        return Judge(self._complement, self._freshness.leaf)

    @property
    def classifier(self) -> Complement | None:
        """What tells complements from substitutes, if there were examples of both to learn from."""
        return self._complement

    def parts(self, asked: Items, items: Items, history: History | None = None) -> Parts:
        """What the score of each item (n,) is made of, for somebody who has `asked` (m,); all known to the model.

        A basket's similarity is that of its mean, and P(complement) that of what the item goes with best; but what
        shares its category with something in the basket and does not go with that is a rival, whatever else lies there.
        """
        similarity = self._companions(asked, history).similarity(items)
        return Parts(similarity, self._judge.goes_with(asked, items), self._freshness.recency(asked, items))

    def _parts_of_best(
        self, companions: Companions, asked: Items, items: Items, k: int, told: dict[int, float]
    ) -> Parts:
        """The parts of items (n,), with P(complement) of the k best only, and of what is met on the way; else NaN.

        It costs most and is 1 at most: what comes below k others without it need not be asked about.

        Args:
            told: P(complement) of items that this question has asked about before; more are added.
        """
        at_most = Parts(companions.similarity(items), np.ones(len(items)), self._freshness.recency(asked, items))
        complement = np.array([told.get(item, np.nan) for item in items.tolist()], np.float32)
        order, bound = np.argsort(-at_most.final, kind="stable"), at_most.final
        for begin in range(0, len(items), max(k, TOLD_TOGETHER)):
            block = order[begin : begin + max(k, TOLD_TOGETHER)]
            reached = bound * np.where(complement >= RIVAL, complement, 0)
            if k <= len(items) and bound[block[0]] < np.partition(reached, -k)[-k]:
                break
            new = block[np.isnan(complement[block])]
            complement[new] = self._judge.goes_with(asked, items[new])
            told.update(zip(items[new].tolist(), complement[new].tolist(), strict=True))
        return at_most._replace(complement=complement)

    def score(self, request: Request, items: Items) -> Scores:
        """Scores of any items; those that nothing is known of come last."""
        asked = self._asked_of(request)
        scores = np.zeros(len(items), np.float32)
        known = (items >= 0) & (items < len(self._bought))
        known[known] = self._answerable[items[known]]
        if len(asked) and known.any():
            scores[known] = self._companions(asked, request.history).score(items[known])
            scores[~known] = scores[known].min() - 1
        return scores

    def explain(self, request: Request, item: int) -> list[Reason]:
        """How often it was bought with what was asked with, the likeliest way of two links to it, how it was placed.

        Where none of these is to be said, that their categories are bought together, or what placed it. What its score
        is made of comes with `candidates`; for any pair see `parts`.
        """
        asked = self._asked_of(request)
        if len(asked) == 0 or not 0 <= item < len(self._bought):
            return []
        return self._why.reasons(asked, item)

    def gates(self) -> dict[str, dict[str, float]]:
        """How much each relation of the typed graph counts, layer by layer: shares of 1; nothing for other encoders."""
        return self._gates

    def attention(self, item: int, k: int) -> tuple[Items, NDArray[np.float32], NDArray[np.float32]]:
        """See `Attention.strongest`.

        Raises:
            InputError: for an encoder without attention, and for an item that the model does not know.
        """
        if self._attention is None:
            raise InputError(f"cross-sell: {self.config.encoder} has no attention; train with encoder=gat or gatv2")
        if not 0 <= item < len(self._bought):
            raise InputError(f"cross-sell: no item {item}; the model knows {len(self._bought):,}")
        return self._attention.strongest(item, k)

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`; interactions make no difference."""
        found = np.full((len(items), k), -1, np.int32)
        scores = np.full((len(items), k), -np.inf, np.float32)
        allowed = self._telling(allowed)
        known = np.flatnonzero((items >= 0) & (items < len(self._source)))
        if self._scorer is not self._network:
            for place in known if k > 0 and self._sells else ():
                asked = items[[place]].astype(np.int32)
                companions = self._companions(asked)
                near = companions.nearest(k, allowed)
                found[place, : len(near)], scores[place, : len(near)] = near, companions.score(near)
            return found, scores
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
