"""What is particular to SASRec: which state a person is read from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from endcap.models.sequential import SASRecConfig, SASRecTowers
from endcap.nn.histories import Past


def towers(readout: str) -> SASRecTowers:
    """The same weights for either readout."""
    torch.manual_seed(0)
    return SASRecTowers(SASRecConfig(dim=8, longest=5, readout=readout), 10).eval()


def past(*people: list[int]) -> Past:
    items = np.array(people, np.int64)
    return Past(items, np.zeros_like(items), np.zeros_like(items))


def vectors_of(module: SASRecTowers, given: Past) -> torch.Tensor:
    known = torch.from_numpy(given.items >= 0)[..., None]
    return module.items(np.maximum(given.items, 0).ravel())[0].view(*given.items.shape, -1) * known


def test_the_mean_readout_is_the_mean_of_the_states_so_far():
    given = past([-1, -1, 3, 0, 7], [1, 2, 3, 4, 5])
    last, mean = towers("last"), towers("mean")
    vectors = vectors_of(last, given)
    states = last.states(vectors, given)
    expected = torch.stack([states[0, 2:].mean(0), states[1].mean(0)])
    torch.testing.assert_close(mean.users(vectors, given).vectors[:, 0], expected)
    torch.testing.assert_close(mean.states(vectors, given)[1, 2], states[1, :3].mean(0))


@pytest.mark.parametrize(("readout", "shares"), [("last", [0, 0, 0, 1]), ("mean", [0, 1 / 3, 1 / 3, 1 / 3])])
def test_reasons_weigh_the_actions_by_the_readout(readout, shares):
    given, module = past([-1, 4, 2, 9]), towers(readout)
    weights = module.users(vectors_of(module, given), given).weights
    torch.testing.assert_close(weights, torch.tensor([[shares]], dtype=torch.float32))


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_no_state_sees_what_came_later(readout):
    module, one, other = towers(readout), past([1, 2, 3, 4, 5]), past([1, 2, 3, 8, 6])
    states = [module.states(vectors_of(module, given), given)[0] for given in (one, other)]
    torch.testing.assert_close(states[0][:3], states[1][:3])
    assert not torch.allclose(states[0][3:], states[1][3:])
