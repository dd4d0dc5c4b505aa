from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.agents import Agents
from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.qmix import QMIX, QMIXConfig

SPARSE = PartSparsityConfig(sparsity=0.8, update_every=2, update_until=20)


@pytest.mark.parametrize("parameters", ["shared", "own"])
def test_steps_one_by_one_are_the_whole_sequence(parameters: Literal["shared", "own"]) -> None:
    torch.manual_seed(0)
    T, B, N, inputs, H = 5, 3, 2, 6, 4
    agents = Agents(N, inputs, H, 3, parameters)
    x = torch.randn(T, B, N, inputs)
    whole = agents(x)
    hidden, steps = torch.zeros(B, N, H), []
    for t in range(T):
        value, hidden = agents.step(x[t], hidden)
        steps.append(value)
    torch.testing.assert_close(torch.stack(steps), whole, rtol=1e-5, atol=1e-6)


def test_own_networks_differ_and_a_shared_one_does_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 1, 6).expand(1, 1, 3, 6)
    shared, own = Agents(3, 6, 4, 2)(x), Agents(3, 6, 4, 2, "own")(x)
    assert torch.equal(shared[0, 0, 0], shared[0, 0, 1])
    assert not torch.equal(own[0, 0, 0], own[0, 0, 1])


def test_the_gru_by_its_equations() -> None:
    """PyTorch's order of gates is reset, update, new: the masks of a GRU are read by it."""
    torch.manual_seed(1)
    agents = Agents(1, 3, 2, 2)
    net = agents.nets[0]
    x, h = torch.randn(1, 1, 3), torch.randn(1, 1, 2)
    _, after = agents.step(x, h)
    into = torch.relu(net.fc1(x[0, 0]))
    gi = net.gru.weight_ih_l0 @ into + net.gru.bias_ih_l0
    gh = net.gru.weight_hh_l0 @ h[0, 0] + net.gru.bias_hh_l0
    reset, update = torch.sigmoid(gi[:2] + gh[:2]), torch.sigmoid(gi[2:4] + gh[2:4])
    new = torch.tanh(gi[4:] + reset * gh[4:])
    expected = (1 - update) * new + update * h[0, 0]
    torch.testing.assert_close(after[0, 0], expected)


def test_cut_links_of_the_gru_stay_zero_and_move() -> None:
    learner = QMIXConfig(agents=SPARSE, mixing=SPARSE, learning_rate=0.01).build(SPEC, seed=0)
    part = learner.value.parts["agents"]
    names = {name for name in part.topology.names if "gru" in name}
    assert names == {"nets.0.gru.weight_ih_l0", "nets.0.gru.weight_hh_l0"}
    before = {name: part.topology.mask(name).clone() for name in names}
    nnz = part.topology.nnz
    for seed in range(6):
        learner.update(batch(seed))
        for name in part.topology.names:
            weight, mask = part.topology.weight(name), part.topology.mask(name)
            assert not weight[~mask].any()
            assert weight[mask].any()
    assert part.topology.nnz == nnz
    assert all(bool((before[name] != part.topology.mask(name)).any()) for name in names)


def test_links_move_between_the_agents() -> None:
    """Own networks ranked together: the sum over agents stays, the shares change."""
    config = QMIXConfig(
        parameters="own",
        agents=PartSparsityConfig(sparsity=0.8, scope="agents", update_every=1, update_until=50),
        learning_rate=0.01,
    )
    learner = config.build(SPEC, seed=0)
    part = learner.value.parts["agents"]
    assert ("nets.0.fc1.weight", "nets.1.fc1.weight") in part.topology.groups
    first = part.topology.nnz
    for seed in range(20):
        learner.update(batch(seed))
    last = part.topology.nnz
    for layer in ("fc1.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "fc2.weight"):
        names = [f"nets.{n}.{layer}" for n in range(2)]
        assert sum(first[name] for name in names) == sum(last[name] for name in names)
    assert first != last


def test_acting_takes_available_actions_alone() -> None:
    learner = QMIXConfig().build(SPEC, seed=0)
    rng = np.random.default_rng(0)
    available = np.zeros((400, 2, 3), bool)
    available[:, 0, [0, 2]] = True
    available[:, 1, 1] = True
    seen = np.zeros((400, 2, 4), np.float32)
    memory = learner.memory(400)
    greedy, _ = learner.act(seen, available, memory)
    assert set(greedy[:, 0]) <= {0, 2}
    assert set(greedy[:, 1]) == {1}
    drawn, after = learner.act(seen, available, memory, epsilon=1.0, rng=rng)
    assert set(drawn[:, 1]) == {1}
    # 400 fair draws between two actions: standard deviation 10.
    assert abs(int((drawn[:, 0] == 2).sum()) - 200) < 50
    assert np.array_equal(after.last_action, drawn)


def test_memory_decides_and_forgetting_begins_anew() -> None:
    learner = QMIXConfig().build(SPEC, seed=0)
    seen, available = np.ones((2, 2, 4), np.float32), np.ones((2, 2, 3), bool)
    start = learner.memory(2)
    _, memory = learner.act(seen, available, start)
    _, once = learner.act(seen, available, memory)
    learner.forget(memory, np.array([True, False]))
    _, again = learner.act(seen, available, memory)
    _, fresh = learner.act(seen, available, learner.memory(2))
    assert torch.equal(again.hidden[0], fresh.hidden[0])
    assert torch.equal(again.hidden[1], once.hidden[1])
    assert not torch.equal(once.hidden[0], fresh.hidden[0])


def test_acting_sees_what_training_sees() -> None:
    """The inputs of a stored episode give the values that acting had."""
    learner = QMIXConfig().build(SPEC, seed=0)
    one = batch()
    with torch.no_grad():
        q = learner.value.module.individual(learner.batch_inputs(one))
    memory = learner.memory(4)
    for t in range(len(one.action)):
        available = one.available[t].numpy()
        greedy, memory = learner.act(one.observation[t].numpy(), available, memory)
        expected = q[t].masked_fill(~one.available[t], -torch.inf).argmax(-1).numpy()
        assert np.array_equal(greedy, expected)
        memory = memory._replace(last_action=one.action[t].numpy())


def test_building_leaves_global_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one = QMIXConfig(agents=SPARSE).build(SPEC, seed=3)
    one.update(batch())
    assert torch.equal(torch.rand(3), expected)
    two, other = (QMIX(QMIXConfig(agents=SPARSE), SPEC, seed=seed) for seed in (3, 4))
    two.update(batch())
    for mine, same, different in zip(
        one.value.parameters, two.value.parameters, other.value.parameters, strict=True
    ):
        assert torch.equal(mine, same)
        assert not torch.equal(mine, different)
