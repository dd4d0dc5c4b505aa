"""The exact optimum of a scenario whose channel is seen, by one small table.

Packets meet only in the average budget, so with a price l_h on the energy of node h the problem
falls apart into packets. A packet with k attempts left at hop h, its links in the states c, is
worth ::

    V(h,k,c) = max_e  -l_h e + p_h(e,c_h) E V(h+1,k-1,c') + (1 - p_h(e,c_h)) E V(h,k-1,c')

with V(H,.) = beta (at once) and V(.,0) = 0; the best e is in closed form (``success.py``). The
optimum is ``min over l >= 0 of  sum_f A_f E V_f(0,K_f,.) + l . E_0``: a bisection for one node, a
smooth convex minimisation for several. It bounds every policy, also those with memory or that look
at all users at once, since only the averages enter.

Legend: F flows, H hops, C states of one link, S = C^H joint states of a flow's links, Q slots of
the channel's cycle, K attempts; l price (the multiplier), e energy.

Reference:
    Hu et al., arXiv 2208.14074 (the problem); Singh and Kumar, arXiv 1606.01608 (several hops).
    No discretisation here: ``occupancy.py`` holds the linear programme on levels, as a check.
"""

from __future__ import annotations

import dataclasses
import math
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from thrifty.scheduling.channels import MarkovChannel
from thrifty.scheduling.scenarios import Scenario, node_budget

Floats = NDArray[np.float64]

_MOST_STATES = 4096  # joint states of one flow's links
_HALVINGS = 50  # of the bracket of log prices, which is 41 wide
_UNSPENT = 1e-6  # of a node's budget: what the price vector may leave over or overdraw
_SWEEPS = 100  # over the nodes
_LOWEST = 1e-18  # price, as a fraction of the one at which nothing is worth sending
_LEAST_DRAWN = 1e-3  # price of a trade-off curve, likewise


@dataclasses.dataclass(frozen=True, eq=False)
class Packets:
    """What one packet of each flow meets: the chains of its links and where it starts.

    Args:
        scenario: the problem.
        kernels: joint transition matrix out of each slot of the cycle [Q, F or 1, S, S].
        attenuation: d^3 c of each hop's link in each joint state [F, S, H].
        starts: mean packets per slot that start with k + 1 attempts [K, Q, F, S].
    """

    scenario: Scenario
    kernels: Floats
    attenuation: Floats
    starts: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What a table brings in the long run, per slot.

    Args:
        reward: weighted throughput.
        energy: of each node [H].
        table: energy per attempt [Q, F, S, H, K]; the last index is attempts left minus 1.
        value: what a packet is worth at the prices used [Q, F, S, H, K].
    """

    reward: float
    energy: Floats
    table: Floats
    value: Floats


@dataclasses.dataclass(frozen=True, eq=False)
class Optimum:
    """The best weighted throughput under a budget, and how to get it.

    Args:
        optimum: weighted throughput per slot.
        multiplier: price of each node's energy [H]; 0 where the budget does not bind.
        energy: spent per slot at each node [H].
        budget: given [H].
        slack: budget that is left over [H].
        tables: energies per attempt as in :class:`Outcome`; more than one are mixed.
        shares: of the time, of each table.
    """

    optimum: float
    multiplier: Floats
    energy: Floats
    budget: Floats
    slack: Floats
    tables: tuple[Floats, ...]
    shares: tuple[float, ...]


def packets(scenario: Scenario) -> Packets:
    """Return a scenario's packets in the long run.

    Raises:
        ValueError: a channel that is no chain, or too many hops for joint states.
    """
    kernels, attenuation = _joint(scenario)
    channel = scenario.channel
    assert isinstance(channel, MarkovChannel)
    joint = _product(_per_hop(channel.stationary(), scenario.hops))  # [Q, F or 1, S]
    period = channel.period
    rates = np.zeros((period, scenario.flows))
    both = math.lcm(period, scenario.arrivals.period)
    clock = np.arange(both)
    # What arrives in slot t is first sent in slot t + 1; rates are per slot, not per cycle.
    arriving = scenario.arrivals.rates[clock % scenario.arrivals.period]
    np.add.at(rates, (clock + 1) % period, arriving / both)
    first = rates[..., None] * joint
    starts = np.zeros((scenario.most_attempts, *first.shape))
    for flow, attempts in enumerate(scenario.attempts):
        starts[attempts - 1, :, flow] = first[:, flow]
    return Packets(scenario, kernels, attenuation, starts)


def packets_of_episode(scenario: Scenario, slots: int = 100) -> Packets:
    """Return the packets of an episode that starts empty, every link in a uniform state.

    A packet first sent in slot s has min(K, slots - s) attempts; in slot 0 there is none. Rates are
    per slot of the episode, so optima compare with throughputs averaged over it.

    Reference:
        The episode of the published environment.
    """
    kernels, attenuation = _joint(scenario)
    period, _, states, _ = kernels.shape
    flows = scenario.flows
    starts = np.zeros((scenario.most_attempts, period, flows, states))
    law = np.full((flows, states), 1.0 / states)
    for slot in range(1, slots):
        law = (law[:, None] @ kernels[(slot - 1) % period])[:, 0]
        rates = scenario.arrivals.rates[(slot - 1) % scenario.arrivals.period] / slots
        left = np.minimum(scenario.attempts, slots - slot)
        starts[left - 1, slot % period, np.arange(flows)] += rates[:, None] * law
    return Packets(scenario, kernels, attenuation, starts)


def _joint(scenario: Scenario) -> tuple[Floats, Floats]:
    channel = scenario.channel
    if not isinstance(channel, MarkovChannel):
        raise ValueError("a recorded channel has no long-run optimum: use the clairvoyant bound")
    hops, states = scenario.hops, channel.states
    if states**hops > _MOST_STATES:
        raise ValueError(
            f"{states} states over {hops} hops are {states**hops} joint states, "
            f"more than {_MOST_STATES}: use fewer states or hops"
        )
    kernels = _product(_per_hop(channel.by_slot(), hops), matrices=True)
    digits = np.stack(np.unravel_index(np.arange(states**hops), (states,) * hops), axis=-1)
    links = np.arange(hops)
    attenuation = scenario.attenuation[:, links, digits]  # [F, S, H]
    return kernels, np.asarray(attenuation)


def _per_hop(array: Floats, hops: int) -> list[Floats]:
    """The hops' parts of [Q, F or 1, H or 1, ...]."""
    return [array[:, :, hop % array.shape[2]] for hop in range(hops)]


def _product(parts: list[Floats], *, matrices: bool = False) -> Floats:
    """Joint law (or matrix) of independent links: the Kronecker product over the last axes."""

    def times(a: Floats, b: Floats) -> Floats:
        if matrices:
            both = np.einsum("qfij,qfkl->qfikjl", a, b)
            size = a.shape[-1] * b.shape[-1]
            return np.asarray(both.reshape(*both.shape[:2], size, size))
        both = np.einsum("qfi,qfk->qfik", a, b)
        return np.asarray(both.reshape(*both.shape[:2], -1))

    return reduce(times, parts)


def run(of: Packets, prices: Any, *, table: Floats | None = None, myopic: bool = False) -> Outcome:
    """Return what the best table at given prices brings; or a given table, or the myopic rule.

    Args:
        of: the packets.
        prices: of each node's energy [H].
        table: energies to evaluate instead of the best ones [Q, F, S, H, K].
        myopic: take ``max_e beta p(e) - price e`` at each hop, without a look ahead.
    """
    scenario, kernels = of.scenario, of.kernels
    prices = np.asarray(prices, dtype=np.float64)
    most, period, flows, states = of.starts.shape
    hops = scenario.hops
    law, attenuation = scenario.law, of.attenuation[None]
    weights = scenario.weights[None, :, None, None]
    # Reward and the energy of every node that a packet still brings: [Q, F, S, H, 1 + H].
    brings = np.zeros((period, flows, states, hops, 1 + hops))
    delivered = np.zeros((period, flows, states, 1, 1 + hops))
    delivered[..., 0] = weights
    paid = np.eye(hops)  # node h pays for hop h
    table_out = np.empty((period, flows, states, hops, most))
    value = np.empty_like(table_out)
    total = np.zeros(1 + hops)
    for k in range(most):
        stay = np.roll(brings, -1, axis=0).reshape(period, flows, states, -1)
        stay = (kernels @ stay).reshape(brings.shape)
        forward = np.concatenate([stay[..., 1:, :], delivered], axis=-2)
        if table is not None:
            energy = table[..., k]
        elif myopic:
            hopeful = np.arange(hops) >= hops - 1 - k  # it can still arrive
            energy = law.best_energy(weights * hopeful, prices, attenuation)
        else:
            gain = _at(forward, prices) - _at(stay, prices)
            energy = law.best_energy(gain, prices, attenuation)
        chance = law.probability(energy, attenuation)[..., None]
        brings = stay + chance * (forward - stay)
        brings[..., 1:] += energy[..., None] * paid
        table_out[..., k] = energy
        value[..., k] = _at(brings, prices)
        total += np.einsum("qfs,qfsc->c", of.starts[k], brings[..., 0, :])
    return Outcome(float(total[0]), total[1:], table_out, value)


def _at(brings: Floats, prices: Floats) -> Floats:
    return np.asarray(brings[..., 0] - brings[..., 1:] @ prices)


def highest_price(scenario: Scenario) -> float:
    """Return a price of energy at which nothing is worth sending."""
    grid = np.linspace(0.0, 1.0, 101)
    steepest = scenario.law.slope(grid, scenario.attenuation[..., None]).max(axis=(1, 2, 3))
    return float(np.max(scenario.weights * steepest)) * (1 + 1e-9) or 1.0


def solve(scenario: Scenario, budget: Any, *, of: Packets | None = None) -> Optimum:
    """Return the exact optimum under an average energy budget.

    Args:
        scenario: the problem.
        budget: E_0, energy per slot, one number or one for each node.
        of: the packets, if not those of the long run (:func:`packets_of_episode`).

    Raises:
        ValueError: a negative budget, or a scenario without a table (recorded channel).

    Example:
        >>> from thrifty.scheduling.scenarios import scenario
        >>> round(solve(scenario("S1"), 10.0).optimum, 3)
        14.301
    """
    budgets = node_budget(budget, scenario.hops)
    of = packets(scenario) if of is None else of
    free = run(of, np.zeros(scenario.hops))
    if np.all(free.energy <= budgets):
        return _made(free.reward, np.zeros(scenario.hops), budgets, [(1.0, free)])
    top = highest_price(scenario)
    if not budgets.any():
        prices = np.full(scenario.hops, top)
        return _made(0.0, prices, budgets, [(1.0, run(of, prices))])
    if scenario.hops == 1:
        price, shares = balance(lambda price: run(of, [price]), float(budgets[0]), top)
        reward = sum(share * one.reward for share, one in shares)
        return _made(reward, np.array([price]), budgets, shares)
    if not scenario.law.concave:
        raise ValueError("the optimum over several hops needs a success law that is concave")
    prices = _price_vector(of, budgets, top)
    best = run(of, prices)
    bound = best.reward + float(prices @ (budgets - best.energy))
    return _made(bound, prices, budgets, [(1.0, best)])


def balance(
    outcome: Any, budget: float, top: float, *, halvings: int = _HALVINGS
) -> tuple[float, list[tuple[float, Any]]]:
    """Return the price at which the budget is spent, and the outcomes to mix there.

    Args:
        outcome: price -> something with ``energy``, which falls (perhaps by jumps) as the price
            rises and is above the budget at price 0.
        budget: energy per slot.
        top: a price at which no energy is spent.
        halvings: of the bracket on the logarithm.

    Returns:
        the price, and (share, outcome) of the two ends of the bracket; the shares meet the budget.
    """
    low, high = top * _LOWEST, top
    above, below = outcome(0.0), outcome(high)
    for _ in range(halvings):
        middle = math.sqrt(low * high)
        found = outcome(middle)
        if np.sum(found.energy) > budget:
            low, above = middle, found
        else:
            high, below = middle, found
    more, less = float(np.sum(above.energy)), float(np.sum(below.energy))
    share = 1.0 if more <= less else min(1.0, max(0.0, (budget - less) / (more - less)))
    return high, [(share, above), (1.0 - share, below)]


def _price_vector(of: Packets, budgets: Floats, top: float) -> Floats:
    """Minimise the dual over prices >= 0; its gradient is what is left of each budget."""

    def dual(prices: Floats) -> tuple[float, Floats]:
        found = run(of, prices)
        spare = budgets - found.energy
        return found.reward + float(prices @ spare), spare

    first = np.full(len(budgets), float(of.scenario.weights.max()) / 4)
    found = minimize(
        dual,
        first,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, top)] * len(budgets),
        options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 500, "maxls": 50},
    )
    prices = np.asarray(found.x)
    for _ in range(_SWEEPS):  # none as a rule; where the line search ended early, one by one
        if _balanced(run(of, prices).energy, budgets, prices):
            break
        for hop in range(len(budgets)):
            prices[hop] = _own_price(of, prices, hop, float(budgets[hop]), top)
    return prices


def _balanced(energy: Floats, budgets: Floats, prices: Floats) -> bool:
    """Whether every node spends its budget, or less at price 0."""
    over = energy - budgets
    unspent = np.where(prices > 0, np.abs(over), np.maximum(over, 0.0))
    return bool(np.all(unspent <= _UNSPENT * np.maximum(budgets, 1e-3)))


def _own_price(of: Packets, prices: Floats, hop: int, budget: float, top: float) -> float:
    """The least price of one node, the others' fixed, at which it does not overspend."""

    def overspends(price: float) -> bool:
        trial = prices.copy()
        trial[hop] = price
        return bool(run(of, trial).energy[hop] > budget)

    if not overspends(0.0):
        return 0.0
    low, high = top * _LOWEST, top
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if overspends(middle) else (low, middle)
    return high


def _made(
    reward: float, prices: Floats, budgets: Floats, shares: list[tuple[float, Any]]
) -> Optimum:
    kept = [(share, one) for share, one in shares if share > 0]
    energy = np.sum([share * one.energy for share, one in kept], axis=0)
    return Optimum(
        optimum=reward,
        multiplier=prices,
        energy=energy,
        budget=budgets,
        slack=np.maximum(budgets - energy, 0.0),
        tables=tuple(one.table for _, one in kept),
        shares=tuple(share for share, _ in kept),
    )


def frontier(scenario: Scenario, *, points: int = 12) -> list[Optimum]:
    """Return optima over budgets from a fiftieth of the all-in energy up to all of it.

    Args:
        scenario: the problem; over several hops every node gets the same fraction of its own.
        points: how many budgets.
    """
    of = packets(scenario)
    most = run(of, np.zeros(scenario.hops)).energy
    return [solve(scenario, most * part, of=of) for part in np.geomspace(0.02, 1.0, points)]


def trade_off(scenario: Scenario, total: float, *, points: int = 80) -> Floats:
    """Return the exact curve of most throughput over total energy, through one total.

    Nodes have one price and share the energy as is best, so that no scheduler lies above the
    curve, however it splits its energy. Between its points the curve is a little higher than a
    straight line.

    Args:
        scenario: the problem.
        total: energy per slot of all nodes together; a point of the curve.
        points: at how many prices besides.

    Returns:
        (total energy, throughput) by rising energy [P, 2].

    Example:
        >>> from thrifty.scheduling.scenarios import scenario
        >>> curve = trade_off(scenario("S1"), 10.0)
        >>> round(float(np.interp(10.0, *curve.T)), 3)
        14.301
    """
    of, top = packets(scenario), highest_price(scenario)

    def at(price: float) -> Outcome:
        return run(of, np.full(scenario.hops, price))

    high, low = np.linspace(0.1, 1.0, points // 2), np.geomspace(_LEAST_DRAWN, 0.1, points // 2)
    found = [at(price) for price in (*high * top, *low[:-1] * top, 0.0)]
    curve = [(float(one.energy.sum()), one.reward) for one in found]
    if total < curve[-1][0]:
        shares = balance(at, total, top)[1]
        curve.append((total, sum(share * one.reward for share, one in shares)))
    return np.array(sorted(curve))


def myopic(scenario: Scenario, budget: Any, *, of: Packets | None = None) -> Optimum:
    """Return what the myopic priced rule brings in the long run at the price that meets the budget.

    Over several hops each node has its own price, raised until its own energy meets its budget.
    """
    budgets = node_budget(budget, scenario.hops)
    of = packets(scenario) if of is None else of
    top = highest_price(scenario)
    if scenario.hops == 1:
        if run(of, [0.0], myopic=True).energy[0] <= budgets[0]:
            free = run(of, [0.0], myopic=True)
            return _made(free.reward, np.zeros(1), budgets, [(1.0, free)])
        price, shares = balance(lambda one: run(of, [one], myopic=True), float(budgets[0]), top)
        return _made(sum(s * one.reward for s, one in shares), np.array([price]), budgets, shares)
    prices = np.full(scenario.hops, top * _LOWEST)
    for _ in range(30):  # a node's energy depends on its own price and those before it
        before = prices.copy()
        for hop in range(scenario.hops):
            low, high = top * _LOWEST, top
            for _ in range(_HALVINGS):
                prices[hop] = math.sqrt(low * high)
                spent = run(of, prices, myopic=True).energy[hop]
                low, high = (prices[hop], high) if spent > budgets[hop] else (low, prices[hop])
            prices[hop] = high
        if np.allclose(prices, before, rtol=1e-6):
            break
    found = run(of, prices, myopic=True)
    return _made(found.reward, prices, budgets, [(1.0, found)])
