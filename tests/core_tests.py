"""Fail unless every core test ran and passed: ``python core_tests.py test-results.xml``.

``core_tests.txt`` names them, one a line: ``tests/folder/test_file.py`` (at least one test of it
ran and none was skipped) or ``tests/folder/test_file.py::test_name``. A missing extra may skip any
other test.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path


def outcomes(results: Path) -> dict[str, str]:
    """Read pytest's JUnit file: "tests.folder.test_file::test_name[id]" and its outcome."""
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        bad = [name for name in ("skipped", "failure", "error") if case.find(name) is not None]
        outcome = {"skipped": "skipped"}.get(bad[0], "failed") if bad else "passed"
        found[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return found


def missing(wanted: Iterable[str], found: Mapping[str, str]) -> list[str]:
    """Return a line of complaint for every wanted test that did not run and pass."""
    complaints = []
    for line in wanted:
        file, _, test = line.partition("::")
        start = file.removesuffix(".py").replace("/", ".") + "::" + test
        ran = {
            name: outcome
            for name, outcome in found.items()
            if (name.split("[")[0] == start if test else name.startswith(start))
        }
        if not ran:
            complaints.append(f"core test did not run: {line}")
        complaints += [
            f"core test {outcome}: {name}" for name, outcome in ran.items() if outcome != "passed"
        ]
    return complaints


def main(results: str) -> int:
    """Print what is wrong and return the exit status."""
    lines = Path(__file__).with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    wanted = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    complaints = missing(wanted, outcomes(Path(results)))
    print("\n".join(complaints) or f"all {len(wanted)} core tests ran")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
