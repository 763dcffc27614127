"""Sequence models of one history: SASRec, GRU4Rec, ComiRec, on the blocks and the training loop of the house.

    Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM '18 (SASRec);
    Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR '16 (GRU4Rec);
    Cen et al., "Controllable Multi-Interest Framework for Recommendation", KDD '20 (ComiRec).

All three know an item by its number alone. The first two learn at every position of a sequence what comes next; ComiRec
learns from cuts, with the interest nearest to the target. The papers' losses differ (binary, ranking, sampled softmax);
here the default is one sampled softmax for all, which is the better one on small catalogues, and `loss` gives SASRec's.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from endcap.models.history_model import HistoryConfig, HistoryModel, Interests, TwoTowers, check_heads
from endcap.models.search_space import OneOf, Range, SearchSpace
from endcap.nn.attention import CausalBlock, causal_bias
from endcap.nn.histories import Past
from endcap.nn.interests import RoutedInterests, SelfAttentiveInterests

SPACE: SearchSpace = {
    "dim": OneOf(32, 64, 128),
    "learning_rate": Range(3e-4, 3e-3, log=True),
    "dropout": Range(0.1, 0.6),
}


class IdTowers(TwoTowers):
    """An item is a row of a table."""

    def __init__(self, config: HistoryConfig, n_items: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items, config.dim)
        nn.init.normal_(self.table.weight, std=0.1)
        self.log_scale = nn.Parameter(torch.tensor(-np.log(config.temperature or 1.0), dtype=torch.float32))

    def items(self, numbers: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        return self.table(torch.from_numpy(numbers).to(self.table.weight.device)), None

    def users(self, vectors: Tensor, past: Past) -> Interests:
        """One interest: the state after the last action."""
        state = self.states(vectors, past)[:, -1:]
        last = torch.zeros(len(state), 1, vectors.shape[1], device=vectors.device)
        last[:, :, -1] = 1
        return Interests(state, last, vectors)


class SASRecConfig(HistoryConfig, frozen=True, kw_only=True):
    """Settings of SASRec."""

    layers: Annotated[int, Meta(ge=1, le=8, description="transformer blocks")] = 2
    heads: Annotated[int, Meta(ge=1, description="of each block")] = 2
    readout: Annotated[
        str, Meta(pattern="^(last|mean)$", description="last: a person is the last state; mean: that of all so far")
    ] = "last"
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of activations left out in training")] = 0.4

    def __post_init__(self) -> None:
        check_heads(self.dim, self.heads)


class SASRec(HistoryModel):
    """A causal transformer; what it foresees is the state at the last position.

    `readout=mean` takes the mean of the states so far instead, as ReChorus does (there without the causal mask).
    """

    system = "sasrec"
    Config = SASRecConfig
    config: SASRecConfig
    search_space: ClassVar[SearchSpace] = {**SPACE, "layers": OneOf(1, 2)}
    by_position = True

    def _module_of(self, n_items: int) -> TwoTowers:
        return SASRecTowers(self.config, n_items)


class SASRecTowers(IdTowers):
    def __init__(self, config: SASRecConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        self.positions = nn.Parameter(torch.randn(config.longest, config.dim) * 0.02)  # by distance from the end
        self.blocks = nn.ModuleList(CausalBlock(config.dim, config.heads, config.dropout) for _ in range(config.layers))
        self.norm, self.dropout = nn.LayerNorm(config.dim), nn.Dropout(config.dropout)
        self.readout = config.readout

    def users(self, vectors: Tensor, past: Past) -> Interests:
        found = super().users(vectors, past)
        if self.readout == "last":
            return found
        known = torch.from_numpy(past.items >= 0).to(vectors)
        return found._replace(weights=(known / known.sum(1, keepdim=True).clamp_min(1))[:, None])

    def states(self, vectors: Tensor, past: Past) -> Tensor:
        known = torch.from_numpy(past.items >= 0).to(vectors.device)
        actions = self.dropout(vectors * vectors.shape[-1] ** 0.5 + self.positions[: vectors.shape[1]].flip(0))
        bias = causal_bias(known)
        for block in self.blocks:
            actions = block(actions, bias)
        states = self.norm(actions)
        if self.readout == "last":
            return states
        counted = known[..., None].to(states)
        return (states * counted).cumsum(1) / counted.cumsum(1).clamp_min(1)


class GRU4RecConfig(HistoryConfig, frozen=True, kw_only=True):
    """Settings of GRU4Rec."""

    hidden: Annotated[int, Meta(ge=1, le=2048, description="length of the recurrent state")] = 100
    layers: Annotated[int, Meta(ge=1, le=4, description="recurrent layers")] = 1


class GRU4Rec(HistoryModel):
    """A gated recurrent network; what it foresees is a map of its last state."""

    system = "gru4rec"
    Config = GRU4RecConfig
    config: GRU4RecConfig
    search_space: ClassVar[SearchSpace] = SPACE
    by_position = True

    def _module_of(self, n_items: int) -> TwoTowers:
        return GRU4RecTowers(self.config, n_items)


class GRU4RecTowers(IdTowers):
    def __init__(self, config: GRU4RecConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        self.recurrent = nn.GRU(config.dim, config.hidden, config.layers, batch_first=True)
        self.out, self.dropout = nn.Linear(config.hidden, config.dim), nn.Dropout(config.dropout)

    def states(self, vectors: Tensor, past: Past) -> Tensor:
        """Sequences are moved to the left for the recurrence, so that what pads them cannot reach a state."""
        known = torch.from_numpy(past.items >= 0).to(vectors.device)
        missing = (~known).sum(1)
        length = vectors.shape[1]
        places = torch.arange(length, device=vectors.device)
        left = ((places + missing[:, None]) % length)[:, :, None]
        moved = torch.take_along_dim(self.dropout(vectors), left, 1)
        states = self.out(self.dropout(self.recurrent(moved)[0]))
        right = ((places - missing[:, None]) % length)[:, :, None]
        return torch.take_along_dim(states, right, 1)


class ComiRecConfig(HistoryConfig, frozen=True, kw_only=True):
    """Settings of ComiRec."""

    interests: Annotated[int, Meta(ge=1, le=64, description="vectors of a person, K (paper: 4)")] = 4
    extraction: Annotated[
        str, Meta(pattern="^(self-attentive|routing|mind)$", description="ComiRec-SA, ComiRec-DR, or MIND")
    ] = "self-attentive"
    longest: Annotated[int, Meta(ge=1, le=1000, description="actions of a past that are looked at")] = 20


class ComiRec(HistoryModel):
    """Several interests of a person's actions, without anything between the actions."""

    system = "comirec"
    Config = ComiRecConfig
    config: ComiRecConfig
    search_space: ClassVar[SearchSpace] = {**SPACE, "interests": OneOf(2, 4, 8)}

    def _module_of(self, n_items: int) -> TwoTowers:
        return ComiRecTowers(self.config, n_items)


class ComiRecTowers(IdTowers):
    def __init__(self, config: ComiRecConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        if config.extraction == "self-attentive":
            self.extraction: nn.Module = SelfAttentiveInterests(config.dim, config.interests, config.longest)
        else:
            shared = config.extraction == "mind"
            self.extraction = RoutedInterests(config.dim, config.interests, config.longest, shared=shared)
        self.dropout = nn.Dropout(config.dropout)

    def users(self, vectors: Tensor, past: Past) -> Interests:
        known = torch.from_numpy(past.items >= 0).to(vectors.device)
        actions = self.dropout(vectors)
        interests, weights = self.extraction(actions, known)
        return Interests(interests, weights, actions)
