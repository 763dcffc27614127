"""Deezer's word2vec study on UCI Online Retail: a customer's last item from the one before it.

    python benchmarks/next_purchase.py --data DIR [--json FILE] [--quick]

Every sequence trains without its last item; 1,000 customers validate and 1,000 test, for five seeds of that split. The
item asked about is taken out of every ranking, and a repeat (the last item is the one before it) counts as a hit at the
first place, for all models alike. Counts: how often two items stand within three places of each other. The study's own
counts leave the asked item in the ranking where its count puts it; that reading is printed as well.

Variant and scorer are chosen on each split's validation customers by NDCG@10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from _real import data_folder, deezer
from _report import Row, arguments, report
from endcap import ItemInteraction, Shop
from endcap.graph import typed_sessions
from endcap.metrics import Interval, bootstrap_mean, paired_bootstrap

K, SPLITS, CUSTOMERS, WINDOW = 10, 5, 1000, 3
COMMON = {"dim": 200, "learning_rate": 0.1, "negatives": 15, "session_filter": "none", "targets": "typed"}
NEAR = {"reg_k": 10, "reg_weighting": "share", "reg_reach": 5}
VARIANTS: dict[str, dict[str, Any]] = {
    "without regulariser, 2 epochs": {"reg_k": 0, "epochs": 2},
    "without regulariser, 4 epochs": {"reg_k": 0, "epochs": 4},
    "regulariser of the paper, 4 epochs": {"reg_k": 3, "epochs": 4},
    "regulariser by share, near, 2 epochs": {**NEAR, "epochs": 2},
    "regulariser by share, near, 4 epochs": {**NEAR, "epochs": 4},
}
Ranks = NDArray[np.int64]


def last_two(shop: Shop) -> tuple[NDArray[np.int32], NDArray[np.int32], Shop]:
    """Each customer's item before the last, their last item, and the shop without the last ones."""
    events = shop.positives
    last = np.append(np.flatnonzero(events.user[1:] != events.user[:-1]), len(events) - 1)
    keep = np.ones(len(shop.events), bool)
    keep[last] = False
    train = Shop(shop.events.where(keep), shop.items, shop.users, shop.catalogue, shop.interactions)
    return events.item[last - 1], events.item[last], train


def ranks_in_lists(lists: NDArray[np.int32], asked: NDArray[np.int32], wanted: NDArray[np.int32]) -> Ranks:
    """The place of each wanted item in its list, K if it is not there; a repeat is in the first place."""
    hit = lists == wanted[:, None]
    return np.where(asked == wanted, 0, np.where(hit.any(1), hit.argmax(1), K))


def window_counts(train: Shop) -> NDArray[np.float32]:
    """(n_items, n_items) how often two items stand within WINDOW places; popularity breaks ties."""
    corpus = typed_sessions(train.positives, train.positives.item, train.n_items, 1)
    item, session = corpus.thing[corpus.tokens], np.repeat(np.arange(len(corpus.offsets) - 1), np.diff(corpus.offsets))
    counts = np.zeros((train.n_items, train.n_items), np.float32)
    for distance in range(1, WINDOW + 1):
        same = session[distance:] == session[:-distance]
        a, b = item[:-distance][same], item[distance:][same]
        np.add.at(counts, (a, b), 1)
        np.add.at(counts, (b, a), 1)
    return counts + np.bincount(item, minlength=train.n_items) / np.float32(1e7)


def top(scores: NDArray[np.float32], without: NDArray[np.int32] | None) -> NDArray[np.int32]:
    """The K best columns of each row."""
    if without is not None:
        scores = scores.copy()
        scores[np.arange(len(scores)), without] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :K].astype(np.int32)


def gains(ranks: Ranks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits and discounted gains of each question."""
    hit = ranks < K
    return hit.astype(float), np.where(hit, 1 / np.log2(ranks + 2.0), 0)


def embeddings(train: Shop, asked: NDArray[np.int32], wanted: NDArray[np.int32], quick: bool) -> dict[str, dict]:
    """Ranks of all customers by variant and scorer."""
    found: dict[str, dict] = {}
    for name, settings in VARIANTS.items():
        fewer = {"epochs": 1} if quick else {}
        model = ItemInteraction(**COMMON | settings | fewer | {"scorer": "in_out_ip"})
        model.fit(train, threads=2, show=True)
        trained = model._vectors  # of in_out_ip: the tables themselves, which the other scorers are made of
        row_of = trained.row_of[train.interactions.code("purchase")]
        unit_inputs, unit_outputs = (
            table / np.linalg.norm(table, axis=1, keepdims=True) for table in (trained.queries, trained.targets)
        )
        tables = {
            "in_out_ip": (trained.queries, trained.targets),
            "in_out_cos": (unit_inputs, unit_outputs),
            "in_in_cos": (unit_inputs, unit_inputs),
        }
        for scorer, (queries, targets) in tables.items():
            scores = np.full((len(asked), train.n_items), -np.inf, np.float32)
            scores[:, trained.thing] = queries[row_of[asked]] @ targets.T
            found.setdefault(name, {})[scorer] = ranks_in_lists(top(scores, asked), asked, wanted)
    return found


def pooled(pick: Any, splits: list[tuple[NDArray, NDArray]]) -> tuple[NDArray, NDArray]:
    """Hits and gains of all test customers of all splits; `pick(validation)` gives the ranks to use."""
    chosen = [gains(pick(validation)[test]) for validation, test in splits]
    return np.concatenate([hits for hits, _ in chosen]), np.concatenate([gain for _, gain in chosen])


def best(candidates: list[Ranks], validation: NDArray) -> Ranks:
    return max(candidates, key=lambda ranks: gains(ranks[validation])[1].mean())


def text(figure: Interval) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def main() -> None:
    given = arguments(__doc__ or "").parse_args()
    shop = deezer(data_folder(given.data, "deezer-uci-sessions"))
    asked, wanted, train = last_two(shop)
    counts = window_counts(train)[asked]
    own_rule = ranks_in_lists(top(counts, asked), asked, wanted)
    left_in = ranks_in_lists(top(counts, None), np.full_like(asked, -1), wanted)
    found = embeddings(train, asked, wanted, given.quick)
    customers = [np.random.default_rng(seed).permutation(len(asked)) for seed in range(SPLITS)]
    splits = [(order[:CUSTOMERS], order[CUSTOMERS : 2 * CUSTOMERS]) for order in customers]
    groups = np.concatenate([test for _, test in splits])

    everything = [ranks for scored in found.values() for ranks in scored.values()]
    plain = [ranks for name, scored in found.items() if name.startswith("without") for ranks in scored.values()]
    regularised = [r for name, scored in found.items() if not name.startswith("without") for r in scored.values()]
    contestants = {
        "item-interaction, best on validation": lambda validation: best(everything, validation),
        "item-interaction, without regulariser": lambda validation: best(plain, validation),
        "item-interaction, with regulariser": lambda validation: best(regularised, validation),
        "window-3 counts, same rule": lambda _: own_rule,
        "window-3 counts, asked item left in": lambda _: left_in,
    }
    scores = {name: pooled(pick, splits) for name, pick in contestants.items()}
    command = "python benchmarks/next_purchase.py --data DIR"
    rows = [
        Row(what=f"{name}: {metric}", ours=text(bootstrap_mean(values, groups)), command=command)
        for name, both in scores.items()
        for metric, values in zip((f"hit_rate@{K}", f"ndcg@{K}"), both, strict=True)
    ]
    ours = scores["item-interaction, best on validation"]
    pairs = [
        ("against window-3 counts, same rule", ours, scores["window-3 counts, same rule"], "above 0"),
        ("against window-3 counts, asked item left in", ours, scores["window-3 counts, asked item left in"], "above 0"),
        ("the regulariser's part", *list(scores.values())[2:0:-1], None),
    ]
    for what, a, b, target in pairs:
        for metric, x, y in zip((f"hit_rate@{K}", f"ndcg@{K}"), a, b, strict=True):
            difference = paired_bootstrap(x, y, groups)
            met = None if target is None else bool(difference.low > 0)
            rows.append(Row(what=f"{what}: {metric}", ours=text(difference), target=target, met=met, command=command))
    report("next_purchase", "deezer-uci-sessions, five splits", rows, given.json, quick=given.quick)


if __name__ == "__main__":
    main()
