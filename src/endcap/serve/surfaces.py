"""surfaces.toml: the places in a shop where recommendations stand, and what each of them shows."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from endcap.errors import InputError
from endcap.serve.questions import CROSS_SELL, MAX_K
from endcap.serve.rules import Rules
from endcap.settings import make_settings, read_toml
from endcap.shop import Interactions

Fallback = Literal["other-type", "seller", "category", "category-pair", "popular"]
FALLBACKS: tuple[Fallback, ...] = ("other-type", "seller", "category", "popular")


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model that a surface asks, and how.

    Attributes:
        model: its name in the release; the release's first model where it is not given.
        seen_as, want: interactions, for requests that do not say.
        budget: how many of its candidates are looked at where lists are merged or boosted, and at most where capped.
    """

    model: str | None = None
    seen_as: str | None = None
    want: str | None = None
    budget: Annotated[int, Meta(ge=1, le=2000)] = 200


class Surface(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one surface shows.

    Attributes:
        sources: models to ask; where none is given those of `systems`, else all of the release, in its order.
        merge: `in-order`, a source fills what those before it left open; `interleave`, one item of each in turn.
        ranker: a ranker of the release, which puts what the sources name in one order; `merge` plays no part then.
        rules: see `Rules`; fallback: steps that fill a list that stayed short, in order.
        k: items, where a request does not say; new_items: places for items announced since the release in the
            category that is looked at (at most a fifth of the list).
        systems: names of systems, whose models are asked where the release has any; goes_with: nothing that stands in
            the place of what is asked about: what a model tells to be a rival, whoever names it, and of fallbacks
            nothing of its own category where no model can tell; when_stale: systems, of which the first that the
            release has takes turns with the sources once it is stale.
    """

    sources: tuple[Source, ...] = ()
    merge: Literal["in-order", "interleave"] = "in-order"
    ranker: str | None = None
    rules: Rules = Rules()
    fallback: tuple[Fallback, ...] = FALLBACKS
    k: Annotated[int, Meta(ge=1, le=MAX_K)] = 10
    new_items: Annotated[int, Meta(ge=0, le=100)] = 1
    systems: tuple[str, ...] = ()
    goes_with: bool = False
    when_stale: tuple[str, ...] = ()


DEFAULT_SURFACES: Mapping[str, Surface] = {
    "item-page": Surface(),
    "cart-page": Surface(),
    "home": Surface(rules=Rules(not_bought=True)),
    CROSS_SELL: Surface(
        systems=("cross-sell",),
        goes_with=True,
        when_stale=("co-purchase", "co-occurrence", "random-walk"),
        fallback=("category-pair", "popular"),
        new_items=0,  # what is new in the category that is looked at is a rival
    ),
}


def read_surfaces(path: Path | None) -> dict[str, Surface]:
    """The default surfaces, with those of a surfaces.toml over them.

    Raises:
        InputError: if the file cannot be read, or holds an unknown key or a value out of range.
    """
    if path is None:
        return dict(DEFAULT_SURFACES)
    values = read_toml(path, str(path))
    declared = values.pop("surface", {})
    if values or not isinstance(declared, dict):
        raise InputError(
            f"{path}: only tables named [surface.NAME] belong here, found {', '.join(values) or 'surface'}"
        )
    return {
        **DEFAULT_SURFACES,
        **{name: _surface(value, f"{path}: [surface.{name}]") for name, value in declared.items()},
    }


def check_surfaces(
    surfaces: Mapping[str, Surface],
    models: Collection[str],
    interactions: Interactions,
    rankers: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Compare surfaces with a release.

    Args:
        models: names of those that give candidates; rankers: name -> names of the models that it was fitted on.

    Raises:
        InputError: for a model, ranker or interaction that the release does not have, or a ranker of other sources.
    """
    rankers = rankers or {}
    for name, surface in surfaces.items():
        if surface.ranker is not None:
            _check_ranker(name, surface, models, rankers)
        for source in surface.sources:
            if source.model in rankers:
                raise InputError(
                    f'surface {name!r}: {source.model!r} is a ranker and names nothing; write ranker = "{source.model}"'
                )
            if source.model is not None and source.model not in models:
                hint = _nearest(source.model, models)
                raise InputError(f"surface {name!r}: the release has no model {source.model!r}; {hint}")
            for interaction in (source.seen_as, source.want):
                if interaction is not None and interaction not in interactions.names:
                    hint = _nearest(interaction, interactions.names)
                    raise InputError(f"surface {name!r}: unknown interaction {interaction!r}; {hint}")


def _check_ranker(name: str, surface: Surface, models: Collection[str], rankers: Mapping[str, Collection[str]]) -> None:
    """A ranker gets the candidates of just those models that it was fitted on."""
    ranker = surface.ranker or ""
    if ranker not in rankers:
        hint = _nearest(ranker, rankers) if rankers else "none was published with it"
        raise InputError(f"surface {name!r}: the release has no ranker {ranker!r}; {hint}")
    given = [source.model or next(iter(models)) for source in surface.sources] or list(models)
    fitted = f"surface {name!r}: the ranker {ranker!r} was fitted on {', '.join(rankers[ranker])}"
    if missing := [source for source in rankers[ranker] if source not in given]:
        raise InputError(f'{fitted}; {missing[0]!r} is none of the sources here: add {{model = "{missing[0]}"}}')
    if other := [source for source in given if source not in rankers[ranker]]:
        raise InputError(f"{fitted}; not on {other[0]!r}: take it from the sources, or train a ranker with it")
    if len(set(given)) < len(given):
        raise InputError(f"{fitted}; a source can stand here only once")


def _surface(values: Any, where: str) -> Surface:
    if not isinstance(values, dict):
        raise InputError(f"{where}: a table is needed here")
    sources, rules = values.get("sources", []), values.get("rules", {})
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        raise InputError(f'{where} sources: a list of tables is needed, as in [{{model = "ii", want = "cart"}}]')
    if not isinstance(rules, dict):
        raise InputError(f"{where} rules: a table is needed, as in {{in_stock = true}}")
    checked = {
        **values,
        "sources": [make_settings(Source, source, where=f"{where} sources") for source in sources],
        "rules": make_settings(Rules, rules, where=f"{where} rules"),
    }
    return make_settings(Surface, checked, where=where)


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
