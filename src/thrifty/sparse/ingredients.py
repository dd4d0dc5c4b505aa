"""Names of a configuration and the functions of :mod:`thrifty.sparse` that they stand for.

Each kind of ingredient has its own names, and the namespace is the registry: a function of
``thrifty.sparse`` with the right parameters is known because it exists. A score may carry a number,
``mest(0.01)``. A growth rule is one score, or several that share the new links:
``gradient*3 + random*1``. Anything of one's own is ``module:function``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from thrifty import sparse
from thrifty.sparse import Allocation, GrowthRule, Initial, Score

allocate, scores, sparsify = (
    importlib.import_module(f"thrifty.sparse.{name}") for name in ("allocate", "scores", "sparsify")
)


def _functions(module: ModuleType, *parameters: str) -> dict[str, Any]:
    """The functions that a module offers and that take just these parameters: the registry."""
    offered = {name: getattr(module, name) for name in module.__all__}
    return {
        name: function
        for name, function in offered.items()
        if inspect.isfunction(function)
        and tuple(inspect.signature(function).parameters) == parameters
    }


_ALLOCATIONS = _functions(allocate, "shapes", "sparsity")
_INITIALS = _functions(sparsify, "weight", "nnz", "generator")
_SCORES = _functions(scores, "state")
_MEST = re.compile(r"mest\(([^()]+)\)")


def allocation(name: str) -> Allocation:
    """Return how links are divided among layers: er, erk, uniform, or module:function.

    Raises:
        ValueError: no such function; the message lists what exists.
    """
    found: Allocation = _find("allocation", name, _ALLOCATIONS)
    return found


def initial(name: str) -> Initial:
    """Return how the first mask is drawn: redrawn, subset, largest, or module:function.

    Raises:
        ValueError: no such function; the message lists what exists.
    """
    found: Initial = _find("first mask", name, _INITIALS)
    return found


def score(name: str) -> Score:
    """Return a score of links: magnitude, gradient, random, mest(NUMBER), or module:function.

    Raises:
        ValueError: no such function; the message lists what exists.
    """
    mest = _MEST.fullmatch(name)
    if mest:
        return sparse.mest(_number(mest[1], name))
    found: Score = _find("score", name, _SCORES, more=("mest(NUMBER)",))
    return found


def growth(rule: str) -> GrowthRule:
    """Return a growth rule: the highest by one score, or ``SCORE*PARTS + SCORE*PARTS``.

    Raises:
        ValueError: an unknown score or a share that is no number.

    Example:
        >>> growth("gradient*3 + random*1").__name__
        'grow'
    """
    terms = [term.strip() for term in rule.split("+")]
    if len(terms) == 1 and "*" not in rule:
        return sparse.top(score(rule))
    shares = []
    for term in terms:
        name, star, parts = term.partition("*")
        shares.append((score(name.strip()), _number(parts, term) if star else 1.0))
    return sparse.split(*shares)


def _find(kind: str, name: str, known: Mapping[str, Any], more: tuple[str, ...] = ()) -> Any:
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as problem:
            raise ValueError(f"cannot import the {kind} {name!r}: {problem}") from problem
        if not callable(found):
            raise ValueError(f"the {kind} {name!r} is no function")
        return found
    if name not in known:
        names = ", ".join((*known, *more, "module:function"))
        raise ValueError(f"there is no {kind} {name!r}; choose {names}")
    return known[name]


def _number(text: str, place: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} in {place!r} is no number") from None
