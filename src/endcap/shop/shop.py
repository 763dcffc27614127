"""A shop: its events as sorted arrays, its items as a table, and views that cannot see past their end."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap.answers import History
from endcap.errors import InputError
from endcap.shop.interactions import Interactions
from endcap.shop.report import IngestReport
from endcap.shop.vocabulary import Vocabulary

MICROSECONDS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000, "w": 604_800_000_000}
END_OF_TIME = np.iinfo(np.int64).max
LONGEST_DURATION = 1000 * 365 * MICROSECONDS["d"]
LEAST_ACTIONS = 3  # to hold one back: one to learn from, one to stop by, one to be asked about


@dataclass(frozen=True, eq=False)
class Events:
    """Parallel arrays of one length, sorted by user, session (by its first event), time, arrival.

    Attributes:
        user: int32; item: int32, -1 for events without one (searches); interaction: int8 codes;
        time: int64, microseconds since 1970 UTC; session: int32, ascending, never shared by two users;
        columns: the shop's optional columns in the same order (order, query, domain, price, quantity, request_id,
            surface, position), where it has them.
    """

    user: NDArray[np.int32]
    item: NDArray[np.int32]
    interaction: NDArray[np.int8]
    time: NDArray[np.int64]
    session: NDArray[np.int32]
    columns: pa.Table = field(default_factory=lambda: pa.table({}))

    def __len__(self) -> int:
        return len(self.user)

    def where(self, mask: NDArray[np.bool_]) -> Events:
        """The events that a (n,) mask keeps, in the same order."""
        columns = self.columns.filter(pa.array(mask)) if self.columns.num_columns else self.columns
        return Events(
            self.user[mask], self.item[mask], self.interaction[mask], self.time[mask], self.session[mask], columns
        )


@dataclass(frozen=True, eq=False)
class Shop:
    """A shop, or a view of one that ends at `end`.

    Numbers of users and items are given in order of first appearance (an item's `launched` counts as one), so what a
    view may know is a prefix of the vocabulary: `n_items` and `n_users` are the lengths of those prefixes, and ids
    that first appear later do not exist for it.

    Attributes:
        events: see `Events`; items, users: vocabularies; interactions: names and codes;
        catalogue: one row per item in order of number, columns `item, title, category, brand, seller, price, domain,
            in_stock, margin, launched, vector_*` where known, null where not;
        start, end: the events' times lie in [start, end), microseconds;
        folder: where it was opened; report: what was kept and refused, for a shop made by `from_tables`.
    """

    events: Events
    items: Vocabulary
    users: Vocabulary
    catalogue: pa.Table
    interactions: Interactions = field(default_factory=Interactions)
    start: int = 0
    end: int = END_OF_TIME
    item_known_from: NDArray[np.int64] | None = None
    user_known_from: NDArray[np.int64] | None = None
    folder: Path | None = None
    report: IngestReport | None = None

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def n_users(self) -> int:
        return len(self.users)

    @classmethod
    def open(cls, folder: str | Path) -> Shop:
        """Read the shop that `endcap ingest` wrote.

        Raises:
            InputError: if the folder holds no shop; DamagedArtefact: if a checksum does not fit.
        """
        from endcap.shop.storage import read_shop

        return read_shop(Path(folder))

    @classmethod
    def from_tables(cls, events: Any, items: Any = None, **options: Any) -> Shop:
        """A shop in memory from pandas, polars or Arrow tables; `options` are those of `endcap.shop.ingest`."""
        from endcap.shop.ingest import shop_from_tables

        return shop_from_tables(events, items, **options)

    def fingerprint(self, *, vectors: bool = True) -> str:
        """SHA-256 over the events and the catalogue, with or without its `vector_*`.

        Of the events' optional columns only `query` counts, where the shop has it: models learn from it.
        """
        digest, events = hashlib.sha256(), self.events
        for column in (events.user, events.item, events.interaction, events.time, events.session):
            digest.update(np.ascontiguousarray(column).data)
        catalogue = self.catalogue if vectors else self.plain_catalogue()
        searched = [("query", events.columns["query"])] if "query" in events.columns.column_names else []
        for name, chunks in (*searched, *((name, catalogue[name]) for name in catalogue.column_names)):
            column = chunks.combine_chunks()
            known = column.is_valid()
            digest.update(f"{name} {column.type}".encode())
            digest.update(np.packbits(known.to_numpy(zero_copy_only=False)).data)
            values = column.filter(known)  # a copy: under a null, and behind the end of a view, there may be anything
            digest.update(pa.record_batch({name: values}).serialize())
        return digest.hexdigest()

    def plain_catalogue(self) -> pa.Table:
        """The catalogue without vectors, which belong to the models that use them."""
        return self.catalogue.select([name for name in self.catalogue.column_names if not name.startswith("vector_")])

    @cached_property
    def positives(self) -> Events:
        """Events that count in favour of an item: no searches, impressions, dismissals or returns."""
        return self.events.where((self.events.interaction < len(self.interactions)) & (self.events.item >= 0))

    def until(self, end: int) -> Shop:
        """The view of everything before `end` (microseconds): events, users and items known by then."""
        end = min(end, self.end)
        return replace(
            self,
            events=self.events.where(self.events.time < end),
            items=self.items.prefix(n_items := _known(self.item_known_from, end, len(self.items))),
            users=self.users.prefix(_known(self.user_known_from, end, len(self.users))),
            catalogue=self.catalogue.slice(0, n_items),
            end=end,
        )

    def some_people(self, n_events: int, seed: int = 0) -> Shop:
        """The view of all events of some people, drawn by chance: about `n_events`, or all where there are no more."""
        if len(self.events) <= n_events:
            return self
        people = np.unique(self.events.user)
        n_people = max(1, n_events * len(people) // len(self.events))
        chosen = np.random.default_rng(seed).choice(people, n_people, replace=False)
        return replace(self, events=self.events.where(np.isin(self.events.user, chosen)))

    def since(self, start: int) -> Shop:
        """The view of the sessions that start at or after `start`, with all ids known at the view's end.

        The tail of a session that began before `start` is in neither part of a split: its first half was seen.
        """
        events = self.events
        first_rows = np.flatnonzero(_starts(events.session))
        lengths = np.diff(np.append(first_rows, len(events)))
        begins = np.repeat(events.time[first_rows], lengths)
        return replace(self, events=events.where(begins >= start), start=max(start, self.start))

    def without_last(self, n: int = 1, *, at_least: int = LEAST_ACTIONS) -> Shop:
        """The view without each person's last n positive actions, and without whatever else they did from then on.

        Actions of one time stand in the order of the log. People with fewer than `at_least` actions keep all of theirs;
        so do the vocabularies. Leave-one-out trains on this view.
        """
        events = self.events
        positive = np.flatnonzero((events.interaction < len(self.interactions)) & (events.item >= 0))
        ordered = positive[np.lexsort((events.time[positive], events.user[positive]))]
        user = events.user[ordered]
        ends = np.searchsorted(user, user, side="right")
        many = ends - np.searchsorted(user, user) >= at_least
        gone = ordered[many & (ends - np.arange(len(user)) <= n)]
        from_then_on = np.full(int(events.user.max(initial=-1)) + 1, END_OF_TIME)
        np.minimum.at(from_then_on, events.user[gone], events.time[gone])
        keep = events.time < from_then_on[events.user]
        keep[positive] = True
        keep[gone] = False
        return replace(self, events=events.where(keep))

    def split_by_time(self, test: str | float = "7d") -> tuple[Shop, Shop]:
        """Split into (train, test): the last `test` of the time ("7d", "12h") or of the events (0.1).

        Raises:
            InputError: if `test` is neither, or one part would be empty.
        """
        cut = self.cut(test)
        train, held_out = self.until(cut), self.since(cut)
        if len(train.events) == 0 or len(held_out.events) == 0:
            empty = "training" if len(train.events) == 0 else "test"
            raise InputError(f"split at {test!r}: the {empty} part is empty; the log covers {self.span_text()}")
        return train, held_out

    def cut(self, test: str | float) -> int:
        """The time (microseconds) at which the last `test` of the log begins."""
        times = self.events.time
        if len(times) == 0:
            raise InputError("the shop has no events to split")
        share = _as_share(test)
        if share is not None:
            return int(np.quantile(times, 1 - share, method="higher"))
        return int(times.max()) + 1 - duration(str(test))

    def span_text(self) -> str:
        """First and last event as text."""
        if len(self.events) == 0:
            return "no time at all"
        first, last = self.events.time.min(), self.events.time.max()
        return f"{np.datetime64(int(first), 'us').astype('M8[s]')} to {np.datetime64(int(last), 'us').astype('M8[s]')}"

    @cached_property
    def user_offsets(self) -> NDArray[np.int64]:
        """(n_users + 1,): the positives of user u are rows offsets[u]:offsets[u + 1] of `positives`."""
        return np.searchsorted(self.positives.user, np.arange(self.n_users + 1)).astype(np.int64)

    def history(self, user: int) -> History:
        """A user's positive actions in order of time; nothing for an unknown one (-1)."""
        if not 0 <= user < self.n_users:
            return History()
        rows = slice(self.user_offsets[user], self.user_offsets[user + 1])
        past = self.positives
        order = np.argsort(past.time[rows], kind="stable")
        return History(past.item[rows][order], past.interaction[rows][order], past.time[rows][order])


def duration(text: str) -> int:
    """ "90s", "30m", "12h", "7d", "2w" in microseconds, at most a thousand years.

    Raises:
        InputError: for anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", text)
    microseconds = float(match[1]) * MICROSECONDS[match[2]] if match else 0.0
    if not 1 <= microseconds <= LONGEST_DURATION:
        raise InputError(f"not a duration: {text!r}; write a number and s, m, h, d or w, as in 7d")
    return int(microseconds)


def _as_share(test: str | float) -> float | None:
    """0.1 or "0.1" as a share of the events, None for a duration."""
    try:
        share = float(test)
    except ValueError:
        return None
    if not 0 < share < 1:
        raise InputError(f"test={test!r}: a share of the events lies between 0 and 1; for days write e.g. 7d")
    return share


def _known(known_from: NDArray[np.int64] | None, end: int, n: int) -> int:
    """Length of the prefix of ids known before `end`: up to the last one that is."""
    if known_from is None or end == END_OF_TIME:
        return n
    known = np.flatnonzero(known_from[:n] < end)
    return int(known[-1]) + 1 if len(known) else 0


def _starts(session: NDArray[np.int32]) -> NDArray[np.bool_]:
    """True at the first event of each session."""
    return np.append(True, session[1:] != session[:-1]) if len(session) else np.empty(0, bool)
