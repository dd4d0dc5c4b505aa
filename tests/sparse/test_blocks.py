from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from thrifty.sparse import (
    Cosine,
    LayerState,
    Phase,
    Phases,
    Topology,
    TopologyEvolution,
    block_subset,
    er,
    gradient,
    in_blocks,
    magnitude,
    places,
    random,
    sparsify,
    split,
    top,
    uniform,
)
from thrifty.sparse.blocks import coarse, expanded, kept_with_floor, norms, on_grid
from thrifty.sparse.exchange import exchange


def test_norms_by_hand() -> None:
    # Blocks of 2: sqrt(1 + 4 + 4 + 0) = 3, sqrt(9 + 16) = 5, 0, sqrt(4 * 36) = 12.
    tensor = torch.tensor(
        [[1.0, 2.0, 3.0, 0.0], [2.0, 0.0, 0.0, 4.0], [0.0, 0.0, 6.0, 6.0], [0.0, 0.0, 6.0, -6.0]]
    )
    assert norms(tensor, 2).tolist() == [[3.0, 5.0], [0.0, 12.0]]


def test_scores_see_blocks() -> None:
    weight = torch.arange(16.0).view(4, 4)
    mask = expanded(torch.tensor([[True, False], [True, True]]), 2)
    state = on_grid(LayerState("a", weight, -weight, mask), 2)
    assert state.block == 2
    assert state.mask.tolist() == [[True, False], [True, True]]
    # Top left: 0, 1, 4, 5: sqrt(42).
    assert float(magnitude(state)[0, 0]) == pytest.approx(math.sqrt(42))
    torch.testing.assert_close(magnitude(state), gradient(state))


def test_the_best_of_each_row_and_column_stays() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0], [6.0, 5.0, 4.0], [1.0, 2.0, 3.0]])
    everything = torch.ones(3, 3, dtype=torch.bool)
    # Rows keep 9, 6 and 3, which covers columns 0 and 2; column 1 keeps 8. A fifth is the 7.
    assert kept_with_floor(scores, everything, 5).int().tolist() == [
        [1, 1, 1],
        [1, 0, 0],
        [0, 0, 1],
    ]
    # Three cover rows and columns if each has both to itself: 9, 5, 3 or 8, 6, 3, in rank alike.
    three = kept_with_floor(scores, everything, 3)
    assert three.sum(0).tolist() == three.sum(1).tolist() == [1, 1, 1]
    assert float(scores[three].sum()) == 17.0
    # Two of two rows leave one of three columns empty whatever they are: the best of each row.
    for k in (0, 2):
        assert kept_with_floor(scores[:2], everything[:2], k).int().tolist() == [
            [1, 0, 0],
            [1, 0, 0],
        ]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 40), st.integers(0, 10**6))
def test_floors_hold_and_counts_are_exact(rows: int, columns: int, k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, columns, generator=generator)
    kept = kept_with_floor(scores, torch.ones(rows, columns, dtype=torch.bool), k)
    assert int(kept.sum()) == min(max(k, rows), rows * columns)
    assert kept.any(1).all()
    if k >= max(rows, columns):
        assert kept.any(0).all()


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 10**6))
def test_columns_stay_covered_with_the_fewest_blocks_that_can(
    rows: int, columns: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(rows, columns, generator=generator)
    mask = torch.rand(rows, columns, generator=generator) < 0.6
    assume(bool(mask.any(1).all() and mask.any(0).all()))
    there = mask.nonzero().tolist()
    fewest = next(  # by trying all sets of blocks, small ones first
        size
        for size in range(1, len(there) + 1)
        for chosen in combinations(there, size)
        if len({row for row, _ in chosen}) == rows and len({c for _, c in chosen}) == columns
    )
    kept = kept_with_floor(scores, mask, 0, fewest)
    assert int(kept.sum()) == fewest
    assert not (kept & ~mask).any()
    assert kept.any(0).all()
    assert kept.any(1).all()
    if fewest > rows:
        assert int(kept_with_floor(scores, mask, 0, fewest - 1).sum()) == rows


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4),
    st.floats(0.0, 0.95),
    st.sampled_from([er, uniform]),
    st.sampled_from([2, 4]),
)
def test_budgets_are_whole_blocks_above_the_floors(
    grids: list[tuple[int, int]], sparsity: float, allocate: object, block: int
) -> None:
    shapes = {str(i): torch.Size([a * block, b * block]) for i, (a, b) in enumerate(grids)}
    total = sum(a * b for a, b in grids)
    budget = round((1 - sparsity) * total)
    if budget < sum(a for a, _ in grids):
        with pytest.raises(ValueError, match="need a density of at least"):
            in_blocks(allocate, block)(shapes, sparsity)  # type: ignore[arg-type]
        return
    nnz = in_blocks(allocate, block)(shapes, sparsity)  # type: ignore[arg-type]
    assert sum(nnz.values()) == budget * block**2
    for name, (a, b) in zip(shapes, grids, strict=True):
        assert nnz[name] % block**2 == 0
        assert a <= nnz[name] // block**2 <= a * b
        if budget >= sum(max(grid) for grid in grids):
            assert nnz[name] // block**2 >= b


def test_blocks_move_as_wholes_and_no_row_falls_silent() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 24, bias=False), nn.Linear(24, 8, bias=False))
    schedule = Phases(
        (Phase(20, 1.0, 0.3, 3.0), Phase(30, 0.3, 0.3), Phase(20, 0.3, 1.0)),
        0.5,
        update_every=5,
        density_every=2,
    )
    topology = sparsify(model, sparsity=schedule, allocate=in_blocks(er, 4))
    grow = split((gradient, 3), (random, 1))
    evolution = TopologyEvolution(topology, schedule, grow=grow, block=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    moved = 0
    for _ in range(70):
        optimizer.zero_grad()
        model(torch.randn(8, 16)).square().sum().backward()
        update = evolution.step(optimizer)
        if update is None:
            continue
        moved += sum(layer.grown - layer.regrown for layer in update.layers.values())
        assert topology.nnz == {name: layer.nnz for name, layer in update.layers.items()}
        for name in topology.names:
            mask = topology.mask(name)
            grid = coarse(mask, 4)
            assert torch.equal(expanded(grid, 4), mask)  # whole blocks
            assert grid.any(1).all()
            assert not topology.weight(name)[~mask].any()
    assert moved > 0
    assert topology.sparsity == 0.0


@pytest.mark.parametrize("density", [0.17, 0.2, 0.3])
def test_no_column_falls_silent_where_there_are_enough(density: float) -> None:
    # Grids of 6 x 6 and 6 x 12; at .17 they have 6 and 12 blocks: one in every column.
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 24, bias=False), nn.Linear(24, 48, bias=False))
    schedule = Phases((Phase(20, 1.0, density, 3.0), Phase(20, density, density)), update_every=2)
    topology = sparsify(model, sparsity=schedule, allocate=in_blocks(er, 4))
    evolution = TopologyEvolution(
        topology, schedule, grow=split((gradient, 3), (random, 1)), block=4
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        model(torch.randn(8, 24)).square().sum().backward()
        evolution.step(optimizer)
        for name in topology.names:
            grid = coarse(topology.mask(name), 4)
            assert grid.any(1).all()
            assert grid.any(0).all(), (name, evolution.steps)
    assert topology.sparsity == pytest.approx(1 - density, abs=0.01)


def test_empty_columns_grow_first() -> None:
    # 2 x 3 blocks of 2, three of them and column 2 empty; all gradients are in column 1.
    grid = torch.tensor([[True, True, False], [True, False, False]])
    mask = expanded(grid, 2)
    gradients = torch.zeros(4, 6)
    gradients[:, 2:4] = 1.0
    state = LayerState("a", torch.ones(4, 6) * mask, gradients, mask)
    kept, grown = exchange(state, 12, 0.34, magnitude, top(gradient), block=2)
    after = coarse(kept | grown, 2)
    assert int(after.sum()) == 3
    assert after[:, 2].any()


def test_a_block_of_one_is_the_single_link() -> None:
    weight = torch.randn(6, 5)
    assert in_blocks(er, 1) is er
    torch.testing.assert_close(norms(weight, 1), weight.abs())


def test_the_first_topology_covers_rows_and_columns() -> None:
    model = nn.Linear(32, 16)
    topology = sparsify(model, sparsity=0.75, allocate=in_blocks(er, 4), initial=block_subset(4))
    grid = coarse(topology.mask("weight"), 4)
    assert int(grid.sum()) == 8  # a quarter of 4 x 8
    assert grid.any(0).all()
    assert grid.any(1).all()
    assert places(topology.mask("weight"), 4).tolist() == grid.nonzero().tolist()


def test_what_cannot_be_done_in_blocks_is_refused() -> None:
    shapes = {"a": torch.Size([6, 8])}
    with pytest.raises(ValueError, match=r"blocks of 4 a side do not divide a of shape \(6, 8\)"):
        in_blocks(er, 4)(shapes, 0.5)
    # 3 rows of 4 blocks: 3 of 12 at least.
    with pytest.raises(ValueError, match=r"density of at least 0\.2500 here.* 0\.1000 was asked"):
        in_blocks(er, 2)(shapes, 0.9)
    with pytest.raises(ValueError, match="at least 1 link a side, got 0"):
        in_blocks(er, 0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    topology = sparsify(model, sparsity=0.5, scope="group")
    assert isinstance(topology, Topology)
    with pytest.raises(ValueError, match="blocks are exchanged within a layer"):
        TopologyEvolution(topology, Cosine(0.5, update_every=1, update_until=9), block=2)
