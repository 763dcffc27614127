"""What all trained models share: where they come from, how they are stored, and item-to-item answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import endcap
from endcap.answers import NOTHING, Candidates, Evidence, Items, Reason, Request, Scores
from endcap.artefact import new_artefact, save_array
from endcap.errors import InputError
from endcap.index import mapped
from endcap.models.checkpoint import Checkpoint
from endcap.models.search_space import SearchSpace
from endcap.settings import make_settings
from endcap.shop import Interactions, Shop, Vocabulary


@dataclass(frozen=True, eq=False)
class Origin:
    """What a trained model knows about its training data.

    Attributes:
        items: the vocabulary the model was trained with; a longer one with this prefix is compatible.
        n_users: length of the user vocabulary; trained_until: its last event + 1 us.
        counts: number of events of each interaction.
        users_fingerprint: of the user vocabulary, so that a model of another shop is refused.
    """

    items: Vocabulary
    interactions: Interactions
    n_users: int
    n_events: int
    counts: tuple[int, ...]
    trained_until: int
    seed: int
    users_fingerprint: str

    @classmethod
    def of(cls, shop: Shop, seed: int) -> Origin:
        positives = shop.positives
        counts = np.bincount(positives.interaction, minlength=len(shop.interactions))
        return cls(
            items=shop.items,
            interactions=shop.interactions,
            n_users=shop.n_users,
            n_events=len(shop.events),
            counts=tuple(counts.tolist()),
            trained_until=int(shop.events.time.max()) + 1 if len(shop.events) else shop.start,
            seed=seed,
            users_fingerprint=shop.users.fingerprint(),
        )

    @property
    def source(self) -> int:
        """The weakest interaction that occurs."""
        return next((code for code, count in enumerate(self.counts) if count), 0)

    @property
    def intent(self) -> int:
        """The first interaction of intent that occurs: carts, else purchases."""
        intents = self.interactions.intents
        return next((code for code in intents if self.counts[code]), intents[0])

    def about(self) -> dict[str, Any]:
        """What a model's manifest says of it; the ids themselves are a file, see `write`."""
        return {
            "interactions": list(self.interactions.names),
            "counts": list(self.counts),
            "n_items": len(self.items),
            "n_users": self.n_users,
            "n_events": self.n_events,
            "trained_until": self.trained_until,
            "seed": self.seed,
            "items_fingerprint": self.items.fingerprint(),
            "users_fingerprint": self.users_fingerprint,
        }

    def write(self, folder: Path) -> None:
        """Put the ids of the items into a model folder."""
        pq.write_table(pa.table({"item": self.items.ids}), folder / "items.parquet")

    @classmethod
    def read(cls, folder: Path, manifest: Mapping[str, Any]) -> Origin:
        """What `about` and `write` kept."""
        return cls(
            items=Vocabulary(pq.read_table(folder / "items.parquet")["item"]),
            interactions=Interactions(tuple(manifest["interactions"])),
            counts=tuple(manifest["counts"]),
            **{name: manifest[name] for name in ("n_users", "n_events", "trained_until", "seed", "users_fingerprint")},
        )

    def check_against(self, items: Vocabulary, what: str) -> None:
        """Refuse a vocabulary that does not begin with the model's.

        Raises:
            InputError: if the model was trained on another shop.
        """
        n = len(self.items)
        if len(items) < n or items.fingerprint(n) != self.items.fingerprint():
            raise InputError(f"{what} was trained on another shop: its {n:,} item ids are not how this shop's begin")


class Model:
    """A system that can be fitted, stored and asked item-to-item questions.

    A subclass gives `system`, `Config`, `_fit`, `related_batch`, `_arrays` and `_restore`; the rest follows from these.
    """

    system: ClassVar[str]
    Config: ClassVar[type[msgspec.Struct]]
    search_space: ClassVar[SearchSpace] = {}  # the settings that a tuning may try
    LAST_ACTIONS = 4  # "last 4, 200 each, 800 in all": paper, section 5.3
    PER_ACTION = 200

    def __init__(self, **settings: Any) -> None:
        self.config = make_settings(self.Config, settings, where=self.system)
        self.origin: Origin | None = None
        self.checkpoint = Checkpoint(None, {})
        self.tuning: dict[str, Any] | None = None  # how a tuning came to these settings, kept for an audit

    # -- fitting and storing ---------------------------------------------------------------------------------------

    def fit(
        self, shop: Shop, *, seed: int = 0, threads: int = 1, show: bool = False, checkpoint: Path | None = None
    ) -> Self:
        """Train on everything in the view. Same seed and one thread: bit-equal results.

        Args:
            threads: more than one trains lock-free; show: report progress on stderr.
            checkpoint: folder that an interrupted training goes on from when called again with the same settings;
                `save` removes it, so that not even a disk that is full by then costs the training.

        Raises:
            InputError: if the view holds nothing to learn from.
        """
        if len(shop.positives) == 0:
            raise InputError(f"{self.system}: the shop view has no positive events to learn from")
        self.origin = Origin.of(shop, seed)
        if checkpoint is not None:
            key = {**self._provenance(), "data": shop.fingerprint(), "given": self._given()}
            self.checkpoint = Checkpoint(checkpoint, key)
        self._fit(shop, seed=seed, threads=threads, show=show)
        return self

    def save(self, folder: str | Path) -> None:
        """Write the model folder, atomically."""
        manifest = {"kind": "model", **self._provenance(), "learned": self._learned(), "tuning": self.tuning}
        with new_artefact(Path(folder), manifest) as building:
            self._trained().write(building)
            for name, array in self._arrays().items():
                save_array(building / f"{name}.npy", array)
            self._write(building)
        self.checkpoint.remove()

    @classmethod
    def load(cls, folder: Path, manifest: Mapping[str, Any]) -> Self:
        """Open what `save` wrote; arrays are memory-mapped."""
        model = cls(**manifest["config"])
        model.tuning = manifest.get("tuning")
        model.origin = Origin.read(folder, manifest)
        arrays = {path.stem: mapped(path) for path in sorted(folder.glob("*.npy"))}
        model._restore(arrays, manifest["learned"])
        model._read(folder)
        return model

    def _provenance(self) -> dict[str, Any]:
        origin = self._trained()
        return {
            "system": self.system,
            "endcap": endcap.__version__,
            "config": msgspec.to_builtins(self.config),
            **origin.about(),
        }

    def _trained(self) -> Origin:
        if self.origin is None:
            raise InputError(f"{self.system}: not trained yet; call fit first")
        return self.origin

    def _given(self) -> str:
        """A digest of what else was given to learn from, beside the shop: a checkpoint goes with it."""
        return ""

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        raise NotImplementedError

    def _arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything learned that is an array."""
        raise NotImplementedError

    def _learned(self) -> dict[str, Any]:
        """Everything learned that is small: kept in the manifest."""
        return {}

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _write(self, folder: Path) -> None:
        """Store what is neither an array nor small, such as a network's weights."""

    def _read(self, folder: Path) -> None:
        """Read what `_write` stored, after `_restore`."""

    # -- answers ---------------------------------------------------------------------------------------------------

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """See `endcap.answers.RelatesItems`; `allowed` is (n_items,) bool."""
        raise NotImplementedError

    def candidates(self, request: Request) -> Candidates:
        """Because of the item asked about, else of what lies in the basket, else of the last actions."""
        actions = self._actions(request)
        want = self._want(request)
        lists = self._related_rows(actions, want, request)
        return unite(lists, actions, want, self.system, request)

    def explain(self, request: Request, item: int) -> list[Reason]:
        """The past actions whose lists hold the item, strongest first."""
        answer = self.candidates(request)
        where = np.flatnonzero(answer.items == item)
        if answer.evidence is None or len(where) == 0:
            return []
        row, evidence = where[0], answer.evidence
        return [
            Reason(
                "because",
                item=int(evidence.because[row]),
                seen_as=int(evidence.seen_as[row]),
                want=int(evidence.want[row]),
                value=float(answer.scores[row]),
            )
        ]

    def related(
        self, item: str, *, seen_as: str | None = None, want: str | None = None, k: int = 10
    ) -> list[tuple[str, float]]:
        """Because you `seen_as` this item, you may `want` those: (item id, score) pairs, best first.

        Left out, `seen_as` is the weakest interaction the log has and `want` carts, else purchases.

        Raises:
            InputError: for an item or interaction that the model does not know, or k < 1.
        """
        origin = self._trained()
        number = origin.items.number(item)
        if number < 0:
            raise InputError(f"unknown item {item!r}: it was not in the training data")
        if k < 1:
            raise InputError(f"k={k}: ask for at least one item")
        request = Request(
            k=k,
            item=number,
            seen_as=None if seen_as is None else origin.interactions.code(seen_as),
            want=None if want is None else origin.interactions.code(want),
        )
        answer = self.candidates(request)
        return list(zip(origin.items.decode(answer.items), answer.scores.tolist(), strict=True))

    def _actions(self, request: Request) -> list[tuple[int, int]]:
        """The (item, seen as) pairs that the answer follows from, most recent first, known items only."""
        origin = self._trained()
        if request.item is not None:
            pairs = [(request.item, origin.source if request.seen_as is None else request.seen_as)]
        elif len(request.basket):
            pairs = [(int(request.basket[-1]), origin.intent)]  # cart page: the last carted item (paper, section 5.3)
        else:
            past = request.history
            pairs = [(int(i), int(t)) for i, t in zip(past.items[::-1], past.interactions[::-1], strict=True)]
            if request.seen_as is not None:
                pairs = [pair for pair in pairs if pair[1] == request.seen_as]
            pairs = list(dict.fromkeys(pairs))[: self.LAST_ACTIONS]
        return [pair for pair in pairs if 0 <= pair[0] < len(origin.items)]

    def _want(self, request: Request) -> int:
        return self._trained().intent if request.want is None else request.want

    def _related_rows(self, actions: list[tuple[int, int]], want: int, request: Request) -> list[tuple[Items, Scores]]:
        """The lists of some actions, as long as `unite` can need them.

        Whatever stands in a list before an item, stands before it in the union, too, which leaves out nothing but what
        was asked about. So an item that is among the first k of the union is among the first k and those left out of
        some list. Only where that reaches beyond `PER_ACTION`, where a union orders by rank, more is needed.
        """
        budget = request.k + len(request.basket)
        if budget > self.PER_ACTION and request.item is None:
            budget = 2 * max(self.PER_ACTION, request.k)
        budget = min(budget, len(self._trained().items))
        lists: dict[tuple[int, int], tuple[Items, Scores]] = {}
        for kind in dict.fromkeys(seen_as for _, seen_as in actions):  # actions of one kind together: one search
            asked = np.array([item for item, seen_as in actions if seen_as == kind], np.int32)
            found = self.related_batch(asked, kind, want, budget, request.allowed)
            for item, items, scores in zip(asked.tolist(), *found, strict=True):
                lists[item, kind] = items[items >= 0], scores[items >= 0]
        return [lists[action] for action in actions]


def unite(
    lists: list[tuple[Items, Scores]], actions: list[tuple[int, int]], want: int, source: str, request: Request
) -> Candidates:
    """The union of the lists of several actions: each item once, with its best score and the action that gave it.

    First the union of the first `PER_ACTION` of each list, by score; where that is shorter than k, the further ranks
    of all lists in turn. Neither the item asked about nor what lies in the basket is answered.
    """
    if not any(len(items) for items, _ in lists):
        return NO_CANDIDATES
    if len(lists) == 1:
        return _alone(*lists[0], actions[0], want, source, request)
    items = np.concatenate([items for items, _ in lists])
    scores = np.concatenate([scores for _, scores in lists])
    by = np.repeat(np.arange(len(lists)), [len(items) for items, _ in lists])
    rank = np.concatenate([np.arange(len(items)) for items, _ in lists])
    beyond = np.where(rank < Model.PER_ACTION, 0, rank)
    order = np.lexsort((items, -scores, beyond))
    order = order[~np.isin(items[order], _asked(request))]
    _, first = np.unique(items[order], return_index=True)
    chosen = order[np.sort(first)][: request.k]
    because = np.array([actions[row][0] for row in by[chosen]], np.int32)
    seen_as = np.array([actions[row][1] for row in by[chosen]], np.int8)
    evidence = Evidence(because, seen_as, np.full(len(chosen), want, np.int8))
    return Candidates(items[chosen], scores[chosen], [source] * len(chosen), evidence)


def _alone(
    items: Items, scores: Scores, action: tuple[int, int], want: int, source: str, request: Request
) -> Candidates:
    """The union of one list."""
    if len(request.basket):
        open_to = ~np.isin(items, request.basket)
        items, scores = items[open_to], scores[open_to]
    items, scores = items[: request.k], scores[: request.k]
    evidence = Evidence(
        np.full(len(items), action[0], np.int32),
        np.full(len(items), action[1], np.int8),
        np.full(len(items), want, np.int8),
    )
    return Candidates(items, scores, [source] * len(items), evidence)


def extend(answer: Candidates, more: Candidates, request: Request) -> Candidates:
    """Fill an answer up to k with the candidates of a fallback that it does not hold yet."""
    fresh = ~np.isin(more.items, np.append(answer.items, _asked(request)))
    if request.allowed is not None:
        fresh &= request.allowed[more.items]
    rows = np.flatnonzero(fresh)[: request.k - len(answer)]
    old, new = answer.evidence or NO_EVIDENCE, more.evidence or no_evidence(len(more))
    return Candidates(
        np.append(answer.items, more.items[rows]),
        np.append(answer.scores, more.scores[rows]),
        [*answer.source, *(more.source[row] for row in rows)],
        Evidence(
            np.append(old.because, new.because[rows]),
            np.append(old.seen_as, new.seen_as[rows]),
            np.append(old.want, new.want[rows]),
        ),
    )


def no_evidence(n: int) -> Evidence:
    """Evidence of n candidates that no past action stands behind."""
    return Evidence(np.full(n, -1, np.int32), np.full(n, -1, np.int8), np.full(n, -1, np.int8))


def _asked(request: Request) -> Items:
    return request.basket if request.item is None else np.append(request.basket, np.int32(request.item))


NO_EVIDENCE = no_evidence(0)
NO_CANDIDATES = Candidates(NOTHING, np.empty(0, np.float32), [], NO_EVIDENCE)
