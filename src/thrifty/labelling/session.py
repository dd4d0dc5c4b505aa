"""One annotator's work on one run: what to show next, and where an answer goes.

A clip's side is a fair coin of annotator and query, so it is the same after a reload or a restart
and independent of everything the learner knows. Queries come in the order of asking; the annotator
is not told which of them are repeated.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thrifty.episodic.label_folder import LABELS, QUERIES, LabelFolder
from thrifty.episodic.preferences import Answer, Clip, Label, Query, Side, standing
from thrifty.labelling.scene import scene_of
from thrifty.runs.store import CONFIG, DONE, read_config

_LONGEST_NAME = 64
_SIDED = ("left", "right", "catastrophe left", "catastrophe right")
_SIDELESS: dict[str, Answer] = {
    "equal": "equal",
    "skip": "skip",
    "catastrophe both": "catastrophe both",
}
CHOICES = (*_SIDED, *_SIDELESS)
"""What can be answered, in terms of the sides of the page."""


class UnknownQuery(ValueError):
    """There is no query of this number."""


class Conflict(ValueError):
    """An answer to what is answered, or taking back what is not the last answer."""


def left_side(annotator: str, query: int) -> Side:
    """Return which clip of a query an annotator sees on the left."""
    digest = hashlib.blake2b(f"{query}/{annotator}".encode(), digest_size=1).digest()
    return "A" if digest[0] & 1 else "B"


class Session:
    """An annotator at a run; safe to use from several threads.

    Args:
        folder: of the run.
        annotator: the name that the answers are stored under, 1 to 64 printable characters.

    Raises:
        ValueError: the folder holds no run or one that asks nobody, a file of it is damaged, or
            the name does not do.
    """

    def __init__(self, folder: Path, annotator: str) -> None:
        if not (folder / CONFIG).exists() and not (folder / QUERIES).exists():
            raise ValueError(f"{folder} holds no run: name the folder of `thrifty train --out`")
        if not (folder / QUERIES).exists() and not _asks(read_config(folder)):
            raise ValueError(
                f"{folder} asks nobody: `thrifty train icvar.hf_lava --annotator person` makes a "
                "run that does"
            )
        if not annotator.strip() or not annotator.isprintable() or len(annotator) > _LONGEST_NAME:
            raise ValueError(
                f"an annotator's name has 1 to {_LONGEST_NAME} printable characters: {annotator!r}"
            )
        self.folder, self.annotator = folder, annotator
        self._files = LabelFolder(folder)
        self._scene = scene_of(folder)
        self._lock = threading.Lock()
        self._stamp: list[tuple[int, int, int] | None] | None = None
        self._queries: dict[int, Query] = {}
        self._mine: dict[int, Label] = {}
        self._follow()

    @property
    def reports(self) -> list[str]:
        """Return what had to be repaired in the run's files, one line each."""
        return self._files.reports

    def view(self) -> dict[str, Any]:
        """Return what the page shows now, as JSON: counts, the last answer, the next query."""
        with self._lock:
            self._follow()
            waiting = [query for n, query in self._queries.items() if n not in self._mine]
            last = next(reversed(self._mine.values()), None)
            return {
                "run": self.folder.resolve().name,
                "annotator": self.annotator,
                "scene": self._scene,
                "asked": len(self._queries),
                "answered": len(self._mine),
                "finished": (self.folder / DONE).exists(),
                "last": None if last is None else _shown(last),
                "query": self._show(waiting[0]) if waiting else None,
            }

    def answer(self, number: int, choice: str, latency: float | None = None) -> None:
        """Store an answer; it is on the disk when this returns.

        Args:
            number: of the query.
            choice: one of :data:`CHOICES`.
            latency: seconds from showing to answering.

        Raises:
            UnknownQuery: there is no such query.
            Conflict: it has been answered.
            ValueError: choice or latency are no such thing.
        """
        if choice not in CHOICES:
            raise ValueError(f"an answer is one of {', '.join(CHOICES)}")
        left = left_side(self.annotator, number)
        label = Label(number, self.annotator, _stored(choice, left), left, latency)
        with self._lock:
            self._follow()
            if number not in self._queries:
                raise UnknownQuery(f"there is no query {number}")
            if number in self._mine:
                raise Conflict(f"query {number} has been answered")
            self._files.answer(label)

    def undo(self, number: int) -> None:
        """Take back the last answer; that is on the disk when this returns.

        Args:
            number: of the query that was answered last.

        Raises:
            UnknownQuery: there is no such query.
            Conflict: another query was answered last, or none.
        """
        with self._lock:
            self._follow()
            if number not in self._queries:
                raise UnknownQuery(f"there is no query {number}")
            last = next(reversed(self._mine), None)
            if number != last:
                raise Conflict(f"query {number} is not the one answered last")
            self._files.answer(Label(number, self.annotator, "undo", self._mine[number].left))

    def _follow(self) -> None:
        """Read the files if they have changed since they were read."""
        stamp = [_stamp(self.folder / name) for name in (QUERIES, LABELS)]
        if stamp == self._stamp:
            return
        self._queries = {query.number: query for query in self._files.queries()}
        self._mine = {  # the earliest answer first: `standing` keeps the order
            number: label
            for (number, name), label in standing(self._files.labels()).items()
            if name == self.annotator
        }
        self._stamp = stamp  # of before reading: what came since is read at the next call

    def _show(self, query: Query) -> dict[str, Any]:
        clips = {"A": query.A, "B": query.B}
        left = left_side(self.annotator, query.number)
        right = "B" if left == "A" else "A"
        return {
            "number": query.number,
            "left": _steps(clips[left]),
            "right": _steps(clips[right]),
        }


def _asks(document: Mapping[str, Any]) -> bool:
    """Whether a run that has asked nothing so far will."""
    config = document.get("config")
    algorithm = config.get("algorithm") if isinstance(config, dict) else None
    return not isinstance(algorithm, dict) or algorithm.get("annotator") == "person"


def _steps(clip: Clip) -> dict[str, Any]:
    return {"states": clip.states, "actions": clip.actions}


def _stored(choice: str, left: Side) -> Answer:
    """Return an answer in terms of A and B."""
    if choice in _SIDELESS:
        return _SIDELESS[choice]
    flagged = choice.startswith("catastrophe")
    if choice.endswith("left") == (left == "A"):
        return "catastrophe A" if flagged else "A"
    return "catastrophe B" if flagged else "B"


def _shown(label: Label) -> dict[str, Any]:
    """Return a stored answer in terms of the sides of the page."""
    choice = next((c for c in CHOICES if _stored(c, label.left) == label.answer), label.answer)
    return {"query": label.query, "answer": choice}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
