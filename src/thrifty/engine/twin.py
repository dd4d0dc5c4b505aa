"""A sparse model in training in two forms: dense under masks, and compact.

Most updates run on the compact form. Where links move, or somebody wants to look, the dense form is
brought up to date, optimizer state included; afterwards the compact form takes everything back:

    twin = Twin(model, topology, optimizer)
    loss_of(twin.compact, batch).backward(); twin.optimizer.step()    # most of the time
    twin.bring_dense()
    loss_of(model, batch).backward(); evolution.step(optimizer)       # the topology changes
    twin.take_dense()

Every tensor of an optimizer's state that has its parameter's shape is carried link by link; of what
else is there (a step counter) all parts of a chain hold the same, and the first one's is taken.
Where no link is, such a tensor becomes 0, or it is kept and decays, step by step, as in the dense
form, whose gradients are 0 there (``moments``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from thrifty.engine.links import LinkedModule
from thrifty.engine.modules import compact
from thrifty.engine.optim import decay
from thrifty.engine.sparse_mlp import SparseMLP
from thrifty.engine.sparse_recurrent import BIASES, WEIGHTS
from thrifty.sparse import Topology

Model = TypeVar("Model", bound=nn.Module)
_Part = tuple[str, Tensor | None]
"""A dense parameter's name, and its mask where only its links are held."""
# What a step without a gradient multiplies a moment by, from the settings of Adam and RMSprop.
_FACTORS: dict[str, Callable[[dict[str, Any]], float]] = {
    "exp_avg": lambda group: group["betas"][0],
    "exp_avg_sq": lambda group: group["betas"][1],
    "square_avg": lambda group: group["alpha"],
}


class Twin(Generic[Model]):
    """A model, its topology and its optimizer, and their compact forms.

    Args:
        model: float32 on the CPU, what :func:`~thrifty.engine.modules.compact` takes.
        topology: of this model.
        optimizer: over parameters of this model, of which each chain's weights are in one group,
            and its biases too.
        moments: what the optimizer holds of cut links becomes 0 ("zero"), or stays and decays
            ("keep"; Adam, and RMSprop without momentum).

    Attributes:
        compact: the compact model; a new one after :meth:`take_dense`.
        optimizer: over its parameters, of the same kind and settings; new with it.

    Raises:
        ValueError: as ``compact`` does, or parameters of a chain in several groups.
    """

    def __init__(
        self,
        model: Model,
        topology: Topology,
        optimizer: torch.optim.Optimizer,
        *,
        moments: Literal["zero", "keep"] = "zero",
    ) -> None:
        self._model, self._topology, self._dense_optimizer = model, topology, optimizer
        self._moments = moments
        self.compact: Model
        self.optimizer: torch.optim.Optimizer
        self.take_dense()

    def take_dense(self) -> None:
        """Make the compact form anew from the dense one, optimizer state included."""
        self.compact = compact(self._model, self._topology)
        self._parts = parts_of(self.compact, self._model)
        dense = dict(self._model.named_parameters())
        small = dict(self.compact.named_parameters())
        groups = self._groups(dense, small)
        optimizer = self._dense_optimizer
        known = inspect.signature(type(optimizer)).parameters
        settings = {name: value for name, value in optimizer.defaults.items() if name in known}
        self.optimizer = type(optimizer)(groups, **settings)
        for name, parts in self._parts.items():
            if parts and all(dense[part] in optimizer.state for part, _ in parts):
                states = [optimizer.state[dense[part]] for part, _ in parts]
                self.optimizer.state[small[name]] = {
                    key: _joined([state[key] for state in states], parts, dense)
                    for key in states[0]
                }

    def bring_dense(self) -> None:
        """Bring the dense model and its optimizer's state up to date."""
        dense = dict(self._model.named_parameters())
        small = dict(self.compact.named_parameters())
        for name, parts in self._parts.items():
            with torch.no_grad():
                _spread(small[name], parts, {part: dense[part] for part, _ in parts})
            state = self.optimizer.state.get(small[name])
            if not state:
                continue
            for part, mask in parts:
                held = self._held(dense[part], mask, state)
                self._dense_optimizer.state[dense[part]] = {
                    key: held.get(key, torch.zeros_like(dense[part]))
                    if _of_shape(value, small[name])
                    else value
                    for key, value in state.items()
                }
            for key, value in state.items():
                if _of_shape(value, small[name]):
                    into = {
                        part: self._dense_optimizer.state[dense[part]][key] for part, _ in parts
                    }
                    _spread(value, parts, into)
                elif isinstance(value, Tensor):
                    for part, _ in parts:
                        self._dense_optimizer.state[dense[part]][key] = value.clone()
        self._topology.project()
        self._bring_buffers()

    def _held(
        self, parameter: Tensor, mask: Tensor | None, state: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The dense optimizer's moments where no link is, decayed since the two forms agreed."""
        held = self._dense_optimizer.state.get(parameter)
        if self._moments == "zero" or mask is None or not held:
            return {}
        group = next(
            group
            for group in self._dense_optimizer.param_groups
            if any(parameter is one for one in group["params"])
        )
        since = int(state["step"]) - int(held["step"])
        for key, factor in _FACTORS.items():
            if key in held:
                cut = ~mask & (held[key] != 0)
                values = held[key][cut].numpy()
                decay(values, factor(group), since)
                held[key][cut] = torch.from_numpy(values)
        return dict(held)

    def _bring_buffers(self) -> None:
        buffers = dict(self._model.named_buffers())
        for name, buffer in self.compact.named_buffers():
            if name in buffers:
                buffers[name].copy_(buffer)

    def _groups(self, dense: dict[str, Any], small: dict[str, Any]) -> list[dict[str, Any]]:
        places = {
            id(parameter): number
            for number, group in enumerate(self._dense_optimizer.param_groups)
            for parameter in group["params"]
        }
        groups: list[dict[str, Any]] = [
            {**group, "params": []} for group in self._dense_optimizer.param_groups
        ]
        for name, parts in self._parts.items():
            found = {places.get(id(dense[part])) for part, _ in parts}
            if len(found) > 1:
                raise ValueError(
                    f"{name} stands for parameters of several groups of the optimizer: give the "
                    "weights of a chain one group, and its biases one"
                )
            number = next(iter(found), None)
            if number is not None:
                groups[number]["params"].append(small[name])
        return [group for group in groups if group["params"]]


def parts_of(small: nn.Module, model: nn.Module) -> dict[str, list[_Part]]:
    """Return what each parameter of a compact model stands for in the dense one.

    Args:
        small: from :func:`~thrifty.engine.modules.compact`.
        model: that it was made of.

    Returns:
        By the compact parameter's name the names of dense parameters, in the order in which they
        follow one another, with the mask where only their links are held.
    """
    parts: dict[str, list[_Part]] = {}
    names = {name for name, _ in model.named_parameters()}
    modules = dict(small.named_modules())
    for name, _ in small.named_parameters():
        path, _, attribute = name.rpartition(".")
        module = modules[path]
        if not isinstance(module, LinkedModule):
            parts[name] = [(name, None)]
            continue
        weights, biases = _origins(path, module)
        masks = [torch.from_numpy(layer.mask()) for layer in module.links.layers]
        if attribute == "values":
            parts[name] = list(zip(weights, masks, strict=True))
        else:
            parts[name] = [(bias, None) for bias in biases if bias in names]
    return parts


def _origins(path: str, module: LinkedModule) -> tuple[list[str], list[str]]:
    """Return the names of the dense weights and biases behind a compact module."""
    inside = f"{path}." if path else ""
    if not isinstance(module, SparseMLP):
        return [inside + name for name in WEIGHTS], [inside + name for name in BIASES]
    if len(module.names) > 1:
        parent = path.rpartition(".")[0]
        before = f"{parent}." if parent else ""
        paths = [f"{before}{name}." for name in module.linears()]
    else:
        paths = [inside]
    return [f"{p}weight" for p in paths], [f"{p}bias" for p in paths]


def _of_shape(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


def _joined(values: list[Any], parts: list[_Part], dense: dict[str, Any]) -> Any:
    """Join what an optimizer knows of dense parameters."""
    if not _of_shape(values[0], dense[parts[0][0]]):
        return values[0].clone() if isinstance(values[0], Tensor) else values[0]
    if len(parts) == 1 and parts[0][1] is None:
        return values[0].clone()
    return torch.cat(
        [
            value[mask] if mask is not None else value.reshape(-1)
            for value, (_, mask) in zip(values, parts, strict=True)
        ]
    )


def _spread(value: Tensor, parts: list[_Part], into: dict[str, Tensor]) -> None:
    """Copy a compact parameter, or its like, to the dense ones; places without a link stay."""
    at = 0
    for part, mask in parts:
        goal = into[part]
        size = goal.numel() if mask is None else int(mask.sum())
        piece = value.detach().reshape(-1)[at : at + size]
        if mask is None:
            goal.copy_(piece.reshape(goal.shape))
        else:
            goal[mask] = piece
        at += size
