"""The agents' recurrent value networks: linear, ReLU, GRU, linear.

One network serves all agents, which tell themselves apart by a one-hot number in their input
(``parameters="shared"``); or each agent has a network of its own ("own"), so that links can move
from one agent to another; or its own links of common values ("masked", `thrifty.marl.tied`).
A training pass runs the GRU over whole sequences; acting takes one step at a time.

Legend: T steps, B episodes, N agents, I input size, H hidden size, U actions.

References: Rashid et al. (2018), QMIX, appendix: the sizes. MAST (Hu et al., NeurIPS 2024),
section 4.2: separate agents.
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thrifty.marl.episodes import EpisodeBatch


def input_rows(observation_LNO: Tensor, last_action_LN: Tensor, actions: int) -> Tensor:
    """Return what agents see: observation, one-hot last action, one-hot number, [..., N, I].

    Args:
        observation_LNO: observations; the leading axes are free.
        last_action_LN: int64; -1 is none.
        actions: U.
    """
    N, kind = observation_LNO.shape[-2], observation_LNO.dtype
    last_LNU = F.one_hot(last_action_LN + 1, actions + 1)[..., 1:].to(kind)
    number_LNN = torch.eye(N, dtype=kind).expand(*observation_LNO.shape[:-1], N)
    return torch.cat([observation_LNO, last_LNU, number_LNN], dim=-1)


class AgentInputs:
    """What the agents of a minibatch see at all T + 1 observations.

    Args:
        batch: episodes.
        actions: U.
    """

    def __init__(self, batch: EpisodeBatch, actions: int) -> None:
        self.batch, self.actions = batch, actions

    @cached_property
    def last_action(self) -> Tensor:
        """Return the actions before each observation, int64 [T + 1, B, N]; -1 is none."""
        action = self.batch.action
        return torch.cat([torch.full_like(action[:1], -1), action])

    @cached_property
    def rows(self) -> Tensor:
        """Return the inputs as rows, [T + 1, B, N, I]."""
        return input_rows(self.batch.observation, self.last_action, self.actions)


class RecurrentAgent(nn.Module):
    """One value network.

    Args:
        inputs: I.
        hidden: H.
        actions: U.
    """

    def __init__(self, inputs: int, hidden: int, actions: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.fc2 = nn.Linear(hidden, actions)

    def forward(self, input_TMI: Tensor) -> Tensor:
        """Return the values of M sequences from their beginning, [T, M, U]."""
        hidden_TMH, _ = self.gru(torch.relu(self.fc1(input_TMI)))
        value_TMU: Tensor = self.fc2(hidden_TMH)
        return value_TMU

    def step(self, input_MI: Tensor, hidden_MH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of one step, [M, U], and the hidden states after it, [M, H]."""
        weights = dict(self.gru.named_parameters())
        hidden_MH = torch.gru_cell(
            torch.relu(self.fc1(input_MI)),
            hidden_MH,
            weights["weight_ih_l0"],
            weights["weight_hh_l0"],
            weights["bias_ih_l0"],
            weights["bias_hh_l0"],
        )
        return self.fc2(hidden_MH), hidden_MH


class Agents(nn.Module):
    """The value networks of a team.

    Args:
        agents: N.
        inputs: I.
        hidden: H.
        actions: U.
        parameters: one network for all agents ("shared") or one for each ("own", "masked").
    """

    def __init__(
        self,
        agents: int,
        inputs: int,
        hidden: int,
        actions: int,
        parameters: Literal["shared", "masked", "own"] = "shared",
    ) -> None:
        super().__init__()
        self.actions = actions
        count = 1 if parameters == "shared" else agents
        self.nets = nn.ModuleList(RecurrentAgent(inputs, hidden, actions) for _ in range(count))

    def forward(self, input_TBNI: Tensor) -> Tensor:
        """Return every agent's values at every step, [T, B, N, U]."""
        T, B, N, _ = input_TBNI.shape
        if len(self.nets) == 1:
            value_TMU: Tensor = self.nets[0](input_TBNI.reshape(T, B * N, -1))
            return value_TMU.reshape(T, B, N, -1)
        return torch.stack([net(input_TBNI[:, :, n]) for n, net in enumerate(self.nets)], dim=2)

    def step(self, input_BNI: Tensor, hidden_BNH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values of one step, [B, N, U], and the hidden states after it, [B, N, H]."""
        B, N, _ = input_BNI.shape
        if len(self.nets) == 1:
            net = self.nets[0]
            assert isinstance(net, RecurrentAgent)
            value_MU, hidden_MH = net.step(input_BNI.flatten(0, 1), hidden_BNH.flatten(0, 1))
            return value_MU.reshape(B, N, -1), hidden_MH.reshape(B, N, -1)
        steps = [
            net.step(input_BNI[:, n], hidden_BNH[:, n])
            for n, net in enumerate(self.nets)
            if isinstance(net, RecurrentAgent)
        ]
        return torch.stack([v for v, _ in steps], 1), torch.stack([h for _, h in steps], 1)
