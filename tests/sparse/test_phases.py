from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thrifty.sparse import (
    Phase,
    Phases,
    TopologyEvolution,
    er,
    gradient,
    random,
    sparsify,
    split,
    subset,
)


def three(update_every: int = 20, density_every: int = 10) -> Phases:
    return Phases(
        (Phase(100, 1.0, 0.1, 3.0), Phase(200, 0.1, 0.1), Phase(100, 0.1, 0.6)),
        0.4,
        update_every=update_every,
        density_every=density_every,
    )


def test_densities_by_hand() -> None:
    phases = three()
    # Cubic: .1 + .9 * (1 - x)^3; at x = .5: .1 + .9 / 8. Line: .1 + .5 x.
    expected = {0: 1.0, 50: 0.2125, 100: 0.1, 200: 0.1, 300: 0.1, 350: 0.35, 400: 0.6, 500: 0.6}
    for step, density in expected.items():
        assert phases.density(step) == pytest.approx(density)
        assert phases.sparsity(step) == pytest.approx(1.0 - density)
    assert [phases.phase(step) for step in (1, 100, 101, 300, 301, 400, 401)] == [
        *(0, 0, 1, 1, 2, 2, 2)
    ]


def test_the_drop_fraction_has_a_cosine_of_its_own_in_each_phase() -> None:
    phases = three()
    # zeta / 2 (1 + cos(pi x)): x = .2 at step 20, x = .5 at 200, x = .2 at 320; 0 in between.
    assert phases.drop_fraction(20) == pytest.approx(0.2 * (1 + math.cos(0.2 * math.pi)))
    assert phases.drop_fraction(200) == pytest.approx(0.2)
    assert phases.drop_fraction(320) == pytest.approx(phases.drop_fraction(20))
    assert phases.drop_fraction(30) == phases.drop_fraction(400) == phases.drop_fraction(420) == 0.0


def test_the_density_moves_more_often_than_links_are_exchanged() -> None:
    phases = three()
    due = [step for step in range(450) if phases.is_due(step)]
    moving = [1, *range(10, 101, 10)]
    still = [101, *range(120, 301, 20)]
    back = [301, *range(310, 401, 10)]
    assert due == [*moving, *still, *back]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 9))
def test_the_last_step_of_a_moving_phase_arrives(
    lengths: list[int], update_every: int, density_every: int
) -> None:
    densities = [1.0, 0.2, 0.5, 0.3, 0.9]
    parts = tuple(Phase(length, densities[i], densities[i + 1]) for i, length in enumerate(lengths))
    phases = Phases(parts, update_every=update_every, density_every=density_every)
    end = 0
    for part in parts:
        end += part.steps
        if part.steps:
            assert phases.is_due(end)
            assert phases.density(end) == part.end
    assert not phases.is_due(end + 1)
    assert phases.due() == [step for step in range(end + 2) if phases.is_due(step)]


def test_budgets_move_and_mixed_growth_counts() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30, bias=False), nn.Linear(30, 10, bias=False))
    schedule = three()
    topology = sparsify(model, sparsity=schedule, allocate=er, initial=subset)
    assert topology.sparsity == 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    grow = split((gradient, 3), (random, 1))
    evolution = TopologyEvolution(topology, schedule, grow=grow, seed=1)
    for step in range(1, 401):
        optimizer.zero_grad()
        model(torch.randn(4, 20)).square().sum().backward()
        grads = {name: topology.grad(name).clone() for name in topology.names}
        before = {name: topology.mask(name).clone() for name in topology.names}
        update = evolution.step(optimizer)
        if update is None:
            continue
        # Erdos-Renyi at the density of the step, in whole links.
        assert topology.nnz == er(topology.shapes, schedule.sparsity(step))
        assert sum(topology.nnz.values()) == round(schedule.density(step) * 900)
        if step in (310, 330):  # nothing is dropped there: all growth is in new places
            for name in topology.names:
                grown = topology.mask(name) & ~before[name]
                k = int(grown.sum())
                size = grads[name].abs().masked_fill(before[name], -1.0).flatten()
                best = torch.zeros_like(size).bool()
                best[size.topk(round(3 * k / 4 + 1e-9)).indices] = True
                # Three quarters by gradient, the rest anywhere.
                share = int((best.view_as(grown) & grown).sum())
                assert share >= math.floor(3 * k / 4)
                assert share < k
    assert topology.sparsity == pytest.approx(0.4)


def test_numbers_out_of_range_are_refused() -> None:
    for arguments, message in (
        ((-1, 0.5, 0.5), "at least 0 steps, got -1"),
        ((1, 0.0, 0.5), r"density must lie in \(0, 1\], got 0.0"),
        ((1, 0.5, 1.5), r"density must lie in \(0, 1\], got 1.5"),
        ((1, 0.5, 0.5, 0.0), "power must be more than 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Phase(*arguments)
    with pytest.raises(ValueError, match="at least one phase"):
        Phases((), update_every=1)
    with pytest.raises(ValueError, match=r"initial_drop_fraction must lie in \[0, 1\], got 2"):
        Phases((Phase(1, 1.0, 1.0),), 2.0, update_every=1)
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 1"):
        Phases((Phase(1, 1.0, 1.0),), update_every=0)
