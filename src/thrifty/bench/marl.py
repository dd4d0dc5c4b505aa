"""Teams: the time of an update, and environment steps per second with updates included.

An update is QMIX's on 32 episodes of 60 to 100 steps with the sizes of SMAX 3m (3 agents, hidden
64, mixer 32), on one core with one thread: dense and with 95 % of the weights masked, both with the
GRU over whole sequences and one matrix product a layer, and on the engine at 80, 90 and 95 %. The
mark is four times the dense one at 95 %. Of MAST's targets (lambda returns, soft mellowmax) the
dense one and the engine at 95 % are timed as well.

The loop: SMAX 3m with 16 environments and 8 updates for 2,048 environment steps, each side alone on
the machine in processes of its own that take turns, three rounds, all cores, compiling left out
(thrifty.bench.marl_loops). ``--reference PATH`` names a checkout of JaxMARL, whose QMIX runs
unmodified; without it, and without the extra smax, rows read "not measured". An update of either
has 32 sequences, but JaxMARL's are windows of 128 steps and ours are episodes, about 18 steps long
here, where actions are random; the row with 270 episodes an update learns from about 4,800 steps,
JaxMARL's from 4,096. The loop on our skirmish needs nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.bench import marl_loops
from thrifty.bench.cases import one_core
from thrifty.bench.schema import NOT_MEASURED, Row, commit_of, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.engine import loading
from thrifty.marl import PartSparsityConfig, QMIXConfig, Spec, TeamConfig
from thrifty.marl.episodes import EpisodeBatch, Rows
from thrifty.marl.team import Seen

SIZES = Spec("sizes of SMAX 3m", 3, 8, 75, 72, 100)
EPISODES, SPARSITY = 32, 0.95
LENGTHS = (60, 100)
AS_MANY_STEPS = 270
"""Episodes of about 18 steps, which hold no fewer than 32 windows of 128."""
MARK = 4.0
"""Least ratio of the dense update's time to the engine's at 95 %."""
DENSE, MASKED, ENGINE = "thrifty QMIX, dense", "thrifty QMIX, masked", "thrifty QMIX, engine"
ENGINE_ALIKE = f"{ENGINE}, {AS_MANY_STEPS} episodes an update"
THEIRS = "JaxMARL QMIX"
UPDATE = "QMIX update, 32 episodes of 60 to 100 steps, SMAX 3m sizes"
_TARGETS = "the same with lambda returns and soft mellowmax"
LOOP = "smax-3m, 8 updates per 2,048 steps"
_RATE: dict[str, Any] = {"metric": "environment steps per second", "unit": "steps per second"}
_TIME: dict[str, Any] = {"metric": "time per update", "unit": "ms"}
_NEVER = 1_000_000_000


def measure(
    *,
    rounds: int = 20,
    lengths: tuple[int, int] = LENGTHS,
    steps: int = 2048,
    turns: int = 3,
    reference: Path | None = None,
) -> list[Row]:
    """Measure updates and loops; takes about five minutes.

    Args:
        rounds: samples of each.
        lengths: least and largest number of steps of the episodes of an update.
        steps: environment steps in a sample of the loop on the skirmish.
        turns: processes of each side of the loop on SMAX.
        reference: a checkout of JaxMARL.

    Raises:
        ValueError: the reference is no such checkout, or cannot run.
    """
    if reference is not None:
        marl_loops.checked(reference)
    with one_core():
        rows = _updates(UPDATE, {}, (0.8, 0.9, SPARSITY), rounds, lengths)
        tricks = {"td_lambda": 0.6, "next_value": "soft_mellowmax"}
        rows += _updates(_TARGETS, tricks, (SPARSITY,), rounds, lengths)
        rows += _loop("skirmish", max(1, rounds // 4), steps)
    return rows + _turns(turns, reference)


def _missing(case: str, implementation: str, *, metric: str, unit: str) -> Row:
    return Row(
        case=case,
        implementation=implementation,
        metric=metric,
        statistic=NOT_MEASURED,
        value=None,
        unit=unit,
    )


def algorithm(sparsity: float, episodes: int = EPISODES, **changes: Any) -> QMIXConfig:
    """Return QMIX as it is measured; links move every 200 updates."""
    part = PartSparsityConfig(sparsity=sparsity, update_every=200, update_until=_NEVER)
    return QMIXConfig(agents=part, mixing=part, batch_episodes=episodes, **changes)


def random_batch(lengths: tuple[int, int], rng: np.random.Generator) -> EpisodeBatch:
    """Return a minibatch of random episodes, their lengths uniform between two numbers."""
    layout, episodes = Rows(SIZES), []
    for length in rng.integers(lengths[0], lengths[1] + 1, EPISODES).tolist():
        rows = np.zeros((length + 1, layout.width), np.float32)
        seen = Seen(
            rng.normal(size=(length + 1, SIZES.agents, SIZES.observation_dim)).astype(np.float32),
            rng.normal(size=(length + 1, SIZES.state_dim)).astype(np.float32),
            np.ones((length + 1, SIZES.agents, SIZES.actions), bool),
        )
        layout.see(rows, seen)
        actions = rng.integers(0, SIZES.actions, (length, SIZES.agents))
        reward = rng.normal(size=length).astype(np.float32)
        layout.act(rows[:-1], actions, reward, np.zeros(length, bool))
        episodes.append(rows)
    return layout.batch(episodes)


def _updates(
    case: str,
    changes: dict[str, Any],
    sparsities: tuple[float, ...],
    rounds: int,
    lengths: tuple[int, int],
) -> list[Row]:
    batch = random_batch(lengths, np.random.default_rng(0))
    wanted = [(DENSE, 0.0), (MASKED, SPARSITY)]
    gaps = []
    if loading.problem("thrifty.marl.compiled") is None:
        wanted += [(ENGINE, sparsity) for sparsity in sparsities]
    else:
        gaps = [_missing(case, ENGINE, **_TIME)]
    learners = []
    for name, sparsity in wanted:
        learner = algorithm(sparsity, **changes).build(SIZES, seed=0)
        if name == ENGINE:
            learner.compile()
        learners.append(learner)
    samples = interleave(
        {
            str(number): (lambda one=one: one.update(batch))  # type: ignore[misc]
            for number, one in enumerate(learners)
        },
        rounds=rounds,
    )
    rows = [
        Row(
            case=case,
            implementation=name,
            sparsity=sparsity,
            updates_per_call=1,
            statistic=statistic,
            value=1000.0 * value,
            **_TIME,
        )
        for (name, sparsity), seconds in zip(wanted, samples.values(), strict=True)
        for statistic, value in summarise(seconds).items()
    ]
    for name in (MASKED, ENGINE):
        rows = compare(rows, implementation=name, ratio_to=DENSE)
    return rows + gaps


def _advance(config: TeamConfig, steps: int) -> Callable[[], None]:
    experiment = config.build(0)
    records = experiment.records()

    def sample() -> None:
        end = experiment.step + steps
        while experiment.step < end:
            next(records)

    return sample


def _loop(environment: str, rounds: int, steps: int) -> list[Row]:
    wanted = [(DENSE, "reference", 0.0)]
    if loading.problem("thrifty.marl.compiled") is None:
        wanted += [(ENGINE, "engine", SPARSITY)]
    loops = {
        name: _advance(
            TeamConfig(
                environment=environment,
                environments=16,
                steps=_NEVER,
                train_every=256,
                evaluate_every=0,
                record_every=_NEVER,
                backend=backend,  # type: ignore[arg-type]
                algorithm=algorithm(sparsity),
            ),
            steps,
        )
        for name, backend, sparsity in wanted
    }
    samples = interleave(loops, rounds=rounds)  # the first round fills the replay
    sparsities = {name: sparsity for name, _, sparsity in wanted}
    rows = [
        Row(
            case=f"{environment}, 8 updates per 2,048 steps",
            implementation=name,
            sparsity=sparsities[name],
            statistic=statistic,
            value=steps / value,
            **_RATE,
        )
        for name, seconds in samples.items()
        for statistic, value in summarise(seconds).items()
    ]
    return compare(rows, implementation=ENGINE, ratio_to=DENSE)


def _turns(turns: int, reference: Path | None) -> list[Row]:
    """Run the sides of the comparison in turn, each in a process of its own."""
    if importlib.util.find_spec("jaxmarl") is None:
        return [_missing(LOOP, name, **_RATE) for name in (DENSE, ENGINE, THEIRS)]
    ours = {
        DENSE: (0.0, EPISODES),
        ENGINE: (SPARSITY, EPISODES),
        ENGINE_ALIKE: (SPARSITY, AS_MANY_STEPS),
    }
    theirs = f"{THEIRS} ({commit_of(reference)})" if reference is not None else THEIRS
    rates: dict[str, list[float]] = {name: [] for name in (*ours, theirs)}
    with tempfile.TemporaryDirectory() as cache:  # of what JAX compiles in the first turn
        for _ in range(turns):
            for name, (sparsity, episodes) in ours.items():
                numbers = ("--sparsity", str(sparsity), "--episodes", str(episodes))
                rates[name].append(_side(cache, "thrifty", *numbers))
            if reference is not None:
                rates[theirs].append(_side(cache, "jaxmarl", "--reference", str(reference)))
    rows = [
        Row(
            case=LOOP,
            implementation=name,
            sparsity=ours[name][0] if name in ours else 0.0,
            threads=os.cpu_count() or 1,
            statistic=statistic,
            value=value,
            **_RATE,
        )
        for name, found in rates.items()
        if found
        for statistic, value in (("lowest", min(found)), ("median", float(np.median(found))))
    ]
    if reference is None:
        return [*rows, _missing(LOOP, THEIRS, **_RATE)]
    for name in ours:
        rows = compare(rows, implementation=name, ratio_to=theirs)
    return rows


def _side(cache: str, *arguments: str) -> float:
    """Return the steps per second that one process measures.

    Raises:
        ValueError: it fails, with the last line that it says.
    """
    command = [sys.executable, "-m", "thrifty.bench.marl_loops", *arguments]
    known = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it says nothing"]
        raise ValueError(f"{' '.join(arguments[:1])} cannot be measured: {said[-1]}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["rate"])
