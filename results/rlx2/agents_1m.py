"""The agents of table_1m.md: how a run is known to be one, and what is published of each.

The paper's figures are percent of the dense learner's return after 3,000,000 steps of the v3 tasks:
table 2, section 5.2 for topologies with both tricks (multi-step targets, dynamic replay), and
section 5.3 for one step with all else kept, which is dynamic replay alone.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

from thrifty.report.groups import settings_of
from thrifty.report.run_data import RunData

COMPARED, FINAL = 300_000, 1_000_000  # steps: of a dense run, of a sparse one
ENVIRONMENTS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5")
# What a run may be told without becoming another agent: see the scripts that start them.
_OF_THE_RUN = ("backend", "learning-starts", "evaluate-every")


class Agent(NamedTuple):
    """One row of the table for each environment.

    Attributes:
        words: recipe and flags, as for `thrifty train`.
        name: in the table.
        published: percent of dense in the order of ENVIRONMENTS; empty where there is no figure.
    """

    words: str
    name: str
    published: tuple[float, ...] = ()


AGENTS = {
    "dense": Agent("rlx2.dense", "dense TD3", (100.0,) * 4),
    "td3": Agent("rlx2.td3", "RLx2-TD3", (99.8, 97.0, 98.1, 103.9)),
    "rigl": Agent("rlx2.rigl", "RigL", (90.8, 90.6, 35.7, 68.5)),
    "rigl_n_step": Agent("rlx2.rigl --algorithm.n-step 3", "RigL with multi-step targets alone"),
    "rigl_replay": Agent(
        "rlx2.rigl --replay.check-every None",
        "RigL with dynamic replay alone",
        (96.5, 77.9, 73.9, 103.9),
    ),
    "set": Agent("rlx2.set", "SET", (92.6, 66.5, 39.3, 62.5)),
    "set_plus": Agent("rlx2.set_plus", "SET with both tricks", (100.1, 88.8, 89.4, 83.5)),
    "static": Agent("rlx2.static", "static sparse", (77.1, 67.7, 42.9, 49.6)),
    "static_plus": Agent(
        "rlx2.static_plus", "static sparse with both tricks", (86.1, 84.2, 83.8, 80.2)
    ),
    "tiny": Agent("rlx2.tiny", "tiny dense", (86.3, 64.5, 60.8, 16.5)),
    "tiny_plus": Agent("rlx2.tiny_plus", "tiny dense with both tricks", (93.3, 74.4, 84.1, 28.7)),
    "sac_dense": Agent("rlx2.dense --learner sac", "dense SAC", (100.0,) * 4),
    "sac": Agent("rlx2.sac", "RLx2-SAC", (102.2, 109.7, 103.2, 105.6)),
    "sac_rigl": Agent("rlx2.rigl --learner sac", "RigL", (89.8, 110.0, 81.9, 90.9)),
    "sac_set": Agent("rlx2.set --learner sac", "SET", (94.8, 103.9, 95.8, 79.8)),
    "sac_static": Agent("rlx2.static --learner sac", "static sparse", (75.4, 81.6, 83.4, 49.3)),
    "sac_tiny": Agent("rlx2.tiny --learner sac", "tiny dense", (95.0, 89.1, 73.8, 49.6)),
}


def published(agent: str, environment: str) -> float | None:
    """Return the paper's percent of dense, or None where there is no figure."""
    figures = AGENTS[agent].published
    return figures[ENVIRONMENTS.index(environment)] if figures else None


def agent_of(run: RunData) -> str | None:
    """Return which agent a run is of, by recipe, settings and length; None for any other run."""
    told = {"learner": "td3", **settings_of(run)}
    known = (run.recipe, {name: told[name] for name in told if name not in _OF_THE_RUN})
    for name, agent in AGENTS.items():
        recipe, *words = shlex.split(agent.words)
        flags = {
            flag.removeprefix("--"): value for flag, value in zip(*[iter(words)] * 2, strict=True)
        }
        steps = COMPARED if recipe == "rlx2.dense" else FINAL
        if known == (recipe, {"learner": "td3", **flags}) and run.planned_steps == steps:
            return name
    return None
