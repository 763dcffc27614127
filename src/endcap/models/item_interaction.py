"""Item-interaction embeddings: "because you X this, you may Y that".

    Etsy, "The Difference Between a Click and a Cart-Add: Learning Interaction-Specific Embeddings",
    WWW '20 Companion.

A token is a pair p = (item, interaction). A session is a sequence of tokens, and skip-gram with negatives learns two
tables from it, inputs U and outputs V. Every occurrence of a centre c also pulls on R_c, the tokens that most often
come later in a session with c in it, wherever in the session they are: the co-occurrence regulariser, equation (3),

    L = sum_t [ sum_{x in W(t)} l(c, x) + sum_{r in R_c} l(c, r) ]
    l(c, x) = log sig(U_c . V_x) + sum_{k=1..5} log sig(-U_c . V_{n_k}),    n_k uniform over all tokens.

Where the paper is silent or at odds with itself, this file chooses:
    window      |j| <= b with b uniform in 1..5 at every centre (the printed condition has the sign reversed)
    negatives   five for each positive (one sentence of the paper reads as five a sequence)
    R_c         counted once a session, any later place; tokens of the same item are left out, pairs seen once as well
    scorer      U.U or U.V retrieval is not stated: in-in cosine, in-out product, in-out cosine, the best on validation
    sessions    the paper trains on sessions of four tokens and more with a purchase; on a small log this may leave
                too few, so all sessions or those of the paper, the better on validation
    epochs, learning rate: not stated; about 40 million token visits, 0.1 falling to 0

One default is not the paper's: negatives are drawn by frequency ** 0.5, which did best over several logs
(benchmarks/defaults.py); `ns_exponent=0` is the paper's even draw.

Beyond the paper, as options: `reg_weighting=share` weighs a term of the regulariser by how often r follows where c
occurs; `targets=any` lets items be found by any of their interactions, since a list of "items once carted" is short
where carts are few. benchmarks/ shows what each is worth.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter, itemgetter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta
from numpy.typing import NDArray

from endcap.answers import Candidates, Items, Request, Scores, Searcher, Space
from endcap.errors import InputError
from endcap.graph.sessions import TypedSessions, typed_sessions
from endcap.index import Exact
from endcap.kernels.skipgram import ROUNDS, negative_pool, skipgram_pass
from endcap.metrics import events_to_judge_by, intent_cases, intent_lengths, purchase_intent
from endcap.models.base import NO_CANDIDATES, Model, extend, no_evidence, unite
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.progress import progress
from endcap.shop import Shop

Vectors = NDArray[np.float32]
Scorer = Literal["in_in_cos", "in_out_ip", "in_out_cos"]
Targets = Literal["typed", "any"]
SCORERS: tuple[Scorer, ...] = ("in_in_cos", "in_out_ip", "in_out_cos")
TOKEN_VISITS = 40_000_000
EPOCHS = (5, 60)
NEAREST_SELLERS = 10
POOL = 1 << 20


class ItemInteractionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of item-interaction embeddings.

    Defaults are the paper's where it states them, but for `ns_exponent` (benchmarks/defaults.py says why).
    """

    dim: Annotated[int, Meta(ge=1, le=4096, description="length of the vectors (paper: 200)")] = 200
    window: Annotated[int, Meta(ge=1, description="largest distance of a context token (paper: 5)")] = 5
    random_window: Annotated[bool, Meta(description="draw the window from 1..window at every centre")] = True
    negatives: Annotated[int, Meta(ge=1, description="negatives for each positive (paper: 5)")] = 5
    ns_exponent: Annotated[
        float, Meta(ge=-2, le=2, description="negatives by frequency ** this; 0 is uniform (paper: 0)")
    ] = 0.5
    negatives_from: Annotated[
        Literal["all", "category", "seller"],
        Meta(description="all (paper); category, seller: only tokens of the centre's own, which the paper saw lose"),
    ] = "all"
    shared_negatives: Annotated[
        int, Meta(ge=1, description="positives of a centre that share a draw of negatives; 4 is faster and coarser")
    ] = 1
    typed: Annotated[bool, Meta(description="tokens are (item, interaction); false: items alone")] = True
    reg_k: Annotated[int, Meta(ge=0, description="tokens of R_c for each interaction (paper: 3); 0: none")] = 3
    reg_weight: Annotated[float, Meta(ge=0, description="weight of the regulariser's terms (paper: 1)")] = 1.0
    reg_weighting: Annotated[
        Literal["equal", "share"],
        Meta(description="equal: every term weighs the same (paper); share: by how often r follows where c occurs"),
    ] = "equal"
    reg_min_count: Annotated[int, Meta(ge=1, description="sessions a pair must occur in to enter R_c")] = 2
    reg_same_item: Annotated[bool, Meta(description="let tokens of the same item into R_c")] = False
    reg_reach: Annotated[int, Meta(ge=1, description="how many tokens later R_c still looks")] = 1000
    epochs: Annotated[int, Meta(ge=0, description="passes over the sessions; 0: by the size of the log, 5 to 60")] = 0
    learning_rate: Annotated[float, Meta(gt=0, description="at the start; falls to 0")] = 0.1
    subsample: Annotated[float, Meta(ge=0, description="word2vec's threshold for frequent tokens; 0: off")] = 0.0
    scorer: Annotated[
        Literal["auto", "in_in_cos", "in_out_ip", "in_out_cos"], Meta(description="auto: chosen on validation")
    ] = "auto"
    session_filter: Annotated[
        Literal["auto", "none", "paper"],
        Meta(description="paper: sessions of 4 tokens and more with a purchase; auto: chosen on validation"),
    ] = "auto"
    targets: Annotated[
        Literal["auto", "typed", "any"],
        Meta(
            description="typed: a list holds items by their vector for the wanted interaction (paper); any: by the "
            "nearest of all their vectors, for logs with few carts; auto: chosen on validation"
        ),
    ] = "auto"
    validation: Annotated[str, Meta(description="last part of the training log that choices are made on")] = "0.1"
    sellers: Annotated[bool, Meta(description="also embed (seller, interaction), for items without a vector")] = True


class SgnsConfig(ItemInteractionConfig, frozen=True, kw_only=True):
    """Settings of untyped skip-gram: those of item-interaction with neither types nor regulariser."""

    typed: Annotated[bool, Meta(description="tokens are (item, interaction); false: items alone")] = False
    reg_k: Annotated[int, Meta(ge=0, description="tokens of R_c for each interaction; 0: none")] = 0


# Without `auto`, which trains more than once; few values of `dim`, as each compiles a kernel; no `epochs`: their
# default keeps every trial as long as a training with the defaults.
SKIPGRAM_SPACE: SearchSpace = {
    "dim": OneOf(100, 200, 300),
    "window": Range(2, 10),
    "ns_exponent": Range(-0.5, 1.0),
    "learning_rate": Range(0.02, 0.2, log=True),
    "subsample": OneOf(0.0, 1e-4, 1e-3),
    "scorer": OneOf(*SCORERS),
    "session_filter": OneOf("none", "paper"),
}


class Tables(NamedTuple):
    """What training gives: U and V, (n_tokens, dim) float32 both."""

    inputs: Vectors
    outputs: Vectors


class Effort(NamedTuple):
    """How a training runs: `threads` > 1 is lock-free, `show` reports on stderr."""

    seed: int
    threads: int
    show: bool


class Choice(NamedTuple):
    """What validation chooses between."""

    session_filter: str
    scorer: Scorer
    targets: Targets


@dataclass(frozen=True, eq=False)
class TypedVectors:
    """Vectors of (thing, interaction) pairs made ready for search by inner product.

    Attributes:
        row_of: (n_kinds, n_things) int32, -1 where a pair has no vector; type_offsets: (n_kinds + 1,).
        thing: (rows,) int32; queries, targets: (rows, dim) float32, rows by interaction, then thing.
    """

    row_of: NDArray[np.int32]
    type_offsets: NDArray[np.int64]
    thing: NDArray[np.int32]
    queries: Vectors
    targets: Vectors

    @classmethod
    def of(cls, corpus: TypedSessions, tables: Tables, scorer: Scorer) -> TypedVectors:
        queries = tables.inputs if scorer == "in_out_ip" else _unit(tables.inputs)
        targets = {"in_in_cos": queries, "in_out_ip": tables.outputs, "in_out_cos": _unit(tables.outputs)}[scorer]
        return cls(corpus.row_of, corpus.type_offsets, corpus.thing, queries, targets)

    @property
    def n_kinds(self) -> int:
        return len(self.row_of)

    def rows(self, things: Items, kind: int) -> NDArray[np.int32]:
        """The rows of things in one interaction; -1 for pairs without a vector."""
        known = (things >= 0) & (things < self.row_of.shape[1])
        return np.where(known, self.row_of[kind, np.where(known, things, 0)], -1)

    def space(self, kind: int | None) -> Space:
        """The targets of one interaction, each thing once; None: of all, a thing once for each of its interactions."""
        rows = slice(None) if kind is None else slice(self.type_offsets[kind], self.type_offsets[kind + 1])
        return Space(self.thing[rows], self.targets[rows])


@dataclass(frozen=True, eq=False)
class Shelves:
    """The items of each group (a seller, a category), the most popular first.

    Attributes:
        group_of: (n_items,) int32, -1 where unknown; offsets: (n_groups + 1,); items: (known items,) int32.
    """

    group_of: Items
    offsets: NDArray[np.int64]
    items: Items

    @classmethod
    def of(cls, column: pa.ChunkedArray, popularity: NDArray[np.int64]) -> Shelves:
        group_of, names = _codes(column)
        items = np.lexsort((np.arange(len(group_of)), -popularity, group_of)).astype(np.int32)
        items = items[group_of[items] >= 0]
        return cls(group_of, np.searchsorted(group_of[items], np.arange(len(names) + 1)), items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of_group(self, group: int) -> Items:
        return self.items[self.offsets[group] : self.offsets[group + 1]] if group >= 0 else self.items[:0]


class ItemInteraction(Model):
    """See the head of this file."""

    system = "item-interaction"
    Config: ClassVar[type[msgspec.Struct]] = ItemInteractionConfig
    config: ItemInteractionConfig
    search_space: ClassVar[SearchSpace] = {
        **SKIPGRAM_SPACE,
        "reg_k": Range(1, 6),
        "reg_weight": Range(0.1, 3.0, log=True),
        "reg_weighting": OneOf("equal", "share"),
        "targets": OneOf("typed", "any"),
    }

    # -- training --------------------------------------------------------------------------------------------------

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        effort = Effort(seed, threads, show)
        self._chosen = self._choose(shop, effort)
        self._vectors = self._embed(shop, effort)
        wanted = shop.positives.item[shop.positives.interaction == self._trained().intent]
        self._popularity = np.bincount(wanted, minlength=shop.n_items)
        self._shelves = {
            name: Shelves.of(shop.catalogue[name], self._popularity)
            for name in ("seller", "category")
            if name in shop.catalogue.column_names
        }
        self._sellers = self._embed_sellers(shop, effort)
        self._searchers: dict[str, Searcher] = {}

    def _choose(self, shop: Shop, effort: Effort) -> dict[str, Any]:
        """What has the best purchase-intent hit rate at the end of the training log, trained on what comes before.

        The hit rate is the mean over several lengths of lists.
        """
        config = self.config
        filters = ("none", "paper") if config.session_filter == "auto" else (config.session_filter,)
        scorers = SCORERS if config.scorer == "auto" else (config.scorer,)
        targets = ("typed", "any") if config.targets == "auto" and config.typed else (config.targets,)
        choices = list(itertools.starmap(Choice, itertools.product(filters, scorers, targets)))
        tried: list[dict[str, Any]] = []
        if len(choices) > 1:
            try:
                before, after = shop.split_by_time(config.validation)
            except InputError:  # a log too short to hold anything out: the defaults stand
                pass
            else:
                tried = self._validate(before, after, choices, effort)
        default = next((choice for choice in choices if choice.scorer == "in_out_cos"), choices[0])
        return {**max([{**default._asdict(), "hit_rate": 0.0}, *tried], key=itemgetter("hit_rate")), "tried": tried}

    def _validate(self, before: Shop, after: Shop, choices: Sequence[Choice], effort: Effort) -> list[dict[str, Any]]:
        """Each choice with its purchase-intent hit rate; those that cannot be tried are left out."""
        events = after.some_people(events_to_judge_by(before.n_items), effort.seed).positives
        origin = self._trained()
        cases = intent_cases(
            events.session, events.item, events.interaction, origin.source, origin.interactions.intents
        )
        lengths = intent_lengths(before.n_items)
        tried = []
        for session_filter, group in itertools.groupby(choices, attrgetter("session_filter")):
            corpus = self._corpus(before, session_filter)
            if corpus.n_tokens == 0 or cases.n_targets == 0:
                continue
            tables = self._train(corpus, self._groups(before), effort, f"choose-{session_filter}")
            for choice in group:
                vectors = TypedVectors.of(corpus, tables, choice.scorer)
                space = vectors.space(self._space_kind(origin.intent, choice.targets))
                each = self._n_kinds if choice.targets == "any" else 1
                lists = partial(_lists_of, vectors, Exact(space), self._kind, lengths[-1], each)
                hit_rate = float(purchase_intent(cases, lists, lengths).mean())
                tried.append({**choice._asdict(), "hit_rate": hit_rate})
        return tried

    def _corpus(self, shop: Shop, session_filter: str) -> TypedSessions:
        events = shop.positives
        corpus = typed_sessions(events, events.item, shop.n_items, self._n_kinds)
        if session_filter == "none":
            return corpus
        buys = np.isin(events.interaction, self._purchase)
        bought = np.isin(np.unique(events.session), events.session[buys])
        return corpus.where(bought & (np.diff(corpus.offsets) > 3))

    def _embed(self, shop: Shop, effort: Effort) -> TypedVectors:
        corpus = self._corpus(shop, self._chosen["session_filter"])
        if corpus.n_tokens == 0:
            raise InputError(f"{self.system}: no session has four actions and a purchase; set session_filter=none")
        return self._ready(corpus, self._train(corpus, self._groups(shop), effort, "items"))

    def _embed_sellers(self, shop: Shop, effort: Effort) -> TypedVectors | None:
        """Tokens (seller, interaction), trained the same way (paper, section 6)."""
        sellers = self._shelves.get("seller")
        if not self.config.sellers or sellers is None or len(sellers) < 2:
            return None
        events = shop.positives
        corpus = typed_sessions(events, sellers.group_of[events.item], len(sellers), self._n_kinds)
        if corpus.n_tokens == 0:
            return None
        alone = np.full(len(sellers), -1, np.int32)  # a seller has no group to draw negatives from
        return self._ready(corpus, self._train(corpus, alone, effort._replace(show=False), "sellers"))

    def _ready(self, corpus: TypedSessions, tables: Tables) -> TypedVectors:
        return TypedVectors.of(corpus, tables, self._chosen["scorer"])

    def _groups(self, shop: Shop) -> Items:
        """(n_items,): the category or seller whose tokens are an item's negatives; -1: all tokens are.

        Raises:
            InputError: if the shop's items have no such column.
        """
        name = self.config.negatives_from
        if name == "all":
            return np.full(shop.n_items, -1, np.int32)
        if name not in shop.catalogue.column_names:
            raise InputError(f"{self.system}: negatives_from={name} needs items with a {name}; this shop has none")
        return _codes(shop.catalogue[name])[0]

    def _train(self, corpus: TypedSessions, group_of: Items, effort: Effort, stage: str) -> Tables:
        """Equation (3) by stochastic gradient; `group_of` says where the negatives of each thing come from."""
        config = self.config
        inputs, outputs = _initial_tables(corpus.n_tokens, config.dim, effort.seed)
        counts = np.bincount(corpus.tokens, minlength=corpus.n_tokens)
        keep = _keep_probability(counts, config.subsample)
        regulariser = self._regulariser(corpus, effort.threads)
        epochs = config.epochs or int(np.clip(TOKEN_VISITS // len(corpus.tokens), *EPOCHS))
        checkpoint = self.checkpoint.stage(stage)
        done, state = checkpoint.load()
        if done:
            inputs, outputs = state["inputs"], state["outputs"]
        groups = group_of[corpus.thing]
        members = np.argsort(groups, kind="stable").astype(np.int32)
        member_offsets = np.searchsorted(groups[members], np.arange(groups.max(initial=-1) + 2)).astype(np.int64)
        run = skipgram_pass(config.dim, config.shared_negatives)
        numba.set_num_threads(max(1, min(effort.threads, numba.config.NUMBA_NUM_THREADS)))
        with progress(f"training {stage}", epochs, shown=effort.show) as bar:
            bar.advance(done)
            for epoch in range(done, epochs):
                pool = negative_pool(counts, config.ns_exponent, POOL, np.random.default_rng([effort.seed, epoch]))
                rates = (config.learning_rate * (1 - e / epochs) for e in (epoch, epoch + 1))
                run(
                    inputs, outputs, corpus.tokens, corpus.offsets, *regulariser,
                    pool, config.negatives, ROUNDS, groups, member_offsets, members,
                    keep, config.window, config.random_window, *rates,
                    effort.seed * 100_003 + epoch, max(1, effort.threads),
                )  # fmt: skip
                checkpoint.save(epoch + 1, {"inputs": inputs, "outputs": outputs}, now=epoch + 1 == epochs)
                bar.advance()
        return Tables(inputs, outputs)

    def _regulariser(
        self, corpus: TypedSessions, threads: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
        """R_c of every token (section 4.2): for each interaction the k tokens that most often come later.

        Returns:
            CSR over tokens: offsets, the tokens of R_c, and the weight of each term.
        """
        config = self.config
        if config.reg_k == 0:
            return np.zeros(corpus.n_tokens + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
        top, counts = corpus.following(
            config.reg_k,
            min_count=config.reg_min_count,
            same_thing=config.reg_same_item,
            reach=config.reg_reach,
            threads=threads,
        )
        weights = np.full(top.shape, config.reg_weight, np.float32)
        if config.reg_weighting == "share":
            weights *= counts / corpus.n_sessions_of[:, None]
        offsets = np.append(0, np.cumsum((top >= 0).sum(1))).astype(np.int64)
        return offsets, top[top >= 0], weights[top >= 0]

    @property
    def _n_kinds(self) -> int:
        return len(self._trained().interactions) if self.config.typed else 1

    @property
    def _purchase(self) -> int:
        """The strongest interaction that occurs: the purchase, where the log has any."""
        counts = self._trained().counts
        return max(code for code, count in enumerate(counts) if count)

    def _kind(self, interaction: int) -> int:
        return interaction if self.config.typed else 0

    # -- storing ---------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        arrays = {"popularity": self._popularity, **_packed("items", self._vectors)}
        if self._sellers is not None:
            arrays |= _packed("sellers", self._sellers)
        for name, shelves in self._shelves.items():
            arrays |= {f"{name}-{field}": getattr(shelves, field) for field in ("group_of", "offsets", "items")}
        return arrays

    def _learned(self) -> dict[str, Any]:
        return self._chosen

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._chosen = dict(learned)
        self._popularity = arrays["popularity"]
        self._vectors = _unpacked("items", arrays)
        self._sellers = _unpacked("sellers", arrays) if "sellers-thing" in arrays else None
        self._shelves = {
            name: Shelves(*(arrays[f"{name}-{field}"] for field in ("group_of", "offsets", "items")))
            for name in ("seller", "category")
            if f"{name}-items" in arrays
        }
        self._searchers = {}

    # -- answers ---------------------------------------------------------------------------------------------------

    def spaces(self) -> dict[str, Space]:
        """One space for each target interaction (section 5.1), so that no search is filtered by interaction."""
        kinds = {self._space_kind(want, self._chosen["targets"]) for want in range(self._n_kinds)}
        spaces = {self._space_name(kind): self._vectors.space(kind) for kind in kinds}
        return {name: space for name, space in spaces.items() if len(space.items)}

    def attach(self, searchers: Mapping[str, Searcher]) -> None:
        """Search with these instead of exactly; keys are those of `spaces`."""
        self._searchers |= searchers

    def _space_kind(self, want: int, targets: str) -> int | None:
        """Which space holds the answers: that of the wanted interaction, or None for all targets together."""
        return want if self.config.typed and targets != "any" else None

    def _space_name(self, kind: int | None) -> str:
        return "any" if kind is None else self._trained().interactions.names[kind]

    def _searcher(self, want: int) -> Searcher:
        """The attached index of a space, else exact search in it."""
        kind = self._space_kind(want, self._chosen["targets"])
        name = self._space_name(kind)
        if name not in self._searchers:
            self._searchers[name] = Exact(self._vectors.space(kind))
        return self._searchers[name]

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """The k targets of interaction `want` nearest to each (item, seen_as); none where that pair has no vector."""
        each = self._n_kinds if self._chosen["targets"] == "any" else 1
        return _nearest(self._vectors, self._searcher(want), items, self._kind(seen_as), k, allowed, each=each)

    def candidates(self, request: Request) -> Candidates:
        """Lists of the asked item, of the basket's last item, or of the last actions; then the declared fallbacks.

        The `source` of a candidate is `item-interaction` for the pair itself, `item-interaction/INTERACTION` where the
        item had a vector for another interaction only, and `/seller`, `/category` or `/popularity` below that.
        """
        actions, want = self._actions(request), self._want(request)
        lists = self._related_rows(actions, want, request)
        answer = unite(lists, actions, want, self.system, request)
        for fallback in (self._by_other_interaction, self._by_seller, self._by_category, self._by_popularity):
            if len(answer) >= request.k:
                break
            answer = extend(answer, fallback(actions, want, request), request)
        return answer

    def _by_other_interaction(self, actions: list[tuple[int, int]], want: int, request: Request) -> Candidates:
        """For actions without a vector: the same item by its nearest other interaction (cart -> click), paper 5.3."""
        answer = NO_CANDIDATES
        for item, seen_as in actions:
            if not self.config.typed or self._vectors.rows(np.array([item], np.int32), seen_as)[0] >= 0:
                continue
            others = sorted(set(range(self._n_kinds)) - {seen_as}, key=lambda kind: (abs(kind - seen_as), kind))
            for other in others:
                (near,) = self._related_rows([(item, other)], want, request)
                if len(near[0]):
                    name = f"{self.system}/{self._trained().interactions.names[other]}"
                    answer = extend(answer, unite([near], [(item, other)], want, name, request), request)
                    break
        return answer

    def _by_seller(self, actions: list[tuple[int, int]], want: int, request: Request) -> Candidates:
        """Popular items of the sellers nearest to the action's seller, itself among them."""
        if self._sellers is None:
            return NO_CANDIDATES
        shelves, answer = self._shelves["seller"], NO_CANDIDATES
        searcher = Exact(self._sellers.space(self._space_kind(want, self._chosen["targets"])))
        for item, seen_as in actions:
            seller = shelves.group_of[[item]]
            kind = self._kind(seen_as)
            near = _nearest(self._sellers, searcher, seller, kind, NEAREST_SELLERS, each=self._n_kinds)[0][0]
            sellers = np.append(seller, near[near >= 0])
            items = [shelves.of_group(int(number))[: request.k] for number in sellers if number >= 0]
            if items:
                answer = extend(answer, self._ranked(np.concatenate(items), "seller"), request)
        return answer

    def _by_category(self, actions: list[tuple[int, int]], want: int, request: Request) -> Candidates:
        shelves, answer = self._shelves.get("category"), NO_CANDIDATES
        if shelves is not None:
            for item, _ in actions:
                popular = self._ranked(shelves.of_group(int(shelves.group_of[item])), "category")
                answer = extend(answer, popular, request)
        return answer

    def _by_popularity(self, actions: list[tuple[int, int]], want: int, request: Request) -> Candidates:
        order = np.argsort(-self._popularity, kind="stable").astype(np.int32)
        return self._ranked(order[self._popularity[order] > 0], "popularity")

    def _ranked(self, items: Items, step: str) -> Candidates:
        scores = self._popularity[items].astype(np.float32)
        return Candidates(items, scores, [f"{self.system}/{step}"] * len(items), no_evidence(len(items)))


class Sgns(ItemInteraction):
    """Untyped skip-gram with negatives, without and (`reg_k=3`) with the regulariser: the paper's own baselines."""

    system = "sgns"
    Config: ClassVar[type[msgspec.Struct]] = SgnsConfig
    search_space: ClassVar[SearchSpace] = SKIPGRAM_SPACE


def _nearest(
    vectors: TypedVectors,
    searcher: Searcher,
    things: Items,
    kind: int,
    k: int,
    allowed: NDArray[np.bool_] | None = None,
    *,
    each: int = 1,
) -> tuple[Items, Scores]:
    """(n, k) nearest other things and their scores; padded, and all padding where (thing, kind) has no vector.

    `each` says how often a thing may stand in the space that is searched.
    """
    found = np.full((len(things), k), -1, np.int32)
    scores = np.full((len(things), k), -np.inf, np.float32)
    rows = vectors.rows(things, kind)
    known = np.flatnonzero(rows >= 0)
    if k < 1 or len(known) == 0:
        return found, scores
    near, near_scores = searcher.search(vectors.queries[rows[known]], each * (k + 1), allowed)
    unwanted = near == things[known, None]
    if each > 1:
        unwanted |= _repeated(near)
    order = np.argsort(unwanted, axis=1, kind="stable")[:, :k]  # what is not wanted goes last and falls off
    near = np.where(unwanted, -1, near)
    found[known] = np.take_along_axis(near, order, 1)
    scores[known] = np.where(found[known] >= 0, np.take_along_axis(near_scores, order, 1), -np.inf)
    return found, scores


def _repeated(lists: Items) -> NDArray[np.bool_]:
    """True where a row has had the same item before: a thing may stand in a space once for each interaction."""
    order = np.argsort(lists, axis=1, kind="stable")
    ordered = np.take_along_axis(lists, order, 1)
    repeated = np.zeros(lists.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], 1)
    return repeated


def _lists_of(
    vectors: TypedVectors,
    searcher: Searcher,
    kind_of: Callable[[int], int],
    k: int,
    each: int,
    items: Items,
    seen_as: int,
) -> Items:
    return _nearest(vectors, searcher, items, kind_of(seen_as), k, each=each)[0]


def _codes(column: pa.ChunkedArray) -> tuple[Items, pa.Array]:
    """A text column as numbers of its distinct values, -1 for null, and these values."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    return encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int32), encoded.dictionary


def _initial_tables(rows: int, dim: int, seed: int) -> Tables:
    """Inputs from U(-1/d, 1/d), outputs zero: word2vec's start, twice as wide (it learns faster)."""
    inputs = (2 * np.random.default_rng(seed).random((rows, dim), dtype=np.float32) - 1) / np.float32(dim)
    return Tables(inputs, np.zeros((rows, dim), np.float32))


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _keep_probability(counts: NDArray[np.int64], threshold: float) -> NDArray[np.float32]:
    """word2vec's subsampling: sqrt(t / f) + t / f for a token of relative frequency f; 1 where it is off."""
    if threshold == 0:
        return np.ones(len(counts), np.float32)
    ratio = threshold * counts.sum() / np.maximum(counts, 1)
    return np.minimum(1, np.sqrt(ratio) + ratio).astype(np.float32)


FIELDS = ("row_of", "type_offsets", "thing", "queries", "targets")


def _packed(prefix: str, vectors: TypedVectors) -> dict[str, NDArray[Any]]:
    """Arrays to store; targets that are the queries (in-in cosine) are stored once."""
    arrays = {f"{prefix}-{field}": getattr(vectors, field) for field in FIELDS}
    if vectors.targets is vectors.queries:
        del arrays[f"{prefix}-targets"]
    return arrays


def _unpacked(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> TypedVectors:
    row_of, type_offsets, thing = (arrays[f"{prefix}-{field}"] for field in FIELDS[:3])
    queries = arrays[f"{prefix}-queries"]
    return TypedVectors(row_of, type_offsets, thing, queries, arrays.get(f"{prefix}-targets", queries))
