"""Twin delayed deep deterministic policy gradient, dense or sparse, with multi-step targets.

One update, for a minibatch of windows of m <= n transitions (m as long as the episode allows):

    a'  = clip(pi'(s_m) + clip(noise, -c, c), -1, 1)                         target smoothing
    y   = sum_{k<m} gamma^k r_k + gamma^m (1 - terminated) min_i Q'_i(s_m, a')  n-step twin target
    Q_i <- Q_i - lr grad sum_i mean (Q_i(s, a) - y)^2                         critic, every update
    pi  <- pi + lr grad mean Q_1(s, pi(s))                                    every d-th update
    targets <- targets + tau (online - targets), then the online masks        every d-th update

n is 1 until ``n_step_delay`` updates and ``n_step`` from then on. Topologies move inside
``descend``. Legend: B batch, O observation size, A action size.

Where we differ from the papers: actions are normalised to [-1, 1] for every network (equal to the
original where the bounds are +-1); targets carry the masks from the start (``targets_at_start``).

References: Fujimoto et al. (2018), algorithm 1. RLx2 (Tan et al., ICLR 2023), algorithm 1,
sections 4.1 and 4.2.1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from thrifty.control.sparse_network import (
    SparseNetwork,
    SparsityConfig,
    check_targets,
    schedule_of,
    twin_shapes,
)
from thrifty.rl.exploration import perturb
from thrifty.rl.networks import Activation, DeterministicActor, FewRows, Initialisation, TwinCritic
from thrifty.rl.targets import polyak_update
from thrifty.rl.transitions import Batch
from thrifty.sparse import LayerCost, Ledger, TopologyUpdate, ratio, td3_training_flops

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class TD3Config:
    """Hyper-parameters of TD3."""

    actor_hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of the actor."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of each of the two critics."""
    activation: Activation = "relu"
    """Hidden activation."""
    critic_layer_norm: bool = False
    """LayerNorm before each hidden activation of the critics."""
    initialisation: Initialisation = "uniform"
    """First weights of dense layers: uniform (PyTorch's default) or orthogonal."""
    learning_rate: float = 3e-4
    """Step size of Adam, actor and critic."""
    batch_size: int = 256
    """Transitions in a minibatch."""
    discount: float = 0.99
    """Discount per environment step."""
    tau: float = 0.005
    """Step of the target networks."""
    policy_delay: int = 2
    """Critic updates per actor update."""
    exploration_noise: float = 0.1
    """Standard deviation of the noise on actions taken, in half action ranges."""
    target_noise: float = 0.2
    """Standard deviation of the target policy's noise, in half action ranges."""
    target_noise_clip: float = 0.5
    """Largest absolute target noise, in half action ranges."""
    n_step: int = 1
    """Steps of the target once the delay has passed."""
    n_step_delay: int | None = None
    """Updates before targets become n-step; None is a tenth of the run's, or 0 outside of a run."""
    targets_at_start: Literal["masked", "dense"] = "masked"
    """Whether target networks start sparse; the published code leaves them dense until the first
    soft update."""
    actor: SparsityConfig = field(default_factory=SparsityConfig)
    """Sparsity of the actor."""
    critic: SparsityConfig = field(default_factory=SparsityConfig)
    """Sparsity of both critics, one pool of links."""
    dense_twin_hidden: tuple[int, ...] | None = None
    """Hidden widths of the dense agent that the ledger compares with; None is this agent's own."""
    device: str = "cpu"
    """Torch device of the updates."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating type of networks and updates."""

    def build(self, observation_dim: int, action_dim: int, *, seed: int) -> TD3:
        """Make the agent's networks, optimizers and topologies."""
        return TD3(self, observation_dim, action_dim, seed=seed)


class TD3:
    """The learner: acts, updates, and knows nothing of environments or replay.

    Args:
        config: hyper-parameters.
        observation_dim: O.
        action_dim: A.
        seed: of first weights, masks and noise.
    """

    name = "TD3"

    def __init__(
        self, config: TD3Config, observation_dim: int, action_dim: int, *, seed: int = 0
    ) -> None:
        self.config = config
        check_targets(config.targets_at_start, config.actor, config.critic)
        self.device = torch.device(config.device)
        self.dtype = getattr(torch, config.dtype)
        seeds = np.random.SeedSequence(seed).generate_state(4, np.uint32).tolist()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds[0])
            actor = DeterministicActor(
                observation_dim,
                action_dim,
                hidden=config.actor_hidden,
                activation=config.activation,
                initialisation=config.initialisation,
            ).to(self.device, self.dtype)
            critic = TwinCritic(
                observation_dim,
                action_dim,
                hidden=config.critic_hidden,
                activation=config.activation,
                layer_norm=config.critic_layer_norm,
                initialisation=config.initialisation,
            ).to(self.device, self.dtype)
        self.actor_target, self.critic_target = copy.deepcopy(actor), copy.deepcopy(critic)
        rate = config.learning_rate
        self.actor = SparseNetwork(actor, config.actor, learning_rate=rate, seed=seeds[1])
        self.critic = SparseNetwork(critic, config.critic, learning_rate=rate, seed=seeds[2])
        if config.targets_at_start == "masked":
            polyak_update(actor, self.actor_target, 1.0)
            polyak_update(critic, self.critic_target, 1.0)
        self.perceptron: Callable[[Tensor], Tensor] = FewRows(actor.net)
        self.generator = torch.Generator().manual_seed(seeds[3])
        self.updates = 0

    @property
    def n_step(self) -> int:
        """Return the length of the windows that the next update wants."""
        return self.config.n_step if self.updates + 1 >= (self.config.n_step_delay or 0) else 1

    @torch.no_grad()
    def policy(self, observation_BO: Tensor) -> Tensor:
        """Return the noise-free normalised actions, [B, A]."""
        action = torch.tanh(self.perceptron(observation_BO.to(self.device, self.dtype)))
        return action.to("cpu", torch.float32)

    def act(
        self, observation_EO: Floats, *, explore: bool, generator: torch.Generator | None = None
    ) -> tuple[Floats, Floats]:
        """Choose normalised actions.

        Args:
            observation_EO: observations, float32 [E, O].
            explore: add exploration noise.
            generator: of the noise; by default the training's own.

        Returns:
            the actions to take and the noise-free ones, float32 [E, A] each.
        """
        mean = self.policy(torch.from_numpy(observation_EO))
        if not explore:
            return mean.numpy(), mean.numpy()
        noise = torch.randn(mean.shape, generator=generator or self.generator)
        return perturb(mean, noise, self.config.exploration_noise, None).numpy(), mean.numpy()

    def update(
        self, batch: Batch, noise_BA: Tensor | None = None
    ) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update of the critics and, every ``policy_delay``-th time, of the actor.

        Args:
            batch: windows of ``self.n_step`` transitions.
            noise_BA: standard normal draws for target smoothing; drawn here by default.

        Returns:
            losses by name, and what moved in the topologies by network.
        """
        c = self.config
        if noise_BA is None:
            noise_BA = torch.randn(batch.action.shape, generator=self.generator)
        batch, noise_BA = batch.to(self.device, self.dtype), noise_BA.to(self.device, self.dtype)
        self.updates += 1
        moved: dict[str, TopologyUpdate | None] = {}

        with torch.no_grad():
            next_action_BA = self.actor_target(batch.next_observation)
            next_action_BA = perturb(next_action_BA, noise_BA, c.target_noise, c.target_noise_clip)
            q1_B, q2_B = self.critic_target(batch.next_observation, next_action_BA)
            target_B = batch.n_step_return + batch.discount * torch.minimum(q1_B, q2_B)

        q1_B, q2_B = self.critic.module(batch.observation, batch.action)
        critic_loss = F.mse_loss(q1_B, target_B) + F.mse_loss(q2_B, target_B)
        moved["critic"] = self.critic.descend(critic_loss)
        if moved["critic"] is not None:  # a target never holds a link that the network lost
            self.critic.topology.impose(self.critic_target)
        losses = {"critic_loss": critic_loss.item()}

        if self.updates % c.policy_delay == 0:
            action_BA = self.actor.module(batch.observation)
            actor_loss = -self.critic.module.first(batch.observation, action_BA).mean()
            moved["actor"] = self.actor.descend(actor_loss)
            losses["actor_loss"] = actor_loss.item()
            polyak_update(self.critic.module, self.critic_target, c.tau)
            polyak_update(self.actor.module, self.actor_target, c.tau)
            self.critic.topology.impose(self.critic_target)
            self.actor.topology.impose(self.actor_target)
        return losses, {network: update for network, update in moved.items() if update is not None}

    def plan(self, config: TD3Config) -> None:
        """Take over the time constants of a run that begins: n-step delay and schedules."""
        self.config = config
        self.actor.evolution.schedule = schedule_of(config.actor)
        self.critic.evolution.schedule = schedule_of(config.critic)

    def networks(self) -> dict[str, SparseNetwork[Any]]:
        """Return the sparse networks by name."""
        return {"actor": self.actor, "critic": self.critic}

    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs beside the dense twin's; targets included, weights only."""
        ledger = Ledger(
            self._costs(),
            copies={"actor": 2, "critic": 2},
        )
        actor, critic = ledger.forward_flops("actor"), ledger.forward_flops("critic")
        batch, delay = self.config.batch_size, self.config.policy_delay
        return {
            "parameters": ledger.parameters(),
            "training_flops": ratio(
                td3_training_flops(actor["dense"], critic["dense"] / 2, batch, delay),
                td3_training_flops(actor["sparse"], critic["sparse"] / 2, batch, delay),
            ),
            "inference_flops": actor,
            "rows": [asdict(row) for row in ledger.rows],
        }

    def _costs(self) -> tuple[LayerCost, ...]:
        hidden = self.config.dense_twin_hidden
        if hidden is None:
            return self.actor.costs("actor") + self.critic.costs("critic")
        actor, critic = self.actor.module, self.critic.module
        return self.actor.costs("actor", twin_shapes(actor, hidden)) + self.critic.costs(
            "critic", twin_shapes(critic, hidden)
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "updates": self.updates,
            "actor": self.actor.state_dict(),
            "critic": self.critic.state_dict(),
            "actor_target": dict(self.actor_target.state_dict()),
            "critic_target": dict(self.critic_target.state_dict()),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.updates = state["updates"]
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.actor_target.load_state_dict(state["actor_target"])
        self.critic_target.load_state_dict(state["critic_target"])
        self.generator.set_state(state["generator"])
