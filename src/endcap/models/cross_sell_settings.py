"""Settings of graph cross-sell."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from endcap.nn.training import TrainingSettings

Encoder = Literal["hops", "sage", "sage-pool", "gat", "gatv2", "pinsage"]


class CrossSellConfig(TrainingSettings, frozen=True, kw_only=True):
    """Settings of graph cross-sell."""

    encoder: Annotated[
        Encoder,
        Meta(description="hops: propagation, all hops side by side; or GraphSAGE, GAT, PinSage between them"),
    ] = "hops"
    dim: Annotated[int, Meta(ge=2, le=1024, description="length of vectors")] = 64
    layers: Annotated[int, Meta(ge=0, le=4, description="hops; 0: no graph")] = 2
    heads: Annotated[int, Meta(ge=1, description="of attention")] = 4
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of activations left out in training")] = 0.3
    links: Annotated[int, Meta(ge=1, description="partners of an item in the graph, at most")] = 100
    min_support: Annotated[int, Meta(ge=1, description="baskets behind a link, at least")] = 1
    half_life_days: Annotated[float, Meta(gt=0, description="age at which a basket counts half")] = 60.0
    power: Annotated[
        float, Meta(ge=0, le=1, description="of a message's giver's size: 0 mean over partners, .5 symmetric")
    ] = 0.5
    largest: Annotated[int, Meta(ge=0, description="items of a basket that is learnt from, at most; 0: any")] = 50
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
    logq: Annotated[float, Meta(ge=0, le=1, description="how far the draw's chances are corrected; 0: not")] = 1.0
    spare_partners: Annotated[
        bool, Meta(description="what was ever bought with the asking items is never a negative of theirs")
    ] = False
    questions: Annotated[
        int, Meta(ge=1, description="products that a step asks for, at most; its other baskets are hidden alone")
    ] = 4096
    complement: Annotated[
        Literal["boosting", "logistic", "none"],
        Meta(description="what tells complements from substitutes; none: everything passes as a complement"),
    ] = "boosting"
    looked_at: Annotated[int, Meta(ge=1, le=2000, description="nearest items that the score is worked out for")] = 200
    evidence: Annotated[
        bool, Meta(description="a small network over evidence of pairs gives `score`; lists keep the graph network's")
    ] = False
    evidence_baskets: Annotated[int, Meta(ge=1, description="baskets that it learns from, at most a third")] = 5000
    evidence_products: Annotated[int, Meta(ge=1, description="products of each of them that it asks for")] = 3
    damping: Annotated[float, Meta(ge=0, le=2, description="evidence: this times log baskets is taken off")] = 0.0
    floor: Annotated[float, Meta(ge=1, description="evidence: fewer baskets than these count as these")] = 30.0
    popularity: Annotated[
        float, Meta(ge=-2, le=2, description="added to scores: this times the log of a product's baskets")
    ] = 0.0
    validation: Annotated[float, Meta(gt=0, lt=0.5, description="share of the baskets that is not learnt")] = 0.05
    validation_metric: Annotated[str, Meta(pattern=r"^(mrr|hit_rate)@[1-9]\d*$", description="of the full ranking")] = (
        "mrr@10"
    )
    epochs: Annotated[int, Meta(ge=1, description="passes over the training part, at most")] = 30
    batch_size: Annotated[int, Meta(ge=1, description="baskets of a step")] = 4096
    learning_rate: Annotated[float, Meta(gt=0, description="after the warm-up")] = 5e-3

    def __post_init__(self) -> None:
        if self.encoder in ("gat", "gatv2") and self.dim % self.heads:
            raise ValueError(f"dim={self.dim} is no multiple of heads={self.heads}")
        if self.damping and not self.evidence:
            raise ValueError(f"damping={self.damping:g} is of the evidence: set evidence=true, or use popularity")
