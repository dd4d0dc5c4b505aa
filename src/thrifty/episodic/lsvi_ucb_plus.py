"""LSVI-UCB+ in its corrected form: variance-weighted, monotone, rarely switching.

LSVI-UCB+ (Hu, Chen and Huang, ICML 2022) regresses with weights 1 / sbar^2, sbar^2 an upper bound
of the variance of the next value, for a regret of O~(d sqrt(H^3 K)). Its first proof has an error:
a sample is weighted once but used in all later regressions, so sbar^2 must bound the variance of
all later values, which need not stay below the value it was computed from. What repairs it (He,
Zhao, Zhou and Gu 2023, LSVI-UCB++; Agarwal, Jin and Zhang 2023) makes optimistic values fall and
pessimistic ones rise, at the few episodes in which a determinant has doubled. This file is that
algorithm, equal to LSVI-UCB++ up to constants (:mod:`thrifty.episodic.weighting`):

    at a switch, for h = H-1..0:
        Q    = min { r + <w, phi>    + beta     u, Q of before,    H - h }
        Qpes = max { r + <wpes, phi> - beta_bar u, Qpes of before, 0 }
    at every step: Sigma_h += sbar^-2 phi phi', with sbar^2 of the episode's first Sigma_h

w, wpes and w2 regress V, Vpes and V^2 on all samples so far, at every step: only Q is frozen.
Between two switches the values are frozen too, so the right-hand sides, the sums of sbar_i^-2 phi_i
f(s'_i), grow by one term a sample, and a step costs O(d^2).

The original form of ICML 2022 is an ablation: ``monotone=False, switch="episode", gap="over"``.
Then D is the distance between an over-optimistic value (bonus beta_bar) and the pessimistic one.
No guarantee is claimed for it, nor for practical constants.

Where we differ: values are cut at H - h, the papers' H - h + 1, instead of H; ``reward="estimate"``
adds an unweighted ridge regression of rewards with a bonus of its own.

| symbol | meaning |
|---|---|
| H, S, A, d | stages, states, actions, features |
| u | sqrt(phi' Sigma_h^-1 phi) |
| G_h [S, d] | sum of sbar^-2 phi over the samples whose next state is s' |
| b_h [4, d] | right-hand sides for V, Vpes, V^2 and the over-optimistic V |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit

from thrifty.episodic.lsvi_ucb import (
    THRESHOLDS,
    Reward,
    Switch,
    check_choices,
    check_linear,
    check_step,
)
from thrifty.episodic.mdp import Floats, Integers, LinearMDP
from thrifty.episodic.regression import (
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
from thrifty.episodic.weighting import (
    Weighting,
    check_factor,
    check_weighting,
    practical_weighting,
    sample_variance,
)

Gap = Literal["pessimistic", "over"]

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}
# Rows of b, and of the values that it is made of.
_V, _PES, _SQUARE, _OVER = 0, 1, 2, 3


class Tables(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    G: Floats
    """Sum of weighted phi by next state [H, S, d]."""
    R: Floats
    """Sum of phi r [H, d]; stays 0 where rewards are known."""
    b: Floats
    """Right-hand sides [H, 4, d] of V, Vpes, V^2, over-optimistic V."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    Q_pes: Floats
    """Pessimistic values [H, S, A]."""
    values: Floats
    """V, Vpes, V^2 and over-optimistic V [H+1, 4, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    growth_at_switch: Floats
    """Growth of the log determinants at the last plan [H]."""
    sums: Floats
    """Since the start: of bonuses at visited pairs, of sbar^2, of steps [3]."""


class LSVIUCBPlus:
    """LSVI-UCB+ on a finite linear MDP.

    Args:
        mdp: gives features, horizon and, where known, rewards; its P is not looked at.
        regulariser: lambda > 0; None is 1 / H^2.
        weighting: bonuses and weights; None are practical ones with beta = 1.
        monotone: take the minimum (maximum) with the values of before.
        switch: plan when a determinant has doubled, or before every episode.
        gap: what D compares, see the module.
        reward: "known" (from the MDP), or "estimate".
        beta_reward: bonus factor of estimated rewards; None is the weighting's beta.
        refactor_every: samples between two computations of an inverse from scratch.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> from thrifty.episodic.mdp import EpisodicMDP, tabular
        >>> one = tabular(EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 1.0]], horizon=3))
        >>> learner = LSVIUCBPlus(one)
        >>> learner.act(0, 0), learner.value()  # nothing seen: all values are cut at H
        (0, 3.0)
    """

    name = "lsvi_ucb_plus"

    def __init__(
        self,
        mdp: LinearMDP,
        *,
        regulariser: float | None = None,
        weighting: Weighting | None = None,
        monotone: bool = True,
        switch: Switch = "determinant",
        gap: Gap = "pessimistic",
        reward: Reward = "known",
        beta_reward: float | None = None,
        refactor_every: int = 100_000,
    ) -> None:
        check_linear(mdp)
        check_choices(switch=switch, reward=reward)
        if gap not in ("pessimistic", "over"):
            raise ValueError(f"gap must be pessimistic or over, got {gap!r}")
        H, S, A, d = mdp.H, mdp.S, mdp.A, mdp.d
        regulariser = 1.0 / H**2 if regulariser is None else regulariser
        self.mdp, self.switch, self.reward, self.gap = mdp, switch, reward, gap
        self.weighting = practical_weighting(H, 1.0) if weighting is None else weighting
        check_weighting(self.weighting)
        beta_reward = self.weighting.beta if beta_reward is None else beta_reward
        check_factor("beta_reward", beta_reward)
        self.beta_reward = float(beta_reward)
        self.monotone = bool(monotone)
        self.switches = 0
        self._phi = np.ascontiguousarray(mdp.phi)
        self._r = np.ascontiguousarray(mdp.r) if reward == "known" else np.zeros((H, S, A))
        self.ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self.reward_ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self._threshold = THRESHOLDS[switch]
        self._planned = False
        self._x = np.empty(d)
        Q = np.broadcast_to(np.arange(H, 0.0, -1.0)[:, None, None], (H, S, A)).copy()
        self.tables = Tables(
            G=np.zeros((H, S, d)),
            R=np.zeros((H, d)),
            b=np.zeros((H, 4, d)),
            Q=Q,
            Q_pes=np.zeros((H, S, A)),
            values=np.zeros((H + 1, 4, S)),
            policy=np.zeros((H, S), np.int64),
            growth_at_switch=np.full(H, -np.inf),
            sums=np.zeros(3),
        )

    @property
    def _options(self) -> tuple[bool, bool, bool, float]:
        return self.monotone, self.gap == "over", self.reward == "estimate", self.beta_reward

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        tables = self.tables
        if self._planned or not is_due(self.ridge, tables.growth_at_switch, self._threshold):
            return False
        _plan(
            self.ridge, self.reward_ridge, tables, self._phi, self._r, self.weighting,
            self._options,
        )  # fmt: skip
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
        _observe(
            self.ridge, self.reward_ridge, self.tables, self._phi[s, a], self._x, h, float(r),
            s_next, self.weighting, self._options,
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
        played = _episodes(
            self.ridge, self.reward_ridge, self.tables, self._phi, self.weighting, self._options,
            self._threshold, simulator, first, starts, returns,
        )  # fmt: skip
        return returns[:played]

    def values(self) -> Floats:
        """Return the optimistic V [S] of the first stage, as last planned (H before that)."""
        if not self.switches:
            return np.full(self.mdp.S, float(self.mdp.H))
        return np.asarray(self.tables.values[0, _V])

    def pessimistic_values(self) -> Floats:
        """Return the pessimistic V [S] of the first stage, as last planned."""
        return np.asarray(self.tables.values[0, _PES])

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
            "reward_ridge": ridge_state(self.reward_ridge),
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
        load_ridge(self.reward_ridge, state["reward_ridge"])
        self.switches, self._planned = state["switches"], state["planned"]


@njit(**_COMPILE)
def _observe(ridge, reward_ridge, tables, phi, x, h, r, s_next, c, options):
    _, over, estimate, _ = options
    d = phi.shape[0]
    H = tables.Q.shape[0]
    b = tables.b
    if estimate:
        times(reward_ridge.inverse[h], phi, x)
        absorb(reward_ridge, h, phi, x, max(dot(phi, x), 0.0), 1.0)
        for j in range(d):
            tables.R[h, j] += phi[j] * r
    times(ridge.inverse[h], phi, x)
    u2 = max(dot(phi, x), 0.0)
    u = np.sqrt(u2)
    mean, lower = dot(x, b[h, _V]), dot(x, b[h, _PES])
    upper, slack = mean, 2.0 * c.beta_bar * u
    if over:
        upper, slack = dot(x, b[h, _OVER]), 0.0
    sbar2 = sample_variance(c, H, mean, dot(x, b[h, _SQUARE]), upper, lower, slack, u)
    weight = 1.0 / sbar2
    absorb(ridge, h, phi, x, u2, weight)
    for j in range(d):
        p = weight * phi[j]
        tables.G[h, s_next, j] += p
        for f in range(4 if over else 3):
            b[h, f, j] += p * tables.values[h + 1, f, s_next]
    tables.sums[0] += c.beta * u
    tables.sums[1] += sbar2
    tables.sums[2] += 1.0


@njit(**_COMPILE)
def _plan(ridge, reward_ridge, tables, phi, r, c, options):
    monotone, over, estimate, beta_reward = options
    H, S, A = tables.Q.shape
    d = phi.shape[2]
    w, w_pes, theta = np.empty(d), np.empty(d), np.zeros(d)
    best = np.empty(A)
    for h in range(H - 1, -1, -1):
        b, values, top = tables.b[h], tables.values[h], float(H - h)
        for f in range(4 if over else 3):
            right_hand_side(tables.G[h], tables.values[h + 1, f], b[f])
        times(ridge.inverse[h], b[_V], w)
        times(ridge.inverse[h], b[_PES], w_pes)
        if estimate:
            times(reward_ridge.inverse[h], tables.R[h], theta)
        for s in range(S):
            for a in range(A):
                f = phi[s, a]
                u = np.sqrt(quadratic(ridge.inverse[h], f))
                reward, doubt = r[h, s, a], 0.0
                if estimate:
                    reward = dot(theta, f)
                    doubt = beta_reward * np.sqrt(quadratic(reward_ridge.inverse[h], f))
                up = reward + doubt + dot(w, f)
                high = min(up + c.beta * u, top)
                low = max(min(reward - doubt + dot(w_pes, f) - c.beta_bar * u, top), 0.0)
                best[a] = min(up + c.beta_bar * u, top)
                if monotone:
                    high = min(high, tables.Q[h, s, a])
                    low = max(low, tables.Q_pes[h, s, a])
                tables.Q[h, s, a], tables.Q_pes[h, s, a] = high, low
            tables.policy[h, s], values[_V, s] = first_best(tables.Q[h, s])
            values[_PES, s] = first_best(tables.Q_pes[h, s])[1]
            values[_SQUARE, s] = values[_V, s] * values[_V, s]
            values[_OVER, s] = first_best(best)[1]
        tables.growth_at_switch[h] = ridge.growth[h]


@njit(**_COMPILE)
def _episodes(
    ridge, reward_ridge, tables, phi, c, options, threshold, simulator, first, starts, returns
):
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
            _observe(ridge, reward_ridge, tables, phi[s, a], x, h, r, s_next, c, options)
            total += r
            s = s_next
        returns[n] = total
    return starts.shape[0]
