"""The typed graph of a shop as graph cross-sell learns on it: which edges a step's baskets made, and the network (B2).

    Schlichtkrull et al., ESWC '18 (one map a relation), with a gate for each:
    h'_v = ReLU(W_self,type h_v + sum_r gamma_r W_r sum_u w_vu h_u), gamma a softmax over the relations that v hears.

Products hear what they were bought with, who bought them and who looked at them, their category and brand, the
occasions they are bought for, and what was bought after and before them. All of these but category and brand come from
baskets, so a step's baskets leave all of them, exactly:

- A user's purchases are sums over baskets, and so are successors; what a step asks for is subtracted.
- What a user looked at within a day of a basket leaves with it: the visit that ends in a basket names its products.
- A product's occasions are those of the weeks of its baskets; how the weeks make occasions is learnt once, from all.
- Users have no features but how much is left of what they did: frequency, recency and tastes would name the basket.
- Products have none that count sales, since two that were last sold at one moment were one basket. Those of categories,
  brands and occasions count many products' sales and are left as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from torch import Tensor, nn
from torch.nn import functional

from endcap.graph import Baskets, baskets_of, co_purchase, top_edges, typed_graph
from endcap.graph.occasions import find_occasions, week_of_year
from endcap.graph.typed import ASSOCIATED, BROWSES, CO_PURCHASED, FOLLOWED_BY, PURCHASES, REVERSED, Relation
from endcap.models.cross_sell.hiding import DAY, HidingGraph, keys_of, later_baskets, less, worth_of
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.nn.graph_layers import RelationsLayer
from endcap.nn.propagate import Adjacency
from endcap.shop import Shop
from endcap.shop.purchases import purchases_of, strongest

OCCASIONS = 16
PER_USER = 200  # products that a user is known by, of either kind
FOLLOWING = 5  # later baskets of the same user that a basket's products are followed by, at most

log = logging.getLogger("endcap.models")


class Links:
    """Edges of one relation that baskets make: the sum over b of left_b x right_b; and some that no basket makes.

    Attributes:
        adjacency: (sources, targets); mass: (edges,) float32.
    """

    def __init__(self, left: csr_array, right: csr_array, fixed: csr_array | None = None, *, most: int) -> None:
        """
        Args:
            left: (baskets, sources); right: (baskets, targets); fixed: (sources, targets); most: edges of a source.
        """
        self._left, self._right = left, right
        made = self.made(np.arange(left.shape[0]))
        self._keep(made if fixed is None else made + fixed, most)

    def _keep(self, graph: csr_array, most: int) -> None:
        graph = csr_array(graph, dtype=np.float32)
        graph.sum_duplicates()
        self.adjacency = Adjacency(top_edges(graph, most))
        self.mass = self.adjacency.weights.numpy()
        self._keys = keys_of(self.adjacency)

    def made(self, baskets: NDArray[np.int64]) -> csr_array:
        """(sources, targets) what these baskets add."""
        return (self._left[baskets].T @ self._right[baskets]).tocsr()

    def without(self, baskets: NDArray[np.int64]) -> NDArray[np.float32]:
        """(edges,) the mass that stays when these baskets are taken out."""
        return less(self.mass, self._keys, self.made(baskets))


class Successors(Links):
    """i -> j if the same user bought j in one of the next baskets after i, within a window; .5 each in one basket.

    A pair of baskets is worth what the later one is.
    """

    def __init__(self, baskets: Baskets, n_items: int, *, window_days: float, half_life_days: float, most: int) -> None:
        self._contents, worth = baskets.matrix(n_items), worth_of(baskets.time, half_life_days)
        self._same = 0.5 * worth
        row, column = later_baskets(baskets, FOLLOWING, window_days)
        self._after = csr_array((worth[column], (row, column)), shape=(len(baskets), len(baskets)))
        self._before = self._after.T.tocsr()
        every = self._contents
        self._keep(_off_diagonal(every.T @ self._after @ every + every.T @ diags_array(self._same) @ every), most)

    def made(self, baskets: NDArray[np.int64]) -> csr_array:
        held, every = self._contents[baskets], self._contents
        onwards, back = self._after[baskets], self._before[baskets].T
        among = onwards[:, baskets]
        found = held.T @ (onwards @ every) + (every.T @ back) @ held - held.T @ among @ held
        return _off_diagonal(found + held.T @ diags_array(self._same[baskets]) @ held)


def _off_diagonal(graph: csr_array) -> csr_array:
    found = graph.tocoo()
    other = found.row != found.col
    return csr_array((found.data[other], (found.row[other], found.col[other])), shape=graph.shape)


class Common(NamedTuple):
    """What the typed graphs of one training have in common, whichever baskets they are made of.

    Attributes:
        baskets: all of them; nodes: type -> (n, d) features of categories, brands and occasions;
        fixed: relations that no basket makes; bought, looked_at: (users, products) that no basket makes, either None
        where there is none; visits: (baskets, products) what was looked at within a day of each;
        occasion: (baskets, occasions) of each basket's week; directed: whether there are successors;
        absent: what was asked for and the log cannot feed, and why.
    """

    baskets: Baskets
    n_items: int
    n_users: int
    config: CrossSellConfig
    nodes: dict[str, NDArray[np.float32]]
    fixed: dict[Relation, csr_array]
    bought: csr_array | None
    looked_at: csr_array | None
    visits: csr_array | None
    occasion: csr_array | None
    directed: bool
    absent: dict[str, str]

    @classmethod
    def of(cls, shop: Shop, baskets: Baskets, config: CrossSellConfig, *, seed: int, threads: int) -> Self:
        """From a view of a shop. Baskets of users from `shop.n_users` on are somebody's word and no user's."""
        n, wanted = shop.n_items, config.typed
        nothing = co_purchase(Baskets.of_lists([]), n)  # what baskets make is made of the lesson's, see TypedHiding
        described = sorted(wanted & {"category", "brand", "occasion"})
        graph = typed_graph(shop, types=described, bought=nothing, occasions=OCCASIONS, seed=seed, threads=threads)
        nodes = {kind: graph.nodes[kind].features for kind in graph.nodes if kind != "product"}
        fixed = {relation: edges for relation, edges in graph.relations.items() if relation != ASSOCIATED}
        absent = {kind: why for kind, why in graph.absent.items() if kind in wanted}
        bought = looked_at = visits = occasion = None
        real = baskets.user < shop.n_users
        if "user" in wanted:
            bought = _of_single_baskets(shop, config)
            if not real.any() and not bought.nnz:
                absent["user"], bought = "nobody bought anything in the log itself", None
        if config.browses and bought is not None:
            looked_at, visits = _visits(shop, baskets, config)
            if not looked_at.nnz and not visits.nnz:
                absent["browse"], looked_at, visits = "the log has purchases alone", None, None
        if "occasion" in nodes:
            of_sale = purchases_of(shop)
            weeks = find_occasions(of_sale.item, of_sale.time, n, k=OCCASIONS, seed=seed).weeks
            share = weeks / np.maximum(weeks.sum(axis=0), 1e-12)
            occasion = csr_array(share.T[week_of_year(baskets.time)] * real[:, None])
        directed = config.directed and bool((real[1:] & (baskets.user[1:] == baskets.user[:-1])).any())
        if config.directed and not directed:
            absent["directed"] = "no user has two baskets"
        for what, why in absent.items():
            log.warning("cross-sell: the typed graph is without %s: %s", what, why)
        edges = (fixed, bought, looked_at, visits, occasion, directed)
        return cls(baskets, n, shop.n_users, config, nodes, *edges, absent)

    def graph(self, kept: NDArray[np.bool_], threads: int) -> TypedHiding:
        """The graph that some baskets (b,) make."""
        return TypedHiding(self, kept, threads)


def _of_single_baskets(shop: Shop, config: CrossSellConfig) -> csr_array:
    """(users, products) bought alone: nothing is asked about such baskets."""
    single = baskets_of(shop, largest=1)
    shape = (shop.n_users, shop.n_items)
    return csr_array((worth_of(single.time, config.half_life_days), (single.user, single.items)), shape=shape)


def _visits(shop: Shop, baskets: Baskets, config: CrossSellConfig) -> tuple[csr_array, csr_array]:
    """(users, products) that were looked at away from all baskets; (baskets, products) within a day of one."""
    weaker = shop.positives.where(shop.positives.interaction != strongest(shop))
    worth = worth_of(weaker.time, config.half_life_days)
    owner = nearest_basket(weaker.user, weaker.time, baskets)
    free = owner < 0
    alone = csr_array((worth[free], (weaker.user[free], weaker.item[free])), shape=(shop.n_users, shop.n_items))
    ends = (owner[~free], weaker.item[~free])
    return alone, csr_array((worth[~free], ends), shape=(len(baskets), shop.n_items))


def nearest_basket(user: NDArray[np.int32], time: NDArray[np.int64], baskets: Baskets) -> NDArray[np.int64]:
    """(m,) the basket of the same user that is nearest in time, at most a day away; -1 where there is none."""
    if len(baskets) == 0 or len(user) == 0:
        return np.full(len(user), -1, np.int64)
    first = min(int(time.min()), int(baskets.time.min()))
    span = (max(int(time.max()), int(baskets.time.max())) - first) // 1_000_000 + 1
    keys = baskets.user.astype(np.int64) * span + (baskets.time - first) // 1_000_000
    place = np.searchsorted(keys, user.astype(np.int64) * span + (time - first) // 1_000_000)
    both = np.stack([np.maximum(place - 1, 0), np.minimum(place, len(baskets) - 1)])
    away = np.where(baskets.user[both] == user, np.abs(baskets.time[both] - time), np.iinfo(np.int64).max)
    best = away.argmin(axis=0)
    row = np.arange(len(user))
    return np.where(away[best, row] <= DAY, both[best, row], -1)


class Message(NamedTuple):
    """What nodes of type `target` hear through one relation: graph (targets, sources), shares (edges,) of it."""

    name: str
    target: str
    source: str
    graph: Adjacency
    shares: Tensor


class Way(NamedTuple):
    """A relation read one way: graph (targets, sources), and the number that each of its edges has in the relation."""

    name: str
    target: str
    source: str
    relation: Relation
    graph: Adjacency
    order: NDArray[np.int64]


def _both_ways(graphs: Mapping[Relation, Adjacency]) -> Iterator[Way]:
    for relation, graph in graphs.items():
        source, name, target = relation
        ones = np.ones(len(graph), np.float32)
        turned = csr_array((ones, graph.back_columns, graph.back_offsets), shape=graph.shape[::-1])
        yield Way(name, target, source, relation, Adjacency(turned), graph.order)
        yield Way(REVERSED + name, source, target, relation, graph, np.arange(len(graph)))


class TypedHiding(HidingGraph):
    """The typed graph that some baskets make. Its mass is that of the links of products, then of each relation.

    Attributes:
        counts: type -> number of nodes; nodes: type -> features (n, d), products and users have none here;
        made: the relations that baskets make, beside the links.
    """

    def __init__(self, common: Common, kept: NDArray[np.bool_], threads: int) -> None:
        baskets, config = common.baskets.where(kept), common.config
        super().__init__(baskets, common.n_items, config, threads)
        self.n_links = len(self.adjacency)
        self.nodes = common.nodes
        self.counts = {"product": common.n_items, **{kind: len(rows) for kind, rows in common.nodes.items()}}
        self.made: dict[Relation, Links] = {}
        worth = worth_of(baskets.time, config.half_life_days)
        contents = baskets.matrix(common.n_items)
        if common.bought is not None:
            self.counts["user"] = common.n_users
            buyer = _of_user(baskets, worth, common.n_users)
            self.made[PURCHASES] = Links(buyer, contents, common.bought, most=PER_USER)
        if common.visits is not None:
            visitor = _of_user(baskets, np.ones(len(baskets), np.float32), common.n_users)
            self.made[BROWSES] = Links(visitor, common.visits[kept], common.looked_at, most=PER_USER)
        if common.occasion is not None:
            self.made[ASSOCIATED] = Links(contents, common.occasion[kept], most=OCCASIONS)
        if common.directed:
            self.made[FOLLOWED_BY] = Successors(
                baskets, common.n_items, window_days=config.window_days, half_life_days=config.half_life_days,
                most=config.links,
            )  # fmt: skip
        fixed = {relation: Adjacency(edges) for relation, edges in common.fixed.items()}
        self._weights = {relation: graph.weights.numpy() for relation, graph in fixed.items()}
        self._ways = list(_both_ways({**{relation: links.adjacency for relation, links in self.made.items()}, **fixed}))
        self.mass = np.concatenate([self.mass, *(links.mass for links in self.made.values())])

    def without(self, baskets: NDArray[np.int64]) -> NDArray[np.float32]:
        """The mass that stays when these baskets are taken out."""
        linked = super().without(baskets)[: self.n_links]
        return np.concatenate([linked, *(links.without(baskets) for links in self.made.values())])

    def masses(self, mass: NDArray[np.float32]) -> dict[Relation, NDArray[np.float32]]:
        """The part of each relation, that of co-purchases first."""
        ends = np.cumsum([self.n_links, *(len(links.mass) for links in self.made.values())])
        return dict(zip([CO_PURCHASED, *self.made], np.split(mass, ends[:-1]), strict=True))

    def messages(self, mass: NDArray[np.float32]) -> Iterator[Message]:
        """Every relation, both ways: targets hear the mean of their sources by mass, hubs made quiet."""
        parts = {**self.masses(mass), **self._weights}
        linked = self.shares(parts[CO_PURCHASED], 0.0)
        yield Message(CO_PURCHASED.name, "product", "product", self.adjacency, linked)
        for way in self._ways:
            heard = parts[way.relation][way.order]
            if way.source == "product":
                heard = heard * self.quiet[way.graph.columns]
            yield Message(way.name, way.target, way.source, way.graph, way.graph.shares(torch.from_numpy(heard)))

    def done(self, mass: NDArray[np.float32]) -> NDArray[np.float32]:
        """(users,) the logarithm of what is left of what each did."""
        parts = self.masses(mass)
        total = np.zeros(self.counts["user"], np.float32)
        for relation in (PURCHASES, BROWSES):
            if relation in parts:
                total += np.bincount(self.made[relation].adjacency.rows, parts[relation], len(total))
        return np.log1p(total, dtype=np.float32)


def _of_user(baskets: Baskets, worth: NDArray[np.float32], n_users: int) -> csr_array:
    """(baskets, users) the worth of each basket, at its user; nothing for what is nobody's."""
    real = np.flatnonzero(baskets.user < n_users)
    return csr_array((worth[real], (real, baskets.user[real])), shape=(len(baskets), n_users))


class TypedEncoder(nn.Module):
    """Products' vectors after each layer, from those of all types before."""

    def __init__(self, graph: TypedHiding, dim: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        widths = {kind: features.shape[1] for kind, features in graph.nodes.items()}
        widths |= {"user": 1} if "user" in graph.counts else {}
        self.inputs = nn.ModuleDict({kind: nn.Linear(width, dim) for kind, width in widths.items()})
        heard: dict[str, list[str]] = {kind: [] for kind in graph.counts}
        for message in graph.messages(graph.mass):
            heard[message.target].append(message.name)
        self.layers = nn.ModuleList()
        for place in range(layers):
            kinds = heard if place < layers - 1 else ["product"]  # of the last layer nobody asks for the others
            self.layers.append(nn.ModuleDict({kind: RelationsLayer(dim, dim, tuple(heard[kind])) for kind in kinds}))

    def forward(self, products: Tensor, graph: TypedHiding, mass: NDArray[np.float32]) -> list[Tensor]:
        """(n, d) before the first layer and after each."""
        known = {kind: torch.from_numpy(np.asarray(features)) for kind, features in graph.nodes.items()}
        if "user" in graph.counts:
            known["user"] = torch.from_numpy(graph.done(mass)[:, None])
        vectors = {kind: self.inputs[kind](rows.to(products.device)) for kind, rows in known.items()}
        vectors["product"] = products
        messages = [message._replace(shares=message.shares.to(products.device)) for message in graph.messages(mass)]
        steps = [products]
        for layer in self.layers:
            vectors = {kind: self.dropout(rows) for kind, rows in vectors.items()}
            vectors = {kind: self._heard(module, kind, vectors, messages) for kind, module in layer.items()}
            steps.append(vectors["product"])
        return steps

    @staticmethod
    def _heard(layer: nn.Module, kind: str, vectors: dict[str, Tensor], messages: list[Message]) -> Tensor:
        mine = {message.name: message for message in messages if message.target == kind}
        found = layer(
            vectors[kind],
            {name: vectors[message.source] for name, message in mine.items()},
            {name: message.graph for name, message in mine.items()},
            {name: message.shares for name, message in mine.items()},
        )
        return functional.normalize(functional.relu(found), dim=1)

    def gates(self) -> dict[str, dict[str, float]]:
        """How much each relation counts for each type, layer by layer: gamma, which add up to 1."""
        return {
            f"layer {place + 1}, {kind}": module.gates()
            for place, layer in enumerate(self.layers)
            for kind, module in layer.items()
        }
