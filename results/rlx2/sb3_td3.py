"""Train Stable-Baselines3's TD3 under the protocol of our runs, as an outside anchor.

Same hyper-parameters as `rlx2.dense` (two hidden layers of 256, Adam 3e-4, batch 256, noise 0.1,
warm-up 1,000 steps), evaluations of 10 noise-free episodes every 5,000 steps, one thread. The
folder it writes can be read by `thrifty report`.

    python results/rlx2/sb3_td3.py --seed 0 --steps 100000 --out runs/evidence/sb3-HalfCheetah-v5-0
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import time
from pathlib import Path

import numpy as np
import torch
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

from thrifty.rl import Environments, evaluate_policy
from thrifty.rl.environments import make_environment
from thrifty.runs.environment import describe_environment


class Evaluate(BaseCallback):
    """Every 5,000 steps, append an evaluation record."""

    def __init__(self, environments: Environments, records: Path) -> None:
        super().__init__()
        self.environments, self.records, self.began = environments, records, time.perf_counter()

    def write(self, kind: str, **fields: object) -> None:
        """Append one record."""
        record = {"kind": kind, "step": self.num_timesteps, **fields}
        record["wall_seconds"] = time.perf_counter() - self.began
        with self.records.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def _on_step(self) -> bool:
        if self.num_timesteps % 5_000 == 0:
            result = evaluate_policy(
                self.environments, lambda obs: self.model.predict(obs, deterministic=True)[0], 10
            )
            self.write(
                "evaluation",
                returns=result.returns,
                lengths=result.lengths,
                return_mean=result.return_mean,
                return_std=result.return_std,
            )
        return True


def main() -> None:
    """Read the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environment", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    if (flags.out / "DONE").exists():
        return
    flags.out.mkdir(parents=True, exist_ok=True)
    records = flags.out / "records.jsonl"
    records.unlink(missing_ok=True)
    torch.set_num_threads(1)
    config = {"environment": flags.environment, "steps": flags.steps}
    (flags.out / "config.json").write_text(
        json.dumps(
            {
                "recipe": "sb3.td3",
                "arguments": config,
                "seed": flags.seed,
                "threads": 1,
                "config": config,
            },
            indent=2,
        )
    )
    machine = describe_environment()
    machine["versions"]["stable_baselines3"] = importlib.metadata.version("stable_baselines3")
    (flags.out / "environment.json").write_text(json.dumps(machine, indent=2))
    environment = make_environment(flags.environment)
    actions = environment.action_space.shape[0]
    model = TD3(
        "MlpPolicy",
        environment,
        learning_rate=3e-4,
        learning_starts=1_000,
        batch_size=256,
        buffer_size=flags.steps,
        action_noise=NormalActionNoise(np.zeros(actions), 0.1 * np.ones(actions)),
        policy_kwargs={"net_arch": [256, 256]},
        seed=flags.seed,
        device="cpu",
    )
    evaluate = Evaluate(Environments(flags.environment, seed=10_000 + flags.seed), records)
    model.learn(flags.steps, callback=evaluate)
    (flags.out / "DONE").write_text("done\n")


if __name__ == "__main__":
    main()
