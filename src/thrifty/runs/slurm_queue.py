"""Workers of a sweep as jobs of a Slurm cluster, through submitit (extra: slurm).

Each run is one job of one core. A job that Slurm is about to end for its time or for another one's
sake is put into the queue again; it goes on from its last checkpoint. submitit keeps its scripts,
logs and (pickled) arguments in a folder of the sweep. All machines need the same Python environment
and a shared file system.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thrifty.runs.worker import Ending, Job, environment, work


class Work:
    """One job as submitit calls it."""

    def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """Work on the job; return its ending."""
        return asdict(work(Job(**job)))

    def checkpoint(self, job: dict[str, Any]) -> Any:
        """Called by submitit before Slurm ends the job: put it into the queue again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


class SlurmQueue:
    """Submits a Slurm job per run.

    Args:
        folder: for submitit's files; made with the first job.
        parameters: of submitit's executor, such as slurm_partition or timeout_min.
        cluster: "slurm", or "local": submitit's executor for trying out, which needs no Slurm.

    Raises:
        ValueError: submitit or Slurm is not there, or a parameter that submitit does not take.
    """

    def __init__(
        self, folder: Path, parameters: Mapping[str, str] | None = None, *, cluster: str = "slurm"
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise ValueError(
                'the launcher slurm needs a package: pip install "thrifty[slurm]"'
            ) from None
        self._errors: tuple[type[Exception], ...] = (
            submitit.core.utils.FailedJobError,
            submitit.core.utils.UncompletedJobError,
        )
        numbers = {
            key: int(value) if value.isdecimal() else value
            for key, value in (parameters or {}).items()
        }
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        try:
            self._executor = submitit.AutoExecutor(folder=folder.resolve(), cluster=cluster)
            self._executor.update_parameters(
                **{"name": "thrifty", "cpus_per_task": 1, "timeout_min": 24 * 60, **numbers}
            )
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            for made in missing:  # submitit makes the folder before it looks at the rest
                with contextlib.suppress(OSError):
                    made.rmdir()
            reason = " ".join(str(error).split())
            raise ValueError(f"the launcher slurm: {reason} (see submitit's parameters)") from None
        self._jobs: list[tuple[Any, Job]] = []

    def start(self, job: Job) -> None:
        """Submit a job."""
        earlier = dict(os.environ)
        os.environ.update(environment())  # a job inherits what is there when it is submitted
        try:
            self._jobs.append((self._executor.submit(Work(), asdict(job)), job))
        finally:
            os.environ.clear()
            os.environ.update(earlier)

    def ended(self) -> list[tuple[Job, Ending]]:
        """Return the jobs that have ended since the last call."""
        gone = [pair for pair in self._jobs if pair[0].done()]
        self._jobs = [pair for pair in self._jobs if pair not in gone]
        return [(job, self._ending(submitted)) for submitted, job in gone]

    def _ending(self, submitted: Any) -> Ending:
        try:
            return Ending(**submitted.result())
        except self._errors as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Ending(kind="died", message=f"job {submitted.job_id}: {lines[0]}")

    def stop(self) -> None:
        """Cancel all: they keep their last checkpoint."""
        for submitted, _ in self._jobs:
            submitted.cancel(check=False)

    def close(self) -> None:
        """Cancel what is still there."""
        self.stop()
        self._jobs = []
