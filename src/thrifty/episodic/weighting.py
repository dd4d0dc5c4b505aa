"""The constants of the two learners, and the weight of a sample: sbar^2, whose inverse it is.

He, Zhao, Zhou and Gu 2023 (LSVI-UCB++) with lambda = 1/H^2 and L = log(1 + d H K / (delta lambda)):

    beta       = H sqrt(d lambda) + sqrt(d) L           bonus of the optimistic values
    beta_bar   = H sqrt(d lambda) + sqrt(d^3 H^2) L     bonus of the pessimistic values
    beta_tilde = H^2 sqrt(d lambda) + sqrt(d^3 H^4) L   error of the regressed second moment

    Vhat   = clip(<w2, phi>, 0, H^2) - clip(<w, phi>, 0, H)^2
    E      = min { beta_tilde u, H^2 } + min { 2 H beta_bar u, H^2 }
    D      = min { 4 d^3 H^2 (<w, phi> - <wpes, phi> + 2 beta_bar u), d^3 H^3 }
    sbar^2 = max { Vhat + E + D + H, H, 4 d^6 H^4 u }

The paper gives beta, beta_bar and beta_tilde up to constants; ours have the constant 1. These
constants are for the theory: a hundred thousand episodes may not suffice for one change of policy.
The practical ones drop the powers of d, scale E and D down and keep a small floor:

    sbar^2 = max { Vhat + c (E + D), floor },   D = min { 4 H max(..., 0), H^2 },
    beta_bar = beta, beta_tilde = H beta

Where we differ: the paper prints H as the floor of sbar, but its proof needs sbar^2 >= H (Tan, Fan
and Wei 2024), which is what stands above; and the difference inside D counts as 0 where it is
negative, which does not happen where optimism and pessimism hold.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

from numba import njit

from thrifty.episodic.mdp import whole

_COMPILE: dict[str, Any] = {"error_model": "numpy", "nogil": True, "cache": True}


class Weighting(NamedTuple):
    """sbar^2 = max { variance Vhat + error E + gap D + offset, floor, conservatism u }."""

    beta: float
    """Bonus factor of the optimistic values."""
    beta_bar: float
    """Bonus factor of the pessimistic values."""
    beta_tilde: float
    """Factor of the error of the regressed second moment."""
    variance: float
    """Factor of the estimated variance: 1, or 0 for constant weights."""
    error: float
    """Factor of E."""
    gap: float
    """Factor of D."""
    gap_scale: float
    """Factor inside D."""
    gap_cap: float
    """Upper bound inside D."""
    offset: float
    """Added variance."""
    floor: float
    """Least sbar^2."""
    conservatism: float
    """Factor of the elliptical norm u."""


def theory_weighting(d: int, H: int, K: int, delta: float) -> tuple[float, Weighting]:
    """Return (lambda, constants) of the theory, with leading constant 1.

    Args:
        d: features.
        H: stages.
        K: episodes.
        delta: probability of failure, in (0, 1).

    Example:
        >>> regulariser, constants = theory_weighting(4, 5, 100_000, 0.01)
        >>> regulariser, round(constants.beta, 1), round(constants.beta_bar)
        (0.04, 46.7, 895)
    """
    check_delta(delta)
    for name, size in (("d", d), ("H", H), ("K, the number of episodes,", K)):
        whole(name, size)
    lam = 1.0 / H**2
    L = math.log(1.0 + d * H * K / (delta * lam))
    return lam, Weighting(
        beta=H * math.sqrt(d * lam) + math.sqrt(d) * L,
        beta_bar=H * math.sqrt(d * lam) + math.sqrt(d**3 * H**2) * L,
        beta_tilde=H**2 * math.sqrt(d * lam) + math.sqrt(d**3 * H**4) * L,
        variance=1.0,
        error=1.0,
        gap=1.0,
        gap_scale=4.0 * d**3 * H**2,
        gap_cap=float(d**3 * H**3),
        offset=float(H),
        floor=float(H),
        conservatism=4.0 * d**6 * H**4,
    )


def check_weighting(c: Weighting) -> None:
    """Refuse constants with which nothing can be weighted.

    Raises:
        ValueError: a constant that is not finite, negative, or a floor of 0; names it.
    """
    if not isinstance(c, Weighting):  # a number, say
        raise ValueError(
            f"weighting must be a Weighting, got {type(c).__name__}: "
            "practical_weighting(H, beta) makes one"
        )
    for name, value in c._asdict().items():
        if name == "floor":
            _positive(name, value)
        else:
            check_factor(name, value)


def check_factor(name: str, value: object) -> None:
    """Refuse what cannot scale a bonus.

    Raises:
        ValueError: it is no finite number of at least 0; names it.
    """
    if not (isinstance(value, Real) and 0.0 <= float(value) < math.inf):
        raise ValueError(f"{name} must be finite and at least 0, got {value!r}")


def practical_weighting(
    H: int, beta: float, *, correction: float = 0.02, floor: float = 0.05
) -> Weighting:
    """Return practical constants, which come without a guarantee.

    Args:
        H: stages.
        beta: bonus factor.
        correction: factor c of E and D.
        floor: least sbar^2, > 0.

    Raises:
        ValueError: a number out of its range.
    """
    whole("H", H)
    check_factor("beta", beta)
    check_factor("correction", correction)
    return Weighting(
        beta=beta,
        beta_bar=beta,
        beta_tilde=H * beta,
        variance=1.0,
        error=correction,
        gap=correction,
        gap_scale=4.0 * H,
        gap_cap=float(H**2),
        offset=0.0,
        floor=_positive("floor", floor),
        conservatism=0.0,
    )


def constant_weighting(beta: float, sbar2: float) -> Weighting:
    """Return constants that give every sample the same sbar^2: LSVI-UCB in other units.

    With lambda and beta it equals LSVI-UCB with sbar2 lambda and sqrt(sbar2) beta.
    """
    return practical_weighting(1, beta, correction=0.0, floor=sbar2)._replace(variance=0.0)


def theory_beta(d: int, H: int, K: int, delta: float) -> float:
    """Return LSVI-UCB's beta = d H sqrt(log(2 d T / delta)) for lambda = 1 (Jin et al. 2020).

    Example:
        >>> round(theory_beta(4, 5, 100_000, 0.01))
        89
    """
    check_delta(delta)
    whole("K, the number of episodes", K)
    return d * H * math.sqrt(math.log(2.0 * d * H * K / delta))


def reward_beta(d: int, H: int, K: int, delta: float, regulariser: float) -> float:
    """Return the bonus factor of regressed rewards (Abbasi-Yadkori et al. 2011, theorem 2).

    Noise in [0, 1] is 1/2-sub-Gaussian, |theta| <= sqrt(d), and all H stages hold together.
    """
    check_delta(delta)
    spread = d * math.log(1.0 + K / (d * regulariser)) + 2.0 * math.log(H / delta)
    return 0.5 * math.sqrt(spread) + math.sqrt(regulariser * d)


def check_delta(delta: float) -> None:
    """Refuse what is no probability of failure.

    Raises:
        ValueError: delta is not in (0, 1).
    """
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must lie in (0, 1), got {delta}")


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return float(value)


@njit(**_COMPILE)
def sample_variance(c, H, mean, second, upper, lower, slack, u):
    """Return sbar^2 of a sample.

    Args:
        c: the constants.
        H: stages.
        mean: <w, phi>, the regressed next value.
        second: <w2, phi>, its regressed square.
        upper: the value that D starts from: <w, phi>, or the over-optimistic one.
        lower: <wpes, phi>.
        slack: 2 beta_bar u, or 0 where upper and lower contain their bonuses.
        u: the elliptical norm of phi.
    """
    top = float(H)
    value = min(max(mean, 0.0), top)
    variance = min(max(second, 0.0), top * top) - value * value
    error = min(c.beta_tilde * u, top * top) + min(2.0 * top * c.beta_bar * u, top * top)
    gap = min(c.gap_scale * max(upper - lower + slack, 0.0), c.gap_cap)
    sbar2 = c.variance * variance + c.error * error + c.gap * gap + c.offset
    return max(sbar2, c.floor, c.conservatism * u)
