"""Bounds and anchors where the channel is not seen: delayed, blind.

* **Delayed**: the channel of the slot before is seen. Past channels make past successes
  uninformative, so this is the optimum for a delay of one slot and an upper bound for longer ones
  and for a hidden channel.
* **Blind**: energies depend on flow and slots left alone (and the channel cycle's phase). Neither
  memory nor channel: what the other end of the scale is. Not concave, so it is searched from many
  starts, and two tables are mixed to meet the budget: a value that is reached, not a bound.

One hop. Legend: F flows, C states, Q slots of the channel's cycle, K attempts, e energy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling.optimum import (
    Optimum,
    Outcome,
    Packets,
    balance,
    highest_price,
    packets,
)
from thrifty.scheduling.scenarios import Scenario, node_budget
from thrifty.scheduling.success import SuccessLaw

Floats = NDArray[np.float64]

_HALVINGS = 30  # of the unit interval of energies
_GRID = 101
_STARTS = 24
_SWEEPS = 60
_CHANGE = 1e-6  # of energies, that ends the sweeps


def best_under_doubt(
    law: SuccessLaw,
    belief: Floats,
    gain: Floats,
    price: float,
    attenuation: Floats,
    *,
    halvings: int = _HALVINGS,
) -> Floats:
    """Return the energy that is best on average over states.

    Maximises ``sum_c belief_c (gain_c p(e, a_c) - price e)`` over 0 <= e <= 1.

    Args:
        law: concave laws are halved, others searched on a grid.
        belief: weights of the states, last axis C.
        gain: what success is worth beyond failure in each state, last axis C, not negative.
        price: of energy.
        attenuation: last axis C.
        halvings: of the unit interval.
    """
    weight = belief * gain
    cost = price * belief.sum(axis=-1)
    shape = np.broadcast_shapes(weight.shape, attenuation.shape)[:-1]
    if not law.concave:
        best, found = np.full(shape, -np.inf), np.zeros(shape)
        for energy in np.linspace(0.0, 1.0, _GRID):
            worth = (weight * law.probability(energy, attenuation)).sum(axis=-1) - cost * energy
            found = np.where(worth > best, energy, found)
            best = np.maximum(worth, best)
        return found
    low, high = np.zeros(shape), np.ones(shape)
    for _ in range(halvings):
        middle = 0.5 * (low + high)
        rising = (weight * law.slope(middle[..., None], attenuation)).sum(axis=-1) > cost
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return np.where(low == 0.0, 0.0, high)  # 0 is meant where the slope never exceeds the price


def delayed_outcome(of: Packets, price: float) -> Outcome:
    """Return what the best table on the channel of the slot before brings.

    Args:
        of: the packets of a scenario with one hop.
        price: of energy.

    Returns:
        table and value [Q, F, C, 1, K]: the state is that of the slot before.
    """
    _one_hop(of.scenario)
    scenario, law = of.scenario, of.scenario.law
    most, period, flows, states = of.starts.shape
    before = np.roll(of.kernels, 1, axis=0)  # the matrix into slot q
    before = np.broadcast_to(before, (period, flows, states, states))
    attenuation = of.attenuation[None, :, None, :, 0]  # by the state that is met
    weights = scenario.weights[None, :, None, None]
    worth = np.zeros((period, flows, states))
    brings = np.zeros((period, flows, states, 2))
    table = np.empty((period, flows, states, 1, most))
    value = np.empty_like(table)
    total = np.zeros(2)
    # A packet starts with the state before it at its long-run law: the start's own, one slot back.
    first = _one_back(of)
    for k in range(most):
        later = np.roll(worth, -1, axis=0)[:, :, None, :]  # by the state that is met
        energy = best_under_doubt(law, before, weights - later, price, attenuation)
        chance = law.probability(energy[..., None], attenuation)
        after = np.roll(brings, -1, axis=0)[:, :, None]
        stay = (before * (1 - chance))[..., None] * after
        brings = stay.sum(axis=-2)
        brings[..., 0] += (before * chance * weights).sum(axis=-1)
        brings[..., 1] += energy
        worth = brings[..., 0] - price * brings[..., 1]
        table[..., 0, k], value[..., 0, k] = energy, worth
        total += np.einsum("qfs,qfsc->c", first[k], brings)
    return Outcome(float(total[0]), total[1:], table, value)


def _one_back(of: Packets) -> Floats:
    """The starts' rates by the state of the slot before, which is stationary as well."""
    channel = of.scenario.channel
    law = np.roll(channel.stationary()[:, :, 0], 1, axis=0)  # type: ignore[union-attr]
    return np.asarray(of.starts.sum(axis=-1, keepdims=True) * law)


def delayed(scenario: Scenario, budget: Any) -> Optimum:
    """Return the optimum where the channel of the slot before is seen.

    An upper bound for longer delays and for a hidden channel.

    Raises:
        ValueError: several hops, or a budget that is negative.
    """
    of = packets(scenario)
    return _under_budget(scenario, budget, lambda price: delayed_outcome(of, price))


def blind_outcome(of: Packets, price: float, *, starts: int = _STARTS, seed: int = 0) -> Outcome:
    """Return what the best open-loop energies found bring.

    Energies are improved one at a time with all others fixed, each exactly, from many starts at
    once; a packet's survivors and their channels are propagated without approximation.

    Args:
        of: the packets of a scenario with one hop.
        price: of energy.
        starts: constant and random ones.
        seed: of the random starts.

    Returns:
        table [Q, F, C, 1, K], the same in all states.
    """
    _one_hop(of.scenario)
    scenario, law = of.scenario, of.scenario.law
    most, period, flows, states = of.starts.shape
    attenuation = of.attenuation[None, None, :, :, 0]
    weights = scenario.weights[:, None]
    kernels = np.broadcast_to(of.kernels, (period, flows, states, states))
    # One problem for each slot of the cycle in which a packet begins: energies [N, Q, F, K].
    generator = np.random.default_rng(seed)
    energy = generator.random((starts, period, flows, most))
    constants = np.linspace(0.0, 1.0, min(5, starts))
    energy[: len(constants)] = constants[:, None, None, None]
    arriving = of.starts.sum(axis=0)  # [Q, F, C]
    begin = scenario.attempts  # k counts down from here
    rate = arriving.sum(axis=-1)
    first = arriving / np.where(rate > 0, rate, 1.0)[..., None]
    for _ in range(_SWEEPS):
        before = energy.copy()
        alive = _survivors(first, kernels, energy, begin, law, attenuation)
        later = np.zeros((starts, period, flows, states))
        for k in range(most):
            energy[..., k] = best_under_doubt(law, alive[k], weights - later, price, attenuation)
            here = law.probability(energy[..., k, None], attenuation)
            here = here * weights + (1 - here) * later - price * energy[..., k, None]
            # What failing the attempt before leaves: this one, in the state moved to.
            later = np.einsum("qfcd,nqfd->nqfc", _matrix(kernels, begin, k + 1), here)
        if np.abs(energy - before).max() < _CHANGE:
            break
    alive = _survivors(first, kernels, energy, begin, law, attenuation)
    chance = law.probability(energy[..., None], attenuation[..., None, :])  # [N, Q, F, K, C]
    living = np.moveaxis(alive, 0, 3)
    gained = (living * chance).sum(axis=(-2, -1)) * scenario.weights
    paid = (living.sum(axis=-1) * energy).sum(axis=-1)
    best = np.argmax(gained - price * paid, axis=0)[None]
    gained, paid = (np.take_along_axis(one, best, axis=0)[0] for one in (gained, paid))
    chosen = np.take_along_axis(energy, best[..., None], axis=0)[0]  # by slot of beginning
    table = np.empty((period, flows, states, 1, most))
    for flow, attempts in enumerate(begin):
        for k in range(most):  # in slot q are those with k + 1 left that began attempts - 1 - k ago
            table[:, flow, :, 0, k] = np.roll(chosen[:, flow, k], attempts - 1 - k)[:, None]
    reward, energy_all = float((rate * gained).sum()), np.array([(rate * paid).sum()])
    return Outcome(reward, energy_all, table, np.zeros_like(table))


def _matrix(kernels: Floats, begin: Any, k: int) -> Floats:
    """The matrix that moves a packet's channel after its attempt k + 1, by slot of beginning."""
    period, flows = kernels.shape[:2]
    ago = begin[None, :] - 1 - k
    slot = (np.arange(period)[:, None] + ago) % period
    return np.asarray(kernels[slot, np.arange(flows)[None]])


def _survivors(
    first: Floats, kernels: Floats, energy: Floats, begin: Any, law: SuccessLaw, attenuation: Floats
) -> Floats:
    """Law of (not delivered, channel) at each attempt [K, N, Q, F, C]."""
    starts, *_, most = energy.shape
    alive = np.zeros((most, starts, *first.shape))
    for k in range(most - 1, -1, -1):
        starting = (begin - 1 == k)[:, None]
        alive[k] = np.where(starting, first, alive[k])
        if k:
            left = alive[k] * (1 - law.probability(energy[..., k, None], attenuation))
            alive[k - 1] = np.einsum("nqfc,qfcd->nqfd", left, _matrix(kernels, begin, k))
    return alive


def blind(scenario: Scenario, budget: Any, *, starts: int | None = None, seed: int = 0) -> Optimum:
    """Return the best that was found without memory and channel, two tables mixed.

    Args:
        scenario: the problem.
        budget: energy per slot.
        starts: of the search; 24 if left out, fewer for a channel with a cycle (at least 4).
        seed: of the random starts.

    Raises:
        ValueError: several hops, or a budget that is negative.
    """
    of = packets(scenario)
    many = max(4, _STARTS // len(of.kernels)) if starts is None else starts

    def outcome(price: float) -> Outcome:
        return blind_outcome(of, price, starts=many, seed=seed)

    return _under_budget(scenario, budget, outcome, halvings=26)


def _under_budget(scenario: Scenario, budget: Any, outcome: Any, *, halvings: int = 34) -> Optimum:
    budgets = node_budget(budget, scenario.hops)
    top = highest_price(scenario)
    free = outcome(0.0)
    if free.energy[0] <= budgets[0]:
        price, shares = 0.0, [(1.0, free)]
    else:
        price, shares = balance(outcome, float(budgets[0]), top, halvings=halvings)
    kept = [(share, one) for share, one in shares if share > 0]
    energy = sum(share * one.energy for share, one in kept)
    return Optimum(
        optimum=float(sum(share * one.reward for share, one in kept)),
        multiplier=np.array([price]),
        energy=energy,
        budget=budgets,
        slack=np.maximum(budgets - energy, 0.0),
        tables=tuple(one.table for _, one in kept),
        shares=tuple(share for share, _ in kept),
    )


def _one_hop(scenario: Scenario) -> None:
    if scenario.hops != 1:
        raise ValueError(f"this bound is for one hop, {scenario.name} has {scenario.hops}")
