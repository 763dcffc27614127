"""What a release keeps of the shop's events: histories, what was bought, what is popular, and what goes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array

from endcap.answers import Items
from endcap.shop import Shop
from endcap.shop.interactions import RETURN
from endcap.shop.purchases import purchases_of

FORMAT = 1  # of a release folder; another one is refused, not guessed at
NEW_VECTORS = "new_vectors.parquet"
HISTORY_LENGTH = 200
POPULAR_WINDOW = 28 * 86_400_000_000  # microseconds
NOWHERE = ""  # the group of items without a category or seller
CATEGORY_PAIRS = "category_pairs.json"
PAIRED, PAIR_SUPPORT = 10, 2  # categories that are kept of each, and baskets that hold both, at least
LARGEST_BASKET = 50  # categories of one; what resellers order together does not go together


class Histories(NamedTuple):
    """The last positive events of each user, oldest first: user u has rows offsets[u]:offsets[u + 1]."""

    offsets: NDArray[np.int64]
    items: Items
    interactions: NDArray[np.int8]
    times: NDArray[np.int64]


class Sets(NamedTuple):
    """A set of items per row, ascending: row r is items[offsets[r]:offsets[r + 1]]."""

    offsets: NDArray[np.int64]
    items: Items


class Groups(NamedTuple):
    """Items by an attribute; names ascend by their path, so that a branch of a tree is one stretch of groups."""

    names: Sequence[str]
    offsets: NDArray[np.int64]
    items: Items


def histories(shop: Shop, length: int = HISTORY_LENGTH) -> Histories:
    """The last `length` positive events of each user, in order of time."""
    past = shop.positives
    in_order = np.lexsort((past.time, past.user))
    users = past.user[in_order]
    ends = np.searchsorted(users, users, side="right")
    kept = in_order[ends - np.arange(len(users)) <= length]
    return Histories(_offsets(past.user[kept], shop.n_users), past.item[kept], past.interaction[kept], past.time[kept])


def bought(shop: Shop) -> Sets:
    """The items each user has bought and not given back since; nothing where the shop has no purchases."""
    events = shop.events
    if "purchase" not in shop.interactions.names:
        return Sets(np.zeros(shop.n_users + 1, np.int64), np.empty(0, np.int32))
    purchase = shop.interactions.code("purchase")
    rows = np.flatnonzero(((events.interaction == purchase) | (events.interaction == RETURN)) & (events.item >= 0))
    rows = rows[np.lexsort((events.time[rows], events.item[rows], events.user[rows]))]
    users, items = events.user[rows], events.item[rows]
    last_of_pair = np.ones(len(rows), np.bool_)
    last_of_pair[:-1] = (users[1:] != users[:-1]) | (items[1:] != items[:-1])
    kept = last_of_pair & (events.interaction[rows] == purchase)
    return Sets(_offsets(users[kept], shop.n_users), items[kept])


def popular_order(shop: Shop, window: int = POPULAR_WINDOW) -> NDArray[np.int32]:
    """(n_interactions, n_items): all items, most popular first, for each wanted interaction.

    By actions of that kind within `window` microseconds before the last event, then by such actions ever, then by
    positive actions of any kind, then by number. Items without any action come last, so that a list can always be
    filled.
    """
    past, n_items = shop.positives, shop.n_items
    recent = past.time >= (past.time.max(initial=0) - window)
    total = np.bincount(past.item, minlength=n_items)
    order = np.empty((len(shop.interactions), n_items), np.int32)
    for code in range(len(shop.interactions)):
        of_kind = past.interaction == code
        ever = np.bincount(past.item[of_kind], minlength=n_items)
        lately = np.bincount(past.item[of_kind & recent], minlength=n_items)
        order[code] = np.lexsort((-total, -ever, -lately))
    return order


def group_items(catalogue: pa.Table, column: str) -> Groups:
    """Items by a text column of the catalogue; rows are items in order of number, null belongs nowhere."""
    n_items = len(catalogue)
    if column not in catalogue.column_names:
        return Groups([], np.zeros(1, np.int64), np.empty(0, np.int32))
    encoded = pc.fill_null(catalogue[column].cast(pa.string()), NOWHERE).combine_chunks().dictionary_encode()
    found = encoded.dictionary.to_pylist()
    by_path = sorted(range(len(found)), key=lambda code: found[code].split("/"))
    place = np.empty(len(found), np.int64)
    place[by_path] = np.arange(len(found))
    group = place[encoded.indices.to_numpy(zero_copy_only=False)] if n_items else np.empty(0, np.int64)
    items = np.argsort(group, kind="stable").astype(np.int32)
    return Groups([found[code] for code in by_path], _offsets(group[items], len(found)), items)


def category_pairs(shop: Shop) -> dict[str, list[str]]:
    """By category: the others that are bought with it, those first that it draws most, and of those that all buy least.

    By baskets that hold both / sqrt(baskets that hold the other): between a plain share, which the largest category
    wins everywhere, and lift, which the smallest wins. Its own category is none of them.
    """
    if "category" not in shop.catalogue.column_names:
        return {}
    encoded = shop.catalogue["category"].cast(pa.string()).combine_chunks().dictionary_encode()
    names, of_item = encoded.dictionary.to_pylist(), np.array(pc.fill_null(encoded.indices, -1), np.int64)
    bought = purchases_of(shop)
    code = of_item[bought.item]
    basket, code = np.unique(np.stack([bought.basket, code])[:, code >= 0], axis=1)
    small = np.bincount(basket)[basket] <= LARGEST_BASKET if len(basket) else np.empty(0, bool)
    basket, code = basket[small], code[small]
    shape = int(basket.max(initial=-1)) + 1, len(names)
    lies_in = coo_array((np.ones(len(code), np.float32), (basket, code)), shape=shape).tocsr()
    both, held = (lies_in.T @ lies_in).tocsr(), np.bincount(code, minlength=len(names))
    pairs: dict[str, list[str]] = {}
    for one, name in enumerate(names):
        row = slice(both.indptr[one], both.indptr[one + 1])
        other, times = both.indices[row], both.data[row]
        enough = (times >= PAIR_SUPPORT) & (other != one)
        other, times = other[enough], times[enough]
        best = np.lexsort((other, -times / np.sqrt(held[other])))[:PAIRED]
        if len(best):
            pairs[name] = [names[number] for number in other[best].tolist()]
    return pairs


def _offsets(sorted_groups: NDArray[np.integer], n: int) -> NDArray[np.int64]:
    """(n + 1,): where each group begins in an ascending array of group numbers."""
    return np.searchsorted(sorted_groups, np.arange(n + 1)).astype(np.int64)
