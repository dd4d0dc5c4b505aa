"""What TD3 and SAC agents share: a thin face over an in-memory experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

from thrifty.agents import saved
from thrifty.control import (
    ControlConfig,
    ControlExperiment,
    ReplayConfig,
    SACConfig,
    TD3Config,
)
from thrifty.rl.environments import Environments, Source
from thrifty.rl.evaluate import Evaluation, evaluate_policy
from thrifty.runs import Callback, Record
from thrifty.runs.configuration import from_json, to_json
from thrifty.runs.interruption import Interruption
from thrifty.runs.progress import ProgressBar

AnyEnvironment = Source | VectorEnv[Any, Any, Any]
TopologyName = Literal["rigl", "set", "static"]
BackendName = Literal["auto", "reference", "engine"]
_ACTIVATION_NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.ELU: "elu",
    nn.SiLU: "silu",
    nn.GELU: "gelu",
    nn.LeakyReLU: "leaky_relu",
}


class Agent:
    """What TD3 and SAC agents share; use :class:`thrifty.TD3` or :class:`thrifty.SAC`.

    Args:
        env: id, function, instance or vector environment.
        config: of the run; its length and time constants follow at the first :meth:`learn`.
        seed: everything random derives from it.
    """

    def __init__(self, env: AnyEnvironment, config: ControlConfig, seed: int) -> None:
        self._env = env
        self._config = config
        self._seed = seed
        self._planned = False
        self._learner_is_out = False  # somebody holds the learner, and may change it
        self._experiment = ControlExperiment(config, seed, env)
        self._generator = torch.Generator().manual_seed(seed)  # of predictions, not of training

    def __repr__(self) -> str:
        told = f"{self.num_timesteps} steps, sparsity {self.sparsity['all']:.3f}"
        return f"{type(self).__name__}({self.environment!r}, {told})"

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
            config = dataclasses.replace(
                self._config, steps=total_timesteps, evaluate_every=evaluate_every
            )
            self._experiment.plan(config)
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
            KeyboardInterrupt: Ctrl-C; the agent is whole and can be saved or resumed.
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
            interruption = stack.enter_context(Interruption())
            if experiment.compiled is not None:
                experiment.compiled.reclaim()
                stack.callback(self._return_learner)
            for record in experiment.records():
                if record is not None:
                    if bar is not None:
                        bar.record(record)
                    if not _goes_on(callbacks, record):
                        break
                    if experiment.compiled is not None:
                        experiment.compiled.reclaim()  # callbacks may have looked at the learner
                if interruption.requested:
                    raise KeyboardInterrupt
        return self

    def _return_learner(self) -> None:
        """Bring a learner up to date that somebody holds."""
        if self._learner_is_out and self._experiment.compiled is not None:
            self._experiment.compiled.lend()

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
        action, _ = self._experiment.learner.act(
            np.atleast_2d(array), explore=not deterministic, generator=self._generator
        )
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
            ValueError: the agent was trained on an instance and ``env`` is missing, or ``env`` has
                other observation or action sizes.
        """
        source = self._env if env is None else env
        if isinstance(source, gym.Env | VectorEnv) and env is None:
            raise ValueError("the agent has no environment to spare: give env=... (an id)")
        ours = self._experiment.environments
        environments = Environments(source, seed=seed, scale_actions=ours.scale_actions)
        sizes = environments.observation_dim, environments.action_dim
        if sizes != (ours.observation_dim, ours.action_dim):
            raise ValueError(
                f"{environments.name} has {sizes[0]} observations and {sizes[1]} actions, this "
                f"agent {ours.observation_dim} and {ours.action_dim}: give an env of its sizes"
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
        """Return the algorithm behind the agent: networks, optimizers, topologies.

        What is changed there counts from the next :meth:`learn`, :meth:`predict` or callback on.
        """
        compiled = self._experiment.compiled
        if compiled is None:
            return self._experiment.learner
        self._learner_is_out = True
        return compiled.lend()

    def save(self, path: Path | str) -> Path:
        """Write the whole agent (replay and running episode included) to one file, atomically.

        Args:
            path: the file; ``.npz`` is added if it has no suffix.

        Returns:
            The path written.
        """
        return saved.write(
            path,
            type(self),
            "agent",
            config=to_json(self._config),
            planned=to_json(self._experiment.config) if self._planned else None,
            seed=self._seed,
            by_id=isinstance(self._env, str),
            generator=self._generator.get_state(),
            experiment=self._experiment.state_dict(),
        )

    @classmethod
    def load(
        cls, path: Path | str, env: AnyEnvironment | None = None, *, device: str | None = None
    ) -> Self:
        """Read an agent that :meth:`save` wrote.

        Args:
            path: the file.
            env: the environment; by default the id that the agent was made with.
            device: where it goes on; by default where it was.

        Returns:
            The agent; :meth:`resume` goes on where it was.

        Raises:
            ValueError: no such agent in the file, a damaged file, or an agent that was made with
                an instance or a function, which ``env`` must then give.
        """
        path, tree = saved.read(path, cls, "agent")
        if env is None and not tree["by_id"]:
            raise ValueError(
                f"{path} was trained on an environment that was not given by its id, such as a "
                "wrapped instance: give it with load(path, env=...)"
            )

        def config_of(document: Any) -> ControlConfig:
            config = from_json(ControlConfig, document)
            if device is None:
                return config
            algorithm = dataclasses.replace(config.algorithm, device=known_device(device))
            return dataclasses.replace(config, algorithm=algorithm)

        config = config_of(tree["config"])
        agent = cls.over(config.environment if env is None else env, config, tree["seed"])
        if tree["planned"] is not None:
            agent._experiment.plan(config_of(tree["planned"]))
            agent._planned = True
        agent._experiment.load_state_dict(tree["experiment"])
        agent._generator.set_state(tree["generator"])
        return agent

    @classmethod
    def over(cls, env: AnyEnvironment, config: ControlConfig, seed: int) -> Self:
        """Return an agent of the given configuration.

        Args:
            env: where it trains.
            config: of the run.
            seed: of the run.
        """
        agent = cls.__new__(cls)
        Agent.__init__(agent, env, config, seed)
        return agent


def control_config(
    algorithm: TD3Config | SACConfig,
    env: AnyEnvironment,
    *,
    buffer_size: int | None,
    learning_starts: int | None,
    train_freq: int,
    gradient_steps: int,
    n_envs: int,
    topology: TopologyName,
    dynamic_buffer: bool,
    backend: BackendName,
) -> ControlConfig:
    """Return the configuration of an agent's runs, their length still open.

    Args:
        algorithm: hyper-parameters; its networks' schedules follow the topology.
        env: as given to the agent.
        buffer_size: largest number of transitions; None is the length of the run.
        learning_starts: warm-up in steps; None is its fraction of the run.
        train_freq: steps of all environments between rounds of updates.
        gradient_steps: updates in a round.
        n_envs: copies of the environment.
        topology: rigl, set or static.
        dynamic_buffer: whether the capacity adapts.
        backend: what runs the updates.

    Raises:
        ValueError: an unknown topology or backend, the name of a policy class, or a second number
            of copies.
    """
    if backend not in ("auto", "reference", "engine"):
        raise ValueError(f"unknown backend {backend!r}; choose auto, reference or engine")
    if topology not in ("rigl", "set", "static"):
        raise ValueError(f"unknown topology {topology!r}; choose rigl, set or static")
    if isinstance(env, str) and env.endswith("Policy"):
        raise ValueError(
            f"the first argument is the environment, not a policy class such as {env!r}: "
            "networks are set by policy_kwargs"
        )
    if isinstance(env, VectorEnv) and n_envs not in (1, env.num_envs):
        raise ValueError(f"the vector environment has {env.num_envs} copies, n_envs is {n_envs}")
    network: dict[str, Any] = {
        "grow": "random" if topology == "set" else "gradient",
        "update_until": 0 if topology == "static" else None,
    }
    return ControlConfig(
        environment=_name(env),
        environments=env.num_envs if isinstance(env, VectorEnv) else n_envs,
        learning_starts=learning_starts,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        evaluate_every=0,
        random_episodes=0,
        backend=backend,
        replay=ReplayConfig(capacity=buffer_size, check_every=None if dynamic_buffer else 0),
        algorithm=dataclasses.replace(
            algorithm,
            actor=dataclasses.replace(algorithm.actor, **network),
            critic=dataclasses.replace(algorithm.critic, **network),
        ),
    )


def _goes_on(callbacks: Iterable[Callback], record: Record) -> bool:
    answers = [callback(record) for callback in callbacks]  # every one of them is told
    return all(answer is not False for answer in answers)


def known_device(name: str) -> str:
    """Return a torch device by name, "auto" included.

    Raises:
        ValueError: a GPU that is not there.
    """
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


def networks(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Translate Stable-Baselines3's policy_kwargs into fields of a configuration.

    Raises:
        ValueError: unknown keys, or widths that are no positive integers.
    """
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
    for width in (*actor, *critic):
        if type(width) is not int or width < 1:
            raise ValueError(f"net_arch takes positive integers, got {width!r}")
    activation = policy_kwargs.get("activation_fn", "relu")
    return {
        "actor_hidden": tuple(actor),
        "critic_hidden": tuple(critic),
        "activation": _ACTIVATION_NAMES.get(activation, activation),
        "critic_layer_norm": bool(policy_kwargs.get("layer_norm", False)),
    }
