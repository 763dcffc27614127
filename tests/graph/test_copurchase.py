"""Co-purchase graphs against their plain definitions, and what must not disturb them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endcap.errors import InputError
from endcap.graph import WEIGHTINGS, Baskets, co_purchase, top_edges, weigh
from endcap.graph.copurchase import DAY

N = 6


@st.composite
def histories(draw: st.DrawFn) -> Baskets:
    """Up to twelve baskets of three users, forty days."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(0, 40), st.sets(st.integers(0, N - 1), max_size=4)), max_size=12
        )
    )
    rows.sort(key=lambda row: row[:2])
    made = Baskets.of_lists([sorted(items) for *_, items in rows])
    user, time = np.array([row[:2] for row in rows], np.int64).reshape(-1, 2).T
    return Baskets(made.offsets, made.items, user.astype(np.int32), time * DAY)


def sets(baskets: Baskets) -> list[set[int]]:
    return [
        set(baskets.items[begin:end].tolist())
        for begin, end in zip(baskets.offsets[:-1], baskets.offsets[1:], strict=True)
    ]


def plain(baskets: Baskets, window: int, half_life: float) -> dict[str, np.ndarray]:
    """Occasions by the definition: baskets that complete a pair."""
    found = {name: np.zeros((N, N)) for name in ("forward", "forward_decayed", "together", "shared", "shared_decayed")}
    last, held = baskets.time.max(initial=0), sets(baskets)
    for b, here in enumerate(held):
        worth = 2.0 ** (-(last - baskets.time[b]) / DAY / half_life)
        before = [
            held[a]
            for a in range(b)
            if baskets.user[a] == baskets.user[b] and baskets.time[b] - baskets.time[a] <= window * DAY and window
        ]
        earlier = set().union(*before)
        for j in here:
            for i in here - {j}:
                found["together"][i, j] += 1
                found["shared"][i, j] += 1 / len(here)
                found["shared_decayed"][i, j] += worth / len(here)
                found["forward"][i, j] += 0.5
                found["forward_decayed"][i, j] += 0.5 * worth
            for i in earlier - here:
                found["forward"][i, j] += 1
                found["forward_decayed"][i, j] += worth
    found["counts"] = found["forward"] + found["forward"].T
    found["decayed"] = found["forward_decayed"] + found["forward_decayed"].T
    return found


@given(baskets=histories(), window=st.sampled_from([0, 7, 30]), half_life=st.sampled_from([5.0, 60.0, np.inf]))
@settings(max_examples=150, deadline=None)
def test_counts_against_the_plain_definition(baskets, window, half_life):
    co = co_purchase(baskets, N, window_days=window, half_life_days=half_life, min_support=1)
    wanted = plain(baskets, window, half_life)
    for name, dense in wanted.items():
        np.testing.assert_allclose(getattr(co, name).toarray(), dense, rtol=1e-5, atol=1e-9, err_msg=name)
    assert co.n_of.tolist() == [sum(item in basket for basket in sets(baskets)) for item in range(N)]
    assert co.n_baskets == len(baskets)
    assert co.counts.has_canonical_format
    assert (co.counts.indices.dtype, co.counts.data.dtype) == (np.int32, np.float32)


@given(baskets=histories(), window=st.sampled_from([0, 30]))
@settings(max_examples=60, deadline=None)
def test_rare_pairs_stay_only_where_they_shared_a_basket(baskets, window):
    wanted = plain(baskets, window, 60)
    for together in (1, 2):
        co = co_purchase(baskets, N, window_days=window, min_support=2, min_together=together)
        kept = (wanted["counts"] >= 2) | (wanted["together"] >= together)
        np.testing.assert_array_equal(co.counts.toarray(), np.where(kept, wanted["counts"], 0))


def dense_weights(x: np.ndarray) -> dict[str, np.ndarray]:
    """All weights of a binary basket x item matrix, by their formulas."""
    c, n, total = x.T @ x, x.sum(axis=0), len(x)
    n_i, n_j = n[:, None], n[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(c * total / (n_i * n_j))
        weights = {
            "support": c / total, "confidence": c / n_i, "lift": c * total / (n_i * n_j),
            "jaccard": c / (n_i + n_j - c), "cosine": c / np.sqrt(n_i * n_j),
            "pmi": pmi, "ppmi": np.maximum(pmi, 0), "npmi": pmi / -np.log(c / total),
            "damped": c / (n_i * np.sqrt(n_j)), "walk": (x / n).T @ (x / np.maximum(x.sum(axis=1, keepdims=True), 1)),
        }  # fmt: skip
    return {name: np.where(c > 0, weight, 0) for name, weight in weights.items()}


@pytest.fixture(scope="module")
def market() -> tuple[np.ndarray, Baskets]:
    x = (np.random.default_rng(5).random((300, 12)) < np.linspace(0.02, 0.5, 12)).astype(float)
    return x, Baskets.of_lists([np.flatnonzero(row).tolist() for row in x])


@pytest.mark.parametrize("by", [by for by in WEIGHTINGS if by != "llr"])
def test_weights_against_their_formulas(market, by):
    x, baskets = market
    wanted = dense_weights(x)[by]
    np.fill_diagonal(wanted, 0)
    co = co_purchase(baskets, 12)
    np.testing.assert_allclose(weigh(co, by).toarray(), wanted, rtol=1e-4, atol=1e-6)
    c = x.T @ x
    np.testing.assert_allclose(weigh(co, by, shrink=7).toarray(), wanted * c / (c + 7), rtol=1e-4, atol=1e-6)


def test_llr_is_the_g_test_of_the_two_by_two_table(market):
    from scipy.stats import chi2_contingency

    x, baskets = market
    found = weigh(co_purchase(baskets, 12), "llr").toarray()
    c, n, total = x.T @ x, x.sum(axis=0), len(x)
    for i, j in [(0, 11), (3, 7), (10, 11), (1, 2)]:
        table = [[c[i, j], n[i] - c[i, j]], [n[j] - c[i, j], total - n[i] - n[j] + c[i, j]]]
        g = chi2_contingency(table, correction=False, lambda_="log-likelihood").statistic
        wanted = g if c[i, j] * total > n[i] * n[j] else 0
        assert found[i, j] == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_a_pair_in_every_basket_has_the_limit_of_npmi():
    co = co_purchase(Baskets.of_lists([[0, 1]] * 3), 2)
    assert weigh(co, "npmi").toarray().tolist() == [[0, 1], [1, 0]]


def test_damping_goes_from_confidence_to_the_order_of_lift(market):
    co = co_purchase(market[1], 12)
    np.testing.assert_allclose(weigh(co, damping=0).data, weigh(co, "confidence").data, rtol=1e-6)
    np.testing.assert_allclose(weigh(co, damping=1).data * 300, weigh(co, "lift").data, rtol=1e-5)


@given(baskets=histories(), by=st.sampled_from(WEIGHTINGS), decayed=st.booleans())
@settings(max_examples=100, deadline=None)
def test_weights_are_finite_and_in_their_range_whatever_the_window(baskets, by, decayed):
    co = co_purchase(baskets, N, window_days=30, half_life_days=3)
    weight = weigh(co, by, decayed=decayed)
    assert np.isfinite(weight.data).all()
    if by in ("support", "confidence", "jaccard", "cosine", "npmi", "walk"):
        assert (weight.data <= 1 + 1e-6).all()
    if by not in ("pmi", "npmi"):
        assert (weight.data > 0).all()


def test_fading_forgets_an_old_fashion():
    """A went with B long ago and goes with C lately."""
    rows = [[0, 1]] * 6 + [[0, 2]] * 4
    time = np.array([0] * 6 + [300] * 4) * DAY
    made = Baskets.of_lists(rows)
    co = co_purchase(Baskets(made.offsets, made.items, made.user, time), 3, half_life_days=30)
    assert top_edges(weigh(co, "support"), 1).indices[0] == 1
    assert top_edges(weigh(co, "support", decayed=True), 1).indices[0] == 2


def test_direction_is_found():
    """Cameras are bought, then their cards a week later; never the other way round."""
    made = Baskets.of_lists([[0], [1]] * 20)
    user, time = np.repeat(np.arange(20, dtype=np.int32), 2), np.tile([0, 7 * DAY], 20)
    baskets = Baskets(made.offsets, made.items, user, time)
    co = co_purchase(baskets, 2, window_days=30)
    assert co.forward.toarray().tolist() == [[0, 20], [0, 0]]
    assert co_purchase(baskets, 2, window_days=3).counts.nnz == 0


def test_threads_and_the_order_of_work_change_nothing():
    rng = np.random.default_rng(0)
    baskets = Baskets.of_lists([rng.integers(0, 300, 6).tolist() for _ in range(2000)])
    one, four = co_purchase(baskets, 300, per_item=20), co_purchase(baskets, 300, per_item=20, threads=4)
    for name in ("counts", "decayed", "forward", "shared"):
        np.testing.assert_array_equal(getattr(one, name).indices, getattr(four, name).indices)
        np.testing.assert_array_equal(getattr(one, name).data, getattr(four, name).data)


def test_a_basket_of_ten_thousand_items_stays_within_bounds():
    baskets = Baskets.of_lists([range(10_000), [0, 1], [0, 1], [9_998, 9_999]])
    co = co_purchase(baskets, 10_000, per_item=20)
    assert co.counts.nnz <= 2 * 20 * 10_000
    assert (co.counts != co.counts.T).nnz == 0
    assert co.counts[[0], [1]] == 3
    assert co.counts[[9_998], [9_999]] == 2  # the most frequent partner is kept before lower numbers


def planted(hub: bool, seed: int = 1) -> Baskets:
    """Twenty groups of 15 items that are bought with each other, and perhaps a hub in every basket."""
    rng = np.random.default_rng(seed)
    lists = [(15 * (b % 20) + rng.choice(15, 4, replace=False)).tolist() + [300] * hub for b in range(6000)]
    return Baskets.of_lists(lists)


def test_a_product_in_every_basket_changes_nobody_s_list_by_more_than_a_tenth():
    without, with_hub = (top_edges(weigh(co_purchase(planted(hub), 301)), 10) for hub in (False, True))
    for item in range(300):
        before, after = (
            set(graph.indices[graph.indptr[item] : graph.indptr[item + 1]].tolist()) for graph in (without, with_hub)
        )
        assert len(before) == len(after) == 10
        assert len(before - after) <= 1


@pytest.mark.parametrize("lists", [[], [[]], [[2]], [[0], [1], [2]]])
def test_baskets_without_pairs(lists):
    co = co_purchase(Baskets.of_lists(lists), 3, window_days=7)
    assert co.counts.nnz == 0
    for by in WEIGHTINGS:
        assert weigh(co, by).shape == (3, 3)
    assert top_edges(weigh(co), 5).nnz == 0


@pytest.mark.parametrize(
    ("settings_", "says"),
    [
        ({"window_days": -1}, "window_days=-1"),
        ({"window_days": float("nan")}, "window_days"),
        ({"half_life_days": 0}, "half_life_days=0"),
        ({"min_support": 0}, "min_support=0"),
        ({"min_together": 1.5}, "min_together=1.5"),
        ({"per_item": 0}, "per_item=0"),
    ],
)
def test_settings_out_of_range(settings_, says):
    with pytest.raises(InputError, match=says):
        co_purchase(Baskets.of_lists([[0, 1]]), 2, **settings_)


def test_items_beyond_the_vocabulary_and_unknown_weightings():
    with pytest.raises(InputError, match=r"must be in 0 \.\. 1"):
        co_purchase(Baskets.of_lists([[0, 2]]), 2)
    co = co_purchase(Baskets.of_lists([[0, 1]]), 2)
    with pytest.raises(InputError, match="no weighting 'tfidf'; there are support"):
        weigh(co, "tfidf")
    with pytest.raises(InputError, match="shrink=-1"):
        weigh(co, shrink=-1)
