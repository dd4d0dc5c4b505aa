from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("core_tests.py")
SPEC = importlib.util.spec_from_file_location("core_tests", FILE)
assert SPEC is not None
assert SPEC.loader is not None
core_tests = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(core_tests)

RESULTS = """<testsuites><testsuite>
<testcase classname="tests.sparse.test_a" name="test_one[1]"/>
<testcase classname="tests.sparse.test_a" name="test_one[2]"/>
<testcase classname="tests.sparse.test_a" name="test_two"><failure message="no"/></testcase>
<testcase classname="tests.test_b" name="test_three"><skipped message="extra"/></testcase>
<testcase classname="tests.test_bb" name="test_four"/>
</testsuite></testsuites>"""


@pytest.mark.parametrize(
    ("wanted", "complaints"),
    [
        ("tests/sparse/test_a.py::test_one", []),
        ("tests/test_bb.py", []),
        ("tests/sparse/test_a.py", ["core test failed: tests.sparse.test_a::test_two"]),
        ("tests/test_b.py", ["core test skipped: tests.test_b::test_three"]),
        (
            "tests/sparse/test_a.py::test_on",
            ["core test did not run: tests/sparse/test_a.py::test_on"],
        ),
        ("tests/test_c.py", ["core test did not run: tests/test_c.py"]),
    ],
)
def test_only_tests_that_ran_and_passed_count(
    wanted: str, complaints: list[str], tmp_path: Path
) -> None:
    results = tmp_path / "results.xml"
    results.write_text(RESULTS)
    assert core_tests.missing([wanted], core_tests.outcomes(results)) == complaints


def test_every_core_test_exists() -> None:
    root = FILE.parents[1]
    lines = FILE.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    named = [line.partition("::")[0] for line in lines if line and not line.startswith("#")]
    assert named
    assert [name for name in named if not (root / name).is_file()] == []
