from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thrifty.control.sparse_network import SparseNetwork, SparsityConfig


def build(seed: int = 0, **fields: Any) -> SparseNetwork[nn.Sequential]:
    torch.manual_seed(7)
    module = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    config = SparsityConfig(**{"sparsity": 0.8, "update_every": 3, "update_until": 100, **fields})
    return SparseNetwork(module, config, learning_rate=0.01, seed=seed)


def loss_of(network: SparseNetwork[nn.Sequential], step: int) -> Tensor:
    draw = torch.Generator().manual_seed(step)
    return (network.module(torch.randn(16, 20, generator=draw)) - 1.0).square().mean()


NAMES = ("0.weight", "2.weight")


def masks(network: SparseNetwork[nn.Sequential]) -> dict[str, Tensor]:
    return {name: network.topology.mask(name).clone() for name in NAMES}


def weights(network: SparseNetwork[nn.Sequential]) -> dict[str, Tensor]:
    return {name: network.module.get_parameter(name).detach().clone() for name in NAMES}


def moments(network: SparseNetwork[nn.Sequential], name: str) -> list[Tensor]:
    state = network.optimizer.state[network.module.get_parameter(name)]
    return [state["exp_avg"], state["exp_avg_sq"]]


def test_the_published_first_mask_keeps_the_largest_weights() -> None:
    dense = weights(build(sparsity=0.0))
    network = build(initial="largest")
    for name in NAMES:
        mask, weight = network.topology.mask(name), dense[name]
        assert torch.equal(weights(network)[name], weight * mask)
        assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_the_clean_first_mask_is_random_and_drawn_for_the_fan_in_that_is_left() -> None:
    network = build()
    for name, fan_in in zip(NAMES, (20, 30), strict=True):
        mask, weight = network.topology.mask(name), weights(network)[name]
        density = network.topology.nnz[name] / mask.numel()
        bound = 1.0 / math.sqrt(fan_in * density)
        assert 0.8 * bound < weight.abs().max() <= bound
        assert bool(weight[mask].all())
        assert not weight[~mask].any()
        assert not torch.equal(mask, build(initial="largest").topology.mask(name))
        assert not torch.equal(mask, build(seed=1).topology.mask(name))
        assert torch.equal(mask, build().topology.mask(name))
    kept = build(initial="subset")
    assert torch.equal(
        weights(kept)["0.weight"],
        weights(build(sparsity=0.0))["0.weight"] * masks(kept)["0.weight"],
    )


@pytest.mark.parametrize("kept", [False, True])
def test_moments_of_exchanged_links(kept: bool) -> None:
    network = build(moments="keep" if kept else "zero", drop_fraction=1.0)
    for step in (1, 2):
        assert network.descend(loss_of(network, step)) is None
    before, old = masks(network), {n: [m.clone() for m in moments(network, n)] for n in NAMES}
    assert network.descend(loss_of(network, 3)) is not None
    now = masks(network)
    for name in NAMES:
        dropped, grown = before[name] & ~now[name], now[name] & ~before[name]
        assert dropped.sum() > 5
        assert grown.sum() > 5
        for moment, was in zip(moments(network, name), old[name], strict=True):
            assert not moment[grown].any()  # no gradient has reached them either way
            if not kept:
                assert not moment[dropped].any()
            else:  # decayed by beta, but there (a unit that is never active has none to keep)
                assert torch.equal(moment[dropped] != 0, was[dropped] != 0)
                assert (moment[dropped] != 0).sum() > 5
        assert not network.module.get_parameter(name)[dropped].any()


@pytest.mark.parametrize("skips", [False, True])
def test_the_optimizer_step_of_an_evolution_step(skips: bool) -> None:
    network = build(on_update="skip" if skips else "step")
    for step in (1, 2):
        network.descend(loss_of(network, step))
    before, values = masks(network), weights(network)
    bias = network.module[0].bias.detach().clone()
    network.descend(loss_of(network, 3))
    now = masks(network)
    for name in NAMES:
        # Grown links have just entered at 0, so what is not 0 was kept.
        kept = before[name] & now[name] & (weights(network)[name] != 0)
        moved = values[name][kept] != weights(network)[name][kept]
        assert kept.sum() > 10
        assert not moved.any() if skips else moved.sum() > 10
    assert torch.equal(network.module[0].bias, bias) == skips
    steps = int(network.optimizer.state[network.module[0].bias]["step"])
    assert (steps, network.evolution.steps) == (2 if skips else 3, 3)


@pytest.mark.parametrize("kept", [False, True])
def test_links_dropped_and_regrown_at_once(kept: bool) -> None:
    network = build(
        sparsity=0.3, regrown="keep" if kept else "zero", drop_fraction=1.0, on_update="skip"
    )
    for step in (1, 2):
        network.descend(loss_of(network, step))
    before, values = masks(network), weights(network)
    update = network.descend(loss_of(network, 3))
    assert update is not None
    fraction = 0.5 * (1 + math.cos(math.pi * 3 / 100))
    for name in NAMES:
        now, weight = masks(network)[name], weights(network)[name]
        change = update.layers[name]
        n = int(before[name].sum())
        assert change.dropped == math.floor(n * fraction)
        assert change.nnz == n == int(now.sum())
        # The links of least magnitude were dropped; those among them that are back:
        smallest = torch.where(before[name], values[name].abs(), torch.inf).flatten().argsort()
        dropped = torch.zeros(now.numel(), dtype=torch.bool)
        dropped[smallest[: change.dropped]] = True
        regrown = dropped.view_as(now) & now
        assert int(regrown.sum()) == change.regrown > 5
        if kept:
            assert torch.equal(weight[regrown], values[name][regrown])
        else:
            assert not weight[regrown].any()
        assert not weight[now & ~before[name]].any()


def test_growth_at_random_and_by_gradient_differ_and_repeat() -> None:
    def after(**fields: Any) -> Tensor:
        network = build(**fields)
        for step in (1, 2, 3):
            network.descend(loss_of(network, step))
        return network.topology.mask("0.weight")

    by_gradient, at_random = after(), after(grow="random")
    assert torch.equal(by_gradient, after())
    assert torch.equal(at_random, after(grow="random"))
    assert not torch.equal(by_gradient, at_random)


def test_interval_and_end_are_counted_in_the_networks_own_steps() -> None:
    network = build(update_until=9)
    moved = [network.descend(loss_of(network, step)) is not None for step in range(1, 13)]
    assert [step for step, is_due in enumerate(moved, start=1) if is_due] == [3, 6]


def test_a_fixed_topology_never_moves() -> None:
    network = build(update_until=0)
    before = masks(network)
    for step in range(1, 8):
        assert network.descend(loss_of(network, step)) is None
    assert all(torch.equal(before[n], mask) for n, mask in masks(network).items())


def test_a_loss_reaches_only_this_network() -> None:
    network, other = build(), nn.Linear(10, 1)
    network.descend(other(network.module(torch.randn(4, 20))).mean())
    assert other.weight.grad is None


def test_the_state_goes_on_exactly() -> None:
    one, two = build(grow="random"), build(seed=9, grow="random")
    two.evolution.seed = one.evolution.seed
    for step in range(1, 5):
        one.descend(loss_of(one, step))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for step in range(5, 10):
        one.descend(loss_of(one, step))
        two.descend(loss_of(two, step))
    for name in NAMES:
        assert torch.equal(weights(one)[name], weights(two)[name])
        assert torch.equal(masks(one)[name], masks(two)[name])
    assert one.topology.survival == two.topology.survival < 1


def test_costs_by_hand() -> None:
    first, second = build().costs("net")
    # 900 weights, 180 links: er shares them as (20 + 30) : (30 + 10) = 100 : 80
    assert (first.dense_parameters, first.sparse_parameters) == (600, 100)
    assert (second.dense_parameters, second.sparse_parameters) == (300, 80)
    assert [row.sparse_parameters for row in build(sparsity=0.0).costs("net")] == [600, 300]


@pytest.mark.parametrize(
    "fields",
    [
        {"sparsity": 1.0},
        {"sparsity": -0.1},
        {"drop_fraction": 1.5},
        {"update_every": 0},
        {"moments": "sometimes"},
        {"regrown": "sometimes"},
        {"on_update": "sometimes"},
        {"allocate": "nothing"},
        {"grow": "nothing"},
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must|no (allocation|score) 'nothing'"):
        build(**fields)
