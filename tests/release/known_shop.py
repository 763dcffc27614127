"""A shop small enough to know by heart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from endcap.shop import Events, Interactions, Shop, Vocabulary
from endcap.shop.interactions import RETURN

DAY = 86_400_000_000
CODES = {"click": 0, "favourite": 1, "cart": 2, "purchase": 3, "return": RETURN, "search": 100}
ITEMS = ("lamp", "desk", "pen", "ink", "cup")
CATALOGUE = pa.table(
    {
        "item": list(ITEMS),
        "category": ["home/light", "home", "office/pens", "office", None],
        "seller": ["ann", "bob", "ann", "ann", "bob"],
        "vector_text": pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(10, np.float32)), 2),
    }
)


def make_shop(rows: Sequence[tuple[int, str, str, int]], catalogue: pa.Table = CATALOGUE, n_users: int = 3) -> Shop:
    """A shop of (user, item, interaction, day) rows."""
    rows = sorted(rows, key=lambda row: (row[0], row[3]))
    user, day = (np.array([row[place] for row in rows], np.int64) for place in (0, 3))
    events = Events(
        user.astype(np.int32),
        np.array([ITEMS.index(row[1]) if row[1] else -1 for row in rows], np.int32),
        np.array([CODES[row[2]] for row in rows], np.int8),
        day * DAY,
        user.astype(np.int32),
    )
    users = Vocabulary([f"user {number}" for number in range(n_users)])
    return Shop(events, Vocabulary(list(ITEMS)), users, catalogue, Interactions())
