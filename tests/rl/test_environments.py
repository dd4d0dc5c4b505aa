from __future__ import annotations

import re
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from thrifty.rl import Environments, Replay
from thrifty.rl.environments import EnvironmentFault, make_environment
from toy_environments import Count, Faulty, Forgetful


def still(environments: Environments) -> np.ndarray:
    return np.zeros((environments.count, environments.action_dim), np.float32)


# ---------------------------------------------------------------- actions


@pytest.mark.parametrize(
    ("low", "high", "normalised", "taken"),
    [
        (-2.0, 2.0, 0.25, 0.5),
        (1.0, 3.0, 0.25, 2.25),  # centre 2, half range 1
        (-1.0, 5.0, -1.0, -1.0),
        (-1.0, 5.0, 7.0, 5.0),  # beyond the range: cut
        (-1.0, 5.0, -7.0, -1.0),
    ],
)
def test_actions_are_scaled_to_the_bounds(
    low: float, high: float, normalised: float, taken: float
) -> None:
    count = Count(low=low, high=high)
    environments = Environments(count)
    environments.step(np.array([[normalised]], np.float32))
    assert count.actions[0].tolist() == [taken]
    assert count.actions[0].dtype == np.float32


def test_every_dimension_has_its_own_bounds() -> None:
    count = Count(low=(-1.0, 0.0, -4.0), high=(1.0, 10.0, -2.0))
    environments = Environments(count)
    environments.step(np.array([[0.5, -1.0, 0.0]], np.float32))
    assert count.actions[0].tolist() == [0.5, 0.0, -3.0]
    assert (environments.observation_dim, environments.action_dim) == (2, 3)


def test_without_scaling_actions_pass_as_they_are() -> None:
    count = Count(low=-0.25, high=0.25)
    environments = Environments(count, scale_actions=False)
    environments.step(np.array([[0.5]], np.float32))
    environments.step(np.array([[3.0]], np.float32))
    assert [action.item() for action in count.actions] == [0.5, 1.0]


@given(st.floats(-100, 100, width=32), st.floats(-100, 100, width=32), st.floats(-2, 2, width=32))
def test_no_action_is_outside_the_bounds(one: float, two: float, action: float) -> None:
    low, high = sorted((one, two))
    if low == high:
        return
    count = Count(low=low, high=high)
    environments = Environments(count)
    taken = environments.to_bounds(np.array([[action], [1.0], [-1.0]], np.float32))
    assert all(count.action_space.contains(a) for a in taken)
    scale = max(abs(low), abs(high))
    assert taken[1:, 0] == pytest.approx([high, low], abs=1e-6 * scale)


class _Writing(Count):
    def step(self, action: Any) -> Any:
        seen, *rest = super().step(action)
        seen[1] += action[0]  # what follows depends on the action
        action[:] = 99.0
        return seen, *rest


def test_an_environment_may_write_into_its_input() -> None:
    environments = Environments(_Writing())
    action = np.full((1, 1), 0.5, np.float32)
    environments.step(action)
    assert action.tolist() == [[0.5]]
    again = Environments(_Writing())
    again.load_state_dict(environments.state_dict())
    Environments(_Writing()).load_state_dict(again.state_dict())  # nor is the record written into


# ---------------------------------------------------------------- transitions and episodes


def test_transitions_and_episodes_of_single_environments() -> None:
    environments = Environments(partial(Count, 3, "terminated"), count=2)
    finished = []
    for t in [0, 1, 2] * 2:
        before = environments.observation.copy()
        step = environments.step(still(environments))
        assert before[:, 0].tolist() == [t, t]
        assert step.reward.tolist() == [t + 1, t + 1]
        assert step.next_observation[:, 0].tolist() == [t + 1, t + 1]  # the true one
        assert step.next_observation[:, 1].tolist() == before[:, 1].tolist()  # of its episode
        assert step.terminated.tolist() == [t == 2] * 2
        assert not step.truncated.any()
        assert step.valid is None
        assert environments.observation[:, 0].tolist() == [(t + 1) % 3] * 2
        finished += step.finished
    assert finished == [(6.0, 3)] * 4  # 1 + 2 + 3


def test_every_episode_has_a_seed_of_its_own() -> None:
    made: list[Count] = []

    def make() -> Count:
        made.append(Count(2))
        return made[-1]

    def seeds(seed: int) -> list[list[int | None]]:
        made.clear()
        environments = Environments(make, count=2, seed=seed)
        for _ in range(4):
            environments.step(still(environments))
        return [count.seeds for count in made]

    first, second = seeds(0)
    assert len({*first, *second}) == 6
    assert seeds(0) == [first, second]
    assert not {*first, *second} & {*seeds(1)[0], *seeds(1)[1]}


def test_restart_begins_with_the_first_episode() -> None:
    count = Count(2)
    environments = Environments(count)
    for _ in range(5):
        environments.step(still(environments))
    environments.restart()
    assert count.seeds[3] == count.seeds[0]
    assert environments.observation[0, 0] == 0
    environments.step(still(environments))
    assert environments.step(still(environments)).finished == [(3.0, 2)]


# ---------------------------------------------------------------- vector environments


def vector(mode: AutoresetMode, lengths: tuple[int, ...] = (2, 3, 5)) -> SyncVectorEnv:
    return SyncVectorEnv([partial(Count, length) for length in lengths], autoreset_mode=mode)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_environments_give_true_transitions(mode: AutoresetMode) -> None:
    lengths = (2, 3, 5)
    environments = Environments(vector(mode, lengths), seed=1)
    assert (environments.count, environments.exact) == (3, False)
    replay = Replay(300, 2, 1, environments.count)
    finished: list[tuple[float, int]] = []
    valid_rows, invalid_rows = 0, 0
    for _ in range(30):
        before = environments.observation.copy()
        step = environments.step(still(environments))
        assert step.valid is not None
        for e in np.flatnonzero(step.valid):
            t, episode = before[e]
            assert step.reward[e] == t + 1
            assert step.next_observation[e].tolist() == [t + 1, episode]
            assert step.truncated[e] == (t + 1 == lengths[e])
            assert not step.terminated[e]
        # The next action answers to a running episode, or (NEXT_STEP) to the end of the last one,
        # and then it is lost.
        for e in np.flatnonzero(~step.valid):
            assert environments.observation[e, 0] == 0
        finished += step.finished
        valid_rows += int(step.valid.sum())
        invalid_rows += int((~step.valid).sum())
        replay.add(
            observation=before,
            action=still(environments),
            policy_action=still(environments),
            reward=step.reward,
            next_observation=step.next_observation,
            terminated=step.terminated,
            truncated=step.truncated,
            valid=step.valid,
        )
    # Episodes of n steps pay 1 + ... + n. Where a reset takes a step of its own, 30 steps hold
    # 30/3, 30/4 (rounded down), 30/6 episodes with their resets; otherwise 30/2, 30/3, 30/5.
    assert set(finished) == {(3.0, 2), (6.0, 3), (15.0, 5)}
    if mode == AutoresetMode.NEXT_STEP:
        assert (len(finished), invalid_rows) == (10 + 7 + 5, 10 + 7 + 5)
    else:
        assert (len(finished), invalid_rows) == (15 + 10 + 6, 0)
    assert valid_rows + invalid_rows == 90
    # No window mixes episodes, and none contains a reset.
    batch = replay.sample(500, n_step=4, discount=0.5, rng=np.random.default_rng(0))
    for b in range(500):
        t, episode = batch.observation[b].tolist()
        for k in range(int((batch.path_discount[:, b] > 0).sum())):
            assert batch.path_observation[k, b].tolist() == [t + k + 1, episode]


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_episodes_begin_anew_after_loading(mode: AutoresetMode) -> None:
    environments = Environments(vector(mode), seed=1)
    for _ in range(4):
        environments.step(still(environments))
    again = Environments(vector(mode), seed=1)
    first = again.observation.copy()
    again.load_state_dict(environments.state_dict())
    assert again.observation[:, 0].tolist() == [0, 0, 0]
    assert not np.array_equal(again.observation, first)  # with seeds that are not used up
    assert again.step(still(again)).finished == []
    assert again.step(still(again)).finished == [(3.0, 2)]


def test_the_last_observation_of_a_vector_episode_is_checked() -> None:
    class Diverging(Count):
        def step(self, action: Any) -> Any:
            seen, *rest = super().step(action)
            seen[1] = np.nan if self.t == self.length else seen[1]
            return seen, *rest

    source = SyncVectorEnv([Diverging], autoreset_mode=AutoresetMode.SAME_STEP)
    environments = Environments(source)
    for _ in range(4):
        environments.step(still(environments))
    with pytest.raises(EnvironmentFault, match="observation that is not finite at step 5"):
        environments.step(still(environments))


# ---------------------------------------------------------------- state


@pytest.mark.parametrize("environment", ["Pendulum-v1", "Hopper-v5"])
def test_running_episodes_are_replayed(environment: str) -> None:
    def actions(count: int) -> np.ndarray:
        return np.random.default_rng(count).uniform(-1, 1, (40, 2, count)).astype(np.float32)

    environments = Environments(environment, count=2, seed=3)
    for action in actions(environments.action_dim):
        environments.step(action)
    again = Environments(environment, count=2, seed=3)
    again.load_state_dict(environments.state_dict())
    for action in actions(environments.action_dim):
        one, two = environments.step(action), again.step(action)
        assert all(np.array_equal(a, b) for a, b in zip(one[:4], two[:4], strict=True))
        assert one.finished == two.finished
        assert np.array_equal(environments.observation, again.observation)
    environments.close()
    again.close()


def test_a_state_is_a_copy() -> None:
    environments = Environments(Count(3))
    environments.step(still(environments))
    state = environments.state_dict()
    for _ in range(4):
        environments.step(still(environments))
    again = Environments(Count(3))
    again.load_state_dict(state)
    assert again.observation[0, 0] == 1
    again.step(still(again))
    again.step(still(again))
    assert state["lengths"].tolist() == [1]


def test_an_environment_that_does_not_replay_is_refused_by_name() -> None:
    gym.register("toy/Forgetful-v0", entry_point=Forgetful)
    try:
        environments = Environments("toy/Forgetful-v0")
        environments.step(still(environments))
        with pytest.raises(ValueError, match=r"toy/Forgetful-v0 cannot be resumed.*train anew"):
            Environments("toy/Forgetful-v0").load_state_dict(environments.state_dict())
    finally:
        del gym.registry["toy/Forgetful-v0"]


def test_a_state_of_another_number_of_environments_is_refused() -> None:
    state = Environments(Count, count=2).state_dict()
    with pytest.raises(ValueError, match="2 environments, this one 3"):
        Environments(Count, count=3).load_state_dict(state)


# ---------------------------------------------------------------- faults and refusals


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_a_fault_with_its_step(what: str, value: float) -> None:
    environments = Environments(Faulty(what, value))
    for _ in range(7):
        environments.step(still(environments))
    message = f"the environment gave {what} that is not finite at step 8: .*{value}"
    with pytest.raises(EnvironmentFault, match=message):
        environments.step(still(environments))


def test_opposite_infinities_do_not_hide_each_other() -> None:
    class Both(Count):
        def step(self, action: Any) -> Any:
            _, *rest = super().step(action)
            return np.array([np.inf, -np.inf], np.float32), *rest

    environments = Environments(Both())
    with pytest.raises(EnvironmentFault, match="observation that is not finite"):
        environments.step(still(environments))


def test_huge_but_finite_values_are_no_fault() -> None:
    class Huge(Count):
        def step(self, action: Any) -> Any:
            _, *rest = super().step(action)
            return np.full(2, 3e38, np.float32), *rest  # their sum is beyond float32

    environments = Environments(Huge())
    assert environments.step(still(environments)).next_observation[0, 0] > 2e38


def test_the_step_of_a_fault_counts_every_environment() -> None:
    made = iter([Count(), Faulty("reward")])
    environments = Environments(lambda: next(made), count=2)
    for _ in range(7):
        environments.step(still(environments))
    with pytest.raises(EnvironmentFault, match="at step 16"):
        environments.step(still(environments))


def with_spaces(observation: gym.Space[Any], action: gym.Space[Any]) -> Count:
    count = Count()
    count.observation_space, count.action_space = observation, action
    return count


FLAT = gym.spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (FLAT, gym.spaces.Discrete(3), "need continuous actions"),
        (FLAT, gym.spaces.MultiDiscrete([2, 2]), "need continuous actions"),
        (gym.spaces.Dict(a=FLAT), FLAT, "wrap it in gymnasium.wrappers.FlattenObservation"),
        (gym.spaces.Discrete(4), FLAT, "FlattenObservation"),
        (gym.spaces.Box(0, 255, (8, 8, 3), np.uint8), FLAT, "FlattenObservation"),
        (FLAT, gym.spaces.Box(-1, 1, (2, 2), np.float32), "a flat Box is needed"),
        (FLAT, gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), "RescaleAction"),
        (FLAT, gym.spaces.Box(-1, np.inf, (2,), np.float32), "must be finite"),
        (FLAT, gym.spaces.Box(1, 1, (2,), np.float32), "low < high"),
    ],
)
def test_spaces_that_do_not_fit_are_refused_with_a_remedy(
    observation: gym.Space[Any], action: gym.Space[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Environments(with_spaces(observation, action))


@pytest.mark.parametrize("name", ["NoSuchTask-v0", "nowhere/Task-v0", "", "Pendulum-v99"])
def test_unknown_environments_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot make environment '{name}'"):
        Environments(name)


def test_an_unknown_environment_is_perhaps_registered_by_a_module_of_ones_own() -> None:
    with pytest.raises(ValueError, match="One of your own is MODULE:NoSuchTask-v0, with"):
        Environments("NoSuchTask-v0")
    for known in ("Pendulum-v99", "toy_environments:NoSuchTask-v0"):
        with pytest.raises(ValueError, match="cannot make environment") as told:
            Environments(known)
        assert "MODULE" not in str(told.value)


def test_several_copies_of_an_instance_are_refused() -> None:
    with pytest.raises(ValueError, match="an id or a function"):
        Environments(Count(), count=2)
    with pytest.raises(ValueError, match="at least 1"):
        Environments(Count, count=0)


def test_what_makes_an_environment() -> None:
    count = Count()
    assert make_environment(count) is count
    assert isinstance(make_environment(Count), Count)
    assert Environments("Pendulum-v1").name == "Pendulum-v1"
    assert Environments(gym.make("Pendulum-v1")).name == "Pendulum-v1"
