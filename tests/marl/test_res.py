from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.qmix import QMIXConfig
from thrifty.marl.res import RES, RESConfig, full_softmax_value, softmax_value

A, N, U = 5, 2, 3


def made() -> tuple:  # type: ignore[type-arg]
    """Two joint values, individual values, availability and states, all random."""
    online, target = (
        QMIXConfig(last_scale=1.0).build(SPEC, seed=seed).value.module.double() for seed in (0, 1)
    )
    rng = np.random.default_rng(0)
    available = torch.from_numpy(rng.random((A, N, U)) < 0.6)
    available[..., 1] = True
    q, q_target = (torch.from_numpy(rng.normal(size=(A, N, U))) for _ in range(2))
    return online, target, q, q_target, available, torch.from_numpy(rng.normal(size=(A, 5)))


@pytest.mark.parametrize("greedy", ["once", "each"])
def test_the_operator_is_a_plain_loop(greedy: Literal["once", "each"]) -> None:
    online, target, q, q_target, available, state = made()
    with torch.no_grad():
        found = softmax_value(
            online, target, q, q_target, available, state, beta=0.7, greedy=greedy
        )
    for a in range(A):
        best = tuple(
            max((u for u in range(U) if available[a, n, u]), key=lambda u: float(q[a, n, u]))
            for n in range(N)
        )
        actions = [
            (*best[:n], u, *best[n + 1 :]) for n in range(N) for u in range(U) if available[a, n, u]
        ]
        if greedy == "once":
            actions = list(dict.fromkeys(actions))
        weights, values = [], []
        for joint in actions:
            index = (a, torch.arange(N), torch.tensor(joint))
            with torch.no_grad():
                weights.append(np.exp(0.7 * float(online(q[index], state[a]))))
                values.append(float(target(q_target[index], state[a])))
        expected = np.dot(weights, values) / np.sum(weights)
        assert found[a].item() == pytest.approx(expected, abs=1e-10)


def test_what_is_not_available_plays_no_part() -> None:
    online, target, q, q_target, available, state = made()
    wild, wild_target = q.clone(), q_target.clone()
    wild[~available], wild_target[~available] = 1e6, -1e6
    with torch.no_grad():
        one = softmax_value(online, target, q, q_target, available, state, beta=0.5)
        two = softmax_value(online, target, wild, wild_target, available, state, beta=0.5)
    assert torch.equal(one, two)


def test_the_full_softmax_is_a_plain_loop_and_the_few_are_near() -> None:
    online, target, q, q_target, available, state = made()
    with torch.no_grad():
        full = full_softmax_value(online, target, q, q_target, available, state, beta=0.7)
        few = softmax_value(online, target, q, q_target, available, state, beta=0.7)
        values = []
        for a in range(A):
            weights, at = [], []
            for joint in itertools.product(range(U), repeat=N):
                index = (a, torch.arange(N), torch.tensor(joint))
                if available[index].all():
                    weights.append(np.exp(0.7 * float(online(q[index], state[a]))))
                    at.append(float(target(q_target[index], state[a])))
            values.append(np.dot(weights, at) / np.sum(weights))
    np.testing.assert_allclose(full.numpy(), values, atol=1e-10)
    # Both are means over available joint actions, so they differ by less than the values spread.
    spread = max(values) - min(values)
    distance = float((few - full).abs().mean())
    assert 0.0 < distance < spread


def test_with_one_agent_the_few_are_all() -> None:
    spec = SPEC._replace(agents=1)
    online, target = (
        QMIXConfig(last_scale=1.0).build(spec, seed=seed).value.module.double() for seed in (0, 1)
    )
    rng = np.random.default_rng(1)
    q, q_target = (torch.from_numpy(rng.normal(size=(4, 1, U))) for _ in range(2))
    available = torch.ones(4, 1, U, dtype=torch.bool)
    state = torch.from_numpy(rng.normal(size=(4, 5)))
    with torch.no_grad():
        one = softmax_value(online, target, q, q_target, available, state, beta=2.0)
        two = full_softmax_value(online, target, q, q_target, available, state, beta=2.0)
    torch.testing.assert_close(one, two)


def test_the_return_regulariser_by_hand() -> None:
    learner = RES(RESConfig(last_scale=1.0, discount=0.5), SPEC, seed=0)
    one = batch(7)
    q = learner.value.module.individual(learner.batch_inputs(one))
    taken = q[:-1].gather(-1, one.action.unsqueeze(-1)).squeeze(-1)
    total = learner.value.module(taken, one.state[:-1]).detach()
    distances = []
    for b in range(4):
        length = int(one.filled[:, b].sum())
        G = 0.0
        for t in reversed(range(length)):  # the discounted rewards to the end of the episode
            G = float(one.reward[t, b]) + 0.5 * G
            distances.append((float(total[t, b]) - G) ** 2)
    numbers, _ = learner.update(one)
    assert numbers["return_distance"] == pytest.approx(np.mean(distances), rel=1e-4)


def test_the_regulariser_is_part_of_what_is_minimised() -> None:
    one = batch(7)
    norms = [
        RES(RESConfig(last_scale=1.0, regulariser=weight), SPEC, seed=0).update(one)[0]
        for weight in (0.0, 5.0)
    ]
    assert norms[0]["return_distance"] == norms[1]["return_distance"]
    assert norms[0]["gradient_norm"] != norms[1]["gradient_norm"]


def test_a_next_value_that_it_would_not_use_is_refused() -> None:
    with pytest.raises(ValueError, match="softmax of its own"):
        RES(RESConfig(next_value="soft_mellowmax"), SPEC)
    with pytest.raises(ValueError, match="beta must be at least 0"):
        RES(RESConfig(beta=-1.0), SPEC)
