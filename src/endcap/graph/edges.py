"""Any graph: a square float32 `scipy.sparse.csr_array`, row i holding what i is linked to, columns ascending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.artefact import save_array
from endcap.errors import DamagedArtefact, InputError
from endcap.index import mapped
from endcap.kernels.strongest import strongest_of_rows

HUB_QUANTILE = 0.999


def graph_of(
    source: NDArray[np.integer],
    target: NDArray[np.integer],
    weight: NDArray[np.floating] | None = None,
    *,
    shape: tuple[int, int],
    loops: bool = False,
) -> csr_array:
    """A graph from a list of edges: of duplicates the heaviest, no edge from a node to itself unless `loops`.

    Raises:
        InputError: for nodes outside the shape, or weights that are no finite numbers.
    """
    source, target = np.asarray(source, np.int64), np.asarray(target, np.int64)
    weight = np.ones(len(source), np.float32) if weight is None else np.asarray(weight, np.float32)
    if not len(source) == len(target) == len(weight):
        raise InputError(f"edges: {len(source)} sources, {len(target)} targets and {len(weight)} weights")
    for what, ends, n in (("sources", source, shape[0]), ("targets", target, shape[1])):
        if len(ends) and not 0 <= ends.min() <= ends.max() < n:
            raise InputError(f"edges: {what} must be in 0 .. {n - 1}, not {ends.min()} .. {ends.max()}")
    if not np.isfinite(weight).all():
        raise InputError("edges: every weight must be a finite number")
    if not loops:
        proper = source != target
        source, target, weight = source[proper], target[proper], weight[proper]
    order = np.lexsort((-weight, target, source))
    source, target, weight = source[order], target[order], weight[order]
    first = np.ones(len(order), bool)
    first[1:] = (source[1:] != source[:-1]) | (target[1:] != target[:-1])
    indptr = np.searchsorted(source[first], np.arange(shape[0] + 1))
    return csr_array((weight[first], target[first].astype(np.int32), indptr.astype(np.int32)), shape=shape)


def top_edges(graph: csr_array, k: int) -> csr_array:
    """The k strongest edges of each row, ties by the lower number.

    Raises:
        InputError: if k is below 1.
    """
    check_number("k", k, 1)
    return _where(graph, strongest_of_rows(graph.indptr, graph.data, k))


def hubs(graph: csr_array, quantile: float = HUB_QUANTILE) -> NDArray[np.bool_]:
    """(n,) true for the nodes whose degree, as targets, lies above this quantile of the nodes that have any.

    Raises:
        InputError: for a quantile outside of 0 to 1.
    """
    if not 0 <= quantile <= 1:
        raise InputError(f"quantile={quantile}: a number from 0 to 1")
    degree = np.bincount(graph.indices, minlength=graph.shape[1])
    linked = degree[degree > 0]
    return degree > (np.quantile(linked, quantile) if len(linked) else 0)


def quiet_hubs(graph: csr_array, quantile: float = HUB_QUANTILE) -> csr_array:
    """The graph as messages pass along it: what comes from a hub is divided by the root of its degree.

    Hubs stay where they are as candidates; without this, everything that was ever bought beside a carrier bag would
    look alike.
    """
    degree = np.bincount(graph.indices, minlength=graph.shape[1])
    scale = np.where(hubs(graph, quantile), 1 / np.sqrt(np.maximum(degree, 1)), 1).astype(np.float32)
    return csr_array((graph.data * scale[graph.indices], graph.indices, graph.indptr), shape=graph.shape)


def row_normalised(graph: csr_array) -> csr_array:
    """Rows that add up to 1; an empty one stays empty."""
    sums = np.asarray(graph.sum(axis=1)).ravel()
    scale = np.divide(1, sums, out=np.zeros(len(sums)), where=sums > 0)
    data = graph.data * np.repeat(scale, np.diff(graph.indptr)).astype(np.float32)
    return csr_array((data, graph.indices, graph.indptr), shape=graph.shape)


def stacked(parts: Sequence[csr_array]) -> csr_array:
    """Graphs over the same targets, one below the other."""
    lengths = np.concatenate([np.diff(part.indptr) for part in parts])
    return csr_array(
        (
            np.concatenate([part.data for part in parts]).astype(np.float32),
            np.concatenate([part.indices for part in parts]).astype(np.int32),
            np.append(0, np.cumsum(lengths)).astype(np.int32),
        ),
        shape=(len(lengths), parts[0].shape[1]),
    )


def check_number(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of 32 bits from `least` on.

    Raises:
        InputError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not least <= value < 1 << 31:
        raise InputError(f"{name}={value!r}: a whole number from {least} on")


def check_weights(graph: csr_array, what: str) -> None:
    """Refuse weights that no walk can follow.

    Raises:
        InputError: for one below 0, or that is no finite number.
    """
    if not (np.isfinite(graph.data) & (graph.data >= 0)).all():
        raise InputError(f"{what}: every edge needs a finite weight, and none may be below 0")


def save_graph(folder: Path, name: str, graph: csr_array) -> None:
    """Write a graph into a folder that is being made (`endcap.artefact.new_artefact`), as three arrays."""
    save_array(folder / f"{name}.indptr.npy", graph.indptr)
    save_array(folder / f"{name}.indices.npy", graph.indices)
    save_array(folder / f"{name}.data.npy", graph.data)


def open_graph(folder: Path, name: str, shape: tuple[int, int]) -> csr_array:
    """What `save_graph` wrote, memory-mapped.

    Raises:
        DamagedArtefact: if a file is missing, cut short, or the three do not fit together.
    """
    try:
        indptr, indices, data = (mapped(folder / f"{name}.{part}.npy") for part in ("indptr", "indices", "data"))
    except (OSError, ValueError, EOFError) as error:
        raise DamagedArtefact(f"{folder}: the graph {name} is unreadable ({error}); write it again") from None
    fits = (
        len(indptr) == shape[0] + 1
        and indptr[0] == 0
        and indptr[-1] == len(indices) == len(data)
        and (np.diff(indptr) >= 0).all()
        and (not len(indices) or 0 <= indices.min() <= indices.max() < shape[1])
    )
    if not fits:
        raise DamagedArtefact(f"{folder}: the arrays of the graph {name} do not fit together; write it again")
    return csr_array((data, indices, indptr), shape=shape, copy=False)


def _where(graph: csr_array, kept: NDArray[np.bool_]) -> csr_array:
    """The edges that an (nnz,) mask keeps."""
    indptr = np.append(0, np.cumsum(kept))[graph.indptr].astype(np.int32)
    return csr_array((graph.data[kept], graph.indices[kept], indptr), shape=graph.shape)
