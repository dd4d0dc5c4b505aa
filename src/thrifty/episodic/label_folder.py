"""Queries and labels of a run as files, between a learner and whoever asks people.

Two append-only files of JSON lines lie in a run's folder:

- ``queries.jsonl``, written by the learner: queries, and which labels it took in before which
  episode. With the label file this is all that a session depended on: a learner that is started
  on the same folder again, after a crash or as a replay, takes in the same labels at the same
  moments, so it asks the same queries.
- ``labels.jsonl``, written by whoever asks people, several processes if need be: a line is on the
  disk before it is confirmed. A last line broken by a crash was never confirmed: it is left out on
  reading, removed before the next line is written, and reported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from thrifty.episodic.preferences import Change, Clip, Label, Query, read_label, standing

try:
    import fcntl
except ImportError:  # pragma: no cover - not on POSIX
    fcntl = None  # type: ignore[assignment]

QUERIES = "queries.jsonl"
LABELS = "labels.jsonl"


class Taken(NamedTuple):
    """The learner took in the lines of the label file up to ``labels`` before an episode."""

    episode: int
    labels: int


class LabelFolder:
    """Queries and labels of a run, as files; also the source of labels for a learner.

    Args:
        folder: of the run; it exists.
        replay: take in only what the folder tells was taken in, and write nothing.
    """

    def __init__(self, folder: Path, *, replay: bool = False) -> None:
        self.folder, self.replay = Path(folder), replay
        self.reports: list[str] = []
        """What had to be repaired, one line each."""
        self.position = 0
        """Lines of the label file that the learner has taken in."""
        self._asked: dict[int, Query] = {}
        self._answers: dict[int, dict[str, Label]] = {}
        self._taken: dict[int, int] = {}
        self._horizon = self._asked_until = -1
        self._read = False

    # ------------------------------------------------------------------ reading

    def queries(self) -> list[Query]:
        """Return all queries, in the order of asking.

        Raises:
            ValueError: a line other than the last is broken.
        """
        return [event for event in self._events() if isinstance(event, Query)]

    def labels(self) -> list[Label]:
        """Return all labels, in the order of the file; a last line that is broken is left out.

        Raises:
            ValueError: another line is broken.
        """
        labels = []
        for number, entry in enumerate(self._lines(LABELS), 1):
            try:
                labels.append(read_label(entry))
            except ValueError as problem:
                raise ValueError(f"{self.folder / LABELS}, line {number}: {problem}") from None
        return labels

    def _events(self) -> Iterator[Query | Taken]:
        for entry in self._lines(QUERIES):
            if "taken" in entry:
                yield Taken(*entry["taken"])
            else:
                yield _query(entry)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if not path.exists():
            return
        whole, rest = _split(path.read_bytes())
        for number, line in enumerate(whole, 1):
            try:
                entry = json.loads(line)
                if not isinstance(entry, dict):
                    raise ValueError("no object")
            except ValueError:
                raise ValueError(
                    f"{path}, line {number} is no JSON object: restore the file from a copy, or "
                    "remove the line"
                ) from None
            yield entry
        if rest:
            self._report(f"{path}: the last line is broken and left out ({len(rest)} bytes)")

    # ------------------------------------------------------------------ writing

    def ask(self, query: Query) -> list[Change]:
        """Append a query, unless it has been asked (by the same learner, before a crash).

        Returns:
            nothing: people take their time.

        Raises:
            ValueError: another query has this number, or a replay asks what was not asked: the
                folder belongs to another run.
        """
        self._follow()
        known = self._asked.get(query.number)
        if known is None and not self.replay:
            self._asked[query.number] = query
            self._append(QUERIES, dataclasses.asdict(query))
        elif known != query:
            raise ValueError(
                f"{self.folder} holds no such query {query.number}: it belongs to a run with "
                "another seed or configuration; choose another folder"
            )
        return []

    def answer(self, label: Label) -> None:
        """Append a label; it is on the disk when this returns.

        Raises:
            ValueError: there is no such query, the annotator has answered it already, or there is
                nothing to take back.
        """
        if label.query not in {query.number for query in self.queries()}:
            raise ValueError(f"there is no query {label.query} in {self.folder}")
        answered = (label.query, label.annotator) in standing(self.labels())
        if label.answer == "undo" and not answered:
            raise ValueError(f"{label.annotator} has no answer to query {label.query} to take back")
        if label.answer != "undo" and answered:
            raise ValueError(
                f"{label.annotator} has answered query {label.query}: take that back first (undo)"
            )
        self._append(LABELS, dataclasses.asdict(label))

    def collect(self, episode: int) -> list[Change]:
        """Return what is new to the learner before an episode, in the order of the file.

        Up to the last episode that the folder tells of, this is what was taken in then; beyond it,
        whatever labels are new, and the folder notes how many. Before the last one, too, what is
        new follows what was taken in, unless that episode was played and ended with a query: a
        learner may have been stopped while it waited there.

        Args:
            episode: the one to come; never lower than at the call before.
        """
        self._follow()
        stop = self._taken.get(episode, self.position)
        labels = self.labels()
        played = self.replay or episode < self._horizon or episode <= self._asked_until
        if not played and stop <= self.position:
            stop = len(labels)
            if stop > self.position:
                self._append(QUERIES, {"taken": [episode, stop]})
        changes = []
        for label in labels[self.position : stop]:
            change = self._take(label)
            if change is not None:
                changes.append(change)
        return changes

    def _take(self, label: Label) -> Change | None:
        """Move on by one label, and tell what it changes for the learner."""
        self.position += 1
        answers = self._answers.setdefault(label.query, {})
        before = answers.get(label.annotator)
        if label.answer == "undo":
            answers.pop(label.annotator, None)
            if before is None or before.outcome is None:
                return None
            return Change(label.query, before.outcome, -1)
        if before is not None:
            return None  # the first answer stands
        answers[label.annotator] = label
        return None if label.outcome is None else Change(label.query, label.outcome, 1)

    def waiting(self, asked: int, annotators: int) -> int:
        """Return how many of the first queries lack answers of so many annotators, as collected."""
        return sum(len(self._answers.get(n, ())) < annotators for n in range(asked))

    def rewind(self, position: int) -> None:
        """Go back to where a stored learner was.

        Args:
            position: lines of the label file that it had taken in.

        Raises:
            ValueError: the label file has fewer lines.
        """
        labels = self.labels()
        if position > len(labels):
            raise ValueError(
                f"{self.folder / LABELS} has {len(labels)} labels, but the run had taken in "
                f"{position}: restore the file"
            )
        self.position, self._answers = 0, {}
        for label in labels[:position]:
            self._take(label)
        self._read = False

    def _follow(self) -> None:
        """Read once what was asked and taken in before, and up to which episode."""
        if self._read:
            return
        self._read = True
        for event in self._events():
            if isinstance(event, Taken):
                self._taken[event.episode] = event.labels  # the last one of an episode counts
                self._horizon = max(self._horizon, event.episode)
            else:
                self._asked[event.number] = event
                self._asked_until = max(self._asked_until, event.episode)
                self._horizon = max(self._horizon, event.episode)

    def _append(self, name: str, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        with open(self.folder / name, "ab+", buffering=0) as file, _locked(file):
            file.seek(0)
            data = file.read()
            _, rest = _split(data)
            if rest:
                file.truncate(len(data) - len(rest))
                self._report(f"{self.folder / name}: a broken line was removed: {rest[:60]!r}")
            elif data and not data.endswith(b"\n"):
                line = b"\n" + line  # whole, but its end was not written
            file.seek(0, os.SEEK_END)
            file.write(line)
            os.fsync(file.fileno())
            if not data:
                _keep_name(self.folder)

    def _report(self, line: str) -> None:
        if line not in self.reports:
            self.reports.append(line)


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return whole lines, and the rest that a crash left broken.

    A last line without its end is whole if it is an object: no beginning of one is. A last line
    with its end is broken if it is none: power that fails can leave a hole before the end.
    """
    *whole, rest = data.split(b"\n")
    if not rest and whole and not _is_object(whole[-1]):
        rest = whole.pop() + b"\n"
    elif rest and _is_object(rest):
        return [*whole, rest], b""
    return whole, rest


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _keep_name(folder: Path) -> None:
    """Put a new file's name on the disk; its content alone would be lost with the power."""
    if os.name != "posix":  # pragma: no cover - folders cannot be opened elsewhere
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """Keep other writers of the same file waiting."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_UN)


def _clip(entry: Any) -> Clip:
    return Clip(tuple(map(int, entry["states"])), tuple(map(int, entry["actions"])))


def _query(entry: dict[str, Any]) -> Query:
    try:
        return Query(**{**entry, "A": _clip(entry["A"]), "B": _clip(entry["B"])})
    except (KeyError, TypeError) as problem:
        raise ValueError(f"a query lacks or misstates {problem}: restore the file") from None
