"""Segments and the taxonomy table on planted answers."""

from __future__ import annotations

import numpy as np
import pytest

from endcap.answers import Space
from endcap.evaluate.segments import HISTORY_BOUNDS, bands, cold_items, counts_of, popularity_deciles
from endcap.evaluate.taxonomy import taxonomy_cosines

from .shops import shop_of


@pytest.fixture(scope="module")
def train() -> object:
    """Item n is clicked n + 1 times, n below 20, all by user u; v clicks item 0 once more."""
    rows = [("u", f"i{n:02}", "click", 100 * n + time) for n in range(20) for time in range(n + 1)]
    return shop_of(*rows, ("v", "i00", "click", 5_000))


def test_deciles_run_from_popular_to_rare_and_leave_cold_items_out(train: object) -> None:
    labels, names = popularity_deciles(train, np.array([19, 18, 17, 2, 1, 25], np.int32))
    assert labels.tolist() == [1, 1, 2, 9, 10, -1]
    assert list(names) == list(range(1, 11))


def test_cold_items_have_no_action_in_the_training_part(train: object) -> None:
    labels, names = cold_items(train, np.array([0, 19, 20, 400], np.int32))
    assert [names[label] for label in labels] == ["known", "known", "cold", "cold"]


def test_histories_are_counted_in_the_training_part(train: object) -> None:
    labels, names = bands(counts_of(train.positives.user, np.array([0, 1, 2], np.int32)), HISTORY_BOUNDS)
    assert [names[label] for label in labels] == ["100+", "1-4", "0"]


class Placed:
    """Vectors: items 0-3 point north, 4-7 east; item 8 has no category."""

    def spaces(self) -> dict[str, Space]:
        vectors = np.array([[0, 2]] * 4 + [[3, 0]] * 4 + [[-1, -1]], np.float32)
        return {"click": Space(np.arange(9, dtype=np.int32), vectors), "cart": Space(np.arange(4), vectors[:4])}


def test_taxonomy_of_planted_vectors() -> None:
    category = np.array([0] * 4 + [1] * 4 + [-1], np.int32)
    found = taxonomy_cosines(Placed(), category)
    assert set(found) == {"click"}  # all cart vectors lie in one category: there is no across
    assert found["click"]["within"].value == pytest.approx(1)
    assert found["click"]["across"].value == pytest.approx(0)
    assert found["click"]["difference"].value == pytest.approx(1)


def test_taxonomy_without_categories_is_empty() -> None:
    assert taxonomy_cosines(Placed(), np.full(9, -1, np.int32)) == {}
