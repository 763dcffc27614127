"""Settings of graph cross-sell."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from endcap.nn.training import TrainingSettings

Encoder = Literal["hops", "sage", "sage-pool", "gat", "gatv2", "pinsage", "typed"]
ScoreBy = Literal["auto", "network", "evidence", "walk", "jaccard", "pagerank", "links", "next"]
STEPS, FEWEST, MOST = 32, 64, 4096  # of an epoch; baskets of a step
_TYPE = "(user|browse|category|brand|occasion)"


class CrossSellConfig(TrainingSettings, frozen=True, kw_only=True):
    """Settings of graph cross-sell."""

    encoder: Annotated[
        Encoder,
        Meta(description="hops: propagation alone; GraphSAGE, GAT, PinSage; typed: users, categories, brands too"),
    ] = "hops"
    dim: Annotated[int, Meta(ge=2, le=1024, description="length of vectors")] = 64
    layers: Annotated[int, Meta(ge=0, le=4, description="hops; 0: no graph")] = 2
    types: Annotated[
        str,
        Meta(
            pattern=f"^(all|none|{_TYPE}(,{_TYPE})*)$",
            description="typed: beside products user,browse,category,brand,occasion or some of them; all; none",
        ),
    ] = "all"
    directed: Annotated[bool, Meta(description="typed: what was bought after and before are relations")] = False
    window_days: Annotated[float, Meta(gt=0, le=365, description="directed: days until what is bought after")] = 30.0
    readout: Annotated[
        Literal["all", "last"], Meta(description="an item's vector: those of all layers side by side, or of the last")
    ] = "all"
    heads: Annotated[int, Meta(ge=1, description="of attention")] = 4
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of activations left out in training")] = 0.3
    links: Annotated[int, Meta(ge=1, description="partners of an item in the graph, at most")] = 100
    min_support: Annotated[int, Meta(ge=1, description="baskets behind a link, at least")] = 1
    half_life_days: Annotated[float, Meta(gt=0, description="age at which a basket counts half")] = 60.0
    fanout: Annotated[
        str,
        Meta(
            pattern="^([1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*)?$",
            description="train on so many neighbours of a product, of each of these, ..., as 25,10; empty: on all",
        ),
    ] = ""
    catalogue_links: Annotated[
        int, Meta(ge=0, le=100, description="what few have bought hears so many like it; typed: has relations instead")
    ] = 10
    unbought: Annotated[
        bool, Meta(description="what nobody has bought yet is answered, too, where the catalogue says what it is like")
    ] = True
    power: Annotated[
        float, Meta(ge=0, le=1, description="of a message's giver's size: 0 mean over partners, .5 symmetric")
    ] = 0.5
    largest: Annotated[
        int, Meta(ge=0, description="items of a basket that is learnt from, at most; 0: any up to 2,000")
    ] = 50
    text: Annotated[str, Meta(description="ngrams: of titles; vector_NAME: a column of the items; none")] = "ngrams"
    text_buckets: Annotated[int, Meta(ge=256, description="hash buckets of the n-grams")] = 1 << 17
    text_features: Annotated[int, Meta(ge=1, description="n-grams of a title, at most")] = 64
    id_embedding: Annotated[bool, Meta(description="add a row of the item's own")] = True
    id_dropout: Annotated[float, Meta(ge=0, lt=1, description="how often an item's own row is left out")] = 0.3
    temperature: Annotated[
        float, Meta(ge=0, description="vectors of length 1 and a learnt temperature from this; 0: plain products")
    ] = 0.0
    tied: Annotated[bool, Meta(description="one map for asking and answering: a symmetric score")] = False
    loss: Annotated[Literal["softmax", "bpr", "margin"], Meta(description="BPR and margin: against each negative")] = (
        "softmax"
    )
    margin: Annotated[float, Meta(gt=0, description="of the margin loss (PinSage: .1)")] = 0.1
    negatives: Annotated[int, Meta(ge=0, description="items drawn for a step, which share them; 0: all items")] = 2048
    negatives_exponent: Annotated[float, Meta(ge=0, le=2, description="drawn by baskets ** this; 0: evenly")] = 0.0
    in_batch: Annotated[bool, Meta(description="a step's other targets are negatives, beside what is drawn")] = True
    hard_negatives: Annotated[
        int, Meta(ge=0, le=50, description="of each question, at most: none in the first epoch, one more in each (6)")
    ] = 0
    hard_kinds: Annotated[
        Literal["both", "category", "pagerank"],
        Meta(description="never bought with the asking item: of its leaf, or 1-5 % of the products away by a walk"),
    ] = "both"
    next_weight: Annotated[
        float,
        Meta(ge=0, le=10, description="of a second question: the next basket by those before it (.5); 0: not asked"),
    ] = 0.0
    logq: Annotated[float, Meta(ge=0, le=1, description="how far the draw's chances are corrected; 0: not")] = 1.0
    spare_partners: Annotated[
        bool, Meta(description="what was ever bought with the asking items is never a negative of theirs")
    ] = False
    questions: Annotated[
        int, Meta(ge=1, description="products that a step asks for, at most; its other baskets are hidden alone")
    ] = 4096
    complement: Annotated[
        Literal["boosting", "logistic", "gnn", "none"],
        Meta(description="what tells complements from substitutes; none: everything passes as a complement"),
    ] = "boosting"
    looked_at: Annotated[int, Meta(ge=1, le=2000, description="nearest items that the score is worked out for")] = 200
    score_by: Annotated[
        ScoreBy,
        Meta(
            description="what scores pairs; auto: what validates best of the others but next; next: what a person "
            "buys next, by all they bought before"
        ),
    ] = "auto"
    evidence_baskets: Annotated[int, Meta(ge=1, description="baskets that teach it, out of the latest third")] = 5000
    evidence_products: Annotated[int, Meta(ge=1, description="products of each of them that it asks for")] = 3
    link_matchings: Annotated[int, Meta(ge=1, le=20, description="links: how often pairs of relations are hidden")] = 3
    link_pairs: Annotated[int, Meta(ge=1, description="links: pairs that are hidden and asked for each time")] = 4000
    rivals_hidden: Annotated[
        bool,
        Meta(description="links: hidden pairs are no substitutes either; true where what is asked for never is one"),
    ] = False
    damping: Annotated[
        float, Meta(ge=0, le=2, description="evidence, walk, jaccard, pagerank: this times log baskets is taken off")
    ] = 0.0
    floor: Annotated[float, Meta(ge=1, description="damping: fewer baskets than these count as these")] = 30.0
    particular: Annotated[
        float, Meta(ge=0, le=100, description="evidence, walk: weight of what goes together above all else; 0: none")
    ] = 0.0
    popularity: Annotated[
        float, Meta(ge=-2, le=2, description="added to scores: this times the log of a product's baskets")
    ] = 0.0
    validation: Annotated[float, Meta(gt=0, lt=0.5, description="share of the baskets that is not learnt")] = 0.05
    validation_metric: Annotated[str, Meta(pattern=r"^(mrr|hit_rate)@[1-9]\d*$", description="of the full ranking")] = (
        "mrr@10"
    )
    epochs: Annotated[int, Meta(ge=1, description="passes over the training part, at most")] = 30
    batch_size: Annotated[int, Meta(ge=0, description="baskets of a step; 0: a 32nd of all, from 64 to 4,096")] = 0
    learning_rate: Annotated[float, Meta(gt=0, description="after the warm-up")] = 5e-3

    def __post_init__(self) -> None:
        if self.encoder in ("gat", "gatv2") and self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is no multiple of heads={self.heads}")
        if self.encoder != "typed" and (self.types != "all" or self.directed):
            raise ValueError(f"types and directed are of the typed graph: set encoder=typed, not {self.encoder}")
        if self.fanout and self.encoder in ("typed", "pinsage"):
            raise ValueError(f"fanout: encoder={self.encoder} trains on the whole graph; leave it out")
        if self.fanout and len(self.drawn) != self.layers:
            raise ValueError(f"fanout={self.fanout}, layers={self.layers}: a number for each layer is needed")
        if self.fanout and self.next_weight:
            raise ValueError("fanout and next_weight: a user's earlier baskets are not sampled; leave one of them out")
        if "browse" in self.types and "user" not in self.typed:
            raise ValueError(f"types={self.types}: users browse; add user to the types")
        if self.hard_kinds != "both" and not self.hard_negatives:
            raise ValueError(f"hard_kinds={self.hard_kinds}: say how many, hard_negatives=6")
        if not self.in_batch and not self.negatives:
            raise ValueError("in_batch=false, negatives=0: all items are negatives, those of the batch among them")
        traded = next((name for name in ("damping", "particular") if getattr(self, name)), None)
        if traded and self.score_by == "network":
            raise ValueError(f"{traded} is of the evidence: set score_by=evidence, or use popularity")

    def baskets_of_step(self, baskets: int) -> int:
        """How many of so many baskets a step takes: few steps over few baskets would learn next to nothing."""
        return self.batch_size or min(max(-(-baskets // STEPS), FEWEST), MOST)

    @property
    def drawn(self) -> tuple[int, ...]:
        """Neighbours that a step draws for each layer, the last one's first; none: it hears all."""
        return tuple(map(int, self.fanout.split(","))) if self.fanout else ()

    @property
    def likenesses(self) -> int:
        """How many products like it a product hears that few have bought; typed graphs have relations for that."""
        return 0 if self.encoder == "typed" else self.catalogue_links

    @property
    def typed(self) -> frozenset[str]:
        """The types of nodes beside products."""
        if self.types == "all":
            return frozenset({"user", "category", "brand", "occasion"})
        return frozenset(self.types.split(",")) - {"none", "browse"}

    @property
    def browses(self) -> bool:
        """Whether what users looked at is a relation."""
        return self.types == "all" or "browse" in self.types
