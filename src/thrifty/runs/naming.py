"""Names for what a user types and what a file holds: recipes, run folders, configurations.

The namespace is the registry: `rlx2.td3` under `thrifty.recipes` is the function `td3` of the
module `thrifty.recipes.rlx2`; `mylab.runs:ablation` is a function of the user's own module. A name
that leads nowhere is answered with the nearest ones that do.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import inspect
import pkgutil
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_LONGEST_NAME = 150  # characters of a sweep's folder; most file systems end at 255


def resolve(name: str, namespace: str) -> Callable[..., Any]:
    """Return the function that `name` stands for.

    Args:
        name: "module.function" under `namespace`, or "package.module:function" anywhere.
        namespace: package whose modules hold the known functions, such as "thrifty.recipes".

    Raises:
        ValueError: there is no such function; the nearest names are listed.

    Example:
        >>> resolve("json.decoder:JSONDecoder", "thrifty.recipes")
        <class 'json.decoder.JSONDecoder'>
    """
    module_name, colon, function = name.partition(":")
    if colon:
        module = _import(module_name)
        if module_name and module is None:
            raise ValueError(
                f"there is no recipe {name!r}: no module {module_name} "
                f"(looked in {sys.path[0] or Path.cwd()} and the rest of sys.path)"
            )
        if module is not None and callable(getattr(module, function, None)):
            return typing.cast(Callable[..., Any], getattr(module, function))
        candidates = [f"{module_name}:{known}" for known in _functions(module)] if module else []
    else:
        module_name, _, function = name.rpartition(".")
        module = _import(f"{namespace}.{module_name}") if module_name else None
        # Only what the module offers: not the functions it imported for its own use.
        if module is not None and function in _functions(module):
            return typing.cast(Callable[..., Any], getattr(module, function))
        candidates = names(namespace)
    raise ValueError(f"there is no recipe {name!r}: {_nearest(name, candidates)}")


def names(namespace: str) -> list[str]:
    """Return every name that `resolve` knows under `namespace`, sorted: "module.function"."""
    package = importlib.import_module(namespace)
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(
        f"{module}.{function}"
        for module in modules
        if not module.startswith("_")
        for function in _functions(importlib.import_module(f"{namespace}.{module}"))
    )


def default_directory(
    recipe: str, arguments: Mapping[str, Any], seed: int, *, root: Path | str = "runs"
) -> Path:
    """Return a folder name for a new run that nothing uses yet.

    Recipe, string arguments (the environment) and seed, such as
    `runs/rlx2.td3-HalfCheetah-v5-seed0`, with -2, -3, ... where that is taken.
    """
    words = [recipe, *(value for value in arguments.values() if isinstance(value, str))]
    base = re.sub(r"[^\w.-]+", "-", "-".join([*words, f"seed{seed}"]))
    path, count = Path(root) / base, 1
    while path.exists():
        count += 1
        path = Path(root) / f"{base}-{count}"
    return path


def run_name(recipe: str, settings: Mapping[str, str], seed: int) -> str:
    """Return the folder name of a sweep's run: equal runs have equal names, others different ones.

    The environment stands for itself, other settings with their names in alphabetical order. Where
    a file name cannot hold all of that, a digest of the whole ends it.

    Args:
        recipe: as `resolve` reads it.
        settings: what was told beside it, by flag without dashes.
        seed: of the run.

    Example:
        >>> run_name("rlx2.static", {"env": "Ant-v5", "learner": "sac"}, 3)
        'rlx2.static-Ant-v5-learner=sac-seed3'
    """
    others = dict(settings)
    words = [others.pop(name) for name in ("env", "environment") if name in others]
    words += [f"{name}={others[name]}" for name in sorted(others)]
    whole = "-".join([recipe, *words, f"seed{seed}"])
    name = re.sub(r"[^\w.=+-]+", "_", whole)
    if name == whole and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(whole.encode(), digest_size=4).hexdigest()
    ending = f"-seed{seed}"
    return f"{name.removesuffix(ending)[: _LONGEST_NAME - 30]}-{digest}{ending}"


def _functions(module: ModuleType) -> list[str]:
    """Public functions written in `module` itself (or what its `__all__` says)."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]


def _import(name: str) -> ModuleType | None:
    """Import a module; None where it does not exist. Errors inside an existing module propagate."""
    if not name or name.startswith("."):
        return None
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _nearest(name: str, known: Sequence[str]) -> str:
    near = [one for one in known if one.endswith(f".{name}")]  # its module was left out
    near = near or difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    if known:
        return "there are " + ", ".join(known)
    return "write module.function, or package.module:function for your own"
