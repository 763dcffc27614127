"""Reasons as sentences that a merchandiser reads."""

from __future__ import annotations

from endcap.answers import Reason
from endcap.serve.catalogue import LiveCatalogue
from endcap.shop import Interactions

DID = {"click": "clicked", "favourite": "favourited", "cart": "carted", "purchase": "bought"}
MAY = {"click": "click", "favourite": "favourite", "cart": "cart", "purchase": "buy"}


def sentence(reason: Reason, catalogue: LiveCatalogue, interactions: Interactions) -> str:
    """One reason in words, items by their titles."""
    if reason.kind == "because" and reason.item is not None:
        did, may = _verb(reason.seen_as, interactions, DID), _verb(reason.want, interactions, MAY)
        return f"because you {did or 'saw'} {catalogue.name(reason.item)}, you may want to {may or 'see'} this"
    if reason.kind == "category":
        return f"popular in {reason.note}" if reason.note else "popular in this category"
    if reason.kind == "seller":
        return f"popular with the seller {reason.note}" if reason.note else "popular with this seller"
    if reason.kind == "popular":
        return "popular in this shop lately"
    return reason.note or reason.kind


def usual_reason(source: str) -> Reason:
    """What can be said where a model names no evidence: its source's last word tells the step."""
    step = source.rpartition("/")[2]
    for kind in ("category", "seller", "popular"):
        if kind in step:
            return Reason(kind)
    return Reason("relation", note=f"recommended by {source}")


def _verb(code: int | None, interactions: Interactions, verbs: dict[str, str]) -> str:
    """An interaction as a verb; a shop's own interactions are verbs as they stand."""
    if code is None or not 0 <= code < len(interactions):
        return ""
    name = interactions.name(code)
    return verbs.get(name, name)
