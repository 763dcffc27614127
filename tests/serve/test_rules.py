"""Rules act inside retrieval: lists have the promised length, and nothing forbidden stands in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from endcap.serve.answerer import answer
from endcap.serve.questions import Question
from endcap.serve.rules import Rules
from endcap.serve.serving import Serving
from endcap.serve.surfaces import DEFAULT_SURFACES, Surface

from .small import N_ITEMS, Ranking, with_models

CATEGORIES = ["shop", "shop/c0", "shop/c3", "c0", "nowhere"]
BRANDS = ["b0", "b1", "b4", "nobody"]
ITEMS = ["i0", "i7", "i19", "i33", "unknown"]


def some(names: Sequence[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(names), max_size=2).map(tuple)


PRICES = st.none() | st.sampled_from([0.0, 12.0, 30.0, 59.0])
RULES = st.builds(
    Rules,
    in_stock=st.sampled_from([None, True, False]),
    category=some(CATEGORIES),
    not_category=some(CATEGORIES[1:]),
    brand=some(BRANDS),
    not_brand=some(BRANDS),
    seller=some(["s0", "s1"]),
    not_items=some(ITEMS),
    items=st.just(()) | some(ITEMS),
    min_price=PRICES,
    max_price=PRICES,
    min_margin=st.none() | st.just(0.3),
    max_per_brand=st.none() | st.integers(1, 4),
    max_per_category=st.none() | st.integers(1, 4),
    pins=some(ITEMS),
)


def passes(row: dict[str, Any], rules: Rules, in_stock: bool) -> bool:
    """One item against one set of rules, the slow and obvious way."""
    category = row["category"]
    below = [category[: end if end >= 0 else None] for end in (4, -1)]  # "shop" and itself

    def bound(value: float | None, low: float | None, high: float | None) -> bool:
        if low is None and high is None:
            return True
        return value is not None and (low is None or value >= low) and (high is None or value <= high)

    return (
        (row["in_stock"] or not (in_stock if rules.in_stock is None else rules.in_stock))
        and (not rules.category or any(path in rules.category for path in below))
        and not any(path in rules.not_category for path in below)
        and (not rules.brand or row["brand"] in rules.brand)
        and row["brand"] not in rules.not_brand
        and (not rules.seller or row["seller"] in rules.seller)
        and (not rules.items or row["item"] in rules.items)
        and row["item"] not in rules.not_items
        and bound(row["price"], rules.min_price, rules.max_price)
        and bound(row["margin"], rules.min_margin, None)
    )


@pytest.fixture(scope="module")
def opened(release_folder: Path) -> Serving:
    return Serving.open(release_folder, DEFAULT_SURFACES)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    surface=RULES,
    filters=RULES,
    k=st.integers(1, 70),
    item=st.none() | st.integers(0, N_ITEMS - 1),
    known=st.integers(10, N_ITEMS),
    seed=st.integers(0, 3),
    merge=st.sampled_from(["in-order", "interleave"]),
)
def test_lists_have_the_promised_length_and_nothing_forbidden(
    opened: Serving, surface: Rules, filters: Rules, k: int, item: int | None, known: int, seed: int, merge: Any
) -> None:
    scores = np.random.default_rng(seed).normal(size=N_ITEMS).astype(np.float32)
    models = {"a": Ranking(scores[:known]), "b": Ranking(scores[::-1].copy(), "b", fallback_from=20)}
    serving = with_models(opened, Surface(rules=surface, merge=merge), **models)
    asked = None if item is None else f"i{item}"
    shown = [row.item for row in answer(Question(item=asked, surface="test", k=k, filters=filters), serving).items]

    rows = {row["item"]: row for row in serving.release.catalogue.to_pylist()}
    allowed = {
        name
        for name, row in rows.items()
        if passes(row, surface, True) and passes(row, filters, False) and name != asked
    }
    brand, category = Counter(rows[name]["brand"] for name in shown), Counter(rows[name]["category"] for name in shown)
    per_brand = min(surface.max_per_brand or 500, filters.max_per_brand or 500)
    per_category = min(surface.max_per_category or 500, filters.max_per_category or 500)
    assert len(set(shown)) == len(shown) <= k
    assert set(shown) <= allowed
    assert max(brand.values(), default=0) <= per_brand
    assert max(category.values(), default=0) <= per_category
    if len(shown) < k:
        open_to_all = [
            name
            for name in allowed - set(shown)
            if brand[rows[name]["brand"]] < per_brand and category[rows[name]["category"]] < per_category
        ]
        assert open_to_all == [], "the list could be longer"


def test_pins_come_first_in_their_order_where_the_rules_allow(serving: Serving) -> None:
    pinned = with_models(
        serving,
        Surface(rules=Rules(pins=("i40", "i19", "i3"))),  # i19 is out of stock
        m=Ranking(np.arange(N_ITEMS, dtype=np.float32)),
    )
    shown = answer(Question(surface="test", k=4), pinned).items
    assert [row.item for row in shown] == ["i40", "i3", "i58", "i57"]
    assert shown[0].reasons == ["pinned by the shop"]
    again = answer(Question(surface="test", k=1, item="i40", filters=Rules(not_brand=("b3",))), pinned).items
    assert [row.item for row in again] == ["i57"], "an item is not pinned beside itself, nor against a filter"


def test_a_first_search_under_no_rules_is_not_filtered(serving: Serving) -> None:
    """The fastest search is one without a mask; what must be left out is asked for on top."""
    model = Ranking(np.arange(N_ITEMS, dtype=np.float32))
    free = with_models(serving, Surface(rules=Rules(in_stock=False)), m=model)
    assert [row.item for row in answer(Question(item="i59", surface="test", k=2), free).items] == ["i58", "i57"]
    assert [(request.k, request.allowed) for request in model.asked] == [(3, None)]


def test_a_model_that_ignores_the_mask_cannot_break_a_rule(serving: Serving) -> None:
    class Headstrong(Ranking):
        def candidates(self, request: Any) -> Any:
            return super().candidates(type(request)(k=request.k))

    headstrong = with_models(serving, Surface(), m=Headstrong(np.arange(N_ITEMS, dtype=np.float32)))
    shown = [row.item for row in answer(Question(surface="test", k=50, filters=Rules(brand=("b4",))), headstrong).items]
    assert sorted(shown) == sorted(f"i{n}" for n in range(4, N_ITEMS, 5) if n % 20 != 19)
