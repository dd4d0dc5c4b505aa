"""A linear MDP with continuous states: draw a latent kernel j ~ phi(s, a), then s' ~ mu_h^j.

Every mixture of d kernels with features in the simplex is a linear MDP whatever the state space,
and values follow from d numbers per stage: with g_h(j) the mean of V_{h+1} under mu_h^j,
Q_h(s, a) = <phi(s, a), theta_h + g_h>. Kernels here are uniform laws on intervals, so g is a
one-dimensional integral. No reference: the instance is ours.

Legend: H horizon, A actions, d latent kernels; h = 0..H-1 is the papers' 1..H; s in [0, 1] state,
a action, j kernel; g [H, d].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thrifty.episodic.environments import Outcome
from thrifty.episodic.mdp import Floats, Integers, whole

Policy = Callable[[int, Floats], Integers]  # (h, states [n]) -> actions [n]


class LatentMDP:
    """An instance with states in [0, 1], an :class:`~thrifty.episodic.environments.Environment`.

    Known facts: phi(s, a) is the softmax of linear functions of s, so it lies in the simplex (norm
    at most 1); mu_h^j is uniform on an interval of length at least .1 in [0, 1]; theta_h uniform in
    [0, 1]^d; the first state is uniform in [0, 1]. A state is an array of one number.

    Args:
        d: number of latent kernels.
        A: number of actions.
        H: horizon.
        rng: draws the instance.
        sharpness: of the softmax; 0 gives every state and action the features 1/d.

    Raises:
        ValueError: a size below 1.

    Example:
        >>> mdp = LatentMDP(d=3, A=2, H=4, rng=np.random.default_rng(0))
        >>> mdp.features(0, mdp.reset(seed=1)).shape
        (2, 3)
    """

    reward_range = (0.0, 1.0)

    def __init__(
        self, d: int, A: int, H: int, rng: np.random.Generator, *, sharpness: float = 4.0
    ) -> None:
        self.d, self.A, self.H = whole("d", d), whole("A", A), whole("H", H)
        self.name = f"latent(d={d}, A={A}, H={H})"
        self.offset: Floats = sharpness * rng.standard_normal((A, d))
        self.slope: Floats = 2.0 * sharpness * rng.standard_normal((A, d))
        length = rng.uniform(0.1, 0.5, size=(H, d))
        self.low: Floats = rng.random((H, d)) * (1.0 - length)  # of the kernels' intervals
        self.high: Floats = self.low + length
        self.theta: Floats = rng.random((H, d))
        self._rng = np.random.default_rng(0)
        self._enter(0, np.zeros(1))

    # ------------------------------------------------------------------ as an environment

    def reset(self, seed: int) -> Floats:
        """Start an episode that depends on the seed alone; return the first state, [1]."""
        self._rng = np.random.default_rng(seed)
        return self._enter(0, self._rng.random(1))

    def step(self, a: int) -> Outcome:
        """Take an action: two uniform numbers, the kernel's and the state's."""
        h, phi = self._h, self._phi[a]
        of_kernel, of_state = self._rng.random(2)
        cdf = np.cumsum(phi)
        j = int(np.searchsorted(cdf / cdf[-1], of_kernel, side="right"))
        s = np.array([self.low[h, j] + of_state * (self.high[h, j] - self.low[h, j])])
        return Outcome(float(phi @ self.theta[h]), self._enter(h + 1, s), False)

    def _enter(self, h: int, s: Floats) -> Floats:
        self._h, self._s, self._phi = h, s, self.features_of(s)[0]
        return s

    def features(self, h: int, observation: Floats) -> Floats:
        """Return the features of every action, [A, d]; they are the same at every stage."""
        # A learner asks about the present state, more than once.
        return self._phi if observation is self._s else np.asarray(self.features_of(observation)[0])

    def rewards(self, h: int, observation: Floats) -> Floats:
        """Return the rewards of every action, [A]."""
        return np.asarray(self.features(h, observation) @ self.theta[h])

    def value_after_end(self, h: int) -> float:
        """Return 0: no episode ends before the horizon."""
        return 0.0

    def original_return(self, value: float) -> float:
        """Return the sum of rewards itself: its units are the original ones."""
        return value

    # ------------------------------------------------------------------ what is known exactly

    def features_of(self, s: Floats) -> Floats:
        """Return the features of every action in many states, [n, A, d] for s [n]."""
        logits = self.offset + self.slope * s[:, None, None]
        exponent = np.exp(logits - logits.max(axis=2, keepdims=True))
        return np.asarray(exponent / exponent.sum(axis=2, keepdims=True))

    def optimal_value(self, nodes: int = 2000) -> float:
        """Return V* of the first stage, by the midpoint rule with that many nodes per kernel.

        The integrand is smooth but for kinks where the best action changes, so the error falls like
        nodes^-2: with 2000 nodes it is below 1e-7 on the instances tried.
        """
        return self._value(None, nodes)

    def policy_value(self, policy: Policy, nodes: int = 2000) -> float:
        """Return the value of a policy from the first state's law.

        Args:
            policy: (h, states [n]) -> actions [n].
            nodes: of the midpoint rule, per kernel. A policy that jumps has error O(1 / nodes).
        """
        return self._value(policy, nodes)

    def _value(self, policy: Policy | None, nodes: int) -> float:
        places = (np.arange(nodes) + 0.5) / nodes
        g = np.zeros(self.d)
        for h in reversed(range(1, self.H)):
            # Stage h is entered by the kernels of stage h - 1.
            interval = self.high[h - 1] - self.low[h - 1]
            s = self.low[h - 1][:, None] + interval[:, None] * places
            g = self._values_at(h, s.ravel(), g, policy).reshape(self.d, nodes).mean(axis=1)
        return float(self._values_at(0, places, g, policy).mean())

    def _values_at(self, h: int, s: Floats, g: Floats, policy: Policy | None) -> Floats:
        Q = self.features_of(s) @ (self.theta[h] + g)
        if policy is None:
            return np.asarray(Q.max(axis=1))
        return np.asarray(Q[np.arange(len(s)), policy(h, s)])
