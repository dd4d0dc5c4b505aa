"""The fully connected actors and critics of TD3 and SAC.

Legend: B batch, O observation size, A action size. Actions are normalised to [-1, 1] per
dimension; the environments scale them to their bounds. Biases and normalisation are always dense.

Reference: RLx2 (Tan et al., ICLR 2023), section 5; spec of the published code: two hidden layers of
256 ReLU units, no normalisation. LayerNorm critics and other widths are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

Initialisation = Literal["uniform", "orthogonal"]
Activation = Literal["relu", "tanh", "elu", "silu", "gelu", "leaky_relu"]
_ZERO = np.float32(0.0)
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
}


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: str = "relu",
    layer_norm: bool = False,
    initialisation: Initialisation = "uniform",
) -> nn.Sequential:
    """Build a multilayer perceptron.

    Args:
        inputs: input size.
        hidden: width of each hidden layer; empty gives one linear map.
        outputs: output size.
        activation: name of the hidden activation.
        layer_norm: LayerNorm between each hidden linear map and its activation.
        initialisation: "uniform" is PyTorch's default U(-1/sqrt(fan_in), 1/sqrt(fan_in));
            "orthogonal" has gain 1 and zero biases (the published SAC).

    Returns:
        A module from [B, inputs] to [B, outputs].

    Raises:
        ValueError: a width below 1 or an unknown activation.
    """
    if any(width < 1 for width in (inputs, *hidden, outputs)):
        raise ValueError(f"layer widths must be at least 1, got {(inputs, *hidden, outputs)}")
    if activation not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {activation!r}; choose from {sorted(_ACTIVATIONS)}")
    layers: list[nn.Module] = []
    width_in = inputs
    for width in hidden:
        layers.append(nn.Linear(width_in, width))
        if layer_norm:
            layers.append(nn.LayerNorm(width))
        layers.append(_ACTIVATIONS[activation]())
        width_in = width
    layers.append(nn.Linear(width_in, outputs))
    if initialisation == "orthogonal":
        for layer in layers:
            if isinstance(layer, nn.Linear):
                nn.init.orthogonal_(layer.weight)
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


class FewRows:
    """Applies a perceptron to a few rows through NumPy, where the cost of a layer is the call.

    Holds views of the parameters, so it follows every change made in place (optimizer steps,
    masks, ``load_state_dict``), and must be made anew where parameters are replaced. Anything but a
    few float32 rows on the CPU, and activations other than ReLU, go through the module.

    Args:
        net: a perceptron from :func:`mlp`.
    """

    _MOST_ROWS = 8

    def __init__(self, net: nn.Sequential) -> None:
        self._net = net
        self._layers: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        plain = all(type(layer) in (nn.Linear, nn.ReLU) for layer in net)
        linears = [layer for layer in net if isinstance(layer, nn.Linear)]
        for layer in linears if plain else ():
            weight, bias = layer.weight.detach(), layer.bias.detach()
            if weight.device.type == "cpu" and weight.dtype == torch.float32:
                self._layers.append((weight.numpy().T, bias.numpy()))

    @torch.no_grad()
    def __call__(self, x_BI: Tensor) -> Tensor:
        """Return net(x) without gradients, [B, outputs] for [B, I], equal up to rounding."""
        if not self._layers or len(x_BI) > self._MOST_ROWS:
            output: Tensor = self._net(x_BI)
            return output
        values = x_BI.numpy()
        *hidden, (weight, bias) = self._layers
        for weight_in, bias_in in hidden:
            values = np.maximum(values @ weight_in + bias_in, _ZERO)
        return torch.from_numpy(values @ weight + bias)


class DeterministicActor(nn.Module):
    """TD3's policy: observation [B, O] to normalised action [B, A] in (-1, 1)."""

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        initialisation: Initialisation = "uniform",
    ) -> None:
        super().__init__()
        self.net = mlp(
            observation_dim,
            hidden,
            action_dim,
            activation=activation,
            initialisation=initialisation,
        )

    def forward(self, observation_BO: Tensor) -> Tensor:
        """Return tanh of the network's output, [B, A]."""
        return torch.tanh(self.net(observation_BO))


class GaussianActor(nn.Module):
    """SAC's policy: a Gaussian squashed by tanh.

    Args:
        observation_dim: O.
        action_dim: A.
        hidden: hidden widths.
        activation: hidden activation.
        initialisation: see :func:`mlp`.
        log_std_bounds: smallest and largest log standard deviation.
        log_std_squash: "tanh" maps smoothly into the bounds (published), "clamp" cuts at them.
        pre_tanh_scale: factor on mean and log standard deviation before they are squashed. 1 is
            right; the published code uses the environment's largest action here and then does
            not scale the action itself.
        squash_epsilon: added inside log(1 - tanh(x)^2 + epsilon); 0 uses the exact, stable form.

    Reference: Haarnoja et al. (2018), appendix C.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        initialisation: Initialisation = "uniform",
        log_std_bounds: tuple[float, float] = (-5.0, 2.0),
        log_std_squash: Literal["tanh", "clamp"] = "tanh",
        pre_tanh_scale: float = 1.0,
        squash_epsilon: float = 0.0,
    ) -> None:
        super().__init__()
        self.net = mlp(
            observation_dim,
            hidden,
            2 * action_dim,
            activation=activation,
            initialisation=initialisation,
        )
        self.log_std_bounds = log_std_bounds
        self.log_std_squash = log_std_squash
        self.pre_tanh_scale = pre_tanh_scale
        self.squash_epsilon = squash_epsilon

    def distribution(self, observation_BO: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation before the tanh, each [B, A]."""
        return self.split(self.net(observation_BO))

    def split(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and bounded log standard deviation from the network's output [B, 2 A]."""
        if self.pre_tanh_scale != 1.0:
            output = output * self.pre_tanh_scale
        mean_BA, log_std_BA = output.chunk(2, dim=-1)
        low, high = self.log_std_bounds
        if self.log_std_squash == "tanh":
            log_std_BA = low + 0.5 * (high - low) * (torch.tanh(log_std_BA) + 1.0)
        else:
            log_std_BA = log_std_BA.clamp(low, high)
        return mean_BA, log_std_BA

    def forward(self, observation_BO: Tensor) -> Tensor:
        """Return the noise-free action tanh(mean), [B, A]."""
        return torch.tanh(self.distribution(observation_BO)[0])

    def sample(self, observation_BO: Tensor, standard_noise_BA: Tensor) -> tuple[Tensor, Tensor]:
        """Draw reparameterised actions and their log density.

        log pi(a|s) = sum_i [ log N(x_i; mean_i, std_i) - log(1 - tanh(x_i)^2) ], a = tanh(x).

        Args:
            observation_BO: observations [B, O].
            standard_noise_BA: standard normal draws [B, A].

        Returns:
            actions [B, A] in (-1, 1) and log densities [B].
        """
        mean_BA, log_std_BA = self.distribution(observation_BO)
        x_BA = mean_BA + log_std_BA.exp() * standard_noise_BA
        action_BA = torch.tanh(x_BA)
        log_normal_BA = (
            -0.5 * standard_noise_BA.square() - log_std_BA - 0.5 * math.log(2.0 * math.pi)
        )
        if self.squash_epsilon > 0.0:
            log_slope_BA = torch.log(1.0 - action_BA.square() + self.squash_epsilon)
        else:
            log_slope_BA = 2.0 * (math.log(2.0) - x_BA - F.softplus(-2.0 * x_BA))
        return action_BA, (log_normal_BA - log_slope_BA).sum(dim=-1)


class TwinCritic(nn.Module):
    """Two independent action values, each from the joined observation and action.

    Reference: Fujimoto et al. (2018), section 4.2.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        *,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        layer_norm: bool = False,
        initialisation: Initialisation = "uniform",
    ) -> None:
        super().__init__()
        self.q1, self.q2 = (
            mlp(
                observation_dim + action_dim,
                hidden,
                1,
                activation=activation,
                layer_norm=layer_norm,
                initialisation=initialisation,
            )
            for _ in range(2)
        )

    def forward(self, observation_BO: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
        """Return both values, each [B]."""
        joined = torch.cat((observation_BO, action_BA), dim=-1)
        return self.q1(joined).squeeze(-1), self.q2(joined).squeeze(-1)

    def first(self, observation_BO: Tensor, action_BA: Tensor) -> Tensor:
        """Return the first value only, [B] (TD3's actor loss)."""
        value: Tensor = self.q1(torch.cat((observation_BO, action_BA), dim=-1)).squeeze(-1)
        return value
