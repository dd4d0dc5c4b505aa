from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from thrifty.rl.exploration import perturb


def test_noise_by_hand() -> None:
    action = torch.tensor([0.0, 0.9, -0.9, 0.5, 0.5])
    noise = torch.tensor([1.0, 1.0, -1.0, 10.0, -10.0])
    free = torch.tensor([0.2, 1.0, -1.0, 1.0, -1.0])
    clipped = torch.tensor([0.2, 1.0, -1.0, 1.0, 0.0])  # 10 * 0.2 = 2 is cut to 0.5
    assert torch.allclose(perturb(action, noise, 0.2, None), free)
    assert torch.allclose(perturb(action, noise, 0.2, 0.5), clipped)
    assert torch.equal(perturb(action, noise, 0.0, None), action)


@given(st.floats(-1, 1, width=32), st.floats(-50, 50, width=32), st.floats(0, 3), st.floats(0, 1))
def test_actions_stay_in_range_and_near(
    action: float, noise: float, scale: float, clip: float
) -> None:
    moved = perturb(torch.tensor([action]), torch.tensor([noise]), scale, clip).item()
    assert -1.0 <= moved <= 1.0
    assert abs(moved - action) <= min(abs(noise) * scale, clip) + 1e-5
