"""RecurrentPPO of sb3-contrib on the same scenarios, as an outside anchor.

    python results/rsd4/recurrent_ppo.py [--minutes 10] [--seeds 3] [--processes 1]
    python results/rsd4/recurrent_ppo.py --tune

It sees all users at once and gives all energies at once. The price of energy starts at the exact
optimum's and moves after every rollout to meet the budget. Afterwards a factor on the energies of
each node is calibrated on as many episodes with training seeds as our agents' prices, and it is
tested once like them; where no factors tried meet the budget at all nodes, the closest are kept.
Its settings are those of SETTINGS that brought most on seed 100 of S1 and S5, 4 minutes each.
Writes recurrent_ppo.csv, or recurrent_ppo_settings.csv. Needs the extra rsd4 (sb3-contrib).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import HERE, complete
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from thrifty.recipes import rsd4
from thrifty.runs.tasks import Task
from thrifty.scheduling import optimum
from thrifty.scheduling.assessment import Assessment
from thrifty.scheduling.environment import Face
from thrifty.scheduling.multiplier import Calibration
from thrifty.scheduling.queueing import Sight, Slot, View
from thrifty.scheduling.scenarios import Scenario, scenario

ENVIRONMENTS, EPISODE, ROLLOUT = 16, 100, 100
RATE = 0.05  # of the price, on the logarithm
TRIALS = 25  # of the factors, at most
CLOSE = 0.003  # of the budget: a trial that is not tried again
TUNING_SEED, TUNING_MINUTES = 100, 4.0
SETTINGS: dict[str, dict[str, float]] = {
    "defaults": {},
    "narrow": {"log_std_init": -1.0},
    "narrow fast": {"log_std_init": -1.0, "learning_rate": 1e-3},
    "narrow fast short-sighted": {"log_std_init": -1.0, "learning_rate": 1e-3, "gae_lambda": 0.8},
}
CHOSEN = "narrow fast short-sighted"


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
    """The trained policy, its energies times a factor of each node."""

    name = "RecurrentPPO"

    def __init__(self, model: RecurrentPPO, of: Scenario, factors: np.ndarray) -> None:
        self._model = model
        self._cells = np.flatnonzero(of.cells)
        self._factors = np.broadcast_to(factors[:, None], of.cells.shape).ravel()[self._cells]

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
        energy[:, self._cells] = np.clip((action + 1) / 2 * self._factors, 0, 1)
        return energy.reshape(view.queue.shape)

    def observe(self, slot: Slot) -> None:
        """The policy sees queues alone."""


def train(of: Scenario, seed: int, settings: dict[str, float], seconds: float) -> RecurrentPPO:
    """Train for so many seconds of the processor."""
    best = optimum.solve(of, of.budget)
    environments = Environments(of, best.multiplier, 1000 * (seed + 1))
    rest = {"n_epochs": 4, "learning_rate": 3e-4, "log_std_init": 0.0, **settings}
    policy = {"lstm_hidden_size": 64, "net_arch": [64], "log_std_init": rest.pop("log_std_init")}
    model = RecurrentPPO(
        "MlpLstmPolicy", environments, n_steps=ROLLOUT, batch_size=400, gamma=0.95, seed=seed,
        device="cpu", policy_kwargs=policy, **rest,  # type: ignore[arg-type]
    )  # fmt: skip
    return model.learn(10**9, callback=Ascend(environments, of.budget, seconds))


def calibrated(spend: Callable[[np.ndarray], np.ndarray], budget: np.ndarray) -> np.ndarray:
    """Return the factors [H] that came closest to the budget [H], of up to TRIALS."""
    search = Calibration(budget, np.ones(len(budget)), 1e3)  # of 1 / factor, as of a price
    for _ in range(TRIALS):
        energy = spend(1 / search.prices)
        search.count(energy)
        if search.gap(energy) < CLOSE:
            break
        search.move(energy)
    search.settle()
    return 1 / search.prices


def work(minutes: float, task: Task) -> Task:
    """Train, calibrate, test."""
    torch.set_num_threads(1)
    of, chosen = scenario(task["scenario"]), SETTINGS[task.get("settings", CHOSEN)]
    like = rsd4.sd3(task["scenario"])
    model = train(of, task["seed"], chosen, 60 * minutes)
    sight = Sight(kind="hidden" if of.hidden else "full")
    assessment = Assessment(of, sight, of.budget, 500_000 + task["seed"])

    def spend(factors: np.ndarray) -> np.ndarray:
        energy: Any = None
        while energy is None:
            scheduler = PPOScheduler(model, of, factors)
            energy = assessment.spend(scheduler, like.calibration_episodes, 77)
        return np.asarray(energy)

    factors = calibrated(spend, of.budget)
    found: Any = None
    while found is None:
        found = assessment.test(
            PPOScheduler(model, of, factors),  # type: ignore[arg-type]
            like.test_episodes,
        )
    names = ("throughput", "off_budget", "of_optimum", "of_optimum_at_energy", "paired")
    return {
        "slots": model.num_timesteps,
        "episodes": found["episodes"],
        "cpu_seconds": round(60 * minutes, 1),
        "energy": json.dumps([round(one, 4) for one in found["energy"]]),
        **{name: round(found[name], 5) for name in names},
    }


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--tune", action="store_true", help="try SETTINGS instead")
    options = parser.parse_args()
    run = partial(complete, processes=options.processes)
    if options.tune:
        tries = [
            {"settings": name, "scenario": where, "seed": TUNING_SEED}
            for name in SETTINGS
            for where in ("S1", "S5")
        ]
        run(options.out / "recurrent_ppo_settings.csv", tries, partial(work, TUNING_MINUTES))
        return
    tasks = [
        {"scenario": name, "seed": seed}
        for seed in range(options.seeds)
        for name in ("S1", "S2", "S5")
    ]
    run(options.out / "recurrent_ppo.csv", tasks, partial(work, options.minutes))


if __name__ == "__main__":
    main()
