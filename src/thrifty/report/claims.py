"""The table of claims: what a paper says, what we measured, and whether it holds.

`results/<paper>/claims.toml` holds rows of

    [[claims]]
    claim = "RLx2-TD3 exceeds a random policy"
    where = "section 5.1, table 2"        # in the paper
    metric = "return over the random policy's"
    expected = ">= 200"                   # a number, or a bound
    tolerance = 0                         # in units of the metric
    measured = 812.5                      # left out until it was run
    interval = [640.0, 930.0]             # 95 %, left out where there is none
    runs = ["rlx2.td3-HalfCheetah-v5-0"]  # directories, or where their records lie
    seeds = [0, 1, 2]
    hardware = "2 cores of an x86 server"
    hours = 0.2                           # of computing, all runs together
    status = "holds"                      # holds | failed | not run

The status is written down, and checked against the numbers: a row that failed stays, as failed.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thrifty.report import numbers
from thrifty.report.page import write_file

BEGIN = "<!-- claims:begin -->"
END = "<!-- claims:end -->"
STATUSES = ("holds", "failed", "not run")

_REQUIRED = ("claim", "where", "metric", "expected", "tolerance", "status")
_OPTIONAL = ("measured", "interval", "runs", "seeds", "hardware", "hours")
_BOUND = re.compile(r"\s*(>=|<=)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One row of a claims file."""

    paper: str
    """The folder of the claims file."""
    claim: str
    where: str
    """Section or table in the paper."""
    metric: str
    """What is measured, with its unit."""
    expected: float | str
    """A number, or a bound such as ">= 200"."""
    tolerance: float
    """How far the measured value may miss the expected one, in units of the metric."""
    measured: float | None = None
    interval: tuple[float, float] | None = None
    """95 % interval of the measured value."""
    runs: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    hardware: str = ""
    hours: float | None = None
    """Hours of computing, all runs together."""
    status: str
    """holds, failed or not run."""

    @property
    def verdict(self) -> str:
        """The status that follows from the numbers.

        |measured - expected| <= tolerance for a number; a bound may be missed by the tolerance.
        """
        if self.measured is None:
            return "not run"
        relation, value = _expectation(self.expected)
        slack = {
            "=": self.tolerance - abs(self.measured - value),
            ">=": self.measured - value + self.tolerance,
            "<=": value - self.measured + self.tolerance,
        }[relation]
        # 0.3 - 0.1 <= 0.2 must hold although it does not in binary fractions.
        return "holds" if slack >= -1e-12 * max(1.0, abs(value)) else "failed"


def read_claims(path: Path | str) -> tuple[Claim, ...]:
    """Read and validate one claims file.

    Args:
        path: a `claims.toml`; its folder names the paper.

    Raises:
        ValueError: not TOML, a missing, unknown or ill-typed field, or a status that contradicts
            the numbers; the message names the file and the row.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); check the path") from None
    except ValueError as error:  # also of bytes that are no UTF-8
        raise ValueError(f"{path} is not valid TOML: {error}") from None
    rows = content.get("claims")
    if set(content) != {"claims"} or not isinstance(rows, list):
        raise ValueError(f"{path} must hold [[claims]] rows and nothing else")
    return tuple(
        _claim(row, path.resolve().parent.name, f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    )


def read_results(folder: Path | str) -> tuple[Claim, ...]:
    """All claims of `<folder>/<paper>/claims.toml`, papers in alphabetical order.

    Args:
        folder: the project's `results` folder.

    Raises:
        ValueError: as `read_claims`.
    """
    paths = sorted(Path(folder).glob("*/claims.toml"))
    return tuple(claim for path in paths for claim in read_claims(path))


def render_table(claims: Sequence[Claim]) -> str:
    """The claims as a Markdown table, one row each; those that were not run folded away below it.

    Args:
        claims: rows in the order in which they shall stand.

    Returns:
        Markdown without a trailing newline.
    """
    if not claims:
        return "No claims yet."
    run = [claim for claim in claims if claim.status != "not run"]
    waiting = [claim for claim in claims if claim.status == "not run"]
    lines = ["Nothing has been run yet."]
    if run:
        head = "| paper | claim | where | metric | expected | measured | runs | hours | status |"
        lines = [head, "|---|---|---|---|---|---|---|---|---|"]
    for claim in run:
        measured = (
            _measured_text(claim),
            _runs_text(claim),
            numbers.significant(claim.hours),
            "**failed**" if claim.status == "failed" else claim.status,
        )
        lines.append(_row(*_asked(claim), *measured))
    hardware = sorted({claim.hardware for claim in claims if claim.hardware})
    if hardware:
        lines += ["", "Hardware: " + "; ".join(_cell(text) for text in hardware) + "."]
    if waiting:
        plural = "s" if len(waiting) > 1 else ""
        lines += [
            *("", "<details>", f"<summary>Not run yet: {len(waiting)} claim{plural}</summary>", ""),
            *("| paper | claim | where | metric | expected |", "|---|---|---|---|---|"),
            *(_row(*_asked(claim)) for claim in waiting),
            *("", "</details>"),
        ]
    return "\n".join(lines)


def _asked(claim: Claim) -> tuple[str, ...]:
    return claim.paper, claim.claim, claim.where, claim.metric, _expected_text(claim)


def _row(*cells: str) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def replace_section(text: str, claims: Sequence[Claim]) -> str:
    """A README's text with a fresh claims table between its two markers.

    Args:
        text: holds `<!-- claims:begin -->` and, after it, `<!-- claims:end -->`, once each.
        claims: the rows.

    Raises:
        ValueError: the markers are missing, repeated or in the wrong order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text needs the line {BEGIN} once and, below it, {END} once")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{render_table(claims)}\n{END}{after}"


def stale(readme_text: str, claims: Sequence[Claim]) -> bool:
    """Whether the table in a README differs from what its claims render to.

    Args:
        readme_text: as `replace_section`.
        claims: the rows.

    Raises:
        ValueError: as `replace_section`.
    """
    return replace_section(readme_text, claims) != readme_text


def show(results: Path, *, write: Path | None = None, check: Path | None = None) -> int:
    """Print all claims and their count by status; write or check a file's table of them.

    Args:
        results: the project's `results` folder.
        write: a Markdown file with the two marks, whose table is replaced.
        check: one whose table is compared.

    Returns:
        0, or 1 where the checked table is stale. A failed claim is a result, not an error.

    Raises:
        ValueError: no claims there, a claims file that is wrong, or a file without the marks.
    """
    claims = read_results(results)
    if not claims:
        raise ValueError(f"{results} holds no <paper>/claims.toml: name the folder of the results")
    table = Table(box=None, header_style="dim")
    for heading in ("paper", "claim", "expected", "measured", "status"):
        table.add_column(heading, overflow="fold")
    for one in claims:
        style = {"failed": "red", "holds": "green"}.get(one.status, "dim")
        cells = (one.paper, one.claim, _expected_text(one), _measured_text(one), one.status)
        table.add_row(*map(Text, cells), style=style)
    Console().print(table)
    counts = [sum(one.status == status for one in claims) for status in STATUSES]
    told = ", ".join(f"{count} {status}" for count, status in zip(counts, STATUSES, strict=True))
    print(f"{len(claims)} claims: {told}")
    for path in (write, check):
        if path is None:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} cannot be read ({error}): save it as UTF-8") from None
        try:
            fresh = replace_section(text, claims)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if path is check and fresh != text:
            print(f"{path} is stale: thrifty claims {results} --write {path}")
            return 1
        if path is write:
            write_file(path, fresh, "--write")
            print(f"written: {path}")
    return 0


def _claim(row: object, paper: str, place: str) -> Claim:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: must be a [[claims]] table")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise ValueError(f"{place}: lacks {', '.join(missing)}; add it")
    unknown = sorted(set(row) - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        allowed = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise ValueError(f"{place}: unknown {', '.join(unknown)}; the fields are {allowed}")
    texts = {key: _text(row, key, place) for key in ("claim", "where", "metric", "status")}
    if texts["status"] not in STATUSES:
        raise ValueError(
            f"{place}: status is {texts['status']!r}; it must be one of {', '.join(STATUSES)}"
        )
    expected = row["expected"]
    if isinstance(expected, str):
        try:
            _expectation(expected)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    else:
        expected = _number(row, "expected", place)
    claim = Claim(
        paper=paper,
        claim=texts["claim"],
        where=texts["where"],
        metric=texts["metric"],
        expected=expected,
        tolerance=_number(row, "tolerance", place),
        measured=_number(row, "measured", place) if "measured" in row else None,
        interval=_interval(row, place),
        runs=_texts(row, place),
        seeds=_seeds(row, place),
        hardware=_text(row, "hardware", place) if "hardware" in row else "",
        hours=_number(row, "hours", place) if "hours" in row else None,
        status=texts["status"],
    )
    if claim.tolerance < 0:
        raise ValueError(f"{place}: tolerance is {claim.tolerance}; it must not be negative")
    if claim.verdict != claim.status:
        raise ValueError(
            f"{place}: status is {claim.status!r}, but expected {claim.expected} with tolerance "
            f"{claim.tolerance} and measured {claim.measured} mean {claim.verdict!r}; write that"
        )
    return claim


def _expectation(expected: float | str) -> tuple[str, float]:
    """The relation (=, >=, <=) and the number of an expectation."""
    if not isinstance(expected, str):
        return "=", expected
    match = _BOUND.fullmatch(expected)
    try:
        if match is not None and math.isfinite(float(match[2])):
            return match[1], float(match[2])
    except ValueError:
        pass
    raise ValueError(f'expected is {expected!r}; write a number, ">= number" or "<= number"')


def _number(row: Mapping[str, Any], key: str, place: str) -> float:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{place}: {key} is {value!r}; it must be a finite number")
    return float(value)


def _text(row: Mapping[str, Any], key: str, place: str) -> str:
    value = row[key]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{place}: {key} is {value!r}; it must be a text")
    return value


def _texts(row: Mapping[str, Any], place: str) -> tuple[str, ...]:
    value = row.get("runs", [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{place}: runs is {value!r}; it must be a list of texts")
    return tuple(value)


def _seeds(row: Mapping[str, Any], place: str) -> tuple[int, ...]:
    value = row.get("seeds", [])
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ValueError(f"{place}: seeds is {value!r}; it must be a list of integers")
    return tuple(value)


def _interval(row: Mapping[str, Any], place: str) -> tuple[float, float] | None:
    if "interval" not in row:
        return None
    value = row["interval"]
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{place}: interval is {value!r}; it must be [low, high]")
    low, high = (_number({"interval": bound}, "interval", place) for bound in value)
    if low > high:
        raise ValueError(f"{place}: interval is {value!r}; its lower bound comes first")
    return low, high


def _expected_text(claim: Claim) -> str:
    relation, value = _expectation(claim.expected)
    text = numbers.significant(value, 4)
    if relation != "=":
        text = {">=": "≥ ", "<=": "≤ "}[relation] + text
    return text + (f" ± {numbers.significant(claim.tolerance)}" if claim.tolerance else "")


def _measured_text(claim: Claim) -> str:
    text = numbers.significant(claim.measured, 4)
    if claim.interval is None:
        return text
    low, high = (numbers.significant(bound, 4) for bound in claim.interval)
    return f"{text} [{low}, {high}]"


def _runs_text(claim: Claim) -> str:
    if not claim.runs:  # a table's rows stand for them
        plural = "" if len(claim.seeds) == 1 else "s"
        return f"{len(claim.seeds)} seed{plural}" if claim.seeds else numbers.MISSING
    seeds = ", ".join(str(seed) for seed in claim.seeds)
    return f"{len(claim.runs)}" + (f" (seeds {seeds})" if seeds else "")


def _cell(text: str) -> str:
    """Text that cannot end its cell or its row."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")
