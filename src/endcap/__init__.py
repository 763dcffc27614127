"""endcap: from a shop's event log to live recommendations.

from endcap import ItemInteraction, Shop, evaluate
train, test = Shop.open("shop").split_by_time(test="7d")
model = ItemInteraction(dim=128).fit(train)
model.related("B00X", seen_as="click", want="cart", k=10)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from endcap.evaluate import evaluate
    from endcap.models.item_interaction import ItemInteraction
    from endcap.shop import Shop

_HOMES = {
    "Shop": "endcap.shop",
    "ItemInteraction": "endcap.models.item_interaction",
    "evaluate": "endcap.evaluate",
}
__all__ = ["ItemInteraction", "Shop", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import endcap` and `endcap --help` stay quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'endcap' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
