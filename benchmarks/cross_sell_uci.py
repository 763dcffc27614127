"""UCI Online Retail, split by time: what a customer's next basket adds, and what completes a basket. All in one table.

    python benchmarks/cross_sell_uci.py --data DIR [--json FILE] [--quick] [--only ROWS] [--seed N] [--work DIR] [--dev]

DIR is uci-online-retail, or holds it. Postage, fees and the like are no products and are left out; cancellations undo
purchases. The last 30 days are the test part; `--dev` asks about the 30 days before them and leaves these alone.

Next basket: everybody with a basket before the split and one after it is asked about, with their last basket before it
and all that they bought before; wanted are up to five products, drawn by the seed, that the first basket after it holds
and the last one before it does not. All products but those of the two baskets are ranked. "New to the person" leaves
out of targets and rankings, of all rows alike, what the person had bought before. Within a basket: the protocol
cross-sell. Intervals are over people, differences paired. All settings were fixed on the 30 days before the test part.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from _real import data_folder, uci
from _report import Row, report
from _tables import Rows, chosen, table_arguments, trained
from endcap import Shop, evaluate, metrics
from endcap.answers import Items, Request, Scorer
from endcap.evaluate.lists import scores_of
from endcap.graph import Baskets, baskets_of
from endcap.metrics import Interval, bootstrap_mean, paired_bootstrap

TEST, K, TARGETS, COVERED_BY = "30d", 10, 5, 1_000
WHOLE = {"basket": "session", "k": 100_000}
EVIDENCE = {  # the network beside it is as small as it gets, and nothing is placed: here the evidence is what scores
    "layers": 0, "dim": 8, "epochs": 1, "text": "none", "complement": "none", "catalogue_links": 0, "unbought": False,
}  # fmt: skip
OWN, QUICK = "bought before", "popularity,jaccard,walk,cross-sell next"
ROWS: Rows = {
    "popularity": ("popularity", {}),
    "recent popularity": ("recent-popularity", {}),
    "rules": ("association-rules", {}),
    "rules lift": ("association-rules", {"measure": "lift"}),
    "rules support": ("association-rules", {"measure": "support"}),
    "confidence": ("co-purchase", WHOLE | {"weight": "confidence"}),
    "cosine": ("co-purchase", WHOLE | {"weight": "cosine"}),
    "jaccard": ("co-purchase", WHOLE | {"weight": "jaccard"}),
    "damped": ("co-purchase", WHOLE | {"weight": "damped"}),
    "walk": ("random-walk", {"second": 0.0, "partners": 100_000}),
    "two-step walk": ("random-walk", {"partners": 100_000}),
    "pagerank": ("pagerank", {}),
    "als": ("als", {"factors": 64}),
    "lightgcn": ("lightgcn", {"epochs": 20}),
    "sgns": ("sgns", {}),
    "item-interaction": ("item-interaction", {}),
    "cross-sell network": ("cross-sell", {"complement": "none", "score_by": "network"}),
    "cross-sell auto": ("cross-sell", {"complement": "none"}),
    "cross-sell evidence": ("cross-sell", EVIDENCE | {"score_by": "evidence"}),
    "cross-sell next": ("cross-sell", EVIDENCE | {"score_by": "next", "largest": 0}),
}
OURS = "cross-sell next"
WITHIN = "cross-sell auto"
BUCKETS = (1, 6, 21, 101)
COMMAND = "python benchmarks/cross_sell_uci.py --data DIR"

Values = NDArray[np.float64]


def products(shop: Shop) -> Shop:
    """Without lines of postage, fees, vouchers and samples, whose codes do not begin with five digits."""
    is_product = np.array([re.match(r"\d{5}", name) is not None for name in shop.items.ids.to_pylist()])
    return replace(shop, events=shop.events.where(is_product[shop.events.item]))


class BoughtBefore:
    """How often the asker bought it, the latest first among equals: the simplest guess at a next basket."""

    def score(self, request: Request, items: Items) -> NDArray[np.float32]:
        past = request.history.items
        worth = np.full(int(max(items.max(), past.max(initial=0))) + 1, -np.inf, np.float32)
        worth[past] = np.arange(len(past)) / (len(past) + 1)
        times = np.bincount(past, minlength=len(worth))
        return (worth + times)[items]


class NextBaskets:
    """The questions, made once: people (p,), what they asked with, and the rows of their targets (q,)."""

    def __init__(self, train: Shop, test: Shop, seed: int, at_most: int) -> None:
        past, later = baskets_of(train, largest=0), baskets_of(test, largest=0)
        rng = np.random.default_rng(seed)
        self.train, self.bought_in = train, np.bincount(past.items, minlength=train.n_items)
        people = np.intersect1d(past.user, later.user)
        if len(people) > at_most:
            people = np.sort(rng.choice(people, at_most, replace=False))
        self.user, self.asked, self.person, self.target = list[int](), list[Items](), list[int](), list[int]()
        self.out, self.before = list[Items](), list[Items]()
        for user in people.tolist():
            before = _items(past, np.searchsorted(past.user, user), np.searchsorted(past.user, user + 1))
            asked = _items(past, np.searchsorted(past.user, user + 1) - 1)
            added = np.setdiff1d(_items(later, np.searchsorted(later.user, user)), asked)
            added = added[added < train.n_items]
            added = added[self.bought_in[added] > 0]
            if len(added) == 0:
                continue
            targets = rng.permutation(added)[:TARGETS]
            self.person += [len(self.user)] * len(targets)
            self.target += targets.tolist()
            self.user.append(user)
            self.asked.append(asked)
            self.out.append(np.union1d(asked, added))
            self.before.append(np.unique(before))
        self.group = np.array(self.user)[self.person]
        self.new = np.array([t not in self.before[p] for p, t in zip(self.person, self.target, strict=True)])

    def ranks(self, name: str, model: Any) -> tuple[dict[str, Values], set[int]]:
        """Above and ties (2, q) of every target among all, and among what is new to the person; what lists hold."""
        n_items = self.train.n_items
        everything = np.arange(n_items, dtype=np.int32)
        found = {which: np.zeros((2, len(self.target))) for which in ("all", "new")}
        covered = set[int]()
        rows = np.split(np.arange(len(self.target)), np.searchsorted(self.person, np.arange(1, len(self.user))))
        for person, (user, asked) in enumerate(zip(self.user, self.asked, strict=True)):
            request = Request(k=n_items, user=user, basket=asked, history=self.train.history(user))
            scores = _scores(name, model, request, everything)
            if person < COVERED_BY:
                others = np.where(np.isin(everything, asked), -np.inf, scores)
                best = np.argsort(-others, kind="stable")[:K]
                covered |= set(best[others[best] > -np.inf].tolist())
            own = scores[[self.target[row] for row in rows[person]]].copy()
            scores[self.out[person]] = np.nan
            for which in ("all", "new"):
                if which == "new":
                    scores[self.before[person]] = np.nan
                for row, value in zip(rows[person], own, strict=True):
                    found[which][:, row] = np.count_nonzero(scores > value), np.count_nonzero(scores == value)
        return found, covered


def _items(baskets: Baskets, begin: int, end: int | None = None) -> Items:
    end = begin + 1 if end is None else end
    return baskets.items[baskets.offsets[begin] : baskets.offsets[end]]


def _scores(name: str, model: Any, request: Request, items: Items) -> Values:
    if isinstance(model, Scorer):
        return scores_of(name, model, request, items)
    listed = model.candidates(request).items
    scores = np.full(len(items), -np.inf)
    scores[listed] = -np.arange(len(listed))
    return scores


def _text(figure: Interval) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


def next_rows(questions: NextBaskets, rows: dict[str, Any]) -> list[Row]:
    """A row for each model on both sets of targets, then the difference of ours to each."""
    hits: dict[str, dict[str, Values]] = {"all": {}, "new": {}}
    found = []
    bucket = np.searchsorted(BUCKETS, questions.bought_in[questions.target], side="right")
    for name, model in rows.items():
        ranks, covered = questions.ranks(name, model)
        for which, (above, ties) in ranks.items():
            part = np.ones(len(questions.target), bool) if which == "all" else questions.new
            a, t = above[part].astype(np.int64), ties[part].astype(np.int64)
            hits[which][name] = hit = metrics.tied_hit_rate(a, t, K)
            buckets = [f"{hit[bucket[part] == b].mean():.3f}" for b in np.unique(bucket[part])]
            text = (
                f"hit_rate@{K} {_text(bootstrap_mean(hit, questions.group[part]))}; "
                f"mrr {_text(bootstrap_mean(metrics.tied_mrr(a, t), questions.group[part]))}; "
                f"covered {len(covered):,}; by training baskets {' / '.join(buckets)}"
            )
            found.append(Row(what=f"next basket, {LABELS[which]}: {name}", ours=text, command=COMMAND))
            print(found[-1].what, text, flush=True)
    for which, values in hits.items():
        part = np.ones(len(questions.target), bool) if which == "all" else questions.new
        for name in values if OURS in values else ():
            if not name.startswith("cross-sell"):
                gain = paired_bootstrap(values[OURS], values[name], questions.group[part])
                found.append(Row(what=f"next basket, {LABELS[which]}: {OURS} - {name}, hit_rate@{K}", ours=_text(gain),
                                 target="interval above 0", met=bool(gain.low > 0), command=COMMAND))  # fmt: skip
    return found


LABELS = {"all": "all targets", "new": "new to the person"}


def within_rows(train: Shop, test: Shop, models: dict[str, Any], given: Any) -> list[Row]:
    """The protocol cross-sell on the same parts."""
    outcome = evaluate(
        (train, test), models, protocol="cross-sell", lengths=(K,), at_most=300 if given.quick else None,
        seed=given.seed, threads=given.threads, by_segment=True, show=True,
    )  # fmt: skip
    metric, found = f"hit_rate@{K}", []
    for name, figures in outcome.models.items():
        buckets = [f"{band[name][metric].value:.3f}" for band in outcome.segments["training baskets"].values()]
        text = "; ".join(f"{m} {_text(figures[m])}" for m in (metric, "mrr", f"{metric}/popularity1000"))
        found.append(Row(
            what=f"within a basket: {name}", command=COMMAND,
            ours=f"{text}; coverage@{K} {figures[f'coverage@{K}'].value:.3f}; "
            f"by training baskets {' / '.join(buckets)}",
        ))  # fmt: skip
    for one in outcome.paired:
        sign = {one.a: 1, one.b: -1}.get(WITHIN)
        other = one.b if one.a == WITHIN else one.a
        if one.metric == metric and sign and not other.startswith("cross-sell"):
            low, high = sorted((sign * one.low, sign * one.high))
            found.append(Row(
                what=f"within a basket: {WITHIN} - {other}, {metric}", target="interval above 0", met=low > 0,
                ours=f"{sign * one.difference:.4f} [{low:.4f}, {high:.4f}]", command=COMMAND,
            ))  # fmt: skip
    return found


def main() -> None:
    given = table_arguments(__doc__ or "").parse_args()
    if given.quick and not given.only:
        given.only = QUICK
    shop = products(uci(data_folder(given.data, "uci-online-retail")))
    train, test = shop.split_by_time(TEST)
    if given.dev:
        train, test = train.split_by_time(TEST)
    rows = chosen(ROWS, given)
    models = trained(rows, train, given, f"uci{'-dev' if given.dev else ''}", hold_back=False)
    questions = NextBaskets(train, test, given.seed, 100 if given.quick else len(train.users))
    found = next_rows(questions, {OWN: BoughtBefore(), **models})
    found += within_rows(train, test, models, given)
    found += [Row(what=name) for name in ROWS if name not in rows and not given.quick]
    print(f"{len(questions.user):,} people, {len(questions.target):,} targets, {questions.new.mean():.0%} of them new")
    report(
        "cross_sell_uci", f"uci-online-retail, {train.span_text()} | {test.span_text()}", found, given.json,
        quick=given.quick or given.dev,
        notes=f"{len(questions.user):,} people with {len(questions.target):,} targets, {questions.new.mean():.1%} of "
        "them new to the person. Training baskets of the target: 1-5 / 6-20 / 21-100 / more.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
