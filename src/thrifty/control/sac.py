"""Soft actor-critic with a learned temperature, dense or sparse, with multi-step targets.

One update, for a minibatch of windows of m <= n transitions with fresh actions a~_k ~ pi(s_k):

    log alpha <- minimise -log alpha (log pi(a~|s) + target entropy)          temperature
    y   = sum_{k<m} gamma^k r_k - alpha sum_{1<=k<=m} gamma^k alive_k log pi(a~_k|s_k)
          + gamma^m alive_m min_i Q'_i(s_m, a~_m)                             soft n-step target
    Q_i <- Q_i - lr grad 1/2 sum_i mean (Q_i(s, a) - y)^2                     critic
    pi  <- pi - lr grad mean (alpha log pi(a~|s) - min_i Q_i(s, a~))          actor
    Q'  <- Q' + tau (Q - Q'), then the online masks                           every update

alive_k is 0 after a termination. The temperature inside a target is the one before its own step.
Legend: B batch, N window length, O observation size, A action size.

Where we differ from the published code of RLx2: actions, not pre-tanh outputs, are scaled to the
bounds (``action_scale``); growth scores see the critic's loss only (``critic_score``: the released
hooks add the stale gradient of the actor loss that precedes an evolution step, weighted here by
1/2 as the critic loss is); windows are vectorised; the loss carries the factor 1/2 and the order
temperature, critic, actor that users know from Stable-Baselines3.

References: Haarnoja et al. (2018), "Soft actor-critic algorithms and applications". RLx2 (Tan et
al., ICLR 2023), section 5.
"""

from __future__ import annotations

import copy
import math
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
from thrifty.rl.networks import Activation, FewRows, GaussianActor, Initialisation, TwinCritic
from thrifty.rl.targets import polyak_update
from thrifty.rl.transitions import Batch
from thrifty.sparse import LayerCost, Ledger, TopologyUpdate, ratio, sac_training_flops

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class SACConfig:
    """Hyper-parameters of SAC."""

    actor_hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of the actor."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Hidden widths of each of the two critics."""
    activation: Activation = "relu"
    """Hidden activation."""
    critic_layer_norm: bool = False
    """LayerNorm before each hidden activation of the critics."""
    initialisation: Initialisation = "uniform"
    """First weights of dense layers: uniform (PyTorch's default) or orthogonal (published)."""
    learning_rate: float = 3e-4
    """Step size of Adam: actor, critic and temperature."""
    batch_size: int = 256
    """Transitions in a minibatch."""
    discount: float = 0.99
    """Discount per environment step."""
    tau: float = 0.005
    """Step of the target critic."""
    entropy_coefficient: float = 1.0
    """First temperature alpha."""
    learn_entropy_coefficient: bool = True
    """Whether the temperature is learned."""
    target_entropy: float | None = None
    """Entropy that the temperature aims at, in nats; None is minus the action size."""
    log_std_bounds: tuple[float, float] = (-5.0, 2.0)
    """Smallest and largest log standard deviation before the tanh."""
    log_std_squash: Literal["tanh", "clamp"] = "tanh"
    """How the log standard deviation is kept in its bounds."""
    squash_epsilon: float = 0.0
    """Added inside the logarithm of the tanh's slope; 0 is the exact form."""
    action_scale: Literal["action", "pre_tanh"] = "action"
    """What is scaled to the action bounds; the published code scales before the tanh."""
    pre_tanh_scale: float = 1.0
    """The factor before the tanh where ``action_scale`` is pre_tanh: the largest action."""
    n_step: int = 1
    """Steps of the target once the delay has passed."""
    n_step_delay: int | None = None
    """Updates before targets become n-step; None is a tenth of the run's, or 0 outside of a run."""
    targets_at_start: Literal["masked", "dense"] = "masked"
    """Whether the target critic starts sparse; the published code leaves it dense until the first
    soft update."""
    critic_score: Literal["critic_loss", "with_stale_actor_gradient"] = "critic_loss"
    """Gradient behind the critic's growth score; the published hooks add a stale one."""
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

    def build(self, observation_dim: int, action_dim: int, *, seed: int) -> SAC:
        """Make the agent's networks, optimizers and topologies."""
        return SAC(self, observation_dim, action_dim, seed=seed)


class SAC:
    """The learner: acts, updates, and knows nothing of environments or replay.

    Args:
        config: hyper-parameters.
        observation_dim: O.
        action_dim: A.
        seed: of first weights, masks and noise.
    """

    name = "SAC"

    def __init__(
        self, config: SACConfig, observation_dim: int, action_dim: int, *, seed: int = 0
    ) -> None:
        self.config = config
        check_targets(config.targets_at_start, config.actor, config.critic)
        self.device = torch.device(config.device)
        self.dtype = getattr(torch, config.dtype)
        seeds = np.random.SeedSequence(seed).generate_state(4, np.uint32).tolist()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds[0])
            actor = GaussianActor(
                observation_dim,
                action_dim,
                hidden=config.actor_hidden,
                activation=config.activation,
                initialisation=config.initialisation,
                log_std_bounds=config.log_std_bounds,
                log_std_squash=config.log_std_squash,
                pre_tanh_scale=(
                    config.pre_tanh_scale if config.action_scale == "pre_tanh" else 1.0
                ),
                squash_epsilon=config.squash_epsilon,
            ).to(self.device, self.dtype)
            critic = TwinCritic(
                observation_dim,
                action_dim,
                hidden=config.critic_hidden,
                activation=config.activation,
                layer_norm=config.critic_layer_norm,
                initialisation=config.initialisation,
            ).to(self.device, self.dtype)
        self.critic_target = copy.deepcopy(critic)
        rate = config.learning_rate
        self.actor = SparseNetwork(actor, config.actor, learning_rate=rate, seed=seeds[1])
        self.critic = SparseNetwork(critic, config.critic, learning_rate=rate, seed=seeds[2])
        if config.targets_at_start == "masked":
            polyak_update(critic, self.critic_target, 1.0)
        if config.target_entropy is None:
            self.target_entropy = -float(action_dim)
        else:
            self.target_entropy = config.target_entropy
        alpha = config.entropy_coefficient
        self.log_alpha = torch.tensor(
            math.log(alpha) if alpha > 0.0 else -math.inf, dtype=self.dtype, device=self.device
        ).requires_grad_(config.learn_entropy_coefficient)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], lr=rate)
        self.stale_gradient: dict[str, Tensor] = {}
        self.perceptron: Callable[[Tensor], Tensor] = FewRows(actor.net)
        self.generator = torch.Generator().manual_seed(seeds[3])
        self.updates = 0

    @property
    def n_step(self) -> int:
        """Return the length of the windows that the next update wants."""
        return self.config.n_step if self.updates + 1 >= (self.config.n_step_delay or 0) else 1

    @torch.no_grad()
    def policy(self, observation_BO: Tensor) -> Tensor:
        """Return the noise-free normalised actions tanh(mean), [B, A]."""
        output = self.perceptron(observation_BO.to(self.device, self.dtype))
        return torch.tanh(self.actor.module.split(output)[0]).to("cpu", torch.float32)

    @torch.no_grad()
    def act(
        self, observation_EO: Floats, *, explore: bool, generator: torch.Generator | None = None
    ) -> tuple[Floats, Floats]:
        """Choose normalised actions.

        Args:
            observation_EO: observations, float32 [E, O].
            explore: draw from the policy instead of taking its mean.
            generator: of the draws; by default the training's own.

        Returns:
            the actions to take and the noise-free ones, float32 [E, A] each.
        """
        observation = torch.from_numpy(observation_EO).to(self.device, self.dtype)
        mean, log_std = self.actor.module.split(self.perceptron(observation))
        action = quiet = torch.tanh(mean)
        if explore:
            noise = torch.randn(mean.shape, generator=generator or self.generator)
            noise = noise.to(self.device, self.dtype)
            action = torch.tanh(mean + log_std.exp() * noise)
        return action.to("cpu", torch.float32).numpy(), quiet.to("cpu", torch.float32).numpy()

    def update(
        self, batch: Batch, noise_BA: Tensor | None = None, path_noise_NBA: Tensor | None = None
    ) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update of temperature, critics, actor and target.

        Args:
            batch: windows of ``self.n_step`` transitions.
            noise_BA: standard normal draws for the actions at s; drawn here by default.
            path_noise_NBA: the same for the next states of the window.

        Returns:
            losses by name, and what moved in the topologies by network.
        """
        n = batch.path_discount.shape[0]
        if noise_BA is None:
            noise_BA = torch.randn(batch.action.shape, generator=self.generator)
        if path_noise_NBA is None:
            path_noise_NBA = torch.randn((n, *batch.action.shape), generator=self.generator)
        batch = batch.to(self.device, self.dtype)
        noise_BA = noise_BA.to(self.device, self.dtype)
        path_noise_NBA = path_noise_NBA.to(self.device, self.dtype)
        self.updates += 1

        action_BA, log_pi_B = self.actor.module.sample(batch.observation, noise_BA)
        alpha = self.log_alpha.detach().exp()
        if self.config.learn_entropy_coefficient:
            alpha_loss = -(self.log_alpha * (log_pi_B + self.target_entropy).detach()).mean()
            self.alpha_optimizer.zero_grad(set_to_none=True)
            alpha_loss.backward()
            self.alpha_optimizer.step()

        target_B = self.soft_target(batch, alpha, path_noise_NBA)
        q1_B, q2_B = self.critic.module(batch.observation, batch.action)
        critic_loss = 0.5 * (F.mse_loss(q1_B, target_B) + F.mse_loss(q2_B, target_B))
        critic_moved = self.critic.descend(critic_loss, extra_gradient=self.stale_gradient)

        q1_B, q2_B = self.critic.module(batch.observation, action_BA)
        actor_loss = (alpha * log_pi_B - torch.minimum(q1_B, q2_B)).mean()
        self._keep_stale_gradient(actor_loss)
        actor_moved = self.actor.descend(actor_loss)
        polyak_update(self.critic.module, self.critic_target, self.config.tau)
        self.critic.topology.impose(self.critic_target)

        losses = {
            "critic_loss": critic_loss.item(),
            "actor_loss": actor_loss.item(),
            "entropy_coefficient": alpha.item(),
        }
        moved = {"critic": critic_moved, "actor": actor_moved}
        return losses, {network: update for network, update in moved.items() if update is not None}

    @torch.no_grad()
    def soft_target(self, batch: Batch, alpha: Tensor, path_noise_NBA: Tensor) -> Tensor:
        """Return the soft n-step targets y of a batch, [B].

        Args:
            batch: windows of N transitions.
            alpha: temperature, scalar.
            path_noise_NBA: standard normal draws for the fresh actions.
        """
        path_action_NBA, log_pi_NB = self.actor.module.sample(
            batch.path_observation, path_noise_NBA
        )
        # The last transition of a window is the last one with a weight, or a termination with none.
        last_B = (batch.path_discount > 0).sum(dim=0).clamp(min=1) - 1
        next_action_BA = path_action_NBA[last_B, torch.arange(len(last_B), device=self.device)]
        q1_B, q2_B = self.critic_target(batch.next_observation, next_action_BA)
        entropy_B = -alpha * (batch.path_discount * log_pi_NB).sum(dim=0)
        return batch.n_step_return + entropy_B + batch.discount * torch.minimum(q1_B, q2_B)

    def _keep_stale_gradient(self, actor_loss: Tensor) -> None:
        """Hold the actor loss's gradient in the critic if the published growth score wants it."""
        self.stale_gradient = {}
        evolution = self.critic.evolution
        names = self.critic.topology.names
        due = bool(names) and evolution.schedule.is_due(evolution.steps + 1)
        if self.config.critic_score == "critic_loss" or not due:
            return
        gradients = torch.autograd.grad(
            actor_loss, [self.critic.topology.parameter(name) for name in names], retain_graph=True
        )
        self.stale_gradient = {n: 0.5 * g for n, g in zip(names, gradients, strict=True)}

    def plan(self, config: SACConfig) -> None:
        """Take over the time constants of a run that begins: n-step delay and schedules."""
        self.config = config
        self.actor.evolution.schedule = schedule_of(config.actor)
        self.critic.evolution.schedule = schedule_of(config.critic)

    def networks(self) -> dict[str, SparseNetwork[Any]]:
        """Return the sparse networks by name."""
        return {"actor": self.actor, "critic": self.critic}

    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs beside the dense twin's; targets included, weights only.

        The dense twin is the plain algorithm, whose targets look one step ahead.
        """
        ledger = Ledger(self._costs(), copies={"critic": 2})
        actor, critic = ledger.forward_flops("actor"), ledger.forward_flops("critic")
        batch, n = self.config.batch_size, self.config.n_step
        return {
            "parameters": ledger.parameters(),
            "training_flops": ratio(
                sac_training_flops(actor["dense"], critic["dense"] / 2, batch),
                sac_training_flops(actor["sparse"], critic["sparse"] / 2, batch, n),
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
            "critic_target": dict(self.critic_target.state_dict()),
            "log_alpha": self.log_alpha.detach(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "stale_gradient": dict(self.stale_gradient),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.updates = state["updates"]
        self.actor.load_state_dict(state["actor"])
        self.critic.load_state_dict(state["critic"])
        self.critic_target.load_state_dict(state["critic_target"])
        with torch.no_grad():
            self.log_alpha.copy_(state["log_alpha"])
        self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        held = state["stale_gradient"]  # a file brings it back on the CPU
        self.stale_gradient = {name: gradient.to(self.device) for name, gradient in held.items()}
        self.generator.set_state(state["generator"])
