from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thrifty.control.times import scaled_times

NAMES = (
    "learning_starts",
    "evolution_interval",
    "n_step_delay",
    "check_every",
    "replay_minimum",
    "replay_maximum",
    "critic_until",
    "actor_until",
)


# 1/120 (floor 1,000), 1/300 (floor 500), 1/10, 1/300 (floor 500), 1/30 (floor 10,000), 1; and the
# last evolution step: all updates, and every second of them.
@pytest.mark.parametrize(
    ("steps", "values"),
    [
        (20_000, (1_000, 500, 2_000, 500, 10_000, 20_000, 19_000, 9_500)),
        (100_000, (1_000, 500, 10_000, 500, 10_000, 100_000, 99_000, 49_500)),
        (1_000_000, (8_333, 3_333, 100_000, 3_333, 33_333, 1_000_000, 991_667, 495_833)),
        # The published run: every number of its command line, from the fractions.
        (3_000_000, (25_000, 10_000, 300_000, 10_000, 100_000, 3_000_000, 2_975_000, 1_487_500)),
    ],
)
def test_table(steps: int, values: tuple[int, ...]) -> None:
    times = dataclasses.asdict(scaled_times(steps, policy_delay=2))
    assert tuple(times[name] for name in NAMES) == values
    assert times["steps"] == steps


@given(st.integers(1, 10_000_000), st.integers(1, 4))
def test_laws(steps: int, policy_delay: int) -> None:
    times = scaled_times(steps, policy_delay=policy_delay)
    assert times.n_step_delay >= 0
    assert times.critic_until >= times.actor_until >= 1
    assert times.evolution_interval >= 500
    assert times.check_every >= 500
    assert times.replay_minimum >= 10_000
    assert times.evaluate_every >= 1_000
    assert times.record_every >= 100


def test_a_warm_up_of_ones_own() -> None:
    times = scaled_times(20_000, policy_delay=1, learning_starts=5_000)
    assert (times.learning_starts, times.critic_until, times.actor_until) == (5_000, 15_000, 15_000)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="at least one step, got 0"):
        scaled_times(0, policy_delay=2)
    with pytest.raises(ValueError, match="policy_delay must be at least 1, got 0"):
        scaled_times(1000, policy_delay=0)


def test_twenty_thousand_steps_exercise_every_ingredient() -> None:
    times = scaled_times(20_000, policy_delay=2)
    changes = [
        step for step in range(1, times.critic_until) if step % times.evolution_interval == 0
    ]
    assert len(changes) == 37  # 500, 1000, ..., 18500
    assert times.steps // times.check_every == 40
    assert times.n_step_delay < times.critic_until
    assert times.replay_minimum < times.replay_maximum
