"""Matrices as their links alone beside the masked matrices that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toy_pretraining import toy

from thrifty.engine.sparse_blocks import Blocks
from thrifty.lm import triton_blocks, weights
from thrifty.lm.backend import choose
from thrifty.lm.compact import Compact, CompactMatrix, Form, Links, SparseLinear
from thrifty.lm.config import ConstantConfig, OptimizerConfig, PhasesConfig
from thrifty.lm.gathered_blocks import GatheredBlocks
from thrifty.lm.gpt import GPTConfig
from thrifty.lm.plan import make_plan
from thrifty.sparse.blocks import expanded


def compared(form: Form, mask: Tensor, seed: int, kind: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Outputs and gradients of a form and of the masked matrix in float64."""
    generator = torch.Generator().manual_seed(seed)
    out, inputs = mask.shape
    weight = torch.randn(mask.shape, generator=generator) * mask
    x = torch.randn(3, 5, inputs, generator=generator)
    above = torch.randn(3, 5, out, generator=generator)
    small = [t.to(kind, copy=True).requires_grad_() for t in (x, weight.flatten()[form.flat])]
    y = form.product(*small)
    assert y.dtype == kind
    y.backward(above.to(kind))
    exact = [t.double().requires_grad_() for t in (x, weight)]
    expected = F.linear(*exact)
    expected.backward(above.double())
    return [
        (y.detach(), expected.detach()),
        (small[0].grad, exact[0].grad),  # type: ignore[list-item]
        (small[1].grad, exact[1].grad.flatten()[form.flat]),  # type: ignore[list-item,union-attr]
    ]


def close(pairs: list[tuple[Tensor, Tensor]], tolerance: float) -> None:
    for ours, exact in pairs:
        scale = float(exact.abs().max()) if exact.numel() else 0.0
        torch.testing.assert_close(ours.double(), exact, atol=tolerance * scale, rtol=tolerance)


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([1, 2, 8, 16]),
    st.integers(0, 10),
    st.integers(0, 10**6),
)
def test_gathered_blocks_are_the_masked_matrix(
    rows: int, columns: int, block: int, tenths: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(rows, columns, generator=generator) < tenths / 10  # empty rows, too
    mask = expanded(grid, block)
    close(compared(GatheredBlocks(mask, block), mask, seed, torch.float64), 1e-12)


@given(
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([16, 32, 48, 64]),
    st.integers(0, 10),
    st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_blocks_of_the_engine_are_the_masked_matrix(
    rows: int, columns: int, block: int, tenths: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid = torch.rand(rows, columns, generator=generator) < tenths / 10
    mask = expanded(grid, block)
    form = Blocks(mask, block)
    assert torch.equal(form.flat, GatheredBlocks(mask, block).flat)
    close(compared(form, mask, seed, torch.float32), 1e-5)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10), st.integers(0, 10**6))
def test_single_links_are_the_masked_matrix(out: int, inputs: int, tenths: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(out, inputs, generator=generator) < tenths / 10
    close(compared(Links(mask), mask, seed, torch.float32), 1e-5)


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2)])
@pytest.mark.parametrize("block", [16, 32, 64, 128])
def test_precisions(kind: torch.dtype, tolerance: float, block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = torch.rand(256 // block, 384 // block, generator=generator) < 0.4
    mask = expanded(grid, block)
    close(compared(GatheredBlocks(mask, block), mask, 1, kind), tolerance)


def test_half_precision_arithmetic_is_the_linear_layers() -> None:
    mask = torch.ones(8, 8, dtype=torch.bool)
    layer = SparseLinear(8, 8)
    form = GatheredBlocks(mask, 4)
    x = torch.randn(2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dense = layer(x)
        layer.compact = CompactMatrix(
            form, nn.Parameter(layer.weight.detach().flatten()[form.flat])
        )
        ours = layer(x)
    assert ours.dtype == dense.dtype == torch.bfloat16
    torch.testing.assert_close(ours, dense, atol=2e-2, rtol=2e-2)


def test_the_whole_matrix_carries_gradients_to_its_links() -> None:
    mask = torch.tensor([[True, False, True], [False, True, False]])
    matrix = CompactMatrix(Links(mask), nn.Parameter(torch.tensor([1.0, 2.0, 3.0])))
    dense = matrix.dense()
    assert dense.tolist() == [[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]]
    dense.backward(torch.tensor([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]]))
    assert matrix.values.grad is not None
    assert matrix.values.grad.tolist() == [10.0, 30.0, 50.0]


def test_the_optimizer_knows_links_that_exist_only() -> None:
    linear = nn.Linear(4, 3)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, 1] = mask[2, 0] = True
    with torch.no_grad():
        linear.weight.mul_(mask)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=0.1, fused=True)
    parameters = dict(linear.named_parameters())
    compact = Compact(parameters, optimizer, {"weight": Links(mask)}, {})
    for _ in range(2):
        values = compact.matrices["weight"].values
        values.grad, linear.bias.grad = torch.tensor([1.0, -2.0]), torch.ones(3)
        compact.step(clip_norm=100.0)
    held = {id(p): p.numel() for group in compact.optimizer.param_groups for p in group["params"]}
    assert held == {id(values): 2, id(linear.bias): 3}
    moments = compact.optimizer.state[values]
    assert moments["exp_avg"].shape == moments["exp_avg_sq"].shape == (2,)
    assert linear.weight not in optimizer.state  # no dense moments beside them
    compact.leave()
    # Two steps of AdamW on a constant gradient: m = (1 - .9^2) g, v = (1 - .999^2) g^2.
    state = optimizer.state[linear.weight]
    assert float(state["step"]) == 2
    expected = torch.zeros(3, 4)
    expected[0, 1], expected[2, 0] = 0.19, -0.38
    torch.testing.assert_close(state["exp_avg"], expected)
    assert state["exp_avg_sq"][~mask].count_nonzero() == 0
    assert float(optimizer.state[linear.bias]["step"]) == 2


RUNS: dict[str, tuple[str, Any]] = {
    "phases, blocks": ("block", PhasesConfig(flops=0.45, update_every=5, density_every=2, block=8)),
    "constant, blocks": ("block", ConstantConfig(sparsity=0.6, update_every=5, block=8)),
    "phases, engine": ("engine", PhasesConfig(flops=0.35, update_every=5, density_every=2)),
    "constant, engine": ("engine", ConstantConfig(sparsity=0.8, update_every=5)),
    "random, engine": ("engine", ConstantConfig(sparsity=0.8, update_every=5, grow="random")),
    "blocks, engine": ("engine", ConstantConfig(sparsity=0.55, update_every=5, block=16)),
}
SHAPE = GPTConfig(layers=1, heads=2, width=64, context=16, padding=16)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_on_links_alone_is_the_masked_run(data: str, name: str) -> None:
    backend, sparsity = RUNS[name]
    ended = []
    for chosen in ("dense", backend):
        config = toy(data, model=SHAPE, sparsity=sparsity, backend=chosen, steps=20)
        experiment = config.build(0)
        records, used = [], 0
        for record in experiment.records():
            records.append(record)
            used = max(
                used, sum(b.qkv.compact is not None for b in experiment.trained._model.blocks)
            )
        assert used == (chosen != "dense")
        start = next(record for record in records if record)
        assert start["backend"] == chosen
        assert start["backend_reason"] == "as configured"
        ended.append(experiment.trained)
    one, two = ended
    for name in one.topology.names:
        assert torch.equal(one.topology.mask(name), two.topology.mask(name))
        assert not two.model.get_parameter(name).detach()[~two.topology.mask(name)].any()
    for p, q in zip(one.model.parameters(), two.model.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-3, rtol=1e-3)  # a step moves up to 1e-2
        for key, moment in one.optimizer.state[p].items():
            torch.testing.assert_close(moment, two.optimizer.state[q][key], atol=1e-3, rtol=1e-2)


def test_a_restored_model_is_an_ordinary_gpt2(data: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = toy(data, model=SHAPE, sparsity=RUNS["phases, engine"][1], backend="engine", steps=20)
    experiment = config.build(0)
    for _ in experiment.records():
        pass
    assert experiment.topology.sparsity == 0.0
    model = experiment.model
    theirs = transformers.GPT2LMHeadModel.from_pretrained(weights.save(model, tmp_path)).eval()
    ids, _ = experiment.tokens.held_out.batch(2, 16, seed=0, step=1)
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, model(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("sparsity", [RUNS["constant, engine"][1], RUNS["blocks, engine"][1]])
def test_equal_threads_give_equal_bits(data: str, sparsity: Any, threads: int) -> None:
    # 4 windows of 256 tokens: enough for two threads, with one part for each.
    model = GPTConfig(layers=1, heads=2, width=64, context=256, padding=16)
    earlier = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        states = []
        for _ in range(2):
            experiment = toy(
                data,
                model=model,
                sparsity=sparsity,
                backend="engine",
                batch_size=4,
                micro_batches=1,
            ).build(0)
            for _ in range(3):
                experiment.advance()
            states.append([p.detach().clone() for p in experiment.model.parameters()])
    finally:
        torch.set_num_threads(earlier)
    for one, two in zip(*states, strict=True):
        assert torch.equal(one, two)


def test_auto_takes_the_engine_where_it_pays(data: str) -> None:
    long = GPTConfig(layers=1, heads=2, width=32, context=256, padding=16)
    half = OptimizerConfig(moments="keep")
    for changes, backend, reason in (
        ({}, "engine", "90 % of the links are cut"),
        ({"sparsity": ConstantConfig(sparsity=0.6)}, "dense", "below the 70 %"),
        ({"sparsity": ConstantConfig(sparsity=0.55, block=16)}, "engine", "55 % of the links"),
        ({"sparsity": PhasesConfig(density=0.2, restoration=0.6)}, "engine", "80 % of the links"),
        ({"precision": "bfloat16"}, "dense", r"the engine needs float32 on the cpu"),
        ({"optimizer": half}, "dense", r"moments of cut links that are zero"),
        ({"model": GPTConfig(layers=1, heads=2, width=32, context=16)}, "dense", "32 tokens"),
    ):
        settings = {"model": long, "sparsity": PhasesConfig(density=0.1), **changes}
        trained = toy(data, **settings).build(0).trained
        assert trained.backend == backend
        assert reason in trained.reason
    assert toy(data, "dense").build(0).trained.reason == "no link is cut"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "block"}, r"block needs blocks \(sparsity\.block of 64 or so\)"),
        ({"backend": "engine", "precision": "bfloat16"}, "engine needs float32 on the cpu"),
        (
            {"backend": "engine", "optimizer": OptimizerConfig(moments="keep")},
            r"zero \(optimizer\.moments\): change that, or say backend auto",
        ),
        (
            {"backend": "engine", "sparsity": ConstantConfig(sparsity=0.6, block=8)},
            "blocks of a multiple of 16",
        ),
        ({"sparsity": PhasesConfig(flops=0.6, block=8)}, "blocks of 8 a side do not divide"),
    ],
)
def test_backends_that_cannot_work_are_refused(
    data: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        toy(data, **changes).build(0)


def test_blocks_that_no_kernel_has_are_refused_at_once(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_blocks, "AVAILABLE", True)
    for block, refused in ((8, True), (48, True), (64, False)):
        sparsity = ConstantConfig(sparsity=0.5, block=block)
        config = toy(data, sparsity=sparsity, backend="block", device="cuda").resolved()
        plan = make_plan(config, 256)
        if refused:
            with pytest.raises(ValueError, match="needs blocks of a power of two from 16 on there"):
                choose(config, plan)
        else:
            assert choose(config, plan)[0] == "block"


def test_a_dense_run_has_nothing_to_skip(data: str) -> None:
    with pytest.raises(ValueError, match="the backend engine needs sparse matrices"):
        toy(data, "dense", backend="engine").build(0)


def test_blocks_that_cannot_reach_the_density_are_refused_at_once(data: str) -> None:
    # 32 wide in blocks of 16: two columns, so a block in every row is half of all.
    model = GPTConfig(layers=1, heads=2, width=32, context=16, padding=16)
    with pytest.raises(ValueError, match=r"blocks of 16 a side need a density of at least"):
        toy(data, model=model, sparsity=PhasesConfig(density=0.2, block=16)).build(0)


def test_blocks_of_the_engine_refuse_what_they_cannot_read() -> None:
    mask = torch.ones(16, 32, dtype=torch.bool)
    with pytest.raises(ValueError, match="8 a side do not fit 16 x 32"):
        Blocks(mask, 8)
    form = Blocks(mask, 16)
    with pytest.raises(ValueError, match=r"are float32 on the CPU, got torch\.float64"):
        form.product(torch.zeros(1, 32).double(), torch.zeros(512))
    with pytest.raises(ValueError, match=r"take \[\.\.\., 32\] and 512 values"):
        form.product(torch.zeros(1, 16), torch.zeros(512))
