from __future__ import annotations

import inspect
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

import thrifty
from thrifty.agents import load_run_policy
from thrifty.recipes import rlx2
from thrifty.runs import Run, execute, save_state
from toy_environments import Count, Faulty

SMALL: dict[str, Any] = {
    "learning_starts": 20,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [8, 8]},
}
AGENTS = pytest.mark.parametrize("kind", [thrifty.TD3, thrifty.SAC])


def make(kind: Any = thrifty.TD3, env: Any = "Pendulum-v1", **options: Any) -> Any:
    return kind(env, **{**SMALL, **options})


class Notes(list[dict[str, Any]]):
    """A callback that keeps the records, and stops at the n-th."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def __call__(self, record: dict[str, Any]) -> bool | None:
        self.append(record)
        return False if len(self) == self.stop_at else None


def parameters(agent: Any) -> list[torch.Tensor]:
    learner = agent.learner
    return [
        *(p.detach().clone() for n in learner.networks().values() for p in n.module.parameters()),
        *(p.detach().clone() for p in learner.critic_target.parameters()),
        *(
            value.clone()
            for n in learner.networks().values()
            for state in n.optimizer.state.values()
            for value in state.values()
        ),
    ]


def same(one: Any, two: Any) -> bool:
    return all(map(torch.equal, parameters(one), parameters(two)))


# ---------------------------------------------------------------- learning, stopping, files


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


def test_a_callback_that_says_false_stops_and_resume_goes_on_exactly() -> None:
    whole, stopped = make(), make()
    notes, parts = Notes(), Notes(stop_at=2)
    other = Notes()
    whole.learn(300, notes)
    stopped.learn(300, [other, parts])
    assert len(parts) == 2
    assert (other, stopped.num_timesteps) == (parts, 50)  # every callback hears it
    parts.stop_at = 3
    stopped.resume(parts)
    stopped.resume(parts)
    assert parts == notes
    assert same(stopped, whole)
    stopped.resume(parts)  # nothing is left
    assert len(parts) == len(notes)


def test_an_agent_is_shown_by_its_environment_steps_and_sparsity() -> None:
    agent = thrifty.TD3("Pendulum-v1", actor_sparsity=0.0, critic_sparsity=0.0, seed=0)
    assert repr(agent) == "TD3('Pendulum-v1', 0 steps, sparsity 0.000)"


def test_learning_in_parts_goes_on_counting() -> None:
    agent, notes = make(), Notes()
    assert agent.learn(100, notes) is agent
    agent.learn(100, notes).learn(100, notes)
    assert agent.num_timesteps == 300
    assert [r["step"] for r in notes if r["kind"] == "end"] == [100, 200, 300]
    assert [r["updates"] for r in notes if r["kind"] == "train"] == [80, 180, 280]


@AGENTS
def test_equal_seeds_learn_equally(kind: Any) -> None:
    one, two, other = (make(kind, seed=seed).learn(120) for seed in (0, 0, 1))
    assert same(one, two)
    assert not same(one, other)


def test_time_constants_come_from_the_first_call() -> None:
    agent = thrifty.TD3("Pendulum-v1", **{**SMALL, "learning_starts": None})
    notes = Notes(stop_at=1)
    agent.learn(120_000, notes)
    config = agent._experiment.config
    assert (config.learning_starts, config.replay.capacity) == (1_000, 120_000)
    assert (config.algorithm.n_step, config.algorithm.n_step_delay) == (3, 12_000)
    assert config.algorithm.critic.update_until == 119_000
    assert config.algorithm.actor.update_until == 59_500
    assert "120,000" in config.scaling


@AGENTS
def test_plain_options_give_the_plain_algorithm(kind: Any) -> None:
    agent = make(kind, actor_sparsity=0, critic_sparsity=0, n_steps=1, dynamic_buffer=False)
    notes = Notes()
    agent.learn(150, notes)
    assert agent.sparsity == {"actor": 0.0, "critic": 0.0, "all": 0.0}
    assert agent.ledger["parameters"]["ratio"] == 1.0
    assert {r["kind"] for r in notes} == {"start", "train", "end"}


@pytest.mark.parametrize(
    ("topology", "grow", "moves"),
    [("rigl", "gradient", True), ("set", "random", True), ("static", "gradient", False)],
)
def test_topologies(topology: Any, grow: str, moves: bool) -> None:
    agent = make(topology=topology)
    agent.learn(2_000, Notes(stop_at=1))
    critic = agent._experiment.config.algorithm.critic
    assert (critic.grow, critic.update_until > 0) == (grow, moves)
    assert agent.sparsity["actor"] == pytest.approx(0.9, abs=0.01)
    assert agent.sparsity["critic"] == pytest.approx(0.85, abs=0.01)


def test_options_reach_the_algorithm() -> None:
    td3 = make(
        learning_rate=1e-2,
        tau=0.1,
        gamma=0.5,
        policy_delay=3,
        action_noise=0.3,
        target_policy_noise=0.4,
        target_noise_clip=0.6,
        buffer_size=77,
        train_freq=2,
        gradient_steps=5,
        n_steps=4,
    ).learn(30)
    config = td3._experiment.config
    algorithm = config.algorithm
    assert (algorithm.learning_rate, algorithm.tau, algorithm.discount) == (1e-2, 0.1, 0.5)
    assert (algorithm.policy_delay, algorithm.exploration_noise) == (3, 0.3)
    assert (algorithm.target_noise, algorithm.target_noise_clip) == (0.4, 0.6)
    assert (config.replay.capacity, config.train_freq, config.gradient_steps) == (77, 2, 5)
    assert (algorithm.batch_size, algorithm.n_step) == (8, 4)
    assert td3._experiment.learner.updates == 25  # at steps 22, 24, ..., 30, five each
    sac = make(thrifty.SAC, ent_coef="auto_0.5", target_entropy=-3).learner.config
    assert (sac.entropy_coefficient, sac.learn_entropy_coefficient) == (0.5, True)
    assert sac.target_entropy == -3.0
    fixed = make(thrifty.SAC, ent_coef=0.1).learner.config
    assert (fixed.entropy_coefficient, fixed.learn_entropy_coefficient) == (0.1, False)
    assert fixed.target_entropy is None


def test_keywords_are_those_of_stable_baselines3() -> None:
    shared = {
        *("env", "learning_rate", "buffer_size", "learning_starts", "batch_size", "tau", "gamma"),
        *("train_freq", "gradient_steps", "policy_kwargs", "seed", "device"),
    }
    assert shared | {"policy_delay", "target_policy_noise", "target_noise_clip"} <= set(
        inspect.signature(thrifty.TD3).parameters
    )
    assert shared | {"ent_coef", "target_entropy"} <= set(inspect.signature(thrifty.SAC).parameters)
    learn = inspect.signature(thrifty.TD3.learn).parameters
    assert list(learn)[:3] == ["self", "total_timesteps", "callback"]
    assert {"progress_bar"} <= set(learn)
    assert {"observation", "deterministic"} <= set(
        inspect.signature(thrifty.SAC.predict).parameters
    )


def test_a_progress_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    make().learn(120, progress_bar=True)
    assert "120" in capsys.readouterr().err
    make().learn(120)
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- environments


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


# ---------------------------------------------------------------- prediction


@AGENTS
def test_predictions_for_one_and_for_many(kind: Any) -> None:
    agent = make(kind)
    many = np.random.default_rng(0).normal(size=(5, 3))
    actions, state = agent.predict(many)
    assert (actions.shape, actions.dtype, state) == ((5, 1), np.float32, None)
    one, _ = agent.predict(many[2])
    assert one.shape == (1,)
    assert np.allclose(one, actions[2], atol=1e-6)
    assert np.array_equal(agent.predict(many)[0], actions)
    assert agent.predict(many.tolist())[0].tolist() == actions.tolist()
    explored = agent.predict(many, deterministic=False)[0]
    assert not np.array_equal(explored, actions)
    assert np.abs(explored).max() <= 2.0


def test_predictions_for_arrays_of_every_kind() -> None:
    agent = make()
    many = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    expected = agent.predict(many)[0]
    frozen = many.copy()
    frozen.flags.writeable = False
    assert np.array_equal(agent.predict(frozen)[0], expected)
    assert np.array_equal(agent.predict(many[::-1])[0], expected[::-1])
    assert np.allclose(agent.predict(np.asfortranarray(many))[0], expected, atol=1e-6)
    assert agent.predict(np.zeros((0, 3)))[0].shape == (0, 1)
    for shape in ((4,), (2, 4), (1, 2, 3), ()):
        with pytest.raises(ValueError, match=r"expected \(3,\) or \(batch, 3\)"):
            agent.predict(np.zeros(shape))


# ---------------------------------------------------------------- networks


def widths(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


@AGENTS
@pytest.mark.parametrize(
    ("arch", "actor", "critic"),
    [
        ([7, 9], [7, 9], [7, 9]),
        ((5,), [5], [5]),
        ([], [], []),
        ({"pi": [4], "qf": [6, 5]}, [4], [6, 5]),
    ],
)
def test_architectures(kind: Any, arch: Any, actor: list[int], critic: list[int]) -> None:
    agent = make(kind, policy_kwargs={"net_arch": arch}, actor_sparsity=0.3, critic_sparsity=0.3)
    agent.learn(40)
    out = 1 if kind is thrifty.TD3 else 2
    assert widths(agent.learner.actor.module) == list(zip([3, *actor], [*actor, out], strict=True))
    assert widths(agent.learner.critic.module) == 2 * list(
        zip([4, *critic], [*critic, 1], strict=True)
    )


@AGENTS
def test_layer_norm_and_activations(kind: Any, tmp_path: Path) -> None:
    options = {"net_arch": [8, 8], "layer_norm": True, "activation_fn": nn.ELU}
    agent = make(kind, policy_kwargs=options).learn(60)
    critic = [type(m).__name__ for m in agent.learner.critic.module.q1]
    assert critic == ["Linear", "LayerNorm", "ELU"] * 2 + ["Linear"]
    assert not any(isinstance(m, nn.LayerNorm) for m in agent.learner.actor.module.modules())
    loaded = kind.load(agent.save(tmp_path / "a.npz"))
    assert same(loaded, agent)
    assert make(kind, policy_kwargs={"activation_fn": "tanh"}).learner.config.activation == "tanh"


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"actor_sparsity": 1.0}, r"sparsity must lie in \[0, 1\), got 1.0"),
        ({"critic_sparsity": -0.1}, r"sparsity must lie in \[0, 1\)"),
        ({"topology": "ring"}, "choose rigl, set or static"),
        ({"env": "CartPole-v1"}, "need continuous actions"),
        ({"env": "NoSuchTask-v0"}, "NoSuchTask-v0"),
        ({"policy_kwargs": {"net_arc": [8]}}, r"unknown keys \['net_arc'\]"),
        ({"policy_kwargs": {"net_arch": {"pi": [8]}}}, "net_arch takes"),
        ({"policy_kwargs": {"net_arch": [0]}}, "net_arch takes positive integers"),
        ({"policy_kwargs": {"activation_fn": "rlu"}}, "unknown activation 'rlu'"),
        ({"policy_kwargs": {"activation_fn": nn.Softplus}}, "unknown activation"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": lambda left: left}, "learning_rate must be a number, got <function"),
        ({"action_noise": "small"}, "exploration_noise must be a number, got 'small'"),
        ({"batch_size": 8.0}, r"batch_size must be an integer, got 8\.0"),
        ({"policy_delay": 0}, "policy_delay must be at least 1"),
        ({"n_steps": 0}, "n_step must be at least 1"),
        ({"gamma": 1.5}, "discount must lie"),
        ({"buffer_size": 1e6}, r"capacity must be an integer, got 1000000\.0"),
        ({"buffer_size": 0}, "capacity must be at least 1"),
        ({"learning_starts": -1}, "learning_starts must be at least 0"),
        ({"train_freq": 0}, "train_freq must be at least 1"),
        ({"n_envs": 0}, "environments must be at least 1"),
    ],
)
def test_mistakes_are_told_in_one_line_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as problem:
        make(**options)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("value", ["often", "auto_", "auto_x", ""])
def test_entropy_coefficients_that_mean_nothing(value: str) -> None:
    with pytest.raises(ValueError, match="ent_coef must be"):
        make(thrifty.SAC, ent_coef=value)


def test_unknown_keywords_are_refused() -> None:
    with pytest.raises(TypeError, match="learn_rate"):
        make(learn_rate=1e-3)


def test_a_missing_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        make(device="cuda")
    assert make(device="auto").learner.device.type == "cpu"


def test_learning_mistakes() -> None:
    agent = make()
    with pytest.raises(ValueError, match="nothing to resume"):
        agent.resume()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        agent.learn(0)
    with pytest.raises(ValueError, match=r"steps must be an integer, got 30\.0"):
        agent.learn(3e1)
    agent.learn(30)
    with pytest.raises(ValueError, match=r"steps must be an integer, got 60\.0"):
        agent.learn(3e1)
    with pytest.raises(ValueError, match=r"evaluate_every must be an integer, got 5\.5"):
        agent.learn(30, evaluate_every=5.5)
    assert agent.learn(10).num_timesteps == 40


def test_a_faulty_environment_is_named_with_the_step() -> None:
    agent = make(env=partial(Faulty, "reward"))
    with pytest.raises(ValueError, match="reward that is not finite at step 8"):
        agent.learn(50)


# ---------------------------------------------------------------- foreign files


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


# ---------------------------------------------------------------- what a review found


def test_a_wrapped_instance_is_not_silently_replaced_by_its_id(tmp_path: Path) -> None:
    wrapped = gym.wrappers.TransformReward(gym.make("Pendulum-v1"), lambda reward: 0.01 * reward)
    path = make(env=wrapped).save(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"load\(path, env=\.\.\.\)"):
        thrifty.TD3.load(path)
    assert thrifty.TD3.load(path, wrapped).environment == "Pendulum-v1"


def test_learning_goes_on_with_the_learner_that_was_there() -> None:
    agent = make()
    learner = agent.learner
    with torch.no_grad():
        learner.actor.module.net[0].bias.fill_(0.25)
    first = learner.actor.module.net[0].bias.detach().clone()
    agent.learn(15)  # warm-up only
    assert agent.learner is learner
    assert torch.equal(learner.actor.module.net[0].bias, first)


@AGENTS
def test_a_callback_that_reads_the_learner_changes_nothing(kind: Any) -> None:
    reader, twin = make(kind, seed=2), make(kind, seed=2)
    reader.learn(150, lambda record: reader.learner.actor is not None)
    assert same(reader, twin.learn(150))


@AGENTS
def test_what_is_changed_in_the_learner_counts(kind: Any) -> None:
    agent = make(kind)
    held = agent.learn(60).learner
    before = agent.predict(np.zeros(3))[0]
    with torch.no_grad():
        held.actor.module.net[-1].bias.add_(0.5)
    changed = agent.predict(np.zeros(3))[0]
    assert abs(changed - before).max() > 0.1
    bias = held.actor.module.net[-1].bias.detach().clone()
    critic = held.critic.module.q1[-1].bias.detach().clone()
    agent.learn(10)
    # Ten steps of Adam of 3e-4 each cannot undo it; and the one held is up to date.
    torch.testing.assert_close(held.actor.module.net[-1].bias.detach(), bias, atol=0.01, rtol=0)
    assert not torch.equal(held.critic.module.q1[-1].bias, critic)
    assert agent.learner is held


def test_ctrl_c_leaves_a_whole_agent() -> None:
    agent, twin = make(seed=5), make(seed=5)

    def press(record: dict[str, Any]) -> None:
        if record["kind"] == "train" and record["step"] >= 100 and not pressed:
            pressed.append(record["step"])
            os.kill(os.getpid(), signal.SIGINT)

    pressed: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        agent.learn(300, press)
    assert 100 <= agent.num_timesteps < 300
    agent.resume()
    assert same(agent, twin.learn(300))


def test_looking_at_a_policy_does_not_change_its_training() -> None:
    agent, twin = make(seed=6).learn(60), make(seed=6).learn(60)
    agent.predict(np.zeros((5, 3)), deterministic=False)
    assert same(agent.learn(60), twin.learn(60))


def test_a_policy_class_in_the_first_place_is_explained() -> None:
    with pytest.raises(ValueError, match="not a policy class such as 'MlpPolicy'"):
        make(env="MlpPolicy")


@pytest.mark.parametrize("seed", [None, -1, 1.5, True])
def test_a_seed_is_a_number(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be an integer of at least 0"):
        make(seed=seed)


def test_load_on_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make().save(tmp_path / "a.npz")
    assert thrifty.TD3.load(path, device="cpu").learner.device == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        thrifty.TD3.load(path, device="cuda")
