"""States of experiments as plain values, to compare bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def plain(value: Any) -> Any:
    """A state as plain values: arrays as bytes with type and shape, rows of a log likewise."""
    if isinstance(value, torch.Tensor):
        return plain(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "rows"):
        return value.first, value.total, plain(value.rows(value.first, value.total))
    return value
