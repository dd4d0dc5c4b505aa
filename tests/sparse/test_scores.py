from __future__ import annotations

import pytest
import torch

from thrifty.sparse import LayerState, gradient, magnitude, mest, random

WEIGHT = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
GRAD = torch.tensor([[-3.0, 0.0], [4.0, 1.0]])
MASK = torch.tensor([[True, True], [False, True]])


def state(grad: torch.Tensor | None = GRAD, seed: int | None = 0) -> LayerState:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return LayerState("encoder.weight", WEIGHT, grad, MASK, 1, generator)


# A new criterion enrols with a row: its value on the layer above, by hand.
@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (magnitude, [[1.0, 2.0], [0.0, 0.5]]),
        (gradient, [[3.0, 0.0], [4.0, 1.0]]),
        (mest(0.0), [[1.0, 2.0], [0.0, 0.5]]),
        (mest(0.5), [[2.5, 2.0], [2.0, 1.0]]),  # |w| + |g| / 2
    ],
)
def test_values_by_hand(score, expected) -> None:
    torch.testing.assert_close(score(state()), torch.tensor(expected), rtol=0, atol=0)


def test_random_depends_on_the_generator_only() -> None:
    assert torch.equal(random(state(seed=3)), random(state(grad=None, seed=3)))
    assert not torch.equal(random(state(seed=3)), random(state(seed=4)))
    assert random(state()).shape == WEIGHT.shape


@pytest.mark.parametrize("score", [gradient, mest(1.0)])
def test_a_missing_gradient_names_the_layer(score) -> None:
    with pytest.raises(ValueError, match=r"encoder\.weight has no gradient"):
        score(state(grad=None))


def test_what_a_score_lacks_is_said() -> None:
    with pytest.raises(ValueError, match="needs a generator"):
        random(state(seed=None))
    with pytest.raises(ValueError, match="at least 0"):
        mest(-1.0)
