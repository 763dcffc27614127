"""Products that arrived lately: how soon does cross-sell find them? The same ones with more and more of their baskets.

    python benchmarks/cross_sell_cold.py [--data DIR] [--json FILE] [--quick] [--seed N]

DIR is uci-online-retail, or holds it; without it the shop is simulated. The last tenth of the log is the test part. Of
the products with 100 training baskets and more, 200 are drawn. They are shown to a training as if they had arrived
late: of each the last 0, 3, 10, 35 or 75 baskets, or all, and nothing that was done with it before; then a model is
trained from the beginning. Every level is asked the same questions: a drawn product of a test basket, by the products
of the basket that were not drawn, among 1,000 drawn evenly and among all.

Each training gives two lines: evidence, among whose scores the network places what arrived lately, as
`score_by=evidence` serves it, and the network alone. Where no basket or all are shown, a second training has no
catalogue links. How far a few baskets are trusted (`cross_sell_new.TRUSTED`, and the lift of what arrived lately) was
chosen while looking at questions of seed 0 on UCI: read figures of another seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from _real import data_folder, uci
from _report import Row, arguments, report
from endcap import Shop, metrics, simulate
from endcap.answers import Request
from endcap.graph import Baskets, baskets_of
from endcap.models.cross_sell import CrossSell
from endcap.simulate import ShopSettings

LEVELS: tuple[int | None, ...] = (0, 3, 10, 35, 75, None)  # baskets shown; None: all
WARM, DRAWN, ASKED, NEGATIVES, K, TEST = 100, 200, 3_000, 1_000, 10, 0.1
AT_LEAST = {0: 0.30, 10: 0.65}  # of what all baskets give
SIMULATED = ShopSettings(events=300_000, items=1_000, users=8_000, seed=5, best=0, converts=0.8, checkout=0.9, cold=0.0)
TRAINED: dict[str, Any] = {
    "score_by": "evidence", "complement": "none", "epochs": 6, "batch_size": 512, "questions": 512, "negatives": 1024,
    "learning_rate": 0.01, "evidence_baskets": 1500,
}  # fmt: skip
WITHOUT_LINKS = {"catalogue_links": 0}
WAYS = ("evidence", "network", "network without catalogue links")


Score = Callable[[Request, NDArray[np.int32]], NDArray[np.float32]]
Hits = tuple[NDArray[np.float64], NDArray[np.float64]]  # (q,) among the drawn, among all


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


def learnt(shop: Shop) -> Baskets:
    """The baskets that a training learns from."""
    found = baskets_of(shop)
    return found.where(found.sizes >= 2)


def shown(train: Shop, warm: NDArray[np.int32], level: int | None) -> Shop:
    """The training part with the last `level` baskets of each drawn product, known since the first of these."""
    if level is None:
        return train
    baskets = learnt(train)
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


def hits(score: Score, questions: Questions, n_items: int) -> Hits:
    """The hit rate at K among the drawn products, and among all but the basket's own; ties in random order."""
    everything = np.arange(n_items, dtype=np.int32)
    counts = np.zeros((2, 2, len(questions.target)), np.int64)
    for place, (target, rest) in enumerate(zip(questions.target, questions.rest, strict=True)):
        scores = score(Request(k=K, basket=rest), everything).astype(np.float64)
        own = scores[target]
        scores[np.append(rest, target)] = np.nan
        for column, theirs in enumerate((scores[questions.rivals[place]], scores)):
            counts[column, :, place] = np.count_nonzero(theirs > own), np.count_nonzero(theirs == own)
    drawn, whole = (metrics.tied_hit_rate(above, ties, K) for above, ties in counts)
    return drawn, whole


def ways_of(model: CrossSell) -> dict[str, Score]:
    """What the model scores with, and the graph network that places new products in it."""

    def by_network(request: Request, items: NDArray[np.int32]) -> NDArray[np.float32]:
        scores = model._network.of(model._asked_of(request)).score(items)
        return np.where(model._answerable[items], scores, scores.min() - 1)

    return {"evidence": model.score, "network": by_network}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.data:
        data, shop = "uci-online-retail", uci(data_folder(given.data, "uci-online-retail"))
    else:
        made = simulate.tables(SIMULATED)
        data, shop = "simulated", Shop.from_tables(made.events, made.items)
    train, test = shop.split_by_time(TEST)
    rng = np.random.default_rng(given.seed)
    bought = np.bincount(learnt(train).items, minlength=train.n_items)
    warm = np.flatnonzero(bought >= WARM)
    warm = rng.choice(warm, min(DRAWN, len(warm)), replace=False).astype(np.int32)
    questions = questions_of(test, warm, train.n_items, rng)
    print(
        f"{data}: {train.n_items:,} products, {len(warm)} of them drawn, {len(questions.target):,} questions",
        flush=True,
    )
    found: dict[str, dict[int | None, Hits]] = {way: {} for way in WAYS}
    for level in (0, None) if given.quick else LEVELS:
        view = shown(train, warm, level)
        for settings in ({}, WITHOUT_LINKS) if level in (0, None) else ({},):
            settings = TRAINED | settings | ({"epochs": 1} if given.quick else {})
            model = CrossSell(**settings).fit(view, seed=given.seed, threads=given.threads)
            for way, score in ways_of(model).items():
                if not model.config.catalogue_links:
                    if way != "network":
                        continue
                    way = WAYS[2]
                found[way][level] = hits(score, questions, train.n_items)
                print(f"{way}, {level}: " + " / ".join(f"{hit.mean():.3f}" for hit in found[way][level]), flush=True)
    report(
        f"cross_sell_cold_{data.partition('-')[0]}", data,
        [_row(way, level, found[way], questions, data, given.seed) for way in WAYS for level in found[way]],
        given.json, quick=given.quick,
        notes=f"Hit rate at {K} of {len(questions.target):,} questions about {len(warm)} products, among {NEGATIVES:,} "
        "products drawn evenly, then among all; after each its share of what all baskets give. A line is met where the "
        "share among the drawn ones is reached and no earlier level does better.",
    )  # fmt: skip


def _row(
    way: str, level: int | None, found: Mapping[int | None, Hits], questions: Questions, data: str, seed: int
) -> Row:  # fmt: skip
    values = [metrics.bootstrap_mean(hit, questions.user, seed=seed) for hit in found[level]]
    shares = [hit.mean() / max(1e-12, whole.mean()) for hit, whole in zip(found[level], found[None], strict=True)]
    earlier = [at for at in found if at is not None and (level is None or at < level)]
    rises = all(found[at][0].mean() <= found[level][0].mean() for at in earlier)
    least = AT_LEAST.get(level, 0.0) if level is not None else 0.0
    return Row(
        what=f"{way}, {'all' if level is None else level} baskets shown",
        ours="; ".join(
            f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}], {share:.0%}"
            for value, share in zip(values, shares, strict=True)
        ),
        target=f"at least {least:.0%}, rising" if least else "rising",
        met=None if way == WAYS[2] else bool(rises and shares[0] >= least),
        command=f"python benchmarks/cross_sell_cold.py{'' if data == 'simulated' else ' --data DIR'} --seed {seed}",
    )


if __name__ == "__main__":
    main()
