"""Messages along the edges of a graph: weighted sums of neighbours' vectors, and their gradients.

Row i of an `Adjacency` lists whom node i hears. A list of all messages (edges x d) is never made on a CPU: a numba loop
walks the rows, threads share them, and the gradient walks the rows of the transpose. On other devices the same sums are
made by torch's own gather and scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor


class Adjacency:
    """Who hears whom: (n_rows, n_columns) in CSR form, with its transpose; edges are numbered in order of their rows.

    Attributes:
        weights: (edges,) float32, those of the graph it was made from; layers may use others.
        order: (edges,) the number of each edge of the transpose.
    """

    def __init__(self, graph: csr_array) -> None:
        """
        Raises:
            ValueError: if a weight is not finite.
        """
        if not np.isfinite(graph.data).all():
            raise ValueError("a graph's weights must be finite")
        self.shape: tuple[int, int] = graph.shape
        self.offsets = graph.indptr.astype(np.int64)
        self.columns = graph.indices.astype(np.int32)
        self.weights = torch.from_numpy(graph.data.astype(np.float32))
        transposed = csr_array(
            (np.arange(graph.nnz, dtype=np.int64), graph.indices, graph.indptr), graph.shape
        ).T.tocsr()
        self.order = transposed.data
        self.back_offsets = transposed.indptr.astype(np.int64)
        self.back_columns = transposed.indices.astype(np.int32)
        self._on: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def rows(self) -> NDArray[np.int64]:
        """(edges,) the node that hears."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.offsets))

    def ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(edges,) rows and columns as tensors, for devices that numba does not reach."""
        if device not in self._on:
            self._on[device] = torch.from_numpy(self.rows).to(device), torch.from_numpy(self.columns).long().to(device)
        return self._on[device]

    def shares(self, weights: Tensor | None = None) -> Tensor:
        """(edges,) weights divided by the sum of their row; 0 in rows that sum to 0."""
        given = self.weights if weights is None else weights
        rows = torch.from_numpy(self.rows).to(given.device)
        total = torch.zeros(self.shape[0], device=given.device).index_add_(0, rows, given)
        return given / total.clamp_min(1e-12)[rows]


def spread(graph: Adjacency, weights: Tensor, vectors: Tensor) -> Tensor:
    """out[i] = sum over edges e = (i, j) of weights[e] * vectors[j], head by head.

    Args:
        weights: (edges,) or (edges, heads), with or without a gradient; vectors: (n_columns, d), the heads' columns
            side by side.

    Returns:
        (n_rows, d); rows without edges are 0.
    """
    by_head = weights[:, None] if weights.ndim == 1 else weights
    if vectors.device.type == "cpu":
        return _Spread.apply(graph, by_head, vectors)
    return _gathered_sum(graph, by_head, vectors)


def strongest(graph: Adjacency, vectors: Tensor) -> Tensor:
    """out[i] = the largest of each entry among the neighbours' vectors (n_columns, d); 0 in rows without edges."""
    return _Strongest.apply(graph, vectors) if vectors.device.type == "cpu" else _gathered_most(graph, vectors)


def softmax_of_rows(graph: Adjacency, logits: Tensor) -> Tensor:
    """(edges, heads) logits -> weights that sum to 1 over the edges of each row, head by head."""
    return _SoftmaxOfRows.apply(graph, logits) if logits.device.type == "cpu" else _gathered_softmax(graph, logits)


def _gathered_sum(graph: Adjacency, weights: Tensor, vectors: Tensor) -> Tensor:
    rows, columns = graph.ends(vectors.device)
    split = vectors.unflatten(1, (weights.shape[1], -1))
    out = torch.zeros(graph.shape[0], *split.shape[1:], device=vectors.device)
    return out.index_add(0, rows, weights[:, :, None] * split[columns]).flatten(1)


def _gathered_most(graph: Adjacency, vectors: Tensor) -> Tensor:
    rows, columns = graph.ends(vectors.device)
    index = rows[:, None].expand(-1, vectors.shape[1])
    out = torch.zeros(graph.shape[0], vectors.shape[1], device=vectors.device)
    return out.scatter_reduce(0, index, vectors[columns], "amax", include_self=False)


def _gathered_softmax(graph: Adjacency, logits: Tensor) -> Tensor:
    rows, _ = graph.ends(logits.device)
    index = rows[:, None].expand_as(logits)
    shape = (graph.shape[0], logits.shape[1])
    top = torch.full(shape, -torch.inf, device=logits.device).scatter_reduce(0, index, logits, "amax")
    grown = (logits - top[rows]).exp()
    return grown / torch.zeros(shape, device=logits.device).index_add(0, rows, grown)[rows]


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Adjacency, weights: Tensor, vectors: Tensor) -> Tensor:
        ctx.graph = graph
        ctx.save_for_backward(weights, vectors)
        out = vectors.new_empty(graph.shape[0], vectors.shape[1])
        _by_rows(_spread, graph.offsets, graph.columns, _array(weights), _array(vectors), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        graph: Adjacency = ctx.graph
        weights, vectors = ctx.saved_tensors
        upstream = _array(gradient)
        to_weights = to_vectors = None
        if ctx.needs_input_grad[1]:
            to_weights = torch.empty_like(weights)
            _by_rows(_products, graph.offsets, graph.columns, upstream, _array(vectors), to_weights.numpy())
        if ctx.needs_input_grad[2]:
            to_vectors = torch.empty_like(vectors)
            turned = _array(weights)[graph.order]
            _by_rows(_spread, graph.back_offsets, graph.back_columns, turned, upstream, to_vectors.numpy())
        return None, to_weights, to_vectors


class _Strongest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Adjacency, vectors: Tensor) -> Tensor:
        out = vectors.new_zeros(graph.shape[0], vectors.shape[1])
        giver = np.full(out.shape, -1, np.int32)
        _by_rows(_strongest, graph.offsets, graph.columns, _array(vectors), out.numpy(), giver)
        ctx.giver, ctx.shape = giver, vectors.shape
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        to_vectors = gradient.new_zeros(ctx.shape)
        _give_back(ctx.giver, _array(gradient), to_vectors.numpy())
        return None, to_vectors


class _SoftmaxOfRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, graph: Adjacency, logits: Tensor) -> Tensor:
        weights = torch.empty_like(logits)
        _by_rows(_softmax, graph.offsets, _array(logits), weights.numpy())
        ctx.graph = graph
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (weights,) = ctx.saved_tensors
        to_logits = torch.empty_like(weights)
        _by_rows(_softmax_back, ctx.graph.offsets, _array(weights), _array(gradient), to_logits.numpy())
        return None, to_logits


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().contiguous().numpy()


def _by_rows(kernel: Callable[..., None], offsets: NDArray[np.int64], *arrays: NDArray[Any]) -> None:
    """Run a kernel on as many threads as torch has, on stretches of rows with as many edges each."""
    n_rows, threads = len(offsets) - 1, torch.get_num_threads()
    if threads <= 1 or n_rows < 2 * threads:
        kernel(offsets, *arrays, 0, n_rows)
        return
    cuts = np.searchsorted(offsets, np.linspace(0, offsets[-1], threads + 1)[1:-1])
    bounds = np.unique([0, *cuts.tolist(), n_rows]).tolist()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda first, last: kernel(offsets, *arrays, first, last), bounds[:-1], bounds[1:]))


@numba.njit(nogil=True, cache=True, fastmath=True)
def _spread(offsets, columns, weights, vectors, out, first, last):  # type: ignore[no-untyped-def]
    heads = weights.shape[1]
    width = vectors.shape[1] // heads
    for i in range(first, last):
        for h in range(heads):
            to = out[i, h * width : (h + 1) * width]
            to[:] = 0.0
            for e in range(offsets[i], offsets[i + 1]):
                weight = weights[e, h]
                giver = vectors[columns[e], h * width : (h + 1) * width]
                for c in range(width):
                    to[c] += weight * giver[c]


@numba.njit(nogil=True, cache=True, fastmath=True)
def _products(offsets, columns, left, right, out, first, last):  # type: ignore[no-untyped-def]
    """out[e, h] = left[i] . right[j], head by head."""
    heads = out.shape[1]
    width = left.shape[1] // heads
    for i in range(first, last):
        for h in range(heads):
            own = left[i, h * width : (h + 1) * width]
            for e in range(offsets[i], offsets[i + 1]):
                other = right[columns[e], h * width : (h + 1) * width]
                total = np.float32(0.0)
                for c in range(width):
                    total += own[c] * other[c]
                out[e, h] = total


@numba.njit(nogil=True, cache=True)
def _strongest(offsets, columns, vectors, out, giver, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        for e in range(offsets[i], offsets[i + 1]):
            j = columns[e]
            for c in range(out.shape[1]):
                if giver[i, c] < 0 or vectors[j, c] > out[i, c]:
                    out[i, c] = vectors[j, c]
                    giver[i, c] = j


@numba.njit(nogil=True, cache=True)
def _give_back(giver, gradient, out):  # type: ignore[no-untyped-def]
    for i in range(giver.shape[0]):
        for c in range(giver.shape[1]):
            if giver[i, c] >= 0:
                out[giver[i, c], c] += gradient[i, c]


@numba.njit(nogil=True, cache=True)
def _softmax(offsets, logits, weights, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        for h in range(logits.shape[1]):
            top = np.float32(-np.inf)
            for e in range(offsets[i], offsets[i + 1]):
                top = max(top, logits[e, h])
            total = np.float32(0.0)
            for e in range(offsets[i], offsets[i + 1]):
                weights[e, h] = np.exp(logits[e, h] - top)
                total += weights[e, h]
            for e in range(offsets[i], offsets[i + 1]):
                weights[e, h] /= total


@numba.njit(nogil=True, cache=True)
def _softmax_back(offsets, weights, gradient, out, first, last):  # type: ignore[no-untyped-def]
    for i in range(first, last):
        for h in range(weights.shape[1]):
            mean = np.float32(0.0)
            for e in range(offsets[i], offsets[i + 1]):
                mean += weights[e, h] * gradient[e, h]
            for e in range(offsets[i], offsets[i + 1]):
                out[e, h] = weights[e, h] * (gradient[e, h] - mean)
