"""The demo's training loop beside the same loop in the dense reference, timed in turn on one core.

One environment step with its update, as `thrifty demo` does them: the demo's agent on the engine,
links moving as often as in the demo, and its dense twin (same sizes, same settings, nothing cut) in
the torch reference. Evaluations are left out of both; the clock is the process's own, which other
work on the machine does not move. It takes some ten seconds, so the demo does it on the user's
machine after training, and its report tells how long the dense twin would take.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from thrifty.bench.cases import one_core
from thrifty.bench.schema import Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.control import ControlConfig, ControlExperiment
from thrifty.recipes import rlx2

METRIC = "milliseconds_per_step"
AGENT = "demo agent, engine"
DENSE = "dense twin, reference"
_NEVER = 1_000_000_000
_FEW = 10
"""Steps of the agent for each of the dense twin's."""


def measure(*, rounds: int = 6, steps: int = 500) -> list[Row]:
    """Measure both loops.

    Args:
        rounds: samples of each.
        steps: environment steps per sample of the agent; the dense twin makes a tenth of them.

    Returns:
        Rows in milliseconds of processor time per environment step with its update.
    """
    config = rlx2.demo()
    made = {AGENT: steps, DENSE: max(1, steps // _FEW)}
    with one_core():
        loops = {AGENT: _loop(config), DENSE: _loop(dense_twin(config))}
        actions = {name: _sample(loop, made[name]) for name, loop in loops.items()}
        samples = interleave(actions, rounds=rounds, clock=time.process_time)
        share = loops[AGENT].sparsity()["all"]
    rows = [
        Row(
            case=f"{config.environment}, step with one update",
            implementation=name,
            sparsity=round(share, 4) if name == AGENT else 0.0,
            metric=METRIC,
            statistic=statistic,
            value=1000.0 * value / made[name],
            unit="ms",
        )
        for name in loops
        for statistic, value in summarise(samples[name]).items()
    ]
    return compare(rows, implementation=AGENT, ratio_to=DENSE)


def dense_twin(config: ControlConfig) -> ControlConfig:
    """Return the same training without sparsity, in the reference."""
    networks = {
        name: dataclasses.replace(getattr(config.algorithm, name), sparsity=0.0, update_until=0)
        for name in ("actor", "critic")
    }
    algorithm = dataclasses.replace(config.algorithm, **networks)
    return dataclasses.replace(config, algorithm=algorithm, backend="reference")


def _loop(config: ControlConfig) -> ControlExperiment:
    """The loop of a run past its warm-up and its one-step targets, without evaluations."""
    config = config.resolved()  # with the time constants of the demo's length
    algorithm = dataclasses.replace(config.algorithm, n_step_delay=0)
    config = dataclasses.replace(
        config,
        algorithm=algorithm,
        steps=_NEVER,
        learning_starts=1000,
        evaluate_every=0,
        random_episodes=0,
    )
    experiment = config.build(0)
    _sample(experiment, 1000)()
    return experiment


def _sample(experiment: ControlExperiment, steps: int) -> Callable[[], None]:
    records = experiment.records()

    def sample() -> None:
        end = experiment.step + steps
        while experiment.step < end:
            next(records)

    return sample
