"""Execute a run: write down what happens, and be ready to be killed at any moment.

The runner iterates the records of an experiment, stamps them with the clock, writes them, and saves
a checkpoint at least every minute. Executing the same run again goes on from the last checkpoint;
everything but the `wall_` fields then equals what one uninterrupted process would have written.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from thrifty.runs.claim import claim, holds_run
from thrifty.runs.configuration import from_json, resolved, to_json
from thrifty.runs.environment import Sessions
from thrifty.runs.experiment import Callback, Config, Experiment, Placed, Record
from thrifty.runs.interruption import Interruption
from thrifty.runs.naming import resolve
from thrifty.runs.progress import ProgressBar
from thrifty.runs.records import FILE, RecordFile
from thrifty.runs.store import (
    CONFIG,
    Checkpoint,
    CheckpointFolder,
    read_config,
    read_done,
    restore,
    write_done,
)

Status = Literal["done", "stopped", "interrupted"]
_NEEDED = ("recipe", "arguments", "seed", "threads", "config")  # of config.json, to go on


@dataclass(frozen=True, kw_only=True)
class Run:
    """What to do, and where to write it.

    Attributes:
        recipe: name of the function that made `config`, for `resolve`.
        arguments: what that function was called with; JSON values.
        config: builds the experiment.
        seed: the one seed of the run, >= 0.
        directory: where records and checkpoints go.
        threads: compute threads of torch, >= 1; bit-equality holds at equal thread count.
        overrides: the flags that made `config` of what the recipe returned, for people who want to
            repeat the command; `config` alone decides.

    Raises:
        ValueError: seed or threads out of range.
    """

    recipe: str
    arguments: dict[str, Any]
    config: Config
    seed: int
    directory: Path
    threads: int = 1
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} is negative: give an integer >= 0")
        if self.threads < 1:
            raise ValueError(f"threads {self.threads} are too few: give 1 or more")

    def document(self) -> dict[str, Any]:
        """Return what config.json holds for this run."""
        document = {
            "recipe": self.recipe,
            "arguments": self.arguments,
            "seed": self.seed,
            "threads": self.threads,
            "overrides": self.overrides,
            "config": to_json(resolved(self.config)),
        }
        restored: dict[str, Any] = json.loads(json.dumps(document, allow_nan=False))
        return restored  # as it will be read back: tuples are lists

    def completed(self, config: Any) -> Any:
        """Return a stored configuration of this run's kind with the fields added since, as they
        were before there was a choice: with their defaults.

        Raises:
            ValueError: it is of another kind.
        """
        return json.loads(json.dumps(to_json(from_json(type(self.config), config))))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How `execute` ended.

    Attributes:
        status: "done" (nothing left), "stopped" (by a callback) or "interrupted" (by a signal).
        step: steps done.
        steps_executed_from: steps that were done before this process began.
        wall_seconds: training time over all sessions, up to the last checkpoint.
    """

    status: Status
    step: int
    steps_executed_from: int
    wall_seconds: float


def read_run(directory: Path | str, namespace: str) -> Run:
    """Return the run that a directory holds, ready for `execute`.

    Args:
        directory: a run directory.
        namespace: where recipes live, see `thrifty.runs.naming.resolve`.

    Raises:
        ValueError: no run there, or its recipe or configuration is not known to this version.
    """
    return run_of(read_config(directory), directory, namespace)


def run_of(document: Mapping[str, Any], directory: Path | str, namespace: str) -> Run:
    """Return the run whose `document()` this is.

    The recipe named there is called with the arguments written there, which gives the class of the
    configuration; its values come from the document.

    Args:
        document: what config.json holds.
        directory: the run's folder; need not exist.
        namespace: where recipes live, see `thrifty.runs.naming.resolve`.

    Raises:
        ValueError: the document is incomplete, or recipe or configuration are not known to this
            version.
    """
    missing = [name for name in _NEEDED if name not in document]
    if missing:
        raise ValueError(
            f"{Path(directory) / CONFIG} has no {', '.join(missing)}: restore it from a copy, or "
            "start in a new folder"
        )
    recipe = resolve(document["recipe"], namespace)
    try:
        inspect.signature(recipe).bind(**document["arguments"])
    except TypeError as error:
        raise ValueError(
            f"{directory} was made by another version of {document['recipe']} ({error}): "
            "install that version to go on"
        ) from None
    kind = type(recipe(**document["arguments"]))
    return Run(
        recipe=document["recipe"],
        arguments=document["arguments"],
        config=from_json(kind, document["config"]),
        seed=document["seed"],
        directory=Path(directory),
        threads=document["threads"],
        overrides=tuple(document.get("overrides", ())),  # older runs lack them
    )


def execute(
    run: Run,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoint_seconds: float = 60.0,
    progress: bool | Literal["force"] = False,
) -> Outcome:
    """Begin, resume or find finished the run in `run.directory`, and work on it to its end.

    Ctrl-C and SIGTERM finish the current step, save a checkpoint and return "interrupted"; a second
    Ctrl-C raises KeyboardInterrupt. An exception of the experiment or of a callback propagates, and
    the last checkpoint is kept.

    Args:
        run: what to do.
        callbacks: called with every record, in order; False stops the run after a checkpoint.
        checkpoint_seconds: seconds from one checkpoint to the next; 0 saves one at every yield.
        progress: show a progress bar on a terminal; "force" prints plain lines where there is none.

    Raises:
        ValueError: the configuration cannot work (nothing was written), the directory holds
            something else or cannot be written, or its newest checkpoint is damaged.

    Example:
        >>> execute(run).status  # doctest: +SKIP
        'done'
    """
    directory, document = Path(run.directory), run.document()
    if holds_run(directory, document, run.completed) and (done := read_done(directory)):
        return _outcome_of(done)
    with _threads(run.threads) as set_threads:
        experiment = run.config.build(run.seed)
        set_threads()  # the experiment may have been the first to import torch
        with claim(directory, document, run.completed):
            if done := read_done(directory):  # another process finished it since we looked
                return _outcome_of(done)
            if isinstance(experiment, Placed):
                experiment.place(directory)
            with Interruption() as interruption:
                worker = _Worker(
                    run, directory, experiment, callbacks, checkpoint_seconds, progress
                )
                return worker.work(interruption)


def _outcome_of(done: Any) -> Outcome:
    step, seconds = done["step"], done["wall_seconds"]
    return Outcome(status="done", step=step, steps_executed_from=step, wall_seconds=seconds)


class _Worker:
    """One process working on one run whose directory it holds."""

    def __init__(
        self,
        run: Run,
        directory: Path,
        experiment: Experiment,
        callbacks: Sequence[Callback],
        checkpoint_seconds: float,
        progress: bool | Literal["force"],
    ) -> None:
        self._directory = directory
        self._experiment = experiment
        self._callbacks = callbacks
        self._checkpoint_seconds = checkpoint_seconds
        self._checkpoints = CheckpointFolder(directory)
        self._sessions = Sessions(directory, threads=run.threads)
        checkpoint = self._checkpoints.load()
        if checkpoint is None:
            checkpoint = Checkpoint(
                step=0, wall_seconds=0.0, cpu_seconds=0.0, records_bytes=0, experiment=None
            )
        else:
            restore(experiment, checkpoint.experiment, directory)
        self._resumed = checkpoint.experiment is not None
        self._first_step = self._step = checkpoint.step
        self._records_bytes = checkpoint.records_bytes
        self._earlier_seconds = checkpoint.wall_seconds
        self._earlier_cpu_seconds = checkpoint.cpu_seconds
        self._sessions.begin(self._first_step)
        self._bar: contextlib.AbstractContextManager[ProgressBar | None]
        self._bar = contextlib.nullcontext()
        if progress:
            self._bar = ProgressBar(
                run.config.steps, start=self._first_step, force=progress == "force"
            )

    def work(self, interruption: Interruption) -> Outcome:
        """Iterate the experiment until it ends or somebody stops it."""
        self._began, self._began_cpu = time.monotonic(), time.process_time()
        try:
            with RecordFile(self._directory / FILE, self._records_bytes) as file, self._bar as bar:
                # Held until the state is saved: a generator that is dropped runs its finally.
                records = self._experiment.records()
                status = self._iterate(records, interruption, file, bar)
                self._save(file, status)
                if bar:
                    bar.step = self._step
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk must not hide what went wrong
                self._sessions.update(self._step, "failed")
            raise
        seconds = self._saved_seconds
        if status == "done":
            write_done(self._directory, step=self._step, wall_seconds=seconds)
        return Outcome(
            status=status,
            step=self._step,
            steps_executed_from=self._first_step,
            wall_seconds=seconds,
        )

    def _iterate(
        self,
        records: Iterator[Record | None],
        interruption: Interruption,
        file: RecordFile,
        bar: ProgressBar | None,
    ) -> Status:
        # Runs once per environment step: between two records it may only compare numbers.
        clock = time.monotonic
        # A new run saves its first yield: an early failure leaves something to look at and resume.
        next_checkpoint = clock() + (self._checkpoint_seconds if self._resumed else 0.0)
        due = min(next_checkpoint, bar.due) if bar else next_checkpoint
        yields = 0  # since `self._step` was known; about one per step
        for record in records:
            yields += 1
            if record is not None:
                yields = 0
                self._step = record["step"]
                if not self._report(record, file, bar):
                    return "stopped"
            if interruption.requested:
                return "interrupted"
            if clock() >= due:
                if clock() >= next_checkpoint:
                    self._save(file, "running")
                    yields = 0
                    next_checkpoint = clock() + self._checkpoint_seconds
                if bar and clock() >= bar.due:
                    bar.show(self._step + yields)
                due = min(next_checkpoint, bar.due) if bar else next_checkpoint
        return "done"

    def _report(self, record: Record, file: RecordFile, bar: ProgressBar | None) -> bool:
        """Write one record and tell everybody; False where a callback asks to stop."""
        stamped = {
            **record,
            "wall_seconds": self._seconds(),
            "wall_cpu_seconds": self._cpu_seconds(),
            "wall_time": time.time(),
        }
        file.append(stamped)
        if bar:
            bar.record(stamped)
        answers = [callback(stamped) for callback in self._callbacks]
        return all(answer is not False for answer in answers)

    def _save(self, file: RecordFile, status: str) -> None:
        state = self._experiment.state_dict()
        self._step = _step_of(state, self._step)
        self._saved_seconds = self._seconds()
        self._checkpoints.save(
            Checkpoint(
                step=self._step,
                wall_seconds=self._saved_seconds,
                cpu_seconds=self._cpu_seconds(),
                records_bytes=file.sync(),
                experiment=state,
            )
        )
        self._sessions.update(self._step, status)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    def _cpu_seconds(self) -> float:
        return self._earlier_cpu_seconds + time.process_time() - self._began_cpu


def _step_of(state: Any, last: int) -> int:
    """The step a state says it is at; the last record's where it does not say."""
    step = state.get("step", last)
    return step if type(step) is int else last


@contextlib.contextmanager
def _threads(count: int) -> Iterator[Callable[[], None]]:
    """Give torch `count` threads for the time of the context, where anybody has imported torch."""
    earlier: list[int] = []

    def apply() -> None:
        torch = sys.modules.get("torch")
        if torch is not None:
            earlier.append(torch.get_num_threads())
            torch.set_num_threads(count)

    apply()
    try:
        yield apply
    finally:
        if earlier:
            sys.modules["torch"].set_num_threads(earlier[0])
