"""What runs a team's updates, and why: the choice that ``backend="auto"`` makes.

The choice follows from the configuration and the links alone (and from whether the engine can be
loaded), so a resumed run makes it again.
"""

from __future__ import annotations

from typing import Literal

from thrifty.engine import loading
from thrifty.engine.loading import Backend
from thrifty.marl.learner import Learner

ENGINE_FROM = 0.5
"""Share of cut weights, all networks together, from which ``auto`` takes the engine."""


def choose(asked: Literal["auto"] | Backend, learner: Learner) -> tuple[Backend, str]:
    """Return what runs the updates, and the reason in words.

    Args:
        asked: the configuration's ``backend``; all but auto is returned as it is.
        learner: as built; its links are counted.

    Example:
        >>> from thrifty.marl import QMIXConfig, Spec
        >>> spec = Spec("toy", agents=2, actions=3, observation_dim=4, state_dim=5, limit=6)
        >>> choose("auto", QMIXConfig().build(spec, seed=0))
        ('reference', 'dense: no weight is cut')
    """
    if asked != "auto":
        return asked, "as configured"
    rows = [row for name, (value, _) in learner.pairs().items() for row in value.costs(name)]
    cut = 1.0 - sum(r.sparse_parameters for r in rows) / sum(r.dense_parameters for r in rows)
    return loading.where_sparse(cut, ENGINE_FROM, "thrifty.marl.compiled")
