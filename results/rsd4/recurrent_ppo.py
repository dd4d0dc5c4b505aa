"""RecurrentPPO of sb3-contrib on the same scenarios, as an outside anchor.

    python results/rsd4/recurrent_ppo.py [--minutes 10] [--seeds 3]

It sees all users at once and gives all energies at once. The price of energy starts at the exact
optimum's and moves after every rollout to meet the budget. Afterwards a common factor on its
energies is calibrated on episodes with training seeds, and it is tested once like our agents.
Writes recurrent_ppo.csv. Needs the extra rsd4 (sb3-contrib).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import HERE, Task, complete
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from thrifty.scheduling import optimum
from thrifty.scheduling.assessment import Assessment, block
from thrifty.scheduling.environment import Face
from thrifty.scheduling.queueing import Sight, Slot, View
from thrifty.scheduling.scenarios import Scenario, scenario

ENVIRONMENTS, EPISODE, ROLLOUT = 16, 100, 100
RATE = 0.05  # of the price, on the logarithm


class Environments(VecEnv):
    """Our environments for Stable-Baselines3; all end together and begin anew at once."""

    def __init__(self, of: Scenario, prices: Any, seed: int) -> None:
        self.face = Face(
            of, ENVIRONMENTS, sight=None, multiplier=prices, pure_throughput=False,
            start="stationary", clock=None,
        )  # fmt: skip
        super().__init__(ENVIRONMENTS, self.face.observation_space, self.face.action_space)
        self.prices, self.number, self.slot, self._seed = np.array(prices), 0, 0, seed
        self.spent: list[np.ndarray] = []

    def reset(self) -> np.ndarray:
        """Start episodes at the present prices."""
        self.number, self.slot = self.number + 1, 0
        self.face.reset(self._seed + self.number, {"multiplier": self.prices})
        return self.face.observation()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, ...]:
        """Play them."""
        slot, reward = self.face.step(np.clip(self._actions, -1, 1))
        self.spent.append(slot.energy.mean(axis=0))
        self.slot += 1
        ended = self.slot >= EPISODE
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        observation = self.face.observation()
        if ended:
            for info, last in zip(infos, observation, strict=True):
                info |= {"terminal_observation": last, "TimeLimit.truncated": True}
            observation = self.reset()
        scale = float(self.face.scenario.offered)
        return (
            observation,
            (reward / scale).astype(np.float32),
            np.full(self.num_envs, ended),
            infos,
        )

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute for every environment."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refuse."""
        raise NotImplementedError

    def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> Sequence[Any]:
        """Refuse."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """None is."""
        return [False] * self.num_envs


class Ascend(BaseCallback):
    """Moves the price after every rollout, and ends the training when time is up."""

    def __init__(self, environments: Environments, budget: np.ndarray, seconds: float) -> None:
        super().__init__()
        self.environments, self.budget, self.seconds = environments, budget, seconds

    def _on_training_start(self) -> None:
        self.began = time.process_time()

    def _on_step(self) -> bool:
        return bool(time.process_time() - self.began < self.seconds)

    def _on_rollout_end(self) -> None:
        energy = np.mean(self.environments.spent, axis=0)
        self.environments.spent.clear()
        move = np.clip(np.log(np.maximum(energy, 1e-9) / self.budget), -1, 1)
        self.environments.prices = self.environments.prices * np.exp(RATE * move)


class PPOScheduler:
    """The trained policy, its energies times a factor."""

    name = "RecurrentPPO"

    def __init__(self, model: RecurrentPPO, of: Scenario, factor: float) -> None:
        self._model, self._factor = model, factor
        self._of = of
        self._cells = np.flatnonzero(of.cells)

    def reset(self, environments: int) -> None:
        """Forget."""
        self._state: Any = None
        self._start = np.ones(environments, dtype=bool)

    def energies(self, view: View) -> np.ndarray:
        """Return the policy's mean action as energies."""
        count = len(view.queue)
        parts = [view.queue.reshape(count, -1)[:, self._cells]]
        if view.channel is not None:
            parts.append(view.channel.reshape(count, -1))
        seen = np.concatenate(parts, axis=1).astype(np.float32)
        action, self._state = self._model.predict(
            seen, state=self._state, episode_start=self._start, deterministic=True
        )
        self._start = np.zeros(count, dtype=bool)
        energy = np.zeros((count, view.queue[0].size))
        energy[:, self._cells] = np.clip((action + 1) / 2 * self._factor, 0, 1)
        return energy.reshape(view.queue.shape)

    def observe(self, slot: Slot) -> None:
        """The policy sees queues alone."""


def work(task: Task, seconds: float) -> Task:
    """Train, calibrate, test."""
    torch.set_num_threads(1)
    of = scenario(task["scenario"])
    best = optimum.solve(of, of.budget)
    environments = Environments(of, best.multiplier, 1000 * (task["seed"] + 1))
    model = RecurrentPPO(
        "MlpLstmPolicy", environments, n_steps=ROLLOUT, batch_size=400, n_epochs=4, gamma=0.95,
        seed=task["seed"], device="cpu", policy_kwargs={"lstm_hidden_size": 64, "net_arch": [64]},
    )  # fmt: skip
    model.learn(10**9, callback=Ascend(environments, of.budget, seconds))
    sight = Sight(kind="hidden" if of.hidden else "full")
    assessment = Assessment(of, sight, of.budget, 500_000 + task["seed"])
    low, high, factor = 0.0, 4.0, 1.0
    for _ in range(12):  # total energy rises with the factor
        energy: Any = None
        while energy is None:
            energy = assessment.spend(PPOScheduler(model, of, factor), 2 * block(of), 77)
        low, high = (low, factor) if energy.sum() > of.budget.sum() else (factor, high)
        factor = (low + high) / 2
    found: Any = None
    while found is None:
        found = assessment.test(PPOScheduler(model, of, factor), 400)  # type: ignore[arg-type]
    names = ("throughput", "off_budget", "of_optimum", "of_optimum_at_energy", "paired")
    return {
        "slots": model.num_timesteps,
        "cpu_seconds": round(seconds, 1),
        "energy": json.dumps([round(one, 4) for one in found["energy"]]),
        **{name: round(found[name], 5) for name in names},
    }


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args()
    tasks = [
        {"scenario": name, "seed": seed}
        for seed in range(options.seeds)
        for name in ("S1", "S2", "S5")
    ]
    complete(
        options.out / "recurrent_ppo.csv", tasks, lambda task: work(task, 60 * options.minutes)
    )


if __name__ == "__main__":
    main()
