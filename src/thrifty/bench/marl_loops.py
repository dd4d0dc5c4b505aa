"""One side of the comparison with JaxMARL's QMIX, in a process of its own: ours, or a checkout.

    python -m thrifty.bench.marl_loops thrifty --episodes 32
    python -m thrifty.bench.marl_loops jaxmarl --reference PATH

Either prints one line of JSON: environment steps per second on SMAX 3m with updates included. The
checkout is imported as it is, its QMIX made by its ``make_train``; where the package wandb is
missing an empty module stands in its place, since nothing is logged. Compiling is left out: its
whole training is one compiled call, so two lengths are compiled and run, and the difference of
their times counts. The shorter one is past the filling of the replay.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

ENVIRONMENTS, ROLLOUT, UPDATES, SEQUENCES = 16, 128, 8, 32
HIDDEN, EMBED = 64, 32
SPARSITY = 0.95
_FILLING, _MORE = 40, 40  # rollouts before, and those that are timed
_NEVER = 1_000_000_000


def thrifty_rate(sparsity: float, episodes: int, rollouts: int = _MORE) -> dict[str, Any]:
    """Return the rate of our run.

    Args:
        sparsity: 0 runs the dense reference, all else what ``backend="auto"`` takes.
        episodes: of an update.
        rollouts: of 2,048 environment steps, that are timed.
    """
    import torch

    from thrifty.bench.marl import algorithm
    from thrifty.marl import TeamConfig

    torch.set_num_threads(1)
    config = TeamConfig(
        environment="smax-3m",
        environments=ENVIRONMENTS,
        steps=_NEVER,
        train_every=ENVIRONMENTS * ROLLOUT // UPDATES,
        evaluate_every=0,
        record_every=_NEVER,
        algorithm=algorithm(sparsity, episodes),
    )
    experiment = config.build(0)
    records = experiment.records()
    while experiment.learner.updates < 4 * UPDATES:  # compiles, and fills the replay
        next(records)
    first = experiment.step
    end = first + rollouts * ENVIRONMENTS * ROLLOUT
    begin = time.perf_counter()
    while experiment.step < end:
        next(records)
    seconds = time.perf_counter() - begin
    return {"rate": (experiment.step - first) / seconds, "backend": experiment.backend}


def settings(rollouts: int) -> dict[str, Any]:
    """Return the configuration of JaxMARL's QMIX, its names, at our sizes."""
    return {
        "TOTAL_TIMESTEPS": rollouts * ENVIRONMENTS * ROLLOUT,
        "NUM_ENVS": ENVIRONMENTS,
        "NUM_STEPS": ROLLOUT,
        "NUM_EPOCHS": UPDATES,
        "BUFFER_SIZE": 5000,
        "BUFFER_BATCH_SIZE": SEQUENCES,
        "HIDDEN_SIZE": HIDDEN,
        "MIXER_EMBEDDING_DIM": EMBED,
        "MIXER_HYPERNET_HIDDEN_DIM": 64,
        "MIXER_INIT_SCALE": 0.001,
        "EPS_START": 1.0,
        "EPS_FINISH": 0.05,
        "EPS_DECAY": 0.1,
        "MAX_GRAD_NORM": 10,
        "TARGET_UPDATE_INTERVAL": 10,
        "TAU": 1.0,
        "LR": 0.0005,
        "LEARNING_STARTS": 0,
        "LR_LINEAR_DECAY": False,
        "GAMMA": 0.99,
        "REW_SCALE": 10.0,
        "ENV_NAME": "HeuristicEnemySMAX",
        "MAP_NAME": "3m",
        "ENV_KWARGS": {
            "see_enemy_actions": True,
            "walls_cause_death": True,
            "attack_mode": "closest",
        },
        "TEST_DURING_TRAINING": False,
        "TEST_NUM_ENVS": ENVIRONMENTS,
        "WANDB_MODE": "disabled",
    }


def jaxmarl_rate(reference: Path) -> dict[str, Any]:
    """Return the rate of JaxMARL's QMIX.

    Args:
        reference: a checkout of JaxMARL.

    Raises:
        ValueError: no checkout there, or a package that it needs is missing.
    """
    folder = checked(reference)
    if importlib.util.find_spec("wandb") is None:
        sys.modules["wandb"] = types.ModuleType("wandb")
    sys.path[:0] = [str(reference), str(folder)]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            import jax

            qmix: Any = importlib.import_module("qmix_rnn")
    except ImportError as problem:
        raise ValueError(f"JaxMARL's QMIX cannot be loaded: {problem}; install it") from None
    seconds, compiling = [], 0.0
    for rollouts in (_FILLING, _FILLING + _MORE):
        config = settings(rollouts)
        env, _ = qmix.env_from_config(config)
        key = jax.random.PRNGKey(0)
        begin = time.perf_counter()
        train = jax.jit(qmix.make_train(config, env)).lower(key).compile()
        compiling += time.perf_counter() - begin
        begin = time.perf_counter()
        jax.block_until_ready(train(key))
        seconds.append(time.perf_counter() - begin)
    steps = _MORE * ENVIRONMENTS * ROLLOUT
    return {"rate": steps / (seconds[1] - seconds[0]), "compiling": compiling}


def checked(reference: Path) -> Path:
    """Return the folder of a checkout's QMIX.

    Raises:
        ValueError: it is none.
    """
    folder = reference / "baselines" / "QLearning"
    if not (folder / "qmix_rnn.py").exists():
        raise ValueError(
            f"{reference} is no checkout of JaxMARL: baselines/QLearning/qmix_rnn.py is not there"
        )
    return folder


def main() -> None:
    """Measure one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["thrifty", "jaxmarl"])
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--sparsity", type=float, default=SPARSITY)
    parser.add_argument("--episodes", type=int, default=SEQUENCES)
    options = parser.parse_args()
    if options.side == "thrifty":
        found = thrifty_rate(options.sparsity, options.episodes)
    else:
        found = jaxmarl_rate(options.reference)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
