"""Items that nobody had acted on when the models were trained, found by their titles: recall@100 within a domain.

    python benchmarks/cold_items.py --data DIR [--share 0.2] [--json FILE] [--quick]

The set is amazon-food-kitchen. Models learn from what lies before the last fifth of the log. Every person who then buys
titled items that first appear in that fifth is asked about, once for each domain: of those items, how many are among
the 100 best? Candidates are all titled items of the domain, new and old, but those in the person's past; in a second
reading the new ones alone. What is known of a person is their last 50 actions before the cut.

Settings and epochs were chosen on the last fifth of the training part, cut off in the same way.

Baselines: chance, and the cosine of TF-IDF vectors (words and pairs of words, inverse frequencies from the training
part) with the mean of the past's titles, or with the nearest of them. The model gives new items vectors by
`encode_items`, as a live shop does the minute they come in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import sparse

from _real import data_folder, food_kitchen
from _report import Row, arguments, report
from endcap import Shop, models
from endcap.answers import Request
from endcap.metrics import Interval, bootstrap_mean, paired_bootstrap
from endcap.models.base import Model
from endcap.shop.text import words

READINGS = ("all titled items", "new titled items")
NAME, SHARE, K, PAST = "amazon-food-kitchen", 0.2, 100, 50
OVER_CHANCE, OVER_TFIDF = 5.0, 1.2
COMMON = {"temperature": 0.07, "longest": 20, "batch_size": 1024, "learning_rate": 2e-3, "epochs": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "coaction-graph": COMMON,
    "coaction-graph, known by text alone": {
        **COMMON, "epochs": 2, "id_embedding": "no", "relations": "none", "explicit": False, "extraction": "mean",
        "text_features": 10, "text_titles": 5, "logq": 0.0, "negatives": 512, "negatives_exponent": 1.0, "dim": 128,
    },
}  # fmt: skip
Score = Callable[[int], NDArray[np.floating]]  # a person's number -> scores of all items of the shop


class Questions(NamedTuple):
    """(q,) person and domain; the new items wanted of each: wanted[offsets[i]:offsets[i + 1]]."""

    person: NDArray[np.int32]
    domain: NDArray[np.int64]
    wanted: NDArray[np.int32]
    offsets: NDArray[np.int64]


class Candidates(NamedTuple):
    """Which items of the whole shop are titled, their domains, and whether they are new."""

    titled: NDArray[np.bool_]
    domain: NDArray[np.int64]
    new: NDArray[np.bool_]


def candidates_of(shop: Shop, train: Shop) -> Candidates:
    titled = pc.is_valid(shop.catalogue["title"]).to_numpy(zero_copy_only=False)
    domain = shop.catalogue["domain"].combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy()
    return Candidates(titled, domain.astype(np.int64), np.arange(shop.n_items) >= train.n_items)


def questions_of(train: Shop, test: Shop, candidates: Candidates) -> Questions:
    """What people known to the training part bought of the new titled items of each domain."""
    bought = test.positives
    asked = candidates.titled[bought.item] & candidates.new[bought.item] & np.isin(bought.user, train.positives.user)
    rows = np.unique(
        np.column_stack([bought.user[asked], candidates.domain[bought.item[asked]], bought.item[asked]]), axis=0
    )
    first = np.flatnonzero(np.append(True, (rows[1:, :2] != rows[:-1, :2]).any(1)))
    return Questions(
        rows[first, 0].astype(np.int32), rows[first, 1], rows[:, 2].astype(np.int32), np.append(first, len(rows))
    )


def competitors(
    questions: Questions, candidates: Candidates, train: Shop
) -> Iterator[tuple[int, int, tuple[NDArray[np.int64], ...]]]:
    """Place, person and, for each of `READINGS`, the items that compete there."""
    for place, (person, domain) in enumerate(zip(questions.person.tolist(), questions.domain, strict=True)):
        allowed = candidates.titled & (candidates.domain == domain)
        allowed[train.history(person).items] = False
        yield place, person, (np.flatnonzero(allowed), np.flatnonzero(allowed & candidates.new))


def recalls(questions: Questions, candidates: Candidates, train: Shop, score: Score) -> NDArray[np.float64]:
    """(readings, q) recall@100; equal scores are in nobody's favour: their order is drawn by chance."""
    chance = np.random.default_rng(0).random(len(candidates.titled))
    found = np.empty((len(READINGS), len(questions.person)))
    for place, person, readings in competitors(questions, candidates, train):
        wanted = questions.wanted[questions.offsets[place] : questions.offsets[place + 1]]
        scores = score(person)
        for reading, items in enumerate(readings):
            best = items[np.lexsort((chance[items], -scores[items]))[:K]]
            found[reading, place] = np.isin(wanted, best).mean()
    return found


def by_chance(questions: Questions, candidates: Candidates, train: Shop) -> NDArray[np.float64]:
    """(readings, q) what 100 draws find on average."""
    sizes = np.empty((len(READINGS), len(questions.person)))
    for place, _, readings in competitors(questions, candidates, train):
        sizes[:, place] = [len(items) for items in readings]
    return np.minimum(1.0, K / sizes)


class TfIdf:
    """Rows of all titles, of length 1; frequencies from the titles of the training part."""

    def __init__(self, shop: Shop, train: Shop) -> None:
        self.train = train
        counted = [Counter(_terms(title)) for title in shop.catalogue["title"].to_pylist()]
        known = Counter(term for count in counted[: train.n_items] for term in count)
        column = {term: place for place, term in enumerate(known)}
        weight = np.log((1 + train.n_items) / (1 + np.array(list(known.values())))) + 1
        cells = [
            (row, column[term], (1 + np.log(n)) * weight[column[term]])
            for row, count in enumerate(counted)
            for term, n in count.items()
            if term in column
        ]
        rows, columns, values = map(np.array, zip(*cells, strict=True))
        table = sparse.csr_array((values, (rows, columns)), shape=(shop.n_items, len(column)))
        length = np.sqrt(table.multiply(table).sum(axis=1))
        self.table = sparse.csr_array(sparse.diags_array(1 / np.maximum(length, 1e-12)) @ table)

    def mean(self, person: int) -> NDArray[np.float64]:
        """Cosine with the mean of the past's titles, but for its length."""
        return self.table @ self.table[self._past(person)].sum(axis=0)

    def nearest(self, person: int) -> NDArray[np.float64]:
        """The largest cosine with a title of the past."""
        return (self.table @ self.table[self._past(person)].T).max(axis=1).toarray().ravel()

    def _past(self, person: int) -> NDArray[np.int32]:
        return np.unique(self.train.history(person).items[-PAST:])


def _terms(title: str | None) -> list[str]:
    found = words(title or "")
    return [*found, *(f"{left} {right}" for left, right in pairwise(found))]


def encoded(model: Model, shop: Shop, train: Shop) -> Score:
    """Known items as the model searches them, new ones as it encodes them."""
    space = model.spaces()["items"]
    table = np.full((shop.n_items, space.vectors.shape[1]), np.nan, np.float32)
    table[space.items] = space.vectors
    table[train.n_items :] = model.encode_items(shop.catalogue.slice(train.n_items))

    def score(person: int) -> NDArray[np.float32]:
        vectors = model.queries(Request(k=K, history=train.history(person)))
        best = (table @ vectors.T).max(axis=1, initial=-np.inf)
        return np.where(np.isnan(best), -np.inf, best)

    return score


def scores_of(shop: Shop, train: Shop, quick: bool) -> Mapping[str, Score]:
    tfidf = TfIdf(shop, train)
    scores: dict[str, Score] = {"TF-IDF, mean of the past": tfidf.mean, "TF-IDF, nearest of the past": tfidf.nearest}
    for name, settings in VARIANTS.items():
        model = models.create("coaction-graph", settings | ({"epochs": 1} if quick else {}))
        model.fit(train, seed=1, threads=1, show=True)
        scores[name] = encoded(model, shop, train)
    return scores


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--share", type=float, default=SHARE, help="the last part of the log (default %(default)s)")
    given = parser.parse_args()
    shop = food_kitchen(data_folder(given.data, NAME))
    train, test = shop.split_by_time(given.share)
    candidates = candidates_of(shop, train)
    questions = questions_of(train, test, candidates)
    scores = scores_of(shop, train, given.quick)
    command = f"python benchmarks/cold_items.py --data DIR --share {given.share:g}"
    chance = by_chance(questions, candidates, train)
    found = {name: recalls(questions, candidates, train, score) for name, score in scores.items()}
    rows: list[Row] = []
    for reading, among in enumerate(READINGS):
        own = {name: recall[reading] for name, recall in found.items()}
        rows += _rows(among, own, chance[reading], questions.person, command, judged=reading == 0)
    n_new = int((candidates.new & candidates.titled).sum())
    notes = (
        f"{len(questions.person):,} questions of {len(np.unique(questions.person)):,} people about "
        f"{len(questions.wanted):,} purchases of {n_new:,} new items, among {int(candidates.titled.sum()):,} titled "
        "ones. Among new items alone chance finds so many that five times as many cannot be: no target there."
    )
    report(
        "cold_items", f"{NAME}, cut before the last {given.share:g}", rows, given.json, quick=given.quick, notes=notes
    )


def _rows(
    among: str,
    found: dict[str, NDArray[np.float64]],
    chance: NDArray[np.float64],
    people: NDArray[np.int32],
    command: str,
    *,
    judged: bool,
) -> list[Row]:
    """Each entrant's recall; the models' against chance and against the better TF-IDF."""
    rows = [Row(what=f"recall@{K} among {among}: chance", ours=f"{chance.mean():.4f}", command=command)]
    rows += [
        Row(what=f"recall@{K} among {among}: {name}", ours=_text(bootstrap_mean(recall, people)), command=command)
        for name, recall in found.items()
    ]
    strongest = max((name for name in found if name not in VARIANTS), key=lambda name: found[name].mean())
    for name in VARIANTS:
        against = ((chance, "chance", OVER_CHANCE), (found[strongest], strongest, OVER_TFIDF))
        for other, what, target in against:
            ratio = float(found[name].mean() / other.mean())
            rows.append(
                Row(
                    what=f"{name} among {among}: times {what}",
                    ours=round(ratio, 2),
                    reference=f"difference {_text(paired_bootstrap(found[name], other, people))}",
                    target=f">= {target:g}" if judged else None,
                    met=ratio >= target if judged else None,
                    command=command,
                )
            )
    return rows


def _text(figure: Interval) -> str:
    return f"{figure.value:.4f} [{figure.low:.4f}, {figure.high:.4f}]"


if __name__ == "__main__":
    main()
