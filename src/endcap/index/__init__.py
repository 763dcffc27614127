"""Nearest neighbours by inner product: exact and HNSW behind `answers.Searcher`, stored memory-mapped."""

from endcap.index.choice import EXACT_BELOW, Index, Kind, build, open_index, recall
from endcap.index.exact import Exact, mapped
from endcap.index.hnsw import Hnsw

__all__ = ["EXACT_BELOW", "Exact", "Hnsw", "Index", "Kind", "build", "mapped", "open_index", "recall"]
