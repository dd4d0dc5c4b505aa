"""Sweeps over the toy: everything is done once, whoever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dying import Dying
from toy_counter import Counter, make_run, result

from thrifty.runs import Run, execute, read_records
from thrifty.runs.claim import claim, is_busy
from thrifty.runs.local_pool import LocalPool
from thrifty.runs.records import last_records
from thrifty.runs.store import read_done
from thrifty.runs.sweep import FAILURE, Place, SweepOutcome, run_sweep, standing_of
from thrifty.runs.worker import Ending, Job

if not hasattr(os, "fork"):
    pytest.skip("needs signals and locks of POSIX", allow_module_level=True)


def job_of(config: Any, folder: Path, *, recipe: str = "toy_counter:counter", seed: int = 0) -> Job:
    run = Run(recipe=recipe, arguments={}, config=config, seed=seed, directory=folder)
    return Job(directory=str(folder), document=run.document(), namespace="thrifty.recipes")


def counting(folder: Path, **fields: Any) -> Job:
    return job_of(Counter(**fields), folder)


def dying(folder: Path, **fields: Any) -> Job:
    return job_of(Dying(**fields), folder, recipe="dying:dying")


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def sessions(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "environment.json").read_text())["sessions"]
    return found


class Scripted:
    """A launcher without processes: each job ends at once, as the next entry of its script says."""

    def __init__(self, **scripts: Sequence[str]) -> None:
        self.scripts = {name: list(script) for name, script in scripts.items()}
        self.started: list[str] = []
        self._now: list[Job] = []

    def start(self, job: Job) -> None:
        self.started.append(job.name)
        self._now.append(job)

    def ended(self) -> list[tuple[Job, Ending]]:
        jobs, self._now = self._now, []
        return [
            (job, Ending(kind=self.scripts[job.name].pop(0), message="why"))  # type: ignore[arg-type]
            for job in jobs
        ]

    def stop(self) -> None:
        raise AssertionError("nobody asked")

    def close(self) -> None:
        assert not self._now


def test_every_run_is_done_once_and_as_if_alone(tmp_path: Path) -> None:
    jobs = [job_of(Counter(), tmp_path / f"run{seed}", seed=seed) for seed in range(3)]
    assert [standing_of(job) for job in jobs] == ["new"] * 3
    outcome = run_sweep(jobs, LocalPool(), workers=2)
    assert (outcome.interrupted, outcome.counts["done"], outcome.failures) == (False, 3, ())
    for seed in range(3):
        execute(make_run(tmp_path / f"alone{seed}", seed=seed))
        assert result(tmp_path / f"run{seed}") == result(tmp_path / f"alone{seed}")
        assert [session["threads"] for session in sessions(tmp_path / f"run{seed}")] == [1]

    again = Scripted()
    assert run_sweep(jobs, again, workers=2).counts["done"] == 3
    assert again.started == []


def test_a_partial_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    execute(make_run(tmp_path / "x"), callbacks=[lambda record: record["step"] < 21])
    job = counting(tmp_path / "x")
    assert standing_of(job) == "stopped"
    (tmp_path / "x" / FAILURE).write_text("Traceback of an earlier attempt")
    assert run_sweep([job], LocalPool(), workers=1).counts["done"] == 1
    assert not (tmp_path / "x" / FAILURE).exists()
    assert [session["first_step"] for session in sessions(tmp_path / "x")] == [0, 21]
    execute(make_run(tmp_path / "whole"))
    assert result(tmp_path / "x") == result(tmp_path / "whole")


def test_a_killed_worker_is_replaced_and_nothing_is_lost(tmp_path: Path) -> None:
    once = tmp_path / "died"
    fields = {"dies_at": 30, "once": str(once)}
    jobs = [dying(tmp_path / "x", **fields), counting(tmp_path / "other")]
    outcome = run_sweep(jobs, LocalPool(), workers=1)
    assert outcome.counts["done"] == 2
    assert once.exists()
    assert len(sessions(tmp_path / "x")) == 2
    execute(make_run(tmp_path / "whole"))
    assert result(tmp_path / "x") == result(tmp_path / "whole")


def test_a_run_that_always_dies_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    jobs = [dying(tmp_path / "x", dies_at=3), counting(tmp_path / "other")]
    outcome = run_sweep(jobs, LocalPool(), workers=2, retries=1)
    assert outcome.counts == {"done": 1, "failed": 1}
    assert outcome.failures == (("x", "killed by SIGKILL"),)
    assert len(sessions(tmp_path / "x")) == 2  # the first attempt and one retry


def test_a_run_that_calls_exit_has_died(tmp_path: Path) -> None:
    jobs = [dying(tmp_path / "x", dies_at=3, leaves=True), counting(tmp_path / "other")]
    outcome = run_sweep(jobs, LocalPool(), workers=1, retries=0)
    assert outcome.counts == {"done": 1, "failed": 1}
    assert outcome.failures == (("x", "exit status 0"),)


@pytest.mark.parametrize(
    ("script", "starts", "standing"),
    [
        (["done"], 1, "done"),
        (["died", "died", "done"], 3, "done"),
        (["died", "died", "died"], 3, "failed"),  # two retries
        (["stopped", "died", "stopped"], 3, "failed"),  # somebody else's signal counts as well
        (["failed"], 1, "failed"),  # refused with a reason: it would be refused again
    ],
)
def test_retries_are_bounded(script: list[str], starts: int, standing: str, tmp_path: Path) -> None:
    launcher = Scripted(x=script)
    outcome = run_sweep([counting(tmp_path / "x")], launcher, workers=1, retries=2)
    assert (len(launcher.started), dict(outcome.counts)) == (starts, {standing: 1})


@pytest.mark.parametrize("ending", ["stopped", "died"])
def test_a_run_that_ends_because_the_sweep_stops_has_not_failed(
    ending: str, tmp_path: Path
) -> None:
    """Also without retries: submitit, for one, reports a cancelled job as a failed one."""

    class Cancelled(Scripted):
        def ended(self) -> list[tuple[Job, Ending]]:
            return super().ended() if self.asked else []

        asked = False

        def stop(self) -> None:
            self.asked = True

    def look(places: Sequence[Place]) -> None:
        if places[0].standing == "at work":
            os.kill(os.getpid(), signal.SIGTERM)

    outcome = run_sweep(
        [counting(tmp_path / "x")], Cancelled(x=[ending]), workers=1, retries=0, show=look
    )
    assert (outcome.interrupted, outcome.counts, outcome.failures) == (True, {"waiting": 1}, ())


def test_no_more_than_the_workers_and_in_order(tmp_path: Path) -> None:
    most = 0

    def look(places: Sequence[Place]) -> None:
        nonlocal most
        most = max(most, sum(place.standing == "at work" for place in places))

    names = [f"run{number}" for number in range(5)]
    launcher = Scripted(**{name: ["done"] for name in names})
    run_sweep([counting(tmp_path / name) for name in names], launcher, workers=2, show=look)
    assert (launcher.started, most) == (names, 2)


def test_an_error_is_told_and_its_traceback_kept(tmp_path: Path) -> None:
    job = counting(tmp_path / "x", fail_at=5)
    outcome = run_sweep([job], LocalPool(), workers=1, retries=0)
    assert outcome.failures == (("x", "RuntimeError: the toy broke"),)
    assert "in records" in (tmp_path / "x" / FAILURE).read_text()
    refused = counting(tmp_path / "y", capacity=0)
    outcome = run_sweep([refused], LocalPool(), workers=1)
    assert outcome.failures == (("y", "capacity 0 is not positive: give 1 or more"),)
    assert not (tmp_path / "y").exists()


def test_a_run_that_another_process_holds_is_left_to_it(tmp_path: Path) -> None:
    job = counting(tmp_path / "x")
    seen = []
    with claim(tmp_path / "x", job.document):
        assert is_busy(tmp_path / "x")
        assert standing_of(job) == "at work"

        def look(places: Sequence[Place]) -> None:
            seen.append(places[0].standing)
            if len(seen) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_sweep([job], LocalPool(), workers=1, show=look)
        assert seen == ["elsewhere"] * 3
        (ending,) = [Ending(**json.loads(text)) for text in [run_worker(job)]]
        assert ending.kind == "busy"
    assert not is_busy(tmp_path / "x")
    assert run_sweep([job], LocalPool(), workers=1).counts["done"] == 1


def run_worker(job: Job) -> str:
    """Start a worker by hand, with its input kept open until it has answered."""
    text = json.dumps({"directory": job.directory, "document": job.document,
                       "namespace": job.namespace}) + "\n"  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "thrifty.runs.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text)
        process.stdin.flush()
        return process.stdout.read()


SWEEPING = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_sweep import counting
from thrifty.runs.local_pool import LocalPool
from thrifty.runs.sweep import run_sweep
folder = Path({folder!r})
jobs = [counting(folder / f"run{{n}}", steps=60, delay={delay}) for n in range({runs})]
print(run_sweep(jobs, LocalPool(), workers=2).counts["done"])
"""


def start_sweep(folder: Path, *, delay: float, runs: int) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parent)
    code = SWEEPING.format(tests=tests, folder=str(folder), delay=delay, runs=runs)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_killed_sweep_takes_its_workers_along_and_loses_nothing(tmp_path: Path) -> None:
    folders = [tmp_path / f"run{number}" for number in range(2)]
    sweep = start_sweep(tmp_path, delay=0.05, runs=2)
    until(lambda: all(len(last_records(folder)) >= 2 for folder in folders))
    sweep.kill()
    sweep.communicate()
    until(lambda: not any(is_busy(folder) for folder in folders))  # the workers are gone
    for folder in folders:
        assert read_done(folder) is None
        (session,) = sessions(folder)
        assert session["status"] == "interrupted"  # with a checkpoint of that moment
        assert session["last_step"] >= 6
    jobs = [counting(folder, steps=60, delay=0.05) for folder in folders]
    quick = run_sweep(jobs, LocalPool(), workers=2)
    assert quick.counts["done"] == 2
    execute(make_run(tmp_path / "whole", steps=60))
    for folder in folders:
        assert [session["first_step"] for session in sessions(folder)][1] >= 6
        assert result(folder) == result(tmp_path / "whole")


def test_two_sweeps_at_once_share_the_runs(tmp_path: Path) -> None:
    sweeps = [start_sweep(tmp_path, delay=0.005, runs=3) for _ in range(2)]
    assert [sweep.communicate(timeout=120)[0] for sweep in sweeps] == ["3\n", "3\n"]
    execute(make_run(tmp_path / "whole", steps=60))
    for number in range(3):
        folder = tmp_path / f"run{number}"
        assert len(sessions(folder)) == 1  # one process ever worked on it
        assert result(folder) == result(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_workers_with_checkpoints(
    number: signal.Signals, tmp_path: Path
) -> None:
    jobs = [counting(tmp_path / f"run{n}", steps=1000, delay=0.02) for n in range(3)]

    asked = []
    seen = set()

    def look(places: Sequence[Place]) -> None:
        seen.update(place.standing for place in places)
        at_work = [Path(place.job.directory) for place in places if place.standing == "at work"]
        if len(at_work) == 2 and all(last_records(folder) for folder in at_work) and not asked:
            asked.append(os.kill(os.getpid(), number))

    outcome: SweepOutcome = run_sweep(jobs, LocalPool(), workers=2, show=look)
    assert outcome.interrupted
    assert seen == {"waiting", "at work", "stopping"}
    assert outcome.counts == {"waiting": 3}
    assert [standing_of(job) for job in jobs] == ["stopped", "stopped", "new"]
    for folder in (tmp_path / "run0", tmp_path / "run1"):
        assert sessions(folder)[-1]["status"] == "interrupted"
        assert sessions(folder)[-1]["last_step"] >= read_records(folder)[-1]["step"]


def test_the_last_records_are_read_without_the_torn_ones(tmp_path: Path) -> None:
    assert last_records(tmp_path) == []
    lines = [json.dumps({"kind": "train", "step": step}) for step in range(100)]
    (tmp_path / "records.jsonl").write_text("\n".join(lines) + '\n{"kind": "tr')
    assert [record["step"] for record in last_records(tmp_path)] == list(range(100))
    # A line has 30 characters (step < 10) or 31; 100 bytes hold 2 whole ones beside torn ends.
    few = last_records(tmp_path, size=100)
    assert [record["step"] for record in few] == [98, 99]
