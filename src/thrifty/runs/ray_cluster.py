"""Workers of a sweep as tasks of a Ray cluster (extra: ray; Ray Core alone).

Each task is one core and one fresh process. Ray places the tasks; retries are the sweep's, so a
node that dies is survived as a worker that dies is: its runs begin again elsewhere, from their last
checkpoint. All nodes need the same Python environment and a shared file system.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from thrifty.runs.worker import Ending, Job, environment, work


def _work(job: dict[str, Any]) -> dict[str, Any]:
    return asdict(work(Job(**job)))


class RayCluster:
    """Starts a Ray task per job.

    Args:
        address: HOST:PORT of the cluster's head, or None: a cluster of this machine alone, which
            ends with the sweep, whatever other cluster is there.

    Raises:
        ValueError: Ray is not installed, or no cluster answers there.
    """

    def __init__(self, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise ValueError(
                'the launcher ray needs a package: pip install "thrifty[ray]"'
            ) from None
        self._ray = ray
        try:
            ray.init(
                address=address or "local",  # None would look for a cluster that runs here
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"no Ray cluster at {address} ({' '.join(str(error).split())}): "
                "check launcher-set address, or start one with `ray start --head`"
            ) from None
        self._task = ray.remote(
            num_cpus=1, max_retries=0, max_calls=1, runtime_env={"env_vars": environment()}
        )(_work)
        self._jobs: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Queue a job; it begins where a core is free."""
        self._jobs[self._task.remote(asdict(job))] = job

    def ended(self) -> list[tuple[Job, Ending]]:
        """Return the jobs whose task has ended since the last call."""
        if not self._jobs:
            return []
        ready, _ = self._ray.wait(
            list(self._jobs), num_returns=len(self._jobs), timeout=0, fetch_local=False
        )
        return [(self._jobs.pop(task), self._ending(task)) for task in ready]

    def _ending(self, task: Any) -> Ending:
        try:
            return Ending(**self._ray.get(task))
        except self._ray.exceptions.TaskCancelledError:
            return Ending(kind="stopped")
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or [""])[0]
            return Ending(kind="died", message=f"{type(error).__name__}: {first}")

    def stop(self) -> None:
        """Ask all to stop: Ray interrupts a task as Ctrl-C would, and drops those that wait."""
        for task in self._jobs:
            self._ray.cancel(task)

    def close(self) -> None:
        """Leave the cluster, which ends what this sweep has there."""
        self._ray.shutdown()
