"""Scheduling many users under deadlines and an energy budget, beside its exact optimum.

Importing this room makes ``thrifty/DelayConstrainedScheduling-v0`` known to Gymnasium. What is
named here is imported when it is asked for, so that the planners need not load the simulator.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from thrifty.scheduling.environment import DelayConstrainedScheduling, VectorScheduling
    from thrifty.scheduling.queueing import Queues, Sight
    from thrifty.scheduling.scenarios import Scenario, scenario

__all__ = [
    "ENVIRONMENT",
    "DelayConstrainedScheduling",
    "Queues",
    "Scenario",
    "Sight",
    "VectorScheduling",
    "scenario",
]

ENVIRONMENT = "thrifty/DelayConstrainedScheduling-v0"
"""The environment's name for ``gymnasium.make``, once this room is imported.

With the room before it, ``gymnasium.make("thrifty.scheduling:" + ENVIRONMENT)`` imports the room
itself. (Gymnasium 1.0 and later load no plugins by entry points, so a name alone cannot.)
"""

_PLACES = {
    "DelayConstrainedScheduling": "environment",
    "VectorScheduling": "environment",
    "Queues": "queueing",
    "Sight": "queueing",
    "Scenario": "scenarios",
    "scenario": "scenarios",
}

if ENVIRONMENT not in gymnasium.registry:
    gymnasium.register(
        ENVIRONMENT,
        entry_point=f"{__name__}.environment:DelayConstrainedScheduling",
        vector_entry_point=f"{__name__}.environment:VectorScheduling",
    )


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
