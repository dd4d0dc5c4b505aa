"""A small fight with the interface of the StarCraft challenge: three against a scripted three.

Positions are raw, in [0, 32] x [0, 32], also in the state: whoever learns here must cope.

| | |
|---|---|
| units | ``size`` a side, health 45; damage 9 every second step, within distance 6 |
| actions | 0 nothing (the dead), 1 stop, 2-5 move 2 up, down, right, left, 6 + k attack enemy k |
| available | moves that stay inside; attacks on living enemies within distance 6 |
| observation | [4 (2 size - 1) + 4]: of the other units those below, then the own ones |
| of others | (1, dx / 9, dy / 9, health / 45) within distance 9, else zeros |
| own | health / 45, cooldown, x / 32, y / 32; the dead see zeros only |
| state | of every unit: x, y (raw), health, cooldown; [8 size] |
| enemy | attacks the nearest living unit if within 6, else moves 2 towards it |
| reward | damage dealt, 10 for a kill, 50 for the victory, all times 20 / (their largest sum) |
| order | movements, then all attacks at once; two units may both die |
| start | the team at x = 8, the enemies at x = 22, at 13, 16, 19 in y, noise within 1 |
| end | terminated when a side is dead (won: only the enemies), truncated after ``limit`` steps |

Reference: Samvelyan et al. (2019), the StarCraft multi-agent challenge, section 3: the interface.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from thrifty.marl.team import (
    Bools,
    Floats,
    Integers,
    Mark,
    Outcome,
    Seen,
    Spec,
    check_actions,
    check_copies,
)

ARENA = 32.0
HEALTH, DAMAGE, COOLDOWN = 45.0, 9.0, 1
REACH, SIGHT, STRIDE = 6.0, 9.0, 2.0
KILL, VICTORY = 10.0, 50.0
_MOVES = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)], np.float32) * STRIDE


class Skirmish:
    """E copies of the fight.

    Args:
        copies: E.
        seed: of the starting places.
        size: units on each side.
        limit: longest episode in steps.
    """

    def __init__(self, copies: int, seed: int = 0, *, size: int = 3, limit: int = 40) -> None:
        check_copies(copies, seed)
        self.copies, self.size = copies, size
        self._rng = np.random.default_rng(seed)
        self._scale = 20.0 / (size * (HEALTH + KILL) + VICTORY)
        self.spec = Spec(
            name="skirmish",
            agents=size,
            actions=6 + size,
            observation_dim=4 * (2 * size - 1) + 4,
            state_dim=8 * size,
            limit=limit,
            largest_return=20.0,
            wins=True,
        )
        # Units 0 to size - 1 are the team's, the others the enemy's.
        self._place_EM2 = np.zeros((copies, 2 * size, 2), np.float32)
        self._health_EM = np.zeros((copies, 2 * size), np.float32)
        self._wait_EM = np.zeros((copies, 2 * size), np.int64)
        self._age_E = np.zeros(copies, np.int64)
        self.restart(np.ones(copies, bool))

    def restart(self, chosen_E: Bools) -> None:
        """Place all units of the chosen copies anew."""
        count, size = int(chosen_E.sum()), self.size
        x = np.repeat([8.0, 22.0], size)
        y = np.tile(16.0 + 3.0 * (np.arange(size) - (size - 1) / 2), 2)
        noise = self._rng.uniform(-1.0, 1.0, (count, 2 * size, 2))
        self._place_EM2[chosen_E] = (np.stack([x, y], 1) + noise).astype(np.float32)
        self._health_EM[chosen_E] = HEALTH
        self._wait_EM[chosen_E] = 0
        self._age_E[chosen_E] = 0

    @property
    def seen(self) -> Seen:
        """Return what each living unit sees, the raw state, and the available actions."""
        offset_EMM2, apart_EMM = self._offsets()
        alive_EM = self._health_EM > 0
        E, M, size = self.copies, 2 * self.size, self.size
        visible = (apart_EMM <= SIGHT) & alive_EM[:, None, :] & alive_EM[:, :, None]
        units = np.concatenate(
            [
                np.ones((E, M, M, 1), np.float32),
                offset_EMM2 / SIGHT,
                np.broadcast_to(self._health_EM[:, None, :, None] / HEALTH, (E, M, M, 1)),
            ],
            axis=3,
        )
        units = np.where(visible[..., None], units, 0.0)[:, :size]
        others = np.array([[m for m in range(M) if m != n] for n in range(size)])
        seen_of_others = units[:, np.arange(size)[:, None], others].reshape(E, size, -1)
        own = np.concatenate(
            [
                self._health_EM[..., None] / HEALTH,
                self._wait_EM[..., None],
                self._place_EM2 / ARENA,
            ],
            axis=2,
        )[:, :size]
        own = np.where(alive_EM[:, :size, None], own, 0.0)
        state = np.concatenate(
            [self._place_EM2, self._health_EM[..., None], self._wait_EM[..., None]], axis=2
        )
        return Seen(
            np.concatenate([seen_of_others, own], axis=2).astype(np.float32),
            state.reshape(E, -1).astype(np.float32),
            self._available(apart_EMM),
        )

    def _offsets(self) -> tuple[Floats, Floats]:
        """Places relative to one another, [E, M, M, 2] (from, to), and distances, [E, M, M]."""
        offset = self._place_EM2[:, None, :] - self._place_EM2[:, :, None]
        return offset, np.sqrt((offset**2).sum(3))

    def _available(self, apart_EMM: Floats) -> Bools:
        E, size = self.copies, self.size
        alive = self._health_EM > 0
        available = np.zeros((E, size, self.spec.actions), bool)
        available[:, :, 0] = ~alive[:, :size]
        available[:, :, 1] = True
        goal = self._place_EM2[:, :size, None] + _MOVES
        available[:, :, 2:6] = ((goal >= 0) & (goal <= ARENA)).all(3)
        available[:, :, 6:] = (apart_EMM[:, :size, size:] <= REACH) & alive[:, None, size:]
        available[:, :, 1:] &= alive[:, :size, None]
        return available

    def step(self, action_EN: Integers) -> Outcome:
        """Move, then shoot, then see who is left."""
        offset, apart = self._offsets()
        check_actions(action_EN, self._available(apart))
        E, size = self.copies, self.size
        alive = self._health_EM > 0
        goes = (action_EN >= 2) & (action_EN < 6)
        stride = np.zeros_like(self._place_EM2)
        stride[:, :size] = np.where(
            goes[..., None], _MOVES[np.where(goes, action_EN - 2, 0)], np.float32(0)
        )
        aim = np.full((E, 2 * size), -1)
        aim[:, :size] = np.where(action_EN >= 6, action_EN - 6 + size, -1)
        # The script: the nearest living unit of the team, the first of several.
        distance = np.where(alive[:, None, :size], apart[:, size:, :size], np.inf)
        nearest = distance.argmin(2)
        closest = np.take_along_axis(distance, nearest[..., None], 2)[..., 0]
        awake = alive[:, size:] & np.isfinite(closest)
        aim[:, size:] = np.where(awake & (closest <= REACH), nearest, -1)
        way = np.take_along_axis(offset[:, size:], nearest[..., None, None], 2)[:, :, 0]
        chases = awake & (closest > REACH)
        length = np.where(chases, closest, 1.0)[..., None]
        stride[:, size:] = np.where(chases[..., None], way / length * STRIDE, 0.0)

        self._place_EM2 = np.clip(self._place_EM2 + stride, 0.0, ARENA).astype(np.float32)
        fires = (aim >= 0) & alive & (self._wait_EM == 0)
        hits = np.zeros_like(self._health_EM)
        copy, unit = np.nonzero(fires)
        np.add.at(hits, (copy, aim[copy, unit]), DAMAGE)
        before = self._health_EM
        self._health_EM = np.maximum(before - hits, 0.0)
        self._wait_EM = np.where(fires, COOLDOWN, np.maximum(self._wait_EM - 1, 0))
        self._age_E += 1

        hurt = (before - self._health_EM)[:, size:].sum(1)
        kills = ((before > 0) & (self._health_EM == 0))[:, size:].sum(1)
        team_dead = (self._health_EM[:, :size] == 0).all(1)
        enemy_dead = (self._health_EM[:, size:] == 0).all(1)
        won = enemy_dead & ~team_dead
        reward = (hurt + KILL * kills + VICTORY * won) * self._scale
        terminated = team_dead | enemy_dead
        truncated = ~terminated & (self._age_E >= self.spec.limit)
        return Outcome(reward.astype(np.float32), terminated, truncated, won)

    def scene(self) -> list[Mark] | None:
        """Return all living units."""
        return [
            Mark(float(x), float(y), int(unit >= self.size), float(health / HEALTH))
            for unit, ((x, y), health) in enumerate(
                zip(self._place_EM2[0], self._health_EM[0], strict=True)
            )
            if health > 0
        ]

    def close(self) -> None:
        """Do nothing: all is in this process."""

    def state_dict(self) -> dict[str, Any]:
        """Return units, ages and the generator."""
        return {
            "place": self._place_EM2.copy(),
            "health": self._health_EM.copy(),
            "wait": self._wait_EM.copy(),
            "age": self._age_E.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> bool:
        """Take over a stored state; the running episodes go on."""
        self._place_EM2 = np.array(state["place"], np.float32)
        self._health_EM = np.array(state["health"], np.float32)
        self._wait_EM = np.array(state["wait"], np.int64)
        self._age_E = np.array(state["age"], np.int64)
        self._rng.bit_generator.state = state["rng"]
        return True
