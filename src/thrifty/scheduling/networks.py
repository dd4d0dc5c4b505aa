"""The networks of RSD4: what a user knows and remembers, and what is read off from it.

A context is the joint of two branches: a linear layer on what is seen now, and an LSTM over what
was seen, tried and got through in the slots before. Every network has a context, and memory, of its
own. Without recurrence the second branch is absent.

What was tried reaches the memory as a sum over packets, each success and each failure adding a
learned vector of its energy: the same form as the evidence of a Bayes filter, and it serves any
number of attempts.

Legend: T slots, N users, O features, J cells, W width, R rows (packets' cells), S sampled energies.

Reference:
    Hu et al., arXiv 2208.14074, released code (two branches, LSTM of one layer). We add what got
    through to the memory's input, take smooth units behind the context, and clip energies where
    the code has tanh, so that an energy can be exactly 0 or 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Memory = tuple[Tensor, Tensor]
"""LSTM state, hidden and cell, [1, N, W] each."""

EVIDENCE = 16
"""E, learned numbers of an attempt."""
EVIDENCE_SCALE = 0.2
"""Of a packet's count."""
ROOT = 1e-3
"""Added to an energy, so that its root has a slope at 0."""


class Context(nn.Module):
    """What a user knows: [T, N, O] and what was tried to [T, N, size].

    Args:
        features: O.
        width: W of each branch.
        recurrent: with the memory.
    """

    def __init__(self, features: int, width: int, *, recurrent: bool) -> None:
        super().__init__()
        self.look = nn.Linear(features, width)
        self.recurrent = recurrent
        self.size = 2 * width if recurrent else width
        if recurrent:
            self.attempt = nn.Linear(2, EVIDENCE)
            self.enter = nn.Linear(features + 2 * EVIDENCE + 2, width)
            self.memory = nn.LSTM(width, width)

    def forward(
        self, seen: Tensor, tried: Tensor | None, memory: Memory | None = None
    ) -> tuple[Tensor, Memory | None]:
        """Return the contexts [T, N, size], and the memory after the last.

        Args:
            seen: of each slot [T, N, O].
            tried: in the slot before each [T, N, J, 4]: packets that got through, that did not,
                energy, log d^3. None without recurrence.
            memory: before the first; empty if None.
        """
        now = F.relu(self.look(seen))
        if not self.recurrent:
            return now, None
        assert tried is not None, "a memory is fed"
        entered = F.relu(self.enter(torch.cat([seen, self.evidence(tried)], dim=-1)))
        remembered, memory = self.memory(entered, memory)
        return torch.cat([now, remembered], dim=-1), memory

    def evidence(self, tried: Tensor) -> Tensor:
        """Return sums over packets, of those that got through and of the others [T, N, 2 E + 2].

        Each packet adds E learned numbers of its energy and link, and a one.

        Args:
            tried: as in :meth:`forward`.
        """
        counts = tried[..., :2].transpose(-1, -2) * EVIDENCE_SCALE
        of = F.silu(self.attempt(tried[..., 2:].contiguous()))
        told = (counts[..., None] * of[..., None, :, :]).sum(dim=-2)
        return torch.cat([told.flatten(-2), counts.sum(dim=-1)], dim=-1)


class CellHead(nn.Module):
    """Reads numbers off for single cells; the same weights for every user, hop and slots left.

    Args:
        context: size of the context.
        cell: numbers that describe a cell.
        width: of two hidden layers.
        outputs: numbers read off.
        action: whether an energy is an input as well.
    """

    def __init__(self, context: int, cell: int, width: int, outputs: int, *, action: bool) -> None:
        super().__init__()
        self.of_context = nn.Linear(context, width)
        self.of_cell = nn.Linear(cell, width, bias=False)
        self.of_action = nn.Linear(2, width, bias=False) if action else None
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, outputs)

    def forward(
        self,
        context: Tensor,
        row: Tensor,
        cell: Tensor,
        energy: Tensor | None = None,
    ) -> Tensor:
        """Return [R, outputs], or [S, R, outputs] for S energies each.

        Args:
            context: of all users [N, size]; each enters the first layer once.
            row: which user each cell belongs to [R].
            cell: what describes it [R, cell].
            energy: [R] or [S, R]; of the S only the last layers are repeated.
        """
        entered = self.of_context(context)[row] + self.of_cell(cell)
        if self.of_action is not None:
            assert energy is not None, "this head takes an energy"
            tried = torch.stack([energy, (energy + ROOT).sqrt()], dim=-1)
            entered = entered + self.of_action(tried)
        result: Tensor = self.out(F.silu(self.hidden(F.silu(entered))))
        return result


class PacketActor(nn.Module):
    """An energy for every packet's cell, from its user's context.

    Args:
        features: O.
        cell: numbers that describe a cell.
        width: W.
        recurrent: with memory.
        predicts: with a head for the auxiliary loss.
    """

    def __init__(
        self, features: int, cell: int, width: int, *, recurrent: bool, predicts: bool
    ) -> None:
        super().__init__()
        self.context = Context(features, width, recurrent=recurrent)
        self.head = CellHead(self.context.size, cell, width, 1, action=False)
        self.predictor = (
            CellHead(self.context.size, cell, width // 2, 1, action=True) if predicts else None
        )

    def forward(self, context: Tensor, row: Tensor, cell: Tensor) -> Tensor:
        """Return what is clipped to an energy, [R]."""
        result: Tensor = self.head(context, row, cell)[..., 0]
        return 0.5 + result


class PacketCritic(nn.Module):
    """The worth of an energy for one packet: its chance, and what follows success and failure.

    ``q = p u + (1 - p) v - cost e``: p the probability that the attempt gets through, u and v what
    the packet is worth afterwards. Three outputs of one head; at the last hop u is known.

    Args:
        features: O.
        cell: numbers that describe a cell.
        width: W.
        recurrent: with memory.
    """

    def __init__(self, features: int, cell: int, width: int, *, recurrent: bool) -> None:
        super().__init__()
        self.context = Context(features, width, recurrent=recurrent)
        self.head = CellHead(self.context.size, cell, width, 3, action=True)

    def forward(self, context: Tensor, row: Tensor, cell: Tensor, energy: Tensor) -> Tensor:
        """Return logit of p, u and v, [..., R, 3] for energies [..., R]."""
        result: Tensor = self.head(context, row, cell, energy)
        return result


class UserActor(nn.Module):
    """Energies of all cells of a user.

    Args:
        features: O.
        cells: J.
        width: W.
        recurrent: with memory.
        predicts: with a layer for the auxiliary loss.
    """

    def __init__(
        self, features: int, cells: int, width: int, *, recurrent: bool, predicts: bool
    ) -> None:
        super().__init__()
        self.context = Context(features, width, recurrent=recurrent)
        self.hidden = nn.Linear(self.context.size, width)
        self.out = nn.Linear(width, cells)
        self.predictor = nn.Linear(self.context.size + cells, cells) if predicts else None

    def forward(self, context: Tensor) -> Tensor:
        """Return what is clipped to energies, [..., J]."""
        result: Tensor = self.out(F.silu(self.hidden(context)))
        return 0.5 + result


class UserCritic(nn.Module):
    """The worth of a user's energies, all cells together, their cost in this slot left out.

    Args:
        features: O.
        cells: J.
        width: W.
        recurrent: with memory.
    """

    def __init__(self, features: int, cells: int, width: int, *, recurrent: bool) -> None:
        super().__init__()
        self.context = Context(features, width, recurrent=recurrent)
        self.of_context = nn.Linear(self.context.size, width)
        self.of_action = nn.Linear(cells, width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, context: Tensor, energies: Tensor) -> Tensor:
        """Return [..., N] for contexts [..., N, size] and energies [..., N, J]."""
        entered = F.silu(self.of_context(context) + self.of_action(energies))
        result: Tensor = self.out(F.silu(self.hidden(entered)))
        return result[..., 0]
