"""Sessions and the order of events: Ibis expressions."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir


def in_order(events: ir.Table, gap: int, *, logged: bool) -> ir.Table:
    """Events by user, session (by its first event), time, arrival; `begins` is true at the first of each session.

    A session is what the log says (`session_id`, of one user); events without such an id are cut where the user pauses
    for longer than `gap` microseconds.

    Args:
        events: with columns user, time, arrival (distinct) and session_id; logged: whether any has a session_id.
    """
    keys = ["user", events.session_id.isnull()] if logged else ["user"]
    by_time = ibis.window(group_by=keys, order_by=["time", "arrival"])
    pause = events.time - events.time.lag().over(by_time)
    after_pause = (pause > gap).fill_null(True)
    if not logged:
        return events.mutate(begins=after_pause).order_by(["user", "time", "arrival"])
    part = events.mutate(after_pause=after_pause.cast("int32"))
    up_to_here = ibis.cumulative_window(group_by=["user", part.session_id.isnull()], order_by=["time", "arrival"])
    part = part.mutate(part=ibis.ifelse(part.session_id.isnull(), part.after_pause.sum().over(up_to_here), 0))
    session = ["user", "session_id", "part"]
    whole = part.mutate(
        start=part.time.min().over(ibis.window(group_by=session)),
        place=ibis.row_number().over(ibis.window(group_by=session, order_by=["time", "arrival"])),
    )
    ordered = whole.mutate(begins=whole.place == 0).order_by(
        ["user", "start", ibis._.session_id.fill_null(""), "part", "time", "arrival"]
    )
    return ordered.drop("after_pause", "part", "start", "place")
