"""Simulated annotators: who the comparison model fits, and ways in which people depart from it.

The utility of a clip is its total reward, as the learner assumes, or for a *risk-averse* annotator
the number of steps times the CVaR of the steps' rewards. An *intransitive* one adds a bonus that
goes in circles: clips fall into three styles by the sum of their actions, and style i is favoured
over style i + 1 modulo 3. A is preferred with probability sigmoid(scale (utility(A) - utility(B)));
the answer is turned round with probability ``flip``, and replaced by a fair coin with probability
``lapse``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from thrifty.episodic.cvar import check_risk_level, cvar
from thrifty.episodic.mdp import Floats
from thrifty.episodic.preferences import Change, Clip, Query


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatedAnnotator:
    """Answers queries as the model says, or in one of the ways in which people do not.

    Args:
        r: true rewards [S, A], or [H, S, A].
        scale: of the comparison, at least 0; 1/H is what learners assume by default.
        flip: probability of the opposite answer.
        lapse: probability of a fair coin instead of an answer.
        cycle: bonus in utility that goes in circles.
        risk_level: of an annotator who is averse to bad steps; 1 is none.

    Raises:
        ValueError: a number out of its range.
    """

    r: Floats = field()
    scale: float
    flip: float = 0.0
    lapse: float = 0.0
    cycle: float = 0.0
    risk_level: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0.0 and math.isfinite(self.cycle)):
            raise ValueError(
                f"an annotator needs finite scale >= 0 and cycle: {self.scale}, {self.cycle}"
            )
        if not (0.0 <= self.flip <= 1.0 and 0.0 <= self.lapse <= 1.0):
            raise ValueError(f"flip and lapse are probabilities: {self.flip}, {self.lapse}")
        check_risk_level(self.risk_level)

    def utility(self, clip: Clip) -> float:
        """Return what a clip is worth to the annotator."""
        states, actions = list(clip.states), list(clip.actions)
        stages = () if self.r.ndim == 2 else (np.arange(len(states)),)
        steps = self.r[(*stages, states, actions)]
        if self.risk_level == 1.0:
            return float(steps.sum())
        n = len(steps)
        return n * float(cvar(steps, np.full(n, 1.0 / n), self.risk_level))

    def probability(self, A: Clip, B: Clip) -> float:
        """Return the probability that A is the answer."""
        gap = self.utility(A) - self.utility(B)
        if self.cycle:
            styles = (sum(A.actions) - sum(B.actions)) % 3
            gap += self.cycle * (0.0, -1.0, 1.0)[styles]
        honest = 0.5 * (1.0 + math.tanh(0.5 * self.scale * gap))
        turned = (1.0 - self.flip) * honest + self.flip * (1.0 - honest)
        return (1.0 - self.lapse) * turned + self.lapse * 0.5


class SimulatedSource:
    """A source of labels for a learner: m simulated annotators answer every query at once.

    Args:
        annotator: all of them answer like this, independently.
        annotators: m, at least 1.
        seed: of the answers; those to query n depend on (seed, n) alone.

    Raises:
        ValueError: m is below 1.
    """

    def __init__(
        self, annotator: SimulatedAnnotator, *, annotators: int = 1, seed: int = 0
    ) -> None:
        if annotators < 1:
            raise ValueError(f"a query needs at least 1 annotator, got {annotators}")
        self.annotator, self.annotators, self._seed = annotator, annotators, seed
        self.position = 0
        """Queries that have been answered."""

    def ask(self, query: Query) -> list[Change]:
        """Take a query, and return its answers."""
        uniforms = np.random.default_rng([self._seed, query.number]).random(self.annotators)
        prefer = uniforms < self.annotator.probability(query.A, query.B)
        self.position += 1
        return [Change(query.number, float(prefer.mean()), self.annotators)]

    def collect(self, episode: int) -> list[Change]:
        """Return nothing: all was answered when it was asked."""
        return []

    def waiting(self, asked: int, annotators: int) -> int:
        """Return 0: nobody has to think."""
        return 0

    def rewind(self, position: int) -> None:
        """Go back to a position."""
        self.position = position
