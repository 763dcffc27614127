"""Products that nobody has bought yet, or few: what graph cross-sell makes of them (B2 and B6 of the notes).

    0 baskets       features and catalogue links: what is said of it, and what is like it
    1 to 5 baskets  inductive, with catalogue links: that, and what it was bought with; it has no row of its own
    from 6 on       standard: catalogue links fade, its own row speaks

A product that comes after training is embedded by the stored network from its catalogue row and its neighbours, layer
by layer beside the vectors that those had in training; no other vector changes. One that was there, but in no basket,
is made in the same way, so the two are of one kind.

What the source leaves open and is chosen here: how much such a product will be bought. Its baskets are set against the
time that it has been there, and against what is like it: n^ = (n + k) / (t + k / n_like), t the share of the log's time
since it arrived, n_like what products like it come to in all of that time. So what came last week is worth what is like
it until it shows otherwise, and what nobody wanted for a year is not. Its offset is moved by as much as offsets go with
log n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save
from scipy.sparse import csr_array

from endcap.answers import Items
from endcap.errors import DamagedArtefact, InputError
from endcap.graph import Baskets, with_catalogue
from endcap.graph.catalogue import SHARE
from endcap.models.cross_sell_choice import Ranked
from endcap.models.cross_sell_settings import CrossSellConfig
from endcap.models.cross_sell_towers import Towers
from endcap.models.hiding import DAY, HidingGraph, counts_of
from endcap.models.item_features import FeatureReader
from endcap.nn.items import ItemFeatures
from endcap.nn.propagate import Adjacency
from endcap.shop import Shop

FEW = 5  # baskets up to which a product has no row of its own
BELIEF = 2.0  # baskets that the word of what is like a product is worth
ARRIVED = 7 * DAY  # added to the time since an arrival, which lies before the first sale
SAID = ("title", "category", "brand", "price")  # of a catalogue, what likeness is read off
WEIGHTS = "network.safetensors"
SIDE_BY_SIDE = 200  # places of two lists
OF_KNOWN_ITEMS = ("embedding.id.weight", "offset")  # weights that no new product has

Floats = NDArray[np.float32]
Strategy = Literal["features and catalogue links", "inductive, with catalogue links", "standard"]


def strategy(baskets: int) -> Strategy:
    """How a product of so many baskets is placed."""
    if baskets <= 0:
        return "features and catalogue links"
    return "inductive, with catalogue links" if baskets <= FEW else "standard"


def without_few(features: ItemFeatures, bought: NDArray[np.integer]) -> ItemFeatures:
    """The features, without the own row of what few have bought, where something else is known of it."""
    if features.id is None:
        return features
    return replace(features, id=np.where((bought <= FEW) & features.described, -1, features.id))


def share_of_time(shop: Shop) -> NDArray[np.float64]:
    """(n_items,) the share of the log's time since each arrived: was first seen, or launched."""
    if shop.item_known_from is None or len(shop.events) == 0:
        return np.ones(shop.n_items)
    first, last = int(shop.events.time.min()), int(shop.events.time.max())
    since = np.clip(shop.item_known_from[: shop.n_items], first, last)
    return (last - since + ARRIVED) / (last - first + ARRIVED)


def expected(bought: NDArray[np.integer], time: NDArray[np.float64], like: csr_array) -> NDArray[np.float64]:
    """(n,) the baskets that each would come to in all of the log's time; see the module's docstring.

    Args:
        time: (n,) see `share_of_time`; like: (n, n) catalogue links, of those that few have bought.
    """
    known = bought > 0
    if not known.any():
        return np.ones(len(bought))
    own = np.where(known, np.log(np.maximum(bought, 1) / time), 0)
    weight = like @ known.astype(np.float64)
    usual = np.where(known, own, np.median(own[known]))
    alike = np.divide(like @ own, weight, out=usual, where=weight > 0)
    return (bought + BELIEF) / (time + BELIEF / np.exp(alike))


def moved(offset: Floats, bought: NDArray[np.integer], foreseen: NDArray[np.floating]) -> Floats:
    """(n,) offsets as they would be had each come to the baskets foreseen: on the line that offsets make with log n."""
    known = bought > 0
    if len(np.unique(bought[known])) < 2:
        return offset
    slope, begin = np.polyfit(np.log(bought[known]), offset[known], 1)
    by_line = begin + slope * np.log(foreseen)
    return np.where(known, offset + slope * np.log(foreseen / np.maximum(bought, 1)), by_line).astype(np.float32)


class Arrivals(NamedTuple):
    """What it takes to embed products that came after training.

    Attributes:
        towers: the trained network; hops: (layers, n, d) vectors of known items before each layer;
        total, quiet: (n,) of their graph, see `HidingGraph`; weight: of a link to a product of likeness 1.
    """

    towers: Towers
    hops: Floats
    total: NDArray[np.floating]
    quiet: Floats
    weight: float

    @classmethod
    def of(cls, towers: Towers) -> Self:
        """From trained towers and the graph that they hold."""
        graph = towers.graph
        with torch.no_grad():
            hops = [step.cpu().numpy() for step in towers.steps(graph.mass)[: towers.config.layers]]
        empty = np.empty((0, graph.n_items, towers.config.dim), np.float32)
        made = graph.counted.decayed.data
        weight = SHARE * float(np.median(made)) if len(made) else SHARE
        return cls(towers, np.stack(hops) if hops else empty, graph.total(graph.mass), graph.quiet, weight)

    @torch.inference_mode()
    def embed(self, features: ItemFeatures, bought_with: csr_array, like: csr_array) -> tuple[Floats, Floats]:
        """What products (m,) ask with and answer with, (m, d) each; zeros where nothing is known of one.

        Args:
            bought_with, like: (m, n) their links to known items, as the graph has them.
        """
        towers, m = self.towers, len(features)
        links = with_catalogue(bought_with, like)
        rows = np.repeat(np.arange(m), np.diff(links.indptr))
        around, place = np.unique(links.indices, return_inverse=True)
        near = Adjacency(csr_array((links.data, place, links.indptr), shape=(m, len(around))))
        if towers.config.encoder == "pinsage":
            shares = near.shares()
        else:
            given, quiet = self.total[links.indices], self.quiet[links.indices]
            own = np.maximum(np.bincount(rows, links.data * quiet, m), 1e-12)[rows]
            extra = np.flatnonzero(~np.isin(_keys(links), _keys(bought_with)))
            power = towers.config.power if towers.config.encoder == "hops" else 0.0
            shares = torch.from_numpy(counts_of(links.data, own, given, quiet, extra, power))
        read = towers.embedding.sizes.parts or features.id is not None
        steps = [towers.embedding(features, np.arange(m)) if read else torch.zeros(m, towers.config.dim)]
        for layer, table in enumerate(self.hops):
            heard = torch.from_numpy(np.ascontiguousarray(table[around]))
            steps.append(towers.convolved(layer, towers.dropped(steps[-1]), heard, near, shares))
        known = (features.described | (np.diff(links.indptr) > 0))[:, None]
        source, target = (np.where(known, part.numpy(), np.float32(0)) for part in towers.heads(towers.joined(steps)))
        return source, target

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name."""
        return {"hops": self.hops, "total": self.total, "quiet": self.quiet, "weight": np.array([self.weight])}

    def write(self, folder: Path) -> None:
        """Store the network, but for the rows of known items."""
        state = {
            name: value.contiguous().numpy()
            for name, value in self.towers.state_dict().items()
            if name not in OF_KNOWN_ITEMS
        }
        (folder / WEIGHTS).write_bytes(save(state))

    @classmethod
    def restored(
        cls, config: CrossSellConfig, reader: FeatureReader, arrays: Mapping[str, NDArray[Any]], folder: Path
    ) -> Self:
        """What `arrays` and `write` gave; its towers know no items, and their graph no links."""
        nothing = HidingGraph(Baskets.of_lists([]), 0, config, 1)
        towers = Towers(config, ItemFeatures(0), replace(reader.sizes, id=0), nothing)
        weights = {name: torch.tensor(value) for name, value in load_file(folder / WEIGHTS).items()}
        try:
            towers.load_state_dict({**weights, "offset": torch.zeros(0)})
        except RuntimeError as error:
            raise DamagedArtefact(f"{folder / WEIGHTS}: not the weights of this model ({error}); train again") from None
        parts = (arrays[name] for name in ("hops", "total", "quiet"))
        return cls(towers.eval(), *parts, float(arrays["weight"][0]))


class Placed:
    """Evidence of baskets says nothing of what few have bought: the network says where in its lists those stand.

    The best of both are set side by side for each question: what the network would give place r is worth what the
    evidence gives its own place r.
    """

    def __init__(self, ranked: Ranked, network: Ranked, few: NDArray[np.bool_]) -> None:
        """
        Args:
            few: (n_items,) what the network places.
        """
        self._ranked, self._network, self._few = ranked, network, few
        self._scale: tuple[Items, Floats, Floats] | None = None  # of the last question: asked, scores of both lists

    def score(self, asked: Items, items: Items) -> Floats:
        """See `PairScorer`."""
        found, few = self._ranked.score(asked, items), self._few[items]
        if few.any():
            found = found.copy()
            found[few] = self._worth(asked, self._network.score(asked, items[few]))
        return found

    def nearest(self, asked: Items, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """See `PairScorer`."""
        found = self._ranked.nearest(asked, k, allowed)
        near = self._network.nearest(asked, SIDE_BY_SIDE, allowed)
        near = near[self._few[near]]
        if len(near) == 0:
            return found
        items = np.concatenate([found[~self._few[found]], near])
        return items[np.argsort(-self.score(asked, items), kind="stable")][:k]

    def _worth(self, asked: Items, scores: Floats) -> Floats:
        """(n,) scores of the network as the evidence would give them; below its list as far as they are there."""
        if self._scale is None or not np.array_equal(self._scale[0], asked):
            lists = [
                ranked.score(asked, ranked.nearest(asked, SIDE_BY_SIDE)) for ranked in (self._network, self._ranked)
            ]
            n = min(map(len, lists))
            self._scale = asked, lists[0][:n][::-1], lists[1][:n][::-1]
        _, theirs, ours = self._scale
        if len(ours) == 0:
            return scores
        return (np.interp(scores, theirs, ours) - np.maximum(theirs[0] - scores, 0)).astype(np.float32)


def said_of(catalogue: pa.Table) -> pa.Table:
    """The columns of a catalogue that likeness is read off."""
    return catalogue.select([name for name in SAID if name in catalogue.column_names])


def checked(neighbours: csr_array | None, m: int, n: int) -> csr_array:
    """Links (m, n) of new products to known ones; none where none are given.

    Raises:
        InputError: for links of another shape, or weights that are not above 0.
    """
    if neighbours is None:
        return csr_array((m, n), dtype=np.float32)
    if neighbours.shape != (m, n):
        raise InputError(f"neighbours: {neighbours.shape}; {(m, n)} is needed: products by known items")
    found = csr_array(neighbours, dtype=np.float32)
    if not (np.isfinite(found.data) & (found.data > 0)).all():
        raise InputError("neighbours: weights must be numbers above 0; leave out what is no neighbour")
    found.sum_duplicates()
    return found


def _keys(links: csr_array) -> NDArray[np.int64]:
    return np.repeat(np.arange(links.shape[0]), np.diff(links.indptr)) * links.shape[1] + links.indices
