"""UCBVI: optimistic value iteration on counts, for tabular MDPs (Azar, Osband, Munos, ICML 2017).

    Q_h = min { r_h + P^_h V_{h+1} + beta / sqrt(n_h(s, a)), Q of before, H - h },  unvisited: H - h

This is the Hoeffding form (UCBVI-CH), with beta = 7 H log(5 S A T / delta) in theory; regret
O~(sqrt(H^4 S A K)) for kernels that depend on the stage.

Where we differ: kernels and counts are per stage (the paper pools stages), rewards are known, and
plans are made when the visits of some pair have doubled unless ``switch="episode"``.

| symbol | meaning |
|---|---|
| H, S, A | stages, states, actions |
| n_h(s, a) | visits; P^_h(s' given s, a) = n_h(s, a, s') / n_h(s, a) |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from thrifty.episodic.lsvi_ucb import Switch, check_choices, check_step
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers
from thrifty.episodic.regression import fill_arrays, first_best
from thrifty.episodic.simulator import Simulator, next_state
from thrifty.episodic.weighting import check_delta, check_factor

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Tables(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    transitions: Floats
    """Visits [H, S, A, S]."""
    visits: Floats
    """Visits [H, S, A]."""
    visits_at_switch: Floats
    """Visits at the last plan [H, S, A]."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    V: Floats
    """Their maxima [H+1, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    sums: Floats
    """Since the start: of bonuses at visited pairs, of variances (1 each), of steps [3]."""
    due: NDArray[np.bool_]
    """Whether the visits of some pair have doubled since the last plan [1]."""


class UCBVI:
    """UCBVI on a finite MDP with known rewards.

    Args:
        mdp: gives sizes and rewards; its P is not looked at.
        beta: numerator of the bonus, at least 0.
        switch: plan when the visits of a pair have doubled, or before every episode.

    Raises:
        ValueError: a number out of its range.

    Example:
        >>> one = EpisodicMDP.from_arrays([[[1.0], [1.0]]], [[0.25, 1.0]], horizon=3)
        >>> learner = UCBVI(one)
        >>> learner.act(0, 0), learner.value()
        (0, 3.0)
    """

    name = "ucbvi"

    def __init__(
        self, mdp: EpisodicMDP, *, beta: float = 0.3, switch: Switch = "determinant"
    ) -> None:
        check_choices(switch=switch, reward="known")
        if not isinstance(mdp, EpisodicMDP):
            raise ValueError(f"UCBVI counts states: it needs a finite MDP, not {mdp!r}")
        check_factor("beta", beta)
        H, S, A = mdp.H, mdp.S, mdp.A
        self.mdp, self.beta, self.switch = mdp, float(beta), switch
        self.switches = 0
        self._r = np.ascontiguousarray(mdp.r)
        self._planned = False
        self.tables = Tables(
            transitions=np.zeros((H, S, A, S)),
            visits=np.zeros((H, S, A)),
            visits_at_switch=np.zeros((H, S, A)),
            Q=np.broadcast_to(np.arange(H, 0.0, -1.0)[:, None, None], (H, S, A)).copy(),
            V=np.zeros((H + 1, S)),
            policy=np.zeros((H, S), np.int64),
            sums=np.zeros(3),
            due=np.ones(1, np.bool_),
        )

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        if self._planned or not (self.switch == "episode" or self.tables.due[0]):
            return False
        _plan(self.tables, self._r, self.beta)
        self.switches += 1
        self._planned = True
        return True

    def act(self, h: int, s: int) -> int:
        """Return the greedy action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self.tables.policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode; the reward is known already."""
        check_step(self.mdp, h, s, a, s_next)
        _observe(self.tables, h, s, a, s_next, self.beta)

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
        played = _episodes(self.tables, self.beta, simulator, first, starts, returns)
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
        self.switches, self._planned = state["switches"], state["planned"]


def theory_beta(S: int, A: int, H: int, K: int, delta: float) -> float:
    """Return UCBVI-CH's beta = 7 H log(5 S A T / delta) (Azar et al. 2017, algorithm 3)."""
    check_delta(delta)
    return 7.0 * H * math.log(5.0 * S * A * H * K / delta)


@njit(**_COMPILE)
def _observe(tables, h, s, a, s_next, beta):
    tables.transitions[h, s, a, s_next] += 1.0
    tables.visits[h, s, a] += 1.0
    n = tables.visits[h, s, a]
    if n >= 2.0 * tables.visits_at_switch[h, s, a]:
        tables.due[0] = True
    tables.sums[0] += beta / np.sqrt(n)
    tables.sums[1] += 1.0
    tables.sums[2] += 1.0


@njit(**_COMPILE)
def _plan(tables, r, beta):
    H, S, A = tables.Q.shape
    for h in range(H - 1, -1, -1):
        for s in range(S):
            for a in range(A):
                n = tables.visits[h, s, a]
                tables.visits_at_switch[h, s, a] = n
                if n > 0.0:
                    mean = 0.0
                    for t in range(S):
                        mean += tables.transitions[h, s, a, t] * tables.V[h + 1, t]
                    q = r[h, s, a] + mean / n + beta / np.sqrt(n)
                    tables.Q[h, s, a] = min(q, tables.Q[h, s, a])
            tables.policy[h, s], tables.V[h, s] = first_best(tables.Q[h, s])
    tables.due[0] = False


@njit(**_COMPILE)
def _episodes(tables, beta, simulator, first, starts, returns):
    H = tables.Q.shape[0]
    for n in range(starts.shape[0]):
        if n > 0 and tables.due[0]:
            return n
        s, total = starts[n], 0.0
        for h in range(H):
            a = tables.policy[h, s]
            s_next = next_state(simulator, first + n, h, s, a)
            _observe(tables, h, s, a, s_next, beta)
            total += simulator.r[h, s, a]
            s = s_next
        returns[n] = total
    return starts.shape[0]
