"""CoActionGraphRec: one user, several interests, from text and co-action.

    Sun and Brovman (eBay), "CoActionGraphRec: Sequential Multi-Interest Recommendations Using Co-Action Graphs",
    Temporal Reasoning in Recommender Systems, RecSys '24 workshop, arXiv 2410.11464.

Two towers. The item tower embeds what is written about an item (e) and adds, by attention, what its co-action
neighbours are: items clicked, and items purchased, by the same people (z). The user tower takes a person's actions as
a fully connected graph whose edges say how two actions compare (same category? dearer? how much later? clicked, then
bought?), lets attention with these edges mix them, and extracts several interests. A person's score for an item is
that of the nearest interest:

    score(u, q) = max_k v_k . z_q
    L = (1 - lambda) L_z + lambda L_e,     L_x = -log softmax over {target, negatives} of v_k* . x - log Q

with k* the interest nearest to the target. Item vectors are computed once and searched; interests at request time.

The paper's components, inputs and losses are known, its equations were not to be read. So every formula here is a
reconstruction (marked [R]), chosen as follows:
    e            [R] TF-IDF sum of hashed n-gram rows (or a given vector), category levels, brand and price bucket,
                 their sum and an MLP of them; an id row as an option for closed catalogues, at random in training
    neighbours   [R] at most 10 an item and relation, by cosine of damped counts; the thresholds are not published
    z            [R] sum of e and one attended message a relation; a gate is an option
    edges        families I (one-hot), G (numbers), H (ordered) and the pair of behaviours are the paper's; the
                 features, their buckets and the form of the attention are [R]
    interests    [R] self-attentive as in ComiRec, or dynamic routing (ComiRec-DR, MIND); the paper has several
    losses       [R] mixed as written above; user vectors come from z in both, k* as well
    new items    [R] e, and what co-action adds to the few known items nearest by e, on average: e alone is shorter than
                 what it competes with, and stands in nobody's list
Beyond the paper, searches stand among a person's actions as nodes that have a text and nothing else (`searches`).
The paper trains on clicks; `target_weights` opens what it leaves as future work. No figure here reproduces eBay's
tables, whose data is private: benchmarks/ measures on public sets.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from msgspec import Meta
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from endcap.answers import Request, Space
from endcap.errors import InputError
from endcap.index import Exact
from endcap.kernels.coaction import coaction_neighbours, first_links
from endcap.models.history_model import (
    ENCODED_TOGETHER,
    HistoryConfig,
    HistoryModel,
    Interests,
    TwoTowers,
    Vectors,
    check_heads,
)
from endcap.models.item_features import FeatureReader
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.nn.attention import EdgeAttention
from endcap.nn.histories import Histories, Past
from endcap.nn.interests import MeanInterest, RoutedInterests, SelfAttentiveInterests, routing_penalty
from endcap.nn.items import CoActionAggregation, ItemEmbedding, ItemFeatures
from endcap.nn.pair_codes import difference, kinds_of_both, same_or_not, signed_distance
from endcap.shop import Events, Shop, Vocabulary
from endcap.shop.interactions import SEARCH
from endcap.shop.text import words

TextEncoder = Callable[[list[str]], NDArray[Any]]
log = logging.getLogger("endcap.models")
Edge = Literal["category", "brand", "seller", "price", "popularity", "time", "position", "behaviour"]
SAME_OR_NOT: tuple[Edge, ...] = ("category", "brand", "seller")  # family I
GAPS = np.array([-1.5, -0.7, -0.3, -0.1, 0.1, 0.3, 0.7, 1.5], np.float32)  # family G: cuts of ln((1 + v_j) / (1 + v_i))
MINUTE = 60_000_000
TIMES = np.array([1, 10, 60, 360, 1440, 3 * 1440, 7 * 1440, 30 * 1440]) * MINUTE  # family H
PLACES = np.array([0, 1, 2, 4, 8, 16])  # position gaps 0, 1, 2, 3-4, 5-8, 9-16, more
CATEGORY_LEVELS = 3
DAY = 86_400_000_000
ENCODED = "vector_encoder"  # the column that an encoder's vectors are kept in
BATCHES_BETWEEN_COUNTS = 50  # of codes, for the training log
LIKE_NEW = 5  # known items whose co-action stands for that of a new one
TEXTS_KEPT = 4096  # searches whose vectors are kept between requests


class CoActionGraphConfig(HistoryConfig, frozen=True, kw_only=True):
    """Settings of CoActionGraphRec; the ablations are `relations`, `edges`, `explicit`, `interests`, `dual_loss`,
    `logq`, `shuffle_neighbours` and `temperature`.
    """

    text: Annotated[
        str, Meta(description="ngrams: learnt from hashed n-grams; vector_NAME: a column of the items; none")
    ] = "ngrams"
    text_buckets: Annotated[int, Meta(ge=256, description="hash buckets of the n-grams")] = 1 << 17
    text_features: Annotated[int, Meta(ge=1, description="n-grams of a title, at most")] = 64
    text_titles: Annotated[
        int, Meta(ge=1, description="titles that an n-gram must be in; rare ones name an item, which new ones lack")
    ] = 1
    text_dropout: Annotated[float, Meta(ge=0, lt=1, description="n-grams left out of a title in training")] = 0.0
    id_embedding: Annotated[
        str,
        Meta(pattern="^(auto|yes|no)$", description="add a row of the item's own; auto: yes, the catalogue is known"),
    ] = "auto"
    id_dropout: Annotated[float, Meta(ge=0, lt=1, description="how often an item's own row is left out")] = 0.3
    relations: Annotated[
        str, Meta(pattern="^(both|click|purchase|none)$", description="co-actions that z adds; none: z = e")
    ] = "both"
    neighbours: Annotated[int, Meta(ge=1, le=200, description="of an item for each relation")] = 10
    neighbour_window: Annotated[int, Meta(ge=1, description="places that two co-actions lie apart, at most")] = 10
    neighbour_days: Annotated[int, Meta(ge=1, description="days that they lie apart, at most")] = 30
    neighbour_people: Annotated[int, Meta(ge=1, description="who co-acted, at least (1 for items with few)")] = 2
    neighbour_dropout: Annotated[float, Meta(ge=0, lt=1, description="neighbours left out in training")] = 0.2
    gate: Annotated[bool, Meta(description="weigh each relation's message by a learnt gate; false: a plain sum")] = (
        False
    )
    shuffle_neighbours: Annotated[bool, Meta(description="ablation: neighbours of other items, drawn by chance")] = (
        False
    )
    searches: Annotated[bool, Meta(description="searches stand among the actions as nodes of text")] = True
    nodes: Annotated[str, Meta(pattern="^[ez]$", description="what an action of the user's graph is: z or e")] = "z"
    explicit: Annotated[bool, Meta(description="the explicit interaction layer; false: actions go on as they are")] = (
        True
    )
    edges: Annotated[
        tuple[Edge, ...], Meta(description="features of pairs of actions, as far as the shop has them; []: none")
    ] = ("category", "brand", "seller", "price", "popularity", "time", "position", "behaviour")
    layers: Annotated[int, Meta(ge=1, le=8, description="explicit interaction layers")] = 1
    heads: Annotated[int, Meta(ge=1, description="of each layer")] = 2
    feed_forward: Annotated[bool, Meta(description="a feed-forward network after each attention")] = True
    interests: Annotated[int, Meta(ge=1, le=64, description="vectors of a person, K")] = 4
    extraction: Annotated[
        str, Meta(pattern="^(self-attentive|routing|mind|mean)$", description="how interests are made of actions")
    ] = "self-attentive"
    routing_penalty: Annotated[float, Meta(ge=0, description="REMI's guard against collapse; REMI: 100")] = 0.0
    dual_loss: Annotated[float, Meta(ge=0, le=1, description="lambda, the weight of the loss on e")] = 0.2

    def __post_init__(self) -> None:
        check_heads(self.dim, self.heads)


class CoActionGraph(HistoryModel):
    """CoActionGraphRec; see the module's docstring."""

    system = "coaction-graph"
    Config = CoActionGraphConfig
    config: CoActionGraphConfig
    search_space: ClassVar[SearchSpace] = {
        "learning_rate": Range(3e-4, 3e-3, log=True),
        "dropout": Range(0.1, 0.5),
        "dual_loss": OneOf(0.0, 0.1, 0.2, 0.3, 0.4),
        "interests": OneOf(1, 2, 4),
        "logq": OneOf(0.0, 0.5, 1.0),
    }

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._given_relations: list[tuple[str, NDArray[np.int32], NDArray[np.int32]]] = []
        self._encoder: TextEncoder | None = None
        self._searched: ItemFeatures | None = None  # in training: the distinct texts that people searched for
        self._reads_searches = False  # whether there were any to learn from
        self._vector_of_text: dict[str, Tensor | None] = {}
        self._texts: Vectors | None = None
        self._like: Exact | None = None

    def with_relations(self, table: pa.Table, items: Vocabulary) -> Self:
        """Relations between items from outside, each one more that z adds: rows of item, other and relation, as ids.

        What a shop's editors or another site say. Of an item's partners the first `neighbours` rows count, all alike.
        Call it before `fit`; links may know the future, which an evaluation should say.
        """
        item, other = (items.encode(table[name].to_pylist()) for name in ("item", "other"))
        names = np.array(table["relation"].to_pylist(), object)
        self._given_relations = [
            (str(name), item[rows], other[rows])
            for name in sorted(set(names.tolist()))
            if (rows := np.flatnonzero((names == name) & (item >= 0) & (other >= 0))).size
        ]
        return self

    def _given(self) -> str:
        digest = hashlib.sha256()
        for name, item, other in self._given_relations:
            digest.update(name.encode() + item.tobytes() + other.tobytes())
        return digest.hexdigest()

    def with_encoder(self, encoder: TextEncoder) -> Self:
        """Titles by any function, list of texts -> (n, m) array, instead of n-grams; call it before `fit`.

        A folder holds no code: after `models.open` give the same function again, or new items have no vector.
        """
        self._encoder, self._vector_of_text, self._asker = encoder, {}, None
        return self

    @property
    def nodes_are_second(self) -> bool:
        return self.config.nodes == "e" and self.config.relations != "none"

    # -- 2.1, 2.2: what is known of items, and their neighbours ----------------------------------------------------

    def _events(self, shop: Shop) -> Events:
        """Actions, and searches among them: numbered after the items, with a code after those of the interactions."""
        self._read_catalogue(shop)
        self._searched, self._reads_searches, self._vector_of_text = None, False, {}
        events, actions = shop.events, shop.positives
        if not self.config.searches or "query" not in events.columns.column_names:
            return actions
        rows = np.flatnonzero(events.interaction == SEARCH)
        texts = [_normalised(text) for text in events.columns["query"].take(pa.array(rows)).to_pylist()]
        place = {text: number for number, text in enumerate(sorted({text for text in texts if text}))}
        if not place:
            return actions
        features = self._read_texts(list(place))
        number = np.array([place.get(text, -1) for text in texts], np.int32)
        telling = (number >= 0) & features.described[number]
        if not telling.any():
            return actions
        self._searched, self._reads_searches = features, True
        rows, number = rows[telling], number[telling]
        item, kind = events.item.copy(), events.interaction.copy()
        stays = (kind < len(shop.interactions)) & (item >= 0)
        item[rows], kind[rows], stays[rows] = shop.n_items + number, len(shop.interactions), True
        return Events(events.user, item, kind, events.time, events.session).where(stays)

    def _read_catalogue(self, shop: Shop) -> None:
        config = self.config
        catalogue, text = self._encoded(shop.catalogue)
        self._reader = FeatureReader.of(
            catalogue, text=text, buckets=config.text_buckets, at_most=config.text_features,
            levels=CATEGORY_LEVELS, ids=config.id_embedding != "no", where=self.system, least=config.text_titles,
        )  # fmt: skip
        if not (self._reader.sizes.parts or self._reader.sizes.id):
            raise InputError(
                f"{self.system}: nothing tells the items apart: the shop has neither titles, categories, brands nor "
                "prices; set id_embedding=yes"
            )
        self._features = self._reader.read(catalogue, own_ids=True)

    def _read_texts(self, texts: list[str]) -> ItemFeatures:
        """Features of what has a text and nothing else; not even the id row of new items, which it would train."""
        table, _ = self._encoded(pa.table({"title": pa.array(texts, pa.string())}))
        return self._reader.read(table, own_ids=False)

    def _prepare(self, shop: Shop, training: Histories, threads: int) -> None:
        config = self.config
        self._attributes = _pair_attributes(shop.catalogue, self._counts)
        relations = self._relations(training)
        found = [
            self._neighbours_of(training.where(training.kinds == kind), shop.n_items, threads) for kind in relations
        ]
        found += [first_links(item, other, shop.n_items, config.neighbours) for _, item, other in self._given_relations]
        self._near = np.stack([near for near, _ in found]) if found else np.empty((0, shop.n_items, 0), np.int32)
        self._strength = (
            np.stack([share for _, share in found]) if found else np.empty((0, shop.n_items, 0), np.float32)
        )
        if config.shuffle_neighbours:
            order = np.random.default_rng(0).permutation(shop.n_items)
            self._near, self._strength = self._near[:, order], self._strength[:, order]

    def _encoded(self, table: pa.Table) -> tuple[pa.Table, str]:
        """A catalogue with the vectors of its titles where an encoder was given, and where its text is to be found."""
        if self._encoder is None:
            return table, self.config.text
        titles = table["title"].to_pylist() if "title" in table.column_names else [None] * table.num_rows
        vectors = np.asarray(self._encoder([title or "" for title in titles]), np.float32)
        if vectors.ndim != 2 or len(vectors) != len(titles):
            raise InputError(
                f"{self.system}: the encoder gave {vectors.shape} for {len(titles)} texts, not one row each"
            )
        return table.append_column(
            ENCODED, pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        ), ENCODED

    def _relations(self, training: Histories) -> list[int]:
        """Kinds of action: the weakest that occurs (clicks) and the strongest (purchases); one where they are one."""
        kinds = np.unique(training.kinds).tolist()
        wanted = {"both": [kinds[0], kinds[-1]], "click": kinds[:1], "purchase": kinds[-1:], "none": []}
        return list(dict.fromkeys(wanted[self.config.relations]))

    def _neighbours_of(
        self, actions: Histories, n_items: int, threads: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        config = self.config
        return coaction_neighbours(
            actions.items, actions.offsets, actions.times, n_items,
            k=config.neighbours, window=config.neighbour_window, reach=config.neighbour_days * DAY,
            min_people=config.neighbour_people, threads=threads,
        )  # fmt: skip

    def _with_vector(self, shop: Shop) -> NDArray[np.bool_]:
        """Items that were acted on, and those that something is written about."""
        return (self._counts > 0) | self._features.described

    def _module_of(self, n_items: int) -> CoActionTowers:
        return CoActionTowers(self)

    # -- answers about items that were never seen ------------------------------------------------------------------

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        super()._fit(shop, seed=seed, threads=threads, show=show)
        with threadpool_limits(threads, "blas"):
            self._keep_texts(self._text_vectors(shop.catalogue) if len(self._near) else None)
            unseen = np.flatnonzero(self._has_vector & (self._counts == 0))
            if self._like is not None and len(unseen):
                self._table[unseen] = self.encode_items(shop.catalogue.take(unseen))

    def _keep_texts(self, texts: Vectors | None) -> None:
        """Remember the vectors (n_items, d) of known items by what is written about them alone."""
        self._texts, self._like = texts, None
        if texts is not None and (told := np.flatnonzero((self._near >= 0).any(axis=(0, 2)) & texts.any(axis=1))).size:
            self._like = Exact(Space(told.astype(np.int32), _unit(texts[told])))

    def encode_items(self, table: pa.Table) -> Vectors:
        """Vectors (n, d) of items by what is written about them, and by the co-action of those that are like them."""
        vectors = self._text_vectors(table)
        told = np.flatnonzero(vectors.any(axis=1))
        if self._like is None or self._texts is None or len(told) == 0:
            return vectors
        near, _ = self._like.search(_unit(vectors[told]), LIKE_NEW)
        known = (near >= 0)[..., None]
        added = np.where(known, self._table[near] - self._texts[near], 0).sum(axis=1) / known.sum(axis=1)
        vectors[told] = self.finished(torch.from_numpy(vectors[told] + added)).numpy()
        return vectors

    def _text_vectors(self, table: pa.Table) -> Vectors:
        """e (n, d) of items; zeros where nothing that is known of them says anything."""
        if self._reader.text == ENCODED and self._encoder is None:
            log.warning("%s: trained with an encoder, which is not given: new items have no vector", self.system)
            return np.zeros((table.num_rows, self.config.dim), np.float32)
        features = self._reader.read(self._encoded(table)[0], own_ids=False)
        if len(features) == 0 or self._towers.embedding.sizes.parts == 0:
            return np.zeros((len(features), self.config.dim), np.float32)
        with torch.inference_mode():
            blocks = np.split(rows := np.arange(len(features)), rows[ENCODED_TOGETHER::ENCODED_TOGETHER])
            return torch.cat([self.finished(self._towers.embedding(features, block)) for block in blocks]).numpy()

    def _watch(self) -> dict[str, float]:
        return {**super()._watch(), **self._towers.codes_seen()}

    # -- searches --------------------------------------------------------------------------------------------------

    def _further(self) -> Tensor | None:
        if self._searched is None:
            return None
        blocks = np.split(numbers := np.arange(len(self._searched)), numbers[ENCODED_TOGETHER::ENCODED_TOGETHER])
        with torch.no_grad():
            return torch.cat([self.finished(self._towers.embedding(self._searched, block)) for block in blocks]).cpu()

    def _past(self, request: Request) -> tuple[Past, Tensor | None]:
        """Actions, and the asker's searches among them by time; those that say nothing are left out."""
        past, _ = super()._past(request)
        if not self._reads_searches or request.item is not None:
            return past, None
        latest = sorted(request.searches, key=lambda search: search[1])[-self.config.longest :]
        known = [(vector, time) for text, time in latest if (vector := self._searched_for(text)) is not None]
        if not known:
            return past, None
        vectors, when = zip(*known, strict=True)
        items = np.append(past.items, len(self._has_vector) + np.arange(len(known)))
        kinds = np.append(past.kinds, np.full(len(known), len(self._trained().interactions)))
        times = np.append(past.times, np.array(when, np.int64))
        order = np.argsort(times, kind="stable")
        return Past(items[order][None], kinds[order][None], times[order][None]), torch.stack(vectors)

    def _searched_for(self, text: str) -> Tensor | None:
        """The node (d,) of a search; None where the model knows nothing of its text."""
        text, kept = _normalised(text), self._vector_of_text
        if text not in kept:
            if len(kept) >= TEXTS_KEPT:
                kept = self._vector_of_text = {}
            kept[text] = self._encoded_text(text)
        return kept[text]

    def _encoded_text(self, text: str) -> Tensor | None:
        features = self._read_texts([text]) if text else None
        if features is None or not features.described[0]:
            return None
        with torch.no_grad():
            return self.finished(self._towers.embedding(features, np.zeros(1, np.int64)))[0]

    # -- storing ---------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        attributes = {f"pair-{name}": codes for name, codes in self._attributes.items()}
        return {
            **super()._arrays(),
            **attributes,
            **self._reader.arrays(),
            **({} if self._texts is None else {"texts": self._texts}),
            "near": self._near,
            "strength": self._strength,
        }

    def _learned(self) -> dict[str, Any]:
        return {**super()._learned(), "features": self._reader.learned(), "reads_searches": self._reads_searches}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        super()._restore(arrays, learned)
        self._attributes = {
            name.removeprefix("pair-"): codes for name, codes in arrays.items() if name.startswith("pair-")
        }
        self._near, self._strength = arrays["near"], arrays["strength"]
        self._reader = FeatureReader.restored(learned["features"], arrays)
        self._features = ItemFeatures(len(self._has_vector))
        self._keep_texts(arrays.get("texts"))  # folders of before there were any lack them
        self._reads_searches = learned.get("reads_searches", False)  # folders of before there were any lack it


class CoActionTowers(TwoTowers):
    """The item tower (2.1, 2.3) and the user tower (2.4 to 2.7)."""

    def __init__(self, model: CoActionGraph) -> None:
        super().__init__()
        self.config = config = model.config
        self.features, self.near, self.strength = model._features, model._near, model._strength
        self.searched = model._searched
        self.embedding = ItemEmbedding(config.dim, model._reader.sizes, config.id_dropout, config.text_dropout)
        relations = len(self.near)
        self.aggregation = (
            CoActionAggregation(config.dim, relations, gated=config.gate, dropout=config.neighbour_dropout)
            if relations
            else None
        )
        n_kinds = len(model._trained().interactions) + model._reads_searches
        self.pairs = Pairs(model._attributes, config.edges, n_kinds, config.longest)
        self.interaction = nn.ModuleList(
            EdgeAttention(
                config.dim, config.heads, self.pairs.n_codes, config.dropout, feed_forward=config.feed_forward
            )
            for _ in range(config.layers if config.explicit else 0)
        )
        self.dropout = nn.Dropout(config.dropout)
        self.extraction = _extraction(config)
        self.log_scale = nn.Parameter(torch.tensor(-np.log(config.temperature or 1.0), dtype=torch.float32))

    def items(self, numbers: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """z (n, d) and e (n, d) of the items with these numbers, ascending; searches, which come last, have no
        neighbours: z = e.
        """
        cut = int(np.searchsorted(numbers, len(self.features)))
        vectors, second = self._of_items(numbers[:cut])
        if self.searched is None or cut == len(numbers):
            return vectors, second
        texts = self.embedding(self.searched, numbers[cut:] - len(self.features))
        return torch.cat([vectors, texts]), None if second is None else torch.cat([second, texts])

    def _of_items(self, numbers: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        if self.aggregation is None:
            return self.embedding(self.features, numbers), None  # z = e, and so are the losses
        near = self.near[:, numbers]
        around = np.unique(np.concatenate([numbers, near[near >= 0]]))
        all_vectors = self.embedding(self.features, around)
        own = all_vectors[torch.from_numpy(np.searchsorted(around, numbers)).to(all_vectors.device)]
        rows = np.where(near >= 0, np.searchsorted(around, np.maximum(near, 0)), -1)
        vectors = self.aggregation(
            own, all_vectors, torch.from_numpy(rows).to(own.device),
            torch.from_numpy(np.ascontiguousarray(self.strength[:, numbers])).to(own.device),
        )  # fmt: skip
        return vectors, own

    def users(self, vectors: Tensor, past: Past) -> Interests:
        """The fully connected graph of a person's actions, mixed over its edges, then split into interests."""
        known = torch.from_numpy(past.items >= 0).to(vectors.device)
        actions = self.dropout(vectors)
        if len(self.interaction):
            codes = self.pairs.codes(past, vectors.device) if self.pairs.n_codes else None
            for layer in self.interaction:
                actions = layer(actions, known, codes)
        interests, weights = self.extraction(actions, known)
        return Interests(interests, weights, actions)

    def penalty(self, interests: Interests, past: Past) -> Tensor | float:
        """REMI's routing penalty."""
        if not self.config.routing_penalty:
            return 0.0
        known = torch.from_numpy(past.items >= 0).to(interests.weights.device)
        return self.config.routing_penalty * routing_penalty(interests.weights, known)

    def codes_seen(self) -> dict[str, float]:
        """The share of each code among the pairs since the last call, `edge.feature.code`; for the training log."""
        return self.pairs.histogram()


class Pairs:
    """Edge features as codes: rho_ij is the sum of one table row a feature (2.4).

    Args:
        attributes: name -> (n_items,) codes (-1 missing) of family I, or values (NaN missing) of family G; of what is
            no item, all are missing.
    """

    def __init__(
        self, attributes: Mapping[str, NDArray[Any]], wanted: Sequence[Edge], n_kinds: int, longest: int
    ) -> None:
        self.n_kinds = n_kinds
        self.attributes = {
            name: np.append(values, -1) if values.dtype.kind == "i" else np.append(np.log1p(values), np.float32(np.nan))
            for name, values in attributes.items()
        }
        sizes = {name: 3 if values.dtype.kind == "i" else len(GAPS) + 2 for name, values in attributes.items()}
        sizes |= {"time": 2 * len(TIMES) + 1, "position": 2 * len(PLACES) + 1, "behaviour": n_kinds**2}
        self.tables = {name: sizes[name] for name in sorted(sizes) if name.partition(".")[0] in wanted}
        self.n_codes = sum(self.tables.values())
        self._seen = torch.zeros(self.n_codes, dtype=torch.int64)
        self._batches = 0

    def codes(self, past: Past, device: torch.device) -> Tensor:
        """(B, T, T, features); entry [b, i, j] holds the tables' rows that compare action j with action i."""
        batch, length = past.items.shape
        narrow = np.uint8 if self.n_codes <= 256 else np.int16
        coded = np.empty((batch, length, length, len(self.tables)), narrow)
        start = 0
        for place, (name, size) in enumerate(self.tables.items()):
            self._compare(name, past, start, coded[..., place])
            start += size
        found = torch.from_numpy(coded)
        if self._batches % BATCHES_BETWEEN_COUNTS == 0:
            known = torch.from_numpy(past.items >= 0)
            pairs = found[known[:, :, None] & known[:, None, :]]
            self._seen += torch.bincount(pairs.flatten(), minlength=self.n_codes)
        self._batches += 1
        return found.to(device)

    def _compare(self, name: str, past: Past, start: int, out: NDArray[np.integer]) -> None:
        """Write the codes (B, T, T) of one feature, from `start` on."""
        if name == "behaviour":
            kinds_of_both(past.kinds, self.n_kinds, start, out)
        elif name == "time":
            signed_distance(past.times, TIMES, True, start, out)
        elif name == "position":
            places = np.broadcast_to(np.arange(past.items.shape[1]), past.items.shape)
            signed_distance(places, PLACES, False, start, out)
        else:
            values = self.attributes[name]
            values = values[past.items.clip(0, len(values) - 1)]
            if values.dtype.kind == "i":
                same_or_not(values, start, out)
            else:
                difference(values, GAPS, start, out)

    def histogram(self) -> dict[str, float]:
        """`edge.feature.code` -> its share of the pairs counted since the last call."""
        shares, start = {}, 0
        for name, size in self.tables.items():
            seen = self._seen[start : start + size]
            for code, share in enumerate((seen / seen.sum().clamp_min(1)).tolist()):
                shares[f"edge.{name}.{code}"] = round(share, 4)
            start += size
        self._seen.zero_()
        self._batches = 0
        return shares


def _pair_attributes(catalogue: pa.Table, counts: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What pairs are compared by: (n_items,) codes, -1 where unknown, and values, NaN where unknown."""
    found: dict[str, NDArray[Any]] = {}
    for name in SAME_OR_NOT:
        if name in catalogue.column_names and catalogue[name].null_count < len(catalogue):
            texts = catalogue[name].cast(pa.string()).combine_chunks()
            found[name] = _codes(texts)
            if name == "category":
                found["category.top"] = _codes(
                    pa.array([t and t.partition("/")[0] for t in texts.to_pylist()], pa.string())
                )
    if "price" in catalogue.column_names and catalogue["price"].null_count < len(catalogue):
        prices = np.asarray(catalogue["price"].cast(pa.float32()).to_numpy(zero_copy_only=False), np.float32)
        found["price"] = np.where(prices >= 0, prices, np.nan).astype(np.float32)
    found["popularity"] = counts.astype(np.float32)
    return found


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _normalised(text: str | None) -> str:
    """The words of a search, by which two are the same."""
    return " ".join(words(text or ""))


def _codes(texts: pa.Array) -> NDArray[np.int64]:
    return texts.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _extraction(config: CoActionGraphConfig) -> nn.Module:
    """How interests are made of actions (2.7)."""
    if config.extraction == "mean":
        return MeanInterest()
    if config.extraction == "self-attentive":
        return SelfAttentiveInterests(config.dim, config.interests, config.longest)
    return RoutedInterests(config.dim, config.interests, config.longest, shared=config.extraction == "mind")
