"""The one training loop: what a step may depend on, stopping, resuming, and losses that are no number."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from endcap.errors import InputError
from endcap.models.checkpoint import Checkpoint
from endcap.nn.training import Course, TrainingFailed, TrainingSettings, device_of, train

SETTINGS = {"epochs": 6, "learning_rate": 0.05, "device": "cpu", "patience": 3}
DATA = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
TRUE = np.array([1.0, -2.0, 0.5], np.float32)


class Interrupted(Exception):
    pass


class Line(nn.Module):
    """y = w x with dropout, so that randomness inside a step shows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.map, self.dropout = nn.Linear(3, 1), nn.Dropout(0.3)

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(DATA[rows])
        return ((self.map(self.dropout(x))[:, 0] - x @ torch.from_numpy(TRUE)) ** 2).mean()


def plan(epoch: int) -> list[np.ndarray]:
    return np.array_split(np.random.default_rng(epoch).permutation(len(DATA)), 4)


def run(module: Line | None = None, keeper: Checkpoint | None = None, **settings: object) -> tuple[Line, Course]:
    module = module or Line()
    how = {key: settings.pop(key) for key in ("validate", "loss", "where") if key in settings}
    course = train(
        module, **({"plan": plan, "loss": module.loss} | how), settings=TrainingSettings(**SETTINGS | settings), seed=3,
        keeper=keeper,
    )  # fmt: skip
    return module, course


def weights(module: nn.Module) -> np.ndarray:
    return np.concatenate([value.detach().numpy().ravel() for value in module.parameters()])


def test_it_learns_and_says_so():
    module = Line()
    module.dropout.p = 0.0
    _, course = run(module, epochs=60, decay="none", patience=60)
    assert len(course.epochs) == 60
    assert course.epochs[-1].loss < 0.2 * course.epochs[0].loss
    assert {epoch.instances for epoch in course.epochs} == {40}


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first, second = run()[0], run()[0]
    np.testing.assert_array_equal(weights(first), weights(second))
    other = Line()
    train(other, plan=plan, loss=other.loss, settings=TrainingSettings(**SETTINGS), seed=4)
    assert (weights(other) != weights(first)).any()


def test_gradients_do_not_add_up_across_steps():
    """With plain AdamW by hand, zeroed at every step, the loop ends in the same weights."""
    module, by_hand = Line(), Line()
    module.dropout.p = by_hand.dropout.p = 0.0
    run(module, epochs=1, warmup=0.0, decay="none", clip_norm=0.0, weight_decay=0.1)
    optimiser = torch.optim.AdamW(
        [{"params": [by_hand.map.weight], "weight_decay": 0.1}, {"params": [by_hand.map.bias], "weight_decay": 0.0}],
        lr=0.05,
    )
    for rows in plan(0):
        optimiser.zero_grad()
        by_hand.loss(rows).backward()
        optimiser.step()
    np.testing.assert_allclose(weights(module), weights(by_hand), rtol=1e-5)


def test_the_rate_warms_up_and_decays(monkeypatch):
    seen = []
    module = Line()
    real = torch.optim.AdamW.step

    def noting(self, *arguments):
        seen.append(self.param_groups[0]["lr"])
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    run(module, epochs=10, warmup=0.25)
    assert len(seen) == 40
    np.testing.assert_allclose(seen[:9], 0.05 * np.arange(1, 10) / 10, rtol=1e-6)
    assert max(seen) == pytest.approx(0.05, rel=0.01)
    assert seen[-1] < 0.001
    assert all(a >= b for a, b in itertools.pairwise(seen[10:]))


def test_clipping_bounds_the_step_of_a_huge_gradient():
    module = Line()
    before = weights(module)
    train(
        module, plan=lambda epoch: [np.arange(40)], loss=lambda rows: 1e6 * module.loss(rows),
        settings=TrainingSettings(**SETTINGS | {"epochs": 1, "clip_norm": 1e-12, "warmup": 0.0}), seed=0,
    )  # fmt: skip
    assert np.abs(weights(module) - before).max() < 0.01  # AdamW divides by the gradient's size plus 1e-8


def test_it_stops_when_validation_no_longer_gains_and_keeps_the_best():
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.2, 0.9])
    kept = []
    module = Line()

    def validate() -> float:
        kept.append(weights(module))
        return next(scores)

    _, course = run(module, validate=validate)
    assert [epoch.score for epoch in course.epochs] == [0.1, 0.5, 0.4, 0.3, 0.2], "three epochs without a gain"
    assert course.best == 1
    np.testing.assert_array_equal(weights(module), kept[1])


def test_without_validation_the_last_epoch_is_kept():
    assert run()[1].best == 5


@pytest.mark.parametrize("stop_at", [2, 5, 8, 23])
def test_an_interrupted_training_ends_in_the_same_bits(tmp_path, monkeypatch, stop_at):
    """Whether it stopped inside an epoch or between two; validation, its best weights and the optimiser included."""
    monkeypatch.setattr("endcap.models.checkpoint.SAVE_EVERY_S", 0.0)

    def validating(module: Line):  # type: ignore[no-untyped-def]
        return {"validate": lambda: -float(np.abs(weights(module)[:3] - TRUE).sum())}

    whole = Line()
    _, course = run(whole, **validating(whole))
    part, steps = Line(), iter(range(1000))
    loss = part.loss

    def interrupting(rows: np.ndarray) -> torch.Tensor:
        if next(steps) == stop_at:
            raise Interrupted
        return loss(rows)

    with pytest.raises(Interrupted):
        run(part, Checkpoint(tmp_path / "c", {}), loss=interrupting, **validating(part))
    resumed = Line()
    saved_step = Checkpoint(tmp_path / "c", {}).load()[0]
    assert saved_step == stop_at
    _, again = run(resumed, Checkpoint(tmp_path / "c", {}), **validating(resumed))
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    assert again.summary() == course.summary()


def _train_until_killed(folder: str) -> None:
    torch.set_num_threads(1)
    module, steps = Line(), iter(range(1000))
    loss = module.loss

    def dying(rows: np.ndarray) -> torch.Tensor:
        if next(steps) == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss(rows)

    run(module, Checkpoint(Path(folder), {}), loss=dying)


def test_a_killed_training_ends_in_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr("endcap.models.checkpoint.SAVE_EVERY_S", 0.0)
    process = multiprocessing.get_context("fork").Process(target=_train_until_killed, args=(str(tmp_path / "c"),))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    resumed, _ = run(keeper=Checkpoint(tmp_path / "c", {}))
    assert Checkpoint(tmp_path / "c", {}).load()[0] == 24
    np.testing.assert_array_equal(weights(resumed), weights(run()[0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_its_place_and_keeps_the_last_good_state(tmp_path, monkeypatch, bad):
    monkeypatch.setattr("endcap.models.checkpoint.SAVE_EVERY_S", 0.0)
    module, steps = Line(), iter(range(1000))
    loss = module.loss
    with pytest.raises(TrainingFailed) as failed:
        run(
            module,
            Checkpoint(tmp_path / "c", {}),
            loss=lambda rows: loss(rows) * (bad if next(steps) == 6 else 1.0),
            where=lambda rows: f"people number {rows[0]}",
        )
    assert failed.value.exit_code == 1
    assert "epoch 2, batch 3" in str(failed.value)
    assert f"people number {plan(1)[2][0]}" in str(failed.value)
    step, state = Checkpoint(tmp_path / "c", {}).load()
    assert step == 6
    assert all(np.isfinite(array).all() for name, array in state.items() if name.startswith("now."))
    assert np.isfinite(weights(module)).all(), "the step that failed did not reach the parameters"


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    Checkpoint(tmp_path / "c", {"config": {"dim": 8}, "data": "a"}).save(4, {"x": np.zeros(1)}, now=True)
    with pytest.raises(InputError, match=r"dim=8 was interrupted here, this one has 16: give the same .* or remove"):
        run(keeper=Checkpoint(tmp_path / "c", {"config": {"dim": 16}, "data": "a"}))


def test_a_checkpoint_of_other_data_is_not_used(tmp_path, caplog):
    Checkpoint(tmp_path / "c", {"config": {"dim": 8}, "data": "a"}).save(4, {"x": np.zeros(1)}, now=True)
    _, course = run(keeper=Checkpoint(tmp_path / "c", {"config": {"dim": 8}, "data": "b"}))
    assert len(course.epochs) == 6
    assert "starts anew" in caplog.text


def test_a_device_that_is_not_there_is_named():
    with pytest.raises(InputError, match="device=cuda:99"):
        device_of(TrainingSettings(device="cuda:99"))
    assert device_of(TrainingSettings(device="cpu")).type == "cpu"
