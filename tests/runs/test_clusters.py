"""Launchers for clusters, on this machine: two Ray nodes on loopback, submitit's own executor."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_sweep import counting, dying, sessions, until
from toy_counter import make_run, result

from thrifty.runs import execute
from thrifty.runs.claim import is_busy
from thrifty.runs.launchers import launcher_named, read_parameters
from thrifty.runs.records import last_records
from thrifty.runs.sweep import Place, run_sweep, standing_of


@pytest.fixture
def slurm(tmp_path: Path) -> Any:
    pytest.importorskip("submitit", reason='needs pip install "thrifty[slurm]"')
    from thrifty.runs.slurm_queue import SlurmQueue

    return SlurmQueue(tmp_path / "queue", {"timeout_min": "5"}, cluster="local")


def test_slurm_jobs_do_the_runs_and_retry_the_dead(slurm: Any, tmp_path: Path) -> None:
    once = tmp_path / "died"
    jobs = [
        counting(tmp_path / "x"),
        dying(tmp_path / "y", dies_at=30, once=str(once)),
        counting(tmp_path / "z", capacity=0),
    ]
    outcome = run_sweep(jobs, slurm, workers=2, retries=2)
    assert outcome.counts == {"done": 2, "failed": 1}
    assert outcome.failures == (("z", "capacity 0 is not positive: give 1 or more"),)
    assert once.exists()
    execute(make_run(tmp_path / "whole"))
    assert result(tmp_path / "x") == result(tmp_path / "y") == result(tmp_path / "whole")
    assert len(sessions(tmp_path / "y")) == 2


def test_slurm_jobs_are_cancelled_when_the_sweep_is_stopped(slurm: Any, tmp_path: Path) -> None:
    job = counting(tmp_path / "x", steps=2000, delay=0.02)
    asked: list[None] = []

    def look(places: Sequence[Place]) -> None:
        if last_records(tmp_path / "x") and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    assert run_sweep([job], slurm, workers=1, show=look).interrupted
    until(lambda: not is_busy(tmp_path / "x"))
    assert standing_of(job) == "stopped"


def child_of(parent: int) -> int:
    """The one process that another one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    (child,) = found
    return child


def test_a_slurm_job_whose_time_is_over_is_put_into_the_queue_again(
    slurm: Any, tmp_path: Path
) -> None:
    """By submitit, which gets the signal: the sweep, without retries, does not notice."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("needs /proc, to find submitit's process")
    job = counting(tmp_path / "x", steps=150, delay=0.02)
    asked: list[None] = []

    def look(places: Sequence[Place]) -> None:
        if len(last_records(tmp_path / "x")) > 3 and not asked:
            ((submitted, _),) = slurm._jobs
            asked.append(os.kill(child_of(submitted._process.pid), signal.SIGUSR2))

    outcome = run_sweep([job], slurm, workers=1, retries=0, show=look)
    assert asked
    assert (outcome.counts, outcome.failures) == ({"done": 1}, ())
    assert len(sessions(tmp_path / "x")) == 2
    execute(make_run(tmp_path / "whole", steps=150))
    assert result(tmp_path / "x") == result(tmp_path / "whole")


class Nodes:
    """A Ray cluster of processes on loopback; the head has no core, so work is on the others."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False},
        )
        self.address = self._cluster.address

    def add(self) -> Any:
        return self._cluster.add_node(num_cpus=1)

    def kill(self, node: Any) -> None:
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason='needs pip install "thrifty[ray]"')
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    cluster = Nodes()
    yield cluster
    cluster.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's own processes and sockets
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_node_that_is_killed_in_mid_run_loses_nothing(nodes: Nodes, tmp_path: Path) -> None:
    workers = [nodes.add(), nodes.add()]
    jobs = [counting(tmp_path / f"run{n}", steps=150, delay=0.05) for n in range(2)]
    killed: list[Any] = []

    def look(places: Sequence[Place]) -> None:
        ready = all(len(last_records(tmp_path / f"run{n}")) > 3 for n in range(2))
        if ready and not killed:  # both nodes work
            killed.append(workers[0])
            nodes.kill(workers[0])

    launcher = launcher_named("ray", {"address": nodes.address}, folder=tmp_path)
    outcome = run_sweep(jobs, launcher, workers=2, retries=3, show=look)
    assert killed
    assert (outcome.counts, outcome.failures) == ({"done": 2}, ())
    execute(make_run(tmp_path / "whole", steps=150))
    for number in range(2):
        assert result(tmp_path / f"run{number}") == result(tmp_path / "whole")
    # One of the two ran through, the other was begun again from its checkpoint.
    assert sorted(len(sessions(tmp_path / f"run{n}")) for n in range(2))[0] == 1
    assert sorted(len(sessions(tmp_path / f"run{n}")) for n in range(2))[1] >= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ray_tasks_stop_with_checkpoints_and_errors_are_told(nodes: Nodes, tmp_path: Path) -> None:
    nodes.add()
    launcher = launcher_named("ray", {"address": nodes.address}, folder=tmp_path)
    jobs = [
        counting(tmp_path / "z", capacity=0),
        counting(tmp_path / "x", steps=2000, delay=0.02),
    ]
    asked: list[None] = []

    def look(places: Sequence[Place]) -> None:
        if last_records(tmp_path / "x") and not asked:
            asked.append(os.kill(os.getpid(), signal.SIGINT))

    outcome = run_sweep(jobs, launcher, workers=2, show=look)
    assert outcome.interrupted
    assert outcome.failures == (("z", "capacity 0 is not positive: give 1 or more"),)
    assert standing_of(jobs[1]) == "stopped"
    assert sessions(tmp_path / "x")[-1]["status"] == "interrupted"  # with a checkpoint
    assert sessions(tmp_path / "x")[-1]["threads"] == 1


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("local", ["x=1"], "local has no parameter x: leave --launcher-set out"),
        ("ray", ["partition=cpu"], "ray has no parameter partition: it has address"),
        ("slurm", ["partition"], "write NAME=VALUE"),
    ],
)
def test_parameters_that_cannot_be(name: str, told: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_parameters(name, told)


@pytest.mark.parametrize(("name", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_named(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf'pip install "thrifty\[{name}\]"'):
        launcher_named(name, {}, folder=tmp_path)


@pytest.mark.parametrize(
    ("told", "environment", "address"),
    [({}, None, "local"), ({}, "b:2", "b:2"), ({"address": "a:1"}, "b:2", "a:1")],
)
def test_ray_joins_no_cluster_that_was_not_named(
    told: dict[str, str],
    environment: str | None,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Told nothing, Ray itself would join whatever cluster was last started on this machine."""
    ray = pytest.importorskip("ray", reason='needs pip install "thrifty[ray]"')
    begun: list[str] = []
    monkeypatch.setattr(ray, "init", lambda **options: begun.append(options["address"]))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if environment:
        monkeypatch.setenv("RAY_ADDRESS", environment)
    launcher_named("ray", told, folder=tmp_path)
    assert begun == [address]


def test_slurm_says_what_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason='needs pip install "thrifty[slurm]"')
    from thrifty.runs.slurm_queue import SlurmQueue

    with pytest.raises(ValueError, match=r"launcher slurm: .*nonsense"):
        SlurmQueue(tmp_path / "new" / "queue", {"nonsense": "1"}, cluster="local")
    assert list(tmp_path.iterdir()) == []
