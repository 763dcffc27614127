"""What each item of a trained GAT listens to: the attention of its last layer, kept for people to read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from endcap.answers import Items, Reason
from endcap.models.complement.counts import places
from endcap.models.cross_sell.towers import Towers


class Attention(NamedTuple):
    """Attention in CSR form: item i hears items[offsets[i]:offsets[i + 1]], and so much of each.

    Attributes:
        weights: (edges, heads) float32; those of an item add up to 1, head by head.
    """

    offsets: NDArray[np.integer]
    items: NDArray[np.integer]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, towers: Towers) -> Self | None:
        """On the graph that the network has; None for networks without attention."""
        with torch.no_grad():
            found = towers.attention()
        if found is None:
            return None
        graph, weights = found
        return cls(graph.offsets, graph.columns, weights.cpu().numpy())

    def strongest(self, item: int, k: int) -> tuple[Items, NDArray[np.float32], NDArray[np.float32]]:
        """The k items (m,) that one listens to most, their mean attention (m,), and that of each head (m, heads)."""
        row = slice(self.offsets[item], self.offsets[item + 1])
        weights = np.asarray(self.weights[row])
        mean = weights.mean(axis=1)
        best = np.argsort(-mean, kind="stable")[:k]
        return np.asarray(self.items[row])[best].astype(np.int32), mean[best], weights[best]

    def reasons(self, item: int, asked: Items) -> list[Reason]:
        """How much of what an item hears comes from those that were asked with."""
        near, mean, _ = self.strongest(item, len(self.items))
        order = np.argsort(near)
        place = places(near[order], asked)
        heard = ((other, mean[order][at]) for other, at in zip(asked.tolist(), place.tolist(), strict=True) if at >= 0)
        return [Reason("relation", item=other, value=float(share), note="attention") for other, share in heard]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name."""
        return self._asdict()

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self | None:
        """What `arrays` gave; None where there was nothing."""
        return cls(**arrays) if arrays else None
