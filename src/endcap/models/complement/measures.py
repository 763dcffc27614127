"""How good and how honest a probability is, and the step function that makes it honest."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from endcap.errors import InputError

BINS = 15
MOST_SD = 5.0  # further out than so many deviations a value says no more

Floats = NDArray[np.floating]
Bools = NDArray[np.bool_]


def auc(labels: Bools, scores: Floats) -> float:
    """The chance that a true one scores above a false one, ties counting half; NaN without either.

    Raises:
        InputError: for arrays of different lengths, or a score that is NaN.
    """
    labels, scores = _checked(labels, scores)
    n_true = int(labels.sum())
    n_false = len(labels) - n_true
    if not n_true or not n_false:
        return np.nan
    from scipy.stats import rankdata  # takes a second to import, which answering does without

    above = rankdata(scores)[labels].sum() - n_true * (n_true + 1) / 2
    return float(above / (n_true * n_false))


def calibration_error(labels: Bools, probability: Floats, bins: int = BINS) -> float:
    """ECE: in bins of equal width, |share of true ones - mean probability|, weighed by how many lie in the bin.

    Raises:
        InputError: for arrays of different lengths, or what is no probability.
    """
    labels, probability = _checked(labels, probability)
    if ((probability < 0) | (probability > 1)).any():
        raise InputError("probability: every one lies between 0 and 1")
    if not len(labels):
        return np.nan
    place = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, labels.astype(np.float64) - probability, bins)
    return float(np.abs(gap).sum() / len(labels))


class Judgement(NamedTuple):
    """How good probabilities are on n pairs; `majority` is the accuracy of saying the same of all."""

    accuracy: float
    auc: float
    ece_raw: float
    ece: float
    majority: float
    n: int


def judged(labels: Bools, raw: Floats, honest: Floats) -> Judgement:
    """Accuracy at one half, AUC and ECE of probabilities before and after their calibration; NaN of no pairs.

    Raises:
        InputError: for arrays of different lengths, or what is no probability.
    """
    labels, honest = _checked(labels, honest)
    share = labels.mean() if len(labels) else np.nan
    return Judgement(
        float(((honest > 0.5) == labels).mean()) if len(labels) else np.nan,
        auc(labels, raw),
        calibration_error(labels, raw),
        calibration_error(labels, honest),
        float(max(share, 1 - share)),
        len(labels),
    )


def _checked(labels: Bools, numbers: Floats) -> tuple[Bools, NDArray[np.float64]]:
    labels, numbers = np.asarray(labels, bool), np.asarray(numbers)
    if labels.shape != numbers.shape or labels.ndim != 1:
        raise InputError(f"labels and scores: two rows of one length, not {labels.shape} and {numbers.shape}")
    if numbers.dtype.kind not in "biuf" or np.isnan(numbers).any():
        raise InputError("scores: every one must be a number, not NaN")
    return labels, numbers.astype(np.float64)


class Isotonic(NamedTuple):
    """Scores to probabilities by the blocks of an isotonic regression: level inside a block, a line between two.

    A block of n pairs with k true ones is given (k + 1/2) / (n + 1), so that nothing is ever certain.

    Attributes:
        scores: (2 b,) ascending, the lowest and highest score of each block; shares: (2 b,) their probabilities.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def fitted(cls, labels: Bools, scores: Floats, weights: Floats | None = None) -> Self:
        """Learnt from held-out pairs, each counting as its weight says.

        Raises:
            InputError: if there are none, a score is NaN, or a weight is not above 0.
        """
        labels, scores = _checked(labels, scores)
        if not len(labels):
            raise InputError("calibration: there are no held-out pairs to calibrate on")
        weights = np.ones(len(labels)) if weights is None else _checked(labels, weights)[1]
        if (weights <= 0).any() or np.isinf(weights).any():
            raise InputError("calibration: every weight must be above 0")
        at, place = np.unique(scores, return_inverse=True)  # equal scores in one block
        n, true = np.bincount(place, weights), np.bincount(place, weights * labels)
        from scipy.optimize import isotonic_regression

        found = isotonic_regression(true / n, weights=n)
        block = np.repeat(np.arange(len(found.blocks) - 1), np.diff(found.blocks))
        shares = (np.bincount(block, true) + 0.5) / (np.bincount(block, n) + 1)
        edges = np.stack([at[found.blocks[:-1]], at[found.blocks[1:] - 1]], axis=1)
        return cls(edges.ravel(), np.repeat(np.maximum.accumulate(shares), 2))

    def __call__(self, scores: Floats) -> NDArray[np.float32]:
        return np.interp(scores, self.scores, self.shares).astype(np.float32)


class Columns(NamedTuple):
    """How columns of pairs are read by what adds them up: signed logarithms, standardised, and what is missing in them.

    Attributes:
        middle, scale, missing: (f,) means, deviations and shares of NaN.
    """

    middle: NDArray[np.float64]
    scale: NDArray[np.float64]
    missing: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Floats) -> Self:
        """As these rows (n, f) are spread."""
        rows = _spread_out(rows)
        unknown = np.isnan(rows)
        n_known = np.maximum((~unknown).sum(axis=0), 1)
        filled = np.where(unknown, 0, rows)
        middle = filled.sum(axis=0) / n_known
        deviation = np.sqrt((np.where(unknown, 0, rows - middle) ** 2).sum(axis=0) / n_known)
        return cls(middle, np.where(deviation > 0, deviation, 1), unknown.mean(axis=0))

    def __call__(self, rows: Floats) -> NDArray[np.float64]:
        """(n, 2 f): deviations from the mean, 0 where unknown; and whether it is unknown, beside how often it is."""
        spread = _spread_out(rows)
        unknown = np.isnan(spread)
        beside = np.where(unknown, 0, (spread - self.middle) / self.scale).clip(-MOST_SD, MOST_SD)
        return np.append(beside, unknown - self.missing, axis=1)


def _spread_out(rows: Floats) -> NDArray[np.float64]:
    """Counts and ratios have long tails."""
    rows = np.asarray(rows, np.float64)
    return np.sign(rows) * np.log1p(np.abs(rows))
