from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.engine.sparse_blocks import Blocks


@given(
    st.sampled_from([16, 32, 48, 64]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 130),
    st.integers(0, 10**6),
)
@settings(max_examples=40)
def test_blocks_are_their_masked_matrix(
    block: int, rows: int, columns: int, tokens: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(rows, columns, generator=generator) < 0.5  # rows without a block, too
    mask = grid.repeat_interleave(block, 0).repeat_interleave(block, 1)
    form = Blocks(mask, block)
    values = torch.randn(len(form.flat), generator=generator, requires_grad=True)
    x = torch.randn(tokens, columns * block, generator=generator, requires_grad=True)
    above = torch.randn(tokens, rows * block, generator=generator)
    form.product(x, values).backward(above)
    weight = torch.zeros(mask.numel()).index_put((form.flat,), values.detach()).view(mask.shape)
    assert not weight[~mask].any()
    close = {"atol": 1e-3, "rtol": 1e-4}
    torch.testing.assert_close(form.product(x, values), x @ weight.T, **close)
    assert x.grad is not None
    assert values.grad is not None
    torch.testing.assert_close(x.grad, above @ weight, **close)
    d_weight = (above.T @ x.detach()).flatten()[form.flat]
    torch.testing.assert_close(values.grad, d_weight, **close)


def test_a_block_by_hand() -> None:
    # W has 1 to 256 row by row: y[o] = sum over k of W[o, k] = 256 o + 136.
    form = Blocks(torch.ones(16, 16, dtype=torch.bool), 16)
    values = torch.arange(1.0, 257.0)
    y = form.product(torch.ones(1, 16), values)
    assert y[0].tolist() == [256.0 * o + 136.0 for o in range(16)]


def test_only_what_is_asked_for_is_computed() -> None:
    form = Blocks(torch.ones(16, 16, dtype=torch.bool), 16)
    x, values = torch.ones(2, 16, requires_grad=True), torch.ones(256, requires_grad=True)
    (of_x,) = torch.autograd.grad(form.product(x, values).sum(), [x])
    assert of_x.tolist() == [[16.0] * 16] * 2
    (of_values,) = torch.autograd.grad(form.product(x, values).sum(), [values])
    assert of_values.tolist() == [2.0] * 256


def test_there_are_no_second_derivatives() -> None:
    form = Blocks(torch.ones(16, 16, dtype=torch.bool), 16)
    x = torch.ones(2, 16, requires_grad=True)
    with pytest.raises(ValueError, match="sparse blocks have no second derivatives"):
        torch.autograd.grad(form.product(x, torch.ones(256)).sum(), x, create_graph=True)
