"""A table of results, one row a task, computed in processes; stopping and repeating goes on.

A task is a dictionary of scalars that names its row. Rows stand in a CSV file and are appended as
they come, so a stop loses the tasks at work and no more. Beside it, ``machines.jsonl`` tells of
rows on what machine they were computed, with which versions, and how long it took: at the end, and
whenever ten minutes of the processor have gone into rows, so that a kill loses no more than that.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from thrifty.runs.environment import describe_environment

MACHINES = "machines.jsonl"
_NOTED = 600.0  # processor seconds of rows whose note a kill may lose
Task = dict[str, Any]
Row = dict[str, str]


def complete(
    path: Path,
    tasks: Iterable[Task],
    work: Callable[[Task], Mapping[str, Any]],
    *,
    processes: int,
) -> list[Row]:
    """Run the tasks that the file lacks, and return the rows of all.

    Args:
        path: CSV file; the columns of a task name its row.
        tasks: scalars by name, the same names in each.
        work: returns the results of a task, scalars by name, the same names for each; a function
            of a module, for it is sent to other processes.
        processes: how many at a time, one thread each.

    Returns:
        The rows in the order of the tasks, every value as text.

    Raises:
        ValueError: the file has other columns than the tasks, or than a row of theirs.
    """
    wanted = list(tasks)
    if not wanted:
        return []
    names = list(wanted[0])
    _mend(path)
    _check_columns(path, names)
    done = {tuple(row[name] for name in names): row for row in read(path)}
    missing = [t for t in wanted if tuple(str(t[name]) for name in names) not in done]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    made, noted, seconds = 0, 0, 0.0  # rows, and those not told of in the notes yet
    problem: BaseException | None = None
    try:
        with (
            _terminated_like_interrupted(),
            ProcessPoolExecutor(processes, initializer=_end_with_the_parent) as pool,
        ):
            at_work = {pool.submit(_timed, work, task): task for task in missing}
            try:
                for future in as_completed(at_work):
                    if future.cancelled():
                        continue
                    if error := future.exception():
                        problem = problem or error
                        for other in at_work:  # those at work go on, and count
                            other.cancel()
                        continue
                    result, taken = future.result()
                    row = {k: str(v) for k, v in {**at_work[future], **result}.items()}
                    _append(path, row)
                    done[tuple(row[name] for name in names)] = row
                    made, noted, seconds = made + 1, noted + 1, seconds + taken
                    if seconds >= _NOTED:
                        _note(path, noted, seconds)
                        noted, seconds = 0, 0.0
                    if made % 20 == 0 or made == len(missing):
                        print(f"{path.name}: {made} of {len(missing)}", flush=True)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    finally:
        if noted:
            _note(path, noted, seconds)
    if problem:
        raise problem
    return [done[tuple(str(t[name]) for name in names)] for t in wanted]


def read(path: Path) -> list[Row]:
    """Return the rows of a CSV file, as texts; none where there is no file.

    A last line without its end, which a kill leaves, is none.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))


def circumstances(folder: Path) -> tuple[str, float | None]:
    """Return on what the rows of a folder were computed, in words, and the processor hours.

    Args:
        folder: of the CSV files.

    Returns:
        Machines, or that nothing is noted; hours of all of them together, or None.
    """
    path = folder / MACHINES
    if not path.exists():
        return "machine not noted", None
    notes = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    machines = sorted({f"{n['hardware']['cpu']}, {n['hardware']['cores']} cores" for n in notes})
    hours = sum(float(note["processor_hours"]) for note in notes)
    return "; ".join(machines) + ", one thread a run", hours


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, in all processes, so that what was done is noted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        for child in multiprocessing.active_children():
            child.terminate()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end_with_the_parent() -> None:
    """Begin a worker: it takes SIGTERM as usual and is gone when its parent is, however that ended.

    Where a work keeps checkpoints, the last one stands.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _timed(
    work: Callable[[Task], Mapping[str, Any]], task: Task
) -> tuple[Mapping[str, Any], float]:
    begin = time.process_time()
    result = work(task)
    return result, time.process_time() - begin


def _columns(path: Path) -> list[str]:
    """The columns of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file), [])


def _check_columns(path: Path, names: list[str]) -> None:
    """Refuse a file whose first columns are others: its rows are of other tasks."""
    held = _columns(path)
    if held and held[: len(names)] != names:
        raise ValueError(
            f"{path} has the columns {', '.join(held)}, and not {', '.join(names)} first: it was "
            "made by another version; move it away, or write to another folder"
        )


def _mend(path: Path) -> None:
    """Cut off a last line without its end, which a kill leaves: the next row would go on there."""
    content = path.read_bytes() if path.exists() else b""
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)


def _append(path: Path, row: Row) -> None:
    held = _columns(path)
    if held and held != list(row):
        raise ValueError(
            f"{path} has the columns {', '.join(held)}, and a new row {', '.join(row)}: its rows "
            "were made by another version; move it away, or write to another folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if not held:
            writer.writeheader()
        writer.writerow(row)


def _note(path: Path, rows: int, seconds: float) -> None:
    note = {"file": path.name, "rows": rows, "processor_hours": round(seconds / 3600, 4)}
    note |= describe_environment()
    with (path.parent / MACHINES).open("a", encoding="utf-8") as file:
        file.write(json.dumps(note) + "\n")
