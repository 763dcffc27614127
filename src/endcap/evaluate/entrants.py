"""Who takes part: systems trained here on the training part, trained folders, fitted models. All are checked first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from endcap import models as systems
from endcap.errors import InputError
from endcap.models import Model
from endcap.shop import Shop

Contestant = str | Path | Any
"""A name of `endcap systems`, a model folder, or an object that answers questions (a fitted model, an oracle)."""
Contestants = Sequence[Contestant] | Mapping[str, Contestant]


@dataclass(frozen=True)
class Entrant:
    """A contestant that passed the checks: ready to answer, or a system to train with its settings."""

    name: str
    model: Any = None
    system: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def ready(self, train: Shop, *, seed: int, threads: int, show: bool) -> Any:
        """The model, trained on the training part if it was not before."""
        if self.model is not None:
            return self.model
        return systems.create(self.system, self.settings).fit(train, seed=seed, threads=threads, show=show)


def enter(
    contestants: Contestants,
    test: Shop,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    split_by_person: bool = False,
) -> list[Entrant]:
    """Check everyone before anything is trained.

    Args:
        settings: name of a contestant -> its settings, for those that are trained here.
        split_by_person: the test actions lie all over the log, so that `trained_until` says nothing about who has seen
            them: no folder takes part, and whoever gives a fitted model vouches for it.

    Raises:
        InputError: for an unknown name, a model that has seen the test part, or one of another shop.
    """
    named = contestants if isinstance(contestants, Mapping) else _by_name(contestants)
    if not named:
        raise InputError("name at least one model to evaluate; `endcap systems` lists those that can be trained")
    settings = settings or {}
    for name in settings:
        if name not in named:
            raise InputError(f"--set {name}.…: {name} does not take part; those who do: {', '.join(named)}")
    return [
        _entrant(name, contestant, test, settings.get(name, {}), split_by_person) for name, contestant in named.items()
    ]


def _by_name(contestants: Sequence[Contestant]) -> dict[str, Contestant]:
    named: dict[str, Contestant] = {}
    for contestant in contestants:
        if named.setdefault(_name(contestant), contestant) is not contestant:
            raise InputError(f"two models are called {_name(contestant)}: tell them apart by a mapping, name -> model")
    return named


def _name(contestant: Contestant) -> str:
    return str(contestant) if isinstance(contestant, str | Path) else getattr(contestant, "system", repr(contestant))


def _entrant(
    name: str, contestant: Contestant, test: Shop, settings: Mapping[str, Any], split_by_person: bool
) -> Entrant:
    if isinstance(contestant, str) and contestant in systems.SYSTEMS:
        systems.create(contestant, settings)  # so that a wrong setting is known before anything is trained
        return Entrant(name, system=contestant, settings=settings)
    if settings:
        raise InputError(f"--set {name}.…: only a system that is trained here has settings, {name} is trained already")
    if isinstance(contestant, str | Path):
        if not Path(contestant).exists():
            raise InputError(f"{contestant}: neither a system (`endcap systems` lists them) nor a model folder")
        contestant = systems.open(contestant)
        if split_by_person:
            raise InputError(
                f"{name}: the test actions of this protocol lie all over the log, so no trained folder can be shown "
                f"not to have seen them; give its system's name ({contestant.system}), to train it here without them"
            )
    check_is_fair(name, contestant, test, split_by_person)
    return Entrant(name, contestant)


def check_is_fair(name: str, model: Any, test: Shop, split_by_person: bool = False) -> None:
    """Refuse a model of another shop and one that has seen the test part; objects without an origin are trusted.

    Nothing shows what a model has seen of a test part `split_by_person`: there the caller is trusted.

    Raises:
        InputError: saying how to mend it.
    """
    origin = getattr(model, "origin", None)
    if origin is None:
        if isinstance(model, Model):
            raise InputError(f"{name}: not trained yet; call fit first, or give the name of its system")
        return
    origin.check_against(test.items, name)
    if origin.interactions.names != test.interactions.names:
        ours, theirs = ", ".join(test.interactions.names), ", ".join(origin.interactions.names)
        raise InputError(f"{name} was trained on another shop: its interactions are {theirs}, this shop's are {ours}")
    if split_by_person:
        return
    begin = int(test.events.time.min())
    if origin.trained_until > begin:
        raise InputError(
            f"{name} was trained until {_time(origin.trained_until)} and has seen the test part, which begins "
            f"{_time(begin)}: train it with --until {_time(begin)}, or give its system's name ({model.system})"
        )


def _time(microseconds: int) -> str:
    return f"{np.datetime64(microseconds, 'us')}Z"
