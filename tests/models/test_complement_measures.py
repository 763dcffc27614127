"""Measures of probabilities against the long way round, and calibration."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.errors import InputError
from endcap.models.complement.measures import Isotonic, auc, calibration_error, judged


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(80) < 0.3, rng.integers(0, 9, 80) / 8
    wins = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    assert auc(labels, scores) == pytest.approx(np.mean(wins))
    assert auc(labels, labels * 1.0) == 1
    assert np.isnan(auc(np.ones(3, bool), np.ones(3)))


def test_calibration_error_by_hand():
    probability = np.array([0.0, 0.05, 0.95, 1.0])
    assert calibration_error(np.array([False, False, True, True]), probability) == pytest.approx((0.05 + 0.05) / 4)
    assert calibration_error(np.array([True, True, True, True]), np.full(4, 0.5)) == pytest.approx(0.5)
    assert calibration_error(np.array([True, False]), np.array([0.5, 0.5])) == 0
    # .5 and .9 in one bin of two: 1 - .7; in others each by itself: .5 and .1
    labels, probability = np.array([True, True]), np.array([0.5, 0.9])
    assert calibration_error(labels, probability, bins=2) == pytest.approx(0.3)
    labels, probability = np.array([False, True]), np.array([0.5, 0.9])
    assert calibration_error(labels, probability, bins=2) == pytest.approx(0.2)
    assert calibration_error(labels, probability, bins=15) == pytest.approx((0.5 + 0.1) / 2)


@pytest.mark.parametrize("measure", [auc, calibration_error])
def test_what_cannot_be_measured_is_refused(measure):
    with pytest.raises(InputError, match="one length"):
        measure(np.ones(2, bool), np.ones(3) / 2)
    with pytest.raises(InputError, match="NaN"):
        measure(np.ones(2, bool), np.array([0.5, np.nan]))
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration_error(np.ones(2, bool), np.array([0.5, 1.5]))


def test_calibration_makes_overconfident_scores_honest():
    rng = np.random.default_rng(1)
    scores = rng.normal(size=4000)
    true = 1 / (1 + np.exp(-scores))
    labels = rng.random(4000) < true
    calibrate = Isotonic.fitted(labels[:2000], 5 * scores[:2000])
    honest, sure = calibrate(5 * scores[2000:]), 1 / (1 + np.exp(-5 * scores[2000:]))
    found = judged(labels[2000:], sure, honest)
    assert found.ece < 0.05 < 0.15 < found.ece_raw
    assert np.abs(honest - true[2000:]).mean() < 0.05
    assert found.auc == auc(labels[2000:], scores[2000:])
    assert found.accuracy > found.majority


def test_calibrated_probabilities_rise_with_the_score_and_are_never_certain():
    rng = np.random.default_rng(2)
    for n in (1, 2, 7, 300):
        labels, scores = rng.random(n) < 0.5, rng.integers(0, 20, n) * 1.0
        calibrate = Isotonic.fitted(labels, scores)
        line = calibrate(np.linspace(-10, 30, 200))
        assert (np.diff(line) >= 0).all()
        assert 0 < line[0] <= line[-1] < 1
    apart = Isotonic.fitted(np.array([False, False, True, True]), np.array([1.0, 2, 3, 4]))
    np.testing.assert_allclose(apart(np.array([0, 1, 2, 2.5, 3, 9])), [1 / 6, 1 / 6, 1 / 6, 0.5, 5 / 6, 5 / 6])


def test_equal_scores_have_one_probability():
    calibrate = Isotonic.fitted(np.array([True, False, False, False]), np.array([1.0, 1, 1, 1]))
    assert calibrate(np.ones(1)) == pytest.approx(1.5 / 5)


def test_a_weight_counts_like_so_many_pairs():
    rng = np.random.default_rng(3)
    labels, scores, times = rng.random(40) < 0.5, rng.integers(0, 9, 40) * 1.0, rng.integers(1, 4, 40)
    once = Isotonic.fitted(labels, scores, times.astype(float))
    often = Isotonic.fitted(np.repeat(labels, times), np.repeat(scores, times))
    np.testing.assert_allclose(once.scores, often.scores)
    np.testing.assert_allclose(once.shares, often.shares)
    for wrong, says in ((0.0, "above 0"), (-1.0, "above 0"), (np.inf, "above 0"), (np.nan, "NaN")):
        with pytest.raises(InputError, match=says):
            Isotonic.fitted(labels, scores, np.full(40, wrong))
    with pytest.raises(InputError, match="one length"):
        Isotonic.fitted(labels, scores, np.ones(3))


def test_nothing_to_calibrate_on_is_refused():
    with pytest.raises(InputError, match="no held-out pairs"):
        Isotonic.fitted(np.empty(0, bool), np.empty(0))
