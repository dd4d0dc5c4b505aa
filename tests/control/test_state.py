from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small_runs import config, count_experiment, run

from thrifty.control import ControlExperiment
from thrifty.rl import Replay
from thrifty.runs import load_state, save_state
from toy_environments import Count


def test_a_state_of_another_environment_is_refused_in_one_line(tmp_path: Path) -> None:
    experiment = count_experiment()
    run(experiment)
    save_state(tmp_path / "a.npz", experiment.state_dict())
    with pytest.raises(ValueError, match="other observation or action sizes") as problem:
        ControlExperiment(config(), 0).load_state_dict(load_state(tmp_path / "a.npz"))
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_windows_do_not_join_what_a_vector_environment_broke_off(
    tmp_path: Path, mode: AutoresetMode
) -> None:
    def make() -> ControlExperiment:
        source = SyncVectorEnv([partial(Count, 50)] * 2, autoreset_mode=mode)
        return count_experiment(source=source)

    one, two = make(), make()
    records = one.records()
    while one.step < 12:
        next(records)
    save_state(tmp_path / "a.npz", one.state_dict())
    two.load_state_dict(load_state(tmp_path / "a.npz"))
    run(two)
    # Rows 10 and 11 were the last before the break, at their episodes' sixth step.
    batch = two.replay.windows(np.array([8, 9, 10, 11]), n_step=4, discount=0.5)
    assert batch.next_observation[:, 0].tolist() == [6.0] * 4
    assert batch.n_step_return.tolist() == [5 + 6 / 2] * 2 + [6.0] * 2
    assert batch.discount.tolist() == [0.25] * 2 + [0.5] * 2


def test_an_environment_with_hidden_reward_state_is_refused() -> None:
    def source() -> gym.Env[Any, Any]:
        return gym.wrappers.NormalizeReward(gym.make("Pendulum-v1"))

    experiment = ControlExperiment(config(steps=300), 0, source)
    records = experiment.records()
    while experiment.step < 250:  # in the second episode, whose scale the first has set
        next(records)
    with pytest.raises(ValueError, match="other observations or rewards"):
        ControlExperiment(config(steps=300), 0, source).load_state_dict(experiment.state_dict())


def test_breaks_survive_a_second_resume_from_the_journal(tmp_path: Path) -> None:
    replay = Replay(10, 1, 1)

    def add(count: int) -> None:
        for _ in range(count):
            one = np.ones((1, 1), np.float32)
            no = np.zeros(1, np.bool_)
            replay.add(
                observation=one,
                action=one,
                policy_action=one,
                reward=one[0],
                next_observation=one,
                terminated=no,
                truncated=no,
            )

    add(3)
    stored = save_state(tmp_path / "a.npz", replay.state_dict(), journal=tmp_path / "journal")
    replay.end_episodes()  # row 2, which the journal holds without the break
    add(2)
    save_state(tmp_path / "b.npz", replay.state_dict(), journal=tmp_path / "journal", stored=stored)
    again = Replay(10, 1, 1)
    again.load_state_dict(load_state(tmp_path / "b.npz", journal=tmp_path / "journal"))
    batch = again.windows(np.array([1]), n_step=3, discount=0.5)
    assert batch.n_step_return.tolist() == [1.5]  # rows 1 and 2: 1 + 0.5
    assert batch.discount.tolist() == [0.25]
