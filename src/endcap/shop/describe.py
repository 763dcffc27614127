"""What a shop's log holds and what that allows: figures for people and programs, and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from endcap.errors import InputError
from endcap.shop.interactions import SEARCH
from endcap.shop.purchases import purchases_of
from endcap.shop.shop import Events, Shop

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_POINTS = 200
MIN_SESSION_EVENTS = 4  # of sessions that item-interaction embeddings learn from: papers' filter
MIN_EXAMPLES = 100  # fewer sessions, baskets, users or searches teach nothing
HOUR, DAY = 3_600_000_000, 86_400_000_000


class Spread(msgspec.Struct, frozen=True):
    """A distribution in five numbers."""

    mean: float
    median: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: NDArray[np.integer]) -> Spread:
        if len(values) == 0:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0)
        median, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99))
        return cls(float(values.mean()), float(median), float(p90), float(p99), float(values.max()))


class PurchaseRate(msgspec.Struct, frozen=True, kw_only=True):
    """How often a user who did `given` to an item later did `want` to the same item.

    Attributes:
        pairs: distinct (user, item) with `given`; rate: share of these with a `want` at the same time or later;
        median_lag_hours: from the first `given` to the next `want`; within_hour, within_day, within_week: shares of
        those lags, not of all pairs.
    """

    given: str
    want: str
    pairs: int
    rate: float
    median_lag_hours: float | None
    within_hour: float | None
    within_day: float | None
    within_week: float | None


class Popularity(msgspec.Struct, frozen=True, kw_only=True):
    """How unevenly positive events fall on items that have any.

    Attributes:
        gini: 0 all alike, 1 all on one; top_percent_share: share of the most popular hundredth of the items;
        curve: (share of items, share of events), most popular first.
    """

    gini: float
    top_percent_share: float
    curve: list[tuple[float, float]]


class Feed(msgspec.Struct, frozen=True):
    """Whether a system can learn from this log, and why (not)."""

    system: str
    possible: bool
    why: str


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a shop. Shares lie between 0 and 1."""

    events: int
    users: int
    items: int
    items_with_events: int
    interactions: dict[str, int]
    first_time: str
    last_time: str
    days: float
    sessions: int
    session_length: Spread
    sessions_of_one: float
    events_per_user: Spread
    events_per_item: Spread
    density: float
    popularity: Popularity
    purchase_rates: list[PurchaseRate]
    attributes: dict[str, float]
    feeds: list[Feed]


def describe(shop: Shop) -> Description:
    """Count, measure, and say which systems the log can feed.

    Raises:
        InputError: for a shop without events.
    """
    events, positives = shop.events, shop.positives
    if len(events) == 0:
        raise InputError("the shop has no events to describe")
    per_item = np.bincount(positives.item, minlength=shop.n_items)
    per_user = np.bincount(positives.user, minlength=shop.n_users)
    lengths = session_lengths(events)
    seen = int((per_item > 0).sum())
    pairs = len(np.unique(_pair_keys(positives, shop.n_items)))
    codes, counts = np.unique(events.interaction, return_counts=True)
    first, last = (np.datetime64(int(moment), "us") for moment in (events.time.min(), events.time.max()))
    return Description(
        events=len(events),
        users=shop.n_users,
        items=shop.n_items,
        items_with_events=seen,
        interactions={shop.interactions.name(int(code)): int(n) for code, n in zip(codes, counts, strict=True)},
        first_time=f"{first.astype('M8[s]')}Z",
        last_time=f"{last.astype('M8[s]')}Z",
        days=float((last - first) / np.timedelta64(1, "D")),
        sessions=len(lengths),
        session_length=Spread.of(lengths),
        sessions_of_one=float((lengths == 1).mean()),
        events_per_user=Spread.of(per_user[per_user > 0]),
        events_per_item=Spread.of(per_item[per_item > 0]),
        density=pairs / (max(int((per_user > 0).sum()), 1) * max(seen, 1)),
        popularity=_popularity(per_item[per_item > 0]),
        purchase_rates=purchase_rates(shop),
        attributes=_attributes(shop),
        feeds=[_item_interaction(shop), _cross_sell(shop), _coaction_graph(shop), _syncrec(shop), _magus(shop)],
    )


def session_lengths(events: Events) -> NDArray[np.int64]:
    """(n_sessions,): events of each session."""
    if len(events) == 0:
        return np.empty(0, np.int64)
    edges = np.flatnonzero(np.diff(events.session)) + 1
    return np.diff(np.concatenate(([0], edges, [len(events)])))


def purchase_rates(shop: Shop) -> list[PurchaseRate]:
    """For each weaker interaction that occurs, how often the strongest one (purchase, where there is) follows it."""
    names = shop.interactions.names
    want = names.index("purchase") if "purchase" in names else len(names) - 1
    return [_purchase_rate(shop, given, want) for given in range(want) if (shop.positives.interaction == given).any()]


def _purchase_rate(shop: Shop, given: int, want: int) -> PurchaseRate:
    events = shop.positives
    rows = np.flatnonzero((events.interaction == given) | (events.interaction == want))
    keys, times = _pair_keys(events, shop.n_items)[rows], events.time[rows]
    wanted = events.interaction[rows] == want
    order = np.lexsort((wanted, times, keys))  # at one moment the purchase comes after the click
    keys, times, wanted = keys[order], times[order], wanted[order]

    asked = np.flatnonzero(~wanted)
    asked = asked[np.append(True, keys[asked][1:] != keys[asked][:-1])]  # the first of each pair
    bought = np.flatnonzero(wanted)
    place = np.searchsorted(bought, asked)
    following = bought[np.minimum(place, len(bought) - 1)] if len(bought) else asked
    hit = (place < len(bought)) & (keys[following] == keys[asked])
    lags = times[following[hit]] - times[asked[hit]]
    shares = [float((lags <= limit).mean()) if len(lags) else None for limit in (HOUR, DAY, 7 * DAY)]
    return PurchaseRate(
        given=shop.interactions.name(given),
        want=shop.interactions.name(want),
        pairs=len(asked),
        rate=float(hit.mean()),
        median_lag_hours=float(np.median(lags)) / HOUR if len(lags) else None,
        within_hour=shares[0],
        within_day=shares[1],
        within_week=shares[2],
    )


def _pair_keys(events: Events, n_items: int) -> NDArray[np.int64]:
    return events.user.astype(np.int64) * n_items + events.item


def _popularity(counts: NDArray[np.int64]) -> Popularity:
    if len(counts) == 0:
        return Popularity(gini=0.0, top_percent_share=0.0, curve=[])
    descending = np.sort(counts)[::-1]
    shares = np.cumsum(descending) / descending.sum()
    n = len(counts)
    ranks = np.arange(n, 0, -1)
    gini = 2 * float((ranks * descending).sum()) / (n * float(descending.sum())) - (n + 1) / n
    places = np.unique(np.geomspace(1, n, CURVE_POINTS).astype(np.int64)) - 1
    curve = [((int(place) + 1) / n, float(shares[place])) for place in places]
    return Popularity(gini=gini, top_percent_share=float(shares[max(1, round(n / 100)) - 1]), curve=curve)


def _attributes(shop: Shop) -> dict[str, float]:
    """Share of the items for which each attribute is known."""
    table = shop.catalogue
    names = [name for name in table.column_names if name != "item"]
    return {name: 1 - table[name].null_count / max(table.num_rows, 1) for name in names}


# -- which systems the log can feed ------------------------------------------------------------------------------------


def _too_few(what: str) -> str:
    return f"{what}; at least {MIN_EXAMPLES} are needed"


def _item_interaction(shop: Shop) -> Feed:
    positives = shop.positives
    intents = shop.interactions.intents
    names = " or ".join(shop.interactions.name(code) for code in intents)
    _, session, lengths = np.unique(positives.session, return_inverse=True, return_counts=True)
    intending = np.bincount(session, np.isin(positives.interaction, intents), len(lengths)) > 0
    n = int((intending & (lengths >= MIN_SESSION_EVENTS)).sum())
    kinds = len(np.unique(positives.interaction))
    what = f"{n:,} sessions of at least {MIN_SESSION_EVENTS} events with a {names}"
    if n < MIN_EXAMPLES:
        return Feed("item-interaction", False, _too_few(what))
    if kinds < 2:
        return Feed("item-interaction", True, f"{what}; one interaction only, so the types add nothing")
    return Feed("item-interaction", True, what)


def _cross_sell(shop: Shop) -> Feed:
    bought = purchases_of(shop)
    pairs = np.unique(bought.basket * shop.n_items + bought.item)
    _, sizes = np.unique(pairs // max(shop.n_items, 1), return_counts=True)
    n = int((sizes >= 2).sum())
    what = f"{n:,} {bought.unit} with two items or more"
    if n < MIN_EXAMPLES:
        return Feed("cross-sell", False, _too_few(what))
    return Feed("cross-sell", True, what)


def _coaction_graph(shop: Shop) -> Feed:
    known = {name: share for name, share in _attributes(shop).items() if share > 0}
    relations: list[str] = [name for name in ("title", "category", "brand", "seller") if name in known]
    relations += [name for name in known if name.startswith("vector_")]
    if not relations:
        why = "nothing is known of the items; a title, category, brand, seller or vector_* is needed"
        return Feed("coaction-graph", False, why)
    return Feed("coaction-graph", True, "items have " + ", ".join(f"{name} ({known[name]:.0%})" for name in relations))


def _syncrec(shop: Shop) -> Feed:
    positives = shop.positives
    if shop.catalogue["domain"].null_count < shop.n_items:
        of_item = shop.catalogue["domain"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
        domain = of_item[positives.item]
    elif "domain" in positives.columns.column_names:
        domain = positives.columns["domain"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    else:
        return Feed("syncrec", False, "the log knows no domains (several services or departments)")
    pairs = np.unique(positives.user[domain >= 0].astype(np.int64) * 1_000_000 + domain[domain >= 0])
    domains = len(np.unique(domain[domain >= 0]))
    _, per_user = np.unique(pairs // 1_000_000, return_counts=True)
    several = int((per_user >= 2).sum())
    if domains < 2:
        return Feed("syncrec", False, "there is one domain only")
    what = f"{domains} domains, {several:,} users in two or more"
    return Feed("syncrec", several >= MIN_EXAMPLES, what if several >= MIN_EXAMPLES else _too_few(what))


def _magus(shop: Shop) -> Feed:
    searches = int((shop.events.interaction == SEARCH).sum())
    text = shop.catalogue["title"].null_count < shop.n_items
    if searches < MIN_EXAMPLES:
        return Feed("magus", False, _too_few(f"{searches:,} searches"))
    if not text:
        return Feed("magus", False, f"{searches:,} searches, but no item has a title")
    return Feed("magus", True, f"{searches:,} searches, items have titles")


# -- the picture -------------------------------------------------------------------------------------------------------


def plot(description: Description, file: Path) -> None:
    """Two panels: how popularity is spread, and how often each interaction leads to a purchase.

    Raises:
        InputError: if the file's format is unknown.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--plot {file}: the name must end in .png, .svg or .pdf")
    style = {"font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "endcap"}
    with mpl.rc_context(style):
        figure = Figure(figsize=(9.5, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2)
        _plot_popularity(left, description.popularity)
        _plot_rates(right, description.purchase_rates)
        figure.savefig(file, dpi=150)


def _plot_popularity(axes: Axes, popularity: Popularity) -> None:
    items, events = zip((0.0, 0.0), *popularity.curve, strict=True)
    axes.plot(items, events, color="#1f5a96", linewidth=2)
    axes.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=1, linestyle=":")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of items, most popular first", ylabel="share of events")
    axes.set_title(f"Popularity: the top 1 % of items hold {popularity.top_percent_share:.0%}", loc="left")
    axes.text(0.97, 0.06, f"Gini {popularity.gini:.2f}", transform=axes.transAxes, ha="right")


def _plot_rates(axes: Axes, rates: list[PurchaseRate]) -> None:
    want = rates[0].want if rates else "purchase"
    bars = axes.bar([rate.given for rate in rates], [100 * rate.rate for rate in rates], color="#d9772b", width=0.6)
    axes.bar_label(bars, [f"{rate.rate:.1%}" for rate in rates], padding=3)
    axes.set(xlabel="given that the user did this to the item", ylabel="per cent")
    axes.margins(y=0.15)
    axes.set_title(f"Share of user-item pairs with a later {want}", loc="left")
    if not rates:
        axes.text(0.5, 0.5, "one interaction only", transform=axes.transAxes, ha="center")
