from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import thrifty.scheduling
from thrifty.scheduling import ENVIRONMENT, DelayConstrainedScheduling, Sight, VectorScheduling


@pytest.mark.parametrize(
    ("name", "sight"),
    [
        ("S1", None),
        ("S2", None),
        ("S4", None),
        ("S5", Sight(kind="noisy", confusion=0.1)),
        ("csi:2:5", Sight(kind="delayed", delay=3)),
    ],
)
def test_it_is_a_gymnasium_environment(name: str, sight: Sight | None) -> None:
    env = gym.make(ENVIRONMENT, scenario=name, sight=sight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)


def test_gymnasium_imports_the_room_by_the_name_before_the_colon() -> None:
    """In a process that has imported nothing of ours, as the docstring says; no warning."""
    name = "thrifty.scheduling:thrifty/DelayConstrainedScheduling-v0"
    assert name in (DelayConstrainedScheduling.__doc__ or "")
    code = (
        f"import gymnasium; env = gymnasium.make({name!r}, scenario='S1'); env.reset(seed=0); "
        f"many = gymnasium.make_vec({name!r}, num_envs=2, scenario='S1'); "
        "assert many.reset(seed=0)[0].shape == (2, *env.observation_space.shape)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_importing_the_room_again_registers_nothing_twice() -> None:
    importlib.reload(thrifty.scheduling)  # Gymnasium would warn, and warnings are errors
    assert ENVIRONMENT in gym.registry


def test_what_the_room_exports_is_there() -> None:
    for name in thrifty.scheduling.__all__:
        assert getattr(thrifty.scheduling, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        thrifty.scheduling.nothing  # noqa: B018


def test_sizes_of_observations() -> None:
    # S1: 5 + 5 + 5 + 7 cells and 4 channels; hidden S2: 45 cells; S4: 28, 4 and the phase's 2.
    sizes = [
        DelayConstrainedScheduling(name).observation_space.shape for name in ("S1", "S2", "S4")
    ]
    assert sizes == [(26,), (45,), (34,)]
    assert DelayConstrainedScheduling("S1").action_space.shape == (22,)


def played(env: DelayConstrainedScheduling, seed: int, **options: Any) -> list[Any]:
    env.reset(seed=seed, options=options or None)
    actions = np.random.default_rng(0)
    rows = []
    for _ in range(env.slots):
        action = actions.uniform(-1, 1, env.action_space.shape or ()).astype(np.float32)
        rows.append(env.step(action))
    return rows


def test_reward_is_throughput_minus_multiplier_times_energy() -> None:
    env = DelayConstrainedScheduling("S1", slots=40, multiplier=0.25)
    rows = played(env, 3)
    for _, reward, _, _, info in rows:
        assert reward == pytest.approx(info["throughput"] - 0.25 * info["energy"], abs=1e-9)
        assert info["cost"] == info["energy"]
        assert info["throughput"] == pytest.approx(info["delivered"] @ env.scenario.weights)
    other = played(env, 3, multiplier=2.0)  # the same slots at another price
    for (_, _, _, _, info), (_, reward, _, _, again) in zip(rows, other, strict=True):
        assert again["throughput"] == info["throughput"]
        assert reward == pytest.approx(info["throughput"] - 2.0 * info["energy"], abs=1e-9)
    again = played(env, 3)  # an option holds for its episode only
    assert [row[1] for row in again] == [row[1] for row in rows]
    pure = played(DelayConstrainedScheduling("S1", slots=40, pure_throughput=True), 3)
    assert [row[1] for row in pure] == [row[4]["throughput"] for row in rows]
    assert [row[3] for row in rows] == [False] * 39 + [True]
    assert not any(row[2] for row in rows)


def test_a_price_for_every_node() -> None:
    env = DelayConstrainedScheduling("S5", slots=20, multiplier=[1.0, 2.0, 0.5])
    for _, reward, _, _, info in played(env, 0):
        paid = info["energy_of_node"] @ [1.0, 2.0, 0.5]
        assert reward == pytest.approx(info["throughput"] - paid, abs=1e-9)


def test_observations_are_arrays_of_their_own() -> None:
    env = DelayConstrainedScheduling("S1")
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.ones(22, np.float32))
    env.step(np.ones(22, np.float32))
    np.testing.assert_array_equal(first, kept)


def test_the_box_is_mapped_to_energies() -> None:
    # Action -1 is energy 0, 1 is energy 1: the charge is then the number of packets.
    env = DelayConstrainedScheduling("S1")
    observation, _ = env.reset(seed=0)
    for action in (-1.0, 1.0, 0.0, 1.0):
        before = observation[:22].sum()
        observation, _, _, _, info = env.step(np.full(22, action, np.float32))
        assert info["energy"] == pytest.approx(before * (action + 1) / 2)


@pytest.mark.parametrize("bad", [1.5, -1.1, np.nan, np.inf])
def test_an_action_outside_the_box_is_refused(bad: float) -> None:
    env = DelayConstrainedScheduling("S1")
    env.reset(seed=0)
    action = np.zeros(22)
    action[3] = bad
    with pytest.raises(ValueError, match=r"must lie in \[-1, 1\]"):
        env.step(action)


def test_other_mistakes_are_named() -> None:
    env = DelayConstrainedScheduling("S1", slots=1)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(np.zeros(22))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="22 numbers"):
        env.step(np.zeros(21))
    with pytest.raises(ValueError, match="unknown reset options price"):
        env.reset(options={"price": 1.0})
    with pytest.raises(ValueError, match="multiplier"):
        env.reset(options={"multiplier": -1.0})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"slots": 0}, "slots must be at least 1, got 0"),
        ({"slots": 2.5}, "slots must be a whole number, got 2.5"),
        ({"clock": 2.5}, "clock must be a whole number, got 2.5"),
        ({"clock": -1}, "clock must be at least 0"),
        ({"sight": "blurred"}, "delayed:SLOTS"),
        ({"sight": "delayed"}, "delayed:SLOTS"),
        ({"multiplier": "high"}, "a multiplier is one number >= 0, .*got 'high'"),
        ({"multiplier": [[1.0], [1.0, 2.0]]}, "a multiplier is"),
        ({"multiplier": np.nan}, "a multiplier is"),
    ],
)
def test_arguments_that_cannot_be_are_named(arguments: dict[str, Any], said: str) -> None:
    for make in (DelayConstrainedScheduling, VectorScheduling):
        with pytest.raises(ValueError, match=said) as problem:
            make(scenario="S1", **arguments)
        assert "\n" not in str(problem.value)


@pytest.mark.parametrize("word", ["delayed:3", "noisy:0.2", "hidden", "own"])
def test_a_sight_may_be_a_word(word: str) -> None:
    env = gym.make(ENVIRONMENT, scenario="S1", sight=word).unwrapped
    assert isinstance(env, DelayConstrainedScheduling)
    env.reset(seed=0)
    by_hand = {
        "delayed:3": Sight(kind="delayed", delay=3),
        "noisy:0.2": Sight(kind="noisy", confusion=0.2),
        "hidden": Sight(kind="hidden"),
        "own": Sight(),
    }
    other = DelayConstrainedScheduling("S1", sight=by_hand[word])
    other.reset(seed=0)
    for _ in range(10):
        seen, *_ = env.step(np.zeros(22))
        np.testing.assert_array_equal(seen, other.step(np.zeros(22))[0])


def test_a_multiplier_for_every_environment() -> None:
    """Each environment is charged at its own prices; they last until the next reset by hand."""
    for name, shape in (("S1", (2,)), ("S1", (2, 1)), ("S5", (2,)), ("S5", (2, 3))):
        many = VectorScheduling(2, name, slots=5)
        prices = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
        of_node = np.tile(prices.reshape(2, -1), (1, many.scenario.hops // (prices.size // 2)))
        _, info = many.reset(seed=0, options={"multiplier": prices})
        np.testing.assert_array_equal(info["multiplier"], of_node)
        prices *= 7.0  # the caller's array is not kept
        for slot in range(12):
            _, reward, *_, info = many.step(np.zeros(many.action_space.shape))
            if slot % 6 == 5:  # the step that resets
                np.testing.assert_array_equal(info["multiplier"], of_node)
                continue
            paid = (info["energy_of_node"] * of_node).sum(axis=1)
            np.testing.assert_allclose(reward, info["throughput"] - paid, atol=1e-12)
        _, info = many.reset(seed=0)
        np.testing.assert_array_equal(info["multiplier"], np.zeros_like(of_node))


def test_multipliers_of_nodes_and_of_environments_are_not_confused() -> None:
    with pytest.raises(ValueError, match=r"give the shape \(3, 3\)"):
        VectorScheduling(3, "S5").reset(options={"multiplier": [1.0, 2.0, 3.0]})
    many = VectorScheduling(3, "S5", multiplier=[1.0, 2.0, 3.0])  # here only nodes are meant
    np.testing.assert_array_equal(many.reset()[1]["multiplier"], np.tile([1.0, 2.0, 3.0], (3, 1)))
    with pytest.raises(ValueError, match="one for each of 4 environments"):
        VectorScheduling(4, "S5").reset(options={"multiplier": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"one for each of 1 nodes; got \[1.0, 2.0\]"):
        DelayConstrainedScheduling("S1").reset(options={"multiplier": [1.0, 2.0]})


def test_a_refused_reset_changes_nothing() -> None:
    def rewards(refused: bool) -> list[float]:
        many = VectorScheduling(2, "S1", slots=4)
        many.reset(seed=3, options={"multiplier": 0.5})
        found = []
        for slot in range(10):
            if refused and slot == 2:
                for options in ({"multiplier": "high"}, {"price": 1.0}, {"multiplier": -1.0}):
                    with pytest.raises(ValueError, match="multiplier"):
                        many.reset(seed=9, options=options)
            found += many.step(np.zeros((2, 22)))[1].tolist()
        return found

    assert rewards(True) == rewards(False)


def test_one_of_the_vector_is_the_environment() -> None:
    single, many = (kind for kind in (DelayConstrainedScheduling("S1"), VectorScheduling(1, "S1")))
    first, told = single.reset(seed=5, options={"multiplier": 0.5})
    rows, told_all = many.reset(seed=5, options={"multiplier": 0.5})
    np.testing.assert_array_equal(rows[0], first)
    np.testing.assert_array_equal(told_all["multiplier"], told["multiplier"][None])
    for number in range(20):
        action = np.full(22, np.sin(number), np.float32)
        one, reward, _, _, info = single.step(action)
        several, rewards, _, _, infos = many.step(action[None])
        np.testing.assert_array_equal(several[0], one)
        assert rewards[0] == reward
        np.testing.assert_array_equal(infos["missed"][0], info["missed"])


def test_the_vector_resets_itself_in_the_step_after_the_last() -> None:
    made = gym.make_vec(
        ENVIRONMENT, num_envs=3, vectorization_mode="vector_entry_point", scenario="S1", slots=4
    )
    assert isinstance(made.unwrapped, VectorScheduling)
    many = VectorScheduling(3, "S1", slots=4)
    many.reset(seed=0, options={"multiplier": 1.0})
    action = np.zeros((3, 22), np.float32)
    truncated = []
    for _ in range(5):
        observation, reward, ended, cut, info = many.step(action)
        truncated.append(cut.all())
        assert not ended.any()
    assert truncated == [False, False, False, True, False]
    assert info["multiplier"].tolist() == [[1.0]] * 3
    assert not reward.any()
    assert not observation[:, :22].any()  # queues are empty again
    assert many.observation_space.contains(observation)
    _, reward, *_, info = many.step(action)
    np.testing.assert_allclose(reward, info["throughput"] - info["energy"])  # multiplier stays 1
    with pytest.raises(ValueError, match="one integer"):
        many.reset(seed=[1, 2, 3])
