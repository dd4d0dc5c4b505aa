"""A grid with lava and a slippery rim: the best path moves away from the rim as risk counts more.

```
row 2   .  .  .  .  .  .        dry: one moves as one wants
row 1   .  ~  ~  ~  ~  .        ~ the wet rim: a step from here may slide into the lava
row 0   S  #  #  #  #  G        # lava, for ever; G the goal, which pays 1 at every stage
```
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from thrifty.episodic.linear_mixture import LinearMixtureMDP
from thrifty.episodic.mdp import Floats

MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Change of (row, column) by actions 0..3: up, right, down, left."""
ARROWS = "^>v<"


@dataclass(frozen=True, kw_only=True)
class LavaGrid:
    """The grid's layout, its MDP and what is known of it.

    Start (0, 0), goal (0, width - 1), lava between them in row 0; both absorb. From the rim, the
    cells (1, c) above lava, every step slides into the lava below with probability ``slip``;
    everywhere else steps go as wanted, and walls stop them. The goal pays 1 a stage, nothing else
    pays.

    The short path takes width + 1 steps, width - 2 of them from the rim; the dry path, one row
    higher, two steps more and none from the rim. Leaving the rim half-way costs the same two steps
    and keeps some risk, so the better of the two is optimal: with F = 1 - min(slip, alpha) / alpha

    V*_1 = max( F^(width - 2) (H - width - 1), H - width - 3 ),

    and the paths change places at :attr:`switch`. Neutral to risk (alpha = 1) the short path is
    the better one if (1 - slip)^(width - 2) > (H - width - 3) / (H - width - 1).

    The kernel is the mixture (1 - slip) P_sure + slip P_slide + 0 P_stuck of three base kernels
    (every step as wanted; slides from the rim; stays on the rim), which makes it a linear-mixture
    MDP with d = 3 whose weights a learner does not know.

    Args:
        width: columns, at least 3.
        height: rows, at least 3.
        horizon: H, at least width + 4.
        slip: probability of sliding, in [0, 1].

    Raises:
        ValueError: an argument is out of its range.
    """

    width: int = 6
    height: int = 3
    horizon: int = 20
    slip: float = 0.01

    def __post_init__(self) -> None:
        if self.width < 3 or self.height < 3 or self.horizon < self.width + 4:
            raise ValueError(
                "the lava grid needs width >= 3, height >= 3 and horizon >= width + 4: "
                f"{(self.width, self.height, self.horizon)}"
            )
        if not 0.0 <= self.slip <= 1.0:
            raise ValueError(f"slip {self.slip} is not in [0, 1]")

    def state(self, row: int, column: int) -> int:
        """Return the number of a cell."""
        return row * self.width + column

    def cell(self, state: int) -> tuple[int, int]:
        """Return row and column of a state."""
        return divmod(state, self.width)

    def is_lava(self, state: int) -> bool:
        """Tell whether a state is lava."""
        row, column = self.cell(state)
        return row == 0 and 0 < column < self.width - 1

    def is_goal(self, state: int) -> bool:
        """Tell whether a state is the goal."""
        return self.cell(state) == (0, self.width - 1)

    def is_rim(self, state: int) -> bool:
        """Tell whether a step from a state may slide."""
        row, column = self.cell(state)
        return row == 1 and 0 < column < self.width - 1

    def mdp(self) -> LinearMixtureMDP:
        """Return the grid as a linear-mixture MDP with three base kernels."""
        S, A = self.states, len(MOVES)
        sure, slide, stuck = kernels = np.zeros((3, S, A, S))
        for s in range(S):
            row, column = self.cell(s)
            for a, (up, right) in enumerate(MOVES):
                if self.is_lava(s) or self.is_goal(s):
                    wanted = s
                else:
                    wanted = self.state(
                        min(max(row + up, 0), self.height - 1),
                        min(max(column + right, 0), self.width - 1),
                    )
                sure[s, a, wanted] = 1.0
                slide[s, a, self.state(0, column) if self.is_rim(s) else wanted] = 1.0
                stuck[s, a, s if self.is_rim(s) else wanted] = 1.0
        r = np.zeros((S, A))
        r[self.state(0, self.width - 1)] = 1.0
        return LinearMixtureMDP.from_kernels(
            kernels, [1.0 - self.slip, self.slip, 0.0], r, horizon=self.horizon, name="lava_grid"
        )

    def features(self) -> Floats:
        """Return features of rewards [S, A, 3]: at the goal, in lava, on the rim. r is the first.

        They are what somebody who compares trajectories may care about.
        """
        kinds = [(self.is_goal(s), self.is_lava(s), self.is_rim(s)) for s in range(self.states)]
        return np.repeat(np.array(kinds, dtype=np.float64)[:, None], len(MOVES), axis=1)

    @property
    def states(self) -> int:
        """Return the number of cells."""
        return self.width * self.height

    def optimal_value(self, risk_level: float) -> float:
        """Return V*_1 in closed form (see the class)."""
        kept = 1.0 - min(self.slip, risk_level) / risk_level
        short = kept ** (self.width - 2) * (self.horizon - self.width - 1)
        return max(short, float(self.horizon - self.width - 3))

    @property
    def switch(self) -> float:
        """Return the risk level above which the short path along the lava is the better one."""
        ratio = (self.horizon - self.width - 3) / (self.horizon - self.width - 1)
        return self.slip / (1.0 - math.pow(ratio, 1.0 / (self.width - 2)))

    def picture(self, visits: Floats) -> str:
        """Draw the grid as text: S, G, # lava, o cells that are visited, ~ rim, . the rest.

        Args:
            visits: probability of ever visiting a state, or any weight [S]; above .01 is drawn.
        """
        rows = []
        for row in reversed(range(self.height)):
            marks = []
            for column in range(self.width):
                s = self.state(row, column)
                if s == 0 or self.is_goal(s):
                    marks.append("S" if s == 0 else "G")
                elif self.is_lava(s):
                    marks.append("#")
                elif visits[s] > 0.01:
                    marks.append("o")
                else:
                    marks.append("~" if self.is_rim(s) else ".")
            rows.append(" ".join(marks))
        return "\n".join(rows)
