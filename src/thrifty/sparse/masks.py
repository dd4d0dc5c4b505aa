"""What evolution steps do with masks most often: count, find, cut.

On the CPU NumPy counts and finds several times faster than PyTorch, in the same memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__: list[str] = []  # for the modules of this room

_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def count(mask: Tensor) -> int:
    """Return how many places of a mask are True.

    Args:
        mask: bool, any shape, on any device.

    Example:
        >>> count(torch.tensor([[True, False], [True, True]]))
        3
    """
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.sum())


def positions(mask: Tensor) -> Tensor:
    """Return the flat indices of the places that are True, ascending, int64.

    Args:
        mask: bool, any shape, on any device.

    Example:
        >>> positions(torch.tensor([[True, False], [True, True]]))
        tensor([0, 2, 3])
    """
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def keep_only(mask: Tensor, tensor: Tensor) -> None:
    """Set a tensor to +0 outside of a mask, in place.

    Integers times 0 or 1, on the bits: exact also where the tensor holds NaN or infinity, and more
    than twice as fast as a masked fill.

    Args:
        mask: bool.
        tensor: of the same shape, of any type of 1, 2, 4 or 8 bytes.

    Example:
        >>> tensor = torch.tensor([float("nan"), -2.0])
        >>> keep_only(torch.tensor([False, True]), tensor)
        >>> tensor
        tensor([ 0., -2.])
    """
    tensor.view(_BITS[tensor.element_size()]).mul_(mask.view(torch.uint8))
