"""Linear-mixture MDPs: P_h(s'|s,a) = <theta_h, phi(s'|s,a)> with known features, unknown theta.

Reference: Ayoub, Jia, Szepesvari, Wang and Yang, "Model-based reinforcement learning with
value-targeted regression" (ICML 2020). It is another class than the linear MDP: the features belong
to triples, and using them needs sums over s', psi_f(s,a) = sum over s' of phi(s'|s,a) f(s').

Norms: ||theta_h|| <= sqrt(d), and ||psi_f(s,a)|| <= 1 for every f with values in [0, 1].

Legend: H horizon, S states, A actions, d dimension of the features; h = 0..H-1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from thrifty.episodic.mdp import EpisodicMDP, Floats, Initial, once, stages

_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinearMixtureMDP(EpisodicMDP):
    """A linear-mixture MDP; :meth:`from_parts` and :meth:`from_kernels` make its table P.

    Args:
        phi: features [S, A, S', d].
        theta: parameters [H, d], of norm at most sqrt(d).

    Raises:
        ValueError: the parts do not make probabilities, or a norm is too large.
    """

    phi: Floats = field()
    theta: Floats = field()

    def __post_init__(self) -> None:
        super().__post_init__()
        greatest = feature_norm(self.phi)
        if not greatest <= 1.0 + 1e-9:
            raise ValueError(
                f"psi has norm {greatest:.6g}, above 1, for a function with values in [0, 1]: "
                "divide phi by it and multiply theta"
            )
        norms = np.linalg.norm(once(self.theta), axis=-1)
        if not norms.max() <= np.sqrt(self.d) * (1.0 + 1e-9):
            raise ValueError(
                f"theta at stage {int(norms.argmax())} has norm {norms.max():.6g}, above "
                f"sqrt(d) = {np.sqrt(self.d):.6g}"
            )

    @classmethod
    def from_parts(
        cls,
        phi: ArrayLike,
        theta: ArrayLike,
        r: ArrayLike,
        *,
        horizon: int | None = None,
        initial: Initial = 0,
        name: str = "linear mixture",
    ) -> LinearMixtureMDP:
        """Make a linear-mixture MDP from features, parameters and rewards.

        Args:
            phi: [S, A, S', d].
            theta: [H, d], or [d] for the same at every stage.
            r: [H, S, A], or [S, A].
            horizon: H; needed if neither theta nor r has a stage axis.
            initial: see :class:`EpisodicMDP`.
            name: see :class:`EpisodicMDP`.

        Raises:
            ValueError: phi theta is no probability, a reward is outside [0, 1], or a norm is too
                large; says where.

        Example:
            >>> stay, swap = np.eye(2)[:, None], np.eye(2)[::-1][:, None]
            >>> phi = np.stack([stay, swap], axis=-1) / np.sqrt(2)
            >>> theta = np.sqrt(2) * np.array([0.75, 0.25])
            >>> one = LinearMixtureMDP.from_parts(phi, theta, [[0], [1]], horizon=3)
            >>> one.P[0, 0, 0].round(12).tolist()
            [0.75, 0.25]
        """
        phi, theta, r = (np.array(part, dtype=np.float64) for part in (phi, theta, r))
        if phi.ndim != 4 or phi.shape[0] != phi.shape[2]:
            raise ValueError(f"phi must be [S, A, S', d], not {list(phi.shape)}")
        S, A, _, d = phi.shape
        if theta.shape[-1:] != (d,) or theta.ndim not in (1, 2):
            raise ValueError(f"theta must be [d] or [H, d] with d={d}, not {list(theta.shape)}")
        if r.ndim not in (2, 3):
            raise ValueError(f"r must be [S, A] or [H, S, A], not {list(r.shape)}")
        H = stages(
            horizon,
            theta=len(theta) if theta.ndim == 2 else None,
            r=len(r) if r.ndim == 3 else None,
        )
        P = np.einsum("satd,...d->...sat", phi, theta)
        # Rounding may leave -1e-17 where a probability is 0.
        P[(P < 0.0) & (P >= -_TOLERANCE)] = 0.0
        return cls(
            P=np.broadcast_to(P, (H, S, A, S)),
            r=np.broadcast_to(r, (H, *r.shape[-2:])),
            initial=initial,
            name=name,
            phi=phi,
            theta=np.broadcast_to(theta, (H, d)),
        )

    @classmethod
    def from_kernels(
        cls,
        kernels: ArrayLike,
        weights: ArrayLike,
        r: ArrayLike,
        *,
        horizon: int | None = None,
        initial: Initial = 0,
        name: str = "mixture of kernels",
    ) -> LinearMixtureMDP:
        """Make the mixture sum_j w_j P_j: phi_j = P_j / sqrt(d), theta = sqrt(d) w. Norms hold.

        Args:
            kernels: d transition kernels [d, S, A, S'].
            weights: mixture weights [d], or [H, d].
            r: [S, A] or [H, S, A].
            horizon: see :meth:`from_parts`.
            initial: see :class:`EpisodicMDP`.
            name: see :class:`EpisodicMDP`.

        Raises:
            ValueError: the weights are no distribution, or the mixture is no kernel.
        """
        kernels, weights = np.array(kernels, dtype=np.float64), np.array(weights, dtype=np.float64)
        if kernels.ndim != 4 or weights.shape[-1:] != kernels.shape[:1]:
            raise ValueError(
                f"kernels must be [d, S, A, S'] and weights [d] or [H, d], not "
                f"{list(kernels.shape)} and {list(weights.shape)}"
            )
        if not (weights >= 0.0).all() or not (np.abs(weights.sum(-1) - 1.0) <= 1e-9).all():
            raise ValueError("the weights of the kernels must be at least 0 and add up to 1")
        root = np.sqrt(len(kernels))
        return cls.from_parts(
            np.moveaxis(kernels, 0, -1) / root,
            root * weights,
            r,
            horizon=horizon,
            initial=initial,
            name=name,
        )

    @property
    def d(self) -> int:
        """Return the dimension of the features."""
        return int(self.phi.shape[3])


def feature_norm(phi: Floats) -> float:
    """Return a bound on max of ||psi_f(s,a)|| over s, a and f with values in [0, 1].

    Each component of psi_f lies between the sum of its negative and of its positive parts; the
    bound takes the worse of the two in every component, and is attained where phi has one sign.

    Args:
        phi: [S, A, S', d].
    """
    up, down = np.maximum(phi, 0.0).sum(2), np.maximum(-phi, 0.0).sum(2)
    return float(np.linalg.norm(np.maximum(up, down), axis=-1).max())


def random_mixture(
    rng: np.random.Generator,
    *,
    states: int = 12,
    actions: int = 4,
    horizon: int = 5,
    dimension: int = 5,
    branching: int = 4,
    rewarding: float = 0.3,
) -> LinearMixtureMDP:
    """Return a mixture of random sparse kernels with random weights, the same at every stage.

    Every row of every base kernel has ``branching`` next states with Dirichlet(1) probabilities;
    the weights are Dirichlet(1). A share of the pairs (s, a) has a reward, uniform in [0, 1].

    Args:
        rng: draws the instance.
        states: S.
        actions: A.
        horizon: H.
        dimension: d, the number of base kernels.
        branching: next states per row of a base kernel, at most S.
        rewarding: probability that r(s, a) is not 0.

    Raises:
        ValueError: branching is not in 1..S.
    """
    if not 1 <= branching <= states:
        raise ValueError(f"branching {branching} is not in 1..{states}, the number of states")
    kernels = np.zeros((dimension, states, actions, states))
    for row in kernels.reshape(-1, states):
        row[rng.permutation(states)[:branching]] = rng.dirichlet(np.ones(branching))
    weights = rng.dirichlet(np.ones(dimension))
    r = rng.random((states, actions)) * (rng.random((states, actions)) < rewarding)
    return LinearMixtureMDP.from_kernels(
        kernels, weights, r, horizon=horizon, name="random_mixture"
    )


def one_hot(mdp: EpisodicMDP) -> LinearMixtureMDP:
    """Return a tabular MDP as a linear mixture with one-hot features of (s, a, s'): d = S^2 A.

    ||psi_f|| <= sqrt(S) for these features, so phi is divided and theta multiplied by sqrt(S); the
    norm of theta is then sqrt(S) times that of all probabilities, at most sqrt(S^2 A) = sqrt(d).

    Args:
        mdp: any tabular MDP; small, for phi has S^4 A^2 entries.
    """
    S, A = mdp.S, mdp.A
    d, root = S * A * S, np.sqrt(S)
    phi = np.eye(d).reshape(S, A, S, d) / root
    return LinearMixtureMDP.from_parts(
        phi, root * mdp.P.reshape(mdp.H, d), mdp.r, initial=mdp.initial, name=mdp.name
    )
