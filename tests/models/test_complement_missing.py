"""Categories that are not said are read off titles and looks, and only where that would have been right elsewhere."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.sparse import csr_array

from endcap import simulate
from endcap.models.complement.features import PairFacts
from endcap.models.complement.missing import leaves_with_guesses
from endcap.shop import Shop
from endcap.simulate import ShopSettings

N, LEAVES = 400, 10


@pytest.fixture(scope="module")
def leaf() -> np.ndarray:
    return np.random.default_rng(0).integers(0, LEAVES, N).astype(np.int32)


@pytest.fixture(scope="module")
def said(leaf) -> np.ndarray:
    return np.where(np.random.default_rng(1).random(N) < 0.3, -1, leaf).astype(np.int32)


def titles_of(leaf: np.ndarray, right: float = 1.0) -> pa.Table:
    """Two words of the leaf, or of any other, and a word of the item's own."""
    rng = np.random.default_rng(2)
    word = np.where(rng.random(len(leaf)) < right, leaf, rng.integers(0, LEAVES, len(leaf)))
    things = [f"thing{number * 7919} part{number * 104729}" for number in range(LEAVES)]
    return pa.table({"title": [f"{things[at]} {rng.integers(10**6):06}" for at in word]})


def looks_of(leaf: np.ndarray) -> csr_array:
    """Every item five times beside others of its leaf, and once beside any."""
    rng = np.random.default_rng(3)
    inside = [rng.choice(np.flatnonzero(leaf == one), 5) for one in leaf]
    row = np.repeat(np.arange(len(leaf)), 6)
    column = np.concatenate([np.append(some, rng.integers(len(leaf))) for some in inside])
    graph = csr_array((np.ones(len(row)), (row, column)), shape=(len(leaf), len(leaf)))
    return csr_array(graph + graph.T)


NO_TITLES = pa.table({"item": [str(number) for number in range(N)]})
NO_LOOKS = csr_array((N, N))


@pytest.mark.parametrize("by", ["titles", "looks", "both"])
def test_either_kind_of_evidence_is_enough(leaf, said, by):
    found = leaves_with_guesses(
        NO_TITLES if by == "looks" else titles_of(leaf), said, NO_LOOKS if by == "titles" else looks_of(leaf)
    )
    np.testing.assert_array_equal(found[said >= 0], said[said >= 0])
    missing = said < 0
    assert (found[missing] >= 0).mean() > 0.9
    assert (found[missing] == leaf[missing])[found[missing] >= 0].mean() > 0.9


def test_what_would_be_wrong_elsewhere_is_not_guessed(leaf, said):
    assert (leaves_with_guesses(titles_of(leaf, right=0.0), said, NO_LOOKS) >= 0).sum() == (said >= 0).sum()
    np.testing.assert_array_equal(leaves_with_guesses(NO_TITLES, said, NO_LOOKS), said)


@pytest.mark.parametrize("known", [0, 5, N])
def test_with_too_few_categories_or_all_of_them_nothing_is_guessed(leaf, known):
    said = np.where(np.arange(N) < known, leaf, -1).astype(np.int32)
    np.testing.assert_array_equal(leaves_with_guesses(titles_of(leaf), said, looks_of(leaf)), said)


def test_facts_hold_what_is_guessed_with_its_whole_path():
    made = simulate.tables(ShopSettings(events=20_000, items=300, seed=5, best=0))
    rng = np.random.default_rng(0)
    gone = pa.array(rng.random(len(made.items)) < 0.3)
    place = made.items.column_names.index("category")
    gaps = made.items.set_column(place, "category", pc.if_else(gone, None, made.items["category"]))
    whole, facts = (PairFacts.of(Shop.from_tables(made.events, items)) for items in (made.items, gaps))
    assert (facts.leaf >= 0).mean() > 0.9
    left, right = np.triu_indices(whole.n_items, 1)
    both = (facts.leaf[left] >= 0) & (facts.leaf[right] >= 0)
    alike = [(one.leaf[left] == one.leaf[right])[both] for one in (whole, facts)]
    assert alike[1][alike[0]].mean() > 0.9
    np.testing.assert_array_equal((facts.levels >= 0).sum(axis=1) > 0, facts.leaf >= 0)
