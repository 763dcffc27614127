"""Categories that a catalogue does not say, read off words of titles and off what was looked at in a row.

Of an item's votes half are its title's: each n-gram gives those of the items that have it, by their categories, as
shares, and counts the more the fewer categories it stands for (the sum of the squared shares). Half are by how often
it was looked at right before or after items of each category. The most voted category stands for the one that is not
said, if its share of the votes is one at which SURE of the items of known category would be put right, each by the
others' votes [C].
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array

from endcap.graph.attributes import texts_of
from endcap.graph.texts import BUCKETS, GRAMS
from endcap.shop.text import hashed_n_grams

SURE = 0.9
LEAST_JUDGED, MOST_JUDGED = 20, 5_000  # items of known category that are put to the test
TELLING = 0.2  # of an n-gram that stands for five categories evenly; what says less has no vote


def leaves_with_guesses(catalogue: pa.Table, leaf: NDArray[np.int32], looked_at: csr_array) -> NDArray[np.int32]:
    """(n,) the leaves, and of those of -1 what is as good as sure.

    Args:
        leaf: (n,) numbers of categories, -1 where none is said; looked_at: (n, n) times in a row, symmetric.
    """
    known, asked = np.flatnonzero(leaf >= 0), np.flatnonzero(leaf < 0)
    if not len(asked) or len(known) < LEAST_JUDGED:
        return leaf
    judged = np.sort(np.random.default_rng(0).permutation(known)[:MOST_JUDGED])
    of_leaf = csr_array((np.ones(len(known)), (known, leaf[known])), shape=(len(leaf), int(leaf.max()) + 1))
    offsets, grams = hashed_n_grams(texts_of(catalogue, "title"), BUCKETS, GRAMS)
    has = csr_array((np.ones(len(grams)), grams, offsets), shape=(len(leaf), BUCKETS))

    def most_voted(items: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
        """The leaf and its share of the votes, 0 where nobody votes."""
        votes = _one_vote(_of_titles(has, of_leaf, items)) + _one_vote(looked_at[items] @ of_leaf)
        total = np.asarray(votes.sum(axis=1)).ravel()
        most = np.asarray(votes.max(axis=1).todense()).ravel()
        return np.asarray(votes.argmax(axis=1)).ravel(), most / np.maximum(total, 1)

    guess, share = most_voted(judged)
    least = _least_share(guess == leaf[judged], share)
    guess, share = most_voted(asked)
    found = leaf.copy()
    found[asked] = np.where(share >= least, guess, -1)
    return found


def _of_titles(has: csr_array, of_leaf: csr_array, items: NDArray[np.integer]) -> csr_array:
    """(m, leaves) votes of the n-grams of each item's title; the item itself, if its leaf is known, has none.

    Args:
        items: (m,) all of known leaf, or none.
    """
    own = of_leaf[items]
    itself = bool(own.nnz)
    by_leaf = csr_array(has.T @ of_leaf)
    count = np.asarray(by_leaf.sum(axis=1)).ravel()
    telling = np.asarray((by_leaf * by_leaf).sum(axis=1)).ravel() / np.maximum(count, 1) ** 2
    weight = np.where((telling >= TELLING) & (count > itself), telling / np.maximum(count - itself, 1), 0)
    rows = has[items]
    rows.data = weight[rows.indices]
    rows.eliminate_zeros()
    of_itself = np.asarray(rows.sum(axis=1)).ravel()
    own.data = np.repeat(of_itself, np.diff(own.indptr))
    votes = csr_array(rows @ by_leaf - own)
    votes.data = np.maximum(votes.data, 0)  # but for rounding
    return votes


def _one_vote(votes: csr_array) -> csr_array:
    """Rows that add up to 1, or to 0 where there are none."""
    votes = csr_array(votes, dtype=np.float64)
    total = np.asarray(votes.sum(axis=1)).ravel()
    votes.data /= np.repeat(np.maximum(total, 1e-12), np.diff(votes.indptr))
    return votes


def _least_share(right: NDArray[np.bool_], share: NDArray[np.floating]) -> float:
    """The lowest share of the votes from which on SURE of the guesses are right, inf where none is."""
    order = np.argsort(-share, kind="stable")
    right, share = right[order], share[order]
    sure = np.cumsum(right) >= SURE * np.arange(1, len(right) + 1)
    sure &= np.append(share[1:] < share[:-1], True) & (share > 0)  # all of one share stand or fall together
    sure[: LEAST_JUDGED - 1] = False
    return float(share[sure].min(initial=np.inf))
