"""Blocks against slow and obvious versions of themselves: losses, pair codes, attention, interests, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from endcap.nn.attention import CausalBlock, CollectByCode, EdgeAttention, PickByCode, causal_bias
from endcap.nn.histories import Histories, all_cuts, batches, past_of
from endcap.nn.interests import MeanInterest, RoutedInterests, SelfAttentiveInterests, routing_penalty
from endcap.nn.items import CoActionAggregation, ItemEmbedding, ItemFeatures, ItemSizes
from endcap.nn.losses import Proposal, binary_loss, pairwise_loss, softmax_loss

NO_OWN = (np.empty(0, np.int64), np.empty(0, np.int64))


def histories(*people: list[int]) -> Histories:
    items = np.array([item for person in people for item in person], np.int32)
    offsets = np.append(0, np.cumsum([len(person) for person in people])).astype(np.int64)
    return Histories(offsets, items, np.zeros(len(items), np.int8), np.arange(len(items), dtype=np.int64))


# -- histories ---------------------------------------------------------------------------------------------------------


def test_a_past_ends_in_the_last_column_and_item_0_is_no_padding():
    whole = histories([0, 1, 2, 0], [5, 0])
    cuts = all_cuts(whole, 2, whole.new_to_person())
    pasts = past_of(whole, cuts).items.tolist()
    assert whole.items[cuts.target].tolist() == [1, 2, 0]
    assert pasts == [[-1, 0], [0, 1], [-1, 5]]


def test_new_to_person_is_the_first_contact_of_each_person():
    whole = histories([3, 3, 1, 3], [3, 1])
    assert whole.new_to_person().tolist() == [True, False, True, False, True, True]


@given(st.lists(st.integers(1, 60), max_size=300), st.integers(1, 40), st.integers(0, 5))
def test_batches_hold_every_instance_once(lengths, size, seed):
    found = batches(np.array(lengths, np.int64), size, seed)
    assert sorted(np.concatenate(found).tolist() if found else []) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in found)


def test_batches_are_of_about_one_length_and_differ_by_epoch():
    lengths = np.random.default_rng(0).integers(1, 100, 4000)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches(lengths, 64, [0, 0]))
    assert padded < 1.1 * lengths.sum()
    assert [b.tolist() for b in batches(lengths, 64, [0, 0])] != [b.tolist() for b in batches(lengths, 64, [0, 1])]


# -- losses ------------------------------------------------------------------------------------------------------------


def test_the_softmax_over_all_items_is_cross_entropy():
    counts = np.array([3, 1, 2, 5, 1])
    targets, logits = np.array([1, 3, 3]), torch.randn(3, 5)
    drawn = Proposal(counts, 0, 0.0).draw(targets, NO_OWN, [0])
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="none")
    torch.testing.assert_close(softmax_loss(logits, logits[range(3), targets], drawn, 1.0), expected)


def test_the_chance_to_be_drawn_is_what_is_counted():
    """log Q of mixed negatives: the share of batches in which an item stands in the list."""
    rng, counts = np.random.default_rng(0), np.array([50, 30, 10, 5, 3, 2])
    proposal, met = Proposal(counts, 3, 0.5), np.zeros(6)
    n = 4000
    for trial in range(n):
        targets = rng.choice(6, 2, p=counts / counts.sum())
        drawn = proposal.draw(targets, NO_OWN, [trial])
        met[drawn.items] += 1
        log_q = dict(zip(drawn.items.tolist(), drawn.log_q.tolist(), strict=True))
    for item, value in log_q.items():
        assert met[item] / n == pytest.approx(np.exp(value), abs=0.03)


@given(st.integers(0, 1000))
def test_targets_are_candidates_and_own_items_are_no_negatives(seed):
    rng = np.random.default_rng(seed)
    targets, rows, owned = rng.integers(0, 30, 8), rng.integers(0, 8, 40), rng.integers(0, 30, 40)
    order = np.argsort(rows, kind="stable")
    drawn = Proposal(np.ones(30, int), 10, 0.0).draw(targets, (rows[order], owned[order]), [seed])
    assert (drawn.items[drawn.column] == targets).all()
    hidden = set(drawn.hidden.tolist())
    for person in range(8):
        for place, item in enumerate(drawn.items.tolist()):
            own = item in owned[rows == person] and item != targets[person]
            assert (person * len(drawn.items) + place in hidden) == own


def test_full_correction_undoes_a_skewed_draw():
    """The gradient of sampled softmax with log Q, over many draws, is that of the full one; without log Q it is not."""
    torch.manual_seed(0)
    counts = np.repeat([1, 30], 60)
    targets, person, table = np.array([0]), torch.randn(1, 4), torch.randn(120, 4)
    gradients = {}
    for shared, strength in ((0, 0.0), (100, 1.0), (100, 0.0)):
        proposal, total = Proposal(counts, shared, 1.0), torch.zeros(120)
        n = 1 if shared == 0 else 1500
        for trial in range(n):
            logits = (person @ table.T * 0.3).requires_grad_()
            drawn = proposal.draw(targets, NO_OWN, [trial])
            softmax_loss(logits[:, torch.from_numpy(drawn.items)], logits[:, 0], drawn, strength).sum().backward()
            total += logits.grad[0]
        gradients[shared, strength] = total / n
    right = torch.nn.functional.cosine_similarity(gradients[100, 1.0][1:], gradients[0, 0.0][1:], dim=0)
    wrong = torch.nn.functional.cosine_similarity(gradients[100, 0.0][1:], gradients[0, 0.0][1:], dim=0)
    assert right > 0.97 > wrong


def test_without_the_batch_only_what_is_drawn_counts():
    counts, targets = np.ones(50, int), np.array([3, 7])
    drawn = Proposal(counts, 4, 0.0, in_batch=False).draw(targets, (np.array([0]), np.array([3])), [1])
    assert len(drawn.items) <= 4
    assert drawn.column is None
    table = torch.randn(2, 50)
    logits = table[:, torch.from_numpy(drawn.items)]
    losses = softmax_loss(logits, table[range(2), targets], drawn, 0.0)
    for row in range(2):
        others = logits[row][torch.from_numpy(drawn.items != 3)] if row == 0 else logits[row]
        expected = torch.logsumexp(torch.cat([table[row, targets[row]][None], others]), 0) - table[row, targets[row]]
        torch.testing.assert_close(losses[row], expected)


def test_a_negative_for_each_target_is_not_the_persons_own():
    proposal = Proposal(np.ones(4, int), 1, 0.0)
    own = (np.repeat(np.arange(3), 3), np.tile([0, 1, 2], 3))
    assert proposal.draw_each(np.zeros(3, np.int64), own, [0]).tolist() == [3, 3, 3]


def test_one_negative_losses():
    positive, negative = torch.tensor([2.0, 0.0]), torch.tensor([1.0, 3.0])
    torch.testing.assert_close(pairwise_loss(positive, negative), -torch.log(torch.sigmoid(positive - negative)))
    expected = -torch.log(torch.sigmoid(positive)) - torch.log(1 - torch.sigmoid(negative))
    torch.testing.assert_close(binary_loss(positive, negative), expected)


# -- attention ---------------------------------------------------------------------------------------------------------


def test_picking_and_collecting_by_code_and_their_gradients():
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (2, 3, 3, 2), dtype=torch.uint8)
    codes[..., 1] += 4
    values, weights = torch.randn(2, 2, 3, 8), torch.randn(2, 2, 3, 3)
    slow_pick, slow_collect = torch.zeros(2, 2, 3, 3), torch.zeros(2, 2, 3, 8)
    for b, h, i, j, f in np.ndindex(2, 2, 3, 3, 2):
        slow_pick[b, h, i, j] += values[b, h, i, int(codes[b, i, j, f])]
        slow_collect[b, h, i, int(codes[b, i, j, f])] += weights[b, h, i, j]
    torch.testing.assert_close(PickByCode.apply(values, codes), slow_pick)
    torch.testing.assert_close(CollectByCode.apply(weights, codes, 8), slow_collect)
    one, other = values.clone().requires_grad_(), weights.clone().requires_grad_()
    (PickByCode.apply(one, codes) * weights).sum().backward()
    torch.testing.assert_close(one.grad, slow_collect)
    (CollectByCode.apply(other, codes, 8) * values).sum().backward()
    torch.testing.assert_close(other.grad, slow_pick)


def test_the_lean_layer_is_the_dense_one_of_the_formulas():
    """m_ij and l_ij written out with a (B, T, T, d) tensor."""
    torch.manual_seed(0)
    batch, length, dim, heads, n_codes = 2, 5, 8, 2, 7
    layer = EdgeAttention(dim, heads, n_codes, 0.0, feed_forward=False).eval()
    actions, known = torch.randn(batch, length, dim), torch.ones(batch, length, dtype=torch.bool)
    known[0, :2] = False
    codes = torch.stack(
        [torch.randint(0, 4, (batch, length, length)), torch.randint(4, 7, (batch, length, length))], -1
    )
    rho = layer.tables[codes].sum(3)  # (B, T, T, d)
    query, key, message = layer.query_key_message(actions).chunk(3, dim=-1)
    keys = key[:, None] + layer.edge_key(rho)
    messages = message[:, None] + layer.edge_message(rho)
    logits = (query[:, :, None] * keys).unflatten(-1, (heads, -1)).sum(-1) * (dim / heads) ** -0.5 + layer.edge_bias(
        rho
    )
    weights = torch.softmax(logits.masked_fill(~known[:, None, :, None], -1e9), dim=2)
    mixed = (weights[..., None] * messages.unflatten(-1, (heads, -1))).sum(2).flatten(2)
    expected = layer.norm(actions + layer.out(mixed))
    torch.testing.assert_close(layer(actions, known, codes.to(torch.uint8)), expected, rtol=1e-4, atol=1e-5)


def test_what_pads_reaches_no_action():
    torch.manual_seed(0)
    layer = EdgeAttention(8, 2, 3, 0.0, feed_forward=True).eval()
    actions, known = torch.randn(1, 4, 8), torch.tensor([[False, True, True, True]])
    codes = torch.randint(0, 3, (1, 4, 4, 1), dtype=torch.uint8)
    other = actions.clone()
    other[0, 0] = 100.0
    torch.testing.assert_close(layer(actions, known, codes)[:, 1:], layer(other, known, codes)[:, 1:])


def test_a_causal_block_sees_nothing_later():
    torch.manual_seed(0)
    block = CausalBlock(8, 2, 0.5).eval()
    known = torch.tensor([[False, True, True, True, True]])
    actions = torch.randn(1, 5, 8)
    later = actions.clone()
    later[0, 3:] = 7.0
    padded = actions.clone()
    padded[0, 0] = 7.0
    bias = causal_bias(known)
    torch.testing.assert_close(block(actions, bias)[:, 1:3], block(later, bias)[:, 1:3])
    torch.testing.assert_close(block(actions, bias)[:, 1:], block(padded, bias)[:, 1:])
    assert not torch.allclose(block(actions, bias)[:, 3:], block(later, bias)[:, 3:])


# -- interests ---------------------------------------------------------------------------------------------------------

EXTRACTIONS = {
    "self-attentive": lambda: SelfAttentiveInterests(8, 3, 6),
    "routing": lambda: RoutedInterests(8, 3, 6, shared=False),
    "mind": lambda: RoutedInterests(8, 3, 6, shared=True),
    "mean": MeanInterest,
}


@pytest.mark.parametrize("kind", EXTRACTIONS)
def test_interests_do_not_depend_on_padding(kind):
    torch.manual_seed(0)
    extraction = EXTRACTIONS[kind]()
    actions = torch.randn(2, 4, 8)
    short, _ = extraction(actions, torch.ones(2, 4, dtype=torch.bool))
    padded = torch.cat([torch.full((2, 2, 8), 9.0), actions], dim=1)
    known = torch.tensor([[False] * 2 + [True] * 4] * 2)
    long, weights = extraction(padded, known)
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)
    assert (weights[:, :, :2] == 0).all()


def test_self_attention_is_the_formula():
    torch.manual_seed(0)
    block, actions = SelfAttentiveInterests(4, 2, 5), torch.randn(1, 3, 4)
    positions = torch.stack([block.positions[2], block.positions[1], block.positions[0]])  # by distance from the end
    weights = torch.softmax(torch.tanh((actions[0] + positions) @ block.hidden.weight.T) @ block.logits.weight.T, dim=0)
    torch.testing.assert_close(block(actions, torch.ones(1, 3, dtype=torch.bool))[0][0], weights.T @ actions[0])


def test_routing_is_comirecs_written_out():
    torch.manual_seed(0)
    block, actions = RoutedInterests(4, 2, 3, shared=False), torch.randn(1, 3, 4)
    mapped = [[block.maps[2 - i, k] @ actions[0, i] for i in range(3)] for k in range(2)]
    logits = torch.zeros(2, 3)
    for _ in range(3):
        share = torch.softmax(logits, dim=0)  # over the interests of an action
        interests = []
        for k in range(2):
            s = sum(share[k, i] * mapped[k][i] for i in range(3))
            interests.append((s @ s) / (1 + s @ s) * s / s.norm())
        logits = logits + torch.tensor([[(interests[k] @ mapped[k][i]).item() for i in range(3)] for k in range(2)])
    found, _ = block(actions, torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(found[0], torch.stack(interests), rtol=1e-4, atol=1e-5)


def test_the_routing_penalty_grows_when_an_interest_settles_on_one_action():
    known = torch.ones(1, 4, dtype=torch.bool)
    even, settled = torch.full((1, 2, 4), 0.25), torch.eye(4)[None, :2]
    assert routing_penalty(even, known) == 0
    assert float(routing_penalty(settled, known)) == pytest.approx(2 * (3 / 16) ** 2)


# -- items -------------------------------------------------------------------------------------------------------------


def test_aggregation_is_the_formula_and_nothing_without_neighbours():
    torch.manual_seed(0)
    block = CoActionAggregation(4, 1, gated=False, dropout=0.0).eval()
    around = torch.randn(5, 4)
    near = torch.tensor([[[1, 3, -1], [-1, -1, -1]]])
    strength = torch.tensor([[[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]]])
    found = block(around[:2], around, near, strength)
    logits = around[[1, 3]] @ around[0] / 2 + torch.log(torch.tensor([0.5, 0.25]) + 1e-6)
    torch.testing.assert_close(found[0], around[0] + torch.softmax(logits, 0) @ around[[1, 3]])
    torch.testing.assert_close(found[1], around[1])


def test_an_item_without_text_has_a_vector_and_its_neighbours_in_the_batch_do_not_change_it():
    torch.manual_seed(0)
    features = ItemFeatures(
        3, text_offsets=np.array([0, 2, 2, 3]), text=np.array([0, 1, 2]), text_weight=np.full(3, 0.5, np.float32),
        price=np.array([1, 0, 2]), id=np.arange(1, 4),
    )  # fmt: skip
    block = ItemEmbedding(4, ItemSizes(text=3, price=3, id=4), 0.3).eval()
    together = block(features, np.array([0, 1, 2]))
    assert torch.isfinite(together).all()
    for item in range(3):
        torch.testing.assert_close(block(features, np.array([item]))[0], together[item])


def test_an_id_row_is_left_out_at_random_in_training_only():
    torch.manual_seed(0)
    features = ItemFeatures(1, price=np.array([1]), id=np.array([1]))
    block = ItemEmbedding(4, ItemSizes(price=2, id=2), 0.5)
    many = block(features, np.zeros(200, np.int64))
    without = torch.isclose(many, block(ItemFeatures(1, price=np.array([1])), np.array([0])), rtol=1e-4).all(1)
    assert 60 < int(without.sum()) < 140
    assert len(torch.unique(block.eval()(features, np.zeros(50, np.int64)), dim=0)) == 1


def test_n_grams_are_left_out_at_random_in_training_only_and_keep_their_sum_on_average():
    torch.manual_seed(0)
    features = ItemFeatures(
        1, text_offsets=np.array([0, 2]), text=np.array([0, 1]), text_weight=np.array([0.6, 0.8], np.float32)
    )
    block = ItemEmbedding(4, ItemSizes(text=2), 0.0, 0.5)
    whole = block.eval()(features, np.zeros(1, np.int64))[0]
    many = block.train()(features, np.zeros(4000, np.int64))
    assert len(torch.unique(many, dim=0)) == 4  # none, either, both
    torch.testing.assert_close(many.mean(0), whole, atol=0.05, rtol=0)


def test_an_item_that_nothing_is_known_of_can_be_trained_at_length_1():
    torch.manual_seed(0)
    features = ItemFeatures(
        1, text_offsets=np.zeros(2, np.int64), text=np.empty(0, np.int64), text_weight=np.empty(0, np.float32)
    )
    block = ItemEmbedding(4, ItemSizes(text=2), 0.0)
    vector = torch.nn.functional.normalize(block(features, np.zeros(1, np.int64)), dim=1)
    (vector @ torch.randn(4)).sum().backward()
    assert max(float(p.grad.abs().max()) for p in block.parameters() if p.grad is not None) < 100
