"""Whether compiled code can run in this process: what ``backend="auto"`` of every system asks."""

from __future__ import annotations

from importlib import import_module


def problem(module: str) -> str | None:
    """Return why compiled code cannot run in this process, or None.

    Args:
        module: that loads all of the compiled code wanted.

    Example:
        >>> problem("thrifty.engine.nothing")
        "No module named 'thrifty.engine.nothing'"
    """
    try:
        import numba

        if getattr(numba.config, "DISABLE_JIT", False):
            return "NUMBA_DISABLE_JIT is set"
        import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library of Numba's is missing
        return " ".join(str(error).split())
    return None
