"""Taxonomy check: are the vectors of one category's items nearer to each other than those of different ones?

Table 2 of the item-interaction paper. A high figure within tells that vectors know substitutes; the smaller the
difference to the figure across, the more of what they know cannot be read off the category tree.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Indexed, Space
from endcap.metrics import Interval, bootstrap_mean

PAIRS = 20_000


def taxonomy_cosines(model: Indexed, category: NDArray[np.int32], *, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """space -> {within, across, difference}: mean cosines of random pairs of items; small spaces are left out.

    Args:
        category: (n_items,) the number of each item's leaf category, -1 where unknown.
    """
    answer = {}
    for name, space in model.spaces().items():
        found = _cosines(space, category, np.random.default_rng(seed))
        if found is not None:
            within, across = found
            answer[name] = {
                "within": bootstrap_mean(within, np.arange(len(within)), seed=seed),
                "across": bootstrap_mean(across, np.arange(len(across)), seed=seed),
                "difference": bootstrap_mean(within - across, np.arange(len(within)), seed=seed),
            }
    return answer


def _cosines(
    space: Space, category: NDArray[np.int32], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Cosines of PAIRS pairs within a category and of as many pairs across, with the same first items."""
    rows = np.flatnonzero(category[space.items] >= 0)
    order = rows[np.argsort(category[space.items[rows]], kind="stable")]
    leaf = category[space.items[order]]
    begin, end = np.searchsorted(leaf, leaf), np.searchsorted(leaf, leaf, side="right")
    paired = np.flatnonzero(end - begin > 1)
    if len(paired) == 0 or end[paired[0]] - begin[paired[0]] == len(leaf):
        return None
    a = rng.choice(paired, PAIRS)
    same = begin[a] + rng.integers(0, end[a] - begin[a] - 1)
    same += same >= a
    outside = rng.integers(0, len(leaf) - (end[a] - begin[a]))
    other = outside + np.where(outside >= begin[a], end[a] - begin[a], 0)
    vectors = [space.vectors[order[place]].astype(np.float64) for place in (a, same, other)]
    centre, near, far = (v / np.maximum(np.linalg.norm(v, axis=1, keepdims=True), 1e-12) for v in vectors)
    return (centre * near).sum(axis=1), (centre * far).sum(axis=1)
