"""Matrix factorisation by alternating least squares, by the library `implicit`, of items and of (item, interaction).

    Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.

The typed form is the baseline of the item-interaction paper: users x (item, interaction), binary.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from endcap.answers import Candidates, Evidence, Items, Request, Scores, Searcher, Space
from endcap.index import Exact
from endcap.models.base import Model
from endcap.models.lists import without_own
from endcap.models.search_space import Range, SearchSpace
from endcap.progress import progress
from endcap.shop import Shop

LATEST = 200  # actions that a person is judged by


class AlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of matrix factorisation."""

    factors: Annotated[int, Meta(ge=1, le=1024, description="length of the vectors")] = 64
    regularization: Annotated[float, Meta(ge=0, description="weight of the squared length of the vectors")] = 10.0
    alpha: Annotated[float, Meta(gt=0, description="confidence in an action; its absence has confidence 1")] = 40.0
    iterations: Annotated[int, Meta(ge=1, description="rounds over users and items")] = 15


class Als(Model):
    """Cosine of item factors for item-to-item questions; a folded-in user's inner product for people."""

    system = "als"
    Config: ClassVar[type[msgspec.Struct]] = AlsConfig
    config: AlsConfig
    search_space: ClassVar[SearchSpace] = {
        "factors": Range(16, 128, log=True),
        "regularization": Range(0.01, 100.0, log=True),
        "alpha": Range(1.0, 100.0, log=True),
        "iterations": Range(5, 25),
    }
    typed: ClassVar[bool] = False

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        past = shop.positives
        n_kinds = len(shop.interactions) if self.typed else 1
        kind = past.interaction.astype(np.int64) if self.typed else 0
        tokens, token = np.unique(kind * shop.n_items + past.item, return_inverse=True)
        row_of = np.full(n_kinds * shop.n_items, -1, np.int32)
        row_of[tokens] = np.arange(len(tokens), dtype=np.int32)
        self._row_of = row_of.reshape(n_kinds, shop.n_items)
        self._item = (tokens % shop.n_items).astype(np.int32)
        self._offsets = np.searchsorted(tokens, np.arange(n_kinds + 1) * shop.n_items)
        self._factors = factorise(past.user, token, self.config, seed, threads, show)
        self._prepare()

    def _prepare(self) -> None:
        """What follows from the factors."""
        lengths = np.linalg.norm(self._factors, axis=1, keepdims=True)
        self._units = np.divide(self._factors, lengths, out=np.zeros_like(self._factors), where=lengths > 0)
        gram = self._factors.T.astype(np.float64) @ self._factors
        # a hair above 0, so that a person's equation has a solution without regularisation, too
        ridge = max(self.config.regularization, 1e-6 * max(float(np.trace(gram)), 1e-6))
        self._inverse = np.linalg.inv(gram + ridge * np.eye(len(gram)))
        self._searchers: dict[str, Searcher] = {name: Exact(space) for name, space in self.spaces().items()}
        self._by_people = [Exact(Space(self._item[rows], self._factors[rows])) for rows in self._slices()]

    def _slices(self) -> list[slice]:
        """The rows of each interaction."""
        return [slice(first, last) for first, last in pairwise(self._offsets)]

    def spaces(self) -> Mapping[str, Space]:
        """Unit vectors of the items by target interaction, or all under `items`."""
        return {
            self._space(kind): Space(self._item[rows], self._units[rows]) for kind, rows in enumerate(self._slices())
        }

    def attach(self, searchers: Mapping[str, Searcher]) -> None:
        """Search in indexes made elsewhere."""
        self._searchers.update(searchers)

    def _space(self, kind: int) -> str:
        return self._trained().interactions.name(kind) if self.typed else "items"

    def _rows(self, items: Items, kind: int) -> NDArray[np.int32]:
        """Rows of items (n,) in one interaction, -1 where it never occurred."""
        items = np.asarray(items)
        known = (items >= 0) & (items < self._row_of.shape[1])
        return np.where(known, self._row_of[kind if self.typed else 0, np.where(known, items, 0)], -1)

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """Items with the nearest factors, by cosine."""
        found, scores = np.full((len(items), k), -1, np.int32), np.full((len(items), k), -np.inf, np.float32)
        rows = self._rows(items, seen_as)
        asked = np.flatnonzero(rows >= 0)
        near = self._searchers[self._space(want)].search(self._units[rows[asked]], k + 1, allowed)
        found[asked], scores[asked] = without_own(np.asarray(items)[asked], *near)
        return found, scores

    def candidates(self, request: Request) -> Candidates:
        """For an item or a basket, its neighbours; for a history, what the person it belongs to would score highest."""
        if request.item is not None or len(request.basket) or len(request.history) == 0:
            return super().candidates(request)
        want = self._want(request)
        search = self._by_people[want if self.typed else 0].search
        items, scores = search(self._fold_in(request)[None], request.k, request.allowed)
        found = items[0] >= 0
        nothing = np.full(n := int(found.sum()), -1)
        evidence = Evidence(nothing.astype(np.int32), nothing.astype(np.int8), np.full(n, want, np.int8))
        return Candidates(items[0][found], scores[0][found], [self.system] * n, evidence)

    def score(self, request: Request, items: Items) -> Scores:
        """The score of items (n,) for the user that history and basket make; 0 for unknown ones."""
        rows = self._rows(items, self._want(request))
        return np.where(rows >= 0, self._factors[rows] @ self._fold_in(request), 0).astype(np.float32)

    def _fold_in(self, request: Request) -> NDArray[np.float32]:
        """The user factor of the latest actions and the basket: (Y'Y + reg I + (alpha - 1) Yu'Yu) x = alpha Yu'1.

        By the identity of Woodbury, so that a question costs a system of the size of the history, not of the factors.
        """
        past, basket = request.history.last(LATEST), request.basket[-LATEST:]
        items = np.append(past.items, basket)
        kinds = np.append(past.interactions, np.full(len(basket), self._trained().intent))
        known = [self._rows(items[kinds == kind], int(kind)) for kind in np.unique(kinds)]
        rows = np.unique(np.concatenate([*known, np.empty(0, np.int32)]))
        own = self._factors[rows[rows >= 0]].astype(np.float64)
        solved = own @ self._inverse
        user = solved.sum(axis=0)
        more = self.config.alpha - 1
        if more:
            user = user - solved.T @ np.linalg.solve(np.eye(len(own)) / more + own @ solved.T, own @ user)
        return (self.config.alpha * user).astype(np.float32)

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        return {"factors": self._factors, "item": self._item, "offsets": self._offsets, "row_of": self._row_of}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._factors, self._item = arrays["factors"], arrays["item"]
        self._offsets, self._row_of = arrays["offsets"], arrays["row_of"]
        self._prepare()


class AlsTyped(Als):
    """Factors of (item, interaction) pairs: an item clicked and the same item carted are two things."""

    system = "als-typed"
    typed = True


def factorise(
    user: NDArray[np.int32], token: NDArray[np.integer], config: AlsConfig, seed: int, threads: int, show: bool
) -> NDArray[np.float32]:
    """Factors (n_tokens, factors) of the binary matrix users x tokens."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    _, row = np.unique(user, return_inverse=True)
    matrix = csr_matrix((np.ones(len(row), np.float32), (row, token)))
    matrix.data[:] = 1  # repeats were summed
    # implicit has threads of its own
    with threadpool_limits(1, "blas"), progress("factorising", config.iterations, shown=show) as bar:
        learner = AlternatingLeastSquares(
            factors=config.factors,
            regularization=config.regularization,
            alpha=config.alpha,
            iterations=config.iterations,
            num_threads=threads,
            random_state=seed,
        )
        learner.fit(matrix, show_progress=False, callback=lambda *_: bar.advance())
    return np.ascontiguousarray(learner.item_factors, np.float32)
