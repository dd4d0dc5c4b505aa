from __future__ import annotations

import copy

import pytest
import torch
from batches import SPEC, batch

from thrifty.marl.joint_value import PartSparsityConfig
from thrifty.marl.qmix import QMIX, QMIXConfig

PART = PartSparsityConfig(sparsity=0.8, update_every=2, update_until=30, scope="agents")
LAYERS = ("fc1.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "fc2.weight")


def made(**fields: object) -> QMIX:
    config = QMIXConfig(parameters="masked", hidden=16, learning_rate=0.01, **fields)  # type: ignore[arg-type]
    return config.build(SPEC, seed=0)


def test_without_masks_it_is_the_shared_network() -> None:
    """Dense: the sum of the agents' gradients is the gradient of one network for all."""
    tied = made()
    shared = QMIXConfig(hidden=16, learning_rate=0.01).build(SPEC, seed=9)
    for own in (shared.value.module, shared.target):
        own.agents.nets[0].load_state_dict(tied.value.module.agents.nets[0].state_dict())
        own.mixer.load_state_dict(tied.value.module.mixer.state_dict())
    for seed in range(5):
        one, two = tied.update(batch(seed))[0], shared.update(batch(seed))[0]
        assert one["loss"] == pytest.approx(two["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-3)
    first, second = tied.value.module.agents.nets
    for name, value in first.named_parameters():
        assert torch.equal(value, second.get_parameter(name))


def test_agents_share_values_and_differ_in_links() -> None:
    learner = made(agents=PART, mixing=PartSparsityConfig(sparsity=0.8))
    topology = learner.value.parts["agents"].topology
    first_shares = {layer: topology.nnz[f"nets.0.{layer}"] for layer in LAYERS}
    taken_over = 0
    for seed in range(20):
        before = {name: topology.mask(name).clone() for name in topology.names}
        learner.update(batch(seed))
        for layer in LAYERS:
            names = [f"nets.{n}.{layer}" for n in range(2)]
            (one, two), (mine, yours) = (
                [topology.weight(name) for name in names],
                [topology.mask(name) for name in names],
            )
            both = mine & yours
            assert torch.equal(one[both], two[both])
            assert not one[~mine].any()
            assert not two[~yours].any()
            # A link that the other has already comes with its value.
            grown = mine & ~before[names[0]] & before[names[1]] & yours
            taken_over += int((one[grown] != 0).sum())
            nobody_had = mine & ~before[names[0]] & ~before[names[1]]
            assert not one[nobody_had].any()
        biases = [net.fc1.bias for net in learner.value.module.agents.nets]
        assert torch.equal(*biases)
    assert taken_over > 0
    assert any(first_shares[layer] != topology.nnz[f"nets.0.{layer}"] for layer in LAYERS)


@pytest.mark.parametrize("moments", ["zero", "keep"])
def test_what_nobody_has_is_forgotten(moments: str) -> None:
    part = PartSparsityConfig(
        sparsity=0.8,
        update_every=2,
        update_until=30,
        moments=moments,  # type: ignore[arg-type]
    )
    learner = made(agents=part, optimizer="rmsprop")
    topology = learner.value.parts["agents"].topology
    for seed in range(8):
        learner.update(batch(seed))
    kept = 0
    for value, layer in zip(
        [p for p in learner.value.parameters if p.ndim == 2][:4],
        ("fc1.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "fc2.weight"),
        strict=True,
    ):
        held = topology.mask(f"nets.0.{layer}") | topology.mask(f"nets.1.{layer}")
        assert not value.detach()[~held].any()
        kept += int(learner.value.optimizer.state[value]["square_avg"][~held].count_nonzero())
    assert (kept > 0) == (moments == "keep")


def test_state_goes_on_exactly() -> None:
    one, two = made(agents=PART), made(agents=PART)
    for seed in range(3):
        one.update(batch(seed))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for seed in range(3, 8):
        assert one.update(batch(seed))[0] == two.update(batch(seed))[0]
