"""What ``thrifty optimum`` prints: the optimum of a scenario, or its frontier.

The optimum is that of whoever sees the channel. Where a scenario hides it, ``hidden_at_most`` is
the bound of whoever sees it one slot late.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.scheduling import hidden, optimum
from thrifty.scheduling.scenarios import Scenario, scenario

_MEANINGS = {
    "optimum": "weighted packets per slot",
    "multiplier": "price of energy",
    "energy": "per slot",
    "slack": "of the budget, not spent",
    "hidden_at_most": "weighted packets per slot, who sees the channel one slot late",
}


def answer(name: str, budget: str | None) -> dict[str, Any]:
    """Return what the verb prints as JSON: one optimum, or ``{"frontier": [...]}``.

    Args:
        name: of the scenario.
        budget: as typed; None for the frontier.
    """
    of = scenario(name)
    if budget is None:
        points = [_entry(of, one) for one in optimum.frontier(of)]
        return {"scenario": of.name, "frontier": points}
    return {
        "scenario": of.name,
        **_entry(of, optimum.solve(of, budget)),
    }


def _entry(of: Scenario, found: optimum.Optimum) -> dict[str, Any]:
    def plain(values: NDArray[np.float64]) -> float | list[float]:
        return float(values[0]) if of.hops == 1 else [float(one) for one in values]

    entry = {
        "optimum": found.optimum,
        "multiplier": plain(found.multiplier),
        "energy": plain(found.energy),
        "budget": plain(found.budget),
        "slack": plain(found.slack),
    }
    if of.hidden and of.hops == 1:
        entry["hidden_at_most"] = hidden.delayed(of, found.budget).optimum
    return entry


def shown(content: dict[str, Any], *, as_json: bool) -> str:
    """Return the answer for the terminal."""
    if as_json:
        return json.dumps(content, indent=2)
    if "frontier" not in content:
        told = {key: _number(content[key]) for key in content if key in _MEANINGS}
        width, digits = max(map(len, told)), max(map(len, told.values()))
        lines = [f"{key:<{width}} {one:<{digits}}  {_MEANINGS[key]}" for key, one in told.items()]
        return "\n".join([f"{content['scenario']}, budget {_number(content['budget'])}", *lines])
    width = max(len(_number(one["budget"])) for one in content["frontier"]) + 2
    head = f"{'budget':>{width}}{'optimum':>12}  multiplier"
    lines = [
        f"{_number(one['budget']):>{width}}{_number(one['optimum']):>12}  "
        f"{_number(one['multiplier'])}"
        for one in content["frontier"]
    ]
    about = "most weighted packets per slot for a budget of energy per slot, and its price"
    return "\n".join([f"{content['scenario']}: {about}", head, *lines])


def _number(value: float | list[float]) -> str:
    numbers = value if isinstance(value, list) else [value]
    return ",".join(f"{one:.5g}" for one in numbers)
