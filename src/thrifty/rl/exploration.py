"""Action noise in the normalised action space [-1, 1]."""

from __future__ import annotations

from torch import Tensor


def perturb(action: Tensor, standard_noise: Tensor, scale: float, clip: float | None) -> Tensor:
    """Add Gaussian noise to actions and keep them in [-1, 1].

    Args:
        action: normalised actions, any shape.
        standard_noise: standard normal draws of the same shape.
        scale: standard deviation of the noise, in units of half the action range.
        clip: largest absolute noise (target policy smoothing), or None for no limit.

    Returns:
        Perturbed actions in [-1, 1], same shape.

    Reference: Fujimoto et al. (2018), section 5.3.
    """
    noise = standard_noise * scale
    if clip is not None:
        noise = noise.clamp(-clip, clip)
    return (action + noise).clamp(-1.0, 1.0)
