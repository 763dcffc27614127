"""Attention over a person's actions: with features of every ordered pair, in bounded memory, and causal.

A pair's edge vector is a sum of rows of small tables, rho_ij = sum_f R_f[code_f(i, j)]. So no (B, T, T, d) tensor is
needed: a logit's edge part is one of the few numbers u_i . R_f[c], picked by the code, and a message's edge part is
the attention that falls on each code times the table. What is kept for the gradient is the codes, one byte each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from endcap.nn.pair_codes import collect, pick


class PickByCode(torch.autograd.Function):
    """`pair_codes.pick` of the codes' numbers, and its gradient, which is `collect`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, codes: Tensor) -> Tensor:
        """values (B, H, T, C), codes (B, T, T, F) uint8 -> (B, H, T, T)."""
        ctx.save_for_backward(codes)
        ctx.n_codes = values.shape[-1]
        return pick(values, codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return collect(gradient, ctx.saved_tensors[0], ctx.n_codes), None


class CollectByCode(torch.autograd.Function):
    """`pair_codes.collect` of attention by code, and its gradient, which is `pick`."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, codes: Tensor, n_codes: int) -> Tensor:
        """weights (B, H, T, T), codes (B, T, T, F) uint8 -> (B, H, T, C)."""
        ctx.save_for_backward(codes)
        return collect(weights, codes, n_codes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return pick(gradient, ctx.saved_tensors[0]), None, None


class EdgeAttention(nn.Module):
    """One layer of attention with messages that depend on the pair (2.5 of the notes on CoActionGraphRec).

        m_ij = W_m x_j + W_r rho_ij
        l_ij = (W_q x_i) . (W_k x_j + W_kr rho_ij) / sqrt(d_h) + b . rho_ij
        x'_i = LayerNorm(x_i + Dropout(W_o sum_j softmax_j(l_ij) m_ij)), then the same around a feed-forward network

    Args:
        n_codes: rows of all features' tables together; 0: plain attention.
    """

    def __init__(self, dim: int, heads: int, n_codes: int, dropout: float, *, feed_forward: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_message = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        if n_codes:
            self.tables = nn.Parameter(torch.randn(n_codes, dim) * 0.02)  # R_f, one after the other
            self.edge_key = nn.Linear(dim, dim, bias=False)  # W_kr
            self.edge_message = nn.Linear(dim, dim, bias=False)  # W_r
            self.edge_bias = nn.Linear(dim, heads, bias=False)  # b
        self.feed_forward = _FeedForward(dim, dropout) if feed_forward else None

    def forward(self, actions: Tensor, known: Tensor, codes: Tensor | None) -> Tensor:
        """actions (B, T, d), known (B, T) bool, codes (B, T, T, F) uint8: rows of the tables -> (B, T, d)."""
        query, key, message = (self._split(part) for part in self.query_key_message(actions).chunk(3, dim=-1))
        scale = query.shape[-1] ** -0.5
        logits = query @ key.transpose(2, 3) * scale
        if codes is not None:
            edge_keys = self._split(self.edge_key(self.tables)[None])[0]  # (H, C, d_h)
            by_code = torch.einsum("bhid,hcd->bhic", query, edge_keys) * scale
            by_code = by_code + self.edge_bias(self.tables).T[None, :, None, :]
            logits = logits + PickByCode.apply(by_code, codes)
        logits = logits.masked_fill(~known[:, None, None, :], -1e9)
        weights = torch.softmax(logits, dim=-1)
        mixed = weights @ message
        if codes is not None:
            on_codes = CollectByCode.apply(weights, codes, len(self.tables))
            edge_messages = self._split(self.edge_message(self.tables)[None])[0]
            mixed = mixed + torch.einsum("bhic,hcd->bhid", on_codes, edge_messages)
        joined = mixed.transpose(1, 2).flatten(2)
        actions = self.norm(actions + self.dropout(self.out(joined)))
        return actions if self.feed_forward is None else self.feed_forward(actions)

    def _split(self, vectors: Tensor) -> Tensor:
        """(B, T, d) -> (B, H, T, d_h)."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class _FeedForward(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * dim, dim), nn.Dropout(dropout)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, actions: Tensor) -> Tensor:
        return self.norm(actions + self.net(actions))


class CausalBlock(nn.Module):
    """A transformer block in which an action sees itself and what came before (SASRec's, norms first)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.before_attention, self.before_network = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.network = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, actions: Tensor, bias: Tensor) -> Tensor:
        """actions (B, T, d), bias (B, 1, T, T): 0 where i may see j, else -inf -> (B, T, d)."""
        parts = self.query_key_value(self.before_attention(actions)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        rate = self.rate if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=rate)
        actions = actions + self.dropout(self.out(mixed.transpose(1, 2).flatten(2)))
        return actions + self.dropout(self.network(self.before_network(actions)))


def causal_bias(known: Tensor) -> Tensor:
    """known (B, T) -> (B, 1, T, T): 0 where j <= i and j is known, or j = i, else -inf."""
    length = known.shape[1]
    lower = torch.ones(length, length, dtype=torch.bool, device=known.device).tril()
    own = torch.eye(length, dtype=torch.bool, device=known.device)
    open_to = (lower & known[:, None, :]) | own
    return torch.zeros(open_to.shape, device=known.device).masked_fill(~open_to, float("-inf"))[:, None]
