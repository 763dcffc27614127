"""The one training loop: AdamW, warm-up and decay, clipping, early stop, checkpoints that resume exactly.

What happens in a step depends on the parameters, the optimiser's state and the step's number alone: batches are planned
from (seed, epoch) and torch's generator is seeded from (seed, step). So a training that was interrupted anywhere goes
on as if it had not been, and on one thread ends in the same bits.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal, Protocol, TypeVar

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn

from endcap.errors import EndcapError, InputError
from endcap.progress import progress

log = logging.getLogger("endcap.nn")
Batch = TypeVar("Batch", bound=Sized)


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a torch model is trained; the settings of such models extend these."""

    epochs: Annotated[int, Meta(ge=1, description="passes over the training part, at most")] = 50
    batch_size: Annotated[int, Meta(ge=1, description="instances of a step")] = 256
    learning_rate: Annotated[float, Meta(gt=0, description="after the warm-up")] = 1e-3
    weight_decay: Annotated[float, Meta(ge=0, description="AdamW's, of matrices; biases and scales have none")] = 1e-6
    warmup: Annotated[float, Meta(ge=0, le=1, description="share of all steps over which the rate rises from 0")] = 0.01
    decay: Annotated[Literal["none", "cosine"], Meta(description="of the rate, to a hundredth at the last epoch")] = (
        "cosine"
    )
    clip_norm: Annotated[float, Meta(ge=0, description="largest norm of all gradients together; 0: any")] = 5.0
    patience: Annotated[int, Meta(ge=1, description="epochs without a better validation after which it stops")] = 5
    device: Annotated[str, Meta(description="auto: a GPU where there is one; else cpu, cuda, cuda:1, mps ...")] = "auto"


class Keeper(Protocol):
    """Where the state of an interrupted training is kept (see endcap.models.checkpoint)."""

    def load(self) -> tuple[int, dict[str, NDArray[Any]]]: ...

    def due(self) -> bool: ...

    def save(self, step: int, arrays: Mapping[str, NDArray[Any]], *, now: bool = False) -> None: ...


class NotKept:
    """No checkpoints."""

    def load(self) -> tuple[int, dict[str, NDArray[Any]]]:
        return 0, {}

    def due(self) -> bool:
        return False

    def save(self, step: int, arrays: Mapping[str, NDArray[Any]], *, now: bool = False) -> None:
        pass


class TrainingFailed(EndcapError):
    """The loss is no number any more; the last good checkpoint is kept."""


@dataclass
class Epoch:
    """What one pass gave: the mean loss, the validation score, seconds, instances, and what the model watches."""

    loss: float
    score: float | None
    seconds: float
    instances: int
    watched: dict[str, float] = field(default_factory=dict)


@dataclass
class Course:
    """How a training went: its epochs, and the one (from 0) whose parameters were kept."""

    epochs: list[Epoch] = field(default_factory=list)
    best: int = -1

    @property
    def best_score(self) -> float | None:
        return self.epochs[self.best].score if self.epochs else None

    def summary(self) -> dict[str, Any]:
        """For the manifest: everything but the seconds, which would make equal trainings differ."""
        rows = [{k: v for k, v in asdict(epoch).items() if k not in ("seconds", "watched")} for epoch in self.epochs]
        for row, epoch in zip(rows, self.epochs, strict=True):
            row |= epoch.watched
        return {"best_epoch": self.best + 1, "epochs": rows}


def train(
    module: nn.Module,
    *,
    plan: Callable[[int], Sequence[Batch]],
    loss: Callable[[Batch], Tensor],
    settings: TrainingSettings,
    seed: int,
    validate: Callable[[], float] | None = None,
    watch: Callable[[], dict[str, float]] | None = None,
    where: Callable[[Batch], str] = lambda batch: "",
    keeper: Keeper | None = None,
    name: str = "training",
    threads: int = 1,
    show: bool = False,
) -> Course:
    """Train a module in place; it ends with the parameters of its best epoch.

    Args:
        plan: epoch -> its batches, each a light description such as row numbers; equal for equal epochs.
        loss: batch -> scalar, the mean over its instances; `len(batch)` is their number.
        validate: called after each epoch, higher is better; without it the last epoch is kept.
        watch: figures to log after each epoch; where: says which data a batch holds, for the error message.

    Raises:
        TrainingFailed: when a loss is NaN or infinite, naming the batch.
        InputError: if the checkpoint is of another configuration.
    """
    keeper = keeper or NotKept()
    torch.set_num_threads(max(1, threads))
    optimiser = _adamw(module, settings)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    run = _Run(module, optimiser, settings)
    run.resume(keeper)
    steps_an_epoch = max(1, len(plan(0)))
    with progress(f"training {name}", settings.epochs * steps_an_epoch, shown=show) as bar:
        bar.advance(run.step)
        while run.epoch < settings.epochs and not run.is_over:
            batches = plan(run.epoch)
            began, resumed_at = time.perf_counter(), run.instances
            module.train()
            for place in range(run.place, len(batches)):
                batch = batches[place]
                torch.manual_seed(_seed_of(seed, run.step))
                for group in optimiser.param_groups:
                    group["lr"] = _rate(settings, run.step, steps_an_epoch)
                optimiser.zero_grad(set_to_none=True)
                value = loss(batch)
                value.backward()
                norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm or math.inf)
                run.check(amount := value.item(), norm.item(), batch, place, where)
                optimiser.step()
                run.note(amount, len(batch))
                speed = (run.instances - resumed_at) / max(1e-9, time.perf_counter() - began)
                bar.advance(1, f"epoch {run.epoch + 1} loss {run.mean_loss:.4f} {speed:,.0f}/s{run.best_text}")
                if keeper.due() and place + 1 < len(batches):
                    keeper.save(run.step, run.state(), now=True)
            module.eval()
            with torch.no_grad():
                score = None if validate is None else float(validate())
                watched = {} if watch is None else watch()
            run.end_epoch(score, watched, time.perf_counter() - began)
            if show:
                log.info("%s epoch %s: %s", name, run.epoch, run.course.epochs[-1])
            if keeper.due() or run.is_over or run.epoch == settings.epochs:
                keeper.save(run.step, run.state(), now=True)
    run.restore_best()
    module.eval()
    return run.course


def device_of(settings: TrainingSettings) -> torch.device:
    """The device that the settings name.

    Raises:
        InputError: if this machine, or this torch, does not have it.
    """
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device={settings.device}: not to be had here ({str(error).splitlines()[0]})") from None
    return torch.device(name)


class _Run:
    """A training under way: everything that a checkpoint holds."""

    def __init__(self, module: nn.Module, optimiser: torch.optim.Optimizer, settings: TrainingSettings) -> None:
        self.module, self.optimiser, self.settings = module, optimiser, settings
        self.step = self.epoch = self.place = self.instances = 0
        self.total = 0.0
        self.course = Course()
        self.best: dict[str, Tensor] | None = None

    @property
    def is_over(self) -> bool:
        """Whether validation has not gained for `patience` epochs."""
        return (
            self.best is not None
            and self.epoch > 0
            and self.course.best >= 0
            and self.epoch - 1 - self.course.best >= self.settings.patience
        )

    @property
    def mean_loss(self) -> float:
        return self.total / max(1, self.instances)

    @property
    def best_text(self) -> str:
        score = self.course.best_score
        return "" if score is None else f" best {score:.4f}"

    def check(self, loss: float, norm: float, batch: Any, place: int, where: Callable[[Any], str]) -> None:
        """Refuse a loss or a gradient that is no number before it reaches the parameters."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingFailed(
                f"the loss is {loss} and its gradient {norm} at epoch {self.epoch + 1}, batch {place + 1} "
                f"({where(batch)}): nothing of this step was kept; look at these rows, or train with a lower "
                "learning_rate or clip_norm"
            )

    def note(self, loss: float, instances: int) -> None:
        """A step was made."""
        self.total += loss * instances
        self.instances += instances
        self.step += 1
        self.place += 1

    def end_epoch(self, score: float | None, watched: dict[str, float], seconds: float) -> None:
        self.course.epochs.append(Epoch(self.mean_loss, score, seconds, self.instances, watched))
        best = self.course.best_score if self.course.best >= 0 else None
        if score is None or best is None or score > best:
            self.course.best = self.epoch
            if score is not None:
                self.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.epoch, self.place, self.instances, self.total = self.epoch + 1, 0, 0, 0.0

    def restore_best(self) -> None:
        if self.best is not None:
            self.module.load_state_dict(self.best)

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, as arrays."""
        arrays = {f"now.{name}": _array(value) for name, value in self.module.state_dict().items()}
        arrays |= {f"best.{name}": _array(value) for name, value in (self.best or {}).items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            arrays |= {f"adam.{number}.{name}": _array(value) for name, value in moments.items()}
        rest = {
            "epoch": self.epoch, "place": self.place, "instances": self.instances, "total": self.total,
            "best": self.course.best, "epochs": [asdict(epoch) for epoch in self.course.epochs],
        }  # fmt: skip
        arrays["run"] = np.frombuffer(msgspec.json.encode(rest), np.uint8)
        return arrays

    def resume(self, keeper: Keeper) -> None:
        """Go on from a checkpoint, where there is one."""
        self.step, arrays = keeper.load()
        if not arrays:
            return
        rest = msgspec.json.decode(arrays["run"].tobytes())
        self.epoch, self.place, self.instances = rest["epoch"], rest["place"], rest["instances"]
        self.total = rest["total"]
        self.course = Course([Epoch(**epoch) for epoch in rest["epochs"]], rest["best"])
        self.module.load_state_dict(_tensors(arrays, "now."))
        self.best = _tensors(arrays, "best.") or None
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in _tensors(arrays, "adam.").items():
            number, _, moment = name.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _adamw(module: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; vectors (biases, scales) and single numbers do not decay."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)


def _rate(settings: TrainingSettings, step: int, steps_an_epoch: int) -> float:
    """The learning rate of a step: up to the full one over the warm-up, then along half a cosine to a hundredth."""
    steps = settings.epochs * steps_an_epoch
    warmup = settings.warmup * steps
    if step + 1 < warmup:
        return settings.learning_rate * (step + 1) / warmup
    if settings.decay == "none":
        return settings.learning_rate
    done = (step - warmup) / max(1.0, steps - warmup)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done)))))


def _seed_of(seed: int, step: int) -> int:
    """One number for a seed and a step; close ones give unlike generators."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().cpu().numpy()


def _tensors(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): torch.tensor(value) for name, value in arrays.items() if name.startswith(prefix)}
