"""What a run directory holds, read for a report: configuration, environment, records.

A run that is still going, was killed, or lacks some kinds of records is read as far as it goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thrifty.runs.store import read_config, read_records

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RunData:
    """One run as read from its directory."""

    directory: Path
    config: Mapping[str, Any]
    """config.json: recipe, arguments, seed, threads, overrides, config."""
    environment: Mapping[str, Any]
    """environment.json: versions, hardware, sessions; empty if there is none that can be read."""
    records: tuple[Mapping[str, Any], ...]
    """records.jsonl in order."""
    benchmark: tuple[Mapping[str, Any], ...] = ()
    """Rows of bench.json, measured on the machine of the run; empty where there is none."""

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.resolve().name

    @property
    def recipe(self) -> str:
        """The recipe's name."""
        return str(self.config.get("recipe", "unknown recipe"))

    @property
    def seed(self) -> int | None:
        """The seed; None if the configuration names none."""
        seed = self.config.get("seed")
        return int(seed) if isinstance(seed, int) else None

    @property
    def task(self) -> str:
        """The environment id that was trained on."""
        arguments = _mapping(self.config.get("arguments"))
        config = _mapping(self.config.get("config"))
        for source, key in (
            (self.first("start"), "environment"),
            (arguments, "environment"),
            (arguments, "env"),
            (config, "environment"),
        ):
            if isinstance(source.get(key), str):
                return str(source[key])
        return "unknown environment"

    @property
    def scaling(self) -> str:
        """What the time constants are scaled to; empty where the start record does not say."""
        return str(self.first("start").get("scaling") or "")

    @property
    def processor(self) -> str:
        """The processor's model; empty where it is not known."""
        return str(_mapping(self.environment.get("hardware")).get("cpu") or "")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.of("end"))

    @property
    def steps(self) -> int:
        """The last environment step that a record names."""
        return max((int(record["step"]) for record in self.records), default=0)

    @property
    def planned_steps(self) -> int | None:
        """How long the run was meant to be, in environment steps."""
        for source in (self.first("start"), _mapping(self.config.get("config"))):
            if isinstance(source.get("steps"), int):
                return int(source["steps"])
        return None

    @property
    def wall_seconds(self) -> float | None:
        """Training time over all resumes, in seconds; None if no record has it."""
        values = [r["wall_seconds"] for r in self.records if _is_number(r.get("wall_seconds"))]
        return float(max(values)) if values else None

    @property
    def random_return(self) -> float | None:
        """Mean return of the random policy; None if it was not measured."""
        value = self.first("random_policy").get("return_mean")
        return float(value) if value is not None and _is_number(value) else None

    def measured(self, metric: str, implementation: str) -> float | None:
        """The median that a benchmark measured beside the run; None where there is none."""
        for row in self.benchmark:
            named = (row.get("metric"), row.get("implementation"), row.get("statistic"))
            if named == (metric, implementation, "median") and _is_number(row.get("value")):
                return float(row["value"])
        return None

    def of(self, kind: str) -> list[Mapping[str, Any]]:
        """All records of one kind, in order."""
        return [record for record in self.records if record.get("kind") == kind]

    def first(self, kind: str) -> Mapping[str, Any]:
        """The first record of one kind; empty if there is none."""
        return next((r for r in self.records if r.get("kind") == kind), {})

    def column(self, kind: str, field: str, over: str = "step") -> tuple[FloatArray, FloatArray]:
        """One numeric field over another, without the records that lack either.

        Args:
            kind: of the records.
            field: the name of the values.
            over: the name of the positions: "step" or "wall_seconds".

        Returns:
            positions [E], strictly increasing (of repeats the last counts), and values [E].
        """
        points = {
            float(record[over]): float(record[field])
            for record in self.of(kind)
            if _is_number(record.get(field)) and _is_number(record.get(over))
        }
        positions = sorted(points)
        return np.array(positions), np.array([points[position] for position in positions])


def load_run(directory: Path | str) -> RunData:
    """Read a run directory.

    Args:
        directory: the folder that `thrifty train --out` wrote.

    Raises:
        ValueError: the folder is no run, or one of its files cannot be read.
    """
    folder = Path(directory)
    if not (folder / "config.json").is_file():
        found = "holds no run (no config.json)" if folder.exists() else "does not exist"
        raise ValueError(f"{folder} {found}; give the folder that `thrifty train --out` wrote")
    config = read_config(folder)
    # A run that was killed at its very start has no records yet.
    records = read_records(folder) if (folder / "records.jsonl").is_file() else []
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("step"), int) or not isinstance(record.get("kind"), str):
            raise ValueError(
                f"{folder / 'records.jsonl'}: record {number} has no kind or no step; "
                "delete its line or leave the run out"
            )
    rows = _optional(folder / "bench.json").get("rows")
    return RunData(
        folder,
        config,
        _optional(folder / "environment.json"),
        tuple(records),
        tuple(_mapping(row) for row in rows) if isinstance(rows, list) else (),
    )


def _optional(path: Path) -> Mapping[str, Any]:
    """A JSON object that a report does without where the file is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return _mapping(content)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
    )
