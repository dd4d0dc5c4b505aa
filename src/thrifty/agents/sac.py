"""The SAC agent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from thrifty.agents.agent import (
    Agent,
    AnyEnvironment,
    BackendName,
    TopologyName,
    control_config,
    known_device,
    networks,
)
from thrifty.control import SACConfig, SparsityConfig


class SAC(Agent):
    """Sparse SAC with a learned temperature (RLx2 by default).

    Args:
        env: Gymnasium id, function that makes an environment, instance, or vector environment.
        learning_rate: of Adam.
        buffer_size: largest number of transitions; None is the length of the run.
        learning_starts: steps of random actions; None is 1/120 of the run, at least 1,000.
        batch_size: transitions in a minibatch.
        tau: step of the target critic.
        gamma: discount per step.
        train_freq: steps of all environments between rounds of updates.
        gradient_steps: updates in a round; -1 makes as many as transitions came in.
        ent_coef: "auto" (learned from 1), "auto_0.1" (learned from 0.1), or a fixed number.
        target_entropy: in nats; "auto" is minus the action size.
        n_steps: steps of the target after a tenth of the run; before that 1.
        actor_sparsity: fraction of zero weights of the actor, in [0, 1).
        critic_sparsity: the same for both critics.
        topology: how links move: "rigl" (by gradient), "set" (at random), "static" (not at all).
        dynamic_buffer: drop the oldest transitions while the policy disagrees with them.
        policy_kwargs: as for :class:`TD3`.
        n_envs: copies of the environment, where it is given by id or function.
        seed: everything random derives from it.
        device: "cpu", "cuda", or "auto".
        backend: what runs the updates: "engine" (compiled, on the links alone; CPU), "reference"
            (torch, masked dense), or "auto", the engine wherever it is faster.

    Raises:
        ValueError: an environment or a number that cannot work, with the remedy.

    Example:
        >>> agent = SAC("Pendulum-v1", actor_sparsity=0.9, critic_sparsity=0.9)
        >>> agent.predict(np.zeros(3))[0].shape
        (1,)

    Reference: Haarnoja et al. (2018); RLx2 (Tan et al., ICLR 2023).
    """

    def __init__(
        self,
        env: AnyEnvironment,
        *,
        learning_rate: float = 3e-4,
        buffer_size: int | None = None,
        learning_starts: int | None = None,
        batch_size: int = 256,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int = 1,
        gradient_steps: int = -1,
        ent_coef: float | str = "auto",
        target_entropy: float | Literal["auto"] = "auto",
        n_steps: int = 3,
        actor_sparsity: float = 0.9,
        critic_sparsity: float = 0.8,
        topology: TopologyName = "rigl",
        dynamic_buffer: bool = True,
        policy_kwargs: Mapping[str, Any] | None = None,
        n_envs: int = 1,
        seed: int = 0,
        device: str = "cpu",
        backend: BackendName = "auto",
    ) -> None:
        first, learned = _entropy_coefficient(ent_coef)
        algorithm = SACConfig(
            **networks(policy_kwargs or {}),
            learning_rate=learning_rate,
            batch_size=batch_size,
            tau=tau,
            discount=gamma,
            entropy_coefficient=first,
            learn_entropy_coefficient=learned,
            target_entropy=None if target_entropy == "auto" else float(target_entropy),
            n_step=n_steps,
            actor=SparsityConfig(sparsity=actor_sparsity),
            critic=SparsityConfig(sparsity=critic_sparsity),
            device=known_device(device),
        )
        config = control_config(
            algorithm,
            env,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            n_envs=n_envs,
            topology=topology,
            dynamic_buffer=dynamic_buffer,
            backend=backend,
        )
        super().__init__(env, config, seed)


def _entropy_coefficient(ent_coef: float | str) -> tuple[float, bool]:
    """Return the first temperature and whether it is learned."""
    if not isinstance(ent_coef, str):
        return float(ent_coef), False
    if ent_coef == "auto":
        return 1.0, True
    if ent_coef.startswith("auto_"):
        try:
            return float(ent_coef.removeprefix("auto_")), True
        except ValueError:
            pass
    raise ValueError(f'ent_coef must be a number, "auto" or "auto_NUMBER", got {ent_coef!r}')
