"""Weighted QMIX: a second, unrestricted joint value tells QMIX which joint actions matter.

    Q*   unrestricted agents and mixer, trained on (Q*(s, u) - y)^2, not weighted
    Q    QMIX's, trained on w(s, u) (Q_tot(s, u) - y)^2
    y    built on Q*'s target network, at the greedy actions of QMIX's agents (or soft, for MAST)

    centrally weighted      w = 1 where u is the greedy joint action or y > Q*_target(s, greedy)
    optimistically weighted w = 1 where Q_tot(s, u) < y
    and w = ``weight`` elsewhere.

Each of the two networks has an optimizer of its own and its gradient clipped alone; the published
code has one optimizer over both, which with RMSprop differs by the clipping only.

References: Rashid et al. (2020), Weighted QMIX, section 4 and algorithm 1; MAST (Hu et al., NeurIPS
2024), algorithm 3: both networks sparse, one target for both losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from thrifty.marl.episodes import EpisodeBatch
from thrifty.marl.learner import (
    Learner,
    LearnerConfig,
    Target,
    Value,
    chosen,
    compiled_pair,
    greedy_actions,
    took_greedy,
)
from thrifty.marl.mixers import CentralMixer
from thrifty.marl.returns import masked_mean
from thrifty.marl.team import Spec
from thrifty.sparse import TopologyUpdate


@dataclass(frozen=True, kw_only=True, slots=True)
class WQMIXConfig(LearnerConfig):
    """Hyper-parameters of Weighted QMIX."""

    weighting: Literal["central", "optimistic"] = "optimistic"
    """Which joint actions count fully: CW-QMIX or OW-QMIX."""
    weight: float = 0.1
    """Weight of the other joint actions, in (0, 1]."""
    central_embed: int = 256
    """Width of the unrestricted mixer."""
    central_twin: int | None = None
    """Width of the dense unrestricted mixer that the ledger compares with; None is this run's."""

    def build(self, spec: Spec, *, seed: int) -> WQMIX:
        """Make the learner's networks, optimizers and topologies."""
        return WQMIX(self, spec, seed=seed)


def central_weights(
    y_TB: Tensor, greedy_target_TB: Tensor, is_greedy_TB: Tensor, weight: float
) -> Tensor:
    """Return CW-QMIX's weights, [T, B].

    Args:
        y_TB: targets.
        greedy_target_TB: Q*_target at the greedy joint action of QMIX's agents.
        is_greedy_TB: bool, the joint action taken is that one.
        weight: of what is neither.
    """
    return torch.where(is_greedy_TB | (y_TB > greedy_target_TB), 1.0, weight)


def optimistic_weights(y_TB: Tensor, total_TB: Tensor, weight: float) -> Tensor:
    """Return OW-QMIX's weights, [T, B]: 1 where Q_tot lies below its target."""
    return torch.where(total_TB < y_TB, 1.0, weight)


class WQMIX(Learner):
    """The learner: acts, updates, and knows nothing of environments or replay.

    Args:
        config: hyper-parameters.
        spec: sizes of the environment.
        seed: of first weights and masks.

    Raises:
        ValueError: a weight outside (0, 1].
    """

    config: WQMIXConfig

    def __init__(self, config: WQMIXConfig, spec: Spec, *, seed: int = 0) -> None:
        if not 0.0 < config.weight <= 1.0:
            raise ValueError(f"weight must lie in (0, 1], got {config.weight}")
        super().__init__(config, spec, seed=seed)
        self.central: Value
        self.central_target: Target
        self.central, self.central_target = self._network(
            lambda: CentralMixer(spec.agents, spec.state_dim, embed=config.central_embed),
            self._seeds[1],
        )

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return CW-QMIX or OW-QMIX."""
        return "CW-QMIX" if self.config.weighting == "central" else "OW-QMIX"

    def compile(self) -> None:
        """Let the engine compute updates and actions; state and links stay the reference's."""
        super().compile()
        self.central, self.central_target = compiled_pair(self.central, self.central_target)

    def pairs(self) -> dict[str, tuple[Value, Target]]:
        """Return both networks with their targets."""
        return {
            "value": (self.value, self.target),
            "central": (self.central, self.central_target),
        }

    def dense_twin(self) -> Learner:
        """Return a dense learner of the sizes that the ledger compares with."""
        twin = super().dense_twin()
        assert isinstance(twin, WQMIX)
        width = self.config.central_twin or self.config.central_embed
        return WQMIX(replace(twin.config, central_embed=width), self.spec)

    def update(self, batch: EpisodeBatch) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update of both networks."""
        inputs, state = self.batch_inputs(batch), self.state_of(batch)
        network, central = self.value.network, self.central.network
        q_TBNU = network.individual(inputs)
        total_TB = network(chosen(q_TBNU, batch), state[:-1])
        central_TBNU = central.individual(inputs)
        central_TB = central(chosen(central_TBNU, batch), state[:-1])
        with torch.no_grad():
            target_TBNU = self.central_target.individual(inputs)
            next_TBN = self.next_individual(target_TBNU, q_TBNU, batch)
            y_TB = self.returns(self.central_target(next_TBN, state[1:]), q_TBNU, batch)
            weight_TB = self._weights(batch, q_TBNU, total_TB, target_TBNU, state, y_TB)

        loss = masked_mean(weight_TB * (total_TB - y_TB).square(), batch.filled)
        norm, moved = self.value.descend(loss)
        central_loss = masked_mean((central_TB - y_TB).square(), batch.filled)
        central_norm, central_moved = self.central.descend(central_loss)
        self.finish_update()
        return {
            "loss": loss.item(),
            "central_loss": central_loss.item(),
            "gradient_norm": norm,
            "central_gradient_norm": central_norm,
            "target_mean": masked_mean(y_TB, batch.filled).item(),
            "weight_mean": masked_mean(weight_TB, batch.filled).item(),
        }, {f"value.{part}": update for part, update in moved.items()} | {
            f"central.{part}": update for part, update in central_moved.items()
        }

    def _weights(
        self,
        batch: EpisodeBatch,
        q_TBNU: Tensor,
        total_TB: Tensor,
        target_TBNU: Tensor,
        state: Tensor,
        y_TB: Tensor,
    ) -> Tensor:
        weight = self.config.weight
        if self.config.weighting == "optimistic":
            return optimistic_weights(y_TB, total_TB, weight)
        greedy_TBN = greedy_actions(q_TBNU[:-1], batch.available[:-1])
        at_greedy = target_TBNU[:-1].gather(-1, greedy_TBN.unsqueeze(-1)).squeeze(-1)
        return central_weights(
            y_TB, self.central_target(at_greedy, state[:-1]), took_greedy(q_TBNU, batch), weight
        )
