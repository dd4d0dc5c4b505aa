"""The way back from `TopologyEvolution.attach`."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from torch.utils.hooks import RemovableHandle

__all__ = ["Handle"]


class Handle:
    """Undo of `TopologyEvolution.attach`: call `remove()`, or use it as a context manager.

    Args:
        hooks: what to take off the optimizer.
        on_remove: called after that.

    Example:
        >>> with Handle((), lambda: print("removed")):
        ...     print("attached")
        attached
        removed
    """

    def __init__(self, hooks: tuple[RemovableHandle, ...], on_remove: Callable[[], None]) -> None:
        self._hooks = hooks
        self._on_remove = on_remove

    def remove(self) -> None:
        """Take the hooks off the optimizer; a second call does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = ()
        self._on_remove()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()
