"""A learner whose updates run on the engine; everything else of it is the reference's.

While updates run, the arena holds the truth; the reference's modules and optimizers are brought up
to date where somebody reads them: at an evolution step and in ``state_dict``, whose form is the
reference's own, so a run moves between backends through its checkpoint.

An evolution step is an update in parts. The engine computes the dense gradient, the reference
takes the optimizer step and moves the links (:mod:`thrifty.sparse` decides, as always), the arena
takes the new links in place, and the engine does the rest of the update.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.control.backend import unsupported
from thrifty.control.fused import (
    layers_of,
    masks_of,
    norms_of,
    to_arena,
    to_torch,
    transitions_of,
)
from thrifty.control.sac import SAC
from thrifty.control.sac_fused import ALPHA, sac_places, sac_update
from thrifty.control.sparse_network import SparseNetwork
from thrifty.control.td3 import TD3
from thrifty.control.td3_fused import td3_places, td3_update
from thrifty.engine import loading, noise
from thrifty.engine.forward import Perceptron
from thrifty.engine.layout import Layer
from thrifty.engine.optim import BETA1, BETA2, decay
from thrifty.engine.update import Update
from thrifty.engine.windows import rows_drawn
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
        threads: that share an update; results are bit-equal at an equal number.

    Raises:
        ValueError: the learner has layers or options that the engine lacks.
        ImportError: compiled code cannot run in this process.
    """

    def __init__(
        self, learner: TD3 | SAC, columns: Columns, *, seed: int, threads: int = 1
    ) -> None:
        lacking = unsupported(learner.config)
        if lacking:
            raise ValueError(f"the engine has no {lacking}: use backend=reference for it")
        problem = loading.problem("thrifty.engine.executor")
        if problem:
            raise ImportError(f"the engine cannot be loaded ({problem}): use backend=reference")
        self.reference = learner
        self.name = learner.name
        self._columns, self._seed, self._threads = columns, seed, threads
        self._places = td3_places(learner) if isinstance(learner, TD3) else sac_places(learner)
        self._layers = {net: layers_of(*place) for net, place in self._places.items()}
        self._torch_perceptron = learner.perceptron
        self._take()

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
        reference = self.reference
        if self._lent or not isinstance(reference, TD3):
            return reference.act(observation_EO, explore=explore, generator=generator)
        # The reference's draws; the rest in one compiled call.
        shape = len(observation_EO), self._perceptron.outputs
        noise = (
            torch.randn(shape, generator=generator or reference.generator).numpy()
            if explore
            else np.zeros(shape, np.float32)
        )
        observation_EO = np.ascontiguousarray(observation_EO)
        return self._perceptron.act(observation_EO, noise, self._exploration_noise)

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
        self.reclaim()  # an environment of the user's may have asked for the learner in its step
        if self._targets_are_dense() or self._score_is_stale():
            return self._learn_by_reference(replay)
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
                with _one_thread():
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

    def _targets_are_dense(self) -> bool:
        """Return whether targets still hold links that the networks lack: the first updates."""
        config = self.reference.config
        first_soft_update = getattr(config, "policy_delay", 1)
        return config.targets_at_start == "dense" and self.reference.updates < first_soft_update

    def _score_is_stale(self) -> bool:
        """Return whether the next update keeps or uses a stale gradient in the critic's score."""
        reference = self.reference
        if not isinstance(reference, SAC) or reference.config.critic_score == "critic_loss":
            return False
        evolution = reference.critic.evolution
        due = evolution.schedule.is_due
        return bool(evolution.topology.names) and (
            due(evolution.steps + 1) or due(evolution.steps + 2)
        )

    def _learn_by_reference(
        self, replay: Replay
    ) -> tuple[dict[str, float], dict[str, TopologyUpdate]]:
        """Do one update in the reference, with the draws that the engine would make."""
        self.synchronise()
        reference = self.reference
        config, number = reference.config, reference.updates + 1
        keys = self._update.keys.tolist()
        valid = replay.matrix[:, replay.columns.valid]
        rows = rows_drawn(keys[0], number, config.batch_size, replay.first, replay.total, valid)
        batch = replay.windows(rows, n_step=reference.n_step, discount=config.discount)

        def normals(stream: int, *shape: int) -> Tensor:
            draws = noise.normals(keys[stream], number, int(np.prod(shape)))
            return torch.from_numpy(draws.reshape(shape))

        done: tuple[dict[str, float], dict[str, TopologyUpdate]]
        if isinstance(reference, TD3):
            done = reference.update(batch, normals(1, *batch.action.shape))
        else:
            path = normals(1, reference.n_step, *batch.action.shape)
            done = reference.update(batch, normals(2, *batch.action.shape), path)
        self._take()
        return done

    def _evolve(self, network: str) -> TopologyUpdate | None:
        """Take the optimizer step of one network in the reference, and move its links."""
        reference, arena = self.reference, self._update.arena
        sparse_network = reference.networks()[network]
        self._bring(network)
        for net in _NETS[network]:
            for place, layer in zip(arena.layers[net], self._layers[net], strict=True):
                size = place.index.out * place.index.inputs
                dense = arena.dense[place.dense : place.dense + size]
                bias = arena.grads[place.bias : place.bias + place.index.out]
                layer.weight.grad = torch.from_numpy(dense.reshape(layer.weight.shape))
                layer.bias.grad = torch.from_numpy(bias)
            for parameter, slots in norms_of(arena, net, *self._places[net]):
                parameter.grad = torch.from_numpy(arena.grads[slots])
        update: TopologyUpdate | None = sparse_network.evolution.step(sparse_network.optimizer)
        sparse_network.optimizer.zero_grad(set_to_none=True)
        if not self._relink(network):
            for other in reference.networks():
                if other != network:
                    self._bring(other)
            self._bring_rest()
            before = self._update
            self._take()
            # The rest of the update reads what its first part has added up.
            self._update.losses[:], self._update.loss_counts[:] = before.losses, before.loss_counts
            self._update.totals[:] = before.totals
        return update

    def _relink(self, network: str) -> bool:
        """Give a network its new links and all their numbers in place.

        Returns:
            Whether that was possible: no layer's number of links has changed.
        """
        update, arena = self._update, self._update.arena
        sparse_network = self.reference.networks()[network]
        places = {net: self._places[net] for net in _NETS[network]}
        relinked = [
            arena.relink(net, number, mask)
            for net, (_, attribute) in places.items()
            for number, mask in enumerate(masks_of(sparse_network, attribute))
        ]
        if not all(relinked):
            return False
        for net in places:
            first, last = arena.layers[net][0], arena.layers[net][-1]
            arena.dense[first.dense : last.dense + last.index.out * last.index.inputs] = 0.0
        begin, end = arena.span[network]
        arena.grads[begin:end] = 0.0
        to_arena(arena, places)
        self._put_optimizer(update, network)
        return True

    # ------------------------------------------------------------------ the two forms

    def lend(self) -> TD3 | SAC:
        """Return the reference, up to date; until :meth:`reclaim` it may be changed, and acts."""
        self.synchronise()
        self.reference.perceptron = self._torch_perceptron
        self._lent = True
        return self.reference

    def reclaim(self) -> None:
        """Take over the reference, with all that was changed, if it was lent; before updates."""
        if self._lent:
            self._take()

    def synchronise(self) -> None:
        """Bring the reference's weights, targets and optimizers up to date."""
        if self._lent or self._targets_are_dense():
            return  # it is, or there was no update of the engine's yet
        for network in self.reference.networks():
            self._bring(network)
        self._bring_rest()

    def _bring(self, network: str) -> None:
        """Bring one network's weights and optimizer up to date in the reference."""
        update = self._update
        to_torch(update.arena, {net: self._places[net] for net in _NETS[network]})
        steps = int(update.steps[_COUNTERS[network]])
        if not steps:
            return
        evolution = self.reference.networks()[network].evolution
        optimizer = self.reference.networks()[network].optimizer
        for net in _NETS[network]:
            for name, vector, beta in (
                ("exp_avg", update.arena.first_moment, BETA1),
                ("exp_avg_sq", update.arena.second_moment, BETA2),
            ):
                for number, layer in enumerate(self._layers[net]):
                    weight, bias = update.arena.read(vector, net, number)
                    states = optimizer.state[layer.weight], optimizer.state[layer.bias]
                    if evolution.moments == "keep" and name in states[0]:
                        since = steps - int(states[0]["step"])
                        place = update.arena.layers[net][number]
                        weight = _with_cut(weight, states[0][name], place, beta, since)
                    states[0][name] = torch.from_numpy(weight)
                    states[1][name] = torch.from_numpy(bias)
                for parameter, slots in norms_of(update.arena, net, *self._places[net]):
                    optimizer.state[parameter][name] = torch.from_numpy(vector[slots].copy())
        parameters = self.reference.networks()[network].parameters
        counts = torch.full((len(parameters),), float(steps)).unbind()
        for parameter, count in zip(parameters, counts, strict=True):
            optimizer.state[parameter]["step"] = count

    def _bring_rest(self) -> None:
        """Bring targets, which carry the networks' masks, and the temperature up to date."""
        reference, update = self.reference, self._update
        targets = {net: place for net, place in self._places.items() if net.endswith("_target")}
        to_torch(update.arena, targets)
        for network, sparse_network in reference.networks().items():
            target = getattr(reference, f"{network}_target", None)
            if target is not None:
                sparse_network.topology.impose(target)
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
            td3_update(reference, self._columns, seed=self._seed, threads=self._threads)
            if isinstance(reference, TD3)
            else sac_update(reference, self._columns, seed=self._seed, threads=self._threads)
        )
        update.updates = reference.updates
        for network in reference.networks():
            self._put_optimizer(update, network)
        if isinstance(reference, SAC):
            state = reference.alpha_optimizer.state.get(reference.log_alpha)
            if state:
                update.temperature[2:4] = float(state["exp_avg"]), float(state["exp_avg_sq"])
                update.steps[_COUNTERS["temperature"]] = int(state["step"])
        self._update = update
        self._perceptron = Perceptron(update.arena, "actor")
        if isinstance(reference, TD3):
            self._exploration_noise = np.float32(reference.config.exploration_noise)
        reference.perceptron = self._act
        self._lent = False

    def _put_optimizer(self, update: Update, network: str) -> None:
        """Put one network's moments and number of optimizer steps into an update."""
        optimizer = self.reference.networks()[network].optimizer
        for net in _NETS[network]:
            for number, layer in enumerate(self._layers[net]):
                weight = optimizer.state.get(layer.weight)
                bias = optimizer.state.get(layer.bias)
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
            for parameter, slots in norms_of(update.arena, net, *self._places[net]):
                state = optimizer.state.get(parameter)
                if state:
                    update.arena.first_moment[slots] = state["exp_avg"].numpy()
                    update.arena.second_moment[slots] = state["exp_avg_sq"].numpy()

    def _act(self, observation_BO: Tensor) -> Tensor:
        """Apply the actor's perceptron, in the place of the reference's."""
        return torch.from_numpy(self._perceptron(observation_BO.contiguous().numpy()))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch to one thread: its others would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _with_cut(weight: Floats, held: Tensor, place: Layer, beta: float, steps: int) -> Floats:
    """Return a dense moment: of links as given, of cut ones as held, with the decay since.

    Args:
        weight: links' moments [out, in].
        held: the moments when the two forms last agreed.
        place: the layer.
        beta: Adam's.
        steps: of the optimizer since then; a cut link's gradient was 0.
    """
    moment: Floats = held.numpy().copy()
    place.index.scatter(np.zeros(place.index.nnz, np.float32), moment)
    flat = moment.reshape(-1)
    cut = np.flatnonzero(flat)
    values = flat[cut]
    decay(values, beta, steps)
    flat[cut] = values
    place.index.scatter(place.index.take(weight), moment)
    return moment
