"""Stable-Baselines3's TD3 and SAC with our masks: on Pendulum-v1, small networks, CPU."""

from __future__ import annotations

import copy
import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

sb3 = pytest.importorskip("stable_baselines3", reason="extra sb3 is not installed")
from sb3_agents import (  # noqa: E402
    ACTOR_WEIGHTS,
    CRITIC_WEIGHTS,
    KINDS,
    STARTS,
    STEPS,
    check_zero_off_mask,
    dense_agent,
    masks_of,
    same,
    sparse_agent,
    train,
)
from stable_baselines3 import DQN, PPO, SAC, TD3  # noqa: E402
from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.logger import Logger  # noqa: E402
from stable_baselines3.common.noise import NormalActionNoise  # noqa: E402
from stable_baselines3.common.utils import set_random_seed  # noqa: E402

import thrifty.adapters.sb3  # noqa: E402
from thrifty.adapters.sb3 import PolicySparsity, SparsePolicy, sparsify_agent  # noqa: E402
from thrifty.sparse import LayerState, highest, random, top  # noqa: E402


@KINDS
def test_links_move_and_everything_else_stays_cut(kind: Any) -> None:
    model = sparse_agent(kind)
    wanted = {"actor": round(0.2 * ACTOR_WEIGHTS[kind])}
    wanted["critic"] = round(0.3 * CRITIC_WEIGHTS[kind])
    nnz = {name: one.nnz for name, one in model.policy.sparsity.topologies.items()}
    assert {name: sum(one.values()) for name, one in nnz.items()} == wanted
    first = masks_of(model)
    check_zero_off_mask(model)  # the targets too, before the first step
    assert same(model.critic.state_dict(), model.critic_target.state_dict())

    seen: list[int] = []

    def look(*_: Any) -> bool:
        check_zero_off_mask(model)
        seen.append(model.policy.sparsity.evolutions["critic"].steps)
        return True

    model.learn(STEPS, callback=look)
    check_zero_off_mask(model)
    # SB3 trains after each step above learning_starts: 160 times; TD3's actor every second time.
    evolutions = model.policy.sparsity.evolutions
    delay = 2 if kind is TD3 else 1
    assert evolutions["critic"].steps == STEPS - STARTS
    assert evolutions["actor"].steps == (STEPS - STARTS) // delay
    assert len(set(seen)) == STEPS - STARTS  # the callback looked after every update but the last
    # The last evolution is the last multiple of 10 before the end of the run.
    assert evolutions["critic"].last_update.step == 150
    assert evolutions["actor"].last_update.step == (70 if kind is TD3 else 150)
    assert {n: one.nnz for n, one in model.policy.sparsity.topologies.items()} == nnz
    last = masks_of(model)
    for network in ("actor", "critic"):
        assert any(
            not torch.equal(first[name], last[name]) for name in first if name.startswith(network)
        )
        assert model.policy.sparsity.topologies[network].survival < 1.0


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_targets_are_masked_within_a_round_of_updates(kind: Any) -> None:
    """Whenever a target computes, it has exactly the links of its network."""
    model = sparse_agent(kind, sparsity={"update_every": 1})
    calls = 0

    def look(module: nn.Module, args: Any) -> None:
        nonlocal calls
        calls += 1
        check_zero_off_mask(model)

    model.learn(STARTS + 1)
    for target in (model.critic_target, getattr(model, "actor_target", None)):
        if target is not None:
            target.register_forward_pre_hook(look)
    train(model, 12, seed=1)
    assert calls == (24 if kind is TD3 else 12)


def test_targets_follow_by_polyak() -> None:
    """On links, the target is SB3's average; hand computation from the weights around one step."""
    model = sparse_agent(SAC, sparsity={"steps": 0}, tau=0.25)
    model.learn(STARTS + 1)
    before = copy.deepcopy(model.critic_target.state_dict())
    train(model, 1, seed=1)
    for name, online in model.critic.named_parameters():
        expected = 0.75 * before[name] + 0.25 * online
        torch.testing.assert_close(model.critic_target.get_parameter(name), expected)


@pytest.mark.parametrize("kind", [TD3, SAC])
def test_growth_sees_the_gradient_of_its_own_loss(kind: Any, monkeypatch: Any) -> None:
    """Against autograd on copies made before the update, with garbage in every .grad."""
    seen: dict[str, torch.Tensor] = {}

    def spy(state: LayerState, candidates: torch.Tensor, k: int) -> torch.Tensor:
        assert state.grad is not None
        seen[state.name] = state.grad.clone()
        return highest(state.grad.abs(), candidates, k)

    td3 = {"policy_delay": 1, "target_policy_noise": 0.0}
    settings: dict[str, Any] = {"gamma": 0.9, **(td3 if kind is TD3 else {})}
    model = sparse_agent(kind, sparsity={"grow": spy, "update_every": 1}, **settings)
    model.learn(STARTS)  # fills the replay, makes no update
    batch = model.replay_buffer.sample(32)
    monkeypatch.setattr(model.replay_buffer, "sample", lambda *args, **kwargs: batch)
    policy = dense_agent(kind, **settings).policy
    policy.load_state_dict(
        {k: v for k, v in model.policy.state_dict().items() if not k.startswith("sparsity.")}
    )
    for parameter in model.policy.parameters():
        parameter.grad = torch.full_like(parameter, 1e6)
    set_random_seed(3)
    model.train(gradient_steps=1, batch_size=32)
    topologies = model.policy.sparsity.topologies.values()
    assert set(seen) == {n for t in topologies for n in t.names if not t.mask(n).all()}

    set_random_seed(3)
    if kind is TD3:
        next_actions = policy.actor_target(batch.next_observations).clamp(-1, 1)
        bonus, weight = 0.0, 1.0
    else:  # SAC draws the actor's actions first, then the next ones; alpha is 1 at first
        actions_pi, log_prob = policy.actor.action_log_prob(batch.observations)
        next_actions, next_log_prob = policy.actor.action_log_prob(batch.next_observations)
        bonus, weight = -next_log_prob.reshape(-1, 1), 0.5
    values = torch.cat(policy.critic_target(batch.next_observations, next_actions), dim=1)
    value = (values.min(dim=1, keepdim=True).values + bonus).detach()
    aim = batch.rewards + (1 - batch.dones) * 0.9 * value
    loss = weight * sum(
        nn.functional.mse_loss(q, aim) for q in policy.critic(batch.observations, batch.actions)
    )
    critic = dict(policy.critic.named_parameters())
    gradients = torch.autograd.grad(loss, list(critic.values()), allow_unused=True)
    for name, gradient in zip(critic, gradients, strict=True):
        if name in seen:
            torch.testing.assert_close(seen[name], gradient)

    # The actor's loss flows through the critic after its step, which is the model's own now.
    if kind is TD3:
        loss = -model.critic.q1_forward(batch.observations, policy.actor(batch.observations)).mean()
    else:
        values = torch.cat(model.critic(batch.observations, actions_pi), dim=1)
        loss = (log_prob.reshape(-1, 1) - values.min(dim=1, keepdim=True).values).mean()
    actor = dict(policy.actor.named_parameters())
    gradients = torch.autograd.grad(loss, list(actor.values()), allow_unused=True)
    for name, gradient in zip(actor, gradients, strict=True):
        if name in seen:
            torch.testing.assert_close(seen[name], gradient)


@KINDS
def test_a_loaded_agent_goes_on_as_the_saved_one(kind: Any, tmp_path: Path) -> None:
    model = sparse_agent(kind)
    model.learn(STEPS // 2)
    model.save(tmp_path / "agent.zip")
    model.save_replay_buffer(tmp_path / "replay.pkl")
    loaded = kind.load(tmp_path / "agent.zip", device="cpu")  # nothing but Stable-Baselines3
    loaded.load_replay_buffer(tmp_path / "replay.pkl")
    loaded.set_logger(Logger(None, []))

    assert isinstance(loaded.policy.sparsity, PolicySparsity)
    assert same(masks_of(model), masks_of(loaded))
    check_zero_off_mask(loaded)
    assert same(model.get_parameters(), loaded.get_parameters())
    observation = np.array([1.0, 0.0, 0.5], dtype=np.float32)
    action, _ = model.predict(observation, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(observation, deterministic=True)[0], action)

    before = masks_of(model)
    for one in (model, loaded):
        train(one, 40, seed=5)
    assert not same(before, masks_of(model))  # links have moved since
    check_zero_off_mask(loaded)
    assert same(model.get_parameters(), loaded.get_parameters())  # weights, Adam, masks, counters
    for network in ("actor", "critic"):
        mine, theirs = (one.policy.sparsity.evolutions[network] for one in (model, loaded))
        assert (mine.steps, mine.schedule) == (theirs.steps, theirs.schedule)
        assert mine.last_update == theirs.last_update


def test_parameters_carry_the_masks_to_another_agent() -> None:
    source, other = sparse_agent(TD3), sparse_agent(TD3, seed=1)
    assert not same(masks_of(source), masks_of(other))
    source.learn(STARTS + 20)
    other.set_parameters(source.get_parameters())
    assert same(masks_of(source), masks_of(other))
    check_zero_off_mask(other)
    # A dense agent does not take a sparse one for one of its own.
    with pytest.raises(RuntimeError, match="sparsity"):
        dense_agent(TD3).set_parameters(source.get_parameters())


def test_saved_again_after_loading_and_with_a_growth_rule(tmp_path: Path) -> None:
    model = sparse_agent(SAC, sparsity={"grow": top(random), "seed": 4})
    model.learn(STARTS + 30)
    model.save(tmp_path / "one.zip")
    SAC.load(tmp_path / "one.zip", device="cpu").save(tmp_path / "two.zip")
    again = SAC.load(tmp_path / "two.zip", env=model.get_env(), device="cpu")
    assert same(masks_of(model), masks_of(again))
    assert again.policy.sparsity.evolutions["critic"].steps == 30
    again.set_logger(Logger(None, []))
    again.learn(20, reset_num_timesteps=False)
    assert again.policy.sparsity.evolutions["critic"].steps == 50
    check_zero_off_mask(again)


@KINDS
def test_sparsity_0_leaves_the_training_bit_equal(kind: Any) -> None:
    noise = NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))
    dense = dense_agent(kind, action_noise=noise).learn(STARTS + 60)
    model = sparse_agent(kind, sparsity={"actor": 0.0, "critic": 0.0}, action_noise=noise)
    model.learn(STARTS + 60)
    mine, theirs = model.get_parameters(), dense.get_parameters()
    assert mine["policy"].pop("sparsity._extra_state")["critic"]["steps"] == 60
    assert same(mine, theirs)


def test_one_network_alone() -> None:
    model = sparse_agent(TD3, sparsity={"actor": 0.0, "critic": 0.9})
    model.learn(STARTS + 20)
    assert all(weight.all() for weight in model.actor.parameters() if weight.ndim == 2)
    topology = model.policy.sparsity.topologies["critic"]
    assert sum(topology.nnz.values()) == CRITIC_WEIGHTS[TD3] // 10


def test_the_seed_decides_the_masks() -> None:
    assert same(masks_of(sparse_agent(TD3, seed=3)), masks_of(sparse_agent(TD3, seed=3)))
    assert not same(masks_of(sparse_agent(TD3, seed=3)), masks_of(sparse_agent(TD3, seed=4)))
    chosen = masks_of(sparse_agent(TD3, seed=4, sparsity={"seed": 3}))
    assert same(masks_of(sparse_agent(TD3, seed=3)), chosen)
    assert same(masks_of(sparse_agent(TD3, seed=None)), masks_of(sparse_agent(TD3, seed=0)))


def test_random_growth_differs_between_networks() -> None:
    grown: dict[str, torch.Tensor] = {}

    def spy(state: LayerState, candidates: torch.Tensor, k: int) -> torch.Tensor:
        grown[state.name] = random(state)
        return highest(grown[state.name], candidates, k)

    model = sparse_agent(SAC, sparsity={"grow": spy, "update_every": 1})
    model.learn(STARTS + 1)
    # First layers of 96 and 128 weights: from one stream, the first 96 numbers would coincide.
    assert not torch.equal(
        grown["latent_pi.0.weight"].flatten()[:96], grown["qf0.0.weight"].flatten()[:96]
    )


class _Dots(gym.Env[np.ndarray, np.ndarray]):
    """Four pixels that say nothing; what is learned does not matter."""

    observation_space = gym.spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action: np.ndarray) -> Any:
        return self.observation_space.high, 0.0, False, False, {}


@pytest.mark.parametrize("kind", [TD3, SAC])
@pytest.mark.parametrize("shared", [True, False])
def test_a_shared_features_extractor_stays_dense(kind: Any, shared: bool, tmp_path: Path) -> None:
    model = kind(
        "CnnPolicy",
        _Dots(),
        buffer_size=50,
        learning_starts=2,
        batch_size=2,
        device="cpu",
        policy_kwargs={
            "net_arch": [16],
            "share_features_extractor": shared,
            "features_extractor_kwargs": {"features_dim": 8},
        },
    )
    sparsify_agent(model, steps=10, update_every=2)
    names = [n for one in model.policy.sparsity.topologies.values() for n in one.names]
    assert any(name.startswith("features_extractor") for name in names) is not shared
    model.set_logger(Logger(None, []))
    model.learn(8)
    model.save(tmp_path / "agent.zip")
    loaded = kind.load(tmp_path / "agent.zip", device="cpu")
    assert same(masks_of(model), masks_of(loaded))


@pytest.mark.parametrize(
    ("settings", "critic_until", "actor_until", "every"),
    [
        # 300,000 - 40 steps, one update each; 1/300 of the steps between exchanges.
        ({}, 299_960, 149_980, 1_000),
        ({"policy_delay": 3}, 299_960, 99_986, 1_000),
        ({"gradient_steps": 4, "train_freq": 2}, 599_920, 299_960, 2_000),
        ({"gradient_steps": 1, "train_freq": 8}, 37_495, 18_747, 500),
        ({"gradient_steps": -1, "train_freq": (1, "episode")}, 299_960, 149_980, 1_000),
    ],
)
def test_the_schedule_follows_from_the_settings(
    settings: dict[str, Any], critic_until: int, actor_until: int, every: int
) -> None:
    evolutions = sparsify_agent(dense_agent(TD3, **settings), steps=300_000).evolutions
    assert evolutions["critic"].schedule.update_until == critic_until
    assert evolutions["actor"].schedule.update_until == actor_until
    assert {one.schedule.update_every for one in evolutions.values()} == {every}
    assert evolutions["actor"].schedule.target_sparsity == 0.9
    assert evolutions["critic"].schedule.target_sparsity == 0.85


def test_copies_of_the_environment_are_counted() -> None:
    """200 steps of 4 copies are 50 rounds, of which those above 40 steps, 11 to 50, train once."""
    env = make_vec_env("Pendulum-v1", n_envs=4)
    model = SAC("MlpPolicy", env, learning_starts=40, buffer_size=400, batch_size=8, device="cpu")
    model.set_logger(Logger(None, []))
    evolution = sparsify_agent(model, steps=200, update_every=3).evolutions["critic"]
    model.learn(200)
    assert evolution.steps == evolution.schedule.update_until == 40


def test_steps_0_keeps_the_topology() -> None:
    model = sparse_agent(SAC, sparsity={"steps": 0})
    first = masks_of(model)
    model.learn(STARTS + 30)
    assert same(first, masks_of(model))
    check_zero_off_mask(model)


def test_mistakes_have_a_remedy() -> None:
    with pytest.raises(ValueError, match=r"got PPO: for other models use thrifty\.sparse"):
        sparsify_agent(PPO("MlpPolicy", "Pendulum-v1", device="cpu"), steps=100)
    with pytest.raises(ValueError, match="got DQN"):
        sparsify_agent(DQN("MlpPolicy", "CartPole-v1", buffer_size=10), steps=100)
    model = sparse_agent(TD3)
    with pytest.raises(ValueError, match="sparse already"):
        sparsify_agent(model, steps=STEPS)
    assert len(model.critic.optimizer._optimizer_step_pre_hooks) == 1
    trained = dense_agent(TD3).learn(STARTS + 1)
    with pytest.raises(ValueError, match="before learn"):
        sparsify_agent(trained, steps=STEPS)
    with pytest.raises(ValueError, match=r"learning_starts \(40\), got 40"):
        sparsify_agent(dense_agent(TD3), steps=40)
    for wrong in ({"actor": 1.0}, {"critic": -0.1}):
        with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
            sparsify_agent(dense_agent(TD3), steps=STEPS, **wrong)
    episodes = dense_agent(TD3, train_freq=(1, "episode"), gradient_steps=5)
    with pytest.raises(ValueError, match="gradient_steps=-1"):
        sparsify_agent(episodes, steps=STEPS)
    # A refused agent is as it was.
    assert not isinstance(episodes.policy_class, SparsePolicy)
    assert not hasattr(episodes.policy, "sparsity")


def test_without_stable_baselines3_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "from thrifty.adapters.sb3 import sparsify_agent\n"
        "try: sparsify_agent(object(), steps=1)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('pip install "thrifty[sb3]"')


def test_docstring_example() -> None:
    result = doctest.testmod(thrifty.adapters.sb3)
    assert result.attempted > 0
    assert result.failed == 0
