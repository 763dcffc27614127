"""What stands in the place of what is asked about: by the word of a model that can tell, else by category."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from endcap.answers import Items, Request, TellsRivals
from endcap.serve.catalogue import LiveCatalogue, Mask

OnError = Callable[[Exception], None]


class Rivals:
    """Keeps rivals away from lists of what goes with something, whoever names the items.

    A model's word counts for the items that it knows. Of others, and where no model can tell, what shares its category
    with something that is asked about is held for a rival, if the shop has categories.

    Args:
        asked: numbers of the items that are asked about; told_by: who tells, with the question as it is put to it.
    """

    def __init__(self, catalogue: LiveCatalogue, asked: Collection[int], told_by: Teller | None) -> None:
        self._catalogue, self._told_by = catalogue, told_by
        codes = catalogue.category.codes[[item for item in asked if item >= 0]]
        self._categories = np.unique(codes[codes >= 0])

    def among(self, items: Items, *, by_category: bool) -> Mask:
        """(n,): which of these are rivals; `by_category`: also where only the category tells."""
        rival = np.zeros(len(items), bool)
        open_ = np.ones(len(items), bool)
        if self._told_by is not None and (told := self._told_by.rivals(items)) is not None:
            rival, open_ = told
        if by_category and len(self._categories) and len(self._catalogue.category.names) > 1:
            rival |= open_ & np.isin(self._catalogue.category.codes[items], self._categories)
        return rival


class Teller(NamedTuple):
    """A model that tells rivals, the question, and how many items it knows; `failed` is told of its errors."""

    model: TellsRivals
    request: Request
    n_items: int
    failed: OnError

    def rivals(self, items: Items) -> tuple[Mask, Mask] | None:
        """Which of these (n,) are rivals, and of which it cannot tell; None where it can of none."""
        unknown = items >= self.n_items
        rival = np.zeros(len(items), bool)
        try:
            told = self.model.rivals(self.request, items[~unknown])
        except Exception as error:  # a list with a rival in it is better than none
            self.failed(error)
            return None
        if told is None:
            return None
        rival[~unknown] = told
        return rival, unknown
