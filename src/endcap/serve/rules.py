"""Business rules and filters: what may be shown, as a mask over all items that acts inside retrieval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

if TYPE_CHECKING:
    from endcap.serve.catalogue import LiveCatalogue

Mask = NDArray[np.bool_]
Count = Annotated[int, Meta(ge=1, le=500)]
Amount = Annotated[float, Meta(ge=-1e15, le=1e15)]
Names = Annotated[tuple[Annotated[str, Meta(max_length=2000)], ...], Meta(max_length=1000)]


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What may stand in a list. A surface declares rules; a request's filters are rules, too, and only tighten them.

    Attributes:
        in_stock: only what is in stock (an item of unknown stock is). True on a surface unless it says otherwise.
        not_bought: nothing that the user has bought and not returned.
        category, brand, seller, domain: only these; a category covers those below it. not_...: none of these.
        items, not_items: only these items; none of these.
        min_price, max_price, min_margin: an item whose price (margin) is unknown does not pass.
        max_per_brand, max_per_category: at most so many of one brand, of one category path.
        pins: items that come first, where the other rules allow them.
    """

    in_stock: bool | None = None
    not_bought: bool = False
    category: Names = ()
    not_category: Names = ()
    brand: Names = ()
    not_brand: Names = ()
    seller: Names = ()
    not_seller: Names = ()
    domain: Names = ()
    not_domain: Names = ()
    items: Names = ()
    not_items: Names = ()
    min_price: Amount | None = None
    max_price: Amount | None = None
    min_margin: Amount | None = None
    max_per_brand: Count | None = None
    max_per_category: Count | None = None
    pins: Names = ()


NO_RULES = Rules()


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


def both(a: Mask | None, b: Mask | None) -> Mask | None:
    """What two masks allow together; None allows all."""
    if a is None or b is None:
        return b if a is None else a
    return a & b


def tightest(a: int | None, b: int | None) -> int | None:
    """The smaller of two limits; None is no limit."""
    return min((limit for limit in (a, b) if limit is not None), default=None)


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
