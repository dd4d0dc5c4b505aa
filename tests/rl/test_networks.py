from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from thrifty.rl.networks import DeterministicActor, GaussianActor, TwinCritic, mlp


def seen(batch: int, size: int = 3) -> Tensor:
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(batch))


def shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in module.parameters()]


@pytest.mark.parametrize("hidden", [(), (7,), (5, 6, 4)])
def test_shapes(hidden: tuple[int, ...]) -> None:
    actor = DeterministicActor(3, 2, hidden=hidden)
    widths = (3, *hidden, 2)
    pairs = zip(widths[1:], widths[:-1], strict=True)
    assert shapes(actor) == [shape for out, into in pairs for shape in ((out, into), (out,))]
    assert actor(seen(5)).shape == (5, 2)
    critic = TwinCritic(3, 2, hidden=hidden)
    q1, q2 = critic(seen(5), seen(5, 2))
    assert (q1.shape, q2.shape) == ((5,), (5,))
    assert torch.equal(critic.first(seen(5), seen(5, 2)), q1)
    assert not torch.equal(q1, q2)
    gaussian = GaussianActor(3, 2, hidden=hidden)
    action, log_pi = gaussian.sample(seen(5), seen(5, 2))
    assert (action.shape, log_pi.shape) == ((5, 2), (5,))
    assert [part.shape for part in gaussian.distribution(seen(5))] == [(5, 2), (5, 2)]


def test_one_unit_by_hand() -> None:
    actor = DeterministicActor(1, 1, hidden=(1,))
    for parameter, value in zip(actor.parameters(), [2.0, -1.0, 3.0, 0.5], strict=True):
        nn.init.constant_(parameter, value)
    # tanh(3 relu(2 x - 1) + 0.5) at x = 1, 0.
    expected = [math.tanh(3.5), math.tanh(0.5)]
    assert actor(torch.tensor([[1.0], [0.0]])).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("relu", 0.0),
        ("tanh", math.tanh(-1.0)),
        ("elu", math.expm1(-1.0)),
        ("silu", -1.0 / (1.0 + math.e)),
        ("gelu", -0.5 * math.erfc(1.0 / math.sqrt(2.0))),
        ("leaky_relu", -0.01),
    ],
)
def test_activations(name: str, value: float) -> None:
    net = mlp(1, (1,), 1, activation=name)
    for parameter in net.parameters():
        nn.init.constant_(parameter, 1.0)
    # 1 + f(1 + x) at x = -2
    assert net(torch.tensor([[-2.0]])).item() == pytest.approx(1.0 + value, abs=1e-6)


def test_bad_widths_and_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown activation 'rlu'.*relu"):
        mlp(1, (1,), 1, activation="rlu")
    with pytest.raises(ValueError, match="at least 1"):
        mlp(1, (4, 0), 1)


def test_layer_norm_stands_before_the_activation_of_critics() -> None:
    critic = TwinCritic(3, 2, hidden=(4, 4), layer_norm=True)
    kinds = [type(layer).__name__ for layer in critic.q1]
    assert kinds == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear"]
    hidden = critic.q1[1](critic.q1[0](torch.randn(6, 5)))
    assert hidden.mean(dim=1).abs().max() < 1e-5
    assert hidden.var(dim=1, unbiased=False).tolist() == pytest.approx([1.0] * 6, abs=1e-2)


def test_first_weights() -> None:
    torch.manual_seed(0)
    for layer in (m for m in TwinCritic(3, 2).modules() if isinstance(m, nn.Linear)):
        bound = 1.0 / math.sqrt(layer.in_features)
        for parameter in (layer.weight, layer.bias):
            assert parameter.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3.0), rel=0.15)
    orthogonal = GaussianActor(3, 2, initialisation="orthogonal")
    for layer in (m for m in orthogonal.modules() if isinstance(m, nn.Linear)):
        weight = layer.weight if layer.out_features <= layer.in_features else layer.weight.T
        assert torch.allclose(weight @ weight.T, torch.eye(len(weight)), atol=1e-5)
        assert layer.bias.tolist() == [0.0] * layer.out_features


# ---------------------------------------------------------------- the Gaussian actor


def reference_log_density(actor: GaussianActor, observation: Tensor, noise: Tensor) -> Tensor:
    mean, log_std = actor.distribution(observation)
    normal = Independent(Normal(mean, log_std.exp()), 1)
    # cache_size=1: the inverse of tanh is what went into it.
    squashed = TransformedDistribution(normal, [TanhTransform(cache_size=1)])
    x = mean + log_std.exp() * noise
    action = squashed.transforms[0](x)
    return squashed.log_prob(action)


@pytest.mark.parametrize("squash", ["tanh", "clamp"])
def test_log_density_is_that_of_the_squashed_normal(squash: str) -> None:
    torch.manual_seed(1)
    actor = GaussianActor(3, 2, hidden=(16,), log_std_squash=squash).double()
    observation, noise = seen(50).double(), 2.0 * seen(50, 2).double()
    action, log_pi = actor.sample(observation, noise)
    mean, log_std = actor.distribution(observation)
    assert torch.allclose(action, torch.tanh(mean + log_std.exp() * noise))
    assert torch.allclose(log_pi, reference_log_density(actor, observation, noise), atol=1e-9)


def test_log_density_by_hand() -> None:
    actor = GaussianActor(1, 1, hidden=(), log_std_squash="clamp")
    nn.init.zeros_(actor.net[0].weight)
    nn.init.zeros_(actor.net[0].bias)  # mean 0, log standard deviation 0
    _, log_pi = actor.sample(torch.zeros(2, 1), torch.tensor([[0.0], [1.0]]))
    # log N(x) - log(1 - tanh(x)^2)
    normal = -0.5 * math.log(2 * math.pi)
    expected = [normal, normal - 0.5 - math.log(1 - math.tanh(1.0) ** 2)]
    assert log_pi.tolist() == pytest.approx(expected, abs=1e-6)


def test_far_out_the_exact_density_stays_exact() -> None:
    actor = GaussianActor(1, 1, hidden=(), log_std_squash="clamp")
    nn.init.zeros_(actor.net[0].weight)
    actor.net[0].bias.data = torch.tensor([20.0, 0.0])  # tanh(20) is 1 in float32
    _, log_pi = actor.sample(torch.zeros(1, 1), torch.zeros(1, 1))
    # log(1 - tanh(20)^2) = log 4 - 40 to 17 digits
    assert log_pi.item() == pytest.approx(-0.5 * math.log(2 * math.pi) + 40 - math.log(4.0))
    actor.squash_epsilon = 1e-6
    _, log_pi = actor.sample(torch.zeros(1, 1), torch.zeros(1, 1))
    # log(1 - 1 + 1e-6): what Stable-Baselines3 computes
    assert log_pi.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - math.log(1e-6), rel=1e-4)


@given(st.floats(-1000, 1000), st.sampled_from(["tanh", "clamp"]))
def test_log_standard_deviations_stay_in_their_bounds(value: float, squash: str) -> None:
    actor = GaussianActor(1, 1, hidden=(), log_std_squash=squash, log_std_bounds=(-3.0, 1.0))
    nn.init.zeros_(actor.net[0].weight)
    actor.net[0].bias.data = torch.tensor([0.0, value])
    log_std = actor.distribution(torch.zeros(1, 1))[1].item()
    assert -3.0 <= log_std <= 1.0
    if squash == "clamp":
        assert log_std == pytest.approx(min(max(value, -3.0), 1.0))
    else:  # -3 + 2 (tanh(v) + 1)
        assert log_std == pytest.approx(-1.0 + 2.0 * math.tanh(value), abs=1e-5)


def test_scaling_before_the_tanh() -> None:
    torch.manual_seed(2)
    plain = GaussianActor(3, 2, hidden=(8,))
    scaled = GaussianActor(3, 2, hidden=(8,), pre_tanh_scale=0.4)
    scaled.load_state_dict(plain.state_dict())
    output = plain.net(seen(4))
    mean, log_std = scaled.distribution(seen(4))
    assert torch.allclose(mean, 0.4 * output[:, :2])
    # -5 + 3.5 (tanh(0.4 v) + 1)
    assert torch.allclose(log_std, -1.5 + 3.5 * torch.tanh(0.4 * output[:, 2:]))
    assert torch.allclose(scaled(seen(4)), torch.tanh(0.4 * output[:, :2]))
    assert not torch.allclose(scaled(seen(4)), plain(seen(4)))
