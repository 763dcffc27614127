"""Metrics of rankings, of purchase intent, and their intervals: arrays in, arrays out.

Lists are (q, k) int32, best first, padded with -1, which never counts; id 0 is an item like any other. Ranks begin at 0
and NEVER stands for "not in the list", so that one array of ranks answers for every length: `ranks < k`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from endcap.errors import InputError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Items = NDArray[np.int32]

NEVER = np.iinfo(np.int32).max
MOST_PLACES = 1 << 27  # of a ranking with ties

# -- rankings ----------------------------------------------------------------------------------------------------------


def hit_matrix(lists: Items, relevant: Items, offsets: Ints) -> Bools:
    """Which places of each list hold a relevant item.

    Args:
        lists: (q, k); relevant: the relevant items of all queries in a row; offsets: (q + 1,) their bounds.

    Returns:
        (q, k) bool, never true at a pad.

    Raises:
        InputError: if the arrays do not fit together.
    """
    lists, relevant, offsets = _lists(lists), _whole("relevant", relevant, 0), _whole("offsets", offsets, 0)
    bounds = offsets[[0, -1]].tolist() if len(offsets) else []
    if len(offsets) != len(lists) + 1 or bounds != [0, len(relevant)] or (np.diff(offsets) < 0).any():
        raise InputError(f"offsets: {len(lists) + 1} numbers are needed that ascend from 0 to {len(relevant)}")
    n_items = int(max(lists.max(initial=-1), relevant.max(initial=-1))) + 1
    queries = np.arange(len(lists), dtype=np.int64)
    wanted = np.unique(np.repeat(queries, np.diff(offsets)) * n_items + relevant)
    hits: Bools = np.isin(queries[:, None] * n_items + lists, wanted) & (lists >= 0)
    return hits


def hit_rate(hits: Bools, k: int) -> Floats:
    """1 where one of the first k is relevant, (q,)."""
    return np.asarray(_first(hits, k).any(1), np.float64)


def recall(hits: Bools, n_relevant: NDArray[np.integer], k: int) -> Floats:
    """Share of the relevant items that stand among the first k, (q,); NaN for a query without relevant items."""
    found = _first(hits, k)
    return _share(found.sum(1), _of_queries(n_relevant, found))


def ndcg(hits: Bools, n_relevant: NDArray[np.integer], k: int) -> Floats:
    """Normalised discounted cumulative gain, gains 0 and 1, discount log2, (q,); NaN without relevant items."""
    found = _first(hits, k)
    ideal_places = np.minimum(_of_queries(n_relevant, found), k)
    discount = 1 / np.log2(np.arange(2, max(found.shape[1], ideal_places.max(initial=0)) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[ideal_places]
    return _share(found @ discount[: found.shape[1]], ideal)


def mrr(hits: Bools, k: int | None = None) -> Floats:
    """1 / (place of the first relevant item), 0 where there is none among the first k, (q,)."""
    hits = _first(hits, NEVER if k is None else k)
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    return np.where(hits.any(1), 1 / (hits.argmax(1) + 1), 0.0)


def covered(lists: Items, items: Items) -> Bools:
    """Which of the items (n,) stand in at least one list; the mean is the catalogue coverage."""
    lists = _lists(lists)
    return np.isin(items, lists[lists >= 0])


def novelty(lists: Items, share: Floats) -> Floats:
    """Mean surprise -log2(share) of the listed items in bits, (q,); NaN for an empty list.

    Args:
        share: (n_items,) the share of people who know the item, above 0.
    """
    lists, share = _lists(lists, len(share)), np.asarray(share, np.float64)
    if share.ndim != 1 or not (share > 0).all():
        raise InputError("share: one number above 0 for each item is needed")
    listed = lists >= 0
    surprise = np.where(listed, -np.log2(share)[np.maximum(lists, 0)], 0.0) if len(share) else np.zeros(lists.shape)
    return _share(surprise.sum(1), listed.sum(1))


def diversity(lists: Items, category: NDArray[np.integer]) -> Floats:
    """Share of the pairs in a list that lie in different categories, (q,); NaN where there is no pair to judge.

    Args:
        category: (n_items,) the category's number, -1 where unknown; pairs with an unknown one are not judged.
    """
    lists, category = _lists(lists, len(category)), _whole("category", category)
    judged = np.zeros(len(lists), np.int64)
    different = np.zeros(len(lists), np.int64)
    _count_pairs(np.ascontiguousarray(lists), category, judged, different)
    return _share(different, judged)


@numba.njit(cache=True)
def _count_pairs(lists, category, judged, different):  # type: ignore[no-untyped-def]
    for query in range(lists.shape[0]):
        for left in range(lists.shape[1]):
            a = lists[query, left]
            if a < 0 or category[a] < 0:
                continue
            for right in range(left + 1, lists.shape[1]):
                b = lists[query, right]
                if b >= 0 and category[b] >= 0:
                    judged[query] += 1
                    different[query] += category[a] != category[b]


def interest_spread(vectors: NDArray[np.floating]) -> float:
    """1 - the mean cosine of two of a person's (K, d) interests, from 0 (all the same) on; NaN with fewer than two."""
    vectors = np.asarray(vectors)
    if vectors.ndim != 2 or not (vectors.size == 0 or np.issubdtype(vectors.dtype, np.floating)):
        raise InputError(f"vectors: (K, d) numbers are needed, not shape {vectors.shape} of {vectors.dtype}")
    if len(vectors) < 2:
        return np.nan
    units = vectors / np.maximum(np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True), 1e-12)
    above = np.triu_indices(len(units), 1)
    return float(1 - (units @ units.T)[above].mean())


def _whole(what: str, values: NDArray, least: int | None = None) -> NDArray[Any]:
    """(n,) whole numbers, none below `least`; an empty array may be of any type."""
    values = np.asarray(values)
    if values.ndim != 1 or not (values.size == 0 or np.issubdtype(values.dtype, np.integer)):
        raise InputError(f"{what}: a row of whole numbers is needed, not shape {values.shape} of {values.dtype}")
    if least is not None and values.min(initial=least) < least:
        raise InputError(f"{what}: {values.min()} is below {least}")
    return values if values.size else values.astype(np.int64)


def _lists(lists: Items, n_items: int | None = None) -> Items:
    """(q, k) lists of items below `n_items`."""
    lists = np.asarray(lists)
    if lists.ndim != 2 or not (lists.size == 0 or np.issubdtype(lists.dtype, np.integer)):
        raise InputError(f"lists: (queries, k) whole numbers are needed, not shape {lists.shape} of {lists.dtype}")
    if n_items is not None and lists.max(initial=-1) >= n_items:
        raise InputError(f"lists: item {lists.max()} is beyond the {n_items} items that are described")
    return lists if lists.size else lists.astype(np.int32)


def _first(hits: Bools, k: int) -> Bools:
    """The first k places of (q, n) hits."""
    hits = np.asarray(hits)
    if hits.ndim != 2 or not (hits.size == 0 or hits.dtype == np.bool_):
        raise InputError(f"hits: (queries, k) bool is needed, as hit_matrix gives it, not {hits.shape} of {hits.dtype}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k: a whole number of 1 or more is needed, not {k!r}")
    return hits[:, :k].astype(np.bool_, copy=False)


def _of_queries(n_relevant: NDArray[np.integer], hits: Bools) -> NDArray[np.integer]:
    n_relevant = _whole("n_relevant", n_relevant, 0)
    if len(n_relevant) != len(hits):
        raise InputError(f"n_relevant: one number for each of {len(hits)} queries is needed, not {len(n_relevant)}")
    return n_relevant


def _share(part: NDArray, whole: NDArray) -> Floats:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=np.asarray(whole) > 0)


# -- one target among others, by scores --------------------------------------------------------------------------------


def tied_hit_rate(above: NDArray[np.integer], ties: NDArray[np.integer], k: int) -> Floats:
    """The chance that a target stands among the first k when equal scores lie in random order, (q,).

    Its place is one of above + 1 ... above + ties + 1, each as likely as the others, so that every metric m of a place
    is expected to be sum m(place) / (ties + 1) over these: here min(1, max(0, (k - above) / (ties + 1))).

    Args:
        above: (q,) how many others have a higher score than the target; ties: (q,) how many have the same.
    """
    return _over_ties(above, ties, k, lambda place: np.ones(len(place)))


def tied_mrr(above: NDArray[np.integer], ties: NDArray[np.integer], k: int | None = None) -> Floats:
    """The mean of 1 / place over the places that `tied_hit_rate` speaks of, 0 beyond k, (q,).

    With H(n) = 1 + 1/2 + ... + 1/n it is (H(above + ties + 1) - H(above)) / (ties + 1).
    """
    return _over_ties(above, ties, NEVER if k is None else k, lambda place: 1 / place)


def tied_ndcg(above: NDArray[np.integer], ties: NDArray[np.integer], k: int) -> Floats:
    """The mean of 1 / log2(1 + place) over the places that `tied_hit_rate` speaks of, 0 beyond k, (q,)."""
    return _over_ties(above, ties, k, lambda place: 1 / np.log2(1 + place))


def _over_ties(
    above: NDArray[np.integer], ties: NDArray[np.integer], k: int, gain: Callable[[Floats], Floats]
) -> Floats:
    above, ties = _whole("above", above, 0), _whole("ties", ties, 0)
    if len(above) != len(ties):
        raise InputError(f"above and ties: of one length, not {len(above)} and {len(ties)}")
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InputError(f"k: a whole number of 1 or more is needed, not {k!r}")
    last = np.minimum(above + ties + 1, k)
    if last.max(initial=0) > MOST_PLACES:
        raise InputError(f"above and ties: places up to {MOST_PLACES:,} can be judged, not {last.max():,}")
    until = np.append(0.0, np.cumsum(gain(np.arange(1.0, last.max(initial=0) + 1))))
    return (until[last] - until[np.minimum(above, last)]) / (ties + 1)


# -- intervals ---------------------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A mean with its 95 % interval and the number of values behind it; NaN where it cannot be known."""

    value: float
    low: float
    high: float
    n: int


def resampled_means(
    columns: Sequence[NDArray], groups: NDArray[np.integer], *, n_resamples: int = 1000, seed: int = 0
) -> Floats:
    """Means of every column under the cluster bootstrap: whole groups (people) are drawn with replacement.

    The same draws serve all columns, so the difference of two columns of the result is the paired bootstrap of theirs.

    Args:
        columns: m arrays (n,), bool or float; NaN values are left out of their column's mean.
        groups: (n,) who each value belongs to.

    Returns:
        (n_resamples, m); NaN in a draw that holds no value of the column.
    """
    columns = [np.asarray(column) for column in columns]
    if any(column.shape != (len(groups),) or column.dtype.kind not in "biuf" for column in columns):
        raise InputError(f"values: {len(groups)} numbers are needed, one for each of the groups")
    for what, number, least in (("n_resamples", n_resamples, 1), ("seed", seed, 0)):
        if not isinstance(number, int | np.integer) or not least <= number < NEVER:
            raise InputError(f"{what}: a whole number from {least} on is needed, not {number!r}")
    names, group = np.unique(groups, return_inverse=True)
    n_groups = len(names)
    sums = np.empty((n_groups, 2 * len(columns)))
    for place, column in enumerate(columns):
        known = ~np.isnan(column)
        sums[:, 2 * place] = np.bincount(group[known], column[known], n_groups)
        sums[:, 2 * place + 1] = np.bincount(group[known], minlength=n_groups)
    rng = np.random.default_rng(seed)
    totals = np.zeros((n_resamples, sums.shape[1]))
    for draw in range(n_resamples) if n_groups else ():
        times = np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups)
        _add_up(times, sums, totals[draw])
    means = np.full((n_resamples, len(columns)), np.nan)
    return np.divide(totals[:, ::2], totals[:, 1::2], out=means, where=totals[:, 1::2] > 0)


@numba.njit(cache=True)
def _add_up(times, sums, total):  # type: ignore[no-untyped-def]
    """total += times @ sums, in the same order for every column: equal columns have equal totals to the last bit."""
    for group in range(len(times)):
        if times[group]:
            for column in range(sums.shape[1]):
                total[column] += times[group] * sums[group, column]


def interval_of(column: NDArray, means: Floats, n_groups: int) -> Interval:
    """The mean of a column with the percentile interval of its resampled means; one group says nothing about others."""
    known = column[~np.isnan(column)]
    value = float(known.mean()) if len(known) else np.nan
    return Interval(value, *percentiles(means, n_groups), len(known))


def percentiles(means: Floats, n_groups: int, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of resampled means; NaN, NaN with fewer than two groups to draw from."""
    means = means[~np.isnan(means)]
    if n_groups < 2 or len(means) == 0:
        return np.nan, np.nan
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_mean(values: NDArray, groups: NDArray[np.integer], *, n_resamples: int = 1000, seed: int = 0) -> Interval:
    """The mean of (n,) values with a 95 % cluster bootstrap interval over groups (n,)."""
    means = resampled_means([values], groups, n_resamples=n_resamples, seed=seed)
    return interval_of(values, means[:, 0], len(np.unique(groups)))


def paired_bootstrap(
    a: NDArray, b: NDArray, groups: NDArray[np.integer], *, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """The mean of a - b, measured on the same n cases, with a 95 % cluster bootstrap interval over groups (n,)."""
    if np.shape(a) != np.shape(b):
        raise InputError(f"a and b: measured on the same cases, not on {np.shape(a)} and {np.shape(b)}")
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    return bootstrap_mean(difference, groups, n_resamples=n_resamples, seed=seed)


# -- purchase intent ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class IntentCases:
    """What people carted or bought (targets), and what they had looked at (sources), case by case.

    A case is a session, or one target with the last actions before it. Targets are sorted by case.

    Attributes:
        target_row: (t,) place of the target in the events the cases were made of; target_item, target_case: (t,).
        own: (t,) bool, whether the target's own item is among its case's sources, by an event other than the target.
        case_offsets: (cases + 1,) bounds of the cases' targets.
        source_item, source_seen_as: (u,) the distinct sources, sorted by interaction, then item.
        source_offsets: (u + 1,) bounds of the sources' occurrences; occurrence_case, occurrence_row: the case, and the
            place of the source's first event in it.
    """

    target_row: Ints
    target_item: Items
    target_case: Ints
    own: Bools
    case_offsets: Ints
    source_item: Items
    source_seen_as: NDArray[np.int8]
    source_offsets: Ints
    occurrence_case: Ints
    occurrence_row: Ints

    @property
    def n_targets(self) -> int:
        return len(self.target_row)

    @property
    def n_cases(self) -> int:
        return len(self.case_offsets) - 1


class IntentRanks(NamedTuple):
    """For each target the best rank it has in a list of another item: (t,) int32, NEVER where in none.

    `union` looks at the lists of all sources of its case, `causal` only at those acted on before the target.
    """

    union: Items
    causal: Items


def intent_cases(
    session: NDArray[np.integer],
    item: Items,
    interaction: NDArray[np.int8],
    source: int | None,
    intents: Sequence[int],
) -> IntentCases:
    """Cases by session, from whole sessions: events sorted by session and, in it, by time.

    Targets are the events with an intent interaction (a multiset) after the session's first event of the source
    interaction; sources are all the session's events of the source interaction, or of any for None. Sessions without a
    target are left out.
    """
    session, item, interaction = _events(session=session, item=item, interaction=interaction)
    case = np.cumsum(np.append(True, session[1:] != session[:-1])) - 1 if len(session) else np.empty(0, np.int64)
    is_source = np.ones(len(item), bool) if source is None else interaction == source
    n_cases = int(case[-1]) + 1 if len(case) else 0
    sourced, first = np.unique(case[is_source], return_index=True)
    first_source = np.full(n_cases, len(item))
    first_source[sourced] = np.flatnonzero(is_source)[first]
    target_row = np.flatnonzero(np.isin(interaction, intents) & (np.arange(len(item)) > first_source[case]))
    wanted = np.zeros(n_cases, bool)
    wanted[case[target_row]] = True
    source_row = np.flatnonzero(is_source & wanted[case])
    case = (np.cumsum(wanted) - 1)[case]
    return _group(
        target_row, item[target_row], case[target_row], is_source[target_row],
        source_row, item[source_row], interaction[source_row], case[source_row],
    )  # fmt: skip


def recent_cases(
    user: NDArray[np.integer],
    item: Items,
    interaction: NDArray[np.int8],
    is_test: Bools,
    source: int | None,
    intents: Sequence[int],
    n: int = 4,
) -> IntentCases:
    """One case for each target, from whole lives: events sorted by user and time.

    Targets are the test events with an intent interaction that have a source before them; their sources are the user's
    last n different ones before the target, however long ago: what a home page knows at that moment.
    """
    user, item, interaction = _events(user=user, item=item, interaction=interaction)
    if np.shape(is_test) != item.shape or n < 1:
        raise InputError("is_test says of each event whether it is a test event, and n is 1 or more")
    is_source = np.ones(len(item), bool) if source is None else interaction == source
    target_row = np.flatnonzero(is_test & np.isin(interaction, intents))
    rows = np.full((len(target_row), n), -1, np.int64)
    _last_sources(np.asarray(user), item, interaction, is_source, target_row, rows)
    has_source = rows[:, 0] >= 0
    target_row, rows = target_row[has_source], rows[has_source]
    case = np.repeat(np.arange(len(rows)), (rows >= 0).sum(1))
    source_row = rows[rows >= 0]
    return _group(
        target_row, item[target_row], np.arange(len(rows)), np.zeros(len(rows), bool),
        source_row, item[source_row], interaction[source_row], case,
    )  # fmt: skip


@numba.njit(cache=True)
def _last_sources(user, item, interaction, is_source, target_row, rows):  # type: ignore[no-untyped-def]
    n = rows.shape[1]
    last = np.empty(n, np.int64)
    held = 0
    row = 0
    for target in range(len(target_row)):
        while row < target_row[target]:
            if row == 0 or user[row] != user[row - 1]:
                held = 0
            if is_source[row]:
                place = held
                for index in range(held):
                    if item[last[index]] == item[row] and interaction[last[index]] == interaction[row]:
                        place = index
                        break
                if place == held:
                    held = min(held + 1, n)
                    place = held - 1
                for index in range(place, 0, -1):
                    last[index] = last[index - 1]
                last[0] = row
            row += 1
        if row == 0 or user[row] != user[row - 1]:
            held = 0
        for index in range(held):
            rows[target, index] = last[index]


def _events(**columns: NDArray[np.integer]) -> list[NDArray[Any]]:
    """Columns of events, of one length; the first one says whose they are and stands in order."""
    whole = [_whole(name, column) for name, column in columns.items()]
    if len({len(column) for column in whole}) > 1:
        raise InputError(f"{', '.join(columns)}: of one length, not {', '.join(str(len(column)) for column in whole)}")
    if (whole[0][1:] < whole[0][:-1]).any():
        raise InputError(f"{next(iter(columns))}: events must be sorted by it")
    return whole


def _group(
    target_row: Ints, target_item: Items, target_case: Ints, target_is_source: Bools,
    source_row: Ints, source_item: Items, seen_as: NDArray[np.int8], source_case: Ints,
) -> IntentCases:  # fmt: skip
    """Sort the sources by (interaction, item, case), keep the first event of each, and find the targets' own items."""
    n_cases = int(target_case[-1]) + 1 if len(target_case) else 0
    width = int(max(source_item.max(initial=0), target_item.max(initial=0))) + 1
    keys = np.sort(source_case * width + source_item)
    target_keys = target_case * width + target_item
    events_of_own = np.searchsorted(keys, target_keys, "right") - np.searchsorted(keys, target_keys, "left")

    order = np.lexsort((source_row, source_case, source_item, seen_as))
    source_row, source_item = source_row[order], source_item[order]
    seen_as, source_case = seen_as[order], source_case[order]
    new_source = _changes(seen_as) | _changes(source_item)
    first = np.flatnonzero(new_source | _changes(source_case))
    starts = np.flatnonzero(new_source[first])
    return IntentCases(
        target_row,
        target_item,
        target_case,
        events_of_own > target_is_source,
        np.searchsorted(target_case, np.arange(n_cases + 1)),
        source_item[first][starts],
        seen_as[first][starts],
        np.append(starts, len(first)),
        source_case[first],
        source_row[first],
    )


def _changes(column: NDArray) -> Bools:
    """True where a value differs from the one before it, and at the first."""
    return np.append(True, column[1:] != column[:-1]) if len(column) else np.empty(0, bool)


Related = Callable[[Items, int], Items]
"""(items (n,), seen_as) -> lists (n, k)."""


def intent_ranks(cases: IntentCases, related: Related, *, block: int = 8192) -> IntentRanks:
    """Ranks of all targets in the lists of their sources; a target is never matched against its own item's list.

    Args:
        related: gives the lists of items seen as one interaction; asked for `block` items at a time, each once, so that
            memory does not grow with the catalogue.
    """
    union = np.full(cases.n_targets, NEVER, np.int32)
    causal = np.full(cases.n_targets, NEVER, np.int32)
    rank_of = np.full(int(cases.target_item.max(initial=0)) + 1, NEVER, np.int32)
    for seen_as in np.unique(cases.source_seen_as):
        begin, end = np.searchsorted(cases.source_seen_as, [seen_as, seen_as + 1])
        for first in range(begin, end, block):
            items = cases.source_item[first : min(first + block, end)]
            lists = np.ascontiguousarray(related(items, int(seen_as)))
            _lower_ranks(
                lists, first, cases.target_item, cases.target_row, cases.case_offsets, cases.source_item,
                cases.source_offsets, cases.occurrence_case, cases.occurrence_row, rank_of, union, causal,
            )  # fmt: skip
    return IntentRanks(union, causal)


@numba.njit(cache=True)
def _lower_ranks(  # type: ignore[no-untyped-def]
    lists, first, target_item, target_row, case_offsets, source_item, source_offsets, occurrence_case, occurrence_row,
    rank_of, union, causal,
):  # fmt: skip
    """`rank_of` is working space: (largest target + 1,) of NEVER before and after."""
    for row in range(lists.shape[0]):
        source = first + row
        for rank in range(lists.shape[1]):
            item = lists[row, rank]
            if 0 <= item < len(rank_of) and rank < rank_of[item]:
                rank_of[item] = rank
        for occurrence in range(source_offsets[source], source_offsets[source + 1]):
            case = occurrence_case[occurrence]
            for target in range(case_offsets[case], case_offsets[case + 1]):
                item = target_item[target]
                if item == source_item[source]:
                    continue
                rank = rank_of[item]
                if rank < union[target]:
                    union[target] = rank
                if rank < causal[target] and occurrence_row[occurrence] < target_row[target]:
                    causal[target] = rank
        for rank in range(lists.shape[1]):
            item = lists[row, rank]
            if 0 <= item < len(rank_of):
                rank_of[item] = NEVER


def purchase_intent(cases: IntentCases, related: Related, budgets: Sequence[int]) -> Bools:
    """The headline of the purchase-intent hit rate: whether each target stands in the union of its case's lists.

    Returns:
        (t, budgets) bool, for lists cut at each budget; their mean is the micro average.
    """
    return intent_ranks(cases, related).union[:, None] < np.asarray(budgets)


def intent_lengths(n_items: int) -> list[int]:
    """Lengths of lists that a choice between settings is judged by, together: neither breadth nor the first alone.

    None longer than a twentieth of the items (but ten): in longer ones all settings look alike.
    """
    return sorted({min(length, max(10, n_items // 20)) for length in (10, 40, 200)})


def events_to_judge_by(n_items: int) -> int:
    """How many events of held-out people are asked about where settings or models are judged unattended.

    A list costs a look at every item. So that judging takes minutes in a large shop, too, fewer are asked about there:
    200,000 up to 25,000 items, 5,000 from a million on.
    """
    return int(np.clip(5_000_000_000 // max(1, n_items), 5_000, 200_000))


def mean_by_case(cases: IntentCases, hits: Bools) -> Floats:
    """The share of hits in each case, (cases,)."""
    return np.bincount(cases.target_case, hits) / np.diff(cases.case_offsets)
