"""One opened release, ready to answer: its models, its catalogue with live changes, and the surfaces over them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from endcap import models
from endcap.answers import (
    Candidates,
    EncodesItems,
    Explainer,
    History,
    Indexed,
    Ranks,
    Reason,
    Request,
    Retriever,
    TellsRivals,
)
from endcap.errors import DamagedArtefact
from endcap.models.base import NO_CANDIDATES
from endcap.release import Release
from endcap.serve.catalogue import LiveCatalogue, Mask
from endcap.serve.masks import Masks
from endcap.serve.newcomers import Newcomers, joined
from endcap.serve.state import LiveState
from endcap.serve.surfaces import Surface, check_surfaces

WARM_ITEMS = 16
NEW_AND_NEAR = Reason("relation", note="new, and close to what you looked at")


class Loaded(NamedTuple):
    """A model, the number of items it was trained with, the first of the release's, and those it learnt of since.

    `newcomers` is None for a model that cannot encode items; `system` is the name of what was trained.
    """

    model: Retriever
    n_items: int
    newcomers: Newcomers | None = None
    system: str = ""

    @property
    def tells_rivals(self) -> bool:
        """Whether the model can; asked of its class, which is remembered: of an object it takes a while."""
        return issubclass(type(self.model), TellsRivals)

    def candidates(self, request: Request, k: int, allowed: Mask | None) -> Candidates:
        """The model's candidates, and new items among its own by score.

        Args:
            request: in the numbers of the model; k, allowed: the same over all items of the catalogue.
        """
        found = self.model.candidates(request)
        return found if self.newcomers is None else joined(found, self.newcomers.candidates(request, k, allowed), k)

    def near_new(self, request: Request, k: int, allowed: Mask | None) -> Candidates:
        """What lies near an item that the model was not trained with, by what is said of it; see `Newcomers.near`."""
        if self.newcomers is None or request.item is None:
            return NO_CANDIDATES
        return self.newcomers.near(request.item, k, allowed)

    def explain(self, request: Request, item: int) -> list[Reason]:
        """What the model says of an item that it returned; of a new one only that it lies near."""
        if item >= self.n_items:
            return [NEW_AND_NEAR]
        model = self.model
        return model.explain(request, item) if issubclass(type(model), Explainer) else []  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False)
class Serving:
    """Everything that one answer needs; a request keeps hold of one, whatever goes live meanwhile."""

    release: Release
    models: Mapping[str, Loaded]
    surfaces: Mapping[str, Surface]
    catalogue: LiveCatalogue
    rankers: Mapping[str, Ranks] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, surfaces: Mapping[str, Surface]) -> Self:
        """Open and verify a release, its models and indexes.

        Raises:
            InputError: if a surface asks for a model or ranker that the release lacks;
            DamagedArtefact: if a file was changed, or the release is of another version.
        """
        try:
            release = Release.open(folder)
            rankers = release.rankers
            answering = [name for name in release.model_folders if name not in rankers]
            check_surfaces(surfaces, answering, release.interactions, rankers)
            catalogue = LiveCatalogue(release.items, release.catalogue)
            loaded = {name: _load(release, name, catalogue) for name in answering}
            opened = {name: _load_ranker(release, name) for name in rankers}
            serving = cls(release, loaded, surfaces, catalogue, opened)
            serving._warm()
        except (KeyError, IndexError, TypeError, ValueError, OSError) as error:
            raise DamagedArtefact(f"{folder}: this endcap cannot serve it ({error!r}); publish again") from error
        return serving

    @cached_property
    def masks(self) -> Masks:
        """What rules allow, over the catalogue."""
        return Masks(self.catalogue)

    @property
    def default_want(self) -> int:
        """The interaction that is wanted where nobody says."""
        return self.release.interactions.intents[0]

    def catch_up(self, state: LiveState) -> None:
        """Lay over what has changed in the live state, and let models that can learn what is said of new items."""
        changed = self.catalogue.catch_up(state)
        for loaded in self.models.values():
            if loaded.newcomers is not None:
                loaded.newcomers.learn(changed)

    def _warm(self) -> None:
        """Ask about popular items, so that the first customer finds maps, vocabularies and compiled loops in memory.

        Each model is asked freely and under filters that leave half or a hundredth, which searches take differently.
        """
        release = self.release
        release.users.number("")
        release.items.number("")
        for category in self.catalogue.category.names[:1] or [""]:  # reads the groups also where there are sellers only
            release.popular(self.default_want, category=category)
            release.bought_with(category)
        asked = release.popular(self.default_want)[:WARM_ITEMS].tolist()
        filters = [np.arange(len(release.items)) % among == 0 for among in (2, 100)]
        for loaded in self.models.values():
            model, n_items = loaded.model, loaded.n_items
            known = [item for item in asked if item < n_items]
            for item in known:
                request = Request(k=10, item=item, want=self.default_want)
                for other in model.candidates(request).items[:1].tolist():
                    loaded.explain(request, other)
            model.candidates(Request(k=10, history=_seen(known), want=self.default_want))
            for item, allowed in itertools.product(known[:1], filters):
                model.candidates(Request(k=10, item=item, want=self.default_want, allowed=allowed[:n_items]))
        for ranker in self.rankers.values():
            request = Request(k=10, history=_seen(asked), want=self.default_want)
            found = {name: self.models[name].model.candidates(request) for name in ranker.sources}
            ranking = ranker.rank(request, found)
            ranking.reasons(ranking.items[:10])


def _load(release: Release, name: str, catalogue: LiveCatalogue) -> Loaded:
    model, about = models.open(release.model_folders[name]), release.manifest["models"][name]
    if not isinstance(model, Retriever):
        raise DamagedArtefact(f"{release.folder}: {name} gives no candidates; publish again")
    if isinstance(model, Indexed):
        model.attach(release.searchers(name))
    newcomers = None
    if isinstance(model, EncodesItems):
        searchers = list(release.searchers(name).values())
        known = searchers[0] if len(searchers) == 1 else None
        newcomers = Newcomers(model, about["system"], about["n_items"], catalogue, release.new_vectors, known)
    return Loaded(model, about["n_items"], newcomers, about["system"])


def _load_ranker(release: Release, name: str) -> Ranks:
    ranker = models.open(release.model_folders[name])
    if not isinstance(ranker, Ranks):
        raise DamagedArtefact(f"{release.folder}: {name} is no ranker; publish again")
    return ranker


def _seen(items: list[int]) -> History:
    """These items, clicked one after the other."""
    return History(np.array(items, np.int32), np.zeros(len(items), np.int8), np.arange(len(items), dtype=np.int64))
