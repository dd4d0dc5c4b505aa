"""The queue of one million steps and its table: the right runs, known again, added up by hand."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from thrifty import flags
from thrifty.recipes.rlx2 import published_sparsity
from thrifty.report import load_run
from thrifty.report.claims import read_claims
from thrifty.runs import Run
from thrifty.runs.local_pool import LocalPool
from thrifty.runs.naming import resolve
from thrifty.runs.sweep import run_sweep, standing_of
from thrifty.sweeps.plan import read_seeds, read_settings
from thrifty.sweeps.verb import sweep

RECIPES = "thrifty.recipes"
SCRIPTS = Path(__file__).resolve().parents[1] / "results" / "rlx2"
NAMES = ("summarise", "claim_rows", "agents_1m", "evidence_1m", "queue_1m", "table_1m")


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The scripts as modules that import each other, gone again after the test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name, None)


def test_the_queue_holds_what_is_asked_for_once_and_is_balanced_wherever_it_stops(
    scripts: Any,
) -> None:
    queue = scripts.queue_1m.queue()
    assert len(queue) == len(set(queue)) == 3 * (7 + 7 + 4 + 4)
    assert [seed for *_, seed in queue] == [0] * 22 + [1] * 22 + [2] * 22
    assert queue[22:44] == [(agent, task, 1) for agent, task, _ in queue[:22]]
    tasks = [task for _, task, _ in queue[:22]]
    assert sorted(tasks, key=tasks.index) == tasks  # one environment after the other
    found = {task: {agent for agent, one, _ in queue if one == task} for task in tasks}
    alone = {"set_plus", "static_plus", "rigl_n_step", "rigl_replay"}
    sac = {"sac", "sac_rigl", "sac_dense"}
    assert found["HalfCheetah-v5"] == found["Hopper-v5"] == alone | sac
    assert found["Walker2d-v5"] == found["Ant-v5"] == {"td3", "rigl", "static_plus", "dense"}


# Recipe's topology, and which of the two tricks are on.
EXPECTED = {
    "td3": ("gradient", True, True),
    "rigl": ("gradient", False, False),
    "rigl_n_step": ("gradient", True, False),
    "rigl_replay": ("gradient", False, True),
    "set_plus": ("random", True, True),
    "static_plus": (None, True, True),
    "sac": ("gradient", True, True),
    "sac_rigl": ("gradient", False, False),
}


def test_every_run_is_what_its_name_says_and_is_known_again(scripts: Any, tmp_path: Path) -> None:
    for entry in scripts.queue_1m.queue()[:22]:
        agent, task, _ = entry
        run = scripts.queue_1m.run_of(entry, tmp_path)
        config = run.config.resolved()
        learner = "sac" if agent.startswith("sac") else "td3"
        assert type(config.algorithm).__name__ == f"{learner.upper()}Config"
        assert (config.environment, config.evaluate_every) == (task, 5_000)
        assert config.learning_starts == 8_333  # a 120th of a million, dense runs too
        networks = (config.algorithm.actor, config.algorithm.critic)
        if agent.endswith("dense"):
            assert (config.steps, config.backend) == (300_000, "reference")
            assert [one.sparsity for one in networks] == [0.0, 0.0]
            assert (config.algorithm.n_step, config.replay.check_every) == (1, 0)
        else:
            grow, n_step, replay = EXPECTED[agent]
            assert (config.steps, config.backend) == (1_000_000, "engine")
            assert tuple(one.sparsity for one in networks) == published_sparsity(task, learner)
            assert (config.algorithm.n_step, config.replay.check_every) == (
                3 if n_step else 1,
                3_333 if replay else 0,
            )
            assert config.algorithm.n_step_delay == 100_000
            for one in networks:
                assert one.update_until == 0 if grow is None else one.grow == grow
        folder = run.directory
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(run.document()))
        assert scripts.agents_1m.agent_of(load_run(folder)) == agent


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "rlx2.demo"},
        {"overrides": ["--algorithm.n-step", "5"]},
        {"overrides": ["--algorithm.critic.sparsity", "0.5", "--backend", "engine"]},
        {"steps": 999},  # its time constants are others
    ],
)
def test_other_runs_are_none_of_these(change: dict[str, Any], scripts: Any, tmp_path: Path) -> None:
    run = scripts.queue_1m.run_of(("td3", "Ant-v5", 0), tmp_path)
    document = run.document() | change
    document["config"]["steps"] = document.pop("steps", 1_000_000)
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert scripts.agents_1m.agent_of(load_run(tmp_path)) is None


def test_a_small_queue_is_done_once_collected_and_not_begun_again(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, copies = tmp_path / "runs", tmp_path / "copies"
    entries = [("rigl_replay", "Pendulum-v1", 0), ("dense", "Pendulum-v1", 0)]
    runs = [scripts.queue_1m.run_of(entry, out, steps=240, dense_steps=180) for entry in entries]
    jobs = scripts.queue_1m.jobs_of(runs, copies)
    assert [standing_of(job) for job in jobs] == ["new"] * 2
    outcome = run_sweep(jobs, LocalPool(), workers=1)
    assert (outcome.counts["done"], outcome.failures) == (2, ())
    begun = [load_run(run.directory).first("start") for run in runs]
    assert [one["backend"] for one in begun] == ["engine", "reference"]
    monkeypatch.setattr(scripts.evidence_1m, "RUNS", copies)
    scripts.evidence_1m.collect(out)
    monkeypatch.setattr(scripts.agents_1m, "FINAL", 240)
    monkeypatch.setattr(scripts.agents_1m, "COMPARED", 180)
    found = scripts.evidence_1m.copies()["Pendulum-v1"]
    assert {agent: len(own) for agent, own in found.items()} == {"rigl_replay": 1, "dense": 1}
    # Elsewhere, with the copies alone, nothing is run again; another seed is.
    elsewhere = [
        dataclasses.replace(run, directory=tmp_path / "x" / run.directory.name) for run in runs
    ]
    assert scripts.queue_1m.jobs_of(elsewhere, copies) == []
    (copies / runs[0].directory.name / "DONE").unlink()
    assert len(scripts.queue_1m.jobs_of(elsewhere, copies)) == 1
    # A copy of a run with another configuration is no reason to leave this one out.
    other = scripts.queue_1m.run_of(entries[1], out, steps=240, dense_steps=190)
    with pytest.raises(ValueError, match="holds another run"):
        scripts.queue_1m.jobs_of([other], copies)


def write_copy(
    scripts: Any, folder: Path, entry: tuple[str, str, int], returns: dict[int, float]
) -> None:
    run = scripts.queue_1m.run_of(entry, folder)
    run.directory.mkdir(parents=True, exist_ok=True)
    (run.directory / "config.json").write_text(json.dumps(run.document()))
    records = [
        {"kind": "evaluation", "step": step, "return_mean": value, "wall_cpu_seconds": 360.0}
        for step, value in returns.items()
    ]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (run.directory / "records.jsonl").write_text(lines)


def test_the_table_by_hand(scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = "Hopper-v5"
    for agent, seed, returns in (
        ("dense", 0, {300_000: 400.0}),
        ("td3", 0, {300_000: 300.0, 1_000_000: 2100.0}),  # mean of its last ten: 1,200
        ("td3", 1, {300_000: 500.0}),  # not there yet
        ("set_plus", 0, {300_000: 200.0, 1_000_000: 400.0}),  # 300
        ("rigl_n_step", 2, {250_000: 9.0}),  # begun
    ):
        write_copy(scripts, tmp_path / "runs-1m", (agent, task, seed), returns)
    monkeypatch.setattr(scripts.evidence_1m, "RUNS", tmp_path / "runs-1m")
    tasks = scripts.evidence_1m.copies()
    lines = scripts.table_1m.table(tasks)
    assert len(lines) == 2 + 4 * 17  # whatever was run, every agent on every environment
    rows = {line.split(" | ")[1]: line for line in lines if line.startswith(f"| {task} ")}
    assert rows["dense TD3"].endswith("| 400, 1 of 3 seeds | 100 % | 100.0 | - | - | 103.1 |")
    # 300 and 500 over 400; the second seed has no return at a million steps.
    assert "| 400 [300, 500], 2 of 3 seeds | 100 % | 97.0 |" in rows["RLx2-TD3"]
    assert rows["RLx2-TD3"].endswith("| 1200, 1 of 3 seeds | 100 % | 100.0 |")
    assert rows["SET with both tricks"].endswith(
        "| 200, 1 of 3 seeds | 50 % | 88.8 | 300, 1 of 3 seeds | 25 % | 91.5 |"
    )
    assert rows["RigL with multi-step targets alone"].endswith(
        "| not yet | - | - | not yet | - | - |"
    )
    assert rows["RigL, SAC"].endswith("| not run | - | 110.0 | not run | - | 100.3 |")
    # The claims: fewer seeds than planned decide nothing.
    path = tmp_path / "claims.toml"
    path.write_text("\n".join(scripts.table_1m.claims(tasks)))
    assert {one.status for one in read_claims(path)} == {"not run"}
    # With three, (1,200 + 1,500 + 1,800) / 3 - 300, and what has not been run.
    for seed in (1, 2):
        write_copy(
            scripts,
            tmp_path / "runs-1m",
            ("td3", task, seed),
            {300_000: 500.0, 1_000_000: 2500.0 + 600 * (seed - 1)},
        )
        write_copy(scripts, tmp_path / "runs-1m", ("set_plus", task, seed), {1_000_000: 300.0})
    path.write_text("\n".join(scripts.table_1m.claims(scripts.evidence_1m.copies())))
    claims = {one.claim: one for one in read_claims(path)}
    (one,) = [claim for claim in claims.values() if claim.status != "not run"]
    assert (
        one.claim
        == "RLx2-TD3 is not below SET with both tricks at equal sparsity on Hopper-v5, 1M steps"
    )
    assert (one.measured, one.seeds) == (1200.0, (0, 1, 2))
    assert one.runs == tuple(
        f"runs-1m/{agent}-Hopper-v5-{seed}" for agent in ("td3", "set_plus") for seed in range(3)
    )


def test_the_summary_says_what_has_not_been_run(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence = scripts.evidence_1m
    monkeypatch.setattr(evidence, "HERE", tmp_path)
    monkeypatch.setattr(evidence, "RUNS", tmp_path / "runs-1m")
    write_copy(scripts, tmp_path / "runs-1m", ("td3", "Hopper-v5", 0), {300_000: 300.0})
    sessions = [{"commit": one} for one in ("aaaaaaaaaa", "bbbbbbbbbb (modified)", "aaaaaaaaaa")]
    document = {"hardware": {"cpu": "x", "cores": 2}, "sessions": sessions}
    path = tmp_path / "runs-1m" / "td3-Hopper-v5-0" / "environment.json"
    path.write_text(json.dumps(document))
    evidence.summarise(claims=False)
    lines = (tmp_path / "summary_1m.md").read_text().splitlines()
    assert len([line for line in lines if "not run" in line]) == 7  # of 4 agents, 2 environments
    assert "| HalfCheetah-v5 | dense TD3 | not run | - | - | - |" in lines
    assert "| Hopper-v5 | RigL | not run | - | not run | - |" in lines
    assert any(line.startswith("| Hopper-v5 | RLx2-TD3 | 300, 1 of 3 seeds |") for line in lines)
    assert "![Return on Hopper-v5 over steps](curves_1m_Hopper-v5.png)" in lines
    assert not any("HalfCheetah-v5.png" in line for line in lines)  # nothing to draw
    (line,) = [line for line in lines if line.startswith("| td3-Hopper-v5-0")]
    assert line == "| td3-Hopper-v5-0 | 300,000 | no | 0.10 | aaaaaaaa, bbbbbbbb (modified) |"


def test_the_scripts_and_the_sweeps_of_the_page_are_the_whole_table(
    scripts: Any, tmp_path: Path
) -> None:
    """Every agent on every environment, each once; nothing that would be no row of it."""
    page = (SCRIPTS.parents[1] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    found = [(agent, task) for agent, task, _ in scripts.queue_1m.queue()[:22]]
    found += [  # run_1m.sh
        (agent, task)
        for agent in ("td3", "rigl", "static", "dense")
        for task in ("HalfCheetah-v5", "Hopper-v5")
    ]
    for line in re.findall(r"^thrifty (sweep rlx2.*|sweep \"rlx2.*)$", page, re.MULTILINE):
        _, *words = shlex.split(line)
        call = flags.read_call(sweep, words, prog="thrifty sweep")
        assert read_seeds(call.keywords["seeds"]) == [0, 1, 2]
        for chosen in read_settings(call.keywords["settings"]):
            for words in map(shlex.split, call.args[0]):
                recipe, *told = words
                told += [word for name, value in chosen for word in (f"--{name}", value)]
                command = flags.read_train(resolve(recipe, RECIPES), told, prog="test")
                run = Run(
                    recipe=recipe,
                    arguments=command.arguments,
                    config=command.config,
                    seed=0,
                    directory=tmp_path,
                    overrides=command.overrides,
                )
                (tmp_path / "config.json").write_text(json.dumps(run.document()))
                found.append((scripts.agents_1m.agent_of(load_run(tmp_path)), dict(chosen)["env"]))
    agents, tasks = scripts.agents_1m.AGENTS, scripts.agents_1m.ENVIRONMENTS
    assert Counter(found) == dict.fromkeys(itertools.product(agents, tasks), 1)


def test_the_claims_file_holds_a_row_for_each(scripts: Any, tmp_path: Path) -> None:
    path = tmp_path / "claims.toml"
    path.write_text("\n".join(scripts.table_1m.claims({})))
    rows = read_claims(path)
    told = [one.claim for one in read_claims(SCRIPTS / "claims.toml")]
    assert {one.status for one in rows} == {"not run"}
    assert [told.count(one.claim) for one in rows] == [1] * len(rows)
    # Nothing is claimed that the paper's own figures contradict.
    for one in rows:
        if " against " in one.where:
            ours, theirs = one.where.split(": ")[1].split(" % ")[0].split(" against ")
            assert float(ours) >= float(theirs)


@pytest.mark.parametrize("script", ["run.sh", "run_1m.sh"])
def test_what_is_finished_is_collected_where_a_run_fails(script: str, tmp_path: Path) -> None:
    for name, body in (("thrifty", "exit 1"), ("python", f'echo "$@" >> {tmp_path}/calls')):
        command = tmp_path / name
        command.write_text(f"#!/bin/bash\n{body}\n")
        command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        [SCRIPTS / script, tmp_path / "runs"], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 123  # of xargs: a command failed
    collected = [line.split()[0] for line in (tmp_path / "calls").read_text().splitlines()]
    assert {Path(call).stem for call in collected} >= (
        {"summarise", "demo"} if script == "run.sh" else {"evidence_1m"}
    )
