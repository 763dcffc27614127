"""What an evaluation found: figures with counts and intervals, paired differences, tables; as text and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from endcap.artefact import write_atomically
from endcap.metrics import Interval

Figures = dict[str, dict[str, Interval]]
"""model -> metric -> figure"""

NO_SHARES = {"novelty", "within", "across", "difference", "interest_spread"}  # the others are shown in per cent


@dataclass(frozen=True)
class Difference:
    """Model a minus model b on the same cases, with its 95 % interval."""

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Report:
    """The outcome of one protocol.

    Attributes:
        data: what was measured on; models: model -> metric -> figure; paired: every two models on every metric.
        headline: the metric that says who is best; shown: metrics to print, table by table.
        pairs: "click:cart" -> figures, where asked for; segments: segment -> group -> figures; taxonomy: model ->
            space -> mean cosine of items `within` one category and `across` categories.
    """

    protocol: str
    data: dict[str, Any]
    models: Figures
    paired: list[Difference]
    headline: str
    shown: Sequence[Sequence[str]]
    pairs: dict[str, Figures] = field(default_factory=dict)
    segments: dict[str, dict[str, Figures]] = field(default_factory=dict)
    taxonomy: dict[str, Figures] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The shape that scripts rely on; what cannot be known is null. Tables not asked for are left out."""
        answer: dict[str, Any] = {
            "protocol": self.protocol,
            "data": self.data,
            "models": _plain(self.models),
            "paired": [{key: _number(value) for key, value in asdict(row).items()} for row in self.paired],
        }
        for name in ("pairs", "segments", "taxonomy"):
            if table := getattr(self, name):
                answer[name] = _plain(table)
        return answer

    def save(self, path: str | Path) -> None:
        """Write `to_dict` as JSON, whole or not at all."""
        write_atomically(Path(path), json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")

    def best(self) -> str:
        """The model with the highest headline figure."""
        return max(self.models, key=lambda name: _or_least(self.models[name][self.headline].value))

    def print(self, console: Console | None = None) -> None:
        """Tables with intervals, the best in bold, and what the differences allow to say."""
        console = console or Console()
        if not console.is_terminal:
            console = Console(file=console.file, width=160)
        console.print(f"{self.protocol} on {self._data_line()}", highlight=False)
        for metrics in self.shown:
            console.print(_table("", self.models, metrics))
        for line in self._difference_lines():
            console.print(line, highlight=False)
        if self.pairs:
            console.print(_pairs_table(self.pairs, self.headline))
        for segment, groups in self.segments.items():
            console.print(_segment_table(segment, groups))
        for model, spaces in self.taxonomy.items():
            console.print(_table(f"mean cosine, {model}", spaces, ["within", "across", "difference"], best=False))

    def _data_line(self) -> str:
        return ", ".join(
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in self.data.items()
        )

    def _difference_lines(self) -> Iterable[str]:
        best = self.best()
        for row in self.paired:
            if row.metric != self.headline or best not in (row.a, row.b):
                continue
            other, sign = (row.b, 1) if row.a == best else (row.a, -1)
            low, high = sorted((sign * row.low, sign * row.high))
            verdict = "" if row.is_clear else "  the interval covers 0: no difference is shown"
            yield (
                f"{row.metric}: {best} - {other} = {100 * sign * row.difference:+.2f} points "
                f"[{100 * low:+.2f}, {100 * high:+.2f}]{verdict}"
            )


def _table(
    title: str, figures: Mapping[str, Mapping[str, Interval]], metrics: Sequence[str], best: bool = True
) -> Table:
    table = Table(title=title or None, title_justify="left")
    table.add_column("model")
    for metric in metrics:
        counts = {row[metric].n for row in figures.values() if metric in row}
        header = metric.replace("_", " ")
        table.add_column(f"{header}\nn={counts.pop():,}" if len(counts) == 1 else header, justify="right")
    highest = {m: max((_or_least(row[m].value) for row in figures.values() if m in row), default=0) for m in metrics}
    for name, row in figures.items():
        cells = (_cell(m, row.get(m), bold=best and m in row and row[m].value == highest[m]) for m in metrics)
        table.add_row(name, *cells)
    return table


def _pairs_table(pairs: Mapping[str, Figures], metric: str) -> Table:
    """One metric of every model for every source:want."""
    columns = {pair.replace(":", " -> "): figures for pair, figures in pairs.items()}
    models = next(iter(columns.values()))
    by_model = {name: {pair: figures[name][metric] for pair, figures in columns.items()} for name in models}
    return _table(f"{metric} by source -> want", by_model, list(columns))


def _segment_table(segment: str, groups: Mapping[str, Figures]) -> Table:
    """One metric of every model, the only one there, for every group."""
    models = next(iter(groups.values()))
    metric = next(iter(next(iter(models.values()))))
    table = Table(title=f"{metric} by {segment}", title_justify="left")
    table.add_column(segment)
    table.add_column("n", justify="right")
    for name in models:
        table.add_column(name, justify="right")
    for group, figures in groups.items():
        n = max(figures[name][metric].n for name in models)
        table.add_row(group, f"{n:,}", *(_cell(metric, figures[name][metric]) for name in models))
    return table


def _cell(metric: str, figure: Interval | None, bold: bool = False) -> str:
    if figure is None or math.isnan(figure.value):
        return "-"
    scale = 1 if metric.partition("@")[0] in NO_SHARES else 100
    text = f"{scale * figure.value:.2f}"
    if figure.low < figure.high:
        text += f" \\[{scale * figure.low:.2f}, {scale * figure.high:.2f}]"
    return f"[bold]{text}[/bold]" if bold else text


def _plain(table: Any) -> Any:
    if isinstance(table, Interval):
        return {key: _number(value) for key, value in table._asdict().items()}
    return {key: _plain(value) for key, value in table.items()}


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value
