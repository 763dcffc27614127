"""What the second pass looks at: some numbers for every candidate, out of packed arrays, many requests at once.

Nothing here knows what time it is. Ages of items count from the end of the log that the facts come from, ages of
actions from the asker's last action, so that a number means the same in training and in answering.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.answers import History, Items, Reason, Scores
from endcap.errors import InputError
from endcap.release.contents import Histories
from endcap.shop import Shop, Vocabulary
from endcap.shop.relations import RELATION_COLUMNS, Relations

DAY_US = 86_400_000_000
COLUMNS = ("category", "brand", "seller")
MOST_RELATIONS = 32
BACK = " (back)"  # ends the name of a relation read from the other item to the item
SPANS = (1, 5, 10)  # so many last actions, and all, are looked back at
LOOK_BACK = ("in the last 1", "in the last 5", "in the last 10", "in all", "actions ago", "days ago")
OF_SOURCE = ("score", "place", "named", "beside its best")
OF_KIND = ("ever", "lately", "days idle")
DEPARTMENTS = 9973  # so many numbers: float32 holds each, and few departments of a shop share one
HIGH_PLACE = 10
DEARER = np.log(1.2)

Floats = NDArray[np.float32]


class Facts(NamedTuple):
    """What is known of a shop's items at the end of a view; arrays alone, so that they are stored as they are.

    Attributes:
        codes: (3, n_items) of category, brand and seller, -1 where unknown; price: (n_items,), NaN where unknown;
        department: (n_items,) a number for the first part of the category's path, the same in every shop and view;
        ever, lately: (n_kinds, n_items) actions of each interaction, of all time and of late, beside the mean item's;
        idle: (n_kinds, n_items) days since the last such action, NaN where there was none;
        kinds: names of the interactions; relations: names; the items linked from item i by relation r are
        others[offsets[r, i]:offsets[r, i + 1]], ascending.
    """

    codes: NDArray[np.int32]
    price: Floats
    department: Floats
    ever: Floats
    lately: Floats
    idle: Floats
    offsets: NDArray[np.int64]
    others: Items
    kinds: tuple[str, ...]
    relations: tuple[str, ...]

    @property
    def n_items(self) -> int:
        return len(self.price)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All but the names."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, np.ndarray)}

    @classmethod
    def of(cls, shop: Shop, lately_us: int, relations: pa.Table | None = None, *, both_ways: bool = True) -> Self:
        """The facts at the end of a view.

        Args:
            lately_us: microseconds before the last event that count as lately.
            relations: (item, other, relation), ids and names; links of unknown items are left out.
            both_ways: read each relation from the other item, too, as one of its own.

        Raises:
            InputError: if `relations` is no such table.
        """
        past, n_items, n_kinds = shop.positives, shop.n_items, len(shop.interactions)
        end = int(past.time.max(initial=0))
        flat, shape = past.interaction.astype(np.int64) * n_items + past.item, (n_kinds, n_items)
        last = np.full(n_kinds * n_items, np.nan)
        in_time = np.argsort(past.time, kind="stable")
        last[flat[in_time]] = (end - past.time[in_time]) / DAY_US  # of equal places the last stays
        names, offsets, others = _links(relations, shop, both_ways)
        return cls(
            codes=np.stack([_codes(shop.catalogue, column) for column in COLUMNS]),
            price=_prices(shop.catalogue),
            department=_departments(shop.catalogue),
            ever=_beside_mean(np.bincount(flat, minlength=n_kinds * n_items).reshape(shape)),
            lately=_beside_mean(
                np.bincount(flat[past.time > end - lately_us], minlength=n_kinds * n_items).reshape(shape)
            ),
            idle=last.reshape(shape).astype(np.float32),
            offsets=offsets,
            others=others,
            kinds=shop.interactions.names,
            relations=names,
        )

    def links(self, items: Vocabulary, *, both_ways: bool = True) -> pa.Table | None:
        """The (item, other, relation) that `of` was given, of the items that it knew; None where it was given none."""
        given = self.relations[: len(self.relations) // 2 if both_ways else None]
        if not given:
            return None
        pairs = [
            (np.repeat(np.arange(self.n_items), np.diff(row)), np.asarray(self.others[row[0] : row[-1]]))
            for row in map(np.asarray, self.offsets[: len(given)])
        ]
        columns = [items.decode(np.concatenate(column)) for column in zip(*pairs, strict=True)]
        names = np.repeat(np.array(given), [len(item) for item, _ in pairs])
        return pa.table(dict(zip(RELATION_COLUMNS, (*columns, names.tolist()), strict=True)))


def _beside_mean(counts: NDArray[np.integer]) -> Floats:
    """Counts (kinds, items) as multiples of the mean of each kind, which longer logs do not change."""
    mean = counts.mean(axis=1, keepdims=True) if counts.size else np.ones((len(counts), 1))
    return (counts / np.where(mean > 0, mean, 1)).astype(np.float32)


def _codes(catalogue: pa.Table, column: str) -> NDArray[np.int32]:
    if column not in catalogue.column_names or pa.types.is_null(catalogue[column].type):
        return np.full(len(catalogue), -1, np.int32)
    encoded = catalogue[column].cast(pa.string()).combine_chunks().dictionary_encode()
    return np.array(pc.fill_null(encoded.indices, -1), np.int32)


def _departments(catalogue: pa.Table) -> Floats:
    codes = _codes(catalogue, "category")
    if (codes < 0).all():
        return np.full(len(codes), np.nan, np.float32)
    names = pc.unique(catalogue["category"].cast(pa.string()).combine_chunks().drop_null()).to_pylist()
    numbers = [zlib.crc32(name.partition("/")[0].encode()) % DEPARTMENTS for name in names]
    return _of_items(np.array(numbers, np.float32), codes)


def _prices(catalogue: pa.Table) -> Floats:
    if "price" not in catalogue.column_names or pa.types.is_null(catalogue["price"].type):
        return np.full(len(catalogue), np.nan, np.float32)
    price = np.array(pc.fill_null(catalogue["price"].cast(pa.float64()), np.nan).combine_chunks(), np.float32)
    return np.where(price > 0, price, np.float32(np.nan))


def _links(
    table: pa.Table | None, shop: Shop, both_ways: bool
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int32]]:
    """Names, offsets (relations, n_items + 1) and others, each pair once; see `Facts`."""
    n_items = shop.n_items
    if table is None:
        return (), np.zeros((0, n_items + 1), np.int64), np.empty(0, np.int32)
    links = Relations.read(table, shop.items)
    names = sorted(pc.unique(pc.drop_null(links.name)).to_pylist())
    if not 0 < len(names) <= MOST_RELATIONS:
        raise InputError(f"relations: {len(names)} different names; 1 to {MOST_RELATIONS} relations can be used")
    kind = pc.fill_null(pc.index_in(links.name, value_set=pa.array(names)), -1).to_numpy()
    known = links.known & (kind >= 0)
    kind, begin, end = (column[known].astype(np.int64) for column in (kind, links.item, links.other))
    if both_ways:
        kind = np.append(kind, kind + len(names))
        begin, end = np.append(begin, end), np.append(end, begin)
        names = [*names, *(name + BACK for name in names)]
    row, end = np.divmod(np.unique((kind * n_items + begin) * n_items + end), max(n_items, 1))
    places = np.arange(len(names))[:, None] * n_items + np.arange(n_items + 1)
    return tuple(names), np.searchsorted(row, places).astype(np.int64), end.astype(np.int32)


def pack(histories: Iterable[History]) -> Histories:
    """Histories one after the other."""
    histories = list(histories)
    lengths = np.fromiter(map(len, histories), np.int64, len(histories))
    empty = History()
    return Histories(
        np.append(0, np.cumsum(lengths)),
        np.concatenate([empty.items, *(past.items for past in histories)]),
        np.concatenate([empty.interactions, *(past.interactions for past in histories)]),
        np.concatenate([empty.times, *(past.times for past in histories)]),
    )


# -- names, and what they mean to a reader -----------------------------------------------------------------------------


def feature_names(facts: Facts, sources: Sequence[str]) -> list[str]:
    """`family: feature`, in the order of the columns of `features`."""
    families = {
        **{f"source {name}": OF_SOURCE for name in sources},
        "sources": ("that name it", "best place"),
        **{f"popular {name}": OF_KIND for name in facts.kinds},
        **dict.fromkeys(("item", *COLUMNS), LOOK_BACK),
        **{f"relation {name}": (*LOOK_BACK, "links") for name in facts.relations},
        "price": ("beside the median of the history", "itself"),
        "department": ("number",),
        "history": ("length", *facts.kinds),
    }
    return [f"{family}: {feature}" for family, features in families.items() for feature in features]


def sources_of(names: Sequence[str]) -> list[str]:
    """The sources among the families of these features, in their order."""
    families = [name.rpartition(": ")[0] for name in names if name.startswith("source ")]
    return [family.removeprefix("source ") for family in dict.fromkeys(families)]


def reasons_of(names: Sequence[str], row: Floats, added: NDArray[np.floating], kinds: Sequence[str]) -> list[Reason]:
    """What moved a candidate, the strongest family first: one reason a family, with what its features added.

    Args:
        row: (f,) the candidate's features; added: (f,) what each added to its score.
    """
    families: dict[str, float] = {}
    value_of = dict(zip(names, row.tolist(), strict=True))
    for name, value in zip(names, added.tolist(), strict=True):
        family = name.rpartition(": ")[0]
        families[family] = families.get(family, 0.0) + value
    order = sorted(families, key=lambda family: (-abs(families[family]), family))
    return [_reason(family, value_of, families[family], kinds) for family in order if families[family]]


def _reason(family: str, value_of: Mapping[str, float], added: float, kinds: Sequence[str]) -> Reason:
    kind, _, name = family.partition(" ")
    want = kinds.index(name) if kind == "popular" else None
    return Reason("ranker", want=want, value=added, note=_words(kind, name, lambda it: value_of[f"{family}: {it}"]))


def _words(kind: str, name: str, of: Any) -> str:
    """A family in words that are true of the candidate, whichever way they moved it; NaN is smaller than anything."""
    if kind == "source":
        if not of("named"):
            return f"{name} leaves it out"
        return f"{name} puts it {'high' if of('place') <= HIGH_PLACE else 'low'}"
    if kind == "sources":
        return "several sources name it" if of("that name it") > 1 else "few sources name it"
    if kind == "popular":
        return "often" if of("lately") > 1 else "seldom"  # "... bought lately": the edge has the verb
    if kind == "relation":
        linked = "linked to" if of("in all") > 0 else "not linked to"
        return f"{linked} what you did before ({name})"
    if kind in COLUMNS:
        return f"{f'the same {kind} as' if of('in all') > 0 else f'another {kind} than'} what you did before"
    if kind == "item":
        return "you know it already" if of("in all") > 0 else "it is new to you"
    if kind == "price":
        ratio = of("beside the median of the history")
        if np.isnan(ratio):
            return "nothing to compare its price with"
        level = "dearer than" if ratio > DEARER else "cheaper than" if ratio < -DEARER else "priced like"
        return f"{level} what you mostly look at"
    return "the part of the shop that it is from" if kind == "department" else "how much you did before"


# -- the numbers -------------------------------------------------------------------------------------------------------


def features(
    facts: Facts, past: Histories, candidates: Items, scores: Mapping[str, Scores], history: int = 50
) -> Floats:
    """Numbers for every candidate of every request; see `feature_names`. NaN: not known.

    Args:
        past: one history a request, oldest action first; candidates: (n, c) item numbers, -1 pads;
        scores: source -> (n, c), NaN where the source did not name the candidate;
        history: how many last actions are looked back at.

    Returns:
        (n, c, f) float32; rows of pads mean nothing.

    Raises:
        InputError: for arrays that do not fit each other.
    """
    candidates, n = np.asarray(candidates), len(past.offsets) - 1
    if candidates.ndim != 2 or len(candidates) != n or candidates.dtype.kind not in "iu":
        raise InputError(f"candidates: an array ({n}, c) of items is needed for {n} histories, not {candidates.shape}")
    for name, given in scores.items():
        if np.shape(given) != candidates.shape or np.asarray(given).dtype.kind not in "iuf":
            raise InputError(f"scores of {name}: numbers are needed in the shape of the candidates, {candidates.shape}")
    if not isinstance(history, int) or history < 1:
        raise InputError(f"history: a whole number of actions is needed, not {history!r}")
    known = (candidates >= 0) & (candidates < facts.n_items)
    items = np.where(known, candidates, -1).astype(np.int32)
    names = feature_names(facts, list(scores))
    out = np.empty((*candidates.shape, len(names)), np.float32)
    latest, kinds, days = _latest(facts, past, history)
    at = 0

    def put(columns: NDArray[Any]) -> None:
        nonlocal at
        out[..., at : at + columns.shape[-1]] = columns
        at += columns.shape[-1]

    places = [_of_source(np.asarray(given, np.float32), put) for given in scores.values()]
    if places:
        named = np.stack(places)
        found = np.isfinite(named)
        best = np.where(found, named, np.inf).min(axis=0)
        put(np.stack([found.sum(axis=0), np.where(np.isfinite(best), best, np.nan)], axis=-1))
    else:
        put(np.full((*candidates.shape, 2), np.nan))
    for kind in range(len(facts.kinds)):
        put(np.stack([_of_items(column[kind], items) for column in (facts.ever, facts.lately, facts.idle)], axis=-1))
    block = np.empty((*candidates.shape, len(LOOK_BACK)), np.float32)
    for codes in (None, *facts.codes):
        theirs, ours = (items, latest) if codes is None else (_coded(codes, items), _coded(codes, latest))
        _look_back(ours, theirs, days, np.asarray(SPANS), block)
        put(block)
    for offsets in facts.offsets:
        _look_back_links(latest, items, np.asarray(offsets), np.asarray(facts.others), days, np.asarray(SPANS), block)
        put(block)
        put(_of_items(np.log1p(np.diff(offsets)).astype(np.float32), items)[..., None])
    price = np.log(_of_items(facts.price, items))
    put(np.stack([price - _median_log_price(facts, latest)[:, None], price], axis=-1))
    put(_of_items(facts.department, items)[..., None])
    there = latest >= 0
    counts = [there.sum(axis=1), *((there & (kinds == kind)).sum(axis=1) for kind in range(len(facts.kinds)))]
    put(np.broadcast_to(np.stack(counts, axis=-1)[:, None, :], (*candidates.shape, len(counts))))
    return out


def _of_source(given: Floats, put: Any) -> Floats:
    """A source's columns; returns the places (n, c): 1 + how many scores of the request are higher, NaN if not named.

    Equal scores share a place, so that the order of the candidates does not matter.
    """
    given = np.where(np.isfinite(given), given, np.float32(np.nan))
    order = np.argsort(-given, axis=1, kind="stable")
    ordered = np.take_along_axis(given, order, axis=1)
    n, c = given.shape
    first = np.ones((n, c), np.bool_)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = np.empty((n, c), np.float32)
    np.put_along_axis(place, order, np.maximum.accumulate(np.where(first, np.arange(c), 0), axis=1) + 1.0, axis=1)
    named = ~np.isnan(given)
    place[~named] = np.nan
    best = np.where(named, given, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    best = np.where(np.isfinite(best), best, 0)
    beside = 1 - (best - given) / np.maximum(np.abs(best), 1e-6)
    put(np.stack([given, place, named, beside], axis=-1))
    return place


def _of_items(column: Floats, items: Items) -> Floats:
    """A column's values of items of any shape, NaN of -1."""
    return np.append(column, np.float32(np.nan))[items]


def _coded(codes: NDArray[np.int32], items: Items) -> NDArray[np.int32]:
    return np.append(codes, np.int32(-1))[items]


def _latest(facts: Facts, past: Histories, n: int) -> tuple[Items, NDArray[np.int8], Floats]:
    """(requests, n) items, interactions and ages in days of the last actions, the latest first; -1 and NaN pad."""
    begin, end = np.asarray(past.offsets[:-1])[:, None], np.asarray(past.offsets[1:])[:, None]
    rows = end - 1 - np.arange(n)
    there = rows >= begin
    rows = np.where(there, rows, len(past.items))
    items, kinds = np.append(past.items, -1)[rows], np.append(past.interactions, -1)[rows]
    there &= (items >= 0) & (items < facts.n_items)
    times = np.append(past.times, 0)[rows]
    ages = np.where(there, (times[:, :1] - times) / DAY_US, np.nan)
    return np.where(there, items, -1).astype(np.int32), kinds.astype(np.int8), ages.astype(np.float32)


def _median_log_price(facts: Facts, latest: Items) -> Floats:
    """(requests,) NaN where no price is known."""
    prices = np.sort(np.log(_of_items(facts.price, latest)), axis=1)  # NaN last
    n = (~np.isnan(prices)).sum(axis=1)
    rows, upper, lower = np.arange(len(prices)), n // 2, np.maximum(n - 1, 0) // 2
    if prices.shape[1] == 0:
        return np.full(len(prices), np.nan, np.float32)
    return (prices[rows, lower] + prices[rows, np.where(n > 0, upper, 0)]) / 2


@numba.njit(nogil=True, cache=True)
def _look_back(ours, theirs, days, spans, out):  # type: ignore[no-untyped-def]
    """Where the codes of the last actions (n, h), latest first, are a candidate's (n, c); -1 is nobody's code."""
    for query in range(theirs.shape[0]):
        for row in range(theirs.shape[1]):
            out[query, row, :4] = 0
            out[query, row, 4:] = np.nan
            code = theirs[query, row]
            for place in range(ours.shape[1] if code >= 0 else 0):
                if ours[query, place] == code:
                    for span in range(3):
                        out[query, row, span] += place < spans[span]
                    if out[query, row, 3] == 0:
                        out[query, row, 4] = place + 1
                        out[query, row, 5] = days[query, place]
                    out[query, row, 3] += 1


@numba.njit(nogil=True, cache=True)
def _look_back_links(latest, candidates, offsets, others, days, spans, out):  # type: ignore[no-untyped-def]
    """Which of the last actions' items (n, h), latest first, are linked to a candidate (n, c)."""
    for query in range(candidates.shape[0]):
        for row in range(candidates.shape[1]):
            out[query, row, :4] = 0
            out[query, row, 4:] = np.nan
            item = candidates[query, row]
            for place in range(latest.shape[1] if item >= 0 else 0):
                past = latest[query, place]
                if past < 0:
                    continue
                low, high = offsets[past], offsets[past + 1]
                while low < high:
                    middle = (low + high) // 2
                    if others[middle] < item:
                        low = middle + 1
                    else:
                        high = middle
                if low < offsets[past + 1] and others[low] == item:
                    for span in range(3):
                        out[query, row, span] += place < spans[span]
                    if out[query, row, 3] == 0:
                        out[query, row, 4] = place + 1
                        out[query, row, 5] = days[query, place]
                    out[query, row, 3] += 1
