"""A product in every basket changes hardly anything in anybody's list, whatever scores pairs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap import Shop
from endcap.answers import Request
from endcap.models.cross_sell import CrossSell

GROUPS, SIZE, BASKETS, HOUR = 15, 12, 2_000, 3_600
HUB = "bag"


def shop(*, hub: bool) -> Shop:
    """Baskets of two to four products of a group, some with one from anywhere."""
    rng, rows = np.random.default_rng(0), []
    for order in range(BASKETS):
        inside = rng.integers(GROUPS) * SIZE + rng.choice(SIZE, rng.integers(2, 5), replace=False)
        extra = [int(rng.integers(GROUPS * SIZE))] if rng.random() < 0.3 else []
        names = [f"i{item:03}" for item in {*inside.tolist(), *extra}] + ([HUB] if hub else [])
        rows += [(f"u{order % 500}", name, 1_700_000_000 + order * HOUR, f"o{order}") for name in names]
    user, item, when, order = zip(*rows, strict=True)
    seconds = pa.array(when, pa.timestamp("s", tz="UTC"))
    log = {"user": user, "item": item, "interaction": ["purchase"] * len(user), "time": seconds, "order": order}
    return Shop.from_tables(pa.table(log), pa.table({"item": sorted(set(item))}))


def lists(score_by: str, *, hub: bool) -> dict[str, set[str]]:
    log = shop(hub=hub)
    network = {"dim": 32, "epochs": 20} if score_by == "network" else {"dim": 2, "layers": 0, "epochs": 1}
    model = CrossSell(**network, score_by=score_by, text="none", complement="none").fit(log, seed=0)
    ids = log.items.ids.to_pylist()
    if hub:
        asked, forbidden = ids.index("i001"), ids.index("i002")
        ruled = Request(k=log.n_items, item=asked, allowed=np.arange(log.n_items) != forbidden)
        assert not np.isin([ids.index(HUB), forbidden], model.candidates(ruled).items).any()
    return {
        ids[item]: {ids[other] for other in model.candidates(Request(k=10, item=item)).items}
        for item in range(GROUPS * SIZE + hub)
    }


@pytest.mark.parametrize("score_by", ["network", "evidence", "walk", "jaccard", "pagerank"])
def test_a_hub_takes_no_more_than_a_tenth_of_a_list(score_by: str) -> None:
    before, after = lists(score_by, hub=False), lists(score_by, hub=True)
    own = [
        np.mean([int(other[1:]) // SIZE == int(item[1:]) // SIZE for other in found]) for item, found in before.items()
    ]
    assert np.mean(own) > 0.9  # of ten, eleven would be right
    kept = np.array([len(found & after[item]) / 10 for item, found in before.items()])
    assert all(HUB not in found for found in after.values())
    assert len(after[HUB]) == 10
    assert (kept >= 0.9).all()
