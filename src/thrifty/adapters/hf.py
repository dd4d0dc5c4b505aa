"""Mixed sparsity, or any schedule, inside Hugging Face's `Trainer`.

    from thrifty.adapters.hf import sparse_training                         # 1
    callback = sparse_training(schedule, clip_norm=1.0)                     # 2
    trainer = Trainer(model, arguments, callbacks=[callback])               # 3, max_grad_norm=0

The schedule is one of `thrifty.sparse`, for example `Phases`. Its steps are those of the Trainer's
optimizer. The callback works around each of them: gradients are scored and masked, then clipped,
then the optimizer steps, then cut links are set to 0. The Trainer itself clips before its callbacks
see the gradients, so its own clipping must be off (`max_grad_norm=0`).

Masks are saved in every checkpoint (`masks.npz`, no pickle) and restored by
`trainer.train(resume_from_checkpoint=True)`; a checkpoint outside of output_dir is to be named in
the TrainingArguments as well, since the Trainer does not tell its callbacks where it lies.
Attention stays what the model computes. On several processes all masks are equal, because gradients
are averaged and random growth is a function of seed and step; give `ddp_broadcast_buffers=False`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from thrifty.sparse import (
    GrowthRule,
    SparsitySchedule,
    Topology,
    TopologyEvolution,
    TopologyUpdate,
    Where,
    er,
    gradient,
    layer_shapes,
    random,
    sparsify,
    split,
    subset,
)

__all__ = ["linear_matrices", "sparse_training"]

_FILE = "masks.npz"


def linear_matrices(name: str, module: nn.Module, parameter: nn.Parameter) -> bool:
    """Choose the weights of all linear layers, and a token embedding, where the head is tied to it.

    Hugging Face's GPT-2 calls its linear layers Conv1D. An embedding counts by its name, `wte`: the
    head of GPT-2 is tied.

    Args:
        name: full name of the parameter.
        module: the module that owns it.
        parameter: the parameter.
    """
    linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    return name.endswith("wte.weight") or (linear and name.endswith("weight"))


def sparse_training(
    schedule: SparsitySchedule,
    *,
    clip_norm: float | None = 1.0,
    grow: GrowthRule | None = None,
    where: Where = linear_matrices,
    moments: Literal["zero", "keep"] = "zero",
    seed: int = 0,
) -> Any:
    """Return a `TrainerCallback` that trains the Trainer's model sparsely.

    Args:
        schedule: when links are exchanged, how many, how sparse, in optimizer steps.
        clip_norm: largest norm of the masked gradient; None does not clip.
        grow: rule that chooses new links; default three by gradient, one at random.
        where: which parameters are made sparse.
        moments: see `TopologyEvolution`.
        seed: of the first masks and of random growth.

    Returns:
        The callback. Its `topology` and `evolution` are there once training has begun.

    Raises:
        ImportError: transformers is not installed.
    """
    rule = split((gradient, 3), (random, 1)) if grow is None else grow
    return _kind()(schedule, clip_norm, rule, where, moments, seed)


@cache
def _kind() -> type[Any]:
    """Make the class when it is first needed: its base is transformers'."""
    try:
        from transformers import TrainerCallback
    except ImportError as problem:
        raise ImportError('transformers is not installed: pip install "thrifty[hf]"') from problem

    class SparseTraining(TrainerCallback):  # type: ignore[misc]
        """Masks gradients before and weights after each optimizer step."""

        def __init__(
            self,
            schedule: SparsitySchedule,
            clip_norm: float | None,
            grow: GrowthRule,
            where: Where,
            moments: Literal["zero", "keep"],
            seed: int,
        ) -> None:
            self.schedule, self.clip_norm, self.grow = schedule, clip_norm, grow
            self.where, self.moments, self.seed = where, moments, seed
            self.topology: Topology | None = None
            self.evolution: TopologyEvolution | None = None
            self.last_update: TopologyUpdate | None = None

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.max_grad_norm:
                raise ValueError(
                    "the Trainer clips gradients before they are masked: give TrainingArguments "
                    "max_grad_norm=0, and clip_norm to sparse_training"
                )
            model = kwargs["model"]
            if state.global_step:  # its weights are loaded already, and no other mask may cut them
                shapes = layer_shapes(model, where=self.where)
                whole = {
                    name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()
                }
                self.topology = Topology(model, whole, where=self.where, allocate=er)
            else:
                self.topology = sparsify(
                    model,
                    sparsity=self.schedule,
                    allocate=er,
                    initial=subset,
                    where=self.where,
                    generator=torch.Generator().manual_seed(self.seed),
                )
            self.evolution = TopologyEvolution(
                self.topology, self.schedule, grow=self.grow, moments=self.moments, seed=self.seed
            )
            if state.global_step:
                place = args.resume_from_checkpoint
                place = place if isinstance(place, str) else _checkpoint(args, state)
                _load(Path(place) / _FILE, self.topology, self.evolution)

        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert self.evolution is not None, "on_train_begin comes first"
            optimizer = kwargs["optimizer"]
            self.evolution.before(optimizer)
            if self.clip_norm is not None:
                parameters = [p for group in optimizer.param_groups for p in group["params"]]
                torch.nn.utils.clip_grad_norm_(parameters, self.clip_norm)

        def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert self.evolution is not None, "on_train_begin comes first"
            self.last_update = self.evolution.after(kwargs["optimizer"]) or self.last_update

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            assert self.topology is not None, "on_train_begin comes first"
            assert self.evolution is not None, "on_train_begin comes first"
            if state.is_world_process_zero:
                _save(Path(_checkpoint(args, state)) / _FILE, self.topology, self.evolution)

    return SparseTraining


def _checkpoint(args: Any, state: Any) -> str:
    return f"{args.output_dir}/checkpoint-{state.global_step}"


def _save(path: Path, topology: Topology, evolution: TopologyEvolution) -> None:
    """Write masks as bits, in the order of the layers."""
    state = topology.state_dict()
    arrays: dict[str, Any] = {
        f"{kind}:{name}": np.packbits(mask.cpu().numpy())
        for kind in ("masks", "initial_masks")
        for name, mask in state[kind].items()
    }
    arrays["target_sparsity"] = np.float64(state["target_sparsity"])
    arrays["steps"] = np.int64(evolution.steps)
    np.savez_compressed(path, **arrays)


def _load(path: Path, topology: Topology, evolution: TopologyEvolution) -> None:
    if not path.exists():
        raise ValueError(
            f"{path} is missing: resume within the output_dir of sparse training, or name the "
            "checkpoint in TrainingArguments(resume_from_checkpoint=...)"
        )
    with np.load(path, allow_pickle=False) as file:
        shapes = topology.shapes
        if {f"masks:{name}" for name in shapes} - set(file.files):
            raise ValueError(f"{path} holds masks of another model")
        state: dict[str, Any] = {
            kind: {
                name: torch.from_numpy(
                    np.unpackbits(file[f"{kind}:{name}"], count=shape.numel())
                    .astype(bool)
                    .reshape(shape)
                )
                for name, shape in shapes.items()
            }
            for kind in ("masks", "initial_masks")
        }
        for name, mask in state["masks"].items():
            if topology.weight(name).detach().cpu()[~mask].any():
                raise ValueError(f"{path} belongs to another checkpoint: {name} has other links")
        state["target_sparsity"] = float(file["target_sparsity"])
        evolution.load_state_dict({"steps": int(file["steps"])})
    topology.load_state_dict(state)
