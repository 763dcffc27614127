"""Both ways of training that the speed comparison counts foresee the same actions, and RecBole gets the same log."""

from __future__ import annotations

import pyarrow as pa
import pytest

import sequence_training
from endcap import Shop


@pytest.fixture
def shop() -> Shop:
    """Three people with 4, 3 and 2 actions."""
    rows = [(user, f"{user}{place}", place) for user, n in (("u", 4), ("v", 3), ("w", 2)) for place in range(n)]
    user, item, place = zip(*rows, strict=True)
    events = {"user": user, "item": item, "interaction": ["purchase"] * 9, "time": [10**15 + p * 10**6 for p in place]}
    return Shop.from_tables(pa.table(events))


@pytest.mark.parametrize(
    ("way", "rows"), [("one target a sequence, one negative", 5), ("every position, one negative", 3)]
)
def test_a_pass_of_ours_foresees_every_action_but_the_first_ones(shop, way, rows):
    found = sequence_training.ours(shop, sequence_training.OURS[way])
    assert found.targets == 6
    assert found.rows == rows  # one action is held out to validate on


def test_recbole_is_given_the_same_actions_in_the_same_order(shop, tmp_path):
    sequence_training.write_atomic_file(shop, tmp_path / "sequences")
    lines = (tmp_path / "sequences" / "sequences.inter").read_text().splitlines()
    assert lines[0] == "user_id:token\titem_id:token\ttimestamp:float"
    cells = [[int(cell) for cell in line.split("\t")] for line in lines[1:]]
    names = [(shop.users[user], shop.items[item], at) for user, item, at in cells]
    assert names == [(user, f"{user}{at}", at) for user, n in (("u", 4), ("v", 3), ("w", 2)) for at in range(n)]
