from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from thrifty.bench import learners, loop, schema
from thrifty.bench.cases import Case
from thrifty.bench.schema import NOT_MEASURED
from thrifty.control import ReplayConfig, SparsityConfig


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Script:
    """An experiment of known pieces: (seconds, record)."""

    def __init__(self, clock: Clock, pieces: list[tuple[float, Any]]) -> None:
        self.clock, self.pieces = clock, pieces

    def records(self) -> Iterator[Any]:
        for seconds, record in self.pieces:
            self.clock.now += seconds
            yield record


def test_the_share_of_a_move_is_that_of_its_piece_in_its_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three intervals: the first move is only a beginning; then 2 of 20 and 3 of 12 seconds."""
    clock = Clock()
    first, second = {"kind": "topology"}, (0.0, {"kind": "topology"})
    pieces = [(5.0, None), (4.0, first), second]
    pieces += [(10.0, None), (8.0, {"kind": "train"}), (2.0, first), second]
    pieces += [(9.0, None), (3.0, first), second]
    monkeypatch.setattr(loop, "time", clock)
    experiment: Any = Script(clock, pieces)
    assert loop.shares_of_moves(experiment, 2) == [10.0, 25.0]


def test_the_piece_that_moves_links_is_the_one_that_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run whose clock runs 1 s an update and 9 s more where links move: 10 of 13 seconds."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    config = loop.config("TD3", "reference")
    moving = SparsityConfig(sparsity=0.9, update_every=4, update_until=1_000_000)
    sizes = {"actor_hidden": (8, 8), "critic_hidden": (8, 8), "batch_size": 4}
    algorithm = dataclasses.replace(
        config.algorithm,
        **sizes,
        critic=moving,
        actor=dataclasses.replace(moving, update_every=2),  # every second update is the actor's
    )
    config = dataclasses.replace(
        config, environment="Pendulum-v1", learning_starts=10, algorithm=algorithm
    )
    experiment = dataclasses.replace(config, replay=ReplayConfig(capacity=100)).build(0)
    update = experiment._update

    def timed() -> None:
        update()
        clock.now += 1.0 if experiment.learner.updates % 4 else 10.0

    monkeypatch.setattr(experiment, "_update", timed)
    assert loop.shares_of_moves(experiment, 2) == pytest.approx([100 * 10 / 13] * 2)


@pytest.mark.slow
def test_everything_is_measured_and_fits_the_schema() -> None:
    pytest.importorskip("sbx", reason='needs pip install "thrifty[bench]"')
    rows = loop.measure(rounds=2, steps=8, seconds=0.4, moves=1)
    document = [dataclasses.asdict(row) for row in rows]
    assert schema.validate({**schema.circumstances("x"), "rows": document}) == rows
    for learner in ("TD3", "SAC"):
        ours = [row for row in rows if row.implementation == f"thrifty {learner}, engine"]
        others = {f"sbx {learner}", f"SB3 {learner}", f"thrifty {learner}, reference"}
        compared = {row.ratio_to for row in ours if row.metric == loop.METRIC}
        assert compared == others
    (two,) = {row.ratio_to for row in rows if row.implementation == "two learners"}
    assert two == "one learner"


def test_without_the_baselines_gaps_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("sbx", "stable_baselines3"):
        monkeypatch.setitem(sys.modules, module, None)
    rows = loop.loops("TD3", rounds=1, steps=4)
    gaps = {row.implementation for row in rows if row.statistic == NOT_MEASURED}
    assert gaps >= {"sbx TD3", "SB3 TD3"}
    assert 'pip install "thrifty[bench]"' in capsys.readouterr().out
    assert any(row.implementation == "thrifty TD3, reference" and row.value for row in rows)


@pytest.mark.slow
def test_learners_run_one_and_two_at_a_time() -> None:
    rates = learners.rates(Case("toy", 5, 2), 0.9, rounds=2, seconds=0.2)
    assert {count: len(values) for count, values in rates.items()} == {1: 2, 2: 2}
    assert all((values > 0).all() for values in rates.values())
