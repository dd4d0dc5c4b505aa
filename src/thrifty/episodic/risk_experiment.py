"""One run of a learner for the iterated CVaR, as a stream of records that can stop anywhere.

A piece of work is a block of episodes played with one policy (one episode with comparisons).
Record kinds: start, switch (a new plan), progress, end. ``regret`` is exact and of the iterated
CVaR at the run's risk level (:mod:`thrifty.episodic.risk_rollout`); ``end`` has the last policy,
its value, its expected return and the distribution of its return. With comparisons it also has the
value of the best policy for the estimated reward: the last policy was chosen to find things out.

With people as annotators the queries and labels lie in the run's folder, which whoever runs the
experiment names by :meth:`RiskExperiment.place`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thrifty.episodic.cvar import grouped_returns, return_distribution
from thrifty.episodic.experiment import record_points
from thrifty.episodic.icvar_bpi import ICVaRBPI
from thrifty.episodic.icvar_hf import ICVaRHF
from thrifty.episodic.label_folder import LabelFolder
from thrifty.episodic.linear_mixture import LinearMixtureMDP
from thrifty.episodic.mdp import Integers
from thrifty.episodic.planning import (
    Operator,
    evaluate,
    expectation,
    occupancy,
    optimal,
    uniform,
    worst,
)
from thrifty.episodic.risk_config import ICVaRHFConfig, LavaGridConfig, RiskConfig
from thrifty.episodic.risk_problem import make_grid, make_learner, make_problem, objective
from thrifty.episodic.risk_rollout import RiskRollout
from thrifty.stream import Record, stream

_LONGEST_BLOCK = 1000
_MOST_RETURNS = 100_000  # partial sums of rewards that are followed for a return's distribution
_PAUSE = 0.2  # seconds between two looks for labels, while waiting for people


class RiskExperiment:
    """A run of one learner on one instance.

    Args:
        config: what to run.
        seed: of transitions, first states, and of what the learner draws.

    Raises:
        ValueError: a number that cannot work.
    """

    def __init__(self, config: RiskConfig, seed: int) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")
        self.config, self._seed = config.resolved(), seed
        self.problem = make_problem(self.config)
        self.mdp = self.problem.mdp
        self._asks_people = (
            isinstance(config.algorithm, ICVaRHFConfig) and config.algorithm.annotator == "person"
        )
        self._placed, self._replays = not self._asks_people, False
        self.rollout = self._new_rollout()
        self._law = self.mdp.initial_distribution
        assert self.config.record_every is not None, "a resolved configuration has every number"
        self._points = record_points(config.steps, self.config.record_every)
        self._began = False
        self._ended = False
        self._regret = 0.0
        self._gap = 0.0  # of the last episode
        self._since = np.zeros(2)  # sum of returns and number of episodes since the last point
        self._pending: list[Record] = []

    def _new_rollout(self, folder: LabelFolder | None = None) -> RiskRollout:
        learner = make_learner(self.config, self.problem, self._seed, folder)
        return RiskRollout(self.mdp, learner, self._seed, objective(self.config))

    def place(self, folder: Path, *, replay: bool = False) -> None:
        """Name the run's folder, before the first record and before a state is loaded.

        Args:
            folder: where queries go and labels come from, if people are asked.
            replay: take in the labels of a finished session when it took them, and write nothing.
        """
        if self._asks_people:
            self.rollout = self._new_rollout(LabelFolder(folder, replay=replay))
            self._placed, self._replays = True, replay

    @property
    def step(self) -> int:
        """Return how many episodes have been played."""
        return self.rollout.episodes

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None after a block of episodes without news, until the end.

        Raises:
            ValueError: people are to be asked, and the run has no folder.
        """
        if not self._placed:
            raise ValueError(
                "people answer through files in the run's folder: run this with `thrifty train`, "
                "or name a folder with place()"
            )
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
            self._end()
        else:
            return False
        return True

    def _begin(self) -> None:
        mdp, operator, law = self.mdp, self.rollout.operator, self._law
        best = self.rollout.optimum
        neutral = evaluate(mdp, optimal(mdp, expectation).policy, operator)[0]
        self._record(
            "start",
            algorithm=self.rollout.learner.name,
            environment=mdp.name,
            steps=self.config.steps,
            risk_level=self.config.risk_level,
            H=mdp.H,
            A=mdp.A,
            S=mdp.S,
            d=mdp.d if isinstance(mdp, LinearMixtureMDP) else None,
            model=True,
            reward_range=list(mdp.reward_range),
            V_star=float(law @ best),
            uniform_gap=float(law @ (best - evaluate(mdp, uniform(mdp), operator)[0])),
            worst_gap=float(law @ (best - worst(mdp, operator).V[0])),
            neutral_gap=float(law @ (best - neutral)),
            constants={
                name: float(value)
                for name in ("beta", "gamma2", "radius")
                if (value := getattr(self.rollout.learner, name, None)) is not None
            },
        )

    def _advance(self) -> None:
        """Play a block of episodes, up to the next point of the curve."""
        learner = self.rollout.learner
        if self._asks_people and not self._replays and self._must_wait():
            time.sleep(_PAUSE)
            return
        point = int(self._points[np.searchsorted(self._points, self.step, side="right")])
        before = self.step
        block = self.rollout.advance(min(_LONGEST_BLOCK, point - before))
        assert block.regrets is not None, "the model is known"
        self._since += float(block.returns.sum()), len(block.returns)
        self._regret += float(block.regrets.sum())
        self._gap = float(block.regrets[-1])
        if block.switched:
            self._pending.append(
                {
                    "kind": "switch",
                    "step": before,
                    "switches": learner.switches,
                    "V_1": self._optimistic(),
                }
            )
        if self.step == point:
            total, episodes = self._since
            self._since = np.zeros(2)
            self._record("progress", **self._outcome(), return_mean=float(total / episodes))

    def _must_wait(self) -> bool:
        algorithm, learner = self.config.algorithm, self.rollout.learner
        assert isinstance(algorithm, ICVaRHFConfig)
        assert isinstance(learner, ICVaRHF)
        learner.collect()
        return algorithm.wait and learner.blocked

    def _optimistic(self) -> float | None:
        """Return the optimistic V_1; of comparisons it is known up to a constant only, so None."""
        learner = self.rollout.learner
        return None if isinstance(learner, ICVaRHF) else float(self._law @ learner.values())

    def _outcome(self) -> Record:
        learner = self.rollout.learner
        outcome: Record = {
            "regret": self._regret,
            "regret_per_episode": self._gap,
            "V_1": self._optimistic(),
            "switches": learner.switches,
        }
        if isinstance(learner, ICVaRHF):
            outcome |= {
                "queries": learner.queries,
                "labels": learner.model.labels,
                "log_loss": learner.log_loss,
            }
        if isinstance(learner, ICVaRBPI):
            outcome["bound_on_loss"] = learner.gap
        return outcome

    def _end(self) -> None:
        learner = self.rollout.learner
        policy = learner.policy()
        told: Record = {"returns": self._returns(policy), "picture": self._picture(policy)}
        if isinstance(learner, ICVaRHF):
            told["estimated_value"] = self._value(learner.estimated_policy(), self.rollout.operator)
        self._record(
            "end",
            **self._outcome(),
            value=self._value(policy, self.rollout.operator),
            expected_return=self._value(policy, expectation),
            policy=policy.tolist(),
            **told,
        )

    def _value(self, policy: Integers, operator: Operator) -> float:
        return float(self._law @ evaluate(self.mdp, policy, operator)[0])

    def _returns(self, policy: Integers) -> list[list[float]] | None:
        """Return the distribution of the return as [value, probability]; None where it is too rich.

        Exact up to 200 values; above, neighbours are taken together.
        """
        try:
            found = return_distribution(self.mdp, policy, max_atoms=_MOST_RETURNS)
        except ValueError:
            return None
        return np.stack(grouped_returns(*found), axis=1).tolist()  # type: ignore[no-any-return]

    def _picture(self, policy: Integers) -> str | None:
        """Return the map of a grid with where the policy walks; None on other instances."""
        if not isinstance(self.config.instance, LavaGridConfig):
            return None
        grid = make_grid(self.config.instance)
        return grid.picture(occupancy(self.mdp, policy).sum((0, 2)))

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
            "gap": self._gap,
            "since": self._since.copy(),
            "pending": list(self._pending),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration.
        """
        self.rollout.load_state_dict(state["rollout"])
        self._began, self._ended = state["began"], state["ended"]
        self._regret, self._gap = state["regret"], state["gap"]
        self._since = np.array(state["since"])
        self._pending[:] = state["pending"]
