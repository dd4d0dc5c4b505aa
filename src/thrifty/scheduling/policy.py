"""A learned policy as a scheduler: memories, features and prices of all users at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.scheduling.features import tensor
from thrifty.scheduling.queueing import Slot, View
from thrifty.scheduling.rsd4 import RSD4, Memories

Floats = NDArray[np.float64]


class PolicyScheduler:
    """Acts by the networks of a learner.

    Args:
        learner: whose networks act.
        prices: of energy at each node [H], or [M, H] for every environment its own.
        explore: generator of the exploration; None acts without, by the averaged networks.
        random: every energy is uniform (warm-up); needs ``explore``.
        only: number of the actor that acts; None lets the critics judge.
    """

    def __init__(
        self,
        learner: RSD4,
        prices: Any,
        *,
        explore: np.random.Generator | None = None,
        random: bool = False,
        only: int | None = None,
    ) -> None:
        self.name = learner.name
        self._learner = learner
        self._given = np.asarray(prices, dtype=np.float64)
        self._explore, self._random, self._only = explore, random, only
        self._decision = learner.decision() if explore is None and only is None else None

    def reset(self, environments: int) -> None:
        """Begin with empty memories."""
        features = self._learner.features
        flows = len(features.weights)
        given = np.broadcast_to(self._given, (environments, features.hops))
        self._prices = torch.from_numpy(given.astype(np.float32)).repeat_interleave(flows, 0)
        self._flow = torch.arange(flows).repeat(environments)
        self._memories: Memories = {}
        self._tried = torch.zeros(environments * flows, features.cells, 4)
        if self._decision is not None:
            self._decision.reset(self._flow, self._prices)

    def energies(self, view: View) -> Floats:
        """Return the networks' energies [M, F, H, K]."""
        environments, flows, hops, _ = view.queue.shape
        users = environments * flows
        waiting = torch.from_numpy(view.queue.reshape(users, -1)).float()
        channel = None if view.channel is None else tensor(view.channel.reshape(users, hops))
        phase = None if view.phase is None else tensor(view.phase.repeat(flows))
        if self._decision is not None:
            energy = self._decision.energies(waiting, channel, phase).numpy()
        elif self._explore is not None and self._random:
            energy = self._explore.random(view.queue.shape, dtype=np.float32)
        else:
            energy = self._acted(waiting, channel, phase)
        energy = energy.reshape(view.queue.shape)
        if self._explore is not None and not self._random:
            energy = self._explored(energy, self._explore)
        self._sent = torch.from_numpy(energy.reshape(users, -1)) * (waiting > 0)
        self._waiting = waiting
        return energy.astype(np.float64)

    def _acted(
        self, waiting: Tensor, channel: Tensor | None, phase: Tensor | None
    ) -> NDArray[np.float32]:
        features = self._learner.features
        found, self._memories = self._learner.act(
            features.observe(self._flow, self._prices, waiting, channel, phase),
            self._tried if self._learner.config.recurrent else None,
            waiting,
            channel,
            self._flow,
            self._prices,
            self._memories,
            averaged=self._explore is None,
            only=self._only,
        )
        return found.numpy()

    def _explored(
        self, energy: NDArray[np.float32], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        config = self._learner.config
        noise = generator.standard_normal(energy.shape, dtype=np.float32)
        noisy = np.clip(energy + config.exploration_noise * noise, 0.0, 1.0)
        free = generator.random(energy.shape, dtype=np.float32)
        anywhere = generator.random(energy.shape, dtype=np.float32) < config.random_actions
        return np.where(anywhere, free, noisy).astype(np.float32)

    def observe(self, slot: Slot) -> None:
        """Tell the memories what got through."""
        if not self._learner.config.recurrent:
            return
        got = torch.from_numpy(slot.success.reshape(self._waiting.shape)).float()
        self._tried = self._learner.features.tried(self._flow, got, self._waiting - got, self._sent)
        if self._decision is not None:
            self._decision.observe(self._tried)

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered of the episode so far."""
        memories = {
            name: None if memory is None else [memory[0].clone(), memory[1].clone()]
            for name, memory in self._memories.items()
        }
        return {"memories": memories, "tried": self._tried.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a memory; reset first."""
        self._memories = {
            name: None if memory is None else (memory[0], memory[1])
            for name, memory in state["memories"].items()
        }
        self._tried = state["tried"]
