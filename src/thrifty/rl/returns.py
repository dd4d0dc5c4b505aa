"""Multi-step returns over windows of replayed transitions, as arrays.

Legend: N window length, B batch; ``reward_NB[k]`` is the reward of the k-th transition of a window.

A window may end early: at a termination (nothing follows, so no bootstrap), at a truncation or at
the newest stored transition (the future exists but was not seen, so the bootstrap starts there).
``inside_NB`` says which transitions of a window exist; it is a prefix along N.

Reference: Sutton and Barto (2018), section 7.1; RLx2 (Tan et al., ICLR 2023), section 4.2.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def windows_inside(
    ended_NB: NDArray[np.bool_], remaining_B: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Mark the transitions that belong to each window.

    Transition k belongs to the window if none before it ended its episode and it has been stored.

    Args:
        ended_NB: True where the transition was the last of its episode, shape [N, B].
        remaining_B: how many transitions are stored from the window's start on, at least 1, [B].

    Returns:
        Boolean array [N, B]; row 0 is all True.
    """
    n = ended_NB.shape[0]
    inside_NB = np.arange(n)[:, None] < remaining_B[None, :]
    if n > 1:
        np.logical_and(
            inside_NB[1:], ~np.logical_or.accumulate(ended_NB[:-1], axis=0), out=inside_NB[1:]
        )
    return inside_NB


def n_step_return(
    reward_NB: NDArray[np.float32], inside_NB: NDArray[np.bool_], discount: float
) -> NDArray[np.float32]:
    """Discounted sum of the rewards inside each window: sum_k discount**k * r_k.

    Args:
        reward_NB: rewards, [N, B].
        inside_NB: which of them count, [N, B] (see :func:`windows_inside`).
        discount: per-step discount in [0, 1].

    Returns:
        float32 array [B].
    """
    weight_N = np.float32(discount) ** np.arange(reward_NB.shape[0], dtype=np.float32)
    discounted_NB = np.where(inside_NB, weight_N[:, None] * reward_NB, np.float32(0.0))
    total_B: NDArray[np.float32] = discounted_NB.sum(axis=0, dtype=np.float32)
    return total_B


def path_discount(
    terminated_NB: NDArray[np.bool_], inside_NB: NDArray[np.bool_], discount: float
) -> NDArray[np.float32]:
    """Weight of a value at the state reached by each transition: discount**(k+1), or 0.

    The weight is 0 beyond the window and where the transition terminated the episode. At the
    window's last transition it is the discount of the bootstrap; at the earlier ones it is the
    discount of SAC's intermediate entropy terms.

    Args:
        terminated_NB: true terminations (time limits are not), [N, B].
        inside_NB: which transitions count, [N, B].
        discount: per-step discount in [0, 1].

    Returns:
        float32 array [N, B].
    """
    weight_N = np.float32(discount) ** np.arange(1, inside_NB.shape[0] + 1, dtype=np.float32)
    return np.where(inside_NB & ~terminated_NB, weight_N[:, None], np.float32(0.0))
