"""The second pass: candidates of several trained systems in one order, learnt from what people did next.

LambdaMART (Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82) as LightGBM has it (Ke et al., NIPS
2017): boosted trees whose gradients are those of NDCG. A request's candidates are a group; a candidate's grade is the
strongest thing that the person did with it next. The papers say nothing of what to look at: `ranker_features` does.

The ranker is fitted on a stretch of time of its own, with sources that were trained before it. Sources judged on what
they were trained on look better than they are, each by another amount, and a ranker would learn that amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

import endcap
from endcap.answers import NOTHING, Candidates, History, Items, Ranking, Reason, Request, Retriever, Scorer, Scores
from endcap.artefact import new_artefact, save_array
from endcap.errors import DamagedArtefact, InputError
from endcap.index import mapped
from endcap.models.base import Origin
from endcap.models.ranker_features import Facts, Floats, feature_names, features, pack, reasons_of, sources_of
from endcap.models.ranker_lesson import Groups, Pools, Queries, check_groups, padded, some_of
from endcap.models.search_space import SearchSpace
from endcap.models.trees import MODEL_FILE, Trees, how_trees_grow
from endcap.progress import progress
from endcap.release.contents import Histories
from endcap.settings import make_settings
from endcap.shop import Shop, duration

REASONS = 3
AT_ONCE = 256  # requests whose features are computed at once


class RankerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the second pass."""

    budget: Annotated[int, Meta(ge=1, le=2000, description="candidates of each source")] = 200
    want: Annotated[
        str | None, Meta(description="the interaction that sources are asked for; none: what each source takes")
    ] = None
    history: Annotated[int, Meta(ge=1, le=1000, description="last actions that are looked back at")] = 50
    next_actions: Annotated[int, Meta(ge=1, le=1000, description="so many actions after a request are its answer")] = 10
    repeats: Annotated[bool, Meta(description="rank items that the person knew before, too")] = False
    queries: Annotated[int, Meta(ge=1, description="at most so many requests to learn from")] = 4000
    per_person: Annotated[int, Meta(ge=1, description="of them of one person")] = 4
    recent: Annotated[str, Meta(description="popular lately: in this time before the end of the log")] = "7d"
    both_ways: Annotated[bool, Meta(description="read relations from the other item, too")] = True
    trees: Annotated[int, Meta(ge=1, le=10_000, description="at most; fewer by early stop")] = 500
    patience: Annotated[int, Meta(ge=1, description="stop after so many trees without a gain on validation")] = 50
    leaves: Annotated[int, Meta(ge=2, le=1024, description="of a tree")] = 31
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.05
    min_rows: Annotated[int, Meta(ge=1, description="candidates in a leaf")] = 50
    l2: Annotated[float, Meta(ge=0, description="pull of a leaf's value to 0")] = 1.0
    columns: Annotated[float, Meta(gt=0, le=1, description="share of the features that a tree may look at")] = 0.7
    truncation: Annotated[int, Meta(ge=1, le=1000, description="lambdarank: pairs with one of the first so many")] = 30

    def __post_init__(self) -> None:
        duration(self.recent)


class Ranker:
    """Ranks candidates of the sources that it was fitted on.

    A ranker is stored and opened as models are, and is none: it has no candidates of its own.
    """

    system: ClassVar[str] = "ranker"
    Config: ClassVar[type[msgspec.Struct]] = RankerConfig
    search_space: ClassVar[SearchSpace] = {}

    def __init__(self, **settings: Any) -> None:
        self.config = make_settings(RankerConfig, settings, where=self.system)
        self.origin: Origin | None = None
        self.facts: Facts | None = None
        self.sources: tuple[str, ...] = ()
        self.names: tuple[str, ...] = ()
        self.learned: dict[str, Any] = {}  # figures of its training, kept for an audit
        self._trees: Trees | None = None

    # -- fitting ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        shop: Shop,
        sources: Mapping[str, Retriever],
        *,
        start: int,
        validation: int | None = None,
        relations: pa.Table | None = None,
        seed: int = 0,
        threads: int = 1,
        show: bool = False,
    ) -> Self:
        """Learn from what people did from `start` on.

        Args:
            sources: by the names that they will have in a release; trained on nothing from `start` on.
            start, validation: microseconds; from `validation` on, the half of the people with even numbers tells when
                to stop, and the other half is not looked at. None: all trees are grown.
            relations: (item, other, relation) of external ids, see `Facts`.

        Raises:
            InputError: if the stretch holds nothing to learn from, or a source has seen it.
        """
        for name, model in sources.items():
            origin = getattr(model, "origin", None)
            if origin is not None and origin.trained_until > start:
                raise InputError(f"ranker: the source {name} has seen the stretch to fit on; train it until its start")
        self.know(shop.until(start), relations, seed=seed)
        to_fit = self.ask(shop, sources, start, shop.end if validation is None else validation, seed=seed, show=show)
        held_out = None
        if validation is not None:
            to_stop = self.ask(shop, sources, validation, shop.end, parity=0, seed=seed, show=show)
            held_out = self.groups(to_stop)
        return self.fit_on(self.groups(to_fit), held_out, seed=seed, threads=threads)

    def fit_on(self, groups: Groups, held_out: Groups | None = None, *, seed: int = 0, threads: int = 1) -> Self:
        """Learn from groups as they are; with `held_out`, stop when its NDCG@10 no longer grows.

        Raises:
            InputError: if the arrays do not fit each other, or no group has a candidate of a higher grade than another.
        """
        import lightgbm

        check_groups(groups, "groups")
        if groups.labels.max(initial=0) == 0:
            raise InputError(
                "ranker: none of the candidates was acted on; take a longer stretch, a larger budget or other sources"
            )
        watched: dict[str, Any] = {}
        grades = int(groups.labels.max())
        data = lightgbm.Dataset(groups.rows, groups.labels, group=groups.sizes, params={"verbose": -1})
        if held_out is not None and len(held_out.sizes):
            check_groups(held_out, "held_out")
            valid = lightgbm.Dataset(held_out.rows, held_out.labels, group=held_out.sizes, reference=data)
            stop = lightgbm.early_stopping(self.config.patience, verbose=False)
            watched = {"valid_sets": [valid], "callbacks": [stop]}
            grades = max(grades, int(held_out.labels.max(initial=0)))
        config = self.config
        parameters = {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [10],
            "lambdarank_truncation_level": config.truncation,
            "label_gain": [2**grade - 1 for grade in range(grades + 1)],
            **how_trees_grow(config, seed, threads),
        }
        grown = lightgbm.train(parameters, data, config.trees, **watched)
        best = grown.best_iteration if grown.best_iteration > 0 else -1
        # From its text, as `load` does: what is stored and what answers are the same trees to the last bit.
        self._trees = Trees(grown.model_to_string(num_iteration=best), len(groups.names))
        self.names, self.sources = tuple(groups.names), tuple(sources_of(groups.names))
        self.learned = {"trees": len(self._trees), "groups": len(groups.sizes), "rows": len(groups.rows)}
        return self

    def know(self, shop: Shop, relations: pa.Table | None = None, *, seed: int = 0) -> Self:
        """Take what is known of items from this view: after fitting, from the whole log that sources are trained on."""
        self.origin = Origin.of(shop, seed)
        self.facts = Facts.of(shop, duration(self.config.recent), relations, both_ways=self.config.both_ways)
        return self

    @property
    def links(self) -> pa.Table | None:
        """The relations that it was told of, to be told of them again; None where there are none."""
        return self._facts().links(self._known().items, both_ways=self.config.both_ways)

    def ask(
        self,
        shop: Shop,
        sources: Mapping[str, Retriever],
        start: int,
        end: int,
        *,
        parity: int | None = None,
        seed: int = 0,
        show: bool = False,
    ) -> Pools:
        """Ask the sources at actions in [start, end) by people of whom something is known; see `RankerConfig`.

        Args:
            parity: only people whose number leaves this rest by 2.
        """
        config, view = self.config, shop.until(end)
        queries = Queries(view, start, config, parity, seed)
        want = None if config.want is None else shop.interactions.code(config.want)
        n_users = self._known().n_users
        histories, pools, named, labels, wanted = [], [], [], [], []
        with progress("asking sources", len(queries.rows), shown=show) as bar:
            for row in queries.rows.tolist():
                history, user = queries.history(row), int(queries.user[row])
                request = Request(
                    k=config.budget,
                    user=user if user < n_users else None,
                    want=want,
                    history=history,
                    searches=queries.searches_before(row),
                )
                items, scores = pool({name: model.candidates(request) for name, model in sources.items()})
                if not config.repeats:
                    new = ~np.isin(items, history.items)
                    items, scores = items[new], {name: given[new] for name, given in scores.items()}
                came = queries.next(row)
                labels.append(np.array([came.get(item, 0) for item in items.tolist()], np.int32))
                histories.append(history)
                pools.append(items)
                named.append(scores)
                wanted.append(len(came))
                bar.advance()
        return Pools(
            queries.user[queries.rows],
            pack(histories),
            padded(pools, -1, np.int32),
            {name: padded([scores[name] for scores in named], np.nan, np.float32) for name in sources},
            padded(labels, 0, np.int32),
            np.array(wanted, np.int64),
        )

    def groups(self, pools: Pools) -> Groups:
        """The pools in which something came that a source had named; of the others nothing can be learnt."""
        facts, rows, labels, sizes = self._facts(), [], [], []
        useful = np.flatnonzero(pools.labels.any(axis=1))
        for some in np.array_split(useful, max(1, len(useful) // AT_ONCE)):
            there = pools.candidates[some] >= 0
            given = {name: scores[some] for name, scores in pools.scores.items()}
            past = some_of(pools.past, some)
            rows.append(features(facts, past, pools.candidates[some], given, self.config.history)[there])
            labels.append(pools.labels[some][there])
            sizes.append(there.sum(axis=1))
        names = feature_names(facts, list(pools.scores))
        return Groups(names, np.concatenate(rows), np.concatenate(labels), np.concatenate(sizes))

    # -- answers ---------------------------------------------------------------------------------------------------

    def rank(self, request: Request, found: Mapping[str, Candidates]) -> Ranking:
        """See `endcap.answers.Ranks`; equal scores by the lower item."""
        items, given = pool(found)
        if len(items) == 0:
            return Ranking(NOTHING, np.empty(0, np.float32), lambda some: [[] for _ in some])
        rows = self._features(request, items, given)
        scores = self._predict(rows)
        order = np.lexsort((items, -scores))

        def reasons(some: Items) -> list[list[Reason]]:
            chosen = rows[np.searchsorted(items, some)]
            added = self._grown().added(chosen)
            kinds = self._facts().kinds
            return [reasons_of(self.names, row, part, kinds)[:REASONS] for row, part in zip(chosen, added, strict=True)]

        return Ranking(items[order], scores[order], reasons)

    def score(self, request: Request, items: Items, given: Mapping[str, Scores]) -> Scores:
        """Scores (n,) of given items, such as 99 negatives and a target, out of what the sources score them.

        A source that is missing names nothing; what is no source of this ranker plays no part.
        """
        return self._predict(self._features(request, np.asarray(items, np.int32), given))

    def score_many(self, past: Histories, candidates: Items, given: Mapping[str, Scores]) -> Scores:
        """Scores (n, c) for n histories and their candidates (n, c); -inf for pads. See `features` and `score`."""
        given = self._of_sources(given, candidates.shape)
        scores = np.full(candidates.shape, -np.inf, np.float32)
        for some in np.array_split(np.arange(len(candidates)), max(1, len(candidates) // AT_ONCE)):
            there = candidates[some] >= 0
            if there.any():
                parts = {name: scores_of[some] for name, scores_of in given.items()}
                rows = features(self._facts(), some_of(past, some), candidates[some], parts, self.config.history)
                block = scores[some]
                block[there] = self._predict(rows[there])
                scores[some] = block
        return scores

    def _features(self, request: Request, items: Items, given: Mapping[str, Scores]) -> Floats:
        """(n, f) of one request. What lies in the basket and the item asked about count as the latest actions."""
        origin, past = self._known(), request.history
        latest = [(int(item), origin.intent) for item in request.basket]
        if request.item is not None:
            latest.append((request.item, origin.source if request.seen_as is None else request.seen_as))
        if latest:
            now = int(past.times[-1]) if len(past) else 0
            past = History(
                np.append(past.items, np.array([item for item, _ in latest], np.int32)),
                np.append(past.interactions, np.array([kind for _, kind in latest], np.int8)),
                np.append(past.times, np.full(len(latest), now, np.int64)),
            )
        rows = {name: scores[None] for name, scores in self._of_sources(given, items.shape).items()}
        return features(self._facts(), pack([past]), items[None], rows, self.config.history)[0]

    def _of_sources(self, given: Mapping[str, Scores], shape: tuple[int, ...]) -> dict[str, Scores]:
        """The scores in the order in which the trees know them."""
        nothing = np.full(shape, np.nan, np.float32)
        return {name: np.asarray(given.get(name, nothing)) for name in self.sources}

    def _predict(self, rows: Floats) -> Scores:
        return self._grown().sums(rows).astype(np.float32)

    # -- storing ---------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the ranker's folder, atomically."""
        facts = self._facts()
        manifest = {
            "kind": "model",
            "system": self.system,
            "endcap": endcap.__version__,
            "config": msgspec.to_builtins(self.config),
            **self._known().about(),
            "sources": list(self.sources),
            "relations": list(facts.relations),
            "features": list(self.names),
            "learned": self.learned,
            "tuning": None,
        }
        text = self._grown().text
        with new_artefact(Path(folder), manifest) as building:
            self._known().write(building)
            (building / MODEL_FILE).write_text(text, encoding="utf-8")
            for name, array in facts.arrays().items():
                save_array(building / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path, manifest: Mapping[str, Any]) -> Self:
        """Open what `save` wrote.

        Raises:
            DamagedArtefact: if the trees are none, or hold numbers that cannot be.
        """
        ranker = cls(**manifest["config"])
        ranker.origin = Origin.read(folder, manifest)
        ranker.sources, ranker.names = tuple(manifest["sources"]), tuple(manifest["features"])
        ranker.learned = manifest["learned"]
        kinds, relations = ranker.origin.interactions.names, tuple(manifest["relations"])
        arrays = {path.stem: mapped(path) for path in sorted(folder.glob("*.npy"))}
        try:
            ranker.facts = Facts(kinds=kinds, relations=relations, **arrays)
            if feature_names(ranker.facts, ranker.sources) != list(ranker.names):
                raise DamagedArtefact(f"{folder}: this endcap looks at other things; train the ranker again")
            text = (folder / MODEL_FILE).read_text(encoding="utf-8")
            ranker._trees = Trees(text, len(ranker.names))
        except TypeError:
            raise DamagedArtefact(f"{folder}: this endcap keeps other facts; train the ranker again") from None
        except (ValueError, KeyError, OSError) as error:
            raise DamagedArtefact(f"{folder / MODEL_FILE}: no trees of a ranker ({error}); train it again") from None
        return ranker

    def _known(self) -> Origin:
        if self.origin is None:
            raise InputError("ranker: not trained yet; call fit first")
        return self.origin

    def _facts(self) -> Facts:
        if self.facts is None:
            raise InputError("ranker: nothing is known of the items yet; call fit, or know, first")
        return self.facts

    def _grown(self) -> Trees:
        if self._trees is None:
            raise InputError("ranker: not trained yet; call fit first")
        return self._trees


class TwoPass:
    """A ranker over its sources, asked like a model: for `evaluate`, the gate, and notebooks.

    Attributes:
        origin: the ranker's, with the latest end of training of all.
    """

    system = "ranker"

    def __init__(self, ranker: Ranker, sources: Mapping[str, Any]) -> None:
        """
        Raises:
            InputError: if one of the ranker's sources is missing, or it is not trained yet.
        """
        self.ranker = ranker
        if missing := [name for name in ranker.sources if name not in sources]:
            raise InputError(
                f"the ranker was fitted on {', '.join(ranker.sources)}; {missing[0]} is missing: give all of them, by "
                "these names"
            )
        self.models = {name: sources[name] for name in ranker.sources}
        ends = [model.origin.trained_until for model in self.models.values() if getattr(model, "origin", None)]
        known = ranker._known()
        self.origin = replace(known, trained_until=max([known.trained_until, *ends]))

    def candidates(self, request: Request) -> Candidates:
        """The first k of what the sources named, as the ranker puts them."""
        ranking = self._rank(request)
        n = min(request.k, len(ranking.items))
        return Candidates(ranking.items[:n], ranking.scores[:n], [self.system] * n)

    def explain(self, request: Request, item: int) -> list[Reason]:
        """What moved an item that a source named, the strongest first."""
        ranking = self._rank(request)
        return ranking.reasons(np.array([item], np.int32))[0] if (ranking.items == item).any() else []

    def _rank(self, request: Request) -> Ranking:
        asked = replace(request, k=max(request.k, self.ranker.config.budget))
        found = {name: model.candidates(_in_numbers_of(model, asked)) for name, model in self.models.items()}
        return self.ranker.rank(request, found)

    def score(self, request: Request, items: Items) -> Scores:
        """See `endcap.answers.Scorer`; a source that scores nothing says what stands in its list."""
        given = {name: _given(model, request, items, self.ranker.config.budget) for name, model in self.models.items()}
        return self.ranker.score(request, items, given)


def _in_numbers_of(model: Any, request: Request) -> Request:
    """A request whose mask is as long as a model's vocabulary."""
    origin: Origin | None = getattr(model, "origin", None)
    if request.allowed is None or origin is None:
        return request
    n = len(origin.items)
    return replace(request, allowed=np.pad(request.allowed[:n], (0, max(0, n - len(request.allowed)))))


def _given(model: Any, request: Request, items: Items, budget: int) -> Scores:
    """(n,) a source's scores of given items, NaN where it has none."""
    if isinstance(model, Scorer):
        return np.asarray(model.score(request, items), np.float32)
    named, given = pool({"": model.candidates(replace(request, k=budget))})
    place = np.searchsorted(named, items)
    place[place == len(named)] = -1
    listed = np.append(given[""], np.float32(np.nan))
    return np.where(np.append(named, -1)[place] == items, listed[place], np.float32(np.nan))


def pool(found: Mapping[str, Candidates]) -> tuple[Items, dict[str, Scores]]:
    """All that the sources named, each item once and ascending, with each source's scores (n,), NaN where not named.

    What a source fell back to, named `source/step`, it did not name itself, and its scores are of another kind.
    """
    own = {name: np.array(["/" not in by for by in one.source], np.bool_) for name, one in found.items()}
    items = np.unique(np.concatenate([NOTHING, *(one.items[own[name]] for name, one in found.items())]))
    scores = {name: np.full(len(items), np.nan, np.float32) for name in found}
    for name, one in found.items():
        scores[name][np.searchsorted(items, one.items[own[name]])] = one.scores[own[name]]
    return items, scores
