"""Products that came lately, in evidence: what goes with their likes goes with them, the better the more is known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array

from endcap import Shop, models
from endcap.answers import Request
from endcap.graph import Baskets, baskets_of
from endcap.models.cross_sell import CrossSell, decision
from endcap.models.cross_sell.evidence import PairEvidence, Trade, Weigher
from endcap.models.cross_sell.hiding import DAY
from endcap.models.cross_sell.lately import Foreseen, Lately, Said, blended
from endcap.models.cross_sell.settings import CrossSellConfig

TOPICS, KINDS, DAYS, BASKETS = 6, 5, 100, 1_500
WOODS = ["alder", "birch", "cedar", "douglas", "elm", "fir"]
NEW = "cup 2 0"  # of the third topic
SETTINGS = {
    "dim": 8, "epochs": 1, "batch_size": 512, "negatives": 0, "text_buckets": 1024, "score_by": "evidence",
    "complement": "none", "evidence_baskets": 150,
}  # fmt: skip


@cache
def shop(shown: int) -> Shop:
    """Cups and saucers go together by topics; of one cup, which came at the end, the last `shown` baskets stand."""
    rng = np.random.default_rng(4)
    rows = list[tuple[str, str, int]]()
    for basket in range(BASKETS):
        topic, moment = rng.integers(TOPICS), basket * DAYS * 24 * 3600 // BASKETS
        for part in ("cup", "saucer"):
            rows.append((f"u{basket}", f"{part} {topic} {rng.integers(KINDS)}", moment))
        if rng.random() < 0.3:  # and something that goes with nothing
            rows.append((f"u{basket}", f"cup {rng.integers(TOPICS)} {rng.integers(1, KINDS)}", moment))
    places = [place for place, row in enumerate(rows) if row[1] == NEW]
    hidden = set(places[: len(places) - shown])
    rows = [row for place, row in enumerate(rows) if place not in hidden]
    since = rows[[row[1] for row in rows].index(NEW)][2] if shown else DAYS * 24 * 3600
    names = [f"{part} {topic} {kind}" for part in ("cup", "saucer") for topic in range(TOPICS) for kind in range(KINDS)]
    stamp = pa.timestamp("s", tz="UTC")
    items = pa.table({
        "item": names,
        "title": [f"{WOODS[int(name.split()[1])]} {name.split()[0]} number {name.split()[2]}" for name in names],
        "category": [f"table/{name.split()[0]} {name.split()[1]}" for name in names],
        "launched": pa.array([1_700_000_000 + (since if name == NEW else 0) for name in names]).cast(stamp),
    })  # fmt: skip
    user, item, time = zip(*rows, strict=True)
    events = {"user": user, "item": item, "interaction": ["purchase"] * len(rows)}
    events["time"] = pa.array(1_700_000_000 + np.array(time)).cast(stamp)
    return Shop.from_tables(pa.table(events), items)


def number(name: str, of: Shop) -> int:
    return of.catalogue["item"].to_pylist().index(name)


def learnt(of: Shop) -> Baskets:
    found = baskets_of(of)
    return found.where(found.sizes >= 2)


def counts(shown: int) -> Weigher:
    given = shop(shown)
    return Weigher(PairEvidence.of(learnt(given), np.full(given.n_items, -1)), "walk", Trade())


@cache
def placed(shown: int) -> Lately:
    """With a walk in place of a learnt head: what it adds are the links alone, and the newcomers' head."""
    given = shop(shown)
    found = Lately.fitted(counts(shown), learnt(given), given, CrossSellConfig(evidence_baskets=150), 0, 1)
    assert isinstance(found, Lately)
    return found


def rank_among_cups(shown: int, *, linked: bool = False, counted: bool = False) -> float:
    """The mean place of the new cup among all cups, asked for by each saucer of its topic; 0 is the first."""
    given = shop(shown)
    scorer = counts(shown) if counted else placed(shown).weigher if linked else placed(shown)
    cups = np.array(
        [number(f"cup {topic} {kind}", given) for topic in range(TOPICS) for kind in range(KINDS)], np.int32
    )
    places = []
    for kind in range(KINDS):
        asked = np.array([number(f"saucer 2 {kind}", given)], np.int32)
        scores = scorer.of(asked).score(cups)
        places.append((scores > scores[cups == number(NEW, given)]).sum())
    return float(np.mean(places))


@pytest.mark.parametrize("linked", [True, False])
def test_a_product_that_nobody_bought_goes_with_what_its_likes_go_with(linked: bool) -> None:
    assert placed(0).lately[number(NEW, shop(0))]
    assert placed(0).foreseen.bought[number(NEW, shop(0))] == 0
    assert rank_among_cups(0, linked=linked) < KINDS  # among the cups of its topic, before all 25 others


def test_with_a_few_baskets_it_stands_among_its_likes_where_counts_alone_put_it_behind_all_others() -> None:
    for shown in (3, 10):
        assert rank_among_cups(shown) < KINDS
        assert rank_among_cups(shown, linked=True) < KINDS
    assert rank_among_cups(3, counted=True) >= KINDS - 1


def test_what_it_will_be_bought_is_foreseen_by_its_rate_and_its_likes() -> None:
    baskets = Baskets.of_lists([[0, 1]] * 100 + [[2, 3]] * 10)
    time = np.append(np.arange(100), np.arange(90, 100)) * DAY
    baskets = Baskets(baskets.offsets, baskets.items, baskets.user, time, baskets.unit)
    known_from = np.array([0, 0, 90 * DAY, 0, 100 * DAY, 0])
    like = csr_array((np.ones(3), ([2, 4, 5], [0, 0, 0])), shape=(6, 6))
    found = Foreseen.of(baskets, known_from, like)
    np.testing.assert_allclose(found.ever[:2], 100, rtol=0.05)
    assert 40 < found.ever[2] < 70  # in half of the baskets since it came, which were more than before
    assert found.ever[3] < 20  # ten in all the time
    assert found.ever[4] > 20  # it came just now, and its like is bought a hundred times
    assert found.ever[5] < 2  # nobody wanted it all that time
    np.testing.assert_array_equal(found.lately, [False, False, True, False, True, False])
    assert found.hope[4] > 0.5  # nobody could try it yet
    assert found.hope[4] > 3 * found.hope[[2, 5]].max()  # one was tried, the other could have been for long
    assert (found.hope >= 0).all()


def test_what_nobody_could_try_yet_is_raised_by_its_hope_and_what_was_tried_hardly_is() -> None:
    found, new = placed(0), np.array([number(NEW, shop(0))], np.int32)
    asked = np.array([number("saucer 2 1", shop(0))], np.int32)
    without = Lately(found.weigher, found.said, found.foreseen._replace(hope=0 * found.foreseen.hope), found.head)
    raised = found.of(asked).score(new) - without.of(asked).score(new)
    np.testing.assert_allclose(raised, found.foreseen.hope[new], rtol=1e-4)
    assert raised > 0.1
    tried = placed(10)
    assert tried.foreseen.hope[new] < raised / 2


def test_links_are_blended_by_how_much_is_known_and_hold_in_both_directions() -> None:
    evidence = PairEvidence.of(Baskets.of_lists([[0, 1]] * 40 + [[2, 3]] * 2), np.zeros(5, np.int64))
    like = csr_array((np.ones(1), ([2], [0])), shape=(5, 5))
    ever = np.array([40.0, 40, 20, 2, 0])
    foreseen = Foreseen(np.array([40.0, 40, 2, 2, 0]), np.ones(5), ever, np.arange(5) == 2, np.zeros(5, np.float32))
    links = blended(evidence, foreseen, like, 6.0).links
    shared = csr_array((links.shared, links.partner, links.indptr), shape=(5, 5)).toarray()
    assert shared[2, 3] == pytest.approx(20 * 2 / 8)  # all of its own, two of eight
    assert shared[2, 1] == pytest.approx(20 * 6 / 8)
    np.testing.assert_allclose(shared, shared.T, rtol=1e-6)
    assert shared[0, 1] == 40
    assert links.n_of[2] == 20
    nobody = foreseen._replace(lately=np.zeros(5, bool))
    assert blended(evidence, nobody, like, 6.0) is evidence


def test_what_is_no_different_stays_as_it_was() -> None:
    """Old products keep the scores that the evidence gives them beside new ones; without catalogue links it is all."""
    found = placed(3)
    asked = np.array([number("saucer 4 1", shop(3))], np.int32)
    old = np.flatnonzero(~found.lately).astype(np.int32)
    np.testing.assert_array_equal(found.of(asked).score(old), found.weigher.of(asked).score(old))
    plain = counts(3)
    assert Lately.fitted(plain, learnt(shop(3)), shop(3), CrossSellConfig(catalogue_links=0), 0, 1) is plain


def test_a_list_holds_what_came_lately_in_the_order_of_the_scores_and_keeps_to_what_is_allowed() -> None:
    found, given = placed(3), shop(3)
    asked = np.array([number("saucer 2 1", given)], np.int32)
    of = found.of(asked)
    near = of.nearest(given.n_items)
    assert number(NEW, given) in near[: 2 * KINDS]
    assert (np.diff(of.score(near)) <= 0).all()
    assert asked[0] not in near
    allowed = np.ones(given.n_items, bool)
    allowed[number(NEW, given)] = False
    assert number(NEW, given) not in of.nearest(given.n_items, allowed)
    assert (of.similarity(near) <= 1).all()


def test_what_a_catalogue_says_of_pairs() -> None:
    table = pa.table({
        "title": ["red cup", "red cup", None, "blue saucer"],
        "category": ["a", "a", "a", "b"],
        "brand": ["x", "y", None, "x"],
        "price": [1.0, 9.0, None, 2.0],
    })  # fmt: skip
    said = Said.of(table).columns(np.array([0], np.int32), np.arange(4))
    np.testing.assert_array_equal(said[:, 0], [1, 0, 0, 1])
    assert said[1, 1] > 0
    assert said[1, 2] == pytest.approx(1, abs=1e-5)
    assert said[2, 2] == 0


def test_a_model_offers_it_asks_with_it_and_comes_back(tmp_path: Path) -> None:
    given = shop(0)
    model = CrossSell(**SETTINGS).fit(given)
    new = number(NEW, given)
    assert model._bought[new] == 0
    found = model.candidates(Request(k=10, item=new)).items
    ours = [number(f"saucer 2 {kind}", given) for kind in range(KINDS)]
    assert np.isin(found[:KINDS], ours).sum() >= KINDS - 1
    assert new in model.candidates(Request(k=given.n_items, item=ours[0])).items
    model.save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    everything = np.arange(given.n_items, dtype=np.int32)
    request = Request(k=5, item=new)
    np.testing.assert_array_equal(opened.score(request, everything), model.score(request, everything))
    traded = model.traded(Trade(1.0, 1.0))
    assert isinstance(traded._weigher, Lately)
    assert np.abs(traded.score(request, everything) - model.score(request, everything)).max() > 1e-3
    without = CrossSell(**SETTINGS, unbought=False).fit(given)
    assert not without._answerable[new]


@pytest.mark.parametrize(("figure", "served"), [(0.0, False), (1.0, True)])
def test_auto_places_newcomers_unless_that_costs_too_much(
    figure: float, served: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decision, "figure_of", lambda *_: figure)  # of the best one with newcomers placed
    with caplog.at_level("INFO", logger="endcap.models"):
        model = CrossSell(**SETTINGS | {"score_by": "auto"}).fit(shop(0))
    assert model._figures[f"{model._chosen}, newcomers placed"] == figure
    assert isinstance(model._weigher, Lately) == served
    assert ("not served, it costs too much" in caplog.text) != served
