"""Published systems and baselines, a file or a folder each: `create(name)` makes one, `open(folder)` opens it again."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from endcap.artefact import read_verified
from endcap.errors import InputError
from endcap.models.base import Model

if TYPE_CHECKING:
    from endcap.models.ranker import Ranker


class System(NamedTuple):
    """Where a system lives and what it can answer."""

    path: str
    answers: str
    about: str


SYSTEMS: dict[str, System] = {
    "item-interaction": System(
        "item_interaction:ItemInteraction", "related, recommend, cart page", "because you X this, you may Y that (Etsy)"
    ),
    "cross-sell": System(
        "cross_sell:CrossSell", "related, recommend, cart page", "what goes with it: a graph network on co-purchases"
    ),
    "popularity": System("popularity:Popularity", "related, recommend", "most positive actions"),
    "recent-popularity": System("popularity:RecentPopularity", "related, recommend", "most positive actions lately"),
    "co-occurrence": System("counts:CoOccurrence", "related, recommend", "what follows in a session, per type pair"),
    "co-purchase": System(
        "counts:CoPurchase",
        "related, recommend, cart page",
        "weighted counts of what is bought together, or its vectors",
    ),
    "association-rules": System(
        "rules:AssociationRules", "related, recommend, cart page", "who has these has that, too"
    ),
    "random-walk": System(
        "basket_models:RandomWalk", "related, recommend, cart page", "item-basket-item walk of one or two steps"
    ),
    "pagerank": System(
        "basket_models:PageRankBaskets",
        "related, recommend, cart page",
        "personalised PageRank on what is bought together",
    ),
    "lightgcn": System(
        "lightgcn:LightGCN", "related, recommend, cart page", "vectors passed along who has what (LightGCN)"
    ),
    "item-knn": System("counts:ItemKNN", "related, recommend", "cosine of the items' users"),
    "als": System("als:Als", "related, recommend", "matrix factorisation, users x items (implicit)"),
    "als-typed": System("als:AlsTyped", "related, recommend", "matrix factorisation, users x (item, interaction)"),
    "sgns": System("item_interaction:Sgns", "related, recommend", "untyped skip-gram with negatives"),
    "sasrec": System("sequential:SASRec", "related, recommend", "a causal transformer over a person's actions"),
    "gru4rec": System("sequential:GRU4Rec", "related, recommend", "a recurrent network over a person's actions"),
    "comirec": System("sequential:ComiRec", "related, recommend", "several interests of a person's actions"),
    "coaction-graph": System(
        "coaction_graph:CoActionGraph", "related, recommend", "several interests a user, from text and co-action (eBay)"
    ),
}

RANKERS = {"ranker": System("ranker:Ranker", "ranks", "second pass over candidates of other systems (LambdaMART)")}
"""What is stored and opened like a model and has no candidates of its own; `endcap train ranker` makes one."""


DEEP = ("torch", "safetensors")  # not installed with the core


def create(name: str, settings: Mapping[str, Any] | None = None) -> Model:
    """An untrained model by its name in `endcap systems`.

    Raises:
        InputError: for an unknown name, an unknown setting or a bad value.
    """
    return _class_of(name)(**(settings or {}))


def open(folder: str | Path) -> Model | Ranker:  # noqa: A001 (`models.open` is its name in the design)
    """Open a trained model, ready to answer, or a ranker; read-only and memory-mapped.

    Raises:
        InputError: if the folder is no model; DamagedArtefact: if a file is missing or changed.
    """
    folder, known = Path(folder), {**SYSTEMS, **RANKERS}
    return read_verified(
        folder, kind="model", read=lambda manifest: _class_of(manifest["system"], known).load(folder, manifest)
    )


def _class_of(name: str, known: Mapping[str, System] = SYSTEMS) -> Any:
    if name not in known:
        raise InputError(f"there is no system {name!r}; `endcap systems` lists: {', '.join(SYSTEMS)}")
    module, _, kind = known[name].path.partition(":")
    try:
        return getattr(importlib.import_module(f"endcap.models.{module}"), kind)
    except ModuleNotFoundError as error:
        if error.name not in DEEP:
            raise
        raise InputError(f"{name} needs {error.name}: pip install 'endcap[deep]'") from None
