from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from transitions import GAMMA, OBS, A, B, batches, episode_rows, make_batch, window

from thrifty.control import SAC, SACConfig, SparsityConfig

TAU = 0.1


def config(**fields: Any) -> SACConfig:
    return SACConfig(
        **{
            "actor_hidden": (12, 8),
            "critic_hidden": (12, 8),
            "batch_size": B,
            "discount": GAMMA,
            "tau": TAU,
            "learning_rate": 1e-3,
            **fields,
        }
    )


def fresh_action(actor: Any, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A reparameterised action and its log density, by torch.distributions."""
    mean, log_std = actor.distribution(observation)
    normal = Independent(Normal(mean, log_std.exp()), 1)
    squashed = TransformedDistribution(normal, [TanhTransform(cache_size=1)])
    action = squashed.transforms[0](mean + log_std.exp() * noise)
    return action, squashed.log_prob(action)


class Plain:
    """SAC as the paper reads, with Stable-Baselines3's order of steps."""

    def __init__(self, agent: SAC) -> None:
        self.actor = copy.deepcopy(agent.actor.module)
        self.critic = copy.deepcopy(agent.critic.module)
        self.target = copy.deepcopy(self.critic)
        self.log_alpha = agent.log_alpha.detach().clone().requires_grad_(True)
        rate = agent.config.learning_rate
        self.optimizers = [
            torch.optim.Adam(self.actor.parameters(), lr=rate, fused=True),
            torch.optim.Adam(self.critic.parameters(), lr=rate, fused=True),
            torch.optim.Adam([self.log_alpha], lr=rate),
        ]

    def descend(self, which: int, loss: Tensor) -> None:
        self.optimizers[which].zero_grad()
        loss.backward()
        self.optimizers[which].step()

    def update(self, observation: Tensor, action: Tensor, fresh: Any, target: Any) -> list[float]:
        """Fresh actions and targets come from functions, called when the algorithm gets there."""
        fresh_a, log_pi = fresh(self.actor)
        alpha = self.log_alpha.exp().detach()
        y = target(self, alpha)
        self.descend(2, -(self.log_alpha * (log_pi.detach() - A)).mean())
        q1, q2 = self.critic(observation, action)
        critic_loss = 0.5 * (F.mse_loss(q1, y) + F.mse_loss(q2, y))
        self.descend(1, critic_loss)
        actor_loss = (alpha * log_pi - torch.min(*self.critic(observation, fresh_a))).mean()
        self.descend(0, actor_loss)
        for o, t in zip(self.critic.parameters(), self.target.parameters(), strict=True):
            t.data.lerp_(o.data, TAU)
        return [critic_loss.item(), actor_loss.item(), alpha.item()]

    def pairs(self, agent: SAC) -> list[tuple[Tensor, Tensor]]:
        ours = (agent.actor.module, agent.critic.module, agent.critic_target)
        theirs = (self.actor, self.critic, self.target)
        return [
            (agent.log_alpha, self.log_alpha),
            *(
                pair
                for one, two in zip(ours, theirs, strict=True)
                for pair in zip(one.parameters(), two.parameters(), strict=True)
            ),
        ]


@pytest.mark.parametrize("n", [1, 3])
def test_updates_are_those_of_a_plain_loop_over_the_definition(n: int) -> None:
    agent = SAC(config(dtype="float64", n_step=n, entropy_coefficient=0.3), OBS, A, seed=1)
    plain = Plain(agent)
    rng = np.random.default_rng(0)
    for update in range(5):
        rows = episode_rows(update)
        starts = rng.integers(0, len(rows), B).tolist()
        noise = torch.from_numpy(rng.normal(size=(B, A)))
        path_noise = torch.from_numpy(rng.normal(size=(n, B, A)))
        observation = torch.tensor(np.array([rows[s].observation for s in starts])).double()
        action = torch.tensor(np.array([rows[s].action for s in starts])).double()

        @torch.no_grad()
        def soft_targets(
            plain: Plain,
            alpha: Tensor,
            rows: Any = rows,
            starts: Any = starts,
            path_noise: Any = path_noise,
        ) -> Tensor:
            targets = []
            for b, start in enumerate(starts):
                y, chosen = 0.0, window(rows, start, n)
                for k, row in enumerate(chosen):
                    y += GAMMA**k * row.reward
                    if row.terminated:  # nothing follows: no entropy, no value
                        continue
                    seen = torch.from_numpy(row.next_observation).double()[None]
                    fresh, log_pi = fresh_action(plain.actor, seen, path_noise[k, b : b + 1])
                    y -= GAMMA ** (k + 1) * (alpha * log_pi).item()
                    if k == len(chosen) - 1:
                        y += GAMMA ** (k + 1) * torch.min(*plain.target(seen, fresh)).item()
                targets.append(y)
            return torch.tensor(targets, dtype=torch.float64)

        expected = plain.update(
            observation,
            action,
            lambda actor, seen=observation, noise=noise: fresh_action(actor, seen, noise),
            soft_targets,
        )
        batch = make_batch(rows, starts, n, torch.float64)
        losses, moved = agent.update(batch, noise, path_noise)
        assert list(losses) == ["critic_loss", "actor_loss", "entropy_coefficient"]
        assert list(losses.values()) == pytest.approx(expected, rel=1e-5, abs=1e-6)
        assert moved == {}
    for ours, theirs in plain.pairs(agent):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "sparsity", [SparsityConfig(), SparsityConfig(update_every=2, update_until=100)]
)
@pytest.mark.parametrize("critic_score", ["critic_loss", "with_stale_actor_gradient"])
def test_sparsity_zero_is_bit_equal_to_plain_adam(
    sparsity: SparsityConfig, critic_score: Any
) -> None:
    agent = SAC(config(actor=sparsity, critic=sparsity, critic_score=critic_score), OBS, A, seed=2)
    plain = Plain(agent)
    for batch, noise, path_noise in batches(8):

        def target(
            plain: Plain, alpha: Tensor, batch: Any = batch, path_noise: Any = path_noise
        ) -> Tensor:
            with torch.no_grad():
                fresh, log_pi = plain.actor.sample(batch.path_observation, path_noise)
                value = torch.min(*plain.target(batch.next_observation, fresh[0]))
                bonus = -alpha * (batch.path_discount * log_pi).sum(dim=0)
                return batch.n_step_return + bonus + batch.discount * value

        expected = plain.update(
            batch.observation,
            batch.action,
            lambda actor, batch=batch, noise=noise: actor.sample(batch.observation, noise),
            target,
        )
        losses, moved = agent.update(batch, noise, path_noise)
        assert (list(losses.values()), moved) == (expected, {})
    assert all(torch.equal(ours, theirs) for ours, theirs in plain.pairs(agent))


def test_soft_target_by_hand() -> None:
    agent = SAC(
        config(actor_hidden=(), critic_hidden=(), log_std_squash="clamp", dtype="float64"), OBS, A
    )
    with torch.no_grad():
        for module in (agent.actor.module, agent.critic_target):
            for parameter in module.parameters():
                parameter.zero_()
        agent.critic_target.q1[0].bias.fill_(10.0)
        agent.critic_target.q2[0].bias.fill_(12.0)  # the smaller value is 10 everywhere
    # Every fresh action is 0 with log density 2 log N(0) = -log 2 pi; alpha = 1/2.
    bonus = 0.5 * math.log(2 * math.pi)
    rows = [row._replace(reward=1.0, terminated=False, truncated=False) for row in episode_rows(0)]
    rows[11] = rows[11]._replace(truncated=True)
    rows[21] = rows[21]._replace(terminated=True)
    batch = make_batch(rows, [0, 10, 20], 3, torch.float64)
    target = agent.soft_target(batch, torch.tensor(0.5), torch.zeros(3, 3, A, dtype=torch.float64))
    assert target.tolist() == pytest.approx(
        [
            1 + 0.9 + 0.81 + (0.9 + 0.81 + 0.729) * bonus + 0.729 * 10,
            1 + 0.9 + (0.9 + 0.81) * bonus + 0.81 * 10,  # cut at the time limit
            1 + 0.9 + 0.9 * bonus,  # terminated at the second step
        ],
        rel=1e-6,
    )


SPARSE = SparsityConfig(sparsity=0.5, update_every=3, update_until=20)


def critic_gradient(agent: SAC, batch: Any, path_noise: Tensor) -> dict[str, Tensor]:
    """Gradient of the critic's own loss before an update."""
    alpha = agent.log_alpha.detach().exp()
    y = agent.soft_target(batch, alpha, path_noise)
    q1, q2 = agent.critic.module(batch.observation, batch.action)
    loss = 0.5 * ((q1 - y).square().mean() + (q2 - y).square().mean())
    return gradient_of(agent, loss)


def gradient_of(agent: SAC, loss: Tensor) -> dict[str, Tensor]:
    names = agent.critic.topology.names
    parameters = [agent.critic.topology.parameter(name) for name in names]
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def exchanged(weight: Tensor, mask: Tensor, score: Tensor, fraction: float) -> Tensor:
    """The next mask: keep the largest weights, grow the largest scores among all others."""
    n = int(mask.sum())
    keep = n - math.floor(n * fraction)
    order = [
        i for i in weight.abs().flatten().argsort(descending=True).tolist() if mask.flatten()[i]
    ]
    kept = set(order[:keep])
    others = [i for i in score.abs().flatten().argsort(descending=True).tolist() if i not in kept]
    new = torch.zeros(mask.numel(), dtype=torch.bool)
    new[[*kept, *others[: n - keep]]] = True
    return new.view_as(mask)


@pytest.mark.parametrize("critic_score", ["critic_loss", "with_stale_actor_gradient"])
def test_what_the_growth_score_of_the_critic_sees(critic_score: Any) -> None:
    fields = {"dtype": "float64", "actor": SPARSE, "critic": SPARSE, "critic_score": critic_score}
    agent = SAC(config(**fields), OBS, A, seed=3)
    made = batches(6, dtype=torch.float64)
    stale: dict[str, Tensor] = {}
    differs = 0
    for update, (batch, noise, path_noise) in enumerate(made, start=1):
        weights = {
            n: agent.critic.topology.weight(n).detach().clone() for n in agent.critic.topology.names
        }
        masks = {n: agent.critic.topology.mask(n).clone() for n in weights}
        clean = critic_gradient(agent, batch, path_noise)
        actor = copy.deepcopy(agent.actor.module)
        alpha = agent.log_alpha.detach().exp()
        _, moved = agent.update(batch, noise, path_noise)
        assert ("critic" in moved) == (update % 3 == 0)
        if "critic" in moved:
            # zeta / 2 (1 + cos(pi t / T))
            fraction = 0.25 * (1 + math.cos(math.pi * update / 20))
            for name in weights:
                plain = exchanged(weights[name], masks[name], clean[name], fraction)
                dirty = exchanged(weights[name], masks[name], clean[name] + stale[name], fraction)
                expected = plain if critic_score == "critic_loss" else dirty
                assert torch.equal(agent.critic.topology.mask(name), expected)
                differs += int((plain != dirty).sum())
        else:
            for name in weights:  # what is left in the critic is the critic's own, masked
                grad = agent.critic.topology.grad(name)
                torch.testing.assert_close(grad, clean[name] * masks[name], rtol=1e-9, atol=1e-12)
        # The actor's loss as it was: the actor before, the critic after this update's step.
        action, log_pi = actor.sample(batch.observation, noise)
        q1, q2 = agent.critic.module(batch.observation, action)
        stale = {
            n: 0.5 * g
            for n, g in gradient_of(agent, (alpha * log_pi - torch.min(q1, q2)).mean()).items()
        }
        held = agent.stale_gradient
        if critic_score == "critic_loss" or update % 3 != 2:
            assert held == {}
        else:
            for name, expected_gradient in stale.items():
                torch.testing.assert_close(held[name], expected_gradient, rtol=1e-9, atol=1e-12)
    assert differs > 0  # the two readings do choose other links


def test_a_stale_gradient_is_loaded_to_the_device() -> None:
    agent = SAC(config(), OBS, A)
    state = {**agent.state_dict(), "stale_gradient": {"q1.0.weight": torch.ones(2)}}
    agent.device = torch.device("meta")  # stands for a GPU
    agent.load_state_dict(state)
    assert agent.stale_gradient["q1.0.weight"].is_meta


def test_temperature_by_hand() -> None:
    agent = SAC(config(entropy_coefficient=0.5, target_entropy=-1.5), OBS, A)
    assert agent.log_alpha.item() == pytest.approx(math.log(0.5))
    assert SAC(config(), OBS, A).target_entropy == -A
    (batch, noise, path_noise), *_ = batches(1)
    log_pi = agent.actor.module.sample(batch.observation, noise)[1].mean().item()
    losses, _ = agent.update(batch, noise, path_noise)
    assert losses["entropy_coefficient"] == pytest.approx(0.5)  # the one before its own step
    # Adam's first step has the size of the learning rate: down where the entropy -log pi is above.
    step = -1e-3 if -log_pi > -1.5 else 1e-3
    assert agent.log_alpha.item() == pytest.approx(math.log(0.5) + step, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_fixed_temperature_stays(alpha: float) -> None:
    agent = SAC(config(entropy_coefficient=alpha, learn_entropy_coefficient=False), OBS, A)
    for batch, noise, path_noise in batches(3):
        losses, _ = agent.update(batch, noise, path_noise)
        assert losses["entropy_coefficient"] == pytest.approx(alpha)
        assert all(math.isfinite(loss) for loss in losses.values())


def test_targets_begin_masked_or_dense() -> None:
    for start in ("masked", "dense"):
        kept = dataclasses.replace(SPARSE, initial="largest")
        agent = SAC(config(critic=kept, targets_at_start=start), OBS, A)
        names = agent.critic.topology.names

        def outside(agent: SAC = agent, names: Any = names) -> int:
            return sum(
                int(
                    agent.critic_target.get_parameter(n)[
                        ~agent.critic.topology.mask(n)
                    ].count_nonzero()
                )
                for n in names
            )

        cut = sum(int((~agent.critic.topology.mask(n)).sum()) for n in names)
        assert outside() == (0 if start == "masked" else cut)
        batch, noise, path_noise = batches(1)[0]
        agent.update(batch, noise, path_noise)
        assert outside() == 0


def test_targets_follow_the_masks() -> None:
    agent = SAC(config(critic=SPARSE), OBS, A)
    changed = 0
    for batch, noise, path_noise in batches(9):
        before = {n: agent.critic.topology.mask(n).clone() for n in agent.critic.topology.names}
        agent.update(batch, noise, path_noise)
        for name, mask in before.items():
            cut = ~agent.critic.topology.mask(name)
            assert not agent.critic_target.get_parameter(name)[cut].any()
            changed += int((cut & mask).sum())
    assert changed > 10


@pytest.mark.parametrize("delay", [0, 4])
def test_windows_grow_at_the_delay(delay: int) -> None:
    agent = SAC(config(n_step=2, n_step_delay=delay), OBS, A)
    wanted = []
    for batch, noise, path_noise in batches(6):
        wanted.append(agent.n_step)
        agent.update(batch, noise, path_noise)
    assert wanted == [2 if update >= delay else 1 for update in range(1, 7)]


def test_exploring_draws_from_the_policy() -> None:
    agent = SAC(config(), OBS, A)
    seen = np.zeros((3000, OBS), np.float32)
    taken, quiet = agent.act(seen, explore=True)
    mean, log_std = agent.actor.module.distribution(torch.zeros(1, OBS))
    x = np.arctanh(taken.astype(np.float64))
    # 3,000 draws: the mean within 5 standard errors, the spread within 10 %.
    error = 5 * log_std.exp().detach().numpy() / math.sqrt(3000)
    assert (np.abs(x.mean(axis=0) - mean.detach().numpy()) < error).all()
    assert x.std(axis=0) == pytest.approx(log_std.exp().detach().numpy()[0], rel=0.1)
    assert np.allclose(quiet, np.tanh(mean.detach().numpy()))
    assert np.array_equal(agent.policy(torch.from_numpy(seen)).numpy(), quiet)


def test_scaling_before_the_tanh_reaches_the_network() -> None:
    plain = SAC(config(), OBS, A, seed=5)
    scaled = SAC(config(action_scale="pre_tanh", pre_tanh_scale=2.0), OBS, A, seed=5)
    ignored = SAC(config(pre_tanh_scale=2.0), OBS, A, seed=5)
    seen = torch.ones(1, OBS)
    assert torch.equal(ignored.policy(seen), plain.policy(seen))
    assert torch.allclose(scaled.policy(seen), torch.tanh(2 * torch.atanh(plain.policy(seen))))


def test_double_precision_and_layer_norm() -> None:
    agent = SAC(config(dtype="float64", critic_layer_norm=True, critic=SPARSE), OBS, A)
    for batch, noise, path_noise in batches(4):
        losses, _ = agent.update(batch, noise, path_noise)
    assert all(math.isfinite(loss) for loss in losses.values())
    for module in (agent.actor.module, agent.critic.module, agent.critic_target):
        assert {p.dtype for p in module.parameters()} == {torch.float64}
    assert agent.log_alpha.dtype == torch.float64
    assert all(agent.critic.topology.weight(n).ndim == 2 for n in agent.critic.topology.names)
    assert agent.act(np.zeros((1, OBS), np.float32), explore=True)[0].dtype == np.float32


def test_a_diverged_loss_stops_at_the_next_evolution_step() -> None:
    agent = SAC(config(critic=SPARSE), OBS, A)
    good, noise, path_noise = batches(1)[0]
    bad = good._replace(n_step_return=torch.full((B,), torch.nan))
    agent.update(good, noise, path_noise)
    agent.update(good, noise, path_noise)
    with pytest.raises(ValueError, match="diverged"):
        agent.update(bad, noise, path_noise)
