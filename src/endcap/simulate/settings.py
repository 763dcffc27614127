"""What can be set about a simulated shop."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

VERSION = 1
"""Version of the defaults below. A benchmark that names it can be repeated: once one uses a version, neither its
defaults nor what they lead to may change any more; a change of either is a new version."""

EVENTS_PER_ITEM = 10
EVENTS_PER_USER = 40
MOST = 10**9
DAY = 86_400_000_000


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a simulated shop; same settings, same shop, byte for byte."""

    events: Annotated[int, Meta(ge=1, le=MOST, description="rows of shoppers' actions in the log")] = 1_000_000
    seed: Annotated[int, Meta(ge=0, description="of everything that is drawn")] = 0
    items: Annotated[int, Meta(ge=0, le=MOST, description="0: one for every 10 events")] = 0
    users: Annotated[int, Meta(ge=0, le=MOST, description="0: one for every 40 events")] = 0
    start: Annotated[str, Meta(description="first day of the log")] = "2025-01-01"
    days: Annotated[int, Meta(ge=1, le=20_000, description="length of the log")] = 120

    # the catalogue
    leaf_size: Annotated[int, Meta(ge=0, description="items of a mean leaf category; 0: grows with the shop")] = 0
    families: Annotated[int, Meta(ge=1, le=64, description="lines of items that fit together")] = 20
    bands: Annotated[int, Meta(ge=1, le=9, description="price bands")] = 3
    look_skew: Annotated[float, Meta(ge=0, le=3, description="Zipf exponent of looks inside a leaf")] = 0.7
    cart_skew: Annotated[float, Meta(ge=0, le=3, description="Zipf exponent of carts inside a leaf")] = 1.0
    alike: Annotated[float, Meta(ge=-1, le=1, description="how far items that draw looks are those carted")] = -0.3
    arrivals: Annotated[float, Meta(ge=0, le=1, description="share of items launched during the log")] = 0.25
    cold: Annotated[float, Meta(ge=0, le=1, description="share of items launched in its last tenth")] = 0.05
    out_of_stock: Annotated[float, Meta(ge=0, le=1, description="share of items")] = 0.03

    # the planted structure
    compatibility: Annotated[
        float, Meta(ge=0, le=1, description="how far complements keep to one family; 0: any item of the leaf will do")
    ] = 0.95
    comparison: Annotated[
        float, Meta(ge=0, le=1, description="how far comparing keeps to one family; 0: the whole leaf is compared")
    ] = 0.6
    price_taste: Annotated[float, Meta(ge=0, le=1, description="how far shoppers keep to a price band")] = 0.7
    aspiration: Annotated[float, Meta(ge=0, le=3, description="bands by which looks lie above what is carted")] = 1.0
    seasons: Annotated[float, Meta(ge=0, le=1, description="height of the yearly peak of an activity")] = 0.6
    interests: Annotated[int, Meta(ge=1, le=32, description="activities of a user, in each domain")] = 3

    # a visit
    looks: Annotated[float, Meta(ge=0, le=50, description="mean clicks on rivals before the first choice")] = 8.0
    more_looks: Annotated[float, Meta(ge=0, le=50, description="mean clicks before a complement is chosen")] = 2.0
    converts: Annotated[float, Meta(ge=0, le=1, description="share of visits that come to a cart")] = 0.5
    complements: Annotated[float, Meta(ge=0, le=1, description="chance of one more complement in the cart")] = 0.7
    wandering: Annotated[float, Meta(ge=0, le=1, description="chance of a click elsewhere, after each step")] = 0.15
    favourites: Annotated[float, Meta(ge=0, le=1, description="chance to favourite what is looked at")] = 0.06
    checkout: Annotated[float, Meta(ge=0, le=1, description="share of carts that are bought")] = 0.55
    doubles: Annotated[float, Meta(ge=0, le=1, description="share of choices with a rival carted, too")] = 0.08
    returns: Annotated[float, Meta(ge=0, le=1, description="share of purchases returned; rivals ten times that")] = 0.05

    # on request
    searches: Annotated[float, Meta(ge=0, le=1, description="share of choices that begin with a search")] = 0.0
    impressions: Annotated[int, Meta(ge=0, le=200, description="items shown at each look; rows on top")] = 0
    domains: Annotated[int, Meta(ge=1, le=8, description="services; with 2 and more the second one is `flood`")] = 1
    flood: Annotated[float, Meta(ge=0, le=1, description="share of visits that `flood` takes")] = 0.6
    bots: Annotated[int, Meta(ge=0, le=10_000, description="crawlers; their rows come on top")] = 0
    bot_events: Annotated[int, Meta(ge=1, le=100_000, description="clicks of a crawler")] = 2_000
    bad_rows: Annotated[float, Meta(ge=0, le=1, description="spoilt rows on top, as a share of the good ones")] = 0.0
    duplicates: Annotated[float, Meta(ge=0, le=1, description="repeated rows on top, as a share")] = 0.0
    best: Annotated[
        int, Meta(ge=0, le=100_000, description="visits to estimate the best reachable score on; 0: do not")
    ] = 500

    def __post_init__(self) -> None:
        if self.arrivals + self.cold > 1:
            raise ValueError("arrivals and cold are shares of the same items: together at most 1")
        if self.n_items < self.domains:
            raise ValueError(f"items={self.items}: every one of {self.domains} domains needs at least one")
        if not 1971 <= self._first_day().year <= 2200:
            raise ValueError(f"start={self.start}: choose a year from 1971 to 2200")

    def _first_day(self) -> datetime.datetime:
        try:
            return datetime.datetime.strptime(self.start, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        except ValueError:
            raise ValueError(f"start={self.start!r}: not a date; write it as 2025-01-01") from None

    @property
    def begins(self) -> int:
        """Midnight of the first day, microseconds since 1970 UTC."""
        return int(self._first_day().timestamp()) * 1_000_000

    @property
    def ends(self) -> int:
        """Midnight after the last day."""
        return self.begins + self.days * DAY

    @property
    def n_items(self) -> int:
        return self.items or max(40, self.events // EVENTS_PER_ITEM)

    @property
    def n_users(self) -> int:
        return self.users or max(10, self.events // EVENTS_PER_USER)
