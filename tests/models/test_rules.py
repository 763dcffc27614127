"""Association rules against a look at every subset of small baskets, and what the system makes of them."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import Request
from endcap.errors import InputError
from endcap.graph import Baskets
from endcap.models.rules import AssociationRules, Rules, rules
from endcap.shop import Shop

Found = dict[tuple[tuple[int, ...], int], tuple[int, float, float]]


@pytest.fixture(scope="module")
def lists() -> list[list[int]]:
    """Baskets of twelve products, some of them bought more, and in pairs."""
    rng = np.random.default_rng(0)
    liked = rng.dirichlet(np.full(12, 0.5))
    drawn = [rng.choice(12, size=rng.integers(1, 7), p=liked).tolist() for _ in range(300)]
    return [sorted({*basket, *((item ^ 1) for item in basket[:1])}) for basket in drawn]


def slow(lists: list[list[int]], least: int, confidence: float, longest: int) -> Found:
    count = Counter(part for basket in lists for size in range(1, 10) for part in combinations(basket, size))
    found = {}
    for part, n in count.items():
        for then in part if 2 <= len(part) <= longest and n >= least else ():
            given = tuple(item for item in part if item != then)
            if n / count[given] >= confidence:
                found[given, then] = n, n / count[given], n / count[(then,)]
    return found


def as_dict(found: Rules) -> Found:
    sides = [tuple(found.sets[a:b].tolist()) for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    return {
        (sides[given], then): (count, confidence, count / count_then)
        for given, then, count, confidence, count_then in zip(
            found.given.tolist(), found.then.tolist(), found.count.tolist(), found.confidence.tolist(),
            found.count_then.tolist(), strict=True,
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("support", "confidence", "longest"), [(0.02, 0.0, 20), (0.02, 0.5, 4), (3, 0.25, 20), (9, 0, 2)]
)
def test_all_rules_are_found_with_their_counts(
    lists: list[list[int]], support: float, confidence: float, longest: int
) -> None:
    found = rules(Baskets.of_lists(lists), min_support=support, min_confidence=confidence, longest=longest)
    least = support if support >= 1 else support * len(lists)
    expected = slow(lists, least, confidence, longest)
    assert len(found) == len(expected) > 10
    ours = as_dict(found)
    assert ours.keys() == expected.keys()
    np.testing.assert_allclose([ours[rule] for rule in expected], list(expected.values()))
    assert found.size.tolist() == [len(side) + 1 for side, _ in as_dict(found)]
    np.testing.assert_allclose(found.support * len(lists), found.count)
    np.testing.assert_allclose(found.lift, found.count * len(lists) / found.count_given / found.count_then)


def test_a_threshold_that_is_met_exactly_is_met() -> None:
    baskets = Baskets.of_lists([[0, 1]] * 7 + [[0]] * 3 + [[2]] * 90)
    assert len(rules(baskets, min_support=0.07, min_confidence=0.7)) == 2
    assert len(rules(baskets, min_support=0.0701)) == 0


@pytest.mark.parametrize("lists", [[], [[]], [[3]], [[3], [4]], [[5, 5]]], ids=str)
def test_baskets_without_pairs_have_no_rules(lists: list[list[int]]) -> None:
    found = rules(Baskets.of_lists(lists), min_support=1)
    assert len(found) == len(found.size) == len(found.lift) == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"min_support": 0}, "min_support=0"),
        ({"min_support": float("nan")}, "min_support=nan"),
        ({"min_confidence": 1.5}, "min_confidence=1.5"),
        ({"longest": 1}, "longest=1"),
        ({"min_support": 1, "most": 100}, "more than 100 sets of 2 products or fewer lie in 1 baskets: ask for more"),
    ],
)
def test_what_cannot_be_mined_is_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        rules(Baskets.of_lists([list(range(30))]), **settings)


# -- the system --------------------------------------------------------------------------------------------------------


def shop_of(lists: list[str]) -> Shop:
    """A shop of orders, one a day and person, products being letters; a is item 0, b item 1 ..."""
    rows = [("first", letter) for letter in "abcdefgh"] + [
        (f"o{n}", one) for n, order in enumerate(lists) for one in order
    ]
    order, item = zip(*rows, strict=True)
    day = np.unique(order, return_inverse=True)[1] * 0 + np.array(
        [0 if o == "first" else int(o[1:]) + 1 for o in order]
    )
    events = {
        "user": order,
        "item": item,
        "interaction": ["purchase"] * len(rows),
        "time": 1_600_000_000 + 86_400 * day,
    }
    return Shop.from_tables(pa.table(events | {"order": order}))


def answer(model: AssociationRules, basket: str) -> dict[str, float]:
    items = model.origin.items
    found = model.candidates(Request(k=9, basket=items.encode(list(basket))))
    return dict(zip(items.decode(found.items), found.scores.tolist(), strict=True))


BOUGHT = ["ab"] * 4 + ["ac"] * 2 + ["bc"] + ["abd"] * 3 + ["d"] * 2


def test_rules_whose_left_side_lies_in_the_basket_add_up() -> None:
    model = AssociationRules().fit(shop_of(BOUGHT))
    # with the order of all eight: a 10, b 9, c 4, d 6; a+b 8, a+c 3, b+c 2, a+d 4, b+d 4
    assert answer(model, "a") == pytest.approx({"b": 8 / 10, "d": 4 / 10, "c": 3 / 10})
    assert answer(model, "ab") == pytest.approx({"d": 4 / 10 + 4 / 9, "c": 3 / 10 + 2 / 9})
    largest = AssociationRules(together="max").fit(shop_of(BOUGHT))
    assert answer(largest, "ab") == pytest.approx({"d": 4 / 9, "c": 3 / 10})


def test_longer_left_sides_speak_only_when_the_basket_holds_all_of_them() -> None:
    model = AssociationRules(longest=3, together="max", measure="lift").fit(shop_of(BOUGHT))
    alone, both = answer(model, "a"), answer(model, "ab")
    assert alone["d"] == pytest.approx((4 / 10) * 13 / 6)
    assert both["d"] == pytest.approx((4 / 8) * 13 / 6)
    reason = model.explain(Request(k=5, basket=np.array([0, 1], np.int32)), 3)[0]
    assert (reason.kind, reason.item) == ("because", 0)


def test_min_support_and_confidence_thin_the_rules_out() -> None:
    assert set(answer(AssociationRules(min_support=4).fit(shop_of(BOUGHT)), "a")) == {"b", "d"}
    assert set(answer(AssociationRules(min_confidence=0.5).fit(shop_of(BOUGHT)), "a")) == {"b"}


def test_a_model_says_nothing_of_what_no_rule_names() -> None:
    model = AssociationRules().fit(shop_of(BOUGHT))
    scores = model.score(Request(k=1, basket=np.array([0], np.int32)), np.array([1, 7, -1, 99], np.int32))
    assert scores.tolist() == pytest.approx([0.8, -np.inf, -np.inf, -np.inf])


def test_more_rules_than_can_be_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("endcap.models.rules.MOST_ITEMSETS", 5)
    with pytest.raises(InputError, match="ask for more support"):
        models.create("association-rules", {"min_support": 1}).fit(shop_of(BOUGHT))
