from __future__ import annotations

import inspect
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import thrifty
from small_agents import AGENTS, SMALL, Notes, make, same

# ---------------------------------------------------------------- learning, stopping


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


# ---------------------------------------------------------------- the learner behind it


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
