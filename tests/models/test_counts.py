"""Counting baselines against slow, obvious counts."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap.errors import InputError
from endcap.models import counts
from endcap.models.counts import CoOccurrence, CoPurchase, ItemKNN
from endcap.shop import Shop
from endcap.shop.purchases import purchases_of

from .shops import simulated

CLICK, CART, PURCHASE = 0, 2, 3


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop.from_tables(*simulated())


def ranked(scores: dict[int, float], k: int) -> list[int]:
    """Higher score first, then the lower item."""
    return sorted(scores, key=lambda item: (-scores[item], item))[:k]


def sessions(shop: Shop) -> list[list[tuple[int, int]]]:
    past = shop.positives
    answer = defaultdict(list)
    for row in range(len(past)):
        answer[past.session[row]].append((int(past.item[row]), int(past.interaction[row])))
    return list(answer.values())


def slow_following(shop: Shop) -> dict[tuple[int, int, int], Counter[int]]:
    """(item, seen as, want) -> in how many sessions each other item follows."""
    following: dict[tuple[int, int, int], Counter[int]] = defaultdict(Counter)
    for session in sessions(shop):
        pairs = {(a, *b) for place, a in enumerate(session) for b in session[place + 1 :]}
        for a, item, want in pairs:
            if item != a[0]:
                following[*a, want][item] += 1
    return following


@pytest.mark.parametrize(("seen_as", "want"), [(CLICK, CART), (CART, CART), (CART, CLICK), (CLICK, PURCHASE)])
def test_co_occurrence_counts_the_sessions_in_which_one_follows_the_other(shop: Shop, seen_as: int, want: int) -> None:
    items, scores = CoOccurrence(k=15).fit(shop).related_batch(np.arange(shop.n_items), seen_as, want, 15)
    following = slow_following(shop)
    for item in range(shop.n_items):
        expected = following[item, seen_as, want]
        best = ranked(expected, 15)
        assert items[item][items[item] >= 0].tolist() == best
        assert scores[item][: len(best)].tolist() == [expected[other] for other in best]


@pytest.mark.parametrize("kind", [CoOccurrence, CoPurchase])
def test_counts_are_the_same_in_little_memory_and_with_threads(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, kind: type[CoOccurrence] | type[CoPurchase]
) -> None:
    whole = kind(k=20).fit(shop)
    monkeypatch.setattr("endcap.kernels.pairs.BLOCK_BYTES", 8 * 20 * 4 * 7)  # seven tokens at a time
    blocks = kind(k=20, memory="600kB").fit(shop, threads=2)
    for name, array in whole._arrays().items():
        np.testing.assert_array_equal(array, blocks._arrays()[name])


@pytest.mark.parametrize("kind", [CoOccurrence, CoPurchase])
def test_too_little_memory_says_how_much_is_needed(shop: Shop, kind: type[CoOccurrence] | type[CoPurchase]) -> None:
    with pytest.raises(InputError, match=r"counting pairs in 1,000 bytes of memory: at least [\d,]+ are needed"):
        kind(memory="1kB").fit(shop)
    with pytest.raises(InputError, match="memory"):
        kind(memory="much")


def test_untyped_co_occurrence_ignores_the_interactions(shop: Shop) -> None:
    model = CoOccurrence(typed=False).fit(shop)
    everything = np.arange(shop.n_items)
    np.testing.assert_array_equal(
        model.related_batch(everything, CLICK, CART, 9)[0], model.related_batch(everything, CART, CLICK, 9)[0]
    )


def test_co_occurrence_only_answers_with_items_seen_as_the_wanted_interaction(shop: Shop) -> None:
    items, _ = CoOccurrence().fit(shop).related_batch(np.arange(shop.n_items), CLICK, PURCHASE, 50)
    past = shop.positives
    assert set(np.unique(items)) - {-1} <= set(past.item[past.interaction == PURCHASE].tolist())


def test_item_knn_is_the_shrunk_cosine_of_the_users(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "PRODUCTS_AT_ONCE", 500)  # many blocks
    items, scores = ItemKNN(shrink=2.0).fit(shop).related_batch(np.arange(shop.n_items), CLICK, CART, 10)
    users: dict[int, set[int]] = {item: set() for item in range(shop.n_items)}
    for user, item in zip(shop.positives.user.tolist(), shop.positives.item.tolist(), strict=True):
        users[item].add(user)
    for item in range(shop.n_items):
        shared = {other: len(users[item] & users[other]) for other in users if other != item}
        cosine = {
            other: np.float32(n) / np.float32(np.sqrt(np.float32(len(users[item]) * len(users[other]))) + 2)
            for other, n in shared.items()
            if n
        }
        found = items[item] >= 0
        np.testing.assert_allclose(scores[item][found], sorted(cosine.values(), reverse=True)[:10], rtol=1e-5)
        np.testing.assert_allclose(scores[item][found], [cosine[other] for other in items[item][found]], rtol=1e-5)


def test_co_purchase_is_the_cosine_of_co_purchase_vectors(shop: Shop) -> None:
    items, scores = CoPurchase().fit(shop).related_batch(np.arange(shop.n_items), CLICK, CART, 500)
    bought: dict[int, set[int]] = defaultdict(set)
    kept = purchases_of(shop)
    for user, item in zip(kept.user.tolist(), kept.item.tolist(), strict=True):
        bought[user].add(item)
    vectors = np.zeros((shop.n_items, shop.n_items))
    for basket in bought.values():
        for item in basket:
            vectors[item, item] += 1
        for a, b in combinations(basket, 2):
            vectors[a, b] += 1
            vectors[b, a] += 1
    lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    cosine = vectors @ vectors.T / np.outer(lengths, lengths)
    np.fill_diagonal(cosine, 0)
    for item in range(shop.n_items):
        found = items[item] >= 0
        assert set(items[item][found].tolist()) == set(np.flatnonzero(cosine[item] > 0).tolist())
        np.testing.assert_allclose(scores[item][found], cosine[item][items[item][found]], rtol=1e-4)


def test_co_purchase_by_session_keeps_sessions_apart() -> None:
    events = pa.table(
        {
            "user": ["u", "u", "u", "v"],
            "item": ["a", "b", "c", "a"],
            "interaction": ["purchase"] * 4,
            "time": [1_600_000_000, 1_600_000_060, 1_600_090_000, 1_600_000_000],
        }
    )
    shop = Shop.from_tables(events)
    a, b, c = (shop.items.number(name) for name in "abc")
    by_session = CoPurchase(basket="session").fit(shop).related_batch(np.array([a, c]), 0, 0, 2)[0]
    assert by_session.tolist() == [[b, -1], [-1, -1]]
    by_user = CoPurchase(basket="user").fit(shop).related_batch(np.array([c]), 0, 0, 2)[0]
    assert set(by_user[0]) == {a, b}


def test_only_the_latest_items_of_a_user_count(shop: Shop) -> None:
    latest = counts.latest_items(shop.positives, shop.positives.user, shop.n_items, 3)
    users = np.unique(shop.positives.user)
    for row, user in enumerate(users):
        rows = shop.positives.user == user
        order = np.lexsort((shop.positives.item[rows], -shop.positives.time[rows]))
        expected = list(dict.fromkeys(shop.positives.item[rows][order].tolist()))[:3]
        assert set(latest[[row]].indices.tolist()) == set(expected)
    assert (latest.data == 1).all()


def test_long_vectors_keep_their_strongest_entries() -> None:
    by_basket = csr_array(np.array([[1, 1, 0], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32))
    vectors = counts.co_counts(by_basket, 2).toarray()
    # counts are [[3, 2, 1], [2, 3, 1], [1, 1, 2]]; row 2 keeps 2 and, of equal ones, the lower item's 1, which then
    # is only the third of column 0
    assert vectors.tolist() == [[3, 2, 0], [2, 3, 0], [0, 0, 2]]
