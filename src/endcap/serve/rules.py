"""Business rules of surfaces and filters of requests: one struct, validated once."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

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


def tightest(a: int | None, b: int | None) -> int | None:
    """The smaller of two limits; None is no limit."""
    return min((limit for limit in (a, b) if limit is not None), default=None)
