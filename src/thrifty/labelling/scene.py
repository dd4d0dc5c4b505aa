"""What the page draws a clip on: a map where the states are cells, nothing where they are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from thrifty.episodic.lava_grid import MOVES, LavaGrid
from thrifty.runs.store import CONFIG, read_config

Scene = dict[str, Any]
"""A description in JSON; ``kind`` is "grid" or "steps" (states and actions as text)."""

STEPS: Scene = {"kind": "steps"}


def scene_of(folder: Path) -> Scene:
    """Return the scene of a run, from its config.json; steps where that names no known map.

    Raises:
        ValueError: config.json is damaged.
    """
    if not (folder / CONFIG).exists():
        return STEPS
    config = read_config(folder).get("config")
    instance = config.get("instance") if isinstance(config, dict) else None
    if not isinstance(instance, dict) or instance.get("kind") != "lava_grid":
        return STEPS
    sizes = {name: instance[name] for name in ("width", "height") if name in instance}
    # Only the layout is drawn, so the horizon is whatever the width needs.
    width = sizes.get("width", LavaGrid.width)
    return grid(LavaGrid(**sizes, horizon=width + 4))


def grid(lava: LavaGrid) -> Scene:
    """Return the scene of a lava grid: cells by what they are, and the direction of each action."""
    states = range(lava.width * lava.height)
    return {
        "kind": "grid",
        "rows": lava.height,
        "columns": lava.width,
        "start": 0,
        "goal": [s for s in states if lava.is_goal(s)],
        "lava": [s for s in states if lava.is_lava(s)],
        "rim": [s for s in states if lava.is_rim(s)],
        "moves": [list(move) for move in MOVES],
    }
