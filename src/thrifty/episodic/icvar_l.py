"""ICVaR-L: iterated-CVaR reinforcement learning in linear-mixture MDPs.

Chen, Du, Hu, Wang, Wu and Huang, "Provably efficient iterated CVaR reinforcement learning with
function approximation and human feedback" (ICLR 2024, arXiv 2307.02842). Regret
O~(sqrt(alpha^-(H+1) (d^2 H^4 + d H^6) K)). With f_x = (x - V_{h+1})^+ and
psi_x(s,a) = sum_s' phi(s'|s,a) f_x(s'), before an episode, for h = H-1..0:

    theta_h = Lambda_h^-1 b_h
    B_h = (beta / alpha) max_x |psi_x(s,a)|_{Lambda_h^-1}
    Q_h = r_h + clip( max_x { x - <theta_h, psi_x(s,a)> / alpha } + B_h,  min V_{h+1}, max V_{h+1} )

and after a step, at the most uncertain level x_h = argmax_x |psi_x(s_h,a_h)|_{Lambda_h^-1},

    X = psi_{x_h}(s_h,a_h),  Lambda_h += X X',  b_h += X (x_h - V_{h+1}(s_{h+1}))^+.

The targets are fixed when they are made, so no cost grows with the number of episodes.

Where we differ. (1) The paper takes x from a net of spacing e over [0, H], e ~ K^-1/2, adding 2 e.
For finitely many states the maxima are *exact* over the distinct values of V_{h+1}: x - <theta,
psi_x> / alpha is piecewise linear in x with its bends there, and psi_x is piecewise linear in x, so
its norm is convex on every piece and largest at an end of one. Beyond max V the estimate may rise,
for theta_h may be a signed measure; the true supremum is at a value, so looking there alone stays
optimistic and pays less bonus. ``knots="values+horizon"`` adds H; ``knots="net"`` is the paper's
net, for which adding e once suffices (the true operator on the net is too low by at most e).
(2) The *sum* of estimate and bonus is clipped to [min V_{h+1}, max V_{h+1}], where the true CVaR
lies: still optimistic, and V_h <= H - h follows. (3) Plans are made when a determinant has doubled
(|X| under the norm of the last plan is then at most sqrt(2) times that under today's), so x_h and X
are tables made with the plan.

| symbol | meaning |
|---|---|
| H, S, A, d | stages, states, actions, features |
| alpha | the risk level |
| Lambda, b | ridge regression of f_x(s') on psi_x, one for each stage |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numba import njit

from thrifty.episodic.cvar import check_risk_level
from thrifty.episodic.linear_mixture import LinearMixtureMDP
from thrifty.episodic.mdp import Floats, Integers
from thrifty.episodic.planning import TIE
from thrifty.episodic.regression import (
    Ridge,
    absorb,
    dot,
    fill_arrays,
    is_due,
    load_ridge,
    new_ridge,
    ridge_state,
    times,
)
from thrifty.episodic.simulator import Simulator, next_state
from thrifty.episodic.weighting import check_delta

Knots = Literal["values", "values+horizon", "horizon", "net"]
Switch = Literal["determinant", "episode"]

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
DOUBLING = float(np.log(2.0))


class Tables(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    b: Floats
    """Sum of X times target [H, d]."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    V: Floats
    """Their maxima [H+1, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    level: Floats
    """The most uncertain x [H, S, A]."""
    X: Floats
    """psi at that x [H, S, A, d]."""
    growth_at_switch: Floats
    """Growth of the log determinants at the last plan [H]."""
    sums: Floats
    """Since the start: of bonuses at visited pairs, of steps [2]."""


def theory_beta(
    *, horizon: int, dimension: int, episodes: int, regulariser: float, delta: float
) -> float:
    """Return the width of the confidence ellipsoids that holds with probability 1 - delta.

    Targets lie in [0, H], so their noise is H/2 sub-Gaussian, and |X| <= H: the self-normalised
    bound gives (H/2) sqrt(d log(1 + K H^2 / (d lambda)) + 2 log(H / delta)) + sqrt(lambda d), the
    last term for |theta| <= sqrt(d).

    Args:
        horizon: H.
        dimension: d.
        episodes: K.
        regulariser: lambda.
        delta: probability of failure, over all stages and episodes, in (0, 1).

    Raises:
        ValueError: delta is not in (0, 1).

    Example:
        >>> round(theory_beta(horizon=5, dimension=5, episodes=30000, regulariser=1, delta=0.01), 1)
        23.5
    """
    check_delta(delta)
    H, d = horizon, dimension
    log_det = d * np.log(1.0 + episodes * H * H / (d * regulariser))
    noise = 0.5 * H * np.sqrt(log_det + 2.0 * np.log(H / delta))
    return float(noise + np.sqrt(regulariser * d))


class ICVaRL:
    """ICVaR-L on a finite linear-mixture MDP with known rewards.

    Args:
        mdp: gives features, horizon and rewards; its P and theta are not looked at.
        risk_level: alpha in (0, 1].
        regulariser: lambda > 0. Its bias is sqrt(lambda) |theta|, with |theta| up to sqrt(d): if
            beta is much smaller, a good action can be given up for ever.
        beta: radius of the ellipsoids, at least 0; :func:`theory_beta`, or .1 to 1 in practice.
        knots: "values" of V_{h+1} (exact), "values+horizon", "net" of a spacing, or "horizon"
            alone: for risk_level 1, where it makes plain value-targeted regression.
        spacing: of the net, above 0.
        switch: plan when a determinant has doubled, or before every episode.
        refactor_every: samples between two computations of an inverse from scratch.

    Raises:
        ValueError: a number out of its range, or an MDP without features of triples.

    Example:
        >>> from thrifty.episodic.lava_grid import LavaGrid
        >>> learner = ICVaRL(LavaGrid().mdp(), risk_level=0.1)
        >>> learner.act(0, 0), learner.value() >= LavaGrid().optimal_value(0.1)
        (0, True)
    """

    name = "icvar_l"

    def __init__(
        self,
        mdp: LinearMixtureMDP,
        *,
        risk_level: float,
        regulariser: float = 0.1,
        beta: float = 0.3,
        knots: Knots = "values",
        spacing: float = 0.1,
        switch: Switch = "determinant",
        refactor_every: int = 100_000,
    ) -> None:
        if not isinstance(mdp, LinearMixtureMDP):
            raise ValueError(
                f"ICVaR-L needs a LinearMixtureMDP, got {type(mdp).__name__}: "
                "one_hot(mdp) gives a small EpisodicMDP features"
            )
        if not (np.isfinite(beta) and beta >= 0.0):
            raise ValueError(f"beta must be finite and at least 0, got {beta}")
        if knots not in get_args(Knots):
            raise ValueError(f"knots must be one of {', '.join(get_args(Knots))}, got {knots!r}")
        if knots == "horizon" and risk_level != 1.0:
            raise ValueError("the knot horizon alone is exact for risk_level 1 only: use values")
        if not (np.isfinite(spacing) and spacing > 0.0):
            raise ValueError(f"spacing must be finite and above 0, got {spacing}")
        if switch not in get_args(Switch):
            raise ValueError(f"switch must be one of {', '.join(get_args(Switch))}, got {switch!r}")
        H, S, A, d = mdp.H, mdp.S, mdp.A, mdp.d
        self.mdp, self.risk_level, self.beta = mdp, check_risk_level(risk_level), float(beta)
        self.knots, self.spacing, self.switch = knots, float(spacing), switch
        self.switches = 0
        self.ridge: Ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self._phi = np.ascontiguousarray(mdp.phi)
        self._threshold = DOUBLING if switch == "determinant" else 0.0
        self._planned = False
        self._x = np.empty(d)
        self.tables = Tables(
            b=np.zeros((H, d)),
            Q=np.zeros((H, S, A)),
            V=np.zeros((H + 1, S)),
            policy=np.zeros((H, S), np.int64),
            level=np.zeros((H, S, A)),
            X=np.zeros((H, S, A, d)),
            growth_at_switch=np.full(H, -np.inf),
            sums=np.zeros(2),
        )

    def theta(self) -> Floats:
        """Return the estimates of the parameters, [H, d]."""
        return np.asarray(np.einsum("hij,hj->hi", self.ridge.inverse, self.tables.b))

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        if self._planned or not is_due(self.ridge, self.tables.growth_at_switch, self._threshold):
            return False
        self.plan(self.theta())
        self.switches += 1
        self._planned = True
        return True

    def plan(self, theta: Floats) -> None:
        """Make the tables of the plan for given parameters and today's bonuses.

        Args:
            theta: [H, d].
        """
        tables, mdp = self.tables, self.mdp
        slack = self.spacing if self.knots == "net" else 0.0
        flat = self._phi.reshape(-1, mdp.d)
        for h in reversed(range(mdp.H)):
            V = tables.V[h + 1]
            # |psi|_{Lambda^-1} = |W' psi| with Lambda^-1 = W W': all features are turned at once,
            # and <theta, phi> joins them as one more column.
            root = np.linalg.cholesky(self.ridge.inverse[h])
            turned = flat @ np.column_stack([root, theta[h]])
            value, width = _maximise(
                turned.reshape(mdp.S, mdp.A, mdp.S, mdp.d + 1),
                self._phi, V, np.argsort(V, kind="stable"), self._levels(V), self.risk_level,
                tables.level[h], tables.X[h],
            )  # fmt: skip
            total = value + slack + self.beta / self.risk_level * width
            tables.Q[h] = mdp.r[h] + np.clip(total, V.min(), V.max())
            tables.V[h] = best = tables.Q[h].max(1)
            tables.policy[h] = np.argmax(tables.Q[h] >= best[:, None] - TIE, axis=1)
        tables.growth_at_switch[:] = self.ridge.growth

    def _levels(self, V: Floats) -> Floats:
        """Return the levels x that are tried, in increasing order."""
        H = float(self.mdp.H)
        if self.knots == "horizon":
            return np.array([H])
        if self.knots == "net":
            return np.minimum(np.arange(np.ceil(H / self.spacing) + 1.0) * self.spacing, H)
        values = np.unique(V)
        return values if self.knots == "values" else np.unique(np.append(values, H))

    def act(self, h: int, s: int) -> int:
        """Return the greedy action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self.tables.policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode; the reward is known already."""
        _observe(self.ridge, self.tables, self._x, h, s, a, s_next)

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
        played = _episodes(
            self.ridge, self.tables, self._threshold, simulator, first, starts, returns
        )
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
        load_ridge(self.ridge, state["ridge"])
        fill_arrays(self.tables._asdict(), state["tables"])
        self.switches, self._planned = state["switches"], state["planned"]


@njit(**_COMPILE)
def _maximise(turned, phi, V, order, levels, alpha, level, X):
    """Return the largest estimate and the largest norm over all levels, both [S, A].

    With V sorted, psi at the next level is psi at this one plus (the step) times the sum of the
    features of all lower states: O(S d) for all levels together.

    Args:
        turned: [S, A, S', d+1]: W' phi and <theta, phi>.
        phi: [S, A, S', d].
        V: next values [S].
        order: sorts V.
        levels: x, increasing.
        alpha: risk level.
        level: the level of the largest norm is written here, the first of equals [S, A].
        X: and psi there [S, A, d].
    """
    S, A, _, columns = turned.shape
    d = columns - 1
    value, width = np.empty((S, A)), np.empty((S, A))
    lower, psi = np.empty(columns), np.empty(columns)
    for s in range(S):
        for a in range(A):
            lower[:] = 0.0
            psi[:] = 0.0
            best, largest, at = -np.inf, -1.0, levels[0]
            i, previous = 0, levels[0]
            for x in levels:
                step = x - previous
                for c in range(columns):
                    psi[c] += step * lower[c]
                previous = x
                while i < S and V[order[i]] < x:
                    row, shortfall = turned[s, a, order[i]], x - V[order[i]]
                    for c in range(columns):
                        psi[c] += shortfall * row[c]
                        lower[c] += row[c]
                    i += 1
                best = max(best, x - psi[d] / alpha)
                norm = 0.0
                for c in range(d):
                    norm += psi[c] * psi[c]
                if norm > largest:
                    largest, at = norm, x
            value[s, a], width[s, a], level[s, a] = best, np.sqrt(largest), at
            out = X[s, a]
            out[:] = 0.0
            for t in range(S):
                shortfall = at - V[t]
                if shortfall > 0.0:
                    for c in range(d):
                        out[c] += shortfall * phi[s, a, t, c]
    return value, width


@njit(**_COMPILE)
def _observe(ridge, tables, x, h, s, a, s_next):
    X = tables.X[h, s, a]
    times(ridge.inverse[h], X, x)
    u2 = max(dot(X, x), 0.0)
    absorb(ridge, h, X, x, u2, 1.0)
    target = max(tables.level[h, s, a] - tables.V[h + 1, s_next], 0.0)
    for j in range(X.shape[0]):
        tables.b[h, j] += X[j] * target
    tables.sums[0] += np.sqrt(u2)
    tables.sums[1] += 1.0


@njit(**_COMPILE)
def _episodes(ridge, tables, threshold, simulator, first, starts, returns):
    H = tables.Q.shape[0]
    x = np.empty(tables.b.shape[1])
    for n in range(starts.shape[0]):
        if n > 0 and is_due(ridge, tables.growth_at_switch, threshold):
            return n
        s, total = starts[n], 0.0
        for h in range(H):
            a = tables.policy[h, s]
            s_next = next_state(simulator, first + n, h, s, a)
            _observe(ridge, tables, x, h, s, a, s_next)
            total += simulator.r[h, s, a]
            s = s_next
        returns[n] = total
    return starts.shape[0]
