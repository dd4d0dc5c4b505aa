"""LSVI-UCB+: minimax optimal learning in linear MDPs (Hu, Chen and Huang, ICML 2022), corrected.

| recipe | instance | what is hard |
|---|---|---|
| river_swim | six states, a current | far rewards |
| lock, deep_sea | one right action sequence | needles |
| lottery | noisy arms beside almost sure ones | unequal variances |
| simplex | random features in the simplex | nothing in particular |
| hard | the instance of the lower bound | gaps that shrink with K |
| frozen_lake | Gymnasium's, as a table | slippery ice |
| latent | continuous states, no model | regret is not known |

`learner` is lsvi_ucb_plus (variance-weighted, monotone, rarely switching), lsvi_ucb (unweighted),
icml (the original form, an ablation without a guarantee) or ucbvi (tabular). Constants are
practical ones, which come without a guarantee; ``--algorithm.constants theory`` takes those of the
proof, with which nothing is learned in a hundred thousand episodes.
"""

from __future__ import annotations

from typing import Literal

from thrifty.episodic.config import (
    DeepSeaConfig,
    EpisodicConfig,
    FrozenLakeConfig,
    HardConfig,
    InstanceConfig,
    LatentConfig,
    LearnerConfig,
    LockConfig,
    LotteryConfig,
    LSVIUCBConfig,
    LSVIUCBPlusConfig,
    RiverSwimConfig,
    SimplexConfig,
    UCBVIConfig,
)

__all__ = [
    "deep_sea",
    "frozen_lake",
    "hard",
    "latent",
    "lock",
    "lottery",
    "river_swim",
    "simplex",
]

LinearName = Literal["lsvi_ucb_plus", "lsvi_ucb", "icml"]
LearnerName = Literal["lsvi_ucb_plus", "lsvi_ucb", "icml", "ucbvi"]


def _config(instance: InstanceConfig, steps: int, learner: LearnerName) -> EpisodicConfig:
    learners: dict[str, LearnerConfig] = {
        "lsvi_ucb_plus": LSVIUCBPlusConfig(),
        "lsvi_ucb": LSVIUCBConfig(),
        "icml": LSVIUCBPlusConfig(monotone=False, switch="episode", gap="over"),
        "ucbvi": UCBVIConfig(),
    }
    if learner not in learners:
        raise ValueError(f"unknown learner {learner!r}; choose {', '.join(learners)}")
    return EpisodicConfig(instance=instance, steps=steps, algorithm=learners[learner])


def river_swim(
    steps: int = 10_000, S: int = 6, H: int = 20, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn RiverSwim: far from the start lies a reward of 1, near it one of .005.

    Expected: V* = 3.397 at S = 6, H = 20, and regret that flattens. About 100,000 episodes/s.

    Args:
        steps: episodes.
        S: states.
        H: stages of an episode.
        learner: who learns.
    """
    return _config(RiverSwimConfig(S=S, H=H), steps, learner)


def lock(
    steps: int = 10_000, H: int = 8, A: int = 3, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn the combination lock: one right action of A at each of H stages.

    Expected: V* = 1; the uniform policy opens it with probability A^-H.

    Args:
        steps: episodes.
        H: stages of an episode.
        A: actions.
        learner: who learns.
    """
    return _config(LockConfig(H=H, A=A), steps, learner)


def deep_sea(
    steps: int = 10_000, N: int = 8, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn deep sea: one of 2^N action sequences finds the treasure.

    Args:
        steps: episodes.
        N: columns, and stages of an episode.
        learner: who learns.
    """
    return _config(DeepSeaConfig(N=N), steps, learner)


def lottery(
    steps: int = 10_000, d: int = 8, H: int = 10, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn among lotteries and almost sure arms: the family where weighting by variance can pay.

    Args:
        steps: episodes.
        d: kernels to choose from, even.
        H: stages of an episode.
        learner: who learns.
    """
    return _config(LotteryConfig(d=d, H=H), steps, learner)


def simplex(
    steps: int = 10_000, d: int = 8, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn a random linear MDP of 50 states and 10 actions.

    Args:
        steps: episodes.
        d: latent kernels.
        learner: who learns.
    """
    return _config(SimplexConfig(d=d), steps, learner)


def hard(
    steps: int = 10_000,
    d: int = 4,
    H: int = 10,
    gap: float = 4.0,
    learner: LearnerName = "lsvi_ucb_plus",
) -> EpisodicConfig:
    """Learn the lower bound's instance, which is made for the number of episodes.

    Expected: regret / ((d-1) sqrt(H^3 K)) does not grow with K. That alone shows nothing (every
    policy's is flat): compare it with the uniform policy's over `gap`.

    Args:
        steps: episodes.
        d: the paper's d; features have d + 1.
        H: stages of an episode.
        gap: multiplier of the gap.
        learner: who learns.
    """
    return _config(HardConfig(d=d, H=H, gap=gap), steps, learner)


def frozen_lake(
    steps: int = 10_000, H: int = 30, learner: LearnerName = "lsvi_ucb_plus"
) -> EpisodicConfig:
    """Learn Gymnasium's slippery FrozenLake, from its table, with one-hot features.

    Args:
        steps: episodes.
        H: stages of an episode.
        learner: who learns.
    """
    return _config(FrozenLakeConfig(H=H), steps, learner)


def latent(steps: int = 2_000, learner: LinearName = "lsvi_ucb_plus") -> EpisodicConfig:
    """Learn with continuous states, through features only: returns and V_1, no regret.

    Args:
        steps: episodes.
        learner: who learns.
    """
    return _config(LatentConfig(), steps, learner)
