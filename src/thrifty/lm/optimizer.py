"""AdamW with GPT-2's usual groups, and its learning rate at every step of a run."""

from __future__ import annotations

import torch
from torch import nn

from thrifty.lm import learning_rate
from thrifty.lm.config import OptimizerConfig, PhasesConfig, PretrainingConfig
from thrifty.lm.gpt import GPT
from thrifty.lm.plan import Plan

__all__ = ["make_optimizer", "rate"]


def make_optimizer(model: GPT, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over a model: matrices of linear layers decay, nothing else does.

    Args:
        model: what is trained.
        config: learning rate, decay and betas.
    """
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        linear = name.startswith("blocks.") and parameter.dim() == 2
        (decaying if linear else others).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decaying, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=True,
    )


def rate(config: PretrainingConfig, plan: Plan, step: int) -> float:
    """Return the learning rate of a step.

    Args:
        config: resolved.
        plan: tells where restoration begins.
        step: from 1.
    """
    optimizer, sparsity = config.optimizer, config.sparsity
    assert optimizer.warm_up is not None, "a resolved configuration has every number"
    steps, warm_up, least = config.steps, optimizer.warm_up, optimizer.least
    if isinstance(sparsity, PhasesConfig) and sparsity.restoration_learning_rate == "rewarmed":
        assert plan.phases is not None
        share = learning_rate.rewarmed(
            step,
            steps=steps,
            warm_up=warm_up,
            least=least,
            since=plan.phases.ends[1],
            peak=sparsity.rewarmed_peak,
        )
    else:
        share = learning_rate.cosine(step, steps=steps, warm_up=warm_up, least=least)
    return optimizer.learning_rate * share
