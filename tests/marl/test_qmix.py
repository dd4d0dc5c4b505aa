from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.learner import check_learner
from thrifty.marl.qmix import QMIX, QMIXConfig
from thrifty.marl.returns import soft_mellowmax


def plain_loss(learner: QMIX, one: Any, value: str) -> float:
    """One-step loss by plain loops."""
    inputs = learner.batch_inputs(one)
    with torch.no_grad():
        q, target = learner.value.module.individual(inputs), learner.target.individual(inputs)
    T, B, N = one.action.shape
    squares = []
    for b in range(B):
        for t in range(T):
            if not one.filled[t, b]:
                continue
            after = []
            for n in range(N):
                offered = [u for u in range(SPEC.actions) if one.available[t + 1, b, n, u]]
                if value == "double":
                    best = max(offered, key=lambda u: float(q[t + 1, b, n, u]))
                    after.append(target[t + 1, b, n, best])
                elif value == "max":
                    after.append(max(target[t + 1, b, n, u] for u in offered))
                else:
                    few = target[t + 1, b, n, offered]
                    everything = torch.ones_like(few, dtype=torch.bool)
                    after.append(soft_mellowmax(few, everything, 1.0, 10.0))
            with torch.no_grad():
                next_value = learner.target(torch.stack(after)[None], one.state[t + 1, b][None])
                taken = torch.stack([q[t, b, n, one.action[t, b, n]] for n in range(N)])
                total = learner.value.module(taken[None], one.state[t, b][None])
            goes_on = 0.99 * (1 - float(one.terminated[t, b]))
            y = float(one.reward[t, b]) + goes_on * float(next_value)
            squares.append((float(total) - y) ** 2)
    return sum(squares) / len(squares)


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
@pytest.mark.parametrize("value", ["double", "max", "soft_mellowmax"])
def test_the_loss_by_a_plain_loop(mixer: Any, value: Any) -> None:
    learner = QMIXConfig(mixer=mixer, next_value=value, last_scale=1.0).build(SPEC, seed=0)
    for parameter in learner.target.parameters():  # a target of its own
        parameter.data.mul_(1.1)
    one = batch(5)
    expected = plain_loss(learner, one, value)
    assert learner.update(one)[0]["loss"] == pytest.approx(expected, rel=1e-4)


def test_names() -> None:
    assert QMIXConfig().build(SPEC, seed=0).name == "QMIX"
    assert QMIXConfig(mixer="vdn").build(SPEC, seed=0).name == "VDN"


def test_targets_become_long_after_the_delay() -> None:
    long = QMIXConfig(td_lambda=0.8, long_after=2).build(SPEC, seed=0)
    short = QMIXConfig().build(SPEC, seed=0)
    losses = [[learner.update(batch(s))[0]["loss"] for s in range(4)] for learner in (long, short)]
    same = [a == b for a, b in zip(*losses, strict=True)]
    assert same == [True, True, False, False]


@pytest.mark.parametrize("correction", ["none", "watkins"])
def test_targets_look_no_further_than_greedy_actions(correction: Any) -> None:
    """The loss with lam 1 by a plain loop, which stops where an agent did not act greedily."""
    config = QMIXConfig(td_lambda=1.0, correction=correction, last_scale=1.0, discount=0.9)
    learner, one, squares, cut = config.build(SPEC, seed=0), batch(5), [], 0
    inputs = learner.batch_inputs(one)
    with torch.no_grad():
        q, target = learner.value.module.individual(inputs), learner.target.individual(inputs)
        for b in range(4):
            length = int(one.filled[:, b].sum())
            y = 0.0
            for t in reversed(range(length)):
                best = q[t + 1, b].masked_fill(~one.available[t + 1, b], -torch.inf).argmax(-1)
                after = target[t + 1, b].gather(-1, best[:, None])[:, 0]
                value = float(learner.target(after[None], one.state[t + 1, b][None]))
                last = t + 1 == length
                explored = not last and bool((best != one.action[t + 1, b]).any())
                cut += explored
                if last or (explored and correction == "watkins"):
                    y = value
                y = float(one.reward[t, b]) + 0.9 * (1 - float(one.terminated[t, b])) * y
                taken = q[t, b].gather(-1, one.action[t, b][:, None])[:, 0]
                total = float(learner.value.module(taken[None], one.state[t, b][None]))
                squares.append((total - y) ** 2)
    assert 0 < cut < len(squares) - 4
    assert learner.update(one)[0]["loss"] == pytest.approx(sum(squares) / len(squares), rel=1e-4)


def test_an_optimizer_step_is_clipped_after_masking() -> None:
    part = PartSparsityConfig(sparsity=0.9)
    learner = QMIXConfig(
        agents=part, mixing=part, clip_norm=1e-3, optimizer="rmsprop", last_scale=1.0
    ).build(SPEC, seed=0)
    numbers, _ = learner.update(batch())
    total = torch.stack([p.grad.norm() for p in learner.value.parameters]).norm()
    assert float(total) == pytest.approx(1e-3, rel=1e-3)
    assert numbers["gradient_norm"] > 1e-3
    for one in learner.value.parts.values():
        for name in one.topology.names:
            grad = one.topology.grad(name)
            assert grad is not None
            assert not grad[~one.topology.mask(name)].any()


@pytest.mark.parametrize("moments", ["zero", "keep"])
def test_second_moments_of_grown_links(moments: Any) -> None:
    part = PartSparsityConfig(sparsity=0.8, update_every=3, update_until=9, moments=moments)
    learner = QMIXConfig(agents=part, optimizer="rmsprop").build(SPEC, seed=0)
    topology = learner.value.parts["agents"].topology
    for seed in range(2):
        learner.update(batch(seed))
    before = {name: topology.mask(name).clone() for name in topology.names}
    held = {
        name: learner.value.optimizer.state[topology.parameter(name)]["square_avg"].clone()
        for name in topology.names
    }
    learner.update(batch(2))
    dropped = 0
    for name in topology.names:
        cut = before[name] & ~topology.mask(name)
        now = learner.value.optimizer.state[topology.parameter(name)]["square_avg"]
        dropped += int((held[name][cut] > 0).sum())
        assert bool((now[cut] > 0).any()) == (
            moments == "keep" and bool((held[name][cut] > 0).any())
        )
    assert dropped > 10


def test_state_goes_on_exactly() -> None:
    part = PartSparsityConfig(sparsity=0.8, update_every=2, update_until=9)
    config = QMIXConfig(agents=part, mixing=part, target_every=3)
    one, two = config.build(SPEC, seed=0), config.build(SPEC, seed=1)
    for seed in range(3):
        one.update(batch(seed))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for seed in range(3, 7):
        assert one.update(batch(seed))[0] == two.update(batch(seed))[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden": 0}, "hidden must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be more than 0"),
        ({"discount": 1.5}, r"discount must lie in \[0, 1\]"),
        ({"omega": 0.0}, "omega must be more than 0"),
        ({"td_lambda": 0.5, "n_step": 3}, "two lengths of one target"),
        ({"correction": "watkins"}, "set td_lambda, or leave it out"),
        ({"agents": PartSparsityConfig(scope="agents")}, 'set parameters="own"'),
        ({"mixing": PartSparsityConfig(scope="agents")}, "a mixer has no agents"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_learner(QMIXConfig(**fields), SPEC)
