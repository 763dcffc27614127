"""What filters leave of a space, worked out once for masks that are asked with again and again."""

from __future__ import annotations

import weakref
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Items


class Filtered:
    """The rows of a space that a mask over item numbers allows.

    Attributes:
        bits: one bit for each row, the lowest first; n_allowed: how many are set.
    """

    def __init__(self, items: Items, allowed: NDArray[np.bool_]) -> None:
        mask = rows_allowed(items, allowed)
        self._n = len(mask)
        self.n_allowed = int(np.count_nonzero(mask))
        self.bits = np.packbits(mask, bitorder="little")  # an eighth of the mask, which may be thrown away

    def mask(self) -> NDArray[np.bool_]:
        """(n,) bool by row."""
        return np.unpackbits(self.bits, count=self._n, bitorder="little").view(np.bool_)

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        """(n_allowed,) numbers of rows, ascending."""
        return np.flatnonzero(self.mask())


class Filters:
    """The masks that a space was asked with.

    Only a mask that cannot be written is remembered, and no longer than somebody else holds it.
    """

    def __init__(self, items: Items) -> None:
        self._items = items
        self._known: dict[tuple[int, int], tuple[weakref.ref[NDArray[np.bool_]], Filtered]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, allowed: NDArray[np.bool_]) -> Filtered:
        """What a mask over item numbers, (n_items,) bool, leaves of the space."""
        owner = _owner(allowed)
        if owner is None:
            return Filtered(self._items, allowed)
        key = (id(owner), len(allowed))
        known = self._known.get(key)
        if known is not None and known[0]() is owner:
            return known[1]
        filtered, known_now = Filtered(self._items, allowed), self._known
        known_now[key] = weakref.ref(owner, lambda _: known_now.pop(key, None)), filtered
        return filtered


def rows_allowed(items: Items, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) bool: the rows of a space that a mask over item numbers allows; numbers beyond the mask are not."""
    if len(items) == 0 or len(allowed) == 0:
        return np.zeros(len(items), np.bool_)
    return allowed[np.minimum(items, len(allowed) - 1)] & (items < len(allowed))


def _owner(allowed: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The array that a mask is, or is the beginning of; None where somebody could write it."""
    owner = allowed if allowed.base is None else allowed.base
    if not isinstance(owner, np.ndarray) or owner.flags.writeable or not allowed.flags.c_contiguous:
        return None
    same_start = allowed is owner or allowed.__array_interface__["data"] == owner.__array_interface__["data"]
    return owner if same_start else None
