"""The rows of candidates: some of them, in another order, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from endcap.answers import Candidates, Evidence, Ranking, Scores


def unexplained(found: Candidates) -> bool:
    """Whether a model has to be asked why."""
    return found.evidence is None or bool((found.evidence.because < 0).any())


def reordered(found: Candidates, scores: Scores, rows: NDArray[np.intp]) -> Candidates:
    """Some rows of an answer, in a new order and with new scores."""
    evidence = found.evidence
    if evidence is not None:
        together = None if evidence.together is None else evidence.together[rows]
        evidence = Evidence(evidence.because[rows], evidence.seen_as[rows], evidence.want[rows], together)
    parts = None if found.parts is None else {name: values[rows] for name, values in found.parts.items()}
    source = [found.source[row] for row in rows.tolist()]
    return Candidates(found.items[rows], scores[rows], source, evidence, parts, found.left_out)


def one_by_one(found: Candidates) -> Iterator[Candidates]:
    """Each row as an answer of its own."""
    return (reordered(found, found.scores, np.array([row])) for row in range(len(found)))


def in_turn(lists: Sequence[Candidates]) -> Iterator[Candidates]:
    """One row of each list in turn, the first list first."""
    for turn in zip_longest(*(one_by_one(found) for found in lists)):
        yield from (row for row in turn if row is not None)


def as_ranked(ranking: Ranking, lists: Sequence[Candidates]) -> Candidates:
    """A ranking as candidates: each item with the source and the evidence of the list that it stands highest in."""
    place: dict[int, tuple[Candidates, int]] = {}
    for row, turn in enumerate(zip_longest(*(found.items.tolist() for found in lists))):
        for found, item in zip(lists, turn, strict=True):
            if item is not None:
                place.setdefault(item, (found, row))
    at = [place[item] for item in ranking.items.tolist()]
    evidence = [
        (-1, -1, -1, 0.0)
        if (by := found.evidence) is None
        else (int(by.because[row]), int(by.seen_as[row]), int(by.want[row]), _together(by, row))
        for found, row in at
    ]
    because, seen_as, want, together = np.array(evidence, np.float64).reshape(-1, 4).T
    return Candidates(
        ranking.items,
        ranking.scores,
        [found.source[row] for found, row in at],
        Evidence(because.astype(np.int32), seen_as.astype(np.int8), want.astype(np.int8), together.astype(np.float32)),
        _parts_of(at),
    )


def _together(by: Evidence, row: int) -> float:
    return 0.0 if by.together is None else float(by.together[row])


def _parts_of(at: Sequence[tuple[Candidates, int]]) -> dict[str, Scores] | None:
    """The parts of rows of several lists; NaN where a list has none."""
    names = dict.fromkeys(name for found, _ in at for name in found.parts or ())
    nothing = np.float32(np.nan)
    return {
        name: np.array([(found.parts or {}).get(name, {row: nothing})[row] for found, row in at], np.float32)
        for name in names
    } or None
