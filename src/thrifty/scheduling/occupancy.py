"""The linear programme over occupancy measures: an independent check of the optimum.

Variables x(q, f, k, h, s, a): packets per slot of flow f that are at hop h with k + 1 attempts
left, in slot q of the channel's cycle and joint channel state s, and are sent with energy level a.
The averages of *any* policy satisfy the balance equations, so the optimum over the levels is an
optimum over all policies that use these levels; it approaches the exact one from below.

Solved by HiGHS through SciPy. Nothing here is shared with the recursion of ``optimum.py`` but the
description of the packets.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from thrifty.scheduling.optimum import packets
from thrifty.scheduling.scenarios import Scenario, node_budget

Floats = NDArray[np.float64]


def solve(scenario: Scenario, budget: Any, *, levels: int = 41) -> tuple[float, Floats]:
    """Return the optimum over energy levels, and the multiplier of each node.

    Args:
        scenario: the problem.
        budget: energy per slot, one number or one for each node.
        levels: equally spaced energies in [0, 1], at least 2.

    Returns:
        weighted throughput per slot, and the budgets' shadow prices [H].

    Raises:
        ValueError: fewer than two levels, a negative budget.
    """
    if levels < 2:
        raise ValueError(f"the programme needs at least 2 energy levels, got {levels}")
    budgets = node_budget(budget, scenario.hops)
    of = packets(scenario)
    most, period, flows, states = of.starts.shape
    hops, energy = scenario.hops, np.linspace(0.0, 1.0, levels)
    kernels = np.broadcast_to(of.kernels, (period, flows, states, states))
    nodes = (period, flows, most, hops, states)
    number = np.arange(int(np.prod(nodes))).reshape(nodes)  # of a balance equation
    variable = np.arange(number.size * levels).reshape(*nodes, levels)

    # [F, S, H, A] -> the axes of the variables
    chance = scenario.law.probability(energy, of.attenuation[..., None])
    chance = np.broadcast_to(np.moveaxis(chance, 2, 1)[None, :, None], (*nodes, levels))
    rows, columns, entries = [number.repeat(levels)], [variable.ravel()], [np.ones(variable.size)]

    def flow_into(source: Any, target: Any, share: Floats) -> None:
        """Packets of ``source`` [Q, F, K', S, A] that are at ``target`` [Q, F, K', S] next."""
        shape = (*target.shape[:3], states, states, levels)  # from s (axis 3) to s' (axis 4)
        moved = kernels[:, :, None, :, :, None] * share[..., :, None, :]
        to = np.broadcast_to(np.roll(target, -1, axis=0)[:, :, :, None, :, None], shape)
        rows.append(to.ravel())
        columns.append(np.broadcast_to(source[..., :, None, :], shape).ravel())
        entries.append(-np.broadcast_to(moved, shape).ravel())

    for hop in range(hops):
        here, p = variable[:, :, 1:, hop], chance[:, :, 1:, hop]
        flow_into(here, number[:, :, :-1, hop], 1.0 - p)
        if hop + 1 < hops:
            flow_into(here, number[:, :, :-1, hop + 1], p)
    starts = np.zeros(nodes)
    starts[:, :, :, 0] = np.moveaxis(of.starts, 0, 2)
    value = np.concatenate(entries)
    kept = value != 0.0
    place = np.concatenate(rows)[kept], np.concatenate(columns)[kept]
    balance = coo_matrix((value[kept], place), shape=(number.size, variable.size)).tocsr()

    gain = np.zeros((*nodes, levels))
    gain[:, :, :, -1] = chance[:, :, :, -1] * scenario.weights[:, None, None, None]
    hop_of = np.broadcast_to(np.arange(hops)[:, None, None], (*nodes, levels)).ravel()
    spent = np.broadcast_to(energy, (*nodes, levels)).ravel()
    cost = coo_matrix((spent, (hop_of, np.arange(spent.size))), shape=(hops, spent.size)).tocsr()
    found = linprog(
        -gain.ravel(), A_ub=cost, b_ub=budgets, A_eq=balance, b_eq=starts.ravel(), method="highs"
    )
    assert found.success, found.message
    return -float(found.fun), -np.asarray(found.ineqlin.marginals)
