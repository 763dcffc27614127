"""The few types that every question and answer is made of, and the protocols that a model may satisfy.

Everything here is dense: items and users are int32 numbers of the shop's vocabularies, interactions are int8 codes of
its interaction list (weak to strong). External ids become dense once, at the edge, and turn back once, at the edge.
-1 pads; id 0 is an item like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

Items = NDArray[np.int32]
Scores = NDArray[np.float32]
NOTHING: Items = np.empty(0, np.int32)


@dataclass(frozen=True, eq=False)
class History:
    """One person's positive actions, oldest first: three arrays of one length."""

    items: Items = field(default_factory=lambda: np.empty(0, np.int32))
    interactions: NDArray[np.int8] = field(default_factory=lambda: np.empty(0, np.int8))
    times: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # microseconds since 1970, UTC

    def __len__(self) -> int:
        return len(self.items)

    def last(self, n: int, interaction: int | None = None) -> History:
        """The last n actions, oldest first; with `interaction`, the last n of that kind."""
        where = np.arange(len(self)) if interaction is None else np.flatnonzero(self.interactions == interaction)
        where = where[len(where) - min(n, len(where)) :]
        return History(self.items[where], self.interactions[where], self.times[where])


@dataclass(frozen=True, eq=False, kw_only=True)
class Request:
    """One question.

    Attributes:
        k: how many items are wanted.
        item, seen_as, want: "because you `seen_as` this `item`, you may `want` that"; codes of interactions.
        history: the asker's past; basket: items in the cart now.
        searches: what the asker looked for: texts and times (microseconds since 1970, UTC).
        allowed: (n_items,) bool, the only items that may be answered; None allows all. Rules and filters arrive here,
            so that k answers come back where k exist.
    """

    k: int
    user: int | None = None
    item: int | None = None
    seen_as: int | None = None
    want: int | None = None
    history: History = field(default_factory=History)
    basket: Items = field(default_factory=lambda: NOTHING)
    searches: tuple[tuple[str, int], ...] = ()
    domain: str | None = None
    allowed: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """For each candidate the past action behind it and the interaction it was looked up for; -1 where none.

    `together`: how often each was bought with what it goes back to, of a model that goes by that; 0 where never.
    """

    because: Items
    seen_as: NDArray[np.int8]
    want: NDArray[np.int8]
    together: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What lay near and was left out as a rival: items (n,), the nearest first, and P(complement) of each."""

    items: Items
    complement: Scores


@dataclass(frozen=True, eq=False)
class Candidates:
    """An answer: items by descending score, each with the step of the model that found it.

    Attributes:
        items: (n,) int32; scores: (n,) float32, not increasing inside one source.
        source: n names; the system's own name, or a declared fallback such as `item-interaction/seller`.
        parts: what each score is made of, by name, (n,) each; NaN where an item has none.
        left_out: of a model that keeps rivals away, those that it met; None of any other.
    """

    items: Items
    scores: Scores
    source: Sequence[str]
    evidence: Evidence | None = None
    parts: Mapping[str, Scores] | None = None
    left_out: LeftOut | None = None

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Reason:
    """Why an item stands in an answer, in numbers; the edge writes the sentence.

    `kind` is one of: `because` (item, seen_as, want), `interest` (items: the past actions behind it, strongest first),
    `ranker` (note: the feature, value: what it added), `popular`, `category`, `seller`, `rule`, `strategy` (note: how
    an item with few events is found) and `relation`, by its note: `bought together` (item, value: how often),
    `by way of` (items: a path), `by category` (item), `attention` (item, value: its share).
    """

    kind: str
    item: int | None = None
    seen_as: int | None = None
    want: int | None = None
    value: float | None = None
    note: str = ""
    items: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Space:
    """Vectors that can be searched: row r of `vectors` (n, d) float32 belongs to item `items[r]`.

    `metric` is always the inner product; a model that wants cosine gives unit vectors.
    """

    items: Items
    vectors: NDArray[np.float32]


class Searcher(Protocol):
    """Nearest neighbours by inner product over one `Space` (see endcap.index)."""

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[Items, Scores]:
        """queries (q, d) -> items (q, k) and scores (q, k), best first, padded with -1 and -inf."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Answers a request with candidates."""

    def candidates(self, request: Request) -> Candidates: ...


@runtime_checkable
class RelatesItems(Protocol):
    """Item-to-item lists in bulk, without fallbacks: what `purchase-intent` measures."""

    def related_batch(self, items: Items, seen_as: int, want: int, k: int) -> tuple[Items, Scores]:
        """items (n,) -> related (n, k) and scores (n, k), best first, padded with -1, -inf; never the item itself."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Scores given items for a request, higher is better."""

    def score(self, request: Request, items: Items) -> Scores: ...


@runtime_checkable
class Explainer(Protocol):
    """Says why; asked only for the items that are returned."""

    def explain(self, request: Request, item: int) -> list[Reason]: ...


@runtime_checkable
class TellsRivals(Protocol):
    """Tells what goes with what is asked about from what stands in its place."""

    def rivals(self, request: Request, items: Items) -> NDArray[np.bool_] | None:
        """(n,) which of these items, all known to it, are more likely rivals; None where it cannot tell."""
        ...


@runtime_checkable
class Indexed(Protocol):
    """Has vector spaces that a release may index. Keys name the space, e.g. the target interaction."""

    def spaces(self) -> Mapping[str, Space]: ...

    def attach(self, searchers: Mapping[str, Searcher]) -> None: ...


@runtime_checkable
class EncodesItems(Protocol):
    """Gives vectors to items it never saw, and to askers in the same space: a new item joins the next search.

    The score of an item is the largest inner product of its vector with one of the asker's.
    """

    def encode_items(self, table: pa.Table) -> NDArray[np.float32]:
        """Rows of a catalogue (title, category, brand, price ... where known) -> (n, d)."""
        ...

    def queries(self, request: Request) -> NDArray[np.float32]:
        """(K, d): one vector for each interest of the asker; K is 0 where nothing is known of them."""
        ...


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a second pass makes of candidates: items (n,) by descending score; both arrays of one length.

    Attributes:
        reasons: asked for some of the items, those that are returned: what moved each, the strongest first.
    """

    items: Items
    scores: Scores
    reasons: Callable[[Items], list[list[Reason]]]


@runtime_checkable
class Ranks(Protocol):
    """Puts the candidates of several models in one order; it has none of its own."""

    @property
    def sources(self) -> Sequence[str]:
        """The names of the models that it was fitted on."""
        ...

    def rank(self, request: Request, found: Mapping[str, Candidates]) -> Ranking:
        """All candidates of the sources, each item once; a source may be missing."""
        ...
