"""From the actions of one person to several interest vectors. ComiRec (KDD '20), MIND (CIKM '19), REMI (RecSys '23)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttentiveInterests(nn.Module):
    """ComiRec-SA: A = softmax over actions of W2' tanh(W1 (H + P)), V = H A; P by distance from the end."""

    def __init__(self, dim: int, n_interests: int, longest: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(longest, dim) * 0.02)
        self.hidden = nn.Linear(dim, 4 * dim, bias=False)
        self.logits = nn.Linear(4 * dim, n_interests, bias=False)

    def forward(self, actions: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """actions (B, T, d), known (B, T) bool -> interests (B, K, d) and attention (B, K, T)."""
        from_end = self.positions[: actions.shape[1]].flip(0)
        logits = self.logits(torch.tanh(self.hidden(actions + from_end)))
        logits = logits.masked_fill(~known[:, :, None], -1e9)
        attention = torch.softmax(logits, dim=1).transpose(1, 2)
        return attention @ actions, attention


class RoutedInterests(nn.Module):
    """Dynamic routing of actions to interests, gradients through the last round only.

    ComiRec-DR has a matrix for each place (from the end) and interest, and routing logits that begin at 0; MIND has
    one matrix for all and fixed random logits. The softmax runs over the interests of an action.
    """

    def __init__(self, dim: int, n_interests: int, longest: int, *, shared: bool, rounds: int = 3) -> None:
        super().__init__()
        self.n_interests, self.rounds, self.shared = n_interests, rounds, shared
        shape = (1, 1, dim, dim) if shared else (longest, n_interests, dim, dim)
        self.maps = nn.Parameter(torch.randn(shape) * dim**-0.5)
        first = torch.randn(n_interests, longest) if shared else torch.zeros(n_interests, longest)
        self.register_buffer("first_logits", first)

    def forward(self, actions: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """actions (B, T, d), known (B, T) bool -> interests (B, K, d) and routing weights (B, K, T)."""
        batch, length, dim = actions.shape
        if self.shared:
            mapped = (actions @ self.maps[0, 0].T)[:, None].expand(batch, self.n_interests, length, dim)
        else:
            from_end = self.maps[:length].flip(0)
            mapped = torch.einsum("tkij,btj->bkti", from_end, actions)
        logits = self.first_logits[:, :length].flip(1).expand(batch, self.n_interests, length)
        held = mapped.detach()
        for turn in range(self.rounds):
            weights = torch.softmax(logits, dim=1) * known[:, None, :]
            last = turn == self.rounds - 1
            interests = _squash((weights[..., None] * (mapped if last else held)).sum(2))
            if not last:
                logits = logits + (held * interests[:, :, None, :]).sum(-1)
        return interests, weights


class MeanInterest(nn.Module):
    """One interest: the mean of the actions."""

    def forward(self, actions: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """actions (B, T, d), known (B, T) bool -> interests (B, 1, d) and weights (B, 1, T)."""
        weights = known[:, None, :].to(actions.dtype)
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1)
        return weights @ actions, weights


def routing_penalty(attention: Tensor, known: Tensor) -> Tensor:
    """REMI's guard against interests that settle on single actions: the squared variances of each interest's weights.

    attention (B, K, T), known (B, T) -> scalar, the mean over people of the squared norm of diag Cov(A).
    """
    n = known.sum(1)[:, None].clamp_min(1)
    mean = (attention * known[:, None]).sum(2) / n
    variance = (((attention - mean[:, :, None]) * known[:, None]) ** 2).sum(2) / n
    return (variance**2).sum(1).mean()


def _squash(vectors: Tensor) -> Tensor:
    """|s|^2 / (1 + |s|^2) * s / |s|."""
    square = (vectors**2).sum(-1, keepdim=True)
    return vectors * (square.sqrt() / (1 + square)).nan_to_num()
