"""Exchange of links during training: the one seam between sparsity and an optimizer.

`TopologyEvolution` works on the two sides of an optimizer step. `before` runs between backward()
and the optimizer: at an evolution step it reads the dense gradients, decides which links to drop
and which to grow, and in every step masks the gradients. `after` projects the weights and treats
the optimizer's moments. `step` is both with the optimizer in between, `attach` registers the two
halves as PyTorch's public step hooks for loops that call optimizer.step() themselves.

An evolution step, for each group of layers ranked together (Evci et al. 2020, RigL; Tan et al.
2023, RLx2, algorithm 1), with n links before, n' after and drop fraction zeta:

    keep  min(n - floor(zeta n), n') links of highest drop score (|w|)
    grow  n' - kept links by the growth rule (top |gradient|) among everything that is not kept,
          links just dropped included.

n' = n unless the schedule's sparsity has moved. Full groups whose budget stays are skipped.

Where we differ from the released code of RLx2: moments of dropped and grown links are zeroed
(`moments="keep"`: left alone), the optimizer step of an evolution step is taken, with gradients
on the kept links only (`on_update="skip"`: skipped), a link dropped and regrown at once starts
at 0 (`regrown="keep"`: keeps its value), and the growth score sees the gradient of the last loss
alone (`extra_gradient` adds another for the score only).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from thrifty.sparse.exchange import exchange
from thrifty.sparse.growth import GrowthRule, top
from thrifty.sparse.handle import Handle
from thrifty.sparse.masks import count, keep_only
from thrifty.sparse.schedule import SparsitySchedule
from thrifty.sparse.scores import LayerState, Score, gradient, magnitude
from thrifty.sparse.topology import Topology
from thrifty.sparse.update import LayerChange, TopologyUpdate

__all__ = ["TopologyEvolution"]


class _Change(NamedTuple):
    """A decision between `before` and `after`; layers that stay as they are do not appear."""

    layers: dict[str, LayerChange]
    kept: dict[str, Tensor]
    masks: dict[str, Tensor]
    values: dict[str, Tensor]  # weights before the optimizer step, where a regrown link keeps them
    sparsity: float
    drop_fraction: float


class TopologyEvolution:
    """Drops and grows links of one topology, around the steps of one optimizer.

    A topology without names makes every method a plain pass-through: `step(optimizer)` is then
    exactly `optimizer.step()`, so an algorithm needs no `if sparse`.

    Args:
        topology: the masks.
        schedule: when, how many, how sparse. If its sparsity differs from the topology's
            `target_sparsity` at an evolution step, the budget is divided anew.
        drop: score of the links that exist; the lowest are dropped.
        grow: rule that chooses the new links; default top(gradient).
        moments: "zero" sets every optimizer-state tensor of a parameter's shape to 0 at each
            evolution step wherever a link was dropped, grown, or is cut; "keep" leaves them.
            Optimizers that keep flat histories instead, such as LBFGS, are left as they are;
            with Rprop, whose step sizes are such tensors and must not be 0, say "keep".
        regrown: a link dropped and regrown in the same step starts at 0 ("zero") or keeps its
            value ("keep").
        on_update: at an evolution step the optimizer's step is taken ("step") or skipped
            ("skip", as the released code of RLx2 does).
        block: links are exchanged in square blocks of this many a side, see `in_blocks`; needs
            layers that are ranked alone, and whole blocks to begin with.
        seed: of random scores; the numbers depend on (seed, step) only, so all ranks agree.

    Attributes:
        topology: as given.
        schedule: as given.
        steps: optimizer steps of this network so far.
        last_update: the latest evolution step, or None; the way to read it under `attach`.

    Raises:
        ValueError: an argument is none of its choices.

    Example:
        >>> from thrifty.sparse import Cosine, sparsify
        >>> model = torch.nn.Linear(8, 4)
        >>> topology = sparsify(model, sparsity=0.5)
        >>> optimizer = torch.optim.Adam(model.parameters())
        >>> schedule = Cosine(0.5, update_every=1, update_until=10)
        >>> evolution = TopologyEvolution(topology, schedule)
        >>> model(torch.ones(2, 8)).square().sum().backward()
        >>> evolution.step(optimizer).layers["weight"].nnz
        16

    Reference:
        Evci et al. 2020, "Rigging the lottery", algorithm 1; Tan et al. 2023, "RLx2: training a
        sparse deep reinforcement learning model from scratch", algorithm 1.
    """

    def __init__(
        self,
        topology: Topology,
        schedule: SparsitySchedule,
        *,
        drop: Score = magnitude,
        grow: GrowthRule | None = None,
        moments: Literal["zero", "keep"] = "zero",
        regrown: Literal["zero", "keep"] = "zero",
        on_update: Literal["step", "skip"] = "step",
        block: int = 1,
        seed: int = 0,
    ) -> None:
        _check_choice("moments", moments, ("zero", "keep"))
        _check_choice("regrown", regrown, ("zero", "keep"))
        _check_choice("on_update", on_update, ("step", "skip"))
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if block > 1 and any(len(group) > 1 for group in topology.groups):
            raise ValueError('blocks are exchanged within a layer: sparsify with scope="layer"')
        self.topology = topology
        self.schedule = schedule
        self.drop = drop
        self.grow = top(gradient) if grow is None else grow
        self.moments = moments
        self.regrown = regrown
        self.on_update = on_update
        self.block = block
        self.seed = seed
        self.steps = 0
        self.last_update: TopologyUpdate | None = None
        # None: `before` has not run; "mask": an ordinary step; "void": a step with inf.
        self._pending: _Change | Literal["mask", "void"] | None = None
        self._attached: torch.optim.Optimizer | None = None

    @torch.no_grad()
    def before(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        extra_gradient: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Do the half before the optimizer: decide if an evolution step is due, mask gradients.

        Args:
            optimizer: the optimizer of the model; a fused one under GradScaler tells by its
                `grad_scale` and `found_inf` what the gradients are scaled by and whether this
                step is void.
            extra_gradient: by layer name, of the layer's shape; added to the gradient for the
                growth and drop scores only. Looked at at evolution steps only.

        Raises:
            ValueError: a score needs a gradient that a layer does not have or that is NaN, the
                growth rule returns too few or forbidden links, or `extra_gradient` names an
                unknown layer.
        """
        if not self.topology.names:
            return
        found_inf = getattr(optimizer, "found_inf", None)
        if found_inf is not None and float(found_inf) != 0.0:
            self._pending = "void"
            return
        if self.schedule.is_due(self.steps + 1):
            self._pending = self._decide(optimizer, extra_gradient or {})
        else:
            self._pending = "mask"
        self._mask_gradients()

    @torch.no_grad()
    def after(self, optimizer: torch.optim.Optimizer) -> TopologyUpdate | None:
        """Do the half after the optimizer: carry out the decision, project weights, treat moments.

        Args:
            optimizer: the optimizer that has just stepped.

        Returns:
            What changed if this was an evolution step, otherwise None.

        Raises:
            ValueError: `before` has not run.
        """
        if not self.topology.names:
            self.steps += 1
            return None
        pending, self._pending = self._pending, None
        if pending is None:
            raise ValueError("call before(optimizer) between backward() and the optimizer step")
        if pending == "void":
            return None
        self.steps += 1
        if isinstance(pending, _Change):
            self.last_update = self._carry_out(pending, optimizer)
            return self.last_update
        self.topology.project()
        return None

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        clip_norm: float | None = None,
        extra_gradient: Mapping[str, Tensor] | None = None,
    ) -> TopologyUpdate | None:
        """Take one optimizer step of a sparse network: before, clip, optimizer.step(), after.

        Args:
            optimizer: holds gradients of the loss just differentiated.
            clip_norm: largest 2-norm of the masked gradient of all the optimizer's parameters,
                or None for no clipping.
            extra_gradient: see `before`.

        Returns:
            What changed if this was an evolution step, otherwise None.

        Raises:
            ValueError: see `before`; or this evolution is attached to the optimizer.
        """
        if self._attached is optimizer:
            raise ValueError(
                "this evolution is attached to the optimizer: call optimizer.step(), or remove "
                "the handle that attach() returned"
            )
        self.before(optimizer, extra_gradient=extra_gradient)
        if clip_norm is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        if not (self.on_update == "skip" and isinstance(self._pending, _Change)):
            optimizer.step()
        return self.after(optimizer)

    def attach(self, optimizer: torch.optim.Optimizer) -> Handle:
        """Let a loop that calls optimizer.step() itself do the same as `step`.

        Registers `before` and `after` as the optimizer's step pre- and post-hook. A closure is
        wrapped, so that `before` sees the gradients it has just computed; where it is called
        several times in one step, the decision is made at the first and gradients are masked at
        every one. Under `torch.amp.GradScaler` nothing is to be done; a step with inf is void.
        Clipping between backward() and optimizer.step() sees the dense gradients here. Under
        DistributedDataParallel attach on every rank and give broadcast_buffers=False.

        Args:
            optimizer: the optimizer of all of the topology's parameters.

        Returns:
            A handle whose `remove()` takes the hooks off; also a context manager.

        Raises:
            ValueError: already attached, on_update is "skip", or a layer is not the optimizer's.
        """
        if self.on_update == "skip":
            raise ValueError(
                'on_update="skip" leaves optimizer steps out, which a hook cannot: call '
                'evolution.step(optimizer) in your loop, or use on_update="step"'
            )
        if self._attached is not None:
            raise ValueError("this evolution is attached already: remove the first handle before")
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name in self.topology.names:
            if id(self.topology.parameter(name)) not in known:
                raise ValueError(
                    f"layer {name} is not among the optimizer's parameters: attach to the "
                    "optimizer that trains it, or leave the layer out with `where`"
                )
        hooks = (
            optimizer.register_step_pre_hook(self._pre_hook),
            optimizer.register_step_post_hook(self._post_hook),
        )
        self._attached = optimizer

        def detach() -> None:
            self._attached = None

        return Handle(hooks, detach)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps. The masks are in the topology's state."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved number of steps.

        Args:
            state: from `state_dict`.

        Raises:
            ValueError: it is no such state.
        """
        if "steps" not in state:
            raise ValueError("this is no evolution state: pass what state_dict() returned")
        self.steps = int(state["steps"])
        self._pending = None

    def _pre_hook(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if closure is None:
            self.before(optimizer)
            return None
        self._pending = None

        def masked_closure() -> Any:
            loss = closure()
            if self._pending is None:
                self.before(optimizer)
            else:
                self._mask_gradients()
            return loss

        if "closure" in kwargs:
            return args, {**kwargs, "closure": masked_closure}
        return (args[0], masked_closure, *args[2:]), kwargs

    def _post_hook(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.after(optimizer)

    @torch.no_grad()
    def _mask_gradients(self) -> None:
        if not isinstance(self._pending, _Change):
            self.topology.project_gradients()
            return
        for name, kept in self._pending.kept.items():  # the other layers are full
            grad = self.topology.grad(name)
            if grad is not None:
                keep_only(kept, grad)

    def _decide(
        self, optimizer: torch.optim.Optimizer, extra_gradient: Mapping[str, Tensor]
    ) -> _Change:
        topology, step = self.topology, self.steps + 1
        unknown = sorted(set(extra_gradient) - set(topology.names))
        if unknown:
            raise ValueError(
                f"extra_gradient names no layers of the topology: {unknown}; it has "
                f"{list(topology.names)}"
            )
        sparsity = self.schedule.sparsity(step)
        fraction = self.schedule.drop_fraction(step)
        assert 0.0 <= fraction <= 1.0, "a schedule's drop fraction must lie in [0, 1]"
        # A change too small to move a whole link moves nothing, nor does it divide anew.
        total = sum(shape.numel() for shape in topology.shapes.values())
        moved = round((1 - sparsity) * total) != round((1 - topology.target_sparsity) * total)
        budget = topology.budget(sparsity) if moved else None
        generator = _generator(self.seed, step)
        change = _Change({}, {}, {}, {}, sparsity, fraction)
        for group in topology.groups:
            masks = [topology.mask(name) for name in group]
            n_before = sum(count(mask) for mask in masks)
            n_after = n_before if budget is None else sum(budget[name] for name in group)
            if n_before == n_after == sum(mask.numel() for mask in masks):
                change.layers.update(
                    {n: LayerChange(topology.mask(n).numel(), 0, 0, 0) for n in group}
                )
                continue
            state = self._state(group, optimizer, extra_gradient, generator)
            kept, grown = exchange(state, n_after, fraction, self.drop, self.grow, block=self.block)
            n_kept, n_grown = count(kept), count(grown)
            sizes = [mask.numel() for mask in masks]
            for name, mask, kept_l, grown_l in zip(
                group,
                masks,
                torch.split(kept.flatten(), sizes),
                torch.split(grown.flatten(), sizes),
                strict=True,
            ):
                change.kept[name] = kept_l.view_as(mask)
                change.masks[name] = (kept_l | grown_l).view_as(mask)
                counts = n_before, n_kept, n_grown
                if len(group) > 1:
                    counts = count(mask), count(kept_l), count(grown_l)
                n_old, n_stay, n_new = counts
                regrown = count(mask.flatten() & grown_l)
                change.layers[name] = LayerChange(n_stay + n_new, n_old - n_stay, n_new, regrown)
                if self.regrown == "keep":
                    change.values[name] = topology.weight(name).detach().clone()
        return change

    def _state(
        self,
        group: tuple[str, ...],
        optimizer: torch.optim.Optimizer,
        extra_gradient: Mapping[str, Tensor],
        generator: torch.Generator,
    ) -> LayerState:
        """Put together what the scores see; several layers become one flat vector."""
        topology = self.topology
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales by itself
        grads: list[Tensor] = []
        for name in group:
            grad = topology.grad(name)
            if grad is None:
                continue
            if scale is not None:
                grad = grad / scale
            grads.append(grad + extra_gradient[name] if name in extra_gradient else grad)
        weights = [topology.weight(name).detach() for name in group]
        masks = [topology.mask(name) for name in group]
        whole = len(grads) == len(group)
        if len(group) == 1:
            grad_or_none = grads[0] if whole else None
            return LayerState(group[0], weights[0], grad_or_none, masks[0], 1, generator)
        return LayerState(
            " + ".join(group),
            torch.cat([weight.flatten() for weight in weights]),
            torch.cat([grad.flatten() for grad in grads]) if whole else None,
            torch.cat([mask.flatten() for mask in masks]),
            1,
            generator,
        )

    def _carry_out(self, change: _Change, optimizer: torch.optim.Optimizer) -> TopologyUpdate:
        topology = self.topology
        for name, new in change.masks.items():
            mask, kept, weight = topology.mask(name), change.kept[name], topology.weight(name)
            keep_only(kept, weight)
            if self.regrown == "keep":
                regrown = mask & new & ~kept
                weight.copy_(torch.where(regrown, change.values[name], weight))
            if self.moments == "zero":
                parameter = topology.parameter(name)
                for moment in optimizer.state.get(parameter, {}).values():
                    if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                        keep_only(kept, topology.part(name, moment))
            mask.copy_(new)
        topology.target_sparsity = change.sparsity
        layers = {name: change.layers[name] for name in topology.names}
        total = sum(shape.numel() for shape in topology.shapes.values())
        sparsity = 1.0 - sum(layer.nnz for layer in layers.values()) / total
        return TopologyUpdate(self.steps, change.drop_fraction, layers, sparsity, topology.survival)


def _generator(seed: int, step: int) -> torch.Generator:
    """Make the generator of one evolution step; SeedSequence keeps (seed, step) pairs apart."""
    state = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
