"""Sparse networks inside anyone's torch loop: a model made truly sparse, and back.

:func:`compact` copies a model and puts a :class:`SparseMLP` in the place of every chain of masked
``nn.Linear`` and ``nn.ReLU``, and a :class:`SparseGRU` or :class:`SparseLSTM` in the place of every
masked ``nn.GRU`` or ``nn.LSTM``; :func:`expand` leads back to the dense masked model. A compact
model holds its links only, as two parameters a chain (``values`` and ``biases``), so torch's
optimizers, ``deepcopy``, ``state_dict`` and soft target updates work on it unchanged. The topology
is fixed while a model is compact: expand it, move links, compact it again, and make a new
optimizer.

LayerNorm, other activations and a ReLU at the end of a chain stay torch modules.
"""

from __future__ import annotations

import copy
from collections import Counter
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from thrifty.engine.links import LinkedModule
from thrifty.engine.sparse_mlp import SparseMLP
from thrifty.engine.sparse_recurrent import WEIGHTS, SparseGRU, SparseLSTM
from thrifty.sparse import Topology

__all__ = ["SparseGRU", "SparseLSTM", "SparseMLP", "compact", "expand"]

Model = TypeVar("Model", bound=nn.Module)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_RECURRENT: dict[type[nn.Module], type[SparseGRU] | type[SparseLSTM]] = {
    nn.GRU: SparseGRU,
    nn.LSTM: SparseLSTM,
}
_Run = list[tuple[str, nn.Module]]


def compact(model: Model, topology: Topology) -> Model:
    """Copy a model with its masked chains as truly sparse operations.

    In every plain ``nn.Sequential`` each longest run of Linear and ReLU that begins and ends with
    a Linear and holds a masked one becomes a :class:`SparseMLP` under its first name; its unmasked
    layers count as full. A masked Linear elsewhere becomes one by itself, a GRU or LSTM with a
    masked weight its sparse twin. All else is deep-copied.

    Args:
        model: float32 on the CPU; not changed.
        topology: of this model; every layer of it must be the weight of an ``nn.Linear``, or of an
            ``nn.GRU`` or ``nn.LSTM`` with one layer in one direction.

    Returns:
        The compact copy: call it, train it, copy it, save its ``state_dict`` as before. Make
        optimizers over *its* parameters. (A model that is itself a Linear comes back as a
        SparseMLP.)

    Raises:
        ValueError: the topology belongs to another model or has no names; a masked layer is of
            another kind, is used in two places, or carries hooks; a cut link has a value; only
            some weights of a chain are frozen.

    Example:
        >>> from thrifty.sparse import sparsify
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4), nn.Tanh())
        >>> compact(model, sparsify(model, sparsity=0.5))
        Sequential(
          (0): SparseMLP(8 -> 16 -> 4, 96 of 192 links)
          (3): Tanh()
        )
    """
    masks, recurrent = _masks(model, topology)
    runs = [run for m in model.modules() if type(m) is nn.Sequential for run in _runs(m)]
    inside = {id(child) for run in runs for _, child in run}
    runs += [[("", m)] for m in model.modules() if id(m) in masks and id(m) not in inside]
    runs = [run for run in runs if any(id(child) in masks for _, child in run)]
    _refuse_shared(model, [*(child for run in runs for _, child in run), *recurrent])
    memo: dict[int, LinkedModule] = {id(run[0][1]): _joined(run, masks) for run in runs}
    memo |= {id(module): _recurrent(module) for module in recurrent}
    copied: Model = copy.deepcopy(model, dict(memo))
    for module in copied.modules():
        if type(module) is nn.Sequential:
            for child in list(module.children()):
                if isinstance(child, SparseMLP):
                    for name in child.names[1:]:
                        delattr(module, name)
    return copied


def expand(model: Model, topology: Topology) -> tuple[Model, Topology]:
    """Copy a compact model as the dense masked model that it stands for.

    Args:
        model: from :func:`compact`, or a copy of such a model; not changed.
        topology: that it was made with, for the layers' names, groups and allocation; the masks
            are the compact model's own.

    Returns:
        The dense copy and its topology, equal in every value and mask.

    Raises:
        ValueError: the compact model has other sparse layers than the topology.

    Example:
        >>> from thrifty.sparse import sparsify
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
        >>> topology = sparsify(model, sparsity=0.5)
        >>> dense, _ = expand(compact(model, topology), topology)
        >>> all(torch.equal(p, q) for p, q in zip(dense.parameters(), model.parameters()))
        True
    """
    chains = {id(m): m.dense() for m in model.modules() if isinstance(m, LinkedModule)}
    memo: dict[int, Any] = {key: chain[0][1] for key, chain in chains.items()}
    copied: Model = copy.deepcopy(model, memo)
    for path, module in model.named_modules():
        if type(module) is nn.Sequential:
            twin = copied.get_submodule(path)
            for name, child in module._modules.items():
                first = getattr(twin, name)
                delattr(twin, name)
                twin.add_module(name, first)  # behind what was added before
                for other, part in chains.get(id(child), [])[1:]:
                    twin.add_module(other, part)
    parts = {id(part) for chain in chains.values() for _, part in chain}
    found = {
        f"{path}.{attribute}" if path else attribute: (module, attribute)
        for path, module in copied.named_modules()
        if id(module) in parts
        for attribute in _attributes(module)
    }
    wanted = {name.partition("[")[0] for name in topology.names}  # a gate is a part of its weight
    if missing := sorted(wanted - set(found)):
        raise ValueError(
            f"the compact model has no sparse layer {missing[0]}: pass the topology that it was "
            "made with"
        )
    for name, (module, attribute) in found.items():
        if name not in wanted:
            if not bool(module.get_buffer(f"{attribute}_mask").all()):
                raise ValueError(f"{name} is sparse here and unknown to the topology")
            delattr(module, f"{attribute}_mask")
    return copied, topology.on(copied)


def _attributes(module: nn.Module) -> tuple[str, ...]:
    """Return the names of the weights of a module that can be compact; none where it cannot."""
    if type(module) is nn.Linear:
        return ("weight",)
    return WEIGHTS if type(module) in _RECURRENT else ()


def _masks(
    model: nn.Module, topology: Topology
) -> tuple[dict[int, Tensor], list[nn.GRU | nn.LSTM]]:
    """Return the mask of every masked Linear, by the identity of the module, and masked GRUs
    and LSTMs.
    """
    if not topology.names:
        raise ValueError("nothing to compact: the topology has no names (its sparsity is 0)")
    owners = {id(getattr(m, attribute)): m for m in model.modules() for attribute in _attributes(m)}
    own = {id(parameter) for parameter in model.parameters()}
    masks: dict[int, Tensor] = {}
    recurrent: dict[int, nn.GRU | nn.LSTM] = {}
    for name in topology.names:
        weight = topology.parameter(name)
        if id(weight) not in own:
            raise ValueError(
                f"the topology's {name} is no parameter of this model: for a copy pass "
                "topology.on(copy)"
            )
        module = owners.get(id(weight))
        if isinstance(module, nn.GRU | nn.LSTM):
            recurrent[id(module)] = module
        elif module is not None:
            masks[id(module)] = topology.mask(name)
        else:
            raise ValueError(
                f"{name} is not the weight of a plain nn.Linear, nor of an nn.GRU or nn.LSTM with "
                "one layer in one direction: only those can be compact; leave others out with "
                "sparsify(where=...)"
            )
    return masks, list(recurrent.values())


def _recurrent(module: nn.GRU | nn.LSTM) -> LinkedModule:
    """Return the sparse twin of a layer with a mask on one of its weights or both."""
    masks = (
        getattr(module, f"{name}_mask", torch.ones_like(getattr(module, name), dtype=torch.bool))
        for name in WEIGHTS
    )
    return _RECURRENT[type(module)](module, (next(masks), next(masks)))


def _refuse_shared(model: nn.Module, replaced: list[nn.Module]) -> None:
    """Refuse modules with hooks, and linear layers that are used in two places."""
    uses = Counter(
        id(thing)
        for module in model.modules()
        for thing in (*module._modules.values(), *module._parameters.values())
        if thing is not None
    )
    paths = {id(module): path for path, module in model.named_modules()}
    for module in replaced:
        path = paths[id(module)]
        if _attributes(module) and any(
            uses[id(thing)] > 1 for thing in (module, *module.parameters())
        ):
            raise ValueError(f"{path} is used in two places: a compact model cannot share it")
        if any(vars(module)[kind] for kind in _HOOKS):
            raise ValueError(f"{path} carries hooks, which a compact model would not call")


def _runs(module: nn.Sequential) -> list[_Run]:
    """Return the longest runs of Linear and single ReLUs that begin and end with a Linear."""
    runs: list[_Run] = []
    ended = True
    for name, child in module._modules.items():
        assert child is not None
        if type(child) is nn.Linear:
            if ended:
                runs.append([])
            runs[-1].append((name, child))
            ended = False
        elif type(child) is nn.ReLU and not ended and type(runs[-1][-1][1]) is nn.Linear:
            runs[-1].append((name, child))
        else:
            ended = True
    return [run[:-1] if type(run[-1][1]) is nn.ReLU else run for run in runs]


def _joined(run: _Run, masks: dict[int, Tensor]) -> SparseMLP:
    linears = [child for _, child in run if isinstance(child, nn.Linear)]
    followed = [
        isinstance(after, nn.ReLU)
        for (_, child), (_, after) in pairwise([*run, ("", nn.Identity())])
        if isinstance(child, nn.Linear)
    ]
    full = [torch.ones_like(linear.weight, dtype=torch.bool) for linear in linears]
    chosen = [masks.get(id(linear), ones) for linear, ones in zip(linears, full, strict=True)]
    return SparseMLP(linears, chosen, followed, [name for name, _ in run])
