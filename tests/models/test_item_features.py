"""What a catalogue's texts are read by."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from endcap.models.item_features import FeatureReader

TITLES = ["red tent", "red stove", "blue lamp"]


def reader(least: int) -> FeatureReader:
    table = pa.table({"item": ["a", "b", "c"], "title": TITLES})
    return FeatureReader.of(
        table, text="ngrams", buckets=1 << 17, at_most=64, levels=3, ids=False, where="a test", least=least
    )


@pytest.mark.parametrize(("least", "described"), [(1, [True, True, True]), (2, [True, True, False]), (3, [False] * 3)])
def test_n_grams_of_too_few_titles_say_nothing(least, described):
    found = reader(least).read(pa.table({"title": TITLES}), own_ids=False)
    assert found.described.tolist() == described


def test_with_shared_n_grams_alone_a_new_title_reads_as_those_that_share_them():
    found = reader(2).read(pa.table({"title": ["red stove", "red lantern"]}), own_ids=False)
    begin, middle, end = found.text_offsets
    np.testing.assert_array_equal(found.text[begin:middle], found.text[middle:end])
    np.testing.assert_array_equal(found.text_weight[begin:middle], found.text_weight[middle:end])
