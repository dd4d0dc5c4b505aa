"""What multiplies by the sparse matrices of a run, and why: the choice of ``backend="auto"``.

| backend | how | needs |
|---|---|---|
| dense | the whole matrix, cut links 0 | nothing |
| block | gathered dense products, or Triton's kernels on CUDA | blocks, of 64 or so |
| engine | the engine's kernels, on single links or blocks | CPU, float32 |

Block and engine work between two evolution steps on matrices that are sparse enough (`LEAST_CUT`);
the others, and all at evolution steps, are multiplied whole. The choice follows from the
configuration alone (and from whether the engine can be loaded), so a resumed run makes it again.
"""

from __future__ import annotations

from typing import Literal

from thrifty.engine import loading
from thrifty.lm.compact import Form, Links
from thrifty.lm.config import PretrainingConfig
from thrifty.lm.gathered_blocks import GatheredBlocks
from thrifty.lm.plan import Plan
from thrifty.sparse import Topology

__all__ = ["Backend", "choose", "make_forms"]

Backend = Literal["dense", "block", "engine"]

LEAST_CUT = {"links": 0.7, "blocks": 0.5}
"""Share of cut links from which a matrix is taken in compact form."""
_FEWEST = 256
"""Tokens of a micro-batch below which `auto` stays dense: calls would cost more than products."""


def choose(config: PretrainingConfig, plan: Plan) -> tuple[Backend, str]:
    """Return what multiplies, and the reason in words.

    Args:
        config: resolved.
        plan: of the run; its greatest sparsity counts.

    Raises:
        ValueError: the backend asked for cannot run this configuration, with the remedy.
    """
    lacking = {name: _lacking(name, config) for name in ("block", "engine")}
    if config.backend != "auto":
        problem = lacking.get(config.backend)
        if problem:
            raise ValueError(
                f"the backend {config.backend} needs {problem}: change that, or say backend auto"
            )
        return config.backend, "as configured"
    if config.sparsity.kind == "dense":
        return "dense", "no link is cut"
    ends = plan.phases.ends if plan.phases else []
    cut = max(plan.schedule.sparsity(step) for step in (0, *ends))
    least = LEAST_CUT["links" if config.sparsity.block == 1 else "blocks"]
    share = f"{100.0 * cut:.3g} % of the links are cut at the sparsest"
    if cut < least:
        return "dense", f"{share}, below the {100.0 * least:.0f} % from which skipping them pays"
    tokens = config.batch_size * config.model.context
    if tokens < _FEWEST:
        return "dense", f"{tokens} tokens of a micro-batch are too few to share out"
    if lacking["engine"] is None:
        return "engine", share
    blocks = lacking["block"] is None and config.sparsity.block >= 64
    if blocks and config.device == "cpu":
        return "block", f"{share}; the engine needs {lacking['engine']}"
    if blocks:
        return "dense", "products of blocks are not measured on this device: ask for backend block"
    return "dense", f"the engine needs {lacking['engine']}"


def _lacking(backend: str, config: PretrainingConfig) -> str | None:
    """Return what a configuration lacks for a backend, in words, or None."""
    sparsity = config.sparsity
    if sparsity.kind == "dense":
        return "sparse matrices (sparsity)"
    if config.optimizer.moments == "keep":
        return "moments of cut links that are zero (optimizer.moments)"
    if backend == "block":
        if sparsity.block == 1:
            return "blocks (sparsity.block of 64 or so)"
        # What Triton's kernels lack is to be said now, not where the run becomes sparse.
        power = sparsity.block >= 16 and not sparsity.block & (sparsity.block - 1)
        if config.device != "cpu" and not power and _has_triton():
            return "blocks of a power of two from 16 on there (sparsity.block)"
        return None
    if config.device != "cpu" or config.precision != "float32":
        return "float32 on the cpu (precision, device)"
    problem = loading.problem("thrifty.engine.sparse_mlp")
    if problem:
        return f"Numba, which cannot be used here ({problem})"
    if sparsity.block > 1:
        from thrifty.engine.sparse_blocks import UNIT

        if sparsity.block % UNIT:
            return f"blocks of a multiple of {UNIT} links here (sparsity.block)"
    return None


def _has_triton() -> bool:
    from thrifty.lm import triton_blocks

    return triton_blocks.AVAILABLE


def make_forms(backend: Backend, topology: Topology, block: int) -> dict[str, Form]:
    """Return the form of every matrix that is sparse enough to be taken as its links alone.

    Args:
        backend: block or engine.
        topology: the masks.
        block: links a side of a block.
    """
    least = LEAST_CUT["links" if block == 1 else "blocks"]
    masks = {name: topology.mask(name) for name in topology.names}
    chosen = {
        name: mask
        for name, mask in masks.items()
        if int(mask.sum()) <= (1.0 - least) * mask.numel()
    }
    if backend == "block":
        from thrifty.lm import triton_blocks

        if any(mask.is_cuda for mask in chosen.values()) and triton_blocks.AVAILABLE:
            return {name: triton_blocks.TritonBlocks(mask, block) for name, mask in chosen.items()}
        return {name: GatheredBlocks(mask, block) for name, mask in chosen.items()}
    if block == 1:
        return {name: Links(mask) for name, mask in chosen.items()}
    from thrifty.engine.sparse_blocks import Blocks

    return {name: Blocks(mask, block) for name, mask in chosen.items()}
