"""Gymnasium environments as episodic problems: tables become MDPs, others are seen by features.

A learner sees rewards in [0, 1]: those of one stage are mapped from a declared range [low, high],
so that a return is converted back by :func:`original_return`. An episode that ends before the
horizon is continued by stages of original reward 0. Nothing here is imported before it is asked
for.

Legend: H horizon, S states, A actions, d feature dimension; h = 0..H-1 stage, s state, a action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thrifty.episodic.mdp import EpisodicMDP, Floats, whole

_NORM_SLACK = 1e-9  # features may be single precision sums divided by their norm
_SEED_OF_SIZES = 0  # of the reset that shows how many features there are


class Outcome(NamedTuple):
    """What one action led to."""

    r: float  # in [0, 1]
    observation: Any  # of the next stage
    ended: bool  # the episode is over; its remaining stages have original reward 0


class Environment(Protocol):
    """What a learner with features needs of a Gymnasium environment or a continuous model."""

    name: str
    H: int
    A: int
    d: int
    reward_range: tuple[float, float]

    def reset(self, seed: int) -> Any:
        """Start an episode that depends on the seed alone; return the first observation."""

    def step(self, a: int) -> Outcome:
        """Take an action."""

    def features(self, h: int, observation: Any) -> Floats:
        """Return the features of every action, [A, d], of norm at most 1."""

    def rewards(self, h: int, observation: Any) -> Floats | None:
        """Return the known rewards of all actions in [0, 1], [A], or None if unknown."""

    def value_after_end(self, h: int) -> float:
        """Return the sum of the rewards of stages h, ..., H-1 of an episode that has ended."""

    def original_return(self, value: float) -> float:
        """Return a sum of H rewards in [0, 1] in the environment's units."""


class FeatureEnvironment:
    """A Gymnasium environment with discrete actions, seen through a feature map.

    Args:
        env: the environment or its id; states may be continuous.
        phi: features of every action at a stage and observation: (h, observation) -> [A, d],
            finite, of norm at most 1.
        horizon: H, at most the environment's own limit.
        reward_range: the least and greatest reward of one step, in original units; needed unless
            the environment declares a finite ``reward_range``. Contains 0 if episodes can end
            early.
        reward: known rewards of every action, (h, observation) -> [A], in original units; without
            it rewards must be estimated.

    Raises:
        ValueError: no reward range, actions that are not discrete, a horizon beyond the limit;
            later, at the step where it happens: bad features, a reward outside the range, or an
            early end although the range does not contain 0.

    Example:
        >>> cart = FeatureEnvironment(  # doctest: +SKIP
        ...     "CartPole-v1", phi=my_features, horizon=100, reward_range=(0, 1)
        ... )
    """

    def __init__(
        self,
        env: Any,
        phi: Callable[[int, Any], ArrayLike],
        horizon: int,
        *,
        reward_range: tuple[float, float] | None = None,
        reward: Callable[[int, Any], ArrayLike] | None = None,
    ) -> None:
        self._env, self.name = _made(env)
        self.H = whole("horizon", horizon)
        self.reward_range = _range_of(self._env, self.name, reward_range)
        self._phi, self._reward = phi, reward
        self.A = _discrete(self._env.action_space, f"{self.name}: actions")
        limit = getattr(self._env.spec, "max_episode_steps", None)
        if limit is not None and limit < self.H:
            raise ValueError(
                f"horizon {self.H} is beyond the limit of {self.name}: choose at most {limit}"
            )
        self._h = 0
        self.d = 0
        self.d = self.features(0, self.reset(_SEED_OF_SIZES)).shape[1]

    def reset(self, seed: int) -> Any:
        """Start an episode that depends on the seed alone; return the first observation."""
        self._h = 0
        observation, _ = self._env.reset(seed=seed)
        return _kept(observation)

    def step(self, a: int) -> Outcome:
        """Take an action.

        Raises:
            ValueError: the reward is outside the range, the environment stops before the horizon,
                or the episode ends early and the range does not contain 0.
        """
        h, first = self._h, int(self._env.action_space.start)
        observation, reward, terminated, truncated, _ = self._env.step(first + int(a))
        r = self._unit(np.float64(reward), f"the reward {float(reward):g} of {self.name}", h)
        if truncated and not terminated and h + 1 < self.H:
            raise ValueError(
                f"{self.name} cut the episode off after {h + 1} steps: choose that as the horizon"
            )
        low, high = self.reward_range
        if terminated and h + 1 < self.H and not low <= 0.0 <= high:
            raise ValueError(
                f"{self.name} ended the episode after {h + 1} of {self.H} stages, and rewards are "
                f"0 from then on: reward_range= must contain 0, unlike [{low:g}, {high:g}]"
            )
        self._h = h + 1
        return Outcome(float(r), _kept(observation), bool(terminated))

    def features(self, h: int, observation: Any) -> Floats:
        """Return the features of every action, [A, d].

        Raises:
            ValueError: they are not [A, d], not finite, or longer than 1; says at which stage.
        """
        phi = np.asarray(self._phi(h, observation), dtype=np.float64)
        if phi.ndim != 2 or len(phi) != self.A or phi.shape[1] != (self.d or phi.shape[1]):
            raise ValueError(
                f"phi at stage {h} has shape {list(phi.shape)}, not [A, d] with A={self.A}"
                + (f", d={self.d}" if self.d else "")
            )
        norm = np.sqrt((phi * phi).sum(axis=1))
        if not norm.max() <= 1.0 + _NORM_SLACK:  # also when it is not a number
            a = int(np.argmax(~(norm <= 1.0 + _NORM_SLACK)))
            if not np.isfinite(norm[a]):
                raise ValueError(f"phi is not finite at stage {h}, action {a}: {phi[a]}")
            raise ValueError(
                f"phi has norm {norm[a]:.6g}, above 1, at stage {h}, action {a}: "
                "divide all features by the greatest norm"
            )
        return phi

    def rewards(self, h: int, observation: Any) -> Floats | None:
        """Return the known rewards of all actions in [0, 1], [A], or None if unknown."""
        if self._reward is None:
            return None
        raw = np.asarray(self._reward(h, observation), dtype=np.float64)
        if raw.shape != (self.A,):
            raise ValueError(
                f"reward at stage {h} has shape {list(raw.shape)}, not [A] with A={self.A}"
            )
        return self._unit(raw, "a value of reward=", h)

    def value_after_end(self, h: int) -> float:
        """Return the sum of the rewards of stages h, ..., H-1 of an episode that has ended."""
        low, high = self.reward_range
        return (self.H - h) * -low / (high - low)

    def original_return(self, value: float) -> float:
        """Return a sum of H rewards in [0, 1] in the environment's units."""
        low, high = self.reward_range
        return self.H * low + (high - low) * value

    def _unit(self, reward: Floats | np.float64, what: str, h: int) -> NDArray[np.float64]:
        low, high = self.reward_range
        r: NDArray[np.float64] = np.asarray((reward - low) / (high - low))
        if not (r.min() >= -_NORM_SLACK and r.max() <= 1.0 + _NORM_SLACK):
            raise ValueError(
                f"{what} at stage {h} is outside the range [{low:g}, {high:g}]: "
                "correct reward_range="
            )
        return np.clip(r, 0.0, 1.0)


def from_gymnasium(
    env: Any, horizon: int, *, reward_range: tuple[float, float] | None = None
) -> EpisodicMDP:
    """Return the MDP of an environment that has its table as ``env.unwrapped.P``.

    A state that ends the episode becomes absorbing, with original reward 0. Where the reward
    depends on the next state, r is its expectation given (s, a).

    Args:
        env: a toy-text environment (FrozenLake, Taxi, CliffWalking, ...) or its id.
        horizon: H; the environment's own time limit plays no part.
        reward_range: the least and greatest reward of one stage in original units; needed unless
            the environment declares a finite ``reward_range``.

    Raises:
        ValueError: no table, no reward range, or a reward outside it.

    Example:
        >>> lake = from_gymnasium("FrozenLake-v1", horizon=20)
        >>> lake.S, lake.A
        (16, 4)
    """
    env, name = _made(env)
    table = getattr(env.unwrapped, "P", None)
    if not isinstance(table, dict) or not hasattr(env.unwrapped, "initial_state_distrib"):
        raise ValueError(
            f"{name} has no table env.unwrapped.P: use FeatureEnvironment(env, phi, horizon)"
        )
    low, high = _range_of(env, name, reward_range)
    S = _discrete(env.observation_space, f"{name}: observations")
    A = _discrete(env.action_space, f"{name}: actions")
    P, raw = np.zeros((S, A, S)), np.zeros((S, A))
    ends, goes_on = np.zeros(S, dtype=bool), np.zeros((S, S), dtype=bool)
    for s in range(S):
        for a in range(A):
            for probability, s_next, reward, done in table[s][a]:
                P[s, a, s_next] += probability
                raw[s, a] += probability * reward
                if probability > 0 and done:
                    ends[s_next] = True
                elif probability > 0:
                    goes_on[s, s_next] = True
                if not low <= reward <= high:
                    raise ValueError(
                        f"{name} has reward {reward:g} at state {s}, action {a}, outside the range "
                        f"[{low:g}, {high:g}]: correct reward_range="
                    )
    if ends.any() and not low <= 0.0 <= high:
        raise ValueError(
            f"{name} has states that end the episode, and rewards are 0 from then on: "
            f"reward_range= must contain 0, unlike [{low:g}, {high:g}]"
        )
    P[ends], raw[ends] = np.eye(S)[ends][:, None], 0.0
    initial = np.asarray(env.unwrapped.initial_state_distrib, dtype=np.float64)
    _refuse_ambiguous_ends(name, ends, goes_on, reachable=_reachable(P, initial))
    return EpisodicMDP.from_arrays(
        P,
        (raw - low) / (high - low),
        horizon=horizon,
        initial=initial,
        name=name,
        reward_range=(low, high),
    )


def _reachable(P: Floats, initial: Floats) -> NDArray[np.bool_]:
    """Return which states can be reached, [S]."""
    edges, reached = np.asarray(P.any(axis=1)), np.asarray(initial > 0)
    while True:
        further = reached | edges[reached].any(axis=0)
        if np.array_equal(further, reached):
            return reached
        reached = further


def _refuse_ambiguous_ends(
    name: str, ends: NDArray[np.bool_], goes_on: NDArray[np.bool_], reachable: NDArray[np.bool_]
) -> None:
    """A state can be absorbing only if every way into it, that can be taken, ends the episode."""
    both = ends & goes_on[reachable & ~ends].any(axis=0)
    if both.any():
        raise ValueError(
            f"{name} enters state {int(np.argmax(both))} both with and without ending the episode: "
            "it has no table with this state absorbing"
        )


def _kept(observation: Any) -> Any:
    """Return an observation that later steps do not change: some environments reuse one array."""
    return observation.copy() if isinstance(observation, np.ndarray) else observation


def _made(env: Any) -> tuple[Any, str]:
    """Return an environment and its name, from itself or its id."""
    if isinstance(env, str):
        import gymnasium

        try:
            env = gymnasium.make(env)
        except gymnasium.error.Error as problem:
            raise ValueError(f"cannot make environment {env!r}: {problem}") from problem
    name = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    return env, name


def _range_of(env: Any, name: str, given: tuple[float, float] | None) -> tuple[float, float]:
    declared = getattr(env.unwrapped, "reward_range", None) if given is None else given
    try:
        low, high = (float(bound) for bound in (() if declared is None else declared))
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite(low) and np.isfinite(high)):
        what = f"{name} declares" if given is None else f"reward_range={given!r} is"
        raise ValueError(
            f"{what} no finite reward range, so rewards cannot be mapped to [0, 1]: "
            "give reward_range=(low, high), the least and greatest reward of one step"
        )
    if not low < high:
        raise ValueError(f"reward_range must have low < high, not ({low:g}, {high:g})")
    return low, high


def _discrete(space: Any, what: str) -> int:
    n = getattr(space, "n", None)
    # MultiBinary has n as well, and an array of sub-spaces.
    if n is None or not hasattr(space, "start"):
        raise ValueError(f"{what} must be Discrete, not {space}")
    return int(n)
