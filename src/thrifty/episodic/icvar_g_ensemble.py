"""A HEURISTIC in the manner of ICVaR-G: an ensemble of learned kernels instead of a confidence set.

For a general class the maximum over the confidence set cannot be computed. Here M members stand for
the set: each is fitted to its own bootstrap of the data and starts from its own random prior, those
whose log-likelihood is far below the best one's are left out, and Q = r + the largest CVaR among
the others. There is no guarantee: the truth may be far from all members.

Members are softmax models P_m(s'|s,a) = softmax(f(s,a) W_m + f(s,a) prior_m) in NumPy
(:class:`SoftmaxEnsemble`), or any samplers of next states (:class:`SamplerEnsemble`), of which J
draws for every (s, a) make a kernel. Stages share the kernel.

A member's bootstrap gives every transition a Poisson(1) weight, so a count n of new transitions
weighs Poisson(n): all is done on counts when a plan is made, and costs nothing between plans.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from thrifty.episodic.cvar import check_risk_level, iterated_cvar
from thrifty.episodic.mdp import EpisodicMDP, Floats, Integers
from thrifty.episodic.planning import TIE
from thrifty.episodic.visit_counts import CountingLearner

Sampler = Callable[[int, int, int, np.random.Generator], Integers]
"""(s, a, count, generator) -> next states [count]."""


class Ensemble(Protocol):
    """What the learner asks of its members."""

    def fit(self, new: Floats, rng: np.random.Generator) -> None:
        """Learn from the counts of transitions [S, A, S] since the last call."""
        ...

    def kernels(self, rng: np.random.Generator) -> Floats:
        """Return the members' kernels [M, S, A, S]."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        ...


class SoftmaxEnsemble:
    """Softmax models with random priors, fitted by Adam to bootstrapped counts.

    Args:
        features: f [S, A, k]; the identity on pairs makes a table of logits.
        members: M, at least 2.
        rng: draws the priors.
        prior_scale: standard deviation of the priors' logits per unit of feature.
        ridge: penalty |W|^2 / 2 is multiplied by it, at least 0.
        updates: steps of Adam in a fit.
        learning_rate: of Adam.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        features: Floats,
        *,
        members: int,
        rng: np.random.Generator,
        prior_scale: float = 2.0,
        ridge: float = 0.1,
        updates: int = 60,
        learning_rate: float = 0.3,
    ) -> None:
        if features.ndim != 3 or members < 2 or updates < 1:
            raise ValueError(
                "an ensemble needs features [S, A, k], members >= 2 and updates >= 1, not "
                f"{list(features.shape)}, {members}, {updates}"
            )
        if not (ridge >= 0.0 and learning_rate > 0.0 and math.isfinite(prior_scale)):
            raise ValueError(
                "an ensemble needs ridge >= 0, learning_rate > 0 and a finite prior_scale, not "
                f"{ridge}, {learning_rate}, {prior_scale}"
            )
        S, A, k = features.shape
        self._features = features.reshape(S * A, k)
        self._prior = self._features @ rng.normal(0.0, prior_scale, (members, k, S))
        self._ridge, self._updates, self._rate = ridge, updates, learning_rate
        self._shape = (members, S, A, S)
        self.W = np.zeros((members, k, S))
        self.weights = np.zeros((members, S * A, S))

    def fit(self, new: Floats, rng: np.random.Generator) -> None:
        """Add bootstrapped counts, and climb the penalised likelihood from the weights of before.

        The gradient is divided by the number of transitions, so that the step has one scale.
        """
        members = self._shape[0]
        self.weights += rng.poisson(
            new.reshape(-1, new.shape[-1]), (members, *self.weights.shape[1:])
        )
        rows = self.weights.sum(-1, keepdims=True)
        scale = 1.0 / np.maximum(rows.sum((1, 2), keepdims=True), 1.0)
        first, second = np.zeros_like(self.W), np.zeros_like(self.W)
        for step in range(1, self._updates + 1):
            residual = self.weights - rows * self._softmax()
            gradient = (self._features.T @ residual - self._ridge * self.W) * scale
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            rate = self._rate * math.sqrt(1.0 - 0.999**step) / (1.0 - 0.9**step)
            self.W += rate * first / (np.sqrt(second) + 1e-12)

    def kernels(self, rng: np.random.Generator) -> Floats:
        """Return the members' kernels [M, S, A, S]; the generator is not used."""
        return self._softmax().reshape(self._shape)

    def _softmax(self) -> Floats:
        logits = self._features @ self.W + self._prior
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; the priors follow from the seed."""
        return {"W": self.W.copy(), "weights": self.weights.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state."""
        self.W[...], self.weights[...] = state["W"], state["weights"]


class SamplerEnsemble:
    """Samplers of next states as members; whoever made them trains them.

    Args:
        samplers: M functions (s, a, count, generator) -> next states [count].
        states: S.
        actions: A.
        draws: J, draws for every pair whenever a plan is made.

    Raises:
        ValueError: there is no sampler, or no draw.
    """

    def __init__(
        self, samplers: Sequence[Sampler], *, states: int, actions: int, draws: int = 64
    ) -> None:
        if not samplers or draws < 1:
            raise ValueError("an ensemble needs at least one sampler and one draw")
        self._samplers, self._sizes, self._draws = tuple(samplers), (states, actions), draws

    def fit(self, new: Floats, rng: np.random.Generator) -> None:
        """Do nothing: the samplers are trained by whoever made them."""

    def kernels(self, rng: np.random.Generator) -> Floats:
        """Return the frequencies of the draws [M, S, A, S]."""
        S, A = self._sizes
        counted = np.zeros((len(self._samplers), S, A, S))
        for m, sampler in enumerate(self._samplers):
            for s in range(S):
                for a in range(A):
                    drawn = np.asarray(sampler(s, a, self._draws, rng))
                    counted[m, s, a] = np.bincount(drawn, minlength=S)
        return counted / self._draws

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the samplers are the caller's."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over nothing."""


class EnsembleICVaR(CountingLearner):
    """Optimism by the most hopeful plausible member: a heuristic without a guarantee.

    Args:
        mdp: gives sizes and rewards.
        ensemble: the members.
        risk_level: alpha in (0, 1].
        gap: members whose log-likelihood is lower than the best one's by more are left out; None
            keeps all, as for samplers, whose frequencies have zeros.
        seed: of the bootstrap and the draws.

    Raises:
        ValueError: a number out of its range.
    """

    name = "icvar_g_ensemble"

    def __init__(
        self,
        mdp: EpisodicMDP,
        ensemble: Ensemble,
        *,
        risk_level: float,
        gap: float | None = 20.0,
        seed: int = 0,
    ) -> None:
        super().__init__(mdp, pooled=True, on_support=False)
        if gap is not None and not gap >= 0.0:
            raise ValueError(f"gap must be at least 0, got {gap}")
        self.risk_level, self.gap = check_risk_level(risk_level), gap
        self.ensemble, self._seed = ensemble, seed
        self._operator = iterated_cvar(self.risk_level)
        self._fitted = np.zeros_like(self.counts.transitions[0])

    def plan(self) -> None:
        """Fit the members, leave out the unlikely ones, and plan by the best of the others."""
        rng = np.random.default_rng([self._seed, self.switches])
        seen, tables = self.counts.transitions[0], self.counts
        self.ensemble.fit(seen - self._fitted, rng)
        self._fitted[...] = seen
        kernels = self.ensemble.kernels(rng)
        if self.gap is not None:
            likelihood = np.sum(seen * np.log(np.maximum(kernels, 1e-300)), axis=(1, 2, 3))
            kernels = kernels[likelihood >= likelihood.max() - self.gap]
        for h in reversed(range(self.mdp.H)):
            tables.Q[h] = self._r[h] + self._operator(kernels, tables.V[h + 1]).max(0)
            tables.V[h] = best = tables.Q[h].max(1)
            tables.policy[h] = np.argmax(tables.Q[h] >= best[:, None] - TIE, axis=1)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            **super().state_dict(),
            "fitted": self._fitted.copy(),
            "ensemble": self.ensemble.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes or another learner.
        """
        super().load_state_dict(state)
        self._fitted[...] = state["fitted"]
        self.ensemble.load_state_dict(state["ensemble"])
