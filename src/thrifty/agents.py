"""Agents for people: construct, learn, predict, save, load, in the manner of Stable-Baselines3.

An agent is a thin face over an in-memory :class:`thrifty.control.ControlExperiment`. Keyword names
are Stable-Baselines3's where a counterpart exists. By default an agent is RLx2's: sparse actor and
critic with an evolving topology, delayed multi-step targets and a replay of dynamic capacity;
``actor_sparsity=0, critic_sparsity=0, n_steps=1, dynamic_buffer=False`` is the plain algorithm.

Time constants (warm-up, evolution interval, n-step delay, replay checks) are fractions of the first
``learn`` call's length, see :mod:`thrifty.control.times`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

from thrifty.control import (
    ControlConfig,
    ControlExperiment,
    ReplayConfig,
    SACConfig,
    SACExperimentConfig,
    SparsityConfig,
    TD3Config,
    TD3ExperimentConfig,
)
from thrifty.control.times import scaled_times
from thrifty.rl.environments import Environments, Source
from thrifty.rl.evaluate import Evaluation, evaluate_policy
from thrifty.runs import load_state, read_checkpoint, read_run, save_state
from thrifty.runs.configuration import from_json, to_json
from thrifty.runs.progress import ProgressBar

AnyEnvironment = Source | VectorEnv[Any, Any, Any]
Record = dict[str, Any]
Callback = Callable[[Record], bool | None]
TopologyName = Literal["rigl", "set", "static"]
_FORMAT = "thrifty agent 1"
_ACTIVATION_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.LeakyReLU: "leaky_relu",
}


class Agent:
    """What TD3 and SAC agents share; use :class:`TD3` or :class:`SAC`."""

    _config_class: ClassVar[type[ControlConfig]]
    _algorithm_class: ClassVar[type[Any]]
    _policy_delay: int = 1

    def __init__(
        self,
        env: AnyEnvironment,
        *,
        learning_rate: float,
        buffer_size: int | None,
        learning_starts: int | None,
        batch_size: int,
        tau: float,
        gamma: float,
        train_freq: int,
        gradient_steps: int,
        n_steps: int,
        actor_sparsity: float,
        critic_sparsity: float,
        topology: TopologyName,
        dynamic_buffer: bool,
        policy_kwargs: Mapping[str, Any] | None,
        n_envs: int,
        seed: int,
        device: str,
        options: Mapping[str, Any],
    ) -> None:
        if topology not in ("rigl", "set", "static"):
            raise ValueError(f"unknown topology {topology!r}; choose rigl, set or static")
        self._env = env
        self._seed = seed
        self._topology = topology
        self._dynamic_buffer = dynamic_buffer
        self._buffer_size, self._learning_starts = buffer_size, learning_starts
        self._n_steps = n_steps
        self._algorithm = self._algorithm_class(
            learning_rate=learning_rate,
            batch_size=batch_size,
            tau=tau,
            discount=gamma,
            device=_device(device),
            actor=SparsityConfig(sparsity=actor_sparsity),
            critic=SparsityConfig(sparsity=critic_sparsity),
            **_networks(policy_kwargs or {}),
            **options,
        )
        self._run = {
            "environment": _name(env),
            "environments": n_envs,
            "train_freq": train_freq,
            "gradient_steps": gradient_steps,
        }
        self._planned = False
        # Built now, so that a mistake is told now; the lengths follow at the first learn().
        self._experiment = ControlExperiment(self._config(1_000_000), seed, env)

    def _config(self, steps: int, evaluate_every: int = 0) -> ControlConfig:
        """Return the run's configuration for a given length, time constants resolved."""
        times = scaled_times(
            steps, policy_delay=self._policy_delay, learning_starts=self._learning_starts
        )
        evolving = {
            "grow": "random" if self._topology == "set" else "gradient",
            "update_every": times.evolution_interval,
        }
        fixed = self._topology == "static"
        algorithm = dataclasses.replace(
            self._algorithm,
            actor=dataclasses.replace(
                self._algorithm.actor, **evolving, update_until=0 if fixed else times.actor_until
            ),
            critic=dataclasses.replace(
                self._algorithm.critic, **evolving, update_until=0 if fixed else times.critic_until
            ),
            n_step=self._n_steps,
            n_step_delay=times.n_step_delay if self._n_steps > 1 else 0,
        )
        return self._config_class(
            **self._run,
            algorithm=algorithm,
            steps=steps,
            learning_starts=times.learning_starts,
            evaluate_every=evaluate_every,
            random_episodes=0,
            record_every=times.record_every,
            replay=ReplayConfig(
                capacity=times.replay_maximum if self._buffer_size is None else self._buffer_size,
                check_every=times.check_every if self._dynamic_buffer else 0,
                minimum=times.replay_minimum,
            ),
        )

    # ------------------------------------------------------------------ using it

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | Sequence[Callback] | None = None,
        *,
        progress_bar: bool = False,
        evaluate_every: int = 0,
    ) -> Self:
        """Train for a number of environment steps.

        The first call fixes the time constants; later ones go on from there with the topology's
        schedule and the n-step switch as planned at first.

        Args:
            total_timesteps: environment steps to train for.
            callback: called with every record (a dict with "kind" and "step"); one that returns
                False stops the training. Or several.
            progress_bar: show progress on standard error.
            evaluate_every: steps between evaluations of 10 noise-free episodes, whose results
                arrive as "evaluation" records; needs an environment given by id or function.

        Returns:
            The agent.

        Raises:
            ValueError: an environment's fault (NaN), or evaluation without an environment for it.
        """
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be at least 1, got {total_timesteps}")
        if not self._planned:
            config = self._config(total_timesteps, evaluate_every)
            self._experiment = ControlExperiment(config, self._seed, self._env)
            self._planned = True
        else:
            self._experiment.extend(total_timesteps, evaluate_every)
        return self.resume(callback, progress_bar=progress_bar)

    def resume(
        self,
        callback: Callback | Sequence[Callback] | None = None,
        *,
        progress_bar: bool = False,
    ) -> Self:
        """Go on to the end that the last ``learn`` planned, exactly as if it had not stopped.

        Args:
            callback: as in :meth:`learn`.
            progress_bar: show progress on standard error.

        Raises:
            ValueError: nothing was planned yet.
        """
        if not self._planned:
            raise ValueError("nothing to resume: call learn(total_timesteps) first")
        callbacks = [callback] if callable(callback) else list(callback or ())
        experiment = self._experiment
        with ExitStack() as stack:
            bar: ProgressBar | None = None
            if progress_bar:
                bar = stack.enter_context(
                    ProgressBar(experiment.config.steps, start=experiment.step, force=True)
                )
            for record in experiment.records():
                if record is None:
                    continue
                if bar is not None:
                    bar.record(record)
                if not _goes_on(callbacks, record):
                    break
        return self

    def predict(
        self, observation: NDArray[Any], deterministic: bool = True
    ) -> tuple[NDArray[np.float32], None]:
        """Choose actions in the environment's own bounds.

        Args:
            observation: one observation [O] or several [B, O].
            deterministic: without exploration noise.

        Returns:
            action [A] or actions [B, A], and None (the place of a recurrent state).

        Raises:
            ValueError: the observation has another size.
        """
        environments = self._experiment.environments
        array = np.asarray(observation, np.float32)
        if array.ndim not in (1, 2) or array.shape[-1] != environments.observation_dim:
            raise ValueError(
                f"observation has shape {array.shape}, expected ({environments.observation_dim},) "
                f"or (batch, {environments.observation_dim})"
            )
        action, _ = self._experiment.learner.act(np.atleast_2d(array), explore=not deterministic)
        action = environments.to_bounds(action)
        return (action[0] if array.ndim == 1 else action), None

    def evaluate(
        self, episodes: int = 10, *, seed: int = 0, env: Source | None = None
    ) -> Evaluation:
        """Run noise-free episodes and return their undiscounted returns and lengths.

        Args:
            episodes: how many.
            seed: of the episodes.
            env: where to; by default a new copy of the training environment.

        Raises:
            ValueError: the agent was trained on an instance and ``env`` is missing.
        """
        source = self._env if env is None else env
        if isinstance(source, gym.Env | VectorEnv) and env is None:
            raise ValueError("the agent has no environment to spare: give env=... (an id)")
        environments = Environments(
            source, seed=seed, scale_actions=self._experiment.environments.scale_actions
        )
        try:
            return evaluate_policy(
                environments,
                lambda seen: self._experiment.learner.act(seen, explore=False)[0],
                episodes,
            )
        finally:
            if env is None:
                environments.close()

    @property
    def environment(self) -> str:
        """Return the id or name of the training environment."""
        return self._experiment.environments.name

    @property
    def num_timesteps(self) -> int:
        """Return how many environment steps the agent has trained for."""
        return self._experiment.step

    @property
    def sparsity(self) -> dict[str, float]:
        """Return the fraction of zero weights: actor, critic, all."""
        return self._experiment.sparsity()

    @property
    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs beside the dense twin's."""
        return self._experiment.learner.ledger()

    @property
    def learner(self) -> Any:
        """Return the algorithm behind the agent: networks, optimizers, topologies."""
        return self._experiment.learner

    # ------------------------------------------------------------------ files

    def save(self, path: Path | str) -> Path:
        """Write the whole agent (replay and running episode included) to one file, atomically.

        Args:
            path: the file; ``.npz`` is added if it has no suffix.

        Returns:
            The path written.
        """
        path = Path(path)
        path = path if path.suffix else path.with_suffix(".npz")
        tree = {
            "format": _FORMAT,
            "agent": type(self).__name__,
            "config": to_json(self._experiment.config),
            "seed": self._seed,
            "planned": self._planned,
            "choices": {
                "topology": self._topology,
                "dynamic_buffer": self._dynamic_buffer,
                "buffer_size": self._buffer_size,
                "learning_starts": self._learning_starts,
                "n_steps": self._n_steps,
            },
            "experiment": self._experiment.state_dict(),
        }
        save_state(path, tree)
        return path

    @classmethod
    def load(cls, path: Path | str, env: AnyEnvironment | None = None) -> Self:
        """Read an agent that :meth:`save` wrote.

        Args:
            path: the file.
            env: the environment; by default the id it was trained on.

        Returns:
            The agent; :meth:`resume` goes on where it was.

        Raises:
            ValueError: no such agent in the file, or a damaged file.
        """
        path = Path(path)
        if not path.exists() and path.with_suffix(".npz").exists():
            path = path.with_suffix(".npz")
        tree = load_state(path)
        if not isinstance(tree, dict) or tree.get("format") != _FORMAT:
            raise ValueError(f"{path} holds no agent: give a file that agent.save() wrote")
        if tree["agent"] != cls.__name__:
            raise ValueError(
                f"{path} holds a {tree['agent']} agent: use thrifty.{tree['agent']}.load"
            )
        config: Any = from_json(cls._config_class, tree["config"])
        agent = cls._over(config, tree["seed"], config.environment if env is None else env)
        for name, value in tree["choices"].items():
            setattr(agent, f"_{name}", value)
        agent._planned = tree["planned"]
        agent._experiment.load_state_dict(tree["experiment"])
        return agent

    @classmethod
    def _over(cls, config: Any, seed: int, env: AnyEnvironment) -> Self:
        """Return an agent around an experiment of the given configuration."""
        agent = cls.__new__(cls)
        agent._env, agent._seed, agent._algorithm = env, seed, config.algorithm
        agent._policy_delay = getattr(config.algorithm, "policy_delay", 1)
        agent._topology, agent._dynamic_buffer = "rigl", config.replay.check_every > 0
        agent._buffer_size, agent._learning_starts = config.replay.capacity, config.learning_starts
        agent._n_steps, agent._planned = config.algorithm.n_step, True
        agent._run = {
            name: getattr(config, name)
            for name in ("environment", "environments", "train_freq", "gradient_steps")
        }
        agent._experiment = ControlExperiment(config, seed, env)
        return agent


class TD3(Agent):
    """Sparse TD3 (RLx2 by default).

    Args:
        env: Gymnasium id, function that makes an environment, instance, or vector environment.
        learning_rate: of Adam.
        buffer_size: largest number of transitions; None is the length of the run.
        learning_starts: steps of random actions; None is 1/120 of the run, at least 1,000.
        batch_size: transitions in a minibatch.
        tau: step of the target networks.
        gamma: discount per step.
        train_freq: steps of all environments between rounds of updates.
        gradient_steps: updates in a round; -1 makes as many as transitions came in.
        policy_delay: critic updates per actor update.
        action_noise: standard deviation of exploration noise, in half action ranges.
        target_policy_noise: standard deviation of target noise, in half action ranges.
        target_noise_clip: largest target noise.
        n_steps: steps of the target after a tenth of the run; before that 1.
        actor_sparsity: fraction of zero weights of the actor, in [0, 1).
        critic_sparsity: the same for both critics.
        topology: how links move: "rigl" (by gradient), "set" (at random), "static" (not at all).
        dynamic_buffer: drop the oldest transitions while the policy disagrees with them.
        policy_kwargs: ``net_arch`` (widths, or {"pi": widths, "qf": widths}), ``activation_fn``
            (a torch.nn class or its name), ``layer_norm`` (bool, critics).
        n_envs: copies of the environment, where it is given by id or function.
        seed: everything random derives from it.
        device: "cpu", "cuda", or "auto".

    Raises:
        ValueError: an environment or a number that cannot work, with the remedy.

    Example:
        >>> agent = TD3("Pendulum-v1", learning_starts=100)
        >>> action, _ = agent.learn(150).predict(np.zeros(3), deterministic=True)
        >>> action.shape
        (1,)

    Reference: Fujimoto et al. (2018); RLx2 (Tan et al., ICLR 2023).
    """

    _config_class = TD3ExperimentConfig
    _algorithm_class = TD3Config

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
        policy_delay: int = 2,
        action_noise: float = 0.1,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        n_steps: int = 3,
        actor_sparsity: float = 0.9,
        critic_sparsity: float = 0.85,
        topology: TopologyName = "rigl",
        dynamic_buffer: bool = True,
        policy_kwargs: Mapping[str, Any] | None = None,
        n_envs: int = 1,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self._policy_delay = policy_delay
        super().__init__(
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            n_steps=n_steps,
            actor_sparsity=actor_sparsity,
            critic_sparsity=critic_sparsity,
            topology=topology,
            dynamic_buffer=dynamic_buffer,
            policy_kwargs=policy_kwargs,
            n_envs=n_envs,
            seed=seed,
            device=device,
            options={
                "policy_delay": policy_delay,
                "exploration_noise": action_noise,
                "target_noise": target_policy_noise,
                "target_noise_clip": target_noise_clip,
            },
        )


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

    Raises:
        ValueError: an environment or a number that cannot work, with the remedy.

    Example:
        >>> agent = SAC("Pendulum-v1", actor_sparsity=0.9, critic_sparsity=0.9)
        >>> agent.predict(np.zeros(3))[0].shape
        (1,)

    Reference: Haarnoja et al. (2018); RLx2 (Tan et al., ICLR 2023).
    """

    _config_class = SACExperimentConfig
    _algorithm_class = SACConfig

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
    ) -> None:
        first, learned = _entropy_coefficient(ent_coef)
        super().__init__(
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            n_steps=n_steps,
            actor_sparsity=actor_sparsity,
            critic_sparsity=critic_sparsity,
            topology=topology,
            dynamic_buffer=dynamic_buffer,
            policy_kwargs=policy_kwargs,
            n_envs=n_envs,
            seed=seed,
            device=device,
            options={
                "entropy_coefficient": first,
                "learn_entropy_coefficient": learned,
                "target_entropy": None if target_entropy == "auto" else float(target_entropy),
            },
        )


def load_run_policy(directory: Path | str) -> Agent:
    """Return the agent of a run's newest checkpoint, for prediction and evaluation.

    Args:
        directory: a run folder that ``thrifty train`` wrote.

    Raises:
        ValueError: no run, no checkpoint, or not a run of TD3 or SAC.
    """
    run = read_run(directory, "thrifty.recipes")
    checkpoint = read_checkpoint(directory)
    if checkpoint is None:
        raise ValueError(f"{directory} has no checkpoint yet; run: thrifty resume {directory}")
    config = run.config
    if not isinstance(config, ControlConfig):
        raise ValueError(f"{directory} is a run of {run.recipe}, which has no policy to play")
    kind = TD3 if isinstance(config, TD3ExperimentConfig) else SAC
    agent: Agent = kind._over(config, run.seed, config.environment)
    agent.learner.load_state_dict(checkpoint.experiment["learner"])
    return agent


def _goes_on(callbacks: Iterable[Callback], record: Record) -> bool:
    return all([callback(record) is not False for callback in callbacks])


def _device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError('device="cuda" but torch sees no GPU; use device="cpu"')
    return name


def _name(env: AnyEnvironment) -> str:
    if isinstance(env, str):
        return env
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else getattr(env, "__name__", type(env).__name__)


def _networks(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Translate Stable-Baselines3's policy_kwargs."""
    unknown = set(policy_kwargs) - {"net_arch", "activation_fn", "layer_norm"}
    if unknown:
        raise ValueError(
            f"policy_kwargs has unknown keys {sorted(unknown)}; "
            "it takes net_arch, activation_fn, layer_norm"
        )
    widths = policy_kwargs.get("net_arch", (256, 256))
    if isinstance(widths, Mapping):
        if set(widths) != {"pi", "qf"}:
            raise ValueError(f'net_arch takes {{"pi": widths, "qf": widths}}, got {dict(widths)}')
        actor, critic = widths["pi"], widths["qf"]
    else:
        actor = critic = widths
    activation = policy_kwargs.get("activation_fn", "relu")
    return {
        "actor_hidden": tuple(actor),
        "critic_hidden": tuple(critic),
        "activation": _ACTIVATION_NAMES.get(activation, activation),
        "critic_layer_norm": bool(policy_kwargs.get("layer_norm", False)),
    }


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
