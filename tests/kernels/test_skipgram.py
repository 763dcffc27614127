"""The skip-gram pass against a slow exact reference, and what it must learn."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.kernels.skipgram import STRETCH, negative_pool, skipgram_pass

DIM = 6


def tables(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, DIM)).astype(np.float32) / 3, rng.normal(size=(n, DIM)).astype(np.float32) / 3


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def targets_of(session, position, window, rate, extra, extra_weight):
    """(token, step) of each positive of a centre."""
    left, right = max(0, position - window), min(len(session), position + window + 1)
    near = [(session[other], rate) for other in range(left, right) if other != position]
    return near + [(target, rate * extra_weight) for target in extra.get(session[position], [])]


def reference(
    inputs, outputs, sessions, extra, extra_weight, negatives, n_negatives, window, rate_from, rate_to, share
):
    """In float64, with exact sigmoids; a fixed window, no subsampling, the pool read from its start."""
    place = 0
    for number, session in enumerate(sessions):
        rate = rate_from + (rate_to - rate_from) * number / len(sessions)
        for position, centre in enumerate(session):
            targets = targets_of(session, position, window, rate, extra, extra_weight)
            for start in range(0, len(targets), share):
                together = targets[start : start + share]
                draws = [negatives[(place + draw) % len(negatives)] for draw in range(n_negatives)]
                place += n_negatives
                terms = [(positive, 1.0, step) for positive, step in together]
                terms += [(draw, 0.0, sum(step for positive, step in together if positive != draw)) for draw in draws]
                gradient = np.zeros(DIM)
                for target, label, step in terms:
                    error = (label - sigmoid(inputs[centre] @ outputs[target])) * step
                    gradient += error * outputs[target]
                    outputs[target] += error * inputs[centre]
                inputs[centre] += gradient


def run(inputs, outputs, sessions, extra, *, extra_weight=1.0, negatives, n_negatives=2, window=2, rates=(0.1, 0.05),
        seed=3, random_window=False, chunks=1, share=1, groups=None, rounds=1):  # fmt: skip
    n = len(inputs)
    lengths = [len(extra.get(token, [])) for token in range(n)]
    groups = np.full(n, -1, np.int32) if groups is None else np.asarray(groups, np.int32)
    members = np.argsort(groups, kind="stable").astype(np.int32)
    skipgram_pass(DIM, share)(
        inputs, outputs,
        np.array([token for session in sessions for token in session], np.int32),
        np.append(0, np.cumsum([len(session) for session in sessions])).astype(np.int64),
        np.append(0, np.cumsum(lengths)).astype(np.int64),
        np.array([target for token in range(n) for target in extra.get(token, [])], np.int32),
        np.full(sum(lengths), extra_weight, np.float32),
        negatives, n_negatives, rounds,
        groups, np.searchsorted(groups[members], np.arange(groups.max() + 2)).astype(np.int64), members,
        np.ones(n, np.float32), window, random_window, *rates, seed, chunks,
    )  # fmt: skip


@pytest.mark.parametrize("share", [1, 2, 100])
def test_a_pass_is_the_reference(share):
    rng = np.random.default_rng(1)
    sessions = [list(rng.integers(0, 9, rng.integers(1, 7))) for _ in range(20)]
    extra = {2: [5, 7], 8: [0]}
    # one negative in the whole pool, so that where the pass starts to read it makes no difference
    negatives = np.full(4, 6, np.int32)
    inputs, outputs = tables(9)
    exact_inputs, exact_outputs = inputs.astype(np.float64), outputs.astype(np.float64)
    run(inputs, outputs, sessions, extra, extra_weight=0.5, negatives=negatives, share=share)
    reference(exact_inputs, exact_outputs, sessions, extra, 0.5, negatives, 2, 2, 0.1, 0.05, share)
    np.testing.assert_allclose(inputs, exact_inputs, atol=2e-3)  # the sigmoid's table has cells of 0.012
    np.testing.assert_allclose(outputs, exact_outputs, atol=2e-3)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    rng = np.random.default_rng(1)
    sessions = [list(rng.integers(0, 9, 8)) for _ in range(30)]
    negatives = negative_pool(np.ones(9, np.int64), 0, 1000, rng)
    results = []
    for seed in (1, 1, 2):
        inputs, outputs = tables(9)
        run(inputs, outputs, sessions, {}, negatives=negatives, seed=seed, random_window=True)
        results.append(inputs)
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


@pytest.mark.parametrize("score", [5.9999995, 6.0, 40.0, -6.0, -40.0])
def test_scores_at_the_ends_of_the_sigmoid_table_stay_finite(score):
    inputs, outputs = np.zeros((2, DIM), np.float32), np.zeros((2, DIM), np.float32)
    inputs[:, 0], outputs[:, 0] = 1, score
    run(inputs, outputs, [[0, 1]], {}, negatives=np.zeros(4, np.int32))
    assert np.isfinite(inputs).all()
    assert np.isfinite(outputs).all()
    assert np.abs(inputs).max() <= 1 + 6 * abs(score)


def test_extra_targets_pull_as_context_does():
    inputs, outputs = tables(4)
    before = inputs[0] @ outputs[3]
    run(inputs, outputs, [[0]] * 20, {0: [3]}, negatives=np.full(4, 2, np.int32))
    assert inputs[0] @ outputs[3] > before + 0.5


def test_every_stretch_of_the_pool_is_walked_as_often_as_rounds_say():
    """Token 0 is alone with its negatives; which output rows move shows how far the pool was walked."""
    n = 2000
    negatives = np.arange(1, n, dtype=np.int32)
    stretches = len(negatives) // STRETCH
    for rounds in (1, 3):
        inputs, outputs = tables(n)
        before = outputs.copy()
        pairs = 2 * STRETCH * rounds // 5  # of 5 negatives each: two stretches of the pool
        run(inputs, outputs, [[0, 0]] * (pairs // 2), {}, negatives=negatives, n_negatives=5, rounds=rounds)
        moved = np.flatnonzero(np.abs(outputs - before).max(axis=1) > 0)
        moved = moved[moved > 0] - 1
        assert 2 * STRETCH - 10 * rounds <= len(moved) <= 2 * STRETCH, rounds
        assert len(np.unique(moved // STRETCH)) == min(2, stretches)


@pytest.mark.parametrize("share", [1, 4])
def test_a_centre_in_a_group_is_pushed_away_from_that_group_alone(share):
    groups = [0, 0, 0, 1, 1, -1]
    negatives = negative_pool(np.ones(6, np.int64), 0, 1000, np.random.default_rng(0))
    inputs, outputs = tables(6)
    before = outputs.copy()
    run(inputs, outputs, [[0, 5]] * 50, {}, negatives=negatives, groups=groups, share=share, rates=(0.1, 0.1))
    moved = np.abs(outputs - before).max(axis=1) > 0
    assert moved.tolist() == [True] * 6  # token 5 has no group: its negatives come from everywhere
    inputs, outputs = tables(6)
    run(inputs, outputs, [[0, 1]] * 50, {}, negatives=negatives, groups=groups, share=share, rates=(0.1, 0.1))
    moved = np.abs(outputs - before).max(axis=1) > 0
    assert moved.tolist() == [True, True, True, False, False, False]


def test_negatives_follow_the_exponent():
    weights = np.array([1, 10, 100])
    for exponent, expected in [(0, [1 / 3] * 3), (1, weights / 111), (0.5, np.sqrt(weights) / np.sqrt(weights).sum())]:
        drawn = negative_pool(weights, exponent, 200_000, np.random.default_rng(0))
        np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 200_000, expected, atol=0.01)
