"""What rules allow, as masks over all items that act inside retrieval."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from endcap.answers import Items
from endcap.serve.catalogue import ALL, LiveCatalogue, Mask, Rows
from endcap.serve.rules import Rules

MAX_BYTES = 64_000_000  # of remembered masks, a byte an item
MAX_REMEMBERED = 1000  # masks of a small shop
LEAST_REMEMBERED = 16  # masks of a very large one


class Masks:
    """Masks of rules over a catalogue: those asked for last are remembered, and kept up with the catalogue's changes.

    A mask that is handed out cannot be written, and stays the same array as long as it allows the same: what an index
    works out for it is worked out once.
    """

    def __init__(self, catalogue: LiveCatalogue) -> None:
        self._catalogue = catalogue
        self._remembered: OrderedDict[tuple[Rules, Rules], tuple[int, Mask | None]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._remembered)

    def allowed(self, surface: Rules, filters: Rules) -> Mask | None:
        """What a surface's rules and a request's filters allow together, (n_items,); None allows all."""
        key = surface, filters
        with self._catalogue.unchanged():
            version = self._catalogue.version
            then, mask = self._remembered.get(key, (-1, None))
            if then != version:
                changed = self._catalogue.changed_since(then)
                mask = self._whole(key) if changed is None else self._brought_up(key, mask, changed)
                self._remembered[key] = version, mask
            self._remembered.move_to_end(key)
            while len(self._remembered) > self._room():
                self._remembered.popitem(last=False)
        return mask

    def _room(self) -> int:
        return min(MAX_REMEMBERED, max(LEAST_REMEMBERED, MAX_BYTES // max(1, len(self._catalogue))))

    def _whole(self, key: tuple[Rules, Rules]) -> Mask | None:
        return _for_good(_of_both(*key, self._catalogue, ALL))

    def _brought_up(self, key: tuple[Rules, Rules], mask: Mask | None, changed: Items) -> Mask | None:
        """A mask after some items have changed; a new array only if that changes what it allows."""
        now = _of_both(*key, self._catalogue, changed)
        if mask is None:
            return None if now is None or now.all() else self._whole(key)
        if now is None:
            now = np.ones(len(changed), bool)
        if np.array_equal(mask[changed], now):
            return mask
        brought_up = mask.copy()
        brought_up[changed] = now
        return _for_good(brought_up)


def _for_good(mask: Mask | None) -> Mask | None:
    if mask is not None:
        mask.flags.writeable = False
    return mask


def _of_both(surface: Rules, filters: Rules, catalogue: LiveCatalogue, rows: Rows) -> Mask | None:
    """What a surface's rules and a request's filters allow of some items; None allows all."""
    return _all([*_conditions(surface, catalogue, rows, in_stock=True), *_conditions(filters, catalogue, rows)])


def _conditions(rules: Rules, catalogue: LiveCatalogue, rows: Rows, *, in_stock: bool = False) -> list[Mask]:
    """What one set of rules asks of some items, without what depends on the person.

    `in_stock` is what counts where the rules do not say.
    """
    conditions = [
        *_flags(rules, catalogue, rows, in_stock),
        *_names(rules, catalogue, rows),
        *_ranges(rules, catalogue, rows),
    ]
    if rules.items:
        conditions.append(_marked(catalogue.numbers(rules.items), len(catalogue))[rows])
    if rules.not_items:
        conditions.append(~_marked(catalogue.numbers(rules.not_items), len(catalogue))[rows])
    return conditions


def _flags(rules: Rules, catalogue: LiveCatalogue, rows: Rows, in_stock: bool) -> list[Mask]:
    conditions, suppressed, stocked = [], catalogue.suppressed[rows], catalogue.in_stock[rows]
    if suppressed.any():
        conditions.append(~suppressed)
    if (in_stock if rules.in_stock is None else rules.in_stock) and not stocked.all():
        conditions.append(stocked)
    return conditions


def _names(rules: Rules, catalogue: LiveCatalogue, rows: Rows) -> list[Mask]:
    columns = {
        "category": catalogue.category,
        "brand": catalogue.brand,
        "seller": catalogue.seller,
        "domain": catalogue.domain,
    }
    conditions = []
    for name, column in columns.items():
        only, never = getattr(rules, name), getattr(rules, f"not_{name}")
        if only:
            conditions.append(column.holds(only, rows, below=name == "category"))
        if never:
            conditions.append(~column.holds(never, rows, below=name == "category"))
    return conditions


def _ranges(rules: Rules, catalogue: LiveCatalogue, rows: Rows) -> list[Mask]:
    conditions = []
    if rules.min_price is not None:
        conditions.append(catalogue.price[rows] >= rules.min_price)
    if rules.max_price is not None:
        conditions.append(catalogue.price[rows] <= rules.max_price)
    if rules.min_margin is not None:
        conditions.append(catalogue.margin[rows] >= rules.min_margin)
    return conditions


def _all(conditions: list[Mask]) -> Mask | None:
    if not conditions:
        return None
    allowed = conditions[0].copy()
    for condition in conditions[1:]:
        allowed &= condition
    return allowed


def _marked(numbers: list[int], n: int) -> Mask:
    marked = np.zeros(n, bool)
    marked[numbers] = True
    return marked
