"""A graph network over typed links that tells complements from substitutes, taught by two tasks at once.

    L = link_weight * L_link + edge_weight * L_edge   (1 and .5, as "Cross-Sell Is a Graph Problem" has them)

Links are of three kinds: goes with, stands for, and both at once; where no relations are given, what was bought by one
person and what was looked at in a row stand for them. A node hears, per kind a and per pair of kinds (a, b),

    x_a(i) = sum over k in N_a(i) of x(k)        x_ab(i) = sum over k in N_a(i) of x_b(k) / |x_b(k)|

x being fixed signs of its own, of its leaf and of its brand: hops without weights between them (SIGN: Rossi et al.
2020), each brought to length 1. They and the logarithms of its degrees go through two layers to h. No id is learnt, so
an item in no pair that was learnt from is read as any other.

    edge   t_ij + MLP [h_i * h_j ; |h_i - h_j| ; (c_ij + c_ji) / 2 ; |c_ij - c_ji| ; t_ij], c standardised
           `pair_features`, t the log-odds of boosted trees over the same columns: the same both ways, to the last bit
    link   sigmoid(sum_d w_rd h_id h_jd + b_r): is this a link of kind r, or two items drawn by chance?

The edge between the two items plays no part, exactly and without rebuilding a graph: the sums of i lose j's term, N_a
of any third item never holds that edge, and columns leave it out by themselves. So each known link teaches, as itself
taken away, and a pair is judged alike whether its link is known or not.

Trees and network see the same pairs, so in training t is that of trees which were grown without the pair (FOLDS). Of
items that nobody looked at or bought both of, where labels are those of behaviour, the trees' answer stands: few
lessons say what such pairs are, and a network that fits the others is anything there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn import functional

from endcap.errors import InputError
from endcap.models.complement.counts import places
from endcap.models.complement.features import Lesson, PairFacts
from endcap.models.complement.links import Links
from endcap.models.complement.measures import Columns
from endcap.nn.training import TrainingSettings, train

KINDS = 3  # goes with, stands for, both
SIGNS = 32  # fixed signs of an item, of a leaf, of a brand
HIDDEN = 64
BATCH, LINKS_OF_BATCH = 256, 128
RATE, DECAY, PATIENCE = 1e-3, 1e-2, 6
AT_ONCE = 8192  # pairs whose inputs are made at the same time

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class NetworkSettings(Protocol):
    """What a network is made by; see `ComplementConfig`."""

    @property
    def dim(self) -> int: ...
    @property
    def epochs(self) -> int: ...
    @property
    def dropout(self) -> float: ...
    @property
    def link_weight(self) -> float: ...
    @property
    def edge_weight(self) -> float: ...
    @property
    def members(self) -> int: ...


class Heard:
    """What each item hears through its typed links, and what it would hear without one of them."""

    def __init__(self, facts: PairFacts) -> None:
        n = facts.n_items
        links = facts.links
        if links is None:
            raise ValueError("a graph network needs links")
        self.keys, self.kinds = _typed(links)
        row, column = np.divmod(self.keys, max(n, 1))
        graphs = [
            csr_array((np.ones(of.sum(), np.float32), (row[of], column[of])), shape=(n, n))
            for of in (self.kinds == kind for kind in range(KINDS))
        ]
        self.degrees = np.stack([np.diff(graph.indptr) for graph in graphs], axis=1).astype(np.float32)
        parts = [_signs(np.arange(n), 0)]
        if (facts.leaf >= 0).any() or (facts.brand >= 0).any():
            parts += [_signs(facts.leaf, 1), _signs(facts.brand, 2)]
        self.n_parts = len(parts)
        own = np.concatenate(parts, axis=1)
        self.once = np.stack([graph @ own for graph in graphs])  # (kinds, n, parts * signs)
        self.even = np.stack([self._even(one) for one in self.once])
        self.twice = np.stack([[graph @ one for one in self.even] for graph in graphs])
        price = np.log1p(np.nan_to_num(facts.price))
        self.said = np.column_stack([own[:, SIGNS:], price, np.isfinite(facts.price)]).astype(np.float32)
        self.whole = self._inputs(np.arange(n))
        self.width = self.whole.shape[1]

    def without(self, items: Ints, others: Ints) -> Floats:
        """(n, width) what items hear, each without its link to the other; 0 of unknown items."""
        n = len(self.degrees)
        known = (items >= 0) & (items < n) & (others >= 0) & (others < n)
        out = np.zeros((len(items), self.width), np.float32)
        i, j = items[known], others[known]
        out[known] = self.whole[i]
        place = places(self.keys, i * n + j)
        linked = place >= 0
        rows = np.flatnonzero(known)[linked]
        out[rows] = self._inputs(i[linked], j[linked], self.kinds[place[linked]])
        return out

    def _inputs(self, i: Ints, j: Ints | None = None, kinds: Ints | None = None) -> Floats:
        """(n, width) of items, each without its link of a kind to another one, where given."""
        degrees = self.degrees[i].copy()
        if kinds is not None:
            degrees[np.arange(len(i)), kinds] -= 1
        blocks = [self.said[i], np.log1p(degrees)]
        for kind in range(KINDS):
            heard = [self.once[kind, i], *self.twice[kind][:, i]]
            if j is not None and kinds is not None:
                own = (kinds == kind)[:, None]
                gone = [self._own(j), *self.even[:, j]]
                heard = [one - own * other for one, other in zip(heard, gone, strict=True)]
            blocks += [self._even(one) for one in heard]
        return np.concatenate(blocks, axis=1)

    def _own(self, items: Ints) -> Floats:
        return np.concatenate([_signs(items, 0), self.said[items, :-2]], axis=1)

    def _even(self, vectors: Floats) -> Floats:
        """Each part brought to length 1; what is 0, but for rounding, stays 0."""
        split = vectors.reshape(len(vectors), self.n_parts, SIGNS)
        length = np.linalg.norm(split, axis=2, keepdims=True)
        return np.where(length > 1e-3, split / np.maximum(length, 1e-3), 0).reshape(vectors.shape).astype(np.float32)


class PairNetwork(nn.Module):
    """Nodes to vectors, two of them and their columns to log-odds; several members learnt alike give their mean."""

    def __init__(self, width: int, n_columns: int, config: NetworkSettings) -> None:
        super().__init__()
        dim, dropout = config.dim, config.dropout
        self.node = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.LayerNorm(HIDDEN), nn.GELU(), nn.Dropout(dropout), nn.Linear(HIDDEN, dim)
        )
        self.edge = nn.Sequential(
            nn.Linear(2 * dim + 2 * n_columns + 1, HIDDEN), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(HIDDEN, HIDDEN // 2), nn.GELU(), nn.Linear(HIDDEN // 2, 1),
        )  # fmt: skip
        for part in self.edge[-1].parameters():
            nn.init.zeros_(part)  # it begins with the trees' answers
        self.link, self.level = nn.Parameter(torch.ones(KINDS, dim)), nn.Parameter(torch.zeros(KINDS))

    def forward(self, left: Tensor, right: Tensor, columns: Tensor, back: Tensor, trees: Tensor) -> Tensor:
        """(n, width) twice, (n, columns) twice and (n,) -> (n,)."""
        one, other = self.node(left), self.node(right)
        given = [one * other, (one - other).abs(), (columns + back) / 2, (columns - back).abs(), trees[:, None] / 4]
        return trees + self.edge(torch.cat(given, 1))[:, 0]

    def linked(self, left: Tensor, right: Tensor, kind: Tensor) -> Tensor:
        """(n,) log-odds that pairs are links of a kind (n,)."""
        return (self.link[kind] * self.node(left) * self.node(right)).sum(1) + self.level[kind]


class Gnn:
    """The networks with what they read columns by; `hear` gives them a graph, after fitting and after reading."""

    def __init__(self, columns: Columns, members: list[PairNetwork]) -> None:
        self.columns, self.members = columns, members
        self.heard: Heard | None = None

    @classmethod
    def fitted(
        cls,
        facts: PairFacts,
        lesson: Lesson,
        validation: Lesson,
        trees: tuple[NDArray[np.float64], NDArray[np.float64]],
        config: NetworkSettings,
        seed: int,
        threads: int,
    ) -> Self:
        """Learn from pairs and from all links of the facts; the epoch that knows the held-out pairs best is kept.

        Args:
            trees: log-odds of trees for the pairs of either lesson that were grown without them. Without pairs to learn
            from, or to stop by, theirs are the answers.
        """
        gnn = cls(Columns.of(lesson.both[0]), [])
        heard = gnn.hear(facts)
        low, high = np.divmod(heard.keys, max(facts.n_items, 1))
        low, high, kinds = (part[low < high] for part in (low, high, heard.kinds))
        own, of_held = (torch.from_numpy(part.astype(np.float32)) for part in trees)
        labels, held_labels = (torch.from_numpy(part.labels.astype(np.float32)) for part in (lesson, validation))
        counts, held_counts = (_even_weights(part) for part in (lesson, validation))
        held = gnn._inputs(validation)
        settings = TrainingSettings(
            epochs=config.epochs, batch_size=BATCH, learning_rate=RATE, weight_decay=DECAY, warmup=0.05,
            patience=PATIENCE, device="cpu",
        )  # fmt: skip
        for member in range(config.members):
            torch.manual_seed(seed * 1009 + member)
            network = PairNetwork(heard.width, 2 * lesson.rows.shape[1], config)
            gnn.members.append(network.eval())
            if not len(lesson.rows) or not len(validation.rows):
                continue

            def plan(epoch: int, member: int = member) -> list[Ints]:
                order = np.random.default_rng([seed, member, epoch]).permutation(len(lesson.rows))
                return np.array_split(order, -(-len(order) // BATCH))

            def loss(batch: Ints, network: PairNetwork = network) -> Tensor:
                found = network(*gnn._inputs(lesson, batch), own[batch])
                apart = functional.binary_cross_entropy_with_logits(found, labels[batch], counts[batch])
                total = config.edge_weight * apart
                if not len(kinds) or not config.link_weight:
                    return total
                some = torch.randint(len(kinds), (LINKS_OF_BATCH,)).numpy()
                drawn = torch.randint(facts.n_items, (LINKS_OF_BATCH,)).numpy()
                one, other = np.append(low[some], low[some]), np.append(high[some], drawn)
                left, right = (torch.from_numpy(heard.without(*ends)) for ends in ((one, other), (other, one)))
                said = network.linked(left, right, torch.from_numpy(kinds[some]).repeat(2))
                true = torch.cat([torch.ones(LINKS_OF_BATCH), torch.zeros(LINKS_OF_BATCH)])
                return total + config.link_weight * functional.binary_cross_entropy_with_logits(said, true)

            def validate(network: PairNetwork = network) -> float:
                found = network(*held, of_held)
                return -float(functional.binary_cross_entropy_with_logits(found, held_labels, held_counts))

            train(
                network, plan=plan, loss=loss, validate=validate, settings=settings, seed=seed * 1009 + member,
                threads=threads, name="complement",
            )  # fmt: skip
        return gnn

    def hear(self, facts: PairFacts) -> Heard:
        """Take the links as they are.

        Raises:
            InputError: after fitting, for facts with categories or brands where it learnt without, or the reverse.
        """
        heard = Heard(facts)
        if self.members and self.members[0].node[0].in_features != heard.width:
            there = "without" if heard.n_parts > 1 else "with"
            raise InputError(f"complement: it was fitted {there} categories and brands of items; give the same")
        self.heard = heard
        return heard

    def log_odds(
        self,
        asked: Lesson,
        trees: NDArray[np.float64],
        without: NDArray[np.bool_] | None = None,
        *,
        nodes: bool = True,
    ) -> NDArray[np.float64]:
        """(n,): the mean of the networks.

        Args:
            trees: (n,) log-odds of the trees; without: (f,) columns that the network reads as those of the mean pair;
            nodes=False: so is what the items hear.
        """
        found = [np.empty(0)]
        with torch.no_grad():
            for begin in range(0, len(asked.rows), AT_ONCE):
                rows = np.arange(begin, min(begin + AT_ONCE, len(asked.rows)))
                left, right, columns, back = self._inputs(asked, rows)
                if without is not None:
                    gone = torch.from_numpy(np.append(without, without))
                    columns, back = columns.masked_fill(gone, 0), back.masked_fill(gone, 0)
                if not nodes:
                    left, right = torch.zeros_like(left), torch.zeros_like(right)
                of_trees = torch.from_numpy(trees[rows].astype(np.float32))
                said = [member(left, right, columns, back, of_trees) for member in self.members]
                found.append(torch.stack(said).mean(0).double().numpy())
        return np.concatenate(found)

    def _inputs(self, asked: Lesson, rows: Ints | None = None) -> tuple[Tensor, ...]:
        """What the networks are given of the pairs, or of some rows of them."""
        if asked.left is None or asked.right is None or not len(asked.left) == len(asked.right) == len(asked.rows):
            raise InputError("complement: a graph network needs the items of every pair; make the rows by `lesson`")
        if self.heard is None:
            raise InputError("complement: nothing is known of the items yet; call fit, or know, first")
        some = slice(None) if rows is None else rows
        left, right = (np.asarray(part, np.int64)[some] for part in (asked.left, asked.right))
        given = (
            self.heard.without(left, right),
            self.heard.without(right, left),
            self.columns(asked.rows[some]).astype(np.float32),
            self.columns(asked.back[some]).astype(np.float32),
        )
        return tuple(torch.from_numpy(part) for part in given)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that was learnt, to store."""
        learnt = {
            f"{number}-{name}": value.numpy()
            for number, member in enumerate(self.members)
            for name, value in member.state_dict().items()
        }
        return {**{f"columns-{name}": array for name, array in self.columns._asdict().items()}, **learnt}

    @classmethod
    def restored(cls, arrays: Mapping[str, NDArray[Any]], facts: PairFacts, config: NetworkSettings) -> Self:
        """What `arrays` gave.

        Raises:
            ValueError, KeyError: if they do not fit each other, or the facts.
        """
        columns = Columns(*(np.array(arrays[f"columns-{name}"]) for name in Columns._fields))
        gnn = cls(columns, [])
        width = gnn.hear(facts).width
        for number in range(config.members):
            network = PairNetwork(width, 2 * len(columns.middle), config)
            begin = f"{number}-"
            weights = {k.removeprefix(begin): torch.tensor(v) for k, v in arrays.items() if k.startswith(begin)}
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(str(error).splitlines()[0]) from None
            gnn.members.append(network.eval())
        return gnn


def _even_weights(lesson: Lesson) -> Tensor:
    """(n,) with mean 1."""
    weights = lesson.both_weights[: len(lesson.labels)]
    return torch.from_numpy((weights / max(weights.sum() / max(len(weights), 1), 1e-12)).astype(np.float32))


def _typed(links: Links) -> tuple[Ints, Ints]:
    """Keys i * n + j of all links both ways, ascending, and their kinds."""
    n = links.n_items
    offsets, others = np.asarray(links.offsets), np.asarray(links.others)
    flat = []
    for graph in range(2):
        begin, end = offsets[graph, 0], offsets[graph, -1]
        flat.append(np.repeat(np.arange(n), np.diff(offsets[graph])) * max(n, 1) + others[begin:end])
    keys = np.union1d(*flat)
    goes, stands = (np.isin(keys, one) for one in flat)
    return keys, np.where(goes & stands, 2, np.where(goes, 0, 1))


def _signs(numbers: NDArray[np.integer], salt: int) -> Floats:
    """(n, SIGNS) of +-1 that a number always has, 0 of those below 0: splitmix64's bits."""
    with np.errstate(over="ignore"):
        bits = (np.asarray(numbers).astype(np.uint64) + np.uint64(1)) * np.uint64(4) + np.uint64(salt)
        bits = bits * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    signs = 2.0 * ((bits[:, None] >> np.arange(SIGNS, dtype=np.uint64)) & np.uint64(1)) - 1
    return np.where(np.asarray(numbers)[:, None] >= 0, signs, 0).astype(np.float32)
