"""What follows from a run's length, and what was set otherwise."""

from __future__ import annotations

import dataclasses

import pytest

from thrifty.control import ControlConfig, SACConfig, SparsityConfig, TD3Config
from thrifty.recipes import rlx2
from thrifty.runs.configuration import from_json, to_json


def test_everything_open_becomes_a_fraction_of_the_run() -> None:
    config = rlx2.td3("HalfCheetah-v5", 300_000).resolved()
    algorithm, replay = config.algorithm, config.replay
    # 300,000 / 120, / 300, / 10, / 300, / 30; updates 297,500 and half of them.
    assert config.learning_starts == 2_500
    assert algorithm.critic.update_every == algorithm.actor.update_every == 1_000
    assert (algorithm.critic.update_until, algorithm.actor.update_until) == (297_500, 148_750)
    assert algorithm.n_step_delay == 30_000
    assert (replay.check_every, replay.minimum, replay.capacity) == (1_000, 10_000, 300_000)
    assert config.scaling == "fractions of a run of 300,000 steps"
    assert config.resolved() is config
    assert from_json(ControlConfig, to_json(config)) == config


def test_fewer_updates_per_step_stretch_what_is_counted_in_updates() -> None:
    # 16 environments and one update a round: 100,000 / 16 = 6,250 updates less the warm-up's.
    config = ControlConfig(
        steps=100_000,
        environments=16,
        gradient_steps=1,
        algorithm=TD3Config(n_step=3, critic=SparsityConfig(sparsity=0.9)),
    ).resolved()
    assert config.algorithm.n_step_delay == 625
    assert config.algorithm.critic.update_until == round((100_000 - 1_000) / 16)
    assert config.algorithm.critic.update_every == 500  # the floor


def test_a_warm_up_of_ones_own_moves_the_end_of_evolution_and_is_named() -> None:
    config = dataclasses.replace(rlx2.td3("HalfCheetah-v5", 20_000), learning_starts=5_000)
    config = config.resolved()
    assert config.algorithm.critic.update_until == 15_000
    assert config.algorithm.actor.update_until == 7_500
    assert config.scaling == "fractions of a run of 20,000 steps, but learning_starts 5,000"


def test_a_policy_delay_of_ones_own_moves_the_actor() -> None:
    config = rlx2.td3("HalfCheetah-v5", 20_000)
    algorithm = dataclasses.replace(config.algorithm, policy_delay=4)
    config = dataclasses.replace(config, algorithm=algorithm).resolved()
    assert config.algorithm.actor.update_until == 19_000 // 4


def test_published_numbers_stay() -> None:
    config = dataclasses.replace(rlx2.td3_published("HalfCheetah-v5"), steps=1_000).resolved()
    assert config.algorithm.n_step_delay == 300_000
    assert config.scaling.startswith("absolute")


def test_static_and_switched_off_stay_off() -> None:
    config = rlx2.static("HalfCheetah-v5", 20_000).resolved()
    assert config.algorithm.critic.update_until == 0
    assert config.replay.check_every == 0
    assert config.scaling == "fractions of a run of 20,000 steps"


def test_the_class_of_the_algorithm_survives_json() -> None:
    config = ControlConfig(algorithm=SACConfig(entropy_coefficient=0.5))
    assert from_json(ControlConfig, to_json(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"environments": 0}, "environments must be at least 1"),
        ({"gradient_steps": -2}, "gradient_steps must be at least -1"),
    ],
)
def test_refusals(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControlConfig(**fields).resolved()  # type: ignore[arg-type]
