"""From the values of the chosen individual actions to the value of the joint action.

| mixer | Q_tot |
|---|---|
| AdditiveMixer (VDN) | sum_n Q_n |
| MonotonicMixer (QMIX) | w_2(s)' elu( W_1(s)' Q + b_1(s) ) + v(s), with W_1, w_2 >= 0 |
| CentralMixer (Weighted QMIX) | an unrestricted perceptron of Q and s |

The weights of the monotonic mixer come from hypernetworks with one or two layers. Their last
layers start small (``last_scale``), see `MonotonicMixer.shrink`. That is where we differ from the
published code: a raw state with entries of 10 or 30 would otherwise begin with values far beyond
any return.

Legend: N agents, S state size, E embedding size. Leading axes are free.

References: Sunehag et al. (2017), VDN; Rashid et al. (2018), QMIX; Rashid et al. (2020), Weighted
QMIX, section 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AdditiveMixer(nn.Module):
    """The sum; it has no weights."""

    def forward(self, value_N: Tensor, state_S: Tensor) -> Tensor:
        """Return the joint value, [...]."""
        return value_N.sum(-1)

    def shrink(self, scale: float) -> None:
        """Do nothing: there are no hypernetworks."""


def hypernetwork(inputs: int, hidden: int, outputs: int, layers: int) -> nn.Sequential:
    """Build a map from the state to weights: linear, or linear, ReLU, linear.

    Raises:
        ValueError: another number of layers than 1 or 2.
    """
    if layers == 1:
        return nn.Sequential(nn.Linear(inputs, outputs))
    if layers == 2:
        return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    raise ValueError(f"hypernet_layers must be 1 or 2, got {layers}")


class MonotonicMixer(nn.Module):
    """QMIX's mixing network.

    Args:
        agents: N.
        state_dim: S.
        embed: E.
        layers: of the hypernetworks of W_1 and w_2, 1 or 2.
        hidden: width of two-layer hypernetworks.
    """

    def __init__(
        self, agents: int, state_dim: int, *, embed: int = 32, layers: int = 2, hidden: int = 64
    ) -> None:
        super().__init__()
        self.agents, self.embed = agents, embed
        self.hyper_w1 = hypernetwork(state_dim, hidden, agents * embed, layers)
        self.hyper_b1 = hypernetwork(state_dim, hidden, embed, 1)
        self.hyper_w2 = hypernetwork(state_dim, hidden, embed, layers)
        self.value = hypernetwork(state_dim, embed, 1, 2)

    def forward(self, value_N: Tensor, state_S: Tensor) -> Tensor:
        """Return the joint value, [...], never falling in any individual value."""
        w1_NE = self.hyper_w1(state_S).abs().unflatten(-1, (self.agents, self.embed))
        hidden_E = F.elu((value_N.unsqueeze(-2) @ w1_NE).squeeze(-2) + self.hyper_b1(state_S))
        mixed = (hidden_E * self.hyper_w2(state_S).abs()).sum(-1)
        joint: Tensor = mixed + self.value(state_S).squeeze(-1)
        return joint

    @torch.no_grad()
    def shrink(self, scale: float) -> None:
        """Multiply the last layers of all hypernetworks by a factor.

        Args:
            scale: 1 leaves PyTorch's default; 0.001 starts with Q_tot near 0 whatever the state.
        """
        for network in (self.hyper_w1, self.hyper_b1, self.hyper_w2, self.value):
            last = network[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(scale)
            last.bias.mul_(scale)


class CentralMixer(nn.Module):
    """Weighted QMIX's unrestricted mixer: a perceptron with three hidden layers.

    Args:
        agents: N.
        state_dim: S.
        embed: width of the hidden layers.
    """

    def __init__(self, agents: int, state_dim: int, *, embed: int = 256) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(agents + state_dim, embed),
            nn.ReLU(),
            nn.Linear(embed, embed),
            nn.ReLU(),
            nn.Linear(embed, embed),
            nn.ReLU(),
            nn.Linear(embed, 1),
        )
        # The published mixer adds a value of the state alone.
        self.value = hypernetwork(state_dim, embed, 1, 2)

    def forward(self, value_N: Tensor, state_S: Tensor) -> Tensor:
        """Return the joint value, [...]."""
        joint: Tensor = self.net(torch.cat([value_N, state_S], -1)) + self.value(state_S)
        return joint.squeeze(-1)

    @torch.no_grad()
    def shrink(self, scale: float) -> None:
        """Multiply both last layers by a factor."""
        for network in (self.net, self.value):
            last = network[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(scale)
            last.bias.mul_(scale)
