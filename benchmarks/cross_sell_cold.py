"""Products that arrived lately: how soon does cross-sell find them? The same products with more and more of their baskets.

    python benchmarks/cross_sell_cold.py [--data DIR] [--json FILE] [--quick] [--only ROWS] [--seed N]

DIR is uci-online-retail, or holds it; without it the shop is simulated. The last tenth of the log is the test part. Of
the products with 100 training baskets and more, 200 are drawn. They are shown to a training as if they had arrived late:
of each the last 0, 3, 10, 35 or 75 baskets, or all, and nothing that was done with it before; then the model is trained
from the beginning. So a row is six trainings, and every level is asked the same questions: a drawn product of a test
basket, by the others of the basket that are known well, among 1,000 products drawn evenly and among all. Where a basket
lies in the test part is not told.

Settings of all rows are fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _real import data_folder, uci
from _report import Row, arguments, report
from endcap import Shop, metrics, models, simulate
from endcap.answers import Request
from endcap.graph import baskets_of
from endcap.simulate import ShopSettings

LEVELS: tuple[int | None, ...] = (0, 3, 10, 35, 75, None)  # baskets shown; None: all
WARM, DRAWN, ASKED, NEGATIVES, K, TEST = 100, 200, 3_000, 1_000, 10, 0.1
AT_LEAST = {0: 0.30, 10: 0.65}  # of what all baskets give
SIMULATED = ShopSettings(events=600_000, items=2_000, users=15_000, seed=5, best=0, converts=0.8, checkout=0.9, cold=0.0)
BASE = {"complement": "none", "epochs": 15}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "network": {"score_by": "network"},
    "network without catalogue links": {"score_by": "network", "catalogue_links": 0},
    "evidence": {"score_by": "evidence"},
}


class Questions(NamedTuple):
    """(q,) baskets: the product wanted, what it is asked by, NEGATIVES products drawn evenly, and who bought."""

    target: NDArray[np.int32]
    rest: list[NDArray[np.int32]]
    rivals: NDArray[np.int64]
    user: NDArray[np.int32]


def questions_of(test: Shop, warm: NDArray[np.int32], n_items: int, rng: np.random.Generator) -> Questions:
    """One of the drawn products of each test basket, by its products that were not drawn; at most ASKED."""
    baskets = baskets_of(test, largest=0)
    target, rest, rivals, user = [], [], [], []
    for row in rng.permutation(len(baskets)):
        inside = baskets.items[baskets.offsets[row] : baskets.offsets[row + 1]]
        inside = inside[inside < n_items]
        drawn, others = inside[np.isin(inside, warm)], inside[~np.isin(inside, warm)]
        if len(drawn) == 0 or len(others) == 0 or len(target) == ASKED:
            continue
        outside = np.setdiff1d(np.arange(n_items), inside)
        target.append(rng.choice(drawn))
        rest.append(others)
        rivals.append(rng.choice(outside, NEGATIVES))
        user.append(baskets.user[row])
    return Questions(np.array(target, np.int32), rest, np.array(rivals), np.array(user, np.int32))


def shown(train: Shop, warm: NDArray[np.int32], level: int | None) -> Shop:
    """The training part with the last `level` baskets of each drawn product, which is known since the first of these."""
    if level is None:
        return train
    baskets = baskets_of(train, largest=0)
    since = np.full(train.n_items, np.iinfo(np.int64).min)
    time = np.repeat(baskets.time, baskets.sizes)
    for item in warm:
        since[item] = np.sort(time[baskets.items == item])[-level] if level else np.iinfo(np.int64).max
    events, known_from = train.events, train.item_known_from
    assert known_from is not None
    return replace(
        train,
        events=events.where((events.item < 0) | (events.time >= since[events.item])),
        item_known_from=np.maximum(known_from[: train.n_items], since),
    )


def hits(model: models.Model, questions: Questions, n_items: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(q,) the hit rate at K among the drawn products, and among all but the basket's own; ties in random order."""
    everything = np.arange(n_items, dtype=np.int32)
    counts = np.zeros((2, 2, len(questions.target)), np.int64)
    for place, (target, rest) in enumerate(zip(questions.target, questions.rest, strict=True)):
        scores = np.asarray(model.score(Request(k=K, basket=rest), everything), np.float64)
        own = scores[target]
        scores[np.append(rest, target)] = np.nan
        for column, theirs in enumerate((scores[questions.rivals[place]], scores)):
            counts[column, :, place] = np.count_nonzero(theirs > own), np.count_nonzero(theirs == own)
    return tuple(metrics.tied_hit_rate(above, ties, K) for above, ties in counts)  # type: ignore[return-value]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--only", help="rows of the table, with commas")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(VARIANTS)
    if unknown := set(names) - set(VARIANTS):
        raise SystemExit(f"--only {given.only}: there is no row {min(unknown)!r}; there are: {', '.join(VARIANTS)}")
    if given.data:
        data, shop = "uci-online-retail", uci(data_folder(given.data, "uci-online-retail"))
    else:
        made = simulate.tables(SIMULATED)
        data, shop = "simulated", Shop.from_tables(made.events, made.items)
    train, test = shop.split_by_time(TEST)
    rng = np.random.default_rng(given.seed)
    bought = np.bincount(baskets_of(train, largest=0).items, minlength=train.n_items)
    warm = np.flatnonzero(bought >= WARM)
    warm = rng.choice(warm, min(DRAWN, len(warm)), replace=False).astype(np.int32)
    questions = questions_of(test, warm, train.n_items, rng)
    levels = (0, 10, None) if given.quick else LEVELS
    settings = BASE | ({"epochs": 2} if given.quick else {})
    print(f"{data}: {train.n_items:,} products, {len(warm)} of them drawn; {len(questions.target):,} questions", flush=True)
    rows = []
    for name in names:
        found = {}
        for level in levels:
            model = models.create("cross-sell", {**settings, **VARIANTS[name]})
            model.fit(shown(train, warm, level), seed=given.seed)
            found[level] = hits(model, questions, train.n_items)
            print(f"{name}, {level} baskets: " + " / ".join(f"{hit.mean():.3f}" for hit in found[level]), flush=True)
        rows += [_row(name, level, found, questions, data, given.seed) for level in levels]
    report(
        f"cross_sell_cold_{data.partition('-')[0]}", data, rows, given.json, quick=given.quick,
        notes=f"Hit rate at {K} of {len(questions.target):,} questions about {len(warm)} products, among {NEGATIVES:,} products "
        "drawn evenly, then among all, and as shares of the last line of the row. A line is met where the share "
        "among the drawn ones is reached and no level before it does better.",
    )  # fmt: skip


def _row(
    name: str, level: int | None, found: Mapping[int | None, tuple[NDArray, NDArray]], questions: Questions,
    data: str, seed: int,
) -> Row:  # fmt: skip
    values = [metrics.bootstrap_mean(hit, questions.user, seed=seed) for hit in found[level]]
    shares = [hit.mean() / max(1e-12, whole.mean()) for hit, whole in zip(found[level], found[None], strict=True)]
    rises = all(
        found[before][0].mean() <= found[level][0].mean()
        for before in found
        if level is None or (before is not None and before < level)
    )
    least = AT_LEAST.get(level, 0.0) if level is not None else 0.0
    return Row(
        what=f"{name}, {'all' if level is None else level} baskets shown",
        ours="; ".join(
            f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}], {share:.0%}" for value, share in zip(values, shares, strict=True)
        ),
        target=f"share at least {least:.0%}, rising" if least else "rising",
        met=bool(rises and shares[0] >= least),
        command=f"python benchmarks/cross_sell_cold.py{' --data DIR' if data != 'simulated' else ''} --only '{name}' --seed {seed}",
    )


if __name__ == "__main__":
    main()
