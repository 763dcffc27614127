"""Graphs from lists of edges, their strongest edges, hubs, and their files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from endcap.errors import DamagedArtefact, InputError
from endcap.graph import top_edges
from endcap.graph.edges import graph_of, hubs, open_graph, quiet_hubs, row_normalised, save_graph


@given(
    values=st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]), min_size=7, max_size=7), max_size=5),
    k=st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_top_edges_against_sorting(values, k):
    dense = np.array(values, np.float32).reshape(-1, 7)
    found = top_edges(csr_array(dense), k)
    assert found.has_canonical_format
    for row, kept in zip(dense, found.toarray(), strict=True):
        linked = np.flatnonzero(row)
        best = linked[np.lexsort((linked, -row[linked]))][:k]
        np.testing.assert_array_equal(kept, np.where(np.isin(np.arange(7), best), row, 0))


def test_self_loops_and_duplicate_edges_are_harmless():
    graph = graph_of([0, 0, 0, 1, 1], [1, 1, 0, 0, 1], [1.0, 3.0, 9.0, 2.0, 9.0], shape=(2, 2))
    assert graph.toarray().tolist() == [[0, 3], [2, 0]]
    assert (graph.indices.dtype, graph.indptr.dtype, graph.data.dtype) == (np.int32, np.int32, np.float32)
    assert graph_of([0], [0], shape=(2, 3), loops=True).toarray().tolist() == [[1, 0, 0], [0, 0, 0]]


def test_edges_that_do_not_fit_are_refused():
    for source, target, weight, says in [
        ([0], [2], None, r"targets must be in 0 \.\. 1"), ([-1], [0], None, "sources"),
        ([0], [1], [np.nan], "finite"), ([0, 1], [1], None, "2 sources, 1 targets"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=says):
            graph_of(source, target, weight, shape=(2, 2))
    with pytest.raises(InputError, match="k=0"):
        top_edges(csr_array((2, 2), dtype=np.float32), 0)
    with pytest.raises(InputError, match="quantile=2"):
        hubs(csr_array((2, 2), dtype=np.float32), 2)


def test_hubs_keep_their_place_and_lower_their_voice():
    n = 2000
    ring = np.arange(n)
    source, target = np.append(ring, ring[1:]), np.append((ring + 1) % n, np.zeros(n - 1, int))
    graph = graph_of(source, target, shape=(n, n))
    assert np.flatnonzero(hubs(graph)).tolist() == [0]
    quiet = quiet_hubs(graph)
    assert (quiet.indices == graph.indices).all()
    assert quiet[[5], [0]] == pytest.approx(1 / np.sqrt(n - 1), rel=1e-3)
    assert quiet[[5], [6]] == 1


def test_rows_add_up_to_one():
    graph = row_normalised(csr_array(np.array([[0, 1, 3], [0, 0, 0], [5, 0, 0]], np.float32)))
    np.testing.assert_allclose(graph.toarray(), [[0, 0.25, 0.75], [0, 0, 0], [1, 0, 0]])


@pytest.fixture
def stored(tmp_path):
    graph = csr_array(np.array([[0, 1.5, 0], [2, 0, 0], [0, 0, 3]], np.float32))
    save_graph(tmp_path, "bought", graph)
    return tmp_path, graph


def test_a_stored_graph_comes_back_mapped(stored):
    folder, graph = stored
    found = open_graph(folder, "bought", (3, 3))
    assert (found != graph).nnz == 0
    for array in (found.data, found.indices, found.indptr):
        assert not array.flags.owndata
        assert not array.flags.writeable


@pytest.mark.parametrize("part", ["indptr", "indices", "data"])
def test_a_graph_that_was_cut_short_is_refused(stored, part):
    folder, _ = stored
    file = folder / f"bought.{part}.npy"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DamagedArtefact, match="bought"):
        open_graph(folder, "bought", (3, 3))
    file.unlink()
    with pytest.raises(DamagedArtefact, match="bought"):
        open_graph(folder, "bought", (3, 3))


def test_a_graph_of_another_shop_is_refused(stored):
    with pytest.raises(DamagedArtefact, match="do not fit together"):
        open_graph(stored[0], "bought", (4, 4))
    with pytest.raises(DamagedArtefact, match="do not fit together"):
        open_graph(stored[0], "bought", (3, 2))
