"""Tables of links: what is read, and what is refused in one line."""

from __future__ import annotations

import pyarrow as pa
import pytest

from endcap.errors import InputError
from endcap.shop import Vocabulary
from endcap.shop.relations import COMPLEMENTS, Relations

ITEMS = Vocabulary(["1", "2", "3"])


def test_ids_become_numbers_and_names_are_told_apart():
    table = pa.table({"item": [1, 2, None, 9], "other": [2, 3, 1, 1], "relation": ["complement", None, "x", "x"]})
    found = Relations.read(table, ITEMS)
    assert found.item.tolist() == [0, 1, -1, -1]
    assert found.other.tolist() == [1, 2, 0, 0]
    assert found.known.tolist() == [True, True, False, False]
    assert found.named(COMPLEMENTS).tolist() == [True, False, False, False]
    assert found.named([]).tolist() == [False] * 4


def test_an_empty_table_has_no_links():
    table = pa.table({name: pa.array([], pa.string()) for name in ("item", "other", "relation")})
    assert len(Relations.read(table, ITEMS).named(COMPLEMENTS)) == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"item": ["1"], "relation": ["x"]}, "no column 'other'; the table needs item, other, relation"),
        ({"item": [["1"]], "other": ["2"], "relation": ["x"]}, "must be text or whole numbers"),
    ],
)
def test_tables_that_are_none_are_refused_in_one_line(table, says):
    with pytest.raises(InputError, match=says) as refused:
        Relations.read(pa.table(table), ITEMS)
    assert "\n" not in str(refused.value)
