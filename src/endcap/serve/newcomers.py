"""Items that a model was not trained with, found by what is said of them: encoded once, searched exactly."""

from __future__ import annotations

import logging
import threading
from typing import Any

import numpy as np
import pyarrow as pa

from endcap.answers import NOTHING, Candidates, EncodesItems, Evidence, Items, Request, Scores, Searcher, Space
from endcap.index import Exact
from endcap.models.base import no_evidence
from endcap.serve.catalogue import LiveCatalogue, Mask
from endcap.serve.logs import where
from endcap.serve.reasons import BY_TEXT

SAYS_SOMETHING = ("title", "category", "brand", "seller")  # a price or a stock alone says nothing of an item

log = logging.getLogger("endcap.serve")


class Newcomers:
    """The vectors of the items that one model does not know: announced live, or released after its training.

    An item is encoded when it is announced, and again when what is said of it changes. A search sees one whole state
    of them, whatever is learnt meanwhile. One that the model can make nothing of, or of which nothing is said, has no
    vector.

    Args:
        model: encodes; system: its name, in candidates and in the log; n_items: those it was trained with, the first
            of the catalogue; vectors: `vector_*` of the last released ones, where the shop has such; known: searches
            the items that it was trained with, where all of them lie in one space.
    """

    def __init__(
        self,
        model: EncodesItems,
        system: str,
        n_items: int,
        catalogue: LiveCatalogue,
        vectors: pa.Table | None = None,
        known: Searcher | None = None,
    ) -> None:
        self.system, self.n_items, self._known = system, n_items, known
        self._model, self._catalogue = model, catalogue
        self._vectors = pa.table({}) if vectors is None else vectors
        self._vectors_from = catalogue.n_released - len(self._vectors)
        self._encoded_from: dict[int, dict[str, Any]] = {}
        self._searcher: Exact | None = None
        self._lock = threading.Lock()
        self.learn(np.arange(n_items, len(catalogue), dtype=np.int32))

    def learn(self, changed: Items) -> None:
        """Encode those of some items that the model does not know, where what is said of them is new."""
        changed = np.unique(changed[changed >= self.n_items])
        if len(changed) == 0:
            return
        with self._lock:
            table = self._catalogue.rows(changed)
            rows = dict(zip(changed.tolist(), table.to_pylist(), strict=True))
            news = [item for item, row in rows.items() if self._encoded_from.get(item) != row]
            if not news:
                return
            telling = [item for item in news if any(rows[item][name] for name in SAYS_SOMETHING) or self._given(item)]
            encoded = self._encode(telling, table.take(np.searchsorted(changed, telling)))
            self._searcher = self._with(encoded, without=news)
            for item in news:
                self._encoded_from.pop(item, None)
            self._encoded_from.update({item: rows[item] for item in encoded.items.tolist()})

    def candidates(self, request: Request, k: int, allowed: Mask | None) -> Candidates:
        """The k nearest to any of the asker's interests; `allowed` is (n_items of the catalogue,) bool."""
        searcher = self._searcher
        queries = np.empty((0, 0), np.float32) if searcher is None else self._model.queries(request)
        if searcher is None or len(queries) == 0:
            return Candidates(NOTHING, np.empty(0, np.float32), [])
        return _best(k, self.system, searcher.search(queries, k, allowed))

    def near(self, item: int, k: int, allowed: Mask | None) -> Candidates:
        """The k that lie nearest to one of these items, known ones and new ones; none where it has no vector.

        To the model this is somebody whose only interest is the item; what it scores 0 or less is not near.
        """
        searcher = self._searcher
        own = NOTHING if searcher is None else np.flatnonzero(searcher.items == item)
        if searcher is None or len(own) == 0:
            return Candidates(NOTHING, np.empty(0, np.float32), [])
        found = [searcher.search(searcher.vectors[own], k + 1, allowed)]
        if self._known is not None:
            of_known = None if allowed is None else allowed[: self.n_items]
            found.append(self._known.search(searcher.vectors[own], k, of_known))
        best = _best(k + 1, f"{self.system}/{BY_TEXT}", *found)
        near = np.flatnonzero((best.items != item) & (best.scores > 0))[:k]
        return Candidates(best.items[near], best.scores[near], best.source[: len(near)])

    def _given(self, item: int) -> bool:
        """Whether a vector may be given."""
        return self._vectors_from <= item < self._catalogue.n_released

    def _with_given(self, items: list[int], table: pa.Table) -> pa.Table:
        """Rows of items with the vectors that are given for them; null where none is."""
        rows = pa.array([item - self._vectors_from if self._given(item) else None for item in items], pa.int64())
        for name in self._vectors.column_names:
            table = table.append_column(name, self._vectors[name].take(rows))
        return table

    def _encode(self, items: list[int], table: pa.Table) -> Space:
        """Vectors of items, without those that cannot have one."""
        dim = 0 if self._searcher is None else self._searcher.vectors.shape[1]
        if not items:
            return Space(NOTHING, np.empty((0, dim), np.float32))
        try:
            vectors = np.asarray(self._model.encode_items(self._with_given(items, table)), np.float32)
            if vectors.shape != (len(items), dim or vectors.shape[-1]):
                raise ValueError(f"vectors of shape {vectors.shape} for {len(items)} items")
        except Exception as error:  # new items must not take the page down; these are served by category
            log.error("model %s cannot encode %d new items: %s", self.system, len(items), where(error))
            return Space(NOTHING, np.empty((0, dim), np.float32))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            log.error("model %s gives vectors that are not finite to %d new items", self.system, (~finite).sum())
        usable = finite & (vectors != 0).any(axis=1)  # zeros say that the model can make nothing of the item
        return Space(np.array(items, np.int32)[usable], vectors[usable])

    def _with(self, encoded: Space, without: list[int]) -> Exact | None:
        """A searcher over what there is, without some items, and newly encoded ones."""
        if self._searcher is None:
            return Exact(encoded) if len(encoded.items) else None
        stay = ~np.isin(self._searcher.items, without)
        return Exact(
            Space(
                np.append(self._searcher.items[stay], encoded.items),
                np.concatenate([self._searcher.vectors[stay], encoded.vectors]),
            )
        )


def _best(k: int, source: str, *found: tuple[Items, Scores]) -> Candidates:
    """The k best of what searches found, each item once and best first."""
    items, scores = (np.concatenate([part.ravel() for part in parts]) for parts in zip(*found, strict=True))
    order = np.lexsort((items, -scores))
    order = order[items[order] >= 0]
    _, first = np.unique(items[order], return_index=True)
    best = order[np.sort(first)][:k]
    return Candidates(items[best], scores[best], [source] * len(best))


def joined(found: Candidates, new: Candidates, k: int) -> Candidates:
    """A model's own candidates and new items by score, k in all; what the model fell back to comes after them."""
    if len(new) == 0:
        return found
    sources = [*found.source, *new.source]
    held = np.array(["/" in by for by in sources])
    items, scores = np.append(found.items, new.items), np.append(found.scores, new.scores)
    order = np.lexsort((np.where(held, np.arange(len(items)), -scores), held))
    n_own = len(items) - int(held.sum())
    order = np.delete(order, np.s_[k:n_own])
    evidence = found.evidence
    if evidence is not None:
        none = no_evidence(len(new))
        evidence = Evidence(
            np.append(evidence.because, none.because)[order],
            np.append(evidence.seen_as, none.seen_as)[order],
            np.append(evidence.want, none.want)[order],
            None if evidence.together is None else np.append(evidence.together, np.zeros(len(new), np.float32))[order],
        )
    parts = found.parts
    if parts is not None:
        unknown = np.full(len(new), np.nan, np.float32)
        parts = {name: np.append(values, unknown)[order] for name, values in parts.items()}
    return Candidates(
        items[order], scores[order], [sources[row] for row in order.tolist()], evidence, parts, found.left_out
    )
