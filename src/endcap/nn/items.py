"""Item embeddings from what is known of an item: text, category path, brand, price, given vectors, and its id."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """Features of n items as numbers; what a shop does not have is None.

    Attributes:
        text_offsets (n + 1,), text: rows of the text table of item i are text[text_offsets[i]:text_offsets[i + 1]];
        text_weight: float32, how much each of these rows counts;
        category (n, levels), brand (n,), price (n,): rows of their tables, 0 where unknown;
        vectors (n, m) float32: given from outside, NaN rows where unknown; id (n,): rows of the id table, -1 for none.
    """

    n: int
    text_offsets: NDArray[np.int64] | None = None
    text: NDArray[np.int64] | None = None
    text_weight: NDArray[np.float32] | None = None
    category: NDArray[np.int64] | None = None
    brand: NDArray[np.int64] | None = None
    price: NDArray[np.int64] | None = None
    vectors: NDArray[np.float32] | None = None
    id: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.n

    @property
    def described(self) -> NDArray[np.bool_]:
        """(n,): items that something besides their id is known of."""
        known = np.zeros(self.n, bool)
        if self.text_offsets is not None:
            known |= np.diff(self.text_offsets) > 0
        if self.category is not None:
            known |= (self.category > 0).any(1)
        for codes in (self.brand, self.price):
            if codes is not None:
                known |= codes > 0
        if self.vectors is not None:
            known |= ~np.isnan(self.vectors).any(1)
        return known


@dataclass(frozen=True)
class ItemSizes:
    """Rows of an item embedding's tables; 0: there is no such part."""

    text: int = 0
    category: int = 0
    brand: int = 0
    price: int = 0
    vectors: int = 0  # length of the given vectors
    id: int = 0

    @property
    def parts(self) -> int:
        """How many parts besides the id there are."""
        return sum(map(bool, (self.text, self.category, self.brand, self.price, self.vectors)))


class ItemEmbedding(nn.Module):
    """e = sum of parts + MLP([parts]) + id, of text, category, brand, price and a given vector (2.1 of the notes).

    The text's part is the sum of its n-grams' rows by TF-IDF, of length 1. As the MLP begins near 0, two texts begin
    about as near to each other as TF-IDF finds them, which new items profit from.

    The id's row is left out at random in training, so that items without one are not strange to what follows. With no
    part but the id, e is the id's row. With `text_dropout` so are n-grams: what an item is known by is then spread over
    its words, which new items have, too.
    """

    def __init__(self, dim: int, sizes: ItemSizes, id_dropout: float, text_dropout: float = 0.0) -> None:
        super().__init__()
        self.text_dropout = text_dropout
        self.sizes, self.dim, self.id_dropout = sizes, dim, id_dropout if sizes.parts else 0.0
        self.text = nn.EmbeddingBag(sizes.text, dim, mode="sum") if sizes.text else None
        self.category = _table(sizes.category, dim)
        self.brand = _table(sizes.brand, dim)
        self.price = _table(sizes.price, dim)
        self.vectors = nn.Linear(sizes.vectors, dim) if sizes.vectors else None
        self.id = _table(sizes.id, dim)
        if self.text is not None:
            nn.init.normal_(self.text.weight, std=dim**-0.5)
        if sizes.parts:
            width = sizes.parts * dim
            self.mix: nn.Module | None = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 2 * dim), nn.GELU(), last := nn.Linear(2 * dim, dim)
            )
            nn.init.zeros_(last.weight)
            nn.init.normal_(last.bias, std=0.1 * dim**-0.5)  # where nothing is known, 0 has no direction to learn
        else:
            self.mix = None

    def forward(self, features: ItemFeatures, items: NDArray[np.int64]) -> Tensor:
        """The vectors (n, d) of the items with these row numbers in `features`."""
        device = self._device
        parts = []
        if self.text is not None and features.text is not None and features.text_offsets is not None:
            flat, offsets = ranges(features.text_offsets, items)
            arrays = features.text[flat], offsets, features.text_weight[flat]  # type: ignore[index]
            rows, offsets, weights = (torch.from_numpy(array).to(device) for array in arrays)
            weights = functional.dropout(weights, self.text_dropout, self.training)
            parts.append(self.text(rows, offsets, per_sample_weights=weights))
        coded = ((self.category, features.category), (self.brand, features.brand), (self.price, features.price))
        for table, codes in coded:
            if table is not None and codes is not None:
                rows = table(torch.from_numpy(codes[items]).to(device))
                parts.append(rows.sum(1) if rows.ndim == 3 else rows)
        if self.vectors is not None and features.vectors is not None:
            given = torch.from_numpy(np.asarray(features.vectors[items], np.float32)).to(device)
            parts.append(self.vectors(given.nan_to_num()) * (~given.isnan().any(1))[:, None])
        mixed = sum(parts) + self.mix(torch.cat(parts, dim=1)) if self.mix is not None else None
        if self.id is None or features.id is None:
            assert mixed is not None
            return mixed
        rows = torch.from_numpy(features.id[items]).to(device)
        own = self.id(rows.clamp_min(0)) * (rows >= 0)[:, None]
        if mixed is None:
            return own
        if self.training and self.id_dropout:
            own = own * (torch.rand(len(own), 1, device=device) >= self.id_dropout)
        return mixed + own

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device


def ranges(offsets: NDArray[np.int64], rows: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places offsets[r]:offsets[r + 1] of some rows, one after the other, and where each row's begin: (n,)."""
    lengths = offsets[rows + 1] - offsets[rows]
    begins = np.cumsum(lengths) - lengths
    flat = np.repeat(offsets[rows] - begins, lengths) + np.arange(int(lengths.sum()))
    return flat, begins


class CoActionAggregation(nn.Module):
    """z = e + sum over relations of gamma_r h_r, attention over an item's neighbours (2.3 of the notes).

        alpha_r(q, j) = softmax_j((Wq_r e_q) . (Wk_r e_j) / sqrt(d) + beta_r log(eps + s_r(q, j)))
        h_r(q) = sum_j alpha_r(q, j) Wv_r e_j, 0 for an item without neighbours

    gamma is 1, or with `gated` sigmoid(u_r . [e; h; log1p(neighbours)]). All W begin as the identity.
    """

    def __init__(self, dim: int, relations: int, *, gated: bool, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Parameter(torch.eye(dim).repeat(relations, 1, 1)) for _ in range(3))
        self.beta = nn.Parameter(torch.ones(relations))
        self.gate = nn.Parameter(torch.zeros(relations, 2 * dim + 1)) if gated else None
        self.dropout = dropout

    def forward(self, own: Tensor, around: Tensor, near: Tensor, strength: Tensor) -> Tensor:
        """
        Args:
            own: (n, d), e of the items; around: (m, d), e of all items that are anyone's neighbours;
            near: (relations, n, M), rows of `around`, -1 pads; strength: (relations, n, M), s of the neighbours.

        Returns:
            (n, d).
        """
        total = own
        for relation, (rows, share) in enumerate(zip(near, strength, strict=True)):
            known = rows >= 0
            if self.training and self.dropout:
                known = known & (torch.rand(rows.shape, device=rows.device) >= self.dropout)
            index = rows.clamp_min(0)
            keys = functional.embedding(index, around @ self.key[relation].T)  # (n, M, d)
            asked = own @ self.query[relation].T
            logits = (keys @ asked[:, :, None])[..., 0] * own.shape[1] ** -0.5
            logits = logits + self.beta[relation] * torch.log(1e-6 + share)
            weights = torch.softmax(logits.masked_fill(~known, -1e9), dim=1) * known
            values = functional.embedding(index, around @ self.value[relation].T)
            message = (weights[:, None, :] @ values)[:, 0]
            if self.gate is not None:
                count = torch.log1p(known.sum(1, keepdim=True).to(own.dtype))
                message = message * torch.sigmoid(torch.cat([own, message, count], 1) @ self.gate[relation])[:, None]
            total = total + message
        return total


def _table(rows: int, dim: int) -> nn.Embedding | None:
    """A table with a row 0 for what is unknown."""
    if rows == 0:
        return None
    table = nn.Embedding(rows, dim)
    nn.init.normal_(table.weight, std=0.1)
    return table
