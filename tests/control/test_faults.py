from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from small_runs import SMALL, config, count_experiment, run

from thrifty.control import ControlConfig, ReplayConfig, SACConfig, SparsityConfig
from thrifty.rl.environments import EnvironmentFault
from toy_environments import Count, Faulty


@pytest.mark.parametrize("what", ["reward", "observation"])
def test_a_fault_of_the_environment_names_the_step(what: str) -> None:
    experiment = count_experiment(source=Faulty(what))
    with pytest.raises(EnvironmentFault, match=f"{what} that is not finite at step 8"):
        run(experiment)


def test_a_fault_in_an_evaluation_is_told_as_such() -> None:
    # Episodes of five steps: the eighth step is the third of the second episode.
    experiment = count_experiment(source=partial(Faulty, "reward"), random_episodes=2)
    with pytest.raises(EnvironmentFault, match=r"^evaluation after 0 steps: .* at step 3: "):
        run(experiment)


class _Following(Count):
    """Pays the action, as many environments do."""

    def step(self, action: Any) -> Any:
        seen, _, *rest = super().step(action)
        return seen, float(action[0]), *rest


def test_a_diverged_policy_is_not_the_environments_fault() -> None:
    experiment = count_experiment(source=_Following, learning_starts=3)
    records = experiment.records()
    while experiment.step < 6:
        next(records)
    with torch.no_grad():
        experiment.learner.networks()["actor"].module.net[0].weight.fill_(torch.nan)
    with pytest.raises(EnvironmentFault, match=r"policy chose .* at step 7: training has diverged"):
        for _ in records:
            pass


@pytest.mark.parametrize("fields", [{"evaluate_every": 10}, {"random_episodes": 2}])
def test_evaluation_needs_an_environment_of_its_own(fields: dict[str, int]) -> None:
    for source in (Count(), SyncVectorEnv([Count])):
        with pytest.raises(ValueError, match=r"give an id or a function|evaluate_every=0"):
            run(count_experiment(source=source, **fields))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "steps must be at least 1, got 0"),
    ({"learning_starts": -1}, "learning_starts"),
    ({"train_freq": 0}, "train_freq"),
    ({"gradient_steps": -2}, "gradient_steps"),
    ({"evaluate_every": -1}, "evaluate_every"),
    ({"evaluation_episodes": 0}, "evaluation_episodes"),
    ({"random_episodes": -1}, "random_episodes"),
    ({"record_every": 0}, "record_every"),
    ({"environments": 0}, "environments must be at least 1"),
    ({"environment": "NoSuchTask-v0"}, "NoSuchTask-v0"),
    ({"environment": "CartPole-v1"}, "continuous actions"),
    ({"replay": ReplayConfig(capacity=0)}, "capacity must be at least 1"),
    ({"environments": 4, "replay": ReplayConfig(capacity=3)}, "below the number of environments"),
    ({"replay": ReplayConfig(check_every=-1)}, "check_every"),
    ({"replay": ReplayConfig(minimum=0)}, "minimum"),
    ({"replay": ReplayConfig(oldest=0)}, "oldest"),
    ({"replay": ReplayConfig(cut=0.0)}, r"cut must lie in \(0, 1\)"),
    ({"replay": ReplayConfig(cut=1.0)}, r"cut must lie in \(0, 1\)"),
    ({"algorithm": {"batch_size": 0}}, "batch_size must be at least 1"),
    ({"algorithm": {"policy_delay": 0}}, "policy_delay must be at least 1"),
    ({"algorithm": {"n_step": 0}}, "n_step must be at least 1"),
    ({"algorithm": {"n_step_delay": -1}}, "n_step_delay"),
    ({"algorithm": {"learning_rate": -1e-3}}, "learning_rate"),
    ({"algorithm": {"learning_rate": float("nan")}}, "learning_rate"),
    ({"algorithm": {"exploration_noise": -0.1}}, "exploration_noise"),
    ({"algorithm": {"discount": 1.1}}, r"discount must lie in \[0, 1\]"),
    ({"algorithm": {"tau": -0.1}}, r"tau must lie in \[0, 1\]"),
    ({"algorithm": {"device": "cuda:99"}}, "device 'cuda:99' cannot be used here"),
    ({"algorithm": {"device": "abacus"}}, "device 'abacus' cannot be used here"),
    ({"algorithm": {"actor_hidden": (0,)}}, "layer widths"),
    ({"algorithm": {"activation": "rlu"}}, "unknown activation"),
    ({"algorithm": {"actor": SparsityConfig(sparsity=1.0)}}, r"sparsity must lie in \[0, 1\)"),
    ({"algorithm": {"critic": SparsityConfig(sparsity=-0.5)}}, r"sparsity must lie in \[0, 1\)"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_it_begins(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as problem:
        config(**fields).build(0)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"entropy_coefficient": -1.0}, "entropy_coefficient"),
        ({"entropy_coefficient": 0.0}, "start above 0"),
        ({"log_std_bounds": (2.0, -5.0)}, "log_std_bounds must rise"),
    ],
)
def test_what_cannot_work_for_sac(algorithm: dict[str, Any], message: str) -> None:
    fields = {f.name: getattr(config(), f.name) for f in dataclasses.fields(ControlConfig)}
    fields["algorithm"] = SACConfig(**SMALL, **algorithm)
    with pytest.raises(ValueError, match=message):
        ControlConfig(**fields).build(0)
