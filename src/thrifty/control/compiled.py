"""A learner whose updates run on the engine; everything else of it is the reference's.

While updates run, the arena holds the truth; the reference's modules and optimizers are brought up
to date where somebody reads them: at an evolution step and in ``state_dict``, whose form is the
reference's own, so a run moves between backends through its checkpoint.

An evolution step is an update in parts. The engine computes the dense gradient, the reference
takes the optimizer step and moves the links (:mod:`thrifty.sparse` decides, as always), the arena
is laid out anew, and the engine does the rest of the update.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.control.backend import unsupported
from thrifty.control.fused import layers_of, to_torch, transitions_of
from thrifty.control.sac import SAC
from thrifty.control.sac_fused import ALPHA, sac_places, sac_update
from thrifty.control.sparse_network import SparseNetwork
from thrifty.control.td3 import TD3
from thrifty.control.td3_fused import td3_places, td3_update
from thrifty.engine.forward import Perceptron
from thrifty.engine.update import Update
from thrifty.rl.transitions import Columns, Replay
from thrifty.sparse import TopologyUpdate

Floats = NDArray[np.float32]

_NETS = {"critic": ("q1", "q2"), "actor": ("actor",)}
# The script's lines of each network: its tiles, then its optimizer step.
_TILES = {"critic": 0, "actor": 2}
_COUNTERS = {"critic": 0, "actor": 1, "temperature": 2}


class CompiledLearner:
    """TD3 or SAC, updated by the engine.

    Args:
        learner: the reference; its networks are taken over and kept.
        columns: of the replay that updates will read.
        seed: of minibatches and of the noise inside updates.

    Raises:
        ValueError: the learner has layers or options that the engine lacks.
    """

    def __init__(self, learner: TD3 | SAC, columns: Columns, *, seed: int) -> None:
        lacking = unsupported(learner.config)
        if lacking:
            raise ValueError(f"the engine has no {lacking}: use backend=reference for it")
        self.reference = learner
        self.name = learner.name
        self._columns, self._seed = columns, seed
        self._places = td3_places(learner) if isinstance(learner, TD3) else sac_places(learner)
        self._take()
        learner.perceptron = self._act

    # ------------------------------------------------------------------ as every learner

    @property
    def updates(self) -> int:
        """Return the number of updates done."""
        return self.reference.updates

    @property
    def n_step(self) -> int:
        """Return the length of the windows that the next update wants."""
        return self.reference.n_step

    def policy(self, observation_BO: Tensor) -> Tensor:
        """Return noise-free normalised actions, [B, A]."""
        return self.reference.policy(observation_BO)

    def act(
        self, observation_EO: Floats, *, explore: bool, generator: torch.Generator | None = None
    ) -> tuple[Floats, Floats]:
        """Return the actions to take and the noise-free ones, float32 [E, A] each."""
        return self.reference.act(observation_EO, explore=explore, generator=generator)

    def plan(self, config: Any) -> None:
        """Take over the time constants of a run that begins."""
        self.synchronise()
        self.reference.plan(config)
        self._take()

    def networks(self) -> dict[str, SparseNetwork[Any]]:
        """Return the sparse networks by name; their masks are up to date, their weights are after
        :meth:`synchronise`.
        """
        return self.reference.networks()

    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs beside the dense twin's."""
        return self.reference.ledger()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future, in the reference's form."""
        self.synchronise()
        return self.reference.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state of either backend."""
        self.reference.load_state_dict(state)
        self._take()

    # ------------------------------------------------------------------ updates

    def learn(self, replay: Replay) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update from transitions that the engine draws itself.

        Args:
            replay: holds at least one valid transition.

        Returns:
            losses by name, and what moved in the topologies by network.
        """
        reference, transitions = self.reference, transitions_of(replay)
        number = reference.updates + 1
        delay = getattr(reference.config, "policy_delay", 1)
        steps = {"critic": True, "actor": number % delay == 0}
        losses: dict[str, float] = {}
        if isinstance(reference, SAC):
            losses["entropy_coefficient"] = float(self._update.scalars[ALPHA])
        moved: dict[str, TopologyUpdate] = {}
        begin = 0
        for network, sparse_network in (
            ("critic", reference.critic),
            ("actor", reference.actor),
        ):
            if not steps[network]:
                continue
            evolution = sparse_network.evolution
            if sparse_network.topology.names and evolution.schedule.is_due(evolution.steps + 1):
                tiles = _TILES[network]
                if begin < tiles:
                    self._update.run(1, transitions, lines=(begin, tiles))
                self._update.run(1, transitions, lines=(tiles, tiles + 1), dense=True)
                update = self._evolve(network)
                if update is not None:
                    moved[network] = update
                begin = tiles + 2
            else:
                evolution.steps += 1
        self._update.run(1, transitions, lines=(begin, self._update.lines))
        reference.updates = number
        sums, counts = self._update.losses, self._update.loss_counts
        for place, name in enumerate(("critic_loss", "actor_loss")):
            if counts[place]:
                losses[name] = float(sums[place] / counts[place])
        sums[:] = 0.0
        counts[:] = 0
        return losses, moved

    def _evolve(self, network: str) -> TopologyUpdate | None:
        """Take the optimizer step of one network in the reference, and move its links."""
        self.synchronise()
        reference, arena = self.reference, self._update.arena
        sparse_network = reference.networks()[network]
        for net in _NETS[network]:
            for place, layer in zip(arena.layers[net], layers_of(*self._places[net]), strict=True):
                size = place.index.out * place.index.inputs
                dense = arena.dense[place.dense : place.dense + size]
                bias = arena.grads[place.bias : place.bias + place.index.out]
                layer.weight.grad = torch.from_numpy(dense.reshape(layer.weight.shape))
                layer.bias.grad = torch.from_numpy(bias)
        update: TopologyUpdate | None = sparse_network.evolution.step(sparse_network.optimizer)
        sparse_network.optimizer.zero_grad(set_to_none=True)
        target = getattr(reference, f"{network}_target", None)
        if target is not None:
            sparse_network.topology.impose(target)
        before = self._update
        self._take()
        # The rest of the update reads what its first part has added up.
        self._update.losses[:], self._update.loss_counts[:] = before.losses, before.loss_counts
        self._update.totals[:] = before.totals
        return update

    # ------------------------------------------------------------------ the two forms

    def synchronise(self) -> None:
        """Bring the reference's weights, targets and optimizers up to date."""
        reference, update = self.reference, self._update
        to_torch(update.arena, self._places)
        for network, sparse_network in reference.networks().items():
            steps = int(update.steps[_COUNTERS[network]])
            if not steps:
                continue
            for net in _NETS[network]:
                for number, layer in enumerate(layers_of(*self._places[net])):
                    for name, vector in (
                        ("exp_avg", update.arena.first_moment),
                        ("exp_avg_sq", update.arena.second_moment),
                    ):
                        read = update.arena.read(vector, net, number)
                        for parameter, moment in zip((layer.weight, layer.bias), read, strict=True):
                            state = sparse_network.optimizer.state[parameter]
                            state[name] = torch.from_numpy(moment)
                            state["step"] = torch.tensor(float(steps))
        if isinstance(reference, SAC):
            log_alpha, _, first, second, _ = update.temperature.tolist()
            with torch.no_grad():
                reference.log_alpha.fill_(log_alpha)
            steps = int(update.steps[_COUNTERS["temperature"]])
            if steps:
                state = reference.alpha_optimizer.state[reference.log_alpha]
                state["step"] = torch.tensor(float(steps))
                state["exp_avg"], state["exp_avg_sq"] = torch.tensor(first), torch.tensor(second)

    def _take(self) -> None:
        """Lay out an arena with everything that the reference holds."""
        reference = self.reference
        update: Update = (
            td3_update(reference, self._columns, seed=self._seed)
            if isinstance(reference, TD3)
            else sac_update(reference, self._columns, seed=self._seed)
        )
        update.updates = reference.updates
        for network, sparse_network in reference.networks().items():
            for net in _NETS[network]:
                for number, layer in enumerate(layers_of(*self._places[net])):
                    weight = sparse_network.optimizer.state.get(layer.weight)
                    bias = sparse_network.optimizer.state.get(layer.bias)
                    if not weight or not bias:
                        continue
                    for name, vector in (
                        ("exp_avg", update.arena.first_moment),
                        ("exp_avg_sq", update.arena.second_moment),
                    ):
                        update.arena.write(
                            vector, net, number, weight[name].numpy(), bias[name].numpy()
                        )
                    update.steps[_COUNTERS[network]] = int(weight["step"])
        if isinstance(reference, SAC):
            state = reference.alpha_optimizer.state.get(reference.log_alpha)
            if state:
                update.temperature[2:4] = float(state["exp_avg"]), float(state["exp_avg_sq"])
                update.steps[_COUNTERS["temperature"]] = int(state["step"])
        self._update = update
        self._perceptron = Perceptron(update.arena, "actor")

    def _act(self, observation_BO: Tensor) -> Tensor:
        """Apply the actor's perceptron, in the place of the reference's."""
        return torch.from_numpy(self._perceptron(observation_BO.contiguous().numpy()))
