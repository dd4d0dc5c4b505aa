"""The masks of one model: which links exist, under which names, and how they reach a target.

A mask is a non-persistent bool buffer `<parameter>_mask` on the module that owns the parameter.
So it follows `.to` and `deepcopy` and is no part of the model's own `state_dict`: dense
checkpoints keep working, and `Topology.state_dict` carries the masks. A `Topology` looks weights
and masks up through the modules each time; it registers no hook and patches nothing.

A layer is one weight matrix (or kernel), named as in `model.named_parameters()`. A parameter
that appears under several names (tied weights) is one layer with the first of its names, and
whether it is sparse is asked once, of its first owner; so an output layer tied to an embedding
stays dense. With `split_gates` every gate of a GRU (3) or LSTM (4) is a layer of its own, named
`gru.weight_ih_l0[0]` and so on, in PyTorch's order of gates.

Where we differ from public code (RigL, RLx2): masks live on the model instead of in a scheduler,
and target networks are masked from the start (`impose`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from thrifty.sparse.allocate import Allocation, erk
from thrifty.sparse.layers import Layer, Slot, Where, find_layers, matrix_weights
from thrifty.sparse.masks import count

__all__ = ["Scope", "Topology"]

Scope = Literal["layer", "group"] | Callable[[str], Hashable]
"""What is ranked together: each layer, all layers, or the layers with the same key."""


class _Live(NamedTuple):
    """The tensors as they are now, and each mask that cuts something as numbers."""

    weights: list[nn.Parameter]
    masks: list[Tensor]
    versions: list[int]
    dtypes: list[torch.dtype]
    cut_weights: list[Tensor]
    cut_masks: list[Tensor]


class Topology:
    """The masks of one model. Make one with `sparsify` or `Topology.from_zeros`.

    Args:
        model: the model; a bool buffer per sparse parameter is registered on its modules.
        masks: bool mask of every layer of `layer_shapes(model, ...)`, by name; or an empty
            mapping, which makes a topology without names that does nothing.
        where: which parameters may be sparse.
        split_gates: every gate of a GRU or LSTM is a layer of its own.
        scope: what is ranked together at an evolution step: "layer", "group" (all layers), or a
            function from a layer's name to the key of its group.
        allocate: how a new budget is divided among layers when the sparsity moves.
        target_sparsity: the sparsity asked for, in [0, 1); default the measured one.

    Attributes:
        names: the layers' names.
        groups: what is ranked together, a tuple of tuples of names.
        allocate: as given.
        target_sparsity: the sparsity asked for; the evolution updates it when its schedule moves.

    Raises:
        ValueError: the masks do not fit the model's layers.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: Mapping[str, Tensor],
        *,
        where: Where = matrix_weights,
        split_gates: bool = False,
        scope: Scope = "layer",
        allocate: Allocation = erk,
        target_sparsity: float | None = None,
    ) -> None:
        layers = find_layers(model, where, split_gates) if masks else []
        shapes = {layer.name: layer.part(layer.slot.weight).shape for layer in layers}
        _check_masks(masks, shapes)
        self.allocate = allocate
        self.groups = _group(shapes, scope)
        self._bind(layers, create=True)
        for name in self.names:
            self.mask(name).copy_(masks[name])
        self.target_sparsity = self.sparsity if target_sparsity is None else target_sparsity
        self._initial = {name: self.mask(name).clone() for name in self.names}
        self.project()

    @classmethod
    def from_zeros(
        cls,
        model: nn.Module,
        *,
        where: Where = matrix_weights,
        split_gates: bool = False,
        scope: Scope = "layer",
        allocate: Allocation = erk,
    ) -> Topology:
        """Read the topology off a model that is sparse already: a link is cut where w == 0.

        Args:
            model: a model whose cut links hold exact zeros, for example a loaded checkpoint.
            where: which parameters may be sparse.
            split_gates: every gate of a GRU or LSTM is a layer of its own.
            scope: what is ranked together at an evolution step.
            allocate: how a new budget is divided among layers when the sparsity moves.

        Returns:
            The topology, with masks registered on the model.

        Raises:
            ValueError: `where` chooses no layer.

        Example:
            >>> layer = nn.Linear(2, 1)
            >>> _ = layer.weight.data.copy_(torch.tensor([[0.0, 3.0]]))
            >>> Topology.from_zeros(layer).nnz
            {'weight': 1}
        """
        layers = find_layers(model, where, split_gates)
        if not layers:
            raise ValueError("`where` chooses no layer of this model: check the predicate")
        masks = {layer.name: layer.part(layer.slot.weight).detach() != 0 for layer in layers}
        return cls(
            model, masks, where=where, split_gates=split_gates, scope=scope, allocate=allocate
        )

    def _bind(self, layers: Iterable[Layer], *, create: bool) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._slots = list(dict.fromkeys(layer.slot for layer in self._layers.values()))
        self.names: tuple[str, ...] = tuple(self._layers)
        self._live_cache: _Live | None = None
        self._twins: dict[int, tuple[weakref.ref[nn.Module], Topology, list[_Live]]] = {}
        for slot in self._slots:
            if create and slot.buffer not in dict(slot.module.named_buffers(recurse=False)):
                mask = torch.ones_like(slot.weight, dtype=torch.bool)
                slot.module.register_buffer(slot.buffer, mask, persistent=False)
            elif slot.buffer not in dict(slot.module.named_buffers(recurse=False)):
                raise ValueError(
                    f"{slot.name} carries no mask: copy the model after sparsify, or use impose()"
                )

    def weight(self, name: str) -> Tensor:
        """Return a layer's live weight: the parameter, or its rows for a split gate.

        Args:
            name: the layer.

        Returns:
            The parameter itself, or a detached view of it, [out, in, ...].
        """
        return self._layers[name].part(self._layers[name].slot.weight)

    def mask(self, name: str) -> Tensor:
        """Return a layer's live mask.

        Args:
            name: the layer.

        Returns:
            Bool tensor of the weight's shape, or a view of it; True where a link exists. Writing
            into it changes the topology; call `project()` afterwards.
        """
        return self._layers[name].part(self._layers[name].slot.mask)

    def grad(self, name: str) -> Tensor | None:
        """Return a layer's live gradient.

        Args:
            name: the layer.

        Returns:
            The parameter's `.grad`, or its rows for a split gate; None if there is none.
        """
        layer = self._layers[name]
        return None if layer.slot.weight.grad is None else layer.part(layer.slot.weight.grad)

    def parameter(self, name: str) -> nn.Parameter:
        """Return the whole parameter that a layer is (a part of): what an optimizer knows.

        Args:
            name: the layer.
        """
        return self._layers[name].slot.weight

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """Cut a layer's view out of a tensor that has the shape of its whole parameter.

        Args:
            name: the layer.
            tensor: for example an optimizer's moment, of the parameter's shape.

        Returns:
            The tensor, or a view of its rows for a split gate.
        """
        return self._layers[name].part(tensor)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Shape of each layer's weight, [out, in, ...], by name."""
        return {name: self.weight(name).shape for name in self.names}

    @property
    def nnz(self) -> dict[str, int]:
        """Links of each layer, by name."""
        return {name: count(self.mask(name)) for name in self.names}

    @property
    def sparsity(self) -> float:
        """Fraction of all the layers' links that is cut; 0 for a topology without names."""
        total = sum(self.mask(name).numel() for name in self.names)
        return 1.0 - sum(self.nnz.values()) / total if total else 0.0

    @property
    def survival(self) -> float:
        """Share of the links of the first topology that exist now; 1 without names."""
        first = sum(count(mask) for mask in self._initial.values())
        both = sum(
            count(self.mask(name) & mask.to(self.mask(name).device))
            for name, mask in self._initial.items()
        )
        return both / first if first else 1.0

    def budget(self, sparsity: float) -> dict[str, int]:
        """Divide a global budget among the layers with this topology's allocation.

        Args:
            sparsity: fraction of all links to cut, in [0, 1).

        Returns:
            Links per layer, by name.

        Raises:
            ValueError: the sparsity is not in [0, 1), or the allocation asks a layer for more
                links than it has.
        """
        shapes = self.shapes
        nnz = self.allocate(shapes, sparsity)
        for name, shape in shapes.items():
            if not 0 <= nnz.get(name, -1) <= shape.numel():
                raise ValueError(
                    f"allocate gave layer {name} {nnz.get(name)} of its {shape.numel()} links: "
                    "it must return a count for every layer"
                )
        return nnz

    def _live(self) -> _Live:
        """Return the current tensors; the same object as long as none was changed or moved."""
        live = self._live_cache
        if live is not None:
            for slot, weight, mask, version, dtype in zip(self._slots, *live[:4], strict=True):
                now = slot.mask
                if (
                    now is not mask
                    or now._version != version
                    or slot.weight is not weight
                    or weight.dtype is not dtype
                ):
                    break
            else:
                return live
        weights = [slot.weight for slot in self._slots]
        masks = [slot.mask for slot in self._slots]
        pairs = zip(weights, masks, strict=True)
        cut = [(weight, m) for weight, m in pairs if count(m) < m.numel()]  # faster than all()
        self._live_cache = _Live(
            weights,
            masks,
            [mask._version for mask in masks],
            [weight.dtype for weight in weights],
            [weight for weight, _ in cut],
            # Multiplying by numbers is some six times faster than by bools, and bytes convert so.
            [m.view(torch.uint8).to(weight.dtype) for weight, m in cut],
        )
        return self._live_cache

    @torch.no_grad()
    def project(self) -> None:
        """Set every cut link to 0, in place: w <- w * mask. Full layers are not touched."""
        live = self._live()
        if live.cut_weights:
            torch._foreach_mul_(live.cut_weights, live.cut_masks)

    @torch.no_grad()
    def project_gradients(self) -> None:
        """Set the gradient of every cut link to 0, in place. Layers without one are skipped."""
        live = self._live()
        pairs = [
            (weight.grad, mask)
            for weight, mask in zip(live.cut_weights, live.cut_masks, strict=True)
            if weight.grad is not None
        ]
        if pairs:
            torch._foreach_mul_([grad for grad, _ in pairs], [mask for _, mask in pairs])

    def impose(self, target: nn.Module) -> None:
        """Give another model of the same layout these masks and zero its cut links.

        Cheap enough for every Polyak step: masks are copied only when they have changed.

        Args:
            target: for example a target network; its same-named modules get the mask buffers.

        Raises:
            ValueError: the target lacks a layer or has it in another shape.

        Example:
            >>> from thrifty.sparse.sparsify import sparsify
            >>> online, target = nn.Linear(4, 2), nn.Linear(4, 2)
            >>> sparsify(online, sparsity=0.5).impose(target)
            >>> int((target.weight != 0).sum()), torch.equal(online.weight_mask, target.weight_mask)
            (4, True)
        """
        if not self.names:
            return
        reference, twin, synced = self._twins.get(id(target), (None, None, None))
        if reference is None or reference() is not target or twin is None or synced is None:
            self._twins = {
                key: entry for key, entry in self._twins.items() if entry[0]() is not None
            }
            twin, synced = self._over(target, create=True), []
            self._twins[id(target)] = (weakref.ref(target), twin, synced)
        source = self._live()
        if not synced or synced[0] is not source or synced[1] is not twin._live():
            for mine, theirs in zip(self._slots, twin._slots, strict=True):
                theirs.mask.copy_(mine.mask)
            twin.target_sparsity = self.target_sparsity
            synced[:] = [source, twin._live()]
        twin.project()

    def on(self, model: nn.Module) -> Topology:
        """Return the topology of a deep copy of the model, reading the masks that it carries.

        Args:
            model: a copy made after `sparsify`.

        Returns:
            A topology of its own over the copy, with the same names, groups and allocation.

        Raises:
            ValueError: a layer is missing, has another shape, or carries no mask.

        Example:
            >>> import copy
            >>> from thrifty.sparse.sparsify import sparsify
            >>> model = nn.Linear(4, 2)
            >>> topology = sparsify(model, sparsity=0.5)
            >>> topology.on(copy.deepcopy(model)).nnz
            {'weight': 4}
        """
        twin = self._over(model, create=False)
        twin.project()
        return twin

    def _over(self, model: nn.Module, *, create: bool) -> Topology:
        slots: dict[Slot, Slot] = {}
        for slot in self._slots:
            try:
                twin_slot = slot._replace(module=model.get_submodule(slot.path))
                shape = twin_slot.weight.shape
            except AttributeError:
                raise ValueError(
                    f"the model has no parameter {slot.name}: it must have the layout of the "
                    "sparsified model"
                ) from None
            if shape != slot.weight.shape:
                raise ValueError(
                    f"{slot.name} has shape {tuple(shape)} here and {tuple(slot.weight.shape)} in "
                    "the sparsified model: the two must have the same layout"
                )
            slots[slot] = twin_slot
        twin = Topology.__new__(Topology)
        twin.allocate, twin.groups = self.allocate, self.groups
        twin.target_sparsity = self.target_sparsity
        twin._initial = {name: mask.clone() for name, mask in self._initial.items()}
        layers = [layer._replace(slot=slots[layer.slot]) for layer in self._layers.values()]
        twin._bind(layers, create=create)
        return twin

    def state_dict(self) -> dict[str, Any]:
        """Return copies of the masks, now and at first, and the sparsity asked for."""
        return {
            "masks": {name: self.mask(name).clone() for name in self.names},
            "initial_masks": {name: mask.clone() for name, mask in self._initial.items()},
            "target_sparsity": self.target_sparsity,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over saved masks and project the weights. Load the model's weights before.

        Args:
            state: from `state_dict` of a topology over the same layers.

        Raises:
            ValueError: it is no such state: a layer is missing, unknown or of another shape.
        """
        missing = {"masks", "initial_masks", "target_sparsity"} - set(state)
        if missing:
            raise ValueError(
                f"this is no topology state, it lacks {sorted(missing)}: pass what "
                "Topology.state_dict() returned"
            )
        shapes = self.shapes
        for masks in (state["masks"], state["initial_masks"]):
            _check_masks(masks, shapes)
        for name in self.names:
            self.mask(name).copy_(torch.as_tensor(state["masks"][name]))
            self._initial[name] = torch.as_tensor(state["initial_masks"][name]).bool().clone()
        self.target_sparsity = float(state["target_sparsity"])
        self.project()

    def __getstate__(self) -> dict[str, Any]:
        # Caches hold weak references, which cannot be copied to another process.
        return {**self.__dict__, "_live_cache": None, "_twins": {}}

    def __repr__(self) -> str:
        return f"Topology({len(self.names)} layers, sparsity {self.sparsity:.4f})"


def _check_masks(masks: Mapping[str, Any], shapes: Mapping[str, torch.Size]) -> None:
    missing, unknown = sorted(set(shapes) - set(masks)), sorted(set(masks) - set(shapes))
    if missing or unknown:
        raise ValueError(
            f"the masks do not fit the model's layers: missing {missing}, unknown {unknown}; use "
            "the same model, `where` and `split_gates` as when they were made"
        )
    for name, shape in shapes.items():
        if tuple(masks[name].shape) != tuple(shape):
            raise ValueError(
                f"the mask of {name} has shape {tuple(masks[name].shape)}, the weight "
                f"{tuple(shape)}: use the same model as when the masks were made"
            )


def _group(names: Iterable[str], scope: Scope) -> tuple[tuple[str, ...], ...]:
    if not callable(scope) and scope not in ("layer", "group"):
        raise ValueError(
            f'scope must be "layer", "group" or a function from a name to a key, got {scope!r}'
        )
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        key = scope(name) if callable(scope) else (name if scope == "layer" else None)
        groups.setdefault(key, []).append(name)
    return tuple(tuple(group) for group in groups.values())
