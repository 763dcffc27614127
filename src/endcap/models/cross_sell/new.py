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
it until it shows otherwise, and what nobody wanted for a year is not. Nobody chose against it before it came: until
then it is no negative, and in the graph it is taken to be as large as it would have grown. Its first partners are those
of a few baskets, and chance: as long as it came lately, its vectors lean on what a new product like it would have.
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

from endcap.errors import DamagedArtefact, InputError
from endcap.graph import Baskets, with_catalogue
from endcap.graph.catalogue import SHARE
from endcap.models.cross_sell.hiding import DAY, HidingGraph, counts_of, worth_of
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.models.cross_sell.towers import Towers
from endcap.models.item_features import FeatureReader
from endcap.nn.items import ItemFeatures
from endcap.nn.propagate import Adjacency
from endcap.shop import Shop

FEW = 5  # baskets up to which a product has no row of its own
TRUSTED = 45.0  # baskets over which all but 1/e of the trust in what a product is like is lost
LATELY = 2.0  # times what was bought that is foreseen of what arrived lately
BELIEF = 2.0  # baskets that the word of what is like a product is worth
ARRIVED = 7 * DAY  # added to the time since an arrival, which lies before the first sale
SAID = ("title", "category", "brand", "price")  # of a catalogue, what likeness is read off
WEIGHTS = "network.safetensors"
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


def share_of_time(shop: Shop, half_life_days: float = np.inf) -> NDArray[np.float64]:
    """(n_items,) the share of the log's time since each arrived, was first seen or launched; older time counts less."""
    if shop.item_known_from is None or len(shop.events) == 0:
        return np.ones(shop.n_items)
    first, last = int(shop.events.time.min()), int(shop.events.time.max())
    since = np.clip(shop.item_known_from[: shop.n_items], first, last)
    there, all_of_it = (last - since + ARRIVED) / DAY, (last - first + ARRIVED) / DAY
    if np.isinf(half_life_days):
        return there / all_of_it
    return np.expm1(-np.log(2) * there / half_life_days) / np.expm1(-np.log(2) * all_of_it / half_life_days)


def expected(bought: NDArray[np.number], time: NDArray[np.float64], like: csr_array) -> NDArray[np.float64]:
    """(n,) the baskets that each would come to in all of the log's time; see the module's docstring.

    Args:
        time: (n,) see `share_of_time`; like: (n, n) catalogue links, of those that few have bought.
    """
    known = bought > 0
    if not known.any():
        return np.ones(len(bought))
    own = np.log(np.where(known, bought, time) / time)
    weight = like @ known.astype(np.float64)
    usual = np.where(known, own, np.median(own[known]))
    alike = np.divide(like @ own, weight, out=usual, where=weight > 0)
    return (bought + BELIEF) / (time + BELIEF / np.exp(alike))


def lift_of(shop: Shop, baskets: Baskets, half_life_days: float, like: csr_array) -> NDArray[np.float64]:
    """(n_items,) how many times more each would weigh in the graph, had it been there all the time."""
    worth = np.repeat(worth_of(baskets.time, half_life_days), baskets.sizes)
    weighs = np.bincount(baskets.items, worth, shop.n_items)
    ever = expected(weighs, share_of_time(shop, half_life_days), like)
    return np.divide(ever, weighs, out=np.ones(shop.n_items), where=weighs > 0)


def trust_in_likeness(baskets: NDArray[np.number], like: csr_array) -> Floats:
    """(m,) how far products of so many baskets are taken for new ones that are like (m, n) others."""
    return np.where(np.diff(like.indptr) > 0, np.exp(-baskets / TRUSTED), 0).astype(np.float32)


def arrived_lately(
    bought: NDArray[np.integer], foreseen: NDArray[np.floating], time: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """(n,) of which so much more is foreseen than was bought that they cannot have been there for long.

    Args:
        time: see `share_of_time`; of what is seldom bought beside popular things like it more is always foreseen.
    """
    return (foreseen > LATELY * np.maximum(bought, 1)) & ((bought == 0) | (time < 1 / LATELY))


def filled(offset: Floats, bought: NDArray[np.integer], foreseen: NDArray[np.floating]) -> Floats:
    """(n,) offsets; those of what nobody bought lie on the line that the others make with the baskets foreseen."""
    known = bought > 0
    if len(np.unique(foreseen[known])) < 2:
        return offset
    slope, begin = np.polyfit(np.log(foreseen[known]), offset[known], 1)
    return np.where(known, offset, begin + slope * np.log(foreseen)).astype(np.float32)


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

    def embed(
        self,
        features: ItemFeatures,
        bought_with: csr_array,
        like: csr_array,
        lift: NDArray[np.floating],
        baskets: NDArray[np.number],
    ) -> tuple[Floats, Floats]:
        """What products (m,) ask with and answer with, (m, d) each; zeros where nothing is known of one.

        Args:
            bought_with, like: (m, n) their links to known items, as the graph has them; lift: (m,) see `HidingGraph`;
            baskets: (m,) that hold each: the fewer, the more it is taken for what it would be without any.
        """
        found = self._with(features, bought_with, like, lift)
        if bought_with.nnz == 0:
            return found
        share = trust_in_likeness(baskets, like)[:, None]
        bare = self._with(replace(features, id=None), csr_array(like.shape, dtype=np.float32), like, lift)
        source, target = ((1 - share) * own + share * new for own, new in zip(found, bare, strict=True))
        return source, target

    @torch.inference_mode()
    def _with(
        self, features: ItemFeatures, bought_with: csr_array, like: csr_array, lift: NDArray[np.floating]
    ) -> tuple[Floats, Floats]:
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
            shares = torch.from_numpy(counts_of(links.data, own, given, quiet, extra, power, lift[rows]))
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
        return cls(towers.eval(), arrays["hops"], arrays["total"], arrays["quiet"], float(arrays["weight"][0]))


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
