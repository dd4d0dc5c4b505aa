"""The process of test_triton_blocks: relative errors beside masked dense products in float64.

On a GPU where it is told so, on Triton's interpreter otherwise.
"""

from __future__ import annotations

import json
import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from thrifty.lm.gathered_blocks import GatheredBlocks
from thrifty.lm.triton_blocks import TritonBlocks
from thrifty.sparse.blocks import expanded

DEVICE = sys.argv[1]


def errors(block: int, kind: torch.dtype) -> list[float]:
    """Largest errors of output and gradients over the largest value."""
    generator = torch.Generator().manual_seed(block)
    grid = torch.rand(3, 4, generator=generator) < 0.5
    grid[1] = False  # a row without a block
    mask = expanded(grid, block).to(DEVICE)
    form = TritonBlocks(mask, block)
    assert torch.equal(form.flat, GatheredBlocks(mask, block).flat)
    weight = torch.randn(mask.shape, generator=generator).to(DEVICE) * mask
    # 90 tokens: a tile and a part.
    x = torch.randn(2, 45, mask.shape[1], generator=generator).to(DEVICE)
    above = torch.randn(2, 45, mask.shape[0], generator=generator).to(DEVICE)
    small = [t.to(kind, copy=True).requires_grad_() for t in (x, weight.flatten()[form.flat])]
    y = form.product(*small)
    assert y.dtype == kind
    y.backward(above.to(kind))
    exact = [t.double().requires_grad_() for t in (x, weight)]
    expected = F.linear(*exact)
    expected.backward(above.double())
    pairs: list[tuple[Tensor | None, Tensor]] = [
        (y.detach(), expected.detach()),
        (small[0].grad, exact[0].grad),  # type: ignore[list-item]
        (small[1].grad, exact[1].grad.flatten()[form.flat]),  # type: ignore[union-attr]
    ]
    return [float((ours.double() - right).abs().max() / right.abs().max()) for ours, right in pairs]  # type: ignore[union-attr]


cases = [(16, torch.float32), (32, torch.float32), (64, torch.float32), (16, torch.float16)]
if DEVICE == "cuda":
    cases += [(128, torch.float32), (64, torch.bfloat16), (128, torch.bfloat16)]
print(json.dumps({f"{block}, {kind}": errors(block, kind) for block, kind in cases}))
