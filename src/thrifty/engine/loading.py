"""Whether compiled code can run in this process: what ``backend="auto"`` of every system asks."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

Backend = Literal["reference", "engine"]
"""What runs updates: masked and dense, or compiled and on the links alone."""


def where_sparse(cut: float, least: float, module: str) -> tuple[Backend, str]:
    """Choose the engine for networks that are sparse enough, if it can be loaded.

    Args:
        cut: share of all weights that are cut.
        least: such share from which the engine is the faster one.
        module: that loads all of the compiled code wanted.

    Returns:
        What runs the updates, and the reason in words.

    Example:
        >>> where_sparse(0.25, least=0.5, module="thrifty.control.compiled")
        ('reference', '25 % of the weights are cut, below the 50 % from which the engine is taken')
    """
    if cut == 0.0:
        return "reference", "dense: no weight is cut"
    share, bound = f"{100.0 * cut:.3g} % of the weights are cut", f"{100.0 * least:.0f} %"
    if cut < least:
        return "reference", f"{share}, below the {bound} from which the engine is taken"
    missing = problem(module)
    if missing:
        return "reference", f"the engine cannot be loaded ({missing})"
    return "engine", f"{share}, above the {bound} from which the engine is faster"


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
