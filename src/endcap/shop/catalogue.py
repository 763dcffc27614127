"""Numbers for ids in order of first appearance, and the catalogue that belongs to them: Ibis expressions."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from endcap.shop.columns import ATTRIBUTES, VECTOR_PREFIX
from endcap.shop.shop import END_OF_TIME

NEVER = END_OF_TIME - 1  # known from here: in the whole shop, and in no view that ends earlier


def number_ids(first_seen: ir.Table, old: ir.Table | None, n_old: int) -> ir.Table:
    """Give new ids the numbers after the old ones, by first appearance, then by id.

    Args:
        first_seen: (id, known_from), ids distinct; old: (number, id, known_from).

    Returns:
        (number int32, id, known_from int64) of all ids; an old id keeps its number and may be known earlier.
    """
    new = first_seen if old is None else first_seen.anti_join(old, "id")
    place = ibis.row_number().over(ibis.window(order_by=[new.known_from, new.id]))
    new = new.select(number=(place + n_old).cast("int32"), id=new.id, known_from=new.known_from)
    if old is None:
        return new
    again = first_seen.select(id="id", seen=first_seen.known_from)
    kept = old.left_join(again, "id")
    known_from = ibis.least(kept.known_from, kept.seen.coalesce(kept.known_from))
    return kept.select(number=kept.number, id=kept.id, known_from=known_from).union(new)


def first_seen_users(kept: ir.Table) -> ir.Table:
    """(id, known_from) of the users of kept event rows."""
    return kept.group_by(id=kept.user).agg(known_from=kept.time.min())


def first_seen_items(kept: ir.Table | None, described: ir.Table | None) -> ir.Table | None:
    """(id, known_from) of items: their first event or their launch, whichever is earlier; neither: `NEVER`."""
    parts = []
    if kept is not None:
        named = kept.filter(kept.item.notnull())
        parts.append(named.group_by(id=named.item).agg(known_from=named.time.min()))
    if described is not None:
        launched = described.launched if "launched" in described.columns else ibis.null("int64")
        parts.append(described.select(id=described.item, known_from=launched.coalesce(NEVER)))
    if len(parts) < 2:
        return parts[0] if parts else None
    both = parts[0].union(parts[1])
    return both.group_by("id").agg(known_from=both.known_from.min())


def described_items(rows: ir.Table, attributes: Sequence[str]) -> ir.Table:
    """One row per item of kept item rows: of each attribute the last value given."""
    arrival = rows.source.cast("int64") * 2**40 + rows.line
    last = {name: rows[name].argmax(arrival, where=rows[name].notnull()) for name in attributes}
    return rows.group_by("item").agg(**last)


def folded_attribute(kept: ir.Table, name: str) -> ir.Table:
    """(item, `name`): the latest value that event rows give to each item; of several at once the last in order."""
    given = kept.filter(kept.item.notnull() & kept[name].notnull())
    values = given.group_by(["item", name]).agg(latest=given.time.max())
    place = ibis.row_number().over(ibis.window(group_by="item", order_by=[values.latest.desc(), values[name].desc()]))
    return values.mutate(place=place).filter(ibis._.place == 0).select("item", name)


def catalogue(
    items: ir.Table, described: ir.Table | None, folded: Sequence[ir.Table], old: ir.Table | None
) -> ir.Table:
    """One row per item: what the items files say, else the events, else what was known before.

    Args:
        items: (number, id, known_from); described: see `described_items`; folded: see `folded_attribute`;
        old: the catalogue so far. The latter have a column `item` and attributes.
    """
    parts = [part for part in (described, *folded, old) if part is not None]
    vectors = sorted({name for part in parts for name in part.columns if name.startswith(VECTOR_PREFIX)})
    given: dict[str, list[str]] = {name: [] for name in (*ATTRIBUTES, *vectors)}
    whole = items
    for place, part in enumerate(parts):
        renamed = part.rename({f"{name}_{place}": name for name in part.columns})
        whole = whole.left_join(renamed, whole.id == renamed[f"item_{place}"])
        for name in part.columns:
            if name != "item":
                given[name].append(f"{name}_{place}")
    columns = {name: _first_given(whole, names, name) for name, names in given.items()}
    return whole.select("number", "known_from", item=whole.id, **columns)


def _first_given(whole: ir.Table, names: Sequence[str], attribute: str) -> ir.Value:
    if not names:
        return ibis.null(_KINDS.get(attribute, "string"))
    return ibis.coalesce(*(whole[name] for name in names))


_KINDS = {"price": "float64", "margin": "float64", "in_stock": "boolean", "launched": "int64"}
