"""The run directory: what lies where, and the checkpoints in it.

| file | content |
|---|---|
| config.json | recipe, its arguments, seed, threads, overriding flags, the full configuration |
| records.jsonl | the records (`thrifty.runs.records`) |
| environment.json | commit, versions, hardware, sessions (`thrifty.runs.environment`) |
| checkpoint-<step>.npz | the last two states (`thrifty.runs.state`) |
| journal/ | segments of row logs that these two need (`thrifty.runs.rows`) |
| DONE | written last; says how the run ended |
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from thrifty.runs import durable
from thrifty.runs.records import read_records
from thrifty.runs.rows import RowLog, Stored, StoredRows
from thrifty.runs.state import load_state, read_segments, save_state

__all__ = [
    "Checkpoint",
    "CheckpointFolder",
    "RowLog",
    "StoredRows",
    "load_state",
    "read_checkpoint",
    "read_config",
    "read_records",
    "restore",
    "save_state",
]

CONFIG = "config.json"
DONE = "DONE"
JOURNAL = "journal"
_KEPT = 2  # checkpoints; should the newest be damaged, the one before it is still there
_ANEW = "restore it from a copy, or start in a new folder"
_KINDS: dict[str, tuple[type, str]] = {  # what config.json holds under each name
    "recipe": (str, "a name"),
    "arguments": (dict, "an object"),
    "seed": (int, "an integer"),
    "threads": (int, "an integer"),
    "overrides": (list, "a list"),
    "config": (dict, "an object"),
}


def read_config(directory: Path | str) -> dict[str, Any]:
    """Return config.json of a run: {recipe, arguments, seed, threads, overrides, config}.

    Raises:
        ValueError: the folder holds no run, its config.json is damaged, or a value in it is of
            another kind than a run writes. A name that is missing is not told here.
    """
    path = Path(directory) / CONFIG
    try:
        document = json.loads(path.read_bytes())
    except OSError:
        raise ValueError(f"{directory} holds no run ({CONFIG}): name a run directory") from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ValueError(f"{path} is damaged: {_ANEW}")
    for name, (kind, words) in _KINDS.items():
        if name in document and type(document[name]) is not kind:
            raise ValueError(f"{path}: {name} is {document[name]!r} and not {words}: {_ANEW}")
    return document


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything a run needs to go on.

    Attributes:
        step: steps done.
        wall_seconds: training time so far, over all sessions.
        cpu_seconds: the same in processor time of the training process.
        records_bytes: length of records.jsonl.
        experiment: what the experiment's `state_dict` returned.
    """

    step: int
    wall_seconds: float
    cpu_seconds: float
    records_bytes: int
    experiment: Any


def read_checkpoint(directory: Path | str) -> Checkpoint | None:
    """Return the newest checkpoint of a run, or None where it has none yet.

    Raises:
        ValueError: that checkpoint is damaged; says which older one is whole, and what to do.
    """
    return CheckpointFolder(Path(directory)).load()


class Stateful(Protocol):
    """What goes on from a stored state: an experiment, or its learner alone."""

    def load_state_dict(self, state: Any) -> object:
        """Take over a stored state."""
        ...


def restore(into: Stateful, state: Any, directory: Path | str) -> None:
    """Load a state of a run's checkpoint.

    Args:
        into: what the state is of.
        state: as read.
        directory: the run's folder, for the message.

    Raises:
        ValueError: the state lacks something that this version keeps in it.
    """
    try:
        into.load_state_dict(state)
    except KeyError as error:
        raise ValueError(
            f"the checkpoint in {directory} has no {error}, so another version of thrifty wrote it "
            "(environment.json says which): go on with that version, or start in a new folder"
        ) from error


class CheckpointFolder:
    """The checkpoints of one run directory: load the newest, save the next, forget the third."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory / JOURNAL
        self._kept: dict[Path, Stored] = {}  # the files of this lineage, oldest first

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint, or None; ValueError with the remedy where it is damaged."""
        paths = self._paths()
        if not paths:
            return None
        *older, newest = paths
        try:
            state = load_state(newest, journal=self._journal)
            if (
                not isinstance(state, dict)
                or state.keys() != Checkpoint.__dataclass_fields__.keys()
            ):
                raise ValueError(f"{newest} is a state file, but not of a run")
        except ValueError as error:
            raise ValueError(f"{error}. {self._remedy(newest, older)}") from None
        self._kept = {newest: read_segments(newest)}
        return Checkpoint(**state)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then delete what neither it nor the one before it needs."""
        path = self._directory / f"checkpoint-{checkpoint.step:010d}.npz"
        previous = next(reversed(self._kept.values()), None)
        # Not asdict, which would copy the experiment's arrays.
        tree = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
        segments = save_state(path, tree, journal=self._journal, stored=previous)
        self._kept.pop(path, None)  # the same step again: now the newest, not where it was
        self._kept[path] = segments
        while len(self._kept) > _KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._forget()
        return path

    def _forget(self) -> None:
        """Delete other checkpoints first, then segments: a listed segment always exists."""
        for path in self._paths():
            if path not in self._kept:
                path.unlink()
        needed = {
            segment.file
            for segments in self._kept.values()
            for listed in segments.values()
            for segment in listed
        }
        for path in self._journal.iterdir():
            if path.name not in needed:
                path.unlink()

    def _paths(self) -> list[Path]:
        # A copy under another name, which somebody keeps here, is none of ours.
        found = self._directory.glob("checkpoint-*.npz")
        ours = [path for path in found if path.stem.removeprefix("checkpoint-").isdecimal()]
        return sorted(ours, key=lambda path: (len(path.name), path.name))

    def _remedy(self, damaged: Path, older: list[Path]) -> str:
        for path in reversed(older):
            try:
                load_state(path, journal=self._journal)
            except ValueError:
                continue
            return f"{path.name} is whole: delete {damaged.name}, then resume from there"
        return "No older checkpoint is whole: start again in a new folder"


def write_done(directory: Path, *, step: int, wall_seconds: float) -> None:
    """Mark the run as finished."""
    durable.write_json(directory / DONE, {"step": step, "wall_seconds": wall_seconds})


def read_done(directory: Path) -> Mapping[str, Any] | None:
    """Return {step, wall_seconds} of a finished run, None of any other."""
    try:
        done = json.loads((directory / DONE).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        done = None
    if not isinstance(done, dict) or not {"step", "wall_seconds"} <= done.keys():
        raise ValueError(f"{directory / DONE} is damaged: delete it, then resume")
    return done
