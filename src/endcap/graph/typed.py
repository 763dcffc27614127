"""The typed graph of a shop: products, users, categories, brands and occasions, and what links them.

Whatever the log cannot feed is left out, with the reason, and so is what is not asked for: networks run on any subset.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.artefact import save_array
from endcap.errors import DamagedArtefact, InputError
from endcap.graph.baskets import LARGEST, baskets_of
from endcap.graph.copurchase import CoPurchase, Weighting, co_purchase, weigh
from endcap.graph.edges import check_number, graph_of, open_graph, save_graph, top_edges
from endcap.graph.features import (
    Nodes,
    ProductFeatures,
    brand_features,
    category_features,
    occasion_features,
    user_features,
)
from endcap.graph.occasions import LEAST_WEEKS, find_occasions, week_of_year
from endcap.index import mapped
from endcap.shop import Shop
from endcap.shop.purchases import Purchases, purchases_of, strongest

NodeType = Literal["product", "user", "category", "brand", "occasion"]
NODE_TYPES: tuple[NodeType, ...] = get_args(NodeType)
DAY = 86_400_000_000  # microseconds
REVERSED = "reversed "  # begins the name of a relation that is another one turned round


class Relation(NamedTuple):
    """What a set of edges says: source type, name, target type."""

    source: str
    name: str
    target: str


PURCHASES = Relation("user", "purchases", "product")
BROWSES = Relation("user", "browses", "product")
BELONGS_TO = Relation("product", "belongs to", "category")
PART_OF = Relation("category", "part of", "category")
MADE_BY = Relation("product", "made by", "brand")
CO_PURCHASED = Relation("product", "co-purchased", "product")
FOLLOWED_BY = Relation("product", "followed by", "product")
ASSOCIATED = Relation("product", "associated with", "occasion")


@dataclass(frozen=True, eq=False)
class TypedGraph:
    """Nodes by type and edges by relation, as known at `trained_until`.

    Attributes:
        nodes: features of the nodes of each type; relations: float32 (sources, targets), weights above 0;
        trained_until: microseconds; absent: what was asked for and the log cannot feed, and why.
    """

    nodes: Mapping[str, Nodes]
    relations: Mapping[Relation, csr_array]
    trained_until: int
    absent: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for relation, graph in self.relations.items():
            wanted = tuple(len(self.nodes[kind]) if kind in self.nodes else None for kind in (relation[0], relation[2]))
            if graph.shape != wanted:
                raise InputError(f"relation {' '.join(relation)}: {graph.shape} edges between {wanted} nodes")

    def counts(self) -> dict[str, int]:
        """Nodes of each type."""
        return {kind: len(nodes) for kind, nodes in self.nodes.items()}

    def only(self, types: Collection[str] | None = None, relations: Collection[str] | None = None) -> TypedGraph:
        """The part with these types of nodes and these names of relations: a step of an ablation.

        Raises:
            InputError: for a type or a relation that the graph does not have.
        """
        kept = set(self.nodes if types is None else types)
        named = {relation.name for relation in self.relations} if relations is None else set(relations)
        for unknown in (kept - set(self.nodes), named - {relation.name for relation in self.relations}):
            if unknown:
                raise InputError(f"the graph has no {min(unknown)!r}; {self._say()}")
        return replace(
            self,
            nodes={kind: nodes for kind, nodes in self.nodes.items() if kind in kept},
            relations={
                relation: graph
                for relation, graph in self.relations.items()
                if relation.name in named and {relation.source, relation.target} <= kept
            },
        )

    def both_ways(self) -> TypedGraph:
        """The graph with every relation turned round, too, but those that are symmetric."""
        turned = {
            Relation(relation.target, REVERSED + relation.name, relation.source): csr_array(graph.T.tocsr())
            for relation, graph in self.relations.items()
            if relation.source != relation.target or (graph != graph.T).nnz
        }
        return replace(self, relations={**self.relations, **turned})

    def write(self, folder: Path) -> None:
        """Put features and edges into a folder that is being made; the rest is for its manifest, see `about`."""
        for kind, nodes in self.nodes.items():
            save_array(folder / f"nodes-{kind}.npy", nodes.features)
        for number, graph in enumerate(self.relations.values()):
            save_graph(folder, f"relation-{number}", graph)

    def about(self) -> dict[str, Any]:
        """What a manifest says of the graph."""
        return {
            "trained_until": self.trained_until,
            "absent": dict(self.absent),
            "nodes": [
                {"type": kind, "count": len(nodes), "groups": dict(nodes.groups), "names": list(nodes.names)}
                for kind, nodes in self.nodes.items()
            ],
            "relations": [list(relation) for relation in self.relations],
        }

    @classmethod
    def read(cls, folder: Path, about: Mapping[str, Any]) -> TypedGraph:
        """What `write` and `about` kept, memory-mapped.

        Raises:
            DamagedArtefact: if a file is missing, cut short, or not as the manifest says.
        """
        nodes = {}
        for kept in about["nodes"]:
            try:
                features = mapped(folder / f"nodes-{kept['type']}.npy")
            except (OSError, ValueError, EOFError) as error:
                raise DamagedArtefact(
                    f"{folder}: features of {kept['type']} unreadable ({error}); write it again"
                ) from None
            if features.ndim != 2 or len(features) != kept["count"]:
                raise DamagedArtefact(f"{folder}: features of {kept['type']} do not fit; write it again")
            groups = {name: (int(first), int(last)) for name, (first, last) in kept["groups"].items()}
            nodes[kept["type"]] = Nodes(features, groups, kept["names"])
        relations = {
            Relation(*names): open_graph(folder, f"relation-{n}", (len(nodes[names[0]]), len(nodes[names[2]])))
            for n, names in enumerate(about["relations"])
        }
        return cls(nodes, relations, about["trained_until"], about["absent"])

    def _say(self) -> str:
        names = dict.fromkeys(relation.name for relation in self.relations)
        return f"there are {', '.join(self.nodes)}; {', '.join(names) or 'no relations'}"


def typed_graph(
    shop: Shop,
    *,
    types: Collection[str] = NODE_TYPES,
    bought: CoPurchase | None = None,
    weight: Weighting = "damped",
    k: int = 100,
    window_days: float = 30,
    half_life_days: float = 60,
    occasions: int = 16,
    seed: int = 0,
    threads: int = 1,
) -> TypedGraph:
    """Everything a view of a shop says, at its last event.

    Weights: of purchases and browsing the sum of exp(-ln 2 age / half-life), of co-purchases those of
    `endcap.graph.weigh`, of successors their occasions, of occasions their share of a product's; of the others 1.

    Args:
        types: of nodes; products are always among them.
        bought: counts that were made already; made here otherwise, with pairs of `window_days` for successors.
        k: co-purchases and successors kept of each product.

    Raises:
        InputError: for a type that there is not, or a number out of its range.
    """
    if unknown := set(types) - set(NODE_TYPES):
        raise InputError(f"no node type {min(unknown)!r}; there are {', '.join(NODE_TYPES)}")
    check_number("occasions", occasions, 1)
    purchases = purchases_of(shop)
    until = int(shop.events.time.max()) + 1 if len(shop.events) else shop.start
    products = ProductFeatures(shop.catalogue, purchases, until)
    nodes: dict[str, Nodes] = {"product": products.known}
    relations: dict[Relation, csr_array] = {}
    absent: dict[str, str] = {}
    if bought is None:
        baskets = baskets_of(shop, largest=LARGEST)
        bought = co_purchase(
            baskets, shop.n_items, window_days=window_days, half_life_days=half_life_days, threads=threads
        )  # fmt: skip
    if bought.n_items != shop.n_items:
        raise InputError(f"co-purchases of {bought.n_items:,} products, the shop has {shop.n_items:,}")
    relations[CO_PURCHASED] = top_edges(_positive(weigh(bought, weight)), k)
    if (bought.counts != bought.together).nnz:
        relations[FOLLOWED_BY] = top_edges(_positive(bought.forward), k)
    if not relations[CO_PURCHASED].nnz:
        absent[CO_PURCHASED.name] = "no two products were bought together"
        del relations[CO_PURCHASED]
    for kind, (found, edges) in _kinds(shop, products, purchases, until, half_life_days, occasions, seed, set(types)):
        if isinstance(found, str):
            absent[kind] = found
        else:
            nodes[kind] = found
            relations |= edges
    return TypedGraph(nodes, relations, until, absent)


Found = tuple[Nodes | str, dict[Relation, csr_array]]


def _kinds(
    shop: Shop,
    products: ProductFeatures,
    bought: Purchases,
    until: int,
    half_life_days: float,
    occasions: int,
    seed: int,
    types: set[str],
) -> Iterator[tuple[str, Found]]:
    """The nodes of each type that is asked for with their relations, or why there are none."""
    if "user" in types:
        yield "user", _users(shop, products, bought, until, half_life_days)
    if "category" in types:
        yield "category", _categories(products, bought)
    if "brand" in types:
        yield "brand", _brands(products, bought)
    if "occasion" in types:
        yield "occasion", _occasions(products, bought, occasions, seed)


def _users(shop: Shop, products: ProductFeatures, bought: Purchases, until: int, half_life_days: float) -> Found:
    if not len(shop.positives):
        return "nobody did anything", {}
    edges = {PURCHASES: _recent(bought.user, bought.item, bought.time, shop, until, half_life_days)}
    weaker = shop.positives.where(shop.positives.interaction != strongest(shop))
    if len(weaker):
        edges[BROWSES] = _recent(weaker.user, weaker.item, weaker.time, shop, until, half_life_days)
    return user_features(bought, shop.n_users, products, until), edges


def _recent(
    user: NDArray[np.integer], item: NDArray[np.integer], time: NDArray[np.int64], shop: Shop, until: int, days: float
) -> csr_array:
    """(n_users, n_items): how often and how recently."""
    worth = np.maximum(np.exp2(-(until - time) / (days * DAY)), np.float32(1e-6))
    n = max(shop.n_items, 1)
    pairs, place = np.unique(user.astype(np.int64) * n + item, return_inverse=True)
    total = np.bincount(place, worth, len(pairs)).astype(np.float64)
    return graph_of(
        pairs // n, pairs % n, total, shape=(shop.n_users, shop.n_items), loops=True
    )  # fmt: skip


def _categories(products: ProductFeatures, bought: Purchases) -> Found:
    tree, n = products.tree, len(products.log_price)
    if not len(tree):
        return "no product has a category", {}
    held = np.flatnonzero(tree.leaf >= 0)
    edges = {BELONGS_TO: graph_of(held, tree.leaf[held], shape=(n, len(tree)), loops=True)}
    below = np.flatnonzero(tree.parent >= 0)
    if len(below):
        edges[PART_OF] = graph_of(below, tree.parent[below], shape=(len(tree), len(tree)))
    return category_features(bought, products), edges


def _brands(products: ProductFeatures, bought: Purchases) -> Found:
    if not products.brands:
        return "no product has a brand", {}
    held = np.flatnonzero(products.brand >= 0)
    shape = (len(products.brand), len(products.brands))
    return brand_features(bought, products), {MADE_BY: graph_of(held, products.brand[held], shape=shape, loops=True)}


def _occasions(products: ProductFeatures, bought: Purchases, occasions: int, seed: int) -> Found:
    weeks = len(np.unique(week_of_year(bought.time)))
    if weeks < LEAST_WEEKS:
        return f"the purchases cover {weeks} weeks of the year, occasions need {LEAST_WEEKS}", {}
    found = find_occasions(bought.item, bought.time, len(products.log_price), k=occasions, seed=seed)
    return occasion_features(found.items, found.weeks, bought, products), {ASSOCIATED: found.items}


def _positive(graph: csr_array) -> csr_array:
    """Without what goes one way only, turned round, and what PMI says is rarer than by chance."""
    if (graph.data > 0).all():
        return graph
    graph = graph.copy()
    graph.data[graph.data <= 0] = 0
    graph.eliminate_zeros()
    return graph
