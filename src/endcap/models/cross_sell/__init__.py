"""Graph cross-sell: what goes with a product, never a rival of it, and why. `model` reads like the paper; it uses

settings, towers, typed, attention, sampled   the networks
hiding, lesson, negatives                     what they learn from
evidence, links, next, lately, pair_head      what else scores pairs
choice, decision                              which of these serves a shop
score, reasons, new                           the parts of the score, why; new products
"""

from endcap.models.cross_sell.model import CrossSell

__all__ = ["CrossSell"]
