from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_layers import GRAD, WEIGHT, Due, batch, dense_state, give_grad, layer, links, mlp
from torch import nn

from thrifty.sparse import (
    Cosine,
    LayerChange,
    Static,
    Topology,
    TopologyEvolution,
    gradient,
    magnitude,
    mest,
    random,
    sparsify,
    split,
    subset,
    top,
    uniform,
)

# drop fraction: links kept, links afterwards, (dropped, grown, regrown). By hand from WEIGHT
# and GRAD: n = 4, k = floor(4 zeta) of the smallest |w| go (3, then 2, 1, 0), and the k largest |g|
# among everything that is not kept come (2: .9, 7: .7, 5: .6, 4: .5, 3: .3, 1: .2, 0: .1, 6: .05).
TABLE = {
    0.0: ([0, 1, 2, 3], [0, 1, 2, 3], (0, 0, 0)),
    0.2: ([0, 1, 2, 3], [0, 1, 2, 3], (0, 0, 0)),  # floor(.8) = 0
    0.25: ([0, 1, 2], [0, 1, 2, 7], (1, 1, 0)),
    0.4: ([0, 1, 2], [0, 1, 2, 7], (1, 1, 0)),  # floor(1.6) = 1
    0.5: ([0, 1], [0, 1, 2, 7], (2, 2, 1)),
    0.75: ([0], [0, 2, 5, 7], (3, 3, 1)),
    1.0: ([], [2, 4, 5, 7], (4, 4, 1)),
}


@pytest.mark.parametrize("fraction", TABLE)
@pytest.mark.parametrize("regrown", ["zero", "keep"])
@pytest.mark.parametrize("on_update", ["step", "skip"])
def test_an_evolution_step_by_hand(fraction: float, regrown: str, on_update: str) -> None:
    kept, after, counts = TABLE[fraction]
    model, topology = layer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    evolution = TopologyEvolution(topology, Due(fraction), regrown=regrown, on_update=on_update)
    give_grad(model.weight, GRAD)
    update = evolution.step(optimizer)

    assert update is not None
    assert (update.step, update.drop_fraction, update.sparsity) == (1, fraction, 0.5)
    assert update.layers == {"weight": LayerChange(4, *counts)}
    assert update.survival == len({0, 1, 2, 3} & set(after)) / 4
    assert links(topology.mask("weight")) == after
    # Kept links take the step (unless it is skipped), grown links are 0, and a regrown link is 0
    # or what it was; never does anything else move.
    rate = 0.5 if on_update == "step" else 0.0
    expected = [0.0] * 8
    for i in range(8):
        if i in kept:
            expected[i] = WEIGHT[i] - rate * GRAD[i]
        elif i in after and i < 4 and regrown == "keep":
            expected[i] = WEIGHT[i]
    torch.testing.assert_close(model.weight.flatten(), torch.tensor(expected), rtol=0, atol=1e-7)
    # In this step only kept links receive gradient.
    assert links(model.weight.grad != 0) == kept


def test_ties_keep_and_grow_the_lower_flat_index() -> None:
    model, topology = layer([1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    evolution = TopologyEvolution(topology, Due(0.5))
    give_grad(model.weight, [0.0] * 4 + [0.5, 0.5, 0.5, 0.5])
    evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert links(topology.mask("weight")) == [0, 1, 4, 5]


@pytest.mark.parametrize(
    ("drop", "after"),
    [
        # |w| + 10 |g| of the links: 5, 5, 11, 4 -> kept 2 and 0 (the tie with 1 to the left);
        # the largest gradients elsewhere are 7 and 5.
        (mest(10.0), [0, 2, 5, 7]),
        (magnitude, [0, 1, 2, 7]),
    ],
)
def test_the_drop_score_is_a_named_choice(drop, after) -> None:
    model, topology = layer()
    evolution = TopologyEvolution(topology, Due(0.5), drop=drop)
    give_grad(model.weight, GRAD)
    evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert links(topology.mask("weight")) == after


@pytest.mark.parametrize(
    ("grow", "after"),
    [
        (top(gradient), [0, 1, 2, 7]),
        (top(magnitude), [0, 1, 2, 3]),  # the dropped ones are the only others with weight
        (split((magnitude, 1), (gradient, 1)), [0, 1, 2, 7]),
        (split((gradient, 1), (magnitude, 1)), [0, 1, 2, 3]),
    ],
)
def test_the_growth_rule_is_a_named_choice(grow, after) -> None:
    model, topology = layer()
    evolution = TopologyEvolution(topology, Due(0.5), grow=grow)
    give_grad(model.weight, GRAD)
    evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert links(topology.mask("weight")) == after


def test_random_growth_depends_on_seed_and_step_only() -> None:
    def masks_after(seed: int, steps_before: int = 0, disturb: bool = False) -> list[int]:
        torch.manual_seed(0)
        model = nn.Linear(20, 20, bias=False)
        topology = sparsify(model, sparsity=0.5)
        evolution = TopologyEvolution(topology, Due(0.5), grow=top(random), seed=seed)
        evolution.load_state_dict({"steps": steps_before})
        if disturb:
            torch.rand(10)
        model.weight.grad = torch.zeros_like(model.weight)
        evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
        return links(topology.mask("weight"))

    assert masks_after(3) == masks_after(3, disturb=True)
    assert masks_after(3) != masks_after(4)
    assert masks_after(3) != masks_after(3, steps_before=1)


def test_an_unmoved_sparsity_leaves_the_layers_budgets_as_they_were() -> None:
    # A sparse model from elsewhere, one half in every layer; our ERK would divide otherwise.
    model = mlp()
    half = sparsify(model, sparsity=0.5, allocate=uniform).nnz
    topology = Topology.from_zeros(model)
    assert topology.budget(0.5) != half
    evolution = TopologyEvolution(topology, Due(0.5))
    model(batch(0)).square().mean().backward()
    update = evolution.step(torch.optim.SGD(model.parameters()))
    assert update is not None
    assert update.layers["0.weight"].dropped > 0
    assert topology.nnz == half


def test_a_budget_that_falls_drops_without_growing_by_hand() -> None:
    # From 4 links to 2 (sparsity .75 of 8): keep min(4 - floor(4 zeta), 2). At zeta = 1/4 that is
    # 2 and nothing grows; at zeta = 1 nothing is kept and the two best gradients (2, 7) come.
    for fraction, after in ((0.25, [0, 1]), (1.0, [2, 7])):
        model, topology = layer()
        evolution = TopologyEvolution(topology, Due(fraction, sparsity_at=lambda step: 0.75))
        give_grad(model.weight, GRAD)
        evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
        assert links(topology.mask("weight")) == after
    # From 4 links to 6: all but floor(4 / 4) = 1 are kept, 3 come: 7, 5, 4 (3 has only .3).
    model, topology = layer()
    evolution = TopologyEvolution(topology, Due(0.25, sparsity_at=lambda step: 0.25))
    give_grad(model.weight, GRAD)
    update = evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert links(topology.mask("weight")) == [0, 1, 2, 4, 5, 7]
    assert update is not None
    assert update.layers["weight"] == LayerChange(6, 1, 3, 0)


@pytest.mark.parametrize("scope", ["layer", "group"])
def test_the_scope_ranks_layers_apart_or_together_by_hand(scope) -> None:
    # Two layers of 4 links with 2 each: |w| 4, 3 and 2, 1; |g| where nothing is .1, .2 and .9, .8.
    model = nn.Sequential(nn.Linear(4, 1, bias=False), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[4.0, 3.0, 0.0, 0.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, 1.0, 0.0, 0.0]]))
    topology = Topology.from_zeros(model, scope=scope)
    evolution = TopologyEvolution(topology, Due(0.5))
    give_grad(model[0].weight, [0.0, 0.0, 0.1, 0.2])
    give_grad(model[1].weight, [0.0, 0.0, 0.9, 0.8])
    update = evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert update is not None
    if scope == "layer":  # each drops its smaller one and grows its best
        assert links(model[0].weight_mask) == [0, 3]
        assert links(model[1].weight_mask) == [0, 2]
    else:  # the second layer's links are the smallest and its gradients the largest
        assert links(model[0].weight_mask) == [0, 1]
        assert links(model[1].weight_mask) == [2, 3]
        assert update.layers["1.weight"] == LayerChange(2, 2, 2, 0)
    assert topology.sparsity == 0.5


def test_group_state_is_the_layers_one_after_the_other() -> None:
    seen = []

    def spy(state):
        seen.append(state)
        return state.weight.abs()

    model = mlp()
    topology = sparsify(model, sparsity=0.5, scope=lambda name: name == "2.weight")
    model(batch(0)).square().mean().backward()
    evolution = TopologyEvolution(topology, Due(0.5), drop=spy)
    evolution.before(torch.optim.SGD(model.parameters()))
    assert [state.name for state in seen] == ["0.weight + 4.weight", "2.weight"]
    assert [tuple(state.weight.shape) for state in seen] == [(6 * 16 + 8 * 2,), (8, 16)]
    assert torch.equal(seen[0].mask[: 6 * 16].view(16, 6), topology.mask("0.weight"))
    assert all(state.block == 1 and state.generator is not None for state in seen)


def test_a_loss_that_merely_flows_through_does_not_change_the_growth_scores() -> None:
    def critic_masks(actor_loss_flows: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        critic, actor = (
            nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1)),
            nn.Linear(4, 2),
        )
        topology = sparsify(critic, sparsity=0.7)
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.01)
        schedule = Cosine(0.7, update_every=2, update_until=20)
        evolution = TopologyEvolution(topology, schedule)
        for step in range(12):
            sample = batch(step)
            optimizer.zero_grad()
            (critic(sample) - 1).square().mean().backward()
            evolution.step(optimizer)
            if actor_loss_flows:
                state = sample[:, :4]
                loss = -critic(torch.cat([state, actor(state).tanh()], 1)).mean() * 1e6
                loss.backward()
                assert float(critic[0].weight.grad.abs().max()) > 1.0
        return [topology.mask(name) for name in topology.names]

    pairs = zip(critic_masks(False), critic_masks(True), strict=True)
    assert all(torch.equal(without, through) for without, through in pairs)


def test_an_extra_gradient_counts_for_the_score_only() -> None:
    # +1 on position 6 makes it the best candidate; neither weights nor .grad feel it.
    outcomes = []
    for extra in (None, {"weight": torch.eye(8)[6].view(2, 4)}):
        model, topology = layer()
        evolution = TopologyEvolution(topology, Due(0.25))
        give_grad(model.weight, GRAD)
        evolution.step(torch.optim.SGD(model.parameters(), lr=0.5), extra_gradient=extra)
        outcomes.append((links(topology.mask("weight")), model.weight.detach(), model.weight.grad))
    assert outcomes[0][0] == [0, 1, 2, 7]
    assert outcomes[1][0] == [0, 1, 2, 6]
    assert torch.equal(outcomes[0][1], outcomes[1][1])
    assert torch.equal(outcomes[0][2], outcomes[1][2])
    with pytest.raises(ValueError, match="names no layers"):
        evolution.step(
            torch.optim.SGD(model.parameters()), extra_gradient={"weigth": torch.zeros(2, 4)}
        )


def test_clipping_sees_the_masked_gradient() -> None:
    # Masked gradient (3, 4, 0, ...): norm 5, clipped to 1 -> (.6, .8). The cut links' 100 is gone.
    model, topology = layer([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    evolution = TopologyEvolution(topology, Static(0.75))
    give_grad(model.weight, [3.0, 4.0, 100.0, 0.0, 0.0, 0.0, 0.0, 100.0])
    assert evolution.step(torch.optim.SGD(model.parameters(), lr=1.0), clip_norm=1.0) is None
    expected = torch.tensor([0.4, 0.2, 0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(model.weight.detach().flatten(), expected, rtol=0, atol=1e-5)


def test_on_update_skip_leaves_the_optimizer_alone_at_evolution_steps() -> None:
    model, topology = layer()
    optimizer = torch.optim.Adam(model.parameters())
    evolution = TopologyEvolution(topology, Due(0.5, at=(2, 4)), on_update="skip")
    for _ in range(5):
        give_grad(model.weight, GRAD)
        evolution.step(optimizer)
    assert float(optimizer.state[model.weight]["step"]) == 3.0
    assert evolution.steps == 5


def test_a_missing_gradient_at_an_evolution_step() -> None:
    model, topology = layer()
    optimizer = torch.optim.SGD(model.parameters())
    with pytest.raises(ValueError, match="layer weight has no gradient"):
        TopologyEvolution(topology, Due(0.5)).step(optimizer)
    with pytest.raises(ValueError, match="layer weight has no gradient"):
        TopologyEvolution(topology, Due(0.5), drop=mest(1.0), grow=top(random)).step(optimizer)
    # Where no score asks for it, it is not needed; and off schedule nobody asks.
    update = TopologyEvolution(topology, Due(0.5), grow=top(random)).step(optimizer)
    assert update is not None
    assert update.layers["weight"].dropped == 2
    assert TopologyEvolution(topology, Due(0.5, at=())).step(optimizer) is None
    assert topology.nnz == {"weight": 4}


def test_a_diverged_gradient_is_refused_before_anything_changes() -> None:
    model, topology = layer()
    give_grad(model.weight, [float("nan")] * 8)
    with pytest.raises(ValueError, match="NaN"):
        TopologyEvolution(topology, Due(0.5)).step(torch.optim.SGD(model.parameters()))
    assert links(topology.mask("weight")) == [0, 1, 2, 3]
    assert model.weight.flatten().tolist() == WEIGHT


@pytest.mark.parametrize(
    "rule",
    [
        lambda state, candidates, k: torch.zeros_like(candidates),
        lambda state, candidates, k: candidates,
        lambda state, candidates, k: ~candidates,
    ],
)
def test_a_wrong_growth_rule_is_refused(rule) -> None:
    model, topology = layer()
    give_grad(model.weight, GRAD)
    with pytest.raises(ValueError, match="growth rule must choose 2 of the candidates of weight"):
        TopologyEvolution(topology, Due(0.5), grow=rule).step(torch.optim.SGD(model.parameters()))


def test_bad_arguments_are_refused() -> None:
    _, topology = layer()
    for wrong in ({"moments": "reset"}, {"regrown": "old"}, {"on_update": "no"}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            TopologyEvolution(topology, Static(0.5), **wrong)
    with pytest.raises(ValueError, match="call before"):
        TopologyEvolution(topology, Static(0.5)).after(torch.optim.SGD([torch.zeros(1)]))
    with pytest.raises(ValueError, match="no evolution state"):
        TopologyEvolution(topology, Static(0.5)).load_state_dict({})


def test_resume_is_bit_equal() -> None:
    def start(seed: int) -> tuple[nn.Module, Topology, torch.optim.Optimizer, TopologyEvolution]:
        model = mlp(seed)
        topology = sparsify(model, sparsity=0.6, scope="group")
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        schedule = Cosine(0.6, update_every=3, update_until=30)
        grow = split((gradient, 1), (random, 1))
        return model, topology, optimizer, TopologyEvolution(topology, schedule, grow=grow, seed=5)

    def train(parts: tuple, steps: range) -> None:
        model, _, optimizer, evolution = parts
        for step in steps:
            optimizer.zero_grad()
            model(batch(step)).square().mean().backward()
            evolution.step(optimizer)

    whole = start(0)
    train(whole, range(20))
    first = start(0)
    train(first, range(10))
    resumed = start(1)
    for ours, theirs in zip(resumed, first, strict=True):
        ours.load_state_dict(copy.deepcopy(theirs.state_dict()))
    train(resumed, range(10, 20))
    ours = dense_state(resumed[0], resumed[2])
    theirs = dense_state(whole[0], whole[2])
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(resumed[1].mask(n), whole[1].mask(n)) for n in whole[1].names)
    assert resumed[3].last_update.survival == whole[3].last_update.survival < 1.0


def test_a_model_that_moves_between_steps_stays_sparse() -> None:
    model = mlp()
    topology = sparsify(model, sparsity=0.5)
    evolution = TopologyEvolution(topology, Due(0.3))
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        model.to(dtype)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.zero_grad()
        model(batch(0).to(dtype)).square().mean().backward()
        evolution.step(optimizer)
        for name in topology.names:
            assert topology.weight(name).dtype == dtype
            assert not bool(topology.weight(name)[~topology.mask(name)].any())
    assert topology.sparsity == 0.5


@given(
    st.integers(1, 6),
    st.integers(1, 8),
    st.floats(0.0, 0.99),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.99),
    st.sampled_from([top(gradient), top(random), split((gradient, 1), (random, 2))]),
    st.sampled_from(["layer", "group"]),
    st.integers(0, 1000),
)
@settings(deadline=None, max_examples=100)
def test_laws_of_one_evolution_step(out, inner, start, fraction, end, grow, scope, seed) -> None:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, inner), nn.Linear(inner, out))
    topology = sparsify(model, sparsity=Static(start), scope=scope, initial=subset)
    old = {name: topology.mask(name).clone() for name in topology.names}
    evolution = TopologyEvolution(
        topology, Due(fraction, sparsity_at=lambda step: end), grow=grow, seed=seed
    )
    model(torch.randn(3, 5)).square().sum().backward()
    weights = {name: topology.weight(name).detach().clone() for name in topology.names}
    update = evolution.step(torch.optim.SGD(model.parameters(), lr=0.0))
    assert update is not None
    total = sum(mask.numel() for mask in old.values())
    assert sum(topology.nnz.values()) == round((1 - end) * total)
    n_before = sum(int(mask.sum()) for mask in old.values())
    for name in topology.names:
        change, mask = update.layers[name], topology.mask(name)
        assert change.nnz == int(mask.sum())
        assert change.nnz == int(old[name].sum()) - change.dropped + change.grown
        assert change.regrown == change.dropped - int((old[name] & ~mask).sum())
        stays = (topology.weight(name) == weights[name]) | (topology.weight(name) == 0)
        assert bool(stays.all())
    if round((1 - end) * total) == n_before and n_before < total and scope == "group":
        dropped = sum(change.dropped for change in update.layers.values())
        assert dropped == math.floor(n_before * fraction)
