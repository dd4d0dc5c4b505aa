"""What a benchmark writes: rows beside the circumstances, one schema for all benchmarks.

``{"command": str, "versions": {package: version}, "hardware": {..}, "load": {..}, "rows": [..]}``,
where a row is a :class:`Row`. A file that does not fit is refused on writing and on reading.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import importlib.metadata
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table

from thrifty.runs import durable
from thrifty.runs.environment import describe_environment

NOT_MEASURED = "not measured"
_KEYS = ("command", "versions", "hardware", "load", "rows")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One measured number.

    Raises:
        ValueError: a field is out of range, with its name.
    """

    case: str
    """What is done, for instance "HalfCheetah-v5, step with update"."""
    implementation: str
    """Who does it, for instance "thrifty TD3"."""
    sparsity: float | None = None
    """Fraction of zero weights, in [0, 1); None where there are no weights."""
    threads: int = 1
    """Compute threads."""
    updates_per_call: int | None = None
    """Gradient updates per timed call; None where the notion has no meaning."""
    metric: str
    """What was measured, for instance "time per environment step"."""
    statistic: str
    """"low" (10 % quantile), "median", ..., or "not measured"."""
    value: float | None
    """The number; None exactly when not measured."""
    unit: str
    """Its unit."""
    ratio_to: str | None = None
    """The implementation it is compared with: same case, metric and statistic."""
    ratio: float | None = None
    """``value`` over that implementation's value."""

    def __post_init__(self) -> None:
        for name in ("case", "implementation", "metric", "statistic", "unit"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ValueError(f"a row's {name} must be a text, got {getattr(self, name)!r}")
        for name in ("sparsity", "value", "ratio"):
            number = getattr(self, name)
            if number is not None and not (_is_real(number) and math.isfinite(number)):
                raise ValueError(f"a row's {name} must be finite or None, got {number!r}")
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise ValueError(f"a row's sparsity must be in [0, 1), got {self.sparsity}")
        if not _is_count(self.threads) or self.threads < 1:
            raise ValueError(f"a row's threads must be a positive integer, got {self.threads!r}")
        if self.updates_per_call is not None and not _is_count(self.updates_per_call):
            raise ValueError(
                f"a row's updates_per_call must be an integer >= 0, got {self.updates_per_call!r}"
            )
        if (self.value is None) != (self.statistic == NOT_MEASURED):
            raise ValueError(
                f"a row's value is None exactly when its statistic is {NOT_MEASURED!r}, "
                f"got {self.value!r} and {self.statistic!r}"
            )
        if (self.ratio is None) != (self.ratio_to is None):
            raise ValueError("a row has both ratio and ratio_to, or neither")


def _is_real(number: object) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool)


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def compare(rows: Sequence[Row], *, implementation: str, ratio_to: str) -> list[Row]:
    """Return the rows, those of ``implementation`` with their ratio to ``ratio_to``.

    Rows are matched by case, metric and statistic; a row without a partner stays as it is.
    """
    base = {_key(row): row.value for row in rows if row.implementation == ratio_to}
    compared = []
    for row in rows:
        other = base.get(_key(row))
        if row.implementation == implementation and row.value is not None and other:
            row = dataclasses.replace(row, ratio_to=ratio_to, ratio=row.value / other)
        compared.append(row)
    return compared


def _key(row: Row) -> tuple[str, str, str]:
    return row.case, row.metric, row.statistic


def circumstances(command: str) -> dict[str, Any]:
    """Return what belongs beside the rows: command, versions, hardware and load of the machine."""
    machine = describe_environment()
    for package in ("stable_baselines3", "sbx-rl", "jax"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            machine["versions"][package] = importlib.metadata.version(package)
    one, five, _ = os.getloadavg() if hasattr(os, "getloadavg") else (None,) * 3  # not on Windows
    return {
        "command": command,
        "versions": machine["versions"],
        "hardware": {**machine["hardware"], "platform": machine["platform"]},
        "load": {"one_minute": one, "five_minutes": five},
    }


def validate(document: Mapping[str, Any]) -> list[Row]:
    """Check a whole document and return its rows.

    Raises:
        ValueError: a key is missing, unknown or of the wrong kind, a row does not fit, or a ratio
            is not the quotient of the two values it names.
    """
    if sorted(document) != sorted(_KEYS):
        raise ValueError(
            f"a benchmark file has the keys {', '.join(_KEYS)}; got {', '.join(sorted(document))}"
        )
    if not isinstance(document["command"], str):
        raise ValueError("a benchmark file's command must be a text")
    for name in ("versions", "hardware", "load"):
        if not isinstance(document[name], Mapping):
            raise ValueError(f"a benchmark file's {name} must be an object")
    if not isinstance(document["rows"], list) or not document["rows"]:
        raise ValueError("a benchmark file's rows must be a list with at least one row")
    fields = {field.name for field in dataclasses.fields(Row)}
    rows = []
    for number, entry in enumerate(document["rows"]):
        if not isinstance(entry, Mapping) or set(entry) != fields:
            raise ValueError(f"row {number} must have the fields {', '.join(sorted(fields))}")
        rows.append(Row(**entry))
    values = {(row.implementation, *_key(row)): row.value for row in rows}
    for number, row in enumerate(rows):
        if row.ratio_to is None:
            continue
        assert row.ratio is not None
        other = values.get((row.ratio_to, *_key(row)))
        if other is None or row.value is None:
            raise ValueError(f"row {number} is compared with {row.ratio_to!r}, which has no row")
        if not math.isclose(row.ratio * other, row.value, rel_tol=1e-6):
            raise ValueError(f"row {number}: {row.value} over {other} is not {row.ratio}")
    return rows


def check_writable(path: Path) -> None:
    """Make the folder of a file to come, and make sure that it can be written.

    Raises:
        ValueError: it cannot; the message names it.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as problem:
        raise ValueError(
            f"{path} cannot be written ({problem.strerror}): choose another file"
        ) from None


def write(path: Path, rows: Sequence[Row], *, command: str) -> None:
    """Write rows and circumstances as JSON: the whole file or none.

    Args:
        path: where; its folder is made if missing.
        rows: at least one.
        command: the command line that repeats the measurement.

    Raises:
        ValueError: the rows do not fit the schema.
    """
    document = {**circumstances(command), "rows": [dataclasses.asdict(row) for row in rows]}
    validate(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write_json(path, document)


def read(path: Path) -> list[Row]:
    """Read the rows of a benchmark file.

    Raises:
        ValueError: not a benchmark file; the message names it.
    """
    try:
        return validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as problem:
        raise ValueError(f"{path} is not a benchmark file: {problem}") from problem


def tables(rows: Sequence[Row]) -> Group:
    """Return the rows for the terminal: a table for each metric of each case."""
    found: dict[tuple[str, str], Table] = {}
    for row in rows:
        shown = found.get((row.case, row.metric))
        if shown is None:
            title = f"{row.case}: {row.metric}"
            shown = found[row.case, row.metric] = Table(title=title, title_justify="left")
            for heading in ("implementation", "sparsity", "threads", "statistic"):
                shown.add_column(heading)
            for heading in ("value", "ratio"):
                shown.add_column(heading, justify="right")
        shown.add_row(
            row.implementation,
            "" if row.sparsity is None else f"{row.sparsity:.0%}",
            str(row.threads),
            row.statistic,
            "" if row.value is None else f"{row.value:,.1f} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f} x {row.ratio_to}",
        )
    return Group(*found.values())


def commit_of(checkout: Path) -> str:
    """Return what the files of a checkout are, in words.

    Args:
        checkout: a folder that Git keeps.
    """
    command = ["git", "-C", str(checkout), "rev-parse", "--short=12", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else "commit unknown"
