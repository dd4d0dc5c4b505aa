from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from toy_pretraining import toy

from thrifty.lm.block_linear import BlockLayout, BlockLinear, block_linear
from thrifty.lm.config import ConstantConfig, PhasesConfig
from thrifty.lm.gpt import GPTConfig
from thrifty.sparse.blocks import expanded


def products(
    weight: Tensor, x: Tensor, above: Tensor, bias: Tensor, layout: BlockLayout | None
) -> list[Tensor]:
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    y = block_linear(*inputs, layout)
    y.backward(above)
    return [y.detach(), *(tensor.grad for tensor in inputs)]


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([1, 2, 8, 16]),
    st.integers(0, 10),
    st.integers(0, 10**6),
)
def test_forward_and_backward_are_those_of_the_masked_matrix(
    rows: int, columns: int, block: int, tenths: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    kind = {"dtype": torch.float64, "generator": generator}
    grid = torch.rand(rows, columns, generator=generator) < tenths / 10  # empty rows, too
    mask = expanded(grid, block)
    weight = torch.randn(mask.shape, **kind) * mask
    x = torch.randn(3, 2, columns * block, **kind)
    above, bias = torch.randn(3, 2, rows * block, **kind), torch.randn(rows * block, **kind)
    ours = products(weight, x, above, bias, BlockLayout(mask, block))
    dense = products(weight, x, above, bias, None)
    dense[2] = dense[2] * mask
    for one, two in zip(ours, dense, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_precisions(dtype: torch.dtype, tolerance: float, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(256 // block, 384 // block, generator=generator) < 0.4
    mask = expanded(grid, block)
    weight = torch.randn(mask.shape, generator=generator) * mask / 20
    x = torch.randn(64, 384, generator=generator)
    above, bias = torch.randn(64, 256, generator=generator), torch.zeros(256)
    layout = BlockLayout(mask, block)
    ours = products(*(t.to(dtype) for t in (weight, x, above, bias)), layout)
    dense = products(weight.double(), x.double(), above.double(), bias.double(), None)
    dense[2] = dense[2] * mask
    for one, two in zip(ours, dense, strict=True):
        assert one.dtype == dtype
        scale = float(two.abs().max())
        torch.testing.assert_close(one.double(), two, atol=tolerance * scale, rtol=tolerance)


def test_half_precision_arithmetic_is_the_linear_layers() -> None:
    layer = BlockLinear(8, 8)
    layer.layout = BlockLayout(torch.ones(8, 8, dtype=torch.bool), 4)
    x = torch.randn(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, dense = layer(x), F.linear(x, layer.weight, layer.bias)
    assert ours.dtype == dense.dtype == torch.bfloat16
    torch.testing.assert_close(ours, dense, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("sparsity", ["phases", "constant"])
def test_a_run_by_blocks_is_the_masked_run(data: str, sparsity: str) -> None:
    chosen = {
        "phases": PhasesConfig(flops=0.45, update_every=5, density_every=2, block=8),
        "constant": ConstantConfig(sparsity=0.6, update_every=5, block=8),
    }[sparsity]
    model = GPTConfig(layers=1, heads=2, width=32, context=16, padding=8)
    ended = []
    for kernel in ("masked", "blocks"):
        config = toy(data, model=model, sparsity=chosen, kernel=kernel, steps=20)
        experiment = config.build(0)
        used = 0
        for _ in experiment.records():
            used = max(used, sum(b.qkv.layout is not None for b in experiment.model.blocks))
        assert used == (kernel == "blocks")
        ended.append(experiment.model)
    for one, two in zip(*(model.parameters() for model in ended), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-3)


def test_blocks_that_cannot_reach_the_density_are_refused_at_once(data: str) -> None:
    # 32 wide in blocks of 16: two columns, so a block in every row is half of all.
    model = GPTConfig(layers=1, heads=2, width=32, context=16, padding=16)
    with pytest.raises(ValueError, match=r"blocks of 16 a side need a density of at least"):
        toy(data, model=model, sparsity=PhasesConfig(density=0.2, block=16)).build(0)


def test_blocks_need_a_size(data: str) -> None:
    with pytest.raises(ValueError, match=r"set sparsity\.block to 64"):
        toy(data, kernel="blocks").build(0)
    with pytest.raises(ValueError, match="blocks of 8 a side do not divide"):
        toy(data, sparsity=PhasesConfig(flops=0.6, block=8)).build(0)
