"""A release's catalogue as arrays that rules can mask, with the live changes laid over it and new items after it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UnsetType
from numpy.typing import NDArray

from endcap.answers import NOTHING, Items
from endcap.serve.events import ItemUpdate
from endcap.serve.state import LiveState
from endcap.shop import Vocabulary

UNKNOWN = -1
EVERY_SURFACE = "*"
TEXTS = ("category", "brand", "seller", "domain")

MAX_LOGGED = 10_000  # numbers of changed items; who is further behind begins anew

Mask = NDArray[np.bool_]
Rows = slice | Items  # some items: all, or by number
ALL = slice(None)
T = TypeVar("T")


class Overlay:
    """A column whose live values lie over the release's; one row per item, new items after the released ones."""

    def __init__(self, released: NDArray[np.generic], unknown: float) -> None:
        self.now, self._released, self._unknown = released.copy(), released, unknown

    def grow(self, n: int) -> None:
        """Room for n items in all."""
        missing = n - len(self.now)
        self.now = np.append(self.now, np.full(missing, self._unknown, self.now.dtype))

    def put(self, item: int, value: float | None) -> None:
        """Lay a value over an item's; None takes it back."""
        if value is None:
            value = self._released[item] if item < len(self._released) else self._unknown
        self.now[item] = value


class Coded:
    """A text column as codes of its distinct names; -1 where unknown."""

    def __init__(self, table: pa.Table, name: str) -> None:
        self.names: list[str] = []
        codes = np.full(len(table), UNKNOWN, np.int32)
        if name in table.column_names and not pa.types.is_null(table[name].type):
            encoded = table[name].cast(pa.string()).combine_chunks().dictionary_encode()
            self.names = encoded.dictionary.to_pylist()
            codes = np.array(pc.fill_null(encoded.indices, UNKNOWN), np.int32)
        self.overlay = Overlay(codes, UNKNOWN)
        self._code_of = {text: code for code, text in enumerate(self.names)}

    @property
    def codes(self) -> NDArray[np.int32]:
        """(n_items,)"""
        return self.overlay.now  # type: ignore[return-value]

    def __getitem__(self, item: int) -> str | None:
        code = self.codes[item]
        return None if code == UNKNOWN else self.names[code]

    def holds(self, wanted: Sequence[str], rows: Rows, *, below: bool) -> Mask:
        """For some items: the name is one of those wanted; with `below`, or lies under one of them in a path a/b/c."""
        prefixes, exact, codes = tuple(f"{name}/" for name in wanted), set(wanted), self.codes[rows]
        asked = range(len(self.names)) if isinstance(rows, slice) else set(codes.tolist()) - {UNKNOWN}
        hits = np.zeros(len(self.names) + 1, bool)  # code -1 finds the last entry
        for code in asked:
            name = self.names[code]
            hits[code] = name in exact or (below and name.startswith(prefixes))
        return hits[codes]

    def put(self, item: int, name: str | None) -> None:
        """Lay a live name over an item's; None takes it back."""
        if name is not None and name not in self._code_of:
            self._code_of[name] = len(self.names)
            self.names.append(name)
        self.overlay.put(item, None if name is None else self._code_of[name])


class LiveCatalogue:
    """What is known of each item now: the release's columns, and live changes, which win.

    Items that the shop announced after the release get the numbers after its own, so that rules, titles and caps treat
    all items alike; models that can encode them find them by what is said of them (see `Newcomers`).

    Attributes:
        n_released: how many items the release has; category, brand, seller, domain: see `Coded`;
        boosted: whether any item is; version: grows with every change.
    """

    def __init__(self, items: Vocabulary, table: pa.Table) -> None:
        self.n_released = n = len(items)
        self._items, self._titles = items, _texts(table, "title")
        self._new_ids: list[str] = []
        self._new_number: dict[str, int] = {}
        self._texts = {name: Coded(table, name) for name in TEXTS}
        self.category, self.brand, self.seller, self.domain = (self._texts[name] for name in TEXTS)
        self._columns = {
            "price": Overlay(_floats(table, "price"), np.nan),
            "margin": Overlay(_floats(table, "margin"), np.nan),
            "in_stock": Overlay(_in_stock(table), True),
            "suppressed": Overlay(np.zeros(n, bool), False),
            "boost": Overlay(np.ones(n, np.float32), 1.0),
        }
        self._live: dict[int, ItemUpdate] = {}
        self._pinned: dict[int, list[str]] = {}
        self._never_together: dict[int, list[str]] = {}
        self._rivals: dict[int, set[int]] = {}
        self.version = 0
        self._log: deque[tuple[int, Items]] = deque()  # (version, items that changed in it)
        self._logged, self._log_begins = 0, 0
        self._lock = threading.Lock()
        self.boosted = False

    def __len__(self) -> int:
        return self.n_released + len(self._new_ids)

    @property
    def price(self) -> NDArray[np.float32]:
        """(n_items,), NaN where unknown."""
        return self._columns["price"].now  # type: ignore[return-value]

    @property
    def margin(self) -> NDArray[np.float32]:
        """(n_items,), NaN where unknown."""
        return self._columns["margin"].now  # type: ignore[return-value]

    @property
    def in_stock(self) -> Mask:
        """(n_items,), true where unknown."""
        return self._columns["in_stock"].now  # type: ignore[return-value]

    @property
    def suppressed(self) -> Mask:
        """(n_items,)"""
        return self._columns["suppressed"].now  # type: ignore[return-value]

    @property
    def boost(self) -> NDArray[np.float32]:
        """(n_items,), 1 where none."""
        return self._columns["boost"].now  # type: ignore[return-value]

    # -- names -----------------------------------------------------------------------------------------------------

    def number(self, external: str) -> int:
        """The number of an item known to the release or announced since, or -1."""
        number = self._items.number(external)
        return number if number >= 0 else self._new_number.get(external, UNKNOWN)

    def numbers(self, externals: Iterable[str]) -> list[int]:
        """Numbers of those items that are known."""
        return [number for number in map(self.number, externals) if number >= 0]

    def id(self, item: int) -> str:
        """The shop's own id."""
        return self._items[item] if item < self.n_released else self._new_ids[item - self.n_released]

    def title(self, item: int) -> str | None:
        """An item's title now, if it has one."""
        live = _given(self._live[item].title) if item in self._live else None
        if live is not None or self._titles is None or item >= self.n_released:
            return live
        return self._titles[item].as_py()

    def name(self, item: int) -> str:
        """Title, else id."""
        return self.title(item) or self.id(item)

    def rows(self, items: Items) -> pa.Table:
        """What is said of some items now, as rows of an items table; null where unknown."""
        with self._lock:
            price = self.price[items].astype(np.float64)
            numbers = items.tolist()
            columns: dict[str, pa.Array] = {
                "item": pa.array([self.id(item) for item in numbers], pa.string()),
                "title": pa.array([self.title(item) for item in numbers], pa.string()),
                **{name: pa.array([text[item] for item in numbers], pa.string()) for name, text in self._texts.items()},
                "price": pa.array(price, pa.float64(), mask=np.isnan(price)),
            }
        return pa.table(columns)

    # -- rules -----------------------------------------------------------------------------------------------------

    def pinned(self, surface: str) -> list[int]:
        """Items that come first on a surface."""
        return [item for item, on in list(self._pinned.items()) if surface in on or EVERY_SURFACE in on]

    def rivals(self, items: Iterable[int]) -> set[int]:
        """Items never shown beside any of these."""
        return set().union(*(self._rivals.get(item, ()) for item in items)) if self._rivals else set()

    def new_in(self, category: str) -> Items:
        """Items of one category path announced since the release, the latest first."""
        code = self.category.names.index(category) if category in self.category.names else None
        found = np.flatnonzero(self.category.codes[self.n_released :] == code)
        return (found[::-1] + self.n_released).astype(np.int32)

    # -- live changes ----------------------------------------------------------------------------------------------

    def catch_up(self, state: LiveState) -> Items:
        """Lay over what has changed in the live state since the last time; returns the numbers of what did."""
        changes, version = state.item_changes(self.version)
        if not changes:
            return NOTHING
        with self._lock:
            announced = [update.item for update in changes if self.number(update.item) < 0]
            self._announce(announced)
            for update in changes:
                self._put(self.number(update.item), update)
            self._rivals = self._pairs()
            self.boosted = bool((self.boost != 1).any())
            self.version = max(version, self.version)
            changed = np.array(self.numbers(update.item for update in changes), np.int32)
            self._note(changed, begin=bool(announced))
        return changed

    def changed_since(self, version: int) -> Items | None:
        """Numbers of the items that changed after a version; None if that is too long ago, or items joined since."""
        if version < self._log_begins:
            return None
        return np.unique(np.concatenate([NOTHING, *(items for at, items in self._log if at > version)]))

    def _note(self, items: Items, *, begin: bool) -> None:
        """Remember what this version changed; `begin` the log anew where all columns have grown."""
        self._log.append((self.version, items))
        self._logged += len(items)
        while self._log and (begin or self._logged > MAX_LOGGED):
            self._log_begins, forgotten = self._log.popleft()
            self._logged -= len(forgotten)

    def unchanged(self) -> threading.Lock:
        """Held while several columns are read that have to fit each other."""
        return self._lock

    def _announce(self, externals: list[str]) -> None:
        """Numbers for new items, after all others."""
        if not externals:
            return
        for column in [*self._columns.values(), *(text.overlay for text in self._texts.values())]:
            column.grow(len(self) + len(externals))
        for external in externals:
            self._new_number[external] = len(self)
            self._new_ids.append(external)

    def _put(self, item: int, update: ItemUpdate) -> None:
        """All that is known live of one item, over what the release says."""
        for name, column in self._columns.items():
            column.put(item, _given(getattr(update, name)))
        for name, text in self._texts.items():
            text.put(item, _given(getattr(update, name)))
        _keep(self._pinned, item, _surfaces(update.pinned))
        _keep(self._never_together, item, _given(update.never_together) or [])
        self._live[item] = update

    def _pairs(self) -> dict[int, set[int]]:
        """Rivals both ways round; a partner that is not known yet joins when it is announced."""
        rivals: dict[int, set[int]] = {}
        for item, partners in self._never_together.items():
            for partner in self.numbers(partners):
                rivals.setdefault(item, set()).add(partner)
                rivals.setdefault(partner, set()).add(item)
        return rivals


def _keep(by_item: dict[int, list[str]], item: int, names: list[str]) -> None:
    """Only items that have names stay, so that the few that do are found without looking at all."""
    if names:
        by_item[item] = names
    else:
        by_item.pop(item, None)


def _surfaces(pinned: bool | list[str] | UnsetType | None) -> list[str]:
    if isinstance(pinned, list):
        return pinned
    return [EVERY_SURFACE] if pinned is True else []


def _given(value: T | UnsetType | None) -> T | None:
    return None if isinstance(value, UnsetType) else value


def _texts(table: pa.Table, name: str) -> pa.Array | None:
    return table[name].cast(pa.string()).combine_chunks() if name in table.column_names else None


def _floats(table: pa.Table, name: str) -> NDArray[np.float32]:
    if name not in table.column_names or pa.types.is_null(table[name].type):
        return np.full(len(table), np.nan, np.float32)
    return np.array(pc.fill_null(table[name].cast(pa.float32()), np.nan), np.float32)


def _in_stock(table: pa.Table) -> Mask:
    if "in_stock" not in table.column_names or pa.types.is_null(table["in_stock"].type):
        return np.ones(len(table), bool)
    return np.array(pc.fill_null(table["in_stock"].cast(pa.bool_()), True), bool)
