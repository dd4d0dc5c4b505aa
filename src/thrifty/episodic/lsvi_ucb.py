"""LSVI-UCB: optimistic least-squares value iteration (Jin, Yang, Wang and Jordan, COLT 2020).

    w_h = Lambda_h^-1 sum_i phi_i V_{h+1}(s'_i)
    Q_h = min { r_h + <w_h, phi> + beta |phi|_{Lambda_h^-1}, H - h },     V_h = max_a Q_h

Regret O~(sqrt(d^3 H^4 K)) with lambda = 1 and beta = c d H sqrt(log(2 d T / delta)).

Where we differ: rewards are known by default and stand outside the regression (the paper regresses
r + V; ``reward="estimate"`` does that); lambda is a parameter, since lambda = 1 can cost two orders
of magnitude; plans are made when a determinant has doubled (Wang, Zhou and Gu 2021) unless
``switch="episode"``. The bound H - h is the paper's H - h + 1, as h = 0..H-1 here.

| symbol | meaning |
|---|---|
| H, S, A, d | stages, states, actions, features |
| k | the episode, from 0 |
| Lambda | lambda I + sum_i phi_i phi_i' |
| G_h [S, d] | sum of phi_i over the samples whose next state is s' |

Since next states are finitely many, sum_i phi_i f(s'_i) = G_h' f for any f, so the cost of an
episode does not depend on k.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit

from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers, LinearMDP
from thrifty.episodic.regression import (
    Ridge,
    absorb,
    dot,
    fill_arrays,
    first_best,
    is_due,
    load_ridge,
    new_ridge,
    quadratic,
    ridge_state,
    right_hand_side,
    times,
)
from thrifty.episodic.simulator import Simulator, next_state
from thrifty.episodic.weighting import check_factor

Switch = Literal["determinant", "episode"]
Reward = Literal["known", "estimate"]

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
# By how much the log of a determinant must have grown for a new plan.
THRESHOLDS: dict[Switch, float] = {"determinant": float(np.log(2.0)), "episode": -np.inf}


class Tables(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    G: Floats
    """Sum of phi by next state [H, S, d]."""
    R: Floats
    """Sum of phi r [H, d]; stays 0 where rewards are known."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    V: Floats
    """Their maxima [H+1, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    growth_at_switch: Floats
    """Growth of the log determinants at the last plan [H]."""
    sums: Floats
    """Since the start: of bonuses at visited pairs, of variances (1 each), of steps [3]."""


class LSVIUCB:
    """LSVI-UCB on a finite linear MDP.

    Args:
        mdp: gives features, horizon and, where known, rewards; its P is not looked at.
        regulariser: lambda > 0.
        beta: factor of the bonus, at least 0.
        switch: plan when a determinant has doubled, or before every episode.
        reward: "known" (from the MDP), or "estimate": regressed together with V.
        refactor_every: samples between two computations of an inverse from scratch.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> from thrifty.episodic.mdp import EpisodicMDP, tabular
        >>> one = tabular(EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 1.0]], horizon=3))
        >>> learner = LSVIUCB(one, beta=0.5)
        >>> learner.act(0, 0), learner.value()  # nothing seen: all values are cut at H
        (0, 3.0)
    """

    name = "lsvi_ucb"

    def __init__(
        self,
        mdp: LinearMDP,
        *,
        regulariser: float = 1e-3,
        beta: float = 0.3,
        switch: Switch = "determinant",
        reward: Reward = "known",
        refactor_every: int = 100_000,
    ) -> None:
        check_linear(mdp)
        check_choices(switch=switch, reward=reward)
        check_factor("beta", beta)
        H, S, A, d = mdp.H, mdp.S, mdp.A, mdp.d
        self.mdp, self.beta, self.switch, self.reward = mdp, float(beta), switch, reward
        self.switches = 0
        self._phi = np.ascontiguousarray(mdp.phi)
        self._r = np.ascontiguousarray(mdp.r) if reward == "known" else np.zeros((H, S, A))
        self.ridge: Ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self._threshold = THRESHOLDS[switch]
        self._planned = False
        self._x = np.empty(d)
        self.tables = Tables(
            G=np.zeros((H, S, d)),
            R=np.zeros((H, d)),
            Q=np.zeros((H, S, A)),
            V=np.zeros((H + 1, S)),
            policy=np.zeros((H, S), np.int64),
            growth_at_switch=np.full(H, -np.inf),
            sums=np.zeros(3),
        )

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        tables = self.tables
        if self._planned or not is_due(self.ridge, tables.growth_at_switch, self._threshold):
            return False
        _plan(self.ridge, tables, self._phi, self._r, self.beta)
        self.switches += 1
        self._planned = True
        return True

    def act(self, h: int, s: int) -> int:
        """Return the greedy action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self.tables.policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode."""
        check_step(self.mdp, h, s, a, s_next)
        estimate = self.reward == "estimate"
        _observe(
            self.ridge, self.tables, self._phi[s, a], self._x, h, float(r), s_next, self.beta,
            estimate,
        )  # fmt: skip

    def end_episode(self) -> None:
        """Let the next episode plan anew if that is due."""
        self._planned = False

    def play(self, simulator: Simulator, first: int, starts: Integers) -> Floats:
        """Play compiled episodes until all are played or the next one has to plan anew.

        Args:
            simulator: of the MDP.
            first: number of the first episode.
            starts: first states [n], at least one.

        Returns:
            The returns of the episodes played, [1..n].
        """
        self.prepare()
        self._planned = False
        starts = starts[:1] if self.switch == "episode" else starts
        returns = np.empty(len(starts))
        estimate = self.reward == "estimate"
        played = _episodes(
            self.ridge, self.tables, self._phi, self.beta, estimate, self._threshold, simulator,
            first, starts, returns,
        )  # fmt: skip
        return returns[:played]

    def values(self) -> Floats:
        """Return the optimistic V [S] of the first stage, as last planned (H before that)."""
        return self.tables.V[0] if self.switches else np.full(self.mdp.S, float(self.mdp.H))

    def value(self) -> float:
        """Return the optimistic V_1 at the first state's law."""
        return float(self.mdp.initial_distribution @ self.values())

    def policy(self) -> Integers:
        """Return the greedy actions [H, S], as last planned."""
        return self.tables.policy

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "ridge": ridge_state(self.ridge),
            "tables": {name: array.copy() for name, array in self.tables._asdict().items()},
            "switches": self.switches,
            "planned": self._planned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes or another learner.
        """
        fill_arrays(self.tables._asdict(), state["tables"])
        load_ridge(self.ridge, state["ridge"])
        self.switches, self._planned = state["switches"], state["planned"]


def check_linear(mdp: object) -> None:
    """Refuse what has no features.

    Raises:
        ValueError: not a linear MDP; tells the remedy.
    """
    if not isinstance(mdp, LinearMDP):
        remedy = "tabular(mdp) gives an EpisodicMDP one-hot features"
        if hasattr(mdp, "features"):
            remedy = "FeatureLSVI(environment) is the learner that sees features only"
        raise ValueError(f"a linear learner needs a LinearMDP, got {type(mdp).__name__}: {remedy}")


def check_choices(*, switch: str, reward: str) -> None:
    """Refuse words that are no choice.

    Raises:
        ValueError: names the choices.
    """
    if switch not in ("determinant", "episode"):
        raise ValueError(f"switch must be determinant or episode, got {switch!r}")
    if reward not in ("known", "estimate"):
        raise ValueError(f"reward must be known or estimate, got {reward!r}")


def check_step(mdp: EpisodicMDP, h: int, s: int, a: int, s_next: int) -> None:
    """Refuse a step that the tables have no place for: compiled code does not look.

    Raises:
        ValueError: a stage, state or action that does not exist; names it.
    """
    places = (
        ("stage", h, mdp.H),
        ("state", s, mdp.S),
        ("action", a, mdp.A),
        ("next state", s_next, mdp.S),
    )
    for name, index, size in places:
        if not 0 <= index < size:
            raise ValueError(f"{name} {index} does not exist: they are 0..{size - 1}")


@njit(**_COMPILE)
def _observe(ridge, tables, phi, x, h, r, s_next, beta, estimate):
    d = phi.shape[0]
    times(ridge.inverse[h], phi, x)
    u2 = max(dot(phi, x), 0.0)
    absorb(ridge, h, phi, x, u2, 1.0)
    for j in range(d):
        tables.G[h, s_next, j] += phi[j]
    if estimate:
        for j in range(d):
            tables.R[h, j] += phi[j] * r
    tables.sums[0] += beta * np.sqrt(u2)
    tables.sums[1] += 1.0
    tables.sums[2] += 1.0


@njit(**_COMPILE)
def _plan(ridge, tables, phi, r, beta):
    H, S, A = tables.Q.shape
    d = phi.shape[2]
    b, w = np.empty(d), np.empty(d)
    for h in range(H - 1, -1, -1):
        right_hand_side(tables.G[h], tables.V[h + 1], b)
        for j in range(d):
            b[j] += tables.R[h, j]
        times(ridge.inverse[h], b, w)
        for s in range(S):
            for a in range(A):
                f = phi[s, a]
                bonus = beta * np.sqrt(quadratic(ridge.inverse[h], f))
                tables.Q[h, s, a] = min(r[h, s, a] + dot(w, f) + bonus, float(H - h))
            tables.policy[h, s], tables.V[h, s] = first_best(tables.Q[h, s])
        tables.growth_at_switch[h] = ridge.growth[h]


@njit(**_COMPILE)
def _episodes(ridge, tables, phi, beta, estimate, threshold, simulator, first, starts, returns):
    H = tables.Q.shape[0]
    x = np.empty(phi.shape[2])
    for n in range(starts.shape[0]):
        if n > 0 and is_due(ridge, tables.growth_at_switch, threshold):
            return n
        s, total = starts[n], 0.0
        for h in range(H):
            a = tables.policy[h, s]
            s_next = next_state(simulator, first + n, h, s, a)
            r = simulator.r[h, s, a]
            _observe(ridge, tables, phi[s, a], x, h, r, s_next, beta, estimate)
            total += r
            s = s_next
        returns[n] = total
    return starts.shape[0]
