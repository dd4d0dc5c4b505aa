"""RSD4: scheduling many users under deadlines and an energy budget (Hu et al., MobiHoc 2022).

| recipe | what |
|---|---|
| s1 .. s5 | RSD4 on the canonical scenarios: recurrent, softmax, credit per packet |
| sd3 | without recurrence |
| rtd3 | without softmax: one smoothed sample instead |
| td3, ddpg | neither; one actor, two critics or one |
| whole | RSD4 with credit per user, as in the paper: a critic of all a user's energies |
| published | the same with the published code's pairing of states and sampled actions |
| sparse | RSD4 with most of its weights cut |

With ``--mode conditioned`` one policy is trained for all prices of energy, and yields the
whole trade-off curve; ``ascent`` (dual ascent) and ``bisection`` move one price to meet the budget.
At the end the price is calibrated on training episodes, and the policy tested once beside the exact
optimal table; a run of fewer slots is a try, and is measured on fewer episodes in proportion.
``thrifty optimum S1`` prints the optimum alone.

The times below are of the processor (Intel Xeon, one thread) for a whole run of 5,000 slots with
calibration and test, over the seeds of results/rsd4/training.csv.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from thrifty.scheduling.config import SchedulingConfig
from thrifty.scheduling.multiplier import MultiplierConfig
from thrifty.scheduling.rsd4 import RSD4Config

__all__ = [
    "ddpg",
    "published",
    "rtd3",
    "s1",
    "s2",
    "s3",
    "s4",
    "s5",
    "sd3",
    "sparse",
    "td3",
    "whole",
]

Mode = Literal["conditioned", "ascent", "bisection"]

# More environments where there are few users.
_ENVIRONMENTS = {"S1": 8, "S2": 8, "S3": 2, "S4": 8, "S5": 8}
_PREDICTION = {"S2": 1.0}
# Where one episode's energy varies by over 10 %: so many that its mean is good to 0.3 %.
_MEASURED = {"S4": 4_000, "S5": 8_000}
_FEWEST = 100  # episodes
STEPS = 5_000
"""Slots of a run, unless said otherwise."""


def _config(scenario: str, steps: int, mode: Mode, **learner: Any) -> SchedulingConfig:
    prediction = _PREDICTION.get(scenario, 0.0) if learner.get("recurrent", True) else 0.0
    part = min(1.0, steps / STEPS)
    return SchedulingConfig(
        scenario=scenario,
        steps=steps,
        algorithm=RSD4Config(**{"prediction": prediction, **learner}),
        multiplier=MultiplierConfig(mode=mode),
        environments=_ENVIRONMENTS.get(scenario, 8),
        calibration_episodes=max(_FEWEST, round(part * _MEASURED.get(scenario, 2_000))),
        test_episodes=max(_FEWEST, round(part * _MEASURED.get(scenario, 400))),
    )


def s1(steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Four users, channel seen: the official default instance. The myopic rule has 99.3 %.

    Time: 2.4 to 3.1 minutes.

    Args:
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config("S1", steps, mode)


def s2(steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Eight users, sticky channel, hidden: where memory is worth something.

    Time: 2.7 to 3.5 minutes.

    Args:
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config("S2", steps, mode)


def s3(steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Thirty-two users, channel seen. The myopic rule has 95.6 %.

    Time: 3.8 to 5.0 minutes.

    Args:
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config("S3", steps, mode)


def s4(steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Four users whose channels alternate between a good and a bad regime.

    Time: 3.0 to 3.3 minutes.

    Args:
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config("S4", steps, mode)


def s5(steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Four flows over a line of three nodes, a budget and a price for each.

    Time: 6.4 to 13.3 minutes.

    Args:
        steps: slots that every environment plays.
        mode: how the prices of energy are found.
    """
    return _config("S5", steps, mode)


def sd3(scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """RSD4 without recurrence: the feed-forward twin.

    Time: 1.1 to 1.3 minutes on S1, 1.6 to 3.9 on S3 and S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(scenario, steps, mode, recurrent=False)


def rtd3(scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """RSD4 without the softmax operator: the value of one smoothed sample.

    Time: 2.3 to 2.5 minutes on S1, 6.9 to 8.1 on S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(scenario, steps, mode, operator="smoothed")


def td3(scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """Neither recurrence nor softmax: one actor, two critics.

    Time: 0.7 to 0.8 minutes on S1, 1.4 to 2.6 on S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(scenario, steps, mode, recurrent=False, operator="smoothed", actors=1)


def ddpg(scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """One actor, one critic, the value of what the actor proposes.

    Time: 0.5 to 0.6 minutes on S1, 1.3 to 2.2 on S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(
        scenario, steps, mode,
        recurrent=False, operator="plain", actors=1, critics=1,
    )  # fmt: skip


def whole(scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned") -> SchedulingConfig:
    """RSD4 with one worth for all energies of a user, as in the paper.

    Time: 2.2 to 2.3 minutes on S1, 7.1 to 11.9 on S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(scenario, steps, mode, critic="users")


def published(
    scenario: str = "S1", steps: int = STEPS, mode: Mode = "conditioned"
) -> SchedulingConfig:
    """The same with the published code's pairing, which crosses the sequences of a batch.

    Time: 2.4 to 2.5 minutes on S1, 13.8 to 14.5 on S5.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        mode: how the price of energy is found.
    """
    return _config(scenario, steps, mode, critic="users", pairing="published")


def sparse(
    scenario: str = "S1",
    steps: int = STEPS,
    sparsity: float = 0.8,
    mode: Mode = "conditioned",
) -> SchedulingConfig:
    """RSD4 whose networks are sparse from the first step, for a small base station.

    Time: a whole run was not measured; an update takes as long as a dense one of its width
    (benchmarks/README.md), which is twice that of the other recipes.

    Args:
        scenario: S1 to S5, csi:SEED:USERS, or a file.
        steps: slots that every environment plays.
        sparsity: fraction of weights cut in every network, in [0, 1).
        mode: how the price of energy is found.
    """
    config = _config(scenario, steps, mode)
    learner = dataclasses.replace(config.algorithm, sparsity=sparsity, width=96)
    return dataclasses.replace(config, algorithm=learner)
