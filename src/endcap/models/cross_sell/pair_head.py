"""A small network that weighs what is known of a pair, learnt from lists of one wanted item among drawn ones.

The loss is a softmax over the list, corrected for the draw, so that f is log P(c | asked) but for a constant. Columns
differ in size by orders of magnitude, so each is read in a form of its own before it is standardised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from endcap.kernels import layers
from endcap.kernels.layers import Layers
from endcap.nn.training import TrainingSettings, train

HIDDEN = (64, 32)
SMALL = 0.1  # the quantile of what is above 0 that is added before the logarithm
LESSON = TrainingSettings(epochs=8, batch_size=64, learning_rate=4e-3, weight_decay=1e-3, warmup=0.1, device="cpu")

Form = Literal["log", "signed", "plain", "flag"]
"""log: what is 0 or more, as its logarithm; signed: of either sign, as asinh; plain: as it is; flag: 0 or 1, mostly 0,
which standardising would blow up."""
READ_AS: dict[Form, int] = {"log": layers.LOG, "signed": layers.SIGNED, "plain": layers.PLAIN, "flag": layers.PLAIN}
Floats = NDArray[np.float32]


class PairHead(NamedTuple):
    """What was learnt, to answer with."""

    layers: Layers

    @classmethod
    def restored(cls, forms: Sequence[Form], arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` gave, of columns of these forms."""
        own = {name: np.array(array.T, np.float32, order="C") for name, array in arrays.items()}
        return cls(
            Layers(
                np.array([READ_AS[form] for form in forms], np.int8), own["unit"], own["mean"], own["spread"],
                own["net.0.weight"], own["net.0.bias"], own["net.2.weight"], own["net.2.bias"],
                own["net.4.weight"][:, 0], own["net.4.bias"],
            )
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To store, by name; `restored` reads them."""
        _, unit, mean, spread, first, first_bias, second, second_bias, last, last_bias = self.layers
        return {
            "unit": unit, "mean": mean, "spread": spread, "net.0.weight": first.T, "net.0.bias": first_bias,
            "net.2.weight": second.T, "net.2.bias": second_bias, "net.4.weight": last[None], "net.4.bias": last_bias,
        }  # fmt: skip

    def __call__(self, columns: Floats) -> Floats:
        """(..., columns) -> (...)."""
        return self.layers.weigh(columns.reshape(-1, columns.shape[-1])).reshape(columns.shape[:-1])


class _Network(nn.Module):
    """f of the columns while it is learnt: each in its form and standardised, then two layers."""

    def __init__(self, forms: Sequence[Form]) -> None:
        super().__init__()
        n_columns = len(forms)
        self.register_buffer("logged", torch.tensor([form == "log" for form in forms]), persistent=False)
        self.register_buffer("signed", torch.tensor([form == "signed" for form in forms]), persistent=False)
        self.register_buffer("flag", torch.tensor([form == "flag" for form in forms]), persistent=False)
        self.register_buffer("unit", torch.ones(n_columns))
        self.register_buffer("mean", torch.zeros(n_columns))
        self.register_buffer("spread", torch.ones(n_columns))
        first, second = HIDDEN
        self.net = nn.Sequential(
            nn.Linear(n_columns, first), nn.GELU(), nn.Linear(first, second), nn.GELU(), nn.Linear(second, 1)
        )

    def scale_to(self, columns: Floats) -> None:
        """Take what is small, usual and far from it in each column (n, columns)."""
        for place in torch.nonzero(self.logged | self.signed).ravel().tolist():
            size = np.abs(columns[:, place])
            found = size[size > 0]
            quantile = SMALL if self.logged[place] else 0.5
            self.unit[place] = float(np.quantile(found, quantile)) if len(found) else 1.0
        read = self._read(torch.from_numpy(columns))
        self.mean.copy_(torch.where(self.flag, 0, read.mean(0)))
        self.spread.copy_(torch.where(self.flag, 1, read.std(0).clamp_min(1e-3)))

    def forward(self, columns: Tensor) -> Tensor:
        """(..., columns) -> (...)."""
        return self.net((self._read(columns) - self.mean) / self.spread)[..., 0]

    def _read(self, columns: Tensor) -> Tensor:
        logged = (columns.clamp_min(0) + self.unit).log()
        signed = (columns / self.unit).asinh()
        return torch.where(self.logged, logged, torch.where(self.signed, signed, columns))


def learn(columns: Floats, log_q: Floats, forms: Sequence[Form], seed: int, threads: int = 1) -> PairHead:
    """The head from the columns (q, c, columns) of lists whose target comes first, drawn with chances log_q (q, c)."""
    torch.manual_seed(seed)
    head = _Network(forms)
    head.scale_to(columns.reshape(-1, columns.shape[2]))
    given, correction = torch.from_numpy(columns), torch.from_numpy(log_q)

    def plan(epoch: int) -> list[NDArray[np.int64]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(columns))
        return [order[begin : begin + LESSON.batch_size] for begin in range(0, len(order), LESSON.batch_size)]

    def loss(batch: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(batch)
        return -torch.log_softmax(head(given[rows]) - correction[rows], 1)[:, 0].mean()

    train(head, plan=plan, loss=loss, settings=LESSON, seed=seed, threads=threads, name="evidence")
    return PairHead.restored(forms, {name: value.numpy() for name, value in head.state_dict().items()})
