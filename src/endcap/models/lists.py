"""Related items kept as lists by row, and what every list has to keep: pads at the end, never the item itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items, Scores


@dataclass(frozen=True, eq=False)
class Lists:
    """Related items by row, best first: row r is items[offsets[r]:offsets[r + 1]], with scores beside them."""

    offsets: NDArray[np.int64]
    items: Items
    scores: Scores

    def gather(self, rows: NDArray[np.integer], k: int, allowed: NDArray[np.bool_] | None) -> tuple[Items, Scores]:
        """The first k allowed items of each row (n,), padded to (n, k); row -1 is empty."""
        found = np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), -np.inf, np.float32)
        if allowed is None:
            allowed = np.empty(0, np.bool_)
            _gather(self.offsets, self.items, self.scores, rows, allowed, False, *found)
        else:
            _gather(self.offsets, self.items, self.scores, rows, allowed, True, *found)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {"offsets": self.offsets, "items": self.items, "scores": self.scores}

    @classmethod
    def of_blocks(cls, blocks: Iterator[tuple[NDArray, NDArray, NDArray]]) -> Lists:
        """Join blocks of (lengths of rows, items, scores)."""
        lengths, items, scores = zip(*blocks, strict=True)
        offsets = np.append(0, np.cumsum(np.concatenate(lengths)))
        return cls(
            offsets.astype(np.int64), np.concatenate(items).astype(np.int32), np.concatenate(scores).astype(np.float32)
        )


@numba.njit(nogil=True, cache=True)
def _gather(offsets, items, scores, rows, allowed, filtered, found_items, found_scores):  # type: ignore[no-untyped-def]
    k = found_items.shape[1]
    for query in range(len(rows)):
        row = rows[query]
        if row < 0:
            continue
        filled = 0
        for place in range(offsets[row], offsets[row + 1]):
            if filled == k:
                break
            if filtered and not allowed[items[place]]:
                continue
            found_items[query, filled] = items[place]
            found_scores[query, filled] = scores[place]
            filled += 1


def without_own(own: Items, items: Items, scores: Scores) -> tuple[Items, Scores]:
    """Lists (n, k) out of lists (n, k + 1): the item of `own` (n,) taken out, or else the last."""
    is_own = items == own[:, None]
    place = np.where(is_own.any(axis=1), is_own.argmax(axis=1), items.shape[1] - 1)[:, None]
    columns = np.arange(items.shape[1] - 1)
    columns = columns + (columns >= place)
    return np.take_along_axis(items, columns, axis=1), np.take_along_axis(scores, columns, axis=1)
