"""What every system must keep, whatever it does inside. A new one joins by being listed in `models.SYSTEMS`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from endcap import models
from endcap.answers import History, Request
from endcap.errors import DamagedArtefact, InputError
from endcap.models import Model
from endcap.shop import Shop

from .shops import checkerboard, quick, simulated

CLICK, CART, PURCHASE = 0, 2, 3
UNTYPED_PEOPLE = {"popularity", "recent-popularity"}  # they answer everyone alike


@cache
def tables() -> tuple[pa.Table, pa.Table]:
    return simulated()


@cache
def shop() -> Shop:
    return Shop.from_tables(*tables())


@cache
def board() -> Shop:
    return checkerboard()


@cache
def trained(system: str, on: str = "simulated") -> Model:
    """Trained once for all tests, which do not change it."""
    return quick(system).fit(board() if on == "board" else shop())


def every_list(model: Model, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lists of all items for click -> cart, cart -> cart and click -> click, one under the other."""
    n_items = len(model.origin.items)
    pairs = [(CLICK, CART), (CART, CART), (CLICK, CLICK)]
    found = [model.related_batch(np.arange(n_items, dtype=np.int32), *pair, k, allowed) for pair in pairs]
    return np.concatenate([items for items, _ in found]), np.concatenate([scores for _, scores in found])


def assert_same_lists(a: Model, b: Model) -> None:
    for ours, theirs in zip(every_list(a, 20), every_list(b, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.fixture(params=sorted(models.SYSTEMS))
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def test_lists_hold_others_once_best_first_pads_last(system: str) -> None:
    items, scores = every_list(trained(system), 50)
    own = np.tile(np.arange(shop().n_items), 3)[:, None]
    assert items.dtype == np.int32
    assert scores.dtype == np.float32
    assert (items != own).all()
    assert items.max() < shop().n_items
    found = items >= 0
    assert found.any()
    assert (found[:, :-1] >= found[:, 1:]).all()
    assert (np.isneginf(scores) == ~found).all()
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in items)


def test_the_neighbours_on_a_checkerboard_have_the_same_colour(system: str) -> None:
    if system in UNTYPED_PEOPLE:
        pytest.skip("answers everyone alike")
    settings = {"factors": 2} if "als" in system else {}
    model = quick(system, **settings).fit(board())
    items, _ = every_list(model, 3)
    colour = np.array([int(name[1:]) % 2 for name in board().items.ids.to_pylist()])
    right = colour[items] == np.tile(colour, 3)[:, None]
    assert (items >= 0).all()
    assert right.mean() > 0.9


def test_item_0_is_asked_and_answered_like_any_other(system: str) -> None:
    n = board().n_items
    items, _ = every_list(trained(system, "board"), n - 1)
    assert (items[::n, :5] >= 0).all()
    assert (items[1:n] == 0).any()


def test_allowed_gives_the_same_list_without_the_others(system: str) -> None:
    model = trained(system)
    allowed = np.random.default_rng(0).random(shop().n_items) < 0.3
    everything, all_scores = every_list(model, shop().n_items)
    items, scores = every_list(model, 10, allowed)
    for row in range(len(items)):
        kept = (everything[row] >= 0) & allowed[everything[row]]
        n = min(10, kept.sum())
        np.testing.assert_array_equal(items[row], np.append(everything[row][kept], [-1] * 10)[:10])
        np.testing.assert_allclose(scores[row][:n], all_scores[row][kept][:n], rtol=1e-6)


def test_nothing_allowed_gives_nothing(system: str) -> None:
    items, _ = every_list(trained(system), 3, np.zeros(shop().n_items, bool))
    assert (items == -1).all()


def test_the_answer_does_not_depend_on_the_batch(system: str) -> None:
    model = trained(system)
    everything = np.arange(shop().n_items, dtype=np.int32)
    together = model.related_batch(everything, CLICK, CART, 10)
    alone = [model.related_batch(block, CLICK, CART, 10) for block in np.array_split(everything, 17)]
    np.testing.assert_array_equal(together[0], np.concatenate([items for items, _ in alone]))
    np.testing.assert_array_equal(together[1], np.concatenate([scores for _, scores in alone]))


def test_ids_the_model_never_saw_give_no_error(system: str) -> None:
    model, n_items = trained(system), shop().n_items
    unseen = np.array([n_items, 10 * n_items, -1, 0], np.int32)
    items, _ = model.related_batch(unseen, CLICK, CART, 5)
    assert items.shape == (4, 5)
    assert items.max() < n_items
    np.testing.assert_array_equal(items[3], model.related_batch(unseen[3:], CLICK, CART, 5)[0][0])
    answer = model.candidates(Request(k=5, item=10 * n_items))
    assert len(answer) <= 5


def test_one_action_is_enough_for_a_person(system: str) -> None:
    model = trained(system, "board")
    history = History(np.array([3], np.int32), np.array([CLICK], np.int8), np.array([0], np.int64))
    answer = model.candidates(Request(k=4, history=history))
    assert len(answer) == len(answer.scores) == len(answer.source) == 4
    assert len(set(answer.items.tolist())) == 4
    assert len(answer.evidence.because) == 4
    for reason in model.explain(Request(k=4, history=history), int(answer.items[0])):
        assert reason.kind


def test_an_empty_question_gives_no_error(system: str) -> None:
    assert len(trained(system).candidates(Request(k=5))) <= 5


def test_the_order_of_rows_in_the_log_does_not_matter(system: str) -> None:
    events, items = tables()
    shuffled = events.take(np.random.default_rng(0).permutation(len(events)))
    assert_same_lists(trained(system), quick(system).fit(Shop.from_tables(shuffled, items)))


def test_same_seed_same_result(system: str) -> None:
    assert_same_lists(trained(system), quick(system).fit(shop()))


def test_nothing_after_the_end_of_a_view_is_reachable(system: str) -> None:
    events, items = tables()
    end = int(np.quantile(events["time"].cast(pa.int64()).to_numpy(), 0.7))
    before = events.filter(pa.array(events["time"].cast(pa.int64()).to_numpy() < end))
    known = items.filter(pa.array(items["launched"].cast(pa.int64()).fill_null(0).to_numpy() < end))
    view = quick(system).fit(shop().until(end))
    ignorant = quick(system).fit(Shop.from_tables(before, known))
    assert view.origin.items.fingerprint() == ignorant.origin.items.fingerprint()
    assert view.origin.trained_until == ignorant.origin.trained_until <= end
    assert_same_lists(view, ignorant)


def test_a_model_comes_back_as_it_was_saved(system: str, tmp_path: Path) -> None:
    model = trained(system)
    model.save(tmp_path / "model")
    opened = models.open(tmp_path / "model")
    assert opened.config == model.config
    assert opened.origin.trained_until == model.origin.trained_until
    assert opened.origin.items.fingerprint() == model.origin.items.fingerprint()
    assert_same_lists(model, opened)
    history = shop().history(3)
    ours, theirs = (m.candidates(Request(k=10, history=history)) for m in (model, opened))
    np.testing.assert_array_equal(ours.items, theirs.items)


def test_a_damaged_model_is_refused(system: str, tmp_path: Path) -> None:
    trained(system).save(tmp_path / "model")
    arrays = max((tmp_path / "model").glob("*.npy"), key=lambda path: path.stat().st_size)
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(DamagedArtefact, match=arrays.name):
        models.open(tmp_path / "model")


def test_a_model_of_another_shop_is_refused(system: str) -> None:
    with pytest.raises(InputError, match="another shop"):
        trained(system).origin.check_against(board().items, system)


def test_an_unknown_setting_is_refused(system: str) -> None:
    with pytest.raises(InputError, match="no setting 'dimm'"):
        models.create(system, {"dimm": 3})


@pytest.mark.parametrize("interactions", [["click"], ["purchase"], ["click", "cart"]])
def test_the_smallest_shops_can_be_learnt_from(system: str, interactions: list[str], tmp_path: Path) -> None:
    n = len(interactions)
    events = pa.table(
        {"user": ["u"] * n, "item": ["i"] * n, "interaction": interactions, "time": [1_600_000_000, 1_600_000_060][:n]}
    )
    model = quick(system).fit(Shop.from_tables(events))
    items, _ = model.related_batch(np.zeros(1, np.int32), CLICK, CART, 3)
    assert items.tolist() == [[-1, -1, -1]]
    model.save(tmp_path / "model")
    assert len(models.open(tmp_path / "model").candidates(Request(k=3, item=0))) <= 1


def test_a_shop_without_positive_events_is_refused(system: str) -> None:
    events = pa.table({"user": ["u"], "item": ["i"], "interaction": ["impression"], "time": [1_600_000_000]})
    with pytest.raises(InputError, match="no positive"):
        quick(system).fit(Shop.from_tables(events))


def test_an_untrained_model_says_so(system: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fit first"):
        models.create(system).save(tmp_path / "model")


def test_a_short_list_is_the_beginning_of_a_long_one(system: str) -> None:
    """Short lists are made of less: the first of a person's list may not depend on how many were asked for."""
    model, log = trained(system), shop()
    for user in range(0, log.n_users, max(1, log.n_users // 40)):
        history = log.history(user)
        long = model.candidates(Request(k=60, user=user, history=history)).items
        for k in (1, 10):
            short = model.candidates(Request(k=k, user=user, history=history)).items
            np.testing.assert_array_equal(short, long[:k])
