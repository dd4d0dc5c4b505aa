from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest

from thrifty.marl import QMIXConfig, TeamConfig
from thrifty.marl.copies import Copies, Result, View
from thrifty.marl.experiment import TeamExperiment
from thrifty.marl.predator_prey import PredatorPrey
from thrifty.marl.rollout import film, play
from thrifty.marl.team import Spec


def config(**fields: Any) -> TeamConfig:
    small = QMIXConfig(hidden=8, batch_episodes=4)
    base: dict[str, Any] = {
        "environment": "skirmish",
        "environments": 4,
        "steps": 600,
        "train_every": 16,
        "evaluate_every": 300,
        "evaluation_episodes": 6,
        "record_every": 100,
        "algorithm": small,
    }
    return TeamConfig(**base | fields)


def run(built: TeamExperiment) -> list[dict[str, Any]]:
    return [record for record in built.records() if record is not None]


def test_a_run_tells_what_happened() -> None:
    experiment = config().build(0)
    records = run(experiment)
    kinds = [record["kind"] for record in records]
    assert kinds[0] == "start"
    assert kinds[-2:] == ["film", "end"]
    assert [r["step"] for r in records if r["kind"] == "evaluation"] == [0, 300, 600]
    assert [r["step"] for r in records if r["kind"] == "train"] == [100, 200, 300, 400, 500, 600]
    evaluation = next(r for r in records if r["kind"] == "evaluation")
    assert evaluation["episodes"] == 6
    assert 0.0 <= evaluation["win_rate"] <= 1.0
    start = records[0]
    assert start["environment"] == "skirmish"
    assert start["team"]["largest_return"] == 20.0
    assert {layer["network"] for layer in start["layers"]} == {"value.agents", "value.mixer"}
    # Updates follow the steps at their rate once more than a minibatch of episodes is stored.
    last = [r for r in records if r["kind"] == "train"][-1]
    assert 25 <= last["updates"] <= 600 // 16
    assert last["updates"] == experiment.learner.updates


def test_exploration_falls_along_a_line() -> None:
    experiment = config(epsilon_steps=200).build(0)
    seen = {r["step"]: r["epsilon"] for r in run(experiment) if r["kind"] == "train"}
    # By hand: 1 - 0.95 * 100 / 200, and the end from 200 on.
    assert seen[100] == pytest.approx(0.525)
    assert seen[200] == seen[600] == pytest.approx(0.05)


def test_time_constants_follow_the_run() -> None:
    part = dataclasses.replace(QMIXConfig().agents, sparsity=0.5)
    algorithm = QMIXConfig(td_lambda=0.6, agents=part)
    resolved = TeamConfig(steps=640_000, train_every=64, algorithm=algorithm).resolved()
    assert resolved.epsilon_steps == 64_000
    assert resolved.evaluate_every == 16_000
    assert resolved.algorithm.long_after == 3750  # 3/8 of 10,000 updates
    assert resolved.algorithm.agents.update_every == 100  # 50 is below the floor
    assert resolved.algorithm.agents.update_until == 10_000
    assert resolved.resolved() is resolved
    other = dataclasses.replace(algorithm, td_lambda=0.0, n_step=3)
    short = TeamConfig(steps=640_000, train_every=64, algorithm=other).resolved()
    assert short.algorithm.long_after == 1000  # a tenth
    longer = TeamConfig(steps=6_400_000, train_every=64, algorithm=algorithm).resolved()
    assert longer.algorithm.agents.update_every == 500


def test_evaluations_play_the_same_episodes() -> None:
    """With a learner that does not learn, every evaluation has the same result."""
    never = {"algorithm": QMIXConfig(hidden=8, batch_episodes=9999), "replay_episodes": 10_000}
    experiment = config(**never).build(1)
    results = [
        {k: v for k, v in r.items() if k != "step"}
        for r in run(experiment)
        if r["kind"] == "evaluation"
    ]
    assert results[0] == results[1] == results[2]


def test_playing_counts_the_first_episode_of_each_copy() -> None:
    experiment = config(environment="predator_prey").build(0)
    played = play(PredatorPrey(8, 3), experiment.learner)
    assert len(played) == 8
    assert all(one.length <= 20 for one in played)
    assert all(one.won or one.length == 20 for one in played)
    discounted = play(PredatorPrey(8, 3), experiment.learner, discount=0.5)
    assert [one.length for one in discounted] == [one.length for one in played]


def test_a_film_holds_the_whole_episode() -> None:
    experiment = config().build(0)
    pictures = film(experiment.make_team(1, 5), experiment.learner, frames=5)
    assert pictures is not None
    steps = [frame["step"] for frame in pictures["frames"]]
    assert steps[0] == 0
    assert steps[-1] == pictures["length"]
    assert len(steps) == 5
    assert len(pictures["frames"][0]["marks"]) == 6
    assert film(config(environment="matrix_game").build(0).rollout.team, experiment.learner) is None


class Diverging:
    """Pays 1 a step but claims that no episode returns more than 0.001."""

    seedable = True
    spec = Spec("diverging", 2, 2, 1, 1, 3, largest_return=0.001)

    def begin(self, seed: int) -> None:
        self.left = 3

    def step(self, action_N: Any) -> Result:
        self.left -= 1
        return Result(1.0, False, self.left == 0)

    def view(self) -> View:
        return View(np.ones((2, 1), np.float32), np.ones(1, np.float32), np.ones((2, 2), bool))

    def scene(self) -> None:
        return None

    def close(self) -> None:
        self.left = 0


def test_targets_beyond_the_largest_return_warn_once() -> None:
    experiment = TeamExperiment(
        config(evaluate_every=0), 0, lambda copies, seed: Copies(Diverging, copies, seed)
    )
    with pytest.warns(RuntimeWarning, match="exceeds 0.001, the largest return") as caught:
        records = run(experiment)
    assert len(caught) == 1
    assert [r["kind"] for r in records].count("warning") == 1
    assert not any(r["kind"] == "warning" for r in run(config().build(0)))


class Faulty(Diverging):
    fault = ""

    def view(self) -> View:
        seen = super().view()
        if self.fault == "nan":
            seen.observation[0] = np.nan
        if self.fault == "stuck":
            seen.available[1] = False
        return seen

    def step(self, action_N: Any) -> Result:
        if self.fault == "endless":
            return Result(0.0, False, False)
        result = super().step(action_N)
        if self.fault == "unpaid":
            return result._replace(reward=float("nan"))
        if self.fault == "ended":
            self.fault = "nan" if result.truncated else self.fault
        return result


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan", "shows an observation or state that is not finite"),
        ("ended", "shows an observation or state that is not finite"),
        ("unpaid", "pays a reward that is not finite"),
        ("stuck", "leaves agent 1 of copy 0 without any available action"),
        ("endless", "goes on after its limit of 3 steps"),
    ],
)
def test_faults_of_an_environment_stop_the_run(fault: str, message: str) -> None:
    kind = type("Kind", (Faulty,), {"fault": fault})
    experiment = TeamExperiment(
        config(evaluate_every=0), 0, lambda copies, seed: Copies(kind, copies, seed)
    )
    with pytest.raises(ValueError, match=message):
        run(experiment)


class Closing(Diverging):
    """Is over after three steps and offers nothing then."""

    def step(self, action_N: Any) -> Result:
        self.left -= 1
        return Result(1.0, self.left == 0, False)

    def view(self) -> View:
        seen = super().view()
        return seen._replace(available=seen.available & (self.left > 0))


@pytest.mark.parametrize("value", ["double", "soft_mellowmax"])
def test_a_game_that_is_over_needs_to_offer_nothing(value: Any) -> None:
    """The value after a termination counts 0 times: it must be a number."""
    algorithm = QMIXConfig(hidden=8, batch_episodes=4, next_value=value)
    experiment = TeamExperiment(
        config(evaluate_every=0, steps=200, algorithm=algorithm),
        0,
        lambda copies, seed: Copies(Closing, copies, seed),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of targets beyond the largest return
        losses = [r["loss"] for r in run(experiment) if r["kind"] == "train" and "loss" in r]
    assert losses
    assert np.isfinite(losses).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"train_every": 0}, "train_every must be at least 1"),
        ({"epsilon_last": 2.0}, r"epsilon_last must lie in \[0, 1\]"),
        ({"environment": "chess"}, "there is no multi-agent environment 'chess'"),
    ],
)
def test_numbers_that_cannot_work(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**fields).build(0)
    with pytest.raises(ValueError, match="the seed must be an integer"):
        config().build(-1)
