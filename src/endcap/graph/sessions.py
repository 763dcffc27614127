"""Sessions as sequences of tokens, a token being a pair (thing, interaction): the corpus of item-interaction models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from endcap.kernels.pairs import top_following
from endcap.shop import Events


@dataclass(frozen=True, eq=False)
class TypedSessions:
    """A corpus over the pairs that occur in it.

    Tokens are numbered by (interaction, thing), so all pairs of one interaction are neighbours:
    `type_offsets[t]:type_offsets[t + 1]`.

    Attributes:
        tokens: (m,) int32, all sessions in a row; offsets: (sessions + 1,) int64.
        thing, kind: (n_tokens,) int32, what each token is made of.
        row_of: (n_kinds, n_things) int32, the token of a pair, -1 if it does not occur.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    thing: NDArray[np.int32]
    kind: NDArray[np.int32]
    row_of: NDArray[np.int32]

    @property
    def n_tokens(self) -> int:
        return len(self.thing)

    @property
    def type_offsets(self) -> NDArray[np.int64]:
        return np.searchsorted(self.kind, np.arange(len(self.row_of) + 1)).astype(np.int64)

    @property
    def n_sessions_of(self) -> NDArray[np.int64]:
        """(n_tokens,): in how many sessions each token occurs."""
        session = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        pairs = np.unique(session * self.n_tokens + self.tokens)
        return np.bincount(pairs % max(self.n_tokens, 1), minlength=self.n_tokens)

    def following(
        self, k: int, *, min_count: int = 1, same_thing: bool = False, reach: int = 1000, threads: int = 1
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """For each token and each interaction the k tokens that most often come later in a session.

        Returns:
            top and counts, both (n_tokens, n_kinds * k), see `endcap.kernels.pairs.top_following`.
        """
        kinds = len(self.row_of)
        found, found_counts = top_following(
            self.tokens,
            self.offsets,
            self.kind,
            self.thing,
            k=k,
            min_count=min_count,
            same_item=same_thing,
            reach=reach,
            threads=threads,
        )
        top = np.full((self.n_tokens, kinds * k), -1, np.int32)
        counts = np.zeros_like(top)
        top[:, : found.shape[1]], counts[:, : found.shape[1]] = found, found_counts
        return top, counts

    def where(self, kept: NDArray[np.bool_]) -> TypedSessions:
        """Only the sessions that a (sessions,) mask keeps; tokens that no longer occur lose their number."""
        lengths = np.diff(self.offsets)
        mask = np.repeat(kept, lengths)
        return _number(self.thing[self.tokens][mask], self.kind[self.tokens][mask], lengths[kept], self.row_of.shape)


def typed_sessions(events: Events, thing: NDArray[np.int32], n_things: int, n_kinds: int) -> TypedSessions:
    """The corpus of (thing, interaction) pairs of positive events.

    Args:
        events: positive events of a shop view, sorted as `Events` are.
        thing: (n_events,) what each event is about: its item, or the item's seller; -1 leaves the event out.
        n_kinds: number of interactions; 1 ignores them (untyped).

    Consecutive equal tokens of a session count once (a reload is no second look).
    """
    kind = events.interaction if n_kinds > 1 else np.zeros(len(events), np.int8)
    known = thing >= 0
    thing, kind, session = thing[known], kind[known], events.session[known]
    repeat = np.zeros(len(thing), bool)
    repeat[1:] = (thing[1:] == thing[:-1]) & (kind[1:] == kind[:-1]) & (session[1:] == session[:-1])
    thing, kind, session = thing[~repeat], kind[~repeat], session[~repeat]
    _, lengths = np.unique(session, return_counts=True)  # sessions ascend, so their events stay in place
    return _number(thing, kind, lengths, (n_kinds, n_things))


def _number(
    thing: NDArray[np.int32], kind: NDArray[np.integer], lengths: NDArray[np.int64], shape: tuple[int, ...]
) -> TypedSessions:
    flat = kind.astype(np.int64) * shape[1] + thing
    present, tokens = np.unique(flat, return_inverse=True)
    row_of = np.full(shape[0] * shape[1], -1, np.int32)
    row_of[present] = np.arange(len(present), dtype=np.int32)
    return TypedSessions(
        tokens=tokens.astype(np.int32),
        offsets=np.append(0, np.cumsum(lengths)).astype(np.int64),
        thing=(present % shape[1]).astype(np.int32),
        kind=(present // shape[1]).astype(np.int32),
        row_of=row_of.reshape(shape),
    )
