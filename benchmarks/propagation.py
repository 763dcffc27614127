"""Messages along the edges of a large graph: our weighted sums beside scipy's, torch's and torch-geometric's.

    python benchmarks/propagation.py [--json FILE] [--quick]

A random graph of 100,000 nodes and about five million edges, degrees of a power law; vectors of 64 and 128 numbers. One
thread; CPU-seconds of one product, the least of three. The gradient is that of the vectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch_geometric import EdgeIndex

from _report import Row, arguments, report
from endcap.nn.propagate import Adjacency, spread

NODES, EDGES, DIMS = 100_000, 5_000_000, (64, 128)
COMMAND = "python benchmarks/propagation.py"


def random_graph(nodes: int, edges: int) -> csr_array:
    """Symmetric, without a node that hears itself."""
    rng = np.random.default_rng(0)
    often = rng.zipf(1.6, nodes).clip(1, 2_000).astype(float)
    ends = rng.choice(nodes, (2, edges // 2), p=often / often.sum())
    ends = ends[:, ends[0] != ends[1]]
    graph = coo_array((np.ones(ends.shape[1], np.float32), tuple(ends)), (nodes, nodes)).tocsr()
    return csr_array((graph + graph.T).astype(np.float32))


def seconds(work: Callable[[], object]) -> float:
    """CPU-seconds, the least of three after one that does not count."""
    work()
    taken = []
    for _ in range(3):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return min(taken)


def rows_of(graph: csr_array, dim: int) -> list[Row]:
    """Ours, forth and back, beside each of the others."""
    adjacency = Adjacency(graph)
    shares = adjacency.shares()
    vectors = torch.randn(graph.shape[0], dim, generator=torch.Generator().manual_seed(0))
    normal = csr_array((shares.numpy(), graph.indices, graph.indptr), graph.shape)
    offsets, columns = (torch.from_numpy(array.astype(np.int64)) for array in (graph.indptr, graph.indices))
    sparse = torch.sparse_csr_tensor(offsets, columns, shares, graph.shape)
    ends = torch.stack([torch.from_numpy(adjacency.rows), columns])
    edge_index = EdgeIndex(ends, sparse_size=graph.shape, sort_order="row")
    others: dict[str, Callable[[], object]] = {
        "scipy": lambda: normal @ vectors.numpy(),
        "torch, sparse CSR": lambda: sparse @ vectors,
        "torch-geometric, EdgeIndex": lambda: edge_index.matmul(vectors, shares),
    }
    ours = seconds(lambda: spread(adjacency, shares, vectors))
    given = vectors.clone().requires_grad_()
    both = seconds(lambda: spread(adjacency, shares, given).sum().backward())
    found = [
        Row(what=f"d={dim}: {name}, times ours", ours=round(seconds(work) / ours, 2), target=">= 1", command=COMMAND)
        for name, work in others.items()
    ]
    for row in found:
        row.met = isinstance(row.ours, float) and row.ours >= 1
    return [
        Row(what=f"d={dim}: ours, CPU-s of a product", ours=round(ours, 3), command=COMMAND),
        Row(what=f"d={dim}: ours with the gradient, CPU-s", ours=round(both, 3), command=COMMAND),
        *found,
    ]


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    torch.set_num_threads(1)
    graph = random_graph(10_000, 200_000) if given.quick else random_graph(NODES, EDGES)
    rows = [row for dim in DIMS for row in rows_of(graph, dim)]
    report("propagation", f"{graph.shape[0]:,} nodes, {graph.nnz:,} edges", rows, given.json, quick=given.quick)


if __name__ == "__main__":
    main()
