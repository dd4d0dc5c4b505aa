"""RSD4: recurrent softmax deep double deterministic policy gradient, user by user.

One set of networks serves all users, each with a memory of its own. Two actors and two critics
learn from sequences of single users; memories start empty at a sequence's beginning, are computed
anew for every network, and run once: the sampled next energies enter behind them.

Where we differ from the published code: states and sampled actions are paired rightly
(``pairing="published"`` is the other way), what was executed is kept, every network has a memory
of its own, the end of an episode is no end of the problem (there are no terminal states), and the
multiplier is an input, so that a sequence teaches at any price. With ``critic="packets"`` credit is
given packet by packet (:mod:`thrifty.scheduling.packet_credit`), with ``"users"`` as published.

Legend: T slots, B users (sequences), J cells, H hops, S samples.

Reference:
    Hu et al., arXiv 2208.14074 (RSD4); Pan et al., NeurIPS 2020 (SD3).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from thrifty.scheduling.backend import choose
from thrifty.scheduling.decision import Decision
from thrifty.scheduling.features import Features
from thrifty.scheduling.networks import Memory
from thrifty.scheduling.packet_credit import PacketCredit, Terms
from thrifty.scheduling.sequences import Sequences
from thrifty.scheduling.softmax import OPERATORS
from thrifty.scheduling.trained_network import TrainedNetwork
from thrifty.scheduling.user_credit import UserCredit
from thrifty.sparse import Ledger


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RSD4Config:
    """The learner."""

    recurrent: bool = True
    """Networks remember what was tried and what got through."""
    critic: Literal["packets", "users"] = "packets"
    """Credit per packet (additive critic), or per user as published."""
    actors: int = 2
    """1 or 2; of two, the one acts whose critic finds its energies worth more. While exploring they
    take turns, episode by episode."""
    critics: int = 2
    """1 or 2; the least of their worths is the target's."""
    operator: Literal["softmax", "smoothed", "plain"] = "softmax"
    """Value of a next state: softmax over sampled energies, one sample, or the proposal alone."""
    samples: int = 4
    """S, energies sampled by the softmax."""
    inverse_temperature: float = 100.0
    """Of the softmax, with worths scaled to [-1, 1]."""
    target_noise: float = 0.05
    """Standard deviation of sampled energies, in [0, 1]."""
    pairing: Literal["right", "published"] = "right"
    """How sampled energies meet states; published crosses the sequences of a batch."""
    discount: float = 0.95
    """Of the next slot; for credit per user only."""
    prediction: float = 0.0
    """Weight of the auxiliary loss in actors: predict what gets through."""
    width: int = 48
    """Of every layer."""
    sequences: int = 8
    """Users' episodes in an update."""
    rows: int = 512
    """Most cells in an update, with credit per packet."""
    learning_rate: float = 2e-3
    """Of Adam; falls linearly to a tenth of it over the run."""
    tau: float = 0.02
    """Part of the way that targets move in an update."""
    policy_delay: int = 1
    """Critic updates per actor update; 2 in the published code, where actors then lag behind."""
    critic_first: int = 100
    """Critic updates before the first actor update."""
    exploration_noise: float = 0.1
    """Standard deviation added to executed energies."""
    random_actions: float = 0.1
    """Part of cells whose executed energy is uniform instead."""
    sparsity: float = 0.0
    """Fraction of weights cut in every network, in [0, 1)."""
    evolve_every: int = 200
    """Optimizer steps between exchanges of links; 0 keeps the first ones."""
    backend: Literal["auto", "reference", "engine"] = "auto"
    """What runs the updates; auto takes the engine where it is faster."""


def check_learner(config: RSD4Config) -> None:
    """Refuse numbers that cannot work.

    Raises:
        ValueError: names the field.
    """
    for name, least in (
        ("samples", 1), ("width", 2), ("sequences", 1), ("rows", 1), ("policy_delay", 1),
        ("inverse_temperature", 0.0), ("target_noise", 0.0), ("exploration_noise", 0.0),
        ("prediction", 0.0), ("learning_rate", 0.0), ("evolve_every", 0), ("critic_first", 0),
    ):  # fmt: skip
        if not getattr(config, name) >= least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")
    for name in ("discount", "tau", "random_actions"):
        if not 0.0 <= getattr(config, name) <= 1.0:
            raise ValueError(f"{name} must lie in [0, 1], got {getattr(config, name)}")
    if config.actors not in (1, 2) or config.critics not in (1, 2):
        raise ValueError(f"actors and critics are 1 or 2, got {config.actors}, {config.critics}")
    if config.actors > config.critics:
        raise ValueError("every actor needs a critic of its own: give critics=2")
    if config.operator not in OPERATORS:
        raise ValueError(f"an operator is {', '.join(OPERATORS)}; got {config.operator!r}")
    if config.pairing == "published" and config.critic != "users":
        raise ValueError("the published pairing is for credit per user: give critic=users")


Memories = dict[str, Memory | None]
"""State of every network's memory."""


class RSD4:
    """The learner.

    Args:
        config: hyper-parameters.
        features: of the problem.
        seed: of first weights and links.
        updates: of the whole run, for what falls over it.

    Raises:
        ValueError: a number that cannot work.
    """

    def __init__(self, config: RSD4Config, features: Features, *, seed: int, updates: int) -> None:
        check_learner(config)
        self.config, self.features = config, features
        self.backend, self.backend_reason = choose(config.backend, config)
        self.updates = 0
        self._planned = max(1, updates)
        shape: dict[str, Any] = {
            "width": config.width,
            "recurrent": config.recurrent,
            "prediction": config.prediction,
        }
        self._credit: PacketCredit | UserCredit
        if config.critic == "packets":
            self._credit = PacketCredit(features, rows=config.rows, **shape)
        else:
            self._credit = UserCredit(
                features,
                discount=config.discount,
                published_pairing=config.pairing == "published",
                **shape,
            )
        self.networks: dict[str, TrainedNetwork[Any]] = {}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for kind, count in (("actor", config.actors), ("critic", config.critics)):
                for number in range(count):
                    module = getattr(self._credit, kind)()
                    planned = self._planned // (config.policy_delay if kind == "actor" else 1)
                    self.networks[f"{kind}_{number + 1}"] = TrainedNetwork(
                        module,
                        learning_rate=config.learning_rate,
                        sparsity=config.sparsity,
                        evolve_every=config.evolve_every,
                        evolve_until=planned * 3 // 4,
                        seed=seed + len(self.networks),
                    )
        if self.backend == "engine":
            for network in self.networks.values():
                network.use_engine()
        self._generator = torch.Generator().manual_seed(seed + 1)

    @property
    def name(self) -> str:
        """What the combination of ingredients is called."""
        config = self.config
        if config.actors == 2:
            names = {
                (True, "softmax"): "RSD4",
                (False, "softmax"): "SD3",
                (True, "smoothed"): "RTD3",
                (False, "smoothed"): "TD3, two actors",
            }
            found = names.get((config.recurrent, config.operator), "actor-critic")
        else:
            plain = config.critics == 1 and config.operator == "plain"
            found = ("R" if config.recurrent else "") + ("DDPG" if plain else "TD3")
        notes = [note for note, holds in (
            ("credit per packet", config.critic == "packets"),
            ("prediction", config.prediction > 0),
            ("published pairing", config.pairing == "published"),
            (f"sparsity {config.sparsity:g}", config.sparsity > 0),
        ) if holds]  # fmt: skip
        return f"{found} ({', '.join(notes)})" if notes else found

    # ------------------------------------------------------------------ acting

    @torch.no_grad()
    def act(
        self,
        seen: Tensor,
        tried: Tensor | None,
        queue: Tensor,
        channel: Tensor | None,
        flow: Tensor,
        prices: Tensor,
        memories: Memories,
        *,
        averaged: bool,
        only: int | None = None,
    ) -> tuple[Tensor, Memories]:
        """Return energies [N, J] of users in one slot, and the memories after it.

        Args:
            seen: features [N, O].
            tried: in the slot before [N, J, 4].
            queue: packets [N, J].
            channel: states seen [N, H], None if hidden.
            flow: number of each [N].
            prices: [N, H].
            memories: before it; an empty dict at the beginning.
            averaged: act with the averaged networks (targets), not with those that learn.
            only: number of the actor that acts, without judging; None lets the critics judge.
        """
        terms = self._terms(flow, prices, channel)
        after: Memories = {}

        def context(name: str) -> tuple[Any, Tensor]:
            network = self.networks[name]
            module = network.target if averaged else network.module
            of, after[name] = module.context(
                seen[None], None if tried is None else tried[None], memories.get(name)
            )
            return module, of[0]

        best: Tensor | None = None
        worth: Tensor | None = None
        acting = range(1, self.config.actors + 1) if only is None else (only,)
        for number in acting:
            actor, of = context(f"actor_{number}")
            if isinstance(self._credit, PacketCredit):
                energy = self._credit.propose(actor, of, queue, terms)
            else:
                energy = self._credit.propose(actor, of, queue)
            if self.config.actors == 1 or only is not None:
                return energy, after
            critic, of = context(f"critic_{number}")
            if isinstance(self._credit, PacketCredit):
                judged = self._credit.judge(critic, of, queue, energy, terms)
            else:
                w, cost, _ = terms
                judged = self._credit.judge(critic, of, queue, energy, w, cost, flow)[:, None]
            if best is None or worth is None:
                best, worth = energy, judged
            else:
                best = torch.where(judged > worth, energy, best)
        assert best is not None
        return best, after

    def decision(self) -> Decision | None:
        """Return the averaged networks as they are now, to act fast; None with credit per user."""
        if not isinstance(self._credit, PacketCredit):
            return None
        config = self.config
        judges = config.critics if config.actors > 1 else 0
        actors, critics = (
            [self.networks[f"{kind}_{number + 1}"].dense_target for number in range(count)]
            for kind, count in (("actor", config.actors), ("critic", judges))
        )
        return Decision(self.features, actors, critics)

    # ------------------------------------------------------------------ learning

    def update(self, batch: Sequences, prices: Tensor) -> dict[str, float]:
        """Learn from sequences at the given prices; return losses.

        Args:
            batch: users' episodes.
            prices: of energy at each hop for each [B, H].
        """
        config = self.config
        seen = self.features.observe(batch.flow, prices, batch.queue, batch.channel, batch.phase)
        tried = self._tried(batch) if config.recurrent else None
        terms = self._terms(batch.flow, prices, batch.channel)
        packets: Tensor | None = None
        if isinstance(self._credit, PacketCredit):
            packets = self._credit.rows(batch, self._generator)
        noise = self._noise(batch, packets)
        with torch.no_grad():
            targets = self._targets(batch, seen, tried, packets, terms, noise)
        self.updates += 1
        progress = min(1.0, self.updates / self._planned)
        rate = config.learning_rate * (1.0 - 0.9 * progress)
        past = None if tried is None else tried[:-1]
        losses: dict[str, float] = {}
        contexts = []
        for number in range(1, config.critics + 1):
            network = self.networks[f"critic_{number}"]
            target = targets[min(number, config.actors) - 1]
            context = network.module.context(seen[:-1], past)[0]
            if isinstance(self._credit, PacketCredit):
                assert packets is not None
                loss = self._credit.critic_loss(
                    network.module, context, batch, packets, terms, target
                )
            else:
                loss = self._credit.critic_loss(network.module, context, batch, target)
            network.descend(loss, rate)
            losses["critic_loss"] = losses.get("critic_loss", 0.0) + float(loss.detach())
            contexts.append(context.detach())
        if self.updates > config.critic_first and self.updates % config.policy_delay == 0:
            for number in range(1, config.actors + 1):
                network = self.networks[f"actor_{number}"]
                critic = self.networks[f"critic_{number}"].module
                context = network.module.context(seen[:-1], past)[0]
                arguments = (network.module, context, critic, contexts[number - 1], batch)
                if isinstance(self._credit, PacketCredit):
                    assert packets is not None
                    loss = self._credit.actor_loss(*arguments, packets, terms)
                else:
                    loss = self._credit.actor_loss(*arguments, terms[:2])
                network.descend(loss, rate)
                losses["actor_loss"] = losses.get("actor_loss", 0.0) + float(loss.detach())
                network.average(min(1.0, config.tau * config.policy_delay))
        for number in range(1, config.critics + 1):
            self.networks[f"critic_{number}"].average(config.tau)
        return losses

    def _terms(self, flow: Tensor, prices: Tensor, channel: Tensor | None) -> Terms:
        w, cost_of_hop = self.features.worths(flow, prices)
        link = self.features.links(flow, prices, channel)
        return Terms(w, self.features.costs(cost_of_hop), link)

    def _tried(self, batch: Sequences) -> Tensor:
        """What was tried before each slot [T + 1, B, J, 4]; nothing before the first."""
        failed = batch.queue[:-1] - batch.success
        told = self.features.tried(batch.flow, batch.success, failed, batch.energy)
        return torch.cat([torch.zeros_like(told[:1]), told])

    def _noise(self, batch: Sequences, packets: Tensor | None) -> Tensor | None:
        config = self.config
        if config.operator == "plain":
            return None
        samples = config.samples if config.operator == "softmax" else 1
        shape = batch.energy.shape if packets is None else (len(packets), 2)
        return config.target_noise * torch.randn(samples, *shape, generator=self._generator)

    def _targets(
        self,
        batch: Sequences,
        seen: Tensor,
        tried: Tensor | None,
        packets: Tensor | None,
        terms: Terms,
        noise: Tensor | None,
    ) -> list[Any]:
        """Targets by each actor, the least of all critics."""
        config, credit = self.config, self._credit
        contexts = {
            name: network.target.context(seen, tried)[0] for name, network in self.networks.items()
        }
        actors, critics = (
            [(self.networks[name].target, contexts[name])
             for name in (f"{kind}_{number + 1}" for number in range(count))]
            for kind, count in (("actor", config.actors), ("critic", config.critics))
        )  # fmt: skip
        rest = (actors, critics, noise, config.inverse_temperature)
        if isinstance(credit, PacketCredit):
            assert packets is not None
            return credit.targets(batch, packets, terms, *rest)
        return credit.targets(batch, terms[:2], *rest)

    def ledger(self) -> dict[str, Any]:
        """Return parameters and FLOPs of a slot and user, beside the dense twin's."""
        rows = tuple(row for name, network in self.networks.items() for row in network.costs(name))
        ledger = Ledger(rows, copies=dict.fromkeys(self.networks, 2))
        return {
            "parameters": ledger.parameters(),
            "forward_flops": {name: ledger.forward_flops(name) for name in self.networks},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future."""
        return {
            "updates": self.updates,
            "generator": self._generator.get_state(),
            "networks": {name: one.state_dict() for name, one in self.networks.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state."""
        self.updates = state["updates"]
        self._generator.set_state(state["generator"])
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
