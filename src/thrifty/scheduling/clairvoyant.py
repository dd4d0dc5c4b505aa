"""Recorded scenarios: the bound of whoever knows the record, and the exact score of a table.

Along a known channel path a packet's best energies follow from one backward pass, and one price
meets the budget over the whole record: an upper bound for every scheduler. A table's expected score
on the record follows from the same pass, without simulation. The record is played once, from its
first slot with empty queues; what it brings is averaged over its slots.

One hop. Legend: T slots, F flows, K attempts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.channels import TraceChannel
from thrifty.scheduling.optimum import Optimum, Outcome, balance, highest_price
from thrifty.scheduling.scenarios import Scenario, node_budget

Floats = NDArray[np.float64]


def along(scenario: Scenario, price: float, *, table: Floats | None = None) -> Outcome:
    """Return what the best energies along the record bring at a price, or what a table brings.

    Args:
        scenario: recorded, one hop.
        price: of energy.
        table: energies [1, F, C, 1, K], from the optimum of a fitted scenario.

    Returns:
        reward and energy per slot; table and value are by slot, [T, F, 1, 1, K].

    Raises:
        ValueError: several hops, or a channel that is not recorded.
    """
    channel, law = scenario.channel, scenario.law
    if scenario.hops != 1 or not isinstance(channel, TraceChannel):
        raise ValueError("the clairvoyant bound is for one hop and a recorded channel")
    states = channel.states_at[:, :, 0]
    slots, flows = states.shape
    clock = np.arange(slots)
    counts = scenario.arrivals.rates[clock % scenario.arrivals.period]
    flow = np.arange(flows)
    attenuation = scenario.attenuation[flow, 0, states]  # [T, F]
    most = scenario.most_attempts
    brings = np.zeros((slots + 1, flows, 2))
    energies = np.empty((slots, flows, 1, 1, most))
    value = np.empty_like(energies)
    total = np.zeros(2)
    for k in range(most):
        stay = brings[1:]
        if table is None:
            gain = scenario.weights - (stay[..., 0] - price * stay[..., 1])
            energy = law.best_energy(gain, price, attenuation)
        else:
            energy = table[0, flow, states, 0, k]
        chance = law.probability(energy, attenuation)[..., None]
        now = (1 - chance) * stay
        now[..., 0] += chance[..., 0] * scenario.weights
        now[..., 1] += energy
        brings = np.concatenate([now, np.zeros((1, flows, 2))])
        energies[:, :, 0, 0, k] = energy
        value[:, :, 0, 0, k] = now[..., 0] - price * now[..., 1]
        full = scenario.attempts == k + 1
        # What arrives in slot t is first sent in slot t + 1.
        total += np.einsum("tf,tfc->c", counts[:-1, full], now[1:, full])
    return Outcome(float(total[0]) / slots, total[1:] / slots, energies, value)


def solve(scenario: Scenario, budget: Any) -> Optimum:
    """Return the best of whoever knows the record, under an average budget.

    Raises:
        ValueError: as in :func:`along`, or a negative budget.
    """
    budgets = node_budget(budget, 1)
    free = along(scenario, 0.0)
    if free.energy[0] <= budgets[0]:
        price, shares = 0.0, [(1.0, free)]
    else:
        top = highest_price(scenario)
        price, shares = balance(lambda one: along(scenario, one), float(budgets[0]), top)
    energy = np.asarray(sum(share * one.energy for share, one in shares))
    return Optimum(
        optimum=float(sum(share * one.reward for share, one in shares)),
        multiplier=np.array([price]),
        energy=energy,
        budget=budgets,
        slack=np.maximum(budgets - energy, 0.0),
        tables=tuple(one.table for _, one in shares),
        shares=tuple(share for share, _ in shares),
    )
