"""Evidence of links: what goes with what by somebody's word, and a small network that weighs what such links say.

Columns of what is asked with, q, and a candidate c, all of them sums along the graph of links and none of them learnt:
where walks from q are after two, three and four steps and on their way (personalised PageRank), along links as they
point and against them, too; shared neighbours, plain, by Adamic and Adar, as a cosine and by the four ways two links
can point (resource allocation); how many links q and c have; a closed form (EASE: Steck, WWW '19) on the half-normed
links X = D^-1/4 G D^-1/4; what the same people took; and where substitutes are known, one link or two along these. A
basket asks with the mean of its items. Of the closed form's B = I - P diag(1 / P), P = (X X + ridge)^-1, the columns
are X P and P, not divided by P's diagonal, which hardly differs between products: so row q is one system of equations,
solved when it is asked for, and no matrix of all pairs is ever made.

It is taught by matchings: pairs of links, each product in one of them at most, leave the graph before any column is
worked out, in both directions, and are what is to be found among drawn products that q is not linked with. So no target
sees its own link. The link itself, where it stands, is no column: what is vouched for is put before what is inferred by
a constant. With `rivals_hidden` the pairs leave the substitutes as well: right where a pair that is asked for never is
known as substitutes, and wrong where it may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array

from endcap.answers import History, Items
from endcap.graph import Baskets, graph_of
from endcap.models.cross_sell.choice import Likely
from endcap.models.cross_sell.evidence import CSR, under
from endcap.models.cross_sell.pair_head import Form, PairHead, learn
from endcap.shop import Shop
from endcap.shop.relations import COMPLEMENTS, SUBSTITUTES, Relations

FORMS: dict[str, Form] = {
    **dict.fromkeys(("walk2", "walk3", "walk4", "pagerank", "pagerank forwards", "pagerank backwards"), "log"),
    **dict.fromkeys(("common", "adamic-adar", "cosine", "allocation"), "log"),
    **dict.fromkeys(("to, to", "to, from", "from, to", "from, from"), "log"),
    **dict.fromkeys(("links", "links to it", "links from it", "links of the asked", "links from the asked"), "plain"),
    **dict.fromkeys(("closed form", "weight"), "signed"),
    **dict.fromkeys(("people", "linked, then people"), "log"),
    "people of it": "plain",
    "rivals": "flag",
    **dict.fromkeys(("rival, then rival", "rival, then linked", "linked, then rival"), "log"),
}
"""How each column is read; those of people and of rivals are there where these are known."""
DAMPING, STEPS, DIRECTED_STEPS = 0.85, 6, 4  # of PageRank
RIDGE, SOLVED_IN = 3.0, 8  # of the closed form; steps to it: some more are as good, and many fewer worse
TINY = np.float32(1e-20)
LEAST = 2  # links of a product that a lesson is about: one that leaves the graph, one to be found by
DRAWN = 150  # products drawn for each lesson
FEWEST = 20  # lessons that a network is taught by
VOUCHED = 5.0  # log of how much likelier the link itself makes what it points to
LOOKED_AT = 300  # candidates by each way of finding them
TOGETHER = 64  # rows whose walks are dense at the same time, at most
ROOM = 1 << 25  # numbers of all columns of such rows

Floats = NDArray[np.float32]
Pairs = NDArray[np.int64]


class Told(NamedTuple):
    """What is known of products by links.

    Attributes:
        goes_with: (n_items, n_items) of ones, from an item to what goes with it; stands_for: the same of substitutes;
        seen: (people, n_items) of ones, what each person took, in numbers alone.
    """

    goes_with: csr_array
    stands_for: csr_array | None = None
    seen: csr_array | None = None

    @classmethod
    def of(cls, relations: pa.Table, shop: Shop) -> Self:
        """From rows of item, other and relation, as ids, of which unknown ones say nothing, and the shop's log."""
        n = shop.n_items
        given = Relations.read(relations, shop.items)
        goes, stands = (
            graph_of(given.item[rows], given.other[rows], shape=(n, n))
            for rows in (given.known & given.named(names) for names in (COMPLEMENTS, SUBSTITUTES))
        )
        log = shop.positives
        seen = graph_of(log.user, log.item, shape=(shop.n_users, n), loops=True)
        return cls(goes, stands if stands.nnz else None, seen if seen.nnz else None)

    def without_baskets(self, baskets: Baskets) -> Told:
        """Without what baskets would give away: links of two that lie in one alone, and people who own any."""
        pairs = baskets.where(baskets.sizes == 2).items.reshape(-1, 2).astype(np.int64)
        seen = self.seen
        if seen is not None:
            row = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))
            kept = ~np.isin(row, baskets.user)
            seen = graph_of(row[kept], seen.indices[kept], shape=seen.shape, loops=True)
        return self.without(pairs, rivals=True)._replace(seen=seen)

    def without(self, pairs: Pairs, *, rivals: bool) -> Told:
        """Without the links of pairs (n, 2), in both directions; with `rivals` those of substitutes, too."""
        substitutes = self.stands_for
        if rivals and substitutes is not None:
            substitutes = _without(substitutes, pairs)
        return self._replace(goes_with=_without(self.goes_with, pairs), stands_for=substitutes)


class LinkEvidence:
    """Links, ready to give columns."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.n_items = told.goes_with.shape[0]
        self.out = told.goes_with
        self.back = self.out.T.tocsr()
        self.links = both_ways(self.out)
        self.degree, self.n_out, self.n_back = (_at_least_one(graph) for graph in (self.links, self.out, self.back))
        self.even = self.degree ** np.float32(-0.5)
        by = diags_array(self.degree[:, 0] ** np.float32(-0.25))
        self.halved = (by @ self.links @ by).tocsr().astype(np.float32)
        gone: tuple[str, ...] = ()
        if told.seen is None:
            gone += ("people", "linked, then people")
        else:
            self.taken, self.takers = told.seen, told.seen.T.tocsr()
            self.n_taken, self.n_takers = _at_least_one(self.taken), _at_least_one(self.takers)
            self.alone = self.takers @ (1 / self.n_taken) / self.n_takers  # of a walk by people: what comes back
        if told.stands_for is None:
            gone += ("rival", "linked, then rival")
        else:
            self.rivals = both_ways(told.stands_for)
            self.n_rivals = _at_least_one(self.rivals)
        self.forms = {name: form for name, form in FORMS.items() if not gone or not name.startswith(gone)}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        known = {name: graph for name, graph in self.told._asdict().items() if graph is not None}
        return {f"{name}-{part}": getattr(graph, part) for name, graph in known.items() for part in CSR}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        n_items = len(arrays["goes_with-indptr"]) - 1

        def graph(name: str) -> csr_array | None:
            if f"{name}-indptr" not in arrays:
                return None
            parts = tuple(arrays[f"{name}-{part}"] for part in CSR)
            return csr_array(parts, shape=(len(parts[2]) - 1, n_items), copy=False)

        return cls(Told(*(graph(name) for name in Told._fields)))

    def columns(self, asked: csr_array, candidates: NDArray[np.integer]) -> Iterator[Floats]:
        """(t, c, columns) of some rows of `asked` (q, n_items), ones where an item is asked with, and their candidates
        (q, c), a stretch of rows at a time.
        """
        wide = max(self.n_items, candidates.shape[1]) * len(self.forms)
        together = max(1, min(TOGETHER, ROOM // max(wide, 1)))
        for begin in range(0, asked.shape[0], together):
            rows = slice(begin, begin + together)
            yield self.at(self.fields(asked[rows].tocsr()), candidates[rows])

    def at(self, fields: Mapping[str, Floats], candidates: NDArray[np.integer]) -> Floats:
        """(t, c, columns) of candidates (t, c) out of what `fields` gave."""
        place = np.arange(len(candidates))[:, None]
        found = np.empty((*candidates.shape, len(fields)), np.float32)
        for column, field in enumerate(fields.values()):
            found[..., column] = field[candidates if field.shape[0] > 1 else 0, place if field.shape[1] > 1 else 0]
        return found

    def fields(self, asked: csr_array) -> dict[str, Floats]:
        """Every column of all items for rows of `asked` (t, n_items): (n_items, t), or 1 where it is the same."""
        many = np.maximum(np.diff(asked.indptr), 1).astype(np.float32)
        start = asked.T.toarray().astype(np.float32) / many
        degree, even = self.degree, self.even
        of_asked = (asked @ degree).T / many  # (1, t)
        walks = [start]
        for _ in range(STEPS):
            walks.append(self.links @ (walks[-1] / degree))
        shared = self.links @ start
        common = self.links @ shared
        weight = -solved(self.halved, start)
        out, back = self.back @ start, self.out @ start
        found = {
            "walk2": walks[2] * even, "walk3": walks[3] * even, "walk4": walks[4] * even,
            "pagerank": _on_the_way(walks) * even,
            "pagerank forwards": self._directed(self.back, self.n_out, start),
            "pagerank backwards": self._directed(self.out, self.n_back, start),
            "common": common,
            "adamic-adar": self.links @ (shared / np.log(degree + 1.5)),
            "cosine": common * even / np.sqrt(of_asked),
            "allocation": walks[2] * of_asked,
            "to, to": self.back @ (out / degree), "to, from": self.out @ (out / degree),
            "from, to": self.back @ (back / degree), "from, from": self.out @ (back / degree),
            "closed form": self.halved @ weight, "weight": weight,
            "links": np.log1p(degree), "links to it": np.log1p(self.n_back), "links from it": np.log1p(self.n_out),
            "links of the asked": np.log1p(of_asked), "links from the asked": np.log1p((asked @ self.n_out).T / many),
        }  # fmt: skip
        if self.told.seen is not None:
            found |= {
                "people": self._by_people(start), "linked, then people": self._by_people(walks[1]),
                "people of it": np.log1p(self.n_takers),
            }  # fmt: skip
        if self.told.stands_for is not None:
            rivals = self.rivals @ start
            found |= {
                "rivals": rivals,
                "rival, then rival": self.rivals @ (rivals / self.n_rivals),
                "rival, then linked": self.links @ (rivals / degree),
                "linked, then rival": self.rivals @ (shared / self.n_rivals),
            }
        return {name: found[name] for name in self.forms}

    def _directed(self, onwards: csr_array, degree: Floats, start: Floats) -> Floats:
        walks = [start]
        for _ in range(DIRECTED_STEPS):
            walks.append(onwards @ (walks[-1] / degree))
        return _on_the_way(walks) * self.even

    def _by_people(self, vectors: Floats) -> Floats:
        """Items taken by who took these, each by the root of how often it was taken; never the item itself."""
        root = np.sqrt(self.n_takers)
        found = self.takers @ (self.taken @ (vectors / root) / self.n_taken) / root
        return np.maximum(found - self.alone * vectors, 0)


class LinkWeigher(NamedTuple):
    """The evidence of links and the head that weighs it."""

    evidence: LinkEvidence
    head: PairHead

    @classmethod
    def fitted(
        cls, told: Told, *, matchings: int, at_most: int, rivals_hidden: bool, seed: int, threads: int
    ) -> Self | None:
        """Learn from pairs that leave the links, and answer with all that are; None where there are too few.

        Args:
            matchings: how often pairs are taken out; at_most: pairs of each;
            rivals_hidden: these leave the substitutes, too.
        """
        columns, log_q = list[Floats](), list[Floats]()
        for lesson in lessons(told, matchings, at_most, seed):
            known = LinkEvidence(told.without(lesson.pairs, rivals=rivals_hidden))
            columns += known.columns(lesson.asked, lesson.wanted)
            log_q.append(lesson.log_q)
        if sum(map(len, columns)) < FEWEST:
            return None
        whole = LinkEvidence(told)
        forms = list(whole.forms.values())
        return cls(whole, learn(np.concatenate(columns), np.concatenate(log_q), forms, seed, threads))

    def of(self, asked: Items, history: History | None = None) -> Likely:
        """See `PairScorer`; a history makes no difference."""
        return _Linked(self, asked)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        learnt = {f"head-{name}": value for name, value in self.head.arrays().items()}
        return {**self.evidence.arrays(), **learnt}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave."""
        evidence = LinkEvidence.restored(arrays)
        return cls(evidence, PairHead.restored(list(evidence.forms.values()), under("head-", arrays)))


class _Linked(Likely):
    """One question to the evidence of links."""

    def __init__(self, weigher: LinkWeigher, asked: Items) -> None:
        evidence = weigher.evidence
        super().__init__(evidence.n_items)
        self._weigher, self._asked = weigher, asked
        row = np.ones(len(asked), np.float32), np.sort(asked), [0, len(asked)]
        start = csr_array(row, (1, evidence.n_items))
        self._fields, self._linked = evidence.fields(start), (start @ evidence.links).indices

    def weigh(self, items: Items) -> Floats:
        """(n,) f of items; what a link points to is put before what is inferred."""
        columns = self._weigher.evidence.at(self._fields, items[None])
        return self._weigher.head(columns)[0] + np.float32(VOUCHED) * np.isin(items, self._linked)

    def nearest(self, k: int, allowed: NDArray[np.bool_] | None = None) -> Items:
        """(at most k,) items in the order of their score, out of those that a walk or the closed form leads to."""
        open_to = np.ones(self._weigher.evidence.n_items, bool) if allowed is None else allowed.copy()
        open_to[self._asked] = False
        found = []
        for name in ("pagerank", "closed form", "pagerank forwards", "people", "rivals"):
            if name in self._fields:
                reach = np.where(open_to, self._fields[name][:, 0], 0)
                first = np.argpartition(-reach, min(max(LOOKED_AT, k), len(reach)) - 1)[: max(LOOKED_AT, k)]
                found.append(first[reach[first] > 0])
        items = np.unique(np.concatenate([*found, self._linked[open_to[self._linked]]])).astype(np.int32)
        return items[np.argsort(-self.score(items), kind="stable")[:k]]


class Lesson(NamedTuple):
    """Pairs to be found: pairs (q, 2); asked (q, n_items); wanted (q, 1 + drawn), the target first; log_q of the draws,
    infinite for what is drawn in vain."""

    pairs: Pairs
    asked: csr_array
    wanted: NDArray[np.int64]
    log_q: Floats


def lessons(told: Told, matchings: int, at_most: int, seed: int) -> Iterator[Lesson]:
    """Matchings that have no pair in common, each among products drawn evenly from those with links."""
    left = links = both_ways(told.goes_with)
    n_items = links.shape[0]
    linked = np.flatnonzero(np.diff(links.indptr))
    for number in range(matchings):
        rng = np.random.default_rng([seed, 7, number])
        pairs = matching(left, rng, at_most)
        if len(pairs) == 0:
            return
        left = _without(left, pairs)
        asked, target = pairs.T
        wanted = np.column_stack([target, linked[rng.integers(0, len(linked), (len(pairs), DRAWN))]])
        log_q = np.zeros(wanted.shape, np.float32)
        keys = np.repeat(np.arange(n_items), np.diff(links.indptr)) * n_items + links.indices
        in_vain = np.isin(asked[:, None] * n_items + wanted, keys) | (wanted == asked[:, None])
        log_q[:, 1:][in_vain[:, 1:]] = np.inf
        row = np.ones(len(pairs), np.float32), asked, np.arange(len(pairs) + 1)
        yield Lesson(pairs, csr_array(row, (len(pairs), n_items)), wanted, log_q)


def matching(links: csr_array, rng: np.random.Generator, at_most: int) -> Pairs:
    """(n, 2) links in an order drawn by chance, taken where neither end was; either end may stand first.

    Args:
        links: (n_items, n_items), both ways; products with fewer than two links are not taken.
    """
    row = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
    enough = np.diff(links.indptr) >= LEAST
    usable = (row < links.indices) & enough[row] & enough[links.indices]
    pairs = rng.permutation(np.column_stack([row[usable], links.indices[usable]]))
    free, taken = bytearray(b"\1") * links.shape[0], list[int]()
    for place, (one, other) in enumerate(zip(*(ends.tolist() for ends in pairs.T), strict=True)):
        if len(taken) == at_most:
            break
        if free[one] and free[other]:
            free[one] = free[other] = 0
            taken.append(place)
    return rng.permuted(pairs[taken].astype(np.int64), axis=1)


def solved(halved: csr_array, start: Floats) -> Floats:
    """(n_items, t) of (X X + ridge) p = start, by some steps of conjugate gradients; X is symmetric."""
    found, left = np.zeros_like(start), start.copy()
    towards, size = start.copy(), (start * start).sum(0)
    for _ in range(SOLVED_IN):
        pushed = halved @ (halved @ towards) + np.float32(RIDGE) * towards
        step = size / np.maximum((towards * pushed).sum(0), TINY)
        found += step * towards
        left -= step * pushed
        before, size = size, (left * left).sum(0)
        towards = left + size / np.maximum(before, TINY) * towards
    return found


def both_ways(graph: csr_array) -> csr_array:
    """Ones where either direction is linked; no item is linked with itself."""
    one, other = graph.tocoo().coords
    return graph_of(np.append(one, other), np.append(other, one), shape=graph.shape)


def _without(graph: csr_array, pairs: Pairs) -> csr_array:
    """The graph without pairs (n, 2), in both directions."""
    n_items = graph.shape[0]
    row = np.repeat(np.arange(n_items), np.diff(graph.indptr))
    low, high = np.sort(pairs, axis=1).T
    kept = ~np.isin(np.minimum(row, graph.indices) * n_items + np.maximum(row, graph.indices), low * n_items + high)
    return graph_of(row[kept], graph.indices[kept], shape=graph.shape)


def _on_the_way(walks: list[Floats]) -> Floats:
    """Where a walk that stops at each step by chance 1 - damping is; the first two places are q and its own links."""
    found = np.zeros_like(walks[0])
    for step, walk in enumerate(walks[2:], 2):
        found += np.float32((1 - DAMPING) * DAMPING**step) * walk
    return found


def _at_least_one(graph: csr_array) -> Floats:
    """(rows, 1) links of each row, 1 where there are none."""
    return np.maximum(np.diff(graph.indptr), 1).astype(np.float32)[:, None]
