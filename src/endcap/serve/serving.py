"""One opened release, ready to answer: its models, its catalogue with live changes, and the surfaces over them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from endcap import models
from endcap.answers import Indexed, Request, Retriever
from endcap.errors import DamagedArtefact
from endcap.release import Release
from endcap.serve.catalogue import LiveCatalogue
from endcap.serve.masks import Masks
from endcap.serve.surfaces import Surface, check_surfaces

WARM_ITEMS = 16


class Loaded(NamedTuple):
    """A model and the number of items it was trained with, the first of the release's."""

    model: Retriever
    n_items: int


@dataclass(frozen=True, eq=False)
class Serving:
    """Everything that one answer needs; a request keeps hold of one, whatever goes live meanwhile."""

    release: Release
    models: Mapping[str, Loaded]
    surfaces: Mapping[str, Surface]
    catalogue: LiveCatalogue

    @classmethod
    def open(cls, folder: Path, surfaces: Mapping[str, Surface]) -> Self:
        """Open and verify a release, its models and indexes.

        Raises:
            InputError: if a surface asks for a model that the release lacks;
            DamagedArtefact: if a file was changed, or the release is of another version.
        """
        try:
            release = Release.open(folder)
            check_surfaces(surfaces, release.model_folders, release.interactions)
            loaded = {name: _load(release, name) for name in release.model_folders}
            serving = cls(release, loaded, surfaces, LiveCatalogue(release.items, release.catalogue))
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

    def _warm(self) -> None:
        """Ask about popular items, so that the first customer finds maps, vocabularies and compiled loops in memory.

        Each model is asked freely and under filters that leave half or a hundredth, which searches take differently.
        """
        release = self.release
        release.users.number("")
        release.items.number("")
        for category in self.catalogue.category.names[:1] or [""]:  # reads the groups also where there are sellers only
            release.popular(self.default_want, category=category)
        asked = release.popular(self.default_want)[:WARM_ITEMS].tolist()
        filters = [np.arange(len(release.items)) % among == 0 for among in (2, 100)]
        for model, n_items in self.models.values():
            known = [item for item in asked if item < n_items]
            for item in known:
                model.candidates(Request(k=10, item=item, want=self.default_want))
            for item, allowed in itertools.product(known[:1], filters):
                model.candidates(Request(k=10, item=item, want=self.default_want, allowed=allowed[:n_items]))


def _load(release: Release, name: str) -> Loaded:
    model = models.open(release.model_folders[name])
    if isinstance(model, Indexed):
        model.attach(release.searchers(name))
    return Loaded(model, release.manifest["models"][name]["n_items"])
