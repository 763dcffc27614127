"""A small network in our own kernel against the same in torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from endcap.kernels.layers import LOG, PLAIN, SIGNED, Layers

COLUMNS = 11


def network(seed: int, hidden: tuple[int, int]) -> tuple[Layers, nn.Sequential]:
    torch.manual_seed(seed)
    first, second = hidden
    net = nn.Sequential(nn.Linear(COLUMNS, first), nn.GELU(), nn.Linear(first, second), nn.GELU(), nn.Linear(second, 1))
    rng = np.random.default_rng(seed)
    weights = [np.ascontiguousarray(net[place].weight.detach().numpy().T) for place in (0, 2, 4)]
    biases = [net[place].bias.detach().numpy() for place in (0, 2, 4)]
    form = np.resize([LOG, SIGNED, PLAIN], COLUMNS).astype(np.int8)
    unit, mean, spread = rng.lognormal(size=(3, COLUMNS)).astype(np.float32)
    return Layers(
        form, unit, mean, spread, weights[0], biases[0], weights[1], biases[1], weights[2][:, 0], biases[2]
    ), net


@pytest.mark.parametrize("hidden", [(64, 32), (5, 3)])
def test_it_is_what_torch_makes_of_the_same_rows(hidden: tuple[int, int]) -> None:
    layers, net = network(1, hidden)
    rng = np.random.default_rng(2)
    rows = (rng.standard_normal((300, COLUMNS)) * 10.0 ** rng.integers(-6, 4, (300, COLUMNS))).astype(np.float32)
    form, unit, mean, spread = layers[:4]
    read = np.where(form == LOG, np.log(np.maximum(rows, 0) + unit), rows)
    read = np.where(form == SIGNED, np.arcsinh(rows / unit), read)
    with torch.inference_mode():
        wanted = net(torch.from_numpy(((read - mean) / spread).astype(np.float32)))[:, 0].numpy()
    np.testing.assert_allclose(layers.weigh(rows), wanted, rtol=2e-6, atol=2e-6 * np.abs(wanted).max())
    np.testing.assert_array_equal(layers.weigh(rows[7:9]), layers.weigh(rows)[7:9])
    assert layers.weigh(rows[:0]).shape == (0,)


def test_gelu_holds_from_end_to_end() -> None:
    """One column through one unit each: far out it is the column itself, or nothing."""
    one = np.ones(1, np.float32)
    layers = Layers(np.array([PLAIN], np.int8), one, one * 0, one, one[None], one * 0, one[None], one * 0, one, one * 0)
    x = np.linspace(-12, 12, 4801, dtype=np.float32)
    wanted = nn.functional.gelu(nn.functional.gelu(torch.from_numpy(x).double())).numpy()
    np.testing.assert_allclose(layers.weigh(x[:, None]), wanted, rtol=5e-7, atol=5e-7)
