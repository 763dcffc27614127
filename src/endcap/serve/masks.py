"""What rules allow, as masks over all items that act inside retrieval."""

from __future__ import annotations

import numpy as np

from endcap.serve.catalogue import LiveCatalogue, Mask
from endcap.serve.rules import Rules

MAX_REMEMBERED = 64


class Masks:
    """Masks of rules over a catalogue, remembered until the catalogue changes."""

    def __init__(self, catalogue: LiveCatalogue) -> None:
        self._catalogue = catalogue
        self._version = catalogue.version
        self._remembered: dict[tuple[Rules, bool], Mask | None] = {}

    def allowed(self, surface: Rules, filters: Rules) -> Mask | None:
        """What a surface's rules and a request's filters allow together, (n_items,); None allows all. Do not write."""
        return _both(self._mask(surface, True), self._mask(filters, False))

    def _mask(self, rules: Rules, in_stock: bool) -> Mask | None:
        if self._version != self._catalogue.version or len(self._remembered) >= MAX_REMEMBERED:
            self._version, self._remembered = self._catalogue.version, {}
        remembered, key = self._remembered, (rules, in_stock)
        if key not in remembered:
            with self._catalogue.unchanged():
                remembered[key] = mask_of(rules, self._catalogue, in_stock=in_stock)
        return remembered[key]


def mask_of(rules: Rules, catalogue: LiveCatalogue, *, in_stock: bool) -> Mask | None:
    """The items that one set of rules allows, (n_items,), without what depends on the person; None allows all.

    `in_stock` is what counts where the rules do not say.
    """
    conditions = [*_flags(rules, catalogue, in_stock), *_names(rules, catalogue), *_ranges(rules, catalogue)]
    if rules.items:
        conditions.append(_marked(catalogue.numbers(rules.items), len(catalogue)))
    if rules.not_items:
        conditions.append(~_marked(catalogue.numbers(rules.not_items), len(catalogue)))
    return _all(conditions)


def _both(a: Mask | None, b: Mask | None) -> Mask | None:
    """What two masks allow together; None allows all."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def _flags(rules: Rules, catalogue: LiveCatalogue, in_stock: bool) -> list[Mask]:
    conditions = []
    if catalogue.suppressed.any():
        conditions.append(~catalogue.suppressed)
    if (in_stock if rules.in_stock is None else rules.in_stock) and not catalogue.in_stock.all():
        conditions.append(catalogue.in_stock)
    return conditions


def _names(rules: Rules, catalogue: LiveCatalogue) -> list[Mask]:
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
            conditions.append(column.holds(only, below=name == "category"))
        if never:
            conditions.append(~column.holds(never, below=name == "category"))
    return conditions


def _ranges(rules: Rules, catalogue: LiveCatalogue) -> list[Mask]:
    conditions = []
    if rules.min_price is not None:
        conditions.append(catalogue.price >= rules.min_price)
    if rules.max_price is not None:
        conditions.append(catalogue.price <= rules.max_price)
    if rules.min_margin is not None:
        conditions.append(catalogue.margin >= rules.min_margin)
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
