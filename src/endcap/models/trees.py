"""Trees of the ranker and of the classifier of complements: how they grow, and what LightGBM may read is checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from endcap.kernels.trees import Forest

if TYPE_CHECKING:
    import lightgbm

MODEL_FILE = "ranker.txt"  # as LightGBM writes it
RANKING = "lambdarank"
HEAD = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx={last}
objective={objective}
feature_names={names}
feature_infos={infos}
tree_sizes={sizes}
"""
# What stands in a tree of LightGBM's file: it ends the process over lines that are too short.
OF_LEAVES = ("leaf_value", "leaf_weight", "leaf_count")
OF_SPLITS = (
    *("split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child"),
    *("internal_value", "internal_weight", "internal_count"),
)
TREE_LINES = {"Tree", "num_leaves", "num_cat", "is_linear", "shrinkage", *OF_LEAVES, *OF_SPLITS}
FRACTIONS = {
    *("leaf_value", "leaf_weight", "split_gain", "threshold", "internal_value", "internal_weight", "shrinkage")
}
NUMBER, WHOLE = re.compile(r"-?\d{1,400}(\.\d{1,400})?(e[-+]?\d{1,4})?"), re.compile(r"-?\d{1,10}")
THRESHOLD = re.compile(rf"{NUMBER.pattern}|inf")  # inf: what is known goes one way, NaN the other
LARGEST = 2**31 - 1
NAN_MISSING = 2
DECISIONS = [0, 2, 8, 10]  # numbers alone; a 0 is never missing: NaN is, or counts as 0


class TreeSettings(Protocol):
    """What grown trees are bounded by, in both configurations."""

    @property
    def leaves(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def min_rows(self) -> int: ...

    @property
    def l2(self) -> float: ...

    @property
    def columns(self) -> float: ...


class Trees:
    """Sound trees: our kernel says what they come to, LightGBM what each feature adds; `text` is what is kept."""

    def __init__(self, text: str, n_features: int, objective: str = RANKING) -> None:
        """
        Raises:
            ValueError: if these are no such trees over so many features.
        """
        self.text = sound_trees(text, n_features, objective)
        self._forest = _forest_of(self.text)

    def __len__(self) -> int:
        return len(self._forest.root)

    def sums(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) what rows (n, f) come to: log-odds, or scores."""
        return self._forest.sums(rows)

    def added(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n, f) Shapley values: what each feature adds to the mean.

        Raises:
            ValueError: if LightGBM does not take the trees.
        """
        found = self._booster.predict(rows, pred_contrib=True, num_threads=1, validate_features=False)
        return np.asarray(found)[:, :-1]  # the last one is the mean of all

    @cached_property
    def _booster(self) -> lightgbm.Booster:
        """Made when it is first needed: LightGBM takes a second to import, and most answers do without."""
        import lightgbm

        try:
            return lightgbm.Booster(model_str=self.text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from None


def how_trees_grow(config: TreeSettings, seed: int, threads: int) -> dict[str, Any]:
    """LightGBM's parameters, but for the objective: the same rows and seed give the same trees."""
    return {
        "num_leaves": config.leaves, "learning_rate": config.learning_rate, "min_data_in_leaf": config.min_rows,
        "lambda_l2": config.l2, "feature_fraction": config.columns, "seed": seed, "num_threads": threads,
        "deterministic": True, "force_row_wise": True, "verbose": -1,
    }  # fmt: skip


def sound_trees(text: str, n_features: int, objective: str = RANKING) -> str:
    """The trees over so many features out of a text, under a head of our own: LightGBM trusts what it reads.

    Raises:
        ValueError: if these are none, saying what is wrong.
    """
    head, _, rest = text.partition("\nTree=0\n")
    about = _lines(head)
    if not text.startswith("tree\nversion=v4\n") or about.get("objective") != objective:
        raise ValueError(f"not the head of {'a ranker' if objective == RANKING else 'such trees'}")
    if about["max_feature_idx"] != str(n_features - 1):
        raise ValueError(f"the trees are not over {n_features} features")
    trees, end, _ = (f"Tree=0\n{rest}" if rest else "").partition("end of trees\n")
    words = about["tree_sizes"].split(" ")
    if not all(WHOLE.fullmatch(word) for word in words):
        raise ValueError("the sizes of its trees are no numbers")
    sizes = np.array(words, np.int64)
    starts = np.append(0, np.cumsum(sizes))
    if not end or starts[-1] != len(trees) or (sizes < 1).any() or not trees.isascii():
        raise ValueError("the sizes of its trees are not as told")
    for number, (begin, last) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        tree = _lines(trees[begin:last])
        if not trees.startswith(f"Tree={number}\n", begin) or tree["Tree"] != str(number):
            raise ValueError(f"tree {number} does not begin where it should")
        _check_tree(tree, number, n_features)
    names = " ".join(f"Column_{number}" for number in range(n_features))
    return HEAD.format(
        last=n_features - 1,
        objective=objective,
        names=names,
        infos=" ".join(["none"] * n_features),
        sizes=" ".join(words),
    ) + (f"\n{trees}{end}")


def _forest_of(text: str) -> Forest:
    """The trees of a sound text, for our own kernel."""
    of: dict[str, list[NDArray[Any]]] = {name: [] for name in ("root", *OF_SPLITS, "leaf_value")}
    splits = leaves = 0
    for part in text.partition("end of trees\n")[0].split("\nTree=")[1:]:
        tree = _lines(f"Tree={part}")
        n_leaves = int(tree["num_leaves"])
        read = {name: np.array(tree[name].split(), np.float64) for name in ("leaf_value", *OF_SPLITS)}
        for child in ("left_child", "right_child"):
            read[child] += np.where(read[child] >= 0, splits, -leaves)
        for name, numbers in read.items():
            of[name].append(numbers[: n_leaves if name == "leaf_value" else n_leaves - 1])
        of["root"].append(np.array([splits if n_leaves > 1 else -1 - leaves]))
        splits, leaves = splits + n_leaves - 1, leaves + n_leaves
    found = {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in of.items()}
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        threshold = found["threshold"].astype(np.float32)
    above = threshold > found["threshold"]
    threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))  # no float32 lies between the two
    kind = found["decision_type"].astype(np.int8)  # bit 1: missing goes left; above it whether NaN is missing, or 0
    nan_left = np.where(kind >> 2 == NAN_MISSING, (kind & 2) > 0, found["threshold"] >= 0)
    children = np.stack([found["right_child"], found["left_child"]], axis=1).astype(np.int32)
    root, feature = found["root"].astype(np.int32), found["split_feature"].astype(np.int32)
    return Forest(root, feature, threshold, nan_left, children, found["leaf_value"])


def _check_tree(tree: Mapping[str, str], number: int, n_features: int) -> None:
    if set(tree) != TREE_LINES:
        raise ValueError(f"tree {number}: lines that no tree has, or too few")
    if tree["num_cat"] != "0" or tree["is_linear"] != "0":
        raise ValueError(f"tree {number}: of a kind that no ranker has")
    leaves = int(_numbers(tree, "num_leaves", 1)[0])
    _numbers(tree, "shrinkage", 1)
    for name in OF_LEAVES:
        _numbers(tree, name, leaves if leaves > 1 or name == "leaf_value" else None)
    of = {name: _numbers(tree, name, leaves - 1) for name in OF_SPLITS}
    feature = of["split_feature"]
    if (feature < 0).any() or (feature >= n_features).any() or not np.isin(of["decision_type"], DECISIONS).all():
        raise ValueError(f"tree {number}: a split that cannot be")
    children = [of["left_child"], of["right_child"]]
    below = np.concatenate(children)  # every node but the root, and every leaf as -1 - its number, once
    if leaves > 1 and sorted(below.tolist()) != [*range(-leaves, 0), *range(1, leaves - 1)]:
        raise ValueError(f"tree {number}: its splits are no tree")
    if any((child[child > 0] <= np.flatnonzero(child > 0)).any() for child in children):
        raise ValueError(f"tree {number}: its splits go in a circle")


def _numbers(tree: Mapping[str, str], name: str, n: int | None) -> NDArray[np.float64]:
    """The numbers of a line, n of them (None: any), written as LightGBM writes numbers."""
    words = tree[name].split(" ") if tree[name] else []
    kind = THRESHOLD if name == "threshold" else NUMBER if name in FRACTIONS else WHOLE
    if (n is not None and len(words) != n) or not all(kind.fullmatch(word) for word in words):
        raise ValueError(f"tree {tree['Tree']}: {name} is not {n} numbers")
    numbers = np.array(words, np.float64)
    if (name != "threshold" and not np.isfinite(numbers).all()) or (
        kind is WHOLE and (np.abs(numbers) > LARGEST).any()
    ):
        raise ValueError(f"tree {tree['Tree']}: {name} holds a number that cannot be")
    return numbers


def _lines(text: str) -> dict[str, str]:
    """Lines `name=value`, each name once: who reads the first must not find another than who reads the last."""
    pairs = [(name, value) for name, equals, value in (line.partition("=") for line in text.split("\n")) if equals]
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a line twice")
    return dict(pairs)
