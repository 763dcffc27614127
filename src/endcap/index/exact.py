"""Exact search: a matrix product and a selection; the reference that HNSW is measured against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, Scores, Space
from endcap.artefact import save_array
from endcap.index.filters import Filtered, Filters
from endcap.index.top import check_question, exact_top

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
        self._filters = Filters(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `answers.Searcher`; `allowed` is (n_items,) bool by item number."""
        check_question(queries, k, self.vectors.shape[1], allowed)
        if allowed is None:
            return exact_top(queries, self.vectors, self.items, k, self.longest)
        return self.search_filtered(queries, k, self._filters.of(allowed))

    def search_filtered(self, queries: NDArray[np.float32], k: int, filtered: Filtered) -> tuple[Items, Scores]:
        """Search among some rows of the space only."""
        if filtered.n_allowed >= GATHER_BELOW * len(self):
            return exact_top(queries, self.vectors, self.items, k, self.longest, filtered.mask())
        return exact_top(queries, self.vectors[filtered.rows], self.items[filtered.rows], k, self.longest)

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        save_array(folder / "items.npy", self.items)
        save_array(folder / "vectors.npy", self.vectors)
        (folder / META).write_text(json.dumps({"kind": self.kind, "longest": self.longest}), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, meta: dict[str, float]) -> Exact:
        """Map what `save` wrote."""
        items, vectors = (mapped(folder / f"{name}.npy") for name in ("items", "vectors"))
        return cls(Space(items, vectors), meta["longest"])


def longest_norm(vectors: NDArray[np.float32]) -> float:
    """The largest Euclidean norm of (n, d) vectors; 0 for none."""
    squares = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return float(np.sqrt(squares.max(initial=0.0)))


def mapped(path: Path) -> NDArray[Any]:
    """A stored array, read from the disk where it is touched: a plain array, whose slices cost less than a memmap's."""
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
