"""Credit user by user: one worth for all of a user's energies in a slot, as published.

Rewards are per user and slot: ``sum_j (w s_j - cost e_j B_j) / A`` with A the mean arrivals, so
worths are of one size for all users. The cost of this slot's energy is known and left out of what
the critic learns. Future arrivals belong to the worth as well, hence a discount.

Legend: T slots, B users (sequences), J cells, S samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from thrifty.scheduling.features import Features
from thrifty.scheduling.networks import UserActor, UserCritic
from thrifty.scheduling.sequences import Sequences
from thrifty.scheduling.softmax import mispaired, sampled, softmax_value, straight_through

_OUTSIDE = 1.0  # weight of what a proposal lies outside [0, 1]


class UserCredit:
    """Networks, proposals, targets and losses of the critic of whole users.

    Args:
        features: of the problem.
        width: of the networks.
        recurrent: with memory.
        prediction: weight of the auxiliary loss of actors, the likelihood of what got through,
            which teaches the memory.
        discount: of the next slot.
        published_pairing: pair states and sampled actions as the published code does.
    """

    def __init__(
        self,
        features: Features,
        *,
        width: int,
        recurrent: bool,
        prediction: float,
        discount: float,
        published_pairing: bool,
    ) -> None:
        self.features = features
        self._width, self._recurrent = width, recurrent
        self._prediction = prediction
        self._discount, self._published = discount, published_pairing

    def actor(self) -> UserActor:
        """Return a new actor."""
        features = self.features
        return UserActor(
            features.size,
            features.cells,
            self._width,
            recurrent=self._recurrent,
            predicts=self._prediction > 0,
        )

    def critic(self) -> UserCritic:
        """Return a new critic."""
        features = self.features
        return UserCritic(features.size, features.cells, self._width, recurrent=self._recurrent)

    # ------------------------------------------------------------------ acting

    def propose(self, actor: UserActor, context: Tensor, queue: Tensor) -> Tensor:
        """Return energies [..., J] for contexts [..., size], 0 in empty cells."""
        energy: Tensor = actor(context).clamp(0.0, 1.0)
        return energy * (queue > 0)

    def judge(
        self,
        critic: UserCritic,
        context: Tensor,
        queue: Tensor,
        energy: Tensor,
        w: Tensor,
        cost: Tensor,
        flow: Tensor,
    ) -> Tensor:
        """Return the worth of energies [..., N, J] to each user [..., N]."""
        result: Tensor = critic(context, energy)
        return result - self._paid(energy, queue, cost, flow)

    def _paid(self, energy: Tensor, queue: Tensor, cost: Tensor, flow: Tensor) -> Tensor:
        return (energy * queue * cost).sum(dim=-1) / self.features.rates[flow]

    # ------------------------------------------------------------------ learning

    def targets(
        self,
        batch: Sequences,
        worths: tuple[Tensor, Tensor],
        actors: list[tuple[UserActor, Tensor]],
        critics: list[tuple[UserCritic, Tensor]],
        noise: Tensor | None,
        inverse_temperature: float,
    ) -> list[Tensor]:
        """Return what each user's slot is worth, its own cost left out, by each actor [T, B].

        Args:
            batch: the sequences.
            worths: w [B] and cost [B, J].
            actors: target actors, with their contexts [T + 1, B, size].
            critics: target critics with theirs; the least of their worths counts.
            noise: [S, T, B, J], or None for the proposal alone.
            inverse_temperature: of the softmax.
        """
        w, cost = worths
        queue = batch.queue[1:]
        last = self.features.cells - self.features.most
        earned = w * batch.success[..., last:].sum(dim=-1) / self.features.rates[batch.flow]
        result = []
        for actor, actor_context in actors:
            proposed = self.propose(actor, actor_context[1:], queue)
            energy = sampled(proposed, noise) * (queue > 0)
            q = []
            for critic, context in critics:
                of = context[1:]
                if self._published:
                    crossed = mispaired(of.transpose(0, 1), len(energy))  # [S, B, T, size]
                    of = crossed.transpose(1, 2)
                q.append(self.judge(critic, of, queue, energy, w, cost, batch.flow))
            value = softmax_value(torch.stack(q).amin(dim=0), inverse_temperature)
            result.append(earned + self._discount * value)
        return result

    def critic_loss(
        self, critic: UserCritic, context: Tensor, batch: Sequences, targets: Tensor
    ) -> Tensor:
        """Return the mean squared error of a critic with contexts [T, B, size]."""
        energy = batch.energy * (batch.queue[:-1] > 0)
        return F.mse_loss(critic(context, energy), targets)

    def actor_loss(
        self,
        actor: UserActor,
        context: Tensor,
        critic: UserCritic,
        critic_context: Tensor,
        batch: Sequences,
        worths: tuple[Tensor, Tensor],
    ) -> Tensor:
        """Return the loss of an actor: minus the mean worth of its energies."""
        queue = batch.queue[:-1]
        present = (queue > 0).float()
        raw = actor(context)
        energy = straight_through(raw) * present
        worth = self.judge(critic, critic_context, queue, energy, *worths, batch.flow)
        outside = present * (raw - raw.clamp(0.0, 1.0)) ** 2
        loss: Tensor = _OUTSIDE * outside.sum(dim=-1).mean() - worth.mean()
        if actor.predictor is not None:
            logit = actor.predictor(torch.cat([context, batch.energy * present], dim=-1))
            failed = queue - batch.success
            likelihood = batch.success * F.softplus(-logit) + failed * F.softplus(logit)
            loss = loss + self._prediction * likelihood.sum() / queue.sum().clamp(min=1)
        return loss
