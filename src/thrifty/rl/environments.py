"""Environments whose episodes can be replayed exactly.

Every episode is reset with a seed of its own, derived from the run's seed and the episode's
number. The state of a running episode is then its seed and the actions taken so far: enough to
restore any deterministic simulator, and checked against the observation that was seen.

Legend: E environments, O observation size, A action size. Actions are normalised: [-1, 1] maps
linearly to the action bounds, and out-of-range actions are cut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from thrifty.rl.mujoco_log import silence_log_file

Floats = NDArray[np.float32]
Source = str | gym.Env[Any, Any] | Callable[[], gym.Env[Any, Any]]
_LOWEST, _HIGHEST = np.float32(-1.0), np.float32(1.0)


class EnvironmentFault(ValueError):
    """An environment returned something that no agent can learn from, such as a NaN reward."""


class Step(NamedTuple):
    """What one step of all environments gave."""

    reward: Floats  # [E]
    next_observation: Floats  # [E, O], the true one, also at an episode's end
    terminated: NDArray[np.bool_]  # [E]
    truncated: NDArray[np.bool_]  # [E]
    valid: NDArray[np.bool_] | None  # [E], False where an automatic reset took the step's place
    finished: list[tuple[float, int]]  # return and length of each episode that ended


def make_environment(source: Source, **options: Any) -> gym.Env[Any, Any]:
    """Make one environment from an id, a function without arguments, or an instance.

    Raises:
        ValueError: the id is unknown or what it needs is not installed.
    """
    silence_log_file()
    if isinstance(source, gym.Env):
        return source
    if callable(source):
        return source()
    try:
        return gym.make(source, **options)
    except gym.error.Error as problem:
        unknown = isinstance(problem, gym.error.NameNotFound | gym.error.NamespaceNotFound)
        own = f" One of your own is MODULE:{source}, with the module that registers it."
        remedy = own if unknown and source and ":" not in source else ""
        raise ValueError(f"cannot make environment {source!r}: {problem}{remedy}") from problem
    except ModuleNotFoundError as problem:
        raise ValueError(
            f"environment {source!r} needs a module that is not installed: {problem}"
        ) from problem


def check_spaces(
    observation_space: gym.Space[Any], action_space: gym.Space[Any], name: str
) -> tuple[int, int, Floats, Floats]:
    """Check that an agent for continuous control fits, and return the sizes and the bounds.

    Args:
        observation_space: of one environment.
        action_space: of one environment.
        name: how messages call the environment.

    Returns:
        observation size, action size, lowest action [A], highest action [A].

    Raises:
        ValueError: not a flat box of finite bounds, with the remedy.
    """
    if not isinstance(action_space, gym.spaces.Box):
        raise ValueError(
            f"{name} has the action space {action_space}; TD3 and SAC need continuous actions "
            "(a Box)"
        )
    if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) != 1:
        raise ValueError(
            f"{name} has the observation space {observation_space}; a flat Box is needed "
            "(wrap it in gymnasium.wrappers.FlattenObservation)"
        )
    if len(action_space.shape) != 1:
        raise ValueError(f"{name} has actions of shape {action_space.shape}; a flat Box is needed")
    low, high = action_space.low.astype(np.float32), action_space.high.astype(np.float32)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(
            f"{name} has action bounds {low} to {high}; they must be finite and low < high "
            "(wrap it in gymnasium.wrappers.RescaleAction)"
        )
    return observation_space.shape[0], action_space.shape[0], low, high


class Environments:
    """Copies of one environment, stepped together, with replayable episodes.

    Args:
        source: an id, a function that makes an environment, an instance (then ``count`` is 1), or
            a :class:`gymnasium.vector.VectorEnv`.
        count: E; ignored for a vector environment.
        seed: all episodes' seeds derive from it.
        scale_actions: map [-1, 1] to the action bounds. False passes normalised actions through
            (the published SAC, which scales before the tanh).

    A vector environment resets by itself and cannot be restored in mid-episode: after loading a
    state its episodes begin anew (``exact`` is False).

    Raises:
        ValueError: an unknown id, spaces that do not fit, or ``count`` with an instance.
    """

    def __init__(
        self,
        source: Source | VectorEnv[Any, Any, Any],
        *,
        count: int = 1,
        seed: int = 0,
        scale_actions: bool = True,
    ) -> None:
        self._vector: VectorEnv[Any, Any, Any] | None = None
        self._single: list[gym.Env[Any, Any]] = []
        if count < 1:
            raise ValueError(f"the number of environments must be at least 1, got {count}")
        if isinstance(source, VectorEnv):
            self._vector = source
            self.count = source.num_envs
            spaces = (source.single_observation_space, source.single_action_space)
            spec = source.spec
            self._autoreset = source.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP)
        else:
            if isinstance(source, gym.Env) and count > 1:
                raise ValueError("several environments need an id or a function, not an instance")
            self._single = [make_environment(source) for _ in range(count)]
            self.count = count
            spaces = (self._single[0].observation_space, self._single[0].action_space)
            spec = self._single[0].spec
        self.exact = self._vector is None
        self._whole = True  # no step broke off since all episodes began
        self.name = source if isinstance(source, str) else spec.id if spec else "the environment"
        self.observation_dim, self.action_dim, self.low, self.high = check_spaces(
            *spaces, self.name
        )
        self.scale_actions = scale_actions
        self._centre, self._half_range = (self.high + self.low) / 2, (self.high - self.low) / 2
        unit = bool((self.low == -1.0).all() and (self.high == 1.0).all())
        self._scales = scale_actions and not unit
        self._seed = seed
        self._steps = 0
        self._action = np.zeros((self.count, self.action_dim), np.float32)
        self._episode = 0
        self._episode_seed = [0] * self.count
        self._actions: list[list[Floats]] = [[] for _ in range(self.count)]
        self._returns = np.zeros(self.count)
        self._lengths = np.zeros(self.count, np.int64)
        self._resetting = np.zeros(self.count, np.bool_)
        self.observation = np.zeros((self.count, self.observation_dim), np.float32)  # [E, O]
        self._begin()

    def _begin(self) -> None:
        self._whole = True
        if self._vector is not None:
            observation, _ = self._vector.reset(seed=self._next_seed())
            self.observation = np.array(observation, np.float32)
            self._returns[:], self._lengths[:], self._resetting[:] = 0.0, 0, False
        else:
            for index in range(self.count):
                self._reset(index)
        self._check(self.observation, "observation")

    def restart(self, episode: int = 0) -> None:
        """Leave the running episodes and begin with the seed of the given episode."""
        self._episode, self._steps = episode, 0
        self._begin()

    def _next_seed(self) -> int:
        sequence = np.random.SeedSequence([self._seed, self._episode])
        self._episode += 1
        return int(sequence.generate_state(1, np.uint32)[0])

    def _reset(self, index: int) -> None:
        self._episode_seed[index] = self._next_seed()
        self._actions[index] = []
        self._returns[index], self._lengths[index] = 0.0, 0
        observation, _ = self._single[index].reset(seed=self._episode_seed[index])
        self.observation[index] = observation

    def to_bounds(self, action_EA: Floats) -> Floats:
        """Map normalised actions to what the environment takes, both [E, A]."""
        # Minimum and maximum do what clip does, without its way through Python.
        if not self._scales:
            return np.minimum(np.maximum(action_EA, _LOWEST), _HIGHEST)
        # Cut after scaling: centre + half range may lie a rounding error beyond the bound.
        scaled_EA = (self._centre + self._half_range * action_EA).astype(np.float32, copy=False)
        return np.minimum(np.maximum(scaled_EA, self.low), self.high)

    def step(self, action_EA: Floats) -> Step:
        """Take one step in every environment; ended episodes are followed by new ones.

        Args:
            action_EA: normalised actions, float32 [E, A].

        Returns:
            A :class:`Step`; ``self.observation`` is what the next action answers to.

        Raises:
            EnvironmentFault: a reward or an observation is NaN or infinite.
        """
        action_EA = self.to_bounds(action_EA)
        self._action = action_EA
        self._steps += self.count
        whole, self._whole = self._whole, False
        step = (
            self._step_single(action_EA) if self._vector is None else self._step_vector(action_EA)
        )
        self._whole = whole
        return step

    def _step_single(self, action_EA: Floats) -> Step:
        next_observation = np.empty_like(self.observation)
        reward = np.empty(self.count, np.float32)
        terminated, truncated = np.zeros((2, self.count), np.bool_)
        finished: list[tuple[float, int]] = []
        ended: list[int] = []
        for index, env in enumerate(self._single):
            action = action_EA[index]
            self._actions[index].append(action.copy())  # an environment may write into its input
            next_observation[index], gain, done, late, _ = env.step(action)
            if done or late:
                terminated[index], truncated[index] = done, late
                ended.append(index)
            reward[index] = gain
            self._returns[index] += gain
            self._lengths[index] += 1
        self._check(reward, "reward")
        self._check(next_observation, "observation")
        self.observation = next_observation.copy()
        for index in ended:
            finished.append((float(self._returns[index]), int(self._lengths[index])))
            self._reset(index)
            self._check(self.observation, "observation")
        return Step(reward, next_observation, terminated, truncated, None, finished)

    def _step_vector(self, action_EA: Floats) -> Step:
        assert self._vector is not None
        observation, reward, terminated, truncated, info = self._vector.step(action_EA)
        reward = np.asarray(reward, np.float32)
        terminated, truncated = np.array(terminated, np.bool_), np.array(truncated, np.bool_)
        observation = np.array(observation, np.float32)
        self._check(reward, "reward")
        self._check(observation, "observation")
        valid = ~self._resetting
        self._returns[valid] += reward[valid]
        self._lengths[valid] += 1
        ended = (terminated | truncated) & valid
        next_observation = observation
        if self._autoreset == AutoresetMode.SAME_STEP and ended.any():
            next_observation = observation.copy()
            for index in np.flatnonzero(ended).tolist():
                next_observation[index] = info["final_obs"][index]
            self._check(next_observation, "observation")
        finished = [(float(self._returns[i]), int(self._lengths[i])) for i in np.flatnonzero(ended)]
        self._returns[ended], self._lengths[ended] = 0.0, 0
        self._resetting = (
            ended if self._autoreset == AutoresetMode.NEXT_STEP else np.zeros_like(ended)
        )
        if self._autoreset == AutoresetMode.DISABLED and ended.any():
            fresh, _ = self._vector.reset(options={"reset_mask": ended})
            observation = np.array(fresh, np.float32)
            self._check(observation, "observation")
        self.observation = observation
        return Step(reward, next_observation, terminated, truncated, valid, finished)

    def _check(self, values: Floats, what: str) -> None:
        if b"\0" in np.isfinite(values).tobytes():  # three times as fast as all()
            if not np.isfinite(self._action).all():
                raise EnvironmentFault(
                    f"the policy chose an action that is not finite at step {self._steps}: "
                    "training has diverged; lower the learning rate"
                )
            raise EnvironmentFault(
                f"{self.name} gave {what} that is not finite at step {self._steps}: "
                f"{values.tolist()}"
            )

    @property
    def simulation(self) -> gym.Env[Any, Any] | None:
        """Return the environment where it is a single one, to be looked at; else None."""
        return self._single[0] if len(self._single) == 1 else None

    def close(self) -> None:
        """Close what was made here or handed over."""
        if self._vector is not None:
            self._vector.close()
        for env in self._single:
            env.close()

    def state_dict(self) -> dict[str, Any]:
        """Return seeds and actions of the running episodes, and what was seen last.

        After a step that broke off (a fault, a second Ctrl-C) they are not to be replayed.
        """
        return {
            "exact": self.exact and self._whole,
            "episode": self._episode,
            "steps": self._steps,
            "episode_seed": list(self._episode_seed),
            "actions": [
                np.array(actions, np.float32).reshape(len(actions), self.action_dim)
                for actions in self._actions
            ],
            "returns": self._returns.copy(),
            "lengths": self._lengths.copy(),
            "observation": self.observation.copy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Restore running episodes by replaying their actions, and verify the outcome.

        Returns:
            Whether the running episodes go on; False where they begin anew: with a vector
            environment, here or there, or after a step that broke off.

        Raises:
            ValueError: the environment does not come back to the same observation, by name.
        """
        self._episode, self._steps = state["episode"], state["steps"]
        if not (self.exact and state.get("exact", True)):
            self._begin()
            return False
        self._episode_seed = list(state["episode_seed"])
        self._returns, self._lengths = state["returns"].copy(), state["lengths"].copy()
        self._actions = [list(actions) for actions in state["actions"]]
        if len(self._actions) != self.count:
            raise ValueError(
                f"the stored run has {len(self._actions)} environments, this one {self.count}"
            )
        returns, over = np.zeros(self.count), False
        for index, env in enumerate(self._single):
            observation, _ = env.reset(seed=self._episode_seed[index])
            for action in self._actions[index]:
                observation, gain, terminated, truncated, _ = env.step(action.copy())
                returns[index] += gain
                over = over or bool(terminated) or bool(truncated)
            self.observation[index] = observation
        same = np.array_equal(self.observation, state["observation"])
        if over or not same or not np.array_equal(returns, self._returns):
            raise ValueError(
                f"{self.name} cannot be resumed: replaying the running episode from its seed and "
                "actions leads to other observations or rewards: it is not deterministic, or "
                "has changed since; train anew, or make reset(seed=...) determine everything"
            )
        return True
