"""Updates per second of SAC: the engine beside Stable-Baselines3, sbx and the dense limits.

The cases are those of :mod:`thrifty.bench.cases`: learned temperature, one-step targets, an actor
step with every critic step.

Marks, ratio of updates per second to sbx's SAC at one update per call, halfcheetah, low quantile
and median: 6 at 90 %, 9 at 95 %.
"""

from __future__ import annotations

from thrifty.bench import updates
from thrifty.bench.cases import HALFCHEETAH, HUMANOID, Case
from thrifty.bench.schema import Row

MARKS = {("halfcheetah", 0.9, 1): 6.0, ("halfcheetah", 0.95, 1): 9.0}
"""Least ratio to sbx by case, sparsity and updates per call."""


def measure(*, rounds: int = 60, cases: tuple[Case, ...] = (HALFCHEETAH, HUMANOID)) -> list[Row]:
    """Measure all cases; takes about three minutes.

    Args:
        rounds: samples of each.
        cases: sizes.

    Returns:
        Rows in updates per second.
    """
    rows: list[Row] = []
    for case in cases:
        rows += updates.measure(updates.Settings("SAC", case, rounds=rounds))
    return rows
