"""Products that came lately, in evidence of baskets: what is like them stands in for the baskets that they will have.

Evidence counts baskets, and what came last week has had no time for them. Three things mend that:

    How much it will be bought. n^ = (n + k) / (t + k / u): n baskets in the share t of the log's baskets since it came
    (the first of which is no news where it is how we know that it came), u what products like it come to in all of
    them. By the calendar all that is new would seem to be wanted where a shop grows. How much that word is worth, k, is
    the shape of the gamma distribution by which the baskets of well known products differ from u, at its maximum
    likelihood.
    What it will be bought with. Its own share of each partner is blended with the mean share of what is like it, as if
    that were kappa baskets more: p = (n p_own + kappa p_like) / (n + kappa). With kappa = v / b, v the variance of a
    basket's word and b the squared distance of what is like a product from the product, the error is least; both are
    read off well known products, where chance is too small to matter. Links of n^ p take the place of its own, in both
    directions, and every column of the evidence follows from them; two new products are linked by their own baskets.
    What the catalogue says of it beside those who ask: brand, price, text. A small network, the newcomers' head, reads
    it with the columns and adds to the score. It learns from the log's last baskets, on the graph of those before,
    where some products were made to look as if they had come lately: of each all but the last few baskets are hidden.
How much a new product is worth is the one thing that no log tells, and what is never shown is never bought. So it has
the benefit of the doubt: beside what is foreseen, its score is raised by the log of how far the bound that its rate
passes once in twenty lies above its mean, times the share of that mean which is the word of its likes and not yet its
own. It fades as time and baskets come; all else that the head says is taught on products drawn evenly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.special import gammaincinv, gammaln

from endcap.answers import History, Items
from endcap.graph import Baskets
from endcap.graph.attributes import Categories, PriceBands, codes_of, log_prices, texts_of
from endcap.graph.catalogue import Likeness
from endcap.graph.edges import row_normalised, top_edges
from endcap.graph.texts import TELLING, TextVectors
from endcap.kernels.evidence import Links
from endcap.models.cross_sell import evidence as pairs
from endcap.models.cross_sell.choice import BASKET, Likely
from endcap.models.cross_sell.evidence import (
    CSR,
    DRAWN,
    FORMS,
    PARTNERS,
    PairEvidence,
    Trade,
    Weigher,
    two_steps,
    under,
)
from endcap.models.cross_sell.hiding import DAY
from endcap.models.cross_sell.pair_head import Form, PairHead, learn
from endcap.models.cross_sell.settings import CrossSellConfig
from endcap.shop import Shop

COLUMNS = (
    *pairs.COLUMNS, "baskets so far", "baskets foreseen", "share of all baskets", "same brand", "price bands apart",
    "nearest text", "mean text",
)  # fmt: skip
NEW_FORMS: list[Form] = [*FORMS, "log", "log", "plain", "plain", "plain", "plain", "plain"]
LIKE = 10  # products that stand in for one
LINKED = 200  # partners that they give it, at most
KNOWN = 10.0  # baskets from which on the word of one counts for half and more
WELL_KNOWN, EXAMPLES = 30, 2_000  # baskets of those that belief is measured at, and how many of these at most
HALF = 0.5  # of all baskets: what was there for more of them speaks for itself
TWICE = 2.0  # the baskets it has must be foreseen of what came lately
LEAST = 0.05  # of all baskets: no rate is told from less
HOPE = 0.95  # the rate of what nobody has tried yet is hoped to be at this quantile of what it may be
SAME_PRICE = 1.5  # bands apart, where no price is known
ROUNDS, LESSONS, LATEST, PRETENDED = 3, 1_500, 0.1, 0.06  # lessons, of a round, of the log's end; made new of a kind
FEWEST = 5  # baskets of what is made to look new
SHOWN = (1, 3, 6, 10, 20, 35, 75)  # baskets of it
AMONG_NEW = 50  # candidates of a lesson that came lately
SIDE_BY_SIDE = 200  # places of the two lists that are put into one
NEVER = np.iinfo(np.int64).max

Floats = NDArray[np.float32]


class Said(NamedTuple):
    """What a catalogue says: brand and price band in its leaf (n,), -1 unknown, and the telling parts of titles."""

    brand: NDArray[np.int32]
    band: NDArray[np.int32]
    text: csr_array

    @classmethod
    def of(cls, catalogue: pa.Table) -> Self:
        """From a table of items."""
        tree, price = Categories.of(texts_of(catalogue, "category")), log_prices(catalogue)
        text = top_edges(TextVectors(texts_of(catalogue, "title")).vectors, TELLING)
        length = np.sqrt(np.asarray((text * text).sum(axis=1)).ravel())
        text.data /= np.repeat(np.maximum(length, 1e-12), np.diff(text.indptr)).astype(np.float32)
        band = PriceBands(price, tree.leaf, len(tree)).of(price, tree.leaf)
        return cls(codes_of(texts_of(catalogue, "brand"))[1].astype(np.int32), band.astype(np.int32), text)

    def columns(self, asked: Items, items: NDArray[np.integer]) -> Floats:
        """(n, 4): share of the asked of the same brand, price bands apart, cosine of the nearest title, of the mean."""
        brand, band = self.brand[items], self.band[items]
        same = ((self.brand[asked][:, None] == brand) & (brand >= 0)).mean(0)
        told = (self.band[asked][:, None] >= 0) & (band >= 0)
        apart = np.where(told, np.abs(self.band[asked][:, None] - band), 0).sum(0)
        apart = np.where(told.any(0), apart / np.maximum(told.sum(0), 1), SAME_PRICE)
        cosine = (self.text[items] @ self.text[asked].T).toarray()
        return np.stack([same, apart, cosine.max(1), cosine.mean(1)], axis=1).astype(np.float32)


class Foreseen(NamedTuple):
    """How much products are bought and will be.

    Attributes:
        bought: (n,) baskets; time: (n,) share of the log's baskets since each came; ever: (n,) baskets that it would
        come to in all of that time; lately: (n,) of what is much more foreseen than was bought so far; hope: (n,) see
        `_hope`.
    """

    bought: NDArray[np.float64]
    time: NDArray[np.float64]
    ever: NDArray[np.float64]
    lately: NDArray[np.bool_]
    hope: Floats

    @classmethod
    def of(cls, baskets: Baskets, known_from: NDArray[np.int64], like: csr_array) -> Self:
        """
        Args:
            known_from: (n,) when each came; like: see `_weighed`.
        """
        n, time = len(known_from), _since(baskets, known_from)
        bought = np.bincount(baskets.items, minlength=n).astype(np.float64)
        begins = np.full(n, NEVER)
        np.minimum.at(begins, baskets.items, np.repeat(baskets.time, baskets.sizes))
        news = bought - ((bought > 0) & (known_from >= begins - DAY))
        rate = news / np.maximum(time, LEAST)
        told = time > 0.2
        rate = np.where(told, rate, np.median(rate[told]) if told.any() else 1.0)
        usual = like @ rate
        usual = np.where(usual > 0, usual, max(rate.mean(), 1e-3))
        shape = _shape(news[time > HALF], (usual * time)[time > HALF])
        ever = (news + shape) / (time + shape / usual)
        lately = (time < HALF) & (ever > TWICE * bought)
        return cls(bought, time, ever, lately, _hope(news, time, shape, usual))


class Lately:
    """Evidence in which what came lately has the links that it will have, and the newcomers' head."""

    def __init__(self, weigher: Weigher, said: Said, foreseen: Foreseen, head: PairHead | None) -> None:
        """
        Args:
            weigher: with `blended` evidence; head: none where there was nothing to learn from.
        """
        self.weigher, self.said, self.foreseen, self.head = weigher, said, foreseen, head
        self.none = 0.0 if head is None else float(head(np.zeros((1, len(COLUMNS)), np.float32))[0])

    @classmethod
    def fitted(
        cls, weigher: Weigher, baskets: Baskets, shop: Shop, config: CrossSellConfig, seed: int, threads: int
    ) -> Weigher | Self:
        """Learn what came lately from the log's end; the weigher itself where nothing did.

        Args:
            weigher: learnt from these baskets, on the graph of all of them.
        """
        n, rng = shop.n_items, np.random.default_rng([seed, 11])
        if shop.item_known_from is None or len(baskets) < FEWEST or not config.catalogue_links:
            return weigher
        known_from, bought = shop.item_known_from[:n], np.bincount(baskets.items, minlength=n)
        came = _since(baskets, known_from) < HALF
        if not came.any():
            return weigher
        order = np.argsort(baskets.time, kind="stable")
        cut = int(baskets.time[order[-max(1, int(LATEST * len(baskets)))]])
        before, after = baskets.where(baskets.time < cut), baskets.where(baskets.time >= cut)
        made_new = [_pretended(before, n, rng) for _ in range(ROUNDS)]
        usual = rng.permutation(np.flatnonzero(bought >= WELL_KNOWN))[:EXAMPLES]
        rows = np.unique(np.concatenate([np.flatnonzero(came), usual, *(np.flatnonzero(m < NEVER) for m in made_new)]))
        like, said = _likeness(shop.catalogue, bought, rows), Said.of(shop.catalogue)
        columns, log_q = list[Floats](), list[Floats]()
        for shown in made_new:
            part, since = _hidden(before, shown)
            since = np.maximum(known_from, since)
            then = cls._of(weigher, part, since, like, said, True, threads)
            for given, chances in then._lessons(after, min(config.evidence_baskets, LESSONS), rng):
                columns.append(given)
                log_q.append(chances)
        found = cls._of(weigher, baskets, known_from, like, said, config.unbought, threads)
        if not found.lately.any():
            return weigher
        head = learn(np.stack(columns), np.stack(log_q), NEW_FORMS, seed, threads) if columns else None
        return cls(found.weigher, said, found.foreseen, head)

    @classmethod
    def _of(
        cls,
        weigher: Weigher,
        baskets: Baskets,
        known_from: NDArray[np.int64],
        like: csr_array,
        said: Said,
        unbought: bool,
        threads: int,
    ) -> Self:
        """Without a head, of some baskets."""
        category = weigher.evidence.category
        evidence = PairEvidence.of(baskets, category, threads)
        weighed = _weighed(like, evidence.n_of)
        foreseen = Foreseen.of(baskets, known_from, weighed)
        told = (foreseen.bought > 0) | (unbought & (np.diff(weighed.indptr) > 0))
        foreseen = foreseen._replace(lately=foreseen.lately & told)
        kappa = _belief(evidence, weighed)
        return cls(
            Weigher(blended(evidence, foreseen, weighed, kappa), weigher.head, weigher.trade), said, foreseen, None
        )

    def _lessons(self, after: Baskets, at_most: int, rng: np.random.Generator) -> list[tuple[Floats, Floats]]:
        """Columns (c, columns) and chances (c,) of lists: a product asked for by the rest of its basket comes first."""
        evidence, lately = self.weigher.evidence, np.flatnonzero(self.foreseen.lately)
        n, sold = evidence.n_items, evidence.n_of / max(evidence.n_of.sum(), 1)
        known = evidence.n_of > 0
        drawn = np.array([DRAWN, DRAWN, AMONG_NEW if len(lately) else 0])
        share = np.stack([np.full(n, 1 / n), sold, self.foreseen.lately / max(len(lately), 1)])
        log_share = np.log(np.maximum(drawn @ share / drawn.sum() * n, 1e-12))
        found = list[tuple[Floats, Floats]]()
        for row in rng.permutation(len(after)):
            inside = after.items[after.offsets[row] : after.offsets[row + 1]]
            inside = rng.permutation(inside[known[inside]])
            for target in inside[:3] if len(inside) >= 2 else ():
                asked = np.sort(inside[inside != target][:BASKET])
                wanted = np.concatenate([
                    [target], rng.integers(0, n, drawn[0]), rng.choice(n, drawn[1], p=sold),
                    rng.choice(lately, drawn[2]) if drawn[2] else [],
                ]).astype(np.int64)  # fmt: skip
                chances = log_share[wanted].astype(np.float32)
                chances[1:][np.isin(wanted[1:], inside)] = np.inf
                columns = evidence.columns(evidence.reach(asked), wanted)
                found.append((self._columns(columns, asked, wanted), chances - self.weigher.weighed(columns)))
            if len(found) >= at_most:
                break
        return found

    def _columns(self, columns: Floats, asked: Items, items: NDArray[np.integer]) -> Floats:
        """(n, all columns); zeros for what did not come lately."""
        part = (self.foreseen.bought, self.foreseen.ever, self.foreseen.time)
        every = np.column_stack([columns, *(each[items] for each in part), self.said.columns(asked, items)])
        every[~self.foreseen.lately[items]] = 0
        return every.astype(np.float32)

    @property
    def lately(self) -> NDArray[np.bool_]:
        """(n,) what came lately."""
        return self.foreseen.lately

    def of(self, asked: Items, history: History | None = None) -> Likely:
        """See `PairScorer`; a history makes no difference."""
        return _Asked(self, asked)

    def added(self, columns: Floats, asked: Items, items: Items) -> Floats:
        """(n,) what hope and the newcomers' head add to the scores of items that came lately."""
        hope = self.foreseen.hope[items]
        if self.head is None:
            return hope
        return hope + self.head(self._columns(columns, asked, items)) - np.float32(self.none)

    def traded(self, trade: Trade) -> Self:
        """The same with another trade of popularity."""
        return type(self)(self.weigher.traded(trade), self.said, self.foreseen, self.head)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        learnt = {} if self.head is None else self.head.arrays()
        return {
            **{f"pairs-{name}": array for name, array in self.weigher.arrays().items()},
            **{f"head-{name}": value for name, value in learnt.items()},
            **self.foreseen._asdict(),
            "brand": self.said.brand,
            "band": self.said.band,
            **{f"text-{part}": getattr(self.said.text, part) for part in CSR},
            "text-width": np.array([self.said.text.shape[1]]),
        }

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], trade: Trade) -> Self:
        """What `arrays` gave."""
        weigher = Weigher.restored(under("pairs-", arrays), trade)
        learnt = under("head-", arrays)
        head = PairHead.restored(NEW_FORMS, learnt) if learnt else None
        shape = len(arrays["brand"]), int(arrays["text-width"][0])
        text = csr_array(tuple(arrays[f"text-{part}"] for part in CSR), shape=shape, copy=False)
        said = Said(arrays["brand"], arrays["band"], text)
        return cls(weigher, said, Foreseen(*(arrays[name] for name in Foreseen._fields)), head)


class _Asked(Likely):
    """One question."""

    def __init__(self, lately: Lately, asked: Items) -> None:
        super().__init__(lately.weigher.evidence.n_items)
        self._of, self._asked, self._pairs = lately, asked, lately.weigher.of(asked)

    def weigh(self, items: Items) -> Floats:
        """(n,) scores of the evidence, and to those of what came lately what its own head says."""
        found, lately = self._pairs.score(items), self._of.foreseen.lately[items]
        if lately.any():
            new = items[lately]
            columns = self._of.weigher.evidence.columns(self._pairs.reached, new)
            found[lately] += self._of.added(columns, self._asked, new)
        return found

    def nearest(self, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """See `Companions`: of the evidence's own list, and of what came lately where two steps lead to most often."""
        reached, lately = self._pairs.reached, self._of.foreseen.lately
        if not lately[reached.items].any():
            return self._pairs.nearest(k, allowed)
        is_new = lately[reached.items] if allowed is None else lately[reached.items] & allowed[reached.items]
        new, steps = reached.items[is_new], two_steps(reached.sums[is_new])
        if len(new) > SIDE_BY_SIDE:
            new = new[np.argpartition(-steps, SIDE_BY_SIDE)[:SIDE_BY_SIDE]]
        items = np.union1d(self._pairs.nearest(max(k, SIDE_BY_SIDE), allowed), new).astype(np.int32)
        return items[np.lexsort((items, -self.score(items)))[:k]]


def blended(evidence: PairEvidence, foreseen: Foreseen, like: csr_array, kappa: float) -> PairEvidence:
    """Evidence in which what came lately has the links and the baskets that are foreseen, see the module's docstring.

    Args:
        like: see `_weighed`; kappa: baskets that its word is worth.
    """
    lately, n, links = foreseen.lately, evidence.n_items, evidence.links
    if not lately.any():
        return evidence
    bought, ever = np.maximum(foreseen.bought, 1), foreseen.ever
    told = np.diff(like.indptr) > 0
    doubt = np.where(told, kappa, 0) / np.maximum(foreseen.bought + np.where(told, kappa, 0), 1e-12)
    own = np.where(lately, ever * (1 - doubt) / bought, 1)
    alike = csr_array(diags_array(np.where(lately, ever * doubt, 0)) @ like @ diags_array(1 / bought))
    own, old = diags_array(own), diags_array((~lately).astype(np.float64))
    rows = np.repeat(np.arange(n), np.diff(links.indptr))
    worth = links.step * np.maximum(evidence.n_of, 1)[rows]  # of both directions the same
    made, kept = list[csr_array](), None
    for data in (worth, links.shared):
        graph = csr_array((data.astype(np.float64), links.partner, links.indptr), shape=(n, n))
        to_old = csr_array(alike @ graph @ old)  # among new ones this would link nearly all of them
        kept = top_edges(to_old, LINKED) != 0 if kept is None else kept
        to_old = to_old.multiply(kept)
        part = csr_array(own @ graph @ own + to_old + to_old.T)
        part.sort_indices()
        made.append(part)
    n_of = np.where(lately, ever, evidence.n_of).astype(np.float32)
    row, other = np.repeat(np.arange(n), np.diff(made[0].indptr)), made[0].indices
    step = (made[0].data / np.maximum(n_of[row], 1e-9)).astype(np.float32)
    order = np.lexsort((other, -step, row))
    place = np.arange(len(order)) - made[0].indptr[row[order]]
    order = order[(place < PARTNERS) & (row[order] != other[order]) & (step[order] > 0)]
    indptr = np.searchsorted(row[order], np.arange(n + 1)).astype(np.int64)
    shared = made[1].data[order].astype(np.float32)
    return PairEvidence(
        Links(indptr, other[order].astype(np.int32), shared, step[order], n_of), evidence.category, evidence.beside
    )


def _since(baskets: Baskets, known_from: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) the share of all baskets that there were since each product came."""
    left = len(baskets) - np.searchsorted(np.sort(baskets.time), known_from)
    return np.asarray((left + 0.5) / (len(baskets) + 0.5), np.float64)


def _shape(bought: NDArray[np.float64], usual: NDArray[np.float64]) -> float:
    """Of the gamma distribution by which rates differ from the usual ones, out of a grid."""
    grid = np.geomspace(0.1, 20, 40)[:, None]
    if len(bought) == 0:
        return 1.0
    likely = gammaln(bought + grid) - gammaln(grid) + grid * np.log(grid / (grid + usual))
    likely += bought * np.log(np.maximum(usual, 1e-9) / (grid + usual))
    return float(grid[likely.sum(1).argmax(), 0])


def _hope(news: NDArray[np.float64], time: NDArray[np.float64], shape: float, usual: NDArray[np.float64]) -> Floats:
    """(n,) the log of how far the rate of each may lie above what is foreseen, as far as that is not its own yet.

    A rate is believed to be of a gamma distribution, of shape news + shape and rate time + shape / usual.
    """
    bound = gammaincinv(news + shape, HOPE) / (news + shape)
    untried = (shape / usual) / (time + shape / usual)
    return (np.log(bound) * untried).astype(np.float32)


def _belief(evidence: PairEvidence, like: csr_array) -> float:
    """Baskets that the word of what is like a product is worth, by products that are well known."""
    n, links = evidence.n_items, evidence.links
    known = np.flatnonzero((evidence.n_of >= WELL_KNOWN) & (np.diff(like.indptr) > 0))
    if len(known) == 0:
        return KNOWN
    known = known[:: max(1, len(known) // EXAMPLES)]
    rows = np.repeat(np.arange(n), np.diff(links.indptr))
    share = links.shared / np.maximum(evidence.n_of, 1)[rows]
    shares = csr_array((share, links.partner, links.indptr), shape=(n, n))
    own, alike = shares[known], csr_array(like[known] @ shares)
    variance = np.asarray((own - own.multiply(own)).sum(axis=1)).ravel()
    apart = own - alike
    distance = np.asarray(apart.multiply(apart).sum(axis=1)).ravel() - variance / evidence.n_of[known]
    return float(np.clip(variance.sum() / max(distance.sum(), 1e-9), 1, 1000))


def _likeness(catalogue: pa.Table, bought: NDArray[np.integer], rows: NDArray[np.int64]) -> csr_array:
    """(n, n) squared likeness to what each of some products is most like, empty rows for all others."""
    n = len(bought)
    found = Likeness(catalogue, bought.astype(np.float64)).of_known(rows, LIKE)
    indptr = np.zeros(n + 1, np.int64)
    indptr[rows + 1] = np.diff(found.indptr)
    return csr_array((found.data.astype(np.float64) ** 2, found.indices, np.cumsum(indptr)), shape=(n, n))


def _weighed(like: csr_array, n_of: NDArray[np.floating]) -> csr_array:
    """(n, n) shares of 1 of what each product is like: by likeness, and by how well that one is known itself."""
    found = like.copy()
    found.data *= (n_of / (n_of + KNOWN))[found.indices]
    found.eliminate_zeros()
    return row_normalised(found)


def _pretended(baskets: Baskets, n_items: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n_items,) baskets that are shown of what is made to look new, `NEVER` of all others: all."""
    bought = np.bincount(baskets.items, minlength=n_items)
    may = np.flatnonzero(bought >= FEWEST)
    shown = np.full(n_items, NEVER)
    wanted = min(int(PRETENDED * n_items), len(may) // 4)
    shown[rng.choice(may, wanted, replace=False)] = rng.choice(SHOWN, wanted)
    shown[rng.choice(may, min(2 * wanted, len(may) // 4), replace=False)] = 0
    return np.where(shown < bought, shown, NEVER)


def _hidden(baskets: Baskets, shown: NDArray[np.int64]) -> tuple[Baskets, NDArray[np.int64]]:
    """Baskets with the last `shown` of each product, and when each came by them."""
    time, row = np.repeat(baskets.time, baskets.sizes), np.repeat(np.arange(len(baskets)), baskets.sizes)
    order = np.lexsort((-time, baskets.items))
    begin = np.searchsorted(baskets.items[order], np.arange(len(shown)))
    rank = np.empty(len(time), np.int64)  # of the latest basket of a product: 0
    rank[order] = np.arange(len(time)) - begin[baskets.items[order]]
    kept = rank < shown[baskets.items]
    since = np.full(len(shown), np.iinfo(np.int64).min)
    since[shown < NEVER] = NEVER
    np.minimum.at(since, baskets.items[kept], np.where(shown[baskets.items] < NEVER, time, since[baskets.items])[kept])
    sizes = np.bincount(row[kept], minlength=len(baskets))
    offsets = np.append(0, np.cumsum(sizes)).astype(np.int64)
    left = Baskets(offsets, baskets.items[kept], baskets.user, baskets.time, baskets.unit)
    return left.where(left.sizes >= 2), since
