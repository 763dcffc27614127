"""Graph layers against dense formulas, torch-geometric, and numerical gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, random_array
from torch_geometric.nn import GATConv, SAGEConv

from endcap.nn import propagate
from endcap.nn.graph_layers import AttentionLayer, ImportanceLayer, RelationsLayer, SageLayer
from endcap.nn.propagate import Adjacency, softmax_of_rows, spread, strongest

ROWS, COLUMNS, DIM = 7, 9, 6


@pytest.fixture
def graph() -> csr_array:
    """Some edges, a node that hears nobody, and one that hears all."""
    made = random_array((ROWS, COLUMNS), density=0.4, rng=np.random.default_rng(0)).toarray()
    made[2], made[4] = 0, 0.5
    return csr_array(made.astype(np.float32))


def square(n: int = 8) -> csr_array:
    made = random_array((n, n), density=0.4, rng=np.random.default_rng(1)).toarray()
    np.fill_diagonal(made, 0)
    made[:, 0] += 0.1  # everybody hears somebody
    made[0, 1] = 0.3
    made[0, 0] = 0
    return csr_array(made.astype(np.float32))


def vectors(n: int, dim: int = DIM, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threads", [1, 2])
def test_spread_is_the_product_with_the_matrix(graph: csr_array, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        given = vectors(COLUMNS)
        out = spread(adjacency := Adjacency(graph), adjacency.weights, given)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(out.numpy(), graph.toarray() @ given.numpy(), rtol=1e-5, atol=1e-6)


def test_spread_by_heads_is_one_product_for_each(graph: csr_array) -> None:
    given, weights = vectors(COLUMNS), torch.rand(graph.nnz, 2)
    out = spread(Adjacency(graph), weights, given)
    for head in range(2):
        own = csr_array((weights[:, head].numpy(), graph.indices, graph.indptr), graph.shape)
        part = slice(head * 3, head * 3 + 3)
        np.testing.assert_allclose(out[:, part].numpy(), own.toarray() @ given[:, part].numpy(), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_dense_torch(graph: csr_array) -> None:
    adjacency = Adjacency(graph)
    weights = adjacency.weights.clone().requires_grad_()
    given = vectors(COLUMNS).requires_grad_()
    upstream = vectors(ROWS, seed=3)
    (spread(adjacency, weights, given) * upstream).sum().backward()
    dense_weights, dense_given = weights.detach().clone().requires_grad_(), given.detach().clone().requires_grad_()
    dense = torch.zeros(ROWS, COLUMNS).index_put(
        (torch.from_numpy(adjacency.rows), torch.from_numpy(adjacency.columns).long()), dense_weights
    )
    (dense @ dense_given * upstream).sum().backward()
    torch.testing.assert_close(weights.grad, dense_weights.grad)
    torch.testing.assert_close(given.grad, dense_given.grad)


def test_the_path_of_other_devices_gives_the_same(graph: csr_array) -> None:
    adjacency, given, logits = Adjacency(graph), vectors(COLUMNS), torch.randn(graph.nnz, 2)
    torch.testing.assert_close(spread(adjacency, logits, given), propagate._gathered_sum(adjacency, logits, given))
    torch.testing.assert_close(strongest(adjacency, given), propagate._gathered_most(adjacency, given))
    torch.testing.assert_close(softmax_of_rows(adjacency, logits), propagate._gathered_softmax(adjacency, logits))


def test_strongest_takes_the_gradient_to_who_gave(graph: csr_array) -> None:
    given = vectors(COLUMNS).requires_grad_()
    out = strongest(Adjacency(graph), given)
    assert (out[2] == 0).all()
    out.sum().backward()
    assert given.grad is not None
    assert float(given.grad.sum()) == pytest.approx(DIM * (ROWS - 1))
    expected = torch.stack([given.detach()[torch.from_numpy(graph[[i]].indices).long()].amax(0) for i in (0, 4)])
    torch.testing.assert_close(out[[0, 4]], expected)


def test_softmax_of_rows_against_dense_with_gradient(graph: csr_array) -> None:
    adjacency = Adjacency(graph)
    logits = torch.randn(graph.nnz, 1, requires_grad=True)
    dense_logits = logits.detach().clone().requires_grad_()
    rows, columns = adjacency.ends(torch.device("cpu"))
    dense = torch.full((ROWS, COLUMNS), -torch.inf).index_put((rows, columns), dense_logits[:, 0])
    expected = torch.softmax(dense[[0, 1, 3, 4, 5, 6]], 1)
    upstream = vectors(ROWS, COLUMNS, seed=5)
    weights = softmax_of_rows(adjacency, logits)
    (weights[:, 0] * upstream[rows, columns]).sum().backward()
    (expected * upstream[[0, 1, 3, 4, 5, 6]]).nansum().backward()
    torch.testing.assert_close(logits.grad, dense_logits.grad)


def test_sage_is_torch_geometrics() -> None:
    graph = square()
    adjacency = Adjacency(graph)
    ours, theirs = SageLayer(DIM, 4), SAGEConv(DIM, 4)
    theirs.lin_l.weight.data, theirs.lin_l.bias.data = ours.heard.weight.data, ours.own.bias.data
    theirs.lin_r.weight.data = ours.own.weight.data
    given = vectors(8)
    rows, columns = adjacency.ends(torch.device("cpu"))
    even = adjacency.shares(torch.ones(len(adjacency)))
    torch.testing.assert_close(ours(given, given, adjacency, even), theirs(given, torch.stack([columns, rows])))


def test_sage_before_or_after_the_map_is_the_same(graph: csr_array) -> None:
    adjacency, given, own = Adjacency(graph), vectors(COLUMNS), vectors(ROWS)
    shorter = SageLayer(DIM, 3)
    after = shorter.own(own) + shorter.heard(spread(adjacency, adjacency.shares(), given))
    torch.testing.assert_close(shorter(own, given, adjacency, adjacency.shares()), after)


@pytest.mark.parametrize("joined", [True, False])
def test_attention_is_torch_geometrics(joined: bool) -> None:
    graph = square()
    adjacency = Adjacency(graph)
    width = 2 if joined else 4
    ours = AttentionLayer(DIM, 4, 2, joined=joined)
    theirs = GATConv(DIM, width, heads=2, concat=joined, add_self_loops=False, bias=False)
    theirs.lin.weight.data = ours.map.weight.data
    theirs.att_dst.data, theirs.att_src.data = ours.towards.data[None], ours.source.data[None]
    given = vectors(8)
    rows, columns = adjacency.ends(torch.device("cpu"))
    expected, (_, attention) = theirs(given, torch.stack([columns, rows]), return_attention_weights=True)
    torch.testing.assert_close(ours(given, given, adjacency, adjacency.weights) - ours.own(given), expected)
    torch.testing.assert_close(ours.attention(given, given, adjacency, adjacency.weights), attention)


@pytest.mark.parametrize("second", [True, False])
def test_attention_sums_to_one_and_shuts_edges_out(second: bool) -> None:
    adjacency = Adjacency(square())
    layer = AttentionLayer(DIM, 4, 2, second=second)
    given, weights = vectors(8), adjacency.weights.clone()
    shut = int(adjacency.offsets[1])
    weights[shut] = 0
    attention = layer.attention(given, given, adjacency, weights)
    summed = torch.zeros(8, 2).index_add(0, torch.from_numpy(adjacency.rows), attention)
    torch.testing.assert_close(summed, torch.ones(8, 2))
    assert (attention[shut] == 0).all()


@pytest.mark.parametrize("second", [False, True])
def test_what_attention_says_counts_most_counts_most(second: bool) -> None:
    """A star whose neighbours say different things of one length: without the first, the centre changes most."""
    n = 6
    star = np.zeros((n, n), np.float32)
    star[0, 1:] = 1
    adjacency, given = Adjacency(csr_array(star)), 2 * torch.eye(n)
    layer = AttentionLayer(n, n, 1, second=second)
    with torch.no_grad():
        layer.map.weight.copy_(torch.eye(n))
        layer.source.copy_(torch.tensor([[0.0, 0.2, 0.9, -0.4, 0.5, 0.7]]))
        shares = adjacency.shares()
        attention = layer.attention(given, given, adjacency, shares)[:, 0]
        whole = layer(given, given, adjacency, shares)[0]
        moved = []
        for edge in range(n - 1):
            shut = shares.clone()
            shut[edge] = 0
            moved.append(float((layer(given, given, adjacency, shut)[0] - whole).norm()))
    assert attention.sum() == pytest.approx(1)
    assert np.argsort(attention.numpy()).tolist() == np.argsort(moved).tolist() == [2, 0, 3, 4, 1]


def test_relations_of_one_is_a_sage_and_gates_sum_to_one() -> None:
    adjacency = Adjacency(square())
    layer, sage = RelationsLayer(DIM, 4, ("bought",)), SageLayer(DIM, 4)
    sage.own.load_state_dict(layer.own.state_dict())
    sage.heard.load_state_dict(layer.heard[0].state_dict())
    given, shares = vectors(8), adjacency.shares()
    torch.testing.assert_close(
        layer(given, {"bought": given}, {"bought": adjacency}, {"bought": shares}),
        sage(given, given, adjacency, shares),
    )
    gates = RelationsLayer(DIM, 4, ("bought", "viewed", "brand")).gates()
    assert sum(gates.values()) == pytest.approx(1)


def test_importance_is_a_weighted_mean_of_mapped_neighbours(graph: csr_array) -> None:
    adjacency, given, own = Adjacency(graph), vectors(COLUMNS), vectors(ROWS)
    layer, alpha = ImportanceLayer(DIM, 4), Adjacency(graph).shares()
    dense = csr_array((alpha.numpy(), graph.indices, graph.indptr), graph.shape).toarray()
    heard = torch.from_numpy(dense) @ torch.relu(layer.before(given))
    torch.testing.assert_close(layer(own, given, adjacency, alpha), layer.own(own) + layer.heard(heard))


def test_shares_of_a_row_sum_to_one_and_of_an_empty_row_to_nothing(graph: csr_array) -> None:
    shares = Adjacency(graph).shares()
    summed = torch.zeros(ROWS).index_add(0, torch.from_numpy(Adjacency(graph).rows), shares)
    torch.testing.assert_close(summed, torch.tensor([1.0, 1, 0, 1, 1, 1, 1]))


def test_weights_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Adjacency(csr_array(np.array([[0, np.nan]], np.float32)))
