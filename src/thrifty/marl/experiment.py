"""One training run of a team, as a stream of records that can stop anywhere.

A piece of work is a step of all copies, an update, or one greedy episode in each copy. Updates
follow the environment steps at a fixed rate once more episodes are stored than one minibatch holds.
There is no clock in here.

Record kinds: start, train, evaluation, topology, warning, film, end.

Reference: MAST (Hu et al., NeurIPS 2024), algorithm 2; Rashid et al. (2018), QMIX: the protocol.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from thrifty.marl.backend import choose
from thrifty.marl.config import TeamConfig, check_config
from thrifty.marl.environments import TeamFactory, make_team
from thrifty.marl.episodes import EpisodeReplay, Rows
from thrifty.marl.ledger import ledger
from thrifty.marl.rollout import Finished, Rollout, film, play
from thrifty.marl.team import Team
from thrifty.stream import Record, Sums, add, means, passed, stream


class TeamExperiment:
    """A run of QMIX, VDN, Weighted QMIX or RES on one environment.

    Args:
        config: what to run.
        seed: everything random derives from it.
        source: a function (copies, seed) -> Team, in place of ``config.environment``.

    Raises:
        ValueError: an environment or a number that cannot work.
    """

    def __init__(self, config: TeamConfig, seed: int, source: TeamFactory | None = None) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")
        self.config = config.resolved()
        self._source = source
        seeds = np.random.SeedSequence(seed).generate_state(5, np.uint32).tolist()
        team = self.make_team(config.environments, seeds[0])
        self.spec = team.spec
        self.learner = self.config.algorithm.build(team.spec, seed=seeds[1])
        self.backend, self._backend_reason = choose(self.config.backend, self.learner)
        if self.backend == "engine":
            self.learner.compile()
        self.rows = Rows(team.spec)
        self.replay = EpisodeReplay(config.replay_episodes, self.rows)
        self.rollout = Rollout(team, self.learner, self.rows)
        self._explore_rng = np.random.default_rng(seeds[2])
        self._replay_rng = np.random.default_rng(seeds[3])
        self._evaluation_seed = seeds[4]
        self.step = 0
        self._episodes = 0
        self._began = self._ended = self._warned = False
        # What is still to do before the next step, in this order.
        self._updates_due = 0
        self._progress_due = self._evaluation_due = False
        self._evaluated: list[list[float]] = []  # return, length and win of the episodes so far
        self._recent: list[list[float]] = []  # return and win since the last progress record
        self._sums: Sums = {}
        self._last_evaluation: Record | None = None
        self._pending: list[Record] = []

    def make_team(self, copies: int, seed: int) -> Team:
        """Return further copies of the run's environment."""
        if self._source is not None:
            return self._source(copies, seed)
        return make_team(self.config.environment, copies, seed)

    def plan(self, config: TeamConfig) -> None:
        """Change the plan of a run that has not begun: its length and time constants."""
        assert not self._began, "a run that has begun keeps its plan; see extend"
        self.config = config.resolved()
        self.learner.plan(self.config.algorithm)

    def extend(self, steps: int, evaluate_every: int) -> None:
        """Plan a number of further steps; every other time constant stays as it was."""
        config = dataclasses.replace(
            self.config, steps=self.step + steps, evaluate_every=evaluate_every
        )
        check_config(config)
        self.config = config
        self._ended = False

    # ------------------------------------------------------------------ the stream

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None between two pieces of work without news, until the end."""
        return stream(self._pending, self._work)

    def _work(self) -> bool:
        """Do the next piece of work; return False where none is left."""
        if not self._began:
            self._began = True
            self._begin()
        elif self._updates_due:
            self._updates_due -= 1
            self._update()
        elif self._progress_due:
            self._progress_due = False
            self._progress()
        elif self._evaluation_due:
            self._evaluate()
        elif self.step < self.config.steps:
            self._advance()
        elif not self._ended:
            self._end()
        else:
            return False
        return True

    def _begin(self) -> None:
        costs = ledger(self.learner)
        self._record(
            "start",
            algorithm=self.learner.name,
            environment=self.spec.name,
            steps=self.config.steps,
            scaling=self.config.scaling,
            backend=self.backend,
            backend_reason=self._backend_reason,
            team=self.spec._asdict(),
            layers=[
                {
                    "network": row["network"],
                    "layer": row["layer"],
                    "shape": list(row["shape"]),
                    "nnz": row["sparse_parameters"],
                    "sparsity": 1.0 - row["sparse_parameters"] / row["parameters"],
                }
                for row in costs["rows"]
            ],
            ledger=costs,
        )
        self._evaluation_due = bool(self.config.evaluate_every)

    @property
    def epsilon(self) -> float:
        """Return the chance of a random action in the next step."""
        c = self.config
        share = min(1.0, self.step / c.epsilon_steps) if c.epsilon_steps else 1.0
        return c.epsilon_first + share * (c.epsilon_last - c.epsilon_first)

    def _advance(self) -> None:
        """Take one step of all copies, and note what is due after it."""
        config = self.config
        for episode in self.rollout.step(self.learner, self.epsilon, self._explore_rng):
            self._store(episode)
        self.step += self.rollout.team.copies
        if len(self.replay) > config.algorithm.batch_episodes:
            self._updates_due = self._passed(config.train_every)
        self._progress_due = bool(self._passed(config.record_every))
        self._evaluation_due = bool(self._passed(config.evaluate_every))

    def _store(self, episode: Finished) -> None:
        self.replay.add(episode.rows)
        self._episodes += 1
        self._recent.append([episode.total, float(episode.won)])

    def _passed(self, every: int | None) -> int:
        """How many multiples of ``every`` the step just taken reached or passed."""
        return passed(every, self.step, self.step - self.rollout.team.copies)

    def _update(self) -> None:
        c = self.config.algorithm
        batch = self.replay.sample(
            c.batch_episodes, self._replay_rng, recent=c.recent_batch, among=c.recent_episodes
        )
        numbers, moved = self.learner.update(batch)
        add(self._sums, numbers)
        for part, update in moved.items():
            self._record("topology", network=part, **update.fields())

    # ------------------------------------------------------------------ records

    def _record(self, kind: str, **fields: Any) -> None:
        self._pending.append({"kind": kind, "step": self.step, **fields})

    def _progress(self) -> None:
        recent, self._recent = self._recent, []
        sums, self._sums = self._sums, {}
        numbers = means(sums)
        self._record(
            "train",
            updates=self.learner.updates,
            episodes=self._episodes,
            epsilon=self.epsilon,
            buffer_size=len(self.replay),
            **{"return": float(np.mean([total for total, _ in recent])) if recent else None},
            win_rate=float(np.mean([won for _, won in recent]))
            if recent and self.spec.wins
            else None,
            sparsity=self.sparsity(),
            density=self.density() if self._links_move() else None,
            **numbers,
        )
        self._warn(numbers.get("target_mean"))

    def _warn(self, target_mean: float | None) -> None:
        """Warn once where targets have left what an episode can return."""
        largest = self.spec.largest_return
        if self._warned or target_mean is None or largest is None or target_mean <= largest:
            return
        self._warned = True
        text = (
            f"the mean target {target_mean:.3g} exceeds {largest:g}, the largest return that an "
            "episode can have: values have diverged; lower algorithm.last_scale or raise "
            "algorithm.state_scale"
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        self._record("warning", text=text, target_mean=target_mean)

    def _links_move(self) -> bool:
        return any(
            part.topology.names
            for value, _ in self.learner.pairs().values()
            for part in value.parts.values()
        )

    def density(self) -> dict[str, float]:
        """Return the share of links of every layer, by network, part and layer."""
        return {
            f"{name}.{layer}": share
            for name, (value, _) in self.learner.pairs().items()
            for layer, share in value.density().items()
        }

    def sparsity(self) -> float:
        """Return the fraction of zero weights of all networks together."""
        rows = [
            row for name, (value, _) in self.learner.pairs().items() for row in value.costs(name)
        ]
        dense = sum(row.dense_parameters for row in rows)
        return 1.0 - sum(row.sparse_parameters for row in rows) / dense

    def _evaluation_team(self) -> Team:
        """A team whose episodes depend on the seed and on how many were played, on nothing else."""
        E = min(self.rollout.team.copies, self.config.evaluation_episodes)
        sequence = np.random.SeedSequence([self._evaluation_seed, len(self._evaluated)])
        return self.make_team(E, int(sequence.generate_state(1)[0]))

    def _evaluate(self) -> None:
        """Play one greedy episode in each copy; the last ones make the record."""
        team = self._evaluation_team()
        played = play(team, self.learner)
        team.close()
        self._evaluated += [[one.total, one.length, float(one.won)] for one in played]
        if len(self._evaluated) < self.config.evaluation_episodes:
            return
        episodes = np.array(self._evaluated[: self.config.evaluation_episodes])
        self._evaluated, self._evaluation_due = [], False
        fields: Record = {
            "return_mean": float(episodes[:, 0].mean()),
            "return_std": float(episodes[:, 0].std()),
            "length_mean": float(episodes[:, 1].mean()),
            "win_rate": float(episodes[:, 2].mean()) if self.spec.wins else None,
        }
        self._last_evaluation = {"step": self.step, **fields}
        self._record("evaluation", episodes=len(episodes), **fields)

    def _end(self) -> None:
        last = self._last_evaluation or {}
        if self.config.evaluate_every and last.get("step") != self.step:
            self._evaluation_due = True
            return
        self._ended = True
        if self.config.evaluate_every:
            team = self._evaluation_team()
            pictures = film(team, self.learner)
            team.close()
            if pictures is not None:
                self._record("film", **pictures)
        self._record("end", return_mean=last.get("return_mean"), win_rate=last.get("win_rate"))

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete at every yield."""
        return {
            "step": self.step,
            "episodes": self._episodes,
            "began": self._began,
            "ended": self._ended,
            "warned": self._warned,
            "due": {
                "updates": self._updates_due,
                "progress": self._progress_due,
                "evaluation": self._evaluation_due,
            },
            "evaluated": [list(one) for one in self._evaluated],
            "recent": [list(one) for one in self._recent],
            "sums": {name: list(pair) for name, pair in self._sums.items()},
            "last_evaluation": self._last_evaluation,
            "pending": list(self._pending),
            "explore_rng": self._explore_rng.bit_generator.state,
            "replay_rng": self._replay_rng.bit_generator.state,
            "rollout": self.rollout.state_dict(),
            "replay": self.replay,
            "learner": self.learner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration.
        """
        self.replay.load(state["replay"])  # first: it tells other sizes in one line
        self.learner.load_state_dict(state["learner"])
        self.rollout.load_state_dict(state["rollout"])
        self._explore_rng.bit_generator.state = state["explore_rng"]
        self._replay_rng.bit_generator.state = state["replay_rng"]
        self.step, self._episodes = state["step"], state["episodes"]
        self._began, self._ended = state["began"], state["ended"]
        self._warned = state["warned"]
        due = state["due"]
        self._updates_due = due["updates"]
        self._progress_due, self._evaluation_due = due["progress"], due["evaluation"]
        self._evaluated = [list(one) for one in state["evaluated"]]
        self._recent = [list(one) for one in state["recent"]]
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}
        self._last_evaluation = state["last_evaluation"]
        self._pending[:] = state["pending"]
