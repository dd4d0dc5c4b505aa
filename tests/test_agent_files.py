from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import thrifty
from small_agents import AGENTS, Notes, make, same
from thrifty.agents import load_run_policy
from thrifty.recipes import rlx2
from thrifty.runs import Run, execute, save_state
from toy_environments import Count, Faulty


@AGENTS
def test_saved_loaded_and_resumed_it_is_bit_equal(kind: Any, tmp_path: Path) -> None:
    whole, notes = make(kind, seed=3), Notes()
    whole.learn(620, notes)
    # 620 steps: a topology change at update 500, the n-step switch at update 62.
    assert {"start", "train", "n_step", "topology", "buffer", "end"} == {r["kind"] for r in notes}
    stopped, first = make(kind, seed=3), Notes(stop_at=4)
    stopped.learn(620, first)
    assert stopped.num_timesteps < 620
    path = stopped.save(tmp_path / "agent")
    assert path == tmp_path / "agent.npz"
    loaded, second = kind.load(path), Notes()
    assert same(loaded, stopped)
    loaded.resume(second)
    assert first + second == notes
    assert loaded.num_timesteps == 620
    assert same(loaded, whole)
    # And further on, from the file and without.
    third, fourth = Notes(), Notes()
    kind.load(loaded.save(tmp_path / "end.npz")).learn(50, third)
    whole.learn(50, fourth)
    assert third == fourth
    assert whole.num_timesteps == 670


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_after_a_fault_an_agent_can_be_saved_and_goes_on(what: str, tmp_path: Path) -> None:
    agent = make(env=partial(Faulty, what))
    with pytest.raises(ValueError, match="step 8"):
        agent.learn(12)
    path = agent.save(tmp_path / "a.npz")
    loaded = thrifty.TD3.load(path, Count())  # mended
    assert loaded.num_timesteps == 7
    assert loaded.resume().num_timesteps == 12
    # Episodes of five steps: the second broke off, and no window joins it with the third.
    at = loaded._experiment.replay
    assert np.flatnonzero(at.matrix[:12, at.columns.ended]).tolist() == [4, 6, 11]


def test_what_is_no_agent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    np.savez(tmp_path / "b.npz", x=np.zeros(3))
    save_state(tmp_path / "c.npz", {"format": "something else"})
    save_state(tmp_path / "d.npz", [1, 2])
    for name in ("a.txt", "b.npz", "c.npz", "d.npz"):
        with pytest.raises(ValueError, match=name):
            thrifty.TD3.load(tmp_path / name)
    with pytest.raises((ValueError, FileNotFoundError), match="nothing"):
        thrifty.TD3.load(tmp_path / "nothing")


def test_another_kind_of_agent_is_refused(tmp_path: Path) -> None:
    path = make().save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"holds a TD3 agent: use thrifty.TD3.load"):
        thrifty.SAC.load(path)
    assert isinstance(thrifty.TD3.load(tmp_path / "a"), thrifty.TD3)  # the suffix may be left out


def test_a_damaged_agent_is_refused(tmp_path: Path) -> None:
    path = make().learn(30).save(tmp_path / "a.npz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.npz"):
        thrifty.TD3.load(path)
    path.write_bytes(data[:1000])
    with pytest.raises(ValueError, match=r"a\.npz"):
        thrifty.TD3.load(path)


def test_an_agent_loaded_without_its_own_environment(tmp_path: Path) -> None:
    path = make(env=Count()).learn(30).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"give it with load\(path, env=\.\.\.\)"):
        thrifty.TD3.load(path)
    assert thrifty.TD3.load(path, Count()).num_timesteps == 30
    with pytest.raises(ValueError, match="other observation or action sizes") as problem:
        thrifty.TD3.load(path, "Pendulum-v1")
    assert "\n" not in str(problem.value)


def test_an_agent_that_has_not_learned_is_saved_as_well(tmp_path: Path) -> None:
    fresh = make(seed=5, topology="set", n_steps=2)
    loaded = thrifty.TD3.load(fresh.save(tmp_path / "a.npz"))
    assert same(loaded, fresh)
    with pytest.raises(ValueError, match="nothing to resume"):
        loaded.resume()
    assert same(loaded.learn(60), fresh.learn(60))
    assert loaded._experiment.config == fresh._experiment.config


def test_numbers_of_a_numpy_sweep_can_be_saved(tmp_path: Path) -> None:
    options = {"batch_size": np.arange(8, 9)[0], "learning_rate": np.float32(1e-3)}
    agent = make(**options).learn(np.int64(30))
    assert same(thrifty.TD3.load(agent.save(tmp_path / "a.npz")).learn(10), agent.learn(10))


def test_the_policy_of_a_run(tmp_path: Path) -> None:
    config = rlx2.td3("Pendulum-v1", 1_010)
    with pytest.raises(ValueError, match="nothing"):
        load_run_policy(tmp_path / "nothing")
    run = Run(
        recipe="rlx2.td3",
        arguments={"environment": "Pendulum-v1", "steps": 1_010},
        config=config,
        seed=0,
        directory=tmp_path / "run",
    )
    kept = []

    def stop(record: dict[str, Any]) -> bool:
        kept.append(record)
        return record["kind"] != "train"

    execute(run, callbacks=[stop])
    agent = load_run_policy(run.directory)
    assert isinstance(agent, thrifty.TD3)
    assert agent.environment == "Pendulum-v1"
    experiment = config.build(0)
    seen = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert np.allclose(agent.predict(seen)[0], 2.0 * experiment.learner.act(seen, explore=False)[0])


def test_a_wrapped_instance_is_not_silently_replaced_by_its_id(tmp_path: Path) -> None:
    wrapped = gym.wrappers.TransformReward(gym.make("Pendulum-v1"), lambda reward: 0.01 * reward)
    path = make(env=wrapped).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"load\(path, env=\.\.\.\)"):
        thrifty.TD3.load(path)
    assert thrifty.TD3.load(path, wrapped).environment == "Pendulum-v1"


def test_load_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "a.npz")
    assert thrifty.TD3.load(path, device="cpu").learner.device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        thrifty.TD3.load(path, device="cuda")
