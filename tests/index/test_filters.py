"""What is remembered of a filter, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.answers import Space
from endcap.index import Exact, build
from endcap.index.filters import Filters

ITEMS = np.array([4, 0, 7, 2, 9], np.int32)


def mask_of(*items: int, n: int = 10, frozen: bool = True) -> np.ndarray:
    mask = np.zeros(n, bool)
    mask[list(items)] = True
    mask.flags.writeable = not frozen
    return mask


def test_a_mask_over_items_becomes_rows_of_the_space():
    filtered = Filters(ITEMS).of(mask_of(7, 4, 3))
    assert filtered.n_allowed == 2
    assert filtered.rows.tolist() == [0, 2]
    assert filtered.mask().tolist() == [True, False, True, False, False]
    assert filtered.bits.tolist() == [0b00101]


def test_items_beyond_the_mask_are_not_allowed():
    assert Filters(ITEMS).of(mask_of(4, 2, n=5)).rows.tolist() == [0, 3]
    assert Filters(ITEMS).of(mask_of(n=0)).n_allowed == 0


def test_a_mask_that_cannot_be_written_is_worked_out_once():
    filters, mask = Filters(ITEMS), mask_of(0, 9)
    assert filters.of(mask) is filters.of(mask)
    assert len(filters) == 1


def test_the_beginning_of_a_mask_is_another_mask():
    filters, mask = Filters(ITEMS), mask_of(0, 9)
    assert filters.of(mask[:8]).rows.tolist() == [1]
    assert filters.of(mask).rows.tolist() == [1, 4]
    assert filters.of(mask[:8]) is filters.of(mask[:8])
    assert filters.of(mask[1:]).rows.tolist() == [], "a later part is not a beginning: items 8 and 10 of it are none"
    assert len(filters) == 2


def test_a_mask_that_can_be_written_is_read_each_time():
    filters, mask = Filters(ITEMS), mask_of(0, frozen=False)
    assert filters.of(mask).rows.tolist() == [1]
    mask[2] = True
    assert filters.of(mask).rows.tolist() == [1, 3]
    view = mask[:]
    view.flags.writeable = False
    assert filters.of(view).rows.tolist() == [1, 3]
    mask[2] = False
    assert filters.of(view).rows.tolist() == [1], "read-only itself, but a view of what can be written"
    assert len(filters) == 0


def test_a_mask_that_nobody_holds_is_forgotten():
    filters, mask = Filters(ITEMS), mask_of(0)
    filters.of(mask)
    filters.of(mask[:3])
    del mask
    assert len(filters) == 0


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("share", [0.9, 0.3, 0.05])
def test_a_remembered_mask_answers_as_one_that_is_not(kind, share):
    rng = np.random.default_rng(5)
    space = Space(rng.permutation(3000)[:2500].astype(np.int32), rng.standard_normal((2500, 8)).astype(np.float32))
    index = build(space, kind)
    allowed = rng.random(3000) < share
    expected = Exact(space).search(space.vectors[:7], 20, allowed)
    frozen = allowed.copy()
    frozen.flags.writeable = False
    for mask in (allowed, frozen, frozen):
        for ours, theirs in zip(index.search(space.vectors[:7], 20, mask), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
