"""The event log: schema, ingest, quarantine, sessions, splits, id vocabularies."""

from endcap.shop.interactions import Interactions
from endcap.shop.shop import Events, Shop, duration
from endcap.shop.vocabulary import Vocabulary

__all__ = ["Events", "Interactions", "Shop", "Vocabulary", "duration"]
