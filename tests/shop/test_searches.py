"""What people searched for before a moment."""

from __future__ import annotations

import pyarrow as pa

from endcap.shop import Shop
from endcap.shop.searches import LAST_SEARCHES, Searches

from .logs import START, table

SECOND = 1_000_000


def log_of(*rows: tuple[str, str, str | None, int]) -> Shop:
    """A shop of (user, interaction, query, second) rows, all on one item."""
    log = table(*((user, "i0", interaction, second) for user, interaction, _, second in rows))
    return Shop.from_tables(log.append_column("query", pa.array([query for _, _, query, _ in rows], pa.string())))


def test_a_persons_searches_before_a_moment_oldest_first():
    shop = log_of(
        ("b", "search", "mug", 5), ("a", "search", "tent", 30), ("a", "click", "no search", 12),
        ("a", "search", "red", 10), ("b", "click", None, 40), ("c", "click", None, 41),
    )  # fmt: skip
    searches, a = Searches(shop.events), shop.users.number("a")
    at = [(START + second) * SECOND for second in (10, 11, 30, 31)]
    found = [searches.before(a, moment) for moment in at]
    assert found == [(), (("red", at[0]),), (("red", at[0]),), (("red", at[0]), ("tent", at[2]))]
    assert searches.before(a) == found[-1]
    assert searches.before(a, n=1) == found[-1][1:]
    assert [text for text, _ in searches.before(shop.users.number("b"))] == ["mug"]
    assert searches.before(shop.users.number("c")) == searches.before(-1) == searches.before(99) == ()


def test_the_last_ones_of_several_logs():
    shop = log_of(*(("a", "search", f"q{n}", 60 * n) for n in range(2 * LAST_SEARCHES)))
    half = shop.events.time < (START + 60 * LAST_SEARCHES) * SECOND
    one, other = shop.events.where(half), shop.events.where(~half)
    told = [f"q{n}" for n in range(LAST_SEARCHES, 2 * LAST_SEARCHES)]
    for searches in (Searches(shop.events), Searches(one, other), Searches(other, one)):
        assert [text for text, _ in searches.before(0)] == told
    assert len(Searches(one, other)) == 2 * LAST_SEARCHES


def test_a_shop_without_searches_has_none_to_tell():
    shop = Shop.from_tables(table(("a", "i0", "click", 0)))
    for searches in (Searches(), Searches(shop.events), Searches(shop.events, shop.events)):
        assert len(searches) == 0
        assert searches.before(0) == ()
