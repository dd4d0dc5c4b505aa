"""A GPT with its masks and its optimizer, in the form that is fastest at each step.

Between evolution steps matrices may be held as their links alone (`compact`); the dense masked form
is the one that evolves, is stored, and is lent to whoever asks for it. What is computed in which
form follows from the step, so a run that was stopped computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from thrifty.lm.backend import choose, make_forms
from thrifty.lm.compact import Compact, Form
from thrifty.lm.config import DenseConfig, PretrainingConfig
from thrifty.lm.gpt import GPT, linear_matrices
from thrifty.lm.optimizer import make_optimizer, rate
from thrifty.lm.plan import Plan
from thrifty.sparse import (
    GrowthRule,
    Topology,
    TopologyEvolution,
    TopologyUpdate,
    block_subset,
    er,
    gradient,
    in_blocks,
    random,
    sparsify,
    split,
    subset,
    top,
)

__all__ = ["SparseModel"]


class SparseModel:
    """A model in training.

    Args:
        config: resolved.
        plan: of its run.
        vocabulary: V, tokens.
        seeds: of the first weights, of the first topology, and of growth.

    Attributes:
        topology: the masks; without names where the run is dense.
        evolution: what exchanges links.
        backend: what multiplies by sparse matrices.
        reason: why that, in words.

    Raises:
        ValueError: a device, a backend or a density that cannot be had.
    """

    def __init__(
        self, config: PretrainingConfig, plan: Plan, vocabulary: int, seeds: Sequence[int]
    ) -> None:
        self._config, self._plan = config, plan
        self.backend, self.reason = choose(config, plan)
        generator = torch.Generator().manual_seed(seeds[0])
        self._model = GPT(config.model, vocabulary, generator).to(_device(config.device))
        self._block = getattr(config.sparsity, "block", 1)
        self.topology = self._sparsified(seeds[1])
        self.evolution = TopologyEvolution(
            self.topology,
            plan.schedule,
            grow=_growth(config),
            moments=config.optimizer.moments,
            regrown=getattr(config.sparsity, "regrown", "zero"),
            on_update=getattr(config.sparsity, "on_update", "step"),
            block=self._block,
            seed=seeds[2],
        )
        self._optimizer = make_optimizer(self._model, config.optimizer)
        self._forms: dict[str, Form] | None = None  # None: to be made from the masks
        self._compact: Compact | None = None  # None: the dense form holds

    def _sparsified(self, seed: int) -> Topology:
        sparsity = self._config.sparsity
        if isinstance(sparsity, DenseConfig):
            return sparsify(self._model, sparsity=0.0)
        topology = sparsify(
            self._model,
            sparsity=self._plan.schedule,
            allocate=in_blocks(er, sparsity.block),
            initial=subset if sparsity.block == 1 else block_subset(sparsity.block),
            where=linear_matrices,
            generator=torch.Generator().manual_seed(seed),
        )
        for phase in self._plan.phases.phases if self._plan.phases else ():
            topology.budget(1.0 - phase.end)  # what blocks cannot reach is refused now, not then
        return topology

    @property
    def model(self) -> GPT:
        """The model in dense form, up to date."""
        self._leave()
        return self._model

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """The optimizer in dense form, up to date."""
        self._leave()
        return self._optimizer

    def in_training(self, step: int) -> GPT:
        """Return the model in the form for a training step (from 1), without gradients."""
        if self._plan.schedule.is_due(step):
            self._leave()  # links move, and may grow by the gradient of those that are not there
        else:
            self._enter()
        self._active.zero_grad(set_to_none=True)
        return self._model

    def in_evaluation(self) -> GPT:
        """Return the model in its fastest form."""
        self._enter()
        return self._model

    def step(self, step: int) -> TopologyUpdate | None:
        """Clip, let the optimizer step, and exchange links around it where that is due.

        Args:
            step: from 1, as given to `in_training`.
        """
        learning_rate = rate(self._config, self._plan, step)
        for group in (*self._optimizer.param_groups, *self._active.param_groups):
            group["lr"] = learning_rate
        clip_norm = self._config.optimizer.clip_norm
        if self._compact is not None:
            self._compact.step(clip_norm)
            self.evolution.steps += 1
            return None
        update = self.evolution.step(self._optimizer, clip_norm=clip_norm)
        if update is not None:
            self._forms = None
        return update

    @property
    def _active(self) -> torch.optim.AdamW:
        return self._optimizer if self._compact is None else self._compact.optimizer

    def _enter(self) -> None:
        """Take matrices as their links alone where that is faster."""
        if self.backend == "dense" or self._compact is not None:
            return
        if self._forms is None:
            self._forms = make_forms(self.backend, self.topology, self._block)
        if self._forms:
            parameters = dict(self._model.named_parameters())
            names = [name for name in self.topology.names if name not in self._forms]
            masks = {name: self.topology.mask(name) for name in names}
            self._compact = Compact(parameters, self._optimizer, self._forms, masks)
            self._model.hold(self._compact.matrices)

    def _leave(self) -> None:
        """Bring the dense form up to date, and take that."""
        if self._compact is not None:
            self._compact.leave()
            self._compact = None
            self._model.hold({})

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer state and masks, all in dense form."""
        return {
            "model": {name: value.clone() for name, value in self.model.state_dict().items()},
            "optimizer": self.optimizer.state_dict(),
            "topology": self.topology.state_dict(),
            "evolution": self.evolution.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration.
        """
        try:
            self.model.load_state_dict(state["model"])
        except RuntimeError as problem:
            raise ValueError(f"the state is of another model: {problem}") from None
        self.topology.load_state_dict(state["topology"])
        self._forms = None
        self.optimizer.load_state_dict(state["optimizer"])
        self.evolution.load_state_dict(state["evolution"])


def _growth(config: PretrainingConfig) -> GrowthRule:
    rules = {
        "mixed": split((gradient, 3), (random, 1)),
        "gradient": top(gradient),
        "random": top(random),
    }
    return rules[getattr(config.sparsity, "grow", "gradient")]


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used here ({reason}): use cpu") from None
