"""Comparisons of two trajectories: what is asked, what is answered, and both as a table.

A :class:`Query` shows clips A and B. A :class:`Label` is one annotator's answer to it; P(A
preferred) = sigmoid(scale (r(A) - r(B))) is what the learner assumes, and an answer counts as

    A: 1    B: 0    equal: 1/2 (half a label each way)    skip: no label
    catastrophe A: as B    catastrophe B: as A    catastrophe both: as equal    (the flag is kept)
    undo: takes back the annotator's answer to this query

Labels of one query must be independent, so an annotator answers a query once; m labels are m
annotators. ``repeat_of`` marks a pair that is shown again to see whether people agree with
themselves (:func:`test_retest`); its labels are not learned from.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

Answer = Literal[
    "A", "B", "equal", "skip", "catastrophe A", "catastrophe B", "catastrophe both", "undo"
]
Side = Literal["A", "B"]

_OUTCOMES = {
    "A": 1.0,
    "B": 0.0,
    "equal": 0.5,
    "catastrophe A": 0.0,
    "catastrophe B": 1.0,
    "catastrophe both": 0.5,
}


@dataclass(frozen=True, slots=True)
class Clip:
    """A trajectory: the states that were visited and the actions taken there, [n] each."""

    states: tuple[int, ...]
    actions: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.states) != len(self.actions) or not self.states:
            raise ValueError(
                f"a clip needs as many actions as states, at least 1: it has {len(self.actions)} "
                f"and {len(self.states)}"
            )


@dataclass(frozen=True, slots=True)
class Query:
    """Two clips to compare."""

    number: int
    """0, 1, 2, ... in the order of asking."""
    episode: int
    """After which it was asked."""
    A: Clip
    """What the learner did."""
    B: Clip
    """What it is compared with."""
    repeat_of: int | None = None
    """Number of the query that had the same two clips before."""


@dataclass(frozen=True, slots=True)
class Label:
    """An annotator's answer.

    Raises:
        ValueError: a field is no such thing; the message names it.
    """

    query: int
    """Number of the query."""
    annotator: str
    """Who answered."""
    answer: Answer
    """What was answered, in terms of A and B, not of left and right."""
    left: Side = "A"
    """Which clip was shown on the left."""
    latency: float | None = None
    """Seconds from showing to answering, where known."""

    def __post_init__(self) -> None:
        # Fields come from files and from a page, so their types are not certain.
        query: Any = self.query
        annotator: Any = self.annotator
        latency: Any = self.latency
        if isinstance(query, bool) or not isinstance(query, int) or query < 0:
            raise ValueError(f"a label's query must be the number of a query, not {query!r}")
        if not isinstance(annotator, str) or not annotator.strip():
            raise ValueError("a label needs the name of its annotator")
        if self.answer not in get_args(Answer):
            raise ValueError(
                f"a label's answer must be one of {', '.join(get_args(Answer))}: {self.answer!r}"
            )
        if self.left not in get_args(Side):
            raise ValueError(f"a label's left side must be A or B, not {self.left!r}")
        if latency is None:
            return
        number = isinstance(latency, int | float) and not isinstance(latency, bool)
        if not (number and math.isfinite(latency) and latency >= 0):
            raise ValueError(f"a label's latency must be seconds, at least 0, or None: {latency!r}")

    @property
    def outcome(self) -> float | None:
        """Return 1 where A is preferred, 0 where B is, 1/2 for equal; None for skip and undo."""
        return _OUTCOMES.get(self.answer)


class Change(NamedTuple):
    """News about a query: labels that came, or one that was taken back."""

    query: int
    """Number of the query."""
    outcome: float
    """Mean outcome of these labels, in [0, 1]."""
    labels: int
    """How many came; -1 where one was taken back."""


class Source(Protocol):
    """Where a learner's labels come from: simulated annotators, or a folder that people fill."""

    def ask(self, query: Query) -> list[Change]:
        """Take a query, and return what is answered at once."""
        ...

    def collect(self, episode: int) -> list[Change]:
        """Return what is new before an episode; episodes never go back."""
        ...

    def waiting(self, asked: int, annotators: int) -> int:
        """Return how many of the first queries lack answers of so many annotators, as collected."""
        ...

    @property
    def position(self) -> int:
        """Return how far the labels have been collected."""
        ...

    def rewind(self, position: int) -> None:
        """Go back to a position, where a stored learner was."""
        ...


def standing(labels: Iterable[Label]) -> dict[tuple[int, str], Label]:
    """Return the answers that stand, by query and annotator: the first, unless taken back.

    Args:
        labels: in the order of the file.

    Example:
        >>> said = [Label(0, "ann", "A"), Label(0, "ann", "undo"), Label(0, "ann", "B")]
        >>> [label.answer for label in standing(said).values()]
        ['B']
    """
    found: dict[tuple[int, str], Label] = {}
    for label in labels:
        key = label.query, label.annotator
        if label.answer == "undo":
            found.pop(key, None)
        else:
            found.setdefault(key, label)
    return found


def unanswered(queries: Iterable[Query], labels: Iterable[Label], annotator: str) -> list[Query]:
    """Return the queries that an annotator has not answered, in the order of asking."""
    answered = standing(labels)
    return [query for query in queries if (query.number, annotator) not in answered]


class Agreement(NamedTuple):
    """How often people answered a repeated pair as before."""

    rate: float | None
    """Share of equal answers; None without a repeated pair."""
    pairs: int
    """Pairs of answers that were compared."""


def test_retest(queries: Iterable[Query], labels: Iterable[Label]) -> Agreement:
    """Return how often annotators gave a repeated query the answer of its first showing.

    Skipped queries do not count. Below .6 the labels say little more than coins do.

    Args:
        queries: with ``repeat_of`` where a pair is shown again.
        labels: in the order of the file.
    """
    answered = standing(labels)
    same = pairs = 0
    for query in queries:
        if query.repeat_of is None:
            continue
        for (number, annotator), label in answered.items():
            before = answered.get((query.repeat_of, annotator))
            if number != query.number or before is None:
                continue
            if label.outcome is None or before.outcome is None:
                continue
            pairs += 1
            same += label.outcome == before.outcome
    return Agreement(same / pairs if pairs else None, pairs)


test_retest.__test__ = False  # type: ignore[attr-defined]  # pytest collects by name


def read_label(entry: dict[str, Any]) -> Label:
    """Return the label of a JSON object or a row of a table.

    Raises:
        ValueError: a field is missing, unknown or wrong.
    """
    names = {field.name for field in dataclasses.fields(Label)}
    if not {"query", "annotator", "answer"} <= set(entry) <= names:
        raise ValueError(f"a label has the fields {', '.join(sorted(names))}, not {sorted(entry)}")
    return Label(**entry)


_COLUMNS = ("query", "annotator", "answer", "left", "latency", "episode", "repeat_of") + tuple(
    f"{clip}_{part}" for clip in "AB" for part in ("states", "actions")
)


def export_csv(path: Path, queries: Sequence[Query], labels: Iterable[Label]) -> None:
    """Write labels with their clips as a table, one line each, in the order of the file.

    Args:
        path: the file to write.
        queries: all that the labels answer.
        labels: what to write.
    """
    asked = {query.number: query for query in queries}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for label in labels:
            query = asked[label.query]
            clips = (query.A.states, query.A.actions, query.B.states, query.B.actions)
            writer.writerow(
                [*dataclasses.astuple(label), query.episode, query.repeat_of]
                + [" ".join(map(str, numbers)) for numbers in clips]
            )


def import_csv(path: Path) -> tuple[list[Query], list[Label]]:
    """Read what :func:`export_csv` wrote, or a table with the same columns.

    Raises:
        ValueError: a column is missing, or a line does not fit; says which.
    """
    queries: dict[int, Query] = {}
    labels = []
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = set(_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path} lacks the columns {', '.join(sorted(missing))}")
        for line, row in enumerate(reader, 2):
            try:
                numbers = [tuple(map(int, row[name].split())) for name in _COLUMNS[-4:]]
                query = Query(
                    number=int(row["query"]),
                    episode=int(row["episode"]),
                    A=Clip(*numbers[:2]),
                    B=Clip(*numbers[2:]),
                    repeat_of=int(row["repeat_of"]) if row["repeat_of"] else None,
                )
                if queries.setdefault(query.number, query) != query:
                    raise ValueError(f"query {query.number} has other clips in an earlier line")
                entry = {name: row[name] for name in ("annotator", "answer", "left")}
                latency = float(row["latency"]) if row["latency"] else None
                labels.append(read_label({"query": query.number, "latency": latency, **entry}))
            except (ValueError, TypeError, AttributeError) as problem:
                raise ValueError(f"{path}, line {line}: {problem}") from None
    return sorted(queries.values(), key=lambda query: query.number), labels
