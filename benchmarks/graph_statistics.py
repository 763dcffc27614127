"""What co-purchase graphs of public files look like, against the figures that are known of them.

    python benchmarks/graph_statistics.py --data DIR [--json FILE]

DIR holds walmart-trips and amazon-grocery-relations; what is missing is marked as not run. Local clustering is the mean
over items with two partners or more for Walmart, and over all items with a partner for Grocery, as in the references.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_array

from _baskets import basket_file
from _report import Row, arguments, report
from endcap.graph import baskets_of, co_purchase, graph_of, statistics

COMMAND = "python benchmarks/graph_statistics.py --data DIR"
WALMART = {2: (19_389, 92_253, 0.550, 0.029), 3: (7_805, 28_429, 0.679, 0.029)}  # by least baskets of a pair
GROCERY = {"complement": (None, 199_576, 0.364, 0.193), "substitute": (None, 90_946, 0.442, 0.318)}


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    if given.data is None:
        raise SystemExit("--data DIR: name the folder of the data sets")
    walmart = given.data / "walmart-trips" / "hyperedges-walmart-trips.txt"
    grocery = given.data / "amazon-grocery-relations" / "relations.parquet"
    rows = []
    for least, known in WALMART.items():
        graph = _walmart(walmart, least) if walmart.exists() else None
        rows += _rows(f"Walmart trips, pairs of {least} baskets or more", graph, known, every=False)
    for relation, known in GROCERY.items():
        graph = _grocery(grocery, relation) if grocery.exists() else None
        rows += _rows(f"Grocery, {relation} links", graph, known, every=True)
    report("graph_statistics", "Walmart trips, Amazon Grocery relations", rows, given.json, quick=given.quick)


def _walmart(path: Path, least: int) -> csr_array:
    shop = basket_file(path)
    baskets = baskets_of(shop, largest=0)
    return co_purchase(baskets, shop.n_items, min_support=least, min_together=least, per_item=shop.n_items).counts


def _grocery(path: Path, relation: str) -> csr_array:
    table = pq.read_table(path)
    kept = table["relation"].to_numpy() == relation
    one, other = table["item_id"].to_numpy()[kept], table["related_id"].to_numpy()[kept]
    n = int(max(one.max(), other.max())) + 1
    return graph_of(np.append(one, other), np.append(other, one), shape=(n, n))


def _rows(what: str, graph: csr_array | None, known: tuple[int | None, int, float, float], *, every: bool) -> list[Row]:
    """Nodes, edges, local clustering and transitivity beside what is known."""
    names = ("items", "pairs", "local clustering", "transitivity")
    if graph is None:
        return [Row(what=f"{what}: {name}", command=COMMAND) for name in names]
    found = statistics(graph)
    local = found.local_clustering_of_all if every else found.local_clustering
    ours = (found.nodes, found.edges, round(local, 3), round(found.transitivity, 3))
    return [
        Row(
            what=f"{what}: {name}", ours=value, reference=wanted, target=wanted,
            met=None if wanted is None else bool(abs(value - wanted) < 0.0011), command=COMMAND,
        )
        for name, value, wanted in zip(names, ours, known, strict=True)
    ]  # fmt: skip


if __name__ == "__main__":
    main()
