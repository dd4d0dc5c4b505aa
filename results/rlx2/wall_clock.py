"""Return at 2, 5 and 10 minutes of training time on one core, compilation counted.

    python results/rlx2/wall_clock.py --contender sbx_td3 --environment HalfCheetah-v5 --seed 0
    python results/rlx2/wall_clock.py --all --jobs 2      # every run; goes on where it was cut off
    python results/rlx2/wall_clock_summary.py             # table, pictures, claims

One process per run, one thread, pinned to one core. The clock is the processor time of the process
(all its threads; no contender starts another process), which is wall time on an idle machine; wall
seconds stand beside it. It begins before the learner is made and runs through everything after the
imports: compilation counts, and our engine compiles into an empty folder each time, as if it were
the first run on the machine. At each mark it stands still while 10 noise-free episodes run on an
environment of their own, whose seeds are the same for every contender.

The protocol, alike for all: minibatches of 256, one update per environment step, 10,000 random
steps before the first update and exploration noise 0.1 for TD3 (what RL Baselines3 Zoo gives
both libraries' TD3 on HalfCheetah). Everything else is each library's default, written into the
record "model": Stable-Baselines3's TD3 has hidden layers of 400 and 300 and step size 1e-3, sbx's
TD3 and SAC 256 and 256 and 3e-4, as ours.

Ours is `rlx2.td3` on the engine, planned for 1,000,000 steps and stopped by the clock, so its time
constants (evolution interval, n-step delay, replay rule) are those of the long run, not tuned to
minutes; where it is over before a mark, it has there what it ended with. `thrifty_wide` has hidden
layers of 1,024, actor and critic so sparse that our ledger (`thrifty.sparse.flops`) gives one
update the operations of a dense 256 x 256 one.

A run is one file of JSON lines, forced to disk line by line; its last is "end". A finished one is
skipped, one that was cut off is made again from its start: a clock cannot be resumed.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thrifty.control import ControlConfig

HERE = Path(__file__).resolve().parent
MARKS = (30, 60, 120, 180, 240, 300, 420, 600)  # seconds of training
ENVIRONMENTS = ("HalfCheetah-v5", "Hopper-v5")
SEEDS = (0, 1, 2)
EPISODES = 10
PLANNED_STEPS = 1_000_000
LEARNING_STARTS = 10_000
NOISE = 0.1
BATCH = 256
WIDE = (1024, 1024)
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


class Stopwatch:
    """Processor and wall seconds, and whether they run."""

    def __init__(self) -> None:
        self._cpu, self._wall = 0.0, 0.0

    def start(self) -> None:
        """Let the time run."""
        self._cpu -= time.process_time()
        self._wall -= time.perf_counter()

    def stop(self) -> tuple[float, float]:
        """Hold the time; return the processor and the wall seconds so far."""
        self._cpu += time.process_time()
        self._wall += time.perf_counter()
        return self._cpu, self._wall

    def running_cpu(self) -> float:
        """Return the processor seconds while the time runs."""
        return self._cpu + time.process_time()


class Trial:
    """One contender's run: its clock, its evaluations and its file.

    Args:
        environment: Gymnasium id.
        seed: of the run; the evaluation's follow from it.
        marks: seconds of training at which it is evaluated.
        path: of the file.
    """

    def __init__(self, environment: str, seed: int, marks: list[int], path: Path) -> None:
        from thrifty.rl import Environments

        self.clock = Stopwatch()
        self._marks = marks
        self._evaluation = Environments(environment, seed=10_000 + seed)
        if (abs(self._evaluation.low) != 1).any() or (abs(self._evaluation.high) != 1).any():
            raise ValueError(f"{environment} has actions outside [-1, 1]; choose another")
        self._file = path.open("w", encoding="utf-8")

    def write(self, kind: str, **fields: object) -> None:
        """Append one record and force it to disk."""
        self._file.write(json.dumps({"kind": kind, **fields}) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def describe(self, **fields: object) -> None:
        """Note, off the clock, what was built."""
        cpu, wall = self.clock.stop()
        self.write("model", cpu_seconds=cpu, wall_seconds=wall, **fields)
        self.clock.start()

    def goes_on(
        self, step: int, updates: int, policy: Callable[[Any], Any], *, over: bool = False
    ) -> bool:
        """Evaluate if a mark has been passed, off the clock; return whether marks are left.

        Args:
            step: environment steps so far.
            updates: so far.
            policy: observations [1, O] to noise-free actions [1, A] in [-1, 1].
            over: the run has ended: at all marks that are left it has what it ended with.
        """
        if not over and self.clock.running_cpu() < self._marks[0]:
            return True
        from thrifty.rl import evaluate_policy

        cpu, wall = self.clock.stop()
        result = evaluate_policy(self._evaluation, policy, EPISODES)
        while self._marks and (over or self._marks[0] <= cpu):
            self.write(
                "evaluation",
                mark=self._marks.pop(0),
                cpu_seconds=cpu,
                wall_seconds=wall,
                step=step,
                updates=updates,
                returns=result.returns,
                lengths=result.lengths,
                return_mean=result.return_mean,
            )
        self.clock.start()
        return bool(self._marks)


# ---------------------------------------------------------------------- the contenders


def wide_sparsity(environment: str) -> float:
    """Return the sparsity at which the wide agent's update costs what the dense 256 one does.

    Bisection over the ledger of agents that are really built; one sparsity for both networks.

    Args:
        environment: Gymnasium id, for the sizes of observations and actions.
    """
    from thrifty.control import SparsityConfig, TD3Config
    from thrifty.rl import Environments

    sizes = Environments(environment)
    low, high = 0.5, 0.999
    while high - low > 1e-4:
        middle = (low + high) / 2
        network = SparsityConfig(sparsity=middle)
        config = TD3Config(
            actor_hidden=WIDE,
            critic_hidden=WIDE,
            dense_twin_hidden=(256, 256),
            actor=network,
            critic=network,
        )
        learner = config.build(sizes.observation_dim, sizes.action_dim, seed=0)
        if learner.ledger()["training_flops"]["ratio"] > 1.0:
            low = middle
        else:
            high = middle
    return round(high, 4)


def our_config(
    environment: str, sparsity: float | None = None, hidden: tuple[int, int] = (256, 256)
) -> ControlConfig:
    """Return RLx2-TD3 under the protocol.

    Args:
        environment: Gymnasium id.
        sparsity: of actor and critic; None is the published pair.
        hidden: widths.
    """
    from thrifty.recipes import rlx2

    config = rlx2.td3(environment, PLANNED_STEPS)
    algorithm: Any = config.algorithm
    algorithm = dataclasses.replace(
        algorithm,
        batch_size=BATCH,
        exploration_noise=NOISE,
        actor_hidden=hidden,
        critic_hidden=hidden,
        dense_twin_hidden=(256, 256),
    )
    if sparsity is not None:
        algorithm = dataclasses.replace(
            algorithm,
            actor=dataclasses.replace(algorithm.actor, sparsity=sparsity),
            critic=dataclasses.replace(algorithm.critic, sparsity=sparsity),
        )
    return dataclasses.replace(
        config,
        algorithm=algorithm,
        backend="engine",
        learning_starts=LEARNING_STARTS,
        evaluate_every=0,
        random_episodes=0,
    )


def train_ours(config: ControlConfig, seed: int, trial: Trial) -> None:
    """Train ours until the trial ends it."""
    trial.clock.start()
    experiment = config.build(seed)
    ledger = experiment.learner.ledger()
    trial.describe(
        configuration=dataclasses.asdict(experiment.config),
        sparsity=experiment.sparsity(),
        ledger={name: ledger[name] for name in ("parameters", "training_flops")},
    )

    def policy(seen: Any) -> Any:
        return experiment.learner.act(seen, explore=False)[0]

    for _ in experiment.records():
        if not trial.goes_on(experiment.step, experiment.learner.updates, policy):
            return
    trial.goes_on(experiment.step, experiment.learner.updates, policy, over=True)


def train_theirs(package: str, name: str, environment: str, seed: int, trial: Trial) -> None:
    """Train a learner of Stable-Baselines3 or sbx until the trial ends it.

    Args:
        package: stable_baselines3 or sbx.
        name: TD3 or SAC.
        environment: Gymnasium id.
        seed: of the run.
        trial: decides.
    """
    import numpy as np
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.noise import NormalActionNoise

    from thrifty.rl.environments import make_environment

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            model: Any = self.model
            return trial.goes_on(
                self.num_timesteps,
                model._n_updates,
                lambda seen: model.predict(seen, deterministic=True)[0],
            )

    learner = getattr(importlib.import_module(package), name)
    trial.clock.start()
    env = make_environment(environment)
    settings: dict[str, Any] = {}
    if name == "TD3":
        size = int(np.prod(env.action_space.shape or ()))
        settings["action_noise"] = NormalActionNoise(np.zeros(size), NOISE * np.ones(size))
    model = learner(
        "MlpPolicy",
        env,
        batch_size=BATCH,
        learning_starts=LEARNING_STARTS,
        train_freq=1,
        gradient_steps=1,
        seed=seed,
        device="cpu",
        **settings,
    )
    trial.describe(
        configuration={name: str(getattr(model, name)) for name in STATED if hasattr(model, name)},
        hidden={
            name: str(getattr(model.policy, name))
            for name in ("net_arch", "net_arch_pi", "net_arch_qf")
            if hasattr(model.policy, name)
        },
    )
    model.learn(PLANNED_STEPS * 10, callback=Watch(), log_interval=None)


def contend(contender: str, environment: str, seed: int, trial: Trial) -> None:
    """Run one contender to the end of its trial."""
    if contender in THEIRS:
        train_theirs(*THEIRS[contender], environment, seed, trial)
    else:
        train_ours(OURS[contender](environment), seed, trial)


OURS: dict[str, Callable[[str], Any]] = {
    "thrifty_td3": our_config,
    "thrifty_td3_95": lambda environment: our_config(environment, 0.95),
    "thrifty_wide": lambda environment: our_config(environment, wide_sparsity(environment), WIDE),
}
THEIRS = {
    "sbx_td3": ("sbx", "TD3"),
    "sbx_sac": ("sbx", "SAC"),
    "sb3_td3": ("stable_baselines3", "TD3"),
}
STATED = (
    "learning_rate", "buffer_size", "batch_size", "learning_starts", "tau", "gamma",
    "gradient_steps", "policy_delay", "target_policy_noise", "target_noise_clip", "ent_coef_init",
    "target_entropy", "n_steps", "action_noise",
)  # fmt: skip
OTHERS = ("stable_baselines3", "sbx_rl", "jax")


# ---------------------------------------------------------------------- runs


def finished(path: Path, minutes: float) -> bool:
    """Return whether a file holds a run of at least so many minutes that came to its end."""
    if not path.exists():
        return False
    last = path.read_text(encoding="utf-8").rstrip("\n").rsplit("\n", 1)[-1]
    try:
        record = json.loads(last)
    except ValueError:  # cut off within a line
        return False
    return bool(record.get("kind") == "end" and record["minutes"] >= minutes)


def run_one(flags: argparse.Namespace) -> None:
    """Make one run in this process."""
    path = flags.out / f"{flags.contender}-{flags.environment}-{flags.seed}.jsonl"
    if finished(path, flags.minutes):
        print(f"{path.stem}: finished already", flush=True)
        return
    if path.exists():
        print(f"{path.stem}: was cut off or shorter, made again from its start", flush=True)
    marks = [mark for mark in MARKS if mark <= 60 * flags.minutes]
    if not marks:
        raise ValueError(f"--minutes must be at least {MARKS[0] / 60}, got {flags.minutes}")
    os.environ.update(ONE_THREAD)
    core = sorted(os.sched_getaffinity(0))[-1] if flags.core is None else flags.core
    os.sched_setaffinity(0, {core})  # before the libraries count the cores
    with tempfile.TemporaryDirectory() as cache:
        os.environ["THRIFTY_CACHE_DIR"] = cache
        import torch

        import thrifty.control.compiled
        import thrifty.recipes.rlx2
        import thrifty.rl  # noqa: F401  imports do not count
        from thrifty.runs.environment import describe_environment

        if flags.contender in THEIRS:
            importlib.import_module(THEIRS[flags.contender][0])
        torch.set_num_threads(1)
        flags.out.mkdir(parents=True, exist_ok=True)
        trial = Trial(flags.environment, flags.seed, marks, path)
        trial.write(
            "start",
            contender=flags.contender,
            environment=flags.environment,
            seed=flags.seed,
            **describe_environment(),
            others={name: importlib.metadata.version(name) for name in OTHERS},
            load_average=os.getloadavg()[0],
        )
        contend(flags.contender, flags.environment, flags.seed, trial)
        cpu, wall = trial.clock.stop()
        trial.write("end", minutes=flags.minutes, cpu_seconds=cpu, wall_seconds=wall)
    print(f"{path.stem}: {cpu:.0f} s of processor time, {wall:.0f} s on the wall", flush=True)


def queue() -> list[tuple[str, str, int]]:
    """Return every run, seed 0 of everything first; the wide agent on one environment."""
    return [
        (contender, environment, seed)
        for seed in SEEDS
        for environment in ENVIRONMENTS
        for contender in (*OURS, *THEIRS)
        if contender != "thrifty_wide" or environment == ENVIRONMENTS[0]
    ]


def run_all(flags: argparse.Namespace) -> int:
    """Make every run that is not finished, each in a process and on a core of its own."""
    cores: SimpleQueue[int] = SimpleQueue()
    available = sorted(os.sched_getaffinity(0))
    if not 1 <= flags.jobs <= len(available):
        raise ValueError(f"--jobs must lie between 1 and {len(available)}, got {flags.jobs}")
    for core in available[: flags.jobs]:
        cores.put(core)

    def run(contender: str, environment: str, seed: int) -> int:
        core = cores.get()
        try:
            command = [sys.executable, __file__, "--contender", contender, "--core", str(core)]
            command += ["--environment", environment, "--seed", str(seed)]
            command += ["--minutes", str(flags.minutes), "--out", str(flags.out)]
            return subprocess.run(command, check=False).returncode
        finally:
            cores.put(core)

    with ThreadPoolExecutor(flags.jobs) as pool:
        codes = list(pool.map(lambda one: run(*one), queue()))
    return int(any(codes))


def main() -> int:
    """Read the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every run")
    which.add_argument("--contender", choices=(*OURS, *THEIRS))
    parser.add_argument("--environment", "--env", choices=ENVIRONMENTS, default=ENVIRONMENTS[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10, help="of training time")
    parser.add_argument("--out", type=Path, default=HERE / "wall_clock")
    parser.add_argument("--core", type=int, help="to pin to; by default the last")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, with --all")
    flags = parser.parse_args()
    if flags.all:
        return run_all(flags)
    run_one(flags)
    return 0


if __name__ == "__main__":
    sys.exit(main())
