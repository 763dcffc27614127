"""What a system says about its settings to whoever searches for better ones: the vocabulary, and nothing of the search.

A system declares in its own file which settings are worth a search, and where. Cost counts: a tuning has minutes, so a
range should not hold settings that take many times as long as the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; whole ones if both ends are. log: by ratios, low above 0."""

    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, init=False)
class OneOf:
    """One of a few values."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def holds(self, value: Any) -> bool:
        return value in self.values

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def __str__(self) -> str:
        return " | ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in self.values)


SearchSpace = Mapping[str, Range | OneOf]
"""setting -> where to look for a better value."""
