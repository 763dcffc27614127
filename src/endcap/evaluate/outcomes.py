"""Outcomes of all models on the same cases, and the figures, intervals and paired differences that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from endcap.errors import InputError
from endcap.evaluate.report import Difference, Figures
from endcap.metrics import interval_of, percentiles, resampled_means

MOST_SAMPLED = 4_000


class Cases(NamedTuple):
    """What a protocol's cases are about, for segments.

    Attributes:
        domain, metric: the outcomes to look at; item, user, interaction: (n,) targets, people, what they did;
        known: (n,) how many actions of the person a model knows of.
    """

    domain: str
    metric: str
    item: NDArray[np.int32]
    user: NDArray[np.int32]
    interaction: NDArray[np.int8]
    known: NDArray[np.integer]


@dataclass
class Domain:
    """Cases of one kind (targets, sessions, queries ...).

    Attributes:
        groups: (n,) the person each case belongs to; values: (model, metric) -> (n,) float or bool.
    """

    groups: NDArray[np.integer]
    values: dict[tuple[str, str], NDArray] = field(default_factory=dict)

    def where(self, mask: NDArray[np.bool_], metric: str) -> Domain:
        """Some of the cases, one metric."""
        return Domain(self.groups[mask], {key: v[mask] for key, v in self.values.items() if key[1] == metric})


class Outcomes:
    """All domains of a protocol by name."""

    def __init__(self, **groups: NDArray[np.integer]) -> None:
        self.domains = {name: Domain(groups_of) for name, groups_of in groups.items()}

    def add(self, domain: str, model: str, metric: str, values: NDArray) -> None:
        """values (n,) of the cases of a domain; NaN where a case says nothing."""
        self.domains[domain].values[model, metric] = values

    def summary(self, *, seed: int, n_resamples: int = 1000) -> tuple[Figures, list[Difference]]:
        """Figures of every model, and the paired difference of every two on every metric."""
        figures: Figures = {}
        paired: list[Difference] = []
        for domain in self.domains.values():
            found, differences = summarise(domain, seed=seed, n_resamples=n_resamples)
            for model, metrics in found.items():
                figures.setdefault(model, {}).update(metrics)
            paired += differences
        return figures, paired

    def by_group(
        self, domain: str, metric: str, labels: NDArray[np.integer], names: dict[int, str], *, seed: int
    ) -> dict[str, Figures]:
        """Figures of one metric for the cases of each label."""
        cases = self.domains[domain]
        return {
            name: summarise(cases.where(labels == label, metric), seed=seed, paired=False)[0]
            for label, name in names.items()
            if (labels == label).any()
        }


def summarise(
    domain: Domain, *, seed: int, n_resamples: int = 1000, paired: bool = True
) -> tuple[Figures, list[Difference]]:
    """Figures and paired differences of one domain."""
    keys = list(domain.values)
    columns = list(domain.values.values())
    means = resampled_means(columns, domain.groups, n_resamples=n_resamples, seed=seed)
    n_groups = len(np.unique(domain.groups))
    figures: Figures = {}
    for place, (model, metric) in enumerate(keys):
        figures.setdefault(model, {})[metric] = interval_of(columns[place], means[:, place], n_groups)
    differences = []
    place_of = {key: place for place, key in enumerate(keys)}
    for a, b in combinations(figures, 2) if paired else ():
        for metric in (metric for metric in figures[a] if metric in figures[b]):
            low, high = percentiles(means[:, place_of[a, metric]] - means[:, place_of[b, metric]], n_groups)
            difference = figures[a][metric].value - figures[b][metric].value
            differences.append(Difference(a, b, metric, difference, low, high))
    return figures, differences


def chance(seed: int) -> np.random.Generator:
    """The random numbers of a seed.

    Raises:
        InputError: if it is none.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed={seed!r}: a whole number from 0 on is needed")
    return np.random.default_rng(seed)


def sample(rows: NDArray, rng: np.random.Generator, at_most: int | None = None) -> NDArray:
    """At most so many of the rows, drawn by chance, in order; by default enough for a share with a narrow interval."""
    at_most = MOST_SAMPLED if at_most is None else at_most
    if len(rows) <= at_most:
        return rows
    return np.sort(rng.choice(rows, at_most, replace=False))
