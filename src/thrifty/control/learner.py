"""What an experiment asks of an algorithm."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from thrifty.control.sparse_network import SparseNetwork
from thrifty.rl.transitions import Batch
from thrifty.sparse import TopologyUpdate

Floats = NDArray[np.float32]


class Learner(Protocol):
    """A learner: acts, updates, and knows nothing of environments or replay."""

    name: str
    updates: int

    @property
    def n_step(self) -> int:
        """Return the window length that the next update wants."""
        ...

    def policy(self, observation_BO: Any, /) -> Any:
        """Return noise-free normalised actions."""
        ...

    def act(
        self, observation_EO: Floats, /, *, explore: bool, generator: torch.Generator | None = None
    ) -> tuple[Floats, Floats]:
        """Return the actions to take and the noise-free ones."""
        ...

    def plan(self, config: Any, /) -> None:
        """Take over the time constants of a run that begins."""
        ...

    def update(self, batch: Batch, /) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Learn from one minibatch."""
        ...

    def networks(self) -> dict[str, SparseNetwork[Any]]:
        """Return the sparse networks by name."""
        ...

    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs beside the dense twin's."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Take over a stored state."""
        ...
