from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from thrifty.lm.attention import kept
from thrifty.lm.config import DenseConfig, PhasesConfig, PretrainingConfig
from thrifty.lm.gpt import GPTConfig
from thrifty.lm.ledger import Convention, Costs, Stretch, matrix_shapes, solve, training_flops
from thrifty.lm.plan import make_plan
from thrifty.sparse import er

SHAPES = {
    "small": GPTConfig(biases=False),
    "medium": GPTConfig(layers=24, heads=16, width=1024, biases=False),
    "large": GPTConfig(layers=36, heads=20, width=1280, biases=False),
}
V = 50304


def test_forward_flops_of_gpt2() -> None:
    # Small: blocks 2 * 12 * 12 * 768^2 = 169.9 M, head 2 * 50304 * 768 = 77.3 M, attention
    # 4 * 12 * 1024 * 768 = 37.7 M. Medium and large alike.
    for name, total in (("small", 284.9), ("medium", 807.7), ("large", 1733.1)):
        costs = Costs.of(SHAPES[name], V, "square")
        assert round(costs.forward(costs.links) / 1e6, 1) == total
    small = Costs.of(SHAPES["small"], V, "causal")
    assert round(small.forward(small.links) / 1e6, 1) == 266.0  # 284.9 - 37.7 / 2


@pytest.mark.parametrize(
    ("name", "convention", "expected"),
    [
        ("small", "square", 0.246),
        ("medium", "square", 0.244),
        ("large", "square", 0.240),
        ("small", "causal", 0.231),
        ("medium", "causal", 0.230),
        ("large", "causal", 0.227),
    ],
)
def test_ratios_of_the_default_schedule(name: str, convention: Convention, expected: float) -> None:
    # 10 % warm-up along a cubic to .10 (mean .325), 70 % at .10 with local and strided attention
    # of 1/8, 20 % back along a line (mean .55): mean density .2125. Dense gradients left out.
    share = kept("union", 1024, 128)
    plan = [
        Stretch(1, 0.325, 1.0, 0),
        Stretch(7, 0.10, share, 0),
        Stretch(2, 0.55, 1.0, 0),
    ]
    ratio = training_flops(Costs.of(SHAPES[name], V, convention), plan)
    assert round(ratio, 3) == expected


def test_the_plan_of_a_long_run_comes_to_the_same() -> None:
    # In stairs of 1,000 steps over 600,000, links exchanged every 100: the density of a stair is
    # that of its end, one stair later. Dense gradients add (1 - density) / 3 / 100 = .3 %.
    config = PretrainingConfig(
        steps=600_000,
        model=SHAPES["small"],
        sparsity=PhasesConfig(density=0.10, update_every=100, density_every=1000),
    ).resolved()
    plan = make_plan(config, V).stretches(600_000, 1024)
    assert sum(stretch.steps for stretch in plan) == 600_000
    assert training_flops(Costs.of(SHAPES["small"], V, "square"), plan) == pytest.approx(
        0.246 + 0.9 / 300 * 0.87, abs=2e-3
    )


@pytest.mark.parametrize(
    ("sparsity", "qkv", "out", "mlp", "head"),
    [
        (0.50, 0.540, 0.810, 0.507, 0.411),
        (0.80, 0.216, 0.324, 0.203, 0.165),
        (0.90, 0.108, 0.162, 0.101, 0.082),
        (0.95, 0.054, 0.081, 0.051, 0.041),
    ],
)
def test_erdos_renyi_densities_of_gpt2_small(
    sparsity: float, qkv: float, out: float, mlp: float, head: float
) -> None:
    shapes = matrix_shapes(SHAPES["small"], V)
    nnz = er(shapes, sparsity)  # type: ignore[arg-type]
    density = {name: nnz[name] / (a * b) for name, (a, b) in shapes.items()}
    assert round(density["blocks.3.qkv.weight"], 3) == qkv
    assert round(density["blocks.3.out.weight"], 3) == out
    assert round(density["blocks.3.up.weight"], 3) == mlp
    assert round(density["blocks.3.down.weight"], 3) == mlp
    assert round(density["wte.weight"], 3) == head


@pytest.mark.parametrize(("name", "out"), [("medium", 0.155), ("large", 0.153)])
def test_erdos_renyi_densities_of_larger_ones(name: str, out: float) -> None:
    shapes = matrix_shapes(SHAPES[name], V)
    nnz = er(shapes, 0.9)  # type: ignore[arg-type]
    C = SHAPES[name].width
    assert round(nnz["blocks.0.out.weight"] / (C * C), 3) == out


def test_a_dense_gradient_costs_what_the_missing_links_would() -> None:
    # 10 links of 40, no attention: 3 * 2 * 10 = 60; the other 30 add 2 * 30 = 60.
    costs = Costs(links=40, attention=0.0)
    assert costs.step(10) == 60.0
    assert costs.step(10, dense_gradient=True) == 120.0
    # 2 steps at a quarter, one of them with the dense gradient: (60 + 120) / (2 * 240).
    assert training_flops(costs, [Stretch(2, 0.25, 1.0, 1)]) == 0.375


@settings(max_examples=25)
@given(
    st.floats(0.15, 0.6),
    st.integers(50, 3000),
    st.sampled_from(["union", "local", "dense"]),
    st.floats(0.05, 0.2),
    st.floats(0.1, 0.3),
    st.sampled_from([1.0, 0.5, 0.3]),
    st.sampled_from([1.0, 0.5, 0.3]),
)
def test_the_solver_hits_the_ratio(
    flops: float,
    steps: int,
    attention: str,
    warm_up: float,
    restoration: float,
    initial: float,
    final: float,
) -> None:
    model = GPTConfig(layers=2, heads=2, width=64, context=64)
    config = PretrainingConfig(
        steps=steps,
        model=model,
        sparsity=PhasesConfig(
            flops=flops,
            attention=attention,  # type: ignore[arg-type]
            warm_up=warm_up,
            restoration=restoration,
            initial_density=initial,
            final_density=final,
        ),
    ).resolved()
    try:
        plan = make_plan(config, 512)
    except ValueError as problem:
        assume("can be reached" not in str(problem))
        raise
    costs = Costs.of(model, 512, "square")
    assert training_flops(costs, plan.stretches(steps, 64)) == pytest.approx(flops, abs=1e-9)


def test_a_ratio_out_of_reach_says_what_can_be_reached() -> None:
    with pytest.raises(ValueError, match=r"gives 0\.05 .* 0\.100 to 0\.700 can be reached"):
        solve(lambda density: 0.1 + 0.6 * density, 0.05)


def test_a_dense_plan_is_one_stretch() -> None:
    config = PretrainingConfig(steps=7, sparsity=DenseConfig()).resolved()
    assert make_plan(config, 100).stretches(7, 16) == [Stretch(7, 1.0, 1.0, 0)]
