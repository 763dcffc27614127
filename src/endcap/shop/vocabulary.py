"""External ids (strings) to dense int32 numbers and back. Append-only: a number never changes its meaning."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

UNKNOWN = -1
AT_ONCE = 4096  # ids turned into strings: other threads, such as a server that answers, wait for as long
FORGOTTEN = "\x1a"  # begins what stands in place of a forgotten id; no id that comes in may hold this character


def tombstone(number: int) -> str:
    """What stands in place of a forgotten id: the number stays taken, and no question or event can name it."""
    return f"{FORGOTTEN}forgotten {number}"


def count_known(ids: pa.Array | pa.ChunkedArray) -> int:
    """How many ids are not tombstones."""
    return len(ids) - (pc.sum(pc.starts_with(ids, FORGOTTEN)).as_py() or 0)


class Vocabulary:
    """An ordered list of distinct ids. `vocabulary[7]` is the id of number 7."""

    def __init__(self, ids: pa.Array | pa.ChunkedArray | Sequence[str]) -> None:
        if isinstance(ids, pa.ChunkedArray):
            ids = ids.combine_chunks()
        self.ids: pa.Array = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.string())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> str:
        if number < 0:
            raise IndexError("-1 stands for an unknown id and has no name")
        return self.ids[int(number)].as_py()

    def __contains__(self, external: object) -> bool:
        return external in self._number_of

    @cached_property
    def _number_of(self) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for start in range(0, len(self), AT_ONCE):
            externals = self.ids.slice(start, AT_ONCE).to_pylist()
            numbers.update(zip(externals, range(start, start + len(externals)), strict=True))
        return numbers

    def number(self, external: str) -> int:
        """The number of one id, or -1."""
        return self._number_of.get(external, UNKNOWN)

    def encode(self, externals: Iterable[str]) -> NDArray[np.int32]:
        """Ids to numbers, -1 for unknown ones."""
        get = self._number_of.get
        return np.fromiter((get(external, UNKNOWN) for external in externals), np.int32)

    def decode(self, numbers: NDArray[np.integer]) -> list[str]:
        """Numbers (none of them -1) to ids."""
        return self.ids.take(pa.array(numbers)).to_pylist()

    def prefix(self, n: int) -> Vocabulary:
        """The first n ids."""
        return Vocabulary(self.ids.slice(0, n))

    def fingerprint(self, n: int | None = None) -> str:
        """SHA-256 over the first n ids: equal fingerprints mean the same numbers for the same ids."""
        digest = hashlib.sha256()
        for external in (self.ids if n is None else self.ids.slice(0, n)).to_pylist():
            digest.update(external.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()
