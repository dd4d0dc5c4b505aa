"""Teams for people: construct, learn, predict, save, load, in the manner of Stable-Baselines3.

`QMIX`, `VDN`, `WQMIX` and `RES` are thin faces over an in-memory experiment. By default a team is
MAST's: sparse networks whose links move, lambda targets, soft mellowmax and two buffers;
``sparsity=0, tricks="none"`` is the plain algorithm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from thrifty.agents import saved
from thrifty.marl import TeamConfig, TeamExperiment
from thrifty.marl.environments import TeamFactory
from thrifty.marl.learner import Memory
from thrifty.marl.rollout import film, play
from thrifty.runs import Callback
from thrifty.runs.configuration import from_json, to_json
from thrifty.runs.interruption import Interruption
from thrifty.runs.progress import ProgressBar

TeamEnvironment = str | TeamFactory


class TeamEvaluation(NamedTuple):
    """Undiscounted returns, lengths and wins of the episodes of one evaluation."""

    returns: list[float]
    lengths: list[int]
    wins: list[bool] | None
    """None for games that cannot be won."""

    @property
    def return_mean(self) -> float:
        """Return the mean return."""
        return float(np.mean(self.returns))

    @property
    def return_std(self) -> float:
        """Return the standard deviation of the returns over episodes (not over seeds)."""
        return float(np.std(self.returns))

    @property
    def win_rate(self) -> float | None:
        """Return the share of won episodes; None for games that cannot be won."""
        return None if self.wins is None else float(np.mean(self.wins))


class TeamAgent:
    """What all teams share; use :class:`thrifty.QMIX` and its like.

    Args:
        env: name of a multi-agent environment, or a function (copies, seed) -> Team.
        config: of the run; its length and time constants follow at the first :meth:`learn`.
        seed: everything random derives from it.
    """

    def __init__(self, env: TeamEnvironment, config: TeamConfig, seed: int) -> None:
        self._env, self._config, self._seed = env, config, seed
        self._planned = False
        self._experiment = TeamExperiment(config, seed, None if isinstance(env, str) else env)
        self._rng = np.random.default_rng(seed)  # of predictions, not of training

    def __repr__(self) -> str:
        told = f"{self.num_timesteps} steps, sparsity {self.sparsity:.3f}"
        return f"{type(self).__name__}({self.environment!r}, {told})"

    # ------------------------------------------------------------------ using it

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | Sequence[Callback] | None = None,
        *,
        progress_bar: bool = False,
        evaluate_every: int = 0,
    ) -> Self:
        """Train for a number of environment steps, all copies together.

        The first call fixes the time constants; later ones go on with the schedules as planned.

        Args:
            total_timesteps: environment steps to train for.
            callback: called with every record (a dict with "kind" and "step"); one that returns
                False stops the training. Or several.
            progress_bar: show progress on standard error.
            evaluate_every: steps between evaluations of 32 greedy episodes.

        Raises:
            ValueError: an environment's fault (NaN, nothing available).
        """
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps must be at least 1, got {total_timesteps}")
        if not self._planned:
            self._experiment.plan(
                dataclasses.replace(
                    self._config, steps=total_timesteps, evaluate_every=evaluate_every
                )
            )
            self._planned = True
        else:
            self._experiment.extend(total_timesteps, evaluate_every)
        return self.resume(callback, progress_bar=progress_bar)

    def resume(
        self,
        callback: Callback | Sequence[Callback] | None = None,
        *,
        progress_bar: bool = False,
    ) -> Self:
        """Go on to the end that the last ``learn`` planned, exactly as if it had not stopped.

        Args:
            callback: as in :meth:`learn`.
            progress_bar: show progress on standard error.

        Raises:
            ValueError: nothing was planned yet.
            KeyboardInterrupt: Ctrl-C; the team is whole and can be saved or resumed.
        """
        if not self._planned:
            raise ValueError("nothing to resume: call learn(total_timesteps) first")
        callbacks = [callback] if callable(callback) else list(callback or ())
        with ExitStack() as stack:
            bar: ProgressBar | None = None
            if progress_bar:
                bar = stack.enter_context(
                    ProgressBar(
                        self._experiment.config.steps, start=self._experiment.step, force=True
                    )
                )
            interruption = stack.enter_context(Interruption())
            for record in self._experiment.records():
                if record is not None:
                    if bar is not None:
                        bar.record(record)
                    answers = [callback(record) for callback in callbacks]  # all are told
                    if any(answer is False for answer in answers):
                        break
                if interruption.requested:
                    raise KeyboardInterrupt
        return self

    def predict(
        self,
        observation: NDArray[Any],
        state: Memory | None = None,
        *,
        action_masks: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.int64], Memory]:
        """Choose the team's actions.

        Args:
            observation: of every agent, [N, O], or of several games, [E, N, O].
            state: what the team remembers, as the last call returned it; None begins an episode.
            action_masks: True where an action may be taken, [N, U] or [E, N, U]; None allows all.
            deterministic: greedy; else with the last exploration of training.

        Returns:
            actions [N] or [E, N], and the memory for the next call.

        Raises:
            ValueError: another size, another memory, or an agent without any action.
        """
        spec = self._experiment.spec
        array = np.asarray(observation, np.float32)
        shape = (spec.agents, spec.observation_dim)
        if array.ndim not in (2, 3) or array.shape[-2:] != shape:
            raise ValueError(
                f"observation has shape {array.shape}, expected {shape} or (games, *{shape})"
            )
        single = array.ndim == 2
        array = array[None] if single else array
        wanted = (len(array), spec.agents, spec.actions)
        masks = np.ones(wanted, bool) if action_masks is None else np.asarray(action_masks, bool)
        masks = masks[None] if masks.ndim == 2 else masks
        if masks.shape != wanted:
            raise ValueError(f"action_masks have shape {masks.shape}, expected {wanted}")
        if not masks.any(2).all():
            raise ValueError("action_masks leave an agent without any action")
        learner = self._experiment.learner
        memory = learner.memory(len(array)) if state is None else state
        if len(memory.hidden) != len(array):
            raise ValueError(
                f"state is not the memory of {len(array)} games: give what the last call for as "
                "many returned, or None where episodes begin"
            )
        actions, memory = learner.act(
            array,
            masks,
            memory,
            epsilon=0.0 if deterministic else self._experiment.epsilon,
            rng=self._rng,
        )
        return (actions[0] if single else actions), memory

    def evaluate(self, episodes: int = 32, *, seed: int = 0) -> TeamEvaluation:
        """Play greedy episodes and return their undiscounted returns, lengths and wins.

        Args:
            episodes: how many.
            seed: of the episodes.

        Raises:
            ValueError: fewer than one episode.
        """
        if episodes < 1:
            raise ValueError(f"an evaluation needs at least one episode, got {episodes}")
        played: list[Any] = []
        copies = min(episodes, self._experiment.rollout.team.copies)
        while len(played) < episodes:
            # A key of its own: [seed, 0] would be the sequence of the seed that training has.
            sequence = np.random.SeedSequence(seed, spawn_key=(len(played),))
            team = self._experiment.make_team(copies, int(sequence.generate_state(1)[0]))
            played += play(team, self._experiment.learner)
            team.close()
        played = played[:episodes]
        return TeamEvaluation(
            [one.total for one in played],
            [one.length for one in played],
            [one.won for one in played] if self._experiment.spec.wins else None,
        )

    def film(self, *, seed: int = 0) -> dict[str, Any]:
        """Play one greedy episode and return it as pictures.

        Args:
            seed: of the episode.

        Returns:
            ``frames`` (``step`` and ``marks``: x, y, side, share left), ``return``, ``won`` and
            ``length``.

        Raises:
            ValueError: a game without space.
        """
        team = self._experiment.make_team(1, seed)
        pictures = film(team, self._experiment.learner, frames=250)
        team.close()
        if pictures is None:
            raise ValueError(f"{self.environment} has no space to draw: leave the video out")
        return pictures

    @property
    def environment(self) -> str:
        """Return the name of the training environment."""
        return self._experiment.spec.name

    @property
    def num_timesteps(self) -> int:
        """Return how many environment steps the team has trained for."""
        return self._experiment.step

    @property
    def sparsity(self) -> float:
        """Return the fraction of zero weights of all networks together."""
        return self._experiment.sparsity()

    @property
    def learner(self) -> Any:
        """Return the algorithm behind the team: networks, optimizers, topologies."""
        return self._experiment.learner

    # ------------------------------------------------------------------ files

    def save(self, path: Path | str) -> Path:
        """Write the whole team (replay and running episodes included) to one file, atomically.

        Args:
            path: the file; ``.npz`` is added if it has no suffix.

        Returns:
            The path written.
        """
        return saved.write(
            path,
            type(self),
            "team",
            config=to_json(self._config),
            planned=to_json(self._experiment.config) if self._planned else None,
            seed=self._seed,
            by_name=isinstance(self._env, str),
            rng=self._rng.bit_generator.state,
            experiment=self._experiment.state_dict(),
        )

    @classmethod
    def load(cls, path: Path | str, env: TeamEnvironment | None = None) -> Self:
        """Read a team that :meth:`save` wrote.

        Args:
            path: the file.
            env: the environment; by default the name that the team was made with.

        Returns:
            The team; :meth:`resume` goes on where it was.

        Raises:
            ValueError: no such team in the file, a damaged file, or a team that was made with a
                function, which ``env`` must then give.
        """
        path, tree = saved.read(path, cls, "team")
        if env is None and not tree["by_name"]:
            raise ValueError(
                f"{path} was trained on an environment given by a function: give it with "
                "load(path, env=...)"
            )
        config = from_json(TeamConfig, tree["config"])
        team = cls.over(config.environment if env is None else env, config, tree["seed"])
        if tree["planned"] is not None:
            team._experiment.plan(from_json(TeamConfig, tree["planned"]))
            team._planned = True
        team._experiment.load_state_dict(tree["experiment"])
        team._rng.bit_generator.state = tree["rng"]
        return team

    @classmethod
    def over(cls, env: TeamEnvironment, config: TeamConfig, seed: int) -> Self:
        """Return a team of the given configuration.

        Args:
            env: where it trains.
            config: of the run.
            seed: of the run.
        """
        team = cls.__new__(cls)
        TeamAgent.__init__(team, env, config, seed)
        return team
