"""Teams: the time of an update, and environment steps per second with updates included.

One core, one thread. An update is QMIX's on 32 episodes of 50 steps with the sizes of SMAX 3m
(3 agents, hidden 64, mixer 32), dense and with 95 % of the weights masked; both run the GRU over
whole sequences and one matrix product a layer, so the dense one is the yardstick of a compiled
update. Masking alone saves nothing; the compiled update is not there yet and reads "not measured".

The loop: 16 environments, 8 updates for 2,048 environment steps, 32 episodes an update, on the
skirmish and, where the extra smax is installed, on SMAX 3m (compiled before the clock starts).
JaxMARL's own QMIX at those settings is not run here and reads "not measured".
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np

from thrifty.bench.cases import one_core
from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import interleave, summarise
from thrifty.marl import PartSparsityConfig, QMIXConfig, Spec, TeamConfig
from thrifty.marl.episodes import EpisodeBatch, Rows
from thrifty.marl.team import Seen

SIZES = Spec("sizes of SMAX 3m", 3, 8, 75, 72, 100)
EPISODES, SPARSITY = 32, 0.95
_UPDATE = "QMIX update, 32 episodes of 50 steps, SMAX 3m sizes"
_NEVER = 1_000_000_000


def measure(*, rounds: int = 20, length: int = 50, steps: int = 2048) -> list[Row]:
    """Measure updates and loops; takes about two minutes.

    Args:
        rounds: samples of each.
        length: steps of the episodes of an update.
        steps: environment steps in a sample of a loop.
    """
    with one_core():
        rows = _updates(rounds, length)
        rows += _loop("skirmish", rounds, steps)
        if importlib.util.find_spec("jaxmarl") is not None:
            rows += _loop("smax-3m", rounds, steps)
    case = "smax-3m, 8 updates per 2,048 steps"
    rows.append(_missing(case, "JaxMARL QMIX", "environment steps per second", "steps per second"))
    rows.append(_missing(_UPDATE, "thrifty QMIX, engine", "time per update", "s"))
    return rows


def _missing(case: str, implementation: str, metric: str, unit: str) -> Row:
    return Row(
        case=case,
        implementation=implementation,
        metric=metric,
        statistic=NOT_MEASURED,
        value=None,
        unit=unit,
    )


def algorithm(sparsity: float) -> QMIXConfig:
    """Return QMIX as it is measured; links move every 200 updates."""
    part = PartSparsityConfig(sparsity=sparsity, update_every=200, update_until=_NEVER)
    return QMIXConfig(agents=part, mixing=part, batch_episodes=EPISODES)


def random_batch(length: int, rng: np.random.Generator) -> EpisodeBatch:
    """Return a minibatch of random episodes of one length."""
    layout, episodes = Rows(SIZES), []
    for _ in range(EPISODES):
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


def _updates(rounds: int, length: int) -> list[Row]:
    batch = random_batch(length, np.random.default_rng(0))
    names = {"thrifty QMIX, dense": 0.0, "thrifty QMIX, masked": SPARSITY}
    learners = {name: algorithm(sparsity).build(SIZES, seed=0) for name, sparsity in names.items()}
    samples = interleave(
        {name: (lambda one=one: one.update(batch)) for name, one in learners.items()},  # type: ignore[misc]
        rounds=rounds,
    )
    rows = [
        Row(
            case=_UPDATE,
            implementation=name,
            sparsity=names[name],
            updates_per_call=1,
            metric="time per update",
            statistic=statistic,
            value=value,
            unit="s",
        )
        for name, seconds in samples.items()
        for statistic, value in summarise(seconds).items()
    ]
    return compare(rows, implementation="thrifty QMIX, masked", ratio_to="thrifty QMIX, dense")


def _advance(config: TeamConfig, steps: int) -> Callable[[], None]:
    experiment = config.build(0)
    records = experiment.records()

    def sample() -> None:
        end = experiment.step + steps
        while experiment.step < end:
            next(records)

    return sample


def _loop(environment: str, rounds: int, steps: int) -> list[Row]:
    loops = {
        name: _advance(
            TeamConfig(
                environment=environment,
                environments=16,
                steps=_NEVER,
                train_every=256,
                evaluate_every=0,
                record_every=_NEVER,
                algorithm=algorithm(sparsity),
            ),
            steps,
        )
        for name, sparsity in (("thrifty QMIX, dense", 0.0), ("thrifty QMIX, masked", SPARSITY))
    }
    # The first round compiles and fills the replay.
    samples = interleave(loops, rounds=max(1, rounds // 4))
    return [
        Row(
            case=f"{environment}, 8 updates per 2,048 steps",
            implementation=name,
            sparsity=SPARSITY if "masked" in name else 0.0,
            metric="environment steps per second",
            statistic=statistic,
            value=steps / value,
            unit="steps per second",
        )
        for name, seconds in samples.items()
        for statistic, value in summarise(seconds).items()
    ]
