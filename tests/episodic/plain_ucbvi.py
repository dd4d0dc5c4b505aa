"""UCBVI by counting, in plain Python: what a learner on one-hot features must equal.

It is written from the definition, with dictionaries and sums over observed next states only, and
shares no code with the learners:

    Q_h(s, a) = min { r_h(s, a) + sum_s' N_h(s, a, s') V_{h+1}(s') / (prior + n_h(s, a))
                      + beta / sqrt(prior + n_h(s, a)), H - h }

prior > 0 is ridge regression on one-hot features with lambda = prior (its mean is shrunk to 0, its
matrix diagonal with entries prior + n); prior = 0 is UCBVI itself, where an unvisited pair is worth
H - h. Plans are made at the first episode and then

- "determinant": when at some stage the product of all prior + n has doubled since the last plan
  (choose a prior for which no product is exactly doubled, or rounding decides);
- "visits": when the visits of some pair have doubled since the last plan (from 0: at the first);
- "episode": before every episode.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from thrifty.episodic import EpisodicMDP


class PlainUCBVI:
    name = "plain_ucbvi"

    def __init__(
        self, mdp: EpisodicMDP, *, beta: float, prior: float, switch: str, monotone: bool = False
    ) -> None:
        self.H, self.S, self.A = mdp.H, mdp.S, mdp.A
        self.r = mdp.r.tolist()
        self.beta, self.prior, self.switch, self.monotone = beta, prior, switch, monotone
        self.n: dict[tuple[int, int, int], int] = defaultdict(int)
        self.N: dict[tuple[int, int, int], dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.planned_n: dict[tuple[int, int, int], int] = {}
        self.Q: dict[tuple[int, int, int], float] = {}
        self.V: dict[tuple[int, int], float] = {}
        self.choice: dict[tuple[int, int], int] = {}
        self.switches = 0

    def act(self, h: int, s: int) -> int:
        if h == 0 and self.is_due():
            self.plan()
        return self.choice[h, s]

    def observe(self, h: int, s: int, a: int, r: float, s_next: int) -> None:
        assert r == self.r[h][s][a]
        self.n[h, s, a] += 1
        self.N[h, s, a][s_next] += 1

    def end_episode(self) -> None:
        pass

    def is_due(self) -> bool:
        if self.switches == 0 or self.switch == "episode":
            return True
        if self.switch == "visits":
            return any(n >= max(1, 2 * self.planned_n.get(key, 0)) for key, n in self.n.items())
        assert self.switch == "determinant"
        growth = [1.0] * self.H  # of the determinant; pairs not visited since do not count
        for key, n in self.n.items():
            growth[key[0]] *= (self.prior + n) / (self.prior + self.planned_n.get(key, 0))
        return max(growth) >= 2.0

    def plan(self) -> None:
        self.V = {(self.H, s): 0.0 for s in range(self.S)}
        for h in reversed(range(self.H)):
            for s in range(self.S):
                values = [self.optimistic(h, s, a) for a in range(self.A)]
                for a, q in enumerate(values):
                    self.Q[h, s, a] = q
                self.V[h, s] = max(values)
                self.choice[h, s] = next(
                    a for a in range(self.A) if values[a] >= max(values) - 1e-12
                )
        self.planned_n = dict(self.n)
        self.switches += 1

    def optimistic(self, h: int, s: int, a: int) -> float:
        key, ceiling = (h, s, a), float(self.H - h)
        if self.monotone:
            ceiling = min(ceiling, self.Q.get(key, ceiling))
        weight = self.prior + self.n.get(key, 0)
        if weight == 0.0:
            return ceiling
        following = sum(n * self.V[h + 1, t] for t, n in self.N[key].items())
        bonus = self.beta / math.sqrt(weight)
        return min(self.r[h][s][a] + following / weight + bonus, ceiling)

    # ------------------------------------------------------------------ as arrays

    def values(self) -> Any:
        return np.array([self.V[0, s] for s in range(self.S)])

    def policy(self) -> Any:
        return np.array([[self.choice[h, s] for s in range(self.S)] for h in range(self.H)])

    def table(self) -> Any:
        """Q, [H, S, A]."""
        keys = np.ndindex(self.H, self.S, self.A)
        return np.array([self.Q[key] for key in keys]).reshape(self.H, self.S, self.A)

    def state_dict(self) -> dict[str, Any]:
        raise NotImplementedError

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        raise NotImplementedError
