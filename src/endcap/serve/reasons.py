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
        item = catalogue.name(reason.item)
        return f"because you {_did(reason.seen_as, interactions)} {item}, you may want to {_may(reason.want, interactions)} this"
    if reason.kind == "category":
        return f"popular in {reason.note}" if reason.note else "popular in this category"
    if reason.kind == "seller":
        return f"popular with the seller {reason.note}" if reason.note else "popular with this seller"
    if reason.kind == "popular":
        return "popular in this shop lately"
    return reason.note or reason.kind


def _did(code: int | None, interactions: Interactions) -> str:
    if code is None or not 0 <= code < len(interactions):
        return "looked at"
    name = interactions.name(code)
    return DID.get(name, f"did {name} with")


def _may(code: int | None, interactions: Interactions) -> str:
    if code is None or not 0 <= code < len(interactions):
        return "see"
    name = interactions.name(code)
    return MAY.get(name, f"{name}")
