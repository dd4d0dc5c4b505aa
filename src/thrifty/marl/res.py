"""RES: QMIX whose target is a softmax over few joint actions, and whose loss knows the return.

The joint actions are those that differ from the online network's greedy one in at most one agent,
at most N U of them. With beta the sharpness, weights from the online networks, values from the
target networks:

    V(s') = sum_u w_u Q_tot_target(s', u),   w = softmax(beta Q_tot(s', u)) over these u
    loss  = mean (Q_tot - y)^2 + regulariser * mean (Q_tot - G_t)^2,  G_t the discounted return

Where we differ from the released code's reading: the greedy joint action counts once
(``greedy="once"``, the paper's set) and not once per agent (``greedy="each"``).

References: Pan et al. (2021), Regularized softmax deep multi-agent Q-learning, section 4; MAST (Hu
et al., NeurIPS 2024), appendix A.5: the target alone differs from QMIX's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from thrifty.marl.episodes import EpisodeBatch
from thrifty.marl.learner import Learner, LearnerConfig, chosen
from thrifty.marl.returns import masked_mean, td_lambda
from thrifty.marl.team import Spec
from thrifty.sparse import TopologyUpdate

Joint = Callable[[Tensor, Tensor], Tensor]
"""From individual values [..., N] and states [..., S] to joint values [...]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RESConfig(LearnerConfig):
    """Hyper-parameters of RES."""

    beta: float = 0.05
    """Sharpness of the softmax over joint actions."""
    regulariser: float = 0.05
    """Weight of the distance to the return."""
    greedy: Literal["once", "each"] = "once"
    """Whether the greedy joint action counts once or once per agent."""

    def build(self, spec: Spec, *, seed: int) -> RES:
        """Make the learner's networks, optimizers and topologies."""
        return RES(self, spec, seed=seed)


def softmax_value(
    online: Joint,
    target: Joint,
    online_ANU: Tensor,
    target_ANU: Tensor,
    available_ANU: Tensor,
    state_AS: Tensor,
    *,
    beta: float,
    greedy: Literal["once", "each"] = "once",
) -> Tensor:
    """Return the softmax over the joint actions that deviate in one agent, [A].

    Args:
        online: gives the weights.
        target: gives the values.
        online_ANU: individual values of the online agents; A is any number of states.
        target_ANU: those of the target agents.
        available_ANU: bool; what is not available does not take part.
        state_AS: the states.
        beta: sharpness, at least 0.
        greedy: how often the greedy joint action itself counts.
    """
    A, N, U = online_ANU.shape
    best_AN = online_ANU.masked_fill(~available_ANU, -torch.inf).argmax(-1)
    # Row (n, u): agent n takes u, the others their greedy actions; [A, N, U, N].
    actions = best_AN[:, None, None, :].expand(A, N, U, N).clone()
    for n in range(N):
        actions[:, n, :, n] = torch.arange(U)
    state = state_AS[:, None, None, :].expand(A, N, U, -1)

    def joint(network: Joint, individual_ANU: Tensor) -> Tensor:
        at = individual_ANU[:, None, None].expand(A, N, U, N, U).gather(-1, actions.unsqueeze(-1))
        value_ANU: Tensor = network(at.squeeze(-1), state)
        return value_ANU.flatten(1)

    takes_part = available_ANU.clone()
    if greedy == "once":  # of the N rows that are the greedy joint action, the first agent's stays
        again = torch.zeros_like(takes_part).scatter(-1, best_AN.unsqueeze(-1), True)
        again[:, 0] = False
        takes_part &= ~again
    logits = (beta * joint(online, online_ANU)).masked_fill(~takes_part.flatten(1), -torch.inf)
    return (logits.softmax(-1) * joint(target, target_ANU)).sum(-1)


def full_softmax_value(
    online: Joint,
    target: Joint,
    online_ANU: Tensor,
    target_ANU: Tensor,
    available_ANU: Tensor,
    state_AS: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Return the softmax over all U^N joint actions, [A]: what the few stand for.

    Args:
        online: gives the weights.
        target: gives the values.
        online_ANU: individual values of the online agents.
        target_ANU: those of the target agents.
        available_ANU: bool.
        state_AS: the states.
        beta: sharpness, at least 0.
    """
    N, U = online_ANU.shape[1:]
    logits, values = [], []
    for joint_action in itertools.product(range(U), repeat=N):
        index = (slice(None), torch.arange(N), torch.tensor(joint_action))
        logit = beta * online(online_ANU[index], state_AS)
        logits.append(logit.masked_fill(~available_ANU[index].all(-1), -torch.inf))
        values.append(target(target_ANU[index], state_AS))
    return (torch.stack(logits, -1).softmax(-1) * torch.stack(values, -1)).sum(-1)


class RES(Learner):
    """The learner: acts, updates, and knows nothing of environments or replay.

    Args:
        config: hyper-parameters.
        spec: sizes of the environment.
        seed: of first weights and masks.

    Raises:
        ValueError: a sharpness or regulariser below 0, or a next value that it would not use.
    """

    name = "RES"
    config: RESConfig

    def __init__(self, config: RESConfig, spec: Spec, *, seed: int = 0) -> None:
        for field, value in (("beta", config.beta), ("regulariser", config.regulariser)):
            if not value >= 0.0:
                raise ValueError(f"{field} must be at least 0, got {value}")
        if config.next_value != "double":
            raise ValueError(
                f'RES has a softmax of its own, next_value="{config.next_value}" would do nothing: '
                "leave it out"
            )
        super().__init__(config, spec, seed=seed)

    def update(self, batch: EpisodeBatch) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update."""
        c = self.config
        inputs, state, network = self.batch_inputs(batch), self.state_of(batch), self.value.network
        q_TBNU = network.individual(inputs)
        total_TB = network(chosen(q_TBNU, batch), state[:-1])
        with torch.no_grad():
            target_TBNU = self.target.individual(inputs)
            next_TB = softmax_value(
                network,
                self.target,
                q_TBNU[1:].flatten(0, 1),
                target_TBNU[1:].flatten(0, 1),
                batch.available[1:].flatten(0, 1),
                state[1:].flatten(0, 1),
                beta=c.beta,
                greedy=c.greedy,
            ).view_as(batch.reward)
            y_TB = self.returns(next_TB, q_TBNU, batch)
            nothing = torch.zeros_like(next_TB)
            return_TB = td_lambda(
                batch.reward, batch.terminated, batch.filled, nothing, c.discount, 1.0
            )
        loss = masked_mean((total_TB - y_TB).square(), batch.filled)
        distance = masked_mean((total_TB - return_TB).square(), batch.filled)
        norm, moved = self.value.descend(loss + c.regulariser * distance)
        self.finish_update()
        return {
            "loss": loss.item(),
            "return_distance": distance.item(),
            "gradient_norm": norm,
            "target_mean": masked_mean(y_TB, batch.filled).item(),
        }, {f"value.{part}": update for part, update in moved.items()}
