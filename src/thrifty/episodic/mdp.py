"""Finite-horizon episodic MDPs, tabular and linear, checked when they are made.

A linear MDP has known features phi and unknown mu, theta with P_h(s'|s,a) = <phi(s,a), mu_h(s')>
and r_h(s,a) = <phi(s,a), theta_h> (Jin, Yang, Wang and Jordan, COLT 2020, assumption A). Every
kernel is held as a table, so values and regret are computed exactly
(:mod:`thrifty.episodic.planning`).

Legend: H horizon, S states, A actions, d feature dimension; h = 0..H-1 here is the papers' 1..H;
s state, a action, k episode. P transition probabilities, r rewards, V values, phi features.
Stage-homogeneous tables are held once and broadcast over h: their stride over h is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# A distribution (floats, [S]), a state, states taken in turn (integers), or a rule k -> state.
Initial = int | Sequence[int] | Sequence[float] | NDArray[Any] | Callable[[int], int]

_SUM_TOLERANCE = 1e-9  # of a row of P, given by people as decimal fractions
_LINEAR_TOLERANCE = 1e-12  # of what is computed from phi, mu and theta


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class EpisodicMDP:
    """An episodic MDP as tables. :meth:`from_arrays` broadcasts and converts; this only checks.

    Args:
        P: probability of s' after a in s at stage h, [H, S, A, S].
        r: reward, known and deterministic, in [0, 1], [H, S, A].
        initial: where episode k starts: a distribution (floats, [S]), one state, states taken in
            turn (integers), or a function of k alone (an adversary; it may be asked ahead and more
            than once).
        name: shown in records and figures.
        reward_range: the rewards of one stage, in original units, that are 0 and 1 here.

    Raises:
        ValueError: a table is not what it should be; says at which stage, state and action.
    """

    P: Floats
    r: Floats
    initial: Initial = 0
    name: str = "mdp"
    reward_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.P.ndim != 4 or self.P.shape[1] != self.P.shape[3]:
            raise ValueError(f"P must be [H, S, A, S], not {list(self.P.shape)}")
        if 0 in self.P.shape:
            raise ValueError(
                f"P is {list(self.P.shape)}: horizon, states and actions must be at least 1"
            )
        if self.r.shape != self.P.shape[:3]:
            raise ValueError(
                f"r must be [H, S, A] = {list(self.P.shape[:3])}, not {list(self.r.shape)}"
            )
        _check_probabilities(once(self.P))
        _check_rewards(once(self.r))
        object.__setattr__(self, "initial", _checked_initial(self.initial, self.S))

    def __repr__(self) -> str:
        """Name it and its sizes; the tables themselves would fill the screen."""
        sizes = {size: getattr(self, size) for size in "HSAd" if hasattr(self, size)}
        told = "".join(f", {size}={number}" for size, number in sizes.items())
        return f"{type(self).__name__}({self.name!r}{told})"

    @classmethod
    def from_arrays(
        cls,
        P: ArrayLike,
        r: ArrayLike,
        *,
        horizon: int | None = None,
        initial: Initial = 0,
        name: str = "mdp",
        reward_range: tuple[float, float] = (0.0, 1.0),
    ) -> EpisodicMDP:
        """Make an MDP from tables with or without a stage axis.

        Args:
            P: [H, S, A, S], or [S, A, S] for the same kernel at every stage.
            r: [H, S, A], or [S, A].
            horizon: H; needed if neither table has a stage axis.
            initial: see the class.
            name: see the class.
            reward_range: see the class.

        Returns:
            The MDP; tables without a stage axis are broadcast, not copied H times.

        Raises:
            ValueError: a table is not what it should be; says where.

        Example:
            >>> coin = EpisodicMDP.from_arrays([[[0.5, 0.5]], [[0.5, 0.5]]], [[0], [1]], horizon=3)
            >>> coin.H, coin.S, coin.A
            (3, 2, 1)
        """
        P, r = np.array(P, dtype=np.float64), np.array(r, dtype=np.float64)
        if P.ndim not in (3, 4):
            raise ValueError(f"P must be [S, A, S] or [H, S, A, S], not {list(P.shape)}")
        if r.ndim not in (2, 3):
            raise ValueError(f"r must be [S, A] or [H, S, A], not {list(r.shape)}")
        H = stages(
            horizon, P=P.shape[0] if P.ndim == 4 else None, r=len(r) if r.ndim == 3 else None
        )
        return EpisodicMDP(
            P=np.broadcast_to(P, (H, *P.shape[-3:])),
            r=np.broadcast_to(r, (H, *r.shape[-2:])),
            initial=initial,
            name=name,
            reward_range=reward_range,
        )

    @property
    def H(self) -> int:
        """Return the horizon: the number of stages of an episode."""
        return int(self.P.shape[0])

    @property
    def S(self) -> int:
        """Return the number of states."""
        return int(self.P.shape[1])

    @property
    def A(self) -> int:
        """Return the number of actions."""
        return int(self.P.shape[2])

    @cached_property
    def cdf(self) -> Floats:
        """Return cumulative probabilities over s', [H, S, A, S]; the last is exactly 1.

        The next state is the first with cdf > u for u uniform in [0, 1): a state of probability 0
        is never drawn.
        """
        cumulated = np.cumsum(once(self.P), axis=-1)
        return np.broadcast_to(cumulated / cumulated[..., -1:], self.P.shape)

    @cached_property
    def initial_distribution(self) -> Floats:
        """Return the distribution of the first state, [S]; of states in turn, their frequencies.

        Raises:
            ValueError: an adversary chooses the first state.
        """
        if callable(self.initial):
            raise ValueError(f"{self.name}: a function chooses the first state, so it has no law")
        if isinstance(self.initial, np.ndarray):
            return self.initial
        states = np.atleast_1d(np.asarray(self.initial, dtype=np.int64))
        return np.bincount(states, minlength=self.S) / len(states)

    def starts(self, first: int, count: int, rng: np.random.Generator) -> Integers:
        """Return the first states of the episodes first, first + 1, ..., [count].

        One uniform number is drawn per episode if they are random, none otherwise.
        """
        if isinstance(self.initial, np.ndarray):
            cdf = np.cumsum(self.initial)
            return np.searchsorted(cdf / cdf[-1], rng.random(count), side="right")
        if callable(self.initial):
            choices: list[Any] = [self.initial(k) for k in range(first, first + count)]
            for k, s in enumerate(choices, first):
                if not (isinstance(s, int | np.integer) and 0 <= s < self.S):
                    raise ValueError(f"the first state of episode {k} is {s}, of {self.S} states")
            return np.array(choices, dtype=np.int64)
        states = np.atleast_1d(np.asarray(self.initial, dtype=np.int64))
        return states[np.arange(first, first + count) % len(states)]

    def step(self, h: int, s: int, a: int, rng: np.random.Generator) -> tuple[float, int]:
        """Return the reward of a in s at stage h, and a next state (one uniform number)."""
        s_next = np.searchsorted(self.cdf[h, s, a], rng.random(), side="right")
        return float(self.r[h, s, a]), int(s_next)

    def original_return(self, value: float) -> float:
        """Return a sum of H rewards of [0, 1] in the units of reward_range."""
        low, high = self.reward_range
        return self.H * low + (high - low) * value


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class LinearMDP(EpisodicMDP):
    """A linear MDP: P = phi mu and r = phi theta. :meth:`from_parts` makes the tables from these.

    Args:
        phi: features, of norm at most 1, [S, A, d].
        mu: signed measures over s', [H, d, S]; the norm of their total variations is at most
            sqrt(d), hence that of w_h(f) = mu_h f at most sqrt(d) max |f|.
        theta: [H, d], of norm at most sqrt(d).

    Raises:
        ValueError: a norm is too large, or the parts do not make probabilities and rewards.
    """

    phi: Floats = field()
    mu: Floats = field()
    theta: Floats = field()

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_features(self.phi)
        root = np.sqrt(self.d)
        for h, theta in enumerate(once(self.theta)):
            if not np.linalg.norm(theta) <= root * (1 + _LINEAR_TOLERANCE):
                raise ValueError(
                    f"theta at stage {h} has norm {np.linalg.norm(theta):.6g}, "
                    f"above sqrt(d) = {root:.6g}"
                )
        for h, mu in enumerate(once(self.mu)):
            norm = np.linalg.norm(np.abs(mu).sum(axis=1))
            if not norm <= root * (1 + _LINEAR_TOLERANCE):
                raise ValueError(
                    f"mu at stage {h} has total variation of norm {norm:.6g}, "
                    f"above sqrt(d) = {root:.6g}"
                )

    @classmethod
    def from_parts(
        cls,
        phi: ArrayLike,
        mu: ArrayLike,
        theta: ArrayLike,
        *,
        horizon: int | None = None,
        initial: Initial = 0,
        name: str = "linear mdp",
    ) -> LinearMDP:
        """Make a linear MDP from features, measures and reward parameters.

        Args:
            phi: [S, A, d].
            mu: [H, d, S], or [d, S] for the same measures at every stage.
            theta: [H, d], or [d].
            horizon: H; needed if neither mu nor theta has a stage axis.
            initial: see :class:`EpisodicMDP`.
            name: see :class:`EpisodicMDP`.

        Returns:
            The MDP with its tables P and r.

        Raises:
            ValueError: phi mu is no probability to 1e-12, phi theta not in [0, 1], or a norm is too
                large; says at which stage, state and action.

        Example:
            >>> phi, mu, theta = [[[1.0, 0.0]], [[0.0, 1.0]]], [[0, 1], [1, 0]], [0, 1]
            >>> LinearMDP.from_parts(phi, mu, theta, horizon=2).P[0, :, 0].tolist()
            [[0.0, 1.0], [1.0, 0.0]]
        """
        phi, mu, theta = (np.array(part, dtype=np.float64) for part in (phi, mu, theta))
        if phi.ndim != 3:
            raise ValueError(f"phi must be [S, A, d], not {list(phi.shape)}")
        S, A, d = phi.shape
        if mu.shape[-2:] != (d, S) or mu.ndim not in (2, 3):
            raise ValueError(
                f"mu must be [d, S] or [H, d, S] with d={d}, S={S}, not {list(mu.shape)}"
            )
        if theta.shape[-1:] != (d,) or theta.ndim not in (1, 2):
            raise ValueError(f"theta must be [d] or [H, d] with d={d}, not {list(theta.shape)}")
        H = stages(
            horizon,
            mu=len(mu) if mu.ndim == 3 else None,
            theta=len(theta) if theta.ndim == 2 else None,
        )
        _check_features(phi)
        for part, table in (("mu", mu), ("theta", theta)):
            if not np.all(np.isfinite(table)):
                raise ValueError(f"{part} has values that are not finite")
        # One stage [S, A, ...] or all of them [H, S, A, ...].
        P = (phi.reshape(-1, d) @ mu).reshape(*mu.shape[:-2], S, A, S)
        r = (theta @ phi.reshape(-1, d).T).reshape(*theta.shape[:-1], S, A)
        _check_probabilities(P.reshape(-1, S, A, S), tolerance=_LINEAR_TOLERANCE)
        _check_rewards(r.reshape(-1, S, A), tolerance=_LINEAR_TOLERANCE)
        return cls(
            # Rounding may leave -1e-17 where a probability is 0.
            P=np.broadcast_to(np.clip(P, 0.0, 1.0), (H, S, A, S)),
            r=np.broadcast_to(np.clip(r, 0.0, 1.0), (H, S, A)),
            initial=initial,
            name=name,
            phi=phi,
            mu=np.broadcast_to(mu, (H, d, S)),
            theta=np.broadcast_to(theta, (H, d)),
        )

    @property
    def d(self) -> int:
        """Return the dimension of the features."""
        return int(self.phi.shape[2])


def tabular(mdp: EpisodicMDP) -> LinearMDP:
    """Return the same MDP with one-hot features of (s, a): d = S A, mu = P, theta = r.

    Example:
        >>> tabular(EpisodicMDP.from_arrays([[[1.0]]], [[0.5]], horizon=2)).d
        1
    """
    H, S, A, d = mdp.H, mdp.S, mdp.A, mdp.S * mdp.A
    return LinearMDP(
        P=mdp.P,
        r=mdp.r,
        initial=mdp.initial,
        name=mdp.name,
        reward_range=mdp.reward_range,
        phi=np.eye(d).reshape(S, A, d),
        mu=np.broadcast_to(once(mdp.P).reshape(-1, d, S), (H, d, S)),
        theta=np.broadcast_to(once(mdp.r).reshape(-1, d), (H, d)),
    )


def once(table: Floats) -> Floats:
    """Return a table without the repetitions of a broadcast stage axis: [1, ...] or [H, ...]."""
    return table[:1] if table.strides[0] == 0 else table


def stages(horizon: int | None, **lengths: int | None) -> int:
    """Return H, on which the argument ``horizon`` and the tables' stage axes must agree."""
    known = {name: length for name, length in lengths.items() if length is not None}
    if horizon is None and not known:
        raise ValueError(f"none of {', '.join(lengths)} has a stage axis: give horizon=")
    H = whole("horizon", next(iter(known.values())) if horizon is None else horizon)
    for name, length in known.items():
        if length != H:
            raise ValueError(f"{name} has {length} stages, but the horizon is {H}")
    return H


def whole(name: str, size: object, least: int = 1) -> int:
    """Return a size as an integer.

    Raises:
        ValueError: it is no whole number, or below the least one; names it.

    Example:
        >>> whole("horizon", 5.0)
        5
    """
    number = np.nan if isinstance(size, bool) or not isinstance(size, Real) else float(size)
    if not (number.is_integer() and number >= least):
        raise ValueError(f"{name} must be a whole number of at least {least}, not {size!r}")
    return int(number)


def _first(fault: NDArray[np.bool_]) -> str:
    """Say where the first True of [S, A], [H, S, A] or [H, S, A, S] lies."""
    where = np.argwhere(fault)[0]
    names = ["stage", "state", "action", "next state"]
    names = names[1:3] if fault.ndim == 2 else names[: fault.ndim]
    return ", ".join(f"{name} {index}" for name, index in zip(names, where, strict=True))


def _check_probabilities(P: Floats, tolerance: float = 0.0) -> None:
    bad = ~np.isfinite(P)
    if bad.any():
        raise ValueError(f"P is not finite at {_first(bad)}")
    bad = P + tolerance < 0.0
    if bad.any():
        raise ValueError(f"P is {P[bad][0]:.6g}, a negative probability, at {_first(bad)}")
    total = P.sum(axis=-1)
    bad = np.abs(total - 1.0) > (tolerance or _SUM_TOLERANCE)
    if bad.any():
        raise ValueError(f"P sums to {total[bad][0]:.15g}, not to 1, at {_first(bad)}")


def _check_rewards(r: Floats, tolerance: float = 0.0) -> None:
    bad = ~np.isfinite(r)
    if bad.any():
        raise ValueError(f"r is not finite at {_first(bad)}")
    bad = (r < -tolerance) | (r > 1.0 + tolerance)
    if bad.any():
        raise ValueError(
            f"r is {r[bad][0]:.6g}, outside [0, 1], at {_first(bad)}: "
            "map the rewards of a stage to [0, 1]"
        )


def _check_features(phi: Floats) -> None:
    bad = np.asarray(~np.isfinite(phi).all(axis=-1))
    if bad.any():
        raise ValueError(f"phi is not finite at {_first(bad)}")
    norm: Floats = np.sqrt((phi * phi).sum(axis=-1))
    bad = np.asarray(norm > 1.0 + _LINEAR_TOLERANCE)
    if bad.any():
        raise ValueError(
            f"phi has norm {norm[bad][0]:.6g}, above 1, at {_first(bad)}: "
            "divide all features by the greatest norm"
        )


def _checked_initial(initial: Initial, S: int) -> Initial:
    """Return a distribution as floats, states in turn as a tuple, the rest unchanged."""
    if callable(initial):
        return initial
    given = np.asarray(initial)
    if given.dtype.kind in "iu" and given.ndim <= 1 and given.size:
        states = np.atleast_1d(given)
        if states.min() < 0 or states.max() >= S:
            outside = states[(states < 0) | (states >= S)][0]
            raise ValueError(f"initial state {outside} does not exist: there are {S} states")
        return int(given) if given.ndim == 0 else tuple(states.tolist())
    if given.dtype.kind != "f" or given.shape != (S,):
        raise ValueError(
            f"initial must be a state, states, a function of k, or a distribution of {S} floats, "
            f"not {initial!r}"
        )
    if not np.all(given >= 0.0) or abs(given.sum() - 1.0) > _SUM_TOLERANCE:
        raise ValueError("initial is no distribution: its entries must be >= 0 and sum to 1")
    return given.astype(np.float64)
