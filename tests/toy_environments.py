"""Environments small enough to know everything about them."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Count(gym.Env[Any, Any]):
    """Counts its steps: every transition can be recognised, and every mistake shows.

    | what | value |
    |---|---|
    | observation | (steps since the reset, number in [0, 1) drawn at the reset) |
    | action | one number in [low, high] |
    | reward | steps since the reset after the step: 1, 2, 3, ... |
    | end | after ``length`` steps, terminated or truncated |
    """

    def __init__(
        self,
        length: int = 5,
        ends: str = "truncated",
        low: float | tuple[float, ...] = -1.0,
        high: float | tuple[float, ...] = 1.0,
    ) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        bounds = np.broadcast_arrays(np.float32(np.atleast_1d(low)), np.float32(high))
        self.action_space = gym.spaces.Box(bounds[0].copy(), bounds[1].copy(), dtype=np.float32)
        self.length, self.ends = length, ends
        self.actions: list[np.ndarray] = []
        self.seeds: list[int | None] = []
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.t, self.episode = 0, self.np_random.uniform()
        return self.seen(), {}

    def seen(self) -> np.ndarray:
        return np.array([self.t, self.episode], np.float32)

    def step(self, action: Any) -> Any:
        assert self.t < self.length, "stepped beyond the end"
        self.actions.append(np.array(action))
        self.t += 1
        over = self.t == self.length
        terminated, truncated = (
            over and self.ends == "terminated",
            over and self.ends != "terminated",
        )
        return self.seen(), float(self.t), terminated, truncated, {}


class Forgetful(Count):
    """Ignores its seed: no episode comes back."""

    draws = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        Forgetful.draws += 1
        self.t, self.episode = 0, Forgetful.draws
        return self.seen(), {}


class Faulty(Count):
    """Gives something that is not a number in its third step of the second episode (step 8)."""

    def __init__(self, what: str, value: float = float("nan")) -> None:
        super().__init__()
        self.what, self.value, self.taken = what, value, 0

    def step(self, action: Any) -> Any:
        self.taken += 1
        seen, reward, *rest = super().step(action)
        if self.taken == 8 and self.what == "reward":
            reward = self.value
        if self.taken == 8 and self.what == "observation":
            seen[1] = self.value
        return seen, reward, *rest
