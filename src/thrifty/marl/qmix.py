"""QMIX and VDN, dense or sparse, with lambda returns and MAST's soft targets.

One update, for a minibatch of padded episodes:

    Q_tot(s_t, u_t) = f_s( Q_1(tau_1, u_1), ..., Q_N(tau_N, u_N) )
    V_{t+1}         = f'_s'( v_1, ..., v_N ),  v_n the target agent's next value (``next_value``)
    y_t             = one-step, n-step or lambda return of rewards and V
    minimise          mean (Q_tot - y)^2 over the steps that took place
    targets <- online every ``target_every`` updates

With ``mixer="vdn"`` f is the sum. MAST is ``td_lambda``, ``next_value="soft_mellowmax"`` and
``recent_batch`` together, on networks whose links move inside ``descend``.

Where we differ from the published code: Adam by default, and the hypernetworks' last layers start
small (`thrifty.marl.mixers`).

References: Rashid et al. (2018), QMIX, equation 6; Sunehag et al. (2017), VDN; MAST (Hu et al.,
NeurIPS 2024), algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from thrifty.marl.episodes import EpisodeBatch
from thrifty.marl.learner import Learner, LearnerConfig, chosen
from thrifty.marl.returns import masked_mean
from thrifty.marl.team import Spec
from thrifty.sparse import TopologyUpdate


@dataclass(frozen=True, kw_only=True, slots=True)
class QMIXConfig(LearnerConfig):
    """Hyper-parameters of QMIX and VDN."""

    def build(self, spec: Spec, *, seed: int) -> QMIX:
        """Make the learner's networks, optimizers and topologies."""
        return QMIX(self, spec, seed=seed)


class QMIX(Learner):
    """The learner: acts, updates, and knows nothing of environments or replay.

    Args:
        config: hyper-parameters.
        spec: sizes of the environment.
        seed: of first weights and masks.
    """

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return QMIX or VDN."""
        return self.config.mixer.upper()

    def update(self, batch: EpisodeBatch) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update."""
        inputs, state, network = self.batch_inputs(batch), self.state_of(batch), self.value.network
        q_TBNU = network.individual(inputs)
        total_TB = network(chosen(q_TBNU, batch), state[:-1])
        with torch.no_grad():
            target_TBNU = self.target.individual(inputs)
            next_TBN = self.next_individual(target_TBNU, q_TBNU, batch)
            y_TB = self.returns(self.target(next_TBN, state[1:]), q_TBNU, batch)
        loss = masked_mean((total_TB - y_TB).square(), batch.filled)
        norm, moved = self.value.descend(loss)
        self.finish_update()
        return {
            "loss": loss.item(),
            "gradient_norm": norm,
            "target_mean": masked_mean(y_TB, batch.filled).item(),
        }, {f"value.{part}": update for part, update in moved.items()}
