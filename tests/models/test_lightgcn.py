"""LightGCN against dense arithmetic, and that it learns who goes with whom."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array

from endcap.answers import Request
from endcap.models.lightgcn import LightGCN, _as_answers, _Lesson, _Propagation
from endcap.shop import Shop

from .shops import quick

HAS = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 0, 0]], np.float32)  # nobody has the last


def dense_steps(askers: np.ndarray, items: np.ndarray, layers: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Eq. 3 as a product with the normalised matrix of all nodes."""
    n, m = HAS.shape
    whole = np.zeros((n + m, n + m))
    whole[:n, n:], whole[n:, :n] = HAS, HAS.T
    degree = np.maximum(whole.sum(axis=1), 1)
    normalised = whole / np.sqrt(np.outer(degree, degree))
    steps = [np.concatenate([askers, items])]
    for _ in range(layers):
        steps.append(normalised @ steps[-1])
    return [step[:n] for step in steps], [step[n:] for step in steps]


def test_steps_are_powers_of_the_normalised_matrix() -> None:
    graph = _Propagation(csr_array(HAS), dim=5, layers=3)
    begun = graph.askers.detach().numpy(), graph.items.detach().numpy()
    for ours, theirs in zip(graph.steps(), dense_steps(*begun, 3), strict=True):
        np.testing.assert_allclose(torch.stack(ours).detach().numpy(), np.stack(theirs), rtol=1e-4, atol=1e-6)


def test_the_loss_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    graph, config = _Propagation(csr_array(HAS), dim=5, layers=2), LightGCN(regularization=0.5).config
    lesson = _Lesson(graph, csr_array(HAS), config, seed=0)
    pairs = np.array([0, 1])  # the first asker has items 0 and 1; the draw is 2 or 3
    askers, items = dense_steps(graph.askers.detach().numpy(), graph.items.detach().numpy(), 2)
    u, v = np.mean(askers, axis=0), np.mean(items, axis=0)

    def loss_of(drawn: tuple[int, int]) -> float:
        gaps = [u[0] @ (v[have] - v[not_]) for have, not_ in zip((0, 1), drawn, strict=True)]
        lengths = [
            (vector**2).sum()
            for have, not_ in zip((0, 1), drawn, strict=True)
            for vector in (askers[0][0], items[0][have], items[0][not_])
        ]
        return np.mean(np.log1p(np.exp(-np.array(gaps)))) + 0.5 * sum(lengths) / 2 / 2

    possible = [loss_of((a, b)) for a in (2, 3) for b in (2, 3)]
    assert np.isclose(possible, lesson.loss(pairs).item(), rtol=1e-4).any()


def shop_of(orders: list[str]) -> Shop:
    rows = [(f"u{number:03}", letter) for number, order in enumerate(orders) for letter in order]
    users, items = zip(*rows, strict=True)
    return Shop.from_tables(
        pa.table({
            "user": users,
            "item": items,
            "interaction": ["purchase"] * len(rows),
            "time": [1_600_000_000 + 86_400 * int(user[1:]) for user in users],
        })
    )  # fmt: skip


@pytest.fixture(scope="module")
def shop() -> Shop:
    rng = np.random.default_rng(0)
    return shop_of(["abcdefgh"] + ["".join(rng.permutation(list("abcd" if n % 2 else "efgh"))[:2]) for n in range(80)])


def test_a_new_asker_is_an_asker_whose_own_vector_is_0() -> None:
    rng = np.random.default_rng(0)
    steps, n_of = rng.normal(size=(4, 6, 5)).astype(np.float32), np.array([1, 2, 3, 4, 5, 6])
    found_by, speaks = _as_answers(steps, n_of)
    basket = np.array([1, 4, 5])
    asker = [np.zeros(5)] + [(step[basket] / np.sqrt(3 * n_of[basket])[:, None]).sum(axis=0) for step in steps[:-1]]
    np.testing.assert_allclose(speaks[basket].sum(axis=0) / np.sqrt(3), np.mean(asker, axis=0), rtol=1e-5)
    np.testing.assert_allclose(found_by, steps.mean(axis=0), rtol=1e-5)


def test_a_basket_speaks_with_the_sum_of_its_known_products(shop: Shop) -> None:
    model = quick("lightgcn", layers=2).fit(shop)
    request = Request(k=1, basket=np.array([0, 1, 99], np.int32))
    expected = model._vectors @ model._speaks[[0, 1]].sum(axis=0) / np.sqrt(2)
    np.testing.assert_allclose(model.score(request, np.arange(8, dtype=np.int32)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("of", ["baskets", "users"])
def test_products_of_one_kind_of_order_go_together(shop: Shop, of: str) -> None:
    model = quick("lightgcn", of=of, epochs=30).fit(shop)
    for basket, partners in (("ab", "cd"), ("eg", "fh")):
        answer = model.candidates(Request(k=2, basket=shop.items.encode(list(basket))))
        assert sorted(shop.items.decode(answer.items)) == list(partners)
        assert (
            model.explain(Request(k=2, basket=shop.items.encode(list(basket))), int(answer.items[0]))[0].kind
            == "interest"
        )


def test_where_no_basket_is_small_enough_nothing_is_answered(shop: Shop) -> None:
    model = quick("lightgcn", largest=1).fit(shop_of(["abc", "abd"]))
    basket = np.zeros(1, np.int32)
    assert len(model.candidates(Request(k=3, basket=basket))) == 0
    assert np.isneginf(model.score(Request(k=3, basket=basket), np.arange(4, dtype=np.int32))).all()
    assert (model.related_batch(basket, 0, 0, 2)[0] == -1).all()
