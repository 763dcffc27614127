"""What the models of a person's history share: their data, one validation, how they are stored, how they answer.

A subclass gives a torch module with two towers, `items` (numbers -> vectors) and `users` (pasts -> interest vectors).
It is trained on cuts of people's histories (what came before, what came next) or at every position of a sequence. The
item vectors are then computed once; the user tower runs at request time.

Validation is by default the last action of each person that is held out from training (`validation=last-item`): a
held-out last tenth of the log would cost a model of sequences its newest data, or a second training.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional

from endcap.answers import Candidates, Evidence, Items, Reason, Request, Scores, Searcher, Space
from endcap.errors import DamagedArtefact, InputError
from endcap.index import Exact
from endcap.models.base import NO_CANDIDATES, Model
from endcap.models.lesson import Lesson
from endcap.nn.histories import Cuts, Histories, Past, past_of
from endcap.nn.training import TrainingSettings, device_of, train
from endcap.shop import Events, Shop
from endcap.shop.shop import duration

WEIGHTS = "weights.safetensors"
ASKED_TOGETHER = (
    64  # people whose vectors are computed in one pass; always so many, so that answers do not depend on it
)
ENCODED_TOGETHER = 8192
LAST_ITEM = "last-item"
SPACE = "items"
REASONS = 3

Vectors = NDArray[np.float32]


class HistoryConfig(TrainingSettings, frozen=True, kw_only=True):
    """Settings that all models of histories have."""

    dim: Annotated[int, Meta(ge=2, le=1024, description="length of the vectors")] = 64
    longest: Annotated[int, Meta(ge=1, le=1000, description="actions of a past that are looked at, the last ones")] = 50
    dropout: Annotated[float, Meta(ge=0, lt=1, description="share of activations left out in training")] = 0.2
    targets: Annotated[str, Meta(pattern="^(new|all)$", description="new: foresee items new to the person; all")] = (
        "new"
    )
    target_weights: Annotated[
        dict[str, float], Meta(description="weight of the loss by interaction, as {click=1, purchase=5}; else 1; 0: no")
    ] = msgspec.field(default_factory=dict)
    loss: Annotated[
        str,
        Meta(
            pattern="^(softmax|pairwise|binary)$",
            description="softmax over the batch's items; pairwise (BPR) or binary (SASRec's): one negative each",
        ),
    ] = "softmax"
    negatives: Annotated[
        int, Meta(ge=0, description="items drawn for a batch, which share it with its targets; 0: all items")
    ] = 2048
    in_batch: Annotated[
        bool, Meta(description="the batch's targets are negatives, too; false: those that are drawn alone")
    ] = True
    negatives_exponent: Annotated[float, Meta(ge=0, le=2, description="drawn by count ** this; 0: evenly")] = 0.0
    logq: Annotated[float, Meta(ge=0, le=1, description="how far the draw's chances are corrected; 0: not")] = 1.0
    temperature: Annotated[
        float, Meta(ge=0, description="vectors of length 1 and a learnt temperature from this; 0: plain products")
    ] = 0.0
    validation: Annotated[
        str,
        Meta(description="last-item of each person; or the log's last part, as 7d or 0.1, which is then not learnt"),
    ] = LAST_ITEM
    validation_metric: Annotated[
        str, Meta(pattern=r"^(ndcg|recall)@[1-9]\d*$", description="of the full ranking, unseen items only")
    ] = "ndcg@10"
    validation_people: Annotated[int, Meta(ge=1, description="whose last items are held out, at most")] = 5000


class Interests(NamedTuple):
    """What a user tower says of B people: vectors (B, K, d), weights of the actions (B, K, T), and actions (B, T, d).

    A person's score for an item is the largest vectors[k] . item; weights[k, t] * actions[t] . item is what action t
    adds to it (for interests that are not weighted sums: roughly).
    """

    vectors: Tensor
    weights: Tensor
    actions: Tensor


class Asker(NamedTuple):
    """`Interests` of one person as arrays, which small sums are quicker with: (K, d), (K, T), (T, d)."""

    vectors: Vectors
    weights: Vectors
    actions: Vectors

    @classmethod
    def of(cls, found: Interests) -> Self:
        return cls(*(part[0].numpy() for part in found))


class TwoTowers(nn.Module):
    """The two towers that a subclass of HistoryModel trains."""

    def items(self, numbers: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """numbers (n,) -> what is searched (n, d), and a second vector (n, d) for a second loss, if there is one."""
        raise NotImplementedError

    def users(self, vectors: Tensor, past: Past) -> Interests:
        """vectors (B, T, d) of a past's items, 0 where padded."""
        raise NotImplementedError

    def states(self, vectors: Tensor, past: Past) -> Tensor:
        """What is foreseen after each action (B, T, d); for models that train at every position."""
        raise NotImplementedError

    def penalty(self, interests: Interests, past: Past) -> Tensor | float:
        """Added to the loss."""
        return 0.0


class Cases(NamedTuple):
    """Validation: pasts, and what came next."""

    histories: Histories
    cuts: Cuts
    target: NDArray[np.int32]


class HistoryModel(Model):
    """A two-tower model of histories; see the module's docstring."""

    config: HistoryConfig
    by_position: ClassVar[bool] = False  # train at every position of a sequence instead of on cuts

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._searcher: Searcher | None = None
        self._asker: tuple[Request, tuple[Past, Asker] | None] | None = None

    @property
    def best_score(self) -> float | None:
        """The validation metric of the epoch whose weights were kept; None without validation."""
        epochs = self._course["epochs"]
        return epochs[self._course["best_epoch"] - 1]["score"] if epochs else None

    # -- what a subclass gives ---------------------------------------------------------------------------------------

    def _events(self, shop: Shop) -> Events:
        """What stands in the histories; items from `n_items` on are read as part of a past, and never foreseen."""
        return shop.positives

    def _prepare(self, shop: Shop, training: Histories, threads: int) -> None:
        """Read what the towers need from the shop and the actions to learn from."""

    def _further(self) -> Tensor | None:
        """(m, d): in training, what the numbers from `n_items` on stand for."""
        return None

    def _module_of(self, n_items: int) -> TwoTowers:
        """The untrained towers."""
        raise NotImplementedError

    def _watch(self) -> dict[str, float]:
        """Figures to log after each epoch."""
        sample = self._known_items()[:: max(1, int(self._has_vector.sum()) // 1000)]
        vectors = functional.normalize(self._towers.items(sample)[0], dim=1)
        n = max(2, len(vectors))
        return {"mean_cosine": float((vectors.sum(0) ** 2).sum() - n) / (n * (n - 1))}  # 1: over-smoothed

    # -- fitting -----------------------------------------------------------------------------------------------------

    def _fit(self, shop: Shop, *, seed: int, threads: int, show: bool) -> None:
        whole = histories_of(self._events(shop), shop.n_users)
        training, cases = self._hold_out(whole, shop, seed)
        device = device_of(self.config)
        torch.set_num_threads(max(1, threads))
        actions = training.where(training.items < shop.n_items)
        self._counts = np.bincount(actions.items, minlength=shop.n_items).astype(np.int64)
        with threadpool_limits(threads, "blas"):
            self._prepare(shop, actions, threads)
            self._has_vector = self._with_vector(shop)
            torch.manual_seed(seed)
            self._towers = self._module_of(shop.n_items).to(device)
            lesson = Lesson(self, training, seed)
            course = train(
                self._towers,
                plan=lesson.plan,
                loss=lesson.loss,
                validate=(lambda: self._validate(cases)) if len(cases.target) else None,
                watch=self._watch,
                where=lesson.where,
                settings=self.config,
                seed=seed,
                keeper=self.checkpoint.stage("training"),
                name=self.system,
                threads=threads,
                show=show,
            )
            self._towers, self._course = self._towers.cpu(), course.summary()
            self._table, self._nodes = self._item_tables()
        self._searcher, self._asker = None, None
        self.__dict__.pop("_node_tensor", None)

    def _hold_out(self, whole: Histories, shop: Shop, seed: int) -> tuple[Histories, Cases]:
        """The part to learn from, and the validation cases: a past and the next item, new to the person if wanted."""
        rows, ends = np.arange(len(whole.items)), whole.offsets[1:]
        start = np.repeat(whole.offsets[:-1], whole.lengths)
        wanted = (rows > start) & (whole.items < shop.n_items)
        if self.config.targets == "new":
            wanted &= whole.new_to_person()
        cut: NDArray[np.int64] | None = None
        if self.config.validation == LAST_ITEM:
            last = np.full(len(whole), -1, np.int64)
            person = whole.person
            np.maximum.at(last, person[wanted], rows[wanted])
            people = np.flatnonzero(last >= whole.offsets[:-1] + 2)  # something must be left to learn from
            people = _some(people, self.config.validation_people, seed)
            held = last[people]
            cut = ends.copy()
            cut[people] = held
            kept = rows < np.repeat(cut, whole.lengths)
        else:
            begin = shop.cut(_share_or_duration(self.config.validation))
            kept = whole.times < begin
            first = np.full(len(whole), len(rows), np.int64)
            later = wanted & ~kept
            np.minimum.at(first, whole.person[later], rows[later])
            people = _some(np.flatnonzero(first < len(rows)), self.config.validation_people, seed)
            held = first[people]
        if not kept.any():
            raise InputError(f"{self.system}: validation={self.config.validation} leaves nothing to learn from")
        starts = whole.offsets[:-1][people]
        cuts = Cuts(np.maximum(starts, held - self.config.longest), held)
        return whole.where(kept), Cases(whole, cuts, whole.items[held])

    def _with_vector(self, shop: Shop) -> NDArray[np.bool_]:
        """(n_items,): items that can be answered; those that were acted on."""
        return self._counts > 0

    def _known_items(self) -> NDArray[np.int64]:
        return np.flatnonzero(self._has_vector)

    @property
    def nodes_are_second(self) -> bool:
        """Whether the actions of a past are the items' second vectors instead of those that are searched."""
        return False

    def _item_tables(self) -> tuple[Vectors, Vectors]:
        """(n_items, d) what is searched, and what an action is; 0 for items without a vector."""
        table = np.zeros((len(self._has_vector), self.config.dim), np.float32)
        nodes = np.zeros_like(table) if self.nodes_are_second else table
        known = self._known_items()
        self._towers.eval()
        with torch.no_grad():
            for begin in range(0, len(known), ENCODED_TOGETHER):
                block = known[begin : begin + ENCODED_TOGETHER]
                vectors, second = self._towers.items(block)
                table[block] = self.finished(vectors).cpu().numpy()
                if self.nodes_are_second and second is not None:
                    nodes[block] = self.finished(second).cpu().numpy()
        return table, nodes

    def finished(self, vectors: Tensor) -> Tensor:
        """Vectors as they are multiplied: of length 1 where a temperature is used."""
        return functional.normalize(vectors, dim=-1) if self.config.temperature else vectors

    def _validate(self, cases: Cases) -> float:
        """The validation metric over the full ranking of items that the person has not acted on."""
        table, nodes = map(torch.from_numpy, self._item_tables())
        further = self._further()
        metric, _, k = self.config.validation_metric.partition("@")
        gains = np.zeros(len(cases.target))
        seen = Cuts(cases.histories.offsets[:-1][_person_of(cases)], cases.cuts.target)
        for begin in range(0, len(gains), 256):
            block = np.arange(begin, min(begin + 256, len(gains)))
            vectors = self._vectors_of(past_of(cases.histories, cases.cuts.take(block)), nodes, further).vectors
            scores = (vectors @ table.T).amax(1)
            scores[:, ~torch.from_numpy(self._has_vector)] = -torch.inf
            target = torch.from_numpy(cases.target[block].astype(np.int64))
            own = scores.gather(1, target[:, None])
            lengths = seen.target[block] - seen.begin[block]
            who = np.repeat(np.arange(len(block)), lengths)
            rows = np.concatenate([np.arange(a, b) for a, b in zip(seen.begin[block], seen.target[block], strict=True)])
            items = cases.histories.items[rows].astype(np.int64)
            acted = items < len(table)
            scores[torch.from_numpy(who[acted]), torch.from_numpy(items[acted])] = -torch.inf
            rank = (scores > own).sum(1).numpy()
            found = (rank < int(k)) & np.isfinite(own[:, 0].numpy())
            gains[block] = found / np.log2(rank + 2) if metric == "ndcg" else found
        return float(gains.mean())

    def _vectors_of(self, past: Past, table: Tensor, further: Tensor | None = None) -> Interests:
        """Interests of people from a table of what actions are; made on the towers' device, given on the table's.

        `further` (m, d) goes on where the table (n_items, d) ends.
        """
        device = next(self._towers.parameters()).device
        numbers = torch.from_numpy(past.items)
        vectors = functional.embedding(numbers.clamp(0, len(table) - 1), table) * (numbers >= 0)[..., None]
        if further is not None:
            rest = numbers - len(table)
            vectors = torch.where((rest >= 0)[..., None], functional.embedding(rest.clamp_min(0), further), vectors)
        found = self._towers.users(vectors.to(device), past)
        return Interests(self.finished(found.vectors).to(table.device), found.weights, found.actions)

    # -- storing -----------------------------------------------------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        nodes = {"nodes": self._nodes} if self.nodes_are_second else {}
        return {"items": self._table, "has_vector": self._has_vector, **nodes}

    def _learned(self) -> dict[str, Any]:
        return {"course": self._course}

    def _write(self, folder: Path) -> None:
        state = {name: value.contiguous().numpy() for name, value in self._towers.state_dict().items()}
        (folder / WEIGHTS).write_bytes(save(state))

    def _restore(self, arrays: Mapping[str, NDArray[Any]], learned: Mapping[str, Any]) -> None:
        self._table, self._has_vector = arrays["items"], arrays["has_vector"]
        self._nodes = arrays.get("nodes", self._table)
        self._course = learned["course"]

    def _read(self, folder: Path) -> None:
        self._towers = self._module_of(len(self._has_vector))
        weights = {name: torch.tensor(value) for name, value in load_file(folder / WEIGHTS).items()}
        try:
            self._towers.load_state_dict(weights)
        except RuntimeError as error:
            raise DamagedArtefact(f"{folder / WEIGHTS}: not the weights of this model ({error}); train again") from None
        self._towers.eval()

    # -- answers -----------------------------------------------------------------------------------------------------

    def spaces(self) -> dict[str, Space]:
        known = self._known_items().astype(np.int32)
        return {SPACE: Space(known, np.ascontiguousarray(self._table[known]))} if len(known) else {}

    def attach(self, searchers: Mapping[str, Searcher]) -> None:
        """Search with this instead of exactly."""
        self._searcher = searchers.get(SPACE, self._searcher)

    def queries(self, request: Request) -> Vectors:
        """See `endcap.answers.EncodesItems`: the asker's interests (K, d)."""
        asker = self._asker_of(request)
        return np.empty((0, self.config.dim), np.float32) if asker is None else asker[1].vectors

    def candidates(self, request: Request) -> Candidates:
        """What is nearest to any of the asker's interests; neither what was asked about nor what is in the basket."""
        vectors = self.queries(request)
        if len(vectors) == 0:
            return NO_CANDIDATES
        asked = np.append(request.basket, request.item) if request.item is not None else request.basket
        wanted = min(request.k + len(asked), len(self._table))
        items, scores = _merged(*self._search(vectors, wanted, request.allowed), 1)
        kept = (items[0] >= 0) & ~np.isin(items[0], asked)
        items, scores = items[0][kept][: request.k], scores[0][kept][: request.k]
        nothing = np.full(len(items), -1, np.int32)
        evidence = Evidence(nothing, nothing.astype(np.int8), np.full(len(items), self._want(request), np.int8))
        return Candidates(items, scores, [self.system] * len(items), evidence)

    def score(self, request: Request, items: Items) -> Scores:
        """The largest product with one of the asker's interests; items without a vector come last."""
        vectors, known = self.queries(request), self._answerable(items)
        scores = np.zeros(len(items), np.float32)
        if len(vectors) and known.any():
            scores[known] = (self._table[items[known]] @ vectors.T).max(1)
            scores[~known] = scores[known].min() - 1
        return scores

    def explain(self, request: Request, item: int) -> list[Reason]:
        """The past actions behind the item: what each adds to the score of the interest that found it."""
        asker = self._asker_of(request)
        if asker is None or not self._answerable(np.array([item]))[0]:
            return []
        (past, found), vector = asker, self._table[item]
        scores = found.vectors @ vector
        interest = int(scores.argmax())
        added = found.weights[interest] * (found.actions @ vector)
        strongest = past.items[0, np.argsort(-added, kind="stable")].tolist()
        behind = tuple(dict.fromkeys(item for item in strongest if 0 <= item < len(self._table)))[:REASONS]
        if not behind:
            return []
        return [Reason("interest", items=behind, value=float(scores[interest]), note=f"interest {interest + 1}")]

    def related_batch(
        self, items: Items, seen_as: int, want: int, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """What comes next for somebody who did nothing but `seen_as` this item; `want` makes no difference."""
        found = np.full((len(items), k), -1, np.int32)
        scores = np.full((len(items), k), -np.inf, np.float32)
        known = np.flatnonzero(self._answerable(items))
        for begin in range(0, len(known) if k > 0 else 0, ASKED_TOGETHER):
            block = known[begin : begin + ASKED_TOGETHER]
            asked = np.resize(items[block], ASKED_TOGETHER).astype(np.int64)[:, None]  # filled up with repeats
            vectors = self._interests(Past(asked, np.full_like(asked, seen_as), np.zeros_like(asked))).vectors
            flat = vectors[: len(block)].flatten(0, 1).numpy()
            near, near_scores = _merged(*self._search(flat, k + 1, allowed), len(block))
            near_scores[near == items[block, None]] = -np.inf
            order = np.argsort(-near_scores, axis=1, kind="stable")[:, :k]
            width = order.shape[1]
            scores[block, :width] = np.take_along_axis(near_scores, order, 1)
            found[block, :width] = np.take_along_axis(near, order, 1)
        found[np.isneginf(scores)] = -1
        return found, scores

    def _search(self, vectors: Vectors, k: int, allowed: NDArray[np.bool_] | None) -> tuple[Items, Scores]:
        if self._searcher is None:
            self._searcher = Exact(self.spaces()[SPACE])
        return self._searcher.search(np.ascontiguousarray(vectors), k, allowed)

    def _answerable(self, items: NDArray[np.integer]) -> NDArray[np.bool_]:
        """(n,): which items have a vector."""
        inside = (items >= 0) & (items < len(self._has_vector))
        return inside & self._has_vector[np.where(inside, items, 0)]

    def _past(self, request: Request) -> tuple[Past, Tensor | None]:
        """The known actions a request speaks of, as a batch of one, and (m, d) what numbers after the items' are."""
        origin = self._trained()
        if request.item is not None:
            kind = origin.source if request.seen_as is None else request.seen_as
            items, kinds, times = np.array([request.item]), np.array([kind]), np.zeros(1, np.int64)
        else:
            history, basket = request.history, request.basket
            now = int(history.times[-1]) if len(history) else 0
            items = np.append(history.items, basket)
            kinds = np.append(history.interactions, np.full(len(basket), origin.intent))
            times = np.append(history.times, np.full(len(basket), now))
        known = self._answerable(items)
        return Past(*(np.asarray(part[known], np.int64)[None] for part in (items, kinds, times))), None

    def _asker_of(self, request: Request) -> tuple[Past, Asker] | None:
        """The asker's past and interests; kept for the last request, whose search and reasons share one pass."""
        kept = self._asker
        if kept is None or kept[0] is not request:
            whole, further = self._past(request)
            past = Past(*(part[:, -self.config.longest :] for part in whole))
            nobody = past.items.shape[1] == 0
            kept = self._asker = request, None if nobody else (past, Asker.of(self._interests(past, further)))
        return kept[1]

    @cached_property
    def _node_tensor(self) -> Tensor:
        return _tensor(self._nodes)

    @torch.inference_mode()
    def _interests(self, past: Past, further: Tensor | None = None) -> Interests:
        """The user tower for a small batch of pasts: by one thread, since several would mostly wait for each other."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return self._vectors_of(past, self._node_tensor, further)
        finally:
            torch.set_num_threads(threads)


def check_heads(dim: int, heads: int) -> None:
    """Raises ValueError unless the vectors can be split among the heads."""
    if dim % heads:
        raise ValueError(f"dim={dim} is no multiple of heads={heads}")


def histories_of(past: Events, n_users: int) -> Histories:
    """The events of people, in order of time."""
    order = np.lexsort((past.time, past.user))
    offsets = np.searchsorted(past.user[order], np.arange(n_users + 1)).astype(np.int64)
    return Histories(offsets, past.item[order], past.interaction[order], past.time[order])


def _merged(items: Items, scores: Scores, people: int) -> tuple[Items, Scores]:
    """Lists (people * K, m) of several interests -> (people, K * m): each item once, its best score, best first."""
    items, scores = items.reshape(people, -1), scores.reshape(people, -1)
    order = np.lexsort((-scores, items), axis=-1)
    ordered = np.take_along_axis(items, order, 1)
    again = np.zeros(items.shape, bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    best = np.where(again | (ordered < 0), -np.inf, np.take_along_axis(scores, order, 1)).astype(np.float32)
    order = np.argsort(-best, axis=1, kind="stable")
    best = np.take_along_axis(best, order, 1)
    return np.where(np.isneginf(best), -1, np.take_along_axis(ordered, order, 1)).astype(np.int32), best


def _some(people: NDArray[np.int64], at_most: int, seed: int) -> NDArray[np.int64]:
    if len(people) <= at_most:
        return people
    return np.sort(np.random.default_rng([seed, len(people)]).choice(people, at_most, replace=False))


def _person_of(cases: Cases) -> NDArray[np.int64]:
    return np.searchsorted(cases.histories.offsets, cases.cuts.target, side="right") - 1


def _share_or_duration(text: str) -> str | float:
    """A part of the log as `Shop.cut` reads it.

    Raises:
        InputError: if it is neither a share nor a duration.
    """
    if re.fullmatch(r"0?\.\d+", text):
        return float(text)
    try:
        duration(text)
    except InputError:
        raise InputError(f"validation={text!r}: write last-item, a share such as 0.1, or a time such as 7d") from None
    return text


def _tensor(array: NDArray[Any]) -> Tensor:
    """An array, which may be mapped read-only, as a tensor over the same memory that nobody writes to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, about read-only arrays
        return torch.from_numpy(array)
