"""The learner: operators, credit, pairing, memories, against hand computations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from thrifty.scheduling.arrivals import Arrivals
from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.features import Features
from thrifty.scheduling.packet_credit import PacketCredit, Terms
from thrifty.scheduling.policy import PolicyScheduler
from thrifty.scheduling.queueing import Queues, Sight
from thrifty.scheduling.rsd4 import RSD4, RSD4Config
from thrifty.scheduling.scenarios import Scenario, scenario
from thrifty.scheduling.sequences import Episodes, Sequences
from thrifty.scheduling.softmax import mispaired, sampled, softmax_value, straight_through

SMALL = RSD4Config(width=8, sequences=4, samples=3, critic_first=0)


def line() -> Scenario:
    """Two flows over two hops, two channel states."""
    return Scenario(
        name="line",
        weights=[3.0, 1.0],
        attempts=[3, 4],
        distances=[[1.0, 1.2], [1.1, 0.9]],
        arrivals=Arrivals([1.0, 2.0]),
        channel=MarkovChannel([1.0, 3.0], [[0.8, 0.2], [0.3, 0.7]]),
        budget=1.0,
    )


def batch_of(of: Scenario, sight: Sight, users: int = 5, slots: int = 12) -> Sequences:
    queues = Queues(of, 3, sight=sight)
    queues.reset(1)
    cells = of.hops * of.most_attempts
    episodes = Episodes(3, 3, slots, of.flows, of.hops, cells)
    generator = np.random.default_rng(0)
    episodes.see(0, queues.view())
    for slot in range(slots):
        energy = generator.random(queues.queue.shape, dtype=np.float32).astype(np.float64)
        episodes.did(slot, energy, queues.step(energy).success)
        episodes.see(slot + 1, queues.view())
    episodes.close()
    return episodes.draw(users, torch.Generator().manual_seed(0))


def learner_of(of: Scenario, sight: Sight, **changes: Any) -> RSD4:
    config = dataclasses.replace(SMALL, **changes)
    queue = config.critic == "users" or sight.kind != "full"
    return RSD4(config, Features(of, sight, queue=queue), seed=0, updates=10)


def test_the_softmax_lies_between_mean_and_maximum() -> None:
    q = torch.tensor([0.0, 1.0, 2.0])
    assert softmax_value(q, 0.0) == 1.0
    # (0 + e + 2 e^2) / (1 + e + e^2) by hand.
    by_hand = (np.e + 2 * np.e**2) / (1 + np.e + np.e**2)
    assert float(softmax_value(q, 1.0)) == pytest.approx(by_hand, rel=1e-6)
    assert float(softmax_value(q, 1e4)) == pytest.approx(2.0)


def test_sampled_energies_stay_in_the_box() -> None:
    noise = torch.tensor([[-0.5, 0.1], [0.2, 0.9]])
    expected = torch.tensor([[0.0, 0.6], [0.4, 1.0]])
    assert torch.allclose(sampled(torch.tensor([0.2, 0.5]), noise), expected)
    assert sampled(torch.tensor([0.2]), None).shape == (1, 1)


def test_clipping_passes_the_gradient_on() -> None:
    raw = torch.tensor([-0.3, 0.4, 1.7], requires_grad=True)
    energy = straight_through(raw)
    assert energy.tolist() == pytest.approx([0.0, 0.4, 1.0])
    energy.sum().backward()
    assert raw.grad is not None
    assert raw.grad.tolist() == [1.0, 1.0, 1.0]


def test_the_published_pairing_by_hand() -> None:
    # Two sequences, three samples: rows 0 1 2 are sequence 0's samples, 3 4 5 sequence 1's; the
    # contexts are tiled 0 1 0 1 0 1. Sample s of sequence b meets context (3 b + s) mod 2.
    crossed = mispaired(torch.tensor([10.0, 20.0]), 3)
    assert crossed.tolist() == [[10.0, 20.0], [20.0, 10.0], [10.0, 20.0]]
    # B = S: sample s of sequence b meets the context of sequence s, as in the released defaults.
    square = mispaired(torch.arange(4.0), 4)
    assert square.tolist() == torch.arange(4.0)[:, None].expand(4, 4).tolist()


@pytest.mark.parametrize(("pairing", "own"), [("right", True), ("published", False)])
def test_a_right_target_depends_on_its_own_sequence_only(pairing: Any, own: bool) -> None:
    of, sight = scenario("S1"), Sight()
    learner = learner_of(of, sight, critic="users", pairing=pairing)
    batch = batch_of(of, sight)
    prices = torch.full((5, 1), 0.3)

    def targets(batch: Sequences) -> torch.Tensor:
        features = learner.features
        seen = features.observe(batch.flow, prices, batch.queue, batch.channel, batch.phase)
        w, cost = features.worths(batch.flow, prices)
        noise = 0.1 * torch.randn(3, *batch.energy.shape, generator=torch.Generator())
        found: torch.Tensor = learner._targets(
            batch, seen, learner._tried(batch), None, Terms(w, features.costs(cost), None), noise
        )[0]
        return found

    channel = batch.channel
    assert channel is not None
    other = batch._replace(channel=torch.cat([channel[:, :1], 3 - channel[:, 1:]], dim=1))
    with torch.no_grad():
        first, second = targets(batch)[:, 0], targets(other)[:, 0]
    assert torch.equal(first, second) == own


def test_packets_get_what_follows_success_and_failure() -> None:
    """Targets of two hops by hand: a critic whose outputs are known in every cell."""
    of, sight = line(), Sight()
    learner = learner_of(of, sight, recurrent=False, operator="plain")
    credit = learner._credit
    assert isinstance(credit, PacketCredit)
    batch = batch_of(of, sight, users=1)
    flow = int(batch.flow[0])
    cells = 2 * of.most_attempts
    w, cost = torch.tensor([0.6]), torch.full((1, cells), 0.25)
    links = learner.features.links(batch.flow, torch.ones(1, 2), batch.channel)
    v_of_cell = torch.linspace(0.0, 0.7, cells)

    class Known(torch.nn.Module):
        def forward(self, context: Any, row: Any, cell: Any, energy: Any) -> torch.Tensor:
            place = cell[:, :2].argmax(1) * of.most_attempts + cell[
                :, 2 : 2 + of.most_attempts
            ].argmax(1)
            zero = torch.zeros_like(energy)  # logit 0: half of the attempts get through
            return torch.stack([zero, zero + 0.4, v_of_cell[place].expand_as(energy)], dim=-1)

    class Half(torch.nn.Module):
        def forward(self, context: Any, row: Any, cell: Any) -> torch.Tensor:
            return torch.full((len(row),), 0.5)

    found = credit.rows(batch, torch.Generator())
    context = torch.zeros(len(batch.queue), 1, 1)
    [(u, v)] = credit.targets(
        batch, found, Terms(w, cost, links), [(Half(), context)], [(Known(), context)], None, 0.0  # type: ignore[list-item]
    )  # fmt: skip
    most = of.most_attempts

    def worth(hop: int, left: int) -> float:
        """Half of what success brings, half of what failure brings, less 0.25 for energy 0.5."""
        alive = left > 0
        success = 0.6 if hop == 1 else 0.4 * alive
        return float(0.5 * success + 0.5 * v_of_cell[hop * most + left] * alive - 0.125)

    seen = set()
    for (slot, _, cell), forward, stay in zip(found.tolist(), u, v, strict=True):
        hop, left = divmod(cell, most)
        got = float(batch.success[slot, 0, cell])
        count = float(batch.queue[slot, 0, cell])
        moved = got > 0 and hop == 0 and left > 0
        failed = count > got and left > 0
        assert float(forward) == pytest.approx(worth(1, left - 1) if moved else 0.0)
        assert float(stay) == pytest.approx(worth(hop, left - 1) if failed else 0.0)
        seen |= {(hop, moved, failed)}
    assert {(0, True, False), (0, False, True), (1, False, True)} <= seen
    assert flow in (0, 1)


def test_the_last_slot_of_an_episode_is_no_end() -> None:
    of, sight = scenario("S1"), Sight()
    learner = learner_of(of, sight, critic="users", operator="plain", discount=1.0)
    for name in ("critic_1", "critic_2"):
        target = learner.networks[name].target
        torch.nn.init.zeros_(target.out.weight)
        torch.nn.init.constant_(target.out.bias, 7.0)
    for name in ("actor_1", "actor_2"):
        target = learner.networks[name].target
        torch.nn.init.zeros_(target.out.weight)
        torch.nn.init.constant_(target.out.bias, -9.0)  # no energy: nothing is paid
    batch = batch_of(of, sight)
    prices = torch.full((5, 1), 0.3)
    features = learner.features
    seen = features.observe(batch.flow, prices, batch.queue, batch.channel, batch.phase)
    w, cost = features.worths(batch.flow, prices)
    with torch.no_grad():
        found = learner._targets(
            batch, seen, learner._tried(batch), None, Terms(w, features.costs(cost), None), None
        )[0]
    earned = w * batch.success.sum(dim=-1) / features.rates[batch.flow]
    assert torch.allclose(found, earned + 7.0)  # in every slot, the last one too


@pytest.mark.parametrize("critic", ["packets", "users"])
@pytest.mark.parametrize("name", ["S1", "S2", "S5"])
def test_memories_run_once_however_many_energies_are_sampled(name: str, critic: Any) -> None:
    of = scenario(name)
    sight = Sight(kind="hidden" if of.hidden else "full")
    batch = batch_of(of, sight)
    prices = torch.full((5, of.hops), 0.3)

    def passes(samples: int) -> int:
        learner = learner_of(of, sight, critic=critic, samples=samples, policy_delay=1)
        count = 0

        def noted(*_: Any) -> None:
            nonlocal count
            count += 1

        for network in learner.networks.values():
            for module in (network.module, network.target):
                module.context.memory.register_forward_hook(noted)
        learner.update(batch, prices)
        return count

    assert passes(2) == passes(16) == 8  # four targets, two critics, two actors


def test_every_network_has_a_memory_of_its_own() -> None:
    of, sight = scenario("S2"), Sight(kind="hidden")
    learner = learner_of(of, sight)
    policy = PolicyScheduler(learner, [0.5], explore=np.random.default_rng(0))
    queues = Queues(of, 2, sight=sight)
    queues.reset(0)
    policy.reset(2)
    for _ in range(3):
        policy.observe(queues.step(policy.energies(queues.view())))
    states = [policy._memories[name] for name in learner.networks]
    assert all(state is not None for state in states)
    hidden = [state[0] for state in states if state is not None]
    assert not any(torch.equal(hidden[i], hidden[j]) for i in range(4) for j in range(4) if i != j)


@pytest.mark.parametrize("critic", ["packets", "users"])
def test_users_are_described_and_not_numbered(critic: Any) -> None:
    """Two users with the same numbers, channels and queues are treated alike."""
    of = scenario("S1")
    twin = Scenario(
        name="twin", weights=[4, 2, 4], attempts=[5, 5, 5], distances=[1.1, 1.5, 1.1],
        arrivals=Arrivals([2.0, 2.0, 2.0]), channel=of.channel, budget=5.0,
    )  # fmt: skip
    learner = learner_of(twin, Sight(), critic=critic)
    features = learner.features
    flow, prices = torch.arange(3), torch.full((3, 1), 0.4)
    queue = torch.tensor([[1.0, 0, 2, 3, 0]] * 3)
    channel = torch.ones(3, 1, dtype=torch.int64)
    seen = features.observe(flow, prices, queue, channel, None)
    energy, _ = learner.act(
        seen, torch.zeros(3, 5, 4), queue, channel, flow, prices, {}, averaged=False
    )
    assert torch.equal(energy[0], energy[2])
    assert not torch.equal(energy[0], energy[1])
    assert torch.all(energy[queue == 0] == 0)


def test_worths_are_scaled_and_their_ratio_is_kept() -> None:
    features = Features(scenario("S1"), Sight(), queue=False)
    w, cost = features.worths(torch.arange(4), torch.full((4, 1), 0.5))
    weights = torch.tensor([4.0, 2.0, 1.0, 4.0])
    assert torch.allclose(w, weights / (weights + 0.5))
    assert torch.allclose(cost[:, 0] / w, 0.5 / weights)


def test_what_was_executed_is_kept() -> None:
    of = scenario("S1")
    learner = learner_of(of, Sight())
    queues = Queues(of, 2)
    policy = PolicyScheduler(learner, [0.3], explore=np.random.default_rng(0))
    policy.reset(2)
    queues.reset(0)
    for _ in range(4):
        waiting = queues.queue.copy()
        energy = policy.energies(queues.view())
        slot = queues.step(energy)
        policy.observe(slot)
        sent = policy._tried[..., 2].reshape(2, 4, -1)
        assert np.allclose(sent.numpy(), (energy * (waiting > 0))[:, :, 0])
        assert slot.spent == pytest.approx((energy * waiting).sum(-1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 0}, "samples must be at least 1"),
        ({"tau": 1.5}, "tau must lie in"),
        ({"actors": 3}, "1 or 2"),
        ({"actors": 2, "critics": 1}, "critic of its own"),
        ({"pairing": "published"}, "credit per user"),
        ({"sparsity": 1.0}, "sparsity"),
    ],
)
def test_numbers_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learner_of(scenario("S1"), Sight(), **changes)


def test_sparse_networks_keep_their_links_and_say_what_they_cost() -> None:
    of, sight = scenario("S1"), Sight()
    learner = learner_of(of, sight, sparsity=0.8, width=32, evolve_every=2)
    batch = batch_of(of, sight)
    for _ in range(6):
        learner.update(batch, torch.full((5, 1), 0.3))
    for network in learner.networks.values():
        assert network.topology.sparsity == pytest.approx(0.8, abs=0.01)
        for module in (network.module, network.target):
            weight = module.context.memory.weight_ih_l0
            mask = network.module.context.memory.weight_ih_l0_mask
            assert torch.all(weight[~mask] == 0)
    ratio = learner.ledger()["forward_flops"]["actor_1"]["ratio"]
    assert 0.15 < ratio < 0.25


def test_a_cell_is_told_of_its_own_link() -> None:
    of = line()
    features = Features(of, Sight(), queue=False)
    flow, prices = torch.tensor([1, 0]), torch.tensor([[1.0, 2.0], [3.0, 3.0]])
    channel = torch.tensor([[0, 1], [1, 1]])
    links = features.links(flow, prices, channel)
    assert links is not None
    # Of flow 1 (weight 1): log d^3, a third of log(price / weight), and which of two states.
    first = [[3 * np.log(1.1), 0.0, 1, 0], [3 * np.log(0.9), np.log(2) / 3, 0, 1]]
    second = [[0.0, 0.0, 0, 1], [3 * np.log(1.2), 0.0, 0, 1]]  # weight 3, prices 3
    assert torch.allclose(links, torch.tensor([first, second], dtype=torch.float32), atol=1e-6)
    hidden = Features(of, Sight(kind="hidden"), queue=True).links(flow, prices, None)
    assert hidden is not None
    assert torch.equal(hidden, links[..., :2])
    one_hop = Features(scenario("S1"), Sight(), queue=False)
    assert one_hop.links(torch.arange(4), torch.ones(4, 1), torch.zeros(4, 1)) is None


def test_the_head_meets_the_link_of_its_row() -> None:
    """Changing one hop's channel changes what a packet is worth at that hop, cell by cell."""
    of = line()
    learner = learner_of(of, Sight(), recurrent=False)
    credit = learner._credit
    assert isinstance(credit, PacketCredit)
    flow, prices = torch.arange(2), torch.full((2, 2), 0.5)
    user, cell = torch.tensor([0, 1, 1]), torch.tensor([0, 2, 5])  # hops 0, 0 and 1
    first = credit._at(user, cell, learner._terms(flow, prices, torch.tensor([[0, 0], [0, 0]])))
    other = credit._at(user, cell, learner._terms(flow, prices, torch.tensor([[0, 0], [0, 1]])))
    changed = (first.described != other.described).any(dim=1)
    assert changed.tolist() == [False, False, True]
