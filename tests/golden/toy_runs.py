"""Toy runs whose numbers are kept: `python toy_runs.py` writes them down anew.

Do that only for a change that is meant to move them, and name the recipes it moves.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from thrifty.recipes import rlx2

FILE = Path(__file__).with_name("toy_runs.json")
RECIPES = {"rlx2.td3": rlx2.td3, "rlx2.sac": rlx2.sac}
_KEPT = ("critic_loss", "actor_loss", "entropy_coefficient", "distance", "return_mean")


def platform() -> list[str]:
    """What rounding depends on: the version of torch and the vector instructions it uses."""
    return [torch.__version__, torch.backends.cpu.get_cpu_capability()]


def play(name: str) -> dict[str, Any]:
    """Run a recipe for 120 steps of Pendulum-v1 on small networks; what it did, in short."""
    config = RECIPES[name]("Pendulum-v1", 20_000)
    algorithm: Any = config.algorithm  # type: ignore[attr-defined]
    small: dict[str, Any] = {
        network: dataclasses.replace(
            getattr(algorithm, network), sparsity=0.6, update_every=10, update_until=200
        )
        for network in ("actor", "critic")
    }
    small |= {"actor_hidden": (12, 12), "critic_hidden": (12, 12), "batch_size": 16}
    config = dataclasses.replace(
        config,
        steps=120,
        learning_starts=20,
        evaluate_every=60,
        evaluation_episodes=1,
        random_episodes=1,
        record_every=20,
        backend="reference",
        replay=dataclasses.replace(
            config.replay, check_every=30, minimum=50, threshold=0.001, oldest=20
        ),
        algorithm=dataclasses.replace(algorithm, n_step_delay=30, **small),
    )
    experiment = config.build(0)
    first = _masks(experiment)
    numbers = [
        [record["kind"], record["step"], *(record[key] for key in _KEPT if key in record)]
        for record in experiment.records()
        if record is not None and any(key in record for key in _KEPT)
    ]
    return {"first_masks": first, "numbers": numbers, "last_masks": _masks(experiment)}


def _masks(experiment: Any) -> dict[str, str]:
    """The masks as strings of 0 and 1."""
    return {
        f"{network}.{name}": "".join(map(str, part.topology.mask(name).int().flatten().tolist()))
        for network, part in experiment.learner.networks().items()
        for name in part.topology.names
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    recorded = {"platform": platform(), "runs": {name: play(name) for name in RECIPES}}
    FILE.write_text(json.dumps(recorded, indent=1) + "\n")
