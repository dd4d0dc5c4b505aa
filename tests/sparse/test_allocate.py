from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thrifty.sparse import check_sparsity, er, erk, uniform

# rlx2.md 2.2: algorithm, (observation, action) widths, actor sparsity, actor nnz per layer,
# critic sparsity, nnz per layer of one Q head; solved there with real-valued densities.
ROWS = [
    ("td3", 17, 6, 0.90, (1950, 3657, 1536), 0.85, (3702, 6794, 256)),
    ("td3", 11, 3, 0.98, (356, 682, 345), 0.95, (1109, 2104, 256)),
    ("td3", 17, 6, 0.97, (559, 1048, 536), 0.95, (1174, 2154, 256)),
    ("td3", 111, 8, 0.96, (1233, 1720, 887), 0.88, (4775, 6520, 256)),
    ("sac", 17, 6, 0.90, (1892, 3548, 1857), 0.80, (4966, 9114, 256)),
    ("sac", 11, 3, 0.98, (359, 687, 352), 0.95, (1109, 2104, 256)),
    ("sac", 17, 6, 0.90, (1892, 3548, 1857), 0.90, (2438, 4474, 256)),
    ("sac", 111, 8, 0.90, (3126, 4361, 2317), 0.75, (10065, 13743, 256)),
]
ALLOCATIONS = [er, erk, uniform]


def shapes_of(*shapes: tuple[int, ...]) -> dict[str, torch.Size]:
    return {f"layer{i}": torch.Size(shape) for i, shape in enumerate(shapes)}


def size(shapes: dict[str, torch.Size]) -> int:
    return sum(shape.numel() for shape in shapes.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}-{row[3]}")
def test_er_gives_the_published_allocation(row: tuple) -> None:
    algorithm, obs, act, actor_sparsity, actor_nnz, critic_sparsity, head_nnz = row
    out = act if algorithm == "td3" else 2 * act
    actor = shapes_of((256, obs), (256, 256), (out, 256))
    head = [(256, obs + act), (256, 256), (1, 256)]
    for shapes, sparsity, expected in [
        (actor, actor_sparsity, actor_nnz),
        (shapes_of(*head, *head), critic_sparsity, head_nnz * 2),
    ]:
        nnz = list(er(shapes, sparsity).values())
        assert sum(nnz) == round((1 - sparsity) * size(shapes))
        assert all(abs(ours - theirs) <= 1 for ours, theirs in zip(nnz, expected, strict=True))


def test_er_by_hand() -> None:
    # Raw links d_l n_l = eps (I + O): 20 and 12 for 100 and 20 links. Budget 60: eps = 1.875 gives
    # 37.5 and 22.5 > 20, so the second is full and the first takes the other 40.
    assert er(shapes_of((10, 10), (2, 10)), 0.5) == {"layer0": 40, "layer1": 20}


def test_kernels_count_in_erk_only() -> None:
    # 3x3 kernel 4 -> 4 (144 links) beside a matrix 12 x 12 (144 links), budget 144.
    # er: ratios 8/16 and 24/144, links 72 and 24 of 96 parts -> 108 and 36.
    # erk: sums 4 + 4 + 3 + 3 = 14 and 24 of 38 parts -> 53.05 and 90.95 -> 53 and 91.
    shapes = shapes_of((4, 4, 3, 3), (12, 12))
    assert list(er(shapes, 0.5).values()) == [108, 36]
    assert list(erk(shapes, 0.5).values()) == [53, 91]
    assert list(uniform(shapes, 0.5).values()) == [72, 72]


def test_equal_remainders_go_to_the_earlier_layers() -> None:
    # Three layers of 5 links at one half: shares of 2.5, total round(7.5) = 8 (half to even).
    assert list(uniform(shapes_of((5, 1), (5, 1), (5, 1)), 0.5).values()) == [3, 3, 2]


@given(
    st.sampled_from(ALLOCATIONS),
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=7),
    st.floats(0.0, 0.999),
)
@settings(deadline=None, max_examples=200)
def test_budgets_are_exact_and_close_to_their_shares(allocate, dims, sparsity) -> None:
    shapes = shapes_of(*dims)
    nnz = allocate(shapes, sparsity)
    budget = (1 - sparsity) * size(shapes)
    assert list(nnz) == list(shapes)
    assert sum(nnz.values()) == round(budget)
    assert all(0 <= nnz[name] <= shape.numel() for name, shape in shapes.items())

    # The real-valued shares by another method: bisection on eps in sum min(eps raw, n) = budget.
    raw = {
        name: shape.numel() if allocate is uniform else sum(shape) for name, shape in shapes.items()
    }
    low, high = 0.0, float(size(shapes))
    for _ in range(200):
        eps = (low + high) / 2
        used = sum(min(eps * raw[n], shape.numel()) for n, shape in shapes.items())
        low, high = (eps, high) if used < budget else (low, eps)
    for name, shape in shapes.items():
        assert abs(nnz[name] - min(high * raw[name], shape.numel())) <= 1 + 1e-6


@given(
    st.sampled_from(ALLOCATIONS),
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=50)
def test_the_total_never_rises_with_sparsity(allocate, dims) -> None:
    shapes = shapes_of(*dims)
    totals = [sum(allocate(shapes, s / 10).values()) for s in range(10)]
    assert totals[0] == size(shapes)
    assert all(later <= earlier for earlier, later in pairwise(totals))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_sparsity_outside_its_range_is_refused(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"sparsity must lie in \[0, 1\)"):
        er(shapes_of((2, 2)), sparsity)
    with pytest.raises(ValueError, match="fraction of links that are cut"):
        check_sparsity(sparsity)


def test_a_layer_without_links_is_refused() -> None:
    with pytest.raises(ValueError, match="without links"):
        erk(shapes_of((2, 2), (0, 3)), 0.5)
