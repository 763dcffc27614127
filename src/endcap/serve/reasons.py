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
    if reason.kind == "category":
        return f"popular in {reason.note}" if reason.note else "popular in this category"
    if reason.kind == "seller":
        return f"popular with the seller {reason.note}" if reason.note else "popular with this seller"
    if reason.kind == "ranker":
        note = reason.note if reason.want is None else f"{reason.note} {_verb(reason.want, interactions, DID)} lately"
        return f"moved {'up' if (reason.value or 0) > 0 else 'down'}: {note}"
    if reason.kind == "popular":
        return "popular in this shop lately"
    return reason.note or reason.kind


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
