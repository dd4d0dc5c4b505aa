"""Target networks: the slow copy that bootstrapped values are read from.

Reference: Lillicrap et al. (2016), algorithm 1 (soft update).
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def polyak_update(online: nn.Module, target: nn.Module, tau: float) -> None:
    """Move the target's parameters a step towards the online ones: t <- t + tau (o - t).

    Args:
        online: the network that learns.
        target: its copy, same parameters in the same order; changed in place.
        tau: step in [0, 1]; 1 copies.
    """
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
