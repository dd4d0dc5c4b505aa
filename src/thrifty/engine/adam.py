"""Adam for models of few, small parameters, such as compact ones: a step is one compiled call.

torch's own Adam spends most of a step on such a model outside the arithmetic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.optim import optimizer as hooks

from thrifty.engine.cache import announce
from thrifty.engine.links import is_plain
from thrifty.engine.optim import adam_steps

_OPTIONS = ("weight_decay", "amsgrad", "maximize")
"""Of torch's Adam that this one lacks."""


class Adam(torch.optim.Optimizer):
    """torch.optim.Adam without its options, for contiguous float32 parameters on the CPU.

    The arithmetic is torch's to rounding, but that moments below 1e-37 become 0. The state has its
    names and shapes, so a state dict goes from one to the other. Hooks, parameter groups and
    learning-rate schedulers work as with any optimizer.

    Args:
        params: parameters, or groups of them.
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the root of the second moment.

    Raises:
        ValueError: a number out of range, or a parameter of another kind.

    Reference: Kingma and Ba (2015), algorithm 1.

    Example:
        >>> weight = torch.nn.Parameter(torch.ones(3))
        >>> optimizer = Adam([weight], lr=0.5)
        >>> weight.grad = torch.tensor([1.0, -2.0, 4.0])
        >>> optimizer.step()
        >>> weight.data  # the first step goes by the learning rate
        tensor([0.5000, 1.5000, 0.5000])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if not lr >= 0.0:
            raise ValueError(f"lr must be at least 0, got {lr}")
        if not all(0.0 <= beta < 1.0 for beta in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        if not eps >= 0.0:
            raise ValueError(f"eps must be at least 0, got {eps}")
        # The options are there for torch's Adam to read; see step.
        options = dict.fromkeys(_OPTIONS, False)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, **options})

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``step`` as torch does where there are hooks; torch's wrapper alone takes longer
        than the step.
        """
        hooked = torch.optim.Optimizer.profile_hook_step(func)

        @functools.wraps(func)
        def step(self: Adam, *args: Any, **options: Any) -> Any:
            if (
                self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or hooks._global_optimizer_pre_hooks
                or hooks._global_optimizer_post_hooks
            ):
                return hooked(self, *args, **options)
            return func(self, *args, **options)

        return step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step along the gradients that there are.

        Args:
            closure: computes the loss again, with gradients.

        Returns:
            what the closure returns.

        Raises:
            ValueError: a parameter or a gradient that is not contiguous float32 on the CPU, or an
                option in a state of torch's Adam.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        announce(adam_steps)
        for group in self.param_groups:
            if any(group[option] for option in _OPTIONS):
                raise ValueError(
                    f"this Adam has no {', '.join(_OPTIONS)}: use torch.optim.Adam for them"
                )
            rows, counts = [], []
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(parameter.data)
                    state["exp_avg_sq"] = torch.zeros_like(parameter.data)
                row = (parameter, gradient, state["exp_avg"], state["exp_avg_sq"])
                if not all(map(is_plain, row)):
                    raise ValueError(
                        "this Adam takes contiguous float32 parameters and gradients on the CPU, "
                        f"got {parameter.dtype} on {parameter.device}: use torch.optim.Adam"
                    )
                state["step"] = int(state["step"]) + 1
                counts.append(state["step"])
                rows.append((*(tensor.data_ptr() for tensor in row), parameter.numel()))
            if rows:
                adam_steps(
                    np.array(rows, np.int64),
                    np.array(counts, np.int64),
                    float(group["lr"]),
                    *map(float, group["betas"]),
                    float(group["eps"]),
                )
        return loss
