"""Dense updates of TD3 and SAC without autograd: what they cost when nothing is wasted.

The equations of :mod:`thrifty.control.td3` and :mod:`thrifty.control.sac`, one-step targets,
differentiated by hand: every product is one BLAS call into a buffer that exists already, Adam and
Polyak averaging are one pass over one flat vector each, no graph, and no product that the gradient
does not need (no weight gradient of a critic in the actor's step, no gradient of the replay's
observations). A sparse update must beat this one, not only the frameworks; with
``dtype=torch.bfloat16`` the products take half-width operands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from thrifty.control import SAC, TD3
from thrifty.rl.transitions import Replay


class Flat:
    """Some networks' parameters in one vector, with gradients, moments and one Adam.

    Args:
        nets: perceptrons of linear layers and ReLU; copied.
        learning_rate: of Adam.
        dtype: of the operands of products.
    """

    def __init__(
        self, nets: Sequence[nn.Module], learning_rate: float, dtype: torch.dtype = torch.float32
    ) -> None:
        tensors = [tensor.detach() for net in nets for tensor in net.parameters()]
        self.vector = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(torch.float32)
        self.gradient = torch.zeros_like(self.vector)
        self._exact = dtype == torch.float32
        self.operands = self.vector if self._exact else self.vector.to(dtype)
        self.gradients = self.gradient if self._exact else self.gradient.to(dtype)
        self.vector.grad = self.gradient
        self._adam = torch.optim.Adam([self.vector], lr=learning_rate, fused=True)
        self.shapes = [tensor.shape for tensor in tensors]

    def views(self, vector: Tensor) -> list[Tensor]:
        """Return the layers' weights and biases in a vector."""
        pieces = vector.split([shape.numel() for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def refresh(self) -> None:
        """Bring the operands up to date with the parameters."""
        if not self._exact:
            self.operands.copy_(self.vector)

    def step(self) -> None:
        """Take one Adam step."""
        if not self._exact:
            self.gradient.copy_(self.gradients)
        self._adam.step()
        self.refresh()

    def follow(self, online: Flat, tau: float) -> None:
        """Move a step towards the online parameters."""
        self.vector.lerp_(online.vector, tau)
        self.refresh()


class Perceptron:
    """One perceptron's products, forward and backward, into buffers of its own.

    Args:
        weights: [out, in] and [out] of each layer in turn: operands.
        gradients: the same shapes; None where no gradient is wanted.
        batch: B.
    """

    def __init__(self, weights: Sequence[Tensor], gradients: Sequence[Tensor] | None, batch: int):
        self.weights, self.biases = weights[::2], weights[1::2]
        self._transposed = [weight.t() for weight in self.weights]
        if gradients is not None:
            self._weight_gradients, self._bias_gradients = gradients[::2], gradients[1::2]
        dtype = weights[0].dtype
        self._y = [torch.empty(batch, len(weight), dtype=dtype) for weight in self.weights]
        self._dy = [torch.empty_like(y) for y in self._y]
        self._gate = [torch.empty_like(y) for y in self._y]
        self._x: list[Tensor] = []

    def forward(self, x_BI: Tensor) -> Tensor:
        """Return the last layer's output, [B, out]; valid until the next call."""
        self._x = [x_BI, *self._y[:-1]]
        last = len(self._y) - 1
        for k, (x, y) in enumerate(zip(self._x, self._y, strict=True)):
            torch.addmm(self.biases[k], x, self._transposed[k], out=y)
            if k < last:
                y.relu_()
        return self._y[-1]

    def backward(
        self, dy_BO: Tensor, *, learns: bool, dx_BI: Tensor | None = None, columns: slice = slice(0)
    ) -> None:
        """Push a gradient [B, out] back through the last forward pass.

        Args:
            dy_BO: gradient with respect to the output.
            learns: write the gradients of weights and biases.
            dx_BI: takes the gradient with respect to some of the inputs.
            columns: which.
        """
        dy = dy_BO
        for k in reversed(range(len(self.weights))):
            if learns:
                torch.mm(dy.t(), self._x[k], out=self._weight_gradients[k])
                torch.sum(dy, 0, out=self._bias_gradients[k])
            if k == 0:
                break
            below, gate = self._dy[k - 1], self._gate[k - 1]
            torch.mm(dy, self.weights[k], out=below)
            torch.gt(self._y[k - 1], 0, out=gate)
            dy = below.mul_(gate)
        if dx_BI is not None:
            torch.mm(dy, self.weights[0][:, columns], out=dx_BI)


class _Dense:
    """What both algorithms share: networks by hand, the minibatch, the critics' step."""

    def __init__(self, learner: TD3 | SAC, replay: Replay, dtype: torch.dtype, seed: int) -> None:
        c = learner.config
        assert c.n_step == 1
        self._replay, self._c = replay, c
        batch, rate, at = c.batch_size, c.learning_rate, replay.columns
        self._o, self._a = at.observation.stop, at.action.stop - at.action.start
        actor, critic = learner.actor.module, learner.critic.module
        self.actor = Flat([actor.net], rate, dtype)
        self.critic = Flat([critic.q1, critic.q2], rate, dtype)
        target = learner.critic_target
        self.critic_target = Flat([target.q1, target.q2], rate, dtype)
        (self._pi,) = _nets(self.actor, 1, batch, learns=True)
        self._q1, self._q2 = _nets(self.critic, 2, batch, learns=True)
        self._q1_target, self._q2_target = _nets(self.critic_target, 2, batch, learns=False)
        self._rows = np.empty((batch, replay.matrix.shape[1]), np.float32)
        self._batch = torch.from_numpy(self._rows)
        self._before, self._after, self._joined = (
            torch.empty(batch, self._o + self._a, dtype=dtype) for _ in range(3)
        )
        self._action, self._slope = torch.empty(2, batch, self._a)
        self._target, self._error = torch.empty(2, batch, 1)
        self._upstream = torch.empty(batch, 1, dtype=dtype)
        self._action_gradient = torch.empty(batch, self._a, dtype=dtype)
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.updates = 0

    def _load(self, rows_B: NDArray[np.int64] | None) -> None:
        replay, at, o = self._replay, self._replay.columns, self._o
        if rows_B is None:
            rows_B = self._rng.integers(replay.first, replay.total, len(self._rows))
        np.take(replay.matrix, rows_B, axis=0, out=self._rows, mode="wrap")
        self._before[:, :o] = self._batch[:, at.observation]
        self._before[:, o:] = self._batch[:, at.action]
        self._joined[:, :o] = self._batch[:, at.observation]
        self._after[:, :o] = self._batch[:, at.next_observation]

    def _draw(self, into_BA: Tensor, noise_BA: Tensor | None) -> None:
        if noise_BA is None:
            into_BA.normal_(generator=self._generator)
        else:
            into_BA.copy_(noise_BA)

    def _descend_critics(self, soft_B1: Tensor | None, factor: float) -> None:
        """Take the critics' step; y = r + gamma (1 - terminated) (min Q' - soft)."""
        at, gamma = self._replay.columns, self._c.discount
        one, two = self._q1_target.forward(self._after), self._q2_target.forward(self._after)
        alive, reward = self._batch[:, at.terminated, None], self._batch[:, at.reward, None]
        self._target.copy_(torch.minimum(one, two))
        if soft_B1 is not None:
            self._target.sub_(soft_B1)
        self._target.mul_(alive.mul_(-gamma).add_(gamma)).add_(reward)
        for critic in (self._q1, self._q2):
            torch.sub(critic.forward(self._before), self._target, out=self._error)
            self._upstream.copy_(self._error.mul_(factor / self._c.batch_size))
            critic.backward(self._upstream, learns=True)
        self.critic.step()

    def _to_actions(self, critic: Perceptron, gradient_B1: Tensor) -> None:
        """Gradient with respect to the actions that a critic was last given."""
        actions = slice(self._o, self._o + self._a)
        critic.backward(gradient_B1, learns=False, dx_BI=self._action_gradient, columns=actions)


class DenseTD3(_Dense):
    """TD3 by hand, from the present weights of a dense reference.

    Args:
        learner: the reference; not changed.
        replay: where minibatches are drawn from.
        dtype: of the operands of products; all else stays float32.
        seed: of minibatches and noise.
    """

    def __init__(
        self, learner: TD3, replay: Replay, *, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        super().__init__(learner, replay, dtype, seed)
        c = self.config = learner.config
        self.actor_target = Flat([learner.actor_target.net], c.learning_rate, dtype)
        (self._pi_target,) = _nets(self.actor_target, 1, c.batch_size, learns=False)
        self._noise = torch.empty(c.batch_size, self._a)
        self._ascent = torch.full((c.batch_size, 1), -1.0 / c.batch_size, dtype=dtype)
        self._raw_gradient = torch.empty(c.batch_size, self._a, dtype=dtype)

    @torch.no_grad()
    def update(
        self, rows_B: NDArray[np.int64] | None = None, noise_BA: Tensor | None = None
    ) -> None:
        """Do one update of the critics and, every ``policy_delay``-th time, of the actor.

        Args:
            rows_B: transitions of the minibatch; drawn here by default.
            noise_BA: standard normal draws for target smoothing; drawn here by default.
        """
        c, o = self.config, self._o
        self.updates += 1
        self._load(rows_B)
        self._draw(self._noise, noise_BA)
        clip = c.target_noise_clip
        self._noise.mul_(c.target_noise).clamp_(-clip, clip)
        self._action.copy_(self._pi_target.forward(self._after[:, :o])).tanh_()
        self._after[:, o:] = self._action.add_(self._noise).clamp_(-1.0, 1.0)
        self._descend_critics(None, 2.0)
        if self.updates % c.policy_delay == 0:
            self._descend_actor()
            self.critic_target.follow(self.critic, c.tau)
            self.actor_target.follow(self.actor, c.tau)

    def _descend_actor(self) -> None:
        o = self._o
        self._action.copy_(self._pi.forward(self._joined[:, :o])).tanh_()
        self._joined[:, o:] = self._action
        self._q1.forward(self._joined)
        self._to_actions(self._q1, self._ascent)
        torch.mul(self._action, self._action, out=self._slope)  # tanh' = 1 - tanh^2
        self._slope.neg_().add_(1.0).mul_(self._action_gradient)
        self._raw_gradient.copy_(self._slope)
        self._pi.backward(self._raw_gradient, learns=True)
        self.actor.step()

    def parameters(self) -> dict[str, Tensor]:
        """Return the flat parameters of every network, in the order of the reference's modules."""
        return {
            "actor": self.actor.vector,
            "critic": self.critic.vector,
            "actor_target": self.actor_target.vector,
            "critic_target": self.critic_target.vector,
        }


class DenseSAC(_Dense):
    """SAC by hand, from the present weights of a dense reference with a learned temperature.

    With x = mean + std eps, a = tanh(x): d log pi / dx = 2 a, and log std costs -1 beside its part
    in x. Args as for :class:`DenseTD3`.
    """

    def __init__(
        self, learner: SAC, replay: Replay, *, dtype: torch.dtype = torch.float32, seed: int = 0
    ) -> None:
        super().__init__(learner, replay, dtype, seed)
        c = self.config = learner.config
        self.log_alpha = learner.log_alpha.detach().clone()
        self.log_alpha.grad = torch.zeros(())
        self._alpha_adam = torch.optim.Adam([self.log_alpha], lr=c.learning_rate, fused=True)
        self._entropy = learner.target_entropy
        self._noise, self._path_noise, self._std, self._x = torch.empty(4, c.batch_size, self._a)
        self._squashed, self._gradient = torch.empty(2, c.batch_size, self._a)
        self._output_gradient = torch.empty(c.batch_size, 2 * self._a)
        self._raw_gradient = torch.empty(c.batch_size, 2 * self._a, dtype=dtype)
        self._log_pi = torch.empty(c.batch_size, 1)

    @torch.no_grad()
    def update(
        self,
        rows_B: NDArray[np.int64] | None = None,
        noise_BA: Tensor | None = None,
        path_noise_BA: Tensor | None = None,
    ) -> None:
        """Do one update of critics, actor, target and temperature.

        Args:
            rows_B: transitions of the minibatch; drawn here by default.
            noise_BA: standard normal draws for the actions at s; drawn here by default.
            path_noise_BA: the same for the next states.
        """
        o = self._o
        self.updates += 1
        self._load(rows_B)
        self._draw(self._noise, noise_BA)
        self._draw(self._path_noise, path_noise_BA)
        alpha = float(self.log_alpha.exp())
        self._sample(self._after[:, :o], self._path_noise)
        self._after[:, o:] = self._action
        self._descend_critics(self._log_pi.mul_(alpha), 1.0)
        self._descend_actor(alpha)
        self.critic_target.follow(self.critic, self.config.tau)
        self.log_alpha.grad = -(self._log_pi.mean() + self._entropy)
        self._alpha_adam.step()

    def _sample(self, s_BO: Tensor, noise_BA: Tensor) -> None:
        """Draw actions and their log densities."""
        low, high = self.config.log_std_bounds
        output = self._pi.forward(s_BO)
        self._squashed.copy_(output[:, self._a :]).tanh_()
        log_std = torch.add(self._squashed, 1.0, out=self._slope).mul_(0.5 * (high - low)).add_(low)
        # log N(x) - log(1 - tanh(x)^2), the latter as 2 (log 2 - x - softplus(-2 x))
        torch.exp(log_std, out=self._std)
        torch.mul(self._std, noise_BA, out=self._x).add_(output[:, : self._a])
        torch.tanh(self._x, out=self._action)
        density = F.softplus(self._x * -2.0).add_(self._x).mul_(2.0)
        density.sub_(log_std).addcmul_(noise_BA, noise_BA, value=-0.5)
        torch.sum(density, 1, keepdim=True, out=self._log_pi)
        self._log_pi.sub_(self._a * (0.5 * math.log(2.0 * math.pi) + 2.0 * math.log(2.0)))

    def _descend_actor(self, alpha: float) -> None:
        c, o, a = self.config, self._o, self._a
        low, high = c.log_std_bounds
        self._sample(self._joined[:, :o], self._noise)
        self._joined[:, o:] = self._action
        one, two = self._q1.forward(self._joined), self._q2.forward(self._joined)
        self._gradient.zero_()
        for critic, mine, other in ((self._q1, one, two), (self._q2, two, one)):
            torch.lt(mine, other, out=self._upstream)
            self._to_actions(critic, self._upstream.mul_(-1.0 / c.batch_size))
            self._gradient.add_(self._action_gradient)
        share = alpha / c.batch_size
        mean, log_std = self._output_gradient[:, :a], self._output_gradient[:, a:]
        torch.mul(self._action, self._action, out=self._slope).neg_().add_(1.0)
        torch.mul(self._gradient, self._slope, out=mean).add_(self._action, alpha=2.0 * share)
        torch.mul(mean, self._std, out=log_std).mul_(self._noise).sub_(share)
        torch.mul(self._squashed, self._squashed, out=self._slope).neg_().add_(1.0)
        log_std.mul_(self._slope).mul_(0.5 * (high - low))
        self._raw_gradient.copy_(self._output_gradient)
        self._pi.backward(self._raw_gradient, learns=True)
        self.actor.step()

    def parameters(self) -> dict[str, Tensor]:
        """Return the flat parameters of every network, in the order of the reference's modules."""
        return {
            "actor": self.actor.vector,
            "critic": self.critic.vector,
            "critic_target": self.critic_target.vector,
            "log_alpha": self.log_alpha.reshape(1),
        }


def _nets(flat: Flat, count: int, batch: int, *, learns: bool) -> list[Perceptron]:
    weights = flat.views(flat.operands)
    gradients = flat.views(flat.gradients)
    size = len(weights) // count
    bounds = pairwise(range(0, len(weights) + 1, size))
    return [
        Perceptron(weights[begin:end], gradients[begin:end] if learns else None, batch)
        for begin, end in bounds
    ]
