from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from small_runs import SMALL, SPARSE, config, count_experiment, of_kind, run

from thrifty.control import ControlConfig, ControlExperiment, ReplayConfig, SACConfig
from thrifty.recipes import rlx2
from toy_environments import Count


def test_records_of_a_run_in_order() -> None:
    experiment = ControlExperiment(
        config(steps=25, evaluate_every=10, random_episodes=2, evaluation_episodes=3), 0, Count
    )
    yields = list(experiment.records())
    records = [record for record in yields if record is not None]
    assert [(record["kind"], record["step"]) for record in records] == [
        ("start", 0),
        ("random_policy", 0),
        ("evaluation", 0),
        ("train", 10),
        ("evaluation", 10),
        ("train", 20),
        ("evaluation", 20),
        ("evaluation", 25),
        ("end", 25),
    ]
    # One yield per record, and one None after every other piece of work: 25 steps, 15 updates,
    # 2 random and 4 * 3 evaluation episodes of which 1 + 4 made a record, 2 progress records.
    nothing_new = 25 + 15 + (2 - 1) + (12 - 4)
    assert yields.count(None) == nothing_new + 1  # and the last step's end, which wants evaluation
    start, control, evaluation = records[:3]
    assert (start["algorithm"], start["environment"], start["steps"]) == (
        "TD3",
        "the environment",
        25,
    )
    assert control["returns"] == [15.0, 15.0]  # 1 + ... + 5
    assert (evaluation["returns"], evaluation["lengths"]) == ([15.0] * 3, [5] * 3)
    assert (evaluation["return_mean"], evaluation["return_std"]) == (15.0, 0.0)
    assert (records[-1]["return_mean"], records[-1]["return_std"]) == (15.0, 0.0)
    assert run(experiment) == []  # nothing is left


def test_progress_records_by_hand() -> None:
    experiment = count_experiment(steps=30)
    first, second, third = of_kind(run(experiment), "train")
    # Episodes of 5 steps that pay 15. Ten steps of warm-up, then one update a step.
    assert (first["updates"], first["episodes"], first["return"]) == (0, 2, 15.0)
    assert (second["updates"], second["episodes"]) == (10, 4)
    assert (third["updates"], third["buffer_size"]) == (20, 30)
    assert "critic_loss" not in first
    assert np.isfinite([second["critic_loss"], second["actor_loss"]]).all()
    assert third["sparsity"] == third["actor_sparsity"] == third["critic_sparsity"] == 0.0


def test_no_finished_episode_is_no_return() -> None:
    records = run(count_experiment(source=lambda: Count(25), steps=40))
    assert [r["return"] for r in of_kind(records, "train")] == [None, None, 325.0, None]


def test_losses_are_averaged_since_the_last_record() -> None:
    experiment = count_experiment(steps=30)
    seen: dict[str, list[float]] = {"critic_loss": [], "actor_loss": []}
    update = experiment.learner.update

    def listening(batch: Any) -> Any:
        answer = update(batch)
        for name, value in answer[0].items():
            seen[name].append(value)
        return answer

    experiment.learner.update = listening  # type: ignore[method-assign]
    _, second, third = of_kind(run(experiment), "train")
    assert second["critic_loss"] == pytest.approx(np.mean(seen["critic_loss"][:10]))
    assert third["critic_loss"] == pytest.approx(np.mean(seen["critic_loss"][10:]))
    assert third["actor_loss"] == pytest.approx(np.mean(seen["actor_loss"][5:]))  # every second


@pytest.mark.parametrize(
    ("environments", "train_freq", "gradient_steps", "updates"),
    [
        (1, 1, -1, 30),  # 30 steps after the warm-up
        (1, 1, 2, 60),
        (1, 4, -1, 32),  # at steps 12, 16, ..., 40, four each
        (1, 4, 1, 8),
        (3, 1, -1, 30),  # steps 13, 16, ..., 42 (the first past 40): 10 rounds of 3
        (3, 2, 1, 5),  # every second of the 14 rounds, those after the warm-up: 10 .. 42
        (1, 1, 0, 0),
    ],
)
def test_updates_per_step(
    environments: int, train_freq: int, gradient_steps: int, updates: int
) -> None:
    experiment = count_experiment(
        environments=environments, train_freq=train_freq, gradient_steps=gradient_steps
    )
    run(experiment)
    assert experiment.step == (40 if environments == 1 else 42)
    assert experiment.learner.updates == updates


def test_several_environments_pass_intervals() -> None:
    records = run(count_experiment(environments=3, record_every=10, steps=30))
    # Steps 3, 6, 9, 12, ...: the first at or past 10, 20, 30.
    assert [record["step"] for record in of_kind(records, "train")] == [12, 21, 30]


def test_nothing_is_learned_from_a_replay_of_resets_alone() -> None:
    # Both copies end after five steps and reset in the sixth; the replay holds one step.
    source = SyncVectorEnv([Count, Count], autoreset_mode=AutoresetMode.NEXT_STEP)
    replay = ReplayConfig(capacity=2)
    experiment = count_experiment(source=source, steps=24, learning_starts=0, replay=replay)
    run(experiment)
    assert experiment.learner.updates == 2 * (12 - 2)


def test_warm_up_is_uniform_over_the_bounds_and_then_the_policy_acts() -> None:
    count = Count(low=1.0, high=3.0)
    experiment = count_experiment(
        source=count, steps=320, learning_starts=300, algorithm={"exploration_noise": 0.0}
    )
    quiet: list[np.ndarray] = []
    act = experiment.learner.act

    def listening(observation: Any, *, explore: bool) -> Any:
        quiet.append(act(observation, explore=explore)[1])
        return act(observation, explore=explore)

    experiment.learner.act = listening  # type: ignore[method-assign]
    run(experiment)
    taken = np.array(count.actions)[:, 0]
    warm = taken[:300]
    # Uniform in [1, 3]: the mean's standard error is 0.577 / sqrt(300) = 0.033.
    assert abs(warm.mean() - 2.0) < 0.17
    assert warm.min() < 1.1
    assert warm.max() > 2.9
    assert np.allclose(taken[300:], 2.0 + np.array(quiet)[:, 0, 0])
    stored = experiment.replay.rows(0, 320)
    # Columns: observation 2, next observation 2, action, policy action, ...: in warm-up the same.
    assert np.array_equal(stored[:300, 4], stored[:300, 5])
    assert np.allclose(2.0 + stored[:, 4], taken)


@pytest.mark.parametrize("scale", ["action", "pre_tanh"])
def test_sac_scales_the_action_or_the_published_way_before_the_tanh(scale: Any) -> None:
    algorithm = SACConfig(**SMALL, action_scale=scale, pre_tanh_scale=4.0)
    fields = {f.name: getattr(config(), f.name) for f in dataclasses.fields(ControlConfig)}
    fields |= {"algorithm": algorithm, "learning_starts": 0, "steps": 3}
    count = Count(low=-4.0, high=4.0)
    experiment = ControlExperiment(ControlConfig(**fields), 0, count)
    experiment.learner.update = lambda batch: ({}, {})  # type: ignore[method-assign]
    actor = experiment.learner.networks()["actor"].module
    with torch.no_grad():
        raw = actor.net(torch.from_numpy(experiment.environments.observation))[0, 0].item()
    experiment.learner.generator.manual_seed(1)  # type: ignore[attr-defined]
    noise = torch.randn(1, 1, generator=torch.Generator().manual_seed(1)).item()
    next(r for r in experiment.records() if r is None)
    log_std = actor.distribution(torch.tensor([[0.0, count.seen()[1]]]))[1].item()
    if scale == "action":
        assert count.actions[0].item() == pytest.approx(
            4.0 * np.tanh(raw + np.exp(log_std) * noise)
        )
    else:
        expected = np.tanh(4.0 * raw + np.exp(log_std) * noise)
        assert count.actions[0].item() == pytest.approx(expected, rel=1e-5)


def test_start_tells_layers_and_ledger() -> None:
    experiment = count_experiment(
        algorithm={"actor": SPARSE, "critic": SPARSE}, backend="reference"
    )
    start = next(iter(experiment.records()))
    assert start is not None
    layers = {(r["network"], r["layer"]): r for r in start["layers"]}
    assert list(layers) == [
        ("actor", "net.0.weight"),
        ("actor", "net.2.weight"),
        ("critic", "q1.0.weight"),
        ("critic", "q1.2.weight"),
        ("critic", "q2.0.weight"),
        ("critic", "q2.2.weight"),
    ]
    assert layers["actor", "net.0.weight"]["shape"] == [6, 2]
    for row in start["layers"]:
        assert row["sparsity"] == pytest.approx(1 - row["nnz"] / np.prod(row["shape"]))
    # Actor 12 + 6 = 18 weights, each critic 18 + 6 = 24; half of them; targets count as well.
    assert start["ledger"]["parameters"] == {"dense": 132, "sparse": 66, "ratio": 0.5}
    assert experiment.sparsity() == {"actor": 0.5, "critic": 0.5, "all": 0.5}
    assert (start["device"], start["backend"]) == ("cpu", "reference")


def test_topology_records_count_each_networks_own_steps() -> None:
    experiment = count_experiment(
        algorithm={"actor": SPARSE, "critic": SPARSE, "policy_delay": 2}, steps=40
    )
    records = of_kind(run(experiment), "topology")
    # 30 updates from step 11 on; the actor makes every second of them.
    assert [(r["step"], r["update"]) for r in records if r["network"] == "critic"] == [
        (10 + update, update) for update in (5, 10, 15, 20, 25, 30)
    ]
    assert [(r["step"], r["update"]) for r in records if r["network"] == "actor"] == [
        (10 + 2 * update, update) for update in (5, 10, 15)
    ]
    for record in records:
        assert record["drop_fraction"] == pytest.approx(
            0.25 * (1 + np.cos(np.pi * record["update"] / 1000))
        )
        assert 0 < record["survival"] <= 1
        for change in record["layers"].values():
            assert change["dropped"] == change["grown"] >= change["regrown"]
    assert records[-1]["survival"] < 1


def test_the_switch_to_longer_windows_is_told_once() -> None:
    records = run(count_experiment(algorithm={"n_step": 3, "n_step_delay": 15}))
    # Update 15 is made after step 10 + 15.
    switches = of_kind(records, "n_step")
    assert switches == [{"kind": "n_step", "step": 25, "n_step": 3}]
    assert [r["n_step"] for r in of_kind(records, "train")] == [1, 1, 3, 3]


@pytest.mark.parametrize("n", [1, 3])
def test_windows_have_the_length_that_the_learner_wants(n: int) -> None:
    experiment = count_experiment(algorithm={"n_step": n, "n_step_delay": 5}, steps=20)
    lengths = []
    update = experiment.learner.update

    def listening(batch: Any) -> Any:
        lengths.append(len(batch.path_discount))
        return update(batch)

    experiment.learner.update = listening  # type: ignore[method-assign]
    run(experiment)
    assert lengths == [1] * 4 + [n] * 6


@pytest.mark.parametrize("shrink", ["until_accepted", "once"])
def test_the_capacity_rule_in_a_run(shrink: Any) -> None:
    rule = ReplayConfig(
        capacity=100, check_every=10, minimum=20, threshold=0.0, oldest=5, shrink=shrink
    )
    experiment = count_experiment(steps=50, learning_starts=5, replay=rule)
    records = of_kind(run(experiment), "buffer")
    assert [record["step"] for record in records] == [10, 20, 30, 40, 50]
    # Distances never are 0. At steps 10 and 20 nothing is above the minimum of 20. Then 10 more
    # rows: cut back to 20 at once; or by a tenth at a time, 30 - 3 = 27, 37 - 3 = 34, 44 - 4 = 40.
    assert all(record["distance"] > 0 for record in records)
    assert [record["size"] for record in records] == (
        [10, 20, 20, 20, 20] if shrink == "until_accepted" else [10, 20, 27, 34, 40]
    )
    assert len(experiment.replay) == records[-1]["size"]
    if shrink == "once":
        assert [record["cuts"] for record in records] == [0, 0, 1, 1, 1]


def test_a_check_interval_of_zero_never_checks() -> None:
    assert of_kind(run(count_experiment()), "buffer") == []


def test_equal_seeds_give_equal_records() -> None:
    algorithm = {"actor": SPARSE, "critic": SPARSE, "n_step": 2, "n_step_delay": 8}
    one, two, other = (
        run(ControlExperiment(config(algorithm, random_episodes=1, evaluate_every=20), seed))
        for seed in (0, 0, 1)
    )
    assert one == two
    assert one != other


def test_global_randomness_is_neither_used_nor_changed() -> None:
    algorithm = {"actor": SPARSE, "critic": SPARSE}
    one = run(ControlExperiment(config(algorithm, random_episodes=1), 0))
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    expected = torch.rand(2), np.random.rand(2)  # noqa: NPY002
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002
    assert run(ControlExperiment(config(algorithm, random_episodes=1), 0)) == one
    assert torch.equal(torch.rand(2), expected[0])
    assert np.array_equal(np.random.rand(2), expected[1])  # noqa: NPY002


def test_evaluation_does_not_disturb_training() -> None:
    plain = ControlExperiment(config(), 0)
    watched = ControlExperiment(config(evaluate_every=5, evaluation_episodes=1), 0)
    one, two = run(plain), run(watched)
    assert of_kind(one, "train") == of_kind(two, "train")
    assert np.array_equal(plain.replay.rows(0, 40), watched.replay.rows(0, 40))


def test_going_on_beyond_the_planned_end() -> None:
    replay = ReplayConfig(capacity=40)
    experiment = count_experiment(steps=20, replay=replay)
    whole = count_experiment(steps=40, replay=replay)
    first = run(experiment)
    experiment.extend(20, 0)
    second = run(experiment)
    both = [r for r in first + second if r["kind"] == "train"]
    assert both == of_kind(run(whole), "train")
    assert [r["step"] for r in of_kind(first + second, "end")] == [20, 40]


def test_an_update_is_a_piece_of_work_of_its_own() -> None:
    experiment = count_experiment(steps=20, gradient_steps=7)
    records = experiment.records()
    while experiment.learner.updates < 3:
        next(records)
    # Between the 3rd and the 4th update of the first round: stop, go on elsewhere.
    other = count_experiment(steps=20, gradient_steps=7)
    other.load_state_dict(copy.deepcopy(experiment.state_dict()))
    assert [r for r in records if r] == [r for r in other.records() if r]
    assert experiment.learner.updates == 70


def test_a_tiny_agent_is_compared_with_the_full_dense_one() -> None:
    tiny, sparse = rlx2.tiny("Pendulum-v1", 2_000), rlx2.td3("Pendulum-v1", 2_000)
    ledger, other = (c.build(0).learner.ledger() for c in (tiny, sparse))
    assert ledger["parameters"]["dense"] == other["parameters"]["dense"]
    assert ledger["training_flops"]["dense"] == other["training_flops"]["dense"]
    assert ledger["parameters"]["ratio"] == pytest.approx(other["parameters"]["ratio"], rel=0.05)
