from __future__ import annotations

import pytest
import torch
from torch import nn

from thrifty.rl import polyak_update


@pytest.mark.parametrize("tau", [0.0, 0.25, 1.0])
def test_every_parameter_moves_by_tau(tau: float) -> None:
    online, target = nn.Linear(2, 3), nn.Linear(2, 3)
    nn.init.constant_(online.weight, 4.0)
    nn.init.constant_(online.bias, -8.0)
    nn.init.constant_(target.weight, 0.0)
    nn.init.constant_(target.bias, 4.0)
    polyak_update(online, target, tau)
    assert target.weight.flatten().tolist() == [4.0 * tau] * 6
    assert target.bias.tolist() == [4.0 - 12.0 * tau] * 3
    assert online.weight.flatten().tolist() == [4.0] * 6
    assert online.bias.grad is None


def test_tau_of_one_copies_exactly() -> None:
    torch.manual_seed(0)
    online, target = nn.Linear(50, 50), nn.Linear(50, 50)
    nn.init.constant_(target.weight, 1e20)
    polyak_update(online, target, 1.0)
    assert torch.equal(online.weight, target.weight)
