"""Learners that count transitions: what the tabular learners of the iterated CVaR share.

A learner plans on the empirical law of next states. Plans are made when the visits of some pair
have doubled, or when a transition is seen for the first time, whichever the learner needs.

| symbol | meaning |
|---|---|
| H, S, A | stages, states, actions |
| G | 1 where all stages share one kernel and its counts, else H |
| n(s, a) | visits; n(s, a, s') of them led to s' |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers, once
from thrifty.episodic.regression import fill_arrays, first_best
from thrifty.episodic.simulator import Simulator, next_state

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Counts(NamedTuple):
    """What the learner knows and has planned, as arrays."""

    transitions: Floats
    """Visits by next state [G, S, A, S]."""
    visits: Floats
    """Visits [G, S, A]."""
    visits_at_plan: Floats
    """Visits at the last plan [G, S, A]."""
    Q: Floats
    """Optimistic values [H, S, A]."""
    V: Floats
    """Their maxima [H+1, S]."""
    policy: Integers
    """The greedy actions [H, S]."""
    due: NDArray[np.bool_]
    """Whether the next episode begins with a plan [1]."""


class CountingLearner:
    """The protocol of learners, for those that count; a learner adds :meth:`plan`.

    Args:
        mdp: gives sizes and rewards; its P is looked at only to refuse pooling what differs.
        pooled: count all stages together, for kernels that do not depend on the stage.
        on_support: plan when a transition is new, instead of when visits have doubled.

    Raises:
        ValueError: stages are pooled, but the kernel depends on the stage.
    """

    name: str

    def __init__(self, mdp: EpisodicMDP, *, pooled: bool, on_support: bool) -> None:
        if pooled and len(once(mdp.P)) > 1:
            raise ValueError(
                f"the kernel of {mdp.name} depends on the stage: count stages apart (pooled=False)"
            )
        H, S, A = mdp.H, mdp.S, mdp.A
        G = 1 if pooled else H
        self.mdp, self.pooled, self.switches = mdp, pooled, 0
        self._on_support = on_support
        self._r = np.ascontiguousarray(mdp.r)
        self.counts = Counts(
            transitions=np.zeros((G, S, A, S)),
            visits=np.zeros((G, S, A)),
            visits_at_plan=np.zeros((G, S, A)),
            Q=np.zeros((H, S, A)),
            V=np.zeros((H + 1, S)),
            policy=np.zeros((H, S), np.int64),
            due=np.ones(1, np.bool_),
        )

    def plan(self) -> None:
        """Make Q, V and the policy from the counts."""
        raise NotImplementedError

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        if not self.counts.due[0]:
            return False
        self.plan()
        self.counts.visits_at_plan[...] = self.counts.visits
        self.counts.due[0] = False
        self.switches += 1
        return True

    def act(self, h: int, s: int) -> int:
        """Return the greedy action of state s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        return int(self.counts.policy[h, s])

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        """Learn from one step of the episode; the reward is known already."""
        _observe(self.counts, h, s, a, s_next, self._on_support)

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
        played = _episodes(self.counts, self._on_support, simulator, first, starts, returns)
        return returns[:played]

    def values(self) -> Floats:
        """Return the optimistic V [S] of the first stage, as last planned (H before that)."""
        return self.counts.V[0] if self.switches else np.full(self.mdp.S, float(self.mdp.H))

    def value(self) -> float:
        """Return the optimistic V_1 at the first state's law."""
        return float(self.mdp.initial_distribution @ self.values())

    def policy(self) -> Integers:
        """Return the greedy actions [H, S], as last planned."""
        return self.counts.policy

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "counts": {name: array.copy() for name, array in self.counts._asdict().items()},
            "switches": self.switches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes or another learner.
        """
        fill_arrays(self.counts._asdict(), state["counts"])
        self.switches = state["switches"]


@njit(**_COMPILE)
def tail_mean(row, n, V, order, alpha):
    """Return the CVaR of V under the empirical law row / n; the least seen value for alpha = 0.

    Args:
        row: visits by next state [S].
        n: their sum, at least 1.
        V: next values [S].
        order: sorts V.
        alpha: risk level in [0, 1].
    """
    mass, left, total = alpha * n, alpha * n, 0.0
    for t in order:
        if row[t] > 0.0:
            if row[t] >= left:  # also the first one seen, if alpha is at most its share
                return V[t] if left == mass else (total + left * V[t]) / mass
            total += row[t] * V[t]
            left -= row[t]
    return total / (mass - left)  # rounding left something over


@njit(**_COMPILE)
def plan_optimistically(counts, r, coefficient, alpha):
    """Write Q, V and policy: CVaR on the counts plus coefficient / sqrt(n), at most max V_{h+1}.

    Args:
        counts: the learner's arrays.
        r: rewards [H, S, A].
        coefficient: of the bonus.
        alpha: risk level, 0 for the worst path.
    """
    H, S, A = counts.Q.shape
    pooled = counts.visits.shape[0] == 1
    for h in range(H - 1, -1, -1):
        g, V = 0 if pooled else h, counts.V[h + 1]
        order = np.argsort(V)
        for s in range(S):
            for a in range(A):
                n, value = counts.visits[g, s, a], V[order[S - 1]]
                if n > 0.0:
                    mean = tail_mean(counts.transitions[g, s, a], n, V, order, alpha)
                    value = min(value, mean + coefficient / np.sqrt(n))
                counts.Q[h, s, a] = r[h, s, a] + value
            counts.policy[h, s], counts.V[h, s] = first_best(counts.Q[h, s])


@njit(**_COMPILE)
def evaluate_pessimistically(counts, r, coefficient, alpha, low):
    """Write the pessimistic values [H+1, S] of the policy: CVaR less the bonus, at least min V."""
    H, S, _ = counts.Q.shape
    pooled = counts.visits.shape[0] == 1
    for h in range(H - 1, -1, -1):
        g, V = 0 if pooled else h, low[h + 1]
        order = np.argsort(V)
        for s in range(S):
            a = counts.policy[h, s]
            n, value = counts.visits[g, s, a], V[order[0]]
            if n > 0.0:
                mean = tail_mean(counts.transitions[g, s, a], n, V, order, alpha)
                value = max(value, mean - coefficient / np.sqrt(n))
            low[h, s] = r[h, s, a] + value


@njit(**_COMPILE)
def _observe(counts, h, s, a, s_next, on_support):
    g = 0 if counts.visits.shape[0] == 1 else h
    counts.transitions[g, s, a, s_next] += 1.0
    counts.visits[g, s, a] += 1.0
    if on_support:
        if counts.transitions[g, s, a, s_next] == 1.0:
            counts.due[0] = True
    elif counts.visits[g, s, a] >= 2.0 * counts.visits_at_plan[g, s, a]:
        counts.due[0] = True


@njit(**_COMPILE)
def _episodes(counts, on_support, simulator, first, starts, returns):
    H = counts.Q.shape[0]
    for n in range(starts.shape[0]):
        if n > 0 and counts.due[0]:
            return n
        s, total = starts[n], 0.0
        for h in range(H):
            a = counts.policy[h, s]
            s_next = next_state(simulator, first + n, h, s, a)
            _observe(counts, h, s, a, s_next, on_support)
            total += simulator.r[h, s, a]
            s = s_next
        returns[n] = total
    return starts.shape[0]
