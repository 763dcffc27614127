"""A large shop with planted clusters, and releases of it: real classes throughout, with little or no training.

CoActionGraphRec learns from a few hundred people. The vectors of item-interaction embeddings are planted where a
training would have put them: items of a category near each other, categories of a department nearer than
others, each interaction a little off, and a spectrum that falls as that of trained vectors does.
Graph cross-sell is trained for one pass on planted baskets: who buys an item has compared it with others of its
category, and takes two from categories that go with it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from endcap import models
from endcap.answers import Items
from endcap.artefact import MANIFEST, new_artefact, read_manifest
from endcap.graph.sessions import TypedSessions
from endcap.jobs.publish import publish
from endcap.models import Model
from endcap.models.item_interaction import Effort, ItemInteraction, Tables
from endcap.release import releases
from endcap.shop import Events, Interactions, Shop, Vocabulary

KINDS = ("click", "cart", "purchase")
SHARES = (0.75, 0.17, 0.08)  # of the events
DIM, DEPARTMENTS, CATEGORIES, BRANDS = 128, 20, 400, 100
HISTORY, PER_SESSION = 50, 10
ITEMS_PER_USER = 5
START, STEP = 1_790_000_000_000_000, 1_000_000  # microseconds
COMPLETE = "complete"
BASKETS_PER_ITEM, LEARNT_FROM, BATCH = 2, 1_000, 1 << 16
GO_TOGETHER = (7, 31, 101)  # category c goes with c + each of these
PARTNERS, RIVALS = 5, 4  # of an item in each such category, and in its own
PEOPLE, INTERESTS = 400, 4  # who CoActionGraphRec learns from: answers cost the same however well it has learnt
RELEASES = 3  # so many in turn: none that is switched to is still open


class Planted(NamedTuple):
    """What the benchmark knows of its shop: item n is called `i<n>`, user n `u<n>`, brand n `b<n>`.

    Attributes:
        category, brand: (n_items,); popularity: (n_items,) share of the events; n_users: all with 50 events.
    """

    category: NDArray[np.int64]
    brand: NDArray[np.int64]
    popularity: NDArray[np.float64]
    n_users: int

    @property
    def n_items(self) -> int:
        return len(self.category)

    def path(self, category: int) -> str:
        """A category as it stands in the catalogue."""
        return f"d{category % DEPARTMENTS}/c{category}"


def plant(n_items: int, seed: int = 0) -> Planted:
    """Categories of unequal size; 100 brands with 1 % of the items each, whatever the category; Zipf's popularity."""
    rng = np.random.default_rng([seed, 1])
    size = rng.permutation(1 / (np.arange(CATEGORIES) + 20.0))
    category = np.sort(rng.choice(CATEGORIES, n_items, p=size / size.sum()))
    popularity = rng.permutation(1 / (np.arange(n_items) + 50.0) ** 0.8)
    return Planted(
        category, rng.permutation(n_items) % BRANDS, popularity / popularity.sum(), max(1, n_items // ITEMS_PER_USER)
    )


def make_shop(planted: Planted, seed: int = 0) -> Shop:
    """Users with 50 events each in three categories of theirs; every pair of item and interaction occurs."""
    rng, n_items, n_users = np.random.default_rng([seed, 2]), planted.n_items, planted.n_users
    n_events = n_users * HISTORY
    first = np.searchsorted(planted.category, np.arange(CATEGORIES + 1))
    liked = planted.category[rng.integers(0, n_items, (n_users, 3))]
    chosen = np.repeat(liked, -(-HISTORY // 3), axis=1)[:, :HISTORY].ravel()
    item = first[chosen] + (rng.random(n_events) * (first[chosen + 1] - first[chosen])).astype(np.int64)
    interaction = rng.choice(len(KINDS), n_events, p=SHARES)
    pairs = rng.permutation(n_events)[: n_items * len(KINDS)]
    item[pairs], interaction[pairs] = np.tile(np.arange(n_items), len(KINDS)), np.repeat(np.arange(len(KINDS)), n_items)
    numbers = np.arange(n_items)
    catalogue = pa.table(
        {
            "item": [f"i{number}" for number in numbers],
            "title": [f"Thing number {number}" for number in numbers],
            "category": [planted.path(category) for category in planted.category],
            "brand": [f"b{brand}" for brand in planted.brand],
            "seller": [f"s{number % 997}" for number in numbers],
            "price": np.round(rng.lognormal(3, 1, n_items), 2),
            "in_stock": rng.random(n_items) < 0.98,
        }
    )
    return Shop(
        Events(
            np.repeat(np.arange(n_users, dtype=np.int32), HISTORY),
            item.astype(np.int32),
            interaction.astype(np.int8),
            START + np.arange(n_events, dtype=np.int64) * STEP,
            (np.arange(n_events) // PER_SESSION).astype(np.int32),
        ),
        Vocabulary([f"i{number}" for number in numbers]),
        Vocabulary([f"u{number}" for number in range(n_users)]),
        catalogue,
        Interactions(KINDS),
    )


class PlantedInteraction(ItemInteraction):
    """Item-interaction embeddings whose vectors are planted instead of trained."""

    def __init__(self, planted: Planted, **settings: Any) -> None:
        super().__init__(**settings)
        self._planted = planted

    def _train(self, corpus: TypedSessions, group_of: Items, effort: Effort, stage: str) -> Tables:
        rng = np.random.default_rng([effort.seed, 3])
        spread = 1 / np.sqrt(np.arange(1, DIM + 1))
        spread *= np.sqrt(DIM) / np.linalg.norm(spread)

        def some(n: int) -> NDArray[np.float32]:
            """(n, d) of length about 1, most of it in the first directions."""
            return (rng.standard_normal((n, DIM), dtype=np.float32) * spread / np.sqrt(DIM)).astype(np.float32)

        department = some(DEPARTMENTS)[np.arange(CATEGORIES) % DEPARTMENTS]
        category = department + some(CATEGORIES)
        turned = some(CATEGORIES * len(KINDS)).reshape(CATEGORIES, len(KINDS), DIM)
        own = some(self._planted.n_items)
        of, kind = self._planted.category[corpus.thing], corpus.kind
        meaning = category[of] + 0.5 * turned[of, kind] + own[corpus.thing]
        return Tables(meaning + 0.5 * some(len(of)), meaning + 0.5 * some(len(of)))


def make_baskets(planted: Planted, seed: int = 0) -> Events:
    """Sessions of seven: an item is looked at, compared with two of its category, bought, and two that go with it."""
    rng, n_items = np.random.default_rng([seed, 5]), planted.n_items
    n = BASKETS_PER_ITEM * n_items
    anchor = np.append(np.arange(n_items), rng.choice(n_items, n - n_items, p=planted.popularity))
    first = np.searchsorted(planted.category, np.arange(CATEGORIES + 1))
    size = np.maximum(np.diff(first), 1)
    own = planted.category[anchor]

    def near(category: NDArray[np.int64], step: NDArray[np.int64]) -> NDArray[np.int64]:
        """An item of each category, always the same for the same anchor and step."""
        return first[category] + (anchor * 7919 + step) % size[category]

    rivals = [first[own] + (anchor - first[own] + rng.integers(1, RIVALS + 1, n)) % size[own] for _ in range(2)]
    goes = [near((own + rng.choice(GO_TOGETHER, n)) % CATEGORIES, rng.integers(0, PARTNERS, n)) for _ in range(2)]
    items = np.stack([anchor, rivals[0], anchor, rivals[1], anchor, *goes], axis=1).ravel()
    kinds = np.tile(np.array([0, 0, 0, 0, 2, 2, 2], np.int8), n)
    session = np.repeat(np.arange(n, dtype=np.int32), 7)
    order = rng.permutation(n)  # so that an item's baskets are spread over the time
    user = np.repeat(rng.integers(0, planted.n_users, n).astype(np.int32)[order], 7)
    shuffled = items.reshape(n, 7)[order].ravel().astype(np.int32)
    return Events(user, shuffled, kinds, START + np.arange(7 * n, dtype=np.int64) * STEP // 2, session)


Learn = Callable[[Planted, Shop, int], Model]


def plant_interaction(planted: Planted, shop: Shop, seed: int) -> Model:
    """Item-interaction embeddings with planted vectors."""
    settings: dict[str, Any] = {"dim": DIM, "scorer": "in_out_cos", "session_filter": "none", "targets": "typed"}
    return PlantedInteraction(planted, **settings, sellers=False).fit(shop, seed=seed)


def learn_interests(planted: Planted, shop: Shop, seed: int) -> Model:
    """CoActionGraphRec with its default settings, after one pass over the actions of a few people.

    It knows all items, by what is written about them.
    """
    few = replace(shop, events=shop.events.where(shop.events.user < PEOPLE))
    settings = {"interests": INTERESTS, "longest": HISTORY, "epochs": 1, "id_embedding": "no", "device": "cpu"}
    return models.create("coaction-graph", settings).fit(few, seed=seed, show=True)


def learn_cross_sell(planted: Planted, shop: Shop, seed: int) -> Model:
    """Graph cross-sell after one pass over planted baskets.

    It scores by evidence, which costs a request most, and is what the default settings choose on these baskets.
    """
    baskets = replace(shop, events=make_baskets(planted, seed))
    settings = {"epochs": 1, "batch_size": BATCH, "score_by": "evidence", "evidence_baskets": LEARNT_FROM}
    return models.create("cross-sell", {**settings, "device": "cpu"}).fit(baskets, seed=seed, show=True)


def releases_of(planted: Planted, folder: Path, learn: Learn, seed: int = 0) -> list[str]:
    """Names of the releases in `folder/releases`, equal in all else; they are made if this folder has none."""
    to = folder / "releases"
    if not (folder / COMPLETE).exists():
        shutil.rmtree(folder, ignore_errors=True)
        begun = time.perf_counter()
        shop = make_shop(planted, seed)
        learn(planted, shop, seed).save(folder / "model")
        report = publish([folder / "model"], shop, to, index="hnsw", threads=os.cpu_count() or 1)
        for copy in range(1, RELEASES):
            _twin(to, str(report.release), f"{str(report.release)[:-6]}{copy:06x}")
        (folder / COMPLETE).write_text(f"{time.perf_counter() - begun:.0f} s\n", encoding="utf-8")
    print(f"{RELEASES} releases of {planted.n_items:,} items, made in {(folder / COMPLETE).read_text().strip()}")
    return sorted(info.name for info in releases(to))


def _twin(to: Path, name: str, twin: str) -> None:
    """The same release under another name; its files are links."""
    manifest = read_manifest(to / name, kind="release")
    rest = {key: value for key, value in manifest.items() if key not in ("seal", "files")}
    with new_artefact(to / twin, {**rest, "name": twin}) as building:
        shutil.copytree(to / name, building, copy_function=_link, dirs_exist_ok=True)
        (building / MANIFEST).unlink()


def _link(source: str, target: str) -> str:
    os.link(source, target)
    return target
