"""Time constants of a run, scaled from RLx2's three million steps to any length.

The published numbers divided by 3e6 are the fractions; each has a floor below which the
ingredient would do nothing on a short run.

| constant | fraction of the run | floor | unit | published at 3e6 steps |
|---|---|---|---|---|
| warm-up | 1/120 | 1,000 | environment steps | 25,000 |
| evolution interval | 1/300 | 500 | the network's own optimizer steps | 10,000 |
| n-step delay | 1/10 | - | updates | 300,000 |
| replay check | 1/300 | 500 | environment steps | 10,000 |
| replay minimum | 1/30 | 10,000 | transitions | 100,000 (TD3), 200,000 (SAC) |
| replay maximum | 1 | - | transitions | 1e6 (TD3), 3e6 (SAC) |

Reference: RLx2 (Tan et al., ICLR 2023) and its released code's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Times:
    """The absolute time constants of one run."""

    steps: int
    learning_starts: int
    evolution_interval: int
    critic_until: int
    actor_until: int
    n_step_delay: int
    check_every: int
    replay_minimum: int
    replay_maximum: int
    evaluate_every: int
    record_every: int


def scaled_times(
    steps: int,
    *,
    policy_delay: int,
    learning_starts: int | None = None,
    updates_per_step: float = 1.0,
) -> Times:
    """Resolve the fractions for a run of the given length.

    Args:
        steps: environment steps of the run.
        policy_delay: critic updates per actor update (TD3 2, SAC 1).
        learning_starts: warm-up in steps, where the user sets it.
        updates_per_step: updates that follow an environment step after the warm-up.

    Raises:
        ValueError: fewer than one step, or a policy delay below 1.
    """
    if steps < 1:
        raise ValueError(f"a run needs at least one step, got {steps}")
    if policy_delay < 1:
        raise ValueError(f"policy_delay must be at least 1, got {policy_delay}")
    if learning_starts is None:
        # The floor would leave a toy run no step to learn in.
        learning_starts = min(max(1_000, round(steps / 120)), steps // 2)
    updates = max(1, round((steps - learning_starts) * updates_per_step))
    return Times(
        steps=steps,
        learning_starts=learning_starts,
        evolution_interval=max(500, round(steps * updates_per_step / 300)),
        critic_until=updates,
        actor_until=max(1, updates // policy_delay),
        n_step_delay=round(steps * updates_per_step / 10),
        check_every=max(500, round(steps / 300)),
        replay_minimum=max(10_000, round(steps / 30)),
        replay_maximum=steps,
        evaluate_every=max(1_000, min(5_000, steps // 20)),
        record_every=max(100, steps // 400),
    )
