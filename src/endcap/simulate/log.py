"""The event log of a simulated shop, block by block in order of time, with bots and spoilt rows where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.shop import Interactions
from endcap.shop.interactions import FURTHER_KINDS
from endcap.simulate import catalogue
from endcap.simulate.visits import (
    CART,
    CLICK,
    CRAWLED,
    ITEM,
    KIND,
    LEAF,
    N_COLUMNS,
    NEXT_SESSION,
    ORDER,
    POSITION,
    PURCHASE,
    REQUEST,
    RETURN,
    SEARCH,
    SESSION,
    TIME,
    USER,
    WHY,
    Habits,
    draw_visits,
)  # fmt: skip
from endcap.simulate.world import Truth

BLOCK_ROWS = 250_000
BOT_PAUSE_US = 300_000
TWO_PIECES = 0.1  # share of purchases
KIND_NAMES = dict(enumerate(Interactions().names)) | {code: name for name, code in FURTHER_KINDS.items()}

# How a spoilt row is spoilt, in the words of ingest's reasons. In tables an unparsable time is null.
SPOILT = ("missing user", "missing item", "unparsable time", "impossible time", "unknown interaction", "negative price")
LONG_AGO_US = 10_000_000
NO_TIME = "the day after"

Rows = NDArray[np.int64]
Ints = NDArray[np.int64]


@dataclass
class Tally:
    """What has been written so far: all rows, good ones by kind, spoilt ones by reason, and repeated ones."""

    rows: int = 0
    interactions: dict[str, int] = field(default_factory=dict)
    spoilt: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    first_time: int | None = None
    last_time: int | None = None

    def count_good(self, rows: Rows) -> None:
        """Take in rows sorted by time."""
        if len(rows) == 0:
            return
        for code, n in zip(*np.unique(rows[:, KIND], return_counts=True), strict=True):
            name = KIND_NAMES[int(code)]
            self.interactions[name] = self.interactions.get(name, 0) + int(n)
        first, last = int(rows[0, TIME]), int(rows[-1, TIME])
        self.first_time = first if self.first_time is None else min(self.first_time, first)
        self.last_time = last if self.last_time is None else max(self.last_time, last)


def log_rows(truth: Truth) -> Iterator[Rows]:
    """All good rows in blocks, each sorted by time; blocks follow each other but for visits that run over the end."""
    settings = truth.settings
    n_blocks = max(1, round(settings.events * (1 + settings.impressions) / BLOCK_ROWS))
    bounds = settings.begins + np.arange(n_blocks + 1) * (settings.ends - settings.begins) // n_blocks
    counts = np.zeros(5, np.int64)
    counts[NEXT_SESSION] = settings.bots  # the first sessions are theirs
    bots = _bot_rows(truth)
    waiting = np.empty((0, N_COLUMNS), np.int64)
    for block in range(n_blocks):
        rng = np.random.default_rng([settings.seed, 20, block])
        first, last = int(bounds[block]), int(bounds[block + 1])
        due, waiting = _split(waiting, last)
        wanted = settings.events * (block + 1) // n_blocks - settings.events * block // n_blocks - len(due)
        drawn = draw_visits(rng, truth.world, Habits.of(settings), first, last, counts, max(0, wanted))
        back = drawn[:, KIND] == RETURN
        drawn[back, SESSION] = -1  # sent from home, in no visit
        now, later = _split(drawn[back], last)
        waiting = np.concatenate([waiting, later])
        crawled = bots[(bots[:, TIME] >= first) & (bots[:, TIME] < last)]
        rows = np.concatenate([drawn[~back], due, now, crawled])
        yield rows[np.argsort(rows[:, TIME], kind="stable")]


def _split(rows: Rows, moment: int) -> tuple[Rows, Rows]:
    early = rows[:, TIME] < moment
    return rows[early], rows[~early]


def _bot_rows(truth: Truth) -> Rows:
    """Crawlers: one session each, of clicks on items at random at a machine's pace."""
    settings, world = truth.settings, truth.world
    rng = np.random.default_rng([settings.seed, 21])
    bot = np.repeat(np.arange(settings.bots), settings.bot_events)
    step = np.tile(np.arange(settings.bot_events), settings.bots)
    free = max(1, settings.ends - settings.begins - settings.bot_events * BOT_PAUSE_US)
    begins = settings.begins + rng.integers(0, free, settings.bots)
    rows = np.full((len(bot), N_COLUMNS), -1, np.int64)
    rows[:, TIME] = begins[bot] + step * BOT_PAUSE_US
    item = rng.integers(0, settings.n_items, len(bot))
    rows[:, LEAF] = truth.leaf[item]
    rows[:, ITEM] = np.where(world.launched[item] <= rows[:, TIME], item, world.oldest[rows[:, LEAF]])
    rows[:, USER], rows[:, SESSION] = settings.n_users + bot, bot
    rows[:, KIND], rows[:, WHY] = CLICK, CRAWLED
    return rows


class Scribe:
    """Turns rows into tables with the columns that a log with these settings has, and adds spoilt and repeated rows."""

    def __init__(self, truth: Truth) -> None:
        self.truth, self.tally = truth, Tally()
        self._item_ids = catalogue.item_ids(truth)
        self._prices = catalogue.prices(truth)
        self._queries = pa.array(catalogue.leaf_names(truth))
        self._next_event = 0

    def tables(self) -> Iterator[pa.Table]:
        """The whole log, one table a block; only a spoilt time is null."""
        for block, rows in enumerate(log_rows(self.truth)):
            self.tally.count_good(rows)
            rng = np.random.default_rng([self.truth.settings.seed, 30, block])
            table = self._with_extra_rows(self._table(rows, rng), rng)
            self.tally.rows += len(table)
            yield table

    def _table(self, rows: Rows, rng: np.random.Generator) -> pa.Table:
        settings, kind = self.truth.settings, rows[:, KIND]
        bought = (kind == PURCHASE) | (kind == RETURN)
        pieces = 1 + ((kind == PURCHASE) & (rng.random(len(rows)) < TWO_PIECES))
        columns = {
            "event_id": self._event_ids(len(rows)),
            "user": catalogue.user_ids(self.truth, rows[:, USER]),
            "item": _look_up(self._item_ids, rows[:, ITEM]),
            "interaction": _look_up(pa.array([KIND_NAMES.get(code, "") for code in range(max(KIND_NAMES) + 1)]), kind),
            "time": pa.array(rows[:, TIME] // 1_000 * 1_000, pa.timestamp("us", "UTC")),
            "session": catalogue.numbered("S", rows[:, SESSION], 9),
            "order": catalogue.numbered("O", rows[:, ORDER], 9),
            "price": pa.array(self._prices[rows[:, ITEM]], mask=~(bought | (kind == CART))),
            "quantity": pa.array(pieces, pa.int32(), mask=~bought),
        }
        if settings.searches:
            columns["query"] = _look_up(self._queries, np.where(kind == SEARCH, rows[:, LEAF], -1))
        if settings.impressions:
            columns["request_id"] = catalogue.numbered("R", rows[:, REQUEST], 10)
            columns["surface"] = _look_up(pa.array(["category"]), np.minimum(rows[:, REQUEST], 0))
            columns["position"] = pa.array(rows[:, POSITION], pa.int32(), mask=rows[:, POSITION] < 0)
        if settings.domains > 1:
            columns["domain"] = _look_up(pa.array(self.truth.domain_names()), self.truth.leaf_domain[rows[:, LEAF]])
        return pa.table(columns)

    def _with_extra_rows(self, table: pa.Table, rng: np.random.Generator) -> pa.Table:
        """Spoilt and repeated rows, each behind the good row it was copied from."""
        settings = self.truth.settings
        if not settings.bad_rows and not settings.duplicates:
            return table
        with_item = np.flatnonzero(table["item"].is_valid().to_numpy())
        spoilt = with_item[rng.random(len(with_item)) < settings.bad_rows]
        repeated = np.flatnonzero(rng.random(len(table)) < settings.duplicates)
        self.tally.duplicates += len(repeated)
        origin = np.concatenate([np.arange(len(table)), spoilt, repeated])
        whole = pa.concat_tables(
            [table, self._spoil(table.take(pa.array(spoilt)), rng), table.take(pa.array(repeated))]
        )
        return whole.take(pa.array(np.argsort(origin, kind="stable")))

    def _spoil(self, table: pa.Table, rng: np.random.Generator) -> pa.Table:
        """Rows each spoilt in one way, under event ids of their own."""
        how = rng.integers(0, len(SPOILT), len(table))
        for reason, n in zip(SPOILT, np.bincount(how, minlength=len(SPOILT)).tolist(), strict=True):
            self.tally.spoilt[reason] = self.tally.spoilt.get(reason, 0) + n
        table = _replace(table, "event_id", self._event_ids(len(table)))
        spoils = (
            ("missing user", "user", None),
            ("missing item", "item", None),
            ("unparsable time", "time", None),
            ("impossible time", "time", LONG_AGO_US),
            ("unknown interaction", "interaction", "teleport"),
            ("negative price", "price", -1.0),
        )
        for reason, name, value in spoils:
            hit = pa.array(how == SPOILT.index(reason))
            column = table[name].combine_chunks()
            table = _replace(table, name, pc.if_else(hit, pa.scalar(value, column.type), column))
        return table

    def _event_ids(self, n: int) -> pa.StringArray:
        self._next_event += n
        return catalogue.numbered("E", np.arange(self._next_event - n, self._next_event), 10)


def times_as_text(table: pa.Table) -> pa.Table:
    """The same table with times in ISO 8601 to the millisecond, for formats that know no times; null is nonsense."""
    for field_ in table.schema:
        if pa.types.is_timestamp(field_.type):
            moments = table[field_.name].cast(pa.timestamp("ms", "UTC"), safe=False)
            text = pc.strftime(moments, format="%Y-%m-%dT%H:%M:%SZ")
            table = _replace(table, field_.name, pc.fill_null(text, NO_TIME))
    return table


def _look_up(values: pa.Array, places: Ints) -> pa.Array:
    """values[places]; null where a place is negative."""
    return values.take(pa.array(places, mask=places < 0))


def _replace(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)
