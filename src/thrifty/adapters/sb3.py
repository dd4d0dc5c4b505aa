"""Stable-Baselines3's own TD3 and SAC, sparse from the first step to the last.

    from thrifty.adapters.sb3 import sparsify_agent                         # 1
    model = TD3("MlpPolicy", env)
    sparsify_agent(model, steps=100_000, actor=0.9, critic=0.85)            # 2
    model.learn(100_000)
    model.save("agent.zip")
    model = TD3.load("agent.zip", env=env)                                  # plain SB3

Actor and critic get ER masks with weights drawn anew, and evolve as in RigL and RLx2 (Evci et al.
2020, Tan et al. 2023): PyTorch's step hooks of SB3's two optimizers exchange links and keep cut
weights at 0. No method of SB3 is replaced. `SparsePolicy` takes the place of the policy class,
which SB3 stores and calls when it loads; the masks are a module of the policy, `policy.sparsity`,
whose state is part of the policy's. So save, load, get_parameters and set_parameters carry them.

Targets carry the online masks from the start. They are imposed right after each optimizer step,
before SB3's Polyak average; that averages two tensors with equal masks, so a target never holds a
cut link. Where we differ from RLx2: links leave the target at the evolution step itself, not at
the Polyak update after it. Growth scores are clean, because SB3 zeroes a network's gradients right
before it differentiates that network's own loss.

Stable-Baselines3 goes on multiplying dense matrices: this shows what a sparse agent learns, it
saves no time. A policy saved alone, by `policy.save`, does not load as a dense policy: save the
agent and take its `policy`.

Of RLx2's value tricks, SB3 has n-step returns (`TD3(..., n_steps=3)`, recent releases); the delay
and the replay of dynamic capacity are in `thrifty.TD3` and `thrifty.SAC`. The zip file is SB3's
and contains pickles: load only files that you trust.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from thrifty.sparse import (
    Cosine,
    GrowthRule,
    SparsitySchedule,
    Static,
    Topology,
    TopologyEvolution,
    er,
    matrix_weights,
    sparsify,
)

if TYPE_CHECKING:
    from stable_baselines3 import SAC, TD3

__all__ = ["PolicySparsity", "SparsePolicy", "sparsify_agent"]


def sparsify_agent(
    model: TD3 | SAC,
    *,
    steps: int,
    actor: float = 0.9,
    critic: float = 0.85,
    update_every: int | None = None,
    drop_fraction: float = 0.5,
    grow: GrowthRule | None = None,
    seed: int | None = None,
) -> PolicySparsity:
    """Make a new TD3 or SAC agent of Stable-Baselines3 sparse in place, before its `learn`.

    Weights that actor and critic share (a common features extractor) stay dense, as does the
    entropy coefficient of SAC. Sparsity 0 leaves a network, and its training, as it is.

    Args:
        model: an agent that has not learned yet; DDPG is a TD3 here.
        steps: environment steps that the agent will learn for, as given to `learn`. Links move
            from the first update to the last of them, fewer and fewer along a cosine; 0 keeps the
            first topology.
        actor: fraction of the actor's weights to cut, in [0, 1).
        critic: fraction of the critics' weights to cut, in [0, 1).
        update_every: optimizer steps of a network between two exchanges of its links; default
            1/300 of the updates of `steps`, at least 500.
        drop_fraction: share of the links exchanged at first, in [0, 1].
        grow: rule that chooses new links, see `thrifty.sparse`; default the largest gradient.
        seed: of the first masks and of random growth; default the model's seed, or 0.

    Returns:
        The masks and their evolution, which are `model.policy.sparsity` from now on.

    Raises:
        ImportError: Stable-Baselines3 is not installed.
        ValueError: another kind of agent, an agent that has learned or is sparse already, or a
            number that cannot work.

    Example:
        >>> from stable_baselines3 import TD3
        >>> model = TD3("MlpPolicy", "Pendulum-v1")
        >>> sparsify_agent(model, steps=100_000, actor=0.9, critic=0.8)
        PolicySparsity(actor 0.900, critic 0.800)
    """
    try:
        from stable_baselines3 import SAC, TD3
    except ImportError as error:
        raise ImportError(
            'Stable-Baselines3 is not installed: pip install "thrifty[sb3]"'
        ) from error
    agent: Any = model
    kinds: tuple[type[Any], ...] = (TD3, SAC)
    if not isinstance(agent, kinds):
        raise ValueError(
            f"sparsify_agent takes Stable-Baselines3's TD3, DDPG or SAC, got "
            f"{type(model).__name__}: for other models use thrifty.sparse.sparsify and "
            "TopologyEvolution.attach on each network and its optimizer"
        )
    if isinstance(agent.policy_class, SparsePolicy):
        raise ValueError(
            "this agent is sparse already: its masks are model.policy.sparsity; make a new agent "
            "for other sparsities"
        )
    if agent._n_updates > 0:
        raise ValueError(
            "this agent has learned already, and its weights would be drawn anew: call "
            "sparsify_agent right after the agent is made, before learn()"
        )
    plan = SparsePolicy(
        policy_class=agent.policy_class,
        schedules=_schedules(
            agent,
            steps,
            sparsities={"actor": actor, "critic": critic},
            update_every=update_every,
            drop_fraction=drop_fraction,
        ),
        grow=grow,
        seed=(agent.seed or 0) if seed is None else seed,
    )
    sparsity = plan.impose(agent.policy)
    agent.policy_class = plan
    return sparsity


@dataclass(frozen=True)
class SparsePolicy:
    """Makes policies of a given class sparse; stands in an agent for the policy class.

    Stable-Baselines3 stores the policy class of an agent and calls it when it loads the agent.

    Args:
        policy_class: what makes the dense policy.
        schedules: by network, "actor" and "critic": sparsity and exchange of links, in optimizer
            steps of that network.
        grow: rule that chooses new links; None is the largest gradient.
        seed: of the first masks and of random growth.
    """

    policy_class: Callable[..., nn.Module]
    schedules: Mapping[str, SparsitySchedule]
    grow: GrowthRule | None
    seed: int

    def __call__(self, *args: Any, **kwargs: Any) -> nn.Module:
        """Make a policy with the arguments of its class; sparse, and not yet trained."""
        policy = self.policy_class(*args, **kwargs)
        self.impose(policy)
        return policy

    def impose(self, policy: nn.Module) -> PolicySparsity:
        """Make a policy sparse in place and return its masks, also found as `policy.sparsity`."""
        sparsity = PolicySparsity(policy, self.schedules, grow=self.grow, seed=self.seed)
        # The last child: a module loads its children in order, and masks come after weights.
        policy.add_module("sparsity", sparsity)
        return sparsity


class PolicySparsity(nn.Module):
    """Masks of a policy's networks and their evolution; a module for its place in the state.

    It has no parameters and computes nothing. Its state, part of the policy's `state_dict`, holds
    the masks, the first masks and the counted optimizer steps.

    Args:
        policy: has the networks as attributes, each with its `optimizer`, and targets by the name
            `<network>_target`, if any.
        schedules: by network.
        grow: see `SparsePolicy`.
        seed: see `SparsePolicy`.

    Attributes:
        topologies: by network, with `nnz`, `sparsity`, `survival` and the masks.
        evolutions: by network, with `steps` and `last_update`.
    """

    def __init__(
        self,
        policy: Any,
        schedules: Mapping[str, SparsitySchedule],
        *,
        grow: GrowthRule | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.topologies: dict[str, Topology] = {}
        self.evolutions: dict[str, TopologyEvolution] = {}
        # In a dict, so that the policy's state does not contain the targets twice.
        self._targets: dict[str, nn.Module] = {}
        owned = [{id(p) for p in getattr(policy, name).parameters()} for name in schedules]
        shared = set.intersection(*owned)

        def where(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
            return id(parameter) not in shared and matrix_weights(name, module, parameter)

        generator = torch.Generator().manual_seed(seed)
        for place, (name, schedule) in enumerate(schedules.items()):
            network = getattr(policy, name)
            topology = sparsify(
                network,
                sparsity=schedule.sparsity(0),
                allocate=er,
                where=where,
                generator=generator,
            )
            # Networks of equal shapes must not grow the same random links.
            evolution = TopologyEvolution(
                topology, schedule, grow=grow, seed=len(schedules) * seed + place
            )
            evolution.attach(network.optimizer)
            self.topologies[name], self.evolutions[name] = topology, evolution
            target = getattr(policy, f"{name}_target", None)
            if target is not None:
                target.load_state_dict(network.state_dict())
                topology.impose(target)
                self._targets[name] = target
                network.optimizer.register_step_post_hook(_imposing(topology, target))

    def get_extra_state(self) -> dict[str, Any]:
        """Return masks, first masks and counters of each network, for the policy's state."""
        return {
            name: {**self.topologies[name].state_dict(), **self.evolutions[name].state_dict()}
            for name in self.topologies
        }

    def set_extra_state(self, state: Any) -> None:
        """Take over masks and counters; PyTorch calls it when the policy has its weights."""
        for name, topology in self.topologies.items():
            topology.load_state_dict(state[name])
            self.evolutions[name].load_state_dict(state[name])
            if name in self._targets:
                topology.impose(self._targets[name])

    def __repr__(self) -> str:
        parts = [f"{name} {topology.sparsity:.3f}" for name, topology in self.topologies.items()]
        return f"PolicySparsity({', '.join(parts)})"


def _imposing(topology: Topology, target: nn.Module) -> Callable[..., None]:
    """Return a step post-hook that gives the target the masks that the network has now."""

    def hook(optimizer: Any, args: Any, kwargs: Any) -> None:
        topology.impose(target)

    return hook


def _schedules(
    agent: Any,
    steps: int,
    *,
    sparsities: Mapping[str, float],
    update_every: int | None,
    drop_fraction: float,
) -> dict[str, SparsitySchedule]:
    """Count the optimizer steps that follow from SB3's settings, and schedule each network."""
    if steps == 0:
        return {name: Static(sparsity) for name, sparsity in sparsities.items()}
    if steps <= agent.learning_starts:
        raise ValueError(
            f"steps is the length of the run and must exceed learning_starts "
            f"({agent.learning_starts}), got {steps}; 0 keeps the first topology"
        )
    updates_per_step = _updates_per_step(agent)
    updates = round((steps - agent.learning_starts) * updates_per_step)
    if update_every is None:
        update_every = max(500, round(steps * updates_per_step / 300))  # RLx2: 10,000 of 3e6
    delays = {"actor": getattr(agent, "policy_delay", 1), "critic": 1}
    return {
        name: Cosine(
            sparsity,
            drop_fraction,
            update_every=update_every,
            update_until=max(1, updates // delays[name]),
        )
        for name, sparsity in sparsities.items()
    }


def _updates_per_step(agent: Any) -> float:
    """Return the updates that SB3 makes for one environment step, after learning_starts."""
    if agent.gradient_steps < 0:
        return 1.0  # as many as steps were made
    frequency, unit = agent.train_freq
    if unit.value == "episode":
        raise ValueError(
            "with train_freq in episodes, the number of updates is not known beforehand: set "
            "gradient_steps=-1, or train_freq in steps"
        )
    return float(agent.gradient_steps / (frequency * agent.n_envs))
