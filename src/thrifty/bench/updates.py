"""Updates per second of one learner by everyone who can do them, timed in turn.

What ``bench td3`` and ``bench sac`` share. A sample is a few calls of so many updates each; a
number that is compared with several has one row for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from thrifty.bench import arithmetic, baselines
from thrifty.bench.baselines import Package
from thrifty.bench.cases import BATCH, HIDDEN, TRANSITIONS, Case, one_core, random_replay
from thrifty.bench.dense_limit import DenseSAC, DenseTD3
from thrifty.bench.schema import NOT_MEASURED, Row, compare
from thrifty.bench.timing import Seconds, interleave, summarise
from thrifty.control import SAC, TD3, SACConfig, SparsityConfig, TD3Config
from thrifty.control.fused import transitions_of
from thrifty.control.sac_fused import sac_update
from thrifty.control.td3_fused import td3_update
from thrifty.rl.transitions import Replay

METRIC = "updates_per_second"
SPARSITIES = (0.8, 0.9, 0.95, 0.97)
MASKED = 0.95
"""Sparsity of the masked reference, which costs the same at any."""
PER_CALL = (1, 16)
ENGINE = "thrifty engine"
REFERENCE = "thrifty reference, dense"
REFERENCE_MASKED = "thrifty reference, masked"
DENSE_LIMIT = "dense without autograd"
DENSE_LIMIT_BF16 = "dense without autograd, bf16"
ARITHMETIC = "arithmetic limit"
_SLOW_CALLS, _FAST_UPDATES = 4, 32  # of a sample; even, for the actor moves every second time


@dataclass(frozen=True)
class Entry:
    """Something timed: a call, how often a sample makes it, and what its row says."""

    implementation: str
    call: Callable[[], object]
    calls: int
    per_call: int = 1
    sparsity: float | None = 0.0

    def sample(self) -> None:
        """Make a sample's calls."""
        for _ in range(self.calls):
            self.call()


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Attributes:
        learner: TD3 or SAC.
        case: sizes.
        name: of the case in the rows; the sizes' own by default.
        networks: (actor, critic) sparsities of the engine's rows.
        n_step: length of windows.
        rounds: samples of each.
    """

    learner: str
    case: Case
    networks: tuple[tuple[float, float], ...] = tuple((s, s) for s in SPARSITIES)
    masked: tuple[float, float] = (MASKED, MASKED)
    name: str = ""
    n_step: int = 1
    rounds: int = 60

    @property
    def title(self) -> str:
        """Return the rows' case."""
        return self.name or self.case.name


def named(implementation: str, per_call: int) -> str:
    """Return an implementation's name with its updates per call, where these are several."""
    return implementation if per_call == 1 else f"{implementation}, {per_call} per call"


def build(settings: Settings, actor: float = 0.0, critic: float = 0.0) -> TD3 | SAC:
    """Return the reference learner at some sparsities."""
    changes: dict[str, Any] = {
        "actor": SparsityConfig(sparsity=actor),
        "critic": SparsityConfig(sparsity=critic),
        "batch_size": BATCH,
        "actor_hidden": HIDDEN,
        "critic_hidden": HIDDEN,
        "n_step": settings.n_step,
    }
    config = TD3Config(**changes) if settings.learner == "TD3" else SACConfig(**changes)
    return config.build(settings.case.observations, settings.case.actions, seed=0)


def sparsity_of(learner: TD3 | SAC) -> float:
    """Return the share of zero weights of actor and critics together."""
    rows = learner.ledger()["rows"]
    kept = sum(row["sparse_parameters"] for row in rows)
    return round(float(1.0 - kept / sum(row["dense_parameters"] for row in rows)), 4)


def measure(settings: Settings) -> list[Row]:
    """Measure one case; compiles for some seconds first.

    Returns:
        Rows in updates per second: low stands for the low time, the fast end.
    """
    with one_core():
        return _measure(settings)


def _measure(settings: Settings) -> list[Row]:
    replay = random_replay(settings.case, TRANSITIONS)
    theirs, gaps = _baselines(settings, replay)
    entries = [*theirs, *_references(settings, replay), *_engines(settings, replay)]
    actions: dict[str, Callable[[], object]] = {
        str(number): entry.sample for number, entry in enumerate(entries)
    }
    gemms = arithmetic.gemms()
    actions |= {f"gemm {n}": product for n, product in gemms.items()}
    samples = interleave(actions, rounds=settings.rounds, warm_up=2)
    rows = list(gaps)
    for number, entry in enumerate(entries):
        rows += _rows(settings, entry, samples[str(number)] / (entry.calls * entry.per_call))
    speeds = {n: samples[f"gemm {n}"] for n in gemms}
    for actor, critic in settings.networks:
        learner = build(settings, actor, critic)
        flops = arithmetic.update_flops(learner, settings.case.observations)
        entry = Entry(ARITHMETIC, lambda: None, 1, sparsity=_sparsity(actor, critic, learner))
        rows += _rows(settings, entry, arithmetic.seconds_at_best(flops, speeds))
    return _ratios(settings, rows)


def _sparsity(actor: float, critic: float, learner: TD3 | SAC) -> float:
    return actor if actor == critic else sparsity_of(learner)


def _baselines(settings: Settings, replay: Replay) -> tuple[list[Entry], list[Row]]:
    entries, gaps = [], []
    packages: tuple[tuple[Package, int], ...] = (("SB3", 1), *(("sbx", n) for n in PER_CALL))
    for package, per_call in packages:
        name = named(f"{package} {settings.learner}", per_call)
        try:
            call = baselines.updates(
                package, settings.learner, settings.case, replay, per_call, settings.n_step
            )
        except ModuleNotFoundError:
            print(f"{name} is not measured: {baselines.REMEDY}")
            gaps.append(_gap(settings, name))
            continue
        calls = _SLOW_CALLS if per_call == 1 else 1
        entries.append(Entry(name, call, calls, per_call))
    return entries, gaps


def _references(settings: Settings, replay: Replay) -> list[Entry]:
    rng = np.random.default_rng(0)

    def reference(learner: TD3 | SAC) -> Callable[[], object]:
        n_step, discount = settings.n_step, learner.config.discount
        return lambda: learner.update(
            replay.sample(BATCH, n_step=n_step, discount=discount, rng=rng)
        )

    dense, masked = build(settings), build(settings, *settings.masked)
    entries = [
        Entry(REFERENCE, reference(dense), _SLOW_CALLS),
        Entry(
            REFERENCE_MASKED,
            reference(masked),
            _SLOW_CALLS,
            sparsity=_sparsity(*settings.masked, masked),
        ),
    ]
    if settings.n_step == 1:
        for name, dtype in ((DENSE_LIMIT, torch.float32), (DENSE_LIMIT_BF16, torch.bfloat16)):
            by_hand: DenseTD3 | DenseSAC
            if isinstance(dense, TD3):
                by_hand = DenseTD3(dense, replay, dtype=dtype)
            else:
                by_hand = DenseSAC(dense, replay, dtype=dtype)
            entries.append(Entry(name, by_hand.update, _SLOW_CALLS))
    return entries


def _engines(settings: Settings, replay: Replay) -> list[Entry]:
    transitions = transitions_of(replay)
    entries = []
    for actor, critic in settings.networks:
        for per_call in PER_CALL:
            learner = build(settings, actor, critic)
            sparsity = _sparsity(actor, critic, learner)
            if isinstance(learner, TD3):
                update = td3_update(learner, replay.columns)
            else:
                update = sac_update(learner, replay.columns)

            def call(run: Any = update.run, per_call: int = per_call) -> None:
                run(per_call, transitions)

            calls = _FAST_UPDATES // per_call
            entries.append(Entry(named(ENGINE, per_call), call, calls, per_call, sparsity))
    return entries


def _rows(settings: Settings, entry: Entry, seconds: Seconds) -> list[Row]:
    """Rows of the seconds of one update, as updates per second."""
    return [
        Row(
            case=settings.title,
            implementation=entry.implementation,
            sparsity=entry.sparsity,
            updates_per_call=entry.per_call,
            metric=METRIC,
            statistic=statistic,
            value=1.0 / value,
            unit="1/s",
        )
        for statistic, value in summarise(seconds).items()
    ]


def _gap(settings: Settings, implementation: str) -> Row:
    return Row(
        case=settings.title,
        implementation=implementation,
        metric=METRIC,
        statistic=NOT_MEASURED,
        value=None,
        unit="1/s",
    )


def _ratios(settings: Settings, rows: list[Row]) -> list[Row]:
    theirs = [f"{package} {settings.learner}" for package in ("sbx", "SB3")]
    rows = against(rows, ENGINE, [*theirs, REFERENCE, DENSE_LIMIT, DENSE_LIMIT_BF16])
    several = PER_CALL[-1]
    return against(rows, named(ENGINE, several), [named(theirs[0], several)])


def against(rows: Sequence[Row], implementation: str, others: Sequence[str]) -> list[Row]:
    """Return the rows, those of an implementation once for each of the others, with the ratio.

    Args:
        rows: of one or more cases.
        implementation: whose rows are compared.
        others: with whom; who has no rows is left out.
    """
    mine = [row for row in rows if row.implementation == implementation]
    compared = [
        row
        for other in others
        for row in compare(rows, implementation=implementation, ratio_to=other)
        if row.implementation == implementation and row.ratio_to == other
    ]
    return [row for row in rows if row.implementation != implementation] + (compared or mine)
