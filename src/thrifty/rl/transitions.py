"""Replay of transitions: a ring of rows, multi-step windows, and a capacity that adapts.

One float32 matrix holds everything, one row per transition, so a minibatch is one gather and a
checkpoint appends the new rows and nothing else. Rows are numbered from the start of the run; row
r lives at index r modulo the capacity, rows [first, total) are live. With E environments stepped
together row r belongs to environment r modulo E, so a window advances by E rows.

Legend: B batch, N window length, O observation size, A action size.

Where we differ from the published code of RLx2: windows at the newest end of the buffer are cut
and bootstrapped instead of never being drawn, and everything is vectorised. The published capacity
rule (one cut per check, possibly below the minimum) is ``repeat=False`` in
:func:`adapt_capacity`; by default the oldest tenth is dropped until the distance is acceptable.

Reference: RLx2 (Tan et al., ICLR 2023), sections 4.2.1 and 4.2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thrifty.rl.returns import n_step_return, path_discount, windows_inside

Floats = NDArray[np.float32]


class Batch(NamedTuple):
    """A minibatch of multi-step transitions, float32 tensors.

    With windows of length one ``n_step_return`` is the reward, ``next_observation`` the next
    observation and ``discount`` is gamma, or 0 after a termination.
    """

    observation: Tensor  # [B, O]
    action: Tensor  # [B, A], normalised
    n_step_return: Tensor  # [B], sum_k gamma^k r_k inside the window
    discount: Tensor  # [B], gamma^m, 0 where the window ends in a termination
    next_observation: Tensor  # [B, O], reached by the window's last transition
    path_observation: Tensor  # [N, B, O], reached by each transition of the window
    path_discount: Tensor  # [N, B], gamma^(k+1); 0 after a termination and beyond the window

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the batch on a device in a floating type."""
        return Batch(*(tensor.to(device=device, dtype=dtype) for tensor in self))


class Columns(NamedTuple):
    """Where the parts of a transition stand in a row of the matrix."""

    observation: slice
    next_observation: slice
    action: slice
    policy_action: slice
    reward: int
    terminated: int  # 1 or 0, as the other flags
    ended: int  # terminated or truncated
    valid: int


class CapacityChange(NamedTuple):
    """What one check of the dynamic-capacity rule did."""

    distance: float
    size_before: int
    size: int
    cuts: int


class Replay:
    """A first-in first-out store of transitions.

    Args:
        capacity: largest number of transitions kept; rounded down to a multiple of environments.
        observation_dim: O.
        action_dim: A.
        environments: how many environments are stepped together.

    Attributes:
        matrix: float32 [capacity, columns]; row r of the run at r modulo the capacity.
        columns: where the parts of a row stand.
        first: oldest live row.
        total: rows ever added.

    Raises:
        ValueError: capacity below one transition per environment.
    """

    def __init__(
        self, capacity: int, observation_dim: int, action_dim: int, environments: int = 1
    ) -> None:
        if capacity < environments:
            raise ValueError(
                f"replay capacity {capacity} is below the number of environments {environments}; "
                "raise buffer_size"
            )
        self.capacity = capacity // environments * environments
        self.environments = environments
        o, a = observation_dim, action_dim
        flags = 2 * o + 2 * a
        self.columns = Columns(
            observation=slice(0, o),
            next_observation=slice(o, 2 * o),
            action=slice(2 * o, 2 * o + a),
            policy_action=slice(2 * o + a, flags),
            reward=flags,
            terminated=flags + 1,
            ended=flags + 2,
            valid=flags + 3,
        )
        self.matrix = np.zeros((self.capacity, flags + 4), np.float32)
        self.first = 0
        self.total = 0
        self._all_valid = True
        self._breaks: list[int] = []  # rows that end a window although their episode went on

    def __len__(self) -> int:
        """Return the number of live transitions."""
        return self.total - self.first

    def add(
        self,
        *,
        observation: Floats,
        action: Floats,
        policy_action: Floats,
        reward: Floats,
        next_observation: Floats,
        terminated: NDArray[np.bool_],
        truncated: NDArray[np.bool_],
        valid: NDArray[np.bool_] | None = None,
    ) -> None:
        """Append one transition of every environment; the oldest make room.

        Args:
            observation: [E, O].
            action: normalised actions taken, [E, A].
            policy_action: the policy's noise-free actions at collection, [E, A] (dynamic capacity).
            reward: [E].
            next_observation: the true next observations, also at an episode's end, [E, O].
            terminated: [E].
            truncated: [E].
            valid: False marks rows that are no transitions (automatic resets), [E].
        """
        start = self.total % self.capacity
        rows = self.matrix[start : start + self.environments]
        rows[:, self.columns.observation] = observation
        rows[:, self.columns.next_observation] = next_observation
        rows[:, self.columns.action] = action
        rows[:, self.columns.policy_action] = policy_action
        rows[:, self.columns.reward] = reward
        rows[:, self.columns.terminated] = terminated
        rows[:, self.columns.ended] = np.logical_or(terminated, truncated)
        if valid is None:
            rows[:, self.columns.valid] = 1.0
        else:
            rows[:, self.columns.valid] = valid
            self._all_valid = self._all_valid and bool(valid.all())
        self.total += self.environments
        self.first = max(self.first, self.total - self.capacity)

    def sample(
        self, batch_size: int, *, n_step: int, discount: float, rng: np.random.Generator
    ) -> Batch:
        """Draw windows that start at uniformly random live transitions.

        Args:
            batch_size: B.
            n_step: longest window N.
            discount: per-step discount gamma.
            rng: source of the indices.

        Returns:
            A :class:`Batch` of tensors that share no memory with the store.

        Raises:
            ValueError: the store is empty.
        """
        if len(self) == 0:
            raise ValueError("cannot sample from an empty replay; collect transitions first")
        start_B = rng.integers(self.first, self.total, size=batch_size)
        while not self._all_valid:
            wrong_B = self.matrix[start_B % self.capacity, self.columns.valid] == 0.0
            if not wrong_B.any():
                break
            start_B[wrong_B] = rng.integers(self.first, self.total, size=int(wrong_B.sum()))
        return self.windows(start_B, n_step=n_step, discount=discount)

    def windows(self, start_B: NDArray[np.int64], *, n_step: int, discount: float) -> Batch:
        """Return the multi-step transitions that start at the given row numbers."""
        step = self.environments
        row_NB = start_B[None, :] + step * np.arange(n_step)[:, None]
        data_NB = self.matrix[row_NB % self.capacity]  # [N, B, columns]
        at = self.columns
        terminated_NB = data_NB[:, :, at.terminated] > 0.0
        inside_NB = windows_inside(
            data_NB[:, :, at.ended] > 0.0, (self.total - 1 - start_B) // step + 1
        )
        path_discount_NB = path_discount(terminated_NB, inside_NB, discount)
        path_observation_NBO = np.ascontiguousarray(data_NB[:, :, at.next_observation])
        last_B = inside_NB.sum(axis=0) - 1
        every_B = np.arange(len(start_B))
        return Batch(
            observation=_tensor(data_NB[0, :, at.observation]),
            action=_tensor(data_NB[0, :, at.action]),
            n_step_return=_tensor(n_step_return(data_NB[:, :, at.reward], inside_NB, discount)),
            discount=_tensor(path_discount_NB[last_B, every_B]),
            next_observation=_tensor(path_observation_NBO[last_B, every_B]),
            path_observation=_tensor(path_observation_NBO),
            path_discount=_tensor(path_discount_NB),
        )

    def oldest(self, count: int) -> tuple[Tensor, Tensor]:
        """Return observations [K, O] and stored policy actions [K, A] of the oldest transitions."""
        index = np.arange(self.first, min(self.first + count, self.total)) % self.capacity
        rows = self.matrix[index]
        rows = rows[rows[:, self.columns.valid] > 0.0]
        return _tensor(rows[:, self.columns.observation]), _tensor(
            rows[:, self.columns.policy_action]
        )

    def drop_oldest(self, count: int) -> None:
        """Forget the oldest transitions, rounded down to whole steps of all environments."""
        self.first = min(self.first + count // self.environments * self.environments, self.total)

    def end_episodes(self) -> None:
        """Let no window go on past the newest transitions: what follows is another episode."""
        self._break(range(max(self.first, self.total - self.environments), self.total))

    def _break(self, rows: Iterable[int]) -> None:
        # Kept apart as well: a row that a checkpoint has stored is not stored again.
        self._breaks = [row for row in {*self._breaks, *rows} if row >= self.first]
        self.matrix[np.array(self._breaks, np.int64) % self.capacity, self.columns.ended] = 1.0

    def rows(self, start: int, stop: int) -> Floats:
        """Return live rows [start, stop) in storage form, for a checkpoint."""
        assert self.first <= start <= stop <= self.total
        return self.matrix[np.arange(start, stop) % self.capacity]

    def state_dict(self) -> dict[str, Any]:
        """Return the store as a row log: ``first``, ``total`` and the rows behind them."""
        return {
            "rows": self,
            "breaks": sorted(self._breaks),
            "capacity": self.capacity,
            "environments": self.environments,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: the state belongs to another capacity, width or number of environments.
        """
        log = state["rows"]
        if (state["capacity"], state["environments"]) != (self.capacity, self.environments):
            raise ValueError(
                f"replay state has capacity {state['capacity']} for {state['environments']} "
                f"environments, this one {self.capacity} for {self.environments}"
            )
        first, total = log.first, log.total
        if not 0 <= first <= total <= first + self.capacity:
            raise ValueError(
                f"replay state holds transitions {first} to {total}, "
                f"which a capacity of {self.capacity} cannot: the file is damaged"
            )
        rows = log.rows(first, total)
        if rows.shape != (total - first, self.matrix.shape[1]):
            raise ValueError(
                f"replay rows have shape {rows.shape}, expected "
                f"{(total - first, self.matrix.shape[1])}: other observation or action sizes"
            )
        self.matrix[np.arange(first, total) % self.capacity] = rows
        self.first, self.total = first, total
        self._breaks = []
        self._break(state["breaks"])
        self._all_valid = bool((rows[:, self.columns.valid] > 0.0).all())


def adapt_capacity(
    replay: Replay,
    policy: Callable[[Tensor], Tensor],
    *,
    threshold: float = 0.2,
    minimum: int = 100_000,
    oldest: int = 2048,
    cut: float = 0.1,
    repeat: bool = True,
) -> CapacityChange:
    """Drop the oldest transitions while the present policy disagrees with them.

    The distance is half the mean squared difference between the policy's present actions and the
    noise-free actions stored at collection, both normalised, over the ``oldest`` transitions. While
    it exceeds the threshold and more than ``minimum`` transitions are stored, the oldest share
    ``cut`` is dropped.

    Args:
        replay: the store; changed in place.
        policy: maps observations [K, O] to noise-free normalised actions [K, A].
        threshold: largest accepted distance.
        minimum: transitions that are kept in any case.
        oldest: how many of the oldest transitions are compared.
        cut: share of the stored transitions dropped at a time, in (0, 1).
        repeat: cut until the distance is accepted or the minimum is reached; False is the published
            code: at most one cut, which may end up to ``cut`` below the minimum.

    Returns:
        The first distance measured, the sizes before and after, and the number of cuts.

    Reference: RLx2 (Tan et al., ICLR 2023), section 4.2.2. The paper writes the mean Euclidean
    norm; the published threshold 0.2 belongs to the measure used here.
    """
    size_before = len(replay)
    first_distance = distance = _distance(replay, policy, oldest)
    cuts = 0
    while distance > threshold and len(replay) > minimum:
        count = int(cut * len(replay))
        if repeat:
            count = min(count, len(replay) - minimum)
        size = len(replay)
        replay.drop_oldest(count)
        if len(replay) == size:
            break
        cuts += 1
        if not repeat:
            break
        distance = _distance(replay, policy, oldest)
    return CapacityChange(first_distance, size_before, len(replay), cuts)


def _distance(replay: Replay, policy: Callable[[Tensor], Tensor], oldest: int) -> float:
    observation, stored = replay.oldest(oldest)
    return float((policy(observation) - stored).square().mean()) / 2.0


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
