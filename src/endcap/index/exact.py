"""Exact search: a matrix product and a selection; the reference that HNSW is measured against."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, Scores, Space
from endcap.index.top import exact_top

META = "index.json"
GATHER_BELOW = 0.25  # below this share of allowed rows it is cheaper to copy them out than to score all


class Exact:
    """All vectors are scored. Order: higher score first, then lower item number.

    Args:
        space: items (n,) and finite vectors (n, d), kept without a copy.
        longest: the largest norm among the vectors, where it is known.
    """

    kind = "exact"

    def __init__(self, space: Space, longest: float | None = None) -> None:
        self.items, self.vectors = space.items, space.vectors
        self.longest = longest_norm(space.vectors) if longest is None else longest

    def __len__(self) -> int:
        return len(self.items)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `answers.Searcher`; `allowed` is (n_items,) bool by item number."""
        if allowed is None:
            return exact_top(queries, self.vectors, self.items, k, self.longest)
        mask = rows_allowed(self.items, allowed)
        if np.count_nonzero(mask) >= GATHER_BELOW * len(self):
            return exact_top(queries, self.vectors, self.items, k, self.longest, mask)
        return self.search_rows(queries, k, np.flatnonzero(mask))

    def search_rows(self, queries: NDArray[np.float32], k: int, rows: NDArray[np.integer]) -> tuple[Items, Scores]:
        """Search among some rows of the space only."""
        return exact_top(queries, self.vectors[rows], self.items[rows], k, self.longest)

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "items.npy", self.items, allow_pickle=False)
        np.save(folder / "vectors.npy", self.vectors, allow_pickle=False)
        (folder / META).write_text(json.dumps({"kind": self.kind, "longest": self.longest}), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, meta: dict[str, float]) -> Exact:
        """Map what `save` wrote."""
        items, vectors = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("items", "vectors"))
        return cls(Space(items, vectors), meta["longest"])


def longest_norm(vectors: NDArray[np.float32]) -> float:
    """The largest Euclidean norm of (n, d) vectors; 0 for none."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))


def rows_allowed(items: Items, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) bool: the rows of a space that a mask over item numbers allows; numbers beyond the mask are not."""
    if len(items) == 0 or len(allowed) == 0:
        return np.zeros(len(items), np.bool_)
    return allowed[np.minimum(items, len(allowed) - 1)] & (items < len(allowed))
