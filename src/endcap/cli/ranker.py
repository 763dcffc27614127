"""`train ranker`: a second pass over named systems. A part of the verb `train`, in cli/models.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from endcap.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from endcap.shop import Shop

STRETCH = "7d"


def train_ranker(
    view: Shop,
    out: Path,
    sources: str | None,
    *,
    fit: str | None,
    validation: str | None,
    relations: pa.Table | None,
    settings: dict[str, Any],
    seed: int,
    threads: int,
) -> None:
    """Train sources and a ranker, print how it compares, save the ranker; the last line is its folder."""
    import time

    from endcap.jobs import rank

    named = _sources(sources)
    own, of_sources = _split_settings(settings, named)
    begun = time.monotonic()
    trained = rank.train_ranker(
        view,
        named,
        fit=fit or STRETCH,
        validation=validation or STRETCH,
        settings=own,
        source_settings=of_sources,
        relations=relations,
        seed=seed,
        threads=threads,
        show=True,
    )
    trained.ranker.save(out)
    trained.report.print()
    learned = trained.ranker.learned
    typer.echo(trained.verdict())
    typer.echo(
        f"ranker: {learned['trees']} trees from {learned['groups']:,} requests and {learned['rows']:,} candidates; "
        f"trained in {time.monotonic() - begun:.1f} s"
    )
    typer.echo(str(out))


def _sources(text: str | None) -> dict[str, str]:
    """`A,B` or `NAME=A,NAME=B`: systems or model folders by name."""
    given = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not given:
        raise InputError("train ranker: name its sources, as in --sources item-knn,co-occurrence")
    pairs = [(name, system) if equals else (name, name) for name, equals, system in (it.partition("=") for it in given)]
    if len(dict(pairs)) < len(pairs):
        raise InputError(f"--sources {text}: give every source a name of its own, as in one=als,two=als")
    return dict(pairs)


def _split_settings(settings: dict[str, Any], sources: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ranker's own settings, and by source those written `source.key=value`, in a TOML file as tables."""
    own: dict[str, Any] = {}
    of_sources: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        name, dot, setting = key.rpartition(".")
        if dot and name in sources:
            of_sources.setdefault(name, {})[setting] = value
        elif isinstance(value, dict):
            of_sources.setdefault(key, {}).update(value)
        else:
            own[key] = value
    return own, of_sources
