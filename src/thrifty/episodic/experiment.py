"""One run of an optimistic learner, as a stream of records that can stop anywhere.

A piece of work is a block of episodes played with one policy (one episode where states are
continuous); random numbers are functions of seed, episode and stage, so the state is the learner's.

Record kinds: start, switch (a new plan, by the determinant rule), progress, end. Where the model is
known ``regret`` is exact (:mod:`thrifty.episodic.rollout`); elsewhere it is absent, and returns and
the optimistic V_1 are what there is. Returns are sums of rewards in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from thrifty.episodic.config import EpisodicConfig, make_instance, make_learner
from thrifty.episodic.feature_learner import FeatureLSVI
from thrifty.episodic.mdp import EpisodicMDP, Integers, LinearMDP
from thrifty.episodic.planning import evaluate, uniform, worst
from thrifty.episodic.rollout import FeatureRollout, Rollout, check_seed
from thrifty.stream import Record, stream

_WORK = 10_000_000  # multiplications of a block, about
_LONGEST_BLOCK = 1000


class EpisodicExperiment:
    """A run of one learner on one instance.

    Args:
        config: what to run.
        seed: of transitions and first states.

    Raises:
        ValueError: a number that cannot work.
    """

    def __init__(self, config: EpisodicConfig, seed: int) -> None:
        check_seed(seed)
        self.config = config.resolved()
        self.mdp = make_instance(config.instance, config.steps)
        self.learner = make_learner(config.algorithm, self.mdp, config.steps)
        self.rollout: Rollout | FeatureRollout
        if isinstance(self.mdp, EpisodicMDP):
            assert not isinstance(self.learner, FeatureLSVI)
            self.rollout = Rollout(self.mdp, self.learner, seed)
            self._law = self.mdp.initial_distribution
            d = self.mdp.d if isinstance(self.mdp, LinearMDP) else self.mdp.S * self.mdp.A
        else:
            assert isinstance(self.learner, FeatureLSVI)
            self.rollout = FeatureRollout(self.mdp, self.learner, seed)
            d = self.mdp.d
        self._block = max(1, min(_LONGEST_BLOCK, _WORK // (self.mdp.H * d * d)))
        assert self.config.record_every is not None, "a resolved configuration has every number"
        self._points = record_points(config.steps, self.config.record_every)
        self._began = False
        self._ended = False
        self._regret = 0.0
        self._value = float(self.mdp.H)
        self._gap = 0.0  # of the last episode
        self._since = np.zeros(2)  # sum of returns and number of episodes since the last point
        self._seen = np.zeros(3)  # the learner's sums at the last point
        self._pending: list[Record] = []

    @property
    def step(self) -> int:
        """Return how many episodes have been played."""
        return self.rollout.episodes

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None after a block of episodes without news, until the end."""
        return stream(self._pending, self._work)

    def _work(self) -> bool:
        """Do the next piece of work; return False where none is left."""
        if not self._began:
            self._began = True
            self._begin()
        elif self.step < self.config.steps:
            self._advance()
        elif not self._ended:
            self._ended = True
            self._record("end", **self._outcome())
        else:
            return False
        return True

    def _begin(self) -> None:
        mdp, learner = self.mdp, self.learner
        facts: Record = {}
        if isinstance(mdp, EpisodicMDP):
            assert isinstance(self.rollout, Rollout)
            law = self._law
            best = self.rollout.optimum
            facts = {
                "S": mdp.S,
                "d": mdp.d if isinstance(mdp, LinearMDP) else None,
                "V_star": float(law @ best),
                "uniform_gap": float(law @ (best - evaluate(mdp, uniform(mdp))[0])),
                "worst_gap": float(law @ (best - worst(mdp).V[0])),
            }
        else:
            facts = {"S": None, "d": mdp.d, "V_star": None}
        self._record(
            "start",
            algorithm=learner.name,
            environment=mdp.name,
            steps=self.config.steps,
            H=mdp.H,
            A=mdp.A,
            model=isinstance(mdp, EpisodicMDP),
            constants=_constants(learner),
            reward_range=list(mdp.reward_range),
            **facts,
        )

    def _advance(self) -> None:
        """Play a block of episodes, up to the next point of the curve."""
        point = int(self._points[np.searchsorted(self._points, self.step, side="right")])
        before = self.step
        block = self.rollout.advance(min(self._block, point - before))
        self._value = float(block.values[-1])
        if isinstance(self.rollout, Rollout):
            self._value = float(self._law @ self.rollout.learner.values())
        self._since += float(block.returns.sum()), len(block.returns)
        if block.regrets is not None:
            self._regret += float(block.regrets.sum())
            self._gap = float(block.regrets[-1])
        if block.switched and self.config.algorithm.switch == "determinant":
            self._pending.append(
                {
                    "kind": "switch",
                    "step": before,
                    "switches": self.learner.switches,
                    "V_1": self._value,
                }
            )
        if self.step == point:
            self._progress()

    def _progress(self) -> None:
        sums = _sums(self.learner)
        bonus, variance, steps = sums - self._seen
        self._seen = sums
        total, episodes = self._since
        self._since = np.zeros(2)
        self._record(
            "progress",
            **self._outcome(),
            return_mean=float(total / episodes),
            bonus=float(bonus / steps),
            variance=float(variance / steps),
        )

    def _outcome(self) -> Record:
        known = isinstance(self.rollout, Rollout)
        return {
            "regret": self._regret if known else None,
            "regret_per_episode": self._gap if known else None,
            "V_1": self._value,
            "switches": self.learner.switches,
        }

    def _record(self, kind: str, **fields: Any) -> None:
        self._pending.append({"kind": kind, "step": self.step, **fields})

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete at every yield."""
        return {
            "step": self.step,
            "rollout": self.rollout.state_dict(),
            "began": self._began,
            "ended": self._ended,
            "regret": self._regret,
            "value": self._value,
            "gap": self._gap,
            "since": self._since.copy(),
            "seen": self._seen.copy(),
            "pending": list(self._pending),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration.
        """
        self.rollout.load_state_dict(state["rollout"])
        self._began, self._ended = state["began"], state["ended"]
        self._regret, self._value, self._gap = state["regret"], state["value"], state["gap"]
        self._since, self._seen = np.array(state["since"]), np.array(state["seen"])
        self._pending[:] = state["pending"]


def record_points(K: int, every: int) -> Integers:
    """Return the episodes after which progress is recorded: 1, 2, 4, ..., multiples, and K.

    Args:
        K: episodes of the run.
        every: the multiples are of this.

    Example:
        >>> record_points(10, 5).tolist()
        [1, 2, 4, 5, 8, 10]
    """
    powers = 2 ** np.arange(int(K).bit_length())
    points = np.concatenate([powers[powers <= K], np.arange(every, K + 1, every), [K]])
    return np.unique(points).astype(np.int64)


def _sums(learner: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    tables = getattr(learner, "tables", learner)
    return np.array(tables.sums)


def _constants(learner: Any) -> Record:
    """The numbers that a learner works with, whether given or derived."""
    constants: Record = {"beta": getattr(learner, "beta", None)}
    if hasattr(learner, "ridge"):
        constants["regulariser"] = learner.ridge.regulariser
    if hasattr(learner, "weighting"):
        constants |= learner.weighting._asdict()
    # LSVI-UCB regresses rewards together with values, without a bonus of their own.
    own_bonus = hasattr(learner, "beta_reward") and not getattr(learner, "pooled_reward", False)
    if own_bonus and learner.reward == "estimate":
        constants["beta_reward"] = learner.beta_reward
    return constants
