"""Reasons as sentences that a merchandiser reads."""

from __future__ import annotations

from collections.abc import Sequence

from endcap.answers import Reason
from endcap.serve.catalogue import LiveCatalogue
from endcap.shop import Interactions

DID = {"click": "clicked", "favourite": "favourited", "cart": "carted", "purchase": "bought"}
MAY = {"click": "click", "favourite": "favourite", "cart": "cart", "purchase": "buy"}
NAMED = 3  # past items in one sentence
BY_TEXT = "text"  # the step of a model that finds what is near a new item by what is said of it


def sentence(reason: Reason, catalogue: LiveCatalogue, interactions: Interactions) -> str:
    """One reason in words, items by their titles."""
    if reason.kind == "because" and reason.item is not None:
        did, may = _verb(reason.seen_as, interactions, DID), _verb(reason.want, interactions, MAY)
        return f"because you {did or 'saw'} {catalogue.name(reason.item)}, you may want to {may or 'see'} this"
    if reason.kind == "interest" and reason.items:
        names = list(dict.fromkeys(f"the {catalogue.name(item)}" for item in reason.items))[:NAMED]
        return f"because of {_listed(names)}"
    if reason.kind == "relation" and (told := _related(reason, catalogue)):
        return told
    if reason.kind == "category" and reason.item is not None:
        return f"popular in {reason.note}, which goes with {catalogue.name(reason.item)}"
    if reason.kind == "category":
        return f"popular in {reason.note}" if reason.note else "popular in this category"
    if reason.kind == "seller":
        return f"popular with the seller {reason.note}" if reason.note else "popular with this seller"
    if reason.kind == "ranker":
        note = reason.note if reason.want is None else f"{reason.note} {_verb(reason.want, interactions, DID)} lately"
        return f"moved {'up' if (reason.value or 0) > 0 else 'down'}: {note}"
    if reason.kind == "popular":
        return "popular in this shop lately"
    if reason.kind == "strategy":
        return _placed(round(reason.value or 0), reason.note)
    return reason.note or reason.kind


def _related(reason: Reason, catalogue: LiveCatalogue) -> str:
    """How an item hangs together with others, empty where the reason names none."""
    if reason.note == "bought together" and reason.item is not None and reason.value is not None:
        return f"bought together with {catalogue.name(reason.item)} {_times(reason.value)}"
    if reason.note == "by way of" and len(reason.items) > 2:
        names = [catalogue.name(item) for item in reason.items]
        return f"{' -> '.join(names)}: by way of {_listed(names[1:-1])}"
    if reason.note == "by category" and reason.item is not None:
        return f"of a category that is bought with that of {catalogue.name(reason.item)}"
    if reason.note == "attention" and reason.item is not None:
        return f"attention to {catalogue.name(reason.item)}: {reason.value or 0:.0%}"
    return ""


def _placed(baskets: int, strategy: str) -> str:
    """Why something that few have bought stands where it does, for people and then for who knows the model."""
    if not baskets:
        return f"nobody has bought it yet: placed by products like it ({strategy})"
    times = {1: "one order", 2: "two orders"}.get(baskets, f"{baskets} orders")
    return f"only in {times} so far: placed by these and by products like it ({strategy})"


def _times(n: float) -> str:
    """Counts may be weighted."""
    return {1: "once", 2: "twice"}.get(round(n), f"{n:.0f} times") if round(n) else f"{n:.2g} times"


def usual_reason(source: str) -> Reason:
    """What can be said where a model names no evidence: its source's last word tells the step."""
    step = source.rpartition("/")[2]
    for kind in ("category", "seller", "popular"):
        if kind in step:
            return Reason(kind)
    if step == BY_TEXT:
        return Reason("relation", note="close to what you look at, by what is said of both")
    return Reason("relation", note=f"recommended by {source}")


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _verb(code: int | None, interactions: Interactions, verbs: dict[str, str]) -> str:
    """An interaction as a verb; a shop's own interactions are verbs as they stand."""
    if code is None or not 0 <= code < len(interactions):
        return ""
    name = interactions.name(code)
    return verbs.get(name, name)
