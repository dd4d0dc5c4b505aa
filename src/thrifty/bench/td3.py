"""Updates per second of TD3: the engine beside Stable-Baselines3, sbx and the dense limits.

The cases are those of :mod:`thrifty.bench.cases`; beside them RLx2 as published (actor 90 %, critic
85 % sparse, three-step targets; the rule of its replay does not touch the update). Everyone draws
minibatches from the same 100,000 transitions on the same core.

Marks, ratio of updates per second to sbx at the same updates per call, low quantile and median:

    updates per call    halfcheetah 90 %, 95 %    humanoid 90 %, 95 %
                   1    8, 12                     7, 11
                  16    6, 9.5                    5.5, 9
"""

from __future__ import annotations

from thrifty.bench import updates
from thrifty.bench.cases import HALFCHEETAH, HUMANOID, Case
from thrifty.bench.schema import Row

MARKS = {
    ("halfcheetah", 0.9, 1): 8.0,
    ("halfcheetah", 0.95, 1): 12.0,
    ("humanoid", 0.9, 1): 7.0,
    ("humanoid", 0.95, 1): 11.0,
    ("halfcheetah", 0.9, 16): 6.0,
    ("halfcheetah", 0.95, 16): 9.5,
    ("humanoid", 0.9, 16): 5.5,
    ("humanoid", 0.95, 16): 9.0,
}
"""Least ratio to sbx by case, sparsity and updates per call."""
PUBLISHED = (0.9, 0.85)
AS_PUBLISHED = "halfcheetah, RLx2 as published"


def measure(*, rounds: int = 60, cases: tuple[Case, ...] = (HALFCHEETAH, HUMANOID)) -> list[Row]:
    """Measure all cases; takes about three minutes.

    Args:
        rounds: samples of each.
        cases: sizes; RLx2 as published is measured with the first one.

    Returns:
        Rows in updates per second.
    """
    rows: list[Row] = []
    for case in cases:
        rows += updates.measure(updates.Settings("TD3", case, rounds=rounds))
    published = updates.Settings(
        "TD3",
        cases[0],
        networks=(PUBLISHED,),
        masked=PUBLISHED,
        name=AS_PUBLISHED.replace("halfcheetah", cases[0].name),
        n_step=3,
        rounds=rounds,
    )
    return rows + updates.measure(published)
