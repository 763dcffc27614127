"""The ladders' rungs are what they say, and a difference is that to the rung below."""

from __future__ import annotations

from itertools import pairwise

import pytest

import cross_sell_ladders
from endcap import models
from endcap.evaluate.report import Difference, Report


def test_every_rung_can_be_made_and_differs_from_the_one_below() -> None:
    made = {row: models.create(system, settings).config for row, (system, settings) in cross_sell_ladders.ROWS.items()}
    for ladder in cross_sell_ladders.LADDERS:
        assert set(ladder) <= set(made)
        for below, row in pairwise(ladder):
            assert made[row] != made[below]
    assert set(made) == {row for ladder in cross_sell_ladders.LADDERS for row in ladder}
    assert made["homogeneous"].typed == frozenset()
    assert not made["+ user"].browses
    assert made["+ browse"].browses
    assert not made["+ occasion"].directed
    assert made["+ temporal"].next_weight == 0.5


def test_a_difference_is_told_from_whichever_side_it_was_taken() -> None:
    paired = [Difference("rules", "sage", "hit_rate@10", -0.02, -0.03, -0.01)]
    report = Report("cross-sell", {}, {}, paired, "hit_rate@10", [])
    told = "+0.0200 [+0.0100, +0.0300]"
    assert cross_sell_ladders._difference(report, "sage", "rules", "hit_rate@10") == told
    assert cross_sell_ladders._difference(report, "rules", "sage", "hit_rate@10") == "-0.0200 [-0.0300, -0.0100]"
    with pytest.raises(ValueError, match="were not compared"):
        cross_sell_ladders._difference(report, "rules", "gat", "hit_rate@10")
