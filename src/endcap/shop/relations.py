"""Tables of what is linked with what: one row a link, (item, other, relation), ids and a name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from endcap.errors import InputError
from endcap.shop.vocabulary import UNKNOWN, Vocabulary

RELATION_COLUMNS = ("item", "other", "relation")
COMPLEMENTS = ("also_bought", "complement")
SUBSTITUTES = ("also_viewed", "substitute")


class Relations(NamedTuple):
    """The links of a table, in its order.

    Attributes:
        item, other: (rows,) int64 numbers, -1 for ids that are unknown; name: (rows,) what the relation is called.
    """

    item: NDArray[np.int64]
    other: NDArray[np.int64]
    name: pa.ChunkedArray

    @classmethod
    def read(cls, table: pa.Table, items: Vocabulary) -> Self:
        """
        Raises:
            InputError: if a column is missing, or holds neither text nor whole numbers.
        """
        missing = [name for name in RELATION_COLUMNS if name not in table.column_names]
        if missing:
            raise InputError(f"relations: no column {missing[0]!r}; the table needs {', '.join(RELATION_COLUMNS)}")
        try:
            item, other, name = (table[column].cast(pa.string()) for column in RELATION_COLUMNS)
        except pa.ArrowException as error:
            raise InputError(f"relations: ids and names must be text or whole numbers ({error})") from None
        one, another = (
            pc.fill_null(pc.index_in(ids, value_set=items.ids), UNKNOWN).to_numpy().astype(np.int64)
            for ids in (item, other)
        )
        return cls(one, another, name)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(rows,) whether both items are."""
        return (self.item >= 0) & (self.other >= 0)

    def named(self, names: Iterable[str]) -> NDArray[np.bool_]:
        """(rows,) whether a relation is called by one of these names."""
        found = pc.is_in(self.name, value_set=pa.array(list(names), pa.string()))
        return pc.fill_null(found, False).to_numpy().astype(bool)
