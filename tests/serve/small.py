"""A little shop whose categories, brands and sessions are known by heart, releases and a model that only ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap import models
from endcap.answers import Candidates, Request
from endcap.release import Part, activate, write_release
from endcap.serve.serving import Loaded, Serving
from endcap.serve.surfaces import DEFAULT_SURFACES, Surface
from endcap.shop import Events, Shop, Vocabulary

N_ITEMS, N_USERS, PER_SESSION = 60, 40, 6
START = 1_790_000_000_000_000
STEP = 60_000_000


def make_shop(seed: int = 0) -> Shop:
    """60 items i0..i59 in 6 categories (i mod 6), 5 brands (i mod 5); 40 users u0..u39 with 2 sessions of 6 clicks
    and carts inside one category each; item i is out of stock where i mod 20 is 19, has no price where i mod 10 is 7.
    """
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(N_USERS, dtype=np.int32), 2 * PER_SESSION)
    session = np.repeat(np.arange(2 * N_USERS, dtype=np.int32), PER_SESSION)
    item = (rng.integers(0, N_ITEMS // 6, len(user)) * 6 + session % 6).astype(np.int32)
    interaction = np.tile(np.array([0, 0, 0, 2, 0, 3], np.int8), 2 * N_USERS)
    time = START + np.arange(len(user)) * STEP
    numbers = np.arange(N_ITEMS)
    catalogue = pa.table(
        {
            "item": [f"i{n}" for n in numbers],
            "title": [f"Thing {n}" for n in numbers],
            "category": [f"shop/c{n % 6}" for n in numbers],
            "brand": [f"b{n % 5}" for n in numbers],
            "seller": [f"s{n % 4}" for n in numbers],
            "price": pa.array([None if n % 10 == 7 else float(n) for n in numbers], pa.float64()),
            "margin": [n % 10 / 10 for n in numbers],
            "in_stock": [n % 20 != 19 for n in numbers],
        }
    )
    return Shop(
        Events(user, item, interaction, time, session),
        Vocabulary([f"i{n}" for n in numbers]),
        Vocabulary([f"u{n}" for n in range(N_USERS)]),
        catalogue,
    )


def publish(to: Path, shop: Shop, *names: str) -> str:
    """Train systems, write them as a release and make it live; returns its name."""
    parts = {}
    for name in names or ("co-occurrence",):
        folder = to.parent / f"{to.name}-models" / name
        if not folder.exists():
            models.create(name).fit(shop).save(folder)
        parts[name] = Part(folder)
    written = write_release(to, shop, parts)
    activate(to, written.name)
    return written.name


class Ranking:
    """A model that ranks items by fixed scores, whatever it is asked, and keeps to `allowed`.

    `named` is its system's name; `fallback_from`: from this place on it says that it has fallen back.
    """

    def __init__(self, scores: NDArray[np.float32], named: str = "ranking", fallback_from: int | None = None) -> None:
        self.scores, self.named, self.fallback_from = scores, named, fallback_from
        self.asked: list[Request] = []

    def candidates(self, request: Request) -> Candidates:
        self.asked.append(request)
        order = np.lexsort((np.arange(len(self.scores)), -self.scores)).astype(np.int32)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        if request.allowed is not None:
            assert len(request.allowed) == len(self.scores)
            order = order[request.allowed[order]]
        order = order[: request.k]
        late = len(order) if self.fallback_from is None else self.fallback_from
        source = [self.named if rank[item] < late else f"{self.named}/popularity" for item in order.tolist()]
        return Candidates(
            order, self.scores[order], source if self.fallback_from is not None else [self.named] * len(order)
        )


def with_models(serving: Serving, surface: Surface | None = None, **named: Ranking) -> Serving:
    """The same release with other models, and with `surface` as "test"."""
    loaded = {name: Loaded(model, len(model.scores)) for name, model in named.items()}
    surfaces = {**DEFAULT_SURFACES, **({} if surface is None else {"test": surface})}
    return Serving(serving.release, loaded, surfaces, serving.catalogue)
