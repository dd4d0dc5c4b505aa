"""The house rules (ARCHITECTURE.md), as far as a machine can check them."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import thrifty

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "thrifty"
FILES = sorted(SOURCE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
LONGEST_FILE = 450
LONGEST_EXAMPLE = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(thrifty.__path__, "thrifty.")
    return [
        importlib.import_module(module.name) for module in found if "__main__" not in module.name
    ]


def run_python(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True
    )


def test_every_file_has_a_noun() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "misc"}
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert not names & forbidden


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=name_of)
def test_no_file_is_long(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= LONGEST_FILE, "split it by noun"


def test_everything_public_has_a_docstring() -> None:
    bare = []
    for module in modules():
        if not module.__doc__:
            bare.append(module.__name__)
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module.__name__
            if name.startswith("_") or not own:
                continue
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            # A dataclass without a docstring gets its signature, a tuple its fields, as one.
            written = value.__doc__ and not value.__doc__.startswith(f"{name}(")
            if not written:
                bare.append(f"{module.__name__}.{name}")
    assert not bare


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_no_pickle() -> None:
    # Files that hold pickles can run code when they are loaded; torch.load and torch.save use it.
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    guilty = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Attribute) and node.attr in ("load", "save"):
                torch = isinstance(node.value, ast.Name) and node.value.id == "torch"
                names = ["pickle"] if torch else []
            if any(name.split(".")[0] in forbidden for name in names):
                guilty.append(f"{name_of(path)}:{node.lineno}")
    assert not guilty


def test_every_configuration_field_is_read_somewhere() -> None:
    """A field that nothing reads is a promise that nobody keeps; its own class does not count."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FILES]
    read = [one for tree in trees for one in reads(tree)]
    dead = [
        f"{kind.__name__}.{field.name}"
        for module in modules()
        for name, kind in vars(module).items()
        if name.endswith(("Config", "Options")) and dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        if field.name in inspect.get_annotations(kind)  # an inherited one is its parent's
        if not any(name == field.name and where != kind.__name__ for name, where in read)
    ]
    assert not dead


def reads(node: ast.AST, where: str = "") -> Iterator[tuple[str, str]]:
    """Every `something.name` that is read below a node, with the class around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Load):
            yield child.attr, where
        yield from reads(child, child.name if isinstance(child, ast.ClassDef) else where)


def test_a_read_knows_its_class() -> None:
    tree = ast.parse("class A:\n  def f(self):\n    self.x = self.y\nprint(b.z, 'c.w')  # d.v")
    assert list(reads(tree)) == [("y", "A"), ("z", "")]


def test_configurations_are_frozen_and_explain_their_fields() -> None:
    """One line of help under each field: the command line shows it."""
    faults = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ClassDef) or not node.name.endswith(("Config", "Options")):
                continue
            decorators = " ".join(ast.unparse(decorator) for decorator in node.decorator_list)
            if "dataclass" not in decorators:
                continue
            if not ("frozen=True" in decorators and "kw_only=True" in decorators):
                faults.append(f"{node.name} is not frozen and kw_only")
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and not (
                    isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                ):
                    faults.append(f"{node.name}.{ast.unparse(field.target)} has no line of help")
    assert not faults


def test_statistics_and_reports_work_without_torch() -> None:
    names = [
        module.name
        for package in ("stats", "report")
        for module in pkgutil.walk_packages([str(SOURCE / package)], f"thrifty.{package}.")
    ]
    assert names
    run_python(f"import sys; sys.modules['torch'] = None; import {', '.join(names)}")


def test_importing_the_package_is_quick_and_silent() -> None:
    # The best of three, since the machine may be busy; without the interpreter's own start.
    code = (
        "import sys, time; start = time.perf_counter(); import thrifty; "
        "elapsed = time.perf_counter() - start; "
        "assert 'torch' not in sys.modules and 'numba' not in sys.modules; "
        "sys.stderr.write(str(elapsed))"
    )
    done = [run_python(code) for _ in range(3)]
    assert [one.stdout for one in done] == ["", "", ""]
    assert min(float(one.stderr) for one in done) < 0.3  # stderr holds that number and nothing else


def test_the_version_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert thrifty.__version__ == project["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {project['version']}\n" in citation
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_constraints_cover_what_the_package_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned)  # no local builds
    names = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pinned}
    asked = project["dependencies"] + [
        one for extra in project["optional-dependencies"].values() for one in extra
    ]
    for requirement in asked:
        name = re.match(r"[\w.-]+", requirement)
        assert name is not None
        assert re.sub(r"[-_.]+", "-", name[0]).lower() in names | {"thrifty"}


def test_nothing_points_at_one_machine() -> None:
    """No home folder, no temporary folder of a session, no package registry's address."""
    # In pieces, so that this file does not contain what it looks for.
    places = ["/" + "home/", "/" + "Users/", "/" + "root/", "/" + "work/", "/tmp" + "/bash"]
    hosts = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "download.pytorch" + ".org",
        "index" + "-url",
    ]
    pattern = re.compile("|".join(map(re.escape, places + hosts)))
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout, so what belongs to the project is not known")
    found = []
    for name in listed.stdout.splitlines():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, or deleted and not yet committed
        found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert not found


def test_there_are_examples() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_an_example_is_short(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length < LONGEST_EXAMPLE


@pytest.mark.parametrize(
    "path",
    [
        # An example that takes longer than a few seconds has a line "# slow".
        pytest.param(path, marks=[pytest.mark.slow] if "\n# slow\n" in path.read_text() else [])
        for path in EXAMPLES
    ],
    ids=name_of,
)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    for extra in re.findall(r'pip install "thrifty\[(optuna)\]"', path.read_text()):
        pytest.importorskip(extra, reason=f'needs pip install "thrifty[{extra}]"')
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
