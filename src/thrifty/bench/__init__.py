"""The benchmarks behind ``thrifty bench NAME --json FILE``: one file each, one schema for all.

A benchmark is a module here with a function ``measure(*, rounds=..) -> list[Row]``; its docstring
states the mark that it is held to. Adding one is adding the file: it is listed because it exists.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from thrifty.bench.schema import Row

_PARTS = (  # what benchmarks are made of, no benchmarks themselves
    "arithmetic",
    "baselines",
    "cases",
    "dense_limit",
    "learners",
    "marl_loops",
    "schema",
    "timing",
    "updates",
)


def names() -> list[str]:
    """Return the names of all benchmarks, sorted."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name not in _PARTS)


def find(name: str) -> Callable[..., list[Row]]:
    """Return the function that measures benchmark ``name``.

    Raises:
        ValueError: no such benchmark, with the list of those there are.
    """
    if name not in names():
        raise ValueError(f"no benchmark {name!r}; there are: {', '.join(names())}")
    measure: Callable[..., list[Row]] = importlib.import_module(f"{__name__}.{name}").measure
    return measure
