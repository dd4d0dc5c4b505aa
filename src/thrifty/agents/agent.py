"""What TD3 and SAC agents share: a thin face over an in-memory experiment."""

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
    SparsityConfig,
)
from thrifty.control.times import scaled_times
from thrifty.rl.environments import Environments, Source
from thrifty.rl.evaluate import Evaluation, evaluate_policy
from thrifty.runs import load_state, save_state
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
    """What TD3 and SAC agents share; use :class:`thrifty.TD3` or :class:`thrifty.SAC`."""

    _config_class: ClassVar[type[Any]]
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
            "environments": env.num_envs if isinstance(env, VectorEnv) else n_envs,
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
        config: ControlConfig = self._config_class(
            **self._run,
            algorithm=algorithm,
            steps=steps,
            scaling=times.scaling,
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
        return config

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
        array = np.array(observation, np.float32, order="C")  # torch wants it writable, unflipped
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
        try:
            agent = cls.over(config, tree["seed"], config.environment if env is None else env)
        except ValueError as problem:
            if env is not None:
                raise
            raise ValueError(
                f"{problem}: {path} was trained on an environment without a known id, "
                "give it with load(path, env=...)"
            ) from None
        for name, value in tree["choices"].items():
            setattr(agent, f"_{name}", value)
        agent._planned = tree["planned"]
        agent._experiment.load_state_dict(tree["experiment"])
        return agent

    @classmethod
    def over(cls, config: Any, seed: int, env: AnyEnvironment) -> Self:
        """Return an agent around an experiment of the given configuration.

        Args:
            config: of the class that belongs to this agent.
            seed: of the run.
            env: where it trains.
        """
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


def _goes_on(callbacks: Iterable[Callback], record: Record) -> bool:
    answers = [callback(record) for callback in callbacks]  # every one of them is told
    return all(answer is not False for answer in answers)


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
