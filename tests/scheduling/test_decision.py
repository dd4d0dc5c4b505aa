"""What decides fast, held to the networks themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.scheduling.features import Features, tensor
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.rsd4 import RSD4, Memories, RSD4Config
from thrifty.scheduling.scenarios import scenario


def learner_of(name: str, **changes: Any) -> RSD4:
    """Networks that were drawn, with proposals all over the box."""
    of = scenario(name)
    sight = Sight(kind="hidden" if of.hidden else "full")
    config = dataclasses.replace(RSD4Config(width=12), **changes)
    learner = RSD4(config, Features(of, sight, queue=of.hidden), seed=3, updates=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for network in learner.networks.values():
            for weight in network.target.parameters():
                weight += 0.4 * torch.randn(weight.shape, generator=generator)
    return learner


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("S1", {}),
        ("S1", {"recurrent": False}),
        ("S1", {"sparsity": 0.8}),
        ("S2", {"prediction": 1.0}),
        ("S2", {"actors": 1, "critics": 1}),
        ("S4", {"recurrent": False, "actors": 1}),
        ("S5", {}),
        ("S5", {"recurrent": False}),
    ],
)
def test_decisions_are_those_of_the_networks(name: str, changes: dict[str, Any]) -> None:
    learner, of = learner_of(name, **changes), scenario(name)
    sight = Sight(kind="hidden" if of.hidden else "full")
    prices = torch.linspace(0.2, 0.9, of.hops)
    policy = PolicyScheduler(learner, prices.numpy())
    queues = Queues(of, 5, sight=sight)
    queues.reset(1)
    policy.reset(5)
    users = 5 * of.flows
    flow, paid = torch.arange(of.flows).repeat(5), prices.expand(users, of.hops)
    tried = torch.zeros(users, learner.features.cells, 4)
    memories: Memories = {}
    spread = 0.0
    for _ in range(12):
        view = queues.view()
        waiting = torch.from_numpy(view.queue.reshape(users, -1)).float()
        channel = None if view.channel is None else tensor(view.channel.reshape(users, of.hops))
        phase = None if view.phase is None else tensor(view.phase.repeat(of.flows))
        expected, memories = learner.act(
            learner.features.observe(flow, paid, waiting, channel, phase), tried, waiting, channel,
            flow, paid, memories, averaged=True,
        )  # fmt: skip
        energy = policy.energies(view)
        assert np.allclose(energy.reshape(users, -1), expected.numpy(), rtol=0, atol=1e-5)
        spread = max(spread, float(expected.std()))
        slot = queues.step(energy)
        policy.observe(slot)
        got = torch.from_numpy(slot.success.reshape(users, -1)).float()
        tried = learner.features.tried(flow, got, waiting - got, expected)
    assert spread > 0.05  # energies differ, so agreeing on them says something


def test_a_policy_starts_anew() -> None:
    learner, of = learner_of("S2"), scenario("S2")
    policy = PolicyScheduler(learner, [0.3])
    queues = Queues(of, 3, sight=Sight(kind="hidden"))
    seen = []
    for _ in range(2):
        queues.reset(4)
        policy.reset(3)
        for _ in range(4):
            energy = policy.energies(queues.view())
            policy.observe(queues.step(energy))
        seen.append(energy)
    assert np.array_equal(seen[0], seen[1])
