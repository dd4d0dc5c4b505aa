"""One training run of a continuous-control agent, as a stream of records that can stop anywhere.

Each environment step: act (uniformly at random during warm-up), step, store, perhaps check the
replay's capacity, update, perhaps evaluate. What happened becomes records; between two steps the
whole state is in ``state_dict``, so a run that is stopped and resumed is bit-equal to one that is
not. There is no clock in here.

Record kinds: start, random_policy, train, evaluation, topology, n_step, buffer, gait, end.

Reference: RLx2 (Tan et al., ICLR 2023), algorithm 2 and section 5 (protocol).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from thrifty.control.backend import choose
from thrifty.control.config import ControlConfig, check_algorithm, check_config
from thrifty.control.learner import Learner
from thrifty.rl.environments import EnvironmentFault, Environments, Source
from thrifty.rl.evaluate import Evaluation, Policy, random_policy, run_episode
from thrifty.rl.skeleton import film
from thrifty.rl.transitions import Replay, adapt_capacity
from thrifty.stream import Record, Sums, add, means, passed, stream

if TYPE_CHECKING:
    from thrifty.control.compiled import CompiledLearner

Floats = NDArray[np.float32]


class ControlExperiment:
    """A run of TD3 or SAC on one environment.

    Args:
        config: what to run.
        seed: everything random derives from it.
        source: an environment instance, a function that makes one, or a vector environment, in
            place of ``config.environment``.

    Raises:
        ValueError: an environment or a number that cannot work.
    """

    def __init__(
        self,
        config: ControlConfig,
        seed: int,
        source: Source | VectorEnv[Any, Any, Any] | None = None,
    ) -> None:
        if type(seed) is not int or seed < 0:
            raise ValueError(f"the seed must be an integer of at least 0, got {seed!r}")
        self.config = config.resolved()
        algorithm = self.config.algorithm
        check_algorithm(algorithm)
        seeds = np.random.SeedSequence(seed).generate_state(5, np.uint32).tolist()
        self._source = config.environment if source is None else source
        self._scale_actions = getattr(algorithm, "action_scale", "action") == "action"
        self.environments = Environments(
            self._source,
            count=config.environments,
            seed=seeds[0],
            scale_actions=self._scale_actions,
        )
        learner = algorithm.build(
            self.environments.observation_dim, self.environments.action_dim, seed=seeds[1]
        )
        self.replay = self._new_replay()
        self.backend, self._backend_reason = choose(self.config.backend, learner)
        self._reference: Learner = learner
        self.compiled: CompiledLearner | None = None  # it holds the reference, where it is used
        if self.backend == "engine":
            from thrifty.control.compiled import CompiledLearner  # loading Numba takes a moment

            self.compiled = CompiledLearner(
                learner, self.replay.columns, seed=seeds[3], threads=config.engine_threads
            )
        self._warmup_rng = np.random.default_rng(seeds[2])
        self._replay_rng = np.random.default_rng(seeds[3])
        self._evaluation_seed = seeds[4]
        self._evaluation: Environments | None = None
        self.step = 0
        self._episodes = 0
        self._began = False
        self._ended = False
        self._n_step = 1
        self._vector_steps = 0
        # What is still to do before the next step, in this order.
        self._random_due = 0
        self._updates_due = 0
        self._progress_due = False
        self._evaluation_due = False
        self._evaluated: list[list[float]] = []  # return and length of the episodes so far
        self._recent_returns: list[float] = []
        self._loss_sums: Sums = {}
        self._last_evaluation: Record | None = None
        self._pending: list[Record] = []

    @property
    def learner(self) -> Learner | CompiledLearner:
        """Return what acts and learns."""
        return self._reference if self.compiled is None else self.compiled

    def _new_replay(self) -> Replay:
        capacity = self.config.replay.capacity
        assert capacity is not None, "a resolved configuration has every number"
        return Replay(
            capacity,
            self.environments.observation_dim,
            self.environments.action_dim,
            self.environments.count,
        )

    def plan(self, config: ControlConfig) -> None:
        """Change the plan of a run that has not begun: its length and time constants.

        Networks, environments and random numbers stay as they are.
        """
        assert not self._began, "a run that has begun keeps its plan; see extend"
        self.config = config.resolved()
        self.learner.plan(self.config.algorithm)
        self.replay = self._new_replay()

    # ------------------------------------------------------------------ the stream

    def records(self) -> Iterator[Record | None]:
        """Yield what happens, and None between two pieces of work without news, until the end.

        A piece of work is a step of all environments, an update, or an episode of an evaluation.
        """
        return stream(self._pending, self._work)

    def _work(self) -> bool:
        """Do the next piece of work; return False where none is left."""
        if not self._began:
            self._began = True
            self._begin()
        elif self._random_due:
            self._random_episode()
        elif self._updates_due:
            self._updates_due -= 1
            self._update()
        elif self._progress_due:
            self._progress_due = False
            self._progress()
        elif self._evaluation_due:
            self._evaluation_episode()
        elif self.step < self.config.steps:
            self._advance()
        elif not self._ended:
            self._end()
        else:
            return False
        return True

    def _begin(self) -> None:
        networks = self.learner.networks()
        rows = self.learner.ledger()["rows"]
        layers = [
            {
                "network": row["network"],
                "layer": row["layer"],
                "shape": list(networks[row["network"]].module.get_parameter(row["layer"]).shape),
                "nnz": row["sparse_parameters"],
                "sparsity": 1.0 - row["sparse_parameters"] / row["dense_parameters"],
            }
            for row in rows
        ]
        self._record(
            "start",
            algorithm=self.learner.name,
            environment=self.environments.name,
            steps=self.config.steps,
            scaling=self.config.scaling,
            layers=layers,
            ledger=self.learner.ledger(),
            device=self.config.algorithm.device,
            backend=self.backend,
            backend_reason=self._backend_reason,
        )
        self._random_due = self.config.random_episodes
        self._evaluation_due = bool(self.config.evaluate_every)

    def _advance(self) -> None:
        """Take one step of all environments, and note what is due after it."""
        config, envs = self.config, self.environments
        observation = envs.observation
        learning_starts = config.learning_starts or 0
        if self.step < learning_starts:
            shape = (envs.count, envs.action_dim)
            action = self._warmup_rng.uniform(-1.0, 1.0, shape).astype(np.float32)
            policy_action = action
        else:
            action, policy_action = self.learner.act(observation, explore=True)
        step = envs.step(action)
        self.replay.add(
            observation=observation,
            action=action,
            policy_action=policy_action,
            reward=step.reward,
            next_observation=step.next_observation,
            terminated=step.terminated,
            truncated=step.truncated,
            valid=step.valid,
        )
        # A replay of one step may hold nothing but the resets of a vector environment.
        drawable = step.valid is None or step.valid.any() or len(self.replay) > envs.count
        trains = self.step >= learning_starts and drawable
        self.step += envs.count
        self._vector_steps += 1
        for value, _ in step.finished:
            self._episodes += 1
            self._recent_returns.append(value)
        if self._passes(config.replay.check_every):
            self._check_capacity()
        if trains and self._vector_steps % config.train_freq == 0:
            every = config.train_freq * envs.count
            self._updates_due = every if config.gradient_steps < 0 else config.gradient_steps
        self._progress_due = self._passes(config.record_every)
        self._evaluation_due = self._passes(config.evaluate_every)

    def _passes(self, every: int | None) -> bool:
        """Whether the step just taken reached or passed a multiple of ``every``."""
        return passed(every, self.step, self.step - self.environments.count) > 0

    def _update(self) -> None:
        algorithm = self.config.algorithm
        n_step = self.learner.n_step
        if n_step != self._n_step:
            self._n_step = n_step
            self._record("n_step", n_step=n_step)
        if self.compiled is not None:
            losses, moved = self.compiled.learn(self.replay)
        else:
            batch = self.replay.sample(
                algorithm.batch_size,
                n_step=n_step,
                discount=algorithm.discount,
                rng=self._replay_rng,
            )
            losses, moved = self._reference.update(batch)
        add(self._loss_sums, losses)
        for network, update in moved.items():
            self._record("topology", network=network, **update.fields())

    def _check_capacity(self) -> None:
        rule = self.config.replay
        assert rule.minimum is not None, "a resolved configuration has every number"
        change = adapt_capacity(
            self.replay,
            self.learner.policy,
            threshold=rule.threshold,
            minimum=rule.minimum,
            oldest=rule.oldest,
            cut=rule.cut,
            repeat=rule.shrink == "until_accepted",
        )
        self._record("buffer", **change._asdict())

    def extend(self, steps: int, evaluate_every: int) -> None:
        """Plan a number of further steps; every other time constant stays as it was.

        Args:
            steps: environment steps from here on.
            evaluate_every: as in the configuration, from here on.

        Raises:
            ValueError: a number that cannot work.
        """
        config = dataclasses.replace(
            self.config, steps=self.step + steps, evaluate_every=evaluate_every
        )
        check_config(config)
        self.config = config
        self._ended = False

    # ------------------------------------------------------------------ records

    def _record(self, kind: str, **fields: Any) -> None:
        self._pending.append({"kind": kind, "step": self.step, **fields})

    def _progress(self) -> None:
        sparsity = self.sparsity()
        returns, self._recent_returns = self._recent_returns, []
        losses, self._loss_sums = self._loss_sums, {}
        self._record(
            "train",
            updates=self.learner.updates,
            episodes=self._episodes,
            **{"return": float(np.mean(returns)) if returns else None},
            sparsity=sparsity["all"],
            actor_sparsity=sparsity["actor"],
            critic_sparsity=sparsity["critic"],
            n_step=self._n_step,
            buffer_size=len(self.replay),
            **means(losses),
        )

    def sparsity(self) -> dict[str, float]:
        """Return the fraction of zero weights of actor, critic and both together."""
        counts = {"actor": [0, 0], "critic": [0, 0], "all": [0, 0]}
        for network, sparse_network in self.learner.networks().items():
            for row in sparse_network.costs(network):
                for key in (network, "all"):
                    counts[key][0] += row.sparse_parameters
                    counts[key][1] += row.dense_parameters
        return {key: 1.0 - nnz / size for key, (nnz, size) in counts.items()}

    def _evaluation_environment(self) -> Environments:
        if self._evaluation is None:
            if not isinstance(self._source, str) and not (
                callable(self._source) and not isinstance(self._source, VectorEnv)
            ):
                raise ValueError(
                    "evaluation needs an environment of its own: give an id or a function instead "
                    "of an instance, or set evaluate_every=0 and random_episodes=0"
                )
            self._evaluation = Environments(
                self._source,
                seed=self._evaluation_seed,
                scale_actions=self._scale_actions,
            )
        return self._evaluation

    def _random_episode(self) -> None:
        """Run an episode of the uniformly random control; the last one makes the record."""
        seed = self._evaluation_seed + len(self._evaluated)
        self._episode(random_policy(self.environments.action_dim, seed))
        self._random_due -= 1
        if not self._random_due:
            control = self._evaluated_episodes()
            self._record("random_policy", returns=control.returns, return_mean=control.return_mean)

    def _evaluation_episode(self) -> None:
        """Run an episode of the evaluation that is due; the last one makes the record."""
        self._episode(self._act_to_evaluate)
        if len(self._evaluated) == self.config.evaluation_episodes:
            self._evaluation_due = False
            result = self._evaluated_episodes()
            fields = {"return_mean": result.return_mean, "return_std": result.return_std}
            self._last_evaluation = {"step": self.step, **fields}
            self._record("evaluation", returns=result.returns, lengths=result.lengths, **fields)

    def _episode(self, policy: Policy) -> None:
        """Run the next episode of an evaluation; keep its return and its length."""
        environments = self._evaluation_environment()
        try:
            self._evaluated.append([*run_episode(environments, policy, len(self._evaluated))])
        except EnvironmentFault as fault:
            raise EnvironmentFault(f"evaluation after {self.step} steps: {fault}") from None

    def _act_to_evaluate(self, observation_EO: Floats) -> Floats:
        return self.learner.act(observation_EO, explore=False)[0]

    def _evaluated_episodes(self) -> Evaluation:
        finished, self._evaluated = self._evaluated, []
        return Evaluation([value for value, _ in finished], [int(steps) for _, steps in finished])

    def _end(self) -> None:
        last = self._last_evaluation or {}
        if self.config.evaluate_every and last.get("step") != self.step:
            self._evaluation_due = True
            return
        self._ended = True
        if self.config.evaluate_every:
            # The first episode of the last evaluation once more, now with its poses.
            gait = film(self._evaluation_environment(), self._act_to_evaluate, 0)
            if gait is not None:
                self._record("gait", **gait)
        self._record("end", return_mean=last.get("return_mean"), return_std=last.get("return_std"))

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """Return everything that affects the future; complete at every yield."""
        return {
            "step": self.step,
            "episodes": self._episodes,
            "began": self._began,
            "ended": self._ended,
            "n_step": self._n_step,
            "vector_steps": self._vector_steps,
            "due": {
                "random": self._random_due,
                "updates": self._updates_due,
                "progress": self._progress_due,
                "evaluation": self._evaluation_due,
            },
            "evaluated": [list(pair) for pair in self._evaluated],
            "recent_returns": list(self._recent_returns),
            "loss_sums": {name: list(pair) for name, pair in self._loss_sums.items()},
            "last_evaluation": self._last_evaluation,
            "pending": list(self._pending),
            "warmup_rng": self._warmup_rng.bit_generator.state,
            "replay_rng": self._replay_rng.bit_generator.state,
            "environments": self.environments.state_dict(),
            "replay": self.replay.state_dict(),
            "learner": self.learner.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a stored state.

        Raises:
            ValueError: it belongs to another configuration, or the environment does not replay.
        """
        self.replay.load_state_dict(state["replay"])  # first: it tells other sizes in one line
        self.learner.load_state_dict(state["learner"])
        if not self.environments.load_state_dict(state["environments"]):
            self.replay.end_episodes()
        self._warmup_rng.bit_generator.state = state["warmup_rng"]
        self._replay_rng.bit_generator.state = state["replay_rng"]
        self.step = state["step"]
        self._episodes, self._n_step = state["episodes"], state["n_step"]
        self._began, self._ended = state["began"], state["ended"]
        self._vector_steps = state["vector_steps"]
        due = state["due"]
        self._random_due, self._updates_due = due["random"], due["updates"]
        self._progress_due, self._evaluation_due = due["progress"], due["evaluation"]
        self._evaluated = [list(pair) for pair in state["evaluated"]]
        self._recent_returns = list(state["recent_returns"])
        self._loss_sums = {n: (total, count) for n, (total, count) in state["loss_sums"].items()}
        self._last_evaluation = state["last_evaluation"]
        self._pending[:] = state["pending"]
