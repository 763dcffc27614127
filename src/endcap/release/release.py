"""An open release: everything that answering needs, read-only and memory-mapped."""

from __future__ import annotations

import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from endcap.answers import NOTHING, History, Items, Searcher
from endcap.artefact import MANIFEST, read_manifest, verify
from endcap.errors import DamagedArtefact, InputError
from endcap.index import mapped, open_index
from endcap.release.contents import CATEGORY_PAIRS, FORMAT, NEW_VECTORS, Groups, Histories, Sets
from endcap.shop import Interactions, Vocabulary

GROUPS_REMEMBERED = 4096


class Release:
    """A release folder, opened. It knows model folders, not models: `models.open(release.model_folders[name])`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.interactions = Interactions(tuple(manifest["interactions"]))
        self._histories = Histories(*self._arrays("histories", Histories._fields))
        self._bought = Sets(*self._arrays("bought", Sets._fields))
        (self._popular,) = self._arrays("popular", ("order",))
        self._searchers: dict[str, dict[str, Searcher]] = {}
        self._sorted: dict[tuple[int, str, str], Items] = {}  # no lru_cache: it would keep a closed release in memory

    @classmethod
    def open(cls, folder: str | Path, verify: bool = True) -> Self:
        """Open a release; unless `verify` is false every file is compared with its checksum first.

        Raises:
            InputError: if the folder is no release; DamagedArtefact: if it is incomplete or was changed by hand.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, kind="release")
        if manifest.get("format") != FORMAT:
            raise DamagedArtefact(
                f"{folder}: of format {manifest.get('format')}, this endcap serves format {FORMAT}; publish again"
            )
        if verify:
            check_release(folder, manifest)
        try:
            return cls(folder, manifest)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
            raise DamagedArtefact(f"{folder}: cannot be opened ({error}); publish again") from None

    # -- what it is ------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def watermark(self) -> int:
        """The time of the last event that it knows, microseconds since 1970, UTC."""
        return self.manifest["watermark"]

    @property
    def trained_until(self) -> int:
        """The oldest end of training among its models, microseconds."""
        return min(model["trained_until"] for model in self.manifest["models"].values())

    def age(self, now: int | None = None) -> float:
        """Seconds since it was written; `now` in microseconds."""
        return max(0.0, ((time.time_ns() // 1000 if now is None else now) - self.manifest["created"]) / 1e6)

    @cached_property
    def items(self) -> Vocabulary:
        return Vocabulary(pq.read_table(self.folder / "items.parquet")["item"])

    @cached_property
    def users(self) -> Vocabulary:
        return Vocabulary(pq.read_table(self.folder / "users.parquet")["user"])

    @cached_property
    def catalogue(self) -> pa.Table:
        """One row per item in order of number: the shop's catalogue without its `vector_*` columns."""
        return pq.read_table(self.folder / "catalogue.parquet")

    @cached_property
    def new_vectors(self) -> pa.Table | None:
        """The `vector_*` of the last items of the catalogue, those that some model was not trained with."""
        path = self.folder / NEW_VECTORS
        return pq.read_table(path) if path.exists() else None

    # -- models ----------------------------------------------------------------------------------------------------

    @property
    def model_folders(self) -> dict[str, Path]:
        """Folders by the models' names, in the order in which they were published."""
        return {name: self.folder / "models" / name for name in self.manifest["order"]}

    @property
    def rankers(self) -> dict[str, list[str]]:
        """Which of the models are rankers, by name, and the names of the models whose candidates each ranks."""
        models = self.manifest["models"]
        return {name: models[name]["sources"] for name in self.manifest["order"] if "sources" in models[name]}

    def searchers(self, model: str) -> dict[str, Searcher]:
        """The indexes over a model's spaces, by the space's name; each is opened once.

        Raises:
            InputError: if the release has no such model.
        """
        if model not in self.manifest["models"]:
            raise InputError(f"release {self.name} has no model {model!r}; it has {', '.join(self.manifest['models'])}")
        if model not in self._searchers:
            spaces = self.manifest["models"][model]["spaces"]
            self._searchers[model] = {name: open_index(self.folder / "indexes" / model / name) for name in spaces}
        return self._searchers[model]

    # -- people and popularity -------------------------------------------------------------------------------------

    def history(self, user: int) -> History:
        """A user's last 200 positive actions up to the watermark; nothing for an unknown one (-1)."""
        if not 0 <= user < len(self._histories.offsets) - 1:
            return History()
        rows = slice(self._histories.offsets[user], self._histories.offsets[user + 1])
        return History(
            np.asarray(self._histories.items[rows]),
            np.asarray(self._histories.interactions[rows]),
            np.asarray(self._histories.times[rows]),
        )

    def bought(self, user: int) -> Items:
        """What a user has bought and not returned, ascending; nothing for an unknown one (-1)."""
        if not 0 <= user < len(self._bought.offsets) - 1:
            return NOTHING
        return np.asarray(self._bought.items[self._bought.offsets[user] : self._bought.offsets[user + 1]])

    def popular(self, want: int, category: str | None = None, seller: str | None = None) -> Items:
        """All items, or those of a category (with what lies under it) or seller, most popular first.

        Args:
            want: the code of the interaction that is counted; lately, then ever.
        """
        if category is not None:
            return self._popular_in(want, "category", category)
        if seller is not None:
            return self._popular_in(want, "seller", seller)
        return self._popular[want]

    def bought_with(self, category: str) -> list[str]:
        """The categories that are bought with one, best first; an older release may have kept none."""
        return self._category_pairs.get(category, [])

    @cached_property
    def _category_pairs(self) -> dict[str, list[str]]:
        path = self.folder / "popular" / CATEGORY_PAIRS
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def _popular_in(self, want: int, column: str, name: str) -> Items:
        found = self._sorted.get((want, column, name))
        if found is None:
            if len(self._sorted) >= GROUPS_REMEMBERED:
                self._sorted.clear()
            found = self._sorted[want, column, name] = self._sort_group(want, column, name)
        return found

    def _sort_group(self, want: int, column: str, name: str) -> Items:
        groups, place = self._groups[column]
        if name not in place:
            return NOTHING
        first, last = place[name]
        members = np.asarray(groups.items[groups.offsets[first] : groups.offsets[last]])
        return members[np.argsort(self._popularity_rank[want, members], kind="stable")]

    @cached_property
    def _popularity_rank(self) -> NDArray[np.int32]:
        """(n_interactions, n_items): the place of each item in the order of popularity."""
        rank = np.empty_like(self._popular)
        places = np.arange(self._popular.shape[1], dtype=np.int32)
        for code, order in enumerate(self._popular):
            rank[code, order] = places
        return rank

    @cached_property
    def _groups(self) -> dict[str, tuple[Groups, dict[str, tuple[int, int]]]]:
        """By column: its groups, and for each path the stretch of groups at and under it."""
        return {column: self._open_groups(column) for column in ("category", "seller")}

    def _open_groups(self, column: str) -> tuple[Groups, dict[str, tuple[int, int]]]:
        names = json.loads((self.folder / "popular" / f"{column}.json").read_text(encoding="utf-8"))
        groups = Groups(names, *self._arrays("popular", (f"{column}_offsets", f"{column}_items")))
        place: dict[str, tuple[int, int]] = {}
        for number, name in enumerate(names):
            for path in _and_above(name) if column == "category" else [name]:
                place[path] = (place.get(path, (number, number))[0], number + 1)
        return groups, place

    def _arrays(self, folder: str, names: tuple[str, ...]) -> list[NDArray[Any]]:
        return [mapped(self.folder / folder / f"{name}.npy") for name in names]


def check_release(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare a release with its name and its checksums.

    Raises:
        DamagedArtefact: naming the first file that is missing, differs or was added.
    """
    if "seal" not in manifest or manifest.get("name") != folder.resolve().name:
        raise DamagedArtefact(f"{folder}: renamed, or its {MANIFEST} was changed by hand; publish again")
    verify(folder, manifest)


def _and_above(path: str) -> list[str]:
    """`a/b/c` -> `a/b/c`, `a/b`, `a`."""
    parts = path.split("/")
    return ["/".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
