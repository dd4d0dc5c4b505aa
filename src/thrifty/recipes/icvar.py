"""Iterated CVaR: risk-averse learning with guarantees (Du et al. 2023, Chen et al. 2024).

| recipe | learner | instance |
|---|---|---|
| l_lava, l_mixture, l_hard | ICVaR-L, linear mixtures | lava grid, random mixture, hard chain |
| rm_chain, rm_inventory | ICVaR-RM, tabular | hard chain, inventory |
| bpi_two_door | ICVaR-BPI, tabular | two doors |
| wp_inventory | MaxWP, tabular, worst path | inventory |
| g_class | ICVaR-G, a finite class of kernels | random class |
| g_ensemble | an ensemble, heuristic | random class |
| hf_features, hf_lava | ICVaR-HF, comparisons, known kernel | random features, lava grid |
| hf_class | ICVaR-HF, comparisons, unknown kernel | random features, a class of kernels |

``risk_level`` is the fraction of worst outcomes that counts: 1 is the mean, and below the least
transition probability it is the worst path. Regret is of the iterated CVaR at this level. Constants
are practical ones, without a guarantee; ``--algorithm.constants theory`` takes those of the proofs.
"""

from __future__ import annotations

from typing import Literal

from thrifty.episodic.risk_config import (
    EnsembleConfig,
    FeaturesConfig,
    HardChainConfig,
    ICVaRBPIConfig,
    ICVaRGConfig,
    ICVaRHFConfig,
    ICVaRLConfig,
    ICVaRRMConfig,
    InventoryConfig,
    KernelClassConfig,
    LavaGridConfig,
    LinearHardChainConfig,
    MaxWPConfig,
    MixtureConfig,
    RiskConfig,
    TwoDoorConfig,
)

__all__ = [
    "bpi_two_door",
    "g_class",
    "g_ensemble",
    "hf_class",
    "hf_features",
    "hf_lava",
    "l_hard",
    "l_lava",
    "l_mixture",
    "rm_chain",
    "rm_inventory",
    "wp_inventory",
]


def l_lava(steps: int = 10_000, risk_level: float = 0.1, slip: float = 0.01) -> RiskConfig:
    """Learn to cross a grid beside lava: near it if risk counts little, a row away if it does.

    Expected: below a risk level of .24 (for slip .01) the path of two steps more, which slides
    nowhere; above it the short path along the lava.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
        slip: probability that a step from the rim slides into the lava.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=LavaGridConfig(slip=slip),
        algorithm=ICVaRLConfig(),
    )


def l_mixture(steps: int = 30_000, risk_level: float = 0.25) -> RiskConfig:
    """Learn a mixture of five random kernels. About 450,000 episodes/s.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
    """
    return RiskConfig(
        steps=steps, risk_level=risk_level, instance=MixtureConfig(), algorithm=ICVaRLConfig()
    )


def l_hard(steps: int = 30_000, risk_level: float = 0.3, gap: float = 0.01) -> RiskConfig:
    """Learn the lower bound's instance, linear version: a bandit that is seldom reached.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts, at most 1/3.
        gap: how much a right sign changes a probability, half of it each way.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=LinearHardChainConfig(gap=gap),
        algorithm=ICVaRLConfig(),
    )


def rm_chain(steps: int = 30_000, risk_level: float = 0.3, gap: float = 0.05) -> RiskConfig:
    """Learn the lower bound's instance by counting.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts, at most 1/3.
        gap: how much more probable the good outcome of the right action is.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=HardChainConfig(gap=gap),
        algorithm=ICVaRRMConfig(),
    )


def rm_inventory(steps: int = 30_000, risk_level: float = 0.2) -> RiskConfig:
    """Learn to hold a stock against a rare rush.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
    """
    return RiskConfig(
        steps=steps, risk_level=risk_level, instance=InventoryConfig(), algorithm=ICVaRRMConfig()
    )


def bpi_two_door(steps: int = 30_000, risk_level: float = 0.5, accuracy: float = 0.2) -> RiskConfig:
    """Find out which door is better, and stop: with theory's constants the answer holds.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
        accuracy: the loss that is allowed.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=TwoDoorConfig(),
        algorithm=ICVaRBPIConfig(accuracy=accuracy),
    )


def wp_inventory(steps: int = 30_000) -> RiskConfig:
    """Learn the best worst path from the transitions seen, without any bonus.

    Args:
        steps: episodes.
    """
    return RiskConfig(steps=steps, instance=InventoryConfig(), algorithm=MaxWPConfig())


def g_class(steps: int = 10_000, risk_level: float = 0.3) -> RiskConfig:
    """Learn which of sixty kernels is true, as far as it matters. About 600,000 episodes/s.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
    """
    return RiskConfig(
        steps=steps, risk_level=risk_level, instance=KernelClassConfig(), algorithm=ICVaRGConfig()
    )


def g_ensemble(steps: int = 3_000, risk_level: float = 0.3) -> RiskConfig:
    """Learn with an ensemble of softmax models: a heuristic without a guarantee.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
    """
    return RiskConfig(
        steps=steps, risk_level=risk_level, instance=KernelClassConfig(), algorithm=EnsembleConfig()
    )


def hf_features(steps: int = 3_000, risk_level: float = 0.3, annotators: int = 1) -> RiskConfig:
    """Learn rewards from simulated comparisons of trajectories, transitions known.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
        annotators: labels per query.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=FeaturesConfig(),
        algorithm=ICVaRHFConfig(annotators=annotators),
    )


def hf_class(
    steps: int = 3_000, risk_level: float = 0.3, annotators: int = 1, members: int = 20
) -> RiskConfig:
    """Learn rewards from simulated comparisons, and which of twenty kernels is true.

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
        annotators: labels per query.
        members: kernels in the class.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=FeaturesConfig(members=members),
        algorithm=ICVaRHFConfig(annotators=annotators, transitions="learned"),
    )


def hf_lava(
    steps: int = 200,
    risk_level: float = 0.1,
    annotator: Literal["simulated", "person"] = "simulated",
) -> RiskConfig:
    """Learn on the lava grid what somebody prefers, from comparisons: a person's, or simulated.

    With ``--annotator person --out RUN`` the run waits for answers at ``thrifty label RUN``.

    Simulated annotators are unsure here: they see through a difference of two stages at the goal
    in 73 of 100 cases. With ``radius=1`` the learner hopes for pay on the rim or in the lava for
    hundreds of episodes (it played the best path at episode 200 in 10 of 20 runs); with .5 it
    settles sooner, after a few questions (39 of 40 runs at risk level .1, 29 of 40 at 1).

    Args:
        steps: episodes.
        risk_level: fraction of worst outcomes that counts.
        annotator: who answers.
    """
    return RiskConfig(
        steps=steps,
        risk_level=risk_level,
        instance=LavaGridConfig(),
        algorithm=ICVaRHFConfig(
            annotator=annotator,
            radius=0.5,
            candidates=64,
            scale=0.5,
            reference="best",
            threshold=0.2,
            queue=3,
            repeat_every=4 if annotator == "person" else 10,  # people are asked a few questions
        ),
    )
