"""Agents by the command line: trained, evaluated, reported, exported, measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thrifty import bench, sparse_policy
from thrifty.agents.stored import load_run_policy
from thrifty.bench.schema import Row

Command = Callable[..., tuple[int, str, str]]
# Small enough for a test, still with updates, an evaluation and a topology that moves.
SMALL = [
    *("--env", "Pendulum-v1", "--steps", "60", "--learning-starts", "10"),
    *("--random-episodes", "1", "--evaluation-episodes", "1", "--record-every", "20"),
    *("--algorithm.batch-size", "8", "--algorithm.critic.update-every", "10"),
    *("--algorithm.actor-hidden", "16", "--algorithm.critic-hidden", "16", "--quiet"),
]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_words: Command) -> Command:
    """Run a command line in an empty folder; returns exit status, stdout, stderr."""
    monkeypatch.syspath_prepend(tmp_path)  # what main adds to sys.path is taken away with it
    monkeypatch.chdir(tmp_path)
    return run_words


def test_bench_prints_and_writes(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(case="c", implementation="i", metric="m", statistic="low", value=1.5, unit="us")
    monkeypatch.setattr(bench, "find", lambda name: lambda: [row])
    status, out, _ = command("bench", "env_loop", "--json", "out.json")
    assert status == 0
    assert "1.5 us" in out
    document = json.loads(Path("out.json").read_text())
    assert document["command"] == "thrifty bench env_loop --json out.json"
    assert [entry["value"] for entry in document["rows"]] == [1.5]
    assert command("bench", "list")[1].split() == bench.names()
    assert {"env_loop", "td3", "sac", "loop", "kernels", "policy"} <= set(bench.names())


def test_training_on_the_engine_and_exporting(command: Command) -> None:
    status, _, err = command("train", "rlx2.td3", *SMALL, "--backend", "engine", "--out", "runs/x")
    assert status == 0, err
    start = json.loads(Path("runs/x/records.jsonl").read_text().splitlines()[0])
    assert start["backend"] == "engine"
    status, out, err = command("export", "runs/x", "--out", "policy.npz")
    assert status == 0, err
    assert out.startswith("written: policy.npz, ")
    policy = sparse_policy.load("policy.npz")
    agent = load_run_policy("runs/x")
    observation = np.linspace(-1, 1, 3, dtype=np.float32)
    action, _ = agent.predict(observation, deterministic=True)
    np.testing.assert_allclose(policy(observation), action, atol=1e-5)


def test_train_evaluate_and_report_an_agent(command: Command) -> None:
    status, _, err = command("train", "rlx2.td3", *SMALL, "--out", "runs/x")
    assert (status, err) == (0, "")
    written = json.loads(Path("runs/x/config.json").read_text())
    assert written["arguments"] == {"environment": "Pendulum-v1", "steps": 60}
    assert written["config"]["algorithm"]["actor_hidden"] == [16]
    assert written["config"]["replay"]["capacity"] == 60  # the length of the run, resolved

    status, out, err = command("evaluate", "runs/x", "--episodes", "2")
    assert (status, err) == (0, "")
    told = re.search(r"Pendulum-v1: mean return (-\d+\.\d) .*2 episodes", out)
    assert told is not None
    assert -2000 < float(told[1]) < 0  # Pendulum's reward lies in [-16.3, 0] for each of 200 steps

    status, out, err = command("report", "runs/x", "--out", "page.html")
    assert (status, out, err) == (0, "report: page.html\n", "")
    assert "<html" in Path("page.html").read_text(encoding="utf-8")


def test_the_demo_trains_and_reports(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from thrifty.bench import demo, schema
    from thrifty.recipes import rlx2

    short, measured = rlx2.demo, []

    def measure() -> list[schema.Row]:
        measured.append(1)
        values = {demo.AGENT: 0.5, demo.DENSE: 6.0}
        common = {"case": "c", "metric": demo.METRIC, "statistic": "median", "unit": "ms"}
        return [schema.Row(implementation=n, value=v, **common) for n, v in values.items()]

    monkeypatch.setattr(rlx2, "demo", lambda: small(short("Pendulum-v1", 20)))
    monkeypatch.setattr(demo, "measure", measure)
    status, out, _ = command("demo", "--quiet")
    assert status == 0
    assert out.splitlines()[-1] == "report: runs/demo/report.html"
    # 20 steps of 6 ms.
    assert "dense twin would take</span><b>0.1 s" in Path("runs/demo/report.html").read_text()
    status, out, _ = command("demo", "--quiet")
    assert status == 0
    assert "runs/demo is finished already (20 steps)" in out
    assert out.splitlines()[-1] == "report: runs/demo/report.html"
    assert len(measured) == 1  # the file is there


def small(config: object) -> object:
    import dataclasses

    return dataclasses.replace(config, random_episodes=1, evaluation_episodes=1)  # type: ignore[type-var]
