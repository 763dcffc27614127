"""Links between items that somebody vouches for, from a file into a system that learns from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from endcap.errors import InputError
from endcap.shop.relations import RELATION_COLUMNS


def read_relations(path: Path, where: str) -> pa.Table:
    """Rows of item, other and relation, as text, of a Parquet or CSV file; `where` names it in an error.

    Raises:
        InputError: if the file cannot be read, or lacks a column or a value.
    """
    text = {name: pa.string() for name in RELATION_COLUMNS}
    try:
        if path.name.endswith((".csv", ".csv.gz")):
            options = csv.ConvertOptions(column_types=text, null_values=[""], strings_can_be_null=True)
            table = csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path)
        if missing := [name for name in RELATION_COLUMNS if name not in table.column_names]:
            found = ", ".join(table.column_names)
            raise InputError(f"{where} {path}: there is no column {missing[0]!r}; it has {found}")
        table = table.select(RELATION_COLUMNS).cast(pa.schema(list(text.items())))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{where} {path}: a Parquet or CSV file is needed ({error})") from None
    for name in RELATION_COLUMNS:
        if table[name].null_count:
            row = table[name].is_null().index(True).as_py()
            raise InputError(f"{where} {path}: row {row + 1} has no {name}")
    return table


def give_relations(model: Any, table: pa.Table, where: str) -> None:
    """Let a system that is to be trained know them.

    Raises:
        InputError: for a system that takes none.
    """
    if not hasattr(model, "with_relations"):
        raise InputError(f"{where}: {model.system} learns from the log alone; cross-sell takes links")
    model.with_relations(table)
