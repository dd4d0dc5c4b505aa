from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transitions import GAMMA, OBS, A, B, batches, episode_rows, make_batch, window

from thrifty.control import TD3, SparsityConfig, TD3Config


def config(**fields: Any) -> TD3Config:
    return TD3Config(
        **{
            "actor_hidden": (12, 8),
            "critic_hidden": (12, 8),
            "batch_size": B,
            "discount": GAMMA,
            "tau": 0.1,
            "learning_rate": 1e-3,
            **fields,
        }
    )


class Plain:
    """TD3 as the paper's algorithm reads: modules, Adam, loops, and nothing of ours."""

    def __init__(self, agent: TD3, policy_delay: int = 2) -> None:
        self.actor = copy.deepcopy(agent.actor.module)
        self.critic = copy.deepcopy(agent.critic.module)
        self.actor_target, self.critic_target = copy.deepcopy((self.actor, self.critic))
        rate = agent.config.learning_rate
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=rate, fused=True)
        self.policy_delay, self.updates = policy_delay, 0

    @torch.no_grad()
    def value(self, next_observation: Tensor, noise: Tensor) -> Tensor:
        """The smaller target value of smoothed target actions."""
        smooth = (noise * 0.2).clamp(-0.5, 0.5)
        action = (self.actor_target(next_observation) + smooth).clamp(-1, 1)
        return torch.min(*self.critic_target(next_observation, action))

    def update(self, observation: Tensor, action: Tensor, target: Tensor) -> list[float]:
        self.updates += 1
        q1, q2 = self.critic(observation, action)
        loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        self.critic_optimizer.zero_grad()
        loss.backward()
        self.critic_optimizer.step()
        losses = [loss.item()]
        if self.updates % self.policy_delay == 0:
            actor_loss = -self.critic(observation, self.actor(observation))[0].mean()
            self.actor_optimizer.zero_grad()
            actor_loss.backward()
            self.actor_optimizer.step()
            losses.append(actor_loss.item())
            for online, target_net in (
                (self.critic, self.critic_target),
                (self.actor, self.actor_target),
            ):
                for o, t in zip(online.parameters(), target_net.parameters(), strict=True):
                    t.data.lerp_(o.data, 0.1)
        return losses

    def pairs(self, agent: TD3) -> list[tuple[Tensor, Tensor]]:
        ours = (agent.actor.module, agent.critic.module, agent.actor_target, agent.critic_target)
        theirs = (self.actor, self.critic, self.actor_target, self.critic_target)
        return [
            (p, q)
            for one, two in zip(ours, theirs, strict=True)
            for p, q in zip(one.parameters(), two.parameters(), strict=True)
        ]


@pytest.mark.parametrize("policy_delay", [1, 2, 3])
@pytest.mark.parametrize("n", [1, 3])
def test_updates_are_those_of_a_plain_loop_over_the_definition(n: int, policy_delay: int) -> None:
    agent = TD3(config(dtype="float64", n_step=n, policy_delay=policy_delay), OBS, A, seed=1)
    plain = Plain(agent, policy_delay)
    rng = np.random.default_rng(0)
    for update in range(6):
        rows = episode_rows(update)
        starts = rng.integers(0, len(rows), B).tolist()
        noise = torch.from_numpy(rng.normal(size=(B, A)))
        targets = []
        for b, start in enumerate(starts):
            chosen = window(rows, start, n)
            last = chosen[-1]
            y = sum(GAMMA**k * row.reward for k, row in enumerate(chosen))
            if not last.terminated:  # a time limit does bootstrap
                seen = torch.from_numpy(last.next_observation).double()[None]
                y += GAMMA ** len(chosen) * plain.value(seen, noise[b : b + 1]).item()
            targets.append(y)
        observation = torch.tensor(
            np.array([rows[s].observation for s in starts]), dtype=torch.float64
        )
        action = torch.tensor(np.array([rows[s].action for s in starts]), dtype=torch.float64)
        expected = plain.update(observation, action, torch.tensor(targets, dtype=torch.float64))
        losses, moved = agent.update(make_batch(rows, starts, n, torch.float64), noise)
        # float32 rewards and discounts inside the replay: 1e-6 of values around 1
        assert list(losses.values()) == pytest.approx(expected, rel=1e-5)
        assert moved == {}
    for ours, theirs in plain.pairs(agent):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sparsity", [SparsityConfig(), SparsityConfig(update_every=2, update_until=100)]
)
def test_sparsity_zero_is_bit_equal_to_plain_adam(sparsity: SparsityConfig) -> None:
    agent = TD3(config(actor=sparsity, critic=sparsity, n_step=3), OBS, A, seed=2)
    plain = Plain(agent)
    for batch, noise, _ in batches(8, n=3):
        value = plain.value(batch.next_observation, noise)
        target = batch.n_step_return + batch.discount * value
        losses, moved = agent.update(batch, noise)
        assert list(losses.values()) == plain.update(batch.observation, batch.action, target)
        assert moved == {}
    assert all(torch.equal(ours, theirs) for ours, theirs in plain.pairs(agent))
    for name in ("actor", "critic"):
        ours = getattr(agent, name).optimizer.state_dict()["state"]
        theirs = getattr(plain, f"{name}_optimizer").state_dict()["state"]
        for key, state in ours.items():
            assert all(torch.equal(state[part], theirs[key][part]) for part in state)


SPARSE = SparsityConfig(sparsity=0.5, update_every=2, update_until=20)


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters() if "weight" in n}


def test_actor_and_targets_wait_for_the_policy_delay() -> None:
    agent = TD3(config(policy_delay=3), OBS, A)
    for update, (batch, noise, _) in enumerate(batches(7), start=1):
        before = [weights(m) for m in (agent.actor.module, agent.actor_target, agent.critic_target)]
        critic = weights(agent.critic.module)
        losses, _ = agent.update(batch, noise)
        after = [weights(m) for m in (agent.actor.module, agent.actor_target, agent.critic_target)]
        acts = update in (3, 6)
        assert losses.keys() == ({"critic_loss", "actor_loss"} if acts else {"critic_loss"})
        for old, new in zip(before, after, strict=True):
            assert all(torch.equal(old[n], new[n]) != acts for n in old)
        new = weights(agent.critic.module)
        assert not any(torch.equal(critic[n], new[n]) for n in critic)


def test_the_actor_loss_leaves_no_gradient_in_the_critic() -> None:
    agent = TD3(config(policy_delay=1, critic=SPARSE, actor=SPARSE), OBS, A)
    for batch, noise, _ in batches(3):
        with torch.no_grad():
            action = agent.actor_target(batch.next_observation) + (noise * 0.2).clamp(-0.5, 0.5)
            values = agent.critic_target(batch.next_observation, action.clamp(-1, 1))
            target = batch.n_step_return + batch.discount * torch.min(*values)
        q1, q2 = agent.critic.module(batch.observation, batch.action)
        loss = F.mse_loss(q1, target) + F.mse_loss(q2, target)
        parameters = dict(agent.critic.module.named_parameters())
        expected = dict(
            zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)
        )
        masks = {n: agent.critic.topology.mask(n).clone() for n in agent.critic.topology.names}
        _, moved = agent.update(batch, noise)
        if "critic" in moved:  # at an evolution step only links that were kept have a gradient
            continue
        for name, parameter in parameters.items():
            assert parameter.grad is not None
            wanted = expected[name] * masks[name] if name in masks else expected[name]
            torch.testing.assert_close(parameter.grad, wanted, rtol=0, atol=1e-7)
    assert agent.updates == 3


def test_targets_begin_masked() -> None:
    agent = TD3(config(actor=SPARSE, critic=SPARSE), OBS, A)
    for network, target in ((agent.actor, agent.actor_target), (agent.critic, agent.critic_target)):
        online, copied = weights(network.module), weights(target)
        assert all(torch.equal(online[n], copied[n]) for n in online)
        assert network.topology.sparsity == pytest.approx(0.5, abs=0.01)


def test_published_targets_begin_dense_until_the_first_soft_update() -> None:
    kept = dataclasses.replace(SPARSE, initial="largest")
    agent = TD3(config(actor=kept, critic=kept, targets_at_start="dense"), OBS, A)
    with pytest.raises(ValueError, match="before they are drawn anew"):
        TD3(config(actor=SPARSE, targets_at_start="dense"), OBS, A)
    pairs = ((agent.actor, agent.actor_target), (agent.critic, agent.critic_target))
    for density, (batch, noise, _) in zip((1.0, 0.5), batches(2), strict=True):
        for network, target in pairs:
            nonzero = sum(int((w != 0).sum()) for w in weights(target).values())
            size = sum(w.numel() for w in weights(target).values())
            assert nonzero == size  # before the first update, and before the second (no soft one)
            assert network.topology.sparsity == pytest.approx(0.5, abs=0.01)
        agent.update(batch, noise)
        if density == 0.5:
            for network, target in pairs:
                for name in network.topology.names:
                    cut = ~network.topology.mask(name)
                    assert not target.get_parameter(name)[cut].any()
                    assert target.get_parameter(name)[~cut].all()


def test_targets_follow_the_masks() -> None:
    agent = TD3(config(actor=SPARSE, critic=SPARSE), OBS, A)
    grown_links = 0
    for batch, noise, _ in batches(12):
        before = {n: agent.critic.topology.mask(n).clone() for n in agent.critic.topology.names}
        old = weights(agent.critic_target)
        _, moved = agent.update(batch, noise)
        if agent.updates % 2:
            continue
        assert "critic" in moved  # every second step, which is when targets move
        for network, target in (
            (agent.actor, agent.actor_target),
            (agent.critic, agent.critic_target),
        ):
            for name in network.topology.names:
                cut = ~network.topology.mask(name)
                assert not target.get_parameter(name)[cut].any()
                assert not network.module.get_parameter(name)[cut].any()
        for name, mask in before.items():
            kept = mask & agent.critic.topology.mask(name)
            grown = ~mask & agent.critic.topology.mask(name)
            grown_links += int(grown.sum())
            # Grown links enter at 0; links that stay are averaged (unless dropped and regrown).
            assert not agent.critic_target.get_parameter(name)[grown].any()
            online = agent.critic.module.get_parameter(name)
            averaged = old[name] + 0.1 * (online - old[name])
            torch.testing.assert_close(
                agent.critic_target.get_parameter(name)[kept], averaged[kept], rtol=0, atol=1e-7
            )
    assert grown_links > 20


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_windows_grow_at_the_delay(delay: int) -> None:
    agent = TD3(config(n_step=3, n_step_delay=delay), OBS, A)
    wanted = []
    for batch, noise, _ in batches(7):
        wanted.append(agent.n_step)
        agent.update(batch, noise)
    # Update number `delay` (from 1) is the first with three steps.
    assert wanted == [3 if update >= delay else 1 for update in range(1, 8)]


def test_exploration_noise() -> None:
    agent = TD3(config(exploration_noise=0.1), OBS, A)
    seen = np.zeros((2000, OBS), np.float32)
    taken, quiet = agent.act(seen, explore=True)
    assert np.array_equal(quiet, agent.act(seen, explore=False)[0])
    assert np.array_equal(*agent.act(seen, explore=False))
    # 4,000 draws: standard error of the standard deviation 0.1 / sqrt(8000) = 0.0011
    assert (taken - quiet).std() == pytest.approx(0.1, abs=0.006)
    assert abs((taken - quiet).mean()) < 0.01
    assert taken.dtype == quiet.dtype == np.float32
    silent = TD3(config(exploration_noise=0.0), OBS, A)
    assert np.array_equal(*silent.act(seen, explore=True))


def test_a_diverged_loss_stops_at_the_next_evolution_step() -> None:
    agent = TD3(config(critic=SPARSE), OBS, A)
    (good, noise, _), (bad, _, _) = batches(2)
    agent.update(good, noise)
    bad = bad._replace(n_step_return=torch.full((B,), torch.nan))
    with pytest.raises(ValueError, match="diverged"):
        agent.update(bad, noise)


def test_double_precision() -> None:
    agent = TD3(config(dtype="float64", actor=SPARSE, critic=SPARSE), OBS, A)
    for batch, noise, _ in batches(4):  # float32 batches are converted
        agent.update(batch, noise)
    for module in (
        agent.actor.module,
        agent.critic.module,
        agent.actor_target,
        agent.critic_target,
    ):
        assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert agent.act(np.zeros((1, OBS), np.float32), explore=True)[0].dtype == np.float32


def test_layer_norm_critics_learn_and_stay_dense() -> None:
    agent = TD3(config(critic_layer_norm=True, critic=SPARSE), OBS, A)
    names = {n for n, p in agent.critic.module.named_parameters() if p.ndim == 2}
    assert set(agent.critic.topology.names) == names
    before = agent.critic.module.q1[1].weight.detach().clone()
    for batch, noise, _ in batches(4):
        agent.update(batch, noise)
    assert (agent.critic.module.q1[1].weight != before).all()
    assert agent.critic.topology.sparsity == pytest.approx(0.5, abs=0.01)


def test_building_leaves_global_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = TD3(config(actor=SPARSE, critic=SPARSE), OBS, A, seed=3)
    one.act(np.zeros((1, OBS), np.float32), explore=True)
    one.update(batches(1)[0][0])
    assert torch.equal(torch.rand(3), expected)
    two = TD3(config(actor=SPARSE, critic=SPARSE), OBS, A, seed=3)
    other = TD3(config(actor=SPARSE, critic=SPARSE), OBS, A, seed=4)
    two.act(np.zeros((1, OBS), np.float32), explore=True)
    two.update(batches(1)[0][0])
    same, different = weights(two.critic.module), weights(other.critic.module)
    for name, weight in weights(one.critic.module).items():
        assert torch.equal(weight, same[name])
        assert not torch.equal(weight, different[name])
