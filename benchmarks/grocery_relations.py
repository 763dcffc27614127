"""Relation files and a second pass on Grocery_and_Gourmet_Food in ReChorus form, among 99 given negatives.

    python benchmarks/grocery_relations.py --data DIR [--json FILE] [--quick] [--only ROWS] [--seed N] [--work DIR]

What was learnt from what: sources from train.csv; CoActionGraphRec's epoch was chosen by dev.csv. Rankers learn from
the dev action of 85 % of the people, which no source has learnt (published models only validate on it), and stop by
that of the others; facts of items are those of train.csv. Test and its negatives were read once; histories then hold
the dev action. As in KDA, the time of the action that is foreseen is known: ages count from it. Equal scores are put
in an order drawn by the seed. The links (also bought, also viewed) are a crawl of 2014 and know the future of every
action: Chorus, KDA and ContraKDA use them alike. All rankers see the items' category.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

import _published as published_files
from _published import Sequences
from _report import Row, report
from _tables import table_arguments
from endcap import models
from endcap.answers import History, Items, Request, Scorer, Scores
from endcap.evaluate.outcomes import chance
from endcap.metrics import Interval, bootstrap_mean, paired_bootstrap
from endcap.models import Model
from endcap.models.coaction_graph import CoActionGraph
from endcap.models.ranker import Pools, Ranker
from endcap.models.ranker_features import pack
from endcap.release.contents import Histories

OURS = {
    "longest": 20, "batch_size": 1024, "validation_people": 1_000_000, "learning_rate": 0.002,
    "dim": 128, "dropout": 0.4, "neighbours": 20, "neighbour_dropout": 0.4, "weight_decay": 0.1, "epochs": 9,
}  # fmt: skip
RANKER = {"learning_rate": 0.1, "leaves": 15, "patience": 20, "trees": 300}
QUICK = {"trees": 30, "min_rows": 5}
QUICK_PEOPLE = 1000
FIRST = "coaction-graph with relations"
BASELINES = ("als", "item-knn")
BOUGHT = ("bought", "bought, then bought")
LINKED = (
    "linked", "goes with, then goes with", "instead, then instead",
    "goes with, then instead", "instead, then goes with",
)  # fmt: skip
SECOND = {
    "second pass": (FIRST, *BASELINES, *BOUGHT, *LINKED),
    "second pass without coaction-graph": (*BASELINES, *BOUGHT, *LINKED),
    "second pass without relation files": (*BASELINES, *BOUGHT),
}
PUBLISHED = {
    FIRST: ("Chorus .4668 / .3414", (0.4668, 0.3414)),
    "second pass": ("ContraKDA .5282 / .3992, KDA .5191 / .3901", (0.5282, 0.3992)),
    "second pass without relation files": ("ContraRec .4269 / .3290", (0.4269, 0.3290)),
}
KEPT_FOR_STOPPING = 0.15  # of the people
FADING = 0.8  # of a past action's weight in a walk, for each later one
K = 5

Links = sparse.csr_matrix


class Asked(NamedTuple):
    """Everybody's question: (n,) pasts that end with an action on nothing when the target came; candidates (n, c)."""

    past: Histories
    candidates: Items
    target: NDArray[np.bool_]  # (n, c)


def main() -> None:
    given = table_arguments(__doc__ or "").parse_args()
    sequences = published_files.grocery(given.data)
    names = given.only.split(",") if given.only else [FIRST, *SECOND]
    if unknown := set(names) - {FIRST, *SECOND}:
        raise SystemExit(
            f"--only {given.only}: there is no row {min(unknown)!r}; there are: {FIRST}, {', '.join(SECOND)}"
        )
    wanted = list(dict.fromkeys(source for name in names for source in SECOND.get(name, (name,))))
    sources = Sources(sequences, wanted, given)
    rankers = fitted([name for name in names if name in SECOND], sources, given)
    if given.dev:
        return
    test = asked(sequences, sequences.test, 1, given)
    scores = sources.scores(test)
    scores |= {
        name: ranker.score_many(test.past, test.candidates, {source: scores[source] for source in SECOND[name]})
        for name, ranker in rankers.items()
    }
    gains = {name: gains_of(scores[name], test.target, given.seed) for name in names}
    command = f"python benchmarks/grocery_relations.py --data DIR --seed {given.seed}"
    report(
        "grocery_relations",
        f"{sequences.name}, {sequences.note}",
        [*(row_of(name, gains[name], command) for name in names), *differences(gains, command)],
        given.json,
        quick=given.quick,
        notes=__doc__.split("\n\n", 2)[2].replace("\n", " ") if __doc__ else "",
    )


# -- questions ---------------------------------------------------------------------------------------------------------


def asked(sequences: Sequences, negatives: Items | None, back: int, given: argparse.Namespace) -> Asked:
    """About each person's last action (back = 1), or the one before it (2), among it and its negatives, by number."""
    assert negatives is not None
    log, ends = sequences.shop.positives, sequences.shop.user_offsets[1:]
    people = np.flatnonzero(negatives[:, 0] >= 0)[: QUICK_PEOPLE if given.quick else None]
    begin, at = sequences.shop.user_offsets[:-1][people], ends[people] - back
    rows = np.concatenate([np.arange(first, last + 1) for first, last in zip(begin, at, strict=True)])
    offsets = np.append(0, np.cumsum(at + 1 - begin))
    items = log.item[rows].astype(np.int32)
    items[offsets[1:] - 1] = -1
    candidates = np.sort(np.column_stack([log.item[at], negatives[people]]).astype(np.int32), axis=1)
    past = Histories(offsets, items, log.interaction[rows], log.time[rows])
    return Asked(past, candidates, candidates == log.item[at][:, None])


# -- sources -----------------------------------------------------------------------------------------------------------


class Sources:
    """Models trained on train.csv, and walks of two steps from what a person did to what is to be judged."""

    def __init__(self, sequences: Sequences, wanted: list[str], given: argparse.Namespace) -> None:
        self.sequences, self.wanted = sequences, wanted
        self.models: dict[str, Model] = {
            name: models.create(name).fit(sequences.train, seed=given.seed, threads=given.threads)
            for name in BASELINES
            if name in wanted
        }
        if FIRST in wanted:
            self.models[FIRST] = first_pass(sequences, given)
        self.walks = walks(sequences)

    def scores(self, asked: Asked) -> dict[str, Scores]:
        """By source (n, c), NaN where it names nothing."""
        found = {name: model_scores(model, asked, self.sequences.shop.n_items) for name, model in self.models.items()}
        faded = _faded(asked.past, self.sequences.shop.n_items)
        return found | {name: _walked(faded, *self.walks[name], asked) for name in self.wanted if name in self.walks}


def first_pass(sequences: Sequences, given: argparse.Namespace) -> Model:
    """CoActionGraphRec that knows the relation files, trained or opened from an earlier run."""
    assert sequences.relations is not None
    folder = folder_of(FIRST, sequences, given)
    settings = OURS | ({"epochs": 1, "dim": 16} if given.quick else {})
    model = CoActionGraph(**settings).with_relations(sequences.relations, sequences.shop.items)
    train = sequences.shop.without_last(1)  # it holds everybody's dev action back by itself
    if not folder.exists():
        for row in (row for row, names in SECOND.items() if FIRST in names):
            if (fitted_on_it := folder_of(row, sequences, given)).exists():
                raise SystemExit(f"{fitted_on_it}: fitted on scores of a model that is gone; remove it to fit again")
        partial = folder.with_name(f".{folder.name}.training")
        model.fit(train, seed=given.seed, threads=given.threads, show=True, checkpoint=partial)
        model.save(folder)
    opened = models.open(folder)
    assert isinstance(opened, Model)
    if opened.config != model.config or opened._trained().n_events != len(train.events):
        raise SystemExit(f"{folder}: trained with other settings or data; remove it to train again")
    return opened


def folder_of(row: str, sequences: Sequences, given: argparse.Namespace) -> Path:
    """Where a row is kept, as in the other tables."""
    return given.work / f"{sequences.name}{'-quick' if given.quick else ''}" / f"{row.replace(' ', '-')}-{given.seed}"


def model_scores(model: Model, asked: Asked, n_items: int) -> Scores:
    """A model's scores of the candidates; of one that scores nothing, those in its list of them."""
    found = np.full(asked.candidates.shape, np.nan, np.float32)
    bounds = zip(asked.past.offsets[:-1].tolist(), (asked.past.offsets[1:] - 1).tolist(), strict=True)
    for place, ((begin, end), items) in enumerate(zip(bounds, asked.candidates, strict=True)):
        past = History(*(part[begin:end] for part in asked.past[1:]))
        if isinstance(model, Scorer):
            found[place] = model.score(Request(k=len(items), history=past), items)
            continue
        allowed = np.zeros(n_items, np.bool_)
        allowed[items] = True
        listed = model.candidates(Request(k=len(items), history=past, allowed=allowed))
        found[place, np.searchsorted(items, listed.items)] = listed.scores
    return found


def walks(sequences: Sequences) -> dict[str, tuple[Links, Links]]:
    """Two steps each: from what was done to what lies between, and from a candidate there; rows of length 1."""
    n_items = sequences.shop.n_items
    log = sequences.train.positives
    people = _links(log.item, log.user, (n_items, sequences.shop.n_users))
    bought = (_unit(people) @ _unit(people).T).tocsr()
    bought.setdiag(0)
    bought = _unit(bought)
    found = {"bought": (_unit(people), _unit(people)), "bought, then bought": (bought, bought)}
    if sequences.relations is not None:
        item, other = (sequences.shop.items.encode(sequences.relations[name].to_pylist()) for name in ("item", "other"))
        known = (item >= 0) & (other >= 0)
        kind = np.array(sequences.relations["relation"].to_pylist(), object)
        with_it, instead = (
            _unit(_both_ways(item[rows], other[rows], n_items))
            for rows in (known & (kind == "complement"), known & (kind == "substitute"))
        )
        linked = _unit(_both_ways(item[known], other[known], n_items))
        found |= {
            "linked": (linked, linked),
            "goes with, then goes with": (with_it, with_it),
            "instead, then instead": (instead, instead),
            "goes with, then instead": (with_it, instead),
            "instead, then goes with": (instead, with_it),
        }
    return found


def _links(row: NDArray, column: NDArray, shape: tuple[int, int]) -> Links:
    """1 at each pair that occurs."""
    found = sparse.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape)
    found.data[:] = 1
    return found


def _both_ways(item: NDArray, other: NDArray, n_items: int) -> Links:
    return _links(np.append(item, other), np.append(other, item), (n_items, n_items))


def _unit(links: Links) -> Links:
    """Rows of length 1."""
    length = np.sqrt(np.asarray(links.multiply(links).sum(1)).ravel())
    return (sparse.diags(1 / np.maximum(length, 1e-9)).astype(np.float32) @ links).tocsr()


def _faded(past: Histories, n_items: int) -> Links:
    """(n, n_items): a past's items, later ones heavier."""
    who = np.repeat(np.arange(len(past.offsets) - 1), np.diff(past.offsets))
    ago = past.offsets[1:][who] - 2 - np.arange(len(past.items))
    there = past.items >= 0
    weight = FADING ** ago[there].astype(np.float32)
    return sparse.csr_matrix((weight, (who[there], past.items[there])), (len(past.offsets) - 1, n_items))


def _walked(faded: Links, there: Links, back: Links, asked: Asked) -> Scores:
    """(n, c): how far a past and a candidate lead to the same."""
    reached, found = faded @ there, np.empty(asked.candidates.shape, np.float32)
    for place, items in enumerate(asked.candidates):
        profile = np.zeros(reached.shape[1], np.float32)
        row = slice(reached.indptr[place], reached.indptr[place + 1])
        profile[reached.indices[row]] = reached.data[row]
        found[place] = back[items] @ profile
    return found


# -- rankers -----------------------------------------------------------------------------------------------------------


def fitted(names: list[str], sources: Sources, given: argparse.Namespace) -> dict[str, Ranker]:
    """The rankers of these rows, learnt from the dev actions or opened from an earlier run."""
    sequences, found = sources.sequences, {}
    folders = {name: folder_of(name, sequences, given) for name in names}
    settings = RANKER | (QUICK if given.quick else {})
    if all(folder.exists() for folder in folders.values()):
        return {name: _opened(name, folder, settings) for name, folder in folders.items()}
    dev = asked(sequences, sequences.validation, 2, given)
    scores = sources.scores(dev)
    to_stop = np.random.default_rng(given.seed).random(len(dev.candidates)) < KEPT_FOR_STOPPING
    for name, folder in folders.items():
        if not folder.exists():
            ranker = Ranker(**settings)
            ranker.know(sequences.train, sequences.relations if "linked" in SECOND[name] else None, seed=given.seed)
            named = {source: scores[source] for source in SECOND[name]}
            fit, stop = (ranker.groups(_pools(dev, named, np.flatnonzero(who))) for who in (~to_stop, to_stop))
            ranker.fit_on(fit, stop, seed=given.seed, threads=given.threads)
            ranker.save(folder)
            judged = _pools(dev, named, np.flatnonzero(to_stop))
            gains = gains_of(ranker.score_many(judged.past, judged.candidates, judged.scores), judged.labels > 0, 0)
            figures = " / ".join(f"{gain.mean():.4f}" for gain in gains)
            print(f"{name}: {ranker.learned['trees']} trees, dev of those it stopped by {figures}", flush=True)
        found[name] = _opened(name, folder, settings)
    return found


def _opened(name: str, folder: Path, settings: Mapping[str, Any]) -> Ranker:
    opened = models.open(folder)
    assert isinstance(opened, Ranker)
    if opened.config != Ranker(**settings).config or opened.sources != SECOND[name]:
        raise SystemExit(f"{folder}: fitted with other settings or sources; remove it to fit again")
    return opened


def _pools(asked: Asked, scores: Mapping[str, Scores], people: NDArray[np.int64]) -> Pools:
    """Some people's questions with their answers."""
    ends = asked.past.offsets
    past = pack(
        History(*(part[begin:end] for part in asked.past[1:]))
        for begin, end in zip(ends[people].tolist(), ends[people + 1].tolist(), strict=True)
    )
    return Pools(
        people.astype(np.int32),
        past,
        asked.candidates[people],
        {name: given[people] for name, given in scores.items()},
        asked.target[people].astype(np.int32),
        np.ones(len(people), np.int64),
    )


# -- figures -----------------------------------------------------------------------------------------------------------


def gains_of(scores: Scores, target: NDArray[np.bool_], seed: int) -> tuple[NDArray, NDArray]:
    """Hit rate and NDCG at K of each person, (n,); what is not named comes last, equal scores by lot."""
    scores = np.where(np.isnan(scores), -np.inf, scores)
    own = scores[target][:, None]
    equal = (scores == own).sum(1)  # itself, too
    place = (scores > own).sum(1) + (chance(seed).random(len(scores)) * equal).astype(np.int64)
    return (place < K).astype(np.float64), np.where(place < K, 1 / np.log2(place + 2), 0.0)


def row_of(name: str, gains: tuple[NDArray, NDArray], command: str) -> Row:
    """Hit rate and NDCG of a row, with intervals over people."""
    what, least = PUBLISHED.get(name, ("", ()))
    found = [bootstrap_mean(gain, np.arange(len(gain))) for gain in gains]
    return Row(
        what=f"{name}: hit_rate@{K}/given99, ndcg@{K}/given99",
        ours="; ".join(map(_written, found)),
        reference=what,
        target=" / ".join(f"{value:.4f}" for value in least) or None,
        met=all(one.value >= goal for one, goal in zip(found, least, strict=True)) if least else None,
        command=command,
    )


def differences(gains: Mapping[str, tuple[NDArray, NDArray]], command: str) -> list[Row]:
    """The first second pass, less each other row: paired by person."""
    best, *others = [name for name in (*SECOND, FIRST) if name in gains]
    if best != next(iter(SECOND)):
        return []
    people = np.arange(len(gains[best][0]))
    return [
        Row(
            what=f"{best} less {name}: hit_rate@{K}/given99, ndcg@{K}/given99",
            ours="; ".join(
                _written(paired_bootstrap(a, b, people)) for a, b in zip(gains[best], gains[name], strict=True)
            ),
            command=command,
        )
        for name in others
    ]


def _written(found: Interval) -> str:
    return f"{found.value:.4f} [{found.low:.4f}, {found.high:.4f}]"


if __name__ == "__main__":
    main()
