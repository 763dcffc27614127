"""Structure read off the log: typed sessions, baskets and what is bought together, walks, seasons, the typed graph."""

from endcap.graph.baskets import Baskets, baskets_of
from endcap.graph.catalogue import catalogue_edges, with_catalogue
from endcap.graph.copurchase import WEIGHTINGS, CoPurchase, co_purchase, weigh
from endcap.graph.edges import graph_of, quiet_hubs, top_edges
from endcap.graph.seasons import seasonal
from endcap.graph.sessions import TypedSessions, typed_sessions
from endcap.graph.statistics import communities, describe_graph, statistics
from endcap.graph.typed import TypedGraph, typed_graph
from endcap.graph.walks import PageRank, important_neighbours, neighbourhood, random_walks, sample_edges

__all__ = [
    "WEIGHTINGS",
    "Baskets",
    "CoPurchase",
    "PageRank",
    "TypedGraph",
    "TypedSessions",
    "baskets_of",
    "catalogue_edges",
    "co_purchase",
    "communities",
    "describe_graph",
    "graph_of",
    "important_neighbours",
    "neighbourhood",
    "quiet_hubs",
    "random_walks",
    "sample_edges",
    "seasonal",
    "statistics",
    "top_edges",
    "typed_graph",
    "typed_sessions",
    "weigh",
    "with_catalogue",
]
