"""ICVaR-G for a finite class of transition kernels, exactly.

Chen, Du, Hu, Wang, Wu and Huang (ICLR 2024, arXiv 2307.02842): general transitions, a confidence
set of kernels from value-targeted least squares, optimism by the best kernel in it, and a level x
of greatest disagreement for the next target. Regret O~(sqrt(alpha^-(H+1) D_P H^4 K)). With
z_j(s,a,x) = sum_s' P_j(s'|s,a) (x - V_{h+1}(s'))^+, for every kernel j of the class and stage h:

    Q_h = r_h + max over active j of CVaR_{P_j}(V_{h+1})
    x_h = argmax_x { max z_j - min z_j, over active j } at (s_h, a_h)
    loss_h[j] += (z_j(s_h, a_h, x_h) - (x_h - V_{h+1}(s_{h+1}))^+)^2
    j stays active while loss_h[j] <= min loss_h + gamma^2.

z_j is piecewise linear in x with its bends at the values of V_{h+1}; so are every CVaR's objective
and the difference of two z_j, whose extremes are at bends too: only the values are tried as levels.

Where we differ. The paper's set is a ball around the least-squares kernel; ours is the set of small
*loss gap*, intersected over time, and gamma^2 is derived for it. With noise of range H (H/2
sub-Gaussian), loss[truth] - loss[j] = sum (2 e D - D^2) for the differences D of z, and
exp((2 / H^2) sum (2 e D - D^2)) is a supermartingale: by Ville's inequality the truth stays active
for ever, at every stage, with probability 1 - delta if

    gamma^2 = (H^2 / 2) log(N H / delta).

Plans change only when a set shrinks, at most N H times, so that is when they are made; between
plans x_h and all z_j are tables, and a step costs O(N).

| symbol | meaning |
|---|---|
| H, S, A, N | stages, states, actions, kernels |
| alpha | the risk level |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers
from thrifty.episodic.regression import fill_arrays, first_best
from thrifty.episodic.simulator import Simulator, next_state
from thrifty.episodic.weighting import check_delta

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Tables(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    loss: Floats
    """Sums of squares [H, N]; of a kernel that is not active any more, up to that moment."""
    active: NDArray[np.bool_]
    """The confidence sets [H, N]."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    V: Floats
    """Their maxima [H+1, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    level: Floats
    """The level x of greatest disagreement [H, S, A]."""
    z: Floats
    """All z_j there [H, S, A, N]."""
    due: NDArray[np.bool_]
    """Whether the next episode begins with a plan [1]."""


def theory_gamma2(*, horizon: int, members: int, delta: float) -> float:
    """Return gamma^2 = (H^2 / 2) log(N H / delta), with which the truth stays in all sets.

    Args:
        horizon: H.
        members: N, kernels in the class.
        delta: probability of failure, over all stages and episodes, in (0, 1).

    Raises:
        ValueError: delta is not in (0, 1).

    Example:
        >>> round(theory_gamma2(horizon=5, members=60, delta=0.05), 1)
        108.7
    """
    check_delta(delta)
    return 0.5 * horizon**2 * math.log(members * horizon / delta)


class ICVaRG:
    """ICVaR-G on a finite MDP with known rewards and a finite class of kernels.

    Args:
        mdp: gives sizes and rewards; its P is not looked at.
        kernels: the class [N, S, A, S]; each stage has its own truth in it.
        risk_level: alpha in (0, 1].
        gamma2: width of the sets, at least 0; :func:`theory_gamma2`, or less in practice.

    Raises:
        ValueError: a number out of its range, or a kernel that is none.

    Example:
        >>> from thrifty.episodic.risk_instances import two_door
        >>> learner = ICVaRG(two_door(), two_door().P, risk_level=0.1)
        >>> learner.act(0, 0), learner.value()
        (0, 0.6)
    """

    name = "icvar_g"

    def __init__(
        self, mdp: EpisodicMDP, kernels: ArrayLike, *, risk_level: float, gamma2: float = 5.0
    ) -> None:
        H, S, A = mdp.H, mdp.S, mdp.A
        P = np.asarray(kernels, dtype=np.float64)
        if P.ndim != 4 or P.shape[1:] != (S, A, S) or not len(P):
            raise ValueError(f"kernels must be [N, S, A, S] with S={S}, A={A}, not {list(P.shape)}")
        wrong = ~((P >= 0.0).all(-1) & (np.abs(P.sum(-1) - 1.0) <= 1e-9))
        if wrong.any():
            j, s, a = np.argwhere(wrong)[0]
            raise ValueError(
                f"kernel {j} is no distribution at state {s}, action {a}: probabilities must be at "
                "least 0 and add up to 1"
            )
        if not (math.isfinite(gamma2) and gamma2 >= 0.0):
            raise ValueError(f"gamma2 must be finite and at least 0, got {gamma2}")
        N = len(P)
        self.mdp, self.risk_level, self.gamma2 = mdp, check_risk_level(risk_level), float(gamma2)
        self.switches = 0
        self._r = np.ascontiguousarray(mdp.r)
        self._P = np.ascontiguousarray(np.moveaxis(P, 0, -1))  # [S, A, S', N]
        self.tables = Tables(
            loss=np.zeros((H, N)),
            active=np.ones((H, N), np.bool_),
            Q=np.zeros((H, S, A)),
            V=np.zeros((H + 1, S)),
            policy=np.zeros((H, S), np.int64),
            level=np.zeros((H, S, A)),
            z=np.zeros((H, S, A, N)),
            due=np.ones(1, np.bool_),
        )

    def prepare(self) -> bool:
        """Plan before an episode if a set has shrunk; tell whether it had."""
        if not self.tables.due[0]:
            return False
        self.plan(self._r)
        self.switches += 1
        return True

    def plan(self, r: Floats) -> None:
        """Make the tables of the plan from the sets.

        Args:
            r: rewards [H, S, A].
        """
        _plan(self.tables, self._P, r, self.risk_level)

    def policy_for(self, r: Floats) -> Integers:
        """Return the greedy actions [H, S] for other rewards; the tables stay as they are.

        Args:
            r: rewards [H, S, A].
        """
        tables = Tables._make(array.copy() for array in self.tables)
        _plan(tables, self._P, r, self.risk_level)
        return tables.policy

    def act(self, h: int, s: int) -> int:
        """Return the greedy action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self.tables.policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode; the reward is known already."""
        _observe(self.tables, self.gamma2, h, s, a, s_next)

    def end_episode(self) -> None:
        """Nothing is left to do: plans are made before the next episode."""

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
        returns = np.empty(len(starts))
        played = _episodes(self.tables, self.gamma2, simulator, first, starts, returns)
        return returns[:played]

    def values(self) -> Floats:
        """Return the optimistic V [S] of the first stage, as last planned (H before that)."""
        return self.tables.V[0] if self.switches else np.full(self.mdp.S, float(self.mdp.H))

    def value(self) -> float:
        """Return the optimistic V_1 at the first state's law."""
        self.prepare()
        return float(self.mdp.initial_distribution @ self.values())

    def policy(self) -> Integers:
        """Return the greedy actions [H, S], as last planned."""
        return self.tables.policy

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "tables": {name: array.copy() for name, array in self.tables._asdict().items()},
            "switches": self.switches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes or another learner.
        """
        fill_arrays(self.tables._asdict(), state["tables"])
        self.switches = state["switches"]


@njit(**_COMPILE)
def _plan(tables, P, r, alpha):
    H, N = tables.loss.shape
    S, A = P.shape[:2]
    lower, z = np.empty(N), np.empty(N)
    for h in range(H - 1, -1, -1):
        V, active = tables.V[h + 1], np.flatnonzero(tables.active[h])
        order = np.argsort(V)
        for s in range(S):
            for a in range(A):
                lower[:] = 0.0  # probability of the states below x, by kernel
                z[:] = 0.0
                best, widest = -np.inf, -1.0
                for i in range(S):
                    x = V[order[i]]
                    if i > 0:
                        row, step = P[s, a, order[i - 1]], x - V[order[i - 1]]
                        for j in range(N):
                            lower[j] += row[j]
                            z[j] += step * lower[j]
                    least, most = np.inf, -np.inf
                    for j in active:
                        least, most = min(least, z[j]), max(most, z[j])
                    best = max(best, x - least / alpha)
                    if most - least > widest:
                        widest = most - least
                        tables.level[h, s, a] = x
                        tables.z[h, s, a] = z
                tables.Q[h, s, a] = r[h, s, a] + best
            tables.policy[h, s], tables.V[h, s] = first_best(tables.Q[h, s])
    tables.due[0] = False


@njit(**_COMPILE)
def _observe(tables, gamma2, h, s, a, s_next):
    loss, active, z = tables.loss[h], tables.active[h], tables.z[h, s, a]
    y = max(tables.level[h, s, a] - tables.V[h + 1, s_next], 0.0)
    least = np.inf
    for j in range(loss.shape[0]):
        if active[j]:
            miss = z[j] - y
            loss[j] += miss * miss
            least = min(least, loss[j])
    for j in range(loss.shape[0]):
        if active[j] and loss[j] > least + gamma2:
            active[j] = False
            tables.due[0] = True


@njit(**_COMPILE)
def _episodes(tables, gamma2, simulator, first, starts, returns):
    H = tables.loss.shape[0]
    for n in range(starts.shape[0]):
        if n > 0 and tables.due[0]:
            return n
        s, total = starts[n], 0.0
        for h in range(H):
            a = tables.policy[h, s]
            s_next = next_state(simulator, first + n, h, s, a)
            _observe(tables, gamma2, h, s, a, s_next)
            total += simulator.r[h, s, a]
            s = s_next
        returns[n] = total
    return starts.shape[0]
