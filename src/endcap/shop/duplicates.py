"""Rows with which nothing is wrong but that they are there already: Ibis expressions."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from endcap.shop.interactions import FURTHER_KINDS, Interactions


def repeated_event_ids(good: ir.Table) -> ir.Table:
    """(source, line) of rows whose event_id an earlier row has."""
    named = good.filter(good.event_id.notnull()).select("event_id", "source", "line")
    counts = named.group_by("event_id").agg(n=named.count())
    among = named.semi_join(counts.filter(counts.n > 1), "event_id")
    place = ibis.row_number().over(ibis.window(group_by="event_id", order_by=["source", "line"]))
    return among.mutate(place=place).filter(ibis._.place > 0).select("source", "line")


def known_event_ids(good: ir.Table, old: ir.Table | None) -> ir.Table | None:
    """(source, line) of rows whose event_id the shop has."""
    if old is None:
        return None
    return good.semi_join(old.filter(old.event_id.notnull()), "event_id").select("source", "line")


def repeated_rows(good: ir.Table, old: ir.Table | None, columns: Sequence[str]) -> ir.Table:
    """(source, line) of rows that equal an earlier one in these columns."""
    rows = good.select("source", "line", *columns)
    if old is not None:
        marked = old.mutate(source=ibis.literal(-1, "int32"), line=ibis.literal(0, "int64"))
        rows = rows.union(marked.select(*rows.columns).cast(rows.schema()))
    place = ibis.row_number().over(ibis.window(group_by=list(columns), order_by=["source", "line"]))
    return rows.mutate(place=place).filter((ibis._.place > 0) & (ibis._.source >= 0)).select("source", "line")


def quoted(rows: ir.Table, interactions: Interactions) -> ir.StringValue:
    """A canonical row as text, for the quarantine."""
    codes = {name: code for code, name in enumerate(interactions.names)} | FURTHER_KINDS
    words = {
        "event_id": rows.event_id if "event_id" in rows.columns else ibis.null("string"),
        "user": rows.user,
        "item": rows.item,
        "interaction": ibis.cases(*((rows.interaction == code, name) for name, code in codes.items())),
        "time": rows.time.cast("string"),
    }
    return ibis.literal(", ").join([ibis.literal(f"{name}=") + word for name, word in words.items()])
