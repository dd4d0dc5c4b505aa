from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import thrifty
from small_agents import AGENTS, Notes, make, same
from toy_environments import Count, Faulty


def test_evaluation_while_learning_and_after() -> None:
    agent, notes = make(env=lambda: Count(4)), Notes()
    agent.learn(60, notes, evaluate_every=25)
    evaluations = [r for r in notes if r["kind"] == "evaluation"]
    assert [(r["step"], r["return_mean"]) for r in evaluations] == [
        (0, 10.0),
        (25, 10.0),
        (50, 10.0),
        (60, 10.0),
    ]
    assert agent.evaluate(3).returns == [10.0] * 3
    assert agent.evaluate(2, env=Count(3)).returns == [6.0] * 2
    pendulum = make()
    assert pendulum.evaluate(2, seed=1) == pendulum.evaluate(2, seed=1)
    assert pendulum.evaluate(2, seed=1) != pendulum.evaluate(2, seed=2)


def test_an_instance() -> None:
    agent = make(env=gym.make("Pendulum-v1"))
    agent.learn(60)
    assert agent.environment == "Pendulum-v1"
    with pytest.raises(ValueError, match=r"give env=\.\.\."):
        agent.evaluate()
    assert len(agent.evaluate(1, env="Pendulum-v1").returns) == 1
    with pytest.raises(ValueError, match="give an id or a function"):
        make(env=gym.make("Pendulum-v1")).learn(60, evaluate_every=20)
    with pytest.raises(ValueError, match="an id or a function, not an instance"):
        make(env=gym.make("Pendulum-v1"), n_envs=2)


def test_several_copies_of_an_environment(tmp_path: Path) -> None:
    whole, notes = make(n_envs=3), Notes()
    whole.learn(300, notes)
    assert [r["updates"] for r in notes if r["kind"] == "train"][
        -1
    ] == 279  # steps 24, 27, ..., 300
    stopped, parts = make(n_envs=3), Notes(stop_at=2)
    stopped.learn(300, parts)
    loaded = thrifty.TD3.load(stopped.save(tmp_path / "a.npz"))
    loaded.resume(parts)
    assert parts == notes
    assert same(loaded, whole)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_vector_environments(mode: AutoresetMode, tmp_path: Path) -> None:
    def source() -> gym.vector.VectorEnv:
        return gym.make_vec("Pendulum-v1", 2, vector_kwargs={"autoreset_mode": mode})

    agent, notes = make(env=source()), Notes()
    agent.learn(500, notes)
    assert agent.num_timesteps == 500
    assert notes[-1]["kind"] == "end"
    assert [r["episodes"] for r in notes if r["kind"] == "train"][-1] == 2  # of 200 steps each
    assert agent.predict(np.zeros((2, 3)))[0].shape == (2, 1)
    path = agent.save(tmp_path / "a.npz")
    # Single environments do as well; episodes begin anew.
    for env in (source(), "Pendulum-v1"):
        loaded = thrifty.TD3.load(path, env)
        assert same(loaded, agent)
        loaded.learn(20)
        assert loaded.num_timesteps == 520
    nameless = make(env=SyncVectorEnv([Count] * 2)).learn(40)
    with pytest.raises(ValueError, match=r"load\(path, env=\.\.\.\)"):
        thrifty.TD3.load(nameless.save(tmp_path / "b.npz"))


@AGENTS
def test_bounds_other_than_one(kind: Any) -> None:
    made: list[Count] = []

    def environment() -> Count:
        made.append(Count(low=(1.0, -0.5), high=(3.0, 0.0)))
        return made[-1]

    agent = make(kind, env=environment).learn(80)
    taken = np.array([action for count in made for action in count.actions])
    assert len(taken) == 80
    low, high = np.float32([1.0, -0.5]), np.float32([3.0, 0.0])
    assert ((taken >= low) & (taken <= high)).all()
    assert (taken.min(axis=0) < [1.3, -0.4]).all()
    assert (taken.max(axis=0) > [2.7, -0.1]).all()
    seen = np.random.default_rng(0).normal(size=(50, 2))
    for deterministic in (True, False):
        actions, _ = agent.predict(seen, deterministic=deterministic)
        assert ((actions >= low) & (actions <= high)).all()
    normalised = agent.learner.act(seen.astype(np.float32), explore=False)[0]
    assert np.allclose(agent.predict(seen)[0], [2.0, -0.25] + normalised * [1.0, 0.25])


def test_a_faulty_environment_is_named_with_the_step() -> None:
    agent = make(env=partial(Faulty, "reward"))
    with pytest.raises(ValueError, match="reward that is not finite at step 8"):
        agent.learn(50)
