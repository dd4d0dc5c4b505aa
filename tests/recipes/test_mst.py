from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from thrifty.lm.config import DenseConfig
from thrifty.lm.ledger import Costs, matrix_shapes, training_flops
from thrifty.lm.plan import make_plan
from thrifty.recipes import mst
from thrifty.sparse import er, in_blocks

V = 2048  # of the embedded corpus


def flops(config: Any, vocabulary: int = V) -> float:
    """FLOPs of a whole run, square convention, by its plan."""
    config = replace(config, scaling="").resolved()
    costs = Costs.of(config.model, vocabulary, "square")
    ratio = training_flops(
        costs, make_plan(config, vocabulary).stretches(config.steps, config.model.context)
    )
    tokens = config.steps * config.batch_size * config.micro_batches * config.model.context
    return ratio * costs.step(costs.links) * tokens


@pytest.mark.parametrize("recipe", ["mst", "dense_steps", "dense_batch", "tiny"])
def test_what_is_compared_costs_a_quarter(recipe: str) -> None:
    assert flops(getattr(mst, recipe)()) / flops(mst.dense()) == pytest.approx(0.25, rel=0.02)


def test_constant_sparsity_costs_what_its_links_and_attention_do() -> None:
    # Links 3,670,016, forward 7.34 M; attention 4 * 4 * 256 * 256 = 1.05 M; so at 80 %
    # (0.2 * 7.34 + 1.05) / (7.34 + 1.05) = .300. Exchanges at 49 of 2,500 steps take the dense
    assert flops(mst.static()) / flops(mst.dense()) == pytest.approx(0.300, abs=5e-4)
    # gradient: 49 / 2500 * .8 / 3 * 7.34 / 8.39 = .0046; random growth needs none.
    assert flops(mst.rigl()) / flops(mst.dense()) == pytest.approx(0.3046, abs=5e-4)
    assert flops(mst.set()) / flops(mst.dense()) == pytest.approx(0.300, abs=5e-4)


def test_rigl_at_equal_flops() -> None:
    # The sparsity that results/mst/controls.py gives it.
    cost = flops(mst.rigl(sparsity=0.8633)) / flops(mst.dense())
    assert cost == pytest.approx(0.25, rel=0.02)


def test_the_released_setting() -> None:
    config = mst.gpt2()
    tokens = config.batch_size * config.micro_batches * config.model.context
    assert tokens == 491_520
    # The vocabulary of GPT-2, padded to 50,304 rows: the ultra-sparse phase has about a tenth.
    phases = make_plan(config.resolved(), 50257).phases
    assert phases is not None
    assert phases.phases[1].end == pytest.approx(0.10, abs=0.01)


def test_the_released_code_by_its_defaults() -> None:
    config = mst.gpt2_published()
    # Links at half, attention and the dense gradient of every hundredth step in full: matrices are
    # .868 of a dense token's FLOPs (247.2 of 284.9 MF), so .434 + .132 + .868 / 2 / 3 / 100.
    assert flops(config, 50257) / flops(
        replace(config, sparsity=DenseConfig()), 50257
    ) == pytest.approx(0.5682, abs=1e-3)


@pytest.mark.parametrize("block", [16, 32])
def test_blocks_reach_the_density_that_is_asked_for(block: Any) -> None:
    config = mst.mst(block=block).resolved()
    phases = make_plan(config, V).phases
    assert phases is not None
    density = phases.phases[1].end
    shapes = {name: torch.Size(s) for name, s in matrix_shapes(config.model, V).items()}
    total = sum(shape.numel() for shape in shapes.values())
    nnz = in_blocks(er, block)(shapes, 1.0 - density)
    assert sum(nnz.values()) / total == pytest.approx(density, abs=1e-3)
    assert flops(config) == pytest.approx(0.25 * flops(replace(config, sparsity=DenseConfig())))
