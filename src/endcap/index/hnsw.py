"""Hierarchical navigable small worlds (Malkov and Yashunin, 2018) by faiss, with filters that keep their promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, Scores, Space
from endcap.artefact import save_array
from endcap.index.exact import META, Exact, longest_norm, mapped
from endcap.index.filters import Filtered, Filters
from endcap.index.top import check_question, padded

# The paper's index: section 5.1 of papers/item_interaction names M, efConstruction and efSearch
NEIGHBOURS = 64
EF_CONSTRUCTION = 128
EF_SEARCH = 256
# ... which is for lists of a hundred and more: shorter ones are found with less, longer ones need more
EF_SEARCH_FOR = 100
EF_LEAST = 128

# A search visits about `ef` nodes of the graph in random order. Scoring all allowed rows in a row of memory is as
# cheap when they are fewer than this many times `ef`, and it is exact.
EXACT_PER_VISIT = 20
GRAPH = "graph.faiss"


class Hnsw:
    """Approximate search in a graph; exact search of the allowed rows where they are few (recall under filters).

    Args:
        items: (n,) int32; graph: the faiss index, whose row r is `items[r]`; longest: the largest norm.
    """

    kind = "hnsw"

    def __init__(self, items: Items, graph: Any, longest: float) -> None:
        self.items, self.graph, self._filters = items, graph, Filters(items)
        storage = faiss.downcast_index(graph.storage)
        # A view of what faiss holds or maps; in a mapped file it is not aligned, which only whole-array products mind
        vectors = faiss.rev_swig_ptr(storage.get_xb(), len(items) * graph.d).reshape(len(items), graph.d)
        self._exact = Exact(Space(items, vectors), longest)

    @classmethod
    def build(cls, space: Space, *, threads: int = 1) -> Hnsw:
        """Insert all vectors; with one thread the graph is the same every time."""
        graph = faiss.IndexHNSWFlat(space.vectors.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        with _threads(threads):
            graph.add(np.ascontiguousarray(space.vectors, np.float32))
        return cls(space.items, graph, longest_norm(space.vectors))

    def __len__(self) -> int:
        return len(self.items)

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `answers.Searcher`; `allowed` is (n_items,) bool by item number. k answers come where k exist."""
        check_question(queries, k, self.graph.d, allowed)
        filtered = None if allowed is None else self._filters.of(allowed)
        n_allowed = len(self) if filtered is None else filtered.n_allowed
        wanted = min(k, n_allowed)
        found_items, found_scores = padded(len(queries), k)
        if wanted == 0:
            return found_items, found_scores
        ef = max(EF_LEAST, EF_SEARCH * wanted // EF_SEARCH_FOR) * len(self) // n_allowed
        if n_allowed <= EXACT_PER_VISIT * ef:
            return self._search_exactly(queries, k, filtered)
        found_items[:, :wanted], found_scores[:, :wanted] = self._search_graph(queries, wanted, filtered, ef)
        lost = np.flatnonzero(found_items[:, wanted - 1] < 0)
        if len(lost):
            found_items[lost], found_scores[lost] = self._search_exactly(queries[lost], k, filtered)
        return found_items, found_scores

    def _search_exactly(self, queries: NDArray[np.float32], k: int, filtered: Filtered | None) -> tuple[Items, Scores]:
        if filtered is None:
            return self._exact.search(queries, k)
        return self._exact.search_filtered(queries, k, filtered)

    def _search_graph(
        self, queries: NDArray[np.float32], k: int, filtered: Filtered | None, ef: int
    ) -> tuple[Items, Scores]:
        """(q, k) by score, then item number; -1 where the graph's walk found too few."""
        options: dict[str, Any] = {"efSearch": ef}
        if filtered is not None:
            options["sel"] = faiss.IDSelectorBitmap(filtered.bits)
        parameters = faiss.SearchParametersHNSW(**options)
        with _threads(1) if len(queries) > 1 else nullcontext():  # one query is searched by one thread as it is
            scores, rows = self.graph.search(np.ascontiguousarray(queries, np.float32), k, params=parameters)
        items = self.items[rows]
        if rows.min(initial=0) < 0:
            items, scores = np.where(rows < 0, -1, items), np.where(rows < 0, -np.inf, scores)
        if (scores[:, 1:] < scores[:, :-1]).all():
            return items, scores
        order = np.lexsort((items, -scores), axis=1)
        return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        save_array(folder / "items.npy", self.items)
        with (folder / GRAPH).open("wb") as file:  # faiss itself does not look whether its last bytes were written
            faiss.write_index(self.graph, faiss.PyCallbackIOWriter(file.write))
        meta = {"kind": self.kind, "longest": self._exact.longest}
        (folder / META).write_text(json.dumps(meta), encoding="utf-8")

    @classmethod
    def open(cls, folder: Path, meta: dict[str, float]) -> Hnsw:
        """Map what `save` wrote: graph and vectors stay on the disk until they are visited."""
        graph = faiss.read_index(str(folder / GRAPH), faiss.IO_FLAG_MMAP_IFC)
        return cls(mapped(folder / "items.npy"), graph, meta["longest"])


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """OpenMP's number of threads, which belongs to the calling thread, set for a while."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(n)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
