"""Value targets of a team over whole episodes: lambda returns, n-step returns, soft mellowmax.

A batch of episodes is padded to T steps, time first. V_{t+1} is the value after step t, so both it
and the rewards have T rows. Nothing flows over a termination, and the last step of an episode that
was truncated bootstraps from its last observation.

Legend: T steps, B episodes, U actions.

References: MAST (Hu et al., NeurIPS 2024), equations 3 and 6, appendix A.5. The stable form of the
operator and the mask of unavailable actions are ours. Munos et al. (2016), Retrace, section 3: the
traces of Q(lambda).
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_mellowmax(q_U: Tensor, available_U: Tensor, alpha: float, omega: float) -> Tensor:
    """Return a soft maximum over the available actions, the last axis.

    sm(Q) = 1/omega log sum_u softmax_u(alpha Q) exp(omega Q_u)
          = 1/omega [ LSE((alpha + omega) Q) - LSE(alpha Q) ].

    It tends to the maximum as omega grows, to the mean as alpha and omega go to 0, and lies between
    the two for alpha >= 0.

    Args:
        q_U: values, [..., U].
        available_U: bool, [..., U]; at least one True in each row.
        alpha: sharpness of the weights, at least 0.
        omega: sharpness of the mean, more than 0.

    Returns:
        [...].

    Example:
        >>> q = torch.tensor([1.0, 3.0, 9.0])
        >>> float(soft_mellowmax(q, torch.tensor([True, True, False]), 0.0, 50.0)) > 2.98
        True
    """
    cut = ~available_U

    def lse(sharpness: float) -> Tensor:
        # Masked after the product: 0 times minus infinity is not a number.
        return torch.logsumexp((sharpness * q_U).masked_fill(cut, -torch.inf), dim=-1)

    return (lse(alpha + omega) - lse(alpha)) / omega


def td_lambda(
    reward_TB: Tensor,
    terminated_TB: Tensor,
    filled_TB: Tensor,
    value_next_TB: Tensor,
    discount: float,
    lam: float,
    trace_TB: Tensor | None = None,
) -> Tensor:
    """Return y_t = r_t + discount (1 - term_t) [ (1 - l_{t+1}) V_{t+1} + l_{t+1} y_{t+1} ].

    l_{t+1} is lam times the trace of step t + 1. At the last step of an episode y_{t+1} is V_{t+1}.
    lam 0 is the one-step target, lam 1 the discounted rewards with the last value behind them.

    Args:
        reward_TB: rewards.
        terminated_TB: 1 where the game was over after the step, else 0.
        filled_TB: 1 at steps that took place, 0 at padding.
        value_next_TB: V_{t+1}.
        discount: per step.
        lam: in [0, 1].
        trace_TB: how far targets look through each step, in [0, 1]; None is 1 everywhere (Peng's
            Q(lambda)), 1 where the greedy action was taken and 0 elsewhere is Watkins's.

    Returns:
        [T, B]; what stands at padding means nothing.
    """
    goes_on_TB = discount * (1.0 - terminated_TB)
    # lam where a step follows, 0 at an episode's last one, whose V stands for y_{t+1}.
    through_TB = filled_TB if trace_TB is None else filled_TB * trace_TB
    lam_TB = lam * torch.cat([through_TB[1:], torch.zeros_like(filled_TB[:1])])
    rest = (reward_TB + goes_on_TB * (1.0 - lam_TB) * value_next_TB).unbind()
    factor = (goes_on_TB * lam_TB).unbind()
    y = [rest[-1]]
    for t in reversed(range(len(rest) - 1)):
        y.append(torch.addcmul(rest[t], factor[t], y[-1]))
    return torch.stack(y[::-1])


def n_step(
    reward_TB: Tensor,
    terminated_TB: Tensor,
    filled_TB: Tensor,
    value_next_TB: Tensor,
    discount: float,
    n: int,
) -> Tensor:
    """Return the n-step targets, with as many steps as the episode still has.

    y^1_t = r_t + discount (1 - term_t) V_{t+1};  y^n_t the same with y^{n-1}_{t+1} for V_{t+1}.

    Args:
        reward_TB: rewards.
        terminated_TB: 1 where the game was over after the step, else 0.
        filled_TB: 1 at steps that took place, 0 at padding.
        value_next_TB: V_{t+1}.
        discount: per step.
        n: at least 1.
    """
    goes_on_TB = discount * (1.0 - terminated_TB)
    y_TB = reward_TB + goes_on_TB * value_next_TB
    follows_TB = torch.cat([filled_TB[1:], torch.zeros_like(filled_TB[:1])]) > 0
    for _ in range(n - 1):
        later_TB = torch.cat([y_TB[1:], y_TB[:1]])  # the last row is never used
        y_TB = reward_TB + goes_on_TB * torch.where(follows_TB, later_TB, value_next_TB)
    return y_TB


def masked_mean(value_TB: Tensor, filled_TB: Tensor) -> Tensor:
    """Return the mean over the steps that took place."""
    return (value_TB * filled_TB).sum() / filled_TB.sum()
