"""A shop with known truth: complements, substitutes, seasons, cold items, domains, returns."""

from endcap.simulate.oracle import Oracle
from endcap.simulate.settings import VERSION, ShopSettings
from endcap.simulate.simulation import SimulatedShop, Summary, simulate, tables

__all__ = ["VERSION", "Oracle", "ShopSettings", "SimulatedShop", "Summary", "simulate", "tables"]
