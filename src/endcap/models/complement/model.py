"""Does this go with that, or stand in its place? A calibrated probability for pairs of items.

"Cross-Sell Is a Graph Problem" multiplies similarity by P(complement) and hides what is more likely a substitute; it
names five groups of features and three models. McAuley et al., "Inferring Networks of Substitutable and Complementary
Products", KDD '15, has the labels: what was also bought but not also viewed, and the other way round.

    features     see `features`
    logistic     log-odds = b + sum w_f z_f, z standardised log1p; a missing value is 0 and has a weight of its own
    boosting     gradient boosted trees on the log loss (LightGBM); a missing value goes the better way
    gnn          a graph network over typed links, taught by the links as well, on top of boosting (see `gnn`)
    calibration  [C] isotonic regression on held-out pairs, since a product of parts needs a true probability

Where labels are those of behaviour, a pair that the log itself calls a complement, by SETTLED baskets or more, is not
guessed any more: it is as likely one as the surest pair.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, Self

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta
from numpy.typing import NDArray

import endcap
from endcap.artefact import new_artefact, read_verified, save_array
from endcap.errors import DamagedArtefact, InputError
from endcap.index import mapped
from endcap.models.base import Origin
from endcap.models.complement.counts import places
from endcap.models.complement.features import (
    BEHAVIOUR,
    GROUPS,
    LINKS,
    Lesson,
    PairFacts,
    pair_features,
    pair_names,
    turned,
)
from endcap.models.complement.measures import Columns, Isotonic, Judgement, judged
from endcap.models.complement.pairs import (
    Pairs,
    labelled_pairs,
    relation_links,
    settled_pairs,
    some_pairs,
    split_pairs,
)
from endcap.models.trees import Trees, how_trees_grow
from endcap.settings import make_settings
from endcap.shop import Shop

if TYPE_CHECKING:
    from endcap.models.complement.gnn import Gnn

TREES_FILE = "complement.txt"
PREFIX = "complement-"  # of the files of arrays: they may stand in another model's folder
OBJECTIVE = "binary sigmoid:1"
NEWTON_STEPS, CLOSE_ENOUGH = 50, 1e-10
MOST_STEP = 5.0  # of a weight
FOLDS = 5  # of the pairs that a network learns from: each is answered by trees of the others
SETTLED = 3  # baskets that settle, beside all that is asked of a label, what a pair is [C]

Floats = NDArray[np.float32]


class ComplementConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the classifier of complements and substitutes."""

    method: Annotated[Literal["boosting", "logistic", "gnn"], Meta(description="what is fitted")] = "boosting"
    window_days: Annotated[float, Meta(ge=0, le=3650, description="one person buys both within this time")] = 30.0
    return_days: Annotated[float, Meta(ge=0, le=3650, description="a return counts so long after a purchase")] = 30.0
    per_item: Annotated[int, Meta(ge=1, description="partners of an item that are counted, of either kind")] = 200
    complements: Annotated[str, Meta(description="relations that are complements, with commas")] = (
        "also_bought,complement"
    )
    substitutes: Annotated[str, Meta(description="relations that are substitutes, with commas")] = (
        "also_viewed,substitute"
    )
    min_bought: Annotated[int, Meta(ge=1, description="without relations: baskets of a complement")] = 1
    min_viewed: Annotated[int, Meta(ge=1, description="without relations: looks in a row at a substitute")] = 3
    min_after: Annotated[int, Meta(ge=1, description="bought in the other's place so often: no complement")] = 2
    margin: Annotated[
        float, Meta(ge=1, le=1000, description="times as often as by chance, and as the other kind, if there is any")
    ] = 3.0
    label_share: Annotated[
        float, Meta(gt=0, lt=1, description="without relations: labels are from the last share of the log")
    ] = 0.5
    pairs: Annotated[int, Meta(ge=1, description="at most so many of each label")] = 100_000
    ridge: Annotated[float, Meta(gt=0, description="logistic: pull of the weights to 0")] = 1.0
    trees: Annotated[int, Meta(ge=1, le=10_000, description="at most; fewer by early stop")] = 500
    patience: Annotated[int, Meta(ge=1, description="stop after so many trees without a gain on held-out pairs")] = 30
    leaves: Annotated[int, Meta(ge=2, le=1024, description="of a tree")] = 31
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.05
    min_rows: Annotated[int, Meta(ge=1, description="pairs in a leaf")] = 20
    l2: Annotated[float, Meta(ge=0, description="pull of a leaf's value to 0")] = 1.0
    columns: Annotated[float, Meta(gt=0, le=1, description="share of the features that a tree may look at")] = 0.7
    dim: Annotated[int, Meta(ge=2, le=1024, description="gnn: length of an item's vector")] = 32
    epochs: Annotated[int, Meta(ge=1, description="gnn: passes over the pairs, at most")] = 20
    dropout: Annotated[float, Meta(ge=0, lt=1, description="gnn: share of activations left out in training")] = 0.5
    link_weight: Annotated[float, Meta(ge=0, description="gnn: of the loss of links against drawn pairs")] = 1.0
    edge_weight: Annotated[float, Meta(gt=0, description="gnn: of the loss of complements against substitutes")] = 0.5
    members: Annotated[int, Meta(ge=1, le=20, description="gnn: networks whose mean is taken")] = 3


class Complement:
    """P(complement | this, that), fitted on pairs of either kind."""

    system: ClassVar[str] = "complement"
    Config: ClassVar[type[msgspec.Struct]] = ComplementConfig

    def __init__(self, **settings: Any) -> None:
        self.config = make_settings(ComplementConfig, settings, where=self.system)
        self.origin: Origin | None = None
        self.facts: PairFacts | None = None
        self.names: tuple[str, ...] = ()
        self.learned: dict[str, Any] = {}  # figures of its training, kept for an audit
        self._seen: PairFacts | None = None  # the facts as features are read off them
        self._scorer: _Logistic | _Boosting | None = None
        self._network: Gnn | None = None
        self._calibration: Isotonic | None = None
        self._settled: NDArray[np.int64] = np.empty(0, np.int64)  # low * n_items + high, ascending

    # -- fitting ---------------------------------------------------------------------------------------------------

    def fit(self, shop: Shop, relations: pa.Table | None = None, *, seed: int = 0, threads: int = 1) -> Self:
        """Learn from relations, else from what people did in the last part of the log, foreseen from the first.

        Of the pairs 70 % are learnt from, 15 % stop and calibrate, and on 15 % it is judged (`learned`).

        Args:
            relations: (item, other, relation) of external ids; see `labelled_pairs`.

        Raises:
            InputError: if there are too few pairs of either label.
        """
        self._scorer = self._network = self._calibration = None  # whether links are known is decided anew
        if relations is not None:
            pairs = some_pairs(self.labelled(shop, relations), self.config.pairs, seed)
            parts = split_pairs(pairs, "edges", seed)
            self.know(shop, relations, without=parts[1:], seed=seed, threads=threads)
        else:
            cut = shop.cut(self.config.label_share)
            before = shop.until(cut)
            known = self.labelled(shop.since(cut))
            known = known.where((known.left < before.n_items) & (known.right < before.n_items))
            parts = split_pairs(some_pairs(known, self.config.pairs, seed), "edges", seed)
            self.know(before, seed=seed, threads=threads)
        train, validation, test = parts
        self.fit_on(self.lesson(train), self.lesson(validation), seed=seed, threads=threads)
        if len(test):
            found = self.judge(test)._asdict()
            self.learned |= {"judged": {name: value if np.isfinite(value) else None for name, value in found.items()}}
        return self.know(shop, relations, seed=seed, threads=threads)

    def labelled(self, shop: Shop, relations: pa.Table | None = None) -> Pairs:
        """`labelled_pairs` by this configuration."""
        config = self.config
        return labelled_pairs(
            shop, relations, **self._kinds(),
            min_bought=config.min_bought, min_viewed=config.min_viewed, min_after=config.min_after,
            margin=config.margin,
        )  # fmt: skip

    def know(
        self,
        shop: Shop,
        relations: pa.Table | None = None,
        *,
        without: tuple[Pairs, ...] = (),
        seed: int = 0,
        threads: int = 1,
    ) -> Self:
        """Take what is known of items and pairs from this view, and the links but those of the pairs `without`.

        Raises:
            InputError: after fitting, for relations where it learnt without them, or none where it learnt with them.
        """
        config = self.config
        links = None
        if relations is not None:
            links = relation_links(relations, shop.items, without, **self._kinds())
        facts = PairFacts.of(
            shop, links, window_days=config.window_days, return_days=config.return_days,
            per_item=config.per_item, threads=threads,
        )  # fmt: skip
        self.origin = Origin.of(shop, seed)
        return self.over(facts)

    def over(self, facts: PairFacts) -> Self:
        """Take facts as they are.

        Raises:
            InputError: after fitting, for facts with links where it learnt without, or the other way round.
        """
        config, names = self.config, tuple(pair_names(facts))
        if (self._scorer or self._network) and names != self.names:
            raise InputError(
                f"complement: it was fitted {'without' if facts.links else 'with'} links between items; give the same"
            )
        self.facts, self.names = facts, names
        self._settled = np.empty(0, np.int64)
        if facts.links is None:
            settled = settled_pairs(
                facts, max(SETTLED, config.min_bought), config.min_viewed, config.min_after, config.margin
            )
            self._settled = settled.left.astype(np.int64) * facts.n_items + settled.right
        self._seen = facts
        if config.method == "gnn" and facts.links is None:
            self._seen = facts.with_links_of_log()
        if self._network is not None:
            self._network.hear(self._seen)
        return self

    def lesson(self, pairs: Pairs) -> Lesson:
        """The pairs as they are learnt from."""
        return Lesson(*self._rows(pairs.left, pairs.right), pairs.label, pairs.left, pairs.right)

    def fit_on(self, train: Lesson, validation: Lesson, *, seed: int = 0, threads: int = 1) -> Self:
        """Learn from rows, those of pairs that met also as if they had not; `validation` stops and calibrates.

        Raises:
            InputError: if the arrays do not fit each other, or a label is missing in either.
        """
        width = len(pair_names(self._seen)) if self._seen is not None else None
        for lesson, what in ((train, "training"), (validation, "held-out")):
            _check(lesson, what, width)
        n_pairs, n_held_out = len(train.labels), len(validation.labels)
        if self._seen is not None:
            behaviour = np.isin(self._seen.groups_of_columns(), BEHAVIOUR)
            train, validation = train.also_unmet(behaviour), validation.also_unmet(behaviour)
        self._calibration = None
        if self.config.method == "gnn":
            from endcap.models.complement.gnn import Gnn

            for_trees = self._for_scorer(train), self._for_scorer(validation)
            by_others = _by_others(*for_trees, self.config, seed, threads)
            self._scorer = _Boosting.fitted(*for_trees, self.config, seed, threads)
            taught, held = ~self._by_trees_alone(train), ~self._by_trees_alone(validation)
            self._network = Gnn.fitted(
                self._read_off(), train.where(taught), validation.where(held),
                (by_others[taught], self._of_scorer(validation)[held]), self.config, seed, threads,
            )  # fmt: skip
        else:
            fit = _Logistic.fitted if self.config.method == "logistic" else _Boosting.fitted
            self._scorer = fit(train, validation, self.config, seed, threads)
        self._calibration = Isotonic.fitted(validation.labels, self._log_odds(validation), validation.weights)
        self.learned = {"pairs": n_pairs, "held_out": n_held_out}
        return self

    # -- answers ---------------------------------------------------------------------------------------------------

    def probability(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> Floats:
        """(n,) P(one goes with the other), calibrated, the same both ways; of unknown items what is true of most."""
        return self._calibrated()(self._log_odds(self._question(left, right)))

    def raw(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> Floats:
        """(n,) the probability before calibration."""
        return _sigmoid(self._log_odds(self._question(left, right))).astype(np.float32)

    def contributions(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> Floats:
        """(n, len(GROUPS)) what each group of features added to the log-odds before calibration, beside the mean pair.

        The columns are those of `features.GROUPS`; above 0 speaks for a complement. A graph network's are those of its
        trees and what is lost where the network reads a group as that of the mean pair, and do not add up to its
        log-odds; what it hears from neighbours is among the links.
        """
        asked = self._question(left, right)
        group = np.array([GROUPS.index(name) for name in self._read_off().groups_of_columns()])
        scorer, (rows, back, *_) = self._fitted(), self._for_scorer(asked)
        by_column = (scorer.contributions(rows) + scorer.contributions(back)) / 2 if len(rows) else rows
        parts = np.stack([by_column[:, group[: rows.shape[1]] == g].sum(axis=1) for g in range(len(GROUPS))], axis=1)
        if self._network is not None:
            whole = self._guessed(asked)
            lost = [whole - self._guessed(asked, group == g, nodes=name != LINKS) for g, name in enumerate(GROUPS)]
            parts = parts + np.stack(lost, axis=1)
        return self._with_raised(parts, asked)

    def judge(self, pairs: Pairs) -> Judgement:
        """How good it is on pairs whose labels are known."""
        scores = self._log_odds(self.lesson(pairs))
        return judged(pairs.label, _sigmoid(scores), self._calibrated()(scores))

    def _question(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> Lesson:
        return Lesson(*self._rows(left, right), np.zeros(len(left), bool), np.asarray(left), np.asarray(right))

    def _rows(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> tuple[Floats, Floats]:
        facts = self._read_off()
        rows = pair_features(facts, left, right)
        return rows, turned(facts, rows)

    def _log_odds(self, asked: Lesson) -> NDArray[np.float64]:
        found = self._guessed(asked)
        if self._calibration is None or asked.left is None or asked.right is None:
            return found
        return np.where(self._is_settled(asked), np.maximum(found, self._calibration.scores[-1]), found)

    def _guessed(
        self, asked: Lesson, without: NDArray[np.bool_] | None = None, *, nodes: bool = True
    ) -> NDArray[np.float64]:
        """(n,) log-odds of pairs as if none was settled; for `without` and `nodes` see `Gnn.log_odds`."""
        found = self._of_scorer(asked)
        if self._network is not None:
            more = ~self._by_trees_alone(asked)
            found[more] = self._network.log_odds(asked.where(more), found[more], without, nodes=nodes)
        return found

    def _by_trees_alone(self, asked: Lesson) -> NDArray[np.bool_]:
        """(n,) pairs that nobody met, where labels are those of behaviour."""
        if self._facts().links is not None:
            return np.zeros(len(asked.rows), bool)
        behaviour = np.isin(self._read_off().groups_of_columns(), BEHAVIOUR)
        return np.asarray(np.isnan(asked.rows[:, behaviour]).all(axis=1))

    def _for_scorer(self, asked: Lesson) -> Lesson:
        """Without the columns of links that a graph network reads off the log: trees would take an item that is linked
        with little for one that goes with all, where few pairs of a leaf ever meet."""
        if self._seen is self.facts:
            return asked
        own = slice(len(self.names))
        return asked._replace(rows=asked.rows[:, own], back=asked.back[:, own])

    def _of_scorer(self, asked: Lesson) -> NDArray[np.float64]:
        scorer, asked = self._fitted(), self._for_scorer(asked)
        if not len(asked.rows):
            return np.empty(0)
        return scorer.both_ways(asked.rows, asked.back)

    def _is_settled(self, asked: Lesson) -> NDArray[np.bool_]:
        left, right = (np.asarray(part, np.int64) for part in (asked.left, asked.right))
        low, high = np.minimum(left, right), np.maximum(left, right)
        n = self._facts().n_items
        return (low >= 0) & (high < n) & (places(self._settled, low * n + high) >= 0)

    def _with_raised(self, parts: NDArray[np.floating], asked: Lesson) -> Floats:
        """Baskets that settle a pair are temporal evidence."""
        parts[:, GROUPS.index("temporal")] += self._log_odds(asked) - self._guessed(asked)
        return parts.astype(np.float32)

    # -- storing ---------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the model folder, atomically."""
        origin = self._known()
        manifest = {"kind": "model", "system": self.system, "endcap": endcap.__version__, **origin.about()}
        with new_artefact(Path(folder), manifest | self.about() | {"tuning": None}) as building:
            origin.write(building)
            self.write(building)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, with every checksum.

        Raises:
            InputError: if the folder is none; DamagedArtefact: if a file is missing or changed.
        """
        folder = Path(folder)
        return read_verified(folder, kind="model", read=lambda manifest: cls.load(folder, manifest))

    @classmethod
    def load(cls, folder: Path, manifest: Mapping[str, Any]) -> Self:
        """What `save` wrote, of a folder that was verified; arrays are memory-mapped."""
        if manifest.get("system") != cls.system:
            raise InputError(f"{folder}: no classifier of complements, but {manifest.get('system')}")
        model = cls.read(folder, manifest)
        model.origin = Origin.read(folder, manifest)
        return model

    def about(self) -> dict[str, Any]:
        """What a manifest keeps of it, also that of another model's folder; `write` has the rest."""
        return {
            "config": msgspec.to_builtins(self.config),
            "features": list(self.names),
            "learned": self.learned,
        }

    def write(self, folder: Path) -> None:
        """Put facts, weights or trees, and the calibration into a folder that is being made."""
        calibration = self._calibrated()
        arrays = {f"facts-{name}": array for name, array in self._facts().arrays().items()}
        arrays |= {"calibration-scores": calibration.scores, "calibration-shares": calibration.shares}
        if self._network is not None:
            arrays |= {f"gnn-{name}": array for name, array in self._network.arrays().items()}
        if isinstance(scorer := self._fitted(), _Logistic):
            arrays |= {f"logistic-{name}": array for name, array in scorer._asdict().items()}
        else:
            (folder / TREES_FILE).write_text(scorer.trees.text, encoding="utf-8")
        for name, array in arrays.items():
            save_array(folder / f"{PREFIX}{name}.npy", array)

    @classmethod
    def read(cls, folder: Path, about: Mapping[str, Any]) -> Self:
        """What `write` put into a verified folder, and `about` told.

        Raises:
            DamagedArtefact: if the files do not fit together.
        """
        model = cls(**about["config"])
        model.names, model.learned = tuple(about["features"]), about["learned"]
        arrays = {path.stem.removeprefix(PREFIX): mapped(path) for path in sorted(folder.glob(f"{PREFIX}*.npy"))}
        try:
            facts = PairFacts(**_under(arrays, "facts-"))
            if tuple(pair_names(facts)) != model.names:
                raise ValueError("this endcap looks at other things")
            model.over(facts)
            model._calibration = Isotonic(**_under(arrays, "calibration-"))
            if model.config.method == "logistic":
                model._scorer = _Logistic(**_under(arrays, "logistic-"))
            else:
                model._scorer = _Boosting.read((folder / TREES_FILE).read_text(encoding="utf-8"), len(model.names))
            if model.config.method == "gnn":
                from endcap.models.complement.gnn import Gnn

                model._network = Gnn.restored(_under(arrays, "gnn-"), model._read_off(), model.config)
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise DamagedArtefact(f"{folder}: no classifier of complements ({error}); train it again") from None
        return model

    # -- what must be there ----------------------------------------------------------------------------------------

    def _kinds(self) -> dict[str, list[str]]:
        split = {"complements": self.config.complements, "substitutes": self.config.substitutes}
        return {kind: [name.strip() for name in names.split(",") if name.strip()] for kind, names in split.items()}

    def _known(self) -> Origin:
        if self.origin is None:
            raise InputError("complement: not trained yet; call fit first")
        return self.origin

    def _facts(self) -> PairFacts:
        if self.facts is None:
            raise InputError("complement: nothing is known of the items yet; call fit, or know, first")
        return self.facts

    def _read_off(self) -> PairFacts:
        """The facts that features are read off: a graph network has links of the log where none are given."""
        return self._facts() if self._seen is None else self._seen

    def _fitted(self) -> _Logistic | _Boosting:
        if self._scorer is None:
            raise InputError("complement: not trained yet; call fit first")
        return self._scorer

    def _calibrated(self) -> Isotonic:
        if self._calibration is None:
            raise InputError("complement: not trained yet; call fit first")
        return self._calibration


def _under(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _check(lesson: Lesson, what: str, n_columns: int | None) -> None:
    rows, back, labels = (np.asarray(part) for part in lesson[:3])
    if rows.ndim != 2 or rows.dtype.kind not in "fiu" or back.shape != rows.shape or back.dtype != rows.dtype:
        raise InputError(f"complement: {what}: rows (n, f) of numbers are needed, and as many the other way")
    if labels.shape != rows.shape[:1] or labels.dtype.kind != "b":
        raise InputError(f"complement: {what}: a label, true or false, is needed for each of the {len(rows)} pairs")
    if n_columns is not None and rows.shape[1] != n_columns:
        raise InputError(f"complement: {what}: rows have {rows.shape[1]} columns, {n_columns} are known")
    if np.isinf(rows).any() or np.isinf(back).any():
        raise InputError(f"complement: {what}: a feature is infinite; leave what is not known NaN")
    for name, there in (("complements", labels.any()), ("substitutes", not labels.all())):
        if not there:
            raise InputError(f"complement: none of the {what} pairs are {name}; more pairs are needed")


def _sigmoid(log_odds: NDArray[np.floating]) -> NDArray[np.floating]:
    return 1 / (1 + np.exp(-np.clip(log_odds, -500, 500)))


# -- two of the scorers ------------------------------------------------------------------------------------------------


class _Logistic(NamedTuple):
    """Logistic regression over standardised columns and over what is missing in them.

    Attributes:
        middle, scale, missing: see `Columns`; weights: (2 f,); bias: (1,).
    """

    middle: NDArray[np.float64]
    scale: NDArray[np.float64]
    missing: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    @classmethod
    def fitted(cls, train: Lesson, _: Lesson, config: ComplementConfig, seed: int, threads: int) -> Self:
        """The maximum by Newton's method: the same whatever the seed and threads."""
        (given, labels), counts = train.both, train.both_weights
        columns = Columns.of(given)
        x = np.append(columns(given), np.ones((len(given), 1)), axis=1)
        pull = np.append(np.full(x.shape[1] - 1, config.ridge), 0)
        weights = np.zeros(x.shape[1])
        for _step in range(NEWTON_STEPS):
            p = _sigmoid(x @ weights)
            gradient = x.T @ (counts * (labels - p)) - pull * weights
            curvature = (x * (counts * p * (1 - p))[:, None]).T @ x + np.diag(pull + 1e-9)
            step = np.linalg.solve(curvature, gradient)
            step *= min(1.0, MOST_STEP / max(np.abs(step).max(), 1e-300))  # far from the maximum the curve misleads
            weights += step
            if np.abs(step).max() < CLOSE_ENOUGH:
                break
        return cls(*columns, weights[:-1], weights[-1:])

    def log_odds(self, rows: Floats) -> NDArray[np.float64]:
        return self._columns(rows) @ self.weights + self.bias[0]

    def both_ways(self, rows: Floats, back: Floats) -> NDArray[np.float64]:
        """(n,) the mean of both."""
        return (self.log_odds(rows) + self.log_odds(back)) / 2

    def contributions(self, rows: Floats) -> NDArray[np.float64]:
        """(n, f) beside the mean pair."""
        known, unknown = np.split(self._columns(rows) * self.weights, 2, axis=1)
        return known + unknown

    def _columns(self, rows: Floats) -> NDArray[np.float64]:
        return Columns(self.middle, self.scale, self.missing)(rows)


class _Boosting:
    """Gradient boosted trees; LightGBM's text is all that is kept."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees

    @classmethod
    def fitted(cls, train: Lesson, validation: Lesson, config: ComplementConfig, seed: int, threads: int) -> Self:
        import lightgbm

        parameters = {
            "objective": "binary",
            "metric": "binary_logloss",
            **how_trees_grow(config, seed, threads),
        }
        data = lightgbm.Dataset(*train.both, weight=train.both_weights, params={"verbose": -1})
        held_out = lightgbm.Dataset(*validation.both, weight=validation.both_weights, reference=data)
        stop = lightgbm.early_stopping(config.patience, verbose=False)
        grown = lightgbm.train(parameters, data, config.trees, valid_sets=[held_out], callbacks=[stop])
        best = grown.best_iteration if grown.best_iteration > 0 else -1
        # from its text, as `read` does: what is stored and what answers are the same trees to the last bit
        return cls.read(grown.model_to_string(num_iteration=best), train.rows.shape[1])

    @classmethod
    def read(cls, text: str, n_features: int) -> Self:
        """
        Raises:
            ValueError: if these are no trees over so many features.
        """
        return cls(Trees(text, n_features, OBJECTIVE))

    def log_odds(self, rows: Floats) -> NDArray[np.float64]:
        return self.trees.sums(rows)

    def both_ways(self, rows: Floats, back: Floats) -> NDArray[np.float64]:
        """(n,) the mean of both; what reads the same both ways, as most pairs that nobody met, is asked once."""
        found = self.log_odds(rows)
        other = np.flatnonzero(((rows != back) & ~(np.isnan(rows) & np.isnan(back))).any(axis=1))
        found[other] = (found[other] + self.log_odds(back[other])) / 2
        return found

    def contributions(self, rows: Floats) -> NDArray[np.float64]:
        """(n, f) Shapley values."""
        return self.trees.added(rows)


def _by_others(
    train: Lesson, validation: Lesson, config: ComplementConfig, seed: int, threads: int
) -> NDArray[np.float64]:
    """(n,) log-odds of the pairs by trees that were grown without them, a pair and its copy as unmet in one fold."""
    if train.left is None or train.right is None or not len(train.left) == len(train.right) == len(train.rows):
        raise InputError("complement: a graph network needs the items of every pair; make the rows by `lesson`")
    ends = np.stack([np.minimum(train.left, train.right), np.maximum(train.left, train.right)], axis=1)
    pairs, place = np.unique(ends, axis=0, return_inverse=True)
    fold = np.random.default_rng([seed, FOLDS]).integers(FOLDS, size=len(pairs))[place]
    found = np.zeros(len(fold))
    for one in range(FOLDS):
        own = fold == one
        rest = train.where(~own)
        if own.any() and len(np.unique(rest.labels)) == 2:
            trees = _Boosting.fitted(rest, validation, config, seed, threads)
            asked = train.where(own)
            found[own] = trees.both_ways(asked.rows, asked.back)
    return found
