"""Instances on which risk matters, each with what is known of it exactly.

Most random MDPs have the same best policy at every risk level; these have not.
Stages are h = 1..H in the formulas of the docstrings, as in the papers.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from thrifty.episodic.linear_mixture import LinearMixtureMDP
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers

LOW, MIDDLE, HIGH = 0.2, 0.8, 1.0  # rewards of the hard chain's absorbing states


def hard_chain(
    *, n: int = 4, horizon: int = 12, risk_level: float = 0.3, gap: float = 0.02, actions: int = 4
) -> EpisodicMDP:
    """Return the instance of the lower bound of Du, Wang and Huang (ICLR 2023).

    States s_1..s_n (reward 0), then x_1, x_2, x_3, absorbing with rewards 1, .8, .2. Whatever is
    done, s_1 leads to s_2, x_1, x_2, x_3 with probabilities alpha, 1 - 3 alpha, alpha, alpha, and
    s_i to s_{i+1} with alpha and to x_1 otherwise. In s_n action 0 leads to x_2 with probability
    1 - alpha + gap, every other action with 1 - alpha, and to x_3 otherwise. One learns about s_n
    only when it is reached, with probability alpha^(n-1), but the iterated CVaR at level alpha
    looks at nothing else.

    Exact, with L = H - n: the value of s_n at stage n is L (.2 + .6 gap / alpha), a wrong action
    loses .6 L gap / alpha, and V*_1 = min(L (.2 + .6 gap / alpha), .2 (H - 1)); see
    :func:`hard_chain_value`. Where the second term is the smaller one, s_n does not matter.

    Args:
        n: regular states, at least 2.
        horizon: H, above n.
        risk_level: alpha, at most 1/3.
        gap: eta, in [0, alpha].
        actions: A, at least 2.

    Raises:
        ValueError: an argument is out of its range.
    """
    if n < 2 or horizon <= n or actions < 2:
        raise ValueError(
            f"the chain needs n >= 2, horizon > n, actions >= 2: {(n, horizon, actions)}"
        )
    if not 0.0 < risk_level <= 1.0 / 3.0 or not 0.0 <= gap <= risk_level:
        raise ValueError(
            f"the chain needs 0 < risk_level <= 1/3 and 0 <= gap <= risk_level: {risk_level}, {gap}"
        )
    P = _chain(n, actions, risk_level)
    P[n - 1, :, n + 1], P[n - 1, :, n + 2] = 1.0 - risk_level, risk_level
    P[n - 1, 0, n + 1], P[n - 1, 0, n + 2] = 1.0 - risk_level + gap, risk_level - gap
    return EpisodicMDP.from_arrays(
        P, _chain_rewards(n, actions), horizon=horizon, name="hard_chain"
    )


def hard_chain_value(n: int, horizon: int, risk_level: float, gap: float) -> float:
    """Return V*_1(s_1) of :func:`hard_chain` at its own risk level, in closed form."""
    deep = (horizon - n) * (LOW + (MIDDLE - LOW) * gap / risk_level)
    return min(deep, LOW * (horizon - 1))


def linear_hard_chain(
    *,
    n: int = 3,
    horizon: int = 6,
    risk_level: float = 0.3,
    gap: float = 0.01,
    dimension: int = 4,
    signs: Integers | None = None,
) -> LinearMixtureMDP:
    """Return the hard chain whose last state is a linear bandit: a linear mixture of d parameters.

    The actions are all a in {-1, 1}^(d-1), in the order of ``itertools.product``. In s_n action a
    leads to x_3 with probability q(a) = alpha - (d-1) gap - gap <m, a> and to x_2 otherwise, for
    hidden signs m; q lies in [alpha - 2 (d-1) gap, alpha], so the CVaR is linear in it:
    the value of a in s_n is L (.2 + .6 (1 - q(a) / alpha)), and every wrong sign loses
    1.2 L gap / alpha (L = H - n). The best value is that of :func:`hard_chain` with
    eta = 2 (d-1) gap.

    The factor gap is split between features and parameters (Zhou, Gu and Szepesvari, COLT 2021):
    theta = c (sqrt(gap) m, 1), phi(x_2 | s_n, a) = (sqrt(gap) a, 1 - alpha + (d-1) gap) / c,
    phi(x_3 | s_n, a) = (-sqrt(gap) a, alpha - (d-1) gap) / c, c = sqrt(1 + (d-1) gap); everywhere
    else only the last feature is used.

    Args:
        n: regular states, at least 2.
        horizon: H, above n.
        risk_level: alpha, at most 1/3.
        gap: Delta, with 2 (d-1) gap <= alpha.
        dimension: d, at least 2.
        signs: m, [d-1] of -1 and 1; all 1 if left out.

    Raises:
        ValueError: an argument is out of its range.
    """
    if n < 2 or horizon <= n or dimension < 2:
        raise ValueError(
            f"the chain needs n >= 2, horizon > n, dimension >= 2: {(n, horizon, dimension)}"
        )
    if not 0.0 < risk_level <= 1.0 / 3.0 or not 0.0 <= 2 * (dimension - 1) * gap <= risk_level:
        raise ValueError(
            "the chain needs 0 < risk_level <= 1/3 and 0 <= 2 (dimension - 1) gap <= risk_level: "
            f"{risk_level}, {gap}"
        )
    m = np.ones(dimension - 1) if signs is None else np.asarray(signs, dtype=np.float64)
    if m.shape != (dimension - 1,) or not (np.abs(m) == 1.0).all():
        raise ValueError(f"signs must be {dimension - 1} numbers -1 or 1, not {signs!r}")
    choices = np.array(list(itertools.product((-1.0, 1.0), repeat=dimension - 1)))
    A, scale = len(choices), math.sqrt(1.0 + (dimension - 1) * gap)
    base = risk_level - (dimension - 1) * gap
    phi = np.zeros((n + 3, A, n + 3, dimension))
    phi[..., -1] = _chain(n, A, risk_level)
    phi[n - 1, :, n + 1, -1], phi[n - 1, :, n + 2, -1] = 1.0 - base, base
    phi[n - 1, :, n + 1, :-1] = math.sqrt(gap) * choices
    phi[n - 1, :, n + 2, :-1] = -math.sqrt(gap) * choices
    return LinearMixtureMDP.from_parts(
        phi / scale,
        scale * np.append(math.sqrt(gap) * m, 1.0),
        _chain_rewards(n, A),
        horizon=horizon,
        name="linear_hard_chain",
    )


def _chain(n: int, actions: int, risk_level: float) -> Floats:
    """Return the kernel [S, A, S] of the chain, without the row of s_n."""
    P = np.zeros((n + 3, actions, n + 3))
    P[0, :, n : n + 3] = 1.0 - 3.0 * risk_level, risk_level, risk_level
    P[0, :, 1] = risk_level
    for i in range(1, n - 1):
        P[i, :, i + 1], P[i, :, n] = risk_level, 1.0 - risk_level
    for x in range(n, n + 3):
        P[x, :, x] = 1.0
    return P


def _chain_rewards(n: int, actions: int) -> Floats:
    r = np.zeros((n + 3, actions))
    r[n:] = np.array([HIGH, MIDDLE, LOW])[:, None]
    return r


def two_door(*, safe: float = 0.6, failure: float = 0.1) -> EpisodicMDP:
    """Return the choice between a sure reward and one that fails with a small probability.

    H = 2. Action 0 opens the safe door: reward v at the second stage. Action 1 opens the risky one:
    reward 1 with probability 1 - p, otherwise 0. The CVaR of the risky door is
    1 - min(p, alpha) / alpha, so it is the better one exactly if alpha > p / (1 - v); see
    :func:`two_door_switch`.

    Args:
        safe: v, in [0, 1).
        failure: p, in [0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """
    if not 0.0 <= safe < 1.0 or not 0.0 <= failure <= 1.0:
        raise ValueError(f"two_door needs safe in [0, 1), failure in [0, 1]: {safe}, {failure}")
    hall, safe_room, full, empty = range(4)
    P = np.zeros((4, 2, 4))
    P[hall, 0, safe_room] = 1.0
    P[hall, 1, full], P[hall, 1, empty] = 1.0 - failure, failure
    for room in (safe_room, full, empty):
        P[room, :, room] = 1.0
    r = np.zeros((4, 2))
    r[safe_room], r[full] = safe, 1.0
    return EpisodicMDP.from_arrays(P, r, horizon=2, name="two_door")


def two_door_switch(safe: float, failure: float) -> float:
    """Return the risk level above which the risky door is the better one: p / (1 - v)."""
    return failure / (1.0 - safe)


def two_branches() -> EpisodicMDP:
    """Return the proof that iterated and static CVaR have no fixed order. One action, H = 3.

    Two branches are equally likely; the first pays 0 with probability .05 and otherwise 1, the
    second .5 for sure. At risk level .1 the worst tenth of all returns is .025 at 0 and .075 at .5:
    static CVaR .375. The iterated CVaR takes the worst tenth anew inside each branch, .5 in both,
    hence .5.
    """
    start, first, second, nothing, half, one = range(6)
    P = np.zeros((6, 1, 6))
    P[start, 0, [first, second]] = 0.5
    P[first, 0, [nothing, one]] = 0.05, 0.95
    P[second, 0, half] = 1.0
    P[[nothing, half, one], 0, [nothing, half, one]] = 1.0
    r = np.zeros((6, 1))
    r[half], r[one] = 0.5, 1.0
    return EpisodicMDP.from_arrays(P, r, horizon=3, name="two_branches")


def inventory(
    *,
    capacity: int = 8,
    horizon: int = 8,
    shock: float = 0.05,
    initial_stock: int = 3,
    holding: float = 0.08,
    demand: tuple[float, ...] = (0.2, 0.5, 0.3),
) -> EpisodicMDP:
    """Return a stock that must be held against a rare rush; holding it costs.

    State i < capacity + 1 is a stock of i, the last state a shop that sold out in a rush and lost
    its customers for the rest of the episode (reward 0). Actions order 0, 1 or 2 units, which
    arrive at once; what is above the capacity is not ordered. Ordinary demand is 0, 1, 2, ... with
    the given probabilities and, if unmet, only lost. With probability ``shock`` there is a rush,
    which takes four units: a stock of four after the order serves it, less sells out for good.
    The reward of a stage is 1 - holding * (stock after the order), at least 0.

    Neutral to risk one holds little; the smaller the risk level, the earlier four units are held.

    Args:
        capacity: largest stock, at least 4.
        horizon: H.
        shock: probability of the rush.
        initial_stock: at the first stage.
        holding: cost of a unit held for a stage.
        demand: ordinary demand, a distribution over 0, 1, 2, ...

    Raises:
        ValueError: the capacity does not hold a rush, the shock is no probability, or the demand
            no distribution.
    """
    rush = 4
    if capacity < rush:
        raise ValueError(f"capacity {capacity} cannot serve a rush of {rush} units")
    if not 0.0 <= shock <= 1.0:
        raise ValueError(f"shock {shock} is not in [0, 1]: it is a probability")
    if min(demand) < 0.0 or abs(sum(demand) - 1.0) > 1e-9:
        raise ValueError(f"demand {demand} is no distribution: at least 0, adding up to 1")
    ruined = capacity + 1
    P, r = np.zeros((capacity + 2, 3, capacity + 2)), np.zeros((capacity + 2, 3))
    P[ruined, :, ruined] = 1.0
    for stock, order in itertools.product(range(capacity + 1), range(3)):
        held = min(stock + order, capacity)
        r[stock, order] = max(0.0, 1.0 - holding * held)
        for units, probability in enumerate(demand):
            P[stock, order, max(held - units, 0)] += (1.0 - shock) * probability
        P[stock, order, held - rush if held >= rush else ruined] += shock
    return EpisodicMDP.from_arrays(P, r, horizon=horizon, initial=initial_stock, name="inventory")
