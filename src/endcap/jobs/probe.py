"""Asking a model before anybody else does: does it answer, and with which vectors does it search?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Indexed, Items, RelatesItems, Request, Retriever, Scores, Searcher, Space
from endcap.errors import EndcapError
from endcap.index import Exact
from endcap.models import Model
from endcap.models.ranker import TwoPass
from endcap.shop import Shop
from endcap.shop.searches import Searches

ITEMS_ASKED = 100
USERS_ASKED = 20
K = 20
QUERIES_KEPT = 200


class Recorder:
    """Searches exactly and keeps the queries: those that a release's indexes will have to answer."""

    def __init__(self, space: Space) -> None:
        self._exact, self._asked = Exact(space), list[NDArray[np.float32]]()

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `answers.Searcher`."""
        self._asked.append(np.array(queries, np.float32))
        return self._exact.search(queries, k, allowed)

    def queries(self, seed: int = 0) -> NDArray[np.float32]:
        """(q, d): a sample of what was asked."""
        asked = np.concatenate([np.empty((0, self._exact.vectors.shape[1]), np.float32), *self._asked])
        rows = np.random.default_rng(seed).permutation(len(asked))[:QUERIES_KEPT]
        return asked[np.sort(rows)]


def recorded_queries(
    name: str, model: Model | TwoPass, spaces: Mapping[str, Space], shop: Shop
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """What a model asks its spaces for, on questions that will come: related items, and lists for people.

    Returns:
        Queries (q, d) by space, and how many questions had an answer.

    Raises:
        EndcapError: if it fails to answer.
    """
    recorders = {space: Recorder(vectors) for space, vectors in spaces.items()}
    attach(model, recorders)
    answered = ask(name, model, shop)
    return {space: recorder.queries() for space, recorder in recorders.items()}, answered


def attach(model: Model | TwoPass, searchers: Mapping[str, Searcher]) -> None:
    """Let a model search with these, if it searches at all."""
    if searchers:
        assert isinstance(model, Indexed)
        model.attach(searchers)


def ask(name: str, model: Model | TwoPass, shop: Shop) -> int:
    """Put questions of every kind to a model and check the answers; returns how many held an item.

    Raises:
        EndcapError: if it raises, or answers with what does not exist or was not allowed.
    """
    answered = 0
    try:
        for items, allowed, k in _answers(model, shop):
            _check(items, allowed, k, shop.n_items)
            answered += len(items) > 0
    except Exception as error:  # whatever a model may raise, it must not go live
        raise EndcapError(f"{name} fails to answer ({type(error).__name__}: {error}); nothing was published") from error
    return answered


def _answers(model: Model | TwoPass, shop: Shop) -> Iterator[tuple[Items, NDArray[np.bool_] | None, int]]:
    """Answers one after the other: items, what was allowed, and how many were wanted."""
    rng = np.random.default_rng(0)
    kinds = range(len(shop.interactions))
    items = _spread(shop.positives.item, ITEMS_ASKED, rng)
    allowed = np.zeros(shop.n_items, np.bool_)
    allowed[rng.permutation(shop.n_items)[: max(1, shop.n_items // 2)]] = True
    if isinstance(model, RelatesItems):
        for seen_as, want in itertools.product(kinds, kinds):
            for row in model.related_batch(items, seen_as, want, K)[0]:
                yield row[row >= 0], None, K
    if isinstance(model, Retriever):
        questions = [Request(k=K, item=int(item), seen_as=0, want=want) for item in items[:5] for want in kinds]
        searches = Searches(shop.events)
        questions += [
            Request(k=K, user=user, history=shop.history(user), searches=searches.before(user))
            for user in _spread(shop.positives.user, USERS_ASKED, rng).tolist()
        ]
        questions += [Request(k=K), Request(k=K, item=int(items[0]), seen_as=0, allowed=allowed)]
        for question in questions:
            yield model.candidates(question).items, question.allowed, question.k


def _spread(values: NDArray[np.int32], n: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Up to n different values, frequent and rare ones."""
    different = np.unique(values)
    return different[np.sort(rng.permutation(len(different))[:n])]


def _check(items: Items, allowed: NDArray[np.bool_] | None, k: int, n_items: int) -> None:
    if len(items) > k or len(np.unique(items)) < len(items):
        raise ValueError(f"{len(items)} items where {k} were wanted, or one of them twice")
    if len(items) and not 0 <= items.min() <= items.max() < n_items:
        raise ValueError("an item that the shop does not have")
    if allowed is not None and not allowed[items].all():
        raise ValueError("an item that was not allowed")
