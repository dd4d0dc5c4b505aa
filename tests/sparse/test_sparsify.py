from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from thrifty.sparse import (
    Cosine,
    Static,
    er,
    largest,
    layer_shapes,
    redrawn,
    sparsify,
    subset,
    uniform,
)


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def test_the_initial_mask_is_a_named_choice() -> None:
    dense = mlp()
    kept = {}
    for initial in (redrawn, subset, largest):
        model = mlp()
        topology = sparsify(model, sparsity=0.75, initial=initial, allocate=er)
        assert topology.nnz == er(layer_shapes(model), 0.75)
        for name in topology.names:
            assert torch.equal(topology.weight(name) != 0, topology.mask(name))
        kept[initial] = model[2].weight[model[2].weight_mask]
        from_dense = torch.equal(model[2].weight, dense[2].weight * model[2].weight_mask)
        assert from_dense == (initial is not redrawn)
        assert torch.equal(model[2].bias, dense[2].bias)
    # largest: none of the cut links was larger than a kept one
    threshold = kept[largest].abs().min()
    assert int((dense[2].weight.abs() >= threshold).sum()) == kept[largest].numel()
    assert kept[subset].abs().min() < threshold


def test_redrawn_weights_are_uniform_for_the_fan_in_that_is_left() -> None:
    model = nn.Linear(64, 400, bias=False)
    sparsify(model, sparsity=0.75)  # density 1/4: 16 inputs are left on average, b = 1/4
    weights = model.weight[model.weight_mask].detach()
    assert weights.numel() == 6400
    assert float(weights.abs().max()) <= 0.25
    # Standard deviation b / sqrt(3) = .1443; of 6400 draws known to about 1 %.
    assert float(weights.std()) == pytest.approx(0.25 / math.sqrt(3), rel=0.04)
    # Unit inputs: variance of an output 64 * 1/4 * b^2 / 3 = 1/3, as dense at b = 1/8.
    outputs = model(torch.randn(2000, 64, generator=torch.Generator().manual_seed(0)))
    assert float(outputs.detach().var()) == pytest.approx(1 / 3, rel=0.05)


def test_full_layers_are_not_touched() -> None:
    model, dense = mlp(), mlp()
    topology = sparsify(model, sparsity=0.5, allocate=er)
    assert topology.nnz["4.weight"] == 64  # ER keeps the scalar output full
    assert torch.equal(model[4].weight, dense[4].weight)
    assert not torch.equal(model[2].weight[model[2].weight_mask], dense[2].weight)


def test_the_generator_decides_and_nothing_else() -> None:
    state = torch.get_rng_state()
    models = [mlp() for _ in range(3)]
    torch.manual_seed(99)
    before = torch.get_rng_state()
    for model, seed in zip(models, (5, 5, 6), strict=True):
        sparsify(model, sparsity=0.5, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(models[0][2].weight, models[1][2].weight)
    assert not torch.equal(models[0][2].weight_mask, models[2][2].weight_mask)
    torch.set_rng_state(state)


def test_random_masks_are_uniform() -> None:
    # 2 of 4 positions: each of the 6 masks has probability 1/6; 6000 draws, sd = 29.
    generator = torch.Generator().manual_seed(0)
    counts: dict[tuple[bool, ...], int] = {}
    for _ in range(6000):
        key = tuple(subset(torch.ones(4, 1), 2, generator).flatten().tolist())
        counts[key] = counts.get(key, 0) + 1
    assert len(counts) == 6
    assert max(abs(count - 1000) for count in counts.values()) < 120


def test_sparsify_registers_no_hook_and_patches_nothing() -> None:
    model, untouched = mlp(), mlp()
    optimizer = torch.optim.Adam(model.parameters())
    known = set(dir(torch.optim.Adam)), set(vars(optimizer)), type(optimizer).step
    topology = sparsify(model, sparsity=0.5)
    assert (set(dir(torch.optim.Adam)), set(vars(optimizer)), type(optimizer).step) == known
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    for module, twin in zip(model.modules(), untouched.modules(), strict=True):
        assert type(module) is type(twin)
        assert set(vars(module)) == set(vars(twin))  # no instance attribute shadows a method
        assert module.forward.__func__ is type(twin).forward
        hooks = [key for key in vars(module) if "hook" in key]
        assert len(hooks) > 8
        assert not any(vars(module)[key] for key in hooks if vars(module)[key] is not None)
        names = [name for name, _ in module.named_buffers(recurse=False)]
        assert names == (["weight_mask"] if isinstance(module, nn.Linear) else [])
    for parameter in model.parameters():
        assert not parameter._backward_hooks
        assert not parameter._post_accumulate_grad_hooks
        assert parameter.is_leaf
        assert parameter.requires_grad
    assert isinstance(topology.weight("0.weight"), nn.Parameter)


def test_zero_as_a_number_has_no_names_but_as_a_schedule_it_has() -> None:
    assert sparsify(mlp(), sparsity=0.0).names == ()
    model, dense = mlp(), mlp()
    topology = sparsify(model, sparsity=Static(0.0))
    assert len(topology.names) == 3
    assert topology.sparsity == topology.target_sparsity == 0.0
    pairs = zip(model.parameters(), dense.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_a_schedule_starts_at_its_step_zero() -> None:
    topology = sparsify(mlp(), sparsity=Cosine(0.75, update_every=1, update_until=2))
    assert topology.sparsity == pytest.approx(0.75, abs=1e-4)
    assert topology.target_sparsity == 0.75


def test_a_second_sparsify_replaces_the_first() -> None:
    model = mlp()
    sparsify(model, sparsity=0.9)
    topology = sparsify(model, sparsity=0.5, allocate=uniform)
    assert topology.sparsity == pytest.approx(0.5, abs=1e-3)
    assert topology.survival == 1.0
    assert torch.equal(model[2].weight != 0, model[2].weight_mask)


@pytest.mark.parametrize("sparsity", [1.0, -0.5, float("nan")])
def test_bad_sparsity_leaves_the_model_alone(sparsity: float) -> None:
    model = mlp()
    with pytest.raises(ValueError, match="sparsity must lie"):
        sparsify(model, sparsity=sparsity)
    assert not list(model.buffers())


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="chooses no layer"):
        sparsify(nn.Embedding(3, 4), sparsity=0.5)
    with pytest.raises(ValueError, match="run one forward pass"):
        sparsify(nn.LazyLinear(3), sparsity=0.5)


def test_a_wrong_initial_is_refused() -> None:
    with pytest.raises(ValueError, match="`initial` must return a mask"):
        sparsify(
            mlp(), sparsity=0.5, initial=lambda weight, nnz, generator: torch.zeros(2, 2).bool()
        )
