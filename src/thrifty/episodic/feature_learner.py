"""LSVI-UCB and LSVI-UCB+ where states are too many to list: only features of what was met.

Q_h is the minimum over the plans so far of r + <w, phi> + beta |phi|. Each plan is a *quadratic*
(w, Sigma^-1) that is kept; without monotony the last one is all. A step costs O(N A d^2) for N
plans (N = 1 without monotony; N = O(d H log K) else): it evaluates Q at the new state and adds one
term to the right-hand sides, for the values are frozen. Only a plan goes through the samples again:
each keeps the features of its next state and the values there so far, so one new quadratic is
evaluated, and the minimum taken with what is kept. Plans come at geometrically growing times, so
their cost over the whole run is linear in it.

On a finite MDP this equals :mod:`thrifty.episodic.lsvi_ucb` and
:mod:`thrifty.episodic.lsvi_ucb_plus`, up to the order of sums. The legend is that of the latter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thrifty.episodic.environments import Environment
from thrifty.episodic.lsvi_ucb import THRESHOLDS, Reward, Switch, check_choices
from thrifty.episodic.lsvi_ucb_plus import Gap
from thrifty.episodic.mdp import Floats
from thrifty.episodic.quadratics import (
    Quadratics,
    Rows,
    evaluate,
    learn_value,
    learn_weight,
    new_quadratics,
    new_rows,
    plan_stage,
    rescan,
    room_for,
)
from thrifty.episodic.regression import (
    first_best,
    is_due,
    load_ridge,
    new_ridge,
    ridge_state,
)
from thrifty.episodic.weighting import (
    Weighting,
    check_factor,
    check_weighting,
    practical_weighting,
)

_ROWS_AT_FIRST = 64


class FeatureLSVI:
    """A learner that sees states through features only.

    Args:
        environment: gives features, horizon and, where known, rewards.
        regulariser: lambda > 0; None is 1 / H^2.
        weighting: bonuses and weights; None are practical ones with beta = 1. Constant weights
            (:func:`~thrifty.episodic.weighting.constant_weighting`) make it LSVI-UCB.
        monotone: take the minimum (maximum) with the values of before.
        switch: plan when a determinant has doubled, or before every episode.
        gap: what D compares, see :mod:`~thrifty.episodic.lsvi_ucb_plus`.
        reward: "known" (from the environment), or "estimate".
        beta_reward: bonus factor of estimated rewards; None is the weighting's beta.
        pooled_reward: regress estimated rewards together with V, as LSVI-UCB does, without a
            bonus of their own; constant weights only.
        refactor_every: samples between two computations of an inverse from scratch.

    Raises:
        ValueError: a number out of its range, no features, or rewards that are not known.
    """

    def __init__(
        self,
        environment: Environment,
        *,
        regulariser: float | None = None,
        weighting: Weighting | None = None,
        monotone: bool = True,
        switch: Switch = "determinant",
        gap: Gap = "pessimistic",
        reward: Reward = "known",
        beta_reward: float | None = None,
        pooled_reward: bool = False,
        refactor_every: int = 100_000,
    ) -> None:
        check_choices(switch=switch, reward=reward)
        if gap not in ("pessimistic", "over"):
            raise ValueError(f"gap must be pessimistic or over, got {gap!r}")
        if not hasattr(environment, "features"):
            raise ValueError(
                f"states must be seen through features, which {type(environment).__name__} does "
                "not give: use FeatureEnvironment(env, phi, horizon), or LSVIUCB and LSVIUCBPlus "
                "for a finite MDP"
            )
        H, A, d = environment.H, environment.A, environment.d
        if reward == "known" and environment.rewards(0, environment.reset(0)) is None:
            raise ValueError(
                f"the rewards of {environment.name} are not known: give reward= to the "
                'environment, or reward="estimate" to the learner'
            )
        regulariser = 1.0 / H**2 if regulariser is None else regulariser
        self.environment, self.switch, self.reward = environment, switch, reward
        self.weighting = practical_weighting(H, 1.0) if weighting is None else weighting
        check_weighting(self.weighting)
        beta_reward = self.weighting.beta if beta_reward is None else beta_reward
        check_factor("beta_reward", beta_reward)
        self.beta_reward = float(beta_reward)
        self.monotone, self.gap, self.pooled_reward = bool(monotone), gap, bool(pooled_reward)
        c = self.weighting
        self.weighted = bool(c.variance or c.error or c.gap)
        if self.weighted and pooled_reward:
            raise ValueError(
                "pooled_reward regresses r + V, whose variance the weights do not bound: leave it "
                "out, or take constant_weighting"
            )
        self.name = "lsvi_ucb_plus" if self.weighted else "lsvi_ucb"
        self.switches = 0
        self.ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self.reward_ridge = new_ridge(H, d, regulariser, refactor_every=refactor_every)
        self.R: Floats = np.zeros((H, d))
        self.b: Floats = np.zeros((H, 4, d))
        self.sums: Floats = np.zeros(3)
        self._growth_at_switch: Floats = np.full(H, -np.inf)
        self._threshold = THRESHOLDS[switch]
        self._planned = False
        self._first_value = float(H)
        self._quadratics: Quadratics = new_quadratics(H, d, 1)
        self._rows: Rows = new_rows(H, A, d, _ROWS_AT_FIRST)
        self._counts: NDArray[np.int64] = np.zeros(H, np.int64)
        self._none: Floats = np.zeros(A)
        self._x: Floats = np.empty(d)
        # Of the observation met last: stage, itself, its features and values.
        self._met: tuple[int, Any, Floats, Floats] | None = None

    @property
    def _options(self) -> tuple[bool, bool, bool, bool, float]:
        estimate = self.reward == "estimate" and not self.pooled_reward
        over = self.gap == "over"
        return self.monotone, self.weighted, over, estimate, self.beta_reward

    def prepare(self) -> bool:
        """Plan before an episode if that is due; tell whether it was."""
        if self._planned or not is_due(self.ridge, self._growth_at_switch, self._threshold):
            return False
        kept = self.switches if self.monotone else 0  # number of the plan to come
        self._quadratics = room_for(self._quadratics, kept + 1)
        rows, H = self._rows, self.environment.H
        for h in reversed(range(H)):
            count = int(self._counts[h])
            self.b[h] = 0.0
            if h + 1 < H:
                rescan(
                    self._quadratics, kept, h, rows, count, self.b[h], H, self.weighting,
                    self._options,
                )  # fmt: skip
            if self.pooled_reward and self.reward == "estimate":
                self.b[h, 0] += self.R[h]
            plan_stage(
                self.ridge, self.reward_ridge, self._quadratics, kept, h, self.b, self.R,
                self._options,
            )  # fmt: skip
        self._growth_at_switch[:] = self.ridge.growth
        self.switches += 1
        self._planned = True
        self._met = None
        return True

    @property
    def _plans(self) -> int:
        return self.switches if self.monotone else min(self.switches, 1)

    def _meet(self, h: int, s: Any) -> tuple[int, Any, Floats, Floats]:
        """Look at an observation: its features, and its values [3, A] (Q, Qpes, over)."""
        if self._met is not None and self._met[0] == h and self._met[1] is s:
            return self._met
        features = self.environment.features(h, s)
        r = self.environment.rewards(h, s) if self.reward == "known" else self._none
        assert r is not None, "checked when the learner was made"
        values = np.empty((3, self.environment.A))
        evaluate(
            self._quadratics, self._plans, h, features, r, values, self.environment.H,
            self.weighting, self._options,
        )  # fmt: skip
        self._met = h, s, features, values
        return self._met

    def act(self, h: int, s: Any) -> int:
        """Return the greedy action of observation s at stage h; an episode begins with h = 0."""
        if h == 0:
            self.prepare()
        values = self._meet(h, s)[3]
        a, best = first_best(values[0])
        if h == 0:
            self._first_value = float(best)
        return int(a)

    def observe(
        self, h: int, s: Any, a: int, r: float, s_next: Any, *, ended: bool = False
    ) -> None:
        """Learn from one step of the episode.

        Args:
            h: the stage.
            s: the observation there.
            a: the action taken.
            r: the reward, in [0, 1].
            s_next: the observation after it.
            ended: the episode is over; what its remaining stages pay is known.
        """
        environment, rows = self.environment, self._rows
        H = environment.H
        if not (0 <= h < H and 0 <= a < environment.A):
            raise ValueError(
                f"stage {h}, action {a} does not exist: of {H} stages, {environment.A} actions"
            )
        n = int(self._counts[h])
        features = self._meet(h, s)[2]
        weight = learn_weight(
            self.ridge, self.reward_ridge, self.b, self.R, features, a, self._x, h, float(r), H,
            self.reward == "estimate", self.weighting, self._options, self.sums,
        )  # fmt: skip
        if h + 1 == H:
            if self.pooled_reward and self.reward == "estimate":
                self.b[h, 0] += weight * features[a] * r
            return
        if n == rows.phi.shape[1]:
            rows = self._rows = new_rows(H, environment.A, environment.d, 2 * n, rows)
        if ended:
            after = environment.value_after_end(h + 1)
            rows.features[h, n], rows.r[h, n] = 0.0, after
            rows.Q[h, n], rows.Q_pes[h, n] = after, after
            values = np.full((3, environment.A), after)
        else:
            _, _, next_features, values = self._meet(h + 1, s_next)
            known = environment.rewards(h + 1, s_next) if self.reward == "known" else self._none
            rows.features[h, n], rows.r[h, n] = next_features, known
            rows.Q[h, n], rows.Q_pes[h, n] = values[0], values[1]
        rows.phi[h, n] = weight * features[a]
        self._counts[h] = n + 1
        learn_value(rows.phi[h, n], values, self.b[h])
        if self.pooled_reward and self.reward == "estimate":
            self.b[h, 0] += weight * features[a] * r

    def end_episode(self) -> None:
        """Let the next episode plan anew if that is due."""
        self._planned = False
        self._met = None

    def first_value(self) -> float:
        """Return the optimistic V_1 at the first state of the last episode (H before that)."""
        return self._first_value

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future, between two episodes."""
        most, plans = int(self._counts.max()), self._plans
        return {
            "ridge": ridge_state(self.ridge),
            "reward_ridge": ridge_state(self.reward_ridge),
            "R": self.R.copy(),
            "b": self.b.copy(),
            "sums": self.sums.copy(),
            "growth_at_switch": self._growth_at_switch.copy(),
            "quadratics": {
                name: array[:, :plans].copy() for name, array in self._quadratics._asdict().items()
            },
            "rows": {name: array[:, :most].copy() for name, array in self._rows._asdict().items()},
            "counts": self._counts.copy(),
            "first_value": self._first_value,
            "switches": self.switches,
            "planned": self._planned,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to other sizes.
        """
        load_ridge(self.ridge, state["ridge"])
        load_ridge(self.reward_ridge, state["reward_ridge"])
        for name in ("R", "b", "sums"):
            getattr(self, name)[...] = state[name]
        self._growth_at_switch[...] = state["growth_at_switch"]
        H, A, d = self.environment.H, self.environment.A, self.environment.d
        self._counts[...] = state["counts"]
        stored = Rows(**{name: np.asarray(array) for name, array in state["rows"].items()})
        self._rows = new_rows(H, A, d, max(_ROWS_AT_FIRST, int(self._counts.max())), stored)
        self.switches, self._planned = state["switches"], state["planned"]
        plans = Quadratics(**{n: np.asarray(array) for n, array in state["quadratics"].items()})
        self._quadratics = room_for(new_quadratics(H, d, 1), max(1, self._plans))
        for array, held in zip(self._quadratics, plans, strict=True):
            array[:, : held.shape[1]] = held
        self._first_value = state["first_value"]
        self._met = None
