"""Episodes that are kept, and sequences of single users drawn from them.

Whole episodes are kept, as they were executed: queues, channels as seen, energies, successes. What
is drawn is a user's whole episode, so memories start empty and are computed anew. Prices are no
part of what is kept: rewards follow from what happened, at whatever price is asked for later.

Legend: E episodes that fit, T slots, F flows, H hops, J cells, B sequences drawn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.scheduling.queueing import View


class Sequences(NamedTuple):
    """Episodes of single users, slots first."""

    flow: Tensor
    """Number of each user's flow [B]."""
    queue: Tensor
    """Packets [T + 1, B, J], float."""
    channel: Tensor | None
    """As seen [T + 1, B, H]."""
    phase: Tensor | None
    """Slot of the channel's cycle [T + 1, B]."""
    energy: Tensor
    """Executed [T, B, J]."""
    success: Tensor
    """Packets that got through [T, B, J], float."""


class Episodes:
    """A ring of episodes.

    Args:
        capacity: E, a multiple of ``together``.
        together: episodes that are written at once.
        slots: T.
        flows: F.
        hops: H.
        cells: J.
    """

    def __init__(
        self, capacity: int, together: int, slots: int, flows: int, hops: int, cells: int
    ) -> None:
        self.slots, self.capacity, self._together = slots, capacity, together
        shape = (capacity, slots + 1, flows)
        self._queue = np.zeros((*shape, cells), dtype=np.int16)
        self._channel = np.full((*shape, hops), -1, dtype=np.int8)
        self._phase = np.full(shape[:2], -1, dtype=np.int32)
        self._energy = np.zeros((capacity, slots, flows, cells), dtype=np.float32)
        self._success = np.zeros((capacity, slots, flows, cells), dtype=np.int16)
        self._next = 0
        self.count = 0
        """Episodes kept."""

    @property
    def _rows(self) -> slice:
        """The episodes that are being written."""
        return slice(self._next, self._next + self._together)

    def see(self, slot: int, view: View) -> None:
        """Write down what is seen at the beginning of a slot."""
        rows = self._rows
        self._queue[rows, slot] = view.queue.reshape(self._queue[rows, slot].shape)
        if view.channel is not None:
            self._channel[rows, slot] = view.channel
        if view.phase is not None:
            self._phase[rows, slot] = view.phase

    def did(self, slot: int, energy: NDArray[Any], success: NDArray[np.int64]) -> None:
        """Write down what was executed in a slot, and what got through."""
        rows = self._rows
        self._energy[rows, slot] = energy.reshape(self._energy[rows, slot].shape)
        self._success[rows, slot] = success.reshape(self._success[rows, slot].shape)

    def agrees(self, slot: int, view: View) -> bool:
        """Whether the queues of a slot are those that were written down."""
        written = self._queue[self._rows, slot]
        return bool(np.array_equal(written, view.queue.reshape(written.shape)))

    def executed(self, slot: int) -> NDArray[np.float32]:
        """Return the energies of a slot of the episodes that are being written [M, F, J]."""
        return self._energy[self._rows, slot]

    def close(self) -> None:
        """Let the episodes written be drawn."""
        stop = self._rows.stop
        self.count = max(self.count, stop)
        self._next = stop % self.capacity

    def draw(self, many: int, generator: torch.Generator) -> Sequences:
        """Return so many episodes of single users, drawn alike."""
        flows = self._queue.shape[2]
        episode = torch.randint(self.count, (many,), generator=generator).numpy()
        flow = torch.randint(flows, (many,), generator=generator)

        def of(array: NDArray[Any]) -> Tensor:
            return torch.from_numpy(array[episode, :, flow.numpy()]).transpose(0, 1)

        channel = of(self._channel) if self._channel[0, 0, 0, 0] >= 0 else None
        phase = torch.from_numpy(self._phase[episode].T) if self._phase[0, 0] >= 0 else None
        return Sequences(
            flow,
            of(self._queue).float(),
            channel,
            phase,
            of(self._energy),
            of(self._success).float(),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept, and of an episode under way what was written."""
        stop = max(self.count, self._rows.stop)
        return {
            "next": self._next,
            "count": self.count,
            **{name: array[:stop].copy() for name, array in self._arrays().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what was kept."""
        self._next, self.count = state["next"], state["count"]
        for name, array in self._arrays().items():
            array[: len(state[name])] = state[name]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "queue": self._queue,
            "channel": self._channel,
            "phase": self._phase,
            "energy": self._energy,
            "success": self._success,
        }
