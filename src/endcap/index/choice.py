"""Which index for which space, and how good it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Searcher, Space
from endcap.errors import DamagedArtefact, InputError
from endcap.index.exact import META, Exact
from endcap.index.hnsw import Hnsw

Kind = Literal["auto", "exact", "hnsw"]
Index = Exact | Hnsw
INDEXES: dict[str, type[Exact] | type[Hnsw]] = {kind.kind: kind for kind in (Exact, Hnsw)}

EXACT_BELOW = 50_000  # vectors; under it a scan takes about a millisecond, and the graph's building never pays


def build(space: Space, kind: Kind = "auto", *, threads: int = 1) -> Index:
    """An index over a space; `auto` takes exact search below 50,000 vectors and HNSW above.

    Raises:
        InputError: if the arrays do not fit together or hold a NaN or an infinity.
    """
    if kind not in ("auto", *INDEXES):
        raise InputError(f"there is no index {kind!r}; choose auto, {' or '.join(INDEXES)}")
    items, vectors = _numbers(space)
    if vectors.ndim != 2 or len(vectors) != len(items):
        raise InputError(f"a space of {len(items):,} items needs as many rows of vectors, got shape {vectors.shape}")
    if not np.isfinite(vectors).all():
        raise InputError("a space holds vectors that are not finite: the model diverged, train it again")
    space = Space(items.astype(np.int32, copy=False), vectors)
    if kind == "exact" or len(items) == 0 or (kind == "auto" and len(items) < EXACT_BELOW):
        return Exact(space)
    return Hnsw.build(space, threads=threads)


def _numbers(space: Space) -> tuple[NDArray[np.integer], NDArray[np.float32]]:
    items, vectors = np.asarray(space.items), np.asarray(space.vectors)
    if (
        items.ndim != 1
        or (items.size and not np.issubdtype(items.dtype, np.integer))
        or vectors.dtype.kind not in "biuf"
    ):
        raise InputError("a space needs whole item numbers (n,) and vectors of numbers (n, d)")
    if not 0 <= items.min(initial=0) <= items.max(initial=0) <= np.iinfo(np.int32).max:
        raise InputError("a space holds item numbers below 0 or beyond 32 bits")
    return items, vectors.astype(np.float32, copy=False)


def open_index(folder: Path) -> Index:
    """Map an index that `save` wrote.

    Raises:
        DamagedArtefact: if its description is missing or not one of ours.
    """
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return INDEXES[meta["kind"]].open(folder, meta)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedArtefact(f"{folder}: unreadable index ({error}); publish again") from None


def recall(searcher: Searcher, exact: Searcher, queries: NDArray[np.float32], k: int) -> float:
    """The mean share of the k best that a searcher finds; an item that scores as high as the k-th best counts.

    Returns:
        Between 0 and 1; 1 where there is nothing to find.
    """
    _, found = searcher.search(queries, k)
    _, best = exact.search(queries, k)
    exists = np.isfinite(best)
    if not exists.any():
        return 1.0
    worst = np.where(exists, best, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    tolerance = 1e-5 * np.abs(worst)  # faiss sums in another order
    hits = np.isfinite(found) & (found >= worst - tolerance)
    return float(np.minimum(hits.sum(axis=1), exists.sum(axis=1)).sum() / exists.sum())
