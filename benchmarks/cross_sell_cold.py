"""Products that arrived lately: how soon does cross-sell find them? The same ones with more and more of their baskets.

    python benchmarks/cross_sell_cold.py [--data DIR] [--json FILE] [--quick] [--seed N] [--inside]

DIR is uci-online-retail, or holds it; without it the shop is simulated. The last tenth of the log is the test part. Of
the products with 100 training baskets and more, 200 are drawn. They are shown to a training as if they had arrived
late: of each the last 0, 3, 10, 35 or 75 baskets, or all, and nothing that was done with it before; then a model is
trained from the beginning. Every level is asked the same questions: a drawn product of a test basket, by the products
of the basket that were not drawn, among 1,000 drawn evenly and among all.

Each training gives two lines: evidence, as `score_by=evidence` serves it, and the network alone. Beside them stand
simple methods, on the same baskets and the same questions. Settings of `models/cross_sell/lately.py` were chosen with
`--inside --seed 100`, which splits the training part once more and never sees the test part, and where the products
drawn are others, and on a shop that was simulated from another seed.
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
from endcap.graph.attributes import codes_of, texts_of
from endcap.graph.texts import TextVectors
from endcap.kernels.evidence import COSINE, COUNT
from endcap.models.cross_sell import CrossSell
from endcap.models.cross_sell.choice import BASKET
from endcap.models.cross_sell.evidence import MEASURES, N_SUMS, PairEvidence
from endcap.simulate import ShopSettings

LEVELS: tuple[int | None, ...] = (0, 3, 10, 35, 75, None)  # baskets shown; None: all
WARM, DRAWN, ASKED, NEGATIVES, K, TEST = 100, 200, 3_000, 1_000, 10, 0.1
AT_LEAST = {0: 0.30, 10: 0.65}  # of what all baskets give
SIMULATED = ShopSettings(events=300_000, items=1_000, users=8_000, seed=5, best=0, converts=0.8, checkout=0.9, cold=0.0)
TRAINED: dict[str, Any] = {
    "score_by": "evidence", "complement": "none", "epochs": 6, "batch_size": 512, "questions": 512, "negatives": 1024,
    "learning_rate": 0.01, "evidence_baskets": 1500,
}  # fmt: skip
WAYS = ("evidence", "network")

Scores = Callable[[Request, NDArray[np.int32]], dict[str, NDArray[np.float32]]]  # of each way, by name
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


def hits(scored: Scores, questions: Questions, n_items: int) -> dict[str, Hits]:
    """Of each way the hit rate at K among the drawn, and among all but the basket's own; ties in random order."""
    everything = np.arange(n_items, dtype=np.int32)
    counts: dict[str, NDArray[np.int64]] = {}
    for place, (target, rest) in enumerate(zip(questions.target, questions.rest, strict=True)):
        for way, given in scored(Request(k=K, basket=rest), everything).items():
            scores = given.astype(np.float64)
            own = scores[target]
            scores[np.append(rest, target)] = np.nan
            of_way = counts.setdefault(way, np.zeros((2, 2, len(questions.target)), np.int64))
            for column, theirs in enumerate((scores[questions.rivals[place]], scores)):
                of_way[column, :, place] = np.count_nonzero(theirs > own), np.count_nonzero(theirs == own)
    found = {way: [metrics.tied_hit_rate(above, ties, K) for above, ties in both] for way, both in counts.items()}
    return {way: (drawn, whole) for way, (drawn, whole) in found.items()}


def ways_of(model: CrossSell) -> Scores:
    """What the model scores with, and the graph network that places new products in it."""

    def score(request: Request, items: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
        by_network = model._network.of(model._asked_of(request)).score(items)
        by_network = np.where(model._answerable[items], by_network, by_network.min() - 1)
        return {"evidence": model.score(request, items), "network": by_network}

    return score


def simple(view: Shop) -> Scores:
    """Methods that learn nothing, on the baskets of a shop: those of the cross-sell benchmarks, and what needs none."""
    _, leaf = codes_of(texts_of(view.catalogue, "category"))
    known = PairEvidence.of(learnt(view), leaf)
    titles = TextVectors(texts_of(view.catalogue, "title")).vectors
    n_of = np.maximum(known.n_of, 1)

    def score(request: Request, items: NDArray[np.int32]) -> dict[str, NDArray[np.float32]]:
        asked = np.unique(request.basket[-BASKET:])
        columns = known.columns(known.reach(asked), items)
        return {
            **{name: read(columns) for name, read in MEASURES.items()},
            "cosine": columns[:, COSINE],
            "shared baskets over the candidate's": columns[:, COUNT] / n_of[items],
            "best sellers of categories that go": columns[:, N_SUMS + 1],
            "best sellers": known.n_of[items],
            "nearest text": (titles[items] @ titles[asked].T).toarray().mean(1),
        }

    return score


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inside", action="store_true", help="split the training part: nothing is read of the test")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.data:
        data, shop = "uci-online-retail", uci(data_folder(given.data, "uci-online-retail"))
    else:
        made = simulate.tables(SIMULATED)
        data, shop = "simulated", Shop.from_tables(made.events, made.items)
    train, test = shop.split_by_time(TEST)
    if given.inside:
        train, test = train.split_by_time(TEST)
    rng = np.random.default_rng(given.seed)
    bought = np.bincount(learnt(train).items, minlength=train.n_items)
    warm = np.flatnonzero(bought >= WARM)
    warm = rng.choice(warm, min(DRAWN, len(warm)), replace=False).astype(np.int32)
    questions = questions_of(test, warm, train.n_items, rng)
    print(
        f"{data}: {train.n_items:,} products, {len(warm)} of them drawn, {len(questions.target):,} questions",
        flush=True,
    )
    found: dict[str, dict[int | None, Hits]] = {}
    for level in (0, None) if given.quick else LEVELS:
        view = shown(train, warm, level)
        model = CrossSell(**TRAINED | ({"epochs": 1} if given.quick else {})).fit(
            view, seed=given.seed, threads=given.threads
        )
        of_level = {way: hit for scored in (ways_of(model), simple(view)) for way, hit in
                    hits(scored, questions, train.n_items).items()}  # fmt: skip
        for way, hit in of_level.items():
            found.setdefault(way, {})[level] = hit
            print(f"{way}, {level}: " + " / ".join(f"{each.mean():.3f}" for each in hit), flush=True)
    report(
        f"cross_sell_cold_{data.partition('-')[0]}", data,
        [_row(way, level, found[way], questions, _command(data, given.seed)) for way in WAYS for level in found[way]]
        + [_simple_row(way, found[way], _command(data, given.seed)) for way in found if way not in WAYS],
        given.json, quick=given.quick or given.inside,
        notes=f"Hit rate at {K} of {len(questions.target):,} questions about {len(warm)} products, among {NEGATIVES:,} "
        "products drawn evenly, then among all; after each its share of what all baskets give, then what it gains over "
        "the level before among the drawn ones. A line is met where the share among the drawn ones is reached and no "
        "earlier level does better with its interval above 0. Simple methods: among the drawn ones at each level.",
    )  # fmt: skip


def _command(data: str, seed: int) -> str:
    return f"python benchmarks/cross_sell_cold.py{'' if data == 'simulated' else ' --data DIR'} --seed {seed}"


def _row(way: str, level: int | None, found: Mapping[int | None, Hits], questions: Questions, command: str) -> Row:
    values = [metrics.bootstrap_mean(hit, questions.user) for hit in found[level]]
    shares = [hit.mean() / max(1e-12, whole.mean()) for hit, whole in zip(found[level], found[None], strict=True)]
    earlier = [at for at in found if at is not None and (level is None or at < level)]
    lost = [metrics.bootstrap_mean(found[at][0] - found[level][0], questions.user).low for at in earlier]
    least = AT_LEAST.get(level, 0.0) if level is not None else 0.0
    gain = ""
    if earlier:
        more = metrics.bootstrap_mean(found[level][0] - found[earlier[-1]][0], questions.user)
        gain = f"; {more.value:+.3f} [{more.low:+.3f}, {more.high:+.3f}]"
    return Row(
        what=f"{way}, {_shown(level)} baskets shown",
        ours="; ".join(
            f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}], {share:.0%}"
            for value, share in zip(values, shares, strict=True)
        )
        + gain,
        target=f"at least {least:.0%}, rising" if least else "rising",
        met=bool(max(lost, default=0) <= 0 and shares[0] >= least),
        command=command,
    )


def _simple_row(way: str, found: Mapping[int | None, Hits], command: str) -> Row:
    ours = "; ".join(f"{_shown(level)}: {drawn.mean():.3f}" for level, (drawn, _) in found.items())
    return Row(what=f"{way}, by baskets shown", ours=ours, command=command)


def _shown(level: int | None) -> str:
    return "all" if level is None else str(level)


if __name__ == "__main__":
    main()
