"""The value of a state from sampled actions: softmax, one smoothed action, or the action alone.

Legend: S samples, first axis; any shape behind it.

Reference:
    Pan, Cai, Huang, "Softmax deep double deterministic policy gradients", NeurIPS 2020.
"""

from __future__ import annotations

import torch
from torch import Tensor

OPERATORS = ("softmax", "smoothed", "plain")


def softmax_value(q: Tensor, inverse_temperature: float) -> Tensor:
    """Return ``sum_s w_s q_s`` with ``w_s`` proportional to ``exp(inverse_temperature q_s)``.

    0 is the mean of the samples, infinity their maximum.

    Args:
        q: worth of the sampled actions [S, ...].
        inverse_temperature: at least 0.

    Example:
        >>> softmax_value(torch.tensor([0.0, 1.0]), 0.0)
        tensor(0.5000)
    """
    return (torch.softmax(inverse_temperature * q, dim=0) * q).sum(dim=0)


def sampled(energy: Tensor, noise: Tensor | None) -> Tensor:
    """Return the energies to average over [S, ...]: moved by the noise, within [0, 1].

    Args:
        energy: what the policy proposes [...].
        noise: [S, ...]; None gives the proposal alone, as [1, ...].
    """
    if noise is None:
        return energy[None]
    return (energy + noise).clamp(0.0, 1.0)


def straight_through(raw: Tensor) -> Tensor:
    """Return numbers clipped to [0, 1] whose gradient is that of the numbers themselves."""
    return raw + (raw.clamp(0.0, 1.0) - raw).detach()


def mispaired(contexts: Tensor, samples: int) -> Tensor:
    """Return contexts [S, B, C] as the published code pairs them with sampled actions.

    Sampled actions are laid out sequence by sequence, contexts one block after another, and the
    values are folded back sequence by sequence: sample s of sequence b meets the context of
    sequence ``(b S + s) mod B``.

    Args:
        contexts: one for each sequence [B, ...].
        samples: S.
    """
    count = len(contexts)
    index = torch.arange(count * samples).reshape(count, samples).T % count
    return contexts[index]
